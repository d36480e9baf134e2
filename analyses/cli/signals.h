/* Signals of the program: which ones stop it, and how it learns of them. */
#ifndef STRATA_ANALYSES_CLI_SIGNALS_H
#define STRATA_ANALYSES_CLI_SIGNALS_H

#include <stdbool.h>

/*
 * SIGINT, SIGTERM and SIGHUP set a flag; the second SIGINT or SIGTERM kills. A SIGHUP that was ignored at the start, as
 * nohup has it, stays so. SIGPIPE becomes an error of write.
 */
void cli_catch_signals(void);
/* True after SIGINT, SIGTERM or SIGHUP; commands stop cleanly and return ERR_INTERRUPTED. */
bool cli_interrupted(void);

#endif
