/*
 * The architecture table: one row per family, properties and names only.
 * Nothing else in the program asks for a family by name: config readers, the
 * weight binder and the forward pass read properties.
 *
 *     const struct arch *arch = arch_of_model_type("llama");
 *     char name[TENSOR_NAME_MAX];
 *     tensor_name(name, arch->prefix, arch->names[ROLE_Q], 3, 0, ".weight");   //
 * "model.layers.3.self_attn.q_proj.weight"
 *
 * Where spellings differ among versions, '|' separates them: "n_layer|num_hidden_layers"; the first that is there
 * counts. A '.' in a config key leads into an object: "attn_config.clip_qkv".
 *
 * Sources: transformers (configuration_*.py, modeling_*.py) for names, keys and
 * defaults; llama.cpp (gguf-py/gguf/constants.py) for the GGUF side.
 */
#ifndef STRATA_MODEL_ARCH_H
#define STRATA_MODEL_ARCH_H

#include "core/model/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a tensor is for; its name in GGUF, which is the same in every family, "" where GGUF has none. The first '*' is
 * the layer, the second the expert. STACKED roles hold all experts of a layer, [n_experts, out, in].
 */
#define ROLES(X)                                                                                                       \
    X(EMBED, "token_embd")                                                                                             \
    X(POSITIONS, "position_embd")                                                                                      \
    X(TYPES, "token_types")                                                                                            \
    X(EMBED_NORM, "token_embd_norm")                                                                                   \
    X(RELATIVE, "")                                                                                                    \
    X(RELATIVE_NORM, "")                                                                                               \
    X(POSITION_Q, "")                                                                                                  \
    X(POSITION_K, "")                                                                                                  \
    X(PROJECT_IN, "")                                                                                                  \
    X(LN1, "blk.*.attn_norm")                                                                                          \
    X(QKV, "blk.*.attn_qkv")                                                                                           \
    X(Q, "blk.*.attn_q")                                                                                               \
    X(K, "blk.*.attn_k")                                                                                               \
    X(V, "blk.*.attn_v")                                                                                               \
    X(Q_NORM, "blk.*.attn_q_norm")                                                                                     \
    X(K_NORM, "blk.*.attn_k_norm")                                                                                     \
    X(O, "blk.*.attn_output")                                                                                          \
    X(LN1_POST, "blk.*.post_attention_norm")                                                                           \
    X(LN2, "blk.*.ffn_norm")                                                                                           \
    X(GATE_UP, "")                                                                                                     \
    X(GATE, "blk.*.ffn_gate")                                                                                          \
    X(UP, "blk.*.ffn_up")                                                                                              \
    X(DOWN, "blk.*.ffn_down")                                                                                          \
    X(LN2_POST, "blk.*.post_ffw_norm")                                                                                 \
    X(ROUTER, "blk.*.ffn_gate_inp")                                                                                    \
    X(EXPERT_GATE, "blk.*.ffn_gate.*")                                                                                 \
    X(EXPERT_UP, "blk.*.ffn_up.*")                                                                                     \
    X(EXPERT_DOWN, "blk.*.ffn_down.*")                                                                                 \
    X(STACKED_GATE_UP, "")                                                                                             \
    X(STACKED_GATE, "blk.*.ffn_gate_exps")                                                                             \
    X(STACKED_UP, "blk.*.ffn_up_exps")                                                                                 \
    X(STACKED_DOWN, "blk.*.ffn_down_exps")                                                                             \
    X(SHARED_GATE, "blk.*.ffn_gate_shexp")                                                                             \
    X(SHARED_UP, "blk.*.ffn_up_shexp")                                                                                 \
    X(SHARED_DOWN, "blk.*.ffn_down_shexp")                                                                             \
    X(SHARED_SHARE, "blk.*.ffn_gate_inp_shexp")                                                                        \
    X(LN_FINAL, "output_norm")                                                                                         \
    /* From here on names stand without the row's prefix. */                                                           \
    X(HEAD_DENSE, "")                                                                                                  \
    X(HEAD_NORM, "")                                                                                                   \
    X(UNEMBED, "output")                                                                                               \
    X(UNEMBED_BIAS, "") /* where it is a tensor of its own, not UNEMBED's ".bias" */

enum role {
#define X(id, gguf) ROLE_##id,
    ROLES(X)
#undef X
        N_ROLES,
    FIRST_HEAD_ROLE = ROLE_HEAD_DENSE
};

/* Sets of roles. */
#define ROLE_BIT(id) ((uint64_t)1 << ROLE_##id)
#define ROLES_ATTENTION (ROLE_BIT(QKV) | ROLE_BIT(Q) | ROLE_BIT(K) | ROLE_BIT(V) | ROLE_BIT(O))
#define ROLES_MLP (ROLE_BIT(GATE) | ROLE_BIT(UP) | ROLE_BIT(DOWN))
#define ROLES_NORMS                                                                                                    \
    (ROLE_BIT(EMBED_NORM) | ROLE_BIT(LN1) | ROLE_BIT(LN2) | ROLE_BIT(LN_FINAL) | ROLE_BIT(HEAD_NORM) |                 \
     ROLE_BIT(LN1_POST) | ROLE_BIT(LN2_POST) | ROLE_BIT(RELATIVE_NORM))

/* Names of config.json keys; NULL where the family has no such key and the default always holds. */
struct config_keys {
    const char *n_layers, *n_heads, *n_kv_heads, *d_model, *d_head, *d_mlp, *n_ctx, *norm_eps, *activation;
};
/* Sizes as most families spell them. */
#define TRANSFORMERS_SIZES                                                                                             \
    .n_layers = "num_hidden_layers", .n_heads = "num_attention_heads", .d_model = "hidden_size",                       \
    .d_mlp = "intermediate_size", .n_ctx = "max_position_embeddings"

/* What a key of config.json says about the mathematics. */
enum property {
    PROPERTY_NONE, /* read elsewhere, or harmless in this family */
    /* numbers */
    PROPERTY_ATTN_SOFTCAP,
    PROPERTY_LOGIT_SOFTCAP,
    PROPERTY_EMBED_SCALE,
    PROPERTY_RESIDUAL_SCALE,
    PROPERTY_ATTN_SCALE,
    PROPERTY_ATTN_SCALAR, /* scale = 1 / sqrt(it) */
    PROPERTY_LOGIT_SCALE,
    PROPERTY_LOGIT_DIVISOR,
    PROPERTY_QKV_CLIP,
    PROPERTY_ROTARY_FRACTION,
    PROPERTY_ROTARY_DIMS,
    PROPERTY_ALIBI_MOST, /* MPT's alibi_bias_max */
    PROPERTY_MLP_FACTOR, /* d_mlp in d_models */
    PROPERTY_D_EMBED,
    PROPERTY_N_TYPES,
    PROPERTY_EXPERTS,
    PROPERTY_EXPERTS_USED,
    PROPERTY_EXPERT_WIDTH, /* d_mlp of an expert */
    PROPERTY_SHARED_WIDTH,
    PROPERTY_ROPE_LAYERS,  /* every n-th layer has no rotary */
    PROPERTY_PAD_TOKEN,    /* positions count from the row after this id's: RoBERTa */
    PROPERTY_LAYER_GROUPS, /* consecutive layers share the weights of one of so many groups: ALBERT */
    PROPERTY_MUST_BE_ONE,  /* another number is not supported */
    PROPERTY_MUST_BE_ZERO,
    PROPERTY_MUST_BE_D_MODEL,
    PROPERTY_MUST_BE_D_HEAD,
    /* true or false */
    PROPERTY_PARALLEL,
    PROPERTY_PRE_NORM, /* false: a post-norm block without final norm (OPT-350m) */
    PROPERTY_NO_FINAL_NORM,
    PROPERTY_QK_NORM,
    PROPERTY_ALIBI,           /* in place of rotary */
    PROPERTY_MULTI_QUERY,     /* one key/value head; false: as many as heads */
    PROPERTY_GROUPED_QUERIES, /* true: as many as their key says after all (Falcon's new decoder) */
    PROPERTY_RENORMALISED,    /* experts */
    PROPERTY_SCALE_BY_LAYER,  /* attention scores are divided by the layer's number + 1 too */
    PROPERTY_SCALED_SCORES,   /* false: scores are not divided by sqrt(d_head) */
    PROPERTY_MUST_BE_TRUE,    /* anything else is not supported */
    PROPERTY_MUST_BE_FALSE,
};
struct property_key {
    const char *key;
    enum property property;
    double otherwise; /* where the key is absent; NAN, and a number that is null: the property stays as it is */
};

/* A true/false key that says whether some matrices have a bias. */
struct bias_key {
    const char *key;
    bool otherwise;
    uint64_t roles;
};

enum window_kind {
    WINDOW_NONE,
    WINDOW_EVERY_LAYER, /* the key's number, or null for none */
    WINDOW_SOME_LAYERS, /* and "use_sliding_window", "layer_types" or "max_window_layers" say where */
    WINDOW_PERIODIC,    /* all layers but every n-th one; "layer_types" may say it otherwise */
    WINDOW_LISTED,      /* GPT-Neo's "attention_layers" or "attention_types": local and global */
};
struct window_rule {
    enum window_kind kind;
    const char *key;        /* of the window's size; NULL: "sliding_window" */
    size_t otherwise;       /* size where the key is absent; 0: none */
    const char *period_key; /* PERIODIC */
    size_t period;          /* where that key is absent */
    bool first_is_full;     /* layers 0, n, 2n .. are full, not n - 1, 2n - 1 .. */
    bool halved;            /* the key's number is both sides together (ModernBERT) */
    bool full_has_no_rope;  /* Cohere 2: only layers that slide have positions */
};

/* How the rows of a fused tensor of q, k and v are ordered. */
enum qkv_order {
    QKV_STACKED, /* all of q, all of k, all of v */
    QKV_GROUPED, /* for each key/value head: its queries, its key, its value */
};

enum { MOST_PROPERTY_KEYS = 12 };

struct arch {
    const char *name;        /* model_type in config.json */
    const char *gguf;        /* general.architecture; NULL where another row reads this family's GGUF files */
    const char *text_config; /* key of the object that holds the text model's settings; NULL: config.json itself */

    enum norm_kind norm;
    enum position_kind position;
    enum block_kind block;
    struct window_rule window;
    enum qkv_order qkv;
    bool gated_mlp, bidirectional, embed_norm, sublayer_norms, qk_norm, qk_norm_whole, qk_gains_by_head, rotary_pairs,
        alibi_bf16, alibi_powers, head_transform;
    bool embed_scaled;    /* by sqrt(d_model) */
    bool unscaled_scores; /* GPT-Neo: no 1 / sqrt(d_head) */
    bool gains_less_one;  /* files hold norm gains minus 1 (Gemma); GGUF has them whole */
    bool no_gains;        /* norms have neither gain nor bias (OLMo) */
    bool ln2_unless_parallel, ln2_if_there;
    bool no_ln1_in_block_0; /* ModernBERT */
    size_t position_offset;
    const char *head_activation; /* of the masked-LM head; NULL: as in the blocks */
    const char *head_activation_key;
    double local_theta; /* of layers that slide; 0: as all */
    const char *local_theta_key;
    const char *rope_theta_key; /* NULL: "rope_theta" */
    double rope_theta;          /* where it is absent; 0: 10000 */

    /* Hugging Face tensor names by role, NULL where the family has no such tensor. */
    const char *const *names;
    const char *prefix;              /* before every name but the head's; base models are saved without it */
    const char *const *ignored;      /* tensors that carry nothing that is computed; NULL-terminated */
    bool in_major;                   /* matrices of the blocks are Conv1D, [in, out]; GGUF has them transposed */
    bool gguf_pairs;                 /* GGUF has q and k rows reordered for rotary over neighbouring pairs */
    const char *gguf_ln1, *gguf_ln2; /* GGUF's names where they are not those of ROLES */
    bool gguf_renormalised;          /* experts' weights sum to 1, which GGUF does not say */
    size_t wide_scale_layers;        /* the model of so many layers has scores / sqrt(d_model / n_heads); GGUF's rule */
    uint64_t biased;                 /* roles that have a bias, norms included */
    struct bias_key bias_keys[5];    /* roles that have one where a key says so */

    const struct config_keys *keys;
    struct property_key properties[MOST_PROPERTY_KEYS];
    struct {
        const char *activation; /* also where keys->activation is NULL */
        double norm_eps;
        size_t n_ctx;
        size_t n_kv_heads; /* where the key is absent; 0: n_heads */
        size_t d_head;     /* where the key is absent; 0: d_model / n_heads */
        size_t mlp_factor; /* d_mlp in d_models where the key is absent; 0: the key must be there */
        bool tied;
    } defaults; /* transformers' own, for absent keys */
};

/* NULL where there is none. */
const struct arch *arch_of_model_type(const char *model_type);
/*
 * Of rows with one name (Mistral's and Mixtral's files say llama) the one that fits best: with experts or without,
 * sliding in every layer or not.
 */
const struct arch *arch_of_gguf(const char *architecture, size_t len, bool experts, bool slides);
/* What a row says of a property; NULL where it has no such key. */
const struct property_key *arch_property(const struct arch *arch, enum property property);
/* The i-th row, NULL past the end. */
const struct arch *arch_row(size_t i);
/* The tables behind it: arch_llama.c, arch_gpt.c, arch_encoders.c. */
extern const struct arch arch_llama[], arch_gpt[], arch_encoders[];
extern const size_t n_arch_llama, n_arch_gpt, n_arch_encoders;

const char *role_gguf_name(const struct arch *arch, enum role role);

/* Sets *out; false where the name is not one of config.json's activation names. */
bool activation_of_name(const char *name, enum activation *out);

enum { TENSOR_NAME_MAX = 128 };
/* prefix + pattern, with the layer for the first '*' and the expert for the second, + suffix. */
void tensor_name(char out[TENSOR_NAME_MAX], const char *prefix, const char *pattern, size_t layer, size_t expert,
                 const char *suffix);
/* Whether name is the pattern with digits for '*'. */
bool tensor_name_matches(const char *name, const char *pattern);
/* The next of "a|b|c" into out; false at the end. Start with *cursor = the whole text. */
bool next_spelling(const char **cursor, char out[TENSOR_NAME_MAX]);

#endif
