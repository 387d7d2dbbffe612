-- One batch in which every gate stops somebody, through the functions that the
-- workers call, called by hand: no worker runs in this database.
SET client_min_messages = warning;
SET timezone = 'UTC';

-- expanded = open + in flight + the terminal states, from the tally, and the
-- same from the rows.
CREATE FUNCTION pg_temp.balance(OUT expanded bigint, OUT open bigint, OUT in_flight bigint, OUT ended bigint,
								OUT equation boolean, OUT rows_agree boolean) LANGUAGE sql AS $$
	SELECT t.expanded, t.open, t.in_flight, t.ended, t.expanded = t.open + t.in_flight + t.ended,
		   (t.open, t.in_flight, t.ended) =
		   ((SELECT count(*) FROM notif_private.queued_standard) + (SELECT count(*) FROM notif_private.scheduled_standard),
			(SELECT count(*) FROM notif_private.flying_standard),
			(SELECT count(*) FROM notif_private.outcome o WHERE o.terminal))
	FROM (SELECT coalesce(sum(n) FILTER (WHERE state = 'expanded'), 0)::bigint AS expanded,
				 coalesce(sum(n) FILTER (WHERE state = 'open'), 0)::bigint AS open,
				 coalesce(sum(n) FILTER (WHERE state = 'in_flight'), 0)::bigint AS in_flight,
				 coalesce(sum(n) FILTER (WHERE state NOT IN ('expanded', 'open', 'in_flight')), 0)::bigint AS ended
		  FROM notif_private.tally WHERE tier = 1) t
$$;

-- The router's steps until its window is used up.
CREATE FUNCTION pg_temp.route(OUT events bigint, OUT attempts bigint, OUT expansions bigint) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
BEGIN
	events := 0; attempts := 0; expansions := 0;
	LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		events := events + step.events;
		attempts := attempts + step.attempts;
		expansions := expansions + cardinality(step.expansions);
		EXIT WHEN NOT step.more;
	END LOOP;
END
$$;

-- What became of each person's attempts.
CREATE FUNCTION pg_temp.fates(OUT person text, OUT type text, OUT fate text, OUT n bigint) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT r.ref, t.name, x.fate, count(*)
	FROM (SELECT f.recipient, f.type_id, 'in flight' AS fate FROM notif_private.flying_standard f
		  UNION ALL SELECT s.recipient, s.type_id, 'scheduled' FROM notif_private.scheduled_standard s
		  UNION ALL SELECT q.recipient, q.type_id, 'queued' FROM notif_private.queued_standard q
		  UNION ALL SELECT o.recipient, o.type_id, o.state || coalesce(' ' || o.reason, '') FROM notif_private.outcome o) x
	LEFT JOIN notif_private.recipient r ON r.id = x.recipient
	LEFT JOIN notif_private.type t ON t.id = x.type_id
	GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
$$;

CREATE FUNCTION pg_temp.token(n integer) RETURNS text LANGUAGE sql AS $$ SELECT lpad(to_hex(n), 64, '0') $$;

SELECT notif.define_category('limited', max_attempts => 3);
SELECT notif.define_category('free', rate_limited => false);
SELECT notif.define_category('once', on_unknown => 'hold', rate_limited => false);
SELECT notif.define_type('talk', 'limited', title => 'talk');
SELECT notif.define_type('plain', 'free', title => 'plain');
SELECT notif.define_type('money', 'once', title => 'money');
SELECT notif.define_type('off', 'free', title => 'off');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT notif.define_rate_limit('minute', 4, '1 minute', 'defer');
SELECT notif.define_rate_limit('day', 5, '1 day', 'drop');
SELECT id AS lane FROM notif_private.route \gset
SELECT id AS provider FROM notif_private.provider \gset

SELECT count(notif.upsert_recipient(r)) FROM unnest('{three,fresh,drained,doubts,gone,other,nobody}'::text[]) r;
SELECT count(notif.register_device(r, r || d, 'ios', pg_temp.token(100 * n::integer + d)))
FROM unnest('{three,fresh,drained,doubts,gone,other}'::text[], '{3,1,3,4,1,1}'::integer[]) WITH ORDINALITY u(r, devices, n)
CROSS JOIN LATERAL generate_series(1, devices) d;

-- 'drained' has used four of the day's five, in an earlier minute.
SELECT notif.publish('talk', 'drained') IS NOT NULL AS published;
SELECT * FROM pg_temp.route();
SELECT count(*), max(batch) FROM notif_private.worker_claim_standard(:lane, 1000, 1, 1);
SELECT * FROM pg_temp.balance();
SELECT r.ref, s.critical FROM notif_private.rate s JOIN notif_private.recipient r ON r.id = s.recipient_id;
SELECT notif_private.shift_clock(120 * 1000000) > 0 AS later;

-- The batch: two events to everybody, and one for each gate.
SELECT notif.publish('talk', recipients => ARRAY['three', 'fresh', 'drained']) AS talk1 \gset
SELECT notif.publish('talk', recipients => ARRAY['three', 'drained', 'nobody']) AS talk2 \gset
SELECT notif.publish('plain', 'other') AS cancelled \gset
SELECT notif.publish('plain', 'other', expires_in => '1 s') AS expired \gset
SELECT notif.publish('off', 'other') AS off \gset
SELECT notif.publish('plain', 'gone') AS gone \gset
SELECT notif.publish('plain', 'doubts') AS doubts \gset
SELECT notif.publish('money', 'other') AS money \gset
SELECT * FROM pg_temp.route();
SELECT * FROM pg_temp.balance();

SELECT notif.cancel(:'cancelled');
SELECT notif.disable_type('off');
SELECT notif.deactivate_recipient('gone');
UPDATE notif_private.endpoint SET state = 'quarantined', quarantine_mark = 0 WHERE device_id = 'doubts1';
UPDATE notif_private.endpoint SET state = 'invalid' WHERE device_id = 'doubts2';
DELETE FROM notif_private.endpoint WHERE device_id = 'doubts3';
SELECT notif_private.shift_clock(5 * 1000000) > 0 AS later;

-- A claim that loses a row must not commit.  Each of the three ways out is
-- blocked once; every time the same attempts are there again.
CREATE FUNCTION pg_temp.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION pg_temp.claim_swallowing(lane integer, victim regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	child	regclass;
	detail	text;
BEGIN
	FOR child IN SELECT relid FROM pg_partition_tree(victim) WHERE isleaf LOOP
		EXECUTE format('CREATE TRIGGER swallow BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION pg_temp.swallow()', child);
	END LOOP;
	PERFORM notif_private.worker_claim_standard(lane, 1000, 1, 2);
	RAISE EXCEPTION 'it went through';
EXCEPTION WHEN raise_exception THEN
	RETURN SQLERRM;
WHEN SQLSTATE 'XX001' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLERRM || ': ' || detail;
END
$$;
SELECT pg_temp.claim_swallowing(:lane, 'notif_private.outcome');
SELECT pg_temp.claim_swallowing(:lane, 'notif_private.schedule_standard');
SELECT pg_temp.claim_swallowing(:lane, 'notif_private.flight_standard');
SELECT notif_private.assert_conserved(9, 4, 3, 2);
\set VERBOSITY sqlstate
SELECT notif_private.assert_conserved(9, 4, 3, 1);
SELECT notif_private.assert_conserved(9, 4, 3, 3);
SELECT notif_private.assert_conserved(9, 4, NULL, 5);
\set VERBOSITY default
SELECT * FROM pg_temp.balance();

-- The claim: 22 attempts read.
CREATE TEMP TABLE took AS SELECT * FROM notif_private.worker_claim_standard(:lane, 1000, 1, 2);
SELECT max(batch) AS read, count(*) AS to_flight,
	   (SELECT cardinality(attempts) FROM notif_private.flight_standard WHERE flight = 2) AS in_flight_row,
	   (SELECT count(*) FROM notif_private.outcome WHERE terminal AND attempt = 1) AS stopped,
	   (SELECT count(*) FROM notif_private.scheduled_standard) AS refiled
FROM took;
SELECT * FROM pg_temp.fates();
SELECT * FROM pg_temp.balance();
-- the same person's devices each got their own verdict, nobody got two
SELECT count(*) = count(DISTINCT (delivery, attempt)) AS once FROM took;
-- 'fresh' has a rate row now
SELECT r.ref FROM notif_private.rate s JOIN notif_private.recipient r ON r.id = s.recipient_id ORDER BY 1;
-- what is claimed is not read again
SELECT count(*) FROM notif_private.worker_claim_standard(:lane, 1000, 1, 3);
SELECT * FROM pg_temp.balance();

-- Record: one of each verdict.
CREATE FUNCTION pg_temp.record(lane integer, provider integer, flight bigint, verdict text, reason text, person text, type text,
							   retry_after integer DEFAULT 0, gone_at bigint DEFAULT 0, close boolean DEFAULT false)
	RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	a	notif_private.attempt[];
	n	integer;
BEGIN
	SELECT array_agg((f.delivery, f.attempt, f.tries, 1, f.event, f.type_id, f.recipient, f.endpoint, f.expires_at, notif.now(), NULL, NULL, NULL, NULL, NULL)::notif_private.attempt)
	INTO a FROM notif_private.flying_standard f
	JOIN notif_private.recipient r ON r.id = f.recipient JOIN notif_private.type t ON t.id = f.type_id
	WHERE f.flight = record.flight AND r.ref = record.person AND t.name = record.type;
	n := cardinality(a);
	PERFORM notif_private.worker_record_standard(lane, provider, 1, a, array_fill(verdict, ARRAY[n]), array_fill(reason, ARRAY[n]),
		array_fill(0, ARRAY[n]), array_fill(''::text, ARRAY[n]), array_fill(1000, ARRAY[n]), array_fill(retry_after, ARRAY[n]),
		array_fill(gone_at, ARRAY[n]), array_fill(flight, ARRAY[n]), CASE WHEN close THEN ARRAY[flight] ELSE '{}' END);
	RETURN n;
END
$$;
SELECT pg_temp.record(:lane, :provider, 2, 'accepted', '', 'three', 'talk');
SELECT pg_temp.record(:lane, :provider, 2, 'endpoint_suspect', 'BadDeviceToken', 'fresh', 'talk');
SELECT pg_temp.record(:lane, :provider, 2, 'throttled', 'TooManyRequests', 'drained', 'talk', retry_after => 60000);
SELECT pg_temp.record(:lane, :provider, 2, 'unknown', 'reset', 'other', 'money');
SELECT * FROM pg_temp.balance();
SELECT pg_temp.record(:lane, :provider, 2, 'endpoint_gone', 'Unregistered', 'doubts', 'plain', close => true);
SELECT * FROM pg_temp.fates();
SELECT * FROM pg_temp.balance();
SELECT device_id, state, state_reason FROM notif_private.endpoint WHERE state <> 'active' ORDER BY 1;
SELECT count(*) FILTER (WHERE closed) AS closed, count(*) FILTER (WHERE NOT closed) AS opened
FROM notif_private.flight_standard WHERE flight = 2;

-- The first flight's dispatcher is gone: what it left is in doubt.  It and what
-- was deferred or retried comes back, charged where it was charged.
SELECT * FROM notif_private.worker_recover_standard(2);
SELECT * FROM notif_private.worker_recover_standard(2);
SELECT * FROM pg_temp.balance();
SELECT notif_private.shift_clock(200 * 1000000) > 0 AS later;
SELECT count(delivery), max(batch) FROM notif_private.worker_claim_standard(:lane, 1000, 2, 1);
SELECT * FROM pg_temp.fates();
SELECT * FROM pg_temp.balance();

-- No batch is too small, and an attempt number is used once.
SELECT count(*) = count(DISTINCT (delivery, attempt)) AS once FROM notif_private.outcome;
SELECT count(*) FROM (SELECT delivery, attempt FROM notif_private.flying_standard GROUP BY 1, 2 HAVING count(*) > 1) twice;

SELECT notif_private.shift_clock(-325 * 1000000) AS clock;
