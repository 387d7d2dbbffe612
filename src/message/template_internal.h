/*
 * template_internal.h
 *		The program that template.c compiles and template_render.c runs.
 */
#ifndef NOTIF_MESSAGE_TEMPLATE_INTERNAL_H
#define NOTIF_MESSAGE_TEMPLATE_INTERNAL_H

#include "template.h"

typedef enum TemplateOpKind
{
	TEMPLATE_LITERAL,
	TEMPLATE_TEXT,				/* a value as plain text */
	TEMPLATE_STRING,			/* a value as content of a JSON string */
	TEMPLATE_VALUE,				/* a JSON value */
	TEMPLATE_MEMBERS			/* members of data */
} TemplateOpKind;

typedef enum TemplateSource
{
	TEMPLATE_FROM_DATA,
	TEMPLATE_FROM_ATTRIBUTES,
	TEMPLATE_FROM_REF,
	TEMPLATE_FROM_LOCALE,
	TEMPLATE_FROM_EVENT,
	TEMPLATE_FROM_TYPE,
	TEMPLATE_FROM_TIMESTAMP
} TemplateSource;

typedef struct TemplateOp
{
	uint8_t		kind;			/* TemplateOpKind */
	uint8_t		source;			/* TemplateSource of a hole */
	uint8_t		accept;			/* of TEMPLATE_VALUE */
	bool		comma;			/* of TEMPLATE_MEMBERS */
	uint32_t	at;				/* literal: in literals; hole: name in names;
								 * members: excepted names in names, each
								 * NUL-terminated */
	uint32_t	len;
	uint32_t	path;			/* hole: where in names the path begins that is
								 * looked up, NUL-terminated with the name */
} TemplateOp;

struct NotifTemplate
{
	NotifBuf	literals;
	NotifBuf	names;
	TemplateOp *ops;
	int			n_ops;
	int			size_ops;		/* allocated */
	int			n_holes;
};

#endif							/* NOTIF_MESSAGE_TEMPLATE_INTERNAL_H */
