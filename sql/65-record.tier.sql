-- Record of tier @TIER@: what the provider said becomes outcomes, retries and the
-- state of endpoints.

-- A batch that was accepted as a whole, as nearly all are: nothing to judge, to put off
-- or to order.  Its statement starts in a fraction of the other's time, which a single
-- critical message pays as well.
CREATE FUNCTION notif_private.accept_@TIER@(
	p_turn bigint, p_lane integer, p_provider integer, p_worker bigint, p_attempts notif_private.attempt[],
	p_statuses integer[], p_reasons text[], p_refs text[], p_latencies integer[], p_flights bigint[], p_closed bigint[],
	p_now timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	WITH logged AS (
		INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
										   recipient, endpoint, tries, provider_id, provider_ref, status, latency_us, flight,
										   ord, expires_at, at)
		SELECT u.delivery, u.attempt, po.retention, @TIERNO@, p_lane, 'accepted', true, nullif(u.reason, ''), u.event, u.type_id,
			   u.recipient, u.endpoint, u.tries + 1, p_provider, nullif(u.ref, ''), nullif(u.status, 0), u.latency, u.flight,
			   u.ord, u.expires_at, p_now
		  FROM unnest(p_attempts, p_reasons, p_statuses, p_refs, p_latencies, p_flights)
			   u(delivery, attempt, tries, ord, event, type_id, recipient, endpoint, expires_at, charged_at, collapse,
				 subject, campaign, due, conditional, reason, status, ref, latency, flight)
		  LEFT JOIN LATERAL (SELECT t.retention FROM notif_private.type t WHERE t.id = u.type_id OFFSET 0) po ON true
	),
	closed AS (
		INSERT INTO notif_private.flight_@TIER@ (ring, worker, flight, closed, lane)
		SELECT p_turn % 4, p_worker, f, true, p_lane FROM unnest(p_closed) f
	)
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, p_lane, 'in_flight', - cardinality(p_attempts)), (p_turn % 4, p_lane, 'accepted', cardinality(p_attempts));
END
$$;
COMMENT ON FUNCTION notif_private.accept_@TIER@(bigint, integer, integer, bigint, notif_private.attempt[], integer[], text[], text[], integer[], bigint[], bigint[], timestamptz) IS
	'What worker_record does with attempts that the provider has all accepted.';

CREATE FUNCTION notif_private.worker_record_@TIER@(
	p_lane integer, p_provider integer, p_worker bigint,
	p_attempts notif_private.attempt[],
	-- accepted, retry, throttled, endpoint_gone, endpoint_suspect, message_bad,
	-- not_sent, unknown, superseded; retry_free, unknown_free: the same, but the
	-- provider is out of order or too busy, and no attempt counts.  One for each
	-- attempt, like what follows
	p_verdicts text[], p_reasons text[], p_statuses integer[], p_refs text[], p_latencies integer[],
	p_retry_after integer[],	-- milliseconds, told by the provider or by the lane's backoff; 0: not told
	p_gone_at bigint[],			-- milliseconds, 0: not told
	p_flights bigint[],			-- of which flight each is
	p_closed bigint[])			-- flights that have nothing left
	RETURNS TABLE (retries integer, next_due timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_now		constant timestamptz := notif.now();
	v_turn		constant bigint := notif_private.turn_@TIER@();
	v_inc		constant smallint := notif_private.current_incarnation();
	v_horizon	timestamptz;
BEGIN
	-- most batches are
	IF cardinality(p_verdicts) > 0 AND 'accepted' = ALL (p_verdicts) THEN
		PERFORM notif_private.accept_@TIER@(v_turn, p_lane, p_provider, p_worker, p_attempts, p_statuses, p_reasons, p_refs,
											p_latencies, p_flights, p_closed, v_now);
		RETURN QUERY SELECT 0, NULL::timestamptz;
		RETURN;
	END IF;
	v_horizon := coalesce((SELECT c.due FROM notif_private.cursor_@TIER@ c
							WHERE c.role = 3 AND c.lane = p_lane
							  AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1), '-infinity');
	IF v_horizon > v_now + interval '1 minute' THEN
		v_horizon := notif_private.set_back_@TIER@(p_lane, v_now);
	END IF;
	RETURN QUERY
	WITH told AS MATERIALIZED (
		SELECT u.delivery, u.attempt, u.tries, u.ord, u.event, u.type_id, u.recipient, u.endpoint, u.expires_at,
			   u.charged_at, u.collapse, u.subject, u.campaign, u.conditional, replace(u.verdict, '_free', '') AS verdict,
			   u.verdict NOT IN ('not_sent', 'superseded', 'retry_free', 'unknown_free') AS counts,
			   u.reason, u.status, u.ref, u.latency, u.flight, u.gone_at,
			   po.on_unknown, po.max_attempts, po.retention, po.ordered,
			   -- A refusal that is older than the registration says nothing of it.
			   u.verdict = 'endpoint_gone' AND u.gone_at > 0 AND to_timestamp(u.gone_at / 1000.0) < ep.registered_at AS stale,
			   greatest(v_horizon,
				   CASE WHEN u.retry_after > 0
						THEN v_now + make_interval(secs => u.retry_after / 1000.0
												   * (1 + CASE WHEN u.reason = 'order' THEN 0 ELSE 0.1 * random() END))
						-- exponential, full jitter
						ELSE v_now + greatest(interval '50 milliseconds',
							 random() * least(po.retry_cap, po.retry_base * power(2, least(u.tries, 20))))
				   END) + interval '1 microsecond' AS wanted_at
		  FROM unnest(p_attempts, p_verdicts, p_reasons, p_statuses, p_refs, p_latencies, p_retry_after, p_gone_at, p_flights)
			   u(delivery, attempt, tries, ord, event, type_id, recipient, endpoint, expires_at, charged_at, collapse,
				 subject, campaign, due, conditional, verdict, reason, status, ref, latency, retry_after, gone_at, flight)
		  LEFT JOIN LATERAL (SELECT t.ordered, t.on_unknown, t.max_attempts, t.retention, t.retry_base, t.retry_cap
							   FROM notif_private.type t
							  WHERE t.id = u.type_id OFFSET 0) po ON true
		  LEFT JOIN LATERAL (SELECT e.registered_at FROM notif_private.endpoint e
							  WHERE u.verdict = 'endpoint_gone' AND e.id = u.endpoint OFFSET 0) ep ON true
	),
	-- What is put off stays in order: not before an earlier one of its endpoint,
	-- of this batch or of those that wait already.
	timed AS (
		SELECT t.*,
			   CASE WHEN t.ordered
					THEN greatest(max(CASE WHEN t.ordered AND t.verdict NOT IN ('accepted', 'superseded') THEN t.wanted_at END)
									OVER (PARTITION BY t.endpoint ORDER BY t.ord), t.wanted_at, k.until)
					ELSE t.wanted_at END AS next_at
		  FROM told t
		  LEFT JOIN LATERAL (SELECT b.until FROM notif_private.blocked_@TIER@ b
							  WHERE t.ordered AND b.endpoint = t.endpoint AND NOT b.limited AND b.lane = p_lane
								AND b.until > v_horizon AND b.ord < t.ord OFFSET 0) k ON true
	),
	decided AS MATERIALIZED (
		SELECT t.*,
			   CASE WHEN t.verdict IN ('accepted', 'superseded') THEN t.verdict
					WHEN t.verdict IN ('endpoint_gone', 'endpoint_suspect', 'message_bad') AND NOT t.stale THEN 'failed'
					WHEN t.verdict = 'unknown' AND t.on_unknown = 'hold' THEN 'held'
					-- attempts are numbered by a smallint
					WHEN t.attempt >= 32000 THEN 'failed'
					-- Through no fault of its own: moved, not counted.
					WHEN NOT t.counts AND t.verdict <> 'unknown' THEN CASE WHEN t.next_at < t.expires_at THEN 'deferred' ELSE 'expired' END
					WHEN t.counts AND t.tries + 1 >= t.max_attempts THEN 'failed'
					WHEN t.next_at >= t.expires_at THEN 'expired'
					WHEN t.verdict = 'unknown' THEN 'unknown'
					ELSE 'retry' END::notif.outcome_state AS state
		  FROM timed t
	),
	logged AS (
		INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
										   recipient, endpoint, tries, provider_id, provider_ref, status, latency_us, flight,
										   ord, expires_at, next_at, at)
		SELECT d.delivery, d.attempt, d.retention, @TIERNO@, p_lane, d.state, d.state NOT IN ('retry', 'deferred', 'unknown'),
			   CASE WHEN d.state = 'failed' AND d.verdict IN ('retry', 'throttled', 'unknown', 'endpoint_gone') AND d.tries + 1 >= d.max_attempts
						 AND NOT (d.verdict = 'endpoint_gone' AND NOT d.stale)
					THEN 'retries_exhausted:' || coalesce(d.reason, '') ELSE nullif(d.reason, '') END,
			   d.event, d.type_id, d.recipient, d.endpoint,
			   d.tries + d.counts::integer, p_provider, nullif(d.ref, ''), nullif(d.status, 0), d.latency, d.flight,
			   d.ord, d.expires_at,
			   CASE WHEN d.state IN ('retry', 'deferred', 'unknown') THEN d.next_at END, v_now
		  FROM decided d
		RETURNING outcome.state
	),
	again AS (
		INSERT INTO notif_private.schedule_@TIER@ (part, incarnation, lane, due_at, delivery, slot, attempt, tries, type_id, ord,
												   recipient, endpoint, event, expires_at, charged_at, collapse, subject, campaign, conditional)
		SELECT notif_private.schedule_part('notif_private.schedule_@TIER@', d.next_at), v_inc, p_lane, d.next_at, d.delivery, hashint8(d.recipient) & 63,
			   d.attempt + 1, d.tries + d.counts::integer, d.type_id, d.ord, d.recipient, d.endpoint, d.event,
			   d.expires_at, d.charged_at, d.collapse, d.subject, d.campaign, d.conditional
		  FROM decided d WHERE d.state IN ('retry', 'deferred', 'unknown')
		RETURNING due_at
	),
	blocking AS (
		INSERT INTO notif_private.blocked_@TIER@ AS k (endpoint, lane, until, ord)
		SELECT d.endpoint, p_lane, max(d.next_at), max(d.ord) FROM decided d
		 WHERE d.ordered AND d.state IN ('retry', 'deferred', 'unknown') GROUP BY d.endpoint ORDER BY d.endpoint
		ON CONFLICT ON CONSTRAINT blocked_@TIER@_pkey DO UPDATE
		   SET (lane, until, ord, limits) = (SELECT b.lane, b.until, b.ord, b.limits FROM notif_private.still_blocked(
				k.lane, k.until, k.ord, k.limits, excluded.lane, excluded.until, excluded.ord, NULL, v_horizon) b)
	),
	gone AS (
		UPDATE notif_private.endpoint e
		   SET state = 'invalid', state_reason = g.reason, state_at = v_now
		  FROM (SELECT d.endpoint, min(d.reason) AS reason FROM decided d
				 WHERE d.verdict = 'endpoint_gone' AND NOT d.stale GROUP BY d.endpoint ORDER BY d.endpoint) g
		 WHERE e.id = g.endpoint AND e.state <> 'invalid'
	),
	doubted AS (
		UPDATE notif_private.endpoint e
		   SET state = 'quarantined', state_reason = g.reason, state_at = v_now,
			   quarantine_mark = (SELECT coalesce(sum(t.n), 0) FROM notif_private.tally t
								   WHERE t.lane = p_lane AND t.state = 'accepted')
		  FROM (SELECT d.endpoint, min(d.reason) AS reason FROM decided d
				 WHERE d.verdict = 'endpoint_suspect' GROUP BY d.endpoint ORDER BY d.endpoint) g
		 WHERE e.id = g.endpoint AND e.state = 'active'
	),
	counted AS (
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT v_turn % 4, p_lane, t.state, t.n
		  FROM (SELECT 'in_flight'::notif_private.tally_state AS state, -(SELECT count(*) FROM logged) AS n
				UNION ALL
				SELECT 'open', (SELECT count(*) FROM again)
				UNION ALL
				SELECT l.state::text::notif_private.tally_state, count(*) FROM logged l
				 WHERE l.state NOT IN ('retry', 'deferred', 'unknown') GROUP BY l.state) t
		 WHERE t.n <> 0
	),
	closed AS (
		INSERT INTO notif_private.flight_@TIER@ (ring, worker, flight, closed, lane)
		SELECT v_turn % 4, p_worker, f, true, p_lane FROM unnest(p_closed) f
	)
	SELECT count(*)::integer, min(a.due_at) FROM again a;
	IF p_verdicts && '{not_sent,superseded,message_bad}' THEN
		PERFORM notif_private.give_back(@TIERNO@::smallint, p_lane, (
			SELECT array_agg(p_attempts[i]) FROM generate_subscripts(p_attempts, 1) i
			 WHERE p_verdicts[i] IN ('not_sent', 'superseded', 'message_bad')));
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.worker_record_@TIER@(integer, integer, bigint, notif_private.attempt[], text[], text[], integer[], text[], integer[], integer[], bigint[], bigint[], bigint[]) IS
	'Writes the outcomes of attempts, files what is to be tried again with exponential backoff and full jitter inside its expiry, judges endpoints, and closes flights. Returns how many were filed again and when the first is due.';

CREATE FUNCTION notif_private.worker_recover_@TIER@(p_worker bigint, OUT flights integer, OUT resent bigint, OUT held bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	fl			record;
	v_now		constant timestamptz := notif.now();
	v_turn		constant bigint := notif_private.turn_@TIER@();
	v_inc		constant smallint := notif_private.current_incarnation();
	v_horizon	timestamptz;
	v_n			bigint;
	v_h			bigint;
BEGIN
	flights := 0; resent := 0; held := 0;
	-- The first thing a dispatcher does in a new database, perhaps before upkeep.
	PERFORM notif_private.make_partitions();
	FOR fl IN SELECT f.worker, f.flight, f.lane, f.attempts FROM notif_private.flight_@TIER@ f
			   WHERE NOT f.closed AND f.worker <> p_worker
				 AND NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ c
								  WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed)
			   LIMIT 4 LOOP
		v_horizon := coalesce((SELECT c.due FROM notif_private.cursor_@TIER@ c
								WHERE c.role = 3 AND c.lane = fl.lane
								  AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1), '-infinity');
		IF v_horizon > v_now + interval '1 minute' THEN
			v_horizon := notif_private.set_back_@TIER@(fl.lane, v_now);
		END IF;
		WITH doubt AS MATERIALIZED (
			SELECT a.*, po.retention, po.on_unknown, po.ordered,
				   CASE WHEN po.on_unknown = 'hold' THEN 'held'
						WHEN a.tries + 1 >= po.max_attempts OR a.attempt >= 32000 THEN 'failed'
						WHEN a.expires_at <= v_now THEN 'expired'
						ELSE 'unknown' END::notif.outcome_state AS state
			  FROM unnest(fl.attempts) a
			  LEFT JOIN LATERAL (SELECT t.ordered, t.retention, t.on_unknown, t.max_attempts
								   FROM notif_private.type t
								  WHERE t.id = a.type_id OFFSET 0) po ON true
			 WHERE NOT EXISTS (SELECT FROM notif_private.outcome o WHERE o.delivery = a.delivery AND o.attempt = a.attempt)
		), logged AS (
			INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
											   recipient, endpoint, tries, flight, ord, expires_at, next_at, at)
			SELECT d.delivery, d.attempt, d.retention, @TIERNO@, fl.lane, d.state, d.state <> 'unknown', 'worker_lost', d.event,
				   d.type_id, d.recipient, d.endpoint, d.tries + 1, fl.flight, d.ord, d.expires_at,
				   CASE WHEN d.state = 'unknown' THEN greatest(v_now, v_horizon) END, v_now
			  FROM doubt d
			RETURNING outcome.state
		), again AS (
			INSERT INTO notif_private.schedule_@TIER@ (part, incarnation, lane, due_at, delivery, slot, attempt, tries, type_id, ord,
													   recipient, endpoint, event, expires_at, charged_at, collapse, subject, campaign, conditional)
			SELECT notif_private.schedule_part('notif_private.schedule_@TIER@', v_now), v_inc, fl.lane, greatest(v_now, v_horizon) + interval '1 microsecond',
				   d.delivery, hashint8(d.recipient) & 63, d.attempt + 1, d.tries + 1, d.type_id, d.ord, d.recipient, d.endpoint,
				   d.event, d.expires_at, d.charged_at, d.collapse, d.subject, d.campaign, d.conditional
			  FROM doubt d WHERE d.state = 'unknown'
			RETURNING 1
		), blocking AS (
			INSERT INTO notif_private.blocked_@TIER@ AS k (endpoint, lane, until, ord)
			SELECT d.endpoint, fl.lane, greatest(v_now, v_horizon) + interval '1 microsecond', max(d.ord) FROM doubt d
			 WHERE d.ordered AND d.state = 'unknown' GROUP BY d.endpoint ORDER BY d.endpoint
			ON CONFLICT ON CONSTRAINT blocked_@TIER@_pkey DO UPDATE
			   SET (lane, until, ord, limits) = (SELECT b.lane, b.until, b.ord, b.limits FROM notif_private.still_blocked(
					k.lane, k.until, k.ord, k.limits, excluded.lane, excluded.until, excluded.ord, NULL, v_horizon) b)
		), counted AS (
			INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
			SELECT v_turn % 4, fl.lane, t.state, t.n
			  FROM (SELECT 'in_flight'::notif_private.tally_state AS state, -(SELECT count(*) FROM logged) AS n
					UNION ALL SELECT 'open', (SELECT count(*) FROM again)
					UNION ALL SELECT l.state::text::notif_private.tally_state, count(*) FROM logged l
							   WHERE l.state <> 'unknown' GROUP BY l.state) t
			 WHERE t.n <> 0
		), closed AS (
			INSERT INTO notif_private.flight_@TIER@ (ring, worker, flight, closed, lane)
			VALUES (v_turn % 4, fl.worker, fl.flight, true, fl.lane)
		)
		SELECT (SELECT count(*) FROM again), count(*) FILTER (WHERE l.state = 'held') INTO v_n, v_h FROM logged l;
		flights := flights + 1;
		resent := resent + v_n;
		held := held + v_h;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.worker_recover_@TIER@(bigint) IS
	'Resolves up to 4 flights of dispatchers that are gone: an attempt without an outcome is in doubt; it is tried again under the same id, or held where its category forbids that. Called at start until it returns no flight.';
