-- When is a row at fault?  Shared by the careful modes of router, claim and record.

CREATE FUNCTION notif_private.is_passing(p_code text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- connection, rollback, resources, locks and states, operator, system, corruption
	RETURN left(p_code, 2) IN ('08', '25', '40', '53', '55', '57', '58', 'F0') OR p_code IN ('XX001', 'XX002');
END
$$;
COMMENT ON FUNCTION notif_private.is_passing(text) IS
	'Whether an SQLSTATE tells of the server''s condition and not of the row that met it.';

CREATE FUNCTION notif_private.is_at_fault(p_bad integer, p_good integer, p_code text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN p_good > 0 OR (p_bad = 1 AND left(p_code, 2) IN ('22', '23', 'P0'));
END
$$;
COMMENT ON FUNCTION notif_private.is_at_fault(integer, integer, text) IS
	'Whether rows that raise are to blame: others passed, or it is a single one and the error is about its data. Where all fail, or something is missing, the cause is elsewhere and must not cost a delivery.';

CREATE FUNCTION notif_private.raise_again(p_code text, p_words text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = p_code, MESSAGE = p_words,
		HINT = 'Every row tried alone met it: its cause is not in one of them, and nothing was given up on.';
END
$$;
COMMENT ON FUNCTION notif_private.raise_again(text, text) IS 'Raises an error that was caught, since it is nobody''s own.';

CREATE FUNCTION notif_private.retention_of(p_type integer) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT t.retention FROM notif_private.type t WHERE t.id = p_type);
END
$$;
COMMENT ON FUNCTION notif_private.retention_of(integer) IS 'How long outcomes of a type are kept: standard or long.';

CREATE FUNCTION notif_private.tell_quarantine(p_where text, p_n integer, p_code text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE LOG USING ERRCODE = p_code,
		MESSAGE = format('notif gave up on %s rows that always fail in %s', p_n, p_where),
		HINT = 'notif.dead_letters and notif.trace() show them with the reason quarantined:SQLSTATE; the errors are above in this log.';
END
$$;
COMMENT ON FUNCTION notif_private.tell_quarantine(text, integer, text) IS
	'Says in the log that rows were given up on.';
