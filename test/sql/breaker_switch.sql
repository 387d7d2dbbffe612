-- Breakers by hand, and how fast a provider may be asked.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
CREATE FUNCTION apple(name text DEFAULT 'apple', topic text DEFAULT 'com.example.shop') RETURNS void LANGUAGE sql AS $$
	SELECT notif.define_provider(name, 'apns',
		jsonb_build_object('team_id', 'ABCDE12345', 'key_id', 'ABC123DEFG', 'topic', topic), key => 'file:/etc/notif/apns.p8');
$$;
CREATE VIEW log AS SELECT provider, route, "from", "to", reason, by = current_user AS mine FROM notif.breaker_log;
SELECT apple();
SELECT apple('pear');
SELECT notif.define_route('push', providers => '{apple,pear}');
SELECT notif.define_route('mac', platform => 'macos', providers => '{apple}');

-- one for each route that a provider carries
SELECT provider, route, state, since, probe_at, results, failed, suspects, share, reason, by FROM notif.breakers ORDER BY 1, 2;
SELECT notif.open_breaker('apple', 'push', why => 'maintenance');
SELECT notif.open_breaker('apple', 'push', why => 'again');
SELECT provider, route, state, since IS NOT NULL AS dated, probe_at, share, reason, by = current_user AS mine FROM notif.breakers ORDER BY 1, 2;
SELECT notif.open_breaker('apple', why => 'all of it');
SELECT notif.close_breaker('apple');
SELECT notif.close_breaker('apple', 'push');
SELECT * FROM log;
SELECT check_name, ok, value, hint FROM notif.health() WHERE check_name = 'providers';

-- with the transaction, or what is left of it
BEGIN;
SELECT notif.open_breaker('pear', why => 'rolled back');
SELECT state FROM notif.breakers WHERE provider = 'pear';
ROLLBACK;
SELECT state FROM notif.breakers WHERE provider = 'pear';
BEGIN;
SELECT notif.open_breaker('pear', why => 'kept');
SAVEPOINT a;
SELECT notif.close_breaker('pear', why => 'not this one');
ROLLBACK TO a;
SAVEPOINT b;
SELECT notif.open_breaker('apple', 'mac', why => 'nor this one');
ROLLBACK TO b;
SAVEPOINT c;
SELECT notif.open_breaker('apple', 'push', why => 'but this one');
RELEASE c;
COMMIT;
SELECT provider, route, state, reason FROM notif.breakers ORDER BY 1, 2;
BEGIN;
SELECT notif.close_breaker('pear', why => 'to and fro'), notif.open_breaker('pear', why => 'and open');
COMMIT;
BEGIN;
SELECT notif.open_breaker('apple', 'mac'), notif.close_breaker('apple', 'mac'), notif.close_breaker('apple', 'mac');
COMMIT;
SELECT provider, route, state, reason FROM notif.breakers ORDER BY 1, 2;
SELECT * FROM log OFFSET 5;
-- the log's last row is the state
SELECT count(*) FROM notif.breakers b JOIN notif.providers p ON p.name = b.provider
JOIN notif_private.provider x ON x.name = p.name JOIN notif_private.route r ON r.name = b.route
WHERE b.state IS DISTINCT FROM (SELECT l.to_state FROM notif_private.breaker_log l
	WHERE l.provider_id = x.id AND l.route_id = r.id ORDER BY l.seq DESC LIMIT 1);
BEGIN;
SELECT notif.close_breaker('pear');
PREPARE TRANSACTION 'breaker';
SELECT state FROM notif.breakers WHERE provider = 'pear';

-- redefining a provider closes what the machine has opened, not what a person has
SELECT notif.close_breaker('pear');
SELECT notif.open_breaker('apple', 'push');
SELECT notif_private.worker_breaker(p.id, r.id) FROM notif_private.provider p, notif_private.route r WHERE p.name = 'pear' AND r.name = 'push';
SELECT apple(), apple('pear', 'com.example.other');
SELECT provider, route, state FROM notif.breakers ORDER BY 1, 2;

SELECT try(c) FROM (VALUES
	('SELECT notif.open_breaker(NULL)'),
	('SELECT notif.open_breaker(''none'')'),
	('SELECT notif.open_breaker(''apple'', ''none'')'),
	('SELECT notif.open_breaker(''pear'', ''mac'')'),
	('SELECT notif.close_breaker(''none'')'),
	('SELECT notif.close_breaker(''apple'', ''none'')')) v(c);

-- what another version has written down is read as far as it is known
SELECT notif_private.breaker_restore(99, 99, 7, now(), 'ajar', 'weather', -3, NULL, NULL, NULL);
SELECT state, cause, reason FROM notif_private.breaker_status() WHERE provider = 99;
SELECT notif_private.breaker_restore(99, 98, 7, now(), 'open', 'failures', 2, notif.now() + interval '4 minutes', 'it failed', NULL);
SELECT state, cause, reason, probe_at - notif.now() BETWEEN '3 min' AND '4 min' AS waits FROM notif_private.breaker_status() WHERE route = 98;
SELECT notif_private.breaker_restore(99, 98, 9, now(), 'closed', 'none', 0, NULL, 'too late', NULL);
SELECT state FROM notif_private.breaker_status() WHERE route = 98;
SELECT notif_private.breaker_restore(99, 97, 7, now(), 'half_open', 'failures', 2, NULL, 'probing', NULL);
SELECT state, probe_at <= notif.now() AS due, reason FROM notif_private.breaker_status() WHERE route = 97;

-- ---- what upkeep forgets: what is old, but never the newest, which is the state ----

CREATE VIEW states AS SELECT DISTINCT ON (l.provider_id, l.route_id) l.* FROM notif_private.breaker_log l ORDER BY l.provider_id, l.route_id, l.seq DESC;
CREATE TABLE before AS SELECT * FROM states;
SELECT count(*) > 5 AS several, (SELECT count(*) FROM before) AS breakers FROM notif_private.breaker_log;
SELECT notif_private.forget_breaker_log(notif.now() - interval '90 days');
UPDATE notif_private.breaker_log SET at = at - interval '91 days';
SELECT notif_private.forget_breaker_log(notif.now() - interval '90 days') > 0 AS forgotten;
SELECT count(*) = (SELECT count(*) FROM before) AS newest_left FROM notif_private.breaker_log;
SELECT count(*) AS lost FROM before b WHERE NOT EXISTS (SELECT FROM states s WHERE (s.provider_id, s.route_id, s.seq, s.to_state) = (b.provider_id, b.route_id, b.seq, b.to_state));
SELECT notif_private.forget_breaker_log(notif.now() - interval '90 days');

-- ---- pacing --------------------------------------------------------------------

CREATE FUNCTION paced(limits text) RETURNS text LANGUAGE sql AS $$
	SELECT try('SELECT notif.define_provider(''pear'', ''apns'', ''{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}'', key => ''file:/k'', '
		|| limits || ')');
$$;
SELECT paced('rate => 12.5, burst => 30, max_in_flight => 400');
SELECT name, rate, burst, max_in_flight, rate_now, tokens, on_the_wire, slowed_until FROM notif.providers ORDER BY 1;
SELECT w.rate, w.burst, w.max_in_flight FROM notif_private.provider p, notif_private.worker_provider(p.id) w WHERE p.name = 'pear';
SELECT paced('rate => 12.5');
SELECT w.rate, w.burst, w.max_in_flight FROM notif_private.provider p, notif_private.worker_provider(p.id) w WHERE p.name = 'pear';
SELECT paced('rate => NULL');
SELECT w.rate, w.burst, w.max_in_flight FROM notif_private.provider p, notif_private.worker_provider(p.id) w WHERE p.name = 'pear';
SELECT l, paced(l) FROM (VALUES ('rate => 0'), ('rate => -1'), ('rate => 0.09'), ('rate => 0.1'), ('rate => 1000000'), ('rate => 1000000.1'),
	('rate => ''NaN'''), ('rate => ''Infinity'''), ('rate => 5, burst => 0'), ('rate => 5, burst => 1000000'), ('rate => 5, burst => 1000001'),
	('burst => 5'), ('max_in_flight => 0'), ('max_in_flight => -5'), ('max_in_flight => 50000'), ('max_in_flight => 50001')) v(l);
