#include "core/base/half.h"

#include "core/base/half_isa.h"

#include <math.h>

#if defined(__x86_64__)
#define DISPATCH(name, ...)                                                                                            \
    switch (isa_level()) {                                                                                             \
    case ISA_LEVEL_V4:                                                                                                 \
        name##_v4(__VA_ARGS__);                                                                                        \
        break;                                                                                                         \
    case ISA_LEVEL_V3:                                                                                                 \
        name##_v3(__VA_ARGS__);                                                                                        \
        break;                                                                                                         \
    default:                                                                                                           \
        name##_base(__VA_ARGS__);                                                                                      \
    }
#else
#define DISPATCH(name, ...) name##_base(__VA_ARGS__)
#endif

float half_to_f32_one(uint16_t h)
{
    float x;
    half_widen_base(&x, &h, 1);
    return x;
}

uint16_t half_from_f32_one(float x)
{
    uint16_t h;
    half_narrow_base(&h, &x, 1);
    return h;
}

uint16_t bf16_from_f32_one(float x)
{
    uint16_t b;
    bf16_narrow_base(&b, &x, 1);
    return b;
}

void half_to_f32(float *dst, const void *src, size_t n)
{
    DISPATCH(half_widen, dst, src, n);
}

void bf16_to_f32(float *dst, const void *src, size_t n)
{
    DISPATCH(bf16_widen, dst, src, n);
}

/* Finite in, exponent all ones out: the value overflowed. */
static size_t first_overflow(const uint16_t *dst, const float *src, size_t n, uint16_t infinity)
{
    for (size_t i = 0; i < n; i++)
        if ((dst[i] & 0x7fff) == infinity && isfinite(src[i]))
            return i;
    return n;
}

size_t half_from_f32(uint16_t *dst, const float *src, size_t n)
{
    DISPATCH(half_narrow, dst, src, n);
    return first_overflow(dst, src, n, 0x7c00);
}

size_t bf16_from_f32(uint16_t *dst, const float *src, size_t n)
{
    DISPATCH(bf16_narrow, dst, src, n);
    return first_overflow(dst, src, n, 0x7f80);
}
