-- The ledger: append-only, partitioned by the time inside its UUIDv7.
--
-- Parents carry no index, key or foreign key, and their partitions are made by
-- upkeep (or by the first publish), never by this script: so they are ordinary
-- tables that pg_dump carries whole and pg_restore accepts.  Each partition gets
-- its own keys before it is attached; 40-partitions.sql says which.

-- kind 0 is a publish or a digest; others ride in the same log, so that the router
-- reads them by the same snapshot windows: 1 redelivers, 3 folds a delivery into a
-- digest, 4 looks at a recipient's open digests at once.  2 is a publish for later,
-- which the router files as an appointment (36-appointments.tier.sql), or, with a
-- parent, a command about one: to be rescheduled if it has a time, else cancelled.
CREATE TABLE notif_private.event (
	id			uuid NOT NULL,
	tier		smallint NOT NULL,
	incarnation	smallint NOT NULL,
	xid			xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	kind		smallint NOT NULL DEFAULT 0,
	type_id		integer NOT NULL,
	topic_id	integer,
	recipients	bigint[],		-- sorted, distinct; NULL for a topic
	data		jsonb NOT NULL,
	correlation_id text,
	collapse_key text,
	source		text,
	thread		text,
	channels	text[],			-- NULL: those of the type
	expires_at	timestamptz NOT NULL,
	published_by name NOT NULL DEFAULT SESSION_USER,
	created_at	timestamptz NOT NULL,
	campaign_id	integer,
	parent		uuid,			-- the event that it was made of; NULL: it was published
	digest		boolean,		-- NULL: no digest; whether the type's digest templates tell it
	send_if		text,			-- a condition, asked with the rights of published_by
	-- Of a publish for later what was asked for; of the events that are released
	-- for it the time at which they were due.
	deliver_at	timestamptz,
	deliver_at_local timestamp,
	spread		interval,		-- people are told within so long after deliver_at
	expires_in	interval,		-- from the time of delivery
	-- Released for people in these zones only, as of a snapshot; NULL: for all.
	zones		text[],
	zones_as_of	pg_snapshot
) PARTITION BY RANGE (id);

-- The verdict of every attempt; unique by (delivery, attempt) in its partition.
-- Attempt 0 is the router's own word: a recipient without an endpoint, an event
-- without an audience.
CREATE TABLE notif_private.outcome (
	delivery	uuid NOT NULL,
	attempt		smallint NOT NULL,
	retention	text NOT NULL,
	tier		smallint NOT NULL,
	lane		integer,
	state		notif.outcome_state NOT NULL,
	terminal	boolean NOT NULL,
	reason		text,
	event		uuid NOT NULL,
	type_id		integer NOT NULL,
	recipient	bigint,
	endpoint	bigint,
	tries		smallint NOT NULL,
	provider_id	integer,
	provider_ref text,			-- the provider's id of the message
	status		integer,		-- HTTP status
	latency_us	integer,
	flight		bigint,
	ord			bigint,
	expires_at	timestamptz,
	next_at		timestamptz,	-- when the attempt that follows is due
	at			timestamptz NOT NULL
) PARTITION BY LIST (retention);
CREATE TABLE notif_private.outcome_standard PARTITION OF notif_private.outcome
	FOR VALUES IN ('standard') PARTITION BY RANGE (delivery);
CREATE TABLE notif_private.outcome_long PARTITION OF notif_private.outcome
	FOR VALUES IN ('long') PARTITION BY RANGE (delivery);

-- One event as one recipient sees it.  Written before any push.
CREATE TABLE notif_private.inbox (
	id			uuid NOT NULL,
	recipient	bigint NOT NULL,
	event		uuid NOT NULL,
	type_id		integer NOT NULL
) PARTITION BY RANGE (id);

-- Reading an inbox is appended, too.
CREATE TABLE notif_private.inbox_mark (
	item		uuid PRIMARY KEY,
	recipient	bigint NOT NULL,
	read_at		timestamptz NOT NULL
);
CREATE INDEX inbox_mark_recipient ON notif_private.inbox_mark (recipient, item);
CREATE TABLE notif_private.inbox_read_up_to (
	recipient	bigint PRIMARY KEY,
	item		uuid NOT NULL,
	read_at		timestamptz NOT NULL
);

-- Uniqueness in time cannot be partitioned by time: a plain table, expired
-- rows removed by upkeep.
CREATE TABLE notif_private.idempotency (
	key			text PRIMARY KEY,
	event		uuid NOT NULL,
	body_hash	bytea NOT NULL,
	expires_at	timestamptz NOT NULL
);
CREATE INDEX idempotency_expiry ON notif_private.idempotency (expires_at);

-- A cancelled event: read at claim, so that it holds from its commit.  That of an
-- event for later stands under schedule_key() as well, which is that of all events
-- that are or ever will be released for it.
CREATE TABLE notif_private.cancellation (
	event		uuid PRIMARY KEY,
	by			name NOT NULL DEFAULT SESSION_USER,
	at			timestamptz NOT NULL DEFAULT pg_catalog.now(),
	why			text,
	schedule	boolean NOT NULL DEFAULT false
);
-- whether there is any at all
CREATE INDEX cancellation_schedule ON notif_private.cancellation (event) WHERE schedule;
