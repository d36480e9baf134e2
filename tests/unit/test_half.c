/* Half and bfloat16, both directions, exhaustively and in every instruction set. */
#include "core/base/half.h"

#include "core/base/half_isa.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct level {
    const char *name;
    enum isa least;
    void (*half_widen)(float *, const void *, size_t), (*bf16_widen)(float *, const void *, size_t);
    void (*half_narrow)(uint16_t *, const float *, size_t), (*bf16_narrow)(uint16_t *, const float *, size_t);
};
static const struct level levels[] = {
#define LEVEL(isa, least)                                                                                              \
    {                                                                                                                  \
#isa, least, half_widen_##isa, bf16_widen_##isa, half_narrow_##isa, bf16_narrow_##isa                          \
    }
    LEVEL(base, ISA_LEVEL_BASE),
#if defined(__x86_64__)
    LEVEL(v3, ISA_LEVEL_V3),
    LEVEL(v4, ISA_LEVEL_V4),
#endif
};
enum { N_LEVELS = sizeof levels / sizeof *levels, ALL = 65536 };

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float number(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* IEEE 754 binary16 by its definition. */
static double half_by_definition(unsigned h)
{
    int exponent = (int)(h >> 10 & 31);
    double fraction = (double)(h & 1023) / 1024, sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return h & 1023 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1 + fraction, exponent - 15) : ldexp(fraction, -14));
}

static void every_half_widens_to_its_value(void **state)
{
    (void)state;
    static uint16_t all[ALL];
    static float x[ALL];
    for (unsigned h = 0; h < ALL; h++)
        all[h] = (uint16_t)h;
    for (size_t l = 0; l < N_LEVELS; l++) {
        if (levels[l].least > isa_level())
            continue;
        levels[l].half_widen(x, all, ALL);
        for (unsigned h = 0; h < ALL; h++) {
            double wanted = half_by_definition(h);
            if (isnan(wanted) ? !isnan(x[h]) : (double)x[h] != wanted || !signbit(x[h]) != !(h >> 15))
                fail_msg("%s: half %04x is %.9g, not %.9g", levels[l].name, h, (double)x[h], wanted);
        }
        levels[l].bf16_widen(x, all, ALL);
        for (unsigned h = 0; h < ALL; h++)
            assert_int_equal(bits(x[h]), h << 16);
    }
}

static void halves_survive_the_round_trip(void **state)
{
    (void)state;
    static uint16_t all[ALL], back[ALL];
    static float x[ALL];
    for (unsigned h = 0; h < ALL; h++)
        all[h] = (uint16_t)h;
    half_to_f32(x, all, ALL);
    assert_int_equal(half_from_f32(back, x, ALL), ALL);
    for (unsigned h = 0; h < ALL; h++)
        if ((h & 0x7fff) > 0x7c00 ? (back[h] & 0x7fff) <= 0x7c00 : back[h] != h)
            fail_msg("half %04x comes back as %04x", h, back[h]);
    bf16_to_f32(x, all, ALL);
    assert_int_equal(bf16_from_f32(back, x, ALL), ALL);
    for (unsigned h = 0; h < ALL; h++)
        if ((h & 0x7fff) > 0x7f80 ? (back[h] & 0x7fff) <= 0x7f80 : back[h] != h)
            fail_msg("bfloat16 %04x comes back as %04x", h, back[h]);
}

/* The nearest of the two neighbours of x, ties to the even one, by comparing distances in double. */
static unsigned nearest(float x, unsigned low, double value(unsigned))
{
    double a = fabs((double)x - value(low)), b = fabs((double)x - value(low + 1));
    return a < b || (a == b && !(low & 1)) ? low : low + 1;
}

static double half_value(unsigned h)
{
    return h == 0x7c00 ? 65536 : half_by_definition(h); /* where the next number would be decides about overflow */
}

static double bf16_value(unsigned h)
{
    return h == 0x7f80 ? 0x1p128 : (double)number(h << 16);
}

/* Just below, at and just above the middle between any two neighbours, both signs. */
static void narrowing_rounds_to_nearest_even(void **state)
{
    (void)state;
    static float x[6 * ALL];
    static uint16_t wanted[6 * ALL], got[6 * ALL];
    for (int kind = 0; kind < 2; kind++) {
        unsigned top = kind ? 0x7f80 : 0x7c00;
        size_t n = 0;
        for (unsigned h = 0; h < top; h++) {
            double value = kind ? bf16_value(h) : half_value(h), next = kind ? bf16_value(h + 1) : half_value(h + 1);
            float middle = (float)((value + next) / 2);
            const float around[] = { nextafterf(middle, 0), middle, nextafterf(middle, INFINITY) };
            for (size_t i = 0; i < 3; i++) {
                unsigned rounded = nearest(around[i], h, kind ? bf16_value : half_value);
                x[n] = around[i];
                wanted[n++] = (uint16_t)rounded;
                x[n] = -around[i];
                wanted[n++] = (uint16_t)(rounded | 0x8000);
            }
        }
        for (size_t l = 0; l < N_LEVELS; l++) {
            if (levels[l].least > isa_level())
                continue;
            (kind ? levels[l].bf16_narrow : levels[l].half_narrow)(got, x, n);
            for (size_t i = 0; i < n; i++)
                if (got[i] != wanted[i])
                    fail_msg("%s: %.9g becomes %04x, not %04x", levels[l].name, (double)x[i], got[i], wanted[i]);
        }
    }
}

static void the_first_overflow_is_reported(void **state)
{
    (void)state;
    float x[20];
    uint16_t h[20];
    for (size_t i = 0; i < 20; i++)
        x[i] = i == 7 ? INFINITY : i == 9 ? NAN : i == 13 ? -65520.0F : 65519.0F; /* 65519 rounds to 65504 */
    assert_int_equal(half_from_f32(h, x, 20), 13);
    assert_int_equal(h[13], 0xfc00);
    assert_int_equal(h[7], 0x7c00);
    assert_int_equal(h[0], 0x7bff);
    assert_int_equal(half_from_f32(h, x, 13), 13);
    x[13] = 3.4e38F;
    assert_int_equal(bf16_from_f32(h, x, 20), 13);
}

static void single_numbers_agree_with_arrays(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        float x = number(i * 42949u);
        uint16_t h, b;
        half_from_f32(&h, &x, 1);
        bf16_from_f32(&b, &x, 1);
        assert_int_equal(half_from_f32_one(x), h);
        assert_int_equal(bf16_from_f32_one(x), b);
        assert_int_equal(bits(bf16_to_f32_one(b)), (uint32_t)b << 16);
        float wide;
        half_to_f32(&wide, &h, 1);
        assert_true(half_to_f32_one(h) == wide || (isnan(wide) && isnan(half_to_f32_one(h))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_widens_to_its_value),   cmocka_unit_test(halves_survive_the_round_trip),
        cmocka_unit_test(narrowing_rounds_to_nearest_even), cmocka_unit_test(the_first_overflow_is_reported),
        cmocka_unit_test(single_numbers_agree_with_arrays),
    };
    return cmocka_run_group_tests_name("half", tests, NULL, NULL);
}
