# An opt-out that commits after the claim stops what has not reached the wire: what
# waits behind another push of the device, while a mandatory one goes all the same.  (What
# waits for a stream: test_net_h2.)  A burst that is too long to remember gives everything back
# once, and loses and doubles nothing.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('optout');

people($node, 40);
one_value($node, q{
	SELECT notif.define_category('must', mandatory => true, retry_base => '100 ms', retry_cap => '300 ms', rate_limited => false);
	SELECT notif.define_type('must', 'must', title => 'Must {n}');
	SELECT notif.define_type('race', 'retry', title => 'Race {n}', ordered => false);
	SELECT count(notif.upsert_recipient('other' || i)) FROM generate_series(1, 5000) i});

sub accepted_by
{
	my ($device) = @_;

	return scalar grep { $_->{token} eq token($device) } $sandbox->ledger;
}

# Flying in the ledger's sense: claimed, its outcome not recorded.
sub in_flight { my ($event) = @_; return qq{EXISTS (SELECT FROM notif_private.flying_standard WHERE event = '$event')}; }

# ---- behind another push of the device -------------------------------------------------

# The second is claimed and waits for the first one's answer.  The dispatcher may
# give it back before the opt-out, if this takes it longer than a second: then the
# claim stops it, and the test proves less.
my %opt_out = (
	2 => q{SELECT notif.switch_off('p2')},
	3 => q{SELECT notif.set_preference('p3', 'push', 'retry', enabled => false)},
	4 => q{SELECT notif.mute('p4', source => 'bot')},
	5 => q{SELECT notif.deactivate_recipient('p5')},
	31 => q{SELECT notif.record_consent('p31', 'push', 'retry', false, source => 'web')},
	32 => qq{SELECT notif.suppress('@{[ token(32) ]}', reason => 'stop')},
	33 => q{SELECT notif.erase_recipient('p33')});
my %reason = (2 => 'switched_off', 3 => 'preference', 4 => 'muted', 5 => 'recipient_inactive', 31 => 'consent',
	32 => 'suppression_list', 33 => 'recipient_inactive');
my $withdrawn = 0;

# the connection has one stream until its first answer
one_value($node, q{SELECT notif.publish('note', 'p1', '{"n": 0}')});
ok($sandbox->wait_count(1) && wait_idle($node), 'the provider is reached');
$sandbox->fault('hang=on');
for my $p (sort keys %opt_out)
{
	one_value($node, qq{SELECT notif.publish('note', 'p$p', '{"n": 1}', source => 'man')});
	ok(NotifTest::wait_for(sub { return accepted_by($p) == 1 }), "p$p: one is in the air");
	my $next = one_value($node, qq{SELECT notif.publish('note', 'p$p', '{"n": 2}', source => 'bot')});
	ok(wait_true($node, qq{SELECT @{[ in_flight($next) ]} OR EXISTS (SELECT FROM notif_private.outcome WHERE event = '$next')}), "p$p: the next one is claimed");
	one_value($node, $opt_out{$p});
	$sandbox->fault('hang=off');
	$sandbox->fault('hang=on');
	ok(wait_true($node, qq{SELECT EXISTS (SELECT FROM notif.deliveries WHERE event = '$next' AND terminal)}), "p$p: it ends");
	is(one_value($node, qq{SELECT state || ' ' || reason FROM notif.deliveries WHERE event = '$next'}), "suppressed $reason{$p}", "p$p: it is stopped");
	is(accepted_by($p), 1, "p$p: the provider has not seen it");
	$withdrawn += one_value($node, qq{SELECT count(*) FROM notif_private.outcome WHERE event = '$next' AND reason = 'opt_out'});
}
cmp_ok($withdrawn, '>=', 1, 'opt-outs have met what was claimed');

# ---- what nobody can switch off ------------------------------------------------------------

# It is given back like everything of that person, passes the gates again, and goes.
$sandbox->fault('hang=off');
ok(wait_idle($node), 'all end');
one_value($node, q{SELECT notif.switch_on('p2')});
$sandbox->get('/reset');
$sandbox->fault('hang=on');
one_value($node, q{SELECT notif.publish('note', 'p6', '{"n": 1}')});
ok($sandbox->wait_count(1), 'p6: one is in the air');
my $must = one_value($node, q{SELECT notif.publish('must', 'p6', '{"n": 2}')});
ok(wait_true($node, qq{SELECT @{[ in_flight($must) ]} OR EXISTS (SELECT FROM notif_private.outcome WHERE event = '$must')}), 'p6: a mandatory one is claimed');
one_value($node, q{SELECT notif.switch_off('p6')});
$sandbox->fault('hang=off');
ok(wait_idle($node), 'p6: it ends');
is(state_of($node, $must), 'accepted 1', 'p6: and is sent');
is(accepted_by(6), 2, 'p6: once');

# ---- at load: whoever opts out gets nothing that is published afterwards ------------------

$sandbox->get('/reset');
$sandbox->fault('delay_ms=20');
one_value($node, q{SELECT count(notif.publish('race', 'p' || (10 + i % 20), jsonb_build_object('n', i))) FROM generate_series(1, 4000) i});
ok($sandbox->wait_count(100), 'a flood is under way');
one_value($node, qq{SELECT notif.switch_off('p$_')}) for 10 .. 14;
my @after = map { one_value($node, qq{SELECT notif.publish('race', 'p$_', '{"n": 0}')}) } 10 .. 14;
ok(wait_idle($node), 'it ends');
is(state_of($node, $_), 'suppressed 1', 'after an opt-out nothing is sent') for @after;
is(scalar(grep { my $line = $_; $line->{body} =~ /Race 0"/ } $sandbox->ledger), 0, 'the provider has seen none of it');

# ---- the erased one ----------------------------------------------------------------------

# between a search that finds something and the last one, transactions have to end
ok(wait_true($node, q{SELECT count(*) = 1 AND bool_and(state = 'complete') FROM notif.erasures}), 'p33: upkeep completes the erasure');
is(one_value($node, qq{SELECT count(*) FROM notif_private.outcome o WHERE o.reason = 'recipient_inactive' AND o.recipient IS NOT NULL
	AND NOT EXISTS (SELECT FROM notif_private.recipient r WHERE r.id = o.recipient)}), '0', 'p33: outcomes without a name');

# ---- more than the ring holds --------------------------------------------------------------

$sandbox->get('/reset');
$sandbox->fault('hang=on');
one_value($node, q{SELECT notif.publish('note', 'p7', '{"n": 1}')});
ok($sandbox->wait_count(1), 'p7: one is in the air');
my @waiting = map { one_value($node, qq{SELECT notif.publish('note', 'p7', '{"n": $_}')}) } 2 .. 4;
ok(wait_true($node, qq{SELECT @{[ in_flight($waiting[2]) ]} OR EXISTS (SELECT FROM notif_private.outcome WHERE event = '$waiting[2]')}), 'p7: the next ones are claimed');
is(one_value($node, q{SELECT count(notif.switch_off('other' || i)) FROM generate_series(1, 5000) i}), '5000', 'a burst of opt-outs');
$sandbox->fault('hang=off');
ok(wait_idle($node), 'p7: all end');
is(join(' ', map { $_->{body} =~ /Note (\d+)/ } grep { $_->{token} eq token(7) } $sandbox->ledger), '1 2 3 4', 'p7: each was sent once, in order');

balanced($node, 'opt-outs');
no_crash($node, 'no worker failed');
$node->stop;
done_testing();
