/*
 * ids.c
 *		UUIDv7 identifiers: minted for events, derived for deliveries and inbox
 *		items, compared as partition bounds.
 *
 * A derived id has the event's 60 bits of time, milliseconds and 4096ths of one,
 * so that it lands in the partition of that time and what is published in an order
 * is read in it, and 62 bits of a hash of (event, number) in the rest: expanding an
 * event twice gives the same ids.
 */
#include "postgres.h"

#include <time.h>

#include "common/hashfn.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "ids.h"
#include "shmem.h"
#include "wake.h"

#define USECS_TO_UNIX_EPOCH \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Keep deliveries and inbox items of one event apart. */
#define SALT_DELIVERY	UINT64CONST(0x64656c6976657279)
#define SALT_ITEM		UINT64CONST(0x696e626f78697465)

PG_FUNCTION_INFO_V1(notif_delivery_id);
PG_FUNCTION_INFO_V1(notif_item_id);
PG_FUNCTION_INFO_V1(notif_uuid_at);
PG_FUNCTION_INFO_V1(notif_uuid_time);
PG_FUNCTION_INFO_V1(notif_now_sql);
PG_FUNCTION_INFO_V1(notif_clock_offset_sql);
PG_FUNCTION_INFO_V1(notif_shift_clock_sql);

TimestampTz
notif_now(void)
{
	return GetCurrentTimestamp() + notif_clock_offset_us();
}

int64
notif_monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64
notif_monotonic_ms(void)
{
	return notif_monotonic_us() / 1000;
}

int64
notif_timestamp_to_unix_ms(TimestampTz at)
{
	int64		us = at + USECS_TO_UNIX_EPOCH;

	return us >= 0 ? us / 1000 : 0;
}

TimestampTz
notif_unix_ms_to_timestamp(int64 ms)
{
	return ms * 1000 - USECS_TO_UNIX_EPOCH;
}

int64
notif_uuid_unix_ms(const pg_uuid_t *id)
{
	int64		ms = 0;

	for (int i = 0; i < 6; i++)
		ms = (ms << 8) | id->data[i];
	return ms;
}

void
notif_uuid_set(pg_uuid_t *id, int64 unix_ms, uint64 high, uint64 low)
{
	uint64		be;

	for (int i = 5; i >= 0; i--)
	{
		id->data[i] = (unsigned char) (unix_ms & 0xff);
		unix_ms >>= 8;
	}
	id->data[6] = (unsigned char) (0x70 | ((high >> 8) & 0x0f));
	id->data[7] = (unsigned char) (high & 0xff);
	be = pg_hton64((low & UINT64CONST(0x3fffffffffffffff)) | UINT64CONST(0x8000000000000000));
	memcpy(id->data + 8, &be, 8);
}

void
notif_uuid_text(const pg_uuid_t *id, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = digits[id->data[i] >> 4];
		*out++ = digits[id->data[i] & 15];
	}
	*out = '\0';
}

static void
derive(pg_uuid_t *out, const pg_uuid_t *event, int64 number, uint64 salt)
{
	unsigned char material[UUID_LEN + sizeof(int64)];

	memcpy(material, event->data, UUID_LEN);
	memcpy(material + UUID_LEN, &number, sizeof(int64));
	notif_uuid_set(out, notif_uuid_unix_ms(event), ((uint64) event->data[6] << 8) | event->data[7],
				   hash_bytes_extended(material, sizeof(material), salt));
}

Datum
notif_delivery_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	derive(id, PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), SALT_DELIVERY);
	PG_RETURN_UUID_P(id);
}

Datum
notif_item_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	derive(id, PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), SALT_ITEM);
	PG_RETURN_UUID_P(id);
}

Datum
notif_uuid_at(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(0);
	pg_uuid_t  *id = palloc0(sizeof(pg_uuid_t));
	int64		ms = TIMESTAMP_NOT_FINITE(at) ? -1 : notif_timestamp_to_unix_ms(at);

	if (ms < 0 || ms >= (INT64CONST(1) << 48))
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range for a UUIDv7"));
	for (int i = 5; i >= 0; i--)
	{
		id->data[i] = (unsigned char) (ms & 0xff);
		ms >>= 8;
	}
	PG_RETURN_UUID_P(id);
}

Datum
notif_uuid_time(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(notif_unix_ms_to_timestamp(notif_uuid_unix_ms(PG_GETARG_UUID_P(0))));
}

Datum
notif_now_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(notif_now());
}

Datum
notif_clock_offset_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(notif_clock_offset_us());
}

Datum
notif_shift_clock_sql(PG_FUNCTION_ARGS)
{
	notif_clock_shift(PG_GETARG_INT64(0));
	/* something may be due now */
	for (int tier = 0; tier < NOTIF_TIERS; tier++)
	{
		notif_wake_worker(MyDatabaseId, NOTIF_WORKER_ROUTER, tier);
		notif_wake_worker(MyDatabaseId, NOTIF_WORKER_DISPATCHER, tier);
	}
	PG_RETURN_INT64(notif_clock_offset_us());
}
