#include "core/runtime/blas_check.h"

#include "core/base/mem.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PADDING = 5, LARGEST = 200 };

/* Rows, outputs, inputs: below, at and above the register blocks of the kernels, and the small-matrix path. */
static const size_t shapes[][3] = {
    { 1, 1, 1 },    { 1, 67, 33 }, { 2, 48, 100 },  { 3, 5, 7 },    { 4, 64, 64 },
    { 7, 130, 65 }, { 16, 16, 9 }, { 17, 31, 129 }, { 33, 97, 64 }, { 65, 200, 70 },
};

struct product {
    size_t m, n, k, a_stride, b_stride, c_stride;
    bool a_transposed, b_transposed;
};

/* Uniform in [-1, 1); any generator would do, so long as every run has the same numbers. */
static double next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*state >> 11 << 11) * 0x1p-63;
}

static size_t at(size_t row, size_t column, size_t stride, bool transposed)
{
    return transposed ? column * stride + row : row * stride + column;
}

/* Every element within a bound of the naive product, and the padding untouched. */
static bool right(const struct product *p, const double *a, const double *b, const double *c, double epsilon)
{
    for (size_t i = 0; i < p->m; i++) {
        for (size_t j = 0; j < p->n; j++) {
            double sum = 0, size = 0;
            for (size_t l = 0; l < p->k; l++) {
                double term = a[at(i, l, p->a_stride, p->a_transposed)] * b[at(l, j, p->b_stride, p->b_transposed)];
                sum += term;
                size += fabs(term);
            }
            /* |error| <= k eps sum |a b| (Higham 2002, section 3.1), here without the slack of k; NaN fails too. */
            if (!(fabs(c[i * p->c_stride + j] - sum) <= 8 * epsilon * size))
                return false;
        }
        for (size_t j = p->n; j < p->c_stride; j++)
            if (!isnan(c[i * p->c_stride + j]))
                return false;
    }
    return true;
}

struct room {
    double a[LARGEST * (LARGEST + PADDING)], b[LARGEST * (LARGEST + PADDING)], c[LARGEST * (LARGEST + PADDING)];
    float fa[LARGEST * (LARGEST + PADDING)], fb[LARGEST * (LARGEST + PADDING)], fc[LARGEST * (LARGEST + PADDING)];
};

static bool product_is_right(struct room *r, const struct product *p, sgemm_function *sgemm, dgemm_function *dgemm)
{
    enum CBLAS_TRANSPOSE ta = p->a_transposed ? CblasTrans : CblasNoTrans;
    enum CBLAS_TRANSPOSE tb = p->b_transposed ? CblasTrans : CblasNoTrans;
    size_t n_c = p->m * p->c_stride;
    for (size_t i = 0; i < n_c; i++) {
        r->c[i] = (double)NAN;
        r->fc[i] = NAN;
    }
    dgemm(CblasRowMajor, ta, tb, (int)p->m, (int)p->n, (int)p->k, 1, r->a, (int)p->a_stride, r->b, (int)p->b_stride, 0,
          r->c, (int)p->c_stride);
    if (!right(p, r->a, r->b, r->c, 0x1p-52))
        return false;
    sgemm(CblasRowMajor, ta, tb, (int)p->m, (int)p->n, (int)p->k, 1, r->fa, (int)p->a_stride, r->fb, (int)p->b_stride,
          0, r->fc, (int)p->c_stride);
    for (size_t i = 0; i < n_c; i++)
        r->c[i] = (double)r->fc[i];
    return right(p, r->a, r->b, r->c, 0x1p-23);
}

int blas_check_products(sgemm_function *sgemm, dgemm_function *dgemm, struct err *err)
{
    struct room *r = mem_array(1, sizeof *r);
    if (!r)
        return err_nomem(err, "the BLAS self-test");
    uint64_t seed = 1;
    int rc = 0;
    for (size_t i = 0; i < sizeof r->a / sizeof *r->a; i++) {
        r->fa[i] = (float)next(&seed);
        r->fb[i] = (float)next(&seed);
        r->a[i] = (double)r->fa[i];
        r->b[i] = (double)r->fb[i];
    }
    for (size_t s = 0; !rc && s < sizeof shapes / sizeof *shapes; s++)
        for (int t = 0; !rc && t < 4; t++) {
            struct product p = { .m = shapes[s][0], .n = shapes[s][1], .k = shapes[s][2] };
            p.a_transposed = t & 1;
            p.b_transposed = t & 2;
            p.a_stride = (p.a_transposed ? p.m : p.k) + PADDING;
            p.b_stride = (p.b_transposed ? p.k : p.n) + PADDING;
            p.c_stride = p.n + PADDING;
            if (!product_is_right(r, &p, sgemm, dgemm))
                rc = err_set(
                    err, ERR_CHECK,
                    "BLAS computes wrong products here (%zux%zux%zu, core type %s): set OPENBLAS_CORETYPE=Haswell "
                    "in the environment, or install another OpenBLAS",
                    p.m, p.n, p.k, blas_core_name());
        }
    free(r);
    return rc;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct err first_result;

static void check_once(void)
{
    blas_check_products(cblas_sgemm, cblas_dgemm, &first_result);
}

int blas_check(struct err *err)
{
    pthread_once(&once, check_once);
    if (first_result.code && err)
        *err = first_result;
    return first_result.code;
}

const char *blas_core_name(void)
{
    return openblas_get_corename();
}

const char *blas_config(void)
{
    return openblas_get_config();
}
