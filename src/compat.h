/*
 * compat.h
 *		Everything that depends on the PostgreSQL version, and nothing else.
 *
 * No other file of the extension tests PG_VERSION_NUM.
 */
#ifndef NOTIF_COMPAT_H
#define NOTIF_COMPAT_H

#include "postgres.h"

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

#endif							/* NOTIF_COMPAT_H */
