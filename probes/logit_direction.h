/*
 * The direction in the stream that is one token's logit, or one minus the mean
 * of others, while the final norm's mean and scale are held fixed (norm
 * convention `attribution`): logit = direction . stream + constant, so that what
 * any part of the model writes can be projected on it. The logit is the one before a soft-cap, and includes the factor
 * on logits where there is one.
 *
 *     const struct logit_contrast c = { .answer = paris, .rivals = capitals, .n_rivals = 40 };
 *     logit_direction(m, &c, resid_post, direction, &constant);
 *     direction_columns(&m->layers[4].o, direction, 1, columns, scratch);  // what each number of z adds
 *
 * In double. Pure functions, any number of threads.
 */
#ifndef STRATA_PROBES_LOGIT_DIRECTION_H
#define STRATA_PROBES_LOGIT_DIRECTION_H

#include "core/model/model.h"

struct logit_contrast {
    int32_t answer;
    const int32_t *rivals; /* borrowed; the answer itself may be among them and is left out */
    size_t n_rivals;       /* 0: the answer's logit alone */
};

/* Why a model's logits are no sum over its stream, NULL where they are one up to the norms' scales. */
const char *logit_not_linear(const struct model *m);
/* An error where the logit is not linear in the stream: blocks that normalise it (post-norm), masked-LM heads. */
int logit_direction_check(const struct model *m, struct err *err);

/* The same, and where the unembedding does not read the stream's own numbers (a projection before it). */
int logit_direction_check_width(const struct model *m, struct err *err);

/* direction[d_model]; resid_post[d_model]: the finished residual whose mean and scale are held. */
void logit_direction(const struct model *m, const struct logit_contrast *c, const double *resid_post, double *direction,
                     double *constant);

/*
 * The direction for what a sublayer's parts (heads, neurons) return before it is added: times the factor on residuals,
 * or through the norm after the sublayer, layer.ln1_post or ln2_post, held at `scale`, its hook_scale of this run.
 * Returns what that norm's bias adds to the logit. out may be direction.
 */
double sublayer_direction(const struct model *m, const struct norm_weights *post, double scale, const double *direction,
                          double *out);

/* columns[n, w->n_in] = directions[n, w->n_out] W; scratch[w->n_out * w->n_in]. */
void direction_columns(const struct matrix *w, const double *directions, size_t n, double *columns, double *scratch);

#endif
