/*
 * Vectors of numbers from files: NumPy's .npy (float32 or float64, C order, any
 * shape) and raw little-endian float32 (.f32).
 *
 *     float *x;
 *     size_t n;
 *     if (vector_file_read("direction.npy", 576, &x, &n, &err)) ...
 *     free(x);
 *
 * Numbers that are NaN, infinite or beyond float32 are refused. Formats: NEP 1
 * (numpy.lib.format), versions 1 to 3.
 */
#ifndef STRATA_FORMATS_VECTOR_FILE_H
#define STRATA_FORMATS_VECTOR_FILE_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Whether a name ends in .npy or .f32. */
bool vector_file_named(const char *name, size_t len);
/* *out is the caller's (free), *n its numbers, at most `most` of them. The message has the number that the file holds.
 */
int vector_file_read(const char *path, size_t most, float **out, size_t *n, struct err *err);

#endif
