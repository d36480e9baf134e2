/*
 * GGUF reader. All bytes are read through one cursor that asks need(n) first;
 * the rules are those of ggml's own reader (ggml-org/ggml src/gguf.cpp), which
 * is stricter than the specification about tensor order: each tensor's offset
 * equals the padded sizes of those before it.
 */
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "core/formats/gguf_internal.h"

#include <stdlib.h>
#include <string.h>

const unsigned char gguf_value_bytes[N_VALUE_TYPES] = {
#define X(name, bytes) bytes,
    VALUE_TYPES(X)
#undef X
};

enum {
    MAX_KEY = 65535,
    MAX_TENSOR_NAME = 64,
    DEFAULT_ALIGNMENT = 32,
    /* Honest files have about 50 and 1000. Each takes up to 500 bytes of memory for the 14 and 37 that it has in the
       file. */
    MAX_KVS = 1 << 16,
    MAX_TENSORS = 1 << 20,
    /* The smallest possible entries: what a count in the header promises must fit into the file. */
    LEAST_KV_BYTES = 8 + 1 + 4 + 1,
    LEAST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8
};

/* What is left to read. Nobody else moves `at`. */
struct cursor {
    const unsigned char *at;
    size_t left;
    const char *where;
    struct err *err;
};

static int need(const struct cursor *c, size_t n, const char *what)
{
    if (n <= c->left)
        return 0;
    return err_set(c->err, ERR_FORMAT, "%s: ends inside %s: was the download cut off?", c->where, what);
}

static int take(struct cursor *c, size_t n, const char *what, const unsigned char **bytes)
{
    int rc = need(c, n, what);
    if (rc)
        return rc;
    *bytes = c->at;
    c->at += n;
    c->left -= n;
    return 0;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *out)
{
    const unsigned char *bytes;
    int rc = take(c, 4, what, &bytes);
    if (!rc)
        *out = (uint32_t)gguf_little_endian(bytes, 4);
    return rc;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *out)
{
    const unsigned char *bytes;
    int rc = take(c, 8, what, &bytes);
    if (!rc)
        *out = gguf_little_endian(bytes, 8);
    return rc;
}

/* A length of 64 bits and so many bytes. The file is in memory, so what it holds fits into size_t. */
static int take_string(struct cursor *c, const char *what, const unsigned char **bytes, size_t *len)
{
    uint64_t n;
    int rc = take_u64(c, what, &n);
    if (!rc)
        rc = need(c, n > c->left ? SIZE_MAX : (size_t)n, what);
    if (rc)
        return rc;
    *len = (size_t)n;
    return take(c, *len, what, bytes);
}

static int bools_check(struct cursor *c, const struct kv *kv)
{
    for (size_t i = 0; i < kv->n; i++)
        if (kv->data[i] > 1)
            return err_set(c->err, ERR_FORMAT, "%s: key %.200s holds the truth value %d, it must be 0 or 1", c->where,
                           kv->key, kv->data[i]);
    return 0;
}

static int strings_read(struct cursor *c, struct kv *kv)
{
    if (kv->n > c->left / 8)
        return need(c, SIZE_MAX, "an array of strings");
    kv->offsets = mem_array(kv->n + 1, sizeof *kv->offsets);
    if (!kv->offsets)
        return err_nomem(c->err, "an array of strings");
    kv->data = c->at;
    for (size_t i = 0; i < kv->n; i++) {
        const unsigned char *bytes;
        size_t len;
        kv->offsets[i] = (size_t)(c->at - kv->data);
        int rc = take_string(c, "an array of strings", &bytes, &len);
        if (rc)
            return rc;
    }
    kv->offsets[kv->n] = (size_t)(c->at - kv->data);
    return 0;
}

static int type_read(struct cursor *c, const char *key, enum value_type *type)
{
    uint32_t id;
    int rc = take_u32(c, "a value's type", &id);
    if (!rc && id >= N_VALUE_TYPES)
        rc = err_set(c->err, ERR_FORMAT, "%s: key %.200s has the unknown value type %u", c->where, key, (unsigned)id);
    if (!rc)
        *type = (enum value_type)id;
    return rc;
}

static int value_read(struct cursor *c, struct kv *kv)
{
    int rc = type_read(c, kv->key, &kv->type);
    kv->n = 1;
    if (!rc && kv->type == VALUE_ARRAY) {
        uint64_t n;
        kv->is_array = true;
        if ((rc = type_read(c, kv->key, &kv->type)) || (rc = take_u64(c, "the length of an array", &n)))
            return rc;
        if (kv->type == VALUE_ARRAY)
            return err_set(c->err, ERR_UNSUPPORTED, "%s: key %.200s is an array of arrays, which no reader accepts",
                           c->where, kv->key);
        if (n > c->left) /* every element takes a byte at least */
            return need(c, SIZE_MAX, "an array");
        kv->n = (size_t)n;
    }
    if (rc)
        return rc;
    if (kv->type == VALUE_STRING)
        return kv->is_array ? strings_read(c, kv) : take_string(c, "a string value", &kv->data, &kv->len);
    size_t bytes;
    if (!size_mul(kv->n, gguf_value_bytes[kv->type], &bytes))
        return need(c, SIZE_MAX, "an array");
    rc = take(c, bytes, kv->is_array ? "an array" : "a value", &kv->data);
    return !rc && kv->type == VALUE_BOOL ? bools_check(c, kv) : rc;
}

/* Keys are printed in messages. */
static bool is_key(const unsigned char *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (key[i] < ' ' || key[i] == 0x7f)
            return false;
    return len && len <= MAX_KEY && utf8_valid((const char *)key, len);
}

static int kv_read(struct gguf *g, struct cursor *c)
{
    const unsigned char *key;
    size_t len;
    int rc = take_string(c, "a key", &key, &len);
    if (rc)
        return rc;
    if (!is_key(key, len))
        return err_set(c->err, ERR_FORMAT, "%s: key %zu must have 1 to %d printable UTF-8 bytes", c->where, g->n_kvs,
                       MAX_KEY);
    if (!mem_grow(&g->kvs, &g->capacity, g->n_kvs + 1, sizeof *g->kvs))
        return err_nomem(c->err, "metadata");
    struct kv *kv = &g->kvs[g->n_kvs];
    *kv = (struct kv){ .key = mem_strndup((const char *)key, len), .where = c->where };
    if (!kv->key)
        return err_nomem(c->err, "metadata");
    uint32_t id = (uint32_t)g->n_kvs++, there = id;
    if (strmap_put(&g->index, kv->key, len, id, &there))
        return err_nomem(c->err, "metadata");
    if (there != id)
        return err_set(c->err, ERR_FORMAT, "%s: key %.200s is there twice", c->where, kv->key);
    return value_read(c, kv);
}

static int header_read(struct cursor *c, uint64_t *n_tensors, uint64_t *n_kvs)
{
    const unsigned char *magic;
    uint32_t version;
    int rc = take(c, 4, "the header", &magic);
    if (!rc && memcmp(magic, "GGUF", 4))
        rc = err_set(c->err, ERR_FORMAT, "%s: is no GGUF file", c->where);
    if (rc || (rc = take_u32(c, "the header", &version)))
        return rc;
    if (version && !(version & 0xffff))
        return err_set(c->err, ERR_UNSUPPORTED,
                       "%s: is big-endian, which cannot be read: convert it with gguf-py's "
                       "gguf_convert_endian.py",
                       c->where);
    if (version == 1)
        return err_set(c->err, ERR_UNSUPPORTED, "%s: is GGUF version 1, given up by its makers: convert the model anew",
                       c->where);
    if (version != 2 && version != 3)
        return err_set(c->err, ERR_UNSUPPORTED, "%s: is GGUF version %u, versions 2 and 3 can be read", c->where,
                       (unsigned)version);
    if ((rc = take_u64(c, "the header", n_tensors)) || (rc = take_u64(c, "the header", n_kvs)))
        return rc;
    if (*n_kvs > c->left / LEAST_KV_BYTES || *n_tensors > c->left / LEAST_TENSOR_BYTES)
        return err_set(c->err, ERR_FORMAT, "%s: is too short for the %llu keys and %llu tensors that its header counts",
                       c->where, (unsigned long long)*n_kvs, (unsigned long long)*n_tensors);
    if (*n_kvs > MAX_KVS || *n_tensors > MAX_TENSORS)
        return err_set(c->err, ERR_FORMAT, "%s: counts %llu keys and %llu tensors, at most %d and %d are accepted",
                       c->where, (unsigned long long)*n_kvs, (unsigned long long)*n_tensors, MAX_KVS, MAX_TENSORS);
    return 0;
}

/* Types of ggml without a reader here; those without blocks were removed from ggml. */
static const struct {
    unsigned id;
    const char *name;
} unreadable[] = {
    { 4, "Q4_2 (removed)" },
    { 5, "Q4_3 (removed)" },
    { 9, "Q8_1" },
    { 10, "Q2_K" },
    { 11, "Q3_K" },
    { 15, "Q8_K" },
    { 16, "IQ2_XXS" },
    { 17, "IQ2_XS" },
    { 18, "IQ3_XXS" },
    { 19, "IQ1_S" },
    { 21, "IQ3_S" },
    { 22, "IQ2_S" },
    { 23, "IQ4_XS" },
    { 29, "IQ1_M" },
    { 31, "Q4_0_4_4 (removed)" },
    { 32, "Q4_0_4_8 (removed)" },
    { 33, "Q4_0_8_8 (removed)" },
    { 34, "TQ1_0" },
    { 35, "TQ2_0" },
    { 36, "IQ4_NL_4_4 (removed)" },
    { 37, "IQ4_NL_4_8 (removed)" },
    { 38, "IQ4_NL_8_8 (removed)" },
    { 39, "MXFP4" },
    { 40, "NVFP4" },
};

static int dtype_from_id(const struct cursor *c, const char *name, uint32_t id, enum dtype *type)
{
    static const int ids[N_DTYPES] = {
#define X(dtype, gguf, elements, bytes) gguf,
        DTYPES(X)
#undef X
    };
    for (int i = 0; i < N_DTYPES; i++)
        if (ids[i] >= 0 && (uint32_t)ids[i] == id) {
            *type = (enum dtype)i;
            return 0;
        }
    for (size_t i = 0; i < sizeof unreadable / sizeof *unreadable; i++)
        if (unreadable[i].id == id)
            return err_set(c->err, ERR_UNSUPPORTED,
                           "%s: tensor \"%s\" has type %s, which cannot be read: use a file "
                           "with F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K or IQ4_NL",
                           c->where, name, unreadable[i].name);
    return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has the unknown type %u", c->where, name, (unsigned)id);
}

/* Dimensions arrive fastest first and leave slowest first. */
static int dims_read(struct cursor *c, const char *name, struct tensor *t)
{
    uint32_t n_dims;
    int rc = take_u32(c, "a tensor's description", &n_dims);
    if (rc)
        return rc;
    if (n_dims < 1 || n_dims > TENSOR_MAX_DIMS)
        return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has %u dimensions, 1 to %d are allowed", c->where, name,
                       (unsigned)n_dims, TENSOR_MAX_DIMS);
    t->n_dims = (int)n_dims;
    t->n = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        uint64_t dim;
        if ((rc = take_u64(c, "a tensor's description", &dim)))
            return rc;
        if (!dim || dim > INT64_MAX || dim > SIZE_MAX)
            return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has a dimension of %llu", c->where, name,
                           (unsigned long long)dim);
        t->dims[i] = (size_t)dim;
        if (!size_mul(t->n, t->dims[i], &t->n))
            return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has more elements than memory can address", c->where,
                           name);
    }
    return 0;
}

static int bytes_of(const struct cursor *c, const char *name, struct tensor *t)
{
    size_t block = dtype_block_elements(t->dtype), row = t->dims[t->n_dims - 1];
    if (row % block)
        return err_set(c->err, ERR_FORMAT,
                       "%s: tensor \"%s\" has rows of %zu elements, type %s needs a multiple of %zu", c->where, name,
                       row, dtype_name(t->dtype), block);
    if (!size_mul(t->n / block, dtype_block_bytes(t->dtype), &t->bytes))
        return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has more bytes than memory can address", c->where, name);
    return 0;
}

static bool pad(size_t n, size_t alignment, size_t *out)
{
    if (!size_add(n, alignment - 1, out))
        return false;
    *out &= ~(alignment - 1);
    return true;
}

/* *expected: the padded size of all tensors before this one, and after the call with it. t->data stays NULL. */
static int tensor_info_read(struct gguf *g, struct cursor *c, size_t *expected)
{
    const unsigned char *text;
    size_t len;
    char name[MAX_TENSOR_NAME + 1];
    int rc = take_string(c, "a tensor's name", &text, &len);
    if (rc)
        return rc;
    if (len > MAX_TENSOR_NAME || !is_key(text, len))
        return err_set(c->err, ERR_FORMAT, "%s: the name of tensor %zu must have 1 to %d printable UTF-8 bytes",
                       c->where, g->set.n, MAX_TENSOR_NAME);
    memcpy(name, text, len);
    name[len] = '\0';
    struct tensor t = { 0 };
    uint32_t type;
    uint64_t offset;
    if ((rc = dims_read(c, name, &t)) || (rc = take_u32(c, "a tensor's description", &type)) ||
        (rc = dtype_from_id(c, name, type, &t.dtype)) || (rc = bytes_of(c, name, &t)) ||
        (rc = take_u64(c, "a tensor's description", &offset)))
        return rc;
    if (offset % g->alignment)
        return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has offset %llu, no multiple of the alignment %zu",
                       c->where, name, (unsigned long long)offset, g->alignment);
    if (offset != *expected)
        return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" has offset %llu, the tensors before it end at %zu",
                       c->where, name, (unsigned long long)offset, *expected);
    size_t padded;
    if (!pad(t.bytes, g->alignment, &padded) || !size_add(*expected, padded, expected))
        return err_set(c->err, ERR_FORMAT, "%s: tensor \"%s\" makes the file larger than memory can address", c->where,
                       name);
    return tensor_set_add(&g->set, name, len, &t, c->where, c->err);
}

static int alignment_read(struct gguf *g, struct err *err)
{
    uint32_t id;
    g->alignment = DEFAULT_ALIGNMENT;
    if (!strmap_get(&g->index, "general.alignment", strlen("general.alignment"), &id))
        return 0;
    const struct kv *kv = &g->kvs[id];
    uint64_t value = kv->type == VALUE_U32 && !kv->is_array ? gguf_little_endian(kv->data, 4) : 0;
    if (value < 8 || (value & (value - 1)))
        return err_set(err, ERR_FORMAT, "%s: general.alignment must be a u32, a power of two and a multiple of 8",
                       kv->where);
    g->alignment = (size_t)value;
    return 0;
}

/* Points every tensor into the data section, which begins where the cursor stands, padded. */
static int data_place(struct gguf *g, struct cursor *c, size_t file_size)
{
    size_t header = file_size - c->left, start, offset = 0;
    const unsigned char *skipped;
    if (!g->set.n)
        return 0; /* vocabulary only: no data section, and no padding before it */
    int rc = pad(header, g->alignment, &start) ? take(c, start - header, "the padding before the tensors", &skipped)
                                               : need(c, SIZE_MAX, "the padding before the tensors");
    for (size_t i = 0; !rc && i < g->set.n; i++) {
        struct tensor *t = &g->set.tensors[i];
        if (offset > c->left || t->bytes > c->left - offset)
            return err_set(c->err, ERR_FORMAT, "%s: ends inside tensor \"%s\": was the download cut off?", c->where,
                           t->name);
        t->data = c->at + offset;
        size_t padded = 0;
        pad(t->bytes, g->alignment, &padded); /* neither overflows: the sum was checked with the descriptions */
        offset += padded;
    }
    return rc;
}

static int parse(struct gguf *g, const struct file_map *file, struct err *err)
{
    struct cursor c = { file->data, file->size, file->name, err };
    uint64_t n_tensors = 0, n_kvs = 0;
    int rc = header_read(&c, &n_tensors, &n_kvs);
    if (rc)
        return rc;
    if (strmap_init(&g->index, 64))
        return err_nomem(err, "metadata");
    for (uint64_t i = 0; !rc && i < n_kvs; i++)
        rc = kv_read(g, &c);
    if (!rc)
        rc = alignment_read(g, err);
    size_t expected = 0;
    for (uint64_t i = 0; !rc && i < n_tensors; i++)
        rc = tensor_info_read(g, &c, &expected);
    return rc ? rc : data_place(g, &c, file->size);
}

int gguf_open(struct gguf **out, struct file_map *map, struct err *err)
{
    struct gguf *g = mem_zeroed(1, sizeof *g);
    if (!g) {
        file_map_close(map);
        return err_nomem(err, "a GGUF file");
    }
    tensor_set_init(&g->set);
    int rc = tensor_set_add_file(&g->set, map, err);
    if (!rc)
        rc = parse(g, &g->set.files[0], err);
    if (rc)
        gguf_free(g);
    else
        *out = g;
    return rc;
}

void gguf_free(struct gguf *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_kvs; i++) {
        free(g->kvs[i].key);
        free(g->kvs[i].offsets);
    }
    free(g->kvs);
    strmap_release(&g->index);
    tensor_set_release(&g->set);
    free(g);
}

bool gguf_is(const struct file_map *map)
{
    return map->size >= 4 && !memcmp(map->data, "GGUF", 4);
}
