-- The suppression list: complaints, hard bounces, STOP messages, and whoever must not be
-- written to for another reason.

CREATE FUNCTION notif_private.suppression_key(address text, channel text, OUT hash bytea, OUT way text, OUT plain text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF channel IS NOT NULL THEN
		PERFORM notif_private.consent_channel(channel);
	END IF;
	plain := notif_private.normal_address(address);
	IF coalesce(plain, '') = '' OR octet_length(plain) > 2048 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid address',
			DETAIL = format('It has %s bytes.', coalesce(octet_length(plain), 0)),
			HINT = 'Pass a mail address, a number as of E.164, a device token or a URL, of up to 2048 bytes.';
	END IF;
	IF channel IN ('sms', 'voice') AND plain !~ '^\+[0-9]{6,15}$' OR channel = 'email' AND plain !~ '^[^@\s]+@[^@\s]+$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid address for channel %L', channel),
			DETAIL = 'An entry that no address can match would protect nobody.',
			HINT = CASE channel WHEN 'email' THEN 'Pass a mail address like name@example.com, without a display name.'
								ELSE 'Pass the number with its country code, like +14155550100.' END;
	END IF;
	hash := notif_private.keyed_hash(plain);
	way := coalesce(channel, '');
END
$$;
COMMENT ON FUNCTION notif_private.suppression_key(text, text) IS
	'Under which key an address is listed, and its normal form. 22023 if it is none, or the channel unknown.';

-- Endpoints of an address, which they have in its normal form.  The unique index of
-- addresses begins with the application, of which there are few.
CREATE FUNCTION notif_private.mark_suppressed(plain text) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
	one		record;
	n		integer := 0;
BEGIN
	FOR one IN
		SELECT e.id, e.recipient_id, e.address, e.channel, e.suppressed FROM notif_private.app a
		 CROSS JOIN LATERAL (SELECT x.* FROM notif_private.endpoint x
							  WHERE x.app_id = a.id AND x.address = mark_suppressed.plain AND x.state <> 'invalid' OFFSET 0) e
		 ORDER BY e.id
	LOOP
		IF one.suppressed <> notif_private.is_suppressed(one.address, one.channel) THEN
			UPDATE notif_private.endpoint e SET suppressed = NOT one.suppressed WHERE e.id = one.id AND e.address = one.address;
			n := n + 1;
			IF NOT one.suppressed THEN
				PERFORM notif_private.hold_unsent(one.recipient_id);
			END IF;
		END IF;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.mark_suppressed(text) IS
	'Sets the flag of every living endpoint of an address in its normal form as the list says; returns how many changed.';

CREATE FUNCTION notif.suppress(address text, channel text DEFAULT NULL, reason text DEFAULT NULL, source text DEFAULT NULL)
	RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record := notif_private.suppression_key(suppress.address, suppress.channel);
	made	boolean;
BEGIN
	IF coalesce(suppress.reason, '') = '' OR octet_length(suppress.reason) > 255 OR octet_length(suppress.source) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN coalesce(suppress.reason, '') = '' THEN 'reason is missing' ELSE 'reason or source is too long' END,
			DETAIL = 'Somebody will ask why nothing is sent there; up to 255 bytes of each are kept.',
			HINT = 'Use ''complaint'', ''hard_bounce'', ''stop'', ''legal'' or the like, without anything about the person.';
	END IF;
	INSERT INTO notif_private.suppression AS s (address_hash, channel, reason, source, at, by, recent_address)
	VALUES (its.hash, its.way, suppress.reason, suppress.source, notif.now(), SESSION_USER, its.plain)
	ON CONFLICT ON CONSTRAINT suppression_pkey DO NOTHING;
	made := FOUND;
	PERFORM notif_private.mark_suppressed(its.plain);
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif.suppress(text, text, text, text) IS
$$Sends nothing more to an address, whoever it belongs to now or later, in any category, mandatory ones too; also holds for what has been published already and is not sent. The list keeps a keyed hash, no address, and outlives the erasure of a recipient. Returns false if it was listed already, which leaves the entry as it is.
address: a mail address, number, device token or URL, in any way of writing it. channel: the only one it is about; NULL: every channel. reason: 'complaint', 'hard_bounce', 'stop' or the like, needed. source: who says so, a webhook or a person.
Errors: 22023 bad value or unknown channel.
Example: SELECT notif.suppress('ada@example.com', 'email', 'complaint', source => 'ses');$$;

CREATE FUNCTION notif.unsuppress(address text, channel text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record := notif_private.suppression_key(unsuppress.address, unsuppress.channel);
BEGIN
	DELETE FROM notif_private.suppression s WHERE s.address_hash = its.hash AND s.channel = its.way;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM notif_private.mark_suppressed(its.plain);
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif.unsuppress(text, text) IS
$$Takes an entry off the suppression list; returns false if there was none. An entry for every channel and those for single ones are taken off apart.
address, channel: as in notif.suppress.
Errors: 22023 bad value or unknown channel.
Example: SELECT notif.unsuppress('ada@example.com', 'email');$$;

CREATE FUNCTION notif.suppressed(address text)
	RETURNS TABLE (channel text, reason text, source text, at timestamptz, by name)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record := notif_private.suppression_key(suppressed.address, NULL);
BEGIN
	RETURN QUERY
	SELECT nullif(s.channel, ''), s.reason, s.source, s.at, s.by FROM notif_private.suppression s
	 WHERE s.address_hash = its.hash ORDER BY s.channel;
END
$$;
COMMENT ON FUNCTION notif.suppressed(text) IS
$$The entries of the suppression list about an address; channel NULL: for every channel.
Errors: 22023 bad value.
Example: SELECT channel, reason, at FROM notif.suppressed('ada@example.com');$$;

-- An entry is recent while a transaction may be open that was when it was made, and may
-- yet bring an endpoint that it did not see.
CREATE FUNCTION notif_private.settle_suppressions() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	one		record;
	n		integer;
BEGIN
	-- whoever may have looked before the entry was there runs now, with a smaller xid
	UPDATE notif_private.suppression s SET xid = pg_current_xact_id() WHERE s.recent_address IS NOT NULL AND s.xid IS NULL;
	GET DIAGNOSTICS n = ROW_COUNT;
	FOR one IN SELECT s.address_hash, s.channel, s.recent_address FROM notif_private.suppression s
				WHERE s.recent_address IS NOT NULL
				  AND (s.xid < pg_snapshot_xmin(pg_current_snapshot())
					   -- of another system, from which this one was restored
					   OR s.xid > pg_current_xact_id())
				ORDER BY s.xid LIMIT 1000 FOR UPDATE SKIP LOCKED LOOP
		PERFORM notif_private.mark_suppressed(one.recent_address);
		UPDATE notif_private.suppression s SET recent_address = NULL, xid = NULL
		 WHERE s.address_hash = one.address_hash AND s.channel = one.channel;
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.settle_suppressions() IS
	'Gives endpoints their flag that were registered while an entry of the suppression list was made, once all transactions of that time have ended, and forgets the address; returns how many entries it has looked at. Called by upkeep.';
