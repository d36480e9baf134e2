/*
 * Known facts as HDF5: what heads and neurons write of them alike.
 *
 *     int rc = known_facts_put_counts(k, f, err);        // attributes facts_given, facts_known, ...
 *     rc = rc ? rc : known_facts_put(k, f, err);         // /facts/id, prompt, subject, answer, relation, ...
 */
#ifndef STRATA_ANALYSES_REPORT_KNOWN_FACTS_H5_H
#define STRATA_ANALYSES_REPORT_KNOWN_FACTS_H5_H

#include "analyses/cli/known_facts.h"
#include "core/store/h5.h"

int known_facts_put_counts(const struct known_facts *k, const struct h5_file *f, struct err *err);
/* Also /facts/answer_token, rank, prob: [n], of the facts that were measured. */
int known_facts_put(const struct known_facts *k, const struct h5_file *f, struct err *err);

#endif
