-- What an installation is told once: categories, types, secrets, providers
-- and routes.
--
-- Every define_* inserts or replaces a whole definition: an argument that is
-- not given takes its default, also when the thing existed before.  Backends
-- and workers cache definitions; config_changed() makes them look again after
-- the commit.

-- ---- what the functions below and the other API modules share ---------------

CREATE FUNCTION notif_private.check_name(what text, name text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF check_name.name IS NULL OR check_name.name !~ '^[a-z0-9_.-]{1,63}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid name of a %s: %s', what, coalesce(quote_ident(left(check_name.name, 80)), 'NULL')),
			DETAIL = 'A name has 1 to 63 characters of a-z, 0-9, "_", "." and "-".',
			HINT = format('Choose another name for the %s.', what);
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_name(text, text) IS
	'Raises 22023 unless name has the form of a name of configuration.';

CREATE FUNCTION notif_private.tier_number(name text) RETURNS smallint
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place integer := array_position(ARRAY['critical', 'standard', 'bulk'], tier_number.name);
BEGIN
	IF place IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid tier: %s', coalesce(quote_literal(left(tier_number.name, 80)), 'NULL')),
			DETAIL = 'A tier is a queue with workers of its own.',
			HINT = 'Use ''critical'', ''standard'' or ''bulk''.';
	END IF;
	RETURN place - 1;
END
$$;
COMMENT ON FUNCTION notif_private.tier_number(text) IS
	'The number of a tier in rows: critical 0, standard 1, bulk 2. 22023 for any other name.';

CREATE FUNCTION notif_private.kind_channel(kind text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE kind_channel.kind WHEN 'apns' THEN 'push' END;
END
$$;
COMMENT ON FUNCTION notif_private.kind_channel(text) IS
	'The channel that a kind of provider carries; NULL for an unknown kind.';

-- ---- categories -------------------------------------------------------------

CREATE FUNCTION notif.define_category(
	name text, on_unknown text DEFAULT 'retry', max_attempts integer DEFAULT 8,
	retry_base interval DEFAULT '2 s', retry_cap interval DEFAULT '15 min',
	rate_limited boolean DEFAULT true, retention text DEFAULT 'standard',
	description text DEFAULT NULL, default_enabled boolean DEFAULT true, mandatory boolean DEFAULT false,
	quiet_hours text DEFAULT NULL, requires_consent text[] DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM notif_private.check_name('category', define_category.name);
	LOCK TABLE notif_private.region_rule IN SHARE ROW EXCLUSIVE MODE;
	IF define_category.on_unknown IS NULL OR define_category.on_unknown NOT IN ('retry', 'hold') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid on_unknown: %s', coalesce(quote_literal(define_category.on_unknown), 'NULL')),
			DETAIL = 'on_unknown says what happens to a delivery of which nobody knows whether the provider took it.',
			HINT = 'Use ''retry'' (may arrive twice, never lost) or ''hold'' (never twice; a person decides).';
	END IF;
	IF define_category.max_attempts IS NULL OR define_category.max_attempts NOT BETWEEN 1 AND 100 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('max_attempts is out of range: %s', coalesce(define_category.max_attempts::text, 'NULL')),
			DETAIL = 'A delivery is tried at least once and at most 100 times.',
			HINT = 'Use a number from 1 to 100.';
	END IF;
	IF define_category.retry_base IS NULL OR define_category.retry_cap IS NULL
		OR define_category.retry_base < interval '100 ms' OR define_category.retry_cap > interval '1 day'
		OR define_category.retry_cap < define_category.retry_base THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('retry_base %s and retry_cap %s do not make a schedule of retries',
				coalesce(define_category.retry_base::text, 'NULL'), coalesce(define_category.retry_cap::text, 'NULL')),
			DETAIL = 'The n-th retry waits a random time up to retry_base * 2^(n-1), at most retry_cap.',
			HINT = 'Use 100 ms <= retry_base <= retry_cap <= 1 day.';
	END IF;
	IF define_category.rate_limited IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'rate_limited must not be NULL',
			DETAIL = 'rate_limited says whether rate limits apply to the category.',
			HINT = 'Use true or false.';
	END IF;
	IF define_category.retention IS NULL OR define_category.retention NOT IN ('standard', 'long') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid retention: %s', coalesce(quote_literal(define_category.retention), 'NULL')),
			DETAIL = 'retention says how long the outcomes of the category are kept.',
			HINT = 'Use ''standard'' or ''long''.';
	END IF;
	IF define_category.default_enabled IS NULL OR define_category.mandatory IS NULL
		OR (define_category.mandatory AND NOT define_category.default_enabled) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN define_category.mandatory THEN format('category %L is mandatory and cannot be off by default', define_category.name)
						   ELSE 'default_enabled and mandatory must not be NULL' END,
			DETAIL = 'default_enabled is for people without a preference; a mandatory category reaches everybody.',
			HINT = 'Use mandatory => true, or default_enabled => false, but not both.';
	END IF;
	IF define_category.quiet_hours NOT IN ('respect', 'bypass') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid quiet_hours: %L', left(define_category.quiet_hours, 80)),
			DETAIL = 'quiet_hours says whether what is in the category waits for the end of quiet hours.',
			HINT = 'Use ''respect'' or ''bypass''.';
	END IF;
	PERFORM notif_private.consent_channel(c) FROM unnest(define_category.requires_consent) c;
	IF define_category.mandatory AND cardinality(define_category.requires_consent) > 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('category %L is mandatory and cannot ask for consent', define_category.name),
			DETAIL = 'A mandatory category reaches everybody, whatever they have agreed to.',
			HINT = 'Use mandatory => true or requires_consent => ''{...}'', but not both.';
	END IF;

	PERFORM notif_private.lock_limits();
	INSERT INTO notif_private.category AS c
		(name, on_unknown, max_attempts, retry_base, retry_cap, rate_limited, retention, description,
		 default_enabled, mandatory, quiet_hours, requires_consent, number)
	VALUES (define_category.name, define_category.on_unknown, define_category.max_attempts,
			define_category.retry_base, define_category.retry_cap, define_category.rate_limited,
			define_category.retention, define_category.description, define_category.default_enabled,
			define_category.mandatory,
			-- what reaches everybody is not for the morning
			coalesce(define_category.quiet_hours, CASE WHEN define_category.mandatory THEN 'bypass' ELSE 'respect' END),
			ARRAY(SELECT DISTINCT x FROM unnest(define_category.requires_consent) x ORDER BY x),
			-- a redefinition uses up none: profiles are as long as the largest number
			coalesce((SELECT o.number FROM notif_private.category o WHERE o.name = define_category.name),
					 nextval('notif_private.category_number')))
	ON CONFLICT ON CONSTRAINT category_pkey DO UPDATE
		SET on_unknown = EXCLUDED.on_unknown, max_attempts = EXCLUDED.max_attempts,
			retry_base = EXCLUDED.retry_base, retry_cap = EXCLUDED.retry_cap,
			rate_limited = EXCLUDED.rate_limited, retention = EXCLUDED.retention,
			description = EXCLUDED.description, default_enabled = EXCLUDED.default_enabled,
			mandatory = EXCLUDED.mandatory, quiet_hours = EXCLUDED.quiet_hours,
			requires_consent = EXCLUDED.requires_consent;
	PERFORM notif_private.compile_limits();
	PERFORM notif_private.compile_consent_needs();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_category(text, text, integer, interval, interval, boolean, text, text, boolean, boolean, text, text[]) IS
$$Defines or redefines a category: what types of notification have in common.
name: 1 to 63 of a-z, 0-9, _ . and -. description: for people.
on_unknown: what to do when nobody knows whether the provider took a message: 'retry' (may arrive twice) or 'hold' (a person decides with notif.redeliver).
max_attempts: 1 to 100. retry_base, retry_cap: retries wait a random time up to retry_base * 2^(n-1), at most retry_cap (100 ms to 1 day).
rate_limited: whether notif.define_rate_limit's limits apply; what is exempt neither waits for a limit nor counts for it. retention: 'standard' or 'long'.
default_enabled: whether people without a preference are told about it, see notif.set_preference. mandatory: nobody can switch it off, and mutes do not hold for it.
quiet_hours: 'respect' (it waits for their end, see notif.set_quiet_hours and notif.define_quiet_period) or 'bypass'; the default is 'bypass' for a mandatory category, else 'respect'.
requires_consent: channels over which it is sent only to people who have agreed to it, see notif.record_consent and notif.define_region_rule; NULL: none. Not for a mandatory category.
Errors: 22023 bad value.
Example: SELECT notif.define_category('security', on_unknown => 'retry', rate_limited => false);$$;

CREATE FUNCTION notif.drop_category(name text)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	users	text;
	gone	integer;
BEGIN
	LOCK TABLE notif_private.region_rule IN SHARE ROW EXCLUSIVE MODE;
	SELECT c.number INTO gone FROM notif_private.category c WHERE c.name = drop_category.name FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('category %s does not exist', coalesce(quote_literal(drop_category.name), 'NULL')),
			DETAIL = 'No category of that name is defined.',
			HINT = 'notif.categories lists them.';
	END IF;
	SELECT string_agg(quote_literal(t.name), ', ' ORDER BY t.name) INTO users
	FROM (SELECT t.name FROM notif_private.type t WHERE t.category = drop_category.name ORDER BY t.name LIMIT 5) t;
	IF users IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '2BP01',
			MESSAGE = format('category %L is in use', drop_category.name),
			DETAIL = format('Types of this category: %s.', users),
			HINT = 'Give these types another category with notif.define_type first.';
	END IF;
	SELECT string_agg(quote_literal(l.name), ', ' ORDER BY l.name) INTO users
	FROM notif_private.rate_limit l WHERE l.category = drop_category.name;
	IF users IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '2BP01',
			MESSAGE = format('category %L is in use', drop_category.name),
			DETAIL = format('Rate limits of this category: %s.', users),
			HINT = 'Drop these limits with notif.drop_rate_limit first.';
	END IF;
	-- Preferences for it go as well; in one order for all, as locks are taken.
	PERFORM notif_private.forget_category(x.recipient_id, gone)
	   FROM (SELECT DISTINCT p.recipient_id FROM notif_private.preference p WHERE p.category = gone ORDER BY p.recipient_id) x;
	UPDATE notif_private.region_rule r SET categories = array_remove(r.categories, gone) WHERE gone = ANY (r.categories);
	DELETE FROM notif_private.region_rule r WHERE r.categories = '{}';
	DELETE FROM notif_private.category c WHERE c.name = drop_category.name;
	PERFORM notif_private.compile_consent_needs();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_category(text) IS
$$Drops a category that no type and no rate limit uses, people's preferences for it, and region rules about it alone. The log of consent keeps what was said about it.
Errors: 42704 unknown category, 2BP01 types or rate limits use it.
Example: SELECT notif.drop_category('social');$$;

-- ---- types ------------------------------------------------------------------

-- notif.define_type, which notes its caller: a condition is asked with his rights.
CREATE FUNCTION notif_private.define_type(
	name text, category text, tier text, title text, body text, channels text[], push jsonb, ttl interval,
	enabled boolean, ordered boolean, dedup_window interval, send_if text, send_if_by name)
	RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	tier_no	smallint;
	other	text;
BEGIN
	IF define_type.name IS NULL OR define_type.name !~ '^[A-Za-z0-9_.:-]{1,100}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid name of a type: %s', coalesce(quote_literal(left(define_type.name, 110)), 'NULL')),
			DETAIL = 'A type''s name has 1 to 100 characters of A-Z, a-z, 0-9, "_", ".", ":" and "-".',
			HINT = 'Name it after the fact, like ''order.shipped''.';
	END IF;
	tier_no := notif_private.tier_number(define_type.tier);
	PERFORM notif_private.lock_limits();
	-- the row stays while we refer to it
	-- before the type: a category that is redefined writes its types
	PERFORM FROM notif_private.category c WHERE c.name = define_type.category FOR SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('category %s does not exist', coalesce(quote_literal(define_type.category), 'NULL')),
			DETAIL = format('It is named as the category of type %L.', define_type.name),
			HINT = 'Create it with notif.define_category; notif.categories lists those that exist.';
	END IF;
	IF define_type.channels IS NULL OR cardinality(define_type.channels) = 0
		OR array_position(define_type.channels, NULL) IS NOT NULL OR array_ndims(define_type.channels) <> 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L has no channel', define_type.name),
			DETAIL = 'channels is a list of at least one channel.',
			HINT = 'Use ''{push,inbox}'', ''{push}'' or ''{inbox}''.';
	END IF;
	SELECT c INTO other FROM unnest(define_type.channels) c WHERE c NOT IN ('push', 'inbox') LIMIT 1;
	IF other IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN other IN ('webpush', 'email', 'sms', 'voice', 'chat', 'webhook') THEN '0A000' ELSE '22023' END,
			MESSAGE = format('channel %L is not supported', left(other, 80)),
			DETAIL = 'This version delivers over the channels push and inbox.',
			HINT = 'Use ''{push,inbox}'', ''{push}'' or ''{inbox}''.';
	END IF;
	IF (SELECT count(DISTINCT c) FROM unnest(define_type.channels) c) <> cardinality(define_type.channels) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('type %L names a channel twice', define_type.name),
			DETAIL = format('channels is %L.', define_type.channels),
			HINT = 'Name each channel once.';
	END IF;
	IF define_type.title IS NULL OR define_type.body IS NULL OR define_type.enabled IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'title, body and enabled must not be NULL',
			DETAIL = format('They describe type %L.', define_type.name),
			HINT = 'Use an empty string for a type without a title or body.';
	END IF;
	IF define_type.push IS NULL OR jsonb_typeof(define_type.push) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('push is not a JSON object: %s', coalesce(jsonb_typeof(define_type.push), 'NULL')),
			DETAIL = format('It holds the push options of type %L.', define_type.name),
			HINT = 'Use ''{}'' for none.';
	END IF;
	IF define_type.ttl IS NULL OR define_type.ttl < interval '1 second' OR define_type.ttl > interval '28 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('ttl is out of range: %s', coalesce(define_type.ttl::text, 'NULL')),
			DETAIL = 'An event that could not be delivered within its ttl expires.',
			HINT = 'Use an interval from 1 second to 28 days.';
	END IF;
	IF define_type.dedup_window < interval '1 second' OR define_type.dedup_window > interval '31 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('dedup_window is out of range: %s', define_type.dedup_window),
			DETAIL = 'Within it a recipient is told once of events of one type and one source.',
			HINT = 'Use an interval from 1 second to 31 days, or NULL for none.';
	END IF;
	IF 'push' = ANY (define_type.channels) THEN
		PERFORM notif_private.check_type('apns', define_type.title, define_type.body, define_type.push);
	END IF;

	INSERT INTO notif_private.type AS t
		(name, category, tier, channels, title, body, push, ttl, enabled, ordered, dedup_window, changed_at, send_if, send_if_by)
	VALUES (define_type.name, define_type.category, tier_no, define_type.channels, define_type.title,
			define_type.body, define_type.push, define_type.ttl, define_type.enabled,
			-- a code that waits for its retry must not hold up the next one
			coalesce(define_type.ordered, define_type.tier <> 'critical'), define_type.dedup_window, notif.now(),
			define_type.send_if, CASE WHEN define_type.send_if IS NOT NULL THEN define_type.send_if_by END)
	ON CONFLICT ON CONSTRAINT type_name_key DO UPDATE
		SET category = EXCLUDED.category, tier = EXCLUDED.tier, channels = EXCLUDED.channels,
			title = EXCLUDED.title, body = EXCLUDED.body, push = EXCLUDED.push, ttl = EXCLUDED.ttl,
			enabled = EXCLUDED.enabled, ordered = EXCLUDED.ordered, dedup_window = EXCLUDED.dedup_window,
			changed_at = EXCLUDED.changed_at,
			send_if = EXCLUDED.send_if, send_if_by = EXCLUDED.send_if_by;
	PERFORM notif_private.compile_limits();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif_private.define_type(text, text, text, text, text, text[], jsonb, interval, boolean, boolean, interval, text, name) IS
	'What notif.define_type does with the rights of the owner; send_if has been checked, send_if_by is the role that asked.';

CREATE FUNCTION notif.define_type(
	name text, category text, tier text DEFAULT 'standard', title text DEFAULT '', body text DEFAULT '',
	channels text[] DEFAULT '{push,inbox}', push jsonb DEFAULT '{}', ttl interval DEFAULT '1 day',
	enabled boolean DEFAULT true, ordered boolean DEFAULT NULL, dedup_window interval DEFAULT NULL,
	send_if text DEFAULT NULL)
	RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'notif_define_type';
COMMENT ON FUNCTION notif.define_type(text, text, text, text, text, text[], jsonb, interval, boolean, boolean, interval, text) IS
$$Defines or redefines a type of event: what publish names.
tier: 'critical' (one-time codes, alarms), 'standard' or 'bulk' (campaigns); each has queues and workers of its own.
title, body: templates; {name}, {a.b} and, of arrays, {a.0.b} read the event's data, {recipient.ref}, {recipient.locale} and {recipient.x} the recipient, {notif.event}, {notif.type} and {notif.timestamp} the event.
channels: 'push' and 'inbox'. push: options of the push message, see docs/reference.md.
ttl: from 1 second to 28 days; what is not delivered by then expires. enabled: false refuses publishing, see notif.disable_type.
ordered: true lets an endpoint have one message of its tier in the air at a time, in the order of publishing, also behind one that waits for its retry; false lets each go when it can. Default true, in the critical tier false.
dedup_window: 1 second to 31 days; a recipient is told of the first event of a source (notif.publish(source => ...); events without one count as one source), and of the next one that was published at least so much later. What comes in between is neither pushed nor put into the inbox: its outcome is suppressed, 'duplicate'. What was cancelled does not count. NULL: every event counts.
send_if: a condition that is asked before each sending, see notif.publish; it holds for all events of the type, is asked with the rights of the role that calls this, and their own must hold as well.
Errors: 22023 bad value or template, 42704 unknown category, 0A000 channel not supported; 42601, 42703, 42804, 42501 … send_if is not one boolean expression that this role may ask.
Example: SELECT notif.define_type('order.shipped', 'transactional', title => 'On its way', body => 'Order {order} has been shipped');$$;

CREATE FUNCTION notif_private.set_type_enabled(name text, enabled boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	UPDATE notif_private.type t SET enabled = set_type_enabled.enabled, changed_at = notif.now()
	WHERE t.name = set_type_enabled.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('type %s does not exist', coalesce(quote_literal(set_type_enabled.name), 'NULL')),
			DETAIL = 'No type of that name is defined.',
			HINT = 'notif.types lists them.';
	END IF;
	PERFORM notif_private.config_changed();
	IF NOT set_type_enabled.enabled THEN
		PERFORM notif_private.hold_unsent_of('type', (SELECT t.id FROM notif_private.type t WHERE t.name = set_type_enabled.name));
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.set_type_enabled(text, boolean) IS
	'Switches a type on or off. 42704 for an unknown type.';

CREATE FUNCTION notif.disable_type(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif_private.set_type_enabled(disable_type.name, false);
END
$$;
COMMENT ON FUNCTION notif.disable_type(text) IS
$$Switches a type off: publishing it is refused, and what waits of it is suppressed at its claim. notif.pause keeps it instead. Types are not dropped, because events and outcomes of the past name them.
Errors: 42704 unknown type.
Example: SELECT notif.disable_type('order.shipped');$$;

CREATE FUNCTION notif.enable_type(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif_private.set_type_enabled(enable_type.name, true);
END
$$;
COMMENT ON FUNCTION notif.enable_type(text) IS
$$Switches a type on again.
Errors: 42704 unknown type.
Example: SELECT notif.enable_type('order.shipped');$$;

-- ---- secrets ----------------------------------------------------------------

CREATE FUNCTION notif_private.forget_tokens(provider_ids integer[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- A token minted from the old key is worthless, and endpoints that the old
	-- settings made doubtful (a wrong environment rejects every token) get
	-- another chance.
	DELETE FROM notif_private.provider_token t WHERE t.provider_id = ANY (provider_ids);
	WITH doubted AS (
		SELECT e.id
		FROM notif_private.provider p
		JOIN notif_private.route r ON p.name = ANY (r.providers)
		JOIN notif_private.app a ON a.route_id = r.id
		JOIN notif_private.endpoint e ON e.app_id = a.id
		WHERE p.id = ANY (provider_ids) AND e.state = 'quarantined'
		ORDER BY e.id
		FOR UPDATE OF e)
	UPDATE notif_private.endpoint e
	SET state = 'active', state_reason = 'provider redefined', state_at = notif.now(), quarantine_mark = NULL
	FROM doubted d
	WHERE e.id = d.id AND e.state = 'quarantined';
END
$$;
COMMENT ON FUNCTION notif_private.forget_tokens(integer[]) IS
	'After a change of credentials or settings: drops the providers'' bearer tokens and lets quarantined endpoints of their routes be tried again.';

CREATE FUNCTION notif.set_secret(name text, value text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	users integer[];
BEGIN
	PERFORM notif_private.check_name('secret', set_secret.name);
	IF coalesce(set_secret.value, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('secret %L has no value', set_secret.name),
			DETAIL = 'A secret holds the text of a key or certificate in PEM form.',
			HINT = 'Use notif.drop_secret to remove one.';
	END IF;
	IF octet_length(set_secret.value) > 65536 THEN
		RAISE EXCEPTION USING ERRCODE = '54000',
			MESSAGE = format('the value of secret %L is too large', set_secret.name),
			DETAIL = format('It has %s bytes; at most 65536 are kept.', octet_length(set_secret.value)),
			HINT = 'Store the PEM text of one key or certificate chain.';
	END IF;
	INSERT INTO notif_private.secret AS s (name, value, changed_at)
	VALUES (set_secret.name, set_secret.value, notif.now())
	ON CONFLICT ON CONSTRAINT secret_pkey DO UPDATE
		SET value = EXCLUDED.value, changed_at = EXCLUDED.changed_at WHERE s.value <> EXCLUDED.value;
	IF FOUND THEN
		SELECT array_agg(p.id) INTO users FROM notif_private.provider p
		WHERE 'secret:' || set_secret.name IN (p.key_ref, p.cert_ref);
		PERFORM notif_private.forget_tokens(users);
		PERFORM notif_private.mend_breakers(users, true);
		PERFORM notif_private.config_changed();
	END IF;
END
$$;
COMMENT ON FUNCTION notif.set_secret(text, text) IS
$$Stores or replaces a secret, such as a signing key in PEM form, for notif.define_provider to refer to as 'secret:name'. No function or view shows it again and no dump contains it: set it again after a restore. notif never logs the value; the server does if it logs statements or parameters (log_statement, log_min_duration_statement), so prefer a file reference there.
Errors: 22023 bad name or empty value, 54000 over 64 kB.
Example: SELECT notif.set_secret('apns-key', :'pem');$$;

CREATE FUNCTION notif.drop_secret(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	users text;
BEGIN
	PERFORM FROM notif_private.secret s WHERE s.name = drop_secret.name FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('secret %s does not exist', coalesce(quote_literal(drop_secret.name), 'NULL')),
			DETAIL = 'No secret of that name is stored.',
			HINT = 'Secrets are not part of a dump: set them again after a restore.';
	END IF;
	SELECT string_agg(quote_literal(p.name), ', ' ORDER BY p.name) INTO users
	FROM notif_private.provider p WHERE 'secret:' || drop_secret.name IN (p.key_ref, p.cert_ref);
	IF users IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '2BP01',
			MESSAGE = format('secret %L is in use', drop_secret.name),
			DETAIL = format('Providers that refer to it: %s.', users),
			HINT = 'Redefine these providers with notif.define_provider first.';
	END IF;
	DELETE FROM notif_private.secret s WHERE s.name = drop_secret.name;
END
$$;
COMMENT ON FUNCTION notif.drop_secret(text) IS
$$Removes a secret that no provider refers to.
Errors: 42704 unknown secret, 2BP01 a provider refers to it.
Example: SELECT notif.drop_secret('apns-key');$$;

-- ---- providers --------------------------------------------------------------

CREATE FUNCTION notif_private.check_reference(what text, reference text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF reference IS NULL OR reference ~ '^file:/[^[:cntrl:]]+$' THEN
		RETURN;
	END IF;
	IF reference !~ '^secret:[a-z0-9_.-]{1,63}$' THEN
		-- Not shown: somebody may have passed the key itself.
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('%s is not a reference', what),
			DETAIL = 'Keys and certificates are given by reference, never by value.',
			HINT = 'Use ''file:/absolute/path'' of a file that the server can read, or ''secret:name'' after notif.set_secret.';
	END IF;
	PERFORM FROM notif_private.secret s WHERE s.name = substr(reference, 8) FOR KEY SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('secret %L does not exist', substr(reference, 8)),
			DETAIL = format('%s refers to it.', what),
			HINT = 'Store it with notif.set_secret first.';
	END IF;
END
$$;
COMMENT ON FUNCTION notif_private.check_reference(text, text) IS
	'Raises 22023 unless reference is NULL, ''file:/path'' or ''secret:name'', 42704 unless the secret exists.';

CREATE FUNCTION notif.define_provider(
	name text, kind text DEFAULT 'apns', settings jsonb DEFAULT '{}', key text DEFAULT NULL, certificate text DEFAULT NULL,
	rate numeric DEFAULT NULL, burst integer DEFAULT NULL, max_in_flight integer DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	old		notif_private.provider;
	id		integer;
	changed	boolean;
BEGIN
	PERFORM notif_private.check_name('provider', define_provider.name);
	IF notif_private.kind_channel(define_provider.kind) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('unknown kind of provider: %s', coalesce(quote_literal(left(define_provider.kind, 80)), 'NULL')),
			DETAIL = 'This version speaks to Apple''s push service.',
			HINT = 'Use ''apns''.';
	END IF;
	IF define_provider.settings IS NULL OR jsonb_typeof(define_provider.settings) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('settings is not a JSON object: %s', coalesce(jsonb_typeof(define_provider.settings), 'NULL')),
			DETAIL = format('It holds the settings of provider %L.', define_provider.name),
			HINT = 'See docs/reference.md for the settings of each kind.';
	END IF;
	PERFORM notif_private.check_reference('key', define_provider.key);
	PERFORM notif_private.check_reference('certificate', define_provider.certificate);
	PERFORM notif_private.check_provider(define_provider.kind, define_provider.settings,
		define_provider.key IS NOT NULL, define_provider.certificate IS NOT NULL);

	-- NaN is greater than any number
	IF define_provider.rate NOT BETWEEN 0.1 AND 1000000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('rate is out of range: %s', define_provider.rate),
			DETAIL = format('It says how many requests provider %L gets per second.', define_provider.name),
			HINT = 'Use a number from 0.1 to 1000000, or NULL for any number.';
	END IF;
	IF define_provider.burst NOT BETWEEN 1 AND 1000000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('burst is out of range: %s', define_provider.burst),
			DETAIL = format('It says how many requests provider %L may get at once.', define_provider.name),
			HINT = 'Use a number from 1 to 1000000, or NULL for those of one second.';
	END IF;
	IF define_provider.burst IS NOT NULL AND define_provider.rate IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'burst without a rate',
			DETAIL = 'A burst is how far the rate may be exceeded for a moment.',
			HINT = 'Pass rate, too, or max_in_flight to limit what is on the wire at a time.';
	END IF;
	IF define_provider.max_in_flight NOT BETWEEN 1 AND 50000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('max_in_flight is out of range: %s', define_provider.max_in_flight),
			DETAIL = format('It says how many requests provider %L may have before it has answered them.', define_provider.name),
			HINT = 'Use a number from 1 to 50000, or NULL for any number.';
	END IF;

	SELECT * INTO old FROM notif_private.provider p WHERE p.name = define_provider.name FOR UPDATE;
	IF old.id IS NOT NULL AND notif_private.kind_channel(old.kind) IS DISTINCT FROM notif_private.kind_channel(define_provider.kind) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('provider %L cannot change its channel', define_provider.name),
			DETAIL = format('It is of kind %L.', old.kind),
			HINT = 'Define a provider of another name.';
	END IF;
	INSERT INTO notif_private.provider AS p (name, kind, settings, key_ref, cert_ref, rate, burst, max_in_flight, changed_at)
	VALUES (define_provider.name, define_provider.kind, define_provider.settings,
			define_provider.key, define_provider.certificate, define_provider.rate, define_provider.burst,
			define_provider.max_in_flight, notif.now())
	ON CONFLICT ON CONSTRAINT provider_name_key DO UPDATE
		SET kind = EXCLUDED.kind, settings = EXCLUDED.settings, key_ref = EXCLUDED.key_ref,
			cert_ref = EXCLUDED.cert_ref, rate = EXCLUDED.rate, burst = EXCLUDED.burst,
			max_in_flight = EXCLUDED.max_in_flight, changed_at = EXCLUDED.changed_at
	RETURNING p.id INTO id;
	changed := (old.kind, old.settings, old.key_ref, old.cert_ref) IS DISTINCT FROM
		(define_provider.kind, define_provider.settings, define_provider.key, define_provider.certificate);
	IF changed THEN
		PERFORM notif_private.forget_tokens(ARRAY[id]);
	END IF;
	-- A key file may have been mended without a change here.
	PERFORM notif_private.mend_breakers(ARRAY[id], changed);
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_provider(text, text, jsonb, text, text, numeric, integer, integer) IS
$$Defines or redefines a provider account.
kind: 'apns'. settings: an object, see docs/reference.md. key, certificate: references 'file:/absolute/path' (a file that only the server's user can read) or 'secret:name'; a key alone means token authentication, a certificate with its key certificate authentication.
rate: requests per second, 0.1 to 1000000. burst: how many of them at once, 1 to 1000000; those of one second unless given. max_in_flight: requests without an answer yet, 1 to 50000. All tiers together keep to them, critical first; NULL is no limit.
Changing kind, settings, key or certificate makes a new bearer token, gives endpoints that were quarantined under the old settings another chance, and closes the provider's breakers, unless somebody opened them by hand. Repeating the same definition closes those that refused credentials have opened.
Errors: 22023 bad value, 42704 unknown secret.
Example: SELECT notif.define_provider('apple', 'apns', '{"team_id": "ABCDE12345", "key_id": "ABC123DEFG", "topic": "com.example.shop"}', key => 'file:/etc/notif/apns.p8');$$;

CREATE FUNCTION notif_private.set_provider_enabled(name text, enabled boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	UPDATE notif_private.provider p SET enabled = set_provider_enabled.enabled, changed_at = notif.now()
	WHERE p.name = set_provider_enabled.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('provider %s does not exist', coalesce(quote_literal(set_provider_enabled.name), 'NULL')),
			DETAIL = 'No provider of that name is defined.',
			HINT = 'notif.providers lists them.';
	END IF;
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif_private.set_provider_enabled(text, boolean) IS
	'Switches a provider on or off. 42704 for an unknown provider.';

CREATE FUNCTION notif.disable_provider(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif_private.set_provider_enabled(disable_provider.name, false);
END
$$;
COMMENT ON FUNCTION notif.disable_provider(text) IS
$$Takes a provider out of its routes until notif.enable_provider. To stop for a while and keep what waits in its place, use notif.pause('provider', name).
Errors: 42704 unknown provider.
Example: SELECT notif.disable_provider('apple');$$;

CREATE FUNCTION notif.enable_provider(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif_private.set_provider_enabled(enable_provider.name, true);
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
END
$$;
COMMENT ON FUNCTION notif.enable_provider(text) IS
$$Puts a provider back into its routes.
Errors: 42704 unknown provider.
Example: SELECT notif.enable_provider('apple');$$;

-- ---- routes -----------------------------------------------------------------

CREATE FUNCTION notif_private.route_for(channel text, platform text, app text) RETURNS integer
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	-- The most specific route wins: app before platform before any.
	RETURN (SELECT r.id FROM notif_private.route r
			WHERE r.channel = route_for.channel
			  AND (r.platform IS NULL OR r.platform = route_for.platform)
			  AND (r.app IS NULL OR r.app = route_for.app)
			ORDER BY r.app IS NULL, r.platform IS NULL
			LIMIT 1);
END
$$;
COMMENT ON FUNCTION notif_private.route_for(text, text, text) IS
	'The route that an application on a platform takes: that of app and platform, else of the app, else of the platform, else of the channel; NULL if there is none.';

CREATE FUNCTION notif.define_route(
	name text, channel text DEFAULT 'push', providers text[] DEFAULT NULL, platform text DEFAULT NULL, app text DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	odd		text;
	kind	text;
	other	text;
BEGIN
	PERFORM notif_private.check_name('route', define_route.name);
	IF define_route.channel IS DISTINCT FROM 'push' THEN
		RAISE EXCEPTION USING
			ERRCODE = CASE WHEN define_route.channel IN ('webpush', 'email', 'sms', 'voice', 'chat', 'webhook') THEN '0A000' ELSE '22023' END,
			MESSAGE = format('channel %s has no routes', coalesce(quote_literal(left(define_route.channel, 80)), 'NULL')),
			DETAIL = 'This version routes the channel push; the inbox needs no route.',
			HINT = 'Use ''push''.';
	END IF;
	IF define_route.providers IS NULL OR cardinality(define_route.providers) = 0
		OR array_ndims(define_route.providers) <> 1 OR array_position(define_route.providers, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('route %L has no provider', define_route.name),
			DETAIL = 'A route is an ordered list of providers of one channel.',
			HINT = 'Name at least one provider; notif.providers lists them.';
	END IF;
	IF define_route.platform = '' OR define_route.app = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'platform and app must not be empty strings',
			DETAIL = 'NULL stands for any platform or application.',
			HINT = 'Leave the argument out.';
	END IF;
	-- Applications get their route when they are first seen: none may appear
	-- between our look at the routes and our commit, nor another route.
	LOCK TABLE notif_private.route IN SHARE ROW EXCLUSIVE MODE;

	SELECT n, p.kind INTO odd, kind
	FROM unnest(define_route.providers) n
	LEFT JOIN notif_private.provider p ON p.name = n
	WHERE p.id IS NULL OR notif_private.kind_channel(p.kind) IS DISTINCT FROM define_route.channel
	LIMIT 1;
	IF FOUND THEN
		IF kind IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = '42704',
				MESSAGE = format('provider %L does not exist', left(odd, 80)),
				DETAIL = format('It is named in route %L.', define_route.name),
				HINT = 'Create it with notif.define_provider; notif.providers lists those that exist.';
		END IF;
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('provider %L does not carry channel %L', odd, define_route.channel),
			DETAIL = format('It is of kind %L.', kind),
			HINT = 'Name providers of the channel only.';
	END IF;
	SELECT n INTO odd FROM unnest(define_route.providers) n GROUP BY n HAVING count(*) > 1 LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('route %L names provider %L twice', define_route.name, odd),
			DETAIL = 'A route is an ordered list of different providers.',
			HINT = 'Name each provider once.';
	END IF;
	SELECT r.name INTO other FROM notif_private.route r
	WHERE r.name <> define_route.name AND r.channel = define_route.channel
	  AND r.platform IS NOT DISTINCT FROM define_route.platform AND r.app IS NOT DISTINCT FROM define_route.app;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42710',
			MESSAGE = format('route %L already serves that channel, platform and application', other),
			DETAIL = format('Channel %L, platform %s, application %s.', define_route.channel,
				coalesce(quote_literal(define_route.platform), 'any'), coalesce(quote_literal(define_route.app), 'any')),
			HINT = format('Redefine route %L instead.', other);
	END IF;

	INSERT INTO notif_private.route AS r (name, channel, platform, app, providers)
	VALUES (define_route.name, define_route.channel, define_route.platform, define_route.app, define_route.providers)
	ON CONFLICT ON CONSTRAINT route_name_key DO UPDATE
		SET channel = EXCLUDED.channel, platform = EXCLUDED.platform, app = EXCLUDED.app, providers = EXCLUDED.providers;
	UPDATE notif_private.app a SET route_id = notif_private.route_for(a.channel, a.platform, a.name)
	WHERE a.route_id IS DISTINCT FROM notif_private.route_for(a.channel, a.platform, a.name);
	PERFORM notif_private.config_changed();
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
END
$$;
COMMENT ON FUNCTION notif.define_route(text, text, text[], text, text) IS
$$Defines or redefines a route: which providers carry a channel, in order of preference.
name: 1 to 63 of a-z, 0-9, _ . and -. channel: 'push'. providers: names of notif.define_provider.
platform, app: for whom; NULL means any. Of several routes the most specific one wins: app and platform, then app, then platform, then neither.
A route keeps its queue: what already waits in it stays there when endpoints are routed differently.
Errors: 22023 bad value, 42704 unknown provider, 42710 another route serves the same channel, platform and app, 0A000 channel not supported.
Example: SELECT notif.define_route('push', providers => '{apple}');$$;
