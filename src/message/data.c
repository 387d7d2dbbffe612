/*
 * data.c
 *		Parsed, reference-counted JSON objects; see vars.h and data.h.
 */
#include "data.h"

#include "../core/mem.h"

NotifStatus
notif_data_parse(const char *json, size_t len, NotifData **data)
{
	NotifData  *result;
	NotifJson  *doc;
	NotifStatus status;

	*data = NULL;
	status = notif_json_parse(json, len, &doc, NULL);
	if (status != NOTIF_OK)
		return status;
	if (doc->nodes[0].kind != NOTIF_JSON_OBJECT)
	{
		notif_json_free(doc);
		return NOTIF_EINVAL;
	}
	result = notif_malloc(sizeof(NotifData));
	if (result == NULL)
	{
		notif_json_free(doc);
		return NOTIF_ENOMEM;
	}
	result->refs = 1;
	result->json = doc;
	*data = result;
	return NOTIF_OK;
}

NotifData *
notif_data_ref(NotifData *data)
{
	data->refs++;
	return data;
}

void
notif_data_free(NotifData *data)
{
	if (data == NULL || --data->refs > 0)
		return;
	notif_json_free(data->json);
	notif_free(data);
}

size_t
notif_data_size(const NotifData *data)
{
	return data != NULL ? data->json->len : 2;
}

const char *
notif_data_text(const NotifData *data)
{
	return data->json->text;
}
