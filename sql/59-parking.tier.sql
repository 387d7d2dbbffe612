-- Attempts of tier @TIER@ whose type or campaign is paused.  The claim diverts them into
-- a lane of the schedule that nobody reads; so they cost nothing while they wait,
-- however long, and no attempt is used up.  Once the switch is off again the claim
-- reads them before anything else of the route, and until it has read them all what
-- comes later of an ordered type is put behind them.

CREATE FUNCTION notif_private.parked_@TIER@(p_lane integer, OUT subjects integer[], OUT parks integer[],
											OUT closed boolean[], OUT since timestamptz[])
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
	IF EXISTS (SELECT FROM notif_private.pause p WHERE p.what IN ('type', 'campaign')) THEN
		INSERT INTO notif_private.parking AS k (tier, route_id, what, name, subject_id)
		SELECT @TIERNO@, p_lane, p.what, p.name, coalesce(t.id, c.id)
		  FROM notif_private.pause p
		  LEFT JOIN notif_private.type t ON p.what = 'type' AND t.name = p.name
		  LEFT JOIN notif_private.campaign c ON p.what = 'campaign' AND c.name = p.name
		 WHERE coalesce(t.id, c.id) IS NOT NULL
		   AND NOT EXISTS (SELECT FROM notif_private.parking x
							WHERE x.tier = @TIERNO@ AND x.route_id = p_lane AND x.what = p.what AND x.name = p.name AND NOT x.drained)
		ON CONFLICT (tier, route_id, what, name) DO UPDATE SET drained = false;
	END IF;
	SELECT array_agg(CASE k.what WHEN 'type' THEN k.subject_id ELSE - k.subject_id END), array_agg(k.id),
		   array_agg(EXISTS (SELECT FROM notif_private.pause p WHERE p.what = k.what AND p.name = k.name)),
		   array_agg((SELECT c.due FROM notif_private.cursor_@TIER@ c
					   WHERE c.role = 3 AND c.lane = - k.id AND c.key = '00000000-0000-0000-0000-000000000000'
					   ORDER BY c.seq DESC LIMIT 1))
	  INTO subjects, parks, closed, since
	  FROM notif_private.parking k WHERE k.tier = @TIERNO@ AND k.route_id = p_lane AND NOT k.drained AND k.what <> 'condition';
END
$$;
COMMENT ON FUNCTION notif_private.parked_@TIER@(integer) IS
	'What of a lane is parked: subjects (a type, or a campaign as a negative number), with for each its parking, whether its switch is on (else it is being read out) and the horizon behind which to file. All NULL as a rule: nothing is.';

-- The parkings of a lane that may be read.
CREATE FUNCTION notif_private.resumed_@TIER@(p_lane integer) RETURNS SETOF integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
	RETURN QUERY SELECT k.id FROM notif_private.parking k
		WHERE k.tier = @TIERNO@ AND k.route_id = p_lane AND NOT k.drained AND k.what <> 'condition'
		  AND NOT EXISTS (SELECT FROM notif_private.pause p WHERE p.what = k.what AND p.name = k.name)
		ORDER BY k.id;
END
$$;
COMMENT ON FUNCTION notif_private.resumed_@TIER@(integer) IS
	'Parkings of a lane with attempts left whose switch is off again.';

CREATE FUNCTION notif_private.read_parked_@TIER@(p_turn bigint, p_lane integer, p_limit integer) RETURNS notif_private.attempt[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	park	integer;
	batch	notif_private.attempt[] := '{}';
BEGIN
	FOR park IN SELECT * FROM notif_private.resumed_@TIER@(p_lane) LOOP
		batch := batch || (notif_private.read_due_@TIER@(p_turn, - park, p_limit - cardinality(batch))).batch;
		EXIT WHEN cardinality(batch) >= p_limit;
		IF notif_private.next_due_@TIER@(- park) IS NULL THEN
			UPDATE notif_private.parking k SET drained = true WHERE k.id = park;
		END IF;
	END LOOP;
	RETURN batch;
END
$$;
COMMENT ON FUNCTION notif_private.read_parked_@TIER@(bigint, integer, integer) IS
	'Takes the next attempts of a lane that were parked and may go now, at most p_limit.';
