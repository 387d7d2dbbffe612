# The rings turn and partitions expire while a publisher, a prepared transaction
# and a SELECT over the parents stay open.  Upkeep gives way, publishing goes on
# as fast as before, and nothing is lost.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('turn');

people($node, 100);
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 0}')) FROM generate_series(1, 100) i});
ok(wait_idle($node), 'warm');

# Milliseconds of single publishes, each a transaction: the median.
my $publisher = $node->background_psql('shop', on_error_stop => 0);
my $published = 100;
sub median
{
	my @ms;

	for my $i (1 .. 60)
	{
		my $at = time;
		$publisher->query("SELECT notif.publish('note', 'p$i', '{\"n\": 1}')");
		push @ms, 1000 * (time - $at);
		$published++;
	}
	return (sort { $a <=> $b } @ms)[30];
}
my $calm = median();

my $open = $node->background_psql('shop', on_error_stop => 0);
$open->query(q{BEGIN});
$open->query(q{SELECT notif.publish('note', 'p1', '{"n": 2}')});
one_value($node, q{BEGIN; SELECT notif.publish('note', 'p2', '{"n": 3}'); PREPARE TRANSACTION 'prepared'});
my $reader = $node->background_psql('shop', on_error_stop => 0);
$reader->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ});
$reader->query(q{SELECT (SELECT count(*) FROM notif_private.event), (SELECT count(*) FROM notif_private.outbox_standard), (SELECT count(*) FROM notif_private.outcome)});

# The rings turn as far as they can: by hand, at one byte, with work between.
sub turns { return one_value($node, q{SELECT coalesce(max(turn), 0) FROM notif_private.turn_standard}); }
my $before = turns();
for my $round (1 .. 20)
{
	one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 4}')) FROM generate_series(1, 50) i});
	$published += 50;
	wait_idle($node) if $round % 5 == 0;
	one_value($node, q{SELECT notif_private.turn_rings_standard(1)});
}
my $turned = turns() - $before;
cmp_ok($turned, '>', 0, 'the rings turn beside open transactions');
cmp_ok($turned, '<', 16, 'but not over what the reader has locked');

# An old partition is to go meanwhile.
one_value($node, q{SELECT notif_private.attach_range('event', 'event_20200101', notif_private.uuid_at('2020-01-01')::text,
	notif_private.uuid_at('2020-01-02')::text, (SELECT keys FROM notif_private.range_plan() WHERE parent = 'event'))});
one_value($node, q{SELECT pg_terminate_backend(pid) FROM notif_private.worker_status() WHERE kind = 'upkeep' AND pid IS NOT NULL});
ok(wait_running($node), 'upkeep starts again and looks for what has expired');
ok( wait_true($node, q{SELECT NOT EXISTS (SELECT FROM notif_private.range_partition WHERE child = 'event_20200101' AND NOT detaching)}),
	'an expired partition is being detached');
my $busy = median();
cmp_ok($busy, '<', 5 * $calm + 20, sprintf 'publish latency stays flat: %.1f ms, %.1f ms before', $busy, $calm);

# Everybody ends.
$open->query('COMMIT');
one_value($node, q{COMMIT PREPARED 'prepared'});
$published += 2;
$reader->query('COMMIT');
ok( wait_true($node, q{SELECT to_regclass('notif_private.event_20200101') IS NULL}), 'then the partition is dropped');
ok(wait_idle($node), 'all deliveries end');
for (1 .. 20)
{
	one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 5}')) FROM generate_series(1, 5) i});
	$published += 5;
	wait_idle($node);
	one_value($node, q{SELECT notif_private.turn_rings_standard(1)});
}
cmp_ok(turns() - $before - $turned, '>=', 10, 'the rings turn freely');
is(one_value($node, q{SELECT count(*) FROM notif_private.event}), $published, 'no event is missing');
is(one_value($node, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1}), "accepted|$published", 'each was delivered');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is("$totals->{delivered} $totals->{duplicated}", "$published 0", 'each arrived once');
balanced($node, 'after the turns');
no_crash($node, 'a clean log', qr/terminating background worker "notif upkeep"|57P01/);
$_->quit for $publisher, $open, $reader;
$node->stop;
done_testing();
