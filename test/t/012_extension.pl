# DROP EXTENSION and CREATE EXTENSION under running workers (P16), and what only
# looks like the extension (P17).
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('extension', databases => 'shop,observer');
$node->start;
create_database($node, 'observer');
create_database($node, 'shop');

for my $round (1 .. 4)
{
	$node->safe_psql('shop', 'DROP EXTENSION notif');
	$node->safe_psql('shop', 'CREATE EXTENSION notif') if $round % 2;
	if ($round % 2 == 0)
	{
		ok(wait_for_state($node, 'shop', 'waiting for extension', 'observer'), "round $round: workers leave");
		ok( $node->poll_query_until('observer',
				q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shop' AND backend_type LIKE 'notif%'}),
			"round $round: all of them");
		$node->safe_psql('shop', 'CREATE EXTENSION notif');
	}
	ok(wait_for_workers($node, 'shop'), "round $round: workers come back");
}

my $pids = worker_pids($node, 'shop');
$node->safe_psql('shop', 'BEGIN; DROP EXTENSION notif; ROLLBACK');
is(worker_pids($node, 'shop'), $pids, 'a rolled back DROP EXTENSION leaves the workers alone');

# Replaced in one transaction: workers of the old one must not work on the new.
$node->safe_psql('shop', 'BEGIN; DROP EXTENSION notif; CREATE EXTENSION notif; COMMIT');
ok( $node->poll_query_until('shop',
		q{SELECT count(*) = 7 FROM notif_private.worker_status()
		  WHERE database = 'shop' AND state = 'running' AND restarts >= 1}),
	'an extension replaced in one transaction gets new workers');

# Schemas of these names are not the extension.
$node->safe_psql('shop', 'DROP EXTENSION notif');
$node->safe_psql('shop', 'DROP SCHEMA IF EXISTS notif CASCADE; DROP SCHEMA IF EXISTS notif_private CASCADE');
$node->safe_psql('shop', 'CREATE SCHEMA notif; CREATE SCHEMA notif_private');
ok(wait_for_state($node, 'shop', 'waiting for extension', 'observer'), 'a schema named notif is not the extension');
is( $node->safe_psql('observer',
		q{SELECT count(*) FROM notif_private.worker_status() WHERE database = 'shop' AND last_error IS NOT NULL}),
	'0', 'and no error comes of it');

$node->safe_psql('shop', q{DROP SCHEMA notif, notif_private; DO $$ BEGIN EXECUTE 'CREATE EXTENSION notif'; END $$});
ok(wait_for_workers($node, 'shop'), 'CREATE EXTENSION inside a function is noticed as well');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command/);
done_testing();
