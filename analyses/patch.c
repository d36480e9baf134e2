/* strata patch: patching sweeps between two prompts. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/text.h"
#include "analyses/report/patch_report.h"
#include "core/base/suggest.h"

#include <string.h>

static struct fact_options given;
static const char *from_text, *from_answer, *from_subject, *sites_text = "resid_pre", *at_text = "all";
static int by, direction, align;
static bool no_plots;

static const char *const by_names[] = { "auto", "position", "head", NULL };
static const char *const direction_names[] = { "denoise", "noise", NULL };
static const char *const align_names[] = { "tokens", "subject", NULL };

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "from",
      .kind = OPTION_TEXT,
      .value = &from_text,
      .argument = "PROMPT",
      .help = "the other prompt, the corrupted one" },
    { .name = "from-answer",
      .kind = OPTION_TEXT,
      .value = &from_answer,
      .argument = "TEXT",
      .help = "its answer (the model's own top token)" },
    { .name = "from-subject",
      .kind = OPTION_TEXT,
      .value = &from_subject,
      .argument = "TEXT",
      .help = "its subject, for --align subject" },
    { .name = "site",
      .kind = OPTION_TEXT,
      .value = &sites_text,
      .argument = "SITE,...",
      .help = "resid_pre (default), resid_mid, resid_post, attn_out, mlp_out, z, q, k, v, pattern" },
    { .name = "by",
      .kind = OPTION_CHOICE,
      .value = &by,
      .choices = by_names,
      .help = "columns; auto: heads for z, q, k, v, pattern, else positions" },
    { .name = "positions",
      .kind = OPTION_TEXT,
      .value = &at_text,
      .argument = "WHICH",
      .help = "by head: which tokens are patched (all)" },
    { .name = "direction",
      .kind = OPTION_CHOICE,
      .value = &direction,
      .choices = direction_names,
      .help = "clean values into the corrupted run, or the reverse" },
    { .name = "align",
      .kind = OPTION_CHOICE,
      .value = &align,
      .choices = align_names,
      .help = "which tokens correspond: those of one number, or around the subjects" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o FOLDER" },
    OPTIONS_END,
};

static const enum site patchable[] = { SITE_RESID_PRE, SITE_RESID_MID, SITE_RESID_POST, SITE_ATTN_OUT, SITE_MLP_OUT,
                                       SITE_Z,         SITE_Q,         SITE_K,          SITE_V,        SITE_PATTERN };
enum { N_PATCHABLE = sizeof patchable / sizeof *patchable };

struct job {
    struct cli *cli;
    struct session session;
    struct result result;
    struct positions at;
    struct prepared clean, corrupted;
    struct patch_sweep sweeps[N_PATCHABLE];
    size_t n;
    struct patch_report report;
};

/* --- what is patched --- */

static bool has_heads(enum site site)
{
    return site == SITE_Z || site == SITE_Q || site == SITE_K || site == SITE_V || site == SITE_PATTERN;
}

static int add_site(struct job *job, const char *name, size_t len, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, name, len);
    for (size_t i = 0; i < N_PATCHABLE; i++) {
        const char *known = site_row(patchable[i])->short_name;
        suggest_consider(&s, known);
        if (strlen(known) != len || memcmp(known, name, len) != 0)
            continue;
        for (size_t k = 0; k < job->n; k++)
            if (job->sweeps[k].site == patchable[i])
                return cli_usage(job->cli, err, "--site names %s twice", known);
        bool heads = by == 2 || (by == 0 && has_heads(patchable[i]));
        if (heads && !has_heads(patchable[i]))
            return cli_usage(job->cli, err, "--by head: %s has no heads", known);
        if (!heads && patchable[i] == SITE_PATTERN)
            return cli_usage(job->cli, err, "--by position: pattern is patched by head, --positions are its queries");
        job->sweeps[job->n++] = (struct patch_sweep){ .name = known,
                                                      .site = patchable[i],
                                                      .by = heads ? PATCH_BY_HEAD : PATCH_BY_POSITION };
        return 0;
    }
    suggest_text(&s, "", hint);
    return cli_usage(job->cli, err, "--site '%.*s' cannot be patched%s", len < 60 ? (int)len : 60, name,
                     *hint ? hint : ": see the list in the help");
}

static int read_sites(struct job *job, struct err *err)
{
    int rc = 0;
    for (const char *at = sites_text; !rc && at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        rc = add_site(job, at, strcspn(at, ","), err);
    return rc;
}

static int read_prompts(struct job *job, struct err *err)
{
    const struct cli *cli = job->cli;
    const struct fact other = {
        .id = "from", .prompt = from_text, .subject = from_subject, .answer = from_answer, .answer_token = -1, .line = 1
    };
    int rc = fact_options_prepare(&given, cli, job->session.model, &job->clean, err);
    return rc ? rc : prepare_fact(job->session.model, &other, cli->specials, "--from", &job->corrupted, err);
}

static int run_sweeps(struct job *job, struct err *err)
{
    struct progress_bar bar;
    int rc = 0;
    for (size_t i = 0; !rc && i < job->n; i++) {
        struct patch_sweep *s = &job->sweeps[i];
        const struct patching_input in = { .clean = { prepared_prompt(&job->clean), job->clean.answer_token },
                                           .corrupted = { prepared_prompt(&job->corrupted),
                                                          job->corrupted.answer_token },
                                           .site = s->site,
                                           .by = s->by,
                                           .direction = direction ? PATCH_NOISE : PATCH_DENOISE,
                                           .align_subject = align == 1,
                                           .at = job->at };
        struct progress *progress = progress_bar_start(&bar, job->cli, s->name, "patches");
        rc = patching_run(&s->result, job->session.runtime, &in, progress, err);
        progress_bar_end(&bar);
    }
    job->report = (struct patch_report){ .model = job->session.model,
                                         .clean = &job->clean,
                                         .corrupted = &job->corrupted,
                                         .direction = direction ? PATCH_NOISE : PATCH_DENOISE,
                                         .positions = at_text,
                                         .sweeps = job->sweeps,
                                         .n = job->n };
    return rc;
}

/* --- set-up --- */

static int check(struct job *job, struct err *err)
{
    struct cli *cli = job->cli;
    if (!from_text)
        return cli_usage(cli, err, "--from PROMPT is missing: values are exchanged between two prompts");
    if (align && (!given.subject || !from_subject))
        return cli_usage(cli, err, "--align subject needs --subject and --from-subject");
    int rc = result_choose(&job->result, &patch_result, cli, no_plots, err);
    rc = rc ? rc : read_sites(job, err);
    bool any_heads = false;
    for (size_t i = 0; i < job->n; i++)
        any_heads = any_heads || job->sweeps[i].by == PATCH_BY_HEAD;
    if (!rc && strcmp(at_text, "all") != 0 && !any_heads)
        rc = cli_usage(cli, err, "--positions goes with --by head: by position every token is patched by itself");
    rc = rc ? rc : positions_parse(at_text, strlen(at_text), &job->at, err);
    return rc;
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli };
    int rc = check(&job, err);
    rc = rc ? rc : session_open_answers(&job.session, cli, err);
    rc = rc ? rc : read_prompts(&job, err);
    rc = rc ? rc : run_sweeps(&job, err);
    if (!rc) {
        const struct provenance p = result_provenance(cli, job.session.model);
        rc = result_write(&job.result, &job.report, &p, err);
    }
    for (size_t i = 0; i < job.n; i++)
        patching_release(&job.sweeps[i].result);
    prepared_release(&job.clean);
    prepared_release(&job.corrupted);
    positions_release(&job.at);
    session_close(&job.session);
    return rc;
}

const struct command command_patch = {
    .name = "patch",
    .arguments =
        "[-m MODEL] \"CLEAN PROMPT\" --from \"CORRUPTED PROMPT\" [--answer TEXT] [--from-answer TEXT] [-o PATH]",
    .summary = "patching sweeps: what of one prompt's run, put into another's, brings its answer with it",
    .details =
        "What the clean run has at one place is put into the corrupted run (--direction noise: the reverse), for "
        "every\n"
        "layer and token, or head. The number is the logit difference between the two answers at the last token,\n"
        "normalised: 0 is the corrupted run, 1 the clean one. p(clean answer) stands beside it in files.\n"
        "\n"
        "  strata patch \"The capital of France is\" --answer Paris --from \"The capital of Italy is\" --from-answer "
        "Rome\n"
        "  strata patch \"...\" --from \"...\" --site resid_pre,attn_out,mlp_out,z -o patched\n"
        "  strata patch \"...\" --from \"...\" --site z --positions last\n"
        "\n"
        "By position, tokens of one number correspond, so the prompts must have as many; --align subject lets "
        "subjects\n"
        "of different lengths correspond from their last tokens. pattern: queries at --positions, all keys.\n"
        "A folder gets patch.h5 (format strata-patch), patch.csv and a figure a site. Without answers: the model's "
        "own\n"
        "top tokens. Norm convention: lens (each run's own final norm).\n",
    .common = COMMON_MODEL | COMMON_OUTPUT | COMMON_JSON,
    .options = options,
    .least_arguments = 1,
    .most_arguments = 1,
    .run = run,
};
