/*
 * Direct logit attribution: what each part of the model writes into the answer's
 * logit. With the `attribution` convention, the final norm of the finished
 * residual (its mean and scale) is held fixed, so that the logit is linear in
 * the stream and the parts sum to it exactly (TransformerLens logit_attrs; the
 * lens convention, which recomputes the norm, is probes/logit_lens.h).
 *
 *     struct attribution a;
 *     if (attribution_create(&a, model, &err) || direct_attribution(model, &in, &a, &err)) ...
 *     printf("L3H7 adds %.3f logits\n", a.heads[3 * n_heads + 7]);
 *     printf("sum - logit = %.2e\n", a.residue);
 *     attribution_release(&a);
 *
 * Where what a head returns is normalised before it is added (Gemma 2, OLMo 2), that norm's scale is held fixed too.
 * Where logits have a soft-cap, parts sum to the logit before it. Models whose logits are no such sum are refused.
 *
 * All sums are in double whatever the runtime's precision.
 */
#ifndef STRATA_PROBES_DIRECT_ATTRIBUTION_H
#define STRATA_PROBES_DIRECT_ATTRIBUTION_H

#include "core/model/model.h"

/* Sites of one row (usually the last token), widened to double. */
struct attribution_input {
    int32_t token;            /* whose logit */
    const double *embed;      /* [d_model] hook_embed */
    const double *pos_embed;  /* [d_model] or NULL */
    const double *z;          /* [n_layers, n_heads * d_head] hook_z */
    const double *attn_scale; /* [n_layers] ln1_post.hook_scale, where sublayers' outputs are normalised; or NULL */
    const double *mlp_out;    /* [n_layers, d_model] hook_mlp_out */
    const double *resid_post; /* [d_model] last block's hook_resid_post */
    double logit;             /* the model's own logit of the token, for the residue */
};

/* All in logits. heads and the rest are owned. */
struct attribution {
    double *heads;     /* [n_layers * n_heads] through W_O, without its bias */
    double *attention; /* [n_layers] heads of the layer plus the output bias */
    double *mlp;       /* [n_layers] */
    double embed, pos_embed;
    double bias;         /* the final norm's bias and the unembedding's */
    double sum, residue; /* of all parts; sum - logit, the sum capped as the model caps its logits */
};

int attribution_create(struct attribution *a, const struct model *m, struct err *err);
int direct_attribution(const struct model *m, const struct attribution_input *in, struct attribution *out,
                       struct err *err);
/* Every number becomes x. */
void attribution_fill(struct attribution *a, const struct model *m, double x);
void attribution_release(struct attribution *a);

#endif
