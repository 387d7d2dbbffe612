# A standby has no workers; a promotion that the launcher has watched goes on by
# itself (P45), a copy that comes up as a primary waits to be confirmed (P46).
use strict;
use warnings FATAL => 'all';
use lib 'test/t';
use NotifLife;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', init => { allows_streaming => 1 });
$primary->start;
create_database($primary, 'shop');
$primary->safe_psql('shop', q{
	SELECT notif.define_category('news');
	SELECT notif.define_type('news.flash', 'news', channels => '{inbox}', title => 'News');
	SELECT notif.upsert_recipient('ann');
});
$primary->backup('base');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'base');

$primary->wait_for_catchup($standby);
is($standby->safe_psql('shop', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'notif%'}),
	'0', 'a standby has no workers');
is($standby->safe_psql('shop', 'SELECT notif_private.watched_promotion()'), 'f', 'and is not promoted');

$primary->safe_psql('shop', q{SELECT notif.publish('news.flash', recipient => 'ann')});
ok($primary->poll_query_until('shop', 'SELECT count(*) = 1 FROM notif_private.inbox'), 'the primary delivers');
$primary->wait_for_catchup($standby);
$primary->stop('fast');

$standby->promote;
ok(wait_for_workers($standby, 'shop'), 'workers start on the promoted standby');
is($standby->safe_psql('shop', 'SELECT notif_private.watched_promotion()'), 't', 'its promotion was watched');
$standby->safe_psql('shop', q{SELECT notif.publish('news.flash', recipient => 'ann')});
ok($standby->poll_query_until('shop', 'SELECT count(*) = 2 FROM notif_private.inbox'), 'and it delivers');

# The same bytes as a primary of its own, elsewhere.
$copy->start;
ok(wait_for_state($copy, 'shop', 'waiting for confirm_instance'), 'a copy waits');
ok($copy->wait_for_log(qr/notif sends nothing from database "shop" until the instance is confirmed/), 'and says so');
is(worker_pids($copy, 'shop') =~ /router|dispatcher/ ? 1 : 0, 0, 'without routers and dispatchers');
$copy->safe_psql('shop', q{SELECT notif.publish('news.flash', recipient => 'ann')});
is($copy->safe_psql('shop', 'SELECT count(*) FROM notif_private.inbox'), '0', 'it publishes and delivers nothing');
$copy->safe_psql('shop', 'SELECT notif.confirm_instance()');
ok(wait_for_workers($copy, 'shop'), 'confirm_instance lets it go on');
ok($copy->poll_query_until('shop', 'SELECT count(*) = 1 FROM notif_private.inbox'), 'and then delivers');
$copy->restart;
ok(wait_for_workers($copy, 'shop'), 'it need not be confirmed again');

$standby->stop;
$copy->stop;
no_surprises($standby, 'no unexpected message on the standby', except => qr/walreceiver|could not connect|streaming/);
no_surprises($copy, 'no unexpected message on the copy', except => qr/administrator command/);
done_testing();
