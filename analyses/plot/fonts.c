#include "analyses/plot/fonts.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { CODE_POINTS = 0x110000 };

/* Letters that every outline font has, what plot_text.c puts in place of others, and what draws nothing. */
static bool is_common(uint32_t cp)
{
    static const uint32_t signs[] = { 0x2026, 0x2190, 0x2192, 0x21b5, 0x21e5, 0x2423, 0x25af, 0xfffd };
    if (cp < 0x250 || (cp >= 0x370 && cp < 0x480))
        return true;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (cp == signs[i])
            return true;
    return (cp >= 0x200b && cp <= 0x200d) || (cp >= 0xfe00 && cp <= 0xfe0f);
}

/* "20-7e a0 131" and so on, for every font: one byte a character. */
static void read_charsets(FILE *from, unsigned char *have)
{
    unsigned first, last;
    /* NOLINTBEGIN(cert-err34-c): what does not fit ends at CODE_POINTS like all the rest. */
    while (fscanf(from, "%x", &first) == 1) {
        int next = getc(from);
        last = first;
        if (next == '-' && fscanf(from, "%x", &last) != 1)
            return;
        /* NOLINTEND(cert-err34-c) */
        for (unsigned cp = first; cp <= last && cp < CODE_POINTS; cp++)
            have[cp] = 1;
    }
}

bool fonts_have(uint32_t cp)
{
    static unsigned char *have;
    static bool asked;
    if (is_common(cp))
        return true;
    if (!asked) {
        asked = true;
        /* NOLINTNEXTLINE(cert-env33-c): nothing of a user's is in this command. */
        FILE *list = popen("fc-list --format '%{charset}\\n' :scalable=true 2>/dev/null", "r");
        have = list ? mem_zeroed(CODE_POINTS, 1) : NULL;
        if (have)
            read_charsets(list, have);
        if (list)
            pclose(list);
    }
    return have && cp < CODE_POINTS && have[cp];
}
