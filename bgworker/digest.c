/*
 * digest.c
 *		When the router looks at its digests.
 *
 * They are in the ledger (sql/29-digests.sql); what is kept here is only when the
 * next is to be looked at, and a horizon before which none waits, so that under a
 * held snapshot the entries of those that are closed are not walked through again.
 * A start, and an ERROR, begin without both and look once at all of them.
 *
 * SQL that opens a digest, or wants one looked at, says so by digest_due(): a
 * variable of this process, since only the router opens any.  It outlives a
 * rollback; then the look finds nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "../src/fault.h"
#include "../src/ids.h"
#include "digest.h"

PG_FUNCTION_INFO_V1(notif_digest_due_sql);

struct Digests
{
	NotifStmt	step;
	TimestampTz next;			/* when to look; DT_NOEND: none is open */
	TimestampTz from;			/* nothing waits before it */
	bool		paused;			/* the tier's switch */
	bool		stepping;		/* a step has begun and not committed */
	int			failures;		/* ERRORs in a row */
};

static TimestampTz asked_for = DT_NOEND;

Datum
notif_digest_due_sql(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		asked_for = Min(asked_for, PG_GETARG_TIMESTAMPTZ(0));
	PG_RETURN_VOID();
}

bool
digests_due(Digests *digests, bool woken)
{
	digests->next = Min(digests->next, asked_for);
	/* below the horizon only after the clock has been set back */
	digests->from = Min(digests->from, asked_for);
	asked_for = DT_NOEND;
	if (woken)
		digests->paused = false;
	return !digests->paused && digests->next <= notif_now();
}

bool
digests_step(NotifWorker *worker, Digests *digests, int *closed)
{
	Datum		args[2];
	NotifRows	rows;
	TimestampTz next;
	bool		none;

	if (!notif_worker_begin(worker, "notif: telling digests"))
		return false;
	digests->stepping = true;
	args[0] = TimestampTzGetDatum(digests->from);
	args[1] = BoolGetDatum(digests->failures >= NOTIF_CAREFUL_AFTER);
	rows = notif_spi_run(&digests->step, args, NULL, 1);
	*closed = notif_spi_int32(&rows, 0, 1, NULL);
	digests->from = notif_spi_timestamptz(&rows, 0, 3, NULL);
	next = notif_spi_timestamptz(&rows, 0, 4, &none);
	digests->paused = notif_spi_bool(&rows, 0, 5, NULL);
	if (*closed > 0)
		NOTIF_FAULT(K11a);
	notif_worker_commit(worker, false);
	if (!digests->paused)
		digests->next = none ? DT_NOEND : next;
	digests->stepping = false;
	digests->failures = 0;
	if (*closed > 0)
		NOTIF_FAULT(K11b);
	return true;
}

long
digests_wait(const Digests *digests)
{
	TimestampTz now = notif_now();

	if (digests->paused || TIMESTAMP_IS_NOEND(digests->next))
		return NOTIF_IDLE;
	/* no arithmetic with DT_NOBEGIN */
	if (digests->next <= now)
		return 0;
	return (long) (Min(digests->next - now, NOTIF_MAX_SLEEP_MS * 1000) / 1000 + 1);
}

void
digests_recover(Digests *digests)
{
	if (digests->stepping)
		digests->failures++;
	digests->stepping = false;
	digests->paused = false;
	digests->next = DT_NOBEGIN;
	digests->from = DT_NOBEGIN;
}

Digests *
digests_new(NotifWorker *worker)
{
	Digests    *digests = MemoryContextAllocZero(worker->life, sizeof(Digests));

	digests->next = DT_NOBEGIN;
	digests->from = DT_NOBEGIN;
	digests->step.sql = MemoryContextStrdup(worker->life,
											psprintf("SELECT * FROM notif_private.worker_digest_%s($1, $2)", notif_tier_name(worker->tier)));
	digests->step.nargs = 2;
	digests->step.argtypes[0] = TIMESTAMPTZOID;
	digests->step.argtypes[1] = BOOLOID;
	return digests;
}
