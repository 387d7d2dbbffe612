# Too few file descriptors (F-P-18) and too little memory (F-P-17) for a dispatcher
# that runs: it waits without spinning, burns no attempt, does not take the server
# down, and goes on once there is enough.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('limits');

people($node, 200);
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 0}')});
ok(wait_idle($node), 'warm');

sub worker { my ($column) = @_; return one_value($node, qq{SELECT $column FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'standard'}); }
my $pid = worker('pid');

sub limit { my ($what, $value) = @_; system_or_bail('prlimit', '--pid', $pid, "--$what=$value:"); return; }

# Seconds of processor time that the dispatcher has used; 0 once it has ended.
sub cpu
{
	my ($stat) = (eval { slurp_file("/proc/$pid/stat") } // '') =~ /\) (.*)/;

	return 0 if !defined $stat;
	my @field = split / /, $stat;

	return ($field[11] + $field[12]) / 100;
}

# For some seconds, what a condition costs: turns of the loop and processor time.
sub cost
{
	my $from = time;
	my ($turns, $used) = (worker('turns'), cpu());

	NotifTest::wait_for(sub { return time - $from > 3 }, 10);
	return ((worker('turns') - $turns) / (time - $from), (cpu() - $used) / (time - $from));
}

# ---- descriptors -----------------------------------------------------------------

# The connection is gone and cannot be replaced.
$sandbox->fault('accept=refuse');
$sandbox->fault('goaway=now');
one_value($node, q{SELECT notif.publish('note', 'p200', '{"n": 1}')});
ok(wait_true($node, q{SELECT coalesce(bool_or(last_error <> ''), false) FROM notif_private.lanes_here() WHERE tier = 'standard'}), 'F-P-18: it cannot connect');
# The server gives up files of tables for others, so the limit is below all of them.
limit('nofile', 3);
$sandbox->fault('accept=on');
$sandbox->fault('clear');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(1, 99) i});
# for a connection, or for the file of a table
ok( wait_true($node, q{SELECT (SELECT bool_or(last_error ~ 'open files|descriptors|name lookup') FROM notif_private.lanes_here() WHERE tier = 'standard')
		OR (SELECT last_error ~ '^53' FROM notif_private.worker_status() WHERE kind = 'dispatcher' AND tier = 'standard')}),
	'F-P-18: for want of descriptors');
note(one_value($node, q{SELECT last_error FROM notif_private.lanes_here() WHERE tier = 'standard'}));
# Definitions are read anew: the key's file cannot be opened, which is no new key.
one_value($node, q{SELECT notif.define_category('another')});
my ($turns, $used) = cost();
cmp_ok($turns, '<', 100, sprintf 'F-P-18: it does not spin (%.0f turns a second)', $turns);
cmp_ok($used, '<', 0.5, sprintf 'F-P-18: nor use up a processor (%.2f)', $used);
is(one_value($node, q{SELECT coalesce(max(tries), 0) FROM notif_private.outcome WHERE event IN (SELECT id FROM notif_private.event WHERE data = '{"n": 1}')}),
	0, 'F-P-18: no attempt is burnt');
limit('nofile', 1024);
ok(wait_idle($node, 25), 'F-P-18: with enough of them all deliveries end');
is(worker('pid'), $pid, 'F-P-18: in the same process');
is(one_value($node, q{SELECT count(*) FROM notif.deliveries WHERE state = 'accepted'}), 101, 'F-P-18: accepted');

# ---- memory ------------------------------------------------------------------------

# What it has now and a little more: large payloads do not fit.
my ($data) = slurp_file("/proc/$pid/status") =~ /VmData:\s+(\d+) kB/;
limit('data', ($data + 512) * 1024);
one_value($node, q{SELECT notif.define_type('long', 'retry', title => 'Long', body => '{recipient.ref}', push => '{"data": {"text": "{text}"}}')});
my $ids = one_value($node, q{SELECT count(notif.publish(t, 'p' || i, jsonb_build_object('n', 2, 'text', repeat('x', 3000))))
	FROM generate_series(1, 200) i, unnest('{long,money}'::text[]) t, generate_series(1, 10)});
ok(wait_true($node, q{SELECT sum(n) > 0 FROM notif.state WHERE tier = 'standard' AND state IN ('open', 'in_flight', 'accepted')}), 'F-P-17: a dispatcher with too little memory');
($turns, $used) = cost();
note(sprintf 'F-P-17: %.0f turns a second, %.2f of a processor; %s; %s', $turns, $used, worker('last_error'), one_value($node, 'SELECT state, n FROM notif.state WHERE n <> 0'));
# it may have ended: then another one, without the limit, has taken over
limit('data', 'unlimited') if kill 0, $pid;
ok(wait_idle($node, 120), 'F-P-17: with enough of it all deliveries end');
my $log = slurp_file($node->logfile);
unlike($log, qr/terminated by signal|exited with exit code [^01]|PANIC/, 'F-P-17: the server has not noticed');
is(one_value($node, q{SELECT string_agg(DISTINCT state::text, ' ') FROM notif.deliveries}), 'accepted', 'F-P-17: accepted');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{duplicated}, 0, 'nothing was sent twice');
balanced($node, 'at the end');
$node->stop;
done_testing();
