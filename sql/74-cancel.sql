-- Cancelling events, and moving those that are published for later.

-- Where what was published for later waits, or waited: its tier and type; NULL if
-- there is no such event.
CREATE FUNCTION notif_private.schedule_of(event uuid, OUT tier smallint, OUT type_id integer)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	SELECT e.tier, e.type_id INTO tier, type_id FROM notif_private.event e
	 WHERE e.id = schedule_of.event AND e.kind = 2 AND e.parent IS NULL;
	IF NOT FOUND THEN
		-- an appointment outlives its event's partition
		SELECT a.tier, a.type_id INTO tier, type_id FROM notif_private.appointment a WHERE a.schedule = schedule_of.event;
	END IF;
	IF NOT FOUND THEN
		-- and what was released outlives both
		SELECT e.tier, e.type_id INTO tier, type_id FROM notif.releases r JOIN notif_private.event e ON e.id = r.event
		 WHERE r.schedule = schedule_of.event LIMIT 1;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.schedule_of(uuid) IS
	'The tier and type of an event published for later; NULL: it is no such event, or all of it is forgotten.';

CREATE FUNCTION notif_private.cancel_event(event uuid, why text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	INSERT INTO notif_private.cancellation AS c (event, at, why) VALUES (cancel_event.event, notif.now(), cancel_event.why)
	ON CONFLICT ON CONSTRAINT cancellation_pkey DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM notif_private.hold_unsent_event(cancel_event.event);
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.cancel_event(uuid, text) IS 'Cancels one event; false if it was cancelled before.';

-- From the commit on nothing is claimed of events that are or will be released for
-- it: the claim knows them by their key.  The others who look for a cancellation find
-- it under each event's own id.  The command has the router take the appointment away.
CREATE FUNCTION notif_private.cancel_schedule(event uuid, tier smallint, type_id integer, why text) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	INSERT INTO notif_private.cancellation AS c (event, at, why, schedule)
	VALUES (notif_private.schedule_key(cancel_schedule.event), notif.now(), cancel_schedule.why, true)
	ON CONFLICT ON CONSTRAINT cancellation_pkey DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO notif_private.cancellation AS c (event, at, why)
	SELECT x.id, notif.now(), cancel_schedule.why
	  FROM (SELECT cancel_schedule.event AS id
			UNION ALL SELECT r.event FROM notif.releases r WHERE r.schedule = cancel_schedule.event) x
	 ORDER BY x.id
	ON CONFLICT ON CONSTRAINT cancellation_pkey DO NOTHING;
	-- known by the same bytes of their ids
	PERFORM notif_private.hold_unsent_event(cancel_schedule.event);
	IF cancel_schedule.tier IS NOT NULL THEN
		INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, data, expires_at, created_at, parent)
		VALUES (notif_private.new_event_id(), cancel_schedule.tier, notif_private.current_incarnation(), 2, cancel_schedule.type_id,
				'{}', notif.now(), notif.now(), cancel_schedule.event);
		PERFORM notif_private.wake(cancel_schedule.tier);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.cancel_schedule(uuid, smallint, integer, text) IS
	'Cancels an event published for later, with all that is released for it; false if it was cancelled before. tier NULL: nothing of it waits.';

CREATE FUNCTION notif.cancel(event uuid, why text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record;
BEGIN
	PERFORM FROM notif_private.event e WHERE e.id = cancel.event AND e.kind = 0;
	IF FOUND THEN
		RETURN notif_private.cancel_event(cancel.event, cancel.why);
	END IF;
	its := notif_private.schedule_of(cancel.event);
	IF its.tier IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('event %s does not exist', coalesce(cancel.event::text, 'NULL')),
			DETAIL = 'It was never published, its transaction has not committed, or retention has removed it.',
			HINT = 'Pass what notif.publish returned.';
	END IF;
	RETURN notif_private.cancel_schedule(cancel.event, its.tier, its.type_id, cancel.why);
END
$$;
COMMENT ON FUNCTION notif.cancel(uuid, text) IS
$$Cancels an event: from the commit on nothing more of it is sent. One that was published for later is not released, or not for any more zones. What is on the wire cannot be called back, and inbox items stay. Returns false if it was cancelled before.
why: for notif.trace.
Errors: 42704 unknown event.
Example: SELECT notif.cancel('01890a5d-ac96-774b-bcce-b302099a8057', why => 'wrong price');$$;

CREATE FUNCTION notif.cancel_correlation(id text, why text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	one		record;
	n		bigint := 0;
BEGIN
	IF coalesce(cancel_correlation.id, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid correlation id',
			DETAIL = 'It is empty.',
			HINT = 'Pass the correlation_id that was given to notif.publish.';
	END IF;
	-- in one order for all, since each takes the lock of its key
	FOR one IN
		SELECT x.id, bool_or(x.later) AS later
		  FROM (SELECT CASE WHEN notif_private.schedule_key(e.id) = notif_private.schedule_key(e.parent) THEN e.parent ELSE e.id END AS id,
					   e.kind = 2 OR coalesce(notif_private.schedule_key(e.id) = notif_private.schedule_key(e.parent), false) AS later
				  FROM notif_private.event e
				 WHERE e.correlation_id = cancel_correlation.id AND (e.kind = 0 OR e.kind = 2 AND e.parent IS NULL)
				UNION ALL
				SELECT a.schedule, true FROM notif_private.appointment a WHERE a.correlation_id = cancel_correlation.id) x
		 GROUP BY x.id ORDER BY x.id
	LOOP
		IF one.later THEN
			n := n + (SELECT notif_private.cancel_schedule(one.id, s.tier, s.type_id, cancel_correlation.why)
						FROM notif_private.schedule_of(one.id) s)::integer;
		ELSE
			n := n + notif_private.cancel_event(one.id, cancel_correlation.why)::integer;
		END IF;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.cancel_correlation(text, text) IS
$$Cancels all events that were published with a correlation id, those for later included, as notif.cancel does each. Returns how many of them were not cancelled before; 0 for an unknown one.
why: for notif.trace.
Errors: 22023 no correlation id.
Example: SELECT notif.cancel_correlation('order-4711', why => 'order was cancelled');$$;

CREATE FUNCTION notif.reschedule(event uuid, deliver_at timestamptz DEFAULT NULL, deliver_at_local timestamp DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record;
	moved	record;
	ev		record;
	now		constant timestamptz := notif.now();
	command	uuid;
BEGIN
	IF num_nonnulls(reschedule.deliver_at, reschedule.deliver_at_local) <> 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'reschedule needs one time',
			DETAIL = format('%s are given.', num_nonnulls(reschedule.deliver_at, reschedule.deliver_at_local)),
			HINT = 'Pass either deliver_at or deliver_at_local; notif.cancel is for never.';
	END IF;
	PERFORM notif_private.check_delivery_time(reschedule.deliver_at, reschedule.deliver_at_local, NULL);
	its := notif_private.schedule_of(reschedule.event);
	IF its.tier IS NULL THEN
		PERFORM FROM notif_private.event e WHERE e.id = reschedule.event AND e.kind = 0;
		RAISE EXCEPTION USING ERRCODE = CASE WHEN FOUND THEN '55000' ELSE '42704' END,
			MESSAGE = CASE WHEN FOUND THEN format('event %s does not wait', reschedule.event)
						   ELSE format('event %s does not exist', coalesce(reschedule.event::text, 'NULL')) END,
			DETAIL = CASE WHEN FOUND THEN 'It was not published for later, or its time had come.'
						  ELSE 'It was never published, its transaction has not committed, or retention has removed it.' END,
			HINT = 'notif.scheduled lists what can be rescheduled.';
	END IF;
	IF EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(reschedule.event)) THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('event %s is cancelled', reschedule.event),
			DETAIL = 'What is cancelled is not delivered at any time.',
			HINT = 'Publish it anew.';
	END IF;
	moved := CASE its.tier WHEN 0 THEN notif_private.move_critical(reschedule.event)
						   WHEN 1 THEN notif_private.move_standard(reschedule.event)
						   ELSE notif_private.move_bulk(reschedule.event) END;
	command := moved.command;
	IF command IS NULL THEN
		-- Not filed yet, if nothing was released: the router reads this command after it.
		-- What is due within a minute might be released before that.
		SELECT e.deliver_at, e.xid INTO ev FROM notif_private.event e WHERE e.id = reschedule.event;
		IF moved.begun OR NOT FOUND OR ev.deliver_at < now + interval '1 minute'
		   OR EXISTS (SELECT FROM notif.releases r WHERE r.schedule = reschedule.event)
		   OR EXISTS (SELECT FROM notif_private.outcome o WHERE o.event = reschedule.event) THEN
			RAISE EXCEPTION USING ERRCODE = '55000',
				MESSAGE = format('event %s does not wait any more', reschedule.event),
				DETAIL = CASE WHEN moved.begun THEN 'It has been released for people whose clocks are ahead.' ELSE 'It has been released, or is about to be.' END,
				HINT = 'notif.cancel stops what of it is not sent yet.';
		END IF;
		-- An older snapshot does not tell whether it was filed, or released, since.
		IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
		   AND ev.xid IS DISTINCT FROM pg_current_xact_id_if_assigned() THEN
			RAISE EXCEPTION USING ERRCODE = '40001',
				MESSAGE = format('event %s may have been released meanwhile', reschedule.event),
				DETAIL = 'The transaction''s snapshot is older than its filing.',
				HINT = 'Retry the transaction.';
		END IF;
		command := notif_private.new_event_id();
	END IF;
	INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, data, expires_at, created_at, parent, deliver_at, deliver_at_local)
	VALUES (command, its.tier, notif_private.current_incarnation(), 2, its.type_id, '{}', now, now, reschedule.event,
			greatest(reschedule.deliver_at, CASE WHEN reschedule.deliver_at IS NOT NULL THEN now END),
			date_trunc('second', reschedule.deliver_at_local));
	PERFORM notif_private.wake(its.tier);
END
$$;
COMMENT ON FUNCTION notif.reschedule(uuid, timestamptz, timestamp) IS
$$Gives an event that was published for later another time, until it is released. It keeps its id, content and audience; its expiry counts from the new time.
deliver_at, deliver_at_local: one of them, as in notif.publish. What has come is released at once.
Errors: 22023 not one time, or out of range; 42704 unknown event; 55000 it is released, for some zones perhaps, or cancelled; 40001 the snapshot of the transaction is too old to tell. If the call succeeds, and commits within a minute, it was in time.
Example: SELECT notif.reschedule('01890a5d-ac96-774b-bcce-b302099a8057', deliver_at_local => '2027-03-01 09:00');$$;
