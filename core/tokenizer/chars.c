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

static bool in_ranges(uint32_t cp, const uint32_t (*ranges)[2], size_t n)
{
    for (size_t i = 0; i < n && cp >= ranges[i][0]; i++)
        if (cp <= ranges[i][1])
            return true;
    return false;
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
           in_ranges(cp, newer_numbers, sizeof newer_numbers / sizeof *newer_numbers);
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
               in_ranges(cp, newer_words, sizeof newer_words / sizeof *newer_words);
    }
}
