/*
 * What commands share: the common options of design section 3, messages on
 * stderr, interruption. One file per command in analyses/, each with one
 *
 *     const struct command command_sites = {
 *         .name = "sites", .arguments = "[-m MODEL]", .summary = "list every site with its shape and meaning",
 *         .details = "...examples for the help page...", .common = COMMON_MODEL | COMMON_JSON,
 *         .options = options, .least_arguments = 0, .most_arguments = 0, .run = run,
 *     };
 *
 * and one row of COMMANDS. A command prints results to stdout (or -o), the rest
 * to stderr through cli_note; it returns 0 or a negative code with *err filled,
 * and main prints that as one line `strata: ...` and chooses the exit status:
 * 0 done, 1 failed, 2 wrong usage (cli_usage), 130 interrupted.
 */
#ifndef STRATA_ANALYSES_CLI_CLI_H
#define STRATA_ANALYSES_CLI_CLI_H

#include "analyses/cli/options.h"
#include "core/base/err.h"
#include "core/model/model.h"
#include "core/runtime/runtime.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of `strata help`. */
#define COMMANDS(X) \
    X(info)         \
    X(sites)        \
    X(tokenize)     \
    X(run)          \
    X(dump)         \
    X(lens)         \
    X(curves)       \
    X(trace)        \
    X(verify)       \
    X(diff)         \
    X(doctor)

/* Common options that a command takes; giving another one is a usage error that says so. -t, --quiet: all take them. */
enum {
    COMMON_MODEL = 1 << 0,     /* -m/--model PATH, --specials, --precision */
    COMMON_INPUT = 1 << 1,     /* -i/--input FILE, --limit N */
    COMMON_OUTPUT = 1 << 2,    /* -o/--output PATH */
    COMMON_JSON = 1 << 3,      /* --json */
    COMMON_SEED = 1 << 4,      /* --seed N */
    COMMON_RESUME = 1 << 5,    /* --resume */
};

struct cli {
    const char *model;     /* NULL: the default model */
    const char *input;     /* NULL: none; "-": stdin */
    const char *output;    /* NULL: stdout or the command's default */
    int threads;           /* resolved: >= 1 */
    size_t limit;          /* SIZE_MAX: all */
    uint64_t seed;         /* default 1 */
    bool quiet, resume, json;
    enum specials specials;
    enum precision precision;
    char **arguments;      /* positional */
    size_t n_arguments;
    char *command_line;    /* "strata lens -m ...", quoted for a shell; for provenance */
    bool usage_error;      /* set by cli_usage */
};

struct command {
    const char *name, *arguments, *summary, *details;
    unsigned common;
    const struct option *options; /* may be NULL */
    size_t least_arguments, most_arguments;
    int (*run)(struct cli *cli, struct err *err);
};

#define X(name) extern const struct command command_##name;
COMMANDS(X)
#undef X

/* Wrong usage found by a command: exit status 2 and a hint at `strata help COMMAND`. Returns ERR_ARG. */
int cli_usage(struct cli *cli, struct err *err, const char *format, ...) ERR_PRINTF(3, 4);
/* A line to stderr, unless --quiet. */
void cli_note(const struct cli *cli, const char *format, ...) ERR_PRINTF(2, 3);
/* True after SIGINT or SIGTERM; commands stop cleanly and return ERR_INTERRUPTED. */
bool cli_interrupted(void);
/* All of text to stdout, flushed; ERR_IO for a closed or full one. */
int cli_print(const struct strbuf *text, struct err *err);

/*
 * Pool, model, runtime in one go. The default model is named on stderr.
 *
 *     struct session s;
 *     int rc = session_open(&s, cli, err);
 *     ...
 *     session_close(&s);                    // also after a failure
 */
struct session {
    struct pool *pool;
    struct model *model;
    struct runtime *runtime;
};
int session_open(struct session *s, const struct cli *cli, struct err *err);
void session_close(struct session *s);

#endif
