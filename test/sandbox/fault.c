/*
 * fault.c
 *		One switch per fault, set over the control port while running.
 *
 * Counted faults strike the next N requests that pass the contract and then
 * rest; a count of "all" never rests.  "fraction" narrows every per-request
 * fault to a fixed share of the device tokens, chosen by hash, so that the
 * same devices suffer each time.
 */
#include "sandbox.h"

#include <stdio.h>
#include <string.h>

void
sb_fault_init(void)
{
	memset(&sb.fault, 0, sizeof(sb.fault));
	sb.fault.max_streams = -1;
	sb.fault.window = -1;
	sb.fault.fraction = 10000;
	sb.fault.no_ramp = sb.opt.no_ramp;
	sb.fault.idle_timeout_us = (int64_t) sb.opt.idle_timeout_s * 1000000;
}

/* Takes one from a count; false when it is used up. */
bool
sb_fault_spend(int64_t *count)
{
	if (*count == 0)
		return false;
	if (*count > 0)
		(*count)--;
	sb.fault.applied++;
	return true;
}

/* Whether the per-request faults concern this stream's device. */
bool
sb_fault_hits(const SbStream *s)
{
	size_t		len = s->token_len < SB_MAX_TOKEN ? s->token_len : SB_MAX_TOKEN;

	if (sb.fault.fraction >= 10000)
		return true;
	return (int64_t) (sb_hash(s->token, len) % 10000) < sb.fault.fraction;
}

static void
fault_send_setting(int32_t id, uint32_t value)
{
	for (SbConn *c = sb.conns; c != NULL; c = c->next)
	{
		nghttp2_settings_entry iv = {id, value};

		if (c->session == NULL || c->dead)
			continue;
		nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, &iv, 1);
		sb_conn_mark(c);
	}
}

static void
fault_send_limits(void)
{
	for (SbConn *c = sb.conns; c != NULL; c = c->next)
		if (c->session != NULL && !c->dead)
			sb_request_send_limit(c);
}

/* Back to a provider without faults; what hangs is answered. */
void
sb_fault_clear(void)
{
	bool		limits = sb.fault.max_streams >= 0;
	bool		window = sb.fault.window >= 0;

	sb_fault_init();
	sb_loop_accept("on");
	sb_conn_tls("good");
	for (SbConn *c = sb.conns; c != NULL; c = c->next)
	{
		sb_goaway_release(c);
		limits = limits || c->throttled;
		c->throttled = false;
	}
	sb_wait_release_hung(true);
	if (limits)
		fault_send_limits();
	if (window)
		fault_send_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65535);
}

static bool
fault_error(SbBuf *err, const char *key, const char *value)
{
	sb_buf_putf(err, "bad value \"%s\" for \"%s\"\n", value, key);
	return false;
}

static bool
fault_number(const char *key, const char *value, int64_t min, int64_t max, int64_t *out, SbBuf *err)
{
	int64_t		n;

	if (strcmp(value, "all") == 0 && min == SB_FOREVER)
	{
		*out = SB_FOREVER;
		return true;
	}
	if (!sb_parse_int(value, strlen(value), &n) || n < min || n > max)
		return fault_error(err, key, value);
	*out = n;
	return true;
}

static bool
fault_flag(const char *key, const char *value, bool *out, SbBuf *err)
{
	if (strcmp(value, "on") == 0 || strcmp(value, "1") == 0 || value[0] == '\0')
		*out = true;
	else if (strcmp(value, "off") == 0 || strcmp(value, "0") == 0)
		*out = false;
	else
		return fault_error(err, key, value);
	return true;
}

/* last_stream:X | X | now, then reason:R, code:N, count:N, comma-separated */
static bool
fault_goaway(const char *value, SbBuf *err)
{
	SbFaults   *f = &sb.fault;
	bool		now = false;
	const char *p = value;

	f->goaway = SB_GOAWAY_NONE;
	f->goaway_arg = 0;
	f->goaway_count = 1;
	f->goaway_code = NGHTTP2_NO_ERROR;
	sb_copy(f->goaway_reason, sizeof(f->goaway_reason), "Shutdown", 8);
	if (strcmp(value, "off") == 0)
		return true;
	while (*p != '\0')
	{
		char		part[96];
		size_t		len = strcspn(p, ",");
		const char *arg = part;

		sb_copy(part, sizeof(part), p, len);
		p += len;
		if (*p == ',')
			p++;
		if (strncmp(part, "reason:", 7) == 0)
		{
			sb_copy(f->goaway_reason, sizeof(f->goaway_reason), part + 7, strlen(part + 7));
			continue;
		}
		if (strncmp(part, "code:", 5) == 0)
		{
			if (!fault_number("goaway code", part + 5, 0, 0xffff, &f->goaway_code, err))
				return false;
			continue;
		}
		if (strncmp(part, "count:", 6) == 0)
		{
			if (!fault_number("goaway count", part + 6, SB_FOREVER, INT32_MAX, &f->goaway_count, err))
				return false;
			continue;
		}
		if (strncmp(part, "last_stream:", 12) == 0)
			arg = part + 12;
		if (strcmp(arg, "now") == 0)
			now = true;
		else if (strcmp(arg, "current") == 0)
			f->goaway = SB_GOAWAY_MINUS;
		else if (strncmp(arg, "minus:", 6) == 0)
		{
			f->goaway = SB_GOAWAY_MINUS;
			if (!fault_number("goaway minus", arg + 6, 0, 100000, &f->goaway_arg, err))
				return false;
		}
		else
		{
			f->goaway = SB_GOAWAY_NUMBER;
			if (!fault_number("goaway", arg, 0, INT32_MAX, &f->goaway_arg, err))
			{
				f->goaway = SB_GOAWAY_NONE;
				return false;
			}
		}
	}
	if (now)
	{
		f->goaway = SB_GOAWAY_NONE;
		for (SbConn *c = sb.conns; c != NULL; c = c->next)
			if (!c->dead)
				sb_goaway_now(c, NULL);
	}
	return true;
}

static bool
fault_rst(const char *key, const char *value, SbBuf *err)
{
	static const char *const names[] = {
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
		"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL",
		"COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY",
		"HTTP_1_1_REQUIRED"
	};
	char		code[32];
	const char *comma = strchr(value, ',');
	size_t		len = strcspn(value, ",");

	sb_copy(code, sizeof(code), value, len);
	sb.fault.rst_count = 0;
	if (strcmp(code, "off") == 0)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(code, names[i]) == 0)
			snprintf(code, sizeof(code), "%zu", i);
	if (!fault_number(key, code, 0, 0xffff, &sb.fault.rst_code, err))
		return false;
	sb.fault.rst_count = 1;
	return comma == NULL ||
		fault_number(key, comma + 1, SB_FOREVER, INT32_MAX, &sb.fault.rst_count, err);
}

static bool
fault_status(const char *key, const char *value, SbBuf *err)
{
	SbFaults   *f = &sb.fault;
	const char *reason;

	f->status = 0;
	if (strcmp(value, "off") == 0)
		return true;
	if (!fault_number(key, value, 300, 599, &f->status, err))
		return false;
	f->status_count = SB_FOREVER;
	f->status_timestamp_ms = 0;
	f->retry_after[0] = '\0';
	f->location[0] = '\0';
	f->status_body[0] = '\0';
	reason = f->status == 410 ? "Unregistered" :
		f->status == 429 ? "TooManyRequests" :
		f->status == 503 ? "ServiceUnavailable" :
		f->status == 500 ? "InternalServerError" :
		f->status == 403 ? "Forbidden" :
		f->status == 413 ? "PayloadTooLarge" : "BadDeviceToken";
	sb_copy(f->status_reason, sizeof(f->status_reason), reason, strlen(reason));
	return true;
}

static bool
fault_hang(const char *value, SbBuf *err)
{
	if (strcmp(value, "drop") == 0)
	{
		sb.fault.hang = false;
		sb_wait_release_hung(false);
		return true;
	}
	if (!fault_flag("hang", value, &sb.fault.hang, err))
		return false;
	if (!sb.fault.hang)
		sb_wait_release_hung(true);
	return true;
}

static bool
fault_fraction(const char *key, const char *value, SbBuf *err)
{
	double		percent;
	char		rest;

	if (sscanf(value, "%lf%c", &percent, &rest) != 1 || percent < 0 || percent > 100)
		return fault_error(err, key, value);
	sb.fault.fraction = (int64_t) (percent * 100 + 0.5);
	return true;
}

/*
 * Sets one switch; on a wrong key or value appends a message to *err and
 * returns false.
 */
bool
sb_fault_set(const char *key, const char *value, SbBuf *err)
{
	SbFaults   *f = &sb.fault;
	int64_t		n;
	bool		on;

#define FAULT_IS(name) (strcmp(key, name) == 0)
	if (FAULT_IS("clear"))
	{
		sb_fault_clear();
		return true;
	}
	if (FAULT_IS("goaway"))
		return fault_goaway(value, err);
	if (FAULT_IS("refused_stream"))
		return fault_number(key, value, SB_FOREVER, INT32_MAX, &f->refused_stream, err);
	if (FAULT_IS("rst"))
		return fault_rst(key, value, err);
	if (FAULT_IS("status"))
		return fault_status(key, value, err);
	if (FAULT_IS("reason"))
	{
		if (strlen(value) >= sizeof(f->status_reason) || strpbrk(value, "\"\\\t\n") != NULL)
			return fault_error(err, key, value);
		sb_copy(f->status_reason, sizeof(f->status_reason), value, strlen(value));
		return true;
	}
	if (FAULT_IS("count"))
		return fault_number(key, value, SB_FOREVER, INT32_MAX, &f->status_count, err);
	if (FAULT_IS("retry_after"))
	{
		/* free text: wrong values are what clients must survive */
		if (strlen(value) >= sizeof(f->retry_after))
			return fault_error(err, key, value);
		sb_copy(f->retry_after, sizeof(f->retry_after), value, strlen(value));
		return true;
	}
	if (FAULT_IS("location"))
	{
		if (strlen(value) >= sizeof(f->location))
			return fault_error(err, key, value);
		sb_copy(f->location, sizeof(f->location), value, strlen(value));
		return true;
	}
	if (FAULT_IS("timestamp"))
		return fault_number(key, value, 0, INT64_MAX, &f->status_timestamp_ms, err);
	if (FAULT_IS("body"))
	{
		if (strlen(value) >= sizeof(f->status_body))
			return fault_error(err, key, value);
		sb_copy(f->status_body, sizeof(f->status_body), value, strlen(value));
		return true;
	}
	if (FAULT_IS("fraction"))
		return fault_fraction(key, value, err);
	if (FAULT_IS("hang"))
		return fault_hang(value, err);
	if (FAULT_IS("delay_ms"))
	{
		if (!fault_number(key, value, 0, 3600000, &n, err))
			return false;
		f->delay_us = n * 1000;
		return true;
	}
	if (FAULT_IS("slow_body"))
	{
		if (!fault_number(key, value, 0, 3600000, &n, err))
			return false;
		f->slow_body_us = n * 1000;
		return true;
	}
	if (FAULT_IS("cut_after_headers"))
		return fault_number(key, value, SB_FOREVER, INT32_MAX, &f->cut_after_headers, err);
	if (FAULT_IS("cut_after_data"))
		return fault_number(key, value, SB_FOREVER, INT32_MAX, &f->cut_after_data, err);
	if (FAULT_IS("max_streams"))
	{
		if (strcmp(value, "off") == 0)
			f->max_streams = -1;
		else if (!fault_number(key, value, 0, 1000000, &f->max_streams, err))
			return false;
		fault_send_limits();
		return true;
	}
	if (FAULT_IS("window"))
	{
		if (strcmp(value, "off") == 0)
			f->window = -1;
		else if (!fault_number(key, value, 0, INT32_MAX, &f->window, err))
			return false;
		fault_send_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
						   f->window >= 0 ? (uint32_t) f->window : 65535);
		return true;
	}
	if (FAULT_IS("jwt_expired"))
	{
		if (!fault_flag(key, value, &on, err))
			return false;
		f->jwt_expired_us = on ? sb_now_us() : 0;
		return true;
	}
	if (FAULT_IS("idle_timeout_ms"))
	{
		if (!fault_number(key, value, 0, 86400000, &n, err))
			return false;
		f->idle_timeout_us = n * 1000;
		return true;
	}
	if (FAULT_IS("no_ping_reply"))
		return fault_flag(key, value, &f->no_ping_reply, err);
	if (FAULT_IS("throttle_on_error"))
		return fault_flag(key, value, &f->throttle_on_error, err);
	if (FAULT_IS("no_ramp"))
		return fault_flag(key, value, &f->no_ramp, err);
	if (FAULT_IS("accept"))
	{
		if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0 && strcmp(value, "refuse") != 0)
			return fault_error(err, key, value);
		sb_loop_accept(value);
		return true;
	}
	if (FAULT_IS("tls"))
		return sb_conn_tls(value) || fault_error(err, key, value);
#undef FAULT_IS
	sb_buf_putf(err, "unknown fault \"%s\"\n", key);
	return false;
}

/* The present switches as one JSON object. */
void
sb_fault_describe(SbBuf *out)
{
	const SbFaults *f = &sb.fault;

	sb_buf_putf(out, "{\"goaway\":%d,\"goaway_count\":%lld,\"refused_stream\":%lld,"
				"\"rst_count\":%lld,\"status\":%lld,\"status_count\":%lld,\"fraction\":%.2f,"
				"\"hang\":%s,\"delay_ms\":%lld,\"slow_body\":%lld,\"cut_after_data\":%lld,"
				"\"max_streams\":%lld,\"window\":%lld,\"jwt_expired\":%s,\"no_ping_reply\":%s,"
				"\"throttle_on_error\":%s,\"idle_timeout_ms\":%lld,\"applied\":%llu}\n",
				(int) f->goaway, (long long) f->goaway_count, (long long) f->refused_stream,
				(long long) f->rst_count, (long long) f->status, (long long) f->status_count,
				(double) f->fraction / 100, f->hang ? "true" : "false",
				(long long) f->delay_us / 1000, (long long) f->slow_body_us / 1000,
				(long long) f->cut_after_data, (long long) f->max_streams, (long long) f->window,
				f->jwt_expired_us > 0 ? "true" : "false", f->no_ping_reply ? "true" : "false",
				f->throttle_on_error ? "true" : "false",
				(long long) f->idle_timeout_us / 1000, (unsigned long long) f->applied);
}
