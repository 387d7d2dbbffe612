/*
 * data.h
 *		What NotifData is, for the renderer and for code that shares one parse.
 *
 * A NotifData is an immutable JSON object with a reference count: one parse of
 * an event's data serves every delivery made from it.  The count is not
 * atomic: an object belongs to one thread.
 */
#ifndef NOTIF_MESSAGE_DATA_H
#define NOTIF_MESSAGE_DATA_H

#include "json.h"
#include "vars.h"

struct NotifData
{
	int			refs;
	NotifJson  *json;			/* node 0 is an object */
};

/* One more owner; every owner calls notif_data_free. */
NotifData  *notif_data_ref(NotifData *data);

/* Bytes of the object as compact JSON text: what template bounds count with. */
size_t		notif_data_size(const NotifData *data); /* NULL counts as {} */

/* The compact JSON text; lives as long as data. */
const char *notif_data_text(const NotifData *data);

#endif							/* NOTIF_MESSAGE_DATA_H */
