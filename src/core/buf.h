/*
 * buf.h
 *		A growable byte buffer with a hard cap.
 *
 * Every buffer names its cap when it is made, so that no input, template or
 * provider answer can make a worker grow without bound.  After an error the
 * content is what it was before the call.
 */
#ifndef NOTIF_CORE_BUF_H
#define NOTIF_CORE_BUF_H

#include <stddef.h>

#include "status.h"

typedef struct NotifBuf
{
	char	   *data;			/* always NUL-terminated once non-empty */
	size_t		len;			/* bytes used, the NUL not counted */
	size_t		size;			/* bytes allocated */
	size_t		cap;			/* most bytes that len may reach */
} NotifBuf;

/* Makes an empty buffer; allocates nothing. */
void		notif_buf_init(NotifBuf *buf, size_t cap);

/* Frees the memory; the buffer is empty and usable again. */
void		notif_buf_free(NotifBuf *buf);

/* Empties the buffer and keeps its memory. */
void		notif_buf_reset(NotifBuf *buf);

/* Append; NOTIF_ETOOBIG beyond the cap, NOTIF_ENOMEM. */
NotifStatus notif_buf_add(NotifBuf *buf, const void *data, size_t len);
NotifStatus notif_buf_adds(NotifBuf *buf, const char *text);
NotifStatus notif_buf_addc(NotifBuf *buf, char c);

/* Makes room for len more bytes without using them. */
NotifStatus notif_buf_reserve(NotifBuf *buf, size_t len);

/* The content as a C string; "" when nothing was ever added. */
const char *notif_buf_text(const NotifBuf *buf);

#endif							/* NOTIF_CORE_BUF_H */
