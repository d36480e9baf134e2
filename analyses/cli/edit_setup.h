/*
 * Everything that edits of a command may need: the options that give them, the
 * data set of means, the other prompt of patches.
 *
 *     static struct edit_options given;
 *     static const struct option options[] = { ..., EDIT_SETUP_OPTIONS(given), OPTIONS_END };
 *     ...
 *     struct edit_setup setup = { 0 };
 *     edit_setup_open(&setup, &given, cli, &session, &err);
 *     struct forward f = { ..., .edits = &setup.edits };
 *     edit_runs_make(&setup.runs, rt, &f, &err);
 *     edit_setup_close(&setup);
 */
#ifndef STRATA_ANALYSES_CLI_EDIT_SETUP_H
#define STRATA_ANALYSES_CLI_EDIT_SETUP_H

#include "analyses/cli/cli.h"
#include "core/runtime/edit_runs.h"
#include "core/runtime/prepare.h"

struct edit_options {
    struct text_list edits;
    const char *path, *from, *from_subject, *mean_over;
};

#define EDIT_SETUP_OPTIONS(o)                                                                                          \
    { .name = "edit",                                                                                                  \
      .kind = OPTION_LIST,                                                                                             \
      .value = &(o).edits,                                                                                             \
      .argument = "EDIT",                                                                                              \
      .help = "SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]; repeatable, in this order" },                              \
        { .name = "edits",                                                                                             \
          .kind = OPTION_TEXT,                                                                                         \
          .value = &(o).path,                                                                                          \
          .argument = "FILE.json",                                                                                     \
          .help = "a JSON array of edits, applied before those of --edit" },                                           \
        { .name = "from",                                                                                              \
          .kind = OPTION_TEXT,                                                                                         \
          .value = &(o).from,                                                                                          \
          .argument = "PROMPT",                                                                                        \
          .help = "another prompt, whose run `patch` takes values from" },                                             \
        { .name = "from-subject",                                                                                      \
          .kind = OPTION_TEXT,                                                                                         \
          .value = &(o).from_subject,                                                                                  \
          .argument = "TEXT",                                                                                          \
          .help = "its subject, for subject positions there" },                                                        \
    {                                                                                                                  \
        .name = "mean-over", .kind = OPTION_TEXT, .value = &(o).mean_over, .argument = "FACTS",                        \
        .help = "the data set over which `mean` takes its values"                                                      \
    }

/* What an edit may be, for help pages. */
#define EDIT_HELP                                                                                                      \
    "Edits: SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]. SITE as in `strata sites`, with layers: z:3, mlp_out:0-5,\n"  \
    "L4H3, L4N120. POSITIONS: last, all, subject, subject-first, subject-last, non-subject, 0,3-5. UNITS: heads or\n"  \
    "neurons. OP:\n"                                                                                                   \
    "  set V, add V   V: a number, FILE.npy or FILE.f32 (a vector as long as the site's row, or one for each "         \
    "layer),\n"                                                                                                        \
    "                 or noise:SIGMA[:SEED]\n"                                                                         \
    "  scale NUMBER, zero\n"                                                                                           \
    "  mean           the site's mean over the facts of --mean-over, at the same positions\n"                          \
    "  patch [SITE][@POSITIONS] [from base]   what the run of --from has there, or this prompt's own unedited one\n"   \
    "  freeze         what this prompt's own unedited run has there: severs the paths through it\n"                    \
    "  block, uniform attention edges of attn_scores: removed (the rest renormalises), made equal\n"

struct edit_setup {
    struct edit_list edits;
    struct edit_runs runs;
    struct prepared other; /* --from */
    struct prompt other_prompt;
};

int edit_setup_open(struct edit_setup *s, const struct edit_options *o, const struct cli *cli,
                    const struct session *session, struct err *err);
void edit_setup_close(struct edit_setup *s); /* also of a zeroed struct */

/* Fills the means of the edits over the facts of a file. */
int edits_fill_means(struct edit_list *edits, const char *path, const struct cli *cli, const struct session *session,
                     struct err *err);

#endif
