/*
 * stats.c
 *		Counters of the sandbox, shown by /stats as JSON.
 */
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <jansson.h>

#define STATS_REASONS	128

typedef struct StatsReason
{
	int			status;
	const char *reason;
	uint64_t	count;
} StatsReason;

static StatsReason stats_reasons[STATS_REASONS];
static int64_t stats_second;
static uint64_t stats_this_second;
static uint64_t stats_last_second;

static void
stats_turn(int64_t second)
{
	if (second == stats_second)
		return;
	stats_last_second = second == stats_second + 1 ? stats_this_second : 0;
	stats_this_second = 0;
	stats_second = second;
}

/* Counts a processed request. */
void
sb_stats_request(int64_t now_us)
{
	sb.stats.received++;
	stats_turn(now_us / 1000000);
	stats_this_second++;
}

/* Counts a refusal; reason must be lasting (sb_apns_reason). */
void
sb_stats_reason(int status, const char *reason)
{
	for (int i = 0; i < STATS_REASONS; i++)
	{
		StatsReason *r = &stats_reasons[i];

		if (r->reason == NULL)
		{
			r->status = status;
			r->reason = reason;
		}
		if (r->status == status && strcmp(r->reason, reason) == 0)
		{
			r->count++;
			return;
		}
	}
}

void
sb_stats_reset(void)
{
	uint64_t	connections = sb.stats.connections;
	uint64_t	open_connections = sb.stats.open_connections;
	uint64_t	open_streams = sb.stats.open_streams;

	memset(&sb.stats, 0, sizeof(sb.stats));
	memset(stats_reasons, 0, sizeof(stats_reasons));
	/* numbers of connections go on, so that ledger lines stay distinct */
	sb.stats.connections = connections;
	sb.stats.open_connections = open_connections;
	sb.stats.open_streams = open_streams;
	sb.stats.peak_streams = open_streams;
}

static void
stats_put(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t) value));
}

/* Appends the counters as one JSON object. */
void
sb_stats_json(SbBuf *out)
{
	const SbStats *st = &sb.stats;
	json_t	   *root = json_object();
	json_t	   *reasons = json_object();
	struct rusage ru;
	char	   *text;

	stats_turn(sb_now_us() / 1000000);
	for (int i = 0; i < STATS_REASONS && stats_reasons[i].reason != NULL; i++)
	{
		json_t	   *old = json_object_get(reasons, stats_reasons[i].reason);

		stats_put(reasons, stats_reasons[i].reason,
				  stats_reasons[i].count + (uint64_t) json_integer_value(old));
	}
	stats_put(root, "received", st->received);
	stats_put(root, "accepted", st->accepted);
	stats_put(root, "withheld", st->withheld);
	stats_put(root, "refused", st->refused);
	json_object_set_new(root, "refused_by_reason", reasons);
	stats_put(root, "duplicates", st->duplicates);
	stats_put(root, "distinct_ids", sb_idset_count());
	stats_put(root, "ids_untracked", st->ids_untracked);
	stats_put(root, "hung", sb_wait_hung());
	stats_put(root, "connections", st->connections);
	stats_put(root, "open_connections", st->open_connections);
	stats_put(root, "open_streams", st->open_streams);
	stats_put(root, "peak_streams", st->peak_streams);
	stats_put(root, "violations", st->violations);
	stats_put(root, "goaways", st->goaways);
	stats_put(root, "resets", st->resets);
	stats_put(root, "cuts", st->cuts);
	stats_put(root, "pings", st->pings);
	stats_put(root, "tls_errors", st->tls_errors);
	stats_put(root, "bad_json", st->bad_json);
	stats_put(root, "jwt_verified", sb_jwt_verified());
	stats_put(root, "distinct_tokens", sb_jwt_distinct());
	stats_put(root, "device_tokens", sb_tokens_count());
	stats_put(root, "rps_last_second", stats_last_second);
	getrusage(RUSAGE_SELF, &ru);
	json_object_set_new(root, "cpu_seconds",
						json_real((double) (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
								  (double) (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6));
	text = json_dumps(root, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
	if (text == NULL)
		sb_die("out of memory");
	sb_buf_puts(out, text);
	sb_buf_putc(out, '\n');
	free(text);
	json_decref(root);
}
