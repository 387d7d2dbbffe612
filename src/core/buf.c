/*
 * buf.c
 *		Growable buffer with a hard cap; see buf.h.
 */
#include "buf.h"

#include <string.h>

#include "mem.h"

#define BUF_FIRST_SIZE 256

void
notif_buf_init(NotifBuf *buf, size_t cap)
{
	memset(buf, 0, sizeof(*buf));
	buf->cap = cap;
}

void
notif_buf_free(NotifBuf *buf)
{
	notif_free(buf->data);
	notif_buf_init(buf, buf->cap);
}

void
notif_buf_reset(NotifBuf *buf)
{
	buf->len = 0;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

NotifStatus
notif_buf_reserve(NotifBuf *buf, size_t len)
{
	size_t		need;
	size_t		size;
	char	   *data;

	if (len > buf->cap - buf->len)
		return NOTIF_ETOOBIG;
	need = buf->len + len + 1;
	if (need <= buf->size)
		return NOTIF_OK;
	size = buf->size > 0 ? buf->size : BUF_FIRST_SIZE;
	while (size < need)
		size *= 2;
	data = notif_realloc(buf->data, size);
	if (data == NULL)
		return NOTIF_ENOMEM;
	buf->data = data;
	buf->size = size;
	return NOTIF_OK;
}

NotifStatus
notif_buf_add(NotifBuf *buf, const void *data, size_t len)
{
	NotifStatus status = notif_buf_reserve(buf, len);

	if (status != NOTIF_OK)
		return status;
	if (len > 0)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return NOTIF_OK;
}

NotifStatus
notif_buf_adds(NotifBuf *buf, const char *text)
{
	return notif_buf_add(buf, text, strlen(text));
}

NotifStatus
notif_buf_addc(NotifBuf *buf, char c)
{
	return notif_buf_add(buf, &c, 1);
}

const char *
notif_buf_text(const NotifBuf *buf)
{
	return buf->data != NULL ? buf->data : "";
}
