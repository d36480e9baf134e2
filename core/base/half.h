/*
 * IEEE half (f16) and bfloat16 (bf16), both directions. Widening is exact;
 * narrowing rounds to nearest, ties to even, as the hardware does.
 *
 *     uint16_t h[512];
 *     size_t bad = half_from_f32(h, x, 512);
 *     if (bad < 512) ...                    // x[bad] is finite but overflows f16
 *
 * Exhaustively tested over all 65,536 halves. NaN stays NaN, infinity infinity.
 */
#ifndef STRATA_BASE_HALF_H
#define STRATA_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

float half_to_f32_one(uint16_t h);
uint16_t half_from_f32_one(float x);
static inline float bf16_to_f32_one(uint16_t b)
{
    union {
        uint32_t u;
        float f;
    } v = { (uint32_t)b << 16 };
    return v.f;
}
uint16_t bf16_from_f32_one(float x);

/* dst may not overlap src; src may be unaligned. */
void half_to_f32(float *dst, const void *src, size_t n);
void bf16_to_f32(float *dst, const void *src, size_t n);
/* Return the index of the first finite value that rounds to infinity, or n; everything is converted in any case. */
size_t half_from_f32(uint16_t *dst, const float *src, size_t n);
size_t bf16_from_f32(uint16_t *dst, const float *src, size_t n);

#endif
