# What a database does to its workers: other isolation defaults (F-D-5), DDL under
# load (F-D-3), a second dispatcher (F-D-6), vacuum (F-D-13), prepared transactions
# over a crash (F-D-14), subtransactions and cursors (F-D-15), replication (F-D-16).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# A deadlock is looked for before the workers' lock_timeout of 2 s.
my ($node, $sandbox) = new_shop('faults', init => { allows_streaming => 'logical' }, conf => <<'EOC', sandbox => { args => ['--topic', 'com.example.shop'] });
deadlock_timeout = 1500ms
EOC

people($node, 300);
one_value($node, q{SELECT notif.define_rate_limit('many', 100000, '1 day', 'drop')});
one_value($node, q{SELECT notif.define_category('limited', retry_base => '100 ms', retry_cap => '300 ms', max_attempts => 20)});
one_value($node, q{SELECT notif.define_type('limited', 'limited', title => 'Limited {n}')});

# Publishers in the background, each call a transaction; %o: clients, transactions,
# rate (per second).
my $script = "$sandbox->{dir}/publish.sql";
append_to_file($script, <<'EOS');
\set who random(1, 300)
SELECT notif.publish((ARRAY['note', 'limited', 'news', 'code'])[1 + :who % 4], 'p' || :who, '{"n": 1}');
EOS
sub publishers
{
	my (%o) = @_;
	my @limit = $o{transactions} ? ('-t', $o{transactions}) : ('-T', 600);
	my $run = { out => '', err => '' };

	$run->{handle} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $o{clients}, @limit, $o{rate} ? ('-R', $o{rate}) : (), '--max-tries', 100, '-f', $script, $node->connstr('shop') ],
		'>', \$run->{out}, '2>', \$run->{err});
	return $run;
}

sub running { my ($run) = @_; $run->{handle}->pump_nb; return $run->{handle}->pumpable; }

sub finish
{
	my ($run, $signal) = @_;

	$run->{handle}->signal($signal) if defined $signal;
	$run->{handle}->finish;
	return;
}

sub events { return one_value($node, q{SELECT count(*) FROM notif_private.event}); }

# All has ended, each once.
sub settled
{
	my ($name) = @_;
	my $events = events();

	ok(wait_idle($node, 120), "$name: all deliveries end");
	my ($ok, $totals) = check_ledger($node, $sandbox);
	ok($ok, "$name: the checker is content");
	is("$totals->{delivered} $totals->{duplicated} $totals->{lost}", "$events 0 0", "$name: each was sent once");
	balanced($node, $name);
	return;
}

sub worker
{
	my ($kind, $tier, $column) = @_;
	return one_value($node, qq{SELECT $column FROM notif.workers WHERE kind = '$kind' AND tier = '$tier'});
}

# ---- F-D-5: isolation defaults ------------------------------------------------------------

one_value($node, q{ALTER ROLE notif_worker SET default_transaction_isolation = serializable});
one_value($node, q{ALTER ROLE notif_worker SET synchronous_commit = off});
one_value($node, q{ALTER DATABASE shop SET default_transaction_isolation = serializable});
one_value($node, q{SELECT pg_terminate_backend(pid) FROM notif_private.worker_status() WHERE pid IS NOT NULL});
ok(wait_true($node, q{SELECT bool_and(restarts > 0 AND state = 'running') FROM notif.workers}), 'F-D-5: workers start under serializable defaults');
my $run = publishers(clients => 4, transactions => 50);
my $predicates = 0;
while (running($run))
{
	$predicates += one_value($node, q{SELECT count(*) FROM pg_locks JOIN notif_private.worker_status() USING (pid) WHERE mode = 'SIReadLock'});
	NotifTest::nap();
}
finish($run);
like($run->{out}, qr/number of transactions actually processed: 200\/200/, 'F-D-5: publishing under SERIALIZABLE works');
is(events(), 200, 'F-D-5: each publish is an event');
settled('F-D-5');
is($predicates, 0, 'F-D-5: no worker ever held a predicate lock: they are READ COMMITTED');
unlike(slurp_file($node->logfile), qr/notif \w+ 40001/, 'F-D-5: nor did one fail to serialize');
one_value($node, q{ALTER ROLE notif_worker RESET ALL});
one_value($node, q{ALTER DATABASE shop RESET default_transaction_isolation});

# ---- F-D-6: a second dispatcher ---------------------------------------------------------------

# Class "noti", kind 2, tier standard: what the other one would hold.
my $other = $node->background_psql('shop', on_error_stop => 0);
my $restarts = worker('dispatcher', 'standard', 'restarts');
my $log = -s $node->logfile;
one_value($node, q{SELECT pg_terminate_backend(pid) FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'});
$other->query('SELECT pg_advisory_lock(1852798057, (2 << 24) | (2 << 16))');
ok($node->wait_for_log(qr/another process does the work of this notif worker/, $log), 'F-D-6: the second dispatcher steps aside');
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 2}')});
ok(wait_true($node, q{SELECT count(*) = 1 FROM notif_private.queued_standard}), 'F-D-6: nobody else takes its work');
ok(wait_true($node, qq{SELECT restarts >= $restarts + 2 AND state = 'stopped' FROM notif.workers WHERE kind = 'dispatcher' AND tier = 'standard'}),
	'F-D-6: it tries again later');
unlike(substr(slurp_file($node->logfile), $log), qr/background worker "notif dispatcher".*exited with exit code [^0]/, 'F-D-6: each time it ends with 0');
$other->query('SELECT pg_advisory_unlock_all()');
ok(wait_running($node), 'F-D-6: and takes over when the first is gone');
settled('F-D-6');

# ---- F-D-13: vacuum while requests hang ------------------------------------------------------------

$sandbox->fault('hang=on');
my $before = $sandbox->count;
one_value($node, q{SELECT count(notif.publish(CASE WHEN i % 2 = 0 THEN 'note' ELSE 'limited' END, 'p' || i, '{"n": 3}')) FROM generate_series(1, 100) i});
ok($sandbox->wait_count($before + 100), 'F-D-13: requests are out');
my $now = one_value($node, q{SELECT pg_current_xact_id()::xid});
my $old = qq{SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 't') AND age(c.relfrozenxid) > age('$now'::xid)
	AND (c.relnamespace = 'notif_private'::regnamespace OR c.oid IN (SELECT t.reltoastrelid FROM pg_class t WHERE t.relnamespace = 'notif_private'::regnamespace))};
cmp_ok(one_value($node, $old), '>', 50, 'F-D-13: tables have old ids');
$node->safe_psql('shop', join "\n", map { "VACUUM (FREEZE) notif_private.$_;" } split /\n/,
	one_value($node, q{SELECT relname FROM pg_class WHERE relnamespace = 'notif_private'::regnamespace AND relkind = 'r' ORDER BY 1}));
is(one_value($node, $old), '0', 'F-D-13: VACUUM leaves none, though a hundred requests hang: no worker holds an old snapshot');
is(one_value($node, q{SELECT sum(n) FROM notif.state WHERE state = 'in_flight'}), '100', 'F-D-13: they still do');
$sandbox->fault('hang=off');
settled('F-D-13');

# ---- F-D-3: DDL while load flows -----------------------------------------------------------------------

$run = publishers(clients => 2, rate => 150);
my ($outcome, $inbox, $event) = map { one_value($node, qq{SELECT child FROM notif_private.range_partition WHERE parent = '$_' AND now() BETWEEN lower_at AND upper_at}) }
  qw(outcome_standard inbox event);
$before = events();
ok(wait_true($node, qq{SELECT count(*) > $before + 50 FROM notif_private.event}), 'F-D-3: load flows');
for my $ddl ('ALTER TABLE notif_private.outcome ADD COLUMN spare integer', 'ALTER TABLE notif_private.outcome DROP COLUMN spare',
	'ALTER TABLE notif_private.event ADD COLUMN spare integer', 'ALTER TABLE notif_private.event DROP COLUMN spare',
	'ALTER TABLE notif_private.cursor_standard ADD COLUMN spare integer', 'ALTER TABLE notif_private.cursor_standard DROP COLUMN spare',
	'ALTER TABLE notif_private.endpoint SET (fillfactor = 80)', 'TRUNCATE notif_private.cancellation', 'TRUNCATE notif_private.provider_token',
	'REINDEX TABLE notif_private.endpoint', "REINDEX TABLE notif_private.$outcome", "REINDEX TABLE notif_private.$inbox",
	'REINDEX TABLE notif_private.cursor_standard_0', "VACUUM FULL notif_private.$outcome", "VACUUM FULL notif_private.$event",
	'VACUUM FULL notif_private.rate', 'VACUUM FULL notif_private.recipient', 'VACUUM FULL notif_private.tally_standard_0')
{
	my $at = time;
	my ($rc, $out, $err) = $node->psql('shop', $ddl);
	my $took = time - $at;

	is("$rc $err", '0 ', "F-D-3: $ddl");
	cmp_ok($took, '<', 3, sprintf 'F-D-3: in less than 3 s (%.2f)', $took);
}

# A lock that somebody keeps: workers give up after 2 s, pause and try again.  A router writes
# outcomes only of whom it cannot reach, but each one's inbox.
my $admin = $node->background_psql('shop', on_error_stop => 0);
$admin->set_query_timer_restart();
my $waiting = q{FROM pg_locks l JOIN notif_private.worker_status() w USING (pid) WHERE NOT l.granted AND w.kind <> 'upkeep' AND w.tier = 'standard'};
my $well = q{SELECT sum(failing) = 0 FROM notif_private.workers_here() WHERE tier = 'standard'};
# answers that come when outcomes are locked
$sandbox->fault('hang=on');
ok(wait_true($node, q{SELECT n >= 5 FROM notif.state WHERE tier = 'standard' AND state = 'in_flight'}), 'F-D-3: requests are out');
$log = -s $node->logfile;
$admin->query('BEGIN');
$admin->query('LOCK TABLE notif_private.outcome, notif_private.inbox IN ACCESS EXCLUSIVE MODE');
$sandbox->fault('hang=off');
my ($longest, $waits) = (0, 0);
ok( NotifTest::wait_for(sub {
			my $ms = one_value($node, qq{SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)) * 1000, -1) $waiting});
			my $text = substr slurp_file($node->logfile), $log;

			$waits++ if $ms >= 0;
			$longest = $ms if $ms > $longest;
			return (() = $text =~ /notif dispatcher 55P03 ERROR/g) >= 2 && (() = $text =~ /notif router 55P03 ERROR/g) >= 2; }),
	'F-D-3: against a lock that is kept router and dispatcher give up, again and again');
cmp_ok($longest, '<', 2500, "F-D-3: none ever waits longer than its lock_timeout of 2 s (seen $waits times, longest $longest ms)");
cmp_ok($waits, '>', 0, 'F-D-3: though they have waited');
is(worker('dispatcher', 'standard', q{last_error LIKE '55P03%'}), 't', 'F-D-3: notif.workers shows it');
$admin->query('COMMIT');

# A deadlock: what a worker has locked is wanted by whom it waits for.
my $dead = 0;
$admin->query(q{SET deadlock_timeout = '30s'; SET lock_timeout = '10s'});
for (1 .. 6)
{
	$log = -s $node->logfile;
	ok(wait_true($node, $well, 90), 'F-D-3: they work again');
	$admin->query('BEGIN');
	$admin->query('LOCK TABLE notif_private.outcome, notif_private.inbox IN ACCESS EXCLUSIVE MODE');
	NotifTest::wait_for(sub { return one_value($node, "SELECT count(*) > 0 $waiting") eq 't' }, 20);
	$admin->query('LOCK TABLE notif_private.cursor_standard, notif_private.tally_standard IN ACCESS EXCLUSIVE MODE');
	$admin->query('COMMIT');
	$dead = substr(slurp_file($node->logfile), $log) =~ /notif (?:router|dispatcher) 40P01 ERROR:  deadlock detected/;
	last if $dead;
}
ok($dead, 'F-D-3: a worker is the victim of a deadlock');
ok(wait_true($node, $well, 90), 'F-D-3: and works again');
finish($run, 'INT');
settled('F-D-3');
$admin->quit;

# ---- F-D-14: prepared transactions over a crash -----------------------------------------------------------

$before = events();
one_value($node, q{BEGIN; SELECT notif.publish(t, 'p2', '{"n": 4}') FROM unnest('{note,code,limited}'::text[]) t; PREPARE TRANSACTION 'kept'});
one_value($node, q{BEGIN; SELECT notif.publish('note', 'p3', '{"n": 5}'); PREPARE TRANSACTION 'taken back'});
my @children = split /\n/, one_value($node, q{SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()});
$node->kill9;
# they end with it; only then can it start again
ok(NotifTest::wait_for(sub { return !grep { kill 0, $_ } @children }), 'F-D-14: a crash');
$node->start;
ok(wait_running($node), 'F-D-14: and recovery');
one_value($node, q{SELECT notif.publish(t, 'p4', '{"n": 6}') FROM unnest('{note,code}'::text[]) t});
ok(wait_idle($node), 'F-D-14: what was not prepared is delivered');
is(events(), $before + 2, 'F-D-14: beside what is prepared');
one_value($node, q{COMMIT PREPARED 'kept'});
one_value($node, q{ROLLBACK PREPARED 'taken back'});
ok($sandbox->wait_count($before + 5), 'F-D-14: COMMIT PREPARED sends');
settled('F-D-14');
is(events(), $before + 5, 'F-D-14: what was taken back is not there');

# ---- F-D-15: subtransactions, cursors, memory ----------------------------------------------------------------

$before = events();
one_value($node, q{
	BEGIN;
	SELECT notif.publish('note', 'p5', '{"n": 7}');
	SAVEPOINT a; SELECT notif.publish('note', 'p6', '{"n": 7}'); SAVEPOINT b; SELECT notif.publish('note', 'p7', '{"n": 7}'); ROLLBACK TO a;
	SELECT notif.publish('code', 'p8', '{"n": 7}'); RELEASE a;
	DO $$ BEGIN PERFORM notif.publish('note', 'p9', '{"n": 7}'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
	-- a cursor publishes what is fetched; one that is held all, at commit
	DECLARE a_few CURSOR FOR SELECT notif.publish('note', 'p' || i, '{"n": 8}') FROM generate_series(10, 19) i;
	FETCH 3 FROM a_few; CLOSE a_few;
	DECLARE held NO SCROLL CURSOR WITH HOLD FOR SELECT notif.publish('note', 'p' || i, '{"n": 9}') FROM generate_series(20, 24) i;
	FETCH 1 FROM held;
	COMMIT;
	BEGIN; SELECT notif.publish('note', 'p30', '{"n": 7}'); ROLLBACK});
is(events(), $before + 10, 'F-D-15: publishes of subtransactions and cursors are those that were committed');
settled('F-D-15');
my $memory = one_value($node, q{
	BEGIN;
	SELECT notif.publish('note', 'p1', '{"n": 10}') IS NULL;
	SELECT sum(total_bytes) FROM pg_backend_memory_contexts;
	SELECT count(notif.publish('note', 'p1', '{"n": 10}')) FROM generate_series(1, 20000);
	SELECT sum(total_bytes) FROM pg_backend_memory_contexts;
	ROLLBACK});
my ($small, $large) = (split /\n/, $memory)[ 1, 3 ];
cmp_ok($large - $small, '<', 1_000_000, sprintf 'F-D-15: 20,000 publishes in one transaction keep %d kB', ($large - $small) / 1024);
is(events(), $before + 10, 'F-D-15: rolled back, there is none of them');

# ---- F-D-16: replication ------------------------------------------------------------------------------------------

$before = events();
one_value($node, q{SET session_replication_role = replica; SELECT notif.publish(t, 'p1', '{"n": 11}') FROM unnest('{note,limited,code,news}'::text[]) t});
ok($sandbox->wait_count($before + 4), 'F-D-16: publishing needs no trigger');
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', q{CREATE TABLE orders (id integer PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE orders});
$node->safe_psql('source', q{SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
one_value($node, q{
	CREATE TABLE orders (id integer PRIMARY KEY);
	CREATE FUNCTION on_order() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM notif.publish('note', 'p' || NEW.id, jsonb_build_object('n', NEW.id)); RETURN NULL; END $$;
	CREATE TRIGGER on_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION on_order();
	ALTER TABLE orders ENABLE REPLICA TRIGGER on_order});
one_value($node, q{CREATE SUBSCRIPTION sub CONNECTION '} . $node->connstr('source') =~ s/'/''/gr . q{' PUBLICATION pub WITH (create_slot = false, slot_name = 'sub', copy_data = false)});
$node->safe_psql('source', q{INSERT INTO orders SELECT generate_series(1, 5); BEGIN; INSERT INTO orders VALUES (6); ROLLBACK; INSERT INTO orders VALUES (7)});
ok($sandbox->wait_count($before + 10), 'F-D-16: a subscriber publishes what it is sent');
is(events(), $before + 10, 'F-D-16: and nothing else');
settled('F-D-16');
one_value($node, q{DROP SUBSCRIPTION sub});

no_crash($node, 'a clean log', qr/(?:55P03|40P01) ERROR|57P01/);
$node->stop;
done_testing();
