/* Block dequantisers, plain loops that the compiler vectorises; compiled once per instruction set (isa.h). */
#include "core/formats/dequant_isa.h"

#include "core/base/half.h"

#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

/* Local copies of the packed bytes tell the compiler that dst does not overlap them. */
struct q4_0 {
    uint8_t d[2], qs[16];
};
struct q4_1 {
    uint8_t d[2], m[2], qs[16];
};
struct q5_0 {
    uint8_t d[2], qh[4], qs[16];
};
struct q5_1 {
    uint8_t d[2], m[2], qh[4], qs[16];
};
struct q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};
struct q4_k {
    uint8_t d[2], dmin[2], scales[12], qs[128];
};
struct q5_k {
    uint8_t d[2], dmin[2], scales[12], qh[32], qs[128];
};
struct q6_k {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint8_t d[2]; /* last, unlike in the other types */
};

_Static_assert(sizeof(struct q4_0) == 18 && sizeof(struct q4_1) == 20, "Q4 blocks have no padding");
_Static_assert(sizeof(struct q5_0) == 22 && sizeof(struct q5_1) == 24, "Q5 blocks have no padding");
_Static_assert(sizeof(struct q8_0) == 34, "Q8_0 blocks have no padding");
_Static_assert(sizeof(struct q4_k) == 144 && sizeof(struct q5_k) == 176, "K blocks have no padding");
_Static_assert(sizeof(struct q6_k) == 210, "Q6_K blocks have no padding");

static inline float half_at(const uint8_t bytes[2])
{
    uint16_t h = (uint16_t)(bytes[0] | bytes[1] << 8);
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    return half_to_f32_one(h);
#endif
}

void ISA_NAME(dequant_q4_0)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q4_0), dst += 32) {
        struct q4_0 block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d);
        for (int j = 0; j < 16; j++)
            dst[j] = (float)((block.qs[j] & 15) - 8) * d;
        for (int j = 0; j < 16; j++)
            dst[j + 16] = (float)((block.qs[j] >> 4) - 8) * d;
    }
}

void ISA_NAME(dequant_q4_1)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q4_1), dst += 32) {
        struct q4_1 block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d), m = half_at(block.m);
        for (int j = 0; j < 16; j++)
            dst[j] = (float)(block.qs[j] & 15) * d + m;
        for (int j = 0; j < 16; j++)
            dst[j + 16] = (float)(block.qs[j] >> 4) * d + m;
    }
}

/* The 32 five-bit numbers of a Q5 block: a nibble and one bit of the little-endian qh each. */
static inline void five_bits(uint8_t q[32], const uint8_t qh[4], const uint8_t qs[16])
{
    for (int j = 0; j < 32; j++)
        q[j] = (uint8_t)((qh[j / 8] & 1 << j % 8) ? 16 : 0);
    for (int j = 0; j < 16; j++) {
        q[j] = (uint8_t)(q[j] | (qs[j] & 15));
        q[j + 16] = (uint8_t)(q[j + 16] | qs[j] >> 4);
    }
}

void ISA_NAME(dequant_q5_0)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q5_0), dst += 32) {
        struct q5_0 block;
        memcpy(&block, src, sizeof block);
        uint8_t q[32];
        five_bits(q, block.qh, block.qs);
        float d = half_at(block.d);
        for (int j = 0; j < 32; j++)
            dst[j] = (float)(q[j] - 16) * d;
    }
}

void ISA_NAME(dequant_q5_1)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q5_1), dst += 32) {
        struct q5_1 block;
        memcpy(&block, src, sizeof block);
        uint8_t q[32];
        five_bits(q, block.qh, block.qs);
        float d = half_at(block.d), m = half_at(block.m);
        for (int j = 0; j < 32; j++)
            dst[j] = (float)q[j] * d + m;
    }
}

void ISA_NAME(dequant_q8_0)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q8_0), dst += 32) {
        struct q8_0 block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d);
        for (int j = 0; j < 32; j++)
            dst[j] = (float)block.qs[j] * d;
    }
}

/* Sub-block j of 8: six bits of scale and of minimum, the upper four spread over the first eight bytes' top bits. */
static inline void scale_and_min(const uint8_t s[12], int j, float *scale, float *min)
{
    int low = j & 3;
    *scale = (float)(j < 4 ? s[low] & 63 : (s[low + 8] & 15) | (s[low] >> 6) << 4);
    *min = (float)(j < 4 ? s[low + 4] & 63 : s[low + 8] >> 4 | (s[low + 4] >> 6) << 4);
}

void ISA_NAME(dequant_q4_k)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q4_k), dst += 256) {
        struct q4_k block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d), dmin = half_at(block.dmin);
        for (int part = 0; part < 4; part++) {
            const uint8_t *qs = block.qs + 32 * part;
            float *low = dst + 64 * part, *high = low + 32, sc, m;
            scale_and_min(block.scales, 2 * part, &sc, &m);
            float d_low = d * sc, m_low = dmin * m;
            scale_and_min(block.scales, 2 * part + 1, &sc, &m);
            float d_high = d * sc, m_high = dmin * m;
            for (int j = 0; j < 32; j++)
                low[j] = (float)(qs[j] & 15) * d_low - m_low;
            for (int j = 0; j < 32; j++)
                high[j] = (float)(qs[j] >> 4) * d_high - m_high;
        }
    }
}

void ISA_NAME(dequant_q5_k)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q5_k), dst += 256) {
        struct q5_k block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d), dmin = half_at(block.dmin);
        for (int part = 0; part < 4; part++) {
            const uint8_t *qs = block.qs + 32 * part, *qh = block.qh;
            float *low = dst + 64 * part, *high = low + 32, sc, m;
            scale_and_min(block.scales, 2 * part, &sc, &m);
            float d_low = d * sc, m_low = dmin * m;
            scale_and_min(block.scales, 2 * part + 1, &sc, &m);
            float d_high = d * sc, m_high = dmin * m;
            for (int j = 0; j < 32; j++)
                low[j] = (float)((qs[j] & 15) | (qh[j] >> 2 * part & 1) << 4) * d_low - m_low;
            for (int j = 0; j < 32; j++)
                high[j] = (float)(qs[j] >> 4 | (qh[j] >> (2 * part + 1) & 1) << 4) * d_high - m_high;
        }
    }
}

void ISA_NAME(dequant_q6_k)(float *dst, const unsigned char *src, size_t n_blocks)
{
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q6_k), dst += 256) {
        struct q6_k block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d);
        /* Eight runs of 32: run r takes nibbles of ql and two bits of qh from its half of the block. */
        for (int r = 0; r < 8; r++) {
            const uint8_t *ql = block.ql + 64 * (r / 4) + 32 * (r % 2), *qh = block.qh + 32 * (r / 4);
            int nibble = r % 4 / 2 * 4, pair = r % 4 * 2;
            for (int half = 0; half < 2; half++) {
                float scale = d * (float)block.scales[2 * r + half];
                float *out = dst + 32 * r + 16 * half;
                for (int j = 0; j < 16; j++) {
                    int q = (ql[16 * half + j] >> nibble & 15) | (qh[16 * half + j] >> pair & 3) << 4;
                    out[j] = (float)(q - 32) * scale;
                }
            }
        }
    }
}

void ISA_NAME(dequant_iq4_nl)(float *dst, const unsigned char *src, size_t n_blocks)
{
    static const float values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
    for (size_t b = 0; b < n_blocks; b++, src += sizeof(struct q4_0), dst += 32) {
        struct q4_0 block;
        memcpy(&block, src, sizeof block);
        float d = half_at(block.d);
        for (int j = 0; j < 16; j++) {
            dst[j] = values[block.qs[j] & 15] * d;
            dst[j + 16] = values[block.qs[j] >> 4] * d;
        }
    }
}
