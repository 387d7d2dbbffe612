/*
 * h2.c
 *		The nghttp2 side of a connection: session, streams, callbacks.
 *
 * nghttp2 enforces HTTP/2; this file adds what Apple does differently.  The
 * stream limit is checked at the frame header, before nghttp2 sees the
 * HEADERS: Apple ends the connection with REFUSED_STREAM and a text, nghttp2
 * would say PROTOCOL_ERROR.  Only a limit that the client has acknowledged
 * can be violated; streams that crossed a lowering on the wire are refused
 * singly by nghttp2.
 *
 * SbStream objects come from a free list and live from the first header to
 * the close of the stream.  Answers point into them without copying.
 */
#include "sandbox.h"

#include <string.h>

#define H2_VIOLATION	"Maximum active streams violated for this endpoint."

static nghttp2_session_callbacks *h2_callbacks;
static nghttp2_option *h2_option;
static SbStream *h2_free_streams;

static SbStream *
h2_stream_new(SbConn *c, int32_t id)
{
	SbStream   *s = h2_free_streams;

	if (s != NULL)
		h2_free_streams = s->next;
	else
		s = sb_alloc(sizeof(*s));
	/* the buffers behind this field are guarded by their lengths */
	memset(s, 0, offsetof(SbStream, answer_body));
	s->conn = c;
	s->id = id;
	s->conn_next = c->streams;
	if (c->streams != NULL)
		c->streams->conn_prev = s;
	c->streams = s;
	c->open_streams++;
	sb.stats.open_streams++;
	if (sb.stats.open_streams > sb.stats.peak_streams)
		sb.stats.peak_streams = sb.stats.open_streams;
	return s;
}

static void
h2_stream_free(SbStream *s)
{
	SbConn	   *c = s->conn;

	if (s->wait == SB_WAIT_GOAWAY)
		c->withheld--;
	sb_wait_remove(s);
	if (s->conn_prev != NULL)
		s->conn_prev->conn_next = s->conn_next;
	else
		c->streams = s->conn_next;
	if (s->conn_next != NULL)
		s->conn_next->conn_prev = s->conn_prev;
	c->open_streams--;
	sb.stats.open_streams--;
	s->next = h2_free_streams;
	h2_free_streams = s;
}

static int
h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user_data)
{
	SbConn	   *c = user_data;

	if (hd->type != NGHTTP2_HEADERS || hd->stream_id <= c->last_begun || hd->stream_id % 2 == 0)
		return 0;
	c->last_begun = hd->stream_id;
	if (c->goaway_sent || c->cut)
		return 0;
	if ((uint32_t) c->open_streams <
		nghttp2_session_get_local_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
		return 0;
	c->violated = true;
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int
h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	SbConn	   *c = user_data;
	SbStream   *s;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	s = h2_stream_new(c, frame->hd.stream_id);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, s);
	return 0;
}

static int
h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
			 size_t namelen, const uint8_t *value, size_t valuelen, uint8_t flags,
			 void *user_data)
{
	SbStream   *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void) flags;
	if (s != NULL)
		sb_apns_header(user_data, s, name, namelen, value, valuelen);
	return 0;
}

static int
h2_on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
				 const uint8_t *data, size_t len, void *user_data)
{
	SbStream   *s = nghttp2_session_get_stream_user_data(session, stream_id);

	(void) flags;
	(void) user_data;
	if (s == NULL)
		return 0;
	if (s->body_len < SB_MAX_BODY)
	{
		size_t		room = SB_MAX_BODY - s->body_len;

		memcpy(s->body + s->body_len, data, len < room ? len : room);
	}
	s->body_len += len;
	return 0;
}

/* The faults that strike before the body: nothing of the request is kept. */
static void
h2_stop_at_headers(SbConn *c, SbStream *s)
{
	if (sb.fault.cut_after_headers != 0 && sb_fault_hits(s) &&
		sb_fault_spend(&sb.fault.cut_after_headers))
	{
		s->refused = true;
		c->cut = true;
		sb.stats.cuts++;
		return;
	}
	if ( sb.fault.refused_stream == 0 || !sb_fault_hits(s) ||
		!sb_fault_spend(&sb.fault.refused_stream))
		return;
	s->refused = true;
	sb.stats.resets++;
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_REFUSED_STREAM);
}

static int
h2_on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	SbConn	   *c = user_data;
	SbStream   *s;

	switch (frame->hd.type)
	{
		case NGHTTP2_HEADERS:
		case NGHTTP2_DATA:
			s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
			if (s == NULL)
				return 0;
			if (frame->hd.type == NGHTTP2_HEADERS &&
				frame->headers.cat == NGHTTP2_HCAT_REQUEST)
				h2_stop_at_headers(c, s);
			if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
				sb_request_complete(c, s);
			return 0;
		case NGHTTP2_PING:
			if (frame->hd.flags & NGHTTP2_FLAG_ACK)
				return 0;
			sb.stats.pings++;
			if (!sb.fault.no_ping_reply)
				nghttp2_submit_ping(session, NGHTTP2_FLAG_ACK, frame->ping.opaque_data);
			return 0;
		default:
			return 0;
	}
}

static int
h2_on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
				   void *user_data)
{
	SbStream   *s = nghttp2_session_get_stream_user_data(session, stream_id);

	(void) error_code;
	(void) user_data;
	if (s == NULL)
		return 0;
	nghttp2_session_set_stream_user_data(session, stream_id, NULL);
	h2_stream_free(s);
	return 0;
}

void
sb_h2_init(void)
{
	if (nghttp2_session_callbacks_new(&h2_callbacks) != 0 || nghttp2_option_new(&h2_option) != 0)
		sb_die("cannot set up nghttp2");
	nghttp2_session_callbacks_set_on_begin_frame_callback(h2_callbacks, h2_on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(h2_callbacks, h2_on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(h2_callbacks, h2_on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(h2_callbacks, h2_on_data_chunk);
	nghttp2_session_callbacks_set_on_frame_recv_callback(h2_callbacks, h2_on_frame_recv);
	nghttp2_session_callbacks_set_on_stream_close_callback(h2_callbacks, h2_on_stream_close);
	/* PINGs are answered by hand, because one fault is not to */
	nghttp2_option_set_no_auto_ping_ack(h2_option, 1);
}

/* Starts HTTP/2 on a connection whose TLS handshake is done. */
void
sb_h2_open(SbConn *c)
{
	nghttp2_settings_entry iv[5];

	if (nghttp2_session_server_new2(&c->session, h2_callbacks, c, h2_option) != 0)
		sb_die("cannot make an HTTP/2 session");
	c->ramped = c->cert_auth || sb.fault.no_ramp;
	iv[0].settings_id = NGHTTP2_SETTINGS_HEADER_TABLE_SIZE;
	iv[0].value = 4096;
	iv[1].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS;
	iv[1].value = (uint32_t) sb_request_limit(c);
	iv[2].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE;
	iv[2].value = sb.fault.window >= 0 ? (uint32_t) sb.fault.window : 65535;
	iv[3].settings_id = NGHTTP2_SETTINGS_MAX_FRAME_SIZE;
	iv[3].value = 16384;
	iv[4].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE;
	iv[4].value = 8000;
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, 5);
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, sb.opt.conn_window);
	sb_conn_mark(c);
}

/*
 * Writes a GOAWAY frame past nghttp2, which has given the session up, and
 * closes the connection behind it.  Whole frames only are ever in c->out, so
 * appending keeps the framing intact.
 */
static void
h2_raw_goaway(SbConn *c, int32_t last, uint32_t code, const char *text)
{
	size_t		len = 8 + strlen(text);
	const uint8_t frame[17] = {
		(uint8_t) (len >> 16), (uint8_t) (len >> 8), (uint8_t) len, NGHTTP2_GOAWAY, 0,
		0, 0, 0, 0,
		(uint8_t) (last >> 24), (uint8_t) (last >> 16), (uint8_t) (last >> 8), (uint8_t) last,
		(uint8_t) (code >> 24), (uint8_t) (code >> 16), (uint8_t) (code >> 8), (uint8_t) code
	};
	const uint8_t *data;
	ssize_t		n;

	while ((n = nghttp2_session_mem_send(c->session, &data)) > 0)
		sb_buf_put(&c->out, data, (size_t) n);
	sb_buf_put(&c->out, frame, sizeof(frame));
	sb_buf_puts(&c->out, text);
	sb.stats.goaways++;
	c->cut = true;
	c->finished = true;
}

/* Ends HTTP/2 on the connection; not to be called from nghttp2's callbacks. */
void
sb_h2_close(SbConn *c)
{
	while (c->streams != NULL)
		h2_stream_free(c->streams);
	nghttp2_session_del(c->session);
	c->session = NULL;
	c->withhold_target = 0;
}

/* Called by conn.c when the session refuses further input. */
void
sb_h2_failed(SbConn *c)
{
	if (c->violated)
	{
		sb.stats.violations++;
		h2_raw_goaway(c, c->last_processed, NGHTTP2_REFUSED_STREAM, H2_VIOLATION);
	}
	else
		sb_conn_kill(c);
}
