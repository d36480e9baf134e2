/*
 * HDF5 files that grow row by row and survive SIGKILL at any moment.
 *
 * How (extent.h has the reason): the columns that describe the input are known
 * before the run (a first pass over the facts), and with them every size. The
 * file is created with all datasets in full, closed by HDF5, and from then on
 * only plain writes at known offsets touch it, by one thread (write_queue.h):
 * rows of numbers; at a commit the extents of the rows, then those of the known
 * columns in the order of their declaration, 8 bytes each. The last known
 * column of axis 0 (/prompts/id) is the record: its extent says what is whole.
 *
 * Promise. After SIGKILL at any moment the partial file opens and holds every
 * commit whose record was moved. After a power loss it holds at least the last
 * commit that returned (fsync before each step, stream_file.c); of the one that
 * was under way, datasets may be ahead of the record, never behind it. Three
 * fdatasync a commit took 9.2 ms where one took 7.7 (1 MiB, ext4 on a virtual
 * disk), every flush_seconds.
 *
 *     enum { PROMPTS, ROWS };
 *     struct stream_file *s;
 *     size_t id, z;
 *     stream_open(&s, "out.h5", resume, &err);
 *     stream_declare(s, &(struct stream_spec){ .name = "/z", .type = STORE_F16, .axis = ROWS,
 *                                              .n_dims = 2, .dims = { 9, 64 } }, &z, &err);
 *     stream_declare(s, &(struct stream_spec){ .name = "/prompts/id", .type = STORE_TEXT, .axis = PROMPTS,
 *                                              .known = true }, &id, &err);
 *     stream_put(s, id, n_prompts, ids, &err);
 *     stream_start(s, (uint64_t[]){ n_prompts, n_rows }, 2, &hooks, 5.0, &err);
 *     for (first = rows of stream_done(s) prompts; ...) {
 *         stream_write(s, z, first, n, halves, &err);
 *         stream_mark(s, (uint64_t[]){ prompts so far, rows so far }, &err);
 *     }
 *     stream_finish(s, &err);                   // complete = 1, fsync, renamed to out.h5
 *     stream_close(s);
 *
 * Names: out.h5.starting before the first commit (HDF5 refuses contiguous data
 * of no rows, so no reader may meet it), out.h5.partial after it, out.h5 when
 * complete. An existing out.h5 or out.h5.partial is refused; with `resume` the
 * partial is continued, and a complete file is checked and left alone. Axis 0
 * counts what is resumed.
 *
 * One thread at a time, and one process: the caller holds the output's lock
 * (lock.h).
 */
#ifndef STRATA_STORE_STREAM_FILE_H
#define STRATA_STORE_STREAM_FILE_H

#include "core/store/h5.h"
#include "core/store/write_queue.h"

enum { STREAM_MAX_AXES = WRITE_QUEUE_COUNTS };

struct stream_spec {
    const char *name; /* copied */
    enum store_type type;
    int axis;   /* whose count is the first dimension */
    int n_dims; /* further dimensions, 0 .. H5_MAX_RANK - 1 */
    size_t dims[H5_MAX_RANK - 1];
    bool fence; /* one item more than the axis counts: offsets */
    bool known; /* values come from stream_put before the run; TEXT always is. No further dimensions */
};

/* What the owner adds. Either may be NULL. */
struct stream_hooks {
    int (*describe)(void *arg, const struct h5_file *f, struct err *err); /* a new file: attributes, whole arrays */
    int (*check)(void *arg, const struct h5_file *f, struct err *err);    /* a file to resume: same settings? */
    void *arg;
};

struct stream_file;
/* ERR_ARG for a file that is in the way, before long work; stream_open looks again. */
int stream_look(const char *path, bool resume, struct err *err);
/* ERR_ARG for a file that is in the way. */
int stream_open(struct stream_file **out, const char *path, bool resume, struct err *err);
int stream_declare(struct stream_file *s, const struct stream_spec *spec, size_t *id, struct err *err);
int stream_put(struct stream_file *s, size_t id, uint64_t n, const void *data, struct err *err);
/* Lengths of the axes in full, each at least 1. Of a file to resume: the same columns, types and shapes (ERR_ARG). */
int stream_start(struct stream_file *s, const uint64_t *lengths, int n_axes, const struct stream_hooks *hooks,
                 double flush_seconds, struct err *err);
/* Items of axis 0 that were committed by an earlier run. */
uint64_t stream_done(const struct stream_file *s);
bool stream_is_complete(const struct stream_file *s);
/* Bytes of one item of a dataset, and of the file in full (data only). */
size_t stream_item_bytes(const struct stream_file *s, size_t id);
/*
 * Memory of the queue for *bytes bytes of a dataset, or fewer (*bytes says how many), to be filled and sent; offset is
 * in bytes from the dataset's begin. NULL: an earlier write failed.
 */
void *stream_reserve(struct stream_file *s, size_t *bytes, struct err *err);
void stream_send(struct stream_file *s, size_t id, uint64_t offset, size_t bytes);
/* Items [first, first + n) of a dataset, copied. */
int stream_write(struct stream_file *s, size_t id, uint64_t first, uint64_t n, const void *data, struct err *err);
/* Everything up to these counts has been written. Counts may only rise. */
int stream_mark(struct stream_file *s, const uint64_t *counts, struct err *err);
int stream_finish(struct stream_file *s, struct err *err);
/* NULL is fine. Before finish: commits the last mark. Returns the first error of writing. */
int stream_close(struct stream_file *s, struct err *err);

#endif
