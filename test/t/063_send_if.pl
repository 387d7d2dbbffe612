# Conditions (send_if) with the workers: what holds goes and the rest does not, in every
# tier; an expression that hangs, fails, writes or will not be stopped delays nobody for
# long; whoever dies in between, nothing is lost and nothing goes twice.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A time-out, and what a machine with other work may add to a handful of transactions.
use constant { TIMEOUT_MS => 300, SLACK_MS => 1500 };

my ($node, $sandbox) = new_shop('conditions', conf => "restart_after_crash = on\nnotif.condition_timeout = " . TIMEOUT_MS . "ms\n");
my $kills = 0;

people($node, 60);
fault_points($node);
one_value($node, q{
	CREATE TABLE public.orders (id bigint PRIMARY KEY, open boolean NOT NULL);
	INSERT INTO public.orders SELECT n, n % 2 = 1 FROM generate_series(1, 1000) n;
	CREATE TABLE public.written (n integer);
	CREATE TABLE public.locked (n integer);
	INSERT INTO public.locked VALUES (1);
	CREATE FUNCTION public.spins() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN LOOP END LOOP; END';
	-- catches its own cancellation
	CREATE FUNCTION public.insists() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM public.spins();
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END
	$$;
	CREATE FUNCTION public.writes() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.written VALUES (1);
		RETURN true;
	END
	$$;
	SELECT notif.define_type('quick', 'retry', title => 'Quick {n}', send_if => 'EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>''n'')::bigint AND o.open)');
	SELECT notif.define_type('waits', 'retry', title => 'Waits {n}', send_if => 'pg_advisory_xact_lock(42) IS NOT NULL');
	SELECT notif.define_type('reads', 'retry', title => 'Reads {n}', send_if => 'EXISTS (SELECT FROM public.locked)');
	SELECT notif.define_type('picky', 'retry', title => 'Picky {n}', ordered => false,
		send_if => 'CASE WHEN notification.data->>''n'' = ''13'' THEN public.spins() ELSE true END');
	-- plans and caches are warm
	SELECT notif.publish(t, 'p1', '{"n": 1}') FROM unnest('{quick,note,code,news}'::text[]) t});
ok(wait_idle($node), 'warm');

# For each of an event's or type's deliveries, its last word.
sub fates
{
	my ($where) = @_;

	return one_value($node, qq{SELECT string_agg(x.word || ' ' || x.n, ', ' ORDER BY x.word) FROM (
		SELECT o.state || coalesce(':' || o.reason, '') AS word, count(*) AS n
		  FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event JOIN notif_private.type t ON t.id = e.type_id
		 WHERE o.terminal AND $where GROUP BY 1) x});
}

# The longest time from the publish to the provider's answer, in ms.
sub slowest
{
	my ($where) = @_;

	return one_value($node, qq{SELECT round(extract(epoch FROM max(o.at - e.created_at)) * 1000)
		FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event JOIN notif_private.type t ON t.id = e.type_id
		WHERE o.state = 'accepted' AND $where});
}

sub sends { my ($word) = @_; return grep { $_->{body} =~ /"\Q$word\E / } $sandbox->ledger; }

# ---- what holds goes ---------------------------------------------------------------------

my $asks = q{EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>'n')::bigint AND o.open) AND notification.recipient LIKE 'p%'};
one_value($node, qq{SELECT count(notif.publish(t, 'p' || i, jsonb_build_object('n', i, 'lot', 1), send_if => \$\$$asks\$\$))
	FROM generate_series(1, 60) i, unnest('{note,code,news,quick}'::text[]) t});
ok(wait_idle($node), 'all ends');
for my $type (qw(note code news quick))
{
	is(fates(qq{t.name = '$type' AND e.data ->> 'lot' = '1'}), 'accepted 30, cancelled:condition 30', "$type: half of them hold");
}
is(scalar(my @odd = grep { $_->{body} =~ /"(?:Note|Code|News|Quick) \d*[02468]"/ } $sandbox->ledger), 0, 'the provider has none of the others');
balanced($node, 'what holds goes');

# In the order of publishing, with conditions and without.
one_value($node, qq{SELECT count(notif.publish('note', 'p2', jsonb_build_object('n', i + 1000, 'lot', 2),
	send_if => CASE WHEN i % 3 = 0 THEN 'true' END)) FROM generate_series(1, 60) i});
ok(wait_idle($node), 'order: all ends');
is(fates(q{e.data ->> 'lot' = '2'}), 'accepted 60', 'order: everything goes');
is(join(' ', map { $_->{body} =~ /"Note (1\d{3})"/ ? $1 : () } sort { $a->{time_us} <=> $b->{time_us} } $sandbox->ledger),
	join(' ', 1001 .. 1060), 'order: as it was published');

# ---- what hangs ----------------------------------------------------------------------------

for my $case ([ 'waits', 'Waits', q{SELECT pg_advisory_lock(42)}, q{SELECT pg_advisory_unlock(42)} ],
	[ 'reads', 'Reads', q{BEGIN; LOCK TABLE public.locked}, q{COMMIT} ])
{
	my ($type, $word, $lock, $unlock) = @$case;
	my $holder = $node->background_psql('shop');

	$holder->query_safe($lock);
	one_value($node, qq{SELECT count(notif.publish(t, 'p' || i + CASE t WHEN '$type' THEN 0 WHEN 'note' THEN 20 ELSE 40 END,
			jsonb_build_object('n', i * 2 - 1, 'lot', '$type')))
		FROM generate_series(1, 20) i, unnest('{$type,note,quick}'::text[]) t});
	ok( wait_true($node, qq{SELECT count(*) = 40 FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event
			WHERE o.state = 'accepted' AND e.data ->> 'lot' = '$type'}), "$type: what has another condition or none goes on");
	my ($without, $with) = map { slowest(qq{t.name = '$_' AND e.data ->> 'lot' = '$type'}) } qw(note quick);
	note("$type: without a condition after at most $without ms, with another after $with ms");
	cmp_ok($without, '<', SLACK_MS, "$type: without a condition it is not delayed");
	cmp_ok($with, '<', 3 * TIMEOUT_MS + SLACK_MS, "$type: with another it is, by three time-outs at most");
	ok(wait_true($node, qq{SELECT EXISTS (SELECT FROM notif.switches WHERE what = 'type' AND name = '$type' AND paused AND by = 'notif')}),
		"$type: the type is paused");
	like(one_value($node, qq{SELECT why FROM notif.switches WHERE name = '$type' AND paused}), qr/send_if took longer than notif.condition_timeout/, "$type: and why");
	ok($node->wait_for_log(qr/WARNING:  notif has paused type "$type": its condition takes too long/), "$type: the log says so");
	is(one_value($node, q{SELECT ok, value FROM notif.health() WHERE check_name = 'conditions'}), "f|took too long: $type", "$type: health says so");
	ok(wait_true($node, qq{SELECT count(*) = 20 FROM notif_private.scheduled_standard s JOIN notif_private.type t ON t.id = s.type_id WHERE t.name = '$type' AND s.parked}),
		"$type: what waits is kept");
	is(scalar(my @early = sends($word)), 0, "$type: nothing has gone");
	balanced($node, "$type: while it is paused");
	$holder->query_safe($unlock);
	$holder->quit;
	one_value($node, qq{SELECT notif.resume('type', '$type')});
	ok(wait_idle($node), "$type: resumed, all ends");
	is(fates(qq{t.name = '$type'}), 'accepted 20', "$type: everything goes");
	is(scalar(my @late = sends($word)), 20, "$type: once");
	is(one_value($node, q{SELECT ok FROM notif.health() WHERE check_name = 'conditions'}), 't', "$type: health is well");
}

# One whose data makes it hang is given up on, and its type is not.
one_value($node, q{SELECT count(notif.publish('picky', 'p' || (1 + i % 60), jsonb_build_object('n', i))) FROM generate_series(1, 200) i});
ok( wait_true($node, q{SELECT count(*) = 199 FROM notif_private.outcome o JOIN notif_private.type t ON t.id = o.type_id WHERE t.name = 'picky' AND o.state = 'accepted'}),
	'one that hangs does not hold up the others of its type');
# it is asked a third time only when others have been in between
one_value($node, q{SELECT count(notif.publish('picky', 'p' || (1 + i % 60), jsonb_build_object('n', i))) FROM generate_series(201, 220) i});
ok( NotifTest::wait_for(sub {
			return 1 if one_value($node, q{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.type t ON t.id = o.type_id WHERE t.name = 'picky' AND o.state = 'failed'});
			one_value($node, q{SELECT notif.publish('picky', 'p1', '{"n": 221}')});
			return 0 }), 'it is given up on');
like(fates(q{t.name = 'picky'}), qr/^accepted \d+, failed:condition_error:57014 1$/, 'with its reason');
is(one_value($node, q{SELECT count(*) FROM notif.switches WHERE name = 'picky'}), '0', 'its type is not paused');
ok(wait_idle($node), 'all ends');

# ---- what fails ----------------------------------------------------------------------------

one_value($node, q{
	CREATE ROLE clerk IN ROLE notif_publisher;
	GRANT SELECT ON public.orders TO clerk;
	GRANT INSERT ON public.written TO clerk});
$node->safe_psql('shop', q{
	SET ROLE clerk;
	SELECT count(notif.publish('note', 'p' || i, jsonb_build_object('n', i, 'lot', 'errors'), send_if =>
		CASE i % 4 WHEN 0 THEN 'public.writes()' WHEN 1 THEN '1 / ((notification.data->>''n'')::integer % 5) >= 0'
			WHEN 2 THEN 'EXISTS (SELECT FROM public.orders)' ELSE 'pg_advisory_lock(7) IS NOT NULL' END)) FROM generate_series(1, 40) i});
ok(wait_idle($node), 'errors: all ends');
# 5 and 25 divide by zero
is(fates(q{e.data ->> 'lot' = 'errors'}), 'accepted 28, failed:condition_error:22012 2, failed:condition_error:25006 10', 'errors: each has its reason, and is alone with it');
is(one_value($node, 'SELECT count(*) FROM public.written'), '0', 'errors: nothing is written');
is(one_value($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7}), '0', 'errors: no lock is left behind');
is(one_value($node, q{SELECT count(*) FROM pg_locks l JOIN notif.workers w ON w.pid = l.pid WHERE l.locktype = 'advisory' AND w.kind = 'conditions'}), '1',
	'errors: and the worker has its own');
$node->safe_psql('shop', q{SET ROLE clerk; SELECT notif.publish('note', 'p1', '{"n": 1, "lot": "rights"}', send_if => 'EXISTS (SELECT FROM public.orders)')});
ok(wait_idle($node), 'rights: it went');
# held at its claim until the rights are gone
one_value($node, q{SELECT notif.pause('type', 'note')});
my $right = one_value($node, q{SET ROLE clerk; SELECT notif.publish('note', 'p1', '{"n": 1, "lot": "rights"}', send_if => 'EXISTS (SELECT FROM public.orders)')});
one_value($node, q{REVOKE SELECT ON public.orders FROM clerk; SELECT notif.resume('type', 'note')});
ok(wait_idle($node), 'rights: all ends');
is(fates(q{e.data ->> 'lot' = 'rights'}), 'accepted 1, failed:condition_error:42501 1', 'rights: those of the time when it is asked');
one_value($node, q{GRANT SELECT ON public.orders TO clerk; SELECT notif.redeliver(delivery) FROM notif.dead_letters WHERE reason = 'condition_error:42501'});
ok( wait_true($node, qq{SELECT count(*) = 1 FROM notif_private.outcome WHERE event = '$right' AND state = 'accepted'}), 'rights: sent again, it passes');
like(slurp_file($node->logfile), qr/LOG:  conditions of notification type "note" could not be asked for \d+ deliveries: condition_error:25006/, 'the log says what failed');
no_crash($node, 'no worker failed');

# An error that would tell of the server, if others did not get their answers.
one_value($node, q{
	CREATE FUNCTION public.blames() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION USING ERRCODE = '53200';
	END
	$$;
	SELECT notif.publish('note', 'p1', '{"n": 1, "lot": "blames"}', send_if => 'public.blames()')});
ok( NotifTest::wait_for(sub {
			return 1 if fates(q{e.data ->> 'lot' = 'blames'}) eq 'failed:condition_error:53200 1';
			one_value($node, q{SELECT notif.publish('quick', 'p2', '{"n": 1, "lot": "beside"}')});
			return 0 }), 'what blames the server is given up on while others are answered');
ok(wait_idle($node), 'and all ends');
is(one_value($node, q{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data ->> 'lot' = 'beside' AND o.terminal AND o.state <> 'accepted'}),
	'0', 'the others go');

# An expression that does not end with its time-out ends with the process.
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 7, "lot": "insists"}', send_if => CASE WHEN i <= 5 THEN 'public.insists()' END)) FROM generate_series(1, 10) i});
one_value($node, q{SELECT count(notif.publish('quick', 'p' || i, '{"n": 7, "lot": "insists"}')) FROM generate_series(11, 20) i});
ok(wait_true($node, q{SELECT EXISTS (SELECT FROM notif.switches WHERE name = 'note' AND paused AND by = 'notif' AND why ~ 'took its worker with it')}), 'what cannot be stopped pauses its type');
ok( wait_true($node, q{SELECT count(*) = 15 FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE o.state = 'accepted' AND e.data ->> 'lot' = 'insists'}),
	'and the others go on');
is(one_value($node, q{SELECT count(notif.cancel(e.id)) FROM notif_private.event e WHERE e.send_if = 'public.insists()'}), 5, 'cancelled');
one_value($node, q{SELECT notif.resume('type', 'note')});
ok(wait_idle($node), 'all ends');
is(crashes($node), 0, 'the server has lived through it');
balanced($node, 'after all that fails');

# ---- who dies ------------------------------------------------------------------------------

for my $case ([ 'conditions', 'K10' ], [ 'conditions', 'K11' ], [ 'conditions', 'K12' ], [ 'dispatcher', 'K2' ], [ 'dispatcher', 'K3' ])
{
	my ($kind, $point) = @$case;
	my $name = "$kind dies at $point";

	fault($node, $point, 'die', kind => $kind);
	$node->psql('shop', qq{SELECT count(notif.publish(t, 'p' || i, jsonb_build_object('n', i, 'lot', '$point'),
			send_if => 'notification.data->>''n'' <> ''2''')) FROM generate_series(1, 10) i, unnest('{note,news}'::text[]) t});
	$kills++;
	ok(NotifTest::wait_for(sub { return crashes($node) >= $kills }), "$name: killed");
	ok(wait_running($node), "$name: all are back");
	ok(wait_idle($node), "$name: all ends");
	is(fates(qq{e.data ->> 'lot' = '$point'}), 'accepted 18, cancelled:condition 2', "$name: as it should");
	my %times;
	$times{ $_->{id} }++ for $sandbox->ledger;
	is(one_value($node, qq{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE o.state = 'accepted' AND e.data ->> 'lot' = '$point'}),
		18, "$name: each once");
	# the server goes down with whatever another dispatcher has on the wire
	my %unknown = map { $_ => 1 } split /\n/, one_value($node, q{SELECT DISTINCT delivery FROM notif_private.outcome WHERE state = 'unknown'});
	is(join(' ', grep { $times{$_} > 1 && !$unknown{$_} } keys %times), '', "$name: nothing went twice that was not in doubt");
	balanced($node, $name);
}

# Forcibly told to end while it asks: asked again.
my $holder = $node->background_psql('shop');
$holder->query_safe(q{SELECT pg_advisory_lock(42)});
one_value($node, q{SELECT notif.publish('waits', 'p1', '{"n": 1}')});
ok(wait_true($node, q{SELECT EXISTS (SELECT FROM pg_locks l JOIN notif.workers w ON w.pid = l.pid WHERE w.kind = 'conditions' AND NOT l.granted)}), 'it asks');
one_value($node, q{SELECT pg_terminate_backend(pid) FROM notif.workers WHERE kind = 'conditions'});
$holder->query_safe(q{SELECT pg_advisory_unlock(42)});
$holder->quit;
ok(wait_running($node), 'terminated, it is started again');
one_value($node, q{SELECT notif.resume('type', 'waits')});
ok(wait_idle($node), 'and asks again');
balanced($node, 'conditions');

$node->stop;
done_testing();
