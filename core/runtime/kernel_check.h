/*
 * Self-test of Strata's own float32 kernels, those that this machine's
 * instruction set chooses: a compiler, an emulator or a processor that gets one
 * of them wrong must stop the program, not end in a paper. blas_check.h does
 * the same for OpenBLAS.
 *
 *     if (kernel_check(&err))          // about 1 ms the first time, then free
 *         return err.code;
 *
 * Products against a naive one in double, with tails, strides, several parts of
 * the inputs and scratch memory full of NaN; row kernels against plain C in
 * double (kernels_f64); halves against their definition; quantised blocks
 * against the plain C decoder, bit by bit. What lies behind a result must stay
 * untouched. Failing is ERR_CHECK; the message names the kernel.
 */
#ifndef STRATA_RUNTIME_KERNEL_CHECK_H
#define STRATA_RUNTIME_KERNEL_CHECK_H

#include "core/base/err.h"
#include "core/formats/tensor.h"
#include "core/runtime/gemm.h"
#include "core/runtime/kernels.h"

#include <stdint.h>

/* What is under test, so that tests can plant a wrong one. */
struct kernel_set {
    void (*gemm)(const struct gemm *g, float *scratch);
    struct kernels_f32 rows;
    void (*widen_half)(float *dst, const void *src, size_t n);
    void (*widen_bf16)(float *dst, const void *src, size_t n);
    size_t (*narrow_half)(uint16_t *dst, const float *src, size_t n);
    size_t (*narrow_bf16)(uint16_t *dst, const float *src, size_t n);
    void (*widen_blocks)(const struct tensor *t, size_t first, size_t n, float *dst);
};

/* Those in use. */
struct kernel_set kernel_set(void);
int kernel_check_set(const struct kernel_set *set, struct err *err);

/* Of those in use; the result of the first call is kept; thread-safe. */
int kernel_check(struct err *err);

/* The error of a kernel that failed a self-test. */
int kernel_is_wrong(const char *what, struct err *err);

/* "products, norms, ...": what is checked; static. */
const char *kernel_check_names(void);

#endif
