#include "core/formats/vector_file.h"

#include "core/base/file.h"
#include "core/base/mem.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char magic[6] = { 0x93, 'N', 'U', 'M', 'P', 'Y' };

/* What a file says of itself: n numbers of `size` bytes from `data` on. */
struct layout {
    const unsigned char *data;
    size_t n, size;
};

/* The header's dictionary, read from `at` to `end`. */
struct header {
    const char *at, *end;
    const char *descr;
    size_t descr_len, n, n_dims;
    bool fortran, has_shape;
};

static bool ends_in(const char *name, size_t len, const char *suffix)
{
    size_t n = strlen(suffix);
    return len > n && !memcmp(name + len - n, suffix, n);
}

bool vector_file_named(const char *name, size_t len)
{
    return ends_in(name, len, ".npy") || ends_in(name, len, ".f32");
}

static char next(struct header *h)
{
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n' || *h->at == '\t'))
        h->at++;
    return h->at < h->end ? *h->at : '\0';
}

static bool take(struct header *h, const char *word)
{
    size_t len = strlen(word);
    if (next(h) != *word || (size_t)(h->end - h->at) < len || memcmp(h->at, word, len))
        return false;
    h->at += len;
    return true;
}

static bool take_quoted(struct header *h, const char **text, size_t *len)
{
    if (!take(h, "'"))
        return false;
    const char *close = memchr(h->at, '\'', (size_t)(h->end - h->at));
    if (!close)
        return false;
    *text = h->at;
    *len = (size_t)(close - h->at);
    h->at = close + 1;
    return true;
}

static bool take_shape(struct header *h)
{
    if (!take(h, "("))
        return false;
    h->n = 1;
    h->has_shape = true;
    while (next(h) >= '0' && *h->at <= '9') {
        size_t dim = 0;
        for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++)
            if (!size_mul(dim, 10, &dim) || !size_add(dim, (size_t)(*h->at - '0'), &dim))
                return false;
        if (!size_mul(h->n, dim, &h->n))
            return false;
        h->n_dims++;
        if (!take(h, ","))
            break;
    }
    return take(h, ")");
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (576,), } */
static bool take_dictionary(struct header *h)
{
    const char *key;
    size_t len;
    if (!take(h, "{"))
        return false;
    while (next(h) != '}') {
        bool ok = take_quoted(h, &key, &len) && take(h, ":");
        if (ok && len == 5 && !memcmp(key, "descr", 5))
            ok = take_quoted(h, &h->descr, &h->descr_len);
        else if (ok && len == 13 && !memcmp(key, "fortran_order", 13)) {
            h->fortran = take(h, "True");
            ok = h->fortran || take(h, "False");
        } else
            ok = ok && len == 5 && !memcmp(key, "shape", 5) && take_shape(h);
        if (!ok)
            return false;
        if (!take(h, ","))
            break;
    }
    return take(h, "}") && h->descr && h->has_shape;
}

static int read_header(const struct file_map *map, struct layout *out, struct err *err)
{
    const unsigned char *p = map->data;
    if (map->size < 10 || memcmp(p, magic, sizeof magic) || p[6] < 1 || p[6] > 3)
        return err_set(err, ERR_FORMAT, "%s: is no .npy file: write it with numpy.save", map->name);
    size_t before = p[6] == 1 ? 10 : 12, len = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] > 1 && map->size >= before)
        len |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (map->size < before || len > map->size - before)
        return err_set(err, ERR_FORMAT, "%s: ends inside its header", map->name);
    struct header h = { .at = (const char *)p + before, .end = (const char *)p + before + len };
    if (!take_dictionary(&h))
        return err_set(err, ERR_FORMAT, "%s: its header is no dictionary of descr, fortran_order and shape", map->name);
    if (h.descr_len != 3 || (memcmp(h.descr, "<f4", 3) && memcmp(h.descr, "<f8", 3)))
        return err_set(err, ERR_FORMAT, "%s: holds '%.*s': save x.astype('<f4')", map->name,
                       h.descr_len < 40 ? (int)h.descr_len : 40, h.descr);
    if (h.fortran && h.n_dims > 1)
        return err_set(err, ERR_FORMAT, "%s: is in Fortran order: save numpy.ascontiguousarray(x)", map->name);
    *out = (struct layout){ .data = p + before + len, .n = h.n, .size = h.descr[2] == '4' ? 4 : 8 };
    size_t bytes;
    if (!size_mul(out->n, out->size, &bytes) || bytes != map->size - before - len)
        return err_set(err, ERR_FORMAT, "%s: its shape promises %zu numbers of %zu bytes, %zu bytes are there",
                       map->name, out->n, out->size, map->size - before - len);
    return 0;
}

static int read_numbers(const struct file_map *map, const struct layout *l, float *out, struct err *err)
{
    for (size_t i = 0; i < l->n; i++) {
        double x;
        float narrow;
        if (l->size == 8)
            memcpy(&x, l->data + i * 8, 8);
        else {
            memcpy(&narrow, l->data + i * 4, 4);
            x = (double)narrow;
        }
        if (!isfinite(x) || fabs(x) > (double)FLT_MAX)
            return err_set(err, ERR_NUMERIC, "%s: number %zu is not a finite float32", map->name, i);
        out[i] = (float)x;
    }
    return 0;
}

static int read_map(const struct file_map *map, size_t most, float **out, size_t *n, struct err *err)
{
    struct layout l = { .data = map->data, .n = map->size / 4, .size = 4 };
    int rc = 0;
    if (ends_in(map->name, strlen(map->name), ".npy"))
        rc = read_header(map, &l, err);
    else if (map->size % 4)
        rc = err_set(err, ERR_FORMAT, "%s: %zu bytes are no whole number of float32", map->name, map->size);
    if (rc)
        return rc;
    if (l.n > most)
        return err_set(err, ERR_SHAPE, "%s: holds %zu numbers, at most %zu are taken", map->name, l.n, most);
    *out = mem_array(l.n, sizeof **out);
    if (!*out)
        return err_nomem(err, "a vector");
    *n = l.n;
    rc = read_numbers(map, &l, *out, err);
    if (rc)
        free(*out);
    return rc;
}

int vector_file_read(const char *path, size_t most, float **out, size_t *n, struct err *err)
{
    struct file_map map;
    int rc = file_map_open(&map, path, err);
    if (rc)
        return rc;
    rc = read_map(&map, most, out, n, err);
    file_map_close(&map);
    return rc;
}
