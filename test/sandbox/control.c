/*
 * control.c
 *		The control port: a small HTTP/1.1 server for tests.
 *
 * GET only, one request per connection, so that curl, perl and psql's \! can
 * use it alike.  A command takes effect before its answer is sent, and the
 * answer is sent after the ledger of the same turn: what /stats counts is in
 * the file.
 */
#include "sandbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_MAX_REQUEST	16384
#define CONTROL_PATIENCE_MS	2000	/* with a peer that does not read */

typedef struct ControlConn
{
	SbWatch		watch;			/* must be first */
	struct ControlConn *next;	/* those to be answered this turn */
	SbBuf		in;
	SbBuf		out;
	int			status;
	bool		done;
} ControlConn;

static ControlConn *control_done;

void
sb_control_accept(int fd)
{
	ControlConn *cc = sb_alloc(sizeof(*cc));

	cc->watch.kind = SB_WATCH_CONTROL;
	cc->watch.fd = fd;
	sb_loop_watch(&cc->watch, EPOLLIN, true);
}

static int
control_hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
		c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes %xx in place. */
static void
control_unescape(char *text)
{
	char	   *w = text;

	for (char *r = text; *r != '\0'; r++)
	{
		int			hi = r[0] == '%' ? control_hex(r[1]) : -1;
		int			lo = hi >= 0 ? control_hex(r[2]) : -1;

		if (lo >= 0)
		{
			*w++ = (char) (hi << 4 | lo);
			r += 2;
		}
		else
			*w++ = *r;
	}
	*w = '\0';
}

typedef bool (*ControlPair) (const char *key, const char *value, void *arg, SbBuf *err);

/*
 * Walks key=value pairs split by '&'.  A comma followed by another key= is a
 * separator too, so that "status=503,count=3" reads as it looks.
 */
static bool
control_pairs(char *query, ControlPair fn, void *arg, SbBuf *err)
{
	bool		ok = true;

	while (query != NULL && *query != '\0')
	{
		char	   *next = strchr(query, '&');
		char	   *eq;
		char	   *comma;

		if (next != NULL)
			*next++ = '\0';
		while (query != NULL)
		{
			char	   *rest = NULL;
			char	   *value = query + strlen(query);

			eq = strchr(query, '=');
			if (eq != NULL)
			{
				value = eq + 1;
				for (comma = strchr(value, ','); comma != NULL; comma = strchr(comma + 1, ','))
				{
					size_t		word = strcspn(comma + 1, ",=");

					if (comma[1 + word] == '=')
					{
						*comma = '\0';
						rest = comma + 1;
						break;
					}
				}
				*eq = '\0';
			}
			control_unescape(query);
			control_unescape(value);
			ok = fn(query, value, arg, err) && ok;
			query = rest;
		}
		query = next;
	}
	return ok;
}

static bool
control_fault_pair(const char *key, const char *value, void *arg, SbBuf *err)
{
	(void) arg;
	return sb_fault_set(key, value, err);
}

typedef struct ControlToken
{
	char		hex[SB_MAX_TOKEN + 1];
	size_t		len;
	SbToken		token;
	bool		has_state;
} ControlToken;

static bool
control_token_pair(const char *key, const char *value, void *arg, SbBuf *err)
{
	ControlToken *t = arg;
	static const struct
	{
		const char *name;
		SbTokenState state;
	}			states[] = {
		{"ok", SB_TOKEN_OK}, {"dead", SB_TOKEN_DEAD}, {"expired", SB_TOKEN_EXPIRED},
		{"wrong", SB_TOKEN_WRONG}, {"mismatch", SB_TOKEN_MISMATCH},
		{"throttled", SB_TOKEN_THROTTLED}
	};

	if (strcmp(key, "hex") == 0 && strlen(value) > 0 && strlen(value) <= SB_MAX_TOKEN)
	{
		t->len = sb_copy(t->hex, sizeof(t->hex), value, strlen(value));
		return true;
	}
	if (strcmp(key, "topic") == 0 && strlen(value) < sizeof(t->token.topic))
	{
		sb_copy(t->token.topic, sizeof(t->token.topic), value, strlen(value));
		return true;
	}
	if (strcmp(key, "at") == 0 &&
		sb_parse_int(value, strlen(value), &t->token.timestamp_ms))
		return true;
	if (strcmp(key, "state") == 0)
	{
		if (strncmp(value, "unregistered_at:", 16) == 0 &&
			sb_parse_int(value + 16, strlen(value + 16), &t->token.timestamp_ms))
		{
			t->token.state = SB_TOKEN_DEAD;
			return t->has_state = true;
		}
		for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
			if (strcmp(value, states[i].name) == 0)
			{
				t->token.state = states[i].state;
				return t->has_state = true;
			}
	}
	sb_buf_putf(err, "bad value \"%s\" for \"%s\"\n", value, key);
	return false;
}

static int
control_token(char *query, SbBuf *out)
{
	ControlToken t = {.len = 0};

	if (!control_pairs(query, control_token_pair, &t, out))
		return 400;
	if (t.len == 0 || !t.has_state)
	{
		sb_buf_puts(out, "hex= and state= are needed\n");
		return 400;
	}
	if (t.token.timestamp_ms == 0)
		t.token.timestamp_ms = sb_now_us() / 1000;
	sb_tokens_set(t.hex, t.len, &t.token);
	sb_buf_puts(out, "ok\n");
	return 200;
}

static int
control_find(const char *query, SbBuf *out)
{
	uint8_t		id[16];

	if (query == NULL || strncmp(query, "apns_id=", 8) != 0 ||
		!sb_uuid_parse(query + 8, strlen(query + 8), id))
	{
		sb_buf_puts(out, "apns_id=UUID is needed\n");
		return 400;
	}
	sb_ledger_find(id, out);
	return 200;
}

static int
control_run(char *path, SbBuf *out)
{
	char	   *query = strchr(path, '?');

	if (query != NULL)
		*query++ = '\0';
	if (strcmp(path, "/stats") == 0)
	{
		sb_stats_json(out);
		return 200;
	}
	if (strcmp(path, "/fault") == 0)
	{
		if (!control_pairs(query, control_fault_pair, NULL, out))
			return 400;
		sb_fault_describe(out);
		return 200;
	}
	if (strcmp(path, "/token") == 0)
		return control_token(query, out);
	if (strcmp(path, "/ledger/count") == 0)
	{
		sb_buf_putu(out, sb.stats.accepted + sb.stats.withheld);
		sb_buf_putc(out, '\n');
		return 200;
	}
	if (strcmp(path, "/ledger/find") == 0)
		return control_find(query, out);
	if (strcmp(path, "/reset") == 0)
	{
		sb_fault_clear();
		sb_tokens_clear();
		sb_ledger_reset();
		sb_stats_reset();
		sb_buf_puts(out, "ok\n");
		return 200;
	}
	sb_buf_puts(out, "unknown path; see README.md\n");
	return 404;
}

static void
control_queue(ControlConn *cc, int status)
{
	cc->status = status;
	cc->done = true;
	cc->next = control_done;
	control_done = cc;
}

/* Reads a request; its answer goes out in sb_control_finish. */
void
sb_control_ready(SbWatch *watch)
{
	ControlConn *cc = (ControlConn *) watch;
	char	   *end;
	char	   *path;
	ssize_t		n;

	if (cc->done)
		return;
	sb_buf_reserve(&cc->in, CONTROL_MAX_REQUEST);
	n = recv(watch->fd, cc->in.data + cc->in.len, CONTROL_MAX_REQUEST - 1 - cc->in.len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		control_queue(cc, 0);
		return;
	}
	cc->in.len += (size_t) n;
	cc->in.data[cc->in.len] = '\0';
	if (strstr(cc->in.data, "\r\n\r\n") == NULL)
	{
		if (cc->in.len >= CONTROL_MAX_REQUEST - 1)
			control_queue(cc, 0);
		return;
	}
	path = cc->in.data + 4;
	end = strchr(path, ' ');
	if (strncmp(cc->in.data, "GET ", 4) != 0 || end == NULL)
	{
		sb_buf_puts(&cc->out, "GET only\n");
		control_queue(cc, 405);
		return;
	}
	*end = '\0';
	control_queue(cc, control_run(path, &cc->out));
}

static void
control_send(ControlConn *cc)
{
	SbBuf		head = {0};
	size_t		off = 0;

	sb_buf_putf(&head, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\n"
				"Content-Type: text/plain; charset=utf-8\r\n\r\n", cc->status,
				cc->status == 200 ? "OK" : "Refused", cc->out.len);
	sb_buf_put(&head, cc->out.data, cc->out.len);
	while (off < head.len)
	{
		ssize_t		n = send(cc->watch.fd, head.data + off, head.len - off, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
		{
			struct pollfd pfd = {.fd = cc->watch.fd, .events = POLLOUT};

			if (poll(&pfd, 1, CONTROL_PATIENCE_MS) == 1)
				continue;
		}
		if (n < 0)
			break;
		off += (size_t) n;
	}
	free(head.data);
}

/* Sends this turn's answers and closes their connections. */
void
sb_control_finish(void)
{
	while (control_done != NULL)
	{
		ControlConn *cc = control_done;

		control_done = cc->next;
		if (cc->status != 0)
			control_send(cc);
		close(cc->watch.fd);
		free(cc->in.data);
		free(cc->out.data);
		free(cc);
	}
}
