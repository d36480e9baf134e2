/* Two configurations that differ in norm, positions, gate and key/value heads, for tests that need no weights. */
#ifndef STRATA_TESTS_CONFIGS_H
#define STRATA_TESTS_CONFIGS_H

#include "core/model/model.h"

static const struct model_config gpt2 = {
    .n_layers = 12,
    .n_heads = 12,
    .n_kv_heads = 12,
    .d_model = 768,
    .d_head = 64,
    .d_mlp = 3072,
    .d_vocab = 50257,
    .n_ctx = 1024,
    .d_embed = 768,
    .ln1 = true,
    .ln2 = true,
    .final_norm = true,
    .unembedding = true,
    .norm = NORM_LAYER,
    .position = POSITION_LEARNED,
};
static const struct model_config llama = {
    .n_layers = 30,
    .n_heads = 9,
    .n_kv_heads = 3,
    .d_model = 576,
    .d_head = 64,
    .d_mlp = 1536,
    .d_vocab = 49152,
    .n_ctx = 2048,
    .d_embed = 576,
    .ln1 = true,
    .ln2 = true,
    .final_norm = true,
    .unembedding = true,
    .norm = NORM_RMS,
    .position = POSITION_ROTARY,
    .rotary_dims = 64,
    .gated_mlp = true,
};

#endif
