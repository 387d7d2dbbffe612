/*
 * condition.h
 *		Conditions (send_if): checking them when they are written, asking them.
 *
 * A condition is one boolean SQL expression.  It sees one row, notification, of the
 * columns below.  It is checked and asked with the rights of the role that wrote it,
 * with search_path = pg_catalog, pg_temp, row security on, and nothing of the
 * session may be changed by it.
 */
#ifndef NOTIF_CONDITION_H
#define NOTIF_CONDITION_H

#include "postgres.h"

/* What a condition sees, in this order; condition.c has their names and types. */
#define NOTIF_CONDITION_COLUMNS 9

typedef struct NotifConditionRow
{
	Datum		values[NOTIF_CONDITION_COLUMNS];
	bool		nulls[NOTIF_CONDITION_COLUMNS];
	bool		holds;			/* set by notif_condition_ask */
} NotifConditionRow;

/*
 * Raises unless this is a condition that the role may ask: syntax, names and types,
 * rights, one row in and one boolean out.  Nothing is asked.  Within a function
 * call; connects to SPI by itself.  What has passed is remembered in this backend.
 */
extern void notif_condition_check(const char *expression, Oid role);

/*
 * Asks a condition about n rows (0: only whether it can be asked) in one statement;
 * NULL is false.  Connected to SPI, with a snapshot; raises whatever the expression
 * raises, user and settings are then put back by the abort of the (sub)transaction.
 * The caller sees to its being read-only and to its time.
 */
extern void notif_condition_ask(const char *expression, Oid role, NotifConditionRow **rows, int n);

#endif							/* NOTIF_CONDITION_H */
