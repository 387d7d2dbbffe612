/*
 * compat.h
 *		Everything that depends on the PostgreSQL version, and nothing else.
 *
 * No other file of the extension tests PG_VERSION_NUM.
 */
#ifndef NOTIF_COMPAT_H
#define NOTIF_COMPAT_H

#include "postgres.h"

#include "executor/executor.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000
#error "notif needs PostgreSQL 15 or later"
#endif

/* A process's number in ProcGlobal->allProcs moved out of PGPROC in 17. */
static inline int
notif_compat_my_procno(void)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(MyProc);
#else
	return MyProc->pgprocno;
#endif
}

/* Index entries of a tuple just inserted; 16 knows summarizing indexes. */
static inline List *
notif_compat_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false);
#else
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#endif
}

#endif							/* NOTIF_COMPAT_H */
