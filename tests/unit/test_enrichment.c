/*
 * Enrichment: sets of attribute tokens; rates against a plain count over sorted dot products; removed sublayers against
 * full runs with the edits as text. On the tiny model in double, so that the order of tokens has no near ties.
 */
#include "tests/golden/references.h"
#include "tests/must.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/enrichment.h"

#include <math.h>

enum { N_FACTS = 4 };

static struct pool *pool;
static struct model *m;
static struct runtime *rt;
static struct tokens tokens[N_FACTS];
static struct prompt prompts[N_FACTS];
static struct attribute_sets sets;
static int32_t answers[N_FACTS];
static size_t own[N_FACTS], control[N_FACTS];

/* The third has nothing after its subject; the last one's subject has no attributes. */
static const struct {
    const char *text, *subject, *attribute;
} facts[N_FACTS] = { { "The Eiffel Tower is in the city of", "Eiffel Tower", "Paris" },
                     { "The capital of Italy is", "Italy", "Rome" },
                     { "Hamlet was written by Shakespeare", "Shakespeare", "Hamlet" },
                     { "The currency of Japan is the", "Japan", NULL } };

static void find_span(struct prompt *p, const struct tokens *t, const char *text, const char *subject)
{
    const char *at = strstr(text, subject);
    int32_t begin = (int32_t)(at - text), end = begin + (int32_t)strlen(subject);
    p->subject_begin = p->subject_end = SIZE_MAX;
    for (size_t i = 0; i < t->n; i++)
        if (t->begin[i] < end && t->end[i] > begin) {
            p->subject_begin = p->subject_begin == SIZE_MAX ? i : p->subject_begin;
            p->subject_end = i + 1;
        }
}

static int set_up(void **state)
{
    struct err err = { 0 };
    (void)state;
    must(pool_create(&pool, 2, &err), &err);
    must(model_open(&m, "data/tiny", pool, &err), &err);
    must(runtime_create(&rt, m, pool, PRECISION_F64, &err), &err);
    must(attribute_sets_init(&sets, m, &err), &err);
    for (size_t i = 0; i < N_FACTS; i++) {
        must(tokenizer_encode(m->tokenizer, facts[i].text, strlen(facts[i].text), SPECIALS_NONE, &tokens[i], &err),
             &err);
        prompts[i] = (struct prompt){ .tokens = tokens[i].id, .n_tokens = tokens[i].n, .name = "x" };
        find_span(&prompts[i], &tokens[i], facts[i].text, facts[i].subject);
        answers[i] = (int32_t)(100 * i + 17);
        if (facts[i].attribute)
            must(attribute_sets_add(&sets, facts[i].subject, facts[i].attribute, &err), &err);
    }
    must(attribute_sets_add(&sets, "Italy", "Europe and the euro", &err), &err);
    for (size_t i = 0; i < N_FACTS; i++) {
        own[i] = attribute_sets_find(&sets, facts[i].subject);
        control[i] = attribute_sets_find(&sets, i == 1 ? "Eiffel Tower" : "Italy");
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FACTS; i++)
        tokens_release(&tokens[i]);
    attribute_sets_release(&sets);
    runtime_free(rt);
    model_free(m);
    pool_free(pool);
    return 0;
}

/* --- sets --- */

static void sets_hold_tokens_that_say_something(void **state)
{
    (void)state;
    const struct attribute_set *italy = &sets.sets[attribute_sets_find(&sets, "Italy")];
    size_t n = 0;
    struct tokens t = { 0 };
    struct err err = { 0 };
    must(tokenizer_encode(m->tokenizer, " Rome Europe and the euro", 25, SPECIALS_NONE, &t, &err), &err);
    for (size_t i = 0; i < t.n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(m->tokenizer, t.id[i], &len);
        size_t spaces = len && *bytes == ' ', chars = len - spaces;
        bool stop = attribute_stop_word(bytes + spaces, chars);
        assert_int_equal(attribute_set_has(italy, t.id[i]), chars > 2 && !stop);
        n += chars > 2 && !stop;
    }
    assert_true(n >= 2);
    assert_int_equal(italy->n, n);
    for (size_t i = 1; i < italy->n; i++)
        assert_true(italy->tokens[i - 1] < italy->tokens[i]);
    tokens_release(&t);
    assert_true(attribute_sets_find(&sets, "Japan") == SIZE_MAX);
    assert_true(attribute_sets_find(&sets, "Ital") == SIZE_MAX);
}

static void stop_words_are_exact(void **state)
{
    (void)state;
    static const char *const yes[] = { "about", "and", "the", "yourself", "themselves" };
    static const char *const no[] = { "", "The", "Rome", "th", "then ", "aboutabouta", "a-very-long-word-indeed" };
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(attribute_stop_word(yes[i], strlen(yes[i])));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(attribute_stop_word(no[i], strlen(no[i])));
    int32_t the = tokenizer_find(m->tokenizer, " The", 4);
    assert_true(the >= 0);
    /* As in the paper: candidates by their spelling, predictions in lower case. */
    assert_true(attribute_token(m, the, false));
    assert_false(attribute_token(m, the, true));
}

static void controls_are_other_subjects(void **state)
{
    (void)state;
    struct random_source a, b;
    random_seed(&a, 5);
    random_seed(&b, 5);
    for (int i = 0; i < 50; i++) {
        size_t other = attribute_sets_other(&sets, own[0], &a);
        assert_true(other != own[0] && other < sets.n && sets.sets[other].n);
        assert_int_equal(other, attribute_sets_other(&sets, own[0], &b));
    }
    struct attribute_sets single;
    struct err err = { 0 };
    must(attribute_sets_init(&single, m, &err), &err);
    assert_true(attribute_sets_other(&single, SIZE_MAX, &a) == SIZE_MAX);
    must(attribute_sets_add(&single, "France", "Paris", &err), &err);
    must(attribute_sets_add(&single, "Louvre", "Paris", &err), &err);
    assert_true(attribute_sets_other(&single, 0, &a) == SIZE_MAX); /* the other one shares its token */
    attribute_sets_release(&single);
}

/* --- rates --- */

static const double *sort_logits;

static int by_logit(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    double lx = sort_logits[x], ly = sort_logits[y];
    return lx != ly ? (lx < ly) - (lx > ly) : (x > y) - (x < y);
}

struct score {
    double rate, recall;
    int32_t rank;
};

/* The definition, word for word, on one state. */
static struct score score(double *state, enum enrichment_norm norm, const struct attribute_set *set, int32_t answer)
{
    size_t n = m->config.d_vocab, kept = 0, hits = 0, found = 0;
    double *logits = calloc(n, sizeof *logits);
    int32_t *order = calloc(n, sizeof *order);
    struct score out = { NAN, NAN, 1 };
    assert_true(logits && order);
    if (norm == ENRICHMENT_LENS)
        runtime_head_input(rt, state, 1, state, 0);
    for (size_t v = 0; v < n; v++) {
        order[v] = (int32_t)v;
        for (size_t i = 0; i < m->config.d_model; i++)
            logits[v] += state[i] * (double)m->unembed.data[v * m->unembed.stride + i];
    }
    sort_logits = logits;
    qsort(order, n, sizeof *order, by_logit);
    for (size_t k = 0; k < ENRICHMENT_TOP; k++) {
        bool hit = set && attribute_set_has(set, order[k]);
        found += hit;
        if (attribute_token(m, order[k], true) && kept < ENRICHMENT_KEPT) {
            kept++;
            hits += hit;
        }
    }
    for (size_t v = 0; v < n; v++)
        out.rank += logits[v] > logits[answer];
    if (set) {
        out.rate = 100.0 * (double)hits / (double)kept;
        out.recall = 100.0 * (double)found / (double)set->n;
    }
    free(logits);
    free(order);
    return out;
}

/* One row of a site of a full run. */
static void read_state(const struct prompt *p, const char *edit, enum site site, size_t layer, size_t token,
                       double *out)
{
    struct err err = { 0 };
    struct edit_list edits = { 0 };
    struct site_set reads;
    struct collector c;
    if (edit)
        must(edit_parse(&edits, edit, &m->config, &err), &err);
    must(site_set_init(&reads, &m->config, &err), &err);
    site_set_add_one(&reads, (struct site_ref){ site, layer });
    must(collector_init(&c, &reads, PRECISION_F64, &err), &err);
    must(collector_begin(&c, p, 1, NULL, &err), &err);
    const struct forward f = { .prompts = p, .n_prompts = 1, .reads = &reads, .edits = &edits, .sink = &c.sink };
    must(runtime_forward(rt, &f, &err), &err);
    const double *rows = collector_rows(&c, site, layer);
    memcpy(out, rows + token * m->config.d_model, m->config.d_model * sizeof *out);
    collector_release(&c);
    site_set_release(&reads);
    edit_list_release(&edits);
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || fabs(a - b) < 1e-9;
}

static struct enrichment_input input(enum enrichment_norm norm, unsigned positions)
{
    return (struct enrichment_input){ .prompts = prompts,
                                      .answers = answers,
                                      .n_facts = N_FACTS,
                                      .sets = &sets,
                                      .own = own,
                                      .control = control,
                                      .norm = norm,
                                      .positions = positions };
}

static const struct attribute_set *set_of(size_t number)
{
    return number == SIZE_MAX ? NULL : &sets.sets[number];
}

static void rates_are_those_of_the_definition(void **state)
{
    (void)state;
    double *h = calloc(m->config.d_model, sizeof *h);
    assert_non_null(h);
    double most = 0;
    for (int norm = 0; norm < 2; norm++) {
        struct enrichment e;
        struct err err = { 0 };
        const struct enrichment_input in = input((enum enrichment_norm)norm, 0xF);
        must(enrichment_run(&e, rt, &in, &err), &err);
        assert_int_equal(e.n_states, m->config.n_layers + 1);
        for (size_t i = 0; i < N_FACTS; i++)
            for (int at = 0; at < ENRICHMENT_N_POSITIONS; at++) {
                const struct prompt *p = &prompts[i];
                const size_t token[ENRICHMENT_N_POSITIONS] = { p->subject_end - 1, p->subject_begin, p->subject_end,
                                                               p->n_tokens - 1 };
                for (size_t s = 0; s < e.n_states; s++) {
                    size_t k = enrichment_at(&e, i, (enum enrichment_position)at, s);
                    if (token[at] == p->n_tokens) { /* nothing after the subject */
                        assert_true(isnan(e.own.rate[k]) && isnan(e.control.rate[k]) && !e.answer_rank[k]);
                        continue;
                    }
                    read_state(p, NULL, s ? SITE_RESID_POST : SITE_RESID_PRE, s ? s - 1 : 0, token[at], h);
                    struct score want = score(h, (enum enrichment_norm)norm, set_of(own[i]), answers[i]);
                    assert_true(same(e.own.rate[k], want.rate) && same(e.own.recall[k], want.recall));
                    assert_int_equal(e.answer_rank[k], want.rank);
                    most = fmax(most, want.recall);
                    read_state(p, NULL, s ? SITE_RESID_POST : SITE_RESID_PRE, s ? s - 1 : 0, token[at], h);
                    want = score(h, (enum enrichment_norm)norm, set_of(control[i]), answers[i]);
                    assert_true(same(e.control.rate[k], want.rate) && same(e.control.recall[k], want.recall));
                }
            }
        enrichment_release(&e);
    }
    assert_true(most > 0); /* some state does hold an attribute, or the test would show nothing */
    free(h);
}

static void only_the_positions_asked_for(void **state)
{
    (void)state;
    struct enrichment all, one;
    struct err err = { 0 };
    struct enrichment_input in = input(ENRICHMENT_GEVA, 0xF);
    must(enrichment_run(&all, rt, &in, &err), &err);
    in.positions = 1u << ENRICHMENT_LAST;
    in.control = NULL;
    in.answers = NULL;
    must(enrichment_run(&one, rt, &in, &err), &err);
    assert_int_equal(one.n_positions, 1);
    assert_int_equal(one.index[ENRICHMENT_SUBJECT_LAST], -1);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t s = 0; s < one.n_states; s++) {
            size_t a = enrichment_at(&all, i, ENRICHMENT_LAST, s), b = enrichment_at(&one, i, ENRICHMENT_LAST, s);
            assert_true(same(all.own.rate[a], one.own.rate[b]) && isnan(one.control.rate[b]) && !one.answer_rank[b]);
        }
    enrichment_release(&all);
    enrichment_release(&one);
    assert_true(enrichment_ceiling(3) == 6 && enrichment_ceiling(70) == 100);
}

/* --- removed sublayers --- */

static void removed_sublayers_are_those_of_full_runs(void **state)
{
    (void)state;
    static const char *const edits[ENRICHMENT_N_MODES][ENRICHMENT_SUBLAYERS] = {
        { "blocks.%zu-%zu.attn.hook_attn_scores@%s uniform", "blocks.%zu-%zu.mlp.hook_post@%s zero" },
        { "blocks.%zu-%zu.hook_attn_out@%s zero", "blocks.%zu-%zu.hook_mlp_out@%s zero" },
        { "blocks.%zu-%zu.hook_attn_out@%s set 0.25", "blocks.%zu-%zu.hook_mlp_out@%s set -0.5" },
    };
    size_t n_layers = m->config.n_layers, d = m->config.d_model, n_differ = 0;
    double *h = calloc(d, sizeof *h);
    float *means[2] = { calloc(n_layers * d, sizeof(float)), calloc(n_layers * d, sizeof(float)) };
    assert_true(h && means[0] && means[1]);
    for (size_t i = 0; i < n_layers * d; i++) {
        means[ENRICHMENT_ATTN][i] = 0.25f;
        means[ENRICHMENT_MLP][i] = -0.5f;
    }
    for (size_t c = 0; c < 2 * ENRICHMENT_N_MODES; c++) {
        struct enrichment_knockout k;
        struct err err = { 0 };
        const struct enrichment_knockout_input in = { .facts = input(c % 2 ? ENRICHMENT_LENS : ENRICHMENT_GEVA, 0),
                                                      .mode = (enum enrichment_mode)(c / 2),
                                                      .subject_only = c % 2,
                                                      .measured = n_layers - 2,
                                                      .window = 2,
                                                      .means = { means[0], means[1] } };
        must(enrichment_knockout_run(&k, rt, &in, NULL, &err), &err);
        assert_int_equal(k.n_layers, n_layers - 2);
        for (size_t i = 0; i < 3; i++) {
            size_t token = prompts[i].subject_end - 1;
            read_state(&prompts[i], NULL, SITE_RESID_POST, in.measured, token, h);
            struct score base = score(h, in.facts.norm, set_of(own[i]), 0);
            assert_true(same(k.base_rate[i], base.rate) && same(k.base_recall[i], base.recall));
            for (size_t part = 0; part < ENRICHMENT_SUBLAYERS; part++)
                for (size_t l = 0; l < k.n_layers; l++) {
                    char edit[96];
                    size_t last = l + 1 < in.measured ? l + 1 : in.measured - 1;
                    /* The table's own text, with two layers and the positions. */
                    snprintf(edit, sizeof edit, edits[in.mode][part], l, last, in.subject_only ? "subject" : "all");
                    read_state(&prompts[i], edit, SITE_RESID_POST, in.measured, token, h);
                    struct score want = score(h, in.facts.norm, set_of(own[i]), 0);
                    size_t at = (i * ENRICHMENT_SUBLAYERS + part) * k.n_layers + l;
                    if (!same(k.rate[at], want.rate) || !same(k.recall[at], want.recall))
                        fail_msg("fact %zu, %s: rate %g, full run %g", i, edit, k.rate[at], want.rate);
                    n_differ += !same(k.recall[at], base.recall);
                }
        }
        assert_true(isnan(k.rate[3 * ENRICHMENT_SUBLAYERS * k.n_layers])); /* no attributes of Japan */
        enrichment_knockout_release(&k);
    }
    assert_true(n_differ > 0);
    free(h);
    free(means[0]);
    free(means[1]);
}

static void means_are_those_of_all_tokens(void **state)
{
    (void)state;
    size_t d = m->config.d_model, n_sums = m->config.n_layers * d, n = 0, n_tokens = 0;
    double *sums[2] = { calloc(n_sums, sizeof(double)), calloc(n_sums, sizeof(double)) };
    double *h = calloc(d, sizeof *h), want = 0;
    struct err err = { 0 };
    assert_true(sums[0] && sums[1] && h);
    must(enrichment_means(rt, prompts, 2, sums, &n, &err), &err);
    must(enrichment_means(rt, prompts + 2, N_FACTS - 2, sums, &n, &err), &err);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t t = 0; t < prompts[i].n_tokens; t++, n_tokens++) {
            read_state(&prompts[i], NULL, SITE_MLP_OUT, 3, t, h);
            want += h[5];
        }
    assert_int_equal(n, n_tokens);
    assert_true(fabs(sums[ENRICHMENT_MLP][3 * d + 5] - want) < 1e-9);
    assert_true(fabs(sums[ENRICHMENT_ATTN][3 * d + 5] - want) > 1e-6);
    free(sums[0]);
    free(sums[1]);
    free(h);
}

static void the_published_shares(void **state)
{
    (void)state;
    assert_int_equal(enrichment_measured_layer(48), 40);
    assert_int_equal(enrichment_window(48), 11);
    assert_int_equal(enrichment_measured_layer(30), 25);
    assert_int_equal(enrichment_window(30), 7);
    assert_int_equal(enrichment_window(1), 1);
}

static void what_cannot_be_measured_is_refused(void **state)
{
    (void)state;
    struct enrichment e;
    struct enrichment_knockout k;
    struct err err = { 0 };
    struct enrichment_input in = input(ENRICHMENT_GEVA, 1);
    struct prompt bare = prompts[0];
    bare.subject_end = bare.subject_begin;
    in.prompts = &bare;
    in.n_facts = 1;
    assert_int_equal(enrichment_run(&e, rt, &in, &err), ERR_ARG);
    assert_string_equal(err.msg, "prompt x: enrichment needs the prompt's subject");
    in.prompts = prompts;
    struct enrichment_knockout_input ki = { .facts = in, .mode = ENRICHMENT_MEAN, .measured = 2, .window = 1 };
    assert_int_equal(enrichment_knockout_run(&k, rt, &ki, NULL, &err), ERR_ARG);
    assert_string_equal(err.msg, "enrichment with mode mean: the mean outputs are missing");
    ki.mode = ENRICHMENT_ZERO;
    ki.measured = m->config.n_layers;
    assert_int_equal(enrichment_knockout_run(&k, rt, &ki, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "the model has layers 0 to"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_hold_tokens_that_say_something),
        cmocka_unit_test(stop_words_are_exact),
        cmocka_unit_test(controls_are_other_subjects),
        cmocka_unit_test(rates_are_those_of_the_definition),
        cmocka_unit_test(only_the_positions_asked_for),
        cmocka_unit_test(removed_sublayers_are_those_of_full_runs),
        cmocka_unit_test(means_are_those_of_all_tokens),
        cmocka_unit_test(the_published_shares),
        cmocka_unit_test(what_cannot_be_measured_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
