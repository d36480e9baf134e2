/* GGUF metadata -> model_config. Keys: llama.cpp, gguf-py/gguf/constants.py. */
#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/model/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Every key under the architecture's prefix must be one of these. READ is understood or harmless. One with a property
 * is read where the row has that property; the others, and it elsewhere, must have the value at which they change
 * nothing.
 */
enum expected {
    READ,
    READ_PERIODIC,  /* where some layers slide by the family's rule */
    MUST_BE_CAUSAL, /* or not, as the family is */
    MUST_NOT_POOL,  /* but an encoder, whose sentence vector is made after all sites */
    MUST_BE_ZERO,
    MUST_BE_ONE,
    MUST_BE_FALSE,
};
static const struct known_key {
    const char *suffix;
    enum expected expected;
    enum property property;
    bool required; /* where the row has the property */
} known_keys[] = {
    { .suffix = "block_count" },
    { .suffix = "context_length" },
    { .suffix = "embedding_length" },
    { .suffix = "feed_forward_length" },
    { .suffix = "vocab_size" },
    { .suffix = "tensor_data_layout" },
    { .suffix = "hidden_activation" },
    { .suffix = "attention.head_count" },
    { .suffix = "attention.head_count_kv" },
    { .suffix = "attention.key_length" },
    { .suffix = "attention.value_length" },
    { .suffix = "attention.layer_norm_epsilon" },
    { .suffix = "attention.layer_norm_rms_epsilon" },
    { .suffix = "attention.sliding_window" },
    { .suffix = "attention.sliding_window_pattern", .expected = READ_PERIODIC },
    { .suffix = "attention.causal", .expected = MUST_BE_CAUSAL },
    { "attention.max_alibi_bias", MUST_BE_ZERO, PROPERTY_ALIBI_MOST, false },
    { "attention.clamp_kqv", MUST_BE_ZERO, PROPERTY_QKV_CLIP, false },
    { "attention.scale", MUST_BE_ZERO, PROPERTY_ATTN_SCALE, false },
    { .suffix = "rope.dimension_count" },
    { .suffix = "rope.freq_base" },
    { .suffix = "rope.freq_base_swa" },
    { .suffix = "rope.scaling.type" },
    { .suffix = "rope.scaling.factor" },
    { .suffix = "rope.scaling.original_context_length" },
    { .suffix = "rope.scaling.finetuned" },
    { .suffix = "rope.scaling.attn_factor" },
    { .suffix = "rope.scaling.yarn_beta_fast" },
    { .suffix = "rope.scaling.yarn_beta_slow" },
    { .suffix = "rope.scaling.yarn_ext_factor", .expected = MUST_BE_ONE },
    { .suffix = "rope.scaling.yarn_attn_factor", .expected = MUST_BE_ONE },
    { .suffix = "rope.scaling.yarn_log_multiplier", .expected = MUST_BE_ZERO },
    { "use_parallel_residual", MUST_BE_FALSE, PROPERTY_PARALLEL, false },
    { "expert_count", MUST_BE_ZERO, PROPERTY_EXPERTS, true },
    { "expert_used_count", MUST_BE_ZERO, PROPERTY_EXPERTS_USED, true },
    { "expert_shared_feed_forward_length", MUST_BE_ZERO, PROPERTY_SHARED_WIDTH, false },
    { "expert_feed_forward_length", MUST_BE_ZERO, PROPERTY_EXPERT_WIDTH, false }, /* after those that d_mlp says */
    { "expert_weights_norm", MUST_BE_FALSE, PROPERTY_RENORMALISED, false },
    { "attn_logit_softcapping", MUST_BE_ZERO, PROPERTY_ATTN_SOFTCAP, false },
    { "final_logit_softcapping", MUST_BE_ZERO, PROPERTY_LOGIT_SOFTCAP, false },
    { "logit_scale", MUST_BE_ONE, PROPERTY_LOGIT_SCALE, false },
    { "logit_scale", MUST_BE_ONE, PROPERTY_LOGIT_DIVISOR, false },
    { "residual_scale", MUST_BE_ONE, PROPERTY_RESIDUAL_SCALE, false },
    { "embedding_scale", MUST_BE_ONE, PROPERTY_EMBED_SCALE, false },
    { .suffix = "pooling_type", .expected = MUST_NOT_POOL },
};
enum { N_KNOWN_KEYS = sizeof known_keys / sizeof *known_keys };

enum { KEY_MAX = 96 };

static const char *key_of(char out[KEY_MAX], const struct model *m, const char *suffix)
{
    snprintf(out, KEY_MAX, "%s.%s", m->storage->arch->gguf, suffix);
    return out;
}

/* Whether the row reads the key, whatever its value. */
static bool row_reads(const struct arch *arch, const struct known_key *k)
{
    return k->expected == READ || (k->expected == READ_PERIODIC && arch->window.kind == WINDOW_PERIODIC) ||
           arch_property(arch, k->property);
}

static int has_neutral_value(const struct arch *arch, const struct gguf *g, const char *key, const struct known_key *k,
                             bool *fine, struct err *err)
{
    double number = 0;
    bool flag = false;
    int rc;
    if (k->expected == MUST_BE_FALSE || k->expected == MUST_BE_CAUSAL) {
        rc = gguf_get_bool_or(g, key, false, &flag, err);
        *fine = flag == (k->expected == MUST_BE_CAUSAL && !arch->bidirectional);
        return rc;
    }
    rc = gguf_get_number_or(g, key, 0, &number, err);
    *fine = number == (k->expected == MUST_BE_ONE ? 1 : 0) || (k->expected == MUST_NOT_POOL && arch->bidirectional);
    return rc;
}

static int check_key(const struct arch *arch, const struct gguf *g, const char *key, const char *suffix,
                     struct err *err)
{
    const struct known_key *known = NULL;
    bool fine = false;
    for (size_t i = 0; i < N_KNOWN_KEYS; i++) {
        if (strcmp(known_keys[i].suffix, suffix) != 0)
            continue;
        known = &known_keys[i];
        if (row_reads(arch, known))
            return 0;
    }
    int rc = known ? has_neutral_value(arch, g, key, known, &fine, err) : 0;
    if (rc || fine)
        return rc;
    return err_set(err, ERR_UNSUPPORTED, "%s: metadata key \"%s\" may change the mathematics and is not supported",
                   gguf_name(g), key);
}

static int check_keys(const struct model *m, const struct gguf *g, struct err *err)
{
    const struct arch *arch = m->storage->arch;
    const char *prefix = arch->gguf, *key;
    size_t n = strlen(prefix);
    for (size_t i = 0; (key = gguf_key(g, i)); i++) {
        int rc = strncmp(key, prefix, n) || key[n] != '.' ? 0 : check_key(arch, g, key, key + n + 1, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int find_architecture(struct model *m, const struct gguf *g, struct err *err)
{
    const char *name;
    size_t len, parts;
    int rc = gguf_get_string(g, "general.architecture", &name, &len, err);
    if (rc)
        return rc;
    if (!name)
        return err_set(err, ERR_FORMAT, "%s: metadata key \"general.architecture\" is missing", gguf_name(g));
    char key[KEY_MAX];
    size_t n_experts = 0, window = 0;
    snprintf(key, sizeof key, "%.*s.expert_count", len > 64 ? 64 : (int)len, name);
    if ((rc = gguf_get_size_or(g, key, 0, SIZE_MAX, 0, &n_experts, err)))
        return rc;
    snprintf(key, sizeof key, "%.*s.attention.sliding_window", len > 64 ? 64 : (int)len, name);
    if ((rc = gguf_get_size_or(g, key, 0, SIZE_MAX, 0, &window, err)))
        return rc;
    const struct arch *arch = arch_of_gguf(name, len, n_experts > 0, window > 0);
    if (!arch)
        return err_set(err, ERR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported: known families are %s",
                       gguf_name(g), len > 64 ? 64 : (int)len, name, model_known_families());
    if ((rc = config_begin(m, arch, err)))
        return rc;
    if ((rc = gguf_get_size_or(g, "split.count", 0, SIZE_MAX, 1, &parts, err)))
        return rc;
    if (parts > 1)
        return err_set(err, ERR_UNSUPPORTED, "%s: is one of %zu parts: merge them with llama-gguf-split --merge",
                       gguf_name(g), parts);
    return 0;
}

static int read_vocabulary(struct model *m, const struct gguf *g, struct err *err)
{
    char name[TENSOR_NAME_MAX], key[KEY_MAX];
    struct gguf_array tokens;
    size_t size;
    tensor_name(name, "", role_gguf_name(m->storage->arch, ROLE_EMBED), 0, 0, ".weight");
    const struct tensor *embed = tensor_set_find(gguf_tensors(g), name);
    if (!embed || embed->n_dims != 2 || embed->dims[0] < 1 || embed->dims[0] > MAX_VOCAB)
        return err_set(err, ERR_SHAPE, "%s: tensor \"%s\" is missing or no matrix", gguf_name(g), name);
    m->config.d_vocab = embed->dims[0];
    int rc;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "vocab_size"), 1, MAX_VOCAB, embed->dims[0], &size, err)) ||
        (rc = gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, err)))
        return rc;
    if (tokens.n && tokens.n != embed->dims[0])
        return err_set(err, ERR_SHAPE, "%s: %zu tokens, but \"%s\" has %zu rows", gguf_name(g), tokens.n, name,
                       embed->dims[0]);
    if (size != embed->dims[0])
        return err_set(err, ERR_SHAPE, "%s: key \"%s\" is %zu, but \"%s\" has %zu rows", gguf_name(g), key, size, name,
                       embed->dims[0]);
    return 0;
}

static int read_sizes(struct model *m, const struct gguf *g, struct err *err)
{
    struct model_config *c = &m->config;
    char key[KEY_MAX];
    int rc;
    if ((rc = gguf_get_size(g, key_of(key, m, "block_count"), 1, MAX_LAYERS, &c->n_layers, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "embedding_length"), 1, MAX_WIDTH, &c->d_model, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "feed_forward_length"), 1, MAX_MLP, &c->d_mlp, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "context_length"), 1, MAX_CONTEXT, &c->n_ctx, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "attention.head_count"), 1, MAX_WIDTH, &c->n_heads, err)) ||
        (rc = gguf_get_size_or(g, key_of(key, m, "attention.head_count_kv"), 1, MAX_WIDTH, c->n_heads, &c->n_kv_heads,
                               err)))
        return rc;
    size_t d_value, d_rotary;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "attention.key_length"), 1, MAX_WIDTH, 0, &c->d_head, err)))
        return rc;
    if (!c->d_head && c->d_model % c->n_heads)
        return err_set(err, ERR_FORMAT, "%s: embedding length %zu is no multiple of %zu heads", gguf_name(g),
                       c->d_model, c->n_heads);
    if (!c->d_head)
        c->d_head = c->d_model / c->n_heads;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "attention.value_length"), 1, MAX_WIDTH, c->d_head, &d_value, err)) ||
        (rc = gguf_get_size_or(g, key_of(key, m, "rope.dimension_count"), 0, MAX_WIDTH, c->d_head, &d_rotary, err)))
        return rc;
    if (d_value != c->d_head)
        return err_set(err, ERR_UNSUPPORTED, "%s: value heads of %zu beside key heads of %zu are not supported",
                       gguf_name(g), d_value, c->d_head);
    c->rotary_dims = d_rotary;
    /* llama.cpp's converter reorders whole heads. */
    if (m->storage->arch->position == POSITION_ROTARY && m->storage->arch->gguf_pairs && d_rotary != c->d_head)
        return err_set(err, ERR_UNSUPPORTED, "%s: key \"%s\" is %zu, only whole heads (%zu) are supported",
                       gguf_name(g), key, d_rotary, c->d_head);
    return 0;
}

static int read_norm(struct model *m, const struct gguf *g, struct err *err)
{
    char key[KEY_MAX];
    key_of(key, m,
           m->storage->arch->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon");
    if (!gguf_has(g, key))
        return err_set(err, ERR_FORMAT, "%s: metadata key \"%s\" is missing", gguf_name(g), key);
    return gguf_get_number_or(g, key, 0, &m->config.norm_eps, err);
}

/* Where the file does not say it; NAN: as it is. */
static double otherwise_of(const struct model *m, const struct property_key *p)
{
    const struct model_config *c = &m->config;
    switch (p->property) {
    case PROPERTY_RENORMALISED:
        return m->storage->arch->gguf_renormalised;
    case PROPERTY_SHARED_WIDTH: /* both as llama.cpp reads files from before these keys */
        return (double)c->d_mlp;
    case PROPERTY_EXPERT_WIDTH:
        return c->n_experts_used ? (double)(c->d_mlp / c->n_experts_used) : NAN;
    default:
        return p->otherwise;
    }
}

static int read_property(const struct config_reader *r, const struct gguf *g, const struct known_key *known)
{
    const struct property_key *p = arch_property(r->arch, known->property);
    char key[KEY_MAX];
    double number;
    bool flag;
    if (!p)
        return 0;
    key_of(key, r->m, known->suffix);
    if (known->required && !gguf_has(g, key))
        return err_set(r->err, ERR_FORMAT, "%s: metadata key \"%s\" is missing", r->name, key);
    double otherwise = otherwise_of(r->m, p);
    if (p->property >= PROPERTY_PARALLEL) {
        int rc = gguf_get_bool_or(g, key, otherwise != 0, &flag, r->err);
        return rc ? rc : config_set_flag(r, p->property, key, flag);
    }
    int rc = gguf_get_number_or(g, key, otherwise, &number, r->err);
    return rc || isnan(number) ? rc : config_set_number(r, p->property, key, number);
}

static const struct tensor *find_role(const struct model *m, const struct gguf *g, enum role role)
{
    char name[TENSOR_NAME_MAX];
    tensor_name(name, "", role_gguf_name(m->storage->arch, role), 0, 0, ".weight");
    return tensor_set_find(gguf_tensors(g), name);
}

/* Few files say it. */
static int read_activation(const struct config_reader *r, const struct gguf *g)
{
    char key[KEY_MAX], name[32];
    const char *text;
    size_t len;
    int rc = gguf_get_string(g, key_of(key, r->m, "hidden_activation"), &text, &len, r->err);
    if (rc || !text)
        return rc;
    snprintf(name, sizeof name, "%.*s", len < sizeof name ? (int)len : (int)sizeof name, text);
    if (!activation_of_name(name, &r->m->config.activation))
        rc = err_set(r->err, ERR_UNSUPPORTED, "%s: activation \"%s\" of key \"%s\" is not supported", r->name, name,
                     key);
    return rc;
}

static int read_properties(const struct config_reader *r, const struct gguf *g)
{
    const struct arch *arch = r->arch;
    struct model_config *c = &r->m->config;
    int rc = 0;
    config_scale_scores(r->m);
    if (arch->wide_scale_layers && c->n_layers == arch->wide_scale_layers)
        c->attn_scale = 1 / sqrt((double)(c->d_model / c->n_heads));
    for (size_t i = 0; !rc && i < N_KNOWN_KEYS; i++)
        rc = read_property(r, g, &known_keys[i]);
    /* What no key says, tensors do. */
    const struct tensor *types = find_role(r->m, g, ROLE_TYPES);
    if (arch_property(arch, PROPERTY_N_TYPES))
        c->n_token_types = !types ? 0 : types->n_dims > 1 ? types->dims[0] : 1;
    if (arch_property(arch, PROPERTY_QK_NORM))
        c->qk_norm = find_role(r->m, g, ROLE_Q_NORM);
    for (size_t i = 0; i < sizeof arch->bias_keys / sizeof *arch->bias_keys; i++)
        r->m->storage->maybe_biased |= arch->bias_keys[i].roles;
    return rc;
}

/* --- rotary --- */

/* Sets out->type; a factor without a type is linear, and 0 is how some writers say 1 (llama.cpp). */
static int read_scaling(struct model *m, const struct gguf *g, struct rope_scaling *out, struct err *err)
{
    static const char *const types[] = { "none", "linear", "yarn", "longrope" };
    char key[KEY_MAX];
    const char *type;
    size_t len, i = 0, n = sizeof types / sizeof *types;
    int rc = gguf_get_number_or(g, key_of(key, m, "rope.scaling.factor"), 1, &out->factor, err);
    if (rc || (rc = gguf_get_string(g, key_of(key, m, "rope.scaling.type"), &type, &len, err)))
        return rc;
    while (type && i < n && (strlen(types[i]) != len || memcmp(types[i], type, len) != 0))
        i++;
    if (i == n)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: rope scaling of type \"%.*s\" is not supported: known are none, linear, yarn and longrope",
                       gguf_name(g), len > 64 ? 64 : (int)len, type);
    if ((type && i == 0) || out->factor == 0)
        out->factor = 1;
    out->type = type ? types[i] : "linear";
    if (out->factor == 1 && i < 2)
        out->type = "none";
    return 0;
}

static int read_yarn(struct model *m, const struct gguf *g, struct rope_scaling *out, struct err *err)
{
    char key[KEY_MAX];
    out->kind = ROPE_YARN;
    out->whole_ramp = true;
    out->scale = rope_yarn_scale(out->factor, 1);
    int rc = gguf_get_number_or(g, key_of(key, m, "rope.scaling.yarn_beta_slow"), 1, &out->low, err);
    return rc ? rc : gguf_get_number_or(g, key_of(key, m, "rope.scaling.yarn_beta_fast"), 32, &out->high, err);
}

/* Factors of each pair in a tensor. *factors is the caller's, NULL where there is no such tensor. */
static int read_factors(const struct model *m, const struct gguf *g, const char *name, float **factors, struct err *err)
{
    const struct tensor *t = tensor_set_find(gguf_tensors(g), name);
    size_t half = m->config.rotary_dims / 2;
    *factors = NULL;
    if (!t)
        return 0;
    if (t->dtype != DTYPE_F32 || t->n_dims != 1 || t->n != half)
        return err_set(err, ERR_SHAPE, "%s: tensor \"%s\" is not F32 [%zu]", gguf_name(g), t->name, half);
    *factors = mem_array(t->n, sizeof **factors);
    if (!*factors)
        return err_nomem(err, "rotary frequencies");
    tensor_widen(t, 0, t->n, *factors);
    return 0;
}

static int add_longrope(struct model *m, const struct gguf *g, struct rope_scaling *out, double attn_factor,
                        const float *brief, struct err *err)
{
    float *factors;
    int rc = read_factors(m, g, GGUF_ROPE_LONG, &factors, err);
    if (!rc && !factors)
        rc = err_set(err, ERR_FORMAT, "%s: tensor \"%s\" is missing", gguf_name(g), GGUF_ROPE_LONG);
    out->scale = attn_factor;
    rc = rc ? rc : rope_add_long(m, gguf_name(g), out, brief, factors, err);
    free(factors);
    return rc;
}

/* One set of angles; llama3 scaling comes as divisors of the plain frequencies. */
static int add_plain(struct model *m, const struct gguf *g, struct rope_scaling *out, double attn_factor,
                     struct err *err)
{
    float *divisors;
    if (!strcmp(out->type, "longrope"))
        return err_set(err, ERR_FORMAT, "%s: tensor \"%s\" is missing", gguf_name(g), GGUF_ROPE_SHORT);
    if (attn_factor != 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: key \"%s.rope.scaling.attn_factor\" is %g: not supported but for longrope", gguf_name(g),
                       m->storage->arch->gguf, attn_factor);
    int rc = read_factors(m, g, GGUF_ROPE_DIVISORS, &divisors, err);
    if (divisors) {
        out->type = "llama3";
        out->kind = ROPE_DIVISORS;
        out->divisors = divisors;
    }
    rc = rc ? rc : rope_add(m, gguf_name(g), out, err);
    free(divisors);
    return rc;
}

/* LongRoPE comes as factors for short prompts and for long ones. */
static int add_rope(struct model *m, const struct gguf *g, struct rope_scaling *out, double attn_factor,
                    struct err *err)
{
    float *factors;
    int rc = read_factors(m, g, GGUF_ROPE_SHORT, &factors, err);
    if (rc)
        return rc;
    if (!factors)
        return add_plain(m, g, out, attn_factor, err);
    rc = add_longrope(m, g, out, attn_factor, factors, err);
    free(factors);
    return rc;
}

static int read_ropes(struct model *m, const struct gguf *g, struct err *err)
{
    const struct arch *arch = m->storage->arch;
    struct rope_scaling rope = { .factor = 1, .scale = 1 }, local = { .type = "none", .factor = 1, .scale = 1 };
    char key[KEY_MAX];
    double attn_factor;
    size_t old_context;
    int rc;
    if ((rc = gguf_get_number_or(g, key_of(key, m, "rope.freq_base"), 10000, &rope.theta, err)) ||
        (rc = gguf_get_number_or(g, key_of(key, m, "rope.freq_base_swa"), arch->local_theta, &local.theta, err)) ||
        (rc = gguf_get_size_or(g, key_of(key, m, "rope.scaling.original_context_length"), 2, MAX_CONTEXT,
                               m->config.n_ctx, &old_context, err)) ||
        (rc = gguf_get_number_or(g, key_of(key, m, "rope.scaling.attn_factor"), 1, &attn_factor, err)) ||
        (rc = read_scaling(m, g, &rope, err)))
        return rc;
    if (!(attn_factor > 0 && isfinite(attn_factor)))
        return err_set(err, ERR_FORMAT, "%s: key \"%s.rope.scaling.attn_factor\" is %g, it must be above 0",
                       gguf_name(g), arch->gguf, attn_factor);
    rope.old_context = (double)old_context;
    if (!strcmp(rope.type, "yarn"))
        rc = read_yarn(m, g, &rope, err);
    rc = rc ? rc : add_rope(m, g, &rope, attn_factor, err);
    m->storage->local_rope = m->n_ropes;
    return rc || arch->local_theta == 0 ? rc : rope_add(m, gguf_name(g), &local, err);
}

/* --- layers --- */

static int read_windows(struct model *m, const struct gguf *g, struct err *err)
{
    const struct window_rule *rule = &m->storage->arch->window;
    bool periodic = rule->kind == WINDOW_PERIODIC;
    char key[KEY_MAX];
    size_t window, period = rule->period;
    int rc = periodic ? gguf_get_size_or(g, key_of(key, m, "attention.sliding_window_pattern"), 1, MAX_LAYERS, period,
                                         &period, err)
                      : 0;
    rc = rc ? rc
            : gguf_get_size_or(g, key_of(key, m, "attention.sliding_window"), 0, MAX_CONTEXT,
                               periodic ? rule->otherwise : 0, &window, err);
    if (rc)
        return rc;
    if (periodic)
        config_slide_by_period(m, period, rule->halved && window ? window / 2 + 1 : window);
    else if (window && rule->kind != WINDOW_EVERY_LAYER)
        return err_set(err, ERR_UNSUPPORTED, "%s: key \"%s\" is not supported for %s: which layers slide is not said",
                       gguf_name(g), key, m->architecture);
    for (size_t l = 0; !periodic && l < m->config.n_layers; l++)
        m->layers[l].window = window;
    config_ropes_of_windows(m);
    return 0;
}

int config_from_gguf(struct model *m, const struct gguf *g, struct err *err)
{
    struct config_reader r = { .m = m, .name = gguf_name(g), .err = err };
    int rc;
    if ((rc = find_architecture(m, g, err)) || (rc = check_keys(m, g, err)) || (rc = read_vocabulary(m, g, err)) ||
        (rc = read_sizes(m, g, err)) || (rc = read_norm(m, g, err)))
        return rc;
    r.arch = m->storage->arch;
    if ((rc = read_activation(&r, g)) || (rc = read_properties(&r, g)) || (rc = config_finish(m, r.name, err)) ||
        (m->config.position == POSITION_ROTARY && (rc = read_ropes(m, g, err))) || (rc = read_windows(m, g, err)))
        return rc;
    const struct property_key *p = arch_property(r.arch, PROPERTY_ROPE_LAYERS);
    return p ? config_set_number(&r, p->property, p->key, p->otherwise) : 0;
}

/* The API is typed, so each type is tried; what is none of them is an array. */
static bool add_value(struct strbuf *json, const struct gguf *g, const char *key)
{
    const char *text;
    size_t len, size;
    double number;
    bool flag;
    if (!gguf_get_string(g, key, &text, &len, NULL))
        strbuf_add_json(json, text, len);
    else if (!gguf_get_bool_or(g, key, false, &flag, NULL))
        strbuf_adds(json, flag ? "true" : "false");
    else if (!gguf_get_size_or(g, key, 0, SIZE_MAX, 0, &size, NULL))
        strbuf_addf(json, "%zu", size);
    else if (!gguf_get_number_or(g, key, 0, &number, NULL) && isfinite(number))
        strbuf_addf(json, "%.9g", number);
    else
        return false;
    return true;
}

char *config_json_of_gguf(const struct gguf *g)
{
    struct strbuf json = STRBUF_INIT;
    const char *key;
    strbuf_addc(&json, '{');
    for (size_t i = 0; !strbuf_failed(&json) && (key = gguf_key(g, i)); i++) {
        size_t before = json.len;
        strbuf_adds(&json, before > 1 ? "," : "");
        strbuf_add_json(&json, key, strlen(key));
        strbuf_addc(&json, ':');
        if (!add_value(&json, g, key))
            json.len = before;
    }
    strbuf_addc(&json, '}');
    if (strbuf_failed(&json))
        strbuf_release(&json);
    return json.data;
}
