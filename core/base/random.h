/*
 * Random numbers that are the same on every machine for the same seed.
 *
 *     struct random_source r;
 *     random_seed(&r, 1);
 *     uint64_t card = random_below(&r, 52);
 *     double x = random_normal(&r);
 *
 * xoshiro256** (Blackman and Vigna 2021), its state filled by splitmix64 from
 * a seed. Not for secrets.
 */
#ifndef STRATA_BASE_RANDOM_H
#define STRATA_BASE_RANDOM_H

#include <stdint.h>

struct random_source {
    uint64_t state[4];
};

void random_seed(struct random_source *r, uint64_t seed);
uint64_t random_next(struct random_source *r);
/* Uniform in 0 .. n-1 without bias (Lemire 2019); n > 0. */
uint64_t random_below(struct random_source *r, uint64_t n);
/* Standard normal (Box and Muller 1958, the cosine half); the last bits depend on libm. */
double random_normal(struct random_source *r);

#endif
