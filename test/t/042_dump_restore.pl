# F-D-10, F-D-11: a dump restored into another cluster.  Every row is there and no
# secret, nothing is sent before notif.confirm_instance(), and what was undelivered
# is delivered after it, also what was published between restore and confirmation.
# The transaction ids of the dumped rows lie far ahead of the new cluster's: when
# its own reach them, nothing is lost or sent twice.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Moves the transaction counter of a stopped cluster on.  At the start of a page of
# the commit log, which is made when its first id is given out.
sub next_xid
{
	my ($server, $xid) = @_;

	die "$xid is not the first of its page" if $xid % 32768 != 0;
	command_ok([ 'pg_resetwal', '-x', $xid, '-D', $server->data_dir ], "the next transaction id is $xid");
	return;
}
my $far = 40 * 32768;

my $sandbox = new_sandbox();
my $node = new_cluster('dumped');
next_xid($node, $far);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');
define_shop($node, $sandbox);
wait_running($node);
my $secret = 'CANARY0secret1in2a3dump';

people($node, 700);
one_value($node, qq{SELECT notif.set_secret('canary', '$secret')});
one_value($node, q{SELECT notif.subscribe_many('all', ARRAY(SELECT 'p' || i FROM generate_series(1, 700) i))});
one_value($node, q{SELECT notif.define_rate_limit('hour', 1000, '1 hour', 'drop')});
one_value($node, q{SELECT notif.record_consent('p1', 'email', 'retry', true, source => 'web', proof => '{"form": 1}')});
one_value($node, q{SELECT notif.install_region_rules()});
one_value($node, q{SELECT notif.suppress('+1 415 555 0100', reason => 'stop')});
one_value($node, q{SELECT notif.set_retention('long', '8 years')});

# Delivered before the dump; a dead letter; a retry that is far off; a held one.
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}', idempotency_key => 'key ' || i)) FROM generate_series(1, 50) i});
ok(wait_idle($node), 'some are delivered');
$sandbox->get('/token?hex=' . token(60) . '&state=dead');
one_value($node, q{SELECT notif.publish('note', 'p60', '{"n": 1}')});
ok(wait_idle($node), 'one is dead');
$sandbox->fault('status=503&reason=ServiceUnavailable&retry_after=1800&count=1');
one_value($node, q{SELECT notif.publish('note', 'p61', '{"n": 1}')});
ok(wait_true($node, q{SELECT count(*) = 1 FROM notif_private.scheduled_standard}), 'one is tried again later');
one_value($node, q{SELECT count(notif.mark_read('p1', ARRAY(SELECT item FROM notif.inbox('p1'))))});

# Undelivered at the dump: queued, half expanded, and not even routed.
one_value($node, q{SELECT notif.pause('provider', 'apple')});
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 2}')) FROM generate_series(100, 299) i});
ok(wait_true($node, q{SELECT count(*) = 200 FROM notif_private.queued_standard}), 'some are queued');
$node->safe_psql('postgres', q{ALTER SYSTEM SET notif.dispatch = off});
$node->reload;
ok(wait_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'notif router%' OR backend_type LIKE 'notif dispatcher%'}), 'workers are off');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 3}')) FROM generate_series(300, 399) i});
one_value($node, q{SELECT notif.publish('news', topic => 'all', data => '{"n": 4}')});
# the first two chunks of the topic by hand, as its router does
one_value($node, q{SELECT more FROM notif_private.worker_route_bulk(2000)});
one_value($node, q{SELECT notif_private.worker_expand_bulk(x, 300) FROM notif_private.worker_expansions_bulk() x});
one_value($node, q{SELECT count(notif.publish('code', 'p' || i, '{"n": 5}')) FROM generate_series(400, 409) i});
my $arrived = $sandbox->count;

# ---- dump ------------------------------------------------------------------------------

my $counts = q{
	SELECT string_agg(format('%s %s', c.relname, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM notif_private.%I', c.relname), false, true, '')))[1]),
					  E'\n' ORDER BY c.relname)
	FROM pg_class c WHERE c.relnamespace = 'notif_private'::regnamespace AND c.relkind IN ('r', 'p')
	  AND c.relname NOT IN ('secret', 'provider_token')};
my $before = one_value($node, $counts);
my $config = q{
	SELECT * FROM notif.categories ORDER BY name; SELECT * FROM notif.types ORDER BY name; SELECT * FROM notif.routes ORDER BY name;
	SELECT * FROM notif.rate_limits ORDER BY name; SELECT * FROM notif.topics ORDER BY name; SELECT * FROM notif.switches ORDER BY at;
	SELECT name, kind, enabled, paused, settings, key, certificate, accepted, failed, changed_at FROM notif.providers ORDER BY name;
	SELECT * FROM notif.recipients ORDER BY ref; SELECT * FROM notif.endpoints ORDER BY endpoint;
	SELECT * FROM notif.consent_log ORDER BY id; SELECT * FROM notif.region_rules ORDER BY name; SELECT * FROM notif.retention ORDER BY what;
	SELECT * FROM notif_private.consent_need ORDER BY category, channel, country;
	-- by the hash, whose key has come along
	SELECT * FROM notif.suppressed('+14155550100');
	SELECT * FROM notif_private.inbox_mark ORDER BY item; SELECT * FROM notif_private.rate ORDER BY recipient_id;
	SELECT * FROM notif.state; SELECT tier, route, waiting, scheduled, in_flight, next_due FROM notif.queue ORDER BY tier, route;
	SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'notif_private' ORDER BY 1};
my $configured = one_value($node, $config);
cmp_ok(one_value($node, q{SELECT count(*) FROM pg_sequences WHERE schemaname = 'notif_private' AND last_value > 1}), '>=', 2, 'F-D-11: sequences have counted');
my $file = "$sandbox->{dir}/dump";
command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('shop') ], 'F-D-11: pg_dump');
my ($text, $err) = run_command([ 'pg_restore', '-f', '-', $file ]);
unlike($text, qr/\Q$secret\E/, 'F-D-11: no secret in the dump');
my $jwt = one_value($node, q{SELECT token FROM notif_private.provider_token});
unlike($text, qr/\Q$jwt\E/, 'F-D-11: nor a provider token');
is(length $jwt > 100 ? 1 : 0, 1, 'though there was one');
$node->stop;

# ---- restore ----------------------------------------------------------------------------

my $other = new_cluster('restored');
$other->start;
$other->safe_psql('postgres', 'CREATE DATABASE shop');
command_ok([ 'pg_restore', '--exit-on-error', '-1', '-d', $other->connstr('shop'), $file ], 'F-D-11: pg_restore --exit-on-error -1 into an empty database');
is(one_value($other, $counts), $before, 'F-D-11: every table has every row');
is(one_value($other, $config), $configured, 'F-D-11: definitions, people, preferences, queues and sequences are the same');
cmp_ok(one_value($other, q{SELECT max(xid)::text::bigint FROM notif_private.event}) - one_value($other, q{SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint}),
	'>', 1_000_000, 'F-D-10: the transaction ids of its rows lie ahead');
ok( $other->poll_query_until('shop', q{SELECT waiting FROM notif_private.instance}), 'F-D-10: the workers see that this is another installation');
is(one_value($other, q{SELECT ok, value FROM notif.health() WHERE check_name = 'instance'}), 'f|waits for confirmation', 'notif.health() says so');

# it takes publishes
my $between = one_value($other, q{SELECT notif.publish('note', 'p500', '{"n": 6}')});
is(one_value($other, q{SELECT notif.publish('note', 'p1', '{"n": 1}', idempotency_key => 'key 1')
		= (SELECT event FROM notif_private.idempotency WHERE key = 'key 1')}), 't', 'and knows the keys of old');
one_value($other, q{SELECT notif.resume('provider', 'apple')});
ok($other->poll_query_until('shop', q{SELECT count(*) >= 1 FROM notif_private.worker_status() WHERE kind = 'upkeep' AND heartbeat IS NOT NULL}), 'it lives');
is($sandbox->count, $arrived, 'F-D-10: nothing is sent before notif.confirm_instance()');
is(one_value($other, qq{SELECT count(*) FROM notif_private.inbox WHERE event = '$between'}), '0', 'F-D-10: nothing is routed either');

cmp_ok(one_value($other, q{SELECT notif.confirm_instance()}), '>=', 300, 'F-D-10: notif.confirm_instance() takes over what was open');
is(one_value($other, q{SELECT notif.confirm_instance()}), '0', 'once');
wait_running($other);
# what is tried again in half an hour: now
one_value($other, q{SELECT notif_private.shift_clock(3600 * 1000000::bigint)});
one_value($other, q{SELECT notif_private.wake(1::smallint)});
ok(wait_idle($other), 'all deliveries end');
is(one_value($other, q{SELECT string_agg(x, ', ' ORDER BY x) FROM (SELECT tier || ' ' || state || ' ' || count(*) AS x FROM notif.deliveries GROUP BY tier, state) y}),
	'bulk accepted 699, bulk suppressed 1, critical accepted 10, standard accepted 352, standard failed 1', 'as they would have on the old one');
is(state_of($other, $between), 'accepted 1', 'also what was published in between');
my ($ok, $totals) = check_ledger($other, $sandbox);
ok($ok, 'the checker is content');
is($totals->{duplicated}, 0, 'F-D-10: nothing arrived twice');
balanced($other, 'after the restore');

# Its rings turn: rows of the old number do not stand in their way.
is(one_value($other, q{SELECT count(*) FROM generate_series(0, 7) i WHERE notif_private.unclaimed_standard(('notif_private.outbox_standard_' || i)::regclass)}),
	'0', 'no slot of the outbox is held by rows of the old installation');
# What is made now does not collide with what was restored.
one_value($other, q{
	SELECT notif.define_category('fresh', rate_limited => false); SELECT notif.define_type('fresh', 'fresh', title => 'Fresh');
	SELECT notif.upsert_recipient('fresh'); SELECT notif.subscribe('fresh', 'fresh topic');
	SELECT notif.define_rate_limit('fresh', 1000, '1 day', 'drop')} . qq{;
	SELECT notif.register_device('fresh', 'd', 'ios', '@{[ token(9999) ]}')});
my $fresh = one_value($other, q{SELECT notif.publish('fresh', topic => 'fresh topic')});
ok(wait_idle($other), 'F-D-11: sequences continue');
is(state_of($other, $fresh), 'accepted 1', 'F-D-11: what is new is delivered');

# ---- the counter reaches the ids of old ----------------------------------------------------

my $old = q{FROM notif_private.event WHERE incarnation = 1};
my $last = one_value($other, "SELECT max(xid) $old");
my $open = one_value($other, q{SELECT count(*) FROM notif_private.event WHERE incarnation = 2});
$other->stop;
next_xid($other, $far);
$other->start;
ok(wait_running($other), 'F-D-10: the counter reaches the ids of the old rows');
# every publish a transaction, until all of them are passed
one_value($other, qq{DO \$\$ BEGIN
	WHILE pg_snapshot_xmax(pg_current_snapshot()) <= '$last'::xid8 LOOP
		PERFORM notif.publish('note', 'p' || (100 + random() * 300)::integer, '{"n": 7}');
		COMMIT;
	END LOOP; END \$\$});
ok(wait_idle($other), 'F-D-10: deliveries end');
cmp_ok(one_value($other, qq{SELECT count(*) FROM notif_private.event e WHERE e.incarnation = 2 AND e.xid IN (SELECT xid $old)}), '>', 0,
	'F-D-10: new rows have the very ids of old ones');
my $more = one_value($other, q{SELECT count(*) FROM notif_private.event WHERE incarnation = 2}) - $open;
my $sent = $totals->{delivered} + 1 + $more;
($ok, $totals) = check_ledger($other, $sandbox);
ok($ok, 'F-D-10: the checker is content');
is("$totals->{delivered} $totals->{duplicated} $totals->{lost}", "$sent 0 0", "F-D-10: nothing is lost or sent twice, with $more transactions");
balanced($other, 'F-D-10, with the ids of old');
$other->stop;
next_xid($other, $far + 32768);
$other->start;
ok(wait_running($other), 'F-D-10: the counter has passed them');
one_value($other, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 8}')) FROM generate_series(1, 5) i, unnest('{note,code,news}'::text[]) t});
ok(wait_idle($other), 'F-D-10: deliveries end');
($ok, $totals) = check_ledger($other, $sandbox);
ok($ok, 'F-D-10: the checker is content');
is("$totals->{delivered} $totals->{duplicated} $totals->{lost}", ($sent + 15) . ' 0 0', 'F-D-10: nothing is lost or sent twice');
balanced($other, 'F-D-10, beyond the ids of old');
no_crash($other, 'a clean log');
$other->stop;
done_testing();
