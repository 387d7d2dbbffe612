/*
 * goaway.c
 *		GOAWAY with a chosen last-stream-id.
 *
 * The promise of RFC 9113 section 6.8 is kept literally: streams above the
 * announced id are never judged and never reach the ledger; those at or below
 * it are answered on this connection.  Asked-for ids that would break the
 * promise (below what was already processed) are raised to the highest
 * processed one.
 *
 * "current" processes the next request and names it as the last.  "minus:K"
 * lets the next K requests pile up unprocessed and names the stream before
 * them; should fewer come, it fires after a tenth of a second.  A number N
 * fires when the first stream above N is complete.
 */
#include "sandbox.h"

#include <stdio.h>
#include <string.h>

#define GOAWAY_PATIENCE_US	100000

static void
goaway_submit(SbConn *c, int32_t last, const char *reason)
{
	char		data[96];
	int			len = snprintf(data, sizeof(data), "{\"reason\":\"%s\"}", reason);

	/* only ids that a client may use can be named */
	if (last > 0 && last % 2 == 0)
		last--;
	c->goaway_sent = true;
	c->goaway_last = last;
	c->withhold_target = 0;
	c->withhold_due_us = 0;
	sb.stats.goaways++;
	nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, last,
						  (uint32_t) sb.fault.goaway_code, (const uint8_t *) data, (size_t) len);
	sb_conn_mark(c);
}

/*
 * Announces last (or what was processed, if higher) and settles the rest.
 * reason NULL is the one of the switch.
 */
void
sb_goaway_fire(SbConn *c, int32_t last, const char *reason)
{
	SbStream   *s;

	if (last < c->last_processed)
		last = c->last_processed;
	if (reason == NULL)
		reason = sb.fault.goaway_reason[0] ? sb.fault.goaway_reason : "Shutdown";
	goaway_submit(c, last, reason);
	while ((s = sb_wait_first_withheld(c)) != NULL)
	{
		sb_wait_remove(s);
		c->withheld--;
		if (s->id <= c->goaway_last)
			sb_request_process(c, s);
	}
}

/* GOAWAY at once; reason NULL is the one of the switch. */
void
sb_goaway_now(SbConn *c, const char *reason)
{
	if (c->goaway_sent || c->session == NULL)
		return;
	sb_goaway_fire(c, c->last_processed, reason);
}

/*
 * Looks at a complete request before it is judged.  True if the request has
 * been dealt with here: processed as the last one, or kept back.
 */
bool
sb_goaway_request(SbConn *c, SbStream *s)
{
	SbFaults   *f = &sb.fault;

	if (c->goaway_sent)
		return false;
	if (c->withhold_target == 0)
	{
		if (f->goaway == SB_GOAWAY_NONE || f->goaway_count == 0)
			return false;
		if (f->goaway == SB_GOAWAY_NUMBER && s->id <= f->goaway_arg)
			return false;
		sb_fault_spend(&f->goaway_count);
		if (f->goaway == SB_GOAWAY_NUMBER)
		{
			sb_wait_add(s, SB_WAIT_GOAWAY, 0);
			c->withheld++;
			sb_goaway_fire(c, (int32_t) f->goaway_arg, NULL);
			return true;
		}
		if (f->goaway_arg == 0)
		{
			sb_request_process(c, s);
			sb_goaway_fire(c, c->last_processed, NULL);
			return true;
		}
		c->withhold_target = (int) f->goaway_arg;
		c->withhold_due_us = sb_mono_us() + GOAWAY_PATIENCE_US;
	}
	sb_wait_add(s, SB_WAIT_GOAWAY, 0);
	c->withheld++;
	if (c->withheld >= c->withhold_target)
		sb_goaway_fire(c, c->last_processed, NULL);
	return true;
}

/* The patience of "minus:K" is over. */
void
sb_goaway_release(SbConn *c)
{
	if (!c->goaway_sent && c->withhold_target > 0)
		sb_goaway_fire(c, c->last_processed, NULL);
}
