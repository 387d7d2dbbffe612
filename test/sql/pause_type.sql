-- A paused type or campaign waits apart, at no cost and in nobody's way, and goes in its
-- order once it is resumed; by the functions that the workers call.
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

CREATE FUNCTION t.tell_for(campaign text, who text, type text, n integer) RETURNS uuid LANGUAGE sql AS $$
	SELECT notif.publish(type, who, jsonb_build_object('n', n), campaign => campaign)
$$;

SELECT notif.define_category('c', max_attempts => 5, retry_base => '1 hour', retry_cap => '4 hours', rate_limited => false);
SELECT notif.define_type('note', 'c', title => 'n {n}', ttl => '20 days');
SELECT notif.define_type('chat', 'c', title => 'n {n}', ttl => '20 days');
SELECT notif.define_type('news', 'c', title => 'n {n}', ordered => false);
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob}'::text[]) r;
SELECT count(notif.register_device(r, 'd', 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob}'::text[]) WITH ORDINALITY u(r, n);

-- ---- a type ------------------------------------------------------------------------------

SELECT notif.pause('type', 'note', why => 'wrong text');
SELECT count(t.tell('ada', 'note', n)) FROM generate_series(1, 3) n;
-- behind them on the same device, and not of that type
SELECT t.tell('ada', 'chat', 4) IS NOT NULL AS told;
SELECT t.tell('bob', 'note', 5) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[1,10)');
-- they wait at no cost: nothing is due, nothing is written again
SELECT notif_private.worker_next_due_standard(1) IS NULL AS nothing_due;
SELECT notif_private.shift_clock(3600 * 1000000::bigint) > 0 AS later;
SELECT t.claim() IS NULL AS nothing;
SELECT count(*) FROM notif_private.outcome WHERE reason = 'paused:type';
SELECT s.state, s.n FROM (SELECT a.state, a.tallied AS n, a.agrees FROM notif.audit() a WHERE a.tier = 'standard') s WHERE s.agrees AND s.n > 0;
SELECT q.route, q.scheduled FROM notif.queue q WHERE q.tier = 'standard' AND q.scheduled > 0;
SELECT gate, verdict, detail -> 'paused' AS paused FROM notif.explain('note'::text, 'ada') WHERE gate = 'pause';
SELECT verdict FROM notif.explain('chat'::text, 'ada') WHERE gate = 'pause';
-- upkeep knows that their events are needed
SELECT notif_private.needs_standard(NULL, notif_private.uuid_at(notif.now() + interval '1 day'));
-- cancelled, dead or unwanted ones end as ever
SELECT t.tell('ada', 'note', 6) AS cancelled \gset
SELECT notif.cancel(:'cancelled');
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[6,7)');

-- resumed: in their order, and what comes meanwhile behind them
SELECT notif.resume('type', 'note', why => 'text corrected');
SELECT notif_private.worker_next_due_standard(1) <= notif.now() AS due;
SELECT t.tell('ada', 'note', 7) IS NOT NULL AS told;
SELECT t.route();
-- half of a batch is theirs: one of two
SELECT t.claim(2);
SELECT t.answer();
SELECT * FROM t.fates('[7,8)');
SELECT t.claim();
SELECT t.answer();
SELECT t.claim() IS NULL AS nothing;
SELECT what, name, drained FROM notif_private.parking;
SELECT notif_private.needs_standard(NULL, notif_private.uuid_at(notif.now() + interval '1 day'));
-- what comes from then on takes the straight way
SELECT t.tell('ada', 'note', 8) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data ->> 'n' = '8';

-- ---- a campaign, across types ---------------------------------------------------------------

SELECT notif.pause('campaign', 'spring');
SELECT t.tell_for('spring', 'ada', 'news', 21) IS NOT NULL AS told;
SELECT notif.pause('campaign', 'spring', why => 'somebody complained');
SELECT t.tell_for('spring', 'bob', 'note', 22) IS NOT NULL AS told;
SELECT t.tell_for('summer', 'ada', 'news', 23) IS NOT NULL AS told;
SELECT t.tell('ada', 'news', 24) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[21,30)');
SELECT e.gate, e.verdict FROM notif_private.event v CROSS JOIN LATERAL notif.explain(v.id, 'ada') e
WHERE v.data ->> 'n' = '21' AND e.gate = 'pause';
-- its type is paused as well: then both must be resumed
SELECT notif.pause('type', 'note');
SELECT notif.resume('campaign', 'spring');
SELECT t.claim();
SELECT t.answer();
SELECT * FROM t.fates('[21,30)');
-- paused again while it is read out
SELECT notif.resume('type', 'note');
SELECT t.tell('bob', 'note', 25) IS NOT NULL AS told;
SELECT t.route();
SELECT notif.pause('type', 'note');
SELECT t.claim() IS NULL AS nothing;
SELECT notif.resume('type', 'note');
SELECT t.claim();
SELECT t.answer();
SELECT DISTINCT state FROM t.fates('[1,30)') ORDER BY state;
SELECT what, name, drained FROM notif_private.parking ORDER BY id;

-- ---- retries meet the switch, too; a long pause ends in expiry ---------------------------------

SELECT t.tell('ada', 'note', 31) IS NOT NULL AS told;
SELECT t.tell('ada', 'note', 32) IS NOT NULL AS told;
SELECT t.route();
SELECT t.claim();
SELECT t.answer('{retry,not_sent}');
SELECT notif.pause('type', 'note');
SELECT notif_private.shift_clock(5 * 3600 * 1000000::bigint) > 0 AS later;
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[31,40)');
SELECT notif.resume('type', 'note');
SELECT t.claim();
SELECT t.answer();
SELECT t.tell('ada', 'note', 33) IS NOT NULL AS told;
SELECT notif.pause('type', 'note');
SELECT t.route();
SELECT t.claim() IS NULL AS nothing;
SELECT notif_private.shift_clock(21 * 86400 * 1000000::bigint) > 0 AS later;
SELECT notif.resume('type', 'note');
SELECT t.claim() IS NULL AS nothing;
SELECT * FROM t.fates('[31,40)');

-- ---- the log, and the books --------------------------------------------------------------------

SELECT what, name, paused, why FROM notif_private.switch_log ORDER BY id;
SELECT count(*) AS logged, count(*) FILTER (WHERE holds) AS hold FROM notif.switches;
SELECT * FROM notif.audit() a WHERE NOT a.agrees;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
