/*
 * FFN neurons as memories (Geva et al. 2022, "Transformer Feed-Forward Layers
 * Build Predictions by Promoting Concepts in the Vocabulary Space"): an FFN
 * adds sum_n m_n v_n to the stream, with the coefficient m_n (mlp.hook_post) and
 * the value vector v_n, column n of W_out. Which neurons fire at the last token
 * of a fact, what each adds to the answer, what its value vector says, and what
 * becomes of the answer without it.
 *
 *     struct neuron_activity a;
 *     neuron_activity_run(&a, rt, prompts, contrasts, n, 50, NULL, &err);
 *     struct neuron *first = &a.by_logit[i * a.top];      // adds most to fact i's answer
 *     struct neuron_tokens t;
 *     neuron_tokens_run(&t, rt, first, 10, 8, NEURON_TOKENS_GEVA, NULL, &err);
 *     t.up[0 * 8 + 0]                                     // the token that it promotes most
 *     neuron_tokens_release(&t);
 *     neuron_activity_release(&a);
 *
 * Contributions: norm convention `attribution` (logit_direction.h), the final
 * norm of the finished residual held fixed. Sums are in double.
 */
#ifndef STRATA_PROBES_NEURONS_H
#define STRATA_PROBES_NEURONS_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"
#include "probes/head_ablation.h"
#include "probes/logit_direction.h"

/* Of a layer's largest coefficients, for the overlap between paraphrases. */
enum { NEURON_FIRED = 10 };

struct neuron {
    size_t layer, unit;
    double coefficient; /* m_n */
    double size;        /* |m_n| ||v_n|| */
    double logit;       /* what m_n v_n adds to the answer's logit, or to the contrast */
};

/* All owned. */
struct neuron_activity {
    size_t n_facts, n_layers, top;
    struct neuron *by_logit; /* [n_facts, top] of all layers, largest contribution first */
    struct neuron *by_size;  /* [n_facts, top] of all layers, largest |m| ||v|| first */
    int32_t *fired;          /* [n_facts, n_layers, NEURON_FIRED] of a layer, largest |m| first; -1: no more neurons */
    double *entropy;         /* [n_facts, n_layers] nats, of |m_n| ||v_n|| as shares of their sum */
    double *logit;           /* [n_facts, n_layers] what all neurons of the layer add (W_out's bias apart) */
};

/* An error where the model's MLPs are mixtures of experts: their neurons have no site. */
int neurons_check(const struct model *m, struct err *err);

/* top: at most the neurons of all layers. progress counts facts and may be NULL, here and below. */
int neuron_activity_run(struct neuron_activity *a, struct runtime *rt, const struct prompt *prompts,
                        const struct logit_contrast *contrasts, size_t n_facts, size_t top, struct progress *progress,
                        struct err *err);
void neuron_activity_release(struct neuron_activity *a); /* also of a zeroed struct */

/*
 * How far paraphrases agree: per layer, the share of the NEURON_FIRED largest
 * coefficients that two facts have in common, mean over all pairs of facts of
 * one group, and as a control over as many pairs of facts of different groups,
 * drawn with the seed. same, other: [n_layers], NaN without such pairs.
 */
void neuron_overlap(const struct neuron_activity *a, const uint32_t *group, uint64_t seed, double *same, double *other,
                    size_t *n_pairs);

/*
 * What value vectors say: W_U v_n over the vocabulary. GEVA: no norm, as in the
 * paper; GAIN: under the final norm's gain (LayerNorm: its mean taken out), as
 * the model reads it, and before that of the norm after the MLP where there is one. Neither has the unembedding's
 * bias.
 */
enum neuron_tokens_norm { NEURON_TOKENS_GEVA, NEURON_TOKENS_GAIN };

struct neuron_tokens {
    size_t n, k;
    int32_t *up, *down;           /* [n, k] highest, lowest score first; owned, as the rest */
    float *up_score, *down_score; /* [n, k] */
    int32_t *rank;                /* [n] of the token that was asked for, 1 = top; 0 where none was */
};

/* tokens: [n] whose rank is wanted, -1: none; or NULL. k: at most the vocabulary's size. */
int neuron_tokens_run(struct neuron_tokens *t, struct runtime *rt, const struct neuron *neurons, size_t n, size_t k,
                      enum neuron_tokens_norm norm, const int32_t *tokens, struct err *err);
void neuron_tokens_release(struct neuron_tokens *t); /* also of a zeroed struct */

/*
 * The answer without the first counts[c] neurons of a.by_logit of each fact, set
 * to zero at the last token, and without as many others of the same layers (the
 * control). Variants and draws as in head_ablation_ranked: column (1 + draw) *
 * n_counts + c. counts rise, the last is at most a.top.
 */
int neuron_ablation_run(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                        const int32_t *answers, const struct neuron_activity *a, const size_t *counts, size_t n_counts,
                        size_t n_draws, uint64_t seed, struct progress *progress, struct err *err);

#endif
