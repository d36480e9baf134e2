/* Signals of the program: which ones stop it, and how it learns of them. */
#ifndef STRATA_ANALYSES_CLI_SIGNALS_H
#define STRATA_ANALYSES_CLI_SIGNALS_H

#include <stdbool.h>

/* SIGINT and SIGTERM set a flag (the second one kills), SIGPIPE becomes an error of write. */
void cli_catch_signals(void);
/* True after SIGINT or SIGTERM; commands stop cleanly and return ERR_INTERRUPTED. */
bool cli_interrupted(void);

#endif
