/* Experiment files (core/runtime/experiment.h): of `strata experiment FILE` and `strata run --experiment FILE`. */
#ifndef STRATA_ANALYSES_EXPERIMENT_H
#define STRATA_ANALYSES_EXPERIMENT_H

#include "analyses/cli/cli.h"

int experiment_run(struct cli *cli, const char *path, struct err *err);

#endif
