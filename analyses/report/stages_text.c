/* The three stages in words, for terminals and as JSON. */
#include "analyses/cli/text.h"
#include "analyses/plot/plot.h"
#include "analyses/report/stages_report.h"
#include "analyses/report/token_text.h"
#include "probes/extraction.h"
#include "probes/windows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_HEADS = 3, TEXT_RELATIONS = 32 };

/* --- words --- */

const char *stages_window_text(const struct stages_report *r, size_t layer, char text[STAGES_WINDOW_TEXT])
{
    struct layer_window w = window_around(layer, r->window, r->stages.n_layers);
    if (w.end <= w.begin + 1)
        snprintf(text, STAGES_WINDOW_TEXT, "layer %zu", layer);
    else
        snprintf(text, STAGES_WINDOW_TEXT, "layers %zu-%zu", w.begin, w.end - 1);
    return text;
}

const char *stages_head_name(const struct stages_report *r, size_t head, char name[STAGES_HEAD_NAME])
{
    size_t per_layer = r->model->config.n_heads;
    snprintf(name, STAGES_HEAD_NAME, "L%zuH%zu", head / per_layer, head % per_layer);
    return name;
}

size_t stages_first_event(const struct stages_report *r, int part)
{
    const struct stages *s = &r->stages;
    size_t first = s->n_layers;
    extraction_events(s->tops + (size_t)part * s->n_layers, s->answers[0], s->n_layers, &first);
    return first;
}

/* "-41 %", with its band "-41 % [-45, -38]" where it has one. */
static void add_estimate(struct strbuf *out, const struct stages_estimate *e, const char *format, const char *unit)
{
    strbuf_addf(out, format, e->mean);
    strbuf_adds(out, unit);
    if (isnan(e->low))
        return;
    strbuf_adds(out, " [");
    strbuf_addf(out, format, e->low);
    strbuf_adds(out, ", ");
    strbuf_addf(out, format, e->high);
    strbuf_addc(out, ']');
}

static void add_depth(struct strbuf *out, size_t layer)
{
    if (layer == SIZE_MAX)
        strbuf_adds(out, "in the embedding");
    else
        strbuf_addf(out, "after layer %zu", layer);
}

void stages_report_known(const struct stages_report *r, struct strbuf *out)
{
    strbuf_addf(out, "%s: answer on rank %d, p %.3g", r->rank == 1 ? "yes" : "no", (int)r->rank, r->prob);
}

void stages_report_number(const struct stages_report *r, int stage, struct strbuf *out)
{
    const struct stage *s = &r->stage[stage];
    char window[STAGES_WINDOW_TEXT];
    if (s->finding == STAGE_NOT_MEASURED) {
        strbuf_adds(out, s->reason);
        return;
    }
    if (stage == STAGE_ENRICHMENT && r->single) {
        strbuf_addf(out, "rank %.0f of the answer at the subject's last token, ", s->number.mean);
        add_depth(out, s->layer);
    } else if (stage == STAGE_ENRICHMENT) {
        strbuf_adds(out, "recall of the subject's attributes ");
        add_estimate(out, &s->number, "%.1f", " %");
        strbuf_addc(out, ' ');
        add_depth(out, s->layer);
    } else {
        strbuf_addf(out, "%s blocked in %s: p(answer) ", stage == STAGE_EXTRACTION ? "subject" : "rest of the prompt",
                    stages_window_text(r, s->layer, window));
        add_estimate(out, &s->number, "%+.0f", " %");
    }
}

void stages_report_control(const struct stages_report *r, int stage, struct strbuf *out)
{
    const struct stage *s = &r->stage[stage];
    if (s->finding == STAGE_NOT_MEASURED)
        return;
    if (stage == STAGE_ENRICHMENT && r->single) {
        strbuf_addf(out, "%zu random subjects: %.0f (median); p = %.2g; one answer is thin evidence", r->random.n_draws,
                    s->control.mean, s->p);
    } else if (stage == STAGE_PROPAGATION) {
        strbuf_adds(out, r->single ? "subject up to there " : "subject there ");
        add_estimate(out, &s->control, "%+.0f", " %");
        strbuf_addf(out, "; rest %s the subject counts %+.0f %%", r->single ? "from where" : "where", s->late);
    } else if (stage == STAGE_EXTRACTION && r->single) {
        if (!s->n_control)
            strbuf_adds(out, "none: there are no other tokens to block");
        else
            strbuf_addf(out, "%zu sets of as many other tokens: deepest %+.0f %%, on average %+.0f %%; p = %.2g",
                        s->n_control, s->control.low, s->control.mean, s->p);
    } else {
        strbuf_adds(out, stage == STAGE_EXTRACTION ? "as many random tokens " : "another subject's ");
        add_estimate(out, &s->control, stage == STAGE_EXTRACTION ? "%+.0f" : "%.1f", " %");
        strbuf_adds(out, "; difference ");
        add_estimate(out, &s->difference, stage == STAGE_EXTRACTION ? "%+.0f" : "%+.1f", "");
    }
}

void stages_report_left_out(const struct stages_report *r, struct strbuf *out)
{
    if (r->single && !r->has_causal)
        strbuf_adds(out, "causal tracing (--causal), ");
    if (r->single && !r->attributes)
        strbuf_adds(out, "attributes (--attributes FACTS), ");
    if (!r->single)
        strbuf_adds(out, "causal tracing (strata causal -i), ");
    strbuf_adds(out, "patching, neurons");
}

/* --- heads --- */

static void add_heads(const struct stages_report *r, size_t most, struct strbuf *out)
{
    char name[STAGES_HEAD_NAME];
    const double *logit = r->single ? r->stages.head_logit : r->head_mean;
    const double *subject = r->single ? r->stages.head_subject : r->head_subject;
    strbuf_adds(out, "logit (on subject): ");
    for (size_t i = 0; i < most && i < r->stages.n_heads; i++) {
        size_t h = r->order[i];
        strbuf_addf(out, "%s%s %+.2f (%.0f %%)", i ? ", " : "", stages_head_name(r, h, name), logit[h],
                    100 * subject[h]);
    }
}

static void add_ablation(const struct stages_report *r, struct strbuf *out)
{
    struct ablation_effect mean, spread, base = ablation_base(&r->ranked);
    size_t last = r->n_counts - 1;
    struct ablation_effect top = ablation_effect(&r->ranked, last);
    ablation_control(&r->ranked, last, &mean, &spread);
    strbuf_addf(out, "p %.3f; without the first %zu %.3f; without %zu random ones %.3f +- %.3f (%zu draws)",
                base.probability, r->counts[last], top.probability, r->counts[last], mean.probability,
                spread.probability, r->ranked.n_draws);
}

/* --- one fact --- */

static void add_events(const struct stages_report *r, struct strbuf *out)
{
    static const char *const names[] = { "attention", "FFN" };
    for (int part = 0; part < 2; part++) {
        size_t first = stages_first_event(r, part), by_chance = 0;
        for (size_t d = 0; d < r->random.n_events; d++)
            by_chance += r->random.event[part][d];
        strbuf_addf(out, "%s%s ", part ? "; " : "", names[part]);
        if (first == r->stages.n_layers)
            strbuf_adds(out, "never");
        else
            strbuf_addf(out, "from layer %zu", first);
        strbuf_addf(out, part ? " (%zu of %zu)" : " (random subjects: %zu of %zu)", by_chance, r->random.n_events);
    }
}

/* Where restoring one state of one token brings most back: of the subject's tokens, or of all but those and the last.
 */
static size_t best_state(const struct stages_report *r, bool of_subject)
{
    const struct causal_trace *t = &r->causal;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < (t->n_tokens - 1) * t->n_layers; i++) {
        size_t token = i / t->n_layers;
        bool subject = token >= r->fact->subject_begin && token < r->fact->subject_end;
        if (subject == of_subject && (best == SIZE_MAX || t->p[CAUSAL_STATE][i] > t->p[CAUSAL_STATE][best]))
            best = i;
    }
    return best;
}

static void add_causal(const struct stages_report *r, struct strbuf *out)
{
    const struct causal_trace *t = &r->causal;
    strbuf_addf(out, "noise %.2g on the subject: p %.3f -> %.3f\n              restored: ", r->causal_options.noise,
                t->clean, t->corrupted);
    for (int of_subject = 1; of_subject >= 0; of_subject--) {
        size_t best = best_state(r, of_subject);
        if (best == SIZE_MAX)
            continue;
        strbuf_adds(out, of_subject ? "subject, " : "others, ");
        token_text_padded(out, r->model, r->fact->tokens.id[best / t->n_layers], 0);
        strbuf_addf(out, " L%zu %+.3f  ", best % t->n_layers, t->p[CAUSAL_STATE][best] - t->corrupted);
    }
}

void stages_report_removed(const struct stages_report *r, struct strbuf *out)
{
    const struct stages_band *ffn = &r->all.curves[STAGES_WITHOUT_FFN];
    const struct stages_band *attention = &r->all.curves[STAGES_WITHOUT_ATTENTION];
    size_t at = ffn->n ? stages_deepest(ffn->mean, r->stages.n_windows) : SIZE_MAX;
    if (at == SIZE_MAX)
        return;
    size_t end = at + r->stages.window_below < r->stages.measured ? at + r->stages.window_below : r->stages.measured;
    const struct stages_estimate removed = { ffn->mean[at], ffn->low[at], ffn->high[at] };
    const struct stages_estimate control = { attention->mean[at], attention->low[at], attention->high[at] };
    strbuf_addf(out, "without FFN %zu-%zu: recall ", at, end - 1);
    add_estimate(out, &removed, "%+.0f", "");
    strbuf_adds(out, "; flat attention ");
    add_estimate(out, &control, "%+.0f", "");
}

static void add_stage_lines(const struct stages_report *r, struct strbuf *out)
{
    for (int stage = 0; stage < N_STAGES; stage++) {
        const struct stage *s = &r->stage[stage];
        strbuf_addf(out, "%d %-11s %-13s", stage + 1, stage_name(stage), stage_finding_name(s->finding));
        stages_report_number(r, stage, out);
        strbuf_addc(out, '\n');
        if (s->finding == STAGE_NOT_MEASURED)
            continue;
        strbuf_adds(out, "              control: ");
        stages_report_control(r, stage, out);
        strbuf_addc(out, '\n');
        if (*s->reason)
            strbuf_addf(out, "              because: %s\n", s->reason);
        if (stage == STAGE_ENRICHMENT && !r->single && r->all.curves[STAGES_WITHOUT_FFN].n) {
            strbuf_adds(out, "              also:    ");
            stages_report_removed(r, out);
            strbuf_addc(out, '\n');
        }
    }
}

static void add_skipped(const struct stages_report *r, struct strbuf *out)
{
    for (int stage = 0; stage < N_STAGES; stage++)
        strbuf_addf(out, "%d %-11s %s: %s\n", stage + 1, stage_name(stage), stage_finding_name(r->stage[stage].finding),
                    r->skipped);
}

void stages_report_one_text(const struct stages_report *r, struct strbuf *out)
{
    strbuf_adds(out, "\nthree stages  does the model know it? ");
    stages_report_known(r, out);
    strbuf_addc(out, '\n');
    if (r->skipped) {
        add_skipped(r, out);
        return;
    }
    add_stage_lines(r, out);
    strbuf_adds(out, "answer on top ");
    add_events(r, out);
    strbuf_adds(out, "\nheads         ");
    add_heads(r, TEXT_HEADS, out);
    if (r->ranked.n_variants) {
        strbuf_adds(out, "\n              ");
        add_ablation(r, out);
    }
    if (r->has_causal) {
        strbuf_adds(out, "\ncausal        ");
        add_causal(r, out);
    }
    strbuf_addf(out,
                "\nblocked       windows of %zu layer%s, token 0 spared; found: %d %% and more, log p %d x the "
                "control's\n",
                r->window, r->window == 1 ? "" : "s", STAGES_ONE_DROP, STAGES_ONE_RATIO);
    strbuf_adds(out, "left out      ");
    stages_report_left_out(r, out);
    strbuf_addc(out, '\n');
}

/* --- many facts --- */

static void add_shown(struct strbuf *out, const char *text, size_t width)
{
    struct strbuf shown = STRBUF_INIT;
    plot_show(&shown, text, width);
    strbuf_addf(out, "%s%*s", strbuf_text(&shown), (int)(width - plot_width(strbuf_text(&shown))), "");
    out->failed |= strbuf_failed(&shown);
    strbuf_release(&shown);
}

static void add_relation(const struct stages_report *r, const struct stages_relation *relation, struct strbuf *out)
{
    static const char marks[] = { '.', '-', '+' };
    const struct stage *stage = relation->summary.stage;
    char window[STAGES_WINDOW_TEXT];
    add_shown(out, *relation->name ? relation->name : "(none)", 20);
    strbuf_addf(out, " %4zu/%-4zu", relation->n, relation->n_given);
    if (!relation->n) {
        strbuf_addc(out, '\n');
        return;
    }
    if (stage[STAGE_ENRICHMENT].n)
        strbuf_addf(out, "%+6.1f L%-3zu", stage[STAGE_ENRICHMENT].difference.mean, stage[STAGE_ENRICHMENT].layer);
    else
        strbuf_adds(out, "     .     ");
    for (int i = STAGE_PROPAGATION; i < N_STAGES; i++) {
        if (!stage[i].n) {
            strbuf_adds(out, "     .             .  ");
            continue;
        }
        stages_window_text(r, stage[i].layer, window);
        strbuf_addf(out, "%+6.0f %-7s %+6.0f ", stage[i].number.mean, strchr(window, ' ') + 1, stage[i].control.mean);
    }
    strbuf_addf(out, "%4.0f %4.0f  ", relation->summary.events[0].mean, relation->summary.events[1].mean);
    for (int i = 0; i < N_STAGES; i++)
        strbuf_addc(out, marks[stage[i].finding]);
    strbuf_addc(out, '\n');
}

static void add_relations(const struct stages_report *r, struct strbuf *out)
{
    size_t shown = r->n_relations < TEXT_RELATIONS ? r->n_relations : TEXT_RELATIONS;
    if (r->n_relations < 2)
        return;
    strbuf_adds(out, "\n                              recall less  rest blocked:        subject blocked:     answer on "
                     "top\n"
                     "relation             n/given  control      p, at; subject there p, at; random there attn  FFN  "
                     "123\n");
    for (size_t i = 0; i < shown; i++)
        add_relation(r, &r->relations[i], out);
    if (shown < r->n_relations)
        strbuf_addf(out, "%zu more relations: relations.csv of -o FOLDER\n", r->n_relations - shown);
}

void stages_report_text(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    strbuf_adds(out, "model     ");
    add_shown(out, r->model->path, 88);
    while (out->len && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
    strbuf_adds(out, "\nfacts     ");
    known_facts_describe(r->facts, out);
    if (r->n_without_subject)
        strbuf_addf(out, "\n          %zu known ones without a subject left out", r->n_without_subject);
    if (r->interrupted)
        strbuf_addf(out, "\n          INTERRUPTED: the first %zu only", r->stages.n_facts);
    strbuf_addf(out, "\nmeasured  %zu facts, %zu subjects; [] 95 %% bootstrap over subjects, seed %llu\n\n",
                r->stages.n_facts, r->all.n_subjects, (unsigned long long)r->seed);
    if (r->skipped) {
        add_skipped(r, out);
        return;
    }
    add_stage_lines(r, out);
    bool chance = !isnan(r->all.events_chance[0]) && !isnan(r->all.events_chance[1]); /* of facts of two answers */
    strbuf_addf(out, "answer on top attention %.0f %% of facts", r->all.events[0].mean);
    if (chance)
        strbuf_addf(out, " (by chance %.0f %%)", r->all.events_chance[0]);
    strbuf_addf(out, "; FFN %.0f %%", r->all.events[1].mean);
    if (chance)
        strbuf_addf(out, " (%.0f %%)", r->all.events_chance[1]);
    strbuf_addc(out, '\n');
    strbuf_adds(out, "heads         ");
    add_heads(r, TEXT_HEADS, out);
    if (r->ranked.n_variants) {
        strbuf_adds(out, "\n              ");
        add_ablation(r, out);
    }
    strbuf_addf(out, "\nblocked       windows of %zu layer%s, token 0 spared (in %zu facts the subject has it)\n",
                r->window, r->window == 1 ? "" : "s", r->stages.n_spared);
    strbuf_addf(out, "found         mean of %d points (recall) or -%d %% and more, bands exclude 0 and the control\n",
                STAGES_MEAN_GAIN, STAGES_MEAN_DROP);
    strbuf_adds(out, "left out      ");
    stages_report_left_out(r, out);
    strbuf_addc(out, '\n');
    add_relations(r, out);
}

/* --- JSON --- */

static void add_number(struct strbuf *out, const char *key, double x)
{
    strbuf_addf(out, ",\"%s\":", key);
    strbuf_addf(out, isfinite(x) ? "%.9g" : "null", x);
}

static void add_json_estimate(struct strbuf *out, const char *key, const struct stages_estimate *e)
{
    strbuf_addf(out, ",\"%s\":{\"mean\":", key);
    strbuf_addf(out, isfinite(e->mean) ? "%.9g" : "null", e->mean);
    add_number(out, "low", e->low);
    add_number(out, "high", e->high);
    strbuf_addc(out, '}');
}

static void add_json_stages(const struct stage *stage, struct strbuf *out)
{
    for (int i = 0; i < N_STAGES; i++) {
        const struct stage *s = &stage[i];
        strbuf_addf(out, ",\"%s\":{\"finding\":\"%s\",\"reason\":", stage_name(i), stage_finding_name(s->finding));
        strbuf_add_json(out, s->reason, strlen(s->reason));
        strbuf_addf(out, ",\"n\":%zu", s->n);
        if (s->finding != STAGE_NOT_MEASURED) {
            strbuf_addf(out, s->layer == SIZE_MAX ? ",\"layer\":null" : ",\"layer\":%zu", s->layer);
            add_json_estimate(out, "number", &s->number);
            add_json_estimate(out, "control", &s->control);
            add_json_estimate(out, "difference", &s->difference);
            if (i == STAGE_PROPAGATION)
                add_number(out, "late", s->late);
            if (s->n_control) {
                add_number(out, "p", s->p);
                strbuf_addf(out, ",\"n_control\":%zu", s->n_control);
            }
        }
        strbuf_addc(out, '}');
    }
}

static void add_json_heads(const struct stages_report *r, struct strbuf *out)
{
    char name[STAGES_HEAD_NAME];
    const double *logit = r->single ? r->stages.head_logit : r->head_mean;
    const double *subject = r->single ? r->stages.head_subject : r->head_subject;
    strbuf_adds(out, ",\"heads\":[");
    for (size_t i = 0; !r->skipped && i < 10 && i < r->stages.n_heads; i++) {
        size_t h = r->order[i];
        strbuf_addf(out, "%s{\"head\":\"%s\"", i ? "," : "", stages_head_name(r, h, name));
        add_number(out, "logit", logit[h]);
        add_number(out, "to_subject", subject[h]);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "],\"ablation\":[");
    for (size_t c = 0; r->ranked.n_variants && c < r->n_counts; c++) {
        struct ablation_effect mean, spread, top = ablation_effect(&r->ranked, c);
        ablation_control(&r->ranked, c, &mean, &spread);
        strbuf_addf(out, "%s{\"heads\":%zu", c ? "," : "", r->counts[c]);
        add_number(out, "p", top.probability);
        add_number(out, "random_p", mean.probability);
        add_number(out, "random_spread", spread.probability);
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, ']');
}

void stages_report_one_json(const struct stages_report *r, struct strbuf *out)
{
    strbuf_addf(out, "{\"known\":%s,\"rank\":%d", r->rank == 1 ? "true" : "false", (int)r->rank);
    add_number(out, "prob", r->prob);
    strbuf_adds(out, ",\"skipped\":");
    if (r->skipped)
        strbuf_add_json(out, r->skipped, strlen(r->skipped));
    else
        strbuf_adds(out, "null");
    add_json_stages(r->stage, out);
    if (!r->skipped) {
        strbuf_addf(out, ",\"window\":%zu,\"first_attention\":", r->window);
        for (int part = 0; part < 2; part++) {
            size_t first = stages_first_event(r, part);
            strbuf_addf(out, first < r->stages.n_layers ? "%s%zu" : "%snull", part ? ",\"first_ffn\":" : "", first);
        }
        add_json_heads(r, out);
        if (r->has_causal) {
            strbuf_adds(out, ",\"causal\":{\"noise\":");
            strbuf_addf(out, "%.9g", r->causal_options.noise);
            add_number(out, "clean", r->causal.clean);
            add_number(out, "corrupted", r->causal.corrupted);
            strbuf_addc(out, '}');
        }
    }
    strbuf_addc(out, '}');
}

void stages_report_json(const void *report, struct strbuf *out)
{
    const struct stages_report *r = report;
    strbuf_adds(out, "{\"format\":\"strata-trace\",\"version\":1,\"kind\":\"facts\",\"norms\":{\"stages\":\"lens\","
                     "\"heads\":\"attribution\"},"
                     "\"model\":");
    strbuf_add_json(out, r->model->path, strlen(r->model->path));
    strbuf_addf(out,
                ",\"n\":%zu,\"subjects\":%zu,\"given\":%zu,\"known\":%zu,\"unknown\":%zu,\"without_answer\":%zu,"
                "\"without_subject\":%zu,\"interrupted\":%s,\"window\":%zu,\"seed\":%llu",
                r->stages.n_facts, r->all.n_subjects, r->facts->n_given, r->facts->n_known, r->facts->n_unknown,
                r->facts->n_without_answer, r->n_without_subject, r->interrupted ? "true" : "false", r->window,
                (unsigned long long)r->seed);
    add_json_stages(r->stage, out);
    for (int part = 0; part < 2; part++) {
        add_json_estimate(out, part ? "events_ffn" : "events_attention", &r->all.events[part]);
        add_number(out, part ? "events_ffn_chance" : "events_attention_chance", r->all.events_chance[part]);
    }
    add_json_heads(r, out);
    strbuf_adds(out, ",\"relations\":[");
    for (size_t i = 0; i < r->n_relations; i++) {
        const struct stages_relation *relation = &r->relations[i];
        strbuf_adds(out, i ? ",{\"relation\":" : "{\"relation\":");
        strbuf_add_json(out, relation->name, strlen(relation->name));
        strbuf_addf(out, ",\"n\":%zu,\"given\":%zu", relation->n, relation->n_given);
        if (relation->n)
            add_json_stages(relation->summary.stage, out);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "]}\n");
}
