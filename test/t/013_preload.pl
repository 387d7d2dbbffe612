# F-P-16: without shared_preload_libraries (P19) publishing works and the rest says what
# is missing; in binary upgrade mode there is nothing of notif at all (P18).
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('preload', databases => 'postgres');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->start;

$node->safe_psql('postgres', 'CREATE EXTENSION notif');
ok(1, 'CREATE EXTENSION works without preload');

for my $call ('notif_private.worker_status()', 'notif_private.lane_status()', 'notif_private.shift_clock(1)')
{
	my ($rc, $out, $err) = $node->psql('postgres', "SELECT * FROM $call", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/55000: notif is not in shared_preload_libraries.*HINT:  Add notif to shared_preload_libraries/s, "$call says what is missing");
}
is($node->safe_psql('postgres', 'SELECT notif_private.watched_promotion()'), 'f', 'no launcher has watched anything');
like($node->safe_psql('postgres', 'SELECT notif_private.identity()'), qr/^\d+:[0-9a-f-]+:\d+:\d+:\d+:\d+$/, 'the identity needs no shared memory');
is($node->safe_psql('postgres', 'SELECT notif_private.clock_offset()'), '0', 'the clock is the real one');

$node->safe_psql('postgres', q{
	SELECT notif.define_category('news');
	SELECT notif.define_type('news.flash', 'news', channels => '{inbox}', title => 'News');
	SELECT notif.upsert_recipient('ann');
});
like($node->safe_psql('postgres', q{SELECT notif.publish('news.flash', recipient => 'ann')}),
	qr/^[0-9a-f]{8}-[0-9a-f]{4}-7/, 'F-P-16: publish works without preload');
is($node->safe_psql('postgres', 'SELECT count(*) FROM notif_private.event'), '1', 'and its row is there');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}),
	'0', 'F-P-16: no worker runs');
$node->stop;
no_surprises($node, 'no unexpected message');

# With preload, what was published before is found by the first scan (P21).
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'notif'");
$node->start;
ok(wait_for_workers($node, 'postgres'), 'with preload the workers come up');
ok( $node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM notif_private.inbox'),
	'and deliver what was published without them');
$node->stop;

# A server in binary upgrade mode, as pg_upgrade starts it.
command_ok([ 'pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', '-w', 'start' ],
	'start in binary upgrade mode');
my ($rc, $out, $err) = $node->psql('postgres', 'SHOW notif.dispatch');
isnt($rc, 0, 'F-P-16: not even the settings exist in binary upgrade mode');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}),
	'0', 'and no worker');
command_ok([ 'pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-w', 'stop' ], 'stop');

done_testing();
