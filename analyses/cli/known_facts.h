/*
 * The facts that a measurement is about: those of -i, or the one on the command
 * line, all read and checked before anything runs, then those whose answer the
 * model has on rank 1.
 *
 *     struct known_facts k;
 *     int rc = known_facts_read(&k, cli, &given, runtime, false, err);
 *     for (size_t i = 0; i < k.n; i++)
 *         use(&k.prompts[i], k.answers[i], k.facts[i]->relation);
 *     known_facts_release(&k);                         // also after a failure
 *
 * All of them stay in memory.
 */
#ifndef STRATA_ANALYSES_CLI_KNOWN_FACTS_H
#define STRATA_ANALYSES_CLI_KNOWN_FACTS_H

#include "analyses/cli/fact_options.h"

struct known_facts {
    struct prepared *items; /* [n_given] as read; owned */
    size_t n_given, capacity;
    /* [n] those to measure: known ones, or all that have an answer. */
    const struct prepared **facts;
    struct prompt *prompts;
    int32_t *answers;
    double *prob; /* of the answer */
    int32_t *rank;
    size_t n;
    size_t n_known, n_unknown, n_without_answer; /* of all that were given */
    size_t n_left_out;                           /* known ones that a command took out for a reason of its own */
    bool single, own_answer;                     /* one prompt; its answer is the model's own top token */
    bool all;                                    /* unknown ones are measured too */
};

/* A single prompt is measured whether it is known or not. No fact left to measure is an error with the counts. */
int known_facts_read(struct known_facts *k, const struct cli *cli, const struct fact_options *given, struct runtime *rt,
                     bool all, struct err *err);
/* Fact number `from` of those to measure takes the place of number `to` <= from. */
void known_facts_move(struct known_facts *k, size_t from, size_t to);
void known_facts_release(struct known_facts *k);
/* "23 of 60 facts: answer on rank 1; 35 others and 2 without an answer are left out": one line without newline. */
void known_facts_describe(const struct known_facts *k, struct strbuf *out);

#endif
