#include "core/store/stream_file.h"

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/stream_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- opening --- */

static int look(struct stream_file *s, bool resume, struct err *err)
{
    int there = file_look(s->path, err), begun = there ? 0 : file_look(s->partial, err);
    if (there < 0 || begun < 0)
        return ERR_IO;
    if (there) {
        if (!resume)
            return err_set(err, ERR_ARG, "%s: exists already: remove it, or choose another output", s->path);
        s->state = STREAM_COMPLETE;
    } else if (begun) {
        if (!resume)
            return err_set(err, ERR_ARG, "%s: an interrupted run left it: continue it with --resume, or remove it",
                           s->partial);
        s->state = STREAM_PARTIAL;
        s->named = true;
    }
    return 0;
}

static int init(struct stream_file *s, const char *path, struct err *err)
{
    *s = (struct stream_file){ .fd = -1 };
    s->path = mem_strdup(path);
    s->partial = file_with_suffix(path, ".partial");
    s->starting = file_with_suffix(path, ".starting");
    return !s->path || !s->partial || !s->starting ? err_nomem(err, "a path") : 0;
}

static void release_paths(struct stream_file *s)
{
    free(s->path);
    free(s->partial);
    free(s->starting);
}

int stream_look(const char *path, bool resume, struct err *err)
{
    struct stream_file s;
    int rc = init(&s, path, err);
    rc = rc ? rc : look(&s, resume, err);
    release_paths(&s);
    return rc;
}

int stream_open(struct stream_file **out, const char *path, bool resume, struct err *err)
{
    struct stream_file *s = mem_zeroed(1, sizeof *s);
    if (!s)
        return err_nomem(err, "an output file");
    int rc = init(s, path, err);
    rc = rc ? rc : look(s, resume, err);
    if (rc)
        stream_close(s, NULL);
    else
        *out = s;
    return rc;
}

/* --- columns --- */

int stream_declare(struct stream_file *s, const struct stream_spec *spec, size_t *id, struct err *err)
{
    if (!mem_grow(&s->columns, &s->capacity, s->n_columns + 1, sizeof *s->columns))
        return err_nomem(err, "a dataset");
    struct column *c = &s->columns[s->n_columns];
    *c = (struct column){ .spec = *spec, .item_bytes = store_type_size(spec->type) };
    if (spec->type == STORE_TEXT) {
        c->spec.known = true;
        c->item_bytes = 16; /* in the file: length, address and index of a global heap object */
    }
    for (int i = 0; i < spec->n_dims; i++)
        if (!size_mul(c->item_bytes, spec->dims[i], &c->item_bytes))
            return err_set(err, ERR_ARG, "%s: '%s' is larger than memory can address", s->path, spec->name);
    c->spec.name = mem_strdup(spec->name);
    if (!c->spec.name)
        return err_nomem(err, "a dataset's name");
    if (c->spec.known && c->spec.axis == 0)
        s->record = s->n_columns;
    *id = s->n_columns++;
    return c->spec.known ? spool_open(&c->spool, spec->type, s->path, err) : 0;
}

int stream_put(struct stream_file *s, size_t id, uint64_t n, const void *data, struct err *err)
{
    return spool_add(&s->columns[id].spool, n, data, err);
}

static int measure(struct stream_file *s, struct err *err)
{
    for (size_t i = 0; i < s->n_columns; i++) {
        struct column *c = &s->columns[i];
        size_t bytes;
        c->full = column_items(c, s->lengths);
        if (!size_mul(c->item_bytes, (size_t)c->full, &bytes) || bytes > INT64_MAX / 2)
            return err_set(err, ERR_ARG, "%s: '%s' would be larger than a file can be", s->path, c->spec.name);
        if (c->spec.known && c->spool.n != c->full)
            return err_set(err, ERR_CHECK, "%s: '%s' has %llu items where %llu are counted", s->path, c->spec.name,
                           (unsigned long long)c->spool.n, (unsigned long long)c->full);
    }
    return 0;
}

/* --- running --- */

static const char *name_now(const struct stream_file *s)
{
    return s->named ? s->partial : s->starting;
}

static int move_extent(struct stream_file *s, const struct column *c, const uint64_t *counts, struct err *err)
{
    return extent_set(s->fd, &c->extent, column_items(c, counts), name_now(s), err);
}

/* Of all columns but the record: rows of numbers first. */
static int move_extents(struct stream_file *s, const uint64_t *counts, struct err *err)
{
    int rc = 0;
    for (int known = 0; known < 2; known++)
        for (size_t i = 0; !rc && i < s->n_columns; i++)
            if (s->columns[i].spec.known == known && i != s->record)
                rc = move_extent(s, &s->columns[i], counts, err);
    return rc;
}

static int flush(struct stream_file *s, struct err *err)
{
    return fdatasync(s->fd) ? err_errno(err, "%s: cannot flush to disk", name_now(s)) : 0;
}

/*
 * On the queue's thread. A kill leaves what was written up to then, in this order; a power loss may leave any of what
 * was not flushed. So the disk has the numbers before an extent shows them, all else before the record counts them, and
 * the record before this returns, which is what stream_file.h promises.
 */
static int commit(void *arg, const uint64_t counts[STREAM_MAX_AXES], struct err *err)
{
    struct stream_file *s = arg;
    int rc = flush(s, err);
    rc = rc ? rc : move_extents(s, counts, err);
    rc = rc ? rc : flush(s, err);
    rc = rc ? rc : move_extent(s, &s->columns[s->record], counts, err);
    rc = rc ? rc : flush(s, err);
    if (rc || s->named)
        return rc;
    rc = file_publish(s->starting, s->partial, err);
    s->named = !rc;
    return rc;
}

static int run(struct stream_file *s, double flush_seconds, struct err *err)
{
    const char *path = name_now(s);
    s->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (s->fd < 0)
        return err_errno(err, "%s: cannot open", path);
    return write_queue_start(&s->queue, s->fd, s->partial, flush_seconds, commit, s, err);
}

int stream_start(struct stream_file *s, const uint64_t *lengths, int n_axes, const struct stream_hooks *hooks,
                 double flush_seconds, struct err *err)
{
    s->n_axes = n_axes;
    memcpy(s->lengths, lengths, (size_t)n_axes * sizeof *lengths);
    for (int i = 0; i < n_axes; i++)
        if (!lengths[i])
            return err_set(err, ERR_ARG, "%s: there is nothing to write", s->path);
    int rc = measure(s, err);
    if (rc)
        return rc;
    if (s->state == STREAM_COMPLETE)
        return stream_layout_check(s, s->path, hooks, err);
    s->begun = s->state == STREAM_NEW;
    rc = s->begun ? stream_layout_create(s, hooks, err) : stream_layout_check(s, s->partial, hooks, err);
    if (!rc)
        rc = stream_layout_find(s, name_now(s), err);
    return rc ? rc : run(s, flush_seconds, err);
}

uint64_t stream_done(const struct stream_file *s)
{
    return s->done;
}

bool stream_is_complete(const struct stream_file *s)
{
    return s->state == STREAM_COMPLETE;
}

size_t stream_item_bytes(const struct stream_file *s, size_t id)
{
    return s->columns[id].item_bytes;
}

void *stream_reserve(struct stream_file *s, size_t *bytes, struct err *err)
{
    return write_queue_reserve(s->queue, *bytes, bytes, err);
}

void stream_send(struct stream_file *s, size_t id, uint64_t offset, size_t bytes)
{
    write_queue_send(s->queue, s->columns[id].data + (off_t)offset, bytes);
}

int stream_write(struct stream_file *s, size_t id, uint64_t first, uint64_t n, const void *data, struct err *err)
{
    const struct column *c = &s->columns[id];
    if (first > c->full || n > c->full - first)
        return err_set(err, ERR_CHECK, "%s: rows beyond the end of '%s'", s->path, c->spec.name);
    size_t left = (size_t)n * c->item_bytes;
    uint64_t offset = first * c->item_bytes;
    for (const char *from = data; left;) {
        size_t piece = left;
        void *to = stream_reserve(s, &piece, err);
        if (!to)
            return err ? err->code : ERR_IO;
        memcpy(to, from, piece);
        stream_send(s, id, offset, piece);
        from += piece;
        offset += piece;
        left -= piece;
    }
    return 0;
}

int stream_mark(struct stream_file *s, const uint64_t *counts, struct err *err)
{
    uint64_t padded[STREAM_MAX_AXES] = { 0 };
    for (int i = 0; i < s->n_axes; i++) {
        padded[i] = counts[i];
        if (counts[i] > s->lengths[i] || counts[i] < s->marked[i] || !counts[i])
            return err_set(err, ERR_CHECK, "%s: the run wrote other rows than the first pass counted", s->path);
    }
    memcpy(s->marked, padded, sizeof s->marked);
    return write_queue_mark(s->queue, padded, err);
}

/* --- the end --- */

static int stop(struct stream_file *s, struct err *err)
{
    int rc = s->queue ? write_queue_stop(s->queue, err) : 0;
    s->queue = NULL;
    if (s->fd >= 0 && close(s->fd) && !rc)
        rc = err_errno(err, "%s: cannot close", s->partial);
    s->fd = -1;
    return rc;
}

int stream_finish(struct stream_file *s, struct err *err)
{
    if (s->state == STREAM_COMPLETE)
        return 0;
    if (s->done < s->lengths[0] && memcmp(s->marked, s->lengths, (size_t)s->n_axes * sizeof *s->marked))
        return err_set(err, ERR_CHECK, "%s: the run wrote fewer rows than the first pass counted", s->path);
    int rc = stop(s, err);
    if (!rc)
        rc = stream_layout_complete(s->partial, err);
    if (!rc)
        rc = file_publish(s->partial, s->path, err);
    if (!rc)
        s->state = STREAM_COMPLETE;
    return rc;
}

int stream_close(struct stream_file *s, struct err *err)
{
    if (!s)
        return 0;
    int rc = stop(s, err);
    /* Nothing in it can be read: the first commit did not come. */
    if (s->begun && !s->named)
        unlink(s->starting);
    for (size_t i = 0; i < s->n_columns; i++) {
        spool_close(&s->columns[i].spool);
        free((void *)(uintptr_t)s->columns[i].spec.name);
    }
    free(s->columns);
    release_paths(s);
    free(s);
    return rc;
}
