-- Recipients and their devices.

CREATE FUNCTION notif_private.check_locale(locale text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF check_locale.locale !~ '^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$' OR length(check_locale.locale) > 64 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid locale: %L', left(check_locale.locale, 80)),
			DETAIL = 'A locale is a language tag as of BCP 47.',
			HINT = 'Write it like ''de'', ''en-GB'' or ''zh-Hant-TW'', with "-" and not "_".';
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_locale(text) IS
	'Raises 22023 unless the locale is NULL or has the form of a BCP 47 language tag.';

CREATE FUNCTION notif_private.check_zone(zone text) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	good boolean := true;
BEGIN
	IF zone IS NULL OR zone IN ('UTC', 'GMT') THEN
		RETURN;
	END IF;
	-- timezone() also takes abbreviations, which do not know daylight saving,
	-- and POSIX rules, which it takes for any word followed by a digit.  So only
	-- names with a slash and no such digit go the cheap way; what is left are
	-- aliases of old, looked up in the list of all names.
	IF zone ~ '^[A-Za-z][A-Za-z_-]*(/[A-Za-z][A-Za-z_-]*){1,3}$' THEN
		BEGIN
			PERFORM timezone(zone, '2000-01-01 00:00:00+00'::timestamptz);
		EXCEPTION WHEN invalid_parameter_value THEN
			good := false;
		END;
	ELSE
		good := EXISTS (SELECT FROM pg_timezone_names n WHERE n.name = zone);
	END IF;
	IF NOT good THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid time zone: %L', left(zone, 80)),
			DETAIL = 'A time zone is a name of the IANA database; abbreviations and POSIX rules are not accepted.',
			HINT = 'Write it like ''Europe/Berlin''; pg_catalog.pg_timezone_names lists them all.';
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_zone(text) IS
	'Raises 22023 unless the zone is NULL or a name of the IANA time zone database.';

CREATE FUNCTION notif_private.recipient_id(ref text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_id bigint;
BEGIN
	SELECT r.id INTO found_id FROM notif_private.recipient r WHERE r.ref = recipient_id.ref;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('recipient %s does not exist', coalesce(quote_literal(left(recipient_id.ref, 80)), 'NULL')),
			DETAIL = 'Recipients are known by the ref that the application gave them.',
			HINT = 'Create the recipient with notif.upsert_recipient first.';
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION notif_private.recipient_id(text) IS
	'The number of the recipient of that ref. 42704 if there is none.';

CREATE FUNCTION notif.upsert_recipient(
	ref text, locale text DEFAULT NULL, tz text DEFAULT NULL, attributes jsonb DEFAULT NULL, country text DEFAULT NULL)
	RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	old		notif_private.recipient;
	id		bigint;
	home	text;
BEGIN
	IF coalesce(upsert_recipient.ref, '') = '' OR octet_length(upsert_recipient.ref) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid ref of a recipient',
			DETAIL = format('It has %s bytes.', coalesce(octet_length(upsert_recipient.ref), 0)),
			HINT = 'Use the application''s own key of the person, 1 to 255 bytes.';
	END IF;
	PERFORM notif_private.check_locale(upsert_recipient.locale);
	home := notif_private.check_country(upsert_recipient.country);
	IF upsert_recipient.attributes IS NOT NULL THEN
		IF jsonb_typeof(upsert_recipient.attributes) <> 'object' THEN
			RAISE EXCEPTION USING ERRCODE = '22023',
				MESSAGE = format('attributes is not a JSON object: %s', jsonb_typeof(upsert_recipient.attributes)),
				DETAIL = 'Templates read its members as {recipient.name}.',
				HINT = 'Use ''{}'' for none.';
		END IF;
		IF pg_column_size(upsert_recipient.attributes) > 65536 THEN
			RAISE EXCEPTION USING ERRCODE = '54000',
				MESSAGE = 'attributes is too large',
				DETAIL = format('It takes %s bytes; at most 65536 are kept.', pg_column_size(upsert_recipient.attributes)),
				HINT = 'Keep what templates need and no more.';
		END IF;
	END IF;

	-- The usual call finds everything as it is and writes nothing.
	SELECT * INTO old FROM notif_private.recipient r WHERE r.ref = upsert_recipient.ref;
	IF FOUND
		AND coalesce(upsert_recipient.locale, old.locale) IS NOT DISTINCT FROM old.locale
		AND coalesce(upsert_recipient.tz, old.tz) IS NOT DISTINCT FROM old.tz
		AND coalesce(home, old.country) IS NOT DISTINCT FROM old.country
		AND coalesce(upsert_recipient.attributes, old.attributes) = old.attributes THEN
		RETURN old.id;
	END IF;
	PERFORM notif_private.check_zone(upsert_recipient.tz);
	IF old.id IS NOT NULL THEN
		IF upsert_recipient.tz IS DISTINCT FROM old.tz AND upsert_recipient.tz IS NOT NULL THEN
			SELECT r.tz INTO old.tz FROM notif_private.recipient r WHERE r.id = old.id FOR NO KEY UPDATE;
			PERFORM notif_private.note_zone(old.id, old.tz, upsert_recipient.tz);
		END IF;
		UPDATE notif_private.recipient r
		SET locale = coalesce(upsert_recipient.locale, r.locale),
			tz = coalesce(upsert_recipient.tz, r.tz),
			country = coalesce(home, r.country),
			attributes = coalesce(upsert_recipient.attributes, r.attributes)
		WHERE r.id = old.id;
		IF home <> coalesce(old.country, '') THEN
			-- other rules may hold there
			PERFORM notif_private.hold_unsent(old.id);
		END IF;
		RETURN old.id;
	END IF;
	PERFORM notif_private.note_zone(NULL, NULL, upsert_recipient.tz);
	INSERT INTO notif_private.recipient AS r (ref, locale, tz, country, attributes, created_at)
	VALUES (upsert_recipient.ref, upsert_recipient.locale, upsert_recipient.tz, home,
			coalesce(upsert_recipient.attributes, '{}'), notif.now())
	ON CONFLICT ON CONSTRAINT recipient_ref_key DO UPDATE
		SET locale = coalesce(EXCLUDED.locale, r.locale), tz = coalesce(EXCLUDED.tz, r.tz),
			country = coalesce(EXCLUDED.country, r.country),
			attributes = coalesce(upsert_recipient.attributes, r.attributes)
	RETURNING r.id INTO id;
	RETURN id;
END
$$;
COMMENT ON FUNCTION notif.upsert_recipient(text, text, text, jsonb, text) IS
$$Creates a recipient or changes one; returns its number inside notif.
ref: the application's key of the person, 1 to 255 bytes. locale: BCP 47, like 'en-GB'. tz: an IANA name, like 'Europe/Berlin'. attributes: an object that templates read as {recipient.x}; it replaces the stored one. country: two letters of ISO 3166-1, like 'DE': whose law holds, see notif.define_region_rule. NULL leaves what is stored.
Errors: 22023 bad value, 54000 attributes over 64 kB.
Example: SELECT notif.upsert_recipient('customer-17', locale => 'de', tz => 'Europe/Berlin', attributes => '{"name": "Ada"}');$$;

CREATE FUNCTION notif_private.set_recipient_active(ref text, active boolean) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	UPDATE notif_private.recipient r SET active = set_recipient_active.active
	WHERE r.id = notif_private.recipient_id(set_recipient_active.ref) AND r.active <> set_recipient_active.active;
	IF FOUND AND NOT set_recipient_active.active THEN
		PERFORM notif_private.hold_unsent(notif_private.recipient_id(set_recipient_active.ref));
	END IF;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif_private.set_recipient_active(text, boolean) IS
	'Switches a recipient on or off; whether that changed anything. 42704 for an unknown recipient.';

CREATE FUNCTION notif.deactivate_recipient(ref text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN notif_private.set_recipient_active(deactivate_recipient.ref, false);
END
$$;
COMMENT ON FUNCTION notif.deactivate_recipient(text) IS
$$Sends nothing more to a recipient, neither what is published later nor what waits already. Devices, subscriptions and the inbox are kept. Returns whether the recipient was active.
Errors: 42704 unknown recipient.
Example: SELECT notif.deactivate_recipient('customer-17');$$;

CREATE FUNCTION notif.activate_recipient(ref text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN notif_private.set_recipient_active(activate_recipient.ref, true);
END
$$;
COMMENT ON FUNCTION notif.activate_recipient(text) IS
$$Undoes notif.deactivate_recipient. Returns whether the recipient was inactive.
Errors: 42704 unknown recipient.
Example: SELECT notif.activate_recipient('customer-17');$$;

-- ---- devices ----------------------------------------------------------------

CREATE FUNCTION notif_private.app_id(channel text, platform text, app text) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_id integer;
BEGIN
	SELECT a.id INTO found_id FROM notif_private.app a
	WHERE a.channel = app_id.channel AND a.platform = app_id.platform AND a.name = app_id.app;
	IF NOT FOUND THEN
		-- No route may change between our look-up and our commit; see define_route.
		LOCK TABLE notif_private.route IN SHARE MODE;
		INSERT INTO notif_private.app AS a (channel, platform, name, route_id)
		VALUES (app_id.channel, app_id.platform, app_id.app,
				notif_private.route_for(app_id.channel, app_id.platform, app_id.app))
		ON CONFLICT ON CONSTRAINT app_channel_platform_name_key DO UPDATE SET name = a.name
		RETURNING a.id INTO found_id;
		PERFORM notif_private.config_changed();
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION notif_private.app_id(text, text, text) IS
	'The number of an application on a platform, created with its route when it is new.';

-- Two devices may swap tokens, one token may be claimed for two people, or one
-- device be registered twice, all at the same time.  Rows that exist are locked in
-- the order of their ids, so that calls do not deadlock; what appears meanwhile is
-- met by a unique index, and then it is looked at anew.  No advisory lock: millions
-- of devices may be registered in one transaction.
CREATE FUNCTION notif.register_device(
	recipient text, device_id text, platform text, token text, app text DEFAULT 'default',
	app_version text DEFAULT NULL, locale text DEFAULT NULL)
	RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	-- One plan for all calls, also if it was made while the tables were empty.
	SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
	owner_id	bigint;
	its_app		integer;
	apps		integer[];
	token_text	text := lower(register_device.token);	-- its normal_address()
	listed		boolean;
	old			notif_private.endpoint;
	id			bigint;
BEGIN
	owner_id := notif_private.recipient_id(register_device.recipient);
	IF coalesce(register_device.device_id, '') = '' OR octet_length(register_device.device_id) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid device_id',
			DETAIL = format('It has %s bytes.', coalesce(octet_length(register_device.device_id), 0)),
			HINT = 'Use what names the installation of the application for good, 1 to 255 bytes.';
	END IF;
	IF register_device.platform IS NULL
		OR register_device.platform NOT IN ('ios', 'ipados', 'macos', 'watchos', 'tvos', 'visionos') THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN register_device.platform IN ('android', 'web') THEN '0A000' ELSE '22023' END,
			MESSAGE = format('platform %s is not supported', coalesce(quote_literal(left(register_device.platform, 80)), 'NULL')),
			DETAIL = 'This version delivers to Apple''s platforms.',
			HINT = 'Use ''ios'', ''ipados'', ''macos'', ''watchos'', ''tvos'' or ''visionos''.';
	END IF;
	IF coalesce(register_device.app, '') = '' OR octet_length(register_device.app) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid app',
			DETAIL = format('It has %s bytes.', coalesce(octet_length(register_device.app), 0)),
			HINT = 'Use the name of the application, 1 to 255 bytes, or leave it out if there is only one.';
	END IF;
	IF token_text IS NULL OR NOT notif_private.token_valid('apns', token_text) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid device token',
			DETAIL = format('It has %s characters.', coalesce(length(token_text), 0)),
			HINT = 'Pass the token that the platform gave the application, in hexadecimal.';
	END IF;
	IF octet_length(register_device.app_version) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid app_version',
			DETAIL = format('It has %s bytes.', octet_length(register_device.app_version)),
			HINT = 'Use at most 255 bytes.';
	END IF;
	PERFORM notif_private.check_locale(register_device.locale);

	its_app := notif_private.app_id('push', register_device.platform, register_device.app);
	-- The usual call, at every start of the application, finds all as it was.
	SELECT * INTO old FROM notif_private.endpoint e
	WHERE e.recipient_id = owner_id AND e.app_id = its_app AND e.device_id = register_device.device_id;
	IF FOUND AND old.address = token_text AND old.state <> 'invalid'
		-- one that is flagged looks whether it still should be
		AND NOT old.suppressed
		AND coalesce(register_device.app_version, old.app_version) IS NOT DISTINCT FROM old.app_version
		AND coalesce(register_device.locale, old.locale) IS NOT DISTINCT FROM old.locale THEN
		RETURN old.id;
	END IF;

	listed := notif_private.is_suppressed(token_text, 'push');
	-- A token belongs to one device, whatever platform it was registered for.
	SELECT array_agg(a.id) INTO apps FROM notif_private.app a
	WHERE a.channel = 'push' AND a.name = register_device.app;
	-- Next in number: a new device with a new token.
	IF old.id IS NULL AND NOT EXISTS (SELECT FROM notif_private.endpoint e
			WHERE e.app_id = ANY (apps) AND e.address = token_text AND e.state <> 'invalid') THEN
		INSERT INTO notif_private.endpoint AS e
			(recipient_id, app_id, channel, device_id, address, state_at, registered_at, app_version, locale, created_at,
			 suppressed)
		VALUES (owner_id, its_app, 'push', register_device.device_id, token_text, notif.now(), notif.now(),
				register_device.app_version, register_device.locale, notif.now(), listed)
		ON CONFLICT DO NOTHING
		RETURNING e.id INTO id;
		IF FOUND THEN
			RETURN id;
		END IF;
	END IF;

	FOR tries IN 1 .. 20 LOOP
		PERFORM FROM notif_private.endpoint e
		WHERE e.id = ANY (ARRAY(
				SELECT x.id FROM notif_private.endpoint x
				WHERE x.app_id = ANY (apps) AND x.address = token_text AND x.state <> 'invalid')
			|| ARRAY(
				SELECT x.id FROM notif_private.endpoint x
				WHERE x.recipient_id = owner_id AND x.app_id = its_app AND x.device_id = register_device.device_id))
		ORDER BY e.id
		FOR UPDATE;
		-- whoever listed the token meanwhile had these rows
		listed := notif_private.is_suppressed(token_text, 'push');
		UPDATE notif_private.endpoint e
		SET state = 'invalid', state_reason = 'moved', state_at = notif.now(), quarantine_mark = NULL
		WHERE e.app_id = ANY (apps) AND e.address = token_text AND e.state <> 'invalid'
		  AND (e.recipient_id, e.app_id, e.device_id) IS DISTINCT FROM (owner_id, its_app, register_device.device_id);

		SELECT * INTO old FROM notif_private.endpoint e
		WHERE e.recipient_id = owner_id AND e.app_id = its_app AND e.device_id = register_device.device_id;
		IF NOT FOUND THEN
			INSERT INTO notif_private.endpoint AS e
				(recipient_id, app_id, channel, device_id, address, state_at, registered_at, app_version, locale, created_at,
			 suppressed)
			VALUES (owner_id, its_app, 'push', register_device.device_id, token_text, notif.now(), notif.now(),
					register_device.app_version, register_device.locale, notif.now(), listed)
			ON CONFLICT DO NOTHING
			RETURNING e.id INTO id;
			IF FOUND THEN
				RETURN id;
			END IF;
		ELSIF old.address = token_text AND old.state <> 'invalid' THEN
			-- A doubted token stays doubted: registering it again proves nothing new.
			UPDATE notif_private.endpoint e
			SET app_version = coalesce(register_device.app_version, e.app_version),
				locale = coalesce(register_device.locale, e.locale), suppressed = listed
			WHERE e.id = old.id;
			RETURN old.id;
		ELSE
			-- A new token, or a dead one that is registered again, starts afresh.
			BEGIN
				UPDATE notif_private.endpoint e
				SET address = token_text, state = 'active', state_reason = 'registered', state_at = notif.now(),
					registered_at = notif.now(), quarantine_mark = NULL, suppressed = listed,
					app_version = coalesce(register_device.app_version, e.app_version),
					locale = coalesce(register_device.locale, e.locale)
				WHERE e.id = old.id;
				RETURN old.id;
			EXCEPTION WHEN unique_violation THEN
				NULL;	-- somebody else registered the token just now
			END;
		END IF;
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = '40001',
		MESSAGE = 'the device is being registered by others all the time',
		DETAIL = 'Its token or its device_id was registered elsewhere during each of twenty tries.',
		HINT = 'Try again.';
END
$$;
COMMENT ON FUNCTION notif.register_device(text, text, text, text, text, text, text) IS
$$Registers a recipient's device for push, or brings it up to date; returns the number of its endpoint. Call it at every start of the application.
device_id: names the installation for good. platform: 'ios', 'ipados', 'macos', 'watchos', 'tvos' or 'visionos'. token: as the platform gave it, in hexadecimal. app: which application, if there are several. app_version, locale: NULL leaves what is stored.
A token that belonged to another device or person moves here; a new token, or the same one on an endpoint that was invalid, makes the endpoint active. A token on the suppression list is kept and not sent to.
Errors: 42704 unknown recipient, 22023 bad value, 0A000 platform not supported, 40001 others register the same device all the time.
Example: SELECT notif.register_device('customer-17', 'A1B2', 'ios', repeat('ab', 32));$$;

CREATE FUNCTION notif.unregister_device(recipient text, device_id text, app text DEFAULT 'default')
	RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	owner_id bigint := notif_private.recipient_id(unregister_device.recipient);
BEGIN
	PERFORM FROM notif_private.endpoint e
	JOIN notif_private.app a ON a.id = e.app_id
	WHERE e.recipient_id = owner_id AND e.device_id = unregister_device.device_id AND a.name = unregister_device.app
	ORDER BY e.id
	FOR UPDATE OF e;
	UPDATE notif_private.endpoint e
	SET state = 'invalid', state_reason = 'unregistered', state_at = notif.now(), quarantine_mark = NULL
	FROM notif_private.app a
	WHERE a.id = e.app_id AND a.name = unregister_device.app
	  AND e.recipient_id = owner_id AND e.device_id = unregister_device.device_id
	  AND e.state <> 'invalid';
	IF FOUND THEN
		PERFORM notif_private.hold_unsent(owner_id);
	END IF;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif.unregister_device(text, text, text) IS
$$Sends nothing more to a device, as after signing out; what waits for it is suppressed. Returns whether it was registered.
device_id, app: as given to notif.register_device.
Errors: 42704 unknown recipient.
Example: SELECT notif.unregister_device('customer-17', 'A1B2');$$;
