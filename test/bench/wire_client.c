/*
 * wire_client.c
 *		Load on the network engine alone: APNs-shaped requests over one
 *		connection, closed loop, so that its CPU per request can be set beside
 *		another client's against the same server.
 *
 * usage: wire_client host port ca_file token n_requests concurrency body_bytes [path]
 *
 * token is a bearer token or the name of a file that holds one; path replaces
 * /3/device/RANDOM for servers that only know files.  Prints
 * figure<TAB>value<TAB>unit lines; exits 1 unless every request was answered
 * with status 200.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../../src/net/h2_pool.h"

#define BENCH_STEP_US	20000
#define BENCH_TIMEOUT_MS 60000

typedef struct Bench
{
	NotifH2Pool *pool;
	NotifH2Request request;
	int64_t		wanted;
	int64_t		submitted;
	int64_t		done;
	int64_t		accepted;
	int64_t		first_bad;		/* status of the first that was not 200 */
	char		bad_detail[160];
	char		path[80];
	char		id[40];
	char		expiration[24];
	uint64_t	random;
	int64_t		started_us;		/* the first answer, connecting excluded */
	struct rusage usage;
} Bench;

static uint64_t
bench_random(Bench *bench)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return bench->random;
}

static void
bench_hex(Bench *bench, char *to, int digits)
{
	static const char hex[] = "0123456789abcdef";
	uint64_t	bits = 0;

	for (int i = 0; i < digits; i++)
	{
		if (i % 16 == 0)
			bits = bench_random(bench);
		to[i] = hex[bits & 15];
		bits >>= 4;
	}
}

static bool
bench_submit(Bench *bench)
{
	bench_hex(bench, bench->path + strlen("/3/device/"), 64);
	bench_hex(bench, bench->id, 8);
	bench_hex(bench, bench->id + 9, 4);
	bench_hex(bench, bench->id + 15, 3);
	bench_hex(bench, bench->id + 20, 3);
	bench_hex(bench, bench->id + 24, 12);
	if (notif_h2_pool_submit(bench->pool, &bench->request) != NOTIF_OK)
	{
		fprintf(stderr, "submit failed\n");
		return false;
	}
	bench->submitted++;
	return true;
}

static void
bench_done(void *ud, void *request_ud, const NotifResult *result)
{
	Bench	   *bench = ud;

	(void) request_ud;
	if (bench->done++ == 0)
	{
		bench->started_us = notif_loop_now_us();
		getrusage(RUSAGE_SELF, &bench->usage);
	}
	if (result->known == NOTIF_ANSWERED && result->status == 200)
		bench->accepted++;
	else if (bench->first_bad == 0)
	{
		bench->first_bad = result->status > 0 ? result->status : -1;
		snprintf(bench->bad_detail, sizeof(bench->bad_detail), "%s", result->detail);
	}
	if (bench->submitted < bench->wanted)
		(void) bench_submit(bench);
}

static void
bench_header(NotifH2Request *request, const char *name, const char *value, NotifHeaderIndex index)
{
	NotifHeader *header = &request->headers[request->n_headers++];

	header->name = name;
	header->value = value;
	header->value_len = strlen(value);
	header->index = index;
}

static int64_t
bench_cpu_us(const struct rusage *usage)
{
	return ((int64_t) usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
		usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

/* The token itself, or the first line of the file of that name. */
static bool
bench_bearer(const char *token, char *to, size_t size)
{
	struct stat st;
	char		line[4000] = "";
	FILE	   *file;

	snprintf(line, sizeof(line), "%s", token);
	if (stat(token, &st) == 0)
	{
		file = fopen(token, "r");
		if (file == NULL || fgets(line, sizeof(line), file) == NULL)
		{
			fprintf(stderr, "cannot read the token file\n");
			return false;
		}
		fclose(file);
		line[strcspn(line, "\r\n")] = '\0';
	}
	snprintf(to, size, "bearer %s", line);
	return true;
}

int
main(int argc, char **argv)
{
	static Bench bench;
	static char bearer[4096];
	NotifH2PoolConfig config = {0};
	NotifLoop  *loop;
	NotifResolver *resolver;
	char		error[256] = "";
	char	   *body;
	int			concurrency;
	size_t		body_len;
	struct rusage usage;
	double		seconds;
	double		counted;

	if (argc != 8 && argc != 9)
	{
		fprintf(stderr, "usage: %s host port ca_file token n_requests concurrency body_bytes [path]\n",
				argv[0]);
		return 2;
	}
	bench.wanted = strtoll(argv[5], NULL, 10);
	concurrency = (int) strtol(argv[6], NULL, 10);
	body_len = (size_t) strtoul(argv[7], NULL, 10);
	if (bench.wanted < 2 || concurrency < 1 || !bench_bearer(argv[4], bearer, sizeof(bearer)))
		return 2;
	bench.random = (uint64_t) notif_loop_now_us() | 1;
	body = malloc(body_len + 1);
	if (body == NULL)
		return 2;
	memset(body, 'x', body_len);
	if (body_len >= 20)
	{
		memcpy(body, "{\"aps\":{\"alert\":\"", 17);
		memcpy(body + body_len - 3, "\"}}", 3);
	}
	memcpy(bench.path, "/3/device/", 11);
	memcpy(bench.id, "00000000-0000-4000-8000-000000000000", 37);
	snprintf(bench.expiration, sizeof(bench.expiration), "%d", 1900000000);
	bench.request.method = "POST";
	bench.request.path = argc == 9 ? argv[8] : bench.path;
	bench.request.body = body;
	bench.request.body_len = body_len;
	bench.request.timeout_ms = BENCH_TIMEOUT_MS;
	bench.request.queue_timeout_ms = BENCH_TIMEOUT_MS;
	bench_header(&bench.request, "authorization", bearer, NOTIF_INDEX_VALUE);
	bench_header(&bench.request, "apns-topic", "com.example.shop", NOTIF_INDEX_VALUE);
	bench_header(&bench.request, "apns-push-type", "alert", NOTIF_INDEX_VALUE);
	bench_header(&bench.request, "apns-priority", "10", NOTIF_INDEX_VALUE);
	bench_header(&bench.request, "apns-expiration", bench.expiration, NOTIF_INDEX_NAME);
	bench_header(&bench.request, "apns-id", bench.id, NOTIF_INDEX_NAME);

	loop = notif_loop_new();
	resolver = loop != NULL ? notif_resolver_new(loop) : NULL;
	if (resolver == NULL)
		return 2;
	config.host = argv[1];
	config.port = (uint16_t) strtoul(argv[2], NULL, 10);
	config.ca_file = argv[3];
	config.max_connections = 1;
	config.one_stream_first = true;
	config.done = bench_done;
	config.ud = &bench;
	bench.pool = notif_h2_pool_new(loop, resolver, &config, error, sizeof(error));
	if (bench.pool == NULL)
	{
		fprintf(stderr, "%s\n", error);
		return 2;
	}
	while (bench.submitted < concurrency && bench.submitted < bench.wanted)
		if (!bench_submit(&bench))
			return 2;
	while (bench.done < bench.wanted)
	{
		struct pollfd pfd = {.fd = notif_loop_fd(loop), .events = POLLIN};

		if (!notif_loop_step(loop, BENCH_STEP_US) && bench.done < bench.wanted)
			poll(&pfd, 1, notif_loop_timeout_ms(loop));
	}
	seconds = (double) (notif_loop_now_us() - bench.started_us) / 1e6;
	getrusage(RUSAGE_SELF, &usage);
	counted = (double) (bench.done - 1);
	printf("wire_rps\t%.0f\t1/s\n", counted / seconds);
	printf("wire_cpu_us\t%.3f\tus\n",
		   (double) (bench_cpu_us(&usage) - bench_cpu_us(&bench.usage)) / counted);
	fprintf(stderr, "%" PRId64 " requests, %" PRId64 " accepted\n", bench.done, bench.accepted);
	if (bench.first_bad != 0)
		fprintf(stderr, "first failure: status %" PRId64 " %s\n", bench.first_bad, bench.bad_detail);
	notif_h2_pool_free(bench.pool);
	notif_resolver_free(resolver);
	notif_loop_free(loop);
	free(body);
	return bench.accepted == bench.wanted ? 0 : 1;
}
