-- The workers' steps of the standard tier in a session, one call each, for events that are
-- known by the number n in their data.
CREATE SCHEMA t;
CREATE SEQUENCE t.flights;

CREATE FUNCTION t.route() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	step	record;
BEGIN
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		EXIT WHEN NOT step.more;
	END LOOP;
END
$$;

CREATE TABLE t.flown (nth bigint, flight bigint, a notif_private.attempt);

-- Claims what there is; the numbers of what would be sent, in order.
CREATE FUNCTION t.claim(most integer DEFAULT 100) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	f	bigint := nextval('t.flights');
BEGIN
	TRUNCATE t.flown;
	INSERT INTO t.flown
	SELECT row_number() OVER (), f, (c.delivery, c.attempt, c.tries, c.ord, c.event, c.type_id, c.recipient, c.endpoint,
									 c.expires_at, c.charged_at, c.collapse, c.subject, c.campaign, NULL, c.conditional)::notif_private.attempt
	FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), most, 1, f) c WHERE c.delivery IS NOT NULL;
	RETURN (SELECT string_agg(e.data ->> 'n', ' ' ORDER BY x.nth) FROM t.flown x JOIN notif_private.event e ON e.id = (x.a).event);
END
$$;

-- Records a verdict for each of what was claimed last, in that order; status and the wait
-- that the provider has told are the same for all.
CREATE FUNCTION t.answer(verdicts text[] DEFAULT '{}', closes boolean DEFAULT true, status integer DEFAULT 0, wait_ms integer DEFAULT 0)
	RETURNS integer LANGUAGE sql AS $$
	SELECT r.retries
	FROM (SELECT array_agg(x.a ORDER BY x.nth) AS a, array_agg(x.flight ORDER BY x.nth) AS f, count(*)::integer AS n FROM t.flown x) b
	CROSS JOIN LATERAL notif_private.worker_record_standard(
		(SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1, b.a,
		(SELECT array_agg(coalesce(v, 'accepted') ORDER BY i) FROM generate_series(1, b.n) i LEFT JOIN LATERAL (SELECT verdicts[i] AS v) x ON true),
		array_fill(''::text, ARRAY[b.n]), array_fill(status, ARRAY[b.n]), array_fill(''::text, ARRAY[b.n]), array_fill(0, ARRAY[b.n]),
		array_fill(wait_ms, ARRAY[b.n]), array_fill(0::bigint, ARRAY[b.n]), b.f, CASE WHEN closes THEN ARRAY[b.f[1]] ELSE '{}' END) r
$$;

-- The newest outcome of each number.
CREATE FUNCTION t.fates(numbers int4range) RETURNS TABLE (n integer, state notif.outcome_state, reason text) LANGUAGE sql AS $$
	SELECT DISTINCT ON ((e.data ->> 'n')::integer) (e.data ->> 'n')::integer, o.state, o.reason
	FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
	WHERE (e.data ->> 'n')::integer <@ numbers
	ORDER BY (e.data ->> 'n')::integer, o.attempt DESC
$$;
