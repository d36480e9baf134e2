/* Normalizers. Each rewrites the text pieces into the next buffer and keeps the place in the input of every byte. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* The characters that a text piece becomes are added to out, which comes empty; *out stays empty where none changes. */
static int rewrite(const struct normalizer *normalizer, const char *text, size_t n, struct rewriting *out,
                   struct err *err)
{
    return unicode_normalize((enum unicode_form)normalizer->kind, text, n, out, err);
}

static bool is_ascii(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)text[i] < 0x80)
        i++;
    return i == n;
}

/* Whether no piece can change. */
static bool is_idle(const struct work *w)
{
    for (size_t i = 0; i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        if (p->id < 0 && !is_ascii(w->bytes + p->begin, p->end - p->begin))
            return false;
    }
    return true;
}

static int apply(const struct normalizer *normalizer, struct work *w, struct err *err)
{
    struct rewriting r = { 0 };
    struct buffer *b = buffer_start(w);
    int rc = 0;
    if (is_idle(w))
        return 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        size_t begin = b->n;
        r.n = 0;
        if (p->id < 0)
            rc = rewrite(normalizer, w->bytes + p->begin, p->end - p->begin, &r, err);
        if (!rc)
            rc = p->id < 0 ? buffer_rewrite(b, w, p->begin, p->end, &r, err) : buffer_copy(b, w, p->begin, p->end, err);
        if (!rc)
            rc = buffer_close_piece(b, w, begin, work_origin_end(w, p->begin, p->end), p->id, err);
    }
    free(r.item);
    if (!rc)
        buffer_use(w);
    return rc;
}

int normalize(const struct tokenizer *tok, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->n_normalizers; i++)
        rc = apply(&tok->normalizers[i], w, err);
    return rc;
}
