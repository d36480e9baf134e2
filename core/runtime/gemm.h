/*
 * Products of float32 rows with a weight matrix as it lies in memory, on the
 * calling thread. A general BLAS rearranges the matrix on every call; here the
 * rows are rearranged instead, which are few: with 10 to 100 rows that is
 * worth a fifth to a half of the time. Every element is summed in the order of
 * the inputs (in equal parts where they are more than GEMM_INPUTS), whatever
 * the number of rows: the same bits alone and in a batch.
 *
 *     struct gemm g = { .x = x, .x_stride = 576, .rows = 10, .w = w, .w_stride = 576,
 *                       .n_in = 576, .n_out = 1536, .y = y, .y_stride = 1536 };
 *     float *scratch = mem_aligned(gemm_scratch(g.rows, g.n_in), sizeof *scratch);
 *     gemm(&g, scratch);                                        // y = x w^T
 *
 * Machines other than x86-64 get cblas_sgemm, which needs no scratch and makes
 * no promise about bits, nor always 1e-5 about them (OpenBLAS's Prescott kernels
 * differ by more between a prompt alone and in a batch).
 */
#ifndef STRATA_RUNTIME_GEMM_H
#define STRATA_RUNTIME_GEMM_H

#include "core/base/isa.h"

#include <stdbool.h>
#include <stddef.h>

enum { GEMM_INPUTS = 2048, GEMM_ROWS = 256, GEMM_PANEL = 32 };

struct gemm {
    const float *x; /* [rows, n_in], row stride x_stride */
    size_t x_stride, rows;
    const float *w; /* [n_out, n_in]; in_major: [n_in, n_out] */
    size_t w_stride;
    bool in_major;
    size_t n_in, n_out;
    float *y; /* [rows, n_out], row stride y_stride; overwritten; overlaps neither x nor w */
    size_t y_stride;
};

/* scratch: gemm_scratch numbers, 64-byte aligned; NULL: cblas_sgemm, which is the faster one for a single row. */
void gemm(const struct gemm *g, float *scratch);
/* For up to this many rows and inputs. */
size_t gemm_scratch(size_t rows, size_t n_in);

/* Of one instruction set (gemm_isa.c). */
void gemm_base(const struct gemm *g, float *scratch);
void gemm_v3(const struct gemm *g, float *scratch);
void gemm_v4(const struct gemm *g, float *scratch);

#endif
