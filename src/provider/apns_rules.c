/*
 * apns_rules.c
 *		Which push options go together (PROVIDERS sections 1.3 and 1.8).
 *
 * What the service would refuse for every message of a type is refused here,
 * when the type is defined.
 */
#include "apns_options.h"

static bool
rules_has(const ApnsOptions *options, ApnsOption option)
{
	return options->node[option] > 0;
}

static bool
rules_has_alert(const ApnsOptions *options, bool text)
{
	return text || rules_has(options, APNS_OPT_TITLE_LOC_KEY) ||
		rules_has(options, APNS_OPT_LOC_KEY);
}

static NotifStatus
rules_live(const ApnsOptions *options, bool text, char *error, size_t error_size)
{
	if (!rules_has(options, APNS_OPT_EVENT))
		return apns_invalid(error, error_size,
							"push_type liveactivity needs event (start, update or end)");
	if (notif_json_is(options->json, options->node[APNS_OPT_EVENT], "start"))
	{
		if (!rules_has(options, APNS_OPT_ATTRIBUTES_TYPE))
			return apns_invalid(error, error_size, "starting a live activity needs attributes_type");
		if (!rules_has(options, APNS_OPT_ATTRIBUTES))
			return apns_invalid(error, error_size, "starting a live activity needs attributes");
		if (!rules_has(options, APNS_OPT_CONTENT_STATE))
			return apns_invalid(error, error_size, "starting a live activity needs content_state");
		if (!rules_has_alert(options, text))
			return apns_invalid(error, error_size,
								"starting a live activity needs an alert: a title or a body");
	}
	if (options->priority == 1)
		return apns_invalid(error, error_size,
							"push_type liveactivity allows priority 10 or 5");
	return NOTIF_OK;
}

/* aps of a background push is {"content-available": 1} and nothing else. */
static NotifStatus
rules_background(const ApnsOptions *options, bool text, char *error, size_t error_size)
{
	if (text)
		return apns_invalid(error, error_size, "push_type background may not carry an alert: "
							"remove title and body");
	for (int i = APNS_OPT_IMAGE_URL; i <= (int) APNS_OPT_LAST_APS; i++)
	{
		if (rules_has(options, (ApnsOption) i) && i != APNS_OPT_CONTENT_AVAILABLE)
			return apns_invalid(error, error_size, "push_type background may not carry %s",
								notif_apns_options[i].name);
	}
	if (rules_has(options, APNS_OPT_CONTENT_AVAILABLE) &&
		!options->flag[APNS_OPT_CONTENT_AVAILABLE])
		return apns_invalid(error, error_size, "push_type background needs content_available");
	if (options->priority != 0 && options->priority != 5)
		return apns_invalid(error, error_size, "push_type background needs priority 5");
	return NOTIF_OK;
}

/* Arguments of a localised text need the text's key. */
static NotifStatus
rules_loc(const ApnsOptions *options, char *error, size_t error_size)
{
	static const ApnsOption pairs[][2] = {
		{APNS_OPT_TITLE_LOC_ARGS, APNS_OPT_TITLE_LOC_KEY},
		{APNS_OPT_SUBTITLE_LOC_ARGS, APNS_OPT_SUBTITLE_LOC_KEY},
		{APNS_OPT_LOC_ARGS, APNS_OPT_LOC_KEY},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		if (rules_has(options, pairs[i][0]) && !rules_has(options, pairs[i][1]))
			return apns_invalid(error, error_size, "%s needs %s",
								notif_apns_options[pairs[i][0]].name,
								notif_apns_options[pairs[i][1]].name);
	}
	return NOTIF_OK;
}

NotifStatus
notif_apns_options_check(const ApnsOptions *options, bool text, char *error, size_t error_size)
{
	ApnsType	type = options->push_type->type;
	ApnsOption	extra;
	NotifStatus status = rules_loc(options, error, error_size);

	if (status != NOTIF_OK)
		return status;
	extra = notif_apns_options_first(options, APNS_OPT_FIRST_LIVE, APNS_OPT_LAST_LIVE);
	if (type != APNS_LIVEACTIVITY && extra != APNS_N_OPTIONS)
		return apns_invalid(error, error_size, "%s belongs to push_type liveactivity",
							notif_apns_options[extra].name);
	if (rules_has(options, APNS_OPT_IMAGE_URL) && rules_has(options, APNS_OPT_MUTABLE_CONTENT) &&
		!options->flag[APNS_OPT_MUTABLE_CONTENT])
		return apns_invalid(error, error_size, "image_url needs mutable_content");
	switch (type)
	{
		case APNS_ALERT:
			if (!rules_has_alert(options, text))
				return apns_invalid(error, error_size,
									"push_type alert needs a title or a body");
			return NOTIF_OK;
		case APNS_BACKGROUND:
			return rules_background(options, text, error, error_size);
		case APNS_LIVEACTIVITY:
			return rules_live(options, text, error, error_size);
		case APNS_MDM:
			/* an MDM push has no aps: {"mdm": PushMagic} comes from data */
			extra = notif_apns_options_first(options, APNS_OPT_IMAGE_URL, APNS_OPT_LAST_APS);
			if (text || extra != APNS_N_OPTIONS)
				return apns_invalid(error, error_size, "push_type mdm carries data only");
			return NOTIF_OK;
		default:
			return NOTIF_OK;
	}
}
