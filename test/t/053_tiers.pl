# Tiers share nothing: a hundred thousand bulk deliveries, waiting, running, and
# stuck at a provider that takes requests and never answers (R4), change nothing
# for critical and standard ones.  What is compared is order and counts; the
# bounds on time are far above anything but standing in a queue.
use strict;
use warnings FATAL => 'all';
# The box may have other work.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 180; }

use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant { PEOPLE => 50_000, BROADCASTS => 2, IN_FLIGHT => 8000, CODES => 20 };
use constant BULK => PEOPLE * BROADCASTS;

my ($node, $sandbox) = new_shop('tiers', conf => <<'EOC');
shared_buffers = 256MB
max_wal_size = 4GB
notif.max_in_flight = 8000
EOC
# The campaign has an application, a provider account and a sandbox of its own.
# With a certificate its connections are wide from the start, so that even a
# provider that never answers gets as many requests as the settings allow.
my $slow = NotifTest::new_sandbox(args => []);

people($node, 20);
one_value($node, qq{SELECT notif.define_provider('apple_news', 'apns',
		'{"host": "localhost", "port": $slow->{apns}, "ca_file": "$slow->{dir}/ca.pem", "topic": "com.example.shop", "max_connections": 8}',
		key => 'file:$slow->{dir}/client.key', certificate => 'file:$slow->{dir}/client.pem');
	SELECT notif.define_route('news', 'push', ARRAY['apple_news'], app => 'news')});
one_value($node, qq{
	SELECT notif.create_topic('all');
	INSERT INTO notif_private.recipient (ref) SELECT 'n' || i FROM generate_series(1, @{[ PEOPLE ]}) i;
	INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
	SELECT r.id, notif_private.app_id('push', 'ios', 'news'), 'push', 'd', lpad(to_hex(r.id), 64, '0'), now()
	FROM notif_private.recipient r WHERE r.ref LIKE 'n%';
	INSERT INTO notif_private.subscription (topic_id, recipient_id)
	SELECT t.id, r.id FROM notif_private.topic t, notif_private.recipient r WHERE r.ref LIKE 'n%';
	ANALYZE});

# (waiting, in flight, ended) of the bulk tier.
sub bulk
{
	return map { 0 + $_ } split /\|/, one_value($node, q{
		SELECT sum(n) FILTER (WHERE state = 'open'), sum(n) FILTER (WHERE state = 'in_flight'),
			   sum(n) FILTER (WHERE state NOT IN ('expanded', 'open', 'in_flight'))
		FROM notif.state WHERE tier = 'bulk'});
}

# Publishes one by one and waits for each at the provider: {passed: bulk
# deliveries that ended meanwhile, took: seconds, missing: how many never came}.
sub publish_beside
{
	my ($type, $n) = @_;
	my ($missing, @passed, @took) = (0);

	for my $i (1 .. $n)
	{
		my $before = (bulk())[2];
		my $at = time;
		my $event = one_value($node, qq{SELECT notif.publish('$type', 'p$i', '{"n": $i}')});

		NotifTest::wait_for(sub { return state_of($node, $event) eq 'accepted 1' }) or $missing++;
		push @took, time - $at;
		push @passed, (bulk())[2] - $before;
	}
	@took = sort { $a <=> $b } @took;
	@passed = sort { $a <=> $b } @passed;
	note(sprintf '%s: median %.3f s, longest %.3f s; meanwhile median %d, at most %d bulk deliveries ended',
		$type, $took[ $n / 2 ], $took[-1], $passed[ $n / 2 ], $passed[-1]);
	return { missing => $missing, passed => \@passed, took => \@took };
}

sub untouched
{
	my ($name, $type, $n) = @_;
	my $done = publish_beside($type, $n);

	is($done->{missing}, 0, "R4: $type while the bulk tier $name: all arrive");
	cmp_ok($done->{took}[ $n / 2 ], '<', 2, "R4: $type while the bulk tier $name: without standing in its queue");
	return $done;
}

# ---- waiting ------------------------------------------------------------------

one_value($node, q{SELECT notif.pause('provider', 'apple_news')});
my @news = map { one_value($node, qq{SELECT notif.publish('news', topic => 'all', data => '{"n": $_}')}) } 1 .. BROADCASTS;
ok(NotifTest::wait_for(sub { return (bulk())[0] == BULK }), 'the broadcasts are queued');
untouched('waits', $_, 5) for qw(code note);
is_deeply([ bulk() ], [ BULK, 0, 0 ], 'nothing of it has moved');

# ---- running ------------------------------------------------------------------

one_value($node, q{SELECT notif.resume('provider', 'apple_news')});
ok(NotifTest::wait_for(sub { return (bulk())[2] > 0 }), 'the broadcasts run');
for my $type (qw(code note))
{
	my $done = untouched('runs', $type, 5);

	cmp_ok($done->{passed}[2], '<', BULK / 4, "R4: $type overtakes what was queued before it");
}
my ($open, $in_flight, $ended) = bulk();
cmp_ok($open, '>', IN_FLIGHT * 2, 'most of the broadcasts were still to come');

# ---- stuck --------------------------------------------------------------------

$slow->fault('hang=on');
# Answers that were on their way are recorded; then nothing moves any more.
my @last = (0, 0, -1);
ok( NotifTest::wait_for(sub {
			my @now = bulk();
			my $still = $now[2] == $last[2] && $now[1] == $last[1] && $now[1] > 0;

			@last = @now;
			return $still }), 'the provider of the broadcasts hangs');
# Claims go on while there is room for a batch of 1000, on connections that are
# opened one after the other as the ones before are full: before the first
# request is given up, after 30 s.  A quarter is kept for the other provider.
ok(NotifTest::wait_for(sub { return (bulk())[1] >= IN_FLIGHT * 3 / 4 - 1000 }, 25), 'with as many requests as may be in flight');
my @before = bulk();
untouched('is stuck', $_, CODES) for qw(code note);
my @after = bulk();
cmp_ok($after[1], '>', 0, 'requests hang all the while');
cmp_ok($after[0], '>', 0, 'and more are waiting');
is($after[2], $before[2], 'R4: all arrive while not one bulk delivery ends');

# ---- and afterwards -------------------------------------------------------------

one_value($node, qq{SELECT notif.cancel('$_')}) for @news;
$slow->fault('clear');
ok(wait_idle($node), 'the rest is cancelled');
my ($ok, $totals) = check_ledger($node, [ $sandbox, $slow ]);
ok($ok, 'the checker is content');
is($totals->{attempted}, BULK + 2 * (5 + 5 + CODES), 'with every delivery');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
