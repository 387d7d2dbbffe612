-- Events at each person's own local time: zone by zone, exactly once for everybody,
-- also for who moves meanwhile; on the shifted clock.
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM t - notif.now()) * 1000000)::bigint)
$$;
CREATE PROCEDURE pg_temp.route(INOUT released integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	done	record;
	tier	text;
	key		uuid;
BEGIN
	PERFORM notif_private.make_partitions();
	FOREACH tier IN ARRAY ARRAY['standard', 'bulk'] LOOP
		LOOP
			EXECUTE format('SELECT * FROM notif_private.worker_release_%s(500)', tier) INTO done;
			COMMIT;
			released := released + done.released;
			EXECUTE format('SELECT * FROM notif_private.worker_route_%s(2000)', tier) INTO step;
			COMMIT;
			FOR key IN EXECUTE format('SELECT * FROM notif_private.worker_expansions_%s()', tier) LOOP
				EXECUTE format('SELECT * FROM notif_private.worker_expand_%s($1, 2000)', tier) USING key;
			END LOOP;
			COMMIT;
			EXIT WHEN NOT step.more AND NOT done.more AND done.released = 0 AND step.due IS NULL;
		END LOOP;
	END LOOP;
END
$$;
-- Who has been told of an event, in the order of the release.
CREATE FUNCTION pg_temp.told(schedule uuid, OUT at timestamptz, OUT who text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT r.deliver_at, string_agg(p.ref, ' ' ORDER BY p.ref)
	FROM notif.releases r LEFT JOIN notif_private.inbox i ON i.event = r.event LEFT JOIN notif_private.recipient p ON p.id = i.recipient
	WHERE r.schedule = $1 GROUP BY r.event, r.deliver_at ORDER BY r.event
$$;

-- ---- when a local time is
SELECT z AS zone, l AS local, n.at, CASE WHEN z = 'No/Where' THEN l ELSE n.at AT TIME ZONE z END AS there
FROM (VALUES ('Europe/Berlin', timestamp '2027-03-28 02:30'),	-- a gap
			 ('Europe/Berlin', '2027-10-31 02:30'),				-- twice
			 ('America/New_York', '2027-03-14 02:00'), ('America/New_York', '2027-11-07 01:59:59'),
			 ('Australia/Lord_Howe', '2027-10-03 02:15'),		-- half an hour
			 ('Pacific/Apia', '2011-12-30 09:00'),				-- a day that was not
			 ('Asia/Kathmandu', '2027-01-13 09:00'), ('UTC', '2027-01-13 09:00'), ('No/Where', '2027-01-13 09:00')) v(z, l),
	 notif_private.next_instant(l, ARRAY[z], NULL, NULL) n;
SELECT * FROM notif_private.next_instant('2027-01-14 09:00', '{Europe/Berlin,America/New_York,Europe/Paris,Asia/Tokyo}', NULL, NULL);
SELECT * FROM notif_private.next_instant('2027-01-14 09:00', '{Europe/Berlin,America/New_York,Europe/Paris,Asia/Tokyo}', NULL, '2027-01-14 00:00+00');
SELECT * FROM notif_private.next_instant('2027-01-14 09:00', '{Europe/Berlin,America/New_York,Europe/Paris,Asia/Tokyo}', '2027-01-14 09:00+00', NULL);
SELECT * FROM notif_private.next_instant('2027-01-14 09:00', '{Europe/Berlin,America/New_York,Europe/Paris,Asia/Tokyo}', NULL, '2027-01-14 14:00+00');
SELECT * FROM notif_private.next_instant('2027-01-14 09:00', '{}', NULL, NULL);

SELECT pg_temp.at('2027-01-13 12:00+00');
SELECT notif_private.make_partitions() IS NOT NULL AS made;
SELECT notif.define_category('orders', rate_limited => false);
SELECT notif.define_type('note', 'orders', title => 'Note {n}', ttl => '2 hours');
SELECT notif.define_type('news', 'orders', tier => 'bulk', title => 'News {n}', ttl => '1 day');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r, tz => z)) FROM (VALUES ('aki', 'Asia/Tokyo'), ('ben', 'Europe/Berlin'), ('cat', 'Europe/Berlin'),
	('pia', 'Europe/Paris'), ('gus', NULL), ('ned', 'America/New_York'), ('lea', 'America/Los_Angeles')) v(r, z);
SELECT count(notif.register_device(r, r, 'ios', lpad(to_hex(n), 64, '0')))
FROM unnest('{aki,ben,cat,pia,gus,ned,lea}'::text[]) WITH ORDINALITY u(r, n);
SELECT count(notif.subscribe(r, 'all')) FROM unnest('{aki,ben,cat,pia,gus,ned,lea}'::text[]) r;
SELECT name FROM notif_private.zone ORDER BY 1;
SELECT count(*) FROM notif_private.zone_change;

-- ---- a topic: one row for all zones, released for each when it is its turn
SELECT notif.publish('news', topic => 'all', data => '{"n": 1}', deliver_at_local => '2027-01-14 09:00') AS n1 \gset
CALL pg_temp.route();
SELECT count(*) FROM notif_private.appointment;
SELECT deliver_at_local, next_at, begun, topic FROM notif.scheduled;
SELECT who, verdict, detail - 'filed' AS detail FROM unnest('{aki,lea}'::text[]) who, notif.explain(:'n1'::uuid, who) WHERE gate = 'schedule';
SELECT pg_temp.at('2027-01-13 23:59:59+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 00:00+00');
CALL pg_temp.route();
SELECT * FROM pg_temp.told(:'n1');
SELECT deliver_at_local, next_at, begun FROM notif.scheduled;
SELECT count(*) FROM notif_private.appointment;
-- Who moves: what counts is where he was at the first release.  Behind the clock and
-- ahead of it, there and back, and to where nobody was.
SELECT notif.upsert_recipient('aki', tz => 'Europe/Berlin') > 0, notif.upsert_recipient('ned', tz => 'Asia/Tokyo') > 0,
	   notif.upsert_recipient('pia', tz => 'Pacific/Honolulu') > 0, notif.upsert_recipient('pia', tz => 'Asia/Tokyo') > 0,
	   notif.upsert_recipient('cat', tz => 'Asia/Tokyo') > 0, notif.upsert_recipient('cat', tz => 'Europe/Berlin') > 0,
	   notif.upsert_recipient('gus', tz => 'America/Los_Angeles') > 0;
SELECT count(*) FROM notif_private.zone_change;
-- and one who is new
SELECT notif.upsert_recipient('new', tz => 'Europe/Berlin') > 0, notif.subscribe('new', 'all');
SELECT pg_temp.at('2027-01-14 08:00+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 09:00+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 14:00+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-14 17:00+00');
CALL pg_temp.route();
SELECT * FROM pg_temp.told(:'n1');
SELECT deliver_at_local, next_at FROM notif.scheduled;
SELECT pg_temp.at('2027-01-14 19:00+00');
CALL pg_temp.route();
SELECT count(*) FROM notif_private.appointment;
SELECT r.zones, e.expires_at FROM notif.releases r JOIN notif_private.event e ON e.id = r.event ORDER BY r.event;
SELECT i.recipient, count(*) FROM notif_private.inbox i GROUP BY 1 HAVING count(*) <> 1;
SELECT step, detail -> 'zones' AS zones FROM notif.trace(:'n1') WHERE step IN ('published', 'released', 'scheduled');
SELECT gate, verdict, detail ->> 'tz' AS tz FROM notif.releases r, notif.explain(r.event, 'ned') WHERE gate = 'schedule' ORDER BY r.event;
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- named people: released for them alone, in their own zones
SELECT recipient, tz FROM notif.recipients r(recipient, l, tz) ORDER BY 1;
SELECT notif.publish('note', recipients => '{aki,lea,new}', data => '{"n": 2}', deliver_at_local => '2027-01-15 09:00') AS n2 \gset
SELECT notif.publish('note', recipient => 'lea', data => '{"n": 3}', deliver_at_local => '2027-01-15 09:00') AS n3 \gset
CALL pg_temp.route();
-- lea moves before the first zone's turn has come: where she is then counts
SELECT notif.upsert_recipient('lea', tz => 'America/New_York') > 0;
SELECT next_at, count(*) FROM notif.scheduled GROUP BY 1;
SELECT pg_temp.at('2027-01-15 00:00+00');
CALL pg_temp.route();
SELECT next_at, begun, count(*) FROM notif.scheduled GROUP BY 1, 2 ORDER BY 1;
SELECT pg_temp.at('2027-01-15 08:00+00');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-15 14:00+00');
CALL pg_temp.route();
SELECT * FROM pg_temp.told(:'n2');
SELECT * FROM pg_temp.told(:'n3');
SELECT count(*) FROM notif_private.appointment;
SELECT count(*) FROM notif_private.event e JOIN notif.releases r ON r.event = e.id WHERE r.schedule IN (:'n2', :'n3') AND e.zones IS NOT NULL;

-- ---- asked for when it has passed somewhere: at once there
SELECT notif.publish('news', topic => 'all', data => '{"n": 4}', deliver_at_local => '2027-01-15 09:00', spread => '30 min') AS n4 \gset
CALL pg_temp.route();
SELECT r.deliver_at >= '2027-01-15 14:00+00' AS now, r.zones FROM notif.releases r WHERE r.schedule = :'n4';
SELECT next_at, begun FROM notif.scheduled;
-- cancelled for the rest
SELECT notif.cancel(:'n4');
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-16 14:00+00');
CALL pg_temp.route();
SELECT count(*) FROM pg_temp.told(:'n4');
SELECT step, state FROM notif.trace(:'n4') WHERE step IN ('released', 'cancelled', 'scheduled') OR step = 'outcome' AND recipient IS NULL;

-- ---- moved: until the first zone is told
SELECT notif.publish('news', topic => 'all', data => '{"n": 5}', deliver_at => '2027-01-17 09:00+00') AS n5 \gset
CALL pg_temp.route();
SELECT notif.reschedule(:'n5', deliver_at_local => '2027-01-18 09:00:00.5');
CALL pg_temp.route();
SELECT deliver_at, deliver_at_local, next_at FROM notif.scheduled;
SELECT pg_temp.at('2027-01-18 00:00+00');
CALL pg_temp.route();
DO $$ BEGIN PERFORM notif.reschedule((SELECT event FROM notif.scheduled), notif.now()); EXCEPTION WHEN OTHERS THEN RAISE WARNING '%: %', SQLSTATE, regexp_replace(SQLERRM, '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID'); END $$;
-- the tier sleeps through some of them: each group of zones by itself, with its own expiry
SELECT pg_temp.at('2027-01-18 20:00+00');
CALL pg_temp.route();
SELECT * FROM pg_temp.told(:'n5');
SELECT r.deliver_at, e.expires_at FROM notif.releases r JOIN notif_private.event e ON e.id = r.event WHERE r.schedule = :'n5' ORDER BY r.event;
SELECT count(*) FROM notif_private.appointment;
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- a long list is told zone by zone like a topic
SELECT count(notif.upsert_recipient('p' || i, tz => (ARRAY['Asia/Tokyo', 'Europe/Berlin', 'America/New_York'])[1 + i % 3])) FROM generate_series(1, 600) i;
SELECT notif.publish('news', recipients => (SELECT array_agg('p' || i) FROM generate_series(1, 600) i), data => '{"n": 6}', deliver_at_local => '2027-01-20 09:00') AS n6 \gset
CALL pg_temp.route();
SELECT pg_temp.at('2027-01-20 08:00+00');
CALL pg_temp.route();
SELECT count(notif.upsert_recipient('p' || i, tz => (ARRAY['America/New_York', 'Asia/Tokyo', 'Europe/Berlin'])[1 + i % 3])) FROM generate_series(1, 600) i;
SELECT pg_temp.at('2027-01-20 20:00+00');
CALL pg_temp.route();
SELECT r.deliver_at, count(i.id) FROM notif.releases r LEFT JOIN notif_private.inbox i ON i.event = r.event WHERE r.schedule = :'n6' GROUP BY r.event, 1 ORDER BY r.event;
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;
-- what nobody asks any more is forgotten
SELECT pg_temp.at('2027-02-25 20:00+00');
SELECT (notif_private.worker_upkeep(interval '3650 days', 9)).did;
SELECT count(*) FROM notif_private.zone_change;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
