/*
 * A growing byte string, always NUL-terminated once anything was added.
 *
 *     struct strbuf s = STRBUF_INIT;
 *     strbuf_addf(&s, "layer %d", 3);
 *     puts(strbuf_text(&s));
 *     strbuf_release(&s);
 *
 * Out of memory makes the buffer `failed`; later additions do nothing, so that
 * a caller can check once at the end (strbuf_failed).
 */
#ifndef STRATA_BASE_STRBUF_H
#define STRATA_BASE_STRBUF_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *data;
    size_t len, capacity;
    bool failed;
};

#define STRBUF_INIT                                                                                                    \
    {                                                                                                                  \
        NULL, 0, 0, false                                                                                              \
    }

void strbuf_add(struct strbuf *s, const void *bytes, size_t n);
void strbuf_adds(struct strbuf *s, const char *text);
void strbuf_addc(struct strbuf *s, char c);
void strbuf_addf(struct strbuf *s, const char *format, ...) ERR_PRINTF(2, 3);
/* Adds the text as a JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. */
void strbuf_add_json(struct strbuf *s, const char *text, size_t n);
/* Adds the text as one CSV field (RFC 4180), quoted when it needs to be. */
void strbuf_add_csv(struct strbuf *s, const char *text, size_t n);
const char *strbuf_text(const struct strbuf *s); /* "" when empty; borrowed */
static inline bool strbuf_failed(const struct strbuf *s)
{
    return s->failed;
}
/* Empties, keeping the memory; what failed stays failed. */
void strbuf_reset(struct strbuf *s);
void strbuf_release(struct strbuf *s);

#endif
