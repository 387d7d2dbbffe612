# The functions of the hot path keep their plans, whatever the statistics say:
# honest ones, a thousand million rows, one row, never analysed.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# no workers: the test calls their functions itself
my $node = new_cluster('plans', databases => '', conf => "fsync = off\nautovacuum = off\nmax_wal_size = 2GB");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');
define_shop($node, { dir => '/nonexistent', apns => 1 });
one_value($node, <<'EOS');
SELECT notif.define_category('limited');
SELECT notif.define_type('limited', 'limited', title => 'Limited {n}');
SELECT notif.define_type('later', 'limited', tier => 'bulk', title => 'Later {n}');
SELECT notif.define_rate_limit('hour', 100, '1 hour', 'defer');
SELECT notif.define_rate_limit('total', 1000000, '1 hour', scope => 'type', type => 'limited');
SELECT notif.define_rate_limit('once', 1, '31 days', 'fold', type => 'few');
SELECT notif.define_category('few', retry_base => '100 ms', retry_cap => '100 ms', max_attempts => 3);
SELECT notif.define_type('few', 'few', title => 'Few {n}', dedup_window => '1 s');
INSERT INTO notif_private.recipient (ref) SELECT 'p' || i FROM generate_series(1, 30000) i;
SELECT notif.register_device('p1', 'd', 'ios', repeat('ab', 32));
INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
SELECT r.id, a.id, 'push', 'd', lpad(to_hex(r.id), 64, '0'), now()
FROM notif_private.recipient r CROSS JOIN notif_private.app a WHERE r.ref <> 'p1';
INSERT INTO notif_private.quiet_hours SELECT id, 7, 0, 1, now() FROM notif_private.recipient WHERE id % 4 = 0;
UPDATE notif_private.recipient SET tz = 'Europe/Berlin' WHERE id % 4 = 0;
INSERT INTO notif_private.zone VALUES ('Europe/Berlin');
INSERT INTO notif_private.zone_change (recipient_id, tz_before, at) SELECT id, 'UTC', now() FROM notif_private.recipient WHERE id % 8 = 0;
INSERT INTO notif_private.mute SELECT id, 'source', 'x', 'infinity', now() FROM notif_private.recipient WHERE id % 4 = 1;
SELECT notif.define_category('limited', requires_consent => '{push,inbox}');
SELECT notif.install_region_rules();
SELECT notif.define_region_rule('all-hours', '{CA,DE}', '{push}', send_from => '00:00', send_until => '23:59', zones => '{UTC,Europe/Berlin}');
SELECT notif.define_region_rule('inbox', NULL, '{inbox}', consent => 'implied', purchase => '24 months');
UPDATE notif_private.recipient SET country = (ARRAY['DE', 'CA', NULL])[1 + id % 3];
-- implied is enough in Canada, for the others it is express
INSERT INTO notif_private.consent (recipient_id, channel, category, category_name, granted, kind, basis, source, at, recorded_at, recorded_by)
SELECT r.id, ch, c.number, c.name, true, CASE r.country WHEN 'CA' THEN 'implied' ELSE 'express' END,
	   CASE r.country WHEN 'CA' THEN 'purchase' END, 'web', now(), now(), 'x'
FROM notif_private.recipient r CROSS JOIN notif_private.category c CROSS JOIN unnest('{push,inbox}'::text[]) ch WHERE c.name = 'limited';
INSERT INTO notif_private.profile SELECT p.* FROM notif_private.recipient r CROSS JOIN LATERAL notif_private.profile_of(r.id) p;
-- recent all the time: nothing settles it here
SELECT notif.suppress('nobody@example.com', reason => 'complaint');
SELECT notif.define_type('batch', 'limited', title => 'Batch {n}');
SELECT notif.define_digest('batch', wait => '1 hour', key => 'type', title => '{count} of {key}', body => '{items.0.n}');
SELECT notif.define_quiet_period('never', '00:00', '00:01', categories => '{limited}', dates => '{2001-01-01}');
CREATE SEQUENCE flights;
-- processor time of this backend, in milliseconds: the machine may be busy
CREATE FUNCTION cpu() RETURNS numeric LANGUAGE sql VOLATILE AS $$
	SELECT 10 * (f[12]::numeric + f[13]::numeric) FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '^.*\) ', ''), ' ') f
$$;
INSERT INTO notif_private.topic (name) VALUES ('all');
INSERT INTO notif_private.subscription (topic_id, recipient_id) SELECT t.id, r.id FROM notif_private.topic t, notif_private.recipient r;
EOS

# What a tier does with 800 events and a topic, in one session; prints the
# milliseconds of processor time of each step.
my $work = <<'EOS';
LOAD 'auto_explain';
SET auto_explain.log_min_duration = EXPLAIN_AT;
SET auto_explain.log_nested_statements = on;
\o /dev/null
SELECT count(notif.publish('limited', 'p' || (1 + (i * 7919) % 30000), jsonb_build_object('n', i))) FROM generate_series(1, 400) i;
SELECT count(notif.publish('note', 'p' || (1 + (i * 7919) % 30000), jsonb_build_object('n', i))) FROM generate_series(1, 400) i;
SELECT count(notif.publish('few', 'p' || i, '{"n": 1}')) FROM generate_series(1, 20) i, generate_series(1, 2);
SELECT count(notif.publish('batch', 'p' || (1 + (i * 7919) % 30000), jsonb_build_object('n', i))) FROM generate_series(1, 400) i, generate_series(1, 2);
SELECT notif.publish('note', topic => 'all', data => '{"n": 1}') AS topic \gset
\o
DO $$
DECLARE
	at	numeric := cpu();
	lane	integer := (SELECT id FROM notif_private.route);
	a	notif_private.attempt[];
	last	notif_private.attempt[];
	f	bigint := nextval('flights') * 1000;
	k	uuid;
	more	boolean := true;
	n	integer;
	released	integer;
	total	integer := 0;
BEGIN
	WHILE more LOOP
		SELECT r.more INTO more FROM notif_private.worker_route_standard(2000) r;
	END LOOP;
	COMMIT;
	RAISE NOTICE 'route %', cpu() - at;
	UPDATE notif_private.digest SET check_at = notif.now(), opened_at = notif.now() - interval '1 day';
	COMMIT;
	at := cpu();
	more := true;
	WHILE more LOOP
		SELECT d.more INTO more FROM notif_private.worker_digest_standard('-infinity') d;
		COMMIT;
	END LOOP;
	RAISE NOTICE 'tell %', cpu() - at;
	more := true;
	WHILE more LOOP
		SELECT r.more INTO more FROM notif_private.worker_route_standard(2000) r;
	END LOOP;
	COMMIT;
	at := cpu();
	-- of this run: those of earlier ones stay where they are
	SELECT max(x::text)::uuid INTO k FROM notif_private.worker_expansions_standard() x;
	PERFORM notif_private.worker_expand_standard(k, 2000);
	COMMIT;
	RAISE NOTICE 'expand %', cpu() - at;
	-- what waits is filed; what is due among it is released
	at := cpu();
	PERFORM notif.publish('later', 'p' || (1 + (i * 7919) % 30000), jsonb_build_object('n', i), deliver_at => notif.now() + interval '300 days')
	FROM generate_series(1, 500) i;
	PERFORM notif.publish('later', 'p' || (1 + (i * 7919) % 30000), jsonb_build_object('n', i), deliver_at => notif.now() + interval '10 s')
	FROM generate_series(1, 500) i;
	-- the look-up of a list of recipients is the session's own
	PERFORM set_config('enable_' || j, 'off', true) FROM unnest('{seqscan,bitmapscan,hashjoin,mergejoin}'::text[]) j;
	PERFORM notif.publish('later', recipients => ARRAY(SELECT 'p' || (1 + (i * 7919 + j) % 30000) FROM generate_series(1, 20) j), data => '{"n": 1}',
						  deliver_at_local => '2020-01-01 09:00') FROM generate_series(1, 10) i;
	PERFORM notif.publish('later', recipients => ARRAY(SELECT 'p' || j FROM generate_series(1, 600) j), data => '{"n": 1}', deliver_at_local => '2020-01-01 09:00');
	COMMIT;
	more := true;
	WHILE more LOOP
		SELECT r.more INTO more FROM notif_private.worker_route_bulk(2000) r;
		COMMIT;
	END LOOP;
	-- also of what the run before has released for some zones
	FOR k IN SELECT * FROM notif_private.worker_expansions_bulk() LOOP
		WHILE NOT (notif_private.worker_expand_bulk(k, 2000)).done LOOP
			COMMIT;
		END LOOP;
	END LOOP;
	COMMIT;
	PERFORM notif_private.shift_clock(11000000);
	RAISE NOTICE 'file %', cpu() - at;
	at := cpu();
	n := 0;
	LOOP
		SELECT r.released, r.more INTO released, more FROM notif_private.worker_release_bulk(500) r;
		COMMIT;
		n := n + released;
		EXIT WHEN NOT more;
	END LOOP;
	RAISE NOTICE 'release %', cpu() - at;
	RAISE NOTICE 'released %', n;
	at := cpu();
	LOOP
		f := f + 1;
		SELECT array_agg((c.delivery, c.attempt, c.tries, c.ord, c.event, c.type_id, c.recipient, c.endpoint, c.expires_at, notif.now(), NULL, NULL, NULL, NULL, NULL)::notif_private.attempt)
		INTO a FROM notif_private.worker_claim_standard(lane, 1000, 1, f) c WHERE c.delivery IS NOT NULL;
		COMMIT;
		EXIT WHEN a IS NULL;
		last := a;
		total := total + cardinality(a);
	END LOOP;
	a := last;
	n := cardinality(a);
	f := f - 1;
	RAISE NOTICE 'claim %', cpu() - at;
	at := cpu();
	PERFORM notif_private.worker_record_standard(lane, 1, 1, a,
		ARRAY(SELECT (ARRAY['accepted', 'retry', 'endpoint_suspect', 'endpoint_gone'])[1 + i % 4] FROM generate_series(1, n) i),
		array_fill('x'::text, ARRAY[n]), array_fill(200, ARRAY[n]), array_fill(''::text, ARRAY[n]), array_fill(1, ARRAY[n]),
		array_fill(0, ARRAY[n]), array_fill(0::bigint, ARRAY[n]), array_fill(f, ARRAY[n]), ARRAY[f]);
	RAISE NOTICE 'record %', cpu() - at;
	PERFORM notif_private.worker_next_due_standard(lane), notif_private.worker_events(ARRAY(SELECT (x).event FROM unnest(a) x));
	PERFORM notif_private.worker_recover_standard(2);
	RAISE NOTICE 'claimed %', total;
END
$$;
EOS

my %lies = (
	honest => 'ANALYZE',
	enormous => q{UPDATE pg_class SET reltuples = 1e9, relpages = 20000000 WHERE relnamespace = 'notif_private'::regnamespace AND relkind IN ('r', 'p', 'i')},
	tiny => q{UPDATE pg_class SET reltuples = 1, relpages = 1 WHERE relnamespace = 'notif_private'::regnamespace AND relkind IN ('r', 'p', 'i')},
	'never analysed' => q{
		DELETE FROM pg_statistic s USING pg_class c WHERE c.oid = s.starelid AND c.relnamespace = 'notif_private'::regnamespace;
		UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relnamespace = 'notif_private'::regnamespace AND relkind IN ('r', 'p', 'i')});

# Runs the work; %ms by step, the fastest of $times.
sub run_work
{
	my ($explain_at, $times) = @_;
	my %ms;

	for (1 .. $times)
	{
		my ($sql, $err) = ($work, '');

		$sql =~ s/EXPLAIN_AT/$explain_at/;
		# what an earlier run has judged lives again, so that all runs are alike
		one_value($node, q{UPDATE notif_private.endpoint SET state = 'active', quarantine_mark = NULL WHERE state <> 'active'});
		$node->psql('shop', $sql, stderr => \$err, on_error_die => 1);
		while ($err =~ /NOTICE:  (\w+) ([\d.]+)/g)
		{
			$ms{$1} = $2 if !defined $ms{$1} || $2 < $ms{$1} || $1 =~ /^(claimed|released)$/;
		}
	}
	return %ms;
}

my %honest;
run_work(-1, 1);			# partitions, sequences, caches
for my $lie ('honest', 'enormous', 'tiny', 'never analysed')
{
	one_value($node, $lies{$lie});
	my $from = -s $node->logfile;
	my %explained = run_work(0, 1);
	my $log = slurp_file($node->logfile, $from);
	my %scans;

	# only plans of notif's own statements, and base tables in them
	for my $plan (split /^\d{4}-\d\d-\d\d .*?(?=LOG:  duration)/m, $log)
	{
		next if $plan !~ /^LOG:  duration.*plan:/ || $plan !~ /notif_private/ || $plan =~ /Query Text: (?:DO|ANALYZE|UPDATE pg_class|UPDATE notif_private.digest SET check_at)/;
		my ($query) = $plan =~ /Query Text:\s*(.{0,300})/s;

		while ($plan =~ /(Seq Scan on (\w+)|Bitmap Heap Scan on \w+|Hash (?:\w+ )?Join|Merge (?:\w+ )?Join)/g)
		{
			my $what = $1;

			# the rows of these can be counted on one hand; the tally is read once
			# for a batch with a doubted token, the expansions at the router's start
			next if defined $2 && $2 =~ /^(rate_limit|zone|quiet_period|route|instance|pause|category|provider|app|type|topic|turn_standard|pg_\w+|tally_\w+)$/;
			next if $query =~ /^SELECT x\.key FROM \(SELECT DISTINCT ON/;
			$query =~ s/\s+/ /g;
			$scans{"$what in: $query"} = 1;
		}
	}
	is(join("\n", sort keys %scans), '', "$lie statistics: every base table is probed by its index");
	cmp_ok($explained{claimed}, '>=', 2700, "$lie statistics: claims are full");
	cmp_ok($explained{released}, '>=', 511, "$lie statistics: what is due is released");
	one_value($node, $lies{$lie});
	my %ms = run_work(-1, 3);
	%honest = %ms if $lie eq 'honest';
	for my $step ('route', 'tell', 'expand', 'file', 'release', 'claim', 'record')
	{
		cmp_ok($ms{$step}, '<=', 2 * $honest{$step} + 40, sprintf '%s statistics: %s takes %d ms, honest %d ms', $lie, $step, $ms{$step}, $honest{$step});
	}
}
$node->stop;
done_testing();
