/*
 * conditions.c
 *		One per database: asks the conditions (send_if) of what is about to be claimed.
 *
 * sql/59-conditions.tier.sql says how attempts come here and go on.  A turn reads the
 * next of them in one transaction, asks in others, which only read and are rolled
 * back, and writes what came of it in a last one, together with its positions; so
 * whatever a crash takes is asked again.
 *
 * Attempts with the same condition are asked about in one statement.  Those of a type and
 * of an event must both hold: the second is asked where the first did.
 *
 *		An error		The group is asked in halves until the culprits are alone; what
 *						always fails, for want of rights say, fails for all at once.
 *		Too long		The rest of the group has no verdict this time, and the next ones
 *						of the type are asked one by one, then two by two …  One that is
 *						too slow alone is a strike; three of them in a row pause the type,
 *						and three of one attempt, while others pass, end that attempt.
 *		The server's fault	No verdict for the group this time, and a pause; three times in a
 *						row while others are answered, it is the expression's after all.
 *		Not to be stopped	An expression that catches its own cancellation takes this
 *						process with it; the next one pauses its type first.
 *
 * So an expression that hangs costs the others of a turn one time-out, and two that do
 * cost them two: then what is left has no verdict either.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "../src/condition.h"
#include "../src/fault.h"
#include "../src/settings.h"
#include "worker.h"

#define BATCH			500		/* attempts of a lane that are read together */
#define LEAD			1000	/* asked, and not claimed yet */
#define TIMEOUTS_A_TURN	2
#define STRIKES			3
#define DIE_MS			2000	/* a time-out was ignored for so long */
#define PAUSE_MS		1000	/* after a fault of the server's */
#define SAY_MS			60000	/* quiet for so long before the log hears of one again */
#define SLOW_MAX		10000	/* attempts remembered as too slow */

/* Of which stage a condition is; both must hold. */
#define STAGES			2

typedef enum CheckState
{
	CHECK_OPEN,					/* to be asked */
	CHECK_DONE,					/* row.holds or reason says it */
	CHECK_LATER					/* no verdict this time */
} CheckState;

/* One attempt. */
typedef struct Check
{
	int32		park;
	TimestampTz due;
	int64		ord;
	pg_uuid_t	delivery;
	int16		attempt;
	int32		type_id;
	char	   *expressions[STAGES];	/* NULL: none */
	char	   *roles[STAGES];
	NotifConditionRow row;
	CheckState	state;
	bool		pass;			/* goes on without a verdict: it will be parked, or others
								 * shall have their turn */
	char	   *reason;			/* NULL: it could be asked */
} Check;

/* What is known of a type between turns. */
typedef struct Pace
{
	int32		type_id;		/* hash key */
	int			batch;			/* how many are asked about at once */
	int			strikes;		/* in a row */
	int			faults;			/* of the server's, in a row */
	int64		answered;		/* Conditions.answered at the first of them */
} Pace;

/* An attempt that was too slow alone. */
typedef struct Slow
{
	pg_uuid_t	delivery;		/* hash key */
	int			times;
} Slow;

typedef enum AskResult
{
	ASK_ANSWERED,
	ASK_FAILED,					/* code says why */
	ASK_TIMED_OUT,
	ASK_SERVER					/* not the expression's fault */
} AskResult;

typedef struct Conditions
{
	NotifWorker *worker;
	HTAB	   *paces;
	HTAB	   *slow;
	TimeoutId	die;
	int64		answered;		/* statements, ever */
	int64		said_ms;		/* monotonic; when the log was last told of a fault */
	/* of this turn */
	Check	   *checks;
	int			n;
	int			timeouts;
	bool		server_fault;
	bool		blame;			/* an error of the server's is the expression's */
	int			suspend;		/* type to be paused, 0: none */
	const char *suspend_why;
	char		code[6];		/* of the last error */
} Conditions;

/* ---- asking ------------------------------------------------------------------------ */

/* What tells of the server and not of an expression: sql/46-isolate.sql. */
static bool
is_passing(int code)
{
	switch (ERRCODE_TO_CATEGORY(code))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('F', '0', '0', '0', '0'):
			return true;
		default:
			return false;
	}
}

/*
 * One statement in a transaction of its own, which is rolled back.  The worker's frame
 * does the same with an ERROR that nobody waits for.
 */
static AskResult
ask(Conditions *c, const Check *check, int stage, NotifConditionRow **rows, int n)
{
	const char *role_name = check->roles[stage];
	pg_atomic_uint32 *asking = &notif_shared->databases[c->worker->database].asking;
	MemoryContext caller = CurrentMemoryContext;
	volatile AskResult result = ASK_ANSWERED;

	notif_worker_interruptible(true);
	PG_TRY();
	{
		Oid			role;

		notif_spi_begin("notif: asking conditions", guc_condition_timeout);
		notif_worker_count(c->worker, NOTIF_COUNT_TRANSACTIONS, 1);
		XactReadOnly = true;
		/* whoever holds a lock is part of the time that it takes */
		(void) set_config_option("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_LOCAL, true, 0, false);
		role = get_role_oid(role_name, true);
		if (!OidIsValid(role))
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("role \"%s\" does not exist", role_name));
		pg_atomic_write_u32(asking, (uint32) check->type_id);
		enable_timeout_after(c->die, guc_condition_timeout + DIE_MS);
		notif_condition_ask(check->expressions[stage], role, rows, n);
		disable_timeout(c->die, false);
		pg_atomic_write_u32(asking, 0);
		notif_spi_rollback();
		c->answered += n > 0;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		HOLD_INTERRUPTS();
		pg_atomic_write_u32(asking, 0);
		disable_timeout(c->die, false);
		notif_worker_interruptible(false);
		disable_timeout(STATEMENT_TIMEOUT, false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		/* told to end: what is asked is asked again by the next life */
		if (ShutdownRequestPending && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		{
			RESUME_INTERRUPTS();
			PG_RE_THROW();
		}
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		RESUME_INTERRUPTS();
		strlcpy(c->code, unpack_sql_state(error->sqlerrcode), sizeof(c->code));
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			result = ASK_TIMED_OUT;
		else
			result = is_passing(error->sqlerrcode) && !c->blame ? ASK_SERVER : ASK_FAILED;
		FreeErrorData(error);
	}
	PG_END_TRY();
	notif_worker_interruptible(false);
	return result;
}

/* Nothing but the end of the process stops what runs. */
static void
ask_die(void)
{
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static Pace *
pace_of(Conditions *c, int32 type_id)
{
	bool		found;
	Pace	   *pace = hash_search(c->paces, &type_id, HASH_ENTER, &found);

	if (!found)
	{
		pace->batch = BATCH;
		pace->strikes = 0;
		pace->faults = 0;
	}
	return pace;
}

static void
give_up(Check *check, const char *code)
{
	check->state = CHECK_DONE;
	check->row.holds = false;
	check->reason = psprintf("condition_error:%s", code);
}

/* One attempt was too slow by itself. */
static void
strike(Conditions *c, Pace *pace, Check *check, int stage)
{
	bool		found;
	Slow	   *slow;

	if (c->slow != NULL && hash_get_num_entries(c->slow) >= SLOW_MAX)
	{
		hash_destroy(c->slow);
		c->slow = NULL;
	}
	if (c->slow == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(pg_uuid_t),.entrysize = sizeof(Slow),.hcxt = c->worker->life};

		c->slow = hash_create("notif slow conditions", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	slow = hash_search(c->slow, &check->delivery, HASH_ENTER, &found);
	slow->times = found ? slow->times + 1 : 1;
	check->pass = true;
	if (++pace->strikes >= STRIKES && c->suspend == 0)
	{
		/* all of the type wait, this one too */
		pace->strikes = 0;
		c->suspend = check->type_id;
		c->suspend_why = psprintf("send_if took longer than notif.condition_timeout three times in a row: %s", check->expressions[stage]);
		(void) hash_search(c->slow, &check->delivery, HASH_REMOVE, NULL);
	}
	else if (slow->times >= STRIKES)
	{
		(void) hash_search(c->slow, &check->delivery, HASH_REMOVE, NULL);
		give_up(check, "57014");
	}
}

/* Asks about some of a group, which take no longer than they may; halves what fails. */
static AskResult
ask_range(Conditions *c, Check **group, int n, int stage, bool halved)
{
	NotifConditionRow **rows = palloc(sizeof(NotifConditionRow *) * n);
	AskResult	result;
	int			half = n / 2;

	for (int i = 0; i < n; i++)
		rows[i] = &group[i]->row;
	result = ask(c, group[0], stage, rows, n);
	if (result != ASK_FAILED)
		return result;
	/* of one that fails for nobody in particular: for all */
	if (n > 1 && !halved)
	{
		char		code[6];

		memcpy(code, c->code, sizeof(code));
		result = ask(c, group[0], stage, NULL, 0);
		if (result == ASK_TIMED_OUT || result == ASK_SERVER)
			return result;
		if (result == ASK_FAILED)
			half = 0;
		memcpy(c->code, code, sizeof(code));
	}
	if (n == 1 || half == 0)
	{
		for (int i = 0; i < n; i++)
			give_up(group[i], c->code);
		return ASK_ANSWERED;
	}
	result = ask_range(c, group, half, stage, true);
	return result != ASK_ANSWERED ? result : ask_range(c, group + half, n - half, stage, true);
}

/* Those of one type with one condition. */
static void
ask_group(Conditions *c, Check **group, int n, int stage)
{
	Pace	   *pace = pace_of(c, group[0]->type_id);
	int			i = 0;

	while (i < n && c->timeouts < TIMEOUTS_A_TURN && c->suspend != group[0]->type_id)
	{
		int			take = Min(pace->batch, n - i);
		AskResult	result;

		c->blame = pace->faults >= STRIKES && c->answered > pace->answered;
		result = ask_range(c, group + i, take, stage, false);

		if (result == ASK_ANSWERED)
		{
			/* nothing is done about a strike by those that are many */
			pace->strikes = 0;
			pace->faults = 0;
			pace->batch = Min(BATCH, pace->batch * 2);
			i += take;
			continue;
		}
		if (result == ASK_SERVER)
		{
			c->server_fault = true;
			if (pace->faults++ == 0)
				pace->answered = c->answered;
			/* behind the others, whom it must not hold up */
			for (int k = i; k < n; k++)
				group[k]->pass = true;
			break;
		}
		c->timeouts++;
		if (take == 1)
			strike(c, pace, group[i], stage);
		pace->batch = 1;
		break;
	}
	c->blame = false;
	for (; i < n; i++)
	{
		if (group[i]->state == CHECK_OPEN)
			group[i]->state = CHECK_LATER;
	}
}

/* By type and condition; in a group the order stays. */
static int
check_compare(const void *a, const void *b, void *arg)
{
	const Check *x = *(Check *const *) a;
	const Check *y = *(Check *const *) b;
	int			stage = *(int *) arg;
	int			cmp;

	if (x->type_id != y->type_id)
		return x->type_id < y->type_id ? -1 : 1;
	cmp = strcmp(x->roles[stage], y->roles[stage]);
	if (cmp == 0)
		cmp = strcmp(x->expressions[stage], y->expressions[stage]);
	if (cmp == 0)
		cmp = x < y ? -1 : x > y;
	return cmp;
}

static bool
check_same(const Check *a, const Check *b, int stage)
{
	return a->type_id == b->type_id && strcmp(a->roles[stage], b->roles[stage]) == 0 &&
		strcmp(a->expressions[stage], b->expressions[stage]) == 0;
}

/*
 * One stage of all that are open and hold so far.  First the types of which nothing is
 * known to be slow, so that a time-out takes nobody's verdict who can have one.
 */
static void
ask_stage(Conditions *c, int stage)
{
	Check	  **open = palloc(sizeof(Check *) * c->n);
	int			n = 0;

	for (int i = 0; i < c->n; i++)
	{
		if (c->checks[i].state == CHECK_OPEN && c->checks[i].row.holds && c->checks[i].expressions[stage] != NULL)
			open[n++] = &c->checks[i];
	}
	if (n == 0)
		return;
	qsort_arg(open, n, sizeof(Check *), check_compare, &stage);
	for (int slow = 0; slow <= 1; slow++)
	{
		for (int from = 0, to; from < n; from = to)
		{
			for (to = from + 1; to < n && check_same(open[from], open[to], stage); to++)
				;
			if ((pace_of(c, open[from]->type_id)->batch < BATCH) == (slow == 1) && open[from]->state == CHECK_OPEN)
				ask_group(c, open + from, to - from, stage);
		}
	}
}

/* ---- a turn ------------------------------------------------------------------------ */

static Datum
copy_cell(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Datum		value = notif_spi_datum(rows, row, col, isnull);
	Oid			type;
	int16		len;
	bool		byval;

	if (*isnull)
		return (Datum) 0;
	type = TupleDescAttr(rows->table->tupdesc, col - 1)->atttypid;
	get_typlenbyval(type, &len, &byval);
	return len == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(value)) : datumCopy(value, byval, len);
}

/* Reads what waits in a tier; 0: nothing, or the extension is gone. */
static int
read_checks(Conditions *c, int tier)
{
	static NotifStmt read[NOTIF_TIERS];
	NotifStmt  *stmt = &read[tier];
	MemoryContext turn = c->worker->turn;
	Datum		args[2] = {Int32GetDatum(BATCH), Int32GetDatum(LEAD)};
	NotifRows	rows;

	c->n = 0;
	if (stmt->sql == NULL)
	{
		stmt->sql = MemoryContextStrdup(c->worker->life,
										psprintf("SELECT * FROM notif_private.worker_conditions_%s($1, $2)", notif_tier_name(tier)));
		stmt->nargs = 2;
		stmt->argtypes[0] = stmt->argtypes[1] = INT4OID;
	}
	if (!notif_worker_begin(c->worker, "notif: reading what waits for its condition"))
		return 0;
	rows = notif_spi_run(stmt, args, NULL, 0);
	MemoryContextSwitchTo(turn);
	c->checks = palloc0(sizeof(Check) * Max(rows.count, 1));
	for (uint64 i = 0; i < rows.count; i++)
	{
		Check	   *check = &c->checks[i];

		check->park = notif_spi_int32(&rows, i, 1, NULL);
		check->due = notif_spi_timestamptz(&rows, i, 2, NULL);
		check->ord = notif_spi_int64(&rows, i, 3, NULL);
		notif_spi_uuid(&rows, i, 4, &check->delivery);
		check->attempt = notif_spi_int16(&rows, i, 5, NULL);
		check->type_id = notif_spi_int32(&rows, i, 6, NULL);
		for (int s = 0; s < STAGES; s++)
		{
			check->expressions[s] = notif_spi_text(&rows, i, 7 + 2 * s, turn);
			check->roles[s] = notif_spi_text(&rows, i, 8 + 2 * s, turn);
		}
		for (int col = 0; col < NOTIF_CONDITION_COLUMNS; col++)
			check->row.values[col] = copy_cell(&rows, i, 11 + col, &check->row.nulls[col]);
		check->row.holds = true;
		check->pass = notif_spi_bool(&rows, i, 11 + NOTIF_CONDITION_COLUMNS, NULL);
		check->state = check->pass ? CHECK_LATER : CHECK_OPEN;
		/* whatever has become of it, it must not pass for one that holds */
		if (notif_spi_bool(&rows, i, 12 + NOTIF_CONDITION_COLUMNS, NULL))
			give_up(check, "P0002");
	}
	c->n = (int) rows.count;
	notif_worker_commit(c->worker, false);
	return c->n;
}

/* In a transaction. */
static void
suspend_type(NotifWorker *worker, int32 type_id, const char *why)
{
	static NotifStmt suspend = {
		.sql = "SELECT notif_private.worker_suspend_type($1, $2)",
		.nargs = 2,.argtypes = {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(type_id), CStringGetTextDatum(why)};
	NotifRows	rows = notif_spi_run(&suspend, args, NULL, 1);
	char	   *name = notif_spi_text(&rows, 0, 1, worker->turn);

	ereport(WARNING,
			errmsg("notif has paused type \"%s\": its condition takes too long", name != NULL ? name : "?"),
			errdetail("One notification alone takes longer than notif.condition_timeout, %d ms.", guc_condition_timeout),
			errhint("What waits is kept. notif.switches shows the condition; mend it, then call notif.resume for the type."));
}

static void
write_checks(Conditions *c, int tier)
{
	static NotifStmt told[NOTIF_TIERS];
	static const Oid elements[] = {INT4OID, TIMESTAMPTZOID, INT8OID, UUIDOID, INT2OID, BOOLOID, TEXTOID};
	NotifStmt  *stmt = &told[tier];
	Datum	   *columns[lengthof(elements)];
	bool	   *nulls[lengthof(elements)];
	Datum		args[lengthof(elements)];
	int			n = 0;
	bool		verdict = false;

	/*
	 * What has no verdict is passed only for the sake of others behind it; at the end of
	 * a lane's part it stays where it is.  (Rows of a lane follow each other.)
	 */
	for (int i = c->n - 1; i >= 0; i--)
	{
		if (i == c->n - 1 || c->checks[i].park != c->checks[i + 1].park)
			verdict = false;
		verdict |= c->checks[i].state == CHECK_DONE || c->checks[i].pass || c->suspend == c->checks[i].type_id;
		if (!verdict)
			c->checks[i].state = CHECK_OPEN;
	}
	if (!notif_worker_begin(c->worker, "notif: writing what conditions said"))
		return;
	for (size_t col = 0; col < lengthof(elements); col++)
	{
		columns[col] = palloc0(sizeof(Datum) * (c->n + 1));
		nulls[col] = palloc0(sizeof(bool) * (c->n + 1));
	}
	for (int i = 0; i < c->n; i++)
	{
		Check	   *check = &c->checks[i];

		if (check->state == CHECK_OPEN)
			continue;
		columns[0][n] = Int32GetDatum(check->park);
		columns[1][n] = TimestampTzGetDatum(check->due);
		columns[2][n] = Int64GetDatum(check->ord);
		columns[3][n] = UUIDPGetDatum(&check->delivery);
		columns[4][n] = Int16GetDatum(check->attempt);
		columns[5][n] = BoolGetDatum(check->row.holds);
		nulls[5][n] = check->state != CHECK_DONE;
		nulls[6][n] = check->reason == NULL;
		if (check->reason != NULL)
			columns[6][n] = CStringGetTextDatum(check->reason);
		n++;
	}
	if (stmt->sql == NULL)
		stmt->sql = MemoryContextStrdup(c->worker->life,
										psprintf("SELECT notif_private.worker_conditions_told_%s($1, $2, $3, $4, $5, $6, $7)",
												 notif_tier_name(tier)));
	stmt->nargs = lengthof(elements);
	for (size_t col = 0; col < lengthof(elements); col++)
	{
		int			lower = 1;
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(elements[col], &len, &byval, &align);
		stmt->argtypes[col] = get_array_type(elements[col]);
		args[col] = n == 0 ? PointerGetDatum(construct_empty_array(elements[col]))
			: PointerGetDatum(construct_md_array(columns[col], nulls[col], 1, &n, &lower, elements[col], len, byval, align));
	}
	notif_worker_drop_foreign_locks(c->worker, NOTIF_WORKER_CONDITIONS, 0);
	if (c->suspend != 0)
		suspend_type(c->worker, c->suspend, c->suspend_why);
	(void) notif_spi_run(stmt, args, NULL, 1);
	NOTIF_FAULT(K11);
	notif_worker_commit(c->worker, c->suspend != 0);
	NOTIF_FAULT(K12);
	pg_atomic_fetch_add_u32(&notif_shared->databases[c->worker->database].checked[tier], 1);
	notif_worker_wake(c->worker, NOTIF_WORKER_DISPATCHER, tier);
}

/* Once a turn: what went wrong with whose condition, without a word of the data. */
static void
report_errors(const Conditions *c)
{
	for (int i = 0; i < c->n; i++)
	{
		const Check *check = &c->checks[i];
		int			same = 0;
		bool		first = true;

		if (check->reason == NULL)
			continue;
		for (int k = 0; k < c->n; k++)
		{
			if (c->checks[k].type_id != check->type_id || c->checks[k].reason == NULL ||
				strcmp(c->checks[k].reason, check->reason) != 0)
				continue;
			first &= k >= i;
			same++;
		}
		if (first)
			ereport(LOG,
					errmsg("conditions of notification type \"%s\" could not be asked for %d deliveries: %s",
						   check->row.nulls[4] ? "?" : TextDatumGetCString(check->row.values[4]), same, check->reason),
					errhint("notif.explain shows the condition and what it says now; notif.redeliver sends them again."));
	}
}

static long
conditions_work(NotifWorker *worker, void *arg)
{
	Conditions *c = arg;
	bool		more = false;
	uint32		killer = pg_atomic_read_u32(&notif_shared->databases[worker->database].asking);

	if (killer != 0)
	{
		if (!notif_worker_begin(worker, "notif: pausing a type"))
			return NOTIF_IDLE;
		suspend_type(worker, (int32) killer, "send_if did not end with its time-out and took its worker with it");
		notif_worker_commit(worker, true);
		pg_atomic_write_u32(&notif_shared->databases[worker->database].asking, 0);
	}

	for (int tier = 0; tier < NOTIF_TIERS; tier++)
	{
		c->timeouts = 0;
		c->server_fault = false;
		c->suspend = 0;
		if (read_checks(c, tier) == 0)
			continue;
		more = true;
		for (int stage = 0; stage < STAGES; stage++)
			ask_stage(c, stage);
		for (int i = 0; i < c->n; i++)
		{
			/* what has passed both stages, or needed none */
			if (c->checks[i].state == CHECK_OPEN)
				c->checks[i].state = CHECK_DONE;
		}
		NOTIF_FAULT(K10);
		report_errors(c);
		write_checks(c, tier);
		notif_worker_count(worker, NOTIF_COUNT_CLAIMS, c->n);
		if (c->server_fault)
		{
			if (c->said_ms == 0 || notif_monotonic_ms() - c->said_ms >= SAY_MS)
				ereport(LOG,
						errmsg("notif cannot ask all conditions now, trying again: %s", c->code));
			c->said_ms = notif_monotonic_ms();
			return PAUSE_MS;
		}
	}
	return more ? 0 : NOTIF_IDLE;
}

void
notif_conditions_run(NotifWorker *worker)
{
	static const NotifWorkerOps ops = {.work = conditions_work};
	Conditions	c = {.worker = worker};
	HASHCTL		ctl = {.keysize = sizeof(int32),.entrysize = sizeof(Pace),.hcxt = worker->life};

	if (!notif_worker_own(worker, NOTIF_WORKER_CONDITIONS, 0))
		return;
	c.die = RegisterTimeout(USER_TIMEOUT, ask_die);
	c.paces = hash_create("notif conditions of types", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	notif_worker_loop(worker, &ops, &c);
}
