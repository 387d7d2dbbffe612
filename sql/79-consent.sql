-- What people agree to and what they refuse: appended, never changed.

CREATE FUNCTION notif_private.consent_channel(channel text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF channel IS NULL OR notif_private.channel_bit(channel) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('unknown channel: %s', coalesce(quote_literal(left(channel, 80)), 'NULL')),
			DETAIL = format('The channels are %s.', array_to_string(notif_private.channel_names(), ', ')),
			HINT = 'Name one of them; what is about all of them is said once for each.';
	END IF;
	RETURN channel;
END
$$;
COMMENT ON FUNCTION notif_private.consent_channel(text) IS
	'The channel, if it is one, also one that this version does not deliver over. 22023 otherwise.';

CREATE FUNCTION notif.record_consent(recipient text, channel text, category text, granted boolean,
									 kind text DEFAULT 'express', source text DEFAULT NULL, form_version text DEFAULT NULL,
									 ip inet DEFAULT NULL, at timestamptz DEFAULT NULL, proof jsonb DEFAULT NULL,
									 basis text DEFAULT NULL)
	RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(record_consent.recipient);
	way		text := notif_private.consent_channel(record_consent.channel);
	its		notif_private.category;
	now		constant timestamptz := notif.now();
	made	bigint;
BEGIN
	IF record_consent.category IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'category must not be NULL',
			DETAIL = 'A consent is to something: one to everything is none.',
			HINT = 'Record one for each category that the form names; notif.switch_off stops everything.';
	END IF;
	its := notif_private.preference_category(record_consent.category);
	IF record_consent.granted IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'granted must not be NULL',
			DETAIL = 'true records a consent, false its withdrawal.',
			HINT = 'Pass granted => true or false.';
	END IF;
	IF record_consent.kind IS NULL OR record_consent.kind NOT IN ('express', 'written', 'implied') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('invalid kind of consent: %s', coalesce(quote_literal(left(record_consent.kind, 80)), 'NULL')),
			DETAIL = 'Consent is given expressly or in writing, or is implied by a purchase or an inquiry.',
			HINT = 'Use ''express'', ''written'' or ''implied''.';
	END IF;
	IF record_consent.kind = 'implied' AND NOT record_consent.granted
		OR record_consent.kind <> 'implied' AND record_consent.basis IS NOT NULL
		OR record_consent.basis NOT IN ('purchase', 'inquiry') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN NOT record_consent.granted THEN 'a withdrawal is not implied'
						   ELSE format('invalid basis of a consent: %L', left(record_consent.basis, 80)) END,
			DETAIL = 'basis says what a consent is implied by; it decides how long that is good for.',
			HINT = 'Use ''purchase'' or ''inquiry'', with kind => ''implied'' and granted => true only.';
	END IF;
	IF coalesce(record_consent.source, '') = '' OR octet_length(record_consent.source) > 255
		OR octet_length(record_consent.form_version) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN coalesce(record_consent.source, '') = '' THEN 'source is missing' ELSE 'source or form_version is too long' END,
			DETAIL = 'The log has to show where a consent came from; up to 255 bytes of each are kept.',
			HINT = 'Name the form, page, call or import, like ''web:/account/newsletter''.';
	END IF;
	IF record_consent.at > now + interval '5 minutes' OR record_consent.at IN ('-infinity', 'infinity') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('at is not a time of the past: %s', record_consent.at),
			DETAIL = format('It is %s now.', now),
			HINT = 'Pass the time at which it was said, or nothing for now.';
	END IF;
	IF pg_column_size(record_consent.proof) > 65536 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = 'proof is too large',
			DETAIL = format('It takes %s bytes; at most 65536 are kept.', pg_column_size(record_consent.proof)),
			HINT = 'Keep documents elsewhere and record their place and hash here.';
	END IF;
	IF its.mandatory AND NOT record_consent.granted THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('category %L is mandatory', its.name),
			DETAIL = 'What is in it reaches everybody, without consent.',
			HINT = 'notif.define_category(..., mandatory => false) lets people choose.';
	END IF;

	PERFORM notif_private.lock_profile(who);
	INSERT INTO notif_private.consent AS c (recipient_id, channel, category, category_name, granted, kind, basis, source, form_version, ip, proof,
											at, recorded_at, recorded_by)
	VALUES (who, way, its.number, its.name, record_consent.granted, record_consent.kind,
			CASE WHEN record_consent.kind = 'implied' THEN coalesce(record_consent.basis, 'purchase') END,
			record_consent.source, record_consent.form_version, record_consent.ip, record_consent.proof,
			coalesce(record_consent.at, now), now, SESSION_USER)
	RETURNING c.id INTO made;
	PERFORM notif_private.compile_profile(who);
	IF NOT record_consent.granted THEN
		PERFORM notif_private.hold_unsent(who);
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION notif.record_consent(text, text, text, boolean, text, text, text, inet, timestamptz, jsonb, text) IS
$$Appends to the log of consent that a recipient has agreed to a category over a channel, or has withdrawn that; returns the number of the entry. Nothing in the log is ever changed. A withdrawal holds like an opt-out, whether consent is needed or not, also for what has been published already and is not sent.
channel: any, 'push', 'inbox', 'webpush', 'email', 'sms', 'voice', 'chat' or 'webhook', also those of later versions. category: exactly one.
granted: false is a withdrawal; after it only an express or written consent counts. Entries count in the order of at, those of one time as they were recorded.
kind: 'express', 'written' (signed, electronically or on paper) or 'implied', which ends by itself. basis: what it is implied by, 'purchase' (the default) or 'inquiry'; how long each is good for is a matter of the country, see notif.define_region_rule, and where no rule says it of 24 and 6 months.
source: the form, page, call or import, needed. form_version, ip, proof: what you can show, up to 64 kB. at: when it was said, by default now; not in the future.
Errors: 42704 unknown recipient or category, 22023 bad value, 54000 proof too large, 55000 withdrawal from a mandatory category.
Example: SELECT notif.record_consent('customer-17', 'email', 'marketing', granted => true, source => 'web:/newsletter', form_version => '2026-03', ip => '192.0.2.7');$$;

CREATE FUNCTION notif.consents(recipient text)
	RETURNS TABLE (id bigint, channel text, category text, granted boolean, kind text, basis text, source text, form_version text,
				   ip inet, proof jsonb, at timestamptz, recorded_at timestamptz, recorded_by name)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(consents.recipient);
BEGIN
	RETURN QUERY
	SELECT c.id, c.channel, c.category_name, c.granted, c.kind, c.basis, c.source, c.form_version, c.ip, c.proof, c.at, c.recorded_at,
		   c.recorded_by
	  FROM notif_private.consent c
	 WHERE c.recipient_id = who ORDER BY c.at, c.id;
END
$$;
COMMENT ON FUNCTION notif.consents(text) IS
$$The log of a recipient's consent as notif.record_consent has filled it, oldest first. What it comes to shows notif.consent_status.
Errors: 42704 unknown recipient.
Example: SELECT at, channel, category, granted, kind, source, form_version FROM notif.consents('customer-17');$$;

-- From the log and the rules, not from the profile.
CREATE FUNCTION notif_private.consent_verdict(recipient bigint, category integer, channel text, at timestamptz,
											  OUT allowed boolean, OUT needs text, OUT has text, OUT until timestamptz,
											  OUT rules text[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	need	notif_private.consent_need;
	its		record;
BEGIN
	need := notif_private.consent_need_of(consent_verdict.category, notif_private.channel_bit(consent_verdict.channel),
		(SELECT r.country FROM notif_private.recipient r WHERE r.id = consent_verdict.recipient));
	SELECT s.* INTO its FROM notif_private.consent_state(consent_verdict.recipient) s
	 WHERE s.category = consent_verdict.category AND s.channel = consent_verdict.channel;
	needs := coalesce(need.kind, 'none');
	rules := need.rules;
	until := greatest(its.purchase + need.purchase, its.inquiry + need.inquiry);
	has := CASE WHEN its.withdrawn THEN 'withdrawn' WHEN its.written IS NOT NULL THEN 'written'
				WHEN its.express IS NOT NULL THEN 'express' WHEN until > consent_verdict.at THEN 'implied'
				WHEN until IS NOT NULL THEN 'expired' ELSE 'none' END;
	IF has NOT IN ('implied', 'expired') THEN
		until := NULL;
	END IF;
	allowed := has <> 'withdrawn' AND CASE needs WHEN 'none' THEN true WHEN 'implied' THEN has IN ('written', 'express', 'implied')
		WHEN 'express' THEN has IN ('written', 'express') ELSE has = 'written' END;
END
$$;
COMMENT ON FUNCTION notif_private.consent_verdict(bigint, integer, text, timestamptz) IS
	'Whether a recipient''s consent is enough for a category and channel at a time, by the log and the rules.';

CREATE FUNCTION notif.consent_status(recipient text)
	RETURNS TABLE (channel text, category text, allowed boolean, needs text, has text, until timestamptz, rules text[])
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who		bigint := notif_private.recipient_id(consent_status.recipient);
BEGIN
	RETURN QUERY
	SELECT ch.name, c.name, v.allowed OR c.mandatory, v.needs, v.has, v.until, v.rules
	  FROM notif_private.category c
	 CROSS JOIN unnest(notif_private.channel_names()) WITH ORDINALITY ch(name, place)
	 CROSS JOIN LATERAL notif_private.consent_verdict(who, c.number, ch.name, notif.now()) v
	 WHERE v.needs <> 'none' OR v.has <> 'none' ORDER BY c.name, ch.place;
END
$$;
COMMENT ON FUNCTION notif.consent_status(text) IS
$$Whether a recipient's consent is enough now, for each category and channel where one is needed or something was said. needs: 'none', 'implied' (any), 'express' or 'written'; rules: the region rules that say so, NULL: the category does. has: the best that is there, or 'withdrawn', 'expired' or 'none'; until: when an implied one ends.
Errors: 42704 unknown recipient.
Example: SELECT channel, category, allowed, needs, has, until FROM notif.consent_status('customer-17');$$;
