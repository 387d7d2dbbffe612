-- One look that tells whether notif does its work.

CREATE FUNCTION notif.health()
	RETURNS TABLE (check_name text, ok boolean, value text, hint text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	preloaded	constant boolean := notif_private.boot_id() <> 0;
	dispatch	constant text := coalesce(current_setting('notif.dispatch', true), '');
	n			bigint;
	m			bigint;
	word		text;
	inst		notif_private.instance;
	since		timestamptz;
	suspended	text;
BEGIN
	RETURN QUERY SELECT 'preload', preloaded, CASE WHEN preloaded THEN 'loaded at server start' ELSE 'not loaded' END,
		CASE WHEN NOT preloaded THEN 'Add notif to shared_preload_libraries and restart the server.' END;

	-- An idle worker turns its loop every 30 s.  One that fails, on a full disk say,
	-- turns it as well and tries again: it runs, and is not well.
	SELECT count(*) FILTER (WHERE w.state = 'running' AND w.heartbeat > clock_timestamp() - interval '90 s' AND w.failing = 0),
		   count(*), string_agg(concat_ws(' ', w.kind, w.tier || ':', coalesce(nullif(w.last_error, ''), w.state)), '; ')
		   FILTER (WHERE w.state <> 'running' OR w.failing > 0)
	INTO n, m, word
	FROM notif_private.workers_here() w;
	RETURN QUERY SELECT 'workers', m > 0 AND n = m, format('%s of %s running well', n, greatest(m, 7)),
		CASE WHEN m = 0 THEN format('Add %s to notif.databases and reload the server.', quote_literal(current_database()))
			 WHEN n < m THEN coalesce(word, 'A worker has not turned its loop for 90 s: see its row in notif.workers.') END;

	RETURN QUERY SELECT 'dispatch', dispatch = 'on', coalesce(nullif(dispatch, ''), 'not set'),
		CASE WHEN dispatch <> 'on' THEN 'notif.dispatch stops all routers and dispatchers of the server; set it to on.' END;

	SELECT x.extversion INTO word FROM pg_extension x WHERE x.extname = 'notif';
	RETURN QUERY SELECT 'version', word = notif_private.library_version(),
		CASE WHEN word = notif_private.library_version() THEN word
			 ELSE format('extension %s, library %s', word, notif_private.library_version()) END,
		CASE WHEN word <> notif_private.library_version() THEN
			 'Nothing is sent meanwhile. If the extension is the older one, run ALTER EXTENSION notif UPDATE; if the library is, restart the server.' END;

	SELECT * INTO inst FROM notif_private.instance;
	RETURN QUERY SELECT 'instance', coalesce(NOT inst.waiting, false),
		CASE WHEN inst.waiting THEN 'waits for confirmation'
			 WHEN inst.incarnation IS NULL THEN 'no worker has run yet'
			 ELSE format('confirmed, number %s', inst.incarnation) END,
		CASE WHEN inst.waiting THEN 'This looks like a restore or a copy. If the original is stopped, call notif.confirm_instance().'
			 WHEN inst.incarnation IS NULL THEN 'It confirms itself when the workers first start.' END;

	SELECT p.upto, p.parent INTO since, word
	FROM (SELECT r.parent, max(r.upper_at) AS upto
		  FROM notif_private.range_partition r WHERE NOT r.detaching GROUP BY r.parent
		  ORDER BY 2 LIMIT 1) p;
	RETURN QUERY SELECT 'partitions', coalesce(since >= clock_timestamp() + interval '2 days', false),
		CASE WHEN since IS NULL THEN 'none'
			 ELSE format('%s reaches %s', word, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD')) END,
		CASE WHEN since IS NULL THEN 'The first publish or the upkeep worker makes them.'
			 WHEN since < clock_timestamp() + interval '2 days' THEN 'The upkeep worker makes them: see its row in notif.workers.' END;

	SELECT min(u.at), string_agg(DISTINCT (SELECT t.name FROM notif_private.event e JOIN notif_private.type t ON t.id = e.type_id
											WHERE e.id = u.event), ', ') INTO since, word
	FROM notif_private.unchecked u WHERE u.at < notif.now() - interval '1 minute';
	SELECT string_agg(l.name, ', ' ORDER BY l.name) INTO suspended
	FROM (SELECT DISTINCT ON (s.name) s.name, s.by FROM notif_private.switch_log s WHERE s.what = 'type' ORDER BY s.name, s.id DESC) l
	WHERE l.by = 'notif' AND EXISTS (SELECT FROM notif_private.pause p WHERE p.what = 'type' AND p.name = l.name);
	RETURN QUERY SELECT 'conditions', since IS NULL AND suspended IS NULL,
		CASE WHEN suspended IS NOT NULL THEN 'took too long: ' || suspended
			 WHEN since IS NOT NULL THEN format('%s s behind', extract(epoch FROM notif.now() - since)::bigint)
			 ELSE 'asked in time' END,
		CASE WHEN suspended IS NOT NULL THEN 'These types are paused: notif.switches says why. Make send_if faster, an index perhaps, then notif.resume the type.'
			 WHEN since IS NOT NULL THEN format('First in line: %s. See the conditions worker in notif.workers; a provider that is down holds them up as well.', word) END;

	SELECT count(*), string_agg(p.what || coalesce(' ' || nullif(p.name, ''), ''), ', ' ORDER BY p.what, p.name)
	INTO n, word FROM notif_private.pause p;
	RETURN QUERY SELECT 'switches', n = 0, coalesce('paused: ' || word, 'nothing paused'),
		CASE WHEN n > 0 THEN 'notif.switches says who, when and why; notif.resume undoes it.' END;

	SELECT count(*), string_agg(x.line, '; ' ORDER BY x.line)
	INTO n, word
	FROM (SELECT format('%s over %s: %s since %s%s', b.provider, b.route, b.state, b.since, coalesce(': ' || nullif(b.reason, ''), '')) AS line
		  FROM notif.breakers b WHERE b.state IN ('open', 'half_open')
		  UNION ALL
		  SELECT format('%s until %s%s', r.name, l.parked_until, coalesce(': ' || nullif(l.last_error, ''), ''))
		  FROM notif_private.lanes_here() l
		  JOIN notif_private.route r ON r.id = l.lane
		  WHERE l.parked_until > notif.now()
			AND NOT EXISTS (SELECT FROM notif.breakers b WHERE b.route = r.name AND b.state IN ('open', 'half_open'))) x;
	RETURN QUERY SELECT 'providers', n = 0, CASE WHEN n = 0 THEN 'no route is parked' ELSE format('%s parked', n) END,
		word || '. What waits is kept. A breaker probes and closes by itself, one opened by hand with notif.close_breaker; credentials and settings are mended with notif.define_provider.';

	SELECT count(*), string_agg(format('%s on %s', a.name, a.platform), ', ' ORDER BY a.name, a.platform)
	INTO n, word FROM notif_private.app a WHERE a.route_id IS NULL;
	RETURN QUERY SELECT 'routes', n = 0, CASE WHEN n = 0 THEN 'every application has one' ELSE format('none for %s', word) END,
		CASE WHEN n > 0 THEN 'Create one with notif.define_route; their deliveries fail until then.' END;

	SELECT count(*) INTO n FROM notif_private.endpoint e WHERE e.state = 'quarantined';
	SELECT greatest(c.reltuples, 0)::bigint INTO m FROM pg_class c WHERE c.oid = 'notif_private.endpoint'::regclass;
	RETURN QUERY SELECT 'quarantine', n <= greatest(20, m / 100), format('%s endpoints', n),
		CASE WHEN n > greatest(20, m / 100) THEN
			'A provider doubts many tokens at once: usually its environment or topic is wrong. Redefining the provider releases them.' END;

	-- Lag is what the workers should have taken up and have not.
	SELECT min(l.since), string_agg(DISTINCT l.tier || ' ' || l.reader, ', ')
	INTO since, word
	FROM (SELECT 'critical' AS tier, c.* FROM notif_private.lag_critical c
		  UNION ALL SELECT 'standard', c.* FROM notif_private.lag_standard c
		  UNION ALL SELECT 'bulk', c.* FROM notif_private.lag_bulk c) l
	WHERE l.since < notif.now() - interval '1 minute';
	RETURN QUERY SELECT 'lag', since IS NULL,
		CASE WHEN since IS NULL THEN 'less than a minute'
			 ELSE format('%s s in %s', extract(epoch FROM notif.now() - since)::bigint, word) END,
		CASE WHEN since IS NOT NULL THEN 'See notif.queue and notif.workers; paused tiers and parked routes lag by intention.' END;

	SELECT count(*), min(d.check_at),
		   count(*) FILTER (WHERE d.check_at < notif.now() - interval '1 minute'
							AND NOT notif_private.is_paused('tier', (ARRAY['critical', 'standard', 'bulk'])[d.tier + 1]))
	INTO n, since, m FROM notif_private.digest d;
	RETURN QUERY SELECT 'digests', m = 0,
		CASE WHEN n = 0 THEN 'none open' ELSE format('%s open, the next is due at %s', n, since) END,
		CASE WHEN m > 0 THEN format('%s are over a minute late. Their router tells them: see notif.workers, and notif.digests for what waits.', m) END;

	SELECT coalesce(sum(t.n) FILTER (WHERE t.state = 'expired'), 0),
		   coalesce(sum(t.n) FILTER (WHERE t.state NOT IN ('scheduled', 'expanded', 'open', 'in_flight')), 0)
	INTO n, m FROM notif_private.tally t;
	RETURN QUERY SELECT 'expired', n <= m / 100, format('%s of %s decided deliveries', n, m),
		CASE WHEN n > m / 100 THEN 'More than 1% came too late. notif.dead_letters lists them; look at the types'' ttl and at lag.' END;

	SELECT count(*), min(e.requested_at) INTO n, since FROM notif_private.erasure e WHERE e.completed_at IS NULL;
	RETURN QUERY SELECT 'erasures', coalesce(since > notif.now() - interval '1 day', true),
		CASE WHEN n = 0 THEN 'none is under way' ELSE format('%s under way, the oldest since %s', n, since) END,
		CASE WHEN since <= notif.now() - interval '1 day' THEN
			'Upkeep searches the ledger once the transactions of that time have ended: look for old ones in pg_stat_activity and pg_prepared_xacts, and whether dispatchers run. notif.erasures shows each.' END;

	SELECT count(*), string_agg(DISTINCT p.pubname, ', ') INTO n, word
	FROM pg_publication_tables p WHERE p.schemaname = 'notif_private';
	RETURN QUERY SELECT 'publications', n = 0, CASE WHEN n = 0 THEN 'none holds tables of notif' ELSE format('%s tables of notif in %s', n, word) END,
		CASE WHEN n > 0 THEN 'A subscriber would get half of the ledger and its rings fill up. Take schema notif_private out of the publication.' END;

	SELECT count(*), string_agg(b.line, '; ') INTO n, word
	FROM (SELECT format('%s: expanded %s, accounted for %s', (ARRAY['critical', 'standard', 'bulk'])[t.tier + 1],
						coalesce(sum(t.n) FILTER (WHERE t.state = 'expanded'), 0),
						coalesce(sum(t.n) FILTER (WHERE t.state <> 'expanded'), 0)) AS line
		  FROM notif_private.tally t WHERE t.state <> 'scheduled' GROUP BY t.tier
		  HAVING coalesce(sum(t.n) FILTER (WHERE t.state = 'expanded'), 0) <> coalesce(sum(t.n) FILTER (WHERE t.state <> 'expanded'), 0)
			  OR coalesce(sum(t.n) FILTER (WHERE t.state = 'open'), 0) < 0
			  OR coalesce(sum(t.n) FILTER (WHERE t.state = 'in_flight'), 0) < 0) b;
	RETURN QUERY SELECT 'ledger', n = 0, coalesce(word, 'balanced'),
		CASE WHEN n > 0 THEN 'This is a fault of notif. notif.audit() recounts from the rows; please report both.' END;
END
$$;
COMMENT ON FUNCTION notif.health() IS
$$Checks that notif does its work, one row each; ok = false comes with a hint.
preload, workers, dispatch, version (of library and extension the same?), instance (restored or copied?), partitions (two days ahead), conditions (send_if: asked in time, none too slow), switches (anything paused), providers (breakers that are open, routes parked for want of working credentials), routes (applications without one), quarantine, lag (what waits for over a minute), digests (what is gathered, is it told in time), expired (over 1% of all deliveries), publications (of logical replication that hold notif's tables), erasures (under way for over a day), ledger (do the counts add up).
Example: SELECT * FROM notif.health() WHERE NOT ok;$$;
