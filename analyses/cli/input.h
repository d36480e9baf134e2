/*
 * Facts of -i that are read more than once, also from standard input.
 *
 *     int rc = input_keep(cli, &err);              // standard input: copied to a nameless temporary file
 *     rc = rc ? rc : input_open(cli, &facts, &err);   // from the begin, as often as needed, one at a time
 *     facts_close(facts);
 */
#ifndef STRATA_ANALYSES_CLI_INPUT_H
#define STRATA_ANALYSES_CLI_INPUT_H

#include "analyses/cli/cli.h"
#include "core/formats/facts.h"
#include "core/runtime/prepare.h"

int input_keep(const struct cli *cli, struct err *err);
/* For messages: the file, or "standard input". */
const char *input_name(const struct cli *cli);
int input_open(const struct cli *cli, struct facts **out, struct err *err);
/* All of --limit in batches of about `rows` tokens, until one that `use` refuses. */
int input_each_batch(const struct cli *cli, const struct model *model, size_t rows,
                     int (*use)(void *arg, struct batch *batch, struct err *err), void *arg, struct err *err);

#endif
