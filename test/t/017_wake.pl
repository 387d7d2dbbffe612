# A router is woken by a commit and by nothing less; COMMIT PREPARED wakes, too;
# nobody turns more often than every 30 seconds when there is nothing to do.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('wake', conf => 'autovacuum = off');
$node->start;
create_database($node, 'shop');
$node->safe_psql('shop', q{
	SELECT notif.define_category('news');
	SELECT notif.define_type('code', 'news', tier => 'critical', channels => '{inbox}', title => 'Code');
	SELECT notif.define_type('flash', 'news', tier => 'standard', channels => '{inbox}', title => 'News');
	SELECT notif.define_type('offer', 'news', tier => 'bulk', channels => '{inbox}', title => 'Offer');
	SELECT notif.upsert_recipient('ann');
});

# In the critical tier the dispatcher routes.
sub router { return $_[0] eq 'critical' ? 'dispatcher' : 'router'; }
sub turns { my ($tier) = @_; return worker_value($node, 'shop', router($tier), $tier, 'turns'); }

# Waits until everybody has been asleep over a whole look at the counters.
sub wait_until_idle
{
	my $last = '';

	for (1 .. 600)
	{
		my $now = $node->safe_psql('shop',
			q{SELECT string_agg(turns::text, ' ' ORDER BY kind, tier), count(*) FILTER (WHERE heartbeat < clock_timestamp() - interval '1.5 s')
			  FROM notif_private.worker_status()});
		return 1 if $now eq $last && $now =~ /\|7$/;
		$last = $now;
	}
	return 0;
}

ok(wait_until_idle(), 'workers come to rest');

# A publish wakes the router of its tier at commit.
for my $case ([ 'code', 'critical' ], [ 'flash', 'standard' ], [ 'offer', 'bulk' ])
{
	my ($type, $tier) = @$case;
	my $before = turns($tier);

	$node->safe_psql('shop', "SELECT notif.publish('$type', recipient => 'ann')");
	ok( $node->poll_query_until('shop',
			"SELECT turns > $before FROM notif_private.worker_status() WHERE kind = '@{[ router($tier) ]}' AND tier = '$tier'"),
		"a committed publish wakes the $tier router");
}
ok($node->poll_query_until('shop', 'SELECT count(*) = 3 FROM notif_private.inbox'), 'and all is delivered');

# Neither a rollback nor PREPARE wakes: another tier's wake-up is the yardstick.
ok(wait_until_idle(), 'at rest again');
my ($critical, $standard) = (turns('critical'), turns('standard'));
$node->safe_psql('shop', q{
	BEGIN; SELECT notif.publish('code', recipient => 'ann'); ROLLBACK;
	BEGIN; SELECT notif.publish('code', recipient => 'ann'); PREPARE TRANSACTION 'held';
	SELECT notif.publish('flash', recipient => 'ann');
});
ok( $node->poll_query_until('shop',
		"SELECT turns > $standard FROM notif_private.worker_status() WHERE kind = 'router' AND tier = 'standard'"),
	'the later commit has woken its router');
is(turns('critical'), $critical, 'rollback and PREPARE TRANSACTION have woken nobody');

ok($node->poll_query_until('shop', 'SELECT count(*) = 4 FROM notif_private.inbox'), 'the committed one is delivered');
$node->safe_psql('shop', q{COMMIT PREPARED 'held'});
ok( $node->poll_query_until('shop',
		"SELECT turns > $critical FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'critical'"),
	'COMMIT PREPARED wakes, from another session');
ok($node->poll_query_until('shop', 'SELECT count(*) = 5 FROM notif_private.inbox'), 'and what was prepared is delivered');

# Nothing to do: over one full sleep of upkeep nobody is woken more than twice
# (its own end of sleep may fall into the span at both ends).
$node->safe_psql('shop', q{
	CREATE FUNCTION wakeups(OUT kind text, OUT tier text, OUT wakeups bigint) RETURNS SETOF record
	LANGUAGE c AS '$libdir/notif', 'notif_worker_status'});
ok(wait_until_idle(), 'at rest');
my $upkeep = worker_value($node, 'shop', 'upkeep', undef, 'turns');
ok( $node->poll_query_until('shop', "SELECT turns > $upkeep FROM notif_private.worker_status() WHERE kind = 'upkeep'"),
	'upkeep lies down');
$node->safe_psql('shop', 'CREATE TABLE at_first AS SELECT * FROM wakeups()');
$upkeep = worker_value($node, 'shop', 'upkeep', undef, 'turns');
ok( $node->poll_query_until('shop', "SELECT turns > $upkeep FROM notif_private.worker_status() WHERE kind = 'upkeep'"),
	'and ends it');
is( $node->safe_psql('shop', q{
		SELECT w.kind, w.tier, w.wakeups - f.wakeups
		  FROM wakeups() w JOIN at_first f ON w.kind = f.kind AND w.tier IS NOT DISTINCT FROM f.tier
		 WHERE w.wakeups - f.wakeups > 2}),
	'', 'no idle worker wakes more than once in 30 s');

$node->stop;
no_surprises($node, 'no unexpected message');
done_testing();
