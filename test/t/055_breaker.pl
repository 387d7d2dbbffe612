# The breaker of a provider: when it opens, that nothing is sent and no attempt
# used up while it is open, how it probes and recovers, that it survives a crash,
# and that one provider's outage is no other's.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('breaker', conf => 'notif.breaker_volume = 20');
people($node, 300);

sub burst
{
	my ($type, $n, $from) = @_;
	$from //= 1;
	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || i, jsonb_build_object('n', i))) FROM generate_series($from, $from + $n - 1) i});
	return;
}
sub state { my ($provider) = @_; $provider //= 'apple'; return one_value($node, "SELECT state FROM notif.breakers WHERE provider = '$provider'"); }
sub wait_state
{
	my ($state, $provider) = @_;
	$provider //= 'apple';
	return wait_true($node, "SELECT state = '$state' FROM notif.breakers WHERE provider = '$provider'");
}
sub shift_by { my ($seconds) = @_; one_value($node, "SELECT notif_private.shift_clock((${seconds}::numeric * 1000000)::bigint)"); return; }
# To just after the time of the next probe.
sub to_the_probe
{
	one_value($node, q{SELECT notif_private.shift_clock(greatest(1, (extract(epoch FROM probe_at - notif.now()) * 1000000)::bigint + 1000))
		FROM notif.breakers WHERE provider = 'apple' AND probe_at IS NOT NULL});
	return;
}
sub received { return $sandbox->stats->{received}; }
# The dispatcher of the tier has had a look since: twice, whatever it found.
sub turned
{
	my $n = one_value($node, q{SELECT turns FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});
	return NotifTest::wait_for(sub {
			one_value($node, 'SELECT notif_private.wake(1::smallint)');
			return one_value($node, qq{SELECT turns >= $n + 2 FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}) eq 't' });
}
sub changes
{
	return one_value($node, q{SELECT string_agg("from" || '>' || "to", ' ' ORDER BY at) FROM notif.breaker_log WHERE provider = 'apple'});
}
# Closed, at rest, and with an empty log.
sub fresh
{
	$sandbox->fault('clear');
	one_value($node, q{SELECT notif.close_breaker('apple', why => 'test')});
	ok(wait_idle($node), 'at rest before the next fault');
	$sandbox->get('/reset');
	one_value($node, q{DELETE FROM notif_private.breaker_log WHERE seq < (SELECT max(seq) FROM notif_private.breaker_log);
		DELETE FROM notif_private.outcome_standard; DELETE FROM notif_private.event;
		DELETE FROM notif_private.tally_critical WHERE state NOT IN ('open', 'in_flight');
		DELETE FROM notif_private.tally_standard WHERE state NOT IN ('open', 'in_flight')});
	return;
}

# ---- when it opens ----------------------------------------------------------------

burst('note', 200);
ok(wait_idle($node), 'warm');
is(state(), 'closed', 'a provider that works has a closed breaker');
$sandbox->fault('status=500,reason=InternalServerError,count=9');
burst('note', 50);
ok(wait_idle($node), 'nine of some two hundred and sixty fail');
is(state(), 'closed', 'the breaker stays closed');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'retry'}), '9', 'each failure counts as an attempt');

$sandbox->fault('status=500,reason=InternalServerError,count=all');
burst('note', 200);
ok(wait_state('open'), 'when more than 5% fail it opens');
ok(wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}), 'what was on the wire is answered');
like(one_value($node, q{SELECT reason FROM notif.breakers}), qr/^\d+ of \d+ results of 30 s failed: InternalServerError$/, 'it says why');
is(one_value($node, q{SELECT by IS NULL AND probe_at - since BETWEEN '26.9 s' AND '33.1 s' FROM notif.breakers}), 't',
	'and when it will be probed: in 30 s, or 10% less or more');
like(one_value($node, q{SELECT value || ' ' || hint FROM notif.health() WHERE check_name = 'providers' AND NOT ok}),
	qr/^1 parked apple over push: open since .*InternalServerError\. .*closes by itself/, 'notif.health() says so, why, and what to do');
is(one_value($node, q{SELECT parked_until > notif.now() FROM notif.providers}), 't', 'and notif.providers');
cmp_ok(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'retry'}), '<=', 9 + 30,
	'only the failures that opened it count as attempts');
cmp_ok(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '<=', 2, 'whatever came back later used up none');
my $before = received();
burst('note', 50);
burst('code', 20);
one_value($node, 'SELECT notif_private.wake(0::smallint)');
ok(turned(), 'the dispatcher has had a look');
is(received(), $before, 'nothing is sent while it is open');
is(one_value($node, q{SELECT sum(n) FROM notif.state WHERE state = 'open' AND tier <> 'bulk'}), '270', 'what waits is kept');

# ---- half-open: ten probes, all dispatchers together ----------------------------------

$sandbox->fault('status=off');
$sandbox->fault('hang=on');
my $probed = $sandbox->count + 10;
to_the_probe();
ok($sandbox->wait_count($probed), 'after its time ten probes go out');
burst('note', 20);
burst('code', 20);
ok(turned(), 'the dispatcher has had a look');
is($sandbox->count, $probed, 'ten in all, over all tiers');
is(one_value($node, q{SELECT state || ' ' || results FROM notif.breakers}), 'half_open 0', 'the breaker is half-open');
$sandbox->fault('hang=off');
ok(wait_state('recovering'), 'nine good ones, and it recovers');
cmp_ok(one_value($node, q{SELECT share FROM notif.breakers}), '<', 100, 'with a share of the capacity');
ok(wait_idle($node), 'what waited is sent');
shift_by(61);
ok(wait_state('closed'), 'a minute later it is closed');
is(changes(), 'closed>open open>half_open half_open>recovering recovering>closed', 'each change is an event of the log');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries WHERE state <> 'accepted'}), '0', 'everything was delivered');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is("$totals->{lost} $totals->{duplicated}", '0 0', 'nothing is lost, nothing arrived twice');

# ---- probes that fail, an attempt of nobody -------------------------------------------

fresh();
$sandbox->fault('status=503,reason=ServiceUnavailable,count=all');
burst('few', 100);
ok(wait_state('open'), 'open again');
ok(wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}), 'and quiet');
for my $wait (60, 300, 1500)
{
	$before = received();
	to_the_probe();
	ok( wait_true($node, qq{SELECT state = 'open' AND extract(epoch FROM probe_at - since)
			BETWEEN $wait * 0.9 - 0.1 AND $wait * 1.1 + 0.1 FROM notif.breakers}),
		"probes that fail open it again, now for $wait s, or 10% less or more");
	ok(wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}), 'all probes are answered');
	cmp_ok(received() - $before, '<=', 10, 'ten of them at most');
	cmp_ok(received() - $before, '>=', 2, 'two at least');
}
cmp_ok(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '<=', 1, 'a failed probe is nobody\'s attempt');
$sandbox->fault('clear');
to_the_probe();
ok(wait_state('recovering'), 'it recovers when they are good');
ok(wait_idle($node), 'all deliveries end');
is(one_value($node, q{SELECT count(*) || ' ' || count(*) FILTER (WHERE state = 'accepted') FROM notif.deliveries}), '100 100',
	'accepted, although each may be tried three times only');

# too many failures on the way open it again
$sandbox->fault('status=500,count=all');
burst('note', 100);
ok(wait_state('open'), 'a recovering breaker opens again');
is(one_value($node, q{SELECT "from" FROM notif.breaker_log ORDER BY at DESC LIMIT 1}), 'recovering', 'straight from the ramp');

# ---- a switch -------------------------------------------------------------------------

fresh();
is(one_value($node, q{SELECT notif.open_breaker('apple', 'push', why => 'maintenance')}), '1', 'notif.open_breaker');
is(one_value($node, q{SELECT state || ' ' || probe_at || ' ' || reason || ' ' || by FROM notif.breakers}),
	'open infinity maintenance ' . one_value($node, 'SELECT current_user'), 'opens it until somebody closes it');
burst('note', 10);
shift_by(86400);
ok(turned(), 'the dispatcher has had a look, a day later');
is($sandbox->count, 0, 'nothing is sent, not even a probe');
is(one_value($node, q{SELECT notif.close_breaker('apple', why => 'done')}), '1', 'notif.close_breaker');
ok($sandbox->wait_count(0), 'closes it');
fresh();
one_value($node, q{BEGIN; SELECT notif.open_breaker('apple'); ROLLBACK});
burst('note', 10);
ok(wait_idle($node), 'a switch that is rolled back switches nothing');
is(changes(), one_value($node, q{SELECT "from" || '>' || "to" FROM notif.breaker_log ORDER BY at DESC LIMIT 1}), 'and leaves no event');

# What is claimed and has no stream yet goes back when it opens.
$sandbox->fault('accept=off');
$sandbox->fault('goaway=now');
burst('note', 5);
ok(wait_true($node, q{SELECT count(*) > 0 FROM notif_private.flight_standard f WHERE NOT f.closed}), 'something is claimed');
one_value($node, q{SELECT notif.open_breaker('apple')});
ok(wait_true($node, q{SELECT sum(n) FILTER (WHERE state = 'in_flight') = 0 AND sum(n) FILTER (WHERE state = 'open') = 5 FROM notif.state}), 'it is given back');
is(one_value($node, q{SELECT coalesce(max(tries), 0) FROM notif_private.outcome WHERE state = 'deferred'}), '0', 'without an attempt');

# ---- refused credentials ----------------------------------------------------------------

fresh();
$sandbox->fault('status=403,reason=InvalidProviderToken,count=all');
burst('note', 1);
ok(wait_state('open'), 'refused credentials open it at once');
is(one_value($node, q{SELECT reason FROM notif.breakers}), 'credentials are refused: InvalidProviderToken', 'it says so');
burst('note', 50);
ok(turned(), 'the dispatcher has had a look');
cmp_ok(scalar(my @refused = $sandbox->refused), '<=', 1, 'nothing more is sent');
is(one_value($node, q{SELECT coalesce(max(tries), 0) FROM notif_private.outcome}), '0', 'no attempt is used up');
$sandbox->fault('clear');
my $settings = NotifTest::settings($sandbox);
my $define = "SELECT notif.define_provider('apple', 'apns', $settings, key => 'file:$sandbox->{dir}/apns_key.p8')";
one_value($node, $define);
ok(wait_idle($node), 'mending the provider closes it');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries WHERE state = 'accepted'}), '51', 'and everything arrives');
like(changes(), qr/ open>closed$/, 'that, too, is an event');
one_value($node, q{SELECT notif.open_breaker('apple')});
one_value($node, $define);
is(state(), 'open', 'but not what somebody has opened by hand');

# ---- every address doubted --------------------------------------------------------------

fresh();
$sandbox->fault('status=400,reason=BadDeviceToken,count=all');
burst('note', 100, 101);
ok(wait_state('open'), 'a burst of BadDeviceToken opens it: a wrong environment');
like(one_value($node, q{SELECT reason FROM notif.breakers}), qr/doubt the address: BadDeviceToken$/, 'it says so');
ok(wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}), 'all are answered');
my $doubted = one_value($node, q{SELECT count(*) FROM notif.endpoints WHERE state = 'quarantined'});
cmp_ok($doubted, '>=', 10, 'those that opened it are in quarantine');
cmp_ok($doubted, '<', 100, 'the others are not');
to_the_probe();
ok(wait_true($node, q{SELECT count(*) = 2 FROM notif.breaker_log WHERE "to" = 'open'}), 'probes that find the same open it again');
is(one_value($node, q{SELECT count(*) FROM notif.endpoints WHERE state = 'quarantined'}), $doubted, 'and doubt nobody');
$sandbox->fault('clear');
$settings = NotifTest::settings($sandbox, max_connections => 3);
one_value($node, "SELECT notif.define_provider('apple', 'apns', $settings, key => 'file:$sandbox->{dir}/apns_key.p8')");
ok(wait_idle($node), 'with the right environment they go out');
is(one_value($node, q{SELECT count(*) FROM notif.endpoints WHERE state <> 'active'}), '0', 'to everybody');

# ---- nobody there -------------------------------------------------------------------------

fresh();
$sandbox->fault('accept=refuse');
$sandbox->fault('goaway=now');
burst('note', 30);
ok(wait_state('open'), 'F-N-1: a provider that accepts no connection opens it, few as the tries are');
like(one_value($node, q{SELECT reason FROM notif.breakers}), qr/^no connection can be made: connect/, 'it says so');
is(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '0', 'no attempt is used up');
cmp_ok(one_value($node, q{SELECT count(*) FROM notif_private.outcome}), '<', 20, 'and few rows are written');

# ---- a crash ------------------------------------------------------------------------------

# One failed half-open, so that it has a step to remember.
to_the_probe();
ok(wait_true($node, q{SELECT state = 'open' AND probe_at - since > '50 s' FROM notif.breakers}), 'its second wait is a minute');
to_the_probe();
ok(wait_true($node, q{SELECT state = 'open' AND probe_at - since > '4 min' FROM notif.breakers}), 'its third five minutes');
my $log = one_value($node, q{SELECT probe_at, seq FROM notif_private.breaker_log ORDER BY seq DESC LIMIT 1});
my $rows = one_value($node, 'SELECT count(*) FROM notif_private.outcome');

# The shift of the clock is in shared memory: the workers must find it shifted.
sub crash
{
	my ($meanwhile) = @_;
	my $offset = one_value($node, 'SELECT notif_private.clock_offset()');

	$node->stop('immediate');
	$meanwhile->();
	$node->append_conf('postgresql.conf', 'notif.dispatch = off');
	$node->start;
	one_value($node, "SELECT notif_private.shift_clock($offset)");
	is(state(), $node->safe_psql('shop', 'SELECT to_state FROM notif_private.breaker_log ORDER BY seq DESC LIMIT 1'),
		'before any worker runs, the view shows what the log says');
	$node->append_conf('postgresql.conf', 'notif.dispatch = on');
	$node->reload;
	wait_running($node);
	return;
}
crash(sub { $sandbox->fault('clear') });
burst('note', 20);
ok(turned(), 'after a crash the dispatcher has had a look');
is(state(), 'open', 'the breaker is open');
is(one_value($node, q{SELECT probe_at, seq FROM notif_private.breaker_log ORDER BY seq DESC LIMIT 1}), $log, 'that is no change');
is(one_value($node, q{SELECT abs(extract(epoch FROM b.probe_at - l.probe_at)) < 1 AND b.reason LIKE '%connect%'
		FROM notif.breakers b, (SELECT * FROM notif_private.breaker_log ORDER BY seq DESC LIMIT 1) l}), 't',
	'it waits for what was left, for the same reason');
is(one_value($node, 'SELECT count(*) FROM notif_private.outcome'), $rows, 'nothing was tried');
to_the_probe();
ok(wait_state('recovering'), 'the probes are good');
ok(wait_idle($node), 'everything arrives');

# half-open at the crash: open, and due
fresh();
$sandbox->fault('status=500,count=all');
burst('note', 50);
ok(wait_state('open'), 'open once more');
ok(wait_true($node, q{SELECT coalesce(sum(n), 0) = 0 FROM notif.state WHERE state = 'in_flight'}), 'and quiet');
$sandbox->fault('status=off');
$sandbox->fault('hang=on');
to_the_probe();
ok(wait_true($node, q{SELECT count(*) = 1 FROM notif.breaker_log WHERE "to" = 'half_open'}), 'half-open, as its log says');
crash(sub { $sandbox->fault('hang=drop') });
ok(wait_state('recovering'), 'after a crash it is open and due at once');
like(changes(), qr/open>half_open half_open>open open>half_open half_open>recovering$/, 'as the log tells');
ok(wait_idle($node), 'everything arrives');
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
cmp_ok($totals->{duplicated}, '<=', 10, 'only probes of which nobody knew were sent again');

# ---- two providers --------------------------------------------------------------------------

fresh();
my $second = NotifTest::new_sandbox();
my $other = NotifTest::settings($second);
one_value($node, qq{SELECT notif.define_provider('pear', 'apns', $other, key => 'file:$second->{dir}/apns_key.p8')});
one_value($node, q{SELECT notif.define_route('pear', 'push', ARRAY['pear'], app => 'b')});
one_value($node, q{SELECT count(notif.upsert_recipient('q' || i)) FROM generate_series(1, 300) i});
one_value($node, q{SELECT count(notif.register_device('q' || i, 'd', 'ios', lpad(to_hex(100000 + i), 64, '0'), app => 'b')) FROM generate_series(1, 300) i});
# A quarter of what a dispatcher may have in flight is kept for each of two.
$node->append_conf('postgresql.conf', 'notif.max_in_flight = 200');
$node->reload;
for my $fault ('hang=on', 'status=500,count=all')
{
	$second->get('/reset');
	$sandbox->fault('clear');
	one_value($node, q{SELECT notif.close_breaker('apple')});
	ok(wait_idle($node), 'at rest');
	$sandbox->fault($fault);
	burst('note', 300);
	ok(wait_true($node, $fault =~ /hang/ ? q{SELECT sum(n) = 150 FROM notif.state WHERE state = 'in_flight'} : q{SELECT state = 'open' FROM notif.breakers WHERE provider = 'apple'}),
		"$fault: one provider fails");
	one_value($node, q{SELECT count(notif.publish('note', 'q' || (i % 300 + 1), jsonb_build_object('n', i))) FROM generate_series(1, 1500) i});
	ok($second->wait_count(1500), 'all that goes to another provider arrives');
	is($second->count, 1500, 'once');
	cmp_ok(one_value($node, q{SELECT sum(n) FROM notif.state WHERE state IN ('in_flight', 'open')}), '>=', 290, 'while the first one still fails');
	is(state('pear'), 'closed', 'whose breaker is its own');
	is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'unknown'}), '0', 'and before a single one has timed out')
	  if $fault =~ /hang/;
}
$sandbox->fault('clear');
one_value($node, q{SELECT notif.close_breaker('apple')});
ok(wait_idle($node), 'at last everything arrives');
balanced($node, 'at the end');
is(one_value($node, q{SELECT string_agg(kind || coalesce(' ' || tier, '') || ' ' || last_error, ', ') FROM notif.workers WHERE last_error <> ''}),
	'', 'no worker met an error');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
