# A provider that takes requests and says nothing for as long as we wait, 30 s:
# the database never waits for it.  Workers hold no snapshot, transaction id or
# transaction and are woken at once; DDL and a fast shutdown get through; what
# nobody answered is in doubt.
# F-N-2, F-P-6, F-P-14 (P1, P13).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('hang');

people($node, 300);
# a connection takes one stream until its first answer: every tier gets one
one_value($node, q{SELECT notif.publish(t, 'p1', '{"n": 0}') FROM unnest('{note,code,news}'::text[]) t});
ok(wait_idle($node), 'warm');
my $before = $sandbox->count;
$sandbox->fault('hang=on');
# an endpoint has one of a tier in the air: two types of one tier go to different people
one_value($node, q{SELECT count(notif.publish(t, 'p' || i + CASE t WHEN 'money' THEN 150 ELSE 0 END, jsonb_build_object('n', i)))
	FROM generate_series(1, 100) i, unnest('{note,money,code,news}'::text[]) t});
ok($sandbox->wait_count($before + 400), 'the requests are out');
ok(wait_true($node, q{SELECT sum(n) = 400 FROM notif.state WHERE state = 'in_flight'}), 'and unanswered');
my $hung = time;

sub timed
{
	my ($name, $limit, $what) = @_;
	my $at = time;

	$what->();
	cmp_ok(time - $at, '<', $limit, sprintf '%s takes less than %d s (%.2f)', $name, $limit, time - $at);
	return;
}
timed('F-P-14: CREATE DATABASE', 2, sub { $node->safe_psql('postgres', 'CREATE DATABASE other STRATEGY file_copy') });
timed('F-P-14: DROP DATABASE', 2, sub { $node->safe_psql('postgres', 'DROP DATABASE other') });
timed('TRUNCATE of a notif table', 3, sub { one_value($node, 'TRUNCATE notif_private.cancellation') });
timed('VACUUM FULL of one', 3, sub { one_value($node, 'VACUUM FULL notif_private.endpoint') });
timed('ALTER TABLE of one', 3, sub { one_value($node, q{ALTER TABLE notif_private.recipient SET (fillfactor = 90)}) });
# publishing and reading go on
timed('a publish', 1, sub { one_value($node, q{SELECT notif.publish('note', 'p290', '{"n": 1}')}) });
is(one_value($node, q{SELECT count(*) FROM notif.inbox('p1')}) > 3 ? 1 : 0, 1, 'so does the inbox');

# The latch wakes the dispatcher that waits for the hanging provider: from publish
# to the provider's receipt.  The quickest quarter, for the machine may be busy;
# whoever only looked now and then would be slower in most cases.  To people of
# whom nothing of the tier is in the air.
my @took;
for my $i (1 .. 12)
{
	my $sent = $sandbox->count;
	my ($event, $at) = split /\|/, one_value($node,
		qq{SELECT notif.publish('note', 'p@{[260 + $i]}', '{"n": 1}'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint});

	$sandbox->wait_count($sent + 1) or last;
	push @took, ([ $sandbox->ledger ]->[-1]{time_us} - $at) / 1000;
}
@took = sort { $a <=> $b } @took;
is(scalar @took, 12, 'F-N-2: fresh deliveries reach the provider meanwhile');
cmp_ok($took[2], '<', 50, sprintf 'F-N-2: the latch wakes the dispatcher within 50 ms (%.1f, median %.1f)', @took[2, 5]);

# Up to the time-out, over and over.
my ($looked, @held, @open) = (0);
NotifTest::wait_for(sub {
		my ($now, $open) = split /\|/, one_value($node, q{
			SELECT string_agg(backend_type || ' ' || coalesce(state, '') || ' ' || coalesce(query, ''), '; ')
				FILTER (WHERE backend_type NOT LIKE 'notif upkeep%'
					AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state <> 'idle')),
				string_agg(backend_type || ' ' || coalesce(query, ''), '; ') FILTER (WHERE now() - xact_start > interval '1 s')
			FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}), -1;

		$looked++;
		push @held, $now if $now ne '';
		push @open, $open if $open ne '';
		return time - $hung > 27;
	}, 40);
# a claim or a look at the configuration may be seen, but not twice running
cmp_ok(scalar @held, '<=', $looked / 50, "P1: no worker holds a snapshot or transaction id ($looked looks)");
is(scalar @open, 0, 'P1: no transaction of theirs was open for a second');
note($_) for @held, @open;
is(one_value($node, q{SELECT sum(n) FROM notif.state WHERE state = 'in_flight'}), '413', 'F-N-2: all of that while the provider hung');
ok(wait_true($node, q{SELECT count(*) = 200 FROM notif.deliveries WHERE state = 'held'}), 'F-N-2: after 30 s what may not be sent twice is held');
ok(wait_true($node, q{SELECT count(*) >= 213 FROM notif_private.outcome WHERE state = 'unknown' AND reason = 'timeout'}), 'F-N-2: the rest is in doubt');
cmp_ok(time - $hung, '>=', 29.9, 'F-N-2: not sooner');
ok($sandbox->wait_count($before + 413 + 213), 'F-N-2: and is sent again');

# What the workers take of a fast shutdown, the checkpoint apart.
my $offset = -s $node->logfile;
$node->stop('fast');
my %at;
for (split /\n/, substr slurp_file($node->logfile), $offset)
{
	$at{$2} //= $1 if /^\S+ (\d\d:\d\d:\d\d\.\d+) .*LOG:  (received fast shutdown request|shutting down)$/;
}
my ($asked, $done) = map { my ($h, $m, $sec) = split /:/, $at{$_} // '0:0:0'; ($h * 60 + $m) * 60 + $sec } 'received fast shutdown request', 'shutting down';
$done += 86400 if $done < $asked;
cmp_ok($done - $asked, '<', 6, sprintf 'F-P-6: a fast shutdown waits for the workers less than 6 s (%.2f)', $done - $asked);
ok(keys %at == 2 && $done > $asked, 'F-P-6: both ends of it are in the log');
$sandbox->fault('clear');
$node->start;
wait_running($node);
ok(wait_idle($node), 'after the restart all deliveries end');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries WHERE state = 'held'}), '200', 'what may not be sent twice is held');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'the others came again, under their ids');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
