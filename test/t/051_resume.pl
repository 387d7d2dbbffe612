# A switch that is turned holds at once: workers are woken when they can see what
# has changed.  Woken earlier in the commit, they look, find nothing new, and look
# again half a minute later only.  That takes a session that is interrupted in the
# middle of its commit, so it is tried often, on processors that are kept busy.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Below the 30 s after which a dispatcher looks at its configuration anyway.
use constant { ROUNDS => 60, SOON => 20 };

my ($node, $sandbox) = new_shop('resume');

people($node, 1);
my $session = $node->background_psql('shop', on_error_stop => 0);

my @busy;
for (1 .. 2)
{
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		# ends with the test, whatever becomes of it
		my $parent = getppid;

		1 while getppid == $parent;
		POSIX::_exit(0);
	}
	push @busy, $pid;
}

my ($sent, $slowest) = (0, 0);
for my $i (1 .. ROUNDS)
{
	$session->query(q{SELECT notif.pause('provider', 'apple')});
	$session->query(qq{SELECT notif.publish('note', 'p1', '{"n": $i}')});
	NotifTest::wait_for(sub { return $session->query(q{SELECT n FROM notif.state WHERE tier = 'standard' AND state = 'open'}) eq '1' })
	  or last;
	$session->query(q{SELECT notif.resume('provider', 'apple')});
	my $at = time;
	NotifTest::wait_for(sub { return $session->query(q{SELECT n FROM notif.state WHERE tier = 'standard' AND state = 'accepted'}) eq $i }, SOON)
	  or last;
	$slowest = time - $at if time - $at > $slowest;
	$sent++;
}
kill 'KILL', @busy;
waitpid $_, 0 for @busy;
note(sprintf 'the slowest took %.3f s', $slowest);
is($sent, ROUNDS, 'each time the provider is resumed, what waited for it is sent');
$session->quit;
is($sandbox->count, $sent, 'once');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
