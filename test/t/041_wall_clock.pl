# F-T-1: the wall clock jumps, for the whole server: three hours ahead, three hours
# back, a year ahead.  Time-outs do not notice.  A provider that refuses a token from
# the future or the past gets a new one once the clock is right.  What is put off
# after a clock was ahead is not put off until then, and a year ahead deletes nothing.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use OsFaults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { HOUR => 3600 * 1000000, YEAR => 366 * 86400 * 1000000 };

my $os = OsFaults->new;
my $sandbox = new_sandbox();
my $node = new_cluster('wall');

$os->start($node);
$node->safe_psql('postgres', 'CREATE DATABASE shop');
define_shop($node, $sandbox);
ok(wait_running($node), 'the workers run');
people($node, 100);
one_value($node, q{SELECT notif.define_rate_limit('few', 100, '1 hour', 'defer')});

sub wake { return one_value($node, q{SELECT notif_private.wake(t::smallint) FROM generate_series(0, 2) t}); }

# An administrator who has set the clock right does not wait for the breaker.
sub set_right
{
	$os->set(clock_us => 0);
	one_value($node, q{SELECT notif.close_breaker('apple')});
	return;
}

# The clock jumps while requests are in the air: none of them is given up.
sub jump
{
	my ($us, $first, $name) = @_;
	my $before = $sandbox->count;
	my $doubts = one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'unknown' OR reason LIKE '%timeout%'});

	$sandbox->fault('hang=on');
	one_value($node, qq{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series($first, $first + 9) i});
	ok($sandbox->wait_count($before + 10), "$name: requests are out");
	$os->set(clock_us => $us);
	my $there = one_value($node, q{SELECT extract(epoch FROM clock_timestamp())::bigint});
	cmp_ok(abs($there - time - $us / 1000000), '<', 60, "$name: the server's clock has jumped");
	wake();
	$sandbox->fault('hang=off');
	ok(wait_true($node, q{SELECT sum(n) = 0 FROM notif.state WHERE state = 'in_flight'}), "$name: answers are taken in");
	is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'unknown' OR reason LIKE '%timeout%'}), $doubts, "$name: no request has timed out");
	is($sandbox->count, $before + 10, "$name: none is sent twice");
	return;
}

sub accepted
{
	my ($event, $name, $seconds) = @_;

	ok(wait_true($node, qq{SELECT coalesce(bool_and(state = 'accepted'), false) FROM notif.deliveries WHERE event = '$event'}, $seconds), $name);
	return;
}

one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 0}')});
ok(wait_idle($node), 'warm');
my $old = one_value($node, q{SELECT notif.publish('note', 'p90', '{"n": 0}', idempotency_key => 'once')});
ok(wait_idle($node), 'with a key');
# tried again in half an hour
$sandbox->fault('status=503&reason=ServiceUnavailable&retry_after=1800&count=1');
my $later = one_value($node, q{SELECT notif.publish('note', 'p91', '{"n": 0}')});
ok(wait_true($node, q{SELECT count(*) = 1 FROM notif_private.scheduled_standard}), 'one is due in half an hour');

# ---- three hours ahead ---------------------------------------------------------------------

jump(3 * HOUR, 10, 'F-T-1, +3 h');
# What was due meanwhile is taken up, with a token from the future.
ok( NotifTest::wait_for(sub { wake(); return one_value($node, qq{SELECT count(*) > 1 FROM notif_private.outcome WHERE event = '$later'}) eq 't' }),
	'F-T-1, +3 h: what is overdue is tried');
like(one_value($node, qq{SELECT string_agg(state::text, ' ' ORDER BY attempt) FROM notif_private.outcome WHERE event = '$later'}), qr/^retry deferred/,
	'F-T-1, +3 h: the provider refuses the token, which costs no try');
set_right();
my $now = one_value($node, q{SELECT notif.publish('note', 'p2', '{"n": 2}')});
accepted($now, 'F-T-1, set right: there is a new token');
cmp_ok(one_value($node, q{SELECT max(issued_at) - extract(epoch FROM clock_timestamp()) FROM notif_private.provider_token}), '<=', 30,
	'F-T-1, set right: which is not of the future');
$sandbox->fault('status=503&reason=ServiceUnavailable&count=1');
my $again = one_value($node, q{SELECT notif.publish('note', 'p3', '{"n": 3}')});
accepted($again, 'F-T-1, set right: a retry does not wait until the clock comes to where it was');
cmp_ok(one_value($node, qq{SELECT max(attempt) FROM notif_private.outcome WHERE event = '$again'}), '>', 1, 'F-T-1, set right: it was one');
balanced($node, 'F-T-1, set right');

# ---- three hours back ----------------------------------------------------------------------

jump(-3 * HOUR, 30, 'F-T-1, -3 h');
is(one_value($node, q{SELECT count(*) FROM (SELECT delivery FROM notif_private.outcome WHERE state = 'accepted' GROUP BY 1 HAVING count(*) > 1) x}), '0',
	'F-T-1, -3 h: nothing is repeated');
$now = one_value($node, q{SELECT notif.publish('note', 'p4', '{"n": 4}')});
one_value($node, q{SELECT notif.close_breaker('apple')});
ok(wait_parked($node, 'is the clock right'), 'F-T-1, -3 h: the provider calls the token expired, and notif asks about the clock');
set_right();
accepted($now, 'F-T-1, set right: it goes on');

# What was put off while the clock was ahead is due when it comes there.
one_value($node, q{SELECT notif_private.shift_clock(4 * 3600 * 1000000::bigint)});
ok(NotifTest::wait_for(sub { wake(); return one_value($node, q{SELECT sum(n) = 0 FROM notif.state WHERE state IN ('open', 'in_flight')}) eq 't' }), 'F-T-1: in time all deliveries end');
accepted($later, 'F-T-1: also what was overdue while the clock was wrong');
one_value($node, q{SELECT notif_private.shift_clock(-notif_private.clock_offset())});

# ---- a year ahead ---------------------------------------------------------------------------

my $kept = q{SELECT (SELECT count(*) FROM notif_private.event), (SELECT count(*) FROM notif_private.inbox), (SELECT count(*) FROM notif_private.idempotency)};
my $before = one_value($node, $kept);
my $log = -s $node->logfile;
jump(YEAR, 50, 'F-T-1, +1 year');
$node->reload;
ok($node->wait_for_log(qr/the clock has jumped by 3162\d{4} s: notif deletes nothing by its age for a day/, $log), 'F-T-1, +1 year: upkeep notices');
my $steps = one_value($node, q{SELECT turns FROM notif.workers WHERE kind = 'upkeep'});
one_value($node, q{SELECT pg_terminate_backend(pid) FROM notif.workers WHERE kind = 'upkeep'});
ok(wait_true($node, qq{SELECT turns > $steps + 1 AND restarts > 0 AND state = 'running' FROM notif.workers WHERE kind = 'upkeep'}), 'F-T-1, +1 year: another upkeep has worked');
set_right();
$node->reload;
my ($events, $items, $keys) = split /\|/, $before;
is(one_value($node, $kept), join('|', $events + 10, $items + 10, $keys), 'F-T-1, +1 year: events, inboxes and keys are all there');
is(one_value($node, q{SELECT notif.publish('note', 'p90', '{"n": 0}', idempotency_key => 'once')}), $old, 'F-T-1, set right: a key is remembered');
$now = one_value($node, q{SELECT notif.publish('note', 'p5', '{"n": 5}')});
accepted($now, 'F-T-1, set right: what is published is delivered');
is(one_value($node, qq{SELECT notif_private.uuid_time('$now') < clock_timestamp() + interval '1 minute'}), 't', 'F-T-1, set right: with an id of now');

ok(wait_idle($node), 'F-T-1: all deliveries end');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-T-1: the checker is content');
is("$totals->{lost} $totals->{duplicated}", '0 0', 'F-T-1: nothing is lost or sent twice');
balanced($node, 'F-T-1');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
