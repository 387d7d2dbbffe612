-- Consent: the log, what it comes to, what it stops at fanout and at the claim, how
-- long an implied one holds, and the rules of countries.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/policy.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- The clock of the test starts on a Wednesday, whatever the day.
SELECT pg_temp.at('2027-01-13 12:00+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;
SELECT notif.define_category('marketing', requires_consent => '{push,email,sms}');
SELECT notif.define_category('social');
SELECT notif.define_category('security', mandatory => true);
SELECT name, requires_consent FROM notif.categories ORDER BY name;
SELECT notif.define_type('offer', 'marketing', title => 'offer', ttl => '3 days', ordered => false);
SELECT notif.define_type('like', 'social', title => 'like');
SELECT notif.define_type('alarm', 'security', title => 'alarm');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,cyd,dee,eve}'::text[]) r;
SELECT count(notif.register_device(r, r, 'ios', lpad(to_hex(n), 64, '0')))
FROM unnest('{ada,bob,cyd,dee,eve}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.define_category(''x'', requires_consent => ''{pigeon}'')'),
	('SELECT notif.define_category(''x'', requires_consent => ''{push,NULL}'')'),
	('SELECT notif.define_category(''x'', mandatory => true, requires_consent => ''{push}'')'),
	('SELECT notif.record_consent(''nobody'', ''push'', ''marketing'', true, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''pigeon'', ''marketing'', true, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', NULL, ''marketing'', true, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''nothing'', true, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', NULL, true, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', NULL, source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, ''vague'', source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true)'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, source => repeat(''x'', 256))'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', false, ''implied'', source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, basis => ''purchase'', source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, ''implied'', basis => ''hope'', source => ''web'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, source => ''web'', at => ''-infinity'')'),
	('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, source => ''web'', proof => to_jsonb(array(select md5(i::text) from generate_series(1, 3000) i)))'),
	('SELECT notif.record_consent(''ada'', ''push'', ''security'', false, source => ''web'')'),
	('SELECT notif.consents(''nobody'')'),
	('SELECT notif.upsert_recipient(''ada'', country => ''Germany'')'),
	('SELECT notif.upsert_recipient(''ada'', country => ''UK'')'),
	('SELECT notif.define_region_rule(''X'', ''{DE}'', ''{email}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE,ZZ}'', ''{email}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{}'', ''{email}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{pigeon}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'', ''{nothing}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'', ''{security}'', consent => ''express'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'', consent => ''some'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'', consent => ''implied'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{email}'', consent => ''express'', purchase => ''1 year'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{sms}'', send_from => ''21:00'', send_until => ''08:00'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{sms}'', send_from => ''00:00'', send_until => ''24:00'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{sms}'', send_from => ''08:00'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{sms}'', send_from => ''08:00'', send_until => ''21:00'', zones => ''{Mars/Olympus}'')'),
	('SELECT notif.define_region_rule(''x'', ''{DE}'', ''{sms}'', consent => ''express'', zones => ''{Europe/Berlin}'')'),
	('SELECT notif.drop_region_rule(''x'')')) v(c);
-- the times are not part of the message's form
SELECT split_part(try('SELECT notif.record_consent(''ada'', ''push'', ''marketing'', true, source => ''web'', at => notif.now() + interval ''1 hour'')'), ':', 1);
-- nothing of it left a trace
SELECT count(*) FROM notif_private.consent;
SELECT count(*) FROM notif_private.region_rule;

-- ---- the log, and what it comes to
SELECT notif.record_consent('ada', 'push', 'marketing', true, source => 'web:/newsletter', form_version => '2027-01', ip => '192.0.2.7',
							proof => '{"checked": ["offers"]}') > 0;
SELECT notif.record_consent('bob', 'push', 'marketing', true, 'implied', source => 'shop', at => '2026-12-01') > 0;
SELECT notif.record_consent('cyd', 'push', 'marketing', true, 'implied', basis => 'inquiry', source => 'chat', at => '2026-12-01') > 0;
SELECT notif.record_consent('dee', 'push', 'marketing', true, source => 'web') > 0;
SELECT notif.record_consent('dee', 'push', 'marketing', false, source => 'phone') > 0;
SELECT channel, category, granted, kind, basis, source, form_version, ip, proof, date_trunc('minute', at) AS at, recorded_by = session_user FROM notif.consents('ada');
SELECT recipient, channel, category, granted, kind, basis, source FROM notif.consent_log ORDER BY id;
SELECT r.ref, s.* FROM notif_private.recipient r CROSS JOIN LATERAL notif.consent_status(r.ref) s WHERE s.channel = 'push' ORDER BY 1;
-- consent to one channel is none to another
SELECT channel, allowed, needs, has FROM notif.consent_status('ada');
SELECT pg_temp.all_agree();
-- a refusal stands against a later purchase, not against a later word; what was said before it does not count
SELECT notif.record_consent('dee', 'push', 'marketing', true, 'implied', source => 'shop') > 0;
SELECT notif.record_consent('dee', 'push', 'marketing', true, 'written', source => 'import', at => '2025-01-01') > 0;
SELECT allowed, has FROM notif.consent_status('dee') WHERE channel = 'push';

-- ---- at the fanout
SELECT count(notif.publish('offer', recipients => '{ada,bob,cyd,dee,eve}', data => '{"what": "1 offer"}'));
SELECT count(notif.publish('like', recipients => '{ada,dee,eve}', data => '{"what": "1 like"}'));
SELECT count(notif.publish('alarm', recipients => '{dee}', data => '{"what": "1 alarm"}'));
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates();
-- ---- withdrawn between fanout and claim, also where nothing asks for consent
SELECT count(notif.publish('offer', recipients => '{ada,bob}', data => '{"what": "2 offer"}'));
SELECT count(notif.publish('like', recipients => '{ada,bob}', data => '{"what": "2 like"}'));
SELECT pg_temp.route();
SELECT notif.record_consent('ada', 'push', 'marketing', false, source => 'web') > 0;
SELECT notif.record_consent('bob', 'push', 'social', false, source => 'web') > 0;
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '2%';
SELECT gate, verdict, detail - 'log', agrees FROM notif.explain('offer', 'ada') WHERE gate LIKE 'consent%';
SELECT jsonb_path_query_array(detail, '$.log[*].granted') FROM notif.explain('offer', 'ada') WHERE gate = 'consent push';
SELECT pg_temp.all_agree();
-- given again
SELECT notif.record_consent('ada', 'push', 'marketing', true, source => 'web') > 0;
SELECT notif.record_consent('dee', 'push', 'marketing', true, source => 'web') > 0;
SELECT r.ref, s.allowed, s.has FROM notif_private.recipient r CROSS JOIN LATERAL notif.consent_status(r.ref) s
WHERE s.channel = 'push' AND s.category = 'marketing' ORDER BY 1;

-- ---- implied consent ends by itself: an inquiry after 6 months, a purchase after 24
SELECT pg_temp.at('2027-05-31 23:59:50+00');
SELECT count(notif.publish('offer', recipients => '{bob,cyd}', data => '{"what": "3 offer"}'));
SELECT pg_temp.route();
SELECT pg_temp.at('2027-06-01 00:00:10+00');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '3%';
SELECT has, until FROM notif.consent_status('cyd') WHERE channel = 'push';
SELECT verdict, agrees FROM notif.explain('offer', 'cyd') WHERE gate = 'consent push';
SELECT pg_temp.at('2028-12-01 00:00:01+00');
SELECT verdict, detail -> 'has' AS has, agrees FROM notif.explain('offer', 'bob') WHERE gate = 'consent push';
SELECT count(notif.publish('offer', recipients => '{bob}', data => '{"what": "4 offer"}'));
SELECT pg_temp.route();
SELECT * FROM pg_temp.fates() WHERE what LIKE '4%';
-- another purchase
SELECT notif.record_consent('bob', 'push', 'marketing', true, 'implied', source => 'shop') > 0;
SELECT has, date_trunc('minute', until) AS until FROM notif.consent_status('bob') WHERE channel = 'push' AND category = 'marketing';

-- ---- countries
SELECT notif.install_region_rules();
SELECT name, cardinality(countries) AS countries, channels, categories, consent, purchase, inquiry, send_from, send_until, zones
FROM notif.region_rules ORDER BY name;
SELECT notif.upsert_recipient('ada', country => 'us') > 0, notif.upsert_recipient('bob', country => 'CA') > 0,
	   notif.upsert_recipient('cyd', country => 'DE') > 0, notif.upsert_recipient('dee', country => 'BR') > 0;
SELECT ref, country FROM notif.recipients ORDER BY ref;
SELECT r.ref, s.channel, s.allowed, s.needs, s.has, date_trunc('minute', s.until) AS until, s.rules
FROM notif_private.recipient r CROSS JOIN LATERAL notif.consent_status(r.ref) s WHERE s.category = 'marketing' ORDER BY 1, 2;
SELECT pg_temp.all_agree();
-- in Germany a purchase is no consent; a rule in force holds for what is waiting
SELECT notif.record_consent('cyd', 'push', 'marketing', true, 'implied', source => 'shop') > 0;
SELECT count(notif.publish('offer', recipients => '{ada,bob,cyd,dee,eve}', data => '{"what": "5 offer"}'));
SELECT pg_temp.route();
SELECT notif.define_region_rule('br-push', '{BR}', '{push}', '{marketing}', consent => 'written');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '5%';
-- one that names the category goes before; it may also ask less, or of a category that asks for nothing itself
SELECT notif.define_region_rule('de-known', '{DE}', '{push}', '{marketing}', consent => 'implied', purchase => '12 months');
SELECT notif.define_region_rule('social-br', '{BR}', '{push}', '{social}', consent => 'express');
SELECT r.ref, s.category, s.allowed, s.needs, s.has, date_trunc('minute', s.until) AS until, s.rules
FROM notif_private.recipient r CROSS JOIN LATERAL notif.consent_status(r.ref) s WHERE s.channel = 'push' AND r.ref IN ('cyd', 'dee') ORDER BY 1, 2;
-- of equals the strictest
SELECT notif.define_region_rule('br-more', '{BR,DE}', '{push}', '{marketing}', consent => 'express');
SELECT r.ref, s.needs, s.rules
FROM notif_private.recipient r CROSS JOIN LATERAL notif.consent_status(r.ref) s WHERE s.channel = 'push' AND s.category = 'marketing' AND r.ref IN ('cyd', 'dee') ORDER BY 1;
SELECT notif.drop_region_rule(n) FROM unnest('{br-push,br-more,de-known,social-br}'::text[]) n;
SELECT pg_temp.all_agree();

-- ---- hours, here for push; no category bypasses them
SELECT notif.define_category('marketing', requires_consent => '{push,email,sms}', quiet_hours => 'bypass');
SELECT notif.define_region_rule('us-push', '{US}', '{push}', send_from => '08:00', send_until => '21:00',
								zones => '{America/New_York,Pacific/Honolulu}');
SELECT notif.record_consent(r, 'push', 'marketing', true, source => 'web') > 0 FROM unnest('{ada,eve}'::text[]) r;
SELECT notif.upsert_recipient('eve', country => 'US', tz => 'America/Chicago') > 0;
SELECT pg_temp.at('2029-01-10 11:00+00');
SELECT count(notif.publish('offer', recipients => '{ada,eve}', data => '{"what": "6 offer"}'));
SELECT count(notif.publish('like', recipients => '{ada,eve}', data => '{"what": "6 like"}'));
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '6%';
SELECT r.ref, x.verdict, x.detail FROM notif_private.recipient r CROSS JOIN LATERAL notif.explain('offer', r.ref) x
WHERE r.ref IN ('ada', 'bob', 'eve') AND x.gate = 'send hours' ORDER BY 1;
-- of ada's zone nothing is known: it must be allowed in New York and in Honolulu
SELECT pg_temp.at('2029-01-10 14:30+00');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '6%';
SELECT pg_temp.at('2029-01-10 18:30+00');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE '6%';
-- of two rules without a common hour nothing goes at once, and nothing is lost
SELECT notif.define_region_rule('us-never', '{US}', '{push}', send_from => '22:00', send_until => '23:00');
SELECT windows[1:2] FROM notif_private.consent_need WHERE country = 'US' AND channel = 1;
SELECT notif.drop_region_rule('us-never');

-- ---- an inbox that asks for consent
SELECT notif.define_category('tips', requires_consent => '{inbox}');
SELECT notif.define_type('tip', 'tips', title => 'tip', channels => '{inbox}');
SELECT notif.record_consent('bob', 'inbox', 'tips', true, source => 'web') > 0;
SELECT notif.upsert_recipient('bob', tz => 'UTC') > 0;
SELECT count(notif.publish('tip', recipients => '{ada,bob}', data => '{"what": "7 tip"}'));
SELECT pg_temp.route();
SELECT * FROM pg_temp.fates() WHERE what LIKE '7%';
SELECT pg_temp.all_agree();

-- ---- a category that is dropped: the log still says what it was
SELECT notif.define_category('gone', requires_consent => '{push}');
SELECT notif.record_consent('ada', 'push', 'gone', true, source => 'web') > 0;
SELECT notif.define_region_rule('gone', '{DE}', '{push}', '{gone}', consent => 'written');
SELECT notif.drop_category('gone');
SELECT count(*) FROM notif.region_rules WHERE name = 'gone';
SELECT category, granted FROM notif.consents('ada') WHERE category = 'gone';
SELECT count(*) FROM notif_private.consent_need n WHERE NOT EXISTS (SELECT FROM notif_private.category c WHERE c.number = n.category);
SELECT pg_temp.all_agree();
SELECT * FROM notif.audit() WHERE NOT agrees;
