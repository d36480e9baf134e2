#include "core/base/random.h"

#include <math.h>

void random_seed(struct random_source *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->state[i] = z ^ (z >> 31);
    }
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t random_next(struct random_source *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* High and low 64 bits of a * b. */
static uint64_t multiply_high(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    uint64_t middle = a1 * b0 + ((a0 * b0) >> 32), rest = (middle & 0xffffffffu) + a0 * b1;
    *low = a * b;
    return a1 * b1 + (middle >> 32) + (rest >> 32);
}

uint64_t random_below(struct random_source *r, uint64_t n)
{
    uint64_t low, high = multiply_high(random_next(r), n, &low);
    if (low < n) {
        uint64_t threshold = (0 - n) % n; /* 2^64 mod n: these low parts would make some results more likely */
        while (low < threshold)
            high = multiply_high(random_next(r), n, &low);
    }
    return high;
}

double random_normal(struct random_source *r)
{
    /* (0, 1] and [0, 1), from the upper 53 bits. */
    double u = ((double)(random_next(r) >> 11) + 1) * 0x1p-53, v = (double)(random_next(r) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586476925 * v);
}
