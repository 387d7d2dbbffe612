/*
 * apns_template.c
 *		From title, body and push options to the payload's program
 *		(PROVIDERS section 1.8).
 *
 * The whole payload, aps and custom keys, becomes one template; what can be
 * wrong about a type is found here, when it is defined, and not when it is
 * sent.  Words that the service enumerates (push type, event, level) carry no
 * placeholders, so that they can be checked.
 */
#include <string.h>

#include "../core/mem.h"
#include "apns_options.h"

typedef struct ApnsCompiler
{
	ApnsOptions options;
	const char *title;			/* NULL: none */
	const char *body;			/* NULL: none */
	NotifTemplate *payload;
	bool		comma;			/* the next member is not the first */
	NotifStatus status;			/* first error; later steps do nothing */
	char	   *error;
	size_t		error_size;
} ApnsCompiler;

static bool
compiler_has(const ApnsCompiler *c, ApnsOption option)
{
	return c->options.node[option] > 0;
}

static void
compiler_fail(ApnsCompiler *c, const char *message)
{
	if (c->status == NOTIF_OK)
		c->status = apns_invalid(c->error, c->error_size, "%s", message);
}

static void
compiler_put(ApnsCompiler *c, const char *bytes, size_t len)
{
	if (c->status == NOTIF_OK)
		c->status = notif_template_add_literal(c->payload, bytes, len);
}

static void
compiler_puts(ApnsCompiler *c, const char *bytes)
{
	compiler_put(c, bytes, strlen(bytes));
}

/* Begins a member; key needs no escaping. */
static void
compiler_key(ApnsCompiler *c, const char *key)
{
	compiler_puts(c, c->comma ? ",\"" : "\"");
	compiler_puts(c, key);
	compiler_puts(c, "\":");
	c->comma = true;
}

/* Begins a member whose value is an object; end with compiler_close. */
static void
compiler_open(ApnsCompiler *c, const char *key)
{
	compiler_key(c, key);
	compiler_puts(c, "{");
	c->comma = false;
}

static void
compiler_close(ApnsCompiler *c)
{
	compiler_puts(c, "}");
	c->comma = true;
}

/* Puts the name of what was compiled in front of the error line. */
static void
compiler_name_error(ApnsCompiler *c, const char *name)
{
	char		line[256];

	if (c->error_size == 0 || (c->status != NOTIF_EINVAL && c->status != NOTIF_ETOOBIG))
		return;
	snprintf(line, sizeof(line), "%s", c->error);
	snprintf(c->error, c->error_size, "%s: %s", name, line);
}

/* A JSON string with placeholders. */
static void
compiler_text(ApnsCompiler *c, const char *name, const char *text, size_t len)
{
	compiler_puts(c, "\"");
	if (c->status == NOTIF_OK)
	{
		if (c->error_size > 0)
			c->error[0] = '\0';
		c->status = notif_template_add_text(c->payload, text, len, NOTIF_TEMPLATE_STRING,
											c->error, c->error_size);
		compiler_name_error(c, name);
	}
	compiler_puts(c, "\"");
}

/* The same from a string of the options. */
static void
compiler_text_node(ApnsCompiler *c, const char *name, uint32_t node)
{
	NotifBuf	text;

	if (c->status != NOTIF_OK)
		return;
	notif_buf_init(&text, NOTIF_TEMPLATE_TEXT_MAX);
	c->status = notif_json_decode(c->options.json, node, &text);
	if (c->status == NOTIF_ETOOBIG)
		(void) apns_invalid(c->error, c->error_size, "%s is longer than %d bytes",
							name, NOTIF_TEMPLATE_TEXT_MAX);
	compiler_text(c, name, notif_buf_text(&text), text.len);
	notif_buf_free(&text);
}

/* A JSON value with placeholders. */
static void
compiler_json(ApnsCompiler *c, const char *name, uint32_t node, unsigned accept)
{
	if (c->status != NOTIF_OK)
		return;
	if (c->error_size > 0)
		c->error[0] = '\0';
	c->status = notif_template_add_json(c->payload, c->options.json, node, accept,
										c->error, c->error_size);
	compiler_name_error(c, name);
}

/* Sound: a name, or the object that makes it critical. */
static void
compiler_sound(ApnsCompiler *c, uint32_t node)
{
	const NotifJson *json = c->options.json;
	uint32_t	critical;
	uint32_t	name;
	uint32_t	volume;

	if (json->nodes[node].kind == NOTIF_JSON_STRING)
	{
		compiler_key(c, "sound");
		compiler_text_node(c, "sound", node);
		return;
	}
	critical = notif_json_member(json, node, "critical", 8);
	name = notif_json_member(json, node, "name", 4);
	volume = notif_json_member(json, node, "volume", 6);
	compiler_open(c, "sound");
	if (critical > 0)
	{
		char		first = json->text[json->nodes[critical].start];

		compiler_key(c, "critical");
		compiler_puts(c, first == 't' || first == '1' ? "1" : "0");
	}
	compiler_key(c, "name");
	if (name > 0)
		compiler_text_node(c, "sound.name", name);
	else
		compiler_puts(c, "\"default\"");
	if (volume > 0)
	{
		compiler_key(c, "volume");
		compiler_json(c, "sound.volume", volume, NOTIF_JSON_NUMBER);
	}
	compiler_close(c);
}

/* One option as a member of the payload, if it was given. */
static void
compiler_option(ApnsCompiler *c, ApnsOption option)
{
	const ApnsOptionSpec *spec = &notif_apns_options[option];
	uint32_t	node = c->options.node[option];

	if (node == 0 || c->status != NOTIF_OK)
		return;
	switch (spec->kind)
	{
		case APNS_KIND_WORD:
		case APNS_KIND_TEXT:
			compiler_key(c, spec->key);
			compiler_text_node(c, spec->name, node);
			break;
		case APNS_KIND_TEXTS:
			compiler_key(c, spec->key);
			compiler_puts(c, "[");
			for (uint32_t i = node + 1; i < c->options.json->nodes[node].end; i++)
			{
				if (i > node + 1)
					compiler_puts(c, ",");
				compiler_text_node(c, spec->name, i);
			}
			compiler_puts(c, "]");
			break;
		case APNS_KIND_FLAG:
			if (c->options.flag[option])
			{
				compiler_key(c, spec->key);
				compiler_puts(c, option == APNS_OPT_CONTENT_CHANGED ? "true" : "1");
			}
			break;
		case APNS_KIND_INTEGER:
			compiler_key(c, spec->key);
			compiler_json(c, spec->name, node, NOTIF_TEMPLATE_INTEGER);
			break;
		case APNS_KIND_NUMBER:
			compiler_key(c, spec->key);
			compiler_json(c, spec->name, node, NOTIF_JSON_NUMBER);
			break;
		case APNS_KIND_OBJECT:
			compiler_key(c, spec->key);
			compiler_json(c, spec->name, node, NOTIF_JSON_OBJECT);
			break;
		case APNS_KIND_SOUND:
			compiler_sound(c, node);
			break;
		case APNS_KIND_DATA:
			break;
	}
}

/* aps.alert */
static void
compiler_alert(ApnsCompiler *c)
{
	bool		live = c->options.push_type->type == APNS_LIVEACTIVITY;

	if (c->title == NULL && c->body == NULL &&
		notif_apns_options_first(&c->options, APNS_OPT_FIRST_ALERT,
								 APNS_OPT_LAST_ALERT) == APNS_N_OPTIONS)
		return;
	compiler_open(c, "alert");
	if (c->title != NULL)
	{
		compiler_key(c, "title");
		compiler_text(c, "title", c->title, strlen(c->title));
	}
	if (c->body != NULL)
	{
		compiler_key(c, "body");
		compiler_text(c, "body", c->body, strlen(c->body));
	}
	for (int i = APNS_OPT_FIRST_ALERT; i <= (int) APNS_OPT_LAST_ALERT; i++)
		compiler_option(c, (ApnsOption) i);
	if (live)					/* ActivityKit looks for the sound in the alert */
		compiler_option(c, APNS_OPT_SOUND);
	compiler_close(c);
}

static void
compiler_aps(ApnsCompiler *c)
{
	ApnsType	type = c->options.push_type->type;

	compiler_open(c, "aps");
	compiler_alert(c);
	if (type == APNS_BACKGROUND)
		c->options.flag[APNS_OPT_CONTENT_AVAILABLE] = true;
	if (compiler_has(c, APNS_OPT_IMAGE_URL))
		c->options.flag[APNS_OPT_MUTABLE_CONTENT] = true;
	for (int i = APNS_OPT_FIRST_APS; i <= (int) APNS_OPT_LAST_APS; i++)
	{
		bool		implied = (i == APNS_OPT_CONTENT_AVAILABLE || i == APNS_OPT_MUTABLE_CONTENT) &&
			c->options.flag[i] && !compiler_has(c, (ApnsOption) i);

		if (implied)
		{
			compiler_key(c, notif_apns_options[i].key);
			compiler_puts(c, "1");
		}
		else if (i != APNS_OPT_SOUND || type != APNS_LIVEACTIVITY)
			compiler_option(c, (ApnsOption) i);
	}
	if (type == APNS_LIVEACTIVITY)
	{
		if (!compiler_has(c, APNS_OPT_TIMESTAMP))
		{
			/* the activity shows the newest timestamp: the event's, not the send's */
			compiler_key(c, "timestamp");
			if (c->status == NOTIF_OK)
				c->status = notif_template_add_text(c->payload, "{notif.timestamp}", 17,
													NOTIF_TEMPLATE_STRING,
													c->error, c->error_size);
		}
		for (int i = APNS_OPT_FIRST_LIVE; i <= (int) APNS_OPT_LAST_LIVE; i++)
			compiler_option(c, (ApnsOption) i);
	}
	compiler_close(c);
}

/* Custom keys beside aps. */
static void
compiler_custom(ApnsCompiler *c)
{
	static const char *const except[] = {"aps", "image-url"};
	const NotifJson *json = c->options.json;
	uint32_t	data = c->options.node[APNS_OPT_DATA];
	bool		image = compiler_has(c, APNS_OPT_IMAGE_URL);

	compiler_option(c, APNS_OPT_IMAGE_URL);
	if (c->status != NOTIF_OK)
		return;
	if (data == 0 || json->text[json->nodes[data].start] == 't')
		c->status = notif_template_add_members(c->payload, except, image ? 2 : 1, c->comma);
	else if (json->nodes[data].kind == NOTIF_JSON_OBJECT)
	{
		for (uint32_t key = data + 1; key < json->nodes[data].end; key = json->nodes[key + 1].end)
		{
			if (notif_json_is(json, key, "aps"))
				compiler_fail(c, "data may not have a member \"aps\"");
			if (image && notif_json_is(json, key, "image-url"))
				compiler_fail(c, "data may not have a member \"image-url\" beside image_url");
			if (c->comma)
				compiler_puts(c, ",");
			compiler_put(c, json->text + json->nodes[key].start, json->nodes[key].len);
			compiler_puts(c, ":");
			compiler_json(c, "data", key + 1, NOTIF_TEMPLATE_ANY);
			c->comma = true;
		}
	}
}

static void
compiler_payload(ApnsCompiler *c)
{
	compiler_puts(c, "{");
	c->comma = false;
	if (c->options.push_type->type != APNS_MDM)
		compiler_aps(c);
	compiler_custom(c);
	compiler_puts(c, "}");
}

/* The topic that replaces the account's, suffix included. */
static void
compiler_topic(ApnsCompiler *c, char **topic)
{
	const char *suffix = c->options.push_type->suffix;
	size_t		suffix_len = strlen(suffix);
	uint32_t	node = c->options.node[APNS_OPT_TOPIC];
	NotifBuf	text;

	if (node == 0 || c->status != NOTIF_OK)
		return;
	notif_buf_init(&text, APNS_TOPIC_MAX);
	c->status = notif_json_decode(c->options.json, node, &text);
	if (c->status == NOTIF_OK && (text.len < suffix_len ||
								  strcmp(text.data + text.len - suffix_len, suffix) != 0))
		c->status = notif_buf_add(&text, suffix, suffix_len);
	if (c->status == NOTIF_ETOOBIG ||
		(c->status == NOTIF_OK && !notif_apns_topic_valid(notif_buf_text(&text))))
		c->status = apns_invalid(c->error, c->error_size, "topic is not a bundle id");
	if (c->status == NOTIF_OK)
	{
		*topic = notif_strndup(text.data, text.len);
		if (*topic == NULL)
			c->status = NOTIF_ENOMEM;
	}
	notif_buf_free(&text);
}

static const char *
compiler_priority(const ApnsCompiler *c)
{
	if (c->options.push_type->type == APNS_BACKGROUND || c->options.priority == 5)
		return "5";
	return c->options.priority == 1 ? "1" : "10";
}

NotifStatus
notif_apns_template_new(const char *title, const char *body, const char *options_json,
						NotifMessageTemplate **tmpl, char *error, size_t error_size)
{
	ApnsCompiler c = {.error = error, .error_size = error != NULL ? error_size : 0};
	NotifApnsTemplate *result;

	*tmpl = NULL;
	c.title = title != NULL && title[0] != '\0' ? title : NULL;
	c.body = body != NULL && body[0] != '\0' ? body : NULL;
	result = notif_calloc(1, sizeof(NotifApnsTemplate));
	if (result == NULL)
		return NOTIF_ENOMEM;
	result->payload = c.payload = notif_template_new();
	c.status = c.payload == NULL ? NOTIF_ENOMEM :
		notif_apns_options_read(&c.options, options_json, c.error, c.error_size);
	if (c.status == NOTIF_OK)
		c.status = notif_apns_options_check(&c.options, c.title != NULL || c.body != NULL,
											c.error, c.error_size);
	if (c.status == NOTIF_OK)
	{
		compiler_topic(&c, &result->topic);
		compiler_payload(&c);
		result->push_type = c.options.push_type;
		result->priority = compiler_priority(&c);
	}
	notif_apns_options_free(&c.options);
	if (c.status != NOTIF_OK)
	{
		notif_apns_template_free((NotifMessageTemplate *) result);
		return c.status;
	}
	*tmpl = (NotifMessageTemplate *) result;
	return NOTIF_OK;
}

void
notif_apns_template_free(NotifMessageTemplate *tmpl)
{
	NotifApnsTemplate *t = (NotifApnsTemplate *) tmpl;

	if (t == NULL)
		return;
	notif_template_free(t->payload);
	notif_free(t->topic);
	notif_free(t);
}
