# A death with much to do: the first flight leaves within two seconds after the
# server accepts connections, whatever waits and is in doubt (F-P-7, F-P-8).
#
# BACKLOG: attempts that wait (200000).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

my $backlog = $ENV{BACKLOG} // 200_000;
my $death;
my @took;
my ($node, $sandbox) = new_shop('recovery', conf => <<'EOC', sandbox => { args => [ '--topic', 'com.example.shop', '--streams', 4000 ] });
restart_after_crash = on
shared_buffers = 256MB
max_wal_size = 4GB
fsync = on
EOC

# one request of each device is in the air at a time
people($node, 5000);
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 0}'), notif.publish('code', 'p1', '{"n": 0}')});
ok(wait_idle($node), 'warm');
$sandbox->fault('hang=on');
one_value($node, qq{SELECT count(notif.publish(CASE i % 10 WHEN 0 THEN 'money' ELSE 'note' END, 'p' || (1 + i % 5000), '{"n": 1}')) FROM generate_series(1, $backlog) i});
ok( wait_true($node, qq{SELECT coalesce(sum(n), 0) > $backlog FROM notif_private.tally WHERE tier = 1 AND state = 'expanded'}, 300),
	"$backlog attempts are expanded");
my $open = q{SELECT sum(n) FROM notif.state WHERE tier = 'standard' AND state = };
ok(wait_true($node, q{SELECT sum(n) >= 2000 FROM notif.state WHERE tier = 'standard' AND state = 'in_flight'}), 'thousands are in flight');

# Several flights, none of which is answered.
sub in_doubt { return one_value($node, q{SELECT count(*) FROM notif_private.flight_standard f WHERE NOT f.closed
	AND NOT EXISTS (SELECT FROM notif_private.flight_standard c WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed)}); }
cmp_ok(in_doubt(), '>=', 2, 'in several flights');
cmp_ok(one_value($node, "$open 'open'"), '>', $backlog / 2, 'and most of it waits');

# Times at which the server said that it is ready.
sub ready
{
	return map { /^(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+\.\d+).*ready to accept connections/ ? timegm(0, $5, $4, $3, $2 - 1, $1) + $6 : () }
	  split /\n/, slurp_file($node->logfile);
}

# Lines of the ledger after a time.
sub sent_after { my ($at) = @_; return grep { $_->{time_us} > $at * 1e6 } $sandbox->ledger; }

# Seconds from the server's word to the first line of the ledger after it.
sub first_flight
{
	my ($lives) = @_;
	my $line;

	ok(NotifTest::wait_for(sub { return ready() > $lives; }), 'the server is back');
	ok(NotifTest::wait_for(sub { return defined($line = (sent_after((ready())[$lives]))[0]); }), 'something is sent');
	return $line->{time_us} / 1e6 - (ready())[$lives];
}

for my $case (
	[ 'F-P-7, stop immediate', sub { $node->stop('immediate'); $sandbox->fault('clear'); $sandbox->fault('delay_ms=1500'); $node->start; } ],
	[ 'F-P-2, dispatcher killed', sub {
			my $crashes = crashes($node);

			kill 'KILL', one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'standard'});
			ok(NotifTest::wait_for(sub { return crashes($node) > $crashes }), 'killed'); } ],
	[ 'F-P-8, postmaster killed', sub {
			my @workers = split /\n/, one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE pid IS NOT NULL});
			my $dispatcher = one_value($node, q{SELECT pid FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'standard'});

			# stopped in the middle of its work, which it finds plenty of when it goes on
			kill 'STOP', $dispatcher;
			$node->kill9;
			$death = time;
			ok(NotifTest::wait_for(sub { return !grep { $_ != $dispatcher && kill 0, $_ } @workers }), 'F-P-8: workers end by themselves');
			ok(NotifTest::wait_for(sub { return time > $death + 1 }), 'F-P-8: a second later');
			kill 'CONT', $dispatcher;
			ok(NotifTest::wait_for(sub { return !kill 0, $dispatcher }), 'F-P-8: one that was busy does, too');
			# what it had handed over before it was stopped may have been under way
			cmp_ok(scalar(sent_after($death + 1)), '<=', 1000, 'F-P-8: without sending more than it had begun');
			ok(NotifTest::wait_for(sub { return eval { $node->start; 1 } }), 'F-P-8: the next one starts'); } ])
{
	my ($name, $die) = @$case;
	my $lives = ready();

	$die->();
	my $took = first_flight($lives);
	push @took, $took;
	cmp_ok($took, '<', 10, sprintf '%s: the first flight leaves after %.2f s', $name, $took);
	ok( NotifTest::wait_for(sub { my ($rc, $out) = $node->psql('shop', q{SELECT sum(n) >= 1000 FROM notif.state WHERE tier = 'standard' AND state = 'in_flight'}); return $rc == 0 && $out eq 't' }),
		"$name: and more follow");
}

# whatever else the machine was doing during one or the other
cmp_ok((sort { $a <=> $b } @took)[0], '<', 2, 'the first flight needs less than two seconds');
cmp_ok( one_value($node, qq{SELECT count(*) FROM notif_private.flight_standard WHERE NOT closed
		AND at BETWEEN to_timestamp($death + 1) AND to_timestamp(@{[ (ready())[-1] ]})}),
	'<=', 1, 'F-P-8: without a postmaster it finished the claim that it was stopped in, at most');

# F-P-7: what is held is held for good, and all the rest goes out.
my $held = one_value($node, "$open 'held'");
cmp_ok($held, '>', 0, 'what may not be sent twice and was in doubt is held');
$sandbox->fault('clear');
ok(wait_idle($node, 400), 'all deliveries end');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{attempted}, $backlog + 2, 'nothing was forgotten');
is($totals->{held}, one_value($node, "$open 'held'"), 'what is held is counted');
balanced($node, 'at the end');
$node->stop;
done_testing();
