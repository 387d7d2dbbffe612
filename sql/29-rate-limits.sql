-- How often somebody is told.  A limit is a row: n messages in any interval of one
-- length, for each recipient or shared by all of them.  What it applies to is
-- compiled into a bit of each type, type.limits, so that a claim finds the limits of
-- an attempt where it looks at its type anyway.  A bit is a limit's place, which it
-- keeps as long as it lives; its id names its history, in rate.state or rate_total.

CREATE TABLE notif_private.rate_limit (
	id			integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	place		smallint NOT NULL UNIQUE CHECK (place BETWEEN 0 AND 63),
	name		text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	scope		text NOT NULL CHECK (scope IN ('recipient', 'type', 'campaign', 'provider')),
	-- of scope recipient, each NULL: any; of the others the one that is limited
	channel		text,
	category	text REFERENCES notif_private.category,
	type_id		integer REFERENCES notif_private.type,
	campaign_id	integer REFERENCES notif_private.campaign,
	provider_id	integer REFERENCES notif_private.provider,
	max_count	integer NOT NULL CHECK (max_count BETWEEN 1 AND 1000000000),
	per			interval NOT NULL CHECK (per OPERATOR(pg_catalog.>) interval '0'),
	action		text NOT NULL CHECK (action IN ('drop', 'defer', 'fold')),
	CHECK (CASE scope WHEN 'recipient' THEN campaign_id IS NULL AND provider_id IS NULL
					  WHEN 'type' THEN type_id IS NOT NULL AND pg_catalog.num_nonnulls(channel, category, campaign_id, provider_id) OPERATOR(pg_catalog.=) 0
					  WHEN 'campaign' THEN campaign_id IS NOT NULL AND pg_catalog.num_nonnulls(channel, category, type_id, provider_id) OPERATOR(pg_catalog.=) 0
					  ELSE provider_id IS NOT NULL AND pg_catalog.num_nonnulls(channel, category, type_id, campaign_id) OPERATOR(pg_catalog.=) 0 END)
);

-- Shared limits are appended to, so that a snapshot held by somebody costs nothing:
-- the row with the largest seq holds, upkeep removes the others.  rate_total is the
-- window of all tiers; rate_lease what a tier has taken of it and not used yet.
CREATE TABLE notif_private.rate_total (
	limit_id	integer NOT NULL,
	seq			bigint NOT NULL,
	state		bytea,				-- NULL: nothing was taken yet
	queued_until timestamptz,		-- deferred attempts have been given times up to here
	PRIMARY KEY (limit_id, seq)
);
CREATE TABLE notif_private.rate_lease (
	limit_id	integer NOT NULL,
	tier		smallint NOT NULL,
	seq			bigint NOT NULL,
	units		integer NOT NULL,
	until		timestamptz NOT NULL,	-- to be used by then, or given back
	PRIMARY KEY (limit_id, tier, seq)
);

CREATE FUNCTION notif_private.limit_numbers(l notif_private.rate_limit) RETURNS bigint[]
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ARRAY[l.place::bigint, l.id::bigint, l.max_count::bigint, (extract(epoch FROM l.per) * 1000)::bigint,
				 CASE l.action WHEN 'defer' THEN 0 WHEN 'fold' THEN 1 ELSE 2 END::bigint];
END
$$;
COMMENT ON FUNCTION notif_private.limit_numbers(notif_private.rate_limit) IS
	'A limit as rate_charge() and its like take it: place, id, n, window in milliseconds, action.';

-- Asked once per claim, and only where there are limits.
CREATE FUNCTION notif_private.limits_of_lane(p_lane integer, OUT limits bigint[], OUT names text[], OUT here bigint, OUT shared bigint, OUT folds bigint,
											 OUT campaigns integer[], OUT of_campaigns bigint[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	l			notif_private.rate_limit;
	v_channel	text;
	v_provider	integer;
	v_bit		bigint;
BEGIN
	here := 0; shared := 0; folds := 0; limits := '{}';
	SELECT r.channel,
		   (SELECT p.id FROM unnest(r.providers) WITH ORDINALITY u(name, nth) JOIN notif_private.provider p ON p.name = u.name
			 WHERE p.enabled AND NOT notif_private.is_paused('provider', p.name) ORDER BY u.nth LIMIT 1)
	  INTO v_channel, v_provider
	  FROM notif_private.route r WHERE r.id = p_lane;
	FOR l IN SELECT x.* FROM notif_private.rate_limit x ORDER BY x.place LOOP
		v_bit := 1::bigint << l.place;
		names[l.place + 1] := l.name;
		IF l.scope = 'recipient' THEN
			-- also those that do not apply here: their history must stay in the state
			limits := limits || notif_private.limit_numbers(l);
		ELSIF l.scope <> 'provider' OR l.provider_id = v_provider THEN
			shared := shared | v_bit;
		END IF;
		IF l.action = 'fold' THEN
			folds := folds | v_bit;
		END IF;
		IF l.scope = 'campaign' THEN
			campaigns := campaigns || l.campaign_id;
			of_campaigns := of_campaigns || v_bit;
		ELSIF coalesce(l.channel, v_channel) = v_channel AND coalesce(l.provider_id, v_provider, 0) = coalesce(v_provider, 0) THEN
			here := here | v_bit;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION notif_private.limits_of_lane(integer) IS
	'What the claim of a lane must know of rate limits. limits: those per recipient, as rate_charge() takes them. names: by place plus one. here: bits of those that apply to what goes over its channel and provider; shared: of those that all recipients share; folds: of those whose action is fold. campaigns, of_campaigns: the bits of what was published for them.';

CREATE FUNCTION notif_private.lock_limits() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	LOCK TABLE notif_private.rate_limit IN SHARE ROW EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION notif_private.lock_limits() IS
	'Makes changes of limits, types and categories wait for each other, who compile_limits() afterwards; claims do not wait. To be called before anything else is locked.';

CREATE FUNCTION notif_private.compile_limits() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE notif_private.type t SET limits = x.bits
	  FROM (SELECT y.id, coalesce(bit_or(1::bigint << l.place), 0) AS bits
			  FROM notif_private.type y
			  JOIN notif_private.category c ON c.name = y.category
			  LEFT JOIN notif_private.rate_limit l
					 ON c.rate_limited AND coalesce(l.type_id, y.id) = y.id AND coalesce(l.category, y.category) = y.category
			 GROUP BY y.id) x
	 WHERE t.id = x.id AND t.limits <> x.bits;
END
$$;
COMMENT ON FUNCTION notif_private.compile_limits() IS
	'Writes the limits that apply to each type anew, after types, categories or limits have changed and under lock_limits(). Types of exempt categories have none.';

-- The claim cannot gather: digests are the router's.  It leaves a command in the event
-- log, in the transaction in which it writes the outcome.
CREATE FUNCTION notif_private.fold_over_limit(p_tier smallint, p_attempts notif_private.attempt[], p_limits text[], p_now timestamptz) RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	IF p_attempts IS NULL THEN
		RETURN 0;
	END IF;
	INSERT INTO notif_private.event (id, tier, incarnation, kind, type_id, recipients, data, expires_at, created_at)
	SELECT notif_private.new_event_id(), p_tier, notif_private.current_incarnation(), 3, a.type_id, ARRAY[a.recipient],
		   jsonb_build_object('event', a.event, 'delivery', a.delivery, 'endpoint', a.endpoint, 'limit', p_limits[i.i]), a.expires_at, p_now
	  FROM generate_subscripts(p_attempts, 1) i(i)
	 CROSS JOIN LATERAL (SELECT (p_attempts[i.i]).*) a
	 ORDER BY i.i;
	PERFORM notif_private.wake(p_tier);
	RETURN cardinality(p_attempts);
END
$$;
COMMENT ON FUNCTION notif_private.fold_over_limit(smallint, notif_private.attempt[], text[], timestamptz) IS
	'Files the commands (kind 3) that fold deliveries into their recipients'' digests: what stopped each is its limit. The caller writes their outcomes, merged.';
