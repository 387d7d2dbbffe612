/*
 * notif.h
 *		Words that every file which speaks PostgreSQL shares: names of the
 *		extension's objects, kinds of workers, tiers.
 */
#ifndef NOTIF_NOTIF_H
#define NOTIF_NOTIF_H

#include "postgres.h"

#include "compat.h"

#define NOTIF_EXTENSION "notif"
#define NOTIF_LIBRARY "notif"
#define NOTIF_WORKER_ROLE "notif_worker"
#define NOTIF_OWNER_ROLE "notif_owner"
#define NOTIF_SCHEMA "notif"
#define NOTIF_PRIVATE_SCHEMA "notif_private"

/* Tiers, in the order in which they matter; stored in rows as these numbers. */
typedef enum NotifTier
{
	NOTIF_TIER_CRITICAL = 0,
	NOTIF_TIER_STANDARD = 1,
	NOTIF_TIER_BULK = 2
} NotifTier;

#define NOTIF_TIERS 3
#define NOTIF_TIER_NONE (-1)	/* workers that serve the whole database */

typedef enum NotifWorkerKind
{
	NOTIF_WORKER_UPKEEP = 0,
	NOTIF_WORKER_ROUTER = 1,
	NOTIF_WORKER_DISPATCHER = 2,	/* in a fused tier the router as well */
	NOTIF_WORKER_CONDITIONS = 3
} NotifWorkerKind;

/* "critical", "standard", "bulk"; "-" for NOTIF_TIER_NONE. */
extern const char *notif_tier_name(int tier);

/* "upkeep", "router", "dispatcher", "conditions". */
extern const char *notif_worker_kind_name(NotifWorkerKind kind);

/*
 * True when the library came in through shared_preload_libraries, so that
 * shared memory, the launcher and the hooks exist.
 */
extern bool notif_preloaded(void);

/*
 * Raises ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE with a hint unless
 * notif_preloaded(); for SQL functions that mean nothing without it.
 */
extern void notif_require_preload(void);

/* utility_hook.c: called once from _PG_init. */
extern void notif_utility_hook_init(void);

#endif							/* NOTIF_NOTIF_H */
