/*
 * base64url.c
 *		RFC 4648 section 5 without padding; see base64url.h.
 */
#include "base64url.h"

#include <stdint.h>

static const char base64url_alphabet[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

NotifStatus
notif_base64url_encode(NotifBuf *buf, const void *data, size_t len)
{
	const unsigned char *in = data;
	NotifStatus status;
	char	   *out;

	if (len > SIZE_MAX / 2)
		return NOTIF_ETOOBIG;
	status = notif_buf_reserve(buf, len / 3 * 4 + (len % 3 > 0 ? len % 3 + 1 : 0));
	if (status != NOTIF_OK)
		return status;
	out = buf->data + buf->len;
	for (; len >= 3; len -= 3, in += 3)
	{
		*out++ = base64url_alphabet[in[0] >> 2];
		*out++ = base64url_alphabet[(in[0] & 3) << 4 | in[1] >> 4];
		*out++ = base64url_alphabet[(in[1] & 15) << 2 | in[2] >> 6];
		*out++ = base64url_alphabet[in[2] & 63];
	}
	if (len > 0)
	{
		*out++ = base64url_alphabet[in[0] >> 2];
		*out++ = base64url_alphabet[(in[0] & 3) << 4 | (len > 1 ? in[1] >> 4 : 0)];
		if (len > 1)
			*out++ = base64url_alphabet[(in[1] & 15) << 2];
	}
	*out = '\0';
	buf->len = (size_t) (out - buf->data);
	return NOTIF_OK;
}

static int
base64url_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

NotifStatus
notif_base64url_decode(NotifBuf *buf, const char *text, size_t len)
{
	uint32_t	bits = 0;
	int			n_bits = 0;
	NotifStatus status;
	char	   *out;

	if (len % 4 == 1)
		return NOTIF_EINVAL;
	status = notif_buf_reserve(buf, len / 4 * 3 + len % 4);
	if (status != NOTIF_OK)
		return status;
	out = buf->data + buf->len;
	for (size_t i = 0; i < len; i++)
	{
		int			value = base64url_value(text[i]);

		if (value < 0)
			break;
		bits = bits << 6 | (uint32_t) value;
		n_bits += 6;
		if (n_bits >= 8)
		{
			n_bits -= 8;
			*out++ = (char) (bits >> n_bits & 0xFF);
		}
		if (i + 1 == len && (bits & ((1u << n_bits) - 1)) == 0)
		{
			*out = '\0';
			buf->len = (size_t) (out - buf->data);
			return NOTIF_OK;
		}
	}
	buf->data[buf->len] = '\0';
	return len == 0 ? NOTIF_OK : NOTIF_EINVAL;
}
