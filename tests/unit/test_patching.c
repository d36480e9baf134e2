/*
 * Patching sweeps against full reruns of every cell, in double. Logits come through float (lens_result), so differences
 * of them are compared to 2e-5 of their size; and against what the definition promises.
 */
#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "probes/patching.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"

enum { N_TOKENS = 6, CHANGED = 2, A = 11, B = 17 };

static struct pool *pool;
static struct model *model;
static struct runtime *rt;
static int32_t tokens[2][N_TOKENS + 2];

static int open_model(void **state)
{
    struct err err = { 0 };
    struct random_source random;
    (void)state;
    must(pool_create(&pool, 2, &err), &err);
    must(model_open(&model, "tests/golden/models/llama_a", pool, &err), &err);
    must(runtime_create(&rt, model, pool, PRECISION_F64, &err), &err);
    random_seed(&random, 8);
    for (size_t i = 0; i < N_TOKENS + 2; i++)
        tokens[0][i] = tokens[1][i] = (int32_t)random_below(&random, model->config.d_vocab);
    tokens[1][CHANGED] = (tokens[0][CHANGED] + 1) % (int32_t)model->config.d_vocab;
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

/* Two prompts that differ in one token. */
static struct patching_input input(enum site site, enum patch_by by)
{
    return (struct patching_input){ .clean = { { .tokens = tokens[0], .n_tokens = N_TOKENS }, A },
                                    .corrupted = { { .tokens = tokens[1], .n_tokens = N_TOKENS }, B },
                                    .site = site,
                                    .by = by };
}

static struct patching run(const struct patching_input *in)
{
    struct patching p;
    struct err err = { 0 };
    must(patching_run(&p, rt, in, NULL, &err), &err);
    return p;
}

/* --- the oracle --- */

static void collect(const struct prompt *prompt, const struct edit_list *edits, const struct collector *source,
                    const struct prompt *source_prompt, const struct site_set *reads, struct collector *out)
{
    struct err err = { 0 };
    const struct forward f = { .prompts = prompt,
                               .n_prompts = 1,
                               .reads = reads,
                               .edits = edits,
                               .sink = &out->sink,
                               .source = source,
                               .source_prompts = source_prompt };
    must(collector_init(out, reads, PRECISION_F64, &err), &err);
    must(collector_begin(out, prompt, 1, NULL, &err), &err);
    must(runtime_forward(rt, &f, &err), &err);
}

/* logit(A) - logit(B) at the last token of the patched run; edit NULL: unpatched. */
static double difference(const struct patching_input *in, struct edit *edit)
{
    bool denoise = in->direction == PATCH_DENOISE;
    const struct prompt *to = denoise ? &in->corrupted.prompt : &in->clean.prompt;
    const struct prompt *from = denoise ? &in->clean.prompt : &in->corrupted.prompt;
    struct site_set sites, logits;
    struct collector source, out;
    struct err err = { 0 };
    const struct edit_list list = { .edits = edit, .n = edit != NULL };
    must(site_set_init(&sites, &model->config, &err), &err);
    must(site_set_init(&logits, &model->config, &err), &err);
    must(site_set_add(&logits, "logits", &err), &err);
    must(site_set_add(&sites, site_row(in->site)->short_name, &err), &err);
    collect(from, NULL, NULL, NULL, &sites, &source);
    collect(to, &list, &source, from, &logits, &out);
    const double *x = (const double *)collector_rows(&out, SITE_LOGITS, 0) + (to->n_tokens - 1) * model->config.d_vocab;
    double d = x[A] - x[B];
    collector_release(&source);
    collector_release(&out);
    site_set_release(&sites);
    site_set_release(&logits);
    return d;
}

/* shift: the oracle patches the layer after. */
static size_t wrong_cells(const struct patching_input *in, const struct patching *p, size_t shift)
{
    size_t wrong = 0;
    for (size_t l = 0; l < p->n_layers; l++)
        for (size_t c = 0; c < p->n_columns; c++) {
            struct range column = { c, c };
            const struct positions one = { .kind = POSITIONS_NUMBERS, .ranges = &column, .n_ranges = 1 };
            struct edit e = { .site = in->site,
                              .first_layer = (l + shift) % p->n_layers,
                              .op = EDIT_SET,
                              .source = EDIT_FROM_RUN,
                              .from_site = in->site,
                              .from_layer = EDIT_SAME_LAYER,
                              .from_same = true };
            e.last_layer = e.first_layer;
            if (in->by == PATCH_BY_POSITION)
                e.at = one;
            else {
                e.units = &column;
                e.n_units = 1;
                e.at = in->at;
            }
            double d = difference(in, &e), own = p->difference[l * p->n_columns + c];
            wrong += fabs(own - d) <= 2e-5 * fmax(1, fabs(d)) ? 0 : 1;
        }
    return wrong;
}

static void every_cell_equals_a_full_rerun(void **state)
{
    (void)state;
    static const struct {
        enum site site;
        enum patch_by by;
    } sweeps[] = { { SITE_RESID_PRE, PATCH_BY_POSITION },
                   { SITE_RESID_POST, PATCH_BY_POSITION },
                   { SITE_ATTN_OUT, PATCH_BY_POSITION },
                   { SITE_MLP_OUT, PATCH_BY_POSITION },
                   { SITE_Z, PATCH_BY_POSITION },
                   { SITE_Z, PATCH_BY_HEAD },
                   { SITE_Q, PATCH_BY_HEAD },
                   { SITE_K, PATCH_BY_HEAD },
                   { SITE_V, PATCH_BY_HEAD },
                   { SITE_PATTERN, PATCH_BY_HEAD } };
    for (size_t i = 0; i < sizeof sweeps / sizeof *sweeps; i++)
        for (int direction = 0; direction < 2; direction++) {
            struct patching_input in = input(sweeps[i].site, sweeps[i].by);
            in.direction = direction ? PATCH_NOISE : PATCH_DENOISE;
            struct patching p = run(&in);
            if (wrong_cells(&in, &p, 0))
                fail_msg("%s", site_row(in.site)->name);
            patching_release(&p);
        }
}

static void a_wrong_layer_is_seen(void **state)
{
    (void)state;
    const struct patching_input in = input(SITE_ATTN_OUT, PATCH_BY_POSITION);
    struct patching p = run(&in);
    assert_in_range(wrong_cells(&in, &p, 1), p.n_layers, p.n_layers * N_TOKENS);
    patching_release(&p);
}

static void heads_at_chosen_positions(void **state)
{
    (void)state;
    struct patching_input in = input(SITE_Z, PATCH_BY_HEAD);
    in.at = (struct positions){ .kind = POSITIONS_LAST };
    struct patching last = run(&in);
    assert_int_equal(wrong_cells(&in, &last, 0), 0);
    in.at = (struct positions){ .kind = POSITIONS_ALL };
    struct patching all = run(&in);
    assert_memory_not_equal(last.difference, all.difference, last.n_layers * last.n_columns * sizeof(double));
    patching_release(&last);
    patching_release(&all);
}

/* --- what the definition promises --- */

static void patching_what_differs_gives_one_and_anything_else_nothing(void **state)
{
    (void)state;
    struct patching_input in = input(SITE_RESID_PRE, PATCH_BY_POSITION);
    struct patching p = run(&in);
    for (size_t t = 0; t < N_TOKENS; t++)
        assert_true(fabs(p.normalised[t] - (t == CHANGED)) < 1e-4);
    for (size_t l = 0; l < p.n_layers; l++)
        for (size_t t = 0; t < CHANGED; t++)
            assert_true(fabs(p.normalised[l * N_TOKENS + t]) < 1e-4);
    in.direction = PATCH_NOISE;
    struct patching reverse = run(&in);
    assert_true(fabs(reverse.normalised[CHANGED]) < 1e-4 && fabs(reverse.normalised[0] - 1) < 1e-4);
    assert_true(fabs(reverse.clean - p.clean) < 1e-12 && fabs(reverse.corrupted_prob - p.corrupted_prob) < 1e-12);
    patching_release(&reverse);
    patching_release(&p);

    in = input(SITE_RESID_POST, PATCH_BY_POSITION);
    p = run(&in);
    const double *last = p.normalised + (p.n_layers - 1) * N_TOKENS;
    assert_true(fabs(last[N_TOKENS - 1] - 1) < 1e-4 && fabs(last[CHANGED]) < 1e-4);
    assert_true(fabs(p.prob[(p.n_layers - 1) * N_TOKENS + N_TOKENS - 1] - p.clean_prob) < 1e-5 * p.clean_prob);
    patching_release(&p);
}

static void base_differences_are_the_models_own(void **state)
{
    (void)state;
    struct patching_input in = input(SITE_RESID_PRE, PATCH_BY_POSITION);
    struct patching p = run(&in);
    assert_true(fabs(p.corrupted - difference(&in, NULL)) < 1e-5);
    in.direction = PATCH_NOISE;
    assert_true(fabs(p.clean - difference(&in, NULL)) < 1e-5);
    patching_release(&p);
    in.clean.answer = -1;
    p = run(&in);
    assert_true(p.clean > 0); /* the top token of the clean prompt against another */
    assert_int_not_equal(p.answers[0], B);
    assert_int_equal(p.answers[1], B);
    patching_release(&p);
}

/* The same prompt with one more token before the subject, and a subject that is one longer. */
static void subjects_of_different_lengths_correspond_from_their_last_token(void **state)
{
    (void)state;
    int32_t longer[N_TOKENS + 2];
    memcpy(longer, tokens[0], sizeof longer);
    longer[1] = tokens[0][7];
    memcpy(longer + 4, tokens[0] + 3, 3 * sizeof *longer);
    struct patching_input in = input(SITE_RESID_POST, PATCH_BY_POSITION);
    in.clean.prompt.subject_begin = 1;
    in.clean.prompt.subject_end = 3;
    in.corrupted.prompt = (struct prompt){ .tokens = longer, .n_tokens = 7, .subject_begin = 1, .subject_end = 4 };
    struct patching p;
    struct err err = { 0 };
    assert_int_equal(patching_run(&p, rt, &in, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "6 tokens, the corrupted one 7"));
    in.align_subject = true;
    p = run(&in);
    for (size_t l = 0; l < p.n_layers; l++)
        for (size_t t = 0; t < 7; t++)
            assert_int_equal(isnan(p.normalised[l * 7 + t]), t == 1); /* the subject's extra first token */
    size_t last = (p.n_layers - 1) * 7 + 6;
    assert_true(fabs(p.normalised[last] - 1) < 1e-4);
    patching_release(&p);
    in.corrupted.prompt.n_tokens = 6;
    assert_int_equal(patching_run(&p, rt, &in, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "3 tokens follow the clean subject, 2"));
    in.clean.prompt.subject_end = in.clean.prompt.subject_begin;
    assert_int_equal(patching_run(&p, rt, &in, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "the clean one has none"));
}

static void refused(struct patching_input in, const char *words)
{
    struct patching p;
    struct err err = { 0 };
    assert_int_equal(patching_run(&p, rt, &in, NULL, &err), ERR_ARG);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    assert_null(p.normalised);
}

static void what_cannot_be_patched_is_refused(void **state)
{
    (void)state;
    struct patching_input in = input(SITE_RESID_PRE, PATCH_BY_POSITION);
    in.corrupted.answer = A;
    refused(in, "both answers are token 11");
    in = input(SITE_RESID_PRE, PATCH_BY_POSITION);
    in.corrupted.prompt = in.clean.prompt;
    refused(in, "nothing to normalise by");
    refused(input(SITE_RESID_PRE, PATCH_BY_HEAD), "has no heads");
    refused(input(SITE_MLP_POST, PATCH_BY_HEAD), "has no heads");
    refused(input(SITE_LOGITS, PATCH_BY_POSITION), "layer by layer");
    in = input(SITE_Z, PATCH_BY_HEAD);
    in.at = (struct positions){ .kind = POSITIONS_SUBJECT };
    refused(in, "no subject");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_equals_a_full_rerun),
        cmocka_unit_test(a_wrong_layer_is_seen),
        cmocka_unit_test(heads_at_chosen_positions),
        cmocka_unit_test(patching_what_differs_gives_one_and_anything_else_nothing),
        cmocka_unit_test(base_differences_are_the_models_own),
        cmocka_unit_test(subjects_of_different_lengths_correspond_from_their_last_token),
        cmocka_unit_test(what_cannot_be_patched_is_refused),
    };
    return cmocka_run_group_tests_name("patching", tests, open_model, close_model);
}
