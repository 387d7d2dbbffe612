-- Consent and law: what people have agreed to, and what a country asks for.
--
-- consent is a log that is only appended to; the person's profile holds what it comes
-- to, as facts: for each category and channel whether consent was given expressly or
-- in writing or was withdrawn, and since when it is implied.  What a sending needs
-- depends on the country and the category and stands in consent_need, a small table
-- compiled from the categories and the region rules.  The gates look at both rows, so
-- that a rule that changes is in force at its commit and touches no profile.

CREATE TABLE notif_private.consent (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	recipient_id bigint NOT NULL,
	channel		text NOT NULL,
	category	integer NOT NULL,	-- its number, never used again
	category_name text NOT NULL,	-- which is left when it has been dropped
	granted		boolean NOT NULL,
	kind		text NOT NULL CHECK (kind IN ('express', 'written', 'implied')),
	basis		text CHECK (basis IN ('purchase', 'inquiry')),	-- of an implied one
	source		text NOT NULL,
	form_version text,
	ip			inet,
	proof		jsonb,
	at			timestamptz NOT NULL,	-- when it was said, which may be long before
	recorded_at	timestamptz NOT NULL,
	recorded_by	name NOT NULL,
	CHECK ((kind OPERATOR(pg_catalog.=) 'implied') OPERATOR(pg_catalog.=) (basis IS NOT NULL))
);
CREATE INDEX consent_recipient ON notif_private.consent (recipient_id, category, channel);

-- The latest fact from which consent is implied, as a profile holds it.
CREATE TYPE notif_private.implied_consent AS (
	category	integer,
	channel		integer,		-- channel_bit()
	basis		text,
	since		timestamptz
);

CREATE TABLE notif_private.region_rule (
	name		text PRIMARY KEY CHECK (name OPERATOR(pg_catalog.~) '^[a-z0-9_.-]{1,63}$'),
	countries	text[],			-- NULL: any, also of people of whom it is not known
	channels	text[] NOT NULL,
	categories	integer[],		-- numbers; NULL: those that ask for consent on the channel
	consent		text CHECK (consent IN ('none', 'implied', 'express', 'written')),	-- NULL: as the category says
	purchase	interval,		-- how long it is implied; NULL: it is not
	inquiry		interval,
	send_from	smallint,		-- minutes of local time between which it may be sent; NULL: at any time
	send_until	smallint,
	zones		text[],			-- of people who have no zone: it must be allowed in each
	note		text
);

-- What one needs to send, one row for each combination that needs anything; the row of
-- the person's country counts, and where there is none that of the country ''.
CREATE TABLE notif_private.consent_need (
	category	integer NOT NULL,
	channel		integer NOT NULL,	-- channel_bit()
	country		text NOT NULL,
	kind		text NOT NULL,
	enough		integer,		-- bits of profile.consents of which one is enough; NULL: no consent is needed
	purchase	interval,
	inquiry		interval,
	windows		smallint[],		-- in which nothing is sent, as quiet_until() takes them
	zones		text[],
	rules		text[],			-- that say so, for people
	PRIMARY KEY (category, channel, country)
);
CREATE INDEX consent_need_hours ON notif_private.consent_need (channel) WHERE windows IS NOT NULL;

CREATE FUNCTION notif_private.channel_names() RETURNS text[]
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ARRAY['push', 'inbox', 'webpush', 'email', 'sms', 'voice', 'chat', 'webhook'];
END
$$;
COMMENT ON FUNCTION notif_private.channel_names() IS 'The channels in the order of channel_bit().';

-- Consent as of the log: after the last withdrawal only what is said expressly counts
-- again, since a purchase does not undo a refusal.
CREATE FUNCTION notif_private.consent_state(recipient bigint)
	RETURNS TABLE (channel text, category integer, withdrawn boolean, express timestamptz, written timestamptz,
				   purchase timestamptz, inquiry timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT s.channel, s.category, s.refused AND s.agreed IS NULL,
		   s.agreed, s.signed,
		   CASE WHEN NOT (s.refused AND s.agreed IS NULL) THEN s.bought END,
		   CASE WHEN NOT (s.refused AND s.agreed IS NULL) THEN s.asked END
	  FROM (SELECT l.channel, l.category, bool_or(NOT l.granted) AS refused,
				   max(l.at) FILTER (WHERE l.counts AND l.kind <> 'implied') AS agreed,
				   max(l.at) FILTER (WHERE l.counts AND l.kind = 'written') AS signed,
				   max(l.at) FILTER (WHERE l.counts AND l.basis = 'purchase') AS bought,
				   max(l.at) FILTER (WHERE l.counts AND l.basis = 'inquiry') AS asked
			  FROM (SELECT c.*, c.granted AND bool_and(c.granted) OVER (PARTITION BY c.category, c.channel
							ORDER BY c.at DESC, c.id DESC ROWS UNBOUNDED PRECEDING) AS counts
					  FROM notif_private.consent c WHERE c.recipient_id = consent_state.recipient) l
			 GROUP BY l.channel, l.category) s;
END
$$;
COMMENT ON FUNCTION notif_private.consent_state(bigint) IS
	'What a recipient''s log of consent comes to: whether it was withdrawn and not given again, and the latest time of each kind that counts.';

CREATE FUNCTION notif_private.consent_bits(recipient bigint, OUT consents integer[], OUT implied notif_private.implied_consent[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.consent c WHERE c.recipient_id = consent_bits.recipient) THEN
		RETURN;
	END IF;
	WITH state AS MATERIALIZED (
		SELECT s.*, notif_private.channel_bit(s.channel) AS bit FROM notif_private.consent_state(consent_bits.recipient) s
	)
	SELECT (SELECT array_agg(coalesce(b.bits, 0) ORDER BY n.number)
			  FROM generate_series(0, (SELECT max(s.category) FROM state s)) n(number)
			  LEFT JOIN (SELECT s.category, bit_or(CASE WHEN s.withdrawn THEN s.bit << 16 ELSE 0 END
												   | CASE WHEN s.express IS NOT NULL THEN s.bit ELSE 0 END
												   | CASE WHEN s.written IS NOT NULL THEN s.bit << 8 ELSE 0 END) AS bits
						   FROM state s GROUP BY s.category) b ON b.category = n.number),
		   (SELECT array_agg((s.category, s.bit, x.basis, x.since)::notif_private.implied_consent ORDER BY s.category, s.bit, x.basis)
			  FROM state s CROSS JOIN LATERAL (VALUES ('purchase', s.purchase), ('inquiry', s.inquiry)) x(basis, since)
			 WHERE x.since IS NOT NULL)
	  INTO consents, implied;
END
$$;
COMMENT ON FUNCTION notif_private.consent_bits(bigint) IS
	'A recipient''s consent as profiles hold it: per category the channel''s bit if it was given expressly, 256 times it if in writing, 65536 times it if it was withdrawn; and what it is implied from. NULL: nothing was ever said.';

-- The rules that are about the category itself go before those about all that ask for
-- consent, those of the country before those of any; of equals the strictest holds.
CREATE FUNCTION notif_private.compile_consent_needs() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Two changes at a time would each compile without the other's.  Callers have the
	-- lock already, from before they locked a category.
	LOCK TABLE notif_private.region_rule IN SHARE ROW EXCLUSIVE MODE;
	DELETE FROM notif_private.consent_need;
	INSERT INTO notif_private.consent_need (category, channel, country, kind, enough, purchase, inquiry, windows, zones, rules)
	WITH place AS MATERIALIZED (
		SELECT c.number, ch.name, notif_private.channel_bit(ch.name) AS bit, co.country,
			   ch.name = ANY (c.requires_consent) AS asks
		  FROM notif_private.category c
		 CROSS JOIN unnest(notif_private.channel_names()) ch(name)
		 CROSS JOIN (SELECT '' AS country UNION SELECT unnest(r.countries) FROM notif_private.region_rule r) co
		 WHERE NOT c.mandatory
		   AND (ch.name = ANY (c.requires_consent)
				OR EXISTS (SELECT FROM notif_private.region_rule r WHERE ch.name = ANY (r.channels) AND c.number = ANY (r.categories)))
	),
	said AS (
		SELECT p.number, p.bit, p.country, r.*,
			   rank() OVER (PARTITION BY p.number, p.bit, p.country ORDER BY r.consent IS NULL, r.categories IS NULL, r.countries IS NULL) AS word,
			   rank() OVER (PARTITION BY p.number, p.bit, p.country ORDER BY r.send_from IS NULL, r.categories IS NULL, r.countries IS NULL) AS hours
		  FROM place p
		  JOIN notif_private.region_rule r ON p.name = ANY (r.channels) AND (r.countries IS NULL OR p.country = ANY (r.countries))
			   AND CASE WHEN r.categories IS NULL THEN p.asks ELSE p.number = ANY (r.categories) END
	),
	law AS (
		SELECT s.number, s.bit, s.country,
			   (ARRAY['none', 'implied', 'express', 'written'])[max(array_position(ARRAY['none', 'implied', 'express', 'written'], s.consent))
																FILTER (WHERE s.word = 1)] AS kind,
			   min(s.purchase) FILTER (WHERE s.word = 1) AS purchase, min(s.inquiry) FILTER (WHERE s.word = 1) AS inquiry,
			   max(s.send_from) FILTER (WHERE s.hours = 1) AS send_from, min(s.send_until) FILTER (WHERE s.hours = 1) AS send_until,
			   string_agg(array_to_string(s.zones, ' '), ' ') FILTER (WHERE s.hours = 1) AS zones,
			   array_agg(s.name ORDER BY s.name) FILTER (WHERE s.word = 1 AND s.consent IS NOT NULL
														 OR s.hours = 1 AND s.send_from IS NOT NULL) AS rules
		  FROM said s GROUP BY s.number, s.bit, s.country
	),
	kind AS MATERIALIZED (
		SELECT p.number, p.bit, p.country, coalesce(l.kind, CASE WHEN p.asks THEN 'implied' ELSE 'none' END) AS kind,
			   -- without a rule as long as Canada's law has it
			   CASE WHEN l.kind IS NULL THEN interval '24 months' ELSE l.purchase END AS purchase,
			   CASE WHEN l.kind IS NULL THEN interval '6 months' ELSE l.inquiry END AS inquiry,
			   CASE WHEN l.send_from IS NOT NULL THEN notif_private.closed_hours(l.send_from, l.send_until) END AS windows,
			   (SELECT array_agg(DISTINCT z) FROM unnest(string_to_array(l.zones, ' ')) z) AS zones, l.rules
		  FROM place p LEFT JOIN law l ON l.number = p.number AND l.bit = p.bit AND l.country = p.country
	)
	SELECT k.number, k.bit, k.country, k.kind,
		   CASE k.kind WHEN 'none' THEN NULL WHEN 'written' THEN k.bit << 8 ELSE k.bit | (k.bit << 8) END,
		   CASE k.kind WHEN 'implied' THEN k.purchase END, CASE k.kind WHEN 'implied' THEN k.inquiry END,
		   k.windows, k.zones, k.rules
	  FROM kind k;
	-- so that the gates look there for those alone
	UPDATE notif_private.category c SET needs = x.bits
	  FROM (SELECT k.number, coalesce(bit_or(n.channel), 0) AS bits
			  FROM notif_private.category k LEFT JOIN notif_private.consent_need n ON n.category = k.number GROUP BY k.number) x
	 WHERE c.number = x.number AND c.needs <> x.bits;
END
$$;
COMMENT ON FUNCTION notif_private.compile_consent_needs() IS
	'Makes consent_need anew from categories and region rules; to be called after any of them has changed, under the lock of region_rule that is taken first.';

-- From one minute to another it may be sent, so from the other to the one it may not.
CREATE FUNCTION notif_private.closed_hours(send_from smallint, send_until smallint) RETURNS smallint[]
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF send_from >= send_until THEN
		-- rules of which each leaves no time that the other leaves
		send_until := send_from;
		send_from := send_from + 1;
	END IF;
	RETURN (SELECT array_agg(e.minute::smallint ORDER BY d, e.edge)
			  FROM generate_series(1, 7) d CROSS JOIN LATERAL (VALUES (1, send_until % 1440), (2, send_from::integer)) e(edge, minute));
END
$$;
COMMENT ON FUNCTION notif_private.closed_hours(smallint, smallint) IS
	'The hours outside of two minutes of the day, as quiet_until() takes them.';

-- For explain and for people; the gates have the same inside their statements.
CREATE FUNCTION notif_private.consent_need_of(category integer, channel integer, country text) RETURNS notif_private.consent_need
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	its	notif_private.consent_need;
BEGIN
	SELECT * INTO its FROM notif_private.consent_need n
	 WHERE n.category = consent_need_of.category AND n.channel = consent_need_of.channel
	   AND n.country IN (consent_need_of.country, '') ORDER BY n.country DESC LIMIT 1;
	RETURN its;
END
$$;
COMMENT ON FUNCTION notif_private.consent_need_of(integer, integer, text) IS
	'What sending a category over a channel to a country needs; NULL: nothing.';
