-- The same again: a type's dedup_window is how long a recipient is not told of another
-- event of the type and its source.  Fanout asks before it writes anything; types
-- without a window cost nothing.

-- Fanout looks here whether there is any.
CREATE INDEX type_dedup ON notif_private.type (id) WHERE dedup_window IS NOT NULL;

-- The last event of each that was let through.  The hash of the source has 64 bits.
CREATE TABLE notif_private.dedup (
	recipient_id bigint NOT NULL,
	type_id		integer NOT NULL,
	source		bigint NOT NULL,		-- hash; 0: none
	event		uuid NOT NULL,
	at			timestamptz NOT NULL,	-- when it was published
	expires_at	timestamptz NOT NULL,
	PRIMARY KEY (recipient_id, type_id, source)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX dedup_expiry ON notif_private.dedup (expires_at);

-- Pairs in the order in which fanout unnests them: the events in theirs, and of each
-- its recipients in theirs.  Publishing times decide, not when the router comes to
-- them: what waited through an outage is judged as if it had not.  What was cancelled
-- told nobody, so it makes nothing a duplicate.
CREATE FUNCTION notif_private.duplicates(p_events uuid[], p_recipients bigint[], p_first uuid, p_last uuid,
										 OUT twice boolean[], OUT before integer[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	pair		record;
	nth			integer := 0;
	n_events	integer := 0;
	key			text;
	last_key	text := '';
	held		uuid;
	held_at		timestamptz;
	keep		uuid[] := '{}';
	keep_people	bigint[] := '{}';
BEGIN
	IF NOT EXISTS (SELECT FROM unnest(p_events) i(id)
					CROSS JOIN LATERAL (SELECT e.type_id FROM notif_private.event e WHERE e.id = i.id AND e.id >= p_first AND e.id <= p_last OFFSET 0) ev
					CROSS JOIN LATERAL (SELECT FROM notif_private.type t WHERE t.id = ev.type_id AND t.dedup_window IS NOT NULL OFFSET 0) ty) THEN
		RETURN;
	END IF;
	-- how many pairs there are before those of each event
	SELECT array_agg(x.n ORDER BY x.nth), max(x.n + x.many)
	  INTO before, nth
	  FROM (SELECT i.nth, coalesce(cardinality(coalesce(p_recipients, ev.recipients)), 0) AS many,
				   (coalesce(sum(coalesce(cardinality(coalesce(p_recipients, ev.recipients)), 0)) OVER (ORDER BY i.nth ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0))::integer AS n
			  FROM unnest(p_events) WITH ORDINALITY i(id, nth)
			  LEFT JOIN LATERAL (SELECT e.recipients FROM notif_private.event e WHERE e.id = i.id AND e.id >= p_first AND e.id <= p_last OFFSET 0) ev ON true) x;
	twice := array_fill(false, ARRAY[nth]);
	FOR pair IN
		SELECT ev.id AS event, ev.type_id, ev.source, ev.created_at, ty.dedup_window, a.recipient,
			   before[i.nth] + a.place AS nth, d.event AS held, d.at AS held_at
		  FROM unnest(p_events) WITH ORDINALITY i(id, nth)
		 CROSS JOIN LATERAL (
			SELECT e.id, e.type_id, e.recipients, e.zones, e.zones_as_of, e.created_at, coalesce(hashtextextended(e.source, 0), 0) AS source
			  FROM notif_private.event e
			 -- a digest that is told as its one item does not repeat it
			 WHERE e.id = i.id AND e.id >= p_first AND e.id <= p_last AND e.digest IS NULL OFFSET 0) ev
		 CROSS JOIN LATERAL (
			SELECT t.dedup_window FROM notif_private.type t WHERE t.id = ev.type_id AND t.dedup_window IS NOT NULL OFFSET 0) ty
		 CROSS JOIN LATERAL unnest(CASE WHEN ev.zones IS NULL THEN coalesce(p_recipients, ev.recipients)
										ELSE notif_private.people_in_zones(coalesce(p_recipients, ev.recipients), ev.zones, ev.zones_as_of)
								   END) WITH ORDINALITY a(recipient, place)
		  LEFT JOIN LATERAL (
			SELECT t.event, t.at FROM notif_private.dedup t
			 WHERE t.recipient_id = a.recipient AND t.type_id = ev.type_id AND t.source = ev.source
			   AND NOT EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event IN (t.event, notif_private.schedule_key(t.event))) OFFSET 0) d ON true
		  LEFT JOIN LATERAL (SELECT true AS yes FROM notif_private.cancellation c WHERE c.event IN (ev.id, notif_private.schedule_key(ev.id)) LIMIT 1) cancelled ON true
		 WHERE cancelled.yes IS NULL
		 ORDER BY a.recipient, ev.type_id, ev.source, ev.created_at, ev.id
	LOOP
		key := pair.recipient || ' ' || pair.type_id || ' ' || pair.source;
		IF key <> last_key THEN
			held := pair.held;
			held_at := pair.held_at;
			last_key := key;
		END IF;
		IF held <> pair.event AND pair.created_at < held_at + pair.dedup_window THEN
			twice[pair.nth] := true;
		ELSIF held IS DISTINCT FROM pair.event THEN
			held := pair.event;
			held_at := pair.created_at;
			keep := keep || pair.event;
			keep_people := keep_people || pair.recipient;
		END IF;
	END LOOP;
	INSERT INTO notif_private.dedup AS t (recipient_id, type_id, source, event, at, expires_at)
	SELECT DISTINCT ON (k.recipient, ev.type_id, ev.source) k.recipient, ev.type_id, ev.source, ev.id, ev.created_at,
		   ev.created_at + (SELECT y.dedup_window FROM notif_private.type y WHERE y.id = ev.type_id)
	  FROM unnest(keep, keep_people) k(event, recipient)
	 CROSS JOIN LATERAL (
		SELECT e.id, e.type_id, e.created_at, coalesce(hashtextextended(e.source, 0), 0) AS source
		  FROM notif_private.event e WHERE e.id = k.event AND e.id >= p_first AND e.id <= p_last OFFSET 0) ev
	 ORDER BY k.recipient, ev.type_id, ev.source, ev.created_at DESC, ev.id DESC
	ON CONFLICT ON CONSTRAINT dedup_pkey DO UPDATE
	   SET event = excluded.event, at = excluded.at, expires_at = excluded.expires_at;
END
$$;
COMMENT ON FUNCTION notif_private.duplicates(uuid[], bigint[], uuid, uuid) IS
	'Which pairs of event and recipient repeat within their type''s dedup_window what was let through, and notes those that do not. The pair of the i-th event and its k-th recipient is twice[before[i] + k]; both NULL if no type has a window. p_recipients NULL: each event''s own; p_first, p_last: bounds of the events.';

CREATE FUNCTION notif_private.forget_duplicates() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	n	integer;
BEGIN
	DELETE FROM notif_private.dedup t
	 WHERE (t.recipient_id, t.type_id, t.source) IN (
			SELECT x.recipient_id, x.type_id, x.source FROM notif_private.dedup x
			 WHERE x.expires_at < notif.now() - interval '1 hour' ORDER BY x.expires_at LIMIT 5000)
	   AND t.expires_at < notif.now() - interval '1 hour';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.forget_duplicates() IS
	'Removes up to 5000 notes of what was told whose window ended more than an hour ago; returns how many. Events that are routed later than that repeat nothing any more.';
