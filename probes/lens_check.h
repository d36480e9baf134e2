/*
 * Self-test of the lens's float32 kernels (lens_stats.h), as kernel_check.h is
 * of the forward pass's: against plain C in double, over several blocks with
 * tails, ties and a rising maximum.
 *
 *     if (lens_check(&err))            // well below a millisecond the first time, then free
 *         return err.code;
 */
#ifndef STRATA_PROBES_LENS_CHECK_H
#define STRATA_PROBES_LENS_CHECK_H

#include "core/base/err.h"
#include "probes/lens_stats.h"

/* Of the kernels in use; the result of the first call is kept; thread-safe. */
int lens_check(struct err *err);
/* Of others, so that tests can plant a wrong one. */
int lens_check_kernels(const struct lens_kernels_f32 *k, struct err *err);

#endif
