/* Metadata of a parsed GGUF file, by key and type. */
#include "core/formats/gguf_internal.h"

#include <math.h>
#include <string.h>

const char *gguf_name(const struct gguf *g)
{
    return g->set.files[0].name;
}

const struct tensor_set *gguf_tensors(const struct gguf *g)
{
    return &g->set;
}

const char *gguf_key(const struct gguf *g, size_t i)
{
    return i < g->n_kvs ? g->kvs[i].key : NULL;
}

static const struct kv *find(const struct gguf *g, const char *key)
{
    uint32_t id;
    return strmap_get(&g->index, key, strlen(key), &id) ? &g->kvs[id] : NULL;
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

/* Element i as a whole number: its bits, and whether they are to be read as negative. False for any other type. */
static bool integer_at(const struct kv *kv, size_t i, uint64_t *magnitude, bool *negative)
{
    size_t bytes = gguf_value_bytes[kv->type];
    bool is_signed = false;
    switch (kv->type) {
    case VALUE_I8:
    case VALUE_I16:
    case VALUE_I32:
    case VALUE_I64:
        is_signed = true;
        break;
    case VALUE_U8:
    case VALUE_U16:
    case VALUE_U32:
    case VALUE_U64:
        break;
    default:
        return false;
    }
    uint64_t x = gguf_little_endian(kv->data + i * bytes, bytes);
    *negative = is_signed && x >> (8 * bytes - 1);
    if (*negative)
        x = (bytes < 8 ? (uint64_t)1 << 8 * bytes : 0) - x;
    *magnitude = x;
    return true;
}

static bool number_at(const struct kv *kv, size_t i, double *out)
{
    uint64_t magnitude;
    bool negative;
    if (integer_at(kv, i, &magnitude, &negative)) {
        *out = negative ? -(double)magnitude : (double)magnitude;
        return true;
    }
    if (kv->type == VALUE_F32) {
        uint32_t bits = (uint32_t)gguf_little_endian(kv->data + 4 * i, 4);
        float x;
        memcpy(&x, &bits, 4);
        *out = (double)x;
        return true;
    }
    if (kv->type == VALUE_F64) {
        uint64_t bits = gguf_little_endian(kv->data + 8 * i, 8);
        memcpy(out, &bits, 8);
        return true;
    }
    return false;
}

static int wrong_type(const struct gguf *g, const char *key, const char *wanted, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: key %s must be %s", gguf_name(g), key, wanted);
}

int gguf_get_size_or(const struct gguf *g, const char *key, size_t least, size_t most, size_t otherwise, size_t *out,
                     struct err *err)
{
    const struct kv *kv = find(g, key);
    uint64_t magnitude;
    bool negative;
    if (!kv) {
        *out = otherwise;
        return 0;
    }
    if (kv->is_array || !integer_at(kv, 0, &magnitude, &negative))
        return wrong_type(g, key, "a whole number", err);
    if (negative || magnitude < least || magnitude > most)
        return err_set(err, ERR_FORMAT, "%s: key %s is %s%llu, it must be from %zu to %zu", gguf_name(g), key,
                       negative ? "-" : "", (unsigned long long)magnitude, least, most);
    *out = (size_t)magnitude;
    return 0;
}

int gguf_get_size(const struct gguf *g, const char *key, size_t least, size_t most, size_t *out, struct err *err)
{
    if (!gguf_has(g, key))
        return err_set(err, ERR_FORMAT, "%s: key %s is missing", gguf_name(g), key);
    return gguf_get_size_or(g, key, least, most, least, out, err);
}

int gguf_get_number_or(const struct gguf *g, const char *key, double otherwise, double *out, struct err *err)
{
    const struct kv *kv = find(g, key);
    double x = otherwise;
    if (kv && (kv->is_array || !number_at(kv, 0, &x)))
        return wrong_type(g, key, "a number", err);
    if (kv && !isfinite(x))
        return err_set(err, ERR_NUMERIC, "%s: key %s is NaN or infinite", gguf_name(g), key);
    *out = x;
    return 0;
}

int gguf_get_bool_or(const struct gguf *g, const char *key, bool otherwise, bool *out, struct err *err)
{
    const struct kv *kv = find(g, key);
    if (kv && (kv->is_array || kv->type != VALUE_BOOL))
        return wrong_type(g, key, "true or false", err);
    *out = kv ? kv->data[0] != 0 : otherwise;
    return 0;
}

int gguf_get_string(const struct gguf *g, const char *key, const char **text, size_t *len, struct err *err)
{
    const struct kv *kv = find(g, key);
    if (kv && (kv->is_array || kv->type != VALUE_STRING))
        return wrong_type(g, key, "a string", err);
    *text = kv ? (const char *)kv->data : NULL;
    *len = kv ? kv->len : 0;
    return 0;
}

int gguf_get_array(const struct gguf *g, const char *key, struct gguf_array *out, struct err *err)
{
    const struct kv *kv = find(g, key);
    if (kv && !kv->is_array)
        return wrong_type(g, key, "an array", err);
    *out = kv ? (struct gguf_array){ kv->n, (int)kv->type, kv } : (struct gguf_array){ 0, -1, NULL };
    return 0;
}

int gguf_array_string(const struct gguf_array *a, size_t i, const char **text, size_t *len, struct err *err)
{
    const struct kv *kv = a->impl;
    if (a->type != VALUE_STRING)
        return err_set(err, ERR_FORMAT, "%s: key %.200s must be an array of strings", kv->where, kv->key);
    *text = (const char *)kv->data + kv->offsets[i] + 8;
    *len = kv->offsets[i + 1] - kv->offsets[i] - 8;
    return 0;
}

int gguf_array_number(const struct gguf_array *a, size_t i, double *out, struct err *err)
{
    const struct kv *kv = a->impl;
    if (!number_at(kv, i, out))
        return err_set(err, ERR_FORMAT, "%s: key %.200s must be an array of numbers", kv->where, kv->key);
    return 0;
}
