/*
 * Statistics over facts: quantiles, means, and bands by a cluster bootstrap.
 *
 *     double middle = statistics_quantile(sorted, n, 0.5);
 *
 *     struct bootstrap b = { .values = hits, .n_rows = n, .n_series = n_layers, .cluster = subject,
 *                            .n_clusters = n_subjects, .seed = 1 };
 *     if (bootstrap_means(&b, mean, low, high, &err)) ...          // each [n_layers]
 *
 * Facts about one subject are not independent, so whole clusters (subjects) are
 * drawn with replacement, as many as there are, and the mean of their rows is
 * taken: the percentile bootstrap (Efron and Tibshirani 1993, section 13.3; for
 * clusters Cameron, Gelbach and Miller 2008). Every series sees the same draws,
 * so that bands of layers and of paired differences belong together. Same seed,
 * same numbers, on every machine. Sums are in double.
 */
#ifndef STRATA_PROBES_STATISTICS_H
#define STRATA_PROBES_STATISTICS_H

#include "core/base/err.h"
#include "core/base/random.h"

#include <stddef.h>
#include <stdint.h>

/* Rising order; NaN may not occur. */
void statistics_sort(double *values, size_t n);
/*
 * Type 7 of Hyndman and Fan 1996 (the default of R and numpy): linear between
 * order statistics, h = (n - 1) p. `sorted` rises; p in 0..1; NaN for n == 0.
 */
double statistics_quantile(const double *sorted, size_t n, double p);
double statistics_mean(const double *values, size_t n); /* NaN for n == 0 */

/*
 * Numbers the distinct labels from 0 in order of first appearance: cluster[i]
 * is the number of labels[i]. NULL labels each become a cluster of their own.
 */
int statistics_clusters(const char *const *labels, size_t n, uint32_t *cluster, size_t *n_clusters, struct err *err);

enum { BOOTSTRAP_DRAWS = 1000 };

struct bootstrap {
    const double *values; /* [n_rows, n_series], finite */
    size_t n_rows, n_series;
    const uint32_t *cluster; /* [n_rows], below n_clusters; NULL: each row is a cluster */
    size_t n_clusters;       /* of the rows; ignored where cluster is NULL */
    size_t n_draws;          /* 0: BOOTSTRAP_DRAWS */
    double level;            /* of the band, in 0..1; 0: 0.95 */
    uint64_t seed;
};

/*
 * mean, low, high: [n_series], any of them may be NULL. With fewer than two
 * clusters there is no band: low and high are NaN. A cluster without rows is an
 * error (ERR_ARG), as is a value that is not finite (ERR_NUMERIC).
 */
int bootstrap_means(const struct bootstrap *b, double *mean, double *low, double *high, struct err *err);

#endif
