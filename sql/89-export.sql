-- A person's right to see what is kept about him (GDPR Art. 15 and 20): what
-- notif.erase_recipient would remove.

-- Rows of the tables that are by recipient, whatever tables there are.
CREATE FUNCTION notif_private.export_rows(who bigint) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	one		record;
	found	jsonb;
	whole	jsonb := '{}';
BEGIN
	FOR one IN SELECT * FROM notif_private.personal_tables() WHERE rel NOT IN ('recipient', 'profile') LOOP
		EXECUTE format('SELECT jsonb_agg(to_jsonb(t) - %2$L) FROM notif_private.%1$I t WHERE t.%2$I = $1', one.rel, one.col)
			INTO found USING who;
		whole := whole || jsonb_build_object(one.rel, coalesce(found, '[]'));
	END LOOP;
	RETURN whole;
END
$$;
COMMENT ON FUNCTION notif_private.export_rows(bigint) IS
	'The rows of a recipient in all tables that are by recipient, by table.';

CREATE FUNCTION notif.export_recipient(ref text) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(export_recipient.ref);
	rows	jsonb := notif_private.export_rows(who);
BEGIN
	RETURN jsonb_build_object(
		'exported_at', notif.now(),
		'recipient', (SELECT to_jsonb(r) - 'id' FROM notif_private.recipient r WHERE r.id = who),
		'preferences', (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') FROM notif.preferences(export_recipient.ref) p),
		'consent', (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM notif.consents(export_recipient.ref) c),
		'topics', (SELECT coalesce(jsonb_agg(jsonb_build_object('topic', t.name, 'subscribed_at', s.subscribed_at) ORDER BY t.name), '[]')
					 FROM notif_private.subscription s JOIN notif_private.topic t ON t.id = s.topic_id WHERE s.recipient_id = who),
		'endpoints', (SELECT coalesce(jsonb_agg(to_jsonb(e) - 'recipient_id' || jsonb_build_object('app', a.name, 'platform', a.platform,
							 'suppression', (SELECT jsonb_agg(to_jsonb(s)) FROM notif.suppressed(e.address) s)) ORDER BY e.id), '[]')
						FROM notif_private.endpoint e JOIN notif_private.app a ON a.id = e.app_id WHERE e.recipient_id = who),
		-- The number of others among its recipients is no business of his.
		'events', (SELECT coalesce(jsonb_agg(jsonb_build_object('event', e.id, 'type', t.name, 'at', e.created_at, 'data', e.data,
							 'source', e.source, 'thread', e.thread, 'correlation_id', e.correlation_id) ORDER BY e.id), '[]')
					 FROM notif_private.event e LEFT JOIN notif_private.type t ON t.id = e.type_id
					WHERE e.kind IN (0, 2)
					  AND (who = ANY (e.recipients)
						   OR e.topic_id IS NOT NULL AND EXISTS (SELECT FROM notif_private.inbox i
																 WHERE i.recipient = who AND i.id = notif_private.item_id(e.id, who)))),
		'deliveries', (SELECT coalesce(jsonb_agg(jsonb_build_object('delivery', o.delivery, 'event', o.event, 'type', t.name,
							 'attempt', o.attempt, 'state', o.state, 'reason', o.reason, 'endpoint', o.endpoint, 'at', o.at,
							 'provider', p.name, 'provider_ref', o.provider_ref) ORDER BY o.delivery, o.attempt), '[]')
						 FROM notif_private.outcome o LEFT JOIN notif_private.type t ON t.id = o.type_id
						 LEFT JOIN notif_private.provider p ON p.id = o.provider_id WHERE o.recipient = who),
		'waiting', (SELECT coalesce(jsonb_agg(jsonb_build_object('delivery', u.delivery, 'event', u.event, 'state', u.state,
							 'endpoint', u.endpoint, 'due_at', u.due_at)), '[]')
					  FROM notif_private.undecided u WHERE u.recipient = who),
		'scheduled', (SELECT coalesce(jsonb_agg(jsonb_build_object('event', a.schedule, 'next_at', a.due_at, 'data', a.data, 'source', a.source,
							 'thread', a.thread, 'correlation_id', a.correlation_id) ORDER BY a.due_at), '[]')
						FROM (SELECT * FROM notif_private.appointment_critical UNION ALL SELECT * FROM notif_private.appointment_standard
							  UNION ALL SELECT * FROM notif_private.appointment_bulk) a WHERE who = ANY (a.recipients)),
		'rows', rows - ARRAY['endpoint', 'consent', 'subscription']);
END
$$;
COMMENT ON FUNCTION notif.export_recipient(text) IS
$$Everything that is kept about a recipient (GDPR Art. 15 and 20), as one JSON object: recipient, preferences, consent, topics, endpoints with what the suppression list says of them, events addressed to him with their data, deliveries, what waits, what is scheduled, and rows: all else that is stored by recipient, by table. It reads the whole ledger: seconds per million rows.
Errors: 42704 unknown recipient.
Example: SELECT notif.export_recipient('customer-17');$$;
