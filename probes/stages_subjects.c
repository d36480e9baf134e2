/* The control of a single fact: random words as its subject. */
#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/extraction.h"
#include "probes/logit_lens.h"
#include "probes/stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A token that could be a word; any token where the model has no tokenizer. */
static int32_t random_word(const struct model *m, struct random_source *random)
{
    enum { MOST_TRIES = 1000 };
    int32_t token = 0;
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        token = (int32_t)random_below(random, m->config.d_vocab);
        if (!m->tokenizer || attribute_token(m, token, true))
            break;
    }
    return token;
}

static struct site_ref state_site(size_t state, const struct model_config *config)
{
    return state < config->n_layers ? (struct site_ref){ SITE_RESID_PRE, state }
                                    : (struct site_ref){ site_leaving_block(config), config->n_layers - 1 };
}

/* Ranks of the answers in states[], which are [draws, n_states, d_model] and overwritten. */
static int take_ranks(struct stages_subjects *out, struct runtime *rt, void *states, const int32_t *answers,
                      struct err *err)
{
    struct lens_result r = { 0 };
    const struct lens_input in = {
        .states = states, .n_rows = out->n_draws, .n_states = out->n_states, .answers = answers
    };
    int rc = lens_result_create(&r, out->n_draws, out->n_states, 0, err);
    rc = rc ? rc : logit_lens(rt, &in, &r, err);
    for (size_t d = 0; !rc && d < out->n_draws; d++) {
        const int32_t *rank = r.rank + d * out->n_states;
        out->best[d] = rank[0];
        for (size_t s = 0; s < out->n_states; s++) {
            out->rank[d * out->n_states + s] = rank[s];
            out->best[d] = fmin(out->best[d], rank[s]);
        }
    }
    lens_result_release(&r);
    return rc;
}

/* subjects: what the subjects' last tokens, whose rows are kept, can see. Later layers are not run. */
static int measure_ranks(struct stages_subjects *out, struct runtime *rt, const struct prompt *subjects,
                         const unsigned char *keep, const int32_t *answers, struct err *err)
{
    const struct model_config *config = &runtime_model(rt)->config;
    size_t state = config->d_model * (runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float)), n;
    struct collector collector = { 0 };
    struct site_set reads;
    char *states = NULL;
    int rc = site_set_init(&reads, config, err);
    if (rc)
        return rc;
    for (size_t s = 0; s < out->n_states; s++)
        site_set_add_one(&reads, state_site(s, config));
    const struct forward f = {
        .prompts = subjects, .n_prompts = out->n_draws, .reads = &reads, .sink = &collector.sink, .read_rows = keep
    };
    rc = collector_init(&collector, &reads, runtime_precision(rt), err);
    rc = rc ? rc : collector_begin(&collector, subjects, out->n_draws, keep, err);
    rc = rc ? rc : runtime_forward(rt, &f, err);
    if (!rc && !(size_mul(out->n_draws, out->n_states, &n) && (states = mem_aligned(n, state))))
        rc = err_nomem(err, "random subjects");
    for (size_t s = 0; !rc && s < out->n_states; s++) {
        struct site_ref site = state_site(s, config);
        const char *from = collector_rows(&collector, site.site, site.layer);
        for (size_t d = 0; d < out->n_draws; d++)
            memcpy(states + (d * out->n_states + s) * state, from + d * state, state);
    }
    rc = rc ? rc : take_ranks(out, rt, states, answers, err);
    if (collector.reads)
        collector_release(&collector);
    site_set_release(&reads);
    free(states);
    return rc;
}

static int measure_events(struct stages_subjects *out, struct runtime *rt, const struct prompt *prompts,
                          const int32_t *answers, struct err *err)
{
    struct extraction x;
    const struct extraction_input in = {
        .prompts = prompts, .answers = answers, .n_facts = out->n_events, .norm = EXTRACTION_LENS
    };
    int rc = extraction_run(&x, rt, &in, err);
    if (rc)
        return rc;
    for (size_t d = 0; d < out->n_events; d++)
        for (size_t part = 0; part < EXTRACTION_SUBLAYERS; part++)
            out->event[part][d] = extraction_events(extraction_tops(&x, d, (enum extraction_sublayer)part), answers[d],
                                                    x.n_layers, NULL) > 0;
    extraction_release(&x);
    return 0;
}

int stages_random_subjects(struct stages_subjects *out, struct runtime *rt, const struct prompt *prompt, int32_t answer,
                           uint64_t seed, struct err *err)
{
    size_t n = STAGES_SUBJECT_DRAWS, n_tokens = prompt->n_tokens, rows;
    struct prompt prompts[STAGES_SUBJECT_DRAWS], subjects[STAGES_SUBJECT_DRAWS];
    int32_t answers[STAGES_SUBJECT_DRAWS];
    struct random_source random;
    struct stages shape;
    stages_init(&shape, rt);
    *out = (struct stages_subjects){ .n_draws = n,
                                     .n_states = stages_enrichment_states(&shape),
                                     .n_events = STAGES_EVENT_DRAWS };
    if (!size_mul(n, n_tokens, &rows))
        return err_nomem(err, "random subjects");
    int32_t *tokens = mem_array(rows, sizeof *tokens);
    unsigned char *keep = mem_zeroed(rows, 1);
    out->rank = mem_array(n * out->n_states, sizeof *out->rank);
    int rc = tokens && keep && out->rank ? 0 : err_nomem(err, "random subjects");
    random_seed(&random, seed);
    for (size_t d = 0; !rc && d < n; d++) {
        int32_t *own = tokens + d * n_tokens;
        memcpy(own, prompt->tokens, n_tokens * sizeof *own);
        for (size_t t = prompt->subject_begin; t < prompt->subject_end; t++)
            own[t] = random_word(runtime_model(rt), &random);
        prompts[d] = *prompt;
        prompts[d].tokens = own;
        answers[d] = answer;
        subjects[d] = prompts[d];
        if (!runtime_model(rt)->config.bidirectional) {
            subjects[d].n_tokens = prompt->subject_end;
            subjects[d].n_after = 0;
        }
        keep[d * subjects[d].n_tokens + prompt->subject_end - 1] = 1;
    }
    rc = rc ? rc : measure_ranks(out, rt, subjects, keep, answers, err);
    rc = rc ? rc : measure_events(out, rt, prompts, answers, err);
    free(tokens);
    free(keep);
    if (rc)
        stages_subjects_release(out);
    return rc;
}

void stages_subjects_release(struct stages_subjects *r)
{
    free(r->rank);
    *r = (struct stages_subjects){ 0 };
}
