/*
 * event_id.c
 *		Keys that always find a partition: ids of events (event_id.h), due times
 *		of the schedule.
 *
 * Publish must not fail for want of a partition, whatever the clock does and
 * whether or not upkeep runs.  So the time inside an id is moved to the nearest
 * moment that has a partition: the bounds are read from the parent's cached
 * descriptor, and the range of the partition that was hit last is remembered
 * until the parent's relcache entry is invalidated.
 */
#include "postgres.h"

#include "access/table.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "event_id.h"
#include "ids.h"
#include "spi.h"

/* Unix ms, lower inclusive, upper exclusive; upper 0: not known. */
static int64 range_lower = 0;
static int64 range_upper = 0;
static Oid	range_relid = InvalidOid;
static Oid	range_partition = InvalidOid;
static bool callback_registered = false;

PG_FUNCTION_INFO_V1(notif_schedule_part);

/* The 60 bits of time of the last id: milliseconds and 4096ths of one. */
static int64 last_tick = 0;

static void
event_id_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == range_relid)
		range_upper = 0;
}

/*
 * Finds the partition of ms or the nearest one; false if there is none at all.
 * Moves *ms into it.
 */
static bool
event_id_find_partition(Oid relid, int64 *ms)
{
	Relation	rel = table_open(relid, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	PartitionBoundInfo bound = desc->boundinfo;
	bool		found = false;

	/* indexes[i] is the partition below datums[i], -1 for a gap */
	for (int i = 1; desc->nparts > 0 && i < bound->ndatums; i++)
	{
		int64		lower;
		int64		upper;

		if (bound->indexes[i] < 0)
			continue;
		lower = notif_uuid_unix_ms(DatumGetUUIDP(bound->datums[i - 1][0]));
		upper = notif_uuid_unix_ms(DatumGetUUIDP(bound->datums[i][0]));
		range_lower = lower;
		range_upper = upper;
		range_partition = desc->oids[bound->indexes[i]];
		found = true;
		if (*ms < upper)
			break;
	}
	table_close(rel, NoLock);
	if (found)
		*ms = Min(Max(*ms, range_lower), range_upper - 1);
	return found;
}

Oid
notif_event_id_mint(Oid event_relid, pg_uuid_t *id)
{
	static NotifStmt make_partitions = {
		.sql = "SELECT notif_private.make_partitions()"
	};
	TimestampTz now = GetCurrentTimestamp();
	int64		ms = notif_timestamp_to_unix_ms(now);
	int64		tick = ms * 4096 + (now % 1000 + 1000) % 1000 * 4096 / 1000;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(event_id_invalidate, (Datum) 0);
		callback_registered = true;
	}
	/* taking the lock takes in what has become of the partitions */
	LockRelationOid(event_relid, RowExclusiveLock);

	/*
	 * Also what several sessions publish within a millisecond is in the order
	 * of their clocks; ids of one session are, whatever the clock does.
	 */
	tick = Max(tick, last_tick + 1);
	ms = tick / 4096;
	if (range_relid != event_relid)
	{
		range_relid = event_relid;
		range_upper = 0;
	}
	if (ms < range_lower || ms >= range_upper)
	{
		if (!event_id_find_partition(event_relid, &ms))
		{
			notif_spi_run(&make_partitions, NULL, NULL, 0);
			if (!event_id_find_partition(event_relid, &ms))
				ereport(ERROR,
						errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("notif has no partition for events"),
						errhint("Run SELECT notif_private.make_partitions() as the extension's owner."));
		}
	}

	/* moved into the partitions there are: later than the last one, if it can be */
	if (ms != tick / 4096)
		tick = Min(Max(ms * 4096, last_tick + 1), range_upper * 4096 - 1);
	last_tick = tick;
	notif_uuid_set(id, tick / 4096, tick % 4096, pg_prng_uint64(&pg_global_prng_state));
	return range_partition;
}

/*
 * A due time moved into the partitions of a schedule, notif_schedule_part(parent,
 * due_at).  The descriptor is the relcache's own: a look costs a lock that the
 * statement holds anyway.
 */
Datum
notif_schedule_part(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	TimestampTz due = PG_GETARG_TIMESTAMPTZ(1);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	PartitionBoundInfo bound = desc->boundinfo;
	bool		found = false;
	TimestampTz part = due;

	for (int i = 1; desc->nparts > 0 && i < bound->ndatums; i++)
	{
		TimestampTz lower = DatumGetTimestampTz(bound->datums[i - 1][0]);
		TimestampTz upper = DatumGetTimestampTz(bound->datums[i][0]);

		if (bound->indexes[i] < 0)
			continue;
		part = Min(Max(due, lower), upper - 1);
		found = true;
		if (due < upper)
			break;
	}
	table_close(rel, NoLock);
	if (!found)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("notif has no partition for scheduled attempts"),
				errhint("Upkeep makes them within seconds."));
	PG_RETURN_TIMESTAMPTZ(part);
}
