-- The suppression list: one address in every way of writing it, at registration, at
-- the fanout and at the claim, and over the erasure of its owner.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/policy.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT notif.define_category('social');
SELECT notif.define_category('security', mandatory => true);
SELECT notif.define_type('like', 'social', title => 'like', ordered => false);
SELECT notif.define_type('alarm', 'security', title => 'alarm', ordered => false);
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,cyd}'::text[]) r;
SELECT notif.register_device(r, 'phone', 'ios', repeat(t, 32)) > 0 FROM (VALUES ('ada', 'a1'), ('bob', 'b1'), ('cyd', 'c1')) v(r, t);
SELECT notif.register_device('ada', 'tablet', 'ipados', repeat('a2', 32)) > 0;

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.suppress('''', ''email'', ''complaint'')'),
	('SELECT notif.suppress(NULL, ''email'', ''complaint'')'),
	('SELECT notif.suppress(''  '', NULL, ''complaint'')'),
	('SELECT notif.suppress(''a@example.com'', ''pigeon'', ''complaint'')'),
	('SELECT notif.suppress(''a@example.com'', ''email'')'),
	('SELECT notif.suppress(''a@example.com'', ''email'', repeat(''x'', 256))'),
	('SELECT notif.suppress(''Ada <a@example.com>'', ''email'', ''complaint'')'),
	('SELECT notif.suppress(''0171 555'', ''sms'', ''stop'')'),
	('SELECT notif.suppress(repeat(''x'', 2049), NULL, ''legal'')'),
	('SELECT notif.unsuppress(''a@example.com'', ''pigeon'')'),
	('SELECT notif.suppressed('''')')) v(c);
SELECT count(*) FROM notif.suppressions;

-- ---- one address, however it is written
SELECT a, notif_private.normal_address(a) FROM unnest(ARRAY[' Ada@Example.COM ', '+1 (415) 555-0100', '0014155550100', '+14155550100',
	repeat('AB', 16), 'https://Hooks.Example.com/Path?x=Y', 'U0AbcZ', '0171/555']) a;
SELECT notif.suppress('Ada@Example.com', 'email', 'complaint', source => 'ses');
SELECT notif.suppress('ada@example.com', 'email', 'again');
SELECT notif.suppress('+1 415 555 0100', 'sms', 'stop');
SELECT notif.suppress('+14155550100', NULL, 'legal');
SELECT channel, reason, source, by = session_user FROM notif.suppressed('ADA@example.com');
SELECT channel, reason FROM notif.suppressed('00 1 415 5550100');
SELECT notif_private.is_suppressed('+14155550100', c) FROM unnest(notif_private.channel_names()) c;
SELECT c, notif_private.is_suppressed('ada@example.com', c) FROM unnest(notif_private.channel_names()) c;
-- the list has no address, and another key has other hashes
SELECT count(*), count(DISTINCT address_hash), min(length(address_hash)) FROM notif.suppressions;
SELECT count(*) FROM notif.suppressions WHERE address_hash = encode(sha256('ada@example.com'), 'hex');
SELECT notif.unsuppress('ada@EXAMPLE.com', 'email');
SELECT notif.unsuppress('ada@example.com', 'email');

-- ---- at the fanout, in mandatory categories too; the inbox is no address
SELECT notif.suppress(repeat('A1', 32), 'push', 'legal');
SELECT recipient, device_id, state, suppressed FROM notif.endpoints ORDER BY 1, 2;
SELECT count(notif.publish(t, recipients => '{ada,bob}', data => jsonb_build_object('what', '1 ' || t))) FROM unnest('{like,alarm}'::text[]) t;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates();
SELECT gate, verdict, detail #> '{listed,0,reason}' AS reason, agrees FROM notif.explain('alarm', 'ada') WHERE gate = 'suppression list';
SELECT gate, verdict, detail, agrees FROM notif.explain('alarm', 'bob') WHERE gate = 'suppression list';
-- ---- at the claim; for another channel it says nothing
SELECT notif.suppress(repeat('c1', 32), 'webpush', 'legal');
SELECT count(notif.publish('alarm', recipients => '{bob,cyd}', data => '{"what": "2 alarm"}'));
SELECT pg_temp.route();
SELECT notif.suppress(repeat('b1', 32), NULL, 'legal');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '2%';
-- ---- an address that is registered later, moves, or is taken off the list
SELECT notif.register_device('cyd', 'tablet', 'ipados', repeat('b1', 32)) > 0;
SELECT notif.suppress(repeat('dd', 32), NULL, 'legal');
SELECT notif.register_device('cyd', 'watch', 'watchos', repeat('dd', 32)) > 0;
SELECT recipient, device_id, state, suppressed FROM notif.endpoints WHERE recipient <> 'ada' ORDER BY 1, 2;
SELECT notif.unsuppress(repeat('DD', 32));
SELECT recipient, device_id, suppressed FROM notif.endpoints WHERE device_id = 'watch';
SELECT notif.register_device('cyd', 'tablet', 'ipados', repeat('b2', 32)) > 0;
SELECT recipient, device_id, suppressed FROM notif.endpoints WHERE recipient = 'cyd' ORDER BY 2;

-- ---- an endpoint without its flag, as a registration at the same time leaves it
SELECT notif.suppress(repeat('c1', 32), 'push', 'stop');
UPDATE notif_private.endpoint SET suppressed = false WHERE address = repeat('c1', 32);
SELECT count(notif.publish('like', recipients => '{cyd}', data => '{"what": "3 like"}'));
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '3%';
-- and nobody else in the batch is taken for it, whatever comes of him
SELECT notif.upsert_recipient('dot') > 0, notif.register_device('dot', 'phone', 'ios', repeat('d1', 32)) > 0;
SELECT notif.publish('like', 'cyd', '{"what": "4 like"}') IS NOT NULL;
SELECT notif.publish('like', 'dot', '{"what": "4 like"}', send_if => 'true') IS NOT NULL;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT o.state, o.reason, e.device_id
FROM notif_private.outcome o JOIN notif_private.event v ON v.id = o.event AND v.data ->> 'what' = '4 like'
JOIN notif_private.endpoint e ON e.id = o.endpoint ORDER BY 1;
SELECT count(*) > 0 AS recent FROM notif_private.suppression WHERE recent_address IS NOT NULL;
-- while the transaction is open that may have brought it, it stays recent
BEGIN;
SELECT notif.suppress(repeat('ee', 32), 'push', 'stop');
SELECT notif_private.settle_suppressions() > 0;
SELECT count(*) > 0 AS recent FROM notif_private.suppression WHERE recent_address IS NOT NULL;
COMMIT;
SELECT did FROM notif_private.worker_upkeep('30 days', 13);
SELECT count(*) FROM notif_private.suppression WHERE recent_address IS NOT NULL OR xid IS NOT NULL;
SELECT suppressed FROM notif.endpoints WHERE recipient = 'cyd' AND device_id = 'phone';
SELECT did FROM notif_private.worker_upkeep('30 days', 13);

-- ---- who is erased comes back as somebody else, the address does not
SELECT notif.erase_recipient('ada') > 0;
SELECT notif.upsert_recipient('lovelace') > 0;
SELECT notif.register_device('lovelace', 'phone', 'ios', repeat('a1', 32)) > 0;
SELECT device_id, suppressed FROM notif.endpoints WHERE recipient = 'lovelace';
SELECT * FROM notif.audit() WHERE NOT agrees;
