/* Figures of a traced fact. */
#include "analyses/plot/figures.h"
#include "analyses/plot/plot.h"
#include "analyses/report/page.h"
#include "analyses/report/stages_report.h"
#include "analyses/report/token_text.h"
#include "analyses/report/trace_report.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct figures {
    const struct trace_report *r;
    const char *folder, *model;
    struct plots plots;
    struct strbuf answer, subtitle;
};

static struct plot_target target(struct figures *f, const char *name, const char *title, const char *norm)
{
    const struct fact_trace *t = f->r->trace;
    strbuf_reset(&f->subtitle);
    plot_show(&f->subtitle, f->r->fact->text, 46);
    strbuf_adds(&f->subtitle, " \xe2\x86\x92 ");
    plot_show(&f->subtitle, strbuf_text(&f->answer) + (*strbuf_text(&f->answer) == ' '), 14);
    strbuf_addf(&f->subtitle, "; norm convention: %s; n = 1, %zu tokens; ", norm, t->n_tokens);
    plot_show(&f->subtitle, f->model, 36);
    f->plots.failed |= strbuf_failed(&f->subtitle) || strbuf_failed(&f->answer);
    return (struct plot_target){
        .folder = f->folder, .name = name, .title = title, .subtitle = strbuf_text(&f->subtitle), .plots = &f->plots
    };
}

/* --- rank of the answer and its rivals --- */

/* Ranks and probabilities of one line as doubles, into numbers[2 * n_states]. */
static void fill_line(const struct lens_result *lens, size_t first, size_t n_states, double *numbers)
{
    for (size_t s = 0; s < n_states; s++) {
        numbers[s] = lens->rank[first + s];
        numbers[n_states + s] = exp((double)lens->logprob[first + s]);
    }
}

/* "␣Paris (answer)": which space a token has is part of what it is. */
static int line_name(const struct model *m, int32_t token, bool answer, char **out, struct err *err)
{
    struct strbuf name = STRBUF_INIT;
    token_text_padded(&name, m, token, 0);
    strbuf_adds(&name, answer ? " (answer)" : "");
    *out = name.data;
    return strbuf_failed(&name) ? err_nomem(err, "a figure") : 0;
}

static int draw_rank(struct figures *f, struct err *err)
{
    const struct fact_trace *t = f->r->trace;
    size_t n = t->n_states, n_lines = 1 + t->n_rivals;
    double *numbers = mem_array(2 * n * n_lines, sizeof *numbers);
    char **names = mem_zeroed(n_lines, sizeof *names);
    struct fact_line *lines = mem_array(n_lines, sizeof *lines);
    int rc = numbers && names && lines ? 0 : err_nomem(err, "a figure");
    for (size_t i = 0; !rc && i < n_lines; i++) {
        double *own = numbers + 2 * n * i;
        if (i)
            fill_line(&t->rival_lens, (i - 1) * n, n, own);
        else
            fill_line(&t->lens, t->read_row * n, n, own);
        rc = line_name(f->r->model, i ? t->rivals[i - 1] : t->answer, !i, &names[i], err);
        lines[i] = (struct fact_line){ .name = names[i], .rank = own, .prob = own + n };
    }
    const struct fact_figure figure = { .n_layers = n, .n_lines = n_lines, .labels = f->r->labels, .lines = lines };
    if (!rc) {
        struct plot_target to = target(f, "rank", "The answer and its rivals at every depth", "lens");
        rc = plot_fact(&to, &figure, err);
    }
    for (size_t i = 0; names && i < n_lines; i++)
        free(names[i]);
    free(names);
    free(lines);
    free(numbers);
    return rc;
}

/* --- token x layer grid --- */

static int fill_grid(const struct figures *f, double *rank, char **text, char **tokens, struct err *err)
{
    const struct fact_trace *t = f->r->trace;
    int rc = 0;
    for (size_t row = 0; !rc && row < t->n_rows; row++) {
        rc = token_text_copy(f->r->model, f->r->fact->tokens.id[row], &tokens[row], err);
        for (size_t s = 0; !rc && s < t->n_states; s++) {
            size_t i = row * t->n_states + s, cell = s * t->n_rows + row;
            rank[cell] = t->lens.rank[i];
            rc = token_text_copy(f->r->model, t->lens.top_token[i * f->r->top_k], &text[cell], err);
        }
    }
    return rc;
}

static int draw_grid(struct figures *f, struct err *err)
{
    const struct fact_trace *t = f->r->trace;
    size_t n = t->n_rows * t->n_states;
    double *rank = mem_array(n, sizeof *rank);
    char **text = mem_zeroed(n, sizeof *text), **tokens = mem_zeroed(t->n_rows, sizeof *tokens);
    int rc = rank && text && tokens ? fill_grid(f, rank, text, tokens, err) : err_nomem(err, "a figure");
    const struct grid_figure figure = { .n_tokens = t->n_rows,
                                        .n_layers = t->n_states,
                                        .tokens = (const char *const *)tokens,
                                        .labels = f->r->labels,
                                        .rank = rank,
                                        .text = (const char *const *)text,
                                        .value_name = "rank of the answer (1 = top)" };
    if (!rc) {
        struct plot_target to =
            target(f, "grid", "Top token by depth and token, coloured by the answer's rank", "lens");
        rc = plot_grid(&to, &figure, err);
    }
    for (size_t i = 0; text && i < n; i++)
        free(text[i]);
    for (size_t i = 0; tokens && i < t->n_rows; i++)
        free(tokens[i]);
    free(text);
    free(tokens);
    free(rank);
    return rc;
}

/* --- what writes the answer --- */

static int draw_heads(struct figures *f, struct err *err)
{
    const struct model_config *c = &f->r->model->config;
    const struct heat_figure figure = { .n_rows = c->n_layers,
                                        .n_columns = c->n_heads,
                                        .values = f->r->trace->attribution.heads,
                                        .row_name = "layer",
                                        .column_name = "head",
                                        .value_name = "added to the answer's logit",
                                        .row_prefix = "L",
                                        .column_prefix = "H",
                                        .n_marked = 5,
                                        .diverging = true };
    struct plot_target to = target(f, "heads", "What each head adds to the answer's logit", "attribution");
    return plot_heat(&to, &figure, err);
}

static int draw_contributions(struct figures *f, struct err *err)
{
    const struct attribution *a = &f->r->trace->attribution;
    const struct bar_series series[] = { { "attention", a->attention }, { "FFN", a->mlp } };
    const struct bar_figure figure = { .n_groups = f->r->model->config.n_layers,
                                       .n_series = 2,
                                       .series = series,
                                       .x_name = "layer",
                                       .y_name = "added to the answer's logit" };
    struct plot_target to =
        target(f, "contributions", "What attention and FFN of each layer add to the answer's logit", "attribution");
    return plot_bars(&to, &figure, err);
}

int trace_report_figures(const struct trace_report *r, const char *folder, struct err *err)
{
    struct figures f = { .r = r, .folder = folder, .model = file_base_name(r->model->path) };
    struct err ignored;
    token_text(&f.answer, r->model, r->trace->answer);
    int rc = draw_grid(&f, err);
    rc = rc ? rc : draw_rank(&f, err);
    if (!rc && !r->trace->not_attributed) {
        rc = draw_heads(&f, err);
        rc = rc ? rc : draw_contributions(&f, err);
    }
    if (rc >= 0 && r->stages) {
        const struct plot_target to = target(&f, "", "", "lens");
        rc = stages_report_figures(r->stages, &to, err);
    }
    int drawn = plots_wait(&f.plots, rc < 0 ? &ignored : err);
    strbuf_release(&f.answer);
    strbuf_release(&f.subtitle);
    return rc < 0 ? rc : drawn;
}

static void add_figures(struct page *page, const char *folder, bool attributed)
{
    page_heading(page, "Layer by layer");
    page_figure(page, folder, "rank",
                "Rank (log scale, 1 on top) and probability of the answer, of the tokens that lead in the end, and "
                "of those that led latest before.");
    page_figure(page, folder, "grid",
                "The token that the lens puts first at every depth and token; the colour is the answer's rank there.");
    if (!attributed)
        return;
    page_figure(page, folder, "contributions",
                "What attention and FFN of each layer add to the answer's logit at the last token.");
    page_figure(page, folder, "heads", "The same for every head; the largest are framed.");
}

int trace_report_page(const struct trace_report *r, const char *folder, bool figures, struct err *err)
{
    static const char *const files[][2] = { { "trace.h5", "everything, for h5py: format strata-trace" },
                                            { "trace.json", "what the table says, and every head" },
                                            { "stages.csv", "the curves of the stages" },
                                            { NULL, NULL } };
    static const char *const only_trace[][2] = { { "trace.h5", "everything, for h5py: format strata-trace" },
                                                 { "trace.json", "what the table says, and every head" },
                                                 { NULL, NULL } };
    struct page page;
    struct strbuf title = STRBUF_INIT, text = STRBUF_INIT, command = STRBUF_INIT;
    plot_show(&title, r->fact->text, 200);
    strbuf_adds(&title, " \xe2\x86\x92 ");
    token_text_padded(&title, r->model, r->trace->answer, 0);
    trace_report_text(r, false, true, &text);
    plot_show(&command, r->command, 0);
    page_begin(&page, strbuf_text(&title),
               "One fact, layer by layer. Ranks and probabilities: norm convention lens; "
               "contributions to the logit: norm convention attribution.");
    if (r->stages)
        stages_report_add_page(r->stages, &page, folder, figures);
    if (figures)
        add_figures(&page, folder, !r->trace->not_attributed);
    page_text(&page, "In numbers", strbuf_text(&text));
    page_text(&page, "Command", strbuf_text(&command));
    page_files(&page, r->stages && !r->stages->skipped ? files : only_trace);
    page.html.failed |= strbuf_failed(&title) || strbuf_failed(&text) || strbuf_failed(&command);
    strbuf_release(&title);
    strbuf_release(&text);
    strbuf_release(&command);
    return page_finish(&page, folder, "report.html", err);
}
