-- The steps of the upkeep worker.

CREATE FUNCTION notif_private.needs_events_before(p_child regclass, p_before uuid, p_since pg_snapshot DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN notif_private.needs_critical(p_child, p_before, p_since) OR notif_private.needs_standard(p_child, p_before, p_since)
		   OR notif_private.needs_bulk(p_child, p_before, p_since);
END
$$;
COMMENT ON FUNCTION notif_private.needs_events_before(regclass, uuid, pg_snapshot) IS
	'Whether any tier has an unrouted event in this partition of events (NULL: do not look), or open work on an event older than p_before; p_since: an earlier look found none as of then.';

CREATE FUNCTION notif_private.lock_exclusively(p_child regclass) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' AS $$
BEGIN
	FOR try IN 1 .. 20 LOOP
		BEGIN
			EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', p_child);
			RETURN;
		EXCEPTION WHEN lock_not_available THEN
			IF try = 20 THEN
				RAISE;
			END IF;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.lock_exclusively(regclass) IS
	'Locks a partition after work that would be lost without it: at most 20 times 5 ms, between which whoever wants to read it goes first. 55P03 if it cannot be had.';

CREATE FUNCTION notif_private.expire_partition(p_retention interval, p_now timestamptz, OUT parent text, OUT child text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' SET jit = off AS $$
DECLARE
	part	record;
	since	pg_snapshot;
BEGIN
	FOR part IN
		SELECT p.* FROM notif_private.range_partition p
		 WHERE NOT p.detaching AND p.parent IN ('event', 'outcome_standard', 'outcome_long', 'inbox')
		   AND p.upper_at < p_now
			   - notif_private.keep_for(CASE p.parent WHEN 'event' THEN 'events' WHEN 'inbox' THEN 'inbox'
													WHEN 'outcome_standard' THEN 'standard' ELSE 'long' END, p_retention)
		 ORDER BY p.lower_at
	LOOP
		-- An event that is kept, or open work on one, will yet write outcomes and
		-- inbox items of its time, be there any already or not.
		IF part.parent <> 'event'
		   AND (EXISTS (SELECT FROM notif_private.range_partition e
						 WHERE e.parent = 'event' AND NOT e.detaching AND e.lower_at < part.upper_at
						   AND pg_relation_size(e.child_oid) > 0)
				OR notif_private.needs_events_before(NULL, part.upper_id)) THEN
			CONTINUE;
		END IF;
		IF pg_relation_size(part.child_oid) > 0 THEN
			-- Looked at before it is locked, since it may take long, and behind the lock
			-- for what has come since.
			since := pg_current_snapshot();
			CONTINUE WHEN part.parent = 'event' AND notif_private.needs_events_before(part.child_oid, part.upper_id);
			-- not counted in vain while a dump, say, reads it
			CONTINUE WHEN part.parent LIKE 'outcome%' AND EXISTS (
				SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.relation = part.child_oid
					AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
					AND l.pid IS DISTINCT FROM pg_backend_pid());
			BEGIN
				IF part.parent LIKE 'outcome%' THEN
					-- Counted behind a lock for which no reader waits: claims read outcomes,
					-- and a week of them takes long to count.  Nothing writes there any more.
					EXECUTE format('LOCK TABLE notif_private.%I IN SHARE MODE', part.child);
					PERFORM notif_private.forget_outcomes_critical(part.child_oid);
					PERFORM notif_private.forget_outcomes_standard(part.child_oid);
					PERFORM notif_private.forget_outcomes_bulk(part.child_oid);
				END IF;
				PERFORM notif_private.lock_exclusively(part.child_oid);
				IF part.parent = 'event' AND notif_private.needs_events_before(part.child_oid, part.upper_id, since) THEN
					RAISE lock_not_available;	-- which lets it go
				END IF;
			EXCEPTION WHEN lock_not_available THEN
				CONTINUE;
			END;
			EXECUTE format('TRUNCATE notif_private.%I', part.child);
		END IF;
		parent := part.parent;
		child := part.child;
		RETURN;
	END LOOP;
	-- Days of the schedule that are over and empty.
	SELECT p.parent, p.child INTO parent, child FROM notif_private.range_partition p
	 WHERE NOT p.detaching AND p.parent LIKE 'schedule%' AND p.upper_at < p_now - interval '2 days'
	   AND pg_relation_size(p.child_oid) = 0
	 ORDER BY p.lower_at LIMIT 1;
END
$$;
COMMENT ON FUNCTION notif_private.expire_partition(interval, timestamptz) IS
	'Empties one partition that is past its retention and that nothing needs any more, under its own lock only, and names the empty shell to detach; NULL if there is none.';

-- Marks and cancellations are kept as long as what they are about.
CREATE FUNCTION notif_private.forget_marks() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
	items	uuid;
	events	uuid;
	oldest	timestamptz;
	n		integer;
	total	integer := 0;
BEGIN
	SELECT notif_private.uuid_at(min(p.lower_at) FILTER (WHERE p.parent = 'inbox')),
		   notif_private.uuid_at(min(p.lower_at) FILTER (WHERE p.parent = 'event')),
		   min(p.lower_at) FILTER (WHERE p.parent = 'event')
	  INTO items, events, oldest
	  FROM notif_private.range_partition p WHERE p.parent IN ('inbox', 'event');
	DELETE FROM notif_private.inbox_mark m
	 WHERE m.item IN (SELECT x.item FROM notif_private.inbox_mark x WHERE x.item < items ORDER BY x.item LIMIT 5000);
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	DELETE FROM notif_private.cancellation c
	 WHERE c.event IN (SELECT x.event FROM notif_private.cancellation x WHERE x.event < events
						-- the key of an event for later has no time; what was released for it before it
						-- was cancelled is gone with the partitions of that time
						AND (NOT x.schedule OR x.at < oldest - interval '1 day') ORDER BY x.event LIMIT 5000);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN total + n;
END
$$;
COMMENT ON FUNCTION notif_private.forget_marks() IS
	'Removes marks of inbox items and cancellations of events that retention has removed, some at a time; returns how many.';

-- Suspects are dead once the environment has proved right: enough other
-- addresses of the route were accepted since, and more were accepted than doubted.
CREATE FUNCTION notif_private.judge_quarantine() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n	integer;
BEGIN
	UPDATE notif_private.endpoint e
	   SET state = 'invalid', state_at = notif.now()
	  FROM (SELECT q.id
			  FROM (SELECT d.app_id, count(*) AS doubted FROM notif_private.endpoint d
					 WHERE d.state = 'quarantined' GROUP BY d.app_id) other
			  JOIN notif_private.app ON app.id = other.app_id
			 -- once per application, not once per endpoint
			 CROSS JOIN LATERAL (SELECT coalesce(sum(t.n), 0) AS accepted FROM notif_private.tally t
								  WHERE t.lane = app.route_id AND t.state = 'accepted' OFFSET 0) ok
			  JOIN notif_private.endpoint q ON q.app_id = other.app_id AND q.state = 'quarantined'
			 WHERE ok.accepted - q.quarantine_mark >= greatest(20, 3 * other.doubted)
			 ORDER BY q.id LIMIT 1000) v
	 WHERE e.id = v.id AND e.state = 'quarantined';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.judge_quarantine() IS
	'Turns quarantined endpoints invalid for which there is a quorum: at least 20 deliveries of the route accepted since, and three for each endpoint now in doubt. Without it a wrong environment would purge every token.';

-- Each step is short, and the worker gives each its own transaction: what it has
-- locked of the queues is free again before the next one looks.
CREATE FUNCTION notif_private.worker_upkeep(p_retention interval, p_step integer DEFAULT NULL,
											OUT did boolean, OUT next_due_ms integer,
											OUT detach_parent text, OUT detach_child text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	-- what the slots of a ring may hold before upkeep turns it
	ring_bytes	constant bigint := 33554432;
	step		integer;
	one			boolean;
	n			integer;
BEGIN
	did := false;
	FOR step IN coalesce(p_step, 1) .. coalesce(p_step, 16) LOOP
		-- Until a restored installation is confirmed its queues are evidence: only
		-- partitions are made for what is published meanwhile.
		EXIT WHEN step > 1 AND EXISTS (SELECT FROM notif_private.instance i
										WHERE i.waiting OR i.incarnation <> notif_private.current_incarnation());
		one := false;
		CASE step
		WHEN 1 THEN one := notif_private.make_partitions() > 0;
		WHEN 2 THEN one := notif_private.turn_rings_critical(ring_bytes);
		WHEN 3 THEN one := notif_private.turn_rings_standard(ring_bytes);
		WHEN 4 THEN one := notif_private.turn_rings_bulk(ring_bytes);
		WHEN 5 THEN one := notif_private.empty_schedule_critical();
		WHEN 6 THEN one := notif_private.empty_schedule_standard();
		WHEN 7 THEN one := notif_private.empty_schedule_bulk();
		WHEN 8 THEN one := notif_private.judge_quarantine() > 0;
		WHEN 9 THEN
			DELETE FROM notif_private.idempotency i
			 WHERE i.key IN (SELECT x.key FROM notif_private.idempotency x WHERE x.expires_at < notif.now()
							  ORDER BY x.expires_at LIMIT 1000);
			GET DIAGNOSTICS n = ROW_COUNT;
			one := n + notif_private.forget_totals() + notif_private.forget_duplicates() > 0;
			-- by then the last zone of what was under way is told, or it has expired
			DELETE FROM notif_private.zone_change z
			 WHERE z.id IN (SELECT x.id FROM notif_private.zone_change x WHERE x.at < notif.now() - interval '30 days'
							 ORDER BY x.at LIMIT 1000);
			GET DIAGNOSTICS n = ROW_COUNT;
			one := one OR n > 0;
		WHEN 10 THEN
			one := notif_private.unblock_critical() + notif_private.unblock_standard() + notif_private.unblock_bulk()
				   + notif_private.uncheck_critical() + notif_private.uncheck_standard() + notif_private.uncheck_bulk() > 0;
		WHEN 11 THEN
			SELECT x.parent, x.child INTO detach_parent, detach_child
			  FROM notif_private.expire_partition(p_retention, clock_timestamp()) x;
		WHEN 12 THEN
			one := notif_private.forget_digests(notif.now() - greatest(p_retention, interval '90 days'))
				   + notif_private.forget_breaker_log(notif.now() - greatest(p_retention, interval '90 days')) > 0;
		WHEN 13 THEN one := notif_private.settle_suppressions() > 0;
		WHEN 14 THEN one := notif_private.erase_some();
		WHEN 15 THEN one := notif_private.forget_marks() > 0;
		WHEN 16 THEN one := notif_private.settle_returns() > 0;
		END CASE;
		did := did OR one;
	END LOOP;
	next_due_ms := CASE WHEN did OR detach_child IS NOT NULL THEN 1000 ELSE 30000 END;
END
$$;
COMMENT ON FUNCTION notif_private.worker_upkeep(interval, integer) IS
	'Upkeep, one step (1 to 16) or all: partitions ahead of time, rings turned, schedule emptied, quarantine judged, expired idempotency keys, changes of zones long ago, old rows of shared limits and of duplicates, and blocks that are over removed, retention, digests and changes of breakers of long ago, suppressions settled, erasures, marks of what is gone, what rate limits get back. did: call again soon. detach_child: an empty partition for the worker to detach concurrently and drop.';

CREATE FUNCTION notif_private.worker_drop_shell(p_child text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
	empty	boolean;
BEGIN
	-- Only ever a table that upkeep has made, detached, and still empty.
	IF to_regclass('notif_private.' || quote_ident(p_child)) IS NULL
	   OR p_child !~ '^(event|outcome_standard|outcome_long|inbox|schedule_(critical|standard|bulk))_[0-9]{8}$'
	   OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = to_regclass('notif_private.' || quote_ident(p_child))) THEN
		RETURN false;
	END IF;
	EXECUTE format('LOCK TABLE notif_private.%I IN ACCESS EXCLUSIVE MODE', p_child);
	EXECUTE format('SELECT NOT EXISTS (SELECT FROM notif_private.%I)', p_child) INTO empty;
	IF NOT empty THEN
		RAISE WARNING USING MESSAGE = format('detached partition "%s" is not empty; it is kept', p_child),
			HINT = 'Attach it again or read it by hand before dropping it.';
		RETURN false;
	END IF;
	EXECUTE format('DROP TABLE notif_private.%I', p_child);
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.worker_drop_shell(text) IS
	'Drops a detached partition after looking into it once more.';

CREATE FUNCTION notif_private.worker_shells() RETURNS TABLE (parent text, child text, pending boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT p.parent, p.child, true FROM notif_private.range_partition p WHERE p.detaching
		UNION ALL
		SELECT NULL, c.relname::text, false FROM pg_class c
		 WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind = 'r'
		   AND c.relname ~ '^(event|outcome_standard|outcome_long|inbox|schedule_(critical|standard|bulk))_[0-9]{8}$'
		   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid);
END
$$;
COMMENT ON FUNCTION notif_private.worker_shells() IS
	'What a crash left between detach and drop: pending detaches to finalize, detached shells to drop.';
