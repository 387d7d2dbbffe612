/*
 * text.h
 *		UTF-8: validation, sanitising of foreign text, truncation.
 */
#ifndef NOTIF_CORE_TEXT_H
#define NOTIF_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes of the well-formed UTF-8 sequence that text begins with (1 … 4), 0 if
 * it begins with none.  Overlong forms, surrogates and code points above
 * U+10FFFF are not well-formed (RFC 3629).
 */
size_t		notif_text_sequence(const char *text, size_t len);

/* True if all of text is well-formed UTF-8. */
bool		notif_text_valid(const char *text, size_t len);

/* The largest length ≤ max at which valid UTF-8 text may be cut. */
size_t		notif_text_truncate(const char *text, size_t len, size_t max);

/*
 * Copies foreign text (a provider's answer, a library's message) into out as
 * one line of valid UTF-8: ill-formed sequences become U+FFFD, NUL and other
 * control characters a space; cut at a code point boundary to fit.  out is
 * always NUL-terminated (out_size ≥ 1).  Returns the length written.
 */
size_t		notif_text_sanitise(const char *text, size_t len, char *out, size_t out_size);

/* The same in printable ASCII: every other byte becomes '?'. */
size_t		notif_text_ascii(const char *text, size_t len, char *out, size_t out_size);

#endif							/* NOTIF_CORE_TEXT_H */
