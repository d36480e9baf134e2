/*
 * Heads that carry <entity, attribute> in their weights (MAPS; Elhelo and Geva
 * 2024, "Inferring Functionality of Attention Heads from their Parameters"):
 * no prompt is run. Score of a head for a relation: the share of its pairs
 * (s, o) with o among the k tokens of largest
 *
 *     e W_V W_O W_U,   e = MLP0(ln2(E_s)),   heads of layer 0: e = E_s
 *
 * (ln2 and MLP0 with their biases, E_s without position). `promote` is that,
 * `suppress` the same with the sign flipped. A token counts as above the object
 * only where it is strictly greater.
 *
 *     struct head_map map;
 *     struct head_map_relation r = { .name = "capital", .pairs = pairs, .n_pairs = 40 };
 *     if (head_map_run(&map, rt, &r, 1, NULL, NULL, &err)) ...
 *     printf("L3H7: %.2f\n", map.promote[3 * config->n_heads + 7]);
 *     head_map_release(&map);
 *
 * Norms (HEAD_MAP_GAINS, the default, is what folded weights give): e goes
 * through the layer's ln1 and the result through the norm after attention,
 * where there is one, and the final norm, all without bias; their scales are positive and change no rank. HEAD_MAP_RAW
 * leaves both out. Biases of v, o and the unembedding take no part: they say nothing about the entity.
 *
 * Control: the same score with the objects of a relation dealt out again, each
 * subject with an object that is not its own: what a head that only knows the
 * kind of answer gets.
 *
 * One product per layer and block of the vocabulary for all heads, one per head
 * for all subjects; an [n_subjects, d_vocab] array never exists. In float
 * whatever the runtime's precision; same seed, same numbers.
 */
#ifndef STRATA_PROBES_HEAD_MAP_H
#define STRATA_PROBES_HEAD_MAP_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"

/* Of the paper: top 10, copying top 1, relations of at least 30 pairs. */
enum { HEAD_MAP_K = 10, HEAD_MAP_COPYING_K = 1, HEAD_MAP_PAIRS = 30 };

struct token_pair {
    int32_t subject, object;
};

struct head_map_relation {
    const char *name;               /* for messages */
    const struct token_pair *pairs; /* [n_pairs], at least one */
    size_t n_pairs;
    size_t k; /* 0: HEAD_MAP_K */
};

enum head_map_norms { HEAD_MAP_GAINS, HEAD_MAP_RAW };

struct head_map_options {
    enum head_map_norms norms;
    uint64_t seed; /* of the control */
};

/* All owned; shares in 0..1. */
struct head_map {
    size_t n_relations, n_heads; /* heads of all layers: layer * config.n_heads + head */
    double *promote, *suppress;  /* [n_relations, n_heads] */
    double *control;             /* [n_relations, n_heads] promote with other objects; NaN: all objects are the same */
    double *covered, *covered_control; /* [n_relations] share of pairs that at least one head promotes */
    size_t *hits;                      /* [n_relations, n_heads] pairs behind promote */
};

/* progress counts layers and may be NULL. */
int head_map_run(struct head_map *map, struct runtime *rt, const struct head_map_relation *relations,
                 size_t n_relations, const struct head_map_options *o, struct progress *progress, struct err *err);
void head_map_release(struct head_map *map); /* also of a zeroed struct */

/* The pair of " subject" and " object" where each is a single token; false: it is not. */
bool head_map_pair(const struct model *m, const char *subject, const char *object, struct token_pair *out);

#endif
