/*
 * Products of every instruction set at hand against the naive sum in double,
 * within n_in rounding errors of the terms' sizes (Higham 2002, section 3.1).
 */
#include "core/base/mem.h"
#include "core/runtime/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PADDING = 3, UNTOUCHED = 77 };

typedef void gemm_function(const struct gemm *g, float *scratch);

struct level {
    const char *name;
    gemm_function *run;
    bool keeps_bits;
};

static size_t levels(struct level out[4])
{
    size_t n = 0;
#if defined(__x86_64__)
    out[n++] = (struct level){ "as chosen", gemm, true };
    out[n++] = (struct level){ "base", gemm_base, true };
    if (isa_level() >= ISA_LEVEL_V3)
        out[n++] = (struct level){ "v3", gemm_v3, true };
    if (isa_level() >= ISA_LEVEL_V4)
        out[n++] = (struct level){ "v4", gemm_v4, true };
#else
    out[n++] = (struct level){ "as chosen", gemm, false };
#endif
    return n;
}

/* Uniform in [-1, 1). */
static float draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1);
}

static struct gemm make(size_t rows, size_t n_out, size_t n_in, bool in_major, uint64_t seed)
{
    struct gemm g = { .rows = rows, .n_in = n_in, .n_out = n_out, .in_major = in_major };
    g.x_stride = n_in + PADDING;
    g.w_stride = (in_major ? n_out : n_in) + PADDING;
    g.y_stride = n_out + PADDING;
    size_t n_x = rows * g.x_stride, n_w = (in_major ? n_in : n_out) * g.w_stride, n_y = rows * g.y_stride;
    float *x = mem_array(n_x, sizeof *x), *w = mem_array(n_w, sizeof *w);
    g.y = mem_array(n_y, sizeof *g.y);
    assert_true(x && w && g.y);
    for (size_t i = 0; i < n_x; i++)
        x[i] = draw(&seed);
    for (size_t i = 0; i < n_w; i++)
        w[i] = draw(&seed);
    for (size_t i = 0; i < n_y; i++)
        g.y[i] = UNTOUCHED;
    g.x = x;
    g.w = w;
    return g;
}

static void release(struct gemm *g)
{
    free((void *)(uintptr_t)g->x);
    free((void *)(uintptr_t)g->w);
    free(g->y);
}

static bool is_right(const struct gemm *g)
{
    for (size_t r = 0; r < g->rows; r++) {
        for (size_t o = 0; o < g->n_out; o++) {
            double sum = 0, size = 0;
            for (size_t i = 0; i < g->n_in; i++) {
                double w = (double)g->w[g->in_major ? i * g->w_stride + o : o * g->w_stride + i];
                double term = (double)g->x[r * g->x_stride + i] * w;
                sum += term;
                size += fabs(term);
            }
            if (!(fabs((double)g->y[r * g->y_stride + o] - sum) <= 0x1p-23 * 8 * size))
                return false;
        }
        for (size_t o = g->n_out; o < g->y_stride; o++)
            if (fabsf(g->y[r * g->y_stride + o] - UNTOUCHED) > 0)
                return false;
    }
    return true;
}

static float *make_scratch(size_t rows, size_t n_in)
{
    float *scratch = mem_aligned(gemm_scratch(rows, n_in), sizeof *scratch);
    assert_non_null(scratch);
    return scratch;
}

/* Below, at and above tiles, panels and parts: rows, outputs, inputs. */
static const size_t shapes[][3] = {
    { 1, 1, 1 },     { 1, 12, 5 },    { 2, 13, 16 },    { 3, 5, 7 },     { 4, 24, 33 },    { 7, 47, 65 },
    { 8, 6, 64 },    { 15, 36, 100 }, { 16, 40, 17 },   { 17, 31, 129 }, { 31, 9, 48 },    { 32, 25, 1 },
    { 33, 97, 64 },  { 64, 11, 70 },  { 100, 30, 96 },  { 257, 19, 40 }, { 511, 14, 30 },  { 520, 4, 9 },
    { 5, 29, 2048 }, { 5, 29, 2049 }, { 35, 26, 4100 }, { 2, 3, 6145 },  { 270, 3, 2100 },
};

static void products_match_naive_sums(void **state)
{
    (void)state;
    struct level level[4];
    size_t n = levels(level);
    for (size_t s = 0; s < 2 * sizeof shapes / sizeof *shapes; s++) {
        const size_t *shape = shapes[s / 2];
        for (size_t l = 0; l < n; l++) {
            struct gemm g = make(shape[0], shape[1], shape[2], s % 2, s);
            float *scratch = make_scratch(shape[0], shape[2]);
            level[l].run(&g, scratch);
            if (!is_right(&g))
                fail_msg("%s: %zu rows, %zu outputs, %zu inputs, %s", level[l].name, shape[0], shape[1], shape[2],
                         g.in_major ? "in major" : "out major");
            free(scratch);
            release(&g);
        }
    }
}

static void without_scratch_blas_does_it(void **state)
{
    (void)state;
    for (size_t s = 0; s < 12; s++) {
        struct gemm g = make(shapes[s][0], shapes[s][1], shapes[s][2], s % 2, s);
        gemm(&g, NULL);
        assert_true(is_right(&g));
        release(&g);
    }
}

/* Rows and outputs alone give what they give among others. */
static void bits_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    struct level level[4];
    size_t n = levels(level);
    float *scratch = make_scratch(300, 4000);
    for (size_t l = 0; l < n; l++)
        for (size_t s = 0; s < 4 && level[l].keeps_bits; s++) {
            struct gemm g = make(300, 55, s / 2 ? 4000 : 70, s % 2, s);
            float one;
            level[l].run(&g, scratch);
            for (size_t r = 0; r < g.rows; r += 7)
                for (size_t o = 0; o < g.n_out; o += 9) {
                    struct gemm alone = g;
                    alone.x += r * g.x_stride;
                    alone.w += g.in_major ? o : o * g.w_stride;
                    alone.y = &one;
                    alone.rows = alone.n_out = 1;
                    level[l].run(&alone, scratch);
                    assert_memory_equal(&one, &g.y[r * g.y_stride + o], sizeof one);
                }
            release(&g);
        }
    free(scratch);
}

static void a_planted_fault_is_caught(void **state)
{
    (void)state;
    struct gemm g = make(40, 30, 50, false, 1);
    float *scratch = make_scratch(40, 50);
    gemm(&g, scratch);
    assert_true(is_right(&g));
    float *y = &g.y[33 * g.y_stride + 17], right = *y;
    *y += 1e-4f;
    assert_false(is_right(&g));
    *y = right;
    g.y[39 * g.y_stride + 30] = 0;
    assert_false(is_right(&g));
    free(scratch);
    release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_naive_sums),
        cmocka_unit_test(without_scratch_blas_does_it),
        cmocka_unit_test(bits_do_not_depend_on_the_batch),
        cmocka_unit_test(a_planted_fault_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
