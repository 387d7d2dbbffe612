-- What waits for its time, and what became of what did.

CREATE VIEW notif_private.appointment AS
	SELECT 0::smallint AS tier, a.* FROM notif_private.appointment_critical a WHERE NOT a.look
	UNION ALL
	SELECT 1::smallint, a.* FROM notif_private.appointment_standard a WHERE NOT a.look
	UNION ALL
	SELECT 2::smallint, a.* FROM notif_private.appointment_bulk a WHERE NOT a.look;

CREATE VIEW notif.scheduled AS
	SELECT a.schedule AS event, t.name AS type, (ARRAY['critical', 'standard', 'bulk'])[a.tier + 1] AS tier, a.deliver_at,
		   a.deliver_at_local, a.spread, a.due_at AS next_at, a.served IS NOT NULL AS begun,
		   CASE WHEN cardinality(a.recipients) = 1 THEN (SELECT r.ref FROM notif_private.recipient r WHERE r.id = a.recipients[1]) END AS recipient,
		   cardinality(a.recipients) AS recipients, (SELECT p.name FROM notif_private.topic p WHERE p.id = a.topic_id) AS topic,
		   a.correlation_id, (SELECT g.name FROM notif_private.campaign g WHERE g.id = a.campaign_id) AS campaign, a.published_by,
		   a.created_at AS published_at, a.expires_in
	FROM notif_private.appointment a
	JOIN notif_private.type t ON t.id = a.type_id
	WHERE NOT EXISTS (SELECT FROM notif_private.cancellation c WHERE c.event = notif_private.schedule_key(a.schedule));
COMMENT ON VIEW notif.scheduled IS
	'Events published for later that wait: for a moment (deliver_at) or a local time (deliver_at_local). next_at: when the next part of them is looked at, for a local time the first zone that is left; begun: some zones have been told. recipient: if there is one; recipients: how many are listed. An event appears here when the router has read it, usually within milliseconds of its commit.';

CREATE VIEW notif.releases AS
	SELECT e.parent AS schedule, e.id AS event, e.created_at AS at, e.deliver_at, e.zones
	FROM notif_private.event e
	WHERE e.parent IS NOT NULL AND e.kind = 0 AND e.id > e.parent
	  AND notif_private.schedule_key(e.id) = notif_private.schedule_key(e.parent);
COMMENT ON VIEW notif.releases IS
	'The events that were made of those published for later, when they were due: one each, or one for every group of zones that share a local time. Deliveries and outcomes are of these. zones: if it concerns people in these only and names none of them.';
