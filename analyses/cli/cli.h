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
#include "analyses/cli/signals.h"
#include "core/base/err.h"
#include "core/model/model.h"
#include "core/runtime/runtime.h"
#include "core/store/lock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of `strata help`. */
#define COMMANDS(X)                                                                                                    \
    X(info)                                                                                                            \
    X(sites)                                                                                                           \
    X(tokenize)                                                                                                        \
    X(run)                                                                                                             \
    X(experiment)                                                                                                      \
    X(dump)                                                                                                            \
    X(lens)                                                                                                            \
    X(curves)                                                                                                          \
    X(trace)                                                                                                           \
    X(knockout)                                                                                                        \
    X(causal)                                                                                                          \
    X(patch)                                                                                                           \
    X(heads)                                                                                                           \
    X(neurons)                                                                                                         \
    X(verify)                                                                                                          \
    X(diff)                                                                                                            \
    X(query)                                                                                                           \
    X(doctor)

/* Common options that a command takes; giving another one is a usage error that says so. -t, --quiet: all take them. */
enum {
    COMMON_MODEL_PATH = 1 << 6, /* -m/--model PATH */
    COMMON_SPECIALS = 1 << 7,   /* --specials auto|none|bos */
    COMMON_PRECISION = 1 << 0,  /* --precision f32|f64 */
    COMMON_WEIGHTS = 1 << 8,    /* --weights auto|memory|stream */
    COMMON_MODEL = COMMON_MODEL_PATH | COMMON_SPECIALS | COMMON_PRECISION | COMMON_WEIGHTS,
    COMMON_INPUT = 1 << 1,  /* -i/--input FILE, --limit N */
    COMMON_OUTPUT = 1 << 2, /* -o/--output PATH */
    COMMON_JSON = 1 << 3,   /* --json */
    COMMON_SEED = 1 << 4,   /* --seed N */
    COMMON_RESUME = 1 << 5, /* --resume */
};

struct cli {
    const char *model;  /* NULL: the default model */
    const char *input;  /* NULL: none; "-": stdin */
    const char *output; /* NULL: stdout or the command's default */
    int threads;        /* resolved: >= 1 */
    size_t limit;       /* SIZE_MAX: all */
    uint64_t seed;      /* default 1 */
    bool quiet, resume, json;
    bool can_resume; /* the command has --resume */
    enum specials specials;
    enum precision precision;
    enum weight_place weights;
    char **arguments; /* positional */
    size_t n_arguments;
    char *command_line;      /* "strata lens -m ...", quoted for a shell; for provenance */
    char *same_command;      /* the same without --resume and --quiet: what a resumed run must repeat */
    struct lock lock;        /* of the output: output_claim */
    struct journal *journal; /* sweep.h; NULL: none. Progress bars carry it to what keeps pieces there */
    bool usage_error;        /* set by cli_usage */
    bool help;               /* --help was given; nothing else is checked then */
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

/* The command of this name, NULL where there is none; the i-th of `strata help`, NULL past the end. */
const struct command *command_find(const char *name);
const struct command *command_at(size_t i);

/* Reads argv[1..argc), argv[0] being the command's name. ERR_ARG for wrong usage. cli_release also after a failure. */
int cli_parse(struct cli *cli, const struct command *command, int argc, char **argv, struct err *err);
void cli_release(struct cli *cli);
/* Text of `strata help` and `strata help COMMAND`. */
void cli_help(struct strbuf *out);
void cli_help_command(const struct command *command, struct strbuf *out);

/*
 * Exit statuses. Wrong usage is what can be told without opening a file: options, arguments, the syntax of numbers.
 * A site or head that the model does not have is a failure, as a file that is not there.
 */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* A mapped file that is cut short ends the program with one line that names it, and status 1. */
void cli_catch_bus_errors(void);
/* Gives closed standard streams a descriptor on which I/O fails, so that no file of ours becomes one of them. */
void cli_keep_streams(void);

/* Wrong usage found by a command: exit status 2 and a hint at `strata help COMMAND`. Returns ERR_ARG. */
int cli_usage(struct cli *cli, struct err *err, const char *format, ...) ERR_PRINTF(3, 4);
/* A line to stderr, unless --quiet. */
void cli_note(const struct cli *cli, const char *format, ...) ERR_PRINTF(2, 3);
/* Says how many bytes of prompts had no token in the vocabulary and were left out, as Hugging Face's tokenizers do; not
 * for 0. */
void cli_note_dropped(const struct cli *cli, size_t n_bytes);
/* The error of a stop at a file that goes on with --resume, PATH.partial; rc where that is no stop. */
int cli_stopped_at(int rc, const char *path, size_t n_done, size_t n, struct err *err);
/* Ends the program by SIGPIPE where the reader of standard output is gone; call it last. */
void cli_end_unread(void);
/* All of text to a file or stream that may make it wait; false with errno, also when a signal ends the waiting. */
bool cli_write(int fd, const struct strbuf *text);
/* All of text to stdout, flushed; ERR_IO for a closed or full one. */
int cli_print(const struct strbuf *text, struct err *err);

/* As model_open_header with -m or the default model, which is named on stderr. */
int cli_open_header(struct model **out, const struct cli *cli, struct err *err);
/* For `info MODEL` and `verify MODEL`: the argument is the model, as -m is. */
int cli_model_argument(struct cli *cli, struct err *err);

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
/* The same for commands that ask for answers: a model of hidden states alone is refused. */
int session_open_answers(struct session *s, const struct cli *cli, struct err *err);
/* The same for commands that take logits apart, which is possible only where they are linear in the stream. */
int session_open_linear(struct session *s, const struct cli *cli, struct err *err);
void session_close(struct session *s);

#endif
