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
 * threads may use it.
 */
#ifndef STRATA_MODEL_MODEL_H
#define STRATA_MODEL_MODEL_H

#include "core/base/err.h"
#include "core/base/pool.h"
#include "core/tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>

enum norm_kind { NORM_LAYER, NORM_RMS };
enum position_kind { POSITION_LEARNED, POSITION_ROTARY };
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

struct model_config {
    size_t n_layers, n_heads, n_kv_heads, d_model, d_head, d_mlp, d_vocab, n_ctx;
    enum norm_kind norm;
    double norm_eps;
    enum position_kind position;
    size_t rotary_dims; /* leading dims of a head that rotate; 0 without rotary */
    double rope_theta;
    const char *rope_scaling; /* "none", "linear", "llama3"; borrowed constant */
    enum activation activation;
    bool gated_mlp;    /* post = act(pre) * pre_linear */
    bool tied;         /* unembedding = embedding */
    double attn_scale; /* scores = attn_scale * q.k; 1/sqrt(d_head) */
};

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
    const float *gain, *bias; /* [d_model]; bias NULL where there is none */
};

struct layer {
    struct norm_weights ln1, ln2;
    struct matrix q, k, v,
        o; /* [n_heads*d_head, d_model], [n_kv_heads*d_head, d_model] x2, [d_model, n_heads*d_head] */
    struct matrix gate, up, down; /* pre-activation: gate where gated, else up; down [d_model, d_mlp] */
    const float *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias; /* NULL where there is none */
    size_t window; /* keys a query sees, itself included; 0 = all before it */
};

struct model {
    struct model_config config;
    struct layer *layers;   /* [n_layers] */
    const float *embed;     /* [d_vocab, d_model] */
    const float *pos_embed; /* [n_ctx, d_model] or NULL */
    struct norm_weights ln_final;
    struct matrix unembed;     /* [d_vocab, d_model] */
    const float *unembed_bias; /* [d_vocab] or NULL */
    double *rope_frequency;    /* [rotary_dims / 2], radians per position, scaling applied, float32 values; NULL without
                                  rotary */

    struct tokenizer *tokenizer; /* NULL where the files have none */
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
/* Config, tokenizer, sizes and tensor list only: weights stay unread, pointers to them NULL. For `info`, `tokenize`,
 * `sites`. */
int model_open_header(struct model **out, const char *where, struct err *err);
void model_free(struct model *m); /* NULL is fine */

/* Bytes that model_open will allocate for float32 weights; known after model_open_header. */
size_t model_planned_bytes(const struct model *m);
/* "llama, mistral, gpt2, qwen2": the families that are known, for messages. */
const char *model_known_families(void);

#endif
