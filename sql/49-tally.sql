-- What every delivery is doing, in counted states.

CREATE VIEW notif_private.tally AS
	SELECT 0::smallint AS tier, t.ring, t.lane, t.state, t.n FROM notif_private.tally_critical t
	UNION ALL
	SELECT 1::smallint, t.ring, t.lane, t.state, t.n FROM notif_private.tally_standard t
	UNION ALL
	SELECT 2::smallint, t.ring, t.lane, t.state, t.n FROM notif_private.tally_bulk t;
