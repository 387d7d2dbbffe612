-- Mutes at the claim.  An attempt does not carry its event's source and thread, so
-- whoever has muted something costs a look at the event; nobody else does.

CREATE FUNCTION notif_private.muted(p_batch notif_private.attempt[], p_now timestamptz) RETURNS boolean[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
	SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
	SET enable_material = off SET jit = off AS $$
DECLARE
	v_first		uuid;
	v_last		uuid;
BEGIN
	IF NOT EXISTS (SELECT FROM notif_private.mute) THEN
		RETURN NULL;
	END IF;
	SELECT (array_agg(b.event ORDER BY b.event))[1], (array_agg(b.event ORDER BY b.event DESC))[1]
	  INTO v_first, v_last
	  FROM unnest(p_batch) b
	 CROSS JOIN LATERAL (SELECT FROM notif_private.profile p
						  WHERE p.recipient_id = b.recipient AND p.muted IS NOT NULL OFFSET 0) pf;
	IF v_first IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT array_agg(m.found ORDER BY b.nth)
			  FROM unnest(p_batch) WITH ORDINALITY b(delivery, attempt, tries, ord, event, type_id, recipient, endpoint,
													 expires_at, charged, collapse, nth)
			  LEFT JOIN LATERAL (
				SELECT p.muted, p.muted_until FROM notif_private.profile p
				 WHERE p.recipient_id = b.recipient AND p.muted IS NOT NULL OFFSET 0) pf ON true
			  LEFT JOIN LATERAL (
				SELECT true AS found
				  FROM (SELECT e.source, e.thread FROM notif_private.event e
						 WHERE e.id = b.event AND e.id >= v_first AND e.id <= v_last OFFSET 0) ev
				 WHERE pf.muted IS NOT NULL
				   AND EXISTS (SELECT FROM unnest(pf.muted, pf.muted_until) m(what, until)
								WHERE m.until > p_now AND m.what IN ('source:' || ev.source, 'thread:' || ev.thread)) OFFSET 0) m ON true);
END
$$;
COMMENT ON FUNCTION notif_private.muted(notif_private.attempt[], timestamptz) IS
	'For each attempt of a batch whether its recipient has muted the source or thread of its event (NULL: not); NULL if nobody in it has muted anything.';
