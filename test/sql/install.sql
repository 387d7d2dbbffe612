-- The extension installs into an empty database, owns what it should, and leaves
-- nothing behind.
CREATE EXTENSION notif;
SET client_min_messages = warning;

-- everything in the two schemas belongs to the extension and to notif_owner
CREATE TEMP VIEW made AS
	SELECT 'relation' AS what, c.oid, c.oid::regclass::text AS name, c.relowner AS owner, 'pg_class'::regclass AS catalog
	FROM pg_class c
	WHERE c.relnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S', 'm')
	UNION ALL
	SELECT 'function', p.oid, p.oid::regprocedure::text, p.proowner, 'pg_proc'::regclass
	FROM pg_proc p WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace)
	UNION ALL
	SELECT 'type', t.oid, t.oid::regtype::text, t.typowner, 'pg_type'::regclass
	FROM pg_type t
	WHERE t.typnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace)
	  AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND (SELECT relkind FROM pg_class c WHERE c.oid = t.typrelid) = 'c')
	UNION ALL
	SELECT 'schema', n.oid, n.nspname, n.nspowner, 'pg_namespace'::regclass
	FROM pg_namespace n WHERE n.nspname IN ('notif', 'notif_private');
SELECT what, count(*) > 0 AS some FROM made GROUP BY what ORDER BY what;
SELECT what, name, owner::regrole FROM made WHERE owner <> 'notif_owner'::regrole ORDER BY 1, 2;
SELECT what, name FROM made m
WHERE NOT EXISTS (SELECT FROM pg_depend d
				  WHERE d.classid = m.catalog AND d.objid = m.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
ORDER BY 1, 2;

-- the roles are what they should be: no attribute, no member among them
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin, rolconnlimit
FROM pg_roles WHERE rolname IN ('notif_owner', 'notif_worker', 'notif_admin', 'notif_publisher', 'notif_reader') ORDER BY 1;
SELECT m.roleid::regrole, m.member::regrole FROM pg_auth_members m
WHERE m.roleid IN (SELECT oid FROM pg_roles WHERE rolname IN ('notif_owner', 'notif_worker'));

-- functions pin their search_path; those with their owner's rights do not belong
-- to a superuser
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND l.lanname NOT IN ('c', 'internal')
  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false);
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND p.prosecdef AND r.rolsuper;

-- the parents of partitions have neither indexes nor constraints
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind = 'p'
  AND (EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid) OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid));
-- and none has a default partition
SELECT partrelid::regclass FROM pg_partitioned_table WHERE partdefid <> 0;

-- the script leaves no rows: a dump would carry them a second time
DO $$
DECLARE
	rel	regclass;
	n	bigint;
BEGIN
	FOR rel IN SELECT c.oid FROM pg_class c
		WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition LOOP
		EXECUTE format('SELECT count(*) FROM %s', rel) INTO n;
		IF n > 0 THEN
			RAISE WARNING '% has % rows', rel, n;
		END IF;
	END LOOP;
END
$$;

-- pg_dump carries every table with rows and every sequence, but no secret
SELECT c.oid::regclass AS not_dumped FROM pg_class c
WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind IN ('r', 'S')
  AND c.oid <> ALL ((SELECT extconfig FROM pg_extension WHERE extname = 'notif')::oid[])
ORDER BY c.relname;

-- once more, and away
DROP VIEW made;
DROP EXTENSION notif;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'notif%';
CREATE EXTENSION notif;
SELECT notif.define_category('transactional');
SELECT notif_private.make_partitions() > 0 AS made_partitions;
-- partitions made by workers depend on their parents, and go with them
DROP EXTENSION notif;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'notif%';
