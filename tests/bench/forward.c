/*
 * The forward pass alone, over batches of real prompts, every layer run and
 * nothing kept: what dumps and lenses are measured against.
 *
 *     forward MODEL FACTS LIMIT THREADS REPEATS
 *
 * prints "prompts tokens seconds GF/s", the best of the repeats; GF/s counts the weight matrices of the blocks only.
 */
#include "core/runtime/prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ignore(struct sink *self, const struct site_view *view, struct err *err)
{
    (void)self, (void)view, (void)err;
    return 0;
}

/* Multiplications and additions per token. */
static double flops_of(const struct model *m)
{
    double sum = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const struct layer *w = &m->layers[l];
        const struct matrix *all[] = { &w->q, &w->k, &w->v, &w->o, &w->mlp.gate, &w->mlp.up, &w->mlp.down };
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            sum += 2.0 * (double)all[i]->n_out * (double)all[i]->n_in;
    }
    return sum;
}

struct totals {
    size_t prompts, tokens;
    double seconds;
};

static int run_once(struct runtime *rt, const char *path, size_t limit, struct totals *t, struct err *err)
{
    const struct model *m = runtime_model(rt);
    struct sink sink = { ignore };
    struct site_set reads;
    struct facts *facts = NULL;
    struct batcher *batcher = NULL;
    struct batch *batch;
    *t = (struct totals){ 0 };
    int rc = site_set_init(&reads, &m->config, err);
    if (!rc) {
        site_set_add_one(&reads, (struct site_ref){ SITE_RESID_POST, m->config.n_layers - 1 });
        rc = facts_open(&facts, path, err);
    }
    rc = rc ? rc : batcher_open(&batcher, m, facts, SPECIALS_AUTO, limit, runtime_batch_rows(), err);
    while (!rc && (rc = batcher_next(batcher, &batch, err)) > 0) {
        struct forward f = { .prompts = batch->prompts, .n_prompts = batch->n, .reads = &reads, .sink = &sink };
        double begin = now();
        rc = runtime_forward(rt, &f, err);
        t->seconds += now() - begin;
        t->prompts += batch->n;
        t->tokens += batch->n_rows;
    }
    batcher_close(batcher);
    facts_close(facts);
    site_set_release(&reads);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: forward MODEL FACTS LIMIT THREADS REPEATS\n");
        return 2;
    }
    struct err err = { 0 };
    struct pool *pool = NULL;
    struct model *m = NULL;
    struct runtime *rt = NULL;
    struct totals best = { 0 };
    int rc = pool_create(&pool, atoi(argv[4]), &err);
    rc = rc ? rc : model_open(&m, argv[1], pool, &err);
    rc = rc ? rc : runtime_create(&rt, m, pool, PRECISION_F32, &err);
    for (int i = 0; !rc && i < atoi(argv[5]); i++) {
        struct totals t;
        rc = run_once(rt, argv[2], (size_t)atol(argv[3]), &t, &err);
        if (!i || t.seconds < best.seconds)
            best = t;
    }
    if (rc)
        fprintf(stderr, "forward: %s\n", err.msg);
    else
        printf("%zu %zu %.4f %.1f\n", best.prompts, best.tokens, best.seconds,
               1e-9 * flops_of(m) * (double)best.tokens / best.seconds);
    runtime_free(rt);
    model_free(m);
    pool_free(pool);
    return rc != 0;
}
