-- What people want hourly, daily or weekly, at their own clock's time: preferences,
-- what they do to what waits, and when it is told.
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
-- What the router does until it has nothing to do; returns how many digests it told.
CREATE PROCEDURE pg_temp.work(INOUT told integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	again	boolean := true;
BEGIN
	told := 0;
	WHILE again LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		again := step.more;
		COMMIT;
		SELECT * INTO step FROM notif_private.worker_digest_standard('-infinity');
		told := told + step.closed;
		again := again OR step.closed > 0 OR step.more;
		COMMIT;
	END LOOP;
END
$$;

-- Digests as they are told, with the local time of it.
CREATE VIEW told AS
	SELECT l.recipient, l.kind, l.key, l.count, l.told, t.name AS type,
		   to_char(l.closed_at AT TIME ZONE coalesce(r.tz, 'UTC'), 'Dy YYYY-MM-DD HH24:MI') AS local,
		   notif_private.render_text(t.title, e.data, l.recipient, NULL, '{}', e.id, t.name) AS title,
		   (SELECT string_agg(x.fate, ', ' ORDER BY x.fate)
			FROM (SELECT 'queued' AS fate FROM notif_private.queued_standard q WHERE q.event = e.id
				  UNION ALL SELECT o.state || coalesce(':' || o.reason, '') FROM notif_private.outcome o WHERE o.event = e.id) x) AS fate
	FROM notif.digest_log l
	JOIN notif_private.recipient r ON r.ref = l.recipient
	LEFT JOIN notif_private.event e ON e.id = l.event
	LEFT JOIN notif_private.type t ON t.id = e.type_id
	ORDER BY l.closed_at DESC, l.recipient;
CREATE VIEW waits AS
	SELECT d.recipient, d.kind, d.category, d.count, to_char(d.due_at AT TIME ZONE coalesce(r.tz, 'UTC'), 'Dy YYYY-MM-DD HH24:MI') AS due
	FROM notif.digests d JOIN notif_private.recipient r ON r.ref = d.recipient ORDER BY d.recipient, d.category;
-- As the router: sleeps from one digest to the next, until that time.
CREATE PROCEDURE pg_temp.until(t timestamptz, INOUT told integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	next	timestamptz;
	n		integer;
BEGIN
	CALL pg_temp.work(told);
	LOOP
		next := (SELECT min(check_at) FROM notif_private.digest);
		EXIT WHEN next IS NULL OR next > t;
		PERFORM pg_temp.at(next + interval '1 second');
		CALL pg_temp.work(n);
		told := told + n;
	END LOOP;
	PERFORM pg_temp.at(t);
END
$$;
CREATE FUNCTION pg_temp.all_agree() RETURNS boolean LANGUAGE sql AS $$
	SELECT count(*) > 0 AND bool_and(x.agrees)
	FROM notif_private.recipient r CROSS JOIN notif_private.type t CROSS JOIN LATERAL notif.explain(t.name, r.ref) x
	WHERE x.agrees IS NOT NULL
$$;

-- The clock of the test starts on Wednesday, 2027-01-13, whatever the day.
SELECT pg_temp.at('2027-01-13 12:10+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;
SELECT notif.define_category('social');
SELECT notif.define_category('news', default_enabled => false);
SELECT notif.define_category('security', mandatory => true);
SELECT notif.define_type('like', 'social', title => 'A like of {by}');
SELECT notif.define_type('follow', 'social', title => '{by} follows you');
SELECT notif.define_type('summary', 'social', title => '{count} in {key}: {items.0.notif.title}, ...');
SELECT notif.define_type('chat', 'social', title => '{text}');
SELECT notif.define_digest('chat', wait => '1 min', title => '{count} messages');
SELECT notif.define_type('article', 'news', title => 'News');
SELECT notif.define_type('edition', 'news', title => '{count} articles');
SELECT notif.define_type('alarm', 'security', title => 'Alarm');
SELECT notif.define_type('code', 'social', tier => 'critical', title => 'Code');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT notif.upsert_recipient('ada', tz => 'Europe/Berlin') > 0, notif.upsert_recipient('bob', tz => 'America/New_York') > 0,
	   notif.upsert_recipient('cyd') > 0, notif.upsert_recipient('dee', tz => 'Asia/Kathmandu') > 0;
SELECT count(notif.register_device(r, r, 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob,cyd,dee}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''daily'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''security'', frequency => ''daily'')'),
	('SELECT notif.define_frequencies(''social'', ''nothing'')'),
	('SELECT notif.define_frequencies(''nothing'', ''summary'')'),
	('SELECT notif.define_frequencies(''news'', ''summary'')'),
	('SELECT notif.define_frequencies(''social'', ''like'')'),
	('SELECT notif.define_frequencies(''social'', ''chat'')'),
	('SELECT notif.define_frequencies(''social'', ''code'')'),
	('SELECT notif.define_frequencies(''security'', ''alarm'')'),
	('SELECT notif.define_frequencies(''social'', ''summary'', items => 0)'),
	('SELECT notif.drop_frequencies(''social'')')) v(c);
SELECT notif.define_frequencies('social', 'summary'), notif.define_frequencies('news', 'edition');
SELECT * FROM notif.frequencies ORDER BY category;
SELECT try(c) FROM (VALUES
	('SELECT notif.define_digest(''summary'', ''1 min'', title => ''x'')'),
	('SELECT notif.set_preference(''ada'', ''inbox'', ''social'', frequency => ''daily'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', false, ''daily'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''monthly'')'),
	('SELECT notif.set_digest_time(''nobody'')'),
	('SELECT notif.set_digest_time(''ada'', ''24:00'')'),
	('SELECT notif.set_digest_time(''ada'', ''08:00:30'')'),
	('SELECT notif.set_digest_time(''ada'', NULL)'),
	('SELECT notif.set_digest_time(''ada'', weekday => 0)'),
	('SELECT notif.set_digest_time(''ada'', weekday => 8)')) v(c);
SELECT * FROM notif.digest_time('ada');

-- ---- what holds
SELECT notif.set_preference('ada', 'push', 'social', frequency => 'daily');
SELECT notif.set_preference('bob', NULL, 'social', frequency => 'weekly');
SELECT notif.set_preference('dee', 'push', NULL, frequency => 'hourly');
SELECT r AS recipient, p.channel, p.category, p.enabled, p.frequency, p.origin
FROM unnest('{ada,bob,dee}'::text[]) r CROSS JOIN LATERAL notif.preferences(r) p ORDER BY 1, 3, 2 DESC;
SELECT r.ref, p.choices FROM notif_private.profile p JOIN notif_private.recipient r ON r.id = p.recipient_id ORDER BY 1;
SELECT pg_temp.all_agree();

-- ---- gathered and told
SELECT count(notif.publish(t, r, jsonb_build_object('by', 'eve', 'text', 'x')))
FROM unnest('{ada,bob,cyd,dee}'::text[]) r CROSS JOIN unnest('{like,follow,chat,alarm,code,article}'::text[]) t;
CALL pg_temp.work();
SELECT * FROM waits;
-- cyd has everything at once but the type that batches; alarms and codes wait for nobody
SELECT r.ref, t.name, q.fate FROM
	(SELECT recipient, type_id, 'queued' AS fate FROM notif_private.queued_standard UNION ALL
	 SELECT recipient, type_id, state || ':' || reason FROM notif_private.outcome) q
	JOIN notif_private.recipient r ON r.id = q.recipient JOIN notif_private.type t ON t.id = q.type_id ORDER BY 1, 2;
SELECT r.attempts FROM notif_private.worker_route_critical(100) r;
CALL pg_temp.until('2027-01-20 12:00+00');
SELECT * FROM told;
SELECT * FROM waits;
SELECT gate, verdict, detail - 'key' - 'wait' - 'max_delay' AS detail, agrees FROM notif.explain('like', 'ada') WHERE gate = 'digest';

-- ---- its own time, also for what waits
SELECT count(notif.publish('like', r, '{"by": "eve"}')) FROM unnest('{ada,bob}'::text[]) r CROSS JOIN generate_series(1, 2);
CALL pg_temp.work();
SELECT * FROM waits;
SELECT notif.set_digest_time('ada', '18:30'), notif.set_digest_time('bob', '06:00', 4);
CALL pg_temp.work();
SELECT * FROM waits;
SELECT * FROM notif.digest_time('bob');
CALL pg_temp.until('2027-01-24 12:00+00');
SELECT * FROM told LIMIT 2;

-- ---- a change of mind while something waits
SELECT count(notif.publish('like', r, '{"by": "eve"}')) FROM unnest('{ada,bob,dee}'::text[]) r CROSS JOIN generate_series(1, 2);
CALL pg_temp.work();
SELECT notif.set_preference('ada', 'push', 'social', frequency => 'realtime');
SELECT notif.set_preference('bob', 'push', 'social', frequency => 'off');
-- another pace takes along what waits
SELECT notif.set_preference('dee', 'push', 'social', frequency => 'weekly');
CALL pg_temp.work();
SELECT * FROM told LIMIT 2;
SELECT * FROM waits;
SELECT step, state, reason, detail ->> 'kind' AS kind, detail ->> 'count' AS count, detail ->> 'became' AS became
FROM notif.trace((SELECT event FROM notif.digest_items WHERE recipient = 'bob' ORDER BY at DESC LIMIT 1)) WHERE step IN ('outcome', 'digest');
SELECT notif.publish('like', 'dee', '{"by": "eve"}') IS NOT NULL;
CALL pg_temp.work();
SELECT * FROM waits;
CALL pg_temp.until('2027-02-03 12:00+00');
SELECT * FROM told LIMIT 1;
-- everything switched off
SELECT notif.set_preference('ada', 'push', 'social', frequency => 'daily');
SELECT notif.publish('like', 'ada', '{"by": "eve"}') IS NOT NULL;
CALL pg_temp.work();
SELECT notif.switch_off('ada');
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;
SELECT notif.switch_on('ada');
-- the category has no digests any more: what waits is told, new ones go at once
SELECT count(notif.publish('like', 'ada', jsonb_build_object('by', i))) FROM generate_series(1, 2) i;
CALL pg_temp.work();
SELECT notif.drop_frequencies('social');
SELECT channel, frequency FROM notif.preferences('ada') WHERE category = 'social';
SELECT pg_temp.all_agree();
SELECT count(notif.publish('like', 'ada', '{"by": "at once"}'));
CALL pg_temp.work();
CALL pg_temp.until('2027-02-05 12:00+00');
SELECT * FROM told LIMIT 1;
SELECT notif.define_frequencies('social', 'summary');

-- ---- nights on which the clock is set: 02:30 is not, and is twice
SELECT notif.set_digest_time('ada', '02:30', 7);
SELECT pg_temp.at('2027-03-27 12:00+00');
CALL pg_temp.work();
SELECT count(notif.publish('like', 'ada', '{"by": "eve"}'));
CALL pg_temp.until('2027-03-28 12:00+00');
SELECT * FROM told LIMIT 1;
SELECT pg_temp.at('2027-10-30 12:00+00');
SELECT count(notif.publish('like', 'ada', '{"by": "eve"}'));
CALL pg_temp.until('2027-10-31 12:00+00');
SELECT to_char(closed_at, 'HH24:MI') AS utc FROM notif.digest_log ORDER BY closed_at DESC LIMIT 1;
-- somebody who moves
SELECT count(notif.publish('like', 'ada', '{"by": "eve"}'));
CALL pg_temp.work();
SELECT notif.upsert_recipient('ada', tz => 'America/Los_Angeles') > 0;
CALL pg_temp.until('2027-11-02 12:00+00');
SELECT * FROM told LIMIT 1;
SELECT v.minute, v.weekday, v.zone, v.at, notif_private.next_local_time(v.minute, v.weekday, v.zone, v.at) AT TIME ZONE v.zone AS local
FROM (VALUES (480, NULL::integer, 'Europe/Berlin', '2027-01-13 06:59:59+00'::timestamptz), (480, NULL, 'Europe/Berlin', '2027-01-13 07:00+00'),
	(480, 1, 'Europe/Berlin', '2027-01-18 07:00+00'), (NULL, NULL, 'Asia/Kathmandu', '2027-01-13 12:00+00'), (NULL, NULL, 'UTC', '2027-01-13 12:00+00'),
	(150, NULL, 'Europe/Berlin', '2027-03-27 12:00+00'), (150, NULL, 'Europe/Berlin', '2027-10-30 12:00+00'),
	(600, 5, 'Pacific/Apia', '2011-12-29 12:00+00')) v(minute, weekday, zone, at);
SELECT try('SELECT notif_private.next_local_time(1440, NULL, ''UTC'', now())');

SELECT count(*) FROM notif.audit() WHERE NOT agrees;
SELECT pg_temp.all_agree();
SELECT notif_private.shift_clock(- notif_private.clock_offset()) AS shifted;
