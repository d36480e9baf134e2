/*
 * Causal tracing against a full rerun of every cell, in double: probabilities to 1e-5 relative, because they pass
 * through float log-probabilities (6e-8 of about 10), and against what its definition promises exactly.
 */
#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "probes/causal_summary.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"

enum { N_TOKENS = 7, BEGIN = 2, END = 5, DRAWS = 3, ANSWER = 11 };
static const double noise = 0.7;

static struct pool *pool;
static struct model *model;
static struct runtime *rt;
static int32_t tokens[N_TOKENS];
static const struct prompt prompt = {
    .tokens = tokens, .n_tokens = N_TOKENS, .subject_begin = BEGIN, .subject_end = END, .name = "seven"
};

static int open_model(void **state)
{
    struct err err = { 0 };
    struct random_source random;
    (void)state;
    must(pool_create(&pool, 2, &err), &err);
    must(model_open(&model, "tests/golden/models/llama_a", pool, &err), &err);
    must(runtime_create(&rt, model, pool, PRECISION_F64, &err), &err);
    random_seed(&random, 5);
    for (size_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (int32_t)random_below(&random, model->config.d_vocab);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    runtime_free(rt);
    model_free(model);
    pool_free(pool);
    return 0;
}

static struct causal_options all_kinds(size_t window)
{
    return (
        struct causal_options){ .kinds = CAUSAL_ALL, .n_samples = DRAWS, .noise = noise, .seed = 3, .window = window };
}

static struct causal_trace trace(const struct causal_options *o, const struct prompt *p)
{
    struct causal_trace t;
    struct err err = { 0 };
    must(causal_trace_run(&t, rt, p, ANSWER, o, NULL, &err), &err);
    return t;
}

/* --- the oracle: plain passes --- */

struct oracle {
    struct site_set all, logits;
    struct collector clean, corrupted;
    struct prompt prompts[1];
};

static struct edit noise_edit(uint64_t draw)
{
    /* The seed of a draw is the probe's rule. */
    return (struct edit){ .site = SITE_EMBED,
                          .at = { .kind = POSITIONS_SUBJECT },
                          .op = EDIT_ADD,
                          .source = EDIT_FROM_NOISE,
                          .value = noise,
                          .seed = 3 * 1000003u + draw };
}

static void run(const struct edit_list *edits, const struct site_set *reads, const struct collector *source,
                struct collector *out)
{
    struct err err = { 0 };
    const struct forward f = { .prompts = &prompt,
                               .n_prompts = 1,
                               .reads = reads,
                               .edits = edits,
                               .sink = &out->sink,
                               .source = source,
                               .source_prompts = &prompt };
    must(collector_init(out, reads, PRECISION_F64, &err), &err);
    must(collector_begin(out, &prompt, 1, NULL, &err), &err);
    must(runtime_forward(rt, &f, &err), &err);
}

/* Of ANSWER at the last token, by the logits. */
static double probability(const struct edit_list *edits, const struct oracle *o, const struct collector *source)
{
    struct collector c;
    size_t n = model->config.d_vocab;
    run(edits, &o->logits, source, &c);
    const double *x = (const double *)collector_rows(&c, SITE_LOGITS, 0) + (N_TOKENS - 1) * n;
    double most = x[0], sum = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - most);
    double p = exp(x[ANSWER] - most) / sum;
    collector_release(&c);
    return p;
}

static void open_oracle(struct oracle *o, uint64_t draw)
{
    struct err err = { 0 };
    struct edit edit = noise_edit(draw);
    const struct edit_list edits = { .edits = &edit, .n = 1 };
    must(site_set_init(&o->all, &model->config, &err), &err);
    must(site_set_add(&o->all, "resid_post,attn_out,mlp_out", &err), &err);
    must(site_set_init(&o->logits, &model->config, &err), &err);
    must(site_set_add(&o->logits, "logits", &err), &err);
    run(NULL, &o->all, NULL, &o->clean);
    run(&edits, &o->all, NULL, &o->corrupted);
}

static void close_oracle(struct oracle *o)
{
    collector_release(&o->clean);
    collector_release(&o->corrupted);
    site_set_release(&o->all);
    site_set_release(&o->logits);
}

static const double *row_of(const struct collector *c, enum site site, size_t layer, size_t token)
{
    return (const double *)collector_rows(c, site, layer) + token * model->config.d_model;
}

/* Every row is put in from a third run that was made by hand: clean where `site` is restored, corrupted elsewhere. */
static double restored(const struct oracle *o, uint64_t draw, enum causal_kind kind, size_t layer, size_t token,
                       size_t window)
{
    static const enum site sites[] = { SITE_RESID_POST, SITE_MLP_OUT, SITE_ATTN_OUT, SITE_RESID_POST, SITE_RESID_POST };
    struct collector hand;
    size_t n_layers = model->config.n_layers, first = layer, last = layer;
    struct range at = { token, token };
    const struct positions here = { .kind = POSITIONS_NUMBERS, .ranges = &at, .n_ranges = 1 };
    struct edit edits[3] = { noise_edit(draw) };
    if (kind == CAUSAL_MLP || kind == CAUSAL_ATTN) {
        first = layer < window / 2 ? 0 : layer - window / 2;
        last = layer + window - window / 2 - 1;
        last = last >= n_layers ? n_layers - 1 : last;
    }
    run(NULL, &o->all, NULL, &hand);
    for (size_t l = 0; l < n_layers; l++)
        for (size_t i = 0; i < 3; i++) {
            const enum site site = sites[i];
            bool clean = site == sites[kind] && l >= first && l <= last;
            memcpy((double *)collector_rows(&hand, site, l) + token * model->config.d_model,
                   row_of(clean ? &o->clean : &o->corrupted, site, l, token), model->config.d_model * sizeof(double));
        }
    struct edit put = { .site = sites[kind],
                        .first_layer = first,
                        .last_layer = last,
                        .at = here,
                        .op = EDIT_SET,
                        .source = EDIT_FROM_RUN,
                        .from_site = sites[kind],
                        .from_layer = EDIT_SAME_LAYER,
                        .from_same = true };
    size_t n = 1;
    edits[n++] = put;
    if (kind >= CAUSAL_SEVERED_MLP && layer + 1 < n_layers) {
        put.site = put.from_site = kind == CAUSAL_SEVERED_MLP ? SITE_MLP_OUT : SITE_ATTN_OUT;
        put.first_layer = layer + 1;
        put.last_layer = n_layers - 1;
        edits[n++] = put;
    }
    const struct edit_list list = { .edits = edits, .n = n };
    double p = probability(&list, o, &hand);
    collector_release(&hand);
    return p;
}

/* Cells that are not what the oracle says; `shift`: the oracle restores another token. */
static size_t wrong_cells(const struct causal_trace *t, size_t window, size_t shift)
{
    struct oracle oracles[DRAWS];
    size_t n_layers = model->config.n_layers, wrong = 0;
    for (uint64_t s = 0; s < DRAWS; s++)
        open_oracle(&oracles[s], s);
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        for (size_t token = 0; token < N_TOKENS; token++)
            for (size_t l = 0; l < n_layers; l++) {
                double p = 0, own;
                if (!causal_is_grid(k) && token != END - 1)
                    continue;
                own = t->p[k][causal_is_grid(k) ? token * n_layers + l : l];
                for (uint64_t s = 0; s < DRAWS; s++)
                    p += restored(&oracles[s], s, k, l, (token + shift) % N_TOKENS, window) / DRAWS;
                wrong += fabs(own - p) <= 1e-5 * p ? 0 : 1;
            }
    for (size_t s = 0; s < DRAWS; s++)
        close_oracle(&oracles[s]);
    return wrong;
}

static void every_cell_equals_a_full_rerun(void **state)
{
    (void)state;
    for (size_t window = 1; window <= 3; window++) {
        const struct causal_options o = all_kinds(window);
        struct causal_trace t = trace(&o, &prompt);
        assert_int_equal(wrong_cells(&t, window, 0), 0);
        causal_trace_release(&t);
    }
}

static void a_wrong_token_is_seen(void **state)
{
    (void)state;
    const struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    assert_in_range(wrong_cells(&t, 2, 1), N_TOKENS * model->config.n_layers, 4 * N_TOKENS * model->config.n_layers);
    causal_trace_release(&t);
}

/* --- what the definition promises exactly --- */

static void only_what_noise_reaches_can_be_restored(void **state)
{
    (void)state;
    const struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    for (enum causal_kind k = 0; causal_is_grid(k); k++)
        for (size_t i = 0; i < BEGIN * t.n_layers; i++)
            assert_true(t.p[k][i] == t.corrupted);
    assert_true(t.corrupted != t.clean);
    causal_trace_release(&t);
}

static void the_last_state_is_the_answer(void **state)
{
    (void)state;
    const struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    size_t last = t.n_layers - 1;
    assert_true(t.p[CAUSAL_STATE][(N_TOKENS - 1) * t.n_layers + last] == t.clean);
    /* In the last layer, what other tokens hold is no longer read. */
    for (size_t i = 0; i + 1 < N_TOKENS; i++)
        assert_true(t.p[CAUSAL_STATE][i * t.n_layers + last] == t.corrupted);
    causal_trace_release(&t);
}

static void nothing_is_severed_after_the_last_layer(void **state)
{
    (void)state;
    const struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    const double *plain = t.p[CAUSAL_STATE] + (END - 1) * t.n_layers;
    size_t last = t.n_layers - 1;
    assert_true(t.p[CAUSAL_SEVERED_MLP][last] == plain[last]);
    assert_true(t.p[CAUSAL_SEVERED_ATTN][last] == plain[last]);
    assert_true(t.p[CAUSAL_SEVERED_MLP][0] != plain[0]);
    assert_true(t.p[CAUSAL_SEVERED_ATTN][0] != plain[0]);
    causal_trace_release(&t);
}

static void restoring_everything_gives_the_clean_answer(void **state)
{
    (void)state;
    const struct prompt one = { .tokens = tokens, .n_tokens = 1, .subject_begin = 0, .subject_end = 1 };
    const struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &one);
    for (size_t l = 0; l < t.n_layers; l++)
        assert_true(fabs(t.p[CAUSAL_STATE][l] - t.clean) <= 1e-12 * t.clean);
    assert_true(fabs(t.corrupted - t.clean) > 1e-3 * t.clean);
    causal_trace_release(&t);
}

static void noise_of_nothing_changes_nothing(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    o.noise = 0;
    struct causal_trace t = trace(&o, &prompt);
    assert_true(t.corrupted == t.clean);
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        for (size_t i = 0; i < (causal_is_grid(k) ? N_TOKENS : 1) * t.n_layers; i++)
            assert_true(fabs(t.p[k][i] - t.clean) <= 1e-12 * t.clean);
    causal_trace_release(&t);
}

static void draws_are_averaged_and_belong_to_the_seed(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt), again = trace(&o, &prompt);
    size_t n = 3 * N_TOKENS * t.n_layers + 2 * t.n_layers + DRAWS;
    assert_memory_equal(t.memory, again.memory, n * sizeof *t.memory);
    assert_true(fabs(t.corrupted - (t.samples[0] + t.samples[1] + t.samples[2]) / 3) <= 1e-15);
    assert_true(t.samples[0] != t.samples[1] && t.samples[1] != t.samples[2]);
    o.seed = 4;
    struct causal_trace other = trace(&o, &prompt);
    assert_true(other.samples[0] != t.samples[0] && other.clean == t.clean);
    causal_trace_release(&t);
    causal_trace_release(&again);
    causal_trace_release(&other);
}

/* A prompt whose base runs are too large: draw by draw. */
static void little_memory_changes_nothing(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    o.memory = 1;
    struct causal_trace small = trace(&o, &prompt);
    size_t n = 3 * N_TOKENS * t.n_layers + 2 * t.n_layers + DRAWS;
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(t.memory[i] - small.memory[i]) <= 1e-6 * t.memory[i]);
    for (size_t i = 0; i < BEGIN * t.n_layers; i++)
        assert_true(small.p[CAUSAL_STATE][i] == small.corrupted);
    causal_trace_release(&t);
    causal_trace_release(&small);
}

/* A restored state costs its own row in its layer, and in every later one the rows from it on. */
static void only_what_a_restoration_reaches_is_computed(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    o.kinds = 1u << CAUSAL_STATE;
    struct causal_trace t = trace(&o, &prompt);
    size_t want = 1; /* of the last layer, the last token's state alone is read */
    for (size_t token = BEGIN; token < N_TOKENS; token++)
        for (size_t l = 0; l + 1 < t.n_layers; l++)
            want += 1 + (N_TOKENS - token) * (t.n_layers - 1 - l);
    assert_int_equal(t.row_layers, want * DRAWS);
    causal_trace_release(&t);
}

static void kinds_not_asked_for_are_absent(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    struct causal_trace t = trace(&o, &prompt);
    o.kinds = 1u << CAUSAL_MLP;
    struct causal_trace mlp = trace(&o, &prompt);
    assert_null(mlp.p[CAUSAL_STATE]);
    assert_null(mlp.p[CAUSAL_SEVERED_ATTN]);
    assert_memory_equal(mlp.p[CAUSAL_MLP], t.p[CAUSAL_MLP], N_TOKENS * t.n_layers * sizeof(double));
    assert_int_equal(causal_trace_variants(&o, N_TOKENS, t.n_layers), N_TOKENS * t.n_layers * DRAWS);
    causal_trace_release(&t);
    causal_trace_release(&mlp);
}

static void assert_refused(const struct prompt *p, int32_t answer, const struct causal_options *o, const char *word)
{
    struct causal_trace t;
    struct err err = { 0 };
    assert_int_equal(causal_trace_run(&t, rt, p, answer, o, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, word));
}

static void what_cannot_be_traced_is_refused(void **state)
{
    (void)state;
    struct causal_options o = all_kinds(2);
    struct prompt bare = prompt;
    bare.subject_begin = bare.subject_end = 0;
    assert_refused(&bare, ANSWER, &o, "seven: causal tracing corrupts the subject");
    assert_refused(&prompt, -1, &o, "answer");
    o.window = 0;
    assert_refused(&prompt, ANSWER, &o, "window");
    o.window = 1;
    o.noise = NAN;
    assert_refused(&prompt, ANSWER, &o, "noise");
}

struct stopper {
    struct progress progress;
    uint64_t done, total;
};

static int stop(struct progress *self, uint64_t done, uint64_t total)
{
    struct stopper *s = (struct stopper *)(void *)self;
    s->done = done;
    s->total = total;
    return 1;
}

static void progress_can_stop_it(void **state)
{
    (void)state;
    const struct causal_options o = all_kinds(2);
    struct stopper s = { .progress.step = stop };
    struct causal_trace t;
    struct err err = { 0 };
    assert_int_equal(causal_trace_run(&t, rt, &prompt, ANSWER, &o, &s.progress, &err), ERR_INTERRUPTED);
    assert_int_equal(s.total, causal_trace_variants(&o, N_TOKENS, model->config.n_layers));
    assert_in_range(s.done, 1, s.total);
    assert_null(t.memory);
}

/* --- noise and averages --- */

static void spread_is_that_of_the_subjects_embeddings(void **state)
{
    (void)state;
    size_t d = model->config.d_model, n = 2 * (END - BEGIN) * d;
    double mean = 0, squares = 0;
    struct subject_spread s = { 0 };
    struct err err = { 0 };
    const struct prompt both[] = { prompt, prompt };
    assert_true(isnan(subject_spread(&s)));
    must(subject_spread_add(&s, rt, both, 1, &err), &err);
    must(subject_spread_add(&s, rt, both, 1, &err), &err);
    for (int twice = 0; twice < 2; twice++)
        for (size_t t = BEGIN; t < END; t++)
            for (size_t i = 0; i < d; i++)
                mean += (double)model->embed[(size_t)tokens[t] * d + i] / (double)n;
    for (int twice = 0; twice < 2; twice++)
        for (size_t t = BEGIN; t < END; t++)
            for (size_t i = 0; i < d; i++)
                squares += pow((double)model->embed[(size_t)tokens[t] * d + i] - mean, 2);
    assert_true(fabs(subject_spread(&s) - sqrt(squares / (double)(n - 1))) < 1e-12);
    struct subject_spread at_once = { 0 };
    must(subject_spread_add(&at_once, rt, both, 2, &err), &err);
    assert_true(fabs(subject_spread(&at_once) - subject_spread(&s)) < 1e-12);
}

static void every_token_has_one_role(void **state)
{
    (void)state;
    static const enum causal_role nine[] = {
        CAUSAL_ROLE_BEFORE,         CAUSAL_ROLE_SUBJECT_FIRST, CAUSAL_ROLE_SUBJECT_MIDDLE,
        CAUSAL_ROLE_SUBJECT_MIDDLE, CAUSAL_ROLE_SUBJECT_LAST,  CAUSAL_ROLE_AFTER,
        CAUSAL_ROLE_FURTHER,        CAUSAL_ROLE_FURTHER,       CAUSAL_ROLE_LAST
    };
    for (size_t t = 0; t < 9; t++)
        assert_int_equal(causal_role_of(t, 9, 1, 5), nine[t]);
    assert_int_equal(causal_role_of(1, 4, 1, 2), CAUSAL_ROLE_SUBJECT_LAST); /* a subject of one token */
    assert_int_equal(causal_role_of(2, 3, 1, 2), CAUSAL_ROLE_LAST);         /* the token after is the last one */
    assert_int_equal(causal_role_of(2, 3, 1, 3), CAUSAL_ROLE_LAST);         /* so is the subject's last */
}

/* Two facts of one layer, the second without a middle token; three subject tokens in the first. */
static void averages_are_over_tokens_then_facts(void **state)
{
    (void)state;
    double p0[] = { 0.1, 0.2, 0.3, 0.4, 0.5 }, p1[] = { 0.6, 0.7, 0.9 }, severed[] = { 0.15 };
    const struct causal_trace a = {
        .n_tokens = 5, .n_layers = 1, .clean = 0.8, .corrupted = 0.1, .p = { p0, NULL, NULL, severed }
    };
    const struct causal_trace b = {
        .n_tokens = 3, .n_layers = 1, .clean = 0.9, .corrupted = 0.5, .p = { p1, NULL, NULL, severed }
    };
    const struct causal_trace *traces[] = { &a, &b };
    const struct causal_span spans[] = { { 0, 4, 5 }, { 0, 1, 3 } };
    const char *const subjects[] = { "x", "y" };
    struct causal_summary_input in = { .traces = traces,
                                       .spans = spans,
                                       .subjects = subjects,
                                       .n = 2,
                                       .kinds = 1u << CAUSAL_STATE | 1u << CAUSAL_SEVERED_MLP,
                                       .seed = 1 };
    struct causal_summary s;
    struct err err = { 0 };
    must(causal_summary_make(&s, &in, &err), &err);
    assert_int_equal(s.n_subjects, 2);
    assert_true(fabs(s.total.mean - 0.55) < 1e-12 && s.total.low <= s.total.mean && s.total.mean <= s.total.high);
    const struct causal_series *middle = causal_series_find(&s, CAUSAL_STATE, CAUSAL_ROLE_SUBJECT_MIDDLE);
    assert_int_equal(middle->n, 1);
    assert_true(fabs(middle->mean[0] - 0.15) < 1e-12 && isnan(middle->low[0]));
    const struct causal_series *last = causal_series_find(&s, CAUSAL_STATE, CAUSAL_ROLE_LAST);
    assert_int_equal(last->n, 2);
    assert_true(fabs(last->mean[0] - (0.4 + 0.4) / 2) < 1e-12);
    const struct causal_series *path = causal_series_find(&s, CAUSAL_SEVERED_MLP, CAUSAL_ROLE_SUBJECT_LAST);
    assert_true(fabs(path->mean[0] - (0.05 - 0.35) / 2) < 1e-12);
    assert_null(causal_series_find(&s, CAUSAL_STATE, CAUSAL_ROLE_BEFORE));
    assert_null(causal_series_find(&s, CAUSAL_MLP, CAUSAL_ROLE_LAST));
    causal_summary_release(&s);
    in.n = 0;
    assert_int_equal(causal_summary_make(&s, &in, &err), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_equals_a_full_rerun),
        cmocka_unit_test(a_wrong_token_is_seen),
        cmocka_unit_test(only_what_noise_reaches_can_be_restored),
        cmocka_unit_test(the_last_state_is_the_answer),
        cmocka_unit_test(nothing_is_severed_after_the_last_layer),
        cmocka_unit_test(restoring_everything_gives_the_clean_answer),
        cmocka_unit_test(noise_of_nothing_changes_nothing),
        cmocka_unit_test(draws_are_averaged_and_belong_to_the_seed),
        cmocka_unit_test(little_memory_changes_nothing),
        cmocka_unit_test(only_what_a_restoration_reaches_is_computed),
        cmocka_unit_test(kinds_not_asked_for_are_absent),
        cmocka_unit_test(what_cannot_be_traced_is_refused),
        cmocka_unit_test(progress_can_stop_it),
        cmocka_unit_test(spread_is_that_of_the_subjects_embeddings),
        cmocka_unit_test(every_token_has_one_role),
        cmocka_unit_test(averages_are_over_tokens_then_facts),
    };
    return cmocka_run_group_tests_name("causal tracing", tests, open_model, close_model);
}
