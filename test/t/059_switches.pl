# Switches under load: what is not on the wire when a pause returns does not leave, for
# every kind of switch; others go on; what was stopped goes once, after the resume.
# It takes some ten milliseconds, which the log tells; a second is allowed, for
# machines with other work.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant { PEOPLE => 6000, TAKES_EFFECT_US => 1_000_000 };

my ($node, $sandbox) = new_shop('switches');

people($node, 4);
one_value($node, qq{
	SELECT notif.define_type('sale', 'retry', title => 'Sale {n}', tier => 'bulk');
	SELECT notif.define_type('news', 'retry', title => 'News {n}', tier => 'bulk');
	SELECT notif.create_topic('all');
	INSERT INTO notif_private.recipient (ref) SELECT 'n' || i FROM generate_series(1, @{[ PEOPLE ]}) i;
	INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
	SELECT r.id, (SELECT min(app_id) FROM notif_private.endpoint), 'push', 'd', lpad(to_hex(r.id + 1000000), 64, '0'), now()
	FROM notif_private.recipient r WHERE r.ref LIKE 'n%';
	INSERT INTO notif_private.subscription (topic_id, recipient_id)
	SELECT t.id, r.id FROM notif_private.topic t, notif_private.recipient r WHERE r.ref LIKE 'n%';
	ANALYZE});

sub sends { my ($word) = @_; return grep { $_->{body} =~ /"$word / } $sandbox->ledger; }

sub accepted { my ($event) = @_; return 0 + one_value($node, qq{SELECT count(*) FROM notif_private.outcome WHERE event = '$event' AND state = 'accepted'}); }

# What of an event has no end yet is neither claimed nor on its way back.
sub settled
{
	my ($event) = @_;

	return wait_true($node, qq{SELECT NOT EXISTS (SELECT FROM notif_private.flying_bulk WHERE event = '$event')
		AND (SELECT count(DISTINCT delivery) FROM notif_private.outcome WHERE event = '$event') = @{[ PEOPLE ]}});
}

my %publish = (
	type => q{SELECT notif.publish('sale', topic => 'all', data => '{"n": 1}')},
	campaign => q{SELECT notif.publish('sale', topic => 'all', data => '{"n": 1}', campaign => 'spring')},
	tier => q{SELECT notif.publish('sale', topic => 'all', data => '{"n": 1}')},
	provider => q{SELECT notif.publish('sale', topic => 'all', data => '{"n": 1}')},
	everything => q{SELECT notif.publish('sale', topic => 'all', data => '{"n": 1}')});
my %switch = (type => q{'type', 'sale'}, campaign => q{'campaign', 'spring'}, tier => q{'tier', 'bulk'},
	provider => q{'provider', (SELECT name FROM notif_private.provider)}, everything => q{'everything'});

for my $what (qw(type campaign tier provider everything))
{
	my $parks = $what eq 'type' || $what eq 'campaign';
	$sandbox->get('/reset');
	$sandbox->fault('delay_ms=30');
	my $sale = one_value($node, $publish{$what});
	ok($sandbox->wait_count(500), "$what: a broadcast is under way");
	is(one_value($node, qq{SELECT notif.pause($switch{$what}, why => 'test')}), 't', "$what: paused");
	my $since = time() * 1_000_000;
	# beside it another type of the same tier goes on where it may
	my $news = $parks ? one_value($node, q{SELECT notif.publish('news', topic => 'all', data => '{"n": 2}')}) : undef;
	if ($parks)
	{
		ok(wait_true($node, qq{SELECT count(*) = @{[ PEOPLE ]} FROM notif_private.outcome WHERE event = '$news' AND state = 'accepted'}), "$what: another type goes on");
		ok(settled($sale), "$what: what was stopped waits apart");
	}
	else
	{
		ok(wait_true($node, q{SELECT sum(n) FILTER (WHERE state = 'in_flight') = 0 FROM notif.state WHERE tier = 'bulk'}), "$what: what is in the air comes down");
	}
	my @seen = sends('Sale');
	my ($last) = sort { $b <=> $a } map { $_->{time_us} } @seen;
	cmp_ok($last, '<=', $since + TAKES_EFFECT_US, sprintf '%s: nothing leaves later than %d ms after the pause', $what, TAKES_EFFECT_US / 1000);
	note(sprintf '%s: the last one came %.1f ms after the pause returned', $what, ($last - $since) / 1000);
	cmp_ok(scalar @seen, '<', PEOPLE, "$what: it came in time to stop something");
	cmp_ok(accepted($sale), '<', PEOPLE, "$what: and that has not ended");
	balanced($node, "$what: while paused");
	$sandbox->fault('delay_ms=0');
	is(one_value($node, qq{SELECT notif.resume($switch{$what})}), 't', "$what: resumed");
	ok(wait_idle($node), "$what: all ends");
	is(accepted($sale), PEOPLE, "$what: everybody was told");
	is(scalar(my @all = sends('Sale')), PEOPLE, "$what: once");
}

# An event that is cancelled, and a type that is disabled, while they are under way.
for my $how ('cancel', 'disable_type')
{
	$sandbox->get('/reset');
	$sandbox->fault('delay_ms=30');
	my $sale = one_value($node, $publish{type});
	ok($sandbox->wait_count(500), "$how: a broadcast is under way");
	one_value($node, $how eq 'cancel' ? qq{SELECT notif.cancel('$sale')} : q{SELECT notif.disable_type('sale')});
	my $since = time() * 1_000_000;
	ok(wait_idle($node), "$how: all ends");
	my @seen = sends('Sale');
	my ($last) = sort { $b <=> $a } map { $_->{time_us} } @seen;
	cmp_ok($last, '<=', $since + TAKES_EFFECT_US, "$how: nothing leaves later");
	cmp_ok(accepted($sale), '<', PEOPLE, "$how: it came in time");
	is(one_value($node, qq{SELECT count(*) FROM notif_private.outcome WHERE event = '$sale' AND terminal AND state NOT IN ('accepted', 'cancelled', 'suppressed')}), '0',
		"$how: what was stopped says so");
}

balanced($node, 'switches');
no_crash($node, 'no worker failed');
$node->stop;
done_testing();
