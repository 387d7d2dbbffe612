# F-P-15: too few worker slots: said once, with what to do, and tried again.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('slots');
$node->adjust_conf('postgresql.conf', 'max_worker_processes', '5');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION notif');

ok($node->wait_for_log(qr/53400 LOG:  notif is out of background worker slots/), 'F-P-15: exhaustion is logged with its SQLSTATE');
like(slurp_file($node->logfile), qr/HINT:  Set max_worker_processes to at least 16/, 'with a hint');

# 5 slots less launcher and the server's own logical replication launcher
ok(wait_for_workers($node, 'shop', 3), 'F-P-15: as many workers run as fit');
my $turns = worker_value($node, 'shop', 'upkeep', undef, 'turns');
$node->safe_psql('shop', q{SELECT pg_terminate_backend(pid) FROM notif_private.worker_status() WHERE pid IS NOT NULL});
ok( $node->poll_query_until('shop',
		q{SELECT count(*) >= 3 FROM notif_private.worker_status() WHERE state = 'running' AND started_at > now() - interval '1 minute'}),
	'F-P-15: workers that end make room for others');
is(() = slurp_file($node->logfile) =~ /notif is out of background worker slots/g, 1, 'and it is said once');

$node->adjust_conf('postgresql.conf', 'max_worker_processes', '16');
$node->restart;
ok(wait_for_workers($node, 'shop'), 'all run when there are 16');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command/);
done_testing();
