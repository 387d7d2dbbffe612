-- Partitions: made apart with their keys, then attached.  ATTACH takes no lock
-- that a publisher or reader waits for, since no parent has a default partition.

CREATE FUNCTION notif_private.attach_range(p_parent text, p_child text, p_from text, p_to text, p_keys text[])
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key	text;
BEGIN
	EXECUTE format('CREATE TABLE notif_private.%I (LIKE notif_private.%I INCLUDING DEFAULTS)', p_child, p_parent);
	FOREACH key IN ARRAY p_keys LOOP
		EXECUTE format(key, p_child);
	END LOOP;
	EXECUTE format('ALTER TABLE notif_private.%I SET (autovacuum_vacuum_insert_threshold = -1)', p_child);
	EXECUTE format('ALTER TABLE notif_private.%I ATTACH PARTITION notif_private.%I FOR VALUES FROM (%L) TO (%L)',
				   p_parent, p_child, p_from, p_to);
END
$$;
COMMENT ON FUNCTION notif_private.attach_range(text, text, text, text, text[]) IS
	'Makes one range partition with its keys (statements with %1$I for its name) and attaches it.';

-- What a range parent is cut into, and how far ahead.
CREATE FUNCTION notif_private.range_plan(OUT parent text, OUT step interval, OUT behind interval, OUT ahead interval,
										 OUT by_uuid boolean, OUT keys text[])
	RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY VALUES
		('event', interval '1 day', interval '1 day', interval '4 days', true, ARRAY[
			'ALTER TABLE notif_private.%1$I ADD PRIMARY KEY (id)',
			'CREATE INDEX ON notif_private.%1$I (tier, incarnation, xid, id)',
			'CREATE INDEX ON notif_private.%1$I (correlation_id) WHERE correlation_id IS NOT NULL',
			'CREATE INDEX ON notif_private.%1$I (parent, id) WHERE parent IS NOT NULL']),
		('outcome_standard', '7 days', '1 day', '7 days', true, ARRAY[
			'ALTER TABLE notif_private.%1$I ADD PRIMARY KEY (delivery, attempt)',
			'CREATE INDEX ON notif_private.%1$I (event)']),
		-- seven years in 15 partitions, where months would be 84
		('outcome_long', '6 months', '1 day', '1 month', true, ARRAY[
			'ALTER TABLE notif_private.%1$I ADD PRIMARY KEY (delivery, attempt)',
			'CREATE INDEX ON notif_private.%1$I (event)']),
		('inbox', '1 month', '1 day', '1 month', true, ARRAY[
			'ALTER TABLE notif_private.%1$I ADD PRIMARY KEY (recipient, id)']);
	RETURN QUERY SELECT 'schedule_' || t.name, interval '1 day', interval '1 day', interval '7 days', false, ARRAY[
			'CREATE INDEX ON notif_private.%1$I (lane, due_at, ord, delivery)',
			'CREATE INDEX ON notif_private.%1$I (endpoint, collapse, ord) WHERE collapse IS NOT NULL']
		FROM (VALUES ('critical'), ('standard'), ('bulk')) t(name);
END
$$;
COMMENT ON FUNCTION notif_private.range_plan() IS
	'The range-partitioned parents: width of a partition, how far behind and ahead of today they reach, their keys.';

CREATE FUNCTION notif_private.period_start(p_at timestamptz, p_step interval) RETURNS timestamptz
	LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
	RETURN CASE p_step WHEN interval '1 month' THEN date_trunc('month', p_at)
					   WHEN interval '6 months' THEN date_trunc('year', p_at)
							+ CASE WHEN extract(month FROM p_at) > 6 THEN interval '6 months' ELSE interval '0' END
					   WHEN interval '7 days' THEN date_trunc('week', p_at)
					   ELSE date_trunc('day', p_at) END;
END
$$;
COMMENT ON FUNCTION notif_private.period_start(timestamptz, interval) IS
	'The start of the partition that a moment falls into, in UTC.';

CREATE FUNCTION notif_private.make_partitions() RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
	plan	record;
	lower	timestamptz;
	child	text;
	made	integer := 0;
BEGIN
	-- One at a time: the first publishes of a new database may meet here.
	PERFORM pg_advisory_xact_lock('notif_private.event'::regclass::oid::integer, 1);
	FOR plan IN SELECT * FROM notif_private.range_plan() LOOP
		lower := notif_private.period_start(clock_timestamp() - plan.behind, plan.step);
		WHILE lower <= clock_timestamp() + plan.ahead LOOP
			child := plan.parent || '_' || to_char(lower, 'YYYYMMDD');
			IF to_regclass('notif_private.' || quote_ident(child)) IS NULL THEN
				PERFORM notif_private.attach_range(plan.parent, child,
					CASE WHEN plan.by_uuid THEN notif_private.uuid_at(lower)::text ELSE lower::text END,
					CASE WHEN plan.by_uuid THEN notif_private.uuid_at(lower + plan.step)::text
						 ELSE (lower + plan.step)::text END,
					plan.keys);
				made := made + 1;
			END IF;
			lower := lower + plan.step;
		END LOOP;
	END LOOP;
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif_private.make_partitions() IS
	'Makes what partitions are missing up to the planned time ahead; returns how many. Called by upkeep, and by a publish that finds none.';

-- The range partitions that exist; their bounds as UUIDs where they are cut by
-- UUIDv7, and as times always.
CREATE VIEW notif_private.range_partition AS
	SELECT b.parent, b.child, b.child_oid, b.detaching,
		   CASE WHEN b.by_uuid THEN b.upper_text::uuid END AS upper_id,
		   CASE WHEN b.by_uuid THEN notif_private.uuid_time(b.lower_text::uuid) ELSE b.lower_text::timestamptz END AS lower_at,
		   CASE WHEN b.by_uuid THEN notif_private.uuid_time(b.upper_text::uuid) ELSE b.upper_text::timestamptz END AS upper_at
	FROM (SELECT p.relname::text AS parent, c.relname::text AS child, c.oid AS child_oid, i.inhdetachpending AS detaching,
				 a.atttypid OPERATOR(pg_catalog.=) 'pg_catalog.uuid'::pg_catalog.regtype AS by_uuid,
				 pg_catalog.substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']*)''\)') AS lower_text,
				 pg_catalog.substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']*)''\)') AS upper_text
		  FROM pg_catalog.pg_inherits i
		  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
		  JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) i.inhparent
		  JOIN pg_catalog.pg_partitioned_table t ON t.partrelid OPERATOR(pg_catalog.=) p.oid
			   AND t.partstrat OPERATOR(pg_catalog.=) 'r'
		  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) p.oid
			   AND a.attnum OPERATOR(pg_catalog.=) t.partattrs[0]
		  WHERE p.relnamespace OPERATOR(pg_catalog.=) 'notif_private'::pg_catalog.regnamespace
		  -- a fence: no condition on a bound is tried on rows that the joins drop
		  OFFSET 0) b;

CREATE FUNCTION notif_private.schedule_part(parent regclass, due_at timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'notif_schedule_part';
COMMENT ON FUNCTION notif_private.schedule_part(regclass, timestamptz) IS
	'A due time clamped into the partitions that a schedule has: an insert never fails for want of one. 55000 if there are none at all.';
