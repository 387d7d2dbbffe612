/*
 * settings.h
 *		The GUCs of notif.  settings.c defines them all; everybody else reads
 *		these variables and never writes them.
 */
#ifndef NOTIF_SETTINGS_H
#define NOTIF_SETTINGS_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef enum NotifInstanceGuard
{
	NOTIF_GUARD_OFF,			/* a changed identity waits, the same one goes on */
	NOTIF_GUARD_CONFIRM			/* every start waits for confirm_instance() */
} NotifInstanceGuard;

/* All PGC_SIGHUP. */
extern char *guc_databases;		/* comma-separated list, see below */
extern bool guc_dispatch;		/* routers and dispatchers run at all */
extern int	guc_instance_guard; /* NotifInstanceGuard */
extern int	guc_shutdown_grace; /* ms a dispatcher may drain after SIGTERM */
extern int	guc_max_in_flight;	/* attempts on the wire per dispatcher */
extern int	guc_breaker_volume; /* results that a breaker judges by, at least */
extern int	guc_bulk_nice;		/* niceness of the bulk tier's workers */
extern int	guc_claim_batch;	/* attempts per claim transaction */
extern int	guc_condition_timeout;	/* ms that a condition may take */
extern int	guc_router_chunk;	/* recipients per router transaction */
extern int	guc_retention_days; /* events, outcomes and inbox items are kept */

/*
 * Defines all GUCs and reserves the prefix.  Called once from _PG_init, before
 * anything else, whether preloaded or not.
 */
extern void notif_settings_define(void);

/*
 * The names in notif.databases as a List of palloc'd char *, in the current
 * memory context, without duplicates and in order.  Never throws: the check
 * hook has accepted the value.
 */
extern List *notif_settings_databases(void);

#endif							/* NOTIF_SETTINGS_H */
