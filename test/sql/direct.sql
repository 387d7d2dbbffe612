-- The critical tier's way past the outbox: what the router expands is flown in the
-- same transaction, through the same gates, and the books stay balanced.
SET client_min_messages = warning;

SELECT notif.define_category('c', rate_limited => false);
SELECT notif.define_category('limited');
SELECT notif.define_type('code', 'c', tier => 'critical', title => 'n {n}');
SELECT notif.define_type('row', 'c', tier => 'critical', title => 'n {n}', ordered => true);
SELECT notif.define_type('scarce', 'limited', tier => 'critical', title => 'n {n}');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('one', 'push', ARRAY['apple'], app => 'one');
SELECT notif.define_route('two', 'push', ARRAY['apple'], app => 'two');
SELECT notif.define_rate_limit('hour', 1, '1 hour', 'defer');
SELECT id AS one FROM notif_private.route WHERE name = 'one' \gset
SELECT id AS two FROM notif_private.route WHERE name = 'two' \gset
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob,eve}'::text[]) r;
SELECT count(notif.register_device(r, r || app, 'ios', lpad(to_hex(n), 64, CASE app WHEN 'one' THEN '0' ELSE 'a' END), app => app))
FROM unnest('{ada,bob}'::text[]) WITH ORDINALITY u(r, n), unnest('{one,two}'::text[]) app;

-- One transaction: a step of the router, and a flight for each lane that can send.
CREATE FUNCTION pg_temp.serve(ready integer[], OUT filed bigint, OUT flown text[]) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	lane	integer;
	sent	text[];
BEGIN
	filed := 0; flown := '{}';
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_critical(2000, ready);
		filed := filed + step.attempts;
		FOR lane IN SELECT DISTINCT l FROM unnest(step.lanes) l ORDER BY l LOOP
			SELECT array_agg(r.ref || ' ' || (e.data ->> 'n') || ' over ' || rt.name ORDER BY f.ord) INTO sent
			  FROM notif_private.worker_fly_critical(lane, step.direct, step.lanes, 1, nextval('pg_temp.flights')) f
			  JOIN notif_private.recipient r ON r.id = f.recipient
			  JOIN notif_private.event e ON e.id = f.event
			  JOIN notif_private.route rt ON rt.id = lane;
			flown := flown || sent;
		END LOOP;
		EXIT WHEN NOT step.more;
	END LOOP;
END
$$;
CREATE TEMP SEQUENCE flights;
CREATE VIEW pg_temp.books AS
	SELECT (SELECT count(*) FROM notif_private.outbox_critical) AS outbox,
		   (SELECT count(*) FROM notif_private.flying_critical) AS flying,
		   (SELECT count(*) FROM notif_private.scheduled_critical) AS scheduled,
		   (SELECT count(*) FROM notif.audit() WHERE NOT agrees) AS wrong;

-- both lanes can send: nothing is filed
SELECT notif.publish('code', recipients => '{ada,bob,eve}', data => '{"n": 1}') IS NOT NULL AS published;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
SELECT * FROM pg_temp.books;
SELECT reason, count(*) FROM notif_private.outcome GROUP BY 1;
SELECT r.ref, count(*) FROM notif_private.inbox i JOIN notif_private.recipient r ON r.id = i.recipient GROUP BY 1 ORDER BY 1;
-- only one can: the other's go through the outbox
SELECT notif.publish('code', recipients => '{ada,bob}', data => '{"n": 2}') IS NOT NULL AS published;
SELECT * FROM pg_temp.serve(ARRAY[:two]::integer[]);
SELECT * FROM pg_temp.books;
-- none can, or the type keeps order
SELECT notif.publish('code', 'ada', '{"n": 3}') IS NOT NULL AS published;
SELECT * FROM pg_temp.serve('{}');
SELECT notif.publish('row', 'ada', '{"n": 4}') IS NOT NULL AS published;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
-- more than fifty at once
SELECT count(notif.publish('code', 'ada', jsonb_build_object('n', i))) FROM generate_series(101, 151) i;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
SELECT * FROM pg_temp.books;
-- the gates: cancelled, expired, and a limit that defers the second
SELECT notif.publish('code', 'bob', '{"n": 5}') AS five \gset
SELECT notif.cancel(:'five');
SELECT notif.publish('code', 'bob', '{"n": 6}', expires_in => '1 s') IS NOT NULL AS published;
SELECT notif_private.shift_clock(5 * 1000000) > 0 AS later;
SELECT notif.publish('scarce', 'bob', '{"n": 7}') IS NOT NULL AS published;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
SELECT e.data ->> 'n' AS n, o.state, o.reason, count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
WHERE e.data ->> 'n' IN ('5', '6', '7') GROUP BY 1, 2, 3 ORDER BY 1;
SELECT * FROM pg_temp.books;
-- rolled back, it never happened
SELECT notif.publish('code', 'ada', '{"n": 8}') IS NOT NULL AS published;
BEGIN;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
ROLLBACK;
SELECT * FROM pg_temp.books;
SELECT * FROM pg_temp.serve(ARRAY[:one, :two]::integer[]);
SELECT * FROM pg_temp.books;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
