# F-P-10: an ERROR at any point costs a worker a pause and nobody a delivery.
# F-S-1: a row that always raises is given up on at the third try, with a verdict
# that says why, and the queue goes on; an error that everybody meets costs nothing.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('errors');

people($node, 12);
fault_points($node);
one_value($node, q{SELECT notif.define_type('cash', 'hold', tier => 'bulk', title => 'Cash {n}');
	SELECT notif.publish(t, 'p1', '{"n": 0}') FROM unnest('{note,code,news}'::text[]) t});
ok(wait_idle($node), 'warm');

sub pids { return one_value($node, q{SELECT string_agg(kind || tier || pid, ' ' ORDER BY kind, tier) FROM notif_private.worker_status() WHERE tier IS NOT NULL}); }
my $pids = pids();

# ---- at each point -------------------------------------------------------------

# Both categories in each tier that is hit; three points at a time, one per tier.
# An answer that came at once could be read before K4 was looked at.
$sandbox->fault('delay_ms=50');
for my $points ([qw(K1 K2 K3)], [qw(K4 K5 K6)], [qw(K7 K2 K5)])
{
	my $name = "F-P-10, ERROR at @$points";
	my @tiers = qw(critical standard bulk);

	one_value($node, q{SELECT notif_fault.reset()});
	fault($node, $points->[$_], 'error', tier => $tiers[$_]) for 0 .. 2;
	one_value($node, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 1}')) FROM generate_series(1, 5) i, unnest('{note,money,code,news,cash}'::text[]) t});
	ok(wait_fault($node, $_), "$name: raised at $_") for @$points;
	# a worker that forgot why it was woken would look again after half a minute
	ok(wait_idle($node, 20), "$name: all deliveries end soon");
	is(pids(), $pids, "$name: no worker was started anew");
	balanced($node, $name);
}
is( one_value($node, q{SELECT string_agg(state || ' ' || n, ', ') FROM (SELECT state, count(*) AS n FROM notif.deliveries GROUP BY 1) x}),
	'accepted 78', 'F-P-10: all were accepted');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-P-10: the checker is content');
is("$totals->{duplicated} $totals->{unknown}", '0 0', 'F-P-10: nothing was sent twice, nor is anything in doubt');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome WHERE reason LIKE 'quarantined:%'}), 0, 'F-P-10: nobody was blamed');

$sandbox->fault('clear');

# Raised over and over: still nobody's fault.
fault($node, 'K1', 'error', times => 3, tier => 'critical');
fault($node, 'K2', 'error', times => 3, tier => 'standard');
fault($node, 'K6', 'error', times => 3, tier => 'bulk');
my @many = map { one_value($node, qq{SELECT notif.publish('$_', 'p1', '{"n": 2}')}) } qw(code money cash);
ok(wait_fault($node, $_, 3), "F-P-10: raised three times at $_") for qw(K1 K2 K6);
ok(wait_idle($node), 'F-P-10: all deliveries end');
is(state_of($node, $_), 'accepted 1', 'F-P-10: accepted') for @many;
one_value($node, q{SELECT notif_fault.reset()});

# ---- a row at fault ----------------------------------------------------------------

# Makes the machinery raise over one person, or over everybody.
sub trap
{
	my ($name, $table, $condition, $code) = @_;

	one_value($node, qq{
		CREATE FUNCTION $name() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS \$f\$
		BEGIN IF $condition THEN RAISE EXCEPTION USING ERRCODE = '$code', MESSAGE = 'trap $name'; END IF; RETURN NEW; END \$f\$;
		CREATE TRIGGER $name BEFORE INSERT OR UPDATE ON notif_private.$table FOR EACH ROW EXECUTE FUNCTION $name()});
	return;
}
sub disarm { my ($name) = @_; one_value($node, "DROP FUNCTION $name() CASCADE"); return; }
sub recipient { my ($who) = @_; return one_value($node, "SELECT id FROM notif_private.recipient WHERE ref = '$who'"); }
sub verdicts
{
	my ($event) = @_;
	return one_value($node, qq{SELECT string_agg(x.ref || ' ' || x.state || coalesce(' ' || x.reason, ''), ', ' ORDER BY x.ref) FROM (
		SELECT DISTINCT ON (o.delivery) r.ref, o.state, o.reason FROM notif_private.outcome o JOIN notif_private.recipient r ON r.id = o.recipient
		WHERE o.event = '$event' ORDER BY o.delivery, o.attempt DESC) x});
}

my $bad = recipient('p3');
trap('inbox_trap', 'inbox', "NEW.recipient = $bad", '22000');
my $only = one_value($node, q{SELECT notif.publish('news', 'p3', '{"n": 3}')});
my $mixed = one_value($node, q{SELECT notif.publish('news', recipients => '{p2,p3,p4}', data => '{"n": 3}')});
my $after = one_value($node, q{SELECT notif.publish('news', 'p5', '{"n": 3}')});
my $other = one_value($node, q{SELECT notif.publish('note', 'p5', '{"n": 3}')});
ok(wait_idle($node), 'F-S-1, router: all deliveries end');
is(verdicts($only), 'p3 failed quarantined:22000', 'F-S-1, router: who always fails has a verdict');
is(verdicts($mixed), 'p2 accepted, p3 failed quarantined:22000, p4 accepted', 'F-S-1, router: he alone');
is(verdicts($after), 'p5 accepted', 'F-S-1, router: others flow');
is(verdicts($other), 'p5 accepted', 'F-S-1, router: in other tiers, too');
is( one_value($node, qq{SELECT count(*) FROM notif.dead_letters WHERE event IN ('$only', '$mixed')}), 2, 'F-S-1, router: notif.dead_letters shows it');
is(() = slurp_file($node->logfile) =~ /22000 ERROR:  trap inbox_trap/g, 2, 'F-S-1, router: it was the third try');
like(slurp_file($node->logfile), qr/LOG:  notif gave up on 1 rows that always fail in routing/, 'F-S-1, router: the log says that it was given up on');
balanced($node, 'F-S-1, router');

# The same in an audience that is expanded in chunks of its own.
one_value($node, q{SELECT notif.define_topic('all')}) if one_value($node, q{SELECT count(*) FROM pg_proc WHERE proname = 'define_topic'});
one_value($node, q{SELECT notif.subscribe('p' || i, 'all') FROM generate_series(1, 6) i});
my $topic = one_value($node, q{SELECT notif.publish('news', topic => 'all', data => '{"n": 4}')});
ok(wait_idle($node), 'F-S-1, topic: all deliveries end');
is(verdicts($topic), join(', ', map { "p$_ " . ($_ == 3 ? 'failed quarantined:22000' : 'accepted') } 1 .. 6), 'F-S-1, topic: all but one have it');
disarm('inbox_trap');

trap('flight_trap', 'flight_standard', "NOT NEW.closed AND EXISTS (SELECT FROM unnest(NEW.attempts) a WHERE a.recipient = $bad)", 'XX000');
my @claimed = map { one_value($node, qq{SELECT notif.publish('note', 'p$_', '{"n": 5}')}) } 2 .. 4;
ok(wait_idle($node), 'F-S-1, claim: all deliveries end');
is(join(', ', map { verdicts($_) } @claimed), 'p2 accepted, p3 failed quarantined:XX000, p4 accepted', 'F-S-1, claim: who always fails is given up on');
balanced($node, 'F-S-1, claim');
disarm('flight_trap');

# What the provider said is in memory and its record raises: the verdict stands.
my $device = one_value($node, q{SELECT endpoint_id FROM (SELECT id AS endpoint_id FROM notif_private.endpoint WHERE recipient_id = (SELECT id FROM notif_private.recipient WHERE ref = 'p6')) x});
trap('endpoint_trap', 'endpoint', "NEW.id = $device AND NEW.state = 'invalid'", '23514');
trap('outcome_trap', 'outcome', "NEW.recipient = $bad AND NEW.reason IS NULL", '23514');
$sandbox->get('/token?hex=' . token(6) . '&state=dead');
my @recorded = map { one_value($node, qq{SELECT notif.publish('note', 'p$_', '{"n": 6}')}) } 2, 3, 6, 7;
ok(wait_idle($node), 'F-S-1, record: all deliveries end');
is( join(', ', map { verdicts($_) } @recorded),
	'p2 accepted, p3 accepted quarantined:23514, p6 failed quarantined:23514, p7 accepted',
	'F-S-1, record: the answer is kept, what cannot be written is left');
is(scalar(my @twice = $sandbox->ledger(one_value($node, "SELECT delivery FROM notif.deliveries WHERE event = '$recorded[1]'"))), 1, 'F-S-1, record: and sent once');
balanced($node, 'F-S-1, record');
disarm($_) for qw(endpoint_trap outcome_trap);
is(pids(), $pids, 'F-S-1: no worker was started anew');

# ---- everybody's error ---------------------------------------------------------------

trap('all_trap', 'flight_bulk', 'true', 'P0001');
trap('all_inbox_trap', 'inbox', 'NEW.recipient >= 0', '42883');
my $errors = () = slurp_file($node->logfile) =~ /ERROR:  trap all/g;
one_value($node, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 7}')) FROM generate_series(1, 3) i, unnest('{note,news}'::text[]) t});
ok(NotifTest::wait_for(sub { return (() = slurp_file($node->logfile) =~ /notif router \w+ ERROR:  trap all_inbox_trap/g) >= 6 }), 'F-P-10: what everybody meets is met again and again');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data = '{"n": 7}'}), 0, 'F-P-10: and nobody is given up on');
disarm('all_inbox_trap');
ok(NotifTest::wait_for(sub { return (() = slurp_file($node->logfile) =~ /notif dispatcher \w+ ERROR:  trap all_trap/g) >= 3 }), 'F-P-10: the same in the claim');
is( one_value($node, q{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data = '{"n": 7}' AND o.tier = 2}),
	0, 'F-P-10: nobody is given up on');
disarm('all_trap');
ok(wait_idle($node, 120), 'F-P-10: once it is mended all deliveries end');
is( one_value($node, q{SELECT count(*), bool_and(o.state = 'accepted') FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data = '{"n": 7}'}),
	'6|t', 'F-P-10: accepted');
($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content with all of it');
is($totals->{duplicated}, 0, 'nothing was sent twice');
balanced($node, 'at the end');
is(pids(), $pids, 'and no worker was started anew');
no_crash($node, 'a log with the errors that were provoked', qr/fault point K|trap \w+_trap/);
$node->stop;
done_testing();
