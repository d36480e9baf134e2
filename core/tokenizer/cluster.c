/*
 * Extended grapheme clusters (Unicode annex 29) of Unicode 17, which the library has: utf8proc 2.8 is at 15 and lacks
 * the rule for Indic conjuncts (GB9c).
 */
#include "core/tokenizer/internal.h"

#include "core/base/utf8.h"

#include <utf8proc.h>

/* Marks that came after Unicode 15. */
static const uint32_t newer_marks[][2] = {
    { 0x897, 0x897 },     { 0x1acf, 0x1add },   { 0x1ae0, 0x1aeb },   { 0x10d69, 0x10d6d }, { 0x10efa, 0x10efc },
    { 0x113b8, 0x113c0 }, { 0x113c2, 0x113c2 }, { 0x113c5, 0x113c5 }, { 0x113c7, 0x113ca }, { 0x113cc, 0x113d0 },
    { 0x113d2, 0x113d2 }, { 0x113e1, 0x113e2 }, { 0x11b60, 0x11b67 }, { 0x11f5a, 0x11f5a }, { 0x1611e, 0x1612f },
    { 0x1e5ee, 0x1e5ef }, { 0x1e6e3, 0x1e6e3 }, { 0x1e6e6, 0x1e6e6 }, { 0x1e6ee, 0x1e6ef }, { 0x1e6f5, 0x1e6f5 }
};

/* Indic_Conjunct_Break of the basic plane. */
static const uint32_t consonants[][2] = {
    { 0x915, 0x939 },   { 0x958, 0x95f },   { 0x978, 0x97f },   { 0x995, 0x9a8 },   { 0x9aa, 0x9b0 },
    { 0x9b2, 0x9b2 },   { 0x9b6, 0x9b9 },   { 0x9dc, 0x9dd },   { 0x9df, 0x9df },   { 0x9f0, 0x9f1 },
    { 0xa95, 0xaa8 },   { 0xaaa, 0xab0 },   { 0xab2, 0xab3 },   { 0xab5, 0xab9 },   { 0xaf9, 0xaf9 },
    { 0xb15, 0xb28 },   { 0xb2a, 0xb30 },   { 0xb32, 0xb33 },   { 0xb35, 0xb39 },   { 0xb5c, 0xb5d },
    { 0xb5f, 0xb5f },   { 0xb71, 0xb71 },   { 0xc15, 0xc28 },   { 0xc2a, 0xc39 },   { 0xc58, 0xc5a },
    { 0xd15, 0xd3a },   { 0x1000, 0x102a }, { 0x103f, 0x103f }, { 0x1050, 0x1055 }, { 0x105a, 0x105d },
    { 0x1061, 0x1061 }, { 0x1065, 0x1066 }, { 0x106e, 0x1070 }, { 0x1075, 0x1081 }, { 0x108e, 0x108e },
    { 0x1780, 0x17b3 }, { 0x1a20, 0x1a54 }, { 0x1b0b, 0x1b0c }, { 0x1b13, 0x1b33 }, { 0x1b45, 0x1b4c },
    { 0x1b83, 0x1ba0 }, { 0x1bae, 0x1baf }, { 0x1bbb, 0x1bbd }, { 0xa989, 0xa98b }, { 0xa98f, 0xa9b2 },
    { 0xa9e0, 0xa9e4 }, { 0xa9e7, 0xa9ef }, { 0xa9fa, 0xa9fe }, { 0xaa60, 0xaa6f }, { 0xaa71, 0xaa73 },
    { 0xaa7a, 0xaa7a }, { 0xaa7e, 0xaa7f }, { 0xaae0, 0xaaea }, { 0xabc0, 0xabda }
};
static const uint32_t linkers[][2] = {
    { 0x94d, 0x94d },     { 0x9cd, 0x9cd },     { 0xacd, 0xacd },     { 0xb4d, 0xb4d },     { 0xc4d, 0xc4d },
    { 0xd4d, 0xd4d },     { 0x1039, 0x1039 },   { 0x17d2, 0x17d2 },   { 0x1a60, 0x1a60 },   { 0x1b44, 0x1b44 },
    { 0x1bab, 0x1bab },   { 0xa9c0, 0xa9c0 },   { 0xaaf6, 0xaaf6 },   { 0x10a3f, 0x10a3f }, { 0x11133, 0x11133 },
    { 0x113d0, 0x113d0 }, { 0x1193e, 0x1193e }, { 0x11a47, 0x11a47 }, { 0x11a99, 0x11a99 }, { 0x11f42, 0x11f42 }
};

#define IS_IN(cp, ranges) char_in_ranges(cp, ranges, sizeof(ranges) / sizeof *(ranges))

/* What a consonant after the text so far would join. */
enum conjunct { CONJUNCT_NONE, CONJUNCT_OPEN, CONJUNCT_LINKED };

static enum conjunct conjunct_after(enum conjunct before, uint32_t cp)
{
    if (cp < 0x300)
        return CONJUNCT_NONE;
    if (IS_IN(cp, consonants))
        return CONJUNCT_OPEN;
    if (before == CONJUNCT_NONE)
        return CONJUNCT_NONE;
    if (IS_IN(cp, linkers))
        return CONJUNCT_LINKED;
    unsigned class = (unsigned)utf8proc_get_property((utf8proc_int32_t)cp)->boundclass;
    bool extends = class == UTF8PROC_BOUNDCLASS_EXTEND || class == UTF8PROC_BOUNDCLASS_ZWJ || IS_IN(cp, newer_marks);
    return extends && cp != 0x200c ? before : CONJUNCT_NONE;
}

size_t cluster_end(const char *text, size_t at, size_t n)
{
    uint32_t cp = 0, next = 0;
    utf8proc_int32_t state = 0;
    size_t end = at + utf8_decode(text + at, n - at, &cp), k;
    enum conjunct conjunct = conjunct_after(CONJUNCT_NONE, cp);
    for (; end < n; end += k, cp = next) {
        k = utf8_decode(text + end, n - end, &next);
        /* To utf8proc a newer mark is any other one, so that what follows it is judged rightly. */
        uint32_t known = IS_IN(next, newer_marks) ? 0x300 : next;
        bool breaks = utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp, (utf8proc_int32_t)known, &state);
        if (breaks && !(conjunct == CONJUNCT_LINKED && IS_IN(next, consonants)))
            break;
        conjunct = conjunct_after(conjunct, next);
        next = known;
    }
    return end;
}
