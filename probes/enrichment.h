/*
 * Subject enrichment: how much a state says about the subject. Each state goes
 * through the unembedding; of its top 500 tokens the first 50 that say
 * something are kept; the attributes rate is the share of them, in percent,
 * that are attributes of the subject (Geva et al. 2023, section 7).
 *
 *     struct enrichment e;
 *     const struct enrichment_input in = { .prompts = prompts, .answers = answers, .n_facts = n, .sets = &sets,
 *                                          .own = own, .control = control,
 *                                          .positions = 1u << ENRICHMENT_SUBJECT_LAST };
 *     if (enrichment_run(&e, rt, &in, &err)) ...
 *     size_t i = enrichment_at(&e, fact, ENRICHMENT_SUBJECT_LAST, state);
 *     printf("%.1f %% against %.1f %% of another subject's\n", e.own.rate[i], e.control.rate[i]);
 *     enrichment_release(&e);
 *
 * Attribute sets from a data set's own answers hold a few tokens (attributes.h), so the rate has a low ceiling:
 * enrichment_ceiling. Beside it stands the recall, the share of the set, in percent, that is among the 500, which has
 * no such ceiling. Both mean something only against the control: the set of a random other subject.
 *
 * Conventions, by name: `geva`, the published one, has no final norm (E h); `lens` applies the model's own. Where the
 * final norm's gain differs much between dimensions, `geva` shows little of what the model itself would read (on
 * SmolLM2-135M it finds a fifth of the answers' attributes at the last token after the last block, `lens` four fifths).
 * State 0 is what enters the first block, state l + 1 what leaves block l; no state went through the final norm before.
 */
#ifndef STRATA_PROBES_ENRICHMENT_H
#define STRATA_PROBES_ENRICHMENT_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"
#include "probes/attributes.h"
#include "probes/windows.h"

enum enrichment_norm { ENRICHMENT_GEVA, ENRICHMENT_LENS };
enum { ENRICHMENT_TOP = 500, ENRICHMENT_KEPT = 50 };

#define ENRICHMENT_POSITIONS(X)                                                                                        \
    X(SUBJECT_LAST, "subject-last")                                                                                    \
    X(SUBJECT_FIRST, "subject-first")                                                                                  \
    X(AFTER_SUBJECT, "after-subject")                                                                                  \
    X(LAST, "last")
enum enrichment_position {
#define X(id, name) ENRICHMENT_##id,
    ENRICHMENT_POSITIONS(X)
#undef X
        ENRICHMENT_N_POSITIONS
};
const char *enrichment_position_name(enum enrichment_position position);

struct enrichment_input {
    const struct prompt *prompts; /* [n_facts] with subjects */
    const int32_t *answers;       /* [n_facts], each may be -1; or NULL */
    size_t n_facts;
    const struct attribute_sets *sets;
    const size_t *own,
        *control; /* [n_facts] numbers of sets; SIZE_MAX: none, its numbers are NaN. control may be NULL */
    enum enrichment_norm norm;
    unsigned positions; /* bits: 1u << enum enrichment_position */
};

/* Of one choice of sets; NaN where there is no set, no such position, or (recall) the set is empty. Percent. */
struct enrichment_rates {
    double *rate, *recall; /* [n_facts, n_positions, n_states] */
};

struct enrichment {
    size_t n_facts, n_positions, n_states;
    int index[ENRICHMENT_N_POSITIONS]; /* of a position among those asked for, -1: not asked for */
    struct enrichment_rates own, control;
    int32_t *answer_rank; /* the same shape; 1 = top, 0: no answer or no such position */
};

static inline size_t enrichment_at(const struct enrichment *e, size_t fact, enum enrichment_position position,
                                   size_t state)
{
    return (fact * e->n_positions + (size_t)e->index[position]) * e->n_states + state;
}

int enrichment_run(struct enrichment *e, struct runtime *rt, const struct enrichment_input *in, struct err *err);
void enrichment_release(struct enrichment *e); /* also of a zeroed struct */

/* The highest rate that a set of n tokens allows, in percent. */
double enrichment_ceiling(size_t n);

/*
 * Sublayer knockout: the rate at the subject's last token after one block, with attention or MLP sublayers of a
 * window of earlier layers removed. Modes, by name:
 *   uniform  the published program's: attention flattened over the causal prefix (it adds the lowest float to every
 *            score); MLP neurons set to 0, so that only the output bias stays
 *   zero     the sublayer's output is 0
 *   mean     the sublayer's output is its mean over tokens of a data set (enrichment_means)
 */
#define ENRICHMENT_MODES(X) X(UNIFORM, "uniform") X(ZERO, "zero") X(MEAN, "mean")
enum enrichment_mode {
#define X(id, name) ENRICHMENT_##id,
    ENRICHMENT_MODES(X)
#undef X
        ENRICHMENT_N_MODES
};
const char *enrichment_mode_name(enum enrichment_mode mode);
enum enrichment_sublayer { ENRICHMENT_ATTN, ENRICHMENT_MLP, ENRICHMENT_SUBLAYERS };

/* The published 40 of 48 layers and 11 of 48 (its text says 10), as the same shares of other models. */
size_t enrichment_measured_layer(size_t n_layers);
size_t enrichment_window(size_t n_layers);

struct enrichment_knockout_input {
    struct enrichment_input facts; /* positions is not used */
    enum enrichment_mode mode;
    bool subject_only;                        /* remove at the subject's tokens; false: at all tokens, as published */
    size_t measured, window;                  /* windows are layers l .. l+window-1, below `measured` */
    const float *means[ENRICHMENT_SUBLAYERS]; /* MEAN: [n_layers, d_model] each */
};

struct enrichment_knockout {
    size_t n_facts, n_layers; /* n_layers: windows, from layer 0 to measured - 1 */
    size_t measured, window;
    double *base_rate, *base_recall; /* [n_facts] nothing removed */
    double *rate, *recall;           /* [n_facts, ENRICHMENT_SUBLAYERS, n_layers], of the own sets */
    size_t row_layers;
};

/* progress counts variants; it may be NULL. */
int enrichment_knockout_run(struct enrichment_knockout *k, struct runtime *rt,
                            const struct enrichment_knockout_input *in, struct progress *progress, struct err *err);
void enrichment_knockout_release(struct enrichment_knockout *k); /* also of a zeroed struct */

/* Adds outputs over all tokens of these prompts; sums[s]: [n_layers, d_model], *n the tokens. Divide in the end. */
int enrichment_means(struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                     double *const sums[ENRICHMENT_SUBLAYERS], size_t *n, struct err *err);

#endif
