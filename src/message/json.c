/*
 * json.c
 *		The JSON reader; see json.h.
 *
 * Recursive descent, bounded by NOTIF_JSON_MAX_DEPTH.  The number of nodes is
 * bounded before parsing by the bytes that can precede a value or a key
 * ({ [ , :), so one allocation holds the header, the nodes and the text, and
 * parsing itself cannot run out of memory.  The canonical text is never longer
 * than the input: white space goes, escapes only shrink.
 */
#include "json.h"

#include <string.h>

#include "../core/mem.h"
#include "../core/text.h"

typedef struct JsonParser
{
	const char *in;
	const char *at;
	const char *end;
	char	   *text;			/* canonical output */
	uint32_t	len;
	NotifJsonNode *nodes;
	uint32_t	n_nodes;
} JsonParser;

/* 1: a byte that a string holds as it is */
static bool
json_is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void
json_skip_space(JsonParser *p)
{
	while (p->at < p->end &&
		   (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r'))
		p->at++;
}

static uint32_t
json_open_node(JsonParser *p, NotifJsonKind kind)
{
	NotifJsonNode *node = &p->nodes[p->n_nodes];

	node->start = p->len;
	node->kind = (uint8_t) kind;
	node->escaped = false;
	return p->n_nodes++;
}

static void
json_close_node(JsonParser *p, uint32_t index)
{
	p->nodes[index].len = p->len - p->nodes[index].start;
	p->nodes[index].end = p->n_nodes;
}

static int
json_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Four hex digits at p->at; -1 if they are not. */
static int
json_hex4(JsonParser *p)
{
	int			value = 0;

	if (p->end - p->at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int			digit = json_hex_digit(p->at[i]);

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	p->at += 4;
	return value;
}

static void
json_put_utf8(JsonParser *p, uint32_t cp)
{
	char	   *out = p->text + p->len;

	if (cp < 0x80)
	{
		out[0] = (char) cp;
		p->len += 1;
	}
	else if (cp < 0x800)
	{
		out[0] = (char) (0xC0 | (cp >> 6));
		out[1] = (char) (0x80 | (cp & 0x3F));
		p->len += 2;
	}
	else if (cp < 0x10000)
	{
		out[0] = (char) (0xE0 | (cp >> 12));
		out[1] = (char) (0x80 | ((cp >> 6) & 0x3F));
		out[2] = (char) (0x80 | (cp & 0x3F));
		p->len += 3;
	}
	else
	{
		out[0] = (char) (0xF0 | (cp >> 18));
		out[1] = (char) (0x80 | ((cp >> 12) & 0x3F));
		out[2] = (char) (0x80 | ((cp >> 6) & 0x3F));
		out[3] = (char) (0x80 | (cp & 0x3F));
		p->len += 4;
	}
}

/* The shortest JSON escape of a character that needs one; returns its length. */
static size_t
json_escape_char(unsigned char c, char out[6])
{
	static const char hex[] = "0123456789abcdef";
	static const char from[] = "\b\f\n\r\t\"\\";
	static const char to[] = "bfnrt\"\\";

	out[0] = '\\';
	for (int i = 0; from[i] != '\0'; i++)
	{
		if ((unsigned char) from[i] == c)
		{
			out[1] = to[i];
			return 2;
		}
	}
	out[1] = 'u';
	out[2] = '0';
	out[3] = '0';
	out[4] = hex[c >> 4];
	out[5] = hex[c & 15];
	return 6;
}

/* What follows a backslash; p->at is behind the backslash. */
static bool
json_parse_escape(JsonParser *p, NotifJsonNode *node)
{
	uint32_t	cp;
	int			unit;

	if (p->at == p->end)
		return false;
	switch (*p->at++)
	{
		case '"':
			cp = '"';
			break;
		case '\\':
			cp = '\\';
			break;
		case '/':
			cp = '/';
			break;
		case 'b':
			cp = '\b';
			break;
		case 'f':
			cp = '\f';
			break;
		case 'n':
			cp = '\n';
			break;
		case 'r':
			cp = '\r';
			break;
		case 't':
			cp = '\t';
			break;
		case 'u':
			unit = json_hex4(p);
			if (unit <= 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
				return false;	/* NUL, or a low surrogate alone */
			cp = (uint32_t) unit;
			if (unit >= 0xD800 && unit <= 0xDBFF)
			{
				if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u')
					return false;
				p->at += 2;
				unit = json_hex4(p);
				if (unit < 0xDC00 || unit > 0xDFFF)
					return false;
				cp = 0x10000 + ((cp - 0xD800) << 10) + ((uint32_t) unit - 0xDC00);
			}
			break;
		default:
			p->at--;
			return false;
	}
	if (cp < 0x20 || cp == '"' || cp == '\\')
	{
		p->len += (uint32_t) json_escape_char((unsigned char) cp, p->text + p->len);
		node->escaped = true;
	}
	else
		json_put_utf8(p, cp);
	return true;
}

static bool
json_parse_string(JsonParser *p)
{
	uint32_t	index = json_open_node(p, NOTIF_JSON_STRING);

	p->at++;
	p->text[p->len++] = '"';
	while (p->at < p->end)
	{
		const char *from = p->at;
		size_t		n;

		while (p->at < p->end && json_is_plain((unsigned char) *p->at))
			p->at++;
		n = (size_t) (p->at - from);
		memcpy(p->text + p->len, from, n);
		p->len += (uint32_t) n;
		if (p->at == p->end)
			return false;
		if (*p->at == '"')
		{
			p->at++;
			p->text[p->len++] = '"';
			json_close_node(p, index);
			return true;
		}
		if (*p->at == '\\')
		{
			p->at++;
			if (!json_parse_escape(p, &p->nodes[index]))
				return false;
			continue;
		}
		n = (unsigned char) *p->at < 0x20 ? 0 :
			notif_text_sequence(p->at, (size_t) (p->end - p->at));
		if (n == 0)
			return false;
		memcpy(p->text + p->len, p->at, n);
		p->len += (uint32_t) n;
		p->at += n;
	}
	return false;
}

static bool
json_digits(JsonParser *p)
{
	const char *from = p->at;

	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return p->at > from;
}

static bool
json_parse_number(JsonParser *p)
{
	const char *from = p->at;
	uint32_t	index = json_open_node(p, NOTIF_JSON_NUMBER);
	size_t		n;

	if (*p->at == '-')
		p->at++;
	if (p->at < p->end && *p->at == '0')
		p->at++;
	else if (!json_digits(p))
		return false;
	if (p->at < p->end && *p->at == '.')
	{
		p->at++;
		if (!json_digits(p))
			return false;
	}
	if (p->at < p->end && (*p->at == 'e' || *p->at == 'E'))
	{
		p->at++;
		if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
			p->at++;
		if (!json_digits(p))
			return false;
	}
	n = (size_t) (p->at - from);
	memcpy(p->text + p->len, from, n);
	p->len += (uint32_t) n;
	json_close_node(p, index);
	return true;
}

static bool
json_parse_word(JsonParser *p, const char *word, NotifJsonKind kind)
{
	size_t		n = strlen(word);
	uint32_t	index;

	if ((size_t) (p->end - p->at) < n || memcmp(p->at, word, n) != 0)
		return false;
	index = json_open_node(p, kind);
	memcpy(p->text + p->len, word, n);
	p->len += (uint32_t) n;
	p->at += n;
	json_close_node(p, index);
	return true;
}

static bool json_parse_value(JsonParser *p, int depth);

/* Array or object; p->at is at the opening bracket. */
static bool
json_parse_container(JsonParser *p, int depth)
{
	bool		object = *p->at == '{';
	char		close = object ? '}' : ']';
	uint32_t	index;

	if (depth >= NOTIF_JSON_MAX_DEPTH)
		return false;
	index = json_open_node(p, object ? NOTIF_JSON_OBJECT : NOTIF_JSON_ARRAY);
	p->text[p->len++] = *p->at++;
	json_skip_space(p);
	if (p->at < p->end && *p->at == close)
	{
		p->text[p->len++] = *p->at++;
		json_close_node(p, index);
		return true;
	}
	for (;;)
	{
		if (object)
		{
			json_skip_space(p);
			if (p->at == p->end || *p->at != '"' || !json_parse_string(p))
				return false;
			json_skip_space(p);
			if (p->at == p->end || *p->at != ':')
				return false;
			p->text[p->len++] = *p->at++;
		}
		if (!json_parse_value(p, depth + 1))
			return false;
		json_skip_space(p);
		if (p->at == p->end)
			return false;
		if (*p->at == close)
		{
			p->text[p->len++] = *p->at++;
			json_close_node(p, index);
			return true;
		}
		if (*p->at != ',')
			return false;
		p->text[p->len++] = *p->at++;
	}
}

static bool
json_parse_value(JsonParser *p, int depth)
{
	json_skip_space(p);
	if (p->at == p->end)
		return false;
	switch (*p->at)
	{
		case '{':
		case '[':
			return json_parse_container(p, depth);
		case '"':
			return json_parse_string(p);
		case 't':
			return json_parse_word(p, "true", NOTIF_JSON_BOOL);
		case 'f':
			return json_parse_word(p, "false", NOTIF_JSON_BOOL);
		case 'n':
			return json_parse_word(p, "null", NOTIF_JSON_NULL);
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return json_parse_number(p);
		default:
			return false;
	}
}

NotifStatus
notif_json_parse(const char *text, size_t len, NotifJson **json, size_t *error_at)
{
	JsonParser	p = {.in = text, .at = text, .end = text + len};
	size_t		max_nodes = 1;
	NotifJson  *doc;
	bool		ok;

	*json = NULL;
	if (error_at != NULL)
		*error_at = 0;
	if (len > NOTIF_JSON_MAX)
		return NOTIF_ETOOBIG;
	for (size_t i = 0; i < len; i++)
		max_nodes += text[i] == ',' || text[i] == ':' || text[i] == '[' || text[i] == '{';
	doc = notif_malloc(sizeof(NotifJson) + max_nodes * sizeof(NotifJsonNode) + len + 1);
	if (doc == NULL)
		return NOTIF_ENOMEM;
	p.nodes = (NotifJsonNode *) (doc + 1);
	p.text = (char *) (p.nodes + max_nodes);
	ok = json_parse_value(&p, 0);
	if (ok)
	{
		json_skip_space(&p);
		ok = p.at == p.end;
	}
	if (!ok)
	{
		if (error_at != NULL)
			*error_at = (size_t) (p.at - p.in);
		notif_free(doc);
		return NOTIF_EINVAL;
	}
	p.text[p.len] = '\0';
	doc->text = p.text;
	doc->len = p.len;
	doc->nodes = p.nodes;
	doc->n_nodes = p.n_nodes;
	*json = doc;
	return NOTIF_OK;
}

void
notif_json_free(NotifJson *json)
{
	notif_free(json);
}

uint32_t
notif_json_member(const NotifJson *json, uint32_t object, const char *name, size_t name_len)
{
	const NotifJsonNode *nodes = json->nodes;
	uint32_t	end = nodes[object].end;
	uint32_t	found = 0;

	if (nodes[object].kind != NOTIF_JSON_OBJECT)
		return 0;
	for (uint32_t key = object + 1; key < end; key = nodes[key + 1].end)
	{
		/* a canonical key with an escape equals no name that has none */
		if (nodes[key].len == name_len + 2 &&
			memcmp(json->text + nodes[key].start + 1, name, name_len) == 0)
			found = key + 1;
	}
	return found;
}

uint32_t
notif_json_element(const NotifJson *json, uint32_t array, uint32_t n)
{
	const NotifJsonNode *nodes = json->nodes;

	if (nodes[array].kind != NOTIF_JSON_ARRAY)
		return 0;
	for (uint32_t child = array + 1; child < nodes[array].end; child = nodes[child].end)
	{
		if (n-- == 0)
			return child;
	}
	return 0;
}

bool
notif_json_is(const NotifJson *json, uint32_t node, const char *name)
{
	size_t		len = strlen(name);

	return json->nodes[node].kind == NOTIF_JSON_STRING &&
		json->nodes[node].len == len + 2 &&
		memcmp(json->text + json->nodes[node].start + 1, name, len) == 0;
}

NotifStatus
notif_json_decode(const NotifJson *json, uint32_t node, NotifBuf *buf)
{
	const NotifJsonNode *n = &json->nodes[node];
	const char *at = json->text + n->start + 1;
	const char *end = json->text + n->start + n->len - 1;
	size_t		before = buf->len;
	NotifStatus status = NOTIF_OK;

	if (!n->escaped)
		return notif_buf_add(buf, at, (size_t) (end - at));
	while (at < end && status == NOTIF_OK)
	{
		const char *from = at;

		while (at < end && *at != '\\')
			at++;
		status = notif_buf_add(buf, from, (size_t) (at - from));
		if (at == end || status != NOTIF_OK)
			break;

		/* canonical text holds only the escapes of json_escape_char */
		switch (at[1])
		{
			case 'b':
				status = notif_buf_addc(buf, '\b');
				break;
			case 'f':
				status = notif_buf_addc(buf, '\f');
				break;
			case 'n':
				status = notif_buf_addc(buf, '\n');
				break;
			case 'r':
				status = notif_buf_addc(buf, '\r');
				break;
			case 't':
				status = notif_buf_addc(buf, '\t');
				break;
			case 'u':
				status = notif_buf_addc(buf, (char) (json_hex_digit(at[4]) * 16 +
													 json_hex_digit(at[5])));
				at += 4;
				break;
			default:
				status = notif_buf_addc(buf, at[1]);
				break;
		}
		at += 2;
	}
	if (status != NOTIF_OK && buf->data != NULL)
	{
		buf->len = before;
		buf->data[before] = '\0';
	}
	return status;
}

NotifStatus
notif_json_escape(NotifBuf *buf, const char *text, size_t len)
{
	size_t		before = buf->len;
	size_t		pos = 0;
	NotifStatus status = NOTIF_OK;

	while (pos < len && status == NOTIF_OK)
	{
		size_t		from = pos;
		size_t		n = 1;

		while (pos < len && (json_is_plain((unsigned char) text[pos]) ||
							 ((unsigned char) text[pos] >= 0x80 &&
							  (n = notif_text_sequence(text + pos, len - pos)) > 0)))
		{
			pos += n;
			n = 1;
		}
		status = notif_buf_add(buf, text + from, pos - from);
		if (pos < len && status == NOTIF_OK)
		{
			char		escape[6];

			if ((unsigned char) text[pos] >= 0x80)
				status = notif_buf_adds(buf, "\xEF\xBF\xBD");
			else
				status = notif_buf_add(buf, escape,
									   json_escape_char((unsigned char) text[pos], escape));
			pos++;
		}
	}
	if (status != NOTIF_OK && buf->data != NULL)
	{
		buf->len = before;
		buf->data[before] = '\0';
	}
	return status;
}
