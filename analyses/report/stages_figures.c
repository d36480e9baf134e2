/* Figures of the three stages, and their part of a page. */
#include "analyses/plot/figures.h"
#include "analyses/report/stages_report.h"
#include "analyses/report/token_text.h"
#include "core/base/mem.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 4, PAGE_HEADS = 10 };

/* --- curves of many facts: mean and band; of one: as they are --- */

struct line {
    enum stages_curve curve;
    const char *name;
};

static bool has_curve(const struct stages_report *r, enum stages_curve curve)
{
    if (!r->single)
        return r->all.curves[curve].n > 0;
    size_t n = stages_n_points(&r->stages, curve);
    for (size_t i = 0; i < n; i++)
        if (isfinite(r->stages.curves[curve][i]))
            return true;
    return false;
}

static struct curve_line line_of(const struct stages_report *r, const struct line *line)
{
    const struct stages_band *b = &r->all.curves[line->curve];
    if (r->single)
        return (struct curve_line){ .name = line->name, .middle = r->stages.curves[line->curve] };
    bool band = b->n_subjects > 1;
    return (struct curve_line){
        .name = line->name, .middle = b->mean, .low = band ? b->low : NULL, .high = band ? b->high : NULL
    };
}

static int draw_lines(const struct stages_report *r, const struct plot_target *to, const struct line *lines, size_t n,
                      const char *x_name, const char *y_name, struct err *err)
{
    struct curve_line shown[MOST_LINES];
    size_t n_shown = 0;
    for (size_t i = 0; i < n; i++)
        if (has_curve(r, lines[i].curve))
            shown[n_shown++] = line_of(r, &lines[i]);
    if (!n_shown)
        return 0;
    const struct curve_figure f = { .n_layers = stages_n_points(&r->stages, lines[0].curve),
                                    .n_lines = n_shown,
                                    .lines = shown,
                                    .x_name = x_name,
                                    .y_name = y_name,
                                    .band_name = shown[0].low ? "95 % bootstrap over subjects" : NULL,
                                    .y_low = NAN,
                                    .y_high = NAN };
    return plot_curves(to, &f, err);
}

static int draw_knockout(const struct stages_report *r, struct plot_target to, struct err *err)
{
    static const struct line lines[] = { { STAGES_SUBJECT, "subject" },
                                         { STAGES_REST, "rest" },
                                         { STAGES_LAST, "itself" },
                                         { STAGES_RANDOM, "random tokens" } };
    to.name = "knockout";
    to.title = "p(answer) when the last token may not attend to these tokens (token 0 spared)";
    return draw_lines(r, &to, lines, 4, "layer in the middle of the blocked window", "change of p(answer), %", err);
}

static int draw_recall(const struct stages_report *r, struct plot_target to, struct err *err)
{
    static const struct line lines[] = { { STAGES_RECALL, "of the subject" },
                                         { STAGES_RECALL_CONTROL, "of a random other subject" } };
    to.name = "recall";
    to.title = "Attributes among the top 500 tokens at the subject's last token";
    return draw_lines(r, &to, lines, 2, "depth (0: what enters the first block; l: after block l - 1)",
                      "recall of attributes, %", err);
}

static int draw_removed(const struct stages_report *r, struct plot_target to, struct err *err)
{
    static const struct line lines[] = { { STAGES_WITHOUT_FFN, "FFN off" },
                                         { STAGES_WITHOUT_ATTENTION, "attention flattened" } };
    to.name = "removed";
    to.title = "Recall of attributes when sublayers below are removed";
    return draw_lines(r, &to, lines, 2, "first layer of the removed window", "change of recall, points", err);
}

static int draw_events(const struct stages_report *r, struct plot_target to, struct err *err)
{
    static const struct line lines[] = { { STAGES_EVENT_ATTENTION, "attention" }, { STAGES_EVENT_FFN, "FFN" } };
    if (r->single)
        return 0;
    to.name = "extraction";
    to.title = "Facts whose answer is the top token of what a sublayer writes";
    return draw_lines(r, &to, lines, 2, "layer", "facts, %", err);
}

/* The answer's rank at the subject's last token, and the same with random subjects: median and extremes. */
static int draw_enrichment(const struct stages_report *r, struct plot_target to, struct err *err)
{
    size_t n = r->random.n_states, draws = r->random.n_draws;
    double sorted[STAGES_SUBJECT_DRAWS];
    double *numbers = mem_array(n, 4 * sizeof *numbers);
    if (!numbers)
        return err_nomem(err, "a figure");
    for (size_t s = 0; s < n; s++) {
        for (size_t d = 0; d < draws; d++)
            sorted[d] = r->random.rank[d * n + s];
        statistics_sort(sorted, draws);
        numbers[s] = pow(10, r->stages.curves[STAGES_SUBJECT_RANK][s]);
        numbers[n + s] = statistics_quantile(sorted, draws, 0.5);
        numbers[2 * n + s] = sorted[0];
        numbers[3 * n + s] = sorted[draws - 1];
    }
    const struct curve_line lines[] = {
        { .name = "this subject", .middle = numbers },
        { .name = "random subjects", .middle = numbers + n, .low = numbers + 2 * n, .high = numbers + 3 * n }
    };
    const struct curve_figure f = { .n_layers = n,
                                    .n_lines = 2,
                                    .lines = lines,
                                    .x_name = "depth (0: what enters the first block; l: after block l - 1)",
                                    .y_name = "rank of the answer (1 = top)",
                                    .band_name = "least and greatest of the draws",
                                    .log = true,
                                    .reversed = true,
                                    .y_low = NAN,
                                    .y_high = NAN };
    to.name = "enrichment";
    to.title = "The answer at the subject's last token";
    int rc = isnan(numbers[0]) ? 0 : plot_curves(&to, &f, err);
    free(numbers);
    return rc;
}

static int draw_head_means(const struct stages_report *r, struct plot_target to, struct err *err)
{
    const struct heat_figure f = { .n_rows = r->model->config.n_layers,
                                   .n_columns = r->model->config.n_heads,
                                   .values = r->head_mean,
                                   .row_name = "layer",
                                   .column_name = "head",
                                   .value_name = "added to the answer's logit, mean",
                                   .row_prefix = "L",
                                   .column_prefix = "H",
                                   .n_marked = 5,
                                   .diverging = true };
    to.name = "heads";
    to.title = "What each head adds to the answer's logit (norm convention: attribution)";
    return plot_heat(&to, &f, err);
}

static int draw_causal_grid(const struct stages_report *r, const struct plot_target *to, char **tokens, struct err *err)
{
    const struct causal_trace *t = &r->causal;
    const struct heat_figure f = { .n_rows = t->n_tokens,
                                   .n_columns = t->n_layers,
                                   .values = t->p[CAUSAL_STATE],
                                   .row_labels = (const char *const *)tokens,
                                   .row_name = "token",
                                   .column_name = "layer",
                                   .value_name = "p(answer); palest: as corrupted",
                                   .n_marked = 3,
                                   .row_prefix = "token ",
                                   .column_prefix = " L",
                                   .colours = HEAT_PURPLES,
                                   .least = &t->corrupted,
                                   .rows_down = true };
    return plot_heat(to, &f, err);
}

static int draw_causal(const struct stages_report *r, struct plot_target to, struct err *err)
{
    size_t n = r->causal.n_tokens;
    char **tokens = mem_zeroed(n, sizeof *tokens);
    int rc = tokens ? 0 : err_nomem(err, "a figure");
    for (size_t i = 0; !rc && i < n; i++)
        rc = token_text_label(r->model, r->fact->tokens.id[i], &tokens[i], err);
    to.name = "causal";
    to.title = "p(answer) after restoring one state in the run with a corrupted subject";
    rc = rc ? rc : draw_causal_grid(r, &to, tokens, err);
    for (size_t i = 0; tokens && i < n; i++)
        free(tokens[i]);
    free(tokens);
    return rc;
}

int stages_report_figures(const struct stages_report *r, const struct plot_target *to, struct err *err)
{
    if (r->skipped)
        return 0;
    int rc = r->single ? draw_enrichment(r, *to, err) : 0;
    rc = rc < 0 ? rc : draw_recall(r, *to, err);
    rc = rc < 0 ? rc : draw_removed(r, *to, err);
    rc = rc < 0 ? rc : draw_knockout(r, *to, err);
    rc = rc < 0 ? rc : draw_events(r, *to, err);
    if (rc >= 0 && !r->single)
        rc = draw_head_means(r, *to, err);
    if (rc >= 0 && r->has_causal)
        rc = draw_causal(r, *to, err);
    return rc;
}

/* --- page --- */

static void add_verdicts(const struct stages_report *r, struct page *page)
{
    static const char *const columns[] = { "stage", "verdict", "what carries it", "control", NULL };
    char name[64];
    page_table(page, "Three stages", columns);
    for (int i = 0; i < N_STAGES; i++) {
        const struct stage *s = &r->stage[i];
        struct strbuf number = STRBUF_INIT, control = STRBUF_INIT;
        snprintf(name, sizeof name, "%d %s", i + 1, stage_name(i));
        page_cell(page, name);
        page_cell(page, stage_finding_name(s->finding));
        if (r->skipped)
            strbuf_adds(&number, r->skipped);
        else
            stages_report_number(r, i, &number);
        if (!r->skipped)
            stages_report_control(r, i, &control);
        if (!r->skipped && s->finding == STAGE_NOT_FOUND)
            strbuf_addf(&control, " (%s)", s->reason);
        if (i == STAGE_ENRICHMENT && !r->single && !r->skipped && r->all.curves[STAGES_WITHOUT_FFN].n) {
            strbuf_adds(&control, "; ");
            stages_report_removed(r, &control);
        }
        page_cell(page, strbuf_text(&number));
        page_cell(page, strbuf_text(&control));
        page_end_row(page);
        page->html.failed |= strbuf_failed(&number) || strbuf_failed(&control);
        strbuf_release(&number);
        strbuf_release(&control);
    }
    page_end_table(page);
}

static void add_number(struct page *page, const char *format, double x)
{
    char text[64];
    snprintf(text, sizeof text, format, x);
    page_cell(page, isfinite(x) ? text : "");
}

static void add_heads(const struct stages_report *r, struct page *page)
{
    static const char *const columns[] = { "head", "adds to the logit", "attention on the subject", NULL };
    static const char *const ablation[] = { "heads taken out", "p(answer) without the first", "without random ones",
                                            "spread of draws", NULL };
    const double *logit = r->single ? r->stages.head_logit : r->head_mean;
    const double *subject = r->single ? r->stages.head_subject : r->head_subject;
    char name[STAGES_HEAD_NAME];
    page_table(page, "Heads that add most (norm convention: attribution)", columns);
    for (size_t i = 0; i < PAGE_HEADS && i < r->stages.n_heads; i++) {
        page_cell(page, stages_head_name(r, r->order[i], name));
        add_number(page, "%+.3f", logit[r->order[i]]);
        add_number(page, "%.3f", subject[r->order[i]]);
        page_end_row(page);
    }
    page_end_table(page);
    if (!r->ranked.n_variants)
        return;
    page_table(page, "The answer without them", ablation);
    page_cell(page, "0");
    add_number(page, "%.4f", ablation_base(&r->ranked).probability);
    page_cell(page, "");
    page_cell(page, "");
    page_end_row(page);
    for (size_t c = 0; c < r->n_counts; c++) {
        struct ablation_effect mean, spread;
        ablation_control(&r->ranked, c, &mean, &spread);
        add_number(page, "%.0f", (double)r->counts[c]);
        add_number(page, "%.4f", ablation_effect(&r->ranked, c).probability);
        add_number(page, "%.4f", mean.probability);
        add_number(page, "%.4f", spread.probability);
        page_end_row(page);
    }
    page_end_table(page);
}

static void add_figures(const struct stages_report *r, struct page *page, const char *folder)
{
    if (r->single && has_curve(r, STAGES_SUBJECT_RANK))
        page_figure(page, folder, "enrichment",
                    "Stage 1: rank of the answer at the subject's last token, and with random words as the subject.");
    if (has_curve(r, STAGES_RECALL))
        page_figure(page, folder, "recall",
                    "Stage 1: attributes of the subject, and of a random other one, among the top 500 tokens of the "
                    "subject's last token.");
    if (has_curve(r, STAGES_WITHOUT_FFN))
        page_figure(page, folder, "removed",
                    "Stage 1: what removing FFN neurons or flattening attention in a window of layers does to that "
                    "recall.");
    page_figure(page, folder, "knockout",
                "Stages 2 and 3: change of p(answer) when the last token may not attend to the subject, to the rest of "
                "the prompt, to itself, or to random tokens of the rest, as many as the subject has.");
    if (!r->single) {
        page_figure(page, folder, "extraction",
                    "Stage 3: facts whose answer is the top token of what attention or FFN of a layer writes.");
        page_figure(page, folder, "heads",
                    "Stage 3: what each head adds to the answer's logit; the largest are framed.");
    }
    if (r->has_causal)
        page_figure(page, folder, "causal",
                    "Causal tracing: p(answer) after restoring one state in the run with a corrupted subject.");
}

void stages_report_add_page(const struct stages_report *r, struct page *page, const char *folder, bool figures)
{
    struct strbuf text = STRBUF_INIT;
    if (r->single) {
        strbuf_adds(&text, "Does the model know it? ");
        stages_report_known(r, &text);
        page_paragraph(page, strbuf_text(&text));
    }
    add_verdicts(r, page);
    if (r->skipped) {
        page->html.failed |= strbuf_failed(&text);
        strbuf_release(&text);
        return;
    }
    strbuf_reset(&text);
    strbuf_addf(&text,
                "Percentages are changes of p(answer), in percent of what it was. Attention is blocked in windows of "
                "%zu layers; token 0, which draws attention whatever it is, is never blocked. ",
                r->window);
    if (r->single)
        strbuf_addf(
            &text,
            "Found means: with each of %d random subjects the answer's rank stays at least %d times as far down "
            "(p at most %.2f); a drop of %d %% and more that changes log p(answer) at least %d times as much as the "
            "control does: each set of other tokens in its own deepest window (extraction); the subject in every "
            "window up to that of the rest, and the rest in every window from that of the subject on (propagation).",
            STAGES_SUBJECT_DRAWS, STAGES_ONE_RATIO, STAGES_LEVEL, STAGES_ONE_DROP, STAGES_ONE_RATIO);
    else
        strbuf_addf(&text,
                    "Found means: recall %d points above its control and above the embedding; a mean drop of %d %% and "
                    "more; in each case with bands over subjects that exclude zero and the control.",
                    STAGES_MEAN_GAIN, STAGES_MEAN_DROP);
    page_paragraph(page, strbuf_text(&text));
    strbuf_reset(&text);
    strbuf_adds(&text, "Left out: ");
    stages_report_left_out(r, &text);
    page_paragraph(page, strbuf_text(&text));
    if (figures)
        add_figures(r, page, folder);
    add_heads(r, page);
    page->html.failed |= strbuf_failed(&text);
    strbuf_release(&text);
}

/* --- the page of many facts --- */

static void add_band(struct page *page, const struct stages_estimate *e, const char *format)
{
    struct strbuf text = STRBUF_INIT;
    if (isfinite(e->mean))
        strbuf_addf(&text, format, e->mean);
    if (isfinite(e->low)) {
        strbuf_adds(&text, " [");
        strbuf_addf(&text, format, e->low);
        strbuf_adds(&text, ", ");
        strbuf_addf(&text, format, e->high);
        strbuf_adds(&text, "]");
    }
    page_cell(page, strbuf_text(&text));
    page->html.failed |= strbuf_failed(&text);
    strbuf_release(&text);
}

static void add_layer(struct page *page, const struct stage *s)
{
    char text[32] = "";
    if (s->n)
        snprintf(text, sizeof text, "%zu", s->layer);
    page_cell(page, text);
}

static void add_relation(struct page *page, const struct stages_relation *relation)
{
    const struct stages_summary *s = &relation->summary;
    struct strbuf name = STRBUF_INIT;
    char n[64];
    plot_show(&name, *relation->name ? relation->name : "(none)", 40);
    page_cell(page, strbuf_text(&name));
    page->html.failed |= strbuf_failed(&name);
    strbuf_release(&name);
    snprintf(n, sizeof n, "%zu of %zu", relation->n, relation->n_given);
    page_cell(page, n);
    for (int i = 0; i < N_STAGES && relation->n; i++) {
        const struct stage *stage = &s->stage[i];
        page_cell(page, stage_finding_name(stage->finding));
        add_layer(page, stage);
        if (stage->n)
            add_band(page, i ? &stage->number : &stage->difference, i ? "%+.0f" : "%+.1f");
        else
            page_cell(page, "");
    }
    if (relation->n) {
        add_band(page, &s->events[0], "%.0f");
        add_band(page, &s->events[1], "%.0f");
    }
    page_end_row(page);
}

static void add_relations(const struct stages_report *r, struct page *page)
{
    static const char *const columns[] = { "relation",
                                           "known",
                                           "enrichment",
                                           "layer",
                                           "recall less control",
                                           "propagation",
                                           "layer",
                                           "rest blocked, %",
                                           "extraction",
                                           "layer",
                                           "subject blocked, %",
                                           "answer on top of attention, %",
                                           "of FFN, %",
                                           NULL };
    if (r->n_relations < 2)
        return;
    page_table(page, "By relation", columns);
    for (size_t i = 0; i < r->n_relations; i++)
        add_relation(page, &r->relations[i]);
    page_end_table(page);
}

int stages_report_page(const struct stages_report *r, const char *command, const char *folder, bool figures,
                       struct err *err)
{
    static const char *const files[][2] = { { "trace.h5", "everything, for h5py: format strata-trace" },
                                            { "curves.csv", "means and bands of every curve, by relation" },
                                            { "relations.csv", "verdicts and their numbers" },
                                            { "facts.csv", "every fact" },
                                            { "heads.csv", "every head" },
                                            { NULL, NULL } };
    struct page page;
    struct strbuf about = STRBUF_INIT, text = STRBUF_INIT, shown = STRBUF_INIT;
    strbuf_adds(&about, "Model ");
    plot_show(&about, r->model->path, 200);
    strbuf_adds(&about, ". ");
    known_facts_describe(r->facts, &about);
    strbuf_addf(&about, "; %zu without a subject. Measured: %zu facts, %zu subjects%s.", r->n_without_subject,
                r->stages.n_facts, r->all.n_subjects, r->interrupted ? ", INTERRUPTED" : "");
    page_begin(&page, "How facts are recalled: three stages", strbuf_text(&about));
    stages_report_add_page(r, &page, folder, figures);
    add_relations(r, &page);
    stages_report_text(r, &text);
    page_text(&page, "In numbers", strbuf_text(&text));
    plot_show(&shown, command, 0);
    page_text(&page, "Command", strbuf_text(&shown));
    page_files(&page, files);
    page.html.failed |= strbuf_failed(&about) || strbuf_failed(&text) || strbuf_failed(&shown);
    strbuf_release(&about);
    strbuf_release(&text);
    strbuf_release(&shown);
    return page_finish(&page, folder, "report.html", err);
}
