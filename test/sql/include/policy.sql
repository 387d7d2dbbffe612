-- Calls of tests of policy: the workers' steps in a session, and what came of each event.
\ir try.sql
CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM t - notif.now()) * 1000000)::bigint)
$$;
CREATE FUNCTION pg_temp.route() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	more	boolean := true;
BEGIN
	WHILE more LOOP SELECT r.more INTO more FROM notif_private.worker_route_standard(2000) r; END LOOP;
END
$$;
CREATE SEQUENCE flights;
CREATE FUNCTION pg_temp.claim() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, nextval('flights')) c
$$;
-- What became of each event, by its data's name.
CREATE FUNCTION pg_temp.fates(OUT what text, OUT person text, OUT fate text, OUT in_inbox boolean) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT e.data ->> 'what', r.ref, x.fate,
		   EXISTS (SELECT FROM notif_private.inbox i WHERE i.id = notif_private.item_id(e.id, r.id))
	FROM notif_private.event e
	CROSS JOIN unnest(e.recipients) a(id)
	JOIN notif_private.recipient r ON r.id = a.id
	LEFT JOIN (SELECT f.event, f.recipient, 'in flight' AS fate FROM notif_private.flying_standard f
		  UNION ALL SELECT q.event, q.recipient, 'queued' FROM notif_private.queued_standard q
		  UNION ALL SELECT o.event, o.recipient, o.attempt || ' ' || o.state || coalesce(' ' || o.reason, '')
				|| coalesce(' to ' || date_trunc('minute', o.next_at), '') FROM notif_private.outcome o) x
		ON x.event = e.id AND x.recipient = r.id
	ORDER BY 1, 2, 3
$$;
CREATE FUNCTION pg_temp.all_agree() RETURNS boolean LANGUAGE sql AS $$
	SELECT count(*) > 0 AND bool_and(x.agrees)
	FROM notif_private.recipient r CROSS JOIN notif_private.type t CROSS JOIN LATERAL notif.explain(t.name, r.ref) x
	WHERE x.agrees IS NOT NULL
$$;
