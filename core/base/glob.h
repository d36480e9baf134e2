/*
 * Globs over names: `*` stands for any bytes, none and dots included, `?` for
 * exactly one byte. At worst pattern times text steps: a failed match goes back
 * to the last star only.
 *
 *     glob_match("blocks.*.hook_z", 15, "blocks.3.attn.hook_z")    // true
 */
#ifndef STRATA_BASE_GLOB_H
#define STRATA_BASE_GLOB_H

#include <stdbool.h>
#include <stddef.h>

bool glob_match(const char *pattern, size_t len, const char *text);
/* Whether the pattern has a `*` or `?`. */
bool glob_has_wildcard(const char *pattern, size_t len);

#endif
