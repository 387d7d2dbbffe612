# A server whose operating system is in trouble on demand: a full disk, a wrong
# clock.  See os_faults.c, which is compiled here.
package OsFaults;

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

# Where the fields of os_faults.c lie, and how they are packed.
my %fields = (clock_us => [ 0, 'q' ], data_full => [ 8, 'L' ], wal_full => [ 12, 'L' ], refused => [ 16, 'Q' ]);

sub new
{
	my ($class) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir('osfaults');
	my $self = bless { file => "$dir/faults", library => "$dir/os_faults.so" }, $class;

	append_to_file($self->{file}, "\0" x 24);
	system($ENV{CC} // 'cc', '-std=gnu11', '-D_GNU_SOURCE', '-O1', '-shared', '-fPIC', '-o', $self->{library},
		'test/t/lib/os_faults.c', '-ldl') == 0
	  or die 'could not compile os_faults.c';
	return $self;
}

# Starts a server that has these faults.
sub start
{
	my ($self, $node, @options) = @_;
	local $ENV{LD_PRELOAD} = $self->{library};
	local $ENV{NOTIF_OS_FAULTS} = $self->{file};

	return $node->start(@options);
}

# Sets a field, at once for every process of the server.
sub set
{
	my ($self, $field, $value) = @_;
	my ($at, $form) = @{ $fields{$field} };

	open my $file, '+<:raw', $self->{file} or die "$self->{file}: $!";
	seek $file, $at, 0;
	syswrite $file, pack($form, $value);
	close $file;
	return;
}

sub get
{
	my ($self, $field) = @_;
	my ($at, $form) = @{ $fields{$field} };

	return unpack $form, substr(slurp_file($self->{file}), $at, 8);
}

1;
