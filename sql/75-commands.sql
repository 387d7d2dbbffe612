-- Sending dead deliveries again.

CREATE FUNCTION notif_private.endpoint_route(endpoint bigint) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT a.route_id FROM notif_private.endpoint e JOIN notif_private.app a ON a.id = e.app_id
			WHERE e.id = endpoint_route.endpoint);
END
$$;
COMMENT ON FUNCTION notif_private.endpoint_route(bigint) IS
	'The route that an endpoint is sent over; NULL without a route or endpoint.';

-- One command per generation: asking twice gives the same command, as long as it
-- can take effect.
CREATE FUNCTION notif_private.redeliver_one(last notif_private.outcome) RETURNS uuid
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	command	uuid := notif_private.new_event_id();
	first	uuid;
	until	timestamptz;
	ask		text := format('notif:redeliver:%s:%s', last.delivery, last.attempt);
BEGIN
	SELECT notif.now() + t.ttl INTO until FROM notif_private.type t WHERE t.id = last.type_id;
	INSERT INTO notif_private.idempotency AS i (key, event, body_hash, expires_at)
	VALUES (ask, command, '', until)
	ON CONFLICT ON CONSTRAINT idempotency_pkey DO UPDATE
		SET event = EXCLUDED.event, expires_at = EXCLUDED.expires_at WHERE i.expires_at < notif.now();
	IF NOT FOUND THEN
		SELECT i.event INTO first FROM notif_private.idempotency i WHERE i.key = ask;
		RETURN first;
	END IF;
	INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, data, expires_at, created_at)
	VALUES (command, last.tier, notif_private.current_incarnation(), 1, last.type_id,
			jsonb_build_object('delivery', last.delivery), until, notif.now());
	PERFORM notif_private.wake(last.tier);
	RETURN command;
END
$$;
COMMENT ON FUNCTION notif_private.redeliver_one(notif_private.outcome) IS
	'Files the command to send a dead delivery again, unless one is pending; returns the command''s id.';

CREATE FUNCTION notif.redeliver(delivery uuid) RETURNS uuid
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	last	notif_private.outcome;
BEGIN
	SELECT * INTO last FROM notif_private.outcome o
	WHERE o.delivery = redeliver.delivery ORDER BY o.attempt DESC LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('delivery %s has no outcome', coalesce(redeliver.delivery::text, 'NULL')),
			DETAIL = 'It does not exist, was never tried, or retention has removed it.',
			HINT = 'notif.dead_letters lists what can be sent again.';
	END IF;
	IF last.state NOT IN ('failed', 'expired', 'held') OR last.endpoint IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('delivery %s is not dead', redeliver.delivery),
			DETAIL = CASE WHEN last.terminal THEN format('Its state is %L.', last.state)
						  ELSE format('Another attempt is due at %s.', last.next_at) END,
			HINT = 'Only deliveries that failed, expired or are held can be sent again; notif.dead_letters lists them.';
	END IF;
	IF notif_private.endpoint_route(last.endpoint) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('delivery %s has no route', redeliver.delivery),
			DETAIL = 'No route serves the platform and application of its endpoint.',
			HINT = 'Create one with notif.define_route first.';
	END IF;
	RETURN notif_private.redeliver_one(last);
END
$$;
COMMENT ON FUNCTION notif.redeliver(uuid) IS
$$Sends a dead delivery again: one whose newest outcome is failed, expired or held. It keeps its id, passes all gates and has the type's ttl from now on. Returns the id of the command; asking again while it is pending returns the same one.
Errors: 42704 unknown delivery, 55000 it is not dead or has no route.
Example: SELECT notif.redeliver(delivery) FROM notif.dead_letters WHERE reason = 'retries_exhausted:ServiceUnavailable';$$;

CREATE FUNCTION notif.redeliver_event(event uuid) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n	bigint;
BEGIN
	PERFORM FROM notif_private.event e WHERE e.id = redeliver_event.event AND e.kind IN (0, 2);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('event %s does not exist', coalesce(redeliver_event.event::text, 'NULL')),
			DETAIL = 'It was never published, its transaction has not committed, or retention has removed it.',
			HINT = 'Pass what notif.publish returned.';
	END IF;
	-- in one order for all, because each takes the lock of its key
	SELECT count(notif_private.redeliver_one(dead)) INTO n
	FROM (SELECT o FROM notif_private.outcome o
		  WHERE o.event = ANY (redeliver_event.event || ARRAY(SELECT r.event FROM notif.releases r WHERE r.schedule = redeliver_event.event))
			AND o.terminal AND o.state IN ('failed', 'expired', 'held')
			AND notif_private.endpoint_route(o.endpoint) IS NOT NULL
			AND NOT EXISTS (SELECT FROM notif_private.outcome later
							WHERE later.delivery = o.delivery AND later.attempt > o.attempt)
		  ORDER BY o.delivery) x(dead);
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.redeliver_event(uuid) IS
$$Sends all dead deliveries of an event again, as notif.redeliver does, and returns how many there are; of one that was published for later, those of all events released for it. Those without a route are passed over.
Errors: 42704 unknown event.
Example: SELECT notif.redeliver_event('01890a5d-ac96-774b-bcce-b302099a8057');$$;
