#include "analyses/report/neurons_report.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* --- the neurons that add most --- */

/* One neuron of one fact's first ones. */
struct entry {
    struct neuron neuron;
    int32_t answer;
};

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->neuron.layer != y->neuron.layer)
        return x->neuron.layer < y->neuron.layer ? -1 : 1;
    if (x->neuron.unit != y->neuron.unit)
        return x->neuron.unit < y->neuron.unit ? -1 : 1;
    return x->answer < y->answer ? -1 : x->answer > y->answer;
}

static int by_sum(const void *a, const void *b)
{
    const struct listed_neuron *x = a, *y = b;
    double p = x->neuron.logit * (double)x->n_facts, q = y->neuron.logit * (double)y->n_facts;
    if (p > q || p < q)
        return p > q ? -1 : 1;
    if (x->neuron.layer != y->neuron.layer)
        return x->neuron.layer < y->neuron.layer ? -1 : 1;
    return x->neuron.unit < y->neuron.unit ? -1 : x->neuron.unit > y->neuron.unit;
}

/* Entries [0, n) are of one neuron, sorted by answer. */
static struct listed_neuron merge(const struct entry *e, size_t n)
{
    struct listed_neuron out = { .neuron = { .layer = e->neuron.layer, .unit = e->neuron.unit }, .n_facts = n };
    size_t first = 0;
    for (size_t i = 0; i < n; i++) {
        out.neuron.coefficient += e[i].neuron.coefficient / (double)n;
        out.neuron.size += e[i].neuron.size / (double)n;
        out.neuron.logit += e[i].neuron.logit / (double)n;
        first = e[i].answer == e[first].answer ? first : i;
        if ((int32_t)(i - first + 1) > out.most_answer) {
            out.most_answer = (int32_t)(i - first + 1);
            out.answer_token = e[i].answer;
        }
    }
    return out;
}

static int list_neurons(struct neurons_report *r, struct err *err)
{
    const struct neuron_activity *a = &r->activity;
    size_t each = a->top < NEURONS_FIRST ? a->top : NEURONS_FIRST, n = a->n_facts * each;
    struct entry *entries = mem_array(n, sizeof *entries);
    r->listed = mem_array(n, sizeof *r->listed);
    if (!entries || !r->listed) {
        free(entries);
        return err_nomem(err, "a list of neurons");
    }
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct entry){ a->by_logit[i / each * a->top + i % each], r->facts->answers[i / each] };
    qsort(entries, n, sizeof *entries, by_place);
    for (size_t i = 0, last; i < n; i = last) {
        for (last = i + 1; last < n && entries[last].neuron.layer == entries[i].neuron.layer &&
                           entries[last].neuron.unit == entries[i].neuron.unit;)
            last++;
        r->listed[r->n_listed++] = merge(entries + i, last - i);
    }
    qsort(r->listed, r->n_listed, sizeof *r->listed, by_sum);
    if (r->n_listed > r->top)
        r->n_listed = r->top;
    free(entries);
    return 0;
}

static int find_tokens(struct neurons_report *r, struct runtime *rt, struct err *err)
{
    size_t n = r->n_listed, k = r->model->config.d_vocab < NEURONS_TOKENS ? r->model->config.d_vocab : NEURONS_TOKENS;
    struct neuron *neurons = mem_array(n, sizeof *neurons);
    int32_t *answers = mem_array(n, sizeof *answers);
    int rc = neurons && answers ? 0 : err_nomem(err, "tokens of neurons");
    for (size_t i = 0; !rc && i < n; i++) {
        neurons[i] = r->listed[i].neuron;
        answers[i] = r->listed[i].answer_token;
    }
    rc = rc ? rc : neuron_tokens_run(&r->tokens, rt, neurons, n, k, r->norm, answers, err);
    free(neurons);
    free(answers);
    return rc;
}

/* --- paraphrases --- */

static bool is_paraphrase(const struct known_facts *k, size_t i, size_t j)
{
    const struct prepared *a = k->facts[i], *b = k->facts[j];
    return k->answers[i] == k->answers[j] && *a->subject && !strcmp(a->subject, b->subject) &&
           !strcmp(a->relation, b->relation) && !strcmp(a->answer, b->answer) && strcmp(a->text, b->text) != 0;
}

static int find_groups(struct neurons_report *r, struct err *err)
{
    const struct known_facts *k = r->facts;
    r->group = mem_array(k->n, sizeof *r->group);
    r->groups = mem_zeroed(k->n, sizeof *r->groups);
    if (!r->group || !r->groups)
        return err_nomem(err, "paraphrases");
    for (size_t i = 0; i < k->n; i++) {
        size_t g = 0;
        while (g < r->n_groups && !is_paraphrase(k, r->groups[g].first, i))
            g++;
        if (g == r->n_groups)
            r->groups[r->n_groups++] = (struct paraphrases){ .first = i };
        r->group[i] = (uint32_t)g;
        r->n_repeated += ++r->groups[g].n == 2;
    }
    return 0;
}

static bool fires(const struct neuron_activity *a, size_t fact, size_t each, const struct neuron *n)
{
    for (size_t i = 0; i < each; i++)
        if (a->by_size[fact * a->top + i].layer == n->layer && a->by_size[fact * a->top + i].unit == n->unit)
            return true;
    return false;
}

static void find_core(struct neurons_report *r, size_t group)
{
    const struct neuron_activity *a = &r->activity;
    struct paraphrases *p = &r->groups[group];
    size_t each = a->top < NEURONS_FIRST ? a->top : NEURONS_FIRST;
    for (size_t i = 0; i < each; i++) {
        const struct neuron *n = &a->by_size[p->first * a->top + i];
        bool all = true;
        for (size_t f = 0; all && f < a->n_facts; f++)
            all = r->group[f] != group || fires(a, f, each, n);
        if (all)
            p->core[p->n_core++] = *n;
    }
}

static int compare_paraphrases(struct neurons_report *r, struct err *err)
{
    const struct neuron_activity *a = &r->activity;
    size_t n = a->n_layers;
    r->same = mem_array(n, sizeof *r->same);
    r->other = mem_array(n, sizeof *r->other);
    r->entropy = mem_zeroed(n, sizeof *r->entropy);
    r->logit = mem_zeroed(n, sizeof *r->logit);
    if (!r->same || !r->other || !r->entropy || !r->logit)
        return err_nomem(err, "paraphrases");
    neuron_overlap(a, r->group, r->seed, r->same, r->other, &r->n_pairs);
    for (size_t i = 0; i < a->n_facts * n; i++) {
        r->entropy[i % n] += a->entropy[i] / (double)a->n_facts;
        r->logit[i % n] += a->logit[i] / (double)a->n_facts;
    }
    for (size_t g = 0; g < r->n_groups; g++)
        if (r->groups[g].n > 1)
            find_core(r, g);
    return 0;
}

int neurons_report_list(struct neurons_report *r, struct runtime *rt, struct err *err)
{
    int rc = list_neurons(r, err);
    rc = rc ? rc : find_tokens(r, rt, err);
    rc = rc ? rc : find_groups(r, err);
    return rc ? rc : compare_paraphrases(r, err);
}

void neurons_report_release(struct neurons_report *r)
{
    neuron_activity_release(&r->activity);
    ablation_run_release(&r->ablation);
    neuron_tokens_release(&r->tokens);
    free(r->counts);
    free(r->listed);
    free(r->group);
    free(r->groups);
    free(r->same);
    free(r->other);
    free(r->entropy);
    free(r->logit);
}
