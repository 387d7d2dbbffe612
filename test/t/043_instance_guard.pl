# F-D-10: restores and copies.  What comes up in the place of the original after a
# recovery to a point in time, or by pg_upgrade, sends nothing until
# notif.confirm_instance().  A rollback that leaves no trace cannot be told from a
# restart and sends again, unless notif.instance_guard = confirm makes every start
# wait: both are shown here.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('origin', init => { allows_streaming => 1, has_archiving => 1 });
my $data = $node->data_dir;

# Puts the contents of another directory into the data directory, which stays the
# same one: a snapshot of the file system rolled back, a backup restored in place.
sub put_back
{
	my ($from) = @_;

	system_or_bail('sh', '-c', 'find "$2" -mindepth 1 -delete && cp -a "$1/." "$2" && chmod 700 "$2"', 'put_back', $from, $data);
	return;
}

# A started server waits: says so, and sends nothing.
sub waits
{
	my ($server, $arrived, $name) = @_;

	ok($server->poll_query_until('shop', q{SELECT bool_or(state = 'waiting for confirm_instance') FROM notif_private.worker_status() WHERE kind = 'upkeep'}),
		"$name: it waits to be confirmed");
	is(one_value($server, q{SELECT ok, value FROM notif.health() WHERE check_name = 'instance'}), 'f|waits for confirmation', "$name: notif.health() says so");
	is(one_value($server, q{SELECT count(*) FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), '0', "$name: no router, no dispatcher");
	is($sandbox->count, $arrived, "$name: nothing is sent");
	return;
}

sub confirmed
{
	my ($server, $arrived, $name) = @_;

	one_value($server, q{SELECT notif.confirm_instance()});
	ok(wait_running($server), "$name: notif.confirm_instance() lets the workers go");
	ok(wait_idle($server), "$name: all deliveries end");
	is($sandbox->count, $arrived, "$name: what was undelivered is delivered then");
	balanced($server, $name);
	return;
}

sub guard
{
	my ($server, $word) = @_;

	$server->append_conf('postgresql.conf', "notif.instance_guard = $word\nnotif.dispatch = on");
	return;
}

people($node, 20);
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(1, 5) i});
ok(wait_idle($node), 'some are delivered');
is($sandbox->count, 5, 'five');
$node->backup('base');

# Three more, unsent: the moment that everything below goes back to.
$node->append_conf('postgresql.conf', 'notif.dispatch = off');
$node->reload;
ok(wait_true($node, q{SELECT count(*) = 0 FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), 'notif.dispatch = off');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 2}')) FROM generate_series(6, 8) i});
one_value($node, q{SELECT pg_create_restore_point('here')});
$node->stop;
$node->backup_fs_cold('cold');
my $cold = $node->backup_dir . '/cold';

$node->append_conf('postgresql.conf', 'notif.dispatch = on');
$node->start;
ok(wait_running($node), 'the same server at the same place goes on by itself');
ok(wait_idle($node), 'and delivers');
is($sandbox->count, 8, 'the three');
my $wal = one_value($node, q{SELECT pg_walfile_name(pg_switch_wal())});
ok($node->poll_query_until('shop', qq{SELECT last_archived_wal >= '$wal' FROM pg_stat_archiver}), 'WAL is archived');
$node->stop;

# ---- a rollback without a trace ----------------------------------------------------------

put_back($cold);
guard($node, 'off');
$node->start;
ok(wait_running($node), 'F-D-10: an exact copy at the same place runs');
ok(wait_idle($node), 'F-D-10: and sends');
is($sandbox->count, 11, 'F-D-10: what the original has sent after it: with the guard off nothing can be noticed');
my %times;
$times{ $_->{id} }++ for $sandbox->ledger;
is(join(' ', sort values %times), '1 1 1 1 1 2 2 2', 'F-D-10: under the same ids');
$node->stop;

put_back($cold);
guard($node, 'confirm');
$node->start;
waits($node, 11, 'F-D-10, guard = confirm');
confirmed($node, 14, 'F-D-10, guard = confirm');
$node->restart;
waits($node, 14, 'F-D-10, guard = confirm, every start');
$node->stop;

# ---- recovery to a point in time, at the same place ------------------------------------------

put_back($node->backup_dir . '/base');
guard($node, 'off');
$node->enable_restoring($node, 0);
$node->append_conf('postgresql.conf', "recovery_target_name = 'here'\nrecovery_target_action = 'promote'");
$node->start;
ok($node->poll_query_until('shop', 'SELECT NOT pg_is_in_recovery()'), 'F-D-10: recovered to a point in time');
waits($node, 14, 'F-D-10, PITR');
one_value($node, q{SELECT notif.publish('note', 'p9', '{"n": 3}')});
confirmed($node, 18, 'F-D-10, PITR');
$node->restart;
ok(wait_running($node), 'F-D-10, PITR: confirmed once is enough');

# ---- pg_upgrade --------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', 'notif.dispatch = off');
$node->reload;
ok(wait_true($node, q{SELECT count(*) = 0 FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), 'notif.dispatch = off');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 4}')) FROM generate_series(10, 12) i});
my $rows = q{SELECT (SELECT count(*) FROM notif_private.event), (SELECT count(*) FROM notif_private.outcome), (SELECT count(*) FROM notif_private.inbox),
	(SELECT sum(n) FROM notif_private.tally), (SELECT incarnation FROM notif_private.instance)};
my $before = one_value($node, $rows);
$node->stop;

my $new = new_cluster('upgraded');
my $bin = $new->config_data('--bindir');
chomp $bin;
command_ok(
	[ 'pg_upgrade', '--no-sync', '-d', $data, '-D', $new->data_dir, '-b', $bin, '-B', $bin, '-p', $node->port, '-P', $new->port,
		'-s', $new->host ], 'F-D-10: pg_upgrade');
$new->start;
is(one_value($new, $rows), $before, 'F-D-10, pg_upgrade: every row is there');
waits($new, 18, 'F-D-10, pg_upgrade');
one_value($new, q{SELECT notif.publish('note', 'p13', '{"n": 5}')});
confirmed($new, 22, 'F-D-10, pg_upgrade');
is(one_value($new, q{SELECT incarnation FROM notif_private.instance}), '2', 'F-D-10, pg_upgrade: under a new number');
is(one_value($new, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1}), 'accepted|13', 'F-D-10, pg_upgrade: nothing is lost, nothing is sent twice');
no_crash($new, 'a clean log of the upgraded one');
no_crash($node, 'a clean log of the original');
$new->stop;
done_testing();
