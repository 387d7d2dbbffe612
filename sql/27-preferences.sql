-- What people want to be told.  preference and mute are the truth; profile is what
-- fanout and claim look at: one row per person, compiled by compile_profile() in
-- the transaction that changes them.  Whoever has no row has the defaults.

-- A call of set_preference holds for all that it covers until a later one covers
-- it: rows that it covers wholly are removed, so a row for one channel and one
-- category is always the latest word on it; between a channel's row and a
-- category's the larger turn decides.
CREATE TABLE notif_private.preference (
	recipient_id bigint NOT NULL,
	channel		text NOT NULL,		-- '': every channel
	category	integer NOT NULL,	-- its number, never used again; 0: every category
	frequency	text NOT NULL CHECK (frequency IN ('realtime', 'hourly', 'daily', 'weekly', 'off')),
	turn		integer NOT NULL,
	changed_at	timestamptz NOT NULL,
	-- channel '' and category 0 is the switch for everything, apart from the others
	PRIMARY KEY (recipient_id, channel, category)
);
CREATE INDEX preference_category ON notif_private.preference (category);

CREATE TABLE notif_private.mute (
	recipient_id bigint NOT NULL,
	what		text NOT NULL CHECK (what IN ('source', 'thread')),
	name		text NOT NULL,
	until		timestamptz NOT NULL,	-- infinity: until it is unmuted
	muted_at	timestamptz NOT NULL,
	PRIMARY KEY (recipient_id, what, name)
);

CREATE TABLE notif_private.profile (
	recipient_id bigint PRIMARY KEY,
	switched_off boolean NOT NULL DEFAULT false,
	-- Element 1 + number of a category, or element 1 for those that have none: per
	-- channel, in the order of channel_bit(), a bit that says off and, 8 above it,
	-- one that says on.  Neither: the category's default.  From bit 16 on, two bits per
	-- channel: frequency_bits().  NULL: no preference.
	choices		integer[],
	muted		text[],				-- 'source:x', 'thread:y'; NULL: none
	muted_until	timestamptz[],		-- of each
	muted_hash	integer[],			-- hashtext() of each name, as in attempt.subject
	quiet		smallint[],			-- windows as quiet_until() takes them; NULL: none
	-- as consent_bits() tells them; element 1 + number of a category
	consents	integer[],
	implied		notif_private.implied_consent[]
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE FUNCTION notif_private.channel_bit(channel text) RETURNS integer
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN 1 << (array_position(ARRAY['push', 'inbox', 'webpush', 'email', 'sms', 'voice', 'chat', 'webhook'], channel) - 1);
END
$$;
COMMENT ON FUNCTION notif_private.channel_bit(text) IS
	'The bit of a channel that says off in profile.choices; the one that says on is 256 times it. NULL for an unknown channel.';

CREATE FUNCTION notif_private.profile_of(recipient bigint) RETURNS notif_private.profile
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	made	notif_private.profile;
BEGIN
	made.recipient_id := profile_of.recipient;
	made.switched_off := EXISTS (SELECT FROM notif_private.preference p
								  WHERE p.recipient_id = profile_of.recipient AND p.channel = '' AND p.category = 0);
	WITH said AS MATERIALIZED (
		SELECT p.channel, p.category, p.frequency, p.turn FROM notif_private.preference p
		 WHERE p.recipient_id = profile_of.recipient AND NOT (p.channel = '' AND p.category = 0)
	),
	word AS MATERIALIZED (
		SELECT k.category, bit_or(notif_private.channel_bit(ch.name) * CASE x.frequency WHEN 'off' THEN 1 ELSE 256 END
										  | CASE WHEN ch.name <> 'inbox' THEN notif_private.frequency_bits(ch.name, x.frequency) ELSE 0 END) AS bits
		  FROM (SELECT s.category FROM said s UNION SELECT 0) k
		 CROSS JOIN unnest(ARRAY['push', 'inbox', 'webpush', 'email', 'sms', 'voice', 'chat', 'webhook']) ch(name)
		 CROSS JOIN LATERAL (
			SELECT s.frequency FROM said s
			 WHERE s.channel IN ('', ch.name) AND s.category IN (0, k.category)
			 ORDER BY (s.channel <> '' AND s.category <> 0) DESC, s.turn DESC LIMIT 1) x
		 GROUP BY k.category
	)
	SELECT array_agg(coalesce(w.bits, every.bits, 0) ORDER BY n.number)
	  INTO made.choices
	  FROM generate_series(0, (SELECT max(s.category) FROM said s)) n(number)
	  LEFT JOIN word w ON w.category = n.number
	  LEFT JOIN word every ON every.category = 0;
	SELECT array_agg(m.what || ':' || m.name ORDER BY m.what, m.name), array_agg(m.until ORDER BY m.what, m.name),
		   array_agg(hashtext(m.name) ORDER BY m.what, m.name)
	  INTO made.muted, made.muted_until, made.muted_hash
	  FROM notif_private.mute m WHERE m.recipient_id = profile_of.recipient;
	made.quiet := notif_private.quiet_windows(profile_of.recipient);
	SELECT b.consents, b.implied INTO made.consents, made.implied FROM notif_private.consent_bits(profile_of.recipient) b;
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif_private.profile_of(bigint) IS
	'The profile that follows from a recipient''s preferences, mutes, quiet hours and consent as they are now; it reads the sources alone.';

-- Held until the end of the transaction: without it two transactions that change
-- one person's preferences would each compile a row without the other's.
CREATE FUNCTION notif_private.lock_profile(recipient bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM FROM notif_private.profile p WHERE p.recipient_id = lock_profile.recipient FOR UPDATE;
	IF NOT FOUND THEN
		INSERT INTO notif_private.profile AS p (recipient_id) VALUES (lock_profile.recipient)
		ON CONFLICT ON CONSTRAINT profile_pkey DO NOTHING;
		IF NOT FOUND THEN
			PERFORM FROM notif_private.profile p WHERE p.recipient_id = lock_profile.recipient FOR UPDATE;
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.lock_profile(bigint) IS
	'Makes a recipient''s profile the caller''s to change; call it before reading or writing its sources.';

CREATE FUNCTION notif_private.compile_profile(recipient bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	made	notif_private.profile := notif_private.profile_of(compile_profile.recipient);
BEGIN
	UPDATE notif_private.profile p
	   SET switched_off = made.switched_off, choices = made.choices, muted = made.muted, muted_until = made.muted_until,
		   muted_hash = made.muted_hash, quiet = made.quiet, consents = made.consents, implied = made.implied
	 WHERE p.recipient_id = compile_profile.recipient;
END
$$;
COMMENT ON FUNCTION notif_private.compile_profile(bigint) IS
	'Writes a recipient''s profile anew, after its sources have changed and under lock_profile().';
