#include "core/base/ranges.h"

#include "core/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool parse_number(const char *text, size_t len, size_t *out)
{
    size_t n = 0;
    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || !size_mul(n, 10, &n) || !size_add(n, (size_t)(text[i] - '0'), &n))
            return false;
    }
    *out = n;
    return n != SIZE_MAX; /* so that last + 1 always exists */
}

bool range_parse(const char *text, size_t len, struct range *out)
{
    const char *dash = memchr(text, '-', len);
    size_t head = dash ? (size_t)(dash - text) : len;
    if (!parse_number(text, head, &out->first))
        return false;
    out->last = out->first;
    return !dash || (parse_number(dash + 1, len - head - 1, &out->last) && out->first <= out->last);
}

static int not_a_range(const char *text, size_t len, struct err *err)
{
    int shown = len < 60 ? (int)len : 60;
    const char *dash = memchr(text, '-', len);
    size_t first, last;
    if (!len)
        return err_set(err, ERR_ARG, "a number is missing: write for example 3, 3-5 or 0,3-5");
    if (dash && parse_number(text, (size_t)(dash - text), &first) &&
        parse_number(dash + 1, len - (size_t)(dash - text) - 1, &last) && first > last)
        return err_set(err, ERR_ARG, "'%.*s' runs backwards: write %zu-%zu", shown, text, last, first);
    return err_set(err, ERR_ARG, "'%.*s' is neither a number nor a range such as 3-5", shown, text);
}

int ranges_parse(const char *text, size_t len, struct range **out, size_t *n, struct err *err)
{
    size_t capacity = 1, i = 0;
    for (size_t at = 0; at < len; at++)
        capacity += text[at] == ',';
    struct range *ranges = mem_array(capacity, sizeof *ranges);
    if (!ranges)
        return err_nomem(err, "a list of ranges");
    for (size_t at = 0; i < capacity; i++) {
        const char *comma = memchr(text + at, ',', len - at);
        size_t item = comma ? (size_t)(comma - text) - at : len - at;
        if (!range_parse(text + at, item, &ranges[i])) {
            free(ranges);
            return not_a_range(text + at, item, err);
        }
        at += item + 1;
    }
    *out = ranges;
    *n = capacity;
    return 0;
}

static int by_first(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

void ranges_merge(struct range *ranges, size_t *n)
{
    if (!*n)
        return;
    qsort(ranges, *n, sizeof *ranges, by_first);
    size_t kept = 0;
    for (size_t i = 1; i < *n; i++) {
        if (ranges[i].first <= ranges[kept].last + 1)
            ranges[kept].last = ranges[i].last > ranges[kept].last ? ranges[i].last : ranges[kept].last;
        else
            ranges[++kept] = ranges[i];
    }
    *n = kept + 1;
}
