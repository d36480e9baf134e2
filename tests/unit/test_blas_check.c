/* The BLAS self-test passes on this machine's BLAS and catches the faults that releases had. */
#include "core/runtime/blas_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void this_machine_multiplies_rightly(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_int_equal(blas_check(&err), 0);
    assert_true(*blas_core_name());
    assert_true(*blas_config());
}

enum fault { WRONG_ELEMENT, BETA_KEEPS_C, WRITES_PADDING, SLOPPY };
static enum fault fault;

/* The right product with one planted fault. */
static void faulty_sgemm(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, blasint m, blasint n,
                         blasint k, float alpha, const float *a, blasint lda, const float *b, blasint ldb, float beta,
                         float *c, blasint ldc)
{
    float first = c[0];
    cblas_sgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    switch (fault) {
    case WRONG_ELEMENT: /* the last row of a large product only */
        if (m > 64)
            c[(m - 1) * ldc] += 0.01f;
        break;
    case BETA_KEEPS_C:
        c[0] += 0 * first;
        break;
    case WRITES_PADDING:
        c[n] = 0;
        break;
    case SLOPPY: /* what a product in bfloat16 would lose */
        for (blasint i = 0; i < m * ldc; i++)
            c[i] *= 1 + 0x1p-8f;
        break;
    }
}

static void planted_faults_are_caught(void **state)
{
    (void)state;
    for (int f = WRONG_ELEMENT; f <= SLOPPY; f++) {
        struct err err = { 0 };
        fault = (enum fault)f;
        assert_int_equal(blas_check_products(faulty_sgemm, cblas_dgemm, &err), ERR_CHECK);
        assert_non_null(strstr(err.msg, "OPENBLAS_CORETYPE"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_multiplies_rightly),
        cmocka_unit_test(planted_faults_are_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
