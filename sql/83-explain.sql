-- Why somebody is told, or is not: every gate in order, judged by the rows that
-- people and administrators have written.  What fanout and claim look at is the
-- compiled profile: each gate that uses it says whether it comes to the same.

CREATE FUNCTION notif_private.explain_profile(its notif_private.type, who bigint, source text, thread text, wanted text[])
	RETURNS TABLE (gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	cat		notif_private.category;
	pf		notif_private.profile;
	off_at	timestamptz;
	muted	jsonb;
	choice	integer;
	bits	integer;
	pref	record;
	zone	text;
	quiet	timestamptz;
	need	notif_private.consent_need;
	consent	record;
	way		text;
BEGIN
	SELECT * INTO cat FROM notif_private.category c WHERE c.name = its.category;
	SELECT * INTO pf FROM notif_private.profile p WHERE p.recipient_id = who;
	IF NOT FOUND THEN
		-- of no row and of an empty one follows the same
		pf.recipient_id := who;
		pf.switched_off := false;
	END IF;
	choice := coalesce(pf.choices[cat.number + 1], pf.choices[1], 0);

	SELECT p.changed_at INTO off_at FROM notif_private.preference p
	 WHERE p.recipient_id = who AND p.channel = '' AND p.category = 0;
	gate := 'switched off';
	verdict := CASE WHEN off_at IS NOT NULL AND NOT cat.mandatory THEN 'suppressed:switched_off' ELSE 'pass' END;
	detail := jsonb_build_object('since', off_at, 'mandatory', cat.mandatory);
	agrees := pf.switched_off = (off_at IS NOT NULL);
	RETURN NEXT;

	SELECT jsonb_agg(jsonb_build_object('what', m.what, 'name', m.name, 'until', m.until) ORDER BY m.what) INTO muted
	  FROM notif_private.mute m
	 WHERE m.recipient_id = who AND m.until > notif.now()
	   AND m.name = CASE m.what WHEN 'source' THEN explain_profile.source ELSE explain_profile.thread END;
	gate := 'mute';
	verdict := CASE WHEN muted IS NOT NULL AND NOT cat.mandatory THEN 'suppressed:muted' ELSE 'pass' END;
	detail := jsonb_build_object('source', explain_profile.source, 'thread', explain_profile.thread, 'mutes', muted,
								 'mandatory', cat.mandatory);
	agrees := (muted IS NOT NULL) = EXISTS (
		SELECT FROM unnest(pf.muted, pf.muted_until) m(what, until)
		 WHERE m.until > notif.now() AND m.what IN ('source:' || explain_profile.source, 'thread:' || explain_profile.thread));
	RETURN NEXT;

	FOR pref IN SELECT x.* FROM notif_private.preferences_of(who) x
				 WHERE x.category = its.category AND x.channel = ANY (wanted) LOOP
		bits := notif_private.channel_bit(pref.channel);
		gate := 'preference ' || pref.channel;
		verdict := CASE WHEN pref.enabled THEN 'pass' ELSE 'suppressed:preference' END;
		detail := jsonb_build_object('category', its.category, 'origin', pref.origin, 'changed_at', pref.changed_at);
		agrees := pref.enabled = (cat.mandatory OR choice & bits = 0 AND (cat.default_enabled OR choice & (bits << 8) <> 0));
		RETURN NEXT;
	END LOOP;

	-- by the log and the rules; agrees judges by the profile as the gates do
	FOREACH way IN ARRAY wanted LOOP
		bits := notif_private.channel_bit(way);
		need := notif_private.consent_need_of(cat.number, bits, (SELECT r.country FROM notif_private.recipient r WHERE r.id = who));
		consent := notif_private.consent_verdict(who, cat.number, way, notif.now());
		gate := 'consent ' || way;
		verdict := CASE WHEN consent.allowed OR cat.mandatory THEN 'pass' ELSE 'suppressed:consent' END;
		detail := jsonb_build_object('country', (SELECT r.country FROM notif_private.recipient r WHERE r.id = who),
			'needs', consent.needs, 'has', consent.has, 'until', consent.until, 'rules', consent.rules,
			'implied for', nullif(jsonb_strip_nulls(jsonb_build_object('purchase', need.purchase, 'inquiry', need.inquiry)), '{}'),
			-- what decides: the last words of the log
			'log', (SELECT jsonb_agg(jsonb_build_object('id', x.id, 'at', x.at, 'granted', x.granted, 'kind', x.kind, 'basis', x.basis,
														'source', x.source) ORDER BY x.at, x.id)
					  FROM (SELECT c.* FROM notif_private.consent c
							 WHERE c.recipient_id = who AND c.category = cat.number AND c.channel = way
							 ORDER BY c.at DESC, c.id DESC LIMIT 5) x));
		choice := coalesce(pf.consents[cat.number + 1], 0);
		agrees := consent.allowed = (choice & (bits << 16) = 0
			AND (need.enough IS NULL OR choice & need.enough <> 0
				 OR EXISTS (SELECT FROM unnest(pf.implied) i WHERE i.category = cat.number AND i.channel = bits
							 AND i.since + CASE i.basis WHEN 'inquiry' THEN need.inquiry ELSE need.purchase END > notif.now())));
		RETURN NEXT;
	END LOOP;

	-- by the source rows; agrees compares the windows that the claim looks at
	gate := 'quiet hours';
	SELECT r.tz INTO zone FROM notif_private.recipient r WHERE r.id = who;
	quiet := notif_private.quiet_end(notif_private.quiet_windows(who), zone, its.category, notif.now(), true);
	verdict := CASE WHEN quiet IS NOT NULL AND cat.quiet_hours = 'respect' THEN 'deferred:quiet_hours' ELSE 'pass' END;
	detail := jsonb_build_object('tz', zone, 'category', cat.quiet_hours, 'until', quiet,
		'windows', (SELECT jsonb_agg(jsonb_build_array(q.day, time '00:00' + make_interval(mins => q.starts),
											   time '00:00' + make_interval(mins => q.ends)) ORDER BY q.day)
					  FROM notif_private.quiet_hours q WHERE q.recipient_id = who),
		'periods', (SELECT jsonb_agg(p.name ORDER BY p.name) FROM notif_private.quiet_period p
					 WHERE (p.categories IS NULL OR its.category = ANY (p.categories))
					   AND notif_private.quiet_until(p.windows, p.dates, coalesce(zone, p.tz), notif.now()) IS NOT NULL));
	agrees := quiet IS NOT DISTINCT FROM notif_private.quiet_end(pf.quiet, zone, its.category, notif.now(), true);
	RETURN NEXT;

	gate := 'send hours';
	need := notif_private.consent_need_of(cat.number, notif_private.channel_bit('push'),
		(SELECT r.country FROM notif_private.recipient r WHERE r.id = who));
	quiet := (SELECT max(notif_private.quiet_until(need.windows, NULL, z, notif.now()))
				FROM unnest(CASE WHEN zone IS NOT NULL THEN ARRAY[zone] ELSE coalesce(need.zones, '{UTC}') END) z
			   WHERE need.windows IS NOT NULL);
	verdict := CASE WHEN quiet IS NOT NULL AND NOT cat.mandatory THEN 'deferred:send_hours' ELSE 'pass' END;
	detail := jsonb_build_object('until', quiet, 'rules', (SELECT jsonb_agg(r.name ORDER BY r.name) FROM notif_private.region_rule r
																		WHERE need.windows IS NOT NULL AND r.name = ANY (need.rules) AND r.send_from IS NOT NULL));
	agrees := NULL;
	RETURN NEXT;

	gate := 'profile';
	verdict := 'pass';
	detail := to_jsonb(pf) - 'recipient_id';
	agrees := pf IS NOT DISTINCT FROM notif_private.profile_of(who);
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION notif_private.explain_profile(notif_private.type, bigint, text, text, text[]) IS
	'The gates of notif.explain that the compiled profile decides.';

-- Judged by the histories alone: one more send, and no other that waits.
CREATE FUNCTION notif_private.explain_limits(its notif_private.type, campaign integer, who bigint, OUT verdict text, OUT detail jsonb)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	lane	integer;
	known	record;
	mask	bigint;
	l		notif_private.rate_limit;
	look	bigint[];
	next_at	timestamptz;
	full_at	timestamptz;
	stop	notif_private.rate_limit;
	rank	integer;
	hardest	integer;
	shown	jsonb := '[]';
BEGIN
	SELECT a.route_id INTO lane
	  FROM notif_private.endpoint e JOIN notif_private.app a ON a.id = e.app_id
	 WHERE e.recipient_id = who AND e.state = 'active' AND a.route_id IS NOT NULL ORDER BY e.id LIMIT 1;
	known := notif_private.limits_of_lane(lane);
	mask := its.limits & (known.here | coalesce((SELECT bit_or(c.bits) FROM unnest(known.campaigns, known.of_campaigns) c(id, bits)
												  WHERE c.id = explain_limits.campaign), 0));
	FOR l IN SELECT x.* FROM notif_private.rate_limit x WHERE mask & (1::bigint << x.place) <> 0 ORDER BY x.name LOOP
		IF l.scope = 'recipient' THEN
			look := notif_private.rate_look((SELECT r.state FROM notif_private.rate r
											  WHERE r.recipient_id = who AND r.critical = (its.tier = 0)),
											notif_private.limit_numbers(l), notif.now());
			next_at := timestamptz 'epoch' + look[2] * interval '1 millisecond';
		ELSE
			SELECT ARRAY[x.units_left + x.leased], x.next_at INTO look, next_at FROM notif_private.shared_look(l, its.tier, notif.now()) x;
		END IF;
		shown := shown || jsonb_build_object('name', l.name, 'scope', l.scope, 'max_count', l.max_count, 'per', l.per::text,
											 'action', l.action, 'left', look[1], 'next_at', CASE WHEN look[1] = 0 THEN next_at END);
		rank := CASE l.action WHEN 'defer' THEN 0 WHEN 'fold' THEN 1 ELSE 2 END;
		IF look[1] = 0 AND (stop.id IS NULL OR rank > hardest OR rank = hardest AND next_at > full_at) THEN
			stop := l;
			hardest := rank;
			full_at := next_at;
		END IF;
	END LOOP;
	verdict := CASE WHEN stop.id IS NULL THEN 'pass'
					ELSE CASE stop.action WHEN 'defer' THEN 'deferred' WHEN 'fold' THEN 'merged' ELSE 'suppressed' END || ':rate_limited:' || stop.name END;
	detail := jsonb_build_object('limited', (SELECT c.rate_limited FROM notif_private.category c WHERE c.name = its.category),
								 'next_at', full_at, 'limits', nullif(shown, '[]'));
END
$$;
COMMENT ON FUNCTION notif_private.explain_limits(notif_private.type, integer, bigint) IS
	'Which rate limits apply to a push of a type and campaign to a recipient, what each has left, and which one would stop it now.';

CREATE FUNCTION notif_private.explain_sending(its notif_private.type, who bigint, campaign integer)
	RETURNS TABLE (gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	tier	constant text := (ARRAY['critical', 'standard', 'bulk'])[its.tier + 1];
BEGIN
	gate := 'endpoint';
	SELECT CASE WHEN count(*) FILTER (WHERE e.state = 'active' AND a.route_id IS NOT NULL) > 0 THEN 'pass'
				WHEN count(*) FILTER (WHERE e.state = 'active') > 0 THEN 'failed:no_route'
				ELSE 'suppressed:no_endpoint' END,
		   jsonb_build_object('active', count(*) FILTER (WHERE e.state = 'active'),
							  'quarantined', count(*) FILTER (WHERE e.state = 'quarantined'),
							  'invalid', count(*) FILTER (WHERE e.state = 'invalid'),
							  'without_route', count(*) FILTER (WHERE e.state = 'active' AND a.route_id IS NULL))
	  INTO verdict, detail
	  FROM notif_private.endpoint e JOIN notif_private.app a ON a.id = e.app_id WHERE e.recipient_id = who;
	RETURN NEXT;

	gate := 'suppression list';
	SELECT CASE WHEN count(*) FILTER (WHERE x.listed) = 0 THEN 'pass'
				WHEN bool_and(x.listed) THEN 'suppressed:suppression_list' ELSE 'some:suppression_list' END,
		   jsonb_build_object('endpoints', count(*), 'listed', jsonb_agg(x.entry ORDER BY x.id) FILTER (WHERE x.listed)),
		   bool_and(x.listed = x.suppressed)
	  INTO verdict, detail, agrees
	  FROM (SELECT e.id, e.suppressed, s.reason IS NOT NULL AS listed,
				   jsonb_build_object('endpoint', e.id, 'channel', nullif(s.channel, ''), 'reason', s.reason, 'source', s.source, 'at', s.at) AS entry
			  FROM notif_private.endpoint e
			  LEFT JOIN LATERAL (
				SELECT notif_private.keyed_hash(notif_private.normal_address(e.address)) AS hash
				 WHERE EXISTS (SELECT FROM notif_private.suppression) OFFSET 0) h ON true
			  LEFT JOIN LATERAL (
				SELECT l.* FROM notif_private.suppression l
				 WHERE l.address_hash = h.hash AND l.channel IN ('', e.channel) ORDER BY l.channel LIMIT 1) s ON true
			 WHERE e.recipient_id = who AND e.state = 'active') x;
	RETURN NEXT;
	agrees := NULL;

	gate := 'pause';
	SELECT CASE WHEN count(*) > 0 THEN 'waits' ELSE 'pass' END,
		   jsonb_build_object('paused', jsonb_agg(jsonb_build_object('what', p.what, 'name', nullif(p.name, '')) ORDER BY p.what, p.name))
	  INTO verdict, detail
	  FROM notif_private.pause p
	 WHERE p.what = 'everything' OR p.what = 'tier' AND p.name = tier OR p.what = 'type' AND p.name = its.name
	   OR p.what = 'campaign' AND p.name = (SELECT c.name FROM notif_private.campaign c WHERE c.id = explain_sending.campaign)
	   OR p.what = 'provider' AND EXISTS (
			-- a route waits when none of its providers is left
			SELECT FROM notif_private.endpoint e
			  JOIN notif_private.app a ON a.id = e.app_id JOIN notif_private.route r ON r.id = a.route_id
			 WHERE e.recipient_id = who AND e.state = 'active' AND p.name = ANY (r.providers)
			   AND NOT EXISTS (SELECT FROM notif_private.provider v
								WHERE v.name = ANY (r.providers) AND v.enabled
								  AND NOT EXISTS (SELECT FROM notif_private.pause q WHERE q.what = 'provider' AND q.name = v.name)));
	RETURN NEXT;

	gate := 'rate limit';
	SELECT x.verdict, x.detail INTO verdict, detail FROM notif_private.explain_limits(its, campaign, who) x;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION notif_private.explain_sending(notif_private.type, bigint, integer) IS
	'The gates of notif.explain about where and when a push could go now.';

CREATE FUNCTION notif_private.explain(its notif_private.type, ev notif_private.event, who bigint)
	RETURNS TABLE (gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	wanted	constant text[] := coalesce(ev.channels, its.channels);
BEGIN
	RETURN QUERY
	SELECT 'type', CASE WHEN its.enabled THEN 'pass' ELSE 'suppressed:type_disabled' END,
		   jsonb_build_object('type', its.name, 'category', its.category, 'channels', wanted,
							  'tier', (ARRAY['critical', 'standard', 'bulk'])[its.tier + 1]), NULL::boolean;
	IF ev.id IS NOT NULL THEN
		RETURN QUERY
		SELECT 'audience',
			   CASE WHEN who = ANY (ev.recipients) OR EXISTS (SELECT FROM notif_private.subscription s
															   WHERE s.topic_id = ev.topic_id AND s.recipient_id = who)
					THEN 'pass' ELSE 'not addressed' END,
			   jsonb_build_object('recipients', cardinality(ev.recipients),
								  'topic', (SELECT t.name FROM notif_private.topic t WHERE t.id = ev.topic_id)), NULL::boolean;
	END IF;
	RETURN QUERY
	SELECT 'recipient', CASE WHEN r.active THEN 'pass' ELSE 'suppressed:recipient_inactive' END,
		   jsonb_build_object('active', r.active), NULL::boolean
	  FROM notif_private.recipient r WHERE r.id = who;
	IF ev.id IS NOT NULL AND its.dedup_window IS NOT NULL THEN
		RETURN QUERY
		SELECT 'duplicate', CASE WHEN count(d.event) > 0 THEN 'suppressed:duplicate' ELSE 'pass' END,
			   jsonb_build_object('window', its.dedup_window::text, 'of', min(d.event::text), 'published_at', min(d.at)), NULL::boolean
		  FROM notif_private.dedup d
		 WHERE d.recipient_id = who AND d.type_id = its.id AND d.source = coalesce(hashtextextended(ev.source, 0), 0)
		   AND d.event <> ev.id AND ev.created_at < d.at + its.dedup_window AND ev.created_at >= d.at;
	END IF;
	RETURN QUERY
	SELECT x.gate, x.verdict, x.detail, x.agrees
	  FROM notif_private.explain_profile(its, who, ev.source, ev.thread, wanted) x;
	IF 'push' = ANY (wanted) THEN
		RETURN QUERY SELECT x.* FROM notif_private.explain_digest(its, ev, who) x;
		RETURN QUERY SELECT x.gate, x.verdict, x.detail, x.agrees FROM notif_private.explain_sending(its, who, ev.campaign_id) x;
	END IF;
	IF ev.id IS NOT NULL THEN
		RETURN QUERY
		SELECT 'cancel', CASE WHEN count(*) > 0 THEN 'cancelled:cancel' ELSE 'pass' END,
			   jsonb_build_object('at', min(c.at), 'by', min(c.by::text)), NULL::boolean
		  FROM notif_private.cancellation c WHERE c.event IN (ev.id, notif_private.schedule_key(ev.id));
		RETURN QUERY
		SELECT 'expiry', CASE WHEN ev.expires_at <= notif.now() THEN 'expired:expired' ELSE 'pass' END,
			   jsonb_build_object('expires_at', ev.expires_at), NULL::boolean;
	END IF;
	IF 'push' = ANY (wanted) THEN
		RETURN QUERY SELECT x.gate, x.verdict, x.detail, NULL::boolean FROM notif_private.explain_condition(its, ev, who) x;
	END IF;
	IF ev.id IS NOT NULL THEN
		-- what became of it: the newest word on each delivery
		RETURN QUERY
		SELECT 'outcome', o.state || coalesce(':' || o.reason, ''),
			   jsonb_build_object('delivery', o.delivery, 'endpoint', o.endpoint, 'attempt', o.attempt, 'at', o.at,
								  'next_at', o.next_at), NULL::boolean
		  FROM (SELECT notif_private.delivery_id(ev.id, e.id) AS delivery FROM notif_private.endpoint e WHERE e.recipient_id = who
				UNION ALL SELECT notif_private.item_id(ev.id, who)) d
		 CROSS JOIN LATERAL (
			SELECT x.* FROM notif_private.outcome x WHERE x.delivery = d.delivery ORDER BY x.attempt DESC LIMIT 1) o
		 ORDER BY o.endpoint;
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.explain(notif_private.type, notif_private.event, bigint) IS
	'The gates in order for a type, or for an event of it (NULL: none), and a recipient.';

CREATE FUNCTION notif.explain(event uuid, recipient text)
	RETURNS TABLE (step integer, gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(explain.recipient);
	its		notif_private.type;
	ev		notif_private.event;
BEGIN
	ev := notif_private.event_to_explain(explain.event);
	IF ev.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('event %s does not exist', coalesce(explain.event::text, 'NULL')),
			DETAIL = 'It was never published, its transaction has not committed, or retention has removed it.',
			HINT = 'Pass what notif.publish returned, or the name of a type.';
	END IF;
	SELECT * INTO its FROM notif_private.type t WHERE t.id = ev.type_id;
	RETURN QUERY
	SELECT x.n::integer, x.gate, x.verdict, jsonb_strip_nulls(x.detail), x.agrees
	  FROM (SELECT g.*, row_number() OVER () AS n
			  FROM (SELECT * FROM notif_private.explain(its, ev, who)
					UNION ALL SELECT * FROM notif_private.explain_schedule(ev, who)) g(gate, verdict, detail, agrees)) x;
END
$$;
COMMENT ON FUNCTION notif.explain(uuid, text) IS
$$Why a recipient is told about an event, or is not: every gate in order, and what became of it.
verdict: 'pass', or what the gate does, like 'suppressed:preference', 'merged:digest:daily', 'deferred:rate_limited:hour', 'waits' (paused) or 'not addressed'; that of the last rows, 'outcome', is what has happened. The gates are judged as of now.
detail: the values that it is judged by, from the rows that people and administrators have written. agrees: whether the compiled profile, which fanout and claim look at, comes to the same; NULL where it is not used. It is never false.
Errors: 42704 unknown event or recipient.
Example: SELECT step, gate, verdict, detail FROM notif.explain('01890a5d-ac96-774b-bcce-b302099a8057'::uuid, 'customer-17');$$;

CREATE FUNCTION notif.explain(type text, recipient text)
	RETURNS TABLE (step integer, gate text, verdict text, detail jsonb, agrees boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(explain.recipient);
	its		notif_private.type;
BEGIN
	SELECT * INTO its FROM notif_private.type t WHERE t.name = explain.type;
	IF NOT FOUND THEN
		-- a literal is text before it is a uuid
		IF explain.type ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
			RETURN QUERY SELECT x.* FROM notif.explain(explain.type::uuid, explain.recipient) x;
			RETURN;
		END IF;
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('type %s does not exist', coalesce(quote_literal(left(explain.type, 110)), 'NULL')),
			DETAIL = 'No type of that name is defined.',
			HINT = 'notif.types lists them; an event is given by its id.';
	END IF;
	RETURN QUERY
	SELECT x.n::integer, x.gate, x.verdict, jsonb_strip_nulls(x.detail), x.agrees
	  FROM notif_private.explain(its, NULL, who) WITH ORDINALITY x(gate, verdict, detail, agrees, n);
END
$$;
COMMENT ON FUNCTION notif.explain(text, text) IS
$$Whether a recipient would be told about an event of a type if it were published now, without source and thread: every gate in order, as notif.explain of an event shows them. Nothing is sent or charged.
Errors: 42704 unknown type or recipient.
Example: SELECT step, gate, verdict, detail, agrees FROM notif.explain('order.shipped', 'customer-17');$$;
