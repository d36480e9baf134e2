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
    const char *prefix; /* Hugging Face: the row's, or "" for a base model */
    bool gguf;
    bool *used;   /* [set->n] */
    size_t layer; /* that is being bound, or NO_LAYER */
    struct err *err;
};

static void name_of(const struct binder *b, enum role role, size_t layer, const char *suffix, char out[TENSOR_NAME_MAX])
{
    const char *prefix = b->gguf || role == ROLE_UNEMBED ? "" : b->prefix;
    tensor_name(out, prefix, b->gguf ? role_gguf_name(role) : b->arch->names[role], layer, suffix);
}

static const struct tensor *find(const struct binder *b, enum role role, size_t layer, const char *suffix)
{
    char name[TENSOR_NAME_MAX];
    name_of(b, role, layer, suffix, name);
    return tensor_set_find(b->set, name);
}

static int missing(const struct binder *b, enum role role, size_t layer, const char *suffix)
{
    char name[TENSOR_NAME_MAX];
    name_of(b, role, layer, suffix, name);
    return err_set(b->err, ERR_FORMAT, "%s: tensor \"%s\" is missing", b->m->path, name);
}

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

/* *out is the new load, valid until the next one is added. */
static int add_load(struct binder *b, const struct tensor *t, size_t pair_heads, struct load **out)
{
    struct model_storage *s = b->m->storage;
    if (!mem_grow(&s->loads, &s->loads_capacity, s->n_loads + 1, sizeof *s->loads))
        return err_nomem(b->err, "the list of weights");
    *out = &s->loads[s->n_loads++];
    **out = (struct load){ .tensor = t, .pair_heads = pair_heads, .layer = b->layer };
    b->used[t - b->set->tensors] = true;
    b->m->n_parameters += t->n;
    return 0;
}

static int bind_vector(struct binder *b, enum role role, size_t layer, const char *suffix, size_t n, size_t pair_heads,
                       struct load **out)
{
    const struct tensor *t = find(b, role, layer, suffix);
    if (!t)
        return missing(b, role, layer, suffix);
    int rc = check(b, t, 1, &n);
    if (!rc && pair_heads && dtype_block_elements(t->dtype) > 1)
        rc = err_set(b->err, ERR_UNSUPPORTED, "%s: tensor \"%s\" is %s: a bias in blocks is not supported", b->m->path,
                     t->name, dtype_name(t->dtype));
    return rc ? rc : add_load(b, t, pair_heads, out);
}

static int bind_norm(struct binder *b, enum role role, size_t layer, struct norm_weights *norm)
{
    struct load *load;
    size_t d = b->m->config.d_model;
    int rc = bind_vector(b, role, layer, ".weight", d, 0, &load);
    if (rc)
        return rc;
    load->dest[0] = &norm->gain;
    if (b->arch->norm != NORM_LAYER)
        return 0;
    if ((rc = bind_vector(b, role, layer, ".bias", d, 0, &load)))
        return rc;
    load->dest[0] = &norm->bias;
    return 0;
}

/* A bias of the role where it must or may have one. *out stays NULL where there is none. */
static int bind_bias(struct binder *b, enum role role, size_t layer, size_t n, size_t pair_heads, struct load **out)
{
    unsigned bit = 1u << role;
    *out = NULL;
    if (!(b->m->storage->biased & bit) && !((b->m->storage->maybe_biased & bit) && find(b, role, layer, ".bias")))
        return 0;
    return bind_vector(b, role, layer, ".bias", n, pair_heads, out);
}

/* The whole tensor of n_out rows; w gets its geometry. */
static int bind_weight(struct binder *b, enum role role, size_t layer, size_t n_out, size_t n_in, size_t pair_heads,
                       struct matrix *w, struct load **out)
{
    const struct tensor *t = find(b, role, layer, ".weight");
    if (!t)
        return missing(b, role, layer, ".weight");
    bool in_major = b->arch->in_major && !b->gguf;
    int rc = check(b, t, 2, in_major ? (size_t[]){ n_in, n_out } : (size_t[]){ n_out, n_in });
    if (rc)
        return rc;
    *w = (struct matrix){ .n_out = n_out, .n_in = n_in, .stride = in_major ? n_out : n_in, .in_major = in_major };
    return add_load(b, t, pair_heads, out);
}

static int bind_matrix(struct binder *b, enum role role, size_t layer, size_t n_out, size_t n_in, size_t pair_heads,
                       struct matrix *w, const float **bias)
{
    struct load *load;
    int rc = bind_weight(b, role, layer, n_out, n_in, pair_heads, w, &load);
    if (rc)
        return rc;
    load->dest[0] = &w->data;
    if ((rc = bind_bias(b, role, layer, n_out, pair_heads, &load)))
        return rc;
    if (load)
        load->dest[0] = bias;
    return 0;
}

/* One tensor with the outputs of q, then k, then v; each becomes a view of it. */
static int bind_fused(struct binder *b, size_t layer, struct layer *w)
{
    const struct model_config *c = &b->m->config;
    size_t n_q = c->n_heads * c->d_head, n_kv = c->n_kv_heads * c->d_head;
    struct matrix *parts[3] = { &w->q, &w->k, &w->v };
    const float **biases[3] = { &w->q_bias, &w->k_bias, &w->v_bias };
    const size_t first[3] = { 0, n_q, n_q + n_kv }, n[3] = { n_q, n_kv, n_kv };
    struct matrix whole;
    struct load *load;
    int rc = bind_weight(b, ROLE_QKV, layer, n_q + 2 * n_kv, c->d_model, 0, &whole, &load);
    if (rc)
        return rc;
    for (int i = 0; i < 3; i++) {
        *parts[i] = whole;
        parts[i]->n_out = n[i];
        load->dest[i] = &parts[i]->data;
        load->offset[i] = whole.in_major ? first[i] : first[i] * whole.stride;
    }
    if ((rc = bind_bias(b, ROLE_QKV, layer, whole.n_out, 0, &load)))
        return rc;
    for (int i = 0; load && i < 3; i++) {
        load->dest[i] = biases[i];
        load->offset[i] = first[i];
    }
    return 0;
}

static int bind_attention(struct binder *b, size_t layer, struct layer *w)
{
    const struct model_config *c = &b->m->config;
    size_t n_q = c->n_heads * c->d_head, n_kv = c->n_kv_heads * c->d_head, d = c->d_model;
    bool pairs = b->gguf && b->arch->gguf_pairs;
    int rc;
    if (b->arch->names[ROLE_QKV])
        rc = bind_fused(b, layer, w);
    else if (!(rc = bind_matrix(b, ROLE_Q, layer, n_q, d, pairs ? c->n_heads : 0, &w->q, &w->q_bias)) &&
             !(rc = bind_matrix(b, ROLE_K, layer, n_kv, d, pairs ? c->n_kv_heads : 0, &w->k, &w->k_bias)))
        rc = bind_matrix(b, ROLE_V, layer, n_kv, d, 0, &w->v, &w->v_bias);
    return rc ? rc : bind_matrix(b, ROLE_O, layer, d, n_q, 0, &w->o, &w->o_bias);
}

static int bind_layer(struct binder *b, size_t layer)
{
    const struct model_config *c = &b->m->config;
    struct layer *w = &b->m->layers[layer];
    int rc;
    if ((rc = bind_norm(b, ROLE_LN1, layer, &w->ln1)) || (rc = bind_attention(b, layer, w)) ||
        (rc = bind_norm(b, ROLE_LN2, layer, &w->ln2)) ||
        (c->gated_mlp &&
         (rc = bind_matrix(b, ROLE_GATE, layer, c->d_mlp, c->d_model, 0, &w->mlp.gate, &w->mlp.gate_bias))) ||
        (rc = bind_matrix(b, ROLE_UP, layer, c->d_mlp, c->d_model, 0, &w->mlp.up, &w->mlp.up_bias)))
        return rc;
    return bind_matrix(b, ROLE_DOWN, layer, c->d_model, c->d_mlp, 0, &w->mlp.down, &w->mlp.down_bias);
}

static int bind_table(struct binder *b, enum role role, size_t rows, const float **dest, struct load **out)
{
    const struct tensor *t = find(b, role, 0, ".weight");
    if (!t)
        return missing(b, role, 0, ".weight");
    int rc = check(b, t, 2, (size_t[]){ rows, b->m->config.d_model });
    if (rc || (rc = add_load(b, t, 0, out)))
        return rc;
    (*out)->dest[0] = dest;
    return 0;
}

static bool same_bytes(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes);
}

/*
 * Embedding and unembedding. GGUF has no key for tying: a missing or equal output tensor is tied. With config.json,
 * a second copy must be equal, since versions of transformers disagree about which of two different ones counts.
 */
static int bind_embeddings(struct binder *b)
{
    struct model *m = b->m;
    struct model_config *c = &m->config;
    struct load *load, *output;
    int rc = bind_table(b, ROLE_EMBED, c->d_vocab, &m->embed, &load);
    if (rc)
        return rc;
    m->unembed = (struct matrix){ .n_out = c->d_vocab, .n_in = c->d_model, .stride = c->d_model };
    const struct tensor *copy = find(b, ROLE_UNEMBED, 0, ".weight");
    bool same = copy && same_bytes(copy, load->tensor);
    if (b->gguf)
        c->tied = !copy || same;
    else if (!c->tied && !copy)
        return err_set(b->err, ERR_FORMAT,
                       "%s: tensor \"lm_head.weight\" is missing and tie_word_embeddings is false: was the model saved "
                       "without its language-model head?",
                       m->path);
    else if (c->tied && copy && !same)
        return err_set(b->err, ERR_FORMAT,
                       "%s: tie_word_embeddings is true, but tensor \"lm_head.weight\" differs from the embedding",
                       m->path);
    if (c->tied) {
        load->dest[1] = &m->unembed.data;
        if (copy)
            b->used[copy - b->set->tensors] = true;
    } else if ((rc = bind_table(b, ROLE_UNEMBED, c->d_vocab, &m->unembed.data, &output)))
        return rc;
    if (c->position != POSITION_LEARNED)
        return 0;
    return bind_table(b, ROLE_POSITIONS, c->n_ctx, &m->pos_embed, &output);
}

static bool ignored(const struct binder *b, const char *name)
{
    if (b->gguf) /* config_from_gguf has read it */
        return !strcmp(name, GGUF_ROPE_DIVISORS) && b->m->n_ropes;
    size_t n = strlen(b->prefix);
    if (strncmp(name, b->prefix, n))
        return false;
    for (const char *const *pattern = b->arch->ignored; *pattern; pattern++)
        if (tensor_name_matches(name + n, *pattern))
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

static int bind_all(struct binder *b)
{
    int rc = bind_embeddings(b);
    for (size_t l = 0; !rc && l < b->m->config.n_layers; l++) {
        b->layer = l;
        rc = bind_layer(b, l);
    }
    b->layer = NO_LAYER;
    if (rc || (rc = bind_norm(b, ROLE_LN_FINAL, 0, &b->m->ln_final)))
        return rc;
    return refuse_unused(b);
}

int weights_plan(struct model *m, struct err *err)
{
    struct binder b = { .m = m, .arch = m->storage->arch, .set = model_tensors(m), .layer = NO_LAYER, .err = err };
    b.gguf = m->storage->gguf != NULL;
    b.prefix = b.arch->prefix;
    if (!find(&b, ROLE_EMBED, 0, ".weight")) {
        b.prefix = "";
        if (!find(&b, ROLE_EMBED, 0, ".weight"))
            b.prefix = b.arch->prefix; /* so that the message shows the usual name */
    }
    b.used = mem_zeroed(b.set->n, sizeof *b.used);
    if (!b.used)
        return err_nomem(err, "the list of weights");
    int rc = bind_all(&b);
    free(b.used);
    return rc;
}
