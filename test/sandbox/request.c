/*
 * request.c
 *		The life of a complete request: judgement, faults, ledger, answer.
 *
 * A request that passes the contract either gets its ledger line with status
 * 200 and an answer, possibly late, or the line with status 0 and none.
 * There is no third way, which is what makes the ledger a proof.
 */
#include "sandbox.h"

#include <stdio.h>
#include <string.h>

#define REQUEST_NV(n, v, l, f) \
	((nghttp2_nv) {(uint8_t *) (n), (uint8_t *) (v), sizeof(n) - 1, (l), \
	NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE | (f)})

/* The stream limit that the connection should be told now. */
int
sb_request_limit(const SbConn *c)
{
	int			limit = sb.fault.max_streams >= 0 ? (int) sb.fault.max_streams : sb.opt.streams;

	if ((!c->ramped || c->throttled) && limit > 1)
		limit = 1;
	return limit;
}

void
sb_request_send_limit(SbConn *c)
{
	nghttp2_settings_entry iv = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
	(uint32_t) sb_request_limit(c)};

	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, &iv, 1);
	sb_conn_mark(c);
}

static ssize_t
request_body_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
				  uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
	SbStream   *s = source->ptr;
	size_t		n = s->answer_ready - s->answer_off;

	(void) session;
	(void) stream_id;
	(void) user_data;
	if (n > length)
		n = length;
	memcpy(buf, s->answer_body + s->answer_off, n);
	s->answer_off += n;
	if (s->answer_off == s->answer_len && s->answer_end)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (n == 0)
		return NGHTTP2_ERR_DEFERRED;
	return (ssize_t) n;
}

static void
request_ramp(SbConn *c, const SbAnswer *answer)
{
	int			before = sb_request_limit(c);

	if (answer->status == 200)
	{
		c->ramped = true;
		c->throttled = false;
	}
	else if (sb.fault.throttle_on_error && answer->status != 410)
		c->throttled = true;
	if (sb_request_limit(c) != before)
		sb_request_send_limit(c);
}

/* Hands s->answer to nghttp2; it leaves at the end of the turn. */
void
sb_request_answer(SbConn *c, SbStream *s)
{
	SbAnswer   *a = &s->answer;
	nghttp2_nv	nva[4];
	size_t		n = 0;
	nghttp2_data_provider body = {{.ptr = s}, request_body_read};
	bool		drip = sb.fault.slow_body_us > 0 && sb_fault_hits(s);

	for (int i = 2, rest = a->status; i >= 0; i--, rest /= 10)
		s->answer_status[i] = (char) ('0' + rest % 10);
	nva[n++] = REQUEST_NV(":status", s->answer_status, 3, 0);
	/* not indexed: ids would push everything else out of the peer's table */
	nva[n++] = REQUEST_NV("apns-id", s->id_text, sizeof(s->id_text), NGHTTP2_NV_FLAG_NO_INDEX);
	if (s->answer_retry[0] != '\0')
		nva[n++] = REQUEST_NV("retry-after", s->answer_retry, strlen(s->answer_retry), 0);
	if (a->status / 100 == 3 && sb.fault.location[0] != '\0')
		nva[n++] = REQUEST_NV("location", sb.fault.location, strlen(sb.fault.location), 0);
	if (s->answer_len == 0 && a->reason != NULL)
	{
		int			len;

		if (a->timestamp_ms > 0)
			len = snprintf(s->answer_body, sizeof(s->answer_body),
						   "{\"reason\":\"%s\",\"timestamp\":%lld}", a->reason,
						   (long long) a->timestamp_ms);
		else
			len = snprintf(s->answer_body, sizeof(s->answer_body), "{\"reason\":\"%s\"}",
						   a->reason);
		s->answer_len = (size_t) len;
	}
	if (!drip)
	{
		s->answer_ready = s->answer_len;
		s->answer_end = true;
	}
	request_ramp(c, a);
	nghttp2_submit_response(c->session, s->id, nva, n,
							s->answer_len > 0 || drip ? &body : NULL);
	if (drip)
		sb_wait_add(s, SB_WAIT_DRIP, sb_mono_us() + sb.fault.slow_body_us);
	sb_conn_mark(c);
}

/* One more byte of a slow body, then its end. */
void
sb_request_drip(SbStream *s)
{
	if (s->answer_ready < s->answer_len)
		s->answer_ready++;
	else
		s->answer_end = true;
	nghttp2_session_resume_data(s->conn->session, s->id);
	sb_conn_mark(s->conn);
	if (!s->answer_end)
		sb_wait_add(s, SB_WAIT_DRIP, sb_mono_us() + sb.fault.slow_body_us);
}

static void
request_refuse(SbConn *c, SbStream *s, int64_t now_us)
{
	sb_ledger_refused(c, s, now_us);
	sb_request_answer(c, s);
}

/* Applies the first switched-on fault that strikes; false if none does. */
static bool
request_fault(SbConn *c, SbStream *s, int64_t now_us)
{
	SbFaults   *f = &sb.fault;

	if (f->rst_count == 0 && f->cut_after_data == 0 && f->status == 0 && !f->hang)
		return false;
	if (!sb_fault_hits(s))
		return false;
	if (sb_fault_spend(&f->rst_count))
	{
		/* REFUSED_STREAM promises that the request was not processed */
		if (f->rst_code != NGHTTP2_REFUSED_STREAM)
			sb_ledger_accepted(c, s, 0, now_us);
		sb.stats.resets++;
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, (uint32_t) f->rst_code);
		return true;
	}
	if (sb_fault_spend(&f->cut_after_data))
	{
		sb_ledger_accepted(c, s, 0, now_us);
		sb.stats.cuts++;
		c->cut = true;
		return true;
	}
	if (f->status != 0 && sb_fault_spend(&f->status_count))
	{
		s->answer.status = (int) f->status;
		s->answer.reason = sb_apns_reason(f->status_reason);
		sb_copy(s->answer_retry, sizeof(s->answer_retry), f->retry_after,
				strlen(f->retry_after));
		s->answer_len = strlen(f->status_body);
		memcpy(s->answer_body, f->status_body, s->answer_len);
		if (f->status == 410)
			s->answer.timestamp_ms = f->status_timestamp_ms > 0 ? f->status_timestamp_ms
				: now_us / 1000;
		request_refuse(c, s, now_us);
		return true;
	}
	if (f->hang)
	{
		f->applied++;
		sb_ledger_accepted(c, s, 0, now_us);
		sb_wait_add(s, SB_WAIT_HANG, 0);
		return true;
	}
	return false;
}

/* Judges and settles a complete request that is to be processed. */
void
sb_request_process(SbConn *c, SbStream *s)
{
	int64_t		now_us = sb_now_us();

	sb.request_us = now_us;
	s->processed = true;
	if (s->id > c->last_processed)
		c->last_processed = s->id;
	sb_stats_request(now_us);
	if (!(s->headers & SB_H_ID) || s->bad_id)
	{
		/* Apple makes one up when the client sends none */
		sb_uuid_random(s->id_bin);
	}
	sb_uuid_format(s->id_bin, s->id_text);
	sb_apns_judge(c, s, &s->answer);
	if (s->token_len > SB_MAX_TOKEN)
		s->token_len = SB_MAX_TOKEN;	/* what was kept of it, for the file */
	if (s->answer.status != 200)
	{
		request_refuse(c, s, now_us);
		return;
	}
	if (request_fault(c, s, now_us))
		return;
	sb_ledger_accepted(c, s, 200, now_us);
	if (sb.fault.delay_us > 0 && sb_fault_hits(s))
		sb_wait_add(s, SB_WAIT_DELAY, sb_mono_us() + sb.fault.delay_us);
	else
		sb_request_answer(c, s);
}

/* Called once per request, when its END_STREAM has arrived. */
void
sb_request_complete(SbConn *c, SbStream *s)
{
	if (c->cut || s->refused || s->processed)
		return;
	/* behind a GOAWAY: promised as not processed */
	if (c->goaway_sent && s->id > c->goaway_last)
		return;
	if (sb_goaway_request(c, s))
		return;
	sb_request_process(c, s);
}
