/*
 * Matrix products with weights. Threads share products by output columns
 * first, so that each weight is read once whatever the number of rows; only
 * where columns run out do they share rows too. The partition depends on the
 * shape and the number of threads alone, hence the same bits in every run.
 */
#include "core/runtime/gemm.h"
#include "core/runtime/internal_real.h"

#include <math.h>

enum { LEAST_COLUMNS = 96, LEAST_ROWS = 64 };

static void product(const struct matrix *w, size_t first, size_t n, const real *x, size_t x_stride, size_t rows,
                    real *y, size_t y_stride, void *scratch)
{
#if REAL_BITS == 32
    const struct gemm g = {
        .x = x,
        .x_stride = x_stride,
        .rows = rows,
        .w = w->data + (w->in_major ? first : first * w->stride),
        .w_stride = w->stride,
        .in_major = w->in_major,
        .n_in = w->n_in,
        .n_out = n,
        .y = y,
        .y_stride = y_stride,
    };
    gemm(&g, scratch);
#else
    double *widened = scratch;
    for (size_t done = 0; done < n; done += WIDEN_ROWS) {
        size_t part = n - done < WIDEN_ROWS ? n - done : WIDEN_ROWS;
        for (size_t o = 0; o < part; o++)
            for (size_t i = 0; i < w->n_in; i++)
                widened[o * w->n_in + i] = (double)(w->in_major ? w->data[i * w->stride + first + done + o]
                                                                : w->data[(first + done + o) * w->stride + i]);
        REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)part, (int)w->n_in, 1, x, (int)x_stride,
                  widened, (int)w->n_in, 0, y + done, (int)y_stride);
    }
#endif
}

void matmul_part(const struct matrix *w, const float *bias, const real *x, size_t x_stride, size_t rows, size_t first,
                 size_t n, real *y, size_t y_stride, void *scratch)
{
    product(w, first, n, x, x_stride, rows, y + first, y_stride, scratch);
    if (bias)
        for (size_t r = 0; r < rows; r++)
            for (size_t o = first; o < first + n; o++)
                y[r * y_stride + o] += (real)bias[o];
}

enum { MOST_PRODUCTS = 3 };

struct job {
    const struct pass *p;
    const struct product *products;
    const real *x;
    size_t x_stride, rows, row_parts, n;
    size_t column_parts[MOST_PRODUCTS];
};

/* Bounds of part i of n: multiples of 24, so that kernels meet no odd edge inside. */
static size_t bound(size_t total, size_t parts, size_t i)
{
    return i == parts ? total : total * i / parts / 24 * 24;
}

static void job_task(void *arg, size_t index, int worker)
{
    const struct job *j = arg;
    size_t r = index % j->row_parts, c = index / j->row_parts, i = 0;
    while (c >= j->column_parts[i])
        c -= j->column_parts[i++];
    const struct product *m = &j->products[i];
    size_t first = bound(m->w->n_out, j->column_parts[i], c), last = bound(m->w->n_out, j->column_parts[i], c + 1);
    size_t row = bound(j->rows, j->row_parts, r), end = bound(j->rows, j->row_parts, r + 1);
    char *scratch = j->p->b.scratch + (size_t)worker * j->p->b.scratch_bytes;
    if (REAL_BITS == 32 && j->p->cache && j->rows == 1)
        scratch = NULL; /* generation: gemm is made for more rows */
    if (first < last && row < end)
        matmul_part(m->w, m->bias, j->x + row * j->x_stride, j->x_stride, end - row, first, last - first,
                    m->y + row * m->y_stride, m->y_stride, scratch);
}

/* A thread's fair share of all outputs is the size of a part, so that gate and up, say, stay whole on two threads. */
void matmuls(struct pass *p, const struct product *products, size_t n, const real *x, size_t x_stride, size_t rows)
{
    size_t threads = (size_t)pool_threads(p->rt->pool), outputs = 0, tasks = 0;
    struct job job = { .p = p, .products = products, .n = n, .x = x, .x_stride = x_stride, .rows = rows };
    for (size_t i = 0; i < n; i++)
        outputs += products[i].w->n_out;
    size_t share = (outputs + threads - 1) / threads;
    for (size_t i = 0; i < n; i++) {
        size_t n_out = products[i].w->n_out, most = n_out / LEAST_COLUMNS, parts = (n_out + share - 1) / share;
        job.column_parts[i] = most < 1 ? 1 : parts > most ? most : parts;
        tasks += job.column_parts[i];
    }
    size_t row_parts = rows / LEAST_ROWS;
    while (row_parts > 1 && row_parts * tasks > threads)
        row_parts--;
    job.row_parts = row_parts < 1 ? 1 : row_parts;
    pool_run(p->rt->pool, job.row_parts * tasks, job_task, &job);
}

void matmul(struct pass *p, const struct matrix *w, const float *bias, const real *x, size_t x_stride, size_t rows,
            real *y, size_t y_stride)
{
    const struct product one = { w, bias, y, y_stride };
    matmuls(p, &one, 1, x, x_stride, rows);
}

void finish_logits(const struct model_config *c, real *logits, size_t n)
{
    if (c->logit_scale != 1)
        for (size_t i = 0; i < n; i++)
            logits[i] *= (real)c->logit_scale;
    if (c->logit_softcap > 0)
        for (size_t i = 0; i < n; i++)
            logits[i] = (real)(c->logit_softcap * tanh((double)logits[i] / c->logit_softcap));
}

void REAL_NAME(unembed)(struct runtime *rt, const real *normed, size_t n, size_t first, size_t n_vocab, real *logits,
                        void *scratch)
{
    const struct model *m = rt->model;
    /* Logits start at column 0 of the caller's block, so the view of W_U starts at the block too. */
    struct matrix block = m->unembed;
    block.data += block.in_major ? first : first * block.stride;
    matmul_part(&block, m->unembed_bias ? m->unembed_bias + first : NULL, normed, m->config.d_embed, n, 0, n_vocab,
                logits, n_vocab, scratch);
    finish_logits(&m->config, logits, n * n_vocab);
}
