/*
 * notif.c
 *		Entry of the library: what happens when it is loaded.
 *
 * Any call of a C function loads the library, so _PG_init also runs in
 * servers that do not preload it.  Then only the settings exist: publishing
 * works (it only writes rows), whatever needs shared memory says so, and
 * nothing is sent until the library is in shared_preload_libraries.
 *
 * During pg_upgrade nothing at all is set up: neither a worker nor a hook may
 * act on a half-migrated cluster.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "fault.h"
#include "notif.h"
#include "settings.h"
#include "shmem.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static void notif_register_static(const char *name, const char *function,
								  BgWorkerStartTime start_time);

void
_PG_init(void)
{
	if (IsBinaryUpgrade)
		return;

	NOTIF_FAULT_INIT();
	notif_settings_define();

	if (!process_shared_preload_libraries_in_progress)
		return;

	notif_shmem_init();
	notif_utility_hook_init();

	/*
	 * The launcher starts as soon as a standby is consistent, so that it can
	 * tell a promotion it has watched from a restored copy.  The second one
	 * lives for a moment when recovery ends: it spares the launcher polling
	 * for that on a standby.
	 */
	notif_register_static("notif launcher", "notif_launcher_main",
						  BgWorkerStart_ConsistentState);
	notif_register_static("notif promotion", "notif_promotion_main",
						  BgWorkerStart_RecoveryFinished);
}

static void
notif_register_static(const char *name, const char *function,
					  BgWorkerStartTime start_time)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, name, sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, NOTIF_LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = start_time;
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

bool
notif_preloaded(void)
{
	return notif_shared != NULL;
}

void
notif_require_preload(void)
{
	if (!notif_preloaded())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("notif is not in shared_preload_libraries"),
				 errdetail("Without it there is no shared memory and there are no workers."),
				 errhint("Add notif to shared_preload_libraries and restart the server.")));
}

const char *
notif_tier_name(int tier)
{
	switch (tier)
	{
		case NOTIF_TIER_CRITICAL:
			return "critical";
		case NOTIF_TIER_STANDARD:
			return "standard";
		case NOTIF_TIER_BULK:
			return "bulk";
		default:
			return "-";
	}
}

const char *
notif_worker_kind_name(NotifWorkerKind kind)
{
	switch (kind)
	{
		case NOTIF_WORKER_UPKEEP:
			return "upkeep";
		case NOTIF_WORKER_ROUTER:
			return "router";
		case NOTIF_WORKER_DISPATCHER:
			return "dispatcher";
		case NOTIF_WORKER_CONDITIONS:
			return "conditions";
	}
	return "-";
}
