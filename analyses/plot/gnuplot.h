/*
 * Runs gnuplot on a script, without a shell.
 *
 *     int rc = gnuplot_run("out", "rank.gp", 120, &err);      // cd out && gnuplot -d rank.gp
 *     if (rc) puts(err.msg);                                  // what gnuplot said, or that it is not installed
 *
 * The child's standard input and output are /dev/null; its messages end in
 * *err. Unix only (fork, exec). Not for scripts from strangers: gnuplot can
 * run programs, so quoting is the writer's duty (analyses/plot/plot.h).
 */
#ifndef STRATA_ANALYSES_PLOT_GNUPLOT_H
#define STRATA_ANALYSES_PLOT_GNUPLOT_H

#include "core/base/err.h"

/* 0; ERR_NOTFOUND: no gnuplot in PATH; ERR_CHECK: it failed, crashed or took longer than `seconds`; ERR_IO. */
int gnuplot_run(const char *folder, const char *script, double seconds, struct err *err);

#endif
