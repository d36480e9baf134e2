/*
 * Attention knockout: where the last token takes what it needs from. The last
 * query's edges to a set of keys are removed (-inf before the softmax, so the
 * rest renormalises) in all heads of a window of layers around each layer, and
 * the answer's probability is measured again (Geva et al. 2023, "Dissecting
 * recall of factual associations", section 5).
 *
 *     struct knockout k;
 *     const struct knockout_input in = { .prompts = prompts, .answers = answers, .n_facts = n, .window = 5 };
 *     if (knockout_run(&k, rt, &in, NULL, &err)) ...
 *     printf("%+.0f %%\n", k.change[(fact * KNOCKOUT_SETS + KNOCKOUT_SUBJECT) * k.n_layers + layer]);
 *     knockout_release(&k);
 *
 * Key sets: the subject's tokens; all others but the last; the last itself.
 * Change: 100 (p_new - p_base) / p_base, in percent. A query whose keys are all blocked gets a pattern of zeros
 * (attention then adds the output bias alone): not the uniform row of the lowest finite float, nor NaN (core/runtime
 * edit.h); that happens only to a prompt of one token, and to prompts that are nothing but subject.
 *
 * Norm convention: the model's own final norm (`lens`). Cost: a variant computes the last token alone, from its first
 * blocked layer on: about 1.5 n_layers^2 row-layers a fact, for all three sets.
 */
#ifndef STRATA_PROBES_KNOCKOUT_H
#define STRATA_PROBES_KNOCKOUT_H

#include "probes/outcomes.h"
#include "probes/windows.h"

#define KNOCKOUT_KEYS(X)                                                                                               \
    X(SUBJECT, "subject")                                                                                              \
    X(NON_SUBJECT, "non-subject")                                                                                      \
    X(LAST, "last")
enum knockout_keys {
#define X(id, name) KNOCKOUT_##id,
    KNOCKOUT_KEYS(X)
#undef X
        KNOCKOUT_SETS
};
const char *knockout_keys_name(enum knockout_keys keys);

/* The odd number nearest to 3/16 of the layers: 9 of GPT-2 XL's 48, as published; 5 of 30. At least 1. */
size_t knockout_window(size_t n_layers);

struct knockout_input {
    const struct prompt *prompts; /* [n_facts] with subjects */
    const int32_t *answers;       /* [n_facts]; -1: the model's own top token, as in the paper */
    size_t n_facts;
    size_t window;   /* layers; 0 changes nothing */
    bool known_only; /* only facts whose answer is on rank 1; of the others all but the base is NaN */
    bool tokens;     /* also each token of its own as the blocked key */
    /*
     * Token 0 is in no key set: a variant, not the paper's. Much attention rests on the first token whatever it is
     * (an attention sink), so that blocking it is an intervention of its own, in whichever set it falls.
     */
    bool spare_first;
};

struct knockout {
    size_t n_facts, n_layers, window;
    int32_t *answer;               /* [n_facts] */
    int32_t *base_rank;            /* [n_facts] 1 = top */
    double *base_prob;             /* [n_facts] */
    double *prob;                  /* [n_facts, KNOCKOUT_SETS, n_layers] with the window around that layer */
    double *change;                /* the same, in percent */
    size_t *first_token;           /* [n_facts + 1] where a fact's tokens begin in token_prob */
    double *token_prob;            /* [sum of tokens, n_layers]; NULL unless asked for */
    size_t n_known;                /* facts with base_rank 1 */
    size_t n_empty[KNOCKOUT_SETS]; /* measured facts where the set has no token, so that nothing changes */
    size_t n_first;                /* measured facts whose subject has token 0 */
    size_t n_variants, row_layers; /* what it cost, base runs apart */
};

/* A prompt without a subject is an error (ERR_ARG). progress counts variants; it may be NULL. */
int knockout_run(struct knockout *k, struct runtime *rt, const struct knockout_input *in, struct progress *progress,
                 struct err *err);
void knockout_release(struct knockout *k); /* also of a zeroed struct */

/* The layers blocked around `layer`. */
static inline struct layer_window knockout_layers(const struct knockout *k, size_t layer)
{
    return window_around(layer, k->window, k->n_layers);
}

/* Early, middle, late: the mean change over windows around the first, second and last third of the layers. */
enum { KNOCKOUT_THIRDS = 3 };
void knockout_thirds(const double *change, size_t n_layers, double out[KNOCKOUT_THIRDS]);

#endif
