/*
 * The logit lens of 20 facts on the demo model against transformers in float64 (make_smollm2_references.py): tokens,
 * answer tokens, ranks and log probabilities at all 31 depths. Skipped where the model has not been fetched.
 */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/runtime/prepare.h"
#include "probes/lens_batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"
#include "tests/shared_pool.h"

#define MODEL "data/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define REFERENCES "tests/golden/smollm2_lens.json"

enum { MOST_FACTS = 32, STATES = 31, TOP = 5 };

static struct {
    struct pool *pool;
    struct model *model;
    json_t *facts;
    size_t n;
    struct prepared items[MOST_FACTS];
    struct prompt prompts[MOST_FACTS];
    unsigned char *keep; /* last tokens */
    int32_t answers[MOST_FACTS];
} demo;

static long whole(const json_t *object, const char *key, size_t i)
{
    const json_t *number = json_array_get(json_object_get(object, key), i);
    if (!json_is_integer(number))
        fail_msg("no %s[%zu] in the references", key, i);
    return (long)json_integer_value(number);
}

static int start(void **state)
{
    struct err err = { 0 };
    struct file_map map;
    json_t *root;
    (void)state;
    if (!file_exists(MODEL))
        return 0;
    if (pool_create(&demo.pool, test_threads(), &err) || model_open(&demo.model, MODEL, demo.pool, &err) ||
        file_map_open(&map, REFERENCES, &err) || json_parse(map.data, map.size, map.name, &root, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    demo.facts = json_incref(json_object_get(root, "facts"));
    demo.n = json_array_size(demo.facts);
    json_decref(root);
    file_map_close(&map);
    return demo.n && demo.n <= MOST_FACTS ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < MOST_FACTS; i++)
        prepared_release(&demo.items[i]);
    free(demo.keep);
    json_decref(demo.facts);
    model_free(demo.model);
    pool_free(demo.pool);
    return 0;
}

static void skip_without_model(void)
{
    if (demo.model)
        return;
    print_message(MODEL " is not there: `make demo` fetches it\n");
    skip();
}

static void tokens_and_answers_are_those_of_transformers(void **state)
{
    (void)state;
    skip_without_model();
    size_t n_rows = 0;
    for (size_t i = 0; i < demo.n; i++) {
        const json_t *ref = json_array_get(demo.facts, i);
        const struct fact fact = { .id = "0",
                                   .prompt = json_string_value(json_object_get(ref, "prompt")),
                                   .answer = json_string_value(json_object_get(ref, "answer")),
                                   .answer_token = -1 };
        struct err err = { 0 };
        struct prepared *p = &demo.items[i];
        must(prepare_fact(demo.model, &fact, SPECIALS_AUTO, "fact", p, &err), &err);
        assert_int_equal(p->tokens.n, json_array_size(json_object_get(ref, "tokens")));
        for (size_t t = 0; t < p->tokens.n; t++)
            assert_int_equal(p->tokens.id[t], whole(ref, "tokens", t));
        demo.answers[i] = (int32_t)json_integer_value(json_object_get(ref, "answer_token"));
        assert_int_equal(p->answer_token, demo.answers[i]);
        demo.prompts[i] = (struct prompt){ .tokens = p->tokens.id, .n_tokens = p->tokens.n, .name = fact.prompt };
        n_rows += p->tokens.n;
    }
    demo.keep = calloc(n_rows, 1);
    assert_non_null(demo.keep);
    for (size_t i = 0, row = 0; i < demo.n; i++) {
        row += demo.prompts[i].n_tokens;
        demo.keep[row - 1] = 1;
    }
}

/* Ranks may differ by the tokens whose logits are nearer than float can tell; in double by none. */
static void compare(const struct lens_batch *b, size_t fact, bool wide)
{
    const json_t *ref = json_array_get(demo.facts, fact);
    for (size_t s = 0; s < STATES; s++) {
        size_t i = fact * STATES + s;
        long rank = whole(ref, "rank", s), near = wide ? 0 : whole(ref, "near", s);
        double logprob = json_number_value(json_array_get(json_object_get(ref, "logprob"), s));
        /* Stored as float; logits reach 60 and are good to 1e-5 of it. */
        double bound = wide ? 2e-7 * fabs(logprob) + 1e-7 : 1e-5 * (fabs(logprob) + 60);
        if (labs(b->result.rank[i] - rank) > near || b->result.ties[i] > near)
            fail_msg("'%s', state %zu: rank %d (%d ties), not %ld (+- %ld)", demo.prompts[fact].name, s,
                     (int)b->result.rank[i], (int)b->result.ties[i], rank, near);
        if (!(fabs((double)b->result.logprob[i] - logprob) <= bound))
            fail_msg("'%s', state %zu: logprob %.9g, not %.9g", demo.prompts[fact].name, s,
                     (double)b->result.logprob[i], logprob);
    }
    for (size_t t = 0; t < TOP; t++)
        assert_int_equal(b->result.top_token[(fact * STATES + STATES - 1) * TOP + t], whole(ref, "top", t));
}

static void run_lens(enum precision precision, struct runtime **rt, struct lens_batch *b)
{
    struct err err = { 0 };
    must(runtime_create(rt, demo.model, demo.pool, precision, &err), &err);
    must(lens_batch_init(b, *rt, LENS_RESID, TOP, &err), &err);
    assert_int_equal(b->n_states, STATES);
    must(lens_batch_run(b, demo.prompts, demo.n, demo.keep, demo.answers, NULL, &err), &err);
    assert_int_equal(b->n_rows, demo.n);
}

static void ranks_at_every_depth_are_those_of_transformers(void **state)
{
    (void)state;
    skip_without_model();
    for (int wide = 0; wide < 2; wide++) {
        struct runtime *rt;
        struct lens_batch b;
        run_lens(wide ? PRECISION_F64 : PRECISION_F32, &rt, &b);
        for (size_t i = 0; i < demo.n; i++)
            compare(&b, i, wide);
        lens_batch_release(&b);
        runtime_free(rt);
    }
}

/* A norm left out at one depth, or heads mixed up, would not pass for rounding. */
static void a_wrong_weight_changes_ranks(void **state)
{
    (void)state;
    skip_without_model();
    struct runtime *rt;
    struct lens_batch b;
    size_t changed = 0;
    struct matrix o = demo.model->layers[20].o;
    demo.model->layers[20].o = demo.model->layers[19].o;
    run_lens(PRECISION_F32, &rt, &b);
    demo.model->layers[20].o = o;
    for (size_t i = 0; i < demo.n; i++)
        for (size_t s = 0; s < STATES; s++) {
            const json_t *ref = json_array_get(demo.facts, i);
            changed += labs(b.result.rank[i * STATES + s] - whole(ref, "rank", s)) > whole(ref, "near", s);
        }
    assert_true(changed > demo.n * 8);
    lens_batch_release(&b);
    runtime_free(rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_and_answers_are_those_of_transformers),
        cmocka_unit_test(ranks_at_every_depth_are_those_of_transformers),
        cmocka_unit_test(a_wrong_weight_changes_ranks),
    };
    return cmocka_run_group_tests_name("smollm2", tests, start, stop);
}
