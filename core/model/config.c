/* What every config has to satisfy, and rotary frequencies. */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925;

/*
 * Frequencies in the float32 steps of transformers (modeling_rope_utils.py; pow itself is rounded exactly there, as
 * double is here): models are trained and run with these, and a last bit in a frequency is worth 1e-4 radians at
 * position 1000. A tensor's reciprocal times a number is how PyTorch divides a number by a tensor.
 */
static float plain_frequency(double theta, size_t pair, size_t dims)
{
    float exponent = (float)(2 * pair) / (float)dims;
    return 1 / (float)pow(theta, (double)exponent);
}

/* llama3: short waves as they are, long ones divided by the factor, smooth between. */
static float llama3_frequency(float plain, const struct rope_scaling *rope)
{
    float wave = 1 / plain * (float)TWO_PI, low = (float)rope->low, factor = (float)rope->factor;
    if ((double)wave < rope->old_context / rope->high)
        return plain;
    if ((double)wave > rope->old_context / rope->low)
        return plain / factor;
    float smooth = (1 / wave * (float)rope->old_context - low) / (float)(rope->high - rope->low);
    return (1 - smooth) * plain / factor + smooth * plain;
}

static int add_rope(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err)
{
    struct model_config *c = &m->config;
    struct rope *out = &m->ropes[m->n_ropes];
    size_t half = c->rotary_dims / 2;
    *out = (struct rope){ .theta = rope->theta, .scaling = rope->type, .scale = 1, .n_short = SIZE_MAX };
    out->frequency = mem_array(half, sizeof *out->frequency);
    if (!out->frequency)
        return err_nomem(err, "rotary frequencies");
    m->n_ropes++;
    for (size_t i = 0; i < half; i++) {
        float frequency = plain_frequency(rope->theta, i, c->rotary_dims);
        if (rope->divisors)
            frequency /= (float)rope->factor * rope->divisors[i];
        else if (rope->high > 0)
            frequency = llama3_frequency(frequency, rope);
        else
            frequency /= (float)rope->factor;
        out->frequency[i] = (double)frequency;
        if (!isfinite(out->frequency[i]) || !(out->frequency[i] > 0))
            return err_set(err, ERR_NUMERIC, "%s: rotary frequency %zu is %g: the rope settings are damaged", where, i,
                           out->frequency[i]);
    }
    return 0;
}

int config_finish(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err)
{
    struct model_config *c = &m->config;
    c->d_embed = c->d_model;
    c->ln1 = c->ln2 = c->final_norm = c->unembedding = true;
    c->embed_scale = c->residual_scale = c->logit_scale = 1;
    if (c->n_kv_heads > c->n_heads || c->n_heads % c->n_kv_heads)
        return err_set(err, ERR_FORMAT, "%s: %zu attention heads cannot share %zu key/value heads evenly", where,
                       c->n_heads, c->n_kv_heads);
    if (c->n_heads * c->d_head > MAX_WIDTH)
        return err_set(err, ERR_UNSUPPORTED, "%s: %zu heads of %zu are wider than the limit %d", where, c->n_heads,
                       c->d_head, MAX_WIDTH);
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return err_set(err, ERR_FORMAT, "%s: the norm's epsilon %g is not in [0, 1)", where, c->norm_eps);
    if (c->position == POSITION_ROTARY) {
        c->rotary_dims = c->d_head;
        if (c->d_head % 2)
            return err_set(err, ERR_FORMAT, "%s: heads of %zu dimensions are odd, rotary positions need pairs", where,
                           c->d_head);
        int rc = add_rope(m, where, rope, err);
        if (rc)
            return rc;
    }
    m->layers = mem_zeroed(c->n_layers, sizeof *m->layers);
    if (!m->layers)
        return err_nomem(err, "layers");
    for (size_t l = 0; l < c->n_layers; l++)
        m->layers[l].attn_scale = c->attn_scale;
    return 0;
}
