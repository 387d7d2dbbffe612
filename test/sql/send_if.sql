-- Conditions: what may be one, whose rights it has, what comes of an attempt that has one;
-- by the functions that the workers call.
SET client_min_messages = warning;
SET timezone = 'UTC';
\set VERBOSITY terse

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/steps.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- What the conditions worker does, one by one.  unknown: numbers that get no verdict.
CREATE FUNCTION t.ask(most integer DEFAULT 100, unknown text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c		record;
	says	text;
	told	text := '';
	parks	integer[] := '{}';
	dues	timestamptz[] := '{}';
	ords	bigint[] := '{}';
	ids		uuid[] := '{}';
	nth		smallint[] := '{}';
	holds	boolean[] := '{}';
	reasons	text[] := '{}';
BEGIN
	FOR c IN SELECT * FROM notif_private.worker_conditions_standard(most, 1000) LOOP
		says := coalesce(notif_private.condition_now(c.type_if, c.type_by, c.recipient, c.attributes, c.data, c.event, c.type, c.source,
													 c.thread, c.correlation_id, c.campaign), 'true');
		IF says = 'true' THEN
			says := coalesce(notif_private.condition_now(c.event_if, c.event_by, c.recipient, c.attributes, c.data, c.event, c.type, c.source,
														 c.thread, c.correlation_id, c.campaign), 'true');
		END IF;
		IF c.data ->> 'n' = ANY (unknown) THEN
			says := 'unknown';
		END IF;
		told := concat_ws(' ', nullif(told, ''), (c.data ->> 'n') || ':' || says);
		parks := parks || c.park;
		dues := dues || c.due_at;
		ords := ords || c.ord;
		ids := ids || c.delivery;
		nth := nth || c.attempt;
		holds := holds || CASE WHEN says <> 'unknown' THEN says = 'true' END;
		reasons := reasons || CASE WHEN says LIKE 'condition_error%' THEN says END;
	END LOOP;
	IF told <> '' THEN
		PERFORM notif_private.worker_conditions_told_standard(parks, dues, ords, ids, nth, holds, reasons);
	END IF;
	RETURN nullif(told, '');
END
$$;

-- Publishes number n to somebody.
CREATE FUNCTION t.tell(who text, type text, n integer, send_if text DEFAULT NULL, key text DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish(type, who, jsonb_build_object('n', n), collapse_key => key, send_if => send_if)
$$;

-- Words of an error, one line.
CREATE FUNCTION t.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message	text;
	detail	text;
	hint	text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || message || CASE WHEN hint = '' THEN ' (no hint)' ELSE '' END;
END
$$;

CREATE TABLE public.orders (id bigint PRIMARY KEY, status text NOT NULL);
INSERT INTO public.orders SELECT n, CASE WHEN n % 2 = 1 THEN 'open' ELSE 'closed' END FROM generate_series(1, 100) n;

SELECT notif.define_category('c', max_attempts => 5, retry_base => '1 hour', retry_cap => '4 hours', rate_limited => false);
SELECT notif.define_type('note', 'c', title => 'n {n}', ttl => '20 days');
SELECT notif.define_type('news', 'c', title => 'n {n}', ordered => false, ttl => '20 days');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r, attributes => jsonb_build_object('vip', r = 'ada'))) FROM unnest('{ada,bob,eve}'::text[]) r;
SELECT count(notif.register_device(r, 'd', 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob,eve}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what may be one ----------------------------------------------------------------------

SELECT c.expression, t.try(format('SELECT notif.publish(''note'', ''ada'', ''{"n": 0}'', send_if => %L)', c.expression)) AS publish
FROM (VALUES
	('true'),
	('NULL'),
	('NULL::boolean'),
	('notification.recipient = ''ada'' AND (notification.attributes->>''vip'')::boolean'),
	('EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>''n'')::bigint AND o.status = ''open'')'),
	('(SELECT count(*) FROM public.orders) > 3 -- with a comment'),
	('true /* nothing follows */'),
	(''),
	('true; DROP TABLE public.orders'),
	('true) , (true'),
	('true AS holds'),
	('true, false'),
	('true FROM public.orders'),
	('DISTINCT true'),
	('SELECT true'),
	('true WHERE false'),
	('1'),
	('notification'),
	('notification.*'),
	('*'),
	('nothing.like_it'),
	('notification.colour = ''red'''),
	('EXISTS (SELECT FROM orders)'),
	('EXISTS (SELECT FROM public.no_such)'),
	('public.no_such()'),
	('count(*) > 0'),
	('row_number() OVER () = 1'),
	('generate_series(1, 3) = 1'),
	('EXISTS (DELETE FROM public.orders RETURNING true)'),
	('EXISTS (SELECT FROM public.orders FOR UPDATE)'),
	('$1 IS NULL'),
	('''unfinished'),
	('true /* unfinished'),
	('(true')
) c(expression);
SELECT t.try(format('SELECT notif.publish(''note'', ''ada'', ''{"n": 0}'', send_if => %L)', repeat('true AND ', 1000) || 'true'));
-- all words of one
\set VERBOSITY default
SELECT notif.publish('note', 'ada', '{"n": 0}', send_if => 'notification.colour = ''red''');
SELECT notif.define_type('typed', 'c', title => 'n {n}', send_if => 'notification.data');
\set VERBOSITY terse
SELECT count(*) FROM notif.types WHERE name = 'typed';
SELECT notif.define_type('typed', 'c', title => 'n {n}', send_if => 'notification.recipient <> ''eve''');
SELECT name, send_if, send_if_by = current_user AS mine FROM notif.types WHERE send_if IS NOT NULL;
-- nothing was left behind in the session
SELECT current_setting('search_path'), current_setting('row_security'), current_user = session_user AS same;
-- a key that was used with another condition was used for something else
SELECT notif.publish('note', 'ada', '{"n": 0}', idempotency_key => 'k', send_if => 'false') IS NOT NULL AS told;
SELECT notif.publish('note', 'ada', '{"n": 0}', idempotency_key => 'k', send_if => 'false') IS NOT NULL AS told;
SELECT t.try('SELECT notif.publish(''note'', ''ada'', ''{"n": 0}'', idempotency_key => ''k'', send_if => ''true'')');

-- what was published above
SELECT t.route();
SELECT t.claim();
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
SELECT o.state, o.reason, count(*) FROM notif_private.outcome o WHERE o.terminal GROUP BY 1, 2 ORDER BY 1, 2;

-- ---- what comes of it ---------------------------------------------------------------------

SELECT count(t.tell('ada', 'news', n, 'EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>''n'')::bigint AND o.status = ''open'')'))
FROM generate_series(1, 4) n;
SELECT t.tell('ada', 'news', 5, 'NULL::boolean') IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 6, '(notification.data->>''n'')::integer / 0 > 1') IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 7) IS NOT NULL AS told;
SELECT t.tell('ada', 'typed', 8) IS NOT NULL AS told;
SELECT t.tell('eve', 'typed', 9) IS NOT NULL AS told;
-- both must hold
SELECT t.tell('ada', 'typed', 10, 'notification.type = ''typed'' AND notification.recipient = ''ada''') IS NOT NULL AS told;
SELECT t.tell('bob', 'typed', 11, 'false') IS NOT NULL AS told;
SELECT t.route();
-- who has none does not wait
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[1,12)');
SELECT s.state, s.n FROM (SELECT a.state, a.tallied AS n, a.agrees FROM notif.audit() a WHERE a.tier = 'standard') s WHERE s.agrees AND s.n > 0;
-- not asked: nothing comes
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.ask() IS NULL AS nothing;
SELECT t.claim();
-- a retry is asked anew
SELECT t.answer('{retry}');
SELECT * FROM t.fates('[1,12)');
UPDATE public.orders SET status = 'closed' WHERE id = 1;
SELECT notif_private.shift_clock(4 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[1,2)');
-- a failed one can be sent again, and is asked again
SELECT state, reason FROM notif.dead_letters;
SELECT notif.redeliver(delivery) IS NOT NULL AS redelivered FROM notif.dead_letters;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[6,7)');
SELECT a.state, a.tallied FROM notif.audit() a WHERE a.tier = 'standard' AND a.tallied > 0 AND a.agrees;
SELECT count(*) FROM notif.audit() WHERE NOT agrees;

-- ---- not asked of what is stopped or put off -------------------------------------------------

CREATE TABLE public.asked (n integer);
SELECT t.tell('bob', 'news', 21, 'true') AS cancelled \gset
SELECT notif.cancel(:'cancelled');
SELECT t.tell('bob', 'news', 22, 'true') IS NOT NULL AS told;
SELECT t.tell('eve', 'news', 23, 'true') IS NOT NULL AS told;
SELECT t.route();
SELECT notif.set_preference('bob', 'push', 'c', enabled => false);
SELECT notif.set_quiet_hours('eve', '00:00', '23:59', tz => 'UTC');
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask() IS NULL AS nobody_is_asked;
SELECT * FROM t.fates('[21,24)');
SELECT notif.set_quiet_hours('eve', NULL, NULL);
SELECT notif.reset_preference('bob', 'push', 'c');
SELECT notif_private.shift_clock(24 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
-- a paused type waits in its parking, and is asked when it comes out
SELECT t.tell('ada', 'typed', 24) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT notif.pause('type', 'typed');
SELECT n.paused FROM notif_private.worker_conditions_standard(100, 1000) n;
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[24,25)');
SELECT notif.resume('type', 'typed');
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();

-- ---- order --------------------------------------------------------------------------------

-- 31 waits for its condition, and so do what follows on its device and is ordered; not 34
SELECT t.tell('ada', 'note', 31, 'true') IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 32) IS NOT NULL AS told;
SELECT t.tell('bob', 'note', 33) IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 34) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT t.tell('ada', 'note', 35) IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 36, 'false') IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 37) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim(2);
SELECT t.answer();
SELECT t.claim();
SELECT t.answer();
SELECT t.ask() IS NULL AS nothing, t.claim() IS NULL AS nothing;
SELECT t.tell('ada', 'note', 38) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[31,39)');

-- ---- verdicts -----------------------------------------------------------------------------

-- none: it is filed again, behind
SELECT count(t.tell('ada', 'news', n, 'true')) FROM generate_series(41, 43) n;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask(unknown => '{41}');
SELECT t.claim();
SELECT t.answer();
SELECT t.ask();
-- one that is older than a minute is asked again
SELECT notif_private.shift_clock(61 * 1000000::bigint) > 0 AS later;
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
-- the worker does not run ahead of the claim
SELECT count(t.tell('ada', 'news', n, 'true')) FROM generate_series(44, 49) n;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT count(*) FROM notif_private.worker_conditions_standard(100, 4);
SELECT t.ask(4);
SELECT count(*) FROM notif_private.worker_conditions_standard(100, 4);
SELECT t.claim(2);
SELECT t.answer();
SELECT count(*) FROM notif_private.worker_conditions_standard(100, 4);
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
-- upkeep takes over what a claim has yet to read, and no more
SELECT t.tell('ada', 'news', 50, 'true') IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT notif_private.keep_verdicts_standard('notif_private.verdict_standard_0', 1);
SELECT count(*) FROM notif_private.verdict_standard_1;
TRUNCATE notif_private.verdict_standard_0;
SELECT t.claim();
SELECT t.answer();
SELECT notif_private.uncheck_standard() > 0 AS removed;
SELECT count(*) FROM notif_private.checking_standard;
-- the lane's times say an order and nothing else: a clock that is set back holds nobody up
SELECT notif_private.shift_clock(-2 * 3600 * 1000000::bigint) IS NOT NULL AS earlier;
SELECT count(t.tell('ada', 'note', n, 'true')) FROM generate_series(53, 55) n;
SELECT t.route();
SELECT t.claim(2) IS NULL AS nothing;
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
SELECT notif_private.shift_clock(2 * 3600 * 1000000::bigint) IS NOT NULL AS later;
-- collapse: what may yet be cancelled replaces nothing before it was accepted
SELECT t.tell('ada', 'news', 51, key => 'k') IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 52, 'false', key => 'k') IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[51,53)');

-- ---- rights -------------------------------------------------------------------------------

CREATE ROLE send_if_shop IN ROLE notif_publisher, notif_admin;
CREATE ROLE send_if_boss;
CREATE TABLE public.secrets (who text);
INSERT INTO public.secrets VALUES ('ada');
GRANT SELECT ON public.secrets TO send_if_boss;
GRANT SELECT ON public.orders TO send_if_shop;
CREATE FUNCTION public.who() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
CREATE FUNCTION public.writes() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.asked VALUES (1);
	RETURN true;
END
$$;
CREATE FUNCTION public.takes_over() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', 'send_if_boss', false);
	RETURN true;
END
$$;
CREATE FUNCTION public.makes_temp() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMPORARY TABLE left_behind (n integer);
	RETURN true;
END
$$;
CREATE FUNCTION public.sets() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('search_path', 'public', false), set_config('notif_test.left', 'yes', false);
	RETURN true;
END
$$;
CREATE FUNCTION public.spins() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN LOOP END LOOP; END';
GRANT INSERT ON public.asked TO send_if_shop;
GRANT USAGE ON SCHEMA t TO send_if_shop;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO send_if_shop;
SET ROLE send_if_shop;
SELECT t.try($$SELECT notif.publish('note', 'ada', '{"n": 60}', send_if => 'EXISTS (SELECT FROM public.secrets)')$$);
SELECT t.try($$SELECT notif.define_type('mine', 'c', title => 'n {n}', send_if => 'EXISTS (SELECT FROM public.secrets)')$$);
SELECT notif.define_type('mine', 'c', title => 'n {n}', ordered => false, send_if => 'public.who() = ''send_if_shop''');
SELECT t.tell('ada', 'mine', 61, 'public.who() = ''send_if_shop''') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 62, 'public.writes()') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 63, 'public.takes_over()') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 64, 'public.makes_temp()') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 65, 'public.sets()') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 66, 'pg_advisory_xact_lock(1) IS NOT NULL AND current_setting(''search_path'') = ''pg_catalog, pg_temp''') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 67, 'EXISTS (SELECT FROM public.orders)') IS NOT NULL AS told;
SELECT t.tell('ada', 'mine', 68, 'public.spins()') IS NOT NULL AS told;
RESET ROLE;
-- a function with the rights of its owner has those, not those of whoever calls it
CREATE FUNCTION public.for_somebody() RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT notif.publish('news', 'ada', '{"n": 69}', send_if => 'public.who() = ''send_if_shop''') $$;
ALTER FUNCTION public.for_somebody() OWNER TO send_if_shop;
CREATE FUNCTION public.type_for_somebody() RETURNS void LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT notif.define_type('theirs', 'c', title => 'n {n}', send_if => 'true') $$;
ALTER FUNCTION public.type_for_somebody() OWNER TO send_if_shop;
SELECT public.for_somebody() IS NOT NULL AS told;
SELECT public.type_for_somebody();
SELECT name, send_if_by FROM notif.types WHERE name IN ('mine', 'theirs');
REVOKE SELECT ON public.orders FROM send_if_shop;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[60,70)');
SELECT count(*) FROM public.asked;
SELECT current_user = session_user AS same, current_setting('search_path'), current_setting('notif_test.left', true), to_regclass('left_behind');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- a role that is gone
SELECT t.tell('ada', 'mine', 70) IS NOT NULL AS told;
DROP FUNCTION public.for_somebody(), public.type_for_somebody();
DROP OWNED BY send_if_shop;
DROP ROLE send_if_shop;
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[70,71)');

-- ---- what people see -------------------------------------------------------------------------

SELECT gate, verdict, detail ->> 'send_if' AS send_if FROM notif.explain('typed'::text, 'ada') WHERE gate LIKE 'condition%';
SELECT gate, verdict FROM notif.explain('typed'::text, 'eve') WHERE gate LIKE 'condition%';
SELECT gate, verdict FROM notif.explain('mine'::text, 'eve') WHERE gate LIKE 'condition%';
SELECT t.tell('ada', 'typed', 71, '1 / (notification.data->>''n'')::integer = 1') AS event \gset
SELECT gate, verdict FROM notif.explain(:'event'::uuid, 'ada') WHERE gate LIKE 'condition%';
SELECT count(*) FROM notif.explain('note'::text, 'ada') WHERE gate LIKE 'condition%';
SELECT check_name, ok, value FROM notif.health() WHERE check_name = 'conditions';
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT notif_private.shift_clock(90 * 1000000::bigint) > 0 AS later;
SELECT check_name, ok, value ~ '^9[0-9] s behind$' AS behind, hint FROM notif.health() WHERE check_name = 'conditions';
SELECT t.ask();
SELECT t.claim() IS NULL AS nothing;
-- a dry run asks as well
SELECT verdict, channel, reason, people FROM notif.preview('typed', recipients => '{ada,bob,eve}', data => '{"n": 72}') WHERE channel IS NOT NULL;
SELECT count(*) FROM notif_private.verdict_standard v WHERE v.lane = 0;
SET ROLE notif_owner;
SELECT notif.publish('note', 'ada', '{"n": 73}', send_if => 'true');
RESET ROLE;
-- too slow
SELECT notif_private.worker_suspend_type((SELECT id FROM notif_private.type WHERE name = 'typed'), 'took too long');
SELECT check_name, ok, value, hint FROM notif.health() WHERE check_name = 'conditions';
SELECT what, name, paused, why, by FROM notif.switches WHERE by = 'notif';
SELECT notif.resume('type', 'typed');
SELECT check_name, ok, value FROM notif.health() WHERE check_name = 'conditions';
-- redefined without one
SELECT notif.define_type('typed', 'c', title => 'n {n}');
SELECT send_if, send_if_by FROM notif.types WHERE name = 'typed';

SELECT count(*) FROM notif.audit() WHERE NOT agrees;
DROP OWNED BY send_if_boss;
DROP ROLE send_if_boss;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
