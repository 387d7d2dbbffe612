/*
 * apns_options.c
 *		Reading push options; see apns_options.h.
 */
#include "apns_options.h"

#include <stdlib.h>
#include <string.h>

const ApnsOptionSpec notif_apns_options[APNS_N_OPTIONS] = {
	[APNS_OPT_PUSH_TYPE] = {"push_type", NULL, APNS_KIND_WORD},
	[APNS_OPT_PRIORITY] = {"priority", NULL, APNS_KIND_INTEGER},
	[APNS_OPT_TOPIC] = {"topic", NULL, APNS_KIND_WORD},
	[APNS_OPT_DATA] = {"data", NULL, APNS_KIND_DATA},
	[APNS_OPT_IMAGE_URL] = {"image_url", "image-url", APNS_KIND_TEXT},
	[APNS_OPT_SUBTITLE] = {"subtitle", "subtitle", APNS_KIND_TEXT},
	[APNS_OPT_TITLE_LOC_KEY] = {"title_loc_key", "title-loc-key", APNS_KIND_TEXT},
	[APNS_OPT_TITLE_LOC_ARGS] = {"title_loc_args", "title-loc-args", APNS_KIND_TEXTS},
	[APNS_OPT_SUBTITLE_LOC_KEY] = {"subtitle_loc_key", "subtitle-loc-key", APNS_KIND_TEXT},
	[APNS_OPT_SUBTITLE_LOC_ARGS] = {"subtitle_loc_args", "subtitle-loc-args", APNS_KIND_TEXTS},
	[APNS_OPT_LOC_KEY] = {"loc_key", "loc-key", APNS_KIND_TEXT},
	[APNS_OPT_LOC_ARGS] = {"loc_args", "loc-args", APNS_KIND_TEXTS},
	[APNS_OPT_LAUNCH_IMAGE] = {"launch_image", "launch-image", APNS_KIND_TEXT},
	[APNS_OPT_BADGE] = {"badge", "badge", APNS_KIND_INTEGER},
	[APNS_OPT_SOUND] = {"sound", "sound", APNS_KIND_SOUND},
	[APNS_OPT_THREAD_ID] = {"thread_id", "thread-id", APNS_KIND_TEXT},
	[APNS_OPT_CATEGORY] = {"category", "category", APNS_KIND_TEXT},
	[APNS_OPT_CONTENT_AVAILABLE] = {"content_available", "content-available", APNS_KIND_FLAG},
	[APNS_OPT_MUTABLE_CONTENT] = {"mutable_content", "mutable-content", APNS_KIND_FLAG},
	[APNS_OPT_CONTENT_CHANGED] = {"content_changed", "content-changed", APNS_KIND_FLAG},
	[APNS_OPT_TARGET_CONTENT_ID] = {"target_content_id", "target-content-id", APNS_KIND_TEXT},
	[APNS_OPT_INTERRUPTION_LEVEL] = {"interruption_level", "interruption-level", APNS_KIND_WORD},
	[APNS_OPT_RELEVANCE_SCORE] = {"relevance_score", "relevance-score", APNS_KIND_NUMBER},
	[APNS_OPT_FILTER_CRITERIA] = {"filter_criteria", "filter-criteria", APNS_KIND_TEXT},
	[APNS_OPT_TIMESTAMP] = {"timestamp", "timestamp", APNS_KIND_INTEGER},
	[APNS_OPT_EVENT] = {"event", "event", APNS_KIND_WORD},
	[APNS_OPT_CONTENT_STATE] = {"content_state", "content-state", APNS_KIND_OBJECT},
	[APNS_OPT_ATTRIBUTES_TYPE] = {"attributes_type", "attributes-type", APNS_KIND_TEXT},
	[APNS_OPT_ATTRIBUTES] = {"attributes", "attributes", APNS_KIND_OBJECT},
	[APNS_OPT_STALE_DATE] = {"stale_date", "stale-date", APNS_KIND_INTEGER},
	[APNS_OPT_DISMISSAL_DATE] = {"dismissal_date", "dismissal-date", APNS_KIND_INTEGER},
	[APNS_OPT_INPUT_PUSH_TOKEN] = {"input_push_token", "input-push-token", APNS_KIND_FLAG},
	[APNS_OPT_INPUT_PUSH_CHANNEL] = {"input_push_channel", "input-push-channel", APNS_KIND_TEXT},
};

#define APNS_LIMIT			4096
#define APNS_LIMIT_VOIP		5120

static const ApnsPushType apns_push_types[] = {
	{"alert", "", APNS_LIMIT, APNS_ALERT},
	{"background", "", APNS_LIMIT, APNS_BACKGROUND},
	{"complication", ".complication", APNS_LIMIT, APNS_COMPLICATION},
	{"controls", ".push-type.controls", APNS_LIMIT, APNS_CONTROLS},
	{"fileprovider", ".pushkit.fileprovider", APNS_LIMIT, APNS_FILEPROVIDER},
	{"liveactivity", ".push-type.liveactivity", APNS_LIMIT, APNS_LIVEACTIVITY},
	{"location", ".location-query", APNS_LIMIT, APNS_LOCATION},
	{"mdm", "", APNS_LIMIT, APNS_MDM},
	{"pushtotalk", ".voip-ptt", APNS_LIMIT, APNS_PUSHTOTALK},
	{"voip", ".voip", APNS_LIMIT_VOIP, APNS_VOIP},
	{"widgets", ".push-type.widgets", APNS_LIMIT, APNS_WIDGETS},
};

const ApnsPushType *
notif_apns_push_type(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(apns_push_types) / sizeof(apns_push_types[0]); i++)
	{
		if (strlen(apns_push_types[i].name) == len &&
			memcmp(apns_push_types[i].name, name, len) == 0)
			return &apns_push_types[i];
	}
	return NULL;
}

/* A whole number written in digits, at most 15 of them. */
static bool
apns_option_int(const NotifJson *json, uint32_t node, int64_t *value)
{
	const NotifJsonNode *n = &json->nodes[node];
	const char *at = json->text + n->start;

	if (n->kind != NOTIF_JSON_NUMBER || n->len > 15)
		return false;
	*value = 0;
	for (uint32_t i = 0; i < n->len; i++)
	{
		if (at[i] < '0' || at[i] > '9')
			return false;
		*value = *value * 10 + (at[i] - '0');
	}
	return true;
}

static bool
apns_option_flag(const NotifJson *json, uint32_t node, bool *value)
{
	int64_t		number;

	if (json->nodes[node].kind == NOTIF_JSON_BOOL)
	{
		*value = json->text[json->nodes[node].start] == 't';
		return true;
	}
	if (!apns_option_int(json, node, &number) || number > 1)
		return false;
	*value = number == 1;
	return true;
}

/* A number from 0 to 1; any placeholder passes, its value is seen later. */
static bool
apns_option_unit_range(const NotifJson *json, uint32_t node)
{
	double		value;

	if (json->nodes[node].kind != NOTIF_JSON_NUMBER)
		return notif_template_is_hole(json, node);
	value = strtod(json->text + json->nodes[node].start, NULL);
	return value >= 0.0 && value <= 1.0;
}

static NotifStatus
apns_check_sound(const NotifJson *json, uint32_t node, char *error, size_t error_size)
{
	const NotifJsonNode *nodes = json->nodes;
	bool		flag;

	if (nodes[node].kind == NOTIF_JSON_STRING)
		return NOTIF_OK;
	if (nodes[node].kind != NOTIF_JSON_OBJECT)
		return apns_invalid(error, error_size, "sound must be a string or an object");
	for (uint32_t key = node + 1; key < nodes[node].end; key = nodes[key + 1].end)
	{
		if (notif_json_is(json, key, "critical"))
		{
			if (!apns_option_flag(json, key + 1, &flag))
				return apns_invalid(error, error_size, "sound.critical must be a boolean or 0 or 1");
		}
		else if (notif_json_is(json, key, "name"))
		{
			if (nodes[key + 1].kind != NOTIF_JSON_STRING)
				return apns_invalid(error, error_size, "sound.name must be a string");
		}
		else if (notif_json_is(json, key, "volume"))
		{
			if (!apns_option_unit_range(json, key + 1))
				return apns_invalid(error, error_size, "sound.volume must be a number from 0 to 1");
		}
		else
			return apns_invalid(error, error_size, "unknown member %.*s of sound",
								(int) (nodes[key].len < 80 ? nodes[key].len : 80),
								json->text + nodes[key].start);
	}
	return NOTIF_OK;
}

/* The kind of one option's value. */
static NotifStatus
apns_check_kind(ApnsOptions *options, ApnsOption option, char *error, size_t error_size)
{
	const ApnsOptionSpec *spec = &notif_apns_options[option];
	const NotifJson *json = options->json;
	uint32_t	node = options->node[option];
	unsigned	kind = json->nodes[node].kind;
	bool		hole = notif_template_is_hole(json, node);
	int64_t		number;

	switch (spec->kind)
	{
		case APNS_KIND_WORD:
		case APNS_KIND_TEXT:
			if (kind != NOTIF_JSON_STRING)
				return apns_invalid(error, error_size, "%s must be a string", spec->name);
			break;
		case APNS_KIND_TEXTS:
			if (kind != NOTIF_JSON_ARRAY)
				return apns_invalid(error, error_size, "%s must be an array of strings", spec->name);
			for (uint32_t i = node + 1; i < json->nodes[node].end; i = json->nodes[i].end)
			{
				if (json->nodes[i].kind != NOTIF_JSON_STRING)
					return apns_invalid(error, error_size, "%s must be an array of strings",
										spec->name);
			}
			break;
		case APNS_KIND_FLAG:
			if (!apns_option_flag(json, node, &options->flag[option]))
				return apns_invalid(error, error_size, "%s must be a boolean or 0 or 1", spec->name);
			break;
		case APNS_KIND_INTEGER:
			if (!hole && !apns_option_int(json, node, &number))
				return apns_invalid(error, error_size, "%s must be a whole number%s", spec->name,
									option == APNS_OPT_PRIORITY ? "" : " or a placeholder");
			break;
		case APNS_KIND_NUMBER:
			if (!hole && kind != NOTIF_JSON_NUMBER)
				return apns_invalid(error, error_size, "%s must be a number or a placeholder",
									spec->name);
			break;
		case APNS_KIND_OBJECT:
			if (!hole && kind != NOTIF_JSON_OBJECT)
				return apns_invalid(error, error_size, "%s must be an object or a placeholder",
									spec->name);
			break;
		case APNS_KIND_SOUND:
			return apns_check_sound(json, node, error, error_size);
		case APNS_KIND_DATA:
			if (kind != NOTIF_JSON_OBJECT && kind != NOTIF_JSON_BOOL)
				return apns_invalid(error, error_size, "data must be an object, true or false");
			break;
	}
	return NOTIF_OK;
}

/* Ranges and words. */
static NotifStatus
apns_check_values(ApnsOptions *options, char *error, size_t error_size)
{
	static const char *const levels[] = {"passive", "active", "time-sensitive", "critical"};
	const NotifJson *json = options->json;
	uint32_t	node;
	int64_t		number;

	node = options->node[APNS_OPT_PUSH_TYPE];
	if (node > 0)
	{
		options->push_type = notif_apns_push_type(json->text + json->nodes[node].start + 1,
												  json->nodes[node].len - 2);
		if (options->push_type == NULL)
			return apns_invalid(error, error_size, "unknown push_type %.*s",
								(int) (json->nodes[node].len < 80 ? json->nodes[node].len : 80),
								json->text + json->nodes[node].start);
	}
	node = options->node[APNS_OPT_PRIORITY];
	if (node > 0)
	{
		if (!apns_option_int(json, node, &number) ||
			(number != 10 && number != 5 && number != 1))
			return apns_invalid(error, error_size, "priority must be 10, 5 or 1");
		options->priority = (int) number;
	}
	node = options->node[APNS_OPT_BADGE];
	if (node > 0 && apns_option_int(json, node, &number) && number > INT32_MAX)
		return apns_invalid(error, error_size, "badge is too large");
	node = options->node[APNS_OPT_INTERRUPTION_LEVEL];
	if (node > 0)
	{
		bool		known = false;

		for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
			known = known || notif_json_is(json, node, levels[i]);
		if (!known)
			return apns_invalid(error, error_size, "interruption_level must be "
								"passive, active, time-sensitive or critical");
	}
	node = options->node[APNS_OPT_RELEVANCE_SCORE];
	if (node > 0 && options->push_type->type != APNS_LIVEACTIVITY &&
		!apns_option_unit_range(json, node))
		return apns_invalid(error, error_size, "relevance_score must be a number from 0 to 1");
	node = options->node[APNS_OPT_EVENT];
	if (node > 0 && !notif_json_is(json, node, "start") && !notif_json_is(json, node, "update") &&
		!notif_json_is(json, node, "end"))
		return apns_invalid(error, error_size, "event must be start, update or end");
	return NOTIF_OK;
}

NotifStatus
notif_apns_options_read(ApnsOptions *options, const char *options_json,
						char *error, size_t error_size)
{
	NotifJson  *json;
	size_t		error_at;
	NotifStatus status;

	memset(options, 0, sizeof(*options));
	options->push_type = notif_apns_push_type("alert", 5);
	if (options_json == NULL || options_json[0] == '\0')
		return NOTIF_OK;
	status = notif_json_parse(options_json, strlen(options_json), &options->json, &error_at);
	if (status == NOTIF_EINVAL)
		return apns_invalid(error, error_size, "byte %zu of the push options: not valid JSON",
							error_at + 1);
	if (status == NOTIF_ETOOBIG && error_size > 0)
		snprintf(error, error_size, "the push options are too long");
	if (status != NOTIF_OK)
		return status;
	json = options->json;
	if (json->nodes[0].kind != NOTIF_JSON_OBJECT)
		return apns_invalid(error, error_size, "the push options are not a JSON object");
	for (uint32_t key = 1; key < json->nodes[0].end; key = json->nodes[key + 1].end)
	{
		int			i = 0;

		while (i < APNS_N_OPTIONS && !notif_json_is(json, key, notif_apns_options[i].name))
			i++;
		if (i == APNS_N_OPTIONS)
			return apns_invalid(error, error_size, "unknown push option %.*s",
								(int) (json->nodes[key].len < 80 ? json->nodes[key].len : 80),
								json->text + json->nodes[key].start);
		options->node[i] = json->nodes[key + 1].kind != NOTIF_JSON_NULL ? key + 1 : 0;
	}
	for (int i = 0; i < APNS_N_OPTIONS; i++)
	{
		if (options->node[i] == 0)
			continue;
		status = apns_check_kind(options, (ApnsOption) i, error, error_size);
		if (status != NOTIF_OK)
			return status;
	}
	return apns_check_values(options, error, error_size);
}

void
notif_apns_options_free(ApnsOptions *options)
{
	notif_json_free(options->json);
	options->json = NULL;
}

ApnsOption
notif_apns_options_first(const ApnsOptions *options, ApnsOption from, ApnsOption to)
{
	for (int i = (int) from; i <= (int) to; i++)
	{
		if (options->node[i] > 0)
			return (ApnsOption) i;
	}
	return APNS_N_OPTIONS;
}
