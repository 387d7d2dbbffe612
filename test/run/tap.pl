# Runs TAP files and counts their tests; the suite's line is the last one.
#
# usage: tap.pl LIBDIR JOBS FILE...
#
# Beside failed tests, a file that died, ran another number of tests than it
# planned, or ran none without saying why, counts as one failure.
use strict;
use warnings FATAL => 'all';
use TAP::Harness;
use File::Basename qw(basename);

my ($libdir, $jobs, @files) = @ARGV;
my $harness = TAP::Harness->new(
	{
		lib => [ $libdir, 'test/t' ],
		jobs => $jobs,
		verbosity => $ENV{TAP_VERBOSE} ? 1 : -1,
		failures => 1,
		timer => 1,
		merge => 0,
	});

my $aggregate = $harness->runtests(@files);
my ($passed, $failed) = (scalar $aggregate->passed, 0);

for my $parser ($aggregate->parsers(@files))
{
	my $bad = $parser->failed;
	my $broken = $parser->has_problems
	  || (!$parser->tests_run && !defined $parser->skip_all);

	$bad = 1 if !$bad && $broken;
	$failed += $bad;
}

# The log of each failed file says more than its TAP.
my $log_dir = "$ENV{TESTDIR}/tmp_check/log";
for my $file (@files)
{
	my ($parser) = $aggregate->parsers($file);

	next if !$parser->has_problems;
	my $log = "$log_dir/regress_log_" . basename($file, '.pl');
	if (open my $fh, '<', $log)
	{
		my @lines = <$fh>;
		my $from = @lines > 40 ? @lines - 40 : 0;

		print "--- last lines of ", basename($log), "\n";
		print "    $_" for @lines[ $from .. $#lines ];
	}
}

print "tap: $passed passed, $failed failed\n";
exit($failed ? 1 : 0);
