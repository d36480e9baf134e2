/* Rotary frequencies. */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925;

/*
 * Frequencies in the float32 steps of transformers (modeling_rope_utils.py; pow itself is rounded exactly there, as
 * double is here): models are trained and run with these, and a last bit in a frequency is worth 1e-4 radians at
 * position 1000. A tensor's reciprocal times a number is how PyTorch divides a number by a tensor.
 */
static float plain_wave(double theta, size_t pair, size_t dims)
{
    float exponent = (float)(2 * pair) / (float)dims;
    return (float)pow(theta, (double)exponent);
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

/* The pair whose angle turns `rotations` times over the old context. */
static double turning_pair(double rotations, size_t dims, const struct rope_scaling *rope)
{
    return (double)dims * log(rope->old_context / (rotations * TWO_PI)) / (2 * log(rope->theta));
}

/* YaRN (Peng et al. 2023, section 3.2): quick pairs as they are, slow ones divided, a ramp between. */
static float yarn_frequency(float wave, size_t pair, size_t dims, const struct rope_scaling *rope)
{
    double low = turning_pair(rope->high, dims, rope), high = turning_pair(rope->low, dims, rope);
    if (rope->whole_ramp) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < (double)dims - 1 ? high : (double)dims - 1;
    if (low == high)
        high += 0.001;
    float ramp = ((float)pair - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float as_it_is = 1 - ramp;
    return 1 / ((float)rope->factor * wave) * (1 - as_it_is) + 1 / wave * as_it_is;
}

static float frequency_of(const struct rope_scaling *rope, size_t pair, size_t dims)
{
    float wave = plain_wave(rope->theta, pair, dims), plain = 1 / wave;
    switch (rope->kind) {
    case ROPE_DIVISORS:
        return plain / ((float)rope->factor * rope->divisors[pair]);
    case ROPE_LONG:
        return 1 / (rope->divisors[pair] * wave);
    case ROPE_LLAMA3:
        return llama3_frequency(plain, rope);
    case ROPE_YARN:
        return yarn_frequency(wave, pair, dims, rope);
    default:
        return plain / (float)rope->factor;
    }
}

int rope_add(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err)
{
    if (m->n_ropes == MAX_ROPES)
        return err_set(err, ERR_UNSUPPORTED, "%s: more than %d sets of rotary angles", where, MAX_ROPES);
    struct rope *out = &m->ropes[m->n_ropes];
    size_t dims = m->config.rotary_dims, half = dims / 2;
    *out = (struct rope){ .theta = rope->theta, .scaling = rope->type, .scale = rope->scale, .n_short = SIZE_MAX };
    out->frequency = mem_array(half, sizeof *out->frequency);
    if (!out->frequency)
        return err_nomem(err, "rotary frequencies");
    m->n_ropes++;
    for (size_t i = 0; i < half; i++) {
        out->frequency[i] = (double)frequency_of(rope, i, dims);
        if (!isfinite(out->frequency[i]) || !(out->frequency[i] > 0))
            return err_set(err, ERR_NUMERIC, "%s: rotary frequency %zu is %g: the rope settings are damaged", where, i,
                           out->frequency[i]);
    }
    return 0;
}

/* YaRN (Peng et al. 2023): sqrt(1 / t) = 0.1 ln(s) + 1; the multiplier of the logarithm is DeepSeek's. */
double rope_yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

int rope_add_long(struct model *m, const char *where, struct rope_scaling *rope, const float *brief, const float *wide,
                  struct err *err)
{
    size_t first = m->n_ropes;
    rope->type = "longrope";
    rope->kind = ROPE_LONG;
    rope->divisors = brief;
    int rc = rope_add(m, where, rope, err);
    rope->divisors = wide;
    if (rc || (rc = rope_add(m, where, rope, err)))
        return rc;
    m->ropes[first].n_short = (size_t)rope->old_context;
    m->ropes[first].longer = first + 1;
    return 0;
}
