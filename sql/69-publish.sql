-- Publishing.

CREATE FUNCTION notif_private.new_event_id() RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_new_event_id';
COMMENT ON FUNCTION notif_private.new_event_id() IS
	'A UUIDv7 for a row of the event log, its time clamped into the partitions there are.';

CREATE FUNCTION notif_private.new_child_id(schedule uuid) RETURNS uuid
	LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'notif_new_child_id';
COMMENT ON FUNCTION notif_private.new_child_id(uuid) IS
	'As new_event_id(), for an event that is released for one published before: its schedule_key() is that one''s.';

CREATE FUNCTION notif.publish(
	type text, recipient text DEFAULT NULL, data jsonb DEFAULT '{}', recipients text[] DEFAULT NULL,
	topic text DEFAULT NULL, idempotency_key text DEFAULT NULL, correlation_id text DEFAULT NULL,
	collapse_key text DEFAULT NULL, source text DEFAULT NULL, thread text DEFAULT NULL,
	channels text[] DEFAULT NULL, expires_in interval DEFAULT NULL,
	campaign text DEFAULT NULL, send_if text DEFAULT NULL,
	deliver_at timestamptz DEFAULT NULL, deliver_at_local timestamp DEFAULT NULL, spread interval DEFAULT NULL) RETURNS uuid
	LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_publish';
COMMENT ON FUNCTION notif.publish(text, text, jsonb, text[], text, text, text, text, text, text, text[], interval, text, text, timestamptz, timestamp, interval) IS
	'Publishes an event in the caller''s transaction and returns its id; a ROLLBACK leaves nothing.
type: a defined type. Exactly one audience: recipient (a ref), recipients (refs), topic (its name). data: a JSON object that fills the type''s placeholders. idempotency_key: the same key and content within 24 hours return the same event. correlation_id: for notif.trace_correlation(). collapse_key: at most 64 bytes, newer replaces older on the device. source, thread: what it is about. channels: a subset of the type''s. expires_in: more than 0, at most 28 days, default the type''s ttl. campaign: a name of your own, at most 255 bytes, under which notif.pause and rate limits see everything published for it. send_if: a boolean SQL expression that is asked before each sending, read-only and with your rights; false or NULL cancels. It sees one row, notification, with recipient (its ref), attributes, data, event, type, source, thread, correlation_id and campaign, and tables that it names with their schema: search_path is pg_catalog. Take values from notification.data, not into the text, so that many are asked at once. deliver_at: not before; what is past is now. deliver_at_local: at this time of each recipient''s own clock, by his zone at its first release (UTC if he has none); a time that does not exist there is the first one after the gap, of one that exists twice it is the second; a fraction of a second is cut off. Either at most five years ahead; what is waiting shows in notif.scheduled, notif.cancel and notif.reschedule take it until it is released. spread: people are told at times of their own within so long, at most a day; the inbox has it at once. Then expires_in counts from the time of delivery.
Errors: 42704 unknown type, recipient or topic; 22023 no or two audiences, data not an object, a placeholder without a value, channels, expires_in, deliver_at, deliver_at_local, spread; 54000 message or key too large; 55000 type disabled; 23505 idempotency key used for something else; 0A000 a critical type to a large audience; 42601, 42703, 42804, 42501 … send_if is not one boolean expression that you may ask.
Example: SELECT notif.publish(''order.shipped'', recipient => ''user-17'', data => ''{"order": 4711}'', send_if => ''EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>''''order'''')::bigint AND o.shipped)'');';
