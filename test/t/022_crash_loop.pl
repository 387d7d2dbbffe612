# F-P-11: a worker that fails or kills the server at every start.  It is started
# ever more slowly, the operator gets the time to switch it off, the others work,
# and no message is damaged.  F-P-12: the database goes while a worker connects.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

my ($node, $sandbox) = new_shop('loop', conf => "restart_after_crash = on\n");

people($node, 5);
fault_points($node);

# When the log's lines that match were written, in seconds.
sub logged_at
{
	my ($pattern) = @_;

	return map { /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+)/ ? timegm(0, $5, $4, $3, $2 - 1, $1) + $6 : () }
	  grep { $_ =~ $pattern } split /\n/, slurp_file($node->logfile);
}

sub gaps { my (@t) = @_; return map { $t[$_] - $t[ $_ - 1 ] } 1 .. $#t; }

sub router { return one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE kind = 'router' AND tier = 'standard'}); }

# ---- error ---------------------------------------------------------------------

my $error = qr/notif router XX000 \w+:  fault point K9b/;
fault($node, 'K9b', 'error', times => 5, kind => 'router', tier => 'standard');
my $pid = router();
kill 'TERM', $pid;
ok(NotifTest::wait_for(sub { return !kill 0, $pid }), 'F-P-11: the router is to start anew');
my $event = one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 1}')});
ok(wait_fault($node, 'K9b', 2), 'F-P-11, error: its start fails');
my $code = one_value($node, q{SELECT notif.publish('code', 'p1', '{"n": 1}')});
ok(wait_true($node, "SELECT count(*) = 1 FROM notif.deliveries WHERE event = '$code' AND state = 'accepted'"),
	'F-P-11, error: other tiers go on');
ok(wait_fault($node, 'K9b', 5), 'F-P-11, error: and fails, five times');
ok(wait_idle($node), 'F-P-11, error: then all deliveries end');
is(state_of($node, $event), 'accepted 1', 'F-P-11, error: what waited was delivered');
my @gaps = gaps(logged_at($error));
is(scalar @gaps, 4, 'F-P-11, error: five starts failed');
cmp_ok($gaps[$_], '>=', 0.9 * 2**$_, "F-P-11, error: pause $_ has doubled") for 0 .. 3;
is(crashes($node), 0, 'F-P-11, error: the server has not noticed');

# ---- die -------------------------------------------------------------------------

my $killed = qr/notif router.* was terminated by signal 9/;
$node->append_conf('postgresql.conf', "notif.fault_at_start = 'K9b die 1 1 router standard'\n");
$event = one_value($node, q{SELECT notif.pause('tier', 'standard'); SELECT notif.publish('money', 'p2', '{"n": 1}')});
$event =~ s{^t\s+}{};
$node->restart;
ok(NotifTest::wait_for(sub { return logged_at($killed) >= 5 }), 'F-P-11, die: the server goes down again and again, five times');
@gaps = gaps(logged_at($killed));
cmp_ok($gaps[1], '>=', 0.9, 'F-P-11, die: from the third start on the worker is held back');
cmp_ok($gaps[2], '>=', 1.9, 'F-P-11, die: and ever longer');
ok( $node->wait_for_log(qr/notif starts the router worker \(tier standard\) of database "shop" in 8 s only\n.*DETAIL:  Its last 5 starts ended in a crash/),
	'F-P-11, die: which is logged');
ok( wait_true($node, q{SELECT crashes = 5 AND state = 'waiting after crashes' AND last_error LIKE '5 starts in a row%'
		FROM notif_private.worker_status() WHERE kind = 'router' AND tier = 'standard'}),
	'F-P-11, die: and shown');
is( one_value($node, q{SELECT ok, hint LIKE '%router standard: 5 starts in a row%' FROM notif.health() WHERE check_name = 'workers'}),
	'f|t', 'F-P-11, die: notif.health() says so');
ok( wait_true($node, qq{SELECT count(*) = @{[ NotifTest::WORKERS - 1 ]} FROM notif_private.worker_status() WHERE state = 'running' AND crashes = 0}),
	'F-P-11, die: all the others run meanwhile');
$code = one_value($node, q{SELECT notif.publish('code', 'p2', '{"n": 2}')});
ok(wait_true($node, "SELECT count(*) = 1 FROM notif.deliveries WHERE event = '$code' AND state = 'accepted'"),
	'F-P-11, die: and deliver');

# The operator uses the pause.
$node->safe_psql('postgres', 'ALTER SYSTEM SET notif.dispatch = off');
$node->reload;
ok(wait_running($node, 1), 'F-P-11, die: only upkeep is left');
my $deaths = logged_at($killed);
$node->adjust_conf('postgresql.conf', 'notif.fault_at_start', "''");
# the setting is read when shared memory is made: the table of this life is armed
one_value($node, 'SELECT notif_fault.reset()');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET notif.dispatch');
$node->reload;
ok(wait_running($node), 'F-P-11, die: when it is mended all run again');
is(scalar(logged_at($killed)), $deaths, 'F-P-11, die: without another crash');
is(one_value($node, q{SELECT max(crashes) FROM notif_private.worker_status()}), 0, 'F-P-11, die: and their crashes are forgotten');
one_value($node, q{SELECT notif.resume('tier', 'standard')});
ok(wait_idle($node), 'F-P-11: all deliveries end');
is(state_of($node, $event), 'accepted 1', 'F-P-11: what waited all the time was delivered');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-P-11: the checker is content');
is("$totals->{delivered} $totals->{duplicated} $totals->{unknown}", '4 0 0', 'F-P-11: no message was damaged');
balanced($node, 'F-P-11');
$node->stop;
ok(!-e $node->data_dir . '/notif.starts', 'an orderly end leaves no memory of crashes');

# ---- the database goes ---------------------------------------------------------------

$node->append_conf('postgresql.conf', "notif.databases = 'shop, gone'\n");
$node->start;
ok(wait_running($node), 'workers of shop run');
my $crashes = crashes($node);
$node->safe_psql('postgres', 'ALTER ROLE notif_worker SET notif.fault_while_connecting = on');
for my $point (qw(K9a K9b))
{
	my $there = q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'gone' AND backend_type LIKE 'notif%'};

	$node->safe_psql('postgres', 'CREATE DATABASE gone');
	my $holder = $node->background_psql('gone');
	$holder->query_safe('CREATE EXTENSION notif');
	ok( wait_true($node, qq{SELECT count(*) = @{[ NotifTest::WORKERS ]} FROM notif_private.worker_status() WHERE database = 'gone' AND state = 'running' AND pid IS NOT NULL}),
		"F-P-12, $point: workers of the database run");
	# the lock they wait for is one of that database
	my $key = one_value($node, "SELECT notif_fault.key('$point')");
	$holder->query_safe("SELECT pg_advisory_lock(1852206196, $key)");
	fault($node, $point, 'wait', kind => 'dispatcher', times => 3);
	kill 'TERM', split /\n/, one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE database = 'gone' AND kind = 'dispatcher'});
	ok(wait_true($node, "SELECT waiting = 3 FROM notif_fault.passed('$point')"), "F-P-12, $point: three are connecting");
	my $from = time;
	$node->safe_psql('template1', 'DROP DATABASE gone WITH (FORCE)');
	cmp_ok(time - $from, '<', 5, "F-P-12, $point: DROP DATABASE does not wait for them");
	ok(wait_true($node, "SELECT waiting = 0 FROM notif_fault.passed('$point')"), "F-P-12, $point: they have ended");
	ok(wait_true($node, q{SELECT bool_and(state = 'waiting for database') FROM notif_private.worker_status() WHERE database = 'gone' AND kind = 'upkeep'}),
		"F-P-12, $point: and their database is waited for");
	eval { $holder->quit };
}
is(crashes($node), $crashes, 'F-P-12: the server has not crashed');
my @bad = grep { /exited with exit code [^01]|terminated by signal (?!9)/ } split /\n/, slurp_file($node->logfile);
is("@bad", '', 'F-P-12: every worker ended with a clean exit code');
$node->stop;
done_testing();
