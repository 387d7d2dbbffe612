-- Which installation this is, and whether it may send.

CREATE FUNCTION notif_private.read_incarnation() RETURNS smallint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Rows restored into another system keep their number, and what is published
	-- there before confirm_instance() already gets the number it will take.
	RETURN coalesce((SELECT i.incarnation + (split_part(i.identity, ':', 1) <> notif_private.system_id())::integer
					   FROM notif_private.instance i), 1);
END
$$;
COMMENT ON FUNCTION notif_private.read_incarnation() IS
	'The number that rows written by this installation carry: 1 at first, the next one after a move to another system.';

CREATE FUNCTION notif_private.current_incarnation() RETURNS smallint
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'notif_current_incarnation';
COMMENT ON FUNCTION notif_private.current_incarnation() IS
	'read_incarnation(), remembered by the session until the configuration changes.';

CREATE FUNCTION notif_private.worker_instance_check(p_guard text) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	inst	notif_private.instance;
	here	constant text := notif_private.identity();
BEGIN
	SELECT * INTO inst FROM notif_private.instance FOR UPDATE;
	IF NOT FOUND THEN
		INSERT INTO notif_private.instance (incarnation, identity, waiting, boot)
		VALUES (1, here, p_guard = 'confirm', notif_private.boot_id());
		RETURN CASE WHEN p_guard = 'confirm' THEN 'wait' ELSE 'ok' END;
	END IF;
	IF inst.identity = here THEN
		-- instance_guard = confirm: every start of the server waits
		IF p_guard = 'confirm' AND NOT inst.waiting AND inst.boot IS DISTINCT FROM notif_private.boot_id() THEN
			UPDATE notif_private.instance SET waiting = true, changed_at = clock_timestamp();
			RETURN 'wait';
		END IF;
		IF NOT inst.waiting AND inst.boot IS DISTINCT FROM notif_private.boot_id() THEN
			UPDATE notif_private.instance SET boot = notif_private.boot_id();
		END IF;
		RETURN CASE WHEN inst.waiting THEN 'wait' ELSE 'ok' END;
	END IF;
	-- Same system on another timeline and, as a rule, another data directory, and
	-- this launcher saw it follow its primary: a promotion.  The transaction ids go on, so the incarnation does.
	IF notif_private.watched_promotion() AND p_guard <> 'confirm' AND NOT inst.waiting
	   AND split_part(inst.identity, ':', 1) = split_part(here, ':', 1)
	   AND split_part(inst.identity, ':', 5) = split_part(here, ':', 5) THEN
		UPDATE notif_private.instance SET identity = here, changed_at = clock_timestamp();
		RETURN 'ok';
	END IF;
	IF NOT inst.waiting THEN
		UPDATE notif_private.instance SET waiting = true, changed_at = clock_timestamp();
	END IF;
	RETURN 'wait';
END
$$;
COMMENT ON FUNCTION notif_private.worker_instance_check(text) IS
	'Compares the stored identity with this server''s. ok: workers may send. wait: a restore, clone or copy until notif.confirm_instance().';

CREATE FUNCTION notif.confirm_instance() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	inst	notif_private.instance;
	fresh	smallint;
	refiled	bigint := 0;
BEGIN
	SELECT * INTO inst FROM notif_private.instance FOR UPDATE;
	IF NOT FOUND THEN
		INSERT INTO notif_private.instance (incarnation, identity, boot)
		VALUES (1, notif_private.identity(), notif_private.boot_id());
		PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
		RETURN 0;
	END IF;
	IF inst.identity = notif_private.identity() THEN
		UPDATE notif_private.instance
		   SET waiting = false, boot = notif_private.boot_id(), changed_at = clock_timestamp();
		PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
		RETURN 0;
	END IF;
	fresh := notif_private.current_incarnation();
	IF fresh <> inst.incarnation THEN
		-- Transaction ids of the stored rows belong to another system.  Under a new
		-- number none of them can match a cursor; what the stored cursors had not
		-- covered is filed again under this transaction's id.
		refiled := notif_private.refile_critical(fresh) + notif_private.refile_standard(fresh)
				 + notif_private.refile_bulk(fresh);
	END IF;
	UPDATE notif_private.instance
	   SET incarnation = fresh, identity = notif_private.identity(), waiting = false, boot = notif_private.boot_id(),
		   changed_at = clock_timestamp();
	PERFORM notif_private.config_changed();
	PERFORM notif_private.wake(tier::smallint) FROM generate_series(0, 2) tier;
	RETURN refiled;
END
$$;
COMMENT ON FUNCTION notif.confirm_instance() IS
	'Lets an installation send again that was restored, cloned or moved, and returns how many events and attempts it took over. Until then it takes publishes and sends nothing. Call it only when the original is stopped: both would send. Example: SELECT notif.confirm_instance();';
