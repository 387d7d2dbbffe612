-- A person's right to be forgotten (GDPR Art. 17).
--
-- notif.erase_recipient removes at once what belongs to the person: recipient, endpoints,
-- profile, what was chosen and agreed to, the inbox.  Whatever of his is queued or in a
-- worker's hands is stopped by that: every gate asks for the recipient.  What is left are
-- rows of the ledger that name his number, and events for him with their data.  They have
-- no index by recipient, which the hot path would pay for, so upkeep looks for them in
-- runs over the whole ledger, for all that wait at a time, some at each of its turns.
--
-- A run begins when every transaction has ended that may have known the person.  What it
-- finds it changes in place: an UPDATE keeps the row's place in its window, so the reader
-- sees it once, before or after.  A later run that finds nothing, and no open flight, is
-- the proof, and the erasure is complete; one that found something is followed by another.
-- Verdicts stay, without a name: the tally agrees before and after.

CREATE TABLE notif_private.erasure (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ref_hash	bytea NOT NULL,		-- keyed_hash()
	recipient_id bigint,			-- NULL once it is complete, as are the next two
	endpoints	bigint[],
	since		timestamptz,		-- nothing in the ledger of before can be about him
	requested_at timestamptz NOT NULL,
	requested_by name NOT NULL,
	why			text,
	xid			xid8 NOT NULL,		-- of its last change
	runs		integer NOT NULL DEFAULT 0,
	counts		jsonb NOT NULL DEFAULT '{}',	-- rows removed or changed
	completed_at timestamptz
);
CREATE INDEX erasure_open ON notif_private.erasure (id) WHERE completed_at IS NULL;

-- The run that is under way.
CREATE TABLE notif_private.erasure_run (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	people		bigint[] NOT NULL,
	endpoints	bigint[] NOT NULL,
	since		timestamptz NOT NULL,
	again		boolean NOT NULL,	-- none of them is here for the first time
	place		text NOT NULL DEFAULT '',	-- the last relation that is done
	part		text,				-- the relation of which a part is done
	reached		timestamptz,		-- up to this time
	found		bigint NOT NULL DEFAULT 0
);

CREATE FUNCTION notif_private.nobody() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN -1 - (random() * 4611686018427387904)::bigint;
END
$$;
COMMENT ON FUNCTION notif_private.nobody() IS
	'A number that is no recipient''s and says nothing of the one it replaces: another one at each call, since an event tells its recipients apart.';

CREATE FUNCTION notif_private.note_erased(what text, people bigint[]) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE notif_private.erasure e
	   SET counts = e.counts || jsonb_build_object(what, coalesce((e.counts ->> what)::bigint, 0) + p.n)
	  FROM (SELECT u.id, count(*) AS n FROM unnest(people) u(id) GROUP BY u.id) p
	 WHERE e.recipient_id = p.id AND e.completed_at IS NULL;
	RETURN coalesce(cardinality(people), 0);
END
$$;
COMMENT ON FUNCTION notif_private.note_erased(text, bigint[]) IS
	'Adds to the counts of open erasures what was found of whom, one element for each row; returns how many.';

-- Every table that has a row or rows for each person, found in the catalog, so that none
-- is forgotten that comes later.  Rings and the ledger are partitioned and not among them.
CREATE FUNCTION notif_private.personal_tables() RETURNS TABLE (rel text, col text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT c.relname::text, a.attname::text
	  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname IN ('recipient_id', 'recipient') AND NOT a.attisdropped
	 WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
	   AND a.atttypid = 'bigint'::regtype AND c.relname <> 'erasure'
	   AND c.relname !~ '^(event|outcome_standard|outcome_long|inbox|schedule_(critical|standard|bulk))_[0-9]{8}$'
	 UNION ALL
	SELECT 'recipient', 'id' UNION ALL SELECT 'inbox', 'recipient'
	 -- the profile's lock is held by whoever changes anything
	 ORDER BY 1;
END
$$;
COMMENT ON FUNCTION notif_private.personal_tables() IS
	'The tables that hold rows of single recipients, and the column with their number.';

CREATE FUNCTION notif_private.erase_rows(people bigint[], its_endpoints bigint[]) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
	one		record;
	hit		bigint[];
	n		bigint := 0;
BEGIN
	DELETE FROM notif_private.blocked_critical b WHERE b.endpoint = ANY (its_endpoints);
	DELETE FROM notif_private.blocked_standard b WHERE b.endpoint = ANY (its_endpoints);
	DELETE FROM notif_private.blocked_bulk b WHERE b.endpoint = ANY (its_endpoints);
	FOR one IN SELECT * FROM notif_private.personal_tables() LOOP
		EXECUTE format('WITH gone AS (DELETE FROM notif_private.%1$I t WHERE t.%2$I = ANY ($1) RETURNING t.%2$I AS id)
						SELECT array_agg(g.id) FROM gone g', one.rel, one.col) INTO hit USING people;
		n := n + notif_private.note_erased(one.rel, hit);
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.erase_rows(bigint[], bigint[]) IS
	'Deletes the rows of recipients from all tables that are by recipient; returns how many.';

CREATE FUNCTION notif.erase_recipient(ref text, why text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(erase_recipient.ref);
	made	bigint;
BEGIN
	IF octet_length(erase_recipient.why) > 1000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'why is too long',
			DETAIL = format('It has %s bytes; up to 1000 are kept.', octet_length(erase_recipient.why)),
			HINT = 'Name the request, like ''ticket 4711'', and nothing about the person: it is kept.';
	END IF;
	PERFORM notif_private.lock_profile(who);
	INSERT INTO notif_private.erasure AS e (ref_hash, recipient_id, endpoints, since, requested_at, requested_by, why, xid)
	SELECT notif_private.keyed_hash(r.ref), r.id,
		   ARRAY(SELECT p.id FROM notif_private.endpoint p WHERE p.recipient_id = r.id ORDER BY p.id),
		   -- the time of ids, which no test shifts
		   r.created_at - greatest(notif_private.clock_offset(), 0) * interval '1 microsecond' - interval '1 day',
		   notif.now(), SESSION_USER, erase_recipient.why, pg_current_xact_id()
	  FROM notif_private.recipient r WHERE r.id = who FOR UPDATE
	RETURNING e.id INTO made;
	IF made IS NULL THEN
		-- somebody else was first
		PERFORM notif_private.recipient_id(erase_recipient.ref);
	END IF;
	PERFORM notif_private.hold_unsent(who);
	PERFORM notif_private.erase_rows(ARRAY[who], (SELECT e.endpoints FROM notif_private.erasure e WHERE e.id = made));
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif.erase_recipient(text, text) IS
$$Erases a recipient (GDPR Art. 17); returns the number of the erasure. From the commit on nothing is sent to him, and recipient, endpoints, preferences, mutes, quiet hours, the log of consent, subscriptions, rate and the inbox are gone. Upkeep then takes him out of events, queues, flights and outcomes: events for him alone lose their data, source, thread and keys, others his number; outcomes stay without recipient, endpoint and the provider's id. notif.erasures shows when that is complete, which takes minutes or, with much in the ledger or a transaction that stays open, longer.
The suppression list keeps hashes of his addresses if they are on it. Not searched: the data of events that have other recipients too, and what an application wrote about him into sources, threads or correlation ids of those; they go with the events.
why: kept with the proof; say nothing about the person in it.
Errors: 42704 unknown recipient, 22023 why is too long.
Example: SELECT notif.erase_recipient('customer-17', why => 'ticket 4711');$$;

-- ---- upkeep -----------------------------------------------------------------

-- What a run goes through, in order.  Keys of publishes are found through their events,
-- so they come before these.
CREATE FUNCTION notif_private.erasure_places(since timestamptz, again boolean)
	RETURNS TABLE (place text, kind text, rel regclass, lower_at timestamptz, upper_at timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	oldest	timestamptz := (SELECT min(p.lower_at) FROM notif_private.range_partition p WHERE p.parent = 'event');
BEGIN
	RETURN QUERY
	SELECT '1 rows', 'rows', NULL::regclass, NULL::timestamptz, NULL::timestamptz
	 UNION ALL
	SELECT '2 idempotency', 'idempotency', NULL, NULL, NULL
	 UNION ALL
	-- before the events that are released from them
	SELECT '2 ' || c.relname, 'appointment', c.oid::regclass, NULL, NULL
	  FROM pg_class c WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^appointment_'
	 UNION ALL
	SELECT '3 ' || p.child, 'event', p.child_oid::regclass, p.lower_at, p.upper_at
	  FROM notif_private.range_partition p
	 WHERE p.parent = 'event' AND NOT p.detaching AND p.upper_at > erasure_places.since
	 UNION ALL
	SELECT '4 ' || c.relname, CASE WHEN p.relname LIKE 'flight%' THEN 'flight' ELSE 'queue' END, c.oid::regclass, NULL, NULL
	  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
	 WHERE p.relnamespace = 'notif_private'::regnamespace AND p.relname ~ '^(outbox|schedule|flight)_' AND NOT i.inhdetachpending
	 UNION ALL
	-- outcomes are written for events that are kept: older ones were seen by the first run
	SELECT '5 ' || p.child, 'outcome', p.child_oid::regclass, p.lower_at, p.upper_at
	  FROM notif_private.range_partition p
	 WHERE p.parent IN ('outcome_standard', 'outcome_long') AND NOT p.detaching AND p.upper_at > erasure_places.since
	   AND (NOT erasure_places.again OR p.upper_at > oldest)
	 ORDER BY 1;
END
$$;
COMMENT ON FUNCTION notif_private.erasure_places(timestamptz, boolean) IS
	'The relations that a run of erasures goes through: those that may have rows of after since; again: without those in which nothing can have appeared since the first run.';

CREATE FUNCTION notif_private.erase_in(kind text, rel regclass, people bigint[], its_endpoints bigint[],
									   from_at timestamptz, to_at timestamptz) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_variable
DECLARE
	hit		bigint[];
	open	bigint := 0;
BEGIN
	CASE kind
	WHEN 'rows' THEN
		RETURN notif_private.erase_rows(people, its_endpoints);
	WHEN 'idempotency' THEN
		WITH gone AS (
			DELETE FROM notif_private.idempotency i USING notif_private.event e
			 WHERE e.id = i.event AND e.recipients && people
			   AND NOT EXISTS (SELECT FROM unnest(e.recipients) r WHERE r > 0 AND r <> ALL (people))
			RETURNING e.recipients
		)
		SELECT array_agg(r) INTO hit FROM gone g CROSS JOIN unnest(g.recipients) r WHERE r = ANY (people);
	WHEN 'event' THEN
		-- Positions in the list are what an expansion remembers: they stay.
		EXECUTE format('WITH done AS (
			UPDATE %1$s e
			   SET recipients = ARRAY(SELECT CASE WHEN u.r = ANY ($1) THEN notif_private.nobody() ELSE u.r END
										FROM unnest(e.recipients) WITH ORDINALITY u(r, n) ORDER BY u.n),
				   data = CASE WHEN h.alone AND e.kind IN (0, 2) THEN ''{}'' ELSE e.data END,
				   correlation_id = CASE WHEN NOT h.alone THEN e.correlation_id END,
				   collapse_key = CASE WHEN NOT h.alone THEN e.collapse_key END,
				   source = CASE WHEN NOT h.alone THEN e.source END, thread = CASE WHEN NOT h.alone THEN e.thread END,
				   send_if = CASE WHEN NOT h.alone THEN e.send_if END
			  FROM (SELECT x.ctid AS at, ARRAY(SELECT u.r FROM unnest(x.recipients) u(r) WHERE u.r = ANY ($1)) AS his,
						   -- those who have been erased are below 0
						   NOT EXISTS (SELECT FROM unnest(x.recipients) u(r) WHERE u.r > 0 AND u.r <> ALL ($1)) AS alone
					  FROM %1$s x WHERE x.recipients && $1 AND x.id >= $2 AND x.id < $3 OFFSET 0) h
			 WHERE e.ctid = h.at
			RETURNING h.his)
			SELECT array_agg(u.r) FROM done d CROSS JOIN unnest(d.his) u(r)', rel)
			INTO hit USING people, notif_private.uuid_at(from_at), notif_private.uuid_at(to_at);
	WHEN 'appointment' THEN
		-- Released, they find nobody: the verdict says that they were there.
		EXECUTE format('WITH done AS (
			UPDATE %1$s a
			   SET recipients = ARRAY(SELECT CASE WHEN u.r = ANY ($1) THEN notif_private.nobody() ELSE u.r END
										FROM unnest(a.recipients) WITH ORDINALITY u(r, n) ORDER BY u.n),
				   data = CASE WHEN h.alone THEN ''{}'' ELSE a.data END,
				   correlation_id = CASE WHEN NOT h.alone THEN a.correlation_id END,
				   collapse_key = CASE WHEN NOT h.alone THEN a.collapse_key END,
				   source = CASE WHEN NOT h.alone THEN a.source END, thread = CASE WHEN NOT h.alone THEN a.thread END,
				   send_if = CASE WHEN NOT h.alone THEN a.send_if END
			  FROM (SELECT x.due_at, x.id, ARRAY(SELECT u.r FROM unnest(x.recipients) u(r) WHERE u.r = ANY ($1)) AS his,
						   NOT EXISTS (SELECT FROM unnest(x.recipients) u(r) WHERE u.r > 0 AND u.r <> ALL ($1)) AS alone
					  FROM %1$s x WHERE x.recipients && $1 OFFSET 0) h
			 WHERE a.due_at = h.due_at AND a.id = h.id
			RETURNING h.his)
			SELECT array_agg(u.r) FROM done d CROSS JOIN unnest(d.his) u(r)', rel) INTO hit USING people;
	WHEN 'queue' THEN
		EXECUTE format('WITH done AS (
			UPDATE %1$s o SET recipient = 0, endpoint = 0, collapse = NULL, subject = NULL
			  FROM (SELECT x.ctid AS at, x.recipient AS his FROM %1$s x WHERE x.recipient = ANY ($1) OFFSET 0) h
			 WHERE o.ctid = h.at
			RETURNING h.his)
			SELECT array_agg(d.his) FROM done d', rel) INTO hit USING people;
	WHEN 'flight' THEN
		-- One that is open is a dispatcher's: it will close it, and the next run will see.
		EXECUTE format('WITH done AS (
			UPDATE %1$s f SET attempts = NULL
			  FROM (SELECT x.ctid AS at, ARRAY(SELECT a.recipient FROM unnest(x.attempts) a WHERE a.recipient = ANY ($1)) AS his
					  FROM %1$s x
					 WHERE EXISTS (SELECT FROM unnest(x.attempts) a WHERE a.recipient = ANY ($1))
					   AND EXISTS (SELECT FROM notif_private.%2$I c WHERE c.worker = x.worker AND c.flight = x.flight AND c.closed) OFFSET 0) h
			 WHERE f.ctid = h.at
			RETURNING h.his)
			SELECT array_agg(u.r) FROM done d CROSS JOIN unnest(d.his) u(r)',
			rel, (SELECT p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = rel))
			INTO hit USING people;
		EXECUTE format('SELECT count(*) FROM %s x WHERE EXISTS (SELECT FROM unnest(x.attempts) a WHERE a.recipient = ANY ($1))', rel)
			INTO open USING people;
	WHEN 'outcome' THEN
		EXECUTE format('WITH done AS (
			UPDATE %1$s o SET recipient = NULL, endpoint = NULL, provider_ref = NULL
			  FROM (SELECT x.ctid AS at, x.recipient AS his FROM %1$s x
					 WHERE x.recipient = ANY ($1) AND x.delivery >= $2 AND x.delivery < $3 OFFSET 0) h
			 WHERE o.ctid = h.at
			RETURNING h.his)
			SELECT array_agg(d.his) FROM done d', rel)
			INTO hit USING people, notif_private.uuid_at(from_at), notif_private.uuid_at(to_at);
	END CASE;
	RETURN notif_private.note_erased(kind, hit) + open;
END
$$;
COMMENT ON FUNCTION notif_private.erase_in(text, regclass, bigint[], bigint[], timestamptz, timestamptz) IS
	'Takes people out of one relation, or out of the part of it that lies between two times; returns how many rows were found, open flights included.';

-- Some of a run; each turn of upkeep does for as long as p_budget.
CREATE FUNCTION notif_private.erase_some(p_budget interval DEFAULT '200 ms', p_slice bigint DEFAULT 67108864) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	started	constant timestamptz := clock_timestamp();
	run		notif_private.erasure_run;
	at		record;
	upto	timestamptz;
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.erasure e WHERE e.completed_at IS NULL) THEN
		RETURN false;
	END IF;
	SELECT * INTO run FROM notif_private.erasure_run;
	IF NOT FOUND THEN
		INSERT INTO notif_private.erasure_run AS r (people, endpoints, since, again)
		SELECT array_agg(e.recipient_id), ARRAY(SELECT unnest(x.endpoints) FROM notif_private.erasure x WHERE x.id = ANY (array_agg(e.id))),
			   min(e.since), min(e.runs) > 0
		  FROM (SELECT w.* FROM notif_private.erasure w
				 WHERE w.completed_at IS NULL
				   -- whoever knew the person or read him has ended; an id of another system says nothing
				   AND (w.xid < pg_snapshot_xmin(pg_current_snapshot()) OR w.xid > pg_current_xact_id())
				 ORDER BY w.id LIMIT 200) e
		HAVING count(*) > 0
		RETURNING r.* INTO run;
		IF NOT FOUND THEN
			RETURN false;
		END IF;
	END IF;
	LOOP
		SELECT p.* INTO at FROM notif_private.erasure_places(run.since, run.again) p
		 WHERE p.place > run.place ORDER BY p.place LIMIT 1;
		EXIT WHEN NOT FOUND;
		-- A large partition in parts, so that no transaction takes long.
		IF run.part IS DISTINCT FROM at.place THEN
			run.part := at.place;
			run.reached := at.lower_at;
		END IF;
		upto := CASE WHEN at.lower_at IS NOT NULL
					 THEN least(at.upper_at, run.reached + (at.upper_at - at.lower_at) / (1 + pg_table_size(at.rel) / p_slice)) END;
		run.found := run.found + notif_private.erase_in(at.kind, at.rel, run.people, run.endpoints, run.reached, upto);
		IF upto < at.upper_at THEN
			run.reached := upto;
		ELSE
			run.place := at.place;
		END IF;
		IF clock_timestamp() - started > p_budget THEN
			UPDATE notif_private.erasure_run SET place = run.place, part = run.part, reached = run.reached, found = run.found;
			RETURN true;
		END IF;
	END LOOP;
	DELETE FROM notif_private.erasure_run;
	-- The first run may have had company that read the person before he was erased; the
	-- next one begins when all that has ended.
	UPDATE notif_private.erasure e
	   SET runs = e.runs + 1, xid = pg_current_xact_id(), completed_at = CASE WHEN d.done THEN notif.now() END,
		   recipient_id = CASE WHEN NOT d.done THEN e.recipient_id END,
		   endpoints = CASE WHEN NOT d.done THEN e.endpoints END, since = CASE WHEN NOT d.done THEN e.since END
	  FROM (SELECT x.id, run.found = 0 AND x.runs > 0 AS done FROM notif_private.erasure x
			 WHERE x.completed_at IS NULL AND x.recipient_id = ANY (run.people)) d
	 WHERE e.id = d.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.erase_some(interval, bigint) IS
	'Goes on with the run of erasures that is under way, or begins one, for as long as p_budget and in parts of about p_slice bytes; whether there was anything to do. Called by upkeep.';

CREATE VIEW notif.erasures AS
	SELECT e.id, encode(e.ref_hash, 'hex') AS ref_hash, e.requested_at, e.requested_by, e.why,
		   CASE WHEN e.completed_at IS NOT NULL THEN 'complete'
				WHEN EXISTS (SELECT FROM notif_private.erasure_run r WHERE e.recipient_id = ANY (r.people)) THEN 'searching'
				ELSE 'waiting' END AS state,
		   e.runs, e.counts, e.completed_at
	FROM notif_private.erasure e;
COMMENT ON VIEW notif.erasures IS
	'Erasures as notif.erase_recipient was asked for them: the proof that is kept. state: waiting (for transactions of that time, or its turn), searching (the ledger), complete (a search found nothing of him any more). counts: rows removed or changed, by table. ref_hash: keyed by this installation, see notif.find_erasures.';

CREATE FUNCTION notif.find_erasures(ref text)
	RETURNS TABLE (id bigint, requested_at timestamptz, completed_at timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	hash	bytea := notif_private.keyed_hash(find_erasures.ref);
BEGIN
	RETURN QUERY
	SELECT e.id, e.requested_at, e.completed_at FROM notif_private.erasure e WHERE e.ref_hash = hash ORDER BY e.id;
END
$$;
COMMENT ON FUNCTION notif.find_erasures(text) IS
$$The erasures of whoever had that ref, for an answer to the question whether somebody was erased; notif.erasures has the rest.
Example: SELECT id, requested_at, completed_at FROM notif.find_erasures('customer-17');$$;
