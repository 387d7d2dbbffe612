-- Roles and schemas.
--
-- Roles belong to the cluster, so they are made only where absent and never
-- dropped.  notif_owner owns every object below; notif_worker is what the
-- background workers connect as: it may log in (PostgreSQL 15 has no other
-- way for a worker) but has no password and a connection limit of 0, which
-- workers are not counted against and clients are.
DO $do$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'notif_owner') THEN
		CREATE ROLE notif_owner NOLOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'notif_worker') THEN
		CREATE ROLE notif_worker LOGIN PASSWORD NULL CONNECTION LIMIT 0;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'notif_admin') THEN
		CREATE ROLE notif_admin NOLOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'notif_publisher') THEN
		CREATE ROLE notif_publisher NOLOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'notif_reader') THEN
		CREATE ROLE notif_reader NOLOGIN;
	END IF;
END
$do$;

-- The script that follows creates unqualified nothing and looks up nothing
-- but pg_catalog: every name of ours is written with its schema.
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE SCHEMA notif;
COMMENT ON SCHEMA notif IS
	'notif: notifications that live inside PostgreSQL. What applications and operators call and read.';

CREATE SCHEMA notif_private;
COMMENT ON SCHEMA notif_private IS
	'notif''s machinery: tables, queues and the functions its workers call. Nothing here is a contract.';
