-- Categories, types, secrets, providers, routes and rate limits.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all


-- categories
SELECT notif.define_category('transactional');
SELECT notif.define_category('social', on_unknown => 'hold', max_attempts => 3, retry_base => '1 s', retry_cap => '1 min',
	rate_limited => false, retention => 'long', description => 'likes');
SELECT * FROM notif.categories ORDER BY name;
-- again: what is not given takes its default
SELECT notif.define_category('social', max_attempts => 4);
SELECT * FROM notif.categories WHERE name = 'social';
SELECT try(c) FROM (VALUES
	('SELECT notif.define_category(''Bad Name'')'),
	('SELECT notif.define_category(NULL)'),
	('SELECT notif.define_category(repeat(''x'', 64))'),
	('SELECT notif.define_category(''x'', on_unknown => ''panic'')'),
	('SELECT notif.define_category(''x'', on_unknown => NULL)'),
	('SELECT notif.define_category(''x'', max_attempts => 0)'),
	('SELECT notif.define_category(''x'', max_attempts => 101)'),
	('SELECT notif.define_category(''x'', retry_base => ''0'')'),
	('SELECT notif.define_category(''x'', retry_base => ''1 h'', retry_cap => ''1 min'')'),
	('SELECT notif.define_category(''x'', retry_cap => ''2 days'')'),
	('SELECT notif.define_category(''x'', rate_limited => NULL)'),
	('SELECT notif.define_category(''x'', retention => ''forever'')')) v(c);

-- types
SELECT notif.define_type('order.shipped', 'transactional', title => 'On its way', body => 'Order {order} has been shipped');
SELECT notif.define_type('login.code', 'transactional', tier => 'critical', title => 'Code {code}', channels => '{push}', ttl => '5 min',
	push => '{"sound": "default"}');
SELECT notif.define_type('digest', 'social', tier => 'bulk', channels => '{inbox}', enabled => false);
SELECT name, category, tier, channels, title, body, push, ttl, enabled FROM notif.types ORDER BY name;
SELECT id AS before FROM notif_private.type WHERE name = 'order.shipped' \gset
SELECT notif.define_type('order.shipped', 'social', title => 'Shipped');
SELECT id = :before AS same_type, category, title, body FROM notif_private.type WHERE name = 'order.shipped';
SELECT notif.disable_type('order.shipped'), notif.enable_type('digest');
SELECT name, enabled FROM notif.types ORDER BY name;
SELECT try(c) FROM (VALUES
	('SELECT notif.enable_type(''none'')'),
	('SELECT notif.disable_type(NULL)'),
	('SELECT notif.define_type(''bad name'', ''social'')'),
	('SELECT notif.define_type(NULL, ''social'')'),
	('SELECT notif.define_type(''x'', ''none'')'),
	('SELECT notif.define_type(''x'', NULL)'),
	('SELECT notif.define_type(''x'', ''social'', tier => ''express'')'),
	('SELECT notif.define_type(''x'', ''social'', tier => NULL)'),
	('SELECT notif.define_type(''x'', ''social'', channels => ''{}'')'),
	('SELECT notif.define_type(''x'', ''social'', channels => NULL)'),
	('SELECT notif.define_type(''x'', ''social'', channels => ''{push,NULL}'')'),
	('SELECT notif.define_type(''x'', ''social'', channels => ''{push,push}'')'),
	('SELECT notif.define_type(''x'', ''social'', channels => ''{push,email}'')'),
	('SELECT notif.define_type(''x'', ''social'', channels => ''{pigeon}'')'),
	('SELECT notif.define_type(''x'', ''social'', title => NULL)'),
	('SELECT notif.define_type(''x'', ''social'', push => ''[]'')'),
	('SELECT notif.define_type(''x'', ''social'', push => NULL)'),
	('SELECT notif.define_type(''x'', ''social'', ttl => ''0.5 s'')'),
	('SELECT notif.define_type(''x'', ''social'', ttl => ''29 days'')'),
	('SELECT notif.define_type(''x'', ''social'', ttl => NULL)')) v(c);
-- the message has to compile
SELECT left(try('SELECT notif.define_type(''x'', ''social'', title => ''open {brace'')'), 6);
SELECT left(try('SELECT notif.define_type(''x'', ''social'', push => ''{"no_such_option": 1}'')'), 6);
SELECT count(*) FROM notif.types WHERE name = 'x';

-- a category in use stays
SELECT try(c) FROM (VALUES
	('SELECT notif.drop_category(''social'')'),
	('SELECT notif.drop_category(''none'')')) v(c);
SELECT notif.define_category('unused');
SELECT notif.drop_category('unused');
SELECT count(*) FROM notif.categories WHERE name = 'unused';

-- secrets: no error repeats a value
SELECT notif.set_secret('apns-key', 'secret one');
SELECT notif.set_secret('spare', 'secret two');
SELECT try(c) FROM (VALUES
	('SELECT notif.set_secret(''Bad Name'', ''hidden'')'),
	('SELECT notif.set_secret(NULL, ''hidden'')'),
	('SELECT notif.set_secret(''x'', '''')'),
	('SELECT notif.set_secret(''x'', NULL)'),
	('SELECT notif.set_secret(''x'', repeat(''hidden'', 20000))')) v(c);
SELECT notif.drop_secret('spare');
SELECT try('SELECT notif.drop_secret(''spare'')');

-- providers
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'secret:apns-key');
SELECT notif.define_provider('apple-two', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'file:/etc/notif/apns.p8');
SELECT name, kind, enabled, paused, settings ->> 'topic' AS topic, key, certificate, open, in_flight, accepted, connections, last_error
FROM notif.providers ORDER BY name;
SELECT try('SELECT notif.drop_secret(''apns-key'')');
SELECT notif.disable_provider('apple-two');
SELECT name, enabled FROM notif.providers ORDER BY name;
SELECT notif.enable_provider('apple-two');
SELECT try(c) FROM (VALUES
	('SELECT notif.disable_provider(''none'')'),
	('SELECT notif.enable_provider(NULL)'),
	('SELECT notif.define_provider(''Bad Name'')'),
	('SELECT notif.define_provider(''x'', ''pigeon'')'),
	('SELECT notif.define_provider(''x'', NULL)'),
	('SELECT notif.define_provider(''x'', ''apns'', ''[]'')'),
	('SELECT notif.define_provider(''x'', ''apns'', NULL)'),
	('SELECT notif.define_provider(''x'', ''apns'', key => ''-----BEGIN PRIVATE KEY-----'')'),
	('SELECT notif.define_provider(''x'', ''apns'', key => ''file:relative/path'')'),
	('SELECT notif.define_provider(''x'', ''apns'', certificate => ''secret:none'')')) v(c);
SELECT left(try('SELECT notif.define_provider(''x'', ''apns'', ''{"no_such_setting": 1}'', key => ''file:/k'')'), 6);

-- routes
SELECT notif.define_route('push', providers => '{apple,apple-two}');
SELECT name, channel, platform, app, providers FROM notif.routes ORDER BY name;
SELECT try(c) FROM (VALUES
	('SELECT notif.define_route(''Bad Name'', providers => ''{apple}'')'),
	('SELECT notif.define_route(''x'', ''inbox'', ''{apple}'')'),
	('SELECT notif.define_route(''x'', ''sms'', ''{apple}'')'),
	('SELECT notif.define_route(''x'')'),
	('SELECT notif.define_route(''x'', providers => ''{}'')'),
	('SELECT notif.define_route(''x'', providers => ''{apple,NULL}'')'),
	('SELECT notif.define_route(''x'', providers => ''{apple,none}'', app => ''x'')'),
	('SELECT notif.define_route(''x'', providers => ''{apple,apple}'', app => ''x'')'),
	('SELECT notif.define_route(''x'', providers => ''{apple}'')'),
	('SELECT notif.define_route(''x'', providers => ''{apple}'', app => '''')')) v(c);
-- the most specific route wins, and applications follow when routes change
SELECT notif.upsert_recipient('ada') = 1 AS first;
SELECT notif.register_device('ada', d, p, repeat(t, 32), app => a) > 0 AS registered
FROM (VALUES ('1', 'ios', 'a1', 'shop'), ('2', 'macos', 'a2', 'shop'), ('3', 'ios', 'a3', 'bank'), ('4', 'macos', 'a4', 'bank')) v(d, p, t, a);
CREATE TEMP VIEW routed AS
	SELECT a.platform, a.name AS app, r.name AS route FROM notif_private.app a LEFT JOIN notif_private.route r ON r.id = a.route_id
	ORDER BY 2, 1;
SELECT * FROM routed;
SELECT notif.define_route('on-ios', providers => '{apple}', platform => 'ios');
SELECT notif.define_route('the-shop', providers => '{apple}', app => 'shop');
SELECT * FROM routed;
SELECT notif.define_route('shop-on-ios', providers => '{apple}', platform => 'ios', app => 'shop');
SELECT * FROM routed;
-- a route that moves away leaves its applications to the next one
SELECT notif.define_route('push', providers => '{apple}', platform => 'tvos');
SELECT * FROM routed;

-- what was quarantined under wrong settings is tried again, and the token is new
UPDATE notif_private.endpoint SET state = 'quarantined', state_reason = 'BadDeviceToken', quarantine_mark = 5 WHERE device_id IN ('1', '4');
INSERT INTO notif_private.provider_token SELECT id, 1, 'x' FROM notif_private.provider;
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'secret:apns-key');
SELECT count(*) AS unchanged FROM notif_private.provider_token;
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.bank"}', key => 'secret:apns-key');
SELECT p.name AS keeps_its_token FROM notif_private.provider_token t JOIN notif_private.provider p ON p.id = t.provider_id;
SELECT device_id, state, reason FROM notif.endpoints ORDER BY device_id;
-- and so it is when the secret behind it changes, but not when it stays the same
INSERT INTO notif_private.provider_token SELECT id, 1, 'x' FROM notif_private.provider WHERE name = 'apple';
SELECT notif.set_secret('apns-key', 'secret one');
SELECT count(*) AS tokens FROM notif_private.provider_token;
SELECT notif.set_secret('apns-key', 'secret three');
SELECT count(*) AS tokens FROM notif_private.provider_token;

-- rate limits
SELECT notif.define_rate_limit('hourly', 5, '1 hour');
SELECT notif.define_rate_limit('daily', 20, '1 day', 'defer');
SELECT notif.define_rate_limit('hourly', 6, '1 hour');
SELECT * FROM notif.rate_limits ORDER BY name;
SELECT try(c) FROM (VALUES
	('SELECT notif.define_rate_limit(''Bad Name'', 1, ''1 h'')'),
	('SELECT notif.define_rate_limit(''x'', 0, ''1 h'')'),
	('SELECT notif.define_rate_limit(''x'', NULL, ''1 h'')'),
	('SELECT notif.define_rate_limit(''x'', 1, ''0.1 s'')'),
	('SELECT notif.define_rate_limit(''x'', 1, ''2 months'')'),
	('SELECT notif.define_rate_limit(''x'', 1, NULL)'),
	('SELECT notif.define_rate_limit(''x'', 1, ''1 h'', ''panic'')')) v(c);
SELECT notif.drop_rate_limit('daily');
SELECT try('SELECT notif.drop_rate_limit(''daily'')');

-- a type's row holds what its category says, for those that look at it by the million
CREATE VIEW differs AS
SELECT t.name AS type FROM notif_private.type t JOIN notif_private.category c ON c.name = t.category
 WHERE (t.category_number, t.default_enabled, t.mandatory, t.bypasses_quiet, t.needs, t.max_attempts, t.retry_base,
		t.retry_cap, t.retention, t.on_unknown, t.digest_type)
	   IS DISTINCT FROM (c.number, c.default_enabled, c.mandatory, c.quiet_hours = 'bypass', c.needs, c.max_attempts, c.retry_base,
						 c.retry_cap, c.retention, c.on_unknown, c.digest_type);
SELECT notif.define_category('changing');
SELECT notif.define_type('changes', 'changing', title => 'Changed');
SELECT notif.define_type('summary', 'changing', title => '{count}');
SELECT notif.define_category('changing', on_unknown => 'hold', max_attempts => 3, retry_base => '2 s', retry_cap => '3 s', retention => 'long',
							 default_enabled => false, quiet_hours => 'bypass', requires_consent => '{push}');
SELECT notif.define_frequencies('changing', 'summary');
SELECT t.on_unknown, t.max_attempts, t.retry_base, t.retry_cap, t.retention, t.default_enabled, t.bypasses_quiet, t.needs, t.digest_type = d.id AS digest
FROM notif_private.type t, notif_private.type d WHERE t.name = 'changes' AND d.name = 'summary';
SELECT * FROM differs;
-- and that of another one once it is moved there
SELECT notif.define_type('changes', 'transactional', title => 'Changed');
SELECT c.name FROM notif_private.type t JOIN notif_private.category c ON c.number = t.category_number WHERE t.name = 'changes';
SELECT * FROM differs;
