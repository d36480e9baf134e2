/* float32 streaming statistics of logits, compiled once per instruction set. */
#include "core/runtime/vec.h"
#include "probes/lens_stats.h"

#include <math.h>

static inline vec load_some(const float *x, size_t n, float fill)
{
    if (n >= VEC_LANES)
        return vec_load(x);
    float lanes[VEC_LANES];
    for (size_t i = 0; i < VEC_LANES; i++)
        lanes[i] = i < n ? x[i] : fill;
    return vec_load(lanes);
}

float ISA_NAME(lens_max)(const float *z, size_t n)
{
    vec m = vec_all(-INFINITY);
    for (size_t i = 0; i < n; i += VEC_LANES)
        m = vec_max(load_some(z + i, n - i, -INFINITY), m);
    return vec_max_lane(m);
}

void ISA_NAME(lens_weights)(const float *f, size_t n, double m, float *w)
{
    for (size_t i = 0; i < n; i += VEC_LANES) {
        vec e = vec_exp(load_some(f + i, n - i, -INFINITY) - vec_all((float)m));
        memcpy(w + i, &e, (n - i < VEC_LANES ? n - i : VEC_LANES) * sizeof *w);
    }
}

void ISA_NAME(lens_stats_add)(struct lens_stats *s, const float *z, size_t n, float top, float answer,
                              const float *reference, const float *weights)
{
    lens_stats_raise(s, (double)top, exp);
    const vec m = vec_all((float)s->max), a = vec_all(answer);
    dvec sum[2] = { { 0 }, { 0 } }, weighted[2] = { { 0 }, { 0 } }, cross[2] = { { 0 }, { 0 } };
    ivec greater = { 0 }, equal = { 0 };
    for (size_t i = 0; i < n; i += VEC_LANES) {
        size_t left = n - i;
        /* Missing lanes: logit -inf has weight 0; e^-inf * -inf must not make NaN, so the offset is bounded. */
        vec x = load_some(z + i, left, -INFINITY);
        vec offset = vec_max(x - m, vec_all(-100.0f));
        vec e = vec_exp(offset);
        vec_accumulate(sum, e);
        vec_accumulate(weighted, e * offset);
        if (reference) {
            vec w = load_some(weights + i, left, 0), f = load_some(reference + i, left, 0);
            vec_accumulate(cross, w * (f - (left < VEC_LANES ? load_some(z + i, left, 0) : x)));
        }
        greater -= x > a;
        equal -= x == a;
    }
    s->sum += vec_total(sum);
    s->weighted += vec_total(weighted);
    s->cross += vec_total(cross);
    for (int lane = 0; lane < VEC_LANES; lane++) {
        s->greater += greater[lane];
        s->equal += equal[lane];
    }
}
