# Kills of workers and of the whole server at random moments under load.  The
# producer notes what was acknowledged; the checker compares it with what the
# sandbox got: nothing lost, nothing unexpected, twice only where it was unknown,
# never twice for a category that holds.
#
# CRASH_ROUNDS: how often (6); each round draws one of the ways to die.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{CRASH_ROUNDS} // 6;
my $seed = $ENV{CRASH_SEED} // int(time);

srand($seed);
note("CRASH_SEED=$seed");

my ($node, $sandbox) = new_shop('crash', conf => <<'EOC', sandbox => { args => ['--topic', 'com.example.shop'] });
restart_after_crash = on
fsync = on
EOC
my $producer_file = "$sandbox->{dir}/producer";

people($node, 500);
# answers take a while, so that something is always in the air
$sandbox->fault('delay_ms=15');

# A producer is a program of its own: one transaction after the other.  psql
# prints an event's id only when its COMMIT has returned; it ends with the server
# and is started again.
sub start_producer
{
	my ($n) = @_;
	my $type = ('note', 'money', 'code', 'news')[ $n % 4 ];
	my $load = "$producer_file.$n.sql";

	append_to_file($load, <<"EOS" x 20);
SELECT notif.publish('$type', 'p' || (1 + (random() * 499)::integer), jsonb_build_object('n', i)) FROM generate_series(1, @{[ $type eq 'code' ? 2 : 20 ]}) i;
EOS
	my $test = $$;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	# ends with the test, too, however that ends
	exec 'sh', '-c', 'while [ ! -e "$1.stop" ] && kill -0 "$4"; do psql -XAtq -v ON_ERROR_STOP=1 -d "$2" -f "$3" >>"$3.out" 2>/dev/null; done',
	  'producer', $producer_file, $node->connstr('shop'), $load, $test
	  or POSIX::_exit(1);
}

# Pids of the workers of a kind.
sub pids
{
	my ($kind) = @_;
	return split /\n/, one_value($node,
		qq{SELECT pid FROM notif_private.worker_status() WHERE kind = '$kind' AND state = 'running' AND pid IS NOT NULL});
}

my %ways = (
	'stop immediate' => sub { $node->stop('immediate'); $node->start; },
	'kill router' => sub { my @p = pids('router'); kill 'KILL', $p[ rand @p ] if @p; },
	'kill dispatcher' => sub { my @p = pids('dispatcher'); kill 'KILL', $p[ rand @p ] if @p; },
	'kill postmaster' => sub {
		my ($pid) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
		my @workers = (pids('dispatcher'), pids('router'));

		$node->kill9;
		# what is left of it ends by itself, without sending more
		ok(NotifTest::wait_for(sub { return !grep { kill 0, $_ } @workers }, 10), 'workers end with the postmaster');
		my $late = $sandbox->count;
		ok(NotifTest::wait_for(sub { return !-S $node->host . '/.s.PGSQL.' . $node->port || !kill(0, $pid) }, 10), 'it is gone');
		is($sandbox->count, $late, 'and nothing is sent after it');
		$node->start;
	},
	'stop fast' => sub {
		my $doubts = q{SELECT count(*) FROM notif_private.outcome WHERE reason = 'worker_lost'};
		my $before = one_value($node, $doubts);

		# answers are taken in before the dispatchers end
		$node->stop('fast');
		$node->start;
		wait_running($node);
		is(one_value($node, $doubts), $before, 'an orderly stop leaves nothing in doubt');
	});

my @producers = map { start_producer($_) } 0 .. 3;
my @order = ('kill dispatcher', 'stop immediate', 'kill router', 'kill postmaster', 'stop fast', sort keys %ways);
for my $round (1 .. $rounds)
{
	my $way = $round <= 5 ? $order[ $round - 1 ] : $order[ rand @order ];
	my $sent = $sandbox->count;
	my $more = 150 + int rand 400;

	ok($sandbox->wait_count($sent + $more), "round $round: under load");
	$ways{$way}->();
	ok(NotifTest::wait_for(sub { my ($rc) = $node->psql('shop', 'SELECT 1'); return $rc == 0 }), "round $round: $way: the server is back");
	ok(wait_running($node), "round $round: so are all workers");
	my $back = time;
	$sent = $sandbox->count;
	ok($sandbox->wait_count($sent + 50), "round $round: deliveries go on");
	cmp_ok(time - $back, '<', 15, "round $round: soon");
}
append_to_file("$producer_file.stop", '');
waitpid $_, 0 for @producers;
$sandbox->fault('clear');
ok(wait_idle($node, 120), 'all deliveries end');

# what was noted, of all producers
my $acked = join '', map { slurp_file("$producer_file.$_.sql.out") } 0 .. 3;
append_to_file($producer_file, join '', map { "$_\n" } $acked =~ /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/mg);
my ($ok, $totals) = check_ledger($node, $sandbox, $producer_file);
ok($ok, 'the checker is content');
cmp_ok($totals->{acknowledged}, '>', 500, 'after enough events');
is($totals->{lost}, 0, 'nothing was lost');
is($totals->{unexpected}, 0, 'nothing unexpected was sent');
cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'twice only where nobody knew');
balanced($node, 'after all crashes');
is( one_value($node, q{SELECT count(*) FROM (SELECT FROM notif_private.outcome WHERE terminal AND endpoint IS NOT NULL GROUP BY delivery HAVING count(*) > 1) x}),
	'0', 'every delivery has one terminal outcome');
is( one_value($node, q{SELECT count(*) FROM notif_private.event e WHERE NOT EXISTS (SELECT FROM notif_private.inbox i WHERE i.event = e.id)}),
	'0', 'every event reached an inbox');
my @bad = grep { /PANIC|TRAP:|signal (?!9:|3:)\d+:/ } split /\n/, slurp_file($node->logfile);
is("@bad", '', 'no process crashed by itself');
$node->stop;
done_testing();
