-- Words of the product as types.

CREATE TYPE notif.outcome_state AS ENUM (
	'accepted',		-- the provider took it
	'failed',		-- it will not be sent: bad message, dead address, retries used up
	'expired',		-- its time passed before it could be sent
	'suppressed',	-- a gate stopped it
	'superseded',	-- a newer delivery of the same collapse key replaced it
	'cancelled',	-- notif.cancel
	'merged',		-- it became part of a digest
	'held',			-- in doubt after a fault, and its category forbids sending twice
	'retry',		-- not terminal: another attempt follows
	'deferred',		-- not terminal: moved to later without using up an attempt
	'unknown'		-- not terminal: bytes left and no answer came; another attempt follows
);
COMMENT ON TYPE notif.outcome_state IS
	'Verdict of an attempt. accepted, failed, expired, suppressed, superseded, cancelled, merged and held are terminal; retry, deferred and unknown are followed by another attempt.';

CREATE TYPE notif.endpoint_state AS ENUM ('active', 'quarantined', 'invalid');
COMMENT ON TYPE notif.endpoint_state IS
	'active: may be sent to. quarantined: a provider doubted it, waiting for a quorum. invalid: dead.';

-- What the tally counts: expanded = open + in_flight + the terminal states.
-- scheduled is apart: events published for later, not expanded yet.
CREATE TYPE notif_private.tally_state AS ENUM (
	'scheduled', 'expanded', 'open', 'in_flight',
	'accepted', 'failed', 'expired', 'suppressed', 'superseded', 'cancelled', 'merged', 'held');

-- One attempt as it travels from the queue through the gates.
CREATE TYPE notif_private.attempt AS (
	delivery	uuid,
	attempt		smallint,		-- number of this row of the delivery's history, from 1
	tries		smallint,		-- attempts that counted, before this one
	ord			bigint,			-- the order in which the router expanded them
	event		uuid,
	type_id		integer,
	recipient	bigint,
	endpoint	bigint,
	expires_at	timestamptz,
	charged_at	timestamptz,	-- when it passed the rate limits, which were charged for it; NULL: not yet
	collapse	bigint,			-- hash of its collapse key; NULL: none
	-- what the gates ask of its event, so that a claim need not look at events
	subject		bigint,			-- hashes of source and thread, see subject_of(); NULL: it has neither
	campaign	integer,		-- NULL: none
	due			timestamptz,	-- not to be sent before; NULL: at once; -infinity: it was parked, see 59-parking
	conditional	boolean			-- its event has a condition, see 59-conditions; NULL: it has none
);

-- Why the gates do not let an attempt of a batch fly.
CREATE TYPE notif_private.stop AS (
	nth			integer,		-- its place in the batch
	verdict		text,			-- an outcome's state
	reason		text,
	next_at		timestamptz,	-- deferred: until when
	lane		integer,		-- deferred: where it waits
	place		integer			-- of the rate limit that stops it; NULL: another gate does
);

-- How many of a batch the gates stopped.
CREATE TYPE notif_private.stopped AS (
	ended		bigint,
	refiled		bigint,			-- put off: they wait in the schedule
	stops		boolean[]		-- of each attempt of the batch: whether it is one of them; NULL: none is
);
