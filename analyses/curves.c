/* strata curves: what a lens file says over all its facts, depth by depth: tables and figures. */
#include "analyses/cli/output.h"
#include "analyses/plot/plot.h"
#include "analyses/report/curves_report.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/lens_file.h"
#include "probes/lens_curves.h"
#include "probes/statistics.h"

#include <stdlib.h>
#include <string.h>

static size_t n_draws = BOOTSTRAP_DRAWS;

static const struct option options[] = {
    { .name = "draws",
      .kind = OPTION_SIZE,
      .value = &n_draws,
      .argument = "N",
      .least = 1,
      .most = 1000000,
      .help = "bootstrap draws of the bands (1000)" },
    OPTIONS_END,
};

enum format { FORMAT_TEXT, FORMAT_CSV, FORMAT_JSON, FORMAT_FOLDER };

/* One row a fact, taken out of a lens file. */
struct selection {
    struct lens_data data; /* its arrays are compacted to the chosen rows */
    size_t n_facts, n_without_answer, n_other_positions;
    int32_t *answer_token;            /* [n_facts] */
    const char **subject, **relation; /* [n_facts] labels of clusters; borrowed from data */
    uint32_t *subject_number, *relation_number;
    size_t n_subjects, n_relations;
    bool has_subjects, has_relations;
};

/* Moves row `from` of every array to row `to` <= from. */
static void move_row(struct lens_data *d, size_t from, size_t to)
{
    size_t n = d->n_states, top = n * d->top_k;
    if (from == to)
        return;
    memmove(d->rank + to * n, d->rank + from * n, n * sizeof *d->rank);
    memmove(d->logprob + to * n, d->logprob + from * n, n * sizeof *d->logprob);
    memmove(d->entropy + to * n, d->entropy + from * n, n * sizeof *d->entropy);
    memmove(d->kl_final + to * n, d->kl_final + from * n, n * sizeof *d->kl_final);
    if (top) {
        memmove(d->top_token + to * top, d->top_token + from * top, top * sizeof *d->top_token);
        memmove(d->top_logprob + to * top, d->top_logprob + from * top, top * sizeof *d->top_logprob);
    }
}

static const char *label_or(char *const *labels, size_t prompt, const char *otherwise)
{
    return labels && *labels[prompt] ? labels[prompt] : otherwise;
}

/* The last row of each prompt that has an answer. */
static void choose_rows(struct selection *s)
{
    struct lens_data *d = &s->data;
    for (size_t row = 0; row < d->n_rows; row++) {
        size_t prompt = (size_t)d->row_prompt[row];
        bool last = row + 1 == d->n_rows || d->row_prompt[row + 1] != d->row_prompt[row];
        if (d->answer_token[prompt] < 0) {
            s->n_without_answer += last;
        } else if (!last) {
            s->n_other_positions++;
        } else {
            /* A fact that does not say is a group of its own: its id is the label. */
            s->answer_token[s->n_facts] = d->answer_token[prompt];
            s->subject[s->n_facts] = label_or(d->subject, prompt, d->id[prompt]);
            s->relation[s->n_facts] = label_or(d->relation, prompt, d->id[prompt]);
            s->has_subjects |= s->subject[s->n_facts] != d->id[prompt];
            s->has_relations |= s->relation[s->n_facts] != d->id[prompt];
            move_row(d, row, s->n_facts++);
        }
    }
}

static int select_facts(struct selection *s, const char *path, struct err *err)
{
    *s = (struct selection){ 0 };
    int rc = lens_data_read(&s->data, path, err);
    if (rc)
        return rc;
    size_t n = s->data.n_prompts;
    s->answer_token = mem_array(n, sizeof *s->answer_token);
    s->subject = mem_array(n, sizeof *s->subject);
    s->relation = mem_array(n, sizeof *s->relation);
    s->subject_number = mem_array(n, sizeof *s->subject_number);
    s->relation_number = mem_array(n, sizeof *s->relation_number);
    if (!s->answer_token || !s->subject || !s->relation || !s->subject_number || !s->relation_number)
        return err_nomem(err, "the facts of a lens file");
    choose_rows(s);
    if (!s->n_facts)
        return err_set(err, ERR_FORMAT, "%s: no prompt has an answer, so there is no rank to draw: give answers", path);
    rc = statistics_clusters(s->subject, s->n_facts, s->subject_number, &s->n_subjects, err);
    return rc ? rc : statistics_clusters(s->relation, s->n_facts, s->relation_number, &s->n_relations, err);
}

static void release_selection(struct selection *s)
{
    lens_data_release(&s->data);
    free(s->answer_token);
    free(s->subject);
    free(s->relation);
    free(s->subject_number);
    free(s->relation_number);
}

static int compute(const struct cli *cli, const struct selection *s, struct lens_curves *curves, struct err *err)
{
    const struct lens_data *d = &s->data;
    const struct lens_facts facts = { .n_facts = s->n_facts,
                                      .n_states = d->n_states,
                                      .top_k = d->top_k,
                                      .rank = d->rank,
                                      .logprob = d->logprob,
                                      .entropy = d->entropy,
                                      .kl_final = d->kl_final,
                                      .top_token = d->top_token,
                                      .top_logprob = d->top_logprob,
                                      .answer_token = s->answer_token,
                                      .subject = s->has_subjects ? s->subject_number : NULL,
                                      .n_subjects = s->n_subjects,
                                      .relation = s->has_relations ? s->relation_number : NULL,
                                      .n_relations = s->n_relations };
    const struct lens_curves_options o = { .n_draws = n_draws, .seed = cli->seed };
    int rc = lens_curves_compute(&facts, &o, curves, err);
    return rc ? err_prefix(err, "%s: ", cli->arguments[0]) : 0;
}

/* --- output --- */

static int write_file(const char *folder, const char *name, void (*add)(const struct curves_report *, struct strbuf *),
                      const struct curves_report *r, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    char *path = file_join(folder, name);
    add(r, &text);
    int rc = !path || strbuf_failed(&text) ? err_nomem(err, "a table") : file_write(path, text.data, text.len, err);
    free(path);
    strbuf_release(&text);
    return rc;
}

static int write_folder(const struct cli *cli, const struct curves_report *r, struct err *err)
{
    int rc = file_make_folder(cli->output, err);
    rc = rc ? rc : write_file(cli->output, "curves.csv", curves_report_csv, r, err);
    rc = rc ? rc : write_file(cli->output, "curves.json", curves_report_json, r, err);
    rc = rc ? rc : curves_report_figures(r, cli->output, err);
    if (rc == PLOT_NOT_DRAWN)
        cli_note(cli, "strata: %s", err->msg);
    return rc < 0 ? rc : curves_report_page(r, cli->output, err);
}

static int write_text(struct cli *cli, enum format format, const struct curves_report *r, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    if (format == FORMAT_CSV)
        curves_report_csv(r, &text);
    else if (format == FORMAT_JSON)
        curves_report_json(r, &text);
    else
        curves_report_text(r, &text);
    return output_text(cli, &text, 0, err);
}

static int choose_format(struct cli *cli, enum format *format, struct err *err)
{
    static const char *const wrong[] = { "h5", "hdf5", "png", "svg", "pdf", "txt", "tsv", "jsonl" };
    const char *extension = cli->output ? file_extension(cli->output) : "";
    bool to_stdout = !cli->output || !strcmp(cli->output, "-");
    *format = cli->json ? FORMAT_JSON : to_stdout ? FORMAT_TEXT : FORMAT_FOLDER;
    if (!strcmp(extension, "csv") && !cli->json)
        *format = FORMAT_CSV;
    if (!strcmp(extension, "json"))
        *format = FORMAT_JSON;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!strcmp(extension, wrong[i]))
            return cli_usage(cli, err, "-o %.200s: give a folder (figures and tables), or a .csv or .json file",
                             cli->output);
    return 0;
}

static int run(struct cli *cli, struct err *err)
{
    struct selection s;
    struct lens_curves curves = { 0 };
    enum format format;
    int rc = choose_format(cli, &format, err);
    rc = rc ? rc : output_claim(cli, format == FORMAT_FOLDER, err);
    if (rc)
        return rc;
    rc = select_facts(&s, cli->arguments[0], err);
    rc = rc ? rc : compute(cli, &s, &curves, err);
    if (!rc) {
        const struct curves_report report = { .curves = &curves,
                                              .labels = (const char *const *)s.data.labels,
                                              .source = cli->arguments[0],
                                              .model = file_base_name(s.data.model_path),
                                              .site = s.data.site,
                                              .top_k = s.data.top_k,
                                              .n_without_answer = s.n_without_answer,
                                              .n_other_positions = s.n_other_positions,
                                              .has_subjects = s.has_subjects,
                                              .n_draws = n_draws,
                                              .seed = cli->seed };
        if (!s.data.complete)
            cli_note(cli, "%s is not complete: the curves are of its first %zu prompts", cli->arguments[0],
                     s.data.n_prompts);
        rc = format == FORMAT_FOLDER ? write_folder(cli, &report, err) : write_text(cli, format, &report, err);
    }
    lens_curves_release(&curves);
    release_selection(&s);
    return rc;
}

const struct command command_curves = {
    .name = "curves",
    .arguments = "RESULT.h5 [-o FOLDER|.csv|.json]",
    .summary = "rank, probability and competitors of answers against depth, over all facts",
    .details =
        "Reads a file of `strata lens` and takes the last row of every prompt that has an answer: median rank with\n"
        "quartiles, hit@1 and hit@10, probability, effective number of candidates exp(entropy), and the probability\n"
        "of other answers of the same relation (of the top k tokens in the file: a lower bound). Means have 95 %\n"
        "bootstrap bands over subjects; --seed chooses the draws. Norm convention: lens.\n"
        "\n"
        "  strata curves capitals.h5\n"
        "  strata curves capitals.h5 -o capitals\n"
        "\n"
        "Without -o: a table. A folder gets index.html (open it first), curves.csv, curves.json and the figures\n"
        "rank, probability, hits, candidates, depth (of residual states), heads (of heads) and competitors (where\n"
        "facts name their relation), each as .svg, .png, the numbers (.dat) and the script (.gp) that draws them.\n"
        "Where gnuplot is missing the pictures are missing too, a note says so, and the exit status is still 0.\n",
    .common = COMMON_OUTPUT | COMMON_JSON | COMMON_SEED,
    .options = options,
    .least_arguments = 1,
    .most_arguments = 1,
    .run = run,
};
