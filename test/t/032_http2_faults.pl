# Faults of the connection: every id arrives once where that can be known, and
# what cannot be known is resolved as its category says.
# F-N-1, F-N-3, F-N-4, F-N-5, F-N-6, F-N-14, F-N-15.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('faults');

people($node, 200);

# Publishes to p1 .. p$n in one transaction; the event ids stay in their types.
sub burst
{
	my ($type, $n) = @_;
	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || i, jsonb_build_object('n', i))) FROM generate_series(1, $n) i});
	return;
}

# Appearances of each delivery in the ledger: '1 200' is 200 that arrived once.
sub appearances
{
	my %n;
	my %times;

	$n{ $_->{id} }++ for $sandbox->ledger;
	$times{$_}++ for values %n;
	return join ', ', map { "$_ $times{$_}" } sort keys %times;
}

sub counts
{
	my ($what) = @_;
	return one_value($node, qq{SELECT string_agg(x.k || ' ' || x.n, ', ' ORDER BY x.k)
		FROM (SELECT $what AS k, count(*) AS n FROM notif.deliveries GROUP BY 1) x});
}

sub fresh
{
	ok(wait_idle($node), 'at rest before the next fault');
	$sandbox->fault('clear');
	$sandbox->get('/reset');
	one_value($node, q{DELETE FROM notif_private.outcome_standard; DELETE FROM notif_private.outcome_long; DELETE FROM notif_private.event;
		DELETE FROM notif_private.tally_standard WHERE state NOT IN ('open', 'in_flight')});
	return;
}

# ---- GOAWAY ----------------------------------------------------------------------

burst('note', 5);				# the connection has left its first stream behind
ok(wait_idle($node), 'warm');
for my $case (
	[ 'last_stream:current,reason:Shutdown,count:1', 'at the current stream' ],
	[ 'last_stream:minus:20,reason:Shutdown,count:1', 'with twenty streams above' ],
	[ 'last_stream:minus:3,reason:InternalServerError,code:2,count:2', 'twice, with an error' ],
	[ 'now', 'now' ])
{
	my ($switch, $name) = @$case;

	fresh();
	my $connections = $sandbox->stats->{connections};
	$sandbox->fault("goaway=$switch");
	burst('note', 200);
	ok(wait_idle($node), "F-N-4: GOAWAY $name: all deliveries end");
	is(counts('state'), 'accepted 200', 'accepted');
	is(appearances(), '1 200', 'F-N-4: each id is in the ledger once');
	cmp_ok($sandbox->stats->{connections} - $connections, '<=', 8, 'F-N-4: no storm of connections');
	is(one_value($node, q{SELECT max(tries), count(*) FILTER (WHERE state = 'unknown') FROM notif_private.outcome}), '1|0',
		'none has used up more than one attempt');
}

# ---- single streams, and how many there may be ---------------------------------------

fresh();
$sandbox->fault('refused_stream=30');
burst('note', 100);
ok(wait_idle($node), 'F-N-5: REFUSED_STREAM: all deliveries end');
is(counts('state') . ' ' . appearances(), 'accepted 100 1 100', 'each arrived once');
is(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '1', 'no attempt was counted');

fresh();
$sandbox->fault('max_streams=1');
burst('note', 60);
ok(wait_idle($node), 'F-N-6: one stream at a time is enough');
is(counts('state') . ' ' . appearances(), 'accepted 60 1 60', 'each arrived once');
fresh();
$sandbox->fault('max_streams=0');
burst('note', 60);
ok(wait_true($node, q{SELECT sum(n) = 60 FROM notif.state WHERE tier = 'standard' AND state IN ('open', 'in_flight')}),
	'F-N-6: with no stream at all everything waits');
is($sandbox->count, 0, 'and nothing arrives');
$sandbox->fault('max_streams=1000');
ok(wait_idle($node), 'until streams are granted');
is(counts('state') . ' ' . appearances(), 'accepted 60 1 60', 'each arrived once');
is(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '1', 'at the first attempt that counts');

# ---- nobody knows ----------------------------------------------------------------------

# The connection is cut when the requests are in: in doubt.
fresh();
$sandbox->fault('cut_after_data=1');
burst('note', 100);
ok(wait_idle($node), 'F-N-3: a cut after DATA: all deliveries end');
is(counts('state'), 'accepted 100', 'accepted, at last');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
cmp_ok($totals->{unknown}, '>', 0, 'something was in doubt');
cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'and only that arrived twice, under the same id');

fresh();
$sandbox->fault('cut_after_data=1');
burst('money', 100);
ok(wait_idle($node), 'F-N-3: the same for a category that holds');
like(counts('state'), qr/held [1-9]/, 'what is in doubt is held');
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{duplicated}, 0, 'nothing arrived twice');
is($totals->{held}, one_value($node, q{SELECT count(*) FROM notif.dead_letters WHERE state = 'held'}), 'notif.dead_letters shows what is held');
one_value($node, q{SELECT count(notif.redeliver(delivery)) FROM notif.dead_letters WHERE state = 'held'});
ok(wait_idle($node), 'a person decides to send it again');
is(counts('state'), 'accepted 100', 'and it arrives');

fresh();
$sandbox->fault('cut_after_headers=2');
burst('note', 50);
ok(wait_idle($node), 'F-N-3: a cut after the headers: all deliveries end');
is(counts('state'), 'accepted 50', 'accepted');
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');

fresh();
$sandbox->fault('rst=INTERNAL_ERROR,5');
burst('note', 50);
ok(wait_idle($node), 'F-N-5: streams that are reset: all deliveries end');
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is("$totals->{unknown} $totals->{duplicated}", '5 5', 'five in doubt, five twice');

# ---- provider tokens ---------------------------------------------------------------------

fresh();
my $old = one_value($node, q{SELECT token FROM notif_private.provider_token});
one_value($node, q{UPDATE notif_private.provider_token SET issued_at = issued_at - 1300});
$sandbox->fault('jwt_expired=on');
my $expired = scalar $sandbox->refused;
burst('note', 200);
ok( wait_true($node, qq{SELECT token <> '$old' FROM notif_private.provider_token}), 'F-N-15: an expired token is renewed');
ok(wait_idle($node), 'and all deliveries end');
is(counts('state') . ' ' . appearances(), 'accepted 200 1 200', 'each arrived once');
note('refused together: ', scalar($sandbox->refused) - $expired);
is(one_value($node, q{SELECT max(tries) FROM notif_private.outcome}), '1', 'no attempt was counted');
my $stats = $sandbox->stats;
is(scalar(grep { $_->[10] eq 'TooManyProviderTokenUpdates' } $sandbox->refused), 0, 'F-N-15: all streams that failed together got one new token');
is(scalar(grep { $_->[10] !~ /^ExpiredProviderToken$/ } $sandbox->refused), 0, 'nothing else was refused');

# The token survives a restart of the server: iat stays.
my $token = one_value($node, q{SELECT issued_at || ' ' || token FROM notif_private.provider_token});
fresh();
$node->restart;
wait_running($node);
burst('note', 10);
burst('code', 3);
ok(wait_idle($node), 'after a restart');
is(counts('state'), 'accepted 13', 'deliveries are accepted');
is(one_value($node, q{SELECT issued_at || ' ' || token FROM notif_private.provider_token}), $token, 'with the same token');

# A provider that refuses a token younger than 20 minutes does not get another.
fresh();
one_value($node, q{UPDATE notif_private.provider_token SET issued_at = extract(epoch FROM clock_timestamp())::bigint});
$sandbox->fault('jwt_expired=on');
burst('note', 3);
ok(wait_parked($node, 'younger than 20 minutes'), 'F-N-15: a young token that is refused parks the route');
is(one_value($node, qq{SELECT '$token' LIKE '%' || token FROM notif_private.provider_token}), 't', 'and is kept');
$sandbox->fault('clear');
my $settings = NotifTest::settings($sandbox, max_connections => 3);
one_value($node, "SELECT notif.define_provider('apple', 'apns', $settings, key => 'file:$sandbox->{dir}/apns_key.p8')");
ok(wait_idle($node), 'until the provider is redefined');
is(counts('state'), 'accepted 3', 'then they are accepted');

# ---- TLS ---------------------------------------------------------------------------------

for my $tls ('wronghost', 'expired', 'unknownca', 'tls10', 'noalpn')
{
	fresh();
	$sandbox->fault("tls=$tls");
	$sandbox->fault('goaway=now');		# so that a new connection is needed
	burst('note', 5);
	ok(wait_true($node, q{SELECT coalesce(bool_or(last_error <> ''), false) FROM notif_private.lanes_here() WHERE tier = 'standard'}),
		"F-N-14: TLS $tls: notif.providers says what is wrong");
	is(one_value($node, q{SELECT coalesce(max(tries), 0) FROM notif_private.outcome}), '0', 'no attempt is used up');
	is($sandbox->count, 0, 'nothing is sent');
	note(one_value($node, q{SELECT last_error FROM notif.providers}));
	$sandbox->fault('clear');
	ok(wait_idle($node), 'with a good certificate it goes on');
	is(counts('state') . ' ' . appearances(), 'accepted 5 1 5', 'each arrived once');
}

fresh();
$sandbox->fault('accept=refuse');
$sandbox->fault('goaway=now');
burst('note', 5);
ok(wait_true($node, q{SELECT coalesce(bool_or(last_error <> ''), false) FROM notif_private.lanes_here() WHERE tier = 'standard'}),
	'F-N-1: nobody listens: notif.providers says so');
is(one_value($node, q{SELECT coalesce(max(tries), 0) FROM notif_private.outcome}), '0', 'no attempt is used up');
$sandbox->fault('clear');
ok(wait_idle($node), 'when somebody does it goes on');
is(counts('state') . ' ' . appearances(), 'accepted 5 1 5', 'each arrived once');

# ---- authentication by certificate -----------------------------------------------------------

fresh();
# the server's user owns the stage, so it may read the key
one_value($node, qq{SELECT notif.define_provider('apple', 'apns',
	jsonb_build_object('host', 'localhost', 'port', $sandbox->{apns}, 'ca_file', '$sandbox->{dir}/ca.pem', 'topic', 'com.example.shop'),
	key => 'file:$sandbox->{dir}/client.key', certificate => 'file:$sandbox->{dir}/client.pem')});
burst('note', 50);
ok(wait_idle($node), 'with a certificate');
is(counts('state') . ' ' . appearances(), 'accepted 50 1 50', 'each arrived once');
is(one_value($node, q{SELECT count(*) FROM notif_private.provider_token}), '0', 'without a token');

is(one_value($node, q{SELECT string_agg(kind || coalesce(' ' || tier, '') || ' ' || last_error, ', ') FROM notif.workers WHERE last_error <> ''}),
	'', 'no worker met an error');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
