-- notif.preview: the gates' own verdicts on a publish, and no trace of it afterwards.
SET client_min_messages = warning;
SET timezone = 'UTC';

SELECT notif.define_category('shop', rate_limited => true);
SELECT notif.define_category('ads', default_enabled => false, rate_limited => false);
SELECT notif.define_type('sale', 'shop', title => 'Sale {percent}', tier => 'bulk');
SELECT notif.define_type('order', 'shop', title => 'Order', channels => '{push,inbox}');
SELECT notif.define_type('code', 'shop', title => 'Code', tier => 'critical');
SELECT notif.define_type('ad', 'ads', title => 'Ad', tier => 'bulk');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, 1200) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, 1199) i;
SELECT notif.register_device('p1', 'tablet', 'ios', lpad(to_hex(5000), 64, '0')) IS NOT NULL AS ok;
SELECT count(notif.subscribe('p' || i, 'all')) FROM generate_series(1, 1200) i;
SELECT notif.switch_off('p2');
SELECT notif.mute('p3', source => 'shop');
SELECT notif.set_preference('p4', 'push', 'shop', enabled => false);
SELECT notif.deactivate_recipient('p5');
SELECT notif.define_rate_limit('hour', 1, '1 hour', action => 'defer');

CREATE FUNCTION counts() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	rel		text;
	n		bigint;
	total	bigint := 0;
BEGIN
	FOR rel IN SELECT format('%I.%I', s.nspname, c.relname) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE s.nspname = 'notif_private' AND c.relkind = 'r' LOOP
		EXECUTE 'SELECT count(*) FROM ' || rel INTO n;
		total := total + n;
	END LOOP;
	RETURN total;
END
$$;
SELECT counts() AS before \gset

-- everybody, in more than one step
SELECT verdict, channel, reason, people, deliveries, sample FROM notif.preview('sale', topic => 'all', data => '{"percent": 20}', source => 'shop', sample_size => 2000);
-- a sample of them, the same each time
SELECT verdict, people FROM notif.preview('sale', topic => 'all', data => '{"percent": 20}', sample_size => 100) WHERE verdict IN ('audience', 'looked at');
SELECT (SELECT array_agg(p.sample::text) FROM notif.preview('sale', topic => 'all', data => '{"percent": 20}', sample_size => 100) p)
	 = (SELECT array_agg(p.sample::text) FROM notif.preview('sale', topic => 'all', data => '{"percent": 20}', sample_size => 100) p) AS same;
-- one person with two devices and a limit of one an hour; other tiers; the inbox; a default of off
SELECT verdict, channel, reason, people, deliveries, next_at > notif.now() + interval '59 min' AS later FROM notif.preview('order', 'p1');
SELECT verdict, channel, reason, people, deliveries FROM notif.preview('code', recipients => '{p1,p2,p1200}');
SELECT verdict, channel, reason, people, deliveries FROM notif.preview('ad', 'p6');
-- what is paused, or off
SELECT notif.pause('type', 'order');
SELECT verdict, channel, reason, people, deliveries FROM notif.preview('order', 'p7');
SELECT notif.resume('type', 'order');
SELECT notif.create_topic('nobody');
SELECT verdict, people FROM notif.preview('sale', topic => 'nobody', data => '{"percent": 20}');

-- no trace of any of it
DELETE FROM notif_private.switch_log;
SELECT counts() - :before AS left_behind;		-- the topic
SELECT count(*) FROM notif_private.rate;
SELECT * FROM notif.audit() WHERE NOT agrees OR tallied <> 0;
-- also where it is part of a transaction that goes on
BEGIN;
SELECT notif.publish('order', 'p8') IS NOT NULL AS published;
SELECT verdict, people FROM notif.preview('order', 'p8', campaign => 'none yet');
COMMIT;
SELECT count(*) FROM notif_private.event;
SELECT count(*) FROM notif_private.campaign;

-- errors: those of a publish
\set VERBOSITY terse
SELECT notif.preview('none', 'p1');
SELECT notif.preview('sale', 'p1');
SELECT notif.preview('sale', data => '{"percent": 20}');
SELECT notif.preview('order', 'p1', sample_size => 0);
SELECT notif.preview('code', topic => 'all');
SET ROLE notif_publisher;
SELECT verdict, people FROM notif.preview('order', 'p9') WHERE verdict = 'send';
SET ROLE notif_reader;
SELECT notif.preview('order', 'p9');
