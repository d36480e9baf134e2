/*
 * Self-check of a loaded model: identities that hold between sites whatever the
 * weights, and every site in fp32 against fp64. Catches wrong wiring (a norm in
 * the wrong place, heads mixed up, a lost bias) and broken kernels.
 *
 *     struct verify_report report;
 *     if (verify_model(model, pool, prompts, n_prompts, &report, &err)) ...
 *     for (size_t i = 0; i < report.n; i++)
 *         printf("%s: %.1e of %.0e\n", report.rows[i].name, report.rows[i].worst, report.rows[i].limit);
 *     verify_report_release(&report);
 *
 * Errors are relative, ||a - b|| / ||b|| over all rows of a layer; the worst layer counts.
 */
#ifndef STRATA_PROBES_VERIFY_H
#define STRATA_PROBES_VERIFY_H

#include "core/runtime/runtime.h"

struct verify_row {
    char name[96]; /* an identity in words, or a site's name with L for the layer */
    bool identity; /* else: fp32 against fp64 at a site */
    double worst;  /* infinity where something that must be exact (masked edges) is not */
    double limit;
    size_t layer; /* of the worst; 0 for sites outside blocks */
};

struct verify_report {
    struct verify_row *rows; /* owned */
    size_t n, capacity;
    size_t n_tokens;
    bool ok; /* every worst <= its limit */
};

int verify_model(const struct model *model, struct pool *pool, const struct prompt *prompts, size_t n_prompts,
                 struct verify_report *report, struct err *err);
void verify_report_release(struct verify_report *report);

#endif
