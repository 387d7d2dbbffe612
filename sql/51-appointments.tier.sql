-- Filing and releasing what tier @TIER@ has published for later.  The router reads an
-- event of kind 2 in its windows like every other, once, and files it; when it is due
-- it inserts an ordinary event in its place, in the transaction that moves the
-- horizon, and reads that by its windows again.

CREATE FUNCTION notif_private.appointments_from_@TIER@(p_turn bigint, p_now timestamptz,
													   OUT seq bigint, OUT due timestamptz, OUT id uuid)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
BEGIN
	SELECT c.seq, c.due, c.id INTO seq, due, id FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = 6 AND c.lane = 0 AND c.key = '00000000-0000-0000-0000-000000000000' ORDER BY c.seq DESC LIMIT 1;
	-- It was reached by a clock that was ahead.  Nothing that waits lies behind it.
	IF due > p_now + interval '1 minute' THEN
		seq := seq + 1; due := p_now; id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, seq, due, id) VALUES (p_turn % 4, 6, seq, due, id);
	END IF;
	seq := coalesce(seq, 0);
	due := coalesce(due, '-infinity');
	id := coalesce(id, '00000000-0000-0000-0000-000000000000');
END
$$;
COMMENT ON FUNCTION notif_private.appointments_from_@TIER@(bigint, timestamptz) IS
	'The horizon of the tier''s appointments: whatever is filed must be due after it. It comes back to now after the clock was set back.';

-- What ends without ever being released.
CREATE FUNCTION notif_private.end_appointments_@TIER@(p_turn bigint, p_schedules uuid[], p_types integer[], p_state notif.outcome_state,
													  p_reason text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	-- Under an id of now: there may be no partition for outcomes of the time at which
	-- it was published.
	INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, reason, event, type_id, tries, at)
	SELECT notif_private.new_event_id(), 0, notif_private.retention_of(u.type), @TIERNO@, p_state, true, p_reason, u.schedule,
		   u.type, 0, notif.now()
	  FROM unnest(p_schedules, p_types) u(schedule, type);
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, 0, 'expanded', cardinality(p_schedules)),
		   (p_turn % 4, 0, p_state::text::notif_private.tally_state, cardinality(p_schedules));
END
$$;
COMMENT ON FUNCTION notif_private.end_appointments_@TIER@(bigint, uuid[], integer[], notif.outcome_state, text) IS
	'Writes the outcome of events for later of which nothing is ever released.';

-- Judges one appointment apart from its turn: a command about it, or somebody had
-- locked it when its turn came.
CREATE FUNCTION notif_private.settle_@TIER@(p_turn bigint, p_schedule uuid, p_command uuid, p_after timestamptz, p_now timestamptz)
	RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	its		notif_private.appointment_@TIER@;
	cmd		record;
	moves	boolean := false;
BEGIN
	SELECT a.* INTO its FROM notif_private.appointment_@TIER@ a
	 WHERE a.schedule = p_schedule AND NOT a.look FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		IF NOT EXISTS (SELECT FROM notif_private.appointment_@TIER@ a WHERE a.schedule = p_schedule AND NOT a.look) THEN
			RETURN NULL;		-- released, or cancelled, before
		END IF;
		its.due_at := greatest(p_now + interval '1 second', p_after + interval '1 microsecond');
		INSERT INTO notif_private.appointment_@TIER@ (due_at, id, schedule, look, command)
		VALUES (its.due_at, notif_private.new_event_id(), p_schedule, true, p_command);
		RETURN its.due_at;
	END IF;
	IF EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(p_schedule)) THEN
		DELETE FROM notif_private.appointment_@TIER@ a WHERE a.due_at = its.due_at AND a.id = its.id;
		PERFORM notif_private.end_appointments_@TIER@(p_turn, ARRAY[p_schedule], ARRAY[its.type_id], 'cancelled', 'cancel');
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n) VALUES (p_turn % 4, 0, 'scheduled', -1);
		RETURN NULL;
	END IF;
	-- What the row is marked with is the latest one that has committed; one that found
	-- no row to mark counts unless it was heeded as the row was filed.
	IF its.command IS NULL AND p_command > its.id THEN
		its.command := p_command;
	END IF;
	IF its.command IS NOT NULL THEN
		SELECT e.deliver_at, e.deliver_at_local, e.created_at INTO cmd
		  FROM notif_private.event e WHERE e.id = its.command AND num_nonnulls(e.deliver_at, e.deliver_at_local) = 1;
		moves := FOUND;
	END IF;
	IF NOT moves AND its.due_at > p_now THEN
		RETURN NULL;			-- nothing to carry out, and not its time
	END IF;
	DELETE FROM notif_private.appointment_@TIER@ a WHERE a.due_at = its.due_at AND a.id = its.id;
	IF moves THEN
		its.id := its.command;
		its.deliver_at := cmd.deliver_at;
		its.deliver_at_local := cmd.deliver_at_local;
		its.not_before := cmd.created_at;
		its.due_at := coalesce(cmd.deliver_at, (SELECT n.at FROM notif_private.next_instant(cmd.deliver_at_local, notif_private.zones_in_use(), cmd.created_at, NULL) n));
		its.served := NULL;
		its.as_of := NULL;
	END IF;
	its.command := NULL;
	its.due_at := greatest(its.due_at, p_after + interval '1 microsecond');
	INSERT INTO notif_private.appointment_@TIER@ SELECT its.*;
	RETURN its.due_at;
END
$$;
COMMENT ON FUNCTION notif_private.settle_@TIER@(bigint, uuid, uuid, timestamptz, timestamptz) IS
	'Cancels or reschedules an appointment as its latest command wants, or files it anew if its time has passed; comes back to it in a second if its row is locked. Returns when what it filed is due.';

CREATE FUNCTION notif_private.file_@TIER@(p_turn bigint, p_events uuid[]) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_now		constant timestamptz := notif.now();
	v_zones		text[];
	hz			record;
	cmd			record;
	v_due		timestamptz;
	n_filed		bigint;
	v_gone		uuid[];
	v_types		integer[];
	-- known when the statement starts: no older partition is opened
	v_first		constant uuid := (SELECT x FROM unnest(p_events) x ORDER BY x LIMIT 1);
	v_last		constant uuid := (SELECT x FROM unnest(p_events) x ORDER BY x DESC LIMIT 1);
BEGIN
	hz := notif_private.appointments_from_@TIER@(p_turn, v_now);
	v_zones := notif_private.zones_in_use();
	WITH asked AS MATERIALIZED (
		SELECT ev.*, m.id AS command, m.created_at AS commanded_at,
			   CASE WHEN m.id IS NULL THEN ev.deliver_at ELSE m.deliver_at END AS at,
			   CASE WHEN m.id IS NULL THEN ev.deliver_at_local ELSE m.deliver_at_local END AS at_local,
			   EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(ev.id)) AS cancelled
		  FROM unnest(p_events) i(id)
		 CROSS JOIN LATERAL (
			SELECT e.* FROM notif_private.event e
			 WHERE e.id = i.id AND e.id >= v_first AND e.id <= v_last AND e.parent IS NULL OFFSET 0) ev
		 -- rescheduled before it could be filed
		  LEFT JOIN LATERAL (
			SELECT e.id, e.deliver_at, e.deliver_at_local, e.created_at FROM notif_private.event e
			 WHERE e.parent = ev.id AND e.id > ev.id AND e.id > v_first AND e.kind = 2 AND num_nonnulls(e.deliver_at, e.deliver_at_local) = 1
			 ORDER BY e.id DESC LIMIT 1) m ON true
	),
	filed AS (
		INSERT INTO notif_private.appointment_@TIER@ (due_at, id, schedule, type_id, topic_id, recipients, data, correlation_id,
													  collapse_key, source, thread, channels, campaign_id, send_if, published_by, created_at,
													  deliver_at, deliver_at_local, spread, expires_in, not_before)
		SELECT greatest(f.due, hz.due + interval '1 microsecond'), coalesce(a.command, a.id), a.id, a.type_id, a.topic_id, a.recipients,
			   a.data, a.correlation_id, a.collapse_key, a.source, a.thread, a.channels, a.campaign_id, a.send_if, a.published_by, a.created_at,
			   a.at, a.at_local, a.spread, a.expires_in, coalesce(a.commanded_at, a.created_at)
		  FROM asked a
		 CROSS JOIN LATERAL (
			SELECT CASE WHEN a.at_local IS NULL THEN a.at
						ELSE (SELECT n.at FROM notif_private.next_instant(a.at_local, v_zones, coalesce(a.commanded_at, a.created_at), NULL) n)
				   END AS due OFFSET 0) f
		 WHERE NOT a.cancelled
		RETURNING due_at
	)
	SELECT (SELECT min(f.due_at) FROM filed f), (SELECT count(*) FROM filed), array_agg(a.id), array_agg(a.type_id)
	  INTO v_due, n_filed, v_gone, v_types
	  FROM asked a WHERE a.cancelled;
	IF n_filed > 0 THEN
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n) VALUES (p_turn % 4, 0, 'scheduled', n_filed);
	END IF;
	IF v_gone IS NOT NULL THEN
		PERFORM notif_private.end_appointments_@TIER@(p_turn, v_gone, v_types, 'cancelled', 'cancel');
	END IF;
	FOR cmd IN SELECT e.id, e.parent FROM unnest(p_events) i(id)
				CROSS JOIN LATERAL (SELECT x.id, x.parent FROM notif_private.event x
									 WHERE x.id = i.id AND x.id >= v_first AND x.id <= v_last AND x.parent IS NOT NULL OFFSET 0) e LOOP
		v_due := least(v_due, notif_private.settle_@TIER@(p_turn, cmd.parent, cmd.id, hz.due, v_now));
	END LOOP;
	RETURN v_due;
END
$$;
COMMENT ON FUNCTION notif_private.file_@TIER@(bigint, uuid[]) IS
	'Files events for later, of the router''s window, and carries out commands about such; returns when the earliest thing that it filed is due, NULL if nothing was.';

-- The one statement that releases: due rows that nobody has locked become events,
-- or wait for their next zone.
CREATE FUNCTION notif_private.release_@TIER@(p_turn bigint, p_dues timestamptz[], p_ids uuid[], p_now timestamptz,
											 OUT released integer, OUT taken uuid[], OUT looks uuid[], OUT commands uuid[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_inc		constant smallint := notif_private.current_incarnation();
	v_zones		constant text[] := notif_private.zones_in_use();
	v_here		constant pg_snapshot := pg_current_snapshot();
	v_after		constant timestamptz := p_dues[cardinality(p_dues)] + interval '1 microsecond';
	v_gone		uuid[];
	v_types		integer[];
	v_left		bigint;
BEGIN
	WITH mine AS MATERIALIZED (
		SELECT a.* FROM unnest(p_dues, p_ids) i(due_at, id)
		 CROSS JOIN LATERAL (
			SELECT x.* FROM notif_private.appointment_@TIER@ x
			 WHERE x.due_at = i.due_at AND x.id = i.id FOR UPDATE SKIP LOCKED) a
	),
	-- a reschedule that has been asked for is carried out by its command
	gone AS (
		DELETE FROM notif_private.appointment_@TIER@ a USING mine m
		 WHERE a.due_at = m.due_at AND a.id = m.id AND (m.look OR m.command IS NULL)
	),
	judged AS MATERIALIZED (
		SELECT m.*, c.found AS cancelled, small.yes AS small, n.at AS instant, n.zones, x.at AS next_at,
			   coalesce(m.as_of, v_here) AS where_by
		  FROM mine m
		  LEFT JOIN LATERAL (SELECT true AS found FROM notif_private.cancellation c
							  WHERE c.event = notif_private.schedule_key(m.schedule) OFFSET 0) c ON true
		 CROSS JOIN LATERAL (SELECT m.topic_id IS NULL AND cardinality(m.recipients) <= 500 AS yes OFFSET 0) small
		 -- Its zones: those of the people it names if they are few.
		 CROSS JOIN LATERAL (
			SELECT CASE WHEN m.deliver_at_local IS NULL THEN NULL
						WHEN small.yes THEN ARRAY(SELECT DISTINCT z.zone FROM notif_private.zones_of(m.recipients, coalesce(m.as_of, v_here)) z)
						ELSE v_zones END AS zones OFFSET 0) z
		  LEFT JOIN LATERAL (SELECT i.at, i.zones FROM notif_private.next_instant(m.deliver_at_local, z.zones, m.not_before, m.served) i
							  WHERE m.deliver_at_local IS NOT NULL OFFSET 0) n ON true
		  LEFT JOIN LATERAL (SELECT i.at FROM notif_private.next_instant(m.deliver_at_local, z.zones, m.not_before, n.at) i
							  WHERE n.at <= p_now OFFSET 0) x ON true
		 WHERE NOT m.look AND m.command IS NULL
	),
	made AS (
		INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, topic_id, recipients, data, correlation_id, collapse_key,
										 source, thread, channels, expires_at, published_by, created_at, campaign_id, parent, send_if,
										 deliver_at, deliver_at_local, spread, zones, zones_as_of)
		SELECT notif_private.new_child_id(j.schedule), @TIERNO@, v_inc, 0, j.type_id, j.topic_id,
			   CASE WHEN j.small AND j.deliver_at_local IS NOT NULL THEN notif_private.people_in_zones(j.recipients, j.zones, j.where_by)
					ELSE j.recipients END,
			   j.data, j.correlation_id, j.collapse_key, j.source, j.thread, j.channels,
			   -- counted from when it was to be told, however late that is
			   coalesce(j.instant, j.deliver_at) + j.expires_in, j.published_by, p_now, j.campaign_id, j.schedule, j.send_if,
			   coalesce(j.instant, j.deliver_at), j.deliver_at_local, j.spread,
			   CASE WHEN NOT j.small THEN j.zones END, CASE WHEN NOT j.small AND j.zones IS NOT NULL THEN j.where_by END
		  FROM judged j
		 WHERE j.cancelled IS NULL AND (j.deliver_at_local IS NULL OR j.instant <= p_now)
		RETURNING 1
	),
	again AS (
		INSERT INTO notif_private.appointment_@TIER@ (due_at, id, schedule, type_id, topic_id, recipients, data, correlation_id,
													  collapse_key, source, thread, channels, campaign_id, send_if, published_by, created_at,
													  deliver_at, deliver_at_local, spread, expires_in, not_before, served, as_of)
		SELECT greatest(CASE WHEN j.instant <= p_now THEN j.next_at ELSE j.instant END, v_after), j.id, j.schedule, j.type_id,
			   j.topic_id, j.recipients, j.data, j.correlation_id, j.collapse_key, j.source, j.thread, j.channels, j.campaign_id,
			   j.send_if, j.published_by, j.created_at, j.deliver_at, j.deliver_at_local, j.spread, j.expires_in, j.not_before,
			   CASE WHEN j.instant <= p_now THEN j.instant ELSE j.served END, j.where_by
		  FROM judged j
		 WHERE j.cancelled IS NULL AND CASE WHEN j.instant <= p_now THEN j.next_at ELSE j.instant END IS NOT NULL
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM made), (SELECT count(*) FROM judged) - (SELECT count(*) FROM again),
		   (SELECT array_agg(j.schedule) FROM judged j WHERE j.cancelled), (SELECT array_agg(j.type_id) FROM judged j WHERE j.cancelled),
		   (SELECT array_agg(m.id) FROM mine m), (SELECT array_agg(m.schedule ORDER BY m.id) FROM mine m WHERE m.look),
		   (SELECT array_agg(m.command ORDER BY m.id) FROM mine m WHERE m.look)
	  INTO released, v_left, v_gone, v_types, taken, looks, commands;
	IF v_left > 0 THEN
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n) VALUES (p_turn % 4, 0, 'scheduled', -v_left);
	END IF;
	IF v_gone IS NOT NULL THEN
		PERFORM notif_private.end_appointments_@TIER@(p_turn, v_gone, v_types, 'cancelled', 'cancel');
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.release_@TIER@(bigint, timestamptz[], uuid[], timestamptz) IS
	'Turns due appointments into events, and files those for a local time again for their next zone. Passes over what is locked or to be rescheduled; taken are the others, looks the schedules to be judged apart, with their commands.';

-- One that fails alone must not stop those that are due after it.
CREATE FUNCTION notif_private.release_carefully_@TIER@(p_turn bigint, p_dues timestamptz[], p_ids uuid[], p_now timestamptz,
													   OUT released integer, OUT taken uuid[], OUT looks uuid[], OUT commands uuid[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	step	record;
	its		record;
BEGIN
	BEGIN
		step := notif_private.release_@TIER@(p_turn, p_dues, p_ids, p_now);
		released := step.released; taken := step.taken; looks := step.looks; commands := step.commands;
		RETURN;
	EXCEPTION WHEN OTHERS THEN
		IF NOT notif_private.is_at_fault(1, 0, SQLSTATE) THEN
			RAISE;
		END IF;
		released := 0;
		taken := p_ids;
		SELECT a.schedule, a.type_id INTO its FROM notif_private.appointment_@TIER@ a
		 WHERE a.due_at = p_dues[1] AND a.id = p_ids[1] AND a.type_id IS NOT NULL FOR UPDATE SKIP LOCKED;
		IF FOUND THEN
			DELETE FROM notif_private.appointment_@TIER@ a WHERE a.due_at = p_dues[1] AND a.id = p_ids[1];
			PERFORM notif_private.end_appointments_@TIER@(p_turn, ARRAY[its.schedule], ARRAY[its.type_id], 'failed', 'quarantined:' || SQLSTATE);
			INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n) VALUES (p_turn % 4, 0, 'scheduled', -1);
			PERFORM notif_private.tell_quarantine('releasing', 1, SQLSTATE);
		ELSE
			taken := NULL;		-- judged when nobody holds it any more
		END IF;
	END;
END
$$;
COMMENT ON FUNCTION notif_private.release_carefully_@TIER@(bigint, timestamptz[], uuid[], timestamptz) IS
	'release of one appointment after ERRORs: if it is at fault itself its outcome is failed, quarantined:SQLSTATE.';

CREATE FUNCTION notif_private.worker_release_@TIER@(p_limit integer, p_careful boolean DEFAULT false,
													OUT released integer, OUT more boolean, OUT next_due timestamptz, OUT paused boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_now		constant timestamptz := notif.now();
	v_turn		constant bigint := notif_private.turn_@TIER@();
	hz			record;
	step		record;
	v_dues		timestamptz[];
	v_ids		uuid[];
	v_read		integer;
	v_locked	uuid;
BEGIN
	released := 0; more := false;
	paused := notif_private.is_paused('tier', '@TIER@');
	IF paused THEN
		RETURN;
	END IF;
	hz := notif_private.appointments_from_@TIER@(v_turn, v_now);
	SELECT array_agg(d.due_at ORDER BY d.n), array_agg(d.id ORDER BY d.n) INTO v_dues, v_ids
	  FROM (SELECT a.due_at, a.id, row_number() OVER () AS n
			  FROM (SELECT x.due_at, x.id FROM notif_private.appointment_@TIER@ x
					 WHERE (x.due_at, x.id) > (hz.due, hz.id) AND x.due_at <= v_now
					 ORDER BY x.due_at, x.id LIMIT CASE WHEN p_careful THEN 1 ELSE p_limit END) a) d;
	v_read := coalesce(cardinality(v_ids), 0);
	IF v_read > 0 THEN
		step := CASE WHEN p_careful THEN notif_private.release_carefully_@TIER@(v_turn, v_dues, v_ids, v_now)
					 ELSE notif_private.release_@TIER@(v_turn, v_dues, v_ids, v_now) END;
		released := step.released;
		INSERT INTO notif_private.cursor_@TIER@ (ring, role, seq, due, id)
		VALUES (v_turn % 4, 6, hz.seq + 1, v_dues[v_read], v_ids[v_read]);
		hz.due := v_dues[v_read];
		hz.id := v_ids[v_read];
		FOR i IN 1 .. coalesce(cardinality(step.looks), 0) LOOP
			PERFORM notif_private.settle_@TIER@(v_turn, step.looks[i], step.commands[i], hz.due, v_now);
		END LOOP;
		IF coalesce(cardinality(step.taken), 0) < v_read THEN
			FOR v_locked IN SELECT a.schedule FROM unnest(v_dues, v_ids) i(due_at, id)
							 CROSS JOIN LATERAL (SELECT x.schedule FROM notif_private.appointment_@TIER@ x
												  WHERE x.due_at = i.due_at AND x.id = i.id AND NOT x.look OFFSET 0) a
							 WHERE step.taken IS NULL OR i.id <> ALL (step.taken) LOOP
				PERFORM notif_private.settle_@TIER@(v_turn, v_locked, NULL, hz.due, v_now);
			END LOOP;
		END IF;
	END IF;
	next_due := (SELECT x.due_at FROM notif_private.appointment_@TIER@ x WHERE (x.due_at, x.id) > (hz.due, hz.id)
				  ORDER BY x.due_at, x.id LIMIT 1);
	more := coalesce(next_due <= v_now, false);
END
$$;
COMMENT ON FUNCTION notif_private.worker_release_@TIER@(integer, boolean) IS
	'One step of the router: releases up to p_limit events that were published for later and are due, and moves the horizon. released: how many events it has inserted, which the windows then read. next_due: when the next one is. p_careful: one alone, after ERRORs; if that fails by itself it is given up on.';

-- For a session.
CREATE FUNCTION notif_private.move_@TIER@(p_schedule uuid, OUT command uuid, OUT begun boolean)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	its		record;
BEGIN
	SELECT a.due_at, a.id, a.served INTO its FROM notif_private.appointment_@TIER@ a
	 WHERE a.schedule = p_schedule AND NOT a.look FOR UPDATE;
	begun := FOUND AND its.served IS NOT NULL;
	IF FOUND AND NOT begun THEN
		-- minted under the lock, so that ids are in the order of the commands
		command := notif_private.new_event_id();
		UPDATE notif_private.appointment_@TIER@ a SET command = move_@TIER@.command WHERE a.due_at = its.due_at AND a.id = its.id;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.move_@TIER@(uuid) IS
	'Marks an appointment with the id of a reschedule to come, which keeps it from its release until that is carried out or rolled back; waits for a release that is under way. NULL: it is not there, or, begun, released for some zones.';
