# How fast a provider is asked: rate, burst and requests in flight as defined, over
# all tiers; and what happens when it says that it is asked too fast (F-N-7).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(strftime);
use Test::More;

my ($node, $sandbox) = new_shop('pacing');
people($node, 300);
one_value($node, q{SELECT notif.define_type('ping', 'hold', tier => 'critical', title => 'Ping {n}')});

sub define
{
	my ($limits) = @_;
	my $settings = NotifTest::settings($sandbox);
	one_value($node, "SELECT notif.define_provider('apple', 'apns', $settings, key => 'file:$sandbox->{dir}/apns_key.p8' $limits)");
	return;
}
sub burst
{
	my ($type, $n, $more) = @_;
	$more //= '';
	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || ((i - 1) % 300 + 1), jsonb_build_object('n', i)$more)) FROM generate_series(1, $n) i});
	return;
}
sub shift_by { my ($s) = @_; one_value($node, "SELECT notif_private.shift_clock((${s}::numeric * 1000000)::bigint)"); return; }
sub clock { return one_value($node, 'SELECT extract(epoch FROM notif.now())'); }
sub provider { my ($what) = @_; return one_value($node, "SELECT $what FROM notif.providers"); }
sub turned
{
	my $n = one_value($node, q{SELECT turns FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});
	return NotifTest::wait_for(sub {
			one_value($node, 'SELECT notif_private.wake(1::smallint)');
			return one_value($node, qq{SELECT turns >= $n + 2 FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}) eq 't' });
}
sub fresh
{
	my ($limits) = @_;
	$sandbox->fault('clear');
	shift_by(20 * 3600);		# whatever was slowed is over
	define('');
	ok(wait_idle($node), 'at rest');
	define($limits) if defined $limits;
	$sandbox->get('/reset');
	one_value($node, q{DELETE FROM notif_private.outcome_standard;
		DELETE FROM notif_private.tally_bulk WHERE state NOT IN ('open', 'in_flight');
		DELETE FROM notif_private.tally_critical WHERE state NOT IN ('open', 'in_flight');
		DELETE FROM notif_private.tally_standard WHERE state NOT IN ('open', 'in_flight')});
	return;
}

# ---- what is defined --------------------------------------------------------------

burst('note', 20);
ok(wait_idle($node), 'warm');
is(provider(q{concat_ws(' ', rate, burst, max_in_flight, rate_now, tokens, on_the_wire, slowed_until)}), '0', 'without limits nothing is limited');

fresh(', rate => 50, burst => 10');
ok(wait_true($node, 'SELECT tokens = 10 FROM notif.providers'), 'a full bucket');
is(provider(q{concat_ws(' ', rate, burst, max_in_flight, rate_now)}), '50 10 50.000', 'notif.providers shows rate and burst');
my $start = clock();
my ($over, $looks) = (0, 0);
burst('note', 300);
ok(NotifTest::wait_for(sub {
			my $sent = $sandbox->count;
			$looks++;
			$over++ if $sent > 10 + 50 * (clock() - $start) + 1;
			shift_by(0.1);
			return $sent == 300 }), 'a rate of 50 a second: all arrive');
is($over, 0, "never more than rate and burst allow, in $looks looks");
cmp_ok(clock() - $start, '>', (300 - 10) / 50 * 0.99, 'and no earlier than that');
is(one_value($node, q{SELECT max(tries), count(*) FROM notif_private.outcome}), '1|300', 'waiting is no attempt and writes no row');

# What a gate stops has not cost the provider anything.
fresh(', rate => 1, burst => 5');
one_value($node, q{SELECT notif.pause('provider', 'apple')});
burst('note', 200, q{, expires_in => '1 minute'});
burst('note', 3);
ok(wait_true($node, q{SELECT sum(n) = 203 FROM notif.state WHERE state = 'open'}), 'two hundred that will expire, and three behind them');
shift_by(61);
one_value($node, q{SELECT notif.resume('provider', 'apple')});
ok($sandbox->wait_count(3), 'the three are sent');
ok(wait_idle($node), 'and all have ended');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'expired'}), '200', 'what has expired needed no token');

fresh(', max_in_flight => 7');
$sandbox->fault('hang=on');
burst('note', 30);
burst('code', 30);
burst('news', 30);
ok($sandbox->wait_count(7), 'at most seven in flight: as many are sent');
ok(turned(), 'the dispatcher has had a look');
is($sandbox->count, 7, 'no more, over all tiers');
is(provider('on_the_wire'), '7', 'notif.providers shows how many');
$sandbox->fault('hang=off');
ok(wait_idle($node), 'each answer lets another one go');
is($sandbox->count, 90, 'until all have arrived');
ok(wait_true($node, 'SELECT on_the_wire = 0 FROM notif.providers'), 'then there is none');

# A campaign takes no token that a code waits for.
fresh(', rate => 4, burst => 1');
burst('news', 300);
ok($sandbox->wait_count(2), 'a campaign at four a second');
burst('ping', 1);
ok(NotifTest::wait_for(sub { return scalar grep { $_->{body} =~ /Ping/ } $sandbox->ledger }), 'a code goes before what is left of it');
cmp_ok($sandbox->count, '<', 250, 'much before');
define('');
ok(wait_idle($node), 'a definition without limits lets the rest go');

# ---- F-N-7: too many requests -------------------------------------------------------

fresh('');
$sandbox->fault('status=429,reason=QuotaExceeded,retry_after=40,count=all');
$start = clock();
burst('note', 300);
ok(wait_true($node, 'SELECT slowed_until IS NOT NULL FROM notif.providers'), 'F-N-7: a 429 that is not about one device slows the provider');
my $until = provider('extract(epoch FROM slowed_until)');
cmp_ok($until - $start, '>=', 39.9, 'F-N-7: for as long as it says');
ok(wait_true($node, q{SELECT sum(n) = 0 FROM notif.state WHERE state = 'in_flight'}), 'F-N-7: what was on the wire is answered');
my $received = $sandbox->stats->{received};
burst('note', 10);
shift_by(20);
ok(turned(), 'the dispatcher has had a look');
is($sandbox->stats->{received}, $received, 'F-N-7: nothing more is sent meanwhile');
is(one_value($node, q{SELECT string_agg(DISTINCT state || ' ' || tries || ' ' || reason, ', ') FROM notif_private.outcome}), 'deferred 0 QuotaExceeded',
	'F-N-7: it is nobody\'s attempt');
is(one_value($node, q{SELECT state FROM notif.breakers}), 'closed', 'F-N-7: and no failure');
$sandbox->fault('clear');
shift_by($until - clock() + 0.01);
ok($sandbox->wait_count(1), 'F-N-7: then it is asked again');
# whatever is deferred comes back within a tenth more than it said
my $goodput = NotifTest::wait_for(sub { shift_by(0.5); return $sandbox->count == 310 || clock() > $start + 80 });
is($sandbox->count, 310, 'F-N-7: everything has arrived before twice the time');
cmp_ok(clock() - $start, '<', 80, 'F-N-7: by its clock');
ok(wait_idle($node), 'F-N-7: all are recorded');

# Half of what it had, then all of it.
fresh(', rate => 200, burst => 20');
burst('note', 3000);
for (1 .. 50)
{
	# a tenth of a second at a time, as a busy provider would be asked
	my $n = $sandbox->count;
	shift_by(0.1);
	NotifTest::wait_for(sub { return $sandbox->count >= $n + 15 || $sandbox->count == 3000 });
}
cmp_ok($sandbox->count, '<', 2500, 'F-N-7: a backlog at 200 a second');
$sandbox->fault('status=429,reason=QuotaExceeded,retry_after=30,count=1');
ok(wait_true($node, 'SELECT slowed_until IS NOT NULL FROM notif.providers'), 'F-N-7: throttled');
$until = provider('extract(epoch FROM slowed_until)');
shift_by($until - clock() + 0.001);
my $slow = provider('rate_now');
cmp_ok($slow, '<=', 110, 'F-N-7: half of it when it resumes');
cmp_ok($slow, '>=', 50, 'F-N-7: and not much less');
shift_by(15);
cmp_ok(provider('rate_now'), '>', $slow, 'F-N-7: more after a while');
shift_by($until + 30 - clock() - 1);
cmp_ok(provider('rate_now'), '>=', 2 * $slow * 0.99, 'F-N-7: all of it before as long again has passed');
ok(NotifTest::wait_for(sub { shift_by(1); return $sandbox->count >= 3000 }), 'F-N-7: and the backlog is drained');
is(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '1', 'F-N-7: at one attempt each');

# What it says may be absurd, a date, or nothing at all.
my $date = sub { return strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + $_[0])) =~ s/ /%20/gr =~ s/,/%2C/gr; };
for my $case (
	[ '&retry_after=315360000', 3600, 'ten years' ], [ '&retry_after=-5', 1, 'a negative time' ],
	[ '&retry_after=' . $date->(600), 600, 'a date' ], [ '&retry_after=' . $date->(-600), 1, 'a date of the past' ],
	[ '&retry_after=soon', 1, 'no time at all' ], [ '', 1, 'nothing' ])
{
	my ($said, $seconds, $name) = @$case;

	fresh('');
	$sandbox->fault("status=429&reason=QuotaExceeded&count=1$said");
	burst('note', 1);
	ok(wait_true($node, q{SELECT count(*) = 1 FROM notif_private.outcome WHERE state = 'deferred'}), "F-N-7: $name");
	my $paused = one_value($node, q{SELECT extract(epoch FROM coalesce(p.slowed_until, o.at + interval '1 s') - o.at) FROM notif.providers p, notif_private.outcome o});
	cmp_ok(abs($paused - $seconds), '<', $seconds > 1 ? 60 : 1.1, "F-N-7: is a pause of $seconds s");
	shift_by($seconds * 1.1 + 1);
	ok(wait_idle($node), 'F-N-7: and over in time');
	is(one_value($node, q{SELECT string_agg(state || ' ' || tries, ', ' ORDER BY attempt) FROM notif_private.outcome}), 'deferred 0, accepted 1', 'F-N-7: it arrives');
}

# About one device, and about so many that it is not.
fresh('');
$sandbox->get('/token?hex=' . token(9) . '&state=throttled');
burst('note', 10);
ok(wait_true($node, q{SELECT count(*) > 0 FROM notif_private.outcome WHERE reason = 'TooManyRequests'}), 'F-N-7: TooManyRequests of one device');
ok(wait_true($node, q{SELECT count(*) = 9 FROM notif_private.outcome WHERE state = 'accepted'}), 'F-N-7: delays nobody else');
is(provider('slowed_until IS NULL'), 't', 'F-N-7: nor the provider');
$sandbox->get('/token?hex=' . token(9) . '&state=ok');
ok(wait_idle($node), 'F-N-7: and passes');
fresh('');
$sandbox->fault('status=429,reason=TooManyRequests,retry_after=40,count=all');
burst('note', 200);
ok(wait_true($node, 'SELECT slowed_until IS NOT NULL FROM notif.providers'), 'F-N-7: of most devices it is the provider');
ok(wait_true($node, q{SELECT sum(n) = 0 FROM notif.state WHERE state = 'in_flight'}), 'F-N-7: all are answered');
cmp_ok(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE tries > 0}), '<', 200, 'F-N-7: from then on it is nobody\'s attempt');
$sandbox->fault('clear');
ok(NotifTest::wait_for(sub { shift_by(5); return $sandbox->count == 200 }), 'F-N-7: everything arrives');

fresh('');
balanced($node, 'at the end');
is(one_value($node, q{SELECT string_agg(kind || coalesce(' ' || tier, '') || ' ' || last_error, ', ') FROM notif.workers WHERE last_error <> ''}),
	'', 'no worker met an error');
like(slurp_file($node->logfile), qr/provider "apple" asks for fewer requests: QuotaExceeded/, 'the log tells that it was slowed');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
