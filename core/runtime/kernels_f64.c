/* Double row kernels on libm, and the choice of the float32 table. */
#include "core/runtime/kernels.h"

#include <math.h>
#include <string.h>

static void norm_stats(const double *x, size_t n, enum norm_kind kind, double eps, double *mean, double *scale)
{
    double m = 0, squares = 0;
    if (kind == NORM_LAYER) {
        for (size_t i = 0; i < n; i++)
            m += x[i];
        m /= (double)n;
    }
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - m) * (x[i] - m);
    *mean = m;
    *scale = sqrt(squares / (double)n + eps);
}

static void normalize(const double *x, size_t n, double mean, double scale, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (x[i] - mean) / scale;
}

static void gain_bias(const double *x, const float *gain, const float *bias, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * (double)gain[i] + (bias ? (double)bias[i] : 0);
}

static void add(const double *a, const double *b, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_bias(double *x, const float *bias, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += (double)bias[i];
}

static void softmax(double *x, size_t n)
{
    double top = -INFINITY, total = 0;
    for (size_t i = 0; i < n; i++)
        top = x[i] > top || isnan(x[i]) ? x[i] : top;
    if (top == -INFINITY) {
        memset(x, 0, n * sizeof *x);
        return;
    }
    for (size_t i = 0; i < n; i++)
        total += x[i] = exp(x[i] - top);
    for (size_t i = 0; i < n; i++)
        x[i] /= total;
}

static double activation(enum activation kind, double x)
{
    switch (kind) {
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case ACTIVATION_GELU_ERF:
        return 0.5 * x * (1 + erf(x * 0.70710678118654752));
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x; /* NaN stays */
    }
    return NAN;
}

static void activate(enum activation kind, const double *pre, const double *linear, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = activation(kind, pre[i]) * (linear ? linear[i] : 1);
}

static void rotate(double *x, const double *cosine, const double *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        double a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void rotate_pairs(double *x, const double *cosine, const double *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        double a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
}

static bool all_finite(const double *x, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= isfinite(x[i]) != 0;
    return finite;
}

static const struct kernels_f64 table = {
    norm_stats, normalize, gain_bias, add, add_bias, softmax, activate, rotate, rotate_pairs, all_finite,
};

const struct kernels_f64 *kernels_f64(void)
{
    return &table;
}

const struct kernels_f32 *kernels_f32(void)
{
#if defined(__x86_64__)
    switch (isa_level()) {
    case ISA_LEVEL_V4:
        return &kernels_table_v4;
    case ISA_LEVEL_V3:
        return &kernels_table_v3;
    default:
        break;
    }
#endif
    return &kernels_table_base;
}
