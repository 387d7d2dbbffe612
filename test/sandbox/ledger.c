/*
 * ledger.c
 *		The provider's own record of what it was given.
 *
 * ledger.tsv has one line per request that the provider has: status 200 for
 * an answered one, 0 for one whose answer was withheld or cut (the client
 * cannot know, the provider has the message).  refused.tsv has one line per
 * refusal with its reason.  A request never has two lines.
 *
 * Lines are gathered in memory during a turn of the loop and written before
 * any answer of that turn leaves, see sandbox.h.  A line that cannot be
 * written ends the program: an answer without a line would be a false
 * accusation of the client.
 */
#include "sandbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* more than the columns before the hash can take */
#define LEDGER_LINE	(SB_MAX_TOKEN + 3 * SB_MAX_FIELD + 36 + 5 * 21 + 16)

typedef struct LedgerFile
{
	int			fd;
	int64_t		size;			/* bytes written */
	SbBuf		pending;
} LedgerFile;

static LedgerFile ledger_main = {.fd = -1};
static LedgerFile ledger_refused = {.fd = -1};
static EVP_MD_CTX *ledger_ctx;
static EVP_MD *ledger_sha256;

static void
ledger_open_file(LedgerFile *file, const char *name)
{
	char		path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", sb.opt.dir, name);
	file->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (file->fd < 0 || fstat(file->fd, &st) != 0)
		sb_die("cannot open \"%s\": %m", path);
	file->size = st.st_size;
}

void
sb_ledger_open(void)
{
	ledger_open_file(&ledger_main, "ledger.tsv");
	ledger_open_file(&ledger_refused, "refused.tsv");
	ledger_ctx = EVP_MD_CTX_new();
	/* fetched once: an implicit fetch costs more than hashing a payload */
	ledger_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (ledger_ctx == NULL || ledger_sha256 == NULL)
		sb_die("SHA-256 is not available");
}

/* A header value may hold tabs; a column may not.  Writes a tab behind it. */
static char *
ledger_field(char *w, const char *text, size_t len)
{
	if (len == 0)
		*w++ = '-';
	for (size_t i = 0; i < len; i++)
		*w++ = (unsigned char) text[i] < 0x20 ? '?' : text[i];
	*w++ = '\t';
	return w;
}

static char *
ledger_number(char *w, uint64_t value)
{
	char		digits[20];
	size_t		n = sizeof(digits);

	do
	{
		digits[--n] = (char) ('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(w, digits + n, sizeof(digits) - n);
	w += sizeof(digits) - n;
	*w++ = '\t';
	return w;
}

/*
 * The columns common to both files, written through a bare pointer into room
 * reserved once: this runs for every request.
 */
static void
ledger_head(SbBuf *buf, const SbConn *c, const SbStream *s, int status, int64_t now_us)
{
	char	   *w;

	sb_buf_reserve(buf, LEDGER_LINE);
	w = buf->data + buf->len;
	w = ledger_number(w, (uint64_t) now_us);
	w = ledger_number(w, c->number);
	w = ledger_number(w, (uint64_t) s->id);
	memcpy(w, s->id_text, sizeof(s->id_text));
	w += sizeof(s->id_text);
	*w++ = '\t';
	w = ledger_field(w, s->token, s->token_len);
	w = ledger_field(w, s->topic, s->topic_len);
	w = ledger_field(w, s->type, s->type_len);
	w = ledger_field(w, s->collapse, s->collapse_len);
	w = ledger_number(w, (uint64_t) status);
	w = ledger_number(w, s->body_len);
	buf->len = (size_t) (w - buf->data);
}

static void
ledger_hash(SbBuf *buf, const SbStream *s)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t		digest[EVP_MAX_MD_SIZE];
	char		text[16];

	if (EVP_DigestInit_ex2(ledger_ctx, ledger_sha256, NULL) != 1 ||
		EVP_DigestUpdate(ledger_ctx, s->body, s->body_len) != 1 ||
		EVP_DigestFinal_ex(ledger_ctx, digest, NULL) != 1)
		sb_die("SHA-256 failed");
	for (int i = 0; i < 8; i++)
	{
		text[2 * i] = hex[digest[i] >> 4];
		text[2 * i + 1] = hex[digest[i] & 15];
	}
	sb_buf_put(buf, text, sizeof(text));
}

/*
 * Appends the line of a request the provider keeps; status is 200, or 0 when
 * no answer will be given for now.  Counts duplicates.
 */
void
sb_ledger_accepted(const SbConn *c, const SbStream *s, int status, int64_t now_us)
{
	SbBuf	   *buf = &ledger_main.pending;
	int64_t		before;

	before = sb_idset_add(s->id_bin, ledger_main.size + (int64_t) buf->len);
	if (before < 0)
		sb.stats.ids_untracked++;
	else if (before > 0)
		sb.stats.duplicates++;
	if (status == 0)
		sb.stats.withheld++;
	else
		sb.stats.accepted++;

	ledger_head(buf, c, s, status, now_us);
	ledger_hash(buf, s);
	if (sb.opt.log_bodies)
	{
		size_t		start;

		sb_buf_putc(buf, '\t');
		start = buf->len;
		sb_buf_put(buf, s->body, s->body_len);
		/* JSON allows these only between tokens, where a blank says the same */
		for (size_t i = start; i < buf->len; i++)
			if ((unsigned char) buf->data[i] < 0x20)
				buf->data[i] = ' ';
	}
	sb_buf_putc(buf, '\n');
}

/* Appends the refusal in s->answer. */
void
sb_ledger_refused(const SbConn *c, const SbStream *s, int64_t now_us)
{
	SbBuf	   *buf = &ledger_refused.pending;

	sb.stats.refused++;
	sb_stats_reason(s->answer.status, s->answer.reason);
	ledger_head(buf, c, s, s->answer.status, now_us);
	sb_buf_puts(buf, s->answer.reason);
	sb_buf_putc(buf, '\n');
}

static void
ledger_write(LedgerFile *file)
{
	size_t		off = 0;

	if (file->pending.len == 0)
		return;
	while (off < file->pending.len)
	{
		ssize_t		n = write(file->fd, file->pending.data + off, file->pending.len - off);

		if (n < 0)
			sb_die("cannot write the ledger: %m");
		off += (size_t) n;
	}
	if (sb.opt.ledger_fsync && fdatasync(file->fd) != 0)
		sb_die("cannot sync the ledger: %m");
	file->size += (int64_t) file->pending.len;
	file->pending.len = 0;
}

/* Must run before any answer of the turn is written to a socket. */
void
sb_ledger_flush(void)
{
	ledger_write(&ledger_main);
	ledger_write(&ledger_refused);
}

void
sb_ledger_reset(void)
{
	sb_ledger_flush();
	if (ftruncate(ledger_main.fd, 0) != 0 || ftruncate(ledger_refused.fd, 0) != 0)
		sb_die("cannot truncate the ledger: %m");
	ledger_main.size = 0;
	ledger_refused.size = 0;
	sb_idset_clear();
}

/*
 * Appends every ledger line of the id to *out.  Starts at its first line and
 * stops when as many lines as were counted have been seen.
 */
void
sb_ledger_find(const uint8_t id[16], SbBuf *out)
{
	char		needle[38];
	int64_t		offset;
	uint32_t	left;
	SbBuf		chunk = {0};
	size_t		keep = 0;

	sb_ledger_flush();
	if (!sb_idset_find(id, &offset, &left))
		return;
	needle[0] = '\t';
	sb_uuid_format(id, needle + 1);
	needle[37] = '\t';
	sb_buf_reserve(&chunk, 1 << 20);
	while (left > 0)
	{
		ssize_t		n = pread(ledger_main.fd, chunk.data + keep, chunk.cap - keep, offset);
		char	   *pos = chunk.data;
		char	   *end;
		char	   *nl;

		if (n <= 0)
			break;
		offset += n;
		end = chunk.data + keep + n;
		while (left > 0 && (nl = memchr(pos, '\n', (size_t) (end - pos))) != NULL)
		{
			if (memmem(pos, (size_t) (nl - pos), needle, sizeof(needle)) != NULL)
			{
				sb_buf_put(out, pos, (size_t) (nl + 1 - pos));
				left--;
			}
			pos = nl + 1;
		}
		keep = (size_t) (end - pos);
		memmove(chunk.data, pos, keep);
	}
	free(chunk.data);
}
