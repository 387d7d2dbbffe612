# Kills of workers and of the whole server at random moments under load (F-P-7):
# nothing lost, nothing unexpected, twice only where it was unknown, never twice for
# a category that holds.  Each way to die that `make chaos` draws from comes once.
#
# CRASH_SEED: the moments of an earlier run.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifChaos;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{CRASH_SEED} // int(time);

srand($seed);
note("CRASH_SEED=$seed");

my $chaos = NotifChaos->new(name => 'crash');
my $round = 0;
$chaos->round(++$round, $_) for NotifChaos::ways();
$chaos->finish;
done_testing();
