/* The MLP: dense, or a mixture of experts of which the router picks some for each row. */
#include "core/runtime/internal_real.h"

#include <math.h>
#include <string.h>

static void activate_step(const struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    const struct model_config *c = &p->model->config;
    real *pre = (real *)p->b.pre + row * job->width;
    kernels_of(p->rt)->activate(c->activation, pre, c->gated_mlp ? (real *)p->b.linear + row * job->width : NULL,
                                job->width, pre);
}

/* b.pre, and b.linear where gated, of n rows of x. */
static void neurons(struct pass *p, const struct mlp_weights *w, const real *x, size_t n)
{
    const struct model_config *c = &p->model->config;
    const struct product gate_up[] = {
        { &w->gate, w->gate_bias, p->b.pre, w->up.n_out },
        { &w->up, w->up_bias, c->gated_mlp ? p->b.linear : p->b.pre, w->up.n_out },
    };
    matmuls(p, c->gated_mlp ? gate_up : gate_up + 1, c->gated_mlp ? 2 : 1, x, c->d_model, n);
}

static void activate(struct pass *p, size_t width, size_t n)
{
    for_rows((struct row_job){ .p = p, .n_rows = n, .width = width }, activate_step);
}

/* out[n, d_model] of an MLP that nobody can look into: an expert. */
static void closed_mlp(struct pass *p, const struct mlp_weights *w, const real *x, size_t n, real *out)
{
    const struct model_config *c = &p->model->config;
    neurons(p, w, x, n);
    activate(p, w->up.n_out, n);
    matmul(p, &w->down, w->down_bias, p->b.pre, w->up.n_out, n, out, c->d_model);
}

static int dense_mlp(struct pass *p, const real *x, size_t l, struct err *err)
{
    const struct mlp_weights *w = &p->model->layers[l].mlp;
    const struct model_config *c = &p->model->config;
    size_t m = c->d_mlp, n = p->n_rows;
    int rc;
    neurons(p, w, x, n);
    if ((rc = visit_rows(p, SITE_MLP_PRE, l, p->b.pre, 0, n, NULL, err)))
        return rc;
    if (c->gated_mlp && (rc = visit_rows(p, SITE_MLP_PRE_LINEAR, l, p->b.linear, 0, n, NULL, err)))
        return rc;
    activate(p, m, n);
    if ((rc = visit_rows(p, SITE_MLP_POST, l, p->b.pre, 0, n, NULL, err)) || p->finished)
        return rc;
    matmul(p, &w->down, w->down_bias, p->b.pre, m, n, p->b.delta, c->d_model);
    return 0;
}

/* --- experts (Mixtral, Jiang et al. 2024, section 2.1) --- */

/* Keeps the n_experts_used largest weights of a row, the earlier of two equal ones, and clears the rest. */
static void choose_experts(const struct model_config *c, real *weights)
{
    bool chosen[MAX_EXPERTS] = { false };
    real total = 0;
    for (size_t k = 0; k < c->n_experts_used; k++) {
        size_t best = c->n_experts;
        for (size_t e = 0; e < c->n_experts; e++)
            if (!chosen[e] && (best == c->n_experts || weights[e] > weights[best]))
                best = e;
        chosen[best] = true;
        total += weights[best];
    }
    for (size_t e = 0; e < c->n_experts; e++)
        weights[e] = !chosen[e] ? 0 : c->experts_renormalised ? weights[e] / total : weights[e];
}

static int route(struct pass *p, const real *x, size_t l, struct err *err)
{
    const struct model_config *c = &p->model->config;
    real *weights = p->b.experts;
    int rc;
    matmul(p, &p->model->layers[l].router, NULL, x, c->d_model, p->n_rows, weights, c->n_experts);
    if ((rc = visit_rows(p, SITE_ROUTER_LOGITS, l, weights, 0, p->n_rows, NULL, err)))
        return rc;
    for (size_t row = 0; row < p->n_rows; row++)
        kernels_of(p->rt)->softmax(weights + row * c->n_experts, c->n_experts);
    if ((rc = visit_rows(p, SITE_EXPERT_WEIGHTS, l, weights, 0, p->n_rows, NULL, err)))
        return rc;
    for (size_t row = 0; row < p->n_rows; row++)
        choose_experts(c, weights + row * c->n_experts);
    return 0;
}

/* One expert's share of rows [first, first + n): b.gathered_out holds it for the rows in b.gathered_rows. */
static size_t run_expert(struct pass *p, const struct mlp_weights *w, const real *x, size_t expert, size_t first,
                         size_t n)
{
    const struct model_config *c = &p->model->config;
    size_t d = c->d_model, taken = 0;
    const real *weights = p->b.experts;
    real *in = p->b.gathered, *out = p->b.gathered_out;
    for (size_t row = first; row < first + n; row++)
        if (weights[row * c->n_experts + expert] != 0) {
            memcpy(in + taken * d, x + row * d, d * sizeof *in);
            p->b.gathered_rows[taken++] = row;
        }
    if (!taken)
        return 0;
    closed_mlp(p, w, in, taken, out);
    for (size_t i = 0; i < taken; i++)
        for (size_t j = 0; j < d; j++)
            out[i * d + j] *= weights[p->b.gathered_rows[i] * c->n_experts + expert];
    return taken;
}

/* delta of rows [first, first + n) = the sum of their experts; where somebody looks, by way of b.result. */
static int sum_experts(struct pass *p, const real *x, size_t l, size_t first, size_t n, bool seen, struct err *err)
{
    const struct model_config *c = &p->model->config;
    size_t d = c->d_model;
    real *delta = (real *)p->b.delta + first * d, *result = p->b.result;
    const real *out = p->b.gathered_out;
    memset(delta, 0, n * d * sizeof *delta);
    if (seen)
        memset(result, 0, n * c->n_experts * d * sizeof *result);
    for (size_t e = 0; e < c->n_experts; e++) {
        size_t taken = run_expert(p, &p->model->layers[l].experts[e], x, e, first, n);
        for (size_t i = 0; i < taken; i++) {
            size_t row = p->b.gathered_rows[i] - first;
            if (seen)
                memcpy(result + (row * c->n_experts + e) * d, out + i * d, d * sizeof *out);
            else
                kernels_of(p->rt)->add(delta + row * d, out + i * d, d, delta + row * d);
        }
    }
    int rc = seen ? visit_rows(p, SITE_EXPERT_RESULT, l, result, first, n, NULL, err) : 0;
    for (size_t i = 0; seen && i < n * c->n_experts; i++)
        kernels_of(p->rt)->add(delta + i / c->n_experts * d, result + i * d, d, delta + i / c->n_experts * d);
    return rc;
}

/* The expert that every row uses, weighed by a sigmoid of its own (Qwen2-MoE). */
static void add_shared_expert(struct pass *p, const real *x, size_t l)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    size_t d = c->d_model;
    real *out = p->b.gathered_out, *gate = p->b.mean, *delta = p->b.delta;
    closed_mlp(p, &w->mlp, x, p->n_rows, out);
    if (w->shared_gate.n_out)
        matmul(p, &w->shared_gate, NULL, x, d, p->n_rows, gate, 1);
    for (size_t row = 0; row < p->n_rows; row++) {
        real share = w->shared_gate.n_out ? (real)(1 / (1 + exp(-(double)gate[row]))) : 1;
        for (size_t j = 0; j < d; j++)
            delta[row * d + j] += share * out[row * d + j];
    }
}

static int expert_mlp(struct pass *p, const real *x, size_t l, struct err *err)
{
    bool seen = touched(p, SITE_EXPERT_RESULT, l);
    size_t chunk = seen ? CHUNK_ROWS : p->n_rows;
    int rc = route(p, x, l, err);
    for (size_t first = 0; !rc && first < p->n_rows; first += chunk) {
        size_t n = p->n_rows - first < chunk ? p->n_rows - first : chunk;
        rc = sum_experts(p, x, l, first, n, seen, err);
    }
    if (!rc && p->model->config.d_shared)
        add_shared_expert(p, x, l);
    return rc;
}

int hooked_mlp(struct pass *p, const real *x, size_t l, struct err *err)
{
    int rc = p->model->config.n_experts ? expert_mlp(p, x, l, err) : dense_mlp(p, x, l, err);
    return rc || p->finished ? rc : sublayer_output(p, l, &mlp_output, err);
}
