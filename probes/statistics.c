#include "probes/statistics.h"
#include "core/base/mem.h"
#include "core/base/strmap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void statistics_sort(double *values, size_t n)
{
    if (n)
        qsort(values, n, sizeof *values, compare);
}

double statistics_quantile(const double *sorted, size_t n, double p)
{
    if (n == 0)
        return NAN;
    double h = (double)(n - 1) * fmin(fmax(p, 0), 1);
    size_t below = (size_t)h;
    if (below >= n - 1)
        return sorted[n - 1];
    double part = h - (double)below;
    /* Equal neighbours first: infinity - infinity would be NaN. */
    return sorted[below] == sorted[below + 1] ? sorted[below]
                                              : sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

double statistics_mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n ? sum / (double)n : NAN;
}

int statistics_clusters(const char *const *labels, size_t n, uint32_t *cluster, size_t *n_clusters, struct err *err)
{
    struct strmap map;
    uint32_t next = 0;
    if (n > UINT32_MAX - 1)
        return err_set(err, ERR_ARG, "%zu rows are too many to cluster: split the file", n);
    if (strmap_init(&map, n))
        return err_nomem(err, "clusters");
    for (size_t i = 0; i < n; i++) {
        uint32_t number = next;
        if (labels[i] && strmap_put(&map, labels[i], strlen(labels[i]), next, &number)) {
            strmap_release(&map);
            return err_nomem(err, "clusters");
        }
        cluster[i] = number;
        next += number == next;
    }
    strmap_release(&map);
    *n_clusters = next;
    return 0;
}

/* Sums and row counts of every cluster: a draw then costs its clusters, not its rows. */
struct sums {
    double *sum;   /* [n_clusters, n_series] */
    double *count; /* [n_clusters] */
};

static int sum_clusters(const struct bootstrap *b, size_t n_clusters, struct sums *s, struct err *err)
{
    for (size_t i = 0; i < b->n_rows; i++) {
        size_t c = b->cluster ? b->cluster[i] : i;
        if (c >= n_clusters)
            return err_set(err, ERR_ARG, "bootstrap: row %zu is in cluster %zu of %zu", i, c, n_clusters);
        s->count[c]++;
        for (size_t k = 0; k < b->n_series; k++) {
            double x = b->values[i * b->n_series + k];
            if (!isfinite(x))
                return err_set(err, ERR_NUMERIC, "bootstrap: row %zu, series %zu is not a finite number", i, k);
            s->sum[c * b->n_series + k] += x;
        }
    }
    for (size_t c = 0; c < n_clusters; c++)
        if (s->count[c] == 0)
            return err_set(err, ERR_ARG, "bootstrap: cluster %zu has no rows", c);
    return 0;
}

/* draws: [n_series, n_draws], unsorted. */
static void draw_means(const struct bootstrap *b, size_t n_clusters, size_t n_draws, const struct sums *s,
                       double *total, double *draws)
{
    struct random_source r;
    random_seed(&r, b->seed);
    for (size_t d = 0; d < n_draws; d++) {
        double count = 0;
        memset(total, 0, b->n_series * sizeof *total);
        for (size_t i = 0; i < n_clusters; i++) {
            size_t c = (size_t)random_below(&r, n_clusters);
            const double *sum = s->sum + c * b->n_series;
            count += s->count[c];
            for (size_t k = 0; k < b->n_series; k++)
                total[k] += sum[k];
        }
        for (size_t k = 0; k < b->n_series; k++)
            draws[k * n_draws + d] = total[k] / count;
    }
}

static void mean_of_rows(const struct bootstrap *b, double *mean)
{
    for (size_t k = 0; k < b->n_series; k++) {
        double sum = 0;
        for (size_t i = 0; i < b->n_rows; i++)
            sum += b->values[i * b->n_series + k];
        mean[k] = b->n_rows ? sum / (double)b->n_rows : NAN;
    }
}

int bootstrap_means(const struct bootstrap *b, double *mean, double *low, double *high, struct err *err)
{
    size_t n_clusters = b->cluster ? b->n_clusters : b->n_rows;
    size_t n_draws = n_clusters < 2 ? 0 : b->n_draws ? b->n_draws : BOOTSTRAP_DRAWS;
    size_t n_sums, n_drawn;
    if (!size_mul(n_clusters, b->n_series, &n_sums) || !size_mul(n_draws, b->n_series, &n_drawn))
        return err_nomem(err, "bootstrap");
    struct sums s = { mem_zeroed(n_sums, sizeof *s.sum), mem_zeroed(n_clusters, sizeof *s.count) };
    double *total = mem_array(b->n_series, sizeof *total), *draws = mem_array(n_drawn, sizeof *draws);
    int rc = s.sum && s.count && total && draws ? sum_clusters(b, n_clusters, &s, err) : err_nomem(err, "bootstrap");

    if (rc == 0) {
        double tail = (1 - (b->level > 0 ? b->level : 0.95)) / 2;
        draw_means(b, n_clusters, n_draws, &s, total, draws);
        if (mean)
            mean_of_rows(b, mean);
        for (size_t k = 0; k < b->n_series; k++) {
            statistics_sort(draws + k * n_draws, n_draws);
            if (low)
                low[k] = statistics_quantile(draws + k * n_draws, n_draws, tail);
            if (high)
                high[k] = statistics_quantile(draws + k * n_draws, n_draws, 1 - tail);
        }
    }
    free(s.sum);
    free(s.count);
    free(total);
    free(draws);
    return rc;
}
