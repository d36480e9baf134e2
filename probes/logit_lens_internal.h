/* The two precisions behind logit_lens.h. */
#ifndef STRATA_PROBES_LOGIT_LENS_INTERNAL_H
#define STRATA_PROBES_LOGIT_LENS_INTERNAL_H

#include "probes/lens_stats.h"
#include "probes/logit_lens.h"

int lens_run_f32(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err);
int lens_run_f64(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err);

#endif
