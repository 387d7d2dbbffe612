-- What people want to be told: the functions that they, or the application for
-- them, call.  Each locks the person's profile, changes its sources, compiles it,
-- and, if it takes something away, has what is claimed and unsent given back.

CREATE FUNCTION notif_private.preference_channel(channel text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF channel NOT IN ('push', 'inbox') THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN notif_private.channel_bit(channel) IS NOT NULL THEN '0A000' ELSE '22023' END,
			MESSAGE = format('channel %L is not supported', left(channel, 80)),
			DETAIL = 'This version delivers over the channels push and inbox.',
			HINT = 'Use ''push'' or ''inbox'', or NULL for every channel.';
	END IF;
	RETURN coalesce(channel, '');
END
$$;
COMMENT ON FUNCTION notif_private.preference_channel(text) IS
	'The channel as preferences are stored by it: empty for NULL, which is every channel. 22023 or 0A000 for any other.';

CREATE FUNCTION notif_private.preference_category(category text) RETURNS notif_private.category
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its	notif_private.category;
BEGIN
	IF preference_category.category IS NULL THEN
		its.number := 0;
		RETURN its;
	END IF;
	SELECT * INTO its FROM notif_private.category c WHERE c.name = preference_category.category;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('category %L does not exist', left(preference_category.category, 80)),
			DETAIL = 'No category of that name is defined.',
			HINT = 'notif.categories lists them; NULL is every category.';
	END IF;
	RETURN its;
END
$$;
COMMENT ON FUNCTION notif_private.preference_category(text) IS
	'The category of that name, of number 0 for NULL, which is every category. 42704 if there is none.';

CREATE FUNCTION notif_private.write_preference(recipient bigint, channel text, category integer, frequency text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM notif_private.lock_profile(write_preference.recipient);
	-- what it covers it replaces; the switch for everything is none of these
	DELETE FROM notif_private.preference p
	 WHERE p.recipient_id = write_preference.recipient AND NOT (p.channel = '' AND p.category = 0)
	   AND (write_preference.channel = '' OR p.channel = write_preference.channel)
	   AND (write_preference.category = 0 OR p.category = write_preference.category)
	   AND (write_preference.channel <> '' OR write_preference.category <> 0);
	INSERT INTO notif_private.preference AS p (recipient_id, channel, category, frequency, turn, changed_at)
	VALUES (write_preference.recipient, write_preference.channel, write_preference.category, write_preference.frequency,
			(SELECT coalesce(max(o.turn), 0) + 1 FROM notif_private.preference o
			  WHERE o.recipient_id = write_preference.recipient), notif.now())
	ON CONFLICT ON CONSTRAINT preference_pkey DO NOTHING;
	PERFORM notif_private.compile_profile(write_preference.recipient);
	PERFORM notif_private.regard_digests(write_preference.recipient);
	IF write_preference.frequency = 'off' THEN
		PERFORM notif_private.hold_unsent(write_preference.recipient);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.write_preference(bigint, text, integer, text) IS
	'Stores a preference that has been checked, in place of those that it covers, and compiles the profile.';

CREATE FUNCTION notif_private.forget_category(recipient bigint, category integer) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM notif_private.lock_profile(forget_category.recipient);
	DELETE FROM notif_private.preference p
	 WHERE p.recipient_id = forget_category.recipient AND p.category = forget_category.category;
	PERFORM notif_private.compile_profile(forget_category.recipient);
END
$$;
COMMENT ON FUNCTION notif_private.forget_category(bigint, integer) IS
	'Removes a recipient''s preferences for a category that is being dropped.';

CREATE FUNCTION notif.set_preference(recipient text, channel text, category text, enabled boolean DEFAULT NULL,
									 frequency text DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(set_preference.recipient);
	way		text := notif_private.preference_channel(set_preference.channel);
	its		notif_private.category := notif_private.preference_category(set_preference.category);
	often	text := coalesce(set_preference.frequency, CASE WHEN set_preference.enabled THEN 'realtime' ELSE 'off' END);
BEGIN
	IF set_preference.channel IS NULL AND set_preference.category IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'neither channel nor category is given',
			DETAIL = 'A preference is about a channel, a category, or one channel of one category.',
			HINT = 'notif.switch_off and notif.switch_on are for everything.';
	END IF;
	IF set_preference.enabled IS NULL AND set_preference.frequency IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'neither enabled nor frequency is given',
			DETAIL = 'Nothing would be set.',
			HINT = 'Pass enabled => true or false; notif.reset_preference goes back to the default.';
	END IF;
	IF often NOT IN ('realtime', 'hourly', 'daily', 'weekly', 'off') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid frequency: %L', left(often, 80)),
			DETAIL = 'frequency says how often somebody is told, at most.',
			HINT = 'Use ''realtime'', ''hourly'', ''daily'', ''weekly'' or ''off''.';
	END IF;
	IF often IN ('hourly', 'daily', 'weekly') AND way = 'inbox' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('frequency %L is not for the inbox', often),
			DETAIL = 'The inbox is filled at once, whatever waits for a digest.',
			HINT = 'Use ''realtime'' or ''off'', or the channel push.';
	END IF;
	IF often IN ('hourly', 'daily', 'weekly') AND its.number <> 0 AND (its.mandatory OR its.digest_type IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('category %L has no digests', its.name),
			DETAIL = CASE WHEN its.mandatory THEN 'It is mandatory: what is in it is told at once.'
						  ELSE 'No type is defined that tells them.' END,
			HINT = CASE WHEN its.mandatory THEN 'notif.define_category(..., mandatory => false) lets people choose.'
						ELSE 'notif.define_frequencies lets people choose.' END;
	END IF;
	IF set_preference.enabled <> (often <> 'off') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('enabled %s contradicts frequency %L', set_preference.enabled, often),
			DETAIL = 'frequency ''off'' is the same as enabled => false.',
			HINT = 'Pass one of them.';
	END IF;
	IF its.mandatory AND often = 'off' THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('category %L is mandatory', its.name),
			DETAIL = 'What is in it reaches everybody; nobody can switch it off.',
			HINT = 'notif.define_category(..., mandatory => false) lets people choose.';
	END IF;
	PERFORM notif_private.write_preference(who, way, its.number, often);
END
$$;
COMMENT ON FUNCTION notif.set_preference(text, text, text, boolean, text) IS
$$Says whether a recipient wants to be told over a channel about a category. It holds for what it covers until a later call covers that, also for what has been published already and is not sent.
channel: 'push' or 'inbox'; NULL: every channel. category: NULL: every category, also those defined later. One of them must be given.
enabled: true or false; or frequency: 'realtime', 'off', or 'hourly', 'daily' or 'weekly', which gathers what would be pushed and tells it as one, see notif.set_digest_time, for categories with notif.define_frequencies (those without are told at once). Nothing of the critical tier is gathered. What waits for a digest is told at once when the frequency becomes 'realtime', and not at all when it becomes 'off'.
A mandatory category is delivered whatever is set for its channel. What is off for push is still put into the inbox, unless inbox is off as well.
Errors: 42704 unknown recipient or category, 22023 bad value, 0A000 channel not supported, 55000 the category is mandatory or has no digests.
Example: SELECT notif.set_preference('customer-17', 'push', 'marketing', enabled => false);$$;

CREATE FUNCTION notif.reset_preference(recipient text, channel text DEFAULT NULL, category text DEFAULT NULL)
	RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(reset_preference.recipient);
	way		text := notif_private.preference_channel(reset_preference.channel);
	its		notif_private.category := notif_private.preference_category(reset_preference.category);
	n		integer;
BEGIN
	PERFORM notif_private.lock_profile(who);
	DELETE FROM notif_private.preference p
	 WHERE p.recipient_id = who AND NOT (p.channel = '' AND p.category = 0)
	   AND (way = '' OR p.channel = way) AND (its.number = 0 OR p.category = its.number);
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n > 0 THEN
		PERFORM notif_private.compile_profile(who);
		PERFORM notif_private.regard_digests(who);
		-- the default may be off
		PERFORM notif_private.hold_unsent(who);
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif.reset_preference(text, text, text) IS
$$Forgets what notif.set_preference was told, so that the defaults of the categories hold again; returns how many preferences there were. A preference for every channel, or for every category, is one of its own: it is forgotten by naming the same again.
channel, category: only this one; NULL: any. notif.switch_off is not undone by it.
Errors: 42704 unknown recipient or category, 22023 unknown channel, 0A000 channel not supported.
Example: SELECT notif.reset_preference('customer-17', 'push', 'marketing');$$;

-- From the sources, not from the profile: notif.explain compares the two.
CREATE FUNCTION notif_private.preferences_of(recipient bigint)
	RETURNS TABLE (channel text, category text, enabled boolean, frequency text, origin text, changed_at timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT ch.name, c.name, x.enabled,
		   -- where there are no digests everything is told at once
		   CASE WHEN NOT x.enabled THEN 'off' WHEN ch.name = 'inbox' OR c.digest_type IS NULL THEN 'realtime' ELSE x.frequency END,
		   x.origin, x.changed_at
	  FROM notif_private.category c
	 CROSS JOIN unnest(ARRAY['push', 'inbox']) WITH ORDINALITY ch(name, place)
	 CROSS JOIN LATERAL (
		-- the first that says something
		SELECT true AS enabled, 'realtime' AS frequency, 'mandatory' AS origin, NULL::timestamptz AS changed_at, 1 AS rank, 0 AS turn WHERE c.mandatory
		UNION ALL
		SELECT p.frequency <> 'off', p.frequency,
			   CASE WHEN p.channel = '' THEN 'category' WHEN p.category = 0 THEN 'channel' ELSE 'channel and category' END,
			   p.changed_at, CASE WHEN p.channel <> '' AND p.category <> 0 THEN 2 ELSE 3 END, p.turn
		  FROM notif_private.preference p
		 WHERE p.recipient_id = preferences_of.recipient AND p.channel IN ('', ch.name) AND p.category IN (0, c.number)
		   AND NOT (p.channel = '' AND p.category = 0)
		UNION ALL
		SELECT c.default_enabled, 'realtime', 'default', NULL, 4, 0
		 ORDER BY rank, turn DESC LIMIT 1) x
	 ORDER BY c.name, ch.place;
END
$$;
COMMENT ON FUNCTION notif_private.preferences_of(bigint) IS
	'What a recipient''s preferences and the categories say about each channel, notif.switch_off apart.';

CREATE FUNCTION notif.preferences(recipient text)
	RETURNS TABLE (channel text, category text, enabled boolean, frequency text, origin text, changed_at timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(preferences.recipient);
	off_at	timestamptz;
BEGIN
	SELECT p.changed_at INTO off_at FROM notif_private.preference p
	 WHERE p.recipient_id = who AND p.channel = '' AND p.category = 0;
	RETURN QUERY
	SELECT o.channel, o.category, o.enabled AND NOT o.off, CASE WHEN o.off THEN 'off' ELSE o.frequency END,
		   CASE WHEN o.off THEN 'switched off' ELSE o.origin END, CASE WHEN o.off THEN off_at ELSE o.changed_at END
	  FROM (SELECT x.*, off_at IS NOT NULL AND x.channel <> 'inbox' AND x.origin <> 'mandatory' AS off
			  FROM notif_private.preferences_of(who) x) o;
END
$$;
COMMENT ON FUNCTION notif.preferences(text) IS
$$What holds for a recipient in each category and channel, and why.
origin: 'mandatory' (the category cannot be switched off), 'switched off' (notif.switch_off), 'channel and category', 'channel' or 'category' (what notif.set_preference was told), or 'default' (the category's).
Errors: 42704 unknown recipient.
Example: SELECT channel, category, enabled, origin FROM notif.preferences('customer-17');$$;

-- ---- everything -------------------------------------------------------------

CREATE FUNCTION notif.switch_off(recipient text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who	bigint := notif_private.recipient_id(switch_off.recipient);
BEGIN
	PERFORM notif_private.lock_profile(who);
	PERFORM FROM notif_private.preference p WHERE p.recipient_id = who AND p.channel = '' AND p.category = 0;
	IF FOUND THEN
		RETURN false;
	END IF;
	PERFORM notif_private.write_preference(who, '', 0, 'off');
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif.switch_off(text) IS
$$Sends a recipient nothing more but mandatory categories, whatever the preferences say; they are kept. Also holds for what has been published already and is not sent. The inbox is filled as before. Returns false if it was so already.
Errors: 42704 unknown recipient.
Example: SELECT notif.switch_off('customer-17');$$;

CREATE FUNCTION notif.switch_on(recipient text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who	bigint := notif_private.recipient_id(switch_on.recipient);
BEGIN
	PERFORM notif_private.lock_profile(who);
	DELETE FROM notif_private.preference p WHERE p.recipient_id = who AND p.channel = '' AND p.category = 0;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM notif_private.compile_profile(who);
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif.switch_on(text) IS
$$Undoes notif.switch_off: the preferences hold again. Returns false if nothing was switched off.
Errors: 42704 unknown recipient.
Example: SELECT notif.switch_on('customer-17');$$;

-- ---- mutes ------------------------------------------------------------------

CREATE FUNCTION notif_private.check_mute(source text, thread text, OUT what text, OUT name text)
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (source IS NULL) = (thread IS NULL) OR coalesce(source, thread) = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN source IS NOT NULL AND thread IS NOT NULL THEN 'source and thread are both given'
						   ELSE 'neither source nor thread is given' END,
			DETAIL = 'One call is about one source or one thread.',
			HINT = 'Pass source => or thread =>, as notif.publish was given it.';
	END IF;
	IF octet_length(coalesce(source, thread)) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'source or thread is too long',
			DETAIL = format('It has %s bytes; notif.publish takes up to 255.', octet_length(coalesce(source, thread))),
			HINT = 'Pass it as notif.publish was given it.';
	END IF;
	what := CASE WHEN source IS NOT NULL THEN 'source' ELSE 'thread' END;
	name := coalesce(source, thread);
END
$$;
COMMENT ON FUNCTION notif_private.check_mute(text, text) IS
	'Which of the two is given, and its name. 22023 unless it is exactly one.';

CREATE FUNCTION notif.mute(recipient text, source text DEFAULT NULL, thread text DEFAULT NULL,
						   until timestamptz DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(mute.recipient);
	its		record := notif_private.check_mute(mute.source, mute.thread);
	at		constant timestamptz := notif.now();
	n		bigint;
BEGIN
	IF mute.until <= at THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('until is in the past: %s', mute.until),
			DETAIL = format('It is %s now.', at),
			HINT = 'Pass a time to come, or nothing to mute until notif.unmute.';
	END IF;
	PERFORM notif_private.lock_profile(who);
	-- those that are over go with the next change
	DELETE FROM notif_private.mute m WHERE m.recipient_id = who AND m.until <= at;
	INSERT INTO notif_private.mute AS m (recipient_id, what, name, until, muted_at)
	VALUES (who, its.what, its.name, coalesce(mute.until, 'infinity'), at)
	ON CONFLICT ON CONSTRAINT mute_pkey DO UPDATE SET until = EXCLUDED.until, muted_at = EXCLUDED.muted_at;
	SELECT count(*) INTO n FROM notif_private.mute m WHERE m.recipient_id = who;
	IF n > 1000 THEN
		RAISE EXCEPTION USING ERRCODE = '54000',
			MESSAGE = format('recipient %L has muted too much', left(mute.recipient, 80)),
			DETAIL = 'A recipient can mute up to 1000 sources and threads at a time.',
			HINT = 'notif.unmute some, or use notif.set_preference for a whole category.';
	END IF;
	PERFORM notif_private.compile_profile(who);
	PERFORM notif_private.hold_unsent(who);
END
$$;
COMMENT ON FUNCTION notif.mute(text, text, text, timestamptz) IS
$$Sends a recipient nothing of a source or thread, as notif.publish was given it, but what is in a mandatory category; the inbox is filled as before. Also holds for what has been published already and is not sent. Muting again changes the time.
source or thread: one of them, 1 to 255 bytes. until: NULL: until notif.unmute.
Errors: 42704 unknown recipient, 22023 bad value, 54000 more than 1000 mutes.
Example: SELECT notif.mute('customer-17', thread => 'team-android', until => now() + interval '8 hours');$$;

CREATE FUNCTION notif.unmute(recipient text, source text DEFAULT NULL, thread text DEFAULT NULL)
	RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(unmute.recipient);
	its		record := notif_private.check_mute(unmute.source, unmute.thread);
	still	boolean;
BEGIN
	PERFORM notif_private.lock_profile(who);
	DELETE FROM notif_private.mute m WHERE m.recipient_id = who AND m.what = its.what AND m.name = its.name
	RETURNING m.until > notif.now() INTO still;
	IF still IS NULL THEN
		RETURN false;
	END IF;
	PERFORM notif_private.compile_profile(who);
	RETURN still;
END
$$;
COMMENT ON FUNCTION notif.unmute(text, text, text) IS
$$Undoes notif.mute. Returns false if it was not muted, or no longer.
source or thread: as given to notif.mute.
Errors: 42704 unknown recipient, 22023 neither or both are given.
Example: SELECT notif.unmute('customer-17', thread => 'team-android');$$;

CREATE FUNCTION notif.mutes(recipient text)
	RETURNS TABLE (what text, name text, until timestamptz, muted_at timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(mutes.recipient);
BEGIN
	RETURN QUERY
	SELECT m.what, m.name, nullif(m.until, 'infinity'), m.muted_at FROM notif_private.mute m
	 WHERE m.recipient_id = who AND m.until > notif.now() ORDER BY m.what, m.name;
END
$$;
COMMENT ON FUNCTION notif.mutes(text) IS
$$What a recipient has muted now. what: 'source' or 'thread'. until: NULL: until notif.unmute.
Errors: 42704 unknown recipient.
Example: SELECT what, name, until FROM notif.mutes('customer-17');$$;
