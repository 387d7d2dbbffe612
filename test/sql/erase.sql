-- Erasure: whatever table there is, nothing of the person is in it any more once it is
-- complete, the verdicts still count, and what is under way ends well.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/policy.sql'
\set ECHO none
\i :helpers
\set ECHO all

ALTER SEQUENCE flights RESTART 10;
SELECT notif.define_category('social');
SELECT notif.define_category('marketing', requires_consent => '{push}', retention => 'long');
SELECT notif.define_type('like', 'social', title => 'like {what}', ordered => false);
SELECT notif.define_type('offer', 'marketing', title => 'offer', ordered => false);
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
-- numbers that are found where they are, and nowhere by chance
ALTER TABLE notif_private.recipient ALTER id RESTART 918273645;
ALTER TABLE notif_private.endpoint ALTER id RESTART 827364591;
SELECT notif.upsert_recipient('ada-person', locale => 'en', tz => 'Europe/London', country => 'GB', attributes => '{"name": "mark-ada"}') IS NOT NULL;
SELECT notif.upsert_recipient('bob') IS NOT NULL, notif.upsert_recipient('cyd') IS NOT NULL;
SELECT notif.register_device('ada-person', 'mark-ada-phone', 'ios', repeat('ada1', 16)) IS NOT NULL,
	   notif.register_device('ada-person', 'mark-ada-tablet', 'ipados', repeat('ada2', 16)) IS NOT NULL,
	   notif.register_device('bob', 'phone', 'ios', repeat('b0b1', 16)) IS NOT NULL,
	   notif.register_device('cyd', 'phone', 'ios', repeat('c1d1', 16)) IS NOT NULL;
SELECT notif.create_topic('news');
SELECT notif.subscribe(r, 'news') FROM unnest('{ada-person,bob}'::text[]) r;
SELECT notif.define_rate_limit('hour', 100, '1 hour', 'defer');

-- Where any of the marks is found, by the catalog: every column of every table.
CREATE FUNCTION pg_temp.found(marks text[]) RETURNS TABLE (rel text, col text) LANGUAGE plpgsql AS $$
DECLARE
	c	record;
	hit	boolean;
BEGIN
	FOR c IN SELECT t.relname, a.attname FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
			  WHERE t.relnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND t.relkind IN ('r', 'm', 'S') ORDER BY 1, 2 LOOP
		EXECUTE format('SELECT EXISTS (SELECT FROM notif_private.%I t WHERE to_jsonb(t.%I)::text LIKE ANY ($1))', c.relname, c.attname)
			INTO hit USING ARRAY(SELECT '%' || m || '%' FROM unnest(marks) m);
		IF hit THEN
			-- partitions by their parent's name
			rel := regexp_replace(c.relname, '_([0-9]{8}|[0-9])$', ''); col := c.attname;
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
CREATE TABLE marks AS
	SELECT ARRAY['ada-person', 'mark-ada', repeat('ada1', 16), repeat('ada2', 16), r.id::text, (SELECT min(e.id)::text FROM notif_private.endpoint e WHERE e.recipient_id = r.id),
				 (SELECT max(e.id)::text FROM notif_private.endpoint e WHERE e.recipient_id = r.id)] AS m
	FROM notif_private.recipient r WHERE r.ref = 'ada-person';

-- ---- something in every table
SELECT notif.set_preference('ada-person', 'push', 'social', true);
SELECT notif.mute('ada-person', source => 'mark-ada-source');
SELECT notif.set_quiet_hours('ada-person', '03:00', '03:01', days => '{mon}');
SELECT notif.record_consent('ada-person', 'push', 'marketing', true, source => 'web', ip => '192.0.2.7', proof => '{"name": "mark-ada"}') > 0;
SELECT notif.suppress(repeat('ada2', 16), 'push', 'legal');
SELECT notif_private.settle_suppressions();
SELECT notif_private.settle_suppressions();
-- alone and with others, sent and answered
SELECT notif.publish('like', 'ada-person', '{"what": "1 mark-ada"}', idempotency_key => 'key-mark-ada', correlation_id => 'mark-ada-1',
					 collapse_key => 'mark-ada-c', source => 'mark-ada-s', thread => 'mark-ada-t') IS NOT NULL;
SELECT notif.publish('like', recipients => '{ada-person,bob,cyd}', data => '{"what": "2 all"}', idempotency_key => 'key-all', correlation_id => 'all-2') IS NOT NULL;
SELECT notif.publish('offer', recipients => '{ada-person,bob}', data => '{"what": "3 offer"}') IS NOT NULL;
SELECT notif.publish('like', topic => 'news', data => '{"what": "4 topic"}') IS NOT NULL;
SELECT pg_temp.route();
SELECT e.attempts FROM notif_private.worker_expansions_standard() x CROSS JOIN LATERAL notif_private.worker_expand_standard(x, 100) e;
SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, 1) c;
-- What the provider says to attempts of a flight, all that have no verdict yet or those of an event.
CREATE FUNCTION pg_temp.record(its bigint, verdict text, what text DEFAULT '%') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	a	notif_private.attempt[];
	n	integer;
BEGIN
	SELECT array_agg(x.x) INTO a FROM (
		SELECT x FROM notif_private.flight_standard f CROSS JOIN LATERAL unnest(f.attempts) x JOIN notif_private.event e ON e.id = x.event
		 WHERE f.flight = its AND NOT f.closed AND e.data ->> 'what' LIKE what
		   AND NOT EXISTS (SELECT FROM notif_private.outcome o WHERE o.delivery = x.delivery AND o.attempt = x.attempt)) x;
	n := cardinality(a);
	PERFORM notif_private.worker_record_standard((SELECT id FROM notif_private.route), 1, 1, a, array_fill(verdict, ARRAY[n]),
		array_fill(''::text, ARRAY[n]), array_fill(200, ARRAY[n]), ARRAY(SELECT 'ref-' || x.recipient FROM unnest(a) x), array_fill(1000, ARRAY[n]),
		-- not before a minute is over
		array_fill(30000, ARRAY[n]), array_fill(0::bigint, ARRAY[n]), array_fill(its, ARRAY[n]),
		CASE WHEN what = '%' THEN ARRAY[its] ELSE '{}' END);
	RETURN n;
END
$$;
-- one of his is tried again later, what is left of the flight was accepted
SELECT pg_temp.record(1, 'retry', '1%');
SELECT pg_temp.record(1, 'accepted');
SELECT notif.mark_read('ada-person', ARRAY(SELECT i.item FROM notif.inbox('ada-person') i LIMIT 1));
INSERT INTO notif_private.inbox_read_up_to SELECT id, notif_private.uuid_at(now() - interval '2 days'), now() FROM notif_private.recipient WHERE ref = 'ada-person';
INSERT INTO notif_private.blocked_standard (endpoint, lane, until, ord) SELECT min(id), 1, now(), 1 FROM notif_private.endpoint WHERE device_id LIKE 'mark-ada%';
-- a digest that is open and one that was told, a change of zone, what must not repeat, and something for later
SELECT notif.define_type('chat', 'social', title => 'chat {what}', ordered => false, dedup_window => '1 hour');
SELECT notif.define_digest('chat', wait => '7 days', max_delay => '7 days', key => 'thread', title => '{count}', body => '{items.0.what}');
SELECT notif.set_digest_time('ada-person', '09:00');
SELECT notif.upsert_recipient('ada-person', tz => 'Europe/Dublin') IS NOT NULL;
SELECT notif.publish('chat', 'ada-person', '{"what": "chat mark-ada"}', source => 'mark-ada-s', thread => 'mark-ada-t') IS NOT NULL;
SELECT pg_temp.route();
INSERT INTO notif_private.digest_done SELECT notif_private.new_event_id(), d.tier, d.recipient, d.kind, d.scope, d.key, d.opened_at, now(), 1, 1, NULL, NULL
FROM notif_private.digest d;
SELECT notif.publish('like', 'ada-person', '{"what": "9 mark-ada"}', correlation_id => 'mark-ada-9', deliver_at => now() + interval '20 days',
					 send_if => 'notification.recipient = ''mark-ada''') IS NOT NULL;
SELECT notif.publish('like', recipients => '{ada-person,bob}', data => '{"what": "9 later"}', deliver_at => now() + interval '20 days') IS NOT NULL;
SELECT pg_temp.route();
-- in flight, queued, and published and not routed
SELECT notif.publish('like', recipients => '{ada-person,bob}', data => '{"what": "5 flying"}') IS NOT NULL;
SELECT pg_temp.route();
SELECT count(c.delivery) FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, 2) c;
SELECT notif.publish('like', recipients => '{ada-person,bob}', data => '{"what": "6 queued"}') IS NOT NULL;
SELECT pg_temp.route();
SELECT notif.publish('like', recipients => '{ada-person,bob}', data => '{"what": "7 unrouted"}') IS NOT NULL;
SELECT notif.publish('like', 'ada-person', '{"what": "8 mark-ada"}') IS NOT NULL;
-- and a limit has something to be given back
INSERT INTO notif_private.rate_return (recipient_id, critical, mask, charged_at)
SELECT id, false, 1, notif.now() FROM notif_private.recipient WHERE ref = 'ada-person';
SELECT DISTINCT f.rel, f.col FROM marks, pg_temp.found(m) f ORDER BY 1, 2;
SELECT pg_temp.all_agree();
SELECT * FROM notif.audit() WHERE NOT agrees;
-- every table by recipient has something of him, or this test would prove nothing of it
CREATE FUNCTION pg_temp.untested() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	t	record;
	n	bigint;
BEGIN
	FOR t IN SELECT * FROM notif_private.personal_tables() LOOP
		EXECUTE format('SELECT count(*) FROM notif_private.%I WHERE %I = (SELECT id FROM notif_private.recipient WHERE ref = ''ada-person'')', t.rel, t.col) INTO n;
		IF n = 0 THEN RETURN NEXT t.rel; END IF;
	END LOOP;
END
$$;
SELECT * FROM pg_temp.untested();

-- ---- what is kept about him
CREATE TABLE exported AS SELECT notif.export_recipient('ada-person') AS e;
SELECT jsonb_object_keys(e) AS part FROM exported ORDER BY 1;
SELECT e -> 'recipient' ->> 'ref' AS ref, jsonb_array_length(e -> 'endpoints') AS endpoints, jsonb_array_length(e -> 'consent') AS consent,
	   jsonb_array_length(e -> 'events') AS events, jsonb_array_length(e -> 'deliveries') AS deliveries, jsonb_array_length(e -> 'waiting') AS waiting,
	   jsonb_path_query_array(e, '$.rows.keyvalue() ? (@.value.size() > 0).key') AS tables
FROM exported;
SELECT jsonb_path_query_array(e, '$.events[*].data.what') AS events, e #> '{consent,0,proof}' AS proof, e #> '{endpoints,1,suppression,0,reason}' AS listed FROM exported;
-- whatever is marked as his is in it
SELECT count(*) FROM exported, unnest(ARRAY['mark-ada-source', 'mark-ada-s"', 'mark-ada-t"', 'mark-ada-1', 'mark-ada-phone', 'ref-918273645', '192.0.2.7']) x WHERE strpos(e::text, x) = 0;
SELECT try('SELECT notif.export_recipient(''nobody'')');

-- ---- erased
SELECT try(c) FROM (VALUES ('SELECT notif.erase_recipient(''nobody'')'), ('SELECT notif.erase_recipient(NULL)'),
	('SELECT notif.erase_recipient(''bob'', repeat(''x'', 1001))')) v(c);
CREATE TABLE before AS SELECT * FROM notif.state;
SELECT notif.erase_recipient('ada-person', why => 'ticket 4711') > 0;
SELECT try('SELECT notif.erase_recipient(''ada-person'')');
SELECT try('SELECT notif.export_recipient(''ada-person'')');
SELECT state, runs, completed_at, why, requested_by = session_user AS by_me, counts FROM notif.erasures;
-- the same word is free for somebody else, who is not he
SELECT notif.upsert_recipient('ada-person') IS NOT NULL;
SELECT count(*) FROM notif.inbox('ada-person');
DELETE FROM notif_private.recipient WHERE ref = 'ada-person';
-- what is queued or scheduled is stopped
SELECT notif_private.shift_clock(60000000) > 0;
SELECT pg_temp.route();
SELECT pg_temp.claim();
-- open flights keep it open
SELECT 'DO $$BEGIN PERFORM notif_private.erase_some(''10 s''); END$$' FROM generate_series(1, 5) \gexec
SELECT state, runs, completed_at FROM notif.erasures;
SELECT count(*) FROM notif_private.flight_standard f, unnest(f.attempts) a, marks WHERE a.recipient::text = m[5];
SELECT pg_temp.record(2, 'retry');
SELECT pg_temp.record(10, 'accepted');
SELECT 'DO $$BEGIN PERFORM notif_private.erase_some(''10 s''); END$$' FROM generate_series(1, 5) \gexec
SELECT state, completed_at IS NOT NULL AS at, counts FROM notif.erasures;
-- nothing of him is left anywhere
SELECT DISTINCT f.rel, f.col FROM marks, pg_temp.found(m) f ORDER BY 1, 2;
-- the retries that were filed in his name end here
SELECT notif_private.shift_clock(60000000) > 0;
SELECT pg_temp.claim();
SELECT o.state, o.reason, o.recipient, o.endpoint, count(*) FROM notif_private.outcome o
WHERE o.recipient IS NULL OR o.recipient <= 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT e.data, e.source, e.thread, e.correlation_id, cardinality(e.recipients), (SELECT count(*) FROM unnest(e.recipients) r WHERE r < 0) AS nobody
FROM notif_private.event e ORDER BY e.id;
-- others get what is theirs
SELECT title FROM notif.inbox('bob') ORDER BY item;
SELECT count(*) FROM notif.deliveries WHERE recipient = 'bob';
-- the verdicts still count
SELECT * FROM notif.audit() WHERE NOT agrees;
SELECT b.tier, b.state FROM before b JOIN notif.state s USING (tier, state) WHERE s.n < b.n AND b.state NOT IN ('open', 'in_flight');
SELECT pg_temp.record(11, 'accepted');
SELECT did FROM notif_private.worker_upkeep('30 days', 14);
SELECT count(*), bool_and(completed_at IS NOT NULL) FROM notif.find_erasures('ada-person');
SELECT count(*) FROM notif.find_erasures('bob');
SELECT try('SELECT notif.publish(''like'', ''ada-person'')');

-- ---- two at a time
SELECT notif.erase_recipient(r) > 0 FROM unnest('{bob,cyd}'::text[]) r;
SELECT notif_private.erase_some('0', 8192);
SELECT state, count(*) FROM notif.erasures GROUP BY 1 ORDER BY 1;
-- in small parts
SELECT 'DO $$BEGIN PERFORM notif_private.erase_some(''0'', 8192); END$$' FROM generate_series(1, 20) \gexec
SELECT state, count(*) FROM notif.erasures GROUP BY 1 ORDER BY 1;
SELECT 'DO $$BEGIN PERFORM notif_private.erase_some(''10 s''); END$$' FROM generate_series(1, 5) \gexec
SELECT state, count(*) FROM notif.erasures GROUP BY 1;
SELECT count(*) FROM notif_private.recipient;
SELECT data FROM notif_private.event WHERE data <> '{}';
SELECT * FROM notif.audit() WHERE NOT agrees;
