/*
 * spi.c
 *		The only file that speaks SPI.
 *
 * A worker's transaction does what a session's does around a statement: fresh
 * statement timestamp (else now() stands still for the life of the process),
 * activity, snapshot, statistics after the commit (else autovacuum never
 * learns what workers write).  The statement timeout is armed here because the
 * setting of that name does nothing in a background worker.
 *
 * Nothing here holds a transaction over I/O; begin and commit bracket SQL and
 * nothing else.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "spi.h"

/* Plans made under another generation are made anew. */
static uint64 spi_generation = 1;

static bool spi_open = false;
static bool spi_committed = false;
static MemoryContext spi_caller = NULL;

static void spi_close(void);
static Datum spi_cell(const NotifRows *rows, uint64 row, int col, bool *isnull);
static void *spi_array(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt,
					   size_t element_size, int *n);

void
notif_spi_begin(const char *label, int timeout_ms)
{
	/* an ERROR may have ended the previous transaction without coming by */
	spi_open = false;
	spi_committed = false;
	spi_caller = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, label);
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	if (timeout_ms > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout_ms);

	MemoryContextSwitchTo(spi_caller);
	spi_open = true;
}

void
notif_spi_commit(bool durable)
{
	int			wanted = durable ? SYNCHRONOUS_COMMIT_ON : SYNCHRONOUS_COMMIT_OFF;

	Assert(spi_open);
	spi_close();
	/* asks the server, not a memory of its own: an abort takes the setting back */
	if (synchronous_commit != wanted)
		SetConfigOption("synchronous_commit", durable ? "on" : "off",
						PGC_USERSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
	spi_committed = true;
	MemoryContextSwitchTo(spi_caller);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
notif_spi_rollback(void)
{
	Assert(spi_open);
	spi_close();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(spi_caller);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

bool
notif_spi_committed(void)
{
	return spi_committed;
}

bool
notif_spi_active(void)
{
	return spi_open && IsTransactionState();
}

/*
 * The timeout ends with the statements: a commit is never cut by it, nor by a
 * cancel that came too late for the last statement.
 */
static void
spi_close(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
	SPI_finish();
	PopActiveSnapshot();
	spi_open = false;
}

NotifRows
notif_spi_run(NotifStmt *stmt, const Datum *args, const char *nulls, long max_rows)
{
	MemoryContext caller = CurrentMemoryContext;
	NotifRows	rows = {0};
	int			rc;

	Assert(stmt->nargs <= NOTIF_STMT_MAX_ARGS);

	if (stmt->plan != NULL && stmt->generation != spi_generation)
	{
		SPI_freeplan(stmt->plan);
		stmt->plan = NULL;
	}
	if (stmt->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(stmt->sql, stmt->nargs, stmt->argtypes);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", stmt->sql,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep the plan of \"%s\"", stmt->sql);
		stmt->plan = plan;
		stmt->generation = spi_generation;
	}

	rc = SPI_execute_plan(stmt->plan, unconstify(Datum *, args), nulls,
						  stmt->read_only, max_rows);
	if (rc < 0)
		elog(ERROR, "could not run \"%s\": %s", stmt->sql, SPI_result_code_string(rc));

	rows.table = SPI_tuptable;
	rows.count = SPI_processed;
	MemoryContextSwitchTo(caller);
	return rows;
}

NotifRows
notif_spi_run_once(const char *sql, int nargs, Oid *argtypes, Datum *args)
{
	MemoryContext caller = CurrentMemoryContext;
	NotifRows	rows = {0};
	int			rc = SPI_execute_with_args(sql, nargs, argtypes, args, NULL, true, 0);

	if (rc < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(rc));
	rows.table = SPI_tuptable;
	rows.count = SPI_processed;
	MemoryContextSwitchTo(caller);
	return rows;
}

void
notif_spi_connect(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	MemoryContextSwitchTo(caller);
}

void
notif_spi_finish(void)
{
	MemoryContext caller = CurrentMemoryContext;

	SPI_finish();
	MemoryContextSwitchTo(caller);
}

void
notif_spi_fresh_snapshot(void)
{
	Assert(spi_open);
	PopActiveSnapshot();
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
notif_spi_forget_plans(void)
{
	spi_generation++;
}

/* ---- cells ---------------------------------------------------------------- */

static Datum
spi_cell(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	bool		null;
	Datum		value;

	if (rows->table == NULL || row >= rows->count || col < 1 ||
		col > rows->table->tupdesc->natts)
		elog(ERROR, "no cell (" UINT64_FORMAT ", %d) in the result", row, col);

	value = heap_getattr(rows->table->vals[row], col, rows->table->tupdesc, &null);
	if (isnull != NULL)
		*isnull = null;
	return null ? (Datum) 0 : value;
}

#ifdef USE_ASSERT_CHECKING
static bool
spi_is_type(const NotifRows *rows, int col, Oid type)
{
	return TupleDescAttr(rows->table->tupdesc, col - 1)->atttypid == type;
}
#endif

Datum
notif_spi_datum(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	return spi_cell(rows, row, col, isnull);
}

bool
notif_spi_bool(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, BOOLOID));
	return DatumGetBool(spi_cell(rows, row, col, isnull));
}

int16
notif_spi_int16(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, INT2OID));
	return DatumGetInt16(spi_cell(rows, row, col, isnull));
}

int32
notif_spi_int32(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, INT4OID));
	return DatumGetInt32(spi_cell(rows, row, col, isnull));
}

int64
notif_spi_int64(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, INT8OID) || spi_is_type(rows, col, XID8OID));
	return DatumGetInt64(spi_cell(rows, row, col, isnull));
}

double
notif_spi_double(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, FLOAT8OID));
	return DatumGetFloat8(spi_cell(rows, row, col, isnull));
}

TimestampTz
notif_spi_timestamptz(const NotifRows *rows, uint64 row, int col, bool *isnull)
{
	Assert(spi_is_type(rows, col, TIMESTAMPTZOID));
	return DatumGetTimestampTz(spi_cell(rows, row, col, isnull));
}

bool
notif_spi_uuid(const NotifRows *rows, uint64 row, int col, pg_uuid_t *uuid)
{
	bool		isnull;
	Datum		value = spi_cell(rows, row, col, &isnull);

	Assert(spi_is_type(rows, col, UUIDOID));
	if (isnull)
		return false;
	memcpy(uuid, DatumGetUUIDP(value), sizeof(*uuid));
	return true;
}

char *
notif_spi_text(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt)
{
	bool		isnull;
	Datum		value = spi_cell(rows, row, col, &isnull);
	MemoryContext caller;
	Oid			type;
	char	   *string;

	if (isnull)
		return NULL;

	caller = MemoryContextSwitchTo(mcxt);
	type = TupleDescAttr(rows->table->tupdesc, col - 1)->atttypid;
	if (type == TEXTOID || type == VARCHAROID || type == JSONOID)
		string = TextDatumGetCString(value);
	else
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(type, &output, &varlena);
		string = OidOutputFunctionCall(output, value);
	}
	MemoryContextSwitchTo(caller);
	return string;
}

char *
notif_spi_bytes(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt, size_t *len)
{
	const char *data = notif_spi_peek(rows, row, col, len);
	char	   *copy;

	if (data == NULL)
		return NULL;
	copy = MemoryContextAlloc(mcxt, *len + 1);
	memcpy(copy, data, *len);
	copy[*len] = '\0';
	return copy;
}

const char *
notif_spi_peek(const NotifRows *rows, uint64 row, int col, size_t *len)
{
	bool		isnull;
	Datum		value = spi_cell(rows, row, col, &isnull);
	MemoryContext caller;
	struct varlena *plain;

	*len = 0;
	if (isnull)
		return NULL;

	/* a compressed or toasted value is unpacked into the result's own memory */
	caller = MemoryContextSwitchTo(rows->table->tuptabcxt);
	plain = PG_DETOAST_DATUM_PACKED(value);
	MemoryContextSwitchTo(caller);

	*len = VARSIZE_ANY_EXHDR(plain);
	return VARDATA_ANY(plain);
}

int64 *
notif_spi_int64_array(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt, int *n)
{
	return spi_array(rows, row, col, mcxt, sizeof(int64), n);
}

pg_uuid_t *
notif_spi_uuid_array(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt, int *n)
{
	return spi_array(rows, row, col, mcxt, sizeof(pg_uuid_t), n);
}

/*
 * Fixed-size elements without nulls lie densely in an array (8-byte ones by
 * their alignment, uuids by having none), so one copy does it.
 */
static void *
spi_array(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt,
		  size_t element_size, int *n)
{
	bool		isnull;
	Datum		value = spi_cell(rows, row, col, &isnull);
	MemoryContext caller;
	ArrayType  *array;
	void	   *copy;

	*n = 0;
	if (isnull)
		return NULL;

	caller = MemoryContextSwitchTo(rows->table->tuptabcxt);
	array = DatumGetArrayTypeP(value);
	MemoryContextSwitchTo(caller);

	if (get_typlen(ARR_ELEMTYPE(array)) != (int16) element_size)
		elog(ERROR, "array in column %d has elements of another size", col);
	if (ARR_HASNULL(array) && array_contains_nulls(array))
		elog(ERROR, "array in column %d contains nulls", col);
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (*n == 0)
		return NULL;
	copy = MemoryContextAlloc(mcxt, *n * element_size);
	memcpy(copy, ARR_DATA_PTR(array), *n * element_size);
	return copy;
}
