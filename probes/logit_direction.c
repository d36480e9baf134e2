#include "probes/logit_direction.h"

#include <cblas.h>
#include <math.h>

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

/* direction += share W_U[token]; the bias likewise. */
static void add_token(const struct model *m, int32_t token, double share, double *direction, double *bias)
{
    for (size_t i = 0; i < m->config.d_model; i++)
        direction[i] += share * weight(&m->unembed, (size_t)token, i);
    *bias += m->unembed_bias ? share * (double)m->unembed_bias[token] : 0;
}

/* W_U of the answer, less the mean of its rivals. */
static void add_tokens(const struct model *m, const struct logit_contrast *c, double *direction, double *bias)
{
    size_t n = 0;
    for (size_t i = 0; i < m->config.d_model; i++)
        direction[i] = 0;
    *bias = 0;
    add_token(m, c->answer, 1, direction, bias);
    for (size_t i = 0; i < c->n_rivals; i++)
        n += c->rivals[i] != c->answer;
    for (size_t i = 0; i < c->n_rivals; i++)
        if (c->rivals[i] != c->answer)
            add_token(m, c->rivals[i], -1 / (double)n, direction, bias);
}

/* LayerNorm's mean subtraction is linear too: it takes the direction's mean out. */
void logit_direction(const struct model *m, const struct logit_contrast *c, const double *resid_post, double *direction,
                     double *constant)
{
    const struct model_config *config = &m->config;
    size_t d = config->d_model;
    bool centred = config->norm == NORM_LAYER;
    double mean = 0, squares = 0, direction_mean = 0;
    for (size_t i = 0; i < d && centred; i++)
        mean += resid_post[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += (resid_post[i] - mean) * (resid_post[i] - mean);
    double scale = sqrt(squares / (double)d + config->norm_eps);
    add_tokens(m, c, direction, constant);
    for (size_t i = 0; i < d; i++) {
        *constant += m->ln_final.bias ? direction[i] * (double)m->ln_final.bias[i] : 0;
        direction[i] *= (double)m->ln_final.gain[i] / scale;
        direction_mean += direction[i] / (double)d;
    }
    for (size_t i = 0; i < d && centred; i++)
        direction[i] -= direction_mean;
}

void direction_columns(const struct matrix *w, const double *directions, size_t n, double *columns, double *scratch)
{
    for (size_t o = 0; o < w->n_out; o++)
        for (size_t i = 0; i < w->n_in; i++)
            scratch[o * w->n_in + i] = weight(w, o, i);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)w->n_in, (int)w->n_out, 1, directions,
                (int)w->n_out, scratch, (int)w->n_in, 0, columns, (int)w->n_in);
}
