-- Mutes at the claim.  An attempt carries the hashes of its event's source and thread,
-- a profile those of what its owner has muted: only where one is found among the others
-- does a claim look at the event itself.

CREATE FUNCTION notif_private.subject_of(source text, thread text) RETURNS bigint
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN source IS NOT NULL OR thread IS NOT NULL
				THEN (coalesce(hashtext(source), 0)::bigint << 32) | (coalesce(hashtext(thread), 0)::bigint & 4294967295) END;
END
$$;
COMMENT ON FUNCTION notif_private.subject_of(text, text) IS
	'What an attempt carries of its event''s source (upper half) and thread (lower half); NULL if it has neither.';

CREATE FUNCTION notif_private.has_muted(recipient bigint, event uuid, at timestamptz) RETURNS boolean
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
	RETURN EXISTS (
		SELECT FROM notif_private.event e
		  JOIN notif_private.profile p ON p.recipient_id = has_muted.recipient
		 CROSS JOIN LATERAL unnest(p.muted, p.muted_until) m(what, until)
		 WHERE e.id = has_muted.event AND m.until > has_muted.at AND m.what IN ('source:' || e.source, 'thread:' || e.thread));
END
$$;
COMMENT ON FUNCTION notif_private.has_muted(bigint, uuid, timestamptz) IS
	'Whether a recipient has muted the source or thread of an event at that time.';
