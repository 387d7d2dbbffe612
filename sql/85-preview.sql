-- A dry run: what a publish would lead to, by doing it and taking it back.  The event is
-- published, expanded and passed through the gates by the very functions that the
-- workers call, in a subtransaction that is always rolled back; so there is no second
-- account of the gates that could differ from the first.

-- What has become of an event's deliveries in this transaction, as
-- [{"verdict": ..., "channel": ..., "reason": ..., "recipient": id, "next_at": ...}].
CREATE FUNCTION notif_private.preview_event(p_event uuid, p_tier text, p_people bigint[]) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	v_turn	bigint;
	v_ord	bigint;
	lane	record;
	sent	jsonb := '[]';
	passed	jsonb;
BEGIN
	EXECUTE format('SELECT notif_private.turn_%1$s(), notif_private.ord_base_%1$s()', p_tier) INTO v_turn, v_ord;
	EXECUTE format('SELECT f.attempts FROM notif_private.fanout_%1$s($1, $2, $3, $4) f', p_tier)
		USING v_turn, v_ord, ARRAY[p_event], p_people;
	FOR lane IN EXECUTE format(
		'SELECT o.lane AS id, r.channel,
				array_agg((o.delivery, o.attempt, o.tries, o.ord, o.event, o.type_id, o.recipient, o.endpoint, o.expires_at,
						   NULL, o.collapse, o.subject, o.campaign, o.due, o.conditional)::notif_private.attempt ORDER BY o.ord) AS batch
		   FROM notif_private.outbox_%1$s o JOIN notif_private.route r ON r.id = o.lane
		  WHERE o.lane = ANY (ARRAY(SELECT x.id FROM notif_private.route x)) AND o.incarnation = notif_private.current_incarnation()
			AND o.xid = pg_current_xact_id() AND o.event = $1
		  GROUP BY o.lane, r.channel', p_tier) USING p_event LOOP
		-- what the conditions worker would do first
		EXECUTE format('INSERT INTO notif_private.verdict_%1$s (ring, delivery, attempt, holds, reason, lane, due_at, ord, at)
						SELECT $1 %% 4, c.delivery, c.attempt, c.holds, c.reason, 0, notif.now(), 0, notif.now()
						  FROM notif_private.preview_conditions($2, $3) c', p_tier) USING v_turn, p_event, lane.batch;
		-- flights of nobody: no dispatcher has this number
		EXECUTE format('SELECT jsonb_agg(jsonb_build_object(''verdict'', ''send'', ''channel'', $5, ''recipient'', g.recipient))
						  FROM notif_private.gate_%1$s($1, $2, -1, $3, $4, NULL) g WHERE g.delivery IS NOT NULL', p_tier)
			INTO passed USING v_turn, lane.id, hashtextextended(p_event::text || lane.id, 1), lane.batch, lane.channel;
		sent := sent || coalesce(passed, '[]');
	END LOOP;
	RETURN sent || coalesce((
		SELECT jsonb_agg(jsonb_build_object('verdict', o.state, 'channel', coalesce(r.channel, e.channel), 'reason', o.reason,
											'recipient', o.recipient, 'next_at', o.next_at))
		  FROM notif_private.outcome o
		  LEFT JOIN notif_private.route r ON r.id = o.lane
		  LEFT JOIN notif_private.endpoint e ON e.id = o.endpoint
		 WHERE o.event = p_event), '[]') || coalesce((
		SELECT jsonb_agg(jsonb_build_object('verdict', 'send', 'channel', 'inbox', 'recipient', p))
		  FROM unnest(p_people) p
		 WHERE EXISTS (SELECT FROM notif_private.inbox i WHERE i.recipient = p AND i.id = notif_private.item_id(p_event, p))), '[]');
END
$$;
COMMENT ON FUNCTION notif_private.preview_event(uuid, text, bigint[]) IS
	'Expands an event of this transaction for these people and passes its attempts through the gates; what became of each. The caller rolls it all back.';

CREATE FUNCTION notif.preview(
	type text, recipient text DEFAULT NULL, data jsonb DEFAULT '{}', recipients text[] DEFAULT NULL,
	topic text DEFAULT NULL, collapse_key text DEFAULT NULL, source text DEFAULT NULL, thread text DEFAULT NULL,
	channels text[] DEFAULT NULL, expires_in interval DEFAULT NULL, campaign text DEFAULT NULL,
	sample_size integer DEFAULT 1000)
	RETURNS TABLE (verdict text, channel text, reason text, people bigint, deliveries bigint, next_at timestamptz, sample text[])
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	-- So many people share a subtransaction: as long as it lasts, a claim that charges
	-- one of them waits.
	chunk	constant integer := 500;
	ev		record;
	looked	bigint[];
	found	jsonb := '[]';
	event	uuid;
BEGIN
	IF preview.sample_size IS NULL OR preview.sample_size NOT BETWEEN 1 AND 100000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('sample_size %s is out of range', coalesce(preview.sample_size::text, 'NULL')),
			DETAIL = 'Each of them is passed through the gates.',
			HINT = 'From 1 to 100000.';
	END IF;
	-- the first time for the errors of a publish, and to know whom it addresses
	FOR nth IN 0 .. 2147483646 LOOP
		BEGIN
			event := notif.publish(preview.type, preview.recipient, preview.data, preview.recipients, preview.topic,
								   collapse_key => preview.collapse_key, source => preview.source, thread => preview.thread,
								   channels => preview.channels, expires_in => preview.expires_in, campaign => preview.campaign);
			IF nth = 0 THEN
				SELECT (ARRAY['critical', 'standard', 'bulk'])[e.tier + 1] AS tier,
					   coalesce(cardinality(e.recipients),
								(SELECT count(*) FROM notif_private.subscription s WHERE s.topic_id = e.topic_id)) AS audience,
					   (SELECT array_agg(p.id) FROM (
							SELECT a.id FROM (SELECT unnest(e.recipients) AS id
											   UNION ALL
											  SELECT s.recipient_id FROM notif_private.subscription s WHERE s.topic_id = e.topic_id) a
							 ORDER BY hashint8extended(a.id, e.type_id), a.id LIMIT preview.sample_size) p) AS looked
				  INTO ev FROM notif_private.event e WHERE e.id = event;
			END IF;
			looked := ev.looked[nth * chunk + 1 : (nth + 1) * chunk];
			IF cardinality(looked) > 0 THEN
				found := found || notif_private.preview_event(event, ev.tier, looked);
			END IF;
			RAISE SQLSTATE 'NT000';
		EXCEPTION WHEN SQLSTATE 'NT000' THEN
			NULL;		-- undone
		END;
		EXIT WHEN coalesce(cardinality(ev.looked), 0) <= (nth + 1) * chunk;
	END LOOP;
	RETURN QUERY VALUES ('audience', NULL::text, NULL::text, ev.audience::bigint, NULL::bigint, NULL::timestamptz, NULL::text[]),
						('looked at', NULL, NULL, coalesce(cardinality(ev.looked), 0)::bigint, NULL, NULL, NULL);
	RETURN QUERY
	SELECT f.verdict, f.channel, f.reason, count(DISTINCT f.recipient), count(*), min(f.next_at),
		   (array_agg(DISTINCT r.ref ORDER BY r.ref))[1:5]
	  FROM jsonb_to_recordset(found) f(verdict text, channel text, reason text, recipient bigint, next_at timestamptz)
	  LEFT JOIN notif_private.recipient r ON r.id = f.recipient
	 GROUP BY f.verdict, f.channel, f.reason
	 ORDER BY f.verdict = 'send' DESC, count(*) DESC, f.verdict, f.channel, f.reason;
END
$$;
COMMENT ON FUNCTION notif.preview(text, text, jsonb, text[], text, text, text, text, text[], interval, text, integer) IS
$$What a publish with these arguments would lead to now: a dry run through the same fanout and gates, which is undone. Nothing is sent, charged, logged or left in an inbox.
type, recipient, data, recipients, topic, collapse_key, source, thread, channels, expires_in, campaign: as notif.publish takes them. sample_size: how many of the audience are looked at, 1 to 100000; a larger audience is drawn from by a hash, the same people each time.
The first row, 'audience', says how many people it is for; 'looked at' how many of them the following are about. Then a row per verdict, channel and reason: people, deliveries, when the first would be due that is put off, and up to five refs. verdict: 'send', or what would stop or delay it, like 'suppressed', 'deferred' or 'merged', with the reason that the outcome would have.
It looks at one event by itself: a limit on all people together is not used up within it beyond 500 people. While it runs (about 20 ms per 500 people) a claim for one of them may wait for it.
Errors: those of notif.publish, 22023 sample_size.
Example: SELECT * FROM notif.preview('flash.sale', topic => 'all', data => '{"percent": 20}', campaign => 'spring');$$;
