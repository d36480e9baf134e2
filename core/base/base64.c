#include "core/base/base64.h"

#include "core/base/mem.h"

#include <stdint.h>
#include <stdlib.h>

static int value_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool base64_decode(const char *text, size_t len, char **data, size_t *n)
{
    size_t padding = 0, n_out = 0;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
        padding++;
    char *out = len % 4 ? NULL : mem_array(len / 4 * 3, 1);
    if (!out)
        return false;
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        int value = i < len - padding ? value_of(text[i]) : 0;
        if (value < 0) {
            free(out);
            return false;
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 3)
            continue;
        for (int shift = 16; shift >= 0; shift -= 8)
            out[n_out++] = (char)(bits >> shift & 0xff);
    }
    /* Bits under the padding must be 0, so that there is one text for given bytes. */
    bool clean = padding == 0 || !(bits & (padding == 1 ? 0xff : 0xffff));
    if (!clean) {
        free(out);
        return false;
    }
    *data = out;
    *n = n_out - padding;
    return true;
}
