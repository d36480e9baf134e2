/*
 * Quantised blocks to float32, one function per block type and instruction set
 * (core/base/isa.h); only tensor.c calls them. src holds n_blocks whole blocks,
 * unaligned; dst receives n_blocks times the elements of a block.
 *
 * Layouts: ggml-org/ggml src/ggml-common.h and ggml-quants.c. Results equal the
 * float32 arithmetic of gguf-py's dequantize() bit for bit: every product has
 * at most 24 significant bits (half 11, scale 6 or 7, quant 3 to 6), so it is
 * exact and a fused multiply-add cannot round differently.
 */
#ifndef STRATA_FORMATS_DEQUANT_ISA_H
#define STRATA_FORMATS_DEQUANT_ISA_H

#include "core/base/isa.h"

#include <stddef.h>

#define DEQUANT_TYPES(X)                                                                                               \
    X(q4_0)                                                                                                            \
    X(q4_1)                                                                                                            \
    X(q5_0)                                                                                                            \
    X(q5_1)                                                                                                            \
    X(q8_0)                                                                                                            \
    X(q4_k)                                                                                                            \
    X(q5_k)                                                                                                            \
    X(q6_k)                                                                                                            \
    X(iq4_nl)

typedef void dequant_blocks(float *dst, const unsigned char *src, size_t n_blocks);

#define X(type) dequant_blocks dequant_##type##_base;
DEQUANT_TYPES(X)
#undef X
#if defined(__x86_64__)
#define X(type) dequant_blocks dequant_##type##_v3, dequant_##type##_v4;
DEQUANT_TYPES(X)
#undef X
#endif

#endif
