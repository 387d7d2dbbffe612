# The fault points themselves: an ordinary build has none of them; in ours each
# is passed where it should be and does what it is told.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# ---- what a build contains -----------------------------------------------------

# Symbols and strings of a library that have to do with fault points.
sub traces
{
	my ($library) = @_;
	my ($symbols) = run_command([ 'nm', $library ]);
	my $bytes = slurp_file($library);

	return join ' ', grep { $symbols =~ /$_/ || $bytes =~ /$_/ }
	  qw(notif_fault fault_at_start fault_while_connecting), 'fault point';
}

SKIP:
{
	skip 'FAULTS=1 was asked for from outside: there is no other build', 1 if !-e 'build/notif.so';
	is(traces('build/notif.so'), '', 'an ordinary build has no fault point, neither symbol nor string');
}
is(traces('build/notif-faults.so'), 'notif_fault fault_at_start fault_while_connecting fault point',
	'which would be seen if it had');

# ---- settings ------------------------------------------------------------------

my ($node, $sandbox) = new_shop('points', conf => "restart_after_crash = on\n");

people($node, 5);
fault_points($node);
for my $call (q{set('K0', 'die')}, q{set('k1', 'die')}, q{set('K1', 'explode')}, q{set('K1', 'die', 0)}, q{set(NULL, 'die')},
	q{set('K1', 'die', tier => 'gold')}, q{set('K1', 'die', kind => 'launcher')}, q{passed('K99')}, q{key('')})
{
	my ($rc, $out, $err) = $node->psql('shop', "\\set VERBOSITY verbose\nSELECT notif_fault.$call");
	like($err, qr/ERROR:  22023:/, "refused: $call");
}

sub pid
{
	my ($kind, $tier) = @_;
	my $which = defined $tier ? "tier = '$tier'" : 'tier IS NULL';

	return one_value($node, qq{SELECT pid FROM notif_private.worker_status() WHERE kind = '$kind' AND $which});
}

# ---- error: nth, times, worker ---------------------------------------------------

my $critical = pid('router', 'critical');
my $standard = pid('router', 'standard');
fault($node, 'K1', 'error', nth => 2, times => 2, tier => 'standard');
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 1}')});
ok(wait_idle($node), 'a point does nothing before its nth passage');
is(one_value($node, q{SELECT passed, fired FROM notif_fault.passed('K1')}), '1|0', 'which is counted');
one_value($node, q{SELECT notif.publish('code', 'p1', '{"n": 1}')});
ok(wait_idle($node), 'nor for another worker');
is(one_value($node, q{SELECT passed, fired FROM notif_fault.passed('K1')}), '1|0', 'which is not');
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 2}')});
ok(wait_fault($node, 'K1', 2), 'then it acts as often as it was told');
ok(wait_idle($node), 'and no more');
is(one_value($node, q{SELECT passed, fired, waiting FROM notif_fault.passed('K1')}), '4|2|0', 'all of that is counted');
is(pid('router', 'standard') . pid('router', 'critical'), "$standard$critical", 'an error costs no process');
is(one_value($node, q{SELECT last_error FROM notif.workers WHERE kind = 'router' AND tier = 'standard'}),
	'XX000: fault point K1 of notif', 'and is shown');

# ---- wait ------------------------------------------------------------------------

my $holder = $node->background_psql('shop');
$holder->query_safe(q{SELECT notif_fault.hold('K2')});
fault($node, 'K2', 'wait', tier => 'standard');
my $before = $sandbox->count;
one_value($node, q{SELECT notif.publish('note', 'p2', '{"n": 1}')});
ok(wait_true($node, q{SELECT waiting = 1 FROM notif_fault.passed('K2')}), 'a worker waits at a point');
one_value($node, q{SELECT notif.publish('code', 'p2', '{"n": 1}')});
ok($sandbox->wait_count($before + 1), 'another one does not');
is($sandbox->count, $before + 1, 'while it waits nothing goes on there');
$holder->query_safe(q{SELECT notif_fault.release('K2')});
ok(wait_idle($node), 'until the lock is free');
is($sandbox->count, $before + 2, 'then it does');

$holder->query_safe(q{SELECT notif_fault.hold('K2')});
fault($node, 'K2', 'wait', tier => 'standard');
one_value($node, q{SELECT notif.publish('note', 'p2', '{"n": 2}')});
ok(wait_true($node, q{SELECT waiting = 1 FROM notif_fault.passed('K2')}), 'it waits again');
one_value($node, q{SELECT notif_fault.reset()});
ok(wait_idle($node), 'and goes on when the points are reset');

for my $point (qw(K1 K3))
{
	my $kind = $point eq 'K1' ? 'router' : 'dispatcher';

	$holder->query_safe("SELECT notif_fault.hold('$point')");
	fault($node, $point, 'wait', tier => 'standard');
	one_value($node, q{SELECT notif.publish('note', 'p2', '{"n": 3}')});
	ok(wait_true($node, "SELECT waiting = 1 FROM notif_fault.passed('$point')"), "the $kind waits at $point");
	my $pid = pid($kind, 'standard');
	kill 'TERM', $pid;
	ok(NotifTest::wait_for(sub { return !kill 0, $pid }), 'it ends when it is told to');
	is(one_value($node, "SELECT waiting FROM notif_fault.passed('$point')"), '0', 'and waits no more');
	$holder->query_safe("SELECT notif_fault.release('$point')");
	ok(wait_running($node), 'it is started again');
	ok(wait_idle($node), 'and does what it had begun');
}
is(crashes($node), 0, 'none of this has crashed the server');

# A worker that waits goes with its postmaster.
$holder->query_safe(q{SELECT notif_fault.hold('K9b')});
fault($node, 'K9b', 'wait', kind => 'upkeep');
kill 'TERM', pid('upkeep');
ok(wait_true($node, q{SELECT waiting = 1 FROM notif_fault.passed('K9b')}), 'upkeep waits before its loop');
my $upkeep = pid('upkeep');
$node->kill9;
ok(NotifTest::wait_for(sub { return !kill 0, $upkeep }), 'it ends with the postmaster');
eval { $holder->quit };
$node->start;
ok(wait_running($node), 'all is well after a start');

# ---- die ---------------------------------------------------------------------------

$node->safe_psql('postgres', 'ALTER ROLE notif_worker SET notif.fault_while_connecting = on');
for my $point (qw(K9a K9b))
{
	my $crashed = crashes($node);

	fault($node, $point, 'die', kind => 'router', tier => 'bulk');
	kill 'TERM', pid('router', 'bulk');
	ok(NotifTest::wait_for(sub { return crashes($node) > $crashed }), "$point kills");
	ok(wait_running($node), 'the server and all workers come back');
	is(crashes($node), $crashed + 1, 'once: a crash forgets what was set');
}
$node->stop;
done_testing();
