-- Upkeep of tier @TIER@'s rings and schedule.  An exclusive lock is only ever taken
-- on a child, for at most 5 ms of waiting; while any transaction that wrote there
-- is open, a prepared one too, it cannot be had: that is the proof that nothing
-- can still appear in the child.
--
-- A lock stays until the step commits, and the tier's workers wait for it.  So what
-- may take long, or may forbid it all, is looked at before anything is locked, and
-- looked at once more behind the lock; and a step that gives up keeps none.

CREATE FUNCTION notif_private.slot_@TIER@(p_kind text, p_turn bigint) RETURNS regclass
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN format('notif_private.%s_@TIER@_%s', p_kind, p_turn % CASE p_kind WHEN 'outbox' THEN 8 ELSE 4 END);
END
$$;
COMMENT ON FUNCTION notif_private.slot_@TIER@(text, bigint) IS
	'The slot of a ring (outbox, cursor, flight, verdict, tally) that a turn uses.';

CREATE FUNCTION notif_private.unclaimed_@TIER@(p_child regclass) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	lane_at	record;
	held	boolean;
BEGIN
	FOR lane_at IN
		SELECT r.id AS lane, coalesce(c.s_from, '1:1:') AS s_from, c.s_to, c.xid, c.place FROM notif_private.route r
		LEFT JOIN LATERAL (SELECT q.s_from, q.s_to, q.xid, q.place FROM notif_private.cursor_@TIER@ q
							WHERE q.role = 2 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
							ORDER BY q.seq DESC LIMIT 1) c ON true
	LOOP
		-- What passed() does not say of, in terms that the index knows: a window may
		-- have millions of rows on either side of its position.
		EXECUTE format('SELECT EXISTS (SELECT FROM %1$s o WHERE o.lane = $1 AND o.incarnation = $2
							AND o.xid >= $3 AND (o.xid, o.ord) > ($4, $5))
						OR EXISTS (SELECT FROM %1$s o WHERE o.lane = $1 AND o.incarnation = $2
							AND o.xid = ANY ($6) AND (o.xid, o.ord) > ($4, $5))
						OR EXISTS (SELECT FROM %1$s o WHERE o.lane = $1 AND o.incarnation = $2
							AND o.xid = ANY ($7))', p_child)
			INTO held
			USING lane_at.lane, notif_private.current_incarnation(),
				  greatest(pg_snapshot_xmax(lane_at.s_from), CASE WHEN lane_at.s_to IS NOT NULL THEN lane_at.xid END),
				  CASE WHEN lane_at.s_to IS NULL THEN '0'::xid8 ELSE coalesce(lane_at.xid, '0') END,
				  CASE WHEN lane_at.s_to IS NULL THEN 0 ELSE coalesce(lane_at.place, 0) END,
				  ARRAY(SELECT x FROM pg_snapshot_xip(lane_at.s_from) x),
				  ARRAY(SELECT x FROM pg_snapshot_xip(lane_at.s_to) x);
		IF held THEN
			RETURN true;
		END IF;
	END LOOP;
	-- Rows of an older incarnation: confirm_instance() has filed again what was open.
	RETURN false;
END
$$;
COMMENT ON FUNCTION notif_private.unclaimed_@TIER@(regclass) IS
	'Whether a slot of the outbox holds an attempt that no lane''s cursor has passed.';

CREATE FUNCTION notif_private.unclosed_@TIER@(p_child regclass) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	held	boolean;
BEGIN
	-- most were closed in the slot that they were opened in: one pass, no look-ups
	EXECUTE format('SELECT EXISTS (
		SELECT FROM (SELECT f.worker, f.flight FROM %s f GROUP BY 1, 2 HAVING NOT bool_or(f.closed)) o
		 WHERE NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ c
							WHERE c.worker = o.worker AND c.flight = o.flight AND c.closed))', p_child) INTO held;
	RETURN held;
END
$$;
COMMENT ON FUNCTION notif_private.unclosed_@TIER@(regclass) IS
	'Whether a slot of the flights holds one that is in the air.';

CREATE FUNCTION notif_private.empty_slot_@TIER@(p_turn bigint) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' SET jit = off AS $$
DECLARE
	kind	text;
	child	regclass;
	taken	text[] := '{}';
BEGIN
	BEGIN
		IF notif_private.unclosed_@TIER@(notif_private.slot_@TIER@('flight', p_turn)) THEN
			RETURN false;
		END IF;
		-- All locks before anything is written, since any of them may not be had.
		FOREACH kind IN ARRAY ARRAY['outbox', 'cursor', 'verdict', 'flight', 'tally'] LOOP
			child := notif_private.slot_@TIER@(kind, p_turn);
			-- What a lane that is not read has in the outbox stays: a slot need not be
			-- empty to be used, and the other rings must not wait for a parked lane.
			CONTINUE WHEN pg_relation_size(child) = 0 OR (kind = 'outbox' AND notif_private.unclaimed_@TIER@(child));
			EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', child);
			taken := taken || kind;
		END LOOP;
		FOREACH kind IN ARRAY taken LOOP
			child := notif_private.slot_@TIER@(kind, p_turn);
			-- whoever wrote there since the first look has ended by now
			IF (CASE kind WHEN 'outbox' THEN notif_private.unclaimed_@TIER@(child)
						 WHEN 'flight' THEN notif_private.unclosed_@TIER@(child) END) THEN
				RAISE lock_not_available;
			END IF;
			CASE kind
			WHEN 'cursor' THEN
				-- A position that is not finished moves on if it has no newer copy: a
				-- lane that is not read writes none.  The seq stays, so that whatever its
				-- owner appends meanwhile is newer.  A finished one moves on as long as an
				-- older copy could be taken for the newest.  Of the thousands that a lane
				-- has left here the index gives its newest and leads on to the next lane.
				EXECUTE format('WITH RECURSIVE newest AS (
						(SELECT c.* FROM %1$s c ORDER BY c.role DESC, c.lane DESC, c.key DESC, c.seq DESC LIMIT 1)
						UNION ALL
						SELECT n.* FROM newest o CROSS JOIN LATERAL (SELECT c.* FROM %1$s c
							WHERE (c.role, c.lane, c.key) < (o.role, o.lane, o.key)
							ORDER BY c.role DESC, c.lane DESC, c.key DESC, c.seq DESC LIMIT 1) n)
					INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, key, seq, s_from, s_to, xid, id, place,
															 due, count, done)
					SELECT $1, o.role, o.lane, o.key, o.seq, o.s_from, o.s_to, o.xid, o.id, o.place, o.due, o.count, o.done
					  FROM newest o
					 WHERE NOT EXISTS (SELECT FROM notif_private.cursor_@TIER@ n
							WHERE n.role = o.role AND n.lane = o.lane AND n.key = o.key AND n.seq > o.seq)
					   AND (NOT o.done OR EXISTS (SELECT FROM notif_private.cursor_@TIER@ n
							WHERE n.role = o.role AND n.lane = o.lane AND n.key = o.key AND n.ring <> o.ring))', child)
					USING (p_turn + 3) % 4;		-- the slot in use, one turn before this one
			WHEN 'verdict' THEN
				PERFORM notif_private.keep_verdicts_@TIER@(child, ((p_turn + 3) % 4)::integer);
			WHEN 'tally' THEN
				EXECUTE format('INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
					SELECT $1, t.lane, t.state, sum(t.n) FROM %s t GROUP BY t.lane, t.state HAVING sum(t.n) <> 0', child)
					USING (p_turn + 3) % 4;
			ELSE
				NULL;
			END CASE;
			EXECUTE format('TRUNCATE %s', child);
		END LOOP;
	EXCEPTION WHEN lock_not_available THEN
		-- with all locks that it had
		RETURN false;
	END;
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.empty_slot_@TIER@(bigint) IS
	'Empties the slots that this turn would use. false: something there is in use or not finished; nothing is lost, emptied or locked by it, and it is tried later. Attempts that no lane has claimed stay, and their slot is used as it is.';

-- notif.state sums the tally: what lies in slots that are not in use any more is
-- drawn together at once, not only when they are wanted again.
CREATE FUNCTION notif_private.fold_tally_@TIER@(p_turn bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' SET jit = off AS $$
DECLARE
	child	regclass;
BEGIN
	FOR slot IN 0 .. 3 LOOP
		child := notif_private.slot_@TIER@('tally', slot);
		CONTINUE WHEN slot = p_turn % 4;
		BEGIN
			-- looking at its size takes a lock, too
			CONTINUE WHEN pg_relation_size(child) = 0;
			EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', child);
		EXCEPTION WHEN lock_not_available THEN
			CONTINUE;
		END;
		EXECUTE format('INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
			SELECT $1, t.lane, t.state, sum(t.n) FROM %s t GROUP BY t.lane, t.state HAVING sum(t.n) <> 0', child)
			USING p_turn % 4;
		EXECUTE format('TRUNCATE %s', child);
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.fold_tally_@TIER@(bigint) IS
	'Folds the slots of the tally that this turn does not use into the one it does. What is locked is left for later.';

-- Turns the rings once the slots in use have grown and the next ones are empty.
CREATE FUNCTION notif_private.turn_rings_@TIER@(p_bytes bigint) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_turn	constant bigint := notif_private.turn_@TIER@();
BEGIN
	IF greatest(pg_relation_size(notif_private.slot_@TIER@('outbox', v_turn)),
				pg_relation_size(notif_private.slot_@TIER@('cursor', v_turn)),
				pg_total_relation_size(notif_private.slot_@TIER@('flight', v_turn)),
				pg_relation_size(notif_private.slot_@TIER@('verdict', v_turn)),
				-- folded early: notif.state sums it
				pg_relation_size(notif_private.slot_@TIER@('tally', v_turn)) * 128) >= p_bytes
	   AND notif_private.empty_slot_@TIER@(v_turn + 1) THEN
		INSERT INTO notif_private.turn_@TIER@ (turn) VALUES (v_turn + 1);
		DELETE FROM notif_private.turn_@TIER@ t WHERE t.turn < v_turn - 8;
		-- The slot just left may still be written to; the next look folds it.
		RETURN true;
	END IF;
	-- last, for the sake of its locks
	PERFORM notif_private.fold_tally_@TIER@(v_turn);
	RETURN false;
END
$$;
COMMENT ON FUNCTION notif_private.turn_rings_@TIER@(bigint) IS
	'Moves the tier on to the next ring slots if the ones in use hold more than p_bytes and the next can be emptied.';

-- A schedule partition whose day is over and whose rows have all been taken.
CREATE FUNCTION notif_private.untaken_@TIER@(p_child regclass) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	lane_at	record;
	held	boolean;
BEGIN
	FOR lane_at IN SELECT r.id AS lane, hz.due, hz.place, hz.id AS at_id FROM notif_private.schedule_lane r
				   CROSS JOIN LATERAL notif_private.condition_at_@TIER@(3, - r.id) hz LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM %s s WHERE s.lane = $1 AND (s.due_at, s.ord, s.delivery) > ($2, $3, $4))', p_child)
			INTO held USING lane_at.lane, lane_at.due, lane_at.place, lane_at.at_id;
		IF held THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
COMMENT ON FUNCTION notif_private.untaken_@TIER@(regclass) IS
	'Whether a partition of the schedule holds an attempt that its lane''s horizon has not passed.';

CREATE FUNCTION notif_private.empty_schedule_@TIER@() RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' SET jit = off SET timezone = 'UTC' AS $$
DECLARE
	part	record;
	did		boolean := false;
BEGIN
	FOR part IN SELECT p.child_oid FROM notif_private.range_partition p
				 WHERE p.parent = 'schedule_@TIER@' AND NOT p.detaching AND p.upper_at < clock_timestamp()
				   AND pg_relation_size(p.child_oid) > 0 ORDER BY p.lower_at LOOP
		BEGIN
			CONTINUE WHEN notif_private.untaken_@TIER@(part.child_oid);
			EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part.child_oid::regclass);
			IF notif_private.untaken_@TIER@(part.child_oid) THEN
				RAISE lock_not_available;
			END IF;
			EXECUTE format('TRUNCATE %s', part.child_oid::regclass);
			did := true;
		EXCEPTION WHEN lock_not_available THEN
			CONTINUE;
		END;
	END LOOP;
	RETURN did;
END
$$;
COMMENT ON FUNCTION notif_private.empty_schedule_@TIER@() IS
	'Empties the schedule''s partitions of days that are over once every lane''s horizon has passed their rows.';

-- Whether anything of the tier still needs an event older than p_before, or will
-- write an outcome or inbox item of its time.  p_child is the events' partition,
-- NULL for others.  p_since: it was asked as of then, and nothing did: only what may
-- have come since is looked at, which is short.  That comes to the outbox first, from
-- where it cannot have got into the schedule unseen but within the moment between.
CREATE FUNCTION notif_private.needs_@TIER@(p_child regclass, p_before uuid, p_since pg_snapshot DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	router	record;
	held	boolean := false;
	v_inc	constant smallint := notif_private.current_incarnation();
	v_since	constant xid8 := coalesce(pg_snapshot_xmin(p_since), '0');
BEGIN
	IF p_child IS NOT NULL THEN
		SELECT c.s_from, c.s_to, c.xid, c.id INTO router FROM notif_private.cursor_@TIER@ c
		 WHERE c.role = 0 AND c.lane = 0 AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
		EXECUTE format('SELECT EXISTS (SELECT FROM %s e WHERE e.tier = @TIERNO@ AND
						(e.incarnation = $1 AND e.xid >= $2 AND NOT notif_private.passed(e.xid, e.id, $3, $4, $5, $6)))', p_child)
			INTO held USING v_inc, coalesce(pg_snapshot_xmin(router.s_from), '0'::xid8),
							router.s_from, router.s_to, router.xid, router.id;
	END IF;
	RETURN held
		-- what is gathered is told with its data
		OR EXISTS (SELECT FROM notif_private.digest d JOIN notif_private.digest_item i ON i.digest = d.id
					WHERE d.tier = @TIERNO@ AND i.event < p_before)
		OR EXISTS (SELECT FROM (SELECT DISTINCT ON (c.key) c.key, c.xid, c.done FROM notif_private.cursor_@TIER@ c
								 WHERE c.role = 1 ORDER BY c.key, c.seq DESC) x WHERE NOT x.done AND x.key < p_before)
		-- only of what is in the air the attempts are read
		OR EXISTS (SELECT FROM (SELECT f.attempts FROM notif_private.flight_@TIER@ f
								 WHERE NOT f.closed AND NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ c
									   WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed) OFFSET 0) f
					CROSS JOIN LATERAL unnest(f.attempts) a WHERE a.event < p_before)
		OR EXISTS (SELECT FROM notif_private.route r
					 LEFT JOIN LATERAL (SELECT q.s_from, q.s_to, q.xid, q.place FROM notif_private.cursor_@TIER@ q
										 WHERE q.role = 2 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
										 ORDER BY q.seq DESC LIMIT 1) c ON true
					 JOIN notif_private.outbox_@TIER@ o ON o.lane = r.id AND o.incarnation = v_inc AND o.xid >= v_since AND o.event < p_before
					WHERE NOT notif_private.passed(o.xid, o.ord, c.s_from, c.s_to, c.xid, c.place))
		OR (p_since IS NULL AND EXISTS (
				   SELECT FROM notif_private.schedule_lane r
					 LEFT JOIN LATERAL (SELECT q.due, q.place, q.id FROM notif_private.cursor_@TIER@ q
										 WHERE q.role = 3 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
										 ORDER BY q.seq DESC LIMIT 1) c ON true
					 JOIN notif_private.schedule_@TIER@ s ON s.lane = r.id AND s.event < p_before
					WHERE NOT notif_private.passed(s.due_at, s.ord, s.delivery, c.due, c.place, c.id)));
END
$$;
COMMENT ON FUNCTION notif_private.needs_@TIER@(regclass, uuid, pg_snapshot) IS
	'Whether the tier has an unrouted event in this partition of events (NULL: do not look), or open work on an event older than p_before; p_since: an earlier look found none as of then.';

-- Takes a dropped outcome partition out of the tally, so that a recount agrees.
CREATE FUNCTION notif_private.forget_outcomes_@TIER@(p_child regclass) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	EXECUTE format('INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT $1, x.lane, s.state, -x.n
		  FROM (SELECT coalesce(o.lane, 0) AS lane, o.state, count(*) AS n FROM %s o
				 WHERE o.tier = @TIERNO@ AND o.terminal GROUP BY 1, 2) x
		 CROSS JOIN LATERAL (VALUES (x.state::text::notif_private.tally_state),
									(''expanded''::notif_private.tally_state)) s(state)', p_child)
		USING notif_private.turn_@TIER@() % 4;
END
$$;
COMMENT ON FUNCTION notif_private.forget_outcomes_@TIER@(regclass) IS
	'Subtracts the terminal outcomes of a partition that is about to be emptied from the tally.';

-- Blocks that are over: their lane's horizon has passed them.
CREATE FUNCTION notif_private.unblock_@TIER@() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	lane_at	record;
	n		integer;
	total	integer := 0;
BEGIN
	FOR lane_at IN SELECT r.id AS lane, c.due FROM notif_private.route r
				   CROSS JOIN LATERAL (SELECT q.due FROM notif_private.cursor_@TIER@ q
						WHERE q.role = 3 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
						ORDER BY q.seq DESC LIMIT 1) c LOOP
		DELETE FROM notif_private.blocked_@TIER@ k
		 WHERE k.endpoint IN (SELECT b.endpoint FROM notif_private.blocked_@TIER@ b
							   WHERE b.lane = lane_at.lane AND b.until <= lane_at.due
							   ORDER BY b.lane, b.until LIMIT 5000 FOR UPDATE SKIP LOCKED)
		   AND k.lane = lane_at.lane AND k.until <= lane_at.due;
		GET DIAGNOSTICS n = ROW_COUNT;
		total := total + n;
	END LOOP;
	RETURN total;
END
$$;
COMMENT ON FUNCTION notif_private.unblock_@TIER@() IS
	'Removes what no longer blocks an endpoint of the tier; returns how many rows.';
