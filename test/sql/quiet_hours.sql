-- Quiet hours: windows of people and periods for everybody, judged at the claim on
-- the shifted clock.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM t - notif.now()) * 1000000)::bigint)
$$;
-- The clock of the test starts on Wednesday, 2027-01-13, whatever the day.
SELECT pg_temp.at('2027-01-13 12:00+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;

SELECT notif.define_category('social');
SELECT notif.define_category('marketing');
SELECT notif.define_category('security', mandatory => true);
SELECT notif.define_category('chat', quiet_hours => 'bypass');
SELECT name, quiet_hours FROM notif.categories ORDER BY name;
SELECT notif.define_type('like', 'social', title => 'like');
SELECT notif.define_type('brief', 'social', title => 'brief', ttl => '1 hour');
SELECT notif.define_type('offer', 'marketing', tier => 'bulk', title => 'offer', ordered => false, ttl => '3 days');
SELECT notif.define_type('alarm', 'security', title => 'alarm');
SELECT notif.define_type('word', 'chat', title => 'word');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT notif.upsert_recipient('ada', tz => 'Europe/Berlin') > 0, notif.upsert_recipient('bob', tz => 'America/New_York') > 0,
	   notif.upsert_recipient('cyd') > 0;
SELECT count(notif.register_device(r, r, 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob,cyd}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.define_category(''x'', quiet_hours => ''sometimes'')'),
	('SELECT notif.set_quiet_hours(''nobody'', ''22:00'', ''08:00'')'),
	('SELECT notif.set_quiet_hours(''cyd'', ''22:00'', ''08:00'')'),
	('SELECT notif.set_quiet_hours(''cyd'', ''22:00'', ''08:00'', tz => ''Mars/Olympus'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''22:00'', ''22:00'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''24:00'', ''08:00'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''22:00'', NULL)'),
	('SELECT notif.set_quiet_hours(''ada'', ''22:00:30'', ''08:00'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''22:00'', ''08:00'', days => ''{noday}'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''22:00'', ''08:00'', days => ''{}'')'),
	('SELECT notif.set_quiet_hours(''ada'', ''00:00'', ''24:00'')'),
	('SELECT notif.define_quiet_period(''Night'', ''21:00'', ''09:00'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''21:00'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''09:00'', categories => ''{nothing}'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''09:00'', categories => ''{security}'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''09:00'', days => ''{sat}'', dates => ''{2027-01-01}'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''09:00'', dates => ''{}'')'),
	('SELECT notif.define_quiet_period(''night'', ''21:00'', ''09:00'', tz => ''Mars/Olympus'')'),
	('SELECT notif.define_quiet_period(''night'', ''00:00'', ''24:00'')'),
	('SELECT notif.drop_quiet_period(''night'')')) v(c);
SELECT count(*) FROM notif_private.quiet_hours;

-- ---- windows
SELECT notif.set_quiet_hours('ada', '22:00', '08:00');
SELECT notif.set_quiet_hours('ada', '23:30', '10:00', days => '{fri,sat}');
SELECT notif.set_quiet_hours('ada', NULL, NULL, days => '{mon}');
SELECT * FROM notif.quiet_hours('ada');
SELECT quiet FROM notif_private.profile;
SELECT t AS at, notif_private.quiet_until(p.quiet, NULL, 'Europe/Berlin', t AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'Europe/Berlin' AS until
FROM notif_private.profile p, unnest('{2027-01-13 21:59:57, 2027-01-13 21:59:58, 2027-01-14 07:59:59.9, 2027-01-14 08:00,
	2027-01-15 23:00, 2027-01-15 23:30, 2027-01-16 09:00, 2027-01-18 00:00, 2027-01-18 23:00, 2027-01-19 03:00}'::timestamp[]) t;
-- gap: 2027-03-28 02:00 to 03:00 is not; overlap: 2027-10-31 02:00 to 03:00 is twice
SELECT e.says, t AS at, notif_private.quiet_until(array_cat(array_fill(-1::smallint, ARRAY[12]), e.edges), NULL, 'Europe/Berlin', t) AS until
FROM (VALUES ('01:00 to 02:30', '{60,150}'::smallint[], '{2027-03-28 00:30+00, 2027-03-28 01:00+00, 2027-10-31 00:29+00, 2027-10-31 01:29+00, 2027-10-31 01:30+00}'::timestamptz[]),
			 ('02:30 to 04:00', '{150,240}', '{2027-03-28 00:59:57+00, 2027-03-28 01:00+00, 2027-10-31 00:29+00, 2027-10-31 00:30+00, 2027-10-31 02:59+00}'),
			 ('02:10 to 02:50', '{130,170}', '{2027-03-28 00:59:58+00, 2027-03-28 01:00+00, 2027-10-31 00:10+00, 2027-10-31 01:05+00}')) e(says, edges, times)
CROSS JOIN unnest(e.times) t;

-- ---- at the claim
CREATE FUNCTION pg_temp.route() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	more	boolean := true;
BEGIN
	PERFORM notif_private.make_partitions();
	WHILE more LOOP SELECT r.more INTO more FROM notif_private.worker_route_standard(2000) r; END LOOP;
	more := true;
	WHILE more LOOP SELECT r.more INTO more FROM notif_private.worker_route_bulk(2000) r; END LOOP;
END
$$;
CREATE FUNCTION pg_temp.claim(OUT claimed bigint) LANGUAGE plpgsql AS $$
DECLARE
	lane	integer := (SELECT id FROM notif_private.route);
BEGIN
	claimed := (SELECT count(c.delivery) FROM notif_private.worker_claim_standard(lane, 1000, 1, nextval('flights')) c);
	claimed := claimed + (SELECT count(c.delivery) FROM notif_private.worker_claim_bulk(lane, 1000, 1, nextval('flights')) c);
	claimed := claimed + (SELECT count(c.delivery) FROM notif_private.worker_claim_standard(lane, 1000, 1, nextval('flights')) c);
	claimed := claimed + (SELECT count(c.delivery) FROM notif_private.worker_claim_bulk(lane, 1000, 1, nextval('flights')) c);
END
$$;
CREATE SEQUENCE flights;
-- What became of each event; the due time only by what it has to keep.
CREATE FUNCTION pg_temp.fates(OUT what text, OUT person text, OUT fate text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT e.data ->> 'what', r.ref, x.fate
	FROM notif_private.event e CROSS JOIN unnest(e.recipients) a(id) JOIN notif_private.recipient r ON r.id = a.id
	LEFT JOIN (SELECT f.event, f.recipient, 'in flight' AS fate FROM notif_private.flying_standard f
		  UNION ALL SELECT f.event, f.recipient, 'in flight' FROM notif_private.flying_bulk f
		  UNION ALL SELECT q.event, q.recipient, 'queued' FROM notif_private.queued_standard q
		  UNION ALL SELECT q.event, q.recipient, 'queued' FROM notif_private.queued_bulk q
		  UNION ALL SELECT o.event, o.recipient, o.attempt || ' ' || o.state || coalesce(' ' || o.reason, '')
					|| coalesce(' to ' || date_trunc('minute', o.next_at), '') FROM notif_private.outcome o WHERE o.tier <> 2
		  UNION ALL SELECT o.event, o.recipient, o.attempt || ' ' || o.state || coalesce(' ' || o.reason, '')
					|| coalesce(' to ' || date_trunc('hour', o.next_at), '') FROM notif_private.outcome o WHERE o.tier = 2) x
		ON x.event = e.id AND x.recipient = r.id
	ORDER BY 1, 2, 3
$$;
SELECT notif.set_quiet_hours('bob', '22:00', '07:00', tz => 'America/New_York');
-- 22:30 in Berlin, 16:30 in New York
SELECT pg_temp.at('2027-01-13 21:30+00');
SELECT count(notif.publish(t, recipients => '{ada,bob,cyd}', data => jsonb_build_object('what', '1 ' || t)))
FROM unnest('{like,brief,offer,alarm,word}'::text[]) t;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates();
-- what bypasses does not wait behind what has been put off; the rest does, in order
SELECT notif.publish(t, 'ada', jsonb_build_object('what', '2 ' || t)) IS NOT NULL FROM unnest('{like,alarm}'::text[]) t;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '2%';
SELECT count(*) = 2 AND count(DISTINCT due_at) = 1 AS in_order FROM notif_private.scheduled_standard;
SELECT min(o.next_at) >= '2027-01-14 07:00:01+00' AND max(o.next_at) <= '2027-01-14 07:00:10+00' AS seconds
FROM notif_private.outcome o WHERE o.reason = 'quiet_hours' AND o.state = 'deferred' AND o.tier = 1;
SELECT count(*), min(o.next_at) >= '2027-01-14 07:30+00' AND max(o.next_at) <= '2027-01-14 08:00+00' AS half_an_hour_or_more
FROM notif_private.outcome o WHERE o.reason = 'quiet_hours' AND o.state = 'deferred' AND o.tier = 2;
SELECT gate, verdict, agrees FROM notif.explain('like', 'ada') WHERE gate IN ('quiet hours', 'profile');
SELECT gate, verdict, agrees FROM notif.explain('alarm', 'ada') WHERE gate IN ('quiet hours', 'profile');
SELECT detail FROM notif.explain('like', 'ada') WHERE gate = 'quiet hours';
-- not before the end
SELECT pg_temp.at('2027-01-14 07:00+00');
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT pg_temp.at('2027-01-14 07:00:11+00');
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT pg_temp.at('2027-01-14 08:00:01+00');
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE person = 'ada' AND fate = 'in flight';

-- ---- another zone while something waits: it is judged anew
SELECT pg_temp.at('2027-01-14 21:30+00');
SELECT notif.publish('like', 'ada', '{"what": "3 like"}') IS NOT NULL;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT notif.upsert_recipient('ada', tz => 'America/Los_Angeles') > 0;
SELECT pg_temp.at('2027-01-15 07:00:11+00');
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '3%';
SELECT pg_temp.at('2027-01-15 16:00:11+00');
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '3%';

-- ---- periods for everybody
SELECT notif.define_quiet_period('evening', '21:00', '09:00', categories => '{marketing}');
SELECT notif.define_quiet_period('weekend', '00:00', '24:00', categories => '{marketing}', days => '{sun,sat}', tz => 'Asia/Tokyo');
SELECT notif.define_quiet_period('mourning', '00:00', '24:00', dates => '{2027-01-20,2027-01-19}');
SELECT * FROM notif.quiet_periods ORDER BY name;
SELECT notif.set_quiet_hours('bob', NULL, NULL);
SELECT * FROM notif.quiet_hours('bob');
-- Friday, 20:30 in New York, and Saturday in Tokyo
SELECT pg_temp.at('2027-01-16 01:30+00');
SELECT notif.publish('offer', recipients => '{bob,cyd}', data => '{"what": "4 offer"}') IS NOT NULL;
SELECT notif.publish('like', recipients => '{bob,cyd}', data => '{"what": "4 like"}') IS NOT NULL;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '4%';
-- Tuesday the 19th: nothing but what bypasses
SELECT pg_temp.at('2027-01-19 17:00+00');
SELECT notif.publish(t, 'bob', jsonb_build_object('what', '5 ' || t)) IS NOT NULL FROM unnest('{like,alarm,word}'::text[]) t;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '5%';
SELECT verdict, detail -> 'periods' AS periods FROM notif.explain('like', 'bob') WHERE gate = 'quiet hours';
SELECT notif.drop_quiet_period(x) FROM unnest('{evening,weekend,mourning}'::text[]) x;
SELECT verdict, detail -> 'periods' AS periods FROM notif.explain('like', 'bob') WHERE gate = 'quiet hours';
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- what was sent when, by people's clocks
INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, event, type_id, recipient, endpoint, tries, at)
SELECT f.delivery, 100 + n, 'standard', 1, 'accepted', true, f.event, f.type_id, f.recipient, f.endpoint, 1, t
FROM (SELECT f.* FROM notif_private.flying_standard f JOIN notif_private.recipient r ON r.id = f.recipient WHERE r.ref = 'bob' LIMIT 1) f
CROSS JOIN unnest('{2027-01-14 05:10+00, 2027-01-14 05:50+00, 2027-07-14 05:10+00}'::timestamptz[]) WITH ORDINALITY u(t, n);
SELECT tier, local_hour, sends FROM notif.sends_by_local_hour ORDER BY 1, 2;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
