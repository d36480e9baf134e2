/*
 * Streaming statistics of one row of logits, block by block of the vocabulary,
 * for logit_lens.c. float32 is compiled per instruction set, double is plain C.
 */
#ifndef STRATA_PROBES_LENS_STATS_H
#define STRATA_PROBES_LENS_STATS_H

#include "core/base/isa.h"

#include <stddef.h>
#include <stdint.h>

/* With m = max so far; sums over the tokens seen. */
struct lens_stats {
    double max;             /* m; -infinity before the first block */
    double sum;             /* S = sum e^(z - m) */
    double weighted;        /* sum e^(z - m) (z - m): entropy = log S - weighted / S */
    double cross;           /* sum e^(f - m_f) (f - z) of the reference logits f: KL = cross / S_f - lse_f + lse */
    int64_t greater, equal; /* tokens whose logit is above, equal to the answer's (the answer itself counts as equal) */
};

/*
 * Adds n logits z, the greatest of which is `top` (lens_max). `answer` is the answer's logit (NaN: none). `reference`
 * f[n] and its weights w[n] = e^(f - m_f) serve `cross`; the caller rescales `cross` when m_f moves. `reference` NULL:
 * that of z itself, to which it is 0.
 */
#define LENS_STATS_DECLARE(suffix, real)                                                                               \
    void lens_stats_add_##suffix(struct lens_stats *s, const real *z, size_t n, real top, real answer,                 \
                                 const real *reference, const real *weights);                                          \
    /* w[i] = e^(f[i] - m) */                                                                                          \
    void lens_weights_##suffix(const real *f, size_t n, double m, real *w);                                            \
    real lens_max_##suffix(const real *z, size_t n);

/* Makes room for a greater maximum `top`: e^(z-m) and (z-m) both move with m. */
static inline void lens_stats_raise(struct lens_stats *s, double top, double (*exp_of)(double))
{
    if (top <= s->max)
        return;
    double shift = s->max - top, factor = s->sum > 0 ? exp_of(shift) : 0;
    s->weighted = s->sum > 0 ? factor * (s->weighted + shift * s->sum) : 0;
    s->sum *= factor;
    s->max = top;
}

LENS_STATS_DECLARE(base, float)
#if defined(__x86_64__)
LENS_STATS_DECLARE(v3, float)
LENS_STATS_DECLARE(v4, float)
#endif
LENS_STATS_DECLARE(f64, double)

#define LENS_KERNELS(real)                                                                                             \
    void (*add)(struct lens_stats * s, const real *z, size_t n, real top, real answer, const real *reference,          \
                const real *weights);                                                                                  \
    void (*weights)(const real *f, size_t n, double m, real *w);                                                       \
    real (*max)(const real *z, size_t n);

struct lens_kernels_f32 {
    LENS_KERNELS(float)
};
struct lens_kernels_f64 {
    LENS_KERNELS(double)
};
/* Those in use. */
struct lens_kernels_f32 lens_kernels_f32(void);
struct lens_kernels_f64 lens_kernels_f64(void);

#endif
