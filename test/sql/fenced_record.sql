-- F-N-17: an answer that comes to a dispatcher after another one has resolved its
-- flight writes nothing: the flight is closed, the verdict is there.
SET client_min_messages = warning;
SELECT notif.define_category('again', rate_limited => false);
SELECT notif.define_category('once', on_unknown => 'hold', rate_limited => false);
SELECT notif.define_type('note', 'again', title => 'note {n}');
SELECT notif.define_type('code', 'once', title => 'code {n}');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}', key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, 3) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, 3) i;
SELECT count(notif.publish(t, 'p' || i, '{"n": 1}')) FROM generate_series(1, 3) i, unnest('{note,code}'::text[]) t;
SELECT attempts FROM notif_private.worker_route_standard(2000);

-- dispatcher 1 takes them to the wire ...
SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, 7) c;
CREATE TABLE flown AS
	SELECT a, f.flight FROM notif_private.flight_standard f, unnest(f.attempts) a;
SELECT count(*) FROM flown;
-- ... is thought dead, and dispatcher 2 resolves what is in doubt
SELECT * FROM notif_private.worker_recover_standard(2);
CREATE TABLE before AS SELECT delivery, attempt, state, reason, at FROM notif_private.outcome;
CREATE TABLE sums AS SELECT * FROM notif.state;
SELECT state, count(*) FROM before GROUP BY 1 ORDER BY 1;

-- The late answer, of all and of one.
CREATE FUNCTION late(n bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a	notif_private.attempt[];
	f	bigint[];
BEGIN
	SELECT array_agg(x.a), array_agg(x.flight) INTO a, f FROM (SELECT * FROM flown LIMIT late.n) x;
	PERFORM notif_private.worker_record_standard((SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1,
		a, array_fill('accepted'::text, ARRAY[n::integer]), array_fill(''::text, ARRAY[n::integer]), array_fill(200, ARRAY[n::integer]),
		array_fill(''::text, ARRAY[n::integer]), array_fill(1000, ARRAY[n::integer]), array_fill(0, ARRAY[n::integer]),
		array_fill(0::bigint, ARRAY[n::integer]), f, '{7}');
	RETURN 'recorded';
EXCEPTION WHEN unique_violation THEN
	RETURN 'refused';
END
$$;
SELECT late(6), late(1);
SELECT count(*) AS differ FROM (SELECT delivery, attempt, state, reason, at FROM notif_private.outcome EXCEPT ALL SELECT * FROM before) x;
SELECT count(*) AS lost FROM (SELECT * FROM before EXCEPT ALL SELECT delivery, attempt, state, reason, at FROM notif_private.outcome) x;
SELECT count(*) AS differ FROM (SELECT * FROM notif.state EXCEPT ALL SELECT * FROM sums) x;
SELECT * FROM notif.audit() WHERE NOT agrees;
-- and without closing the flight again it is refused for the outcomes that there are
CREATE OR REPLACE FUNCTION late_open() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM notif_private.worker_record_standard((SELECT id FROM notif_private.route), (SELECT id FROM notif_private.provider), 1,
		ARRAY[(SELECT a FROM flown LIMIT 1)], '{accepted}', '{""}', '{200}', '{""}', '{1000}', '{0}', '{0}', '{7}', '{}');
	RETURN 'recorded';
EXCEPTION WHEN unique_violation THEN
	RETURN 'refused';
END
$$;
SELECT late_open();
SELECT * FROM notif.audit() WHERE NOT agrees;
