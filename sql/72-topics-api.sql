-- Topics: named lists of recipients who asked for something.

CREATE FUNCTION notif_private.check_topic(name text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(check_topic.name, '') = '' OR octet_length(check_topic.name) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid name of a topic',
			DETAIL = format('It has %s bytes.', coalesce(octet_length(check_topic.name), 0)),
			HINT = 'Use 1 to 255 bytes.';
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_topic(text) IS
	'Raises 22023 unless name can name a topic.';

-- The share lock keeps drop_topic from leaving subscriptions without a topic.
CREATE FUNCTION notif_private.hold_topic(name text) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_id integer;
BEGIN
	PERFORM notif_private.check_topic(hold_topic.name);
	FOR tries IN 1 .. 10 LOOP
		SELECT t.id INTO found_id FROM notif_private.topic t WHERE t.name = hold_topic.name FOR KEY SHARE;
		IF FOUND THEN
			RETURN found_id;
		END IF;
		INSERT INTO notif_private.topic AS t (name, created_at) VALUES (hold_topic.name, notif.now())
		ON CONFLICT ON CONSTRAINT topic_name_key DO NOTHING RETURNING t.id INTO found_id;
		IF FOUND THEN
			RETURN found_id;
		END IF;
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = '40001',
		MESSAGE = format('topic %L is being dropped and created all the time', hold_topic.name),
		DETAIL = 'It vanished ten times while a subscription was being added.',
		HINT = 'Try again.';
END
$$;
COMMENT ON FUNCTION notif_private.hold_topic(text) IS
	'The number of a topic, created when it is new and kept from being dropped until the transaction ends.';

CREATE FUNCTION notif_private.topic_id(name text) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_id integer;
BEGIN
	SELECT t.id INTO found_id FROM notif_private.topic t WHERE t.name = topic_id.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('topic %s does not exist', coalesce(quote_literal(left(topic_id.name, 80)), 'NULL')),
			DETAIL = 'A topic exists from its first subscription or notif.create_topic on.',
			HINT = 'notif.topics lists them.';
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION notif_private.topic_id(text) IS
	'The number of the topic of that name. 42704 if there is none.';

CREATE FUNCTION notif.create_topic(name text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM notif_private.check_topic(create_topic.name);
	INSERT INTO notif_private.topic AS t (name, created_at) VALUES (create_topic.name, notif.now())
	ON CONFLICT ON CONSTRAINT topic_name_key DO NOTHING;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif.create_topic(text) IS
$$Creates a topic, so that it can be published to before anybody has subscribed. Returns false if it existed.
name: 1 to 255 bytes.
Errors: 22023 bad name.
Example: SELECT notif.create_topic('news');$$;

CREATE FUNCTION notif.drop_topic(name text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its_id	integer := notif_private.topic_id(drop_topic.name);
	n		bigint;
BEGIN
	DELETE FROM notif_private.topic t WHERE t.id = its_id;
	DELETE FROM notif_private.subscription s WHERE s.topic_id = its_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.drop_topic(text) IS
$$Drops a topic with its subscriptions and returns how many there were. An event that is being expanded to it reaches nobody further.
Errors: 42704 unknown topic.
Example: SELECT notif.drop_topic('news');$$;

CREATE FUNCTION notif.subscribe(recipient text, topic text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who	bigint := notif_private.recipient_id(subscribe.recipient);
BEGIN
	INSERT INTO notif_private.subscription AS s (topic_id, recipient_id, subscribed_at)
	VALUES (notif_private.hold_topic(subscribe.topic), who, notif.now())
	ON CONFLICT ON CONSTRAINT subscription_pkey DO NOTHING;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif.subscribe(text, text) IS
$$Subscribes a recipient to a topic, which is created when it is new. Returns false if the recipient had subscribed before.
topic: 1 to 255 bytes.
Errors: 42704 unknown recipient, 22023 bad name of a topic.
Example: SELECT notif.subscribe('customer-17', 'news');$$;

CREATE FUNCTION notif.subscribe_many(topic text, recipients text[]) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its_id	integer;
	missing	text;
	n		bigint;
BEGIN
	IF subscribe_many.recipients IS NULL OR array_position(subscribe_many.recipients, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'recipients must not be or contain NULL',
			DETAIL = 'It is a list of refs of recipients.',
			HINT = 'Leave out what is NULL.';
	END IF;
	SELECT string_agg(quote_literal(left(m.ref, 80)), ', ') INTO missing
	FROM (SELECT u.ref FROM unnest(subscribe_many.recipients) u(ref)
		  WHERE NOT EXISTS (SELECT FROM notif_private.recipient r WHERE r.ref = u.ref)
		  LIMIT 5) m;
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = 'some of the recipients do not exist',
			DETAIL = format('Unknown are, among others: %s.', missing),
			HINT = 'Create them with notif.upsert_recipient first.';
	END IF;
	its_id := notif_private.hold_topic(subscribe_many.topic);
	INSERT INTO notif_private.subscription AS s (topic_id, recipient_id, subscribed_at)
	SELECT its_id, r.id, notif.now()
	FROM notif_private.recipient r
	WHERE r.ref = ANY (subscribe_many.recipients)
	ORDER BY r.id
	ON CONFLICT ON CONSTRAINT subscription_pkey DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.subscribe_many(text, text[]) IS
$$Subscribes many recipients to a topic at once, which is created when it is new. Returns how many had not subscribed before.
Errors: 42704 some recipient is unknown (then nothing is changed), 22023 NULL in the list or bad name of a topic.
Example: SELECT notif.subscribe_many('news', ARRAY(SELECT ref FROM customers));$$;

CREATE FUNCTION notif.unsubscribe(recipient text, topic text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(unsubscribe.recipient);
	its_id	integer := notif_private.topic_id(unsubscribe.topic);
BEGIN
	DELETE FROM notif_private.subscription s WHERE s.topic_id = its_id AND s.recipient_id = who;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif.unsubscribe(text, text) IS
$$Ends a recipient's subscription to a topic. Returns false if there was none. What has been expanded for the recipient already is still sent.
Errors: 42704 unknown recipient or topic.
Example: SELECT notif.unsubscribe('customer-17', 'news');$$;
