CREATE FUNCTION notif_private.refile_@TIER@(p_incarnation smallint) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	router	record;
	lane_at	record;
	-- Only rows of the installation whose cursors these are: what is older was
	-- judged when that one took over, and its ids mean nothing to these cursors.
	v_old	constant smallint := p_incarnation - 1;
	n		bigint;
	total	bigint := 0;
BEGIN
	SELECT * INTO router FROM notif_private.cursor_@TIER@ c
	 WHERE c.role = 0 AND c.lane = 0 ORDER BY c.seq DESC LIMIT 1;
	-- A transaction too large for the window was being consumed apart: what is
	-- left of it is unrouted.
	UPDATE notif_private.event e
	   SET incarnation = p_incarnation, xid = pg_current_xact_id()
	  FROM (SELECT DISTINCT ON (c.key) c.xid, c.id, c.done FROM notif_private.cursor_@TIER@ c
			 WHERE c.role = 1 ORDER BY c.key, c.seq DESC) x
	 WHERE NOT x.done AND x.xid IS NOT NULL
	   AND e.tier = @TIERNO@ AND e.incarnation = v_old AND e.xid = x.xid AND e.id > x.id;
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	UPDATE notif_private.event e
	   SET incarnation = p_incarnation, xid = pg_current_xact_id()
	 WHERE e.tier = @TIERNO@ AND e.incarnation = v_old
	   AND NOT notif_private.passed(e.xid, e.id, router.s_from, router.s_to, router.xid, router.id);
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	-- Published in yet another system that was never confirmed: it gave the same
	-- number, and its ids lie ahead of this one's.
	UPDATE notif_private.event e
	   SET xid = pg_current_xact_id()
	 WHERE e.tier = @TIERNO@ AND e.incarnation = p_incarnation
	   AND e.xid > pg_current_xact_id() AND e.xid >= pg_snapshot_xmax(pg_current_snapshot());
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	FOR lane_at IN
		SELECT r.id AS lane, c.* FROM notif_private.route r
		LEFT JOIN LATERAL (SELECT q.s_from, q.s_to, q.xid, q.place FROM notif_private.cursor_@TIER@ q
							WHERE q.role = 2 AND q.lane = r.id AND q.key = '00000000-0000-0000-0000-000000000000'
							ORDER BY q.seq DESC LIMIT 1) c ON true
	LOOP
		UPDATE notif_private.outbox_@TIER@ o
		   SET incarnation = p_incarnation, xid = pg_current_xact_id()
		 WHERE o.lane = lane_at.lane AND o.incarnation = v_old
		   AND NOT notif_private.passed(o.xid, o.ord, lane_at.s_from, lane_at.s_to, lane_at.xid, lane_at.place);
		GET DIAGNOSTICS n = ROW_COUNT;
		total := total + n;
	END LOOP;
	-- Windows start from nothing, so that what was published here before the
	-- confirmation is read too; expansions of transactions are refiled above.
	INSERT INTO notif_private.cursor_@TIER@ (ring, role, lane, key, seq, s_from, done)
	SELECT notif_private.turn_@TIER@() % 4, x.role, x.lane, x.key, x.seq + 1, '1:1:'::pg_snapshot,
		   x.role = 1
	  FROM (SELECT DISTINCT ON (c.role, c.lane, c.key) c.* FROM notif_private.cursor_@TIER@ c
			 ORDER BY c.role, c.lane, c.key, c.seq DESC) x
	 WHERE x.role IN (0, 2) OR (x.role = 1 AND x.xid IS NOT NULL AND NOT x.done);
	RETURN total;
END
$$;
COMMENT ON FUNCTION notif_private.refile_@TIER@(smallint) IS
	'Takes over, under a new incarnation, the events and attempts that the stored cursors of another installation had not covered. Once per confirm_instance().';
