-- Everything that people can call or read says what it is.
SELECT p.oid::regprocedure AS uncommented FROM pg_proc p
WHERE p.pronamespace IN ('notif'::regnamespace, 'notif_private'::regnamespace)
  AND obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY 1;
SELECT c.oid::regclass AS uncommented FROM pg_class c
WHERE c.relnamespace = 'notif'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND obj_description(c.oid, 'pg_class') IS NULL
ORDER BY 1;
SELECT t.oid::regtype AS uncommented FROM pg_type t
WHERE t.typnamespace = 'notif'::regnamespace AND t.typtype IN ('e', 'd')
  AND obj_description(t.oid, 'pg_type') IS NULL
ORDER BY 1;
SELECT n.nspname AS uncommented FROM pg_namespace n
WHERE n.nspname IN ('notif', 'notif_private') AND obj_description(n.oid, 'pg_namespace') IS NULL;

-- the public functions that take arguments come with an example that calls them
SELECT p.oid::regprocedure AS no_example FROM pg_proc p
WHERE p.pronamespace = 'notif'::regnamespace AND p.pronargs > 0
  AND obj_description(p.oid, 'pg_proc') NOT LIKE '%Example: SELECT % notif.' || p.proname || '(%'
  AND obj_description(p.oid, 'pg_proc') NOT LIKE '%Example: SELECT notif.' || p.proname || '(%'
ORDER BY 1;
-- and name each of their arguments in the text, if there are several
SELECT p.proname AS function, a.name AS unexplained
FROM pg_proc p
CROSS JOIN LATERAL unnest(p.proargnames[1:p.pronargs]) WITH ORDINALITY a(name, place)
WHERE p.pronamespace = 'notif'::regnamespace AND p.pronargs > 2
  AND strpos(obj_description(p.oid, 'pg_proc'), a.name) = 0
ORDER BY 1, a.place;
