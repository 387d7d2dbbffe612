/*
 * event_id.h
 *		Minting the ids of events so that a publish always finds a partition.
 */
#ifndef NOTIF_EVENT_ID_H
#define NOTIF_EVENT_ID_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * A new UUIDv7 whose time is now, clamped into the partitions that the event
 * table has, and never before an earlier one of this process.  Makes partitions
 * if there are none at all.  Returns the partition that the id lies in, and
 * holds the lock of an INSERT on the parent: so it stays that partition until
 * the end of the transaction.  Needs an SPI connection and the rights of the
 * table's owner.
 */
extern Oid	notif_event_id_mint(Oid event_relid, pg_uuid_t *id);

#endif							/* NOTIF_EVENT_ID_H */
