/*
 * type_cache.h
 *		What publish needs of a type, cached per backend until a definition
 *		changes.
 */
#ifndef NOTIF_TYPE_CACHE_H
#define NOTIF_TYPE_CACHE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/timestamp.h"

#include "provider/provider.h"

typedef struct NotifType
{
	char		name[128];		/* hash key */
	int32		id;
	int16		tier;
	bool		enabled;
	bool		pushes;			/* 'push' is among its channels */
	Interval	ttl;
	const NotifProviderOps *ops;	/* of its push message; NULL without one */
	NotifMessageTemplate *tmpl;
	List	   *names;			/* char *: placeholders read from the data */
	bool		personal;		/* reads the recipient: size not known at publish */
} NotifType;

/* Objects of the extension, looked up once per backend and definition. */
typedef struct NotifConfig
{
	Oid			event_relid;
	Oid			recipient_relid;
	Oid			owner;			/* of the tables: publish inserts as this role */
	int16		incarnation;
} NotifConfig;

/* Needs an SPI connection; raises if the extension is not there. */
extern const NotifConfig *notif_config_get(void);

/* NULL if there is no such type.  Needs an SPI connection, the owner's rights.
 * Valid until the next call of this module. */
extern NotifType *notif_type_get(const char *name);

#endif							/* NOTIF_TYPE_CACHE_H */
