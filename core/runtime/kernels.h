/*
 * The row kernels of the forward pass: everything that is neither a GEMM nor
 * attention's bookkeeping. float32 kernels are vectorised and compiled per
 * instruction set (kernels_isa.c); the double ones are plain C on libm
 * (kernels_f64.c) and serve as the oracle of the former.
 *
 *     const struct kernels_f32 *k = kernels_f32();
 *     k->softmax(row, n_keys);
 *
 * Error bounds stated here are measured by tests/unit/test_kernels.c.
 */
#ifndef STRATA_RUNTIME_KERNELS_H
#define STRATA_RUNTIME_KERNELS_H

#include "core/base/isa.h"
#include "core/model/model.h"

#include <stdbool.h>
#include <stddef.h>

#define KERNELS(real)                                                                                                  \
    /* LayerNorm: mean and sqrt(variance + eps); RMSNorm: mean 0 and sqrt(mean square + eps). Sums in double. */       \
    void (*norm_stats)(const real *x, size_t n, enum norm_kind kind, double eps, real *mean, real *scale);             \
    /* out = (x - mean) / scale; out may be x */                                                                       \
    void (*normalize)(const real *x, size_t n, real mean, real scale, real *out);                                      \
    /* out = x * gain + bias; bias may be NULL, out may be x */                                                        \
    void (*gain_bias)(const real *x, const float *gain, const float *bias, size_t n, real *out);                       \
    void (*add)(const real *a, const real *b, size_t n, real *out);                                                    \
    void (*add_bias)(real * x, const float *bias, size_t n);                                                           \
    /* in place; -inf becomes 0; a row of -inf only becomes all 0; NaN or inf makes all NaN. Sum in double */          \
    void (*softmax)(real * x, size_t n);                                                                               \
    /* out = activation(pre) [* linear]; linear may be NULL, out may be pre */                                         \
    void (*activate)(enum activation kind, const real *pre, const real *linear, size_t n, real *out);                  \
    /* rotates the pairs (x[i], x[i + half]) by the angles whose cosines and sines are given (half-split layout) */    \
    void (*rotate)(real * x, const real *cosine, const real *sine, size_t half);                                       \
    /* rotates the neighbours (x[2i], x[2i + 1]) */                                                                    \
    void (*rotate_pairs)(real * x, const real *cosine, const real *sine, size_t half);                                 \
    bool (*all_finite)(const real *x, size_t n);

struct kernels_f32 {
    KERNELS(float)
};
struct kernels_f64 {
    KERNELS(double)
};

/* The best table for this CPU (core/base/isa.h); constant data. */
const struct kernels_f32 *kernels_f32(void);
const struct kernels_f64 *kernels_f64(void);

extern const struct kernels_f32 kernels_table_base;
#if defined(__x86_64__)
extern const struct kernels_f32 kernels_table_v3, kernels_table_v4;
#endif

#endif
