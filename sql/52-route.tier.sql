-- The router's steps of tier @TIER@.  Each call is one transaction of the router.

-- Reads the next events after a position, at most p_limit, in (xid, id) order.  Arrays, not
-- rows: most often it is one event, which pays for every node of a plan.  They are
-- gathered from an ordered subquery with nothing between, so in its order.
CREATE FUNCTION notif_private.read_events_@TIER@(s_from pg_snapshot, s_to pg_snapshot, at_xid xid8, at_id uuid, p_limit integer,
												 OUT ids uuid[], OUT xids xid8[], OUT kinds smallint[],
												 OUT topics integer[], OUT audiences integer[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_inc	constant smallint := notif_private.current_incarnation();
	v_max	constant xid8 := pg_snapshot_xmax(s_from);
	got		record;
	v_late	xid8;
	v_hole	xid8;
	v_xid	xid8;
	v_id	uuid;
BEGIN
	-- Transactions that were running at the window's start, by equality; all of
	-- them lie below the range that follows.
	IF pg_snapshot_xmin(s_from) < v_max AND (at_xid IS NULL OR at_xid < v_max) THEN
		FOR v_late IN SELECT x FROM pg_snapshot_xip(s_from) x
			WHERE pg_visible_in_snapshot(x, s_to) AND (at_xid IS NULL OR x >= at_xid) ORDER BY x LOOP
			SELECT array_agg(e.id) AS ids, array_agg(e.xid) AS xids, array_agg(e.kind) AS kinds, array_agg(e.topic_id) AS topics,
				   array_agg(e.audience) AS audiences
			  INTO got
			  FROM (SELECT x.id, x.xid, x.kind, x.topic_id, coalesce(cardinality(x.recipients), 0) AS audience
					  FROM notif_private.event x
					 WHERE x.tier = @TIERNO@ AND x.incarnation = v_inc AND x.xid = v_late
					   AND x.id > CASE WHEN v_late = at_xid THEN at_id ELSE '00000000-0000-0000-0000-000000000000' END
					 ORDER BY x.xid, x.id LIMIT p_limit - coalesce(cardinality(ids), 0)) e;
			ids := ids || got.ids; xids := xids || got.xids; kinds := kinds || got.kinds; topics := topics || got.topics;
			audiences := audiences || got.audiences;
			IF cardinality(ids) >= p_limit THEN
				RETURN;
			END IF;
		END LOOP;
	END IF;
	-- The rest by range, around the oldest transaction that is still running at the
	-- window's end: it may have written a million rows that nobody can see yet.
	-- It is probed by equality once it has ended.
	IF pg_snapshot_xmin(s_to) < pg_snapshot_xmax(s_to) THEN
		v_hole := (SELECT x FROM pg_snapshot_xip(s_to) x WHERE x >= v_max ORDER BY x LIMIT 1);
	END IF;
	v_xid := CASE WHEN at_xid >= v_max THEN at_xid ELSE v_max END;
	v_id := CASE WHEN at_xid >= v_max THEN at_id ELSE '00000000-0000-0000-0000-000000000000' END;
	LOOP
		SELECT array_agg(e.id) AS ids, array_agg(e.xid) AS xids, array_agg(e.kind) AS kinds, array_agg(e.topic_id) AS topics,
			   array_agg(e.audience) AS audiences
		  INTO got
		  FROM (SELECT x.id, x.xid, x.kind, x.topic_id, coalesce(cardinality(x.recipients), 0) AS audience
				  FROM notif_private.event x
				 WHERE x.tier = @TIERNO@ AND x.incarnation = v_inc
				   AND x.xid >= v_max AND x.xid < coalesce(v_hole, pg_snapshot_xmax(s_to))
				   AND (x.xid, x.id) > (v_xid, v_id)
				   AND pg_visible_in_snapshot(x.xid, s_to)
				 ORDER BY x.xid, x.id LIMIT p_limit - coalesce(cardinality(ids), 0)) e;
		ids := ids || got.ids; xids := xids || got.xids; kinds := kinds || got.kinds; topics := topics || got.topics;
		audiences := audiences || got.audiences;
		EXIT WHEN v_hole IS NULL OR cardinality(ids) >= p_limit;
		IF v_xid <= v_hole THEN
			v_xid := v_hole;
			v_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
		END IF;
		v_hole := NULL;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.read_events_@TIER@(pg_snapshot, pg_snapshot, xid8, uuid, integer) IS
	'Events that became visible between two snapshots, after a position, in (xid, id) order: an array of each column, NULL if there are none.';

-- Expands the small ones of a list of events, turns the others into expansions.
CREATE FUNCTION notif_private.spread_@TIER@(p_turn bigint, p_ids uuid[], p_kinds smallint[],
											p_topics integer[], p_audiences integer[], p_direct integer[] DEFAULT NULL,
											OUT attempts bigint, OUT expansions uuid[],
											OUT direct notif_private.attempt[], OUT lanes integer[], OUT due timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	small	uuid[] := '{}';
	done	record;
	redo	uuid;
	base	bigint := notif_private.ord_base_@TIER@();
	nth		integer := 0;
BEGIN
	expansions := '{}';
	IF cardinality(p_ids) = 1 AND p_kinds[1] = 0 AND p_topics[1] IS NULL AND p_audiences[1] <= 500 THEN
		-- the ordinary single publish: nothing to sort out
		small := p_ids;
	ELSE
		SELECT coalesce(array_agg(u.id ORDER BY u.n) FILTER (WHERE u.kind = 0 AND u.topic IS NULL AND u.audience <= 500), '{}'),
			   coalesce(array_agg(u.id ORDER BY u.n) FILTER (WHERE u.kind = 0 AND (u.topic IS NOT NULL OR u.audience > 500)), '{}')
		  INTO small, expansions
		  FROM unnest(p_ids, p_kinds, p_topics, p_audiences) WITH ORDINALITY u(id, kind, topic, audience, n);
	END IF;
	attempts := 0;
	IF cardinality(small) > 0 THEN
		done := notif_private.fanout_@TIER@(p_turn, base, small, NULL, p_direct);
		attempts := done.attempts; direct := done.direct; lanes := done.lanes;
	END IF;
	IF cardinality(expansions) > 0 THEN
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, key, seq, place)
		SELECT p_turn % 4, 1, x, 1, 0 FROM unnest(expansions) x;
	END IF;
	IF 2 = ANY (p_kinds) THEN
		due := notif_private.file_@TIER@(p_turn, ARRAY(SELECT u.id FROM unnest(p_ids, p_kinds) WITH ORDINALITY u(id, kind, n)
														WHERE u.kind = 2 ORDER BY u.n));
	END IF;
	IF 1 = ANY (p_kinds) THEN
		FOR redo IN SELECT u.id FROM unnest(p_ids, p_kinds) u(id, kind) WHERE u.kind = 1 LOOP
			nth := nth + 1;
			attempts := attempts + notif_private.redo_@TIER@(p_turn, base + 8388608 + nth, redo);
		END LOOP;
	END IF;
	IF 3 = ANY (p_kinds) OR 4 = ANY (p_kinds) THEN
		PERFORM notif_private.command_digests_@TIER@(base + 12582912, p_ids, p_kinds);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.spread_@TIER@(bigint, uuid[], smallint[], integer[], integer[], integer[]) IS
	'Expands events of at most 500 recipients at once; larger ones and topics become expansions, served round robin; those for later are filed, the earliest until due.';

-- One event for some of its recipients, each by himself.
CREATE FUNCTION notif_private.fanout_carefully_@TIER@(p_turn bigint, p_event uuid, p_people bigint[],
													  OUT attempts bigint, OUT passed integer, OUT failed bigint[],
													  OUT code text, OUT words text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	attempts := 0; passed := 0; failed := '{}';
	FOR i IN 1 .. cardinality(p_people) LOOP
		BEGIN
			attempts := attempts + (SELECT f.attempts FROM notif_private.fanout_@TIER@(
										p_turn, notif_private.ord_base_@TIER@(), ARRAY[p_event], p_people[i:i]) f);
			passed := passed + 1;
		EXCEPTION WHEN OTHERS THEN
			IF notif_private.is_passing(SQLSTATE) THEN
				RAISE;
			END IF;
			failed := failed || p_people[i];
			code := SQLSTATE;
			words := SQLERRM;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.fanout_carefully_@TIER@(bigint, uuid, bigint[]) IS
	'fanout, each recipient in a subtransaction: who raises is returned in failed, with the last error, and nothing of him is written.';

-- The verdict on recipients of an event for whom the fanout always raises.
CREATE FUNCTION notif_private.quarantine_@TIER@(p_turn bigint, p_event uuid, p_people bigint[], p_code text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	v_ord	constant bigint := notif_private.ord_base_@TIER@();
BEGIN
	INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, reason, event, type_id, recipient,
									   tries, ord, expires_at, at)
	SELECT notif_private.item_id(e.id, r), 0, notif_private.retention_of(e.type_id), @TIERNO@, 'failed', true,
		   'quarantined:' || p_code, e.id, e.type_id, r, 0, v_ord, e.expires_at, notif.now()
	  FROM notif_private.event e CROSS JOIN unnest(p_people) r WHERE e.id = p_event;
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, 0, 'expanded', cardinality(p_people)), (p_turn % 4, 0, 'failed', cardinality(p_people));
	PERFORM notif_private.tell_quarantine('routing', cardinality(p_people), p_code);
END
$$;
COMMENT ON FUNCTION notif_private.quarantine_@TIER@(bigint, uuid, bigint[], text) IS
	'Writes the outcome of recipients whom an event cannot be expanded to: failed, quarantined:SQLSTATE.';

-- spread, each event and then each of its recipients by itself.
CREATE FUNCTION notif_private.spread_carefully_@TIER@(p_turn bigint, p_ids uuid[], p_kinds smallint[],
													  p_topics integer[], p_audiences integer[],
													  OUT attempts bigint, OUT expansions uuid[], OUT due timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	one		record;
	good	integer := 0;
	events	uuid[] := '{}';		-- of the recipients that follow, one each
	people	bigint[] := '{}';
	others	uuid[] := '{}';		-- commands and what is for later: each failed as a whole
	other	uuid;
	code	text := '';
	words	text := '';
BEGIN
	attempts := 0; expansions := '{}';
	FOR i IN 1 .. cardinality(p_ids) LOOP
		BEGIN
			one := notif_private.spread_@TIER@(p_turn, p_ids[i:i], p_kinds[i:i], p_topics[i:i], p_audiences[i:i]);
			attempts := attempts + one.attempts;
			expansions := expansions || one.expansions;
			due := least(due, one.due);
			good := good + 1;
			CONTINUE;
		EXCEPTION WHEN OTHERS THEN
			-- large ones have only been put aside: what failed there is not theirs
			IF notif_private.is_passing(SQLSTATE)
			   OR (p_kinds[i] = 0 AND (p_topics[i] IS NOT NULL OR p_audiences[i] > 500)) THEN
				RAISE;
			END IF;
			IF p_kinds[i] <> 0 THEN
				others := others || p_ids[i];
				code := SQLSTATE;
				words := SQLERRM;
				CONTINUE;
			END IF;
		END;
		one := notif_private.fanout_carefully_@TIER@(p_turn, p_ids[i], (SELECT e.recipients FROM notif_private.event e WHERE e.id = p_ids[i]));
		attempts := attempts + one.attempts;
		good := good + one.passed;
		code := coalesce(one.code, code);
		words := coalesce(one.words, words);
		events := events || array_fill(p_ids[i], ARRAY[cardinality(one.failed)]);
		people := people || one.failed;
	END LOOP;
	IF cardinality(people) + cardinality(others) = 0 THEN
		RETURN;
	END IF;
	IF NOT notif_private.is_at_fault(cardinality(people) + cardinality(others), good, code) THEN
		PERFORM notif_private.raise_again(code, words);
	END IF;
	FOREACH other IN ARRAY others LOOP
		PERFORM notif_private.event_outcome_@TIER@(p_turn, other, (SELECT e.type_id FROM notif_private.event e WHERE e.id = other),
												   'failed', 'quarantined:' || code);
	END LOOP;
	IF cardinality(others) > 0 THEN
		PERFORM notif_private.tell_quarantine('routing', cardinality(others), code);
	END IF;
	FOR one IN SELECT u.event, array_agg(u.person) AS people FROM unnest(events, people) u(event, person) GROUP BY u.event LOOP
		PERFORM notif_private.quarantine_@TIER@(p_turn, one.event, one.people, code);
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.spread_carefully_@TIER@(bigint, uuid[], smallint[], integer[], integer[]) IS
	'spread after ERRORs: finds by subtransactions whom it cannot expand and what it cannot carry out or file, gives each its verdict and goes on with all others. Raises where nothing passes, since then it is not the rows.';

-- A command to try a dead delivery again.
CREATE FUNCTION notif_private.redo_@TIER@(p_turn bigint, p_ord bigint, p_command uuid) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	cmd			record;
	last		record;
	-- never 1, so that the index of what was redelivered finds it in the outbox
	v_attempt	smallint;
	v_lane		integer;
BEGIN
	SELECT e.id, (e.data ->> 'delivery')::uuid AS delivery, e.expires_at INTO cmd
	  FROM notif_private.event e WHERE e.id = p_command;
	SELECT o.* INTO last FROM notif_private.outcome o
	 WHERE o.delivery = cmd.delivery ORDER BY o.attempt DESC LIMIT 1;
	-- Two commands for one delivery: the second finds nothing to do.
	IF last.delivery IS NULL OR NOT last.terminal OR last.state NOT IN ('failed', 'expired', 'held')
	   OR last.endpoint IS NULL OR last.attempt >= 32000 THEN
		RETURN 0;
	END IF;
	v_attempt := greatest(last.attempt + 1, 2);
	IF EXISTS (SELECT FROM notif_private.outbox_@TIER@ o
				WHERE o.delivery = cmd.delivery AND o.attempt = v_attempt AND o.attempt > 1) THEN
		RETURN 0;
	END IF;
	INSERT INTO notif_private.outbox_@TIER@ (ring, incarnation, lane, delivery, slot, attempt, tries, type_id, ord,
											 recipient, endpoint, event, expires_at, collapse, subject, campaign,
											 conditional)
	SELECT p_turn % 8, notif_private.current_incarnation(), app.route_id, last.delivery,
		   hashint8(last.recipient) & 63, v_attempt, 0, last.type_id, p_ord, last.recipient, last.endpoint,
		   last.event, cmd.expires_at, hashtextextended(e.collapse_key, 0), notif_private.subject_of(e.source, e.thread), e.campaign_id,
		   CASE WHEN e.send_if IS NOT NULL THEN true END
	  FROM notif_private.endpoint p JOIN notif_private.app ON app.id = p.app_id
	  LEFT JOIN notif_private.event e ON e.id = last.event
	 WHERE p.id = last.endpoint AND app.route_id IS NOT NULL
	RETURNING lane INTO v_lane;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, v_lane, 'expanded', 1), (p_turn % 4, v_lane, 'open', 1);
	RETURN 1;
END
$$;
COMMENT ON FUNCTION notif_private.redo_@TIER@(bigint, bigint, uuid) IS
	'Carries out a redeliver command: a new generation of a delivery that had ended in failed, expired or held. Returns the number of attempts filed.';

CREATE FUNCTION notif_private.worker_route_@TIER@(p_limit integer, p_direct integer[] DEFAULT NULL, p_careful boolean DEFAULT false,
												  OUT events integer, OUT attempts bigint, OUT more boolean,
												  OUT expansions uuid[], OUT paused boolean,
												  OUT direct notif_private.attempt[], OUT lanes integer[], OUT due timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	at			record;
	v_turn		constant bigint := notif_private.turn_@TIER@();
	v_to		pg_snapshot;
	got			record;		-- what was read: read_events_@TIER@()
	done		record;		-- what came of it: spread_@TIER@()
	v_seq		bigint;
	v_read		integer;
	v_people	bigint;		-- of all that was read
	last_xid	xid8;
	last_id		uuid;
	bulk_key	uuid;
BEGIN
	events := 0; attempts := 0; more := false; expansions := '{}';
	paused := notif_private.is_paused('tier', '@TIER@');
	IF paused THEN
		RETURN;
	END IF;
	SELECT c.ring, c.seq, c.s_from, c.s_to, c.xid, c.id INTO at
	  FROM notif_private.cursor_@TIER@ c WHERE c.role = 0 AND c.lane = 0
	   AND c.key = '00000000-0000-0000-0000-000000000000'
	 ORDER BY c.seq DESC LIMIT 1;
	IF NOT FOUND THEN
		SELECT (v_turn % 4)::smallint AS ring, 0::bigint AS seq, '1:1:'::pg_snapshot AS s_from, NULL::pg_snapshot AS s_to,
			   NULL::xid8 AS xid, NULL::uuid AS id INTO at;
	END IF;
	v_seq := at.seq + 1;
	-- The window's end is fixed before anything is read.
	v_to := coalesce(at.s_to, pg_current_snapshot());
	got := notif_private.read_events_@TIER@(at.s_from, v_to, at.xid, at.id, least(p_limit, 500));
	v_read := coalesce(cardinality(got.ids), 0);
	-- as many of them as have no more people than a step may expand, and at least one
	events := v_read;
	v_people := got.audiences[1];
	IF v_read > 1 THEN
		SELECT count(*) FILTER (WHERE u.n = 1 OR u.expanded <= p_limit), sum(u.audience) INTO events, v_people
		  FROM (SELECT a.audience, a.n, sum(least(a.audience, 500)) OVER (ORDER BY a.n) AS expanded
				  FROM unnest(got.audiences) WITH ORDINALITY a(audience, n)) u;
		got.ids := got.ids[1:events]; got.kinds := got.kinds[1:events]; got.topics := got.topics[1:events];
		got.audiences := got.audiences[1:events];
	END IF;
	IF events = 0 THEN
		-- The window is used up.  Nothing is written unless something was read in
		-- it, the ring has turned, the old start has become far to scan from, or
		-- transactions run that the next window had better know by name.
		IF at.s_to IS NOT NULL OR at.ring <> v_turn % 4
		   OR (pg_snapshot_xmin(v_to) < pg_snapshot_xmax(v_to)
			   AND pg_snapshot_xmax(v_to) > pg_snapshot_xmax(at.s_from))
		   OR pg_snapshot_xmax(v_to)::text::numeric - pg_snapshot_xmax(at.s_from)::text::numeric > 1000000 THEN
			INSERT INTO notif_private.cursor_@TIER@ (ring, role, seq, s_from) VALUES (v_turn % 4, 0, v_seq, v_to);
			more := at.s_to IS NOT NULL;
		END IF;
		RETURN;
	END IF;
	last_xid := got.xids[events];
	last_id := got.ids[events];
	IF p_careful THEN
		done := notif_private.spread_carefully_@TIER@(v_turn, got.ids, got.kinds, got.topics, got.audiences);
	ELSE
		done := notif_private.spread_@TIER@(v_turn, got.ids, got.kinds, got.topics, got.audiences,
				-- many at once are served better in batches, from the outbox
				CASE WHEN v_people <= 50 THEN p_direct END);
		direct := done.direct; lanes := done.lanes;
	END IF;
	attempts := done.attempts; expansions := done.expansions; due := done.due;
	-- One transaction fills a whole chunk: the rest of it is served round robin,
	-- so that whoever published after it does not wait for it.
	IF got.xids[1] = last_xid AND (v_read > events OR events >= least(p_limit, 500)) THEN
		bulk_key := notif_private.item_id(got.ids[1], 0);
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, key, seq, xid, id)
		VALUES (v_turn % 4, 1, bulk_key, 1, last_xid, last_id);
		expansions := expansions || bulk_key;
		last_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
	END IF;
	IF v_read = events AND v_read < least(p_limit, 500) THEN
		-- That was all of the window: the next one starts at its end.  What commits
		-- after it was opened here wakes the router; what committed after an older
		-- one was opened may have done so already.
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, seq, s_from) VALUES (v_turn % 4, 0, v_seq, v_to);
		more := at.s_to IS NOT NULL;
	ELSE
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, seq, s_from, s_to, xid, id)
		VALUES (v_turn % 4, 0, v_seq, at.s_from, v_to, last_xid, last_id);
		more := true;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.worker_route_@TIER@(integer, integer[], boolean) IS
	'One step of the router: consumes the next chunk of its window of events and moves the cursor, in the caller''s transaction. attempts: how many it filed. more: call again at once. expansions: keys that worker_expand must now serve. direct: attempts of the lanes p_direct, with their lanes, that are not filed: worker_fly must take them in the same transaction. due: when the earliest event for later that it filed is due, NULL: it filed none. p_careful: row by row, after ERRORs, and everything is filed.';

CREATE FUNCTION notif_private.worker_expansions_@TIER@() RETURNS SETOF uuid
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT x.key FROM (SELECT DISTINCT ON (c.key) c.key, c.done FROM notif_private.cursor_@TIER@ c
							WHERE c.role = 1 ORDER BY c.key, c.seq DESC) x
		 WHERE NOT x.done ORDER BY x.key;
END
$$;
COMMENT ON FUNCTION notif_private.worker_expansions_@TIER@() IS
	'The expansions that are not finished; the router reads them once, at its start.';

CREATE FUNCTION notif_private.worker_expand_@TIER@(p_key uuid, p_limit integer, p_careful boolean DEFAULT false,
												   OUT attempts bigint, OUT done boolean,
												   OUT expansions uuid[], OUT paused boolean, OUT due timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	at			record;
	ev			record;
	one			record;
	v_turn		constant bigint := notif_private.turn_@TIER@();
	v_inc		constant smallint := notif_private.current_incarnation();
	people		bigint[];
	ids			uuid[];
	kinds		smallint[];
	topics		integer[];
	audiences	integer[];
BEGIN
	attempts := 0; done := false; expansions := '{}';
	paused := notif_private.is_paused('tier', '@TIER@');
	IF paused THEN
		RETURN;
	END IF;
	SELECT c.ring, c.seq, c.xid, c.id, c.place, c.count, c.done INTO at
	  FROM notif_private.cursor_@TIER@ c WHERE c.role = 1 AND c.lane = 0 AND c.key = p_key ORDER BY c.seq DESC LIMIT 1;
	IF NOT FOUND OR at.done THEN
		done := true;
		RETURN;
	END IF;

	IF at.xid IS NOT NULL THEN
		-- The rest of a large transaction.
		SELECT array_agg(e.id ORDER BY e.n), array_agg(e.kind ORDER BY e.n), array_agg(e.topic_id ORDER BY e.n),
			   array_agg(e.audience ORDER BY e.n)
		  INTO ids, kinds, topics, audiences
		  FROM (SELECT r.*, sum(least(r.audience, 500)) OVER (ORDER BY r.n) AS upto
				  FROM (SELECT x.*, row_number() OVER () AS n
						  FROM (SELECT e.id, e.kind, e.topic_id, coalesce(cardinality(e.recipients), 0) AS audience
								  FROM notif_private.event e
								 WHERE e.tier = @TIERNO@ AND e.incarnation = v_inc
								   AND e.xid = at.xid AND e.id > at.id
								 ORDER BY e.xid, e.id LIMIT least(p_limit, 500)) x) r) e
		 WHERE e.upto <= p_limit OR e.n = 1;
		done := coalesce(cardinality(ids), 0) = 0;
		IF NOT done THEN
			IF p_careful THEN
				SELECT s.attempts, s.expansions, s.due INTO attempts, expansions, due
				  FROM notif_private.spread_carefully_@TIER@(v_turn, ids, kinds, topics, audiences) s;
			ELSE
				SELECT s.attempts, s.expansions, s.due INTO attempts, expansions, due
				  FROM notif_private.spread_@TIER@(v_turn, ids, kinds, topics, audiences) s;
			END IF;
		END IF;
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, key, seq, xid, id, count, done)
		VALUES (v_turn % 4, 1, p_key, at.seq + 1, at.xid, coalesce(ids[cardinality(ids)], at.id),
				at.count + coalesce(cardinality(ids), 0), done);
		RETURN;
	END IF;

	SELECT e.id, e.topic_id, e.type_id, e.expires_at, cardinality(e.recipients) AS listed, t.category,
		   CASE WHEN e.topic_id IS NULL THEN e.recipients[at.place + 1 : at.place + p_limit] END AS slice
	  INTO ev
	  FROM notif_private.event e JOIN notif_private.type t ON t.id = e.type_id WHERE e.id = p_key;
	IF ev.topic_id IS NULL THEN
		people := ev.slice;
		at.place := at.place + coalesce(cardinality(people), 0);
		done := at.place >= coalesce(ev.listed, 0);
	ELSE
		SELECT array_agg(s.recipient_id) INTO people
		  FROM (SELECT s.recipient_id FROM notif_private.subscription s
				 WHERE s.topic_id = ev.topic_id AND s.recipient_id > at.place
				 ORDER BY s.topic_id, s.recipient_id LIMIT p_limit) s;
		done := coalesce(cardinality(people), 0) < p_limit;
		at.place := coalesce(people[cardinality(people)], at.place);
	END IF;
	IF EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event IN (p_key, notif_private.schedule_key(p_key))) THEN
		-- Nothing more of a cancelled event is expanded.
		done := true;
		IF at.count = 0 THEN
			PERFORM notif_private.event_outcome_@TIER@(v_turn, ev.id, ev.type_id, 'cancelled', 'cancelled');
		END IF;
	ELSIF coalesce(cardinality(people), 0) > 0 AND p_careful THEN
		one := notif_private.fanout_carefully_@TIER@(v_turn, p_key, people);
		attempts := one.attempts;
		IF cardinality(one.failed) > 0 THEN
			IF NOT notif_private.is_at_fault(cardinality(one.failed), one.passed, one.code) THEN
				PERFORM notif_private.raise_again(one.code, one.words);
			END IF;
			PERFORM notif_private.quarantine_@TIER@(v_turn, p_key, one.failed, one.code);
		END IF;
	ELSIF coalesce(cardinality(people), 0) > 0 THEN
		attempts := (SELECT f.attempts FROM notif_private.fanout_@TIER@(v_turn, notif_private.ord_base_@TIER@(), ARRAY[p_key], people) f);
	ELSIF at.count = 0 THEN
		PERFORM notif_private.event_outcome_@TIER@(v_turn, ev.id, ev.type_id, 'suppressed', 'no_audience');
	END IF;
	INSERT INTO notif_private.cursor_@TIER@ (ring, role, key, seq, place, count, done)
	VALUES (v_turn % 4, 1, p_key, at.seq + 1, at.place, at.count + coalesce(cardinality(people), 0), done);
END
$$;
COMMENT ON FUNCTION notif_private.worker_expand_@TIER@(uuid, integer, boolean) IS
	'One chunk of an expansion: the next recipients of a large event, or the next events of a large transaction, position and rows in the caller''s transaction. due: as in worker_route. careful: row by row, after ERRORs.';

CREATE FUNCTION notif_private.event_outcome_@TIER@(p_turn bigint, p_event uuid, p_type integer,
												   p_state notif.outcome_state, p_reason text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, reason, event, type_id, tries, at)
	SELECT p_event, 0, t.retention, @TIERNO@, p_state, true, p_reason, p_event, p_type, 0, notif.now()
	  FROM notif_private.type t WHERE t.id = p_type;
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, 0, 'expanded', 1), (p_turn % 4, 0, p_state::text::notif_private.tally_state, 1);
END
$$;
COMMENT ON FUNCTION notif_private.event_outcome_@TIER@(bigint, uuid, integer, notif.outcome_state, text) IS
	'Writes the one outcome of an event that has no delivery.';
