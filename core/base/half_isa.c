/* Bulk half conversions, plain loops that the compiler vectorises; compiled once per instruction set (isa.h). */
#include "core/base/half_isa.h"

#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float half_widen(uint32_t h)
{
    /* Shift into place, then scale by 2^112: exact, also for subnormals; 0x7c00 becomes 2^16 and is patched. */
    uint32_t magnitude = (h & 0x7fff) << 13;
    float x = float_of(magnitude) * 0x1p112f;
    uint32_t u = (h & 0x7fff) >= 0x7c00 ? magnitude | 0x7f800000 : bits_of(x);
    return float_of(u | (h & 0x8000) << 16);
}

static inline uint32_t half_narrow(float x)
{
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    /* Normal: round the 13 dropped bits to even by an integer add; the carry may reach the exponent. */
    uint32_t normal = (a + 0xfff + (a >> 13 & 1) - 0x38000000) >> 13;
    /* Subnormal: adding 0.5 aligns the last kept bit with the float's own, so the FPU rounds. */
    uint32_t small = bits_of(float_of(a) + 0.5f) - 0x3f000000;
    uint32_t h = a < 0x38800000 ? small : normal;
    h = a >= 0x477ff000 ? 0x7c00 : h;
    h = a > 0x7f800000 ? 0x7e00 : h;
    return h | sign;
}

static inline uint32_t bf16_narrow(float x)
{
    uint32_t u = bits_of(x);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (u & 0x7fffffff) > 0x7f800000 ? (u >> 16 | 0x40) : rounded;
}

void ISA_NAME(half_widen)(float *dst, const void *src, size_t n)
{
    const char *s = src;
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(s + 2 * i))));
#endif
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, s + 2 * i, 2);
        dst[i] = half_widen(h);
    }
}

void ISA_NAME(bf16_widen)(float *dst, const void *src, size_t n)
{
    const char *s = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t b;
        memcpy(&b, s + 2 * i, 2);
        dst[i] = float_of((uint32_t)b << 16);
    }
}

void ISA_NAME(half_narrow)(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint16_t)half_narrow(src[i]);
}

void ISA_NAME(bf16_narrow)(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint16_t)bf16_narrow(src[i]);
}
