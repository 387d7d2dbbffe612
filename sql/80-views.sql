-- What people look at.  Every view is owned by notif_owner and shows no secret,
-- no payload and no whole device token.

CREATE FUNCTION notif_private.workers_here()
	RETURNS TABLE (kind text, tier text, pid integer, state text, started_at timestamptz, restarts integer,
				   last_error text, last_error_at timestamptz, heartbeat timestamptz, turns bigint, claimed bigint,
				   sent bigint, recorded bigint, in_flight integer, failing integer)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF notif_private.boot_id() <> 0 THEN
		RETURN QUERY
		SELECT w.kind, w.tier, w.pid, w.state, w.started_at, w.restarts, w.last_error, w.last_error_at, w.heartbeat,
			   w.turns, w.claimed, w.sent, w.recorded, w.in_flight, w.failing
		FROM notif_private.worker_status() w WHERE w.database = current_database();
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.workers_here() IS
	'The workers of this database; no rows where notif is not preloaded.';

CREATE FUNCTION notif_private.lanes_here()
	RETURNS TABLE (tier text, lane integer, parked_until timestamptz, in_flight integer, connections integer, last_error text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF notif_private.boot_id() <> 0 THEN
		RETURN QUERY
		SELECT l.tier, l.lane, l.parked_until, l.in_flight, l.connections, l.last_error
		FROM notif_private.lane_status() l WHERE l.database = current_database();
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.lanes_here() IS
	'What the dispatchers of this database say of their lanes; no rows where notif is not preloaded.';

CREATE FUNCTION notif_private.breakers_here()
	RETURNS TABLE (provider integer, route integer, state text, since timestamptz, probe_at timestamptz, results bigint,
				   failed bigint, suspects bigint, share integer, reason text, by text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF notif_private.boot_id() <> 0 THEN
		RETURN QUERY
		SELECT b.provider, b.route, b.state, b.since, b.probe_at, b.results, b.failed, b.suspects, b.share, b.reason, b.by
		FROM notif_private.breaker_status() b;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.breakers_here() IS
	'The breakers of this database in shared memory; no rows where notif is not preloaded.';

CREATE FUNCTION notif_private.pacers_here()
	RETURNS TABLE (provider integer, rate double precision, tokens double precision, in_flight integer, slowed boolean,
				   slowed_until timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF notif_private.boot_id() <> 0 THEN
		RETURN QUERY
		SELECT p.provider, p.rate, p.tokens, p.in_flight, p.slowed, p.slowed_until FROM notif_private.pacer_status() p;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.pacers_here() IS
	'How fast the providers of this database may be asked now; no rows where notif is not preloaded.';

-- ---- configuration ----------------------------------------------------------

CREATE VIEW notif.categories AS
	SELECT c.name, c.on_unknown, c.max_attempts, c.retry_base, c.retry_cap, c.rate_limited, c.retention, c.description,
		   c.default_enabled, c.mandatory, c.quiet_hours, c.requires_consent
	FROM notif_private.category c;
COMMENT ON VIEW notif.categories IS 'Categories as notif.define_category defined them.';

CREATE VIEW notif.types AS
	SELECT t.name, t.category, (ARRAY['critical', 'standard', 'bulk'])[t.tier + 1] AS tier, t.channels, t.title, t.body,
		   t.push, t.ttl, t.enabled, t.ordered, t.dedup_window, t.changed_at, t.send_if, t.send_if_by
	FROM notif_private.type t;
COMMENT ON VIEW notif.types IS 'Types of event as notif.define_type defined them.';

CREATE VIEW notif.routes AS
	SELECT r.name, r.channel, r.platform, r.app, r.providers, r.id AS lane
	FROM notif_private.route r;
COMMENT ON VIEW notif.routes IS
	'Routes as notif.define_route defined them; NULL is any platform or application. lane is the route''s number in queues and outcomes.';

CREATE VIEW notif.quiet_periods AS
	SELECT p.name, p.categories, time '00:00' + make_interval(mins => p.starts) AS start,
		   CASE p.ends WHEN 1440 THEN time '24:00' ELSE time '00:00' + make_interval(mins => p.ends) END AS "end",
		   CASE WHEN p.dates IS NULL THEN ARRAY(SELECT (ARRAY['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'])[d] FROM unnest(p.days) d ORDER BY d) END AS days,
		   p.dates, p.tz
	FROM notif_private.quiet_period p;
COMMENT ON VIEW notif.quiet_periods IS
	'Quiet periods as notif.define_quiet_period defined them. categories NULL: all that respect quiet hours.';

CREATE FUNCTION notif_private.totals_here()
	RETURNS TABLE (limit_id integer, units_left bigint, next_at timestamptz, leased bigint)
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT l.id, s.look[1], CASE WHEN s.look[1] = 0 THEN timestamptz 'epoch' + s.look[2] * interval '1 millisecond' END,
			   coalesce((SELECT sum(x.units) FROM (SELECT DISTINCT ON (y.tier) y.units, y.until FROM notif_private.rate_lease y
													WHERE y.limit_id = l.id ORDER BY y.tier, y.seq DESC) x
						  WHERE x.until >= notif.now()), 0)
		  FROM notif_private.rate_limit l
		 CROSS JOIN LATERAL (
			SELECT notif_private.rate_look((SELECT t.state FROM notif_private.rate_total t WHERE t.limit_id = l.id ORDER BY t.seq DESC LIMIT 1),
										   notif_private.limit_numbers(l), notif.now()) AS look) s
		 WHERE l.scope <> 'recipient';
END
$$;
COMMENT ON FUNCTION notif_private.totals_here() IS
	'How the limits that all recipients share stand now; behind notif.rate_limits.';

CREATE VIEW notif.region_rules AS
	SELECT r.name, r.countries, r.channels,
		   (SELECT array_agg(c.name ORDER BY c.name) FROM notif_private.category c WHERE c.number = ANY (r.categories)) AS categories,
		   r.consent, r.purchase, r.inquiry, time '00:00' + make_interval(mins => r.send_from) AS send_from,
		   CASE r.send_until WHEN 1440 THEN time '24:00' ELSE time '00:00' + make_interval(mins => r.send_until) END AS send_until,
		   r.zones, r.note
	FROM notif_private.region_rule r;
COMMENT ON VIEW notif.region_rules IS
	'Region rules as notif.define_region_rule defined them. countries NULL: any. categories NULL: those that ask for consent.';

CREATE VIEW notif.consent_log AS
	SELECT r.ref AS recipient, c.channel, c.category_name AS category, c.granted, c.kind, c.basis, c.source, c.form_version, c.ip, c.proof,
		   c.at, c.recorded_at, c.recorded_by, c.id
	FROM notif_private.consent c
	JOIN notif_private.recipient r ON r.id = c.recipient_id;
COMMENT ON VIEW notif.consent_log IS
	'Every consent and withdrawal that notif.record_consent was told, of everybody.';

CREATE VIEW notif.suppressions AS
	SELECT encode(s.address_hash, 'hex') AS address_hash, nullif(s.channel, '') AS channel, s.reason, s.source, s.at, s.by
	FROM notif_private.suppression s;
COMMENT ON VIEW notif.suppressions IS
	'The suppression list. address_hash: keyed by this installation; notif.suppressed looks an address up. channel NULL: every channel.';

CREATE VIEW notif.rate_limits AS
	SELECT l.name, l.max_count, l.per, l.action, l.scope, l.channel, l.category,
		   (SELECT t.name FROM notif_private.type t WHERE t.id = l.type_id) AS type,
		   (SELECT c.name FROM notif_private.campaign c WHERE c.id = l.campaign_id) AS campaign,
		   (SELECT p.name FROM notif_private.provider p WHERE p.id = l.provider_id) AS provider,
		   x.units_left, x.next_at, x.leased
	FROM notif_private.rate_limit l
	LEFT JOIN notif_private.totals_here() x ON x.limit_id = l.id;
COMMENT ON VIEW notif.rate_limits IS
	'Rate limits as notif.define_rate_limit defined them. Of those that all recipients share: units_left, how many are neither used nor leased now; next_at, when the next one is free; leased, what the tiers have taken and not used yet. What is left for one recipient shows notif.explain.';

CREATE VIEW notif.switches AS
	SELECT l.at, l.by, l.what, nullif(l.name, '') AS name, l.paused, l.why,
		   EXISTS (SELECT FROM notif_private.pause p WHERE p.what = l.what AND p.name = l.name)
		   AND l.paused AND l.id = max(l.id) OVER (PARTITION BY l.what, l.name) AS holds
	FROM notif_private.switch_log l;
COMMENT ON VIEW notif.switches IS
	'Who paused and resumed what, when and why; holds marks the entries that stop something now.';

CREATE VIEW notif.providers AS
	SELECT p.name, p.kind, p.enabled,
		   EXISTS (SELECT FROM notif_private.pause s
				   WHERE s.what = 'everything' OR (s.what = 'provider' AND s.name = p.name)) AS paused,
		   p.settings, p.key_ref AS key, p.cert_ref AS certificate, n.open, n.in_flight, n.accepted, n.failed, n.expired,
		   n.suppressed, l.connections, l.parked_until,
		   coalesce(l.last_error, (SELECT min(b.reason) FROM notif_private.breakers_here() b
									WHERE b.provider = p.id AND b.state IN ('open', 'half_open'))) AS last_error, p.rate, p.burst, p.max_in_flight,
		   round(s.rate::numeric, 3) AS rate_now, floor(s.tokens)::integer AS tokens, s.in_flight AS on_the_wire,
		   s.slowed_until, p.changed_at
	FROM notif_private.provider p
	LEFT JOIN LATERAL (
		SELECT array_agg(r.id) AS lanes FROM notif_private.route r WHERE p.name = ANY (r.providers)) r ON true
	LEFT JOIN LATERAL (
		SELECT coalesce(sum(t.n) FILTER (WHERE t.state = 'open'), 0)::bigint AS open,
			   coalesce(sum(t.n) FILTER (WHERE t.state = 'in_flight'), 0)::bigint AS in_flight,
			   coalesce(sum(t.n) FILTER (WHERE t.state = 'accepted'), 0)::bigint AS accepted,
			   coalesce(sum(t.n) FILTER (WHERE t.state = 'failed'), 0)::bigint AS failed,
			   coalesce(sum(t.n) FILTER (WHERE t.state = 'expired'), 0)::bigint AS expired,
			   coalesce(sum(t.n) FILTER (WHERE t.state = 'suppressed'), 0)::bigint AS suppressed
		FROM notif_private.tally t WHERE t.lane = ANY (r.lanes)) n ON true
	LEFT JOIN LATERAL (
		SELECT coalesce(sum(h.connections), 0)::integer AS connections, max(h.parked_until) AS parked_until,
			   max(h.last_error) AS last_error
		FROM notif_private.lanes_here() h WHERE h.lane = ANY (r.lanes)) l ON true
	LEFT JOIN notif_private.pacers_here() s ON s.provider = p.id;
COMMENT ON VIEW notif.providers IS
	'Provider accounts, what their routes have done so far, and what the dispatchers say of them now. parked_until: until when a route is not read because the provider is failing, see notif.breakers. rate, burst, max_in_flight: as defined, NULL for no limit. rate_now: requests per second that pass now, less than rate after the provider has said that it is asked too fast; tokens: of them at once; on_the_wire: requests without an answer yet; slowed_until: end of a pause that the provider asked for.';

-- One for each route that a provider may carry, also while no dispatcher runs.
CREATE VIEW notif.breakers AS
	SELECT p.name AS provider, r.name AS route, coalesce(b.state, l.to_state, 'closed') AS state,
		   coalesce(b.since, l.at) AS since, CASE WHEN b.state IS NULL THEN l.probe_at ELSE b.probe_at END AS probe_at,
		   coalesce(b.results, 0) AS results, coalesce(b.failed, 0) AS failed, coalesce(b.suspects, 0) AS suspects,
		   coalesce(b.share, CASE WHEN coalesce(l.to_state, 'closed') = 'closed' THEN 100 ELSE 0 END) AS share,
		   CASE WHEN b.state IS NULL THEN l.reason ELSE b.reason END AS reason,
		   CASE WHEN b.state IS NULL THEN l.by::text ELSE b.by END AS by
	FROM notif_private.route r
	CROSS JOIN LATERAL unnest(r.providers) u(name)
	JOIN notif_private.provider p ON p.name = u.name
	LEFT JOIN notif_private.breakers_here() b ON b.provider = p.id AND b.route = r.id
	LEFT JOIN LATERAL (
		SELECT x.* FROM notif_private.breaker_log x WHERE b.state IS NULL AND x.provider_id = p.id AND x.route_id = r.id
		ORDER BY x.seq DESC LIMIT 1) l ON true;
COMMENT ON VIEW notif.breakers IS
	'Whether a provider is asked over a route: closed (yes), open (no: it failed), half_open (probes), recovering (a share of the capacity, per cent in share). since: when it changed; probe_at: when it may be probed, infinity: not before notif.close_breaker. results, failed, suspects: of the last 30 s, or of the probes. reason: why it changed; by: who did it, NULL for the breaker itself.';

CREATE VIEW notif.breaker_log AS
	SELECT l.at, p.name AS provider, r.name AS route, l.from_state AS "from", l.to_state AS "to", l.reason, l.by
	FROM notif_private.breaker_log l
	LEFT JOIN notif_private.provider p ON p.id = l.provider_id
	LEFT JOIN notif_private.route r ON r.id = l.route_id
	ORDER BY l.at, l.provider_id, l.route_id, l.seq;
COMMENT ON VIEW notif.breaker_log IS
	'Every change of every breaker, oldest first, for 90 days or notif.retention_days if that is longer; by is NULL for those that the breaker has made itself.';

-- ---- people -----------------------------------------------------------------

CREATE VIEW notif.recipients AS
	SELECT r.ref, r.locale, r.tz, r.attributes, r.active, r.created_at, r.country
	FROM notif_private.recipient r;
COMMENT ON VIEW notif.recipients IS 'Recipients by the application''s ref.';

CREATE VIEW notif.endpoints AS
	SELECT r.ref AS recipient, e.device_id, a.platform, a.name AS app, left(e.address, 8) AS token, e.state,
		   e.state_reason AS reason, e.state_at, e.registered_at, e.app_version, e.locale, e.id AS endpoint, e.suppressed
	FROM notif_private.endpoint e
	JOIN notif_private.app a ON a.id = e.app_id
	LEFT JOIN notif_private.recipient r ON r.id = e.recipient_id;
COMMENT ON VIEW notif.endpoints IS
	'Devices of recipients: active, quarantined (a provider doubted the token) or invalid, with the reason and since when. token is its beginning; suppressed: it is on the suppression list.';

CREATE VIEW notif.topics AS
	SELECT t.name, t.created_at,
		   (SELECT count(*) FROM notif_private.subscription s WHERE s.topic_id = t.id) AS subscribers
	FROM notif_private.topic t;
COMMENT ON VIEW notif.topics IS 'Topics and how many have subscribed to each.';

-- ---- the ledger -------------------------------------------------------------

CREATE VIEW notif.state AS
	SELECT (ARRAY['critical', 'standard', 'bulk'])[k.tier + 1] AS tier, s.state::text AS state,
		   coalesce(t.n, 0)::bigint AS n
	FROM generate_series(0, 2) k(tier)
	CROSS JOIN unnest(enum_range(NULL::notif_private.tally_state)) WITH ORDINALITY s(state, place)
	LEFT JOIN (SELECT x.tier, x.state, sum(x.n) AS n FROM notif_private.tally x GROUP BY x.tier, x.state) t
		ON t.tier = k.tier AND t.state = s.state
	ORDER BY k.tier, s.place;
COMMENT ON VIEW notif.state IS
	'How many deliveries are in which state. At any commit, per tier: expanded = open + in_flight + the terminal states. scheduled: events published for later, not expanded yet.';

-- Scheduled attempts are a part of the open ones.
CREATE VIEW notif.queue AS
	SELECT (ARRAY['critical', 'standard', 'bulk'])[k.tier + 1] AS tier, r.name AS route,
		   EXISTS (SELECT FROM notif_private.pause p
				   WHERE p.what = 'everything' OR (p.what = 'tier' AND p.name = (ARRAY['critical', 'standard', 'bulk'])[k.tier + 1])) AS paused,
		   coalesce(n.open, 0) - coalesce(s.n, 0) AS waiting, coalesce(s.n, 0) AS scheduled, coalesce(n.in_flight, 0) AS in_flight,
		   s.due_at AS next_due
	FROM generate_series(0, 2) k(tier)
	CROSS JOIN notif_private.route r
	LEFT JOIN (SELECT x.tier, x.lane, sum(x.n) FILTER (WHERE x.state = 'open')::bigint AS open,
					  sum(x.n) FILTER (WHERE x.state = 'in_flight')::bigint AS in_flight
			   FROM notif_private.tally x WHERE x.state IN ('open', 'in_flight') GROUP BY x.tier, x.lane) n
		ON n.tier = k.tier AND n.lane = r.id
	LEFT JOIN (SELECT 0 AS tier, c.lane, count(*) AS n, min(c.due_at) AS due_at FROM notif_private.scheduled_critical c GROUP BY c.lane
			   UNION ALL
			   SELECT 1, c.lane, count(*), min(c.due_at) FROM notif_private.scheduled_standard c GROUP BY c.lane
			   UNION ALL
			   SELECT 2, c.lane, count(*), min(c.due_at) FROM notif_private.scheduled_bulk c GROUP BY c.lane) s
		ON s.tier = k.tier AND s.lane = r.id;
COMMENT ON VIEW notif.queue IS
	'The queues, one for each tier and route: attempts waiting to be claimed, scheduled for later, and in flight. next_due: when the earliest scheduled one is due.';

-- The newest outcome of a delivery is its state.  Not a DISTINCT ON, which would
-- keep conditions on the view from reaching the indexes below.
CREATE VIEW notif.deliveries AS
	SELECT o.delivery, o.event, t.name AS type, (ARRAY['critical', 'standard', 'bulk'])[o.tier + 1] AS tier,
		   r.ref AS recipient, o.endpoint, o.state, o.terminal, o.reason, o.attempt AS attempts, o.tries, p.name AS provider,
		   o.provider_ref, o.status, round(o.latency_us / 1000.0, 3) AS latency_ms, o.at, o.next_at, o.expires_at
	FROM notif_private.outcome o
	LEFT JOIN notif_private.type t ON t.id = o.type_id
	LEFT JOIN notif_private.recipient r ON r.id = o.recipient
	LEFT JOIN notif_private.provider p ON p.id = o.provider_id
	WHERE NOT EXISTS (SELECT FROM notif_private.outcome later
					  WHERE later.delivery = o.delivery AND later.attempt > o.attempt);
COMMENT ON VIEW notif.deliveries IS
	'Deliveries that have been tried or decided, each with its newest outcome. What has no outcome yet shows in notif.queue and notif.trace.';

CREATE VIEW notif.sends_by_local_hour AS
	SELECT t.category, (ARRAY['critical', 'standard', 'bulk'])[o.tier + 1] AS tier,
		   extract(hour FROM o.at AT TIME ZONE coalesce(r.tz, 'UTC'))::integer AS local_hour, count(*) AS sends
	FROM notif_private.outcome o
	JOIN notif_private.type t ON t.id = o.type_id
	LEFT JOIN notif_private.recipient r ON r.id = o.recipient
	WHERE o.state = 'accepted'
	GROUP BY 1, 2, 3;
COMMENT ON VIEW notif.sends_by_local_hour IS
	'What providers have accepted by the hour of the recipient''s own clock, as of the zone that is stored now; UTC for whoever has none. Reads all outcomes that are kept.';

CREATE VIEW notif.dead_letters AS
	SELECT d.delivery, d.event, d.type, d.tier, d.recipient, d.endpoint, d.state, d.reason, d.attempts, d.tries, d.provider,
		   d.status, d.at
	FROM notif.deliveries d
	WHERE d.terminal AND d.state IN ('failed', 'expired', 'held');
COMMENT ON VIEW notif.dead_letters IS
	'Deliveries that ended in failed, expired or held; notif.redeliver sends one again.';

-- ---- the machinery ----------------------------------------------------------

CREATE VIEW notif.workers AS
	SELECT w.kind, w.tier, w.pid, w.state, w.started_at, w.heartbeat, w.restarts, w.last_error, w.last_error_at, w.turns,
		   w.claimed, w.sent, w.recorded, w.in_flight
	FROM notif_private.workers_here() w;
COMMENT ON VIEW notif.workers IS
	'The background workers of this database; no rows where notif is not preloaded or the database is not in notif.databases.';
