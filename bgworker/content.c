/*
 * content.c
 *		Types and events as a provider renders them, kept between batches.
 *
 * A template is compiled once and forgotten when a definition changes.  An
 * event's data is parsed once for all of its deliveries; the cache of events is
 * emptied when it has grown past one of its caps and nothing of it is in use,
 * which is between two claims.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "../src/core/mem.h"
#include "../src/ids.h"
#include "dispatcher.h"

#define CONTENT_EVENTS_MAX	4096
#define CONTENT_BYTES_MAX	(32 * 1024 * 1024)	/* of JSON text */

struct Content
{
	HTAB	   *events;
	HTAB	   *types;
	MemoryContext context;
	size_t		bytes;			/* of JSON text that events were parsed from */
};

static HTAB *
content_table(struct Content *content, const char *name, Size key, Size entry)
{
	HASHCTL		ctl = {0};

	ctl.keysize = key;
	ctl.entrysize = entry;
	ctl.hcxt = content->context;
	return hash_create(name, 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

struct Content *
content_new(Dispatcher *d)
{
	struct Content *content = MemoryContextAllocZero(d->worker->life, sizeof(struct Content));

	content->context = AllocSetContextCreate(d->worker->life, "notif content", ALLOCSET_DEFAULT_SIZES);
	content->events = content_table(content, "notif events", sizeof(pg_uuid_t), sizeof(EventContent));
	content->types = content_table(content, "notif types", sizeof(int32), sizeof(TypeContent));
	return content;
}

void
content_forget_types(struct Content *content)
{
	HASH_SEQ_STATUS scan;
	TypeContent *type;

	hash_seq_init(&scan, content->types);
	while ((type = hash_seq_search(&scan)) != NULL)
	{
		if (type->tmpl != NULL)
			type->ops->template_free(type->tmpl);
		if (type->digest_tmpl != NULL)
			type->ops->template_free(type->digest_tmpl);
		hash_search(content->types, &type->id, HASH_REMOVE, NULL);
	}
}

static void
content_forget_events(struct Content *content)
{
	HASH_SEQ_STATUS scan;
	EventContent *event;

	hash_seq_init(&scan, content->events);
	while ((event = hash_seq_search(&scan)) != NULL)
	{
		notif_data_free(event->data);
		notif_free(event->collapse_key);
		hash_search(content->events, &event->id, HASH_REMOVE, NULL);
	}
	content->bytes = 0;
}

EventContent *
content_event(struct Content *content, const pg_uuid_t *id)
{
	EventContent *event = hash_search(content->events, id, HASH_FIND, NULL);

	return event != NULL && event->loaded ? event : NULL;
}

TypeContent *
content_type(struct Content *content, int32 id)
{
	return hash_search(content->types, &id, HASH_FIND, NULL);
}

/* Memory that is short for a moment must not fail a message for good. */
static void
content_out_of_memory(void)
{
	ereport(ERROR,
			errcode(ERRCODE_OUT_OF_MEMORY),
			errmsg("out of memory"),
			errdetail("Failed while reading what is to be sent."));
}

static void
load_events(struct Content *content, const pg_uuid_t *ids, int n)
{
	static NotifStmt read = {
		.sql = "SELECT * FROM notif_private.worker_events($1)",
		.nargs = 1,.argtypes = {UUIDARRAYOID}
	};
	Datum	   *missing = palloc(sizeof(Datum) * n);
	int			n_missing = 0;
	Datum		arg;
	NotifRows	rows;

	/* ids may repeat: an entry is made at the first sight of one */
	for (int i = 0; i < n; i++)
	{
		bool		found;
		EventContent *event = hash_search(content->events, &ids[i], HASH_ENTER, &found);

		if (found)
			continue;
		memset((char *) event + sizeof(pg_uuid_t), 0, sizeof(EventContent) - sizeof(pg_uuid_t));
		notif_uuid_text(&event->id, event->text);
		missing[n_missing++] = UUIDPGetDatum(&ids[i]);
	}
	if (n_missing == 0)
		return;
	arg = PointerGetDatum(construct_array(missing, n_missing, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	rows = notif_spi_run(&read, &arg, NULL, 0);
	for (uint64 i = 0; i < rows.count; i++)
	{
		pg_uuid_t	id;
		EventContent *event;
		char	   *text;

		notif_spi_uuid(&rows, i, 1, &id);
		event = hash_search(content->events, &id, HASH_FIND, NULL);
		if (event == NULL || event->loaded)
			continue;
		text = notif_spi_text(&rows, i, 2, CurrentMemoryContext);
		/* unparsable reads as {}: rendering then names what is missing */
		if (notif_data_parse(text, strlen(text), &event->data) == NOTIF_ENOMEM)
			content_out_of_memory();
		content->bytes += strlen(text);
		pfree(text);
		text = notif_spi_text(&rows, i, 3, CurrentMemoryContext);
		if (text != NULL && (event->collapse_key = notif_strdup(text)) == NULL)
			content_out_of_memory();
		event->loaded = true;
		event->time_s = notif_timestamp_to_unix_ms(notif_spi_timestamptz(&rows, i, 4, NULL)) / 1000;
		event->digest = notif_spi_bool(&rows, i, 5, NULL);
	}
}

/*
 * Compiles title, body and options, which are at col of row 0 and after it; NULL if
 * they do not, or if there are none.
 */
static NotifMessageTemplate *
load_template(const NotifProviderOps *ops, const NotifRows *rows, int col)
{
	NotifMessageTemplate *tmpl = NULL;
	char	   *title = notif_spi_text(rows, 0, col, CurrentMemoryContext);
	NotifStatus status;

	if (title == NULL)
		return NULL;
	status = ops->template_new(title, notif_spi_text(rows, 0, col + 1, CurrentMemoryContext),
							   notif_spi_text(rows, 0, col + 2, CurrentMemoryContext), &tmpl, NULL, 0);
	if (status == NOTIF_ENOMEM)
		content_out_of_memory();
	return status == NOTIF_OK ? tmpl : NULL;
}

static void
load_type(struct Content *content, const NotifProviderOps *ops, int32 id)
{
	static NotifStmt read = {
		.sql = "SELECT * FROM notif_private.worker_type($1)",
		.nargs = 1,.argtypes = {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);
	NotifRows	rows;
	TypeContent fresh = {.id = id,.ops = ops};
	TypeContent *type;
	char	   *name;

	rows = notif_spi_run(&read, &arg, NULL, 1);
	name = notif_spi_text(&rows, 0, 1, CurrentMemoryContext);
	if (name == NULL)
		strlcpy(fresh.error, "type_unknown", sizeof(fresh.error));
	else
	{
		strlcpy(fresh.name, name, sizeof(fresh.name));
		fresh.hold = notif_spi_bool(&rows, 0, 5, NULL);
		fresh.ordered = notif_spi_bool(&rows, 0, 6, NULL);
		fresh.tmpl = load_template(ops, &rows, 2);
		if (fresh.tmpl == NULL)
			strlcpy(fresh.error, "template_invalid", sizeof(fresh.error));
		fresh.digest_tmpl = load_template(ops, &rows, 7);
	}
	type = hash_search(content->types, &id, HASH_ENTER, NULL);
	*type = fresh;
}

void
content_load(struct Content *content, const NotifProviderOps *ops,
			 const pg_uuid_t *events, int n_events, const int32 *types, int n_types)
{
	if (hash_get_num_entries(content->events) > CONTENT_EVENTS_MAX || content->bytes > CONTENT_BYTES_MAX)
		content_forget_events(content);
	PG_TRY();
	{
		load_events(content, events, n_events);
	}
	PG_CATCH();
	{
		/* entries without data must not be found by the next batch */
		content_forget_events(content);
		PG_RE_THROW();
	}
	PG_END_TRY();
	for (int i = 0; i < n_types; i++)
	{
		if (content_type(content, types[i]) == NULL)
			load_type(content, ops, types[i]);
	}
}
