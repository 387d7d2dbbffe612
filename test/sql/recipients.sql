-- Recipients and their devices.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all


-- recipients: NULL leaves what is stored
SELECT notif.upsert_recipient('ada', locale => 'en-GB', tz => 'Europe/London', attributes => '{"name": "Ada"}');
SELECT notif.upsert_recipient('bob');
SELECT notif.upsert_recipient('ada');
SELECT notif.upsert_recipient('ada', tz => 'Asia/Tokyo');
SELECT ref, locale, tz, attributes, active FROM notif.recipients ORDER BY ref;
SELECT notif.upsert_recipient('ada', attributes => '{"vip": true}', locale => 'zh-Hant-TW');
SELECT ref, locale, tz, attributes, active FROM notif.recipients WHERE ref = 'ada';
-- a call that changes nothing writes nothing
BEGIN;
SELECT notif.upsert_recipient('ada', attributes => '{"vip": true}', locale => 'zh-Hant-TW', tz => 'Asia/Tokyo');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT try(c) FROM (VALUES
	('SELECT notif.upsert_recipient(NULL)'),
	('SELECT notif.upsert_recipient('''')'),
	('SELECT notif.upsert_recipient(repeat(''x'', 256))')) v(c);
SELECT try(format('SELECT notif.upsert_recipient(''bob'', locale => %L)', l))
FROM unnest('{e,en_GB,"en GB",en-,-en,123,"",en-toolongsubtag,deutsch}'::text[]) l;
SELECT try(format('SELECT notif.upsert_recipient(''bob'', tz => %L)', z))
FROM unnest('{UTC,America/Argentina/Buenos_Aires,America/Port-au-Prince,Etc/GMT+5,EST5EDT,Japan}'::text[]) z;
SELECT try(format('SELECT notif.upsert_recipient(''bob'', tz => %L)', z))
FROM unnest('{Mars/Olympus,CEST,PDT,CET-1CEST,XYZ3,Foo/Bar5,+02:00,"",../../etc/passwd,Europe/,"Europe/Berlin "}'::text[]) z;
SELECT try(c) FROM (VALUES
	('SELECT notif.upsert_recipient(''bob'', attributes => ''[1]'')'),
	('SELECT notif.upsert_recipient(''bob'', attributes => ''null'')'),
	('SELECT notif.upsert_recipient(''bob'', attributes => jsonb_build_object(''x'', (SELECT string_agg(md5(i::text), '''') FROM generate_series(1, 5000) i)))')) v(c);
SELECT ref, locale, tz, attributes FROM notif.recipients WHERE ref = 'bob';
SELECT notif.deactivate_recipient('bob'), notif.deactivate_recipient('bob');
SELECT ref, active FROM notif.recipients ORDER BY ref;
SELECT notif.activate_recipient('bob'), notif.activate_recipient('bob');
SELECT try(c) FROM (VALUES
	('SELECT notif.deactivate_recipient(''eve'')'),
	('SELECT notif.activate_recipient(NULL)')) v(c);

-- devices
CREATE TEMP VIEW devices AS
	SELECT recipient, device_id, platform, app, token, state, reason, app_version, locale FROM notif.endpoints
	ORDER BY recipient, app, platform, device_id;
SELECT notif.register_device('ada', 'phone', 'ios', repeat('A1', 32), app_version => '1.0', locale => 'en') AS phone \gset
SELECT notif.register_device('ada', 'tablet', 'ipados', repeat('a2', 32)) AS tablet \gset
SELECT * FROM devices;
-- the same again writes nothing
BEGIN;
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32), app_version => '1.0') = :phone AS same;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
-- a new version alone is no new registration
SELECT registered_at AS registered FROM notif_private.endpoint WHERE id = :phone \gset
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32), app_version => '1.1') = :phone AS same;
SELECT app_version, locale, registered_at = :'registered' AS same_registration FROM notif_private.endpoint WHERE id = :phone;
-- a new token is
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a3', 32)) = :phone AS same;
SELECT left(address, 4), app_version, state, registered_at > :'registered' AS registered_anew FROM notif_private.endpoint WHERE id = :phone;
-- a doubted token stays doubted when it is registered again, a new one is not
UPDATE notif_private.endpoint SET state = 'quarantined', state_reason = 'BadDeviceToken', quarantine_mark = 3 WHERE id = :phone;
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a3', 32), locale => 'de') = :phone AS same;
SELECT state, state_reason, quarantine_mark, locale FROM notif_private.endpoint WHERE id = :phone;
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32)) = :phone AS same;
SELECT state, state_reason, quarantine_mark FROM notif_private.endpoint WHERE id = :phone;
-- a dead one lives again
UPDATE notif_private.endpoint SET state = 'invalid', state_reason = 'Unregistered', registered_at = '2000-01-01' WHERE id = :phone;
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32)) = :phone AS same;
SELECT state, state_reason, registered_at > '2000-01-01' AS registered_anew FROM notif_private.endpoint WHERE id = :phone;
-- a token moves with its device: to somebody else, to another device, to another platform
SELECT notif.register_device('bob', 'phone', 'ios', repeat('a1', 32)) <> :phone AS another;
SELECT * FROM devices;
SELECT notif.register_device('bob', 'new phone', 'ios', repeat('a1', 32)) > 0 AS registered;
SELECT notif.register_device('bob', 'new phone', 'visionos', repeat('a1', 32)) > 0 AS registered;
SELECT * FROM devices;
-- but the same token of another application is another token
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32), app => 'bank') > 0 AS registered;
SELECT * FROM devices WHERE state = 'active';
-- no two living endpoints of an application share a token
SELECT a.name, e.address FROM notif_private.endpoint e JOIN notif_private.app a ON a.id = e.app_id
WHERE e.state <> 'invalid' GROUP BY 1, 2 HAVING count(*) > 1;

SELECT notif.unregister_device('ada', 'tablet'), notif.unregister_device('ada', 'tablet');
SELECT notif.unregister_device('ada', 'phone', app => 'bank'), notif.unregister_device('ada', 'no such device');
SELECT * FROM devices;
SELECT try(c) FROM (VALUES
	('SELECT notif.unregister_device(''eve'', ''phone'')'),
	('SELECT notif.register_device(''eve'', ''phone'', ''ios'', repeat(''b1'', 32))'),
	('SELECT notif.register_device(NULL, ''phone'', ''ios'', repeat(''b1'', 32))'),
	('SELECT notif.register_device(''ada'', '''', ''ios'', repeat(''b1'', 32))'),
	('SELECT notif.register_device(''ada'', NULL, ''ios'', repeat(''b1'', 32))'),
	('SELECT notif.register_device(''ada'', repeat(''x'', 256), ''ios'', repeat(''b1'', 32))')) v(c);
SELECT try(format('SELECT notif.register_device(''ada'', ''phone'', %L, repeat(''b1'', 32))', p))
FROM unnest('{symbian,android,iOS,NULL}'::text[]) p;
SELECT try(format('SELECT notif.register_device(''ada'', ''phone'', ''ios'', %L)', t))
FROM unnest(ARRAY['', NULL, 'abc', 'xyz', repeat('g1', 32), ' ' || repeat('b1', 32), repeat('b1', 32) || '/../x']) t;
SELECT try(c) FROM (VALUES
	('SELECT notif.register_device(''ada'', ''phone'', ''ios'', repeat(''b1'', 32), app => '''')'),
	('SELECT notif.register_device(''ada'', ''phone'', ''ios'', repeat(''b1'', 32), app => NULL)'),
	('SELECT notif.register_device(''ada'', ''phone'', ''ios'', repeat(''b1'', 32), app_version => repeat(''x'', 256))'),
	('SELECT notif.register_device(''ada'', ''phone'', ''ios'', repeat(''b1'', 32), locale => ''en_GB'')')) v(c);
SELECT count(*) FROM notif_private.endpoint WHERE address LIKE 'b1%';
