/* The per-instruction-set half conversions behind half.h; nobody else includes this. */
#ifndef STRATA_BASE_HALF_ISA_H
#define STRATA_BASE_HALF_ISA_H

#include "core/base/isa.h"

#include <stddef.h>
#include <stdint.h>

#define HALF_ISA_DECLARE(isa)                                                                                          \
    void ISA_PASTE(half_widen, isa)(float *dst, const void *src, size_t n);                                            \
    void ISA_PASTE(bf16_widen, isa)(float *dst, const void *src, size_t n);                                            \
    void ISA_PASTE(half_narrow, isa)(uint16_t * dst, const float *src, size_t n);                                      \
    void ISA_PASTE(bf16_narrow, isa)(uint16_t * dst, const float *src, size_t n);

HALF_ISA_DECLARE(base)
#if defined(__x86_64__)
HALF_ISA_DECLARE(v3)
HALF_ISA_DECLARE(v4)
#endif

#endif
