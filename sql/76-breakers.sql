-- Breakers: whether a route asks a provider at all while that provider fails.
-- Their state is in shared memory; the log remembers every change and gives the
-- state back after a restart.

-- ---- for the dispatchers ------------------------------------------------------

CREATE FUNCTION notif_private.worker_breaker(p_provider integer, p_route integer) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	last	notif_private.breaker_log;
BEGIN
	IF NOT notif_private.breaker_known(p_provider, p_route) THEN
		SELECT l.* INTO last FROM notif_private.breaker_log l
		 WHERE l.provider_id = p_provider AND l.route_id = p_route ORDER BY l.seq DESC LIMIT 1;
		PERFORM notif_private.breaker_restore(p_provider, p_route, last.seq, last.at, last.to_state, last.cause,
											  last.step, last.probe_at, last.reason, last."by");
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.worker_breaker(integer, integer) IS
	'Brings the breaker of a provider and a route back into shared memory, as its log says, unless it is there.';

CREATE FUNCTION notif_private.worker_breaker_log(
	p_provider integer, p_route integer, p_seq bigint, p_at timestamptz, p_from text, p_to text, p_cause text,
	p_step integer, p_probe_at timestamptz, p_reason text, p_by text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Dispatchers of several tiers may write the same change.
	INSERT INTO notif_private.breaker_log (provider_id, route_id, seq, at, from_state, to_state, cause, step, probe_at, reason, by)
	VALUES (p_provider, p_route, p_seq, p_at, p_from, p_to, p_cause, p_step, p_probe_at, p_reason, p_by)
	ON CONFLICT ON CONSTRAINT breaker_log_pkey DO NOTHING;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION notif_private.worker_breaker_log(integer, integer, bigint, timestamptz, text, text, text, integer, timestamptz, text, text) IS
	'Writes down a change that a breaker has made by itself; false if another dispatcher has.';

-- ---- for upkeep ---------------------------------------------------------------

CREATE FUNCTION notif_private.forget_breaker_log(p_before timestamptz) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	n	integer;
BEGIN
	DELETE FROM notif_private.breaker_log l
	 USING (SELECT x.provider_id, x.route_id, x.seq FROM notif_private.breaker_log x
			 WHERE x.at < p_before
			   -- the newest of a breaker is its state
			   AND EXISTS (SELECT FROM notif_private.breaker_log newer
							WHERE newer.provider_id = x.provider_id AND newer.route_id = x.route_id AND newer.seq > x.seq)
			 ORDER BY x.at LIMIT 5000) x
	 WHERE l.provider_id = x.provider_id AND l.route_id = x.route_id AND l.seq = x.seq;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION notif_private.forget_breaker_log(timestamptz) IS
	'Removes changes of breakers that are older, except for the newest of each; returns how many.';

-- ---- for people ---------------------------------------------------------------

CREATE FUNCTION notif_private.switch_breaker(p_provider integer, p_route integer, p_open boolean, p_mend boolean, p_why text)
	RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	change	record;
BEGIN
	PERFORM notif_private.worker_breaker(p_provider, p_route);
	SELECT s.epoch, s.from_state INTO change
	  FROM notif_private.breaker_switch(p_provider, p_route, p_open, p_mend, p_why, SESSION_USER::text) s;
	IF change.epoch IS NULL THEN
		RETURN false;
	END IF;
	INSERT INTO notif_private.breaker_log (provider_id, route_id, seq, at, from_state, to_state, cause, step, reason, by)
	VALUES (p_provider, p_route, change.epoch, notif.now(), change.from_state, CASE WHEN p_open THEN 'open' ELSE 'closed' END,
			CASE WHEN p_open THEN 'manual' ELSE 'none' END, 0, p_why, SESSION_USER);
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.switch_breaker(integer, integer, boolean, boolean, text) IS
	'Opens or closes one breaker at commit and logs it; false if it is so already. mend: leaves one that was opened by hand.';

CREATE FUNCTION notif_private.mend_breakers(provider_ids integer[], everything boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	pair	record;
BEGIN
	-- Without shared memory no breaker stops anything.
	IF notif_private.boot_id() = 0 THEN
		RETURN;
	END IF;
	FOR pair IN
		SELECT p.id AS provider, r.id AS route
		  FROM notif_private.provider p JOIN notif_private.route r ON p.name = ANY (r.providers)
		 WHERE p.id = ANY (provider_ids) ORDER BY p.id, r.id
	LOOP
		PERFORM notif_private.worker_breaker(pair.provider, pair.route);
		IF everything OR EXISTS (SELECT FROM notif_private.breaker_status() b
								  WHERE b.provider = pair.provider AND b.route = pair.route AND b.cause = 'credentials') THEN
			PERFORM notif_private.switch_breaker(pair.provider, pair.route, false, true, 'provider redefined');
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.mend_breakers(integer[], boolean) IS
	'Providers have been redefined: closes their breakers, those opened for refused credentials or all, but none that somebody opened by hand.';

CREATE FUNCTION notif_private.switch_breakers(provider text, route text, open boolean, why text) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	pair	record;
	pid		integer;
	changed	integer := 0;
BEGIN
	SELECT p.id INTO pid FROM notif_private.provider p WHERE p.name = switch_breakers.provider;
	IF pid IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('provider %s does not exist', coalesce(quote_literal(left(switch_breakers.provider, 80)), 'NULL')),
			DETAIL = 'No provider of that name is defined.',
			HINT = 'notif.providers lists them.';
	END IF;
	IF switch_breakers.route IS NOT NULL THEN
		PERFORM FROM notif_private.route r WHERE r.name = switch_breakers.route;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '42704',
				MESSAGE = format('route %L does not exist', left(switch_breakers.route, 80)),
				DETAIL = 'No route of that name is defined.',
				HINT = 'notif.routes lists them.';
		END IF;
	END IF;
	PERFORM FROM notif_private.route r
	  WHERE switch_breakers.provider = ANY (r.providers)
		AND (switch_breakers.route IS NULL OR r.name = switch_breakers.route);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('provider %L carries %s', switch_breakers.provider,
				CASE WHEN switch_breakers.route IS NULL THEN 'no route' ELSE format('nothing of route %L', switch_breakers.route) END),
			DETAIL = 'A breaker is of a provider and a route.',
			HINT = 'notif.breakers lists them.';
	END IF;
	FOR pair IN
		SELECT r.id AS route FROM notif_private.route r
		 WHERE switch_breakers.provider = ANY (r.providers)
		   AND (switch_breakers.route IS NULL OR r.name = switch_breakers.route) ORDER BY r.id
	LOOP
		changed := changed + notif_private.switch_breaker(pid, pair.route, switch_breakers.open, false, switch_breakers.why)::integer;
	END LOOP;
	RETURN changed;
END
$$;
COMMENT ON FUNCTION notif_private.switch_breakers(text, text, boolean, text) IS
	'What notif.open_breaker and notif.close_breaker have in common.';

CREATE FUNCTION notif.open_breaker(provider text, route text DEFAULT NULL, why text DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN notif_private.switch_breakers(open_breaker.provider, open_breaker.route, true, open_breaker.why);
END
$$;
COMMENT ON FUNCTION notif.open_breaker(text, text, text) IS
$$Opens a breaker by hand, at commit: nothing is sent to the provider over the route, not even probes, until notif.close_breaker. What waits stays where it is and uses up no attempt; what is claimed and not yet on the wire is given back. Returns how many breakers have changed.
provider: its name. route: its name; NULL for all routes that the provider carries. why: for the log, see notif.breaker_log.
Unlike notif.pause, it does not make a route use its next provider.
Errors: 42704 unknown provider or route, 22023 the provider does not carry the route, 55000 without shared_preload_libraries, 0A000 in a transaction that is prepared.
Example: SELECT notif.open_breaker('apple', why => 'Apple asked us to');$$;

CREATE FUNCTION notif.close_breaker(provider text, route text DEFAULT NULL, why text DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN notif_private.switch_breakers(close_breaker.provider, close_breaker.route, false, close_breaker.why);
END
$$;
COMMENT ON FUNCTION notif.close_breaker(text, text, text) IS
$$Closes a breaker at commit, whoever opened it: everything is sent again, without probes and without a ramp. If the provider still fails it opens again. Returns how many breakers have changed.
provider: its name. route: its name; NULL for all routes that the provider carries. why: for the log, see notif.breaker_log.
Errors: 42704 unknown provider or route, 22023 the provider does not carry the route, 55000 without shared_preload_libraries, 0A000 in a transaction that is prepared.
Example: SELECT notif.close_breaker('apple', 'push', why => 'their status page is green');$$;
