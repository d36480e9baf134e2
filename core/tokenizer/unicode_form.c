/*
 * Unicode normal forms (annex 15): decompose, order marks by combining class, compose. Runs of ASCII are taken over;
 * what starts at the last ASCII character before other text and ends at the next one is worked on as a whole.
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* A character on its way, and how many characters of the input it stands for (0: the rest of a decomposed one). */
struct form_char {
    utf8proc_int32_t cp;
    uint32_t takes;
};
struct form_text {
    struct form_char *chars, *sorted;
    size_t n, capacity, sorted_capacity;
};

/*
 * The Unicode data behind the `tokenizers` library's NFC are of version 9: to it, marks that came later are like
 * letters, and characters that came later have no decomposition. U+0600 to U+1E7FF, rising.
 */
static bool is_newer_mark(utf8proc_int32_t cp)
{
    static const uint32_t ranges[][2] = {
        { 0x7fd, 0x7fd },     { 0x897, 0x897 },     { 0x898, 0x89f },     { 0x8ca, 0x8d3 },     { 0x9fe, 0x9fe },
        { 0xc3c, 0xc3c },     { 0xd3b, 0xd3c },     { 0xeba, 0xeba },     { 0x1715, 0x1715 },   { 0x1abf, 0x1ace },
        { 0x1df6, 0x1dfa },   { 0xa82c, 0xa82c },   { 0x10d24, 0x10d27 }, { 0x10d69, 0x10d6d }, { 0x10eab, 0x10eac },
        { 0x10efc, 0x10efc }, { 0x10efd, 0x10eff }, { 0x10f46, 0x10f50 }, { 0x10f82, 0x10f85 }, { 0x11070, 0x11070 },
        { 0x1133b, 0x1133b }, { 0x113ce, 0x113d0 }, { 0x113e1, 0x113e2 }, { 0x1145e, 0x1145e }, { 0x11839, 0x1183a },
        { 0x1193d, 0x1193e }, { 0x11943, 0x11943 }, { 0x119e0, 0x119e0 }, { 0x11a34, 0x11a34 }, { 0x11a47, 0x11a47 },
        { 0x11a99, 0x11a99 }, { 0x11d42, 0x11d42 }, { 0x11d44, 0x11d45 }, { 0x11d97, 0x11d97 }, { 0x11f41, 0x11f42 },
        { 0x1612f, 0x1612f }, { 0x16ff0, 0x16ff1 }, { 0x1e08f, 0x1e08f }, { 0x1e130, 0x1e136 }, { 0x1e2ae, 0x1e2ae },
        { 0x1e2ec, 0x1e2ef }, { 0x1e4ec, 0x1e4ef }, { 0x1e5ee, 0x1e5ef }
    };
    return char_in_ranges((uint32_t)cp, ranges, sizeof ranges / sizeof *ranges);
}

/* Characters with a decomposition, canonical or compatible, that came after Unicode 9. */
static bool is_newer_composite(utf8proc_int32_t cp)
{
    static const uint32_t ranges[][2] = { { 0x32ff, 0x32ff },   { 0xa7f1, 0xa7f4 },   { 0xab69, 0xab69 },
                                          { 0x105c9, 0x105e4 }, { 0x10781, 0x107ba }, { 0x11383, 0x11391 },
                                          { 0x113c5, 0x113c8 }, { 0x11938, 0x11938 }, { 0x16121, 0x16128 },
                                          { 0x16d68, 0x16d6a }, { 0x1ccd6, 0x1ccf9 }, { 0x1e030, 0x1e06d },
                                          { 0x1f16c, 0x1f16c }, { 0x1fbf0, 0x1fbf9 } };
    return char_in_ranges((uint32_t)cp, ranges, sizeof ranges / sizeof *ranges);
}

static unsigned class_of(utf8proc_int32_t cp)
{
    unsigned class = cp < 0x300 ? 0 : (unsigned)utf8proc_get_property(cp)->combining_class;
    return class && !is_newer_mark(cp) ? class : 0;
}

static int decompose(struct form_text *x, bool compatible, const char *text, size_t len, struct err *err)
{
    enum { MOST = 32 }; /* characters that one becomes; in Unicode 15 it is 18 */
    x->n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t cp = 0;
        utf8proc_int32_t parts[MOST];
        i += utf8_decode(text + i, len - i, &cp);
        utf8proc_ssize_t k =
            utf8proc_decompose_char((utf8proc_int32_t)cp, parts, MOST,
                                    compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE, NULL);
        if (is_newer_composite((utf8proc_int32_t)cp))
            parts[0] = (utf8proc_int32_t)cp, k = 1;
        if (k < 1 || k > MOST || !mem_grow(&x->chars, &x->capacity, x->n + (size_t)k, sizeof *x->chars))
            return err_nomem(err, "normalizing a text");
        for (utf8proc_ssize_t j = 0; j < k; j++)
            x->chars[x->n++] = (struct form_char){ parts[j], j == 0 };
    }
    return 0;
}

/* Sorts a run of marks by combining class, keeping the order of equal ones; by counting, as a run has no bound. */
static int sort_marks(struct form_text *x, size_t begin, size_t end, struct err *err)
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

static int order(struct form_text *x, struct err *err)
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
    bool one = utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) == 1;
    return one && !is_newer_composite(pair[0]) ? pair[0] : -1;
}

static void compose(struct form_text *x)
{
    size_t n = 0, starter = SIZE_MAX;
    unsigned last = 0; /* combining class of the character before */
    for (size_t i = 0; i < x->n; i++) {
        struct form_char c = x->chars[i];
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

static size_t ascii_end(const char *text, size_t at, size_t n)
{
    while (at < n && (unsigned char)text[at] < 0x80)
        at++;
    return at;
}

int unicode_normalize(enum unicode_form form, const char *text, size_t n, struct rewriting *out, struct err *err)
{
    struct form_text x = { 0 };
    int rc = 0;
    for (size_t at = 0, end; !rc && at < n; at = end) {
        size_t other = ascii_end(text, at, n), begin = other < n && other > at ? other - 1 : other;
        for (end = other; end < n && (unsigned char)text[end] >= 0x80; end++)
            ;
        for (; !rc && at < begin; at++)
            rc = rewriting_add(out, (unsigned char)text[at], 0, err);
        if (rc || (rc = decompose(&x, form == FORM_NFKC || form == FORM_NFKD, text + begin, end - begin, err)) ||
            (rc = order(&x, err)))
            break;
        if (form == FORM_NFC || form == FORM_NFKC)
            compose(&x);
        for (size_t i = 0; !rc && i < x.n; i++)
            rc = rewriting_add(out, (uint32_t)x.chars[i].cp, 1 - (int32_t)x.chars[i].takes, err);
    }
    free(x.chars);
    free(x.sorted);
    return rc;
}
