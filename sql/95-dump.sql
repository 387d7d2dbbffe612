-- What pg_dump carries of the tables that the script makes: all of them, with
-- their sequences, except secrets.  Partitions that upkeep makes are ordinary
-- tables, which it carries anyway; parents have no rows.
DO $do$
DECLARE
	rel		regclass;
	secrets	constant regclass[] := ARRAY['notif_private.secret', 'notif_private.provider_token'];
BEGIN
	FOR rel IN
		SELECT c.oid
		FROM pg_depend d
		JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'S')
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		  AND d.refobjid = (SELECT e.oid FROM pg_extension e WHERE e.extname = 'notif')
		  AND c.oid <> ALL (secrets)
		ORDER BY c.relname
	LOOP
		PERFORM pg_extension_config_dump(rel, '');
	END LOOP;
END
$do$;
