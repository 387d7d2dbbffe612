/*
 * uuid.h
 *		UUID version 7 (RFC 9562): making, reading, writing.
 *
 * Bytes are in network order, as PostgreSQL stores a uuid.  Clock and random
 * bits are the caller's.
 */
#ifndef NOTIF_CORE_UUID_H
#define NOTIF_CORE_UUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTIF_UUID_TEXT_LEN		36
#define NOTIF_UUID_RANDOM_LEN	10

/* One maker's memory: what keeps its ids ascending.  Start with {0}. */
typedef struct NotifUuidState
{
	int64_t		last_ms;
	uint16_t	last_high;		/* 12 bits */
	uint64_t	last_low;		/* 62 bits */
} NotifUuidState;

/*
 * Makes the id of now_ms (UNIX milliseconds) from 10 random bytes.  Within one
 * millisecond, and while the clock stands behind an id already made, the 74
 * random bits of the last id are raised by a random step below 2^32, so that
 * ids of one state ascend strictly and still cannot be guessed.
 */
void		notif_uuid_make(NotifUuidState *state, int64_t now_ms,
							const uint8_t random[NOTIF_UUID_RANDOM_LEN], uint8_t uuid[16]);

/* Milliseconds that a version 7 id begins with. */
int64_t		notif_uuid_time_ms(const uint8_t uuid[16]);

/* 8-4-4-4-12 hex digits of either case; false for anything else. */
bool		notif_uuid_parse(const char *text, size_t len, uint8_t uuid[16]);

/* Lower case, NUL-terminated. */
void		notif_uuid_format(const uint8_t uuid[16], char text[NOTIF_UUID_TEXT_LEN + 1]);

#endif							/* NOTIF_CORE_UUID_H */
