# Random deaths under load.  Producers publish all categories in transactions of
# their own, some rolled back, and note what was acknowledged; the provider delays,
# refuses, cuts and falls silent; workers and the server die in every way there is.
# At the end the checker compares producers, database and provider.
package NotifChaos;

use strict;
use warnings FATAL => 'all';

use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

# so many that what a death leaves is spread thinly: a device gets one at a time
use constant PEOPLE => 3000;

# %opts: name, wild => 1 for a provider that misbehaves, too.
sub new
{
	my ($class, %opts) = @_;
	my ($node, $sandbox) = new_shop($opts{name}, conf => <<'EOC', sandbox => { args => [ '--topic', 'com.example.shop', '--ledger-fsync' ] });
restart_after_crash = on
fsync = on
EOC
	my $self = bless { node => $node, sandbox => $sandbox, wild => $opts{wild}, rounds => {}, slowest => 0 }, $class;

	people($node, PEOPLE);
	# a second or three of it for each of a few people are told as one
	one_value($node, q{
		SELECT notif.define_type('chat', 'retry', title => 'Chat {n}');
		SELECT notif.define_digest('chat', wait => '1 s', max_delay => '3 s', key => 'type', title => '{count} chats', body => '{items.0.n}')});
	fault_points($node);
	$node->safe_psql('postgres', 'ALTER ROLE notif_worker SET notif.fault_while_connecting = on');
	# answers take a while, so that something is always in the air
	$sandbox->fault('delay_ms=15');
	$self->{log} = "$sandbox->{dir}/producer";
	$self->{producers} = [ map { $self->start_producer($_) } 0 .. 4 ];
	return $self;
}

# A producer is a program of its own: one transaction after the other.  psql
# prints an event's id only when its COMMIT has returned; it ends with the server
# and is started again.
sub start_producer
{
	my ($self, $n) = @_;
	my $type = ('note', 'money', 'code', 'news', 'chat')[$n];
	my $many = $type eq 'code' ? 2 : 20;
	my $load = "$self->{log}.$n.sql";
	my $people = $type eq 'chat' ? PEOPLE / 10 : PEOPLE;
	my $publish = "SELECT notif.publish('$type', 'p' || (1 + (random() * @{[ $people - 1 ]})::integer), jsonb_build_object('n', i)) FROM generate_series(1, $many) i";

	# what is rolled back prints nothing and must never arrive
	append_to_file($load, ("$publish;\n" x 9 . "BEGIN; SELECT count(x) FROM ($publish) x(x); ROLLBACK;\n") x 2);
	my $test = $$;
	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	# ends with the test, too, however that ends
	exec 'sh', '-c', 'while [ ! -e "$1.stop" ] && kill -0 "$4"; do psql -XAtq -v ON_ERROR_STOP=1 -d "$2" -f "$3" >>"$3.out" 2>/dev/null; done',
	  'producer', $self->{log}, $self->{node}->connstr('shop'), $load, $test
	  or POSIX::_exit(1);
}

# Pids of what runs of a kind.
sub pids
{
	my ($self, $kind) = @_;

	return split /\n/, one_value($self->{node},
		qq{SELECT pid FROM notif_private.worker_status() WHERE kind = '$kind' AND state = 'running' AND pid IS NOT NULL});
}

sub one_of { return $_[ rand @_ ]; }

sub kill_one
{
	my ($self, @pids) = @_;

	kill 'KILL', one_of(@pids) if @pids;
	return;
}

# A point of a random tier does something at one of its next passages, which come
# by themselves under load.
sub at_point
{
	my ($self, $action, $times) = @_;
	my $point = 'K' . (1 + int rand 7);

	fault($self->{node}, $point, $action, nth => 1 + int rand 6, times => $times, tier => one_of(qw(critical standard bulk)));
	return $point;
}

# How things die.  Each returns when it is done; the server may still be down.
my %ways = (
	'stop immediate' => sub { my ($self) = @_; $self->{node}->stop('immediate'); $self->{node}->start; },
	'kill router' => sub { my ($self) = @_; $self->kill_one($self->pids('router')); },
	'kill dispatcher' => sub { my ($self) = @_; $self->kill_one($self->pids('dispatcher')); },
	'kill upkeep' => sub { my ($self) = @_; $self->kill_one($self->pids('upkeep')); },
	'kill launcher' => sub {
		my ($self) = @_;

		$self->kill_one(split /\n/, one_value($self->{node}, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'notif launcher'}));
	},
	'kill producer session' => sub {
		my ($self) = @_;

		$self->kill_one(split /\n/, one_value($self->{node},
			q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()}));
	},
	'die at a point' => sub {
		my ($self) = @_;
		my $crashes = crashes($self->{node});
		my $point = $self->at_point('die', 1);

		ok(NotifTest::wait_for(sub { return crashes($self->{node}) > $crashes }), "died at $point");
	},
	'error at a point' => sub {
		my ($self) = @_;
		my $pids = join ' ', sort map { $self->pids($_) } qw(router dispatcher);
		my $point = $self->at_point('error', 1 + int rand 2);

		ok(wait_fault($self->{node}, $point), "error at $point");
		is(join(' ', sort map { $self->pids($_) } qw(router dispatcher)), $pids, 'every process goes on');
		one_value($self->{node}, 'SELECT notif_fault.reset()');
	},
	'restart one worker' => sub {
		my ($self) = @_;

		kill 'TERM', one_of(map { $self->pids($_) } qw(router dispatcher));
	},
	'kill postmaster' => sub {
		my ($self) = @_;
		my ($node, $sandbox) = @$self{qw(node sandbox)};
		my @workers = map { $self->pids($_) } qw(dispatcher router upkeep);

		my $death = time;
		$node->kill9;
		# what is left of it ends by itself, without sending more
		ok(NotifTest::wait_for(sub { return !grep { kill 0, $_ } @workers }, 10), 'F-P-8: workers end with the postmaster');
		my $late = $sandbox->count;
		is(scalar(grep { $_->{time_us} > ($death + 1) * 1e6 } $sandbox->ledger), 0, 'F-P-8: nothing was sent a second after its death');
		# start waits for what holds shared memory
		ok(NotifTest::wait_for(sub { return eval { $node->start; 1 } }), 'F-P-8: the next one starts');
	},
	'stop fast' => sub {
		my ($self) = @_;
		my $doubts = q{SELECT count(*) FROM notif_private.outcome WHERE reason = 'worker_lost'};
		my ($node, $sandbox) = @$self{qw(node sandbox)};

		# hundreds in the air, which are answered within the grace
		$sandbox->fault('clear');
		$sandbox->fault('delay_ms=400');
		ok(wait_true($node, q{SELECT sum(n) >= 200 FROM notif.state WHERE state = 'in_flight'}), 'F-P-6: hundreds are in the air');
		my $before = one_value($node, $doubts);
		my $from = time;
		$node->stop('fast');
		cmp_ok(time - $from, '<', 10, 'F-P-6: a fast stop is one');
		$node->start;
		wait_running($node);
		is(one_value($node, $doubts), $before, 'F-P-6: an orderly stop leaves nothing in doubt');
	});

# What the provider does meanwhile.
my @moods = (
	'delay_ms=15', 'delay_ms=15', 'delay_ms=100', 'delay_ms=15&status=503&reason=ServiceUnavailable&count=50',
	'delay_ms=15&fraction=30&hang=on', 'delay_ms=15&cut_after_data=3', 'delay_ms=15&goaway=last_stream:minus:5,count:2',
	'delay_ms=15&rst=INTERNAL_ERROR,20', 'delay_ms=15&refused_stream=50', 'delay_ms=15&status=410&reason=Unregistered&count=3',
	'delay_ms=15&status=429&reason=TooManyRequests&count=20');

sub ways { return sort keys %ways; }

# One death, and life after it.
sub round
{
	my ($self, $number, $way) = @_;
	my ($node, $sandbox) = @$self{qw(node sandbox)};
	my $name = "round $number: $way";
	my $sent = $sandbox->count;

	if ($self->{wild})
	{
		my $mood = one_of(@moods);

		$name .= ", $mood";
		$sandbox->fault('clear');
		$sandbox->fault($mood);
	}
	ok($sandbox->wait_count($sent + 50 + int rand 400), "$name: under load");
	$ways{$way}->($self);
	$sandbox->fault('clear');
	$sandbox->fault('delay_ms=15');
	ok(NotifTest::wait_for(sub { my ($rc) = $node->psql('shop', 'SELECT 1'); return $rc == 0 }), "$name: the server is there");
	ok(wait_running($node), "$name: so are all workers");
	my $back = time;
	$sent = $sandbox->count;
	ok($sandbox->wait_count($sent + 50), "$name: deliveries go on");
	my $took = time - $back;
	$self->{slowest} = $took if $took > $self->{slowest};
	cmp_ok($took, '<', 15, "$name: soon");
	# a death during a start is followed by a pause: that comes, but not each time
	ok(wait_true($node, q{SELECT max(crashes) = 0 FROM notif_private.worker_status()}), "$name: all have settled") if rand() < 0.8;
	return;
}

# Stops the producers, lets everything end and has it checked.
sub finish
{
	my ($self) = @_;
	my ($node, $sandbox) = @$self{qw(node sandbox)};

	append_to_file("$self->{log}.stop", '');
	waitpid $_, 0 for @{ $self->{producers} };
	one_value($node, 'SELECT notif_fault.reset()');
	$sandbox->fault('clear');
	ok(wait_idle($node, 180), 'all is routed');
	ok(wait_true($node, 'SELECT count(*) = 0 FROM notif_private.digest'), 'all digests are told');
	ok(wait_idle($node, 180), 'all deliveries end');

	my $acked = join '', map { slurp_file("$self->{log}.$_.sql.out") } 0 .. 4;
	append_to_file($self->{log}, join '', map { "$_\n" } $acked =~ /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/mg);
	my ($ok, $totals) = check_ledger($node, $sandbox, $self->{log});
	ok($ok, 'the checker is content');
	cmp_ok($totals->{acknowledged}, '>', 500, 'after enough events');
	is($totals->{lost}, 0, 'nothing was lost');
	is($totals->{unexpected}, 0, 'nothing unexpected was sent');
	cmp_ok($totals->{duplicated}, '<=', $totals->{unknown}, 'twice only where nobody knew');
	balanced($node, 'after all crashes');
	is( one_value($node, q{SELECT count(*) FROM (SELECT FROM notif_private.outcome WHERE terminal AND endpoint IS NOT NULL GROUP BY delivery HAVING count(*) > 1) x}),
		'0', 'every delivery has one terminal outcome');
	is( one_value($node, q{SELECT count(*) FROM notif_private.event e WHERE e.digest IS NULL AND NOT EXISTS (SELECT FROM notif_private.inbox i WHERE i.event = e.id)}),
		'0', 'every event reached an inbox');
	is( one_value($node, q{
			SELECT count(*), count(DISTINCT (i.event, i.recipient)) - count(*), count(*) FILTER (WHERE i.told_by IS NULL),
				   (SELECT count(*) FROM notif_private.outcome WHERE state = 'merged') - count(*),
				   (SELECT count(*) FROM notif_private.event e JOIN notif_private.type t ON t.id = e.type_id
					 WHERE t.name = 'chat' AND e.digest IS NULL) - count(*) FROM notif.digest_items i}) =~ s/^[1-9]\d*\|//r,
		'0|0|0|0', 'what batches is in one digest each, and each was told');
	is(one_value($node, 'SELECT count(*) FROM notif.digest_log WHERE told <> count OR reason IS NOT NULL'), '0', 'with all that it had');
	is( one_value($node, q{SELECT count(*) FROM (SELECT event, recipient FROM notif_private.inbox GROUP BY 1, 2 HAVING count(*) > 1) x}),
		'0', 'and each but once');
	my @bad = grep { /PANIC|TRAP:|signal (?!9:|3:)\d+:/ } split /\n/, slurp_file($node->logfile);
	is("@bad", '', 'no process crashed by itself');
	my @errors = grep { /notif \w+ (?!XX000|57P0)\w{5} (?:ERROR|FATAL)/ } split /\n/, slurp_file($node->logfile);
	is("@errors", '', 'no worker met an error that was not provoked');
	$node->stop;
	return $totals;
}

1;
