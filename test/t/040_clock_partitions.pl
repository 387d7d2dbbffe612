# Publishing never fails for want of a partition or of a worker, and what was
# published is delivered: with no worker running, with the partitions used up,
# with the clock set back or a year ahead.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sandbox = new_sandbox();
my $node = new_cluster('clock', databases => '');

$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');
define_shop($node, $sandbox);

# ---- no worker has ever run ------------------------------------------------------------

people($node, 100);
is(one_value($node, q{SELECT count(*) FROM notif_private.range_partition}), '0', 'a new database has no partition');
is(one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(1, 10) i}), '10', 'a publish makes its own');
cmp_ok(one_value($node, q{SELECT max(upper_at) - now() > '3 days' FROM notif_private.range_partition WHERE parent = 'event'}), 'eq', 't', 'four days of them');

# ---- the partitions are used up -----------------------------------------------------------

# All partitions that reach past today go: the newest that is left has ended.
sub drop_future
{
	my ($keep) = @_;
	one_value($node, qq{DO \$\$
		DECLARE p record;
		BEGIN
			FOR p IN SELECT * FROM notif_private.range_partition WHERE parent IN ('event', 'inbox', 'outcome_standard', 'schedule_standard')
					 AND $keep LOOP
				EXECUTE format('ALTER TABLE notif_private.%I DETACH PARTITION notif_private.%I', p.parent, p.child);
				EXECUTE format('DROP TABLE notif_private.%I', p.child);
			END LOOP;
		END \$\$});
	return;
}
drop_future(q{lower_at > now() AND parent = 'event'});
is(one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 2}')) FROM generate_series(11, 20) i}), '10', 'on the last day of the partitions');
# All that is left of the events' lies behind the clock.  Rows wait in a table of
# the test, as they would in a detached partition.
one_value($node, q{CREATE TABLE kept AS SELECT * FROM notif_private.event});
drop_future(q{upper_at > now() AND parent = 'event'});
my $late = one_value($node, q{SELECT notif.publish('note', 'p21', '{"n": 3}')});
is(one_value($node, qq{SELECT notif_private.uuid_time('$late')::date = now()::date - 1}), 't', 'with none for today the id is clamped into the last one there is');
is(one_value($node, q{
		WITH made AS MATERIALIZED (SELECT i, notif.publish('note', 'p' || i, '{"n": 4}') AS id FROM generate_series(22, 40) i)
		SELECT array_agg(id ORDER BY i) = array_agg(id ORDER BY id) AND count(DISTINCT id) = 19 FROM made}), 't', 'ids stay distinct there, and in order');
# The same with the partitions ahead of the clock: as if it had been set back.
one_value($node, q{INSERT INTO kept SELECT * FROM notif_private.event; SELECT notif_private.make_partitions()});
drop_future(q{lower_at < now() AND parent = 'event'});
my $early = one_value($node, q{SELECT notif.publish('note', 'p41', '{"n": 5}')});
is(one_value($node, qq{SELECT notif_private.uuid_time('$early')::date = now()::date + 1}), 't', 'with the clock behind all partitions the id is clamped, too');
one_value($node, q{DO $$ BEGIN FOR i IN 42 .. 50 LOOP PERFORM notif.publish('note', 'p' || i, '{"n": 6}'); END LOOP; END $$});
one_value($node, q{SELECT notif_private.make_partitions(); INSERT INTO notif_private.event SELECT * FROM kept});
is(one_value($node, q{SELECT count(*) FROM notif_private.event}), '50', 'fifty events wait');
is(one_value($node, q{SELECT notif.publish('note', 'p51', '{"n": 7}') IS NOT NULL}), 't', 'and one of today');
is($sandbox->count, 0, 'nothing was sent without workers');

# ---- the workers start -----------------------------------------------------------------------

$node->append_conf('postgresql.conf', "notif.databases = 'shop'");
$node->reload;
ok(wait_running($node), 'workers start without a restart');
ok(wait_idle($node), 'and take up what waited');
is(one_value($node, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1}), 'accepted|51', 'all of it');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is("$totals->{delivered} $totals->{duplicated}", '51 0', 'each arrived once');
balanced($node, 'after the clocks');
ok(wait_true($node, q{SELECT ok FROM notif.health() WHERE check_name = 'partitions'}), 'upkeep has made the partitions ahead');

# ---- the clock of policies, a year ahead and back -----------------------------------------------

# it rules expiry and schedules, never ids and partitions
one_value($node, q{SELECT notif_private.shift_clock(366 * 86400 * 1000000::bigint)});
my $ahead = one_value($node, q{SELECT notif.publish('note', 'p60', '{"n": 8}')});
ok(wait_idle($node), 'a year ahead');
is(state_of($node, $ahead), 'accepted 1', 'it is delivered');
is(one_value($node, qq{SELECT notif_private.uuid_time('$ahead') < now() + interval '1 minute'}), 't', 'its id has the real time');
$sandbox->fault('status=503&reason=ServiceUnavailable&count=1');
$ahead = one_value($node, q{SELECT notif.publish('note', 'p61', '{"n": 8}')});
ok(wait_idle($node), 'a retry beyond all partitions of the schedule');
is(state_of($node, $ahead), 'accepted 1', 'is filed and delivered');
one_value($node, q{SELECT notif_private.shift_clock(-notif_private.clock_offset() - 86400 * 1000000::bigint)});
my $behind = one_value($node, q{SELECT notif.publish('note', 'p62', '{"n": 9}')});
ok(wait_idle($node), 'a day back');
is(state_of($node, $behind), 'accepted 1', 'it is delivered');
$sandbox->fault('status=503&reason=ServiceUnavailable&count=1');
$behind = one_value($node, q{SELECT notif.publish('note', 'p63', '{"n": 9}')});
ok(wait_true($node, qq{SELECT count(*) > 0 FROM notif_private.outcome WHERE event = '$behind'}), 'a retry, with a horizon of the year ahead');
one_value($node, q{SELECT notif_private.shift_clock(-notif_private.clock_offset() + 367 * 86400 * 1000000::bigint)});
one_value($node, q{SELECT notif_private.wake(1::smallint)});
ok(wait_idle($node), 'is not lost');
like(state_of($node, $behind), qr/^(accepted|expired) 1$/, 'but ends when its time has come');
one_value($node, q{SELECT notif_private.shift_clock(-notif_private.clock_offset())});
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
