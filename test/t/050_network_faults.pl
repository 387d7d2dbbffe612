# What a provider's network can do to the workers: nobody answers a connect,
# certificates that prove nothing, redirects, answers that are no answers.  In
# one cluster, with a second provider that must not feel any of it.
# F-N-1, F-N-9, F-N-10, F-N-13, F-N-14; settings out of range.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Fcntl;
use Socket;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('network');
my $good = new_sandbox();

# The shop's people are reached through apple; p51 .. p100 have another app, whose
# provider is the healthy one; p101 .. p105 have one that is a black hole.
sub define
{
	my ($provider, $box, %more) = @_;
	my $settings = NotifTest::settings($box, max_connections => 2, %more);

	one_value($node, "SELECT notif.define_provider('$provider', 'apns', $settings, key => 'file:$box->{dir}/apns_key.p8')");
	return;
}
people($node, 50);
define('healthy', $good);

# A port whose queue of connections is full: a connect to it is never answered.
socket(my $hole, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
bind($hole, sockaddr_in(0, INADDR_LOOPBACK)) or die "bind: $!";
listen($hole, 0) or die "listen: $!";
my ($hole_port) = sockaddr_in(getsockname $hole);
my @fill = map {
	socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
	fcntl($s, F_SETFL, O_NONBLOCK);
	connect($s, sockaddr_in($hole_port, INADDR_LOOPBACK));
	$s } 1 .. 8;
define('hole', $good, port => 0 + $hole_port, address => '127.0.0.1');
one_value($node, q{
	SELECT notif.define_route('healthy', 'push', ARRAY['healthy'], app => 'healthy');
	SELECT notif.define_route('hole', 'push', ARRAY['hole'], app => 'hole');
	SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(51, 105) i;
	SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'),
		app => CASE WHEN i > 100 THEN 'hole' ELSE 'healthy' END)) FROM generate_series(51, 105) i;
	ANALYZE notif_private.recipient; ANALYZE notif_private.endpoint});

sub burst
{
	my ($type, $from, $to) = @_;

	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || i, jsonb_build_object('n', i))) FROM generate_series($from, $to) i});
	return;
}

# 'accepted 3' of the deliveries to these people.
sub states
{
	my ($from, $to) = @_;

	return one_value($node, qq{SELECT coalesce(string_agg(x.state || ' ' || x.n, ', ' ORDER BY x.state::text), '')
		FROM (SELECT d.state, count(*) AS n FROM notif.deliveries d
			  WHERE substr(d.recipient, 2)::integer BETWEEN $from AND $to GROUP BY 1) x});
}

# What notif.providers says of one.
sub last_error { my ($name) = @_; return one_value($node, "SELECT last_error FROM notif.providers WHERE name = '$name'"); }

sub wait_error
{
	my ($name, $pattern, $test) = @_;

	ok(NotifTest::wait_for(sub { return last_error($name) =~ $pattern }), $test) or diag(last_error($name));
	return;
}

my $pids = one_value($node, q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'});

# ---- F-N-1: nobody answers a connect ------------------------------------------------

my $offset = -s $node->logfile;
my $began = time;
burst('note', 101, 105);
burst('note', 51, 100);
ok($good->wait_count(50), 'F-N-1: another provider of the same dispatcher serves its deliveries');
ok(wait_true($node, q{SELECT count(*) = 50 FROM notif.deliveries WHERE state = 'accepted'}), 'F-N-1: and they are recorded');
unlike(states(101, 105), qr/accepted|failed|expired|unknown/, 'F-N-1: while nothing came of the others');
wait_error('hole', qr/cannot connect: timed out/, 'F-N-1: a connect that nobody answers is given up');
cmp_ok(time - $began, '>=', 4.9, 'F-N-1: after 5 s');
is(one_value($node, q{SELECT coalesce(max(o.tries), 0) FROM notif_private.outcome o WHERE o.state = 'deferred'}), '0', 'F-N-1: no attempt is used up');
burst('note', 51, 100);
ok($good->wait_count(100), 'F-N-1: the healthy one goes on while the other backs off');
ok($node->wait_for_log(qr/cannot send through provider "hole"/, $offset), 'F-N-1: the log says so');
define('hole', $good);
ok(wait_idle($node), 'F-N-1: once it can be reached all deliveries end');
is(states(101, 105), 'accepted 5', 'F-N-1: with success');
is($good->count, 105, 'F-N-1: each arrived once');
close $_ for @fill, $hole;

# ---- F-N-10: a redirect -----------------------------------------------------------------

my $moved = 'https://user:hunter2@elsewhere.example/3/device/' . token(1) . '?key=hunter2';
$offset = -s $node->logfile;
$sandbox->fault("status=307&location=$moved");
burst('note', 1, 3);
wait_error('apple', qr/^HTTP 307: not followed: redirect to elsewhere\.example$/, 'F-N-10: a redirect is not followed, notif.providers says where it led');
ok($node->wait_for_log(qr/DETAIL:  HTTP 307: not followed: redirect to elsewhere\.example/, $offset), 'F-N-10: and so does the log');
unlike(slurp_file($node->logfile), qr/hunter2/, 'F-N-10: without what is secret in it');
is(scalar(grep { $_->[5] ne 'com.example.shop' } $sandbox->refused), 0, 'F-N-10: nothing else was asked for');
unlike(states(1, 3), qr/accepted|failed|expired/, 'F-N-10: no delivery ended by it');
$sandbox->fault('clear');
ok(wait_idle($node), 'F-N-10: they go out when it is over');
is(states(1, 3), 'accepted 3', 'F-N-10: and are accepted');

# ---- F-N-9: permanent refusals -------------------------------------------------------------

my $who = 4;
for my $case (
	[ 'status=400&reason=PayloadEmpty', 'failed PayloadEmpty', 'active|' ],
	[ 'status=413', 'failed PayloadTooLarge', 'active|' ],
	[ 'status=410', 'failed Unregistered', 'invalid|Unregistered' ],
	[ 'status=410&reason=ExpiredToken', 'failed ExpiredToken', 'invalid|ExpiredToken' ])
{
	my ($switch, $outcome, $endpoint) = @$case;
	my $before = scalar $sandbox->refused;

	# a 410 that is younger than the registration
	$sandbox->fault($switch . '&timestamp=' . int((time + 60) * 1000));
	my $event = one_value($node, "SELECT notif.publish('note', 'p$who', '{\"n\": 1}')");
	ok(wait_idle($node), "F-N-9: $switch ends a delivery");
	is( one_value($node, qq{SELECT count(*) || ' ' || string_agg(state || ' ' || reason, ',') FROM notif_private.outcome WHERE event = '$event'}),
		"1 $outcome", 'F-N-9: with one row');
	is(scalar($sandbox->refused) - $before, 1, 'F-N-9: it was asked for once');
	is(one_value($node, "SELECT state, reason FROM notif.endpoints WHERE recipient = 'p$who'"), $endpoint, 'F-N-9: and the endpoint is judged');
	$sandbox->fault('clear');
	$who++;
}

# ---- F-N-13: answers that are none --------------------------------------------------------------

for my $case (
	[ 'cut short', '%7B%22reason%22:%22Unregis' ],
	[ 'not UTF-8', '%7B%22reason%22:%22%ff%fe%22%7D' ],
	[ 'with control characters', '%7B%22reason%22:%22%1b[31m%07%0a%22%7D' ],
	[ 'nested', '%5B' x 150 ],
	[ 'HTML', '%3Chtml%3EUnregistered%3C/html%3E' ])
{
	my ($name, $body) = @$case;
	my $event;

	$sandbox->fault("status=400&body=$body");
	$event = one_value($node, "SELECT notif.publish('note', 'p$who', '{\"n\": 1}')");
	ok(wait_idle($node), "F-N-13: an answer that is $name ends a delivery");
	is(one_value($node, qq{SELECT state, reason, status FROM notif_private.outcome WHERE event = '$event'}), 'failed|HTTP 400|400', 'F-N-13: by its status');
	is(one_value($node, "SELECT state FROM notif.endpoints WHERE recipient = 'p$who'"), 'active', 'F-N-13: the endpoint lives');
	$sandbox->fault('clear');
}
# What it is called is stored, if it is a word of some kind.
$sandbox->fault('status=400&body=%7B%22reason%22:%22Odd%c3%a4%22,%22reason%22:%22Odd%c3%a4%22%7D');
my $odd = one_value($node, "SELECT notif.publish('note', 'p$who', '{\"n\": 1}')");
ok(wait_idle($node), 'F-N-13: a name that is there twice ends a delivery');
is(one_value($node, qq{SELECT reason FROM notif_private.outcome WHERE event = '$odd'}), 'Odd??', 'F-N-13: its text is stored as ASCII');
$sandbox->fault('clear');

# ---- F-N-14: certificates, said once --------------------------------------------------------------

$offset = -s $node->logfile;
define('apple', $sandbox);				# whatever was said of it before
my $arrived = $sandbox->count;
$sandbox->fault('tls=selfsigned');
$sandbox->fault('goaway=now');
burst('few', 10, 14);
ok($node->wait_for_log(qr/cannot send through provider "apple"/, $offset), 'F-N-14: a certificate that proves nothing is in the log');
# three attempts to connect later
my $connections = $sandbox->stats->{connections};
ok(NotifTest::wait_for(sub { return $sandbox->stats->{connections} > $connections + 2 }), 'F-N-14: it is tried again');
is($sandbox->count, $arrived, 'F-N-14: nothing is sent');
my @told = grep { /LOG:.*cannot send through provider "apple"/ } split /\n/, substr slurp_file($node->logfile), $offset;
is(scalar @told, 1, 'F-N-14: and it is said once');
like(substr(slurp_file($node->logfile), $offset), qr/DETAIL:  certificate not accepted: self-signed certificate\n/, 'F-N-14: why is said in one line');
unlike(slurp_file($node->logfile), qr/BEGIN|PRIVATE KEY/, 'F-N-14: without a key');
$sandbox->fault('clear');
ok(wait_idle($node), 'F-N-14: with a good certificate it goes on');
is(states(10, 14), 'accepted 5', 'F-N-14: at no attempt\'s cost');

# ---- out of range ---------------------------------------------------------------------------------------

for my $setting (split /\n/, one_value($node, q{SELECT name || ' ' || min_val || ' ' || max_val FROM pg_settings
	WHERE name LIKE 'notif.%' AND vartype = 'integer' ORDER BY 1}))
{
	my ($name, $min, $max) = split / /, $setting;

	for my $value ($min - 1, $max + 1)
	{
		my ($rc, $out, $err) = $node->psql('shop', "ALTER SYSTEM SET $name = $value");

		isnt($rc, 0, "$name = $value is refused");
		like($err, qr/ERROR:  $value(?: ms)? is outside the valid range for parameter "\Q$name\E" \($min .. $max\)/, 'with the range');
	}
}
for my $setting ([ 'notif.instance_guard', 'maybe', qr/Available values: off, confirm/ ], [ 'notif.dispatch', 'perhaps', qr/requires a Boolean value/ ],
	[ 'notif.databases', join(',', map { "db$_" } 1 .. 17), qr/At most 16 databases/ ])
{
	my ($name, $value, $text) = @$setting;
	my ($rc, $out, $err) = $node->psql('shop', "ALTER SYSTEM SET $name = '$value'");

	isnt($rc, 0, "$name = '" . substr($value, 0, 10) . "' is refused");
	like($err, $text, 'with what can be');
}

# ---- the workers lived through all of it -------------------------------------------------------------------

is(one_value($node, q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}), $pids,
	'R6: no worker was restarted');
is(one_value($node, q{SELECT string_agg(kind || ' ' || last_error, ', ') FROM notif.workers WHERE last_error <> ''}), '', 'R6: none met an error');
balanced($node, 'at the end');
no_crash($node, 'a clean log');

# ---- F-N-16: a name that nobody resolves, and the end ---------------------------------------------------------

# Whether the machine's DNS says no or nothing: neither may delay the end.
define('hole', $good, host => 'push.invalid');
burst('note', 101, 105);
ok(wait_true($node, q{SELECT coalesce(bool_or(d.state = 'deferred'), false) FROM notif.deliveries d WHERE d.recipient = 'p101'}),
	'F-N-16: with a name that does not resolve deliveries wait');
$offset = -s $node->logfile;
$node->stop('fast');
my ($asked) = substr(slurp_file($node->logfile), $offset) =~ /(\d\d:\d\d:[\d.]+) .*received fast shutdown request/;
my ($gone) = substr(slurp_file($node->logfile), $offset) =~ /(\d\d:\d\d:[\d.]+) .*LOG:  shutting down/;
my ($from, $to) = map { my ($h, $m, $s) = split /:/, $_; ($h * 60 + $m) * 60 + $s } $asked, $gone;
cmp_ok($to - $from + ($to < $from ? 86400 : 0), '<', 6, 'F-N-16: and nothing delays the end');
done_testing();
