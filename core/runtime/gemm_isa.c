/*
 * The products of gemm.h for SSE2, AVX2 and AVX-512. One operand is packed into
 * panels, [inputs, PANEL], and read as vectors; of the other, TILE rows at a
 * time are read number by number where they lie. A tile's sums stay in
 * registers for a whole part of the inputs.
 */
#include "core/runtime/gemm.h"

#ifdef __SSE2__

#include "core/runtime/vec.h"

#include <xmmintrin.h>

enum {
    PANEL = 2 * VEC_LANES,
    TILE = VEC_LANES == 16 ? 12 : 6, /* 2 * TILE sums, 2 vectors and 1 number: 27 of 32 registers, 15 of 16 */
    LINE = 16,                       /* floats of a cache line */
    LINES = (PANEL + LINE - 1) / LINE,
};
_Static_assert((int)PANEL <= (int)GEMM_PANEL && GEMM_PANEL % PANEL == 0, "gemm_scratch rounds up to whole panels");

/* Rows that are read number by number. On the way, a line at `ahead` is fetched for each number, `step` apart. */
struct lines {
    const float *at;
    size_t stride;
    const float *ahead;
    size_t step;
};

/* out[n_rows, PANEL] = the sums over n inputs of n_vectors vectors of the panel with n_rows rows of `in`. */
static inline __attribute__((always_inline)) void sum_tile(size_t n_vectors, size_t n_rows, const float *panel,
                                                           size_t n, struct lines in, float *out)
{
    vec sums[TILE][2];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < n_vectors; v++)
            sums[r][v] = (vec){ 0 };
    for (size_t i = 0; i < n; i++) {
        vec x[2];
        __builtin_prefetch(in.ahead);
        in.ahead += in.step;
        for (size_t v = 0; v < n_vectors; v++)
            x[v] = vec_load(panel + i * PANEL + v * VEC_LANES);
        for (size_t r = 0; r < n_rows; r++) {
            vec w = vec_all(in.at[r * in.stride + i]);
            for (size_t v = 0; v < n_vectors; v++)
                sums[r][v] += x[v] * w;
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < n_vectors; v++)
            vec_store(out + r * PANEL + v * VEC_LANES, sums[r][v]);
}

/* Functions of their own: a compiler that inlines several tiles into one runs out of registers. */
#define SUM_TILE(n_vectors, n_rows)                                                                                    \
    static __attribute__((noinline)) void sum_##n_vectors##_##n_rows(const float *panel, size_t n, struct lines in,    \
                                                                     float *out)                                       \
    {                                                                                                                  \
        sum_tile(n_vectors, n_rows, panel, n, in, out);                                                                \
    }
SUM_TILE(1, TILE)
SUM_TILE(2, TILE)
SUM_TILE(2, 4)
SUM_TILE(2, 2)
SUM_TILE(2, 1)

/* Sums of as many rows as fit, at most n_rows; returns how many. */
static size_t sum_rows(size_t n_vectors, size_t n_rows, const float *panel, size_t n, struct lines in, float *out)
{
    if (n_rows >= TILE) {
        if (n_vectors == 1)
            sum_1_TILE(panel, n, in, out);
        else
            sum_2_TILE(panel, n, in, out);
        return TILE;
    }
    if (n_rows >= 4) {
        sum_2_4(panel, n, in, out);
        return 4;
    }
    if (n_rows >= 2) {
        sum_2_2(panel, n, in, out);
        return 2;
    }
    sum_2_1(panel, n, in, out);
    return 1;
}

static void transpose4(const float *in, size_t in_stride, float *out, size_t out_stride)
{
    __m128 a = _mm_loadu_ps(in), b = _mm_loadu_ps(in + in_stride);
    __m128 c = _mm_loadu_ps(in + 2 * in_stride), d = _mm_loadu_ps(in + 3 * in_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + out_stride, b);
    _mm_storeu_ps(out + 2 * out_stride, c);
    _mm_storeu_ps(out + 3 * out_stride, d);
}

/* out[columns, rows] = in[rows, columns] */
static void transpose(const float *in, size_t in_stride, size_t rows, size_t columns, float *out, size_t out_stride)
{
    size_t whole_rows = rows & ~(size_t)3, whole_columns = columns & ~(size_t)3;
    for (size_t r = 0; r < whole_rows; r += 4)
        for (size_t c = 0; c < whole_columns; c += 4)
            transpose4(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            out[c * out_stride + r] = in[r * in_stride + c];
}

/* Adds the part's sums unless it is the first one. */
static void put_rows(const float *sums, size_t rows, size_t columns, bool first, float *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            y[r * y_stride + c] = first ? sums[r * PANEL + c] : y[r * y_stride + c] + sums[r * PANEL + c];
}

static void put_columns(const float *sums, size_t columns, size_t rows, bool first, float *y, size_t y_stride)
{
    float turned[PANEL * PANEL];
    if (first) {
        transpose(sums, PANEL, columns, rows, y, y_stride);
        return;
    }
    transpose(sums, PANEL, columns, rows, turned, PANEL);
    put_rows(turned, rows, columns, false, y, y_stride);
}

/* Part of a product: some rows, some inputs. */
struct part {
    const struct gemm *g;
    size_t first_row, rows, first_in, n_in;
    float *panels;
};

static size_t vectors_of(size_t columns)
{
    return columns > VEC_LANES ? 2 : 1;
}

/* The batch's rows become panels; the matrix's are read where they lie. */
static void multiply_out_major(const struct part *p)
{
    const struct gemm *g = p->g;
    float sums[TILE * PANEL] __attribute__((aligned(64)));
    const float *x = g->x + p->first_row * g->x_stride + p->first_in;
    for (size_t r = 0; r < p->rows; r += PANEL) {
        size_t rows = p->rows - r < PANEL ? p->rows - r : PANEL;
        if (rows < PANEL)
            memset(p->panels + r * p->n_in, 0, PANEL * p->n_in * sizeof(float));
        transpose(x + r * g->x_stride, g->x_stride, rows, p->n_in, p->panels + r * p->n_in, PANEL);
    }
    for (size_t out = 0, n = 0; out < g->n_out; out += n) {
        struct lines w = { .at = g->w + out * g->w_stride + p->first_in, .stride = g->w_stride };
        /* The rows behind come next; where they follow at once they are fetched in time. */
        w.ahead = w.at;
        if (g->w_stride == p->n_in && g->n_out - out >= 2 * TILE) {
            w.ahead += TILE * w.stride;
            w.step = TILE;
        }
        for (size_t r = 0; r < p->rows; r += PANEL) {
            size_t rows = p->rows - r < PANEL ? p->rows - r : PANEL;
            n = sum_rows(vectors_of(rows), g->n_out - out, p->panels + r * p->n_in, p->n_in, w, sums);
            put_columns(sums, n, rows, p->first_in == 0, g->y + (p->first_row + r) * g->y_stride + out, g->y_stride);
        }
    }
}

/* The matrix's columns become panels, one at a time; the batch's rows are read where they lie. */
static void multiply_in_major(const struct part *p)
{
    const struct gemm *g = p->g;
    float sums[TILE * PANEL] __attribute__((aligned(64)));
    const float *w = g->w + p->first_in * g->w_stride;
    for (size_t out = 0; out < g->n_out; out += PANEL) {
        size_t columns = g->n_out - out < PANEL ? g->n_out - out : PANEL;
        if (columns < PANEL)
            memset(p->panels, 0, PANEL * p->n_in * sizeof(float));
        for (size_t i = 0; i < p->n_in; i++)
            memcpy(p->panels + i * PANEL, w + i * g->w_stride + out, columns * sizeof(float));
        for (size_t r = 0, n; r < p->rows; r += n) {
            struct lines x = { .at = g->x + (p->first_row + r) * g->x_stride + p->first_in, .stride = g->x_stride };
            /* The next panel's lines, one of each input at a time. */
            x.ahead = x.at;
            if (r < LINES * TILE && out + 2 * PANEL <= g->n_out) {
                x.ahead = w + out + PANEL + r / TILE * LINE;
                x.step = g->w_stride;
            }
            n = sum_rows(vectors_of(columns), p->rows - r, p->panels, p->n_in, x, sums);
            put_rows(sums, n, columns, p->first_in == 0, g->y + (p->first_row + r) * g->y_stride + out, g->y_stride);
        }
    }
}

/* Size of parts that are about equal, at most `most`, and whole multiples; `most` is one too. */
static size_t part_size(size_t n, size_t most, size_t multiple)
{
    size_t parts = (n + most - 1) / most, size = (n + parts - 1) / parts;
    return (size + multiple - 1) / multiple * multiple;
}

void ISA_NAME(gemm)(const struct gemm *g, float *scratch)
{
    if (!g->rows || !g->n_in)
        return;
    size_t rows = part_size(g->rows, GEMM_ROWS, PANEL), n_in = part_size(g->n_in, GEMM_INPUTS, LINE);
    for (size_t r = 0; r < g->rows; r += rows)
        for (size_t i = 0; i < g->n_in; i += n_in) {
            const struct part p = {
                .g = g,
                .first_row = r,
                .rows = g->rows - r < rows ? g->rows - r : rows,
                .first_in = i,
                .n_in = g->n_in - i < n_in ? g->n_in - i : n_in,
                .panels = scratch,
            };
            if (g->in_major)
                multiply_in_major(&p);
            else
                multiply_out_major(&p);
        }
}

#endif
