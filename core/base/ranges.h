/*
 * Whole numbers and ranges as users write them: `7`, `3-5` (both ends
 * included), `0,3-5`. Layers, heads, neurons and positions count from 0.
 *
 *     struct range *ranges;
 *     size_t n;
 *     if (ranges_parse("0,3-5", 5, &ranges, &n, &err)) ...
 *     free(ranges);
 */
#ifndef STRATA_BASE_RANGES_H
#define STRATA_BASE_RANGES_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct range {
    size_t first, last; /* both included */
};

/* One number or range; false when it is neither, runs backwards or does not fit. */
bool range_parse(const char *text, size_t len, struct range *out);
/* A comma-separated list; *out is the caller's (free). The message names the item that is wrong. */
int ranges_parse(const char *text, size_t len, struct range **out, size_t *n, struct err *err);
/* Sorts and joins ranges that overlap or touch, so that each number is there once. */
void ranges_merge(struct range *ranges, size_t *n);

#endif
