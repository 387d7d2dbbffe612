# A commit that waits for an absent synchronous standby becomes visible long
# after others of higher transaction ids: it is delivered all the same, an event
# as well as the router's own rows.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('sync', init => { allows_streaming => 1 });

people($node, 20);
# every dispatcher has its provider token: making one is a commit of its own
one_value($node, q{SELECT notif.publish(t, 'p1', '{"n": 0}') FROM unnest('{note,code,news}'::text[]) t});
ok(wait_idle($node), 'warm');

# Publishers that ask for the standby wait; those that do not go on.
$node->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = 'absent'});
$node->reload;

# A reload takes a moment: go on when a commit has been seen to wait.
my $waiting = $node->background_psql('shop', on_error_stop => 0);
my $probe = $node->background_psql('shop', on_error_stop => 0);
my $syncing = q{SELECT (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend')};
$probe->query_until(qr/probing/, "\\echo probing\n" . "COMMENT ON DATABASE shop IS 'a commit';\n" x 1000);
ok(wait_true($node, "$syncing >= 1"), 'commits wait for the standby now');

$waiting->query_until(qr/asked/, qq{\\echo asked\nSELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(1, 5) i;\n});
ok(wait_true($node, "$syncing = 2"), 'a publisher waits for its standby');
one_value($node, q{SET synchronous_commit = local; SELECT count(notif.publish('note', 'p' || i, '{"n": 2}')) FROM generate_series(6, 20) i});

# The claim's own commit is durable here, whatever standbys there are: a
# dispatcher that asks for the standby waits too, and nothing is sent that
# might be forgotten.
ok( wait_true($node, q{SELECT count(*) = 18 FROM notif_private.inbox}), 'the router goes on meanwhile');
is(one_value($node, q{SELECT count(*) FROM notif_private.inbox i JOIN notif_private.recipient r ON r.id = i.recipient WHERE r.ref IN ('p2', 'p3', 'p4', 'p5')}),
	'0', 'what waits is not visible, and not sent');
ok($sandbox->count <= 18, 'nothing of it has arrived');

$node->safe_psql('postgres', q{SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
# the probe has commits left, which do not wait any more
ok(wait_true($node, "$syncing = 0"), 'released');
ok(wait_idle($node), 'all deliveries end');
is(one_value($node, q{SELECT state, count(*) FROM notif.deliveries GROUP BY 1}), 'accepted|23', 'accepted');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{delivered}, 23, 'all arrived');
balanced($node, 'at the end');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
