#include "analyses/cli/input.h"

#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_stdin(const struct cli *cli)
{
    return cli->input && !strcmp(cli->input, "-");
}

const char *input_name(const struct cli *cli)
{
    return is_stdin(cli) ? "standard input" : cli->input;
}

static int copy(FILE *to, char *piece, size_t size, struct err *err)
{
    size_t n;
    while ((n = fread(piece, 1, size, stdin)) > 0)
        if (fwrite(piece, 1, n, to) != n)
            return err_errno(err, "standard input: cannot keep a copy: save it to a file and use -i FILE");
    if (ferror(stdin))
        return err_errno(err, "standard input: cannot read");
    return fflush(to) ? err_errno(err, "standard input: cannot keep a copy: save it to a file and use -i FILE") : 0;
}

int input_keep(const struct cli *cli, struct err *err)
{
    enum { PIECE = 1 << 16 };
    if (!is_stdin(cli))
        return 0;
    FILE *kept = tmpfile();
    char *piece = mem_array(PIECE, 1);
    int rc = !kept    ? err_errno(err, "standard input: cannot keep a copy: save it to a file and use -i FILE")
             : !piece ? err_nomem(err, "standard input")
                      : copy(kept, piece, PIECE, err);
    if (!rc && dup2(fileno(kept), STDIN_FILENO) < 0)
        rc = err_errno(err, "standard input: cannot keep a copy");
    free(piece);
    if (kept)
        fclose(kept);
    return rc;
}

int input_open(const struct cli *cli, struct facts **out, struct err *err)
{
    if (is_stdin(cli)) {
        bool at_end = feof(stdin);
        clearerr(stdin);
        /* A pipe is read once, from where it is; who reads twice keeps it first. */
        if (fseeko(stdin, 0, SEEK_SET) && (at_end || errno != ESPIPE))
            return err_errno(err, "standard input: cannot read again");
    }
    return facts_open(out, cli->input, err);
}

int input_each_batch(const struct cli *cli, const struct model *model, size_t rows,
                     int (*use)(void *arg, struct batch *batch, struct err *err), void *arg, struct err *err)
{
    struct facts *facts;
    struct batcher *batcher;
    struct batch *batch;
    int rc = input_open(cli, &facts, err);
    if (rc)
        return rc;
    rc = batcher_open(&batcher, model, facts, cli->specials, cli->limit, rows, err);
    if (!rc) {
        while ((rc = batcher_next(batcher, &batch, err)) > 0)
            if ((rc = use(arg, batch, err)))
                break;
        batcher_close(batcher);
    }
    facts_close(facts);
    return rc;
}
