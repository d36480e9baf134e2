/* What every config has to satisfy, and rotary frequencies. */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925;

/* llama3's divisor: 1 for short waves, factor for long ones, smooth between (notes/formats.md 3; transformers). */
static double llama3_divisor(double frequency, const struct rope_scaling *rope)
{
    double wave = TWO_PI / frequency;
    if (wave < rope->old_context / rope->high)
        return 1;
    if (wave > rope->old_context / rope->low)
        return rope->factor;
    double smooth = (rope->old_context / wave - rope->low) / (rope->high - rope->low);
    return 1 / ((1 - smooth) / rope->factor + smooth);
}

static int fill_frequencies(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err)
{
    struct model_config *c = &m->config;
    size_t half = c->rotary_dims / 2;
    m->rope_frequency = mem_array(half, sizeof *m->rope_frequency);
    if (!m->rope_frequency)
        return err_nomem(err, "rotary frequencies");
    for (size_t i = 0; i < half; i++) {
        double base = pow(c->rope_theta, -2.0 * (double)i / (double)c->rotary_dims), divisor = rope->factor;
        if (rope->divisors)
            divisor *= (double)rope->divisors[i];
        else if (rope->high > 0)
            divisor = llama3_divisor(base, rope);
        m->rope_frequency[i] = base / divisor;
        if (!isfinite(m->rope_frequency[i]) || !(m->rope_frequency[i] > 0))
            return err_set(err, ERR_NUMERIC, "%s: rotary frequency %zu is %g: the rope settings are damaged", where, i,
                           m->rope_frequency[i]);
    }
    return 0;
}

int config_finish(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err)
{
    struct model_config *c = &m->config;
    if (c->n_kv_heads > c->n_heads || c->n_heads % c->n_kv_heads)
        return err_set(err, ERR_FORMAT, "%s: %zu attention heads cannot share %zu key/value heads evenly", where,
                       c->n_heads, c->n_kv_heads);
    if (c->n_heads * c->d_head > MAX_WIDTH)
        return err_set(err, ERR_UNSUPPORTED, "%s: %zu heads of %zu are wider than the limit %d", where, c->n_heads,
                       c->d_head, MAX_WIDTH);
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return err_set(err, ERR_FORMAT, "%s: the norm's epsilon %g is not in [0, 1)", where, c->norm_eps);
    c->rope_scaling = "none";
    if (c->position == POSITION_ROTARY) {
        c->rotary_dims = c->d_head;
        c->rope_scaling = rope->type;
        if (c->d_head % 2)
            return err_set(err, ERR_FORMAT, "%s: heads of %zu dimensions are odd, rotary positions need pairs", where,
                           c->d_head);
        int rc = fill_frequencies(m, where, rope, err);
        if (rc)
            return rc;
    }
    m->layers = mem_zeroed(c->n_layers, sizeof *m->layers);
    return m->layers ? 0 : err_nomem(err, "layers");
}
