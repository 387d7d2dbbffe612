# F-P-6: an orderly stop with 200 requests in the air leaves nothing in doubt.
#
# The postmaster signals a worker twice in a row, itself and its process group;
# the test does the same with room between the two, so that both are delivered.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('stop');

people($node, 200);

# 200 deliveries that must not go out twice, all sent and none answered.
sub fly
{
	my $before = $sandbox->count;

	one_value($node, q{SELECT count(notif.publish('code', 'p' || i, '{"n": 1}')) FROM generate_series(1, 200) i});
	ok(NotifTest::wait_for(sub { return $sandbox->count >= $before + 200 }), 'F-P-6: 200 are in the air');
	return one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'critical'});
}

sub nothing_in_doubt
{
	my ($name, $accepted) = @_;

	ok(wait_idle($node), "$name: all have ended");
	is( one_value($node, q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY state::text) FROM
			(SELECT state, count(*) AS n FROM notif_private.outcome GROUP BY state) x}),
		"accepted $accepted", "$name: all are known to be accepted");
	is($sandbox->count, $accepted, "$name: each was sent once");
	balanced($node, $name);
	return;
}

$sandbox->fault('delay_ms=700');
my $pid = fly();
kill 'TERM', $pid;
NotifTest::nap();
kill 'TERM', $pid;
ok(NotifTest::wait_for(sub { return !kill 0, $pid }), 'F-P-6: the dispatcher ends');
wait_running($node);
nothing_in_doubt('F-P-6: told twice at once', 200);

fly();
my $from = time;
$node->stop('fast');
cmp_ok(time - $from, '<', 6, 'F-P-6: a fast stop takes no longer than the grace and a second');
$node->start;
wait_running($node);
nothing_in_doubt('F-P-6: fast stop', 400);

# An answer that does not come within the grace is in doubt, and the stop does
# not wait for it.
$sandbox->fault('clear');
# the provider grants more than one stream once it has accepted something
one_value($node, q{SELECT notif.publish('code', 'p1', '{"n": 0}')});
ok(wait_idle($node), 'F-P-6: one is answered');
$sandbox->fault('hang=on');
fly();
$from = time;
$node->stop('fast');
cmp_ok(time - $from, '<', 7, 'F-P-6: nor does it wait for answers beyond the grace');
$sandbox->fault('clear');
$node->start;
wait_running($node);
ok(wait_idle($node), 'F-P-6: silence ends, too');
is( one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'held'}),
	'200', 'F-P-6: what was not answered is held');
balanced($node, 'F-P-6: after silence');
no_crash($node, 'no error but the one that was asked for');
$node->stop;
done_testing();
