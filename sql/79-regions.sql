-- What countries ask for: kinds of consent and hours, by the recipient's country.

CREATE FUNCTION notif_private.check_country(country text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- ISO 3166-1 alpha-2, and XK, which is in general use for Kosovo
	known	constant text := ' AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV'
		' BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO'
		' FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP'
		' KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU'
		' MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB'
		' SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY'
		' UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW ';
BEGIN
	IF country IS NOT NULL AND (country !~ '^[A-Za-z]{2}$' OR strpos(known, ' ' || upper(country) || ' ') = 0) THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('unknown country: %L', left(country, 80)),
			DETAIL = 'A country is given by its two letters of ISO 3166-1.',
			HINT = 'Write it like ''DE'', ''CA'' or ''US''; the United Kingdom is ''GB''.';
	END IF;
	RETURN upper(country);
END
$$;
COMMENT ON FUNCTION notif_private.check_country(text) IS
	'The code of a country in capitals, NULL for NULL. 22023 unless it is one.';

CREATE FUNCTION notif.define_region_rule(
	name text, countries text[] DEFAULT NULL, channels text[] DEFAULT NULL, categories text[] DEFAULT NULL,
	consent text DEFAULT NULL, purchase interval DEFAULT NULL, inquiry interval DEFAULT NULL,
	send_from time DEFAULT NULL, send_until time DEFAULT NULL, zones text[] DEFAULT NULL, note text DEFAULT NULL)
	RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	places	text[];
	other	text;
	first	smallint := extract(epoch FROM define_region_rule.send_from) / 60;
	last	smallint := extract(epoch FROM define_region_rule.send_until) / 60;
BEGIN
	PERFORM notif_private.check_name('region rule', define_region_rule.name);
	IF cardinality(define_region_rule.countries) = 0 OR array_position(define_region_rule.countries, NULL) IS NOT NULL
		OR coalesce(cardinality(define_region_rule.channels), 0) = 0 OR cardinality(define_region_rule.categories) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('region rule %L is about nothing', define_region_rule.name),
			DETAIL = 'countries and categories are lists with something in them or NULL, which is any; channels is never empty.',
			HINT = 'Use countries => ''{DE,FR}'', channels => ''{email}'' and the like.';
	END IF;
	SELECT array_agg(DISTINCT notif_private.check_country(c)) INTO places FROM unnest(define_region_rule.countries) c;
	PERFORM notif_private.consent_channel(c) FROM unnest(define_region_rule.channels) c;
	FOR other IN SELECT c FROM unnest(define_region_rule.categories) c LOOP
		IF other IS NULL OR (notif_private.preference_category(other)).mandatory THEN
			RAISE EXCEPTION USING ERRCODE = '22023',
				MESSAGE = format('category %s is not one for a region rule', coalesce(quote_literal(other), 'NULL')),
				DETAIL = 'What is in a mandatory category reaches everybody, and NULL is no category.',
				HINT = 'notif.categories lists them.';
		END IF;
	END LOOP;
	IF define_region_rule.consent IS NULL AND define_region_rule.send_from IS NULL
		OR define_region_rule.consent NOT IN ('none', 'implied', 'express', 'written') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN define_region_rule.consent IS NULL THEN format('region rule %L asks for nothing', define_region_rule.name)
						   ELSE format('invalid kind of consent: %L', left(define_region_rule.consent, 80)) END,
			DETAIL = 'A rule names a kind of consent, or the hours in which it may be sent, or both.',
			HINT = 'Use consent => ''none'', ''implied'', ''express'' or ''written''.';
	END IF;
	IF coalesce(define_region_rule.consent, '') <> 'implied'
		AND (define_region_rule.purchase IS NOT NULL OR define_region_rule.inquiry IS NOT NULL)
		OR define_region_rule.consent = 'implied' AND define_region_rule.purchase IS NULL AND define_region_rule.inquiry IS NULL
		OR define_region_rule.purchase <= interval '0' OR define_region_rule.inquiry <= interval '0' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = 'purchase and inquiry do not fit the kind of consent',
			DETAIL = 'They say for how long consent is implied, which is for consent => ''implied'' only.',
			HINT = 'Use consent => ''implied'', purchase => ''24 months'', or leave them out.';
	END IF;
	IF (define_region_rule.send_from IS NULL) <> (define_region_rule.send_until IS NULL) OR first >= last OR last - first >= 1440
		OR extract(second FROM define_region_rule.send_from) <> 0 OR extract(second FROM define_region_rule.send_until) <> 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('it cannot be sent from %s until %s', coalesce(define_region_rule.send_from::text, 'NULL'),
							 coalesce(define_region_rule.send_until::text, 'NULL')),
			DETAIL = 'The hours are whole minutes of one local day, and not all of it.',
			HINT = 'Use send_from => ''08:00'', send_until => ''21:00'', or neither.';
	END IF;
	IF define_region_rule.zones IS NOT NULL AND (define_region_rule.send_from IS NULL OR cardinality(define_region_rule.zones) = 0
		OR array_position(define_region_rule.zones, NULL) IS NOT NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'invalid zones of a region rule',
			DETAIL = 'zones are for recipients whose zone is not known, and for rules that have hours.',
			HINT = 'Use zones => ''{America/New_York,Pacific/Honolulu}'' and the like, or leave them out.';
	END IF;
	PERFORM notif_private.check_zone(z) FROM unnest(define_region_rule.zones) z;

	LOCK TABLE notif_private.region_rule IN SHARE ROW EXCLUSIVE MODE;
	INSERT INTO notif_private.region_rule AS r (name, countries, channels, categories, consent, purchase, inquiry, send_from,
												send_until, zones, note)
	VALUES (define_region_rule.name, places, define_region_rule.channels,
			(SELECT array_agg(c.number ORDER BY c.number) FROM notif_private.category c WHERE c.name = ANY (define_region_rule.categories)),
			define_region_rule.consent, define_region_rule.purchase, define_region_rule.inquiry, first, last,
			define_region_rule.zones, define_region_rule.note)
	ON CONFLICT ON CONSTRAINT region_rule_pkey DO UPDATE
		SET countries = EXCLUDED.countries, channels = EXCLUDED.channels, categories = EXCLUDED.categories,
			consent = EXCLUDED.consent, purchase = EXCLUDED.purchase, inquiry = EXCLUDED.inquiry,
			send_from = EXCLUDED.send_from, send_until = EXCLUDED.send_until, zones = EXCLUDED.zones, note = EXCLUDED.note;
	PERFORM notif_private.compile_consent_needs();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.define_region_rule(text, text[], text[], text[], text, interval, interval, time, time, text[], text) IS
$$Defines or redefines what some countries ask for before something may be sent; it holds from the commit for whatever is not yet claimed.
name: 1 to 63 of a-z, 0-9, _ . and -. countries: of recipients, as notif.upsert_recipient has them, ISO 3166-1; NULL: any, also where it is not known. channels: at least one. categories: NULL: those that ask for consent on the channel (requires_consent of notif.define_category); a category that is named needs not ask.
consent: 'none', 'implied' (any kind; purchase, inquiry: for how long it is implied by one, NULL: it is not), 'express' or 'written'; NULL: as without this rule.
send_from, send_until: local hours between which it may be sent, also of categories that bypass quiet hours; it waits for them like for the end of quiet hours. zones: for recipients who have no zone; it must be allowed in all of these (NULL: UTC). note: for people, such as the law and the day it was looked at.
Of several rules one that names the category goes before one that does not, then one that names the country; of equals the strictest holds. Consent and hours are settled apart.
Errors: 22023 bad value, unknown country, channel or zone, 42704 unknown category.
Example: SELECT notif.define_region_rule('de-email', '{DE}', '{email}', consent => 'express', note => 'UWG 7');$$;

CREATE FUNCTION notif.drop_region_rule(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	LOCK TABLE notif_private.region_rule IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM notif_private.region_rule r WHERE r.name = drop_region_rule.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704',
			MESSAGE = format('region rule %s does not exist', coalesce(quote_literal(left(drop_region_rule.name, 80)), 'NULL')),
			DETAIL = 'No region rule of that name is defined.',
			HINT = 'notif.region_rules lists them.';
	END IF;
	PERFORM notif_private.compile_consent_needs();
	PERFORM notif_private.config_changed();
END
$$;
COMMENT ON FUNCTION notif.drop_region_rule(text) IS
$$Drops a region rule; what waits for its hours goes on waiting for that time.
Errors: 42704 unknown rule.
Example: SELECT notif.drop_region_rule('de-email');$$;

-- No rows of the install script: a dump would carry them a second time, and a rule that
-- somebody has dropped would come back.
CREATE FUNCTION notif.install_region_rules() RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- the EEA, Switzerland and the United Kingdom
	europe	constant text[] := '{AT,BE,BG,CH,CY,CZ,DE,DK,EE,ES,FI,FR,GB,GR,HR,HU,IE,IS,IT,LI,LT,LU,LV,MT,NL,NO,PL,PT,RO,SE,SI,SK}';
	mail	constant text[] := '{email,push,webpush,chat}';
	phone	constant text[] := '{sms,voice}';
	-- the ends of the 50 states
	us		constant text[] := '{America/New_York,Pacific/Honolulu}';
	canada	constant text[] := '{America/St_Johns,America/Vancouver}';
BEGIN
	PERFORM notif.define_region_rule('eu-consent', europe, mail || phone, consent => 'express',
		note => 'GDPR Art. 6 and 7, ePrivacy Directive Art. 13: prior consent, withdrawn as easily as given');
	PERFORM notif.define_region_rule('us-phone', '{US,PR,VI,GU,AS,MP}', phone, consent => 'written',
		send_from => '08:00', send_until => '21:00', zones => us,
		note => 'TCPA, 47 CFR 64.1200: prior express written consent, 8 a.m. to 9 p.m. where the person is');
	PERFORM notif.define_region_rule('us-mail', '{US,PR,VI,GU,AS,MP}', '{email}', consent => 'none',
		note => 'CAN-SPAM Act: opt-out, which withdrawals, preferences and the suppression list are');
	PERFORM notif.define_region_rule('ca-consent', '{CA}', mail || '{sms}', consent => 'implied', purchase => '24 months',
		inquiry => '6 months', note => 'CASL s. 6 and 10: express, or implied for 24 months by a purchase and 6 by an inquiry');
	PERFORM notif.define_region_rule('ca-voice', '{CA}', '{voice}', consent => 'express',
		send_from => '10:00', send_until => '18:00', zones => canada,
		note => 'CRTC Unsolicited Telecommunications Rules: automatic calls need express consent; the narrower hours, those of weekends, on all days');
	PERFORM notif.define_region_rule('elsewhere', NULL, mail || phone, consent => 'express',
		note => 'countries without a rule here, and people whose country is not known: the strict way');
	RETURN 6;
END
$$;
COMMENT ON FUNCTION notif.install_region_rules() IS
'Defines a set of region rules to begin with, for categories that ask for consent, and returns how many: eu-consent, us-phone, us-mail, ca-consent, ca-voice and elsewhere; see notif.region_rules. It replaces rules of these names and touches no other. They are an engineer''s reading and no legal advice: have them looked at, and change them with notif.define_region_rule. Example: SELECT notif.install_region_rules();';
