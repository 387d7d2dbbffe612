/*
 * registry.c
 *		All providers, one line each; see provider.h.
 */
#include <string.h>

#include "apns.h"

static const NotifProviderOps *const registry[] = {
	&notif_apns_ops,
};

const NotifProviderOps *
notif_provider_find(const char *kind)
{
	for (size_t i = 0; i < sizeof(registry) / sizeof(registry[0]); i++)
	{
		if (strcmp(registry[i]->kind, kind) == 0)
			return registry[i];
	}
	return NULL;
}
