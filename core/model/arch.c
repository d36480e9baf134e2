#include "core/model/arch.h"

#include <stdio.h>
#include <string.h>

/* Shared by llama, mistral and qwen2. */
static const char *const llama_names[N_ROLES] = {
    [ROLE_EMBED] = "embed_tokens",
    [ROLE_LN1] = "layers.*.input_layernorm",
    [ROLE_Q] = "layers.*.self_attn.q_proj",
    [ROLE_K] = "layers.*.self_attn.k_proj",
    [ROLE_V] = "layers.*.self_attn.v_proj",
    [ROLE_O] = "layers.*.self_attn.o_proj",
    [ROLE_LN2] = "layers.*.post_attention_layernorm",
    [ROLE_GATE] = "layers.*.mlp.gate_proj",
    [ROLE_UP] = "layers.*.mlp.up_proj",
    [ROLE_DOWN] = "layers.*.mlp.down_proj",
    [ROLE_LN_FINAL] = "norm",
    [ROLE_UNEMBED] = "lm_head",
};
static const char *const llama_ignored[] = { "layers.*.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", NULL };
static const struct config_keys llama_keys = {
    .n_layers = "num_hidden_layers",
    .n_heads = "num_attention_heads",
    .n_kv_heads = "num_key_value_heads",
    .d_model = "hidden_size",
    .d_head = "head_dim",
    .d_mlp = "intermediate_size",
    .n_ctx = "max_position_embeddings",
    .norm_eps = "rms_norm_eps",
    .activation = "hidden_act",
};

static const char *const gpt2_names[N_ROLES] = {
    [ROLE_EMBED] = "wte",           [ROLE_POSITIONS] = "wpe",       [ROLE_LN1] = "h.*.ln_1",
    [ROLE_QKV] = "h.*.attn.c_attn", [ROLE_O] = "h.*.attn.c_proj",   [ROLE_LN2] = "h.*.ln_2",
    [ROLE_UP] = "h.*.mlp.c_fc",     [ROLE_DOWN] = "h.*.mlp.c_proj", [ROLE_LN_FINAL] = "ln_f",
    [ROLE_UNEMBED] = "lm_head",
};
/* Causal masks that old checkpoints saved. */
static const char *const gpt2_ignored[] = { "h.*.attn.bias", "h.*.attn.masked_bias", NULL };
static const struct config_keys gpt2_keys = {
    .n_layers = "n_layer",
    .n_heads = "n_head",
    .d_model = "n_embd",
    .d_mlp = "n_inner",
    .n_ctx = "n_positions",
    .norm_eps = "layer_norm_epsilon",
    .activation = "activation_function",
};

static const struct arch archs[] = {
    {
        .name = "llama",
        .gguf = "llama",
        .norm = NORM_RMS,
        .position = POSITION_ROTARY,
        .gated_mlp = true,
        .names = llama_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .gguf_pairs = true,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION }, { "mlp_bias", false, ROLES_MLP } },
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 2048 },
    },
    {
        .name = "mistral",
        .norm = NORM_RMS,
        .position = POSITION_ROTARY,
        .gated_mlp = true,
        .window = WINDOW_EVERY_LAYER,
        .names = llama_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 131072, .n_kv_heads = 8 },
    },
    {
        .name = "gpt2",
        .gguf = "gpt2",
        .norm = NORM_LAYER,
        .position = POSITION_LEARNED,
        .names = gpt2_names,
        .prefix = "transformer.",
        .ignored = gpt2_ignored,
        .in_major = true,
        .biased = ROLE_BIT(QKV) | ROLE_BIT(O) | ROLE_BIT(UP) | ROLE_BIT(DOWN),
        .keys = &gpt2_keys,
        .defaults = { .activation = "gelu_new", .norm_eps = 1e-5, .n_ctx = 1024, .mlp_factor = 4, .tied = true },
    },
    {
        .name = "qwen2",
        .gguf = "qwen2",
        .norm = NORM_RMS,
        .position = POSITION_ROTARY,
        .gated_mlp = true,
        .window = WINDOW_SOME_LAYERS,
        .names = llama_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .biased = ROLE_BIT(Q) | ROLE_BIT(K) | ROLE_BIT(V),
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 32 },
    },
};

enum { N_ARCHS = sizeof archs / sizeof *archs };

const char *model_known_families(void)
{
    return "llama, mistral, gpt2, qwen2";
}

const struct arch *arch_row(size_t i)
{
    return i < N_ARCHS ? &archs[i] : NULL;
}

const struct arch *arch_of_model_type(const char *model_type)
{
    for (size_t i = 0; i < N_ARCHS; i++)
        if (!strcmp(archs[i].name, model_type))
            return &archs[i];
    return NULL;
}

const struct arch *arch_of_gguf(const char *architecture, size_t len)
{
    for (size_t i = 0; i < N_ARCHS; i++)
        if (archs[i].gguf && strlen(archs[i].gguf) == len && !memcmp(archs[i].gguf, architecture, len))
            return &archs[i];
    return NULL;
}

const char *role_gguf_name(enum role role)
{
    static const char *const names[N_ROLES] = {
#define X(id, gguf) [ROLE_##id] = gguf,
        ROLES(X)
#undef X
    };
    return names[role];
}

bool activation_of_name(const char *name, enum activation *out)
{
    /* The four tanh forms differ in rounding only, gelu_fast by 4e-12 in a constant. */
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {
#define X(id, spelled) { spelled, ACTIVATION_##id },
        ACTIVATIONS(X)
#undef X
            { "gelu_pytorch_tanh", ACTIVATION_GELU_TANH },
        { "gelu_python_tanh", ACTIVATION_GELU_TANH },
        { "gelu_accurate", ACTIVATION_GELU_TANH },
        { "gelu_fast", ACTIVATION_GELU_TANH },
        { "gelu_python", ACTIVATION_GELU_ERF },
        { "swish", ACTIVATION_SILU },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            *out = known[i].activation;
            return true;
        }
    return false;
}

void tensor_name(char out[TENSOR_NAME_MAX], const char *prefix, const char *pattern, size_t layer, const char *suffix)
{
    const char *star = strchr(pattern, '*');
    if (star)
        snprintf(out, TENSOR_NAME_MAX, "%s%.*s%zu%s%s", prefix, (int)(star - pattern), pattern, layer, star + 1,
                 suffix);
    else
        snprintf(out, TENSOR_NAME_MAX, "%s%s%s", prefix, pattern, suffix);
}

bool tensor_name_matches(const char *name, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            size_t digits = strspn(name, "0123456789");
            if (!digits)
                return false;
            name += digits;
        } else if (*name++ != *pattern)
            return false;
    }
    return !*name;
}
