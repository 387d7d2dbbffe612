-- What dispatchers read of the configuration, once, until it changes.

CREATE FUNCTION notif_private.worker_type(p_type integer, OUT name text, OUT title text, OUT body text, OUT push text,
										  OUT hold boolean, OUT ordered boolean, OUT digest_title text, OUT digest_body text,
										  OUT digest_push text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT t.name, t.title, t.body, t.push::text, t.on_unknown = 'hold', t.ordered,
		   CASE WHEN d.type_id IS NOT NULL THEN d.title WHEN x.of_category THEN t.title END,
		   CASE WHEN d.type_id IS NOT NULL THEN d.body WHEN x.of_category THEN t.body END,
		   CASE WHEN d.type_id IS NOT NULL OR x.of_category THEN notif_private.digest_push(coalesce(d.push, t.push))::text END
	  INTO name, title, body, push, hold, ordered, digest_title, digest_body, digest_push
	  FROM notif_private.type t
	  LEFT JOIN notif_private.type_digest d ON d.type_id = t.id
	 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM notif_private.category o WHERE o.digest_type = t.id) AS of_category) x
	 WHERE t.id = p_type;
END
$$;
COMMENT ON FUNCTION notif_private.worker_type(integer) IS
	'A type as the dispatcher renders it; digest_*: its digests, NULL if it tells none.';

CREATE FUNCTION notif_private.worker_events(p_events uuid[])
	RETURNS TABLE (id uuid, data text, collapse_key text, created_at timestamptz, digest boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off AS $$
DECLARE
	-- known when the statement starts: only the partitions in between are opened
	v_first	uuid := p_events[1];
	v_last	uuid := p_events[1];
BEGIN
	IF cardinality(p_events) > 1 THEN
		SELECT x.id INTO v_first FROM unnest(p_events) x(id) ORDER BY x.id LIMIT 1;
		SELECT x.id INTO v_last FROM unnest(p_events) x(id) ORDER BY x.id DESC LIMIT 1;
	END IF;
	RETURN QUERY
		SELECT e.id, e.data::text, e.collapse_key, e.created_at, coalesce(e.digest, false)
		  FROM unnest(p_events) i(id)
		 CROSS JOIN LATERAL (SELECT e.id, e.data, e.collapse_key, e.created_at, e.digest
							   FROM notif_private.event e
							  WHERE e.id = i.id AND e.id >= v_first AND e.id <= v_last OFFSET 0) e;
END
$$;
COMMENT ON FUNCTION notif_private.worker_events(uuid[]) IS 'What rendering needs of events.';

CREATE FUNCTION notif_private.worker_provider(p_provider integer, OUT name text, OUT kind text, OUT settings text,
											  OUT key_ref text, OUT key_value text, OUT cert_ref text, OUT cert_value text,
											  OUT rate double precision, OUT burst integer, OUT max_in_flight integer)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT p.name, p.kind, p.settings::text, p.key_ref,
		   (SELECT s.value FROM notif_private.secret s WHERE 'secret:' || s.name = p.key_ref),
		   p.cert_ref,
		   (SELECT s.value FROM notif_private.secret s WHERE 'secret:' || s.name = p.cert_ref),
		   p.rate, coalesce(p.burst, greatest(1, ceil(p.rate))), p.max_in_flight
	  INTO name, kind, settings, key_ref, key_value, cert_ref, cert_value, rate, burst, max_in_flight
	  FROM notif_private.provider p WHERE p.id = p_provider;
END
$$;
COMMENT ON FUNCTION notif_private.worker_provider(integer) IS
	'A provider account with what its references of the form secret: point to; file: is read by the worker.';

-- The row lock is the election: whoever finds the token too old under it mints.
CREATE FUNCTION notif_private.worker_token_lock(p_provider integer, OUT issued_at bigint, OUT token text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM FROM notif_private.provider p WHERE p.id = p_provider FOR NO KEY UPDATE;
	SELECT t.issued_at, t.token INTO issued_at, token FROM notif_private.provider_token t WHERE t.provider_id = p_provider;
END
$$;
COMMENT ON FUNCTION notif_private.worker_token_lock(integer) IS
	'The shared bearer token of a provider, locked until the end of the transaction against another dispatcher''s minting.';

CREATE FUNCTION notif_private.worker_token_store(p_provider integer, p_issued_at bigint, p_token text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO notif_private.provider_token (provider_id, issued_at, token) VALUES (p_provider, p_issued_at, p_token)
	ON CONFLICT (provider_id) DO UPDATE SET issued_at = excluded.issued_at, token = excluded.token;
END
$$;
COMMENT ON FUNCTION notif_private.worker_token_store(integer, bigint, text) IS
	'Keeps a newly minted bearer token for the dispatchers of all tiers and for the next start.';
