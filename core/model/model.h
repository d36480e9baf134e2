/*
 * A model in one neutral layout, whatever file it came from: Hugging Face
 * folder, GGUF, an id in the local Hugging Face cache, or the embedded tiny
 * model. Weights are float32, [out, in] unless a matrix says otherwise, rotary
 * q/k rows in Hugging Face's half-split order, norm gains as they multiply.
 *
 *     struct model *m;
 *     if (model_open(&m, "data/models/SmolLM2-135M-Instruct.Q4_1.gguf", pool, &err)) ...
 *     printf("%zu layers of %zu heads\n", m->config.n_layers, m->config.n_heads);
 *     model_free(m);
 *
 * Everything is checked before model_open returns: shapes against the config,
 * ids against the vocabulary, NaN and Inf in weights (by tensor name), config
 * keys that change the mathematics and are not supported (by key), tensors
 * that nothing reads (by name). A model is immutable afterwards; any number of
 * threads may use it (but see model_use_layer).
 */
#ifndef STRATA_MODEL_MODEL_H
#define STRATA_MODEL_MODEL_H

#include "core/base/err.h"
#include "core/base/pool.h"
#include "core/tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>

enum norm_kind { NORM_LAYER, NORM_RMS };
enum position_kind {
    POSITION_LEARNED,  /* a table, added to the embedding */
    POSITION_ROTARY,   /* q and k rotated */
    POSITION_ALIBI,    /* a slope per head on the distance, added to the scores */
    POSITION_RELATIVE, /* DeBERTa: scores between content and position tables */
};
/* What a block's two sublayers read, and where the stream is normalised. */
enum block_kind {
    BLOCK_PRE,      /* x += attn(ln1 x); x += mlp(ln2 x). OLMo 2 has no ln1 and ln2, see sublayer_norms */
    BLOCK_PARALLEL, /* x += attn(ln1 x) + mlp(ln2 x); without ln2 both read ln1 x (GPT-J) */
    BLOCK_POST,     /* x = ln1(x + attn x); x = ln2(x + mlp x): BERT */
};
/* name as config.json spells it (aliases in arch.c) */
#define ACTIVATIONS(X)                                                                                                 \
    X(GELU_TANH, "gelu_new")                                                                                           \
    X(GELU_ERF, "gelu")                                                                                                \
    X(SILU, "silu")                                                                                                    \
    X(RELU, "relu")
enum activation {
#define X(id, name) ACTIVATION_##id,
    ACTIVATIONS(X)
#undef X
};

enum { MAX_ROPES = 4, NO_ROPE = MAX_ROPES, MAX_EXPERTS = 512 };

/* One set of rotary angles. Most models have one; Gemma 3 has others for layers that slide, longrope for long prompts.
 */
struct rope {
    double theta;
    const char *scaling; /* "none", "linear", "llama3", "longrope"; borrowed constant */
    double *frequency;   /* [rotary_dims / 2], radians per position, scaling applied, float32 values; owned */
    double scale;        /* of cosines and sines; 1 but for longrope */
    size_t n_short;      /* prompts of more tokens than this take ropes[longer]; SIZE_MAX: none do */
    size_t longer;
};

/*
 * DeBERTa's disentangled attention (He et al. 2021): scores = attn_scale (q.k + q.K[d] + k.Q[d]), K and Q a table of
 * distances through the key and query projections; d the bucket of query - key, plus span, in the table.
 */
struct relative_positions {
    size_t span;                     /* the table has 2 span rows */
    size_t buckets, longest;         /* logarithmic buckets of distances up to longest - 1; 0: none */
    bool to_position, from_position; /* c2p: q.K[d]; p2c: k.Q[d] */
    bool shared;                     /* K and Q by the projections of the content, else by their own */
    bool normalised;                 /* the table, before it is projected */
};

struct model_config {
    size_t n_layers, n_heads, n_kv_heads, d_model, d_head, d_mlp, d_vocab, n_ctx;
    size_t d_embed; /* width of the token embedding and of what the unembedding reads: d_model unless projected */
    enum block_kind block;
    bool ln1, ln2;       /* the block has these norms */
    bool sublayer_norms; /* what a sublayer returns is normalised before it is added: Gemma 2, OLMo 2 */
    bool final_norm;     /* ln_final before the unembedding */
    enum norm_kind norm;
    double norm_eps;
    enum position_kind position;
    size_t position_offset;             /* row of pos_embed that position 0 takes: OPT, RoBERTa */
    struct relative_positions relative; /* where position is POSITION_RELATIVE */
    size_t n_token_types;               /* rows of the token type table; every token is of type 0 */
    bool embed_norm;                    /* the embedding is normalised before block 0 */
    bool bidirectional;                 /* an encoder: every query sees every key */
    size_t rotary_dims;                 /* leading dims of a head that rotate; 0 without rotary */
    bool rotary_pairs; /* neighbours x[2i], x[2i+1] rotate (GPT-J, Cohere), not x[i], x[i + rotary_dims/2] */
    enum activation activation, head_activation; /* head: of a masked-LM head */
    bool gated_mlp;                              /* post = act(pre) * pre_linear */
    bool tied;                                   /* unembedding = embedding */
    bool unembedding;                            /* there is one: a sentence encoder has none */
    bool head_transform;                         /* masked-LM head: dense, activation, norm before the unembedding */
    double attn_scale;                           /* scores = attn_scale * q.k; 1/sqrt(d_head) */
    double attn_softcap, logit_softcap;          /* x = cap * tanh(x / cap) of scores, of logits; 0: none */
    double qkv_clip;                             /* q, k, v are clipped to [-clip, clip]; 0: not */
    double embed_scale, residual_scale, logit_scale; /* factors, 1 where there are none */
    bool qk_norm;                                    /* q and k are normalised, with the block's norm and eps */
    bool qk_norm_whole;                              /* over all heads at once (OLMo 2), not head by head */
    bool qk_gain_shared;                             /* one gain [d_head] for all heads, not [heads, d_head] */
    size_t n_experts, n_experts_used;                /* 0: a dense MLP. d_mlp is an expert's width */
    bool experts_renormalised;                       /* weights of the experts that are used sum to 1 */
    size_t d_shared;                                 /* width of the expert that every token uses; 0: none */
};

/* Whether positions or token types are added to the token embedding. */
static inline bool model_embeds_a_sum(const struct model_config *c)
{
    return c->position == POSITION_LEARNED || c->n_token_types;
}

/* Width of the embeddings that are added: a projection follows their norm (ALBERT), or, without one, the table (OPT).
 */
static inline size_t model_embed_width(const struct model_config *c)
{
    return c->embed_norm ? c->d_embed : c->d_model;
}

/*
 * y[o] = sum_i W[o][i] x[i]. W[o][i] is data[o * stride + i], or, where
 * `in_major` (GPT-2's Conv1D, slices of fused matrices), data[i * stride + o].
 */
struct matrix {
    const float *data;
    size_t n_out, n_in, stride;
    bool in_major;
};

struct norm_weights {
    const float *gain, *bias; /* [d_model]; NULL where there is none */
    bool identity;            /* in place of a norm: scale 1, nothing is centred (ModernBERT's first) */
};

/* One gated or plain MLP. */
struct mlp_weights {
    struct matrix gate, up, down;                 /* pre-activation: gate where gated, else up; down [d_model, d_mlp] */
    const float *gate_bias, *up_bias, *down_bias; /* NULL where there is none */
};

struct layer {
    struct norm_weights ln1, ln2;           /* where config.ln1, config.ln2 */
    struct norm_weights ln1_post, ln2_post; /* where config.sublayer_norms */
    struct norm_weights q_norm, k_norm;     /* where config.qk_norm: [heads, d_head] or [d_head] */
    struct matrix q, k, v,
        o; /* [n_heads*d_head, d_model], [n_kv_heads*d_head, d_model] x2, [d_model, n_heads*d_head] */
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL where there is none */
    struct matrix position_q, position_k;           /* relative positions, unless shared */
    const float *position_q_bias, *position_k_bias;
    struct mlp_weights mlp;      /* of the shared expert where there are experts */
    struct matrix router;        /* [n_experts, d_model] */
    struct mlp_weights *experts; /* [n_experts] or NULL */
    struct matrix shared_gate;   /* [1, d_model]: sigmoid of it weighs the shared expert */
    double attn_scale;           /* config.attn_scale; GPT-2 may divide by the layer's number */
    size_t window; /* keys a query sees, itself included; bidirectional: on either side, itself too. 0 = all */
    size_t rope;   /* number of its rotary angles, or NO_ROPE */
};

/* Of a masked-LM head; also OPT-350m's projection, which has neither activation nor norm. */
struct head_weights {
    struct matrix dense; /* [d_embed, d_model]; data NULL where the head is the unembedding alone */
    const float *bias;
    struct norm_weights norm; /* [d_embed], where config.head_transform */
};

struct model {
    struct model_config config;
    struct layer *layers;    /* [n_layers] */
    const float *embed;      /* [d_vocab, d_embed] */
    const float *pos_embed;  /* [n_ctx + position_offset, width of hook_embed] or NULL */
    const float *type_embed; /* [n_token_types, width of hook_embed] or NULL */
    const float *relative;   /* [2 span, d_model] table of distances or NULL */
    struct norm_weights relative_norm;
    struct norm_weights embed_norm;
    struct matrix project_in; /* [d_model, d_embed] or data NULL */
    const float *project_in_bias;
    struct norm_weights ln_final;
    struct head_weights head;
    struct matrix unembed;     /* [d_vocab, d_embed] */
    const float *unembed_bias; /* [d_vocab] or NULL */
    struct rope ropes[MAX_ROPES];
    size_t n_ropes;
    double *alibi;   /* [n_heads] slopes, as they are added to scores; NULL without; owned */
    bool alibi_bf16; /* slope * position is rounded to bfloat16 first, then times alibi_factor: Falcon */
    double alibi_factor;

    struct tokenizer *tokenizer; /* NULL where the files have none */
    int32_t mask_token;          /* that a masked-LM head fills in; -1 where none is known */
    char *path;                  /* as found; "embedded tiny model" for that */
    const char *architecture;    /* row of the architecture table: "llama", "mistral", "gpt2", "qwen2" */
    char *file_format;           /* "GGUF v3", "safetensors" */
    char *weight_types;          /* "Q4_1 210, F32 61, Q8_0 1": tensors by type */
    char *config_json;           /* config.json, or the GGUF metadata without arrays, as JSON */
    char sha256[65]; /* of the weight file; of several: of their sha256s (hex) in name order; "" from model_open_header
                      */
    char tokenizer_sha256[65]; /* of tokenizer.json; of the GGUF's tokenizer arrays; "" without tokenizer */
    size_t n_parameters;       /* of the weights in the file that are read; a tied unembedding counts once */
    size_t
        weight_bytes; /* float32 bytes that were allocated (mapped F32 tensors cost none); 0 from model_open_header */
    struct model_storage *storage; /* owned: mapped files and widened arrays */
};

/*
 * `where`: a GGUF file, a folder, or an id such as "gpt2" or "org/name" that is in the local
 * Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub). NULL: the default
 * model, which is $STRATA_MODEL, else the fetched demo model (data/models, found from the working
 * folder), else the embedded tiny model. The pool widens weights in parallel. *out is the caller's.
 */
int model_open(struct model **out, const char *where, struct pool *pool, struct err *err);
/* Where the blocks' float32 weights are. Numbers are the same. */
#define WEIGHT_PLACES(X)                                                                                               \
    X(AUTO, "auto")     /* in memory if they fit into nine tenths of what is free, else streamed */                    \
    X(MEMORY, "memory") /* all of them, for good */                                                                    \
    X(STREAM, "stream") /* two blocks at a time, widened from the mapped file whenever a pass comes by */
enum weight_place {
#define X(id, name) WEIGHTS_##id,
    WEIGHT_PLACES(X)
#undef X
};
int model_open_at(struct model **out, const char *where, enum weight_place place, struct pool *pool, struct err *err);
/*
 * Whoever reads m->layers[layer]'s matrices calls this first, outside pool tasks. Streamed, they are valid until two
 * other layers have been used and NULL afterwards; the pool of model_open_at must still be there, and one thread at a
 * time may use the model. In memory it does nothing.
 */
int model_use_layer(const struct model *m, size_t layer, struct err *err);
bool model_streams(const struct model *m);
/* Config, tokenizer, sizes and tensor list only: weights stay unread, pointers to them NULL. For `info`, `tokenize`,
 * `sites`. */
int model_open_header(struct model **out, const char *where, struct err *err);
void model_free(struct model *m); /* NULL is fine */

/* Bytes that model_open will allocate for float32 weights; known after model_open_header. */
size_t model_planned_bytes(const struct model *m);
/* The same when the blocks are streamed. */
size_t model_streamed_bytes(const struct model *m);
/* "llama, mistral, gpt2, qwen2": the families that are known, for messages. */
const char *model_known_families(void);

#endif
