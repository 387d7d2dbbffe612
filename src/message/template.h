/*
 * template.h
 *		Templates: parse once, render many.
 *
 * A template is a flat program of literal bytes and holes.  It is built from
 * pieces: plain bytes, text with placeholders, JSON values whose strings hold
 * placeholders.  Rendering concatenates.
 *
 * In text, {name} is a placeholder (names: vars.h), {{ and }} are literal
 * braces.  What a placeholder puts into text: strings as they are, numbers and
 * booleans by their JSON text; an object or array there is an error; null, and
 * what is not there, is missing.
 *
 * In JSON, a string value that is exactly one placeholder is replaced by the
 * JSON value itself, whatever its type, null included; any other string value
 * is text as above.  Names of members are taken as they stand.
 */
#ifndef NOTIF_MESSAGE_TEMPLATE_H
#define NOTIF_MESSAGE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../core/buf.h"
#include "../core/status.h"
#include "json.h"
#include "vars.h"

#define NOTIF_TEMPLATE_TEXT_MAX		(64 * 1024) /* bytes of source text */
#define NOTIF_TEMPLATE_HOLES_MAX	256
#define NOTIF_TEMPLATE_NAME_MAX		128 /* bytes of a placeholder's name */

typedef struct NotifTemplate NotifTemplate;

/* What the text around a hole is. */
typedef enum NotifTemplateForm
{
	NOTIF_TEMPLATE_PLAIN,		/* text for people */
	NOTIF_TEMPLATE_STRING		/* content of a JSON string: escaped */
} NotifTemplateForm;

/* Accepted kinds of a value that replaces a whole JSON string: a set of
 * NotifJsonKind, or only whole numbers. */
#define NOTIF_TEMPLATE_ANY		63
#define NOTIF_TEMPLATE_INTEGER	64

/*
 * In all functions below error (may be NULL if error_size is 0) gets one line;
 * "byte n" in it counts from 1.  NOTIF_EINVAL: malformed.  NOTIF_ETOOBIG: over
 * a cap above.  After an error of an add the template can only be freed.
 */

/* A whole template in one call: text with placeholders, rendered as text. */
NotifStatus notif_template_new_text(const char *text, size_t len, NotifTemplate **tmpl,
									char *error, size_t error_size);

/* A whole template in one call: one JSON document. */
NotifStatus notif_template_new_json(const char *json, size_t len, NotifTemplate **tmpl,
									char *error, size_t error_size);

/* An empty template to add pieces to; NULL when out of memory. */
NotifTemplate *notif_template_new(void);
void		notif_template_free(NotifTemplate *tmpl);	/* accepts NULL */

/* Bytes copied as they are. */
NotifStatus notif_template_add_literal(NotifTemplate *tmpl, const char *bytes, size_t len);

/* Text with placeholders. */
NotifStatus notif_template_add_text(NotifTemplate *tmpl, const char *text, size_t len,
									NotifTemplateForm form, char *error, size_t error_size);

/* True if the string node is exactly one placeholder. */
bool		notif_template_is_hole(const NotifJson *json, uint32_t node);

/* The JSON value at node of json; accept restricts what may replace it if it
 * is exactly one placeholder (null, where not accepted, is missing). */
NotifStatus notif_template_add_json(NotifTemplate *tmpl, const NotifJson *json, uint32_t node,
									unsigned accept, char *error, size_t error_size);

/*
 * All members of the event's data as they stand, except those named (n_except
 * names).  With comma, each is preceded by a comma, so that they follow other
 * members; without, they are separated by commas.
 */
NotifStatus notif_template_add_members(NotifTemplate *tmpl, const char *const *except,
									   int n_except, bool comma);

/*
 * Appends the rendering to buf.  NOTIF_EMISSING: a placeholder has no value,
 * error is its name.  NOTIF_EINVAL: a value has a kind that cannot stand there,
 * error says which.  NOTIF_ETOOBIG: over buf's cap.  On an error buf holds what
 * it held before.
 */
NotifStatus notif_template_render(const NotifTemplate *tmpl, const NotifVars *vars,
								  NotifBuf *buf, char *error, size_t error_size);

/*
 * An upper bound of the rendered size, without rendering: data_len and
 * attributes_len are the compact JSON sizes of the event's data and of any
 * recipient's attributes (notif_data_size), other_len the most bytes of any of
 * the other values (recipient's reference and locale, type name, event id).
 *
 * It holds because distinct members are disjoint slices of the JSON text, and
 * no slice grows when it is copied: the sum over all holes is at most the
 * JSON's size times the largest number of holes that read one and the same
 * byte.  Names and ids may grow sixfold by escaping.
 */
size_t		notif_template_max_size(const NotifTemplate *tmpl, size_t data_len,
									size_t attributes_len, size_t other_len);

/* Calls visit once per distinct placeholder, in order of first appearance. */
void		notif_template_vars(const NotifTemplate *tmpl,
								void (*visit) (void *ud, const char *name), void *ud);

#endif							/* NOTIF_MESSAGE_TEMPLATE_H */
