-- notif.trace and notif.explain of events that were published for later.

CREATE FUNCTION notif_private.trace_schedule(schedule uuid, only_recipient text)
	RETURNS TABLE (at timestamptz, step text, recipient text, endpoint bigint, delivery uuid, attempt integer,
				   state text, reason text, detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	ev		notif_private.event := notif_private.event_to_explain(trace_schedule.schedule);
	asked	record;
BEGIN
	-- what was asked for first, if that is still known
	SELECT e.deliver_at, e.deliver_at_local INTO asked FROM notif_private.event e WHERE e.id = trace_schedule.schedule;
	IF FOUND THEN
		ev.deliver_at := asked.deliver_at;
		ev.deliver_at_local := asked.deliver_at_local;
	END IF;
	RETURN QUERY
	SELECT s.at, s.step, s.recipient, s.endpoint, s.delivery, s.attempt, s.state, s.reason, jsonb_strip_nulls(s.detail)
	FROM (
		SELECT 0 AS rank, 0::bigint AS place, ev.created_at AS at, 'published' AS step, NULL::text AS recipient, NULL::bigint AS endpoint,
			   NULL::uuid AS delivery, NULL::integer AS attempt, NULL::text AS state, NULL::text AS reason,
			   jsonb_build_object(
				   'type', (SELECT t.name FROM notif_private.type t WHERE t.id = ev.type_id),
				   'tier', (ARRAY['critical', 'standard', 'bulk'])[ev.tier + 1],
				   'by', ev.published_by, 'correlation_id', ev.correlation_id, 'collapse_key', ev.collapse_key,
				   'topic', (SELECT t.name FROM notif_private.topic t WHERE t.id = ev.topic_id),
				   'recipients', cardinality(ev.recipients), 'deliver_at', ev.deliver_at,
				   'deliver_at_local', ev.deliver_at_local, 'spread', ev.spread) AS detail
		WHERE ev.id IS NOT NULL
		UNION ALL
		SELECT 1, 0, c.created_at, 'rescheduled', NULL, NULL, NULL, NULL, NULL, NULL,
			   jsonb_build_object('by', c.published_by, 'deliver_at', c.deliver_at, 'deliver_at_local', c.deliver_at_local)
		FROM notif_private.event c
		WHERE c.parent = trace_schedule.schedule AND c.kind = 2 AND num_nonnulls(c.deliver_at, c.deliver_at_local) = 1
		UNION ALL
		SELECT 2, 0, c.at, 'cancelled', NULL, NULL, NULL, NULL, NULL, NULL, jsonb_build_object('by', c.by, 'why', c.why)
		FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(trace_schedule.schedule)
		UNION ALL
		SELECT 3, 0, r.at, 'released', NULL, NULL, NULL, NULL, NULL, NULL,
			   jsonb_build_object('event', r.event, 'deliver_at', r.deliver_at, 'zones', r.zones)
		FROM notif.releases r WHERE r.schedule = trace_schedule.schedule
		UNION ALL
		SELECT 4, t.place, t.at, t.step, t.recipient, t.endpoint, t.delivery, t.attempt, t.state, t.reason, t.detail
		FROM notif.releases r
		CROSS JOIN LATERAL notif.trace(r.event, trace_schedule.only_recipient) WITH ORDINALITY
			t(at, step, recipient, endpoint, delivery, attempt, state, reason, detail, place)
		WHERE r.schedule = trace_schedule.schedule AND t.step NOT IN ('published', 'cancelled')
		UNION ALL
		SELECT 5, 0, o.at, 'outcome', NULL, NULL, o.delivery, o.attempt::integer, o.state::text, o.reason, NULL
		FROM notif_private.outcome o WHERE o.event = trace_schedule.schedule
		UNION ALL
		SELECT 6, 0, NULL, 'scheduled', NULL, NULL, NULL, NULL, 'scheduled', NULL, jsonb_build_object('due_at', a.due_at)
		FROM notif_private.appointment a WHERE a.schedule = trace_schedule.schedule) s
	ORDER BY s.at NULLS LAST, s.rank, s.place;
END
$$;
COMMENT ON FUNCTION notif_private.trace_schedule(uuid, text) IS
	'notif.trace of an event that was published for later, with those released for it.';

-- An appointment that has outlived its event stands in for it.
CREATE FUNCTION notif_private.event_to_explain(event uuid) RETURNS notif_private.event
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	ev		notif_private.event;
	a		record;
BEGIN
	SELECT * INTO ev FROM notif_private.event e
	 WHERE e.id = event_to_explain.event AND (e.kind = 0 OR e.kind = 2 AND e.parent IS NULL);
	SELECT * INTO a FROM notif_private.appointment x WHERE x.schedule = event_to_explain.event;
	IF FOUND THEN
		ev.id := a.schedule; ev.tier := a.tier; ev.kind := 2; ev.type_id := a.type_id; ev.topic_id := a.topic_id;
		ev.recipients := a.recipients; ev.correlation_id := a.correlation_id; ev.collapse_key := a.collapse_key;
		ev.source := a.source; ev.thread := a.thread; ev.channels := a.channels; ev.published_by := a.published_by;
		ev.created_at := a.created_at; ev.spread := a.spread; ev.expires_in := a.expires_in;
		-- as it is now, perhaps rescheduled; until when it can be told is not known before
		ev.deliver_at := a.deliver_at; ev.deliver_at_local := a.deliver_at_local;
		ev.expires_at := a.due_at + a.expires_in;
	END IF;
	RETURN ev;
END
$$;
COMMENT ON FUNCTION notif_private.event_to_explain(uuid) IS
	'An event that was published, for later perhaps, or released; all NULL if there is none.';

CREATE FUNCTION notif_private.explain_schedule(ev notif_private.event, who bigint)
	RETURNS TABLE (gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	zone	text;
	mine	timestamptz := ev.deliver_at;
	a		record;
BEGIN
	IF ev.kind = 0 AND ev.zones IS NULL AND ev.spread IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO a FROM notif_private.appointment x WHERE x.schedule = ev.id;
	IF ev.deliver_at_local IS NOT NULL THEN
		SELECT z.zone INTO zone FROM notif_private.zones_of(ARRAY[who], coalesce(ev.zones_as_of, a.as_of)) z;
		IF ev.kind = 2 THEN
			SELECT n.at INTO mine FROM notif_private.next_instant(ev.deliver_at_local, ARRAY[zone], coalesce(a.not_before, ev.created_at), NULL) n;
		END IF;
	END IF;
	RETURN QUERY
	SELECT 'schedule',
		   CASE WHEN zone <> ALL (ev.zones) THEN 'not addressed'
				WHEN ev.kind = 2 AND mine > notif.now() THEN 'waits' ELSE 'pass' END,
		   jsonb_build_object('deliver_at', mine, 'deliver_at_local', ev.deliver_at_local, 'tz', zone, 'zones', ev.zones, 'spread', ev.spread,
							  'filed', CASE WHEN ev.kind = 2 THEN a.schedule IS NOT NULL END), NULL::boolean;
	RETURN QUERY
	SELECT 'outcome', o.state || coalesce(':' || o.reason, ''),
		   jsonb_build_object('event', r.event, 'delivery', o.delivery, 'endpoint', o.endpoint, 'attempt', o.attempt, 'at', o.at,
							  'next_at', o.next_at), NULL::boolean
	  FROM notif.releases r
	 CROSS JOIN LATERAL (SELECT notif_private.delivery_id(r.event, e.id) AS delivery FROM notif_private.endpoint e WHERE e.recipient_id = who
						 UNION ALL SELECT notif_private.item_id(r.event, who)) d
	 CROSS JOIN LATERAL (
		SELECT x.* FROM notif_private.outcome x WHERE x.delivery = d.delivery ORDER BY x.attempt DESC LIMIT 1) o
	 WHERE r.schedule = ev.id
	 ORDER BY r.event, o.endpoint;
END
$$;
COMMENT ON FUNCTION notif_private.explain_schedule(notif_private.event, bigint) IS
	'What notif.explain adds for an event that was published for later or is spread over a time: when a recipient is told, and what became of the events released.';
