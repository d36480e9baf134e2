#include "analyses/cli/cli.h"

#include "core/base/mem.h"
#include "probes/logit_direction.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- signals and streams --- */

static bool nobody_reads; /* the other end of standard output is closed */

void cli_note_dropped(const struct cli *cli, size_t n_bytes)
{
    if (n_bytes)
        cli_note(cli, "%zu byte%s of the text had no token in this vocabulary and %s left out", n_bytes,
                 n_bytes == 1 ? "" : "s", n_bytes == 1 ? "was" : "were");
}

void cli_end_unread(void)
{
    if (nobody_reads) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
}

int cli_stopped_at(int rc, const char *path, size_t n_done, size_t n, struct err *err)
{
    if (rc != ERR_INTERRUPTED || !n_done)
        return rc;
    return err_set(err, ERR_INTERRUPTED, "interrupted: %s.partial holds %zu of %zu prompts: go on with --resume", path,
                   n_done, n);
}

void cli_keep_streams(void)
{
    /* Lowest first, so that each open takes the number that is missing; opened the wrong way round on purpose. */
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF)
            (void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* --- output --- */

int cli_usage(struct cli *cli, struct err *err, const char *format, ...)
{
    char text[sizeof err->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cli->usage_error = true;
    return err_set(err, ERR_ARG, "%s", text);
}

void cli_note(const struct cli *cli, const char *format, ...)
{
    va_list args;
    if (cli->quiet)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

bool cli_write(int fd, const struct strbuf *text)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t n = write(fd, text->data + done, text->len - done);
        if (n < 0 && (errno != EINTR || cli_interrupted()))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

int cli_print(const struct strbuf *text, struct err *err)
{
    if (strbuf_failed(text))
        return err_nomem(err, "the output");
    if (fflush(stdout))
        return err_errno(err, "standard output: cannot write");
    if (cli_write(STDOUT_FILENO, text))
        return 0;
    nobody_reads = errno == EPIPE;
    return err_errno(err, "standard output: cannot write");
}

/* --- options --- */

static const char *const specials_names[] = { "auto", "none", "bos", NULL };
static const char *const precision_names[] = { "f32", "f64", NULL };
static const char *const weights_names[] = {
#define X(id, name) name,
    WEIGHT_PLACES(X)
#undef X
        NULL
};

/* What the common options fill; small because choices are ints and threads a size. */
struct common {
    struct cli *cli;
    int specials, precision, weights;
    size_t threads;
    struct option table[16];
};

static void add_option(struct common *c, unsigned taken, unsigned bit, struct option o)
{
    size_t n = 0;
    while (c->table[n].name)
        n++;
    if (bit && !(taken & bit))
        o.kind = OPTION_REFUSED;
    c->table[n] = o;
}

#define OPTION(bit, ...) add_option(c, taken, bit, (struct option){ __VA_ARGS__ })

static void common_table(struct common *c, struct cli *cli, unsigned taken)
{
    *c = (struct common){ .cli = cli };
    OPTION(COMMON_MODEL_PATH, .name = "model", .short_name = 'm', .kind = OPTION_TEXT, .value = &cli->model,
           .argument = "PATH", .help = "GGUF file, Hugging Face folder, or id in the local Hugging Face cache");
    OPTION(COMMON_INPUT, .name = "input", .short_name = 'i', .kind = OPTION_TEXT, .value = &cli->input,
           .argument = "FILE", .help = "facts: .jsonl .json .csv .tsv .txt; - is standard input");
    OPTION(COMMON_INPUT, .name = "limit", .kind = OPTION_SIZE, .value = &cli->limit, .argument = "N", .least = 1,
           .help = "only the first N facts (all)");
    OPTION(COMMON_OUTPUT, .name = "output", .short_name = 'o', .kind = OPTION_TEXT, .value = &cli->output,
           .argument = "PATH", .help = "where results go; the extension chooses the format");
    OPTION(COMMON_JSON, .name = "json", .kind = OPTION_FLAG, .value = &cli->json, .help = "results as JSON");
    OPTION(COMMON_SPECIALS, .name = "specials", .kind = OPTION_CHOICE, .value = &c->specials, .choices = specials_names,
           .help = "special tokens: the tokenizer's own (auto), none, or BOS first");
    OPTION(COMMON_PRECISION, .name = "precision", .kind = OPTION_CHOICE, .value = &c->precision,
           .choices = precision_names, .help = "compute in float (f32) or double (f64)");
    OPTION(COMMON_WEIGHTS, .name = "weights", .kind = OPTION_CHOICE, .value = &c->weights, .choices = weights_names,
           .help = "float32 blocks in memory, or streamed from the file two at a time (auto: if they do not fit)");
    OPTION(COMMON_SEED, .name = "seed", .kind = OPTION_SEED, .value = &cli->seed, .argument = "N",
           .help = "of random numbers (1)");
    OPTION(COMMON_RESUME, .name = "resume", .kind = OPTION_FLAG, .value = &cli->resume,
           .help = "continue an interrupted run of the same command");
    OPTION(0, .name = "threads", .short_name = 't', .kind = OPTION_SIZE, .value = &c->threads, .argument = "N",
           .least = 1, .most = 256, .help = "worker threads (one for each core)");
    OPTION(0, .name = "quiet", .kind = OPTION_FLAG, .value = &cli->quiet, .help = "no notes and no progress");
    OPTION(0, .name = "help", .short_name = 'h', .kind = OPTION_FLAG, .value = &cli->help, .help = "this page");
}

/* A word as a shell would read it back. */
static void add_word(struct strbuf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@%+";
    strbuf_addc(out, ' ');
    if (*word && strspn(word, plain) == strlen(word)) {
        strbuf_adds(out, word);
        return;
    }
    strbuf_addc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            strbuf_adds(out, "'\\''");
        else
            strbuf_addc(out, *word);
    }
    strbuf_addc(out, '\'');
}

/* all: also what a resumed run may change. */
static char *command_line(int argc, char **argv, bool all)
{
    struct strbuf text = STRBUF_INIT;
    strbuf_adds(&text, "strata");
    for (int i = 0; i < argc; i++)
        if (all || (strcmp(argv[i], "--resume") != 0 && strcmp(argv[i], "--quiet") != 0))
            add_word(&text, argv[i]);
    if (strbuf_failed(&text))
        strbuf_release(&text);
    return text.data;
}

static int check_arguments(const struct command *command, const struct cli *cli, struct err *err)
{
    if (cli->n_arguments < command->least_arguments)
        return err_set(err, ERR_ARG, "needs an argument: %s %s", command->name, command->arguments);
    if (cli->n_arguments > command->most_arguments)
        return err_set(err, ERR_ARG, "one argument too many: '%.200s'%s", cli->arguments[command->most_arguments],
                       command->most_arguments ? " (put a text with spaces between quotes)" : "");
    return 0;
}

static bool is_same_file(const char *path, const struct stat *file)
{
    struct stat st;
    return path && !stat(path, &st) && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

/* What is read is not to be written over. */
static int check_output(const struct cli *cli, struct err *err)
{
    struct stat out;
    if (!cli->output || stat(cli->output, &out) || !(S_ISREG(out.st_mode) || S_ISDIR(out.st_mode)))
        return 0;
    bool same = is_same_file(cli->model, &out) || is_same_file(cli->input, &out);
    for (size_t i = 0; i < cli->n_arguments; i++)
        same = same || is_same_file(cli->arguments[i], &out);
    return same ? err_set(err, ERR_ARG, "-o %.200s: is read by the same command: choose another output", cli->output)
                : 0;
}

int cli_parse(struct cli *cli, const struct command *command, int argc, char **argv, struct err *err)
{
    static const struct option none[] = { OPTIONS_END };
    struct common common;
    *cli = (struct cli){ .limit = SIZE_MAX, .seed = 1 };
    common_table(&common, cli, command->common);
    cli->command_line = command_line(argc, argv, true);
    cli->same_command = command_line(argc, argv, false);
    if (!cli->command_line || !cli->same_command)
        return err_nomem(err, "the command line");
    const struct option *tables[] = { command->options ? command->options : none, common.table, NULL };
    int rc = options_parse(argc, argv, tables, &cli->n_arguments, err);
    if (rc)
        return rc;
    cli->arguments = argv + 1;
    cli->threads = common.threads ? (int)common.threads : pool_default_threads();
    cli->specials = (enum specials)common.specials;
    cli->precision = (enum precision)common.precision;
    cli->weights = (enum weight_place)common.weights;
    cli->can_resume = command->common & COMMON_RESUME;
    if (cli->help)
        return 0;
    if (cli->limit != SIZE_MAX && !cli->input)
        return err_set(err, ERR_ARG, "--limit goes with -i: it counts the facts of a file");
    rc = check_output(cli, err);
    return rc ? rc : check_arguments(command, cli, err);
}

void cli_release(struct cli *cli)
{
    lock_release(&cli->lock);
    free(cli->command_line);
    free(cli->same_command);
    cli->command_line = cli->same_command = NULL;
}

/* --- help --- */

#define X(name) &command_##name,
static const struct command *const commands[] = { COMMANDS(X) };
#undef X
enum { N_COMMANDS = sizeof commands / sizeof *commands };

const struct command *command_at(size_t i)
{
    return i < N_COMMANDS ? commands[i] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

void cli_help(struct strbuf *out)
{
    strbuf_adds(out, "Strata traces how a Transformer recalls a fact, layer by layer.\n\n"
                     "usage: strata COMMAND [options] [arguments]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        strbuf_addf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    strbuf_adds(out, "\n`strata help COMMAND` tells more; `strata --version` names the libraries in use.\n"
                     "Without -m the model is $STRATA_MODEL, else the fetched demo model, else the embedded tiny one.\n"
                     "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n");
}

void cli_help_command(const struct command *command, struct strbuf *out)
{
    struct cli cli;
    struct common common;
    common_table(&common, &cli, command->common);
    strbuf_addf(out, "usage: strata %s %s\n\n%s\n", command->name, command->arguments, command->summary);
    if (command->options && command->options->name) {
        strbuf_adds(out, "\n");
        options_help(command->options, out);
    }
    strbuf_adds(out, "\n");
    options_help(common.table, out);
    if (command->details)
        strbuf_addf(out, "\n%s%s", command->details,
                    command->details[strlen(command->details) - 1] == '\n' ? "" : "\n");
}

/* --- models --- */

static void name_default(const struct cli *cli, const struct model *model)
{
    const char *variable = getenv("STRATA_MODEL");
    if (cli->model)
        return;
    cli_note(cli, "model: %s%s", model->path, variable && *variable ? " (from $STRATA_MODEL)" : " (no -m given)");
}

/* A signal while the model was opened: now, not at the next read of a pipe that may never come. */
static int check_interrupted(struct err *err)
{
    return cli_interrupted() ? err_set(err, ERR_INTERRUPTED, "interrupted") : 0;
}

int cli_open_header(struct model **out, const struct cli *cli, struct err *err)
{
    int rc = model_open_header(out, cli->model, err);
    if (rc)
        return rc;
    name_default(cli, *out);
    if ((rc = check_interrupted(err)))
        model_free(*out);
    return rc;
}

int cli_model_argument(struct cli *cli, struct err *err)
{
    if (!cli->n_arguments)
        return 0;
    if (cli->model)
        return cli_usage(cli, err, "the model is given twice: -m %.200s and %.200s", cli->model, cli->arguments[0]);
    cli->model = cli->arguments[0];
    return 0;
}

int session_open(struct session *s, const struct cli *cli, struct err *err)
{
    *s = (struct session){ 0 };
    int rc = pool_create(&s->pool, cli->threads, err);
    if (!rc)
        pool_stop_when(s->pool, cli_interrupted);
    rc = rc ? rc : model_open_at(&s->model, cli->model, cli->weights, s->pool, err);
    if (rc)
        return rc;
    name_default(cli, s->model);
    if (cli->weights == WEIGHTS_AUTO && model_streams(s->model))
        cli_note(cli, "the weights need %.1f GiB as float32, more than is free: they are streamed from the file",
                 (double)model_planned_bytes(s->model) / (1 << 30));
    rc = runtime_create(&s->runtime, s->model, s->pool, cli->precision, err);
    return rc ? rc : check_interrupted(err);
}

int session_open_answers(struct session *s, const struct cli *cli, struct err *err)
{
    int rc = session_open(s, cli, err);
    if (rc || s->model->config.unembedding)
        return rc;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: has no unembedding, so that it answers nothing: `strata dump` stores its "
                   "hidden states",
                   s->model->path);
}

int session_open_linear(struct session *s, const struct cli *cli, struct err *err)
{
    int rc = session_open_answers(s, cli, err);
    return rc ? rc : logit_direction_check(s->model, err);
}

void session_close(struct session *s)
{
    runtime_free(s->runtime);
    model_free(s->model);
    pool_free(s->pool);
    *s = (struct session){ 0 };
}
