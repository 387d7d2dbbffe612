# An ERROR costs a worker a pause, not its life; a worker whose work somebody
# else does steps aside.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('errors');
$node->start;
create_database($node, 'shop');
my $pid = worker_value($node, 'shop', 'upkeep', undef, 'pid');
my $boot = $node->safe_psql('shop', 'SELECT notif_private.boot_id()');

# Break what upkeep calls.
$node->safe_psql('shop', q{
	ALTER FUNCTION notif_private.worker_upkeep(interval, integer) RENAME TO worker_upkeep_away;
	SELECT notif_private.wake(0::smallint);
});
$node->reload;
ok( $node->poll_query_until('shop',
		q{SELECT last_error LIKE '42883: %worker_upkeep%' FROM notif_private.worker_status() WHERE kind = 'upkeep'}),
	'the error is shown with its SQLSTATE');
ok($node->wait_for_log(qr/notif upkeep 42883 ERROR:.*\n.*\n(.*\n)*?.*CONTEXT:  notif upkeep of database "shop"/),
	'and logged with who had it');
is(worker_value($node, 'shop', 'upkeep', undef, 'pid'), $pid, 'the process goes on');
is( $node->safe_psql('shop', "SELECT state || coalesce(backend_xmin::text, '') FROM pg_stat_activity WHERE pid = $pid"),
	'idle', 'idle and without a snapshot during the pause');

my $turns = worker_value($node, 'shop', 'upkeep', undef, 'turns');
$node->safe_psql('shop', 'ALTER FUNCTION notif_private.worker_upkeep_away(interval, integer) RENAME TO worker_upkeep');
ok( $node->poll_query_until('shop', qq{
		SELECT w.turns > $turns AND w.heartbeat > w.last_error_at AND a.state = 'idle' AND a.query LIKE '%upkeep step%'
		FROM notif_private.worker_status() w JOIN pg_stat_activity a USING (pid) WHERE w.kind = 'upkeep'}),
	'and works again when the cause is gone');
is(worker_value($node, 'shop', 'upkeep', undef, 'pid'), $pid, 'still the same process');

# pg_cancel_backend on an idle worker is nothing.
$node->safe_psql('shop', "SELECT pg_cancel_backend($pid)");
ok( $node->poll_query_until('shop', "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid"),
	'a cancelled idle worker stays');

# Somebody else owns upkeep's work: class "noti", kind 0, no tier, share 0.
my $other = $node->background_psql('shop');
$node->safe_psql('shop', "SELECT pg_terminate_backend($pid)");
$other->query_safe('SELECT pg_advisory_lock(1852798057, 0)');
ok( $node->wait_for_log(qr/another process does the work of this notif worker/),
	'a second upkeep steps aside');
$other->query_safe('SELECT pg_advisory_unlock_all()');
$other->quit;
ok(wait_for_workers($node, 'shop'), 'and comes when the first one is gone');
is($node->safe_psql('shop', 'SELECT notif_private.boot_id()'), $boot, 'the server never restarted');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command|42883 ERROR|57014 ERROR/);
done_testing();
