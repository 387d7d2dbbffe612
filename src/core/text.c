/*
 * text.c
 *		UTF-8 by hand; see text.h.
 */
#include "text.h"

#include <string.h>

static const char text_replacement[] = "\xEF\xBF\xBD";

static bool
text_continues(unsigned char byte)
{
	return (byte & 0xC0) == 0x80;
}

size_t
notif_text_sequence(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *) text;

	if (len == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xC2)
		return 0;				/* a continuation byte or an overlong form */
	if (s[0] < 0xE0)
		return len >= 2 && text_continues(s[1]) ? 2 : 0;
	if (s[0] < 0xF0)
	{
		if (len < 3 || !text_continues(s[1]) || !text_continues(s[2]))
			return 0;
		if (s[0] == 0xE0 && s[1] < 0xA0)
			return 0;			/* overlong */
		if (s[0] == 0xED && s[1] >= 0xA0)
			return 0;			/* surrogate */
		return 3;
	}
	if (s[0] > 0xF4 || len < 4 ||
		!text_continues(s[1]) || !text_continues(s[2]) || !text_continues(s[3]))
		return 0;
	if (s[0] == 0xF0 && s[1] < 0x90)
		return 0;				/* overlong */
	if (s[0] == 0xF4 && s[1] >= 0x90)
		return 0;				/* above U+10FFFF */
	return 4;
}

bool
notif_text_valid(const char *text, size_t len)
{
	size_t		pos = 0;

	while (pos < len)
	{
		size_t		n = notif_text_sequence(text + pos, len - pos);

		if (n == 0)
			return false;
		pos += n;
	}
	return true;
}

size_t
notif_text_truncate(const char *text, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && text_continues((unsigned char) text[max]))
		max--;
	return max;
}

size_t
notif_text_sanitise(const char *text, size_t len, char *out, size_t out_size)
{
	size_t		pos = 0;
	size_t		used = 0;

	while (pos < len)
	{
		size_t		n = notif_text_sequence(text + pos, len - pos);
		const char *piece = text + pos;
		size_t		piece_len = n;
		unsigned char c = (unsigned char) text[pos];

		if (n == 0)
		{
			piece = text_replacement;
			piece_len = sizeof(text_replacement) - 1;
			n = 1;
		}
		else if (c < 0x20 || c == 0x7F ||
				 (n == 2 && c == 0xC2 && (unsigned char) text[pos + 1] < 0xA0))
		{
			piece = " ";		/* C0, DEL, and C1 in its two-byte form */
			piece_len = 1;
		}
		if (piece_len >= out_size - used)
			break;
		memcpy(out + used, piece, piece_len);
		used += piece_len;
		pos += n;
	}
	out[used] = '\0';
	return used;
}

size_t
notif_text_ascii(const char *text, size_t len, char *out, size_t out_size)
{
	size_t		used = 0;

	while (used < len && used + 1 < out_size)
	{
		out[used] = text[used] >= 0x20 && text[used] < 0x7F ? text[used] : '?';
		used++;
	}
	out[used] = '\0';
	return used;
}
