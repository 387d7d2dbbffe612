-- Conditions (send_if): what does not belong to a tier.  An expression is asked by the C
-- of src/condition.c alone: read-only, with the rights of the role that wrote it, and for
-- so long only.

CREATE FUNCTION notif_private.condition_now(expression text, role name, recipient text, attributes jsonb, data jsonb, event uuid,
											type text, source text, thread text, correlation_id text, campaign text) RETURNS text
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_condition_now';
COMMENT ON FUNCTION notif_private.condition_now(text, name, text, jsonb, jsonb, uuid, text, text, text, text, text) IS
	'What a condition says now of one notification, asked as the workers do: true, false, or condition_error:SQLSTATE.';

CREATE FUNCTION notif_private.worker_suspend_type(p_type integer, p_why text) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name	text;
BEGIN
	SELECT t.name INTO v_name FROM notif_private.type t WHERE t.id = p_type;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	INSERT INTO notif_private.pause AS p (what, name) VALUES ('type', v_name) ON CONFLICT ON CONSTRAINT pause_pkey DO NOTHING;
	IF FOUND THEN
		PERFORM notif_private.hold_unsent_of('type', p_type);
		INSERT INTO notif_private.switch_log (at, by, what, name, paused, why) VALUES (notif.now(), 'notif', 'type', v_name, true, p_why);
		PERFORM notif_private.config_changed();
		PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
	END IF;
	RETURN v_name;
END
$$;
COMMENT ON FUNCTION notif_private.worker_suspend_type(integer, text) IS
	'Pauses a type whose condition takes too long, as notif.pause does, and returns its name.';

-- The conditions of an event, or of its type: those of both must hold.
CREATE FUNCTION notif_private.explain_condition(its notif_private.type, ev notif_private.event, who bigint)
	RETURNS TABLE (gate text, verdict text, detail jsonb)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	of		record;
	says	text;
BEGIN
	FOR of IN SELECT x.* FROM (VALUES (1, 'type', its.send_if, its.send_if_by), (2, 'event', ev.send_if, ev.published_by))
				x(n, what, expression, role) WHERE x.expression IS NOT NULL ORDER BY x.n LOOP
		SELECT notif_private.condition_now(of.expression, of.role, r.ref, r.attributes, coalesce(ev.data, '{}'), ev.id, its.name,
										   ev.source, ev.thread, ev.correlation_id,
										   (SELECT c.name FROM notif_private.campaign c WHERE c.id = ev.campaign_id))
		  INTO says FROM notif_private.recipient r WHERE r.id = who;
		gate := 'condition of the ' || of.what;
		verdict := CASE says WHEN 'true' THEN 'pass' WHEN 'false' THEN 'cancelled:condition' ELSE 'failed:' || says END;
		detail := jsonb_build_object('send_if', of.expression, 'role', of.role);
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.explain_condition(notif_private.type, notif_private.event, bigint) IS
	'The gate of notif.explain about conditions: what they say now.';

-- One by one, since somebody waits; none any more after one that took too long.
CREATE FUNCTION notif_private.preview_conditions(p_event uuid, p_batch notif_private.attempt[])
	RETURNS TABLE (delivery uuid, attempt smallint, holds boolean, reason text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	ev		notif_private.event;
	its		notif_private.type;
	a		record;
BEGIN
	SELECT * INTO ev FROM notif_private.event e WHERE e.id = p_event;
	SELECT * INTO its FROM notif_private.type t WHERE t.id = ev.type_id;
	FOR a IN SELECT b.delivery, b.attempt, b.recipient FROM unnest(p_batch) b
			  WHERE its.send_if IS NOT NULL OR ev.send_if IS NOT NULL LOOP
		delivery := a.delivery;
		attempt := a.attempt;
		SELECT coalesce(bool_and(x.verdict = 'pass'), true), min(substr(x.verdict, 8)) FILTER (WHERE x.verdict LIKE 'failed:%')
		  INTO holds, reason FROM notif_private.explain_condition(its, ev, a.recipient) x;
		EXIT WHEN reason = 'condition_error:57014';
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.preview_conditions(uuid, notif_private.attempt[]) IS
	'What the conditions of an event''s attempts say now, as verdicts for the gates of a dry run.';

-- What waits for its condition, and since when the oldest does.
CREATE VIEW notif_private.unchecked AS
	SELECT 0::smallint AS tier, k.route_id, s.event, s.at
	FROM notif_private.parking k
	CROSS JOIN LATERAL notif_private.condition_at_critical(4, k.id) c
	CROSS JOIN LATERAL (SELECT x.event, x.due_at AS at FROM notif_private.schedule_critical x
						WHERE x.lane = - k.id AND (x.due_at, x.ord, x.delivery) > (c.due, c.place, c.id)
						ORDER BY x.due_at, x.ord, x.delivery LIMIT 1) s
	WHERE k.tier = 0 AND k.what = 'condition'
	UNION ALL
	SELECT 1::smallint, k.route_id, s.event, s.at
	FROM notif_private.parking k
	CROSS JOIN LATERAL notif_private.condition_at_standard(4, k.id) c
	CROSS JOIN LATERAL (SELECT x.event, x.due_at AS at FROM notif_private.schedule_standard x
						WHERE x.lane = - k.id AND (x.due_at, x.ord, x.delivery) > (c.due, c.place, c.id)
						ORDER BY x.due_at, x.ord, x.delivery LIMIT 1) s
	WHERE k.tier = 1 AND k.what = 'condition'
	UNION ALL
	SELECT 2::smallint, k.route_id, s.event, s.at
	FROM notif_private.parking k
	CROSS JOIN LATERAL notif_private.condition_at_bulk(4, k.id) c
	CROSS JOIN LATERAL (SELECT x.event, x.due_at AS at FROM notif_private.schedule_bulk x
						WHERE x.lane = - k.id AND (x.due_at, x.ord, x.delivery) > (c.due, c.place, c.id)
						ORDER BY x.due_at, x.ord, x.delivery LIMIT 1) s
	WHERE k.tier = 2 AND k.what = 'condition';
