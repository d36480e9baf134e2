/*
 * One fact given on the command line, and edits: the options that lens, trace
 * and others share.
 *
 *     static struct fact_options given;
 *     static const struct option options[] = { FACT_OPTIONS(given), EDIT_OPTIONS(given), OPTIONS_END };
 *     ...
 *     int rc = fact_options_prepare(&given, cli, model, &prepared, err);   // the command's argument is the prompt
 *     rc = rc ? rc : fact_options_edits(&given, &model->config, &edits, err);
 */
#ifndef STRATA_ANALYSES_CLI_FACT_OPTIONS_H
#define STRATA_ANALYSES_CLI_FACT_OPTIONS_H

#include "analyses/cli/cli.h"
#include "core/runtime/prepare.h"

struct fact_options {
    const char *subject, *answer, *edits_path;
    struct text_list edits;
};

#define FACT_OPTIONS(o)                                                                                                \
    { .name = "subject",                                                                                               \
      .kind = OPTION_TEXT,                                                                                             \
      .value = &(o).subject,                                                                                           \
      .argument = "TEXT",                                                                                              \
      .help = "the prompt's subject, as it stands there" },                                                            \
    {                                                                                                                  \
        .name = "answer", .kind = OPTION_TEXT, .value = &(o).answer, .argument = "TEXT", .help = "the expected answer" \
    }

#define EDIT_OPTIONS(o)                                                                                                \
    { .name = "edit",                                                                                                  \
      .kind = OPTION_LIST,                                                                                             \
      .value = &(o).edits,                                                                                             \
      .argument = "EDIT",                                                                                              \
      .help = "SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]; repeatable, in this order" },                              \
    {                                                                                                                  \
        .name = "edits", .kind = OPTION_TEXT, .value = &(o).edits_path, .argument = "FILE.json",                       \
        .help = "a JSON array of edits, applied before those of --edit"                                                \
    }

/* The command's argument as a fact of id "0". *out is the caller's (prepared_release). */
int fact_options_prepare(const struct fact_options *o, const struct cli *cli, const struct model *model,
                         struct prepared *out, struct err *err);
/* Usage error where --subject or --answer stand beside -i. */
int fact_options_check(const struct fact_options *o, struct cli *cli, struct err *err);
/* Those of the file, then those given one by one. *out is zeroed before and the caller's (also after a failure). */
int fact_options_edits(const struct fact_options *o, const struct model_config *config, struct edit_list *out,
                       struct err *err);
/* "none", or every edit on its own line: what a result has to say of them. */
void edits_describe(const struct edit_list *edits, struct strbuf *out);

#endif
