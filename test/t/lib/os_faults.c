/*
 * os_faults.c
 *		An operating system in trouble, on demand: preloaded (LD_PRELOAD) into a
 *		server that a test starts, without any rights.
 *
 * The file that NOTIF_OS_FAULTS names is mapped by every process of the server:
 * what the test writes there holds from the next call on.
 *
 *		clock_us	the wall clock is off by so much; the monotonic one never is
 *		data_full	files below base/ cannot grow: ENOSPC, as on a full disk;
 *					what they hold can be written anew
 *		wal_full	a new WAL segment cannot be filled
 *		refused		counts the calls that were refused
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef struct OsFaults
{
	int64_t		clock_us;
	uint32_t	data_full;
	uint32_t	wal_full;
	uint64_t	refused;
} OsFaults;

static OsFaults none;
static volatile OsFaults *faults = &none;

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		*(void **) &real = dlsym(RTLD_NEXT, #name)

static __attribute__((constructor)) void
os_faults_attach(void)
{
	const char *path = getenv("NOTIF_OS_FAULTS");
	int			fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void	   *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(OsFaults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		faults = map;
}

/* ---- the disk -------------------------------------------------------------- */

/* Whether a write of so many bytes at this place finds no room. */
static int
no_room(int fd, off_t offset, size_t bytes)
{
	char		link[32];
	char		path[4096];
	ssize_t		n;
	struct stat st;
	int			full = 0;

	if (!faults->data_full && !faults->wal_full)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return 0;
	path[n] = '\0';
	if (faults->wal_full && strstr(path, "/pg_wal/xlogtemp.") != NULL)
		full = 1;
	else if (faults->data_full && strstr(path, "/base/") != NULL &&
			 fstat(fd, &st) == 0 && offset + (off_t) bytes > st.st_size)
		full = 1;
	if (full)
		__atomic_fetch_add(&faults->refused, 1, __ATOMIC_RELAXED);
	return full;
}

static size_t
total(const struct iovec *iov, int n)
{
	size_t		bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

ssize_t
pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
	REAL(pwrite);
	if (no_room(fd, offset, bytes))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, data, bytes, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t bytes, off64_t offset)
{
	return pwrite(fd, data, bytes, offset);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	REAL(pwritev);
	if (no_room(fd, offset, total(iov, n)))
	{
		errno = ENOSPC;
		return -1;
	}
	return real(fd, iov, n, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	return pwritev(fd, iov, n, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t bytes)
{
	REAL(posix_fallocate);
	return no_room(fd, offset, (size_t) bytes) ? ENOSPC : real(fd, offset, bytes);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t bytes)
{
	return posix_fallocate(fd, offset, bytes);
}

/* ---- the clock ------------------------------------------------------------- */

int
clock_gettime(clockid_t clock, struct timespec *at)
{
	int			rc;
	int64_t		us = faults->clock_us;

	REAL(clock_gettime);
	rc = real(clock, at);
	if (rc == 0 && us != 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
	{
		us += (int64_t) at->tv_sec * 1000000 + at->tv_nsec / 1000;
		at->tv_sec = us / 1000000;
		at->tv_nsec = us % 1000000 * 1000;
	}
	return rc;
}

int
gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	at->tv_sec = now.tv_sec;
	at->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *at)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return (time_t) -1;
	if (at != NULL)
		*at = now.tv_sec;
	return now.tv_sec;
}
