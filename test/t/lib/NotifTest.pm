# What the tests of the ledger share: a cluster whose workers send to a sandbox,
# what the sandbox is told and asked, waiting on conditions, and the checker.
package NotifTest;

use strict;
use warnings FATAL => 'all';

# A condition that does not come true within this time has failed.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 60; }

use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(time);
use Exporter 'import';

our @EXPORT = qw(new_shop new_cluster new_sandbox define_shop one_value token people
  wait_true wait_idle wait_running wait_parked check_ledger balanced state_of no_crash
  fault_points fault wait_fault crashes);

use constant WORKERS => 7;

# ---- the sandbox -----------------------------------------------------------------

# A running sandbox: {dir, pid, apns, control}.  %opts: dir, args.
sub new_sandbox
{
	my (%opts) = @_;
	my $dir = $opts{dir} // PostgreSQL::Test::Utils::tempdir('sandbox');
	my $self = bless { dir => $dir }, 'NotifTest::Sandbox';

	$self->{args} = [ '--topic', 'com.example.shop', @{ $opts{args} // ['--log-bodies'] } ];
	$self->start;
	return $self;
}

package NotifTest::Sandbox;

use Test::More;
use Time::HiRes qw(time);
use POSIX qw(WNOHANG);

# Starts it on the ports it had before, or on free ones.
sub start
{
	my ($self) = @_;
	my $ports = "$self->{dir}/ports";
	my @where = ('--port', $self->{apns} // 0, '--control-port', $self->{control} // 0);
	my $deadline = time + 60;

	unlink $ports;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$self->{dir}/out";
		open STDERR, '>&', \*STDOUT;
		exec 'test/sandbox/notif-sandbox', '--dir', $self->{dir}, @where, @{ $self->{args} }
		  or POSIX::_exit(1);
	}
	while (!-e $ports)
	{
		die "sandbox did not start: " . PostgreSQL::Test::Utils::slurp_file("$self->{dir}/out")
		  if time > $deadline || waitpid($self->{pid}, WNOHANG) != 0;
		NotifTest::nap();
	}
	for (split /\n/, PostgreSQL::Test::Utils::slurp_file($ports))
	{
		$self->{$1} = $2 if /^(apns|control)=(\d+)$/;
	}
	return;
}

sub stop
{
	my ($self) = @_;

	return if !defined $self->{pid};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = undef;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;

	$self->stop;
	return;
}

# GET of the control port: the body; dies unless it is answered with 200.
sub get
{
	my ($self, $path) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{control}, Timeout => 10)
	  or die "sandbox control port: $!";

	print $socket "GET $path HTTP/1.0\r\nHost: localhost\r\n\r\n";
	local $/;
	my $answer = <$socket>;
	my ($head, $body) = split /\r\n\r\n/, $answer, 2;
	die "GET $path: $answer" if $head !~ m{^HTTP/1\.[01] 200};
	return $body;
}

sub fault { my ($self, $switches) = @_; return $self->get("/fault?$switches"); }

sub stats { my ($self) = @_; return JSON::PP::decode_json($self->get('/stats')); }

sub count { my ($self) = @_; return 0 + $self->get('/ledger/count'); }

# Lines of the ledger as hashes, those of one apns-id or all.
sub ledger
{
	my ($self, $id) = @_;
	my $text = defined $id ? $self->get("/ledger/find?apns_id=$id") : do
	{
		$self->count;			# what was answered is in the file
		PostgreSQL::Test::Utils::slurp_file("$self->{dir}/ledger.tsv");
	};
	my @lines;

	for my $line (split /\n/, $text)
	{
		my %l;

		@l{qw(time_us connection stream id token topic push_type collapse_id status bytes sha body)} = split /\t/, $line;
		push @lines, \%l;
	}
	return @lines;
}

sub refused
{
	my ($self) = @_;

	$self->count;
	return map { [ split /\t/ ] } split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{dir}/refused.tsv");
}

# Waits until the ledger has at least $n lines.
sub wait_count
{
	my ($self, $n) = @_;

	return NotifTest::wait_for(sub { return $self->count >= $n });
}

package NotifTest;

# A moment that other processes get, on a descriptor that never becomes ready:
# the grain of polling, never what a test relies on.
sub nap
{
	my ($read, $write);

	pipe($read, $write) or die "pipe: $!";
	my $bits = '';
	vec($bits, fileno($read), 1) = 1;
	select(my $ready = $bits, undef, undef, 0.02);
	return;
}

# Until $condition->() is true; false once the deadline has passed.  A psql that
# finds no server is gone before it could be handed its query: not true yet.
sub wait_for
{
	my ($condition, $seconds) = @_;
	my $deadline = time + ($seconds // $ENV{PG_TEST_TIMEOUT_DEFAULT});

	while (1)
	{
		my $true = eval { $condition->() };

		die $@ if $@ ne '' && $@ !~ /Broken pipe/;
		return 1 if $true;
		return 0 if time > $deadline;
		nap();
	}
}

# ---- the cluster -------------------------------------------------------------------

# An initialised cluster, not started.  %opts: conf, databases, init.
sub new_cluster
{
	my ($name, %opts) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $databases = $opts{databases} // 'shop';
	my $conf = $opts{conf} // '';

	$node->init(%{ $opts{init} // {} });
	$node->append_conf('postgresql.conf', <<"EOC");
shared_preload_libraries = 'notif'
notif.databases = '$databases'
max_worker_processes = 24
max_prepared_transactions = 10
notif.breaker_volume = 1000000	# what provokes failures in bursts is not about breakers
log_statement = none
log_line_prefix = '%m [%p] %b %e '
timezone = 'UTC'
$conf
EOC
	return $node;
}

# A started cluster with the extension in shop and a sandbox: ($node, $sandbox).
sub new_shop
{
	my ($name, %opts) = @_;
	my $sandbox = new_sandbox(%{ $opts{sandbox} // {} });
	my $node = new_cluster($name, %opts);

	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	define_shop($node, $sandbox);
	wait_running($node);
	return ($node, $sandbox);
}

# The objects that most tests use.  Retries are quick, so that tests are.
sub define_shop
{
	my ($node, $sandbox) = @_;

	$node->safe_psql('shop', <<"EOS");
CREATE EXTENSION IF NOT EXISTS notif;
SELECT notif.define_category('retry', retry_base => '100 ms', retry_cap => '300 ms', max_attempts => 20, rate_limited => false);
SELECT notif.define_category('few', retry_base => '100 ms', retry_cap => '100 ms', max_attempts => 3, rate_limited => false);
SELECT notif.define_category('hold', on_unknown => 'hold', retry_base => '100 ms', retry_cap => '300 ms', max_attempts => 20, rate_limited => false);
SELECT notif.define_type('note', 'retry', title => 'Note {n}', body => 'for {recipient.ref}');
SELECT notif.define_type('few', 'few', title => 'Few {n}');
SELECT notif.define_type('money', 'hold', title => 'Money {n}');
SELECT notif.define_type('code', 'hold', tier => 'critical', title => 'Code {n}');
SELECT notif.define_type('news', 'retry', tier => 'bulk', title => 'News {n}');
SELECT notif.define_provider('apple', 'apns', @{[ settings($sandbox) ]}, key => 'file:$sandbox->{dir}/apns_key.p8');
SELECT notif.define_route('push', 'push', ARRAY['apple']);
EOS
	return;
}

# Settings of the provider that reach the sandbox, as a literal of SQL.
sub settings
{
	my ($sandbox, %more) = @_;

	return "'" . encode_json({
			host => 'localhost', port => 0 + $sandbox->{apns}, ca_file => "$sandbox->{dir}/ca.pem",
			team_id => 'TEAM123456', key_id => 'KEY1234567', topic => 'com.example.shop', %more }) . "'";
}

sub one_value { my ($node, $sql) = @_; return $node->safe_psql('shop', $sql); }

# The token of device $n: 64 hex digits.
sub token { my ($n) = @_; return sprintf '%064x', $n; }

# Recipients p1 ... pN, each with one device.
sub people
{
	my ($node, $n) = @_;

	$node->safe_psql('shop', <<"EOS");
SELECT count(notif.upsert_recipient('p' || i)) FROM generate_series(1, $n) i;
SELECT count(notif.register_device('p' || i, 'd', 'ios', lpad(to_hex(i), 64, '0'))) FROM generate_series(1, $n) i;
ANALYZE notif_private.recipient; ANALYZE notif_private.endpoint;
EOS
	return;
}

# ---- conditions ------------------------------------------------------------------------

# Polls faster than poll_query_until, in one session.
sub wait_true
{
	my ($node, $sql, $seconds) = @_;
	my $ok = wait_for(sub { return $node->safe_psql('shop', $sql) eq 't' }, $seconds);

	diag("not true in time: $sql") if !$ok;
	return $ok;
}

# Until all workers of shop run.
sub wait_running
{
	my ($node, $n) = @_;
	$n //= WORKERS;

	my $ok = wait_for(sub {
			my ($rc, $out) = $node->psql('shop',
				qq{SELECT count(*) = $n FROM notif_private.worker_status()
				   WHERE database = 'shop' AND state = 'running' AND pid IS NOT NULL});
			return $rc == 0 && $out eq 't' });
	diag("not all workers of shop run") if !$ok;
	return $ok;
}

# Until every committed publish is routed and every delivery has ended.
sub wait_idle
{
	my ($node, $seconds) = @_;
	my $ok = wait_for(sub {
			my ($rc, $out) = $node->psql('shop', <<'EOS');
SELECT NOT EXISTS (SELECT FROM notif_private.lag_critical WHERE reader = 'router')
   AND NOT EXISTS (SELECT FROM notif_private.lag_standard WHERE reader = 'router')
   AND NOT EXISTS (SELECT FROM notif_private.lag_bulk WHERE reader = 'router')
   AND NOT EXISTS (SELECT FROM notif_private.worker_expansions_critical())
   AND NOT EXISTS (SELECT FROM notif_private.worker_expansions_standard())
   AND NOT EXISTS (SELECT FROM notif_private.worker_expansions_bulk())
   AND (SELECT coalesce(sum(n), 0) = 0 FROM notif_private.tally WHERE state IN ('open', 'in_flight'))
EOS
			return $rc == 0 && $out eq 't' }, $seconds);

	diag($node->safe_psql('shop', 'SELECT * FROM notif.state WHERE n <> 0; SELECT * FROM notif.queue; SELECT * FROM notif.workers')) if !$ok;
	return $ok;
}

# Until a dispatcher says that the lane of a tier is parked, for this reason.
sub wait_parked
{
	my ($node, $why, $tier) = @_;
	$tier //= 'standard';

	my $ok = wait_for(sub {
			return $node->safe_psql('shop',
				qq{SELECT coalesce(bool_or(last_error ~ '$why'), false) FROM notif_private.lanes_here() WHERE tier = '$tier'}) eq 't' });
	diag($node->safe_psql('shop', 'SELECT * FROM notif_private.lanes_here()')) if !$ok;
	return $ok;
}

# ---- fault points (src/fault.h) ----------------------------------------------------------

# Declares the functions of the library's fault points, which are no part of the
# extension.
sub fault_points
{
	my ($node, $db) = @_;

	$node->safe_psql($db // 'shop', <<'EOS');
CREATE SCHEMA notif_fault;
CREATE FUNCTION notif_fault.set(name text, action text, nth integer DEFAULT 1, times integer DEFAULT 1,
	kind text DEFAULT NULL, tier text DEFAULT NULL) RETURNS void LANGUAGE c AS '$libdir/notif', 'notif_fault_set';
CREATE FUNCTION notif_fault.reset() RETURNS void LANGUAGE c AS '$libdir/notif', 'notif_fault_reset';
CREATE FUNCTION notif_fault.passed(name text, OUT passed bigint, OUT fired bigint, OUT waiting bigint)
	LANGUAGE c STRICT AS '$libdir/notif', 'notif_fault_passed';
CREATE FUNCTION notif_fault.key(name text) RETURNS integer LANGUAGE c STRICT AS '$libdir/notif', 'notif_fault_key';
CREATE FUNCTION notif_fault.hold(name text) RETURNS void LANGUAGE sql
	AS 'SELECT pg_advisory_lock(1852206196, notif_fault.key(name))';
CREATE FUNCTION notif_fault.release(name text) RETURNS boolean LANGUAGE sql
	AS 'SELECT pg_advisory_unlock(1852206196, notif_fault.key(name))';
EOS
	return;
}

# fault($node, 'K3', 'die', tier => 'bulk'); %opts: nth, times, kind, tier.
sub fault
{
	my ($node, $name, $action, %opts) = @_;
	my $more = join '', map { ", $_ => '$opts{$_}'" } sort keys %opts;

	$node->safe_psql('shop', "SELECT notif_fault.set('$name', '$action'$more)");
	return;
}

# Until the point has acted so often.
sub wait_fault
{
	my ($node, $name, $times) = @_;
	$times //= 1;

	return wait_true($node, "SELECT fired >= $times FROM notif_fault.passed('$name')");
}

# How often a process of the server was killed.
sub crashes
{
	my ($node) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /was terminated by signal 9/g);
}

# ---- verdicts ------------------------------------------------------------------------

# The tally's equation, for each tier, and against the rows.
sub balanced
{
	my ($node, $name) = @_;

	is( $node->safe_psql('shop', q{SELECT * FROM notif.health() WHERE check_name = 'ledger' AND NOT ok}),
		'', "$name: the tally is balanced");
	is($node->safe_psql('shop', q{SELECT * FROM notif.audit() WHERE NOT agrees}), '', "$name: a recount agrees");
	return;
}

# Attempts that wait in the queues of a tier or are in a flight without an outcome.
sub waiting
{
	my ($tier) = @_;

	return <<"EOS";
SELECT o.delivery, o.event, o.type_id FROM notif_private.outbox_$tier o
LEFT JOIN (SELECT DISTINCT ON (c.lane) c.* FROM notif_private.cursor_$tier c WHERE c.role = 2 ORDER BY c.lane, c.seq DESC) c USING (lane)
WHERE o.incarnation = notif_private.current_incarnation()
  AND NOT notif_private.passed(o.xid, o.ord, c.s_from, c.s_to, c.xid, c.place)
UNION ALL
SELECT s.delivery, s.event, s.type_id FROM notif_private.schedule_$tier s
LEFT JOIN (SELECT DISTINCT ON (c.lane) c.* FROM notif_private.cursor_$tier c WHERE c.role = 3 ORDER BY c.lane, c.seq DESC) c USING (lane)
WHERE NOT notif_private.passed(s.due_at, s.ord, s.delivery, c.due, c.place, c.id)
UNION ALL
SELECT a.delivery, a.event, a.type_id FROM notif_private.flight_$tier f CROSS JOIN LATERAL unnest(f.attempts) a
WHERE NOT f.closed
  AND NOT EXISTS (SELECT FROM notif_private.flight_$tier c WHERE c.worker = f.worker AND c.flight = f.flight AND c.closed)
  AND NOT EXISTS (SELECT FROM notif_private.outcome o WHERE o.delivery = a.delivery AND o.attempt = a.attempt)
EOS
}

# Every delivery there is, decided or not.  An attempt is unknown if bytes left
# and no answer came: whatever it led to.
my $waiting = join "UNION ALL\n", map { waiting($_) } qw(critical standard bulk);
my $export = <<"EOS";
SELECT d.delivery, CASE WHEN w.delivery IS NOT NULL THEN 'open' ELSE d.state END, d.unknown, c.on_unknown, d.event
FROM (SELECT x.delivery, (array_agg(x.state ORDER BY x.attempt DESC))[1] AS state, sum(x.unknown) AS unknown,
			 (array_agg(x.event))[1] AS event, (array_agg(x.type_id))[1] AS type_id
	  FROM (SELECT o.delivery, o.attempt, o.state::text, o.event, o.type_id,
				   coalesce(o.state IN ('unknown', 'held') OR o.reason = 'worker_lost'
					OR (o.state = 'failed' AND o.status IS NULL AND o.reason LIKE 'retries_exhausted:%')
					OR (o.state = 'expired' AND o.status IS NULL AND o.flight IS NOT NULL), false)::integer AS unknown
			FROM notif_private.outcome o WHERE o.endpoint IS NOT NULL
			UNION ALL
			SELECT q.delivery, 0, 'open', q.event, q.type_id, 0 FROM waiting q) x
	  GROUP BY x.delivery) d
JOIN notif_private.type t ON t.id = d.type_id
JOIN notif_private.category c ON c.name = t.category
LEFT JOIN (SELECT DISTINCT delivery FROM waiting) w ON w.delivery = d.delivery
EOS
my $events = q{SELECT e.id, count(o.delivery) FROM notif_private.event e
LEFT JOIN notif_private.outcome o ON o.event = e.id AND o.endpoint IS NULL WHERE e.kind = 0 GROUP BY e.id};

# Runs the checker: (whether it was content, {attempted => ..., lost => ...}).
# Of several sandboxes (an array) the ledgers count together.
sub check_ledger
{
	my ($node, $sandbox, $producer) = @_;
	my @sandboxes = ref $sandbox eq 'ARRAY' ? @$sandbox : ($sandbox);
	my @files = map { "$sandboxes[0]{dir}/$_" } qw(deliveries events);

	$_->count for @sandboxes;
	# one snapshot for both
	my $text = $node->safe_psql('shop', "BEGIN ISOLATION LEVEL REPEATABLE READ;\n"
		  . "COPY (WITH waiting AS MATERIALIZED ($waiting) $export) TO STDOUT;\n\\echo ==\nCOPY ($events) TO STDOUT;\nCOMMIT");
	my @texts = split /^==$/m, $text;
	for my $i (0, 1)
	{
		$texts[$i] =~ s/\A\n+|\n+\z//g;
		open my $out, '>', $files[$i] or die "$files[$i]: $!";
		print $out $texts[$i], $texts[$i] ne '' ? "\n" : '';
		close $out;
	}
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run([ 'python3', 'test/sandbox/check_ledger.py', join(':', map { "$_->{dir}/ledger.tsv" } @sandboxes), $files[0], '--events', $files[1],
			defined $producer ? ('--producer', $producer) : () ], '>', \$stdout, '2>', \$stderr);
	my %totals = $stdout =~ /(\w+) (\d+)/g;

	note($stdout);
	diag($stderr) if !$ok;
	return ($ok, \%totals);
}

# 'accepted 2, failed 1': the newest outcomes of an event's deliveries.
sub state_of
{
	my ($node, $event) = @_;

	return $node->safe_psql('shop', qq{
		SELECT string_agg(x.state || ' ' || x.n, ', ' ORDER BY x.state::text)
		FROM (SELECT state, count(*) AS n FROM notif.deliveries WHERE event = '$event' GROUP BY state) x});
}

# The log must show no crash and no ERROR of a worker that the test did not provoke.
sub no_crash
{
	my ($node, $name, $except) = @_;
	my @bad = grep { /PANIC|was terminated by signal|TRAP:|exited with exit code [^01]|notif \w+ (?:\w+ )?(?:ERROR|FATAL)/
		  || / notif .* ERROR:/ } split /\n/, slurp_file($node->logfile);

	# what PostgreSQL says of a worker that is told to end before it has connected
	@bad = grep { !/57P01 FATAL:  terminating background worker/ } @bad;
	@bad = grep { $_ !~ $except } @bad if defined $except;
	is(join("\n", @bad), '', $name);
	return;
}

1;
