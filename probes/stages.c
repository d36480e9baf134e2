#include "probes/stages.h"

#include "core/base/mem.h"
#include "core/store/journal.h"
#include "probes/enrichment.h"
#include "probes/extraction.h"
#include "probes/head_attribution.h"
#include "probes/knockout.h"
#include "probes/outcomes.h"
#include "probes/windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *unit, *what;
    enum stages_points points;
} curves[STAGES_N_CURVES] = {
#define X(id, name, points, unit, what) { name, unit, what, STAGES_##points },
    STAGES_CURVES(X)
#undef X
};

const char *stages_curve_name(enum stages_curve curve)
{
    return curves[curve].name;
}

const char *stages_curve_unit(enum stages_curve curve)
{
    return curves[curve].unit;
}

const char *stages_curve_what(enum stages_curve curve)
{
    return curves[curve].what;
}

enum stages_points stages_curve_points(enum stages_curve curve)
{
    return curves[curve].points;
}

/* --- room --- */

void stages_init(struct stages *s, struct runtime *rt)
{
    const struct model_config *c = &runtime_model(rt)->config;
    size_t measured = enrichment_measured_layer(c->n_layers);
    *s = (struct stages){ .n_layers = c->n_layers,
                          .n_heads = c->n_layers * c->n_heads,
                          .measured = measured,
                          .n_windows = measured,
                          .window_below = enrichment_window(c->n_layers) };
}

void stages_release(struct stages *s)
{
    for (size_t c = 0; c < STAGES_N_CURVES; c++)
        free(s->curves[c]);
    free(s->random_deepest);
    free(s->head_logit);
    free(s->head_subject);
    free(s->answers);
    free(s->tops);
    free(s->base_prob);
    free(s->base_rank);
    *s = (struct stages){ 0 };
}

/* Every array grows with the number of facts; capacity is that of all. */
static bool grow(void *array_pointer, size_t capacity, size_t need, size_t n, size_t size)
{
    size_t have, want;
    return size_mul(capacity, n, &have) && size_mul(need, n, &want) && mem_grow(array_pointer, &have, want, size);
}

static int make_room(struct stages *s, size_t need, struct err *err)
{
    size_t now = s->capacity, most = need > 2 * now ? need : 2 * now;
    if (need <= now)
        return 0;
    bool fine = true;
    for (size_t c = 0; fine && c < STAGES_N_CURVES; c++)
        fine = grow(&s->curves[c], now, most, stages_n_points(s, (enum stages_curve)c), sizeof(double));
    fine = fine && grow(&s->random_deepest, now, most, STAGES_KEY_DRAWS, sizeof(double)) &&
           grow(&s->head_logit, now, most, s->n_heads, sizeof(double)) &&
           grow(&s->head_subject, now, most, s->n_heads, sizeof(double)) &&
           grow(&s->answers, now, most, 1, sizeof *s->answers) &&
           grow(&s->tops, now, most, 2 * s->n_layers, sizeof *s->tops) &&
           grow(&s->base_prob, now, most, 1, sizeof(double)) && grow(&s->base_rank, now, most, 1, sizeof *s->base_rank);
    if (!fine)
        return err_nomem(err, "the stages of facts");
    s->capacity = most;
    return 0;
}

static double *curve_of(const struct stages *s, enum stages_curve curve, size_t fact)
{
    return s->curves[curve] + fact * stages_n_points(s, curve);
}

static void fill(double *x, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        x[i] = value;
}

/* --- 1: enrichment --- */

static int add_rates(struct stages *s, struct runtime *rt, const struct stages_input *in,
                     const struct enrichment_input *facts, struct err *err)
{
    struct enrichment e;
    int rc = enrichment_run(&e, rt, facts, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < in->n_facts; i++)
        for (size_t state = 0; state <= s->n_layers; state++) {
            size_t fact = s->n_facts + i, from = enrichment_at(&e, i, ENRICHMENT_SUBJECT_LAST, state);
            curve_of(s, STAGES_RECALL, fact)[state] = e.own.recall[from];
            curve_of(s, STAGES_RECALL_CONTROL, fact)[state] = e.control.recall[from];
            curve_of(s, STAGES_RECALL_GAIN, fact)[state] = e.own.recall[from] - e.control.recall[from];
            curve_of(s, STAGES_RATE, fact)[state] = e.own.rate[from];
            curve_of(s, STAGES_RATE_CONTROL, fact)[state] = e.control.rate[from];
            curve_of(s, STAGES_SUBJECT_RANK, fact)[state] = log10((double)e.answer_rank[from]);
        }
    enrichment_release(&e);
    return 0;
}

static int add_removed(struct stages *s, struct runtime *rt, const struct stages_input *in,
                       const struct enrichment_input *facts, struct progress *progress, struct err *err)
{
    struct enrichment_knockout k;
    const struct enrichment_knockout_input input = {
        .facts = *facts, .mode = ENRICHMENT_UNIFORM, .measured = s->measured, .window = s->window_below
    };
    int rc = enrichment_knockout_run(&k, rt, &input, progress, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < in->n_facts; i++)
        for (size_t part = 0; part < ENRICHMENT_SUBLAYERS; part++) {
            enum stages_curve curve = part == ENRICHMENT_MLP ? STAGES_WITHOUT_FFN : STAGES_WITHOUT_ATTENTION;
            double *out = curve_of(s, curve, s->n_facts + i);
            for (size_t w = 0; w < s->n_windows; w++)
                out[w] = k.recall[(i * ENRICHMENT_SUBLAYERS + part) * k.n_layers + w] - k.base_recall[i];
        }
    s->row_layers += k.row_layers;
    enrichment_knockout_release(&k);
    return 0;
}

/* A prompt that ends with its subject says nothing here: its last state is the answer. */
static void blank_ends(struct stages *s, const struct stages_input *in)
{
    for (size_t i = 0; i < in->n_facts; i++)
        if (in->prompts[i].subject_end == prompt_read_at(&in->prompts[i]) + 1)
            for (enum stages_curve c = STAGES_RECALL; c <= STAGES_WITHOUT_FFN; c++)
                fill(curve_of(s, c, s->n_facts + i), stages_n_points(s, c), NAN);
}

static int add_enrichment(struct stages *s, struct runtime *rt, const struct stages_input *in,
                          struct progress *progress, struct err *err)
{
    static const struct attribute_sets none;
    size_t *no_set = mem_array(in->n_facts, sizeof *no_set);
    if (!no_set)
        return err_nomem(err, "the stages of facts");
    for (size_t i = 0; i < in->n_facts; i++)
        no_set[i] = SIZE_MAX;
    const struct enrichment_input facts = { .prompts = in->prompts,
                                            .answers = s->answers + s->n_facts,
                                            .n_facts = in->n_facts,
                                            .sets = in->sets ? in->sets : &none,
                                            .own = in->sets ? in->own : no_set,
                                            .control = in->sets ? in->control : NULL,
                                            .norm = ENRICHMENT_LENS,
                                            .positions = 1u << ENRICHMENT_SUBJECT_LAST };
    int rc = add_rates(s, rt, in, &facts, err);
    if (!rc && in->sets) {
        rc = add_removed(s, rt, in, &facts, progress, err);
    } else {
        for (size_t i = 0; i < in->n_facts; i++)
            for (enum stages_curve c = STAGES_WITHOUT_ATTENTION; c <= STAGES_WITHOUT_FFN; c++)
                fill(curve_of(s, c, s->n_facts + i), s->n_windows, NAN);
    }
    blank_ends(s, in);
    free(no_set);
    return rc;
}

/* --- 2, 3: what the last token may look at --- */

/* The subject's tokens that can be blocked: all but token 0. */
static size_t blocked_subject(const struct prompt *p)
{
    size_t begin = p->subject_begin ? p->subject_begin : 1;
    return p->subject_end > begin ? p->subject_end - begin : 0;
}

/* Tokens of the rest: neither subject, nor the one that answers, nor token 0. Into tokens[] where it is not NULL. */
static size_t rest_tokens(const struct prompt *p, size_t *tokens)
{
    size_t n = 0;
    for (size_t t = 1; t < p->n_tokens; t++)
        if (t != prompt_read_at(p) && (t < p->subject_begin || t >= p->subject_end)) {
            if (tokens)
                tokens[n] = t;
            n++;
        }
    return n;
}

static int add_knockout(struct stages *s, struct runtime *rt, const struct stages_input *in, struct progress *progress,
                        struct err *err)
{
    static const enum stages_curve to[KNOCKOUT_SETS] = {
        [KNOCKOUT_SUBJECT] = STAGES_SUBJECT, [KNOCKOUT_NON_SUBJECT] = STAGES_REST, [KNOCKOUT_LAST] = STAGES_LAST
    };
    struct knockout k;
    const struct knockout_input input = { .prompts = in->prompts,
                                          .answers = in->answers,
                                          .n_facts = in->n_facts,
                                          .window = in->window,
                                          .spare_first = true };
    int rc = knockout_run(&k, rt, &input, progress, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < in->n_facts; i++) {
        const struct prompt *p = &in->prompts[i];
        const bool some[KNOCKOUT_SETS] = { [KNOCKOUT_SUBJECT] = blocked_subject(p) > 0,
                                           [KNOCKOUT_NON_SUBJECT] = rest_tokens(p, NULL) > 0,
                                           [KNOCKOUT_LAST] = prompt_read_at(p) > 0 };
        for (size_t set = 0; set < KNOCKOUT_SETS; set++)
            for (size_t l = 0; l < s->n_layers; l++)
                curve_of(s, to[set], s->n_facts + i)[l] =
                    some[set] ? k.change[(i * KNOCKOUT_SETS + set) * s->n_layers + l] : (double)NAN;
        s->base_prob[s->n_facts + i] = k.base_prob[i];
        s->base_rank[s->n_facts + i] = k.base_rank[i];
        s->answers[s->n_facts + i] = k.answer[i];
        s->n_spared += !p->subject_begin;
    }
    s->row_layers += k.row_layers;
    knockout_release(&k);
    return 0;
}

/* Random key sets of all facts of a group: place i * draws + d is set d of fact i, n[place] ranges of one token. */
struct random_keys {
    struct range *ranges; /* [n_facts, draws, longest prompt] */
    size_t *n, longest, draws;
    struct variant *variants;
    struct edit_list *lists;
    struct edit *edits;
    size_t n_variants;
};

static void release_keys(struct random_keys *k)
{
    free(k->ranges);
    free(k->n);
    free(k->variants);
    free(k->lists);
    free(k->edits);
}

static int by_token(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static void draw_set(struct range *out, size_t want, size_t *tokens, size_t n, struct random_source *random)
{
    for (size_t i = 0; i < want; i++) {
        size_t j = i + (size_t)random_below(random, n - i), token = tokens[j];
        tokens[j] = tokens[i];
        tokens[i] = token;
    }
    qsort(tokens, want, sizeof *tokens, by_token);
    for (size_t i = 0; i < want; i++)
        out[i] = (struct range){ tokens[i], tokens[i] };
}

/* Distinct sets of as many tokens of the rest as the subject has; all of them where there are no more than draws. */
static void draw_keys(struct random_keys *k, const struct prompt *p, size_t fact, struct random_source *random,
                      size_t *tokens)
{
    enum { MOST_TRIES = 1000 }; /* of 19 sets all are met, but for one time in 10^22 */
    size_t n = rest_tokens(p, tokens), want = blocked_subject(p), sets = 0, first = fact * k->draws;
    want = want < n ? want : n;
    for (int tries = 0; want && sets < k->draws && tries < MOST_TRIES; tries++) {
        struct range *set = k->ranges + (first + sets) * k->longest;
        bool known = false;
        draw_set(set, want, tokens, n, random);
        for (size_t s = 0; s < sets; s++)
            known |= !memcmp(set, k->ranges + (first + s) * k->longest, want * sizeof *set);
        if (!known)
            k->n[first + sets++] = want;
    }
}

static int make_keys(struct random_keys *k, const struct stages *s, const struct stages_input *in, struct err *err)
{
    size_t sets, n;
    *k = (struct random_keys){ .longest = 1, .draws = in->key_draws ? in->key_draws : STAGES_FEW_KEY_DRAWS };
    for (size_t i = 0; i < in->n_facts; i++)
        k->longest = in->prompts[i].n_tokens > k->longest ? in->prompts[i].n_tokens : k->longest;
    if (!size_mul(in->n_facts, k->draws, &sets) || !size_mul(sets, s->n_layers, &n) ||
        !size_mul(sets, k->longest, &sets))
        return err_nomem(err, "random tokens to block");
    k->ranges = mem_array(sets, sizeof *k->ranges);
    k->n = mem_zeroed(in->n_facts, k->draws * sizeof *k->n);
    k->variants = mem_array(n, sizeof *k->variants);
    k->lists = mem_array(n, sizeof *k->lists);
    k->edits = mem_array(n, sizeof *k->edits);
    size_t *tokens = mem_array(k->longest, sizeof *tokens);
    int rc = k->ranges && k->n && k->variants && k->lists && k->edits && tokens
                 ? 0
                 : err_nomem(err, "random tokens to block");
    for (size_t i = 0; !rc && i < in->n_facts; i++) {
        struct random_source random;
        random_seed(&random, in->seed * 0x9e3779b97f4a7c15u + s->n_facts + i);
        draw_keys(k, &in->prompts[i], i, &random, tokens);
    }
    free(tokens);
    return rc;
}

static void make_variants(struct random_keys *k, const struct stages *s, const struct stages_input *in)
{
    for (size_t place = 0; place < in->n_facts * k->draws; place++)
        for (size_t l = 0; k->n[place] && l < s->n_layers; l++) {
            struct layer_window w = window_around(l, in->window, s->n_layers);
            struct edit *e = &k->edits[k->n_variants];
            *e = (struct edit){ .site = SITE_SCORES,
                                .first_layer = w.begin,
                                .last_layer = w.end - 1,
                                .at = { .kind = POSITIONS_LAST },
                                .keys = { .kind = POSITIONS_NUMBERS,
                                          .ranges = k->ranges + place * k->longest,
                                          .n_ranges = k->n[place] },
                                .op = EDIT_BLOCK };
            k->lists[k->n_variants] = (struct edit_list){ .edits = e, .n = w.begin < w.end, .capacity = 1 };
            k->variants[k->n_variants] = (struct variant){ .run = place / k->draws, .edits = &k->lists[k->n_variants] };
            k->n_variants++;
        }
}

/* Mean over sets at every layer, and the deepest of every set. */
static void take_random(struct stages *s, const struct stages_input *in, const struct random_keys *k,
                        const struct lens_result *r, const struct lens_result *base)
{
    size_t v = 0;
    for (size_t i = 0; i < in->n_facts; i++) {
        double *mean = curve_of(s, STAGES_RANDOM, s->n_facts + i);
        double *deepest = s->random_deepest + (s->n_facts + i) * STAGES_KEY_DRAWS;
        size_t n = 0;
        while (n < k->draws && k->n[i * k->draws + n])
            n++;
        fill(mean, s->n_layers, n ? 0 : (double)NAN);
        fill(deepest, STAGES_KEY_DRAWS, NAN);
        for (size_t d = 0; d < n; d++)
            for (size_t l = 0; l < s->n_layers; l++) {
                double change = 100 * (exp((double)r->logprob[v++] - (double)base->logprob[i]) - 1);
                mean[l] += change / (double)n;
                deepest[d] = l && deepest[d] <= change ? deepest[d] : change;
            }
    }
}

static int add_random(struct stages *s, struct runtime *rt, const struct stages_input *in, struct progress *progress,
                      struct err *err)
{
    struct random_keys keys;
    struct outcomes o = { 0 };
    struct lens_result r = { 0 };
    int rc = make_keys(&keys, s, in, err);
    if (!rc) {
        make_variants(&keys, s, in);
        rc = outcomes_create(&o, rt, in->prompts, in->n_facts, s->answers + s->n_facts, NULL, NULL, err);
    }
    if (!rc && keys.n_variants) {
        rc = outcomes_run(&o, keys.variants, keys.n_variants, &r, progress, err);
        s->row_layers += rc ? 0 : replay_row_layers(o.replay);
    }
    if (!rc)
        take_random(s, in, &keys, &r, &o.base);
    lens_result_release(&r);
    outcomes_release(&o);
    release_keys(&keys);
    return rc;
}

static void add_differences(struct stages *s, size_t n)
{
    for (size_t i = s->n_facts; i < s->n_facts + n; i++)
        for (size_t l = 0; l < s->n_layers; l++) {
            double subject = curve_of(s, STAGES_SUBJECT, i)[l];
            curve_of(s, STAGES_REST_LESS_SUBJECT, i)[l] = curve_of(s, STAGES_REST, i)[l] - subject;
            curve_of(s, STAGES_SUBJECT_LESS_RANDOM, i)[l] = subject - curve_of(s, STAGES_RANDOM, i)[l];
        }
}

/* --- 3: who writes the answer --- */

static int add_extraction(struct stages *s, struct runtime *rt, const struct stages_input *in, struct err *err)
{
    struct extraction x;
    const struct extraction_input input = {
        .prompts = in->prompts, .answers = s->answers + s->n_facts, .n_facts = in->n_facts, .norm = EXTRACTION_LENS
    };
    int rc = extraction_run(&x, rt, &input, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < in->n_facts; i++)
        for (size_t part = 0; part < EXTRACTION_SUBLAYERS; part++) {
            const int32_t *tops = extraction_tops(&x, i, (enum extraction_sublayer)part);
            size_t fact = s->n_facts + i;
            double *out = curve_of(s, part == EXTRACTION_ATTN ? STAGES_EVENT_ATTENTION : STAGES_EVENT_FFN, fact);
            for (size_t l = 0; l < s->n_layers; l++)
                out[l] = tops[l] == s->answers[fact] ? 100 : 0;
            memcpy(s->tops + (2 * fact + part) * s->n_layers, tops, s->n_layers * sizeof *tops);
        }
    extraction_release(&x);
    return 0;
}

static int add_heads(struct stages *s, struct runtime *rt, const struct stages_input *in, struct err *err)
{
    struct head_attribution a;
    const struct head_attribution_options o = { 0 };
    struct logit_contrast *contrasts = mem_array(in->n_facts, sizeof *contrasts);
    if (!contrasts)
        return err_nomem(err, "the stages of facts");
    for (size_t i = 0; i < in->n_facts; i++)
        contrasts[i] = (struct logit_contrast){ .answer = s->answers[s->n_facts + i] };
    int rc = head_attribution_run(&a, rt, in->prompts, contrasts, in->n_facts, &o, NULL, err);
    if (!rc) {
        size_t bytes = in->n_facts * s->n_heads * sizeof(double);
        memcpy(s->head_logit + s->n_facts * s->n_heads, a.logit, bytes);
        memcpy(s->head_subject + s->n_facts * s->n_heads, a.to_subject, bytes);
        head_attribution_release(&a);
    }
    free(contrasts);
    return rc;
}

/* What a group adds, as one piece of the journal. */
enum { N_PARTS = STAGES_N_CURVES + 9 };

static void name_parts(struct stages *s, size_t n, struct journal_part parts[N_PARTS])
{
    size_t at = s->n_facts;
    struct journal_part *p = parts;
    for (enum stages_curve c = 0; c < STAGES_N_CURVES; c++)
        *p++ = (struct journal_part){ curve_of(s, c, at), n * stages_n_points(s, c) * sizeof(double) };
    *p++ = (struct journal_part){ s->random_deepest + at * STAGES_KEY_DRAWS, n * STAGES_KEY_DRAWS * sizeof(double) };
    *p++ = (struct journal_part){ s->head_logit + at * s->n_heads, n * s->n_heads * sizeof(double) };
    *p++ = (struct journal_part){ s->head_subject + at * s->n_heads, n * s->n_heads * sizeof(double) };
    *p++ = (struct journal_part){ s->answers + at, n * sizeof *s->answers };
    *p++ = (struct journal_part){ s->tops + at * 2 * s->n_layers, n * 2 * s->n_layers * sizeof *s->tops };
    *p++ = (struct journal_part){ s->base_prob + at, n * sizeof *s->base_prob };
    *p++ = (struct journal_part){ s->base_rank + at, n * sizeof *s->base_rank };
    *p++ = (struct journal_part){ &s->n_spared, sizeof s->n_spared };
    *p = (struct journal_part){ &s->row_layers, sizeof s->row_layers };
}

static int measure(struct stages *s, struct runtime *rt, const struct stages_input *in, struct progress *progress,
                   struct err *err)
{
    int rc = add_knockout(s, rt, in, progress, err);
    rc = rc ? rc : add_random(s, rt, in, progress, err);
    rc = rc ? rc : add_enrichment(s, rt, in, progress, err);
    rc = rc ? rc : add_extraction(s, rt, in, err);
    rc = rc ? rc : add_heads(s, rt, in, err);
    if (!rc)
        add_differences(s, in->n_facts);
    return rc;
}

int stages_add(struct stages *s, struct runtime *rt, const struct stages_input *in, struct progress *progress,
               struct err *err)
{
    struct journal *j = progress_journal(progress);
    struct progress_part inner = progress_part(progress, 0, 0);
    struct journal_part parts[N_PARTS];
    for (size_t i = 0; i < in->n_facts; i++) {
        const struct prompt *p = &in->prompts[i];
        if (p->subject_begin >= p->subject_end || p->subject_end > p->n_tokens)
            return err_set(err, ERR_ARG, "prompt %s: the stages need the prompt's subject", p->name ? p->name : "?");
    }
    size_t spared = s->n_spared;
    int rc = make_room(s, s->n_facts + in->n_facts, err);
    if (rc)
        return rc;
    name_parts(s, in->n_facts, parts);
    if (!journal_load(j, parts, N_PARTS)) {
        rc = measure(s, rt, in, &inner.progress, err);
        rc = rc ? rc : journal_save(j, parts, N_PARTS, err);
    }
    if (rc)
        s->n_spared = spared;
    else
        s->n_facts += in->n_facts;
    return rc;
}
