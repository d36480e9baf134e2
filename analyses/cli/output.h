/*
 * Text results: to stdout, or with -o to a file that appears under its name
 * only when it is complete (PATH.partial until then; devices and pipes are
 * written directly).
 *
 *     struct output out;
 *     int rc = output_open(&out, cli, err);
 *     rc = rc ? rc : output_add(&out, &text, err);     // empties text
 *     rc = output_close(&out, rc, err);                // also after a failure
 */
#ifndef STRATA_ANALYSES_CLI_OUTPUT_H
#define STRATA_ANALYSES_CLI_OUTPUT_H

#include "analyses/cli/cli.h"

struct output {
    int fd; /* -1: standard output */
    const char *path;
    char *partial; /* owned; NULL where the path itself is written */
};

/* A -o name that ends in .json or .jsonl asks for JSON (sets cli->json); other extensions are refused. Claims it. */
int output_format(struct cli *cli, struct err *err);
/*
 * Before long work, and before looking at what is there: ERR_IO where -o, a folder or a file, could not be made
 * afterwards, or where another process is writing it. It is this run's until cli_release. Once is enough; not for
 * standard output, devices and pipes.
 */
int output_claim(struct cli *cli, bool folder, struct err *err);
int output_open(struct output *out, struct cli *cli, struct err *err);
int output_add(struct output *out, struct strbuf *text, struct err *err);
/*
 * Completes the file where rc is 0, leaves PATH.partial after an interruption, else removes it. Returns rc unless that
 * is 0 and closing fails.
 */
int output_close(struct output *out, int rc, struct err *err);
/* All three for one text, which is released. rc: a failure so far, then nothing is written. */
int output_text(struct cli *cli, struct strbuf *text, int rc, struct err *err);

#endif
