/*
 * mem.h
 *		The one allocator of the layers below PostgreSQL.
 *
 * Plain malloc underneath, never palloc: library callbacks and resolver
 * threads must not enter PostgreSQL's allocator.  All calls go through one
 * table of hooks so that a test can make the nth allocation fail.
 */
#ifndef NOTIF_CORE_MEM_H
#define NOTIF_CORE_MEM_H

#include <stddef.h>

typedef struct NotifMemHooks
{
	void	   *(*malloc_fn) (size_t size);
	void	   *(*realloc_fn) (void *ptr, size_t size);
	void		(*free_fn) (void *ptr);
} NotifMemHooks;

/* Replaces the allocator; NULL restores malloc.  Tests only, single-threaded. */
void		notif_mem_set_hooks(const NotifMemHooks *hooks);

/* All return NULL when out of memory; the caller owns what it gets. */
void	   *notif_malloc(size_t size);
void	   *notif_calloc(size_t count, size_t size);	/* zeroed, overflow-checked */
void	   *notif_realloc(void *ptr, size_t size);
char	   *notif_strdup(const char *text);
char	   *notif_strndup(const char *text, size_t len);
void	   *notif_memdup(const void *data, size_t len);

/* Accepts NULL. */
void		notif_free(void *ptr);

#endif							/* NOTIF_CORE_MEM_H */
