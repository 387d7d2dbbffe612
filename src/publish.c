/*
 * publish.c
 *		notif.publish: one event, in the caller's own transaction.
 *
 * Runs with the rights of the tables' owner, set for the inserts only, and
 * checks here, where the caller can still be told, all that can be known before
 * the router runs: type, audience, data, placeholders, size.  What a publish
 * may cost the caller's transaction is one look-up and one insert; types are
 * cached (type_cache.c).
 *
 * Nothing here depends on workers or shared memory: without them events wait.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "condition.h"
#include "delivery_time.h"
#include "event_id.h"
#include "ids.h"
#include "publish_rows.h"
#include "spi.h"
#include "type_cache.h"
#include "wake.h"

/* A code for many is not a code: the critical tier takes small audiences only. */
#define CRITICAL_AUDIENCE_MAX 500

#define KEY_MAX_BYTES 255

PG_FUNCTION_INFO_V1(notif_publish);
PG_FUNCTION_INFO_V1(notif_new_event_id);
PG_FUNCTION_INFO_V1(notif_new_child_id);
PG_FUNCTION_INFO_V1(notif_wake_sql);
PG_FUNCTION_INFO_V1(notif_current_incarnation);

/* Arguments by position; sql/70-publish.sql declares them in this order. */
enum
{
	ARG_TYPE, ARG_RECIPIENT, ARG_DATA, ARG_RECIPIENTS, ARG_TOPIC, ARG_IDEMPOTENCY_KEY,
	ARG_CORRELATION_ID, ARG_COLLAPSE_KEY, ARG_SOURCE, ARG_THREAD, ARG_CHANNELS, ARG_EXPIRES_IN, ARG_CAMPAIGN,
	ARG_SEND_IF,
	ARG_DELIVER_AT, ARG_DELIVER_AT_LOCAL, ARG_SPREAD
};

typedef struct PublishCall
{
	NotifType  *type;
	int32		topic;			/* 0: none */
	int32		campaign;		/* 0: none */
	Datum		recipients;		/* bigint[]; 0: none */
	int			audience;		/* recipients listed */
	Jsonb	   *data;
	TimestampTz now;
	NotifDeliveryTime when;
	Interval   *ttl;
	TimestampTz expires_at;		/* as far as can be said now */
} PublishCall;

static char *
text_arg(FunctionCallInfo fcinfo, int n, const char *what)
{
	char	   *value;

	if (PG_ARGISNULL(n))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (strlen(value) > KEY_MAX_BYTES)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("%s is too long", what),
				errdetail("It has %zu bytes.", strlen(value)),
				errhint("At most %d bytes are kept.", KEY_MAX_BYTES));
	if (value[0] == '\0')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must not be empty", what),
				errhint("Leave it out instead."));
	return value;
}

static void
find_recipient(FunctionCallInfo fcinfo, const NotifConfig *config, PublishCall *pub)
{
	Datum		ref = PG_GETARG_DATUM(ARG_RECIPIENT);
	int64		id;
	Datum		element;

	if (!notif_recipient_find(config->recipient_relid, ref, &id))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("recipient \"%s\" does not exist", TextDatumGetCString(ref)),
				errhint("Create it with notif.upsert_recipient() first."));
	element = Int64GetDatum(id);
	pub->recipients = PointerGetDatum(construct_array(&element, 1, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	pub->audience = 1;
}

static void
find_recipients(FunctionCallInfo fcinfo, PublishCall *pub)
{
	static NotifStmt lookup = {
		.sql = "SELECT pg_catalog.array_agg(DISTINCT r.id ORDER BY r.id) FILTER (WHERE r.id IS NOT NULL), "
		"pg_catalog.min(u.ref) FILTER (WHERE r.id IS NULL), "
		"pg_catalog.count(*) FILTER (WHERE r.id IS NULL) "
		"FROM pg_catalog.unnest($1) u(ref) "
		"LEFT JOIN notif_private.recipient r ON r.ref OPERATOR(pg_catalog.=) u.ref",
		.nargs = 1,.argtypes = {TEXTARRAYOID}
	};
	Datum		refs = PG_GETARG_DATUM(ARG_RECIPIENTS);
	NotifRows	rows = notif_spi_run(&lookup, &refs, NULL, 1);
	int64		missing = notif_spi_int64(&rows, 0, 3, NULL);
	bool		isnull;

	if (missing > 0)
	{
		char	   *first = notif_spi_text(&rows, 0, 2, CurrentMemoryContext);

		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				first != NULL
				? errmsg("recipient \"%s\" does not exist", first)
				: errmsg("recipients must not contain null"),
				errdetail_plural("%lld of the recipients is unknown.", "%lld of the recipients are unknown.",
								 missing, (long long) missing),
				errhint("Create them with notif.upsert_recipient() first."));
	}
	pub->recipients = notif_spi_datum(&rows, 0, 1, &isnull);
	if (isnull)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("recipients must not be empty"),
				errhint("Skip the publish when there is nobody to tell."));
	pub->recipients = PointerGetDatum(DatumGetArrayTypePCopy(pub->recipients));
	pub->audience = ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(pub->recipients)),
								   ARR_DIMS(DatumGetArrayTypeP(pub->recipients)));
}

static void
find_topic(FunctionCallInfo fcinfo, PublishCall *pub)
{
	static NotifStmt lookup = {
		.sql = "SELECT t.id FROM notif_private.topic t WHERE t.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name = PG_GETARG_DATUM(ARG_TOPIC);
	NotifRows	rows = notif_spi_run(&lookup, &name, NULL, 1);

	if (rows.count == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("topic \"%s\" does not exist", TextDatumGetCString(name)),
				errhint("It is created by the first notif.subscribe(), or by notif.create_topic()."));
	pub->topic = notif_spi_int32(&rows, 0, 1, NULL);
}

static void
find_audience(FunctionCallInfo fcinfo, const NotifConfig *config, PublishCall *pub)
{
	int			given = !PG_ARGISNULL(ARG_RECIPIENT) + !PG_ARGISNULL(ARG_RECIPIENTS) + !PG_ARGISNULL(ARG_TOPIC);

	if (given != 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				given == 0 ? errmsg("publish needs an audience") : errmsg("publish takes one audience, not %d", given),
				errhint("Give exactly one of recipient, recipients and topic."));
	if (!PG_ARGISNULL(ARG_RECIPIENT))
		find_recipient(fcinfo, config, pub);
	else if (!PG_ARGISNULL(ARG_RECIPIENTS))
		find_recipients(fcinfo, pub);
	else
		find_topic(fcinfo, pub);

	if (pub->type->tier == NOTIF_TIER_CRITICAL && (pub->topic != 0 || pub->audience > CRITICAL_AUDIENCE_MAX))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("type \"%s\" is critical and takes no large audience", pub->type->name),
				errdetail("At most %d recipients, and no topic.", CRITICAL_AUDIENCE_MAX),
				errhint("Publish to many through a type of tier bulk: it cannot delay one-time codes."));
}

/* The id of the campaign of that name, which the first publish for it creates; 0: none. */
static int32
find_campaign(FunctionCallInfo fcinfo)
{
	static NotifStmt lookup = {
		.sql = "SELECT c.id FROM notif_private.campaign c WHERE c.name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,.argtypes = {TEXTOID}
	};
	static NotifStmt create = {
		.sql = "INSERT INTO notif_private.campaign (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id",
		.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name;
	NotifRows	rows;

	if (PG_ARGISNULL(ARG_CAMPAIGN))
		return 0;
	name = PG_GETARG_DATUM(ARG_CAMPAIGN);
	rows = notif_spi_run(&lookup, &name, NULL, 1);
	if (rows.count == 0)
		rows = notif_spi_run(&create, &name, NULL, 0);
	/* somebody else has created it meanwhile */
	if (rows.count == 0)
		rows = notif_spi_run(&lookup, &name, NULL, 1);
	if (rows.count == 0)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not read campaign \"%s\" due to concurrent publish", TextDatumGetCString(name)),
				errhint("Retry the transaction."));
	return notif_spi_int32(&rows, 0, 1, NULL);
}

/* True if the data has a value, not null, at a dotted path. */
static bool
data_has(Jsonb *data, const char *path)
{
	JsonbContainer *at = &data->root;
	JsonbValue	found;

	for (;;)
	{
		const char *dot = strchr(path, '.');
		int			len = dot != NULL ? (int) (dot - path) : (int) strlen(path);

		if (JsonContainerIsArray(at) && !JsonContainerIsScalar(at))
		{
			JsonbValue *element;

			/* as templates read it (message/template_render.c) */
			if (len == 0 || len > 6 || (len > 1 && path[0] == '0') || (int) strspn(path, "0123456789") < len)
				return false;
			element = getIthJsonbValueFromContainer(at, (uint32) strtoul(path, NULL, 10));
			if (element == NULL)
				return false;
			found = *element;
		}
		else if (!JsonContainerIsObject(at) || getKeyJsonValueFromContainer(at, path, len, &found) == NULL)
			return false;
		if (dot == NULL)
			return found.type != jbvNull;
		if (found.type != jbvBinary)
			return false;
		at = found.val.binary.data;
		path = dot + 1;
	}
}

/* Whether text may be nested deeper than a message can read: counts, does not parse. */
static bool
json_is_deep(const char *json)
{
	int			opened = 0;

	for (; *json != '\0'; json++)
		opened += *json == '{' || *json == '[';
	return opened > 32;
}

/*
 * Refuses what can be seen not to fit: renders once, unless a bound from above
 * says that it fits, or the text depends on who reads it.
 */
static void
check_size(const PublishCall *pub, const char *event_id)
{
	NotifType  *type = pub->type;
	size_t		limit = type->ops->payload_limit(type->tmpl);
	char	   *json;
	NotifData  *data;
	NotifBuf	payload;
	NotifVars	vars = {0};
	NotifStatus status;
	char		error[256] = "";

	json = JsonbToCString(NULL, &pub->data->root, VARSIZE(pub->data));
	if (!type->personal && !json_is_deep(json) &&
		type->ops->payload_bound(type->tmpl, strlen(json), 0, sizeof(type->name)) <= limit)
		return;
	status = notif_data_parse(json, strlen(json), &data);
	if (status != NOTIF_OK)
		ereport(ERROR,
				errcode(status == NOTIF_ENOMEM ? ERRCODE_OUT_OF_MEMORY : ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("data cannot be used in a message"),
				errhint("Is it nested too deeply, or longer than 1 MB?"));
	/* A message that reads its recipient is checked when it is rendered. */
	if (type->personal)
	{
		notif_data_free(data);
		return;
	}
	notif_buf_init(&payload, 1024 * 1024);
	vars.data = data;
	vars.event_id = event_id;
	vars.type_name = type->name;
	vars.event_time_s = notif_timestamp_to_unix_ms(pub->now) / 1000;
	status = type->ops->render(type->tmpl, &vars, &payload, error, sizeof(error));
	notif_buf_free(&payload);
	notif_data_free(data);
	if (status == NOTIF_OK)
		return;
	if (status == NOTIF_ETOOBIG)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the message of type \"%s\" is too large", type->name),
				errdetail("%s", error),
				errhint("The provider takes at most %zu bytes: send less data, or let the app fetch it.", limit));
	ereport(ERROR,
			errcode(status == NOTIF_ENOMEM ? ERRCODE_OUT_OF_MEMORY : ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("the message of type \"%s\" cannot be rendered", type->name),
			errdetail("%s", error));
}

static void
check_data(PublishCall *pub)
{
	ListCell   *lc;

	if (!JB_ROOT_IS_OBJECT(pub->data))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("data must be a JSON object"),
				errhint("For example '{\"order\": 17}'."));
	foreach(lc, pub->type->names)
	{
		const char *name = lfirst(lc);

		if (!data_has(pub->data, name))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("data lacks a value for placeholder {%s}", name),
					errdetail("The message of type \"%s\" uses it.", pub->type->name),
					errhint("Add \"%s\" to data, or define the type without it.", name));
	}
}

static void
check_channels(FunctionCallInfo fcinfo, const PublishCall *pub)
{
	static NotifStmt unknown = {
		.sql = "SELECT pg_catalog.min(c) FROM pg_catalog.unnest($1) c WHERE c OPERATOR(pg_catalog.<>) ALL "
		"(SELECT u FROM notif_private.type t, pg_catalog.unnest(t.channels) u WHERE t.id OPERATOR(pg_catalog.=) $2)",
		.nargs = 2,.argtypes = {TEXTARRAYOID, INT4OID}
	};
	Datum		args[2];
	NotifRows	rows;
	char	   *first;

	if (PG_ARGISNULL(ARG_CHANNELS))
		return;
	args[0] = PG_GETARG_DATUM(ARG_CHANNELS);
	args[1] = Int32GetDatum(pub->type->id);
	rows = notif_spi_run(&unknown, args, NULL, 1);
	first = notif_spi_text(&rows, 0, 1, CurrentMemoryContext);
	if (first != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("type \"%s\" has no channel \"%s\"", pub->type->name, first),
				errhint("channels can only narrow what the type allows."));
	if (array_contains_nulls(DatumGetArrayTypeP(args[0])))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("channels must not contain null"),
				errhint("channels can only narrow what the type allows."));
	if (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(args[0])), ARR_DIMS(DatumGetArrayTypeP(args[0]))) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("channels must not be empty"),
				errhint("Leave it out to use those of the type."));
}

static void
check_expiry(FunctionCallInfo fcinfo, PublishCall *pub)
{
	TimestampTz from = pub->when.at;

	pub->ttl = PG_ARGISNULL(ARG_EXPIRES_IN) ? &pub->type->ttl : PG_GETARG_INTERVAL_P(ARG_EXPIRES_IN);
	pub->expires_at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(from),
															  IntervalPGetDatum(pub->ttl)));
	if (pub->expires_at <= from || pub->expires_at > from + 28 * USECS_PER_DAY)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("expires_in is out of range"),
				errhint("More than 0 and at most 28 days."));
}

static void
check_delivery_time(FunctionCallInfo fcinfo, PublishCall *pub)
{
	TimestampTz at = PG_ARGISNULL(ARG_DELIVER_AT) ? 0 : PG_GETARG_TIMESTAMPTZ(ARG_DELIVER_AT);
	Timestamp	local = PG_ARGISNULL(ARG_DELIVER_AT_LOCAL) ? 0 : PG_GETARG_TIMESTAMP(ARG_DELIVER_AT_LOCAL);

	pub->when = notif_delivery_time_check(PG_ARGISNULL(ARG_DELIVER_AT) ? NULL : &at,
										  PG_ARGISNULL(ARG_DELIVER_AT_LOCAL) ? NULL : &local,
										  PG_ARGISNULL(ARG_SPREAD) ? NULL : PG_GETARG_INTERVAL_P(ARG_SPREAD), pub->now);
}

/*
 * What makes two publishes under one idempotency key the same.  Not their times: who
 * asks again asks a little later.
 */
static Datum
body_hash(FunctionCallInfo fcinfo, const PublishCall *pub)
{
	StringInfoData s;
	bytea	   *hash = palloc(VARHDRSZ + 16);
	uint64		half;

	initStringInfo(&s);
	appendStringInfo(&s, "%d %d %d %d\n", pub->type->id, pub->topic, pub->audience, pub->campaign);
	if (pub->audience > 0)
		appendBinaryStringInfo(&s, (char *) ARR_DATA_PTR(DatumGetArrayTypeP(pub->recipients)), pub->audience * 8);
	appendBinaryStringInfo(&s, (char *) &pub->data->root, VARSIZE(pub->data) - VARHDRSZ);
	if (!PG_ARGISNULL(ARG_SEND_IF))
		appendBinaryStringInfo(&s, VARDATA_ANY(PG_GETARG_TEXT_PP(ARG_SEND_IF)), VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(ARG_SEND_IF)));
	for (int i = 0; i < 2; i++)
	{
		half = hash_bytes_extended((unsigned char *) s.data, s.len, (uint64) i);
		memcpy(VARDATA(hash) + 8 * i, &half, 8);
	}
	SET_VARSIZE(hash, VARHDRSZ + 16);
	return PointerGetDatum(hash);
}

/*
 * Takes the key for this event.  True: *id holds the event of an earlier
 * publish under the same key, and nothing must be inserted.
 */
static bool
claim_key(FunctionCallInfo fcinfo, const PublishCall *pub, Datum key, pg_uuid_t *id)
{
	static NotifStmt take = {
		.sql = "INSERT INTO notif_private.idempotency AS i (key, event, body_hash, expires_at) "
		"VALUES ($1, $2, $3, $4 OPERATOR(pg_catalog.+) '24 hours'::pg_catalog.interval) ON CONFLICT (key) DO UPDATE "
		"SET event = excluded.event, body_hash = excluded.body_hash, expires_at = excluded.expires_at "
		"WHERE i.expires_at OPERATOR(pg_catalog.<=) $4 RETURNING 1",
		.nargs = 4,.argtypes = {TEXTOID, UUIDOID, BYTEAOID, TIMESTAMPTZOID}
	};
	static NotifStmt read = {
		.sql = "SELECT i.event, i.body_hash OPERATOR(pg_catalog.=) $2 FROM notif_private.idempotency i "
		"WHERE i.key OPERATOR(pg_catalog.=) $1",
		.nargs = 2,.argtypes = {TEXTOID, BYTEAOID}
	};
	Datum		args[4];
	NotifRows	rows;

	args[0] = key;
	args[1] = UUIDPGetDatum(id);
	args[2] = body_hash(fcinfo, pub);
	args[3] = TimestampTzGetDatum(pub->now);
	rows = notif_spi_run(&take, args, NULL, 0);
	if (rows.count > 0)
		return false;
	args[1] = args[2];
	rows = notif_spi_run(&read, args, NULL, 1);

	/* Not visible to a snapshot of REPEATABLE READ, though it conflicts. */
	if (rows.count == 0)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not read idempotency key due to concurrent publish"),
				errhint("Retry the transaction."));
	if (!notif_spi_bool(&rows, 0, 2, NULL))
		ereport(ERROR,
				errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("idempotency key \"%s\" was used for another publish", TextDatumGetCString(key)),
				errdetail("Type, audience or data differ."),
				errhint("Use a key that is derived from what is published."));
	notif_spi_uuid(&rows, 0, 1, id);
	return true;
}

static void
insert_event(FunctionCallInfo fcinfo, const PublishCall *pub, const NotifConfig *config, Oid caller,
			 Oid partition, pg_uuid_t *id)
{
	static const struct
	{
		int			arg;
		NotifEventColumn column;
	}			given[] = {
		{ARG_CORRELATION_ID, NOTIF_EVENT_CORRELATION},
		{ARG_COLLAPSE_KEY, NOTIF_EVENT_COLLAPSE},
		{ARG_SOURCE, NOTIF_EVENT_SOURCE},
		{ARG_THREAD, NOTIF_EVENT_THREAD},
		{ARG_CHANNELS, NOTIF_EVENT_CHANNELS},
		{ARG_SEND_IF, NOTIF_EVENT_SEND_IF}
	};
	Datum		values[NOTIF_EVENT_COLUMNS];
	bool		nulls[NOTIF_EVENT_COLUMNS] = {false};
	NameData	by;

	namestrcpy(&by, GetUserNameFromId(caller, false));
	values[NOTIF_EVENT_ID] = UUIDPGetDatum(id);
	values[NOTIF_EVENT_TIER] = Int16GetDatum(pub->type->tier);
	values[NOTIF_EVENT_INCARNATION] = Int16GetDatum(config->incarnation);
	values[NOTIF_EVENT_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[NOTIF_EVENT_KIND] = Int16GetDatum(pub->when.later ? 2 : 0);
	values[NOTIF_EVENT_TYPE] = Int32GetDatum(pub->type->id);
	values[NOTIF_EVENT_TOPIC] = Int32GetDatum(pub->topic);
	nulls[NOTIF_EVENT_TOPIC] = pub->topic == 0;
	values[NOTIF_EVENT_RECIPIENTS] = pub->recipients;
	nulls[NOTIF_EVENT_RECIPIENTS] = pub->audience == 0;
	values[NOTIF_EVENT_DATA] = PointerGetDatum(pub->data);
	for (size_t i = 0; i < lengthof(given); i++)
	{
		values[given[i].column] = PG_GETARG_DATUM(given[i].arg);
		nulls[given[i].column] = PG_ARGISNULL(given[i].arg);
	}
	values[NOTIF_EVENT_EXPIRES] = TimestampTzGetDatum(pub->expires_at);
	values[NOTIF_EVENT_BY] = NameGetDatum(&by);
	values[NOTIF_EVENT_CREATED] = TimestampTzGetDatum(pub->now);
	values[NOTIF_EVENT_CAMPAIGN] = Int32GetDatum(pub->campaign);
	nulls[NOTIF_EVENT_CAMPAIGN] = pub->campaign == 0;
	nulls[NOTIF_EVENT_PARENT] = true;
	nulls[NOTIF_EVENT_DIGEST] = true;
	values[NOTIF_EVENT_DELIVER_AT] = TimestampTzGetDatum(pub->when.at);
	nulls[NOTIF_EVENT_DELIVER_AT] = pub->when.local || (!pub->when.later && pub->when.spread == NULL);
	values[NOTIF_EVENT_DELIVER_AT_LOCAL] = TimestampGetDatum(pub->when.local_at);
	nulls[NOTIF_EVENT_DELIVER_AT_LOCAL] = !pub->when.local;
	values[NOTIF_EVENT_SPREAD] = IntervalPGetDatum(pub->when.spread);
	nulls[NOTIF_EVENT_SPREAD] = pub->when.spread == NULL;
	values[NOTIF_EVENT_EXPIRES_IN] = IntervalPGetDatum(pub->ttl);
	nulls[NOTIF_EVENT_EXPIRES_IN] = !pub->when.later;
	nulls[NOTIF_EVENT_ZONES] = true;
	nulls[NOTIF_EVENT_ZONES_AS_OF] = true;
	notif_event_insert(partition, values, nulls);
}

Datum
notif_publish(PG_FUNCTION_ARGS)
{
	PublishCall pub = {0};
	const NotifConfig *config;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	char	   *type_name;
	Oid			partition;
	Oid			caller;
	int			sec_context;

	if (PG_ARGISNULL(ARG_TYPE))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("publish needs a type"));
	/* what an INSERT would say by itself */
	PreventCommandIfReadOnly("notif.publish()");
	PreventCommandIfParallelMode("notif.publish()");
	type_name = text_to_cstring(PG_GETARG_TEXT_PP(ARG_TYPE));
	text_arg(fcinfo, ARG_CORRELATION_ID, "correlation_id");
	text_arg(fcinfo, ARG_SOURCE, "source");
	text_arg(fcinfo, ARG_THREAD, "thread");
	text_arg(fcinfo, ARG_IDEMPOTENCY_KEY, "idempotency_key");
	text_arg(fcinfo, ARG_CAMPAIGN, "campaign");
	if (text_arg(fcinfo, ARG_COLLAPSE_KEY, "collapse_key") != NULL &&
		VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(ARG_COLLAPSE_KEY)) > 64)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("collapse_key is too long"),
				errhint("Providers take at most 64 bytes."));
	pub.now = notif_now();

	/*
	 * The owner's rights for what follows; restored by the end of the
	 * transaction's (sub)abort if anything below raises.
	 */
	SPI_connect();
	config = notif_config_get();
	GetUserIdAndSecContext(&caller, &sec_context);
	if (!PG_ARGISNULL(ARG_SEND_IF))
		notif_condition_check(text_to_cstring(PG_GETARG_TEXT_PP(ARG_SEND_IF)), caller);
	SetUserIdAndSecContext(config->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);

	pub.type = notif_type_get(type_name);
	if (pub.type == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("notification type \"%s\" does not exist", type_name),
				errhint("Define it with notif.define_type(); SELECT name FROM notif.types shows what there is."));
	if (!pub.type->enabled)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("notification type \"%s\" is disabled", type_name),
				errhint("Enable it with notif.enable_type()."));
	pub.data = PG_ARGISNULL(ARG_DATA)
		? DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")))
		: PG_GETARG_JSONB_P(ARG_DATA);
	find_audience(fcinfo, config, &pub);
	pub.campaign = find_campaign(fcinfo);
	check_data(&pub);
	check_channels(fcinfo, &pub);
	check_delivery_time(fcinfo, &pub);
	check_expiry(fcinfo, &pub);
	partition = notif_event_id_mint(config->event_relid, id);
	if (pub.type->pushes)
		check_size(&pub, "00000000-0000-7000-8000-000000000000");
	if (PG_ARGISNULL(ARG_IDEMPOTENCY_KEY) ||
		!claim_key(fcinfo, &pub, PG_GETARG_DATUM(ARG_IDEMPOTENCY_KEY), id))
	{
		insert_event(fcinfo, &pub, config, caller, partition, id);
		notif_wake_at_commit(pub.type->tier);
	}
	SetUserIdAndSecContext(caller, sec_context);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

Datum
notif_new_event_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	/* before a lock is asked for that a standby does not give */
	PreventCommandIfReadOnly("a command of notif");
	SPI_connect();
	notif_event_id_mint(notif_config_get()->event_relid, id);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/* The last bytes of an event's id are those of the one it is released for. */
Datum
notif_new_child_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = DatumGetUUIDP(notif_new_event_id(fcinfo));

	memcpy(id->data + 8, PG_GETARG_UUID_P(0)->data + 8, 8);
	PG_RETURN_UUID_P(id);
}

Datum
notif_wake_sql(PG_FUNCTION_ARGS)
{
	int16		tier = PG_GETARG_INT16(0);

	if (tier < 0 || tier >= NOTIF_TIERS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("tier %d does not exist", tier));
	notif_wake_for_change(tier);
	PG_RETURN_VOID();
}

/* Several times in every step of a worker: a statement each would be felt. */
Datum
notif_current_incarnation(PG_FUNCTION_ARGS)
{
	int16		incarnation;

	SPI_connect();
	incarnation = notif_config_get()->incarnation;
	SPI_finish();
	PG_RETURN_INT16(incarnation);
}
