#include "core/runtime/blas_check.h"

#include "core/base/mem.h"
#include "core/base/self_test.h"

#include <math.h>
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

/* Sums and sizes of a row's terms, one number of A after another with a row of B: a loop that runs as vectors. */
static void sum_row(const struct product *p, const double *a, const double *b, size_t row, double *sum, double *size)
{
    memset(sum, 0, p->n * sizeof *sum);
    memset(size, 0, p->n * sizeof *size);
    for (size_t l = 0; l < p->k; l++) {
        double x = a[p->a_transposed ? l * p->a_stride + row : row * p->a_stride + l];
        for (size_t j = 0; j < p->n; j++) {
            double term = x * b[l * p->n + j];
            sum[j] += term;
            size[j] += fabs(term);
        }
    }
}

struct room {
    double a[LARGEST * (LARGEST + PADDING)], b[LARGEST * (LARGEST + PADDING)], c[LARGEST * (LARGEST + PADDING)];
    double plain_b[LARGEST * LARGEST]; /* [k, n] */
    float fa[LARGEST * (LARGEST + PADDING)], fb[LARGEST * (LARGEST + PADDING)], fc[LARGEST * (LARGEST + PADDING)];
};

/* |error| <= k eps sum |a b| (Higham 2002, section 3.1), here without the slack of k; NaN is not near. */
static bool near(double got, double sum, double size, double epsilon)
{
    return fabs(got - sum) <= 8 * epsilon * size;
}

/* Every element of both products within a bound of the naive one, and the padding untouched. */
static bool rows_are_right(const struct room *r, const struct product *p)
{
    double sum[LARGEST], size[LARGEST];
    for (size_t i = 0; i < p->m; i++) {
        const double *c = r->c + i * p->c_stride;
        const float *fc = r->fc + i * p->c_stride;
        sum_row(p, r->a, r->plain_b, i, sum, size);
        for (size_t j = 0; j < p->n; j++)
            if (!near(c[j], sum[j], size[j], 0x1p-52) || !near((double)fc[j], sum[j], size[j], 0x1p-23))
                return false;
        for (size_t j = p->n; j < p->c_stride; j++)
            if (!isnan(c[j]) || !isnan(fc[j]))
                return false;
    }
    return true;
}

static bool product_is_right(struct room *r, const struct product *p, sgemm_function *sgemm, dgemm_function *dgemm)
{
    enum CBLAS_TRANSPOSE ta = p->a_transposed ? CblasTrans : CblasNoTrans;
    enum CBLAS_TRANSPOSE tb = p->b_transposed ? CblasTrans : CblasNoTrans;
    int m = (int)p->m, n = (int)p->n, k = (int)p->k, a = (int)p->a_stride, b = (int)p->b_stride, c = (int)p->c_stride;
    for (size_t l = 0; l < p->k; l++)
        for (size_t j = 0; j < p->n; j++)
            r->plain_b[l * p->n + j] = r->b[p->b_transposed ? j * p->b_stride + l : l * p->b_stride + j];
    for (size_t i = 0; i < p->m * p->c_stride; i++) {
        r->c[i] = (double)NAN;
        r->fc[i] = NAN;
    }
    dgemm(CblasRowMajor, ta, tb, m, n, k, 1, r->a, a, r->b, b, 0, r->c, c);
    sgemm(CblasRowMajor, ta, tb, m, n, k, 1, r->fa, a, r->fb, b, 0, r->fc, c);
    return rows_are_right(r, p);
}

int blas_check_products(sgemm_function *sgemm, dgemm_function *dgemm, struct err *err)
{
    struct room *r = mem_array(1, sizeof *r);
    if (!r)
        return err_nomem(err, "the BLAS self-test");
    uint64_t seed = 1;
    int rc = 0;
    for (size_t i = 0; i < sizeof r->a / sizeof *r->a; i++) {
        r->fa[i] = self_test_number(&seed);
        r->fb[i] = self_test_number(&seed);
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

static int check(struct err *err)
{
    return blas_check_products(cblas_sgemm, cblas_dgemm, err);
}

int blas_check(struct err *err)
{
    static struct self_test test = SELF_TEST(check);
    return self_test(&test, err);
}

const char *blas_core_name(void)
{
    return openblas_get_corename();
}

const char *blas_config(void)
{
    return openblas_get_config();
}
