/* Experiment files, the runs and means that edits need: against plain passes, and hostile files. */
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/edit_runs.h"
#include "core/runtime/experiment.h"
#include "probes/site_means.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/must.h"

static struct pool *pool;
static struct model *model;
static struct runtime *rt;
static char path[] = "/tmp/strata-test-XXXXXX";

static const char good[] =
    "{\"format\": \"strata-experiment\", \"version\": 1, \"seed\": 7, \"description\": \"x\",\n"
    " \"prompts\": [\n"
    "  {\"name\": \"a\", \"tokens\": [5, 6, 7, 8], \"answer_token\": 9},\n"
    "  {\"name\": \"b\", \"tokens\": [5, 9, 7], \"edits\": [\"hook_embed@1 add noise:0.5\"]}],\n"
    " \"variants\": [\n"
    "  {\"name\": \"one\", \"edits\": []},\n"
    "  {\"name\": \"two\", \"prompt\": \"a\", \"edits\": [\"resid_post:0@1 patch from b\", \"z:0@last freeze\"]},\n"
    "  {\"name\": \"three\", \"prompt\": \"b\", \"edits\": [{\"site\": \"z:1\", \"op\": \"mean\"}]}],\n"
    " \"mean_over\": \"facts.jsonl\"}\n";

static int open_model(void **state)
{
    struct err err = { 0 };
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    must(pool_create(&pool, 2, &err), &err);
    must(model_open(&model, "tests/golden/models/llama_a", pool, &err), &err);
    must(runtime_create(&rt, model, pool, PRECISION_F64, &err), &err);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    remove(path);
    runtime_free(rt);
    model_free(model);
    pool_free(pool);
    return 0;
}

static int read_text(const char *text, size_t n, struct experiment *e, struct err *err)
{
    must(file_write(path, text, n, err), err);
    return experiment_read(e, path, model, SPECIALS_AUTO, 1, err);
}

static void a_file_is_read_as_it_says(void **state)
{
    (void)state;
    struct experiment e;
    struct err err = { 0 };
    must(read_text(good, strlen(good), &e, &err), &err);
    assert_int_equal(e.n_prompts, 2);
    assert_int_equal(e.n_variants, 3);
    assert_true(e.seed == 7);
    assert_string_equal(e.mean_over, "facts.jsonl");
    assert_int_equal(e.prompts[0].fact.answer_token, 9);
    assert_int_equal(e.prompts[1].fact.answer_token, -1);
    assert_int_equal(e.prompts[1].fact.tokens.id[1], 9);
    assert_true(e.prompts[1].edits.edits[0].seed == 7);
    assert_int_equal(e.variants[0].prompt, 0);
    assert_int_equal(e.variants[1].edits.edits[0].run, 1);
    assert_int_equal(e.variants[1].edits.edits[1].run, EDIT_OWN_RUN);
    assert_int_equal(e.variants[2].prompt, 1);
    assert_int_equal(e.variants[2].edits.edits[0].source, EDIT_FROM_MEAN);
    must(experiment_check(&e, &err), &err);
    experiment_release(&e);
}

/* good, with one place changed. */
static void refused(const char *from, const char *to, const char *words)
{
    char text[2048];
    struct experiment e;
    struct err err = { 0 };
    const char *at = strstr(good, from);
    assert_non_null(at);
    int n = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    int rc = read_text(text, (size_t)n, &e, &err);
    if (!rc) {
        rc = experiment_check(&e, &err);
        experiment_release(&e);
    }
    if (!rc || !strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void wrong_files_are_refused_with_the_place(void **state)
{
    (void)state;
    refused("\"version\": 1", "\"version\": 2", "version");
    refused("\"version\"", "\"vesion\"", "did you mean version?");
    refused("strata-experiment", "strata-dump", "strata-experiment");
    refused("\"seed\": 7", "\"seed\": -7", "seed");
    refused("\"name\": \"b\"", "\"name\": \"a\"", "prompts: item 2: the name \"a\" is taken by item 1");
    refused("\"name\": \"b\"", "\"name\": \"base\"", "\"base\" is taken");
    refused("\"name\": \"b\"", "\"name\": \"\"", "\"name\" is missing");
    refused("[5, 9, 7]", "[5, -9, 7]", "item 2 is no token id");
    refused("[5, 9, 7]", "[5, 900000, 7]", "outside the vocabulary");
    refused("[5, 9, 7]", "[]", "no tokens");
    refused("[5, 9, 7]", "[5, 9, 7], \"prompt\": \"x\"", "not both");
    refused("\"answer_token\": 9", "\"answer\": 9", "\"answer\"");
    refused("hook_embed@1 add noise:0.5", "z:0 freeze", "use a variant");
    refused("hook_embed@1 add noise:0.5", "hook_embed@3 add noise:0.5", "no position 3");
    refused("\"name\": \"two\"", "\"name\": \"one\"", "variants: item 2");
    refused("\"prompt\": \"a\"", "\"prompt\": \"c\"", "no prompt \"c\"");
    refused("patch from b", "patch from c", "no run 'c'");
    refused("resid_post:0@1 patch", "resid_post:0@3 patch", "variant \"two\": edit 'resid_post:0@3 patch from b'");
    refused("resid_post:0@1 patch", "resid_post:0@all patch @0,1", "4 positions cannot take the values of 2");
    refused("\"edits\": []", "\"edit\": []", "did you mean edits?");
    refused("{\"name\": \"one\", \"edits\": []}", "3", "variants: item 1: must be an object");
    refused("{\"name\": \"one\", \"edits\": []}", "{\"name\": \"one\"}", "\"edits\" is missing");
}

static void damaged_files_never_crash(void **state)
{
    (void)state;
    struct random_source random;
    size_t n = strlen(good), read = 0;
    random_seed(&random, 2);
    for (int round = 0; round < 400; round++) {
        char text[sizeof good];
        struct experiment e;
        struct err err = { 0 };
        memcpy(text, good, sizeof good);
        for (uint64_t k = 1 + random_below(&random, 3); k; k--)
            text[random_below(&random, n)] = (char)random_below(&random, 256);
        int rc = read_text(text, round % 4 ? n : (size_t)random_below(&random, n), &e, &err);
        assert_true(!rc || *err.msg);
        read += !rc;
        if (!rc)
            experiment_release(&e);
    }
    assert_in_range(read, 1, 399);
}

/* --- runs --- */

static void collect(const struct forward *f, const struct site_set *reads, struct collector *out)
{
    struct err err = { 0 };
    struct forward full = *f;
    full.reads = reads;
    full.sink = &out->sink;
    must(collector_init(out, reads, PRECISION_F64, &err), &err);
    must(collector_begin(out, f->prompts, f->n_prompts, NULL, &err), &err);
    must(runtime_forward(rt, &full, &err), &err);
}

static void patched_rows_are_those_of_the_other_prompt(void **state)
{
    (void)state;
    static const char *const names[] = { "other" };
    const int32_t a[] = { 3, 4, 5, 6 }, b[] = { 9, 8, 7 }, c[] = { 1, 2 };
    const struct prompt prompts[] = { { .tokens = a, .n_tokens = 4 }, { .tokens = c, .n_tokens = 2 } };
    const struct prompt other = { .tokens = b, .n_tokens = 3 };
    const struct edit_scope scope = { .seed = 1, .runs = names, .n_runs = 1 };
    struct edit_list edits = { 0 };
    struct edit_runs runs;
    struct site_set reads;
    struct collector plain, of_other, edited;
    struct err err = { 0 };
    size_t d = model->config.d_model;
    must(edit_parse_in(&edits, "resid_post:0@1 patch @2", &model->config, &scope, &err), &err);
    must(edit_parse_in(&edits, "attn_out:1@last scale 3", &model->config, &scope, &err), &err);
    must(edit_parse_in(&edits, "resid_post:1 freeze", &model->config, &scope, &err), &err);
    must(site_set_init(&reads, &model->config, &err), &err);
    must(site_set_add(&reads, "resid_post", &err), &err);
    must(edit_runs_init(&runs, rt, &edits, &other, &err), &err);
    struct forward f = { .prompts = prompts, .n_prompts = 2 };
    const struct forward alone = { .prompts = &other, .n_prompts = 1 };
    collect(&f, &reads, &plain);
    collect(&alone, &reads, &of_other);
    f.edits = &edits;
    must(edit_runs_make(&runs, rt, &f, &err), &err);
    assert_int_equal(f.first_run, 1);
    collect(&f, &reads, &edited);
    const double *x = collector_rows(&edited, SITE_RESID_POST, 0), *y = collector_rows(&plain, SITE_RESID_POST, 0);
    const double *z = collector_rows(&of_other, SITE_RESID_POST, 0);
    for (size_t row = 0; row < 6; row++) {
        bool patched = row == 1 || row == 5; /* token 1 of each prompt */
        const double *want = patched ? z + 2 * d : y + row * d;
        for (size_t i = 0; i < d; i++)
            assert_true(fabs(x[row * d + i] - want[i]) <= 1e-12);
    }
    /* Frozen: each prompt has its own base run back. */
    x = collector_rows(&edited, SITE_RESID_POST, 1);
    y = collector_rows(&plain, SITE_RESID_POST, 1);
    for (size_t i = 0; i < 6 * d; i++)
        assert_true(fabs(x[i] - y[i]) <= 1e-12);
    collector_release(&plain);
    collector_release(&of_other);
    collector_release(&edited);
    edit_runs_release(&runs);
    edit_list_release(&edits);
    site_set_release(&reads);
}

static void edits_without_runs_cost_none(void **state)
{
    (void)state;
    struct edit_list edits = { 0 };
    struct edit_runs runs;
    struct err err = { 0 };
    struct forward f = { 0 };
    must(edit_parse(&edits, "z:0 zero", &model->config, &err), &err);
    must(edit_runs_init(&runs, rt, &edits, NULL, &err), &err);
    must(edit_runs_make(&runs, rt, &f, &err), &err);
    assert_false(runs.needed);
    assert_null(f.source);
    edit_runs_release(&runs);
    edit_list_release(&edits);
}

/* --- means --- */

static void means_are_over_the_chosen_tokens(void **state)
{
    (void)state;
    const int32_t a[] = { 3, 4, 5, 6 }, b[] = { 9, 8, 7 };
    const struct prompt prompts[] = { { .tokens = a, .n_tokens = 4, .subject_begin = 1, .subject_end = 3 },
                                      { .tokens = b, .n_tokens = 3, .subject_begin = 0, .subject_end = 1 } };
    struct edit_list edits = { 0 };
    struct site_means *means;
    struct site_set reads;
    struct collector all;
    struct err err = { 0 };
    size_t d = model->config.d_model;
    must(edit_parse(&edits, "resid_post:0-1@subject mean", &model->config, &err), &err);
    must(edit_parse(&edits, "resid_post:1@last zero", &model->config, &err), &err);
    must(edit_parse(&edits, "resid_post:1@last mean", &model->config, &err), &err);
    assert_int_equal(site_means_count(&edits), 2);
    must(site_set_init(&reads, &model->config, &err), &err);
    must(site_set_add(&reads, "resid_post", &err), &err);
    const struct forward f = { .prompts = prompts, .n_prompts = 2 };
    collect(&f, &reads, &all);
    must(site_means_create(&means, rt, &edits, &err), &err);
    must(site_means_add(means, prompts, 1, &err), &err); /* in two batches */
    must(site_means_add(means, prompts + 1, 1, &err), &err);
    must(site_means_fill(means, &edits, &err), &err);
    site_means_free(means);
    assert_int_equal(site_means_count(&edits), 0);
    assert_int_equal(edits.edits[0].n_vectors, 2);
    assert_int_equal(edits.edits[2].n_vectors, 1);
    static const size_t subject[] = { 1, 2, 4 }, last[] = { 3, 6 };
    for (size_t layer = 0; layer < 2; layer++) {
        const double *x = collector_rows(&all, SITE_RESID_POST, layer);
        for (size_t i = 0; i < d; i++) {
            double of_subject = 0, of_last = 0;
            for (size_t k = 0; k < 3; k++)
                of_subject += x[subject[k] * d + i] / 3;
            for (size_t k = 0; k < 2; k++)
                of_last += x[last[k] * d + i] / 2;
            assert_true(fabs((double)edits.edits[0].vector[layer * d + i] - of_subject) <
                        1e-6 * fmax(1, fabs(of_subject)));
            if (layer == 1)
                assert_true(fabs((double)edits.edits[2].vector[i] - of_last) < 1e-6 * fmax(1, fabs(of_last)));
        }
    }
    collector_release(&all);
    site_set_release(&reads);
    edit_list_release(&edits);
}

static void means_need_tokens(void **state)
{
    (void)state;
    const int32_t a[] = { 3, 4 };
    const struct prompt bare = { .tokens = a, .n_tokens = 2, .name = "bare" };
    struct edit_list edits = { 0 };
    struct site_means *means;
    struct err err = { 0 };
    must(edit_parse(&edits, "z:0@subject mean", &model->config, &err), &err);
    must(site_means_create(&means, rt, &edits, &err), &err);
    assert_int_equal(site_means_add(means, &bare, 1, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "edit 'z:0@subject mean' on prompt bare of the data set"));
    assert_int_equal(site_means_fill(means, &edits, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "no such token"));
    site_means_free(means);
    /* Unfilled, it does not run. */
    const struct forward f = { .prompts = &bare, .n_prompts = 1, .edits = &edits };
    edits.edits[0].at.kind = POSITIONS_ALL;
    assert_int_equal(runtime_forward(rt, &f, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "mean is not known"));
    edit_list_release(&edits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_as_it_says),
        cmocka_unit_test(wrong_files_are_refused_with_the_place),
        cmocka_unit_test(damaged_files_never_crash),
        cmocka_unit_test(patched_rows_are_those_of_the_other_prompt),
        cmocka_unit_test(edits_without_runs_cost_none),
        cmocka_unit_test(means_are_over_the_chosen_tokens),
        cmocka_unit_test(means_need_tokens),
    };
    return cmocka_run_group_tests_name("experiments", tests, open_model, close_model);
}
