CREATE FUNCTION notif.audit() RETURNS TABLE (tier text, state text, tallied bigint, recounted bigint, agrees boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	-- Locked before the snapshot of the one statement that counts: a ring that
	-- upkeep empties after the snapshot would look empty to it.  (A transaction
	-- that is not READ COMMITTED has its snapshot already.)
	LOCK TABLE notif_private.tally_critical, notif_private.tally_standard, notif_private.tally_bulk,
			   notif_private.cursor_critical, notif_private.cursor_standard, notif_private.cursor_bulk,
			   notif_private.flight_critical, notif_private.flight_standard, notif_private.flight_bulk,
			   notif_private.outbox_critical, notif_private.outbox_standard, notif_private.outbox_bulk,
			   notif_private.schedule_critical, notif_private.schedule_standard, notif_private.schedule_bulk,
			   notif_private.outcome IN ACCESS SHARE MODE;
	RETURN QUERY
	WITH told AS (
		SELECT t.tier, t.state, sum(t.n)::bigint AS n FROM notif_private.tally t GROUP BY t.tier, t.state
	), counted AS (
		SELECT 0::smallint AS tier, c.state, c.n FROM notif_private.recount_critical() c
		UNION ALL SELECT 1::smallint, c.state, c.n FROM notif_private.recount_standard() c
		UNION ALL SELECT 2::smallint, c.state, c.n FROM notif_private.recount_bulk() c
	)
	SELECT (ARRAY['critical', 'standard', 'bulk'])[x.tier + 1], x.state::text, coalesce(t.n, 0), coalesce(c.n, 0),
		   coalesce(t.n, 0) = coalesce(c.n, 0)
	  FROM (SELECT u.tier, u.state FROM told u UNION SELECT v.tier, v.state FROM counted v) x
	  LEFT JOIN told t ON t.tier = x.tier AND t.state = x.state
	  LEFT JOIN counted c ON c.tier = x.tier AND c.state = x.state
	 ORDER BY x.tier, x.state;
END
$$;
COMMENT ON FUNCTION notif.audit() IS
	'Recounts every delivery from the rows and compares with the running tally that notif.state shows: they must agree, at any moment. expanded = open + in_flight + the terminal states; scheduled counts events that are published for later, apart from these. Reads everything that is kept: seconds per million rows. Example: SELECT * FROM notif.audit() WHERE NOT agrees;';
