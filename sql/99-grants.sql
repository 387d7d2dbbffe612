-- Who owns what, and who may do what.  The last module.
--
-- notif_owner owns everything, so that no SECURITY DEFINER function runs as a
-- superuser.  Nobody has a right that is not granted below by name.

DO $do$
DECLARE
	ext		constant oid := (SELECT e.oid FROM pg_extension e WHERE e.extname = 'notif');
	command	text;
BEGIN
	FOR command IN
		SELECT format('ALTER SCHEMA %I OWNER TO notif_owner', n.nspname)
		FROM pg_namespace n WHERE n.nspname IN ('notif', 'notif_private')
		UNION ALL
		-- Sequences of identity columns follow their tables.
		SELECT format('ALTER %s %s OWNER TO notif_owner',
					  CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
					  c.oid::regclass)
		FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext AND d.deptype = 'e'
		  AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
		  AND NOT EXISTS (SELECT FROM pg_depend o
						  WHERE o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.refclassid = 'pg_class'::regclass
							AND o.deptype IN ('a', 'i') AND c.relkind = 'S')
		UNION ALL
		SELECT format('ALTER ROUTINE %s OWNER TO notif_owner', p.oid::regprocedure)
		FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
		WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext AND d.deptype = 'e'
		UNION ALL
		SELECT format('ALTER TYPE %s OWNER TO notif_owner', format_type(t.oid, NULL))
		FROM pg_depend d JOIN pg_type t ON t.oid = d.objid
		WHERE d.classid = 'pg_type'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext AND d.deptype = 'e'
		  AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid))
		UNION ALL
		-- What PUBLIC may use by default; the types of arrays and rows go with theirs.
		SELECT format('REVOKE ALL ON TYPE %s FROM PUBLIC', format_type(t.oid, NULL))
		FROM pg_type t
		WHERE t.typnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace)
		  AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid))
	LOOP
		EXECUTE command;
	END LOOP;
END
$do$;

REVOKE ALL ON SCHEMA notif, notif_private FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA notif, notif_private FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA notif, notif_private FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA notif, notif_private FROM PUBLIC;

GRANT USAGE ON SCHEMA notif TO notif_admin, notif_publisher, notif_reader, notif_worker;
GRANT USAGE ON TYPE notif.outcome_state, notif.endpoint_state TO notif_admin, notif_publisher, notif_reader, notif_worker;
GRANT USAGE ON SCHEMA notif_private TO notif_worker;
GRANT USAGE ON TYPE notif_private.attempt TO notif_worker;

-- Administrators: all that is public.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA notif TO notif_admin;
GRANT SELECT ON ALL TABLES IN SCHEMA notif TO notif_admin, notif_reader;

-- The others: each function by name, all its forms.
DO $do$
DECLARE
	publisher	constant text[] := ARRAY[
		'publish', 'preview', 'cancel', 'cancel_correlation', 'reschedule', 'now', 'upsert_recipient', 'activate_recipient', 'deactivate_recipient', 'register_device',
		'unregister_device', 'subscribe', 'subscribe_many', 'unsubscribe', 'set_preference', 'reset_preference',
		'preferences', 'switch_off', 'switch_on', 'mute', 'unmute', 'mutes', 'set_quiet_hours', 'quiet_hours', 'set_digest_time', 'digest_time',
		'record_consent', 'consents', 'consent_status', 'suppress', 'inbox', 'unread_count', 'mark_read', 'mark_all_read'];
	reader		constant text[] := ARRAY['now', 'trace', 'trace_correlation', 'explain', 'health', 'audit', 'suppressed', 'find_erasures'];
	-- A view's functions are called with the rights of whoever reads the view.
	of_views	constant text[] := ARRAY['workers_here', 'lanes_here', 'breakers_here', 'pacers_here', 'totals_here', 'schedule_key'];
	command		text;
BEGIN
	FOR command IN
		SELECT format('GRANT EXECUTE ON ROUTINE %s TO notif_publisher', p.oid::regprocedure)
		FROM pg_proc p WHERE p.pronamespace = 'notif'::regnamespace AND p.proname = ANY (publisher)
		UNION ALL
		SELECT format('GRANT EXECUTE ON ROUTINE %s TO notif_reader', p.oid::regprocedure)
		FROM pg_proc p WHERE p.pronamespace = 'notif'::regnamespace AND p.proname = ANY (reader)
		UNION ALL
		SELECT format('GRANT EXECUTE ON ROUTINE %s TO notif_admin, notif_reader', p.oid::regprocedure)
		FROM pg_proc p WHERE p.pronamespace = 'notif_private'::regnamespace AND p.proname = ANY (of_views)
		UNION ALL
		-- The entry points of the workers are told by their name.
		SELECT format('GRANT EXECUTE ON ROUTINE %s TO notif_worker', p.oid::regprocedure)
		FROM pg_proc p WHERE p.pronamespace = 'notif_private'::regnamespace AND starts_with(p.proname, 'worker_')
	LOOP
		EXECUTE command;
	END LOOP;
END
$do$;
