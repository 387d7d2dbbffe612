# Commands on databases do not wait for workers nor are they refused because of
# them (P13, P15); who may not run a command cannot disturb the workers by it.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('ddl', databases => 'shop,observer,renamed');
$node->start;
create_database($node, 'observer');
create_database($node, 'shop');

sub quickly
{
	my ($sql, $name) = @_;
	my $from = time;

	$node->safe_psql('postgres', $sql);
	cmp_ok(time - $from, '<', 5, $name);
	return;
}

# ProcSignalBarrier: every backend must answer, in whatever database it is.
quickly('CREATE DATABASE other', 'CREATE DATABASE beside busy workers');
quickly('DROP DATABASE other', 'DROP DATABASE of another database');

quickly('CREATE DATABASE clone TEMPLATE shop', 'CREATE DATABASE from the workers\' own');
ok(wait_for_workers($node, 'shop'), 'workers are back after being copied from');

my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
quickly('ALTER DATABASE shop SET TABLESPACE elsewhere', 'ALTER DATABASE SET TABLESPACE');
ok(wait_for_workers($node, 'shop'), 'workers are back after the move');
quickly('ALTER DATABASE shop SET TABLESPACE pg_default', 'and back again');
ok(wait_for_workers($node, 'shop'), 'workers are back once more');

quickly('ALTER DATABASE shop RENAME TO renamed', 'ALTER DATABASE RENAME');
ok(wait_for_workers($node, 'renamed'), 'workers follow to a listed name');
ok(wait_for_state($node, 'shop', 'waiting for database', 'observer'), 'and wait for the old one');

# a command that fails after the workers were stopped
my $old = worker_pids($node, 'renamed');
my ($rc, $out, $err) = $node->psql('postgres', 'ALTER DATABASE renamed RENAME TO observer');
like($err, qr/already exists/, 'RENAME to an existing name fails');
ok(wait_for_workers($node, 'renamed'), 'workers come back after a failed command');
isnt(worker_pids($node, 'renamed'), $old, 'they had been stopped for it');

# a transaction that is rolled back
$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE renamed RENAME TO shop; ROLLBACK');
ok(wait_for_workers($node, 'renamed'), 'workers come back after a rollback');

# a session that dies while it holds the workers off
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN; ALTER DATABASE renamed RENAME TO shop');
ok(wait_for_state($node, 'renamed', 'held by database command', 'observer'), 'an open command holds them off');
chomp $pid;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
eval { $session->quit };
ok(wait_for_workers($node, 'renamed'), 'workers come back when its session is gone');

# nobody may disturb them by a command he may not run
$node->safe_psql('postgres', 'CREATE ROLE nobody_special LOGIN CREATEDB');
$old = worker_pids($node, 'renamed');
for my $sql ('DROP DATABASE renamed', 'ALTER DATABASE renamed RENAME TO mine',
	'CREATE DATABASE mine TEMPLATE renamed', 'ALTER DATABASE renamed SET TABLESPACE elsewhere')
{
	($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', 'nobody_special' ]);
	like($err, qr/must be owner|permission denied/, "refused: $sql");
}
is(worker_pids($node, 'renamed'), $old, 'and the workers have not noticed');

quickly('DROP DATABASE renamed', 'DROP DATABASE of the workers\' own');
ok(wait_for_state($node, 'renamed', 'waiting for database', 'observer'), 'there is nothing to work in any more');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_database WHERE datconnlimit = -2'),
	'0', 'no database is left half dropped');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command/);
done_testing();
