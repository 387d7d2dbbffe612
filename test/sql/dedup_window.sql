-- The same type, source and recipient again within a type's dedup_window, through the
-- functions that the router calls, called by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE PROCEDURE pg_temp.route(tier text DEFAULT 'standard') LANGUAGE plpgsql AS $$
DECLARE
	more	boolean := true;
	k		uuid;
BEGIN
	WHILE more LOOP
		EXECUTE format('SELECT r.more FROM notif_private.worker_route_%s(2000) r', tier) INTO more;
		COMMIT;
	END LOOP;
	FOR k IN SELECT x FROM notif_private.worker_expansions_bulk() x LOOP
		PERFORM notif_private.worker_expand_bulk(k, 2000);
	END LOOP;
	COMMIT;
END
$$;
-- By person: what of his is queued, what he finds in his inbox, what was suppressed.
CREATE FUNCTION pg_temp.told() RETURNS TABLE (person text, type text, queued bigint, inbox bigint, duplicates bigint) LANGUAGE sql AS $$
	SELECT r.ref, t.name, (SELECT count(*) FROM notif_private.queued_standard q WHERE q.recipient = r.id AND q.type_id = t.id)
						+ (SELECT count(*) FROM notif_private.queued_bulk q WHERE q.recipient = r.id AND q.type_id = t.id),
		   (SELECT count(*) FROM notif_private.inbox i WHERE i.recipient = r.id AND i.type_id = t.id),
		   (SELECT count(*) FROM notif_private.outcome o WHERE o.recipient = r.id AND o.type_id = t.id
			   AND o.state = 'suppressed' AND o.reason = 'duplicate')
	  FROM notif_private.recipient r, notif_private.type t
	 WHERE EXISTS (SELECT FROM notif_private.outcome o WHERE o.recipient = r.id AND o.type_id = t.id)
		OR EXISTS (SELECT FROM notif_private.inbox i WHERE i.recipient = r.id AND i.type_id = t.id)
	 ORDER BY 1, 2
$$;
CREATE FUNCTION pg_temp.later(by interval) RETURNS boolean LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM by) * 1000000)::bigint) > 0
$$;
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

SELECT notif.define_category('social');
SELECT notif.define_category('security', mandatory => true);
SELECT w, pg_temp.refused(format('SELECT notif.define_type(''x'', ''social'', title => ''X'', dedup_window => %L)', w))
FROM unnest('{-1 h,0,0.9 s,1 s,31 days,32 days,NULL}'::interval[]) w;
SELECT notif.define_type('like', 'social', title => 'A like', dedup_window => '10 min');
SELECT notif.define_type('alarm', 'security', title => 'Look', dedup_window => '10 min');
SELECT notif.define_type('plain', 'social', title => 'Plain');
SELECT notif.define_type('mass', 'social', tier => 'bulk', title => 'To all', dedup_window => '1 day');
SELECT name, dedup_window FROM notif.types ORDER BY 1;
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)), count(notif.register_device(r, 'd' || n, 'ios', lpad(to_hex(n), 64, '0')))
FROM unnest('{ann,bob,cid,dan,eve,fay}'::text[]) WITH ORDINALITY u(r, n);
SELECT notif.register_device('ann', 'second', 'ios', repeat('ab', 32)) \g /dev/null

-- Within one batch: per source and person, events without a source are one.
SELECT count(notif.publish('like', 'ann', source => 'photo/1')) FROM generate_series(1, 5);
SELECT notif.publish('like', 'ann', source => 'photo/2'), notif.publish('like', recipients => '{ann,bob}', source => 'photo/1') AS both \gset
SELECT count(notif.publish('like', 'cid')) FROM generate_series(1, 3);
SELECT count(notif.publish('alarm', 'cid', source => 'house')) FROM generate_series(1, 2);
SELECT count(notif.publish('plain', 'cid', source => 'photo/1')) FROM generate_series(1, 3);
CALL pg_temp.route();
SELECT * FROM pg_temp.told();
SELECT recipient, state, reason FROM notif.deliveries WHERE event = :'both' ORDER BY 1;
SELECT gate, verdict, detail - 'of' - 'published_at' AS detail FROM notif.explain(:'both', 'ann') WHERE gate = 'duplicate';
SELECT gate, verdict FROM notif.explain(:'both', 'bob') WHERE gate = 'duplicate';

-- Over batches, and from the end of the window on again.
SELECT notif.publish('like', 'ann', source => 'photo/1') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'ann';
SELECT pg_temp.later('8 min');
SELECT notif.publish('like', 'ann', source => 'photo/1') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'ann';
SELECT pg_temp.later('2 min');
SELECT notif.publish('like', 'ann', source => 'photo/1') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'ann';
-- the window begins with what was told, not with what was a duplicate since
SELECT pg_temp.later('8 min');
SELECT notif.publish('like', 'ann', source => 'photo/1') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'ann';

-- A router that comes late judges by the times of publishing.
SELECT notif.publish('like', 'dan', source => 'x') \g /dev/null
SELECT pg_temp.later('6 min');
SELECT notif.publish('like', 'dan', source => 'x') \g /dev/null
SELECT pg_temp.later('6 min');
SELECT notif.publish('like', 'dan', source => 'x') \g /dev/null
SELECT pg_temp.later('6 min');
SELECT notif.publish('like', 'dan', source => 'x') \g /dev/null
SELECT pg_temp.later('6 min');
SELECT notif.publish('like', 'dan', source => 'x') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'dan';

-- What was cancelled makes nothing a duplicate, before it was routed or after.
SELECT notif.publish('like', 'eve', source => 'x') AS first \gset
CALL pg_temp.route();
SELECT notif.cancel(:'first');
SELECT notif.publish('like', 'eve', source => 'x') AS second \gset
SELECT notif.cancel(:'second');
SELECT notif.publish('like', 'eve', source => 'x'), notif.publish('like', 'eve', source => 'x') \g /dev/null
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'eve';

-- A topic, expanded apart; a device that is given up does not matter.
SELECT notif.create_topic('all'), count(notif.subscribe(r, 'all')) FROM unnest('{eve,fay}'::text[]) r;
SELECT notif.publish('mass', topic => 'all', source => 'sale'), notif.publish('mass', topic => 'all', source => 'sale') \g /dev/null
CALL pg_temp.route('bulk');
SELECT notif.subscribe('dan', 'all');
SELECT notif.publish('mass', topic => 'all', source => 'sale') \g /dev/null
CALL pg_temp.route('bulk');
SELECT * FROM pg_temp.told() WHERE type = 'mass';

-- Without a window nothing is noted; notes go an hour after their end.
SELECT count(*) FROM notif_private.dedup d JOIN notif_private.type t ON t.id = d.type_id WHERE t.name = 'plain';
SELECT notif.define_type('like', 'social', title => 'A like');
SELECT count(notif.publish('like', 'bob', source => 'photo/1')) FROM generate_series(1, 3);
CALL pg_temp.route();
SELECT * FROM pg_temp.told() WHERE person = 'bob';
SELECT notif_private.forget_duplicates();
SELECT pg_temp.later('71 min');
SELECT notif_private.forget_duplicates() > 0 AS removed, notif_private.forget_duplicates();
SELECT t.name, count(*) FROM notif_private.dedup d JOIN notif_private.type t ON t.id = d.type_id GROUP BY 1;
SELECT * FROM notif.audit() WHERE NOT agrees;
SELECT notif_private.shift_clock(- notif_private.clock_offset());
