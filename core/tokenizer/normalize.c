/*
 * Normalizers. Each rewrites the text pieces into the next buffer and keeps the place in the input of every byte.
 *
 * NFC (Unicode annex 15): decompose, order marks by combining class, compose. Runs of ASCII are copied; what starts at
 * the last ASCII character before other text and ends at the next one is worked on as a whole.
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A character on its way, and how many characters of the input it stands for (0: the rest of a decomposed one). */
struct nfc_char {
    utf8proc_int32_t cp;
    uint32_t takes;
};
struct nfc {
    struct nfc_char *chars, *sorted;
    size_t n, capacity, sorted_capacity;
};

static unsigned class_of(utf8proc_int32_t cp)
{
    return cp < 0x300 ? 0 : (unsigned)utf8proc_get_property(cp)->combining_class;
}

static int decompose(struct nfc *x, const char *text, size_t len, struct err *err)
{
    x->n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t cp = 0;
        utf8proc_int32_t parts[8];
        i += utf8_decode(text + i, len - i, &cp);
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 8, UTF8PROC_DECOMPOSE, NULL);
        if (k < 1 || k > 8 || !mem_grow(&x->chars, &x->capacity, x->n + (size_t)k, sizeof *x->chars))
            return err_nomem(err, "normalizing a text");
        for (utf8proc_ssize_t j = 0; j < k; j++)
            x->chars[x->n++] = (struct nfc_char){ parts[j], j == 0 };
    }
    return 0;
}

/* Sorts a run of marks by combining class, keeping the order of equal ones; by counting, as a run has no bound. */
static int sort_marks(struct nfc *x, size_t begin, size_t end, struct err *err)
{
    size_t at[257] = { 0 };
    if (!mem_grow(&x->sorted, &x->sorted_capacity, end - begin, sizeof *x->sorted))
        return err_nomem(err, "normalizing a text");
    for (size_t i = begin; i < end; i++)
        at[class_of(x->chars[i].cp) + 1]++;
    for (int c = 0; c < 256; c++)
        at[c + 1] += at[c];
    for (size_t i = begin; i < end; i++)
        x->sorted[at[class_of(x->chars[i].cp)]++] = x->chars[i];
    memcpy(x->chars + begin, x->sorted, (end - begin) * sizeof *x->sorted);
    return 0;
}

static int order(struct nfc *x, struct err *err)
{
    int rc = 0;
    for (size_t i = 0, end; !rc && i < x->n; i = end) {
        for (end = i; end < x->n && class_of(x->chars[end].cp); end++)
            ;
        if (end - i > 1)
            rc = sort_marks(x, i, end, err);
        end += end == i;
    }
    return rc;
}

/* The two as one character, or -1. utf8proc knows pairs only through whole strings. */
static utf8proc_int32_t composed(utf8proc_int32_t first, utf8proc_int32_t second)
{
    utf8proc_int32_t pair[3] = { first, second, 0 };
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) == 1 ? pair[0] : -1;
}

static void compose(struct nfc *x)
{
    size_t n = 0, starter = SIZE_MAX;
    unsigned last = 0; /* combining class of the character before */
    for (size_t i = 0; i < x->n; i++) {
        struct nfc_char c = x->chars[i];
        unsigned class = class_of(c.cp);
        bool adjacent = starter != SIZE_MAX && n == starter + 1;
        utf8proc_int32_t one = -1;
        if (adjacent || (starter != SIZE_MAX && last < class))
            one = composed(x->chars[starter].cp, c.cp);
        if (one >= 0) {
            x->chars[starter].cp = one;
            x->chars[starter].takes += c.takes;
            continue;
        }
        if (!class)
            starter = n;
        last = class;
        x->chars[n++] = c;
    }
    x->n = n;
}

/* Writes the result, giving each character the input bytes of the characters it stands for. */
static int emit(const struct nfc *x, struct buffer *b, const struct work *w, size_t at, size_t stop, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < x->n; i++) {
        char bytes[4];
        size_t end = at;
        for (uint32_t k = 0; k < x->chars[i].takes; k++)
            for (end++; end < stop && ((unsigned char)w->bytes[end] & 0xc0) == 0x80; end++)
                ;
        rc = buffer_add(b, bytes, utf8_encode((uint32_t)x->chars[i].cp, bytes), work_origin(w, at), work_origin(w, end),
                        err);
        at = end;
    }
    return rc;
}

static size_t skip_ascii(const char *bytes, size_t at, size_t end)
{
    while (at < end && (unsigned char)bytes[at] < 0x80)
        at++;
    return at;
}

static int nfc_piece(struct nfc *x, const struct work *w, struct buffer *b, const struct piece *piece, struct err *err)
{
    size_t at = piece->begin;
    int rc = 0;
    while (!rc && at < piece->end) {
        size_t other = skip_ascii(w->bytes, at, piece->end);
        size_t begin = other < piece->end && other > at ? other - 1 : other, end = other;
        while (end < piece->end && (unsigned char)w->bytes[end] >= 0x80)
            end++;
        if ((rc = buffer_copy(b, w, at, begin, err)) || (rc = decompose(x, w->bytes + begin, end - begin, err)) ||
            (rc = order(x, err)))
            break;
        compose(x);
        rc = emit(x, b, w, begin, end, err);
        at = end;
    }
    return rc;
}

static bool all_ascii(const struct work *w)
{
    for (size_t i = 0; i < w->now.n; i++)
        if (w->now.item[i].id < 0 &&
            skip_ascii(w->bytes, w->now.item[i].begin, w->now.item[i].end) < w->now.item[i].end)
            return false;
    return true;
}

static int nfc(struct work *w, struct err *err)
{
    struct nfc x = { 0 };
    struct buffer *b = buffer_start(w);
    int rc = 0;
    if (all_ascii(w))
        return 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *piece = &w->now.item[i];
        size_t begin = b->n;
        rc = piece->id < 0 ? nfc_piece(&x, w, b, piece, err) : buffer_copy(b, w, piece->begin, piece->end, err);
        if (!rc)
            rc = buffer_close_piece(b, w, begin, work_origin(w, piece->end), piece->id, err);
    }
    free(x.chars);
    free(x.sorted);
    if (!rc)
        buffer_use(w);
    return rc;
}

int normalize(const struct tokenizer *tok, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->n_normalizers; i++)
        switch (tok->normalizers[i]) {
        case NORMALIZER_NFC:
            rc = nfc(w, err);
        }
    return rc;
}
