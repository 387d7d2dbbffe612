# Local times in every zone of the server's tz database, 2020 to 2037, against an
# independent reading: about every change of a clock, a share of them the same at each
# run (QUIET_SHARE=100 takes all); and that a walk through all zones serves each once.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $share = $ENV{QUIET_SHARE} // 5;
my $node = PostgreSQL::Test::Cluster->new('local');

$node->init;
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION notif');

my $dir = PostgreSQL::Test::Utils::tempdir('local');
my $zones = $node->safe_psql('postgres', q{
	SELECT name FROM pg_timezone_names
	WHERE name !~ '^(posix|right)/' AND name NOT IN ('localtime', 'posixrules', 'Factory') ORDER BY name});
PostgreSQL::Test::Utils::append_to_file("$dir/zones", "$zones\n");
my @names = split /\n/, $zones;
my $count = @names;
cmp_ok($count, '>', 400, 'the server knows its zones');

my $errors = '';
ok(IPC::Run::run([ 'python3', 'test/t/quiet_zones.py', 'instants', $share, "$dir/zones" ], '>', "$dir/cases", '2>', \$errors), 'cases are made');
is($errors, '', 'of every zone');
$node->safe_psql('postgres', 'CREATE TABLE local_case (zone text, local timestamp, at bigint)');
$node->safe_psql('postgres', "\\copy local_case FROM '$dir/cases'");
my ($n, $of) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT zone) FROM local_case');
note("$n local times of $of zones");
cmp_ok($n, '>', 5000, 'there are enough');
is($of, $count, 'of all zones');

$node->safe_psql('postgres', q{
	CREATE TABLE local_said AS
	SELECT c.*, n.at AS instant, extract(epoch FROM n.at)::bigint AS said, n.zones
	FROM local_case c, notif_private.next_instant(c.local, ARRAY[c.zone], NULL, NULL) n});
is($node->safe_psql('postgres', q{SELECT string_agg(x::text, E'\n') FROM (SELECT * FROM local_said WHERE said IS DISTINCT FROM at OR zones <> ARRAY[zone] ORDER BY zone, local LIMIT 10) x}),
	'', 'the instant is that of the independent reading');
# What the clock shows then: the time itself, or in a gap a later one.  For names that
# are abbreviations, too, AT TIME ZONE knows no daylight saving.
is($node->safe_psql('postgres', q{SELECT string_agg(x::text, E'\n') FROM (SELECT *, instant AT TIME ZONE zone AS shows FROM local_said
		WHERE instant AT TIME ZONE zone < local AND NOT EXISTS (SELECT FROM pg_timezone_abbrevs a WHERE a.abbrev = zone) ORDER BY zone, local LIMIT 10) x}),
	'', 'nowhere is it told before its time');

# From instant to instant, as releases go: each zone once, in ascending order, within
# the 26 hours that a day is long, and two where a clock changes.
is($node->safe_psql('postgres', q{
	WITH RECURSIVE every AS (SELECT array_agg(DISTINCT zone) AS zones FROM local_case),
	day AS (SELECT d::timestamp + interval '9 hours' AS local FROM generate_series(date '2027-01-01', date '2027-12-31', interval '5 days') d
			UNION ALL SELECT t FROM unnest('{2027-03-14 02:30, 2027-03-28 02:30, 2027-10-31 02:30, 2027-11-07 01:30}'::timestamp[]) t),
	walk AS (
		SELECT d.local, n.at, n.zones FROM day d, every e, notif_private.next_instant(d.local, e.zones, NULL, NULL) n
		UNION ALL
		SELECT w.local, n.at, n.zones FROM walk w, every e, notif_private.next_instant(w.local, e.zones, NULL, w.at) n WHERE n.at > w.at)
	SELECT string_agg(x.local::text, ', ') FROM (
		SELECT w.local FROM walk w CROSS JOIN LATERAL unnest(w.zones) z(zone) GROUP BY w.local
		HAVING count(*) <> (SELECT cardinality(zones) FROM every) OR count(DISTINCT z.zone) <> count(*) OR max(w.at) - min(w.at) > interval '28 hours') x}),
	'', 'a walk through all zones serves each of them once');
$node->stop;
done_testing();
