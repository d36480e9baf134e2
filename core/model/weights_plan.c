/*
 * Which tensor of the files becomes which weight. Every shape is checked against the config here; weights_load only
 * widens what this has planned.
 */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct binder {
    struct model *m;
    const struct arch *arch;
    const struct tensor_set *set;
    char prefix[TENSOR_NAME_MAX]; /* Hugging Face: one of the row's, or "" for a base model */
    bool gguf;
    bool *used;           /* [set->n] */
    size_t layer, expert; /* that are being bound; NO_LAYER outside the blocks */
    struct err *err;
};

static const struct row_order as_they_are = { .kind = ROWS_AS_THEY_ARE };

/* --- names --- */

static const char *spellings_of(const struct binder *b, enum role role)
{
    const char *text = b->gguf ? role_gguf_name(b->arch, role) : b->arch->names[role];
    return text ? text : "";
}

/* Files of BERT's time call a norm's gain and bias gamma and beta. */
static const struct tensor *find_name(const struct binder *b, char name[TENSOR_NAME_MAX], enum role role,
                                      const char *suffix)
{
    const struct tensor *t = tensor_set_find(b->set, name);
    const char *old = !strcmp(suffix, ".weight") ? ".gamma" : !strcmp(suffix, ".bias") ? ".beta" : NULL;
    size_t stem = strlen(name) - strlen(suffix);
    if (t || !old || b->gguf || !((ROLES_NORMS >> role) & 1) || stem + strlen(old) >= TENSOR_NAME_MAX)
        return t;
    snprintf(name + stem, TENSOR_NAME_MAX - stem, "%s", old);
    return tensor_set_find(b->set, name);
}

/* The tensor of a role; with `tried` not NULL, the first name that was tried. */
static const struct tensor *look(const struct binder *b, enum role role, const char *suffix, char *tried)
{
    const char *cursor = spellings_of(b, role), *prefix = b->gguf ? "" : b->prefix;
    char spelling[TENSOR_NAME_MAX], name[TENSOR_NAME_MAX];
    size_t layer = b->layer == NO_LAYER ? 0 : b->layer, groups = b->m->storage->layer_groups;
    if (groups)
        layer = layer * groups / b->m->config.n_layers;
    for (size_t i = 0; next_spelling(&cursor, spelling); i++) {
        bool head = role >= FIRST_HEAD_ROLE;
        tensor_name(name, head ? "" : prefix, spelling, layer, b->expert, suffix);
        if (!i && tried)
            snprintf(tried, TENSOR_NAME_MAX, "%s", name);
        const struct tensor *t = find_name(b, name, role, suffix);
        if (!t && head && *prefix) {
            tensor_name(name, prefix, spelling, layer, b->expert, suffix);
            t = find_name(b, name, role, suffix);
        }
        if (t)
            return t;
    }
    return NULL;
}

static const struct tensor *find(const struct binder *b, enum role role, const char *suffix)
{
    return look(b, role, suffix, NULL);
}

static int missing(const struct binder *b, enum role role, const char *suffix)
{
    char name[TENSOR_NAME_MAX] = "";
    look(b, role, suffix, name);
    return err_set(b->err, ERR_FORMAT, "%s: tensor \"%s\" is missing", b->m->path, name);
}

/* --- shapes --- */

static void add_shape(char *text, size_t size, int n_dims, const size_t *dims)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < n_dims && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%zu", i ? ", " : "", dims[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

static int check(const struct binder *b, const struct tensor *t, int n_dims, const size_t *dims)
{
    if (t->n_dims != n_dims || memcmp(t->dims, dims, (size_t)n_dims * sizeof *dims)) {
        char is[96], should[96];
        add_shape(is, sizeof is, t->n_dims, t->dims);
        add_shape(should, sizeof should, n_dims, dims);
        return err_set(b->err, ERR_SHAPE, "%s: tensor \"%s\" has shape %s, its config asks for %s", b->m->path, t->name,
                       is, should);
    }
    switch (t->dtype) {
    case DTYPE_I64:
    case DTYPE_I32:
    case DTYPE_I16:
    case DTYPE_I8:
    case DTYPE_U8:
    case DTYPE_BOOL:
        return err_set(b->err, ERR_UNSUPPORTED, "%s: tensor \"%s\" is %s: whole numbers are no weights", b->m->path,
                       t->name, dtype_name(t->dtype));
    default:
        return 0;
    }
}

/* --- loads --- */

static int add_part(struct binder *b, const struct tensor *t, size_t first, size_t n, size_t rows,
                    struct row_order order, float plus)
{
    struct model_storage *s = b->m->storage;
    if (!mem_grow(&s->loads, &s->loads_capacity, s->n_loads + 1, sizeof *s->loads))
        return err_nomem(b->err, "the list of weights");
    s->loads[s->n_loads] = (struct load){ .tensor = t,
                                          .first = first,
                                          .n = n,
                                          .rows = rows,
                                          .order = order,
                                          .plus = plus,
                                          .layer = b->layer,
                                          .number = s->n_loads,
                                          .first_dest = s->n_dests };
    s->n_loads++;
    if (!b->used[t - b->set->tensors] || first)
        b->m->n_parameters += n;
    b->used[t - b->set->tensors] = true;
    return 0;
}

static int add_load(struct binder *b, const struct tensor *t, struct row_order order, float plus)
{
    return add_part(b, t, 0, t->n, t->n_dims > 1 || order.kind ? t->dims[0] : 1, order, plus);
}

/* *to will be the newest load's numbers from `offset` on. */
static int add_dest(struct binder *b, const float **to, size_t offset)
{
    struct model_storage *s = b->m->storage;
    if (!mem_grow(&s->dests, &s->dests_capacity, s->n_dests + 1, sizeof *s->dests))
        return err_nomem(b->err, "the list of weights");
    s->dests[s->n_dests++] = (struct load_dest){ to, offset };
    s->loads[s->n_loads - 1].n_dests++;
    return 0;
}

static int bind_vector(struct binder *b, enum role role, const char *suffix, size_t n, struct row_order order,
                       const float **to)
{
    const struct tensor *t = find(b, role, suffix);
    if (!t)
        return missing(b, role, suffix);
    int rc = check(b, t, 1, &n);
    if (!rc && order.kind && dtype_block_elements(t->dtype) > 1)
        rc = err_set(b->err, ERR_UNSUPPORTED, "%s: tensor \"%s\" is %s: a bias in blocks is not supported", b->m->path,
                     t->name, dtype_name(t->dtype));
    rc = rc ? rc : add_load(b, t, order, 0);
    return rc ? rc : add_dest(b, to, 0);
}

/* Whether the role must have a bias, or may and has. */
static bool has_bias(const struct binder *b, enum role role)
{
    const struct model_storage *s = b->m->storage;
    uint64_t bit = (uint64_t)1 << role;
    return (s->biased & bit) || ((s->maybe_biased & bit) && find(b, role, ".bias"));
}

/* Whether every head has a tensor of its own: a second '*' of the name (StableLM's q and k norms). */
static bool one_a_head(const struct binder *b, enum role role)
{
    char spelling[TENSOR_NAME_MAX];
    const char *cursor = spellings_of(b, role), *star;
    return next_spelling(&cursor, spelling) && (star = strchr(spelling, '*')) && strchr(star + 1, '*');
}

static int bind_gains_of_heads(struct binder *b, enum role role, size_t heads, size_t width, const float **to)
{
    int rc = 0;
    for (b->expert = 0; !rc && b->expert < heads; b->expert++) {
        const struct tensor *t = find(b, role, ".weight");
        rc = t ? check(b, t, 1, &width) : missing(b, role, ".weight");
        rc = rc ? rc : add_load(b, t, as_they_are, 0);
        if (!rc)
            b->m->storage->loads[b->m->storage->n_loads - 1].place = b->expert ? LOAD_NEXT : LOAD_FIRST;
        rc = rc || b->expert ? rc : add_dest(b, to, 0);
    }
    b->expert = 0;
    return rc;
}

/* Gain and bias as wide as `width`, or as a matrix [heads, width / heads]. */
static int bind_gain(struct binder *b, enum role role, size_t heads, size_t width, struct norm_weights *norm)
{
    const struct tensor *t = find(b, role, ".weight");
    if (b->arch->no_gains)
        return 0;
    if (one_a_head(b, role))
        return bind_gains_of_heads(b, role, heads, width / heads, &norm->gain);
    if (!t)
        return missing(b, role, ".weight");
    bool rows = heads > 1 || t->n_dims == 2; /* also of a single key head */
    int rc = rows ? check(b, t, 2, (size_t[]){ heads, width / heads }) : check(b, t, 1, &width);
    rc = rc ? rc : add_load(b, t, as_they_are, b->arch->gains_less_one && !b->gguf ? 1 : 0);
    rc = rc ? rc : add_dest(b, &norm->gain, 0);
    return rc || !has_bias(b, role) ? rc : bind_vector(b, role, ".bias", width, as_they_are, &norm->bias);
}

static int bind_norm(struct binder *b, bool there, enum role role, struct norm_weights *norm)
{
    return there ? bind_gain(b, role, 1, b->m->config.d_model, norm) : 0;
}

static bool in_blocks(const struct binder *b)
{
    return b->layer != NO_LAYER;
}

/* The tensor of a matrix as the next load, w its geometry; where its numbers go is still to be said. */
static int begin_matrix(struct binder *b, enum role role, size_t n_out, size_t n_in, struct row_order order,
                        struct matrix *w)
{
    const struct tensor *t = find(b, role, ".weight");
    if (!t)
        return missing(b, role, ".weight");
    bool in_major = b->arch->in_major && !b->gguf && in_blocks(b);
    int rc = check(b, t, 2, in_major ? (size_t[]){ n_in, n_out } : (size_t[]){ n_out, n_in });
    if (rc)
        return rc;
    *w = (struct matrix){ .n_out = n_out, .n_in = n_in, .stride = in_major ? n_out : n_in, .in_major = in_major };
    return add_load(b, t, order, 0);
}

static int bind_matrix(struct binder *b, enum role role, size_t n_out, size_t n_in, struct row_order order,
                       struct matrix *w, const float **bias)
{
    int rc = begin_matrix(b, role, n_out, n_in, order, w);
    rc = rc ? rc : add_dest(b, &w->data, 0);
    return rc || !has_bias(b, role) ? rc : bind_vector(b, role, ".bias", n_out, order, bias);
}

/* Parts of one tensor, one after another in its outputs; each becomes a view of it. */
struct view {
    struct matrix *w;
    const float **bias;
    size_t n_out;
};

static int bind_views(struct binder *b, enum role role, const struct view *views, size_t n, size_t n_in,
                      struct row_order order)
{
    struct matrix whole;
    size_t n_out = 0, first = 0;
    for (size_t i = 0; i < n; i++)
        n_out += views[i].n_out;
    int rc = begin_matrix(b, role, n_out, n_in, order, &whole);
    for (size_t i = 0; !rc && i < n; first += views[i++].n_out) {
        *views[i].w = whole;
        views[i].w->n_out = views[i].n_out;
        rc = add_dest(b, &views[i].w->data, whole.in_major ? first : first * whole.stride);
    }
    if (rc || !has_bias(b, role))
        return rc;
    rc = bind_vector(b, role, ".bias", n_out, order, views[0].bias);
    first = views[0].n_out;
    for (size_t i = 1; !rc && i < n; first += views[i++].n_out)
        rc = add_dest(b, views[i].bias, first);
    return rc;
}

/* --- blocks --- */

static int bind_qkv(struct binder *b, struct layer *w)
{
    const struct model_config *c = &b->m->config;
    size_t n_q = c->n_heads * c->d_head, n_kv = c->n_kv_heads * c->d_head, d = c->d_model;
    bool fused = b->gguf ? find(b, ROLE_QKV, ".weight") != NULL : b->arch->names[ROLE_QKV] != NULL;
    if (fused) {
        struct row_order order = as_they_are;
        if (b->arch->qkv == QKV_GROUPED && !b->gguf)
            order = (struct row_order){ ROWS_GROUPED, c->n_kv_heads, c->n_heads / c->n_kv_heads, c->d_head };
        const struct view views[] = { { &w->q, &w->q_bias, n_q },
                                      { &w->k, &w->k_bias, n_kv },
                                      { &w->v, &w->v_bias, n_kv } };
        return bind_views(b, ROLE_QKV, views, 3, d, order);
    }
    bool pairs = b->gguf && b->arch->gguf_pairs;
    struct row_order q = { pairs ? ROWS_PAIRED : ROWS_AS_THEY_ARE, c->n_heads, 0, 0 }, k = q;
    k.groups = c->n_kv_heads;
    int rc = bind_matrix(b, ROLE_Q, n_q, d, q, &w->q, &w->q_bias);
    rc = rc ? rc : bind_matrix(b, ROLE_K, n_kv, d, k, &w->k, &w->k_bias);
    return rc ? rc : bind_matrix(b, ROLE_V, n_kv, d, as_they_are, &w->v, &w->v_bias);
}

static int bind_attention(struct binder *b, struct layer *w)
{
    const struct model_config *c = &b->m->config;
    size_t n_q = c->n_heads * c->d_head, n_kv = c->n_kv_heads * c->d_head;
    int rc = bind_qkv(b, w);
    if (!rc && c->qk_norm) {
        bool shared = c->qk_gain_shared, by_head = b->arch->qk_gains_by_head;
        rc = bind_gain(b, ROLE_Q_NORM, by_head ? c->n_heads : 1, shared ? c->d_head : n_q, &w->q_norm);
        rc = rc ? rc : bind_gain(b, ROLE_K_NORM, by_head ? c->n_kv_heads : 1, shared ? c->d_head : n_kv, &w->k_norm);
    }
    if (!rc && c->position == POSITION_RELATIVE && !c->relative.shared) {
        if (c->relative.from_position)
            rc = bind_matrix(b, ROLE_POSITION_Q, n_q, c->d_model, as_they_are, &w->position_q, &w->position_q_bias);
        if (!rc && c->relative.to_position)
            rc = bind_matrix(b, ROLE_POSITION_K, n_kv, c->d_model, as_they_are, &w->position_k, &w->position_k_bias);
    }
    return rc ? rc : bind_matrix(b, ROLE_O, c->d_model, n_q, as_they_are, &w->o, &w->o_bias);
}

static int bind_table(struct binder *b, enum role role, size_t rows, size_t width, const float **to)
{
    const struct tensor *t = find(b, role, ".weight");
    if (!t)
        return missing(b, role, ".weight");
    bool vector = rows == 1 && t->n_dims == 1; /* as llama.cpp writes a single row */
    int rc = vector ? check(b, t, 1, &width) : check(b, t, 2, (size_t[]){ rows, width });
    rc = rc ? rc : add_load(b, t, as_they_are, 0);
    return rc ? rc : add_dest(b, to, 0);
}

/* gate (where MLPs have one), up and down of one MLP as wide as `width`. */
static int bind_mlp(struct binder *b, enum role gate, enum role up, enum role down, size_t width, struct mlp_weights *w)
{
    size_t d = b->m->config.d_model;
    int rc = b->m->config.gated_mlp ? bind_matrix(b, gate, width, d, as_they_are, &w->gate, &w->gate_bias) : 0;
    rc = rc ? rc : bind_matrix(b, up, width, d, as_they_are, &w->up, &w->up_bias);
    return rc ? rc : bind_matrix(b, down, d, width, as_they_are, &w->down, &w->down_bias);
}

static int bind_dense(struct binder *b, struct mlp_weights *w)
{
    const struct model_config *c = &b->m->config;
    bool fused = c->gated_mlp && b->arch->names[ROLE_GATE_UP];
    if (!fused)
        return bind_mlp(b, ROLE_GATE, ROLE_UP, ROLE_DOWN, c->d_mlp, w);
    const struct view views[] = { { &w->gate, &w->gate_bias, c->d_mlp }, { &w->up, &w->up_bias, c->d_mlp } };
    int rc = bind_views(b, b->gguf ? ROLE_UP : ROLE_GATE_UP, views, 2, c->d_model, as_they_are);
    return rc ? rc : bind_matrix(b, ROLE_DOWN, c->d_model, c->d_mlp, as_they_are, &w->down, &w->down_bias);
}

/* Names in safetensors end without ".weight" (they are parameters of their own), those in GGUF with it. */
static const struct tensor *find_stacked(const struct binder *b, enum role role)
{
    const struct tensor *t = find(b, role, "");
    return t ? t : find(b, role, ".weight");
}

/* This expert's part of a tensor of all experts, [n_experts, n_parts * n_out, n_in]. */
static int bind_stacked(struct binder *b, enum role role, struct matrix *const *parts, size_t n_parts, size_t n_out,
                        size_t n_in)
{
    const struct tensor *t = find_stacked(b, role);
    if (!t)
        return missing(b, role, ".weight");
    size_t all = n_parts * n_out * n_in;
    int rc = check(b, t, 3, (size_t[]){ b->m->config.n_experts, n_parts * n_out, n_in });
    rc = rc ? rc : add_part(b, t, b->expert * all, all, n_parts * n_out, as_they_are, 0);
    for (size_t i = 0; !rc && i < n_parts; i++) {
        *parts[i] = (struct matrix){ .n_out = n_out, .n_in = n_in, .stride = n_in };
        rc = add_dest(b, &parts[i]->data, i * n_out * n_in);
    }
    return rc;
}

static int bind_expert(struct binder *b, struct mlp_weights *w)
{
    const struct model_config *c = &b->m->config;
    if (find(b, ROLE_EXPERT_UP, ".weight"))
        return bind_mlp(b, ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN, c->d_mlp, w);
    struct matrix *const gate_up[] = { &w->gate, &w->up }, *const down[] = { &w->down };
    int rc;
    if (find_stacked(b, ROLE_STACKED_GATE_UP))
        rc = bind_stacked(b, ROLE_STACKED_GATE_UP, gate_up, 2, c->d_mlp, c->d_model);
    else if (find(b, ROLE_STACKED_UP, ".weight")) {
        rc = bind_stacked(b, ROLE_STACKED_GATE, gate_up, 1, c->d_mlp, c->d_model);
        rc = rc ? rc : bind_stacked(b, ROLE_STACKED_UP, gate_up + 1, 1, c->d_mlp, c->d_model);
    } else
        return missing(b, ROLE_EXPERT_UP, ".weight");
    return rc ? rc : bind_stacked(b, ROLE_STACKED_DOWN, down, 1, c->d_model, c->d_mlp);
}

static int bind_experts(struct binder *b, struct layer *w)
{
    struct model_config *c = &b->m->config;
    w->experts = b->m->storage->experts + b->layer * c->n_experts;
    int rc = bind_matrix(b, ROLE_ROUTER, c->n_experts, c->d_model, as_they_are, &w->router, NULL);
    for (b->expert = 0; !rc && b->expert < c->n_experts; b->expert++)
        rc = bind_expert(b, &w->experts[b->expert]);
    b->expert = 0;
    if (rc || !c->d_shared)
        return rc;
    rc = bind_mlp(b, ROLE_SHARED_GATE, ROLE_SHARED_UP, ROLE_SHARED_DOWN, c->d_shared, &w->mlp);
    w->shared_gate = (struct matrix){ .n_out = 1, .n_in = c->d_model, .stride = c->d_model };
    return rc ? rc : bind_table(b, ROLE_SHARED_SHARE, 1, c->d_model, &w->shared_gate.data);
}

static int bind_layer(struct binder *b, struct layer *w)
{
    const struct model_config *c = &b->m->config;
    int rc = bind_norm(b, c->ln1 && !w->ln1.identity, ROLE_LN1, &w->ln1);
    rc = rc ? rc : bind_attention(b, w);
    rc = rc ? rc : bind_norm(b, c->sublayer_norms, ROLE_LN1_POST, &w->ln1_post);
    rc = rc ? rc : bind_norm(b, c->ln2, ROLE_LN2, &w->ln2);
    rc = rc ? rc : c->n_experts ? bind_experts(b, w) : bind_dense(b, &w->mlp);
    return rc ? rc : bind_norm(b, c->sublayer_norms, ROLE_LN2_POST, &w->ln2_post);
}

/* --- embedding and head --- */

static bool same_bytes(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes);
}

/*
 * Embedding and unembedding. GGUF has no key for tying: a missing or equal output tensor is tied. With config.json,
 * a second copy must be equal, since versions of transformers disagree about which of two different ones counts.
 */
static int bind_vocabulary(struct binder *b)
{
    struct model *m = b->m;
    struct model_config *c = &m->config;
    int rc = bind_table(b, ROLE_EMBED, c->d_vocab, c->d_embed, &m->embed);
    if (rc || !c->unembedding)
        return rc;
    const struct tensor *copy = find(b, ROLE_UNEMBED, ".weight");
    m->unembed = (struct matrix){ .n_out = c->d_vocab, .n_in = c->d_embed, .stride = c->d_embed };
    const struct tensor *embed = find(b, ROLE_EMBED, ".weight");
    bool same = copy && embed && same_bytes(copy, embed);
    if (b->gguf)
        c->tied = !copy || same;
    else if (!c->tied && !copy)
        return err_set(b->err, ERR_FORMAT,
                       "%s: tensor \"%s.weight\" is missing and tie_word_embeddings is false: was the model saved "
                       "without its language-model head?",
                       m->path, spellings_of(b, ROLE_UNEMBED));
    else if (c->tied && copy && !same)
        return err_set(b->err, ERR_FORMAT,
                       "%s: tie_word_embeddings is true, but tensor \"%s\" differs from the embedding", m->path,
                       copy->name);
    if (!c->tied)
        return bind_table(b, ROLE_UNEMBED, c->d_vocab, c->d_embed, &m->unembed.data);
    if (copy)
        b->used[copy - b->set->tensors] = true;
    return add_dest(b, &m->unembed.data, 0);
}

static int bind_embedding(struct binder *b)
{
    struct model *m = b->m;
    struct model_config *c = &m->config;
    size_t width = model_embed_width(c);
    int rc = bind_vocabulary(b);
    if (!rc && c->position == POSITION_LEARNED)
        rc = bind_table(b, ROLE_POSITIONS, c->n_ctx + c->position_offset, width, &m->pos_embed);
    if (!rc && c->position == POSITION_RELATIVE)
        rc = bind_table(b, ROLE_RELATIVE, 2 * c->relative.span, c->d_model, &m->relative);
    if (!rc && c->position == POSITION_RELATIVE && c->relative.normalised)
        rc = bind_gain(b, ROLE_RELATIVE_NORM, 1, c->d_model, &m->relative_norm);
    if (!rc && c->n_token_types)
        rc = bind_table(b, ROLE_TYPES, c->n_token_types, width, &m->type_embed);
    if (!rc && c->embed_norm)
        rc = bind_gain(b, ROLE_EMBED_NORM, 1, width, &m->embed_norm);
    if (!rc && (c->d_embed != c->d_model || find(b, ROLE_PROJECT_IN, ".weight")))
        rc = bind_matrix(b, ROLE_PROJECT_IN, c->d_model, c->d_embed, as_they_are, &m->project_in, &m->project_in_bias);
    return rc;
}

/*
 * The unembedding's bias where it is a tensor of its own. Files may hold it under two names: one bias where the
 * unembedding is tied; else the first counts (transformers).
 */
static int bind_vocabulary_bias(struct binder *b)
{
    const struct tensor *first = find(b, ROLE_UNEMBED_BIAS, ""), *again;
    const char *cursor = spellings_of(b, ROLE_UNEMBED_BIAS);
    char name[TENSOR_NAME_MAX];
    while (next_spelling(&cursor, name)) {
        if (!(again = tensor_set_find(b->set, name)))
            continue;
        if (b->m->config.tied && !same_bytes(first, again))
            return err_set(b->err, ERR_FORMAT, "%s: tensors \"%s\" and \"%s\" are one bias and differ", b->m->path,
                           first->name, again->name);
        b->used[again - b->set->tensors] = true;
    }
    return bind_vector(b, ROLE_UNEMBED_BIAS, "", b->m->config.d_vocab, as_they_are, &b->m->unembed_bias);
}

static int bind_head(struct binder *b)
{
    struct model *m = b->m;
    struct model_config *c = &m->config;
    int rc = bind_norm(b, c->final_norm, ROLE_LN_FINAL, &m->ln_final);
    if (rc || !c->unembedding)
        return rc;
    if (c->head_transform || c->d_embed != c->d_model)
        rc = bind_matrix(b, ROLE_HEAD_DENSE, c->d_embed, c->d_model, as_they_are, &m->head.dense, &m->head.bias);
    if (!rc && c->head_transform)
        rc = bind_gain(b, ROLE_HEAD_NORM, 1, c->d_embed, &m->head.norm);
    if (!rc && has_bias(b, ROLE_UNEMBED))
        return bind_vector(b, ROLE_UNEMBED, ".bias", c->d_vocab, as_they_are, &m->unembed_bias);
    return rc || !*spellings_of(b, ROLE_UNEMBED_BIAS) ? rc : bind_vocabulary_bias(b);
}

/* --- all of it --- */

static bool ignored(const struct binder *b, const char *name)
{
    if (b->gguf) /* config_from_gguf has read them */
        return b->m->n_ropes &&
               (!strcmp(name, GGUF_ROPE_DIVISORS) || !strcmp(name, GGUF_ROPE_SHORT) || !strcmp(name, GGUF_ROPE_LONG));
    size_t n = strlen(b->prefix);
    for (const char *const *pattern = b->arch->ignored; *pattern; pattern++)
        if (tensor_name_matches(name, *pattern) ||
            (!strncmp(name, b->prefix, n) && tensor_name_matches(name + n, *pattern)))
            return true;
    return false;
}

static int refuse_unused(const struct binder *b)
{
    for (size_t i = 0; i < b->set->n; i++)
        if (!b->used[i] && !ignored(b, b->set->tensors[i].name))
            return err_set(b->err, ERR_UNSUPPORTED,
                           "%s: tensor \"%.200s\" is not part of a %s model with this config: nothing would read it",
                           b->m->path, b->set->tensors[i].name, b->arch->name);
    return 0;
}

/* What the config leaves to the files: a second norm of a parallel block (Falcon), a head (encoders). */
static void read_presence(struct binder *b)
{
    struct model_config *c = &b->m->config;
    b->layer = 0;
    const struct tensor *ln2 = find(b, ROLE_LN2, ".weight");
    if (b->arch->ln2_if_there && c->block == BLOCK_PARALLEL)
        c->ln2 = ln2 && ln2 != find(b, ROLE_LN1, ".weight");
    b->layer = NO_LAYER;
    if (c->head_transform && !find(b, ROLE_HEAD_DENSE, ".weight"))
        c->head_transform = c->unembedding = false;
}

static int bind_all(struct binder *b)
{
    struct model *m = b->m;
    size_t n_experts;
    read_presence(b);
    if (m->config.n_experts) {
        if (size_mul(m->config.n_layers, m->config.n_experts, &n_experts))
            m->storage->experts = mem_zeroed(n_experts, sizeof *m->storage->experts);
        if (!m->storage->experts)
            return err_nomem(b->err, "experts");
    }
    int rc = bind_embedding(b);
    for (b->layer = 0; !rc && b->layer < m->config.n_layers; b->layer++)
        rc = bind_layer(b, &m->layers[b->layer]);
    b->layer = NO_LAYER;
    rc = rc ? rc : bind_head(b);
    return rc ? rc : refuse_unused(b);
}

/* One of the row's prefixes, or none, as the embedding says. */
static void find_prefix(struct binder *b)
{
    char first[TENSOR_NAME_MAX] = "";
    for (const char *cursor = b->arch->prefix; next_spelling(&cursor, b->prefix);) {
        if (!first[0])
            snprintf(first, sizeof first, "%s", b->prefix);
        if (find(b, ROLE_EMBED, ".weight"))
            return;
    }
    b->prefix[0] = '\0';
    if (!find(b, ROLE_EMBED, ".weight"))
        snprintf(b->prefix, sizeof b->prefix, "%s", first); /* so that the message shows the usual name */
}

int weights_plan(struct model *m, struct err *err)
{
    struct binder b = { .m = m, .arch = m->storage->arch, .set = model_tensors(m), .layer = NO_LAYER, .err = err };
    b.gguf = m->storage->gguf != NULL;
    find_prefix(&b);
    b.used = mem_zeroed(b.set->n, sizeof *b.used);
    if (!b.used)
        return err_nomem(err, "the list of weights");
    int rc = bind_all(&b);
    free(b.used);
    return rc;
}
