/*
 * publish_rows.c
 *		Direct access to the recipient's index and the event's partition.
 *
 * An executor run costs more than what it does here: planning checks, permission
 * checks, expression set-up and tuple routing were half of a publish's CPU.
 * The partition is known from the id, all columns are given, none can be null
 * that must not be; so a heap insert and its index entries remain.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "publish_rows.h"

/* Columns of notif_private.recipient, sql/25-recipients.sql. */
#define RECIPIENT_ID	1
#define RECIPIENT_REF	2

/*
 * The unique index of the refs.  Looked for under the table's lock: REINDEX
 * CONCURRENTLY puts another in its place at any time before.
 */
static Relation
recipient_index_open(Relation heap)
{
	List	   *indexes = RelationGetIndexList(heap);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	idx = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = idx->rd_index;

		if (form->indisunique && form->indisvalid && form->indnatts == 1 &&
			form->indkey.values[0] == RECIPIENT_REF && idx->rd_rel->relam == BTREE_AM_OID &&
			heap_attisnull(idx->rd_indextuple, Anum_pg_index_indpred, NULL))
		{
			list_free(indexes);
			return idx;
		}
		index_close(idx, AccessShareLock);
	}
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("the unique index of notif_private.recipient (ref) is missing"),
			errhint("Run REINDEX TABLE notif_private.recipient, or restore the constraint."));
}

bool
notif_recipient_find(Oid table, Datum ref, int64 *id)
{
	Relation	heap = table_open(table, AccessShareLock);
	Relation	idx = recipient_index_open(heap);
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	IndexScanDesc scan;
	ScanKeyData key;
	bool		found;
	bool		isnull;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   idx->rd_indcollation[0], F_TEXTEQ, ref);

	/* as a statement of its own would see: also what this command has done */
	CommandCounterIncrement();
	PushCopiedSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
	scan = index_beginscan(heap, idx, GetActiveSnapshot(), 1, 0);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	if (found)
		*id = DatumGetInt64(slot_getattr(slot, RECIPIENT_ID, &isnull));
	index_endscan(scan);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(slot);
	index_close(idx, AccessShareLock);
	table_close(heap, AccessShareLock);
	return found;
}

/*
 * Columns that somebody has added stay NULL, also after they are dropped again;
 * what is more than that is refused before a value lands in the wrong column.
 */
static void
event_check_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		fits = desc->natts >= NOTIF_EVENT_COLUMNS;

	for (int i = 0; fits && i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (i < NOTIF_EVENT_COLUMNS)
			fits = !column->attisdropped;
		else
			fits = column->attisdropped || (!column->attnotnull && !column->atthasdef);
	}
	if (!fits)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("partition \"%s\" does not have the columns of notif_private.event",
					   RelationGetRelationName(rel)),
				errhint("A column that is added to notif_private.event must be nullable and have no default."));
}

void
notif_event_insert(Oid partition, const Datum *values, const bool *nulls)
{
	Relation	rel = table_open(partition, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);

	event_check_columns(rel);
	memset(slot->tts_isnull, true, sizeof(bool) * RelationGetDescr(rel)->natts);
	memcpy(slot->tts_values, values, sizeof(Datum) * NOTIF_EVENT_COLUMNS);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * NOTIF_EVENT_COLUMNS);
	ExecStoreVirtualTuple(slot);

	InitResultRelInfo(target, rel, 1, NULL, 0);
	ExecOpenIndices(target, false);
	simple_table_tuple_insert(rel, slot);
	if (target->ri_NumIndices > 0)
		list_free(notif_compat_insert_index_tuples(target, slot, estate));
	ExecCloseIndices(target);

	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
}
