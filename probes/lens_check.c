#include "probes/lens_check.h"

#include "core/base/self_test.h"
#include "core/runtime/kernel_check.h"

#include <math.h>
#include <stdbool.h>

enum { LONGEST = 100, PADDING = 3 };
static const float SENTINEL = 12345.0F;

static bool near(double got, double want, double bound)
{
    return fabs(got - want) <= bound;
}

/* Each sum against the double one; e^x is right to 2e-7, its argument to 6e-8 of some 10. */
static bool same(const struct lens_stats *got, const struct lens_stats *want)
{
    const double relative = 2e-6;
    return got->max == want->max && near(got->sum, want->sum, relative * want->sum) &&
           near(got->weighted, want->weighted, relative * (fabs(want->weighted) + want->sum)) &&
           near(got->cross, want->cross, relative * (fabs(want->cross) + 20 * want->sum)) &&
           got->greater == want->greater && got->equal == want->equal;
}

int lens_check_kernels(const struct lens_kernels_f32 *k, struct err *err)
{
    static const size_t sizes[] = { 3, 16, 15, 1, 100, 33 };
    struct lens_stats got = { .max = -INFINITY }, want = { .max = -INFINITY };
    uint64_t state = 1;
    const char *what = NULL;
    const float answer = 4.5F;
    for (size_t s = 0; !what && s < sizeof sizes / sizeof *sizes; s++) {
        float z[LONGEST], f[LONGEST], w[LONGEST + PADDING];
        double wide[LONGEST], wide_f[LONGEST], wide_w[LONGEST];
        size_t n = sizes[s];
        for (size_t i = 0; i < n; i++) {
            wide[i] = (double)(z[i] = 4 * (self_test_number(&state) + 1) + (float)s);
            wide_f[i] = (double)(f[i] = 2 * (self_test_number(&state) - 1));
        }
        /* The greatest in the last place, where tails are; the answer's logit in each block. */
        wide[n / 2] = (double)(z[n / 2] = answer);
        wide[n - 1] = (double)(z[n - 1] = 9 + (float)s);
        float top = k->max(z, n);
        double want_top = lens_max_f64(wide, n);
        if (!((double)top == want_top))
            what = "greatest logit of the lens";
        for (size_t i = 0; i < LONGEST + PADDING; i++)
            w[i] = SENTINEL;
        k->weights(f, n, 0.5, w);
        lens_weights_f64(wide_f, n, 0.5, wide_w);
        for (size_t i = 0; i < n + PADDING; i++)
            if (i < n ? !near((double)w[i], wide_w[i], 2e-6 * wide_w[i]) : w[i] != SENTINEL)
                what = what ? what : "weights of the lens";
        k->add(&got, z, n, top, answer, s % 3 ? f : NULL, w);
        lens_stats_add_f64(&want, wide, n, want_top, (double)answer, s % 3 ? wide_f : NULL, wide_w);
        if (!what && !same(&got, &want))
            what = "statistics of the lens";
    }
    return what ? kernel_is_wrong(what, err) : 0;
}

static int check(struct err *err)
{
    const struct lens_kernels_f32 k = lens_kernels_f32();
    return lens_check_kernels(&k, err);
}

int lens_check(struct err *err)
{
    static struct self_test test = SELF_TEST(check);
    return self_test(&test, err);
}
