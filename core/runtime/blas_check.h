/*
 * Self-test of the BLAS that was found at run time. OpenBLAS picks kernels by
 * CPU, and some releases had wrong ones (OpenBLAS issues 1955, 2168, 2914,
 * 3260): a wrong product must stop the program, not end in a paper.
 *
 *     if (blas_check(&err))            // about 3 ms the first time, then free
 *         return err.code;
 *
 * Products of odd shapes, both transposes, padded leading dimensions, NaN in C
 * with beta = 0, float and double, against a naive product in double. Failing
 * is ERR_CHECK; the message names the core type and OPENBLAS_CORETYPE.
 */
#ifndef STRATA_RUNTIME_BLAS_CHECK_H
#define STRATA_RUNTIME_BLAS_CHECK_H

#include "core/base/err.h"

#include <cblas.h>

/* The result of the first call is kept; thread-safe. */
int blas_check(struct err *err);

/* "SkylakeX": the kernels in use; static. */
const char *blas_core_name(void);
/* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...": static. */
const char *blas_config(void);

/* The products under test, so that tests can plant a wrong one. */
typedef void sgemm_function(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, blasint, blasint, blasint,
                            float, const float *, blasint, const float *, blasint, float, float *, blasint);
typedef void dgemm_function(enum CBLAS_ORDER, enum CBLAS_TRANSPOSE, enum CBLAS_TRANSPOSE, blasint, blasint, blasint,
                            double, const double *, blasint, const double *, blasint, double, double *, blasint);
int blas_check_products(sgemm_function *sgemm, dgemm_function *dgemm, struct err *err);

#endif
