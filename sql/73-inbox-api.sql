-- The inbox as the recipient's application reads it.
--
-- Items are rows of the inbox, in the order of their ids, which carry the time
-- of their events.  An item is read when it has a mark, or when it is not newer
-- than the recipient's "all read up to".

-- The type's current template, not the one at publishing: a corrected text is
-- corrected in every inbox.
CREATE FUNCTION notif.inbox(recipient text, "limit" integer DEFAULT 50, before uuid DEFAULT NULL)
	RETURNS TABLE (item uuid, event uuid, type text, title text, body text, data jsonb,
				   created_at timestamptz, read_at timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		notif_private.recipient;
	up_to	notif_private.inbox_read_up_to;
BEGIN
	SELECT * INTO who FROM notif_private.recipient r WHERE r.id = notif_private.recipient_id(inbox.recipient);
	IF inbox."limit" IS NULL OR inbox."limit" NOT BETWEEN 1 AND 1000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('limit is out of range: %s', coalesce(inbox."limit"::text, 'NULL')),
			DETAIL = 'A page of the inbox has 1 to 1000 items.',
			HINT = 'Read on with before => the last item of the page.';
	END IF;
	SELECT * INTO up_to FROM notif_private.inbox_read_up_to u WHERE u.recipient = who.id;
	RETURN QUERY
	SELECT i.id, i.event, t.name,
		   CASE WHEN e.id IS NOT NULL THEN
			   notif_private.render_text(t.title, e.data, who.ref, who.locale, who.attributes, i.event, t.name) END,
		   CASE WHEN e.id IS NOT NULL THEN
			   notif_private.render_text(t.body, e.data, who.ref, who.locale, who.attributes, i.event, t.name) END,
		   e.data, coalesce(e.created_at, notif_private.uuid_time(i.id)),
		   coalesce(m.read_at, CASE WHEN i.id <= up_to.item THEN up_to.read_at END)
	FROM (SELECT n.id, n.event, n.type_id
		  FROM notif_private.inbox n
		  WHERE n.recipient = who.id
			AND n.id < coalesce(inbox.before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
		  ORDER BY n.id DESC
		  LIMIT inbox."limit") i
	JOIN notif_private.type t ON t.id = i.type_id
	LEFT JOIN LATERAL (SELECT v.id, v.data, v.created_at FROM notif_private.event v WHERE v.id = i.event OFFSET 0) e ON true
	LEFT JOIN notif_private.inbox_mark m ON m.item = i.id
	ORDER BY i.id DESC;
END
$$;
COMMENT ON FUNCTION notif.inbox(text, integer, uuid) IS
$$One page of a recipient's inbox, newest first, rendered with the types' current templates.
limit: 1 to 1000 items. before: only items older than this one, for the next page.
title and body are NULL where the event has been removed by retention, or where a placeholder has no value. read_at is NULL for unread items.
Errors: 42704 unknown recipient, 22023 bad limit.
Example: SELECT item, title, body FROM notif.inbox('customer-17', "limit" => 20);$$;

-- Volatile, so that a statement which marks and counts counts what it marked.
CREATE FUNCTION notif.unread_count(recipient text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who bigint := notif_private.recipient_id(unread_count.recipient);
BEGIN
	RETURN (SELECT count(*) FROM notif_private.inbox i
			WHERE i.recipient = who
			  AND i.id > coalesce((SELECT u.item FROM notif_private.inbox_read_up_to u WHERE u.recipient = who),
								  '00000000-0000-0000-0000-000000000000')
			  AND NOT EXISTS (SELECT FROM notif_private.inbox_mark m WHERE m.item = i.id));
END
$$;
COMMENT ON FUNCTION notif.unread_count(text) IS
$$How many items of a recipient's inbox are unread.
Errors: 42704 unknown recipient.
Example: SELECT notif.unread_count('customer-17');$$;

CREATE FUNCTION notif.mark_read(recipient text, items uuid[]) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who	bigint := notif_private.recipient_id(mark_read.recipient);
	n	integer;
BEGIN
	IF mark_read.items IS NULL OR cardinality(mark_read.items) > 10000 THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN mark_read.items IS NULL THEN '22023' ELSE '54000' END,
			MESSAGE = CASE WHEN mark_read.items IS NULL THEN 'items must not be NULL' ELSE 'too many items' END,
			DETAIL = 'A call marks up to 10000 items of one inbox.',
			HINT = 'Use notif.mark_all_read to mark the whole inbox.';
	END IF;
	-- Only the recipient's own items, in one order for all, so that two calls
	-- for the same items cannot deadlock.
	INSERT INTO notif_private.inbox_mark AS m (item, recipient, read_at)
	SELECT i.id, who, notif.now()
	FROM notif_private.inbox i
	WHERE i.recipient = who AND i.id = ANY (mark_read.items)
	  AND i.id > coalesce((SELECT u.item FROM notif_private.inbox_read_up_to u WHERE u.recipient = who),
						  '00000000-0000-0000-0000-000000000000')
	ORDER BY i.id
	ON CONFLICT ON CONSTRAINT inbox_mark_pkey DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.mark_read(text, uuid[]) IS
$$Marks items of a recipient's inbox as read and returns how many had been unread. Items of others and unknown ones are passed over.
items: up to 10000.
Errors: 42704 unknown recipient, 22023 NULL, 54000 too many items.
Example: SELECT notif.mark_read('customer-17', ARRAY(SELECT item FROM notif.inbox('customer-17')));$$;

-- An event of an hour ago may still be on its way into the inbox (a large topic,
-- a paused tier) and will be filed at its own time.  A bound at the newest item
-- would mark it read before anybody saw it.  So the bound stays a day behind, and
-- what is younger gets marks of its own.
CREATE FUNCTION notif.mark_all_read(recipient text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(mark_all_read.recipient);
	settled	constant uuid := notif_private.uuid_at(clock_timestamp() - interval '1 day');
	old		uuid;
	bound	uuid;
	n		bigint;
	m		bigint;
BEGIN
	SELECT u.item INTO old FROM notif_private.inbox_read_up_to u WHERE u.recipient = who FOR UPDATE;
	old := coalesce(old, '00000000-0000-0000-0000-000000000000');
	SELECT count(*), (SELECT i.id FROM notif_private.inbox i
					  WHERE i.recipient = who AND i.id > old AND i.id < settled ORDER BY i.id DESC LIMIT 1)
	INTO n, bound
	FROM notif_private.inbox i
	WHERE i.recipient = who AND i.id > old AND i.id < settled
	  AND NOT EXISTS (SELECT FROM notif_private.inbox_mark k WHERE k.item = i.id);
	IF n > 0 THEN
		INSERT INTO notif_private.inbox_read_up_to AS u (recipient, item, read_at) VALUES (who, bound, notif.now())
		ON CONFLICT ON CONSTRAINT inbox_read_up_to_pkey DO UPDATE
			SET item = greatest(u.item, EXCLUDED.item), read_at = EXCLUDED.read_at;
	END IF;
	INSERT INTO notif_private.inbox_mark AS k (item, recipient, read_at)
	SELECT i.id, who, notif.now() FROM notif_private.inbox i
	WHERE i.recipient = who AND i.id >= settled
	ORDER BY i.id
	ON CONFLICT ON CONSTRAINT inbox_mark_pkey DO NOTHING;
	GET DIAGNOSTICS m = ROW_COUNT;
	RETURN n + m;
END
$$;
COMMENT ON FUNCTION notif.mark_all_read(text) IS
$$Marks all of a recipient's inbox as read and returns how many items had been unread. What arrives later is unread, also if it was published before.
Errors: 42704 unknown recipient.
Example: SELECT notif.mark_all_read('customer-17');$$;
