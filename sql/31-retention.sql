-- How long things are kept.  What was never set has its default, so that the install
-- script puts no row here.

CREATE TABLE notif_private.retention (
	what		text PRIMARY KEY CHECK (what IN ('events', 'inbox', 'standard', 'long')),
	keep		interval NOT NULL
);

CREATE FUNCTION notif_private.keep_for(what text, days interval) RETURNS interval
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN coalesce((SELECT r.keep FROM notif_private.retention r WHERE r.what = keep_for.what),
					CASE keep_for.what WHEN 'standard' THEN greatest(keep_for.days, interval '90 days')
									   WHEN 'long' THEN interval '7 years' ELSE keep_for.days END);
END
$$;
COMMENT ON FUNCTION notif_private.keep_for(text, interval) IS
	'How long events, inbox items, or outcomes of retention standard or long are kept; days is notif.retention_days.';

-- Whoever reads a ledger opens all its partitions, so there are never more than 40.
CREATE FUNCTION notif_private.partitions_for(what text, keep interval) RETURNS integer
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	days	numeric := extract(epoch FROM keep) / 86400;
BEGIN
	-- as range_plan() cuts them; one that is not yet wholly past, and those ahead
	RETURN CASE what WHEN 'events' THEN ceil(days) + 6
					 WHEN 'inbox' THEN ceil(days / 28) + 2
					 WHEN 'standard' THEN ceil(days / 7) + 3
					 ELSE ceil(days / 181) + 2 END;
END
$$;
COMMENT ON FUNCTION notif_private.partitions_for(text, interval) IS
	'How many partitions it takes to keep events, inbox items or outcomes for so long.';

CREATE FUNCTION notif.set_retention(what text, keep interval) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	days	interval := make_interval(days => coalesce(current_setting('notif.retention_days', true), '30')::integer);
	total	integer;
BEGIN
	IF set_retention.what IS NULL OR set_retention.what NOT IN ('events', 'inbox', 'standard', 'long') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('unknown kind of data: %s', coalesce(quote_literal(left(set_retention.what, 80)), 'NULL')),
			DETAIL = 'Events, inbox items and outcomes are kept for a time each.',
			HINT = 'Use ''events'', ''inbox'', or ''standard'' or ''long'' for outcomes of categories with that retention.';
	END IF;
	IF set_retention.keep < interval '1 day' OR set_retention.keep > interval '100 years' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('cannot keep anything for %s', set_retention.keep),
			DETAIL = 'Partitions are of days and more.',
			HINT = 'Use at least 1 day; NULL is the default.';
	END IF;
	IF set_retention.keep IS NULL THEN
		DELETE FROM notif_private.retention r WHERE r.what = set_retention.what;
	ELSE
		INSERT INTO notif_private.retention AS r (what, keep) VALUES (set_retention.what, set_retention.keep)
		ON CONFLICT ON CONSTRAINT retention_pkey DO UPDATE SET keep = EXCLUDED.keep;
	END IF;
	-- outcomes of both kinds are under one parent
	total := CASE WHEN set_retention.what IN ('standard', 'long')
				  THEN notif_private.partitions_for('standard', notif_private.keep_for('standard', days))
					   + notif_private.partitions_for('long', notif_private.keep_for('long', days))
				  ELSE notif_private.partitions_for(set_retention.what, notif_private.keep_for(set_retention.what, days)) END;
	IF total > 40 AND set_retention.keep IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '54000',
			MESSAGE = format('%s of %s is too long to keep', set_retention.keep, set_retention.what),
			DETAIL = format('It would take %s partitions; beyond 40 every claim gets slower.', total),
			HINT = 'Outcomes: give the category retention => ''long'', or keep the other kind for less. Events and inbox: copy elsewhere what has to be kept.';
	END IF;
END
$$;
COMMENT ON FUNCTION notif.set_retention(text, interval) IS
$$Says how long something is kept; upkeep removes what is older, whole partitions at a time, so that some is kept for up to one partition longer: a day of events, a month of the inbox, a week or half a year of outcomes. What an event that is kept still needs stays with it.
what: 'events', 'inbox', or outcomes by the retention of their category, 'standard' or 'long'. keep: at least 1 day; NULL: the default, which is notif.retention_days (30) for events and inbox, 90 days for standard and 7 years for long.
Errors: 22023 bad value, 54000 it would take more partitions than the queues can bear.
Example: SELECT notif.set_retention('long', interval '10 years');$$;

CREATE VIEW notif.retention AS
	SELECT w.what, coalesce(r.keep, CASE w.what WHEN 'standard' THEN greatest(d.days, interval '90 days')
												WHEN 'long' THEN interval '7 years' ELSE d.days END) AS keep,
		   r.keep IS NOT NULL AS is_set
	FROM (VALUES ('events'), ('inbox'), ('standard'), ('long')) w(what)
	CROSS JOIN (SELECT make_interval(days => coalesce(current_setting('notif.retention_days', true), '30')::integer) AS days) d
	LEFT JOIN notif_private.retention r ON r.what = w.what;
COMMENT ON VIEW notif.retention IS
	'How long events, inbox items, and outcomes of retention standard and long are kept; is_set: notif.set_retention said so.';
