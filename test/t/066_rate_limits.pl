# Rate limits with the workers themselves: a producer in a loop ends as what its limit
# allows and delays nobody else; tiers that send at the same time never pass more than
# a limit of one person or of all; neither a dispatcher's nor the server's death does.
use strict;
use warnings FATAL => 'all';
# The box may have other work.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 180; }

use lib 'test/t/lib';
use IPC::Run ();
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { FLOOD => 10_000, FLOOD_LIMIT => 5, PEOPLE => 200, EACH => 10, EACH_LIMIT => 7, SHARED => 1000 };

my ($node, $sandbox) = new_shop('limits');

people($node, PEOPLE);
one_value($node, q{
	SELECT notif.define_category('limited', retry_base => '100 ms', retry_cap => '300 ms', max_attempts => 20);
	SELECT notif.define_category('social', retry_base => '100 ms', retry_cap => '300 ms', max_attempts => 20);
	SELECT notif.define_type('follower', 'social', title => 'A follower', dedup_window => '10 min');
	SELECT notif.define_type('like', 'social', title => 'A like');
	SELECT notif.define_type('offer', 'limited', title => 'An offer');
	SELECT notif.define_type('mass', 'limited', tier => 'bulk', title => 'To all');
	SELECT notif.define_type('alarm', 'limited', tier => 'critical', title => 'Look');
	SELECT notif.create_topic('all');
	INSERT INTO notif_private.subscription SELECT t.id, r.id, now() FROM notif_private.topic t, notif_private.recipient r});

# 'accepted 5, suppressed rate_limited:few 9995' of a type, or of a person's.
sub fates
{
	my ($type, $person) = @_;
	my $who = defined $person ? "AND r.ref = '$person'" : '';

	return one_value($node, qq{SELECT string_agg(fate || ' ' || n, ', ' ORDER BY fate) FROM (
		SELECT o.state || coalesce(' ' || o.reason, '') AS fate, count(*) AS n FROM notif_private.outcome o
		  JOIN notif_private.type t ON t.id = o.type_id JOIN notif_private.recipient r ON r.id = o.recipient
		 WHERE t.name = '$type' AND o.terminal $who GROUP BY 1) x});
}

# ---- a producer in a loop ------------------------------------------------------------

one_value($node, qq{SELECT notif.define_rate_limit('few', @{[ FLOOD_LIMIT ]}, '1 hour', category => 'social')});
my $flood = IPC::Run::start([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-c', qq{
	DO \$\$ BEGIN FOR i IN 1 .. @{[ FLOOD ]} LOOP PERFORM notif.publish('like', 'p1', '{}'); COMMIT; END LOOP; END \$\$} ],
	'<', \undef, '>', \my $out, '2>', \my $err);
ok(wait_true($node, q{SELECT count(*) > 1000 FROM notif_private.event}), 'the loop runs');
my $beside = one_value($node, q{SELECT notif.publish('like', 'p2')});
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif_private.outcome WHERE event = '$beside' AND state = 'accepted'}), 'somebody else is told');
ok($flood->finish, 'the loop ends') or diag($err);
ok(wait_idle($node), 'everything is decided');
my $took = one_value($node, qq{SELECT extract(epoch FROM o.at - e.created_at) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
	WHERE o.event = '$beside' AND o.state = 'accepted'});
cmp_ok($took, '<', 10, "somebody else is not delayed: $took s");
is(fates('like', 'p1'), sprintf('accepted %d, suppressed rate_limited:few %d', FLOOD_LIMIT, FLOOD - FLOOD_LIMIT),
	'as many as the limit allows, and the others counted');
is(scalar(grep { $_->{token} eq token(1) } $sandbox->ledger), FLOOD_LIMIT, 'the provider has no other');
balanced($node, 'flood');
is(one_value($node, q{SELECT notif_private.rate_look(r.state, notif_private.limit_numbers(l), notif.now())::text FROM notif_private.rate r, notif_private.rate_limit l
	WHERE r.recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'p1')}) =~ /^\{0,/ ? 'full' : 'not full', 'full', 'his limit is used up');
cmp_ok(one_value($node, q{SELECT max(octet_length(state)) FROM notif_private.rate}), '<', 200, 'and his row is small');

# The same again from one source: one, and neither push nor inbox item of the others.
one_value($node, q{DO $$ BEGIN FOR i IN 1 .. 1000 LOOP PERFORM notif.publish('follower', 'p3', source => 'user/9'); COMMIT; END LOOP; END $$});
ok(wait_idle($node), 'followers are decided');
is(fates('follower'), 'accepted 1, suppressed duplicate 999', 'one is told');
is(one_value($node, q{SELECT count(*) FROM notif_private.inbox i JOIN notif_private.type t ON t.id = i.type_id WHERE t.name = 'follower'}), 1, 'one is in the inbox');

# ---- one person, three tiers at once -------------------------------------------------

one_value($node, q{SELECT notif.drop_rate_limit('few')});
one_value($node, qq{SELECT notif.define_rate_limit('person', @{[ EACH_LIMIT ]}, '1 hour')});
$sandbox->get('/reset');
my @at_once = map {
	IPC::Run::start([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-c', $_ ], '<', \undef)
} (
	qq{DO \$\$ BEGIN FOR i IN 1 .. @{[ EACH ]} LOOP PERFORM notif.publish('offer', recipients => ARRAY(SELECT 'p' || n FROM generate_series(1, @{[ PEOPLE ]}) n)); COMMIT; END LOOP; END \$\$},
	qq{DO \$\$ BEGIN FOR i IN 1 .. @{[ EACH ]} LOOP PERFORM notif.publish('mass', topic => 'all'); COMMIT; END LOOP; END \$\$},
	qq{DO \$\$ BEGIN FOR i IN 1 .. @{[ EACH ]} LOOP PERFORM notif.publish('alarm', 'p' || n) FROM generate_series(1, @{[ PEOPLE ]}) n; COMMIT; END LOOP; END \$\$});
$_->finish for @at_once;
ok(wait_idle($node), 'everybody is told by three tiers at once');
is(one_value($node, q{SELECT count(*) FROM (
	SELECT recipient, o.tier = 0, count(*) FILTER (WHERE state = 'accepted') AS n FROM notif_private.outcome o JOIN notif_private.type t ON t.id = o.type_id
	 WHERE t.category = 'limited' AND o.terminal GROUP BY 1, 2) x WHERE n <> } . EACH_LIMIT), 0, 'standard and bulk together, and critical, each exactly the limit');
is(one_value($node, q{SELECT count(DISTINCT reason) FROM notif_private.outcome WHERE state = 'suppressed' AND type_id IN (SELECT id FROM notif_private.type WHERE category = 'limited')}), 1, 'for one reason');
is($sandbox->count, 2 * PEOPLE * EACH_LIMIT, 'and the provider has no other');
balanced($node, 'three tiers');

# ---- one limit for all, over deaths ----------------------------------------------------

one_value($node, q{SELECT notif.drop_rate_limit('person')});
one_value($node, qq{SELECT notif.define_rate_limit('provider', @{[ SHARED ]}, '1 hour', 'drop', scope => 'provider', provider => 'apple')});
$sandbox->get('/reset');
my $before = one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'accepted'});
sub publish_all
{
	my ($rounds) = @_;
	my @started = map { IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('shop'), '-c', $_ ], '<', \undef, '2>', \my $ignored) } (
		qq{DO \$\$ BEGIN FOR i IN 1 .. $rounds * @{[ PEOPLE ]} LOOP PERFORM notif.publish('offer', 'p' || (1 + i % @{[ PEOPLE ]})); COMMIT; END LOOP; END \$\$},
		qq{DO \$\$ BEGIN FOR i IN 1 .. $rounds LOOP PERFORM notif.publish('mass', topic => 'all'); COMMIT; END LOOP; END \$\$},
		qq{DO \$\$ BEGIN FOR i IN 1 .. $rounds * @{[ PEOPLE ]} LOOP PERFORM notif.publish('alarm', 'p' || (1 + i % @{[ PEOPLE ]})); COMMIT; END LOOP; END \$\$});
	$_->finish for @started;
	return;
}
publish_all(1);
ok(wait_idle($node), 'six hundred');
# (left, leased); a lease that has ended meanwhile is given back when its tier comes.
sub standing
{
	return map { 0 + $_ } split /\|/, one_value($node, q{
		SELECT (notif_private.rate_look((SELECT t.state FROM notif_private.rate_total t ORDER BY t.seq DESC LIMIT 1), notif_private.limit_numbers(l), notif.now()))[1],
			   (SELECT sum(units) FROM (SELECT DISTINCT ON (tier) units FROM notif_private.rate_lease ORDER BY tier, seq DESC) x)
		  FROM notif_private.rate_limit l});
}
my ($left, $leased) = standing();
is($left + $leased, SHARED - 3 * PEOPLE, 'every unit is used, leased or left');
cmp_ok($leased, '<=', 3 * SHARED / 100, "at most a hundredth is leased to each tier: $leased");
# The server dies with the leases; each tier finds its own again.
$node->stop('immediate');
$node->start;
ok(wait_running($node), 'the server is back');
is(join(' ', standing()), "$left $leased", 'no unit is lost, none is there twice');
# A dispatcher dies while it sends.
my ($pid) = one_value($node, q{SELECT pid FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'bulk'});
kill 'TERM', $pid;
publish_all(3);
ok(wait_running($node), 'the dispatcher is back');
ok(wait_idle($node), 'eighteen hundred more');
my $sent = one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE state = 'accepted'}) - $before;
cmp_ok($sent, '<=', SHARED, 'never one more than the limit');
# what the others have leased is not theirs to use
cmp_ok($sent, '>=', SHARED - 2 * SHARED / 100, "and no fewer than it less the leases of the others: $sent");
my %ids = map { $_->{id} => 1 } $sandbox->ledger;
is(scalar(keys %ids), $sent, 'the provider has no other');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE terminal AND state = 'suppressed' AND reason = 'rate_limited:provider'}), 12 * PEOPLE - $sent, 'the others are counted');
balanced($node, 'shared');

# ---- what never left costs nothing -------------------------------------------------------

one_value($node, q{SELECT notif.drop_rate_limit('provider');
	SELECT notif.define_type('greeting', 'limited', title => 'Hello {recipient.name}');
	SELECT notif.define_rate_limit('greetings', 3, '1 hour', type => 'greeting')});
one_value($node, q{SELECT notif.publish('greeting', 'p4') FROM generate_series(1, 2)});
ok(wait_idle($node), 'who has no name is not greeted');
one_value($node, q{SELECT notif.upsert_recipient('p4', attributes => '{"name": "Ada"}')});
one_value($node, q{SELECT notif.publish('greeting', 'p4')});
ok(wait_idle($node), 'but then');
is(fates('greeting'), 'accepted 1, failed placeholder_missing: recipient.name 2', 'two could not be rendered');
ok(wait_true($node, q{SELECT (notif_private.rate_look(r.state, notif_private.limit_numbers(l), notif.now()))[1] = 2
	FROM notif_private.rate r, notif_private.rate_limit l
	WHERE NOT r.critical AND r.recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'p4')}), 'and count for nothing');

is(one_value($node, q{SELECT count(*) FROM pg_stat_database WHERE deadlocks > 0}), 0, 'no deadlock in all this');
no_crash($node, 'no crash and no error');
$node->stop;
done_testing();
