/* The self-test of Strata's kernels passes here at every instruction set, and finds each kind of planted fault by name.
 */
#include "core/runtime/kernel_check.h"

#include "core/base/half.h"
#include "probes/lens_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The right kernels, for the wrong ones below. */
static struct kernel_set right;

static int set_up(void **state)
{
    (void)state;
    right = kernel_set();
    return 0;
}

static void all_levels_pass(void **state)
{
    (void)state;
    static const char *const names[] = { "base", "v3", "v4" };
    struct err err = { 0 };
    for (size_t i = 0; i < 3; i++) {
        setenv("STRATA_ISA", names[i], 1);
        const struct kernel_set set = kernel_set();
        const struct lens_kernels_f32 lens = lens_kernels_f32();
        if (kernel_check_set(&set, &err) || lens_check_kernels(&lens, &err))
            fail_msg("%s: %s", names[i], err.msg);
    }
    unsetenv("STRATA_ISA");
    assert_int_equal(kernel_check(&err), 0);
    assert_int_equal(kernel_check(&err), 0);
}

/* kernel_check_set must refuse the set and name the kernel. */
static void caught(const struct kernel_set *set, const char *name, const char *fault)
{
    struct err err = { 0 };
    if (kernel_check_set(set, &err) != ERR_CHECK || !strstr(err.msg, name) || !strstr(err.msg, "instruction set"))
        fail_msg("%s, %s: not caught by name: '%s'", name, fault, err.msg);
}

/* --- products --- */

enum product_fault {
    LAST_TAIL,      /* the last output of the last row */
    LAST_INPUT,     /* the last input is left out */
    NO_ACCUMULATE,  /* only the last part of many inputs */
    TRANSPOSED,     /* a square block of the result */
    NEXT_ROW,       /* the last row is the one before */
    STALE_PADDING,  /* what lies behind a row of x counts */
    WRITES_BEHIND,  /* a row of y is longer */
    HALF_PRECISION, /* what a product in bfloat16 would lose */
    N_PRODUCT_FAULTS
};
static enum product_fault product_fault;
static int only_major = -1; /* 0, 1: the fault is in one layout alone */

static void wrong_gemm(const struct gemm *g, float *scratch)
{
    struct gemm some = *g;
    float *last = g->y + (g->rows - 1) * g->y_stride;
    if (only_major >= 0 && g->in_major != (bool)only_major) {
        right.gemm(g, scratch);
        return;
    }
    if (product_fault == LAST_INPUT && g->n_in > 32)
        some.n_in--;
    if (product_fault == NO_ACCUMULATE && g->n_in > GEMM_INPUTS) {
        size_t first = 1040; /* about half, as gemm divides them */
        some.x += first;
        some.w += g->in_major ? first * g->w_stride : first;
        some.n_in -= first;
    }
    right.gemm(&some, scratch);
    switch (product_fault) {
    case LAST_TAIL:
        if (g->n_out % 16)
            last[g->n_out - 1] += 1e-3F;
        break;
    case TRANSPOSED:
        for (size_t i = 0; g->rows > 4 && g->n_out > 4 && i < 4; i++)
            for (size_t j = 0; j < i; j++) {
                float x = g->y[i * g->y_stride + j];
                g->y[i * g->y_stride + j] = g->y[j * g->y_stride + i];
                g->y[j * g->y_stride + i] = x;
            }
        break;
    case NEXT_ROW:
        if (g->rows > 32)
            memcpy(last, last - g->y_stride, g->n_out * sizeof *last);
        break;
    case STALE_PADDING:
        last[0] += g->x[g->n_in];
        break;
    case WRITES_BEHIND:
        last[g->n_out] = 0;
        break;
    case HALF_PRECISION:
        for (size_t o = 0; o < g->n_out; o++)
            last[o] = bf16_to_f32_one(bf16_from_f32_one(last[o]));
        break;
    default:
        break;
    }
}

static void wrong_products_are_caught(void **state)
{
    (void)state;
    struct kernel_set set = right;
    char fault[32];
    set.gemm = wrong_gemm;
    for (only_major = -1; only_major < 2; only_major++)
        for (int f = 0; f < N_PRODUCT_FAULTS; f++) {
            product_fault = (enum product_fault)f;
            snprintf(fault, sizeof fault, "fault %d, layout %d", f, only_major);
            caught(&set, only_major == 1 ? "product with a matrix [inputs, outputs]" : "product with a matrix [outputs",
                   fault);
        }
}

/* --- kernels of rows: each with the last number of a tail wrong, a number behind it written, the first one wrong ---
 */

enum place { AT_LAST, AT_FIRST, BEHIND, N_PLACES };
static enum place place;

/* Where the fault is meant to be: an n that is no whole number of vectors, or any. */
static void spoil(float *out, size_t n)
{
    if (place == AT_FIRST)
        out[0] += 1e-3F * (fabsf(out[0]) + 1);
    else if (place == BEHIND)
        out[n] = 0;
    else if (n % 16)
        out[n - 1] += 1e-3F * (fabsf(out[n - 1]) + 1);
}

static void wrong_stats(const float *x, size_t n, enum norm_kind kind, double eps, float *mean, float *scale)
{
    right.rows.norm_stats(x, n, kind, eps, mean, scale);
    if (place == AT_FIRST && kind == NORM_LAYER) /* a last number that does not count */
        right.rows.norm_stats(x, n > 16 ? n - 1 : n, kind, eps, mean, scale);
    if (place == AT_LAST && kind == NORM_RMS)
        *scale *= 1 + 1e-6F;
    if (place == BEHIND) /* the population's variance is asked for, not the sample's */
        *scale *= (float)sqrt((double)n / (double)(n > 1 ? n - 1 : 1));
}

static void wrong_normalize(const float *x, size_t n, float mean, float scale, float *out)
{
    right.rows.normalize(x, n, mean, scale, out);
    spoil(out, n);
}

static void wrong_gain_bias(const float *x, const float *gain, const float *bias, size_t n, float *out)
{
    right.rows.gain_bias(x, gain, bias, n, out);
    spoil(out, n);
}

static void wrong_add(const float *a, const float *b, size_t n, float *out)
{
    right.rows.add(a, b, n, out);
    spoil(out, n);
}

static void wrong_add_bias(float *x, const float *bias, size_t n)
{
    right.rows.add_bias(x, bias, n);
    spoil(x, n);
}

static void wrong_softmax(float *x, size_t n)
{
    right.rows.softmax(x, n);
    spoil(x, n);
}

static enum activation wrong_activation;

static void wrong_activate(enum activation kind, const float *pre, const float *linear, size_t n, float *out)
{
    right.rows.activate(kind, pre, linear, n, out);
    if (kind == wrong_activation)
        spoil(out, n);
}

static void wrong_rotate(float *x, const float *cosine, const float *sine, size_t half)
{
    right.rows.rotate(x, cosine, sine, half);
    spoil(x, 2 * half);
}

static void wrong_rotate_pairs(float *x, const float *cosine, const float *sine, size_t half)
{
    right.rows.rotate_pairs(x, cosine, sine, half);
    spoil(x, 2 * half);
}

static bool wrong_finite(const float *x, size_t n)
{
    return place == BEHIND ? n < 100 && right.rows.all_finite(x, n)
                           : right.rows.all_finite(x + (place == AT_FIRST), n - 1);
}

static void wrong_kernels_of_rows_are_caught(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct kernels_f32 rows; /* one of them is wrong, the others NULL */
    } faults[] = {
        { "statistics of ", { .norm_stats = wrong_stats } },
        { "normalisation", { .normalize = wrong_normalize } },
        { "gain and bias", { .gain_bias = wrong_gain_bias } },
        { "sum of rows", { .add = wrong_add } },
        { "sum with a bias", { .add_bias = wrong_add_bias } },
        { "softmax", { .softmax = wrong_softmax } },
        { "rotation of halves", { .rotate = wrong_rotate } },
        { "rotation of neighbours", { .rotate_pairs = wrong_rotate_pairs } },
        { "search for NaN", { .all_finite = wrong_finite } },
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const struct kernels_f32 *f = &faults[i].rows;
        struct kernel_set set = right;
#define TAKE(member) set.rows.member = f->member ? f->member : set.rows.member
        TAKE(norm_stats);
        TAKE(normalize);
        TAKE(gain_bias);
        TAKE(add);
        TAKE(add_bias);
        TAKE(softmax);
        TAKE(rotate);
        TAKE(rotate_pairs);
        TAKE(all_finite);
#undef TAKE
        for (int p = 0; p < N_PLACES; p++) {
            place = (enum place)p;
            caught(&set, faults[i].name, p == AT_LAST ? "last" : p == AT_FIRST ? "first" : "behind");
        }
    }
}

static void wrong_activations_are_caught(void **state)
{
    (void)state;
    static const char *const names[] = { [ACTIVATION_GELU_TANH] = "GELU (tanh)",
                                         [ACTIVATION_GELU_ERF] = "activation GELU:",
                                         [ACTIVATION_SILU] = "SiLU",
                                         [ACTIVATION_RELU] = "ReLU" };
    struct kernel_set set = right;
    set.rows.activate = wrong_activate;
    for (size_t i = 0; i < 4; i++)
        for (int p = 0; p < N_PLACES; p++) {
            wrong_activation = (enum activation)i;
            place = (enum place)p;
            caught(&set, names[i], "spoiled");
        }
}

/* --- halves and blocks --- */

/* Flushes subnormal numbers to zero. */
static void wrong_widen(float *dst, const void *src, size_t n)
{
    right.widen_half(dst, src, n);
    for (size_t i = 0; i < n; i++)
        dst[i] = fabsf(dst[i]) < 0x1p-14F ? 0 : dst[i];
}

static void wrong_widen_bf16(float *dst, const void *src, size_t n)
{
    right.widen_bf16(dst, src, n);
    dst[n - 1] = nextafterf(dst[n - 1], 9);
}

/* Truncates where it must round. */
static size_t wrong_narrow(uint16_t *dst, const float *src, size_t n)
{
    size_t bad = right.narrow_half(dst, src, n);
    for (size_t i = 0; i < n; i++)
        if (isfinite(src[i]) && fabsf(half_to_f32_one(dst[i])) > fabsf(src[i]))
            dst[i]--;
    return bad;
}

/* Does not tell that a number became infinite. */
static size_t wrong_narrow_bf16(uint16_t *dst, const float *src, size_t n)
{
    right.narrow_bf16(dst, src, n);
    return n;
}

static enum dtype wrong_type;

static void wrong_blocks(const struct tensor *t, size_t first, size_t n, float *dst)
{
    tensor_widen(t, first, n, dst);
    if (t->dtype == wrong_type)
        dst[n - 1] = nextafterf(dst[n - 1], 9);
}

static void wrong_halves_and_blocks_are_caught(void **state)
{
    (void)state;
    struct kernel_set set = right;
    set.widen_half = wrong_widen;
    caught(&set, "halves (F16)", "subnormal");
    set = right;
    set.narrow_half = wrong_narrow;
    caught(&set, "halves (F16)", "truncated");
    set = right;
    set.widen_bf16 = wrong_widen_bf16;
    caught(&set, "halves (BF16)", "last bit");
    set = right;
    set.narrow_bf16 = wrong_narrow_bf16;
    caught(&set, "halves (BF16)", "overflow");
    set = right;
    set.widen_blocks = wrong_blocks;
    for (wrong_type = DTYPE_Q4_0; wrong_type < N_DTYPES; wrong_type++) {
        char name[32];
        snprintf(name, sizeof name, "blocks of %s:", dtype_name(wrong_type));
        caught(&set, name, "last bit");
    }
}

/* --- the lens --- */

static struct lens_kernels_f32 right_lens;

enum lens_fault { TIE_MISSED, TAIL_LEFT_OUT, NOT_RAISED, REFERENCE_LEFT_OUT, N_LENS_FAULTS };
static enum lens_fault lens_fault;

static void wrong_add_logits(struct lens_stats *s, const float *z, size_t n, float top, float answer,
                             const float *reference, const float *weights)
{
    struct lens_stats before = *s;
    if (lens_fault == TAIL_LEFT_OUT && n > 16)
        n -= n % 16;
    right_lens.add(s, z, n, top, answer, lens_fault == REFERENCE_LEFT_OUT ? NULL : reference, weights);
    if (lens_fault == TIE_MISSED)
        s->equal = before.equal;
    if (lens_fault == NOT_RAISED && (double)top > before.max && before.sum > 0)
        s->sum += before.sum * (1 - exp(before.max - (double)top));
}

static float wrong_max(const float *z, size_t n)
{
    return right_lens.max(z, n > 16 ? n - n % 16 : n);
}

static void wrong_weights(const float *f, size_t n, double m, float *w)
{
    right_lens.weights(f, n, m, w);
    spoil(w, n);
}

static void caught_in_lens(const struct lens_kernels_f32 *k, const char *name)
{
    struct err err = { 0 };
    if (lens_check_kernels(k, &err) != ERR_CHECK || !strstr(err.msg, name))
        fail_msg("%s: not caught by name: '%s'", name, err.msg);
}

static void wrong_lens_kernels_are_caught(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_int_equal(lens_check(&err), 0);
    right_lens = lens_kernels_f32();
    struct lens_kernels_f32 k = right_lens;
    k.add = wrong_add_logits;
    for (int f = 0; f < N_LENS_FAULTS; f++) {
        lens_fault = (enum lens_fault)f;
        caught_in_lens(&k, "statistics of the lens");
    }
    k = right_lens;
    k.max = wrong_max;
    caught_in_lens(&k, "greatest logit of the lens");
    k = right_lens;
    k.weights = wrong_weights;
    for (int p = 0; p < N_PLACES; p++) {
        place = (enum place)p;
        caught_in_lens(&k, "weights of the lens");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_levels_pass),
        cmocka_unit_test(wrong_products_are_caught),
        cmocka_unit_test(wrong_kernels_of_rows_are_caught),
        cmocka_unit_test(wrong_activations_are_caught),
        cmocka_unit_test(wrong_halves_and_blocks_are_caught),
        cmocka_unit_test(wrong_lens_kernels_are_caught),
    };
    return cmocka_run_group_tests_name("kernel_check", tests, set_up, NULL);
}
