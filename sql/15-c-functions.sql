-- Functions in C that the modules below build on.

CREATE FUNCTION notif_private.library_version() RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_library_version';
COMMENT ON FUNCTION notif_private.library_version() IS
	'The version of the library that the server has loaded.';

CREATE FUNCTION notif_private.clock_offset() RETURNS bigint
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_clock_offset_sql';
COMMENT ON FUNCTION notif_private.clock_offset() IS
	'Microseconds by which notif.now() is shifted against the real clock; 0 outside tests.';

CREATE FUNCTION notif_private.shift_clock(by_us bigint) RETURNS bigint
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_shift_clock_sql';
COMMENT ON FUNCTION notif_private.shift_clock(bigint) IS
	'Moves notif.now() of the whole cluster by so many microseconds and returns the new offset. For tests. 55000 without shared_preload_libraries.';

CREATE FUNCTION notif.now() RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_now_sql';
COMMENT ON FUNCTION notif.now() IS
	'The clock that every policy of notif reads: the real time, unless a test has shifted it. Unlike pg_catalog.now() it advances within a transaction.';

CREATE FUNCTION notif_private.delivery_id(event uuid, endpoint bigint) RETURNS uuid
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_delivery_id';
COMMENT ON FUNCTION notif_private.delivery_id(uuid, bigint) IS
	'The UUIDv7 of the delivery of an event to an endpoint: the event''s time and 62 bits derived from both. Expanding twice gives the same id.';

CREATE FUNCTION notif_private.item_id(event uuid, recipient bigint) RETURNS uuid
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_item_id';
COMMENT ON FUNCTION notif_private.item_id(uuid, bigint) IS
	'The UUIDv7 of the inbox item of a recipient for an event; also names what has a recipient but no endpoint.';

CREATE FUNCTION notif_private.uuid_at(at timestamptz) RETURNS uuid
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_uuid_at';
COMMENT ON FUNCTION notif_private.uuid_at(timestamptz) IS
	'The smallest UUIDv7 of that millisecond: a partition bound.';

CREATE FUNCTION notif_private.uuid_time(id uuid) RETURNS timestamptz
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_uuid_time';
COMMENT ON FUNCTION notif_private.uuid_time(uuid) IS 'The time inside a UUIDv7, to the millisecond.';

CREATE FUNCTION notif_private.config_changed() RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_config_changed';
COMMENT ON FUNCTION notif_private.config_changed() IS
	'At commit, makes every backend and worker forget its cached types, providers and routes.';

CREATE FUNCTION notif_private.wake(tier smallint) RETURNS void
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_wake_sql';
COMMENT ON FUNCTION notif_private.wake(smallint) IS
	'At commit, wakes the router and the dispatcher of a tier; a no-op where notif is not preloaded.';

CREATE FUNCTION notif_private.wake_conditions() RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_wake_conditions_sql';
COMMENT ON FUNCTION notif_private.wake_conditions() IS
	'At commit, wakes the worker that asks conditions; a no-op where notif is not preloaded.';

CREATE FUNCTION notif_private.wake_upkeep() RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_wake_upkeep_sql';
COMMENT ON FUNCTION notif_private.wake_upkeep() IS
	'At commit, wakes the upkeep worker; a no-op where notif is not preloaded.';

CREATE FUNCTION notif_private.hold_unsent(recipient bigint) RETURNS void
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_hold_unsent';
COMMENT ON FUNCTION notif_private.hold_unsent(bigint) IS
	'At commit, has the dispatchers give back what they have claimed for a recipient and not sent, so that it passes the gates again; a no-op where notif is not preloaded.';

CREATE FUNCTION notif_private.hold_unsent_of(what text, id integer) RETURNS void
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_hold_unsent_of';
COMMENT ON FUNCTION notif_private.hold_unsent_of(text, integer) IS
	'The same for all of a type, campaign, provider or tier by its number, or everything (0).';

CREATE FUNCTION notif_private.hold_unsent_event(event uuid) RETURNS void
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_hold_unsent_event';
COMMENT ON FUNCTION notif_private.hold_unsent_event(uuid) IS 'The same for all of an event.';

CREATE FUNCTION notif_private.quiet_until(windows smallint[], dates date[], zone text, at timestamptz) RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_quiet_until_sql';
COMMENT ON FUNCTION notif_private.quiet_until(smallint[], date[], text, timestamptz) IS
	'When the quiet hours end in which what is let go at that time could arrive; NULL if in none. windows: start and end in minutes of local time for each weekday on which one begins, Monday first, -1 for none. dates: ascending; only those days, NULL: any.';

CREATE FUNCTION notif_private.next_instant(local timestamp, among text[], not_before timestamptz, after timestamptz,
										   OUT at timestamptz, OUT zones text[])
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_next_instant_sql';
COMMENT ON FUNCTION notif_private.next_instant(timestamp, text[], timestamptz, timestamptz) IS
	'The first instant after a time (NULL: the first of all) at which the clocks of some of the zones show a local time, and those zones. Nowhere before not_before, if that is given. A time that does not exist there is the first one after the gap, of one that exists twice it is the second. NULL if there is none.';

CREATE FUNCTION notif_private.check_delivery_time(deliver_at timestamptz, deliver_at_local timestamp, spread interval) RETURNS void
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_check_delivery_time';
COMMENT ON FUNCTION notif_private.check_delivery_time(timestamptz, timestamp, interval) IS
	'Raises 22023 unless something can be delivered then: at most one of the times, at most five years ahead, spread over a day at most.';

CREATE FUNCTION notif_private.schedule_key(event uuid) RETURNS uuid
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_schedule_key';
COMMENT ON FUNCTION notif_private.schedule_key(uuid) IS
	'What the id of an event for later has in common with the ids of all events that are released for it.';

CREATE FUNCTION notif_private.check_type(kind text, title text, body text, options jsonb) RETURNS text[]
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_check_type';
COMMENT ON FUNCTION notif_private.check_type(text, text, text, jsonb) IS
	'Compiles a type''s message for a kind of provider and returns its placeholders. 22023 with the reason if it does not compile.';

CREATE FUNCTION notif_private.render_text(template text, data jsonb, recipient_ref text, locale text,
										  attributes jsonb, event uuid, type text) RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_render_text';
COMMENT ON FUNCTION notif_private.render_text(text, jsonb, text, text, jsonb, uuid, text) IS
	'Fills a title or body template; NULL where a placeholder has no value.';

CREATE FUNCTION notif_private.check_provider(kind text, settings jsonb, has_key boolean, has_cert boolean) RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_check_provider';
COMMENT ON FUNCTION notif_private.check_provider(text, jsonb, boolean, boolean) IS
	'Checks a provider''s settings. 22023 with the reason.';

CREATE FUNCTION notif_private.token_valid(kind text, address text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_token_valid';
COMMENT ON FUNCTION notif_private.token_valid(text, text) IS
	'Whether an address has the form that a kind of provider takes.';

-- Rate windows.  limits: five numbers each, see rate_limits(); at most 64.
CREATE FUNCTION notif_private.rate_charge(state bytea, limits bigint[], at timestamptz, masks bigint[], first integer, n integer) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_charge';
COMMENT ON FUNCTION notif_private.rate_charge(bytea, bigint[], timestamptz, bigint[], integer, integer) IS
	'Charges n sends to sliding windows, one after the other: masks[first] and so on have a bit for the place of each limit that applies. A send is charged to all of them or to none. The answers are inside the new state: rate_verdicts().';

CREATE FUNCTION notif_private.rate_recharge(state bytea, limits bigint[], at timestamptz, asked bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_recharge';
COMMENT ON FUNCTION notif_private.rate_recharge(bytea, bigint[], timestamptz, bytea) IS
	'rate_charge for what asked, a state that rate_charge has returned, was asked for.';

CREATE FUNCTION notif_private.rate_verdicts(states bytea[]) RETURNS bigint[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_verdicts';
COMMENT ON FUNCTION notif_private.rate_verdicts(bytea[]) IS
	'The answers of the last charge of each state, one after the other: 0 for a send that passed; else the place of the limit that stops it plus one, times 2^48, plus, where it is deferred, when to try again in Unix milliseconds.';

CREATE FUNCTION notif_private.rate_look(state bytea, limits bigint[], at timestamptz) RETURNS bigint[]
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_look';
COMMENT ON FUNCTION notif_private.rate_look(bytea, bigint[], timestamptz) IS
	'For each limit in turn how many it has left and when it lets the next one pass, in Unix milliseconds.';

CREATE FUNCTION notif_private.rate_take(state bytea, limits bigint[], at timestamptz, units integer) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_take';
COMMENT ON FUNCTION notif_private.rate_take(bytea, bigint[], timestamptz, integer) IS
	'Takes so many units out of one window; 54000 if it has fewer left.';

CREATE FUNCTION notif_private.rate_give(state bytea, limits bigint[], at timestamptz, units integer, mask bigint) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_give';
COMMENT ON FUNCTION notif_private.rate_give(bytea, bigint[], timestamptz, integer, bigint) IS
	'Gives units back that were taken at that time, or by it, and never used, to the windows of those limits for whose place mask has a bit.';

CREATE FUNCTION notif_private.rate_until(limits bigint[], at timestamptz) RETURNS timestamptz
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'notif_rate_until';
COMMENT ON FUNCTION notif_private.rate_until(bigint[], timestamptz) IS
	'Until when what is taken at a time may be used: the end of the part of the window that it is dated at.';

CREATE FUNCTION notif_private.worker_status(
	OUT database name, OUT kind text, OUT tier text, OUT pid integer, OUT state text,
	OUT started_at timestamptz, OUT restarts integer, OUT crashes integer, OUT last_error text, OUT last_error_at timestamptz,
	OUT heartbeat timestamptz, OUT turns bigint, OUT claimed bigint, OUT sent bigint,
	OUT recorded bigint, OUT in_flight integer, OUT failing integer)
	RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_worker_status';
COMMENT ON FUNCTION notif_private.worker_status() IS 'The workers of every database as shared memory knows them.';

CREATE FUNCTION notif_private.lane_status(
	OUT database name, OUT tier text, OUT lane integer, OUT parked_until timestamptz,
	OUT in_flight integer, OUT connections integer, OUT last_error text)
	RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_lane_status';
COMMENT ON FUNCTION notif_private.lane_status() IS 'What each dispatcher says of its lanes, from shared memory.';

CREATE FUNCTION notif_private.breaker_known(provider integer, route integer) RETURNS boolean
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_breaker_known_sql';
COMMENT ON FUNCTION notif_private.breaker_known(integer, integer) IS
	'Whether shared memory has the state of a breaker. 55000 without shared_preload_libraries, as for the functions that follow.';

CREATE FUNCTION notif_private.breaker_restore(provider integer, route integer, epoch bigint, at timestamptz, state text,
											  cause text, step integer, probe_at timestamptz, why text, by text) RETURNS void
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_breaker_restore_sql';
COMMENT ON FUNCTION notif_private.breaker_restore(integer, integer, bigint, timestamptz, text, text, integer, timestamptz, text, text) IS
	'Puts the state of a breaker, as the last row of its log has it, into shared memory unless it is there. Half-open becomes open and due.';

CREATE FUNCTION notif_private.breaker_switch(provider integer, route integer, open boolean, mend boolean, why text, by text,
											 OUT epoch bigint, OUT from_state text)
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_breaker_switch_sql';
COMMENT ON FUNCTION notif_private.breaker_switch(integer, integer, boolean, boolean, text, text) IS
	'Opens or closes a breaker when this transaction commits; the caller logs it under epoch. NULL: nothing to change. mend: leaves one that was opened by hand.';

CREATE FUNCTION notif_private.breaker_status(
	OUT provider integer, OUT route integer, OUT state text, OUT cause text, OUT since timestamptz, OUT probe_at timestamptz,
	OUT results bigint, OUT failed bigint, OUT suspects bigint, OUT share integer, OUT reason text, OUT by text)
	RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_breaker_status_sql';
COMMENT ON FUNCTION notif_private.breaker_status() IS
	'The breakers of this database that shared memory knows. results, failed, suspects: of the last 30 s, or of the probes; share: per cent of the capacity that is used.';

CREATE FUNCTION notif_private.pacer_status(
	OUT provider integer, OUT rate double precision, OUT tokens double precision, OUT in_flight integer, OUT slowed boolean,
	OUT slowed_until timestamptz)
	RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_pacer_status_sql';
COMMENT ON FUNCTION notif_private.pacer_status() IS
	'How fast the providers of this database may be asked now, from shared memory. rate: per second, NULL for any; slowed: below what is configured, because the provider asked for it.';

CREATE FUNCTION notif_private.boot_id() RETURNS bigint
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_boot_id_sql';
COMMENT ON FUNCTION notif_private.boot_id() IS 'A random number of this start of the server.';

CREATE FUNCTION notif_private.identity() RETURNS text
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_identity';
COMMENT ON FUNCTION notif_private.identity() IS
	'Who this installation is: system identifier, machine id, device and inode of the data directory, database, timeline.';

CREATE FUNCTION notif_private.system_id() RETURNS text
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_system_id';
COMMENT ON FUNCTION notif_private.system_id() IS 'The system identifier: the first part of identity().';

CREATE FUNCTION notif_private.watched_promotion() RETURNS boolean
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_watched_promotion';
COMMENT ON FUNCTION notif_private.watched_promotion() IS
	'Whether the launcher has watched this server as a standby before it was promoted.';
