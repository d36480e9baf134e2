/*
 * The golden models and their fp64 references (make_model_references.py says what is in the files).
 *
 *     struct references refs;
 *     references_open(&refs, "llama_a_gguf");        // follows same_as; fails the test when something is missing
 *     const struct tensor *z = references_find(&refs, "blocks.1.attn.hook_z");
 *     double first = references_number(z, 0);
 *     references_close(&refs);
 *
 * Test programs run in the repository's root.
 */
#ifndef STRATA_TESTS_GOLDEN_REFERENCES_H
#define STRATA_TESTS_GOLDEN_REFERENCES_H

#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN_MODELS "tests/golden/models/"

enum { REFERENCE_MOST_PROMPTS = 16 };

struct references {
    struct tensor_set set;
    int32_t *tokens;
    size_t n_tokens, n_rows, n_prompts;
    size_t *rows; /* stored rows of the packed prompts, rising */
    size_t token_offset[REFERENCE_MOST_PROMPTS + 1];
    struct prompt prompts[REFERENCE_MOST_PROMPTS];
    char names[REFERENCE_MOST_PROMPTS][24];
};

/* Number i of an F64 or I32 tensor; tensor_widen would round to float. */
static inline double references_number(const struct tensor *t, size_t i)
{
    double x;
    int32_t whole;
    assert_true(i < t->n);
    if (t->dtype == DTYPE_I32) {
        memcpy(&whole, t->data + i * sizeof whole, sizeof whole);
        return whole;
    }
    assert_int_equal(t->dtype, DTYPE_F64);
    memcpy(&x, t->data + i * sizeof x, sizeof x);
    return x;
}

static inline const struct tensor *references_find(const struct references *refs, const char *name)
{
    const struct tensor *t = tensor_set_find(&refs->set, name);
    if (!t)
        fail_msg("no reference of \"%s\"", name);
    return t;
}

/* The path of a golden model, as model_open takes it. */
static inline const char *references_model_path(const char *model, char path[256])
{
    snprintf(path, 256, GOLDEN_MODELS "%s/model.gguf", model);
    if (!file_exists(path))
        snprintf(path, 256, GOLDEN_MODELS "%s", model);
    return path;
}

static inline void references_open(struct references *refs, const char *model)
{
    char path[256], other[64] = "";
    struct file_map map;
    struct err err = { 0 };
    memset(refs, 0, sizeof *refs);
    snprintf(path, sizeof path, GOLDEN_MODELS "%s/same_as", model);
    if (file_exists(path)) {
        if (file_map_open(&map, path, &err))
            fail_msg("%s", err.msg);
        snprintf(other, sizeof other, "%.*s", (int)map.size - 1, (const char *)map.data);
        file_map_close(&map);
    }
    snprintf(path, sizeof path, GOLDEN_MODELS "%s/references.safetensors", *other ? other : model);
    tensor_set_init(&refs->set);
    if (file_map_open(&map, path, &err) || safetensors_add(&refs->set, &map, &err))
        fail_msg("%s", err.msg);

    const struct tensor *tokens = references_find(refs, "tokens"), *rows = references_find(refs, "rows");
    const struct tensor *offsets = references_find(refs, "token_offset");
    refs->n_tokens = tokens->n;
    refs->n_rows = rows->n;
    refs->n_prompts = offsets->n - 1;
    assert_in_range(refs->n_prompts, 1, REFERENCE_MOST_PROMPTS);
    refs->tokens = calloc(tokens->n, sizeof *refs->tokens);
    refs->rows = calloc(rows->n, sizeof *refs->rows);
    assert_true(refs->tokens && refs->rows);
    for (size_t i = 0; i < tokens->n; i++)
        refs->tokens[i] = (int32_t)references_number(tokens, i);
    for (size_t i = 0; i < rows->n; i++)
        refs->rows[i] = (size_t)references_number(rows, i);
    for (size_t i = 0; i <= refs->n_prompts; i++)
        refs->token_offset[i] = (size_t)references_number(offsets, i);
    for (size_t i = 0; i < refs->n_prompts; i++) {
        snprintf(refs->names[i], sizeof refs->names[i], "%zu", i);
        refs->prompts[i] = (struct prompt){ .tokens = refs->tokens + refs->token_offset[i],
                                            .n_tokens = refs->token_offset[i + 1] - refs->token_offset[i],
                                            .name = refs->names[i] };
    }
}

static inline void references_close(struct references *refs)
{
    tensor_set_release(&refs->set);
    free(refs->tokens);
    free(refs->rows);
}

#endif
