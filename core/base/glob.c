#include "core/base/glob.h"

#include <string.h>

bool glob_match(const char *pattern, size_t len, const char *text)
{
    size_t p = 0, star = len;
    const char *after_star = NULL;
    while (*text) {
        if (p < len && pattern[p] == '*') {
            star = p++;
            after_star = text;
        } else if (p < len && (pattern[p] == '?' || pattern[p] == *text)) {
            p++;
            text++;
        } else if (after_star) {
            p = star + 1;
            text = ++after_star;
        } else {
            return false;
        }
    }
    while (p < len && pattern[p] == '*')
        p++;
    return p == len;
}

bool glob_has_wildcard(const char *pattern, size_t len)
{
    return memchr(pattern, '*', len) || memchr(pattern, '?', len);
}
