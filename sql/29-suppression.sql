-- Addresses that nothing is sent to, whoever they belong to.  The list holds hashes, so
-- that it can outlive the person; endpoints carry a flag that is kept in the
-- transactions that change the list or register an address, so that no gate hashes
-- anything.  A registration that runs at the same time as notif.suppress does not see
-- the new entry, nor is seen: until every transaction of that time has ended, seconds as
-- a rule, the entry is recent and has the address itself, which the claim looks for
-- (suppressed_lately).

-- One row, made when it is first needed.  Without it a hash of a phone number is soon
-- undone by trying all of them.
CREATE TABLE notif_private.address_key (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	key			bytea NOT NULL
);

CREATE TABLE notif_private.suppression (
	address_hash bytea NOT NULL,
	channel		text NOT NULL,		-- '': every channel
	reason		text NOT NULL,
	source		text,
	at			timestamptz NOT NULL,
	by			name NOT NULL,
	recent_address text,			-- in its normal form; NULL: every endpoint has its flag
	xid			xid8,				-- of upkeep when it first saw a recent entry
	PRIMARY KEY (address_hash, channel)
);
CREATE INDEX suppression_recent ON notif_private.suppression (recent_address) WHERE recent_address IS NOT NULL;

-- One form for all ways to write an address, without asking for its channel: a number
-- is the same for sms and voice, and the list may hold an address for every channel.
CREATE FUNCTION notif_private.normal_address(address text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	plain	text := btrim(address, E' \t\r\n');
	digits	text := regexp_replace(plain, '[-\s().\/]', '', 'g');
BEGIN
	RETURN CASE
		-- the host of a URL is written either way, what follows is not
		WHEN plain ~ '^[A-Za-z][A-Za-z0-9+.-]*://'
			THEN lower(substring(plain FROM '^[^/]*//[^/?#]*')) || substring(plain FROM '^[^/]*//[^/?#]*(.*)$')
		WHEN plain ~ '@' THEN lower(plain)
		WHEN digits ~ '^(\+|00)[0-9]{6,15}$' THEN '+' || regexp_replace(digits, '^(\+|00)', '')
		WHEN plain ~ '^[0-9A-Fa-f]+$' THEN lower(plain)
		ELSE plain END;
END
$$;
COMMENT ON FUNCTION notif_private.normal_address(text) IS
	'An address in the one form in which it is hashed: mail in lower case, numbers as of E.164, tokens in lower case.';

CREATE FUNCTION notif_private.keyed_hash(what text) RETURNS bytea
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k	bytea;
BEGIN
	SELECT a.key INTO k FROM notif_private.address_key a;
	IF NOT FOUND THEN
		INSERT INTO notif_private.address_key (key) VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
		ON CONFLICT ON CONSTRAINT address_key_pkey DO NOTHING;
		SELECT a.key INTO k FROM notif_private.address_key a;
	END IF;
	RETURN sha256(k || convert_to(what, 'UTF8'));
END
$$;
COMMENT ON FUNCTION notif_private.keyed_hash(text) IS
	'SHA-256 of a text under the key of this installation, which is made with the first call. Volatile, so that it sees the key of another transaction that was first.';

CREATE FUNCTION notif_private.is_suppressed(address text, channel text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	hash	bytea;
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.suppression) THEN
		RETURN false;
	END IF;
	hash := notif_private.keyed_hash(notif_private.normal_address(is_suppressed.address));
	RETURN EXISTS (SELECT FROM notif_private.suppression s
					WHERE s.address_hash = hash AND s.channel IN ('', is_suppressed.channel));
END
$$;
COMMENT ON FUNCTION notif_private.is_suppressed(text, text) IS 'Whether an address is on the suppression list for a channel.';

CREATE FUNCTION notif_private.suppressed_lately(p_batch notif_private.attempt[]) RETURNS boolean[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
BEGIN
	RETURN (SELECT array_agg(l.found ORDER BY b.ordinality)
			  FROM unnest(p_batch) WITH ORDINALITY b
			  LEFT JOIN LATERAL (
				SELECT true AS found
				  FROM (SELECT e.channel, e.address FROM notif_private.endpoint e WHERE e.id = b.endpoint OFFSET 0) ep
				 WHERE EXISTS (SELECT FROM notif_private.suppression s
								WHERE s.recent_address IS NOT NULL AND s.recent_address = ep.address
								  AND s.channel IN ('', ep.channel)) OFFSET 0) l ON true);
END
$$;
COMMENT ON FUNCTION notif_private.suppressed_lately(notif_private.attempt[]) IS
	'For each attempt of a batch whether its address got onto the suppression list lately (NULL: not). Not asked while no entry is recent, since the flags of the endpoints say it all then.';
