-- Snapshot windows: what the router and the dispatchers read, by functions
-- called by hand.  Prepared transactions play those that commit late.
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE SCHEMA t;
CREATE FUNCTION t.route(OUT events bigint, OUT attempts bigint, OUT expansions uuid[]) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
BEGIN
	events := 0; attempts := 0; expansions := '{}';
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		events := events + step.events;
		attempts := attempts + step.attempts;
		expansions := expansions || step.expansions;
		EXIT WHEN NOT step.more;
	END LOOP;
END
$$;
CREATE FUNCTION t.balanced() RETURNS boolean LANGUAGE sql AS $$
	SELECT coalesce(sum(n) FILTER (WHERE state = 'expanded'), 0) = coalesce(sum(n) FILTER (WHERE state <> 'expanded'), 0)
	   AND coalesce(sum(n) FILTER (WHERE state = 'open'), 0) =
		   (SELECT count(*) FROM notif_private.queued_standard) + (SELECT count(*) FROM notif_private.scheduled_standard)
	   AND coalesce(sum(n) FILTER (WHERE state = 'in_flight'), 0) = (SELECT count(*) FROM notif_private.flying_standard)
	   AND coalesce(sum(n) FILTER (WHERE state NOT IN ('expanded', 'open', 'in_flight')), 0) =
		   (SELECT count(*) FROM notif_private.outcome o WHERE o.terminal AND o.tier = 1)
	FROM notif_private.tally WHERE tier = 1
$$;
CREATE TABLE t.claimed (flight bigint, n bigint, delivery uuid, attempt integer, step text);
CREATE SEQUENCE t.flights;
-- Claims until there is nothing; one flight per claim, as a dispatcher does.
CREATE FUNCTION t.claim(step text, size integer DEFAULT 1000) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	total	bigint := 0;
	n		bigint;
	f		bigint;
BEGIN
	LOOP
		f := nextval('t.flights');
		INSERT INTO t.claimed SELECT f, c.batch, c.delivery, c.attempt, claim.step
		FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), size, 1, f) c;
		GET DIAGNOSTICS n = ROW_COUNT;
		EXIT WHEN n = 0;
		-- a row without a delivery says that none passed the gates
		DELETE FROM t.claimed c WHERE c.delivery IS NULL;
		SELECT total + count(*) INTO total FROM t.claimed c WHERE c.flight = f;
	END LOOP;
	RETURN total;
END
$$;
CREATE FUNCTION t.twice() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM (SELECT FROM t.claimed GROUP BY delivery, attempt HAVING count(*) > 1) x
$$;
-- All that flies is accepted.
CREATE FUNCTION t.accept(verdict text DEFAULT 'accepted') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	a	notif_private.attempt[];
	f	bigint[];
	n	integer;
BEGIN
	SELECT array_agg((x.delivery, x.attempt, x.tries, 1, x.event, x.type_id, x.recipient, x.endpoint, x.expires_at, notif.now(), NULL, NULL, NULL, NULL, NULL)::notif_private.attempt),
		   array_agg(x.flight)
	INTO a, f FROM notif_private.flying_standard x;
	n := coalesce(cardinality(a), 0);
	IF n > 0 THEN
		PERFORM notif_private.worker_record_standard((SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1,
			a, array_fill(verdict, ARRAY[n]), array_fill(''::text, ARRAY[n]), array_fill(200, ARRAY[n]), array_fill(''::text, ARRAY[n]),
			array_fill(1000, ARRAY[n]), array_fill(0, ARRAY[n]), array_fill(0::bigint, ARRAY[n]), f, ARRAY(SELECT DISTINCT unnest(f)));
	END IF;
	RETURN n;
END
$$;

SELECT notif.define_category('c', rate_limited => false);
SELECT notif.define_type('note', 'c', title => 'note {n}');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, 6000) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, 6000) i;
CREATE FUNCTION t.note(n integer, who text DEFAULT 'p1') RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish('note', who, jsonb_build_object('n', n))
$$;

-- ---- late committers, at both readers ----------------------------------------

-- An event whose transaction is prepared when the window closes, with others
-- before and after it.
SELECT t.note(1) IS NOT NULL AS published;
BEGIN;
SELECT t.note(2) IS NOT NULL AS published;
PREPARE TRANSACTION 'late';
SELECT t.note(3) IS NOT NULL AS published;
SELECT events, attempts FROM t.route();
SELECT t.note(4) IS NOT NULL AS published;
SELECT events, attempts FROM t.route();
SELECT t.claim('before the late one');
COMMIT PREPARED 'late';
SELECT events, attempts FROM t.route();
SELECT events, attempts FROM t.route();
SELECT t.claim('the late one');
SELECT t.claim('nothing');
SELECT t.twice(), t.balanced();

-- A transaction of the router that is in progress when the dispatcher's window
-- closes: alone, in one claim, and in claims of one.
SELECT t.note(5) IS NOT NULL AS published;
BEGIN;
SELECT events, attempts FROM t.route();
PREPARE TRANSACTION 'router';
-- somebody else's transaction ends, so that the router's lies below the snapshot's end
CREATE TABLE t.between ();
SELECT t.claim('while the router has not committed');
-- the window is moved on by something that is to be sent
INSERT INTO notif_private.cursor_standard (ring, role, lane, seq, s_from)
SELECT 0, 2, r.id, 1 + (SELECT max(seq) FROM notif_private.cursor_standard c WHERE c.role = 2), pg_current_snapshot() FROM notif_private.route r;
COMMIT PREPARED 'router';
SELECT t.claim('after it has');
SELECT t.claim('nothing');
SELECT t.twice(), t.balanced();

SELECT count(t.note(5 + i, 'p' || i)) FROM generate_series(1, 7) i;
BEGIN;
SELECT events, attempts FROM t.route();
PREPARE TRANSACTION 'router';
CREATE TABLE t.between2 ();
INSERT INTO notif_private.cursor_standard (ring, role, lane, seq, s_from)
SELECT 0, 2, r.id, 1 + (SELECT max(seq) FROM notif_private.cursor_standard c WHERE c.role = 2), pg_current_snapshot() FROM notif_private.route r;
COMMIT PREPARED 'router';
SELECT t.claim('after it has, by threes', 3);
SELECT t.claim('nothing');
SELECT t.twice(), t.balanced();
SELECT t.accept();

-- ---- F-D-15: rollbacks and subtransactions --------------------------------------------

BEGIN;
SELECT t.note(20) IS NOT NULL AS published;
SAVEPOINT a;
SELECT t.note(21) IS NOT NULL AS published;
SAVEPOINT b;
SELECT t.note(22) IS NOT NULL AS published;
ROLLBACK TO b;
SELECT t.note(23) IS NOT NULL AS published;
RELEASE a;
SAVEPOINT c;
SELECT t.note(24) IS NOT NULL AS published;
ROLLBACK TO c;
COMMIT;
BEGIN;
SELECT t.note(25) IS NOT NULL AS published;
ROLLBACK;
BEGIN;
SELECT t.note(26) IS NOT NULL AS published;
PREPARE TRANSACTION 'gone';
ROLLBACK PREPARED 'gone';
DO $$
BEGIN
	FOR i IN 30 .. 39 LOOP
		BEGIN
			PERFORM t.note(i);
			IF i % 2 = 1 THEN
				RAISE EXCEPTION 'odd';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT events, attempts FROM t.route();
SELECT t.claim('subtransactions');
SELECT string_agg(e.data ->> 'n', ' ' ORDER BY (e.data ->> 'n')::integer)
FROM t.claimed c JOIN notif_private.flying_standard f USING (delivery, attempt) JOIN notif_private.event e ON e.id = f.event
WHERE c.step = 'subtransactions';
SELECT t.accept(), t.twice(), t.balanced();

-- ---- a large transaction ------------------------------------------------------

-- 20,000 publishes in one transaction become an expansion; a publish that
-- commits after them is routed before it is finished.
SELECT count(notif.publish('note', 'p' || (1 + i % 6000), jsonb_build_object('n', i))) FROM generate_series(1, 20000) i;
SELECT t.note(77, 'p7') AS single \gset
CREATE FUNCTION t.routed_after(single uuid, OUT steps integer, OUT attempts_before bigint, OUT expansions bigint) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
BEGIN
	steps := 0; attempts_before := 0; expansions := 0;
	LOOP
		EXIT WHEN EXISTS (SELECT FROM notif_private.outbox_standard o WHERE o.event = single);
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		steps := steps + 1;
		attempts_before := attempts_before + step.attempts;
		expansions := expansions + cardinality(step.expansions);
		EXIT WHEN steps > 100;
	END LOOP;
END
$$;
SELECT steps <= 3 AS soon, attempts_before <= 2001 AS by_one_chunk, expansions FROM t.routed_after(:'single');
SELECT events, attempts FROM t.route();
CREATE FUNCTION t.expand_all(OUT attempts bigint, OUT calls integer, OUT most bigint) LANGUAGE plpgsql AS $$
DECLARE
	k	uuid;
	r	record;
BEGIN
	attempts := 0; calls := 0; most := 0;
	LOOP
		FOR k IN SELECT * FROM notif_private.worker_expansions_standard() LOOP
			SELECT * INTO r FROM notif_private.worker_expand_standard(k, 2000);
			attempts := attempts + r.attempts;
			most := greatest(most, r.attempts);
			calls := calls + 1;
		END LOOP;
		EXIT WHEN NOT FOUND;
	END LOOP;
END
$$;
SELECT attempts, most <= 2000 AS bounded FROM t.expand_all();
SELECT t.claim('large'), t.twice(), t.balanced();
SELECT t.accept(), t.balanced();

-- The same with a few recipients in each event: the chunk is full of
-- recipients before it is full of events.
SELECT count(notif.publish('note', recipients => ARRAY(SELECT 'p' || (10 * (i % 600) + j) FROM generate_series(1, 8) j),
							data => jsonb_build_object('n', i))) FROM generate_series(1, 2000) i;
SELECT t.note(78, 'p7') AS single \gset
SELECT steps <= 3 AS soon, attempts_before <= 2001 AS by_one_chunk, expansions FROM t.routed_after(:'single');
SELECT count(*) FROM t.route();
SELECT count(*) FROM t.expand_all();
SELECT t.claim('large, wide'), t.twice(), t.balanced();
SELECT t.accept(), t.balanced();

-- ---- large audiences, served in turn -------------------------------------------

SELECT notif.subscribe_many('all', ARRAY(SELECT 'p' || i FROM generate_series(1, 5000) i));
SELECT notif.subscribe_many('few', ARRAY(SELECT 'p' || i FROM generate_series(1, 3) i));
SELECT notif.create_topic('empty');
SELECT notif.publish('note', topic => 'all', data => '{"n": 1}') AS all_ \gset
SELECT notif.publish('note', topic => 'few', data => '{"n": 2}') AS few \gset
SELECT notif.publish('note', topic => 'empty', data => '{"n": 3}') AS empty \gset
SELECT notif.publish('note', recipients => ARRAY(SELECT 'p' || i FROM generate_series(1, 1200) i), data => '{"n": 4}') AS listed \gset
SELECT events, attempts, expansions = ARRAY[:'all_', :'few', :'empty', :'listed']::uuid[] AS in_order FROM t.route();
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'few', 2000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'empty', 2000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'listed', 1000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'listed', 1000);
-- one who subscribes behind the position is not reached, one before it is
SELECT notif.subscribe('p5500', 'all'), notif.unsubscribe('p4900', 'all');
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT * FROM notif_private.worker_expansions_standard();
SELECT state, reason, recipient, attempt FROM notif_private.outcome WHERE event = :'empty';
SELECT count(*) FROM notif_private.inbox WHERE event = :'all_';
SELECT t.claim('audiences'), t.twice(), t.balanced();
SELECT t.accept(), t.balanced();

-- Cancel stops an expansion where it is, and what it had filed at its claim.
SELECT notif.publish('note', topic => 'all', data => '{"n": 5}') AS all_ \gset
SELECT events, attempts FROM t.route();
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT notif.cancel(:'all_'), notif.cancel(:'all_');
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT t.claim('cancelled'), t.balanced();
SELECT state, reason, count(*) FROM notif_private.outcome WHERE event = :'all_' GROUP BY 1, 2;
SELECT notif.publish('note', topic => 'all', data => '{"n": 6}') AS all_ \gset
SELECT notif.cancel(:'all_');
SELECT events, attempts FROM t.route();
SELECT attempts, done FROM notif_private.worker_expand_standard(:'all_', 2000);
SELECT state, reason, count(*) FROM notif_private.outcome WHERE event = :'all_' GROUP BY 1, 2;
SELECT t.balanced();

-- ---- redeliver -------------------------------------------------------------------

SELECT t.note(90, 'p9') AS dead \gset
SELECT events, attempts FROM t.route();
SELECT t.claim('to die'), t.accept('message_bad');
SELECT delivery FROM notif.dead_letters WHERE event = :'dead' \gset
SELECT notif.redeliver(:'delivery') = notif.redeliver(:'delivery') AS one_command;
SELECT notif.redeliver_event(:'dead');
SELECT events, attempts FROM t.route();
SELECT t.claim('again'), t.claim('nothing'), t.balanced();
SELECT f.attempt, f.tries, f.delivery = :'delivery' AS same FROM notif_private.flying_standard f;
SELECT t.accept(), t.balanced(), t.twice();
SELECT step, attempt, state, reason FROM notif.trace(:'dead');
SELECT n FROM notif.state WHERE tier = 'standard' AND state = 'expanded'
EXCEPT SELECT sum(n) FROM notif.state WHERE tier = 'standard' AND state <> 'expanded';
\set VERBOSITY sqlstate
SELECT notif.redeliver(:'delivery') IS NULL AS refused;
\set VERBOSITY default

-- ---- idempotency -------------------------------------------------------------------

SELECT notif.publish('note', 'p1', '{"n": 1}', idempotency_key => 'k') AS first \gset
SELECT notif.publish('note', 'p1', '{"n": 1}', idempotency_key => 'k') = :'first' AS same;
\set VERBOSITY sqlstate
SELECT notif.publish('note', 'p1', '{"n": 2}', idempotency_key => 'k');
SELECT notif.publish('note', 'p2', '{"n": 1}', idempotency_key => 'k');
\set VERBOSITY default
BEGIN;
SELECT notif.publish('note', 'p1', '{"n": 3}', idempotency_key => 'undone') IS NOT NULL AS published;
ROLLBACK;
SELECT notif.publish('note', 'p1', '{"n": 4}', idempotency_key => 'undone') IS NOT NULL AS published;
SELECT events, attempts FROM t.route();
SELECT t.claim('idempotent'), t.accept(), t.twice(), t.balanced();

-- ---- what upkeep takes for unclaimed is what no window has passed ----------------------
-- Windows at random, some of them not begun, against a single attempt of each place.

SELECT setseed(0.5);
-- After an earlier one: what was over then is over.
CREATE FUNCTION t.snapshot(lowest integer, highest integer, earlier pg_snapshot DEFAULT '1:1:') RETURNS pg_snapshot LANGUAGE sql AS $$
	-- xmin is the oldest that runs
	SELECT format('%s:%s:%s', coalesce(min(x), highest), highest, string_agg(x::text, ',' ORDER BY x))::pg_snapshot
	  FROM generate_series(lowest, highest - 1) x
	 WHERE random() < 0.4 AND NOT pg_visible_in_snapshot(x::text::xid8, earlier)
$$;
BEGIN;
TRUNCATE notif_private.outbox_standard;
CREATE TABLE t.compared (windows text, s_from pg_snapshot, s_to pg_snapshot, xid xid8, place bigint,
						 row_xid xid8, row_ord bigint, unclaimed boolean, passed boolean);
DO $$
DECLARE
	lane	constant integer := (SELECT id FROM notif_private.route);
	w		record;
	r		record;
BEGIN
	FOR w IN SELECT k.windows, k.s_from, CASE k.windows WHEN 'open' THEN t.snapshot(3, 13, k.s_from) END AS s_to,
					CASE k.windows WHEN 'open' THEN (2 + floor(random() * 11))::text::xid8 END AS xid,
					CASE k.windows WHEN 'open' THEN (random() * 3)::bigint END AS place
			   FROM (SELECT k.windows, t.snapshot(3, 8) AS s_from
					   FROM generate_series(1, 40) n, unnest(ARRAY['open', 'between', 'none']) k(windows) OFFSET 0) k LOOP
		DELETE FROM notif_private.cursor_standard c WHERE c.role = 2;
		IF w.windows <> 'none' THEN
			INSERT INTO notif_private.cursor_standard (ring, role, lane, seq, s_from, s_to, xid, place)
			VALUES (0, 2, lane, 1, w.s_from, w.s_to, w.xid, w.place);
		END IF;
		FOR r IN SELECT x::text::xid8 AS xid, o::bigint AS ord FROM generate_series(2, 14) x, generate_series(1, 3) o LOOP
			INSERT INTO notif_private.outbox_standard (ring, incarnation, lane, xid, delivery, slot, attempt, tries, type_id, ord,
													   recipient, endpoint, event, expires_at)
			VALUES (7, notif_private.current_incarnation(), lane, r.xid, gen_random_uuid(), 0, 1, 0, 1, r.ord, 1, 1, gen_random_uuid(), 'infinity');
			INSERT INTO t.compared SELECT w.windows, w.s_from, w.s_to, w.xid, w.place, r.xid, r.ord,
				notif_private.unclaimed_standard('notif_private.outbox_standard_7'),
				w.windows <> 'none' AND notif_private.passed(r.xid, r.ord, w.s_from, w.s_to, w.xid, w.place);
			DELETE FROM notif_private.outbox_standard o WHERE o.ring = 7;
		END LOOP;
	END LOOP;
END
$$;
SELECT windows, count(*), count(*) FILTER (WHERE passed) > 0 AS some_passed, count(*) FILTER (WHERE NOT passed) > 0 AS some_not,
	   count(*) FILTER (WHERE unclaimed = passed) AS wrong
  FROM t.compared GROUP BY windows ORDER BY windows;
SELECT * FROM t.compared WHERE unclaimed = passed LIMIT 3;
-- by the index, wherever a window stands: a look at a long queue is a short one
CREATE FUNCTION t.plan() RETURNS SETOF text LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	line	text;
BEGIN
	FOR line IN EXPLAIN (COSTS OFF) SELECT FROM notif_private.outbox_standard_7 o
		WHERE o.lane = 1 AND o.incarnation = 1::smallint AND o.xid >= '5'::xid8 AND (o.xid, o.ord) > ('5'::xid8, 7::bigint) LOOP
		RETURN NEXT line;
	END LOOP;
END
$$;
SELECT * FROM t.plan();
ROLLBACK;

-- Every event was read once: each has its inbox item or its outcome.
SELECT count(*) FROM notif_private.event e
WHERE e.kind = 0 AND NOT EXISTS (SELECT FROM notif_private.outcome o WHERE o.event = e.id);
SELECT count(*) - count(DISTINCT (recipient, event)) AS doubled FROM notif_private.inbox;
DROP SCHEMA t CASCADE;
