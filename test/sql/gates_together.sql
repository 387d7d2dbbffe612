-- Gates that meet: a limit that folds and the digest it folds into, what repeats and is
-- told as a digest's one item, events for later with conditions, duplicates and cancels.
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE FUNCTION pg_temp.at(t timestamptz) RETURNS void LANGUAGE sql AS $$
	SELECT notif_private.shift_clock((extract(epoch FROM t - notif.now()) * 1000000)::bigint)
$$;
-- What the router does until it has nothing to do; returns how many digests it told.
CREATE PROCEDURE pg_temp.work(INOUT told integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	key		uuid;
	again	boolean := true;
BEGIN
	told := 0;
	WHILE again LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(2000);
		again := step.more;
		COMMIT;
		-- the rest of a large transaction
		FOR key IN SELECT k FROM notif_private.worker_expansions_standard() k LOOP
			PERFORM notif_private.worker_expand_standard(key, 2000);
			again := true;
			COMMIT;
		END LOOP;
		SELECT * INTO step FROM notif_private.worker_digest_standard('-infinity');
		told := told + step.closed;
		again := again OR step.closed > 0 OR step.more;
		COMMIT;
		SELECT * INTO step FROM notif_private.worker_release_standard(500);
		again := again OR step.released > 0 OR step.more;
		COMMIT;
	END LOOP;
END
$$;
CREATE SEQUENCE flights;
-- Titles of what a claim sends.
CREATE FUNCTION pg_temp.claim() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(c.ref || ': ' || notif_private.render_text(coalesce(CASE WHEN e.digest THEN d.title END, t.title), e.data, c.ref, NULL, '{}', e.id, t.name), ', '
					  ORDER BY c.ref, c.ord)
	FROM notif_private.worker_claim_standard((SELECT id FROM notif_private.route), 1000, 1, nextval('flights')) c
	JOIN notif_private.event e ON e.id = c.event JOIN notif_private.type t ON t.id = e.type_id
	LEFT JOIN notif_private.type_digest d ON d.type_id = t.id
$$;
CREATE VIEW fates AS
	SELECT e.data ->> 'n' AS n, r.ref, string_agg(o.state || coalesce(':' || o.reason, ''), ', ' ORDER BY o.attempt) AS fate
	FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event LEFT JOIN notif_private.recipient r ON r.id = o.recipient
	GROUP BY e.data ->> 'n', r.ref ORDER BY (e.data ->> 'n')::integer, r.ref;

SELECT notif.define_category('social', retry_base => '1 hour', retry_cap => '1 hour');
SELECT notif.define_type('like', 'social', title => 'Like {n}', ordered => false);
SELECT notif.define_type('chat', 'social', title => 'Chat {n}', ordered => false, dedup_window => '10 min');
SELECT notif.define_digest('chat', wait => '2 min', max_delay => '5 min', key => 'source', title => '{count} of {key}', body => '{items.0.n}');
SELECT notif.define_type('social.digest', 'social', title => '{count} in {key}', ordered => false);
SELECT notif.define_frequencies('social', type => 'social.digest');
SELECT notif.define_rate_limit('likes', 2, '1 day', action => 'fold', type => 'like');
SELECT notif.set_secret('key', 'not used: nothing is sent here');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "TEAM123456", "key_id": "KEY1234567", "topic": "com.example.shop"}',
							 key => 'secret:key');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
SELECT count(notif.upsert_recipient(r, tz => 'UTC')) FROM unnest('{ada,bob}'::text[]) r;
SELECT count(notif.register_device(r, 'd', 'ios', lpad(to_hex(n), 64, '0'))) FROM unnest('{ada,bob}'::text[]) WITH ORDINALITY u(r, n);
SELECT pg_temp.at('2027-01-13 12:10+00');

-- ---- what a limit folds is told in the hour's digest -----------------------------------

SELECT count(notif.publish('like', 'ada', jsonb_build_object('n', n))) FROM generate_series(1, 5) n;
CALL pg_temp.work();
SELECT pg_temp.claim();
SELECT * FROM fates;
CALL pg_temp.work();
SELECT recipient, kind, key, count, date_trunc('minute', due_at) AS due FROM notif.digests;
-- a cancelled one is not in it
SELECT e.id AS third FROM notif_private.event e WHERE e.data ->> 'n' = '4' \gset
SELECT notif.cancel(:'third');
SELECT pg_temp.at('2027-01-13 13:01+00');
CALL pg_temp.work();
SELECT pg_temp.claim();
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;

-- ---- a digest of one item is no duplicate of it ------------------------------------------

SELECT notif.publish('chat', 'bob', '{"n": 11}', source => 'cyd') IS NOT NULL AS told;
SELECT notif.publish('chat', 'bob', '{"n": 12}', source => 'cyd') IS NOT NULL AS repeated;
CALL pg_temp.work();
SELECT * FROM fates WHERE n::integer > 10;
SELECT pg_temp.at('2027-01-13 13:05+00');
CALL pg_temp.work();
SELECT pg_temp.claim();

-- ---- for later: what was cancelled is no duplicate, and a condition comes along ------------

SELECT notif.publish('chat', 'bob', '{"n": 21}', source => 'dan', deliver_at => notif.now() + interval '1 hour') AS later \gset
SELECT notif.publish('chat', 'ada', '{"n": 22}', source => 'dan', deliver_at => notif.now() + interval '1 hour') IS NOT NULL AS told;
SELECT notif.publish('like', 'bob', '{"n": 23}', deliver_at => notif.now() + interval '1 hour', send_if => 'notification.recipient = ''ada''') IS NOT NULL AS told;
CALL pg_temp.work();
SELECT state, n FROM notif.state WHERE tier = 'standard' AND state = 'scheduled';
SELECT pg_temp.at('2027-01-13 14:06+00');
CALL pg_temp.work();
-- gathered now; the one for bob is cancelled by the id that publish gave
SELECT recipient, count FROM notif.digests ORDER BY 1;
SELECT notif.cancel(:'later');
SELECT notif.publish('chat', 'bob', '{"n": 24}', source => 'dan') IS NOT NULL AS told;
CALL pg_temp.work();
SELECT pg_temp.claim();
SELECT * FROM fates WHERE n::integer > 20;
SELECT pg_temp.at('2027-01-13 14:20+00');
CALL pg_temp.work();
SELECT pg_temp.claim();
SELECT e.send_if, e.published_by = SESSION_USER AS mine, e.parent IS NOT NULL AS released FROM notif_private.event e WHERE e.data ->> 'n' = '23' ORDER BY e.id;
SELECT tier, state, tallied, recounted FROM notif.audit() WHERE NOT agrees;
SELECT notif_private.shift_clock(-notif_private.clock_offset());
