-- Rows that always raise in the record get the bare verdict, whatever word the
-- dispatcher has for it; by the functions that the workers call.
SET client_min_messages = error;

SELECT notif.define_category('c', rate_limited => false);
SELECT notif.define_type('note', 'c', title => 'n {n}');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, 6) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, 6) i;
SELECT count(notif.publish('note', 'p' || i, jsonb_build_object('n', i))) FROM generate_series(1, 6) i;
SELECT attempts FROM notif_private.worker_route_standard(2000);
CREATE TABLE flown AS
SELECT row_number() OVER () AS nth, (c.delivery, c.attempt, c.tries, c.ord, c.event, c.type_id, c.recipient, c.endpoint, c.expires_at,
									 c.charged_at, c.collapse, c.subject, c.campaign, NULL, c.conditional)::notif_private.attempt AS a
FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 100, 1, 1) c;

GRANT SELECT ON flown TO notif_owner;
-- All but the first raise when their outcome is written as it should be.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.delivery IN (SELECT (f.a).delivery FROM public.flown f WHERE f.nth > 1) AND NEW.reason IS DISTINCT FROM 'quarantined:22000' THEN
		RAISE SQLSTATE '22000';
	END IF;
	RETURN NEW;
END
$$;
CREATE FUNCTION refuse_on(function text, tables regclass[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	part	regclass;
BEGIN
	FOREACH part IN ARRAY tables LOOP
		EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION %s()', part, function);
	END LOOP;
END
$$;
CREATE FUNCTION leaves(parent regclass) RETURNS regclass[] LANGUAGE sql AS $$
	SELECT array_agg(t.relid) FROM pg_partition_tree(parent) t WHERE t.isleaf
$$;
SELECT refuse_on('refuse', leaves('notif_private.outcome'));

SELECT r.retries
FROM (SELECT array_agg(f.a ORDER BY f.nth) AS a, count(*)::integer AS n FROM flown f) b
CROSS JOIN LATERAL notif_private.worker_record_carefully_standard(
	(SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1, b.a,
	'{accepted,accepted,unknown,unknown_free,superseded,retry}', array_fill(''::text, ARRAY[b.n]), array_fill(0, ARRAY[b.n]),
	array_fill(''::text, ARRAY[b.n]), array_fill(0, ARRAY[b.n]), array_fill(0, ARRAY[b.n]), array_fill(0::bigint, ARRAY[b.n]),
	array_fill(1::bigint, ARRAY[b.n]), '{1}') r;
SELECT f.nth, o.state, o.terminal, o.reason FROM flown f JOIN notif_private.outcome o ON o.delivery = (f.a).delivery ORDER BY 1;
SELECT count(*) AS wrong FROM notif.audit() WHERE NOT agrees;

-- ---- commands and what is for later --------------------------------------------------
-- One that always raises is given up on, and what follows it is done.

SELECT count(notif.redeliver((f.a).delivery)) FROM flown f WHERE f.nth IN (3, 4);
SELECT notif.publish('note', 'p6', '{"n": 7}', deliver_at => notif.now() + interval '1 hour') IS NOT NULL AS filed;
SELECT notif.publish('note', 'p6', '{"n": 8}', deliver_at => notif.now() + interval '2 hours') IS NOT NULL AS filed;
SELECT notif.publish('note', 'p6', '{"n": 9}') IS NOT NULL AS published;
CREATE FUNCTION refuse_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	-- of those that are alike one
	IF TG_TABLE_NAME ~ '^outbox' THEN
		IF NEW.attempt > 1 AND NEW.delivery = (SELECT (f.a).delivery FROM public.flown f WHERE f.nth = 3) THEN
			RAISE SQLSTATE '22000';
		END IF;
	ELSIF NEW.due_at < notif.now() + interval '90 minutes' THEN
		RAISE SQLSTATE '22000';
	END IF;
	RETURN NEW;
END
$$;
SELECT refuse_on('refuse_command', leaves('notif_private.outbox_standard') || 'notif_private.appointment_standard'::regclass);
CREATE FUNCTION route(careful boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r	record;
BEGIN
	SELECT * INTO r FROM notif_private.worker_route_standard(2000, NULL, careful);
	RETURN r.events || ' events, ' || r.attempts || ' attempts, ' || CASE WHEN r.due IS NULL THEN 'nothing' ELSE 'something' END || ' due later';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT route(false);
SELECT route(true);
SELECT e.kind, o.state, o.reason, count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
 WHERE o.delivery = o.event GROUP BY 1, 2, 3 ORDER BY 1;
SELECT (q.attempt > 1) AS again, count(*) FROM notif_private.queued_standard q GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM notif.scheduled;
-- one alone, whose error is about its data
DELETE FROM notif_private.idempotency;
SELECT notif.redeliver((f.a).delivery) IS NOT NULL AS asked FROM flown f WHERE f.nth = 3;
SELECT route(true);
SELECT e.kind, o.state, o.reason, count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
 WHERE o.delivery = o.event GROUP BY 1, 2, 3 ORDER BY 1;
SELECT count(*) AS wrong FROM notif.audit() WHERE NOT agrees;
