-- Digests: what is gathered for a person and told as one push.
--
-- An event that batches for somebody, by its type (define_digest) or because the
-- person wants its category hourly, daily or weekly, becomes an item of his open
-- digest instead of an attempt.  When the digest is due it becomes an ordinary event
-- for him alone, which passes all gates again and is never gathered itself.
--
-- Only a tier's router writes the three tables of digests; who wants something of it
-- (a preference has changed, a limit folds) appends a command to the event log.  An
-- open digest is one row that is not touched per item: number, first and last are read
-- off its items when its time to be looked at has come.  That time alone is indexed
-- and moves only when it is reached and the digest has slid, so under a held snapshot
-- a digest of 10,000 items leaves as many dead rows as one of two.

-- A type that batches.
CREATE TABLE notif_private.type_digest (
	type_id		integer PRIMARY KEY REFERENCES notif_private.type,
	key			text NOT NULL CHECK (key IN ('thread', 'source', 'type', 'category')),
	wait		interval NOT NULL,		-- told once nothing has come for so long,
	max_delay	interval NOT NULL,		-- at the latest so long after the first
	title		text NOT NULL,
	body		text NOT NULL,
	push		jsonb,					-- NULL: the type's
	items		smallint NOT NULL,		-- how many the templates see
	single		boolean NOT NULL,		-- one item alone is told as a digest, too
	changed_at	timestamptz NOT NULL
);

-- When people get what they want daily or weekly; who has no row has 08:00 and Monday.
CREATE TABLE notif_private.digest_time (
	recipient_id bigint PRIMARY KEY,
	minute		smallint NOT NULL CHECK (minute BETWEEN 0 AND 1439),
	weekday		smallint NOT NULL CHECK (weekday BETWEEN 1 AND 7),
	changed_at	timestamptz NOT NULL
);

-- Open digests.  kind: window (of a type), frequency (of a category, as the person
-- wants it), limit (what a rate limit has folded).
CREATE TABLE notif_private.digest (
	id			uuid PRIMARY KEY,
	tier		smallint NOT NULL,
	recipient	bigint NOT NULL,
	kind		text NOT NULL CHECK (kind IN ('window', 'frequency', 'limit')),
	scope		integer NOT NULL,		-- its type; 0: a category
	key			text NOT NULL,			-- thread, source, or name of type or category
	type_id		integer NOT NULL,		-- of the first item
	opened_at	timestamptz NOT NULL,
	check_at	timestamptz NOT NULL,	-- due then, unless it has slid
	UNIQUE (recipient, tier, kind, scope, key)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX digest_check ON notif_private.digest (tier, check_at, id);

-- What is in a digest, open or closed.  Appended only; upkeep forgets it with the
-- closed digest.
CREATE TABLE notif_private.digest_item (
	digest		uuid NOT NULL,
	ord			bigint NOT NULL,
	event		uuid NOT NULL,
	recipient	bigint NOT NULL,
	type_id		integer NOT NULL,
	at			timestamptz NOT NULL,
	subject		bigint,					-- hashes of its source and thread, as attempts carry
	PRIMARY KEY (digest, ord)
);
CREATE UNIQUE INDEX digest_item_event ON notif_private.digest_item (event, recipient, digest);

-- Closed digests, appended.
CREATE TABLE notif_private.digest_done (
	id			uuid PRIMARY KEY,
	tier		smallint NOT NULL,
	recipient	bigint NOT NULL,
	kind		text NOT NULL,
	scope		integer NOT NULL,
	key			text NOT NULL,
	opened_at	timestamptz NOT NULL,
	closed_at	timestamptz NOT NULL,
	items		bigint NOT NULL,		-- how many there were
	told		bigint NOT NULL,		-- without those cancelled or muted meanwhile
	event		uuid,					-- what it became; NULL: nothing was left to tell
	reason		text					-- why there is no event, or why it tells the last item only
);
CREATE UNIQUE INDEX digest_done_event ON notif_private.digest_done (event) WHERE event IS NOT NULL;
CREATE INDEX digest_done_closed ON notif_private.digest_done (closed_at);

-- What the fanout hands to gather().
CREATE TYPE notif_private.gathered AS (
	event		uuid,
	recipient	bigint,
	pace		text,			-- window, hourly, daily, weekly, limit
	ord			bigint
);

CREATE FUNCTION notif_private.next_local_time(minute integer, weekday integer, zone text, after timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_next_local_time_sql';
COMMENT ON FUNCTION notif_private.next_local_time(integer, integer, text, timestamptz) IS
	'The first instant after that time at which the zone''s clock shows so many minutes of the day, on that weekday (1: Monday; NULL: any); minute NULL: the next full hour. A time that does not exist on a day is the first one after the gap, of one that exists twice it is the second.';

CREATE FUNCTION notif_private.digest_due(at timestamptz) RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_digest_due_sql';
COMMENT ON FUNCTION notif_private.digest_due(timestamptz) IS
	'Has the router that calls it look at its digests at that time, if not before; nothing for NULL. A hint: after a crash it looks anyway.';

CREATE FUNCTION notif_private.message_fits(kind text, title text, body text, push jsonb, data jsonb, recipient_ref text,
										   locale text, attributes jsonb, event uuid, type text) RETURNS boolean
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_message_fits';
COMMENT ON FUNCTION notif_private.message_fits(text, text, text, jsonb, jsonb, text, text, jsonb, uuid, text) IS
	'Whether a kind of provider can be sent this message: it compiles, every placeholder has a value, it is not too large.';

-- Bits 16 and 17 of a choice are push's frequency, those above the other channels'.
CREATE FUNCTION notif_private.frequency_bits(channel text, frequency text) RETURNS integer
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(array_position(ARRAY['hourly', 'daily', 'weekly'], frequency), 0)
		<< (16 + 2 * (array_position(ARRAY['push', 'inbox', 'webpush', 'email', 'sms', 'voice', 'chat', 'webhook'], channel) - 1));
END
$$;
COMMENT ON FUNCTION notif_private.frequency_bits(text, text) IS
	'What a frequency of a channel adds to a choice of profile.choices: 1 hourly, 2 daily, 3 weekly, from bit 16 on, two bits a channel.';

CREATE FUNCTION notif_private.next_digest(recipient bigint, pace text, after timestamptz) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	zone	text;
	minute	integer;
	weekday	integer;
BEGIN
	SELECT r.tz INTO zone FROM notif_private.recipient r WHERE r.id = next_digest.recipient;
	SELECT t.minute, t.weekday INTO minute, weekday FROM notif_private.digest_time t WHERE t.recipient_id = next_digest.recipient;
	RETURN notif_private.next_local_time(
		CASE WHEN pace IN ('daily', 'weekly') THEN coalesce(minute, 480) END,
		CASE WHEN pace = 'weekly' THEN coalesce(weekday, 1) END, coalesce(zone, 'UTC'), after);
END
$$;
COMMENT ON FUNCTION notif_private.next_digest(bigint, text, timestamptz) IS
	'When a recipient is next told what he wants hourly, daily or weekly: by his own clock, UTC if he has no zone. Any other pace is hourly.';

-- What the type's push options are for a digest: an app is not sent the items
-- themselves, which have no bound, unless somebody asks for it.
CREATE FUNCTION notif_private.digest_push(push jsonb) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"data": {"count": "{count}", "key": "{key}"}}'::jsonb || push;
END
$$;
COMMENT ON FUNCTION notif_private.digest_push(jsonb) IS
	'Push options of a digest: data is count and key where the options do not say otherwise.';

-- Called by what changes when or whether somebody wants to be told, in its
-- transaction: the routers look at his open digests again.
CREATE FUNCTION notif_private.regard_digests(recipient bigint) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	open	record;
BEGIN
	FOR open IN SELECT DISTINCT ON (d.tier) d.tier, d.type_id FROM notif_private.digest d
				 WHERE d.recipient = regard_digests.recipient ORDER BY d.tier LOOP
		INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, recipients, data, expires_at, created_at)
		VALUES (notif_private.new_event_id(), open.tier, notif_private.current_incarnation(), 4, open.type_id,
				ARRAY[regard_digests.recipient], '{}', notif.now() + interval '1 day', notif.now());
		PERFORM notif_private.wake(open.tier);
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.regard_digests(bigint) IS
	'Files the command to look at a recipient''s open digests at once, one for each tier that has any.';
