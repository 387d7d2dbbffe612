/*
 * ratelimit.c
 *		Sliding-window limits over a byte string; see ratelimit.h.
 *
 * State: version byte, number of layers, then per layer: id, number of marks,
 * and marks from earliest to latest as (milliseconds since the mark before, the
 * first since the epoch; count).  All numbers are base-128 varints.
 *
 * A mark is "count sends, all at or before time, counting until time + window".
 * For exact layers time is the send's own; for large limits it is rounded up
 * to the sub-window's end, so a mark never stops counting too early.
 */
#include "ratelimit.h"

#include "varint.h"

#include <stdbool.h>
#include <string.h>

#define RATE_VERSION	1

/* 32 sub-windows, the one that is entered only by its end, and one new mark */
#define RATE_MARKS_MAX	(NOTIF_RATE_EXACT + 2)

/* Beyond this a time cannot be a time; keeps sums far from overflow. */
#define RATE_TIME_MAX	(INT64_C(1) << 52)

/* Callers read the clock before they have the state: two of them may come in
 * the other order.  A mark this far ahead is another's, no stepped clock's. */
#define RATE_SKEW_MS	60000

typedef struct RateMark
{
	int64_t		time;
	uint32_t	count;
} RateMark;

typedef struct RateLog
{
	uint32_t	id;
	int			n_marks;
	RateMark	marks[RATE_MARKS_MAX];
} RateLog;

/* One layer's marks; reader->bad if they are none. */
static void
rate_read_marks(NotifVarintReader *reader, RateLog *log)
{
	uint64_t	n = notif_varint_read(reader);
	int64_t		time = 0;

	log->n_marks = 0;
	if (n > RATE_MARKS_MAX)
		reader->bad = true;
	for (uint64_t i = 0; i < n && !reader->bad; i++)
	{
		uint64_t	delta = notif_varint_read(reader);
		uint64_t	count = notif_varint_read(reader);

		if (delta > (uint64_t) (RATE_TIME_MAX - time) || count == 0 || count > INT32_MAX)
		{
			reader->bad = true;
			break;
		}
		time += (int64_t) delta;
		log->marks[log->n_marks].time = time;
		log->marks[log->n_marks].count = (uint32_t) count;
		log->n_marks++;
	}
}

/*
 * The logs of the configured layers, in their order; empty ones for what the
 * state does not hold, all empty if it is corrupt.
 */
static void
rate_read_state(const uint8_t *state, size_t len, const NotifRateLayer *layers, int n_layers,
				RateLog *logs)
{
	NotifVarintReader	reader = {0};
	RateLog		gone;			/* of a layer that is not configured */
	int			n_logs;

	for (int i = 0; i < n_layers; i++)
	{
		logs[i].id = layers[i].id;
		logs[i].n_marks = 0;
	}
	if (len < 2 || state[0] != RATE_VERSION || state[1] > NOTIF_RATE_LAYERS_MAX)
		return;
	n_logs = state[1];
	reader.at = state + 2;
	reader.end = state + len;
	for (int i = 0; i < n_logs && !reader.bad; i++)
	{
		uint64_t	id = notif_varint_read(&reader);
		RateLog    *log = &gone;

		if (id > UINT32_MAX)
			reader.bad = true;
		for (int j = 0; j < n_layers; j++)
		{
			if (logs[j].id == id)
			{
				log = &logs[j];
				break;
			}
		}
		if (!reader.bad)
			rate_read_marks(&reader, log);
	}
	if (reader.bad || reader.at != reader.end)
	{
		for (int i = 0; i < n_layers; i++)
			logs[i].n_marks = 0;
	}
}

typedef struct RateWriter
{
	uint8_t    *at;
	uint8_t    *end;
	bool		full;
} RateWriter;

static void
rate_write(RateWriter *writer, uint64_t value)
{
	do
	{
		if (writer->at == writer->end)
		{
			writer->full = true;
			return;
		}
		*writer->at++ = (uint8_t) ((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
		value >>= 7;
	} while (value > 0);
}

static NotifStatus
rate_write_state(const RateLog *logs, int n_layers, uint8_t *out, size_t out_size,
				 size_t *out_len)
{
	RateWriter	writer = {.at = out, .end = out + out_size};
	int			n_logs = 0;

	for (int i = 0; i < n_layers; i++)
		n_logs += logs[i].n_marks > 0;
	*out_len = 0;
	if (n_logs == 0)
		return NOTIF_OK;		/* an empty state is an empty string */
	rate_write(&writer, RATE_VERSION);
	rate_write(&writer, (uint64_t) n_logs);
	for (int i = 0; i < n_layers; i++)
	{
		int64_t		time = 0;

		if (logs[i].n_marks == 0)
			continue;
		rate_write(&writer, logs[i].id);
		rate_write(&writer, (uint64_t) logs[i].n_marks);
		for (int j = 0; j < logs[i].n_marks; j++)
		{
			rate_write(&writer, (uint64_t) (logs[i].marks[j].time - time));
			rate_write(&writer, logs[i].marks[j].count);
			time = logs[i].marks[j].time;
		}
	}
	if (writer.full)
		return NOTIF_ETOOBIG;
	*out_len = (size_t) (writer.at - out);
	return NOTIF_OK;
}

static bool
rate_layers_valid(const NotifRateLayer *layers, int n_layers)
{
	if (n_layers < 0 || n_layers > NOTIF_RATE_LAYERS_MAX)
		return false;
	for (int i = 0; i < n_layers; i++)
	{
		if (layers[i].window_ms < 1 || layers[i].window_ms > NOTIF_RATE_WINDOW_MAX_MS ||
			layers[i].limit > INT32_MAX)
			return false;
		for (int j = 0; j < i; j++)
		{
			if (layers[j].id == layers[i].id)
				return false;
		}
	}
	return true;
}

/* Times of sends are rounded up to multiples of this. */
static int64_t
rate_quantum(const NotifRateLayer *layer)
{
	if (layer->limit <= NOTIF_RATE_EXACT || layer->window_ms <= NOTIF_RATE_EXACT)
		return 1;
	return (layer->window_ms + NOTIF_RATE_EXACT - 1) / NOTIF_RATE_EXACT;
}

static int64_t
rate_mark_time(const NotifRateLayer *layer, int64_t time)
{
	int64_t		quantum = rate_quantum(layer);

	return (time + quantum - 1) / quantum * quantum;
}

/* Drops marks that do not count any more, and pulls to now what only a clock
 * that has been set back can have put that far into the future. */
static void
rate_prune(RateLog *log, const NotifRateLayer *layer, int64_t now_ms)
{
	int64_t		latest = rate_mark_time(layer, now_ms);
	int			kept = 0;

	for (int i = 0; i < log->n_marks; i++)
	{
		RateMark	mark = log->marks[i];

		if (mark.time > latest + RATE_SKEW_MS)
			mark.time = latest;
		if (mark.time + layer->window_ms <= now_ms)
			continue;
		log->marks[kept++] = mark;
	}
	log->n_marks = kept;
}

static uint64_t
rate_count(const RateLog *log)
{
	uint64_t	count = 0;

	for (int i = 0; i < log->n_marks; i++)
		count += log->marks[i].count;
	return count;
}

/* Adds units at now; if the log is full, the two earliest marks become one,
 * dated at the later. */
static void
rate_add(RateLog *log, const NotifRateLayer *layer, int64_t now_ms, uint32_t units)
{
	int64_t		time = rate_mark_time(layer, now_ms);

	if (units == 0)
		return;
	if (log->n_marks > 0 && log->marks[log->n_marks - 1].time >= time)
	{
		log->marks[log->n_marks - 1].count += units;
		return;
	}
	if (log->n_marks == RATE_MARKS_MAX)
	{
		log->marks[1].count += log->marks[0].count;
		memmove(&log->marks[0], &log->marks[1],
				(size_t) (log->n_marks - 1) * sizeof(RateMark));
		log->n_marks--;
	}
	log->marks[log->n_marks].time = time;
	log->marks[log->n_marks].count = units;
	log->n_marks++;
}

/* When one more unit passes this layer. */
static int64_t
rate_next(const RateLog *log, const NotifRateLayer *layer, int64_t now_ms)
{
	int64_t		leave = (int64_t) rate_count(log) - (int64_t) layer->limit + 1;
	int64_t		at = now_ms;

	if (layer->limit == 0)
		return INT64_MAX;
	/* so many must have left before */
	for (int i = 0; i < log->n_marks && leave > 0; i++)
	{
		leave -= log->marks[i].count;
		at = log->marks[i].time + layer->window_ms;
	}
	return at > now_ms ? at : now_ms;
}

NotifStatus
notif_ratelimit_charge(const uint8_t *state, size_t len,
					   const NotifRateLayer *layers, int n_layers,
					   int64_t now_ms, int wanted,
					   uint8_t *out, size_t out_size, size_t *out_len,
					   int *granted, int *stopping_layer, int64_t *retry_at_ms)
{
	RateLog		logs[NOTIF_RATE_LAYERS_MAX];
	uint32_t	units;

	*granted = 0;
	*stopping_layer = -1;
	*retry_at_ms = 0;
	*out_len = 0;
	if (!rate_layers_valid(layers, n_layers) || wanted < 0 ||
		now_ms < 0 || now_ms > RATE_TIME_MAX / 2)
		return NOTIF_EINVAL;
	rate_read_state(state, len, layers, n_layers, logs);
	units = (uint32_t) wanted;
	for (int i = 0; i < n_layers; i++)
	{
		uint64_t	count;
		uint64_t	left;

		rate_prune(&logs[i], &layers[i], now_ms);
		count = rate_count(&logs[i]);
		left = count < layers[i].limit ? layers[i].limit - count : 0;
		if (left < units)
			units = (uint32_t) left;
	}
	for (int i = 0; i < n_layers; i++)
		rate_add(&logs[i], &layers[i], now_ms, units);
	if (units < (uint32_t) wanted)
	{
		for (int i = 0; i < n_layers; i++)
		{
			int64_t		next = rate_next(&logs[i], &layers[i], now_ms);

			if (next > now_ms && next > *retry_at_ms)
			{
				*retry_at_ms = next;
				*stopping_layer = i;
			}
		}
	}
	*granted = (int) units;
	return rate_write_state(logs, n_layers, out, out_size, out_len);
}

/*
 * The verdict on a send that some layers of its mask have no room for.  turns
 * are the logs as they will be when all that was deferred before has passed.
 */
static NotifRateVerdict
rate_refuse(RateLog *turns, const NotifRateLayer *layers, const NotifRateAction *actions,
			int n_layers, int64_t now_ms, uint64_t mask, uint64_t full)
{
	NotifRateVerdict verdict = {.layer = -1};
	int64_t		longest = -1;

	for (int i = 0; i < n_layers; i++)
	{
		int64_t		next;

		if ((full >> i & 1) == 0 ||
			(verdict.layer >= 0 && actions[i] < actions[verdict.layer]))
			continue;
		next = rate_next(&turns[i], &layers[i], now_ms);
		if (verdict.layer < 0 || actions[i] > actions[verdict.layer] || next > longest)
		{
			verdict.layer = i;
			longest = next;
		}
	}
	if (verdict.layer < 0 || actions[verdict.layer] != NOTIF_RATE_DEFER)
		return verdict;
	/*
	 * A layer that has room now may be taken by those that wait before.  What
	 * the others will say is seen when it comes.
	 */
	for (int i = 0; i < n_layers; i++)
	{
		int64_t		next;

		if ((mask >> i & 1) == 0 || actions[i] != NOTIF_RATE_DEFER)
			continue;
		next = rate_next(&turns[i], &layers[i], now_ms);
		if (next > longest)
			longest = next;
	}
	verdict.retry_at_ms = longest;
	if (longest > RATE_TIME_MAX / 2)
		return verdict;
	for (int i = 0; i < n_layers; i++)
	{
		if ((mask >> i & 1) != 0 && actions[i] == NOTIF_RATE_DEFER)
			rate_add(&turns[i], &layers[i], longest, 1);
	}
	return verdict;
}

NotifStatus
notif_ratelimit_charge_each(const uint8_t *state, size_t len,
							const NotifRateLayer *layers,
							const NotifRateAction *actions, int n_layers,
							int64_t now_ms, const uint64_t *masks, int n,
							uint8_t *out, size_t out_size, size_t *out_len,
							NotifRateVerdict *verdicts)
{
	RateLog		logs[NOTIF_RATE_LAYERS_MAX];
	RateLog		turns[NOTIF_RATE_LAYERS_MAX];	/* valid once something was refused */
	int64_t		room[NOTIF_RATE_LAYERS_MAX];
	bool		refused = false;

	*out_len = 0;
	if (!rate_layers_valid(layers, n_layers) || n < 0 ||
		now_ms < 0 || now_ms > RATE_TIME_MAX / 2)
		return NOTIF_EINVAL;
	rate_read_state(state, len, layers, n_layers, logs);
	for (int i = 0; i < n_layers; i++)
	{
		rate_prune(&logs[i], &layers[i], now_ms);
		room[i] = (int64_t) layers[i].limit - (int64_t) rate_count(&logs[i]);
	}
	for (int k = 0; k < n; k++)
	{
		uint64_t	full = 0;

		for (int i = 0; i < n_layers; i++)
		{
			if ((masks[k] >> i & 1) != 0 && room[i] <= 0)
				full |= UINT64_C(1) << i;
		}
		if (full != 0)
		{
			if (!refused)
				memcpy(turns, logs, (size_t) n_layers * sizeof(RateLog));
			refused = true;
			verdicts[k] = rate_refuse(turns, layers, actions, n_layers, now_ms, masks[k], full);
			continue;
		}
		for (int i = 0; i < n_layers; i++)
		{
			if ((masks[k] >> i & 1) == 0)
				continue;
			rate_add(&logs[i], &layers[i], now_ms, 1);
			if (refused)
				rate_add(&turns[i], &layers[i], now_ms, 1);
			room[i]--;
		}
		verdicts[k] = (NotifRateVerdict) {.layer = -1};
	}
	return rate_write_state(logs, n_layers, out, out_size, out_len);
}

NotifStatus
notif_ratelimit_refund(const uint8_t *state, size_t len,
					   const NotifRateLayer *layers, int n_layers, uint64_t mask,
					   int64_t charged_at_ms, int units,
					   uint8_t *out, size_t out_size, size_t *out_len)
{
	RateLog		logs[NOTIF_RATE_LAYERS_MAX];

	*out_len = 0;
	if (!rate_layers_valid(layers, n_layers) || charged_at_ms < 0 || charged_at_ms > RATE_TIME_MAX / 2 ||
		units < 0)
		return NOTIF_EINVAL;
	rate_read_state(state, len, layers, n_layers, logs);
	for (int i = 0; i < n_layers; i++)
	{
		RateLog    *log = &logs[i];
		int64_t		time = rate_mark_time(&layers[i], charged_at_ms);
		int			mark = -1;

		while (mark + 1 < log->n_marks && log->marks[mark + 1].time <= time)
			mark++;
		if (mark < 0 || (mask >> i & 1) == 0)
			continue;
		log->marks[mark].count -= log->marks[mark].count < (uint32_t) units ?
			log->marks[mark].count : (uint32_t) units;
		if (log->marks[mark].count == 0)
		{
			memmove(&log->marks[mark], &log->marks[mark + 1],
					(size_t) (log->n_marks - mark - 1) * sizeof(RateMark));
			log->n_marks--;
		}
	}
	return rate_write_state(logs, n_layers, out, out_size, out_len);
}

NotifStatus
notif_ratelimit_look(const uint8_t *state, size_t len,
					 const NotifRateLayer *layers, int n_layers,
					 int64_t now_ms, uint32_t *left, int64_t *next_ms)
{
	RateLog		logs[NOTIF_RATE_LAYERS_MAX];

	if (!rate_layers_valid(layers, n_layers) || now_ms < 0 || now_ms > RATE_TIME_MAX / 2)
		return NOTIF_EINVAL;
	rate_read_state(state, len, layers, n_layers, logs);
	for (int i = 0; i < n_layers; i++)
	{
		uint64_t	count;

		rate_prune(&logs[i], &layers[i], now_ms);
		count = rate_count(&logs[i]);
		left[i] = count < layers[i].limit ? layers[i].limit - (uint32_t) count : 0;
		next_ms[i] = rate_next(&logs[i], &layers[i], now_ms);
	}
	return NOTIF_OK;
}

int64_t
notif_ratelimit_until(const NotifRateLayer *layer, int64_t now_ms)
{
	return rate_mark_time(layer, now_ms);
}
