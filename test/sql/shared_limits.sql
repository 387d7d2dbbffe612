-- Limits that all recipients share, against their definition: claims of three tiers at
-- random times, given by hand, with random needs; some are rolled back, as after an
-- error.  No interval of a window's length may hold more than the limit, and what was
-- refused must have been refused for want of units.
SET client_min_messages = warning;
SELECT notif.define_category('c');
SELECT notif.define_type('a', 'c', title => 'A');
SELECT notif.define_type('b', 'c', title => 'B');
SELECT notif.define_rate_limit('large', 1000, '1 hour', scope => 'type', type => 'a');
SELECT notif.define_rate_limit('middle', 120, '2 minutes', 'drop', scope => 'type', type => 'b');
SELECT notif.define_rate_limit('small', 7, '10 seconds', 'fold', scope => 'type', type => 'b');
CREATE TABLE passed (at timestamptz, a integer, b integer);

CREATE PROCEDURE pg_temp.simulate(steps integer, mean_s double precision, most integer, share_a double precision) LANGUAGE plpgsql AS $$
DECLARE
	a		constant bigint := (SELECT 1::bigint << place FROM notif_private.rate_limit WHERE name = 'large');
	b		constant bigint := (SELECT bit_or(1::bigint << place) FROM notif_private.rate_limit WHERE name <> 'large');
	at		timestamptz := coalesce((SELECT max(p.at) FROM passed p), '2030-01-01');
	masks	bigint[];
	went	bigint[];
	says	bigint[];
	n		integer;
	tier	smallint;
BEGIN
	FOR step IN 1 .. steps LOOP
		at := at + mean_s * 2 * random() * interval '1 second';
		n := 1 + floor(random() * most);
		tier := floor(random() * 3);
		masks := ARRAY(SELECT CASE WHEN random() < share_a THEN a ELSE b END FROM generate_series(1, n));
		BEGIN
			-- two tiers' clocks differ by some milliseconds
			says := notif_private.shared_ask(tier, masks, ARRAY(SELECT i::bigint FROM generate_series(1, n) i),
											 array_fill(at + interval '2 hours', ARRAY[n]), array_fill(1::smallint, ARRAY[n]), at - tier * interval '3 ms');
			went := ARRAY(SELECT masks[i] FROM generate_series(1, n) i WHERE coalesce(says[i], 0) = 0);
			PERFORM notif_private.shared_use(tier, went, at - tier * interval '3 ms');
			IF random() < 0.1 THEN
				RAISE SQLSTATE 'NT000';
			END IF;
			INSERT INTO passed SELECT at - tier * interval '3 ms', count(*) FILTER (WHERE m = a), count(*) FILTER (WHERE m = b) FROM unnest(went) m;
		EXCEPTION WHEN SQLSTATE 'NT000' THEN
			NULL;
		END;
		IF step % 97 = 0 THEN
			PERFORM notif_private.forget_totals();
		END IF;
	END LOOP;
END
$$;

-- The most that any interval of that length holds; half open, as n per w is.
CREATE FUNCTION pg_temp.most(OUT large bigint, OUT middle bigint, OUT small bigint) LANGUAGE sql AS $$
	SELECT max(l), max(m), max(s) FROM (
		SELECT sum(a) OVER (ORDER BY at RANGE BETWEEN interval '59 min 59.999 s' PRECEDING AND CURRENT ROW) AS l,
			   sum(b) OVER (ORDER BY at RANGE BETWEEN interval '1 min 59.999 s' PRECEDING AND CURRENT ROW) AS m,
			   sum(b) OVER (ORDER BY at RANGE BETWEEN interval '9.999 s' PRECEDING AND CURRENT ROW) AS s FROM passed) x
$$;

SELECT setseed(0.42);
-- far more than is allowed
CALL pg_temp.simulate(1500, 8, 20, 0.5);
SELECT large <= 1000 AS large, middle <= 120 AS middle, small <= 7 AS small FROM pg_temp.most();
-- what is allowed is used: of 'large' the queue is never served here, so its times stay ahead
SELECT round(extract(epoch FROM max(at) - min(at)) / 3600) AS hours, sum(a) > 900 AS some, sum(b) > 0.5 * 3600 AS many FROM passed;

-- near the limit, with leases and little steps
TRUNCATE passed;
SELECT notif.drop_rate_limit('small'), notif.drop_rate_limit('middle');
SELECT notif.define_rate_limit('middle', 120, '2 minutes', 'drop', scope => 'type', type => 'b');
SELECT notif.define_rate_limit('large', 1000, '1 hour', 'drop', scope => 'type', type => 'a');
CALL pg_temp.simulate(3000, 3, 4, 0.4);
SELECT large <= 1000 AS large, middle <= 120 AS middle FROM pg_temp.most();
-- and nearly all that is allowed is used, once the hour before has passed
SELECT sum(a) > 0.93 * 1000 * extract(epoch FROM max(at) - min(at)) / 3600 AS large
FROM (SELECT p.*, min(at) OVER () AS first FROM passed p) p WHERE at > first + interval '1 hour';
-- what is not used within its part of the window goes back
SELECT sum(units) <= 30 AS leased FROM (SELECT DISTINCT ON (tier) units FROM notif_private.rate_lease x JOIN notif_private.rate_limit l ON l.id = x.limit_id
	WHERE l.name = 'large' ORDER BY tier, seq DESC) x;
DROP TABLE passed;
