/*
 * unit.h
 *		The smallest harness that unit tests of the layers below PostgreSQL need.
 *
 * A test is a program: main() calls checks and returns unit_done().  A failed
 * check prints where and what, counts, and the program goes on, so that one
 * run shows every failure.  The last line, "N passed, M failed", is what the
 * runner adds up.
 */
#ifndef NOTIF_TEST_UNIT_H
#define NOTIF_TEST_UNIT_H

#include <stdio.h>
#include <string.h>

static int	unit_passed;
static int	unit_failed;

static inline int
unit_check(int ok, const char *file, int line, const char *what)
{
	if (ok)
		unit_passed++;
	else
	{
		unit_failed++;
		fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	}
	return ok;
}

static inline int
unit_check_str(const char *got, const char *want, const char *file, int line, const char *what)
{
	int			ok = got != NULL && want != NULL ? strcmp(got, want) == 0 : got == want;

	unit_check(ok, file, line, what);
	if (!ok)
		fprintf(stderr, "  got  \"%s\"\n  want \"%s\"\n",
				got != NULL ? got : "(null)", want != NULL ? want : "(null)");
	return ok;
}

static inline int
unit_check_int(long long got, long long want, const char *file, int line, const char *what)
{
	unit_check(got == want, file, line, what);
	if (got != want)
		fprintf(stderr, "  got  %lld\n  want %lld\n", got, want);
	return got == want;
}

/* Each counts one check and yields whether it held. */
#define CHECK(cond) \
	unit_check((cond) ? 1 : 0, __FILE__, __LINE__, #cond)
#define CHECK_STR(got, want) \
	unit_check_str((got), (want), __FILE__, __LINE__, #got)
#define CHECK_INT(got, want) \
	unit_check_int((long long) (got), (long long) (want), __FILE__, __LINE__, #got)

/* Prints the sum; main returns what this returns. */
static inline int
unit_done(void)
{
	printf("%d passed, %d failed\n", unit_passed, unit_failed);
	fflush(stdout);
	return unit_failed == 0 && unit_passed > 0 ? 0 : 1;
}

#endif							/* NOTIF_TEST_UNIT_H */
