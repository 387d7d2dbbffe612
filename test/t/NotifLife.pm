# What the tests of the workers' life share: a cluster with notif, and waiting
# for workers on conditions.
package NotifLife;

use strict;
use warnings FATAL => 'all';

# A condition that does not come true within this time has failed.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 60; }

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Exporter 'import';

our @EXPORT = qw(new_node create_database wait_for_workers wait_for_state
  worker_pids worker_value no_surprises);

# Workers of one database: upkeep, conditions, and router and dispatcher of three tiers.
use constant WORKERS => 7;

# An initialised cluster, not started; %opts: conf => text, databases => list.
sub new_node
{
	my ($name, %opts) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $databases = $opts{databases} // 'shop';
	my $conf = $opts{conf} // '';

	$node->init(%{ $opts{init} // {} });
	$node->append_conf('postgresql.conf', <<"EOC");
shared_preload_libraries = 'notif'
notif.databases = '$databases'
max_worker_processes = 32
max_prepared_transactions = 10
log_statement = none
log_line_prefix = '%m [%p] %b %e '
$conf
EOC
	return $node;
}

# A database with the extension and all its workers.
sub create_database
{
	my ($node, $db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION notif');
	return wait_for_workers($node, $db);
}

# Waits until exactly $n (default: all) workers of $db run.  They are asked for
# in $asked, a database with the extension (default: $db itself).
sub wait_for_workers
{
	my ($node, $db, $n, $asked) = @_;
	$n //= WORKERS;

	return $node->poll_query_until($asked // $db,
		qq{SELECT count(*) = $n FROM notif_private.worker_status()
		   WHERE database = '$db' AND state = 'running' AND pid IS NOT NULL});
}

# Waits until upkeep of $db is shown in this state.
sub wait_for_state
{
	my ($node, $db, $state, $asked) = @_;

	return $node->poll_query_until($asked // $db,
		qq{SELECT state = '$state' FROM notif_private.worker_status()
		   WHERE database = '$db' AND kind = 'upkeep'});
}

# 'kind tier pid' lines of the workers of $db that run.
sub worker_pids
{
	my ($node, $db, $asked) = @_;

	return $node->safe_psql($asked // $db,
		qq{SELECT kind, tier, pid FROM notif_private.worker_status()
		   WHERE database = '$db' AND pid IS NOT NULL ORDER BY 1, 2});
}

# One column of one worker.
sub worker_value
{
	my ($node, $db, $kind, $tier, $column) = @_;
	my $which = defined $tier ? "tier = '$tier'" : 'tier IS NULL';

	return $node->safe_psql($db,
		qq{SELECT $column FROM notif_private.worker_status()
		   WHERE database = '$db' AND kind = '$kind' AND $which});
}

# The log must show no crash, and nothing else that the test did not provoke.
sub no_surprises
{
	my ($node, $name, %allow) = @_;
	my $log = slurp_file($node->logfile);
	my @bad = grep {
		/PANIC|was terminated by signal|TRAP:|FATAL|(?:notif \w+|background worker) \w+ ERROR|stuck spinlock/
	} split /\n/, $log;

	@bad = grep { $_ !~ $allow{except} } @bad if $allow{except};
	is(join("\n", @bad), '', $name);
	return;
}

1;
