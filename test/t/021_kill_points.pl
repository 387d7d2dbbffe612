# A worker is killed at each point where something is committed, sent or known
# and something else is not: F-P-1, 1b, 2, 3, 4, 5, and K8, K9.  One flight holds a
# delivery that may be sent twice and one that may not, so each kill tells of both.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('points', conf => "restart_after_crash = on\nfsync = on\n");
my $kills = 0;

people($node, 20);
fault_points($node);
$node->safe_psql('postgres', 'ALTER ROLE notif_worker SET notif.fault_while_connecting = on');
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 0}')});
ok(wait_idle($node), 'warm');

# Until the server is back after a kill, all workers run and all deliveries ended.
sub recovered
{
	my ($name) = @_;

	$kills++;
	ok(NotifTest::wait_for(sub { return crashes($node) >= $kills }), "$name: killed");
	ok(wait_running($node), "$name: the server and all workers are back");
	$sandbox->fault('clear');
	ok(wait_idle($node), "$name: all deliveries end");
	is(crashes($node), $kills, "$name: once");
	balanced($node, $name);
	return;
}

# An event of each category in one transaction.  Its session may go down with the
# server before it has heard that it committed: published() tells which they are.
my $publishes = 0;
sub publish_both
{
	$publishes++;
	$node->psql('shop', qq{SELECT notif.publish(t, 'p' || (1 + n), '{"n": 1, "both": $publishes}') FROM unnest('{note,money}'::text[]) WITH ORDINALITY x(t, n)});
	return;
}

# (note => id, money => id) of the last publish_both.
sub published
{
	my %of = split /[|\n]/, one_value($node, qq{SELECT t.name, e.id FROM notif_private.event e
		JOIN notif_private.type t ON t.id = e.type_id WHERE e.data = '{"n": 1, "both": $publishes}'});

	return %of;
}

# Of the one delivery of an event: what its attempts came to, how often the
# provider has it, and whether that was the same each time.
sub story
{
	my ($event) = @_;
	my $outcomes = one_value($node, qq{SELECT string_agg(state || coalesce(' ' || reason, ''), ', ' ORDER BY attempt)
		FROM notif_private.outcome WHERE event = '$event'});
	my @seen = $sandbox->ledger(one_value($node, qq{SELECT delivery FROM notif_private.outcome WHERE event = '$event' LIMIT 1}));
	my %same = map { join(' ', @$_{qw(id token topic collapse_id sha)}) => 1 } @seen;

	return $outcomes . ' x' . @seen . (keys %same > 1 ? ' differing' : '');
}

my $again = 'unknown worker_lost, accepted';
my $held = 'held worker_lost';

for my $case (
	[ 'F-P-1',  'K1', 'router',     {},                   'accepted x1',                'accepted x1' ],
	[ 'F-P-1b', 'K2', 'dispatcher', {},                   'accepted x1',                'accepted x1' ],
	[ 'F-P-2',  'K3', 'dispatcher', {},                   "$again x1",                  "$held x0" ],
	# the provider has both and answers nobody
	[ 'F-P-3',  'K4', 'dispatcher', { switch => 'hang=on' }, "$again x2",               "$held x1" ],
	[ 'F-P-4',  'K5', 'dispatcher', {},                   "$again x2",                  "$held x1" ],
	[ 'F-P-4',  'K6', 'dispatcher', {},                   "$again x2",                  "$held x1" ],
	# their record holds one that must not be sent twice: it has flushed itself
	[ 'F-P-5',  'K7', 'dispatcher', {},                   'accepted x1',                'accepted x1' ])
{
	my ($id, $point, $kind, $opts, $note, $money) = @$case;
	my $name = "$id, $kind dies at $point";

	$sandbox->fault($opts->{switch}) if $opts->{switch};
	fault($node, $point, 'die', tier => 'standard');
	publish_both();
	recovered($name);
	my %event = published();
	is(keys %event, 2, "$name: both were published");
	is(story($event{note}), $note, "$name: retry");
	is(story($event{money}), $money, "$name: hold");
	is( one_value($node, qq{SELECT count(*) FROM notif.dead_letters WHERE event = '$event{money}' AND state = 'held'}),
		$money =~ /held/ ? 1 : 0, "$name: what is held is shown");
	is(one_value($node, qq{SELECT count(*) FROM notif_private.inbox WHERE event IN ('$event{note}', '$event{money}')}),
		2, "$name: one inbox item each");
}

# F-P-5 without a hold: the record is flushed by the next claim, and until then a
# crash takes it: the delivery goes out again, and is counted as unknown.
my %pair;
fault($node, 'K7', 'die', tier => 'standard', nth => 2);
$pair{first} = one_value($node, q{SELECT notif.publish('note', 'p3', '{"n": 1}')});
ok(wait_idle($node), 'F-P-5: one is recorded');
$node->psql('shop', q{SELECT notif.publish('note', 'p3', '{"n": 1, "second": 2}')});
recovered('F-P-5, K7 twice');
$pair{second} = one_value($node, q{SELECT id FROM notif_private.event WHERE data = '{"n": 1, "second": 2}'});
is(story($pair{first}), 'accepted x1', 'F-P-5: the next claim has flushed the record before it');
like(story($pair{second}), qr/^(accepted x1|\Q$again\E x2)$/, 'F-P-5: what was not flushed is counted and sent under its id');

# A flight that is partly answered: only the rest of it is in doubt.
$sandbox->get('/token?hex=' . token(11) . '&state=dead');
$sandbox->fault('hang=on,fraction=50');
one_value($node, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 1}')) FROM generate_series(11, 20) i, unnest('{note,money}'::text[]) t});
ok( wait_true($node, q{SELECT sum(n) BETWEEN 1 AND 19 FROM notif.state WHERE state = 'in_flight'}), 'F-P-3: some of a flight are answered');
fault($node, 'K2', 'die', tier => 'standard');
$node->psql('shop', q{SELECT notif.publish('note', 'p1', '{"n": 1, "last": 2}')});
recovered('F-P-3, a flight partly answered');
my $last = one_value($node, q{SELECT id FROM notif_private.event WHERE data = '{"n": 1, "last": 2}'});
is(story($last), 'accepted x1', 'F-P-3: what came after it is not in doubt');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-P-3: the checker is content');
is(one_value($node, q{SELECT count(*) FROM (SELECT FROM notif_private.outcome WHERE terminal GROUP BY delivery HAVING count(*) > 1) x}),
	0, 'F-P-3: no verdict was given twice');
is(one_value($node, q{SELECT state FROM notif.endpoints WHERE recipient = 'p11'}), 'invalid', 'F-P-3: a dead device stays dead');

# ---- upkeep ----------------------------------------------------------------------

# A day long gone, with something that nobody needs any more.  Upkeep sees it, and
# the fault, at once.
sub old_day
{
	my ($day, $point) = @_;
	my $name = "event_$day" =~ tr/-//dr;

	$node->psql('shop', qq{BEGIN;
		SELECT notif_private.attach_range('event', '$name', notif_private.uuid_at('$day')::text,
			notif_private.uuid_at('$day'::timestamptz + '1 day')::text, (SELECT keys FROM notif_private.range_plan() WHERE parent = 'event'));
		INSERT INTO notif_private.$name (id, tier, incarnation, xid, type_id, data, expires_at, created_at)
		SELECT notif_private.uuid_at('$day'::timestamptz + '1 h'), 1, 0, '3', 1, '{}', '$day', '$day';
		SELECT notif_fault.set('$point', 'die');
		COMMIT});
	return $name;
}

for my $case ([ 'K8a', '2020-01-01' ], [ 'K8b', '2020-01-02' ])
{
	my ($point, $day) = @$case;
	my $name = "$point, upkeep dies with a partition";

	my $part = old_day($day, $point);
	$node->reload;
	recovered($name);
	ok(wait_true($node, "SELECT to_regclass('notif_private.$part') IS NULL"), "$name: it goes, after all");
	is(one_value($node, 'SELECT count(*) FROM pg_inherits WHERE inhdetachpending'), 0, "$name: nothing is left pending");
	publish_both();
	my %event = published();
	ok(wait_idle($node), "$name: publishing goes on");
	is(story($event{money}), 'accepted x1', "$name: as ever");
}

# ---- start -----------------------------------------------------------------------

for my $point (qw(K9a K9b))
{
	for my $kind (qw(router dispatcher))
	{
		my $name = "$point, $kind dies at its start";

		fault($node, $point, 'die', kind => $kind, tier => 'standard');
		kill 'TERM', one_value($node, qq{SELECT pid FROM notif_private.worker_status() WHERE kind = '$kind' AND tier = 'standard'});
		# the server may go down under it: then there is no event
		publish_both();
		recovered($name);
		my %event = published();
		is(story($_), 'accepted x1', "$name: what was published meanwhile goes out once") for values %event;
	}
}

($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content with all of it');
is("$totals->{lost} $totals->{unexpected}", '0 0', 'nothing lost, nothing unexpected');
cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'twice only what was in doubt');
$node->stop;
done_testing();
