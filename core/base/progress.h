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

/* A part of longer work: its steps count from `before` on towards the whole's total. It keeps no pieces of its own. */
struct progress_part {
    struct progress progress; /* first */
    struct progress *whole;
    uint64_t before, total;
};

static inline int progress_part_step(struct progress *self, uint64_t done, uint64_t total)
{
    struct progress_part *part = (struct progress_part *)(void *)self;
    (void)total;
    return progress_step(part->whole, part->before + done, part->total);
}

static inline struct progress_part progress_part(struct progress *whole, uint64_t before, uint64_t total)
{
    return (struct progress_part){
        .progress = { .step = progress_part_step }, .whole = whole, .before = before, .total = total
    };
}

#endif
