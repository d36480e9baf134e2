/*
 * Two dump (or lens) files, site by site: how far their numbers are apart.
 *
 *     struct dump_diff diff;
 *     if (dump_diff_compute(&a, &b, progress, &diff, &err)) ...
 *     for (size_t s = 0; s < diff.n_sites; s++)
 *         printf("%s %g\n", diff.sites[s].name, diff.sites[s].relative);
 *     dump_diff_release(&diff);
 *
 * Prompts are the same when id, text and token ids are (of several with the
 * same id the n-th in one file is the n-th in the other); rows when prompt and
 * position are. Only those are compared, the rest is counted. Halves and floats
 * are widened, sums are in double. Equal infinities and two NaN count as equal
 * and stay out of the sums; any other NaN or infinity makes max_abs infinite.
 *
 * Memory: what dump_data holds, 24 bytes for each stretch of rows that do not
 * follow one another, and 4 MiB.
 */
#ifndef STRATA_PROBES_DUMP_DIFF_H
#define STRATA_PROBES_DUMP_DIFF_H

#include "core/base/progress.h"
#include "core/store/dump_data.h"

enum site_diff_kind { SITE_DIFF_BOTH, SITE_DIFF_ONLY_A, SITE_DIFF_ONLY_B, SITE_DIFF_SHAPE, SITE_DIFF_TYPE };

struct site_diff {
    char *name; /* owned */
    enum site_diff_kind kind;
    uint64_t n;       /* numbers compared; 0 unless BOTH */
    double max_abs;   /* max |a - b| */
    double relative;  /* ||a - b|| / ||b||; 0 where both are 0 */
    double cosine;    /* a.b / (||a|| ||b||); 1 where both are 0, 0 where one is */
    size_t prompt;    /* of max_abs, in a; SIZE_MAX where nothing differs */
    int32_t position; /* of its row; -1 for whole squares and where nothing differs */
};

struct dump_diff {
    size_t n_prompts, n_rows;            /* compared */
    size_t n_only_a, n_only_b;           /* prompts whose id the other file does not have */
    size_t n_other;                      /* same id, other text or tokens */
    size_t n_rows_only_a, n_rows_only_b; /* of compared prompts: positions that one file stores */
    const char *only_a, *only_b, *other; /* id of the first such prompt, borrowed from the dump_data; NULL: none */
    struct site_diff *sites;             /* [n_sites] in the order of the forward pass */
    size_t n_sites;
};

/* progress counts sites; ERR_INTERRUPTED when it asks to stop. */
int dump_diff_compute(const struct dump_data *a, const struct dump_data *b, struct progress *progress,
                      struct dump_diff *out, struct err *err);
void dump_diff_release(struct dump_diff *d);
/* Whether the site is in both and within the tolerance: of `relative`; tolerance 0: every number equal. */
bool site_diff_is_within(const struct site_diff *s, double tolerance);

#endif
