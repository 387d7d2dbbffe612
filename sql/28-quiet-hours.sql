-- When people want to be left alone, and when nobody is to be disturbed.  Windows are
-- local wall-clock times; a window belongs to the day on which it begins.

-- A person's, one for each weekday (1: Monday) at most, in the recipient's zone.
CREATE TABLE notif_private.quiet_hours (
	recipient_id bigint NOT NULL,
	day			smallint NOT NULL CHECK (day BETWEEN 1 AND 7),
	starts		smallint NOT NULL CHECK (starts BETWEEN 0 AND 1439),	-- minutes
	ends		smallint NOT NULL CHECK (ends BETWEEN 0 AND 1440),		-- on the next day unless larger
	changed_at	timestamptz NOT NULL,
	PRIMARY KEY (recipient_id, day),
	CHECK (starts OPERATOR(pg_catalog.<>) ends)
);

-- Everybody's, for some categories.
CREATE TABLE notif_private.quiet_period (
	name		text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	categories	text[],			-- NULL: all that respect quiet hours
	starts		smallint NOT NULL,
	ends		smallint NOT NULL,
	days		smallint[] NOT NULL,
	dates		date[],			-- ascending; NULL: any
	tz			text NOT NULL,	-- of recipients who have none
	windows		smallint[] NOT NULL		-- of starts, ends and days, as quiet_until() takes them
);

CREATE FUNCTION notif_private.quiet_windows(recipient bigint) RETURNS smallint[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.quiet_hours q WHERE q.recipient_id = recipient) THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT array_agg(coalesce(e.minute, -1)::smallint ORDER BY d.day, e.edge)
			  FROM generate_series(1, 7) d(day)
			  LEFT JOIN notif_private.quiet_hours q ON q.recipient_id = recipient AND q.day = d.day
			 CROSS JOIN LATERAL (VALUES (1, q.starts), (2, q.ends)) e(edge, minute));
END
$$;
COMMENT ON FUNCTION notif_private.quiet_windows(bigint) IS
	'A recipient''s quiet hours as quiet_until() takes them; NULL: none.';

CREATE FUNCTION notif_private.quiet_categories() RETURNS text[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.quiet_period) THEN
		RETURN NULL;
	END IF;
	RETURN ARRAY(SELECT c.name FROM notif_private.category c
				  WHERE c.quiet_hours = 'respect'
					AND EXISTS (SELECT FROM notif_private.quiet_period p
								 WHERE p.categories IS NULL OR c.name = ANY (p.categories)));
END
$$;
COMMENT ON FUNCTION notif_private.quiet_categories() IS
	'The categories that some quiet period concerns; NULL where there is no period.';

-- What the claim asks (there without a call for each attempt, which would cost more
-- than the answer).
CREATE FUNCTION notif_private.quiet_end(own smallint[], zone text, category text, at timestamptz, periods boolean)
	RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	until	timestamptz;
BEGIN
	until := notif_private.quiet_until(own, NULL, coalesce(zone, 'UTC'), at);
	IF periods THEN
		until := greatest(until, (
			SELECT max(notif_private.quiet_until(p.windows, p.dates, coalesce(zone, p.tz), at)) FROM notif_private.quiet_period p
			 WHERE p.categories IS NULL OR quiet_end.category = ANY (p.categories)));
	END IF;
	RETURN until;
END
$$;
COMMENT ON FUNCTION notif_private.quiet_end(smallint[], text, text, timestamptz, boolean) IS
	'When a recipient''s own quiet hours and, if periods, those for everybody end that hold at a time; NULL: none does.';

-- Spread, so that not all are told in the minute in which a night ends; the same at
-- each try.
CREATE FUNCTION notif_private.quiet_jitter(key bigint, bulk boolean) RETURNS interval
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN bulk THEN interval '30 minutes' + (hashint8extended(key, 0) & 1048575) * interval '30 minutes' / 1048576
				ELSE interval '1 second' + (hashint8extended(key, 0) & 1048575) * interval '9 seconds' / 1048576 END;
END
$$;
COMMENT ON FUNCTION notif_private.quiet_jitter(bigint, boolean) IS
	'How long after the end of quiet hours something goes: 30 to 60 minutes in the bulk tier, 1 to 10 seconds in others.';
