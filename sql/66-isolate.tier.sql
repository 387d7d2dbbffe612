-- One row that always fails must not stop its tier @TIER@.  After two ERRORs in a
-- row a worker asks for the same work carefully: each row in a subtransaction of
-- its own, what fails alone while others pass is given a verdict, and the queue
-- goes on.  That is its third try.

-- An attempt that fails alone gets its verdict; returns the others.  Each passes
-- the gates for a trial that is rolled back, so that the batch then flies as one.
CREATE FUNCTION notif_private.sift_@TIER@(p_turn bigint, p_lane integer, p_worker bigint, p_flight bigint,
										  p_batch notif_private.attempt[], p_horizon timestamptz) RETURNS notif_private.attempt[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	good	notif_private.attempt[] := '{}';
	bad		notif_private.attempt[] := '{}';
	code	text := '';
	words	text := '';
	a		notif_private.attempt;
BEGIN
	FOREACH a IN ARRAY p_batch LOOP
		BEGIN
			PERFORM FROM notif_private.gate_@TIER@(p_turn, p_lane, p_worker, p_flight, ARRAY[a], p_horizon);
			RAISE SQLSTATE 'NT000';
		EXCEPTION WHEN SQLSTATE 'NT000' THEN
			good := good || a;
		WHEN OTHERS THEN
			code := SQLSTATE;
			words := SQLERRM;
			IF notif_private.is_passing(code) THEN
				RAISE;
			END IF;
			bad := bad || a;
		END;
	END LOOP;
	IF cardinality(bad) > 0 THEN
		IF NOT notif_private.is_at_fault(cardinality(bad), cardinality(good), code) THEN
			PERFORM notif_private.raise_again(code, words);
		END IF;
		INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
										   recipient, endpoint, tries, ord, expires_at, at)
		SELECT b.delivery, b.attempt, notif_private.retention_of(b.type_id), @TIERNO@, p_lane, 'failed', true,
			   'quarantined:' || code, b.event, b.type_id, b.recipient, b.endpoint, b.tries, b.ord, b.expires_at, notif.now()
		  FROM unnest(bad) b;
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		VALUES (p_turn % 4, p_lane, 'open', -cardinality(bad)), (p_turn % 4, p_lane, 'failed', cardinality(bad));
		PERFORM notif_private.tell_quarantine('claim', cardinality(bad), code);
	END IF;
	RETURN good;
END
$$;
COMMENT ON FUNCTION notif_private.sift_@TIER@(bigint, integer, bigint, bigint, notif_private.attempt[], timestamptz) IS
	'Takes out of a batch what raises in the gates by itself: its outcome is failed, quarantined:SQLSTATE. Raises where everything fails, since then it is not the rows.';

CREATE FUNCTION notif_private.worker_record_carefully_@TIER@(
	p_lane integer, p_provider integer, p_worker bigint, p_attempts notif_private.attempt[],
	p_verdicts text[], p_reasons text[], p_statuses integer[], p_refs text[], p_latencies integer[],
	p_retry_after integer[], p_gone_at bigint[], p_flights bigint[], p_closed bigint[])
	RETURNS TABLE (retries integer, next_due timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	v_turn	constant bigint := notif_private.turn_@TIER@();
	good	integer[] := '{}';
	bad		integer[] := '{}';
	codes	text[] := '{}';
BEGIN
	FOR i IN 1 .. cardinality(p_attempts) LOOP
		BEGIN
			PERFORM FROM notif_private.worker_record_@TIER@(p_lane, p_provider, p_worker, p_attempts[i:i], p_verdicts[i:i],
				p_reasons[i:i], p_statuses[i:i], p_refs[i:i], p_latencies[i:i], p_retry_after[i:i], p_gone_at[i:i],
				p_flights[i:i], '{}');
			RAISE SQLSTATE 'NT000';
		EXCEPTION WHEN SQLSTATE 'NT000' THEN
			good := good || i;
		WHEN OTHERS THEN
			IF notif_private.is_passing(SQLSTATE) THEN
				RAISE;
			END IF;
			bad := bad || i;
			codes := codes || SQLSTATE;
		END;
	END LOOP;
	-- The bare verdict: no retry is filed and no endpoint is judged.  If not even
	-- that can be written, nothing is.
	IF cardinality(bad) > 0 THEN
		WITH verdict AS (
			INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, lane, state, terminal, reason, event, type_id,
											   recipient, endpoint, tries, provider_id, status, flight, ord, expires_at, at)
			SELECT a.delivery, a.attempt, notif_private.retention_of(a.type_id), @TIERNO@, p_lane,
				   CASE WHEN p_verdicts[x.i] IN ('accepted', 'superseded') THEN p_verdicts[x.i]
						WHEN p_verdicts[x.i] IN ('unknown', 'unknown_free') THEN 'held' ELSE 'failed' END::notif.outcome_state,
				   true, 'quarantined:' || x.code, a.event, a.type_id, a.recipient, a.endpoint, a.tries + 1, p_provider,
				   nullif(p_statuses[x.i], 0), p_flights[x.i], a.ord, a.expires_at, notif.now()
			  FROM unnest(bad, codes) x(i, code) CROSS JOIN LATERAL (SELECT (p_attempts[x.i]).*) a
			-- one that has a verdict needs no other
			ON CONFLICT DO NOTHING
			RETURNING outcome.state
		)
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT v_turn % 4, p_lane, v.state::text::notif_private.tally_state, count(*) FROM verdict v GROUP BY v.state
		UNION ALL
		SELECT v_turn % 4, p_lane, 'in_flight', -count(*) FROM verdict;
		PERFORM notif_private.tell_quarantine('record', cardinality(bad), codes[1]);
	END IF;
	RETURN QUERY
		SELECT r.* FROM notif_private.worker_record_@TIER@(p_lane, p_provider, p_worker,
			ARRAY(SELECT p_attempts[i] FROM unnest(good) i), ARRAY(SELECT p_verdicts[i] FROM unnest(good) i),
			ARRAY(SELECT p_reasons[i] FROM unnest(good) i), ARRAY(SELECT p_statuses[i] FROM unnest(good) i),
			ARRAY(SELECT p_refs[i] FROM unnest(good) i), ARRAY(SELECT p_latencies[i] FROM unnest(good) i),
			ARRAY(SELECT p_retry_after[i] FROM unnest(good) i), ARRAY(SELECT p_gone_at[i] FROM unnest(good) i),
			ARRAY(SELECT p_flights[i] FROM unnest(good) i), p_closed) r;
END
$$;
COMMENT ON FUNCTION notif_private.worker_record_carefully_@TIER@(integer, integer, bigint, notif_private.attempt[], text[], text[], integer[], text[], integer[], integer[], bigint[], bigint[], bigint[]) IS
	'worker_record, each attempt tried alone first. One that raises gets the bare verdict (accepted, superseded, held if unknown, else failed) with reason quarantined:SQLSTATE.';
