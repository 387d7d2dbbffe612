# docs/sql-reference.md is what the comments in the database say.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('reference');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION notif');

# One line of markdown a row, in the order of the page.
my $page = $node->safe_psql('postgres', q{
	WITH item AS (
		SELECT 1 AS part, p.proname::text AS name,
			   format('notif.%s(%s)', p.proname, pg_get_function_arguments(p.oid)) AS title,
			   format('returns `%s`', pg_get_function_result(p.oid)) AS says, obj_description(p.oid, 'pg_proc') AS text
		  FROM pg_proc p WHERE p.pronamespace = 'notif'::regnamespace
		UNION ALL
		SELECT 2, c.relname, format('notif.%s', c.relname),
			   (SELECT string_agg(format('`%s` %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
				  FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
			   obj_description(c.oid, 'pg_class')
		  FROM pg_class c WHERE c.relnamespace = 'notif'::regnamespace AND c.relkind = 'v'
		UNION ALL
		SELECT 3, t.typname, format('notif.%s', t.typname),
			   (SELECT string_agg(format('`%s`', e.enumlabel), ', ' ORDER BY e.enumsortorder)
				  FROM pg_enum e WHERE e.enumtypid = t.oid),
			   obj_description(t.oid, 'pg_type')
		  FROM pg_type t WHERE t.typnamespace = 'notif'::regnamespace AND t.typtype = 'e'
	), line AS (
		SELECT part, '' AS name, 0 AS n,
			   E'\n## ' || (ARRAY['Functions', 'Views', 'Types'])[part] AS text FROM generate_series(1, 3) part
		UNION ALL
		SELECT part, name, 1, format(E'\n### %s\n\n%s\n\n%s', name, '`' || title || '` ' || says,
									 regexp_replace(text, E'\n', E'\n\n', 'g')) FROM item
	)
	SELECT string_agg(text, E'\n' ORDER BY part, name, n, text) FROM line
});
$page = "# SQL reference\n\nMade from the comments in the database by `test/t/070_reference.pl`; change those.\n" . $page . "\n";
$node->stop;

my $file = 'docs/sql-reference.md';
my $current = -e $file ? slurp_file($file) : '';
if ($current ne $page)
{
	# kept in build/log, to be copied over the old one
	PostgreSQL::Test::Utils::append_to_file("$ENV{NOTIF_LOG}/sql-reference.md", $page);
}
ok($current eq $page, "$file is current (else copy build/log/sql-reference.md over it)");
done_testing();
