-- What waits and what flies in tier @TIER@, read from the queues themselves: for
-- views, traces and health.  The workers never read these.

-- Attempts that are due later, or due and not yet claimed.
CREATE VIEW notif_private.scheduled_@TIER@ AS
	SELECT r.route_id AS lane, s.due_at, s.delivery, s.attempt, s.tries, s.event, s.type_id, s.recipient, s.endpoint, s.expires_at,
		   r.id OPERATOR(pg_catalog.<) 0 AS parked
	FROM notif_private.schedule_lane r
	LEFT JOIN LATERAL (
		SELECT q.due, q.place, q.id FROM notif_private.cursor_@TIER@ q
		WHERE q.role = 3 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
		ORDER BY q.seq DESC LIMIT 1) c ON true
	CROSS JOIN LATERAL (
		SELECT x.* FROM notif_private.schedule_@TIER@ x
		WHERE x.lane = r.id AND (x.due_at, x.ord, x.delivery) >
			(coalesce(c.due, '-infinity'), coalesce(c.place, 0), coalesce(c.id, '00000000-0000-0000-0000-000000000000'))) s;

-- Attempts of flights that are not closed, without a verdict yet.
CREATE VIEW notif_private.flying_@TIER@ AS
	SELECT f.lane, f.worker, f.flight, f.at, a.delivery, a.attempt, a.tries, a.event, a.type_id, a.recipient, a.endpoint,
		   a.expires_at
	FROM notif_private.flight_@TIER@ f
	CROSS JOIN LATERAL unnest(f.attempts) a
	WHERE NOT f.closed
	  AND NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ c
					  WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed)
	  AND NOT EXISTS (SELECT FROM notif_private.outcome o
					  WHERE o.delivery = a.delivery AND o.attempt = a.attempt);

-- Rows of the outbox that are neither decided nor flying.
CREATE VIEW notif_private.queued_@TIER@ AS
	SELECT b.lane, b.delivery, b.attempt, b.tries, b.event, b.type_id, b.recipient, b.endpoint, b.expires_at
	FROM notif_private.outbox_@TIER@ b
	WHERE NOT EXISTS (SELECT FROM notif_private.outcome o
					  WHERE o.delivery = b.delivery AND o.attempt = b.attempt)
	  AND NOT EXISTS (SELECT FROM notif_private.flying_@TIER@ f
					  WHERE f.delivery = b.delivery AND f.attempt = b.attempt)
	  AND NOT EXISTS (SELECT FROM notif_private.schedule_@TIER@ s
					  WHERE s.lane = b.lane AND s.delivery = b.delivery AND s.attempt = b.attempt);

-- The oldest event that the router has not read and the oldest attempt that no
-- dispatcher has: one index probe each, however long the queues are.
CREATE VIEW notif_private.lag_@TIER@ AS
	SELECT 'router'::text AS reader, NULL::integer AS lane, e.since
	FROM (SELECT 1) one
	LEFT JOIN LATERAL (
		SELECT q.s_from, q.s_to, q.xid, q.id FROM notif_private.cursor_@TIER@ q
		WHERE q.role = 0 AND q.lane = 0 AND q.key = '00000000-0000-0000-0000-000000000000'
		ORDER BY q.seq DESC LIMIT 1) c ON true
	CROSS JOIN LATERAL (
		SELECT v.created_at AS since FROM notif_private.event v
		WHERE v.tier = @TIERNO@ AND v.incarnation = notif_private.current_incarnation()
		  AND v.xid >= coalesce(pg_snapshot_xmin(c.s_from), '0'::xid8)
		  AND NOT notif_private.passed(v.xid, v.id, c.s_from, c.s_to, c.xid, c.id)
		ORDER BY v.xid, v.id LIMIT 1) e
	UNION ALL
	SELECT 'dispatcher', r.id, uuid_time.since
	FROM notif_private.route r
	LEFT JOIN LATERAL (
		SELECT q.s_from, q.s_to, q.xid, q.place FROM notif_private.cursor_@TIER@ q
		WHERE q.role = 2 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
		ORDER BY q.seq DESC LIMIT 1) c ON true
	CROSS JOIN LATERAL (
		SELECT notif_private.uuid_time(b.delivery) AS since FROM notif_private.outbox_@TIER@ b
		WHERE b.lane = r.id AND b.incarnation = notif_private.current_incarnation()
		  AND b.xid >= coalesce(pg_snapshot_xmin(c.s_from), '0'::xid8)
		  AND NOT notif_private.passed(b.xid, b.ord, c.s_from, c.s_to, c.xid, c.place)
		ORDER BY b.xid, b.ord LIMIT 1) uuid_time
	UNION ALL
	SELECT 'schedule', s.lane, min(s.due_at)
	FROM notif_private.scheduled_@TIER@ s
	WHERE NOT s.parked
	GROUP BY s.lane
	UNION ALL
	SELECT 'release', NULL, a.since
	FROM (SELECT 1) one
	LEFT JOIN LATERAL (
		SELECT q.due, q.id FROM notif_private.cursor_@TIER@ q
		WHERE q.role = 6 AND q.lane = 0 AND q.key = '00000000-0000-0000-0000-000000000000'
		ORDER BY q.seq DESC LIMIT 1) c ON true
	CROSS JOIN LATERAL (
		SELECT x.due_at AS since FROM notif_private.appointment_@TIER@ x
		WHERE (x.due_at, x.id) > (coalesce(c.due, '-infinity'), coalesce(c.id, '00000000-0000-0000-0000-000000000000'))
		  AND x.due_at <= notif.now()
		ORDER BY x.due_at, x.id LIMIT 1) a
	UNION ALL
	SELECT 'flight', f.lane, min(f.at)
	FROM notif_private.flight_@TIER@ f
	WHERE NOT f.closed
	  AND NOT EXISTS (SELECT FROM notif_private.flight_@TIER@ x
					  WHERE x.worker = f.worker AND x.flight = f.flight AND x.closed)
	GROUP BY f.lane;
