-- Preferences, mutes and the switch for everything: what they say, what they stop
-- at fanout and at the claim, and that the compiled profile says the same.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
CREATE FUNCTION pg_temp.route() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	step	record;
BEGIN
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		EXIT WHEN NOT step.more;
	END LOOP;
END
$$;
-- Flights are numbered; a claim of everything.
CREATE SEQUENCE flights;
CREATE FUNCTION pg_temp.claim() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, nextval('flights')) c
$$;
-- What became of each event, by its data's name.
CREATE FUNCTION pg_temp.fates(OUT what text, OUT person text, OUT fate text, OUT in_inbox boolean) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT e.data ->> 'what', r.ref, x.fate,
		   EXISTS (SELECT FROM notif_private.inbox i WHERE i.id = notif_private.item_id(e.id, r.id))
	FROM notif_private.event e
	CROSS JOIN unnest(e.recipients) a(id)
	JOIN notif_private.recipient r ON r.id = a.id
	LEFT JOIN (SELECT f.event, f.recipient, 'in flight' AS fate FROM notif_private.flying_standard f
		  UNION ALL SELECT q.event, q.recipient, 'queued' FROM notif_private.queued_standard q
		  UNION ALL SELECT o.event, o.recipient, o.attempt || ' ' || o.state || coalesce(' ' || o.reason, '') FROM notif_private.outcome o) x
		ON x.event = e.id AND x.recipient = r.id
	ORDER BY 1, 2, 3
$$;
CREATE FUNCTION pg_temp.all_agree() RETURNS boolean LANGUAGE sql AS $$
	SELECT count(*) > 0 AND bool_and(x.agrees)
	FROM notif_private.recipient r CROSS JOIN notif_private.type t CROSS JOIN LATERAL notif.explain(t.name, r.ref) x
	WHERE x.agrees IS NOT NULL
$$;

SELECT notif.define_category('social');
SELECT notif.define_category('marketing', default_enabled => false);
SELECT notif.define_category('security', mandatory => true);
SELECT notif.define_type('like', 'social', title => 'like');
SELECT notif.define_type('offer', 'marketing', title => 'offer');
SELECT notif.define_type('alarm', 'security', title => 'alarm');
SELECT notif.define_type('note', 'social', title => 'note', channels => '{inbox}');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,cyd,dee,eve}'::text[]) r;
SELECT count(notif.register_device(r, r || d, 'ios', lpad(to_hex(10 * n + d), 64, '0')))
FROM unnest('{ada,bob,cyd,dee,eve}'::text[]) WITH ORDINALITY u(r, n) CROSS JOIN generate_series(1, 2) d;

-- ---- what is refused
SELECT try(c) FROM (VALUES
	('SELECT notif.define_category(''x'', mandatory => true, default_enabled => false)'),
	('SELECT notif.define_category(''x'', mandatory => NULL)'),
	('SELECT notif.define_category(''x'', default_enabled => NULL)'),
	('SELECT notif.set_preference(''nobody'', ''push'', ''social'', false)'),
	('SELECT notif.set_preference(''ada'', ''push'', ''nothing'', false)'),
	('SELECT notif.set_preference(''ada'', ''pigeon'', ''social'', false)'),
	('SELECT notif.set_preference(''ada'', ''email'', ''social'', false)'),
	('SELECT notif.set_preference(''ada'', NULL, NULL, false)'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''daily'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''hourly'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''weekly'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', frequency => ''often'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', true, ''off'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''social'', false, ''realtime'')'),
	('SELECT notif.set_preference(''ada'', ''push'', ''security'', false)'),
	('SELECT notif.set_preference(''ada'', NULL, ''security'', frequency => ''off'')'),
	('SELECT notif.mute(''ada'')'),
	('SELECT notif.mute(''ada'', source => '''')'),
	('SELECT notif.mute(''ada'', source => ''a'', thread => ''b'')'),
	('SELECT notif.mute(''ada'', thread => repeat(''x'', 256))'),
	('SELECT notif.unmute(''ada'')'),
	('SELECT notif.explain(''nothing'', ''ada'')'),
	('SELECT notif.explain(''like'', ''nobody'')'),
	('SELECT notif.explain(''01890a5d-ac96-774b-bcce-b302099a8057'', ''ada'')')) v(c);
-- the time is not part of the message's form
SELECT split_part(try('SELECT notif.mute(''ada'', source => ''a'', until => ''2001-01-01'')'), ':', 1);
-- nothing of it left a trace
SELECT count(*) FROM notif_private.preference;
SELECT count(*) FROM notif_private.mute;

-- ---- what holds, and why
SELECT * FROM notif.preferences('ada');
SELECT notif.set_preference('ada', 'push', 'social', enabled => false);
SELECT notif.set_preference('ada', 'inbox', 'marketing', frequency => 'realtime');
SELECT channel, category, enabled, frequency, origin, changed_at IS NOT NULL AS dated FROM notif.preferences('ada');
-- a wider call replaces what it covers, a narrower one is the last word
SELECT notif.set_preference('ada', 'push', NULL, enabled => true);
SELECT channel, category, enabled, origin FROM notif.preferences('ada');
SELECT notif.set_preference('ada', NULL, 'social', enabled => false);
SELECT channel, category, enabled, origin FROM notif.preferences('ada');
SELECT notif.set_preference('ada', 'push', 'social', enabled => true);
SELECT notif.set_preference('ada', 'push', NULL, enabled => false);
SELECT channel, category, enabled, origin FROM notif.preferences('ada');
-- of a channel's and a category's the later one
SELECT notif.set_preference('ada', NULL, 'marketing', enabled => true);
SELECT channel, category, enabled, origin FROM notif.preferences('ada') WHERE category = 'marketing';
-- it also holds for a category that is defined later
SELECT notif.define_category('later');
SELECT notif.define_type('late', 'later', title => 'late');
SELECT channel, category, enabled, origin FROM notif.preferences('ada') WHERE category = 'later';
SELECT pg_temp.all_agree();
SELECT notif.switch_off('ada'), notif.switch_off('ada');
SELECT channel, category, enabled, origin FROM notif.preferences('ada');
SELECT pg_temp.all_agree();
SELECT notif.switch_on('ada'), notif.switch_on('ada');
SELECT notif.reset_preference('ada', category => 'social'), notif.reset_preference('ada', 'push', 'social'), notif.reset_preference('ada');
SELECT count(*) FROM notif_private.preference;
SELECT channel, category, enabled, origin FROM notif.preferences('ada');
SELECT * FROM notif_private.profile;
-- redefining keeps the number, dropping takes the preferences along
SELECT notif.set_preference('ada', 'push', 'later', enabled => false);
SELECT number AS before FROM notif_private.category WHERE name = 'later' \gset
SELECT notif.define_category('later', max_attempts => 3);
SELECT number = :before AS kept FROM notif_private.category WHERE name = 'later';
SELECT channel, category, enabled, origin FROM notif.preferences('ada') WHERE category = 'later';
SELECT notif.define_type('late', 'social', title => 'late');
SELECT notif.drop_category('later');
SELECT count(*) FROM notif_private.preference;
SELECT * FROM notif_private.profile;
SELECT notif.define_category('later');
SELECT channel, category, enabled, origin FROM notif.preferences('ada') WHERE category = 'later';
SELECT name, default_enabled, mandatory FROM notif.categories ORDER BY name;

-- ---- at fanout
SELECT notif.set_preference('bob', 'push', 'social', enabled => false);
SELECT notif.set_preference('cyd', 'inbox', NULL, enabled => false);
SELECT notif.set_preference('cyd', NULL, 'marketing', enabled => true);
SELECT notif.switch_off('dee');
SELECT notif.mute('eve', source => 'bot', until => notif.now() + interval '1 hour');
SELECT notif.mute('eve', thread => 'team');
SELECT what, name, until IS NULL AS for_ever FROM notif.mutes('eve');
SELECT count(notif.publish(t, recipients => ARRAY['ada', 'bob', 'cyd', 'dee', 'eve'], data => jsonb_build_object('what', t)))
FROM unnest(ARRAY['like', 'offer', 'alarm', 'note']) t;
SELECT notif.publish('like', 'eve', '{"what": "like of the bot"}', source => 'bot') IS NOT NULL;
SELECT notif.publish('like', 'eve', '{"what": "like in the thread"}', source => 'man', thread => 'team') IS NOT NULL;
SELECT notif.publish('like', 'eve', '{"what": "like of another"}', source => 'team', thread => 'bot') IS NOT NULL;
SELECT notif.publish('alarm', 'eve', '{"what": "alarm of the bot"}', source => 'bot') IS NOT NULL;
SELECT notif.publish('like', 'ada', '{"what": "like of the bot"}', source => 'bot') IS NOT NULL;
SELECT pg_temp.route();
SELECT * FROM pg_temp.fates();
SELECT pg_temp.claim();
SELECT count(*) FROM pg_temp.fates() WHERE fate = 'queued';
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- at the claim: committed after the fanout, before the claim's snapshot
SELECT count(notif.publish('like', r, '{"what": "waiting like"}', source => 'bot', thread => 'team')) FROM unnest('{ada,bob,cyd,dee}'::text[]) r;
SELECT notif.switch_on('dee'), notif.reset_preference('bob'), notif.reset_preference('cyd');
SELECT count(notif.publish('alarm', r, '{"what": "waiting alarm"}', source => 'bot', thread => 'team')) FROM unnest('{ada,bob,cyd,dee}'::text[]) r;
SELECT count(notif.publish('like', 'eve', '{"what": "muted an hour"}', source => 'bot'));
SELECT pg_temp.route();
SELECT notif.set_preference('ada', 'push', 'social', enabled => false);
SELECT notif.switch_off('bob');
SELECT notif.mute('cyd', source => 'bot');
SELECT notif.mute('dee', thread => 'another');
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what LIKE 'waiting%' OR what = 'muted an hour';
-- a category whose default changes while something waits
SELECT count(notif.publish('like', 'cyd', '{"what": "default"}'));
SELECT pg_temp.route();
SELECT notif.define_category('social', default_enabled => false);
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what = 'default';
SELECT notif.define_category('social');
-- the mute of a source ends by itself
SELECT notif_private.shift_clock(3601 * 1000000::bigint) > 0 AS later;
SELECT what, name FROM notif.mutes('eve');
SELECT notif.unmute('eve', source => 'bot');
SELECT notif.publish('like', 'eve', '{"what": "after the hour"}', source => 'bot') IS NOT NULL;
SELECT notif.publish('like', 'eve', '{"what": "still muted"}', thread => 'team') IS NOT NULL AS published;
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT * FROM pg_temp.fates() WHERE what IN ('after the hour', 'still muted');
SELECT notif.unmute('eve', thread => 'team'), notif.unmute('eve', thread => 'team');
SELECT * FROM notif_private.profile p WHERE p.recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'eve');
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- a transaction that is rolled back leaves neither source nor profile
BEGIN;
SELECT notif.switch_off('eve');
ROLLBACK;
SELECT pg_temp.all_agree();

-- ---- mutes are bounded; those that are over make room
SELECT count(notif.mute('eve', source => 'm' || i, until => notif.now() + interval '1 minute')) FROM generate_series(1, 1000) i;
SELECT try('SELECT notif.mute(''eve'', source => ''one more'')');
SELECT notif_private.shift_clock(61 * 1000000::bigint) > 0 AS later;
SELECT notif.mute('eve', source => 'one more');
SELECT count(*) FROM notif_private.mute WHERE recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'eve');
SELECT notif.unmute('eve', source => 'one more');

-- ---- explain
SELECT notif.define_rate_limit('hour', 1, '1 hour', 'defer');
SELECT step, gate, verdict, agrees FROM notif.explain('like', 'ada');
SELECT step, gate, verdict, agrees FROM notif.explain('note', 'ada');
SELECT step, gate, verdict, agrees FROM notif.explain('alarm', 'bob');
SELECT step, gate, verdict, agrees FROM notif.explain('like', 'bob');
SELECT notif.publish('like', 'eve', '{"what": "explained"}', thread => 'talk') AS explained \gset
SELECT pg_temp.route();
SELECT pg_temp.claim();
SELECT notif.mute('eve', thread => 'talk');
SELECT notif.pause('tier', 'standard');
SELECT notif.disable_type('like');
SELECT notif.cancel(:'explained');
SELECT step, gate, verdict, agrees FROM notif.explain(:'explained', 'eve');
SELECT gate, detail - 'at' - 'changed_at' - 'since' AS detail FROM notif.explain(:'explained', 'eve')
WHERE gate NOT IN ('outcome', 'rate limit', 'expiry');
SELECT step, gate, verdict, agrees FROM notif.explain(:'explained'::uuid, 'ada') WHERE gate = 'audience';
-- a profile that does not follow from its sources is told
SELECT pg_temp.all_agree();
UPDATE notif_private.profile SET choices = '{1}', muted = NULL, muted_until = NULL, switched_off = true
WHERE recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'eve');
SELECT gate, verdict, agrees FROM notif.explain(:'explained', 'eve') WHERE NOT agrees;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
