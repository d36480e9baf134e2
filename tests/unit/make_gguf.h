/*
 * Writes GGUF bytes in memory, right or wrong, for tests.
 *
 *     struct gguf_maker g = { .version = 3, .alignment = 32 };
 *     gguf_put_u32(&g, "llama.block_count", 2);
 *     gguf_put_tensor(&g, "output_norm.weight", 0, 1, (uint64_t[]){ 8 }, bytes, 32);   // dims fastest first
 *     struct strbuf file = gguf_made(&g);
 *     strbuf_release(&file);                                                           // the maker is spent
 */
#ifndef STRATA_TESTS_UNIT_MAKE_GGUF_H
#define STRATA_TESTS_UNIT_MAKE_GGUF_H

#include "core/base/strbuf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct gguf_maker {
    unsigned version;
    size_t alignment;
    struct strbuf kvs, infos, data;
    uint64_t n_kvs, n_tensors;
};

static inline void gguf_number(struct strbuf *s, uint64_t x, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        strbuf_addc(s, (char)(x >> 8 * i));
}

static inline void gguf_text(struct strbuf *s, const char *text, size_t n)
{
    gguf_number(s, n, 8);
    strbuf_add(s, text, n);
}

/* Any value: its type id and bytes. */
static inline void gguf_put(struct gguf_maker *g, const char *key, unsigned type, const void *bytes, size_t n)
{
    gguf_text(&g->kvs, key, strlen(key));
    gguf_number(&g->kvs, type, 4);
    strbuf_add(&g->kvs, bytes, n);
    g->n_kvs++;
}

static inline void gguf_put_u32(struct gguf_maker *g, const char *key, uint32_t x)
{
    gguf_put(g, key, 4, &x, sizeof x);
}

static inline void gguf_put_f32(struct gguf_maker *g, const char *key, float x)
{
    gguf_put(g, key, 6, &x, sizeof x);
}

static inline void gguf_put_bool(struct gguf_maker *g, const char *key, unsigned char x)
{
    gguf_put(g, key, 7, &x, 1);
}

static inline void gguf_put_string(struct gguf_maker *g, const char *key, const char *text)
{
    struct strbuf value = STRBUF_INIT;
    gguf_text(&value, text, strlen(text));
    gguf_put(g, key, 8, value.data, value.len);
    strbuf_release(&value);
}

static inline void gguf_put_strings(struct gguf_maker *g, const char *key, const char *const *texts, size_t n)
{
    struct strbuf value = STRBUF_INIT;
    gguf_number(&value, 8, 4);
    gguf_number(&value, n, 8);
    for (size_t i = 0; i < n; i++)
        gguf_text(&value, texts[i], strlen(texts[i]));
    gguf_put(g, key, 9, value.data, value.len);
    strbuf_release(&value);
}

/* Only the description, with any offset. */
static inline void gguf_put_info(struct gguf_maker *g, const char *name, unsigned type, unsigned n_dims,
                                 const uint64_t *dims, uint64_t offset)
{
    gguf_text(&g->infos, name, strlen(name));
    gguf_number(&g->infos, n_dims, 4);
    for (unsigned i = 0; i < n_dims; i++)
        gguf_number(&g->infos, dims[i], 8);
    gguf_number(&g->infos, type, 4);
    gguf_number(&g->infos, offset, 8);
    g->n_tensors++;
}

static inline void gguf_put_tensor(struct gguf_maker *g, const char *name, unsigned type, unsigned n_dims,
                                   const uint64_t *dims, const void *bytes, size_t n)
{
    gguf_put_info(g, name, type, n_dims, dims, g->data.len);
    strbuf_add(&g->data, bytes, n);
    while (g->data.len % g->alignment)
        strbuf_addc(&g->data, '\0');
}

/* The caller releases the result; *g is empty afterwards. */
static inline struct strbuf gguf_made(struct gguf_maker *g)
{
    struct strbuf file = STRBUF_INIT;
    strbuf_add(&file, "GGUF", 4);
    gguf_number(&file, g->version, 4);
    gguf_number(&file, g->n_tensors, 8);
    gguf_number(&file, g->n_kvs, 8);
    strbuf_add(&file, strbuf_text(&g->kvs), g->kvs.len);
    strbuf_add(&file, strbuf_text(&g->infos), g->infos.len);
    while (g->n_tensors && file.len % g->alignment)
        strbuf_addc(&file, '\0');
    strbuf_add(&file, strbuf_text(&g->data), g->data.len);
    strbuf_release(&g->kvs);
    strbuf_release(&g->infos);
    strbuf_release(&g->data);
    g->n_kvs = g->n_tensors = 0;
    return file;
}

#endif
