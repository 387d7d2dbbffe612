-- Kill switches: everything, a tier, a provider.  A switch whose COMMIT has
-- returned holds for every claim that starts afterwards.

CREATE FUNCTION notif_private.check_switch(what text, name text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF check_switch.what IS NULL OR check_switch.what NOT IN ('everything', 'tier', 'provider') THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN check_switch.what IN ('type', 'campaign') THEN '0A000' ELSE '22023' END,
			MESSAGE = format('there is no switch for %s', coalesce(quote_literal(left(check_switch.what, 80)), 'NULL')),
			DETAIL = 'Everything, a tier or a provider can be paused.',
			HINT = 'Use ''everything'', ''tier'' or ''provider''; a type is switched off with notif.disable_type.';
	END IF;
	IF (check_switch.what = 'everything') <> (check_switch.name IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN check_switch.name IS NULL THEN format('which %s is missing', check_switch.what)
						   ELSE 'everything has no name' END,
			DETAIL = format('what is %L.', check_switch.what),
			HINT = CASE WHEN check_switch.name IS NULL THEN 'Pass its name as the second argument.'
						ELSE 'Leave the name out; why => takes the reason.' END;
	END IF;
	IF check_switch.what = 'tier' THEN
		PERFORM notif_private.tier_number(check_switch.name);
	ELSIF check_switch.what = 'provider' THEN
		PERFORM FROM notif_private.provider p WHERE p.name = check_switch.name;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '42704',
				MESSAGE = format('provider %L does not exist', left(check_switch.name, 80)),
				DETAIL = 'No provider of that name is defined.',
				HINT = 'notif.providers lists them.';
		END IF;
	END IF;
	RETURN coalesce(check_switch.name, '');
END
$$;
COMMENT ON FUNCTION notif_private.check_switch(text, text) IS
	'Checks what a switch is for and returns the name under which it is stored.';

CREATE FUNCTION notif.pause(what text, name text DEFAULT NULL, why text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	stored	text := notif_private.check_switch(pause.what, pause.name);
	changed	boolean;
BEGIN
	INSERT INTO notif_private.pause AS p (what, name) VALUES (pause.what, stored)
	ON CONFLICT ON CONSTRAINT pause_pkey DO NOTHING;
	changed := FOUND;
	-- Also what changed nothing is logged: somebody wanted it, for a reason.
	INSERT INTO notif_private.switch_log (at, by, what, name, paused, why)
	VALUES (notif.now(), SESSION_USER, pause.what, stored, true, pause.why);
	PERFORM notif_private.config_changed();
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION notif.pause(text, text, text) IS
$$Stops sending, from the commit on: what is not yet claimed then waits where it is, uses up no attempt and may expire. Publishing goes on. Returns false if it was paused already.
what: 'everything', 'tier' or 'provider'. name: of the tier or provider; of nothing for everything. why: for the log, see notif.switches.
A route whose provider is paused uses its next one, if it has one.
Errors: 22023 bad value, 42704 unknown provider, 0A000 no such switch in this version.
Example: SELECT notif.pause('tier', 'bulk', why => 'wrong campaign');$$;

CREATE FUNCTION notif.resume(what text, name text DEFAULT NULL, why text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	stored	text := notif_private.check_switch(resume.what, resume.name);
	changed	boolean;
BEGIN
	DELETE FROM notif_private.pause p WHERE p.what = resume.what AND p.name = stored;
	changed := FOUND;
	INSERT INTO notif_private.switch_log (at, by, what, name, paused, why)
	VALUES (notif.now(), SESSION_USER, resume.what, stored, false, resume.why);
	PERFORM notif_private.config_changed();
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION notif.resume(text, text, text) IS
$$Undoes notif.pause of the same thing; other switches stay as they are. Returns false if it was not paused.
what, name, why: as in notif.pause.
Errors: 22023 bad value, 42704 unknown provider.
Example: SELECT notif.resume('tier', 'bulk');$$;
