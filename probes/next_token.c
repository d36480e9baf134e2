#include "probes/next_token.h"

#include "core/base/mem.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

int next_token_init(struct next_token *next, size_t most, struct err *err)
{
    *next = (struct next_token){ .most = most, .answer = { .id = -1 } };
    next->top = mem_array(most, sizeof *next->top);
    return next->top ? 0 : err_nomem(err, "the top tokens");
}

void next_token_release(struct next_token *next)
{
    free(next->top);
    *next = (struct next_token){ 0 };
}

/* Whether a comes behind b in the list. */
static bool behind(const struct ranked_token *a, const struct ranked_token *b)
{
    return a->logit < b->logit || (a->logit == b->logit && a->id > b->id);
}

/* Heap of the best so far with the worst of them at the root; at: a place whose item may be too good for it. */
static void sift_down(struct ranked_token *heap, size_t n, size_t at)
{
    for (;;) {
        size_t worst = at, child = 2 * at + 1;
        for (size_t c = child; c < n && c < child + 2; c++)
            if (behind(&heap[c], &heap[worst]))
                worst = c;
        if (worst == at)
            return;
        struct ranked_token item = heap[at];
        heap[at] = heap[worst];
        heap[worst] = item;
        at = worst;
    }
}

static void select_top(struct next_token *next, const double *logits, size_t n)
{
    struct ranked_token *heap = next->top;
    next->n_top = next->most < n ? next->most : n;
    for (size_t i = 0; i < next->n_top; i++)
        heap[i] = (struct ranked_token){ .id = (int32_t)i, .logit = logits[i] };
    for (size_t i = next->n_top / 2; i-- > 0;)
        sift_down(heap, next->n_top, i);
    for (size_t i = next->n_top; next->n_top && i < n; i++)
        if (logits[i] > heap->logit) {
            *heap = (struct ranked_token){ .id = (int32_t)i, .logit = logits[i] };
            sift_down(heap, next->n_top, 0);
        }
    /* Worst to the back, one by one. */
    for (size_t left = next->n_top; left > 1; left--) {
        struct ranked_token worst = heap[0];
        heap[0] = heap[left - 1];
        heap[left - 1] = worst;
        sift_down(heap, left - 1, 0);
    }
}

/* log sum_i exp(x_i) */
static double log_sum_exp(const double *x, size_t n)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        most = x[i] > x[most] ? i : most;
    double others = 0; /* than the greatest, whose own term is exp(0) */
    for (size_t i = 0; i < n; i++)
        others += i == most ? 0 : exp(x[i] - x[most]);
    return x[most] + log1p(others);
}

void next_token_measure(struct next_token *next, const double *logits, size_t n, int32_t answer)
{
    double log_sum = log_sum_exp(logits, n);
    select_top(next, logits, n);
    for (size_t i = 0; i < next->n_top; i++) {
        struct ranked_token *t = &next->top[i];
        t->logprob = t->logit - log_sum;
        t->rank = i && t->logit == t[-1].logit ? t[-1].rank : i + 1;
    }
    next->answer = (struct ranked_token){ .id = answer };
    next->answer_ties = 0;
    if (answer < 0)
        return;
    next->answer.logit = logits[answer];
    next->answer.logprob = logits[answer] - log_sum;
    next->answer.rank = 1;
    for (size_t i = 0; i < n; i++) {
        next->answer.rank += logits[i] > logits[answer];
        next->answer_ties += logits[i] == logits[answer] && i != (size_t)answer;
    }
}
