#include "core/runtime/gemm.h"

#include <cblas.h>

size_t gemm_scratch(size_t rows, size_t n_in)
{
    rows = rows < GEMM_ROWS ? (rows + GEMM_PANEL - 1) / GEMM_PANEL * GEMM_PANEL : GEMM_ROWS;
    return rows * (n_in < GEMM_INPUTS ? n_in : GEMM_INPUTS);
}

void gemm(const struct gemm *g, float *scratch)
{
#if defined(__x86_64__)
    static void (*const levels[])(const struct gemm *g, float *scratch) = {
        [ISA_LEVEL_BASE] = gemm_base, [ISA_LEVEL_V3] = gemm_v3, [ISA_LEVEL_V4] = gemm_v4
    };
    if (scratch) {
        levels[isa_level()](g, scratch);
        return;
    }
#endif
    (void)scratch;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, g->in_major ? CblasNoTrans : CblasTrans, (int)g->rows, (int)g->n_out,
                (int)g->n_in, 1, g->x, (int)g->x_stride, g->w, (int)g->w_stride, 0, g->y, (int)g->y_stride);
}
