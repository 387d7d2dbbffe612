/*
 * publish_rows.h
 *		The two row accesses of an ordinary publish, without SQL.
 */
#ifndef NOTIF_PUBLISH_ROWS_H
#define NOTIF_PUBLISH_ROWS_H

#include "postgres.h"

#include "utils/uuid.h"

/* Columns of notif_private.event in their order, sql/30-ledger.sql. */
typedef enum NotifEventColumn
{
	NOTIF_EVENT_ID, NOTIF_EVENT_TIER, NOTIF_EVENT_INCARNATION, NOTIF_EVENT_XID, NOTIF_EVENT_KIND,
	NOTIF_EVENT_TYPE, NOTIF_EVENT_TOPIC, NOTIF_EVENT_RECIPIENTS, NOTIF_EVENT_DATA, NOTIF_EVENT_CORRELATION,
	NOTIF_EVENT_COLLAPSE, NOTIF_EVENT_SOURCE, NOTIF_EVENT_THREAD, NOTIF_EVENT_CHANNELS, NOTIF_EVENT_EXPIRES,
	NOTIF_EVENT_BY, NOTIF_EVENT_CREATED, NOTIF_EVENT_CAMPAIGN, NOTIF_EVENT_PARENT,
	NOTIF_EVENT_DIGEST, NOTIF_EVENT_SEND_IF,
	NOTIF_EVENT_DELIVER_AT, NOTIF_EVENT_DELIVER_AT_LOCAL, NOTIF_EVENT_SPREAD, NOTIF_EVENT_EXPIRES_IN,
	NOTIF_EVENT_ZONES, NOTIF_EVENT_ZONES_AS_OF,
	NOTIF_EVENT_COLUMNS
} NotifEventColumn;

/*
 * The id of the recipient with this ref (a text datum); false if there is
 * none.  Sees what the current transaction has done so far.
 */
extern bool notif_recipient_find(Oid table, Datum ref, int64 *id);

/*
 * Inserts one event into its partition.  id lies in that partition
 * (notif_event_id_mint).  Neither rights nor rules nor triggers are looked at:
 * the caller has decided.
 */
extern void notif_event_insert(Oid partition, const Datum *values, const bool *nulls);

#endif							/* NOTIF_PUBLISH_ROWS_H */
