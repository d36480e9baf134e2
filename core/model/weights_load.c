/*
 * Float32 weights, in parallel: all of them once, or, streamed, a block at a time whenever it is used. F32 tensors that
 * are aligned in the file are used where they are mapped; all others are widened into one anonymous mapping. Work is
 * cut into runs of whole rows of about CHUNK elements, small enough that the search for NaN and infinity finds them in
 * cache.
 */
#define _GNU_SOURCE
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, HUGE_PAGE = 1 << 21, ALIGN = 64 };

struct part {
    const struct load *load;
    float *widened; /* NULL: used in place */
    size_t rows, columns, rows_per_task, first_task;
};

/* Widening of some of the loads. */
struct loader {
    const struct tensor_set *set;
    bool release;       /* the mapped bytes are not needed again */
    size_t n_hashes;    /* files to hash meanwhile */
    char (*sha256)[65]; /* [set->n_files] */
    struct part *parts;
    atomic_size_t *rows_left; /* [n_parts] not widened yet */
    size_t n_parts, n_tasks;  /* tasks after those of the hashes */
    size_t page_bytes;
    atomic_size_t bad; /* lowest part that holds NaN or infinity */
};

static bool in_place(const struct load *load)
{
    return load->tensor->dtype == DTYPE_F32 && !load->order.kind && load->plus == 0 && load->place == LOAD_ALONE &&
           (uintptr_t)load->tensor->data % sizeof(float) == 0;
}

static const float *data_of(const struct part *part)
{
    return part->widened ? part->widened : (const float *)(const void *)part->load->tensor->data + part->load->first;
}

/* An exponent of all ones plus one at its place overflows into the sign bit. */
static bool all_finite(const float *x, size_t n)
{
    uint32_t odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        odd |= (bits & 0x7fffffff) + 0x00800000;
    }
    return !(odd >> 31);
}

/* Half-split row j of a head is row 2 (j mod d/2) + j / (d/2) of the paired order. */
static size_t paired_row(size_t row, size_t d_head)
{
    size_t half = d_head / 2, j = row % d_head;
    return row - j + 2 * (j % half) + j / half;
}

/* Row of all q, then all k, then all v, in a file that has each key/value head's queries, key and value together. */
static size_t grouped_row(size_t row, const struct row_order *o)
{
    size_t n_q = o->groups * o->queries * o->d_head, n_kv = o->groups * o->d_head, group = (o->queries + 2) * o->d_head;
    if (row < n_q)
        return row / (o->queries * o->d_head) * group + row % (o->queries * o->d_head);
    row -= n_q;
    size_t offset = (o->queries + row / n_kv) * o->d_head; /* keys, then values */
    row %= n_kv;
    return row / o->d_head * group + offset + row % o->d_head;
}

static size_t source_row(const struct load *load, size_t row)
{
    return load->order.kind == ROWS_PAIRED ? paired_row(row, load->rows / load->order.groups)
                                           : grouped_row(row, &load->order);
}

static void widen(const struct part *part, size_t first, size_t rows)
{
    const struct load *load = part->load;
    float *out = part->widened + first * part->columns;
    if (!load->order.kind)
        tensor_widen(load->tensor, load->first + first * part->columns, rows * part->columns, out);
    for (size_t row = 0; load->order.kind && row < rows; row++)
        tensor_widen(load->tensor, load->first + source_row(load, first + row) * part->columns, part->columns,
                     out + row * part->columns);
    for (size_t i = 0; load->plus != 0 && i < rows * part->columns; i++)
        out[i] += load->plus;
}

/*
 * The mapped bytes of a tensor that is widened are not needed any more: without them a process takes the memory of
 * its float32 weights and little else. They stay readable: the system would fetch them again.
 */
static void release_source(const struct loader *loader, const struct tensor *t)
{
    size_t page = loader->page_bytes;
    for (size_t f = 0; f < loader->set->n_files; f++) {
        const struct file_map *file = &loader->set->files[f];
        if (!file->mapped || t->data < file->data || t->data >= file->data + file->size)
            continue;
        size_t begin = (size_t)(t->data - file->data), end = (begin + t->bytes) / page * page;
        begin = (begin + page - 1) / page * page;
        if (begin < end)
            madvise((void *)(uintptr_t)(file->data + begin), end - begin, MADV_DONTNEED);
    }
}

static const struct part *part_of_task(const struct loader *loader, size_t task)
{
    size_t low = 0, high = loader->n_parts;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (loader->parts[middle].first_task <= task)
            low = middle;
        else
            high = middle;
    }
    return &loader->parts[low];
}

static void load_task(void *arg, size_t index, int worker)
{
    struct loader *loader = arg;
    (void)worker;
    if (index < loader->n_hashes) { /* the longest tasks go first */
        file_map_sha256(&loader->set->files[index], loader->sha256[index]);
        return;
    }
    index -= loader->n_hashes;
    const struct part *part = part_of_task(loader, index);
    size_t first = (index - part->first_task) * part->rows_per_task, rows = part->rows - first;
    rows = rows < part->rows_per_task ? rows : part->rows_per_task;
    if (part->widened) {
        widen(part, first, rows);
        if (atomic_fetch_sub(&loader->rows_left[part - loader->parts], rows) == rows && loader->release)
            release_source(loader, part->load->tensor);
    }
    if (all_finite(data_of(part) + first * part->columns, rows * part->columns))
        return;
    size_t me = (size_t)(part - loader->parts), lowest = atomic_load(&loader->bad);
    while (me < lowest && !atomic_compare_exchange_weak(&loader->bad, &lowest, me))
        ;
}

static size_t padded(size_t bytes)
{
    return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static size_t padded_bytes(const struct load *load)
{
    return in_place(load) ? 0 : padded(load->n * sizeof(float));
}

size_t model_planned_bytes(const struct model *m)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->storage->n_loads; i++)
        bytes += padded_bytes(&m->storage->loads[i]);
    return bytes;
}

/* Of the weights outside the blocks, and *most of the largest block. */
static size_t bytes_outside(const struct model *m, size_t *most)
{
    const struct model_storage *s = m->storage;
    size_t outside = 0;
    *most = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        size_t bytes = 0;
        for (size_t i = 0; i < s->n_loads; i++)
            bytes += s->loads[i].layer == l ? padded_bytes(&s->loads[i]) : 0;
        *most = bytes > *most ? bytes : *most;
    }
    for (size_t i = 0; i < s->n_loads; i++)
        outside += s->loads[i].layer == NO_LAYER ? padded_bytes(&s->loads[i]) : 0;
    return outside;
}

size_t model_streamed_bytes(const struct model *m)
{
    size_t most, outside = bytes_outside(m, &most);
    return outside + STREAM_SLOTS * most;
}

/* Huge pages save most of the page faults; they need an aligned start. */
static int make_arena(struct model_storage *s, size_t bytes, char **start, const char *path, struct err *err)
{
    *start = NULL;
    if (!bytes)
        return 0;
    size_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    void *arena = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (arena == MAP_FAILED)
        return err_set(err, ERR_NOMEM, "%s: %.1f GiB of memory for its weights in float32 cannot be had", path,
                       (double)bytes / (1 << 30));
    s->arena = arena;
    s->arena_bytes = bytes + slack;
    uintptr_t at = (uintptr_t)arena;
    *start = (char *)arena + (slack ? (HUGE_PAGE - at % HUGE_PAGE) % HUGE_PAGE : 0);
    if (slack)
        madvise(*start, bytes, MADV_HUGEPAGE); /* a wish: a refusal changes nothing but speed */
    return 0;
}

static void make_parts(struct loader *loader, const struct load *loads, size_t n, char *arena)
{
    size_t at = 0; /* in the arena */
    for (size_t i = 0; i < n; i++) {
        const struct load *load = &loads[i];
        struct part *part = &loader->parts[i];
        *part = (struct part){ .load = load, .first_task = loader->n_tasks };
        part->rows = load->rows;
        part->columns = load->n / part->rows;
        part->rows_per_task = part->columns < CHUNK ? CHUNK / part->columns : 1;
        atomic_init(&loader->rows_left[i], part->rows);
        loader->n_tasks += (part->rows + part->rows_per_task - 1) / part->rows_per_task;
        if (in_place(load))
            continue;
        at = load->place == LOAD_NEXT ? at : padded(at);
        part->widened = (float *)(void *)(arena + at);
        at += load->n * sizeof(float);
    }
    loader->n_parts = n;
}

static int name_bad(const struct loader *loader, const char *path, struct err *err)
{
    size_t bad = atomic_load(&loader->bad), i = 0;
    if (bad == SIZE_MAX)
        return 0;
    const struct part *part = &loader->parts[bad];
    while (all_finite(data_of(part) + i, 1))
        i++;
    return err_set(err, ERR_NUMERIC, "%s: tensor \"%s\" holds %g (row %zu, column %zu): the file is damaged", path,
                   part->load->tensor->name, (double)data_of(part)[i], i / part->columns, i % part->columns);
}

static int by_name(const void *a, const void *b)
{
    const struct file_map *const *x = a, *const *y = b;
    return strcmp(file_base_name((*x)->name), file_base_name((*y)->name));
}

/* Of one file its own hash; of several the hash of theirs, as hexadecimal digits in the order of the names. */
static int combine_hashes(struct model *m, const struct loader *loader, struct err *err)
{
    size_t n = loader->set->n_files;
    if (n == 1) {
        memcpy(m->sha256, loader->sha256[0], sizeof m->sha256);
        return *m->sha256 ? 0 : err_nomem(err, "the hash of the model file");
    }
    const struct file_map **files = mem_array(n, sizeof *files);
    char *digits = mem_array(n, 64);
    bool whole = files && digits;
    if (whole) {
        for (size_t i = 0; i < n; i++)
            files[i] = &loader->set->files[i];
        qsort(files, n, sizeof *files, by_name);
        for (size_t i = 0; i < n; i++) {
            const char *hash = loader->sha256[files[i] - loader->set->files];
            whole = whole && *hash;
            memcpy(digits + 64 * i, hash, 64);
        }
        whole = whole && file_sha256(digits, 64 * n, m->sha256);
    }
    free(files);
    free(digits);
    return whole ? 0 : err_nomem(err, "the hashes of the model files");
}

static void set_pointers(const struct model_storage *s, const struct loader *loader)
{
    for (size_t i = 0; i < loader->n_parts; i++) {
        const struct load *load = loader->parts[i].load;
        for (size_t d = load->first_dest; d < load->first_dest + load->n_dests; d++)
            *s->dests[d].to = data_of(&loader->parts[i]) + s->dests[d].offset;
    }
}

/* Widens n loads to `at`; sha256 not NULL: hashes the files meanwhile. */
static int widen_loads(struct model *m, const struct load *loads, size_t n, char *at, bool release, bool hash,
                       struct pool *pool, struct err *err)
{
    struct loader loader = { .set = model_tensors(m), .release = release, .page_bytes = (size_t)sysconf(_SC_PAGESIZE) };
    int rc = 0;
    atomic_init(&loader.bad, SIZE_MAX);
    loader.n_hashes = hash ? loader.set->n_files : 0;
    loader.parts = mem_array(n, sizeof *loader.parts);
    loader.rows_left = mem_array(n, sizeof *loader.rows_left);
    loader.sha256 = mem_zeroed(loader.set->n_files, sizeof *loader.sha256);
    if (!loader.parts || !loader.rows_left || !loader.sha256)
        rc = err_nomem(err, "the list of weights");
    else {
        make_parts(&loader, loads, n, at);
        pool_run(pool, loader.n_hashes + loader.n_tasks, load_task, &loader);
        rc = name_bad(&loader, m->path, err);
        rc = rc || !hash ? rc : combine_hashes(m, &loader, err);
        if (!rc)
            set_pointers(m->storage, &loader);
    }
    free(loader.parts);
    free(loader.rows_left);
    free(loader.sha256);
    return rc;
}

/* --- streaming --- */

bool model_streams(const struct model *m)
{
    return m->storage->stream.first != NULL;
}

static int by_layer(const void *a, const void *b)
{
    const struct load *x = a, *y = b;
    size_t p = x->layer + 1, q = y->layer + 1; /* NO_LAYER comes first */
    return p != q ? (p > q) - (p < q) : (x->number > y->number) - (x->number < y->number);
}

static int begin_stream(struct model *m, char *arena, size_t slot_bytes, struct pool *pool, struct err *err)
{
    struct model_storage *s = m->storage;
    struct stream *stream = &s->stream;
    size_t n_layers = m->config.n_layers, at = 0;
    stream->pool = pool;
    qsort(s->loads, s->n_loads, sizeof *s->loads, by_layer);
    stream->first = mem_array(n_layers + 1, sizeof *stream->first);
    if (!stream->first)
        return err_nomem(err, "streamed weights");
    for (size_t l = 0; l <= n_layers; l++) {
        while (at < s->n_loads && s->loads[at].layer + 1 < l + 1)
            at++;
        stream->first[l] = at;
    }
    for (size_t i = 0; i < STREAM_SLOTS; i++) {
        stream->slots[i] = arena + i * slot_bytes;
        stream->holds[i] = NO_LAYER;
    }
    return 0;
}

/* Nobody reads a block that has gone: its pointers are NULL until it is back. */
static void forget(struct model_storage *s, size_t layer)
{
    for (size_t i = s->stream.first[layer]; i < s->stream.first[layer + 1]; i++)
        for (size_t d = 0; d < s->loads[i].n_dests && !in_place(&s->loads[i]); d++)
            *s->dests[s->loads[i].first_dest + d].to = NULL;
}

int model_use_layer(const struct model *m, size_t layer, struct err *err)
{
    struct model_storage *s = m->storage;
    struct stream *stream = &s->stream;
    size_t oldest = 0;
    if (!stream->first)
        return 0;
    stream->uses++;
    for (size_t i = 0; i < STREAM_SLOTS; i++) {
        if (stream->holds[i] == layer) {
            stream->used[i] = stream->uses;
            return 0;
        }
        oldest = stream->used[i] < stream->used[oldest] ? i : oldest;
    }
    if (stream->holds[oldest] != NO_LAYER)
        forget(s, stream->holds[oldest]);
    stream->holds[oldest] = NO_LAYER;
    size_t first = stream->first[layer];
    int rc = widen_loads((struct model *)(uintptr_t)m, s->loads + first, stream->first[layer + 1] - first,
                         stream->slots[oldest], false, false, stream->pool, err);
    if (rc)
        return rc;
    stream->holds[oldest] = layer;
    stream->used[oldest] = stream->uses;
    return 0;
}

static bool fits(size_t bytes)
{
    double available = mem_available();
    return available <= 0 || (double)bytes <= 0.9 * available;
}

int weights_load(struct model *m, enum weight_place place, struct pool *pool, struct err *err)
{
    struct model_storage *s = m->storage;
    size_t most, outside = bytes_outside(m, &most), all = model_planned_bytes(m);
    bool streams = place == WEIGHTS_STREAM || (place == WEIGHTS_AUTO && !fits(all));
    char *arena;
    int rc = make_arena(s, streams ? outside + STREAM_SLOTS * most : all, &arena, m->path, err);
    if (rc)
        return rc;
    m->weight_bytes = streams ? outside + STREAM_SLOTS * most : all;
    if (!streams)
        return widen_loads(m, s->loads, s->n_loads, arena, true, true, pool, err);
    rc = begin_stream(m, arena + outside, most, pool, err);
    return rc ? rc : widen_loads(m, s->loads, s->stream.first[0], arena, true, true, pool, err);
}
