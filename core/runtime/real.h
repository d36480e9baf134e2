/*
 * Files named *_real.c are compiled twice, with -DREAL_BITS=32 and 64: one
 * source for --precision f32 and f64. REAL_NAME(forward) is forward_f32 or forward_f64.
 */
#ifndef STRATA_RUNTIME_REAL_H
#define STRATA_RUNTIME_REAL_H

#include <cblas.h>

#if REAL_BITS == 32
typedef float real;
#define REAL_NAME(name) name##_f32
#define REAL_GEMM cblas_sgemm
#elif REAL_BITS == 64
typedef double real;
#define REAL_NAME(name) name##_f64
#define REAL_GEMM cblas_dgemm
#else
#error "compile with -DREAL_BITS=32 or 64"
#endif

#endif
