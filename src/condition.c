/*
 * condition.c
 *		Conditions (send_if): checking them when they are written, asking them.
 *
 * An expression is parsed by itself first, and must be exactly one: only then is its
 * text put into the statement that asks it, where its tokens can mean nothing else.
 * It is asked for many rows at once, so that the server sees a set.
 *
 * Whose rights: those of the role that wrote it, in a security-restricted operation,
 * which cannot take on another role or leave anything behind in the session.
 * Settings that it changes end with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "condition.h"
#include "notif.h"
#include "settings.h"
#include "spi.h"
#include "type_cache.h"

#define EXPRESSION_MAX_BYTES	8192
#define CHECKED_MAX				256 /* remembered */

PG_FUNCTION_INFO_V1(notif_condition_now);
PG_FUNCTION_INFO_V1(notif_define_type);

/* The columns of notification. */
static const struct
{
	const char *name;
	Oid			type;
	Oid			array;
}			columns[NOTIF_CONDITION_COLUMNS] =
{
	{"recipient", TEXTOID, TEXTARRAYOID},
	{"attributes", JSONBOID, JSONBARRAYOID},
	{"data", JSONBOID, JSONBARRAYOID},
	{"event", UUIDOID, UUIDARRAYOID},
	{"type", TEXTOID, TEXTARRAYOID},
	{"source", TEXTOID, TEXTARRAYOID},
	{"thread", TEXTOID, TEXTARRAYOID},
	{"correlation_id", TEXTOID, TEXTARRAYOID},
	{"campaign", TEXTOID, TEXTARRAYOID}
};

/* The role's rights and our settings, and the way back. */
typedef struct ConditionRights
{
	Oid			user;
	int			sec_context;
	int			nest_level;
} ConditionRights;

/* ---- the statement ----------------------------------------------------------------- */

/* Row number and verdict for each row; *at is where the expression begins in it. */
static char *
condition_statement(const char *expression, int *at)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, "SELECT notification.\"notif$row\", (\n");
	*at = s.len;
	/* the line break ends a comment; of several arrays unnest is grammar, not a function */
	appendStringInfo(&s, "%s\n) FROM unnest(", expression);
	for (int c = 0; c < NOTIF_CONDITION_COLUMNS; c++)
		appendStringInfo(&s, "%s$%d", c > 0 ? ", " : "", c + 1);
	appendStringInfoString(&s, ") WITH ORDINALITY AS notification(");
	for (int c = 0; c < NOTIF_CONDITION_COLUMNS; c++)
		appendStringInfo(&s, "%s, ", columns[c].name);
	appendStringInfoString(&s, "\"notif$row\")");
	return s.data;
}

static void
condition_become(ConditionRights *rights, Oid role)
{
	/*
	 * Who has these has everything of notif's, and they are nobody's own: a function of
	 * notif's that is to publish with a condition must hand on its caller's.
	 */
	if (role == get_role_oid(NOTIF_OWNER_ROLE, true) || role == get_role_oid(NOTIF_WORKER_ROLE, true))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" asks no conditions", GetUserNameFromId(role, false)));
	GetUserIdAndSecContext(&rights->user, &rights->sec_context);
	rights->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(role, rights->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

static void
condition_come_back(const ConditionRights *rights)
{
	AtEOXact_GUC(false, rights->nest_level);
	SetUserIdAndSecContext(rights->user, rights->sec_context);
}

/* ---- asking ------------------------------------------------------------------------ */

void
notif_condition_ask(const char *expression, Oid role, NotifConditionRow **rows, int n)
{
	ConditionRights rights;
	Oid			types[NOTIF_CONDITION_COLUMNS];
	Datum		args[NOTIF_CONDITION_COLUMNS];
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));
	NotifRows	answers;
	int			at;

	for (int c = 0; c < NOTIF_CONDITION_COLUMNS; c++)
	{
		int			lower = 1;
		int16		len;
		bool		byval;
		char		align;

		for (int i = 0; i < n; i++)
		{
			values[i] = rows[i]->values[c];
			nulls[i] = rows[i]->nulls[c];
		}
		get_typlenbyvalalign(columns[c].type, &len, &byval, &align);
		types[c] = columns[c].array;
		args[c] = n == 0 ? PointerGetDatum(construct_empty_array(columns[c].type))
			: PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, columns[c].type, len, byval, align));
	}
	condition_become(&rights, role);
	answers = notif_spi_run_once(condition_statement(expression, &at), NOTIF_CONDITION_COLUMNS, types, args);
	condition_come_back(&rights);
	for (int i = 0; i < n; i++)
		rows[i]->holds = false;
	for (uint64 i = 0; i < answers.count; i++)
	{
		int64		row = notif_spi_int64(&answers, i, 1, NULL);

		if (row < 1 || row > n)
			elog(ERROR, "a condition answers for a row that it was not asked about");
		rows[row - 1]->holds = notif_spi_bool(&answers, i, 2, NULL);
	}
}

/* ---- checking ---------------------------------------------------------------------- */

static bool
has_parameter(Node *node, void *context)
{
	return node != NULL && (IsA(node, ParamRef) || raw_expression_tree_walker(node, has_parameter, context));
}

/* One expression, and not a list, an alias or half a query. */
static void
check_parse(const char *expression)
{
	List	   *raw = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, raw)->stmt);
	ResTarget  *target = list_length(select->targetList) == 1 ? linitial_node(ResTarget, select->targetList) : NULL;

	if (target == NULL || target->name != NULL || target->indirection != NIL || select->distinctClause != NIL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL || select->sortClause != NIL ||
		select->limitOffset != NULL || select->limitCount != NULL || select->lockingClause != NIL)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("send_if is not one expression"),
				errhint("For example EXISTS (SELECT FROM public.orders o WHERE o.id = (notification.data->>'order')::bigint)."));
	if (has_parameter(target->val, NULL))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_PARAMETER),
				errmsg("send_if has no parameters"),
				errhint("Write values into the event's data, and read them from notification.data."));
}

/* Names, types and shape, with the role's rights. */
static void
check_analyze(const char *statement)
{
	List	   *raw = pg_parse_query(statement);
	Oid			types[NOTIF_CONDITION_COLUMNS];
	List	   *queries;
	Query	   *query;
	Oid			type;

	if (list_length(raw) != 1)
		elog(ERROR, "a condition makes more than one statement");
	for (int c = 0; c < NOTIF_CONDITION_COLUMNS; c++)
		types[c] = columns[c].array;
	queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, raw), statement,
												 types, NOTIF_CONDITION_COLUMNS, NULL);
	query = linitial_node(Query, queries);
	if (list_length(query->targetList) != 2)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("send_if is not one expression"));
	type = exprType((Node *) lsecond_node(TargetEntry, query->targetList)->expr);
	if (type != BOOLOID)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("send_if must be boolean, not %s", format_type_be(type)));
	if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("send_if may have aggregates, window and set-returning functions in its subqueries only"));
}

/*
 * An error points into the expression, not into the caller's statement, and says what
 * a condition is.  Raises it again.
 */
static void
check_failed(ErrorData *error, const char *expression, int at, Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	if (error->cursorpos > 0)
	{
		error->internalpos = error->cursorpos > at ? error->cursorpos - at : 0;
		error->internalquery = pstrdup(expression);
		error->cursorpos = 0;
	}
	if (error->detail == NULL)
		error->detail = psprintf("send_if is checked with the rights of role \"%s\" and search_path = pg_catalog.",
								 name != NULL ? name : "?");
	if (error->hint == NULL)
		error->hint = pstrdup("It is one boolean expression over the row notification (recipient, attributes, data, event, type, "
							  "source, thread, correlation_id, campaign) and tables written with their schema.");
	ReThrowError(error);
}

typedef struct CheckedKey
{
	uint64		hash[2];
	Oid			role;
} CheckedKey;

/*
 * What has passed for a role once is taken for good: whatever changes afterwards, the
 * condition is asked with the rights of that time.  True: it has.  Else *key is what
 * to remember it by.
 */
static bool
checked_find(const char *expression, Oid role, CheckedKey *key, HTAB **table)
{
	static HTAB *checked = NULL;

	memset(key, 0, sizeof(*key));
	for (int i = 0; i < 2; i++)
		key->hash[i] = hash_bytes_extended((const unsigned char *) expression, (int) strlen(expression), (uint64) i);
	key->role = role;
	if (checked != NULL && hash_get_num_entries(checked) >= CHECKED_MAX)
	{
		hash_destroy(checked);
		checked = NULL;
	}
	if (checked == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(CheckedKey),.entrysize = sizeof(CheckedKey),.hcxt = TopMemoryContext};

		checked = hash_create("notif conditions", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	*table = checked;
	return hash_search(checked, key, HASH_FIND, NULL) != NULL;
}

void
notif_condition_check(const char *expression, Oid role)
{
	MemoryContext caller = CurrentMemoryContext;
	ConditionRights rights;
	CheckedKey	key;
	HTAB	   *checked;
	const char *statement;
	volatile int at = 0;

	if (strlen(expression) > EXPRESSION_MAX_BYTES)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("send_if is too long"),
				errdetail("It has %zu bytes.", strlen(expression)),
				errhint("At most %d bytes are kept; a function can hold more.", EXPRESSION_MAX_BYTES));
	if (checked_find(expression, role, &key, &checked))
		return;
	PG_TRY();
	{
		int			begins;

		check_parse(expression);
		statement = condition_statement(expression, &begins);
		at = begins;
		condition_become(&rights, role);
		check_analyze(statement);
		condition_come_back(&rights);
		/* rights on tables and functions are looked at by a run, of no row */
		notif_spi_connect();
		notif_condition_ask(expression, role, NULL, 0);
		notif_spi_finish();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		check_failed(error, expression, at, role);
	}
	PG_END_TRY();
	(void) hash_search(checked, &key, HASH_ENTER, NULL);
}

/* ---- types -------------------------------------------------------------------------- */

/*
 * notif.define_type: as its caller, whose condition it is, and then as the owner of the
 * tables, like every definition.  A SECURITY DEFINER function could not tell who its
 * caller is.  The last argument is send_if; all are handed on.
 */
Datum
notif_define_type(PG_FUNCTION_ARGS)
{
	static NotifStmt define;
	Datum		args[NOTIF_STMT_MAX_ARGS];
	char		nulls[NOTIF_STMT_MAX_ARGS];
	int			n = PG_NARGS();
	NameData	by;
	Oid			caller;
	int			sec_context;

	GetUserIdAndSecContext(&caller, &sec_context);
	if (!PG_ARGISNULL(n - 1))
		notif_condition_check(text_to_cstring(PG_GETARG_TEXT_PP(n - 1)), caller);
	if (define.sql == NULL)
	{
		StringInfoData sql;
		Oid		   *types;

		(void) get_func_signature(fcinfo->flinfo->fn_oid, &types, &define.nargs);
		memcpy(define.argtypes, types, sizeof(Oid) * n);
		define.argtypes[n] = NAMEOID;
		define.nargs = n + 1;
		initStringInfo(&sql);
		for (int i = 0; i <= n; i++)
			appendStringInfo(&sql, "%s$%d", i == 0 ? "SELECT notif_private.define_type(" : ", ", i + 1);
		appendStringInfoChar(&sql, ')');
		define.sql = MemoryContextStrdup(TopMemoryContext, sql.data);
	}
	for (int i = 0; i < n; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		args[i] = PG_GETARG_DATUM(i);
	}
	namestrcpy(&by, GetUserNameFromId(caller, false));
	args[n] = NameGetDatum(&by);
	nulls[n] = ' ';
	notif_spi_connect();
	SetUserIdAndSecContext(notif_config_get()->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) notif_spi_run(&define, args, nulls, 1);
	SetUserIdAndSecContext(caller, sec_context);
	notif_spi_finish();
	PG_RETURN_VOID();
}

/* ---- for notif.explain ---------------------------------------------------------------- */

static volatile sig_atomic_t now_timed_out = false;

/* Cancels the statement, as a client that loses patience would. */
static void
now_time_is_over(void)
{
	now_timed_out = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/*
 * Asks in a subtransaction that is rolled back.  The word for it, or NULL: somebody
 * else has cancelled the statement, and the error is raised again.
 */
static const char *
now_ask(const char *expression, Oid role, NotifConditionRow *row)
{
	static TimeoutId timeout = MAX_TIMEOUTS;
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool read_only = XactReadOnly;
	const char *volatile said = NULL;

	if (timeout == MAX_TIMEOUTS)
		timeout = RegisterTimeout(USER_TIMEOUT, now_time_is_over);
	now_timed_out = false;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		XactReadOnly = true;
		enable_timeout_after(timeout, guc_condition_timeout);
		notif_spi_connect();
		notif_condition_ask(expression, role, &row, 1);
		notif_spi_finish();
		disable_timeout(timeout, false);
		said = row->holds ? "true" : "false";
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		disable_timeout(timeout, false);
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !now_timed_out)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		said = psprintf("condition_error:%s", unpack_sql_state(error->sqlerrcode));
	}
	PG_END_TRY();
	XactReadOnly = read_only;
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return said;
}

Datum
notif_condition_now(PG_FUNCTION_ARGS)
{
	NotifConditionRow row = {0};
	Oid			role;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	for (int c = 0; c < NOTIF_CONDITION_COLUMNS; c++)
	{
		row.nulls[c] = PG_ARGISNULL(c + 2);
		row.values[c] = PG_GETARG_DATUM(c + 2);
	}
	role = get_role_oid(NameStr(*PG_GETARG_NAME(1)), true);
	if (!OidIsValid(role))
		PG_RETURN_TEXT_P(cstring_to_text("condition_error:42704"));
	PG_RETURN_TEXT_P(cstring_to_text(now_ask(text_to_cstring(PG_GETARG_TEXT_PP(0)), role, &row)));
}
