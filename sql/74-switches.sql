-- Kill switches: everything, a tier, a provider, a type, a campaign.  A switch whose
-- COMMIT has returned holds for every claim that starts afterwards, and what was
-- claimed before and is not on the wire goes back.

CREATE FUNCTION notif_private.switch_subject(what text, name text) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN CASE switch_subject.what
		WHEN 'everything' THEN 0
		WHEN 'tier' THEN notif_private.tier_number(switch_subject.name)
		WHEN 'provider' THEN (SELECT p.id FROM notif_private.provider p WHERE p.name = switch_subject.name)
		WHEN 'type' THEN (SELECT t.id FROM notif_private.type t WHERE t.name = switch_subject.name)
		WHEN 'campaign' THEN (SELECT c.id FROM notif_private.campaign c WHERE c.name = switch_subject.name) END;
END
$$;
COMMENT ON FUNCTION notif_private.switch_subject(text, text) IS
	'The number of what a switch is for; NULL if there is no such thing, 22023 for a tier.';

CREATE FUNCTION notif_private.check_switch(what text, name text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF check_switch.what IS NULL OR check_switch.what NOT IN ('everything', 'tier', 'provider', 'type', 'campaign') THEN
		RAISE EXCEPTION USING
			ERRCODE = '22023',
			MESSAGE = format('there is no switch for %s', coalesce(quote_literal(left(check_switch.what, 80)), 'NULL')),
			DETAIL = 'Everything, a tier, a provider, a type or a campaign can be paused.',
			HINT = 'Use ''everything'', ''tier'', ''provider'', ''type'' or ''campaign''.';
	END IF;
	IF (check_switch.what = 'everything') <> (check_switch.name IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN check_switch.name IS NULL THEN format('which %s is missing', check_switch.what)
						   ELSE 'everything has no name' END,
			DETAIL = format('what is %L.', check_switch.what),
			HINT = CASE WHEN check_switch.name IS NULL THEN 'Pass its name as the second argument.'
						ELSE 'Leave the name out; why => takes the reason.' END;
	END IF;
	IF notif_private.switch_subject(check_switch.what, check_switch.name) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('%s %L does not exist', check_switch.what, left(check_switch.name, 110)),
			DETAIL = CASE check_switch.what WHEN 'campaign' THEN 'Nothing has been published for a campaign of that name.'
											ELSE format('No %s of that name is defined.', check_switch.what) END,
			HINT = CASE check_switch.what WHEN 'campaign' THEN 'A campaign is created by the first notif.publish(..., campaign => its name).'
										  ELSE format('notif.%ss lists them.', check_switch.what) END;
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
	PERFORM notif_private.hold_unsent_of(pause.what, notif_private.switch_subject(pause.what, stored));
	-- Also what changed nothing is logged: somebody wanted it, for a reason.
	INSERT INTO notif_private.switch_log (at, by, what, name, paused, why)
	VALUES (notif.now(), SESSION_USER, pause.what, stored, true, pause.why);
	PERFORM notif_private.config_changed();
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION notif.pause(text, text, text) IS
$$Stops sending, from the commit on: what is not on the wire then waits, uses up no attempt and may expire. Publishing, fanout and inboxes go on. Returns false if it was paused already.
what: 'everything', 'tier', 'provider', 'type' or 'campaign'. name: of it; of nothing for everything. why: for the log, see notif.switches.
A route whose provider is paused uses its next one, if it has one. What waits of a type or campaign delays nothing else, and goes in its order once that is resumed. (notif.disable_type is another thing: it drops what waits and refuses publishes.)
Errors: 22023 bad value, 42704 unknown provider, type or campaign.
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
Errors: 22023 bad value, 42704 unknown provider, type or campaign.
Example: SELECT notif.resume('tier', 'bulk');$$;
