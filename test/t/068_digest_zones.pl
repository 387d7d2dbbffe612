# When daily, weekly and hourly digests are due, in zones with all kinds of clocks,
# against an independent reading of the same rule.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# half hours and quarters, southern summers, half an hour of summer, none, Ramadan,
# changes at midnight
my @zones = qw(Europe/Berlin America/New_York America/St_Johns Asia/Kathmandu Australia/Lord_Howe Pacific/Chatham
  America/Santiago Africa/Casablanca Asia/Beirut Africa/Cairo Pacific/Kiritimati UTC);
my $node = PostgreSQL::Test::Cluster->new('zones');

$node->init;
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION notif');

my $dir = PostgreSQL::Test::Utils::tempdir('zones');
my $errors = '';
ok(IPC::Run::run([ 'python3', 'test/t/digest_zones.py', @zones ], '>', "$dir/cases", '2>', \$errors), 'cases are made');
is($errors, '', 'of every zone');
$node->safe_psql('postgres', 'CREATE TABLE digest_case (minute integer, weekday integer, zone text, at bigint, next bigint)');
$node->safe_psql('postgres', "\\copy digest_case FROM '$dir/cases'");
my ($n, $of) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT zone) FROM digest_case');
note("$n cases of $of zones");
cmp_ok($n, '>', 1500, 'there are enough');
is($of, scalar(@zones), 'of all zones');
$node->safe_psql('postgres', q{
	CREATE TABLE digest_said AS
	SELECT c.*, extract(epoch FROM notif_private.next_local_time(c.minute, c.weekday, c.zone, to_timestamp(c.at)))::bigint AS said FROM digest_case c});
my $worst = q{(SELECT string_agg(x::text, E'\n') FROM (SELECT * FROM digest_said WHERE %s ORDER BY zone, at LIMIT 10) x)};
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'said <= at')), '', 'none is due before it is opened');
is($node->safe_psql('postgres', 'SELECT ' . sprintf($worst, 'said <> next')), '', 'each is due when its owner\'s clock shows it');
$node->stop;
done_testing();
