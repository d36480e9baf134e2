/* What value vectors of neurons say, over the vocabulary in blocks. */
#include "core/base/mem.h"
#include "probes/neurons.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

/* Neurons of one task, and tokens at a time. */
enum { GROUP = 32, BLOCK = 512 };

struct job {
    const struct model *model;
    struct neuron_tokens *t;
    const int32_t *tokens;
    float *values;  /* [n, d_model] value vectors, under the norm that was chosen */
    double *target; /* [n] score of the token whose rank is wanted */
    float *scores;  /* [workers, GROUP, BLOCK] */
};

static float at(const struct matrix *w, size_t o, size_t i)
{
    return w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i];
}

/* value[d] as a norm reads it, its positive scale apart: LayerNorm takes the mean out. */
static void apply_norm(const struct model_config *c, const struct norm_weights *norm, float *value)
{
    double mean = 0;
    for (size_t i = 0; i < c->d_model && c->norm == NORM_LAYER; i++)
        mean += (double)value[i] / (double)c->d_model;
    for (size_t i = 0; i < c->d_model; i++)
        value[i] = (value[i] - (float)mean) * (norm->gain ? norm->gain[i] : 1.0F);
}

static void fill_value(const struct model *m, const struct neuron *n, enum neuron_tokens_norm norm, float *value)
{
    const struct model_config *c = &m->config;
    const struct layer *w = &m->layers[n->layer];
    for (size_t i = 0; i < c->d_model; i++)
        value[i] = at(&w->mlp.down, i, n->unit);
    if (norm == NEURON_TOKENS_GAIN && c->sublayer_norms)
        apply_norm(c, &w->ln2_post, value);
    if (norm == NEURON_TOKENS_GAIN && c->final_norm)
        apply_norm(c, &m->ln_final, value);
}

/* Puts a score into a list of k, falling for sign 1 and rising for -1; equal scores: the smaller id first. */
static void insert(int32_t *ids, float *scores, size_t k, size_t *n, int32_t id, float score, float sign)
{
    if (*n == k && sign * score <= sign * scores[k - 1])
        return;
    size_t i = *n < k ? (*n)++ : k - 1;
    for (; i && sign * scores[i - 1] < sign * score; i--) {
        ids[i] = ids[i - 1];
        scores[i] = scores[i - 1];
    }
    ids[i] = id;
    scores[i] = score;
}

static void add_scores(const struct job *j, size_t neuron, const float *scores, size_t first, size_t n, size_t *filled)
{
    struct neuron_tokens *t = j->t;
    size_t base = neuron * t->k, up = *filled, down = *filled;
    for (size_t v = 0; v < n && t->k; v++) {
        insert(t->up + base, t->up_score + base, t->k, &up, (int32_t)(first + v), scores[v], 1);
        insert(t->down + base, t->down_score + base, t->k, &down, (int32_t)(first + v), scores[v], -1);
    }
    *filled = up;
    if (!t->rank[neuron])
        return;
    for (size_t v = 0; v < n; v++)
        t->rank[neuron] += (int32_t)(first + v) != j->tokens[neuron] && (double)scores[v] > j->target[neuron];
}

static int group_task(void *arg, size_t group, int worker, struct err *err)
{
    (void)err;
    const struct job *j = arg;
    const struct model_config *c = &j->model->config;
    const struct matrix *u = &j->model->unembed;
    size_t begin = group * GROUP, n = j->t->n - begin < GROUP ? j->t->n - begin : GROUP, filled[GROUP] = { 0 };
    float *scores = j->scores + (size_t)worker * GROUP * BLOCK;
    for (size_t first = 0; first < c->d_vocab; first += BLOCK) {
        size_t width = c->d_vocab - first < BLOCK ? c->d_vocab - first : BLOCK;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, u->in_major ? CblasNoTrans : CblasTrans, (int)n, (int)width,
                    (int)c->d_model, 1, j->values + begin * c->d_model, (int)c->d_model,
                    u->data + (u->in_major ? first : first * u->stride), (int)u->stride, 0, scores, BLOCK);
        for (size_t i = 0; i < n; i++)
            add_scores(j, begin + i, scores + i * BLOCK, first, width, &filled[i]);
    }
    return 0;
}

static int create(struct neuron_tokens *t, size_t n, size_t k, const struct model_config *c, struct err *err)
{
    size_t size;
    *t = (struct neuron_tokens){ .n = n, .k = k };
    if (k > c->d_vocab)
        return err_set(err, ERR_ARG, "%zu tokens were asked for: the vocabulary has %zu", k, c->d_vocab);
    if (!size_mul(n, k, &size))
        return err_nomem(err, "tokens of neurons");
    t->up = mem_array(size, sizeof *t->up);
    t->down = mem_array(size, sizeof *t->down);
    t->up_score = mem_array(size, sizeof *t->up_score);
    t->down_score = mem_array(size, sizeof *t->down_score);
    t->rank = mem_zeroed(n, sizeof *t->rank);
    return t->up && t->down && t->up_score && t->down_score && t->rank ? 0 : err_nomem(err, "tokens of neurons");
}

static int fill(struct job *j, const struct neuron *neurons, enum neuron_tokens_norm norm, struct err *err)
{
    const struct model_config *c = &j->model->config;
    for (size_t i = 0; i < j->t->n; i++) {
        float *value = j->values + i * c->d_model;
        if (neurons[i].layer >= c->n_layers || neurons[i].unit >= c->d_mlp)
            return err_set(err, ERR_ARG, "neuron L%zuN%zu does not exist: the model has %zu layers of %zu neurons",
                           neurons[i].layer, neurons[i].unit, c->n_layers, c->d_mlp);
        int rc = model_use_layer(j->model, neurons[i].layer, err);
        if (rc)
            return rc;
        fill_value(j->model, &neurons[i], norm, value);
        int32_t token = j->tokens ? j->tokens[i] : -1;
        if (token < 0)
            continue;
        if ((size_t)token >= c->d_vocab)
            return err_set(err, ERR_ARG, "token %d is outside the vocabulary of %zu", (int)token, c->d_vocab);
        j->t->rank[i] = 1;
        j->target[i] = 0;
        for (size_t d = 0; d < c->d_model; d++)
            j->target[i] += (double)value[d] * (double)at(&j->model->unembed, (size_t)token, d);
    }
    return 0;
}

int neuron_tokens_run(struct neuron_tokens *t, struct runtime *rt, const struct neuron *neurons, size_t n, size_t k,
                      enum neuron_tokens_norm norm, const int32_t *tokens, struct err *err)
{
    struct job j = { .model = runtime_model(rt), .t = t, .tokens = tokens };
    size_t n_workers = (size_t)pool_threads(runtime_pool(rt));
    *t = (struct neuron_tokens){ 0 };
    int rc = neurons_check(j.model, err);
    rc = rc ? rc : logit_direction_check_width(j.model, err);
    rc = rc ? rc : create(t, n, k, &j.model->config, err);
    if (rc)
        return rc;
    j.values = mem_aligned(n, j.model->config.d_model * sizeof *j.values);
    j.target = mem_array(n, sizeof *j.target);
    j.scores = mem_aligned(n_workers, GROUP * BLOCK * sizeof *j.scores);
    if (!rc && (!j.values || !j.target || !j.scores))
        rc = err_nomem(err, "tokens of neurons");
    rc = rc ? rc : fill(&j, neurons, norm, err);
    rc = rc ? rc : pool_try(runtime_pool(rt), (n + GROUP - 1) / GROUP, group_task, &j, err);
    free(j.values);
    free(j.target);
    free(j.scores);
    if (rc)
        neuron_tokens_release(t);
    return rc;
}

void neuron_tokens_release(struct neuron_tokens *t)
{
    free(t->up);
    free(t->down);
    free(t->up_score);
    free(t->down_score);
    free(t->rank);
    *t = (struct neuron_tokens){ 0 };
}
