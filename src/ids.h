/*
 * ids.h
 *		UUIDv7 identifiers and the clock of policies, for the server side.
 */
#ifndef NOTIF_IDS_H
#define NOTIF_IDS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* notif.now(): the real clock plus the tests' shift. */
extern TimestampTz notif_now(void);

/*
 * CLOCK_MONOTONIC in ms and µs, for time-outs; never for times in rows.  Safe in a
 * signal handler.
 */
extern int64 notif_monotonic_ms(void);
extern int64 notif_monotonic_us(void);

/* Milliseconds since 1970; times before it read as 0. */
extern int64 notif_timestamp_to_unix_ms(TimestampTz at);
extern TimestampTz notif_unix_ms_to_timestamp(int64 ms);

/* The time inside a UUIDv7 (RFC 9562, section 5.7). */
extern int64 notif_uuid_unix_ms(const pg_uuid_t *id);

/* Composes a UUIDv7: 12 bits of high, 62 bits of low. */
extern void notif_uuid_set(pg_uuid_t *id, int64 unix_ms, uint64 high, uint64 low);

#define NOTIF_UUID_TEXT 37		/* bytes of a UUID's text with its NUL */

/* Lower-case canonical text into out[NOTIF_UUID_TEXT]; cannot raise. */
extern void notif_uuid_text(const pg_uuid_t *id, char *out);

#endif							/* NOTIF_IDS_H */
