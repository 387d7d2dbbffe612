-- Events published for later: filed, released when due, cancelled, moved; on the
-- shifted clock.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
-- without the ids, which differ each time
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(try(call), '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID')
$$;
CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM t - notif.now()) * 1000000)::bigint)
$$;
-- What the router does until it has nothing to do: how many events it has released.
CREATE PROCEDURE pg_temp.route(INOUT released integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	done	record;
	tier	text;
BEGIN
	PERFORM notif_private.make_partitions();
	FOREACH tier IN ARRAY ARRAY['critical', 'standard', 'bulk'] LOOP
		LOOP
			EXECUTE format('SELECT * FROM notif_private.worker_release_%s(500)', tier) INTO done;
			COMMIT;
			released := released + done.released;
			EXECUTE format('SELECT * FROM notif_private.worker_route_%s(2000)', tier) INTO step;
			COMMIT;
			EXIT WHEN NOT step.more AND NOT done.more AND done.released = 0 AND step.due IS NULL;
		END LOOP;
	END LOOP;
END
$$;
CREATE SEQUENCE flights;
CREATE FUNCTION pg_temp.claim() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, nextval('flights')) c
$$;
-- Whether the counts agree with the rows, and nothing vanished: published for later =
-- waiting + released + ended.
CREATE FUNCTION pg_temp.sound() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ',
		(SELECT string_agg(format('%s %s: %s, counted %s', a.tier, a.state, a.tallied, a.recounted), ', ') FROM notif.audit() a WHERE NOT a.agrees),
		(SELECT string_agg(h.value, ', ') FROM notif.health() h WHERE h.check_name = 'ledger' AND NOT h.ok),
		(SELECT string_agg(e.id::text, ', ') FROM notif_private.event e
		  WHERE e.kind = 2 AND e.parent IS NULL
			AND 1 <> (SELECT count(*) FROM notif_private.appointment a WHERE a.schedule = e.id)
				   + (SELECT count(DISTINCT r.schedule) FROM notif.releases r WHERE r.schedule = e.id AND NOT EXISTS (SELECT FROM notif_private.appointment a WHERE a.schedule = e.id))
				   + (SELECT count(*) FROM notif_private.outcome o WHERE o.event = e.id)))
$$;
-- The clock of the test starts on Wednesday, 2027-01-13, whatever the day.
SELECT pg_temp.at('2027-01-13 12:00+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;

SELECT notif.define_category('orders', rate_limited => false);
SELECT notif.define_type('note', 'orders', title => 'Note {n}', ttl => '2 hours');
SELECT notif.define_type('loose', 'orders', title => 'Loose {n}', ordered => false, ttl => '2 hours');
SELECT notif.define_type('code', 'orders', tier => 'critical', title => 'Code {n}', ttl => '10 min');
SELECT notif.define_type('news', 'orders', tier => 'bulk', title => 'News {n}', ttl => '1 day');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,cyd}'::text[]) r;
SELECT count(notif.register_device(r, r, 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob,cyd}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what is refused
SELECT pg_temp.try(c) FROM (VALUES
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at => notif.now() + interval '1 h', deliver_at_local => '2027-01-14 09:00')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at => 'infinity')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at => notif.now() + interval '6 years')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at_local => '2033-01-14 09:00')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at_local => '-infinity')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', spread => '0')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', spread => '2 days')$$),
	($$SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at => notif.now() + interval '1 year', expires_in => '30 days')$$),
	($$SELECT notif.reschedule('00000000-0000-7000-8000-000000000000', notif.now())$$),
	($$SELECT notif.reschedule('00000000-0000-7000-8000-000000000000')$$),
	($$SELECT notif.reschedule('00000000-0000-7000-8000-000000000000', notif.now(), '2027-01-14 09:00')$$),
	($$SELECT notif.cancel('00000000-0000-7000-8000-000000000000')$$),
	($$SELECT notif.cancel_correlation('')$$)) v(c);
SELECT notif.cancel_correlation('nothing');
SELECT count(*) FROM notif_private.event;

-- ---- a moment: one row until then, an ordinary event when it has come
SELECT notif.publish('note', 'ada', '{"n": 1}', deliver_at => '2027-01-13 13:00+00', correlation_id => 'order-1') AS s1 \gset
CALL pg_temp.route();
SELECT type, tier, deliver_at, deliver_at_local, spread, next_at, begun, recipient, recipients, topic, correlation_id, date_trunc('minute', published_at) AS published_at, expires_in
FROM notif.scheduled;
SELECT tier, n FROM notif.state WHERE state = 'scheduled';
SELECT step, state, detail - 'by' AS detail FROM notif.trace(:'s1');
SELECT gate, verdict, detail FROM notif.explain(:'s1'::uuid, 'ada') WHERE gate IN ('audience', 'schedule', 'expiry');
SELECT pg_temp.sound();
SELECT pg_temp.at('2027-01-13 12:59:59+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-13 13:00+00');
CALL pg_temp.route();
SELECT r.schedule = :'s1' AS schedule, e.kind, e.correlation_id, e.expires_at, e.created_at >= '2027-01-13 13:00+00' AS at_its_time,
	   e.recipients = s.recipients AS same_audience, e.data = s.data AS same_data, e.published_by = s.published_by AS same_publisher
FROM notif.releases r JOIN notif_private.event e ON e.id = r.event JOIN notif_private.event s ON s.id = r.schedule;
SELECT count(*) FROM notif.scheduled;
SELECT pg_temp.claim();
SELECT step, recipient, state, detail - 'by' - 'event' - 'item' AS detail FROM notif.trace(:'s1') WHERE step <> 'in flight';
SELECT count(*), count(DISTINCT event) FROM notif.trace_correlation('order-1');
CALL pg_temp.route();
SELECT pg_temp.sound();

-- what is past is now, and so is what has no time
SELECT notif.publish('note', 'ada', '{"n": 2}', deliver_at => '2027-01-13 12:00+00') AS past \gset
SELECT kind, deliver_at, expires_at - created_at AS expires_in FROM notif_private.event WHERE id = :'past';
SELECT pg_temp.try(format('SELECT notif.reschedule(%L, notif.now() + interval ''1 day'')', :'past'));
CALL pg_temp.route();
SELECT pg_temp.claim();

-- all tiers, in order, a year ahead; a transaction of its own each, and all in one
BEGIN;
SELECT count(notif.publish(t, 'ada', '{"n": 3}', deliver_at => '2028-01-13 12:00+00')) FROM unnest('{code,note,news}'::text[]) t;
SELECT count(notif.publish('note', 'bob', jsonb_build_object('n', 100 - i), deliver_at => timestamptz '2027-01-14 12:00+00' + i * interval '1 s', collapse_key => 'k')) FROM generate_series(1, 30) i;
COMMIT;
CALL pg_temp.route();
SELECT count(*), min(next_at), max(next_at) FROM notif.scheduled;
SELECT pg_temp.at('2027-01-14 12:00:10+00');
CALL pg_temp.route();
SELECT count(*) FROM notif.scheduled WHERE recipient = 'bob';
SELECT pg_temp.claim();
SELECT pg_temp.at('2027-01-14 12:00:31+00');
CALL pg_temp.route();
SELECT pg_temp.sound();

-- ---- cancelled: before it is filed, while it waits, when it is released and not sent
SELECT notif.publish('note', 'cyd', '{"n": 4}', deliver_at => '2027-01-14 13:00+00') AS c1 \gset
SELECT notif.cancel(:'c1', why => 'wrong price'), notif.cancel(:'c1');
SELECT notif.publish('note', 'cyd', '{"n": 5}', deliver_at => '2027-01-14 13:00+00') AS c2 \gset
SELECT notif.publish('note', 'cyd', '{"n": 6}', deliver_at => '2027-01-14 13:00+00') AS c3 \gset
CALL pg_temp.route();
SELECT step, state, reason, detail ->> 'why' AS why FROM notif.trace(:'c1') WHERE step <> 'published';
SELECT notif.cancel(:'c2');
SELECT count(*) FROM notif.scheduled WHERE recipient = 'cyd';
SELECT count(*) FROM notif_private.appointment WHERE schedule = :'c2';
CALL pg_temp.route();
SELECT count(*) FROM notif_private.appointment WHERE schedule = :'c2';
SELECT pg_temp.try(format('SELECT notif.reschedule(%L, notif.now())', :'c2'));
SELECT pg_temp.at('2027-01-14 13:00+00');
CALL pg_temp.route();
SELECT notif.cancel(:'c3');
SELECT pg_temp.claim();
CALL pg_temp.route();
SELECT e.data ->> 'n' AS n, o.state, o.reason, o.recipient IS NOT NULL AS of_a_person
FROM notif_private.outcome o LEFT JOIN notif.releases r ON r.event = o.event JOIN notif_private.event e ON e.id = coalesce(r.schedule, o.event)
WHERE e.recipients = (SELECT ARRAY[id] FROM notif_private.recipient WHERE ref = 'cyd') AND o.state = 'cancelled' ORDER BY 1;
-- one that the cancel could not see: the claim finds it by its key
SELECT notif.publish('note', 'cyd', '{"n": 7}', deliver_at => '2027-01-14 13:01+00') AS c4 \gset
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 13:01+00');
CALL pg_temp.route();
SELECT notif.cancel(:'c4');
DELETE FROM notif_private.cancellation WHERE NOT schedule;
SELECT pg_temp.claim();
SELECT o.state, o.reason FROM notif_private.outcome o JOIN notif.releases r ON r.event = o.event WHERE r.schedule = :'c4';
SELECT pg_temp.sound();

-- by correlation id: what waits, what was released, what was never for later
SELECT notif.publish('note', 'cyd', '{"n": 8}', correlation_id => 'order-8') AS now8 \gset
SELECT count(notif.publish(t, 'cyd', '{"n": 8}', deliver_at => x, correlation_id => 'order-8'))
FROM unnest('{note,code,news}'::text[]) t, unnest('{2027-01-14 13:02+00, 2027-02-14 13:02+00}'::timestamptz[]) x;
SELECT notif.publish('note', 'cyd', '{"n": 9}', correlation_id => 'order-9', deliver_at => '2027-01-14 13:02+00') IS NOT NULL AS other;
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 13:02+00');
CALL pg_temp.route();
SELECT notif.cancel_correlation('order-8', why => 'returned'), notif.cancel_correlation('order-8');
CALL pg_temp.route();
SELECT count(*) FROM notif.scheduled WHERE correlation_id = 'order-8';
SELECT pg_temp.claim();
SELECT o.state, count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.correlation_id = 'order-8' GROUP BY 1;
SELECT pg_temp.sound();

-- ---- moved
SELECT notif.publish('note', 'bob', '{"n": 10}', deliver_at => '2027-01-14 14:00+00') AS m1 \gset
-- before it is filed
SELECT notif.reschedule(:'m1', '2027-01-14 15:00+00');
CALL pg_temp.route();
SELECT deliver_at, next_at FROM notif.scheduled WHERE event = :'m1';
-- while it waits, twice, later and earlier
SELECT notif.reschedule(:'m1', '2027-01-14 18:00+00');
SELECT notif.reschedule(:'m1', '2027-01-14 16:00+00');
-- its old time comes before the router has read that
SELECT pg_temp.at('2027-01-14 15:30+00');
SELECT released, more FROM notif_private.worker_release_standard(500);
CALL pg_temp.route();
SELECT deliver_at, next_at FROM notif.scheduled WHERE event = :'m1';
SELECT notif.reschedule(:'m1', '2027-01-14 15:31+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 15:31+00');
CALL pg_temp.route();
SELECT pg_temp.try(format('SELECT notif.reschedule(%L, notif.now() + interval ''1 day'')', :'m1'));
SELECT e.deliver_at, e.expires_at FROM notif.releases r JOIN notif_private.event e ON e.id = r.event WHERE r.schedule = :'m1';
SELECT step, detail ->> 'deliver_at' AS deliver_at FROM notif.trace(:'m1') WHERE step <> 'inbox';
-- of its own transaction, and with a snapshot in which it is not filed
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT notif.publish('note', 'bob', '{"n": 10}', deliver_at => '2027-01-14 17:00+00') AS m3 \gset
SELECT notif.reschedule(:'m3', '2027-01-15 17:00+00');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.try(format('SELECT notif.reschedule(%L, notif.now() + interval ''1 day'')', :'m3'));
COMMIT;
CALL pg_temp.route();
SELECT deliver_at FROM notif.scheduled WHERE event = :'m3';
SELECT notif.cancel(:'m3');
CALL pg_temp.route();
-- to what has passed: at once
SELECT notif.publish('note', 'bob', '{"n": 11}', deliver_at => '2027-01-15 14:00+00') AS m2 \gset
CALL pg_temp.route();
SELECT notif.reschedule(:'m2', '2027-01-01 15:00+00');
CALL pg_temp.route();
SELECT e.deliver_at >= '2027-01-14 15:31+00' AS now FROM notif.releases r JOIN notif_private.event e ON e.id = r.event WHERE r.schedule = :'m2';
SELECT pg_temp.claim();
SELECT pg_temp.sound();

-- ---- paused: nothing is released; what is due is, afterwards, inside its expiry
SELECT count(notif.publish('note', 'ada', '{"n": 12}', deliver_at => x)) FROM unnest('{2027-01-14 16:00+00, 2027-01-14 19:00+00}'::timestamptz[]) x;
CALL pg_temp.route();
SELECT notif.pause('tier', 'standard');
SELECT pg_temp.at('2027-01-14 19:30+00');
SELECT * FROM notif_private.worker_release_standard(500);
SELECT check_name, value ~ 'standard release' AS release FROM notif.health() WHERE check_name = 'lag';
SELECT notif.resume('tier', 'standard');
CALL pg_temp.route();
SELECT pg_temp.claim();
SELECT r.deliver_at, o.state, o.reason FROM notif.releases r LEFT JOIN notif_private.outcome o ON o.event = r.event
WHERE r.at >= '2027-01-14 19:30+00' ORDER BY 1;
SELECT pg_temp.sound();

-- ---- spread: each at a time of his own, the inbox at once
SELECT notif.publish('loose', recipients => '{ada,bob,cyd}', data => '{"n": 13}', deliver_at => '2027-01-14 20:00+00', spread => '1 hour') AS spread \gset
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 20:00+00');
CALL pg_temp.route();
SELECT count(*) FROM notif_private.inbox i JOIN notif.releases r ON r.event = i.event WHERE r.schedule = :'spread';
SELECT pg_temp.claim();
SELECT o.state, o.reason, count(*), count(DISTINCT o.next_at) AS times, bool_and(o.next_at BETWEEN '2027-01-14 20:00+00' AND '2027-01-14 21:00+00') AS within,
	   bool_and(o.expires_at = o.next_at + interval '2 hours') AS expire_two_hours_later
FROM notif_private.outcome o JOIN notif.releases r ON r.event = o.event WHERE r.schedule = :'spread' GROUP BY 1, 2;
-- what comes meanwhile does not wait for it
SELECT notif.publish('note', recipient => 'ada', data => '{"n": 14}', spread => '1 hour') AS spread2 \gset
SELECT notif.publish('note', recipient => 'ada', data => '{"n": 15}') IS NOT NULL AS after_it;
CALL pg_temp.route();
SELECT pg_temp.claim();
SELECT pg_temp.at('2027-01-14 21:01+00');
CALL pg_temp.route();
SELECT pg_temp.claim();
SELECT count(*) FROM notif_private.outcome o WHERE o.reason = 'scheduled';
SELECT pg_temp.sound();

-- ---- the same key, the same event, whatever its time
SELECT notif.publish('note', 'ada', '{"n": 16}', idempotency_key => 'k16', deliver_at => '2027-01-15 01:00+00') AS k \gset
SELECT notif.publish('note', 'ada', '{"n": 16}', idempotency_key => 'k16', deliver_at => '2027-01-15 01:01+00') = :'k' AS same;
CALL pg_temp.route();
SELECT deliver_at FROM notif.scheduled WHERE event = :'k';

-- ---- the clock was ahead, and is set right: what is filed then is not lost behind it
SELECT pg_temp.at('2027-01-15 02:00+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 22:00+00');
SELECT notif.publish('note', 'ada', '{"n": 17}', deliver_at => '2027-01-14 22:30+00') AS back \gset
CALL pg_temp.route();
SELECT next_at FROM notif.scheduled WHERE event = :'back';
SELECT pg_temp.at('2027-01-14 22:30+00');
CALL pg_temp.route();
SELECT count(*) FROM notif.releases WHERE schedule = :'back';

-- ---- a year later the partition of the event is gone
DELETE FROM notif_private.event WHERE kind = 2;
SELECT type, tier, next_at, recipient FROM notif.scheduled ORDER BY tier;
SELECT event AS old1 FROM notif.scheduled WHERE tier = 'bulk' \gset
SELECT event AS old2 FROM notif.scheduled WHERE tier = 'standard' \gset
SELECT notif.cancel(:'old1');
SELECT notif.reschedule(:'old2', '2028-02-01 12:00+00');
CALL pg_temp.route();
SELECT step, detail ->> 'deliver_at' AS at FROM notif.trace(:'old2');
SELECT gate, verdict FROM notif.explain(:'old2'::uuid, 'ada') WHERE gate IN ('audience', 'schedule');
SELECT pg_temp.at('2028-01-13 12:00+00');
CALL pg_temp.route();
SELECT type, tier, next_at, recipient FROM notif.scheduled;
-- what was released knows what it was released for
SELECT step FROM notif.trace(:'m1') WHERE step <> 'in flight';
SELECT notif.cancel(:'m1');
SELECT pg_temp.try(format('SELECT notif.reschedule(%L, notif.now())', :'m1'));
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- one that fails alone: given up on, the others go
SELECT count(notif.publish('note', 'ada', jsonb_build_object('n', n), deliver_at => '2028-01-13 13:00+00')) FROM generate_series(18, 20) n;
CALL pg_temp.route();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = 'refused'; END $$;
DO $$
DECLARE
	part	regclass;
BEGIN
	FOR part IN SELECT child_oid FROM notif_private.range_partition WHERE parent = 'event' LOOP
		EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.data @> ''{"n": 19}'') EXECUTE FUNCTION refuse()', part);
	END LOOP;
END
$$;
SELECT pg_temp.at('2028-01-13 13:00+00');
SELECT pg_temp.try('SELECT released FROM notif_private.worker_release_standard(500)');
SELECT released, more FROM notif_private.worker_release_standard(500, true);
SELECT released, more FROM notif_private.worker_release_standard(500, true);
SELECT released, more FROM notif_private.worker_release_standard(500, true);
CALL pg_temp.route();
SELECT o.state, o.reason, e.data FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE o.reason LIKE 'quarantined%';
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;
SELECT notif_private.shift_clock(-notif_private.clock_offset());

-- upkeep removes tombstones of events that are gone, and not those of what waits
SELECT count(*) > 0 AS there FROM notif_private.cancellation WHERE schedule;
SELECT count(*) AS before FROM notif_private.cancellation WHERE schedule \gset
SELECT did FROM notif_private.worker_upkeep('30 days', 15);
SELECT count(*) - :before AS lost FROM notif_private.cancellation WHERE schedule;
