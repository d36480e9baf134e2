/*
 * What heads do on random tokens that are repeated: previous-token, duplicate
 * and induction scores, from attention alone (Olsson et al. 2022; lengths and
 * ids as TransformerLens's head detector and the induction demos).
 *
 *     struct head_patterns p;
 *     const struct head_patterns_options o = { .seed = 1 };      // the rest: defaults
 *     if (head_patterns_run(&p, rt, &o, &err)) ...
 *     printf("L3H7 induction %.2f\n", p.score[PATTERN_INDUCTION][3 * config->n_heads + 7]);
 *     head_patterns_release(&p);
 *
 * A prompt is n random tokens and the same n again, without special tokens.
 * Each score is the mean attention weight over its edges: a head that does
 * nothing else has 1.
 */
#ifndef STRATA_PROBES_HEAD_PATTERNS_H
#define STRATA_PROBES_HEAD_PATTERNS_H

#include "core/runtime/runtime.h"

/* id, name, its edges query -> key, of 2n tokens */
#define HEAD_PATTERNS(X)                                                                                               \
    X(PREVIOUS, "previous", "q -> q - 1, for every query but the first")                                               \
    X(DUPLICATE, "duplicate", "q -> q - n, for every query of the second half")                                        \
    X(INDUCTION, "induction", "q -> q - n + 1, for every query from n - 1 on: the diagonal of offset 1 - n")
enum head_pattern {
#define X(id, name, edges) PATTERN_##id,
    HEAD_PATTERNS(X)
#undef X
        N_HEAD_PATTERNS
};
const char *head_pattern_name(enum head_pattern pattern);

/* Published values; a smaller vocabulary or context takes what there is of both (head_patterns says what was used). */
enum { PATTERN_TOKENS = 100, PATTERN_PROMPTS = 4, PATTERN_FIRST_ID = 1000, PATTERN_LAST_ID = 10000 };

struct head_patterns_options {
    size_t n_tokens, n_prompts; /* 0: PATTERN_TOKENS, PATTERN_PROMPTS */
    uint64_t seed;
};

struct head_patterns {
    size_t n_heads;                 /* of all layers: layer * config.n_heads + head */
    size_t n_tokens, n_prompts;     /* used: tokens before the repetition */
    int32_t first_id, last_id;      /* used; both included */
    double *score[N_HEAD_PATTERNS]; /* [n_heads], owned */
};

int head_patterns_run(struct head_patterns *p, struct runtime *rt, const struct head_patterns_options *o,
                      struct err *err);
void head_patterns_release(struct head_patterns *p); /* also of a zeroed struct */

#endif
