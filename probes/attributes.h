/*
 * Attributes of subjects as sets of tokens, for the attributes rate
 * (probes/enrichment.h): what a data set itself says about a subject in all of
 * its relations.
 *
 *     struct attribute_sets sets;
 *     attribute_sets_init(&sets, model, &err);
 *     attribute_sets_add(&sets, "France", "Paris", &err);      // every answer and alias of every fact
 *     size_t own = attribute_sets_find(&sets, "France");
 *     size_t other = attribute_sets_other(&sets, own, &random);
 *     attribute_sets_release(&sets);
 *
 * Geva et al. 2023 take the tokens of Wikipedia paragraphs about the subject
 * (about 1,000 a subject); sets from a data set's own answers have a few
 * tokens, so rates are far below theirs and only comparable with rates from
 * the same sets: with the control, another subject's set.
 *
 * Tokens are those of " " + text, as it would continue a prompt, without
 * tokens that say nothing: stop words and those of at most two characters
 * without the spaces around them. The stop words are a list of English function words of our own; it is not NLTK's,
 * which the paper uses. As there, the candidates' stop words are told by their exact spelling, those of predictions in
 * lower case.
 */
#ifndef STRATA_PROBES_ATTRIBUTES_H
#define STRATA_PROBES_ATTRIBUTES_H

#include "core/base/random.h"
#include "core/base/strmap.h"
#include "core/model/model.h"

struct attribute_set {
    char *subject;   /* owned */
    int32_t *tokens; /* owned; rising, each once */
    size_t n, capacity;
};

struct attribute_sets {
    const struct model *model;
    struct attribute_set *sets;
    size_t n, capacity;
    struct strmap numbers; /* subject -> number of its set */
};

/* The model must have a tokenizer (ERR_UNSUPPORTED). Borrows it. */
int attribute_sets_init(struct attribute_sets *s, const struct model *model, struct err *err);
int attribute_sets_add(struct attribute_sets *s, const char *subject, const char *attribute, struct err *err);
/* Number of a subject's set, SIZE_MAX where it has none. A set may be empty: all its tokens say nothing. */
size_t attribute_sets_find(const struct attribute_sets *s, const char *subject);
/*
 * A random set that is not empty, is not `own` and shares no token with it; SIZE_MAX where 1000 tries find none. Same
 * random source, same set.
 */
size_t attribute_sets_other(const struct attribute_sets *s, size_t own, struct random_source *random);
bool attribute_set_has(const struct attribute_set *set, int32_t token);
void attribute_sets_release(struct attribute_sets *s); /* also of a zeroed struct */

/* Whether a token says something; lower: stop words are also found in upper case. */
bool attribute_token(const struct model *model, int32_t token, bool lower);
bool attribute_stop_word(const char *word, size_t len);

#endif
