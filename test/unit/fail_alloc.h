/*
 * fail_alloc.h
 *		An allocator whose nth call fails, for tests that walk every failure.
 *
 * Use:  for (long n = 1; fail_alloc_begin(n), run(), fail_alloc_end(); n++) ;
 * fail_alloc_end() is true while the failure was reached, so the loop ends with
 * the first run that needs fewer than n allocations.
 */
#ifndef NOTIF_TEST_FAIL_ALLOC_H
#define NOTIF_TEST_FAIL_ALLOC_H

#include <stdbool.h>
#include <stdlib.h>

#include "../../src/core/mem.h"

static long fail_alloc_countdown;
static bool fail_alloc_hit;

static bool
fail_alloc_now(void)
{
	if (fail_alloc_countdown > 0 && --fail_alloc_countdown == 0)
	{
		fail_alloc_hit = true;
		return true;
	}
	return false;
}

static void *
fail_alloc_malloc(size_t size)
{
	return fail_alloc_now() ? NULL : malloc(size);
}

static void *
fail_alloc_realloc(void *ptr, size_t size)
{
	return fail_alloc_now() ? NULL : realloc(ptr, size);
}

static inline void
fail_alloc_begin(long nth)
{
	static const NotifMemHooks hooks = {fail_alloc_malloc, fail_alloc_realloc, free};

	fail_alloc_countdown = nth;
	fail_alloc_hit = false;
	notif_mem_set_hooks(&hooks);
}

static inline bool
fail_alloc_end(void)
{
	notif_mem_set_hooks(NULL);
	return fail_alloc_hit;
}

#endif							/* NOTIF_TEST_FAIL_ALLOC_H */
