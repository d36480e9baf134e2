/*
 * The float32 row kernels of every instruction set at hand against the double
 * ones, which are plain C on libm. Tolerances are the bounds stated in
 * kernels.h and vec.h, in units of the row's largest value unless said.
 */
#include "core/base/mem.h"
#include "core/runtime/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 1000 };

/* The tables that this CPU can run. */
static size_t tables(const struct kernels_f32 *out[3])
{
    size_t n = 0;
    out[n++] = &kernels_table_base;
#if defined(__x86_64__)
    if (isa_level() >= ISA_LEVEL_V3)
        out[n++] = &kernels_table_v3;
    if (isa_level() >= ISA_LEVEL_V4)
        out[n++] = &kernels_table_v4;
#endif
    return n;
}

/* splitmix64; uniform in [-1, 1) */
static double draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1;
}

static void fill(float *x, double *wide, size_t n, double spread, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(draw(&seed) * spread);
        wide[i] = (double)x[i];
    }
}

/* Largest |a - b| / max(|b|, floor). */
static double worst(const float *a, const double *b, size_t n, double floor)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double size = fabs(b[i]) > floor ? fabs(b[i]) : floor, e = fabs((double)a[i] - b[i]) / size;
        most = e > most || isnan(e) ? e : most;
    }
    return most;
}

/*
 * Softmax in fp32 against double: exp 2e-7, the quotient 6e-8, and the rounding of x - max, 6e-8 of that difference,
 * which is the logarithm of the weight relative to the largest.
 */
static bool softmax_close(const float *a, const double *b, size_t n)
{
    double top = 0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, b[i]);
    for (size_t i = 0; i < n; i++)
        if (fabs((double)a[i] - b[i]) > b[i] * (3e-7 + 6e-8 * log(top / fmax(b[i], 1e-300))))
            return false;
    return true;
}

static const size_t sizes[] = { 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 576, 999 };
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void softmax_matches_libm(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t s = 0; s < N_SIZES; s++) {
            float x[MOST];
            double wide[MOST];
            fill(x, wide, sizes[s], 30, 7 + s);
            if (sizes[s] > 4) /* a hidden edge */
                wide[3] = x[3] = -INFINITY;
            table[t]->softmax(x, sizes[s]);
            kernels_f64()->softmax(wide, sizes[s]);
            assert_true(softmax_close(x, wide, sizes[s]));
            if (sizes[s] > 4)
                assert_true(x[3] == 0);
        }
}

static void softmax_passes_on_what_is_no_number(void **state)
{
    (void)state;
    const float odd[] = { NAN, INFINITY, -NAN };
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t s = 0; s < N_SIZES; s++)
            for (size_t at = 0; at < sizes[s]; at += 1 + at / 3)
                for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
                    float x[MOST];
                    double wide[MOST];
                    fill(x, wide, sizes[s], 3, 9);
                    wide[at] = (double)(x[at] = odd[k]);
                    table[t]->softmax(x, sizes[s]);
                    kernels_f64()->softmax(wide, sizes[s]);
                    assert_false(table[t]->all_finite(x, sizes[s]));
                    assert_false(kernels_f64()->all_finite(wide, sizes[s]));
                }
}

static void softmax_of_nothing_visible_is_zero(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++) {
        float x[20];
        for (size_t i = 0; i < 20; i++)
            x[i] = -INFINITY;
        table[t]->softmax(x, 20);
        for (size_t i = 0; i < 20; i++)
            assert_true(x[i] == 0);
    }
}

static void activations_match_libm(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    const enum activation kinds[] = { ACTIVATION_GELU_TANH, ACTIVATION_GELU_ERF, ACTIVATION_SILU, ACTIVATION_RELU };
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t k = 0; k < 4; k++)
            for (double spread = 1e-3; spread < 200; spread *= 3) {
                float x[MOST], y[MOST];
                double wide[MOST];
                fill(x, wide, 999, spread, 99 + k);
                table[t]->activate(kinds[k], x, NULL, 999, y);
                kernels_f64()->activate(kinds[k], wide, NULL, 999, wide);
                /* Below 1e-5 the tails of GELU lose relative precision in any fp32 form. */
                assert_true(worst(y, wide, 999, 1e-5) < 2e-6);
                double most = 0;
                for (size_t i = 0; i < 999; i++)
                    most = fmax(most, fabs((double)y[i] - wide[i]) / fmax(1e-30, fabs((double)x[i])));
                assert_true(most < 3e-7); /* relative to the input, everywhere */
            }
}

static void activation_multiplies_the_linear_branch(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t s = 0; s < N_SIZES; s++) {
            float x[MOST], up[MOST];
            double wide[MOST], wide_up[MOST];
            fill(x, wide, sizes[s], 3, 5);
            fill(up, wide_up, sizes[s], 3, 6);
            table[t]->activate(ACTIVATION_SILU, x, up, sizes[s], x);
            kernels_f64()->activate(ACTIVATION_SILU, wide, wide_up, sizes[s], wide);
            assert_true(worst(x, wide, sizes[s], 1e-6) < 1e-6);
        }
}

static void norms_match_double_sums(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t s = 0; s < N_SIZES; s++)
            for (int kind = NORM_LAYER; kind <= NORM_RMS; kind++) {
                float x[MOST], gain[MOST], bias[MOST], mean, scale;
                double wide[MOST], unused[MOST], mean64, scale64;
                size_t n = sizes[s];
                fill(x, wide, n, 50, 11 + s);
                for (size_t i = 0; i < n; i++)
                    wide[i] = x[i] += 300; /* a large mean: one-pass variance would cancel */
                fill(gain, unused, n, 2, 12);
                fill(bias, unused, n, 2, 13);
                table[t]->norm_stats(x, n, (enum norm_kind)kind, 1e-5, &mean, &scale);
                kernels_f64()->norm_stats(wide, n, (enum norm_kind)kind, 1e-5, &mean64, &scale64);
                assert_true(fabs((double)scale - scale64) <= 1e-7 * scale64);
                assert_true(fabs((double)mean - mean64) <= 1e-7 * fabs(mean64));
                if (n < 7 && kind == NORM_LAYER)
                    continue; /* x - mean cancels to nothing in a tiny row */
                table[t]->normalize(x, n, mean, scale, x);
                table[t]->gain_bias(x, gain, bias, n, x);
                kernels_f64()->normalize(wide, n, mean64, scale64, wide);
                kernels_f64()->gain_bias(wide, gain, bias, n, wide);
                /* mean rounds to fp32: 300 * 6e-8 / scale 30 */
                assert_true(worst(x, wide, n, 1) < 4e-6);
            }
}

static void rotation_matches_and_keeps_length(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t half = 1; half < 70; half += 3) {
            float x[140], cosine[70], sine[70];
            double wide[140], wide_cosine[70], wide_sine[70], before = 0, after = 0;
            uint64_t seed = 3;
            fill(x, wide, 2 * half, 1, half);
            for (size_t i = 0; i < half; i++) {
                double angle = 4 * draw(&seed);
                wide_cosine[i] = cosine[i] = (float)cos(angle);
                wide_sine[i] = sine[i] = (float)sin(angle);
            }
            for (size_t i = 0; i < 2 * half; i++)
                before += wide[i] * wide[i];
            table[t]->rotate(x, cosine, sine, half);
            kernels_f64()->rotate(wide, wide_cosine, wide_sine, half);
            assert_true(worst(x, wide, 2 * half, 1) < 2e-7);
            for (size_t i = 0; i < 2 * half; i++)
                after += (double)x[i] * (double)x[i];
            assert_true(fabs(after - before) < 1e-6 * before + 1e-12);
        }
}

static void one_odd_number_is_found_anywhere(void **state)
{
    (void)state;
    const struct kernels_f32 *table[3];
    const float odd[] = { NAN, INFINITY, -INFINITY };
    for (size_t t = 0, n_tables = tables(table); t < n_tables; t++)
        for (size_t n = 1; n < 70; n++) {
            float x[70] = { 0 };
            assert_true(table[t]->all_finite(x, n));
            for (size_t i = 0; i < n; i++) {
                x[i] = odd[i % 3];
                assert_false(table[t]->all_finite(x, n));
                x[i] = 3e38f;
            }
            assert_true(table[t]->all_finite(x, n));
        }
}

/* The comparison itself must be able to fail: one value off by 1e-6 is seen. */
static void a_planted_fault_is_caught(void **state)
{
    (void)state;
    float x[64];
    double wide[64];
    fill(x, wide, 64, 30, 1);
    kernels_f32()->softmax(x, 64);
    kernels_f64()->softmax(wide, 64);
    assert_true(softmax_close(x, wide, 64));
    size_t biggest = 0;
    for (size_t i = 1; i < 64; i++)
        biggest = wide[i] > wide[biggest] ? i : biggest;
    x[biggest] *= 1 + 1e-6f;
    assert_false(softmax_close(x, wide, 64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_matches_libm),
        cmocka_unit_test(softmax_passes_on_what_is_no_number),
        cmocka_unit_test(softmax_of_nothing_visible_is_zero),
        cmocka_unit_test(activations_match_libm),
        cmocka_unit_test(activation_multiplies_the_linear_branch),
        cmocka_unit_test(norms_match_double_sums),
        cmocka_unit_test(rotation_matches_and_keeps_length),
        cmocka_unit_test(one_odd_number_is_found_anywhere),
        cmocka_unit_test(a_planted_fault_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
