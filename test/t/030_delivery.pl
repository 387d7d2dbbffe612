# From publish to the device and back: what arrives, and what every answer of
# the provider leads to.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($node, $sandbox) = new_shop('delivery');

# ---- one event, two devices ------------------------------------------------------

people($node, 12);
one_value($node, q{SELECT notif.upsert_recipient('p1', attributes => '{"name": "Ada"}')});
one_value($node, "SELECT notif.register_device('p1', 'tablet', 'ipados', '" . token(101) . "')");
one_value($node, <<'EOS');
SELECT notif.define_type('full', 'retry', title => 'Order {order}', body => 'Hello {recipient.name}', ttl => '1 hour',
	push => '{"interruption_level": "time-sensitive", "thread_id": "order-{order}", "category": "SHIPPED", "badge": "{badge}",
			  "sound": "bell.caf", "mutable_content": true, "image_url": "https://shop.example/{order}.jpg",
			  "subtitle": "From {recipient.ref}", "relevance_score": 0.5, "data": {"order": "{order}", "kind": "ship"}}');
SELECT notif.define_type('alarm', 'hold', tier => 'critical', title => 'Alarm',
	push => '{"sound": {"critical": true, "name": "siren.caf", "volume": 1}, "interruption_level": "critical"}');
SELECT notif.define_type('silent', 'retry', push => '{"push_type": "background", "content_available": true, "priority": 5}');
SELECT notif.define_type('call', 'retry', push => '{"push_type": "voip", "data": {"from": "{from}"}}', ttl => '30 s');
SELECT notif.define_type('score', 'retry', push => '{"push_type": "liveactivity", "event": "update", "timestamp": "{notif.timestamp}",
	"content_state": "{state}"}');
EOS

my $before = time;
my $event = one_value($node,
	q{SELECT notif.publish('full', 'p1', '{"order": 17, "badge": 3}', collapse_key => 'order-17', correlation_id => 'o-17')});
ok($sandbox->wait_count(2), 'an event reaches both devices');
ok(wait_idle($node), 'and its outcomes are recorded');
my @lines = $sandbox->ledger;
is(scalar @lines, 2, 'each once');
is_deeply([ sort map { $_->{token} } @lines ], [ token(1), token(101) ], 'at their tokens');
is_deeply([ map { $_->{topic} . ' ' . $_->{push_type} . ' ' . $_->{collapse_id} } @lines ], [ ('com.example.shop alert order-17') x 2 ],
	'with topic, push type and collapse id');
is_deeply(
	decode_json($lines[0]{body}),
	{
		aps => {
			alert => { title => 'Order 17', body => 'Hello Ada', subtitle => 'From p1' },
			badge => 3, sound => 'bell.caf', 'thread-id' => 'order-17', category => 'SHIPPED', 'mutable-content' => 1,
			'interruption-level' => 'time-sensitive', 'relevance-score' => 0.5 },
		'image-url' => 'https://shop.example/17.jpg', order => 17, kind => 'ship' },
	'the payload is what the type says');
is( one_value($node, qq{SELECT string_agg(delivery::text, ' ' ORDER BY delivery) FROM notif.deliveries WHERE event = '$event'}),
	join(' ', sort map { $_->{id} } @lines),
	'the apns-id is the delivery');
is(state_of($node, $event), 'accepted 2', 'both are accepted');
is( one_value($node, qq{SELECT string_agg(step || coalesce(' ' || state, ''), ', ') FROM notif.trace('$event')}),
	'published, inbox, outcome accepted, outcome accepted',
	'the trace tells it in order');
is( one_value($node, q{SELECT count(*), bool_and(at IS NOT NULL) FROM notif.trace_correlation('o-17')}), '4|t',
	'so does that of the correlation');
is( one_value($node, qq{SELECT bool_and(provider = 'apple' AND status = 200 AND latency_ms > 0 AND attempts = 1
		AND provider_ref = upper(delivery::text) OR provider_ref = delivery::text) FROM notif.deliveries WHERE event = '$event'}),
	't', 'notif.deliveries shows provider, id, status and latency');
is(one_value($node, q{SELECT title || '/' || body FROM notif.inbox('p1')}), 'Order 17/Hello Ada', 'the inbox shows the same text');
is(one_value($node, q{SELECT notif.unread_count('p1')}), '1', 'unread');

# ---- push types ------------------------------------------------------------------

sub delivered
{
	my ($type, $data, %more) = @_;
	my $extra = $more{extra} // '';
	my $id = one_value($node, qq{SELECT notif.publish('$type', 'p2', '$data' $extra)});

	wait_idle($node);
	is(state_of($node, $id), 'accepted 1', "$type is accepted");
	my ($line) = $sandbox->ledger(one_value($node, qq{SELECT delivery FROM notif.deliveries WHERE event = '$id'}));
	return $line;
}
my $line = delivered('alarm', '{}');
is_deeply(decode_json($line->{body})->{aps}{sound}, { critical => 1, name => 'siren.caf', volume => 1 }, 'a critical sound');
is(decode_json($line->{body})->{aps}{'interruption-level'}, 'critical', 'of a critical alert');
$line = delivered('silent', '{}');
is("$line->{push_type} $line->{topic} $line->{body}", 'background com.example.shop {"aps":{"content-available":1}}', 'a background push');
$line = delivered('call', '{"from": "bob"}');
is("$line->{push_type} $line->{topic}", 'voip com.example.shop.voip', 'the topic of a call has its suffix');
is(decode_json($line->{body})->{from}, 'bob', 'custom keys of a call');
$line = delivered('score', '{"state": {"home": 2, "away": 1}}');
is("$line->{push_type} $line->{topic}", 'liveactivity com.example.shop.push-type.liveactivity', 'so has that of a live activity');
my $aps = decode_json($line->{body})->{aps};
is_deeply($aps->{'content-state'}, { home => 2, away => 1 }, 'its content state is an object');
is($aps->{event}, 'update', 'its event');
cmp_ok(abs($aps->{timestamp} - $before), '<', 120, 'its timestamp is the event\'s time');
is(scalar $sandbox->refused, 0, 'nothing was refused so far');

# The inbox item is there before the first byte: with the provider paused it is
# there and nothing is sent.
one_value($node, q{SELECT notif.pause('provider', 'apple', why => 'test')});
my $sent = $sandbox->count;
$event = one_value($node, q{SELECT notif.publish('note', 'p3', '{"n": 1}')});
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.inbox('p3') WHERE event = '$event'}), 'the inbox item comes first');
is(one_value($node, qq{SELECT string_agg(step, ', ') FROM notif.trace('$event')}), 'published, inbox, queued',
	'the push waits while the provider is paused');
is($sandbox->count, $sent, 'nothing was sent');
is(one_value($node, q{SELECT waiting, scheduled, in_flight FROM notif.queue WHERE tier = 'standard'}), '1|0|0', 'notif.queue shows it');
one_value($node, q{SELECT notif.resume('provider', 'apple')});
ok(wait_idle($node), 'it goes out when the provider is resumed');
is(state_of($node, $event), 'accepted 1', 'and is accepted');

# ---- dead tokens -------------------------------------------------------------------

sub publish { my ($type, $who) = @_; return one_value($node, qq{SELECT notif.publish('$type', '$who', '{"n": 1}')}); }
sub endpoint { my ($who) = @_; return one_value($node, qq{SELECT state, reason FROM notif.endpoints WHERE recipient = '$who'}); }
sub outcomes
{
	my ($id) = @_;
	return one_value($node, qq{SELECT string_agg(state || coalesce(' ' || reason, ''), ', ' ORDER BY attempt)
		FROM notif_private.outcome WHERE event = '$id'});
}

$sandbox->get('/token?hex=' . token(4) . '&state=dead');
$event = publish('note', 'p4');
ok(wait_idle($node), '410 ends a delivery');
is(outcomes($event), 'failed Unregistered', 'at once');
is(endpoint('p4'), 'invalid|Unregistered', 'and the endpoint');
is(one_value($node, q{SELECT attempts, status FROM notif.dead_letters WHERE recipient = 'p4'}), '1|410', 'notif.dead_letters shows it');
$event = publish('note', 'p4');
ok(wait_idle($node), 'nothing more is sent there');
is(one_value($node, qq{SELECT reason FROM notif_private.outcome WHERE event = '$event'}), 'no_endpoint', 'for want of an endpoint');

# A 410 that is older than the registration says nothing of it.
my $long_ago = int((time - 86400) * 1000);
$sandbox->get('/token?hex=' . token(5) . "&state=unregistered_at:$long_ago");
$event = publish('few', 'p5');
ok(wait_true($node, qq{SELECT count(*) > 0 FROM notif_private.outcome WHERE event = '$event'}), 'a stale 410 is answered');
like(outcomes($event), qr/^retry Unregistered/, 'with a retry');
$sandbox->get('/token?hex=' . token(5) . '&state=ok');
ok(wait_idle($node), 'which ends');
like(outcomes($event), qr/(accepted|retries_exhausted:Unregistered)$/, 'by itself');
is(endpoint('p5'), 'active|', 'the endpoint lives');

# ---- doubt, and a quorum -----------------------------------------------------------

$sandbox->get('/token?hex=' . token(6) . '&state=wrong');
$event = publish('note', 'p6');
ok(wait_idle($node), 'BadDeviceToken ends a delivery');
is(outcomes($event), 'failed BadDeviceToken', 'at once');
is(endpoint('p6'), 'quarantined|BadDeviceToken', 'but only puts the endpoint in doubt');
$event = publish('note', 'p6');
ok(wait_idle($node), 'nothing is sent there meanwhile');
is(outcomes($event), 'suppressed no_endpoint', 'and that is said');
one_value($node, q{SELECT notif_private.judge_quarantine()});
is(endpoint('p6'), 'quarantined|BadDeviceToken', 'without a quorum it stays');
one_value($node, q{SELECT count(notif.publish('note', 'p7', jsonb_build_object('n', i))) FROM generate_series(1, 25) i});
ok(wait_idle($node), 'others are accepted');
one_value($node, q{SELECT * FROM notif_private.worker_upkeep('30 days')});
is(endpoint('p6'), 'invalid|BadDeviceToken', 'with a quorum it is dead');
# A wrong environment rejects every token: none may be purged.
$sandbox->fault('status=400&reason=BadDeviceToken&count=all');
one_value($node, q{SELECT count(notif.publish('note', 'p' || i, '{"n": 1}')) FROM generate_series(8, 12) i});
ok(wait_idle($node), 'a burst of BadDeviceToken ends');
$sandbox->fault('clear');
one_value($node, q{SELECT * FROM notif_private.worker_upkeep('30 days')});
is(one_value($node, q{SELECT state, count(*) FROM notif.endpoints WHERE recipient IN ('p8','p9','p10','p11','p12') GROUP BY 1}),
	'quarantined|5', 'a burst purges nobody');
my $fixed = NotifTest::settings($sandbox, max_connections => 3);
one_value($node, "SELECT notif.define_provider('apple', 'apns', $fixed, key => 'file:$sandbox->{dir}/apns_key.p8')");
is(one_value($node, q{SELECT count(*) FROM notif.endpoints WHERE state = 'quarantined'}), '0', 'a provider that is redefined lets them try again');
$event = publish('note', 'p8');
ok(wait_idle($node), 'and so they do');
is(state_of($node, $event), 'accepted 1', 'with success');

# ---- throttling and failures ---------------------------------------------------------

$sandbox->get('/token?hex=' . token(9) . '&state=throttled');
$event = publish('note', 'p9');
my $other = publish('note', 'p10');
ok(wait_true($node, qq{SELECT count(*) > 1 FROM notif_private.outcome WHERE event = '$event'}), '429 of one token is tried again');
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif.deliveries WHERE event = '$other' AND state = 'accepted'}), 'and hinders nobody else');
$sandbox->get('/token?hex=' . token(9) . '&state=ok');
ok(wait_idle($node), 'until it passes');
like(outcomes($event), qr/^(retry TooManyRequests, )+accepted$/, 'without an end of its own');

$sandbox->fault('status=429&reason=TooManyRequests&retry_after=40&count=1');
$event = publish('note', 'p10');
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif_private.outcome WHERE event = '$event'}), 'Retry-After is read');
is( one_value($node, qq{SELECT next_at - at BETWEEN '40 s' AND '45 s' FROM notif_private.outcome WHERE event = '$event'}),
	't', 'and honoured, with some jitter');
is(one_value($node, q{SELECT scheduled, next_due > notif.now() + interval '30 s' FROM notif.queue WHERE tier = 'standard'}),
	'1|t', 'notif.queue shows when it is due');
is(one_value($node, qq{SELECT string_agg(step, ', ') FROM notif.trace('$event')}), 'published, inbox, outcome, scheduled', 'so does the trace');
one_value($node, q{SELECT notif_private.shift_clock(60 * 1000000)});
one_value($node, q{SELECT notif_private.wake(1::smallint)});
ok(wait_idle($node), 'when it is due it goes out');
is(outcomes($event), 'retry TooManyRequests, accepted', 'and is accepted');
$sandbox->fault('status=503&reason=ServiceUnavailable&retry_after=315360000&count=1');
$event = one_value($node, q{SELECT notif.publish('note', 'p10', '{"n": 1}', expires_in => '7 days')});
ok(wait_true($node, qq{SELECT count(*) = 1 FROM notif_private.outcome WHERE event = '$event'}), 'an absurd Retry-After');
is( one_value($node, qq{SELECT next_at - at BETWEEN '60 min' AND '67 min' FROM notif_private.outcome WHERE event = '$event'}),
	't', 'is clamped to an hour');
one_value($node, q{SELECT notif_private.shift_clock(70 * 60 * 1000000::bigint)});
one_value($node, q{SELECT notif_private.wake(1::smallint)});
ok(wait_idle($node), 'and is over in time');

# 5xx until the attempts are used up, then again by hand.
$sandbox->fault('status=500&reason=InternalServerError&count=all');
$event = publish('few', 'p10');
ok(wait_idle($node), '5xx is tried again');
is(outcomes($event), 'retry InternalServerError, retry InternalServerError, failed retries_exhausted:InternalServerError',
	'max_attempts times');
my $dead = one_value($node, qq{SELECT delivery FROM notif.dead_letters WHERE event = '$event'});
$sandbox->fault('clear');
one_value($node, "SELECT notif.redeliver('$dead')");
ok(wait_idle($node), 'notif.redeliver sends it again');
like(outcomes($event), qr/InternalServerError, accepted$/, 'with success');
is(scalar(my @again = $sandbox->ledger($dead)), 1, 'under its own id');
is(one_value($node, qq{SELECT count(*) FROM notif.dead_letters WHERE event = '$event'}), '0', 'it is dead no longer');
is( one_value($node, qq{SELECT string_agg(step || coalesce(' ' || state, ''), ', ') FROM notif.trace('$event')}),
	'published, inbox, outcome retry, outcome retry, outcome failed, redelivered, outcome accepted',
	'the trace tells all of it');

# Nothing is sent after it has expired.
$sandbox->fault('status=503&reason=ServiceUnavailable&count=all');
$event = one_value($node, q{SELECT notif.publish('note', 'p10', '{"n": 1}', expires_in => '1 s')});
ok(wait_idle($node), 'retries end with the expiry');
like(outcomes($event), qr/expired [A-Za-z]+$/, 'as expired');
$sandbox->fault('clear');

# ---- too large ------------------------------------------------------------------------

one_value($node, q{SELECT notif.define_type('text', 'retry', title => '{text}')});
one_value($node, q{SELECT notif.define_type('long', 'retry', title => '{text}', body => '{recipient.story}')});
my ($rc, $out, $err) = $node->psql('shop',
	q{\set VERBOSITY verbose
SELECT notif.publish('text', 'p11', jsonb_build_object('text', repeat('x', 5000)))});
like($err, qr/ERROR:  54000:/, 'a payload too large is refused at publish where that can be known');
one_value($node, q{SELECT notif.upsert_recipient('p11', attributes => jsonb_build_object('story', repeat('y', 5000)))});
$event = one_value($node, q{SELECT notif.publish('long', 'p11', '{"text": "x"}')});
ok(wait_idle($node), 'else at its claim');
like(outcomes($event), qr/^failed payload_too_large/, 'with a clear outcome');
one_value($node, q{SELECT notif.upsert_recipient('p11', attributes => '{}')});
$event = one_value($node, q{SELECT notif.publish('long', 'p11', '{"text": "x"}')});
ok(wait_idle($node), 'a placeholder of the recipient without a value');
like(outcomes($event), qr/^failed placeholder_missing/, 'ends with a clear outcome, too');

is(one_value($node, q{SELECT open, in_flight, parked_until IS NULL OR parked_until < notif.now() FROM notif.providers WHERE name = 'apple'}),
	'0|0|t', 'notif.providers is at rest');
is(one_value($node, q{SELECT string_agg(check_name, ' ') FROM notif.health() WHERE NOT ok AND check_name IN ('workers', 'instance', 'ledger', 'lag', 'providers')}),
	'', 'notif.health() is content');
# A code takes the short way: no row of a queue between the publish and the wire.
my $queued = q{SELECT count(*) FROM notif_private.outbox_critical};
one_value($node, q{SELECT notif.publish('code', 'p1', '{"n": 98}')});
ok(wait_idle($node), 'the tier has a connection, with more than the first stream');
my $rows = one_value($node, $queued);
my $code = one_value($node, q{SELECT notif.publish('code', 'p1', '{"n": 99}')});
ok(wait_true($node, qq{SELECT EXISTS (SELECT FROM notif_private.outcome WHERE event = '$code')}), 'a code is sent');
is(state_of($node, $code), 'accepted 2', 'and accepted');
is(one_value($node, $queued), $rows, 'past the outbox');

is(one_value($node, q{SELECT count(*) FROM notif.workers WHERE state = 'running' AND restarts = 0}), '7', 'no worker was restarted');
balanced($node, 'at the end');
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'the checker is content');
is($totals->{duplicated}, 0, 'nothing arrived twice');
one_value($node, q{SELECT notif_private.shift_clock(-notif_private.clock_offset())});
no_crash($node, 'a clean log');
$node->stop;
done_testing();
