#include "core/runtime/kernel_check.h"

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/base/self_test.h"
#include "core/formats/dequant_isa.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- numbers --- */

enum { LONGEST = 100, PADDING = 3 };

/* Behind every result: whoever writes there is caught. */
static const float SENTINEL = 12345.0F;

static void fill(float *x, double *wide, size_t n, float spread, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)(x[i] = self_test_number(state) * spread);
}

static void set_all(float *x, size_t n, float to)
{
    for (size_t i = 0; i < n; i++)
        x[i] = to;
}

int kernel_is_wrong(const char *what, struct err *err)
{
    enum isa level = isa_level();
    return err_set(err, ERR_CHECK, "%s: wrong numbers here (instruction set %s): %s", what, isa_level_name(level),
                   level == ISA_LEVEL_BASE ? "build Strata with another compiler"
                                           : "set STRATA_ISA=base in the environment, and report it");
}

/* --- products --- */

/* Rows, outputs, inputs: around the tiles' 6 and 12, the panels' 16 and 32, the 256 rows and 2048 inputs of a part. */
static const size_t shapes[][3] = {
    { 1, 1, 1 },    { 2, 13, 17 },  { 5, 24, 64 },  { 7, 67, 5 },
    { 16, 12, 33 }, { 33, 27, 20 }, { 3, 7, 2051 }, { 259, 5, 3 },
};

struct product_room {
    float scratch[GEMM_PANEL * GEMM_INPUTS]; /* first, for its alignment */
    float x[3 * (2051 + PADDING)], w[2051 * (7 + PADDING)], y[259 * (5 + PADDING)];
};

static bool product_is_right(const struct gemm *g)
{
    for (size_t r = 0; r < g->rows; r++) {
        const float *y = g->y + r * g->y_stride;
        for (size_t o = 0; o < g->n_out; o++) {
            double sum = 0, size = 0;
            for (size_t i = 0; i < g->n_in; i++) {
                double term = (double)g->x[r * g->x_stride + i] *
                              (double)(g->in_major ? g->w[i * g->w_stride + o] : g->w[o * g->w_stride + i]);
                sum += term;
                size += fabs(term);
            }
            /* Sums in order, in float: eps sqrt(n) of the terms is typical, four times that is not. */
            if (!(fabs((double)y[o] - sum) <= 0x1p-24 * (2 + sqrt((double)g->n_in)) * 4 * size))
                return false;
        }
        for (size_t o = g->n_out; o < g->y_stride; o++)
            if (y[o] != SENTINEL)
                return false;
    }
    return true;
}

static int check_products(const struct kernel_set *set, struct err *err)
{
    struct product_room *room = mem_aligned(1, sizeof *room);
    uint64_t state = 1;
    int rc = 0;
    if (!room)
        return err_nomem(err, "the self-test of products");
    for (size_t s = 0; !rc && s < 2 * sizeof shapes / sizeof *shapes; s++) {
        const size_t *shape = shapes[s / 2];
        struct gemm g = { .x = room->x, .rows = shape[0], .w = room->w, .n_out = shape[1], .y = room->y };
        g.n_in = shape[2];
        g.in_major = s % 2;
        g.x_stride = g.n_in + PADDING;
        g.w_stride = (g.in_major ? g.n_out : g.n_in) + PADDING;
        g.y_stride = g.n_out + PADDING;
        /* What lies between the rows must not count. */
        size_t w_rows = g.in_major ? g.n_in : g.n_out;
        for (size_t i = 0; i < g.rows * g.x_stride; i++)
            room->x[i] = i % g.x_stride < g.n_in ? self_test_number(&state) : NAN;
        for (size_t i = 0; i < w_rows * g.w_stride; i++)
            room->w[i] = i % g.w_stride < g.w_stride - PADDING ? self_test_number(&state) : NAN;
        set_all(room->y, g.rows * g.y_stride, SENTINEL);
        set_all(room->scratch, gemm_scratch(g.rows, g.n_in), NAN);
        set->gemm(&g, room->scratch);
        if (!product_is_right(&g))
            rc = kernel_is_wrong(g.in_major ? "product with a matrix [inputs, outputs]"
                                            : "product with a matrix [outputs, inputs]",
                                 err);
    }
    free(room);
    return rc;
}

/* --- kernels of rows --- */

struct row_room {
    float x[LONGEST + PADDING], y[LONGEST + PADDING], gain[LONGEST], bias[LONGEST], out[2 * LONGEST + PADDING];
    double wx[LONGEST], wy[LONGEST], wgain[LONGEST], wbias[LONGEST], want[2 * LONGEST]; /* the same, widened */
};

/* |error| <= bound * max(|want|, size) for each of n, and nothing behind them. */
static bool near(const struct row_room *r, size_t n, double bound, double size)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)r->out[i] - r->want[i]) <= bound * fmax(fabs(r->want[i]), size)))
            return false;
    for (size_t i = n; i < n + PADDING; i++)
        if (r->out[i] != SENTINEL)
            return false;
    return true;
}

static void clear(struct row_room *r)
{
    set_all(r->out, sizeof r->out / sizeof *r->out, SENTINEL);
}

static int check_norms(const struct kernels_f32 *k, struct row_room *r, size_t n, struct err *err)
{
    for (int kind = NORM_LAYER; kind <= NORM_RMS; kind++) {
        float mean, scale;
        double want_mean, want_scale;
        k->norm_stats(r->x, n, (enum norm_kind)kind, 1e-5, &mean, &scale);
        kernels_f64()->norm_stats(r->wx, n, (enum norm_kind)kind, 1e-5, &want_mean, &want_scale);
        if (!(fabs((double)mean - want_mean) <= 2e-7 * fabs(want_mean)) ||
            !(fabs((double)scale - want_scale) <= 2e-7 * want_scale))
            return kernel_is_wrong(kind == NORM_LAYER ? "statistics of LayerNorm" : "statistics of RMSNorm", err);
    }
    clear(r);
    k->normalize(r->x, n, 0.25F, 1.75F, r->out);
    kernels_f64()->normalize(r->wx, n, 0.25, 1.75, r->want);
    if (!near(r, n, 3e-7, 1))
        return kernel_is_wrong("normalisation", err);
    for (int biased = 0; biased < 2; biased++) {
        clear(r);
        k->gain_bias(r->x, r->gain, biased ? r->bias : NULL, n, r->out);
        kernels_f64()->gain_bias(r->wx, r->gain, biased ? r->bias : NULL, n, r->want);
        if (!near(r, n, 3e-7, 3))
            return kernel_is_wrong("gain and bias", err);
    }
    return 0;
}

static int check_sums(const struct kernels_f32 *k, struct row_room *r, size_t n, struct err *err)
{
    clear(r);
    k->add(r->x, r->y, n, r->out);
    kernels_f64()->add(r->wx, r->wy, n, r->want);
    if (!near(r, n, 3e-7, 1))
        return kernel_is_wrong("sum of rows", err);
    clear(r);
    memcpy(r->out, r->x, n * sizeof *r->x);
    memcpy(r->want, r->wx, n * sizeof *r->wx);
    k->add_bias(r->out, r->bias, n);
    kernels_f64()->add_bias(r->want, r->bias, n);
    return near(r, n, 3e-7, 1) ? 0 : kernel_is_wrong("sum with a bias", err);
}

static int check_softmax(const struct kernels_f32 *k, struct row_room *r, size_t n, struct err *err)
{
    clear(r);
    for (size_t i = 0; i < n; i++)
        r->want[i] = (double)(r->out[i] = 8 * r->x[i]);
    if (n > 4)
        r->want[3] = (double)(r->out[3] = -INFINITY); /* a hidden edge */
    k->softmax(r->out, n);
    kernels_f64()->softmax(r->want, n);
    /* Relative to each weight: 6e-8 of the logits' differences, up to 50, and 3e-7 (test_kernels.c). */
    return near(r, n, 4e-6, 0) ? 0 : kernel_is_wrong("softmax", err);
}

static int check_activations(const struct kernels_f32 *k, struct row_room *r, size_t n, struct err *err)
{
    static const char *const names[] = { [ACTIVATION_GELU_TANH] = "activation GELU (tanh)",
                                         [ACTIVATION_GELU_ERF] = "activation GELU",
                                         [ACTIVATION_SILU] = "activation SiLU",
                                         [ACTIVATION_RELU] = "activation ReLU" };
    for (size_t kind = 0; kind < sizeof names / sizeof *names; kind++)
        for (int gated = 0; gated < 2; gated++) {
            clear(r);
            k->activate((enum activation)kind, r->x, gated ? r->y : NULL, n, r->out);
            kernels_f64()->activate((enum activation)kind, r->wx, gated ? r->wy : NULL, n, r->want);
            if (!near(r, n, 2e-6, 1e-2))
                return kernel_is_wrong(names[kind], err);
        }
    return 0;
}

/* Cosines and sines of no angle: each must be read in its place. */
static int check_rotations(const struct kernels_f32 *k, struct row_room *r, size_t half, struct err *err)
{
    for (int pairs = 0; pairs < 2; pairs++) {
        clear(r);
        for (size_t i = 0; i < 2 * half; i++)
            r->want[i] = (double)(r->out[i] = i < half ? r->x[i] : r->y[i - half]);
        if (pairs) {
            k->rotate_pairs(r->out, r->gain, r->bias, half);
            kernels_f64()->rotate_pairs(r->want, r->wgain, r->wbias, half);
        } else {
            k->rotate(r->out, r->gain, r->bias, half);
            kernels_f64()->rotate(r->want, r->wgain, r->wbias, half);
        }
        if (!near(r, 2 * half, 3e-7, 10))
            return kernel_is_wrong(pairs ? "rotation of neighbours" : "rotation of halves", err);
    }
    return 0;
}

/* Every place is looked at. */
static int check_finite(const struct kernels_f32 *k, struct row_room *r, size_t n, struct err *err)
{
    bool right = k->all_finite(r->x, n);
    for (size_t i = 0; right && i < n; i++) {
        float x = r->x[i];
        r->x[i] = i % 2 ? NAN : -INFINITY;
        right = !k->all_finite(r->x, n);
        r->x[i] = x;
    }
    return right ? 0 : kernel_is_wrong("search for NaN and infinity", err);
}

static int check_rows(const struct kernel_set *set, struct err *err)
{
    /* Parts of a vector of 4, 8 or 16, one, several, and all of these with a tail. */
    static const size_t sizes[] = { 1, 3, 8, 15, 16, 33, 100 };
    const struct kernels_f32 *k = &set->rows;
    struct row_room r;
    uint64_t state = 2;
    int rc = 0;
    for (size_t s = 0; !rc && s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        fill(r.x, r.wx, n, 3, &state);
        fill(r.y, r.wy, n, 3, &state);
        fill(r.gain, r.wgain, n, 2, &state);
        fill(r.bias, r.wbias, n, 2, &state);
        rc = check_norms(k, &r, n, err);
        rc = rc ? rc : check_sums(k, &r, n, err);
        rc = rc ? rc : check_softmax(k, &r, n, err);
        rc = rc ? rc : check_activations(k, &r, n, err);
        rc = rc ? rc : check_finite(k, &r, n, err);
        rc = rc ? rc : check_rotations(k, &r, n, err);
    }
    return rc;
}

/* --- halves --- */

/* By definition: sign, exponent, mantissa. */
static double half_value(unsigned h)
{
    int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    double size = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -size : size;
}

static double bf16_value(unsigned h)
{
    int exponent = (int)(h >> 7 & 255), mantissa = (int)(h & 127);
    double size = exponent ? ldexp(128 + mantissa, exponent - 134) : ldexp(mantissa, -133);
    return h & 0x8000 ? -size : size;
}

/* Each `step`th finite half, up to the largest, of both signs; of each the value, and half the way to the next. */
struct halves {
    double (*value)(unsigned h);
    unsigned largest, step;
    void (*widen)(float *dst, const void *src, size_t n);
    size_t (*narrow)(uint16_t *dst, const float *src, size_t n);
    const char *name;
};

static bool halves_are_right(const struct halves *t)
{
    enum { N = 35 };
    for (unsigned first = 0; first <= t->largest; first += N * t->step) {
        uint16_t h[N], back[N];
        float x[N], between[N];
        for (unsigned i = 0; i < N; i++) {
            unsigned size = first + i * t->step < t->largest ? first + i * t->step : t->largest - 1;
            h[i] = (uint16_t)(size | (i & 1) << 15);
            between[i] = (float)((t->value(h[i]) + t->value(h[i] + 1U)) / 2);
        }
        t->widen(x, h, N);
        for (unsigned i = 0; i < N; i++)
            if ((double)x[i] != t->value(h[i]))
                return false;
        if (t->narrow(back, x, N) != N || memcmp(back, h, sizeof h) || t->narrow(back, between, N) != N)
            return false;
        for (unsigned i = 0; i < N; i++)
            if (back[i] != h[i] + (h[i] & 1)) /* a tie goes to the even one */
                return false;
        between[N - 2] = (float)((t->value(t->largest) + t->value(t->largest + 1)) / 2); /* rounds to infinity */
        if (t->narrow(back, between, N) != N - 2)
            return false;
    }
    return true;
}

static int check_halves(const struct kernel_set *set, struct err *err)
{
    const struct halves types[] = {
        { half_value, 0x7bff, 61, set->widen_half, set->narrow_half, "halves (F16)" },
        { bf16_value, 0x7f7f, 61, set->widen_bf16, set->narrow_bf16, "halves (BF16)" },
    };
    for (size_t i = 0; i < 2; i++)
        if (!halves_are_right(&types[i]))
            return kernel_is_wrong(types[i].name, err);
    return 0;
}

/* --- quantised blocks --- */

static int check_blocks(const struct kernel_set *set, struct err *err)
{
    enum { N = 3, MOST_BYTES = 210, MOST_ELEMENTS = 256 };
    static const struct {
        enum dtype type;
        dequant_blocks *plain;
    } types[] = {
        { DTYPE_Q4_0, dequant_q4_0_base }, { DTYPE_Q4_1, dequant_q4_1_base }, { DTYPE_Q5_0, dequant_q5_0_base },
        { DTYPE_Q5_1, dequant_q5_1_base }, { DTYPE_Q8_0, dequant_q8_0_base }, { DTYPE_Q4_K, dequant_q4_k_base },
        { DTYPE_Q5_K, dequant_q5_k_base }, { DTYPE_Q6_K, dequant_q6_k_base }, { DTYPE_IQ4_NL, dequant_iq4_nl_base },
    };
    uint64_t state = 3;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        unsigned char bytes[N * MOST_BYTES];
        float got[N * MOST_ELEMENTS + PADDING], want[N * MOST_ELEMENTS];
        size_t n = N * dtype_block_elements(types[i].type), size = dtype_block_bytes(types[i].type);
        struct tensor t = { .dtype = types[i].type, .data = bytes, .n = n, .bytes = N * size };
        char what[40];
        /* Bits 6 and 14 off: wherever its two bytes lie, no half is infinite or NaN. */
        for (size_t b = 0; b < N * size; b++)
            bytes[b] = (unsigned char)((int)(self_test_number(&state) * 128) & 0xbf);
        set_all(got, n + PADDING, SENTINEL);
        set->widen_blocks(&t, 0, n, got);
        types[i].plain(want, bytes, N);
        bool right = got[n] == SENTINEL && got[n + 1] == SENTINEL && got[n + 2] == SENTINEL;
        for (size_t e = 0; right && e < n; e++)
            right = got[e] == want[e]; /* 0 and -0 are the same weight */
        snprintf(what, sizeof what, "blocks of %s", dtype_name(types[i].type));
        if (!right)
            return kernel_is_wrong(what, err);
    }
    return 0;
}

/* --- all of them --- */

struct kernel_set kernel_set(void)
{
    return (struct kernel_set){
        .gemm = gemm,
        .rows = *kernels_f32(),
        .widen_half = half_to_f32,
        .widen_bf16 = bf16_to_f32,
        .narrow_half = half_from_f32,
        .narrow_bf16 = bf16_from_f32,
        .widen_blocks = tensor_widen,
    };
}

const char *kernel_check_names(void)
{
    return "products, norms, sums, softmax, activations, rotations, halves, quantised blocks";
}

int kernel_check_set(const struct kernel_set *set, struct err *err)
{
    int rc = check_products(set, err);
    rc = rc ? rc : check_rows(set, err);
    rc = rc ? rc : check_halves(set, err);
    return rc ? rc : check_blocks(set, err);
}

static int check(struct err *err)
{
    const struct kernel_set set = kernel_set();
    return kernel_check_set(&set, err);
}

int kernel_check(struct err *err)
{
    static struct self_test test = SELF_TEST(check);
    return self_test(&test, err);
}
