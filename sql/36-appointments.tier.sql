-- Events of tier @TIER@ that are published for later, until they are due.  A row has
-- all that releasing needs: the partition of the event itself is gone long before a
-- year is over.
--
-- The tier's router alone inserts and deletes.  It reads from a horizon (role 6 of
-- cursor_@TIER@), and files everything behind it, so that what is far ahead and what
-- was deleted under somebody's old snapshot cost nothing.  A row is deleted in the
-- transaction that releases its event: so whether somebody reschedules it before, or
-- comes too late, is decided by the lock of the row, and told to him.
CREATE TABLE notif_private.appointment_@TIER@ (
	due_at		timestamptz NOT NULL,
	id			uuid NOT NULL,		-- of the event by which it was filed
	schedule	uuid NOT NULL,		-- the event that was published
	-- A look has nothing else: when it is due, schedule is judged again, since
	-- somebody had locked its row.
	look		boolean NOT NULL DEFAULT false,
	-- A reschedule that has been asked for and is not carried out yet; of a look the
	-- command that it shall carry out.
	command		uuid,
	type_id		integer,
	topic_id	integer,
	recipients	bigint[],
	data		jsonb,
	correlation_id text,
	collapse_key text,
	source		text,
	thread		text,
	channels	text[],
	campaign_id	integer,
	send_if		text,
	published_by name,
	created_at	timestamptz,
	deliver_at	timestamptz,
	deliver_at_local timestamp,
	spread		interval,
	expires_in	interval,
	-- Of a local time: never before the moment of the request; the instant up to which
	-- zones have been served; and the snapshot by which people are where they are.
	not_before	timestamptz,
	served		timestamptz,
	as_of		pg_snapshot,
	PRIMARY KEY (due_at, id)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX appointment_@TIER@_schedule ON notif_private.appointment_@TIER@ (schedule);
CREATE INDEX appointment_@TIER@_correlation ON notif_private.appointment_@TIER@ (correlation_id)
	WHERE correlation_id IS NOT NULL;
