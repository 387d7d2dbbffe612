# F-D-4: somebody's transaction holds back vacuum while 30,000 deliveries are
# claimed: the last cost no more than the first.  And the books over a backlog of
# 300,000 open attempts: notif.state is as quick as over none, notif.audit() agrees,
# and both notif.health() and notif.audit() notice what is broken on purpose.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $sandbox) = new_shop('held', conf => <<'EOC', sandbox => { args => ['--topic', 'com.example.shop'] });
shared_buffers = 256MB
max_wal_size = 4GB
EOC

one_value($node, q{
	INSERT INTO notif_private.recipient (ref) SELECT 'p' || i FROM generate_series(1, 3000) i;
	SELECT notif.register_device('p1', 'd', 'ios', lpad('1', 64, '0'));
	INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
	SELECT r.id, a.id, 'push', 'd', lpad(to_hex(r.id), 64, '0'), now()
	FROM notif_private.recipient r CROSS JOIN notif_private.app a WHERE r.ref <> 'p1';
	SELECT notif.subscribe_many('all', ARRAY(SELECT 'p' || i FROM generate_series(1, 3000) i));
	SELECT notif.define_rate_limit('many', 100000, '1 day', 'drop');
	SELECT notif.define_category('limited');
	SELECT notif.define_type('mass', 'limited', title => 'Mass {n}', channels => '{push}');
	ANALYZE});

# Milliseconds of SELECT * FROM notif.state, planned each time as an administrator's
# is: the median of 15.
sub state_ms
{
	return one_value($node, q{
		CREATE TEMP TABLE took (ms double precision);
		DO $$ DECLARE at timestamptz; BEGIN
			FOR i IN 1 .. 15 LOOP
				at := clock_timestamp();
				EXECUTE 'SELECT sum(s.n) FROM (SELECT * FROM notif.state OFFSET 0) s';
				INSERT INTO took VALUES (extract(epoch FROM clock_timestamp() - at) * 1000);
			END LOOP; END $$;
		SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) FROM took});
}

# Other load on the machine makes a median worse, never better.
sub best { my ($first, $limit) = @_; my $best = $first->(); for (1 .. 20) { last if $best <= $limit; my $ms = $first->(); $best = $ms if $ms < $best; } return $best; }
my $empty = best(\&state_ms, 1);

# ---- F-D-4 ---------------------------------------------------------------------------------

# The same steps as the workers', which are off, without the network: what is
# measured is the claim.
$node->append_conf('postgresql.conf', 'notif.dispatch = off');
$node->reload;
ok(wait_true($node, q{SELECT count(*) = 0 FROM notif_private.worker_status() WHERE kind <> 'upkeep' AND pid IS NOT NULL}), 'F-D-4: the workers are off');
my $holder = $node->background_psql('shop', on_error_stop => 0);
$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query('SELECT count(*) FROM notif_private.rate');

one_value($node, q{
	CREATE TABLE cost (n integer, ms double precision);
	CREATE SEQUENCE flights;
	CREATE PROCEDURE deliver(rounds integer) LANGUAGE plpgsql AS $$
	DECLARE
		lane	integer := (SELECT id FROM notif_private.route);
		carrier	integer := (SELECT id FROM notif_private.provider);
		number	bigint;
		at		timestamptz;
		took	double precision;
		a		notif_private.attempt[];
		n		integer;
		x		uuid;
	BEGIN
		FOR round IN 1 .. rounds LOOP
			PERFORM notif.publish('mass', topic => 'all', data => jsonb_build_object('n', round));
			COMMIT;
			WHILE (SELECT r.more OR r.events > 0 FROM notif_private.worker_route_standard(2000) r) LOOP COMMIT; END LOOP;
			COMMIT;
			LOOP
				SELECT k INTO x FROM notif_private.worker_expansions_standard() k;
				EXIT WHEN NOT FOUND;
				PERFORM notif_private.worker_expand_standard(x, 2000);
				COMMIT;
			END LOOP;
			LOOP
				number := nextval('flights');
				at := clock_timestamp();
				PERFORM FROM notif_private.worker_claim_standard(lane, 500, 1, number);
				took := extract(epoch FROM clock_timestamp() - at) * 1000;
				COMMIT;
				a := (SELECT f.attempts FROM notif_private.flight_standard f WHERE f.worker = 1 AND f.flight = number AND NOT f.closed);
				n := coalesce(cardinality(a), 0);
				EXIT WHEN n = 0;
				INSERT INTO cost VALUES (n, took);
				PERFORM notif_private.worker_record_standard(lane, carrier, 1, a, array_fill('accepted'::text, ARRAY[n]),
					array_fill(''::text, ARRAY[n]), array_fill(200, ARRAY[n]), array_fill(''::text, ARRAY[n]), array_fill(1000, ARRAY[n]),
					array_fill(0, ARRAY[n]), array_fill(0::bigint, ARRAY[n]), array_fill(number, ARRAY[n]), ARRAY[number]);
				COMMIT;
			END LOOP;
		END LOOP;
	END $$});
# plans and caches are warm, and each recipient has a row of its limits
one_value($node, 'CALL deliver(2)');
one_value($node, 'TRUNCATE cost');
one_value($node, 'CALL deliver(10)');
is(one_value($node, 'SELECT sum(n) FROM cost'), '30000', 'F-D-4: thirty thousand deliveries are claimed under a held snapshot');
my ($start, $end) = split /\|/, one_value($node, q{
	SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ms / n) FILTER (WHERE at <= 12) * 1000, percentile_disc(0.5) WITHIN GROUP (ORDER BY ms / n) FILTER (WHERE at > total - 12) * 1000
	FROM (SELECT *, row_number() OVER (ORDER BY ctid) AS at, count(*) OVER () AS total FROM cost) c});
cmp_ok($end, '<=', 3 * $start, sprintf 'F-D-4: the last claims cost %.1f us a delivery, the first %.1f', $end, $start);
is(one_value($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND age(backend_xmin) > 150 AND state = 'idle in transaction'}), '1', 'F-D-4: it was held all the time');
$holder->query('COMMIT');
$holder->quit;
balanced($node, 'F-D-4');

# ---- a backlog of 300,000 -------------------------------------------------------------------

one_value($node, q{SELECT notif.pause('provider', 'apple')});
$node->append_conf('postgresql.conf', 'notif.dispatch = on');
$node->reload;
ok(wait_running($node), 'the workers are on');
one_value($node, q{SELECT count(notif.publish('mass', topic => 'all', data => '{"n": 1}')) FROM generate_series(1, 100)});
# and by ones, each routed by itself or with few others
my $script = "$sandbox->{dir}/publish.sql";
append_to_file($script, q{\set who random(1, 3000)
SELECT notif.publish('mass', 'p' || :who, '{"n": 2}');
});
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', '500', '-f', $script, 'shop' ], 'two thousand publishes by ones');
ok(wait_true($node, q{SELECT n = 302000 FROM notif.state WHERE tier = 'standard' AND state = 'open'}, 240), '302,000 attempts are open');
my $full = best(\&state_ms, $empty * 2 < 5 ? $empty * 2 : 5);
cmp_ok($full, '<=', 5, sprintf 'notif.state over 302,000 open attempts takes %.2f ms', $full);
cmp_ok($full, '<=', 4 * $empty + 1, sprintf 'over none it takes %.2f ms', $empty);
balanced($node, 'a backlog');

# Traffic by ones leaves some rows of the tally with each delivery.  The workers
# call upkeep when they have committed often, and it draws the rows together.
one_value($node, q{INSERT INTO notif_private.tally_standard (ring, lane, state, n)
	SELECT notif_private.turn_standard() % 4, r.id, 'open', CASE WHEN i % 2 = 0 THEN 1 ELSE -1 END FROM notif_private.route r, generate_series(1, 30000) i});
my $rows = q{SELECT count(*) FROM notif_private.tally};
my $many = one_value($node, $rows);
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-T', '600', '-f', $script, $node->connstr('shop') ], '>', \my $ignored, '2>', \my $ignored2);
ok(wait_true($node, qq{SELECT ($rows) < 10000}), "the tally's $many rows are drawn together");
$load->signal('INT');
$load->finish;
ok(wait_true($node, q{SELECT NOT EXISTS (SELECT FROM notif_private.lag_standard WHERE reader = 'router')}), 'all is routed');
$full = best(\&state_ms, 2);
cmp_ok($full, '<=', 5, sprintf 'notif.state takes %.2f ms', $full);
balanced($node, 'a tally drawn together');

# ---- broken on purpose ------------------------------------------------------------------------

sub disagrees { return one_value($node, q{SELECT string_agg(tier || ' ' || state || ' ' || recounted - tallied, ', ' ORDER BY state) FROM notif.audit() WHERE NOT agrees}); }
sub ledger_ok { return one_value($node, q{SELECT ok FROM notif.health() WHERE check_name = 'ledger'}); }

# Each loss is put back, so that the next one is seen by itself.
one_value($node, q{CREATE TABLE lost AS SELECT * FROM notif_private.outcome WHERE state = 'accepted' LIMIT 1});
one_value($node, q{DELETE FROM notif_private.outcome o USING lost l WHERE o.delivery = l.delivery AND o.attempt = l.attempt});
is(disagrees(), 'standard accepted -1, standard expanded -1', 'notif.audit() misses an outcome that somebody has deleted');
one_value($node, q{INSERT INTO notif_private.outcome SELECT * FROM lost; DROP TABLE lost});
is(disagrees(), '', 'and agrees when it is back');
one_value($node, q{CREATE TABLE lost AS SELECT * FROM notif_private.outbox_standard ORDER BY xid DESC LIMIT 2});
one_value($node, q{DELETE FROM notif_private.outbox_standard o USING lost l WHERE o.delivery = l.delivery});
is(disagrees(), 'standard expanded -2, standard open -2', 'it misses attempts that somebody has deleted');
one_value($node, q{INSERT INTO notif_private.outbox_standard SELECT * FROM lost; DROP TABLE lost});
one_value($node, q{CREATE TABLE lost AS SELECT DISTINCT ON (state) * FROM notif_private.tally_standard WHERE state = 'open' AND n > 0});
is(ledger_ok(), 't', 'notif.health() is content with the ledger');
one_value($node, q{DELETE FROM notif_private.tally_standard t USING lost l WHERE t.ctid = (SELECT x.ctid FROM notif_private.tally_standard x WHERE (x.ring, x.lane, x.state, x.n) = (l.ring, l.lane, l.state, l.n) LIMIT 1)
	AND (t.ring, t.lane, t.state, t.n) = (l.ring, l.lane, l.state, l.n)});
is(ledger_ok(), 'f', 'notif.health() is not when the tally has lost something');
like(disagrees(), qr/^standard open [1-9]/, 'nor does notif.audit() agree');
one_value($node, q{INSERT INTO notif_private.tally_standard SELECT * FROM lost; DROP TABLE lost});
balanced($node, 'all is back');

no_crash($node, 'a clean log');
$node->stop;
done_testing();
