# Upkeep takes an old partition away without ever locking its parent: empties
# it, detaches it concurrently through a top-level portal, drops the shell; and
# finishes a detach that a reader has held up.
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('detach');
$node->start;
create_database($node, 'shop');
$node->safe_psql('shop', q{
	SELECT notif.define_category('news');
	SELECT notif.define_type('flash', 'news', channels => '{inbox}', title => 'News');
	SELECT notif.upsert_recipient('ann');
});

# A day long gone, as upkeep would have made it then.
sub old_day
{
	my ($day, $name) = @_;

	$node->safe_psql('shop', qq{
		SELECT notif_private.attach_range('event', '$name', notif_private.uuid_at('$day')::text,
			notif_private.uuid_at('$day'::timestamptz + '1 day')::text,
			ARRAY['ALTER TABLE notif_private.%1\$I ADD PRIMARY KEY (id)'])});
	return;
}

old_day('2020-01-01 00:00+00', 'event_20200101');
$node->reload;
ok($node->poll_query_until('shop', q{SELECT to_regclass('notif_private.event_20200101') IS NULL}),
	'a partition past its retention goes');
is($node->safe_psql('shop', q{SELECT last_error FROM notif_private.worker_status() WHERE kind = 'upkeep'}),
	'', 'without an error');

# A reader that keeps a lock on the parent holds the detach up, and nothing else.
my $reader = $node->background_psql('shop');
$reader->query_safe('BEGIN; SELECT count(*) FROM notif_private.event');
old_day('2020-01-02 00:00+00', 'event_20200102');
$node->reload;
ok( $node->poll_query_until('shop',
		q{SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass('notif_private.event_20200102')}),
	'behind a reader the detach stays pending');
ok( $node->poll_query_until('shop',
		q{SELECT last_error LIKE '55P03:%' FROM notif_private.worker_status() WHERE kind = 'upkeep'}),
	'upkeep gives up waiting after its lock_timeout');
$node->safe_psql('shop', q{SET lock_timeout = '500ms'; SELECT notif.publish('flash', recipient => 'ann')});
ok(1, 'a publish does not wait behind it');
ok($node->poll_query_until('shop', 'SELECT count(*) = 1 FROM notif_private.inbox'), 'and is delivered');
$reader->query_safe('COMMIT');
$reader->quit;
ok($node->poll_query_until('shop', q{SELECT to_regclass('notif_private.event_20200102') IS NULL}),
	'when the reader has ended, the detach is finished');
is($node->safe_psql('shop', 'SELECT count(*) FROM pg_inherits WHERE inhdetachpending'), '0', 'nothing is left pending');
is( $node->safe_psql('shop', q{SELECT current_user, usename FROM pg_stat_activity WHERE backend_type = 'notif upkeep'}),
	'postgres|notif_worker', 'upkeep is itself again');

# What an earlier life has left half done is finished at the start.
old_day('2020-01-03 00:00+00', 'event_20200103');
$reader = $node->background_psql('shop');
$reader->query_safe('BEGIN; SELECT count(*) FROM notif_private.event');
my ($rc, $out, $err) = $node->psql('shop', "SET lock_timeout = '10ms';\n"
	  . 'ALTER TABLE notif_private.event DETACH PARTITION notif_private.event_20200103 CONCURRENTLY');
like($err, qr/lock timeout/, 'a detach left pending by hand');
$reader->query_safe('COMMIT');
$reader->quit;
$node->restart;
ok($node->poll_query_until('shop', q{SELECT to_regclass('notif_private.event_20200103') IS NULL}),
	'is finished by the next upkeep');

$node->stop;
no_surprises($node, 'no unexpected message', except => qr/administrator command|55P03 ERROR/);
done_testing();
