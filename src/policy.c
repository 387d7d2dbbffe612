/*
 * policy.c
 *		SQL-callable faces of the modules below PostgreSQL: checks of types,
 *		providers and addresses, rendering of text.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "ids.h"
#include "message/template.h"
#include "provider/apns.h"
#include "provider/provider.h"

PG_FUNCTION_INFO_V1(notif_check_type);
PG_FUNCTION_INFO_V1(notif_check_provider);
PG_FUNCTION_INFO_V1(notif_token_valid);
PG_FUNCTION_INFO_V1(notif_render_text);
PG_FUNCTION_INFO_V1(notif_message_fits);

static const NotifProviderOps *
provider_ops(const char *kind)
{
	const NotifProviderOps *ops = notif_provider_find(kind);

	if (ops == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no kind of provider \"%s\"", kind),
				errhint("Known kinds: apns."));
	return ops;
}

static void
refuse(NotifStatus status, const char *message, const char *detail, const char *hint)
{
	ereport(ERROR,
			errcode(status == NOTIF_ENOMEM ? ERRCODE_OUT_OF_MEMORY : ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("%s", message),
			errdetail("%s", detail),
			errhint("%s", hint));
}

static char *
jsonb_text(Jsonb *value)
{
	return JsonbToCString(NULL, &value->root, VARSIZE(value));
}

static void
collect_name(void *ud, const char *name)
{
	ArrayBuildState **names = ud;

	*names = accumArrayResult(*names, CStringGetTextDatum(name), false, TEXTOID, CurrentMemoryContext);
}

Datum
notif_check_type(PG_FUNCTION_ARGS)
{
	const NotifProviderOps *ops = provider_ops(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	NotifMessageTemplate *tmpl;
	ArrayBuildState *names = NULL;
	char		error[256] = "";
	NotifStatus status;

	status = ops->template_new(text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)),
							   jsonb_text(PG_GETARG_JSONB_P(3)), &tmpl, error, sizeof(error));
	if (status != NOTIF_OK)
		refuse(status, "the message does not compile", error,
			   "docs/reference.md lists placeholders and the options of push.");
	PG_TRY();
	{
		ops->template_vars(tmpl, collect_name, &names);
	}
	PG_FINALLY();
	{
		ops->template_free(tmpl);
	}
	PG_END_TRY();
	if (names == NULL)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	PG_RETURN_DATUM(makeArrayResult(names, CurrentMemoryContext));
}

Datum
notif_check_provider(PG_FUNCTION_ARGS)
{
	const NotifProviderOps *ops = provider_ops(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	char		error[256] = "";
	NotifStatus status;

	status = ops->settings_check(jsonb_text(PG_GETARG_JSONB_P(1)), PG_GETARG_BOOL(2), PG_GETARG_BOOL(3),
								 error, sizeof(error));
	if (status != NOTIF_OK)
		refuse(status, "the provider's settings are not usable", error,
			   "docs/reference.md lists the settings of each kind of provider.");
	PG_RETURN_VOID();
}

Datum
notif_token_valid(PG_FUNCTION_ARGS)
{
	const NotifProviderOps *ops = provider_ops(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	PG_RETURN_BOOL(ops->address_valid(text_to_cstring(PG_GETARG_TEXT_PP(1))));
}

/*
 * Data that cannot be parsed reads as missing: an inbox must show its other
 * items whatever one of them holds.
 */
static NotifData *
parse_data(FunctionCallInfo fcinfo, int n)
{
	NotifData  *data = NULL;
	char	   *json;

	if (PG_ARGISNULL(n))
		return NULL;
	json = jsonb_text(PG_GETARG_JSONB_P(n));
	if (notif_data_parse(json, strlen(json), &data) != NOTIF_OK)
		return NULL;
	return data;
}

/* From (ref, locale, attributes, event, type), the first of them at n; attributes apart. */
static void
vars_from(FunctionCallInfo fcinfo, int n, NotifVars *vars)
{
	vars->recipient_ref = PG_ARGISNULL(n) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(n));
	vars->recipient_locale = PG_ARGISNULL(n + 1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(n + 1));
	if (!PG_ARGISNULL(n + 3))
	{
		vars->event_id = DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(n + 3)));
		vars->event_time_s = notif_uuid_unix_ms(PG_GETARG_UUID_P(n + 3)) / 1000;
	}
	vars->type_name = PG_ARGISNULL(n + 4) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(n + 4));
}

Datum
notif_render_text(PG_FUNCTION_ARGS)
{
	NotifVars	vars = {0};
	NotifTemplate *tmpl = NULL;
	NotifData  *data = NULL;
	NotifData  *attributes = NULL;
	NotifBuf	out;
	NotifStatus status;
	char	   *template;
	char		error[256];
	text	   *result = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	template = text_to_cstring(PG_GETARG_TEXT_PP(0));
	vars_from(fcinfo, 2, &vars);
	data = parse_data(fcinfo, 1);
	attributes = parse_data(fcinfo, 4);
	vars.data = data;
	vars.attributes = attributes;

	notif_buf_init(&out, 256 * 1024);
	status = notif_template_new_text(template, strlen(template), &tmpl, error, sizeof(error));
	if (status == NOTIF_OK)
		status = notif_template_render(tmpl, &vars, &out, error, sizeof(error));
	notif_template_free(tmpl);
	notif_data_free(data);
	notif_data_free(attributes);
	if (status == NOTIF_OK)
	{
		/* without an ERROR in between: the buffer is not palloc'd */
		result = (text *) palloc_extended(VARHDRSZ + out.len, MCXT_ALLOC_NO_OOM);
		if (result != NULL)
		{
			memcpy(VARDATA(result), notif_buf_text(&out), out.len);
			SET_VARSIZE(result, VARHDRSZ + out.len);
		}
	}
	notif_buf_free(&out);
	if (status == NOTIF_ENOMEM || (status == NOTIF_OK && result == NULL))
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

/*
 * (kind, title, body, push, data, recipient_ref, locale, attributes, event, type):
 * what the dispatcher would find out.  NULL title, body or push: no.
 */
Datum
notif_message_fits(PG_FUNCTION_ARGS)
{
	const NotifProviderOps *ops = provider_ops(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	NotifMessageTemplate *tmpl = NULL;
	NotifVars	vars = {0};
	NotifData  *data = NULL;
	NotifData  *attributes = NULL;
	NotifBuf	payload;
	NotifStatus status;
	char	   *title;
	char	   *body;
	char	   *push;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3) || PG_ARGISNULL(8))
		PG_RETURN_BOOL(false);
	/* all that can raise comes before what is not palloc'd */
	title = text_to_cstring(PG_GETARG_TEXT_PP(1));
	body = text_to_cstring(PG_GETARG_TEXT_PP(2));
	push = jsonb_text(PG_GETARG_JSONB_P(3));
	vars_from(fcinfo, 5, &vars);
	attributes = parse_data(fcinfo, 7);
	data = parse_data(fcinfo, 4);
	vars.data = data;
	vars.attributes = attributes;

	notif_buf_init(&payload, 1024 * 1024);
	status = ops->template_new(title, body, push, &tmpl, NULL, 0);
	if (status == NOTIF_OK)
		status = ops->render(tmpl, &vars, &payload, NULL, 0);
	if (tmpl != NULL)
		ops->template_free(tmpl);
	notif_buf_free(&payload);
	notif_data_free(data);
	notif_data_free(attributes);
	if (status == NOTIF_ENOMEM)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	PG_RETURN_BOOL(status == NOTIF_OK);
}
