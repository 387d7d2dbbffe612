# F-T-2, F-T-3, F-T-5: quiet hours in every zone of the server's tz database, 2020 to
# 2037, against an independent reading of the same windows: nothing is let go inside
# one, and nothing waits for longer than its end.  A share of all cases is taken, the
# same at every run; QUIET_SHARE=1000 takes all.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $share = $ENV{QUIET_SHARE} // 5;
my $node = PostgreSQL::Test::Cluster->new('zones');

$node->init;
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION notif');

my $dir = PostgreSQL::Test::Utils::tempdir('zones');
my $zones = $node->safe_psql('postgres', q{
	SELECT name FROM pg_timezone_names
	WHERE name !~ '^(posix|right)/' AND name NOT IN ('localtime', 'posixrules', 'Factory') ORDER BY name});
PostgreSQL::Test::Utils::append_to_file("$dir/zones", "$zones\n");
my @names = split /\n/, $zones;
my $count = @names;
cmp_ok($count, '>', 400, 'the server knows its zones');

my ($cases, $errors) = ('', '');
ok(IPC::Run::run([ 'python3', 'test/t/quiet_zones.py', 'cases', $share, "$dir/zones" ], '>', "$dir/cases", '2>', \$errors), 'cases are made');
is($errors, '', 'of every zone');

$node->safe_psql('postgres', 'CREATE TABLE quiet_case (zone text, windows smallint[], at bigint, until bigint)');
$node->safe_psql('postgres', "\\copy quiet_case FROM '$dir/cases'");
my ($n, $of) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT zone) FROM quiet_case');
note("$n cases of $of zones");
cmp_ok($n, '>', 5000, 'there are enough');
is($of, $count, 'of all zones');

$node->safe_psql('postgres', q{
	CREATE TABLE quiet_said AS
	SELECT c.*, extract(epoch FROM notif_private.quiet_until(c.windows, NULL, c.zone, to_timestamp(c.at)))::bigint AS said FROM quiet_case c});
my $worst = q{(SELECT string_agg(x::text, E'\n') FROM (SELECT * FROM quiet_said WHERE %s ORDER BY zone, at LIMIT 10) x)};
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'until IS NOT NULL AND said IS NULL')), '', 'F-T-5: nothing is let go inside a window');
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'said < until')), '', 'F-T-2, F-T-3: nothing goes before its end');
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'said > until OR until IS NULL AND said IS NOT NULL')), '', 'F-T-5: nothing waits beyond it');
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'notif_private.quiet_until(windows, NULL, zone, to_timestamp(said)) IS NOT NULL AND said > at')),
	'', 'its end is outside of every window');
$node->stop;
done_testing();
