/* strata diff: two dump or lens files, site by site. */
#include "analyses/cli/cli.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "core/base/strbuf.h"
#include "probes/dump_diff.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *tolerance_text = "0";

static const struct option options[] = {
    { .name = "tolerance",
      .kind = OPTION_TEXT,
      .value = &tolerance_text,
      .argument = "X",
      .help = "largest ||a-b||/||b|| of a site that counts as equal (0: every number equal)" },
    OPTIONS_END,
};

struct verdict {
    double tolerance;
    bool equal;
    size_t n_over;     /* sites in both that differ, or cannot be compared */
    const char *first; /* of these in the order of the forward pass; NULL: none */
};

static struct verdict judge(const struct dump_diff *d, double tolerance)
{
    struct verdict v = { .tolerance = tolerance };
    v.equal = !d->n_only_a && !d->n_only_b && !d->n_other && !d->n_rows_only_a && !d->n_rows_only_b;
    for (size_t i = 0; i < d->n_sites; i++) {
        const struct site_diff *s = &d->sites[i];
        if (site_diff_is_within(s, tolerance))
            continue;
        v.equal = false;
        if (s->kind == SITE_DIFF_ONLY_A || s->kind == SITE_DIFF_ONLY_B)
            continue;
        v.n_over++;
        v.first = v.first ? v.first : s->name;
    }
    return v;
}

/* --- text --- */

static const char *kind_text(enum site_diff_kind kind)
{
    switch (kind) {
    case SITE_DIFF_ONLY_A:
        return "only in A";
    case SITE_DIFF_ONLY_B:
        return "only in B";
    case SITE_DIFF_SHAPE:
        return "other shape";
    case SITE_DIFF_TYPE:
        return "other type";
    default:
        return "compared";
    }
}

static void add_site(const struct dump_data *a, const struct site_diff *s, double tolerance, struct strbuf *out)
{
    strbuf_addf(out, "%-34s", s->name);
    if (s->kind != SITE_DIFF_BOTH) {
        strbuf_addf(out, " %s\n", kind_text(s->kind));
        return;
    }
    strbuf_addf(out, " %10.3g %10.3g %12.9f", s->max_abs, s->relative, s->cosine);
    if (!site_diff_is_within(s, tolerance)) {
        strbuf_addf(out, "  largest at %s", a->id[s->prompt]);
        if (s->position >= 0)
            strbuf_addf(out, " position %d", s->position);
    }
    strbuf_addc(out, '\n');
}

static void add_missing(const char *what, size_t n, const char *example, struct strbuf *out)
{
    if (n)
        strbuf_addf(out, "%zu prompts %s (the first: %s)\n", n, what, example);
}

static void text_report(const struct dump_data *a, const struct dump_data *b, const struct dump_diff *d,
                        const struct verdict *v, struct strbuf *out)
{
    strbuf_addf(out, "A: %s%s\nB: %s%s\n", a->path, a->complete ? "" : " (partial)", b->path,
                b->complete ? "" : " (partial)");
    strbuf_addf(out, "%zu prompts, %zu rows in both\n", d->n_prompts, d->n_rows);
    add_missing("only in A", d->n_only_a, d->only_a, out);
    add_missing("only in B", d->n_only_b, d->only_b, out);
    add_missing("with the same id and other text or tokens", d->n_other, d->other, out);
    if (d->n_rows_only_a || d->n_rows_only_b)
        strbuf_addf(out, "of these prompts, %zu rows only in A, %zu only in B\n", d->n_rows_only_a, d->n_rows_only_b);
    strbuf_addf(out, "%-34s %10s %10s %12s\n", "site", "max abs", "relative", "cosine");
    for (size_t i = 0; i < d->n_sites; i++)
        add_site(a, &d->sites[i], v->tolerance, out);
    if (v->first)
        strbuf_addf(out, "first that differs: %s\n", v->first);
    else if (v->equal)
        strbuf_addf(out, "equal%s\n", v->tolerance > 0 ? " within the tolerance" : "");
}

/* --- JSON --- */

static void add_number(struct strbuf *out, const char *key, double x)
{
    if (isfinite(x))
        strbuf_addf(out, ", \"%s\": %.9g", key, x);
    else
        strbuf_addf(out, ", \"%s\": null", key);
}

static void add_key_text(struct strbuf *out, const char *key, const char *text)
{
    strbuf_addf(out, "\"%s\": ", key);
    if (text)
        strbuf_add_json(out, text, strlen(text));
    else
        strbuf_adds(out, "null");
}

static void add_site_json(const struct dump_data *a, const struct site_diff *s, double tolerance, struct strbuf *out)
{
    strbuf_adds(out, "{");
    add_key_text(out, "site", s->name);
    strbuf_addf(out, ", \"status\": \"%s\"", kind_text(s->kind));
    if (s->kind == SITE_DIFF_BOTH) {
        strbuf_addf(out, ", \"within\": %s, \"n\": %" PRIu64, site_diff_is_within(s, tolerance) ? "true" : "false",
                    s->n);
        add_number(out, "max_abs", s->max_abs);
        add_number(out, "relative", s->relative);
        add_number(out, "cosine", s->cosine);
        strbuf_adds(out, ", ");
        add_key_text(out, "prompt", s->prompt == SIZE_MAX ? NULL : a->id[s->prompt]);
        strbuf_addf(out, ", \"position\": %d", s->position);
    }
    strbuf_addc(out, '}');
}

static void json_report(const struct dump_data *a, const struct dump_data *b, const struct dump_diff *d,
                        const struct verdict *v, struct strbuf *out)
{
    strbuf_adds(out, "{");
    add_key_text(out, "a", a->path);
    strbuf_adds(out, ", ");
    add_key_text(out, "b", b->path);
    strbuf_addf(out, ", \"equal\": %s, \"tolerance\": %.9g, ", v->equal ? "true" : "false", v->tolerance);
    add_key_text(out, "first", v->first);
    strbuf_addf(out, ", \"prompts\": %zu, \"rows\": %zu", d->n_prompts, d->n_rows);
    strbuf_addf(out, ", \"prompts_only_a\": %zu, \"prompts_only_b\": %zu, \"prompts_other\": %zu", d->n_only_a,
                d->n_only_b, d->n_other);
    strbuf_addf(out, ", \"rows_only_a\": %zu, \"rows_only_b\": %zu, \"sites\": [", d->n_rows_only_a, d->n_rows_only_b);
    for (size_t i = 0; i < d->n_sites; i++) {
        strbuf_adds(out, i ? ",\n  " : "\n  ");
        add_site_json(a, &d->sites[i], v->tolerance, out);
    }
    strbuf_adds(out, "\n]}\n");
}

/* --- the command --- */

static int parse_tolerance(struct cli *cli, double *out, struct err *err)
{
    char *end;
    errno = 0;
    *out = strtod(tolerance_text, &end);
    if (errno || end == tolerance_text || *end || !(*out >= 0) || isinf(*out))
        return cli_usage(cli, err, "--tolerance %.60s: is no number of 0 or more", tolerance_text);
    return 0;
}

static int compare(struct cli *cli, const struct dump_data *a, const struct dump_data *b, double tolerance,
                   struct err *err)
{
    struct dump_diff d;
    struct progress_bar bar;
    struct progress *progress = progress_bar_start(&bar, cli, "diff", "sites");
    int rc = dump_diff_compute(a, b, progress, &d, err);
    progress_bar_end(&bar);
    if (rc)
        return rc;
    const struct verdict v = judge(&d, tolerance);
    struct strbuf text = STRBUF_INIT;
    if (cli->json)
        json_report(a, b, &d, &v, &text);
    else
        text_report(a, b, &d, &v, &text);
    rc = output_text(cli, &text, 0, err);
    if (!rc && !v.equal)
        rc = v.first
                 ? err_set(err, ERR_CHECK, "%s and %s differ: %zu sites, first %s", a->path, b->path, v.n_over, v.first)
                 : err_set(err, ERR_CHECK, "%s and %s hold different prompts, rows or sites", a->path, b->path);
    dump_diff_release(&d);
    return rc;
}

static int run(struct cli *cli, struct err *err)
{
    double tolerance = 0;
    struct dump_data a, b;
    int rc = parse_tolerance(cli, &tolerance, err);
    rc = rc ? rc : output_format(cli, err);
    rc = rc ? rc : dump_data_open(&a, cli->arguments[0], err);
    if (rc)
        return rc;
    rc = dump_data_open(&b, cli->arguments[1], err);
    if (!rc) {
        rc = compare(cli, &a, &b, tolerance, err);
        dump_data_close(&b);
    }
    dump_data_close(&a);
    return rc;
}

const struct command command_diff = {
    .name = "diff",
    .arguments = "A.h5 B.h5",
    .summary = "per site: largest difference, relative error, cosine; first layer that differs",
    .details =
        "Compares two dump files or two lens files, complete or partial, whatever dtype they store.\n"
        "\n"
        "  strata diff a.h5 b.h5\n"
        "  strata diff f32.h5 f16.h5 --tolerance 1e-3 --json\n"
        "\n"
        "Rows are matched by the prompt's id and the position. max abs: max |a-b|; relative: ||a-b|| / ||b||; cosine:\n"
        "a.b / (||a|| ||b||), over all compared rows of the site. Prompts, rows or sites that only one file has are\n"
        "counted. Exit status 0: the same prompts, rows and sites, all within the tolerance; 1: not, or a failure.\n",
    .common = COMMON_OUTPUT | COMMON_JSON,
    .options = options,
    .least_arguments = 2,
    .most_arguments = 2,
    .run = run,
};
