/*
 * template_render.c
 *		Running compiled templates; see template.h.
 *
 * Values of the event's data and of attributes are slices of canonical JSON
 * text (json.h), so a string goes into a JSON string by memcpy; only the names
 * that arrive as C strings are escaped here.
 */
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "data.h"
#include "template_internal.h"

typedef struct TemplateError
{
	char	   *text;
	size_t		size;
} TemplateError;

static NotifStatus
template_missing(const NotifTemplate *tmpl, const TemplateOp *op, const TemplateError *error)
{
	if (error->size > 0)
		snprintf(error->text, error->size, "%s", tmpl->names.data + op->at);
	return NOTIF_EMISSING;
}

static const char *
template_kind_name(unsigned kinds)
{
	switch (kinds & ~(unsigned) NOTIF_JSON_NULL)
	{
		case NOTIF_JSON_BOOL:
			return "a boolean";
		case NOTIF_JSON_NUMBER:
			return "a number";
		case NOTIF_TEMPLATE_INTEGER:
			return "a whole number";
		case NOTIF_JSON_STRING:
			return "a string";
		case NOTIF_JSON_ARRAY:
			return "an array";
		case NOTIF_JSON_OBJECT:
			return "an object";
		default:
			return "of another kind";
	}
}

static NotifStatus
template_bad_kind(const NotifTemplate *tmpl, const TemplateOp *op, unsigned got,
				  const TemplateError *error)
{
	if (error->size > 0)
	{
		if (op->kind == TEMPLATE_VALUE)
			snprintf(error->text, error->size, "{%s} must be %s",
					 tmpl->names.data + op->at, template_kind_name(op->accept));
		else
			snprintf(error->text, error->size, "{%s} is %s and cannot stand in text",
					 tmpl->names.data + op->at, template_kind_name(got));
	}
	return NOTIF_EINVAL;
}

/* Decimal digits of value at the end of out[21]; returns where they begin. */
static const char *
template_digits(int64_t value, char out[21])
{
	uint64_t	rest = value < 0 ? 0 - (uint64_t) value : (uint64_t) value;
	char	   *at = out + 20;

	*at = '\0';
	do
	{
		*--at = (char) ('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--at = '-';
	return at;
}

/* The place in an array that a part of a path names; UINT32_MAX for none. */
static uint32_t
template_place(const char *part, size_t len)
{
	uint32_t	n = 0;

	/* one name for each element: notif_template_max_size counts on it */
	if (len == 0 || len > 6 || (len > 1 && part[0] == '0'))
		return UINT32_MAX;
	for (size_t i = 0; i < len; i++)
	{
		if (part[i] < '0' || part[i] > '9')
			return UINT32_MAX;
		n = 10 * n + (uint32_t) (part[i] - '0');
	}
	return n;
}

/* The node that path leads to from the object data; 0 if it leads nowhere. */
static uint32_t
template_find(const NotifJson *json, const char *path)
{
	uint32_t	node = 0;

	for (;;)
	{
		const char *dot = strchr(path, '.');
		size_t		len = dot != NULL ? (size_t) (dot - path) : strlen(path);

		node = json->nodes[node].kind == NOTIF_JSON_ARRAY ?
			notif_json_element(json, node, template_place(path, len)) :
			notif_json_member(json, node, path, len);
		if (node == 0 || dot == NULL)
			return node;
		path = dot + 1;
	}
}

static NotifStatus
template_put_json(const NotifTemplate *tmpl, const TemplateOp *op, const NotifData *data,
				  NotifBuf *buf, const TemplateError *error)
{
	uint32_t	index;
	const NotifJsonNode *node;
	const char *slice;

	index = data != NULL ? template_find(data->json, tmpl->names.data + op->path) : 0;
	if (index == 0)
		return template_missing(tmpl, op, error);
	node = &data->json->nodes[index];
	slice = data->json->text + node->start;

	if (op->kind == TEMPLATE_VALUE)
	{
		bool		whole = node->kind == NOTIF_JSON_NUMBER &&
			strcspn(slice, ".eE,]}") >= node->len;

		if ((node->kind & op->accept) != 0 || (whole && (op->accept & NOTIF_TEMPLATE_INTEGER)))
			return notif_buf_add(buf, slice, node->len);
		if (node->kind == NOTIF_JSON_NULL)
			return template_missing(tmpl, op, error);
		return template_bad_kind(tmpl, op, node->kind, error);
	}
	switch (node->kind)
	{
		case NOTIF_JSON_STRING:
			if (op->kind == TEMPLATE_TEXT)
				return notif_json_decode(data->json, index, buf);
			return notif_buf_add(buf, slice + 1, node->len - 2);
		case NOTIF_JSON_NUMBER:
		case NOTIF_JSON_BOOL:
			return notif_buf_add(buf, slice, node->len);
		case NOTIF_JSON_NULL:
			return template_missing(tmpl, op, error);
		default:
			return template_bad_kind(tmpl, op, node->kind, error);
	}
}

/* A value that is a C string, or a number given as one. */
static NotifStatus
template_put_text(const NotifTemplate *tmpl, const TemplateOp *op, const char *text,
				  bool number, NotifBuf *buf, const TemplateError *error)
{
	NotifStatus status;

	if (text == NULL)
		return template_missing(tmpl, op, error);
	if (op->kind == TEMPLATE_TEXT)
		return notif_buf_adds(buf, text);
	if (op->kind == TEMPLATE_STRING)
		return notif_json_escape(buf, text, strlen(text));
	if (number)
	{
		if ((op->accept & (NOTIF_JSON_NUMBER | NOTIF_TEMPLATE_INTEGER)) == 0)
			return template_bad_kind(tmpl, op, NOTIF_JSON_NUMBER, error);
		return notif_buf_adds(buf, text);
	}
	if ((op->accept & NOTIF_JSON_STRING) == 0)
		return template_bad_kind(tmpl, op, NOTIF_JSON_STRING, error);
	status = notif_buf_addc(buf, '"');
	if (status == NOTIF_OK)
		status = notif_json_escape(buf, text, strlen(text));
	if (status == NOTIF_OK)
		status = notif_buf_addc(buf, '"');
	return status;
}

static bool
template_excepted(const NotifTemplate *tmpl, const TemplateOp *op, const NotifJson *json,
				  uint32_t key)
{
	const char *name = tmpl->names.data + op->at;
	const char *end = name + op->len;

	for (; name < end; name += strlen(name) + 1)
	{
		if (notif_json_is(json, key, name))
			return true;
	}
	return false;
}

static NotifStatus
template_put_members(const NotifTemplate *tmpl, const TemplateOp *op, const NotifData *data,
					 NotifBuf *buf)
{
	const NotifJson *json;
	bool		comma = op->comma;
	bool		all = true;
	NotifStatus status = NOTIF_OK;

	if (data == NULL || data->json->nodes[0].end == 1)
		return NOTIF_OK;
	json = data->json;
	for (uint32_t key = 1; key < json->nodes[0].end && all; key = json->nodes[key + 1].end)
		all = op->len == 0 || !template_excepted(tmpl, op, json, key);
	if (all)
	{
		/* the usual case: the object's text without its braces */
		if (comma)
			status = notif_buf_addc(buf, ',');
		return status != NOTIF_OK ? status :
			notif_buf_add(buf, json->text + 1, json->len - 2);
	}
	for (uint32_t key = 1; key < json->nodes[0].end && status == NOTIF_OK;
		 key = json->nodes[key + 1].end)
	{
		const NotifJsonNode *first = &json->nodes[key];
		const NotifJsonNode *last = &json->nodes[key + 1];

		if (template_excepted(tmpl, op, json, key))
			continue;
		if (comma)
			status = notif_buf_addc(buf, ',');
		if (status == NOTIF_OK)
			status = notif_buf_add(buf, json->text + first->start,
								   last->start + last->len - first->start);
		comma = true;
	}
	return status;
}

static NotifStatus
template_put(const NotifTemplate *tmpl, const TemplateOp *op, const NotifVars *vars,
			 NotifBuf *buf, const TemplateError *error)
{
	char		digits[21];

	if (op->kind == TEMPLATE_LITERAL)
		return notif_buf_add(buf, tmpl->literals.data + op->at, op->len);
	if (op->kind == TEMPLATE_MEMBERS)
		return template_put_members(tmpl, op, vars->data, buf);
	switch ((TemplateSource) op->source)
	{
		case TEMPLATE_FROM_DATA:
			return template_put_json(tmpl, op, vars->data, buf, error);
		case TEMPLATE_FROM_ATTRIBUTES:
			return template_put_json(tmpl, op, vars->attributes, buf, error);
		case TEMPLATE_FROM_REF:
			return template_put_text(tmpl, op, vars->recipient_ref, false, buf, error);
		case TEMPLATE_FROM_LOCALE:
			return template_put_text(tmpl, op,
									 vars->recipient_locale != NULL ? vars->recipient_locale : "",
									 false, buf, error);
		case TEMPLATE_FROM_EVENT:
			return template_put_text(tmpl, op, vars->event_id, false, buf, error);
		case TEMPLATE_FROM_TYPE:
			return template_put_text(tmpl, op, vars->type_name, false, buf, error);
		case TEMPLATE_FROM_TIMESTAMP:
			return template_put_text(tmpl, op, template_digits(vars->event_time_s, digits),
									 true, buf, error);
	}
	return NOTIF_ESTATE;
}

NotifStatus
notif_template_render(const NotifTemplate *tmpl, const NotifVars *vars, NotifBuf *buf,
					  char *error, size_t error_size)
{
	TemplateError e = {error, error_size};
	size_t		before = buf->len;

	for (int i = 0; i < tmpl->n_ops; i++)
	{
		NotifStatus status = template_put(tmpl, &tmpl->ops[i], vars, buf, &e);

		if (status != NOTIF_OK)
		{
			buf->len = before;
			if (buf->data != NULL)
				buf->data[before] = '\0';
			return status;
		}
	}
	return NOTIF_OK;
}

/* True if one path is the other or leads through it. */
static bool
template_related(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
	{
		a++;
		b++;
	}
	return (*a == '\0' && (*b == '\0' || *b == '.')) || (*b == '\0' && *a == '.');
}

/*
 * Most holes from source that can read one and the same byte.  The holes that
 * read a byte have paths that lead to it, so each is a prefix of the longest of
 * them, and counting the relatives of every hole counts at least those.
 */
static size_t
template_overlap(const NotifTemplate *tmpl, TemplateSource source)
{
	size_t		most = 0;
	size_t		members = 0;

	for (int i = 0; i < tmpl->n_ops; i++)
		members += tmpl->ops[i].kind == TEMPLATE_MEMBERS && source == TEMPLATE_FROM_DATA;
	for (int i = 0; i < tmpl->n_ops; i++)
	{
		const TemplateOp *op = &tmpl->ops[i];
		size_t		n = 0;

		if (op->kind == TEMPLATE_LITERAL || op->kind == TEMPLATE_MEMBERS || op->source != source)
			continue;
		for (int j = 0; j < tmpl->n_ops; j++)
		{
			const TemplateOp *other = &tmpl->ops[j];

			n += other->kind != TEMPLATE_LITERAL && other->kind != TEMPLATE_MEMBERS &&
				other->source == source &&
				template_related(tmpl->names.data + op->path, tmpl->names.data + other->path);
		}
		if (n > most)
			most = n;
	}
	return most + members;
}

/* a + b * c, at most SIZE_MAX */
static size_t
template_add_product(size_t a, size_t b, size_t c)
{
	size_t		product;
	size_t		sum;

	if (__builtin_mul_overflow(b, c, &product) || __builtin_add_overflow(a, product, &sum))
		return SIZE_MAX;
	return sum;
}

size_t
notif_template_max_size(const NotifTemplate *tmpl, size_t data_len, size_t attributes_len,
						size_t other_len)
{
	size_t		size = tmpl->literals.len;
	size_t		others = 0;
	size_t		members = 0;

	for (int i = 0; i < tmpl->n_ops; i++)
	{
		const TemplateOp *op = &tmpl->ops[i];

		members += op->kind == TEMPLATE_MEMBERS;
		others += op->kind != TEMPLATE_LITERAL && op->kind != TEMPLATE_MEMBERS &&
			op->source != TEMPLATE_FROM_DATA && op->source != TEMPLATE_FROM_ATTRIBUTES;
	}
	if (other_len < 36)
		other_len = 36;			/* an event id; longer than any timestamp */
	size = template_add_product(size, members, 1);	/* commas in front */
	size = template_add_product(size, template_overlap(tmpl, TEMPLATE_FROM_DATA), data_len);
	size = template_add_product(size, template_overlap(tmpl, TEMPLATE_FROM_ATTRIBUTES),
								attributes_len);
	size = template_add_product(size, 2 * others, 1);	/* quotes */
	return template_add_product(size, 6 * others, other_len);
}
