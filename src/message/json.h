/*
 * json.h
 *		JSON (RFC 8259) read into a flat tree over one canonical copy of its text.
 *
 * Made for copying values into payloads: every node knows its slice of the
 * text, the text holds no insignificant white space, numbers stand as they
 * were written (no detour through binary floating point: 19.99 stays 19.99
 * and 20-digit integers stay whole), and strings carry no escape that JSON
 * does not require.  So a value is copied by one memcpy.
 *
 * Refused: ill-formed UTF-8, unpaired surrogates, NUL characters, nesting
 * deeper than NOTIF_JSON_MAX_DEPTH, texts longer than NOTIF_JSON_MAX.
 * A document is one allocation and never changes after parsing.
 */
#ifndef NOTIF_MESSAGE_JSON_H
#define NOTIF_MESSAGE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/buf.h"
#include "../core/status.h"

#define NOTIF_JSON_MAX			(1024 * 1024)	/* bytes of text */
#define NOTIF_JSON_MAX_DEPTH	64

/* Bits, so that a reader can name the set of kinds it accepts. */
typedef enum NotifJsonKind
{
	NOTIF_JSON_NULL = 1,
	NOTIF_JSON_BOOL = 2,
	NOTIF_JSON_NUMBER = 4,
	NOTIF_JSON_STRING = 8,
	NOTIF_JSON_ARRAY = 16,
	NOTIF_JSON_OBJECT = 32
} NotifJsonKind;

typedef struct NotifJsonNode
{
	uint32_t	start;			/* of its slice in text; strings with quotes */
	uint32_t	len;
	uint32_t	end;			/* index of the first node behind its subtree */
	uint8_t		kind;			/* NotifJsonKind */
	bool		escaped;		/* a string that holds a backslash */
} NotifJsonNode;

/*
 * Node 0 is the document's value.  The children of an array begin at its index
 * plus one; each next one is at the end of the one before.  An object's
 * children alternate: key (a string), value.
 */
typedef struct NotifJson
{
	const char *text;			/* canonical, NUL-terminated */
	size_t		len;
	const NotifJsonNode *nodes;
	uint32_t	n_nodes;
} NotifJson;

/*
 * Parses one JSON value with optional white space around it.  NOTIF_EINVAL:
 * *error_at (may be NULL) is the byte offset at which text stops being JSON.
 * NOTIF_ETOOBIG, NOTIF_ENOMEM.  The caller frees the result.
 */
NotifStatus notif_json_parse(const char *text, size_t len, NotifJson **json, size_t *error_at);
void		notif_json_free(NotifJson *json);	/* accepts NULL */

/* Index of the value of an object's member, 0 if there is none (node 0 is
 * nobody's member).  Of equal names the last one counts. */
uint32_t	notif_json_member(const NotifJson *json, uint32_t object,
							  const char *name, size_t name_len);

/* Index of an array's element, counted from 0; 0 if there is none. */
uint32_t	notif_json_element(const NotifJson *json, uint32_t array, uint32_t n);

/* True if the string node reads exactly as name. */
bool		notif_json_is(const NotifJson *json, uint32_t node, const char *name);

/* Appends the characters that a string node stands for. */
NotifStatus notif_json_decode(const NotifJson *json, uint32_t node, NotifBuf *buf);

/* Appends text as the content of a JSON string (no quotes); ill-formed UTF-8
 * becomes U+FFFD. */
NotifStatus notif_json_escape(NotifBuf *buf, const char *text, size_t len);

#endif							/* NOTIF_MESSAGE_JSON_H */
