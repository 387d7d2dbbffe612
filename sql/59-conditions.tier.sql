-- Conditions (send_if) of tier @TIER@, of events and of types.  The gates never ask one:
-- an expression of somebody else's could hang.  An attempt whose condition was not asked
-- is filed by the claim into a lane of the schedule of its own (a parking, what =
-- 'condition'); the conditions worker reads that lane in its order, writes a verdict for
-- each row and moves its cursor (role 4), up to which the claim then reads.  A verdict is
-- for one attempt, so it is used up by whatever comes of it: a retry or a deferral is
-- another attempt and is asked anew.  What was passed without a verdict, since its
-- expression took too long say, has none when it is claimed, and is filed again.
--
-- The dispatcher is the lane's one writer and its rows get ever later times, in the order
-- of the commits (the last one is the cursor of role 5), so a position is all that a
-- reader needs.  The times say an order and nothing else: nobody waits for them.
--
-- Order: what has no condition does not wait for what has, except behind an earlier
-- attempt of its own endpoint, if both are ordered; then it goes through the lane, too.

CREATE FUNCTION notif_private.condition_park_@TIER@(p_lane integer) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
	RETURN (SELECT k.id FROM notif_private.parking k
			 WHERE k.tier = @TIERNO@ AND k.route_id = p_lane AND k.what = 'condition' AND k.name = '');
END
$$;
COMMENT ON FUNCTION notif_private.condition_park_@TIER@(integer) IS
	'The parking in which attempts of a lane wait for their conditions; NULL: none ever did.';

-- role 3: how far the claim has read; 4: how far they were asked; 5: the last one filed
CREATE FUNCTION notif_private.condition_at_@TIER@(p_role integer, p_park integer,
												  OUT seq bigint, OUT due timestamptz, OUT place bigint, OUT id uuid, OUT count bigint)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_sort = off SET jit = off AS $$
BEGIN
	SELECT c.seq, c.due, c.place, c.id, c.count INTO seq, due, place, id, count FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = p_role AND c.lane = - p_park AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
	seq := coalesce(seq, 0);
	due := coalesce(due, '-infinity');
	place := coalesce(place, 0);
	id := coalesce(id, '00000000-0000-0000-0000-000000000000');
	count := coalesce(count, 0);
END
$$;
COMMENT ON FUNCTION notif_private.condition_at_@TIER@(integer, integer) IS
	'A position in the lane of conditions, at its start if there is none yet.';

CREATE FUNCTION notif_private.move_condition_@TIER@(p_turn bigint, p_role integer, p_park integer, p_seq bigint,
													p_due timestamptz, p_place bigint, p_id uuid, p_count bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
	INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, seq, due, place, id, count)
	VALUES (p_turn % 4, p_role, - p_park, p_seq + 1, p_due, p_place, p_id, p_count);
END
$$;
COMMENT ON FUNCTION notif_private.move_condition_@TIER@(bigint, integer, integer, bigint, timestamptz, bigint, uuid, bigint) IS
	'Moves a position in the lane of conditions.';

-- What the conditions of a batch say.  Files, with p_turn, where those go that are to be
-- asked: which of them a gate stops before is not known here, and costs nothing.
CREATE FUNCTION notif_private.conditions_@TIER@(p_turn bigint, p_lane integer, p_batch notif_private.attempt[], p_now timestamptz,
												OUT says text[], OUT park integer, OUT due timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_types		integer[];
	filed		record;
	hz			record;
	v_pending	boolean := false;	-- something waits for its condition
BEGIN
	SELECT array_agg(t.id) INTO v_types FROM notif_private.type t WHERE t.send_if IS NOT NULL;
	park := notif_private.condition_park_@TIER@(p_lane);
	IF park IS NOT NULL THEN
		filed := notif_private.condition_at_@TIER@(5, park);
		hz := notif_private.condition_at_@TIER@(3, park);
		v_pending := (filed.due, filed.place) > (hz.due, hz.place);
	END IF;
	IF NOT v_pending AND NOT EXISTS (SELECT FROM unnest(p_batch) b WHERE b.conditional OR b.type_id = ANY (v_types)) THEN
		RETURN;
	END IF;
	IF park IS NULL THEN
		INSERT INTO notif_private.parking AS k (tier, route_id, what, name, subject_id) VALUES (@TIERNO@, p_lane, 'condition', '', 0)
		RETURNING k.id INTO park;
		filed := notif_private.condition_at_@TIER@(5, park);
		hz := notif_private.condition_at_@TIER@(3, park);
	END IF;
	SELECT array_agg(CASE WHEN x.early AND x.says IS NULL THEN 'check' ELSE x.says END ORDER BY x.nth) INTO says
	  FROM (
		SELECT y.nth, y.says,
			   -- one before it in this batch goes to be asked
			   y.ordered AND bool_or(y.ordered AND y.says = 'check') OVER (PARTITION BY y.endpoint ORDER BY y.ord, y.nth
					ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS early
		  FROM (
			SELECT b.nth, b.endpoint, b.ord, ty.ordered,
				   CASE WHEN NOT hs.has AND (k.waits IS NULL OR v.holds) THEN NULL
						WHEN v.reason IS NOT NULL THEN 'failed:' || v.reason
						WHEN v.holds THEN NULL
						WHEN NOT v.holds THEN 'cancelled:condition'
						WHEN b.attempt >= 32000 THEN 'failed:condition_unchecked'
						ELSE 'check' END AS says
			  FROM unnest(p_batch) WITH ORDINALITY b(delivery, attempt, tries, ord, event, type_id, recipient, endpoint,
													 expires_at, charged_at, collapse, subject, campaign, due, conditional, nth)
			 CROSS JOIN LATERAL (SELECT coalesce(b.conditional, false) OR coalesce(b.type_id = ANY (v_types), false) AS has) hs
			  LEFT JOIN LATERAL (SELECT t.ordered FROM notif_private.type t WHERE t.id = b.type_id OFFSET 0) ty ON true
			  LEFT JOIN LATERAL (
				SELECT true AS waits FROM notif_private.checking_@TIER@ c
				 WHERE v_pending AND ty.ordered AND c.endpoint = b.endpoint AND c.lane = p_lane
				   AND (c.until, 9223372036854775807) > (hz.due, hz.place) AND c.first < b.ord OFFSET 0) k ON true
			  LEFT JOIN LATERAL (
				SELECT w.holds, w.reason FROM notif_private.verdict_@TIER@ w
				 WHERE (hs.has OR k.waits) AND w.delivery = b.delivery AND w.attempt = b.attempt
				   AND w.at > p_now - interval '1 minute' LIMIT 1) v ON true) y) x;
	IF 'check' = ANY (says) THEN
		due := greatest(p_now, filed.due + interval '1 microsecond');
		PERFORM notif_private.move_condition_@TIER@(p_turn, 5, park, filed.seq, due, 9223372036854775807,
													'ffffffff-ffff-ffff-ffff-ffffffffffff', 0);
		INSERT INTO notif_private.checking_@TIER@ AS c (endpoint, lane, until, first)
		SELECT b.endpoint, p_lane, conditions_@TIER@.due, min(b.ord)
		  FROM unnest(p_batch, says) b(delivery, attempt, tries, ord, event, type_id, recipient, endpoint,
									   expires_at, charged_at, collapse, subject, campaign, due, conditional, says)
		 WHERE b.says = 'check' AND (SELECT t.ordered FROM notif_private.type t WHERE t.id = b.type_id)
		 GROUP BY b.endpoint ORDER BY b.endpoint
		ON CONFLICT ON CONSTRAINT checking_@TIER@_pkey DO UPDATE
		   SET lane = excluded.lane, until = excluded.until,
			   first = CASE WHEN c.lane = excluded.lane AND (c.until, 9223372036854775807) > (hz.due, hz.place)
							THEN least(c.first, excluded.first) ELSE excluded.first END;
		PERFORM notif_private.wake_conditions();
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.conditions_@TIER@(bigint, integer, notif_private.attempt[], timestamptz) IS
	'What the conditions of a batch say, for each attempt: NULL, it may pass; check, it goes to park at due to be asked, or behind one of its endpoint that does; cancelled:condition; failed: and why it could not be asked. All NULL where there are none.';

CREATE FUNCTION notif_private.read_checked_@TIER@(p_turn bigint, p_lane integer, p_limit integer) RETURNS notif_private.attempt[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_park	constant integer := notif_private.condition_park_@TIER@(p_lane);
	hz		record;
	asked	record;
	batch	notif_private.attempt[];
	v_due	timestamptz;
	v_ord	bigint;
	v_id	uuid;
BEGIN
	IF v_park IS NULL OR p_limit < 1 THEN
		RETURN '{}';
	END IF;
	hz := notif_private.condition_at_@TIER@(3, v_park);
	asked := notif_private.condition_at_@TIER@(4, v_park);
	IF (hz.due, hz.place, hz.id) >= (asked.due, asked.place, asked.id) THEN
		RETURN '{}';
	END IF;
	SELECT array_agg((s.delivery, s.attempt, s.tries, s.ord, s.event, s.type_id, s.recipient, s.endpoint, s.expires_at, s.charged_at,
					  s.collapse, s.subject, s.campaign, NULL, s.conditional)::notif_private.attempt ORDER BY s.n),
		   (array_agg(s.due_at ORDER BY s.n DESC))[1], (array_agg(s.ord ORDER BY s.n DESC))[1],
		   (array_agg(s.delivery ORDER BY s.n DESC))[1]
	  INTO batch, v_due, v_ord, v_id
	  FROM (SELECT s.*, row_number() OVER () AS n
			  FROM (SELECT s.* FROM notif_private.schedule_@TIER@ s
					 WHERE s.lane = - v_park AND (s.due_at, s.ord, s.delivery) > (hz.due, hz.place, hz.id)
					   AND (s.due_at, s.ord, s.delivery) <= (asked.due, asked.place, asked.id)
					 ORDER BY s.due_at, s.ord, s.delivery LIMIT p_limit) s) s;
	batch := coalesce(batch, '{}');
	IF cardinality(batch) < p_limit THEN
		v_due := asked.due; v_ord := asked.place; v_id := asked.id;
	END IF;
	PERFORM notif_private.move_condition_@TIER@(p_turn, 3, v_park, hz.seq, v_due, v_ord, v_id, hz.count + cardinality(batch));
	-- who asks may have waited for us
	PERFORM notif_private.wake_conditions()
	   FROM notif_private.condition_at_@TIER@(5, v_park) filed WHERE (filed.due, filed.place) > (asked.due, asked.place);
	RETURN batch;
END
$$;
COMMENT ON FUNCTION notif_private.read_checked_@TIER@(bigint, integer, integer) IS
	'Takes the next attempts of a lane whose conditions have been asked, at most p_limit, whatever came of it.';

-- ---- for the conditions worker --------------------------------------------------------------

CREATE FUNCTION notif_private.worker_conditions_@TIER@(p_limit integer, p_lead integer)
	RETURNS TABLE (park integer, due_at timestamptz, ord bigint, delivery uuid, attempt smallint, type_id integer,
				   type_if text, type_by text, event_if text, event_by text,
				   recipient text, attributes jsonb, data jsonb, event uuid, type text, source text, thread text,
				   correlation_id text, campaign text, paused boolean, lost boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
	v_park	integer;
	filed	record;
	asked	record;
	hz		record;
	room	integer;
	v_first	uuid;
	v_last	uuid;
	v_batch	notif_private.attempt[];
	n		bigint;
BEGIN
	FOR v_park IN SELECT k.id FROM notif_private.parking k WHERE k.tier = @TIERNO@ AND k.what = 'condition' ORDER BY k.id LOOP
		filed := notif_private.condition_at_@TIER@(5, v_park);
		asked := notif_private.condition_at_@TIER@(4, v_park);
		CONTINUE WHEN (asked.due, asked.place) >= (filed.due, filed.place);
		hz := notif_private.condition_at_@TIER@(3, v_park);
		room := least(p_limit, p_lead - (asked.count - hz.count));
		CONTINUE WHEN room <= 0;
		-- Rows and bounds of one snapshot: what commits meanwhile is for the next turn.
		-- due is the time under which each is filed.
		SELECT array_agg((s.delivery, s.attempt, s.tries, s.ord, s.event, s.type_id, s.recipient, s.endpoint, s.expires_at, s.charged_at,
						  s.collapse, s.subject, s.campaign, s.due_at, s.conditional)::notif_private.attempt ORDER BY s.n)
		  INTO v_batch
		  FROM (SELECT x.*, row_number() OVER () AS n
				  FROM (SELECT x.* FROM notif_private.schedule_@TIER@ x
						 WHERE x.lane = - v_park AND (x.due_at, x.ord, x.delivery) > (asked.due, asked.place, asked.id)
						 ORDER BY x.due_at, x.ord, x.delivery LIMIT room) x) s;
		-- of the events' partitions only those in between are opened
		SELECT (array_agg(b.event ORDER BY b.event))[1], (array_agg(b.event ORDER BY b.event DESC))[1]
		  INTO v_first, v_last FROM unnest(v_batch) b;
		RETURN QUERY
		SELECT v_park, s.due, s.ord, s.delivery, s.attempt, s.type_id,
			   ty.send_if, ty.send_if_by::text, ev.send_if, ev.published_by::text,
			   rc.ref, rc.attributes, ev.data, s.event, ty.name, ev.source, ev.thread, ev.correlation_id, cp.name,
			   EXISTS (SELECT FROM notif_private.pause p WHERE p.what = 'type' AND p.name = ty.name),
			   s.conditional AND ev.send_if IS NULL
		  FROM unnest(v_batch) s
		  LEFT JOIN LATERAL (SELECT t.name, t.send_if, t.send_if_by FROM notif_private.type t WHERE t.id = s.type_id OFFSET 0) ty ON true
		  LEFT JOIN LATERAL (SELECT e.data, e.source, e.thread, e.correlation_id, e.send_if, e.published_by
							   FROM notif_private.event e WHERE e.id = s.event AND e.id >= v_first AND e.id <= v_last OFFSET 0) ev ON true
		  LEFT JOIN LATERAL (SELECT r.ref, r.attributes FROM notif_private.recipient r WHERE r.id = s.recipient OFFSET 0) rc ON true
		  LEFT JOIN LATERAL (SELECT c.name FROM notif_private.campaign c WHERE c.id = s.campaign OFFSET 0) cp ON true;
		GET DIAGNOSTICS n = ROW_COUNT;
		-- what was to be filed there was stopped by a gate instead
		IF n = 0 THEN
			PERFORM notif_private.move_condition_@TIER@(notif_private.turn_@TIER@(), 4, v_park, asked.seq, filed.due, filed.place,
														filed.id, asked.count);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.worker_conditions_@TIER@(integer, integer) IS
	'The next attempts of each lane, at most p_limit, that wait for their conditions, in order, with what a condition sees; paused: its type is, and it need not be asked; lost: its event''s condition is not to be found. Nothing of a lane that has p_lead attempts asked which its claim has not read yet.';

CREATE FUNCTION notif_private.worker_conditions_told_@TIER@(p_parks integer[], p_dues timestamptz[], p_ords bigint[],
															p_deliveries uuid[], p_attempts smallint[], p_holds boolean[],
															p_reasons text[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET jit = off AS $$
DECLARE
	v_turn	constant bigint := notif_private.turn_@TIER@();
BEGIN
	INSERT INTO notif_private.verdict_@TIER@ (ring, delivery, attempt, holds, reason, lane, due_at, ord, at)
	SELECT v_turn % 4, u.delivery, u.attempt, u.holds, u.reason, - u.park, u.due_at, u.ord, notif.now()
	  FROM unnest(p_parks, p_dues, p_ords, p_deliveries, p_attempts, p_holds, p_reasons)
		   u(park, due_at, ord, delivery, attempt, holds, reason)
	 WHERE u.holds IS NOT NULL;
	PERFORM notif_private.move_condition_@TIER@(v_turn, 4, u.park, asked.seq, p_dues[u.last], p_ords[u.last], p_deliveries[u.last],
												asked.count + u.n)
	   FROM (SELECT x.park, max(x.nth) AS last, count(*) AS n FROM unnest(p_parks) WITH ORDINALITY x(park, nth) GROUP BY x.park) u
	  CROSS JOIN LATERAL notif_private.condition_at_@TIER@(4, u.park) asked;
END
$$;
COMMENT ON FUNCTION notif_private.worker_conditions_told_@TIER@(integer[], timestamptz[], bigint[], uuid[], smallint[], boolean[], text[]) IS
	'Writes what conditions said and lets the claim read as far. In each lane''s order; holds NULL: not known, its attempt is filed again; reason: why it could not be asked.';

-- ---- for upkeep -----------------------------------------------------------------------------

CREATE FUNCTION notif_private.keep_verdicts_@TIER@(p_child regclass, p_ring integer) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	EXECUTE format('INSERT INTO notif_private.verdict_@TIER@ (ring, delivery, attempt, holds, reason, lane, due_at, ord, at)
		SELECT $1, v.delivery, v.attempt, v.holds, v.reason, v.lane, v.due_at, v.ord, v.at
		  FROM (SELECT DISTINCT x.lane FROM %1$s x) l
		 CROSS JOIN LATERAL notif_private.condition_at_@TIER@(3, - l.lane) hz
		  JOIN %1$s v ON v.lane = l.lane
		 WHERE v.at > notif.now() - interval ''1 minute'' AND (v.due_at, v.ord, v.delivery) > (hz.due, hz.place, hz.id)
		ON CONFLICT DO NOTHING', p_child) USING p_ring;
END
$$;
COMMENT ON FUNCTION notif_private.keep_verdicts_@TIER@(regclass, integer) IS
	'Takes over into another slot what conditions said a moment ago and no claim has read yet; the rest is of no more use.';

CREATE FUNCTION notif_private.uncheck_@TIER@() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	lane_at	record;
	n		integer;
	total	integer := 0;
BEGIN
	FOR lane_at IN SELECT k.route_id AS lane, hz.due FROM notif_private.parking k
				   CROSS JOIN LATERAL notif_private.condition_at_@TIER@(3, k.id) hz
				   WHERE k.tier = @TIERNO@ AND k.what = 'condition' LOOP
		DELETE FROM notif_private.checking_@TIER@ c
		 WHERE c.endpoint IN (SELECT x.endpoint FROM notif_private.checking_@TIER@ x
							   WHERE x.lane = lane_at.lane AND x.until < lane_at.due
							   ORDER BY x.lane, x.until LIMIT 5000 FOR UPDATE SKIP LOCKED)
		   AND c.lane = lane_at.lane AND c.until < lane_at.due;
		GET DIAGNOSTICS n = ROW_COUNT;
		total := total + n;
	END LOOP;
	RETURN total;
END
$$;
COMMENT ON FUNCTION notif_private.uncheck_@TIER@() IS
	'Removes endpoints of the tier that wait for no condition any more; returns how many.';
