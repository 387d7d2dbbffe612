# F-D-1, F-D-2: a disk that is full.  Where tables cannot grow, answers are kept in
# memory and nothing more is claimed until they can be written; where WAL cannot,
# the server crashes, and what was in the air is in doubt.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use OsFaults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $os = OsFaults->new;
my $sandbox = new_sandbox();
# Segments of 1 MB: a new one is needed soon.
my $node = new_cluster('full', init => { extra => ['--wal-segsize=1'] }, conf => <<'EOC');
restart_after_crash = on
min_wal_size = 2MB
max_wal_size = 2MB
notif.max_in_flight = 300
EOC

$os->start($node);
$node->safe_psql('postgres', 'CREATE DATABASE shop');
define_shop($node, $sandbox);
ok(wait_running($node), 'the workers run');
people($node, 400);

# ---- F-D-1: data -----------------------------------------------------------------------

one_value($node, q{SELECT notif.publish(t, 'p1', '{"n": 0}') FROM unnest('{note,code}'::text[]) t});
ok(wait_idle($node), 'F-D-1: warm');
one_value($node, q{SELECT notif.pause('tier', 'bulk')});
one_value($node, q{SELECT count(notif.publish('news', 'p' || i, '{"n": 1}')) FROM generate_series(1, 300) i});
$sandbox->fault('hang=on');
my $before = $sandbox->count;
one_value($node, q{SELECT count(notif.publish(CASE WHEN i % 2 = 0 THEN 'note' ELSE 'money' END, 'p' || i, jsonb_build_object('n', i))) FROM generate_series(1, 400) i});
ok($sandbox->wait_count($before + 300), 'F-D-1: three hundred requests are out');
ok(wait_true($node, q{SELECT string_agg(state || ' ' || n, ' ' ORDER BY state) = 'in_flight 300 open 100' FROM notif.state WHERE tier = 'standard' AND state IN ('open', 'in_flight')}),
	'F-D-1: and unanswered; what notif.max_in_flight does not let out waits in the outbox');
my $pid = one_value($node, q{SELECT pid FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});
my $claims = one_value($node, q{SELECT claimed FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});

$os->set(data_full => 1);
$sandbox->fault('hang=off');
# how often the dispatcher has failed
my $failing = q{(SELECT failing FROM notif_private.workers_here() WHERE kind = 'dispatcher' AND tier = 'standard')};
ok( wait_true($node, qq{SELECT last_error LIKE '53100:%' AND $failing > 0 FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}),
	'F-D-1: notif.workers shows the error with its SQLSTATE');
like(one_value($node, q{SELECT ok, hint FROM notif.health() WHERE check_name = 'workers'}),
	qr/^f\|.*dispatcher standard: 53100: could not extend file/, 'F-D-1: notif.health() is not content, and says why');
# The router of another tier has to write too, and cannot.
one_value($node, q{SELECT notif.resume('tier', 'bulk')});
ok(wait_true($node, q{SELECT last_error LIKE '53100:%' FROM notif.workers WHERE kind = 'router' AND tier = 'bulk'}), 'F-D-1: a router fails as well');
my ($rc, $out, $err) = $node->psql('shop', q{SELECT count(notif.publish('note', 'p' || i, '{"n": 2}')) FROM generate_series(1, 400) i});
like($err, qr/could not extend file/, 'F-D-1: a publish that finds no room is an error of its caller');
ok(wait_true($node, qq{SELECT $failing >= 3}), 'F-D-1: the dispatcher tries again and again');
is(one_value($node, q{SELECT claimed FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}), $claims, 'F-D-1: and claims nothing meanwhile');
is(one_value($node, q{SELECT n FROM notif.state WHERE tier = 'standard' AND state = 'in_flight'}), '300', 'F-D-1: the answers wait in its memory, no more than notif.max_in_flight');
is($sandbox->count, $before + 300, 'F-D-1: nothing is sent again');
cmp_ok($os->get('refused'), '>', 4, 'F-D-1: it was the disk');

$os->set(data_full => 0);
ok(wait_idle($node, 120), 'F-D-1: with room again all deliveries end');
is(one_value($node, q{SELECT tier, state, count(*) FROM notif.deliveries GROUP BY 1, 2 ORDER BY 1, 2}),
	"bulk|accepted|300\ncritical|accepted|1\nstandard|accepted|401", 'F-D-1: accepted, none held, none in doubt');
is(one_value($node, q{SELECT pid FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}), $pid, 'F-D-1: by the same process');
ok(wait_true($node, q{SELECT ok FROM notif.health() WHERE check_name = 'workers'}), 'F-D-1: notif.health() is content again');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-D-1: the checker is content');
is("$totals->{delivered} $totals->{duplicated}", '702 0', 'F-D-1: each arrived once');
balanced($node, 'F-D-1');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'F-D-1: nothing crashed');

# ---- F-D-2: WAL ------------------------------------------------------------------------

my $acked = "$sandbox->{dir}/acked";
$sandbox->fault('hang=on');
$before = $sandbox->count;
# what was acknowledged
append_to_file($acked, one_value($node, q{SELECT notif.publish(CASE WHEN i % 2 = 0 THEN 'note' ELSE 'money' END, 'p' || i, '{"n": 3}') FROM generate_series(1, 200) i}) . "\n");
ok($sandbox->wait_count($before + 200), 'F-D-2: two hundred requests are out');
# whose file goes with it
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
# One transaction after the other, until the server is gone.
$os->set(wal_full => 1);
my $rounds = 0;
for (1 .. 400)
{
	# a psql that finds no server has gone before it takes its input: a broken pipe, which dies
	my ($rc, $out) = eval { $node->psql('shop', q{SELECT notif.publish(t, 'p' || i, '{"n": 4}') FROM generate_series(1, 50) i, unnest('{note,money}'::text[]) t}); };

	die $@ if $@ ne '' && $@ !~ /Broken pipe/;
	last if $@ ne '' || $rc != 0;
	append_to_file($acked, "$out\n");
	$rounds++;
}
ok($node->wait_for_log(qr/PANIC:  could not write to file "pg_wal\/xlogtemp\.\d+": No space left on device/), "F-D-2: after $rounds transactions there is no room for WAL");
$os->set(wal_full => 0);
# Either it has recovered by itself, or recovery wanted room as well.
my $gone = 0;
ok( NotifTest::wait_for(sub {
			$gone = !kill 0, $postmaster;
			return $gone || ($node->psql('shop', 'SELECT 1'))[0] == 0; }),
	'F-D-2: the server is back, or gone');
if ($gone)
{
	$node->_update_pid(-1);		# which knows nothing of it
	$os->start($node);
}
ok(wait_running($node), 'F-D-2: so are the workers');
$sandbox->fault('clear');
ok(wait_idle($node, 120), 'F-D-2: all deliveries end');
($ok, $totals) = check_ledger($node, $sandbox, $acked);
ok($ok, 'F-D-2: the checker is content');
cmp_ok($totals->{acknowledged}, '>=', 200, 'F-D-2: something was acknowledged before the crash');
is($totals->{lost}, 0, 'F-D-2: nothing of it is lost');
cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'F-D-2: what came twice was in doubt');
cmp_ok(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE reason = 'worker_lost'}), '>=', 200, 'F-D-2: what was in the air is in doubt');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE reason = 'worker_lost' AND state <> 'held' AND type_id = (SELECT id FROM notif_private.type WHERE name = 'money')}),
	'0', 'F-D-2: and held where it may not be sent twice');
balanced($node, 'F-D-2');
my @bad = grep { /TRAP:|signal (?!6:)\d+:/ } split /\n/, slurp_file($node->logfile);
is("@bad", '', 'F-D-2: no process crashed but the one that could not write');
$node->stop;
done_testing();
