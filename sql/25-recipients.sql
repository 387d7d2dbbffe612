-- Who can be told, and where.

CREATE TABLE notif_private.recipient (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ref			text NOT NULL UNIQUE CHECK (ref OPERATOR(pg_catalog.<>) '' AND pg_catalog.octet_length(ref) OPERATOR(pg_catalog.<=) 255),
	locale		text,
	tz			text,
	country		text CHECK (country OPERATOR(pg_catalog.~) '^[A-Z]{2}$'),	-- ISO 3166-1; NULL: not known
	attributes	jsonb NOT NULL DEFAULT '{}',
	active		boolean NOT NULL DEFAULT true,
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE TABLE notif_private.endpoint (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	recipient_id bigint NOT NULL,
	app_id		integer NOT NULL REFERENCES notif_private.app,
	channel		text NOT NULL,
	device_id	text NOT NULL,
	address		text NOT NULL,
	state		notif.endpoint_state NOT NULL DEFAULT 'active',
	state_reason text,
	state_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	-- 410 kills only what was registered before the provider saw it die.
	registered_at timestamptz NOT NULL,
	-- Deliveries of the route accepted when this endpoint was quarantined:
	-- the quorum counts from there.
	quarantine_mark bigint,
	app_version	text,
	locale		text,
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	suppressed	boolean NOT NULL DEFAULT false,	-- its address is on the suppression list
	UNIQUE (recipient_id, app_id, device_id)
) WITH (fillfactor = 90);
-- An address has one living owner: a device that signs in as somebody else moves.
CREATE UNIQUE INDEX endpoint_address ON notif_private.endpoint (app_id, address) WHERE state <> 'invalid';
CREATE INDEX endpoint_quarantined ON notif_private.endpoint (app_id, state_at) WHERE state = 'quarantined';

CREATE TABLE notif_private.topic (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.<>) '' AND pg_catalog.octet_length(name) OPERATOR(pg_catalog.<=) 255),
	created_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE TABLE notif_private.subscription (
	topic_id	integer NOT NULL,
	recipient_id bigint NOT NULL,
	subscribed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (topic_id, recipient_id)
);
CREATE INDEX subscription_recipient ON notif_private.subscription (recipient_id);

-- Sliding windows of what was sent to a person, and what the last claim was
-- answered: rate_charge().  The critical tier has a row of its own, so that no bulk
-- claim can make a one-time code wait for a lock; what it sends counts apart.
CREATE TABLE notif_private.rate (
	recipient_id bigint NOT NULL,
	critical	boolean NOT NULL,
	state		bytea NOT NULL,
	PRIMARY KEY (recipient_id, critical)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
