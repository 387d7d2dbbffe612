-- Who may do what.
SET client_min_messages = warning;
CREATE ROLE regress_notif_nobody;
CREATE ROLE regress_notif_publisher IN ROLE notif_publisher;
CREATE ROLE regress_notif_reader IN ROLE notif_reader;
CREATE ROLE regress_notif_admin IN ROLE notif_admin;

-- the matrix of functions
SELECT p.oid::regprocedure AS function,
	   has_function_privilege('regress_notif_nobody', p.oid, 'EXECUTE') AS nobody,
	   has_function_privilege('regress_notif_publisher', p.oid, 'EXECUTE') AS publisher,
	   has_function_privilege('regress_notif_reader', p.oid, 'EXECUTE') AS reader,
	   has_function_privilege('regress_notif_admin', p.oid, 'EXECUTE') AS admin
FROM pg_proc p WHERE p.pronamespace = 'notif'::regnamespace ORDER BY p.proname, 1::text;
-- the views: readers and administrators read all of them, and only that
SELECT r.rolname, count(*) FILTER (WHERE has_table_privilege(r.oid, c.oid, 'SELECT')) = count(*) AS reads_all,
	   count(*) FILTER (WHERE has_table_privilege(r.oid, c.oid, 'SELECT')) AS reads,
	   count(*) FILTER (WHERE has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) AS writes
FROM pg_roles r CROSS JOIN pg_class c
WHERE r.rolname LIKE 'regress\_notif\_%' AND c.relnamespace = 'notif'::regnamespace AND c.relkind = 'v'
GROUP BY r.rolname ORDER BY r.rolname;
SELECT r.rolname, has_schema_privilege(r.oid, 'notif', 'USAGE') AS uses_notif, has_schema_privilege(r.oid, 'notif', 'CREATE') AS creates,
	   has_schema_privilege(r.oid, 'notif_private', 'USAGE') AS uses_private
FROM pg_roles r WHERE r.rolname LIKE 'regress\_notif\_%' OR r.rolname = 'notif_worker' ORDER BY r.rolname;

-- nobody but the owner has any right on a table or sequence of the machinery
SELECT r.rolname, c.oid::regclass
FROM pg_roles r CROSS JOIN pg_class c
WHERE (r.rolname LIKE 'regress\_notif\_%' OR r.rolname = 'notif_worker')
  AND c.relnamespace = 'notif_private'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
-- workers call their entry points and nothing else
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace)
  AND has_function_privilege('notif_worker', p.oid, 'EXECUTE') <> starts_with(p.proname, 'worker_')
ORDER BY 1::text;
-- of the machinery readers call only what the views do
SELECT r.rolname, p.oid::regprocedure FROM pg_roles r CROSS JOIN pg_proc p
WHERE r.rolname LIKE 'regress\_notif\_%' AND p.pronamespace = 'notif_private'::regnamespace
  AND has_function_privilege(r.oid, p.oid, 'EXECUTE') ORDER BY 1, 2::text;

-- nothing is granted to PUBLIC
SELECT 'schema' AS what, n.nspname::text AS name FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname LIKE 'notif%' AND a.grantee = 0
UNION ALL
SELECT 'function', p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND a.grantee = 0
UNION ALL
SELECT 'relation', c.oid::regclass::text FROM pg_class c,
	aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE c.relnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee = 0
UNION ALL
SELECT 'type', t.oid::regtype::text FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
WHERE t.typnamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace) AND a.grantee = 0
  AND (t.typtype IN ('e', 'd') OR t.typtype = 'c' AND (SELECT relkind FROM pg_class c WHERE c.oid = t.typrelid) = 'c');

-- and in deed
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/sql/include/try.sql'
\set ECHO none
\i :helpers
\set ECHO all

SELECT notif.define_category('transactional');
SELECT notif.define_type('order.shipped', 'transactional', title => 'On its way');
SELECT notif.set_secret('k', 'the secret itself');
SELECT notif.upsert_recipient('ada');

SET ROLE regress_notif_nobody;
SELECT try(c) FROM (VALUES
	('SELECT notif.upsert_recipient(''eve'')'),
	('SELECT count(*) FROM notif.types'),
	('SELECT notif.now()')) v(c);
RESET ROLE;

SET ROLE regress_notif_publisher;
SELECT try(c) FROM (VALUES
	('SELECT notif.upsert_recipient(''bob'')'),
	('SELECT notif.register_device(''bob'', ''phone'', ''ios'', repeat(''ab'', 32))'),
	('SELECT notif.subscribe(''bob'', ''news'')'),
	('SELECT notif.publish(''order.shipped'', recipient => ''bob'') IS NOT NULL'),
	('SELECT notif.unread_count(''bob'')'),
	('SELECT notif.define_category(''mine'')'),
	('SELECT notif.pause(''everything'')'),
	('SELECT count(*) FROM notif.recipients'),
	('SELECT count(*) FROM notif_private.event'),
	('SELECT notif_private.make_partitions()')) v(c);
RESET ROLE;

SET ROLE regress_notif_reader;
SELECT try(c) FROM (VALUES
	('SELECT count(*) FROM notif.recipients'),
	('SELECT count(*) FROM notif.workers'),
	('SELECT count(*) FROM notif.providers'),
	('SELECT count(*) FROM notif.queue'),
	('SELECT count(*) > 0 FROM notif.state'),
	('SELECT count(*) = 0 FROM notif.scheduled'),
	('SELECT count(*) = 0 FROM notif.releases'),
	('SELECT count(*) FROM notif.deliveries'),
	('SELECT count(*) > 10 FROM notif.health()'),
	('SELECT notif.upsert_recipient(''eve'')'),
	('DELETE FROM notif.recipients RETURNING ref'),
	('SELECT value FROM notif_private.secret')) v(c);
RESET ROLE;

SET ROLE regress_notif_admin;
SELECT try(c) FROM (VALUES
	('SELECT notif.define_category(''security'')'),
	('SELECT notif.set_secret(''k2'', ''another'')'),
	('SELECT value FROM notif_private.secret'),
	('UPDATE notif_private.endpoint SET state = ''invalid'' RETURNING id'),
	('SELECT token FROM notif_private.provider_token'),
	('SELECT notif.pause(''tier'', ''bulk'')')) v(c);
-- the log names the session's user, not the owner of the function
SELECT by = session_user AS by_me, what, name, paused, holds FROM notif.switches;
RESET ROLE;

DROP ROLE regress_notif_nobody, regress_notif_publisher, regress_notif_reader, regress_notif_admin;
