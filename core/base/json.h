/*
 * JSON from untrusted files, on Jansson: duplicate keys are refused, nesting is
 * bounded by Jansson (2048), the number of objects and lists by three million,
 * numbers are checked for range.
 *
 *     json_t *config;
 *     if (json_parse(map.data, map.size, map.name, &config, err))
 *         return err->code;
 *     size_t n_layers;
 *     int rc = json_get_size(config, map.name, "num_hidden_layers", 1, 1024, &n_layers, err);
 *     json_decref(config);
 *
 * `where` is the file's name for messages. The _or forms take a default for an
 * absent or null key and still fail on a wrong type or range.
 */
#ifndef STRATA_BASE_JSON_H
#define STRATA_BASE_JSON_H

#include "core/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* *out is the caller's (json_decref). Any JSON value is accepted at the top; bytes after it are an error. */
int json_parse(const void *data, size_t size, const char *where, json_t **out, struct err *err);
/* A file of at most 32 MiB. */
int json_parse_file(const char *path, json_t **out, struct err *err);

int json_get_size(const json_t *object, const char *where, const char *key, size_t least, size_t most, size_t *out,
                  struct err *err);
int json_get_size_or(const json_t *object, const char *where, const char *key, size_t least, size_t most,
                     size_t otherwise, size_t *out, struct err *err);
/* Integers count as numbers. NaN and infinity cannot be written in JSON. */
int json_get_number_or(const json_t *object, const char *where, const char *key, double otherwise, double *out,
                       struct err *err);
int json_get_bool_or(const json_t *object, const char *where, const char *key, bool otherwise, bool *out,
                     struct err *err);
/* *out is borrowed from the object; NULL for an absent or null key. Strings with an embedded NUL are refused. */
int json_get_string(const json_t *object, const char *where, const char *key, const char **out, struct err *err);
/* Absent or null gives NULL without an error; any other type than wanted is an error. Borrowed. */
int json_get_object(const json_t *object, const char *where, const char *key, json_t **out, struct err *err);
int json_get_array(const json_t *object, const char *where, const char *key, json_t **out, struct err *err);

#endif
