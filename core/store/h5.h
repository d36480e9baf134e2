/*
 * Thin checked glue over HDF5: every call is checked, the library's error stack
 * becomes one line in struct err, nothing is printed, no id is left open.
 *
 *     struct h5_file f;
 *     if (h5_create(&f, "result.h5", &err)) ...
 *     hsize_t dims[2] = { 3, 4 };
 *     int rc = h5_put_text(&f, f.id, "format", "strata-trace", &err) ||
 *              h5_put_array(&f, "/effect/mean", STORE_F32, 2, dims, numbers, &err);
 *     rc = h5_close(&f, rc, &err);              // the first error wins
 *
 * Files are untrusted when read: external files, external links and virtual
 * sources outside the file's own folder are refused, as are types that are no
 * numbers or text and chunks larger than H5_CHUNK_MAX.
 *
 * HDF5 serialises its calls behind one lock; a struct h5_file belongs to one
 * thread at a time. Included only by files that speak HDF5.
 */
#ifndef STRATA_STORE_H5_H
#define STRATA_STORE_H5_H

#include "core/base/err.h"
#include "core/store/store_type.h"

#define H5_USE_110_API 1 /* newer libraries keep it */
#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

enum { H5_MAX_RANK = 4, H5_NAME_MAX = 1024 };
#define H5_CHUNK_MAX ((size_t)1 << 28)

struct h5_file {
    hid_t id;         /* < 0: not open */
    const char *path; /* borrowed: for messages */
};

/*
 * Replaces a file of that name. Format: what every reader since HDF5 1.8 understands, object headers without
 * checksums (extent.h depends on it), everything at multiples of 8 bytes.
 */
int h5_create(struct h5_file *f, const char *path, struct err *err);
int h5_open(struct h5_file *f, const char *path, bool writable, struct err *err);
/* Closes whatever is open. Returns rc unless that is 0 and closing fails. */
int h5_close(struct h5_file *f, int rc, struct err *err);
/* "PATH: cannot WHAT: the library's innermost reason"; always ERR_IO or, for bad files, ERR_FORMAT. */
int h5_fail(const struct h5_file *f, struct err *err, const char *format, ...) ERR_PRINTF(3, 4);

/* The HDF5 type in files (in_file) or in memory; the caller closes it with H5Tclose; < 0 on failure. */
hid_t h5_make_type(enum store_type type, bool in_file);

/* Attributes of an open object. Text is UTF-8 of any length, which h5py reads as str. */
int h5_put_text(const struct h5_file *f, hid_t object, const char *name, const char *text, struct err *err);
int h5_put_int(const struct h5_file *f, hid_t object, const char *name, int64_t value, struct err *err);
/* Attributes of the root: text where there is one, else the number. */
struct h5_setting {
    const char *name, *text;
    int64_t value;
};
int h5_put_settings(const struct h5_file *f, const struct h5_setting *settings, size_t n, struct err *err);
int h5_put_ints(const struct h5_file *f, hid_t object, const char *name, const int64_t *values, size_t n,
                struct err *err);
/* Overwrites the value of an attribute that h5_put_int made. */
int h5_set_int(const struct h5_file *f, hid_t object, const char *name, int64_t value, struct err *err);
bool h5_has_attribute(hid_t object, const char *name);
/* *out is the caller's (free). Fixed and variable length are read. */
int h5_get_text(const struct h5_file *f, hid_t object, const char *name, char **out, struct err *err);
int h5_get_int(const struct h5_file *f, hid_t object, const char *name, int64_t *out, struct err *err);
/* At most `capacity` integers; *n says how many. */
int h5_get_ints(const struct h5_file *f, hid_t object, const char *name, int64_t *out, size_t capacity, size_t *n,
                struct err *err);

/* Creates a dataset (and its groups) and writes it whole; data: numbers, or const char *const * for TEXT. */
int h5_put_array(const struct h5_file *f, const char *name, enum store_type type, int rank, const hsize_t *dims,
                 const void *data, struct err *err);

struct h5_dataset {
    hid_t id;
    enum store_type type;
    int rank;
    hsize_t dims[H5_MAX_RANK];
    size_t row_items; /* product of dims[1..] */
    const struct h5_file *file;
    char *name; /* owned */
};

/*
 * Closes a dataset that was written to, -1: none: only then is it known that all of it was, since HDF5 keeps small
 * pieces back. Returns rc, or what failed.
 */
int h5_end_dataset(const struct h5_file *f, hid_t dataset, const char *name, int rc, struct err *err);
/* 1: such a path, shorter than H5_NAME_MAX, exists and is reached over hard links only; 0: not; negative: cannot tell.
 */
int h5_look(const struct h5_file *f, const char *name, struct err *err);
int h5_dataset_open(struct h5_dataset *d, const struct h5_file *f, const char *name, struct err *err);
void h5_dataset_close(struct h5_dataset *d); /* safe on a zeroed struct */
/*
 * Rows [first, first + n) of the first dimension, converted to `as`: F32 or F64 for floats of any width, I32 or I64
 * for integers (out of range: an error). out has n * row_items numbers.
 */
int h5_dataset_read(const struct h5_dataset *d, uint64_t first, uint64_t n, enum store_type as, void *out,
                    struct err *err);
/* Rank 1 TEXT: out[n], each the caller's (free). Nothing is left to free when it fails. */
int h5_dataset_read_text(const struct h5_dataset *d, uint64_t first, uint64_t n, char **out, struct err *err);
/* Opens, checks rank 1 and length, reads all, closes. *out is the caller's (free; of text each item too). */
int h5_get_array(const struct h5_file *f, const char *name, enum store_type as, uint64_t n, void **out,
                 struct err *err);
/*
 * The first n of at least n items, n > 0: a partial file moves the extents of its lists one after another. out: a
 * pointer to the list's, which is the caller's as of h5_get_array.
 */
int h5_get_first(const struct h5_file *f, const char *name, enum store_type as, size_t n, void *out, struct err *err);
/* How many items a list has: 1 to INT32_MAX, else ERR_FORMAT. */
int h5_get_length(const struct h5_file *f, const char *name, size_t *n, struct err *err);
void h5_free_text(char **text, uint64_t n); /* items and array; NULL is fine */

#endif
