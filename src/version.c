/*
 * version.c
 *		Of which release the loaded library is, and of which the objects in the
 *		database are.
 *
 * The library is loaded when the server starts, the objects are made by CREATE
 * EXTENSION and changed by ALTER EXTENSION … UPDATE, so for some time of every
 * upgrade the two are of different releases.  No worker runs meanwhile: upkeep
 * asks here before anything else.
 *
 * SQL-callable: notif_library_version() text.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "notif.h"
#include "version.h"

PG_FUNCTION_INFO_V1(notif_library_version);

Datum
notif_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(NOTIF_VERSION));
}

/* No cache knows of extensions. */
char *
notif_extension_version(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	char	   *version = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(NOTIF_EXTENSION));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(extensions), &isnull);

		if (!isnull)
			version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return version;
}
