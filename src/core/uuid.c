/*
 * uuid.c
 *		UUID version 7; see uuid.h.
 *
 * Layout: 48 bits of milliseconds, version, 12 bits (high), variant, 62 bits
 * (low).  high and low together are the 74 bits that count up within one
 * millisecond; when even they overflow, the time is borrowed from the next.
 */
#include "uuid.h"

#define UUID_LOW_MASK	((UINT64_C(1) << 62) - 1)
#define UUID_TIME_MAX	((INT64_C(1) << 48) - 1)

static void
uuid_count_up(NotifUuidState *state, uint32_t step)
{
	state->last_low += step;
	if (state->last_low <= UUID_LOW_MASK)
		return;
	state->last_low &= UUID_LOW_MASK;
	state->last_high = (state->last_high + 1) & 0x0FFF;
	if (state->last_high == 0)
		state->last_ms++;
}

void
notif_uuid_make(NotifUuidState *state, int64_t now_ms,
				const uint8_t random[NOTIF_UUID_RANDOM_LEN], uint8_t uuid[16])
{
	if (now_ms < 0)
		now_ms = 0;
	if (now_ms > UUID_TIME_MAX)
		now_ms = UUID_TIME_MAX;
	if (now_ms > state->last_ms)
	{
		state->last_ms = now_ms;
		state->last_high = (uint16_t) ((random[0] << 8 | random[1]) & 0x0FFF);
		state->last_low = 0;
		for (int i = 2; i < NOTIF_UUID_RANDOM_LEN; i++)
			state->last_low = state->last_low << 8 | random[i];
		state->last_low &= UUID_LOW_MASK;
	}
	else
	{
		uint32_t	step = (uint32_t) random[6] << 24 | (uint32_t) random[7] << 16 |
			(uint32_t) random[8] << 8 | random[9];

		uuid_count_up(state, step > 0 ? step : 1);
	}
	for (int i = 0; i < 6; i++)
		uuid[i] = (uint8_t) ((uint64_t) state->last_ms >> (40 - 8 * i));
	uuid[6] = (uint8_t) (0x70 | state->last_high >> 8);
	uuid[7] = (uint8_t) state->last_high;
	for (int i = 0; i < 8; i++)
		uuid[8 + i] = (uint8_t) (state->last_low >> (56 - 8 * i));
	uuid[8] = (uint8_t) (0x80 | (uuid[8] & 0x3F));
}

int64_t
notif_uuid_time_ms(const uint8_t uuid[16])
{
	int64_t		ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | uuid[i];
	return ms;
}

static int
uuid_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
notif_uuid_parse(const char *text, size_t len, uint8_t uuid[16])
{
	int			n = 0;

	if (len != NOTIF_UUID_TEXT_LEN)
		return false;
	for (size_t i = 0; i < len;)
	{
		int			high;
		int			low;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text[i++] != '-')
				return false;
			continue;
		}
		high = uuid_hex_digit(text[i]);
		low = uuid_hex_digit(text[i + 1]);
		if (high < 0 || low < 0)
			return false;
		uuid[n++] = (uint8_t) (high << 4 | low);
		i += 2;
	}
	return true;
}

void
notif_uuid_format(const uint8_t uuid[16], char text[NOTIF_UUID_TEXT_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	char	   *at = text;

	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = hex[uuid[i] >> 4];
		*at++ = hex[uuid[i] & 15];
	}
	*at = '\0';
}
