# Settings take effect at a reload: the list of databases, notif.dispatch.
use strict;
use warnings FATAL => 'all';
use lib 'test/t', 'test/t/lib';
use NotifLife;
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('reload', databases => 'one');
$node->start;
create_database($node, 'one');

sub set
{
	my ($name, $value) = @_;

	# the last one counts
	$node->append_conf('postgresql.conf', "$name = '$value'");
	$node->reload;
	return;
}

my $pids = worker_pids($node, 'one');
set('notif.databases', 'one, "Two words", one');
$node->safe_psql('postgres', 'CREATE DATABASE "Two words"');
$node->safe_psql('Two words', 'CREATE EXTENSION notif');
ok(wait_for_workers($node, 'Two words'), 'a database added to the list gets its workers');
is(worker_pids($node, 'one'), $pids, 'those of the other one go on');

# Only upkeep stays when dispatching is off.
set('notif.dispatch', 'off');
ok(wait_for_workers($node, 'one', 1), 'notif.dispatch = off ends routers and dispatchers');
is($node->safe_psql('one', q{SELECT kind FROM notif_private.worker_status() WHERE database = 'one' AND pid IS NOT NULL}),
	'upkeep', 'upkeep stays');
set('notif.dispatch', 'on');
ok(wait_for_workers($node, 'one'), 'and on brings them back');
ok(wait_for_workers($node, 'Two words'), 'in every database');

# Out of the list.
set('notif.databases', 'one');
ok( $node->poll_query_until('one',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'Two words' AND backend_type LIKE 'notif%'}),
	'a database taken from the list loses its workers');
ok( $node->poll_query_until('one', q{SELECT count(*) = 7 FROM notif_private.worker_status()}),
	'and its place');
set('notif.databases', 'one,"Two words"');
ok(wait_for_workers($node, 'Two words'), 'it can come back');

# The bulk tier stands back for others, in the process and in its group of tasks,
# if the system makes such groups; who may not take it back keeps it.
sub niceness
{
	my ($db) = @_;
	my @found;

	foreach my $worker (split /\n/, $node->safe_psql('one', qq{
		SELECT kind || ' ' || tier, pid FROM notif_private.worker_status()
		WHERE database = '$db' AND kind IN ('router', 'dispatcher') AND tier <> 'standard' AND pid IS NOT NULL ORDER BY 1}))
	{
		my ($name, $pid) = split /\|/, $worker;
		my $process = (split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //rs)[16];
		my ($group) = -e "/proc/$pid/autogroup" ? slurp_file("/proc/$pid/autogroup") =~ /nice (-?\d+)/ : ($process);
		push @found, "$name $process $group";
	}
	return join ', ', @found;
}
my $own = getpriority(0, 0);
my $nice = sub {
	my ($bulk) = map { $_ + $own } @_;
	return "dispatcher bulk $bulk $bulk, dispatcher critical $own 0, router bulk $bulk $bulk";
};
ok(NotifTest::wait_for(sub { niceness('one') eq $nice->(5) }), 'notif.bulk_nice is 5') or diag niceness('one');
set('notif.bulk_nice', 7);
ok(NotifTest::wait_for(sub { niceness('one') eq $nice->(7) }), 'more of it takes effect at a reload') or diag niceness('one');
set('notif.bulk_nice', 0);
set('notif.dispatch', 'off');
ok(wait_for_workers($node, 'one', 1), 'less of it');
set('notif.dispatch', 'on');
ok(wait_for_workers($node, 'one'), 'when they have started anew');
ok(NotifTest::wait_for(sub { niceness('one') eq $nice->(0) }), 'none, in fact') or diag niceness('one');

# What cannot be a list leaves the old value in force.
my $offset = -s $node->logfile;
set('notif.databases', join(',', map { "db$_" } 1 .. 17));
ok($node->wait_for_log(qr/invalid value for parameter "notif.databases"/, $offset), 'more than 16 databases are refused');
is($node->safe_psql('one', 'SHOW notif.databases'), 'one,"Two words"', 'the old list stays in force');
$offset = -s $node->logfile;
set('notif.databases', 'one,"open');
ok($node->wait_for_log(qr/invalid value for parameter "notif.databases"/, $offset), 'bad syntax is refused');

# A launcher that dies finds the workers when it is started anew.
set('notif.databases', 'one,"Two words"');
$pids = worker_pids($node, 'one');
my ($launcher) = slurp_file("/proc/" . $node->safe_psql('one', 'SELECT pid FROM pg_stat_activity WHERE backend_type = $$checkpointer$$') . "/stat") =~ /^\d+ \(.*?\) \S (\d+)/;
my @found = grep { (-r "/proc/$_/cmdline") && slurp_file("/proc/$_/cmdline") =~ /notif launcher/ }
  map { /^\d+$/ ? $_ : () } split /\s+/, slurp_file("/proc/$launcher/task/$launcher/children");
is(scalar @found, 1, 'there is one launcher');
$offset = -s $node->logfile;
kill 'TERM', $found[0];
ok($node->wait_for_log(qr/background worker "notif launcher" \(PID $found[0]\) exited with exit code 1/, $offset),
	'a terminated launcher ends');
$node->safe_psql('one', q{SELECT pg_terminate_backend(pid) FROM notif_private.worker_status() WHERE database = 'one' AND kind = 'upkeep'});
ok( $node->poll_query_until('one',
		q{SELECT restarts >= 1 AND state = 'running' FROM notif_private.worker_status() WHERE database = 'one' AND kind = 'upkeep'}),
	'its successor looks after the workers');
my $now = worker_pids($node, 'one');
s/^upkeep.*\n?//m for $pids, $now;
is($now, $pids, 'which have gone on meanwhile');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command/);
done_testing();
