/*
 * Progress of long work. The library only counts; whoever owns the terminal
 * draws (analyses/cli/progress_bar.c).
 *
 *     if (progress && progress->step(progress, done, total)) return ERR_INTERRUPTED;
 *
 * A step callback that returns non-zero asks for a clean stop.
 */
#ifndef STRATA_BASE_PROGRESS_H
#define STRATA_BASE_PROGRESS_H

#include <stdint.h>

struct progress {
    int (*step)(struct progress *self, uint64_t done, uint64_t total);
};

static inline int progress_step(struct progress *progress, uint64_t done, uint64_t total)
{
    return progress ? progress->step(progress, done, total) : 0;
}

#endif
