/*
 * What the logit of each fact's answer is compared with: nothing, one other
 * answer (--against TEXT), or the mean of the relation's other answers
 * (--against relation, with -i).
 *
 *     struct contrasts c;
 *     int rc = contrasts_choose(&c, &facts, cli, model, against, err);
 *     head_attribution_run(&a, rt, facts.prompts, c.each, facts.n, ...);
 *     contrasts_release(&c);                             // also after a failure
 */
#ifndef STRATA_ANALYSES_CLI_CONTRASTS_H
#define STRATA_ANALYSES_CLI_CONTRASTS_H

#include "analyses/cli/known_facts.h"
#include "probes/logit_direction.h"

#define AGAINST_OPTION(value_)                                                                                         \
    {                                                                                                                  \
        .name = "against", .kind = OPTION_TEXT, .value = &(value_), .argument = "TEXT",                                \
        .help = "measure the answer's logit less that of TEXT; `relation`: less the mean of its relation's others"     \
    }

struct contrasts {
    struct logit_contrast *each; /* [facts.n] */
    struct strbuf text;          /* "nothing", "that of 'London'" */
    int32_t **owned;             /* token lists */
    size_t n_owned;
};

/*
 * against: NULL for nothing. Facts whose relation has one answer only cannot be compared with it: they are taken out
 * of `facts`, which a note counts.
 */
int contrasts_choose(struct contrasts *c, struct known_facts *facts, const struct cli *cli, const struct model *m,
                     const char *against, struct err *err);
void contrasts_release(struct contrasts *c);

#endif
