/* The three stages as CSV and HDF5. */
#include "analyses/report/stages_report.h"

#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stages_report_release(struct stages_report *r)
{
    for (size_t i = 0; i < r->n_relations; i++) {
        free(r->relations[i].facts);
        stages_summary_release(&r->relations[i].summary);
    }
    free(r->relations);
    free(r->subjects);
    free(r->head_mean);
    free(r->order);
    stages_subjects_release(&r->random);
    stages_summary_release(&r->all);
    stages_release(&r->stages);
    ablation_run_release(&r->ranked);
    causal_trace_release(&r->causal);
    *r = (struct stages_report){ 0 };
}

/* --- CSV --- */

static void add_field(struct strbuf *out, const char *text)
{
    strbuf_add_csv(out, text, strlen(text));
    strbuf_addc(out, ',');
}

static void add_value(struct strbuf *out, double x)
{
    if (isfinite(x))
        strbuf_addf(out, "%.9g", x);
}

/* "pre" is what enters the first block. */
static void add_point(struct strbuf *out, enum stages_curve curve, size_t point)
{
    if (stages_curve_points(curve) != STAGES_STATES)
        strbuf_addf(out, "%zu,", point);
    else if (point)
        strbuf_addf(out, "%zu,", point - 1);
    else
        strbuf_adds(out, "pre,");
}

void stages_report_one_csv(const struct stages_report *r, struct strbuf *out)
{
    strbuf_adds(out, "curve,unit,layer,value,norm\n");
    for (size_t c = 0; c < STAGES_N_CURVES && !r->skipped; c++) {
        enum stages_curve curve = (enum stages_curve)c;
        for (size_t i = 0; i < stages_n_points(&r->stages, curve); i++) {
            double x = r->stages.curves[c][i];
            if (!isfinite(x))
                continue;
            strbuf_addf(out, "%s,%s,", stages_curve_name(curve), stages_curve_unit(curve));
            add_point(out, curve, i);
            add_value(out, x);
            strbuf_adds(out, ",lens\n");
        }
    }
}

static void add_summary(const struct stages_report *r, const char *relation, const struct stages_summary *s,
                        struct strbuf *out)
{
    for (size_t c = 0; c < STAGES_N_CURVES; c++) {
        enum stages_curve curve = (enum stages_curve)c;
        const struct stages_band *b = &s->curves[c];
        for (size_t i = 0; b->n && i < stages_n_points(&r->stages, curve); i++) {
            add_field(out, relation);
            strbuf_addf(out, "%s,%s,", stages_curve_name(curve), stages_curve_unit(curve));
            add_point(out, curve, i);
            strbuf_addf(out, "%zu,%zu,", b->n, b->n_subjects);
            add_value(out, b->mean[i]);
            strbuf_addc(out, ',');
            add_value(out, b->low[i]);
            strbuf_addc(out, ',');
            add_value(out, b->high[i]);
            strbuf_addc(out, '\n');
        }
    }
}

static void add_curves(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    strbuf_adds(out, "relation,curve,unit,layer,n,subjects,mean,low,high\n");
    add_summary(r, "(all)", &r->all, out);
    for (size_t i = 0; r->n_relations > 1 && i < r->n_relations; i++)
        if (r->relations[i].n)
            add_summary(r, r->relations[i].name, &r->relations[i].summary, out);
}

static void add_estimate(struct strbuf *out, const struct stages_estimate *e)
{
    add_value(out, e->mean);
    strbuf_addc(out, ',');
    add_value(out, e->low);
    strbuf_addc(out, ',');
    add_value(out, e->high);
    strbuf_addc(out, ',');
}

static void add_verdicts(const char *relation, size_t n_given, size_t n_known, const struct stage *stages,
                         struct strbuf *out)
{
    for (int i = 0; i < N_STAGES; i++) {
        const struct stage *stage = &stages[i];
        add_field(out, relation);
        strbuf_addf(out, "%zu,%zu,%s,", n_given, n_known, stage_name(i));
        add_field(out, stage_finding_name(stage->finding));
        strbuf_addf(out, "%zu,", stage->n);
        if (stage->n)
            strbuf_addf(out, "%zu", stage->layer);
        strbuf_addc(out, ',');
        if (stage->n) {
            add_estimate(out, &stage->number);
            add_estimate(out, &stage->control);
            add_estimate(out, &stage->difference);
        } else
            strbuf_adds(out, ",,,,,,,,,");
        strbuf_add_csv(out, stage->reason ? stage->reason : "", stage->reason ? strlen(stage->reason) : 0);
        strbuf_addc(out, '\n');
    }
}

static void add_relations(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    size_t given = 0;
    strbuf_adds(out, "relation,given,known,stage,finding,n,layer,number,number_low,number_high,control,control_low,"
                     "control_high,difference,difference_low,difference_high,reason\n");
    for (size_t i = 0; i < r->n_relations; i++)
        given += r->relations[i].n_given;
    add_verdicts("(all)", given, r->stages.n_facts, r->stage, out);
    for (size_t i = 0; r->n_relations > 1 && i < r->n_relations; i++)
        add_verdicts(r->relations[i].name, r->relations[i].n_given, r->relations[i].n, r->relations[i].summary.stage,
                     out);
}

static void add_facts(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    const struct stages *s = &r->stages;
    static const enum stages_curve columns[] = { STAGES_RECALL_GAIN, STAGES_REST, STAGES_SUBJECT, STAGES_RANDOM };
    static const int stage_of[] = { STAGE_ENRICHMENT, STAGE_PROPAGATION, STAGE_EXTRACTION, STAGE_EXTRACTION };
    strbuf_adds(out, "id,relation,prompt,subject,answer,prob");
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
        strbuf_addf(out, ",%s_at_%zu", stages_curve_name(columns[c]),
                    r->stage[stage_of[c]].n ? r->stage[stage_of[c]].layer : (size_t)0);
    strbuf_addc(out, '\n');
    for (size_t i = 0; i < s->n_facts; i++) {
        const struct prepared *p = r->facts->facts[i];
        add_field(out, p->id);
        add_field(out, p->relation);
        add_field(out, p->text);
        add_field(out, p->subject);
        add_field(out, p->answer);
        add_value(out, s->base_prob[i]);
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            const struct stage *stage = &r->stage[stage_of[c]];
            size_t point = stage->layer + (stages_curve_points(columns[c]) == STAGES_STATES);
            strbuf_addc(out, ',');
            if (stage->n)
                add_value(out, s->curves[columns[c]][i * stages_n_points(s, columns[c]) + point]);
        }
        strbuf_addc(out, '\n');
    }
}

static void add_heads(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    char name[STAGES_HEAD_NAME];
    strbuf_adds(out, "head,logit,low,high,to_subject\n");
    for (size_t i = 0; !r->skipped && i < r->stages.n_heads; i++) {
        size_t h = r->order[i];
        strbuf_addf(out, "%s,", stages_head_name(r, h, name));
        add_value(out, r->head_mean[h]);
        strbuf_addc(out, ',');
        add_value(out, r->head_low[h]);
        strbuf_addc(out, ',');
        add_value(out, r->head_high[h]);
        strbuf_addc(out, ',');
        add_value(out, r->head_subject[h]);
        strbuf_addc(out, '\n');
    }
}

/* --- HDF5 --- */

static int put_text(const struct h5_file *f, const char *name, const char *text, struct err *err)
{
    return h5_put_text(f, f->id, name, text, err);
}

static int put_verdicts(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const char *names[N_STAGES], *findings[N_STAGES], *reasons[N_STAGES];
    double numbers[N_STAGES][9];
    int32_t layers[N_STAGES];
    const hsize_t dims[] = { N_STAGES, 9 };
    for (int i = 0; i < N_STAGES; i++) {
        const struct stage *s = &r->stage[i];
        const struct stages_estimate all[] = { s->number, s->control, s->difference };
        names[i] = stage_name(i);
        findings[i] = stage_finding_name(s->finding);
        reasons[i] = r->skipped ? r->skipped : s->reason ? s->reason : "";
        layers[i] = !s->n || s->layer == SIZE_MAX ? -1 : (int32_t)s->layer;
        for (size_t k = 0; k < 3; k++) {
            numbers[i][3 * k] = s->n ? all[k].mean : (double)NAN;
            numbers[i][3 * k + 1] = s->n ? all[k].low : (double)NAN;
            numbers[i][3 * k + 2] = s->n ? all[k].high : (double)NAN;
        }
    }
    int rc = h5_put_array(f, "/stages/name", STORE_TEXT, 1, dims, names, err);
    rc = rc ? rc : h5_put_array(f, "/stages/finding", STORE_TEXT, 1, dims, findings, err);
    rc = rc ? rc : h5_put_array(f, "/stages/reason", STORE_TEXT, 1, dims, reasons, err);
    rc = rc ? rc : h5_put_array(f, "/stages/layer", STORE_I32, 1, dims, layers, err);
    /* columns: number, control, difference, each mean, low, high */
    return rc ? rc : h5_put_array(f, "/stages/numbers", STORE_F64, 2, dims, numbers, err);
}

static int put_parameters(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = { { "window", (int64_t)r->window },
                    { "enrichment_measured_layer", (int64_t)r->stages.measured },
                    { "enrichment_window", (int64_t)r->stages.window_below },
                    { "key_draws", STAGES_KEY_DRAWS },
                    { "subject_draws", (int64_t)r->random.n_draws },
                    { "head_draws", (int64_t)r->ranked.n_draws } };
    int rc = put_text(f, "knockout_keys", "token 0 is never blocked", err);
    rc = rc ? rc : put_text(f, "enrichment_mode", "uniform", err);
    rc = rc ? rc : put_text(f, "attributes", r->attributes ? r->attributes : "none", err);
    for (size_t i = 0; !rc && i < sizeof numbers / sizeof *numbers; i++)
        rc = h5_put_int(f, f->id, numbers[i].name, numbers[i].value, err);
    return rc;
}

static int put_ablation(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t dims[] = { r->n_counts, 4 };
    double rows[sizeof r->counts / sizeof *r->counts][4];
    if (!r->ranked.n_variants)
        return 0;
    for (size_t c = 0; c < r->n_counts; c++) {
        struct ablation_effect mean, spread, top = ablation_effect(&r->ranked, c);
        ablation_control(&r->ranked, c, &mean, &spread);
        rows[c][0] = (double)r->counts[c];
        rows[c][1] = top.probability;
        rows[c][2] = mean.probability;
        rows[c][3] = spread.probability;
    }
    /* heads taken out, p(answer), p with random ones, spread of their draws */
    return h5_put_array(f, "/heads/ablation", STORE_F64, 2, dims, rows, err);
}

static int put_causal(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const struct causal_trace *t = &r->causal;
    const hsize_t grid[] = { t->n_tokens, t->n_layers }, one[] = { 1 }, draws[] = { r->causal_options.n_samples };
    int rc = h5_put_array(f, "/causal/noise", STORE_F64, 1, one, &r->causal_options.noise, err);
    rc = rc ? rc : h5_put_array(f, "/causal/clean", STORE_F64, 1, one, &t->clean, err);
    rc = rc ? rc : h5_put_array(f, "/causal/samples", STORE_F64, 1, draws, t->samples, err);
    for (int k = 0; !rc && k < N_CAUSAL_KINDS; k++) {
        char name[64];
        snprintf(name, sizeof name, "/causal/%s", causal_kind_name((enum causal_kind)k));
        if (t->p[k])
            rc = h5_put_array(f, name, STORE_F64, causal_is_grid((enum causal_kind)k) ? 2 : 1,
                              causal_is_grid((enum causal_kind)k) ? grid : grid + 1, t->p[k], err);
    }
    return rc;
}

int stages_report_one_h5(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const struct stages *s = &r->stages;
    const hsize_t draws[] = { STAGES_KEY_DRAWS };
    const hsize_t subjects[] = { r->random.n_draws, r->random.n_states };
    const hsize_t heads[] = { r->model->config.n_layers, r->model->config.n_heads };
    int rc = put_verdicts(r, f, err);
    if (rc || r->skipped)
        return rc;
    rc = put_text(f, "norm", stages_result.norm, err);
    rc = rc ? rc : put_parameters(r, f, err);
    for (size_t c = 0; !rc && c < STAGES_N_CURVES; c++) {
        char name[96];
        const hsize_t dims[] = { stages_n_points(s, (enum stages_curve)c) };
        snprintf(name, sizeof name, "/stages/%s", stages_curve_name((enum stages_curve)c));
        rc = h5_put_array(f, name, STORE_F64, 1, dims, s->curves[c], err);
    }
    rc = rc ? rc : h5_put_array(f, "/stages/random_keys_deepest", STORE_F64, 1, draws, s->random_deepest, err);
    rc = rc ? rc : h5_put_array(f, "/stages/random_subjects_rank", STORE_F64, 2, subjects, r->random.rank, err);
    rc = rc ? rc : h5_put_array(f, "/heads/to_subject", STORE_F64, 2, heads, s->head_subject, err);
    rc = rc ? rc : put_ablation(r, f, err);
    return rc || !r->has_causal ? rc : put_causal(r, f, err);
}

/* A text of every fact that was measured. */
static int put_texts(const struct stages_report *r, const struct h5_file *f, const char *name,
                     const char *(*of)(const struct prepared *), struct err *err)
{
    const hsize_t dims[] = { r->stages.n_facts };
    const char **texts = mem_array(r->stages.n_facts, sizeof *texts);
    if (!texts)
        return err_nomem(err, "texts");
    for (size_t i = 0; i < r->stages.n_facts; i++)
        texts[i] = of(r->facts->facts[i]);
    int rc = h5_put_array(f, name, STORE_TEXT, 1, dims, texts, err);
    free(texts);
    return rc;
}

static const char *id_of(const struct prepared *p)
{
    return p->id;
}

static const char *relation_of(const struct prepared *p)
{
    return p->relation;
}

static const char *prompt_of(const struct prepared *p)
{
    return p->text;
}

static const char *subject_of(const struct prepared *p)
{
    return p->subject;
}

static int put_curves(const struct stages_report *r, const struct h5_file *f, struct err *err)
{
    const struct stages *s = &r->stages;
    int rc = 0;
    for (size_t c = 0; !rc && c < STAGES_N_CURVES; c++) {
        char name[96];
        const char *curve = stages_curve_name((enum stages_curve)c);
        const hsize_t dims[] = { s->n_facts, stages_n_points(s, (enum stages_curve)c) };
        const struct stages_band *b = &r->all.curves[c];
        const struct {
            const char *group;
            const double *values;
        } means[] = { { "mean", b->mean }, { "low", b->low }, { "high", b->high } };
        snprintf(name, sizeof name, "/facts/%s", curve);
        rc = h5_put_array(f, name, STORE_F64, 2, dims, s->curves[c], err);
        for (size_t i = 0; !rc && i < 3; i++) {
            snprintf(name, sizeof name, "/%s/%s", means[i].group, curve);
            rc = h5_put_array(f, name, STORE_F64, 1, dims + 1, means[i].values, err);
        }
    }
    return rc;
}

static int put_many(const void *report, const struct h5_file *f, struct err *err)
{
    const struct stages_report *r = report;
    const struct stages *s = &r->stages;
    const hsize_t facts[] = { s->n_facts }, fact_heads[] = { s->n_facts, s->n_heads };
    const hsize_t heads[] = { r->model->config.n_layers, r->model->config.n_heads };
    const struct {
        const char *name;
        int64_t value;
    } counts[] = { { "n_given", (int64_t)r->facts->n_given },
                   { "n_known", (int64_t)r->facts->n_known },
                   { "n_unknown", (int64_t)r->facts->n_unknown },
                   { "n_without_answer", (int64_t)r->facts->n_without_answer },
                   { "n_without_subject", (int64_t)r->n_without_subject },
                   { "interrupted", r->interrupted } };
    int rc = put_text(f, "kind", "facts", err);
    for (size_t i = 0; !rc && i < sizeof counts / sizeof *counts; i++)
        rc = h5_put_int(f, f->id, counts[i].name, counts[i].value, err);
    rc = rc ? rc : put_parameters(r, f, err);
    rc = rc ? rc : put_verdicts(r, f, err);
    if (rc || r->skipped)
        return rc;
    rc = put_texts(r, f, "/facts/id", id_of, err);
    rc = rc ? rc : put_texts(r, f, "/facts/relation", relation_of, err);
    rc = rc ? rc : put_texts(r, f, "/facts/prompt", prompt_of, err);
    rc = rc ? rc : put_texts(r, f, "/facts/subject", subject_of, err);
    rc = rc ? rc : h5_put_array(f, "/facts/answer_token", STORE_I32, 1, facts, s->answers, err);
    rc = rc ? rc : h5_put_array(f, "/facts/prob", STORE_F64, 1, facts, s->base_prob, err);
    rc = rc ? rc : put_curves(r, f, err);
    rc = rc ? rc : h5_put_array(f, "/facts/head_logit", STORE_F64, 2, fact_heads, s->head_logit, err);
    rc = rc ? rc : h5_put_array(f, "/facts/head_to_subject", STORE_F64, 2, fact_heads, s->head_subject, err);
    rc = rc ? rc : h5_put_array(f, "/heads/mean", STORE_F64, 2, heads, r->head_mean, err);
    rc = rc ? rc : h5_put_array(f, "/heads/low", STORE_F64, 2, heads, r->head_low, err);
    rc = rc ? rc : h5_put_array(f, "/heads/high", STORE_F64, 2, heads, r->head_high, err);
    return rc ? rc : put_ablation(r, f, err);
}

static int draw_many(const void *report, const char *folder, struct err *err)
{
    const struct stages_report *r = report;
    struct plots plots = { 0 };
    struct err ignored;
    struct strbuf subtitle = STRBUF_INIT;
    strbuf_addf(&subtitle, "n = %zu facts, %zu subjects; norm convention: lens (heads: attribution); ",
                r->stages.n_facts, r->all.n_subjects);
    plot_show(&subtitle, file_base_name(r->model->path), 40);
    const struct plot_target to = { .folder = folder, .subtitle = strbuf_text(&subtitle), .plots = &plots };
    int rc = strbuf_failed(&subtitle) ? err_nomem(err, "a figure") : stages_report_figures(r, &to, err);
    int drawn = plots_wait(&plots, rc < 0 ? &ignored : err);
    strbuf_release(&subtitle);
    return rc < 0 ? rc : drawn;
}

const struct result_kind stages_result = {
    .name = "trace",
    .format = "strata-trace",
    .norm = "lens; heads: attribution",
    .text = stages_report_text,
    .json = stages_report_json,
    .csv = { { "curves", add_curves }, { "relations", add_relations }, { "facts", add_facts }, { "heads", add_heads } },
    .csv_norms = { "lens", "lens", "lens", "attribution" },
    .h5 = put_many,
    .figures = draw_many
};
