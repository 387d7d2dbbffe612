# F-D-15: what is large must not stop what is small: a transaction with very many
# publishes and a topic with very many recipients are expanded in short
# transactions, and a single publish of the same tier overtakes both.
#
# LARGE=1 takes 1,000,000 of each; without, 40,000 and 60,000.
use strict;
use warnings FATAL => 'all';
# Before the helper sets the shorter one.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} = 600 if $ENV{LARGE}; }

use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($publishes, $recipients) = $ENV{LARGE} ? (1_000_000, 1_000_000) : (40_000, 60_000);
# The lane is closed: what is measured is the router.
my ($node, $sandbox) = new_shop('large', conf => <<'EOC');
shared_buffers = 256MB
max_wal_size = 4GB
log_autovacuum_min_duration = -1
EOC

one_value($node, qq{
	INSERT INTO notif_private.recipient (ref) SELECT 'p' || i FROM generate_series(1, $recipients) i;
	SELECT notif.register_device('p1', 'd', 'ios', '@{[ token(1) ]}');
	INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
	SELECT r.id, a.id, 'push', 'd', lpad(to_hex(r.id), 64, '0'), now()
	FROM notif_private.recipient r CROSS JOIN notif_private.app a WHERE r.ref <> 'p1';
	INSERT INTO notif_private.topic (name) VALUES ('all');
	INSERT INTO notif_private.subscription (topic_id, recipient_id) SELECT t.id, r.id FROM notif_private.topic t, notif_private.recipient r;
	ANALYZE});
one_value($node, q{SELECT notif.define_type('mass', 'retry', title => 'Mass {n}', channels => '{push,inbox}')});
one_value($node, q{SELECT notif.pause('provider', 'apple')});

# The longest time that a router was seen inside one transaction, sampled as
# often as a session can.
sub watch
{
	my ($until) = @_;
	my $watcher = $node->background_psql('shop', on_error_stop => 0);
	my ($worst, $samples) = (0, 0);

	while (1)
	{
		my $ms = $watcher->query(q{SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)) * 1000, 0)
			FROM pg_stat_activity WHERE backend_type LIKE 'notif router%'});

		$samples++;
		$worst = $ms if $ms =~ /^[\d.]+$/ && $ms > $worst;
		last if $until->();
	}
	$watcher->quit;
	note("longest router transaction seen: $worst ms in $samples samples");
	return $worst;
}

sub routed { my ($event) = @_; return one_value($node, qq{SELECT EXISTS (SELECT FROM notif_private.outbox_standard WHERE event = '$event')}) eq 't'; }
sub expanding { return one_value($node, q{SELECT count(*) FROM notif_private.worker_expansions_standard()}); }

for my $case (
	[ 'a transaction', qq{SELECT count(notif.publish('mass', 'p' || i, jsonb_build_object('n', i))) FROM generate_series(1, $publishes) i}, $publishes ],
	[ 'a topic', q{SELECT notif.publish('mass', topic => 'all', data => '{"n": 1}')}, $recipients ])
{
	my ($name, $sql, $n) = @$case;
	my $before = one_value($node, q{SELECT coalesce(sum(n), 0) FROM notif_private.tally_standard WHERE state = 'expanded'});

	# both are there when the router comes to them, however slow this script is
	one_value($node, q{SELECT notif.pause('tier', 'standard')});
	one_value($node, $sql);
	my $single = one_value($node, q{SELECT notif.publish('note', 'p2', '{"n": 1}')});
	my $committed = time;
	one_value($node, q{SELECT notif.resume('tier', 'standard')});
	my $overtaken;
	my $worst = watch(sub {
			$overtaken = time - $committed if !defined $overtaken && routed($single);
			return defined $overtaken && expanding() == 0
			  && one_value($node, q{SELECT coalesce(sum(n), 0) FROM notif_private.tally_standard WHERE state = 'expanded'}) - $before >= $n + 1
			  || time - $committed > 300; });

	cmp_ok($overtaken // 999, '<', 5, "F-D-15: a publish after $name is routed soon");
	my $left = one_value($node, qq{SELECT count(*) FROM notif_private.outbox_standard o JOIN notif_private.outbox_standard s ON s.event = '$single'
		WHERE o.ord > s.ord AND o.type_id = (SELECT id FROM notif_private.type WHERE name = 'mass')});
	cmp_ok($left, '>', $n / 2, "while most of $name is still to come");
	cmp_ok($worst, '<', 200, "F-D-15: no transaction of the router over $name is long");
	is(one_value($node, q{SELECT coalesce(sum(n), 0) FROM notif_private.tally_standard WHERE state = 'expanded'}) - $before,
		$n + 1, "F-D-15: all of $name is expanded once");
	note(sprintf '%s: %d attempts in %.1f s, overtaken after %.3f s with %d to come', $name, $n, time - $committed, $overtaken // -1, $left);
}
is(one_value($node, q{SELECT count(*) = count(DISTINCT delivery) FROM notif_private.outbox_standard}), 't', 'no delivery was filed twice');
is(one_value($node, q{SELECT count(*) = count(DISTINCT (recipient, event)) FROM notif_private.inbox}), 't', 'nor an inbox item');
balanced($node, 'before sending');

# All of it goes out, while one-time codes keep passing.
my $go = time;
one_value($node, q{SELECT notif.resume('provider', 'apple')});
my @late;
for (1 .. 10)
{
	my $at = time;
	my $code = one_value($node, q{SELECT notif.publish('code', 'p3', '{"n": 1}')});

	NotifTest::wait_for(sub { return state_of($node, $code) eq 'accepted 1' }, 30);
	push @late, time - $at;
}
cmp_ok((sort { $a <=> $b } @late)[5], '<', 2, 'critical deliveries pass while the standard tier is full');
ok(wait_idle($node, 400), 'everything is delivered');
note(sprintf 'delivered %d in %.1f s', $publishes + $recipients + 2, time - $go);
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{delivered}, $publishes + $recipients + 2 + 10, 'all arrived');
is($totals->{duplicated}, 0, 'once');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
