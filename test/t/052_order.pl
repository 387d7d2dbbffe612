# R5: per endpoint and tier one attempt in the air at a time, in the router's order,
# also over retries; types that are not ordered overtake; of those that wait with one
# collapse key only the newest goes out; one person's flood delays nobody else.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('order');

people($node, 50);
one_value($node, q{SELECT notif.define_type('race', 'retry', title => 'Race {n}', ordered => false)});

# The numbers in the bodies of a device's accepted requests, and how close two came.
sub arrivals
{
	my ($device) = @_;
	my (@numbers, $closest, $before);

	for my $line (grep { $_->{token} eq token($device) } $sandbox->ledger)
	{
		push @numbers, $line->{body} =~ /(\d+)"/ ? $1 : '?';
		my $gap = defined $before ? $line->{time_us} - $before : undef;
		$closest = $gap if defined $gap && (!defined $closest || $gap < $closest);
		$before = $line->{time_us};
	}
	return (\@numbers, $closest);
}

# ---- one at a time --------------------------------------------------------------

$sandbox->fault('delay_ms=20');
one_value($node, q{SELECT count(notif.publish('note', 'p1', jsonb_build_object('n', i))) FROM generate_series(1, 15) i});
ok(wait_idle($node), 'R5: all end');
my ($numbers, $closest) = arrivals(1);
is("@$numbers", join(' ', 1 .. 15), 'R5: in the order of publishing');
cmp_ok($closest, '>=', 20_000, 'R5: the next one leaves after the answer to the one before');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE attempt > 1}), '0', 'R5: what waits its turn for a moment stays in memory');

# ---- over retries -----------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('status=503&count=7');
one_value($node, qq{SELECT count(notif.publish('note', 'p$_', jsonb_build_object('n', i))) FROM generate_series(1, 10) i}) for 2 .. 4;
ok(wait_idle($node), 'R5: all end after failures');
for my $device (2 .. 4)
{
	($numbers) = arrivals($device);
	is("@$numbers", join(' ', 1 .. 10), "R5: device $device: in order over retries");
}
cmp_ok(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'retry'}), '>=', 3, 'R5: there were some');

# ---- a worker dies ------------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('delay_ms=30');
one_value($node, qq{SELECT count(notif.publish('note', 'p$_', jsonb_build_object('n', i))) FROM generate_series(1, 15) i}) for 5 .. 8;
ok($sandbox->wait_count(10), 'R5: under way');
$node->stop('immediate');
$node->start;
wait_running($node);
one_value($node, qq{SELECT notif.publish('note', 'p$_', '{"n": 16}')}) for 5 .. 8;
ok(wait_idle($node), 'R5: all end after a crash');
for my $device (5 .. 8)
{
	($numbers) = arrivals($device);
	my %seen;
	# what was in the air at the crash may come twice, the order stays
	is(join(' ', grep { !$seen{$_}++ } @$numbers), join(' ', 1 .. 16), "R5: device $device: in order over a crash");
}

# ---- not ordered ----------------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('delay_ms=300');
one_value($node, q{SELECT count(notif.publish('race', 'p9', jsonb_build_object('n', i))) FROM generate_series(1, 20) i});
ok(wait_idle($node), 'R5: those that need no order end');
($numbers, $closest) = arrivals(9);
is(scalar @$numbers, 20, 'R5: all of them');
cmp_ok($closest, '<', 300_000, 'R5: several at a time');
$sandbox->get('/reset');
one_value($node, q{SELECT notif.define_category('slow', retry_base => '1 hour', retry_cap => '1 hour', rate_limited => false)});
one_value($node, q{SELECT notif.define_type('urgent', 'slow', tier => 'critical', title => 'Urgent {n}')});
$sandbox->fault('status=503&count=1');
my $first = one_value($node, q{SELECT notif.publish('urgent', 'p10', '{"n": 1}')});
ok(wait_true($node, qq{SELECT EXISTS (SELECT FROM notif_private.outcome WHERE event = '$first' AND state = 'retry')}), 'R5: a code has to be tried again');
one_value($node, q{SELECT notif.publish('urgent', 'p10', '{"n": 2}')});
ok($sandbox->wait_count(1), 'R5: the next one does not wait for it');
($numbers) = arrivals(10);
is("@$numbers", '2', 'R5: and overtakes it');
one_value($node, qq{SELECT notif.cancel('$first')});
one_value($node, q{SELECT notif_private.shift_clock(7200 * 1000000::bigint)});
ok(wait_idle($node), 'R5: the other ends as well');

# ---- collapse ---------------------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('hang=on');
one_value($node, q{SELECT notif.publish('note', 'p11', '{"n": 1}', collapse_key => 'score')});
ok($sandbox->wait_count(1), 'R5: the first state is in the air');
my $newest = one_value($node, q{
	WITH told AS MATERIALIZED (
		SELECT i, notif.publish('note', 'p11', jsonb_build_object('n', i), collapse_key => 'score') AS id FROM generate_series(2, 9) i)
	SELECT id FROM told ORDER BY i DESC LIMIT 1});
ok(wait_true($node, q{SELECT count(*) = 7 FROM notif_private.outcome WHERE state = 'superseded'}), 'R5: of those that wait only the newest stays');
$sandbox->fault('clear');
ok(wait_idle($node), 'R5: it goes out');
($numbers) = arrivals(11);
is("@$numbers", '1 9', 'R5: and nothing between');
is(state_of($node, $newest), 'accepted 1', 'R5: the newest was sent');

# ---- a producer in a loop ------------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('delay_ms=5');
one_value($node, q{SELECT count(notif.publish('note', 'p12', jsonb_build_object('n', i))) FROM generate_series(1, 800) i});
ok($sandbox->wait_count(5), 'R4: a flood for one person is under way');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(13, 50) i});
ok(NotifTest::wait_for(sub { return 38 == grep { $_->{token} ne token(12) } $sandbox->ledger }), 'R4: everybody else is told');
($numbers) = arrivals(12);
cmp_ok(scalar @$numbers, '<', 800, 'R4: before the flood is over');
ok(wait_idle($node, 180), 'R5: it ends, too');
($numbers) = arrivals(12);
is("@$numbers", join(' ', 1 .. 800), 'R5: in order to its end');
cmp_ok(one_value($node, q{SELECT max(attempt) FROM notif_private.outcome}), '<', 12, 'R5: and what waits is not moved over and over');

balanced($node, 'R5');
no_crash($node, 'no worker failed');
$node->stop;
done_testing();
