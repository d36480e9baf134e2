/*
 * Sites: the named tensors inside a model. Names, shapes and semantics are
 * TransformerLens's. One row of SITES is everything about a site; name parsing,
 * `strata sites`, HDF5 shapes and plans all come from it.
 *
 *     struct site_ref ref;
 *     if (site_parse("blocks.3.attn.hook_z", config, &ref, &err)) ...
 *     size_t dims[2];
 *     int n = site_shape(ref.site, config, dims);      // 2: [n_heads, d_head]
 *     char name[SITE_NAME_MAX];
 *     site_name(ref, name);
 */
#ifndef STRATA_RUNTIME_SITES_H
#define STRATA_RUNTIME_SITES_H

#include "core/base/err.h"
#include "core/model/model.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * What a row of a site holds; rows are tokens except for EDGES, which are per prompt [n_heads, T, T]. EMBED rows are
 * as wide as the embedding where that is projected afterwards (ALBERT).
 */
#define SITE_AXES(X)                                                                                                   \
    X(MODEL, "row, d_model")                                                                                           \
    X(EMBED, "row, d_model")                                                                                           \
    X(SCALE, "row, 1")                                                                                                 \
    X(QUERY, "row, n_heads, d_head")                                                                                   \
    X(KEY, "row, n_kv_heads, d_head")                                                                                  \
    X(EDGES, "head, query, key")                                                                                       \
    X(RESULT, "row, n_heads, d_model")                                                                                 \
    X(NEURONS, "row, d_mlp")                                                                                           \
    X(EXPERTS, "row, n_experts")                                                                                       \
    X(EXPERT_RESULT, "row, n_experts, d_model")                                                                        \
    X(VOCAB, "row, d_vocab")
enum site_axes {
#define X(id, text) AXES_##id,
    SITE_AXES(X)
#undef X
};

/* When a site exists; the reason is what a refusal says. */
#define SITE_CONDITIONS(X)                                                                                             \
    X(ALWAYS, "")                                                                                                      \
    X(POSITIONS, "the model has no learned position embedding")                                                        \
    X(TYPES, "the model has no token types")                                                                           \
    X(FULL_EMBED, "the token embedding is what enters block 0")                                                        \
    X(ROTARY, "the model has no rotary position embedding")                                                            \
    X(LN1, "the block has no norm before attention")                                                                   \
    X(LN2, "the block has no norm before the MLP")                                                                     \
    X(SEQUENTIAL, "the block is parallel: attention and MLP read the same stream")                                     \
    X(SUBLAYER_NORMS, "the block does not normalise what its sublayers return")                                        \
    X(POST_NORM, "the block normalises before its sublayers, not after them")                                          \
    X(DENSE, "the MLP is a mixture of experts")                                                                        \
    X(GATED, "the model's MLP is not gated")                                                                           \
    X(EXPERTS, "the MLP is no mixture of experts")                                                                     \
    X(FINAL_NORM, "the model has no final norm")                                                                       \
    X(HEAD_TRANSFORM, "the model has no masked-LM head")                                                               \
    X(UNEMBEDDING, "the model has no unembedding")
enum site_condition {
#define X(id, reason) SITE_IF_##id,
    SITE_CONDITIONS(X)
#undef X
};

/*
 * id, name ("blocks.L." stands before it where per_layer), short form, TransformerLens bridge name or NULL,
 * axes, condition, per_layer, editable, meaning. In the order in which the forward pass reaches them; a norm that
 * stands elsewhere in post-norm blocks has a second row, and no model has both.
 */
#define SITES(X)                                                                                                       \
    X(EMBED, "hook_embed", "embed", "embed.hook_out", EMBED, ALWAYS, 0, 1, "token embedding as it enters the stream")  \
    X(POS_EMBED, "hook_pos_embed", "pos_embed", "pos_embed.hook_out", EMBED, POSITIONS, 0, 1,                          \
      "learned position embedding")                                                                                    \
    X(TYPE_EMBED, "hook_token_type_embed", "token_type_embed", "token_type_embed.hook_out", EMBED, TYPES, 0, 1,        \
      "embedding of token type 0, which every token has")                                                              \
    X(FULL_EMBED, "hook_full_embed", "full_embed", NULL, MODEL, FULL_EMBED, 0, 1,                                      \
      "what enters block 0: the sum of embeddings, normalised")                                                        \
    X(RESID_PRE, "hook_resid_pre", "resid_pre", "hook_in", MODEL, ALWAYS, 1, 1, "residual stream entering the block")  \
    X(LN1_SCALE, "ln1.hook_scale", "scale_ln1", NULL, SCALE, LN1, 1, 1,                                                \
      "divisor of the norm before attention: sqrt(variance + eps), RMS: sqrt(mean square + eps)")                      \
    X(LN1_NORMALIZED, "ln1.hook_normalized", "normalized_ln1", NULL, MODEL, LN1, 1, 1,                                 \
      "x / scale, before gain and bias")                                                                               \
    X(LN1_OUT, "ln1.hook_out", "ln1_out", NULL, MODEL, LN1, 1, 1, "what q, k and v read: after gain and bias")         \
    X(Q, "attn.hook_q", "q", "attn.q.hook_out", QUERY, ALWAYS, 1, 1,                                                   \
      "queries: projection plus bias, before norm and rotary")                                                         \
    X(K, "attn.hook_k", "k", "attn.k.hook_out", KEY, ALWAYS, 1, 1,                                                     \
      "keys: projection plus bias, before norm and rotary")                                                            \
    X(V, "attn.hook_v", "v", "attn.v.hook_out", KEY, ALWAYS, 1, 1, "values: projection plus bias")                     \
    X(ROT_Q, "attn.hook_rot_q", "rot_q", NULL, QUERY, ROTARY, 1, 1,                                                    \
      "queries after norm and rotary, all d_head dimensions")                                                          \
    X(ROT_K, "attn.hook_rot_k", "rot_k", NULL, KEY, ROTARY, 1, 1, "keys after norm and rotary, all d_head dimensions") \
    X(SCORES, "attn.hook_attn_scores", "attn_scores", NULL, EDGES, ALWAYS, 1, 1,                                       \
      "q.k / sqrt(d_head), capped, with position bias; masked edges -inf")                                             \
    X(PATTERN, "attn.hook_pattern", "pattern", NULL, EDGES, ALWAYS, 1, 1, "softmax of the scores over the keys")       \
    X(Z, "attn.hook_z", "z", "attn.o.hook_in", QUERY, ALWAYS, 1, 1, "mix of values per head, before W_O")              \
    X(RESULT, "attn.hook_result", "result", NULL, RESULT, ALWAYS, 1, 1, "z W_O per head, without the output bias")     \
    X(ATTN_RAW, "attn.hook_out", "attn_raw", NULL, MODEL, SUBLAYER_NORMS, 1, 1,                                        \
      "what attention returns, before it is normalised")                                                               \
    X(LN1_POST_SCALE, "ln1_post.hook_scale", "scale_ln1_post", NULL, SCALE, SUBLAYER_NORMS, 1, 1,                      \
      "divisor of the norm after attention")                                                                           \
    X(LN1_POST_NORMALIZED, "ln1_post.hook_normalized", "normalized_ln1_post", NULL, MODEL, SUBLAYER_NORMS, 1, 1,       \
      "x / scale, before gain and bias")                                                                               \
    X(ATTN_OUT, "hook_attn_out", "attn_out", "attn.hook_out", MODEL, ALWAYS, 1, 1,                                     \
      "what attention adds to the stream")                                                                             \
    X(RESID_MID, "hook_resid_mid", "resid_mid", "ln2.hook_in", MODEL, SEQUENTIAL, 1, 1,                                \
      "residual stream between attention and MLP")                                                                     \
    X(POST_LN1_SCALE, "ln1.hook_scale", "scale_ln1", NULL, SCALE, POST_NORM, 1, 1,                                     \
      "divisor of the norm after attention: sqrt(variance + eps)")                                                     \
    X(POST_LN1_NORMALIZED, "ln1.hook_normalized", "normalized_ln1", NULL, MODEL, POST_NORM, 1, 1,                      \
      "x / scale, before gain and bias")                                                                               \
    X(POST_LN1_OUT, "ln1.hook_out", "ln1_out", NULL, MODEL, POST_NORM, 1, 1,                                           \
      "what the MLP reads and is added to: after gain and bias")                                                       \
    X(LN2_SCALE, "ln2.hook_scale", "scale_ln2", NULL, SCALE, LN2, 1, 1, "divisor of the norm before the MLP")          \
    X(LN2_NORMALIZED, "ln2.hook_normalized", "normalized_ln2", NULL, MODEL, LN2, 1, 1,                                 \
      "x / scale, before gain and bias")                                                                               \
    X(LN2_OUT, "ln2.hook_out", "ln2_out", NULL, MODEL, LN2, 1, 1, "what the MLP reads: after gain and bias")           \
    X(ROUTER_LOGITS, "mlp.hook_router_logits", "router_logits", NULL, EXPERTS, EXPERTS, 1, 1,                          \
      "the router's scores of the experts")                                                                            \
    X(EXPERT_WEIGHTS, "mlp.hook_expert_weights", "expert_weights", NULL, EXPERTS, EXPERTS, 1, 1,                       \
      "softmax of them over all experts; the largest are used")                                                        \
    X(MLP_PRE, "mlp.hook_pre", "pre", "mlp.in.hook_out", NEURONS, DENSE, 1, 1,                                         \
      "neurons before the activation (gated: the gate)")                                                               \
    X(MLP_PRE_LINEAR, "mlp.hook_pre_linear", "pre_linear", NULL, NEURONS, GATED, 1, 1, "gated MLP: the up branch")     \
    X(MLP_POST, "mlp.hook_post", "post", "mlp.out.hook_in", NEURONS, DENSE, 1, 1,                                      \
      "neurons after the activation (gated: the product), before W_out")                                               \
    X(EXPERT_RESULT, "mlp.hook_expert_result", "expert_result", NULL, EXPERT_RESULT, EXPERTS, 1, 1,                    \
      "what each expert adds to the MLP's output: 0 where it is not used")                                             \
    X(MLP_RAW, "mlp.hook_out", "mlp_raw", NULL, MODEL, SUBLAYER_NORMS, 1, 1,                                           \
      "what the MLP returns, before it is normalised")                                                                 \
    X(LN2_POST_SCALE, "ln2_post.hook_scale", "scale_ln2_post", NULL, SCALE, SUBLAYER_NORMS, 1, 1,                      \
      "divisor of the norm after the MLP")                                                                             \
    X(LN2_POST_NORMALIZED, "ln2_post.hook_normalized", "normalized_ln2_post", NULL, MODEL, SUBLAYER_NORMS, 1, 1,       \
      "x / scale, before gain and bias")                                                                               \
    X(MLP_OUT, "hook_mlp_out", "mlp_out", "mlp.hook_out", MODEL, ALWAYS, 1, 1, "what the MLP adds to the stream")      \
    X(RESID_POST, "hook_resid_post", "resid_post", "hook_out", MODEL, ALWAYS, 1, 1,                                    \
      "residual stream leaving the block; post-norm: before its last norm")                                            \
    X(POST_LN2_SCALE, "ln2.hook_scale", "scale_ln2", NULL, SCALE, POST_NORM, 1, 1,                                     \
      "divisor of the norm after the MLP")                                                                             \
    X(POST_LN2_NORMALIZED, "ln2.hook_normalized", "normalized_ln2", NULL, MODEL, POST_NORM, 1, 1,                      \
      "x / scale, before gain and bias")                                                                               \
    X(NORMALIZED_RESID_POST, "hook_normalized_resid_post", "normalized_resid_post", "ln2.hook_out", MODEL, POST_NORM,  \
      1, 1, "what leaves the block: its last norm's output")                                                           \
    X(LN_FINAL_SCALE, "ln_final.hook_scale", "scale", NULL, SCALE, FINAL_NORM, 0, 1, "divisor of the final norm")      \
    X(LN_FINAL_NORMALIZED, "ln_final.hook_normalized", "normalized", NULL, MODEL, FINAL_NORM, 0, 1,                    \
      "x / scale, before gain and bias")                                                                               \
    X(LN_FINAL_OUT, "ln_final.hook_out", "ln_final_out", "unembed.hook_in", MODEL, FINAL_NORM, 0, 1,                   \
      "the final norm's output: what the unembedding reads")                                                           \
    X(MLM_SCALE, "mlm_head.ln.hook_scale", "scale_mlm", NULL, SCALE, HEAD_TRANSFORM, 0, 1,                             \
      "divisor of the masked-LM head's norm")                                                                          \
    X(MLM_NORMALIZED, "mlm_head.ln.hook_normalized", "normalized_mlm", NULL, EMBED, HEAD_TRANSFORM, 0, 1,              \
      "x / scale, before gain and bias")                                                                               \
    X(MLM_OUT, "mlm_head.ln.hook_out", "mlm_out", NULL, EMBED, HEAD_TRANSFORM, 0, 1,                                   \
      "what the unembedding reads: after gain and bias")                                                               \
    X(LOGITS, "logits", "logits", "unembed.hook_out", VOCAB, UNEMBEDDING, 0, 1, "scores of the whole vocabulary")

enum site {
#define X(id, ...) SITE_##id,
    SITES(X)
#undef X
        N_SITES
};

enum { SITE_NAME_MAX = 64 };

struct site_ref {
    enum site site;
    size_t layer; /* 0 for sites outside blocks */
};

struct site_row {
    const char *name, *short_name, *bridge_name, *axes_text, *meaning;
    enum site_axes axes;
    enum site_condition condition;
    bool per_layer, editable;
};
const struct site_row *site_row(enum site site);

/* NULL when the site exists in such a model, else the reason why it does not. */
const char *site_missing(enum site site, const struct model_config *config);
/* What leaves a block and enters the next one or the head: resid_post, of post-norm blocks its norm's output. */
enum site site_leaving_block(const struct model_config *config);
/*
 * Whether a list of sites shows this row: not where it is missing and its name means another site of the model.
 * config NULL: the first row of each name.
 */
bool site_listed(enum site site, const struct model_config *config);
/* Writes "blocks.3.attn.hook_z" to name[SITE_NAME_MAX] and returns it. */
char *site_name(struct site_ref ref, char *name);
/*
 * TransformerLens's bridge name in such a model, NULL where there is none. A gated MLP's branches are named after
 * its matrices: mlp.gate.hook_out is mlp.hook_pre, mlp.in.hook_out mlp.hook_pre_linear. config NULL: as the table.
 */
const char *site_bridge_name(enum site site, const struct model_config *config);
/*
 * One whole site: a full name, a bridge name, or a short form with its layer (`z:3`, TransformerLens's `k6`,
 * `scale4ln1`). An unknown one fails with near matches, a missing one with the reason.
 */
int site_parse(const char *name, const struct model_config *config, struct site_ref *out, struct err *err);
/*
 * Dims of one row ([n_heads, d_head] for hook_z); the number of dims, 1 or 2.
 * For EDGES sites the row is one query of one head and depends on the prompt: returns 0.
 */
int site_shape(enum site site, const struct model_config *config, size_t dims[2]);
/* Product of site_shape's dims; n_heads for EDGES (times T*T per prompt). */
size_t site_row_size(enum site site, const struct model_config *config);

/* Heads, KV heads or neurons of a site: how many, and *what one is called; 0 and NULL where it has no such axis. */
size_t site_units(enum site site, const struct model_config *config, const char **what);

/* One site in a range of layers. */
struct site_span {
    enum site site;
    size_t first_layer, last_layer; /* both included; 0, 0 for sites outside blocks */
    size_t unit;                    /* L3H7 (hook_z), L7N120 (mlp.hook_post): that head or neuron; else SIZE_MAX */
};
/*
 * As site_parse, also with many layers: `blocks.0-5.hook_mlp_out`, `blocks.*.hook_mlp_out`, `mlp_out:0-5`, `mlp_out`
 * (all), and with one unit. Filters and edits read their names with it.
 */
int site_span_parse(const char *name, size_t len, const struct model_config *config, struct site_span *out,
                    struct err *err);

/*
 * A set of sites: filter over names. Comma-separated globs (`*` matches dots
 * too, `?` one character; `blocks.0-5.*`), what site_span_parse takes (`resid_post:7`,
 * `z:3-5`, `z`), `L3H7` (hook_z of that layer, one head). A glob is over full names; where it matches none, over bridge
 * names, then over short ones (`resid_*`). It takes the sites that exist; one that matches only missing sites fails
 * with the reason. A filter that matches nothing is an error with near matches; what stood before it in the list has
 * been added.
 *
 *     struct site_set set;
 *     int rc = site_set_init(&set, &m->config, &err) || site_set_add(&set, "blocks.*.hook_resid_post,z:3-5", &err);
 *     site_set_release(&set);
 */
struct site_set {
    const struct model_config *config;
    unsigned char *chosen; /* [N_SITES * n_layers] */
    unsigned char *heads;  /* [n_layers * n_heads] of hook_z, chosen one by one with LxHy; a layer of 0s = all heads */
};
int site_set_init(struct site_set *set, const struct model_config *config, struct err *err);
int site_set_add(struct site_set *set, const char *filter, struct err *err);
void site_set_add_one(struct site_set *set, struct site_ref ref);
bool site_set_has(const struct site_set *set, enum site site, size_t layer);
/* Whether this head of hook_z was asked for, by itself or with the whole site. */
bool site_set_has_head(const struct site_set *set, size_t layer, size_t head);
size_t site_set_count(const struct site_set *set);
/* Walks the set in forward order: start with *cursor = 0; false at the end. */
bool site_set_next(const struct site_set *set, size_t *cursor, struct site_ref *out);
void site_set_release(struct site_set *set);

#endif
