-- The ledger at its edges: moved installations, parked routes while the rings
-- turn, open work that outlives retention.  All steps are called by hand.
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE SCHEMA t;
CREATE FUNCTION t.route() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	total	bigint := 0;
BEGIN
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		total := total + step.attempts;
		EXIT WHEN NOT step.more;
	END LOOP;
	RETURN total;
END
$$;
CREATE SEQUENCE t.flights;
CREATE FUNCTION t.claim(route text DEFAULT 'push') RETURNS bigint LANGUAGE sql AS $$
	SELECT count(c.delivery)
	FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route r WHERE r.name = route), 1000, 1, nextval('t.flights')) c
$$;
-- All that flies gets this verdict.
CREATE FUNCTION t.answer(verdict text DEFAULT 'accepted') RETURNS bigint LANGUAGE plpgsql AS $$
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
		PERFORM notif_private.worker_record_standard((SELECT min(id) FROM notif_private.route), (SELECT id FROM notif_private.provider), 1,
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
SELECT notif.define_route('other', 'push', ARRAY['apple'], platform => 'ios', app => 'second');
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, 700) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, 700) i;
SELECT notif.upsert_recipient('q') IS NOT NULL AS made;
SELECT notif.register_device('q', 'd', 'ios', lpad('ab', 64, '0'), app => 'second') IS NOT NULL AS made;
SELECT count(notif.subscribe('p' || i, 'news')) FROM generate_series(1, 700) i;
CREATE FUNCTION t.note(n integer, who text DEFAULT 'p1') RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish('note', who, jsonb_build_object('n', n))
$$;

-- ---- an installation that moves, twice -----------------------------------------

CREATE FUNCTION t.moved() RETURNS void LANGUAGE sql AS $$
	UPDATE notif_private.instance SET identity = '1:elsewhere:1:1', waiting = true
$$;
SELECT notif.confirm_instance();
SELECT count(t.note(i)) FROM generate_series(1, 3) i;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT count(t.note(i, 'p' || i)) FROM generate_series(4, 5) i;
SELECT t.moved();
\c
SET client_min_messages = warning;
-- what is published before the confirmation is delivered after it
SELECT t.note(6, 'p6') IS NOT NULL AS published;
SELECT notif.confirm_instance() AS taken_over;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
-- What the first installation had consumed is over, whatever its transaction
-- ids would mean to the cursors of the second.
UPDATE notif_private.event SET xid = (xid::text::bigint + 1000000000)::text::xid8 WHERE incarnation = 1;
UPDATE notif_private.outbox_standard SET xid = (xid::text::bigint + 1000000000)::text::xid8 WHERE incarnation = 1;
SELECT notif_private.needs_standard(NULL, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS needed;
SELECT t.moved();
\c
SET client_min_messages = warning;
-- published in a copy of a copy that was never confirmed: its ids lie ahead
SELECT t.note(7, 'p7') IS NOT NULL AS published;
UPDATE notif_private.event SET xid = (xid::text::bigint + 1000000000)::text::xid8 WHERE incarnation = 3;
SELECT notif.confirm_instance() AS taken_over;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM notif.audit() a WHERE a.tier = 'standard' OR NOT a.agrees;

-- A copy of the database in the same server waits too; its transaction ids are
-- this server's, so nothing is filed again.
SELECT split_part(notif_private.identity(), ':', 5)::oid = d.oid AS its_database FROM pg_database d WHERE d.datname = current_database();
SELECT notif_private.worker_instance_check('off');
UPDATE notif_private.instance SET identity = regexp_replace(identity, ':[0-9]+:([0-9]+)$', ':1:\1');
SELECT notif_private.worker_instance_check('off');
SELECT notif.confirm_instance() AS taken_over;
SELECT notif_private.worker_instance_check('off'), notif_private.current_incarnation();

-- ---- a parked route while the rings turn -----------------------------------------

SELECT t.note(8, 'q') IS NOT NULL AS published;
SELECT t.route();
SELECT t.claim('other');
SELECT t.answer();
-- from here on nobody reads the route, and a topic stays half expanded
SELECT t.note(9, 'q') IS NOT NULL AS published;
SELECT notif.publish('note', topic => 'news', data => '{"n": 10}') IS NOT NULL AS published;
SELECT t.route();
SELECT attempts, done FROM notif_private.worker_expand_standard((SELECT * FROM notif_private.worker_expansions_standard()), 100);
CREATE TABLE t.turns (turned boolean);
DO $$
BEGIN
	FOR i IN 1 .. 40 LOOP
		INSERT INTO t.turns SELECT notif_private.turn_rings_standard(0);
		COMMIT;
		PERFORM t.note(i, 'p2');
		COMMIT;
		PERFORM t.route();
		COMMIT;
		PERFORM t.claim();
		PERFORM t.answer();
		COMMIT;
	END LOOP;
END
$$;
SELECT turned, count(*) FROM t.turns GROUP BY turned;
-- both go on where they were
SELECT t.claim('other');
SELECT attempts, done FROM notif_private.worker_expand_standard((SELECT * FROM notif_private.worker_expansions_standard()), 1000);
SELECT t.claim();
SELECT t.answer();
SELECT * FROM notif.audit() a WHERE a.tier = 'standard' OR NOT a.agrees;
-- and no old position comes back when the newest is cleared away
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM notif_private.turn_rings_standard(0);
		COMMIT;
	END LOOP;
END
$$;
SELECT count(*) AS turns_kept FROM notif_private.turn_standard;
SELECT count(*) AS expansions FROM notif_private.worker_expansions_standard();
SELECT t.route();
SELECT t.claim('other'), t.claim();
SELECT sum(pg_relation_size(inhrelid)) AS left_in_outbox FROM pg_inherits WHERE inhparent = 'notif_private.outbox_standard'::regclass;
SELECT count(*) AS wrong FROM notif.audit() a WHERE NOT a.agrees;
-- audit locks before it looks: only a volatile function has a snapshot of its own
SELECT provolatile FROM pg_proc WHERE oid = 'notif.audit()'::regprocedure;

-- ---- redeliver finds what is queued, by an index ----------------------------------

SELECT t.note(11, 'p11') IS NOT NULL AS published;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('message_bad');
SELECT notif.redeliver(delivery) IS NOT NULL AS asked FROM notif_private.outcome WHERE state = 'failed';
SELECT t.route();
-- asked again when the first request is forgotten, but what it filed waits
DELETE FROM notif_private.idempotency;
SELECT notif.redeliver(delivery) IS NOT NULL AS asked FROM notif_private.outcome WHERE state = 'failed';
SELECT t.route();
CREATE FUNCTION t.plan() RETURNS SETOF text LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	line	text;
BEGIN
	FOR line IN EXPLAIN (COSTS OFF) SELECT FROM notif_private.outbox_standard o
		WHERE o.delivery = gen_random_uuid() AND o.attempt = 2 AND o.attempt > 1 LOOP
		IF line ~ 'Scan' THEN
			RETURN NEXT regexp_replace(line, '^[ >-]*|_[0-9]+|outbox.*$', '', 'g');
		END IF;
	END LOOP;
END
$$;
SELECT count(*) FROM t.plan() p WHERE p LIKE 'Index%';
SELECT t.claim();
-- a delivery that was moved 32,000 times ends
UPDATE notif_private.flight_standard SET attempts[1].attempt = 32767 WHERE attempts[1].attempt = 2;
SELECT t.answer('not_sent');
SELECT state, terminal, attempt FROM notif_private.outcome WHERE state = 'failed' ORDER BY attempt;
SELECT count(*) AS wrong FROM notif.audit() a WHERE NOT a.agrees;

-- ---- what comes back leaves room for what is new ------------------------------------

SELECT count(t.note(i, 'p' || i)) FROM generate_series(1, 30) i;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('retry');
UPDATE notif_private.schedule_standard SET due_at = notif.now() - interval '1 hour' + (due_at - notif.now()) / 1000
WHERE delivery IN (SELECT s.delivery FROM notif_private.scheduled_standard s);
DELETE FROM notif_private.blocked_standard;
SELECT count(t.note(i, 'p' || i)) FROM generate_series(31, 33) i;
SELECT t.route();
SELECT count(*), count(*) FILTER (WHERE attempt = 1) AS fresh
FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route WHERE name = 'push'), 10, 1, nextval('t.flights'));
SELECT count(*), count(*) FILTER (WHERE attempt = 1) AS fresh
FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route WHERE name = 'push'), 100, 1, nextval('t.flights'));
SELECT t.claim();
SELECT t.answer();
SELECT count(*) AS wrong FROM notif.audit() a WHERE NOT a.agrees;

-- ---- open work that outlives retention -------------------------------------------

CREATE FUNCTION t.expire() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	part	record;
	n		bigint := 0;
BEGIN
	LOOP
		SELECT * INTO part FROM notif_private.expire_partition('25 days', clock_timestamp() + interval '8 months');
		EXIT WHEN part.child IS NULL OR part.parent LIKE 'schedule%';
		EXECUTE format('ALTER TABLE notif_private.%I DETACH PARTITION notif_private.%I', part.parent, part.child);
		EXECUTE format('DROP TABLE notif_private.%I', part.child);
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
SELECT t.expire() > 0 AS expired;
SELECT notif_private.make_partitions() > 0 AS made;
SELECT count(*) AS wrong FROM notif.audit() a WHERE NOT a.agrees;
SELECT notif.pause('tier', 'standard');
SELECT count(t.note(i, 'p' || i)) FROM generate_series(1, 2) i;
-- 8 months later it is resumed
SELECT t.expire() > 0 AS expired;
SELECT notif.resume('tier', 'standard');
SELECT t.route();
SELECT t.expire() > 0 AS expired;
SELECT t.claim();
SELECT t.expire() > 0 AS expired;
SELECT t.answer();
SELECT count(*) AS wrong FROM notif.audit() a WHERE NOT a.agrees;
SELECT t.expire() > 0 AS expired;
SELECT * FROM notif.audit() a WHERE a.tier = 'standard' OR NOT a.agrees;
