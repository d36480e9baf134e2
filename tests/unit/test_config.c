/* config.json: as models on the hub have it, spellings of all versions of transformers, keys that are refused. */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int read_config(const char *text, struct model **out, struct err *err)
{
    json_t *config;
    struct model *m = mem_zeroed(1, sizeof *m);
    m->storage = mem_zeroed(1, sizeof *m->storage);
    tensor_set_init(&m->storage->shards);
    if (json_parse(text, strlen(text), "config.json", &config, err))
        fail_msg("%s", err->msg);
    int rc = config_from_json(m, config, "config.json", err);
    json_decref(config);
    if (rc)
        model_free(m);
    else
        *out = m;
    return rc;
}

static struct model *accept_config(const char *text)
{
    struct model *m = NULL;
    struct err err = { 0 };
    if (read_config(text, &m, &err))
        fail_msg("%s", err.msg);
    return m;
}

/* As published on the hub, written by the versions of transformers of their time. */
static const char tinyllama[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"bos_token_id\":1,\"eos_token_id\":2,"
    "\"hidden_act\":\"silu\",\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":5632,"
    "\"max_position_embeddings\":2048,\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":22,"
    "\"num_key_value_heads\":4,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":null,"
    "\"rope_theta\":10000.0,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.35.0\",\"use_cache\":true,\"vocab_size\":32000}";
static const char smollm2[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":1,"
    "\"eos_token_id\":2,\"hidden_act\":\"silu\",\"hidden_size\":576,\"initializer_range\":0.041666666666666664,"
    "\"intermediate_size\":1536,\"is_llama_config\":true,\"max_position_embeddings\":8192,\"mlp_bias\":false,"
    "\"model_type\":\"llama\",\"num_attention_heads\":9,\"num_hidden_layers\":30,\"num_key_value_heads\":3,"
    "\"pad_token_id\":2,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_interleaved\":false,\"rope_scaling\":null,"
    "\"rope_theta\":100000,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"transformers.js_config\":{\"kv_cache_dtype\":{\"q4f16\":\"float16\"}},\"transformers_version\":\"4.42.3\","
    "\"use_cache\":true,\"vocab_size\":49152}";
static const char llama32[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0.0,"
    "\"bos_token_id\":128000,\"eos_token_id\":[128001,128008,128009],\"head_dim\":64,\"hidden_act\":\"silu\","
    "\"hidden_size\":2048,\"initializer_range\":0.02,\"intermediate_size\":8192,\"max_position_embeddings\":131072,"
    "\"mlp_bias\":false,\"model_type\":\"llama\",\"num_attention_heads\":32,\"num_hidden_layers\":16,"
    "\"num_key_value_heads\":8,\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":32.0,"
    "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,"
    "\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.45.0.dev0\",\"use_cache\":true,\"vocab_size\":128256}";
static const char mistral7b[] =
    "{\"architectures\":[\"MistralForCausalLM\"],\"bos_token_id\":1,\"eos_token_id\":2,\"hidden_act\":\"silu\","
    "\"hidden_size\":4096,\"initializer_range\":0.02,\"intermediate_size\":14336,\"max_position_embeddings\":32768,"
    "\"model_type\":\"mistral\",\"num_attention_heads\":32,\"num_hidden_layers\":32,\"num_key_value_heads\":8,"
    "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"sliding_window\":4096,\"tie_word_embeddings\":false,"
    "\"torch_dtype\":\"bfloat16\",\"transformers_version\":\"4.34.0.dev0\",\"use_cache\":true,\"vocab_size\":32000}";
static const char qwen25[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":151643,"
    "\"eos_token_id\":151643,\"hidden_act\":\"silu\",\"hidden_size\":896,\"initializer_range\":0.02,"
    "\"intermediate_size\":4864,\"max_position_embeddings\":32768,\"max_window_layers\":24,\"model_type\":\"qwen2\","
    "\"num_attention_heads\":14,\"num_hidden_layers\":24,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,"
    "\"rope_theta\":1000000.0,\"sliding_window\":32768,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.40.1\",\"use_cache\":true,\"use_mrope\":false,\"use_sliding_window\":false,"
    "\"vocab_size\":151936}";
static const char gpt2[] =
    "{\"activation_function\":\"gelu_new\",\"architectures\":[\"GPT2LMHeadModel\"],\"attn_pdrop\":0.1,"
    "\"bos_token_id\":50256,\"embd_pdrop\":0.1,\"eos_token_id\":50256,\"initializer_range\":0.02,"
    "\"layer_norm_epsilon\":1e-05,\"model_type\":\"gpt2\",\"n_ctx\":1024,\"n_embd\":768,\"n_head\":12,\"n_layer\":12,"
    "\"n_positions\":1024,\"resid_pdrop\":0.1,\"summary_activation\":null,\"summary_first_dropout\":0.1,"
    "\"summary_proj_to_labels\":true,\"summary_type\":\"cls_index\",\"summary_use_proj\":true,"
    "\"task_specific_params\":{\"text-generation\":{\"do_sample\":true,\"max_length\":50}},\"vocab_size\":50257}";
static const char cerebras[] =
    "{\"model_type\":\"gpt2\",\"activation_function\":\"gelu\",\"n_embd\":768,\"n_head\":12,\"n_layer\":10,"
    "\"n_inner\":3072,\"n_positions\":2048,\"scale_attn_weights\":true,\"use_cache\":true,\"vocab_size\":50257,"
    "\"layer_norm_epsilon\":1e-05,\"reorder_and_upcast_attn\":false,\"scale_attn_by_inverse_layer_idx\":false}";

static void configs_from_the_hub_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *architecture;
        size_t sizes[9];
        enum norm_kind norm;
        double norm_eps;
        enum position_kind position;
        double rope_theta;
        const char *rope_scaling;
        enum activation activation;
        bool gated_mlp, tied;
        double attn_scale;
    } cases[] = {
        { tinyllama,
          "llama",
          { 22, 32, 4, 2048, 64, 5632, 32000, 2048, 64 },
          NORM_RMS,
          1e-5,
          POSITION_ROTARY,
          1e4,
          "none",
          ACTIVATION_SILU,
          true,
          false,
          0.125 },
        { smollm2,
          "llama",
          { 30, 9, 3, 576, 64, 1536, 49152, 8192, 64 },
          NORM_RMS,
          1e-5,
          POSITION_ROTARY,
          1e5,
          "none",
          ACTIVATION_SILU,
          true,
          true,
          0.125 },
        { llama32,
          "llama",
          { 16, 32, 8, 2048, 64, 8192, 128256, 131072, 64 },
          NORM_RMS,
          1e-5,
          POSITION_ROTARY,
          5e5,
          "llama3",
          ACTIVATION_SILU,
          true,
          true,
          0.125 },
        { mistral7b,
          "mistral",
          { 32, 32, 8, 4096, 128, 14336, 32000, 32768, 128 },
          NORM_RMS,
          1e-5,
          POSITION_ROTARY,
          1e4,
          "none",
          ACTIVATION_SILU,
          true,
          false,
          0.08838834764831845 },
        { qwen25,
          "qwen2",
          { 24, 14, 2, 896, 64, 4864, 151936, 32768, 64 },
          NORM_RMS,
          1e-6,
          POSITION_ROTARY,
          1e6,
          "none",
          ACTIVATION_SILU,
          true,
          true,
          0.125 },
        { gpt2,
          "gpt2",
          { 12, 12, 12, 768, 64, 3072, 50257, 1024, 0 },
          NORM_LAYER,
          1e-5,
          POSITION_LEARNED,
          0,
          "none",
          ACTIVATION_GELU_TANH,
          false,
          true,
          0.125 },
        { cerebras,
          "gpt2",
          { 10, 12, 12, 768, 64, 3072, 50257, 2048, 0 },
          NORM_LAYER,
          1e-5,
          POSITION_LEARNED,
          0,
          "none",
          ACTIVATION_GELU_ERF,
          false,
          true,
          0.125 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = accept_config(cases[i].text);
        const struct model_config *c = &m->config;
        assert_string_equal(m->architecture, cases[i].architecture);
        const size_t sizes[] = { c->n_layers, c->n_heads, c->n_kv_heads, c->d_model,    c->d_head,
                                 c->d_mlp,    c->d_vocab, c->n_ctx,      c->rotary_dims };
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            if (sizes[k] != cases[i].sizes[k])
                fail_msg("config %zu: size %zu is %zu, not %zu", i, k, sizes[k], cases[i].sizes[k]);
        assert_int_equal(c->norm, cases[i].norm);
        assert_int_equal(c->position, cases[i].position);
        assert_int_equal(c->activation, cases[i].activation);
        assert_int_equal(c->gated_mlp, cases[i].gated_mlp);
        assert_int_equal(c->tied, cases[i].tied);
        assert_true(c->norm_eps == cases[i].norm_eps);
        assert_true(fabs(c->attn_scale - cases[i].attn_scale) < 1e-16);
        if (c->position == POSITION_ROTARY) {
            assert_true(m->ropes[0].theta == cases[i].rope_theta);
            assert_string_equal(m->ropes[0].scaling, cases[i].rope_scaling);
        }
        assert_int_equal(m->layers[0].window, i == 3 ? 4096 : 0);
        model_free(m);
    }
}

/* inv_freq of the config above in transformers 5.24: plain, smoothed and divided ones, bit for bit. */
static void rotary_frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    static const double wanted[] = { 0x1p+0,         0x1.53c38cp-1,  0x1.c2ef78p-2,  0x1.2b3dc6p-2,  0x1.8d2760p-3,
                                     0x1.078d40p-3,  0x1.5dc95ap-4,  0x1.d03ccep-5,  0x1.341190p-5,  0x1.98de92p-6,
                                     0x1.0f5386p-6,  0x1.681adap-7,  0x1.ddee9ep-8,  0x1.3d2804p-8,  0x1.a4ee40p-9,
                                     0x1.524f36p-10, 0x1.c26c40p-12, 0x1.9731eep-14, 0x1.46831ap-16, 0x1.b15902p-17,
                                     0x1.1f91f0p-17, 0x1.7da9e8p-18, 0x1.fa8b86p-19, 0x1.5024d6p-19, 0x1.be2188p-20,
                                     0x1.280d96p-20, 0x1.88ec20p-21, 0x1.04be68p-21, 0x1.5a0f4ep-22, 0x1.cb4a9ap-23,
                                     0x1.30c94ep-23, 0x1.948360p-24 };
    struct model *m = accept_config(llama32);
    for (size_t i = 0; i < 32; i++)
        if (m->ropes[0].frequency[i] != wanted[i])
            fail_msg("frequency %zu is %a, not %a", i, m->ropes[0].frequency[i], wanted[i]);
    model_free(m);
}

/* A llama config with these keys added or changed (the last of two equal keys cannot stand: they are replaced). */
static char *changed_config(const char *base, const char *change)
{
    json_t *config = json_loads(base, 0, NULL), *more = json_loads(change, 0, NULL);
    assert_non_null(config);
    assert_non_null(more);
    const char *key;
    json_t *value;
    json_object_foreach(more, key, value)
    {
        if (json_is_string(value) && !strcmp(json_string_value(value), "absent"))
            json_object_del(config, key);
        else
            json_object_set(config, key, value);
    }
    char *text = json_dumps(config, 0);
    json_decref(config);
    json_decref(more);
    return text;
}

static struct model *accept_change(const char *base, const char *change)
{
    char *text = changed_config(base, change);
    struct model *m = NULL;
    struct err err = { 0 };
    if (read_config(text, &m, &err))
        fail_msg("%s: %s", change, err.msg);
    free(text);
    return m;
}

static void spellings_of_all_versions_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *change, *scaling;
        double theta, frequency; /* of pair 1 of 64 dims */
    } cases[] = {
        { "{\"rope_scaling\":null}", "none", 1e4, 0 },
        { "{\"rope_theta\":\"absent\"}", "none", 1e4, 0 },
        { "{\"rope_theta\":null,\"rope_scaling\":{}}", "none", 1e4, 0 },
        { "{\"rope_theta\":5e5}", "none", 5e5, 0 },
        { "{\"rope_theta\":\"absent\",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5}}", "none", 5e5,
          0 },
        { "{\"rope_scaling\":{\"rope_type\":\"default\"}}", "none", 1e4, 0 },
        { "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}", "linear", 1e4, 4 },
        { "{\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4}}", "linear", 1e4, 4 },
        { "{\"rope_scaling\":{\"rope_type\":\"linear\",\"type\":\"linear\",\"factor\":4}}", "linear", 1e4, 4 },
        { "{\"rope_scaling\":null,\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4.0,\"rope_theta\":1e4}}",
          "linear", 1e4, 4 },
        { "{\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4.0,\"rope_theta\":1e4,"
          "\"partial_rotary_factor\":1.0}}",
          "linear", 1e4, 4 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = accept_change(tinyllama, cases[i].change);
        assert_string_equal(m->ropes[0].scaling, cases[i].scaling);
        assert_true(m->ropes[0].theta == cases[i].theta);
        double factor = cases[i].frequency > 0 ? cases[i].frequency : 1;
        assert_true(fabs(m->ropes[0].frequency[1] * factor / pow(cases[i].theta, -1.0 / 32) - 1) < 3e-7);
        model_free(m);
    }
    struct model *m = accept_change(tinyllama, "{\"num_key_value_heads\":\"absent\",\"head_dim\":null,"
                                               "\"torch_dtype\":\"absent\",\"dtype\":\"float32\"}");
    assert_int_equal(m->config.n_kv_heads, 32);
    assert_int_equal(m->config.d_head, 64);
    model_free(m);
    m = accept_change(tinyllama, "{\"num_key_value_heads\":null,\"head_dim\":10,\"rms_norm_eps\":\"absent\"}");
    assert_int_equal(m->config.n_kv_heads, 32);
    assert_int_equal(m->config.d_head, 10);
    assert_true(m->config.norm_eps == 1e-6);
    model_free(m);
    m = accept_change(mistral7b, "{\"sliding_window\":null,\"num_key_value_heads\":\"absent\"}");
    assert_int_equal(m->layers[31].window, 0);
    assert_int_equal(m->config.n_kv_heads, 8);
    model_free(m);
    m = accept_change(mistral7b, "{\"sliding_window\":\"absent\",\"layer_types\":null}");
    assert_int_equal(m->layers[31].window, 4096);
    model_free(m);
    m = accept_change(qwen25, "{\"use_sliding_window\":true,\"max_window_layers\":20,\"sliding_window\":77}");
    assert_int_equal(m->layers[19].window, 0);
    assert_int_equal(m->layers[20].window, 77);
    model_free(m);
    m = accept_change(gpt2, "{\"n_inner\":null,\"scale_attn_weights\":false,\"reorder_and_upcast_attn\":true,"
                            "\"tie_word_embeddings\":false}");
    assert_true(m->config.attn_scale == 1);
    assert_int_equal(m->config.d_mlp, 3072);
    assert_false(m->config.tied);
    model_free(m);
}

/* Of 24 heads the last 8, as torch has them: what is rounded to float32, and when, differs. */
static void alibi_slopes_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        double wanted[8];
    } cases[] = {
        { "{\"model_type\":\"bloom\",\"n_embed\":48,\"n_layer\":1,\"num_attention_heads\":24,\"vocab_size\":9}",
          { 0x1.ae89fap-1, 0x1.306fe2p-1, 0x1.ae89fcp-2, 0x1.306fe2p-2, 0x1.ae89fep-3, 0x1.306fe4p-3, 0x1.ae89fep-4,
            0x1.306fe6p-4 } },
        { "{\"model_type\":\"mpt\",\"d_model\":48,\"n_layers\":1,\"n_heads\":24,\"vocab_size\":9}",
          { 0x1.ae89fap-1, 0x1.306fe0p-1, 0x1.ae89fap-2, 0x1.306fe0p-2, 0x1.ae89fap-3, 0x1.306fe0p-3, 0x1.ae89fap-4,
            0x1.306fe0p-4 } },
        { "{\"model_type\":\"falcon\",\"hidden_size\":48,\"num_hidden_layers\":1,\"num_attention_heads\":24,"
          "\"vocab_size\":9,\"alibi\":true}",
          { 0x1.aep-1, 0x1.3p-1, 0x1.aep-2, 0x1.3p-2, 0x1.aep-3, 0x1.3p-3, 0x1.aep-4, 0x1.3p-4 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = accept_config(cases[i].config);
        for (size_t h = 0; h < 8; h++)
            if (m->alibi[16 + h] != cases[i].wanted[h])
                fail_msg("slope %zu of %s is %a, not %a", 16 + h, m->architecture, m->alibi[16 + h],
                         cases[i].wanted[h]);
        model_free(m);
    }
}

/* A cap that is null is none; one that is absent is the family's. */
static void null_is_not_absent(void **state)
{
    (void)state;
    static const char base[] = "{\"model_type\":\"gemma2\",\"hidden_size\":8,\"num_hidden_layers\":1,"
                               "\"num_attention_heads\":4,\"intermediate_size\":8,\"vocab_size\":9}";
    struct model *m = accept_config(base);
    assert_true(m->config.attn_softcap == 50 && m->config.logit_softcap == 30);
    model_free(m);
    m = accept_change(base, "{\"attn_logit_softcapping\":null,\"final_logit_softcapping\":null}");
    assert_true(m->config.attn_softcap == 0 && m->config.logit_softcap == 0);
    model_free(m);
}

/* Dropouts, special tokens, training and serving keys change nothing. */
static void harmless_keys_are_ignored(void **state)
{
    (void)state;
    model_free(accept_change(
        tinyllama,
        "{\"attention_dropout\":0.1,\"hidden_dropout\":0.1,\"_name_or_path\":\"x\",\"auto_map\":{\"AutoConfig\":\"c."
        "C\"},"
        "\"pad_token_id\":null,\"id2label\":{\"0\":\"a\"},\"pretraining_tp\":2,\"unsloth_fixed\":true,\"num_experts\":"
        "0,"
        "\"attn_implementation\":\"sdpa\",\"use_flash_attn\":true,\"_flash_attn_2_enabled\":true,\"sliding_window\":"
        "null,"
        "\"quantization_config\":null,\"logit_scale\":1.0,\"partial_rotary_factor\":1.0,\"final_logit_softcapping\":"
        "null,"
        "\"layer_types\":[\"full_attention\"],\"no_repeat_ngram_size\":0,\"cross_attention_hidden_size\":null,"
        "\"is_encoder_decoder\":false,\"chunk_size_feed_forward\":0,\"qk_layernorm\":false,\"vocabulary\":[]}"));
}

static void assert_change_refused(const char *base, const char *change, int code, const char *message)
{
    char *text = changed_config(base, change);
    struct model *m = NULL;
    struct err err = { 0 };
    int rc = read_config(text, &m, &err);
    if (!rc)
        fail_msg("accepted: %s", change);
    if (rc != code || !strstr(err.msg, message) || strncmp(err.msg, "config.json: ", 13))
        fail_msg("%s: %d \"%s\" does not say \"%s\"", change, rc, err.msg, message);
    free(text);
}

static void keys_that_change_the_mathematics_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *base, *change;
    } cases[] = {
        { gpt2, "{\"add_cross_attention\":true}" },
        { gpt2, "{\"attention_bias\":true}" },
        { gpt2, "{\"alibi\":true}" },
        { tinyllama, "{\"quantization_config\":{\"quant_method\":\"awq\"}}" },
        { tinyllama, "{\"num_experts\":8}" },
        { tinyllama, "{\"num_local_experts\":8}" },
        { tinyllama, "{\"logit_scale\":0.0625}" },
        { tinyllama, "{\"logits_scaling\":8.0}" },
        { tinyllama, "{\"embedding_multiplier\":12.0}" },
        { tinyllama, "{\"residual_multiplier\":0.22}" },
        { tinyllama, "{\"attention_multiplier\":0.015625}" },
        { tinyllama, "{\"final_logit_softcapping\":30.0}" },
        { tinyllama, "{\"attn_logit_softcapping\":50.0}" },
        { tinyllama, "{\"query_pre_attn_scalar\":256}" },
        { tinyllama, "{\"qk_layernorm\":true}" },
        { tinyllama, "{\"clip_qkv\":8.0}" },
        { tinyllama, "{\"partial_rotary_factor\":0.5}" },
        { tinyllama, "{\"rope_interleaved\":true}" },
        { tinyllama, "{\"use_parallel_residual\":true}" },
        { tinyllama, "{\"no_rope_layers\":[1,0]}" },
        { tinyllama, "{\"sliding_window\":4096}" },
        { tinyllama, "{\"layer_types\":[\"sliding_attention\"]}" },
        { tinyllama, "{\"use_mup\":true}" },
        { tinyllama, "{\"scale_depth\":1.4}" },
        { mistral7b, "{\"attention_bias\":true}" },
        { mistral7b, "{\"mlp_bias\":true}" },
        { qwen25, "{\"use_qk_norm\":true}" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char message[64];
        const char *key = strchr(cases[i].change, '"') + 1;
        snprintf(message, sizeof message, "key \"%.*s\" changes the mathematics", (int)strcspn(key, "\""), key);
        assert_change_refused(cases[i].base, cases[i].change, ERR_UNSUPPORTED, message);
    }
    assert_change_refused(tinyllama, "{\"hidden_act\":\"gelu_10\"}", ERR_UNSUPPORTED, "activation \"gelu_10\"");
    assert_change_refused(gpt2, "{\"activation_function\":\"tanh\"}", ERR_UNSUPPORTED, "\"activation_function\"");
}

static void rope_settings_are_checked(void **state)
{
    (void)state;
    static const char *const types[] = { "dynamic", "ntk", "proportional" };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char change[128], message[64];
        snprintf(change, sizeof change, "{\"rope_scaling\":{\"type\":\"%s\",\"factor\":2.0}}", types[i]);
        snprintf(message, sizeof message, "rope scaling of type \"%s\" is not supported", types[i]);
        assert_change_refused(tinyllama, change, ERR_UNSUPPORTED, message);
    }
#define LLAMA3(rest) "{\"rope_scaling\":{\"rope_type\":\"llama3\"," rest "}}"
    assert_change_refused(tinyllama, "{\"rope_scaling\":{\"type\":\"linear\"}}", ERR_FORMAT, "need \"factor\"");
    assert_change_refused(tinyllama, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", ERR_FORMAT, "\"factor\"");
    assert_change_refused(tinyllama, "{\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"4\"}}", ERR_FORMAT, "number");
    assert_change_refused(tinyllama, LLAMA3("\"factor\":8"), ERR_FORMAT, "\"low_freq_factor\"");
    assert_change_refused(tinyllama, LLAMA3("\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4"), ERR_FORMAT,
                          "is not below");
    assert_change_refused(tinyllama,
                          LLAMA3("\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                                 "\"original_max_position_embeddings\":0"),
                          ERR_FORMAT, "original_max_position_embeddings");
    assert_change_refused(tinyllama, "{\"rope_scaling\":{\"type\":\"longrope\"}}", ERR_FORMAT,
                          "need \"short_factor\", 32 numbers");
    assert_change_refused(tinyllama, "{\"rope_scaling\":{\"type\":\"yarn\"}}", ERR_FORMAT, "need \"factor\"");
    assert_change_refused(tinyllama, "{\"rope_scaling\":[]}", ERR_FORMAT, "\"rope_scaling\" must be an object");
    assert_change_refused(tinyllama, "{\"rope_theta\":0}", ERR_FORMAT, "\"rope_theta\"");
    assert_change_refused(tinyllama, "{\"rope_theta\":-3}", ERR_FORMAT, "\"rope_theta\"");
    assert_change_refused(tinyllama, "{\"rope_theta\":1e308}", ERR_NUMERIC, "rotary frequency");
    assert_change_refused(tinyllama, "{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}",
                          ERR_UNSUPPORTED, "rope settings by layer type (\"full_attention\")");
    assert_change_refused(tinyllama, "{\"rope_parameters\":{\"partial_rotary_factor\":0.5}}", ERR_UNSUPPORTED,
                          "partial_rotary_factor");
}

/* Angles of layers that slide and of those that do not, each for short prompts and for long ones. */
static void each_kind_of_layer_may_have_longrope(void **state)
{
    (void)state;
#define LONGROPE(short_factor, long_factor)                                                                            \
    "{\"rope_type\":\"longrope\",\"rope_theta\":10000,\"original_max_position_embeddings\":16,\"short_factor\":"       \
    "[" short_factor "," short_factor "],\"long_factor\":[" long_factor "," long_factor "]}"
    struct model *m =
        accept_config("{\"model_type\":\"gemma3_text\",\"hidden_size\":8,\"num_hidden_layers\":2,"
                      "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,\"intermediate_size\":8,"
                      "\"vocab_size\":8,\"max_position_embeddings\":64,\"sliding_window\":8,"
                      "\"layer_types\":[\"sliding_attention\",\"full_attention\"],"
                      "\"rope_parameters\":{\"full_attention\":" LONGROPE("2", "4") ",\"sliding_attention\":" LONGROPE(
                          "8", "16") "}}");
    static const size_t divisors[2][2] = { { 8, 16 }, { 2, 4 } };
    assert_int_equal(m->n_ropes, 4);
    for (size_t l = 0; l < 2; l++) {
        const struct rope *brief = &m->ropes[m->layers[l].rope];
        assert_int_equal(brief->n_short, 16);
        assert_true(brief->frequency[0] * (double)divisors[l][0] == 1);
        assert_true(m->ropes[brief->longer].frequency[0] * (double)divisors[l][1] == 1);
    }
    model_free(m);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    static const char *const sizes[] = { "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
                                         "intermediate_size" };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        static const char *const values[] = { "0", "-1", "1.5", "\"8\"", "99999999999", "true", "[]" };
        char change[96];
        snprintf(change, sizeof change, "{\"%s\":null}", sizes[i]);
        assert_change_refused(tinyllama, change, ERR_FORMAT, "is missing");
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            snprintf(change, sizeof change, "{\"%s\":%s}", sizes[i], values[k]);
            assert_change_refused(tinyllama, change, ERR_FORMAT, sizes[i]);
        }
    }
    assert_change_refused(tinyllama, "{\"num_attention_heads\":7}", ERR_FORMAT, "is no multiple of");
    assert_change_refused(tinyllama, "{\"num_key_value_heads\":5}", ERR_FORMAT, "32 attention heads cannot share 5");
    assert_change_refused(tinyllama, "{\"num_key_value_heads\":64}", ERR_FORMAT, "cannot share 64");
    assert_change_refused(tinyllama, "{\"head_dim\":63}", ERR_FORMAT, "63 of 63 dimensions of a head cannot rotate");
    assert_change_refused(tinyllama, "{\"head_dim\":65536}", ERR_UNSUPPORTED, "wider than the limit");
    assert_change_refused(tinyllama, "{\"rms_norm_eps\":-1e-5}", ERR_FORMAT, "epsilon");
    assert_change_refused(tinyllama, "{\"rms_norm_eps\":\"1e-5\"}", ERR_FORMAT, "rms_norm_eps");
    assert_change_refused(tinyllama, "{\"max_position_embeddings\":0}", ERR_FORMAT, "max_position_embeddings");
    assert_change_refused(tinyllama, "{\"tie_word_embeddings\":1}", ERR_FORMAT, "tie_word_embeddings");
    assert_change_refused(tinyllama, "{\"attention_bias\":\"no\"}", ERR_FORMAT, "attention_bias");
    assert_change_refused(tinyllama, "{\"model_type\":\"mamba\"}", ERR_UNSUPPORTED,
                          "known families are llama, mistral");
    assert_change_refused(tinyllama, "{\"model_type\":null}", ERR_FORMAT, "\"model_type\" is missing");
    assert_change_refused(tinyllama, "{\"model_type\":3}", ERR_FORMAT, "\"model_type\" must be a string");
    assert_change_refused(qwen25, "{\"layer_types\":[\"full_attention\"]}", ERR_FORMAT, "has 1 entries for 24 layers");
    struct model *m = NULL;
    struct err err = { 0 };
    assert_int_equal(read_config("[]", &m, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "is no JSON object"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configs_from_the_hub_are_read),
        cmocka_unit_test(rotary_frequencies_are_those_of_transformers),
        cmocka_unit_test(spellings_of_all_versions_are_read),
        cmocka_unit_test(alibi_slopes_are_those_of_transformers),
        cmocka_unit_test(null_is_not_absent),
        cmocka_unit_test(harmless_keys_are_ignored),
        cmocka_unit_test(keys_that_change_the_mathematics_are_refused_by_name),
        cmocka_unit_test(rope_settings_are_checked),
        cmocka_unit_test(each_kind_of_layer_may_have_longrope),
        cmocka_unit_test(sizes_are_checked),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
