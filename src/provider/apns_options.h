/*
 * apns_options.h
 *		A type's push options, read and checked one by one.
 *
 * apns_options.c knows names, kinds and ranges, apns_rules.c what goes together;
 * the payload itself is apns_template.c.
 */
#ifndef NOTIF_PROVIDER_APNS_OPTIONS_H
#define NOTIF_PROVIDER_APNS_OPTIONS_H

#include "../message/json.h"
#include "apns_internal.h"

typedef enum ApnsOption
{
	/* not in the payload */
	APNS_OPT_PUSH_TYPE,
	APNS_OPT_PRIORITY,
	APNS_OPT_TOPIC,
	APNS_OPT_DATA,
	APNS_OPT_IMAGE_URL,
	/* in aps.alert, in the order in which they are written */
	APNS_OPT_SUBTITLE,
	APNS_OPT_TITLE_LOC_KEY,
	APNS_OPT_TITLE_LOC_ARGS,
	APNS_OPT_SUBTITLE_LOC_KEY,
	APNS_OPT_SUBTITLE_LOC_ARGS,
	APNS_OPT_LOC_KEY,
	APNS_OPT_LOC_ARGS,
	APNS_OPT_LAUNCH_IMAGE,
	/* in aps */
	APNS_OPT_BADGE,
	APNS_OPT_SOUND,
	APNS_OPT_THREAD_ID,
	APNS_OPT_CATEGORY,
	APNS_OPT_CONTENT_AVAILABLE,
	APNS_OPT_MUTABLE_CONTENT,
	APNS_OPT_CONTENT_CHANGED,
	APNS_OPT_TARGET_CONTENT_ID,
	APNS_OPT_INTERRUPTION_LEVEL,
	APNS_OPT_RELEVANCE_SCORE,
	APNS_OPT_FILTER_CRITERIA,
	/* in aps, of live activities */
	APNS_OPT_TIMESTAMP,
	APNS_OPT_EVENT,
	APNS_OPT_CONTENT_STATE,
	APNS_OPT_ATTRIBUTES_TYPE,
	APNS_OPT_ATTRIBUTES,
	APNS_OPT_STALE_DATE,
	APNS_OPT_DISMISSAL_DATE,
	APNS_OPT_INPUT_PUSH_TOKEN,
	APNS_OPT_INPUT_PUSH_CHANNEL,
	APNS_N_OPTIONS
} ApnsOption;

#define APNS_OPT_FIRST_ALERT	APNS_OPT_SUBTITLE
#define APNS_OPT_LAST_ALERT		APNS_OPT_LAUNCH_IMAGE
#define APNS_OPT_FIRST_APS		APNS_OPT_BADGE
#define APNS_OPT_LAST_APS		APNS_OPT_FILTER_CRITERIA
#define APNS_OPT_FIRST_LIVE		APNS_OPT_TIMESTAMP
#define APNS_OPT_LAST_LIVE		APNS_OPT_INPUT_PUSH_CHANNEL

/* How an option's value is written. */
typedef enum ApnsOptionKind
{
	APNS_KIND_WORD,				/* string without placeholders */
	APNS_KIND_TEXT,				/* string with placeholders */
	APNS_KIND_TEXTS,			/* array of such */
	APNS_KIND_FLAG,				/* true/1, false/0 */
	APNS_KIND_INTEGER,			/* or a placeholder */
	APNS_KIND_NUMBER,			/* or a placeholder */
	APNS_KIND_OBJECT,			/* or a placeholder */
	APNS_KIND_SOUND,			/* text or the critical sound's object */
	APNS_KIND_DATA				/* object or boolean */
} ApnsOptionKind;

typedef struct ApnsOptionSpec
{
	const char *name;			/* in the options */
	const char *key;			/* in the payload, NULL if it is not there */
	ApnsOptionKind kind;
} ApnsOptionSpec;

extern const ApnsOptionSpec notif_apns_options[APNS_N_OPTIONS];

typedef struct ApnsOptions
{
	NotifJson  *json;			/* owned; NULL: no options */
	uint32_t	node[APNS_N_OPTIONS];	/* 0: not given (null counts as that) */
	bool		flag[APNS_N_OPTIONS];	/* of APNS_KIND_FLAG: given and set */
	int			priority;		/* 0: not given */
	const ApnsPushType *push_type;	/* alert unless given */
} ApnsOptions;

/*
 * Reads options_json (NULL or "" for none): unknown names, wrong kinds and
 * values out of range are NOTIF_EINVAL.  The caller frees options, after an
 * error too.
 */
NotifStatus notif_apns_options_read(ApnsOptions *options, const char *options_json,
									char *error, size_t error_size);
void		notif_apns_options_free(ApnsOptions *options);

/* The first option given of a range, APNS_N_OPTIONS if none is. */
ApnsOption	notif_apns_options_first(const ApnsOptions *options, ApnsOption from, ApnsOption to);

/* apns_rules.c: NOTIF_EINVAL if the options, with or without a title or body
 * (text), do not go together or something they need is missing. */
NotifStatus notif_apns_options_check(const ApnsOptions *options, bool text,
									 char *error, size_t error_size);

#endif							/* NOTIF_PROVIDER_APNS_OPTIONS_H */
