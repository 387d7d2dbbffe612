/*
 * varint.h
 *		Unsigned numbers of base 128, the lowest seven bits first, as the states of
 *		rate limits keep them.
 */
#ifndef NOTIF_CORE_VARINT_H
#define NOTIF_CORE_VARINT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct NotifVarintReader
{
	const uint8_t *at;
	const uint8_t *end;
	bool		bad;			/* a number went past the end, or had over 64 bits */
} NotifVarintReader;

/* The next number; 0, and bad, if there is none. */
static inline uint64_t
notif_varint_read(NotifVarintReader *reader)
{
	uint64_t	value = 0;

	for (int shift = 0; shift < 64 && reader->at < reader->end; shift += 7)
	{
		uint8_t		byte = *reader->at++;

		value |= (uint64_t) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return value;
	}
	reader->bad = true;
	return 0;
}

#endif							/* NOTIF_CORE_VARINT_H */
