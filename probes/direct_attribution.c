#include "probes/direct_attribution.h"

#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>

int attribution_create(struct attribution *a, const struct model *m, struct err *err)
{
    const struct model_config *c = &m->config;
    *a = (struct attribution){ 0 };
    a->heads = mem_array(c->n_layers * c->n_heads, sizeof *a->heads);
    a->attention = mem_array(c->n_layers, sizeof *a->attention);
    a->mlp = mem_array(c->n_layers, sizeof *a->mlp);
    if (a->heads && a->attention && a->mlp)
        return 0;
    attribution_release(a);
    return err_nomem(err, "attributions");
}

void attribution_release(struct attribution *a)
{
    free(a->heads);
    free(a->attention);
    free(a->mlp);
    *a = (struct attribution){ 0 };
}

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/*
 * direction[d]: logit = direction . stream + constant while the final norm's mean and scale are held fixed.
 * LayerNorm's mean subtraction is linear too: it takes the direction's mean out.
 */
static void logit_direction(const struct model *m, const struct attribution_input *in, double *direction,
                            double *constant)
{
    const struct model_config *c = &m->config;
    size_t d = c->d_model, token = (size_t)in->token;
    double mean = 0, squares = 0, direction_mean = 0;
    for (size_t i = 0; i < d && c->norm == NORM_LAYER; i++)
        mean += in->resid_post[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += (in->resid_post[i] - mean) * (in->resid_post[i] - mean);
    double scale = sqrt(squares / (double)d + c->norm_eps);
    *constant = m->unembed_bias ? (double)m->unembed_bias[token] : 0;
    for (size_t i = 0; i < d; i++) {
        double u = weight(&m->unembed, token, i);
        direction[i] = u * (double)m->ln_final.gain[i] / scale;
        direction_mean += direction[i] / (double)d;
        *constant += m->ln_final.bias ? u * (double)m->ln_final.bias[i] : 0;
    }
    for (size_t i = 0; i < d && c->norm == NORM_LAYER; i++)
        direction[i] -= direction_mean;
}

/* columns[width] = direction . W_O: what each number of z adds to the logit. */
static void output_columns(const struct matrix *o, const double *direction, double *columns)
{
    for (size_t j = 0; j < o->n_in; j++)
        columns[j] = 0;
    if (o->in_major) {
        for (size_t j = 0; j < o->n_in; j++)
            for (size_t i = 0; i < o->n_out; i++)
                columns[j] += direction[i] * (double)o->data[j * o->stride + i];
    } else {
        for (size_t i = 0; i < o->n_out; i++)
            for (size_t j = 0; j < o->n_in; j++)
                columns[j] += direction[i] * (double)o->data[i * o->stride + j];
    }
}

static void attribute_layer(const struct model *m, const struct attribution_input *in, const double *direction,
                            double *columns, size_t l, struct attribution *out)
{
    const struct model_config *c = &m->config;
    const struct layer *w = &m->layers[l];
    size_t width = c->n_heads * c->d_head;
    out->attention[l] = 0;
    for (size_t i = 0; i < c->d_model && w->o_bias; i++)
        out->attention[l] += direction[i] * (double)w->o_bias[i];
    output_columns(&w->o, direction, columns);
    for (size_t h = 0; h < c->n_heads; h++) {
        double *head = &out->heads[l * c->n_heads + h];
        *head = dot(columns + h * c->d_head, in->z + l * width + h * c->d_head, c->d_head);
        out->attention[l] += *head;
    }
    out->mlp[l] = dot(direction, in->mlp_out + l * c->d_model, c->d_model);
}

int direct_attribution(const struct model *m, const struct attribution_input *in, struct attribution *out,
                       struct err *err)
{
    const struct model_config *c = &m->config;
    size_t d = c->d_model;
    double *direction = mem_array(d + c->n_heads * c->d_head, sizeof *direction), *columns = direction + d;
    if (!direction)
        return err_nomem(err, "the logit direction");
    logit_direction(m, in, direction, &out->bias);
    out->embed = dot(direction, in->embed, d);
    out->pos_embed = in->pos_embed ? dot(direction, in->pos_embed, d) : 0;
    out->sum = out->bias + out->embed + out->pos_embed;
    for (size_t l = 0; l < c->n_layers; l++) {
        attribute_layer(m, in, direction, columns, l, out);
        out->sum += out->attention[l] + out->mlp[l];
    }
    out->residue = out->sum - in->logit;
    free(direction);
    return 0;
}
