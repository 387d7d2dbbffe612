/*
 * toplevel.c
 *		Statements that refuse to run inside a function.
 *
 * DETACH PARTITION … CONCURRENTLY and VACUUM commit in their middle and so
 * insist on being the top level of a session; SPI is refused.  A worker can be
 * that top level: a bare transaction, a portal, PortalRun(isTopLevel).  The
 * parse tree must outlive the inner commits, hence a context of its own.
 *
 * The worker's role may only execute functions.  The statement therefore runs
 * as the owner of the relation; the switch is made outside any transaction,
 * with no security context, because inner transactions take both over at their
 * start and put them back at an abort.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "worker.h"

static Oid	toplevel_owner(Oid relation);
static void toplevel_execute(const char *sql, MemoryContext parse_context);

void
notif_toplevel_run(const char *sql, Oid as_owner_of)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext parse_context;
	Oid			owner;
	Oid			user;
	int			security;

	Assert(!IsTransactionState());

	owner = toplevel_owner(as_owner_of);
	MemoryContextSwitchTo(caller);
	parse_context = AllocSetContextCreate(caller, "notif top-level statement",
										  ALLOCSET_DEFAULT_SIZES);
	GetUserIdAndSecContext(&user, &security);

	pgstat_report_activity(STATE_RUNNING, sql);
	SetUserIdAndSecContext(owner, 0);
	PG_TRY();
	{
		toplevel_execute(sql, parse_context);
	}
	PG_CATCH();
	{
		/* the abort puts back the user its transaction began with: ours last */
		AbortOutOfAnyTransaction();
		SetUserIdAndSecContext(user, security);
		PG_RE_THROW();
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, security);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(parse_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* A superuser's relation is none of ours: nothing is run with his rights. */
static Oid
toplevel_owner(Oid relation)
{
	HeapTuple	tuple;
	Oid			owner;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("relation with OID %u belongs to a superuser", relation),
				 errhint("Tables of notif belong to role %s.", NOTIF_OWNER_ROLE)));
	CommitTransactionCommand();
	return owner;
}

static void
toplevel_execute(const char *sql, MemoryContext parse_context)
{
	List	   *raw;
	List	   *queries;
	List	   *plans;
	CommandTag	tag;
	Portal		portal;
	QueryCompletion completion;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();

	MemoryContextSwitchTo(parse_context);
	raw = pg_parse_query(sql);
	if (list_length(raw) != 1)
		elog(ERROR, "expected one statement: \"%s\"", sql);
	tag = CreateCommandTag(linitial_node(RawStmt, raw)->stmt);

	/* utility statements need no snapshot to be analysed and plan to themselves */
	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, raw), sql,
												 NULL, 0, NULL);
	plans = pg_plan_queries(queries, sql, 0, NULL);
	CHECK_FOR_INTERRUPTS();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, tag, plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) PortalRun(portal, FETCH_ALL, true, true, None_Receiver, None_Receiver, &completion);
	PortalDrop(portal, false);

	CommitTransactionCommand();
}
