-- Configuration: small tables, changed by people, kept by pg_dump.
-- The install script puts no row into them: a dump would carry it a second time.

-- One row, written at the first start.  incarnation is the installation's
-- number: rows of another one can never match a cursor of this one.
CREATE TABLE notif_private.instance (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	incarnation	smallint NOT NULL,
	identity	text NOT NULL,
	waiting		boolean NOT NULL DEFAULT false,
	-- the start of the server that was confirmed, for instance_guard = confirm
	boot		bigint,
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- The number of a category is its place in the profiles of people; never used again.
CREATE SEQUENCE notif_private.category_number AS integer;

CREATE TABLE notif_private.category (
	name		text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	on_unknown	text NOT NULL CHECK (on_unknown IN ('retry', 'hold')),
	max_attempts integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
	retry_base	interval NOT NULL,
	retry_cap	interval NOT NULL,
	rate_limited boolean NOT NULL,
	retention	text NOT NULL CHECK (retention IN ('standard', 'long')),
	description	text,
	number		integer NOT NULL UNIQUE DEFAULT pg_catalog.nextval('notif_private.category_number'),
	default_enabled boolean NOT NULL DEFAULT true,	-- for people who have no preference
	mandatory	boolean NOT NULL DEFAULT false,
	quiet_hours	text NOT NULL DEFAULT 'respect' CHECK (quiet_hours IN ('respect', 'bypass')),
	-- The type of its hourly, daily and weekly digests; NULL: people may not choose them.
	digest_type	integer,
	digest_items smallint,
	requires_consent text[] NOT NULL DEFAULT '{}',	-- channels over which people must have agreed to it
	needs		integer NOT NULL DEFAULT 0,	-- channels, by channel_bit(), that consent_need has rows for
	CHECK (default_enabled OR NOT mandatory)
);

CREATE TABLE notif_private.type (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tier		smallint NOT NULL CHECK (tier BETWEEN 0 AND 2),
	-- one after the other for each endpoint, also behind one that waits for a retry
	ordered		boolean NOT NULL,
	enabled		boolean NOT NULL DEFAULT true,
	limits		bigint NOT NULL DEFAULT 0,	-- bits of the rate limits that apply: compile_limits()
	batches		boolean NOT NULL DEFAULT false,		-- it has a row in type_digest
	-- What its category says, kept equal by triggers: fanout, claim and record look at
	-- one row for each attempt, not at two.  Columns of a fixed width come first, since
	-- what stands behind a varying one takes longer to reach.
	category_number integer NOT NULL,
	default_enabled boolean NOT NULL,
	mandatory	boolean NOT NULL,
	bypasses_quiet boolean NOT NULL,	-- quiet_hours = 'bypass'
	needs		integer NOT NULL,
	max_attempts integer NOT NULL,
	retry_base	interval NOT NULL,
	retry_cap	interval NOT NULL,
	retention	text NOT NULL,
	on_unknown	text NOT NULL,
	category	text NOT NULL REFERENCES notif_private.category,
	digest_type	integer,
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.~) '^[A-Za-z0-9_.:-]{1,100}$'),
	channels	text[] NOT NULL,
	title		text NOT NULL,
	body		text NOT NULL,
	push		jsonb NOT NULL,
	ttl			interval NOT NULL,
	dedup_window interval,		-- NULL: the same may come again at once
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	-- a condition that is asked before each claim, with the rights of a role
	send_if		text,
	send_if_by	name,
	CHECK ((send_if IS NULL) OPERATOR(pg_catalog.=) (send_if_by IS NULL))
);
CREATE INDEX type_conditional ON notif_private.type (id) WHERE send_if IS NOT NULL;

-- A type that is written takes what its category says.  The lock: a category that is
-- being redefined is waited for, and one that is redefined later sees the type.
CREATE FUNCTION notif_private.type_takes_category() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT c.number, c.default_enabled, c.mandatory, c.quiet_hours = 'bypass', c.needs, c.max_attempts,
		   c.retry_base, c.retry_cap, c.retention, c.on_unknown, c.digest_type
	  INTO NEW.category_number, NEW.default_enabled, NEW.mandatory, NEW.bypasses_quiet, NEW.needs, NEW.max_attempts,
		   NEW.retry_base, NEW.retry_cap, NEW.retention, NEW.on_unknown, NEW.digest_type
	  FROM notif_private.category c WHERE c.name = NEW.category FOR SHARE;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION notif_private.type_takes_category() IS
	'Trigger: copies into a type what its category says.';
CREATE TRIGGER type_takes_category BEFORE INSERT OR UPDATE OF category ON notif_private.type
	FOR EACH ROW EXECUTE FUNCTION notif_private.type_takes_category();

CREATE FUNCTION notif_private.category_tells_types() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE notif_private.type t SET category = t.category WHERE t.category = NEW.name;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION notif_private.category_tells_types() IS
	'Trigger: has the types of a category take anew what it says.';
CREATE TRIGGER category_tells_types AFTER UPDATE ON notif_private.category
	FOR EACH ROW EXECUTE FUNCTION notif_private.category_tells_types();

CREATE TABLE notif_private.provider (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	kind		text NOT NULL,
	settings	jsonb NOT NULL,
	key_ref		text,			-- 'file:/path' or 'secret:name'
	cert_ref	text,
	rate		numeric,		-- requests per second; NULL: any number
	burst		integer,		-- of them at once; NULL: those of one second
	max_in_flight integer,		-- of all tiers together; NULL: any number
	enabled		boolean NOT NULL DEFAULT true,
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Secrets: nobody may select them, no dump contains them.
CREATE TABLE notif_private.secret (
	name		text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	value		text NOT NULL,
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- The bearer token of a provider account, shared by the dispatchers of all
-- tiers and kept over restarts: APNs punishes tokens that change too often.
CREATE TABLE notif_private.provider_token (
	provider_id	integer PRIMARY KEY REFERENCES notif_private.provider ON DELETE CASCADE,
	issued_at	bigint NOT NULL,	-- iat, UNIX seconds
	token		text NOT NULL
);

-- A lane is one route's queue within a tier.
CREATE TABLE notif_private.route (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	channel		text NOT NULL,
	platform	text,			-- NULL: any
	app			text,			-- NULL: any
	providers	text[] NOT NULL,
	UNIQUE NULLS NOT DISTINCT (channel, platform, app)
);

-- Every change of a breaker; the last row of each is its state after a restart.
-- seq is the epoch that the change began.
CREATE TABLE notif_private.breaker_log (
	provider_id	integer NOT NULL,
	route_id	integer NOT NULL,
	seq			bigint NOT NULL,
	at			timestamptz NOT NULL,
	from_state	text NOT NULL,
	to_state	text NOT NULL,
	cause		text NOT NULL,
	step		integer NOT NULL,
	probe_at	timestamptz,
	reason		text,
	by			name,			-- NULL: the breaker itself
	PRIMARY KEY (provider_id, route_id, seq)
);

-- What endpoints share: one row per application and platform, with its route
-- looked up once, when either changes, instead of once per delivery.
CREATE TABLE notif_private.app (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	channel		text NOT NULL,
	platform	text NOT NULL,
	name		text NOT NULL,
	route_id	integer REFERENCES notif_private.route,
	UNIQUE (channel, platform, name)
);

-- What events were published for together, to pause or limit it as one.
CREATE TABLE notif_private.campaign (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.<>) '' AND pg_catalog.octet_length(name) OPERATOR(pg_catalog.<=) 255),
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- Switches that are on; the log keeps who, when and why.
CREATE TABLE notif_private.pause (
	what		text NOT NULL CHECK (what IN ('everything', 'tier', 'provider', 'type', 'campaign')),
	name		text NOT NULL DEFAULT '',
	PRIMARY KEY (what, name)
);

-- Where attempts of a paused type or campaign wait: in the schedule, in a lane of
-- their own (- id) that is not read until the switch is off again.  The claim of the
-- route's tier is its one writer and reader, as of the route itself.  'condition' has no
-- switch: what has a condition waits there to be asked (59-conditions).
CREATE TABLE notif_private.parking (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tier		smallint NOT NULL,
	route_id	integer NOT NULL,
	what		text NOT NULL,
	name		text NOT NULL,
	subject_id	integer NOT NULL,		-- of the type or campaign; condition: 0
	drained		boolean NOT NULL DEFAULT false,
	UNIQUE (tier, route_id, what, name)
);

-- Every lane that the schedule can have rows of.
CREATE VIEW notif_private.schedule_lane AS
	SELECT r.id, r.id AS route_id, NULL::smallint AS tier FROM notif_private.route r
	UNION ALL
	SELECT - p.id, p.route_id, p.tier FROM notif_private.parking p;
CREATE TABLE notif_private.switch_log (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at			timestamptz NOT NULL DEFAULT pg_catalog.now(),
	by			name NOT NULL,
	what		text NOT NULL,
	name		text NOT NULL,
	paused		boolean NOT NULL,
	why			text
);
