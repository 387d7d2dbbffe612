/*
 * h2_stream.c
 *		nghttp2's session and the requests on it.
 *
 * What is known of a request rests on two offsets (h2_conn_private.h):
 * start_off, where its HEADERS begin in the connection's output, and
 * conn->handed, how much of the output was offered to TLS.  A request whose
 * start was never offered has not left this process.
 *
 * When a request's time is up while its frames are serialised but not yet
 * offered, they will still be written, in front of the RST_STREAM: that is
 * UNKNOWN.  When the connection dies in the same moment they never leave:
 * that is NOT_SENT.
 *
 * nghttp2's callbacks never fail for reasons of a request: a fatal return
 * would take the whole connection down.  A request that is finished early is
 * detached from its stream first, so late frames find nothing.  They are no
 * more than one window per request that was given up, unless the peer ignores
 * the reset: then the connection is closed, for nothing else would stop it.
 */
#include "h2_conn_private.h"

#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "../message/json.h"

#define STREAM_BODY_MAX		(256 * 1024)	/* read, of which 4 kB are kept */
#define STREAM_HEADERS_MAX	(64 * 1024)
#define STREAM_WINDOW		(256 * 1024)
#define SESSION_WINDOW		(16 * 1024 * 1024)
#define SESSION_STREAMS_MAX 4096	/* of a peer that names no limit */

static int	session_setup(NotifH2Conn *conn, nghttp2_option *option,
						  nghttp2_session_callbacks *callbacks);
static void session_goaway(NotifH2Conn *conn, const nghttp2_goaway *goaway);
static void stream_finish(NotifH2Conn *conn, NotifH2Item *item, NotifKnown known,
						  NotifNetError error);
static void stream_answered(NotifH2Conn *conn, NotifH2Item *item);
static void stream_give_up(NotifH2Conn *conn, NotifH2Item *item);

/* Callbacks of nghttp2 */
static ssize_t on_body_wanted(nghttp2_session *session, int32_t stream_id, uint8_t *buf,
							  size_t length, uint32_t *flags, nghttp2_data_source *source,
							  void *ud);
static int	on_before_send(nghttp2_session *session, const nghttp2_frame *frame, void *ud);
static int	on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
					  size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
					  void *ud);
static int	on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
					const uint8_t *data, size_t len, void *ud);
static int	on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ud);
static int	on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
							void *ud);

static void *
session_malloc(size_t size, void *ud)
{
	(void) ud;
	return notif_malloc(size);
}

static void
session_free(void *ptr, void *ud)
{
	(void) ud;
	notif_free(ptr);
}

static void *
session_calloc(size_t count, size_t size, void *ud)
{
	(void) ud;
	return notif_calloc(count, size);
}

static void *
session_realloc(void *ptr, size_t size, void *ud)
{
	(void) ud;
	return notif_realloc(ptr, size);
}

NotifStatus
notif_h2_session_open(NotifH2Conn *conn)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *option = NULL;
	int			rc = NGHTTP2_ERR_NOMEM;

	if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0)
		rc = session_setup(conn, option, callbacks);
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	return rc == 0 ? NOTIF_OK : NOTIF_ENOMEM;
}

static int
session_setup(NotifH2Conn *conn, nghttp2_option *option, nghttp2_session_callbacks *callbacks)
{
	static const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, STREAM_HEADERS_MAX}
	};
	static nghttp2_mem mem = {
		NULL, session_malloc, session_free, session_calloc, session_realloc
	};
	int			rc;

	nghttp2_session_callbacks_set_before_frame_send_callback(callbacks, on_before_send);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_option_set_no_closed_streams(option, 1);
	conn->late_left = STREAM_WINDOW;
	rc = nghttp2_session_client_new3(&conn->session, callbacks, conn, option, &mem);
	if (rc == 0)
		rc = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
									 sizeof(settings) / sizeof(settings[0]));
	if (rc == 0)
		rc = nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
												   SESSION_WINDOW);
	return rc;
}

NotifStatus
notif_h2_conn_grant(NotifH2Conn *conn, NotifH2Item *item, int64_t now_us)
{
	uint64_t	fresh = item->name_once & ~conn->names_used;
	nghttp2_data_provider provider = {.read_callback = on_body_wanted};
	int32_t		stream_id;

	/*
	 * The first time a name is used here it enters the table together with
	 * its value; afterwards only the name is referred to.
	 */
	for (size_t i = NOTIF_H2_PSEUDO_HEADERS; fresh != 0 && i < item->n_nv; i++)
	{
		nghttp2_nv *nv = &item->nv[i];
		uint64_t	bit = item->name_bit[i - NOTIF_H2_PSEUDO_HEADERS];

		if (bit & fresh)
		{
			nv->flags &= (uint8_t) ~NGHTTP2_NV_FLAG_NO_INDEX;
			fresh &= ~bit;
		}
	}
	stream_id = nghttp2_submit_request(conn->session, NULL, item->nv, item->n_nv,
									   item->body_len > 0 ? &provider : NULL, item);
	/* nghttp2 has its own copy of the flags; a resend starts as submitted. */
	if ((item->name_once & ~conn->names_used) != 0)
		for (size_t i = NOTIF_H2_PSEUDO_HEADERS; i < item->n_nv; i++)
			if (item->name_bit[i - NOTIF_H2_PSEUDO_HEADERS] & item->name_once)
				item->nv[i].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
	if (stream_id < 0)
	{
		/* Stream ids are used up after 2^30 requests: time for a new one. */
		if (stream_id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
		{
			conn->draining = true;
			return NOTIF_ESTATE;
		}
		return NOTIF_ENOMEM;
	}
	conn->names_used |= item->name_once;
	item->state = NOTIF_H2_OPEN;
	item->conn = conn;
	item->connection = conn->number;
	item->stream_id = stream_id;
	item->opened_us = now_us;
	item->body_done = item->body_len == 0;
	conn->owed += (int64_t) item->body_len;
	notif_h2_list_append(&conn->open, item);
	return NOTIF_OK;
}

bool
notif_h2_session_drain(NotifH2Conn *conn)
{
	while (conn->out_tail - conn->out_head < NOTIF_TLS_RECORD)
	{
		const uint8_t *data;
		ssize_t		n = nghttp2_session_mem_send(conn->session, &data);

		if (n == 0)
			break;
		if (n < 0 || n > CONN_FRAME_MAX * 2)
		{
			conn->error = NOTIF_NET_RESET;
			snprintf(conn->detail, sizeof(conn->detail), "HTTP/2 output: %s",
					 n < 0 ? nghttp2_strerror((int) n) : "frame too large");
			return false;
		}
		if ((size_t) n > sizeof(conn->out) - conn->out_tail)
		{
			memmove(conn->out, conn->out + conn->out_head, conn->out_tail - conn->out_head);
			conn->out_tail -= conn->out_head;
			conn->out_head = 0;
		}
		memcpy(conn->out + conn->out_tail, data, (size_t) n);
		conn->out_tail += (size_t) n;
		conn->total += (uint64_t) n;
	}
	return true;
}

/*
 * Counts what comes for streams that nobody waits for: nghttp2 drops it without
 * a word.  Control frames are not counted, they may well cross a stream's end.
 */
static void
session_count_late(NotifH2Conn *conn, const uint8_t *data, size_t len)
{
	while (len > 0)
	{
		const uint8_t *head = conn->frame_head;
		size_t		n;

		if (conn->frame_left > 0)
		{
			n = len < conn->frame_left ? len : conn->frame_left;
			conn->frame_left -= n;
			data += n;
			len -= n;
			continue;
		}
		conn->frame_head[conn->frame_got++] = *data++;
		len--;
		if (conn->frame_got < STREAM_FRAME_HEAD)
			continue;
		conn->frame_got = 0;
		conn->frame_left = (size_t) head[0] << 16 | (size_t) head[1] << 8 | head[2];
		if ((head[3] == NGHTTP2_DATA || head[3] == NGHTTP2_HEADERS ||
			 head[3] == NGHTTP2_CONTINUATION) &&
			nghttp2_session_get_stream_user_data(conn->session, (int32_t)
												 ((uint32_t) (head[5] & 0x7f) << 24 |
												  (uint32_t) head[6] << 16 |
												  (uint32_t) head[7] << 8 | head[8])) == NULL)
			conn->late_left -= (int64_t) conn->frame_left + STREAM_FRAME_HEAD;
	}
}

bool
notif_h2_session_feed(NotifH2Conn *conn, const uint8_t *data, size_t len)
{
	ssize_t		n;

	session_count_late(conn, data, len);
	if (conn->late_left < 0)
	{
		conn->error = NOTIF_NET_PROTOCOL;
		snprintf(conn->detail, sizeof(conn->detail), "the server goes on sending after a reset");
		return false;
	}
	n = nghttp2_session_mem_recv(conn->session, data, len);
	if (n >= 0)
		return true;
	conn->error = n == NGHTTP2_ERR_NOMEM ? NOTIF_NET_RESET : NOTIF_NET_PROTOCOL;
	snprintf(conn->detail, sizeof(conn->detail), "HTTP/2 input: %s", nghttp2_strerror((int) n));
	return false;
}

void
notif_h2_session_abandon(NotifH2Conn *conn, NotifNetError error, const char *detail)
{
	while (conn->open.head != NULL)
	{
		NotifH2Item *item = conn->open.head;

		snprintf(item->detail, sizeof(item->detail), "%s", detail);
		stream_finish(conn, item, item->start_off < conn->handed ? NOTIF_UNKNOWN : NOTIF_NOT_SENT,
					  error);
	}
}

void
notif_h2_conn_expire(NotifH2Conn *conn, NotifH2Item *item)
{
	bool		serialised = item->start_off != UINT64_MAX;

	stream_give_up(conn, item);
	snprintf(item->detail, sizeof(item->detail), "no answer within %d ms", item->timeout_ms);
	stream_finish(conn, item, serialised ? NOTIF_UNKNOWN : NOTIF_NOT_SENT, NOTIF_NET_TIMEOUT);
	notif_h2_conn_probe(conn);
	conn->config->hooks.changed(conn->config->hooks.ud);
}

/* Takes the item off the connection and hands it over. */
static void
stream_finish(NotifH2Conn *conn, NotifH2Item *item, NotifKnown known, NotifNetError error)
{
	notif_h2_list_remove(&conn->open, item);
	conn->owed -= (int64_t) (item->body_len - item->body_off);
	if (conn->open.count == 0)
		conn->idle_since_us = notif_loop_now_us();
	item->known = known;
	item->error = error;
	item->conn = NULL;
	conn->config->hooks.finished(conn->config->hooks.ud, item);
}

static void
stream_answered(NotifH2Conn *conn, NotifH2Item *item)
{
	int64_t		latency_us = conn->now_us - item->opened_us;

	if (item->status == 200)
		conn->ramping = false;
	conn->answered++;
	item->latency_us = latency_us < 0 ? 0 : latency_us > UINT32_MAX ? UINT32_MAX :
		(uint32_t) latency_us;
	stream_finish(conn, item, NOTIF_ANSWERED, NOTIF_NET_NONE);
}

/*
 * Resets the item's stream and makes nghttp2 forget the item.  A request that
 * nghttp2 has not serialised yet is dropped by it and never leaves.
 */
static void
stream_give_up(NotifH2Conn *conn, NotifH2Item *item)
{
	(void) nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, item->stream_id,
									 NGHTTP2_CANCEL);
	(void) nghttp2_session_set_stream_user_data(conn->session, item->stream_id, NULL);
	conn->late_left += STREAM_WINDOW;
}

static ssize_t
on_body_wanted(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
			   uint32_t *flags, nghttp2_data_source *source, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item = nghttp2_session_get_stream_user_data(session, stream_id);
	size_t		n;

	(void) source;
	if (item == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = item->body_len - item->body_off;
	if (n > length)
		n = length;
	memcpy(buf, item->body + item->body_off, n);
	item->body_off += n;
	conn->owed -= (int64_t) n;
	if (item->body_off == item->body_len)
	{
		item->body_done = true;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	return (ssize_t) n;
}

static int
on_before_send(nghttp2_session *session, const nghttp2_frame *frame, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	item = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (item != NULL)
		item->start_off = conn->total;
	return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		  size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item;

	(void) flags;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	item = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (item == NULL)
		return 0;
	/* Counted over all header blocks: 1xx responses for ever end here too. */
	item->header_bytes += name_len + value_len + 32;
	if (item->header_bytes > STREAM_HEADERS_MAX)
	{
		stream_give_up(conn, item);
		snprintf(item->detail, sizeof(item->detail), "response headers exceed %d bytes",
				 STREAM_HEADERS_MAX);
		stream_finish(conn, item, NOTIF_UNKNOWN, NOTIF_NET_PROTOCOL);
		return 0;
	}
	if (name_len == 7 && memcmp(name, ":status", 7) == 0)
	{
		/* nghttp2 lets three digits pass and nothing else. */
		int			status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');

		item->status = status >= 200 ? status : 0;
	}
	else if (name_len == 7 && memcmp(name, "apns-id", 7) == 0)
		notif_h2_printable(item->message_id, sizeof(item->message_id), value, value_len);
	else if (name_len == 11 && memcmp(name, "retry-after", 11) == 0)
		notif_h2_printable(item->retry_after, sizeof(item->retry_after), value, value_len);
	else if (name_len == 8 && memcmp(name, "location", 8) == 0 && item->status / 100 == 3)
		notif_h2_redirect(item->detail, sizeof(item->detail), (const char *) value, value_len);
	return 0;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
		size_t len, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item = nghttp2_session_get_stream_user_data(session, stream_id);
	size_t		keep;

	(void) flags;
	if (item == NULL)
		return 0;
	keep = NOTIF_RESULT_BODY_MAX - item->answer.len;
	/* Without memory the status has to do: it decides, the body explains. */
	if (keep > 0)
		(void) notif_buf_add(&item->answer, data, len < keep ? len : keep);
	item->body_read += len;
	if (item->body_read > STREAM_BODY_MAX)
	{
		stream_give_up(conn, item);
		snprintf(item->detail, sizeof(item->detail), "response body cut after %d bytes",
				 STREAM_BODY_MAX);
		stream_answered(conn, item);
	}
	return 0;
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item;

	switch (frame->hd.type)
	{
		case NGHTTP2_SETTINGS:
			if (frame->hd.flags & NGHTTP2_FLAG_ACK)
				break;
			conn->limit = nghttp2_session_get_remote_settings(session,
															  NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
			if (conn->limit > SESSION_STREAMS_MAX)
				conn->limit = SESSION_STREAMS_MAX;
			conn->settled = true;
			break;
		case NGHTTP2_PING:
			if (frame->hd.flags & NGHTTP2_FLAG_ACK)
				conn->ping_us = 0;
			break;
		case NGHTTP2_GOAWAY:
			session_goaway(conn, &frame->goaway);
			break;
		case NGHTTP2_RST_STREAM:
			item = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
			if (item != NULL)
				item->peer_reset = true;
			break;
		case NGHTTP2_HEADERS:
		case NGHTTP2_DATA:
			if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
				break;
			item = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
			if (item == NULL || item->status == 0)
				break;
			item->ended = true;
			/* Answered before it had our whole request: it wants no more. */
			if (!item->body_done)
			{
				stream_give_up(conn, item);
				stream_answered(conn, item);
			}
			break;
		default:
			break;
	}
	return 0;
}

/*
 * nghttp2 closes the streams above last-stream-id itself, right after this,
 * with REFUSED_STREAM; those at or below are left to be answered.
 */
static void
session_goaway(NotifH2Conn *conn, const nghttp2_goaway *goaway)
{
	char		reason[96];
	const void *words = goaway->opaque_data;
	size_t		len = goaway->opaque_data_len;
	NotifJson  *json = NULL;
	uint32_t	node;

	/* {"reason":"..."}, or whatever it says instead */
	if (len > 0 && notif_json_parse((const char *) goaway->opaque_data, len, &json, NULL) == NOTIF_OK &&
		json->nodes[0].kind == NOTIF_JSON_OBJECT &&
		(node = notif_json_member(json, 0, "reason", 6)) > 0 && json->nodes[node].kind == NOTIF_JSON_STRING)
	{
		words = json->text + json->nodes[node].start + 1;
		len = json->nodes[node].len - 2;
	}
	notif_h2_printable(reason, sizeof(reason), words, len);
	notif_json_free(json);
	conn->goaway = true;
	conn->draining = true;
	snprintf(conn->detail, sizeof(conn->detail), "GOAWAY%s%s%s%s",
			 goaway->error_code != NGHTTP2_NO_ERROR ? " " : "",
			 goaway->error_code != NGHTTP2_NO_ERROR ? nghttp2_http2_strerror(goaway->error_code) : "",
			 reason[0] != '\0' ? ": " : "", reason);
}

static int
on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *ud)
{
	NotifH2Conn *conn = ud;
	NotifH2Item *item = nghttp2_session_get_stream_user_data(session, stream_id);

	if (item == NULL)
		return 0;
	if (item->ended)
		stream_answered(conn, item);
	else if (item->start_off == UINT64_MAX ||
			 (error_code == NGHTTP2_REFUSED_STREAM && item->status == 0))
	{
		snprintf(item->detail, sizeof(item->detail), "%s",
				 conn->goaway && !item->peer_reset ? conn->detail : "stream refused");
		stream_finish(conn, item, NOTIF_NOT_SENT, NOTIF_NET_REFUSED);
	}
	else if (item->peer_reset)
	{
		snprintf(item->detail, sizeof(item->detail), "stream reset by the server: %s",
				 nghttp2_http2_strerror(error_code));
		stream_finish(conn, item, NOTIF_UNKNOWN, NOTIF_NET_RESET);
	}
	else
	{
		snprintf(item->detail, sizeof(item->detail), "malformed response: %s",
				 nghttp2_http2_strerror(error_code));
		stream_finish(conn, item, NOTIF_UNKNOWN, NOTIF_NET_PROTOCOL);
	}
	return 0;
}
