# A provider that takes requests and says nothing: the database never waits for
# it.  Workers hold no snapshot, transaction id or transaction; DDL and a fast
# shutdown get through.
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

# For as long as fifteen seconds, over and over.
my ($looked, @held) = (0);
NotifTest::wait_for(sub {
		my $now = one_value($node, q{SELECT string_agg(backend_type || ' ' || coalesce(state, '') || ' ' || coalesce(query, ''), '; ')
			FROM pg_stat_activity WHERE backend_type LIKE 'notif%' AND backend_type NOT LIKE 'notif upkeep%'
			  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state <> 'idle' OR now() - xact_start > interval '1 s')});

		$looked++;
		push @held, $now if $now ne '';
		return time - $hung > 15;
	}, 20);
# a claim or a look at the configuration may be seen, but not twice running
cmp_ok(scalar @held, '<=', $looked / 50, "no worker holds a snapshot or transaction ($looked looks)");
note($_) for @held;
is( one_value($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%' AND now() - xact_start > interval '1 s'}),
	'0', 'none has been open for a second');
is(one_value($node, q{SELECT sum(n) FROM notif.state WHERE state = 'in_flight'}), '400', 'all of that while the provider hung');

sub timed
{
	my ($name, $limit, $what) = @_;
	my $at = time;

	$what->();
	cmp_ok(time - $at, '<', $limit, sprintf '%s takes less than %d s (%.2f)', $name, $limit, time - $at);
	return;
}
timed('CREATE DATABASE', 2, sub { $node->safe_psql('postgres', 'CREATE DATABASE other STRATEGY file_copy') });
timed('DROP DATABASE', 2, sub { $node->safe_psql('postgres', 'DROP DATABASE other') });
timed('TRUNCATE of a notif table', 3, sub { one_value($node, 'TRUNCATE notif_private.cancellation') });
timed('VACUUM FULL of one', 3, sub { one_value($node, 'VACUUM FULL notif_private.endpoint') });
timed('ALTER TABLE of one', 3, sub { one_value($node, q{ALTER TABLE notif_private.recipient SET (fillfactor = 90)}) });
# publishing and reading go on
timed('a publish', 1, sub { one_value($node, q{SELECT notif.publish('note', 'p200', '{"n": 1}')}) });
is(one_value($node, q{SELECT count(*) FROM notif.inbox('p1')}) > 3 ? 1 : 0, 1, 'so does the inbox');

timed('a fast shutdown', 7, sub { $node->stop('fast') });
$sandbox->fault('clear');
$node->start;
wait_running($node);
ok(wait_idle($node), 'after the restart all deliveries end');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries WHERE state = 'held'}), '200', 'what may not be sent twice is held');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
cmp_ok($totals->{duplicated}, '<=', 201, 'the others came again');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
