-- Fanout of tier @TIER@: events times recipients become inbox rows and attempts.

CREATE FUNCTION notif_private.turn_@TIER@() RETURNS bigint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce((SELECT t.turn FROM notif_private.turn_@TIER@ t ORDER BY t.turn DESC LIMIT 1), 0);
END
$$;
COMMENT ON FUNCTION notif_private.turn_@TIER@() IS
	'How often the rings of the tier have been turned: the slot in use is this modulo their size.';

CREATE FUNCTION notif_private.ord_base_@TIER@() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN nextval('notif_private.ord_@TIER@') << 24;
END
$$;
COMMENT ON FUNCTION notif_private.ord_base_@TIER@() IS
	'The number below those that a step of the router gives its attempts.';

-- Whom an event cannot reach.  Not part of the fanout's own statement, which as a rule
-- reaches everybody and is shorter to start without it.
CREATE FUNCTION notif_private.miss_@TIER@(p_turn bigint, p_attempts notif_private.attempt[], p_reasons text[], p_now timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
BEGIN
	WITH logged AS (
		INSERT INTO notif_private.outcome (delivery, attempt, retention, tier, state, terminal, reason, event, type_id,
										   recipient, endpoint, tries, ord, expires_at, at)
		SELECT a.delivery, a.attempt, t.retention, @TIERNO@,
			   CASE WHEN a.reason = 'no_route' THEN 'failed' ELSE 'suppressed' END::notif.outcome_state, true, a.reason,
			   a.event, a.type_id, a.recipient, a.endpoint, a.tries, a.ord, a.expires_at, p_now
		  FROM unnest(p_attempts, p_reasons)
			   a(delivery, attempt, tries, ord, event, type_id, recipient, endpoint, expires_at, charged_at, collapse,
				 subject, campaign, due, conditional, reason)
		  LEFT JOIN LATERAL (SELECT t.retention FROM notif_private.type t WHERE t.id = a.type_id OFFSET 0) t ON true
		RETURNING outcome.state
	)
	INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
	SELECT p_turn % 4, 0, s.state, t.n
	  FROM (SELECT l.state, count(*) AS n FROM logged l GROUP BY l.state) t
	 CROSS JOIN LATERAL (VALUES ('expanded'::notif_private.tally_state), (t.state::text::notif_private.tally_state)) s(state);
END
$$;
COMMENT ON FUNCTION notif_private.miss_@TIER@(bigint, notif_private.attempt[], text[], timestamptz) IS
	'Writes the outcomes, and their tally, of deliveries that no attempt is made for: the reason why, for each.';

-- p_recipients NULL: each event's own list.  Not NULL: these recipients, for the
-- one event given.  The chain of laterals is the plan: one index probe each.
-- p_direct: lanes that can send at once.  Attempts for them, of types that need no
-- order, are handed back instead of filed: the caller flies them in this transaction.
CREATE FUNCTION notif_private.fanout_@TIER@(p_turn bigint, p_ord bigint, p_events uuid[], p_recipients bigint[],
											p_direct integer[] DEFAULT NULL, OUT attempts bigint,
											OUT direct notif_private.attempt[], OUT lanes integer[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET enable_memoize = off SET jit = off AS $$
DECLARE
	-- Bounds known when the statement starts: of the event's partitions only
	-- those in between are opened.
	v_first		uuid := p_events[1];
	v_last		uuid := p_events[1];
	v_now		constant timestamptz := notif.now();
	v_inc		constant smallint := notif_private.current_incarnation();
	v_twice		boolean[];	-- of each pair of event and recipient, as duplicates() counts them
	v_before	integer[];
	v_gathered	notif_private.gathered[];
	v_done		boolean;	-- asked for, or nothing would call what the statement only mentions
BEGIN
	IF cardinality(p_events) > 1 THEN
		SELECT x.id INTO v_first FROM unnest(p_events) x(id) ORDER BY x.id LIMIT 1;
		SELECT x.id INTO v_last FROM unnest(p_events) x(id) ORDER BY x.id DESC LIMIT 1;
	END IF;
	IF EXISTS (SELECT FROM notif_private.type t WHERE t.dedup_window IS NOT NULL) THEN
		SELECT d.twice, d.before INTO v_twice, v_before
		  FROM notif_private.duplicates(p_events, p_recipients, v_first, v_last) d;
	END IF;
	WITH pair AS MATERIALIZED (
		SELECT ev.id AS event, ev.type_id, ev.expires_at, ev.collapse, ev.subject, ev.campaign_id AS campaign, ev.conditional,
			   share.due, share.of_it,
			   coalesce(ep.lane = ANY (p_direct) AND NOT ty.ordered AND share.due IS NULL, false) AS at_once, ty.push, ty.inbox AND NOT pr.inbox_off AS inbox,
			   a.recipient, rc.active, pr.stop, dg.pace, ep.endpoint, ep.lane, ep.suppressed, coalesce(ep.nth, 1) AS nth,
			   row_number() OVER () AS n
		  FROM unnest(p_events) WITH ORDINALITY i(id, nth)
		 CROSS JOIN LATERAL (
			SELECT e.id, e.type_id, e.recipients, e.channels, e.expires_at, hashtextextended(e.collapse_key, 0) AS collapse,
				   e.source, e.thread, CASE WHEN e.source IS NOT NULL OR e.thread IS NOT NULL THEN notif_private.subject_of(e.source, e.thread) END AS subject, e.campaign_id,
				   e.digest,
				   CASE WHEN e.send_if IS NOT NULL THEN true END AS conditional,
				   e.deliver_at, e.spread, e.zones, e.zones_as_of
			  FROM notif_private.event e WHERE e.id = i.id AND e.id >= v_first AND e.id <= v_last OFFSET 0) ev
		 CROSS JOIN LATERAL (
			SELECT 'push' = ANY (coalesce(ev.channels, t.channels)) AS push,
				   'inbox' = ANY (coalesce(ev.channels, t.channels)) AS inbox, t.ordered, t.category_number AS number,
				   t.default_enabled, t.mandatory, t.batches, t.digest_type, t.needs
			  FROM notif_private.type t
			 WHERE t.id = ev.type_id OFFSET 0) ty
		 CROSS JOIN LATERAL unnest(CASE WHEN ev.zones IS NULL THEN coalesce(p_recipients, ev.recipients)
										ELSE notif_private.people_in_zones(coalesce(p_recipients, ev.recipients), ev.zones, ev.zones_as_of)
								   END) WITH ORDINALITY a(recipient, place)
		 -- each person's own place in the time over which an event is spread
		  LEFT JOIN LATERAL (
			SELECT s.of_it, ev.deliver_at + s.of_it AS due
			  FROM (SELECT ev.spread * ((uuid_hash_extended(notif_private.item_id(ev.id, a.recipient), 0) & 1048575) / 1048576.0::double precision) AS of_it) s
			 WHERE ev.spread IS NOT NULL OFFSET 0) share ON true
		  LEFT JOIN LATERAL (
			SELECT r.active, r.country FROM notif_private.recipient r WHERE r.id = a.recipient OFFSET 0) rc ON true
		  LEFT JOIN LATERAL (
			SELECT p.switched_off, p.muted, p.muted_until, p.muted_hash, coalesce(p.choices[ty.number + 1], p.choices[1]) AS choice,
				   p.consents[ty.number + 1] AS consent, p.implied
			  FROM notif_private.profile p WHERE p.recipient_id = a.recipient OFFSET 0) pf ON true
		 -- Mutes and preferences stop the push; only the inbox's own and a duplicate stop its item.
		 -- Bits of a choice: channel_bit().
		 CROSS JOIN LATERAL (
			SELECT o.inbox_off OR o.twice AS inbox_off,
				   CASE WHEN o.twice THEN 'duplicate'
						WHEN ty.mandatory THEN NULL
						WHEN NOT ty.push THEN CASE WHEN o.inbox_unwanted THEN 'preference' WHEN o.inbox_off THEN 'consent' END
						WHEN pf.switched_off THEN 'switched_off'
						WHEN ((ev.subject >> 32)::integer = ANY (pf.muted_hash) OR (ev.subject << 32 >> 32)::integer = ANY (pf.muted_hash)) IS TRUE
							 AND EXISTS (SELECT FROM unnest(pf.muted, pf.muted_until) m(what, until)
										  WHERE m.until > v_now AND m.what IN ('source:' || ev.source, 'thread:' || ev.thread)) THEN 'muted'
						WHEN pf.choice & 1 <> 0 OR NOT (ty.default_enabled OR coalesce(pf.choice, 0) & 256 <> 0) THEN 'preference'
						WHEN o.missing & 1 <> 0 THEN 'consent'
				   END AS stop
			  FROM (SELECT v_twice IS NOT NULL AND v_twice[v_before[i.nth] + a.place] AS twice, x.inbox_unwanted, x.missing, x.inbox_unwanted OR NOT ty.mandatory AND x.missing & 2 <> 0 AS inbox_off
					  FROM (SELECT NOT ty.mandatory
								   AND (coalesce(pf.choice, 0) & 2 <> 0 OR NOT (ty.default_enabled OR coalesce(pf.choice, 0) & 512 <> 0))
								   AS inbox_unwanted,
								   -- channels whose consent was withdrawn, or is needed and not there
								   coalesce(pf.consent >> 16, 0) | CASE WHEN ty.needs & 3 <> 0 THEN coalesce((
									SELECT bit_or(d.channel)
									  FROM (VALUES (1, ty.push AND ty.needs & 1 <> 0), (2, ty.inbox AND ty.needs & 2 <> 0)) d(channel, wanted)
									 CROSS JOIN LATERAL (
										SELECT u.* FROM (
											SELECT n.enough, n.purchase, n.inquiry FROM notif_private.consent_need n
											 WHERE n.category = ty.number AND n.channel = d.channel AND n.country = rc.country
											UNION ALL
											SELECT n.enough, n.purchase, n.inquiry FROM notif_private.consent_need n
											 WHERE n.category = ty.number AND n.channel = d.channel AND n.country = '') u LIMIT 1) nd
									 WHERE d.wanted AND nd.enough IS NOT NULL AND coalesce(pf.consent & nd.enough, 0) = 0
									   AND NOT EXISTS (SELECT FROM unnest(pf.implied) i
														WHERE i.category = ty.number AND i.channel = d.channel
														  AND i.since + CASE i.basis WHEN 'inquiry' THEN nd.inquiry ELSE nd.purchase END > v_now)), 0)
								   ELSE 0 END AS missing OFFSET 0) x) o OFFSET 0) pr
		 -- What is gathered for a digest instead of sent, and how (51-digest); what is one is not.
		 CROSS JOIN LATERAL (
			SELECT CASE WHEN @TIERNO@ = 0 OR (NOT ty.batches AND coalesce(pf.choice, 0) & 196608 = 0) THEN NULL
						WHEN pr.stop IS NOT NULL OR NOT ty.push OR ty.mandatory OR ev.digest IS NOT NULL OR rc.active IS NOT TRUE THEN NULL
						WHEN ty.digest_type IS NOT NULL AND pf.choice & 196608 <> 0
							 THEN (ARRAY['hourly', 'daily', 'weekly'])[(pf.choice & 196608) >> 16]
						WHEN ty.batches THEN 'window' END AS pace) dg
		  LEFT JOIN LATERAL (
			SELECT p.id AS endpoint, row_number() OVER () AS nth, p.suppressed,
				   CASE WHEN NOT p.suppressed THEN (SELECT app.route_id FROM notif_private.app WHERE app.id = p.app_id) END AS lane
			  FROM notif_private.endpoint p
			 WHERE p.recipient_id = a.recipient AND p.state = 'active' AND ty.push AND rc.active
			   AND pr.stop IS NULL AND dg.pace IS NULL OFFSET 0) ep ON true
	),
	inboxed AS (
		INSERT INTO notif_private.inbox (id, recipient, event, type_id)
		SELECT notif_private.item_id(p.event, p.recipient), p.recipient, p.event, p.type_id
		  FROM pair p WHERE p.inbox AND p.active AND p.nth = 1
	),
	queued AS (
		INSERT INTO notif_private.outbox_@TIER@ (ring, incarnation, lane, delivery, slot, attempt, tries, type_id, ord,
												 recipient, endpoint, event, expires_at, collapse, subject, campaign, conditional, due)
		SELECT p_turn % 8, v_inc, p.lane, notif_private.delivery_id(p.event, p.endpoint),
			   hashint8(p.recipient) & 63, 1, 0, p.type_id, p_ord + p.n, p.recipient, p.endpoint, p.event,
			   p.expires_at + coalesce(p.of_it, '0'), p.collapse, p.subject, p.campaign, p.conditional, p.due
		  FROM pair p WHERE p.lane IS NOT NULL AND NOT p.at_once
		RETURNING 1
	),
	-- Whoever cannot be reached: by a function, which is called if there is anybody.
	missed AS MATERIALIZED (
		SELECT CASE WHEN count(*) > 0 THEN notif_private.miss_@TIER@(p_turn,
				array_agg((CASE WHEN p.endpoint IS NULL THEN notif_private.item_id(p.event, p.recipient)
								ELSE notif_private.delivery_id(p.event, p.endpoint) END,
						   0, 0, p_ord + p.n, p.event, p.type_id, p.recipient, p.endpoint, p.expires_at, NULL, NULL, NULL, NULL, NULL,
						   NULL)::notif_private.attempt),
				array_agg(CASE WHEN p.active IS NOT TRUE THEN 'recipient_inactive'
							   WHEN p.stop IS NOT NULL THEN p.stop
							   WHEN p.endpoint IS NULL THEN 'no_endpoint'
							   WHEN p.suppressed THEN 'suppression_list' ELSE 'no_route' END), v_now) END
		  FROM pair p WHERE p.lane IS NULL AND p.pace IS NULL AND (p.push OR p.active IS NOT TRUE OR p.stop IS NOT NULL)
	),
	told AS (
		INSERT INTO notif_private.tally_@TIER@ (ring, lane, state, n)
		SELECT p_turn % 4, t.lane, s.state, t.n
		  FROM (SELECT p.lane, count(*) AS n FROM pair p WHERE p.lane IS NOT NULL GROUP BY p.lane) t
		 CROSS JOIN (VALUES ('expanded'::notif_private.tally_state), ('open')) s(state)
	)
	SELECT (SELECT count(*) FROM queued), array_agg(x.attempt ORDER BY x.n), array_agg(x.lane ORDER BY x.n),
		   (SELECT array_agg((p.event, p.recipient, p.pace, p_ord + p.n)::notif_private.gathered ORDER BY p.n)
			  FROM pair p WHERE p.pace IS NOT NULL),
		   (SELECT true FROM missed)
	  INTO attempts, direct, lanes, v_gathered, v_done
	  FROM (SELECT p.n, p.lane,
				   (notif_private.delivery_id(p.event, p.endpoint), 1, 0, p_ord + p.n, p.event, p.type_id, p.recipient,
					p.endpoint, p.expires_at, NULL, p.collapse, p.subject, p.campaign, NULL, p.conditional)::notif_private.attempt AS attempt
			  FROM pair p WHERE p.at_once) x;
	IF v_gathered IS NOT NULL THEN
		PERFORM notif_private.merge_@TIER@(p_turn, v_gathered);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.fanout_@TIER@(bigint, bigint, uuid[], bigint[], integer[]) IS
	'Expands events: inbox rows, attempts, and an outcome for whoever cannot be reached. Returns how many attempts it filed, and those to fly at once with their lanes. The ids are derived, so that doing it again gives the same ones.';
