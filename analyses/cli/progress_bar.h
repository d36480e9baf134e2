/*
 * Progress with rate and ETA on stderr, where that is a terminal and --quiet is
 * not given; elsewhere silent. Its step also reports interruption.
 *
 *     struct progress_bar bar;
 *     struct progress *progress = progress_bar_start(&bar, cli, "lens", "prompts");
 *     if (progress_step(progress, done, total)) ...      // interrupted
 *     progress_bar_end(&bar);
 */
#ifndef STRATA_ANALYSES_CLI_PROGRESS_BAR_H
#define STRATA_ANALYSES_CLI_PROGRESS_BAR_H

#include "analyses/cli/cli.h"
#include "core/base/progress.h"

struct progress_bar {
    struct progress progress; /* first */
    const char *what, *unit;
    double start, shown;
    uint64_t from; /* done at `start`: by an earlier run, no part of the rate */
    bool drawn, terminal;
};

struct progress *progress_bar_start(struct progress_bar *bar, const struct cli *cli, const char *what,
                                    const char *unit);
/* `done` is an earlier run's and no part of the rate: before the first step. */
void progress_bar_skip(struct progress *progress, uint64_t done);
void progress_bar_end(struct progress_bar *bar);
/*
 * Facts that -i FILE and --limit give, counted by reading the file once; 0 where nobody would see the time left (no
 * terminal, --quiet) or it cannot be known (standard input, a pipe, a file with an error in it).
 */
uint64_t progress_bar_facts(const struct cli *cli);

#endif
