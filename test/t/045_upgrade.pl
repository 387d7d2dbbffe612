# F-D-12: the extension is upgraded under load.  Workers leave before the script runs
# and do not come back to objects of another release than the library's; publishing
# goes on, nothing is lost or sent twice; and what an upgrade leaves is what a fresh
# installation has.
#
# There is no earlier release yet.  The older one of this test is this one, changed:
# queues with a column more, a table, and a function that every claim calls and that
# raises, so that a worker which claimed would be seen.
use strict;
use warnings FATAL => 'all';
use lib 'test/t/lib';
use IPC::Run;
use NotifTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($version) = slurp_file('notif.control') =~ /default_version\s*=\s*'([^']+)'/;
my $older = '0.0.0';
chomp(my $scripts = `pg_config --sharedir`);
$scripts .= '/extension';
my @made = map { "$scripts/notif--$_.sql" } ($older, "$older--$version", "$version--$older");
END { unlink @made; }

sub spew
{
	my ($file, $text) = @_;

	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out or die "$file: $!";
	return;
}

my $script = slurp_file("$scripts/notif--$version.sql");
my ($function) = $script =~ /^(CREATE FUNCTION notif_private\.assert_conserved\(.*?^\$\$;\n)/ms
  or die 'no such function any more';
(my $back = $function) =~ s/^CREATE FUNCTION/CREATE OR REPLACE FUNCTION/;
my $down = <<'EOS';
CREATE TABLE notif_private.older (id integer PRIMARY KEY);
CREATE INDEX older_index ON notif_private.type (title);
ALTER TABLE notif_private.event ADD COLUMN older integer;
ALTER TABLE notif_private.outbox_standard ADD COLUMN older integer;
COMMENT ON VIEW notif.state IS 'older';
GRANT SELECT ON notif_private.event TO notif_worker;
CREATE OR REPLACE FUNCTION notif_private.assert_conserved(p_read bigint, p_flight bigint, p_stopped bigint, p_refiled bigint) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ BEGIN RAISE 'a claim by the older release'; END $$;
EOS
my ($comment) = $script =~ /^(COMMENT ON VIEW notif\.state IS.*?;\n)/ms or die 'no such comment any more';
my $up = <<"EOS";
DROP TABLE notif_private.older;
DROP INDEX notif_private.older_index;
ALTER TABLE notif_private.event DROP COLUMN older;
ALTER TABLE notif_private.outbox_standard DROP COLUMN older;
REVOKE SELECT ON notif_private.event FROM notif_worker;
$comment$back
EOS
spew($made[0], "$script\n$down");
spew($made[1], $up);
spew($made[2], $down);

# ---- what an upgrade leaves ----------------------------------------------------------

my ($node, $sandbox) = new_shop('upgrade');

# Every object of the extension, a line for each thing that is to be known of it.
sub catalog
{
	my ($database) = @_;

	return split /\n/, $node->safe_psql($database, <<'EOS');
SET search_path = pg_catalog;
WITH member AS (
	SELECT d.classid, d.objid, i.type, i.identity
	  FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
	 WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'notif')),
relation AS (
	SELECT m.identity, c.* FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass
	UNION ALL
	SELECT m.identity, c.* FROM member m JOIN pg_type t ON t.oid = m.objid JOIN pg_class c ON c.oid = t.typrelid
	 WHERE m.classid = 'pg_type'::regclass AND c.relkind = 'c')
SELECT regexp_replace(concat_ws(' | ', x.kind, x.identity, x.told), '\s+', ' ', 'g') FROM (
	SELECT m.type AS kind, m.identity, obj_description(m.objid, m.classid::regclass::text) AS told FROM member m
	UNION ALL
	SELECT 'function', m.identity, concat_ws(' ', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl)
	  FROM member m JOIN pg_proc p ON p.oid = m.objid AND p.prokind IN ('f', 'p') WHERE m.classid = 'pg_proc'::regclass
	UNION ALL
	SELECT 'relation', r.identity, concat_ws(' ', r.relkind, r.relpersistence, r.relrowsecurity, r.reloptions, r.relowner::regrole,
		(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(r.relacl) a), pg_get_partkeydef(r.oid), pg_get_expr(r.relpartbound, r.oid),
		CASE WHEN r.relkind = 'v' THEN pg_get_viewdef(r.oid) END)
	  FROM relation r
	UNION ALL
	SELECT 'column', r.identity, concat_ws(' ', row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
		a.attnotnull, a.attstorage, a.attidentity, a.attgenerated, a.attacl, pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum))
	  FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL
	SELECT 'constraint', r.identity, concat_ws(' ', c.conname, pg_get_constraintdef(c.oid), c.convalidated)
	  FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
	UNION ALL
	SELECT 'index', r.identity, concat_ws(' ', pg_get_indexdef(i.indexrelid), c.reloptions)
	  FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
	UNION ALL
	SELECT 'trigger', r.identity, pg_get_triggerdef(t.oid) FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT 'sequence', r.identity, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle)
	  FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT 'type', m.identity, concat_ws(' ', t.typtype, t.typacl, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
	  FROM member m JOIN pg_type t ON t.oid = m.objid WHERE m.classid = 'pg_type'::regclass
	UNION ALL
	SELECT 'dumped', c::regclass::text, w FROM pg_extension x, unnest(x.extconfig, x.extcondition) u(c, w) WHERE x.extname = 'notif') x
ORDER BY 1
EOS
}

# Lines of which one list has more than the other: '- ' only the first, '+ ' only the second.
sub differences
{
	my ($one, $other) = @_;
	my %n;

	$n{$_}-- for @$one;
	$n{$_}++ for @$other;
	return map { ($n{$_} < 0 ? '- ' : '+ ') . $_ } grep { $n{$_} } sort keys %n;
}

$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(fresh upgraded);
$node->safe_psql('fresh', 'CREATE EXTENSION notif');
$node->safe_psql('upgraded', "CREATE EXTENSION notif VERSION '$older'");
my @fresh = catalog('fresh');
cmp_ok(scalar @fresh, '>', 2000, scalar(@fresh) . ' lines tell of the objects');
my @seen = differences(\@fresh, [ catalog('upgraded') ]);
for my $what (
	qr/^\+ table \| notif_private\.older/, qr/^\+ index \| notif_private\.type .*older_index/, qr/^\+ column \| notif_private\.event .*older/,
	qr/^\+ column \| notif_private\.outbox_standard_7 .*older/, qr/^\+ view \| notif\.state \| older/, qr/^\+ relation \| notif_private\.event .*notif_worker=r/,
	qr/^\+ function \| notif_private\.assert_conserved.*older release/)
{
	ok(scalar(grep { $_ =~ $what } @seen), "the comparison sees $what");
}
$node->safe_psql('upgraded', 'ALTER EXTENSION notif UPDATE');
is(join("\n", differences(\@fresh, [ catalog('upgraded') ])), '', 'F-D-12: the upgraded catalog is the fresh one');

# ---- under load ------------------------------------------------------------------------

people($node, 50);
$sandbox->fault('delay_ms=20');
my ($out, $err) = ('', '');
spew("$sandbox->{dir}/publish.sql", <<'EOS');
\set n random(1, 50)
SELECT notif.publish((ARRAY['note', 'money', 'code', 'news'])[1 + :n % 4], 'p' || :n, '{"n": 1}');
EOS
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', 600, '-R', 400, '-f', "$sandbox->{dir}/publish.sql", $node->connstr('shop') ],
	'>', \$out, '2>', \$err);
sub published { return one_value($node, 'SELECT count(*) FROM notif_private.event'); }
sub version_check { return one_value($node, q{SELECT ok FROM notif.health() WHERE check_name = 'version'}); }

for my $round (1 .. 3)
{
	my $name = "F-D-12, round $round";
	my $sent = $sandbox->count;

	ok($sandbox->wait_count($sent + 200), "$name: under load");
	is(version_check(), 't', "$name: one version");
	# the load may stand in the way of the script's locks, never the workers
	$node->safe_psql('shop', "ALTER EXTENSION notif UPDATE TO '$older'");
	ok( wait_true($node, 'SELECT count(*) = ' . NotifTest::WORKERS . q{ FROM notif_private.worker_status() WHERE database = 'shop' AND state = 'waiting for one version'}),
		"$name: no worker of the library's release serves objects of another");
	is(version_check(), 'f', "$name: which notif.health() says");
	$sent = $sandbox->count;
	my $before = published();
	ok(wait_true($node, "SELECT count(*) > $before + 200 FROM notif_private.event"), "$name: publishing goes on");
	is($sandbox->count, $sent, "$name: and nothing is sent");
	$node->safe_psql('shop', 'ALTER EXTENSION notif UPDATE');
	ok(wait_running($node), "$name: upgraded, all workers run");
	ok($sandbox->wait_count($sent + 200), "$name: and send what has waited");
}

$node->safe_psql('shop', "BEGIN; ALTER EXTENSION notif UPDATE TO '$older'; ROLLBACK");
ok(wait_running($node), 'F-D-12: an upgrade that is rolled back leaves the workers at work');

# Two at once: when the first ended it would let the workers in, so the second is refused.
my $first = $node->background_psql('shop');
$first->query_safe("BEGIN; ALTER EXTENSION notif UPDATE TO '$older'");
my ($rc, $stdout, $stderr) = $node->psql('shop', "\\set VERBOSITY verbose\nALTER EXTENSION notif UPDATE TO '$older'");
like($stderr, qr/ERROR:  55006: workers of notif have not left the database/, 'F-D-12: no script runs while workers could come in');
$first->query_safe('ROLLBACK');
$first->quit;
ok(wait_running($node), 'F-D-12: after both the workers are at work');
ok($load->pumpable, 'the load has run all the time');
$load->signal('INT');
$load->finish;
unlike($err, qr/ERROR|aborted/, 'F-D-12: no publish has failed');

$sandbox->fault('clear');
ok(wait_idle($node), 'all deliveries end');
my $published = published();
my ($ok, $totals) = check_ledger($node, $sandbox);
ok($ok, 'F-D-12: the checker is content');
is("$totals->{delivered} $totals->{lost} $totals->{duplicated} $totals->{unexpected}", "$published 0 0 0", 'F-D-12: each arrived once');
balanced($node, 'F-D-12');
is(join("\n", differences(\@fresh, [ catalog('shop') ])), '', 'F-D-12: after all that the catalog is the fresh one');
my $log = slurp_file($node->logfile);
my @told = $log =~ /the extension there is version \Q$older\E, the server has loaded version \Q$version\E/g;
is(scalar @told, 3, 'F-D-12: the log says each time what is missing, once');
unlike($log, qr/by the older release/, 'F-D-12: no worker has called what is not its own');
no_crash($node, 'a clean log');
$node->stop;
done_testing();
