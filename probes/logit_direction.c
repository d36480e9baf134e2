#include "probes/logit_direction.h"

#include <cblas.h>
#include <math.h>

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

const char *logit_not_linear(const struct model *m)
{
    return m->config.head_transform        ? "the masked-LM head is not linear"
           : m->config.block == BLOCK_POST ? "every block normalises the stream itself"
                                           : NULL;
}

int logit_direction_check(const struct model *m, struct err *err)
{
    const char *reason = logit_not_linear(m);
    if (!m->config.unembedding)
        return err_set(err, ERR_UNSUPPORTED, "%s has no unembedding: there are no logits to attribute",
                       m->architecture);
    if (reason)
        return err_set(
            err, ERR_UNSUPPORTED,
            "%s: %s, so that logits are no sum of what heads, neurons and layers add: use lens, patch, causal "
            "or knockout",
            m->architecture, reason);
    return 0;
}

int logit_direction_check_width(const struct model *m, struct err *err)
{
    int rc = logit_direction_check(m, err);
    if (!rc && m->head.dense.data)
        rc = err_set(
            err, ERR_UNSUPPORTED,
            "%s: a projection to %zu numbers stands between the stream of %zu and the unembedding: what weights "
            "say about tokens is not read off through it",
            m->architecture, m->config.d_embed, m->config.d_model);
    return rc;
}

/* Number o of W_U's row of the answer, less the mean of its rivals' rows. */
static double contrast_weight(const struct model *m, const struct logit_contrast *c, size_t n_rivals, size_t o)
{
    double rivals = 0;
    for (size_t i = 0; i < c->n_rivals; i++)
        rivals += c->rivals[i] != c->answer ? weight(&m->unembed, (size_t)c->rivals[i], o) : 0;
    return weight(&m->unembed, (size_t)c->answer, o) - (n_rivals ? rivals / (double)n_rivals : 0);
}

/* direction[d_model] = the contrast's unembedding, through the projection before it; constant: their biases. */
static void add_tokens(const struct model *m, const struct logit_contrast *c, double *direction, double *constant)
{
    const struct matrix *dense = m->head.dense.data ? &m->head.dense : NULL;
    double rivals = 0, factor = m->config.logit_scale;
    size_t n = 0;
    for (size_t i = 0; i < c->n_rivals; i++)
        n += c->rivals[i] != c->answer;
    for (size_t i = 0; i < c->n_rivals && m->unembed_bias; i++)
        rivals += c->rivals[i] != c->answer ? (double)m->unembed_bias[c->rivals[i]] / (double)n : 0;
    *constant = m->unembed_bias ? factor * ((double)m->unembed_bias[c->answer] - rivals) : 0;
    for (size_t i = 0; i < m->config.d_model; i++)
        direction[i] = 0;
    for (size_t o = 0; o < m->config.d_embed; o++) {
        double w = factor * contrast_weight(m, c, n, o);
        if (!dense)
            direction[o] = w;
        for (size_t i = 0; dense && i < m->config.d_model; i++)
            direction[i] += w * weight(dense, o, i);
        *constant += dense && m->head.bias ? w * (double)m->head.bias[o] : 0;
    }
}

/* direction through a norm whose scale is held; LayerNorm's mean subtraction is linear too: it takes the mean out. */
static double through_norm(const struct model_config *c, const struct norm_weights *norm, double scale,
                           const double *direction, double *out)
{
    double constant = 0, mean = 0;
    for (size_t i = 0; i < c->d_model; i++) {
        constant += norm->bias ? direction[i] * (double)norm->bias[i] : 0;
        out[i] = direction[i] * (norm->gain ? (double)norm->gain[i] : 1) / scale;
        mean += out[i] / (double)c->d_model;
    }
    for (size_t i = 0; i < c->d_model && c->norm == NORM_LAYER; i++)
        out[i] -= mean;
    return constant;
}

void logit_direction(const struct model *m, const struct logit_contrast *c, const double *resid_post, double *direction,
                     double *constant)
{
    const struct model_config *config = &m->config;
    size_t d = config->d_model;
    double mean = 0, squares = 0;
    add_tokens(m, c, direction, constant);
    if (!config->final_norm)
        return;
    for (size_t i = 0; i < d && config->norm == NORM_LAYER; i++)
        mean += resid_post[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += (resid_post[i] - mean) * (resid_post[i] - mean);
    *constant += through_norm(config, &m->ln_final, sqrt(squares / (double)d + config->norm_eps), direction, direction);
}

double sublayer_direction(const struct model *m, const struct norm_weights *post, double scale, const double *direction,
                          double *out)
{
    const struct model_config *c = &m->config;
    if (c->sublayer_norms)
        return through_norm(c, post, scale, direction, out);
    for (size_t i = 0; i < c->d_model; i++)
        out[i] = c->residual_scale * direction[i];
    return 0;
}

void direction_columns(const struct matrix *w, const double *directions, size_t n, double *columns, double *scratch)
{
    for (size_t o = 0; o < w->n_out; o++)
        for (size_t i = 0; i < w->n_in; i++)
            scratch[o * w->n_in + i] = weight(w, o, i);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)w->n_in, (int)w->n_out, 1, directions,
                (int)w->n_out, scratch, (int)w->n_in, 0, columns, (int)w->n_in);
}
