-- The inbox.
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all
SET client_min_messages = warning;
SELECT notif.define_category('transactional');
SELECT notif.define_type('order.shipped', 'transactional', title => 'On its way', body => 'Order {order} for {recipient.name}');
SELECT notif.define_type('offer', 'transactional', tier => 'bulk', title => 'Offer {n}', channels => '{inbox}');
SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'file:/etc/notif/apns.p8');
SELECT notif.define_route('push', providers => '{apple}');
SELECT notif.upsert_recipient('ada', attributes => '{"name": "Ada"}'), notif.upsert_recipient('bob', attributes => '{"name": "Bob"}');
-- What the workers do, one step at a time.
CREATE FUNCTION route() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	step	record;
	n		bigint := 0;
BEGIN
	FOR i IN 1 .. 20 LOOP
		SELECT * INTO step FROM notif_private.worker_route_standard(1000);
		n := n + step.attempts;
		EXIT WHEN NOT step.more;
	END LOOP;
	FOR i IN 1 .. 20 LOOP
		SELECT * INTO step FROM notif_private.worker_route_bulk(1000);
		n := n + step.attempts;
		EXIT WHEN NOT step.more;
	END LOOP;
	RETURN n;
END
$$;
SELECT notif.publish('order.shipped', recipients => '{ada,bob}', data => '{"order": 1}') AS first \gset
SELECT notif.publish('offer', recipient => 'ada', data => '{"n": 2}') AS second \gset
SELECT notif.publish('offer', recipient => 'ada', data => '{"n": 3}') AS third \gset
SELECT notif.unread_count('ada') AS before_routing;
SELECT route();
-- newest first, rendered for the reader
SELECT type, title, body, data, created_at <= notif.now() AS created, read_at IS NULL AS unread,
	   CASE event WHEN :'first' THEN 1 WHEN :'second' THEN 2 WHEN :'third' THEN 3 END AS event
FROM notif.inbox('ada');
SELECT title, body FROM notif.inbox('bob');
-- the type's current template
SELECT notif.define_type('offer', 'transactional', tier => 'bulk', title => 'Corrected offer {n}', channels => '{inbox}');
SELECT title FROM notif.inbox('ada', "limit" => 2);
-- pages
SELECT item AS last FROM notif.inbox('ada', 2) OFFSET 1 \gset
SELECT title FROM notif.inbox('ada', 2, before => :'last');
SELECT count(*) FROM notif.inbox('ada', before => (SELECT min(item::text)::uuid FROM notif.inbox('ada')));
-- read marks
SELECT notif.unread_count('ada'), notif.unread_count('bob');
SELECT notif.mark_read('ada', ARRAY[:'last'::uuid, :'last'::uuid]), notif.mark_read('ada', ARRAY[:'last'::uuid]);
SELECT title, read_at IS NOT NULL AS read FROM notif.inbox('ada');
-- not somebody else's, nor what does not exist
SELECT notif.mark_read('bob', ARRAY[:'last'::uuid]), notif.mark_read('ada', '{00000000-0000-7000-8000-000000000000,NULL}'), notif.mark_read('ada', '{}');
SELECT notif.unread_count('ada'), notif.unread_count('bob');
SELECT notif.mark_all_read('ada'), notif.mark_all_read('ada');
SELECT notif.unread_count('ada'), notif.unread_count('bob');
SELECT count(*) FILTER (WHERE read_at IS NULL) AS unread FROM notif.inbox('ada');
-- what is filed later is unread, although it was published before the newest item
INSERT INTO notif_private.inbox
	SELECT notif_private.uuid_at(notif_private.uuid_time(i.id) - interval '1 second'), i.recipient, i.event, i.type_id
	FROM notif_private.inbox i WHERE i.id = :'last';
SELECT notif.unread_count('ada');
SELECT notif.mark_all_read('ada'), notif.unread_count('ada');
-- older ones are covered by one row
CREATE TABLE notif_private.inbox_old (LIKE notif_private.inbox, PRIMARY KEY (recipient, id));
ALTER TABLE notif_private.inbox ATTACH PARTITION notif_private.inbox_old
	FOR VALUES FROM (notif_private.uuid_at('2020-01-01')) TO (notif_private.uuid_at('2020-02-01'));
INSERT INTO notif_private.inbox
	SELECT notif_private.uuid_at(timestamptz '2020-01-10' + make_interval(mins => i)), r.id, :'first', t.id
	FROM generate_series(1, 100) i, notif_private.recipient r, notif_private.type t WHERE r.ref = 'ada' AND t.name = 'order.shipped';
SELECT notif.unread_count('ada');
SELECT notif.mark_all_read('ada'), notif.unread_count('ada');
SELECT count(*) AS marks FROM notif_private.inbox_mark;
SELECT count(*) FILTER (WHERE read_at IS NULL) AS unread, count(*) FROM notif.inbox('ada', 1000);
SELECT notif.mark_read('ada', ARRAY(SELECT item FROM notif.inbox('ada', 1000)));
-- an event that retention has removed leaves an item without text
DELETE FROM notif_private.event WHERE id = :'second';
SELECT type, title, body, data, created_at IS NOT NULL AS dated FROM notif.inbox('ada', 3);
-- a placeholder that has lost its value does not break the page
SELECT notif.define_type('offer', 'transactional', tier => 'bulk', title => 'Offer {price}', channels => '{inbox}');
SELECT type, title FROM notif.inbox('ada', 3);

SELECT try(c) FROM (VALUES
	('SELECT count(*) FROM notif.inbox(''eve'')'),
	('SELECT count(*) FROM notif.inbox(''ada'', 0)'),
	('SELECT count(*) FROM notif.inbox(''ada'', 1001)'),
	('SELECT count(*) FROM notif.inbox(''ada'', NULL)'),
	('SELECT notif.unread_count(''eve'')'),
	('SELECT notif.mark_read(''eve'', ''{}'')'),
	('SELECT notif.mark_read(''ada'', NULL)'),
	('SELECT notif.mark_read(''ada'', array_fill(notif_private.uuid_at(''2020-01-01''), ARRAY[10001]))'),
	('SELECT notif.mark_all_read(NULL)')) v(c);

-- What is published within a millisecond is read in that order, too.
SELECT count(DISTINCT notif_private.uuid_time(id)) < 300 AS together
FROM (SELECT notif.publish('offer', recipient => 'bob', data => jsonb_build_object('n', i)) AS id
	  FROM generate_series(1, 300) i) p;
SELECT route();
SELECT count(*) AS items, count(*) FILTER (WHERE i.event < i.before) AS out_of_order
FROM (SELECT i.event, lag(i.event) OVER (ORDER BY i.id) AS before FROM notif_private.inbox i
	  JOIN notif_private.recipient r ON r.id = i.recipient WHERE r.ref = 'bob') i;
