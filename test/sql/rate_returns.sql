-- Rate limits: what was charged for a delivery that ends without anything ever having
-- been sent is given back, exactly that, and only then.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/steps.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- Publishes number n to somebody, for ten minutes.
CREATE FUNCTION t.tell(who text, n integer, type text DEFAULT 'like', campaign text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT notif.publish(type, who, jsonb_build_object('n', n), expires_in => '10 minutes', campaign => campaign)
$$;
CREATE FUNCTION t.later(by interval) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM by) * 1000000)::bigint)
$$;
-- What a person's limits have left; upkeep has been asked before.
CREATE FUNCTION t.left(who text, type text DEFAULT 'like') RETURNS TABLE (name text, "left" bigint) LANGUAGE sql AS $$
	SELECT l ->> 'name', (l ->> 'left')::bigint
	FROM notif.explain(type, who) e CROSS JOIN jsonb_array_elements(e.detail -> 'limits') l WHERE e.gate = 'rate limit' ORDER BY 1
$$;
-- The step of upkeep; how much there was to give back.
CREATE FUNCTION t.upkeep() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n	bigint := (SELECT count(*) FROM notif_private.rate_return);
BEGIN
	IF (SELECT u.did FROM notif_private.worker_upkeep('30 days', 16) u) <> (n > 0) THEN
		RAISE EXCEPTION 'did';
	END IF;
	RETURN n + (SELECT count(*) FROM notif_private.rate_return);
END
$$;

SELECT notif.define_category('social', max_attempts => 5, retry_base => '1 minute', retry_cap => '1 minute');
SELECT notif.define_category('money', max_attempts => 5, retry_base => '1 minute', retry_cap => '1 minute');
SELECT notif.define_type('like', 'social', title => 'n {n}', ordered => false);
SELECT notif.define_type('bill', 'money', title => 'n {n}', ordered => false);
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)), count(notif.register_device(r, 'd', 'ios', lpad(to_hex(n), 64, '0')))
FROM unnest('{ada,bob,cyd,dan,eve,fay,gus,hal,ida}'::text[]) WITH ORDINALITY u(r, n);
-- exact, and in parts of a window; of one type, and of another that nobody here gets
SELECT notif.define_rate_limit('hour', 2, '1 hour', 'drop'), notif.define_rate_limit('day', 100, '1 day', 'drop'),
	   notif.define_rate_limit('money', 1, '1 day', 'drop', category => 'money');

-- ---- put off until it has expired: by the claim ----------------------------------------
SELECT t.tell('ada', n) FROM generate_series(1, 2) n;
SELECT t.route();
SELECT t.claim();
SELECT * FROM t.left('ada');
SELECT t.answer('{not_sent,accepted}');
SELECT t.upkeep() AS nothing_yet;
SELECT t.later('11 minutes');
SELECT t.claim();
SELECT * FROM t.fates('[1,3)');
SELECT t.upkeep() AS given_back;
SELECT * FROM t.left('ada');
SELECT t.upkeep() AS once;
-- one more passes, not two
SELECT t.tell('ada', n) FROM generate_series(3, 4) n;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[3,5)');

-- ---- by what comes back: it would be tried again after its end -------------------------
SELECT t.tell('bob', 11);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{not_sent}', wait_ms => 3600000);
SELECT * FROM t.fates('[11,12)');
SELECT t.upkeep() AS given_back;
SELECT * FROM t.left('bob');
-- the limits of other types and of other people are as they were
SELECT * FROM t.left('bob', 'bill');
SELECT * FROM t.left('ada');

-- ---- opted out of, cancelled or superseded between the claim and the sending ------------
SELECT t.tell('cyd', 21);
SELECT t.tell('dan', 22);
SELECT notif.publish('like', 'eve', '{"n": 23}', collapse_key => 'score') IS NOT NULL;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{not_sent,not_sent,not_sent}', wait_ms => 1000);
SELECT notif.set_preference('cyd', 'push', 'social', false);
SELECT notif.cancel((SELECT e.id FROM notif_private.event e WHERE e.data ->> 'n' = '22'));
SELECT notif.publish('like', 'eve', '{"n": 24}', collapse_key => 'score') IS NOT NULL;
SELECT t.later('1 minute');
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[21,25)');
SELECT t.upkeep() AS given_back;
SELECT who, l.* FROM unnest('{cyd,dan,eve}'::text[]) who CROSS JOIN t.left(who) l;

-- ---- what cannot be rendered never left -----------------------------------------------
SELECT t.tell('fay', 31);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{message_bad}');
SELECT t.upkeep() AS given_back;
SELECT * FROM t.left('fay');

-- ---- not given back: what a provider has seen, or may have seen ------------------------
-- refused by it as a message; answered that it is too busy, then expired; in doubt, then
-- given back unsent, then expired
SELECT t.tell('gus', 41);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{message_bad}', status => 400);
SELECT t.tell('gus', 42);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{retry_free}', status => 503, wait_ms => 1000);
SELECT t.tell('hal', 43);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{unknown_free}', wait_ms => 1000);
SELECT t.later('1 minute');
SELECT t.claim();
SELECT t.answer('{not_sent,not_sent}');
SELECT t.later('11 minutes');
SELECT t.claim();
SELECT * FROM t.fates('[41,44)');
SELECT t.upkeep() AS nothing;
SELECT who, l.* FROM unnest('{gus,hal}'::text[]) who CROSS JOIN t.left(who) l;
-- tried, refused, then given back unsent
SELECT t.tell('hal', 44);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{retry}', status => 500);
SELECT t.later('2 minutes');
SELECT t.claim();
SELECT t.answer('{not_sent}');
SELECT t.later('11 minutes');
SELECT t.claim();
SELECT * FROM t.fates('[44,45)');
SELECT t.upkeep() AS nothing;

-- ---- when its time has left the window there is nothing to give, to nobody -------------
SELECT notif.publish('like', 'ida', '{"n": 51}', expires_in => '2 hours') IS NOT NULL;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{not_sent}', wait_ms => 6000000);
SELECT t.later('90 minutes');
SELECT t.tell('ida', n) FROM generate_series(52, 53) n;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT t.later('31 minutes');
SELECT t.claim();
SELECT * FROM t.fates('[51,54)');
SELECT t.upkeep() AS given_back;
SELECT * FROM t.left('ida');

-- ---- limits that all share, of which a tier has a lease ---------------------------------
SELECT notif.drop_rate_limit('hour'), notif.drop_rate_limit('day');
SELECT t.tell('cyd', 61, campaign => 'spring');
SELECT notif.define_rate_limit('spring', 3, '1 day', 'drop', scope => 'campaign', campaign => 'spring'),
	   notif.define_rate_limit('all', 1000, '1 day', 'drop', scope => 'type', type => 'like');
SELECT t.tell(who, 61 + n::integer, campaign => 'spring') FROM unnest('{ada,bob,eve,fay}'::text[]) WITH ORDINALITY u(who, n);
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{not_sent,accepted,not_sent}');
SELECT * FROM t.fates('[61,66)');
SELECT name, units_left + leased AS left FROM notif.rate_limits WHERE scope <> 'recipient' ORDER BY 1;
SELECT t.later('11 minutes');
SELECT t.claim();
SELECT t.upkeep() AS given_back;
SELECT t.tell(who, 66 + n::integer, campaign => 'spring') FROM unnest('{ada,bob,eve,fay}'::text[]) WITH ORDINALITY u(who, n);
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[61,72)');
-- what was left of a lease is back as well
SELECT name, units_left + leased AS left FROM notif.rate_limits WHERE scope <> 'recipient' ORDER BY 1;

SELECT * FROM notif.audit() WHERE NOT agrees;
