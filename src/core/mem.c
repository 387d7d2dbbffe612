/*
 * mem.c
 *		Allocation with replaceable hooks; see mem.h.
 */
#include "mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const NotifMemHooks mem_libc = {malloc, realloc, free};
static const NotifMemHooks *mem_hooks = &mem_libc;

void
notif_mem_set_hooks(const NotifMemHooks *hooks)
{
	mem_hooks = hooks != NULL ? hooks : &mem_libc;
}

void *
notif_malloc(size_t size)
{
	return mem_hooks->malloc_fn(size > 0 ? size : 1);
}

void *
notif_calloc(size_t count, size_t size)
{
	void	   *ptr;

	if (size > 0 && count > SIZE_MAX / size)
		return NULL;
	ptr = notif_malloc(count * size);
	if (ptr != NULL)
		memset(ptr, 0, count * size);
	return ptr;
}

void *
notif_realloc(void *ptr, size_t size)
{
	return mem_hooks->realloc_fn(ptr, size > 0 ? size : 1);
}

char *
notif_strdup(const char *text)
{
	return notif_strndup(text, strlen(text));
}

char *
notif_strndup(const char *text, size_t len)
{
	char	   *copy = notif_malloc(len + 1);

	if (copy == NULL)
		return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

void *
notif_memdup(const void *data, size_t len)
{
	void	   *copy = notif_malloc(len);

	if (copy != NULL && len > 0)
		memcpy(copy, data, len);
	return copy;
}

void
notif_free(void *ptr)
{
	if (ptr != NULL)
		mem_hooks->free_fn(ptr);
}
