-- Defining and dropping rate limits.

CREATE FUNCTION notif_private.check_limit(name text, max_count integer, per interval, action text, scope text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif_private.check_name('rate limit', check_limit.name);
	IF check_limit.scope IS NULL OR check_limit.scope NOT IN ('recipient', 'type', 'campaign', 'provider') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid scope: %s', coalesce(quote_literal(left(check_limit.scope, 80)), 'NULL')),
			DETAIL = 'scope says whose messages are counted together.',
			HINT = 'Use ''recipient'' for a limit per recipient; ''type'', ''campaign'' or ''provider'' for one that all recipients share.';
	END IF;
	IF check_limit.max_count IS NULL OR check_limit.max_count NOT BETWEEN 1 AND (CASE check_limit.scope WHEN 'recipient' THEN 100000 ELSE 1000000000 END) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('max_count is out of range: %s', coalesce(check_limit.max_count::text, 'NULL')),
			DETAIL = 'No more than max_count messages pass in any interval of the length per.',
			HINT = CASE check_limit.scope WHEN 'recipient' THEN 'Use a number from 1 to 100000.' ELSE 'Use a number from 1 to 1000000000.' END;
	END IF;
	IF check_limit.per IS NULL OR check_limit.per < interval '1 second' OR check_limit.per > interval '31 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('per is out of range: %s', coalesce(check_limit.per::text, 'NULL')),
			DETAIL = 'No more than max_count messages pass in any interval of the length per.',
			HINT = 'Use an interval from 1 second to 31 days.';
	END IF;
	IF check_limit.action NOT IN ('drop', 'defer', 'fold') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid action: %L', left(check_limit.action, 80)),
			DETAIL = 'action says what happens to a message above the limit.',
			HINT = 'Use ''drop'', ''defer'' or ''fold''.';
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_limit(text, integer, interval, text, text) IS
	'Raises 22023 for a rate limit that cannot be.';

-- What is named must be there; a limit on something unknown would never hold.
CREATE FUNCTION notif_private.limit_subject(what text, name text, scope text, scopes text[]) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_id	integer;
BEGIN
	IF limit_subject.name IS NULL THEN
		IF limit_subject.scope = limit_subject.what THEN
			RAISE EXCEPTION USING ERRCODE = '22023',
				MESSAGE = format('a limit of scope %L needs a %s', limit_subject.scope, limit_subject.what),
				DETAIL = 'It limits what is sent to all recipients together.',
				HINT = format('Pass %s => its name.', limit_subject.what);
		END IF;
		RETURN NULL;
	END IF;
	IF limit_subject.scope <> ALL (limit_subject.scopes) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('a limit of scope %L has no %s', limit_subject.scope, limit_subject.what),
			DETAIL = format('%s is for limits of scope %s.', limit_subject.what,
							(SELECT string_agg(quote_literal(s), ' and ') FROM unnest(limit_subject.scopes) s)),
			HINT = 'Leave it away, or choose another scope.';
	END IF;
	found_id := CASE limit_subject.what
		WHEN 'category' THEN (SELECT c.number FROM notif_private.category c WHERE c.name = limit_subject.name)
		WHEN 'type' THEN (SELECT t.id FROM notif_private.type t WHERE t.name = limit_subject.name)
		WHEN 'campaign' THEN (SELECT c.id FROM notif_private.campaign c WHERE c.name = limit_subject.name)
		WHEN 'provider' THEN (SELECT p.id FROM notif_private.provider p WHERE p.name = limit_subject.name) END;
	IF found_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('%s %L does not exist', limit_subject.what, left(limit_subject.name, 110)),
			DETAIL = 'A rate limit names it.',
			HINT = CASE limit_subject.what WHEN 'campaign' THEN 'A campaign exists from the first publish that names it.'
				   WHEN 'category' THEN 'notif.categories lists them.' ELSE format('notif.%ss lists them.', limit_subject.what) END;
	END IF;
	RETURN found_id;
END
$$;
COMMENT ON FUNCTION notif_private.limit_subject(text, text, text, text[]) IS
	'The id (of a category: the number) of what a rate limit names; NULL for none. 22023 where a scope needs one or has none, 42704 for an unknown one.';

CREATE FUNCTION notif.define_rate_limit(name text, max_count integer, per interval, action text DEFAULT NULL, channel text DEFAULT NULL,
										category text DEFAULT NULL, type text DEFAULT NULL, scope text DEFAULT 'recipient',
										campaign text DEFAULT NULL, provider text DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	v_old	notif_private.rate_limit;
	v_new	notif_private.rate_limit;
BEGIN
	PERFORM notif_private.check_limit(define_rate_limit.name, define_rate_limit.max_count, define_rate_limit.per,
									  define_rate_limit.action, define_rate_limit.scope);
	IF define_rate_limit.channel IS NOT NULL
	   AND (notif_private.channel_bit(define_rate_limit.channel) IS NULL OR define_rate_limit.channel = 'inbox'
			OR define_rate_limit.scope <> 'recipient') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN define_rate_limit.scope <> 'recipient' THEN format('a limit of scope %L has no channel', define_rate_limit.scope)
						   ELSE format('channel %L cannot be limited', left(define_rate_limit.channel, 80)) END,
			DETAIL = 'A limit per recipient may be for one channel; inbox items are written always.',
			HINT = 'Use ''push'', ''webpush'', ''email'', ''sms'', ''voice'', ''chat'' or ''webhook''.';
	END IF;
	PERFORM notif_private.lock_limits();
	PERFORM notif_private.limit_subject('category', define_rate_limit.category, define_rate_limit.scope, '{recipient}');
	v_new.type_id := notif_private.limit_subject('type', define_rate_limit.type, define_rate_limit.scope, '{recipient,type}');
	v_new.campaign_id := notif_private.limit_subject('campaign', define_rate_limit.campaign, define_rate_limit.scope, '{campaign}');
	v_new.provider_id := notif_private.limit_subject('provider', define_rate_limit.provider, define_rate_limit.scope, '{provider}');

	SELECT * INTO v_old FROM notif_private.rate_limit l WHERE l.name = define_rate_limit.name;
	IF v_old.id IS NOT NULL
	   AND (v_old.scope, v_old.channel, v_old.category, v_old.type_id, v_old.campaign_id, v_old.provider_id) IS DISTINCT FROM
		   (define_rate_limit.scope, define_rate_limit.channel, define_rate_limit.category, v_new.type_id, v_new.campaign_id, v_new.provider_id) THEN
		-- another limit under the old name: what was counted has nothing to do with it
		PERFORM notif_private.forget_limit(v_old.id);
		v_old := NULL;
	END IF;
	IF v_old.id IS NULL THEN
		-- a place that was free for long: a claim may still know it as another's
		SELECT p.place INTO v_new.place
		  FROM generate_series(0, 63) p(place)
		 WHERE NOT EXISTS (SELECT FROM notif_private.rate_limit l WHERE l.place = p.place)
		 ORDER BY (p.place - (SELECT l.place + 1 FROM notif_private.rate_limit l ORDER BY l.id DESC LIMIT 1) + 64) % 64, p.place LIMIT 1;
		IF v_new.place IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = '54000',
				MESSAGE = 'there are 64 rate limits',
				DETAIL = 'Limits of all scopes together may be 64.',
				HINT = 'Drop one with notif.drop_rate_limit; notif.rate_limits lists them.';
		END IF;
		INSERT INTO notif_private.rate_limit (place, name, scope, channel, category, type_id, campaign_id, provider_id, max_count, per, action)
		VALUES (v_new.place, define_rate_limit.name, define_rate_limit.scope, define_rate_limit.channel, define_rate_limit.category,
				v_new.type_id, v_new.campaign_id, v_new.provider_id, define_rate_limit.max_count, define_rate_limit.per,
				coalesce(define_rate_limit.action, CASE define_rate_limit.scope WHEN 'recipient' THEN 'drop' ELSE 'defer' END));
		PERFORM notif_private.compile_limits();
	ELSE
		UPDATE notif_private.rate_limit l
		   SET max_count = define_rate_limit.max_count, per = define_rate_limit.per,
			   action = coalesce(define_rate_limit.action, CASE define_rate_limit.scope WHEN 'recipient' THEN 'drop' ELSE 'defer' END)
		 WHERE l.id = v_old.id;
		-- what was leased is dated by the old window: it is forfeited
		DELETE FROM notif_private.rate_lease x WHERE x.limit_id = v_old.id;
		INSERT INTO notif_private.rate_total (limit_id, seq, state)
		SELECT x.limit_id, x.seq + 1, x.state FROM notif_private.rate_total x WHERE x.limit_id = v_old.id ORDER BY x.seq DESC LIMIT 1;
	END IF;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_rate_limit(text, integer, interval, text, text, text, text, text, text, text) IS
$$Defines or redefines a rate limit: no interval of the length per holds more than max_count messages. There may be 64; a message must pass all that apply to it, or is charged to none. Types whose category has rate_limited => false are exempt.
name: 1 to 63 of a-z, 0-9, _ . and -; outcomes name it. max_count: 1 to 100000, for shared limits to 1000000000. per: 1 second to 31 days.
action: what happens above the limit: 'drop' (suppressed), 'defer' (sent when the limit allows; suppressed if that is after its expiry), or 'fold' (merged into the recipient's digest). If several limits stop a message, one that drops it decides, else one that folds it. Default 'drop', of shared limits 'defer'.
scope: 'recipient' for a limit of each recipient, on all that he is sent or on what channel, category and type name, alone or together. 'type', 'campaign' and 'provider' for a limit that all recipients share, on the type, campaign or provider named.
What the critical tier sends counts apart: a limit per recipient holds there for itself, and for the standard and the bulk tier together, so that a one-time code never waits for a lock of theirs. A limit with a type is exact in any case, because a type has one tier; shared limits count all tiers together.
A message counts from the moment it is taken to be sent, once, however often it is tried. Redefining keeps what was counted, unless what it applies to changes.
Errors: 22023 bad value, 42704 unknown category, type, campaign or provider, 54000 there are 64.
Example: SELECT notif.define_rate_limit('push.minute', 5, '1 minute', 'defer', channel => 'push'), notif.define_rate_limit('marketing.day', 1, '1 day', category => 'marketing'), notif.define_rate_limit('sms.total', 10000, '1 day', scope => 'provider', provider => 'twilio');$$;

CREATE FUNCTION notif_private.forget_limit(id integer) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM notif_private.rate_limit l WHERE l.id = forget_limit.id;
	DELETE FROM notif_private.rate_lease x WHERE x.limit_id = forget_limit.id;
	DELETE FROM notif_private.rate_total x WHERE x.limit_id = forget_limit.id;
END
$$;
COMMENT ON FUNCTION notif_private.forget_limit(integer) IS
	'Removes a limit and what is counted for all recipients; what is counted for each leaves his row at his next charge.';

CREATE FUNCTION notif.drop_rate_limit(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	v_id	integer;
BEGIN
	PERFORM notif_private.lock_limits();
	SELECT l.id INTO v_id FROM notif_private.rate_limit l WHERE l.name = drop_rate_limit.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('rate limit %s does not exist', coalesce(quote_literal(drop_rate_limit.name), 'NULL')),
			DETAIL = 'No rate limit of that name is defined.',
			HINT = 'notif.rate_limits lists them.';
	END IF;
	PERFORM notif_private.forget_limit(v_id);
	PERFORM notif_private.compile_limits();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_rate_limit(text) IS
$$Drops a rate limit. What it has deferred keeps its time.
Errors: 42704 unknown rate limit.
Example: SELECT notif.drop_rate_limit('hourly');$$;
