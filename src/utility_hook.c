/*
 * utility_hook.c
 *		What notif does around other people's commands.
 *
 *	- DROP DATABASE, ALTER DATABASE … RENAME or SET TABLESPACE and CREATE
 *	  DATABASE … TEMPLATE refuse to work on a database with connections, and
 *	  our workers are connections.  They are stopped before the command and
 *	  kept out until its transaction has ended, however it ends.
 *	- ALTER EXTENSION notif UPDATE likewise: its script locks and changes what
 *	  the workers use, and what they have prepared and cached is of the old one.
 *	- CREATE, ALTER and DROP EXTENSION notif wake upkeep and launcher at commit.
 *	- COMMIT PREPARED wakes the routers, and has everything unsent given back:
 *	  the backend that published or switched off is not the one that commits,
 *	  and nothing tells what was prepared.
 *
 * The hold is a process id in the database's slot (shmem.h); the launcher drops
 * it when that process is gone.  Only who may run the command may stop workers,
 * else anybody could by a command that is then refused.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "notif.h"
#include "optout.h"
#include "settings.h"
#include "shmem.h"
#include "wake.h"

/* Workers are told to end at once, insisted upon after their grace, and waited for. */
#define HOLD_WAIT_MS	10000
#define HOLD_INSIST_MS	1000
#define HOLD_AFTER_MS	5000
#define HOLD_LOOK_MS	1000

static ProcessUtility_hook_type prev_process_utility = NULL;

/* Databases this backend holds, as bits; released when the transaction ends. */
static uint32 held = 0;

StaticAssertDecl(NOTIF_MAX_DATABASES <= 32, "one bit per database");

static void utility_hook(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
						 ProcessUtilityContext context, ParamListInfo params,
						 QueryEnvironment *query_env, DestReceiver *dest,
						 QueryCompletion *completion);
static const char *utility_disturbed_database(Node *statement, bool *as_template);
static bool utility_concerns_extension(Node *statement);
static bool utility_may_disturb(const char *name, bool as_template);
static bool utility_hold(const char *name);
static bool utility_take_hold(const char *name, int *database);
static bool utility_workers_gone(int database);
static void utility_release(XactEvent event, void *arg);

void
notif_utility_hook_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}

static void
utility_hook(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *query_env, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = pstmt->utilityStmt;
	bool		as_template = false;
	const char *disturbed = utility_disturbed_database(statement, &as_template);
	bool		extension = utility_concerns_extension(statement);
	bool		commit_prepared = IsA(statement, TransactionStmt) &&
		((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED;

	if (disturbed != NULL && utility_may_disturb(disturbed, as_template))
		(void) utility_hold(disturbed);
	else if (extension && IsA(statement, AlterExtensionStmt) && superuser() &&
			 !utility_hold(get_database_name(MyDatabaseId)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("workers of notif have not left the database"),
				 errdetail("They, or another command that keeps them out, must end before the extension's objects are changed."),
				 errhint("Look at notif.workers, and at pg_stat_activity for a transaction with DDL on this database, and try again.")));

	if (prev_process_utility)
		prev_process_utility(pstmt, query_string, read_only_tree, context, params,
							 query_env, dest, completion);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params,
								query_env, dest, completion);

	if (extension)
		notif_wake_launcher_at_commit();
	if (commit_prepared)
	{
		notif_optout_everybody(MyDatabaseId);
		for (int tier = 0; tier < NOTIF_TIERS; tier++)
			notif_wake_worker(MyDatabaseId, NOTIF_WORKER_ROUTER, tier);
	}
}

/* The database that must be free of connections for this statement, or NULL. */
static const char *
utility_disturbed_database(Node *statement, bool *as_template)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;

		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;

		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) statement)->options)
			{
				if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
					return ((AlterDatabaseStmt *) statement)->dbname;
			}
			return NULL;

		case T_CreatedbStmt:
			*as_template = true;
			foreach(cell, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = lfirst_node(DefElem, cell);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return defGetString(option);
			}
			return "template1";

		default:
			return NULL;
	}
}

static bool
utility_concerns_extension(Node *statement)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_CreateExtensionStmt:
			return strcmp(((CreateExtensionStmt *) statement)->extname, NOTIF_EXTENSION) == 0;
		case T_AlterExtensionStmt:
			return strcmp(((AlterExtensionStmt *) statement)->extname, NOTIF_EXTENSION) == 0;
		case T_DropStmt:
			if (((DropStmt *) statement)->removeType != OBJECT_EXTENSION)
				return false;
			foreach(cell, ((DropStmt *) statement)->objects)
			{
				if (strcmp(strVal(lfirst(cell)), NOTIF_EXTENSION) == 0)
					return true;
			}
			return false;
		default:
			return false;
	}
}

/* The rights that the command itself is going to ask for, or more. */
static bool
utility_may_disturb(const char *name, bool as_template)
{
	Oid			dboid = get_database_oid(name, true);
	HeapTuple	tuple;
	bool		may;

	if (!OidIsValid(dboid))
		return false;
	if (superuser() || pg_database_ownercheck(dboid, GetUserId()))
		return true;
	if (!as_template)
		return false;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	if (may)
	{
		tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
		may = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
	}
	return may;
}

/*
 * Keeps workers out of the database until the transaction ends, and waits for
 * those in it.  False: some have stayed longer than they may, or another command
 * keeps them out and could let them in again.  A command on the database may go on
 * all the same: the server refuses it in its own words.
 */
static bool
utility_hold(const char *name)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		insisted = false;
	bool		gone = true;	/* where there is nothing to hold */
	int			database;

	while (utility_take_hold(name, &database))
	{
		bool		mine = database >= 0 && (held & (1U << database)) != 0;

		gone = mine && utility_workers_gone(database);
		if (gone || TimestampDifferenceExceeds(start, GetCurrentTimestamp(),
											   Max(HOLD_WAIT_MS, guc_shutdown_grace + HOLD_AFTER_MS)))
			break;
		if (mine && !insisted &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(), guc_shutdown_grace + HOLD_INSIST_MS))
		{
			for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
				notif_worker_tell_to_end(&notif_shared->databases[database].workers[i]);
			insisted = true;
		}
		(void) ConditionVariableTimedSleep(&notif_shared->slot_freed, HOLD_LOOK_MS,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return gone;
}

/*
 * Tries to become the holder and, when it has, tells the workers to end.
 * False: nothing to hold.  True with a bit in `held`: ours; without: another
 * backend's command holds it still.
 */
static bool
utility_take_hold(const char *name, int *database)
{
	static bool registered = false;
	bool		taken = false;

	*database = -1;
	if (!registered)
	{
		RegisterXactCallback(utility_release, NULL);
		registered = true;
	}

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		NotifDatabaseSlot *slot = &notif_shared->databases[d];

		if (!slot->in_use || strcmp(slot->name, name) != 0)
			continue;
		*database = d;
		if (slot->hold_pid == 0)
		{
			slot->hold_pid = MyProcPid;
			held |= 1U << d;
			taken = true;
		}
	}
	LWLockRelease(notif_shared->lock);

	if (taken)
	{
		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
			notif_worker_tell_to_end(&notif_shared->databases[*database].workers[i]);
	}
	return *database >= 0;
}

/*
 * A worker leaves its slot after it has left the list of backends; one that is
 * only starting finds the hold before it connects.
 */
static bool
utility_workers_gone(int database)
{
	bool		gone = true;

	LWLockAcquire(notif_shared->lock, LW_SHARED);
	for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
		gone &= notif_shared->databases[database].workers[i].pid == 0;
	LWLockRelease(notif_shared->lock);
	return gone;
}

/*
 * End of the transaction: the launcher looks again whether there is such a
 * database.  At commit it is gone (or renamed) for everybody already.
 */
static void
utility_release(XactEvent event, void *arg)
{
	if (held == 0 ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;

	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		NotifDatabaseSlot *slot = &notif_shared->databases[d];

		if ((held & (1U << d)) && slot->hold_pid == MyProcPid)
		{
			slot->hold_pid = 0;
			slot->state = NOTIF_DB_UNKNOWN;
		}
	}
	held = 0;
	LWLockRelease(notif_shared->lock);
	ConditionVariableBroadcast(&notif_shared->slot_freed);
	notif_wake_launcher();
}
