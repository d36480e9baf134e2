/* float32 row kernels, compiled once per instruction set (core/base/isa.h). */
#include "core/runtime/kernels.h"
#include "core/runtime/vec.h"

#include <math.h>

static double sum(const float *x, size_t n)
{
    dvec acc[2] = { { 0 }, { 0 } };
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        vec_accumulate(acc, vec_load(x + i));
    double total = vec_total(acc);
    for (; i < n; i++)
        total += (double)x[i];
    return total;
}

static double sum_of_squares(const float *x, size_t n, double mean)
{
    dvec acc[2] = { { 0 }, { 0 } };
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        for (int part = 0; part < 2; part++) {
            vec_half h;
            memcpy(&h, x + i + part * (VEC_LANES / 2), sizeof h);
            dvec d = __builtin_convertvector(h, dvec) - mean;
            acc[part] += d * d;
        }
    double total = vec_total(acc);
    for (; i < n; i++)
        total += ((double)x[i] - mean) * ((double)x[i] - mean);
    return total;
}

static void norm_stats(const float *x, size_t n, enum norm_kind kind, double eps, float *mean, float *scale)
{
    double m = kind == NORM_LAYER ? sum(x, n) / (double)n : 0;
    *mean = (float)m;
    *scale = (float)sqrt(sum_of_squares(x, n, m) / (double)n + eps);
}

static void normalize(const float *x, size_t n, float mean, float scale, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (x[i] - mean) / scale;
}

static void gain_bias(const float *x, const float *gain, const float *bias, size_t n, float *out)
{
    if (bias)
        for (size_t i = 0; i < n; i++)
            out[i] = x[i] * gain[i] + bias[i];
    else
        for (size_t i = 0; i < n; i++)
            out[i] = x[i] * gain[i];
}

static void add(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void add_bias(float *x, const float *bias, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += bias[i];
}

/* A last partial vector, its missing lanes filled. */
static inline vec load_tail(const float *x, size_t n, float fill)
{
    float lanes[VEC_LANES];
    for (size_t i = 0; i < VEC_LANES; i++)
        lanes[i] = i < n ? x[i] : fill;
    return vec_load(lanes);
}

static inline void store_tail(float *x, size_t n, vec v)
{
    memcpy(x, &v, n * sizeof *x);
}

static bool any_lane(ivec mask)
{
    int32_t any = 0;
    for (int i = 0; i < VEC_LANES; i++)
        any |= mask[i];
    return any != 0;
}

static void softmax(float *x, size_t n)
{
    vec m = vec_all(-INFINITY);
    ivec odd = { 0 }; /* NaN or inf, which comparisons and vec_exp would turn into numbers */
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) {
        vec v = vec_load(x + i);
        odd |= ~(v < vec_all(INFINITY));
        m = vec_max(v, m);
    }
    vec tail = load_tail(x + i, n - i, -INFINITY);
    odd |= ~(tail < vec_all(INFINITY));
    m = vec_max(tail, m);
    if (any_lane(odd)) {
        for (i = 0; i < n; i++)
            x[i] = NAN;
        return;
    }
    float top = vec_max_lane(m);
    if (top == -INFINITY) {
        memset(x, 0, n * sizeof *x);
        return;
    }
    dvec acc[2] = { { 0 }, { 0 } };
    for (i = 0; i + VEC_LANES <= n; i += VEC_LANES) {
        vec e = vec_exp(vec_load(x + i) - vec_all(top));
        vec_accumulate(acc, e);
        vec_store(x + i, e);
    }
    if (i < n) {
        vec e = vec_exp(load_tail(x + i, n - i, -INFINITY) - vec_all(top));
        vec_accumulate(acc, e);
        store_tail(x + i, n - i, e);
    }
    float inverse = (float)(1 / vec_total(acc));
    for (i = 0; i < n; i++)
        x[i] *= inverse;
}

/* 1 / (1 + e^-x); the clamp keeps e^-x finite, where the quotient is below 1e-37 anyway. */
static inline vec sigmoid(vec x)
{
    vec negative = vec_select(x < vec_all(-87.0f), vec_all(87.0f), (vec){ 0 } - x);
    return vec_all(1) / (vec_all(1) + vec_exp(negative));
}

static inline vec silu(vec x)
{
    return x * sigmoid(x);
}

/* 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks, Gimpel 2016). */
static inline vec gelu_tanh(vec x)
{
    vec u2 = vec_all(1.5957691216f) * x * (vec_all(1) + vec_all(0.044715f) * x * x);
    return x * sigmoid(u2);
}

static inline vec relu(vec x)
{
    return vec_select(x < vec_all(0), vec_all(0), x); /* NaN stays */
}

#define ACTIVATE(fn)                                                                                                   \
    do {                                                                                                               \
        size_t i = 0;                                                                                                  \
        for (; i + VEC_LANES <= n; i += VEC_LANES) {                                                                   \
            vec y = fn(vec_load(pre + i));                                                                             \
            vec_store(out + i, linear ? y * vec_load(linear + i) : y);                                                 \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            vec y = fn(load_tail(pre + i, n - i, 0));                                                                  \
            store_tail(out + i, n - i, linear ? y * load_tail(linear + i, n - i, 0) : y);                              \
        }                                                                                                              \
    } while (0)

static void activate(enum activation kind, const float *pre, const float *linear, size_t n, float *out)
{
    switch (kind) {
    case ACTIVATION_SILU:
        ACTIVATE(silu);
        break;
    case ACTIVATION_GELU_TANH:
        ACTIVATE(gelu_tanh);
        break;
    case ACTIVATION_RELU:
        ACTIVATE(relu);
        break;
    case ACTIVATION_GELU_ERF:
        for (size_t i = 0; i < n; i++) {
            double x = (double)pre[i];
            float y = (float)(0.5 * x * (1 + erf(x * 0.70710678118654752)));
            out[i] = linear ? y * linear[i] : y;
        }
        break;
    }
}

static void rotate(float *x, const float *cosine, const float *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void rotate_pairs(float *x, const float *cosine, const float *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
}

static bool all_finite(const float *x, size_t n)
{
    ivec bad = { 0 };
    const ivec exponent = 0x7f800000 - (ivec){ 0 };
    size_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        bad |= ((ivec)vec_load(x + i) & exponent) == exponent;
    bad |= ((ivec)load_tail(x + i, n - i, 0) & exponent) == exponent;
    int any = 0;
    for (int lane = 0; lane < VEC_LANES; lane++)
        any |= bad[lane];
    return !any;
}

const struct kernels_f32 ISA_NAME(kernels_table) = {
    norm_stats, normalize, gain_bias, add, add_bias, softmax, activate, rotate, rotate_pairs, all_finite,
};
