-- The whole life of an event in order.

CREATE VIEW notif_private.undecided AS
	SELECT 0::smallint AS tier, 'scheduled'::text AS state, s.event, s.recipient, s.endpoint, s.delivery, s.attempt, s.lane,
		   NULL::timestamptz AS at, s.due_at FROM notif_private.scheduled_critical s
	UNION ALL
	SELECT 0::smallint, 'in_flight', f.event, f.recipient, f.endpoint, f.delivery, f.attempt, f.lane, f.at, NULL
	FROM notif_private.flying_critical f
	UNION ALL
	SELECT 0::smallint, 'queued', q.event, q.recipient, q.endpoint, q.delivery, q.attempt, q.lane, NULL, NULL
	FROM notif_private.queued_critical q
	UNION ALL
	SELECT 1::smallint, 'scheduled', s.event, s.recipient, s.endpoint, s.delivery, s.attempt, s.lane, NULL, s.due_at
	FROM notif_private.scheduled_standard s
	UNION ALL
	SELECT 1::smallint, 'in_flight', f.event, f.recipient, f.endpoint, f.delivery, f.attempt, f.lane, f.at, NULL
	FROM notif_private.flying_standard f
	UNION ALL
	SELECT 1::smallint, 'queued', q.event, q.recipient, q.endpoint, q.delivery, q.attempt, q.lane, NULL, NULL
	FROM notif_private.queued_standard q
	UNION ALL
	SELECT 2::smallint, 'scheduled', s.event, s.recipient, s.endpoint, s.delivery, s.attempt, s.lane, NULL, s.due_at
	FROM notif_private.scheduled_bulk s
	UNION ALL
	SELECT 2::smallint, 'in_flight', f.event, f.recipient, f.endpoint, f.delivery, f.attempt, f.lane, f.at, NULL
	FROM notif_private.flying_bulk f
	UNION ALL
	SELECT 2::smallint, 'queued', q.event, q.recipient, q.endpoint, q.delivery, q.attempt, q.lane, NULL, NULL
	FROM notif_private.queued_bulk q;

CREATE FUNCTION notif.trace(event uuid, only_recipient text DEFAULT NULL)
	RETURNS TABLE (at timestamptz, step text, recipient text, endpoint bigint, delivery uuid, attempt integer,
				   state text, reason text, detail jsonb)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		notif_private.event;
	found_tier smallint;
	who		bigint;
	his		uuid[];		-- what the ids of his deliveries can be
BEGIN
	IF trace.only_recipient IS NOT NULL THEN
		who := notif_private.recipient_id(trace.only_recipient);
		his := ARRAY(SELECT notif_private.delivery_id(trace.event, e.id) FROM notif_private.endpoint e
					 WHERE e.recipient_id = who) || notif_private.item_id(trace.event, who) || trace.event;
	END IF;
	IF (notif_private.schedule_of(trace.event)).tier IS NOT NULL THEN
		RETURN QUERY SELECT * FROM notif_private.trace_schedule(trace.event, trace.only_recipient);
		RETURN;
	END IF;
	SELECT * INTO its FROM notif_private.event e WHERE e.id = trace.event AND e.kind = 0;
	found_tier := its.tier;
	IF NOT FOUND THEN
		-- Retention removes events before outcomes.
		SELECT o.tier INTO found_tier FROM notif_private.outcome o WHERE o.event = trace.event LIMIT 1;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '42704',
				MESSAGE = format('event %s does not exist', coalesce(trace.event::text, 'NULL')),
				DETAIL = 'It was never published, its transaction has not committed, or retention has removed it.',
				HINT = 'Pass what notif.publish returned, or use notif.trace_correlation.';
		END IF;
	END IF;
	RETURN QUERY
	WITH verdicts AS MATERIALIZED (
		SELECT o.* FROM notif_private.outcome o WHERE who IS NULL AND o.event = trace.event
		UNION ALL
		SELECT o.* FROM notif_private.outcome o WHERE who IS NOT NULL AND o.delivery = ANY (his)
	),
	audience AS (
		SELECT who AS id WHERE who IS NOT NULL
		UNION
		SELECT unnest(its.recipients) WHERE who IS NULL
		UNION
		SELECT x.recipient_id FROM notif_private.subscription x WHERE who IS NULL AND x.topic_id = its.topic_id
		UNION
		SELECT v.recipient FROM verdicts v WHERE who IS NULL AND v.recipient IS NOT NULL
	),
	-- The item's id follows from event and recipient: one probe each.
	items AS MATERIALIZED (
		SELECT i.id, i.recipient
		FROM audience a
		CROSS JOIN LATERAL (
			SELECT n.id, n.recipient FROM notif_private.inbox n
			WHERE n.recipient = a.id AND n.id = notif_private.item_id(trace.event, a.id) OFFSET 0) i
	)
	SELECT s.at, s.step, r.ref, s.endpoint, s.delivery, s.attempt::integer, s.state, s.reason, jsonb_strip_nulls(s.detail)
	FROM (
		SELECT 0 AS rank, its.created_at AS at, 'published' AS step, NULL::bigint AS recipient, NULL::bigint AS endpoint,
			   NULL::uuid AS delivery, NULL::smallint AS attempt, NULL::text AS state, NULL::text AS reason,
			   jsonb_build_object(
				   'type', (SELECT t.name FROM notif_private.type t WHERE t.id = its.type_id),
				   'tier', (ARRAY['critical', 'standard', 'bulk'])[its.tier + 1],
				   'by', its.published_by, 'correlation_id', its.correlation_id, 'collapse_key', its.collapse_key,
				   'topic', (SELECT t.name FROM notif_private.topic t WHERE t.id = its.topic_id),
				   'recipients', cardinality(its.recipients), 'expires_at', its.expires_at) AS detail
		WHERE its.id IS NOT NULL
		UNION ALL
		SELECT 1, coalesce(its.created_at, notif_private.uuid_time(i.id)), 'inbox', i.recipient, NULL, NULL, NULL, NULL, NULL,
			   jsonb_build_object('item', i.id)
		FROM items i
		UNION ALL
		SELECT 2, o.at, 'outcome', o.recipient, o.endpoint, o.delivery, o.attempt, o.state::text, o.reason,
			   jsonb_build_object('provider', (SELECT p.name FROM notif_private.provider p WHERE p.id = o.provider_id),
				   'provider_ref', o.provider_ref, 'status', o.status, 'latency_ms', round(o.latency_us / 1000.0, 3),
				   'tries', o.tries, 'next_at', o.next_at)
		FROM verdicts o
		UNION ALL
		SELECT 3, c.created_at, 'redelivered', o.recipient, o.endpoint, o.delivery, NULL, NULL, NULL,
			   jsonb_build_object('command', c.id, 'by', c.published_by)
		FROM verdicts o
		JOIN notif_private.idempotency i ON i.key = format('notif:redeliver:%s:%s', o.delivery, o.attempt)
		JOIN notif_private.event c ON c.id = i.event AND c.kind = 1
		WHERE o.terminal
		UNION ALL
		SELECT 3, g.at, g.step, g.recipient, NULL, NULL, NULL, g.state, g.reason, g.detail
		FROM notif_private.trace_digests(trace.event, who) g
		UNION ALL
		SELECT 4, c.at, 'cancelled', NULL, NULL, NULL, NULL, NULL, NULL, jsonb_build_object('by', c.by, 'why', c.why)
		FROM (SELECT x.* FROM notif_private.cancellation x WHERE x.event IN (trace.event, notif_private.schedule_key(trace.event))
			  ORDER BY x.schedule LIMIT 1) c
		UNION ALL
		SELECT 5, m.read_at, 'read', i.recipient, NULL, NULL, NULL, NULL, NULL, jsonb_build_object('item', i.id)
		FROM items i
		CROSS JOIN LATERAL (
			SELECT k.read_at FROM notif_private.inbox_mark k WHERE k.item = i.id
			UNION ALL
			SELECT u.read_at FROM notif_private.inbox_read_up_to u WHERE u.recipient = i.recipient AND u.item >= i.id
			LIMIT 1) m
		UNION ALL
		SELECT 6, u.at, CASE u.state WHEN 'in_flight' THEN 'in flight' ELSE u.state END, u.recipient, u.endpoint, u.delivery,
			   u.attempt, CASE u.state WHEN 'in_flight' THEN 'in flight' ELSE u.state END, NULL,
			   jsonb_build_object('due_at', u.due_at,
				   'route', (SELECT x.name FROM notif_private.route x WHERE x.id = u.lane))
		FROM notif_private.undecided u
		WHERE u.tier = found_tier AND u.event = trace.event) s
	LEFT JOIN notif_private.recipient r ON r.id = s.recipient
	WHERE who IS NULL OR s.recipient IS NULL OR s.recipient = who
	-- what has no time is still to come
	ORDER BY s.at NULLS LAST, s.rank, s.recipient, s.endpoint, s.attempt;
END
$$;
COMMENT ON FUNCTION notif.trace(uuid, text) IS
$$The whole life of an event in order: published, inbox (one row per item), outcome (one per attempt), redelivered, digest (that it has become part of), digest of (its items, if it is one), cancelled, read, and last what is not decided yet: queued, scheduled, in flight. Of an event published for later: published, rescheduled, cancelled, scheduled (it waits), released, and the lives of the events released. Times are those of notif.now(); what waits in a queue has none.
only_recipient: only what concerns this recipient; useful for events with a large audience.
Errors: 42704 unknown event or recipient.
Example: SELECT at, step, recipient, state, reason FROM notif.trace('01890a5d-ac96-774b-bcce-b302099a8057');$$;

CREATE FUNCTION notif.trace_correlation(id text)
	RETURNS TABLE (event uuid, at timestamptz, step text, recipient text, endpoint bigint, delivery uuid,
				   attempt integer, state text, reason text, detail jsonb)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT e.id, t.at, t.step, t.recipient, t.endpoint, t.delivery, t.attempt, t.state, t.reason, t.detail
	FROM notif_private.event e
	CROSS JOIN LATERAL notif.trace(e.id) WITH ORDINALITY
		t(at, step, recipient, endpoint, delivery, attempt, state, reason, detail, place)
	WHERE e.correlation_id = trace_correlation.id AND (e.kind = 0 OR e.kind = 2 AND e.parent IS NULL)
	  -- what was released for one is in that one's, if it is still there
	  AND NOT EXISTS (SELECT FROM notif_private.event p WHERE p.id = e.parent AND p.kind = 2)
	ORDER BY t.at NULLS LAST, e.id, t.place;
END
$$;
COMMENT ON FUNCTION notif.trace_correlation(text) IS
$$The lives of all events that were published with a correlation id, in one order. No rows for an unknown one.
Example: SELECT event, at, step, state FROM notif.trace_correlation('order-4711');$$;
