-- Limits that all recipients share: of a type, a campaign, a provider.
--
-- Exact over all tiers, and no claim waits for another.  What may be used stands in
-- rate_total; a tier takes what a claim uses and up to a hundredth of the limit more,
-- its lease, from which its next claims take without looking at the total.  Whoever
-- needs the total takes a lock on the limit's row if it is free; otherwise it lets what
-- goes beyond its lease wait for some milliseconds.  Both change in the claim's own
-- transaction, so that a crash loses neither: a dispatcher that starts anew finds the
-- lease of the one before it.
--
-- A lease is dated at the end of the part of the window in which it was taken, and may
-- be used until then: so whenever a unit is used, no interval of the window's length
-- around it holds too many.  What is not used by then goes back to where it was taken.
--
-- What is deferred is given times in turn, n per w, behind everything that was given
-- one before: a backlog comes back once, spread, not as a whole at every turn.  As long
-- as such times lie ahead what is new goes behind them, and nothing is leased: else
-- what is new would always be first, and what waits would wait until it expires.

CREATE FUNCTION notif_private.shared_look(l notif_private.rate_limit, p_tier smallint, p_now timestamptz,
										  OUT total_seq bigint, OUT state bytea, OUT queued_until timestamptz, OUT units_left bigint,
										  OUT next_at timestamptz, OUT lease_seq bigint, OUT leased integer, OUT until timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
	look	bigint[];
	spare	integer := 0;	-- of a lease that has ended
BEGIN
	SELECT x.seq, x.units, x.until INTO lease_seq, leased, until FROM notif_private.rate_lease x
	 WHERE x.limit_id = l.id AND x.tier = p_tier ORDER BY x.seq DESC LIMIT 1;
	SELECT x.seq, x.state, x.queued_until INTO total_seq, state, queued_until FROM notif_private.rate_total x
	 WHERE x.limit_id = l.id ORDER BY x.seq DESC LIMIT 1;
	total_seq := coalesce(total_seq, 0);
	lease_seq := coalesce(lease_seq, 0);
	IF until < p_now THEN
		spare := leased;
		leased := 0;
		IF spare > 0 THEN
			state := notif_private.rate_give(state, notif_private.limit_numbers(l), until, spare, -1);
		END IF;
	END IF;
	leased := coalesce(leased, 0);
	look := notif_private.rate_look(state, notif_private.limit_numbers(l), p_now);
	units_left := look[1];
	IF units_left > 0 THEN
		-- once these are taken
		look := notif_private.rate_look(notif_private.rate_take(state, notif_private.limit_numbers(l), p_now, units_left::integer),
										notif_private.limit_numbers(l), p_now);
	END IF;
	next_at := greatest(timestamptz 'epoch' + look[2] * interval '1 millisecond', queued_until);
END
$$;
COMMENT ON FUNCTION notif_private.shared_look(notif_private.rate_limit, smallint, timestamptz) IS
	'How a shared limit stands for a tier: the newest rows of total and lease. state has what an ended lease gives back; leased is what may still be used of one that has not ended; next_at is when the first unit after those that are left is nobody''s yet.';

CREATE FUNCTION notif_private.shared_ask(p_tier smallint, p_masks bigint[], p_people bigint[], p_expires timestamptz[],
										 p_attempts smallint[], p_now timestamptz)
	RETURNS bigint[] LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	v_all		constant bigint := (SELECT bit_or(m) FROM unnest(p_masks) m);
	l			notif_private.rate_limit;
	at			record;
	a			record;
	n			integer := 0;
	v_need		bigint;
	v_short		boolean := false;
	v_stop		integer;
	v_bits		bigint[];
	v_room		bigint[];
	v_places	smallint[];
	v_ranks		integer[];		-- of actions, the hardest decides
	v_next		timestamptz[];	-- for the next that is deferred
	v_opens		timestamptz[];	-- once its room is used up
	v_step		interval[];
	v_ids		integer[];
	v_mine		boolean[];		-- its row is locked: times that are given are kept
	v_ahead		boolean[];		-- there are such that were given before
	v_queued	boolean[];
	v_verdicts	bigint[];
BEGIN
	FOR l IN SELECT x.* FROM notif_private.rate_limit x
			  WHERE x.scope <> 'recipient' AND v_all & (1::bigint << x.place) <> 0 ORDER BY x.id LOOP
		n := n + 1;
		v_bits[n] := 1::bigint << l.place;
		v_places[n] := l.place;
		v_ranks[n] := CASE l.action WHEN 'defer' THEN 0 WHEN 'fold' THEN 1 ELSE 2 END;
		v_ids[n] := l.id;
		v_mine[n] := false;
		v_queued[n] := false;
		v_ahead[n] := false;
		v_need := (SELECT count(*) FROM unnest(p_masks) m WHERE m & v_bits[n] <> 0);
		at := notif_private.shared_look(l, p_tier, p_now);
		v_room[n] := at.leased;
		v_next[n] := p_now + (0.02 + 0.06 * random()) * interval '1 second';
		v_opens[n] := v_next[n];
		v_step[n] := interval '1 millisecond';
		IF at.leased < v_need OR at.queued_until > p_now THEN
			PERFORM FROM notif_private.rate_limit x WHERE x.id = l.id FOR NO KEY UPDATE SKIP LOCKED;
			IF FOUND THEN
				-- what the one before has written is seen from here on
				at := notif_private.shared_look(l, p_tier, p_now);
				v_room[n] := at.leased + at.units_left;
				v_next[n] := greatest(p_now, at.queued_until);
				v_opens[n] := at.next_at;
				v_step[n] := l.per / l.max_count;
				v_mine[n] := true;
				v_ahead[n] := at.queued_until > p_now;
			ELSE
				v_ranks[n] := 0;
			END IF;
			v_short := v_short OR v_room[n] < v_need OR v_ahead[n];
		END IF;
	END LOOP;
	IF NOT v_short THEN
		RETURN NULL;
	END IF;

	-- What comes at its time first; then everybody's first before anybody's second:
	-- one who is flooded takes nothing from the others.
	v_verdicts := array_fill(0::bigint, ARRAY[cardinality(p_masks)]);
	FOR a IN SELECT u.mask, u.nth, u.expires, u.attempt = 1 AS fresh
			   FROM (SELECT p.mask, p.nth, p.expires, p.attempt, row_number() OVER (PARTITION BY p.person ORDER BY p.nth) AS turn
					   FROM unnest(p_masks, p_people, p_expires, p_attempts) WITH ORDINALITY p(mask, person, expires, attempt, nth)) u
			  WHERE u.mask <> 0 ORDER BY u.attempt = 1, u.turn, u.nth LOOP
		v_stop := 0;
		FOR i IN 1 .. n LOOP
			IF v_room[i] <= 0 THEN
				v_next[i] := greatest(v_next[i], v_opens[i]);
			END IF;
			IF a.mask & v_bits[i] <> 0 AND (v_room[i] <= 0 OR a.fresh AND v_ahead[i])
			   AND (v_stop = 0 OR v_ranks[i] > v_ranks[v_stop] OR v_ranks[i] = v_ranks[v_stop] AND v_next[i] > v_next[v_stop]) THEN
				v_stop := i;
			END IF;
		END LOOP;
		IF v_stop = 0 THEN
			FOR i IN 1 .. n LOOP
				IF a.mask & v_bits[i] <> 0 THEN
					v_room[i] := v_room[i] - 1;
				END IF;
			END LOOP;
			CONTINUE;
		END IF;
		v_verdicts[a.nth] := (v_places[v_stop] + 1)::bigint << 48;
		IF v_ranks[v_stop] = 0 THEN
			v_verdicts[a.nth] := v_verdicts[a.nth] + ceil(extract(epoch FROM v_next[v_stop]) * 1000)::bigint;
			-- what expires before takes nobody's turn
			IF v_next[v_stop] < a.expires THEN
				v_next[v_stop] := v_next[v_stop] + v_step[v_stop];
				v_queued[v_stop] := v_mine[v_stop];
			END IF;
		END IF;
	END LOOP;
	FOR i IN 1 .. n LOOP
		IF v_queued[i] THEN
			INSERT INTO notif_private.rate_total (limit_id, seq, state, queued_until)
			SELECT v_ids[i], coalesce(max(x.seq), 0) + 1,
				   (SELECT y.state FROM notif_private.rate_total y WHERE y.limit_id = v_ids[i] ORDER BY y.seq DESC LIMIT 1), v_next[i]
			  FROM notif_private.rate_total x WHERE x.limit_id = v_ids[i];
		END IF;
	END LOOP;
	RETURN v_verdicts;
END
$$;
COMMENT ON FUNCTION notif_private.shared_ask(smallint, bigint[], bigint[], timestamptz[], smallint[], timestamptz) IS
	'Which sends of a claim the shared limits stop, all that apply to one or none: verdicts as rate_verdicts() gives them, in the order of the masks, NULL if all may go. Takes nothing yet: shared_use() does, in the same transaction, for those that no other limit stops.';

CREATE FUNCTION notif_private.shared_use(p_tier smallint, p_masks bigint[], p_now timestamptz) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	v_all	constant bigint := (SELECT bit_or(m) FROM unnest(p_masks) m);
	l		notif_private.rate_limit;
	at		record;
	v_used	integer;
	v_take	integer;
BEGIN
	FOR l IN SELECT x.* FROM notif_private.rate_limit x
			  WHERE x.scope <> 'recipient' AND v_all & (1::bigint << x.place) <> 0 ORDER BY x.id LOOP
		v_used := (SELECT count(*) FROM unnest(p_masks) m WHERE m & (1::bigint << l.place) <> 0);
		at := notif_private.shared_look(l, p_tier, p_now);
		IF at.leased < v_used THEN
			-- the limit's row is locked: shared_ask() would have let no more go
			v_take := least(v_used - at.leased + CASE WHEN at.queued_until > p_now THEN 0 ELSE l.max_count / 100 END,
							greatest(at.units_left, v_used - at.leased));
			INSERT INTO notif_private.rate_total (limit_id, seq, state, queued_until)
			VALUES (l.id, at.total_seq + 1,
					notif_private.rate_take(at.state, notif_private.limit_numbers(l), p_now, v_take),
					CASE WHEN at.queued_until > p_now THEN at.queued_until END);
			at.leased := at.leased + v_take;
			at.until := notif_private.rate_until(notif_private.limit_numbers(l), p_now);
		END IF;
		INSERT INTO notif_private.rate_lease (limit_id, tier, seq, units, until)
		VALUES (l.id, p_tier, at.lease_seq + 1, at.leased - v_used, at.until);
	END LOOP;
	RETURN true;
END
$$;
COMMENT ON FUNCTION notif_private.shared_use(smallint, bigint[], timestamptz) IS
	'Takes what is sent out of the shared limits: from the tier''s lease, and where that is used up from the total, with a new lease of at most a hundredth of the limit. 54000 if the total has not enough, which shared_ask() excludes.';

-- Old rows of what is appended to.
CREATE FUNCTION notif_private.forget_totals() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	n		integer;
	total	integer;
BEGIN
	DELETE FROM notif_private.rate_total t
	 WHERE NOT EXISTS (SELECT FROM notif_private.rate_limit l WHERE l.id = t.limit_id)
		OR t.seq < (SELECT x.seq FROM notif_private.rate_total x WHERE x.limit_id = t.limit_id ORDER BY x.seq DESC LIMIT 1);
	GET DIAGNOSTICS total = ROW_COUNT;
	DELETE FROM notif_private.rate_lease t
	 WHERE NOT EXISTS (SELECT FROM notif_private.rate_limit l WHERE l.id = t.limit_id)
		OR t.seq < (SELECT x.seq FROM notif_private.rate_lease x WHERE x.limit_id = t.limit_id AND x.tier = t.tier ORDER BY x.seq DESC LIMIT 1);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN total + n;
END
$$;
COMMENT ON FUNCTION notif_private.forget_totals() IS
	'Removes rows of shared limits that a newer one has replaced, or whose limit was dropped during a claim; returns how many.';
