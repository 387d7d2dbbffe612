/*
 * retry_after.h
 *		The Retry-After header (RFC 9110 section 10.2.3).
 */
#ifndef NOTIF_CORE_RETRY_AFTER_H
#define NOTIF_CORE_RETRY_AFTER_H

#include <stdint.h>

#define NOTIF_RETRY_AFTER_MAX_S	3600

/*
 * The delay in seconds, 1 … NOTIF_RETRY_AFTER_MAX_S; 0 if value (may be NULL)
 * tells none.  Seconds: any sign and length, clamped.  An HTTP date in one of
 * its three forms is measured from now_s (UNIX seconds), a past one gives 1.
 */
int			notif_retry_after_s(const char *value, int64_t now_s);

/* Only the seconds form, for callers that may not look at a clock; 0 for a
 * date. */
int			notif_retry_after_delta_s(const char *value);

#endif							/* NOTIF_CORE_RETRY_AFTER_H */
