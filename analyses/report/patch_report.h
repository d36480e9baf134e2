/*
 * Patching sweeps between two prompts as text, CSV, JSON, HDF5 and figures.
 *
 * HDF5, format "strata-patch", version 1; a group /SITE/ (resid_pre, z, ...) for each sweep, [L layers, columns]:
 *
 *     /SITE/normalised, /SITE/logit_difference, /SITE/prob    float64; NaN where no token corresponds
 *     /SITE/column                                            strings: tokens of the patched prompt, or heads
 *     /clean/..., /corrupted/...   text, subject, token_id, token_text; answer_token, logit_difference, prob
 *
 * Attributes beside those of provenance.h: direction, metric, norm, positions (of head sweeps), and of each sweep
 * by_SITE: "position" or "head".
 */
#ifndef STRATA_ANALYSES_REPORT_PATCH_REPORT_H
#define STRATA_ANALYSES_REPORT_PATCH_REPORT_H

#include "analyses/report/result.h"
#include "core/runtime/prepare.h"
#include "probes/patching.h"

struct patch_sweep {
    const char *name; /* the site's short name */
    enum site site;
    enum patch_by by;
    struct patching result;
};

/* Everything is borrowed. */
struct patch_report {
    const struct model *model;
    const struct prepared *clean, *corrupted;
    enum patch_direction direction;
    const char *positions;            /* of head sweeps, as written */
    const struct patch_sweep *sweeps; /* [n], at least one */
    size_t n;
};

const char *patch_direction_name(enum patch_direction direction);
/* report: struct patch_report. CSV: site,by,layer,column,token,normalised,logit_difference,p; token empty by head. */
extern const struct result_kind patch_result;
result_add patch_report_text, patch_report_csv, patch_report_json;

#endif
