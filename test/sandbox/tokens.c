/*
 * tokens.c
 *		Device tokens with a fate of their own.
 *
 * Only tokens that are not simply good are kept; an empty table costs the
 * request path one comparison.  Open addressing, power of two, grown at half
 * full; setting a token to "ok" keeps its slot, so no tombstones are needed.
 */
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>

typedef struct TokenSlot
{
	uint64_t	hash;
	size_t		len;			/* 0 = free */
	char	   *hex;
	SbToken		token;
} TokenSlot;

static TokenSlot *tokens_slots;
static size_t tokens_size;
static size_t tokens_used;

static TokenSlot *
tokens_probe(const char *hex, size_t len, uint64_t hash)
{
	size_t		i = hash & (tokens_size - 1);

	while (tokens_slots[i].len != 0 &&
		   (tokens_slots[i].hash != hash || tokens_slots[i].len != len ||
			memcmp(tokens_slots[i].hex, hex, len) != 0))
		i = (i + 1) & (tokens_size - 1);
	return &tokens_slots[i];
}

static void
tokens_grow(void)
{
	TokenSlot  *old = tokens_slots;
	size_t		old_size = tokens_size;

	tokens_size = old_size ? old_size * 2 : 1024;
	tokens_slots = sb_alloc(tokens_size * sizeof(TokenSlot));
	for (size_t i = 0; i < old_size; i++)
		if (old[i].len != 0)
			*tokens_probe(old[i].hex, old[i].len, old[i].hash) = old[i];
	free(old);
}

/* Tokens are compared in lower case; hex is copied. */
void
sb_tokens_set(const char *hex, size_t len, const SbToken *token)
{
	char		lower[SB_MAX_TOKEN];
	uint64_t	hash;
	TokenSlot  *slot;

	if (len == 0 || len > sizeof(lower))
		return;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char) (hex[i] >= 'A' && hex[i] <= 'F' ? hex[i] + 32 : hex[i]);
	if (tokens_used * 2 >= tokens_size)
		tokens_grow();
	hash = sb_hash(lower, len);
	slot = tokens_probe(lower, len, hash);
	if (slot->len == 0)
	{
		slot->hash = hash;
		slot->len = len;
		slot->hex = sb_alloc(len);
		memcpy(slot->hex, lower, len);
		tokens_used++;
	}
	slot->token = *token;
}

/* NULL for a token that is simply good; valid until the next set or clear. */
const SbToken *
sb_tokens_find(const char *hex, size_t len)
{
	char		lower[SB_MAX_TOKEN];
	TokenSlot  *slot;

	if (tokens_used == 0 || len > sizeof(lower))
		return NULL;
	for (size_t i = 0; i < len; i++)
		lower[i] = (char) (hex[i] >= 'A' && hex[i] <= 'F' ? hex[i] + 32 : hex[i]);
	slot = tokens_probe(lower, len, sb_hash(lower, len));
	return slot->len != 0 && slot->token.state != SB_TOKEN_OK ? &slot->token : NULL;
}

void
sb_tokens_clear(void)
{
	for (size_t i = 0; i < tokens_size; i++)
		free(tokens_slots[i].hex);
	free(tokens_slots);
	tokens_slots = NULL;
	tokens_size = 0;
	tokens_used = 0;
}

uint64_t
sb_tokens_count(void)
{
	return tokens_used;
}
