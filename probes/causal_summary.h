/*
 * Causal tracing over facts: average total and indirect effects, by the role
 * of the restored token, with bands by a bootstrap over subjects.
 *
 *     struct causal_summary s;
 *     const struct causal_summary_input in = { .traces = traces, .spans = spans, .subjects = subjects, .n = n,
 *                                              .kinds = CAUSAL_ALL, .seed = 1 };
 *     if (causal_summary_make(&s, &in, &err)) ...
 *     for (size_t i = 0; i < s.n_series; i++)
 *         printf("%s: AIE %g at layer %zu\n", causal_role_name(s.series[i].role), s.series[i].mean[peak], peak);
 *     causal_summary_release(&s);
 *
 * Tokens of one role are averaged within a fact, then facts: a fact without such a token does not count there (n).
 */
#ifndef STRATA_PROBES_CAUSAL_SUMMARY_H
#define STRATA_PROBES_CAUSAL_SUMMARY_H

#include "probes/causal_trace.h"

struct causal_span {
    size_t subject_begin, subject_end;
    size_t n_read; /* tokens up to and with the one that is read */
};

struct causal_summary_input {
    const struct causal_trace *const *traces; /* [n] of one model and one set of kinds */
    const struct causal_span *spans;          /* [n] */
    const char *const *subjects;              /* [n]; NULL items: a subject of their own */
    size_t n;
    unsigned kinds;
    uint64_t seed;
};

struct causal_series {
    enum causal_kind kind;
    enum causal_role role;
    size_t n;                  /* facts that have such a token */
    double *mean, *low, *high; /* [n_layers] indirect effect; 95 % band, NaN with fewer than two subjects */
};

struct causal_estimate {
    double mean, low, high;
};

struct causal_summary {
    size_t n, n_layers, n_subjects;
    struct causal_estimate clean, corrupted, total; /* total: the average total effect */
    struct causal_series *series;                   /* by kind, then role; those of no fact and BEFORE are left out */
    size_t n_series;
    double *memory; /* owned: what the series point into */
};

int causal_summary_make(struct causal_summary *out, const struct causal_summary_input *in, struct err *err);
void causal_summary_release(struct causal_summary *s); /* also of a zeroed struct */

/* The layer of the largest mean. */
size_t causal_series_peak(const struct causal_series *s, size_t n_layers);
/* NULL where there is none. */
const struct causal_series *causal_series_find(const struct causal_summary *s, enum causal_kind kind,
                                               enum causal_role role);

#endif
