/*
 * Tiny llama models written to disk, right or wrong, for tests.
 *
 *     struct llama_files files = llama_default();
 *     llama_tensor(&files, "model.norm.weight")->value = NAN;
 *     llama_write_folder(&files, folder);              // config.json, model.safetensors
 */
#ifndef STRATA_TESTS_UNIT_MAKE_MODEL_H
#define STRATA_TESTS_UNIT_MAKE_MODEL_H

#include "core/base/file.h"
#include "core/base/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One layer: 2 heads of 2 on 1 key head, d_model 4, d_mlp 3, d_vocab 5. */
#define LLAMA_CONFIG                                                                                                   \
    "\"model_type\":\"llama\",\"vocab_size\":5,\"hidden_size\":4,\"num_attention_heads\":2,"                           \
    "\"num_key_value_heads\":1,\"intermediate_size\":3,\"num_hidden_layers\":1,\"max_position_embeddings\":16"

enum { LLAMA_MOST_TENSORS = 16 };

struct llama_tensor {
    char name[96];
    const char *dtype; /* F32, or F16 or BF16, in which `value` is written as the bits of 1 and of infinity */
    size_t dims[3];
    int n_dims;
    bool left_out;
    float value; /* of element 1; the others are small numbers */
};

struct llama_files {
    const char *config; /* of config.json, between the braces */
    struct llama_tensor tensors[LLAMA_MOST_TENSORS];
    size_t n;
};

static inline struct llama_tensor *llama_add(struct llama_files *f, const char *name, size_t a, size_t b)
{
    assert_true(f->n < LLAMA_MOST_TENSORS);
    struct llama_tensor *t = &f->tensors[f->n++];
    *t = (struct llama_tensor){ .dtype = "F32", .dims = { a, b }, .n_dims = b ? 2 : 1, .value = 0.5F };
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static inline struct llama_files llama_default(void)
{
    struct llama_files f = { .config = LLAMA_CONFIG };
    llama_add(&f, "model.embed_tokens.weight", 5, 4);
    llama_add(&f, "model.layers.0.input_layernorm.weight", 4, 0);
    llama_add(&f, "model.layers.0.self_attn.q_proj.weight", 4, 4);
    llama_add(&f, "model.layers.0.self_attn.k_proj.weight", 2, 4);
    llama_add(&f, "model.layers.0.self_attn.v_proj.weight", 2, 4);
    llama_add(&f, "model.layers.0.self_attn.o_proj.weight", 4, 4);
    llama_add(&f, "model.layers.0.post_attention_layernorm.weight", 4, 0);
    llama_add(&f, "model.layers.0.mlp.gate_proj.weight", 3, 4);
    llama_add(&f, "model.layers.0.mlp.up_proj.weight", 3, 4);
    llama_add(&f, "model.layers.0.mlp.down_proj.weight", 4, 3);
    llama_add(&f, "model.norm.weight", 4, 0);
    llama_add(&f, "lm_head.weight", 5, 4);
    return f;
}

static inline struct llama_tensor *llama_tensor(struct llama_files *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (!strcmp(f->tensors[i].name, name))
            return &f->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void llama_bytes(const struct llama_tensor *t, struct strbuf *data)
{
    size_t n = 1;
    for (int d = 0; d < t->n_dims; d++)
        n *= t->dims[d];
    for (size_t i = 0; i < n; i++) {
        float x = i == 1 ? t->value : (float)(i % 7) / 8 - 0.25F;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        if (!strcmp(t->dtype, "BF16"))
            strbuf_add(data, (char *)&bits + 2, 2);
        else if (!strcmp(t->dtype, "F16"))
            strbuf_add(data, bits == 0x7f800000 ? "\0\x7c" : "\0\x3c", 2);
        else
            strbuf_add(data, &bits, 4);
    }
}

/* The tensors first .. end - 1 as a safetensors file; the caller releases it. */
static inline struct strbuf llama_safetensors(const struct llama_files *f, size_t first, size_t end)
{
    struct strbuf header = STRBUF_INIT, data = STRBUF_INIT, file = STRBUF_INIT;
    for (size_t i = first; i < end; i++) {
        const struct llama_tensor *t = &f->tensors[i];
        size_t begin = data.len;
        if (t->left_out)
            continue;
        llama_bytes(t, &data);
        strbuf_addf(&header, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[", header.len ? ',' : '{', t->name, t->dtype);
        for (int d = 0; d < t->n_dims; d++)
            strbuf_addf(&header, "%s%zu", d ? "," : "", t->dims[d]);
        strbuf_addf(&header, "],\"data_offsets\":[%zu,%zu]}", begin, data.len);
    }
    strbuf_addc(&header, '}');
    while (header.len % 8) /* as safetensors does, so that floats lie at their own addresses */
        strbuf_addc(&header, ' ');
    uint64_t n = header.len;
    strbuf_add(&file, &n, 8);
    strbuf_add(&file, header.data, header.len);
    strbuf_add(&file, strbuf_text(&data), data.len);
    strbuf_release(&header);
    strbuf_release(&data);
    return file;
}

static inline void llama_write(const char *folder, const char *name, const void *bytes, size_t n)
{
    char path[1024];
    struct err err = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_make_folder(folder, &err) || file_write(path, bytes, n, &err))
        fail_msg("%s", err.msg);
}

static inline void llama_write_config(const struct llama_files *f, const char *folder)
{
    struct strbuf config = STRBUF_INIT;
    strbuf_addf(&config, "{%s}", f->config);
    llama_write(folder, "config.json", config.data, config.len);
    strbuf_release(&config);
}

static inline void llama_write_folder(const struct llama_files *f, const char *folder)
{
    struct strbuf file = llama_safetensors(f, 0, f->n);
    llama_write_config(f, folder);
    llama_write(folder, "model.safetensors", file.data, file.len);
    strbuf_release(&file);
}

#endif
