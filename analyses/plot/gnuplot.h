/*
 * Runs gnuplot on scripts, without a shell, several at a time.
 *
 *     struct gnuplot_job job;
 *     int rc = gnuplot_start(&job, "out", "rank.gp", &err);   // cd out && gnuplot -d rank.gp
 *     ...                                                     // other work, other jobs
 *     rc = rc ? rc : gnuplot_wait(&job, 120, &err);
 *     if (rc) puts(err.msg);                                  // what gnuplot said, or that it is not installed
 *
 * The script sees the variable `draft`, which belongs behind the names of files
 * that are published afterwards. The child's standard input and output are /dev/null; its messages end in
 * *err. Unix only (posix_spawn). Not for scripts from strangers: gnuplot can
 * run programs, so quoting is the writer's duty (analyses/plot/plot.h).
 */
#ifndef STRATA_ANALYSES_PLOT_GNUPLOT_H
#define STRATA_ANALYSES_PLOT_GNUPLOT_H

#include "core/base/err.h"

#include <sys/types.h>

struct gnuplot_job {
    const char *folder, *script; /* borrowed */
    pid_t child;
    int messages; /* read end of its standard error */
};

/* 0; ERR_NOTFOUND: no gnuplot in PATH; ERR_IO. Every job that was started must be waited for. */
int gnuplot_start(struct gnuplot_job *job, const char *folder, const char *script, struct err *err);
/*
 * 0; ERR_CHECK: it failed, crashed or took longer than `seconds` from now; ERR_IO.
 */
int gnuplot_wait(struct gnuplot_job *job, double seconds, struct err *err);
/* Both. */
int gnuplot_run(const char *folder, const char *script, double seconds, struct err *err);

#endif
