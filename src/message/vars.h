/*
 * vars.h
 *		The values that a template's placeholders read: the event's data, the
 *		recipient's attributes, and a few names of notif's own.
 *
 *		{name}, {a.b}, {a.0.b}   members of the event's data (an object), and
 *		                         elements of arrays, counted from 0
 *		{recipient.ref}          the application's name of the recipient
 *		{recipient.locale}       his locale, "" if unknown
 *		{recipient.x}            member x of his attributes
 *		{notif.event}, {notif.type}, {notif.timestamp}   event id, type name,
 *		                         the event's time in UNIX seconds
 */
#ifndef NOTIF_MESSAGE_VARS_H
#define NOTIF_MESSAGE_VARS_H

#include <stddef.h>
#include <stdint.h>

#include "../core/status.h"

typedef struct NotifData NotifData; /* a parsed JSON object, reference-counted */

typedef struct NotifVars
{
	const NotifData *data;		/* event data; NULL reads as {} */
	const NotifData *attributes;	/* recipient's; NULL reads as {} */
	const char *recipient_ref;
	const char *recipient_locale;
	const char *event_id;
	const char *type_name;
	int64_t		event_time_s;
} NotifVars;

/* Parses JSON text that must be an object; NOTIF_EINVAL otherwise.  Depth is
 * bounded.  The caller owns the result and frees it. */
NotifStatus notif_data_parse(const char *json, size_t len, NotifData **data);
void		notif_data_free(NotifData *data);	/* accepts NULL */

#endif							/* NOTIF_MESSAGE_VARS_H */
