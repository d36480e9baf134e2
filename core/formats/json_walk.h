/*
 * Walks one JSON object or array, value by value, without building a tree: a
 * header of 100 MB that is all "{},{},..." would cost Jansson gigabytes. Each
 * value is handed out as a slice of the text; whoever needs it parses the slice
 * (json_parse), having looked at its length first. Internal to core/formats.
 *
 *     struct json_walk walk;
 *     struct json_slice key, value;
 *     int got = json_walk_open(&walk, text, n, where, &err);
 *     while (!got && (got = json_walk_next(&walk, &key, &value, &err)) > 0)
 *         got = use(key, value);
 *
 * Allocates nothing. Checked here: brackets, commas, colons, ends of strings,
 * nothing but spaces after the end. Not checked: what is inside a slice, the
 * encoding, duplicate keys.
 */
#ifndef STRATA_FORMATS_JSON_WALK_H
#define STRATA_FORMATS_JSON_WALK_H

#include "core/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct json_slice {
    const char *text; /* borrowed; strings with their quotes */
    size_t n;
};

struct json_walk {
    const char *text, *at, *end, *where;
    char closing; /* '}' or ']' */
    bool started;
};

/* The text must be an object or array. `where` is borrowed, for messages. 0 or negative. */
int json_walk_open(struct json_walk *walk, const char *text, size_t n, const char *where, struct err *err);
/* 1: *value (and *key, of an object) filled; 0: end; negative: error. */
int json_walk_next(struct json_walk *walk, struct json_slice *key, struct json_slice *value, struct err *err);
/* Parses a slice of at most `most` bytes; *out is the caller's. `what` names it in messages. */
int json_slice_parse(struct json_slice slice, size_t most, const char *where, const char *what, json_t **out,
                     struct err *err);
/* True when the slice is the string `text`, which needs no escapes. */
bool json_slice_is(struct json_slice slice, const char *text);

#endif
