# Workers come up by themselves when there is something to work in, as an
# ordinary role, hold nothing while idle, and go down quickly.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('start', databases => 'shop, observer', conf => 'restart_after_crash = on');
$node->start;

# 'observer' has the extension first, so that it can be asked about 'shop'
create_database($node, 'observer');
ok(1, 'workers start without a restart once database and extension exist');
ok(wait_for_state($node, 'shop', 'waiting for database', 'observer'),
	'a missing database is waited for');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
is(worker_pids($node, 'shop', 'observer'), '', 'no worker in a database without the extension');

$node->safe_psql('shop', 'CREATE EXTENSION notif');
ok(wait_for_workers($node, 'shop'), 'CREATE EXTENSION brings the workers');

is( $node->safe_psql('shop',
		q{SELECT DISTINCT usename, rolsuper FROM pg_stat_activity JOIN pg_roles ON rolname = usename
		  WHERE backend_type LIKE 'notif%'}),
	'notif_worker|f', 'all workers run as notif_worker, who is no superuser');
is( $node->safe_psql('shop',
		q{SELECT count(*) FROM notif_private.worker_status() w JOIN pg_stat_activity a USING (pid)
		  WHERE a.datname = w.database}),
	'14', 'shared memory and pg_stat_activity agree on who works where');

my ($rc, $out, $err) = $node->psql('shop', 'SELECT 1', extra_params => [ '-U', 'notif_worker' ]);
isnt($rc, 0, 'a client cannot log in as notif_worker');
like($err, qr/too many connections for role "notif_worker"/, 'because of its connection limit');

ok( $node->poll_query_until('shop',
		q{SELECT count(*) = 14 FROM pg_stat_activity
		  WHERE backend_type LIKE 'notif%' AND state = 'idle' AND wait_event IS NOT NULL
			AND backend_xmin IS NULL AND backend_xid IS NULL AND xact_start IS NULL}),
	'idle workers hold neither snapshot nor transaction');

# What databases and roles set must not reach the workers.
$node->safe_psql('shop', q{
	ALTER DATABASE shop SET default_transaction_read_only = on;
	ALTER DATABASE shop SET default_transaction_isolation = 'serializable';
	ALTER ROLE notif_worker SET search_path = nowhere;
	ALTER ROLE notif_worker SET lock_timeout = '1ms';
	ALTER ROLE notif_worker SET idle_in_transaction_session_timeout = '1ms';
	ALTER ROLE notif_worker SET session_replication_role = replica;
});
my $old = worker_pids($node, 'shop');
$node->safe_psql('shop', q{SELECT pg_terminate_backend(pid) FROM notif_private.worker_status() WHERE database = 'shop' AND pid IS NOT NULL});
ok( $node->poll_query_until('shop',
		q{SELECT count(*) = 7 FROM notif_private.worker_status()
		  WHERE database = 'shop' AND state = 'running' AND restarts = 1}),
	'terminated workers are started again');
isnt(worker_pids($node, 'shop'), $old, 'as other processes');
ok( $node->poll_query_until('shop',
		q{SELECT turns >= 2 FROM notif_private.worker_status()
		  WHERE database = 'shop' AND kind = 'upkeep'}),
	'upkeep works');
is( $node->safe_psql('shop', q{SELECT count(*) FROM notif_private.worker_status() WHERE last_error IS NOT NULL}),
	'0', 'and nobody minds what ALTER ROLE and ALTER DATABASE have set');
is( $node->safe_psql('shop',
		q{SELECT count(*) > 0 FROM pg_stat_all_tables WHERE schemaname = 'pg_catalog' AND n_tup_ins > 0 AND relname = 'pg_inherits'}),
	't', 'the statistics collector has heard of what workers write');

# A crash of any backend takes the workers down; the launcher brings them back.
my $boot = $node->safe_psql('shop', 'SELECT notif_private.boot_id()');
my $victim = $node->background_psql('shop');
my $victim_pid = $victim->query_safe('SELECT pg_backend_pid()');
chomp $victim_pid;
kill 'KILL', $victim_pid;
eval { $victim->quit };
ok(wait_for_workers($node, 'shop'), 'all workers are back after a crash of the server');
isnt($node->safe_psql('shop', 'SELECT notif_private.boot_id()'), $boot, 'with another boot id');

my $from = time;
$node->stop('fast');
cmp_ok(time - $from, '<', 10, 'fast shutdown does not wait for idle workers');
no_surprises($node, 'no unexpected message',
	except => qr/too many connections|terminated by signal 9|terminating connection|in recovery mode|not yet accepting|starting up/);

done_testing();
