# Events for later with workers: released when they are due, in every tier, also when
# the router sleeps, dies at any point or waits for a switch; nothing lost, nothing
# twice.  F-P-1 for what waits; F-D-10 for a dump.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('schedule', conf => "restart_after_crash = on\nfsync = on\n");
my $kills = 0;

people($node, 20);
fault_points($node);
one_value($node, q{SELECT count(notif.publish(t, 'p1', '{"n": 0}')) FROM unnest('{note,code,news}'::text[]) t});
ok(wait_idle($node), 'warm');

# Until nothing waits for its time.
sub wait_released
{
	my ($name) = @_;

	ok(wait_true($node, q{SELECT NOT EXISTS (SELECT FROM notif_private.appointment)}), "$name: released");
	ok(wait_idle($node), "$name: all deliveries end");
	return;
}

# (sent, ms) of a schedule's one delivery: how often the provider has it, and how long
# after its time it got it first.
sub arrival
{
	my ($event) = @_;
	my ($delivery, $due_us) = split /\|/, one_value($node, qq{
		SELECT o.delivery, (extract(epoch FROM r.deliver_at) * 1000000)::bigint
		FROM notif.releases r JOIN notif_private.outcome o ON o.event = r.event WHERE r.schedule = '$event' AND o.state = 'accepted'});
	my @seen = $sandbox->ledger($delivery);

	return (scalar @seen, ($seen[0]{time_us} - $due_us) / 1000);
}

# ---- when its time comes nobody needs to call

for my $type (qw(note code news))
{
	my $event = one_value($node, qq{SELECT notif.publish('$type', 'p2', '{"n": 1}', deliver_at => notif.now() + interval '1500 ms')});

	ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.scheduled WHERE event = '$event'}), "$type: it is filed");
	wait_released($type);
	my ($sent, $ms) = arrival($event);
	is($sent, 1, "$type: sent once");
	cmp_ok($ms, '>=', 0, "$type: not before its time");
	# a router that sleeps until something calls it would take 30 s
	cmp_ok($ms, '<', 5000, "$type: $ms ms after it");
	note("$type: provider has it $ms ms after its time");
}

# an earlier time, told to a router that sleeps for a longer one
my $moved = one_value($node, q{SELECT notif.publish('note', 'p3', '{"n": 2}', deliver_at => notif.now() + interval '1 hour')});
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.scheduled WHERE event = '$moved'}), 'it waits for an hour');
one_value($node, qq{SELECT notif.reschedule('$moved', notif.now() + interval '500 ms')});
wait_released('rescheduled');
is((arrival($moved))[0], 1, 'sent once, at its new time');
# the clock moves on
one_value($node, q{SELECT count(notif.publish(t, 'p4', '{"n": 3}', deliver_at => notif.now() + interval '1 hour')) FROM unnest('{note,code,news}'::text[]) t});
ok(wait_true($node, q{SELECT count(*) = 3 FROM notif.scheduled}), 'three wait for an hour');
one_value($node, q{SELECT notif_private.shift_clock(3600 * 1000000::bigint)});
wait_released('the clock has moved');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries d JOIN notif.releases r ON r.event = d.event WHERE d.state = 'accepted'}), 7, 'all are sent');
# ... and back, so that what follows is filed behind a horizon that lies ahead; a
# crash would put it back, too
one_value($node, q{SELECT notif_private.shift_clock(-3600 * 1000000::bigint)});
my $back = one_value($node, q{SELECT notif.publish('note', 'p4', '{"n": 3}', deliver_at => notif.now() + interval '300 ms')});
wait_released('the clock was set back');
is((arrival($back))[0], 1, 'sent at its time');
# spread over two seconds: none at once, all in the end
my $spread = one_value($node, q{SELECT notif.publish('note', recipients => ARRAY(SELECT 'p' || i FROM generate_series(1, 20) i), data => '{"n": 4}', spread => '2 s')});
ok(wait_idle($node), 'spread: all deliveries end');
is(state_of($node, $spread), 'accepted 20', 'spread: all are sent');
is(one_value($node, qq{SELECT count(*) FROM notif_private.outcome WHERE event = '$spread' AND state = 'deferred' AND reason = 'scheduled' AND next_at > at}), 20,
	'spread: each at its own time');
is(one_value($node, qq{SELECT bool_and(o.at >= d.next_at) FROM notif_private.outcome o JOIN notif_private.outcome d USING (delivery)
	WHERE o.event = '$spread' AND o.state = 'accepted' AND d.reason = 'scheduled'}), 't', 'spread: not before it');
balanced($node, 'on time');

# ---- paused

one_value($node, q{SELECT notif.pause('everything')});
my $paused = one_value($node, q{SELECT notif.publish('note', 'p5', '{"n": 5}', deliver_at => notif.now() + interval '200 ms')});
ok(wait_true($node, q{SELECT notif.now() > (SELECT deliver_at FROM notif_private.event WHERE id = '} . $paused . q{')}), 'its time has come');
one_value($node, q{SELECT notif_private.wake(1::smallint)});
is(one_value($node, qq{SELECT count(*) FROM notif.releases WHERE schedule = '$paused'}), 0, 'paused: nothing is released');
one_value($node, q{SELECT notif.resume('everything')});
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.releases WHERE schedule = '$paused'}), 'resumed: it is');
wait_released('resumed');

# ---- a router dies

sub recovered
{
	my ($name) = @_;

	$kills++;
	ok(NotifTest::wait_for(sub { return crashes($node) >= $kills }), "$name: killed");
	ok(wait_running($node), "$name: the server and all workers are back");
	wait_released($name);
	is(crashes($node), $kills, "$name: once");
	balanced($node, $name);
	return;
}

my $round = 10;
for my $case (
	[ 'K1', 'note', 'filing' ], [ 'K10a', 'note', 'releasing' ], [ 'K10b', 'note', 'released' ], [ 'K1', 'code', 'filing' ],
	[ 'K10a', 'code', 'releasing' ], [ 'K10b', 'code', 'released' ])
{
	my ($point, $type, $what) = @$case;
	my $tier = $type eq 'note' ? 'standard' : 'critical';
	my $name = "$tier router dies at $point, $what";

	$round++;
	fault($node, $point, 'die', tier => $tier);
	# the session may go down with the server before it hears that it has committed
	$node->psql('shop', qq{SELECT count(notif.publish('$type', 'p' || i, '{"n": $round}', deliver_at => notif.now() + interval '300 ms')) FROM generate_series(1, 3) i});
	recovered($name);
	is(one_value($node, qq{SELECT count(*) || ' ' || count(DISTINCT r.schedule) || ' ' || count(DISTINCT r.event) FROM notif_private.event e
			LEFT JOIN notif.releases r ON r.schedule = e.id WHERE e.kind = 2 AND e.parent IS NULL AND e.data = '{"n": $round}'}), '3 3 3',
		"$name: all are released, once each");
	is(one_value($node, qq{SELECT string_agg(DISTINCT d.state::text, ' ') || ' ' || count(*) FROM notif.deliveries d
			JOIN notif.releases r ON r.event = d.event JOIN notif_private.event e ON e.id = r.schedule WHERE e.data = '{"n": $round}'}), 'accepted 3',
		"$name: and accepted");
	is(one_value($node, qq{SELECT count(*) FROM notif_private.inbox i JOIN notif_private.event e ON e.id = i.event WHERE e.data = '{"n": $round}'}), 3,
		"$name: one inbox item each");
}

# a reschedule or cancel that is read by a router which dies over it
for my $what ('reschedule', 'cancel')
{
	my $event = one_value($node, q{SELECT notif.publish('note', 'p7', '{"n": 20}', deliver_at => notif.now() + interval '1 hour')});

	ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.scheduled WHERE event = '$event'}), "$what: filed");
	fault($node, 'K1', 'die', tier => 'standard');
	$node->psql('shop', $what eq 'cancel' ? "SELECT notif.cancel('$event')" : "SELECT notif.reschedule('$event', notif.now() + interval '300 ms')");
	recovered("router dies at a $what");
	is(one_value($node, qq{SELECT count(*) FROM notif.releases WHERE schedule = '$event'}), $what eq 'cancel' ? 0 : 1, "$what: it holds");
}

my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is("$totals->{lost} $totals->{unexpected} $totals->{duplicated}", '0 0 0', 'nothing lost, nothing unexpected, nothing twice');

# ---- restored elsewhere: neither lost nor doubled, and nothing before it is confirmed

my $waits = one_value($node, q{SELECT notif.publish('note', 'p8', '{"n": 30}', deliver_at => notif.now() + interval '1 hour')});
my $gone = one_value($node, q{SELECT notif.publish('code', 'p8', '{"n": 31}', deliver_at => notif.now() + interval '1 hour')});
ok(wait_true($node, q{SELECT count(*) = 2 FROM notif.scheduled}), 'two are filed');
$node->safe_psql('postgres', q{ALTER SYSTEM SET notif.dispatch = off});
$node->reload;
ok(wait_true($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'notif router%' OR backend_type LIKE 'notif dispatcher%'}), 'workers are off');
my $unread = one_value($node, q{SELECT notif.publish('note', 'p8', '{"n": 32}', deliver_at => notif.now() + interval '1 hour')});
one_value($node, qq{SELECT notif.cancel('$gone')});
my $arrived = $sandbox->count;
my $file = "$sandbox->{dir}/dump";
command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('shop') ], 'F-D-11: pg_dump');
no_crash($node, 'a clean log', qr/was terminated by signal 9|terminating connection because of crash/);
$node->stop;

my $other = new_cluster('elsewhere');
$other->start;
$other->safe_psql('postgres', 'CREATE DATABASE shop');
command_ok([ 'pg_restore', '--exit-on-error', '-1', '-d', $other->connstr('shop'), $file ], 'F-D-11: pg_restore');
ok($other->poll_query_until('shop', q{SELECT waiting FROM notif_private.instance}), 'it waits to be confirmed');
one_value($other, qq{SELECT notif_private.shift_clock(2 * 3600 * 1000000::bigint)});
ok($other->poll_query_until('shop', q{SELECT count(*) >= 1 FROM notif_private.worker_status() WHERE kind = 'upkeep' AND heartbeat IS NOT NULL}), 'it lives');
is(one_value($other, q{SELECT count(*) FROM notif_private.appointment WHERE due_at < notif.now()}), 2, 'what is due waits');
# one more, of a system that has another number for its transactions
my $fresh = one_value($other, q{SELECT notif.publish('note', 'p8', '{"n": 33}', deliver_at => notif.now() + interval '1 s')});
one_value($other, q{SELECT notif.confirm_instance()});
ok(wait_running($other), 'confirmed');
ok(wait_true($other, q{SELECT NOT EXISTS (SELECT FROM notif_private.appointment)}), 'all are released');
ok(wait_idle($other), 'all deliveries end');
is(one_value($other, qq{SELECT string_agg(x.n || ' ' || x.state, ', ' ORDER BY x.n) FROM (
	SELECT (s.data ->> 'n')::integer AS n, coalesce(d.state::text, 'released') AS state FROM notif_private.event s LEFT JOIN notif.releases r ON r.schedule = s.id
	LEFT JOIN notif.deliveries d ON d.event = coalesce(r.event, s.id) WHERE s.id IN ('$waits', '$gone', '$unread', '$fresh')) x}),
	'30 accepted, 31 cancelled, 32 accepted, 33 accepted', 'F-D-10: neither lost nor doubled');
is($sandbox->count, $arrived + 3, 'F-D-10: three are sent');
is($other->safe_psql('shop', q{SELECT * FROM notif.audit() WHERE NOT agrees}), '', 'a recount agrees');
no_crash($other, 'a clean log');
$other->stop;
done_testing();
