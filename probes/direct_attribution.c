#include "probes/direct_attribution.h"

#include "core/base/mem.h"
#include "probes/logit_direction.h"

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

void attribution_fill(struct attribution *a, const struct model *m, double x)
{
    const struct model_config *c = &m->config;
    for (size_t i = 0; i < c->n_layers * c->n_heads; i++)
        a->heads[i] = x;
    for (size_t l = 0; l < c->n_layers; l++)
        a->attention[l] = a->mlp[l] = x;
    a->embed = a->pos_embed = a->bias = a->sum = a->residue = x;
}

void attribution_release(struct attribution *a)
{
    free(a->heads);
    free(a->attention);
    free(a->mlp);
    *a = (struct attribution){ 0 };
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void attribute_layer(const struct model *m, const struct attribution_input *in, const double *direction,
                            double *columns, double *scratch, size_t l, struct attribution *out)
{
    const struct model_config *c = &m->config;
    const struct layer *w = &m->layers[l];
    size_t width = c->n_heads * c->d_head;
    double *own = scratch + c->d_model * width;
    out->attention[l] = sublayer_direction(m, &w->ln1_post, in->attn_scale ? in->attn_scale[l] : 1, direction, own);
    for (size_t i = 0; i < c->d_model && w->o_bias; i++)
        out->attention[l] += own[i] * (double)w->o_bias[i];
    direction_columns(&w->o, own, 1, columns, scratch);
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
    size_t d = c->d_model, width = c->n_heads * c->d_head;
    const struct logit_contrast contrast = { .answer = in->token };
    int rc = logit_direction_check(m, err);
    if (rc)
        return rc;
    double *direction = mem_array(2 * d + width + d * width, sizeof *direction);
    if (!direction)
        return err_nomem(err, "the logit direction");
    double *columns = direction + d, *scratch = columns + width;
    logit_direction(m, &contrast, in->resid_post, direction, &out->bias);
    out->embed = dot(direction, in->embed, d);
    out->pos_embed = in->pos_embed ? dot(direction, in->pos_embed, d) : 0;
    out->sum = out->bias + out->embed + out->pos_embed;
    for (size_t l = 0; l < c->n_layers && !(rc = model_use_layer(m, l, err)); l++) {
        attribute_layer(m, in, direction, columns, scratch, l, out);
        out->sum += out->attention[l] + out->mlp[l];
    }
    double cap = c->logit_softcap;
    out->residue = (cap > 0 ? cap * tanh(out->sum / cap) : out->sum) - in->logit;
    free(direction);
    return rc;
}
