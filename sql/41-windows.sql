-- Snapshot windows: how the router reads events and a dispatcher reads attempts.
--
-- A window is what became visible between two snapshots, consumed in (xid, id)
-- order; the position is the last row consumed.  Nothing is locked or updated, a
-- late committer is in a later window, and no clock decides what is read.

CREATE FUNCTION notif_private.passed(p_xid xid8, p_id uuid, s_from pg_snapshot, s_to pg_snapshot,
									 at_xid xid8, at_id uuid) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(pg_visible_in_snapshot(p_xid, s_from), false)
		OR coalesce(pg_visible_in_snapshot(p_xid, s_to) AND (p_xid, p_id) <= (at_xid, at_id), false);
END
$$;
COMMENT ON FUNCTION notif_private.passed(xid8, uuid, pg_snapshot, pg_snapshot, xid8, uuid) IS
	'Whether a row lies before a position: visible in the window''s start, or in its end and not after (at_xid, at_id).';

CREATE FUNCTION notif_private.passed(p_xid xid8, p_ord bigint, s_from pg_snapshot, s_to pg_snapshot,
									 at_xid xid8, at_ord bigint) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(pg_visible_in_snapshot(p_xid, s_from), false)
		OR coalesce(pg_visible_in_snapshot(p_xid, s_to) AND (p_xid, p_ord) <= (at_xid, at_ord), false);
END
$$;
COMMENT ON FUNCTION notif_private.passed(xid8, bigint, pg_snapshot, pg_snapshot, xid8, bigint) IS
	'The same for an attempt of the outbox, whose place in its transaction is ord.';

CREATE FUNCTION notif_private.passed(p_due timestamptz, p_ord bigint, p_id uuid,
								   at_due timestamptz, at_ord bigint, at_id uuid) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN at_due IS NOT NULL AND (p_due, p_ord, p_id) <= (at_due, at_ord, at_id);
END
$$;
COMMENT ON FUNCTION notif_private.passed(timestamptz, bigint, uuid, timestamptz, bigint, uuid) IS
	'Whether a scheduled attempt lies before a lane''s horizon (NULL: nothing does).';

-- An endpoint's block with more that is put off: until the later of the two times,
-- for whatever is behind the earlier of the two groups.  What its lane's horizon has
-- passed is over.
CREATE FUNCTION notif_private.still_blocked(
	p_lane integer, p_until timestamptz, p_ord bigint, p_limits bigint,
	new_lane integer, new_until timestamptz, new_ord bigint, new_limits bigint, p_horizon timestamptz,
	OUT lane integer, OUT until timestamptz, OUT ord bigint, OUT limits bigint)
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	lane := new_lane; until := new_until; ord := new_ord; limits := new_limits;
	IF p_lane = new_lane AND p_until > coalesce(p_horizon, '-infinity') THEN
		until := greatest(p_until, new_until);
		ord := least(p_ord, new_ord);
		limits := p_limits | new_limits;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.still_blocked(integer, timestamptz, bigint, bigint, integer, timestamptz, bigint, bigint, timestamptz) IS
	'Joins what blocks an endpoint already with others that are put off.';

CREATE FUNCTION notif_private.is_paused(p_what text, p_name text) RETURNS boolean
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM notif_private.pause p
				   WHERE p.what = 'everything' OR (p.what = p_what AND p.name = p_name));
END
$$;
COMMENT ON FUNCTION notif_private.is_paused(text, text) IS
	'Whether a switch is on for this thing, or for everything.';

CREATE FUNCTION notif_private.assert_conserved(p_read bigint, p_flight bigint, p_stopped bigint, p_refiled bigint) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_read IS DISTINCT FROM p_flight + p_stopped + p_refiled THEN
		RAISE EXCEPTION USING ERRCODE = 'XX001',
			MESSAGE = 'claim does not conserve its batch',
			DETAIL = format('read %s, to flight %s, stopped %s, refiled %s', p_read, p_flight, p_stopped, p_refiled);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.assert_conserved(bigint, bigint, bigint, bigint) IS
	'Raises XX001 unless every attempt read left the claim with a verdict; the claim then rolls back.';
