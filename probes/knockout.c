#include "probes/knockout.h"

#include "core/base/mem.h"
#include "core/store/journal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *knockout_keys_name(enum knockout_keys keys)
{
    static const char *const names[] = {
#define X(id, name) name,
        KNOCKOUT_KEYS(X)
#undef X
    };
    return names[keys];
}

size_t knockout_window(size_t n_layers)
{
    return 2 * (3 * n_layers / 32) + 1;
}

void knockout_thirds(const double *change, size_t n_layers, double out[KNOCKOUT_THIRDS])
{
    for (size_t third = 0; third < KNOCKOUT_THIRDS; third++) {
        size_t begin = n_layers * third / KNOCKOUT_THIRDS, end = n_layers * (third + 1) / KNOCKOUT_THIRDS;
        double sum = 0;
        end = end > begin ? end : begin + 1; /* a model has fewer layers than thirds: some share one */
        for (size_t l = begin; l < end; l++)
            sum += change[l];
        out[third] = sum / (double)(end - begin);
    }
}

/* --- variants --- */

/* The key sets of one fact, as ranges of tokens. */
struct key_sets {
    struct range ranges[KNOCKOUT_SETS][3];
    size_t n[KNOCKOUT_SETS];
};

/* Every variant has one list of one edit. */
struct plan {
    struct variant *variants;
    struct edit_list *lists;
    struct edit *edits;
    double **out; /* where the probability of each goes */
    size_t n, capacity;
    struct key_sets *sets;      /* [n_facts] */
    struct range *token_ranges; /* [longest prompt] */
};

static void release_plan(struct plan *p)
{
    free(p->variants);
    free(p->lists);
    free(p->edits);
    free(p->out);
    free(p->sets);
    free(p->token_ranges);
}

static void add_key(struct key_sets *sets, enum knockout_keys keys, size_t token)
{
    struct range *ranges = sets->ranges[keys];
    size_t n = sets->n[keys];
    if (n && ranges[n - 1].last + 1 == token)
        ranges[n - 1].last = token;
    else
        ranges[sets->n[keys]++] = (struct range){ token, token };
}

static void find_keys(const struct prompt *p, bool spare_first, struct key_sets *sets)
{
    size_t last = prompt_read_at(p);
    *sets = (struct key_sets){ 0 };
    for (size_t t = spare_first; t < p->n_tokens; t++) {
        bool subject = t >= p->subject_begin && t < p->subject_end;
        if (t == last)
            add_key(sets, KNOCKOUT_LAST, t);
        if (subject || t != last)
            add_key(sets, subject ? KNOCKOUT_SUBJECT : KNOCKOUT_NON_SUBJECT, t);
    }
}

static void add_variant(struct plan *p, size_t fact, struct layer_window w, struct positions keys, double *out)
{
    struct edit *e = &p->edits[p->n];
    *e = (struct edit){ .site = SITE_SCORES,
                        .first_layer = w.begin,
                        .last_layer = w.end - 1,
                        .at = { .kind = POSITIONS_LAST },
                        .keys = keys,
                        .op = EDIT_BLOCK };
    bool none = w.begin == w.end || !keys.n_ranges;
    p->lists[p->n] = (struct edit_list){ .edits = e, .n = !none, .capacity = 1 };
    p->variants[p->n] = (struct variant){ .run = fact, .edits = &p->lists[p->n] };
    p->out[p->n++] = out;
}

static void add_fact(struct plan *p, struct knockout *k, const struct knockout_input *in, size_t fact)
{
    size_t n_tokens = in->prompts[fact].n_tokens;
    struct key_sets *sets = &p->sets[fact];
    struct positions keys[KNOCKOUT_SETS];
    find_keys(&in->prompts[fact], in->spare_first, sets);
    for (size_t s = 0; s < KNOCKOUT_SETS; s++) {
        keys[s] = (struct positions){ .kind = POSITIONS_NUMBERS, .ranges = sets->ranges[s], .n_ranges = sets->n[s] };
        k->n_empty[s] += !sets->n[s];
    }
    k->n_first += !in->prompts[fact].subject_begin;
    for (size_t l = 0; l < k->n_layers; l++) {
        struct layer_window w = knockout_layers(k, l);
        for (size_t s = 0; s < KNOCKOUT_SETS; s++)
            add_variant(p, fact, w, keys[s], &k->prob[(fact * KNOCKOUT_SETS + s) * k->n_layers + l]);
        for (size_t t = 0; k->token_prob && t < n_tokens; t++) {
            const struct positions token = { .kind = POSITIONS_NUMBERS, .ranges = &p->token_ranges[t], .n_ranges = 1 };
            add_variant(p, fact, w, token, &k->token_prob[(k->first_token[fact] + t) * k->n_layers + l]);
        }
    }
}

static bool wanted(const struct knockout *k, const struct knockout_input *in, size_t fact)
{
    return !in->known_only || k->base_rank[fact] == 1;
}

static int make_plan(struct plan *p, struct knockout *k, const struct knockout_input *in, struct err *err)
{
    size_t n = 0, longest = 0;
    for (size_t i = 0; i < in->n_facts; i++) {
        size_t rows = KNOCKOUT_SETS + (in->tokens ? in->prompts[i].n_tokens : 0);
        n += wanted(k, in, i) ? rows * k->n_layers : 0;
        longest = in->prompts[i].n_tokens > longest ? in->prompts[i].n_tokens : longest;
    }
    *p = (struct plan){ .variants = mem_array(n, sizeof *p->variants),
                        .lists = mem_array(n, sizeof *p->lists),
                        .edits = mem_array(n, sizeof *p->edits),
                        .out = mem_array(n, sizeof *p->out),
                        .sets = mem_array(in->n_facts, sizeof *p->sets),
                        .token_ranges = mem_array(longest, sizeof *p->token_ranges) };
    if (!p->variants || !p->lists || !p->edits || !p->out || !p->sets || !p->token_ranges)
        return err_nomem(err, "the variants of a knockout");
    for (size_t t = 0; t < longest; t++)
        p->token_ranges[t] = (struct range){ t, t };
    for (size_t i = 0; i < in->n_facts; i++)
        if (wanted(k, in, i))
            add_fact(p, k, in, i);
    return 0;
}

static int run_variants(struct knockout *k, struct outcomes *o, const struct knockout_input *in,
                        struct progress *progress, struct err *err)
{
    struct plan plan;
    struct lens_result r;
    int rc = make_plan(&plan, k, in, err);
    if (!rc && plan.n && !(rc = outcomes_run(o, plan.variants, plan.n, &r, progress, err))) {
        for (size_t v = 0; v < plan.n; v++)
            *plan.out[v] = exp((double)r.logprob[v]);
        lens_result_release(&r);
        k->n_variants = plan.n;
        k->row_layers = replay_row_layers(o->replay);
    }
    release_plan(&plan);
    return rc;
}

/* --- results --- */

static void fill_nan(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
}

static int make_room(struct knockout *k, const struct knockout_input *in, struct err *err)
{
    size_t n_numbers, n_tokens = 0, n_token_numbers;
    for (size_t i = 0; i < in->n_facts; i++) {
        const struct prompt *p = &in->prompts[i];
        if (p->subject_begin >= p->subject_end || p->subject_end > p->n_tokens)
            return err_set(err, ERR_ARG, "prompt %s: a knockout needs the prompt's subject", p->name ? p->name : "?");
        if (!size_add(n_tokens, p->n_tokens, &n_tokens))
            return err_nomem(err, "a knockout");
    }
    if (!size_mul(in->n_facts, KNOCKOUT_SETS * k->n_layers, &n_numbers) ||
        !size_mul(n_tokens, k->n_layers, &n_token_numbers))
        return err_nomem(err, "a knockout");
    k->answer = mem_array(in->n_facts, sizeof *k->answer);
    k->base_rank = mem_array(in->n_facts, sizeof *k->base_rank);
    k->base_prob = mem_array(in->n_facts, sizeof *k->base_prob);
    k->prob = mem_array(n_numbers, sizeof *k->prob);
    k->change = mem_array(n_numbers, sizeof *k->change);
    k->first_token = mem_array(in->n_facts + 1, sizeof *k->first_token);
    k->token_prob = in->tokens ? mem_array(n_token_numbers, sizeof *k->token_prob) : NULL;
    if (!k->answer || !k->base_rank || !k->base_prob || !k->prob || !k->change || !k->first_token ||
        (in->tokens && !k->token_prob))
        return err_nomem(err, "a knockout");
    fill_nan(k->prob, n_numbers);
    if (in->tokens)
        fill_nan(k->token_prob, n_token_numbers);
    k->first_token[0] = 0;
    for (size_t i = 0; i < in->n_facts; i++)
        k->first_token[i + 1] = k->first_token[i] + in->prompts[i].n_tokens;
    return 0;
}

static void take_base(struct knockout *k, const struct outcomes *o)
{
    for (size_t i = 0; i < k->n_facts; i++) {
        k->answer[i] = o->answers[i];
        k->base_rank[i] = o->base.rank[i];
        k->base_prob[i] = exp((double)o->base.logprob[i]);
        k->n_known += o->base.rank[i] == 1;
    }
}

static void relate(struct knockout *k)
{
    size_t per_fact = KNOCKOUT_SETS * k->n_layers;
    for (size_t i = 0; i < k->n_facts * per_fact; i++)
        k->change[i] = 100 * (k->prob[i] / k->base_prob[i / per_fact] - 1);
}

static int measure(struct knockout *k, struct runtime *rt, const struct knockout_input *in, struct progress *progress,
                   struct err *err)
{
    struct outcomes o;
    int rc = outcomes_create(&o, rt, in->prompts, in->n_facts, in->answers, NULL, NULL, err);
    if (rc)
        return rc;
    take_base(k, &o);
    rc = run_variants(k, &o, in, progress, err);
    outcomes_release(&o);
    return rc;
}

/* The facts as one piece of the journal. */
static int take(struct knockout *k, struct runtime *rt, const struct knockout_input *in, struct progress *progress,
                struct err *err)
{
    struct journal *j = progress_journal(progress);
    size_t n_tokens = k->token_prob ? k->first_token[k->n_facts] : 0;
    const struct journal_part parts[] = {
        { k->answer, k->n_facts * sizeof *k->answer },
        { k->base_rank, k->n_facts * sizeof *k->base_rank },
        { k->base_prob, k->n_facts * sizeof *k->base_prob },
        { k->prob, k->n_facts * KNOCKOUT_SETS * k->n_layers * sizeof *k->prob },
        { k->token_prob, n_tokens * k->n_layers * sizeof *k->token_prob },
        { &k->n_known, sizeof k->n_known },
        { k->n_empty, sizeof k->n_empty },
        { &k->n_first, sizeof k->n_first },
        { &k->n_variants, sizeof k->n_variants },
        { &k->row_layers, sizeof k->row_layers },
    };
    enum { N = sizeof parts / sizeof *parts };
    if (journal_load(j, parts, N))
        return 0;
    int rc = measure(k, rt, in, progress, err);
    return rc ? rc : journal_save(j, parts, N, err);
}

int knockout_run(struct knockout *k, struct runtime *rt, const struct knockout_input *in, struct progress *progress,
                 struct err *err)
{
    *k = (struct knockout){
        .n_facts = in->n_facts,
        .n_layers = runtime_model(rt)->config.n_layers,
        .window = in->window,
    };
    int rc = make_room(k, in, err);
    rc = rc ? rc : take(k, rt, in, progress, err);
    if (rc)
        knockout_release(k);
    else
        relate(k);
    return rc;
}

void knockout_release(struct knockout *k)
{
    free(k->answer);
    free(k->base_rank);
    free(k->base_prob);
    free(k->prob);
    free(k->change);
    free(k->first_token);
    free(k->token_prob);
    *k = (struct knockout){ 0 };
}
