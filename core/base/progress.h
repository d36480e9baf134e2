/*
 * Progress of long work. The library only counts; whoever owns the terminal
 * draws (analyses/cli/progress_bar.c).
 *
 *     if (progress && progress->step(progress, done, total)) return ERR_INTERRUPTED;
 *
 * A step callback that returns non-zero asks for a clean stop. Where there is a
 * journal (core/store/journal.h), work over many facts keeps its finished pieces
 * there and takes over those of an interrupted run.
 */
#ifndef STRATA_BASE_PROGRESS_H
#define STRATA_BASE_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

struct journal;

struct progress {
    int (*step)(struct progress *self, uint64_t done, uint64_t total);
    struct journal *journal; /* borrowed; NULL: pieces are kept nowhere */
};

static inline int progress_step(struct progress *progress, uint64_t done, uint64_t total)
{
    return progress ? progress->step(progress, done, total) : 0;
}

static inline struct journal *progress_journal(const struct progress *progress)
{
    return progress ? progress->journal : NULL;
}

#endif
