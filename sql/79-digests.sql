-- What batches, for whom and when: definitions, people's times, and what waits.

-- What a digest's templates may read.
CREATE FUNCTION notif_private.check_digest_names(what text, names text[], items integer) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	other	text;
BEGIN
	SELECT n INTO other FROM unnest(names) n
	 WHERE n NOT IN ('count', 'key', 'more') AND n !~ '^(recipient|notif)\.'
	   AND NOT (n ~ '^items\.[0-9]{1,2}\.' AND split_part(n, '.', 2)::integer < items) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('placeholder {%s} has no value in a digest', other),
			DETAIL = format('%s uses it.', what),
			HINT = format('There are {count}, {key}, {more}, and of each item, from {items.0.x} to {items.%s.x}, its data and {items.0.notif.title}, .body, .type and .event.', items - 1);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_digest_names(text, text[], integer) IS
	'Raises 22023 if one of a message''s placeholders is none of a digest''s. what: the message, for the error.';

-- A type that can be gathered or tell digests; its row is the caller's.
CREATE FUNCTION notif_private.digest_type(name text) RETURNS notif_private.type
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		notif_private.type;
BEGIN
	SELECT * INTO its FROM notif_private.type t WHERE t.name = digest_type.name FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('type %s does not exist', coalesce(quote_literal(left(digest_type.name, 110)), 'NULL')),
			DETAIL = 'No type of that name is defined.',
			HINT = 'Create it with notif.define_type; notif.types lists those that exist.';
	END IF;
	IF its.tier = 0 OR NOT 'push' = ANY (its.channels)
	   OR EXISTS (SELECT FROM notif_private.category c WHERE c.name = its.category AND c.mandatory) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L cannot have digests', its.name),
			DETAIL = CASE WHEN its.tier = 0 THEN 'It is critical: what is in this tier does not wait.'
						  WHEN NOT 'push' = ANY (its.channels) THEN 'It has no channel push.'
						  ELSE format('Its category %L is mandatory.', its.category) END,
			HINT = 'Use a type with channel push, of tier standard or bulk, whose category people can switch off.';
	END IF;
	RETURN its;
END
$$;
COMMENT ON FUNCTION notif_private.digest_type(text) IS
	'The type of that name, locked. 42704 if there is none, 22023 if it is critical, mandatory or not pushed.';

CREATE FUNCTION notif.define_digest(
	type text, wait interval, max_delay interval DEFAULT NULL, key text DEFAULT 'thread', title text DEFAULT '',
	body text DEFAULT '', items integer DEFAULT 5, push jsonb DEFAULT NULL, single boolean DEFAULT false)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		notif_private.type := notif_private.digest_type(define_digest.type);
	longest	interval := coalesce(define_digest.max_delay, 6 * define_digest.wait);
BEGIN
	IF EXISTS (SELECT FROM notif_private.category c WHERE c.digest_type = its.id) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L tells the digests of a category', its.name),
			DETAIL = 'A digest is never gathered itself.',
			HINT = 'Define a type of its own for them, see notif.define_frequencies.';
	END IF;
	IF define_digest.wait IS NULL OR define_digest.wait < interval '1 second' OR longest < define_digest.wait OR longest > interval '7 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('wait %s and max_delay %s do not make a window', coalesce(define_digest.wait::text, 'NULL'), coalesce(longest::text, 'NULL')),
			DETAIL = 'A digest is told once nothing has come for wait, at the latest max_delay after its first item.',
			HINT = 'Use 1 second <= wait <= max_delay <= 7 days.';
	END IF;
	IF define_digest.key IS NULL OR define_digest.key NOT IN ('thread', 'source', 'type', 'category') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid key of a digest: %s', coalesce(quote_literal(left(define_digest.key, 80)), 'NULL')),
			DETAIL = 'The key says what goes into one digest.',
			HINT = 'Use ''thread'' or ''source'' (as given to notif.publish), ''type'' or ''category''.';
	END IF;
	IF define_digest.items IS NULL OR define_digest.items NOT BETWEEN 1 AND 20 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('items is out of range: %s', coalesce(define_digest.items::text, 'NULL')),
			DETAIL = 'So many items can be read by the templates; all are counted.',
			HINT = 'Use a number from 1 to 20.';
	END IF;
	IF define_digest.title IS NULL OR define_digest.body IS NULL OR (define_digest.title = '' AND define_digest.body = '')
	   OR define_digest.single IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('the digest of type %L has no text', its.name),
			DETAIL = 'title or body must say something, and single must not be NULL.',
			HINT = 'For example title => ''{count} new messages'', body => ''in {key}''.';
	END IF;
	IF jsonb_typeof(define_digest.push) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('push is not a JSON object: %s', jsonb_typeof(define_digest.push)),
			DETAIL = format('It holds the push options of the digest of type %L.', its.name),
			HINT = 'Leave it out to use those of the type.';
	END IF;
	PERFORM notif_private.check_digest_names(format('The digest of type %L', its.name),
		notif_private.check_type('apns', define_digest.title, define_digest.body,
								 notif_private.digest_push(coalesce(define_digest.push, its.push))), define_digest.items);
	INSERT INTO notif_private.type_digest AS d (type_id, key, wait, max_delay, title, body, push, items, single, changed_at)
	VALUES (its.id, define_digest.key, define_digest.wait, longest, define_digest.title, define_digest.body,
			define_digest.push, define_digest.items, define_digest.single, notif.now())
	ON CONFLICT ON CONSTRAINT type_digest_pkey DO UPDATE
		SET key = EXCLUDED.key, wait = EXCLUDED.wait, max_delay = EXCLUDED.max_delay, title = EXCLUDED.title,
			body = EXCLUDED.body, push = EXCLUDED.push, items = EXCLUDED.items, single = EXCLUDED.single,
			changed_at = EXCLUDED.changed_at;
	UPDATE notif_private.type t SET batches = true WHERE t.id = its.id;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_digest(text, interval, interval, text, text, text, integer, jsonb, boolean) IS
$$Lets a type batch: what is published of it is gathered per recipient and key, and pushed as one. Inbox items are filed at once. Redefines an earlier definition.
wait: told once nothing more has come for so long; max_delay: but at the latest so long after the first item, default 6 times wait, at most 7 days. key: 'thread', 'source' (each as given to notif.publish; what has none is gathered by type), 'type' or 'category'.
title, body: templates of the digest; {count} is the number of items, {key} what they have in common, {items.0.x} reads the data of the first and so on, {items.0.notif.title}, .body, .type and .event the first as it would have been told, {more} the number of those that cannot be read; {recipient.x} and {notif.type} are as ever. items: how many can be read, 1 to 20; all are counted.
push: options of the push message, NULL: the type's; without data among them the app gets count and key.
single: whether one item alone is told as a digest; otherwise it is told as itself. A digest that cannot be rendered, for want of a value or because it is too large, is told as its last item.
Errors: 42704 unknown type, 22023 bad value or template, or a type that is critical, mandatory or not pushed.
Example: SELECT notif.define_digest('chat.message', wait => '2 min', max_delay => '15 min', key => 'thread', title => '{count} new messages in {key}', body => '{items.0.from}: {items.0.text}');$$;

CREATE FUNCTION notif.drop_digest(type text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM notif_private.type_digest d USING notif_private.type t WHERE t.name = drop_digest.type AND d.type_id = t.id;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('type %s has no digest', coalesce(quote_literal(left(drop_digest.type, 110)), 'NULL')),
			DETAIL = 'notif.define_digest was not called for it, or it does not exist.',
			HINT = 'notif.digest_types lists them.';
	END IF;
	UPDATE notif_private.type t SET batches = false WHERE t.name = drop_digest.type;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_digest(text) IS
$$Lets a type go out at once again. What has been gathered of it is told when it would have been, by its last item.
Errors: 42704 the type has no digest.
Example: SELECT notif.drop_digest('chat.message');$$;

CREATE FUNCTION notif.define_frequencies(category text, type text, items integer DEFAULT 5) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		notif_private.type := notif_private.digest_type(define_frequencies.type);
BEGIN
	IF its.category IS DISTINCT FROM define_frequencies.category THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L is not of category %s', its.name, coalesce(quote_literal(left(define_frequencies.category, 80)), 'NULL')),
			DETAIL = format('Its category is %L.', its.category),
			HINT = 'Name a type of the category: whoever switches that off gets no digests of it either.';
	END IF;
	IF its.batches THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L is gathered itself', its.name),
			DETAIL = 'A digest is never gathered itself.',
			HINT = 'Define a type of its own for the digests of the category.';
	END IF;
	IF define_frequencies.items IS NULL OR define_frequencies.items NOT BETWEEN 1 AND 20 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('items is out of range: %s', coalesce(define_frequencies.items::text, 'NULL')),
			DETAIL = 'So many items can be read by the templates; all are counted.',
			HINT = 'Use a number from 1 to 20.';
	END IF;
	PERFORM notif_private.check_digest_names(format('Type %L', its.name),
		notif_private.check_type('apns', its.title, its.body, notif_private.digest_push(its.push)), define_frequencies.items);
	UPDATE notif_private.category c SET digest_type = its.id, digest_items = define_frequencies.items
	 WHERE c.name = define_frequencies.category;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_frequencies(text, text, integer) IS
$$Lets people choose 'hourly', 'daily' or 'weekly' for a category with notif.set_preference. Until then what they choose for a whole channel is told at once where the category has no digests.
type: tells these digests: a type of the category, not gathered itself; its title, body and push options read {count}, {key} (the category), {items.0.x} and {more} as those of notif.define_digest do. items: how many items they can read, 1 to 20.
Errors: 42704 unknown type, 22023 bad value, a type of another category, or one that is critical, mandatory, not pushed or gathered itself.
Example: SELECT notif.define_frequencies('social', type => 'social.digest');$$;

CREATE FUNCTION notif.drop_frequencies(category text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	UPDATE notif_private.category c SET digest_type = NULL, digest_items = NULL
	 WHERE c.name = drop_frequencies.category AND c.digest_type IS NOT NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('category %s has no digests', coalesce(quote_literal(left(drop_frequencies.category, 80)), 'NULL')),
			DETAIL = 'notif.define_frequencies was not called for it, or it does not exist.',
			HINT = 'notif.frequencies lists those that have.';
	END IF;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_frequencies(text) IS
$$Tells everybody about a category at once again. Preferences are kept, in case the category gets digests again; what has been gathered is told when it would have been, by its last item.
Errors: 42704 the category has no digests.
Example: SELECT notif.drop_frequencies('social');$$;

-- ---- people's times ---------------------------------------------------------

CREATE FUNCTION notif.set_digest_time(recipient text, at time DEFAULT '08:00', weekday integer DEFAULT 1) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(set_digest_time.recipient);
BEGIN
	IF set_digest_time.at IS NULL OR set_digest_time.at = '24:00' OR extract(second FROM set_digest_time.at) <> 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid time of a digest: %s', coalesce(set_digest_time.at::text, 'NULL')),
			DETAIL = 'It is a whole minute of the recipient''s day.',
			HINT = 'Use a time from 00:00 to 23:59.';
	END IF;
	IF set_digest_time.weekday IS NULL OR set_digest_time.weekday NOT BETWEEN 1 AND 7 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid weekday: %s', coalesce(set_digest_time.weekday::text, 'NULL')),
			DETAIL = 'It is the day of the weekly digest.',
			HINT = 'Use 1 for Monday to 7 for Sunday.';
	END IF;
	PERFORM notif_private.lock_profile(who);
	INSERT INTO notif_private.digest_time AS t (recipient_id, minute, weekday, changed_at)
	VALUES (who, extract(epoch FROM set_digest_time.at) / 60, set_digest_time.weekday, notif.now())
	ON CONFLICT ON CONSTRAINT digest_time_pkey DO UPDATE
		SET minute = EXCLUDED.minute, weekday = EXCLUDED.weekday, changed_at = EXCLUDED.changed_at;
	PERFORM notif_private.regard_digests(who);
END
$$;
COMMENT ON FUNCTION notif.set_digest_time(text, time, integer) IS
$$Says when a recipient gets what he wants daily or weekly, by his own clock (UTC if he has no zone). Also holds for what waits already.
at: whole minutes, default 08:00; a time that does not exist on a day is the first one after the gap, of one that exists twice it is the second. weekday: of the weekly digest, 1 for Monday to 7. What is wanted hourly comes at the full hour.
Errors: 42704 unknown recipient, 22023 bad value.
Example: SELECT notif.set_digest_time('customer-17', at => '18:30', weekday => 5);$$;

CREATE FUNCTION notif.digest_time(recipient text, OUT at time, OUT weekday integer, OUT tz text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(digest_time.recipient);
BEGIN
	SELECT time '00:00' + make_interval(mins => coalesce(t.minute, 480)), coalesce(t.weekday, 1), coalesce(r.tz, 'UTC')
	  INTO at, weekday, tz
	  FROM notif_private.recipient r LEFT JOIN notif_private.digest_time t ON t.recipient_id = r.id WHERE r.id = who;
END
$$;
COMMENT ON FUNCTION notif.digest_time(text) IS
$$When a recipient gets his daily and weekly digests, and in which zone.
Errors: 42704 unknown recipient.
Example: SELECT * FROM notif.digest_time('customer-17');$$;

-- ---- what waits, and what became of it --------------------------------------

CREATE VIEW notif.digest_types AS
	SELECT t.name AS type, d.key, d.wait, d.max_delay, d.title, d.body, d.push, d.items, d.single, d.changed_at
	FROM notif_private.type_digest d JOIN notif_private.type t ON t.id = d.type_id;
COMMENT ON VIEW notif.digest_types IS 'Types that batch, as notif.define_digest defined them. push NULL: the type''s options.';

CREATE VIEW notif.frequencies AS
	SELECT c.name AS category, t.name AS type, c.digest_items AS items
	FROM notif_private.category c JOIN notif_private.type t ON t.id = c.digest_type;
COMMENT ON VIEW notif.frequencies IS
	'Categories that people may want hourly, daily or weekly, and the types that tell them so, as notif.define_frequencies defined them.';

CREATE VIEW notif.digests AS
	SELECT r.ref AS recipient, (ARRAY['critical', 'standard', 'bulk'])[d.tier + 1] AS tier, d.kind, t.name AS type, t.category,
		   d.key, n.items AS count, d.opened_at, n.last_at,
		   CASE WHEN d.kind = 'window' THEN coalesce(least(d.opened_at + w.max_delay, n.last_at + w.wait), d.check_at) ELSE d.check_at END AS due_at,
		   d.id AS digest
	FROM notif_private.digest d
	JOIN notif_private.type t ON t.id = d.type_id
	LEFT JOIN notif_private.type_digest w ON w.type_id = d.type_id
	LEFT JOIN notif_private.recipient r ON r.id = d.recipient
	CROSS JOIN LATERAL (
		SELECT count(*) AS items, max(i.at) AS last_at FROM notif_private.digest_item i WHERE i.digest = d.id) n;
COMMENT ON VIEW notif.digests IS
	'What waits to be told as one. kind: window (notif.define_digest), frequency (what the recipient wants hourly, daily or weekly) or limit (what a rate limit has folded). type: of the first item. count: with those that have been cancelled meanwhile. due_at: unless more comes.';

CREATE VIEW notif.digest_log AS
	SELECT r.ref AS recipient, (ARRAY['critical', 'standard', 'bulk'])[d.tier + 1] AS tier, d.kind, d.key, d.opened_at, d.closed_at,
		   d.items AS count, d.told, d.event, d.reason, d.id AS digest
	FROM notif_private.digest_done d
	LEFT JOIN notif_private.recipient r ON r.id = d.recipient;
COMMENT ON VIEW notif.digest_log IS
	'Digests that are closed: the event that each became, for notif.trace, how many items it had and how many were still to be told. reason: nothing_left (all cancelled or muted: there is no event), last_item_only (it could not be rendered), quarantined:SQLSTATE (it always failed).';

CREATE VIEW notif.digest_items AS
	SELECT i.digest, i.event, t.name AS type, r.ref AS recipient, i.at, d.event AS told_by
	FROM notif_private.digest_item i
	JOIN notif_private.type t ON t.id = i.type_id
	LEFT JOIN notif_private.recipient r ON r.id = i.recipient
	LEFT JOIN notif_private.digest_done d ON d.id = i.digest;
COMMENT ON VIEW notif.digest_items IS
	'Which events went into which digest, open or closed; told_by: the event that it became.';

-- What notif.trace says of an event's part in digests.
CREATE FUNCTION notif_private.trace_digests(event uuid, who bigint)
	RETURNS TABLE (at timestamptz, step text, recipient bigint, state text, reason text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	-- those that it has become part of
	SELECT d.closed_at, 'digest', i.recipient,
		   CASE WHEN d.id IS NULL THEN 'waits' ELSE 'closed' END, d.reason,
		   jsonb_build_object('digest', i.digest, 'kind', coalesce(d.kind, o.kind), 'key', coalesce(d.key, o.key),
							  'event', d.event, 'count', coalesce(d.items, o.count), 'told', d.told, 'due_at', o.due_at,
							  -- of that event, on all devices
							  'became', (SELECT string_agg(DISTINCT x.state || coalesce(':' || x.reason, ''), ', ')
										   FROM notif_private.outcome x WHERE x.event = d.event AND x.recipient = i.recipient))
	  FROM notif_private.digest_item i
	  LEFT JOIN notif_private.digest_done d ON d.id = i.digest
	  LEFT JOIN LATERAL (SELECT v.kind, v.key, v.count, v.due_at FROM notif.digests v WHERE d.id IS NULL AND v.digest = i.digest OFFSET 0) o ON true
	 WHERE i.event = trace_digests.event AND (who IS NULL OR i.recipient = who)
	UNION ALL
	-- those that have become it
	SELECT i.at, 'digest of', d.recipient, NULL, NULL,
		   jsonb_build_object('event', i.event, 'digest', d.id,
							  'type', (SELECT t.name FROM notif_private.type t WHERE t.id = i.type_id))
	  FROM notif_private.digest_done d
	  JOIN notif_private.digest_item i ON i.digest = d.id
	 WHERE d.event = trace_digests.event;
END
$$;
COMMENT ON FUNCTION notif_private.trace_digests(uuid, bigint) IS
	'Of an event: the digests it has gone into (who: of this recipient; NULL: of all), and, if it is one, its items.';

-- The gate of notif.explain; no row for whom and what is not gathered.
CREATE FUNCTION notif_private.explain_digest(its notif_private.type, ev notif_private.event, who bigint)
	RETURNS TABLE (gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	often	text;
	choice	integer;
	c		notif_private.category;
	w		notif_private.type_digest;
	filed	jsonb;
BEGIN
	SELECT x.* INTO c FROM notif_private.category x WHERE x.name = its.category;
	SELECT x.* INTO w FROM notif_private.type_digest x WHERE x.type_id = its.id;
	SELECT p.frequency INTO often FROM notif_private.preferences_of(who) p WHERE p.channel = 'push' AND p.category = its.category;
	SELECT coalesce(p.choices[c.number + 1], p.choices[1]) INTO choice FROM notif_private.profile p WHERE p.recipient_id = who;
	agrees := (often IN ('hourly', 'daily', 'weekly'))
			  = (c.digest_type IS NOT NULL AND NOT c.mandatory AND coalesce(choice, 0) & 196608 <> 0);
	IF often NOT IN ('hourly', 'daily', 'weekly') AND w.type_id IS NULL AND ev.digest IS NULL AND agrees THEN
		RETURN;
	END IF;
	gate := 'digest';
	IF ev.id IS NOT NULL THEN
		SELECT jsonb_build_object('digest', i.digest, 'count', coalesce(d.items, o.count), 'due_at', o.due_at,
								  'told_by', d.event, 'closed_at', d.closed_at)
		  INTO filed
		  FROM notif_private.digest_item i
		  LEFT JOIN notif_private.digest_done d ON d.id = i.digest
		  LEFT JOIN LATERAL (SELECT v.due_at, v.count FROM notif.digests v WHERE d.id IS NULL AND v.digest = i.digest OFFSET 0) o ON true
		 WHERE i.event = ev.id AND i.recipient = who ORDER BY i.at DESC LIMIT 1;
	END IF;
	verdict := CASE WHEN its.tier = 0 OR c.mandatory OR ev.digest IS NOT NULL OR often = 'off' THEN 'pass'
					WHEN often IN ('hourly', 'daily', 'weekly') THEN 'merged:digest:' || often
					WHEN w.type_id IS NOT NULL THEN 'merged:digest:window' ELSE 'pass' END;
	detail := jsonb_build_object('frequency', often, 'key', w.key, 'wait', w.wait, 'max_delay', w.max_delay,
		'is_digest', ev.digest IS NOT NULL,
		'next', CASE WHEN often IN ('hourly', 'daily', 'weekly') THEN notif_private.next_digest(who, often, notif.now()) END);
	detail := detail || coalesce(filed, '{}');
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION notif_private.explain_digest(notif_private.type, notif_private.event, bigint) IS
	'The gate digest of notif.explain: whether a push is gathered, into which digest, and when that is due.';

-- Closed digests of long ago, a few thousand items at a time.
CREATE FUNCTION notif_private.forget_digests(p_before timestamptz) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	n	integer;
	m	integer := 0;
BEGIN
	DELETE FROM notif_private.digest_item i
	 USING (SELECT x.digest, x.ord
			  FROM (SELECT d.id FROM notif_private.digest_done d WHERE d.closed_at < p_before ORDER BY d.closed_at LIMIT 1000) d
			 CROSS JOIN LATERAL (SELECT y.digest, y.ord FROM notif_private.digest_item y WHERE y.digest = d.id ORDER BY y.ord LIMIT 5000) x
			 LIMIT 5000) x
	 WHERE i.digest = x.digest AND i.ord = x.ord;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n < 5000 THEN
		DELETE FROM notif_private.digest_done d
		 WHERE d.id IN (SELECT x.id FROM notif_private.digest_done x WHERE x.closed_at < p_before ORDER BY x.closed_at LIMIT 1000)
		   AND NOT EXISTS (SELECT FROM notif_private.digest_item i WHERE i.digest = d.id);
		GET DIAGNOSTICS m = ROW_COUNT;
	END IF;
	RETURN n + m;
END
$$;
COMMENT ON FUNCTION notif_private.forget_digests(timestamptz) IS
	'Removes closed digests that are older, with their items; returns how many rows.';
