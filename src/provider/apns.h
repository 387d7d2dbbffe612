/*
 * apns.h
 *		Apple Push Notification service: what other modules may use beside the
 *		provider interface (provider.h).
 */
#ifndef NOTIF_PROVIDER_APNS_H
#define NOTIF_PROVIDER_APNS_H

#include <stdbool.h>

#include "provider.h"

extern const NotifProviderOps notif_apns_ops;

/* True if token can be a device token: hex digits, an even number, 8 … 200. */
bool		notif_apns_token_valid(const char *token);

#endif							/* NOTIF_PROVIDER_APNS_H */
