-- The queues of tier @TIER@: all append-only, all rings of fixed partitions that
-- are filled one after the other and emptied by TRUNCATE of the child.

-- The ring slot in use is the newest turn modulo the number of slots: 8 of the
-- outbox, 4 of the others.
CREATE TABLE notif_private.turn_@TIER@ (
	turn		bigint PRIMARY KEY,
	at			timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- The order of expansion: each step of the tier's one router has 2^24 numbers after
-- those of all earlier steps, also of those before a crash or a restore.
CREATE SEQUENCE notif_private.ord_@TIER@ AS bigint;

-- Attempts that are due now.
CREATE TABLE notif_private.outbox_@TIER@ (
	ring		smallint NOT NULL,
	incarnation	smallint NOT NULL,
	lane		integer NOT NULL,
	xid			xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	delivery	uuid NOT NULL,
	slot		smallint NOT NULL,	-- hash share of the recipient, 0 to 63
	attempt		smallint NOT NULL,
	tries		smallint NOT NULL,
	type_id		integer NOT NULL,
	ord			bigint NOT NULL,
	recipient	bigint NOT NULL,
	endpoint	bigint NOT NULL,
	event		uuid NOT NULL,
	expires_at	timestamptz NOT NULL,
	collapse	bigint,			-- hash of the event's collapse key
	subject		bigint,			-- hashes of its source and thread
	campaign	integer,
	due			timestamptz,	-- not to be sent before
	conditional	boolean			-- its event has a condition
) PARTITION BY LIST (ring);

-- Attempts that are due later.  part is due_at, clamped into what partitions
-- there are, so that an insert never fails for want of one.
CREATE TABLE notif_private.schedule_@TIER@ (
	part		timestamptz NOT NULL,
	incarnation	smallint NOT NULL,
	lane		integer NOT NULL,
	due_at		timestamptz NOT NULL,
	delivery	uuid NOT NULL,
	slot		smallint NOT NULL,
	attempt		smallint NOT NULL,
	tries		smallint NOT NULL,
	type_id		integer NOT NULL,
	ord			bigint NOT NULL,
	recipient	bigint NOT NULL,
	endpoint	bigint NOT NULL,
	event		uuid NOT NULL,
	expires_at	timestamptz NOT NULL,
	charged_at	timestamptz,
	collapse	bigint,
	subject		bigint,
	campaign	integer,
	conditional	boolean
) PARTITION BY RANGE (part);

-- Endpoints of which attempts were put off.  Those that are put off together keep
-- their order by their times; what comes behind them waits until the last of these.
-- A row holds until the horizon of its lane has passed that time, which is when all
-- of them have been read.  Written only when something is put off, by the owner of
-- the recipient's slot; apart from the endpoint, so that no tier waits for another's
-- lock.
CREATE TABLE notif_private.blocked_@TIER@ (
	endpoint	bigint NOT NULL,
	limited		boolean NOT NULL DEFAULT false,	-- put off by rate limits: only what these apply to waits behind it
	lane		integer NOT NULL,
	until		timestamptz NOT NULL,
	ord			bigint NOT NULL,	-- later ones wait until then; up to it they are in order
	limits		bigint,				-- bits of the limits
	PRIMARY KEY (endpoint, limited)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX blocked_@TIER@_until ON notif_private.blocked_@TIER@ (lane, until);

-- Positions.  role 0: the router's window of events, at (xid, id); 1: an expansion
-- (key is the event); 2: a lane's window of the outbox, at (xid, place = ord); 3: a
-- lane's horizon of the schedule, at (due, place = ord, id); 4: how far the conditions of
-- a lane have been asked, likewise; 5: the last of them that was filed; 6: the router's
-- horizon of appointments, at (due, id).  The newest seq of (role, lane, key) holds.
CREATE TABLE notif_private.cursor_@TIER@ (
	ring		smallint NOT NULL,
	role		smallint NOT NULL,
	lane		integer NOT NULL DEFAULT 0,
	key			uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
	seq			bigint NOT NULL,
	s_from		pg_snapshot,
	s_to		pg_snapshot,	-- NULL: no window is open
	xid			xid8,
	id			uuid,
	place		bigint,			-- ord; expansion: recipient or array position reached
	due			timestamptz,
	count		bigint NOT NULL DEFAULT 0,
	done		boolean NOT NULL DEFAULT false
) PARTITION BY LIST (ring);

-- What was taken to the wire, with all that is needed to judge it after a crash:
-- once it is here the attempt's own row is never read again.  A closed flight
-- has a second row.
CREATE TABLE notif_private.flight_@TIER@ (
	ring		smallint NOT NULL,
	worker		bigint NOT NULL,	-- incarnation of the dispatcher
	flight		bigint NOT NULL,
	closed		boolean NOT NULL,
	lane		integer NOT NULL,
	attempts	notif_private.attempt[],
	at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) PARTITION BY LIST (ring);
ALTER TABLE notif_private.flight_@TIER@ ALTER attempts SET STORAGE EXTERNAL;

-- What the condition of an attempt said when it was asked; good for that attempt, for a
-- minute, once.
CREATE TABLE notif_private.verdict_@TIER@ (
	ring		smallint NOT NULL,
	delivery	uuid NOT NULL,
	attempt		smallint NOT NULL,
	holds		boolean NOT NULL,
	reason		text,			-- why it could not be asked
	lane		integer NOT NULL,
	due_at		timestamptz NOT NULL,
	ord			bigint NOT NULL,
	at			timestamptz NOT NULL
) PARTITION BY LIST (ring);

-- Endpoints of which an ordered attempt waits for its condition: what comes behind it
-- waits as well.  Holds until the horizon of the conditions has passed until.
CREATE TABLE notif_private.checking_@TIER@ (
	endpoint	bigint PRIMARY KEY,
	lane		integer NOT NULL,
	until		timestamptz NOT NULL,
	first		bigint NOT NULL		-- ord of the first of them
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX checking_@TIER@_until ON notif_private.checking_@TIER@ (lane, until);

-- Deltas of what each transaction did; notif.state sums them.
CREATE TABLE notif_private.tally_@TIER@ (
	ring		smallint NOT NULL,
	lane		integer NOT NULL,
	state		notif_private.tally_state NOT NULL,
	n			bigint NOT NULL
) PARTITION BY LIST (ring);

DO $do$
DECLARE
	-- a ring lives by TRUNCATE: autovacuum would only stand in its way
	storage constant text := 'WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)';
BEGIN
	FOR slot IN 0 .. 7 LOOP
		EXECUTE pg_catalog.format('CREATE TABLE notif_private.outbox_@TIER@_%1$s PARTITION OF notif_private.outbox_@TIER@ FOR VALUES IN (%1$s)
			WITH (autovacuum_enabled = off)', slot);
		EXECUTE pg_catalog.format('CREATE INDEX outbox_@TIER@_%1$s_read ON notif_private.outbox_@TIER@_%1$s (lane, incarnation, xid, ord)', slot);
		EXECUTE pg_catalog.format('CREATE INDEX outbox_@TIER@_%1$s_collapse ON notif_private.outbox_@TIER@_%1$s (endpoint, collapse, ord) WHERE collapse IS NOT NULL', slot);
		-- only what was redelivered: nothing for a fresh attempt to write
		EXECUTE pg_catalog.format('CREATE INDEX outbox_@TIER@_%1$s_again ON notif_private.outbox_@TIER@_%1$s (delivery, attempt) WHERE attempt OPERATOR(pg_catalog.>) 1', slot);
	END LOOP;
	FOR slot IN 0 .. 3 LOOP
		EXECUTE pg_catalog.format('CREATE TABLE notif_private.cursor_@TIER@_%1$s PARTITION OF notif_private.cursor_@TIER@
			(PRIMARY KEY (role, lane, key, seq)) FOR VALUES IN (%1$s) %2$s', slot, storage);
		EXECUTE pg_catalog.format('CREATE TABLE notif_private.flight_@TIER@_%1$s PARTITION OF notif_private.flight_@TIER@
			(PRIMARY KEY (worker, flight, closed)) FOR VALUES IN (%1$s) %2$s', slot, storage);
		EXECUTE pg_catalog.format('CREATE TABLE notif_private.verdict_@TIER@_%1$s PARTITION OF notif_private.verdict_@TIER@
			(PRIMARY KEY (delivery, attempt)) FOR VALUES IN (%1$s) %2$s', slot, storage);
		EXECUTE pg_catalog.format('CREATE TABLE notif_private.tally_@TIER@_%1$s PARTITION OF notif_private.tally_@TIER@
			FOR VALUES IN (%1$s) WITH (autovacuum_enabled = off)', slot);
	END LOOP;
END
$do$;
