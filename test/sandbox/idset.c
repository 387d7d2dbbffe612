/*
 * idset.c
 *		Every apns-id that reached the ledger, to count duplicates.
 *
 * Open addressing over (id, offset of its first ledger line, count), 24 bytes
 * a slot, grown at three quarters: 2 million ids take 96 MB.  Beyond
 * --max-ids new ids are not remembered and the statistics say how many, so
 * that a duplicate count is never silently too low.
 */
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>

typedef struct IdSlot
{
	uint8_t		id[16];
	uint64_t	offset:40;
	uint64_t	count:24;		/* 0 = free */
} IdSlot;

_Static_assert(sizeof(IdSlot) == 24, "the memory figure above counts on it");

#define IDSET_MAX_COUNT ((1u << 24) - 1)

static IdSlot *idset_slots;
static size_t idset_size;
static size_t idset_used;

/*
 * UUIDs from clients are mostly random, but time-ordered ones share their
 * first bytes, so both halves are mixed.
 */
static size_t
idset_hash(const uint8_t id[16])
{
	uint64_t	a;
	uint64_t	b;

	memcpy(&a, id, 8);
	memcpy(&b, id + 8, 8);
	a = (a ^ (b * 0x9E3779B97F4A7C15ULL)) * 0xD6E8FEB86659FD93ULL;
	return (size_t) (a ^ (a >> 32));
}

static IdSlot *
idset_probe(const uint8_t id[16])
{
	size_t		i = idset_hash(id) & (idset_size - 1);

	while (idset_slots[i].count != 0 && memcmp(idset_slots[i].id, id, 16) != 0)
		i = (i + 1) & (idset_size - 1);
	return &idset_slots[i];
}

static void
idset_grow(void)
{
	IdSlot	   *old = idset_slots;
	size_t		old_size = idset_size;

	idset_size = old_size ? old_size * 2 : 1 << 16;
	idset_slots = sb_alloc(idset_size * sizeof(IdSlot));
	for (size_t i = 0; i < old_size; i++)
		if (old[i].count != 0)
			*idset_probe(old[i].id) = old[i];
	free(old);
}

/*
 * Called when an id is first seen in a header: by the time the body has come
 * the slot is in the cache.  In a large set the miss costs as much as hashing
 * the payload.
 */
void
sb_idset_prefetch(const uint8_t id[16])
{
	if (idset_size > 0)
		__builtin_prefetch(&idset_slots[idset_hash(id) & (idset_size - 1)], 1);
}

int64_t
sb_idset_add(const uint8_t id[16], int64_t offset)
{
	IdSlot	   *slot;

	if (idset_used * 4 >= idset_size * 3)
		idset_grow();
	slot = idset_probe(id);
	if (slot->count == 0)
	{
		if ((int64_t) idset_used >= sb.opt.max_ids)
			return -1;
		memcpy(slot->id, id, 16);
		slot->offset = (uint64_t) offset;
		slot->count = 1;
		idset_used++;
		return 0;
	}
	if (slot->count < IDSET_MAX_COUNT)
		slot->count++;
	return slot->count - 1;
}

bool
sb_idset_find(const uint8_t id[16], int64_t *offset, uint32_t *count)
{
	IdSlot	   *slot;

	if (idset_used == 0)
		return false;
	slot = idset_probe(id);
	if (slot->count == 0)
		return false;
	*offset = (int64_t) slot->offset;
	*count = (uint32_t) slot->count;
	return true;
}

void
sb_idset_clear(void)
{
	free(idset_slots);
	idset_slots = NULL;
	idset_size = 0;
	idset_used = 0;
}

uint64_t
sb_idset_count(void)
{
	return idset_used;
}
