/*
 * spi.h
 *		The only door to SPI: transactions, kept plans, cells of results.
 *
 * Transactions of workers are opened by notif_worker_begin (worker.h), which
 * also guards the extension; notif_spi_begin/commit are the parts below it.
 * Results live until the end of the transaction; whatever must live longer is
 * copied into a context given by the caller.  Every function leaves the current
 * memory context as it found it.
 */
#ifndef NOTIF_SPI_H
#define NOTIF_SPI_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/uuid.h"

#define NOTIF_STMT_MAX_ARGS 24

/*
 * A statement that is planned once and kept.  Declare it static:
 *
 *		static NotifStmt claim = {
 *			.sql = "SELECT * FROM notif_private.claim($1, $2)",
 *			.nargs = 2, .argtypes = {INT2OID, INT8OID}
 *		};
 *
 * The plan is made at the first run and again after the extension was
 * re-created.
 */
typedef struct NotifStmt
{
	const char *sql;
	int			nargs;
	Oid			argtypes[NOTIF_STMT_MAX_ARGS];
	bool		read_only;		/* runs with the transaction's snapshot; leave
								 * false for functions that write */
	/* private */
	SPIPlanPtr	plan;
	uint64		generation;
} NotifStmt;

/* Result of notif_spi_run, valid until the end of the transaction. */
typedef struct NotifRows
{
	SPITupleTable *table;		/* NULL: the statement returns no rows */
	uint64		count;			/* rows returned or affected */
} NotifRows;

/*
 * Opens a transaction with a fresh statement timestamp, reports activity
 * (label: a constant, never data), connects SPI and pushes a snapshot.
 * timeout_ms arms a statement timeout (the GUC does nothing in a background
 * worker); 0: none.
 */
extern void notif_spi_begin(const char *label, int timeout_ms);

/*
 * Commits what notif_spi_begin opened: durable waits for the WAL flush and
 * what synchronous_standby_names asks for, else the commit is asynchronous.
 * Reports statistics and goes idle.
 */
extern void notif_spi_commit(bool durable);

/* Rolls back what notif_spi_begin opened; for "nothing to do". */
extern void notif_spi_rollback(void);

/*
 * Whether the transaction that was opened last has committed: what an ERROR that
 * comes after it, from statistics say, must not undo in memory.
 */
extern bool notif_spi_committed(void);

/* True between notif_spi_begin and commit or rollback. */
extern bool notif_spi_active(void);

/*
 * Runs a kept statement; nulls is NULL or one char per argument, 'n' for null.
 * max_rows 0: all.  Raises on any failure.
 */
extern NotifRows notif_spi_run(NotifStmt *stmt, const Datum *args,
							   const char *nulls, long max_rows);

/*
 * Runs a statement that only reads, once, with the snapshot of the transaction;
 * connected to SPI.  No argument is NULL.  Raises on any failure.
 */
extern NotifRows notif_spi_run_once(const char *sql, int nargs, Oid *argtypes, Datum *args);

/* SPI for a function that a session calls; an ERROR in between disconnects. */
extern void notif_spi_connect(void);
extern void notif_spi_finish(void);

/*
 * Takes a new snapshot for the statements that follow in this transaction, as
 * READ COMMITTED sessions do between statements.
 */
extern void notif_spi_fresh_snapshot(void);

/* All kept plans are made anew at their next run. */
extern void notif_spi_forget_plans(void);

/*
 * Cells of a result by row (0-based) and column (1-based).  isnull may be
 * NULL where null counts as 0 / false.  Wrong types are the caller's error;
 * asserted in development builds by the column's type.
 */
extern bool notif_spi_bool(const NotifRows *rows, uint64 row, int col, bool *isnull);
extern int16 notif_spi_int16(const NotifRows *rows, uint64 row, int col, bool *isnull);
extern int32 notif_spi_int32(const NotifRows *rows, uint64 row, int col, bool *isnull);
extern int64 notif_spi_int64(const NotifRows *rows, uint64 row, int col, bool *isnull);
extern double notif_spi_double(const NotifRows *rows, uint64 row, int col, bool *isnull);
extern TimestampTz notif_spi_timestamptz(const NotifRows *rows, uint64 row, int col,
										 bool *isnull);

/* False for null; else copies the 16 bytes. */
extern bool notif_spi_uuid(const NotifRows *rows, uint64 row, int col, pg_uuid_t *uuid);

/*
 * text, varchar, name, json, jsonb (as text) or any type through its output
 * function: NUL-terminated, palloc'd in mcxt; NULL for null.
 */
extern char *notif_spi_text(const NotifRows *rows, uint64 row, int col, MemoryContext mcxt);

/*
 * bytea and text without their output function: palloc'd in mcxt with a NUL
 * added behind len bytes; NULL for null.
 */
extern char *notif_spi_bytes(const NotifRows *rows, uint64 row, int col,
							 MemoryContext mcxt, size_t *len);

/*
 * A text or bytea in place, without copying where it is stored plain; valid as
 * long as the rows.  NULL for null; not NUL-terminated.
 */
extern const char *notif_spi_peek(const NotifRows *rows, uint64 row, int col, size_t *len);

/* Any cell as Datum, valid as long as the rows. */
extern Datum notif_spi_datum(const NotifRows *rows, uint64 row, int col, bool *isnull);

/*
 * An array of 8-byte by-value elements (int8, timestamptz) without nulls,
 * palloc'd in mcxt; NULL and *n = 0 for null or empty.
 */
extern int64 *notif_spi_int64_array(const NotifRows *rows, uint64 row, int col,
									MemoryContext mcxt, int *n);

/* uuid[] likewise. */
extern pg_uuid_t *notif_spi_uuid_array(const NotifRows *rows, uint64 row, int col,
									   MemoryContext mcxt, int *n);

#endif							/* NOTIF_SPI_H */
