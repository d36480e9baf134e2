/* The program: finds the command, prints the one line of a failure, chooses the exit status. */
#include "analyses/cli/cli.h"
#include "core/base/isa.h"
#include "core/base/suggest.h"
#include "core/runtime/blas_check.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

/* One line, whatever a file put into the message: control characters would move the cursor of a terminal. */
static void print_error(const char *prefix, const char *message, const char *suffix)
{
    char line[sizeof((struct err *)0)->msg];
    snprintf(line, sizeof line, "%s", message);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "strata: %s%s%s\n", prefix, line, suffix);
}

static int print(struct strbuf *text)
{
    struct err err = { 0 };
    int rc = cli_print(text, &err);
    strbuf_release(text);
    if (rc) {
        cli_end_unread();
        print_error("", err.msg, "");
    }
    return rc ? EXIT_FAILED : EXIT_DONE;
}

static int unknown_command(const char *name)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, name, strlen(name));
    for (size_t i = 0; command_at(i); i++)
        suggest_consider(&s, command_at(i)->name);
    char text[1024];
    snprintf(text, sizeof text, "no command '%.100s'%s", name, suggest_text(&s, "", hint));
    print_error("", text, ": see `strata help`");
    return EXIT_USAGE;
}

static int print_version(void)
{
    struct strbuf text = STRBUF_INIT;
    unsigned major, minor, release;
    H5get_libversion(&major, &minor, &release);
    strbuf_addf(&text, "strata %s\nBLAS: %s (core %s)\nHDF5: %u.%u.%u\ninstruction set: %s\n", STRATA_VERSION,
                blas_config(), blas_core_name(), major, minor, release, isa_level_name(isa_level()));
    return print(&text);
}

/* strata help [COMMAND] */
static int print_help(const char *name)
{
    struct strbuf text = STRBUF_INIT;
    const struct command *command = name ? command_find(name) : NULL;
    if (name && !command)
        return unknown_command(name);
    if (command)
        cli_help_command(command, &text);
    else
        cli_help(&text);
    return print(&text);
}

static int status_of(const struct command *command, const struct cli *cli, int rc, const struct err *err)
{
    if (!rc)
        return EXIT_DONE;
    if (cli->usage_error) {
        char hint[96], prefix[64];
        snprintf(prefix, sizeof prefix, "%s: ", command->name);
        snprintf(hint, sizeof hint, ": see `strata help %s`", command->name);
        print_error(prefix, err->msg, hint);
        return EXIT_USAGE;
    }
    if (rc == ERR_INTERRUPTED || cli_interrupted()) {
        print_error("", rc == ERR_INTERRUPTED && *err->msg ? err->msg : "interrupted", "");
        return EXIT_INTERRUPTED;
    }
    cli_end_unread();
    print_error("", err->msg, "");
    return EXIT_FAILED;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct err err = { 0 };
    struct cli cli;
    int rc = cli_parse(&cli, command, argc, argv, &err);
    if (rc == ERR_ARG)
        cli.usage_error = true;
    int status;
    if (!rc && cli.help)
        status = print_help(command->name);
    else {
        rc = rc ? rc : command->run(&cli, &err);
        status = status_of(command, &cli, rc, &err);
    }
    cli_release(&cli);
    return status;
}

int main(int argc, char **argv)
{
    cli_keep_streams();
    cli_catch_signals();
    cli_catch_bus_errors();
    if (argc < 2) {
        fprintf(stderr, "strata: no command given: see `strata help`\n");
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "version"))
        return print_version();
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h"))
        return print_help(argc > 2 ? argv[2] : NULL);
    const struct command *command = command_find(name);
    return command ? run(command, argc - 1, argv + 1) : unknown_command(name);
}
