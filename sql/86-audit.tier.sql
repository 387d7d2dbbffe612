-- A recount of tier @TIER@ from the rows themselves.

CREATE FUNCTION notif_private.recount_@TIER@() RETURNS TABLE (state notif_private.tally_state, n bigint)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	-- One statement, one snapshot.
	RETURN QUERY
	WITH waiting AS (
		SELECT count(*) AS n
		  FROM notif_private.outbox_@TIER@ o
		  LEFT JOIN (SELECT DISTINCT ON (c.lane) c.lane, c.s_from, c.s_to, c.xid, c.place
					   FROM notif_private.cursor_@TIER@ c WHERE c.role = 2 ORDER BY c.lane, c.seq DESC) c ON c.lane = o.lane
		 -- what an older incarnation had open has been filed again
		 WHERE o.incarnation = (SELECT coalesce(max(i.incarnation), 1) FROM notif_private.instance i)
		   AND NOT notif_private.passed(o.xid, o.ord, c.s_from, c.s_to, c.xid, c.place)
	), later AS (
		SELECT count(*) AS n
		  FROM notif_private.schedule_@TIER@ s
		  LEFT JOIN (SELECT DISTINCT ON (c.lane) c.lane, c.due, c.place, c.id
					   FROM notif_private.cursor_@TIER@ c WHERE c.role = 3 ORDER BY c.lane, c.seq DESC) c ON c.lane = s.lane
		 WHERE NOT notif_private.passed(s.due_at, s.ord, s.delivery, c.due, c.place, c.id)
	), flying AS (
		SELECT count(*) AS n
		  FROM notif_private.flight_@TIER@ f CROSS JOIN LATERAL unnest(f.attempts) a
		 WHERE NOT f.closed
		   AND NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ c
							WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed)
		   AND NOT EXISTS (SELECT FROM notif_private.outcome o WHERE o.delivery = a.delivery AND o.attempt = a.attempt)
	), decided AS (
		SELECT o.state::text::notif_private.tally_state AS state, count(*) AS n
		  FROM notif_private.outcome o WHERE o.tier = @TIERNO@ AND o.terminal GROUP BY o.state
	)
	SELECT 'open'::notif_private.tally_state, w.n + l.n FROM waiting w CROSS JOIN later l
	UNION ALL SELECT 'in_flight', f.n FROM flying f
	UNION ALL SELECT 'scheduled', count(*) FROM notif_private.appointment_@TIER@ a WHERE NOT a.look HAVING count(*) > 0
	UNION ALL SELECT d.state, d.n FROM decided d
	UNION ALL SELECT 'expanded', w.n + l.n + f.n + coalesce((SELECT sum(d.n) FROM decided d), 0)::bigint
				FROM waiting w CROSS JOIN later l CROSS JOIN flying f;
END
$$;
COMMENT ON FUNCTION notif_private.recount_@TIER@() IS
	'Counts every delivery of the tier in its state from queues, flights and outcomes. Reads them all: seconds per million rows.';
