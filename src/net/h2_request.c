/*
 * h2_request.c
 *		Memory and lists of requests; see h2_request.h.
 *
 * nghttp2 gets the headers uncopied (NGHTTP2_NV_FLAG_NO_COPY_*).  That is
 * sound because a request is serialised right after it is granted a stream,
 * and a stream that is given up before is cancelled inside nghttp2, which
 * then drops the frame without looking at the headers.
 */
#include "h2_request.h"

#include <stdio.h>
#include <string.h>

#include "../core/mem.h"

#define ITEM_GRAIN		1024	/* size classes are multiples of this */
#define ITEM_CLASSES	8		/* larger blocks are not kept */
#define ITEM_HEADERS_MAX (15 * 1024)	/* stays within one frame, names and all */
#define STORE_NAME_FULL (-1)
#define STORE_NAME_BAD	(-2)
#define STORE_SPARE_MAX ((size_t) 4 * 1024 * 1024)

static int	store_name(NotifH2Store *store, const char *name, size_t len, int position);
static NotifH2Item *item_alloc(NotifH2Store *store, size_t size);
static bool item_valid(const NotifH2Request *request);
static char *item_put(char **at, const void *data, size_t len);
static void item_nv(nghttp2_nv *nv, const char *name, size_t name_len, char *value,
					size_t value_len, bool no_index);

NotifStatus
notif_h2_store_init(NotifH2Store *store, const char *host, uint16_t port)
{
	size_t		size = strlen(host) + 16;
	bool		v6 = strchr(host, ':') != NULL;

	memset(store, 0, sizeof(*store));
	store->authority = notif_malloc(size);
	if (store->authority == NULL)
		return NOTIF_ENOMEM;
	if (port == 443)
		snprintf(store->authority, size, v6 ? "[%s]" : "%s", host);
	else
		snprintf(store->authority, size, v6 ? "[%s]:%u" : "%s:%u", host, (unsigned) port);
	store->authority_len = strlen(store->authority);
	return NOTIF_OK;
}

void
notif_h2_store_free(NotifH2Store *store)
{
	for (int i = 0; i <= ITEM_CLASSES; i++)
		while (store->spare[i] != NULL)
		{
			NotifH2Item *item = store->spare[i];

			store->spare[i] = item->next;
			notif_free(item);
		}
	for (int i = 0; i < store->n_names; i++)
		notif_free(store->names[i].text);
	notif_free(store->authority);
	memset(store, 0, sizeof(*store));
}

NotifStatus
notif_h2_item_new(NotifH2Store *store, const NotifH2Request *request, NotifH2Item **result)
{
	NotifH2Item *item;
	size_t		n_nv;
	size_t		size;
	size_t		header_bytes;
	size_t		method_len;
	size_t		path_len;
	size_t		name_len[NOTIF_H2_MAX_HEADERS];
	int			name_id[NOTIF_H2_MAX_HEADERS];
	char	   *at;

	if (!item_valid(request))
		return NOTIF_EINVAL;
	n_nv = NOTIF_H2_PSEUDO_HEADERS + (size_t) request->n_headers;
	method_len = strlen(request->method);
	path_len = strlen(request->path);
	header_bytes = path_len;
	size = sizeof(*item) + n_nv * sizeof(nghttp2_nv) + method_len + path_len + request->body_len;
	for (int i = 0; i < request->n_headers; i++)
	{
		const NotifHeader *header = &request->headers[i];

		name_len[i] = strlen(header->name);
		name_id[i] = store_name(store, header->name, name_len[i], i);
		if (name_id[i] == STORE_NAME_BAD)
			return NOTIF_EINVAL;
		/* A name beyond the table travels with the request. */
		if (name_id[i] < 0)
			size += name_len[i];
		size += header->value_len;
		header_bytes += name_len[i] + header->value_len;
	}
	if (header_bytes > ITEM_HEADERS_MAX)
		return NOTIF_ETOOBIG;
	item = item_alloc(store, size);
	if (item == NULL)
		return NOTIF_ENOMEM;
	item->ud = request->ud;
	item->timeout_ms = request->timeout_ms;
	item->queue_timeout_ms = request->queue_timeout_ms;
	item->n_nv = n_nv;
	item->nv = (nghttp2_nv *) (item + 1);
	at = (char *) (item->nv + n_nv);
	item_nv(&item->nv[0], ":method", 7, item_put(&at, request->method, method_len),
			method_len, false);
	item_nv(&item->nv[1], ":scheme", 7, "https", 5, false);
	item_nv(&item->nv[2], ":authority", 10, store->authority, store->authority_len, false);
	item_nv(&item->nv[3], ":path", 5, item_put(&at, request->path, path_len), path_len, false);
	for (int i = 0; i < request->n_headers; i++)
	{
		const NotifHeader *header = &request->headers[i];
		const char *name;
		bool		no_index = header->index != NOTIF_INDEX_VALUE;

		item->name_bit[i] = 0;
		if (name_id[i] >= 0)
		{
			name = store->names[name_id[i]].text;
			if (header->index == NOTIF_INDEX_NAME)
				item->name_bit[i] = UINT64_C(1) << name_id[i];
			item->name_once |= item->name_bit[i];
		}
		else
			name = item_put(&at, header->name, name_len[i]);
		item_nv(&item->nv[NOTIF_H2_PSEUDO_HEADERS + i], name, name_len[i],
				item_put(&at, header->value, header->value_len), header->value_len, no_index);
	}
	item->body = (const uint8_t *) item_put(&at, request->body, request->body_len);
	item->body_len = request->body_len;
	notif_h2_item_rewind(item);
	*result = item;
	return NOTIF_OK;
}

void
notif_h2_item_free(NotifH2Store *store, NotifH2Item *item)
{
	size_t		size = (size_t) item->size_class * ITEM_GRAIN;

	notif_buf_free(&item->answer);
	if (item->size_class == 0 || store->spare_bytes + size > STORE_SPARE_MAX)
	{
		notif_free(item);
		return;
	}
	item->next = store->spare[item->size_class];
	store->spare[item->size_class] = item;
	store->spare_bytes += size;
}

void
notif_h2_item_rewind(NotifH2Item *item)
{
	item->conn = NULL;
	item->stream_id = -1;
	item->body_off = 0;
	item->body_done = false;
	item->ended = false;
	item->peer_reset = false;
	item->start_off = UINT64_MAX;
	item->known = NOTIF_NOT_SENT;
	item->error = NOTIF_NET_NONE;
	item->status = 0;
	item->latency_us = 0;
	item->connection = 0;
	item->header_bytes = 0;
	item->body_read = 0;
	notif_buf_reset(&item->answer);
	item->message_id[0] = '\0';
	item->retry_after[0] = '\0';
	item->detail[0] = '\0';
}

void
notif_h2_list_append(NotifH2List *list, NotifH2Item *item)
{
	item->next = NULL;
	item->prev = list->tail;
	if (list->tail != NULL)
		list->tail->next = item;
	else
		list->head = item;
	list->tail = item;
	list->count++;
}

void
notif_h2_list_remove(NotifH2List *list, NotifH2Item *item)
{
	if (item->prev != NULL)
		item->prev->next = item->next;
	else
		list->head = item->next;
	if (item->next != NULL)
		item->next->prev = item->prev;
	else
		list->tail = item->prev;
	list->count--;
}

void
notif_h2_deadline_insert(NotifH2List *list, NotifH2Item *item, int64_t deadline_us)
{
	NotifH2Item *before = list->tail;

	item->deadline_us = deadline_us;
	while (before != NULL && before->deadline_us > deadline_us)
		before = before->dl_prev;
	item->dl_prev = before;
	if (before != NULL)
	{
		item->dl_next = before->dl_next;
		before->dl_next = item;
	}
	else
	{
		item->dl_next = list->head;
		list->head = item;
	}
	if (item->dl_next != NULL)
		item->dl_next->dl_prev = item;
	else
		list->tail = item;
	list->count++;
}

void
notif_h2_deadline_remove(NotifH2List *list, NotifH2Item *item)
{
	if (item->dl_prev != NULL)
		item->dl_prev->dl_next = item->dl_next;
	else
		list->head = item->dl_next;
	if (item->dl_next != NULL)
		item->dl_next->dl_prev = item->dl_prev;
	else
		list->tail = item->dl_prev;
	list->count--;
}

void
notif_h2_printable(char *to, size_t size, const void *from, size_t len)
{
	const unsigned char *bytes = from;
	size_t		n = len < size - 1 ? len : size - 1;

	for (size_t i = 0; i < n; i++)
		to[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char) bytes[i] : '?';
	to[n] = '\0';
}

void
notif_h2_redirect(char *to, size_t size, const char *location, size_t len)
{
	static const char intro[] = "not followed: redirect to ";
	const char *end = location + len;
	const char *at = memchr(location, ':', len);
	const char *host;
	size_t		intro_len = sizeof(intro) - 1;

	/* scheme://authority; without a scheme ("//host/") or authority: our own */
	if (at == NULL || end - at < 3 || memcmp(at, "://", 3) != 0)
	{
		at = location;
		if (len < 2 || memcmp(at, "//", 2) != 0)
		{
			snprintf(to, size, "%sanother path of the same host", intro);
			return;
		}
		host = at + 2;
	}
	else
		host = at + 3;
	for (at = host; at < end && *at != '/' && *at != '?' && *at != '#' && *at != '\\'; at++)
	{
		if (*at == '@')
			host = at + 1;
	}
	snprintf(to, size, "%s", intro);
	if (size > intro_len)
		notif_h2_printable(to + intro_len, size - intro_len, host, (size_t) (at - host));
}

/*
 * The number of a name, interning it at first sight; STORE_NAME_FULL if the
 * table is full or memory is short.  Requests of one pool look alike, so the
 * name is nearly always where the previous request had it.
 */
static int
store_name(NotifH2Store *store, const char *name, size_t len, int position)
{
	int			id = store->hint[position];

	if (id < store->n_names && store->names[id].len == len &&
		memcmp(store->names[id].text, name, len) == 0)
		return id;
	for (id = 0; id < store->n_names; id++)
		if (store->names[id].len == len && memcmp(store->names[id].text, name, len) == 0)
			break;
	if (id == store->n_names)
	{
		if (name[0] == ':' || !nghttp2_check_header_name((const uint8_t *) name, len))
			return STORE_NAME_BAD;
		if (id == NOTIF_H2_NAMES)
			return STORE_NAME_FULL;
		store->names[id].text = notif_strndup(name, len);
		if (store->names[id].text == NULL)
			return STORE_NAME_FULL;
		store->names[id].len = len;
		store->n_names++;
	}
	store->hint[position] = id;
	return id;
}

static NotifH2Item *
item_alloc(NotifH2Store *store, size_t size)
{
	size_t		class = (size + ITEM_GRAIN - 1) / ITEM_GRAIN;
	NotifH2Item *item;

	if (class > ITEM_CLASSES)
		class = 0;
	item = store->spare[class];
	if (item != NULL)
	{
		store->spare[class] = item->next;
		store->spare_bytes -= class * ITEM_GRAIN;
	}
	else
	{
		item = notif_malloc(class > 0 ? class * ITEM_GRAIN : size);
		if (item == NULL)
			return NULL;
	}
	/* The rest is set by the caller; clearing whole blocks would show. */
	item->size_class = (int) class;
	item->state = NOTIF_H2_QUEUED;
	item->name_once = 0;
	item->resends = 0;
	item->resending = false;
	notif_buf_init(&item->answer, NOTIF_RESULT_BODY_MAX);
	return item;
}

static bool
item_valid(const NotifH2Request *request)
{
	size_t		len;

	if (request->n_headers < 0 || request->n_headers > NOTIF_H2_MAX_HEADERS ||
		request->method == NULL || request->path == NULL || request->path[0] != '/' ||
		(request->body == NULL && request->body_len > 0))
		return false;
	len = strlen(request->method);
	if (!nghttp2_check_method((const uint8_t *) request->method, len))
		return false;
	if (!nghttp2_check_path((const uint8_t *) request->path, strlen(request->path)))
		return false;
	for (int i = 0; i < request->n_headers; i++)
	{
		const NotifHeader *header = &request->headers[i];

		/* Names are checked where they are interned. */
		if (!nghttp2_check_header_value_rfc9113((const uint8_t *) header->value,
												header->value_len))
			return false;
	}
	return true;
}

static char *
item_put(char **at, const void *data, size_t len)
{
	char	   *to = *at;

	if (len > 0)
		memcpy(to, data, len);
	*at += len;
	return to;
}

static void
item_nv(nghttp2_nv *nv, const char *name, size_t name_len, char *value, size_t value_len,
		bool no_index)
{
	nv->name = (uint8_t *) name;
	nv->value = (uint8_t *) value;
	nv->namelen = name_len;
	nv->valuelen = value_len;
	nv->flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE |
		(no_index ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE);
}
