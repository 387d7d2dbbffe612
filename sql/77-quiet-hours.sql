-- Quiet hours of people, and quiet periods for everybody.

CREATE FUNCTION notif_private.check_days(days text[]) RETURNS smallint[]
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	numbers	smallint[];
BEGIN
	IF days IS NULL THEN
		RETURN '{1,2,3,4,5,6,7}';
	END IF;
	SELECT array_agg(DISTINCT array_position(ARRAY['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], d)::smallint)
	  INTO numbers FROM unnest(days) d;
	IF numbers IS NULL OR array_position(numbers, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid days: %L', left(days::text, 80)),
			DETAIL = 'days is a list of weekdays on which the window begins.',
			HINT = 'Use some of mon, tue, wed, thu, fri, sat and sun; NULL is all of them.';
	END IF;
	RETURN numbers;
END
$$;
COMMENT ON FUNCTION notif_private.check_days(text[]) IS
	'The numbers of weekdays, Monday is 1, all for NULL. 22023 for anything else.';

CREATE FUNCTION notif_private.check_window(starts time, ends time, OUT first smallint, OUT last smallint)
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (starts IS NULL) <> (ends IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'one edge of the window is missing',
			DETAIL = format('It begins at %s and ends at %s.', coalesce(starts::text, 'NULL'), coalesce(ends::text, 'NULL')),
			HINT = 'Pass start and end, as local times.';
	END IF;
	IF starts = ends OR starts = '24:00' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('the window from %s to %s has no length', starts, ends),
			DETAIL = 'A window ends at a later time of its day, or at an earlier one of the next day.',
			HINT = 'A whole day is from 00:00 to 24:00.';
	END IF;
	IF extract(second FROM starts) <> 0 OR extract(second FROM ends) <> 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('the window from %s to %s is not of whole minutes', starts, ends),
			DETAIL = 'Edges of windows are minutes.',
			HINT = 'Leave out the seconds.';
	END IF;
	first := extract(epoch FROM starts) / 60;
	last := extract(epoch FROM ends) / 60;
END
$$;
COMMENT ON FUNCTION notif_private.check_window(time, time) IS
	'The edges of a window in minutes, NULL if there is none. 22023 unless it is one.';

CREATE FUNCTION notif.set_quiet_hours(recipient text, start time, "end" time, tz text DEFAULT NULL, days text[] DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(set_quiet_hours.recipient);
	its		record := notif_private.check_window(set_quiet_hours.start, set_quiet_hours."end");
	which	smallint[] := notif_private.check_days(set_quiet_hours.days);
	zone	text;
	at		constant timestamptz := notif.now();
BEGIN
	IF set_quiet_hours.tz IS NOT NULL THEN
		PERFORM notif.upsert_recipient(set_quiet_hours.recipient, tz => set_quiet_hours.tz);
	END IF;
	SELECT r.tz INTO zone FROM notif_private.recipient r WHERE r.id = who;
	IF zone IS NULL AND its.first IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('recipient %L has no time zone', left(set_quiet_hours.recipient, 80)),
			DETAIL = 'Quiet hours are local times.',
			HINT = 'Pass tz => ''Europe/Berlin'' or the like, which becomes the recipient''s zone.';
	END IF;
	PERFORM notif_private.lock_profile(who);
	DELETE FROM notif_private.quiet_hours q WHERE q.recipient_id = who AND q.day = ANY (which);
	IF its.first IS NOT NULL THEN
		INSERT INTO notif_private.quiet_hours (recipient_id, day, starts, ends, changed_at)
		SELECT who, d, its.first, its.last, at FROM unnest(which) d;
	END IF;
	IF notif_private.quiet_until(notif_private.quiet_windows(who), NULL, 'UTC', at) > at + interval '8 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'the quiet hours leave no time to be told anything',
			DETAIL = 'Together the windows cover the whole week.',
			HINT = 'notif.switch_off is for that.';
	END IF;
	PERFORM notif_private.compile_profile(who);
	PERFORM notif_private.hold_unsent(who);
END
$$;
COMMENT ON FUNCTION notif.set_quiet_hours(text, time, time, text, text[]) IS
$$Sends a recipient nothing between two local times, but what is in a category that bypasses quiet hours; it waits for their end. In place of the windows that began on these days.
start, end: whole minutes; an end that is not after the start is on the next day, 24:00 is a day's end. NULL for both: no window. days: of 'mon' to 'sun', on which the window begins; NULL: every day. tz: the recipient's zone from now on, as notif.upsert_recipient sets it; NULL: the one stored.
What waits goes 1 to 10 seconds after the window, in the bulk tier 30 to 60 minutes after it, or expires. A time that does not exist on a day is the first one after the gap; of one that exists twice, windows begin at the first and end at the second.
Errors: 42704 unknown recipient, 22023 bad value, no zone, or no time left.
Example: SELECT notif.set_quiet_hours('customer-17', '22:00', '08:00', tz => 'Europe/Berlin');$$;

CREATE FUNCTION notif.quiet_hours(recipient text)
	RETURNS TABLE (day text, start time, "end" time, tz text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(quiet_hours.recipient);
BEGIN
	RETURN QUERY
	SELECT (ARRAY['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'])[q.day], time '00:00' + make_interval(mins => q.starts),
		   CASE q.ends WHEN 1440 THEN time '24:00' ELSE time '00:00' + make_interval(mins => q.ends) END, r.tz
	  FROM notif_private.quiet_hours q JOIN notif_private.recipient r ON r.id = q.recipient_id
	 WHERE q.recipient_id = who ORDER BY q.day;
END
$$;
COMMENT ON FUNCTION notif.quiet_hours(text) IS
$$A recipient's quiet hours, one row for each weekday on which a window begins.
Errors: 42704 unknown recipient.
Example: SELECT day, start, "end", tz FROM notif.quiet_hours('customer-17');$$;

CREATE FUNCTION notif.define_quiet_period(name text, start time, "end" time, categories text[] DEFAULT NULL,
										  days text[] DEFAULT NULL, dates date[] DEFAULT NULL, tz text DEFAULT 'UTC')
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its		record := notif_private.check_window(define_quiet_period.start, define_quiet_period."end");
	which	smallint[] := notif_private.check_days(define_quiet_period.days);
	other	text;
	made	smallint[];
BEGIN
	PERFORM notif_private.check_name('quiet period', define_quiet_period.name);
	PERFORM notif_private.check_zone(define_quiet_period.tz);
	IF its.first IS NULL OR define_quiet_period.tz IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'start, end and tz must not be NULL',
			DETAIL = format('They describe quiet period %L.', define_quiet_period.name),
			HINT = 'notif.drop_quiet_period removes one.';
	END IF;
	SELECT x INTO other FROM unnest(define_quiet_period.categories) x
	 WHERE NOT EXISTS (SELECT FROM notif_private.category c WHERE c.name = x) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('category %s does not exist', coalesce(quote_literal(left(other, 80)), 'NULL')),
			DETAIL = format('It is named by quiet period %L.', define_quiet_period.name),
			HINT = 'notif.categories lists them; NULL is all that respect quiet hours.';
	END IF;
	SELECT x INTO other FROM unnest(define_quiet_period.categories) x
	  JOIN notif_private.category c ON c.name = x WHERE c.quiet_hours = 'bypass' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('category %L bypasses quiet hours', other),
			DETAIL = format('It is named by quiet period %L, which would not hold for it.', define_quiet_period.name),
			HINT = 'Define the category with quiet_hours => ''respect''.';
	END IF;
	IF define_quiet_period.dates IS NOT NULL AND (define_quiet_period.days IS NOT NULL OR cardinality(define_quiet_period.dates) = 0
		OR array_position(define_quiet_period.dates, NULL) IS NOT NULL
		OR '-infinity' = ANY (define_quiet_period.dates) OR 'infinity' = ANY (define_quiet_period.dates)) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'invalid dates of a quiet period',
			DETAIL = 'dates is a list of days, for a period that is not about weekdays.',
			HINT = 'Pass either days or dates.';
	END IF;
	SELECT array_agg(CASE WHEN d = ANY (which) THEN e.minute ELSE -1 END::smallint ORDER BY d, e.edge) INTO made
	  FROM generate_series(1, 7) d CROSS JOIN LATERAL (VALUES (1, its.first), (2, its.last)) e(edge, minute);
	IF define_quiet_period.dates IS NULL
		AND notif_private.quiet_until(made, NULL, 'UTC', notif.now()) > notif.now() + interval '8 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'the quiet period leaves no time to send anything',
			DETAIL = 'It covers the whole week.',
			HINT = 'notif.pause and notif.disable_type are for that.';
	END IF;
	INSERT INTO notif_private.quiet_period AS p (name, categories, starts, ends, days, dates, tz, windows)
	VALUES (define_quiet_period.name, define_quiet_period.categories, its.first, its.last, which,
			(SELECT array_agg(DISTINCT x) FROM unnest(define_quiet_period.dates) x), define_quiet_period.tz, made)
	ON CONFLICT ON CONSTRAINT quiet_period_pkey DO UPDATE
		SET categories = EXCLUDED.categories, starts = EXCLUDED.starts, ends = EXCLUDED.ends, days = EXCLUDED.days,
			dates = EXCLUDED.dates, tz = EXCLUDED.tz, windows = EXCLUDED.windows;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_quiet_period(text, time, time, text[], text[], date[], text) IS
$$Defines or redefines a time in which nobody is sent certain categories, by each recipient's own clock; it waits for the end as in notif.set_quiet_hours.
name: 1 to 63 of a-z, 0-9, _ . and -. start, end: local times, as in notif.set_quiet_hours; a whole day is from 00:00 to 24:00. categories: NULL: all that respect quiet hours. days: of 'mon' to 'sun', on which it begins, or dates: single days; neither: every day. tz: for recipients who have no zone.
Errors: 22023 bad value, or no time left, 42704 unknown category.
Example: SELECT notif.define_quiet_period('evening', '21:00', '09:00', categories => '{marketing}');$$;

CREATE FUNCTION notif.drop_quiet_period(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM notif_private.quiet_period p WHERE p.name = drop_quiet_period.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('quiet period %s does not exist', coalesce(quote_literal(left(drop_quiet_period.name, 80)), 'NULL')),
			DETAIL = 'No quiet period of that name is defined.',
			HINT = 'notif.quiet_periods lists them.';
	END IF;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_quiet_period(text) IS
$$Drops a quiet period. What waits for its end goes on waiting for that time.
Errors: 42704 unknown quiet period.
Example: SELECT notif.drop_quiet_period('evening');$$;
