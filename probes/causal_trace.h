/*
 * Causal tracing of one fact (Meng et al. 2022, "Locating and Editing Factual
 * Associations in GPT", section 2; the arithmetic is that of their code).
 *
 *     struct causal_options o = { .kinds = CAUSAL_ALL, .n_samples = 10, .noise = 3 * sigma, .seed = 1, .window = 10 };
 *     struct causal_trace t;
 *     causal_trace_run(&t, rt, &prompt, answer, &o, progress, &err);   // the prompt has a subject
 *     double te = t.clean - t.corrupted, ie = t.p[CAUSAL_STATE][token * t.n_layers + layer] - t.corrupted;
 *     causal_trace_release(&t);
 *
 * Corrupted runs: Gaussian noise on the token embeddings (hook_embed, before
 * positions) of the subject, n_samples draws; p is the mean over the draws, of
 * the answer's probability at the last token. A restoration puts what the
 * clean run had at one token back into every corrupted run:
 *   state         hook_resid_post of one layer
 *   mlp, attn     hook_mlp_out, hook_attn_out of the `window` layers around one (probes/windows.h)
 *   severed_mlp, severed_attn   as state, at the subject's last token, while the MLP (attention) outputs of later
 *                 layers of that token stay what they were in the corrupted run
 * Total effect TE = p clean - p corrupted, indirect effect IE = p restored - p corrupted.
 * Probabilities are the model's own (its final norm on each run's own final residual).
 */
#ifndef STRATA_PROBES_CAUSAL_TRACE_H
#define STRATA_PROBES_CAUSAL_TRACE_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"

/* name, what is restored. The severed ones are measured at the subject's last token, the others at every token. */
#define CAUSAL_KINDS(X)                                                                                                \
    X(STATE, "state", "the residual state after one layer")                                                            \
    X(MLP, "mlp", "FFN outputs of a window of layers")                                                                 \
    X(ATTN, "attn", "attention outputs of a window of layers")                                                         \
    X(SEVERED_MLP, "severed_mlp", "the state, later FFN outputs of that token frozen corrupted")                       \
    X(SEVERED_ATTN, "severed_attn", "the state, later attention outputs of that token frozen corrupted")
enum causal_kind {
#define X(id, name, what) CAUSAL_##id,
    CAUSAL_KINDS(X)
#undef X
        N_CAUSAL_KINDS
};
enum { CAUSAL_ALL = (1 << N_CAUSAL_KINDS) - 1 };
const char *causal_kind_name(enum causal_kind kind);
/* Whether it is measured at every token. */
static inline bool causal_is_grid(enum causal_kind kind)
{
    return kind < CAUSAL_SEVERED_MLP;
}

/* Where a token stands: the first that holds, in this order. */
#define CAUSAL_ROLES(X)                                                                                                \
    X(LAST, "last token")                                                                                              \
    X(SUBJECT_LAST, "last subject token")                                                                              \
    X(SUBJECT_FIRST, "first subject token")                                                                            \
    X(SUBJECT_MIDDLE, "middle subject tokens")                                                                         \
    X(AFTER, "first token after")                                                                                      \
    X(FURTHER, "further tokens")                                                                                       \
    X(BEFORE, "before the subject")
enum causal_role {
#define X(id, name) CAUSAL_ROLE_##id,
    CAUSAL_ROLES(X)
#undef X
        N_CAUSAL_ROLES
};
const char *causal_role_name(enum causal_role role);
/* n_read: tokens up to and with the one that is read. */
enum causal_role causal_role_of(size_t token, size_t n_read, size_t subject_begin, size_t subject_end);

struct causal_options {
    unsigned kinds; /* 1 << CAUSAL_STATE | ...; 0: only the clean and the corrupted runs */
    size_t n_samples;
    double noise; /* standard deviation */
    uint64_t seed;
    size_t window; /* layers, >= 1 */
    size_t memory; /* bytes of base runs at a time, so that draws of long prompts run in groups; 0: 1 GiB */
};

struct causal_trace {
    size_t n_tokens, n_layers;
    double clean, corrupted;   /* p(answer) */
    int32_t clean_rank;        /* of the answer, 1 = top */
    double *samples;           /* [n_samples] p(answer) of each corrupted run */
    double *p[N_CAUSAL_KINDS]; /* [n_tokens, n_layers], severed ones [n_layers]; NULL where not asked for */
    double *memory;            /* owned: what the others point into */
    size_t row_layers;         /* what the restorations cost (replay.h) */
};

/* ERR_ARG for a prompt without subject, or no answer (-1). The same seed gives the same noise. */
int causal_trace_run(struct causal_trace *out, struct runtime *rt, const struct prompt *prompt, int32_t answer,
                     const struct causal_options *o, struct progress *progress, struct err *err);
/* One of zeros, to be filled from a file. */
int causal_trace_make(struct causal_trace *out, const struct causal_options *o, size_t n_tokens, size_t n_layers,
                      struct err *err);
void causal_trace_release(struct causal_trace *t); /* also of a zeroed struct */

/* Restored runs of such a prompt: what progress counts. */
size_t causal_trace_variants(const struct causal_options *o, size_t n_tokens, size_t n_layers);

/*
 * The spread of token embeddings (hook_embed) over the subjects of many prompts, for noise: sample standard deviation
 * of all components of all subject tokens.
 *
 *     struct subject_spread s = { 0 };
 *     subject_spread_add(&s, rt, prompts, n, &err);    // any number of times
 *     double noise = 3 * subject_spread(&s);           // NaN before any subject token
 */
struct subject_spread {
    uint64_t n;
    double mean, squares; /* Welford 1962 */
};
int subject_spread_add(struct subject_spread *s, struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                       struct err *err);
double subject_spread(const struct subject_spread *s);

#endif
