/*
 * Vectors of the widest kind that the instruction set at hand has, in GNU C's
 * portable vector extension (gcc and clang, any machine). For *_isa.c files only.
 */
#ifndef STRATA_RUNTIME_VEC_H
#define STRATA_RUNTIME_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX2__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
enum { VEC_LANES = VEC_BYTES / 4 };

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VEC_BYTES)));
typedef float vec_half __attribute__((vector_size(VEC_BYTES / 2)));
typedef double dvec __attribute__((vector_size(VEC_BYTES)));

static inline vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

static inline vec vec_all(float x)
{
    return x - (vec){ 0 };
}

/* mask lanes are all ones or all zeros, as comparisons make them */
static inline vec vec_select(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

static inline vec vec_max(vec a, vec b)
{
    return vec_select(a > b, a, b);
}

static inline float vec_max_lane(vec v)
{
    float m = v[0];
    for (int i = 1; i < VEC_LANES; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* Adds the lanes of v to the double accumulators: sums over many values stay exact to double. */
static inline void vec_accumulate(dvec acc[2], vec v)
{
    vec_half low, high;
    memcpy(&low, &v, sizeof low);
    memcpy(&high, (const char *)&v + sizeof low, sizeof high);
    acc[0] += __builtin_convertvector(low, dvec);
    acc[1] += __builtin_convertvector(high, dvec);
}

static inline double vec_total(const dvec acc[2])
{
    dvec s = acc[0] + acc[1];
    double total = 0;
    for (int i = 0; i < VEC_LANES / 2; i++)
        total += s[i];
    return total;
}

/*
 * e^x, relative error below 2e-7 (tests/unit/test_kernels.c measures it on a grid); 0 below -87.3, so -inf
 * gives 0; x above 88.7 must not occur. Cody-Waite reduction by ln 2 in two parts, then the Taylor
 * polynomial of degree 7 on [-ln2/2, ln2/2], whose remainder is below 6e-9.
 */
static inline vec vec_exp(vec x)
{
    const vec magic = vec_all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits */
    ivec tiny = x < vec_all(-87.3f);
    vec clamped = vec_select(tiny, vec_all(-87.3f), x);
    vec t = clamped * vec_all(1.44269504f) + magic;
    vec n = t - magic;
    vec r = clamped - n * vec_all(0.693359375f);
    r = r - n * vec_all(-2.12194440e-4f);
    vec p = vec_all(1.98412698e-4f);
    p = p * r + vec_all(1.38888889e-3f);
    p = p * r + vec_all(8.33333333e-3f);
    p = p * r + vec_all(4.16666667e-2f);
    p = p * r + vec_all(1.66666667e-1f);
    p = p * r + vec_all(5.0e-1f);
    p = p * (r * r) + r + vec_all(1.0f);
    ivec scaled = (ivec)p + (((ivec)t - (ivec)magic) << 23);
    return vec_select(tiny, vec_all(0), (vec)scaled);
}

#endif
