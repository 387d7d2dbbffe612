-- Rate limits give back what was charged for a delivery that ends without anything ever
-- having been sent: it expired, or was cancelled or opted out of, while its attempts were
-- put off.  Whoever ends it files a row, in the same transaction; upkeep gives back.  No
-- claim could: it has locked the windows of those it charges, and would lock more in
-- another order than the next one.

CREATE TABLE notif_private.rate_return (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	recipient_id bigint NOT NULL,
	critical	boolean NOT NULL,
	mask		bigint NOT NULL,		-- bits of the limits
	charged_at	timestamptz NOT NULL
);

CREATE FUNCTION notif_private.give_back(p_tier smallint, p_lane integer, p_attempts notif_private.attempt[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET jit = off AS $$
DECLARE
	known	record;
BEGIN
	IF p_attempts IS NULL OR NOT EXISTS (SELECT FROM notif_private.rate_limit) THEN
		RETURN;
	END IF;
	known := notif_private.limits_of_lane(p_lane);
	INSERT INTO notif_private.rate_return (recipient_id, critical, mask, charged_at)
	SELECT a.recipient, p_tier = 0, m.mask, a.charged_at
	  FROM unnest(p_attempts) a
	 CROSS JOIN LATERAL (
		SELECT t.limits & (known.here | (SELECT coalesce(bit_or(c.bits), 0) FROM unnest(known.campaigns, known.of_campaigns) c(id, bits)
										  WHERE c.id = a.campaign)) AS mask
		  FROM notif_private.type t WHERE t.id = a.type_id OFFSET 0) m
	 CROSS JOIN LATERAL (
		SELECT bool_or(o.terminal) AS ended,
			   -- answered, or perhaps seen
			   bool_or(o.status IS NOT NULL OR o.state IN ('retry', 'unknown')) AS sent
		  FROM notif_private.outcome o WHERE o.delivery = a.delivery OFFSET 0) o
	 WHERE m.mask <> 0 AND o.ended AND NOT o.sent;
	IF FOUND THEN
		PERFORM notif_private.wake_upkeep();
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.give_back(smallint, integer, notif_private.attempt[]) IS
	'Files what rate limits get back for those attempts of a lane that were charged, whose delivery has ended, and of which no provider ever got anything: settle_returns() does it. Attempts that were not charged must not be among them.';

CREATE FUNCTION notif_private.settle_returns(p_most integer DEFAULT 1000) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	v_returns	notif_private.rate_return[];
	v_limits	bigint[];
	l			notif_private.rate_limit;
	r			record;
BEGIN
	WITH gone AS (
		DELETE FROM notif_private.rate_return x
		 WHERE x.id IN (SELECT y.id FROM notif_private.rate_return y ORDER BY y.id LIMIT p_most)
		RETURNING x.*
	)
	SELECT array_agg(g::notif_private.rate_return) INTO v_returns FROM gone g;
	IF v_returns IS NULL THEN
		RETURN 0;
	END IF;
	FOR l IN SELECT x.* FROM notif_private.rate_limit x ORDER BY x.id LOOP
		IF l.scope = 'recipient' THEN
			v_limits := v_limits || notif_private.limit_numbers(l);
			CONTINUE;
		END IF;
		FOR r IN SELECT v.charged_at, count(*)::integer AS units FROM unnest(v_returns) v
				  WHERE v.mask & (1::bigint << l.place) <> 0 GROUP BY v.charged_at ORDER BY v.charged_at LOOP
			-- as a claim does that takes from the total
			PERFORM FROM notif_private.rate_limit x WHERE x.id = l.id FOR NO KEY UPDATE;
			INSERT INTO notif_private.rate_total (limit_id, seq, state, queued_until)
			SELECT x.limit_id, x.seq + 1, notif_private.rate_give(x.state, notif_private.limit_numbers(l), r.charged_at, r.units, -1),
				   x.queued_until
			  FROM notif_private.rate_total x WHERE x.limit_id = l.id ORDER BY x.seq DESC LIMIT 1;
		END LOOP;
	END LOOP;
	-- in the order in which claims lock them
	FOR r IN SELECT v.recipient_id, v.critical, v.mask, v.charged_at, count(*)::integer AS units FROM unnest(v_returns) v
			  WHERE v_limits IS NOT NULL GROUP BY v.recipient_id, v.critical, v.mask, v.charged_at ORDER BY 1, 2, 3, 4 LOOP
		UPDATE notif_private.rate x SET state = notif_private.rate_give(x.state, v_limits, r.charged_at, r.units, r.mask)
		 WHERE x.recipient_id = r.recipient_id AND x.critical = r.critical;
	END LOOP;
	RETURN cardinality(v_returns);
END
$$;
COMMENT ON FUNCTION notif_private.settle_returns(integer) IS
	'Gives back to rate limits what is filed, at most p_most rows; returns how many.';
