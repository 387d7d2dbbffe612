/*
 * version.h
 *		Which release library and objects are of; see version.c.
 */
#ifndef NOTIF_VERSION_H
#define NOTIF_VERSION_H

#ifndef NOTIF_RELEASE
#error "NOTIF_RELEASE is not defined: build with the Makefile"
#endif

/* The loaded library's: the Makefile passes what notif.control says, unquoted. */
#define NOTIF_VERSION NOTIF_AS_STRING(NOTIF_RELEASE)
#define NOTIF_AS_STRING(words) NOTIF_QUOTE(words)
#define NOTIF_QUOTE(words) #words

/*
 * The version of the extension in this database as pg_extension has it, palloc'd in
 * the current context; NULL if there is none.  Inside a transaction.
 */
extern char *notif_extension_version(void);

#endif							/* NOTIF_VERSION_H */
