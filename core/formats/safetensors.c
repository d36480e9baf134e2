/*
 * safetensors reader. The checks, in the order of the reference reader
 * (safetensors/src/tensor.rs), then what it leaves to its callers:
 * header length against 100 MB and the file; '{' first, UTF-8, JSON; names
 * unique; per tensor a known type, at most four dimensions, checked products,
 * byte count equal to data_offsets; all tensors sorted by begin cover the data
 * without hole or overlap, to the last byte of the file.
 */
#include "core/formats/safetensors.h"

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "core/formats/json_walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADER = 100000000,  /* the reference reader's limit */
    MAX_ENTRY = 64 << 10,    /* bytes of one tensor's JSON; honest ones have about 100 */
    MAX_METADATA = 16 << 20, /* Jansson needs up to 20 times as much */
    MAX_NAME = 64 << 10,
    MAX_INDEX_VALUE = 4 << 10 /* a shard's name; file systems stop at 255 */
};

static const struct {
    const char *name;
    enum dtype type;
} readable[] = {
    { "F32", DTYPE_F32 }, { "F16", DTYPE_F16 }, { "BF16", DTYPE_BF16 }, { "F64", DTYPE_F64 }, { "I64", DTYPE_I64 },
    { "I32", DTYPE_I32 }, { "I16", DTYPE_I16 }, { "I8", DTYPE_I8 },     { "U8", DTYPE_U8 },   { "BOOL", DTYPE_BOOL },
};

static const char *const unreadable[] = {
    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3",
    "F6_E3M2", "F4",      "C64",     "U16",         "U32",         "U64",
};

/* Where a tensor's bytes lie in the data, and which tensor of the set it is. */
struct span {
    size_t begin, end, tensor;
};

struct parser {
    struct tensor_set *set;
    const char *where;
    const unsigned char *data; /* behind the header */
    size_t data_size;
    struct span *spans;
    size_t n_spans, capacity;
};

static int dtype_from_name(const char *name, const char *where, enum dtype *type, struct err *err)
{
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
        if (!strcmp(name, readable[i].name)) {
            *type = readable[i].type;
            return 0;
        }
    for (size_t i = 0; i < sizeof unreadable / sizeof *unreadable; i++)
        if (!strcmp(name, unreadable[i]))
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: has type %s, which cannot be read: convert it to F32, F16 or BF16", where, name);
    return err_set(err, ERR_FORMAT, "%s: has the unknown type \"%.50s\"", where, name);
}

static int whole_number(const json_t *value, const char *where, const char *key, size_t *out, struct err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return err_set(err, ERR_FORMAT, "%s: \"%s\" must hold whole numbers from 0", where, key);
    *out = (size_t)json_integer_value(value);
    return 0;
}

static int shape_read(const json_t *shape, const char *where, struct tensor *t, struct err *err)
{
    size_t n_dims = json_array_size(shape);
    if (n_dims > TENSOR_MAX_DIMS)
        return err_set(err, ERR_UNSUPPORTED, "%s: has %zu dimensions, at most %d can be read", where, n_dims,
                       TENSOR_MAX_DIMS);
    t->n_dims = (int)n_dims;
    t->n = 1;
    for (size_t i = 0; i < n_dims; i++) {
        int rc = whole_number(json_array_get(shape, i), where, "shape", &t->dims[i], err);
        if (rc)
            return rc;
        if (!size_mul(t->n, t->dims[i], &t->n))
            return err_set(err, ERR_FORMAT, "%s: its shape has more elements than memory can address", where);
    }
    return 0;
}

/* One tensor's description; *t gets everything but its name. */
static int entry_read(struct parser *p, const json_t *entry, const char *where, struct tensor *t, struct span *span,
                      struct err *err)
{
    const char *dtype = NULL;
    json_t *shape = NULL, *offsets = NULL;
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return err_set(err, ERR_FORMAT, "%s: must be an object of dtype, shape and data_offsets", where);
    int rc = json_get_string(entry, where, "dtype", &dtype, err);
    if (rc || (rc = json_get_array(entry, where, "shape", &shape, err)) ||
        (rc = json_get_array(entry, where, "data_offsets", &offsets, err)))
        return rc;
    if (!dtype || !shape || !offsets || json_array_size(offsets) != 2)
        return err_set(err, ERR_FORMAT, "%s: must be an object of dtype, shape and two data_offsets", where);
    if ((rc = dtype_from_name(dtype, where, &t->dtype, err)) || (rc = shape_read(shape, where, t, err)) ||
        (rc = whole_number(json_array_get(offsets, 0), where, "data_offsets", &span->begin, err)) ||
        (rc = whole_number(json_array_get(offsets, 1), where, "data_offsets", &span->end, err)))
        return rc;
    if (span->begin > span->end || span->end > p->data_size)
        return err_set(err, ERR_FORMAT, "%s: its bytes %zu to %zu are not within the file's %zu bytes of data: %s",
                       where, span->begin, span->end, p->data_size, "was the download cut off?");
    if (!size_mul(t->n, dtype_block_bytes(t->dtype), &t->bytes) || t->bytes != span->end - span->begin)
        return err_set(err, ERR_FORMAT, "%s: its data_offsets span %zu bytes, its shape and type need another number",
                       where, span->end - span->begin);
    t->data = p->data + span->begin;
    return 0;
}

static int tensor_entry(struct parser *p, const json_t *name, struct json_slice value, struct err *err)
{
    const char *text = json_string_value(name);
    char where[512];
    snprintf(where, sizeof where, "%.300s: tensor \"%.150s\"", p->where, text);
    json_t *entry = NULL;
    int rc = json_slice_parse(value, MAX_ENTRY, where, "its description", &entry, err);
    if (rc)
        return rc;
    struct tensor t = { 0 };
    struct span span = { 0, 0, p->set->n };
    rc = entry_read(p, entry, where, &t, &span, err);
    json_decref(entry);
    if (rc || (rc = tensor_set_add(p->set, text, json_string_length(name), &t, p->where, err)))
        return rc;
    if (!mem_grow(&p->spans, &p->capacity, p->n_spans + 1, sizeof *p->spans))
        return err_nomem(err, "the list of tensors");
    p->spans[p->n_spans++] = span;
    return 0;
}

/* __metadata__ maps strings to strings; nothing in it is used. */
static int metadata_check(const char *file, struct json_slice value, struct err *err)
{
    json_t *metadata = NULL;
    int rc = json_slice_parse(value, MAX_METADATA, file, "__metadata__", &metadata, err);
    if (rc)
        return rc;
    if (!json_is_object(metadata))
        rc = err_set(err, ERR_FORMAT, "%s: __metadata__ must be an object", file);
    for (void *i = json_object_iter(metadata); i && !rc; i = json_object_iter_next(metadata, i))
        if (!json_is_string(json_object_iter_value(i)))
            rc = err_set(err, ERR_FORMAT, "%s: __metadata__ must hold strings only", file);
    json_decref(metadata);
    return rc;
}

static int header_read(struct parser *p, const char *text, size_t n, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    bool metadata_seen = false;
    int got = json_walk_open(&walk, text, n, p->where, err);
    if (got)
        return got;
    while ((got = json_walk_next(&walk, &key, &value, err)) > 0) {
        json_t *name = NULL;
        int rc = json_slice_parse(key, MAX_NAME, p->where, "a tensor name", &name, err);
        if (!rc && strcmp(json_string_value(name), "__metadata__"))
            rc = tensor_entry(p, name, value, err);
        else if (!rc && metadata_seen)
            rc = err_set(err, ERR_FORMAT, "%s: __metadata__ is there twice", p->where);
        else if (!rc) {
            metadata_seen = true;
            rc = metadata_check(p->where, value, err);
        }
        json_decref(name);
        if (rc)
            return rc;
    }
    return got;
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Holes and overlaps let one file mean two things to two readers. */
static int coverage_check(struct parser *p, struct err *err)
{
    size_t end = 0;
    if (p->n_spans)
        qsort(p->spans, p->n_spans, sizeof *p->spans, compare_spans);
    for (size_t i = 0; i < p->n_spans; i++) {
        if (p->spans[i].begin != end)
            return err_set(err, ERR_FORMAT,
                           "%s: tensor \"%.200s\" begins at byte %zu of the data, the one before it ends "
                           "at %zu: there must be no hole and no overlap",
                           p->where, p->set->tensors[p->spans[i].tensor].name, p->spans[i].begin, end);
        end = p->spans[i].end;
    }
    if (end != p->data_size)
        return err_set(err, ERR_FORMAT, "%s: %zu bytes follow the last tensor", p->where, p->data_size - end);
    return 0;
}

int safetensors_add(struct tensor_set *set, struct file_map *map, struct err *err)
{
    int rc = tensor_set_add_file(set, map, err);
    if (rc)
        return rc;
    const struct file_map *file = &set->files[set->n_files - 1];
    const char *where = file->name;
    uint64_t n = 0;
    if (file->size < 8)
        return err_set(err, ERR_FORMAT, "%s: has %zu bytes, too few for a safetensors file", where, file->size);
    if (file->size > 23 && !memcmp(file->data, "version https://git-lfs", 23))
        return err_set(err, ERR_FORMAT, "%s: is a Git LFS pointer, not the file itself: run `git lfs pull`", where);
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)file->data[i] << 8 * i;
    if (n > MAX_HEADER)
        return err_set(err, ERR_FORMAT, "%s: is no safetensors file (its first bytes, as a header length, exceed %d)",
                       where, MAX_HEADER);
    if (n > file->size - 8)
        return err_set(err, ERR_FORMAT, "%s: ends inside its header: was the download cut off?", where);
    const char *header = (const char *)file->data + 8;
    size_t header_size = (size_t)n;
    if (!header_size || header[0] != '{')
        return err_set(err, ERR_FORMAT, "%s: is no safetensors file (its header does not start with '{')", where);
    if (!header[header_size - 1])
        return err_set(err, ERR_FORMAT,
                       "%s: its header is padded with NUL bytes, only spaces are allowed: save it again "
                       "with a current safetensors library",
                       where);
    if (!utf8_valid(header, header_size))
        return err_set(err, ERR_FORMAT, "%s: its header is no UTF-8", where);
    struct parser p = {
        .set = set, .where = where, .data = file->data + 8 + header_size, .data_size = file->size - 8 - header_size
    };
    rc = header_read(&p, header, header_size, err);
    if (!rc)
        rc = coverage_check(&p, err);
    free(p.spans);
    return rc;
}

/* One shard of an index: which tensors of the set it brought. */
struct shard {
    char *name;
    size_t first, end;
};

struct index_reader {
    struct tensor_set *set;
    const char *where;
    file_opener *open_file;
    void *ctx;
    struct shard *shards;
    size_t n_shards, capacity;
    struct strmap by_name;
};

/* A shard's name comes from the file, so it may only name a neighbour. */
static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && !strchr(name, '\\') && !strstr(name, "..") && strcmp(name, ".");
}

static int shard_find(struct index_reader *r, const json_t *value, size_t *out, struct err *err)
{
    const char *name = json_string_value(value);
    if (!name || strlen(name) != json_string_length(value))
        return err_set(err, ERR_FORMAT, "%s: weight_map must map names to file names", r->where);
    uint32_t id;
    if (strmap_get(&r->by_name, name, strlen(name), &id)) {
        *out = id;
        return 0;
    }
    if (!is_plain_name(name))
        return err_set(err, ERR_FORMAT, "%s: shard \"%.200s\" is no plain file name of the same folder", r->where,
                       name);
    if (!mem_grow(&r->shards, &r->capacity, r->n_shards + 1, sizeof *r->shards))
        return err_nomem(err, "the list of shards");
    struct shard *shard = &r->shards[r->n_shards];
    shard->name = mem_strdup(name);
    if (!shard->name || strmap_put(&r->by_name, shard->name, strlen(name), (uint32_t)r->n_shards, NULL)) {
        free(shard->name);
        return err_nomem(err, "the list of shards");
    }
    *out = r->n_shards++;
    struct file_map map = { 0 };
    shard->first = r->set->n;
    int rc = r->open_file(r->ctx, name, &map, err);
    if (!rc)
        rc = safetensors_add(r->set, &map, err);
    shard->end = r->set->n;
    return rc;
}

/* A tensor named twice in weight_map is harmless: it can only lie in one shard, so both must name that one. */
static int mapped_tensor_check(struct index_reader *r, const json_t *key, const json_t *value, struct err *err)
{
    size_t shard = 0;
    uint32_t tensor;
    int rc = shard_find(r, value, &shard, err);
    if (rc)
        return rc;
    const char *name = json_string_value(key);
    if (strmap_get(&r->set->index, name, json_string_length(key), &tensor) && tensor >= r->shards[shard].first &&
        tensor < r->shards[shard].end)
        return 0;
    return err_set(err, ERR_FORMAT, "%s: tensor \"%.200s\" is not in %.200s, where weight_map says it is", r->where,
                   name, r->shards[shard].name);
}

static int weight_map_read(struct index_reader *r, struct json_slice weight_map, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    int got = json_walk_open(&walk, weight_map.text, weight_map.n, r->where, err);
    if (got)
        return got;
    if (walk.closing != '}')
        return err_set(err, ERR_FORMAT, "%s: weight_map must be an object", r->where);
    while ((got = json_walk_next(&walk, &key, &value, err)) > 0) {
        json_t *name = NULL, *file = NULL;
        int rc = json_slice_parse(key, MAX_NAME, r->where, "a tensor name", &name, err);
        if (!rc)
            rc = json_slice_parse(value, MAX_INDEX_VALUE, r->where, "a shard's name", &file, err);
        if (!rc)
            rc = mapped_tensor_check(r, name, file, err);
        json_decref(name);
        json_decref(file);
        if (rc)
            return rc;
    }
    return got;
}

static int weight_map_find(const struct file_map *index, struct json_slice *out, struct err *err)
{
    const char *text = (const char *)index->data;
    struct json_walk walk;
    struct json_slice key, value;
    out->text = NULL;
    if (!utf8_valid(text, index->size))
        return err_set(err, ERR_FORMAT, "%s: is no UTF-8", index->name);
    int got = json_walk_open(&walk, text, index->size, index->name, err);
    if (got)
        return got;
    while ((got = json_walk_next(&walk, &key, &value, err)) > 0) {
        if (!json_slice_is(key, "weight_map"))
            continue;
        if (out->text)
            return err_set(err, ERR_FORMAT, "%s: weight_map is there twice", index->name);
        *out = value;
    }
    if (!got && !out->text)
        return err_set(err, ERR_FORMAT, "%s: has no weight_map", index->name);
    return got;
}

int safetensors_add_index(struct tensor_set *set, const struct file_map *index, file_opener *open_file, void *ctx,
                          struct err *err)
{
    struct json_slice weight_map = { 0 };
    struct index_reader r = { .set = set, .where = index->name, .open_file = open_file, .ctx = ctx };
    int rc = weight_map_find(index, &weight_map, err);
    if (rc)
        return rc;
    if (strmap_init(&r.by_name, 64))
        return err_nomem(err, "the list of shards");
    rc = weight_map_read(&r, weight_map, err);
    for (size_t i = 0; i < r.n_shards; i++)
        free(r.shards[i].name);
    free(r.shards);
    strmap_release(&r.by_name);
    return rc;
}
