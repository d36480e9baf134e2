/*
 * The architecture table: one row per family, properties and names only.
 * Nothing else in the program asks for a family by name: config readers, the
 * weight binder and the forward pass read properties.
 *
 *     const struct arch *arch = arch_of_model_type("llama");
 *     char name[TENSOR_NAME_MAX];
 *     tensor_name(name, arch->prefix, arch->names[ROLE_Q], 3, ".weight");   // "model.layers.3.self_attn.q_proj.weight"
 *
 * Sources: transformers (configuration_*.py, modeling_*.py) for names, keys and
 * defaults; llama.cpp (gguf-py/gguf/constants.py) for the GGUF side.
 */
#ifndef STRATA_MODEL_ARCH_H
#define STRATA_MODEL_ARCH_H

#include "core/model/model.h"

#include <stdbool.h>
#include <stddef.h>

/* What a tensor is for; its name in GGUF, which is the same in every family. '*' is the layer. */
#define ROLES(X)                                                                                                       \
    X(EMBED, "token_embd")                                                                                             \
    X(POSITIONS, "position_embd")                                                                                      \
    X(LN1, "blk.*.attn_norm")                                                                                          \
    X(QKV, "blk.*.attn_qkv")                                                                                           \
    X(Q, "blk.*.attn_q")                                                                                               \
    X(K, "blk.*.attn_k")                                                                                               \
    X(V, "blk.*.attn_v")                                                                                               \
    X(O, "blk.*.attn_output")                                                                                          \
    X(LN2, "blk.*.ffn_norm")                                                                                           \
    X(GATE, "blk.*.ffn_gate")                                                                                          \
    X(UP, "blk.*.ffn_up")                                                                                              \
    X(DOWN, "blk.*.ffn_down")                                                                                          \
    X(LN_FINAL, "output_norm")                                                                                         \
    X(UNEMBED, "output")

enum role {
#define X(id, gguf) ROLE_##id,
    ROLES(X)
#undef X
        N_ROLES
};

/* Sets of roles. */
#define ROLE_BIT(id) (1u << ROLE_##id)
#define ROLES_ATTENTION (ROLE_BIT(Q) | ROLE_BIT(K) | ROLE_BIT(V) | ROLE_BIT(O))
#define ROLES_MLP (ROLE_BIT(GATE) | ROLE_BIT(UP) | ROLE_BIT(DOWN))

/* Names of config.json keys; NULL where the family has no such key and the default always holds. */
struct config_keys {
    const char *n_layers, *n_heads, *n_kv_heads, *d_model, *d_head, *d_mlp, *n_ctx, *norm_eps, *activation;
};

/* A true/false key that says whether some matrices have a bias. */
struct bias_key {
    const char *key;
    bool otherwise;
    unsigned roles;
};

enum window_kind {
    WINDOW_NONE,
    WINDOW_EVERY_LAYER, /* "sliding_window": a number, or null for none */
    WINDOW_SOME_LAYERS, /* and "use_sliding_window", "layer_types" or "max_window_layers" say where */
};

struct arch {
    const char *name; /* model_type in config.json */
    const char *gguf; /* general.architecture; NULL where another row reads this family's GGUF files */

    enum norm_kind norm;
    enum position_kind position;
    bool gated_mlp;
    enum window_kind window;

    /* Hugging Face tensor names by role, NULL where the family has no such tensor. */
    const char *const *names;
    const char *prefix;           /* before every name but ROLE_UNEMBED's; base models are saved without it */
    const char *const *ignored;   /* buffers that carry no weights; NULL-terminated */
    bool in_major;                /* matrices of the blocks are Conv1D, [in, out]; GGUF has them transposed */
    bool gguf_pairs;              /* GGUF has q and k rows reordered for rotary over neighbouring pairs */
    unsigned biased;              /* roles that always have a bias */
    struct bias_key bias_keys[2]; /* roles that have one where a key says so */

    const struct config_keys *keys;
    struct {
        const char *activation;
        double norm_eps;
        size_t n_ctx;
        size_t n_kv_heads; /* where the key is absent; 0: n_heads */
        size_t mlp_factor; /* d_mlp in d_models where the key is absent; 0: the key must be there */
        bool tied;
    } defaults; /* transformers' own, for absent keys */
};

/* NULL where there is none. */
const struct arch *arch_of_model_type(const char *model_type);
const struct arch *arch_of_gguf(const char *architecture, size_t len);
/* The i-th row, NULL past the end. */
const struct arch *arch_row(size_t i);

const char *role_gguf_name(enum role role);

/* Sets *out; false where the name is not one of config.json's activation names. */
bool activation_of_name(const char *name, enum activation *out);

enum { TENSOR_NAME_MAX = 128 };
/* prefix + pattern, with the layer for '*', + suffix. */
void tensor_name(char out[TENSOR_NAME_MAX], const char *prefix, const char *pattern, size_t layer, const char *suffix);
/* Whether name is the pattern with digits for '*'. */
bool tensor_name_matches(const char *name, const char *pattern);

#endif
