-- Retention: how long outcomes of either kind, events, inbox items and their marks are
-- kept, and that seven years of outcomes take few partitions.
SET client_min_messages = warning;
SET timezone = 'UTC';

\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/policy.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT * FROM notif.retention ORDER BY what;
SELECT try(c) FROM (VALUES
	('SELECT notif.set_retention(''mail'', ''1 year'')'),
	('SELECT notif.set_retention(NULL, ''1 year'')'),
	('SELECT notif.set_retention(''standard'', ''1 hour'')'),
	('SELECT notif.set_retention(''standard'', ''1 year'')'),
	('SELECT notif.set_retention(''long'', ''20 years'')'),
	('SELECT notif.set_retention(''events'', ''60 days'')'),
	('SELECT notif.set_retention(''inbox'', ''5 years'')')) v(c);
SELECT notif.set_retention('long', '10 years');
SELECT notif.set_retention('inbox', '2 years');
SELECT * FROM notif.retention ORDER BY what;
SELECT notif.set_retention('long', NULL);
SELECT what, is_set FROM notif.retention ORDER BY what;
SELECT notif_private.period_start(t, '6 months') FROM unnest('{2027-01-01 00:00+00,2027-06-30 23:59+00,2027-07-01 00:00+00,2027-12-31 23:59+00}'::timestamptz[]) t;

SELECT notif.define_category('social');
SELECT notif.define_category('payment', retention => 'long');
SELECT notif.define_type('like', 'social', title => 'like');
SELECT notif.define_type('receipt', 'payment', title => 'receipt');
SELECT count(notif.upsert_recipient(r)) FROM unnest('{ada,bob}'::text[]) r;
-- nobody has a device: each gets an inbox item and an outcome
SELECT count(notif.publish(t, recipients => '{ada,bob}')) FROM unnest('{like,receipt}'::text[]) t;
SELECT pg_temp.route();
SELECT notif.mark_read('ada', ARRAY(SELECT i.item FROM notif.inbox('ada') i));
SELECT notif.cancel(e.id) FROM notif_private.event e;
-- of an item that was removed long ago
INSERT INTO notif_private.inbox_mark SELECT notif_private.uuid_at(clock_timestamp() - interval '90 days'), id, now() FROM notif_private.recipient WHERE ref = 'ada';
SELECT retention, count(*) FROM notif_private.outcome GROUP BY 1 ORDER BY 1;
-- What upkeep would do at a time to come, as long as there is anything.
CREATE FUNCTION pg_temp.later(after interval) RETURNS TABLE (parent text, emptied bigint) LANGUAGE plpgsql AS $$
DECLARE
	one	record;
	got	text[] := '{}';
BEGIN
	FOR i IN 1 .. 500 LOOP
		SELECT * INTO one FROM notif_private.expire_partition('30 days', clock_timestamp() + after);
		EXIT WHEN one.child IS NULL;
		EXECUTE format('ALTER TABLE notif_private.%I DETACH PARTITION notif_private.%I', one.parent, one.child);
		EXECUTE format('DROP TABLE notif_private.%I', one.child);
		got := got || one.parent;
	END LOOP;
	RETURN QUERY SELECT g, count(*) FROM unnest(got) g WHERE g NOT LIKE 'schedule%' GROUP BY g ORDER BY g;
END
$$;
CREATE FUNCTION pg_temp.left() RETURNS TABLE (what text, n bigint) LANGUAGE sql AS $$
	SELECT 'event', count(*) FROM notif_private.event UNION ALL SELECT 'inbox', count(*) FROM notif_private.inbox
	UNION ALL SELECT retention, count(*) FROM notif_private.outcome GROUP BY 1
	UNION ALL SELECT 'mark', count(*) FROM notif_private.inbox_mark UNION ALL SELECT 'cancellation', count(*) FROM notif_private.cancellation
$$;
SELECT parent FROM pg_temp.later('29 days') WHERE parent <> 'event';
SELECT notif_private.forget_marks();
SELECT * FROM pg_temp.left();
-- events after 30 days and what a partition is wide; the rest stays
SELECT parent FROM pg_temp.later('32 days') WHERE parent <> 'inbox';
SELECT notif_private.forget_marks();
SELECT * FROM pg_temp.left();
SELECT parent FROM pg_temp.later('88 days');
SELECT * FROM pg_temp.left();
SELECT parent FROM pg_temp.later('99 days');
SELECT * FROM pg_temp.left();
SELECT parent FROM pg_temp.later('2 years 3 months') WHERE parent <> 'outcome_standard';
SELECT notif_private.forget_marks();
SELECT * FROM pg_temp.left();
SELECT parent FROM pg_temp.later('6 years 11 months');
SELECT * FROM pg_temp.left();
SELECT parent FROM pg_temp.later('7 years 8 months');
SELECT * FROM pg_temp.left();
SELECT * FROM notif.audit() WHERE NOT agrees;

-- ---- eight years of upkeep, month by month: never more than 40 under any parent
CREATE FUNCTION pg_temp.age(years integer) RETURNS TABLE (parent text, most bigint) LANGUAGE plpgsql AS $$
DECLARE
	plan	record;
	lower	timestamptz;
BEGIN
	SET LOCAL timezone = 'UTC';
	FOR plan IN SELECT p.* FROM notif_private.range_plan() p WHERE p.parent LIKE 'outcome%' LOOP
		lower := notif_private.period_start(clock_timestamp() - notif_private.keep_for(CASE plan.parent WHEN 'outcome_long' THEN 'long' ELSE 'standard' END, '30 days'), plan.step);
		WHILE lower <= clock_timestamp() + plan.ahead LOOP
			IF to_regclass('notif_private.' || plan.parent || '_' || to_char(lower, 'YYYYMMDD')) IS NULL THEN
				PERFORM notif_private.attach_range(plan.parent, plan.parent || '_' || to_char(lower, 'YYYYMMDD'),
					notif_private.uuid_at(lower)::text, notif_private.uuid_at(lower + plan.step)::text, plan.keys);
			END IF;
			lower := lower + plan.step;
		END LOOP;
	END LOOP;
	RETURN QUERY SELECT p.parent, count(*) FROM notif_private.range_partition p WHERE p.parent LIKE 'outcome%' GROUP BY 1 ORDER BY 1;
END
$$;
SELECT parent, most <= notif_private.partitions_for(CASE parent WHEN 'outcome_long' THEN 'long' ELSE 'standard' END,
													CASE parent WHEN 'outcome_long' THEN interval '7 years' ELSE '90 days' END) AS as_planned,
	   sum(most) OVER () <= 40 AS few
FROM pg_temp.age(7);
