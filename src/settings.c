/*
 * settings.c
 *		All GUCs of notif.
 *
 * They are read by workers only, so all are PGC_SIGHUP: a session has nothing
 * to set.  What belongs to one database (providers, types, limits) lives in
 * its tables instead.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "settings.h"
#include "shmem.h"

char	   *guc_databases = NULL;
bool		guc_dispatch = true;
int			guc_instance_guard = NOTIF_GUARD_OFF;
int			guc_shutdown_grace = 5000;
int			guc_max_in_flight = 4000;
int			guc_breaker_volume = NOTIF_BREAKER_VOLUME;
int			guc_bulk_nice = 5;
int			guc_claim_batch = 1000;
int			guc_condition_timeout = 1000;
int			guc_router_chunk = 2000;
int			guc_retention_days = 30;

static const struct config_enum_entry instance_guard_options[] = {
	{"off", NOTIF_GUARD_OFF, false},
	{"confirm", NOTIF_GUARD_CONFIRM, false},
	{NULL, 0, false}
};

static bool settings_check_databases(char **newval, void **extra, GucSource source);

void
notif_settings_define(void)
{
	DefineCustomIntVariable("notif.breaker_volume",
							"Results of the last 30 s that a breaker needs before it opens for a share of them.",
							"A quarter of it in a row without a connection is enough. Refused credentials open "
							"a breaker at once.",
							&guc_breaker_volume, NOTIF_BREAKER_VOLUME, 4, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.bulk_nice",
							"How much the workers of the bulk tier stand back for other processes when the cores are busy.",
							"As of nice(1). A lower value takes effect when they start anew.",
							&guc_bulk_nice, 5, 0, 19,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.claim_batch",
							"Attempts that a dispatcher claims in one transaction, at most.",
							NULL, &guc_claim_batch, 1000, 1, 1000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.condition_timeout",
							"Time that a condition (send_if) may take.",
							"A type of which one notification alone took longer three times in a row is paused.",
							&guc_condition_timeout, 1000, 10, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomStringVariable("notif.databases",
							   "Databases in which the workers of notif run.",
							   "A comma-separated list; quote names that contain commas or blanks.",
							   &guc_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   settings_check_databases, NULL, NULL);

	DefineCustomBoolVariable("notif.dispatch",
							 "Runs routers and dispatchers; off keeps everything queued.",
							 "Upkeep goes on. Switch it off before a restored or cloned server is started.",
							 &guc_dispatch, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("notif.instance_guard",
							 "With confirm, every start of the server waits for notif.confirm_instance().",
							 "For installations whose clones cannot be told apart from the original.",
							 &guc_instance_guard, NOTIF_GUARD_OFF, instance_guard_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.max_in_flight",
							"Attempts that one dispatcher has on the wire, at most.",
							NULL, &guc_max_in_flight, 4000, 1, 16384,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.retention_days",
							"Days for which events, outcomes and inbox items are kept.",
							"Outcomes are kept for 90 days at least. Each day is a partition of the "
							"event log, and beyond 40 of them "
							"reading it costs more.",
							&guc_retention_days, 30, 1, 3650,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.router_chunk",
							"Recipients that a router expands in one transaction, at most.",
							NULL, &guc_router_chunk, 2000, 1, 2000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("notif.shutdown_grace",
							"Time for which a dispatcher waits for answers when it is told to end.",
							NULL, &guc_shutdown_grace, 5000, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	MarkGUCPrefixReserved("notif");
}

List *
notif_settings_databases(void)
{
	char	   *copy = pstrdup(guc_databases ? guc_databases : "");
	List	   *names = NIL;
	List	   *result = NIL;
	ListCell   *cell;

	if (!SplitGUCList(copy, ',', &names))
		names = NIL;

	/* the list's strings point into copy, which therefore stays */
	foreach(cell, names)
	{
		char	   *name = lfirst(cell);
		ListCell   *seen;
		bool		duplicate = false;

		foreach(seen, result)
			duplicate |= strcmp(lfirst(seen), name) == 0;
		if (!duplicate)
			result = lappend(result, name);
	}
	list_free(names);
	return result;
}

/* A list of at most NOTIF_MAX_DATABASES names that can be names. */
static bool
settings_check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names = NIL;
	ListCell   *cell;
	bool		valid = true;

	if (!SplitGUCList(copy, ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		valid = false;
	}
	else if (list_length(names) > NOTIF_MAX_DATABASES)
	{
		GUC_check_errdetail("At most %d databases of a server can be served.",
							NOTIF_MAX_DATABASES);
		valid = false;
	}
	else
	{
		foreach(cell, names)
		{
			if (strlen(lfirst(cell)) >= NAMEDATALEN)
			{
				GUC_check_errdetail("Database name \"%s\" is too long.", (char *) lfirst(cell));
				valid = false;
			}
		}
	}

	list_free(names);
	pfree(copy);
	return valid;
}
