-- The claim of tier @TIER@: read a batch, pass it through the gates, commit it to a
-- flight.  No gate is a WHERE: every attempt read leaves with a verdict, and that
-- is asserted.

-- The lanes of the tier that may be read.
CREATE FUNCTION notif_private.worker_lanes_@TIER@()
	RETURNS TABLE (lane integer, provider integer)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT r.id, p.id
		  FROM notif_private.route r
		  LEFT JOIN LATERAL (
			SELECT p.id FROM unnest(r.providers) WITH ORDINALITY u(name, nth)
			  JOIN notif_private.provider p ON p.name = u.name
			 WHERE p.enabled AND NOT notif_private.is_paused('provider', p.name)
			 ORDER BY u.nth LIMIT 1) p ON true
		 WHERE NOT notif_private.is_paused('tier', '@TIER@')
		 ORDER BY r.id;
END
$$;
COMMENT ON FUNCTION notif_private.worker_lanes_@TIER@() IS
	'The routes of the tier and the provider that carries each now: the first one enabled and not paused, NULL if there is none. Empty while the tier is paused.';

-- Which of a batch are overtaken: a newer attempt of the same collapse key for the
-- same endpoint is waiting or was accepted.  One that a gate stopped counts for
-- nothing, or nobody would be told at all.
CREATE FUNCTION notif_private.superseded_@TIER@(p_batch notif_private.attempt[], p_now timestamptz) RETURNS uuid[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
BEGIN
	RETURN (SELECT array_agg(n.delivery ORDER BY b.ordinality)
			  FROM unnest(p_batch) WITH ORDINALITY b
			  LEFT JOIN LATERAL (
				SELECT newer.delivery
				  FROM (SELECT o.delivery, o.event, o.expires_at, o.ord, o.type_id, o.conditional FROM notif_private.outbox_@TIER@ o
						 WHERE o.endpoint = b.endpoint AND o.collapse = b.collapse AND o.ord > b.ord
						UNION ALL
						SELECT s.delivery, s.event, s.expires_at, s.ord, s.type_id, s.conditional FROM notif_private.schedule_@TIER@ s
						 WHERE s.endpoint = b.endpoint AND s.collapse = b.collapse AND s.ord > b.ord) newer
				 WHERE b.collapse IS NOT NULL AND newer.expires_at > p_now
				   -- what may yet be cancelled by its condition counts once it was accepted
				   AND (newer.conditional IS NULL AND NOT EXISTS (SELECT FROM notif_private.type t WHERE t.id = newer.type_id AND t.send_if IS NOT NULL)
						OR EXISTS (SELECT FROM notif_private.outcome x WHERE x.delivery = newer.delivery AND x.state = 'accepted'))
				   AND NOT EXISTS (SELECT FROM notif_private.cancellation c
									WHERE c.event IN (newer.event, notif_private.schedule_key(newer.event)))
				   AND NOT EXISTS (SELECT FROM notif_private.outcome x
									WHERE x.delivery = newer.delivery AND x.terminal AND x.state <> 'accepted')
				 ORDER BY newer.ord DESC LIMIT 1) n ON true);
END
$$;
COMMENT ON FUNCTION notif_private.superseded_@TIER@(notif_private.attempt[], timestamptz) IS
	'For each attempt of a batch the newest one of its collapse key that may replace it.';

-- Order: an earlier attempt for the same endpoint has been put off and not been
-- read again, so a later one waits until then.
CREATE FUNCTION notif_private.waits_@TIER@(p_batch notif_private.attempt[], p_lane integer, p_horizon timestamptz, p_limits bigint)
	RETURNS timestamptz[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
BEGIN
	RETURN (SELECT array_agg(w.until ORDER BY b.ordinality)
			  FROM unnest(p_batch) WITH ORDINALITY b
			  LEFT JOIN LATERAL (
				SELECT max(k.until) AS until FROM notif_private.blocked_@TIER@ k
				 WHERE k.endpoint = b.endpoint AND k.lane = p_lane AND k.until > coalesce(p_horizon, '-infinity') AND k.ord < b.ord
				   -- what has a time of its own has its place in the order by that
				   AND (SELECT t.ordered AND (NOT k.limited OR b.attempt = 1 AND k.limits & t.limits & p_limits <> 0)
						  FROM notif_private.type t WHERE t.id = b.type_id) OFFSET 0) w ON true);
END
$$;
COMMENT ON FUNCTION notif_private.waits_@TIER@(notif_private.attempt[], integer, timestamptz, bigint) IS
	'For each attempt of a batch until when it waits behind an earlier one of its endpoint; NULL: it does not. p_limits: bits of the limits that apply in this lane, NULL: none.';

-- A horizon ahead of the clock: the clock was ahead when it was reached, and has
-- been set right.  What is put off is filed behind the horizon and would wait until
-- then, an hour or a year, and so would all that is put off after it.  The horizon
-- comes back to now; what lay between, which has been taken, goes.
CREATE FUNCTION notif_private.set_back_@TIER@(p_lane integer, p_now timestamptz) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	hz	record;
BEGIN
	SELECT c.seq, c.due, c.place, c.id INTO hz FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = 3 AND c.lane = p_lane AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
	DELETE FROM notif_private.schedule_@TIER@ s
	 WHERE s.lane = p_lane AND s.due_at > p_now AND (s.due_at, s.ord, s.delivery) <= (hz.due, hz.place, hz.id);
	-- what these have blocked is free
	DELETE FROM notif_private.blocked_@TIER@ k WHERE k.lane = p_lane AND k.until <= hz.due;
	INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, seq, due, place, id)
	VALUES (notif_private.turn_@TIER@() % 4, 3, p_lane, hz.seq + 1, p_now, 9223372036854775807, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
	RETURN p_now;
END
$$;
COMMENT ON FUNCTION notif_private.set_back_@TIER@(integer, timestamptz) IS
	'Brings a lane''s horizon of the schedule back to now after the clock was set back; returns it.';

-- What the gates stopped: its outcome, its place in the schedule if it is put off, and
-- whom it holds up.  Not part of the gates' own statement, which as a rule stops nobody
-- and is shorter to start without it.
CREATE FUNCTION notif_private.put_away_@TIER@(p_turn bigint, p_lane integer, p_batch notif_private.attempt[],
											  p_stops notif_private.stop[], p_horizon timestamptz, p_now timestamptz)
	RETURNS notif_private.stopped
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_inc	constant smallint := notif_private.current_incarnation();
	done	notif_private.stopped;
BEGIN
	WITH away AS MATERIALIZED (
		SELECT s.verdict, s.reason, s.next_at, s.lane, s.place, ty.retention, ty.ordered, (x.a).*
		  FROM unnest(p_stops) s
		 CROSS JOIN LATERAL (SELECT p_batch[s.nth] AS a OFFSET 0) x
		  LEFT JOIN LATERAL (SELECT t.retention, t.ordered FROM notif_private.type t WHERE t.id = (x.a).type_id OFFSET 0) ty ON true
	),
	logged AS (
		INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
										   recipient, endpoint, tries, ord, expires_at, next_at, at)
		SELECT a.delivery, a.attempt, a.retention, @TIERNO@, p_lane, a.verdict::notif.outcome_state,
			   a.verdict <> 'deferred', a.reason, a.event, a.type_id, a.recipient, a.endpoint, a.tries, a.ord, a.expires_at,
			   CASE WHEN a.verdict = 'deferred' THEN a.next_at END, p_now
		  FROM away a
		RETURNING outcome.state
	),
	again AS (
		INSERT INTO notif_private.schedule_@TIER@ (part, incarnation, lane, due_at, delivery, slot, attempt, tries, type_id, ord,
												   recipient, endpoint, event, expires_at, charged_at, collapse, subject, campaign, conditional)
		SELECT notif_private.schedule_part('notif_private.schedule_@TIER@', a.next_at), v_inc, a.lane, a.next_at, a.delivery,
			   hashint8(a.recipient) & 63,
			   -- tries stays: a deferral is not an attempt
			   a.attempt + 1, a.tries, a.type_id, a.ord, a.recipient, a.endpoint, a.event, a.expires_at, a.charged_at,
			   a.collapse, a.subject, a.campaign, a.conditional
		  FROM away a WHERE a.verdict = 'deferred'
		RETURNING 1
	),
	blocking AS (
		-- behind what a limit defers only that waits which it applies to
		INSERT INTO notif_private.blocked_@TIER@ AS k (endpoint, limited, lane, until, ord, limits)
		SELECT a.endpoint, a.place IS NOT NULL, p_lane, max(a.next_at), max(a.ord), bit_or(1::bigint << a.place)
		  FROM away a
		 -- what has a time of its own, or waits in a lane of its own, holds nothing up
		 WHERE a.verdict = 'deferred' AND a.ordered AND a.lane = p_lane AND a.reason <> 'scheduled'
		 GROUP BY a.endpoint, a.place IS NOT NULL ORDER BY 1, 2
		ON CONFLICT ON CONSTRAINT blocked_@TIER@_pkey DO UPDATE
		   SET (lane, until, ord, limits) = (SELECT b.lane, b.until, b.ord, b.limits FROM notif_private.still_blocked(
				k.lane, k.until, k.ord, k.limits, excluded.lane, excluded.until, excluded.ord, excluded.limits, p_horizon) b)
	),
	told AS (
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT p_turn % 4, p_lane, l.state::text::notif_private.tally_state, count(*)
		  FROM logged l WHERE l.state <> 'deferred' GROUP BY l.state
	)
	SELECT (SELECT count(*) FROM logged l WHERE l.state <> 'deferred'), (SELECT count(*) FROM again), NULL INTO done;
	IF EXISTS (SELECT FROM unnest(p_stops) s WHERE s.verdict = 'merged') THEN
		-- the reason names the limit: 'rate_limited:name'
		PERFORM notif_private.fold_over_limit(@TIERNO@::smallint, array_agg(p_batch[s.nth] ORDER BY s.nth),
											  array_agg(substr(s.reason, strpos(s.reason, ':') + 1) ORDER BY s.nth), p_now)
		   FROM unnest(p_stops) s WHERE s.verdict = 'merged';
	END IF;
	PERFORM notif_private.give_back(@TIERNO@::smallint, p_lane, (
		SELECT array_agg(p_batch[s.nth]) FROM unnest(p_stops) s
		 WHERE s.verdict <> 'deferred' AND (p_batch[s.nth]).charged_at IS NOT NULL));
	RETURN done;
END
$$;
COMMENT ON FUNCTION notif_private.put_away_@TIER@(bigint, integer, notif_private.attempt[], notif_private.stop[], timestamptz, timestamptz) IS
	'Writes the outcomes and deferrals of those attempts of a batch that a gate stopped, and their tally except that of open ones; folds into digests what a limit says. Returns how many ended and how many were filed again.';

-- Rate limits.  Those that all recipients share come first, since they charge nobody
-- yet; whom one stops is not charged for his own.
CREATE FUNCTION notif_private.charge_@TIER@(p_masks bigint[], p_recipients bigint[], p_expires timestamptz[], p_attempts smallint[],
											p_limits bigint[], p_shared bigint, p_now timestamptz) RETURNS bigint[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_shared	bigint[];
	v_granted	bigint[];
BEGIN
	IF p_shared <> 0 THEN
		v_shared := notif_private.shared_ask(@TIERNO@::smallint, (SELECT array_agg(m.mask & p_shared ORDER BY m.k)
																	FROM unnest(p_masks) WITH ORDINALITY m(mask, k)),
											 p_recipients, p_expires, p_attempts, p_now);
	END IF;
	IF cardinality(p_limits) > 0 THEN
		WITH wanted AS MATERIALIZED (
			SELECT array_agg(CASE WHEN m.stops <> 0 THEN 0 ELSE m.mask & ~p_shared END ORDER BY m.k) AS masks
			  FROM unnest(p_masks, v_shared) WITH ORDINALITY m(mask, stops, k)
		),
		-- In recipient order, so that two claims never deadlock; creates missing rows.
		charged AS (
			INSERT INTO notif_private.rate (recipient_id, critical, state)
			SELECT a.recipient, @TIERNO@ = 0,
				   notif_private.rate_charge(NULL, p_limits, p_now, (SELECT w.masks FROM wanted w), min(a.k)::integer, count(*)::integer)
			  FROM unnest(p_recipients) WITH ORDINALITY a(recipient, k) GROUP BY a.recipient ORDER BY a.recipient
			ON CONFLICT (recipient_id, critical) DO UPDATE
			   SET state = notif_private.rate_recharge(rate.state, p_limits, p_now, excluded.state)
			RETURNING recipient_id, state
		)
		SELECT notif_private.rate_verdicts(array_agg(c.state ORDER BY c.recipient_id)) INTO v_granted FROM charged c;
	END IF;
	IF v_shared IS NULL THEN
		RETURN v_granted;
	END IF;
	RETURN (SELECT array_agg(coalesce(nullif(v.shared, 0), v.granted) ORDER BY v.k)
			  FROM unnest(v_shared, v_granted) WITH ORDINALITY v(shared, granted, k));
END
$$;
COMMENT ON FUNCTION notif_private.charge_@TIER@(bigint[], bigint[], timestamptz[], smallint[], bigint[], bigint, timestamptz) IS
	'Asks the limits of sends that are grouped by recipient, in each one''s order, and charges those that pass; verdicts as rate_verdicts() gives them. What shared limits grant is taken by shared_use() only, in the same transaction.';

-- What the gates stop, and what rate limits apply to: they are charged last, and only for
-- what nothing else stops.
CREATE FUNCTION notif_private.settle_@TIER@(p_turn bigint, p_lane integer, p_batch notif_private.attempt[],
											p_stops notif_private.stop[], p_asked integer[], p_masks bigint[], p_recipients bigint[],
											p_ords bigint[], p_horizon timestamptz, p_limits bigint[], p_names text[],
											p_shared bigint, p_folds bigint, p_now timestamptz)
	RETURNS notif_private.stopped
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	asked		record;
	v_expires	timestamptz[];
	v_attempts	smallint[];
	v_verdicts	bigint[];
	v_stops		notif_private.stop[] := p_stops;
	its			notif_private.stop;
	v_stopped	boolean[];
	done		notif_private.stopped;
BEGIN
	IF p_asked IS NOT NULL THEN
		-- Person by person, each one's in order.
		SELECT array_agg(a.nth) AS nths, array_agg(a.mask) AS masks, array_agg(a.recipient) AS recipients
		  INTO asked
		  FROM (SELECT u.nth, u.mask, u.recipient FROM unnest(p_asked, p_masks, p_recipients, p_ords) u(nth, mask, recipient, ord)
				 ORDER BY u.recipient, u.ord) a;
		IF p_shared <> 0 THEN
			SELECT array_agg((x.a).expires_at), array_agg((x.a).attempt) INTO v_expires, v_attempts
			  FROM (SELECT p_batch[n] AS a FROM unnest(asked.nths) n OFFSET 0) x;
		END IF;
		-- the k-th asked for is the k-th answer
		v_verdicts := notif_private.charge_@TIER@(asked.masks, asked.recipients, v_expires, v_attempts, p_limits, p_shared, p_now);
		SELECT v_stops || array_agg((l.nth,
				   CASE WHEN l.retry_at < (l.a).expires_at AND (l.a).attempt < 32000 THEN 'deferred'
						WHEN l.retry_at IS NULL AND p_folds & (1::bigint << l.place) <> 0 THEN 'merged'
						ELSE 'suppressed' END,
				   'rate_limited:' || p_names[l.place + 1],
				   -- its own time is after the horizon; equal times are read in order
				   greatest(l.retry_at, p_horizon) + interval '1 microsecond', p_lane, l.place)::notif_private.stop)
		  INTO v_stops
		  FROM (SELECT u.nth, p_batch[u.nth] AS a, (u.verdict >> 48)::integer - 1 AS place,
					   CASE WHEN u.verdict & 281474976710655 <> 0
							THEN timestamptz 'epoch' + (u.verdict & 281474976710655) * interval '1 millisecond' END AS retry_at
				  FROM unnest(asked.nths, v_verdicts) u(nth, verdict) WHERE u.verdict <> 0 OFFSET 0) l;
	END IF;
	IF v_stops IS NOT NULL THEN
		done := notif_private.put_away_@TIER@(p_turn, p_lane, p_batch, v_stops, p_horizon, p_now);
		v_stopped := array_fill(false, ARRAY[cardinality(p_batch)]);
		FOREACH its IN ARRAY v_stops LOOP
			v_stopped[its.nth] := true;
		END LOOP;
		done.stops := v_stopped;
	END IF;
	IF p_shared <> 0 AND p_asked IS NOT NULL THEN
		PERFORM notif_private.shared_use(@TIERNO@::smallint, (
			SELECT array_agg(a.mask & p_shared) FROM unnest(asked.nths, asked.masks) a(nth, mask) WHERE v_stopped[a.nth] IS NOT TRUE), p_now);
	END IF;
	RETURN done;
END
$$;
COMMENT ON FUNCTION notif_private.settle_@TIER@(bigint, integer, notif_private.attempt[], notif_private.stop[], integer[], bigint[], bigint[], bigint[], timestamptz, bigint[], text[], bigint, bigint, timestamptz) IS
	'Of a batch, what the gates stop (p_stops), and the places of what limits apply to (p_asked) with masks, recipients and ords: charges the limits, as limits_of_lane() names them, and puts away what does not pass.';

-- The gates and the flight, for a batch already read.
CREATE FUNCTION notif_private.gate_@TIER@(p_turn bigint, p_lane integer, p_worker bigint, p_flight bigint,
										  p_batch notif_private.attempt[], p_horizon timestamptz)
	RETURNS TABLE (batch integer, delivery uuid, attempt smallint, tries smallint, ord bigint, event uuid, type_id integer,
				   recipient bigint, endpoint bigint, expires_at timestamptz, charged_at timestamptz, collapse bigint, subject bigint, campaign integer,
				   conditional boolean, address text, ref text, locale text, attributes text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_now		constant timestamptz := notif.now();
	has			record;			-- what there is to ask
	of_lane		record;
	v_off		integer;		-- of the lane's channel: channel_bit()
	v_limits	bigint[];		-- per recipient, and so on: limits_of_lane()
	v_names		text[];
	v_here		bigint;
	v_shared	bigint := 0;
	v_folds		bigint := 0;
	v_campaigns	integer[];
	v_of_campaigns bigint[];
	v_subjects	integer[];		-- what is parked, see parked_@TIER@()
	v_parks		integer[];
	v_closed	boolean[];
	v_since		timestamptz[];
	v_periods	text[];			-- categories that quiet periods concern
	v_wait		timestamptz[];	-- of each attempt of the batch, as are the next three
	v_newer		uuid[];
	v_says		text[];			-- conditions, see conditions_@TIER@()
	v_listed	boolean[];		-- its address got onto the suppression list just now
	v_check_in	integer;
	v_check_at	timestamptz;
BEGIN
	-- One look at what is configured, and at what the batch brings; as a rule most of it is not there.
	SELECT notif_private.channel_bit(r.channel) AS channel,
		   EXISTS (SELECT FROM notif_private.cancellation) AS cancels,
		   EXISTS (SELECT FROM notif_private.cancellation c WHERE c.schedule) AS cancels_later,
		   EXISTS (SELECT FROM notif_private.rate_limit) AS limits,
		   EXISTS (SELECT FROM notif_private.quiet_period) AS periods,
		   EXISTS (SELECT FROM notif_private.quiet_hours)
		   OR EXISTS (SELECT FROM notif_private.consent_need n WHERE n.windows IS NOT NULL) AS hours,
		   EXISTS (SELECT FROM notif_private.pause p WHERE p.what IN ('type', 'campaign'))
		   OR EXISTS (SELECT FROM notif_private.parking k
					   WHERE k.tier = @TIERNO@ AND k.route_id = p_lane AND NOT k.drained AND k.what <> 'condition') AS parks,
		   EXISTS (SELECT FROM notif_private.type t WHERE t.send_if IS NOT NULL)
		   OR EXISTS (SELECT FROM notif_private.parking k
					   WHERE k.tier = @TIERNO@ AND k.route_id = p_lane AND k.what = 'condition') AS conditions,
		   EXISTS (SELECT FROM notif_private.suppression s WHERE s.recent_address IS NOT NULL) AS listed,
		   (SELECT k.until FROM notif_private.blocked_@TIER@ k WHERE k.lane = p_lane ORDER BY k.lane, k.until DESC LIMIT 1) AS blocked,
		   b.collapses, b.conditional, b.later
	  INTO has
	  FROM (SELECT bool_or(b.collapse IS NOT NULL) AS collapses, bool_or(b.conditional) AS conditional, bool_or(b.due > v_now) AS later
			  FROM unnest(p_batch) b) b
	  LEFT JOIN notif_private.route r ON r.id = p_lane;
	v_off := has.channel;
	IF has.limits THEN
		of_lane := notif_private.limits_of_lane(p_lane);
		v_limits := of_lane.limits; v_names := of_lane.names; v_here := of_lane.here; v_shared := of_lane.shared;
		v_folds := of_lane.folds; v_campaigns := of_lane.campaigns; v_of_campaigns := of_lane.of_campaigns;
	END IF;
	IF p_horizon IS NULL AND (has.limits OR has.blocked IS NOT NULL OR has.periods OR has.hours OR has.later) THEN
		-- somebody may be deferred: into the schedule, after its horizon
		SELECT c.due INTO p_horizon FROM notif_private.cursor_@TIER@ c
		 WHERE c.role = 3 AND c.lane = p_lane AND c.key = '00000000-0000-0000-0000-000000000000'
		 ORDER BY c.seq DESC LIMIT 1;
	END IF;
	IF p_horizon > v_now + interval '1 minute' THEN
		p_horizon := notif_private.set_back_@TIER@(p_lane, v_now);
	END IF;
	IF has.blocked > coalesce(p_horizon, '-infinity') THEN
		v_wait := notif_private.waits_@TIER@(p_batch, p_lane, p_horizon, v_here);
	END IF;
	IF has.periods THEN
		v_periods := notif_private.quiet_categories();
	END IF;
	IF has.parks THEN
		SELECT p.subjects, p.parks, p.closed, p.since INTO v_subjects, v_parks, v_closed, v_since
		  FROM notif_private.parked_@TIER@(p_lane) p;
	END IF;
	IF has.collapses THEN
		v_newer := notif_private.superseded_@TIER@(p_batch, v_now);
	END IF;
	IF has.conditions OR has.conditional THEN
		SELECT c.says, c.park, c.due INTO v_says, v_check_in, v_check_at FROM notif_private.conditions_@TIER@(p_turn, p_lane, p_batch, v_now) c;
	END IF;
	IF has.listed THEN
		v_listed := notif_private.suppressed_lately(p_batch);
	END IF;
	RETURN QUERY
	WITH batch AS MATERIALIZED (
		SELECT b.nth::integer AS nth, b.delivery, b.attempt, b.tries, b.ord, b.event, b.type_id, b.recipient, b.endpoint, b.expires_at,
			   coalesce(b.charged_at, v_now) AS charged_at, b.collapse, b.subject, b.campaign, b.conditional, ep.address, rc.ref, rc.locale, rc.attributes,
			   -- In quiet hours what bypasses them does not wait behind what they put off.
			   CASE WHEN b.attempt >= 32000 THEN NULL
					WHEN pk.park IS NOT NULL THEN pk.due
					WHEN q.until IS NULL THEN greatest(v_wait[b.nth], later.due)
					WHEN q.holds THEN greatest(q.until + q.jitter, p_horizon + interval '1 microsecond', v_wait[b.nth], later.due)
					ELSE later.due
			   END AS wait, pk.park, CASE WHEN pk.park IS NOT NULL THEN pk.why
								 WHEN q.until IS NOT NULL AND q.holds THEN q.why
								 WHEN later.due IS NOT NULL THEN 'scheduled' ELSE 'order' END AS why,
			   CASE WHEN has.cancels AND EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = b.event)
						 OR has.cancels_later AND EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(b.event))
						 THEN 'cancelled:cancel'
					WHEN b.expires_at <= v_now THEN 'expired:expired'
					WHEN ty.enabled IS NOT TRUE THEN 'suppressed:type_disabled'
					WHEN pk.park IS NOT NULL AND b.attempt >= 32000 THEN 'suppressed:paused'
					WHEN rc.active IS NOT TRUE THEN 'suppressed:recipient_inactive'
					WHEN ep.state IS NULL THEN 'suppressed:endpoint_unknown'
					WHEN ep.state <> 'active' THEN 'suppressed:endpoint_' || ep.state::text
					WHEN ep.suppressed OR v_listed[b.nth] THEN 'suppressed:suppression_list'
					WHEN NOT ty.mandatory AND pf.switched_off THEN 'suppressed:switched_off'
					WHEN NOT ty.mandatory
						 -- not NULL, or what comes after it is asked as well
						 AND ((b.subject >> 32)::integer = ANY (pf.muted_hash) OR (b.subject << 32 >> 32)::integer = ANY (pf.muted_hash)) IS TRUE
						 AND notif_private.has_muted(b.recipient, b.event, v_now) THEN 'suppressed:muted'
					WHEN NOT ty.mandatory AND (pf.choice & v_off <> 0
						 OR NOT (ty.default_enabled OR coalesce(pf.choice, 0) & (v_off << 8) <> 0)) THEN 'suppressed:preference'
					WHEN NOT ty.mandatory AND (pf.consent & (v_off << 16) <> 0
						 OR nd.enough IS NOT NULL AND coalesce(pf.consent & nd.enough, 0) = 0
							AND NOT EXISTS (SELECT FROM unnest(pf.implied) i WHERE i.category = ty.number AND i.channel = v_off
											   AND i.since + CASE i.basis WHEN 'inquiry' THEN nd.inquiry ELSE nd.purchase END > v_now))
						 THEN 'suppressed:consent'
					WHEN q.holds AND q.until IS NOT NULL
						 AND (q.until + q.jitter >= b.expires_at OR b.attempt >= 32000) THEN 'expired:' || q.why
			   END AS halt, v_newer[b.nth] AS newer, v_says[b.nth] AS says,
			   -- charged once per delivery: later attempts pass free
			   CASE WHEN v_here IS NULL OR b.charged_at IS NOT NULL THEN 0
					WHEN b.campaign IS NULL OR v_campaigns IS NULL THEN ty.limits & v_here
					ELSE ty.limits & (v_here | (SELECT coalesce(bit_or(c.bits), 0) FROM unnest(v_campaigns, v_of_campaigns) c(id, bits)
												 WHERE c.id = b.campaign))
			   END AS mask
		  FROM unnest(p_batch) WITH ORDINALITY b(delivery, attempt, tries, ord, event, type_id, recipient, endpoint,
												 expires_at, charged_at, collapse, subject, campaign, due, conditional, nth)
		  LEFT JOIN LATERAL (SELECT greatest(b.due, p_horizon + interval '1 microsecond') AS due WHERE b.due > v_now OFFSET 0) later ON true
		  LEFT JOIN LATERAL (SELECT t.enabled, t.ordered, t.limits, t.category_number AS number, t.default_enabled,
									t.mandatory, t.category, t.bypasses_quiet AS bypass, t.needs
							   FROM notif_private.type t
							  WHERE t.id = b.type_id OFFSET 0) ty ON true
		  LEFT JOIN LATERAL (
			SELECT v_parks[k.n] AS park, greatest(v_now, v_since[k.n] + interval '1 microsecond') AS due,
				   CASE WHEN v_subjects[k.n] > 0 THEN 'paused:type' ELSE 'paused:campaign' END AS why
			  FROM (VALUES (array_position(v_subjects, b.type_id)), (array_position(v_subjects, - b.campaign))) k(n)
			 WHERE v_subjects IS NOT NULL AND k.n IS NOT NULL
			   AND (v_closed[k.n] OR (ty.ordered AND b.due IS DISTINCT FROM '-infinity'))
			 LIMIT 1) pk ON true
		  LEFT JOIN LATERAL (SELECT e.state, e.address, e.suppressed FROM notif_private.endpoint e WHERE e.id = b.endpoint OFFSET 0) ep ON true
		  LEFT JOIN LATERAL (SELECT r.active, r.ref, r.locale, r.attributes::text AS attributes, r.tz, r.country
							   FROM notif_private.recipient r WHERE r.id = b.recipient OFFSET 0) rc ON true
		  LEFT JOIN LATERAL (SELECT p.switched_off, coalesce(p.choices[ty.number + 1], p.choices[1]) AS choice, p.quiet, p.muted_hash,
									p.consents[ty.number + 1] AS consent, p.implied
							   FROM notif_private.profile p WHERE p.recipient_id = b.recipient OFFSET 0) pf ON true
		  LEFT JOIN LATERAL (
			SELECT u.* FROM (
				SELECT n.enough, n.purchase, n.inquiry, n.windows, n.zones FROM notif_private.consent_need n
				 WHERE ty.needs & v_off <> 0 AND n.category = ty.number AND n.channel = v_off AND n.country = rc.country
				UNION ALL
				SELECT n.enough, n.purchase, n.inquiry, n.windows, n.zones FROM notif_private.consent_need n
				 WHERE ty.needs & v_off <> 0 AND n.category = ty.number AND n.channel = v_off AND n.country = '') u LIMIT 1) nd ON true
		  -- ordered ones of one endpoint go in the order in which they came
		  LEFT JOIN LATERAL (
			SELECT coalesce(CASE WHEN ty.bypass THEN e.closed END, greatest(e.until, e.closed)) AS until,
				   -- no category bypasses the law
				   NOT ty.bypass OR e.closed IS NOT NULL AS holds,
				   CASE WHEN e.closed IS NULL THEN 'quiet_hours' ELSE 'send_hours' END AS why,
				   notif_private.quiet_jitter(CASE WHEN ty.ordered THEN b.endpoint ELSE uuid_hash_extended(b.delivery, 0) END,
													   @TIERNO@ = 2) AS jitter
			  FROM (SELECT greatest(
						CASE WHEN pf.quiet IS NOT NULL THEN notif_private.quiet_until(pf.quiet, NULL, coalesce(rc.tz, 'UTC'), v_now) END,
						CASE WHEN ty.category = ANY (v_periods) THEN (
							SELECT max(notif_private.quiet_until(p.windows, p.dates, coalesce(rc.tz, p.tz), v_now))
							  FROM notif_private.quiet_period p
							 WHERE p.categories IS NULL OR ty.category = ANY (p.categories)) END) AS until,
						CASE WHEN nd.windows IS NULL THEN NULL
							 WHEN rc.tz IS NOT NULL OR nd.zones IS NULL
							 THEN notif_private.quiet_until(nd.windows, NULL, coalesce(rc.tz, 'UTC'), v_now)
							 ELSE (SELECT max(notif_private.quiet_until(nd.windows, NULL, z, v_now)) FROM unnest(nd.zones) z) END AS closed
						OFFSET 0) e
			 WHERE e.until IS NOT NULL OR e.closed IS NOT NULL OFFSET 0) q ON true
	),
	-- Collapse: what a newer one replaces, unless a gate stops that one here.
	-- Conditions: asked only of what nothing else stops or puts off.
	-- What does not pass here, and what limits apply to, goes to a function, called if there
	-- is any: this statement starts once for a single message, too.
	settled AS MATERIALIZED (
		SELECT CASE WHEN s.stops IS NOT NULL OR s.asked IS NOT NULL THEN notif_private.settle_@TIER@(p_turn, p_lane, p_batch,
				s.stops, s.asked, s.masks, s.recipients, s.ords, p_horizon, v_limits, v_names, v_shared, v_folds, v_now) END AS done
		  FROM (SELECT array_agg((s.nth, s.verdict, s.reason, s.next_at, s.lane, NULL)::notif_private.stop) FILTER (WHERE s.verdict IS NOT NULL) AS stops,
					   array_agg(s.nth) FILTER (WHERE s.verdict IS NULL) AS asked, array_agg(s.mask) FILTER (WHERE s.verdict IS NULL) AS masks,
					   array_agg(s.recipient) FILTER (WHERE s.verdict IS NULL) AS recipients, array_agg(s.ord) FILTER (WHERE s.verdict IS NULL) AS ords
				  FROM (SELECT b.nth, b.mask, b.recipient, b.ord,
							   CASE WHEN c.stop IS NOT NULL THEN split_part(c.stop, ':', 1)
									WHEN b.wait IS NOT NULL OR b.says = 'check' THEN 'deferred' END AS verdict,
							   CASE WHEN c.stop IS NOT NULL THEN substr(c.stop, strpos(c.stop, ':') + 1)
									WHEN b.wait IS NOT NULL THEN b.why
									WHEN b.says = 'check' THEN 'condition' END AS reason,
							   CASE WHEN b.wait IS NOT NULL THEN b.wait WHEN b.says = 'check' THEN v_check_at END AS next_at,
							   -- a deferral out of this lane: for its condition, or parked
							   coalesce(CASE WHEN b.wait IS NULL THEN CASE WHEN b.says = 'check' THEN - v_check_in END
											 ELSE - b.park END, p_lane) AS lane
						  FROM batch b
						 CROSS JOIN LATERAL (
							SELECT CASE WHEN h.halted IS NULL AND b.wait IS NULL AND b.says <> 'check' THEN b.says ELSE h.halted END AS stop
							  FROM (SELECT CASE WHEN b.halt IS NULL AND b.newer IS NOT NULL
													 AND NOT EXISTS (SELECT FROM batch n WHERE n.delivery = b.newer AND n.halt IS NOT NULL)
												THEN 'superseded:collapse' ELSE b.halt END AS halted OFFSET 0) h OFFSET 0) c) s
				 WHERE s.verdict IS NOT NULL OR s.mask <> 0) s
	),
	marked AS MATERIALIZED (
		SELECT (s.done).stops, coalesce((s.done).ended, 0) AS ended, coalesce((s.done).refiled, 0) AS refiled FROM settled s
	),
	flown AS (
		INSERT INTO notif_private.flight_@TIER@ (ring, worker, flight, closed, lane, attempts)
		SELECT p_turn % 4, p_worker, p_flight, false, p_lane, f.attempts
		  FROM (SELECT array_agg((b.delivery, b.attempt, b.tries, b.ord, b.event, b.type_id, b.recipient, b.endpoint,
								  b.expires_at, b.charged_at, b.collapse, b.subject, b.campaign, NULL, b.conditional)::notif_private.attempt) AS attempts
				  FROM batch b CROSS JOIN marked m WHERE m.stops[b.nth] IS NOT TRUE) f
		 WHERE f.attempts IS NOT NULL
		RETURNING cardinality(flight_@TIER@.attempts) AS n
	),
	told AS (
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT p_turn % 4, p_lane, t.state, t.n
		  FROM (VALUES ('open'::notif_private.tally_state, (SELECT m.refiled FROM marked m) - cardinality(p_batch)),
					   ('in_flight', (SELECT f.n FROM flown f))) t(state, n)
		 WHERE t.n <> 0
	),
	proof AS MATERIALIZED (
		SELECT notif_private.assert_conserved(cardinality(p_batch), coalesce((SELECT f.n FROM flown f), 0), m.ended, m.refiled) AS held, m.stops
		  FROM marked m
	)
	SELECT cardinality(p_batch), b.delivery, b.attempt, b.tries, b.ord, b.event, b.type_id, b.recipient, b.endpoint,
		   b.expires_at, b.charged_at, b.collapse, b.subject, b.campaign, b.conditional, b.address, b.ref, b.locale, b.attributes
	  FROM proof LEFT JOIN batch b ON proof.held AND proof.stops[b.nth] IS NOT TRUE
	 ORDER BY b.ord;
END
$$;
COMMENT ON FUNCTION notif_private.gate_@TIER@(bigint, integer, bigint, bigint, notif_private.attempt[], timestamptz) IS
	'Passes a batch through the gates in their order, charges rate limits last, writes outcomes, deferrals and the flight, asserts that nothing vanished, and returns what is to be sent; batch is how many were read, a row without a delivery says that none passed.';

-- The lane's horizon of the schedule: what was due later and is due now.
CREATE FUNCTION notif_private.read_due_@TIER@(p_turn bigint, p_lane integer, p_limit integer,
											  OUT batch notif_private.attempt[], OUT horizon timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	hz		record;
	v_now	constant timestamptz := notif.now();
	v_due	timestamptz;
	v_ord	bigint;
	v_id	uuid;
BEGIN
	SELECT c.ring, c.seq, c.due, c.place, c.id INTO hz FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = 3 AND c.lane = p_lane AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
	SELECT array_agg((s.delivery, s.attempt, s.tries, s.ord, s.event, s.type_id, s.recipient, s.endpoint,
					  s.expires_at, s.charged_at, s.collapse, s.subject, s.campaign,
					  CASE WHEN p_lane < 0 THEN timestamptz '-infinity' END, s.conditional)::notif_private.attempt ORDER BY s.n),
		   (array_agg(s.due_at ORDER BY s.n DESC))[1], (array_agg(s.ord ORDER BY s.n DESC))[1],
		   (array_agg(s.delivery ORDER BY s.n DESC))[1]
	  INTO batch, v_due, v_ord, v_id
	  FROM (SELECT s.*, row_number() OVER () AS n
			  FROM (SELECT s.* FROM notif_private.schedule_@TIER@ s
					 WHERE s.lane = p_lane AND s.due_at <= v_now
					   AND (s.due_at, s.ord, s.delivery) > (coalesce(hz.due, '-infinity'), coalesce(hz.place, 0),
															coalesce(hz.id, '00000000-0000-0000-0000-000000000000'))
					 ORDER BY s.due_at, s.ord, s.delivery LIMIT p_limit) s) s;
	IF v_due IS NOT NULL OR hz.ring <> p_turn % 4 THEN
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, seq, due, place, id)
		VALUES (p_turn % 4, 3, p_lane, coalesce(hz.seq, 0) + 1, coalesce(v_due, hz.due), coalesce(v_ord, hz.place),
				coalesce(v_id, hz.id));
	END IF;
	batch := coalesce(batch, '{}');
	horizon := coalesce(v_due, hz.due);
END
$$;
COMMENT ON FUNCTION notif_private.read_due_@TIER@(bigint, integer, integer) IS
	'Takes the next scheduled attempts of a lane (negative: of a parking) that are due, in order of due time, and moves its horizon. What the lane''s owner files later is always due after the horizon.';

-- One window of the outbox, from a position.
CREATE FUNCTION notif_private.read_window_@TIER@(p_lane integer, s_from pg_snapshot, s_to pg_snapshot, p_limit integer,
												 INOUT at_xid xid8, INOUT at_ord bigint, OUT batch notif_private.attempt[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_inc	constant smallint := notif_private.current_incarnation();
	v_max	constant xid8 := pg_snapshot_xmax(s_from);
	v_more	notif_private.attempt[];
	v_late	xid8;
	v_xid	xid8;
	v_ord	bigint;
BEGIN
	batch := '{}';
	-- Transactions that were running at the window's start, by equality.
	IF pg_snapshot_xmin(s_from) < v_max AND (at_xid IS NULL OR at_xid < v_max) THEN
		FOR v_late IN SELECT x FROM pg_snapshot_xip(s_from) x
			WHERE pg_visible_in_snapshot(x, s_to) AND (at_xid IS NULL OR x >= at_xid) ORDER BY x LOOP
			SELECT array_agg((o.delivery, o.attempt, o.tries, o.ord, o.event, o.type_id, o.recipient, o.endpoint,
							  o.expires_at, NULL, o.collapse, o.subject, o.campaign, o.due, o.conditional)::notif_private.attempt ORDER BY o.n),
				   (array_agg(o.ord ORDER BY o.n DESC))[1]
			  INTO v_more, v_ord
			  FROM (SELECT o.*, row_number() OVER () AS n
					  FROM (SELECT o.* FROM notif_private.outbox_@TIER@ o
							 WHERE o.lane = p_lane AND o.incarnation = v_inc AND o.xid = v_late
							   AND o.ord > CASE WHEN v_late = at_xid THEN at_ord ELSE 0 END
							 ORDER BY o.xid, o.ord LIMIT p_limit - cardinality(batch)) o) o;
			IF v_more IS NOT NULL THEN
				batch := batch || v_more;
				at_xid := v_late;
				at_ord := v_ord;
			END IF;
			IF cardinality(batch) >= p_limit THEN
				RETURN;
			END IF;
		END LOOP;
	END IF;
	SELECT array_agg((o.delivery, o.attempt, o.tries, o.ord, o.event, o.type_id, o.recipient, o.endpoint,
					  o.expires_at, NULL, o.collapse, o.subject, o.campaign, o.due, o.conditional)::notif_private.attempt ORDER BY o.n),
		   (array_agg(o.xid ORDER BY o.n DESC))[1], (array_agg(o.ord ORDER BY o.n DESC))[1]
	  INTO v_more, v_xid, v_ord
	  FROM (SELECT o.*, row_number() OVER () AS n
			  FROM (SELECT o.* FROM notif_private.outbox_@TIER@ o
					 WHERE o.lane = p_lane AND o.incarnation = v_inc
					   AND o.xid >= v_max AND o.xid < pg_snapshot_xmax(s_to)
					   AND (o.xid, o.ord) > (coalesce(at_xid, v_max), coalesce(CASE WHEN at_xid >= v_max THEN at_ord END, 0))
					   AND pg_visible_in_snapshot(o.xid, s_to)
					 ORDER BY o.xid, o.ord LIMIT p_limit - cardinality(batch)) o) o;
	IF v_more IS NOT NULL THEN
		batch := batch || v_more;
		at_xid := v_xid;
		at_ord := v_ord;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.read_window_@TIER@(integer, pg_snapshot, pg_snapshot, integer, xid8, bigint) IS
	'Attempts of a lane that became visible between two snapshots, after a position, in the order of their expansion; returns them and the new position.';

CREATE FUNCTION notif_private.worker_claim_@TIER@(p_lane integer, p_limit integer, p_worker bigint, p_flight bigint,
												  p_due boolean DEFAULT true, p_careful boolean DEFAULT false)
	RETURNS TABLE (batch integer, delivery uuid, attempt smallint, tries smallint, ord bigint, event uuid, type_id integer,
				   recipient bigint, endpoint bigint, expires_at timestamptz, charged_at timestamptz, collapse bigint, subject bigint, campaign integer,
				   conditional boolean, address text, ref text, locale text, attributes text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	at			record;
	due			record;
	win			record;
	v_turn		constant bigint := notif_private.turn_@TIER@();
	v_batch		notif_private.attempt[] := '{}';
	v_taken		integer := 0;	-- of the schedule
	v_horizon	timestamptz;
	v_to		pg_snapshot;
	v_older		boolean;	-- this window's end was fixed by an earlier claim
BEGIN
	-- Half for what comes back from the schedule, so that after an outage a fresh
	-- attempt does not wait for all of it; what nobody wants goes to it as well.
	v_batch := notif_private.read_checked_@TIER@(v_turn, p_lane, (p_limit + 1) / 2);
	IF p_due THEN
		v_batch := v_batch || notif_private.read_parked_@TIER@(v_turn, p_lane, (p_limit + 1) / 2 - cardinality(v_batch));
		due := notif_private.read_due_@TIER@(v_turn, p_lane, greatest((p_limit + 1) / 2 - cardinality(v_batch), 1));
		v_batch := v_batch || due.batch;
		v_taken := cardinality(v_batch);
		v_horizon := due.horizon;
	END IF;
	IF cardinality(v_batch) < p_limit THEN
		SELECT c.ring, c.seq, c.s_from, c.s_to, c.xid, c.place INTO at FROM notif_private.cursor_@TIER@ c
		 WHERE c.role = 2 AND c.lane = p_lane AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
		IF NOT FOUND THEN
			SELECT (v_turn % 4)::smallint AS ring, 0::bigint AS seq, '1:1:'::pg_snapshot AS s_from, NULL::pg_snapshot AS s_to,
				   NULL::xid8 AS xid, NULL::bigint AS place INTO at;
		END IF;
		LOOP
			v_older := at.s_to IS NOT NULL;
			v_to := coalesce(at.s_to, pg_current_snapshot());
			win := notif_private.read_window_@TIER@(p_lane, at.s_from, v_to, p_limit - cardinality(v_batch), at.xid, at.place);
			v_batch := v_batch || win.batch;
			IF cardinality(v_batch) >= p_limit THEN
				INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, seq, s_from, s_to, xid, place)
				VALUES (v_turn % 4, 2, p_lane, at.seq + 1, at.s_from, v_to, win.at_xid, win.at_ord);
				EXIT;
			END IF;
			-- Used up; the next window starts at its end.  Nothing is written for
			-- an empty one, unless the ring has turned or the way back grows long.
			IF v_older OR cardinality(win.batch) > 0 OR at.ring <> v_turn % 4
			   OR pg_snapshot_xmax(v_to)::text::numeric - pg_snapshot_xmax(at.s_from)::text::numeric > 1000000 THEN
				at.seq := at.seq + 1;
				at.ring := v_turn % 4;
				INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, seq, s_from)
				VALUES (at.ring, 2, p_lane, at.seq, v_to);
			END IF;
			EXIT WHEN NOT v_older;
			at.s_from := v_to;
			at.s_to := NULL;
			at.xid := NULL;
			at.place := NULL;
		END LOOP;
	END IF;
	IF v_taken >= (p_limit + 1) / 2 AND cardinality(v_batch) < p_limit THEN
		due := notif_private.read_due_@TIER@(v_turn, p_lane, p_limit - cardinality(v_batch));
		v_batch := v_batch || due.batch;
		v_horizon := due.horizon;
	END IF;
	IF p_careful AND cardinality(v_batch) > 0 THEN
		v_batch := notif_private.sift_@TIER@(v_turn, p_lane, p_worker, p_flight, v_batch, v_horizon);
	END IF;
	IF cardinality(v_batch) > 0 THEN
		RETURN QUERY SELECT * FROM notif_private.gate_@TIER@(v_turn, p_lane, p_worker, p_flight, v_batch, v_horizon);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.worker_claim_@TIER@(integer, integer, bigint, bigint, boolean, boolean) IS
	'Takes up to p_limit attempts of a lane through the gates into flight p_flight of dispatcher p_worker, moving the lane''s cursors in the same transaction. Returns what is to be sent once that has committed; batch is how many attempts were read, fewer than p_limit when there are no more; no row: there are none. p_due false: the caller knows that nothing of the schedule is due. p_careful: row by row, after ERRORs.';

-- A router that is also the dispatcher flies what it has just expanded.
CREATE FUNCTION notif_private.worker_fly_@TIER@(p_lane integer, p_attempts notif_private.attempt[], p_lanes integer[],
												p_worker bigint, p_flight bigint)
	RETURNS TABLE (batch integer, delivery uuid, attempt smallint, tries smallint, ord bigint, event uuid, type_id integer,
				   recipient bigint, endpoint bigint, expires_at timestamptz, charged_at timestamptz, collapse bigint, subject bigint, campaign integer,
				   conditional boolean, address text, ref text, locale text, attributes text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET jit = off AS $$
DECLARE
	v_batch	notif_private.attempt[] := p_attempts;
BEGIN
	IF p_lane <> ANY (p_lanes) THEN
		SELECT array_agg(p_attempts[i] ORDER BY i) INTO v_batch FROM generate_subscripts(p_lanes, 1) i WHERE p_lanes[i] = p_lane;
	END IF;
	RETURN QUERY SELECT * FROM notif_private.gate_@TIER@(notif_private.turn_@TIER@(), p_lane, p_worker, p_flight, v_batch, NULL);
END
$$;
COMMENT ON FUNCTION notif_private.worker_fly_@TIER@(integer, notif_private.attempt[], integer[], bigint, bigint) IS
	'Takes those attempts of p_attempts whose lane in p_lanes is p_lane through the gates into a flight, in the transaction in which worker_route has expanded them; returns what worker_claim does.';

CREATE FUNCTION notif_private.next_due_@TIER@(p_lane integer) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	hz	record;
BEGIN
	SELECT c.due, c.place, c.id INTO hz FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = 3 AND c.lane = p_lane AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
	RETURN (SELECT s.due_at FROM notif_private.schedule_@TIER@ s
			 WHERE s.lane = p_lane
			   AND (s.due_at, s.ord, s.delivery) > (coalesce(hz.due, '-infinity'), coalesce(hz.place, 0),
													coalesce(hz.id, '00000000-0000-0000-0000-000000000000'))
			 ORDER BY s.due_at, s.ord, s.delivery LIMIT 1);
END
$$;
COMMENT ON FUNCTION notif_private.next_due_@TIER@(integer) IS
	'When the next scheduled attempt of a lane (negative: of a parking) is due, NULL if none waits.';

CREATE FUNCTION notif_private.worker_next_due_@TIER@(p_lane integer) RETURNS timestamptz
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	RETURN least(notif_private.next_due_@TIER@(p_lane),
				 (SELECT min(notif_private.next_due_@TIER@(- r)) FROM notif_private.resumed_@TIER@(p_lane) r));
END
$$;
COMMENT ON FUNCTION notif_private.worker_next_due_@TIER@(integer) IS
	'When the next attempt of a lane is due that waits in the schedule and is not parked, NULL if none does.';
