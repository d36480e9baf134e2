/*
 * Command-line options as a table that is both parser and help text (after
 * git's parse-options.h).
 *
 *     static const char *sites;
 *     static size_t top = 10;
 *     static const struct option options[] = {
 *         { .name = "sites", .kind = OPTION_TEXT, .value = &sites, .argument = "GLOB,...", .help = "sites to store" },
 *         { .name = "top", .short_name = 'k', .kind = OPTION_SIZE, .value = &top, .argument = "K",
 *           .help = "tokens to list (10)" },
 *         OPTIONS_END,
 *     };
 *
 * Accepted: --name VALUE, --name=VALUE, -k VALUE, -kVALUE, options and
 * positional arguments in any order, `--` ends options. No abbreviations: a
 * script must not change its meaning when an option is added. An unknown
 * option, a missing or bad value, and a repeated option that is no list are
 * usage errors with near matches.
 */
#ifndef STRATA_ANALYSES_CLI_OPTIONS_H
#define STRATA_ANALYSES_CLI_OPTIONS_H

#include "core/base/err.h"
#include "core/base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

enum option_kind {
    OPTION_FLAG,    /* bool */
    OPTION_TEXT,    /* const char *, borrowed from argv */
    OPTION_LIST,    /* struct text_list; repeatable */
    OPTION_SIZE,    /* size_t, decimal, within least..most */
    OPTION_SEED,    /* uint64_t */
    OPTION_CHOICE,  /* int: index into choices */
    OPTION_REFUSED, /* other commands have it; value unused, not in the help */
};

struct text_list {
    const char **items; /* array owned (text_list_release), strings borrowed */
    size_t n, capacity;
};
void text_list_release(struct text_list *list);

struct option {
    const char *name; /* NULL ends the table */
    char short_name;  /* 0: none */
    enum option_kind kind;
    void *value;
    const char *argument;       /* "FILE"; NULL for flags; choices are listed where it is NULL */
    const char *help;           /* one line; defaults in parentheses */
    const char *const *choices; /* CHOICE: NULL-terminated */
    size_t least, most;         /* SIZE: most 0 means no limit */
};
#define OPTIONS_END                                                                                                    \
    {                                                                                                                  \
        .name = NULL                                                                                                   \
    }

/*
 * Parses argv[1..argc) against several tables (NULL-terminated list of them). Positional arguments are moved to
 * argv[1..*n_positional]. ERR_ARG with a message for usage errors.
 */
int options_parse(int argc, char **argv, const struct option *const *tables, size_t *n_positional, struct err *err);
/* "  -o, --output PATH   where results go", one line an option, aligned. */
void options_help(const struct option *table, struct strbuf *out);

#endif
