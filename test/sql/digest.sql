-- Digests of types that batch: gathering, sliding, telling, and what happens between
-- the two, on the shifted clock.
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
	key		uuid;
	again	boolean := true;
BEGIN
	told := 0;
	WHILE again LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		again := step.more;
		COMMIT;
		-- the rest of a large transaction
		FOR key IN SELECT k FROM notif_private.worker_expansions_standard() k LOOP
			PERFORM notif_private.worker_expand_standard(key, 2000);
			again := true;
			COMMIT;
		END LOOP;
		SELECT * INTO step FROM notif_private.worker_digest_standard('-infinity');
		told := told + step.closed;
		again := again OR step.closed > 0 OR step.more;
		COMMIT;
	END LOOP;
END
$$;
CREATE SEQUENCE flights;
CREATE FUNCTION pg_temp.claim() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, nextval('flights')) c
$$;
-- What waits, without what differs from run to run.
CREATE VIEW waits AS
	SELECT recipient, kind, type, key, count, to_char(opened_at, 'HH24:MI') AS opened, to_char(due_at, 'HH24:MI') AS due
	FROM notif.digests ORDER BY recipient, kind, key;
-- Digests as they are told, the newest first: the event as a device would show it.
CREATE VIEW told AS
	SELECT l.recipient, l.kind, l.key, l.count, l.told, l.reason, t.name AS type, e.digest, e.thread, e.source,
		   notif_private.render_text(CASE WHEN e.digest THEN coalesce(d.title, t.title) ELSE t.title END, e.data, l.recipient, NULL, '{}', e.id, t.name) AS title,
		   notif_private.render_text(CASE WHEN e.digest THEN coalesce(d.body, t.body) ELSE t.body END, e.data, l.recipient, NULL, '{}', e.id, t.name) AS body,
		   (SELECT string_agg(x.fate, ', ' ORDER BY x.fate)
			FROM (SELECT 'queued' AS fate FROM notif_private.queued_standard q WHERE q.event = e.id
				  UNION ALL SELECT 'in flight' FROM notif_private.flying_standard q WHERE q.event = e.id
				  UNION ALL SELECT o.state || coalesce(':' || o.reason, '') FROM notif_private.outcome o WHERE o.event = e.id) x) AS fate
	FROM notif.digest_log l
	LEFT JOIN notif_private.event e ON e.id = l.event
	LEFT JOIN notif_private.type t ON t.id = e.type_id
	LEFT JOIN notif_private.type_digest d ON d.type_id = e.type_id
	ORDER BY l.closed_at DESC, l.recipient, l.key;
CREATE FUNCTION pg_temp.say(who text, thread text, words text, source text DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish('chat', who, jsonb_build_object('from', 'cyd', 'text', words), thread => thread, source => source)
$$;

-- The clock of the test starts on Wednesday, 2027-01-13, whatever the day.
SELECT pg_temp.at('2027-01-13 12:00+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;
SELECT notif.define_category('social');
SELECT notif.define_category('security', mandatory => true);
SELECT notif.define_type('chat', 'social', title => '{from}', body => '{text}', ttl => '1 hour');
SELECT notif.define_type('like', 'social', title => 'A like of {by}');
SELECT notif.define_type('code', 'social', tier => 'critical', title => 'Code');
SELECT notif.define_type('alarm', 'security', title => 'Alarm');
SELECT notif.define_type('note', 'social', title => 'Note', channels => '{inbox}');
SELECT notif.define_type('plain', 'social', title => 'Plain {n}', ordered => false);
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,cyd,dee}'::text[]) r;
SELECT count(notif.register_device(r, r || d, 'ios', lpad(to_hex(10 * n + d), 64, '0')))
FROM unnest('{ada,bob,cyd}'::text[]) WITH ORDINALITY u(r, n) CROSS JOIN generate_series(1, 2) d;

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.define_digest(''nothing'', ''1 min'', title => ''x'')'),
	('SELECT notif.define_digest(''code'', ''1 min'', title => ''x'')'),
	('SELECT notif.define_digest(''alarm'', ''1 min'', title => ''x'')'),
	('SELECT notif.define_digest(''note'', ''1 min'', title => ''x'')'),
	('SELECT notif.define_digest(''chat'', NULL, title => ''x'')'),
	('SELECT notif.define_digest(''chat'', ''0.5 s'', title => ''x'')'),
	('SELECT notif.define_digest(''chat'', ''10 min'', ''5 min'', title => ''x'')'),
	('SELECT notif.define_digest(''chat'', ''1 day'', ''8 days'', title => ''x'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', key => ''room'', title => ''x'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''{from}'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''{items.0}'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''{items.5.from}'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''{count'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''x'', items => 21)'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''x'', push => ''[]'')'),
	('SELECT notif.define_digest(''chat'', ''1 min'', title => ''x'', push => ''{"thread_id": "{room}"}'')'),
	('SELECT notif.drop_digest(''chat'')')) v(c);
SELECT count(*) FROM notif.digest_types;
SELECT notif.define_digest('chat', wait => '2 min', max_delay => '10 min', title => '{count} new messages in {key}',
						   body => '{items.0.from}: {items.0.text}', push => '{"thread_id": "{key}"}');
SELECT type, key, wait, max_delay, items, single, push FROM notif.digest_types;

-- ---- gathered
SELECT count(pg_temp.say('ada', 'team-android', 'word ' || i)) FROM generate_series(1, 12) i;
SELECT count(pg_temp.say(r, 'team-ios', 'alone')) FROM unnest('{ada,bob}'::text[]) r;
CALL pg_temp.work();
SELECT * FROM waits;
SELECT state, reason, count(*), count(DISTINCT delivery) FROM notif_private.outcome GROUP BY 1, 2;
SELECT count(*) AS in_inbox FROM notif_private.inbox;
SELECT count(*) AS attempts FROM notif_private.outbox_standard;
SELECT state, n FROM notif.state WHERE tier = 'standard' AND n <> 0;
SELECT count(*) FROM notif.audit() WHERE NOT agrees;
SELECT check_name, ok, regexp_replace(value, '(\d\d:\d\d):.*', '\1') AS value FROM notif.health() WHERE check_name = 'digests';
-- what comes within the window makes it slide
SELECT pg_temp.at('2027-01-13 12:01:30+00');
CALL pg_temp.work();
SELECT count(pg_temp.say('ada', 'team-android', 'later')) FROM generate_series(1, 1) i;
CALL pg_temp.work();
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 12:02:25+00');
-- those of team-ios; the other is looked at again at its new time
CALL pg_temp.work();
SELECT * FROM waits;
SELECT to_char(check_at, 'HH24:MI:SS') BETWEEN '12:03:30' AND '12:03:54' AS moved FROM notif_private.digest;
SELECT * FROM told;
SELECT pg_temp.at('2027-01-13 12:03:55+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;
SELECT e.data - 'items' AS data, jsonb_array_length(e.data -> 'items') AS items, (e.data #> '{items,0}') - 'notif' AS first,
	   (e.data #> '{items,0,notif}') - 'event' AS first_as_told, e.channels, e.expires_at - e.created_at AS ttl, cardinality(e.recipients)
FROM notif.digest_log l JOIN notif_private.event e ON e.id = l.event WHERE l.told > 1;
-- it passes the gates as any other, and is not put into the inbox again
SELECT pg_temp.claim();
SELECT count(*) AS in_inbox FROM notif_private.inbox;
SELECT * FROM waits;
-- the whole story
SELECT step, recipient, state, reason, detail - 'event' - 'digest' - 'item' - 'by' - 'expires_at' - 'tries' AS detail
FROM notif.trace((SELECT event FROM notif.digest_items WHERE recipient = 'ada' ORDER BY at LIMIT 1));
SELECT step, recipient, state, reason, count(*), count(detail ->> 'event') AS named
FROM notif.trace((SELECT event FROM notif.digest_log WHERE told > 1)) GROUP BY 1, 2, 3, 4 ORDER BY 1;
SELECT (SELECT count(*) FROM notif.digest_items i WHERE i.told_by = l.event) AS items, l.count FROM notif.digest_log l ORDER BY 1;

-- ---- no later than max_delay
DO $$
DECLARE
	n	integer;
BEGIN
	FOR i IN 0 .. 11 LOOP
		PERFORM pg_temp.at('2027-01-13 13:00+00'::timestamptz + i * interval '61 seconds');
		PERFORM pg_temp.say('ada', 'busy', 'word ' || i);
		COMMIT;
		CALL pg_temp.work(n);
	END LOOP;
END
$$;
SELECT key, count, told, to_char(opened_at, 'HH24:MI') AS opened, to_char(closed_at, 'HH24:MI') AS closed FROM notif.digest_log WHERE key = 'busy';
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 14:00+00');
CALL pg_temp.work();

-- ---- one item alone is told as itself, unless its type says otherwise
SELECT notif.define_digest('like', wait => '1 min', key => 'type', title => '{count} likes', single => true);
SELECT pg_temp.say('bob', 'one', 'me alone', 'robot') IS NOT NULL;
SELECT notif.publish('like', 'bob', '{"by": "ada"}') IS NOT NULL;
CALL pg_temp.work();
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 14:10+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 2;
SELECT pg_temp.claim();

-- ---- cancelled, muted, not wanted any more: before it is told
SELECT pg_temp.say('ada', 'a', 'first') AS first, pg_temp.say('ada', 'a', 'second') AS second, pg_temp.say('ada', 'a', 'third') AS third,
	   pg_temp.say('bob', 'b', 'taken back') AS back \gset
SELECT count(pg_temp.say('ada', t, 'x', s)) FROM (VALUES ('m', 'robot'), ('m', 'robot'), ('n', 'robot'), ('n', 'human')) v(t, s);
CALL pg_temp.work();
SELECT notif.cancel(:'first'), notif.cancel(:'back');
SELECT notif.mute('ada', thread => 'm');
SELECT pg_temp.at('2027-01-13 14:20+00');
SELECT notif.mute('ada', source => 'robot');
CALL pg_temp.work();
SELECT * FROM told LIMIT 4;
SELECT e.data #>> '{items,0,text}' AS first_told FROM notif.digest_log l JOIN notif_private.event e ON e.id = l.event WHERE l.key = 'a';
SELECT notif.unmute('ada', thread => 'm'), notif.unmute('ada', source => 'robot');
-- nothing of a cancelled digest is sent
SELECT notif.cancel(event) FROM notif.digest_log WHERE key = 'a';
SELECT pg_temp.claim();
SELECT state, reason FROM notif_private.outcome WHERE event = (SELECT event FROM notif.digest_log WHERE key = 'a');
-- an opt-out closes what waits, readably
SELECT count(pg_temp.say('ada', 'off', 'x')) FROM generate_series(1, 3);
CALL pg_temp.work();
SELECT notif.set_preference('ada', 'push', 'social', enabled => false);
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;
SELECT * FROM waits;
SELECT pg_temp.say('ada', 'off', 'x') IS NOT NULL;
CALL pg_temp.work();
SELECT notif.reset_preference('ada');
-- also after it was told and before it is claimed
SELECT count(pg_temp.say('ada', 'late', 'x')) FROM generate_series(1, 3);
CALL pg_temp.work();
SELECT pg_temp.at('2027-01-13 14:30+00');
CALL pg_temp.work();
SELECT notif.switch_off('ada');
SELECT pg_temp.claim();
SELECT * FROM told LIMIT 1;
SELECT notif.switch_on('ada');
-- who has no device, or none any more
SELECT count(pg_temp.say('dee', 'x', 'x')) FROM generate_series(1, 2);
CALL pg_temp.work();
SELECT pg_temp.at('2027-01-13 14:40+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;

-- ---- what cannot be rendered is told as its last item
SELECT notif.define_digest('like', wait => '1 min', key => 'type', title => '{count} likes', body => '{items.1.by} {items.1.why}');
SELECT count(notif.publish('like', r, jsonb_build_object('by', i))) FROM generate_series(1, 3) i CROSS JOIN unnest('{ada,bob}'::text[]) r;
SELECT notif.publish('like', 'bob', '{"by": "x", "why": "y"}') IS NOT NULL;
CALL pg_temp.work();
SELECT pg_temp.at('2027-01-13 14:50+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 2;
SELECT notif.define_digest('like', wait => '1 min', key => 'type', title => '{items.0.why} {items.1.why} {items.2.why}');
SELECT count(notif.publish('like', 'ada', jsonb_build_object('by', i, 'why', repeat('x', 1500)))) FROM generate_series(1, 3) i;
CALL pg_temp.work();
SELECT pg_temp.at('2027-01-13 15:00+00');
CALL pg_temp.work();
SELECT kind, count, told, reason, digest, title FROM told LIMIT 1;
-- nor is anything lost of a type that batches no more
SELECT count(notif.publish('like', 'ada', jsonb_build_object('by', i))) FROM generate_series(1, 3) i;
CALL pg_temp.work();
SELECT notif.drop_digest('like');
SELECT notif.publish('like', 'ada', '{"by": "at once"}') IS NOT NULL;
SELECT pg_temp.at('2027-01-13 15:10+00');
CALL pg_temp.work();
SELECT kind, count, told, reason, digest, title, fate FROM told LIMIT 1;
SELECT pg_temp.claim();

-- ---- by category
SELECT notif.define_digest('like', wait => '1 min', key => 'category', title => '{count} things', body => '{items.0.notif.title}, {items.1.notif.title}');
SELECT notif.define_digest('plain', wait => '1 min', key => 'category', title => '{count} others');
SELECT notif.publish('like', 'ada', '{"by": "bob"}') IS NOT NULL, notif.publish('plain', 'ada', '{"n": 3}') IS NOT NULL;
CALL pg_temp.work();
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 15:20+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;
SELECT pg_temp.claim();
SELECT notif.drop_digest('like'), notif.drop_digest('plain');

-- ---- what a limit folds, as the claim would say it
CREATE FUNCTION pg_temp.fold(event uuid) RETURNS bigint LANGUAGE sql AS $$
	WITH o AS (
		SELECT DISTINCT ON (e.id) ev.id AS event, e.id AS endpoint, ev.type_id, ev.recipients, notif_private.delivery_id(ev.id, e.id) AS delivery
		FROM notif_private.event ev JOIN notif_private.endpoint e ON e.recipient_id = ev.recipients[1] WHERE ev.id = fold.event
	), c AS (
		INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, recipients, data, expires_at, created_at)
		SELECT notif_private.new_event_id(), 1, 1, 3, type_id, recipients,
			   jsonb_build_object('event', event, 'delivery', delivery, 'endpoint', endpoint, 'limit', 'hour'), notif.now() + interval '1 day', notif.now() FROM o
		RETURNING 1
	)
	SELECT count(*) FROM c
$$;
SELECT notif.publish('plain', 'cyd', '{"n": 1}') AS one, notif.publish('plain', 'cyd', '{"n": 2}') AS two \gset
CALL pg_temp.work();
SELECT pg_temp.fold(:'one'), pg_temp.fold(:'two');
CALL pg_temp.work();
-- two devices each, and one item
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 16:00:30+00');
CALL pg_temp.work();
-- neither type nor category has digests
SELECT * FROM told LIMIT 1;
-- a digest that is folded counts its items in the next
SELECT count(pg_temp.say('cyd', 'much', i::text)) FROM generate_series(1, 3) i;
CALL pg_temp.work();
SELECT pg_temp.at('2027-01-13 16:10+00');
CALL pg_temp.work();
SELECT pg_temp.fold(event) FROM notif.digest_log WHERE key = 'much';
CALL pg_temp.work();
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 17:00:30+00');
CALL pg_temp.work();
SELECT * FROM told LIMIT 1;

-- ---- why
SELECT gate, verdict, detail - 'next' AS detail, agrees FROM notif.explain('chat', 'ada') WHERE gate = 'digest';
SELECT pg_temp.say('ada', 'why', 'x') AS why \gset
CALL pg_temp.work();
SELECT gate, verdict, detail ? 'digest' AS named, detail ->> 'count' AS count, detail ->> 'due_at' IS NOT NULL AS due
FROM notif.explain(:'why', 'ada') WHERE gate IN ('digest', 'outcome');
SELECT step, state, detail ->> 'key' AS key, detail ->> 'count' AS count, detail ->> 'due_at' IS NOT NULL AS due FROM notif.trace(:'why') WHERE step = 'digest';
SELECT pg_temp.at('2027-01-13 17:10+00');
CALL pg_temp.work();
SELECT gate, verdict, detail ->> 'is_digest' AS is_digest FROM notif.explain((SELECT event FROM notif.digest_log WHERE key = 'why'), 'ada') WHERE gate = 'digest';
SELECT count(*) FROM notif.explain('plain', 'ada') WHERE gate = 'digest';

-- ---- ten thousand for one person: one digest, and no row for each in the head
SELECT count(pg_temp.say('bob', 'flood', i::text)) FROM generate_series(1, 10000) i;
CALL pg_temp.work();
SELECT * FROM waits;
SELECT pg_temp.at('2027-01-13 17:20+00');
CALL pg_temp.work();
SELECT l.key, l.count, l.told, e.data ->> 'count' AS count, e.data ->> 'more' AS more, length(e.data::text) < 2000 AS small
FROM notif.digest_log l JOIN notif_private.event e ON e.id = l.event WHERE l.key = 'flood';
SELECT count(*) FROM notif_private.digest;

-- ---- the clock is set back by a year while something waits
SELECT pg_temp.say('ada', 'back', 'x') IS NOT NULL;
CALL pg_temp.work();
SELECT pg_temp.at('2026-01-13 12:00+00');
CALL pg_temp.work();
SELECT key, count FROM told WHERE key = 'back';

-- ---- what is forgotten, with the rest
SELECT pg_temp.at('2027-01-13 18:00+00');
SELECT notif_private.forget_digests('2027-01-01');
SELECT notif_private.forget_digests('2028-01-01') = 5000, notif_private.forget_digests('2028-01-01') = 5000, notif_private.forget_digests('2028-01-01') > 0,
	   notif_private.forget_digests('2028-01-01');
SELECT (SELECT count(*) FROM notif_private.digest_done), (SELECT count(*) FROM notif_private.digest_item);

SELECT state, n FROM notif.state WHERE tier = 'standard' AND state IN ('merged', 'failed') ORDER BY 1;
SELECT count(*) FROM notif.audit() WHERE NOT agrees;
SELECT notif_private.shift_clock(- notif_private.clock_offset()) AS shifted;
