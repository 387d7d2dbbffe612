-- A value out of range is refused, and the range is said: every number and
-- interval that the define_* functions take.
SET client_min_messages = warning;
CREATE FUNCTION refused(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message	text;
	detail	text;
	hint	text;
BEGIN
	EXECUTE call;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	-- the range is in the hint, or in the detail of what C refuses
	RETURN SQLSTATE || ': ' || message || ' / ' || CASE WHEN message LIKE '%usable' OR message LIKE '%compile' THEN detail || ' / ' ELSE '' END || hint;
END
$$;
-- refused if it is what it was before
CREATE FUNCTION unchanged() RETURNS boolean LANGUAGE sql AS $$
	SELECT NOT EXISTS (SELECT FROM notif.categories WHERE name = 'x') AND NOT EXISTS (SELECT FROM notif.types WHERE name = 'x')
	   AND NOT EXISTS (SELECT FROM notif.rate_limits WHERE name = 'x') AND NOT EXISTS (SELECT FROM notif.providers WHERE name = 'x')
$$;
SELECT notif.define_category('c');

SELECT v.arguments, refused(format('SELECT notif.define_category(''x'', %s)', v.arguments)) FROM (VALUES
	('max_attempts => 0'), ('max_attempts => -1'), ('max_attempts => 101'), ('max_attempts => 2147483647'), ('max_attempts => NULL'),
	('retry_base => ''99 ms'''), ('retry_base => ''-1 s'''), ('retry_base => ''1 day 1 s'''), ('retry_base => NULL'),
	('retry_cap => ''1 s'''), ('retry_cap => ''1 day 00:00:01'''), ('retry_cap => ''178000000 years'''), ('retry_cap => NULL')) v(arguments);
SELECT v.arguments, refused(format('SELECT notif.define_type(''x'', ''c'', title => ''t'', %s)', v.arguments)) FROM (VALUES
	('ttl => ''999 ms'''), ('ttl => ''-1 day'''), ('ttl => ''28 days 00:00:01'''), ('ttl => ''178000000 years'''), ('ttl => NULL')) v(arguments);
SELECT v.arguments, refused(format('SELECT notif.define_rate_limit(''x'', %s)', v.arguments)) FROM (VALUES
	('0, ''1 h'''), ('-5, ''1 h'''), ('100001, ''1 h'''), ('2147483647, ''1 h'''),
	('1, ''999 ms'''), ('1, ''-1 h'''), ('1, ''31 days 00:00:01''')) v(arguments);
SELECT v.settings, refused(format('SELECT notif.define_provider(''x'', ''apns'', %L::jsonb || ''{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}'', key => ''file:/k'')', v.settings)) FROM (VALUES
	('{"port": 0}'), ('{"port": 65536}'), ('{"port": -1}'), ('{"port": 4.5}'), ('{"port": "443"}'), ('{"port": null}'),
	('{"port": 99999999999999999999}'), ('{"max_connections": 0}'), ('{"max_connections": 33}'), ('{"max_connections": []}')) v(settings);
SELECT refused($$SELECT notif.define_type('x', 'c', title => 't', push => '{"priority": 11}')$$);
SELECT refused($$SELECT notif.define_type('x', 'c', title => 't', push => '{"relevance_score": 1.5}')$$);
SELECT unchanged();

-- the ends of each range are inside it
SELECT refused($$SELECT notif.define_category('ends', max_attempts => 1, retry_base => '100 ms', retry_cap => '100 ms')$$),
	   refused($$SELECT notif.define_category('ends', max_attempts => 100, retry_base => '1 day', retry_cap => '1 day')$$),
	   refused($$SELECT notif.define_type('ends', 'c', title => 't', ttl => '1 s')$$),
	   refused($$SELECT notif.define_type('ends', 'c', title => 't', ttl => '28 days')$$),
	   refused($$SELECT notif.define_rate_limit('ends', 1, '1 s')$$),
	   refused($$SELECT notif.define_rate_limit('ends', 100000, '31 days')$$),
	   refused($$SELECT notif.define_provider('ends', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "a", "port": 1, "max_connections": 1}', key => 'file:/k')$$),
	   refused($$SELECT notif.define_provider('ends', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "a", "port": 65535, "max_connections": 32}', key => 'file:/k')$$);
