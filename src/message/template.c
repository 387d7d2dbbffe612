/*
 * template.c
 *		Compiling templates; see template.h.  Rendering is template_render.c.
 *
 * Literal bytes of all pieces lie in one pool, names in another; neighbouring
 * literals become one.  Everything that can be decided without values (names,
 * braces, caps, escaping of literal text) is decided here, so that rendering
 * has few ways to fail.
 */
#include <stdio.h>
#include <string.h>

#include "../core/mem.h"
#include "../core/text.h"
#include "template_internal.h"

/* Escaping may blow literal text up sixfold. */
#define TEMPLATE_LITERALS_CAP	(6 * NOTIF_TEMPLATE_TEXT_MAX)
#define TEMPLATE_NAMES_CAP		(NOTIF_TEMPLATE_HOLES_MAX * (NOTIF_TEMPLATE_NAME_MAX + 1))

#define template_error(error, error_size, ...) \
	do { \
		if ((error_size) > 0) \
			snprintf((error), (error_size), __VA_ARGS__); \
	} while (0)

NotifTemplate *
notif_template_new(void)
{
	NotifTemplate *tmpl = notif_calloc(1, sizeof(NotifTemplate));

	if (tmpl == NULL)
		return NULL;
	notif_buf_init(&tmpl->literals, TEMPLATE_LITERALS_CAP);
	notif_buf_init(&tmpl->names, TEMPLATE_NAMES_CAP);
	return tmpl;
}

void
notif_template_free(NotifTemplate *tmpl)
{
	if (tmpl == NULL)
		return;
	notif_buf_free(&tmpl->literals);
	notif_buf_free(&tmpl->names);
	notif_free(tmpl->ops);
	notif_free(tmpl);
}

/* A new op at the end; NULL when out of memory. */
static TemplateOp *
template_push(NotifTemplate *tmpl, TemplateOpKind kind)
{
	TemplateOp *op;

	if (tmpl->n_ops == tmpl->size_ops)
	{
		int			size = tmpl->size_ops > 0 ? 2 * tmpl->size_ops : 16;
		TemplateOp *ops = notif_realloc(tmpl->ops, (size_t) size * sizeof(TemplateOp));

		if (ops == NULL)
			return NULL;
		tmpl->ops = ops;
		tmpl->size_ops = size;
	}
	op = &tmpl->ops[tmpl->n_ops++];
	memset(op, 0, sizeof(*op));
	op->kind = (uint8_t) kind;
	return op;
}

/* Adds bytes, escaped for a JSON string if asked, to the literal at the end. */
static NotifStatus
template_literal(NotifTemplate *tmpl, const char *bytes, size_t len, bool escape)
{
	size_t		before = tmpl->literals.len;
	TemplateOp *op;
	NotifStatus status;

	if (len == 0)
		return NOTIF_OK;
	status = escape ? notif_json_escape(&tmpl->literals, bytes, len) :
		notif_buf_add(&tmpl->literals, bytes, len);
	if (status != NOTIF_OK)
		return status;
	if (tmpl->n_ops > 0 && tmpl->ops[tmpl->n_ops - 1].kind == TEMPLATE_LITERAL)
		op = &tmpl->ops[tmpl->n_ops - 1];
	else
	{
		op = template_push(tmpl, TEMPLATE_LITERAL);
		if (op == NULL)
			return NOTIF_ENOMEM;
		op->at = (uint32_t) before;
	}
	op->len += (uint32_t) (tmpl->literals.len - before);
	return NOTIF_OK;
}

NotifStatus
notif_template_add_literal(NotifTemplate *tmpl, const char *bytes, size_t len)
{
	return template_literal(tmpl, bytes, len, false);
}

/* Length of the name that text begins with, up to what cannot be in a name. */
static size_t
template_name_len(const char *text, size_t len)
{
	size_t		pos = 0;

	while (pos < len)
	{
		unsigned char c = (unsigned char) text[pos];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  c == '_' || c == '-' || c == '.' || c >= 0x80))
			break;
		pos++;
	}
	return pos;
}

/* Which value the name reads; false for a name that can never have one. */
static bool
template_resolve(const char *name, size_t len, TemplateSource *source, size_t *path)
{
	static const struct
	{
		const char *name;
		TemplateSource source;
	}			fixed[] = {
		{"recipient.ref", TEMPLATE_FROM_REF},
		{"recipient.locale", TEMPLATE_FROM_LOCALE},
		{"notif.event", TEMPLATE_FROM_EVENT},
		{"notif.type", TEMPLATE_FROM_TYPE},
		{"notif.timestamp", TEMPLATE_FROM_TIMESTAMP},
	};
	static const char recipient[] = "recipient.";

	*path = 0;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
	{
		if (strlen(fixed[i].name) == len && memcmp(fixed[i].name, name, len) == 0)
		{
			*source = fixed[i].source;
			return true;
		}
	}
	if ((len == 5 && memcmp(name, "notif", 5) == 0) ||
		(len > 5 && memcmp(name, "notif.", 6) == 0) ||
		(len == 9 && memcmp(name, "recipient", 9) == 0))
		return false;
	if (len >= sizeof(recipient) && memcmp(name, recipient, sizeof(recipient) - 1) == 0)
	{
		*source = TEMPLATE_FROM_ATTRIBUTES;
		*path = sizeof(recipient) - 1;
		return true;
	}
	*source = TEMPLATE_FROM_DATA;
	return true;
}

/* Adds a hole for name, which stands at byte offset pos of its text. */
static NotifStatus
template_hole(NotifTemplate *tmpl, TemplateOpKind kind, const char *name, size_t len,
			  size_t pos, unsigned accept, char *error, size_t error_size)
{
	TemplateSource source;
	TemplateOp *op;
	uint32_t	at = (uint32_t) tmpl->names.len;
	size_t		path;
	NotifStatus status;

	if (len > NOTIF_TEMPLATE_NAME_MAX)
	{
		template_error(error, error_size, "byte %zu: placeholder name longer than %d bytes",
					   pos + 1, NOTIF_TEMPLATE_NAME_MAX);
		return NOTIF_ETOOBIG;
	}
	for (size_t i = 0; i < len; i++)
	{
		if (name[i] == '.' && (i == 0 || i + 1 == len || name[i + 1] == '.'))
		{
			template_error(error, error_size, "byte %zu: empty part in placeholder {%.*s}",
						   pos + 1, (int) len, name);
			return NOTIF_EINVAL;
		}
	}
	if (!template_resolve(name, len, &source, &path))
	{
		template_error(error, error_size, "byte %zu: there is no value {%.*s}",
					   pos + 1, (int) len, name);
		return NOTIF_EINVAL;
	}
	if (tmpl->n_holes == NOTIF_TEMPLATE_HOLES_MAX)
	{
		template_error(error, error_size, "byte %zu: more than %d placeholders",
					   pos + 1, NOTIF_TEMPLATE_HOLES_MAX);
		return NOTIF_ETOOBIG;
	}
	status = notif_buf_add(&tmpl->names, name, len);
	if (status == NOTIF_OK)
		status = notif_buf_addc(&tmpl->names, '\0');
	if (status != NOTIF_OK)
		return status;
	op = template_push(tmpl, kind);
	if (op == NULL)
		return NOTIF_ENOMEM;
	op->source = (uint8_t) source;
	op->accept = (uint8_t) accept;
	op->at = at;
	op->len = (uint32_t) len;
	op->path = at + (uint32_t) path;
	tmpl->n_holes++;
	return NOTIF_OK;
}

NotifStatus
notif_template_add_text(NotifTemplate *tmpl, const char *text, size_t len,
						NotifTemplateForm form, char *error, size_t error_size)
{
	TemplateOpKind kind = form == NOTIF_TEMPLATE_PLAIN ? TEMPLATE_TEXT : TEMPLATE_STRING;
	bool		escape = form == NOTIF_TEMPLATE_STRING;
	size_t		pos = 0;
	size_t		from = 0;		/* literal text not added yet */
	NotifStatus status = NOTIF_OK;

	if (len > NOTIF_TEMPLATE_TEXT_MAX)
	{
		template_error(error, error_size, "text of %zu bytes is longer than %d",
					   len, NOTIF_TEMPLATE_TEXT_MAX);
		return NOTIF_ETOOBIG;
	}
	if (!notif_text_valid(text, len) || memchr(text, '\0', len) != NULL)
	{
		template_error(error, error_size, "text is not valid UTF-8");
		return NOTIF_EINVAL;
	}
	while (pos < len)
	{
		char		c = text[pos];
		size_t		name_len;

		if (c != '{' && c != '}')
		{
			pos++;
			continue;
		}
		if (pos + 1 < len && text[pos + 1] == c)
		{
			/* a doubled brace: the first one belongs to the literal */
			status = template_literal(tmpl, text + from, pos + 1 - from, escape);
			if (status != NOTIF_OK)
				return status;
			pos += 2;
			from = pos;
			continue;
		}
		if (c == '}')
		{
			template_error(error, error_size,
						   "byte %zu: \"}\" without \"{\" (write \"}}\" for a brace)", pos + 1);
			return NOTIF_EINVAL;
		}
		name_len = template_name_len(text + pos + 1, len - pos - 1);
		if (pos + 1 + name_len == len)
		{
			template_error(error, error_size,
						   "byte %zu: \"{\" without \"}\" (write \"{{\" for a brace)", pos + 1);
			return NOTIF_EINVAL;
		}
		if (text[pos + 1 + name_len] != '}')
		{
			template_error(error, error_size,
						   "byte %zu: this character cannot be in a placeholder", pos + name_len + 2);
			return NOTIF_EINVAL;
		}
		if (name_len == 0)
		{
			template_error(error, error_size, "byte %zu: placeholder without a name", pos + 1);
			return NOTIF_EINVAL;
		}
		status = template_literal(tmpl, text + from, pos - from, escape);
		if (status == NOTIF_OK)
			status = template_hole(tmpl, kind, text + pos + 1, name_len, pos, 0,
								   error, error_size);
		if (status != NOTIF_OK)
			return status;
		pos += name_len + 2;
		from = pos;
	}
	return template_literal(tmpl, text + from, pos - from, escape);
}

bool
notif_template_is_hole(const NotifJson *json, uint32_t node)
{
	const NotifJsonNode *n = &json->nodes[node];
	const char *content = json->text + n->start + 1;
	size_t		name_len;

	/* names hold nothing that JSON escapes, so the slice can be looked at */
	if (n->kind != NOTIF_JSON_STRING || n->len < 5 || content[0] != '{')
		return false;
	name_len = template_name_len(content + 1, n->len - 3);
	return name_len > 0 && name_len + 4 == n->len && content[name_len + 1] == '}';
}

/* A string value of a JSON template. */
static NotifStatus
template_json_string(NotifTemplate *tmpl, const NotifJson *json, uint32_t node,
					 unsigned accept, char *error, size_t error_size)
{
	NotifBuf	text;
	NotifStatus status;

	if (notif_template_is_hole(json, node))
		return template_hole(tmpl, TEMPLATE_VALUE, json->text + json->nodes[node].start + 2,
							 json->nodes[node].len - 4, 0, accept, error, error_size);
	notif_buf_init(&text, NOTIF_TEMPLATE_TEXT_MAX);
	status = notif_json_decode(json, node, &text);
	if (status == NOTIF_ETOOBIG)
		template_error(error, error_size, "a string is longer than %d bytes",
					   NOTIF_TEMPLATE_TEXT_MAX);
	if (status != NOTIF_OK)
	{
		notif_buf_free(&text);
		return status;
	}
	status = template_literal(tmpl, "\"", 1, false);
	if (status == NOTIF_OK)
		status = notif_template_add_text(tmpl, notif_buf_text(&text), text.len,
										 NOTIF_TEMPLATE_STRING, error, error_size);
	if (status == NOTIF_OK)
		status = template_literal(tmpl, "\"", 1, false);
	notif_buf_free(&text);
	return status;
}

/* Recursion is bounded by NOTIF_JSON_MAX_DEPTH. */
NotifStatus
notif_template_add_json(NotifTemplate *tmpl, const NotifJson *json, uint32_t node,
						unsigned accept, char *error, size_t error_size)
{
	const NotifJsonNode *nodes = json->nodes;
	const NotifJsonNode *self = &nodes[node];
	bool		object = self->kind == NOTIF_JSON_OBJECT;
	NotifStatus status;

	if (self->kind == NOTIF_JSON_STRING)
		return template_json_string(tmpl, json, node, accept, error, error_size);
	if (!object && self->kind != NOTIF_JSON_ARRAY)
		return template_literal(tmpl, json->text + self->start, self->len, false);

	status = template_literal(tmpl, object ? "{" : "[", 1, false);
	for (uint32_t child = node + 1; child < self->end && status == NOTIF_OK;)
	{
		uint32_t	value = object ? child + 1 : child;

		if (child > node + 1)
			status = template_literal(tmpl, ",", 1, false);
		if (object && status == NOTIF_OK)
		{
			status = template_literal(tmpl, json->text + nodes[child].start,
									  nodes[child].len, false);
			if (status == NOTIF_OK)
				status = template_literal(tmpl, ":", 1, false);
		}
		if (status == NOTIF_OK)
			status = notif_template_add_json(tmpl, json, value, NOTIF_TEMPLATE_ANY,
											 error, error_size);
		child = nodes[value].end;
	}
	if (status == NOTIF_OK)
		status = template_literal(tmpl, object ? "}" : "]", 1, false);
	return status;
}

NotifStatus
notif_template_add_members(NotifTemplate *tmpl, const char *const *except, int n_except,
						   bool comma)
{
	uint32_t	at = (uint32_t) tmpl->names.len;
	TemplateOp *op;

	for (int i = 0; i < n_except; i++)
	{
		NotifStatus status = notif_buf_add(&tmpl->names, except[i], strlen(except[i]) + 1);

		if (status != NOTIF_OK)
			return status;
	}
	op = template_push(tmpl, TEMPLATE_MEMBERS);
	if (op == NULL)
		return NOTIF_ENOMEM;
	op->source = TEMPLATE_FROM_DATA;
	op->at = at;
	op->len = (uint32_t) tmpl->names.len - at;
	op->comma = comma;
	return NOTIF_OK;
}

NotifStatus
notif_template_new_text(const char *text, size_t len, NotifTemplate **tmpl,
						char *error, size_t error_size)
{
	NotifTemplate *result = notif_template_new();
	NotifStatus status;

	*tmpl = NULL;
	if (result == NULL)
		return NOTIF_ENOMEM;
	status = notif_template_add_text(result, text, len, NOTIF_TEMPLATE_PLAIN, error, error_size);
	if (status != NOTIF_OK)
	{
		notif_template_free(result);
		return status;
	}
	*tmpl = result;
	return NOTIF_OK;
}

NotifStatus
notif_template_new_json(const char *json, size_t len, NotifTemplate **tmpl,
						char *error, size_t error_size)
{
	NotifTemplate *result = NULL;
	NotifJson  *doc = NULL;
	size_t		error_at = 0;
	NotifStatus status = NOTIF_ETOOBIG;

	*tmpl = NULL;
	if (len > NOTIF_TEMPLATE_TEXT_MAX)
		template_error(error, error_size, "template of %zu bytes is longer than %d",
					   len, NOTIF_TEMPLATE_TEXT_MAX);
	else
	{
		status = notif_json_parse(json, len, &doc, &error_at);
		if (status == NOTIF_EINVAL)
			template_error(error, error_size, "byte %zu: not valid JSON", error_at + 1);
	}
	if (status != NOTIF_OK)
		return status;
	result = notif_template_new();
	status = result != NULL ?
		notif_template_add_json(result, doc, 0, NOTIF_TEMPLATE_ANY, error, error_size) :
		NOTIF_ENOMEM;
	notif_json_free(doc);
	if (status != NOTIF_OK)
	{
		notif_template_free(result);
		return status;
	}
	*tmpl = result;
	return NOTIF_OK;
}

void
notif_template_vars(const NotifTemplate *tmpl,
					void (*visit) (void *ud, const char *name), void *ud)
{
	for (int i = 0; i < tmpl->n_ops; i++)
	{
		const TemplateOp *op = &tmpl->ops[i];
		const char *name = tmpl->names.data + op->at;
		bool		seen = false;

		if (op->kind == TEMPLATE_LITERAL || op->kind == TEMPLATE_MEMBERS)
			continue;
		for (int j = 0; j < i && !seen; j++)
		{
			const TemplateOp *other = &tmpl->ops[j];

			seen = other->kind != TEMPLATE_LITERAL && other->kind != TEMPLATE_MEMBERS &&
				strcmp(tmpl->names.data + other->at, name) == 0;
		}
		if (!seen)
			visit(ud, name);
	}
}
