#include "probes/head_patterns.h"

#include "core/base/mem.h"
#include "core/base/random.h"

#include <stdlib.h>

const char *head_pattern_name(enum head_pattern pattern)
{
    static const char *const names[] = {
#define X(id, name, edges) name,
        HEAD_PATTERNS(X)
#undef X
    };
    return names[pattern];
}

struct taker {
    struct sink sink; /* first */
    struct head_patterns *p;
    size_t heads_a_layer;
};

/* Mean weight of the edges q -> q - back, over queries from `first` on. */
static double diagonal(const struct site_view *v, size_t head, size_t n, size_t first, size_t back)
{
    double sum = 0;
    for (size_t q = first; q < n; q++)
        sum += site_view_at(v, (head * n + q) * n + q - back);
    return sum / (double)(n - first);
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    const struct taker *t = (struct taker *)(void *)self;
    struct head_patterns *p = t->p;
    size_t half = p->n_tokens, n = 2 * half;
    double share = 1 / (double)p->n_prompts;
    (void)err;
    for (size_t h = 0; h < t->heads_a_layer; h++) {
        size_t at = v->layer * t->heads_a_layer + h;
        p->score[PATTERN_PREVIOUS][at] += share * diagonal(v, h, n, 1, 1);
        p->score[PATTERN_DUPLICATE][at] += share * diagonal(v, h, n, half, half);
        p->score[PATTERN_INDUCTION][at] += share * diagonal(v, h, n, half - 1, half - 1);
    }
    return 0;
}

static void choose_tokens(const struct head_patterns *p, uint64_t seed, int32_t *tokens)
{
    struct random_source random;
    uint64_t n_ids = (uint64_t)(p->last_id - p->first_id) + 1;
    size_t half = p->n_tokens;
    random_seed(&random, seed);
    for (size_t i = 0; i < p->n_prompts; i++, tokens += 2 * half)
        for (size_t k = 0; k < half; k++)
            tokens[k] = tokens[half + k] = p->first_id + (int32_t)random_below(&random, n_ids);
}

static int run_model(struct taker *t, struct runtime *rt, const int32_t *tokens, struct err *err)
{
    struct site_set reads;
    size_t n = 2 * t->p->n_tokens;
    struct prompt *prompts = mem_array(t->p->n_prompts, sizeof *prompts);
    int rc = site_set_init(&reads, &runtime_model(rt)->config, err);
    rc = rc ? rc : prompts ? site_set_add(&reads, "blocks.*.attn.hook_pattern", err) : err_nomem(err, "random prompts");
    for (size_t i = 0; !rc && i < t->p->n_prompts; i++)
        prompts[i] = (struct prompt){ .tokens = tokens + i * n, .n_tokens = n };
    /* One at a time: the squares of long prompts are large. */
    for (size_t i = 0; !rc && i < t->p->n_prompts; i++) {
        const struct forward f = { .prompts = &prompts[i], .n_prompts = 1, .reads = &reads, .sink = &t->sink };
        rc = runtime_forward(rt, &f, err);
    }
    free(prompts);
    site_set_release(&reads);
    return rc;
}

static void choose_sizes(struct head_patterns *p, const struct model_config *c, const struct head_patterns_options *o)
{
    p->n_heads = c->n_layers * c->n_heads;
    p->n_prompts = o->n_prompts ? o->n_prompts : PATTERN_PROMPTS;
    p->n_tokens = o->n_tokens ? o->n_tokens : PATTERN_TOKENS;
    if (p->n_tokens > c->n_ctx / 2)
        p->n_tokens = c->n_ctx / 2;
    bool large = c->d_vocab > PATTERN_LAST_ID;
    p->first_id = large ? PATTERN_FIRST_ID : 0;
    p->last_id = large ? PATTERN_LAST_ID : (int32_t)c->d_vocab - 1;
}

int head_patterns_run(struct head_patterns *p, struct runtime *rt, const struct head_patterns_options *o,
                      struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct taker t = { .sink = { take }, .p = p, .heads_a_layer = c->n_heads };
    size_t n;
    int rc = 0;
    *p = (struct head_patterns){ 0 };
    choose_sizes(p, c, o);
    if (p->n_tokens < 2)
        return err_set(err, ERR_ARG, "random tokens must be repeated: at least 2, and twice as many in the context");
    if (!size_mul(p->n_prompts, 2 * p->n_tokens, &n))
        return err_nomem(err, "random prompts");
    int32_t *tokens = mem_array(n, sizeof *tokens);
    rc = tokens ? 0 : err_nomem(err, "random prompts");
    for (size_t i = 0; !rc && i < N_HEAD_PATTERNS; i++)
        if (!(p->score[i] = mem_zeroed(p->n_heads, sizeof *p->score[i])))
            rc = err_nomem(err, "scores of heads");
    if (!rc) {
        choose_tokens(p, o->seed, tokens);
        rc = run_model(&t, rt, tokens, err);
    }
    free(tokens);
    if (rc)
        head_patterns_release(p);
    return rc;
}

void head_patterns_release(struct head_patterns *p)
{
    for (size_t i = 0; i < N_HEAD_PATTERNS; i++)
        free(p->score[i]);
    *p = (struct head_patterns){ 0 };
}
