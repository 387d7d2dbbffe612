-- Rate limits of every kind, through the functions that the workers call, called by
-- hand: no worker runs in this database.
SET client_min_messages = warning;
SET timezone = 'UTC';

-- The error of a statement, in full.
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail	text;
	hint	text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', SQLSTATE || ' ' || SQLERRM, detail, hint);
END
$$;

-- Routes what was published and claims what is due in a tier, all of it.
CREATE PROCEDURE pg_temp.run(tier text DEFAULT 'standard', INOUT sent bigint DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	more	boolean := true;
	got		bigint;
	batch	integer;
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
	sent := 0;
	LOOP
		EXECUTE format('SELECT count(c.delivery), max(c.batch) FROM notif_private.worker_claim_%s($1, 1000, $2, $3) c', tier)
			INTO got, batch USING (SELECT min(id) FROM notif_private.route), 1, nextval('flight');
		COMMIT;
		EXIT WHEN batch IS NULL;
		sent := sent + got;
	END LOOP;
END
$$;
CREATE TEMP SEQUENCE flight;

-- What became of what since the last look, by person and type.
CREATE TEMP TABLE seen (delivery uuid, attempt smallint);
CREATE FUNCTION pg_temp.fates() RETURNS TABLE (person text, type text, fate text, n bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY
		WITH new AS (
			INSERT INTO seen SELECT o.delivery, o.attempt FROM notif_private.outcome o
			 WHERE NOT EXISTS (SELECT FROM seen s WHERE s.delivery = o.delivery AND s.attempt = o.attempt)
			RETURNING *)
		SELECT r.ref, t.name, o.state || ' ' || o.reason, count(*)
		  FROM new JOIN notif_private.outcome o USING (delivery, attempt)
		  JOIN notif_private.recipient r ON r.id = o.recipient JOIN notif_private.type t ON t.id = o.type_id
		 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
END
$$;
CREATE FUNCTION pg_temp.later(by interval) RETURNS boolean LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM by) * 1000000)::bigint) > 0
$$;
-- The tally and the rows agree.
CREATE FUNCTION pg_temp.sound() RETURNS boolean LANGUAGE sql AS $$
	SELECT count(*) = 0 FROM notif.audit() a WHERE NOT a.agrees
$$;

SELECT notif.define_category('social');
SELECT notif.define_category('marketing');
SELECT notif.define_category('security', rate_limited => false);
SELECT notif.define_type('follower', 'social', title => 'A new follower');
SELECT notif.define_type('like', 'social', title => 'A like');
SELECT notif.define_type('offer', 'marketing', title => 'An offer');
SELECT notif.define_type('code', 'security', tier => 'critical', title => 'Your code');
SELECT notif.define_type('signin', 'security', title => 'A new device');
SELECT notif.define_type('alarm', 'social', tier => 'critical', title => 'Look');
SELECT notif.define_type('mass', 'social', tier => 'bulk', title => 'To all');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)), count(notif.register_device(r, 'd' || n, 'ios', lpad(to_hex(n), 64, '0')))
FROM unnest('{ann,bob,cid,dan,eve,fay,gus,hal,ida}'::text[]) WITH ORDINALITY u(r, n);

-- Definitions that cannot be.
SELECT l, pg_temp.refused('SELECT notif.define_rate_limit(' || l || ')') FROM regexp_split_to_table(
$$'x', 0, '1 hour'
'x', -1, '1 hour'
'x', NULL, '1 hour'
'x', 100001, '1 hour'
'x', 1, '-1 hour'
'x', 1, '0'
'x', 1, '32 days'
'x', 1, NULL
'X y', 1, '1 hour'
'x', 1, '1 hour', 'explode'
'x', 1, '1 hour', channel => 'pigeon'
'x', 1, '1 hour', channel => 'inbox'
'x', 1, '1 hour', category => 'none'
'x', 1, '1 hour', type => 'none'
'x', 1, '1 hour', scope => 'planet'
'x', 1, '1 hour', scope => NULL
'x', 1, '1 hour', scope => 'type'
'x', 1, '1 hour', scope => 'campaign', campaign => 'none'
'x', 1, '1 hour', scope => 'provider', provider => 'none'
'x', 1, '1 hour', scope => 'provider', provider => 'apple', type => 'like'
'x', 1, '1 hour', scope => 'type', type => 'like', channel => 'push'
'x', 1, '1 hour', scope => 'type', type => 'like', category => 'social'
'x', 1, '1 hour', provider => 'apple'
'x', 1, '1 hour', campaign => 'spring'
'x', 1000000001, '1 hour', scope => 'type', type => 'like'$$, '\n') l;
SELECT count(*) FROM notif.rate_limits;

-- Each layer of one recipient: channel, type, category, everything.
SELECT notif.define_rate_limit('push.minute', 5, '1 minute', 'defer', channel => 'push');
SELECT notif.define_rate_limit('email.day', 3, '1 day', channel => 'email');
SELECT notif.define_rate_limit('follower.day', 3, '1 day', type => 'follower');
SELECT notif.define_rate_limit('marketing.day', 1, '1 day', category => 'marketing');
SELECT notif.define_rate_limit('all.day', 8, '1 day');
SELECT * FROM notif.rate_limits ORDER BY name;
SELECT name, limits::bit(8) FROM notif_private.type ORDER BY name;

SELECT count(notif.publish(t, 'ann')) FROM unnest('{follower,like,follower,offer,follower,follower,offer,like}'::text[]) t;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
-- what was refused by one was charged to none: 'like' waits for the minute alone
SELECT verdict, detail - 'next_at' #- '{limits,1,next_at}' AS detail, (detail->>'next_at')::timestamptz - notif.now() <= '1 min' AS soon
FROM notif.explain('like', 'ann') WHERE gate = 'rate limit';
SELECT verdict, jsonb_path_query_array(detail, '$.limits[*].name') AS limits, jsonb_path_query_array(detail, '$.limits[*].left') AS left
FROM notif.explain('follower', 'ann') WHERE gate = 'rate limit';
SELECT verdict, detail FROM notif.explain('signin', 'ann') WHERE gate = 'rate limit';
SELECT pg_temp.later('61 s');
CALL pg_temp.run();
SELECT count(notif.publish('like', 'ann')) FROM generate_series(1, 3);
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
-- exempt categories pass, and were not counted
SELECT count(notif.publish('signin', 'ann')) FROM generate_series(1, 20);
CALL pg_temp.run();
-- the next day
SELECT pg_temp.later('1 day');
SELECT count(notif.publish(t, 'ann')) FROM unnest('{follower,offer,offer,like}'::text[]) t;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
SELECT pg_temp.sound();

-- Everything that is deferred comes in its turn; nothing comes back before.
SELECT count(notif.publish('like', 'bob')) FROM generate_series(1, 8);
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
SELECT pg_temp.later('30 s');
CALL pg_temp.run();
SELECT pg_temp.later('31 s');
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
-- not beyond its expiry
SELECT pg_temp.later('1 day');
SELECT count(notif.publish('like', 'bob', expires_in => '90 s')) FROM generate_series(1, 15);
SELECT notif.define_rate_limit('all.day', 100, '1 day');
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();

-- What waits for a limit holds up what the limit applies to, and nothing else.
SELECT notif.publish('offer', 'cid'), notif.publish('offer', 'cid') \g /dev/null
SELECT notif.define_rate_limit('marketing.day', 1, '1 day', 'defer', category => 'marketing');
CALL pg_temp.run();
SELECT count(notif.publish(t, 'cid')) FROM unnest('{like,offer,signin}'::text[]) t;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
SELECT limited, count(*) FROM notif_private.blocked_standard GROUP BY 1;

-- Redefined: what was counted stays, also under a wider window.
SELECT notif.define_rate_limit('follower.day', 2, '1 day', type => 'follower');
SELECT notif.publish('follower', 'dan'), notif.publish('follower', 'dan'), notif.publish('follower', 'dan') \g /dev/null
CALL pg_temp.run();
SELECT notif.define_rate_limit('follower.day', 3, '1 day', type => 'follower');
SELECT notif.publish('follower', 'dan'), notif.publish('follower', 'dan') \g /dev/null
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
-- another limit under the old name starts anew; so does one that was dropped
SELECT notif.define_rate_limit('follower.day', 1, '1 day', type => 'follower', channel => 'push');
SELECT notif.publish('follower', 'dan'), notif.publish('follower', 'dan') \g /dev/null
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
-- a type that changes its category has that one's limits
SELECT notif.define_type('like', 'security', title => 'A like');
SELECT count(notif.publish('like', 'dan')) FROM generate_series(1, 9);
CALL pg_temp.run();
SELECT notif.define_type('like', 'social', title => 'A like');
SELECT notif.define_category('social', rate_limited => false);
SELECT count(notif.publish('like', 'dan')) FROM generate_series(1, 9);
CALL pg_temp.run();
SELECT notif.define_category('social');
SELECT name, limits::bit(8) FROM notif_private.type ORDER BY name;

-- Tiers: standard and bulk count together, critical apart.
SELECT count(notif.drop_rate_limit(name)) FROM notif.rate_limits;
SELECT notif.define_rate_limit('few', 3, '1 hour');
SELECT count(notif.publish('like', 'eve')) FROM generate_series(1, 2);
SELECT notif.create_topic('eve'), notif.subscribe('eve', 'eve');
SELECT count(notif.publish('mass', topic => 'eve')) FROM generate_series(1, 2);
SELECT count(notif.publish('alarm', 'eve')) FROM generate_series(1, 4);
CALL pg_temp.run();
CALL pg_temp.run('bulk');
CALL pg_temp.run('critical');
SELECT * FROM pg_temp.fates();
SELECT critical FROM notif_private.rate s JOIN notif_private.recipient r ON r.id = s.recipient_id WHERE r.ref = 'eve' ORDER BY 1;

-- Shared by all: a type's limit, with leases of a hundredth.
SELECT notif.define_rate_limit('like.total', 300, '1 hour', scope => 'type', type => 'like');
SELECT count(notif.upsert_recipient('m' || i)), count(notif.register_device('m' || i, 'd', 'ios', lpad(to_hex(1000 + i), 64, '0')))
FROM generate_series(1, 400) i;
SELECT count(notif.publish('like', 'm' || i)) FROM generate_series(1, 100) i;
CALL pg_temp.run();
SELECT name, units_left, next_at, leased FROM notif.rate_limits WHERE scope = 'type';
SELECT tier, units FROM notif_private.rate_lease ORDER BY seq DESC LIMIT 1;
-- the lease is used first, the total is left alone
SELECT notif.publish('like', 'm101'), notif.publish('like', 'm102') \g /dev/null
CALL pg_temp.run();
SELECT name, units_left, leased FROM notif.rate_limits WHERE scope = 'type';
SELECT count(*) AS totals FROM notif_private.rate_total;
-- what goes beyond is deferred, in turn: 12 s each
SELECT count(notif.publish('like', 'm' || i)) FROM generate_series(103, 400) i;
CALL pg_temp.run();
SELECT state || ' ' || reason AS fate, count(*), max(next_at) - min(next_at) BETWEEN interval '19 min 47 s' AND interval '19 min 49 s' AS spread
FROM notif_private.outcome WHERE reason = 'rate_limited:like.total' GROUP BY 1;
SELECT units_left, next_at > notif.now() + interval '59 min' AS later, leased FROM notif.rate_limits WHERE scope = 'type';
-- what comes meanwhile goes behind them
SELECT notif.publish('like', 'ida') AS late \gset
CALL pg_temp.run();
SELECT next_at = (SELECT max(next_at) FROM notif_private.outcome WHERE reason = 'rate_limited:like.total') AS last
FROM notif_private.outcome WHERE event = :'late' AND state = 'deferred';
SELECT verdict, detail - 'next_at' #- '{limits,1,next_at}' FROM notif.explain('like', 'fay') WHERE gate = 'rate limit';
-- an hour later they come, each at its time, and none twice
SELECT pg_temp.later('65 min');
CALL pg_temp.run() \gset
SELECT :sent BETWEEN 10 AND 30 AS first;
-- what is new goes behind what still waits, though there is room
SELECT units_left > 200 AS room FROM notif.rate_limits WHERE scope = 'type';
SELECT notif.publish('like', 'hal') AS fresh \gset
CALL pg_temp.run();
SELECT max(next_at) = (SELECT max(next_at) FROM notif_private.outcome WHERE reason = 'rate_limited:like.total') AS last, count(*)
FROM notif_private.outcome WHERE event = :'fresh';
SELECT pg_temp.later('20 min');
CALL pg_temp.run() \gset
SELECT :sent > 70 AS others;
SELECT count(*) FROM notif_private.scheduled_standard s JOIN notif_private.type t ON t.id = s.type_id
WHERE t.name = 'like' AND s.due_at < notif.now() + interval '3 hours';
-- and with nothing waiting it goes at once
SELECT notif.publish('like', 'gus') AS fresh \gset
CALL pg_temp.run();
SELECT count(*) AS deferred_twice FROM (SELECT delivery FROM notif_private.outcome WHERE reason = 'rate_limited:like.total'
										GROUP BY 1 HAVING count(*) > 1) x;
SELECT pg_temp.sound();

-- A flood for one does not use up what all share.
SELECT notif.drop_rate_limit('like.total');
SELECT notif.define_rate_limit('like.total', 10, '1 hour', 'drop', scope => 'type', type => 'like');
SELECT count(notif.publish('like', 'fay')) FROM generate_series(1, 500);
SELECT count(notif.publish('like', r)) FROM unnest('{gus,hal,ida}'::text[]) r;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates() WHERE fate NOT LIKE 'deferred%';

-- A campaign's and a provider's.
SELECT notif.drop_rate_limit('like.total');
SELECT notif.drop_rate_limit('few');
SELECT count(notif.publish('like', r, campaign => 'spring')) FROM unnest('{ann,bob,cid}'::text[]) r;
SELECT notif.define_rate_limit('spring', 2, '1 hour', 'drop', scope => 'campaign', campaign => 'spring');
SELECT count(notif.publish('like', r)) FROM unnest('{ann,bob,cid}'::text[]) r;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates();
SELECT notif.define_rate_limit('apple', 4, '1 hour', scope => 'provider', provider => 'apple');
SELECT count(notif.publish('like', r, campaign => 'summer')) FROM unnest('{ann,bob,cid}'::text[]) r;
CALL pg_temp.run();
SELECT count(notif.publish('alarm', r)) FROM unnest('{ann,bob,cid}'::text[]) r;
CALL pg_temp.run('critical');
SELECT * FROM pg_temp.fates();
SELECT name, scope, campaign, provider, action, units_left, leased FROM notif.rate_limits ORDER BY 1;

-- Folded into a digest: the outcome, and a command of the event log for its router.
SELECT count(notif.drop_rate_limit(name)) FROM notif.rate_limits WHERE name <> 'spring' AND name <> 'apple';
SELECT notif.define_rate_limit('brief', 1, '1 hour', 'fold', type => 'like');
SELECT notif.define_rate_limit('slow', 1, '1 hour', 'defer', category => 'social');
SELECT notif.define_rate_limit('apple', 100, '1 hour', scope => 'provider', provider => 'apple');
SELECT notif.publish('like', 'gus') \g /dev/null
SELECT notif.publish('like', 'gus', source => 's') AS folded \gset
CALL pg_temp.run();
SELECT * FROM pg_temp.fates() WHERE person = 'gus';
SELECT verdict FROM notif.explain('like', 'gus') WHERE gate = 'rate limit';
SELECT e.tier, t.name, e.kind, (SELECT array_agg(r.ref) FROM notif_private.recipient r WHERE r.id = ANY (e.recipients)) AS recipients,
	   e.data->>'limit' AS limit, e.data->>'event' = :'folded' AS of_event,
	   (e.data->>'delivery')::uuid = notif_private.delivery_id(:'folded', (e.data->>'endpoint')::bigint) AS delivery,
	   e.id > :'folded' AS later, e.expires_at = f.expires_at AS expiry
FROM notif_private.event e JOIN notif_private.type t ON t.id = e.type_id JOIN notif_private.event f ON f.id = :'folded' WHERE e.kind = 3;
-- a shared one folds as well; one that drops is harder
SELECT notif.define_rate_limit('like.total', 1, '1 hour', 'fold', scope => 'type', type => 'like');
SELECT count(notif.publish('like', r)) FROM unnest('{hal,ida}'::text[]) r;
CALL pg_temp.run();
SELECT * FROM pg_temp.fates() WHERE person IN ('hal', 'ida');
SELECT notif.define_rate_limit('hard', 1, '1 hour', 'drop', type => 'like');
SELECT count(notif.publish('like', 'eve')) FROM generate_series(1, 2);
SELECT notif.drop_rate_limit('like.total');
CALL pg_temp.run();
SELECT * FROM pg_temp.fates() WHERE person = 'eve';
SELECT count(*) AS commands FROM notif_private.event WHERE kind = 3;
SELECT pg_temp.sound();
SELECT count(notif.drop_rate_limit(n)) FROM unnest('{brief,slow,hard}'::text[]) n;

-- Claims that come late find more than one turn due: each minute passes its five all
-- the same, in their order, and what is put off again holds up nobody with a time of
-- his own.
SELECT notif.define_rate_limit('slow', 5, '1 minute', 'defer', type => 'follower');
SELECT count(notif.publish('follower', 'dan')) FROM generate_series(1, 40);
CALL pg_temp.run();
SELECT pg_temp.later('130 s');
CALL pg_temp.run();
SELECT pg_temp.later('130 s');
CALL pg_temp.run();
SELECT pg_temp.later('130 s');
CALL pg_temp.run();
SELECT pg_temp.later('130 s');
CALL pg_temp.run();
SELECT count(*), count(*) FILTER (WHERE ord < before) AS inverted
FROM (SELECT a.ord, max(a.ord) OVER (ORDER BY f.flight ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
		FROM notif_private.flight_standard f CROSS JOIN LATERAL unnest(f.attempts) a
		JOIN notif_private.type t ON t.id = a.type_id JOIN notif_private.recipient r ON r.id = a.recipient
	   WHERE t.name = 'follower' AND r.ref = 'dan' AND f.flight > (SELECT max(flight) - 12 FROM notif_private.flight_standard)) x;
SELECT notif.drop_rate_limit('slow');

-- old rows of what is appended to go, the last ones stay
SELECT notif_private.forget_totals() > 0 AS removed, notif_private.forget_totals() AS again;
SELECT count(*) = count(DISTINCT limit_id) AS one_each FROM notif_private.rate_total;
SELECT name, units_left FROM notif.rate_limits ORDER BY 1;

-- 64 of them, and no more.
SELECT notif.drop_rate_limit('apple');
SELECT count(notif.define_rate_limit('n' || i, 1000, '1 hour', 'drop')) FROM generate_series(1, 63) i;
SELECT min(place), max(place), count(DISTINCT place) FROM notif_private.rate_limit;
SELECT pg_temp.refused($$SELECT notif.define_rate_limit('x', 1, '1 hour')$$);
SELECT notif.publish('offer', 'hal') \g /dev/null
CALL pg_temp.run();
SELECT pg_temp.refused($$SELECT notif.drop_rate_limit('x')$$);
SELECT notif.drop_rate_limit('n1');
SELECT notif.define_category('empty'), notif.define_rate_limit('empty', 1, '1 day', category => 'empty');
SELECT pg_temp.refused($$SELECT notif.drop_category('empty')$$);
SELECT pg_temp.sound();
SELECT notif_private.shift_clock(- notif_private.clock_offset());
