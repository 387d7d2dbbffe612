-- Topics and subscriptions.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT count(notif.upsert_recipient('person-' || i)) FROM generate_series(1, 1000) i;

SELECT notif.create_topic('news'), notif.create_topic('news');
SELECT notif.subscribe('person-1', 'news'), notif.subscribe('person-1', 'news');
-- the first subscription makes the topic
SELECT notif.subscribe('person-1', 'weather');
SELECT name, subscribers FROM notif.topics ORDER BY name;
SELECT notif.subscribe_many('news', ARRAY(SELECT 'person-' || i FROM generate_series(1, 1000) i));
SELECT notif.subscribe_many('news', '{person-1,person-2,person-2}');
SELECT notif.subscribe_many('sports', '{person-1,person-1}');
SELECT notif.subscribe_many('empty', '{}');
SELECT name, subscribers FROM notif.topics ORDER BY name;
SELECT notif.unsubscribe('person-1', 'news'), notif.unsubscribe('person-1', 'news');
SELECT notif.drop_topic('news');
SELECT name, subscribers FROM notif.topics ORDER BY name;
SELECT count(*) AS left_behind FROM notif_private.subscription s
WHERE NOT EXISTS (SELECT FROM notif_private.topic t WHERE t.id = s.topic_id);

SELECT try(c) FROM (VALUES
	('SELECT notif.create_topic('''')'),
	('SELECT notif.create_topic(NULL)'),
	('SELECT notif.create_topic(repeat(''x'', 256))'),
	('SELECT notif.subscribe(''nobody'', ''news'')'),
	('SELECT notif.subscribe(''person-1'', '''')'),
	('SELECT notif.subscribe(''person-1'', NULL)')) v(c);
-- all or nothing, and the topic is not made either
SELECT try(c) FROM (VALUES
	('SELECT notif.subscribe_many(''news'', ''{person-1,nobody,nothing}'')'),
	('SELECT notif.subscribe_many(''news'', ''{person-1,NULL}'')'),
	('SELECT notif.subscribe_many(''news'', NULL)'),
	('SELECT notif.subscribe_many(NULL, ''{person-1}'')'),
	('SELECT notif.unsubscribe(''person-1'', ''news'')'),
	('SELECT notif.unsubscribe(''nobody'', ''weather'')'),
	('SELECT notif.drop_topic(''news'')')) v(c);
SELECT count(*) FROM notif.topics WHERE name = 'news';
