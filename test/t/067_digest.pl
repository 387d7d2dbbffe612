# Digests under crashes: the router dies while it gathers, while it tells, and between
# telling and routing what it has told; a restart comes in the middle of a window.
# Each event is in exactly one digest, each digest reaches its device once.  Ten
# thousand for one person under a held snapshot; one that always fails.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('digest', conf => "restart_after_crash = on\nfsync = on\n");
my $kills = 0;
my $published = 0;

people($node, 20);
fault_points($node);
one_value($node, q{
	SELECT notif.define_type('chat', 'retry', title => '{text}', ttl => '28 days');
	SELECT notif.define_digest('chat', wait => '1 day', max_delay => '2 days', title => '{count} new in {key}', body => '{items.0.text}');
	SELECT notif.define_type('post', 'hold', tier => 'bulk', title => '{text}', ttl => '28 days');
	SELECT notif.define_digest('post', wait => '1 day', max_delay => '2 days', key => 'source', title => '{count} of {key}')});

# Five of each of some threads for each of some people.
sub publish_some
{
	my ($type, $people, $threads) = @_;

	$published += 5 * $people * $threads;
	# its session may go down with the server, after its commit
	$node->psql('shop', qq{
		SELECT count(notif.publish('$type', 'p' || p, jsonb_build_object('text', i, 'batch', $published), thread => 't' || t, source => 's' || t))
		FROM generate_series(1, $people) p, generate_series(1, $threads) t, generate_series(1, 5) i});
	return;
}

# Two days later, as long as the server lives.
sub later
{
	$node->psql('shop', 'SELECT notif_private.shift_clock(172800 * 1000000::bigint), notif_private.wake(1::smallint), notif_private.wake(2::smallint)');
	return;
}

sub recovered
{
	my ($name) = @_;

	$kills++;
	ok(NotifTest::wait_for(sub { return crashes($node) >= $kills }), "$name: killed");
	ok(wait_running($node), "$name: the server and all workers are back");
	return;
}

# What is open has what was published last, nothing is told twice or lost.
sub gathered
{
	my ($name, $open, $items) = @_;

	ok(wait_idle($node), "$name: all is routed");
	is(one_value($node, 'SELECT count(*), coalesce(sum(count), 0) FROM notif.digests'), "$open|$items", "$name: what waits is complete");
	return;
}

sub told
{
	my ($name) = @_;

	later();
	ok(wait_true($node, 'SELECT count(*) = 0 FROM notif_private.digest'), "$name: everything is told");
	ok(wait_idle($node), "$name: all deliveries end");
	is( one_value($node, q{SELECT count(*), count(DISTINCT (event, recipient)), count(*) FILTER (WHERE told_by IS NULL) FROM notif.digest_items}),
		"$published|$published|0", "$name: each event is in one digest, which was told");
	is(one_value($node, 'SELECT count(*) FROM notif.digest_log WHERE told <> count OR reason IS NOT NULL'), 0, "$name: with all that it had");
	my $deliveries = one_value($node, q{
		SELECT count(*), count(*) FILTER (WHERE o.state = 'accepted') FROM notif_private.digest_done d JOIN notif_private.outcome o ON o.event = d.event});
	my $digests = one_value($node, 'SELECT count(*) FROM notif.digest_log');
	is($deliveries, "$digests|$digests", "$name: each digest was accepted, and tried once");
	my %seen;
	$seen{ $_->{id} }++ for $sandbox->ledger;
	is(scalar(grep { $_ > 1 } values %seen), 0, "$name: the provider saw none twice");
	is(scalar(keys %seen), $digests, "$name: and each of them");
	balanced($node, $name);
	return;
}

# ---- gathering
for my $case ([ 'chat', 'standard' ], [ 'post', 'bulk' ])
{
	my ($type, $tier) = @$case;
	my $name = "$tier, K1 while gathering";

	fault($node, 'K1', 'die', tier => $tier);
	publish_some($type, 4, 3);
	recovered($name);
	gathered($name, 12, 60);
	# into the same digests, after a crash or not
	publish_some($type, 4, 3);
	gathered($name, 12, 120);
	told($name);
}

# ---- telling
for my $case ([ 'K11a', 'standard', 'chat' ], [ 'K11b', 'standard', 'chat' ], [ 'K11a', 'bulk', 'post' ], [ 'K11b', 'bulk', 'post' ])
{
	my ($point, $tier, $type) = @$case;
	my $name = "$tier, $point while telling";

	$node->restart;
	ok(wait_running($node), "$name: ready");
	publish_some($type, 5, 2);
	gathered($name, 10, 50);
	fault($node, $point, 'die', tier => $tier);
	later();
	recovered($name);
	ok(wait_idle($node), "$name: what was committed goes on");
	is(one_value($node, 'SELECT count(*) FROM notif_private.digest'), 10, "$name: nothing of it was") if $point eq 'K11a';
	told($name);
}

# ---- what was told and is in flight as the dispatcher dies
$node->restart;
ok(wait_running($node), 'K2: ready');
publish_some('chat', 5, 2);
gathered('K2, dispatcher dies', 10, 50);
fault($node, 'K2', 'die', tier => 'standard');
later();
recovered('K2, dispatcher dies');
told('K2, dispatcher dies');

# ---- a restart in the middle of a window
$node->restart;
ok(wait_running($node), 'restart: ready');
publish_some('chat', 3, 1);
gathered('restart', 3, 15);
my $opened = one_value($node, 'SELECT max(opened_at) FROM notif.digests');
$node->restart;
ok(wait_running($node), 'restart: all workers are back');
publish_some('chat', 3, 1);
gathered('restart', 3, 30);
is(one_value($node, 'SELECT max(opened_at) FROM notif.digests'), $opened, 'restart: the window is the same');
told('restart');

# ---- 10,000 for one person, one transaction each hundred, while somebody's snapshot
# holds back vacuum
$node->restart;
ok(wait_running($node), 'flood: ready');
my $holder = $node->background_psql('shop', on_error_stop => 0);
$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query('SELECT count(*) FROM notif_private.digest');
one_value($node, q{SELECT pg_stat_reset_single_table_counters('notif_private.digest'::regclass)});
one_value($node, q{
	DO $$ BEGIN FOR i IN 1 .. 100 LOOP
		PERFORM notif.publish('chat', 'p1', jsonb_build_object('text', i * 100 + j), thread => 'flood') FROM generate_series(1, 100) j;
		COMMIT;
	END LOOP; END $$});
$published += 10000;
gathered('flood', 1, 10000);
ok(wait_true($node, q{SELECT n_tup_ins = 1 AND n_tup_upd = 0 AND n_tup_del = 0 FROM pg_stat_user_tables WHERE relid = 'notif_private.digest'::regclass}),
	'flood: the open digest is one row that nobody has touched');
told('flood');
is(one_value($node, q{SELECT max(count), max(told) FROM notif.digest_log}), '10000|10000', 'flood: one digest tells of all');
my ($last) = reverse $sandbox->ledger;
like($last->{body}, qr/10000 new in flood/, 'flood: the device was told so');
cmp_ok($last->{bytes}, '<', 1000, 'flood: and not more');
$holder->query('COMMIT');
$holder->quit;

# ---- one that always fails costs its own person his digest, and nobody else's
$node->restart;
ok(wait_running($node), 'quarantine: ready');
one_value($node, q{DO $$ BEGIN EXECUTE format('ALTER TABLE notif_private.digest_done ADD CONSTRAINT broken CHECK (event IS NULL OR recipient <> %s) NOT VALID',
	(SELECT id FROM notif_private.recipient WHERE ref = 'p2')); END $$});
publish_some('chat', 3, 1);
gathered('quarantine', 3, 15);
later();
ok(wait_true($node, 'SELECT count(*) = 0 FROM notif_private.digest'), 'quarantine: none is left open');
ok(wait_idle($node), 'quarantine: all deliveries end');
is( one_value($node, q{SELECT string_agg(recipient || ' ' || coalesce(reason, 'told'), ', ' ORDER BY recipient) FROM (SELECT * FROM notif.digest_log ORDER BY closed_at DESC LIMIT 3) x}),
	'p1 told, p2 quarantined:23514, p3 told', 'quarantine: it is said which, and why');
balanced($node, 'quarantine');
$node->stop;
done_testing();
