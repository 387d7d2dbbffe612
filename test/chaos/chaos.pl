# make chaos ITER=n: NotifChaos with a provider that misbehaves, n deaths drawn at
# random.  The checker's line is printed: attempted, acknowledged, delivered, lost,
# duplicated, unexpected, unknown, held.
#
# SEED repeats the draws of an earlier run, though not its timing.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifChaos;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{ITER} || 20;
my $seed = $ENV{SEED} || int(time);

srand($seed);
my $chaos = NotifChaos->new(name => 'chaos', wild => 1);
my @ways = NotifChaos::ways();
my $round = 0;

while ($round < $rounds)
{
	# all of them before any comes again, in an order of its own
	for my $way (sort { rand() <=> 0.5 } @ways)
	{
		last if ++$round > $rounds;
		$chaos->round($round, $way);
	}
}
$chaos->finish;
note(sprintf 'ITER=%d SEED=%s, deliveries were back after %.2f s at most', $rounds, $seed, $chaos->{slowest});
done_testing();
