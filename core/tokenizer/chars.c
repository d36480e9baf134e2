/* Character classes of Rust's standard and regex libraries. */
#include "core/tokenizer/internal.h"

#include <utf8proc.h>

bool char_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool char_in_ranges(uint32_t cp, const uint32_t (*ranges)[2], size_t n)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (cp > ranges[middle][1])
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && cp >= ranges[low][0];
}

/* Numbers of Unicode 16 and 17, which Rust's standard library knows and utf8proc 2.8 (Unicode 15) does not. Rising. */
static const uint32_t newer_numbers[][2] = { { 0x10d40, 0x10d49 }, { 0x116d0, 0x116e3 }, { 0x11bf0, 0x11bf9 },
                                             { 0x11de0, 0x11de9 }, { 0x16130, 0x16139 }, { 0x16d70, 0x16d79 },
                                             { 0x16ff4, 0x16ff6 }, { 0x1ccf0, 0x1ccf9 }, { 0x1e5f1, 0x1e5fa } };
/* Word characters of Unicode 15.1 and 16, likewise. */
static const uint32_t newer_words[][2] = {
    { 0x897, 0x897 },     { 0x1c89, 0x1c8a },   { 0xa7cb, 0xa7cd },   { 0xa7da, 0xa7dc },   { 0x105c0, 0x105f3 },
    { 0x10d40, 0x10d65 }, { 0x10d69, 0x10d6d }, { 0x10d6f, 0x10d85 }, { 0x10ec2, 0x10ec4 }, { 0x10efc, 0x10efc },
    { 0x11380, 0x11389 }, { 0x1138b, 0x1138b }, { 0x1138e, 0x1138e }, { 0x11390, 0x113b5 }, { 0x113b7, 0x113c0 },
    { 0x113c2, 0x113c2 }, { 0x113c5, 0x113c5 }, { 0x113c7, 0x113ca }, { 0x113cc, 0x113d3 }, { 0x113e1, 0x113e2 },
    { 0x116d0, 0x116e3 }, { 0x11bc0, 0x11be0 }, { 0x11bf0, 0x11bf9 }, { 0x11f5a, 0x11f5a }, { 0x13460, 0x143fa },
    { 0x16100, 0x16139 }, { 0x16d40, 0x16d6c }, { 0x16d70, 0x16d79 }, { 0x18cff, 0x18cff }, { 0x1ccf0, 0x1ccf9 },
    { 0x1e5d0, 0x1e5fa }, { 0x2ebf0, 0x2ee5d }
};

bool char_is_numeric(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO ||
           char_in_ranges(cp, newer_numbers, sizeof newer_numbers / sizeof *newer_numbers);
}

/* Other_Alphabetic outside letters and marks: circled and squared Latin letters. */
static bool is_enclosed_letter(uint32_t cp)
{
    return (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) || (cp >= 0x1f150 && cp <= 0x1f169) ||
           (cp >= 0x1f170 && cp <= 0x1f189);
}

bool char_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return cp == 0x200c || cp == 0x200d || is_enclosed_letter(cp) ||
               char_in_ranges(cp, newer_words, sizeof newer_words / sizeof *newer_words);
    }
}

/* Marks that came after Unicode 9, and one that changed. */
static const uint32_t newer_marks[][2] = {
    { 0x7fd, 0x7fd },     { 0x898, 0x89f },     { 0x8ca, 0x8d3 },     { 0x9fe, 0x9fe },     { 0xafa, 0xaff },
    { 0xb55, 0xb55 },     { 0xc04, 0xc04 },     { 0xc3c, 0xc3c },     { 0xcf3, 0xcf3 },     { 0xd00, 0xd00 },
    { 0xd3b, 0xd3c },     { 0xd81, 0xd81 },     { 0xeba, 0xeba },     { 0xece, 0xece },     { 0x1715, 0x1715 },
    { 0x180f, 0x180f },   { 0x1abf, 0x1ace },   { 0x1cf7, 0x1cf7 },   { 0x1df6, 0x1dfa },   { 0xa82c, 0xa82c },
    { 0xa8ff, 0xa8ff },   { 0x10d24, 0x10d27 }, { 0x10eab, 0x10eac }, { 0x10efd, 0x10eff }, { 0x10f46, 0x10f50 },
    { 0x10f82, 0x10f85 }, { 0x11070, 0x11070 }, { 0x11073, 0x11074 }, { 0x110c2, 0x110c2 }, { 0x11145, 0x11146 },
    { 0x111c9, 0x111c9 }, { 0x111ce, 0x111cf }, { 0x11241, 0x11241 }, { 0x1133b, 0x1133b }, { 0x1145e, 0x1145e },
    { 0x1182c, 0x1183a }, { 0x11930, 0x11935 }, { 0x11937, 0x11938 }, { 0x1193b, 0x1193e }, { 0x11940, 0x11940 },
    { 0x11942, 0x11943 }, { 0x119d1, 0x119d7 }, { 0x119da, 0x119e0 }, { 0x119e4, 0x119e4 }, { 0x11a01, 0x11a0a },
    { 0x11a33, 0x11a39 }, { 0x11a3b, 0x11a3e }, { 0x11a47, 0x11a47 }, { 0x11a51, 0x11a5b }, { 0x11a8a, 0x11a99 },
    { 0x11d31, 0x11d36 }, { 0x11d3a, 0x11d3a }, { 0x11d3c, 0x11d3d }, { 0x11d3f, 0x11d45 }, { 0x11d47, 0x11d47 },
    { 0x11d8a, 0x11d8e }, { 0x11d90, 0x11d91 }, { 0x11d93, 0x11d97 }, { 0x11ef3, 0x11ef6 }, { 0x11f00, 0x11f01 },
    { 0x11f03, 0x11f03 }, { 0x11f34, 0x11f3a }, { 0x11f3e, 0x11f42 }, { 0x13440, 0x13440 }, { 0x13447, 0x13455 },
    { 0x16f4f, 0x16f4f }, { 0x16f7f, 0x16f87 }, { 0x16fe4, 0x16fe4 }, { 0x16ff0, 0x16ff1 }, { 0x1cf00, 0x1cf2d },
    { 0x1cf30, 0x1cf46 }, { 0x1e08f, 0x1e08f }, { 0x1e130, 0x1e136 }, { 0x1e2ae, 0x1e2ae }, { 0x1e2ec, 0x1e2ef },
    { 0x1e4ec, 0x1e4ef }
};

bool char_is_old_mark(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return !char_in_ranges(cp, newer_marks, sizeof newer_marks / sizeof *newer_marks);
    default:
        return cp == 0x1cf2 || cp == 0x1cf3;
    }
}

uint32_t char_lower(uint32_t cp)
{
    /* First, last, distance to the lower letter: Unicode 16 and 17. */
    static const struct {
        uint32_t first, last;
        int32_t distance;
    } newer[] = { { 0x1c89, 0x1c89, 1 },      { 0xa7cb, 0xa7cb, 0x264 - 0xa7cb },
                  { 0xa7cc, 0xa7cc, 1 },      { 0xa7ce, 0xa7ce, 1 },
                  { 0xa7d2, 0xa7d2, 1 },      { 0xa7d4, 0xa7d4, 1 },
                  { 0xa7da, 0xa7da, 1 },      { 0xa7dc, 0xa7dc, 0x19b - 0xa7dc },
                  { 0x10d50, 0x10d65, 0x20 }, { 0x16ea0, 0x16eb8, 0x1b } };
    if (cp < 128)
        return cp >= 'A' && cp <= 'Z' ? cp + ('a' - 'A') : cp;
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (cp >= newer[i].first && cp <= newer[i].last)
            return (uint32_t)((int32_t)cp + newer[i].distance);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
