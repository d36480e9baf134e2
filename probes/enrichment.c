#include "probes/enrichment.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/enrichment_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *enrichment_position_name(enum enrichment_position position)
{
    static const char *const names[] = {
#define X(id, name) name,
        ENRICHMENT_POSITIONS(X)
#undef X
    };
    return names[position];
}

/* --- scores --- */

size_t enrichment_top(const struct runtime *rt)
{
    size_t n = runtime_model(rt)->config.d_vocab;
    return n < ENRICHMENT_TOP ? n : ENRICHMENT_TOP;
}

double enrichment_ceiling(size_t n)
{
    return 100.0 * (double)(n < ENRICHMENT_KEPT ? n : ENRICHMENT_KEPT) / ENRICHMENT_KEPT;
}

const struct attribute_set *enrichment_set(const struct attribute_sets *sets, size_t number)
{
    return number == SIZE_MAX ? NULL : &sets->sets[number];
}

unsigned char *enrichment_filter(const struct model *model)
{
    size_t n = model->config.d_vocab;
    unsigned char *filter = mem_array(n, 1);
    for (size_t id = 0; filter && id < n; id++)
        filter[id] = attribute_token(model, (int32_t)id, true);
    return filter;
}

void enrichment_score(const struct attribute_set *set, const unsigned char *filter, const int32_t *top, size_t n_top,
                      double *rate, double *recall)
{
    size_t kept = 0, hits = 0, found = 0;
    *rate = *recall = NAN;
    if (!set)
        return;
    for (size_t i = 0; i < n_top; i++) {
        bool hit = attribute_set_has(set, top[i]);
        found += hit;
        if (filter[top[i]] && kept < ENRICHMENT_KEPT) {
            kept++;
            hits += hit;
        }
    }
    *rate = kept ? 100.0 * (double)hits / (double)kept : 0;
    *recall = set->n ? 100.0 * (double)found / (double)set->n : NAN;
}

int enrichment_project(struct runtime *rt, void *states, size_t n, size_t n_states, const int32_t *answers,
                       enum enrichment_norm norm, struct lens_result *out, struct err *err)
{
    const struct lens_input in = { .states = states,
                                   .n_rows = n,
                                   .n_states = n_states,
                                   .answers = answers,
                                   .top_k = enrichment_top(rt),
                                   .normed = norm == ENRICHMENT_GEVA };
    int rc = lens_result_create(out, n, n_states, in.top_k, err);
    if (!rc && (rc = logit_lens(rt, &in, out, err)))
        lens_result_release(out);
    return rc;
}

int enrichment_check(const struct enrichment_input *in, struct err *err)
{
    for (size_t i = 0; i < in->n_facts; i++) {
        const struct prompt *p = &in->prompts[i];
        if (p->subject_begin >= p->subject_end || p->subject_end > p->n_tokens)
            return err_set(err, ERR_ARG, "prompt %s: enrichment needs the prompt's subject", p->name ? p->name : "?");
    }
    return 0;
}

/* --- the states of all layers --- */

struct job {
    struct runtime *rt;
    const struct enrichment_input *in;
    struct enrichment *e;
    struct collector c;
    unsigned char *keep; /* [tokens] */
    char *states;        /* [n_facts, n_positions, n_states, d_model] */
    size_t bytes;        /* of a state */
};

/* The token of a position, SIZE_MAX where the prompt ends with its subject. */
static size_t token_at(const struct prompt *p, enum enrichment_position position)
{
    switch (position) {
    case ENRICHMENT_SUBJECT_FIRST:
        return p->subject_begin;
    case ENRICHMENT_AFTER_SUBJECT:
        return p->subject_end < p->n_tokens ? p->subject_end : SIZE_MAX;
    case ENRICHMENT_LAST:
        return prompt_read_at(p);
    case ENRICHMENT_SUBJECT_LAST:
    case ENRICHMENT_N_POSITIONS:
        break;
    }
    return p->subject_end - 1;
}

static int mark_tokens(struct job *j, struct err *err)
{
    size_t n_tokens = 0;
    for (size_t i = 0; i < j->in->n_facts; i++)
        n_tokens += j->in->prompts[i].n_tokens;
    j->keep = mem_zeroed(n_tokens, 1);
    if (!j->keep)
        return err_nomem(err, "enrichment");
    unsigned char *keep = j->keep;
    for (size_t i = 0; i < j->in->n_facts; i++) {
        for (int at = 0; at < ENRICHMENT_N_POSITIONS; at++) {
            size_t token = token_at(&j->in->prompts[i], (enum enrichment_position)at);
            if (j->e->index[at] >= 0 && token != SIZE_MAX)
                keep[token] = 1;
        }
        keep += j->in->prompts[i].n_tokens;
    }
    return 0;
}

static int collect(struct job *j, const struct site_set *reads, struct err *err)
{
    const struct enrichment_input *in = j->in;
    int rc = mark_tokens(j, err);
    rc = rc ? rc : collector_begin(&j->c, in->prompts, in->n_facts, j->keep, err);
    if (rc)
        return rc;
    const struct forward f = {
        .prompts = in->prompts, .n_prompts = in->n_facts, .reads = reads, .read_rows = j->keep, .sink = &j->c.sink
    };
    return runtime_forward(j->rt, &f, err);
}

/* States of positions that a prompt has not are zeros; their numbers are blanked later. */
static int gather(struct job *j, struct err *err)
{
    struct enrichment *e = j->e;
    enum site left = site_leaving_block(&runtime_model(j->rt)->config);
    size_t n;
    if (!size_mul(e->n_facts * e->n_positions, e->n_states, &n) || !(j->states = mem_zeroed(n, j->bytes)))
        return err_nomem(err, "the states of subjects");
    for (size_t i = 0; i < e->n_facts; i++)
        for (int at = 0; at < ENRICHMENT_N_POSITIONS; at++) {
            size_t token = token_at(&j->in->prompts[i], (enum enrichment_position)at);
            if (e->index[at] < 0 || token == SIZE_MAX)
                continue;
            size_t row = j->c.kept[j->c.first_row[i] + token];
            for (size_t s = 0; s < e->n_states; s++) {
                const char *from = s ? collector_rows(&j->c, left, s - 1) : collector_rows(&j->c, SITE_RESID_PRE, 0);
                memcpy(j->states + enrichment_at(e, i, (enum enrichment_position)at, s) * j->bytes,
                       from + row * j->bytes, j->bytes);
            }
        }
    return 0;
}

static void score_all(struct job *j, const unsigned char *filter, const struct lens_result *r)
{
    struct enrichment *e = j->e;
    size_t n_top = enrichment_top(j->rt);
    for (size_t i = 0; i < e->n_facts; i++) {
        const struct attribute_set *own = enrichment_set(j->in->sets, j->in->own[i]);
        const struct attribute_set *control = j->in->control ? enrichment_set(j->in->sets, j->in->control[i]) : NULL;
        for (int at = 0; at < ENRICHMENT_N_POSITIONS; at++) {
            bool there = token_at(&j->in->prompts[i], (enum enrichment_position)at) != SIZE_MAX;
            for (size_t s = 0; e->index[at] >= 0 && s < e->n_states; s++) {
                size_t k = enrichment_at(e, i, (enum enrichment_position)at, s);
                const int32_t *top = r->top_token + k * n_top;
                enrichment_score(there ? own : NULL, filter, top, n_top, &e->own.rate[k], &e->own.recall[k]);
                enrichment_score(there ? control : NULL, filter, top, n_top, &e->control.rate[k],
                                 &e->control.recall[k]);
                e->answer_rank[k] = there ? r->rank[k] : 0;
            }
        }
    }
}

static int measure(struct job *j, struct err *err)
{
    struct enrichment *e = j->e;
    struct lens_result r;
    int32_t *answers = mem_array(e->n_facts * e->n_positions, sizeof *answers);
    unsigned char *filter = enrichment_filter(runtime_model(j->rt));
    int rc = answers && filter ? 0 : err_nomem(err, "enrichment");
    for (size_t i = 0; !rc && i < e->n_facts * e->n_positions; i++)
        answers[i] = j->in->answers ? j->in->answers[i / e->n_positions] : -1;
    if (!rc && !(rc = enrichment_project(j->rt, j->states, e->n_facts * e->n_positions, e->n_states, answers,
                                         j->in->norm, &r, err))) {
        score_all(j, filter, &r);
        lens_result_release(&r);
    }
    free(answers);
    free(filter);
    return rc;
}

static int make_room(struct enrichment *e, struct err *err)
{
    size_t n;
    if (!size_mul(e->n_facts * e->n_positions, e->n_states, &n))
        return err_nomem(err, "enrichment");
    e->own.rate = mem_array(n, sizeof(double));
    e->own.recall = mem_array(n, sizeof(double));
    e->control.rate = mem_array(n, sizeof(double));
    e->control.recall = mem_array(n, sizeof(double));
    e->answer_rank = mem_array(n, sizeof *e->answer_rank);
    if (e->own.rate && e->own.recall && e->control.rate && e->control.recall && e->answer_rank)
        return 0;
    return err_nomem(err, "enrichment");
}

static int run(struct job *j, struct err *err)
{
    const struct model_config *c = &runtime_model(j->rt)->config;
    struct site_set reads;
    int rc = site_set_init(&reads, c, err);
    if (rc)
        return rc;
    site_set_add_one(&reads, (struct site_ref){ SITE_RESID_PRE, 0 });
    for (size_t l = 0; l < c->n_layers; l++)
        site_set_add_one(&reads, (struct site_ref){ site_leaving_block(c), l });
    rc = collector_init(&j->c, &reads, runtime_precision(j->rt), err);
    if (!rc) {
        rc = collect(j, &reads, err);
        rc = rc ? rc : gather(j, err);
        collector_release(&j->c);
    }
    site_set_release(&reads);
    return rc ? rc : measure(j, err);
}

int enrichment_run(struct enrichment *e, struct runtime *rt, const struct enrichment_input *in, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct job j = { .rt = rt, .in = in, .e = e };
    j.bytes = c->d_model * (runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float));
    *e = (struct enrichment){ .n_facts = in->n_facts, .n_states = c->n_layers + 1 };
    for (int at = 0; at < ENRICHMENT_N_POSITIONS; at++)
        e->index[at] = in->positions >> at & 1u ? (int)e->n_positions++ : -1;
    int rc = enrichment_check(in, err);
    rc = rc ? rc : make_room(e, err);
    rc = rc ? rc : run(&j, err);
    free(j.keep);
    free(j.states);
    if (rc)
        enrichment_release(e);
    return rc;
}

void enrichment_release(struct enrichment *e)
{
    free(e->own.rate);
    free(e->own.recall);
    free(e->control.rate);
    free(e->control.recall);
    free(e->answer_rank);
    *e = (struct enrichment){ 0 };
}
