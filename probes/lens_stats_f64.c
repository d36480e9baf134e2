/* Double streaming statistics of logits: plain C on libm, the oracle of lens_stats_isa.c; and the choice of kernels. */
#include "probes/lens_stats.h"

#include <math.h>

double lens_max_f64(const double *z, size_t n)
{
    double m = -INFINITY;
    for (size_t i = 0; i < n; i++)
        m = z[i] > m ? z[i] : m;
    return m;
}

void lens_weights_f64(const double *f, size_t n, double m, double *w)
{
    for (size_t i = 0; i < n; i++)
        w[i] = exp(f[i] - m);
}

void lens_stats_add_f64(struct lens_stats *s, const double *z, size_t n, double top, double answer,
                        const double *reference, const double *weights)
{
    lens_stats_raise(s, top, exp);
    for (size_t i = 0; i < n; i++) {
        double e = exp(z[i] - s->max);
        s->sum += e;
        s->weighted += e * (z[i] - s->max);
        s->cross += reference ? weights[i] * (reference[i] - z[i]) : 0;
        s->greater += z[i] > answer;
        s->equal += z[i] == answer;
    }
}

struct lens_kernels_f64 lens_kernels_f64(void)
{
    return (struct lens_kernels_f64){ lens_stats_add_f64, lens_weights_f64, lens_max_f64 };
}

struct lens_kernels_f32 lens_kernels_f32(void)
{
#if defined(__x86_64__)
    if (isa_level() == ISA_LEVEL_V4)
        return (struct lens_kernels_f32){ lens_stats_add_v4, lens_weights_v4, lens_max_v4 };
    if (isa_level() == ISA_LEVEL_V3)
        return (struct lens_kernels_f32){ lens_stats_add_v3, lens_weights_v3, lens_max_v3 };
#endif
    return (struct lens_kernels_f32){ lens_stats_add_base, lens_weights_base, lens_max_base };
}
