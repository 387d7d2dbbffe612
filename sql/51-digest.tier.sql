-- Digests of tier @TIER@: gathering, and telling what has been gathered.  Both are
-- steps of the tier's router (29-digests.sql says what the tables are for).

-- Files items in the open digests that they belong to, opening those that are not.
CREATE FUNCTION notif_private.gather_@TIER@(p_items notif_private.gathered[], OUT types integer[],
											OUT expires timestamptz[], OUT retentions text[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_now		constant timestamptz := notif.now();
	v_first		uuid;
	v_last		uuid;
	v_kinds		text[];		-- of each item, as the next three are and what is returned
	v_scopes	integer[];
	v_keys		text[];
	v_subjects	bigint[];
	v_due		timestamptz;
	n			bigint;
BEGIN
	SELECT i.event INTO v_first FROM unnest(p_items) i ORDER BY i.event LIMIT 1;
	SELECT i.event INTO v_last FROM unnest(p_items) i ORDER BY i.event DESC LIMIT 1;
	SELECT array_agg(k.kind ORDER BY i.nth), array_agg(s.scope ORDER BY i.nth), array_agg(
			   CASE WHEN s.scope = 0 THEN ty.category
					WHEN s.by = 'thread' THEN coalesce(ev.thread, ty.name)
					WHEN s.by = 'source' THEN coalesce(ev.source, ty.name)
					ELSE ty.name END ORDER BY i.nth),
		   array_agg(ev.type_id ORDER BY i.nth),
		   array_agg(CASE WHEN ev.source IS NOT NULL OR ev.thread IS NOT NULL
						  THEN notif_private.subject_of(ev.source, ev.thread) END ORDER BY i.nth),
		   array_agg(ev.expires_at ORDER BY i.nth), array_agg(ty.retention ORDER BY i.nth)
	  INTO v_kinds, v_scopes, v_keys, types, v_subjects, expires, retentions
	  FROM unnest(p_items) WITH ORDINALITY i(event, recipient, pace, ord, nth)
	 CROSS JOIN LATERAL (
		SELECT e.type_id, e.source, e.thread, e.expires_at FROM notif_private.event e
		 WHERE e.id = i.event AND e.id >= v_first AND e.id <= v_last OFFSET 0) ev
	 CROSS JOIN LATERAL (
		SELECT t.name, t.category, t.digest_type, t.retention FROM notif_private.type t
		 WHERE t.id = ev.type_id OFFSET 0) ty
	  LEFT JOIN LATERAL (
		SELECT d.key FROM notif_private.type_digest d WHERE d.type_id = ev.type_id OFFSET 0) td ON true
	 CROSS JOIN LATERAL (SELECT CASE i.pace WHEN 'window' THEN 'window' WHEN 'limit' THEN 'limit' ELSE 'frequency' END AS kind) k
	 CROSS JOIN LATERAL (
		SELECT CASE WHEN k.kind = 'frequency' OR (k.kind = 'limit' AND ty.digest_type IS NOT NULL) OR td.key = 'category'
					THEN 0 ELSE ev.type_id END AS scope,
			   coalesce(td.key, 'type') AS by) s;
	WITH opened AS (
		INSERT INTO notif_private.digest (id, tier, recipient, kind, scope, key, type_id, opened_at, check_at)
		SELECT notif_private.new_event_id(), @TIERNO@, f.recipient, f.kind, f.scope, f.key, f.type_id, v_now,
			   CASE f.kind WHEN 'window'
					THEN v_now + coalesce((SELECT least(d.wait, d.max_delay) FROM notif_private.type_digest d
											WHERE d.type_id = f.type_id), interval '0')
					ELSE notif_private.next_digest(f.recipient, f.pace, v_now) END
		  FROM (SELECT DISTINCT ON (i.recipient, i.kind, i.scope, i.key) i.*
				  FROM unnest(p_items, v_kinds, v_scopes, v_keys, types) WITH ORDINALITY
					   i(event, recipient, pace, ord, kind, scope, key, type_id, nth)
				 ORDER BY i.recipient, i.kind, i.scope, i.key, i.nth) f
		 WHERE NOT EXISTS (
				SELECT FROM notif_private.digest o
				 WHERE o.recipient = f.recipient AND o.tier = @TIERNO@ AND o.kind = f.kind AND o.scope = f.scope AND o.key = f.key)
		-- a dry run in a session does the same, and takes it back
		ON CONFLICT ON CONSTRAINT digest_recipient_tier_kind_scope_key_key DO NOTHING
		RETURNING check_at
	)
	SELECT min(o.check_at) INTO v_due FROM opened o;
	PERFORM notif_private.digest_due(v_due);
	INSERT INTO notif_private.digest_item (digest, ord, event, recipient, type_id, at, subject)
	SELECT d.id, i.ord, i.event, i.recipient, i.type_id, v_now, i.subject
	  FROM unnest(p_items, v_kinds, v_scopes, v_keys, types, v_subjects)
		   i(event, recipient, pace, ord, kind, scope, key, type_id, subject)
	 CROSS JOIN LATERAL (
		SELECT o.id FROM notif_private.digest o
		 WHERE o.recipient = i.recipient AND o.tier = @TIERNO@ AND o.kind = i.kind AND o.scope = i.scope AND o.key = i.key
		OFFSET 0) d;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n <> cardinality(p_items) THEN
		RAISE EXCEPTION USING ERRCODE = 'XX001',
			MESSAGE = 'gathering does not conserve its items',
			DETAIL = format('given %s, filed %s', cardinality(p_items), n);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.gather_@TIER@(notif_private.gathered[]) IS
	'Appends items to the open digests of their recipients, opens those that do not exist, and asserts that none vanished. Returns, for each item, its event''s type, expiry and retention.';

-- What the fanout gathers instead of filing attempts.
CREATE FUNCTION notif_private.merge_@TIER@(p_turn bigint, p_items notif_private.gathered[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	its		record;
BEGIN
	SELECT * INTO its FROM notif_private.gather_@TIER@(p_items);
	INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, reason, event, type_id, recipient,
									   tries, ord, expires_at, at)
	SELECT notif_private.item_id(i.event, i.recipient), 0, i.retention, @TIERNO@, 'merged', true, 'digest:' || i.pace,
		   i.event, i.type_id, i.recipient, 0, i.ord, i.expires_at, notif.now()
	  FROM unnest(p_items, its.types, its.expires, its.retentions)
		   i(event, recipient, pace, ord, type_id, expires_at, retention);
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	VALUES (p_turn % 4, 0, 'expanded', cardinality(p_items)), (p_turn % 4, 0, 'merged', cardinality(p_items));
END
$$;
COMMENT ON FUNCTION notif_private.merge_@TIER@(bigint, notif_private.gathered[]) IS
	'Gathers what has been expanded and writes its outcome, merged; a person with several devices is one item.';

-- A command of the claim: a delivery over a limit whose action is fold, whose outcome
-- the claim has written.  A digest is folded by its items, so that what comes of it
-- counts them, and a person's second device adds nothing.
CREATE FUNCTION notif_private.fold_@TIER@(p_ord bigint, p_command uuid) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_event		uuid;
	v_recipient	bigint;
	v_digest	uuid;
	v_items		notif_private.gathered[];
BEGIN
	SELECT (e.data ->> 'event')::uuid, e.recipients[1] INTO v_event, v_recipient
	  FROM notif_private.event e WHERE e.id = p_command;
	SELECT d.id INTO v_digest FROM notif_private.digest_done d WHERE d.event = v_event;
	IF v_digest IS NULL THEN
		-- an event that retention has removed has nothing to tell
		IF EXISTS (SELECT FROM notif_private.event e WHERE e.id = v_event)
		   AND NOT EXISTS (SELECT FROM notif_private.digest_item i WHERE i.event = v_event AND i.recipient = v_recipient) THEN
			v_items := ARRAY[(v_event, v_recipient, 'limit', p_ord + 1)::notif_private.gathered];
		END IF;
	ELSE
		SELECT array_agg((i.event, i.recipient, 'limit', p_ord + i.nth)::notif_private.gathered)
		  INTO v_items
		  FROM (SELECT x.event, x.recipient, row_number() OVER (ORDER BY x.digest, x.ord) AS nth
				  FROM notif_private.digest_item x WHERE x.digest = v_digest) i
		 -- of several devices of his, the first has brought them
		 WHERE EXISTS (SELECT FROM notif_private.event e WHERE e.id = i.event)
		   AND NOT EXISTS (SELECT FROM notif_private.digest_item o
							 JOIN notif_private.digest h ON h.id = o.digest
							WHERE o.event = i.event AND o.recipient = i.recipient AND h.kind = 'limit');
	END IF;
	IF v_items IS NULL THEN
		RETURN 0;
	END IF;
	PERFORM notif_private.gather_@TIER@(v_items);
	RETURN cardinality(v_items);
END
$$;
COMMENT ON FUNCTION notif_private.fold_@TIER@(bigint, uuid) IS
	'Carries out a fold command: adds what a limit has refused to the recipient''s hourly digest, of its category or, if that has none, of its type. Returns how many items that were.';

-- Commands about digests, in the order of the log.
CREATE FUNCTION notif_private.command_digests_@TIER@(p_ord bigint, p_ids uuid[], p_kinds smallint[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	one		record;
	v_ord	bigint := p_ord;
	v_now	constant timestamptz := notif.now();
BEGIN
	FOR one IN SELECT u.id, u.kind FROM unnest(p_ids, p_kinds) WITH ORDINALITY u(id, kind, n) WHERE u.kind IN (3, 4) ORDER BY u.n LOOP
		IF one.kind = 3 THEN
			v_ord := v_ord + notif_private.fold_@TIER@(v_ord, one.id);
		ELSE
			UPDATE notif_private.digest d SET check_at = v_now
			  FROM notif_private.event e
			 WHERE e.id = one.id AND d.recipient = e.recipients[1] AND d.tier = @TIERNO@ AND d.check_at > v_now;
			PERFORM notif_private.digest_due(v_now);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.command_digests_@TIER@(bigint, uuid[], smallint[]) IS
	'Carries out the commands of a list of events that are about digests: kind 3 folds a delivery, kind 4 looks at a recipient''s open digests at once.';

-- Which of these digests are due; those that have slid, or whose owner has chosen
-- another time, are looked at again then.
CREATE FUNCTION notif_private.ripe_@TIER@(p_digests uuid[]) RETURNS uuid[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_now	constant timestamptz := notif.now();
	v_ids	uuid[];
	v_dues	timestamptz[];
BEGIN
	SELECT array_agg(h.id ORDER BY h.nth),
		   array_agg(CASE
				-- the clock has been set back: sooner rather than in a year
				WHEN d.opened_at > v_now + interval '1 minute' THEN v_now
				-- who does not want it any more: the gates write that down
				WHEN NOT ty.mandatory AND (pf.switched_off OR pf.choice & 1 <> 0
					 OR NOT (ty.default_enabled OR coalesce(pf.choice, 0) & 256 <> 0)) THEN v_now
				WHEN d.kind = 'window' THEN least(d.opened_at + ty.max_delay, l.at + ty.wait)
				WHEN d.kind = 'frequency' AND pf.choice & 196608 <> 0 AND ty.digest_type IS NOT NULL
					 THEN notif_private.next_digest(d.recipient, (ARRAY['hourly', 'daily', 'weekly'])[(pf.choice & 196608) >> 16], d.opened_at)
				WHEN d.kind = 'limit' THEN notif_private.next_digest(d.recipient, 'hourly', d.opened_at)
				END ORDER BY h.nth)
	  INTO v_ids, v_dues
	  FROM unnest(p_digests) WITH ORDINALITY h(id, nth)
	 CROSS JOIN LATERAL (SELECT o.* FROM notif_private.digest o WHERE o.id = h.id OFFSET 0) d
	 CROSS JOIN LATERAL (
		SELECT t.category_number AS number, t.mandatory, t.default_enabled, t.digest_type, w.wait, w.max_delay
		  FROM notif_private.type t
		  LEFT JOIN notif_private.type_digest w ON w.type_id = t.id
		 WHERE t.id = d.type_id OFFSET 0) ty
	  LEFT JOIN LATERAL (
		SELECT p.switched_off, coalesce(p.choices[ty.number + 1], p.choices[1]) AS choice
		  FROM notif_private.profile p WHERE p.recipient_id = d.recipient OFFSET 0) pf ON true
	 CROSS JOIN LATERAL (
		SELECT i.at FROM notif_private.digest_item i WHERE i.digest = d.id ORDER BY i.digest DESC, i.ord DESC LIMIT 1) l;
	UPDATE notif_private.digest d SET check_at = u.due
	  FROM unnest(v_ids, v_dues) u(id, due)
	 WHERE d.id = u.id AND u.due > v_now;
	RETURN ARRAY(SELECT u.id FROM unnest(v_ids, v_dues) WITH ORDINALITY u(id, due, n)
				  WHERE (u.due > v_now) IS NOT TRUE ORDER BY u.n);
END
$$;
COMMENT ON FUNCTION notif_private.ripe_@TIER@(uuid[]) IS
	'Of digests whose time to be looked at has come those that are due; the others get their next time. One whose type no longer batches, or whose owner no longer wants it so, is due.';

-- Each becomes an event, unless nothing of it is left to tell.  One item alone is told
-- as itself; so is the last, if the digest cannot be rendered.
CREATE FUNCTION notif_private.tell_digests_@TIER@(p_digests uuid[]) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_now	constant timestamptz := notif.now();
	v_inc	constant smallint := notif_private.current_incarnation();
	made	integer;
BEGIN
	WITH content AS MATERIALIZED (
		SELECT d.*, notif_private.new_event_id() AS made, ty.id AS as_type, ty.name AS type_name, ty.title, ty.body, ty.push,
			   ty.keep, ty.single, n.items, n.told, n.last_ord, rc.ref, rc.locale, rc.attributes, k.kept, k.list
		  FROM unnest(p_digests) WITH ORDINALITY h(id, nth)
		 CROSS JOIN LATERAL (SELECT o.* FROM notif_private.digest o WHERE o.id = h.id OFFSET 0) d
		  -- the type's own digest, or of a category its digest type
		 CROSS JOIN LATERAL (
			SELECT coalesce(x.id, t.id) AS id, coalesce(x.name, t.name) AS name,
				   CASE WHEN x.id IS NULL THEN w.title ELSE x.title END AS title,
				   CASE WHEN x.id IS NULL THEN w.body ELSE x.body END AS body,
				   notif_private.digest_push(CASE WHEN x.id IS NULL THEN coalesce(w.push, t.push) ELSE x.push END) AS push,
				   CASE WHEN x.id IS NULL THEN w.items ELSE c.digest_items END AS keep,
				   CASE WHEN x.id IS NULL THEN coalesce(w.single, false) ELSE false END AS single
			  FROM notif_private.type t JOIN notif_private.category c ON c.name = t.category
			  LEFT JOIN notif_private.type_digest w ON w.type_id = t.id
			  LEFT JOIN notif_private.type x ON d.kind <> 'window' AND x.id = c.digest_type
			 WHERE t.id = d.type_id OFFSET 0) ty
		  LEFT JOIN LATERAL (
			SELECT r.ref, r.locale, r.attributes FROM notif_private.recipient r WHERE r.id = d.recipient OFFSET 0) rc ON true
		  LEFT JOIN LATERAL (
			SELECT p.muted_hash FROM notif_private.profile p WHERE p.recipient_id = d.recipient OFFSET 0) pf ON true
		 CROSS JOIN LATERAL (
			SELECT count(*) AS items, count(*) FILTER (WHERE o.tells) AS told, max(o.ord) FILTER (WHERE o.tells) AS last_ord
			  FROM (SELECT i.ord, NOT EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event IN (i.event, notif_private.schedule_key(i.event)))
								  AND (((i.subject >> 32)::integer = ANY (pf.muted_hash) OR (i.subject << 32 >> 32)::integer = ANY (pf.muted_hash)) IS NOT TRUE
									   OR NOT notif_private.has_muted(d.recipient, i.event, v_now)) AS tells
					  FROM notif_private.digest_item i WHERE i.digest = d.id OFFSET 0) o) n
		 CROSS JOIN LATERAL (
			SELECT count(*) AS kept, jsonb_agg(ev.data || jsonb_build_object('notif', jsonb_build_object(
						'event', ev.id, 'type', it.name,
						'title', notif_private.render_text(it.title, ev.data, rc.ref, rc.locale, rc.attributes, ev.id, it.name),
						'body', notif_private.render_text(it.body, ev.data, rc.ref, rc.locale, rc.attributes, ev.id, it.name)))
						ORDER BY o.ord) AS list
			  FROM (SELECT i.ord, i.event, i.type_id FROM notif_private.digest_item i
					 WHERE i.digest = d.id AND n.told > 0
					   AND NOT EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event IN (i.event, notif_private.schedule_key(i.event)))
					   AND (((i.subject >> 32)::integer = ANY (pf.muted_hash) OR (i.subject << 32 >> 32)::integer = ANY (pf.muted_hash)) IS NOT TRUE
							OR NOT notif_private.has_muted(d.recipient, i.event, v_now))
					 ORDER BY i.digest, i.ord LIMIT coalesce(ty.keep, 0)) o
			 CROSS JOIN LATERAL (SELECT e.id, e.data FROM notif_private.event e WHERE e.id = o.event OFFSET 0) ev
			 CROSS JOIN LATERAL (
				SELECT t.name, t.title, t.body FROM notif_private.type t WHERE t.id = o.type_id OFFSET 0) it) k
	),
	letter AS MATERIALIZED (
		SELECT c.*, CASE WHEN c.told = 0 OR (c.told = 1 AND NOT c.single) THEN false
						 ELSE coalesce(notif_private.message_fits('apns', c.title, c.body, c.push, x.data, c.ref, c.locale, c.attributes,
																  c.made, c.type_name), false) END AS whole,
			   x.data AS summary
		  FROM content c
		 CROSS JOIN LATERAL (
			SELECT jsonb_build_object('count', c.told, 'key', c.key, 'more', c.told - c.kept, 'items', coalesce(c.list, '[]')) AS data
			OFFSET 0) x
	),
	sent AS (
		INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, recipients, data, correlation_id, collapse_key,
										 source, thread, channels, expires_at, created_at, campaign_id, digest)
		SELECT l.made, @TIERNO@, v_inc, 0, s.type_id, ARRAY[l.recipient],
			   CASE WHEN l.whole THEN l.summary ELSE s.data END,
			   CASE WHEN NOT l.whole THEN s.correlation_id END, CASE WHEN NOT l.whole THEN s.collapse_key END,
			   CASE WHEN NOT l.whole OR s.source = l.key AND l.by = 'source' THEN s.source END,
			   CASE WHEN NOT l.whole OR s.thread = l.key AND l.by = 'thread' THEN s.thread END,
			   '{push}', v_now + s.ttl, v_now, CASE WHEN NOT l.whole THEN s.campaign_id END, l.whole
		  FROM (SELECT y.*, CASE WHEN y.scope <> 0 THEN (SELECT w.key FROM notif_private.type_digest w WHERE w.type_id = y.scope) END AS by
				  FROM letter y WHERE y.told > 0) l
		 CROSS JOIN LATERAL (
			SELECT t.id AS type_id, t.ttl, e.data, e.correlation_id, e.collapse_key, e.source, e.thread, e.campaign_id
			  FROM notif_private.digest_item i
			  JOIN notif_private.event e ON e.id = i.event
			  JOIN notif_private.type t ON t.id = CASE WHEN l.whole THEN l.as_type ELSE i.type_id END
			 WHERE i.digest = l.id AND i.ord = l.last_ord OFFSET 0) s
		RETURNING event.id
	)
	INSERT INTO notif_private.digest_done (id, tier, recipient, kind, scope, key, opened_at, closed_at, items, told, event, reason)
	SELECT l.id, l.tier, l.recipient, l.kind, l.scope, l.key, l.opened_at, v_now, l.items, l.told,
		   CASE WHEN l.told > 0 THEN l.made END,
		   CASE WHEN l.told = 0 THEN 'nothing_left' WHEN NOT l.whole AND l.told > 1 THEN 'last_item_only' END
	  FROM letter l
	-- reads sent to its end
	 WHERE (SELECT count(*) FROM sent) = (SELECT count(*) FROM letter y WHERE y.told > 0);
	GET DIAGNOSTICS made = ROW_COUNT;
	DELETE FROM notif_private.digest d WHERE d.id = ANY (p_digests);
	IF made <> cardinality(p_digests) THEN
		RAISE EXCEPTION USING ERRCODE = 'XX001',
			MESSAGE = 'telling digests does not conserve them',
			DETAIL = format('given %s, closed %s', cardinality(p_digests), made);
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif_private.tell_digests_@TIER@(uuid[]) IS
	'Closes digests: an event for each, of what is neither cancelled nor muted meanwhile, and a row that says so. Returns how many.';

-- The verdict on one for which the above always raises.
CREATE FUNCTION notif_private.tell_carefully_@TIER@(p_digest uuid) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	v_ripe	uuid[];
BEGIN
	v_ripe := notif_private.ripe_@TIER@(ARRAY[p_digest]);
	IF cardinality(v_ripe) > 0 THEN
		PERFORM notif_private.tell_digests_@TIER@(v_ripe);
	END IF;
EXCEPTION WHEN OTHERS THEN
	IF notif_private.is_passing(SQLSTATE) THEN
		RAISE;
	END IF;
	INSERT INTO notif_private.digest_done (id, tier, recipient, kind, scope, key, opened_at, closed_at, items, told, reason)
	SELECT d.id, d.tier, d.recipient, d.kind, d.scope, d.key, d.opened_at, notif.now(),
		   (SELECT count(*) FROM notif_private.digest_item i WHERE i.digest = d.id), 0, 'quarantined:' || SQLSTATE
	  FROM notif_private.digest d WHERE d.id = p_digest;
	DELETE FROM notif_private.digest d WHERE d.id = p_digest;
	PERFORM notif_private.tell_quarantine('digests', 1, SQLSTATE);
END
$$;
COMMENT ON FUNCTION notif_private.tell_carefully_@TIER@(uuid) IS
	'The same for one digest, after ERRORs: closed without an event, quarantined:SQLSTATE, if it raises again and the server''s condition is not the reason.';

CREATE FUNCTION notif_private.worker_digest_@TIER@(p_from timestamptz, p_careful boolean DEFAULT false,
												   OUT closed integer, OUT more boolean, OUT horizon timestamptz,
												   OUT next_at timestamptz, OUT paused boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_sort = off SET jit = off AS $$
DECLARE
	v_now	constant timestamptz := notif.now();
	v_start	constant timestamptz := clock_timestamp();
	v_chunk	integer := 1;
	v_ids	uuid[];
	v_ripe	uuid[];
	v_at	timestamptz;
BEGIN
	closed := 0; more := false; horizon := p_from;
	paused := notif_private.is_paused('tier', '@TIER@');
	IF paused THEN
		RETURN;
	END IF;
	-- At the start, and when the clock has been set back since the horizon.
	IF p_from = '-infinity' OR p_from > v_now THEN
		horizon := '-infinity';
		UPDATE notif_private.digest d SET check_at = v_now
		 WHERE d.tier = @TIERNO@ AND d.check_at > v_now AND d.opened_at > v_now + interval '1 minute';
	END IF;
	LOOP
		SELECT array_agg(d.id ORDER BY d.n), (array_agg(d.check_at ORDER BY d.n DESC))[1] INTO v_ids, v_at
		  FROM (SELECT x.*, row_number() OVER () AS n
				  FROM (SELECT o.id, o.check_at FROM notif_private.digest o
						 WHERE o.tier = @TIERNO@ AND o.check_at <= v_now AND o.check_at >= horizon
						 ORDER BY o.tier, o.check_at, o.id LIMIT v_chunk) x) d;
		EXIT WHEN v_ids IS NULL;
		IF p_careful THEN
			PERFORM notif_private.tell_carefully_@TIER@(x) FROM unnest(v_ids) x;
			closed := closed + cardinality(v_ids);
		ELSE
			v_ripe := notif_private.ripe_@TIER@(v_ids);
			IF cardinality(v_ripe) > 0 THEN
				closed := closed + notif_private.tell_digests_@TIER@(v_ripe);
			END IF;
		END IF;
		horizon := v_at;
		-- a digest may have ten thousand items, or one: the time decides
		IF clock_timestamp() - v_start > interval '50 milliseconds' THEN
			more := true;
			EXIT;
		END IF;
		v_chunk := least(2 * v_chunk, 64);
	END LOOP;
	next_at := (SELECT o.check_at FROM notif_private.digest o WHERE o.tier = @TIERNO@ AND o.check_at >= horizon
				 ORDER BY o.tier, o.check_at, o.id LIMIT 1);
END
$$;
COMMENT ON FUNCTION notif_private.worker_digest_@TIER@(timestamptz, boolean) IS
	'One step of the router: closes digests that are due, the earliest first, for some 50 ms. p_from: an earlier step''s horizon, before which nothing waits, or -infinity. closed: call worker_route, there are events. more: call again at once. next_at: when the next is to be looked at, NULL: none is open. p_careful: one by one, after ERRORs.';
