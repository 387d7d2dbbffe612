-- Traces, views and health.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET client_min_messages = warning;
SELECT notif.define_category('transactional');
SELECT notif.define_type('order.shipped', 'transactional', title => 'On its way', body => 'Order {order} for {recipient.name}');
SELECT notif.define_type('offer', 'transactional', tier => 'bulk', title => 'Offer {n}', channels => '{inbox}');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'file:/etc/notif/apns.p8');
SELECT notif.define_route('push', providers => '{apple}');
SELECT notif.upsert_recipient('ada', attributes => '{"name": "Ada"}'), notif.upsert_recipient('bob', attributes => '{"name": "Bob"}');
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32)), notif.register_device('ada', 'tablet', 'ipados', repeat('a2', 32)),
	notif.register_device('bob', 'phone', 'ios', repeat('b1', 32));
-- What the workers do, one step at a time.
CREATE FUNCTION route() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	n		bigint := 0;
BEGIN
	FOR i IN 1 .. 20 LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(1000);
		n := n + step.attempts;
		EXIT WHEN NOT step.more;
	END LOOP;
	FOR i IN 1 .. 20 LOOP
		SELECT * INTO step FROM notif_private.worker_route_bulk(1000);
		n := n + step.attempts;
		EXIT WHEN NOT step.more;
	END LOOP;
	RETURN n;
END
$$;

-- Claims what waits and answers it as the provider would: verdicts in the order of
-- recipient and device.
CREATE FUNCTION claim(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	DROP TABLE IF EXISTS flown;
	CREATE TEMP TABLE flown AS
		SELECT c.*, e.device_id FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 100, 7, n) c
		JOIN notif_private.endpoint e ON e.id = c.endpoint WHERE c.delivery IS NOT NULL;
	RETURN (SELECT count(*) FROM flown);
END
$$;
CREATE FUNCTION answer(n bigint, verdicts text[], reasons text[], statuses integer[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	zero	integer[] := array_fill(0, ARRAY[cardinality(verdicts)]);
BEGIN
	RETURN (SELECT r.retries FROM notif_private.worker_record_standard(
		(SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 7,
		(SELECT array_agg((f.delivery, f.attempt, f.tries, f.ord, f.event, f.type_id, f.recipient, f.endpoint, f.expires_at,
						   notif.now(), NULL, NULL, NULL, NULL, NULL)::notif_private.attempt ORDER BY f.ref, f.device_id) FROM flown f),
		verdicts, reasons, statuses, array_fill(''::text, ARRAY[cardinality(verdicts)]), zero,
		-- what is to be tried again is so in an hour
		array_fill(3600, ARRAY[cardinality(verdicts)]), zero::bigint[],
		array_fill(n, ARRAY[cardinality(verdicts)]), ARRAY[n]) r);
END
$$;

SELECT notif.publish('order.shipped', recipients => '{ada,bob}', data => '{"order": 1}', correlation_id => 'order-1') AS event \gset
SELECT step, recipient, detail - 'expires_at' AS detail FROM notif.trace(:'event');
SELECT route();
SELECT step, recipient, endpoint, attempt, state, at IS NULL AS to_come FROM notif.trace(:'event');
SELECT tier, route, waiting, scheduled, in_flight FROM notif.queue ORDER BY tier, route;
SELECT * FROM notif.state WHERE n <> 0 ORDER BY tier, state;
SELECT claim(1);
SELECT step, recipient, endpoint, attempt, state, at IS NULL AS to_come FROM notif.trace(:'event');
SELECT * FROM notif.state WHERE n <> 0 ORDER BY tier, state;
SELECT tier, route, waiting, scheduled, in_flight FROM notif.queue WHERE tier = 'standard';
SELECT answer(1, '{accepted,endpoint_gone,retry}', '{"",Unregistered,ServiceUnavailable}', '{200,410,503}');
-- one row per attempt, the retry to come, and the device that died
SELECT step, recipient, endpoint, attempt, state, reason, detail ->> 'provider' AS provider, detail ->> 'status' AS status,
	   detail ->> 'due_at' IS NOT NULL AS due FROM notif.trace(:'event');
SELECT tier, route, waiting, scheduled, in_flight, next_due > now() AS due_later FROM notif.queue WHERE tier = 'standard';
SELECT recipient, device_id, token, state, reason FROM notif.endpoints ORDER BY 1, 2;
SELECT name, open, in_flight, accepted, failed, expired, suppressed FROM notif.providers;
SELECT notif.mark_all_read('ada');
SELECT notif.cancel(:'event');
-- of one recipient only
SELECT step, recipient, state FROM notif.trace(:'event', 'ada');
-- in the order in which it happened
SELECT bool_and(at >= before) AS in_order
FROM (SELECT at, lag(at) OVER (ROWS UNBOUNDED PRECEDING) AS before FROM notif.trace(:'event')) t WHERE at IS NOT NULL AND before IS NOT NULL;
-- a correlation id may have several events
SELECT notif.publish('offer', recipient => 'bob', data => '{"n": 1}', correlation_id => 'order-1') AS other \gset
SELECT event = :'other' AS other, step, recipient, state FROM notif.trace_correlation('order-1');
SELECT count(*) FROM notif.trace_correlation('no such id');
-- an event without an audience has a life, too
SELECT notif.create_topic('empty');
SELECT notif.publish('offer', topic => 'empty', data => '{"n": 1}') AS nobody \gset
SELECT step, detail ->> 'topic' AS topic FROM notif.trace(:'nobody');
SELECT try(c) FROM (VALUES
	('SELECT count(*) FROM notif.trace(''00000000-0000-7000-8000-000000000000'')'),
	('SELECT count(*) FROM notif.trace(NULL)'),
	('SELECT count(*) FROM notif.trace(NULL, ''eve'')')) v(c);

-- health: here no worker runs
SELECT check_name, ok, CASE WHEN check_name NOT IN ('version', 'partitions', 'lag') THEN value END AS value FROM notif.health();
SELECT count(*) AS without_hint FROM notif.health() WHERE NOT ok AND hint IS NULL;
SELECT notif.pause('tier', 'bulk');
UPDATE notif_private.endpoint SET state = 'quarantined';
INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, state, registered_at)
	SELECT 1, 1, 'push', 'q' || i, 'q' || i, 'quarantined', now() FROM generate_series(1, 20) i;
UPDATE notif_private.app SET route_id = NULL WHERE platform = 'ipados';
SET client_min_messages = error;
CREATE PUBLICATION regress_notif FOR TABLE notif_private.recipient;
INSERT INTO notif_private.tally_bulk VALUES (0, 0, 'expanded', 3);
INSERT INTO notif_private.instance (incarnation, identity, waiting) VALUES (1, notif_private.identity(), true);
SELECT check_name, value FROM notif.health()
WHERE NOT ok AND check_name IN ('switches', 'routes', 'quarantine', 'publications', 'ledger', 'instance') ORDER BY 1;
