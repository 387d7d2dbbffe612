# F-P-13: the extension is dropped and created again and again under load.  Workers
# leave the old one, adopt the new one, and send nothing of what was dropped.
#
# ROUNDS: how often (10).
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{ROUNDS} // 10;
my ($node, $sandbox) = new_shop('reinstall');
my (@adopted, $sent);

for my $round (1 .. $rounds)
{
	my $name = "F-P-13, round $round";

	people($node, 50);
	$sandbox->fault('clear');
	$sandbox->fault('delay_ms=20');
	my $before = $sandbox->count;
	one_value($node, q{SELECT count(notif.publish(t, 'p' || i, '{"n": 1}')) FROM generate_series(1, 50) i, generate_series(1, 8), unnest('{note,money,news}'::text[]) t});
	ok($sandbox->wait_count($before + 1 + int rand 100), "$name: under load") if $round == 1 || $round == $rounds;
	$node->safe_psql('shop', 'DROP EXTENSION notif CASCADE; DROP SCHEMA IF EXISTS notif, notif_private CASCADE');
	# what is on the wire arrives, and nothing else leaves
	ok( NotifTest::wait_for(sub { return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND backend_type ~ '^notif (router|dispatcher)'}) == 0 }),
		"$name: workers leave");
	$sent = $sandbox->count;
	my $from = time;
	$node->safe_psql('shop', 'CREATE EXTENSION notif');
	my $created = time;
	wait_running($node);
	push @adopted, time - $created;
	is($sandbox->count, $sent, "$name: nothing of what was dropped is sent");
	define_shop($node, $sandbox);
}
@adopted = sort { $a <=> $b } @adopted;
cmp_ok($adopted[ @adopted / 2 ], '<', 1, sprintf 'F-P-13: a new extension is adopted after %.2f s', $adopted[ @adopted / 2 ]);
people($node, 50);
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(1, 50) i});
ok(wait_idle($node), 'F-P-13: all deliveries of the last one end');
is($sandbox->count, $sent + 50, 'F-P-13: and nothing else is sent');
is(one_value($node, q{SELECT count(*) FROM notif.workers WHERE state = 'running'}), NotifTest::WORKERS, 'F-P-13: all workers run');
my $log = slurp_file($node->logfile);
my $errors = () = $log =~ /notif (?:router|dispatcher|upkeep|probe)[^\n]* (?:ERROR|FATAL):/g;
cmp_ok($errors, '<=', $rounds, "F-P-13: no storm of errors ($errors)");
unlike($log, qr/PANIC|terminated by signal|exited with exit code [^01]/, 'F-P-13: no crash');
balanced($node, 'F-P-13');
$node->stop;
done_testing();
