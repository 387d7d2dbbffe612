# Standbys.  F-D-7: one has no workers and takes no publish.  F-D-8: a promotion
# that the launcher has watched goes on by itself (P45), and what was in the air at
# the old primary is in doubt.  F-D-9: beside an old primary that goes on, with
# notif.instance_guard = confirm, nothing is sent before the confirmation.  F-D-10:
# a copy that comes up as a primary waits to be confirmed (P46).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($primary, $sandbox) = new_shop('primary', init => { allows_streaming => 1 });

people($primary, 100);
one_value($primary, q{SELECT notif.publish(t, 'p1', '{"n": 0}') FROM unnest('{note,code}'::text[]) t});
ok(wait_idle($primary), 'warm');
$primary->backup('base');

sub new_standby
{
	my ($name, $of, $conf) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$of->backup($name) if $of != $primary;
	$standby->init_from_backup($of, $of != $primary ? $name : 'base', has_streaming => 1);
	$standby->append_conf('postgresql.conf', $conf);
	$standby->start;
	return $standby;
}

# Also until a setting holds for the next commit: a reload takes a moment.
sub set
{
	my ($node, $name, $value) = @_;

	# itself it asks for no standby
	$node->safe_psql('postgres', "SET synchronous_commit = local; ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	ok($node->poll_query_until('shop', "SELECT current_setting('$name') = '$value'"), "$name = '$value'");
	return;
}

my $standby = new_standby('standby', $primary, '');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'base');

# ---- F-D-7 -----------------------------------------------------------------------------

$primary->wait_for_catchup($standby);
is(one_value($standby, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}), '0', 'F-D-7: a standby has no workers');
is(one_value($standby, 'SELECT notif_private.watched_promotion()'), 'f', 'F-D-7: and is not promoted');
my ($rc, $out, $err) = $standby->psql('shop', q{\set VERBOSITY verbose
SELECT notif.publish('note', 'p1', '{"n": 1}')});
like($err, qr/ERROR:  25006: cannot execute .* in a read-only transaction/, 'F-D-7: publish on it is the plain read-only error');
like(one_value($standby, q{SELECT string_agg(check_name, ' ') FROM notif.health() WHERE NOT ok}), qr/workers/, 'F-D-7: notif.health() can be asked there');

# ---- F-D-8 -----------------------------------------------------------------------------

# A claim is durable once the synchronous standby has it: what is in the air at a
# primary that dies is in a flight that the standby knows.
set($primary, 'synchronous_standby_names', '*');
my $before = $sandbox->count;
$sandbox->fault('hang=on');
one_value($primary, q{SELECT count(notif.publish(CASE WHEN i % 2 = 0 THEN 'note' ELSE 'money' END, 'p' || i, '{"n": 2}')) FROM generate_series(1, 100) i});
ok($sandbox->wait_count($before + 100), 'F-D-8: a hundred requests are out');
# and some that the old primary will not come to
one_value($primary, q{SELECT notif.pause('provider', 'apple')});
one_value($primary, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 3}')) FROM generate_series(51, 60) i});
ok(wait_true($primary, q{SELECT count(*) = 10 FROM notif_private.queued_standard}), 'F-D-8: others wait');
$primary->stop('immediate');
$sandbox->fault('clear');

my $promoted = time;
$standby->promote;
ok(wait_running($standby), 'F-D-8: workers start on the promoted standby');
my $took = time - $promoted;
cmp_ok($took, '<', 5, sprintf 'F-D-8: soon (%.1f s)', $took);
is(one_value($standby, 'SELECT notif_private.watched_promotion()'), 't', 'F-D-8: its promotion was watched');
one_value($standby, q{SELECT notif.resume('provider', 'apple')});
ok(wait_idle($standby), 'F-D-8: all deliveries end');
is(one_value($standby, q{SELECT count(*) FROM notif_private.outcome WHERE reason = 'worker_lost'}), '100', 'F-D-8: what was in the air at the old primary is in doubt');
is(one_value($standby, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1 ORDER BY 1}), "accepted|62\nheld|50", 'F-D-8: sent again, or held where that is forbidden');
my ($ok, $totals) = check_ledger($standby, $sandbox);
ok($ok, 'F-D-8: the checker is content');
is("$totals->{lost} $totals->{duplicated} $totals->{unknown}", '0 50 100', 'F-D-8: with a synchronous standby nothing is lost, and twice came what was in doubt only');
balanced($standby, 'F-D-8');

# ---- F-D-9 -----------------------------------------------------------------------------

# The promoted one is the old primary now; its successor's guard asks.
my $guarded = new_standby('guarded', $standby, "notif.instance_guard = 'confirm'");
set($standby, 'synchronous_standby_names', '*');
one_value($standby, q{SELECT notif.pause('provider', 'apple')});
one_value($standby, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 4}')) FROM generate_series(1, 10) i, unnest('{note,code}'::text[]) t});
ok(wait_true($standby, q{SELECT (SELECT count(*) = 10 FROM notif_private.queued_standard) AND (SELECT count(*) = 10 FROM notif_private.queued_critical)}), 'F-D-9: some are queued');
$standby->wait_for_catchup($guarded);
$before = $sandbox->count;
$guarded->promote;
ok(wait_true($guarded, q{SELECT waiting FROM notif_private.instance}), 'F-D-9: the promoted one waits');
# The old primary goes on, and may try to send what it has: its claims ask for a
# standby that is gone.
my $resume = $standby->background_psql('shop', on_error_stop => 0);
$resume->query(q{SET synchronous_commit = local});
$resume->query(q{SELECT notif.resume('provider', 'apple')});
one_value($guarded, q{SELECT notif.resume('provider', 'apple')});
ok(wait_true($standby, q{SELECT string_agg(w.tier, ' ' ORDER BY w.tier) = 'critical standard' FROM pg_stat_activity JOIN notif_private.worker_status() w USING (pid) WHERE wait_event = 'SyncRep' AND w.kind = 'dispatcher'}),
	'F-D-9: the old primary, alive, cannot commit what it claims, and its tiers do not wait for each other');
is(one_value($guarded, q{SELECT count(*) FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), '0', 'F-D-9: the new one has no dispatcher');
is($sandbox->count, $before, 'F-D-9: nobody sends');
$resume->quit;
# the failover tool fences the old one, and then confirms
$standby->stop('immediate');
is(one_value($guarded, q{SELECT notif.confirm_instance()}), '0', 'F-D-9: confirmed once the old one is fenced');
ok(wait_running($guarded), 'F-D-9: it goes on');
ok(wait_idle($guarded), 'F-D-9: all deliveries end');
is($sandbox->count, $before + 20, 'F-D-9: each was sent once');
($ok, $totals) = check_ledger($guarded, $sandbox);
ok($ok, 'F-D-9: the checker is content');
is($totals->{duplicated}, 50, 'F-D-9: no duplicate has come');
balanced($guarded, 'F-D-9');

# ---- F-D-8, a standby that was behind -----------------------------------------------------

# What the old primary sent after its last word to an asynchronous standby is sent
# again, and nobody can know: the README says so.
my $behind = new_standby('behind', $guarded, 'notif.instance_guard = off');
set($guarded, 'notif.dispatch', 'off');
ok(wait_true($guarded, q{SELECT count(*) = 0 FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), 'F-D-8: workers are off');
one_value($guarded, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 5}')) FROM generate_series(1, 5) i});
$guarded->wait_for_catchup($behind);
$behind->stop;
set($guarded, 'notif.dispatch', 'on');
ok(wait_running($guarded), 'F-D-8: workers are on');
ok(wait_idle($guarded), 'F-D-8: an asynchronous primary sends what its standby does not know of');
is($sandbox->count, $before + 25, 'F-D-8: five');
$guarded->stop('immediate');
$behind->start;
$behind->promote;
ok(wait_running($behind), 'F-D-8: the standby takes over');
ok(wait_idle($behind), 'F-D-8: and sends');
is($sandbox->count, $before + 30, 'F-D-8: once more what it had not heard of: five duplicates beyond doubt');
is(one_value($behind, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1 ORDER BY 1}), "accepted|87\nheld|50", 'F-D-8: none is lost');
balanced($behind, 'F-D-8, a standby that was behind');
$behind->stop;

# ---- F-D-10: the same bytes as a primary of its own, elsewhere -------------------------------

$copy->start;
ok(wait_true($copy, q{SELECT waiting FROM notif_private.instance}), 'F-D-10: a copied data directory waits');
ok($copy->wait_for_log(qr/notif sends nothing from database "shop" until the instance is confirmed/), 'F-D-10: and says so');
is(one_value($copy, q{SELECT count(*) FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), '0', 'F-D-10: without routers and dispatchers');
$before = $sandbox->count;
one_value($copy, q{SELECT notif.publish('note', 'p1', '{"n": 6}')});
is(one_value($copy, q{SELECT count(*) FROM notif_private.inbox}) . ' ' . $sandbox->count, "2 $before", 'F-D-10: it publishes and delivers nothing');
one_value($copy, 'SELECT notif.confirm_instance()');
ok(wait_running($copy), 'F-D-10: confirm_instance lets it go on');
ok(wait_idle($copy), 'F-D-10: and then it delivers');
is($sandbox->count, $before + 1, 'F-D-10: the one');
$copy->restart;
ok(wait_running($copy), 'F-D-10: it need not be confirmed again');
$copy->stop;

no_crash($_, 'a clean log of ' . $_->name) for $primary, $standby, $guarded, $behind, $copy;
done_testing();
