/*
 * util.c
 *		Buffers, clocks, identifiers and numbers for notif-sandbox.
 *
 * Running out of memory ends the program: a test tool that limps on would
 * make the test lie.
 */
#include "sandbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/rand.h>

void
sb_die(const char *fmt,...)
{
	va_list		ap;

	fputs("notif-sandbox: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void *
sb_alloc(size_t size)
{
	void	   *ptr = calloc(1, size);

	if (ptr == NULL)
		sb_die("out of memory (%zu bytes)", size);
	return ptr;
}

void *
sb_realloc(void *ptr, size_t size)
{
	ptr = realloc(ptr, size);
	if (ptr == NULL)
		sb_die("out of memory (%zu bytes)", size);
	return ptr;
}

void
sb_buf_reserve(SbBuf *buf, size_t more)
{
	size_t		cap;

	if (buf->len + more <= buf->cap)
		return;
	cap = buf->cap ? buf->cap : 256;
	while (cap < buf->len + more)
		cap *= 2;
	buf->data = sb_realloc(buf->data, cap);
	buf->cap = cap;
}

void
sb_buf_put(SbBuf *buf, const void *data, size_t len)
{
	sb_buf_reserve(buf, len);
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

void
sb_buf_puts(SbBuf *buf, const char *text)
{
	sb_buf_put(buf, text, strlen(text));
}

void
sb_buf_putc(SbBuf *buf, char c)
{
	sb_buf_put(buf, &c, 1);
}

/* Decimal by hand: printf would cost as much as the rest of a ledger line. */
void
sb_buf_putu(SbBuf *buf, uint64_t value)
{
	char		digits[20];
	size_t		n = sizeof(digits);

	do
	{
		digits[--n] = (char) ('0' + value % 10);
		value /= 10;
	} while (value > 0);
	sb_buf_put(buf, digits + n, sizeof(digits) - n);
}

void
sb_buf_putf(SbBuf *buf, const char *fmt,...)
{
	va_list		ap;
	int			n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	sb_buf_reserve(buf, (size_t) n + 1);
	va_start(ap, fmt);
	vsnprintf(buf->data + buf->len, (size_t) n + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t) n;
}

/* FNV-1a with a final mix; the tables using it take the low bits. */
uint64_t
sb_hash(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t	h = 1469598103934665603ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211ULL;
	h ^= h >> 32;
	h *= 0x9E3779B97F4A7C15ULL;
	return h ^ (h >> 29);
}

int64_t
sb_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
sb_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int
util_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Accepts the canonical 8-4-4-4-12 form in either case, nothing else. */
bool
sb_uuid_parse(const char *text, size_t len, uint8_t out[16])
{
	size_t		n = 0;

	if (len != 36)
		return false;
	for (size_t i = 0; i < 36;)
	{
		int			hi;
		int			lo;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text[i++] != '-')
				return false;
			continue;
		}
		hi = util_hex(text[i]);
		lo = util_hex(text[i + 1]);
		if (hi < 0 || lo < 0)
			return false;
		out[n++] = (uint8_t) (hi << 4 | lo);
		i += 2;
	}
	return true;
}

/* A version 4 id; random bytes are drawn in bulk, one draw costs 1 us. */
void
sb_uuid_random(uint8_t id[16])
{
	static uint8_t pool[4096];
	static size_t used = sizeof(pool);

	if (used == sizeof(pool))
	{
		if (RAND_bytes(pool, sizeof(pool)) != 1)
			sb_die("no random bytes");
		used = 0;
	}
	memcpy(id, pool + used, 16);
	used += 16;
	id[6] = (uint8_t) ((id[6] & 0x0f) | 0x40);
	id[8] = (uint8_t) ((id[8] & 0x3f) | 0x80);
}

void
sb_uuid_format(const uint8_t id[16], char out[36])
{
	static const char hex[] = "0123456789abcdef";
	size_t		n = 0;

	for (size_t i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		out[n++] = hex[id[i] >> 4];
		out[n++] = hex[id[i] & 15];
	}
}

/* The whole text must be one decimal number that fits. */
bool
sb_parse_int(const char *text, size_t len, int64_t *out)
{
	int64_t		value = 0;
	size_t		i = 0;
	bool		negative = false;

	if (len > 0 && text[0] == '-')
	{
		negative = true;
		i = 1;
	}
	if (i == len || len > 19)
		return false;
	for (; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (__builtin_mul_overflow(value, (int64_t) 10, &value) ||
			__builtin_add_overflow(value, (int64_t) (text[i] - '0'), &value))
			return false;
	}
	*out = negative ? -value : value;
	return true;
}

/* Copies what fits and terminates; returns the bytes copied. */
size_t
sb_copy(char *dst, size_t size, const char *src, size_t len)
{
	if (len > size - 1)
		len = size - 1;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return len;
}
