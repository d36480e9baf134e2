/*
 * Attention knockout: the window arithmetic of the published programs; every number against a full run with the edits
 * written as text; what is never touched stays; what it costs. Probabilities are compared to 1e-5 relative: the lens
 * keeps log probabilities as floats (6e-8 of values up to about 10).
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/knockout.h"

#include <math.h>

static const char *const models[] = { "llama_a", "mistral", "gpt2", "qwen2" };
enum { N_MODELS = sizeof models / sizeof *models, N_FACTS = 4 };

/* Facts of one model: subject in front, in the middle, at the end, and a prompt of one token. */
struct fixture {
    struct model *m;
    struct runtime *rt;
    struct references refs;
    struct prompt prompts[N_FACTS];
    int32_t answers[N_FACTS];
};

static void open_fixture(struct fixture *f, const char *name)
{
    char path[256];
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->m, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->m, pool, PRECISION_F64, &err), &err);
    static const size_t spans[N_FACTS][3] = { { 7, 0, 2 }, { 9, 3, 5 }, { 6, 4, 6 }, { 1, 0, 1 } };
    assert_true(f->refs.n_tokens >= 24);
    for (size_t i = 0; i < N_FACTS; i++) {
        f->prompts[i] = (struct prompt){ .tokens = f->refs.tokens + i,
                                         .n_tokens = spans[i][0],
                                         .subject_begin = spans[i][1],
                                         .subject_end = spans[i][2],
                                         .name = "x" };
        f->answers[i] = (int32_t)(5 * i + 2);
    }
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->m);
    references_close(&f->refs);
}

static void run(struct fixture *f, const struct knockout_input *options, struct knockout *k)
{
    struct err err = { 0 };
    struct knockout_input in = *options;
    in.prompts = in.prompts ? in.prompts : f->prompts;
    in.answers = in.answers ? in.answers : f->answers;
    in.n_facts = in.n_facts ? in.n_facts : N_FACTS;
    must(knockout_run(k, f->rt, &in, NULL, &err), &err);
}

/* Probability of a token after the prompt, from a full run with an edit as a user writes it ("" none). */
static double oracle(struct fixture *f, const struct prompt *p, const char *edit, int32_t answer)
{
    struct err err = { 0 };
    struct edit_list edits = { 0 };
    struct site_set reads;
    struct collector c;
    size_t n = f->m->config.d_vocab;
    if (*edit)
        must(edit_parse(&edits, edit, &f->m->config, &err), &err);
    must(site_set_init(&reads, &f->m->config, &err), &err);
    must(site_set_add(&reads, "logits", &err), &err);
    must(collector_init(&c, &reads, PRECISION_F64, &err), &err);
    must(collector_begin(&c, p, 1, NULL, &err), &err);
    const struct forward forward = { .prompts = p, .n_prompts = 1, .reads = &reads, .edits = &edits, .sink = &c.sink };
    must(runtime_forward(f->rt, &forward, &err), &err);
    const double *logits = (const double *)collector_rows(&c, SITE_LOGITS, 0) + (p->n_tokens - 1) * n;
    double sum = 0;
    for (size_t v = 0; v < n; v++)
        sum += exp(logits[v] - logits[answer]);
    collector_release(&c);
    site_set_release(&reads);
    edit_list_release(&edits);
    return 1 / sum;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * fabs(b);
}

/* The keys of a set in the edit language, "" for none. */
static const char *keys_text(const struct prompt *p, enum knockout_keys keys, char text[64])
{
    size_t last = p->n_tokens - 1;
    *text = '\0';
    if (keys != KNOCKOUT_NON_SUBJECT)
        return keys == KNOCKOUT_LAST ? "last" : "subject";
    for (size_t t = 0; t < last; t++)
        if (t < p->subject_begin || t >= p->subject_end)
            snprintf(text + strlen(text), 64 - strlen(text), "%s%zu", *text ? "," : "", t);
    return text;
}

static double blocked(struct fixture *f, size_t fact, size_t layer, size_t window, const char *keys)
{
    char edit[128];
    size_t n = f->m->config.n_layers, begin = layer > window / 2 ? layer - window / 2 : 0;
    size_t end = layer + (window + 1) / 2 < n ? layer + (window + 1) / 2 : n;
    if (!*keys || begin == end)
        return oracle(f, &f->prompts[fact], "", f->answers[fact]);
    snprintf(edit, sizeof edit, "blocks.%zu-%zu.attn.hook_attn_scores@last<-%s block", begin, end - 1, keys);
    return oracle(f, &f->prompts[fact], edit, f->answers[fact]);
}

static void windows_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        size_t layer, size, n_layers, begin, end;
    } cases[] = {
        { 20, 9, 48, 16, 25 }, { 20, 10, 48, 15, 25 }, { 0, 9, 48, 0, 5 }, { 3, 9, 48, 0, 8 },
        { 47, 9, 48, 43, 48 }, { 47, 10, 48, 42, 48 }, { 5, 1, 28, 5, 6 }, { 27, 7, 28, 24, 28 },
        { 4, 0, 6, 4, 4 },     { 1, 99, 6, 0, 6 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct layer_window w = window_around(cases[i].layer, cases[i].size, cases[i].n_layers);
        assert_int_equal(w.begin, cases[i].begin);
        assert_int_equal(w.end, cases[i].end);
    }
    struct layer_window above = window_above(35, 11, 40);
    assert_int_equal(above.begin, 35);
    assert_int_equal(above.end, 40);
    above = window_above(3, SIZE_MAX, 40);
    assert_int_equal(above.begin, 3);
    assert_int_equal(above.end, 40);
    above = window_above(41, 2, 40);
    assert_int_equal(above.begin, above.end);
    static const size_t defaults[][2] = { { 48, 9 }, { 30, 5 }, { 28, 5 }, { 12, 3 }, { 6, 1 }, { 1, 1 } };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        assert_int_equal(knockout_window(defaults[i][0]), defaults[i][1]);
}

static void every_number_is_that_of_a_full_run(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        open_fixture(&f, models[m]);
        size_t n = f.m->config.n_layers, n_differ = 0;
        for (size_t window = 1; window <= 3; window++) {
            struct knockout k;
            run(&f, &(struct knockout_input){ .window = window, .tokens = true }, &k);
            for (size_t i = 0; i < N_FACTS; i++) {
                assert_true(near(k.base_prob[i], oracle(&f, &f.prompts[i], "", f.answers[i])));
                for (size_t s = 0; s < KNOCKOUT_SETS; s++)
                    for (size_t l = 0; l < n; l++) {
                        char text[64];
                        const char *keys = keys_text(&f.prompts[i], (enum knockout_keys)s, text);
                        size_t at = (i * KNOCKOUT_SETS + s) * n + l;
                        double want = blocked(&f, i, l, window, keys);
                        if (!near(k.prob[at], want))
                            fail_msg("%s fact %zu keys %s layer %zu: %g, full run %g", models[m], i, keys, l,
                                     k.prob[at], want);
                        /* A ratio of two probabilities: their relative errors, in percent points. */
                        double ratio = want / k.base_prob[i];
                        assert_true(fabs(k.change[at] - 100 * (ratio - 1)) <= 100 * 1e-5 * ratio);
                        /* A fault is seen: another window, or the edges of other keys, give other numbers. */
                        n_differ += !near(k.prob[at], blocked(&f, i, l, window + 2, keys)) ||
                                    !near(k.prob[at], blocked(&f, i, l, window, s == KNOCKOUT_LAST ? "0" : "last"));
                    }
                for (size_t t = 0; t < f.prompts[i].n_tokens; t++)
                    for (size_t l = 0; l < n; l++) {
                        char keys[24];
                        snprintf(keys, sizeof keys, "%zu", t);
                        assert_true(
                            near(k.token_prob[(k.first_token[i] + t) * n + l], blocked(&f, i, l, window, keys)));
                    }
            }
            knockout_release(&k);
        }
        assert_true(n_differ > 20);
        close_fixture(&f);
    }
}

static void nothing_blocked_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct knockout k;
    open_fixture(&f, "llama_a");
    size_t n = f.m->config.n_layers;
    run(&f, &(struct knockout_input){ .window = 0 }, &k);
    for (size_t i = 0; i < N_FACTS * KNOCKOUT_SETS * n; i++) {
        assert_true(k.prob[i] == k.base_prob[i / (KNOCKOUT_SETS * n)]);
        assert_true(k.change[i] == 0);
    }
    assert_int_equal(k.row_layers, 0);
    assert_null(k.token_prob);
    knockout_release(&k);
    /* A prompt of one token has no non-subject token to block. */
    run(&f, &(struct knockout_input){ .window = 3 }, &k);
    assert_int_equal(k.n_empty[KNOCKOUT_NON_SUBJECT], 1);
    assert_int_equal(k.n_empty[KNOCKOUT_SUBJECT], 0);
    assert_int_equal(k.n_first, 2);
    for (size_t l = 0; l < n; l++)
        assert_true(k.change[(3 * KNOCKOUT_SETS + KNOCKOUT_NON_SUBJECT) * n + l] == 0);
    knockout_release(&k);
    close_fixture(&f);
}

static void a_query_without_keys_gets_a_pattern_of_zeros(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        struct knockout k;
        char edit[64];
        open_fixture(&f, models[m]);
        size_t n = f.m->config.n_layers;
        run(&f, &(struct knockout_input){ .window = 1 }, &k);
        for (size_t l = 0; l < n; l++) {
            snprintf(edit, sizeof edit, "blocks.%zu.attn.hook_z@last zero", l);
            double want = oracle(&f, &f.prompts[3], edit, f.answers[3]);
            assert_true(near(k.prob[(3 * KNOCKOUT_SETS + KNOCKOUT_LAST) * n + l], want));
            assert_true(near(k.prob[(3 * KNOCKOUT_SETS + KNOCKOUT_SUBJECT) * n + l], want));
        }
        knockout_release(&k);
        close_fixture(&f);
    }
}

static void the_first_token_can_be_spared(void **state)
{
    (void)state;
    struct fixture f;
    struct knockout k;
    open_fixture(&f, "llama_a");
    size_t n = f.m->config.n_layers;
    run(&f, &(struct knockout_input){ .window = 3, .spare_first = true }, &k);
    for (size_t l = 0; l < n; l++) {
        assert_true(near(k.prob[(0 * KNOCKOUT_SETS + KNOCKOUT_SUBJECT) * n + l], blocked(&f, 0, l, 3, "1")));
        assert_true(near(k.prob[(1 * KNOCKOUT_SETS + KNOCKOUT_NON_SUBJECT) * n + l], blocked(&f, 1, l, 3, "1,2,5-7")));
        assert_true(near(k.prob[(1 * KNOCKOUT_SETS + KNOCKOUT_LAST) * n + l], blocked(&f, 1, l, 3, "last")));
        for (size_t s = 0; s < KNOCKOUT_SETS; s++)
            assert_true(k.change[(3 * KNOCKOUT_SETS + s) * n + l] == 0); /* its only token is the first */
    }
    knockout_release(&k);
    close_fixture(&f);
}

/* Windows that begin at the same layer are one until the shorter ends. */
static void one_row_a_layer_from_the_first_blocked_one(void **state)
{
    (void)state;
    struct fixture f;
    struct knockout k;
    open_fixture(&f, "llama_a");
    size_t n = f.m->config.n_layers, want = 0;
    run(&f, &(struct knockout_input){ .n_facts = 2, .window = 2 }, &k);
    for (size_t l = 0; l < n; l++) {
        struct layer_window w = knockout_layers(&k, l), before = knockout_layers(&k, l ? l - 1 : 0);
        want += 2 * KNOCKOUT_SETS * (n - (l && before.begin == w.begin ? before.end : w.begin));
    }
    assert_int_equal(k.row_layers, want);
    assert_int_equal(k.n_variants, 2 * KNOCKOUT_SETS * n);
    knockout_release(&k);
    close_fixture(&f);
}

static void unknown_facts_are_left_out_and_counted(void **state)
{
    (void)state;
    static const int32_t own[N_FACTS] = { -1, -1, -1, -1 };
    struct fixture f;
    struct knockout k, known;
    open_fixture(&f, "llama_a");
    size_t n = f.m->config.n_layers, per_fact = KNOCKOUT_SETS * n;
    run(&f, &(struct knockout_input){ .answers = own, .window = 1 }, &k);
    assert_int_equal(k.n_known, N_FACTS); /* the model's own answers are on rank 1 */
    for (size_t i = 0; i < N_FACTS; i++) {
        assert_int_equal(k.base_rank[i], 1);
        assert_true(near(k.base_prob[i], oracle(&f, &f.prompts[i], "", k.answer[i])));
    }
    const int32_t mixed[N_FACTS] = { k.answer[0], k.answer[1] ? 0 : 1, k.answer[2], k.answer[3] };
    run(&f, &(struct knockout_input){ .answers = mixed, .window = 1, .known_only = true }, &known);
    assert_int_equal(known.n_known, N_FACTS - 1);
    assert_true(known.base_rank[1] > 1);
    for (size_t i = 0; i < N_FACTS * per_fact; i++) {
        assert_int_equal(isnan(known.prob[i]), i / per_fact == 1);
        assert_true(i / per_fact == 1 || near(known.prob[i], k.prob[i]));
    }
    knockout_release(&k);
    knockout_release(&known);
    close_fixture(&f);
}

static void facts_alone_and_together_agree(void **state)
{
    (void)state;
    struct fixture f;
    struct knockout all, one;
    open_fixture(&f, "qwen2");
    size_t per_fact = KNOCKOUT_SETS * f.m->config.n_layers;
    run(&f, &(struct knockout_input){ .window = 3 }, &all);
    for (size_t i = 0; i < N_FACTS; i++) {
        run(&f,
            &(struct knockout_input){ .prompts = &f.prompts[i], .answers = &f.answers[i], .n_facts = 1, .window = 3 },
            &one);
        for (size_t v = 0; v < per_fact; v++)
            assert_true(near(one.prob[v], all.prob[i * per_fact + v]));
        knockout_release(&one);
    }
    knockout_release(&all);
    close_fixture(&f);
}

static void thirds_are_means_of_their_windows(void **state)
{
    (void)state;
    static const double change[] = { -1, -2, -3, -4, -5, -6, -7, -8 };
    double out[KNOCKOUT_THIRDS];
    knockout_thirds(change, 8, out);
    assert_true(out[0] == -1.5 && out[1] == -4 && out[2] == -7); /* layers 0-1, 2-4, 5-7 */
}

static void a_prompt_without_subject_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct knockout k;
    struct err err = { 0 };
    open_fixture(&f, "llama_a");
    f.prompts[1].subject_end = f.prompts[1].subject_begin;
    const struct knockout_input in = { .prompts = f.prompts, .answers = f.answers, .n_facts = 2, .window = 1 };
    assert_int_equal(knockout_run(&k, f.rt, &in, NULL, &err), ERR_ARG);
    assert_string_equal(err.msg, "prompt x: a knockout needs the prompt's subject");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_the_published_ones),
        cmocka_unit_test(every_number_is_that_of_a_full_run),
        cmocka_unit_test(nothing_blocked_changes_nothing),
        cmocka_unit_test(a_query_without_keys_gets_a_pattern_of_zeros),
        cmocka_unit_test(the_first_token_can_be_spared),
        cmocka_unit_test(one_row_a_layer_from_the_first_blocked_one),
        cmocka_unit_test(unknown_facts_are_left_out_and_counted),
        cmocka_unit_test(facts_alone_and_together_agree),
        cmocka_unit_test(thirds_are_means_of_their_windows),
        cmocka_unit_test(a_prompt_without_subject_is_refused),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
