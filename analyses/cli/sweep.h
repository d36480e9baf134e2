/*
 * A sweep that can be interrupted: over the facts of -i FILE, to -o OUTPUT. What
 * is finished is kept in OUTPUT.journal (core/store/journal.h) and goes from
 * there into a run of the same command with --resume.
 *
 *     int rc = sweep_check(cli, err);                        // with the other checks of usage
 *     rc = rc ? rc : session_open(&session, cli, err);
 *     rc = rc ? rc : sweep_begin(cli, cli->input, &provenance, NULL, err);  // progress bars carry it
 *     ... measure and write the result ...
 *     rc = sweep_end(cli, rc, err);                          // removes the journal of what is done
 */
#ifndef STRATA_ANALYSES_CLI_SWEEP_H
#define STRATA_ANALYSES_CLI_SWEEP_H

#include "analyses/cli/cli.h"
#include "core/base/strbuf.h"
#include "core/store/provenance.h"

/* For the text of a command's help. */
#define SWEEP_HELP                                                                                                     \
    "What is finished is kept in PATH.journal beside -o PATH until all is: the same command with --resume goes on\n"   \
    "where an interrupted one stopped, to the same numbers. Without anything to go on with, it begins anew.\n"

/* Usage errors: --resume without -o, or of what cannot be read again. */
int sweep_check(struct cli *cli, struct err *err);
/* A regular file, which can be read again; a pipe cannot. */
bool sweep_is_file(const char *path);
/* "NAME: SHA-256" of a regular file that determines the numbers too, for `more`. */
int sweep_add_file(const char *name, const char *path, struct strbuf *more, struct err *err);
/*
 * file: what the sweep is over, -i for most commands. Nothing is kept where file is NULL or a pipe, or where no file is
 * written. more: further text that determines the numbers; may be NULL.
 */
int sweep_begin(struct cli *cli, const char *file, const struct provenance *p, const char *more, struct err *err);
/* Keeps the journal after an interruption and says so, and after a fault of the system; else removes it. Returns rc. */
int sweep_end(struct cli *cli, int rc, struct err *err);

#endif
