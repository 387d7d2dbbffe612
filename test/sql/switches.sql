-- Switches: what is paused, by whom, why.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'file:/etc/notif/apns.p8');
SELECT notif.define_route('push', providers => '{apple}');

SELECT notif.pause('tier', 'bulk', why => 'wrong campaign'), notif.pause('tier', 'bulk');
SELECT notif.pause('provider', 'apple');
SELECT what, name, paused, why, holds FROM notif.switches ORDER BY at;
SELECT tier, route, paused FROM notif.queue ORDER BY tier;
SELECT name, paused FROM notif.providers;
SELECT notif.resume('provider', 'apple', why => 'mended'), notif.resume('provider', 'apple');
SELECT notif.pause('everything');
SELECT tier, route, paused FROM notif.queue ORDER BY tier;
SELECT name, paused FROM notif.providers;
SELECT what, name, paused, why, holds FROM notif.switches ORDER BY at;
-- each switch stands for itself
SELECT notif.resume('everything'), notif.resume('everything');
SELECT what, name FROM notif.switches WHERE holds;
SELECT notif.resume('tier', 'bulk');
SELECT what, name FROM notif.switches WHERE holds;

-- a paused tier is neither routed nor claimed, a paused provider's lane has nobody to carry it
SELECT notif.pause('tier', 'critical');
SELECT count(*) FROM notif_private.worker_lanes_critical();
SELECT count(*) FROM notif_private.worker_lanes_standard();
SELECT notif.pause('provider', 'apple');
SELECT provider FROM notif_private.worker_lanes_standard();

SELECT try(c) FROM (VALUES
	('SELECT notif.pause(NULL)'),
	('SELECT notif.pause(''world'')'),
	('SELECT notif.pause(''type'', ''none'')'),
	('SELECT notif.pause(''type'')'),
	('SELECT notif.pause(''campaign'', ''none'')'),
	('SELECT notif.pause(''everything'', ''bulk'')'),
	('SELECT notif.pause(''tier'')'),
	('SELECT notif.pause(''tier'', ''express'')'),
	('SELECT notif.pause(''provider'', ''none'')'),
	('SELECT notif.resume(''world'')'),
	('SELECT notif.resume(''tier'')'),
	('SELECT notif.resume(''provider'', ''none'')')) v(c);
