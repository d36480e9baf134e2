/* What every config has to satisfy, wherever it was read. */
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>

int config_begin(struct model *m, const struct arch *arch, struct err *err)
{
    struct model_config *c = &m->config;
    m->storage->arch = arch;
    m->storage->biased = arch->biased;
    m->storage->alibi_most = 8;
    m->architecture = arch->name;
    c->norm = arch->norm;
    c->position = arch->position;
    c->block = arch->block;
    c->gated_mlp = arch->gated_mlp;
    c->bidirectional = arch->bidirectional;
    c->embed_norm = arch->embed_norm;
    c->sublayer_norms = arch->sublayer_norms;
    c->qk_norm = arch->qk_norm;
    c->qk_norm_whole = arch->qk_norm_whole;
    c->qk_gain_shared = !arch->qk_norm_whole && !arch->qk_gains_by_head;
    c->rotary_pairs = arch->rotary_pairs;
    c->head_transform = arch->head_transform;
    c->position_offset = arch->position_offset;
    c->ln1 = arch->names[ROLE_LN1];
    c->ln2 = arch->names[ROLE_LN2];
    c->final_norm = arch->names[ROLE_LN_FINAL];
    c->unembedding = arch->names[ROLE_UNEMBED];
    c->embed_scale = c->residual_scale = c->logit_scale = 1;
    c->experts_renormalised = true;
    if (!activation_of_name(arch->defaults.activation, &c->activation))
        return err_set(err, ERR_UNSUPPORTED, "activation \"%s\" of %s is not known", arch->defaults.activation,
                       arch->name);
    if (arch->head_activation && !activation_of_name(arch->head_activation, &c->head_activation))
        return err_set(err, ERR_UNSUPPORTED, "activation \"%s\" of %s is not known", arch->head_activation, arch->name);
    return 0;
}

void config_scale_scores(struct model *m)
{
    m->config.attn_scale = m->storage->arch->unscaled_scores ? 1 : 1 / sqrt((double)m->config.d_head);
}

static int check_heads(const struct model_config *c, const char *where, struct err *err)
{
    if (c->n_kv_heads > c->n_heads || c->n_heads % c->n_kv_heads)
        return err_set(err, ERR_FORMAT, "%s: %zu attention heads cannot share %zu key/value heads evenly", where,
                       c->n_heads, c->n_kv_heads);
    if (c->n_heads * c->d_head > MAX_WIDTH)
        return err_set(err, ERR_UNSUPPORTED, "%s: %zu heads of %zu are wider than the limit %d", where, c->n_heads,
                       c->d_head, MAX_WIDTH);
    if (c->position == POSITION_ROTARY && (c->rotary_dims % 2 || !c->rotary_dims || c->rotary_dims > c->d_head))
        return err_set(err, ERR_FORMAT,
                       "%s: %zu of %zu dimensions of a head cannot rotate: an even number up to all of them can", where,
                       c->rotary_dims, c->d_head);
    return 0;
}

static int check_experts(const struct model_config *c, const char *where, struct err *err)
{
    if (c->n_experts > MAX_EXPERTS)
        return err_set(err, ERR_UNSUPPORTED, "%s: %zu experts are more than the limit %d", where, c->n_experts,
                       MAX_EXPERTS);
    if (c->n_experts && (!c->n_experts_used || c->n_experts_used > c->n_experts))
        return err_set(err, ERR_FORMAT, "%s: %zu of %zu experts cannot be used", where, c->n_experts_used,
                       c->n_experts);
    return 0;
}

/* 2^-(unit times) in the float32 steps of transformers: BLOOM and Falcon take powers of a base, MPT a reciprocal. */
static float slope_of(const struct arch *arch, double unit, double times)
{
    if (arch->alibi_powers)
        return (float)pow((double)(float)pow(2, -unit), times);
    return 1 / (float)pow(2, unit * times);
}

/* ALiBi (Press et al. 2022): slopes 2^(-most i / n) of the next power of two n; MPT and BLOOM fill up alike. */
static int fill_slopes(struct model *m, struct err *err)
{
    size_t n_heads = m->config.n_heads, power = 1;
    double most = m->storage->alibi_most;
    m->alibi = mem_array(n_heads, sizeof *m->alibi);
    if (!m->alibi)
        return err_nomem(err, "slopes");
    while (power * 2 <= n_heads)
        power *= 2;
    for (size_t i = 0; i < n_heads; i++) {
        const struct arch *arch = m->storage->arch;
        float slope = i < power ? slope_of(arch, most / (double)power, (double)(i + 1))
                                : slope_of(arch, most / (double)(2 * power), (double)(2 * (i - power) + 1));
        m->alibi[i] = (double)(arch->alibi_bf16 ? bf16_to_f32_one(bf16_from_f32_one(slope)) : slope);
    }
    return 0;
}

int config_finish(struct model *m, const char *where, struct err *err)
{
    struct model_config *c = &m->config;
    const struct arch *arch = m->storage->arch;
    if (c->position == POSITION_ROTARY && !c->rotary_dims)
        c->rotary_dims = c->d_head;
    if (c->position != POSITION_ROTARY)
        c->rotary_dims = 0;
    if (!c->d_embed)
        c->d_embed = c->d_model;
    if (arch->embed_scaled)
        c->embed_scale = (double)(float)sqrt((double)c->d_model); /* a float32 number in transformers */
    if (arch->ln2_unless_parallel && c->block == BLOCK_PARALLEL)
        c->ln2 = false;
    int rc = check_heads(c, where, err);
    if (rc || (rc = check_experts(c, where, err)))
        return rc;
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return err_set(err, ERR_FORMAT, "%s: the norm's epsilon %g is not in [0, 1)", where, c->norm_eps);
    if (c->position == POSITION_ALIBI && (rc = fill_slopes(m, err)))
        return rc;
    m->alibi_bf16 = arch->alibi_bf16;
    m->alibi_factor = c->attn_scale;
    m->layers = mem_zeroed(c->n_layers, sizeof *m->layers);
    if (!m->layers)
        return err_nomem(err, "layers");
    for (size_t l = 0; l < c->n_layers; l++) {
        m->layers[l].attn_scale = m->storage->scale_by_layer ? c->attn_scale / (double)(l + 1) : c->attn_scale;
        m->layers[l].ln1.identity = arch->no_ln1_in_block_0 && l == 0;
        m->layers[l].rope = c->position == POSITION_ROTARY ? 0 : NO_ROPE;
    }
    return 0;
}
