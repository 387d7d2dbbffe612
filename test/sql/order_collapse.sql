-- R5: one endpoint's messages stay in order over retries, and of those that wait with
-- one collapse key only the newest goes; by the functions that the workers call.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/steps.sql'
\set ECHO none
\i :helpers
\set ECHO all

-- Publishes number n to somebody.
CREATE FUNCTION t.tell(who text, type text, n integer, key text DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish(type, who, jsonb_build_object('n', n), collapse_key => key)
$$;

SELECT notif.define_category('c', max_attempts => 5, retry_base => '1 hour', retry_cap => '4 hours', rate_limited => false);
SELECT notif.define_type('note', 'c', title => 'n {n}');
SELECT notif.define_type('news', 'c', title => 'n {n}', ordered => false);
SELECT notif.define_type('code', 'c', tier => 'critical', title => 'n {n}');
SELECT name, ordered FROM notif.types ORDER BY name;
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob}'::text[]) r;
SELECT count(notif.register_device(r, 'd', 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob}'::text[]) WITH ORDINALITY u(r, n);

-- ---- what is behind one that is tried again waits for it ----------------------------

SELECT count(t.tell('ada', 'note', n)) FROM generate_series(1, 3) n;
SELECT t.route();
SELECT t.claim();
-- the first has to be tried again in an hour or so; the two behind it were given back
SELECT t.answer('{retry,not_sent,not_sent}');
SELECT count(*) AS waiting, bool_and(s.due_at >= s.before) AS in_order, min(s.due_at) > notif.now() AS later
FROM (SELECT x.due_at, lag(x.due_at, 1, '-infinity') OVER (ORDER BY x.ord) AS before FROM notif_private.schedule_standard x) s;
-- what comes now waits as well, but nobody else does, nor what may overtake
SELECT t.tell('ada', 'note', 4) IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 5) IS NOT NULL AS told;
SELECT t.tell('bob', 'note', 6) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[1,10)');
-- all four come at the end of the wait, as they were published
SELECT notif_private.shift_clock(2 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.tell('ada', 'note', 7) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT t.tell('ada', 'note', 8) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[1,10)') WHERE state <> 'accepted';

-- ---- twice delayed: the order holds over a chain of retries ----------------------------

SELECT count(t.tell('ada', 'note', n)) FROM generate_series(11, 12) n;
SELECT t.route();
SELECT t.claim();
-- the second is given back while the first is still in the air
CREATE TABLE t.first AS SELECT * FROM t.flown WHERE nth = 1;
DELETE FROM t.flown WHERE nth = 1;
UPDATE t.flown SET nth = 1;
SELECT t.answer('{not_sent}', closes => false);
UPDATE notif_private.schedule_standard s SET due_at = notif.now() + interval '1 minute'
FROM t.flown f WHERE s.delivery = (f.a).delivery AND s.attempt = 2;
UPDATE notif_private.blocked_standard SET until = notif.now() + interval '1 minute';
TRUNCATE t.flown;
INSERT INTO t.flown SELECT * FROM t.first;
SELECT t.answer('{retry}');
UPDATE notif_private.schedule_standard s SET due_at = notif.now() + interval '30 minutes'
FROM t.flown f WHERE s.delivery = (f.a).delivery AND s.attempt = 2;
UPDATE notif_private.blocked_standard SET until = notif.now() + interval '30 minutes';
-- the second comes up before the first, and waits for it again
SELECT notif_private.shift_clock(90 * 1000000) > 0 AS later;
SELECT t.claim();
SELECT * FROM t.fates('[12,13)');
SELECT notif_private.shift_clock(2 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.claim();
SELECT t.answer();

-- ---- a flood is spread, not pushed to its end ------------------------------------------

SELECT count(t.tell('ada', 'note', n)) FROM generate_series(71, 76) n;
SELECT t.route();
SELECT t.claim();
-- the first was accepted, the others had to wait too long: each a minute after the other
CREATE FUNCTION t.give_back() RETURNS integer LANGUAGE sql AS $$
	SELECT r.retries
	FROM (SELECT array_agg(x.a ORDER BY x.nth) AS a, array_agg(x.flight ORDER BY x.nth) AS f, count(*)::integer AS n FROM t.flown x) b
	CROSS JOIN LATERAL notif_private.worker_record_standard(
		(SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1, b.a,
		ARRAY['accepted'] || array_fill('not_sent'::text, ARRAY[b.n - 1]),
		ARRAY[''] || array_fill('order'::text, ARRAY[b.n - 1]), array_fill(0, ARRAY[b.n]), array_fill(''::text, ARRAY[b.n]),
		array_fill(0, ARRAY[b.n]), ARRAY(SELECT i * 60000 FROM generate_series(0, b.n - 1) i), array_fill(0::bigint, ARRAY[b.n]),
		b.f, ARRAY[b.f[1]]) r
$$;
SELECT t.give_back();
SELECT t.tell('ada', 'note', 77) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT notif_private.shift_clock(150 * 1000000) > 0 AS later;
SELECT t.claim();
SELECT t.answer();
SELECT notif_private.shift_clock(60 * 1000000) > 0 AS later;
SELECT t.claim();
SELECT t.answer();
SELECT notif_private.shift_clock(300 * 1000000) > 0 AS later;
SELECT t.claim();
SELECT t.answer();

-- ---- the dispatcher dies with both in the air: tried again in order ----------------------

SELECT count(t.tell('ada', 'note', n)) FROM generate_series(21, 22) n;
SELECT t.route();
SELECT t.claim();
SELECT resent FROM notif_private.worker_recover_standard(2);
SELECT t.tell('ada', 'note', 23) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();

-- ---- collapse -----------------------------------------------------------------------

SELECT count(t.tell('ada', 'note', n, 'score')) FROM generate_series(31, 33) n;
SELECT t.tell('bob', 'note', 34, 'score') IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 35, 'other') IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 36) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[30,40)');
-- one that waits for its retry is overtaken by a newer one
SELECT t.tell('ada', 'news', 41, 'score') IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{retry}');
SELECT t.tell('ada', 'news', 42, 'score') IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT notif_private.shift_clock(2 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.route();
SELECT t.claim();
SELECT * FROM t.fates('[40,50)');
-- but not by one that is not sent itself: cancelled, expired, of a type that is off
SELECT t.tell('ada', 'note', 51, 'score') IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 52, 'score') AS cancelled \gset
SELECT notif.cancel(:'cancelled');
SELECT notif.publish('note', 'ada', '{"n": 53}', collapse_key => 'score', expires_in => '1 s') IS NOT NULL AS told;
SELECT notif_private.shift_clock(5 * 1000000) > 0 AS later;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[50,60)');
-- nor by one that a gate stops in the same claim
SELECT notif.define_type('off', 'c', title => 'n {n}');
SELECT t.tell('ada', 'note', 56, 'score') IS NOT NULL AS told;
SELECT t.tell('ada', 'off', 57, 'score') IS NOT NULL AS told;
SELECT notif.disable_type('off');
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[56,60)');
-- the dispatcher says so itself of what waits in its memory
SELECT count(t.tell('ada', 'note', n, 'memory')) FROM generate_series(61, 61) n;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{superseded}');
SELECT * FROM t.fates('[60,70)');

-- ---- upkeep, and the books ------------------------------------------------------------

SELECT count(*) AS blocked FROM notif_private.blocked_standard;
SELECT notif_private.unblock_standard() AS over;
SELECT count(*) AS blocked FROM notif_private.blocked_standard;
SELECT * FROM notif.audit() a WHERE a.tier = 'standard' OR NOT a.agrees;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
