# Long outages on the shifted clock: a provider that fails for six hours (F-N-8), and
# for a day while a hundred events a minute are published.  Probes come when they
# are due, nothing else is sent, hardly a row is written; then the backlog goes out
# no faster than the ramp and the provider's rate allow, and what has expired does not.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant RATE => 2000;
use constant PER_HOUR => 6000;

my ($node, $sandbox) = new_shop('outage', conf => "notif.breaker_volume = 20\nsynchronous_commit = off",
	sandbox => { args => [] });
people($node, 300);
my $settings = NotifTest::settings($sandbox);
one_value($node, qq{SELECT notif.define_type('brief', 'retry', title => 'Brief {n}', ttl => '1 hour')});
one_value($node, qq{SELECT notif.define_type('long', 'retry', title => 'Long {n}', ttl => '7 days')});
one_value($node, "SELECT notif.define_provider('apple', 'apns', $settings, key => 'file:$sandbox->{dir}/apns_key.p8', rate => @{[RATE]})");

sub publish
{
	my ($type, $n) = @_;
	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || (i % 300 + 1), jsonb_build_object('n', i))) FROM generate_series(1, $n) i});
	return;
}
sub received { return $sandbox->stats->{received}; }
sub quiet { return wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}); }
sub left { return one_value($node, q{SELECT extract(epoch FROM probe_at - notif.now()) FROM notif.breakers}); }
sub shift_by { my ($s) = @_; one_value($node, "SELECT notif_private.shift_clock((${s}::numeric * 1000000)::bigint)"); return; }
sub opened { return one_value($node, q{SELECT count(*) FROM notif.breaker_log WHERE "to" = 'open'}); }
sub turned
{
	my $n = one_value($node, q{SELECT turns FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});
	return NotifTest::wait_for(sub {
			one_value($node, 'SELECT notif_private.wake(1::smallint)');
			return one_value($node, qq{SELECT turns >= $n + 2 FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}) eq 't' });
}

# The provider works again: until everything has ended the clock is shifted on, and
# at each step no more may have been sent than ramp, rate and burst allow.
sub drain
{
	my ($name) = @_;
	my ($steps, $over, $before) = (0, 0, $sandbox->count);

	shift_by(left() + 0.001);
	ok(wait_true($node, q{SELECT state = 'recovering' FROM notif.breakers}), "$name: ten good probes, and it recovers");
	my $idle = NotifTest::wait_for(sub {
			my $sent = $sandbox->count - $before;
			# measured after the count: it errs on the safe side
			my $t = one_value($node, q{SELECT extract(epoch FROM notif.now() - at) FROM notif.breaker_log WHERE "to" = 'recovering' ORDER BY at DESC LIMIT 1});
			my $ramp = $t < 60 ? 0.2 * $t + 0.8 * $t * $t / 120 : 36 + ($t - 60);
			# what is allowed at once: a second of the rate
			my $allowed = 10 + RATE * ($ramp + ($t < 60 ? 0.2 + 0.8 * $t / 60 : 1));

			$steps++;
			if ($sent > $allowed)
			{
				$over++;
				diag("after $t s $sent were sent, allowed are $allowed");
			}
			shift_by(0.5);
			return one_value($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state IN ('open', 'in_flight')}) eq 't' }, 150);
	ok($idle, "$name: everything ends");
	is($over, 0, "$name: no faster than the ramp, in $steps steps");
	return;
}

# ---- F-N-8: six hours -----------------------------------------------------------------

publish('note', 20);
ok(wait_idle($node), 'warm');
$sandbox->fault('status=503,reason=ServiceUnavailable,count=all');
publish('long', 300);
publish('brief', 100);
ok(wait_true($node, q{SELECT state = 'open' FROM notif.breakers}), 'F-N-8: the breaker opens');
ok(quiet(), 'F-N-8: and all is quiet');
my ($waits, $probes, $hours, $early) = ('', 0, 0, 0);
# a probe's; what waits behind one to the same device may be given back besides
my $answered = q{SELECT count(*) FROM notif_private.outcome WHERE status IS NOT NULL};
my $outage_rows = one_value($node, $answered);
while ($hours < 6)
{
	my $before = received();
	my $left = left();
	my $n = opened();

	shift_by($left / 2);
	turned();
	$early++ if received() != $before;
	shift_by(left() + 0.001);
	last if !wait_true($node, qq{SELECT count(*) > $n FROM notif.breaker_log WHERE "to" = 'open'});
	quiet();
	$hours += $left / 3600;
	$waits .= sprintf('%d ', $left);
	my $here = received() - $before;
	$probes++;
	$early++ if $here > 10;
}
note("waits: $waits");
cmp_ok($hours, '>=', 6, 'F-N-8: six hours have passed');
is($early, 0, 'F-N-8: nothing is sent before its time, nor more than ten probes then');
# 30 s, 1 min, 5 min, 25 min, then hourly: 9 to 11 in six hours
cmp_ok($probes, '>=', 9, 'F-N-8: it was probed');
cmp_ok($probes, '<=', 11, 'F-N-8: and not too often');
is(one_value($node, q{SELECT count(*) FROM (
			SELECT (extract(epoch FROM probe_at - at) / (ARRAY[30, 60, 300, 1500, 3600])[least(step, 4) + 1]) AS part
			FROM notif_private.breaker_log WHERE to_state = 'open') x WHERE part NOT BETWEEN 0.8999 AND 1.1001}),
	'0', 'F-N-8: every wait is that of its step, 10% less or more');
is(one_value($node, q{SELECT count(*) FROM notif_private.breaker_log h JOIN notif_private.breaker_log o ON o.seq = h.seq - 1
		WHERE h.to_state = 'half_open' AND h.at < o.probe_at - interval '1 ms'}), '0', 'F-N-8: no probe came before its time');
cmp_ok(one_value($node, $answered) - $outage_rows, '<=', 10 * $probes, 'F-N-8: only probes wrote rows');
cmp_ok(one_value($node, q{SELECT max(tries) FROM notif_private.outcome WHERE state <> 'accepted'}), '<=', 1, 'F-N-8: nobody lost an attempt to it');
$sandbox->fault('clear');
drain('F-N-8');
is(one_value($node, q{SELECT string_agg(x.type || ' ' || x.state || ' ' || x.n, ', ' ORDER BY x.type)
		FROM (SELECT type, state, count(*) AS n FROM notif.deliveries WHERE type <> 'note' GROUP BY 1, 2) x}),
	'brief expired 100, long accepted 300', 'F-N-8: what has expired meanwhile is not sent, everything else arrives');
is($sandbox->count, 320, 'F-N-8: each once');

# ---- a day, at a hundred a minute ------------------------------------------------------

shift_by(61);
ok(wait_true($node, q{SELECT state = 'closed' FROM notif.breakers}), 'all is well again');
$sandbox->fault('status=500,reason=InternalServerError,count=all');
$outage_rows = one_value($node, 'SELECT count(*) FROM notif_private.outcome');
my $before = received();
my $opened = opened();
publish('long', 100);
ok(wait_true($node, q{SELECT state = 'open' FROM notif.breakers}), 'the breaker opens');
ok(quiet(), 'and all is quiet');
for my $hour (1 .. 24)
{
	publish($hour % 2 ? 'long' : 'brief', PER_HOUR);
	shift_by(3600);
}
ok(quiet(), 'a day later the last probes are answered');
$opened = opened() - $opened;
note("$opened times open, " . (received() - $before) . ' requests in a day');
cmp_ok($opened, '>=', 10, 'it was probed all day');
cmp_ok(received() - $before, '<', 100 + 10 * $opened + 1, 'with ten requests at a time, at most');
cmp_ok(one_value($node, 'SELECT count(*) FROM notif_private.outcome') - $outage_rows, '<', 400, 'an outage of a day wrote some hundred rows');
ok(wait_true($node, q{SELECT sum(n) >= 24 * } . PER_HOUR . q{ FROM notif.state WHERE tier = 'standard' AND state IN ('open', 'expired')}, 120),
	'all of 144,000 deliveries wait');
is(one_value($node, q{SELECT value FROM notif.health() WHERE check_name = 'ledger'}), 'balanced', 'the books balance meanwhile');
shift_by(3601);
ok(quiet(), 'another hour, and what is brief has expired');
$sandbox->fault('clear');
$before = $sandbox->count;
drain('a day');
is($sandbox->count - $before, 100 + 12 * PER_HOUR, 'what was still wanted has arrived');
is(one_value($node, q{SELECT string_agg(x.state || ' ' || x.n, ', ' ORDER BY x.state)
		FROM (SELECT state, sum(n) AS n FROM notif.state WHERE state NOT IN ('open', 'in_flight') AND tier = 'standard' AND n > 0 GROUP BY 1) x}),
	join(', ', 'accepted ' . (320 + 100 + 12 * PER_HOUR), 'expanded ' . (420 + 100 + 24 * PER_HOUR), 'expired ' . (100 + 12 * PER_HOUR)),
	'and nothing else was sent');
is($sandbox->stats->{duplicates}, 0, 'nothing arrived twice');
balanced($node, 'at the end');
is(one_value($node, q{SELECT string_agg(kind || coalesce(' ' || tier, '') || ' ' || last_error, ', ') FROM notif.workers WHERE last_error <> ''}),
	'', 'no worker met an error');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
