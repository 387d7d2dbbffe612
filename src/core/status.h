/*
 * status.h
 *		Status codes of the layers below PostgreSQL (core, crypto, message, net,
 *		provider).  0 is success, every error is negative.  Those layers never
 *		raise; the bridge above turns a status into an ereport.
 */
#ifndef NOTIF_CORE_STATUS_H
#define NOTIF_CORE_STATUS_H

typedef enum NotifStatus
{
	NOTIF_OK = 0,
	NOTIF_ENOMEM = -1,			/* out of memory; the call had no effect */
	NOTIF_ETOOBIG = -2,			/* a documented cap was reached */
	NOTIF_EINVAL = -3,			/* the input is malformed */
	NOTIF_EMISSING = -4,		/* something the input refers to is absent */
	NOTIF_ESTATE = -5,			/* the object cannot do this now */
	NOTIF_EIO = -6,				/* the operating system refused; see errno */
	NOTIF_ECRYPTO = -7			/* the TLS or signing library refused */
} NotifStatus;

#endif							/* NOTIF_CORE_STATUS_H */
