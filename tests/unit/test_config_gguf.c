/* GGUF metadata as llama.cpp's converter writes it for models of the hub: what is read, and what no key says. */
#include "core/base/mem.h"
#include "core/model/internal.h"
#include "tests/unit/make_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A key without its architecture; text NULL: a number, whole or not. */
struct entry {
    const char *key;
    double number;
    const char *text;
};
enum { MOST_ENTRIES = 20 };
struct file {
    const char *architecture;
    struct entry entries[MOST_ENTRIES];
};

static struct strbuf bytes; /* of the open model */

static void put_vector(struct gguf_maker *g, const char *name, size_t n, float value)
{
    struct strbuf data = STRBUF_INIT;
    for (size_t i = 0; i < n; i++)
        strbuf_add(&data, &value, sizeof value);
    gguf_put_tensor(g, name, 0, 1, (uint64_t[]){ n }, data.data, data.len);
    strbuf_release(&data);
}

/* The metadata, an embedding of two rows and, with n_factors, longrope's tensors. */
static int read_metadata(const struct file *file, size_t n_factors, struct model **out, struct err *err)
{
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    size_t width = 0;
    gguf_put_string(&g, "general.architecture", file->architecture);
    for (const struct entry *e = file->entries; e->key; e++) {
        char key[96];
        snprintf(key, sizeof key, "%s.%s", file->architecture, e->key);
        if (e->text)
            gguf_put_string(&g, key, e->text);
        else if (e->number == floor(e->number))
            gguf_put_u32(&g, key, (uint32_t)e->number);
        else
            gguf_put_f32(&g, key, (float)e->number);
        width = strcmp(e->key, "embedding_length") ? width : (size_t)e->number;
    }
    float *rows = calloc(2 * width, sizeof *rows);
    gguf_put_tensor(&g, "token_embd.weight", 0, 2, (uint64_t[]){ width, 2 }, rows, 2 * width * sizeof *rows);
    free(rows);
    if (n_factors) {
        put_vector(&g, "rope_factors_short.weight", n_factors, 1);
        put_vector(&g, "rope_factors_long.weight", n_factors, 4);
    }
    strbuf_release(&bytes);
    bytes = gguf_made(&g);
    struct model *m = mem_zeroed(1, sizeof *m);
    m->storage = mem_zeroed(1, sizeof *m->storage);
    tensor_set_init(&m->storage->shards);
    struct file_map map;
    if (file_map_memory(&map, "m.gguf", bytes.data, bytes.len, err) || gguf_open(&m->storage->gguf, &map, err))
        fail_msg("%s", err->msg);
    int rc = config_from_gguf(m, m->storage->gguf, err);
    if (rc)
        model_free(m);
    else
        *out = m;
    return rc;
}

static struct model *accept(const struct file *file, size_t n_factors)
{
    struct model *m = NULL;
    struct err err = { 0 };
    if (read_metadata(file, n_factors, &m, &err))
        fail_msg("%s: %s", file->architecture, err.msg);
    return m;
}

static void refuse(const struct file *file, const char *message)
{
    struct model *m;
    struct err err = { 0 };
    assert_true(read_metadata(file, 0, &m, &err) < 0);
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
}

/* Another value of a key, in a copy. */
static struct file with(struct file file, const char *key, double number)
{
    size_t i = 0;
    while (file.entries[i].key && strcmp(file.entries[i].key, key) != 0)
        i++;
    assert_true(i + 1 < MOST_ENTRIES);
    file.entries[i] = (struct entry){ key, number, NULL };
    return file;
}

static struct file without(struct file file, const char *key)
{
    size_t i = 0;
    while (file.entries[i].key && strcmp(file.entries[i].key, key) != 0)
        i++;
    assert_non_null(file.entries[i].key);
    memmove(file.entries + i, file.entries + i + 1, (MOST_ENTRIES - i - 1) * sizeof *file.entries);
    return file;
}

#define SIZES(layers, width, mlp, heads, kv_heads)                                                                     \
    { "block_count", layers, NULL }, { "context_length", 8192, NULL }, { "embedding_length", width, NULL },            \
        { "feed_forward_length", mlp, NULL }, { "attention.head_count", heads, NULL },                                 \
    {                                                                                                                  \
        "attention.head_count_kv", kv_heads, NULL                                                                      \
    }
#define HEADS(size)                                                                                                    \
    { "attention.key_length", size, NULL },                                                                            \
    {                                                                                                                  \
        "attention.value_length", size, NULL                                                                           \
    }
#define RMS_EPS                                                                                                        \
    {                                                                                                                  \
        "attention.layer_norm_rms_epsilon", 1e-6, NULL                                                                 \
    }

static const struct file gemma2_27b = { "gemma2",
                                        { SIZES(46, 4608, 36864, 32, 16),
                                          HEADS(128),
                                          RMS_EPS,
                                          { "attn_logit_softcapping", 50, NULL },
                                          { "final_logit_softcapping", 30, NULL },
                                          { "attention.sliding_window", 4096, NULL } } };
static const struct file gemma3_27b = { "gemma3",
                                        { SIZES(62, 5376, 21504, 32, 16),
                                          HEADS(128),
                                          RMS_EPS,
                                          { "attention.sliding_window", 1024, NULL },
                                          { "rope.freq_base", 1e6, NULL },
                                          { "rope.scaling.type", 0, "linear" },
                                          { "rope.scaling.factor", 8, NULL } } };
static const struct file command_r7b = { "cohere2",
                                         { SIZES(32, 4096, 14336, 32, 8),
                                           { "attention.layer_norm_epsilon", 1e-5, NULL },
                                           { "attention.sliding_window", 4096, NULL },
                                           { "rope.freq_base", 50000, NULL },
                                           { "rope.dimension_count", 128, NULL },
                                           { "rope.scaling.type", 0, "none" },
                                           { "logit_scale", 0.25, NULL } } };
static const struct file smollm3_3b = {
    "smollm3",
    { SIZES(36, 2048, 11008, 16, 4), RMS_EPS, { "rope.freq_base", 5e6, NULL }, { "rope.dimension_count", 128, NULL } }
};
static const struct file mixtral_8x7b = { "llama",
                                          { SIZES(32, 4096, 14336, 32, 8),
                                            RMS_EPS,
                                            { "rope.freq_base", 1e6, NULL },
                                            { "rope.dimension_count", 128, NULL },
                                            { "expert_count", 8, NULL },
                                            { "expert_used_count", 2, NULL } } };
/* From before there were keys for the widths of experts. */
static const struct file qwen15_moe = { "qwen2moe",
                                        { SIZES(24, 2048, 5632, 16, 16),
                                          RMS_EPS,
                                          { "rope.freq_base", 1e6, NULL },
                                          { "expert_count", 60, NULL },
                                          { "expert_used_count", 4, NULL } } };
static const struct file phi3_mini_128k = { "phi3",
                                            { SIZES(32, 3072, 8192, 32, 32),
                                              RMS_EPS,
                                              { "rope.dimension_count", 96, NULL },
                                              { "rope.freq_base", 10000, NULL },
                                              { "rope.scaling.original_context_length", 4096, NULL },
                                              { "rope.scaling.attn_factor", 1.1902381, NULL },
                                              { "attention.sliding_window", 262144, NULL } } };
static const struct file granite_8b = { "granite",
                                        { SIZES(40, 4096, 12800, 32, 8),
                                          RMS_EPS,
                                          { "attention.scale", 0.0078125, NULL },
                                          { "embedding_scale", 12, NULL },
                                          { "residual_scale", 0.22, NULL },
                                          { "logit_scale", 16, NULL } } };

static void the_largest_gemmas_scale_by_their_width(void **state)
{
    (void)state;
    struct file smaller = with(with(gemma2_27b, "block_count", 42), "attention.key_length", 256);
    smaller = with(smaller, "attention.value_length", 256);
    const struct {
        const struct file *file;
        double scalar;
    } cases[] = { { &gemma2_27b, 144 }, { &gemma3_27b, 168 }, { &smaller, 256 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = accept(cases[i].file, 0);
        assert_true(fabs(m->config.attn_scale - 1 / sqrt(cases[i].scalar)) < 1e-15);
        assert_true(m->layers[3].attn_scale == m->config.attn_scale);
        model_free(m);
    }
}

static void layers_slide_by_the_rule_of_the_family(void **state)
{
    (void)state;
    struct model *m = accept(&gemma2_27b, 0);
    for (size_t l = 0; l < 46; l++)
        assert_int_equal(m->layers[l].window, l % 2 ? 0 : 4096);
    assert_true(m->config.attn_softcap == 50 && m->config.logit_softcap == 30);
    model_free(m);
    m = accept(&gemma3_27b, 0);
    for (size_t l = 0; l < 62; l++) {
        bool full = l % 6 == 5;
        assert_int_equal(m->layers[l].window, full ? 0 : 1024);
        assert_true(m->ropes[m->layers[l].rope].theta == (full ? 1e6 : 1e4));
        assert_true(m->ropes[m->layers[l].rope].frequency[0] == (full ? 0.125 : 1));
    }
    model_free(m);
    m = accept(&command_r7b, 0);
    for (size_t l = 0; l < 32; l++) {
        assert_int_equal(m->layers[l].window, l % 4 == 3 ? 0 : 4096);
        assert_int_equal(m->layers[l].rope, l % 4 == 3 ? NO_ROPE : 0);
    }
    assert_true(m->config.logit_scale == 0.25);
    model_free(m);
}

static void every_fourth_layer_of_smollm3_has_no_rotary(void **state)
{
    (void)state;
    struct model *m = accept(&smollm3_3b, 0);
    for (size_t l = 0; l < 36; l++)
        assert_int_equal(m->layers[l].rope, l % 4 == 3 ? NO_ROPE : 0);
    model_free(m);
}

static void experts_are_counted_and_weighed_as_the_family_does(void **state)
{
    (void)state;
    struct model *m = accept(&mixtral_8x7b, 0);
    assert_string_equal(m->architecture, "mixtral");
    assert_true(m->config.n_experts == 8 && m->config.n_experts_used == 2 && m->config.d_mlp == 14336);
    assert_true(m->config.experts_renormalised);
    model_free(m);
    m = accept(&qwen15_moe, 0);
    assert_true(m->config.n_experts == 60 && m->config.d_mlp == 1408 && m->config.d_shared == 5632);
    assert_false(m->config.experts_renormalised);
    model_free(m);
    struct file newer = with(qwen15_moe, "expert_feed_forward_length", 1400);
    newer = with(newer, "expert_shared_feed_forward_length", 5600);
    m = accept(&newer, 0);
    assert_true(m->config.d_mlp == 1400 && m->config.d_shared == 5600);
    model_free(m);
}

static void files_that_say_llama_are_told_apart(void **state)
{
    (void)state;
    struct file plain = without(without(mixtral_8x7b, "expert_count"), "expert_used_count");
    struct file sliding = with(plain, "attention.sliding_window", 4096);
    struct file olmo = sliding;
    struct model *m = accept(&plain, 0);
    assert_string_equal(m->architecture, "llama");
    assert_int_equal(m->layers[0].window, 0);
    model_free(m);
    m = accept(&sliding, 0);
    assert_string_equal(m->architecture, "mistral");
    assert_int_equal(m->layers[0].window, 4096);
    assert_int_equal(m->layers[31].window, 4096);
    model_free(m);
    olmo.architecture = "olmo2"; /* OLMo 3's files say olmo2, and not all of its layers slide */
    refuse(&olmo, "\"olmo2.attention.sliding_window\" is not supported for olmo2");
}

static void longrope_changes_at_the_old_context(void **state)
{
    (void)state;
    struct model *m = accept(&phi3_mini_128k, 48);
    assert_int_equal(m->n_ropes, 2);
    assert_int_equal(m->ropes[0].n_short, 4096);
    assert_int_equal(m->ropes[0].longer, 1);
    assert_true(m->ropes[0].frequency[0] == 1 && m->ropes[1].frequency[0] == 0.25);
    assert_true(fabs(m->ropes[0].scale - 1.1902381) < 1e-7 && m->ropes[1].scale == m->ropes[0].scale);
    assert_int_equal(m->layers[31].window, 262144);
    model_free(m);
}

static void factors_go_where_the_family_has_them(void **state)
{
    (void)state;
    struct model *m = accept(&granite_8b, 0);
    assert_true(m->config.attn_scale == 0.0078125 && m->config.embed_scale == 12);
    assert_true(m->config.residual_scale == (double)0.22F);
    assert_true(m->config.logit_scale == 1.0 / 16); /* granite divides */
    model_free(m);
}

static void what_is_missing_or_not_supported_is_named(void **state)
{
    (void)state;
    struct file file = without(qwen15_moe, "expert_count");
    refuse(&file, "key \"qwen2moe.expert_count\" is missing");
    file = without(mixtral_8x7b, "expert_used_count");
    refuse(&file, "key \"llama.expert_used_count\" is missing");
    file = with(mixtral_8x7b, "expert_used_count", 9);
    refuse(&file, "9 of 8 experts cannot be used");
    file = with(mixtral_8x7b, "expert_count", 4e9);
    refuse(&file, "is 4e+09, which cannot be");
    file = with(mixtral_8x7b, "expert_feed_forward_length", 64);
    refuse(&file, "\"llama.expert_feed_forward_length\" may change the mathematics");
    file = with(smollm3_3b, "embedding_scale", 12);
    refuse(&file, "\"smollm3.embedding_scale\" may change the mathematics");
    file = with(smollm3_3b, "attention.sliding_window", 64);
    refuse(&file, "which layers slide is not said");
    file = with(smollm3_3b, "rope.dimension_count", 64);
    refuse(&file, "only whole heads (128) are supported");
    file = with(command_r7b, "logit_scale", 0);
    refuse(&file, "\"cohere2.logit_scale\" is 0, which cannot be");
    file = with(command_r7b, "rope.dimension_count", 130);
    refuse(&file, "cannot rotate");
    file = with(smollm3_3b, "hidden_activation", 0);
    for (size_t i = 0; i < MOST_ENTRIES; i++)
        if (file.entries[i].key && !strcmp(file.entries[i].key, "hidden_activation"))
            file.entries[i].text = "softplus";
    refuse(&file, "activation \"softplus\" of key \"smollm3.hidden_activation\"");
    file = with(gemma3_27b, "attention.sliding_window_pattern", 0);
    refuse(&file, "sliding_window_pattern is 0");
    refuse(&(struct file){ "bert", { SIZES(2, 8, 16, 2, 2), { "attention.causal", 1, NULL } } }, "attention.causal");
}

static int release(void **state)
{
    (void)state;
    strbuf_release(&bytes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_gemmas_scale_by_their_width),
        cmocka_unit_test(layers_slide_by_the_rule_of_the_family),
        cmocka_unit_test(every_fourth_layer_of_smollm3_has_no_rotary),
        cmocka_unit_test(experts_are_counted_and_weighed_as_the_family_does),
        cmocka_unit_test(files_that_say_llama_are_told_apart),
        cmocka_unit_test(longrope_changes_at_the_old_context),
        cmocka_unit_test(factors_go_where_the_family_has_them),
        cmocka_unit_test(what_is_missing_or_not_supported_is_named),
    };
    return cmocka_run_group_tests_name("config_gguf", tests, NULL, release);
}
