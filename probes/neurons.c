#include "probes/neurons.h"

#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "core/store/journal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FACTS = 64 }; /* in a batch: bounds what is kept of them */

struct taker {
    struct sink sink; /* first */
    const struct model *model;
    const struct prompt *prompts;
    size_t n_prompts;
    size_t *prompt_of;                /* [rows] */
    unsigned char *last, *final_rows; /* [rows]; no row needs the final norm */
    double *m, *resid;                /* [n_prompts, n_layers, d_mlp], [n_prompts, d_model] */
    double *scale;                    /* [n_prompts, n_layers] of the norm after the MLP, where there is one */
    double *directions, *columns, *w; /* 2 [n_prompts, d_model], [n_prompts, d_mlp], [d_model, d_mlp] */
};

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    const struct taker *t = (struct taker *)(void *)self;
    const struct model_config *c = &t->model->config;
    (void)err;
    for (size_t r = 0; r < v->n_rows; r++) {
        size_t row = v->rows ? v->rows[r] : v->first_row + r;
        if (!t->last[row])
            continue;
        size_t at = t->prompt_of[row] * c->n_layers + v->layer;
        double *out = v->site == SITE_MLP_POST     ? t->m + at * c->d_mlp
                      : v->site == SITE_RESID_POST ? t->resid + t->prompt_of[row] * c->d_model
                                                   : t->scale + at;
        collector_widen(v->data, v->precision, r * v->row_size, v->row_size, out);
    }
    return 0;
}

static int make_room(struct taker *t, struct err *err)
{
    const struct model_config *c = &t->model->config;
    size_t n_rows = 0, row = 0;
    for (size_t i = 0; i < t->n_prompts; i++)
        n_rows += t->prompts[i].n_tokens;
    t->prompt_of = mem_array(n_rows, sizeof *t->prompt_of);
    t->last = mem_zeroed(n_rows, 1);
    t->final_rows = mem_zeroed(n_rows, 1);
    t->m = mem_array(t->n_prompts * c->n_layers, c->d_mlp * sizeof *t->m);
    t->resid = mem_array(t->n_prompts, c->d_model * sizeof *t->resid);
    t->scale = mem_array(t->n_prompts, c->n_layers * sizeof *t->scale);
    t->directions = mem_array(t->n_prompts, 2 * c->d_model * sizeof *t->directions);
    t->columns = mem_array(t->n_prompts, c->d_mlp * sizeof *t->columns);
    t->w = mem_array(c->d_model, c->d_mlp * sizeof *t->w);
    if (!t->prompt_of || !t->last || !t->final_rows || !t->m || !t->resid || !t->scale || !t->directions ||
        !t->columns || !t->w)
        return err_nomem(err, "the neurons of a batch");
    for (size_t i = 0; i < t->n_prompts; i++) {
        for (size_t k = 0; k < t->prompts[i].n_tokens; k++)
            t->prompt_of[row++] = i;
        t->last[row - 1] = 1;
    }
    return 0;
}

static void release_taker(struct taker *t)
{
    free(t->prompt_of);
    free(t->last);
    free(t->final_rows);
    free(t->m);
    free(t->resid);
    free(t->scale);
    free(t->directions);
    free(t->columns);
    free(t->w);
}

static int run_model(struct taker *t, struct runtime *rt, struct err *err)
{
    const struct model_config *c = &t->model->config;
    struct site_set reads;
    int rc = site_set_init(&reads, c, err);
    rc = rc ? rc : site_set_add(&reads, "blocks.*.mlp.hook_post", err);
    if (!rc) {
        site_set_add_one(&reads, (struct site_ref){ SITE_RESID_POST, c->n_layers - 1 });
        for (size_t l = 0; c->sublayer_norms && l < c->n_layers; l++)
            site_set_add_one(&reads, (struct site_ref){ SITE_LN2_POST_SCALE, l });
        const struct forward f = { .prompts = t->prompts,
                                   .n_prompts = t->n_prompts,
                                   .reads = &reads,
                                   .sink = &t->sink,
                                   .final_rows = t->final_rows,
                                   .read_rows = t->last };
        rc = runtime_forward(rt, &f, err);
    }
    site_set_release(&reads);
    return rc;
}

/* --- what is kept of a layer --- */

/* Puts x into the falling list[most] of which *n are filled, if it is large enough; equal keys: the earlier stays. */
static void insert(struct neuron *list, size_t most, size_t *n, const struct neuron *x, bool by_size)
{
#define KEY(e) (by_size ? (e)->size : (e)->logit)
    if (*n == most && KEY(x) <= KEY(&list[most - 1]))
        return;
    size_t at = *n < most ? (*n)++ : most - 1;
    for (; at && KEY(&list[at - 1]) < KEY(x); at--)
        list[at] = list[at - 1];
    list[at] = *x;
#undef KEY
}

/* The units of largest |m|. */
static void largest(const double *m, size_t n, int32_t fired[NEURON_FIRED])
{
    size_t filled = 0;
    for (size_t i = 0; i < NEURON_FIRED; i++)
        fired[i] = -1;
    for (size_t u = 0; u < n; u++) {
        if (filled == NEURON_FIRED && fabs(m[u]) <= fabs(m[fired[NEURON_FIRED - 1]]))
            continue;
        size_t at = filled < NEURON_FIRED ? filled++ : NEURON_FIRED - 1;
        for (; at && fabs(m[fired[at - 1]]) < fabs(m[u]); at--)
            fired[at] = fired[at - 1];
        fired[at] = (int32_t)u;
    }
}

/* Entropy of the shares of sizes[n] in their sum: log S - sum s log s / S. */
static double entropy_of(const double *m, const double *norms, size_t n)
{
    double sum = 0, weighted = 0;
    for (size_t u = 0; u < n; u++) {
        double size = fabs(m[u]) * norms[u];
        sum += size;
        weighted += size > 0 ? size * log(size) : 0;
    }
    return sum > 0 ? log(sum) - weighted / sum : 0;
}

struct lists {
    size_t n_logit, n_size;
};

static void add_layer(struct neuron_activity *a, const struct taker *t, size_t fact, size_t i, size_t l,
                      const double *norms, struct lists *lists)
{
    const struct model_config *c = &t->model->config;
    const double *m = t->m + (i * c->n_layers + l) * c->d_mlp, *column = t->columns + i * c->d_mlp;
    double sum = 0;
    for (size_t u = 0; u < c->d_mlp; u++) {
        const struct neuron x = {
            .layer = l, .unit = u, .coefficient = m[u], .size = fabs(m[u]) * norms[u], .logit = m[u] * column[u]
        };
        sum += x.logit;
        insert(a->by_logit + fact * a->top, a->top, &lists->n_logit, &x, false);
        insert(a->by_size + fact * a->top, a->top, &lists->n_size, &x, true);
    }
    a->logit[fact * c->n_layers + l] = sum;
    a->entropy[fact * c->n_layers + l] = entropy_of(m, norms, c->d_mlp);
    largest(m, c->d_mlp, a->fired + (fact * c->n_layers + l) * NEURON_FIRED);
}

static int summarise(struct neuron_activity *a, const struct taker *t, const struct logit_contrast *contrasts,
                     const double *norms, size_t first, struct err *err)
{
    const struct model_config *c = &t->model->config;
    struct lists *lists = mem_zeroed(t->n_prompts, sizeof *lists);
    if (!lists)
        return err_nomem(err, "the neurons of a batch");
    for (size_t i = 0; i < t->n_prompts; i++) {
        double constant;
        logit_direction(t->model, &contrasts[first + i], t->resid + i * c->d_model, t->directions + i * c->d_model,
                        &constant);
    }
    double *own = t->directions + t->n_prompts * c->d_model;
    int rc = 0;
    for (size_t l = 0; l < c->n_layers && !(rc = model_use_layer(t->model, l, err)); l++) {
        for (size_t i = 0; i < t->n_prompts; i++)
            sublayer_direction(t->model, &t->model->layers[l].ln2_post, t->scale[i * c->n_layers + l],
                               t->directions + i * c->d_model, own + i * c->d_model);
        direction_columns(&t->model->layers[l].mlp.down, own, t->n_prompts, t->columns, t->w);
        for (size_t i = 0; i < t->n_prompts; i++)
            add_layer(a, t, first + i, i, l, norms + l * c->d_mlp, &lists[i]);
    }
    free(lists);
    return rc;
}

static int run_batch(struct neuron_activity *a, struct runtime *rt, const struct prompt *prompts,
                     const struct logit_contrast *contrasts, const double *norms, size_t first, size_t n,
                     struct err *err)
{
    struct taker t = { .sink = { take }, .model = runtime_model(rt), .prompts = prompts + first, .n_prompts = n };
    int rc = make_room(&t, err);
    rc = rc ? rc : run_model(&t, rt, err);
    rc = rc ? rc : summarise(a, &t, contrasts, norms, first, err);
    release_taker(&t);
    return rc;
}

/* From the journal, or measured. */
static int take_batch(struct neuron_activity *a, struct runtime *rt, const struct prompt *prompts,
                      const struct logit_contrast *contrasts, const double *norms, size_t first, size_t n,
                      struct progress *progress, struct err *err)
{
    size_t at = first * a->n_layers, size = n * a->n_layers, listed = n * a->top;
    const struct journal_part parts[] = { { a->by_logit + first * a->top, listed * sizeof *a->by_logit },
                                          { a->by_size + first * a->top, listed * sizeof *a->by_size },
                                          { a->fired + at * NEURON_FIRED, size * NEURON_FIRED * sizeof *a->fired },
                                          { a->entropy + at, size * sizeof *a->entropy },
                                          { a->logit + at, size * sizeof *a->logit } };
    enum { N = sizeof parts / sizeof *parts };
    if (journal_load(progress_journal(progress), parts, N))
        return 0;
    int rc = run_batch(a, rt, prompts, contrasts, norms, first, n, err);
    return rc ? rc : journal_save(progress_journal(progress), parts, N, err);
}

/* ||v_n|| of every layer: [n_layers, d_mlp]. */
static int value_norms(const struct model *m, double **out, struct err *err)
{
    const struct model_config *c = &m->config;
    double *norms = *out = mem_zeroed(c->n_layers * c->d_mlp, sizeof *norms);
    int rc = norms ? 0 : err_nomem(err, "the norms of value vectors");
    for (size_t l = 0; !rc && l < c->n_layers && !(rc = model_use_layer(m, l, err)); l++) {
        const struct matrix *w = &m->layers[l].mlp.down;
        double *norm = norms + l * c->d_mlp;
        for (size_t o = 0; o < w->n_out; o++)
            for (size_t u = 0; u < w->n_in; u++) {
                double x = (double)(w->in_major ? w->data[u * w->stride + o] : w->data[o * w->stride + u]);
                norm[u] += x * x;
            }
        for (size_t u = 0; u < w->n_in; u++)
            norm[u] = sqrt(norm[u]);
    }
    return rc;
}

static int create(struct neuron_activity *a, const struct model_config *c, size_t n_facts, size_t top, struct err *err)
{
    size_t n;
    *a = (struct neuron_activity){ .n_facts = n_facts, .n_layers = c->n_layers, .top = top };
    if (!top || top > c->n_layers * c->d_mlp)
        return err_set(err, ERR_ARG, "%zu neurons were asked for: the model has %zu", top, c->n_layers * c->d_mlp);
    if (!size_mul(n_facts, top, &n))
        return err_nomem(err, "the neurons of facts");
    a->by_logit = mem_array(n, sizeof *a->by_logit);
    a->by_size = mem_array(n, sizeof *a->by_size);
    a->fired = mem_array(n_facts * c->n_layers, NEURON_FIRED * sizeof *a->fired);
    a->entropy = mem_array(n_facts * c->n_layers, sizeof *a->entropy);
    a->logit = mem_array(n_facts * c->n_layers, sizeof *a->logit);
    return a->by_logit && a->by_size && a->fired && a->entropy && a->logit ? 0 : err_nomem(err, "the neurons of facts");
}

static int check(const struct model *m, const struct prompt *prompts, const struct logit_contrast *contrasts, size_t n,
                 struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        bool inside = contrasts[i].answer >= 0 && (size_t)contrasts[i].answer < m->config.d_vocab;
        for (size_t k = 0; k < contrasts[i].n_rivals; k++)
            inside = inside && contrasts[i].rivals[k] >= 0 && (size_t)contrasts[i].rivals[k] < m->config.d_vocab;
        if (!prompts[i].n_tokens || !inside)
            return err_set(err, ERR_ARG, "prompt %s: it has no tokens, or an answer outside the vocabulary of %zu",
                           prompts[i].name ? prompts[i].name : "?", m->config.d_vocab);
    }
    return 0;
}

int neurons_check(const struct model *m, struct err *err)
{
    if (!m->config.n_experts)
        return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: its MLPs are mixtures of experts, which have no mlp.hook_post: see the sites "
                   "mlp.hook_expert_weights and mlp.hook_expert_result",
                   m->architecture);
}

int neuron_activity_run(struct neuron_activity *a, struct runtime *rt, const struct prompt *prompts,
                        const struct logit_contrast *contrasts, size_t n_facts, size_t top, struct progress *progress,
                        struct err *err)
{
    const struct model *m = runtime_model(rt);
    double *norms = NULL;
    *a = (struct neuron_activity){ 0 };
    int rc = neurons_check(m, err);
    rc = rc ? rc : logit_direction_check(m, err);
    rc = rc ? rc : create(a, &m->config, n_facts, top, err);
    rc = rc ? rc : check(m, prompts, contrasts, n_facts, err);
    rc = rc ? rc : value_norms(m, &norms, err);
    for (size_t first = 0, n; !rc && first < n_facts; first += n) {
        size_t rows = prompts[first].n_tokens;
        for (n = 1; first + n < n_facts && n < MOST_FACTS; n++) {
            rows += prompts[first + n].n_tokens;
            if (rows > runtime_batch_rows())
                break;
        }
        rc = take_batch(a, rt, prompts, contrasts, norms, first, n, progress, err);
        if (!rc && progress_step(progress, first + n, n_facts))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu facts", first + n, n_facts);
    }
    free(norms);
    if (rc)
        neuron_activity_release(a);
    return rc;
}

void neuron_activity_release(struct neuron_activity *a)
{
    free(a->by_logit);
    free(a->by_size);
    free(a->fired);
    free(a->entropy);
    free(a->logit);
    *a = (struct neuron_activity){ 0 };
}

/* --- paraphrases --- */

/* Adds to sum[n_layers] the share of units that two facts have in common. */
static void add_overlap(const struct neuron_activity *a, size_t i, size_t j, double *sum)
{
    for (size_t l = 0; l < a->n_layers; l++) {
        const int32_t *x = a->fired + (i * a->n_layers + l) * NEURON_FIRED;
        const int32_t *y = a->fired + (j * a->n_layers + l) * NEURON_FIRED;
        size_t common = 0, n = 0;
        for (size_t u = 0; u < NEURON_FIRED && x[u] >= 0; u++, n++)
            for (size_t w = 0; w < NEURON_FIRED; w++)
                common += x[u] == y[w];
        sum[l] += (double)common / (double)n;
    }
}

void neuron_overlap(const struct neuron_activity *a, const uint32_t *group, uint64_t seed, double *same, double *other,
                    size_t *n_pairs)
{
    struct random_source random;
    size_t n_other = 0, n_different = 0;
    *n_pairs = 0;
    for (size_t l = 0; l < a->n_layers; l++)
        same[l] = other[l] = 0;
    for (size_t i = 0; i < a->n_facts; i++) {
        n_different += group[i] != group[0];
        for (size_t j = i + 1; j < a->n_facts; j++)
            if (group[i] == group[j]) {
                add_overlap(a, i, j, same);
                ++*n_pairs;
            }
    }
    random_seed(&random, seed);
    while (n_different && n_other < *n_pairs) {
        size_t i = (size_t)random_below(&random, a->n_facts), j = (size_t)random_below(&random, a->n_facts);
        if (group[i] == group[j])
            continue;
        add_overlap(a, i, j, other);
        n_other++;
    }
    for (size_t l = 0; l < a->n_layers; l++) {
        same[l] = *n_pairs ? same[l] / (double)*n_pairs : NAN;
        other[l] = n_other ? other[l] / (double)n_other : NAN;
    }
}
