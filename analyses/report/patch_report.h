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

#include "core/base/strbuf.h"
#include "core/runtime/prepare.h"
#include "core/store/provenance.h"
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
void patch_report_text(const struct patch_report *r, struct strbuf *out);
/* site,by,layer,column,token,normalised,logit_difference,p; token empty by head. */
void patch_report_csv(const struct patch_report *r, struct strbuf *out);
void patch_report_json(const struct patch_report *r, struct strbuf *out);
int patch_report_h5(const struct patch_report *r, const struct provenance *p, const char *path, struct err *err);
/* One heat map a sweep, into an existing folder; as plot_finish. */
int patch_report_figures(const struct patch_report *r, const char *folder, struct err *err);

#endif
