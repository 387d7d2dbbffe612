-- The time zones people are in, and those they were in before: what an event for
-- each person's own local time asks.
--
-- Such an event is released zone by zone over some 26 hours, in which people move.
-- What counts for all of it is where everybody was by one snapshot, that of its
-- first release, so nobody is told twice or not at all: the first change of his zone
-- that this snapshot does not see names the zone that it does.  (After a restore into
-- another system new changes look old to snapshots of the old one: who moves then,
-- amid such a day, counts as being where he is.)

-- Those of all recipients, and of some who have left them.  A name may be there more
-- than once: were it unique, whoever is the first in a zone would keep all others out
-- until his transaction has ended, and that may be an import of everybody.
CREATE TABLE notif_private.zone (
	name		text NOT NULL
);
CREATE INDEX zone_name ON notif_private.zone (name);

-- Appended under the lock of the recipient's row, so that id is the order of a
-- person's changes.
CREATE TABLE notif_private.zone_change (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	recipient_id bigint NOT NULL,
	xid			xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
	tz_before	text NOT NULL,
	at			timestamptz NOT NULL
);
CREATE INDEX zone_change_recipient ON notif_private.zone_change (recipient_id, id);
CREATE INDEX zone_change_at ON notif_private.zone_change (at);

CREATE FUNCTION notif_private.note_zone(recipient bigint, tz_before text, tz text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF tz IS NOT NULL AND NOT EXISTS (SELECT FROM notif_private.zone z WHERE z.name = tz) THEN
		INSERT INTO notif_private.zone (name) VALUES (tz);
	END IF;
	IF recipient IS NOT NULL AND coalesce(tz, 'UTC') <> coalesce(tz_before, 'UTC') THEN
		INSERT INTO notif_private.zone_change (recipient_id, tz_before, at) VALUES (recipient, coalesce(tz_before, 'UTC'), notif.now());
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.note_zone(bigint, text, text) IS
	'Notes the zone that a recipient gets and the one that he had; call it under the lock of his row. recipient NULL: he is new.';

CREATE FUNCTION notif_private.zones_in_use() RETURNS text[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- who has none lives by UTC
	RETURN ARRAY(SELECT 'UTC' UNION SELECT z.name FROM notif_private.zone z ORDER BY 1);
END
$$;
COMMENT ON FUNCTION notif_private.zones_in_use() IS 'The zones in which recipients may be.';

CREATE FUNCTION notif_private.zones_of(people bigint[], as_of pg_snapshot)
	RETURNS TABLE (recipient bigint, zone text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
BEGIN
	RETURN QUERY
	SELECT a.id, z.zone
	  FROM unnest(people) WITH ORDINALITY a(id, n)
	 CROSS JOIN LATERAL (
		SELECT coalesce((SELECT c.tz_before FROM notif_private.zone_change c
						  WHERE c.recipient_id = r.id AND NOT pg_visible_in_snapshot(c.xid, as_of)
						  ORDER BY c.recipient_id, c.id LIMIT 1), r.tz, 'UTC') AS zone
		  FROM notif_private.recipient r WHERE r.id = a.id OFFSET 0) z
	 ORDER BY a.n;
END
$$;
COMMENT ON FUNCTION notif_private.zones_of(bigint[], pg_snapshot) IS
	'In which zone recipients are, or were by a snapshot; UTC for who has none.';

CREATE FUNCTION notif_private.people_in_zones(people bigint[], zones text[], as_of pg_snapshot) RETURNS bigint[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT array_agg(z.recipient) FROM notif_private.zones_of(people, as_of) z WHERE z.zone = ANY (zones));
END
$$;
COMMENT ON FUNCTION notif_private.people_in_zones(bigint[], text[], pg_snapshot) IS
	'Those of the recipients who are, or were by a snapshot, in one of the zones; NULL: nobody.';
