# F-P-9: a loss of power, as far as a server can be made to meet one: commits that
# nobody has flushed are gone.  With synchronous_commit = off a publish may vanish
# with the business transaction it was part of; what was sent must not.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# nothing is flushed unless somebody asks for it
my ($node, $sandbox) = new_shop('async', conf => <<'EOC');
fsync = on
synchronous_commit = off
wal_writer_delay = 10s
wal_writer_flush_after = 0
checkpoint_timeout = 1h
EOC

people($node, 60);
$node->safe_psql('postgres', q{ALTER ROLE notif_worker SET synchronous_commit = off; ALTER DATABASE shop SET synchronous_commit = off});
# A connection takes one request at a time until the first is accepted.
sub warm
{
	one_value($node, q{SELECT notif.publish('note', 'p60', '{"n": 0}')});
	ok(wait_idle($node), 'warm');
	return;
}

sub die_and_return
{
	my ($name) = @_;

	$node->stop('immediate');
	$sandbox->fault('clear');
	$node->start;
	ok(wait_running($node), "$name: back");
	ok(wait_idle($node), "$name: all deliveries end");
	balanced($node, $name);
	return;
}

# Taken to the wire: the claim has flushed itself and all that it rests on.
for my $type (qw(money note))
{
	my $name = "F-P-9, $type in flight";
	warm();
	my $before = $sandbox->count;
	$sandbox->fault('hang=on');
	one_value($node, qq{SELECT count(notif.publish('$type', 'p' || i, '{"n": 1}')) FROM generate_series(1, 20) i});
	ok($sandbox->wait_count($before + 20), "$name: all are with the provider");
	die_and_return($name);
	is( one_value($node, qq{SELECT string_agg(s || ' ' || n, ', ') FROM (SELECT o.state AS s, count(*) AS n FROM notif_private.outcome o
			JOIN notif_private.type t ON t.id = o.type_id JOIN notif_private.event e ON e.id = o.event
			WHERE t.name = '$type' AND o.terminal AND e.data = '{"n": 1}' GROUP BY 1) x}),
		$type eq 'money' ? 'held 20' : 'accepted 20', "$name: their flight was there");
	is($sandbox->count - $before, $type eq 'money' ? 20 : 40, "$name: each was sent as often as its category says");
}

# Answered: the record of what must not be sent twice has flushed itself.
my $before = $sandbox->count;
one_value($node, q{SELECT count(notif.publish('money', 'p' || i, '{"n": 2}')) FROM generate_series(1, 20) i});
ok(wait_idle($node), 'F-P-9, recorded: all are accepted');
die_and_return('F-P-9, recorded');
is( one_value($node, q{SELECT count(*) FROM notif_private.outcome o JOIN notif_private.event e ON e.id = o.event WHERE e.data = '{"n": 2}' AND o.state = 'accepted'}),
	20, 'F-P-9, recorded: and stay so');
is($sandbox->count, $before + 20, 'F-P-9, recorded: each was sent once');

# Not yet taken up: gone with its transaction, whole and without a trace.
one_value($node, q{SET synchronous_commit = on; SELECT notif.pause('tier', 'standard'); CREATE TABLE orders (id integer PRIMARY KEY)});
$before = $sandbox->count;
# those who write and flush by themselves are kept from it
my @writers = split /\n/, one_value($node, q{SELECT pid FROM pg_stat_activity WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')});
kill 'STOP', @writers;
one_value($node, q{BEGIN; INSERT INTO orders SELECT generate_series(1, 20); SELECT notif.publish('money', 'p' || i, '{"n": 3}') FROM generate_series(1, 20) i; COMMIT});
is(one_value($node, 'SELECT count(*) FROM orders'), 20, 'F-P-9, not flushed: 20 orders were acknowledged');
$node->stop('immediate');
$node->start;
ok(wait_running($node), 'F-P-9, not flushed: back');
my $orders = one_value($node, 'SELECT count(*) FROM orders');
is( one_value($node, q{SELECT count(*) FROM notif_private.event WHERE data = '{"n": 3}'}), $orders,
	'F-P-9, not flushed: events and orders went together');
is($orders, 0, 'F-P-9, not flushed: they did go');
one_value($node, q{SELECT notif.resume('tier', 'standard')});
ok(wait_idle($node), 'F-P-9, not flushed: nothing is left to do');
is($sandbox->count, $before, 'F-P-9, not flushed: nothing of it was sent');

# With synchronous_commit = on nothing goes.
one_value($node, q{SET synchronous_commit = on; SELECT notif.pause('tier', 'standard'); SELECT count(notif.publish('money', 'p' || i, '{"n": 4}')) FROM generate_series(1, 20) i});
$node->stop('immediate');
$node->start;
one_value($node, q{SELECT notif.resume('tier', 'standard')});
ok(wait_idle($node), 'F-P-9, flushed: all deliveries end');
is($sandbox->count, $before + 20, 'F-P-9, flushed: each was sent');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-P-9: the checker is content');
is("$totals->{lost} $totals->{unexpected} $totals->{held} $totals->{duplicated}", '0 0 20 20', 'F-P-9: twice only the notes that were in doubt');
balanced($node, 'at the end');
no_crash($node, 'a clean log', qr/57P0/);
$node->stop;
done_testing();
