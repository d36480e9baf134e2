/* Shared by stream_file.c (life cycle) and stream_layout.c (what HDF5 does before and after the run). */
#ifndef STRATA_STORE_STREAM_INTERNAL_H
#define STRATA_STORE_STREAM_INTERNAL_H

#include "core/store/extent.h"
#include "core/store/spool.h"
#include "core/store/stream_file.h"

struct column {
    struct stream_spec spec; /* its name is owned */
    struct spool spool;      /* known columns */
    size_t item_bytes;
    uint64_t full; /* items in the end */
    off_t data;    /* offset of the first byte in the file */
    struct extent extent;
};

enum stream_state { STREAM_NEW, STREAM_PARTIAL, STREAM_COMPLETE };

struct stream_file {
    char *path, *partial, *starting; /* owned */
    enum stream_state state;
    struct column *columns;
    size_t n_columns, capacity;
    size_t record; /* the column whose extent says what is whole */
    uint64_t lengths[STREAM_MAX_AXES], marked[STREAM_MAX_AXES], done;
    int n_axes;
    int fd;     /* -1: not running */
    bool begun; /* the starting file is of this run */
    bool named; /* the file has its partial name */
    struct write_queue *queue;
};

static inline uint64_t column_items(const struct column *c, const uint64_t *counts)
{
    return counts[c->spec.axis] + (c->spec.fence ? 1 : 0);
}

/* Writes s->starting: datasets in full, known columns, attributes. */
int stream_layout_create(struct stream_file *s, const struct stream_hooks *hooks, struct err *err);
/* Opens a partial or complete file, checks that it is what a run with these columns writes; sets s->done. */
int stream_layout_check(struct stream_file *s, const char *path, const struct stream_hooks *hooks, struct err *err);
/* Offsets of data and extents, from the file that HDF5 has closed. */
int stream_layout_find(struct stream_file *s, const char *path, struct err *err);
int stream_layout_complete(const char *path, struct err *err);

#endif
