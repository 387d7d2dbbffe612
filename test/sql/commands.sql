-- Cancelling events, sending dead deliveries again.
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

SELECT notif.publish('order.shipped', recipients => '{ada,bob}', data => '{"order": 1}') AS event \gset
SELECT route();
SELECT claim(1);
SELECT answer(1, '{message_bad,accepted,retry}', '{PayloadEmpty,"",ServiceUnavailable}', '{400,200,503}');
SELECT recipient, state, terminal, reason, attempts, tries, provider, status FROM notif.deliveries ORDER BY recipient, state;
SELECT recipient, type, tier, state, reason FROM notif.dead_letters;
-- one command, however often it is asked for
SELECT delivery AS dead FROM notif.dead_letters \gset
SELECT notif.redeliver(:'dead') AS command \gset
SELECT notif.redeliver(:'dead') = :'command' AS same_command;
SELECT notif.redeliver_event(:'event');
SELECT count(*), bool_and(published_by = session_user) AS by_me, bool_and(expires_at > created_at) AS expires
FROM notif_private.event WHERE kind = 1;
SELECT route();
SELECT claim(2);
SELECT delivery = :'dead' AS same_delivery, attempt, tries FROM flown;
-- while it flies, the newest outcome is still the old one; nothing is filed twice
SELECT notif.redeliver(:'dead') = :'command' AS same_command;
SELECT answer(2, '{message_bad}', '{PayloadEmpty}', '{400}');
-- dead again: a new generation may follow
SELECT notif.redeliver(:'dead') <> :'command' AS another_command;
SELECT route();
SELECT claim(3);
SELECT answer(3, '{accepted}', '{""}', '{200}');
SELECT count(*) AS dead_letters FROM notif.dead_letters;
SELECT replace(try(format('SELECT notif.redeliver(%L)', :'dead')), :'dead', 'ID');
SELECT attempt, state, reason FROM notif_private.outcome WHERE delivery = :'dead' ORDER BY attempt;
-- one that is to be tried again anyway is not dead
SELECT replace(try(format('SELECT notif.redeliver(%L)', delivery)), delivery::text, 'ID') FROM notif.deliveries WHERE state = 'retry';
SELECT notif.redeliver_event(:'event');

-- without a route there is nowhere to send it
UPDATE notif_private.app SET route_id = NULL WHERE platform = 'ipados';
SELECT notif.publish('order.shipped', recipient => 'ada', data => '{"order": 2}') AS routeless \gset
SELECT route();
SELECT state, reason FROM notif.dead_letters;
SELECT replace(try(format('SELECT notif.redeliver(%L)', delivery)), delivery::text, 'ID') FROM notif.dead_letters;
SELECT notif.redeliver_event(:'routeless');
SELECT notif.define_route('push', providers => '{apple}');
SELECT notif.redeliver_event(:'routeless');
SELECT route();

-- cancelling
SELECT notif.publish('order.shipped', recipient => 'bob', data => '{"order": 3}') AS unwanted \gset
SELECT route();
SELECT notif.cancel(:'unwanted'), notif.cancel(:'unwanted');
SELECT claim(4);
SELECT count(*) FROM flown WHERE event = :'unwanted';
SELECT state, reason FROM notif.deliveries WHERE event = :'unwanted';
SELECT step, recipient, state FROM notif.trace(:'unwanted') ORDER BY step;
-- the numbers add up after all of it
SELECT tier, sum(n) FILTER (WHERE state = 'expanded') = sum(n) FILTER (WHERE state <> 'expanded') AS balanced
FROM notif.state GROUP BY tier ORDER BY tier;

SELECT try(c) FROM (VALUES
	('SELECT notif.cancel(''00000000-0000-7000-8000-000000000000'')'),
	('SELECT notif.cancel(NULL)'),
	('SELECT notif.redeliver(''00000000-0000-7000-8000-000000000000'')'),
	('SELECT notif.redeliver(NULL)'),
	('SELECT notif.redeliver_event(''00000000-0000-7000-8000-000000000000'')'),
	('SELECT notif.redeliver_event(NULL)')) v(c);
-- a command is no event
SELECT try(format('SELECT notif.cancel(%L)', :'command')) LIKE '42704: event % does not exist' AS refused;
