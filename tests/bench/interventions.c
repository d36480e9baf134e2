/*
 * Interventions on a few facts:
 *
 *     interventions TASK MODEL FACTS THREADS
 *
 * TASK: knockout (windows of 10 layers around each layer x 3 key sets), heads (each head off at the last token), causal
 * (all tokens x all layers x 10 samples of noise 0.09). Prints seconds a fact, without loading the model.
 */
#include "core/base/mem.h"
#include "core/runtime/prepare.h"
#include "probes/causal_trace.h"
#include "probes/head_ablation.h"
#include "probes/knockout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int knockout(struct runtime *rt, const struct prompt *prompts, const int32_t *answers, size_t n, struct err *err)
{
    struct knockout k = { 0 };
    const struct knockout_input in = { .prompts = prompts, .answers = answers, .n_facts = n, .window = 10 };
    int rc = knockout_run(&k, rt, &in, NULL, err);
    knockout_release(&k);
    return rc;
}

static int heads(struct runtime *rt, const struct prompt *prompts, const int32_t *answers, size_t n, struct err *err)
{
    struct ablation_run r = { 0 };
    const struct head_ablation_options o = { .mode = ABLATION_ZERO };
    int rc = head_ablation_singles(&r, rt, prompts, answers, n, &o, NULL, err);
    ablation_run_release(&r);
    return rc;
}

static int causal(struct runtime *rt, const struct prompt *prompts, const int32_t *answers, size_t n, struct err *err)
{
    int rc = 0;
    const struct causal_options o = {
        .kinds = 1 << CAUSAL_STATE, .n_samples = 10, .noise = 0.09, .seed = 1, .window = 10
    };
    for (size_t i = 0; !rc && i < n; i++) {
        struct causal_trace t = { 0 };
        rc = causal_trace_run(&t, rt, &prompts[i], answers[i], &o, NULL, err);
        causal_trace_release(&t);
    }
    return rc;
}

static const struct task {
    const char *name;
    int (*run)(struct runtime *rt, const struct prompt *prompts, const int32_t *answers, size_t n, struct err *err);
} tasks[] = { { "knockout", knockout }, { "heads", heads }, { "causal", causal } };

static int run_facts(struct runtime *rt, const struct task *task, const char *path, struct err *err)
{
    struct facts *facts = NULL;
    struct batcher *batcher = NULL;
    struct batch *batch;
    size_t n = 0;
    double seconds = 0;
    int rc = facts_open(&facts, path, err);
    rc = rc ? rc : batcher_open(&batcher, runtime_model(rt), facts, SPECIALS_AUTO, SIZE_MAX, runtime_batch_rows(), err);
    while (!rc && (rc = batcher_next(batcher, &batch, err)) > 0) {
        int32_t *answers = mem_array(batch->n, sizeof *answers);
        rc = answers ? 0 : err_nomem(err, "the answers");
        for (size_t i = 0; !rc && i < batch->n; i++)
            answers[i] = batch->items[i].answer_token;
        double begin = now();
        rc = rc ? rc : task->run(rt, batch->prompts, answers, batch->n, err);
        seconds += now() - begin;
        n += batch->n;
        free(answers);
    }
    if (!rc)
        printf("%.4f\n", seconds / (double)n);
    batcher_close(batcher);
    facts_close(facts);
    return rc;
}

int main(int argc, char **argv)
{
    const struct task *task = NULL;
    for (size_t i = 0; argc == 5 && i < sizeof tasks / sizeof *tasks; i++)
        if (!strcmp(argv[1], tasks[i].name))
            task = &tasks[i];
    if (!task) {
        fprintf(stderr, "usage: interventions knockout|heads|causal MODEL FACTS THREADS\n");
        return 2;
    }
    struct err err = { 0 };
    struct pool *pool = NULL;
    struct model *m = NULL;
    struct runtime *rt = NULL;
    int rc = pool_create(&pool, atoi(argv[4]), &err);
    rc = rc ? rc : model_open(&m, argv[2], pool, &err);
    rc = rc ? rc : runtime_create(&rt, m, pool, PRECISION_F32, &err);
    rc = rc ? rc : run_facts(rt, task, argv[3], &err);
    if (rc)
        fprintf(stderr, "interventions: %s\n", err.msg);
    runtime_free(rt);
    model_free(m);
    pool_free(pool);
    return rc != 0;
}
