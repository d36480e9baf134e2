/* Rows of the architecture table: Llama and the decoders that came after it, and those that name things as it does. */
#include "core/model/arch.h"

#include <math.h>

#define LLAMA_ATTENTION                                                                                                \
    [ROLE_Q] = "layers.*.self_attn.q_proj", [ROLE_K] = "layers.*.self_attn.k_proj",                                    \
    [ROLE_V] = "layers.*.self_attn.v_proj", [ROLE_O] = "layers.*.self_attn.o_proj"
#define LLAMA_MLP                                                                                                      \
    [ROLE_GATE] = "layers.*.mlp.gate_proj", [ROLE_UP] = "layers.*.mlp.up_proj", [ROLE_DOWN] = "layers.*.mlp.down_proj"
#define LLAMA_ENDS [ROLE_EMBED] = "embed_tokens", [ROLE_LN_FINAL] = "norm", [ROLE_UNEMBED] = "lm_head"
#define LLAMA_NORMS [ROLE_LN1] = "layers.*.input_layernorm", [ROLE_LN2] = "layers.*.post_attention_layernorm"
#define QK_NORMS [ROLE_Q_NORM] = "layers.*.self_attn.q_norm", [ROLE_K_NORM] = "layers.*.self_attn.k_norm"

/* Shared by llama, mistral, qwen2, qwen3, gemma, granite, smollm3, olmo. */
static const char *const llama_names[N_ROLES] = { LLAMA_ENDS, LLAMA_NORMS, LLAMA_ATTENTION, QK_NORMS, LLAMA_MLP };
static const char *const llama_ignored[] = { "layers.*.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq", NULL };
/* Sizes, with heads that share keys and values. */
#define GROUPED_SIZES TRANSFORMERS_SIZES, .n_kv_heads = "num_key_value_heads"
static const struct config_keys llama_keys = {
    GROUPED_SIZES,
    .d_head = "head_dim",
    .norm_eps = "rms_norm_eps",
    .activation = "hidden_act",
};
/* The same with LayerNorm's key. */
static const struct config_keys layer_norm_keys = {
    GROUPED_SIZES,
    .d_head = "head_dim",
    .norm_eps = "layer_norm_eps|layer_norm_epsilon|norm_epsilon",
    .activation = "hidden_act",
};

#define BIAS_KEYS                                                                                                      \
    {                                                                                                                  \
        { "attention_bias", false, ROLES_ATTENTION },                                                                  \
        {                                                                                                              \
            "mlp_bias", false, ROLES_MLP                                                                               \
        }                                                                                                              \
    }
/* transformers 5 has it among its rotary settings. */
#define ROTARY_FRACTION_KEYS                                                                                           \
    "rope_parameters.partial_rotary_factor|rope_scaling.partial_rotary_factor|partial_rotary_factor"
#define ROLES_QKV (ROLE_BIT(QKV) | ROLE_BIT(Q) | ROLE_BIT(K) | ROLE_BIT(V))
#define ROLES_BLOCK_NORMS (ROLE_BIT(LN1) | ROLE_BIT(LN2) | ROLE_BIT(LN_FINAL))

static const char *const mixtral_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_NORMS,
    LLAMA_ATTENTION,
    [ROLE_ROUTER] = "layers.*.block_sparse_moe.gate|layers.*.mlp.gate",
    [ROLE_EXPERT_GATE] = "layers.*.block_sparse_moe.experts.*.w1",
    [ROLE_EXPERT_UP] = "layers.*.block_sparse_moe.experts.*.w3",
    [ROLE_EXPERT_DOWN] = "layers.*.block_sparse_moe.experts.*.w2",
    [ROLE_STACKED_GATE_UP] = "layers.*.mlp.experts.gate_up_proj",
    [ROLE_STACKED_DOWN] = "layers.*.mlp.experts.down_proj",
};
static const char *const qwen_moe_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_NORMS,
    LLAMA_ATTENTION,
    QK_NORMS,
    [ROLE_ROUTER] = "layers.*.mlp.gate",
    [ROLE_EXPERT_GATE] = "layers.*.mlp.experts.*.gate_proj",
    [ROLE_EXPERT_UP] = "layers.*.mlp.experts.*.up_proj",
    [ROLE_EXPERT_DOWN] = "layers.*.mlp.experts.*.down_proj",
    [ROLE_STACKED_GATE_UP] = "layers.*.mlp.experts.gate_up_proj",
    [ROLE_STACKED_DOWN] = "layers.*.mlp.experts.down_proj",
    [ROLE_SHARED_GATE] = "layers.*.mlp.shared_expert.gate_proj",
    [ROLE_SHARED_UP] = "layers.*.mlp.shared_expert.up_proj",
    [ROLE_SHARED_DOWN] = "layers.*.mlp.shared_expert.down_proj",
    [ROLE_SHARED_SHARE] = "layers.*.mlp.shared_expert_gate",
};
static const char *const gemma2_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_ATTENTION,
    LLAMA_MLP,
    QK_NORMS,
    [ROLE_LN1] = "layers.*.input_layernorm",
    [ROLE_LN1_POST] = "layers.*.post_attention_layernorm",
    [ROLE_LN2] = "layers.*.pre_feedforward_layernorm",
    [ROLE_LN2_POST] = "layers.*.post_feedforward_layernorm",
};
/* A norm of each head. */
static const char *const stablelm_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_NORMS,
    LLAMA_ATTENTION,
    LLAMA_MLP,
    [ROLE_Q_NORM] = "layers.*.self_attn.q_layernorm.norms.*",
    [ROLE_K_NORM] = "layers.*.self_attn.k_layernorm.norms.*",
};
static const char *const olmo2_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_ATTENTION,
    LLAMA_MLP,
    QK_NORMS,
    [ROLE_LN1_POST] = "layers.*.post_attention_layernorm",
    [ROLE_LN2_POST] = "layers.*.post_feedforward_layernorm",
};
/* One norm for both sublayers. */
static const char *const cohere_names[N_ROLES] = {
    LLAMA_ENDS, LLAMA_ATTENTION, LLAMA_MLP, QK_NORMS, [ROLE_LN1] = "layers.*.input_layernorm",
};
static const char *const phi_names[N_ROLES] = {
    [ROLE_Q] = "layers.*.self_attn.q_proj",
    [ROLE_K] = "layers.*.self_attn.k_proj",
    [ROLE_V] = "layers.*.self_attn.v_proj",
    [ROLE_EMBED] = "embed_tokens",
    [ROLE_LN1] = "layers.*.input_layernorm",
    [ROLE_Q_NORM] = "layers.*.self_attn.q_layernorm",
    [ROLE_K_NORM] = "layers.*.self_attn.k_layernorm",
    [ROLE_O] = "layers.*.self_attn.dense",
    [ROLE_UP] = "layers.*.mlp.fc1",
    [ROLE_DOWN] = "layers.*.mlp.fc2",
    [ROLE_LN_FINAL] = "final_layernorm",
    [ROLE_UNEMBED] = "lm_head",
};
static const char *const phi3_names[N_ROLES] = {
    LLAMA_ENDS,
    LLAMA_NORMS,
    [ROLE_QKV] = "layers.*.self_attn.qkv_proj",
    [ROLE_O] = "layers.*.self_attn.o_proj",
    [ROLE_GATE_UP] = "layers.*.mlp.gate_up_proj",
    [ROLE_DOWN] = "layers.*.mlp.down_proj",
};
static const char *const starcoder2_names[N_ROLES] = {
    LLAMA_ENDS, LLAMA_NORMS, LLAMA_ATTENTION, [ROLE_UP] = "layers.*.mlp.c_fc", [ROLE_DOWN] = "layers.*.mlp.c_proj",
};
static const char *const neox_names[N_ROLES] = {
    [ROLE_EMBED] = "embed_in",
    [ROLE_LN1] = "layers.*.input_layernorm",
    [ROLE_QKV] = "layers.*.attention.query_key_value",
    [ROLE_O] = "layers.*.attention.dense",
    [ROLE_LN2] = "layers.*.post_attention_layernorm",
    [ROLE_UP] = "layers.*.mlp.dense_h_to_4h",
    [ROLE_DOWN] = "layers.*.mlp.dense_4h_to_h",
    [ROLE_LN_FINAL] = "final_layer_norm",
    [ROLE_UNEMBED] = "embed_out|lm_head",
};
static const char *const neox_ignored[] = { "layers.*.attention.bias", "layers.*.attention.masked_bias",
                                            "layers.*.attention.rotary_emb.inv_freq", NULL };
/* hidden_act of old files is not what Gemma was trained with: always the tanh form. */
static const struct config_keys gemma_keys = {
    GROUPED_SIZES,
    .d_head = "head_dim",
    .norm_eps = "rms_norm_eps",
};
static const struct config_keys olmo_keys = {
    GROUPED_SIZES,
    .activation = "hidden_act",
};

/* What most rows share. */
#define RMS_ROTARY_GATED                                                                                               \
    .norm = NORM_RMS, .position = POSITION_ROTARY, .gated_mlp = true, .prefix = "model.", .ignored = llama_ignored

const struct arch arch_llama[] = {
    {
        .name = "llama",
        .gguf = "llama",
        RMS_ROTARY_GATED,
        .names = llama_names,
        .gguf_pairs = true,
        .bias_keys = BIAS_KEYS,
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 2048 },
    },
    {
        .name = "mistral",
        .gguf = "llama",
        .gguf_pairs = true,
        RMS_ROTARY_GATED,
        .window = { .kind = WINDOW_EVERY_LAYER, .otherwise = 4096 },
        .names = llama_names,
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 131072, .n_kv_heads = 8 },
    },
    {
        .name = "mixtral",
        .gguf = "llama",
        .gguf_pairs = true,
        RMS_ROTARY_GATED,
        .window = { .kind = WINDOW_EVERY_LAYER },
        .rope_theta = 1e6,
        .names = mixtral_names,
        .keys = &llama_keys,
        .properties = { { "num_local_experts|num_experts", PROPERTY_EXPERTS, 8 },
                        { "num_experts_per_tok", PROPERTY_EXPERTS_USED, 2 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 131072, .n_kv_heads = 8 },
    },
    {
        .name = "gpt_neox",
        .gguf = "gptneox",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .qkv = QKV_GROUPED,
        .rope_theta_key = "rotary_emb_base",
        .names = neox_names,
        .prefix = "gpt_neox.",
        .ignored = neox_ignored,
        .biased = ROLES_BLOCK_NORMS | ROLE_BIT(UP) | ROLE_BIT(DOWN),
        .bias_keys = { { "attention_bias", true, ROLE_BIT(QKV) | ROLE_BIT(O) } },
        .keys = &layer_norm_keys,
        .properties = { { "use_parallel_residual", PROPERTY_PARALLEL, 1 },
                        { ROTARY_FRACTION_KEYS "|rotary_pct", PROPERTY_ROTARY_FRACTION, 0.25 } },
        .defaults = { .activation = "gelu", .norm_eps = 1e-5, .n_ctx = 2048 },
    },
    {
        .name = "qwen2",
        .gguf = "qwen2",
        RMS_ROTARY_GATED,
        .window = { .kind = WINDOW_SOME_LAYERS, .otherwise = 4096 },
        .names = llama_names,
        .biased = ROLES_QKV,
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 32 },
    },
    {
        .name = "qwen2_moe",
        .gguf = "qwen2moe",
        RMS_ROTARY_GATED,
        .window = { .kind = WINDOW_SOME_LAYERS, .otherwise = 4096 },
        .names = qwen_moe_names,
        .bias_keys = { { "qkv_bias", true, ROLES_QKV } },
        .keys = &llama_keys,
        .properties = { { "num_experts", PROPERTY_EXPERTS, 60 },
                        { "num_experts_per_tok", PROPERTY_EXPERTS_USED, 4 },
                        { "moe_intermediate_size", PROPERTY_EXPERT_WIDTH, 1408 },
                        { "shared_expert_intermediate_size", PROPERTY_SHARED_WIDTH, 5632 },
                        { "norm_topk_prob", PROPERTY_RENORMALISED, 0 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 16 },
    },
    {
        .name = "qwen3",
        .gguf = "qwen3",
        RMS_ROTARY_GATED,
        .qk_norm = true,
        .window = { .kind = WINDOW_SOME_LAYERS, .otherwise = 4096 },
        .names = llama_names,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 32, .d_head = 128 },
    },
    {
        .name = "qwen3_moe",
        .gguf = "qwen3moe",
        RMS_ROTARY_GATED,
        .qk_norm = true,
        .window = { .kind = WINDOW_SOME_LAYERS, .otherwise = 4096 },
        .names = qwen_moe_names,
        .gguf_renormalised = true,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &llama_keys,
        .properties = { { "num_experts|num_local_experts", PROPERTY_EXPERTS, 128 },
                        { "num_experts_per_tok", PROPERTY_EXPERTS_USED, 8 },
                        { "moe_intermediate_size", PROPERTY_EXPERT_WIDTH, 768 },
                        { "norm_topk_prob", PROPERTY_RENORMALISED, 0 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 4 },
    },
    {
        .name = "gemma",
        .gguf = "gemma",
        RMS_ROTARY_GATED,
        .embed_scaled = true,
        .gains_less_one = true,
        .names = llama_names,
        .bias_keys = BIAS_KEYS,
        .keys = &gemma_keys,
        .properties = { { "use_bidirectional_attention", PROPERTY_MUST_BE_FALSE, 0 } },
        .defaults = { .activation = "gelu_pytorch_tanh",
                      .norm_eps = 1e-6,
                      .n_ctx = 8192,
                      .n_kv_heads = 16,
                      .d_head = 256,
                      .tied = true },
    },
    {
        .name = "gemma2",
        .gguf = "gemma2",
        RMS_ROTARY_GATED,
        .embed_scaled = true,
        .gains_less_one = true,
        .sublayer_norms = true,
        .window = { .kind = WINDOW_PERIODIC, .otherwise = 4096, .period = 2 },
        .names = gemma2_names,
        .wide_scale_layers = 46,
        .bias_keys = BIAS_KEYS,
        .keys = &gemma_keys,
        .properties = { { "query_pre_attn_scalar", PROPERTY_ATTN_SCALAR, 256 },
                        { "attn_logit_softcapping", PROPERTY_ATTN_SOFTCAP, 50 },
                        { "final_logit_softcapping", PROPERTY_LOGIT_SOFTCAP, 30 },
                        { "use_bidirectional_attention", PROPERTY_MUST_BE_FALSE, 0 } },
        .defaults = { .activation = "gelu_pytorch_tanh",
                      .norm_eps = 1e-6,
                      .n_ctx = 8192,
                      .n_kv_heads = 4,
                      .d_head = 256,
                      .tied = true },
    },
#define GEMMA3                                                                                                         \
    .norm = NORM_RMS, .position = POSITION_ROTARY, .gated_mlp = true, .embed_scaled = true, .gains_less_one = true,    \
    .sublayer_norms = true, .qk_norm = true, .rope_theta = 1e6, .local_theta = 1e4,                                    \
    .local_theta_key = "rope_local_base_freq",                                                                         \
    .window = { .kind = WINDOW_PERIODIC,                                                                               \
                .otherwise = 4096,                                                                                     \
                .period_key = "sliding_window_pattern|_sliding_window_pattern",                                        \
                .period = 6 },                                                                                         \
    .names = gemma2_names, .ignored = llama_ignored, .wide_scale_layers = 62, .bias_keys = BIAS_KEYS,                  \
    .keys = &gemma_keys,                                                                                               \
    .properties = { { "query_pre_attn_scalar", PROPERTY_ATTN_SCALAR, 256 },                                            \
                    { "attn_logit_softcapping", PROPERTY_ATTN_SOFTCAP, NAN },                                          \
                    { "final_logit_softcapping", PROPERTY_LOGIT_SOFTCAP, NAN },                                        \
                    { "use_bidirectional_attention", PROPERTY_MUST_BE_FALSE, 0 } },                                    \
    .defaults = { .activation = "gelu_pytorch_tanh",                                                                   \
                  .norm_eps = 1e-6,                                                                                    \
                  .n_ctx = 131072,                                                                                     \
                  .n_kv_heads = 4,                                                                                     \
                  .d_head = 256,                                                                                       \
                  .tied = true }
    {
        .name = "gemma3_text",
        .gguf = "gemma3",
        .prefix = "model.",
        GEMMA3,
    },
    {
        .name = "phi",
        .gguf = "phi2",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .block = BLOCK_PARALLEL,
        .names = phi_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .biased = ROLES_BLOCK_NORMS | ROLE_BIT(Q_NORM) | ROLE_BIT(K_NORM) | ROLES_ATTENTION | ROLE_BIT(UP) |
                  ROLE_BIT(DOWN) | ROLE_BIT(UNEMBED),
        .keys = &layer_norm_keys,
        .properties = { { ROTARY_FRACTION_KEYS, PROPERTY_ROTARY_FRACTION, 0.5 },
                        { "qk_layernorm", PROPERTY_QK_NORM, 0 } },
        .defaults = { .activation = "gelu_new", .norm_eps = 1e-5, .n_ctx = 2048 },
    },
    {
        .name = "phi3",
        .gguf = "phi3",
        RMS_ROTARY_GATED,
        .window = { .kind = WINDOW_EVERY_LAYER },
        .names = phi3_names,
        .bias_keys = BIAS_KEYS,
        .keys = &llama_keys,
        .properties = { { ROTARY_FRACTION_KEYS, PROPERTY_ROTARY_FRACTION, 1 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 4096 },
    },
    {
        .name = "olmo",
        .gguf = "olmo",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .gated_mlp = true,
        .no_gains = true,
        .names = llama_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .gguf_pairs = true,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &olmo_keys,
        .properties = { { "clip_qkv", PROPERTY_QKV_CLIP, NAN } },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 2048 },
    },
    {
        .name = "olmo2",
        .gguf = "olmo2",
        RMS_ROTARY_GATED,
        .sublayer_norms = true,
        .qk_norm = true,
        .qk_norm_whole = true,
        .names = olmo2_names,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &llama_keys,
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 2048 },
    },
    {
        .name = "stablelm",
        .gguf = "stablelm",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .gated_mlp = true,
        .ln2_unless_parallel = true,
        .qk_gains_by_head = true,
        .names = stablelm_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .biased = ROLES_BLOCK_NORMS,
        .bias_keys = { { "use_qkv_bias", false, ROLES_QKV } },
        .keys = &layer_norm_keys,
        .properties = { { ROTARY_FRACTION_KEYS "|rope_pct", PROPERTY_ROTARY_FRACTION, 0.25 },
                        { "use_parallel_residual", PROPERTY_PARALLEL, 0 },
                        { "qk_layernorm", PROPERTY_QK_NORM, 0 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 4096, .n_kv_heads = 32 },
    },
    {
        .name = "starcoder2",
        .gguf = "starcoder2",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .window = { .kind = WINDOW_EVERY_LAYER },
        .names = starcoder2_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .biased = ROLES_BLOCK_NORMS,
        .bias_keys = { { "use_bias", true, ROLES_ATTENTION | ROLE_BIT(UP) | ROLE_BIT(DOWN) } },
        .keys = &layer_norm_keys,
        .defaults = { .activation = "gelu_pytorch_tanh",
                      .norm_eps = 1e-5,
                      .n_ctx = 4096,
                      .n_kv_heads = 2,
                      .tied = true },
    },
    {
        .name = "cohere",
        .gguf = "command-r",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .block = BLOCK_PARALLEL,
        .gated_mlp = true,
        .rotary_pairs = true,
        .qk_gains_by_head = true,
        .rope_theta = 5e5,
        .names = cohere_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &layer_norm_keys,
        .properties = { { "logit_scale", PROPERTY_LOGIT_SCALE, 0.0625 }, { "use_qk_norm", PROPERTY_QK_NORM, 0 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 8192, .tied = true },
    },
    {
        .name = "cohere2",
        .gguf = "cohere2",
        .norm = NORM_LAYER,
        .position = POSITION_ROTARY,
        .block = BLOCK_PARALLEL,
        .gated_mlp = true,
        .rotary_pairs = true,
        .window = { .kind = WINDOW_PERIODIC,
                    .otherwise = 4096,
                    .period_key = "sliding_window_pattern|_sliding_window_pattern",
                    .period = 4,
                    .full_has_no_rope = true },
        .names = cohere_names,
        .prefix = "model.",
        .ignored = llama_ignored,
        .bias_keys = { { "attention_bias", false, ROLES_ATTENTION } },
        .keys = &layer_norm_keys,
        .properties = { { "logit_scale", PROPERTY_LOGIT_SCALE, 0.0625 },
                        { "position_embedding_type", PROPERTY_NONE, 0 } /* "rope_gptj" */ },
        .defaults = { .activation = "silu", .norm_eps = 1e-5, .n_ctx = 8192, .tied = true },
    },
    {
        .name = "granite",
        .gguf = "granite",
        RMS_ROTARY_GATED,
        .names = llama_names,
        .gguf_pairs = true,
        .bias_keys = BIAS_KEYS,
        .keys = &llama_keys,
        .properties = { { "embedding_multiplier", PROPERTY_EMBED_SCALE, 1 },
                        { "residual_multiplier", PROPERTY_RESIDUAL_SCALE, 1 },
                        { "attention_multiplier", PROPERTY_ATTN_SCALE, 1 },
                        { "logits_scaling", PROPERTY_LOGIT_DIVISOR, 1 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 2048 },
    },
    {
        .name = "smollm3",
        .gguf = "smollm3",
        RMS_ROTARY_GATED,
        .rope_theta = 2e6,
        .window = { .kind = WINDOW_SOME_LAYERS },
        .names = llama_names,
        .gguf_pairs = true,
        .bias_keys = BIAS_KEYS,
        .keys = &llama_keys,
        .properties = { { "no_rope_layer_interval", PROPERTY_ROPE_LAYERS, 4 } },
        .defaults = { .activation = "silu", .norm_eps = 1e-6, .n_ctx = 32768, .n_kv_heads = 4, .tied = true },
    },
};

const size_t n_arch_llama = sizeof arch_llama / sizeof *arch_llama;
