/*
 * Quantiles, the generator, clusters and the bootstrap, against naive versions
 * and against what they promise (coverage). Sums are in double and small, so
 * 1e-12 relative is far above their rounding.
 */
#include "probes/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) <= 1e-12 * fmax(1, fabs(b)))

static double uniform(struct random_source *r)
{
    return (double)(random_next(r) >> 11) * 0x1p-53;
}

static void quantiles_equal_numpy_default(void **state)
{
    (void)state;
    /* numpy.quantile([1, 2, 4, 8, 16], p) */
    const double x[] = { 1, 2, 4, 8, 16 };
    NEAR(statistics_quantile(x, 5, 0), 1.0);
    NEAR(statistics_quantile(x, 5, 0.25), 2.0);
    NEAR(statistics_quantile(x, 5, 0.4), 2 + 0.6 * 2);
    NEAR(statistics_quantile(x, 5, 0.9), 8 + 0.6 * 8);
    NEAR(statistics_quantile(x, 5, 1), 16.0);
    NEAR(statistics_quantile(x, 4, 0.5), 3.0);
    NEAR(statistics_quantile(x, 1, 0.3), 1.0);
    assert_true(isnan(statistics_quantile(x, 0, 0.5)));
    const double same[] = { 1, INFINITY, INFINITY };
    assert_true(isinf(statistics_quantile(same, 3, 0.75)));
}

/* Another way to the same definition: the piecewise linear curve through (i / (n - 1), x_i). */
static double naive_quantile(const double *x, size_t n, double p, size_t shift)
{
    for (size_t i = 0; i + 1 < n; i++) {
        double from = (double)i / (double)(n - 1), to = (double)(i + 1) / (double)(n - 1);
        if (p <= to)
            return x[i + shift] + (p - from) / (to - from) * (x[i + 1] - x[i + shift]);
    }
    return x[n - 1];
}

static void quantiles_equal_naive_interpolation(void **state)
{
    (void)state;
    struct random_source r;
    random_seed(&r, 7);
    double most_wrong = 0;
    for (size_t n = 2; n < 40; n++) {
        double x[40];
        for (size_t i = 0; i < n; i++)
            x[i] = uniform(&r) * 100;
        statistics_sort(x, n);
        for (size_t i = 1; i < n; i++)
            assert_true(x[i - 1] <= x[i]);
        for (int k = 0; k < 20; k++) {
            double p = uniform(&r), got = statistics_quantile(x, n, p);
            NEAR(got, naive_quantile(x, n, p, 0));
            most_wrong = fmax(most_wrong, fabs(got - naive_quantile(x, n, p, 1))); /* planted: off by one */
        }
    }
    assert_true(most_wrong > 1);
}

static void generator_gives_the_published_sequence(void **state)
{
    (void)state;
    /* splitmix64 from 1234567 is published with its reference code; xoshiro256** from state {1, 2, 3, 4} likewise. */
    struct random_source r;
    random_seed(&r, 1234567);
    assert_true(r.state[0] == 6457827717110365317u);
    assert_true(r.state[1] == 3203168211198807973u);
    r = (struct random_source){ { 1, 2, 3, 4 } };
    const uint64_t want[] = { 11520, 0, 1509978240, 1215971899390074240 };
    for (size_t i = 0; i < 4; i++)
        assert_true(random_next(&r) == want[i]);
}

static void draws_below_n_are_uniform(void **state)
{
    (void)state;
    struct random_source r;
    random_seed(&r, 3);
    size_t count[7] = { 0 };
    for (size_t i = 0; i < 70000; i++) {
        uint64_t x = random_below(&r, 7);
        assert_true(x < 7);
        count[x]++;
    }
    for (size_t i = 0; i < 7; i++) /* sd 92.6: 500 is more than five of them */
        assert_true(count[i] > 9500 && count[i] < 10500);
    /* Near 2^64 a plain modulo would be badly skewed to the low third. */
    uint64_t n = 3u * (UINT64_MAX / 4);
    size_t low = 0;
    for (size_t i = 0; i < 30000; i++)
        low += random_below(&r, n) < n / 3;
    assert_true(low > 9500 && low < 10500); /* sd 81.6; a modulo gives 15000 */
    assert_true(random_below(&r, 1) == 0);
}

static void clusters_are_numbered_by_first_appearance(void **state)
{
    (void)state;
    const char *const labels[] = { "b", "a", "b", NULL, "a", NULL, "" };
    const uint32_t want[] = { 0, 1, 0, 2, 1, 3, 4 };
    uint32_t got[7];
    size_t n;
    struct err err;
    assert_int_equal(statistics_clusters(labels, 7, got, &n, &err), 0);
    assert_int_equal(n, 5);
    assert_memory_equal(got, want, sizeof want);
}

/* Rows of drawn clusters gathered one by one, then averaged; `clustered` false: rows drawn alone (the fault). */
static void naive_bootstrap(const double *x, const uint32_t *cluster, size_t n, size_t n_clusters, size_t n_draws,
                            uint64_t seed, int clustered, double *low, double *high)
{
    struct random_source r;
    random_seed(&r, seed);
    double *draws = malloc(n_draws * sizeof *draws);
    assert_non_null(draws);
    for (size_t d = 0; d < n_draws; d++) {
        double sum = 0, count = 0;
        for (size_t k = 0; k < (clustered ? n_clusters : n); k++) {
            size_t drawn = (size_t)random_below(&r, clustered ? n_clusters : n);
            for (size_t i = 0; i < n; i++)
                if (clustered ? cluster[i] == drawn : i == drawn) {
                    sum += x[i];
                    count++;
                }
        }
        draws[d] = sum / count;
    }
    statistics_sort(draws, n_draws);
    *low = statistics_quantile(draws, n_draws, 0.025);
    *high = statistics_quantile(draws, n_draws, 0.975);
    free(draws);
}

static void bootstrap_equals_naive_resampling(void **state)
{
    (void)state;
    enum { N = 60, CLUSTERS = 12, SERIES = 3, DRAWS = 200 };
    double values[N * SERIES], one[N], mean[SERIES], low[SERIES], high[SERIES];
    uint32_t cluster[N];
    struct random_source r;
    struct err err;
    random_seed(&r, 11);
    for (size_t i = 0; i < N; i++) {
        cluster[i] = (uint32_t)(i < CLUSTERS ? i : random_below(&r, CLUSTERS));
        for (size_t k = 0; k < SERIES; k++) /* clusters differ, or resampling rows would do as well */
            values[i * SERIES + k] = uniform(&r) + 3.0 * (cluster[i] % 4) + (double)k;
    }
    const struct bootstrap b = { .values = values,
                                 .n_rows = N,
                                 .n_series = SERIES,
                                 .cluster = cluster,
                                 .n_clusters = CLUSTERS,
                                 .n_draws = DRAWS,
                                 .seed = 5 };
    assert_int_equal(bootstrap_means(&b, mean, low, high, &err), 0);
    for (size_t k = 0; k < SERIES; k++) {
        double want_low, want_high;
        for (size_t i = 0; i < N; i++)
            one[i] = values[i * SERIES + k];
        naive_bootstrap(one, cluster, N, CLUSTERS, DRAWS, 5, 1, &want_low, &want_high);
        NEAR(mean[k], statistics_mean(one, N));
        NEAR(low[k], want_low);
        NEAR(high[k], want_high);
        naive_bootstrap(one, cluster, N, CLUSTERS, DRAWS, 5, 0, &want_low, &want_high);
        assert_true(high[k] - low[k] > 1.2 * (want_high - want_low)); /* planted: clusters ignored */
    }
}

static void bootstrap_is_deterministic_and_follows_its_seed(void **state)
{
    (void)state;
    enum { N = 50 };
    double values[N], low[3], high[3];
    struct random_source r;
    struct err err;
    random_seed(&r, 2);
    for (size_t i = 0; i < N; i++)
        values[i] = uniform(&r);
    for (size_t k = 0; k < 3; k++) {
        const struct bootstrap b = { .values = values, .n_rows = N, .n_series = 1, .seed = k == 2 ? 8 : 9 };
        assert_int_equal(bootstrap_means(&b, NULL, &low[k], &high[k], &err), 0);
    }
    assert_memory_equal(&low[0], &low[1], sizeof low[0]);
    assert_memory_equal(&high[0], &high[1], sizeof high[0]);
    assert_true(low[0] != low[2] || high[0] != high[2]);
}

/*
 * 400 experiments of 40 clusters with a shared cluster effect: the 95 % band must hold the true mean in 91..98 % of
 * them. (The percentile bootstrap is a little narrow at 40 clusters, 0.94; 400 trials have sd 0.012.) Rows drawn
 * alone must fail the same check, or it shows nothing.
 */
static void bands_cover_the_truth(void **state)
{
    (void)state;
    enum { TRIALS = 400, CLUSTERS = 40, EACH = 5, N = CLUSTERS * EACH };
    double values[N], low, high;
    uint32_t cluster[N];
    struct random_source r;
    struct err err;
    size_t held[2] = { 0, 0 };
    random_seed(&r, 21);
    for (size_t t = 0; t < TRIALS; t++) {
        for (size_t c = 0; c < CLUSTERS; c++) {
            double effect = 2 * uniform(&r);
            for (size_t i = 0; i < EACH; i++) {
                values[c * EACH + i] = effect + 0.5 * uniform(&r); /* true mean 1.25 */
                cluster[c * EACH + i] = (uint32_t)c;
            }
        }
        for (size_t k = 0; k < 2; k++) {
            const struct bootstrap b = { .values = values,
                                         .n_rows = N,
                                         .n_series = 1,
                                         .cluster = k ? NULL : cluster,
                                         .n_clusters = CLUSTERS,
                                         .n_draws = 300,
                                         .seed = t };
            assert_int_equal(bootstrap_means(&b, NULL, &low, &high, &err), 0);
            held[k] += low <= 1.25 && 1.25 <= high;
        }
    }
    assert_in_range(held[0], TRIALS * 91 / 100, TRIALS * 98 / 100);
    assert_true(held[1] < TRIALS * 80 / 100);
}

static void bootstrap_refuses_what_has_no_band(void **state)
{
    (void)state;
    double values[] = { 1, 2, 3 }, mean, low, high;
    uint32_t cluster[] = { 0, 0, 0 };
    struct err err;
    struct bootstrap b = { .values = values, .n_rows = 3, .n_series = 1, .cluster = cluster, .n_clusters = 1 };
    assert_int_equal(bootstrap_means(&b, &mean, &low, &high, &err), 0);
    NEAR(mean, 2.0);
    assert_true(isnan(low) && isnan(high));
    b.n_clusters = 2; /* the second one is empty */
    assert_int_equal(bootstrap_means(&b, &mean, &low, &high, &err), ERR_ARG);
    cluster[1] = 2; /* out of range */
    assert_int_equal(bootstrap_means(&b, &mean, &low, &high, &err), ERR_ARG);
    cluster[1] = 1;
    values[2] = NAN;
    assert_int_equal(bootstrap_means(&b, &mean, &low, &high, &err), ERR_NUMERIC);
    b = (struct bootstrap){ .values = values, .n_rows = 0, .n_series = 1 };
    assert_int_equal(bootstrap_means(&b, &mean, &low, &high, &err), 0);
    assert_true(isnan(mean) && isnan(low) && isnan(high));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_equal_numpy_default),
        cmocka_unit_test(quantiles_equal_naive_interpolation),
        cmocka_unit_test(generator_gives_the_published_sequence),
        cmocka_unit_test(draws_below_n_are_uniform),
        cmocka_unit_test(clusters_are_numbered_by_first_appearance),
        cmocka_unit_test(bootstrap_equals_naive_resampling),
        cmocka_unit_test(bootstrap_is_deterministic_and_follows_its_seed),
        cmocka_unit_test(bands_cover_the_truth),
        cmocka_unit_test(bootstrap_refuses_what_has_no_band),
    };
    return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
