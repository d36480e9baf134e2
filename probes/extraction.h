/*
 * Attribute extraction: which sublayer writes the answer. An event is a layer
 * whose attention output (or MLP output) at the last token has the answer as
 * its top token when it goes through the unembedding by itself (Geva et al.
 * 2023, section 6).
 *
 *     struct extraction x;
 *     const struct extraction_input in = { .prompts = prompts, .answers = answers, .n_facts = n };
 *     if (extraction_run(&x, rt, &in, &err)) ...
 *     size_t first, events = extraction_events(extraction_tops(&x, fact, EXTRACTION_ATTN), answer, x.n_layers, &first);
 *     extraction_release(&x);
 *
 * Conventions, by name: `geva`, the published one, unembeds the sublayer's output as it is, with its bias; `lens`
 * applies the model's final norm to it first. Ranks differ: never compare across them.
 *
 * With some keys taken from the last token (restrictions), attention is computed again from the base run's own
 * pattern and values, in one layer at a time; the input of the layer is untouched. Two modes, by name: `renormalised`
 * gives the remaining keys the weights that blocked edges leave (-inf before the softmax: the edit `block`);
 * `resoftmax` is the published program's: a second softmax over the weights that the first one gave, blocked ones
 * -1e6, which makes the remaining ones nearly uniform. No key left: a pattern of zeros, only the output bias remains
 * (in both modes). No key blocked: the plain attention output in both modes.
 */
#ifndef STRATA_PROBES_EXTRACTION_H
#define STRATA_PROBES_EXTRACTION_H

#include "core/runtime/runtime.h"

enum extraction_norm { EXTRACTION_GEVA, EXTRACTION_LENS };
enum extraction_sublayer { EXTRACTION_ATTN, EXTRACTION_MLP, EXTRACTION_SUBLAYERS };

/* Which keys of the last token are blocked. */
#define EXTRACTION_KEYS(X)                                                                                             \
    X(NOTHING, "nothing")                                                                                              \
    X(SUBJECT, "subject")                                                                                              \
    X(LAST, "last")                                                                                                    \
    X(SUBJECT_LAST, "subject-last")                                                                                    \
    X(SUBJECT_LAST_AND_LAST, "subject-last and last")                                                                  \
    X(NON_SUBJECT, "non-subject")                                                                                      \
    X(NON_SUBJECT_BUT_LAST, "non-subject but last")                                                                    \
    X(ALL_BUT_FIRST, "all but first")                                                                                  \
    X(ALL_BUT_LAST, "all but last")                                                                                    \
    X(ALL_BUT_SUBJECT_LAST, "all but subject-last")                                                                    \
    X(ALL_BUT_SUBJECT_LAST_AND_LAST, "all but subject-last and last")                                                  \
    X(ALL, "all")
enum extraction_keys {
#define X(id, name) EXTRACTION_BLOCK_##id,
    EXTRACTION_KEYS(X)
#undef X
        EXTRACTION_N_KEYS
};
const char *extraction_keys_name(enum extraction_keys keys);
/* Marks the blocked ones among the tokens of a prompt with a subject: mask[n_tokens], 1 = blocked. */
void extraction_blocked(enum extraction_keys keys, const struct prompt *prompt, unsigned char *mask);

enum extraction_mode { EXTRACTION_RENORMALISED, EXTRACTION_RESOFTMAX, EXTRACTION_MODES };
const char *extraction_mode_name(enum extraction_mode mode);

struct extraction_restriction {
    enum extraction_keys keys;
    enum extraction_mode mode;
};

struct extraction_input {
    const struct prompt *prompts; /* [n_facts] with subjects where there are restrictions */
    const int32_t *answers;       /* [n_facts] token ids */
    size_t n_facts;
    enum extraction_norm norm;
    const struct extraction_restriction *restrictions; /* [n_restrictions]; NULL: none */
    size_t n_restrictions;
};

/*
 * Ranks are 1-based and shared by equal logits; the top token is the first of equal ones, as argmax has it. (An output
 * of zeros, which no bias follows, makes all logits equal: every token has rank 1 then, and only token 0 is on top.)
 */
struct extraction {
    size_t n_facts, n_layers, n_restrictions;
    int32_t *rank, *top; /* [n_facts, EXTRACTION_SUBLAYERS, n_layers] rank of the answer, top token */
    int32_t *restricted_rank, *restricted_top; /* [n_facts, n_restrictions, n_layers]; of attention */
};

/* Memory: patterns and values of all the prompts at once; give a batch of facts (prepare.h), not a data set. */
int extraction_run(struct extraction *x, struct runtime *rt, const struct extraction_input *in, struct err *err);
void extraction_release(struct extraction *x); /* also of a zeroed struct */

static inline const int32_t *extraction_ranks(const struct extraction *x, size_t fact, enum extraction_sublayer part)
{
    return x->rank + (fact * EXTRACTION_SUBLAYERS + part) * x->n_layers;
}

static inline const int32_t *extraction_tops(const struct extraction *x, size_t fact, enum extraction_sublayer part)
{
    return x->top + (fact * EXTRACTION_SUBLAYERS + part) * x->n_layers;
}

static inline const int32_t *extraction_restricted_tops(const struct extraction *x, size_t fact, size_t restriction)
{
    return x->restricted_top + (fact * x->n_restrictions + restriction) * x->n_layers;
}

/* Number of layers with the answer on top; *first (may be NULL): the first of them, n_layers where there is none. */
size_t extraction_events(const int32_t *top, int32_t answer, size_t n_layers, size_t *first);
/*
 * The control: the share of facts, in 0..1, that would have an event if their answer were that of a random other fact
 * (another token), over `draws` draws a fact. Sublayers that promote the same few tokens whatever the fact make it
 * large. top: [n_facts, n_layers]. NaN where no two answers differ. Same seed, same number.
 */
double extraction_chance(const int32_t *top, const int32_t *answers, size_t n_facts, size_t n_layers, size_t draws,
                         uint64_t seed);

#endif
