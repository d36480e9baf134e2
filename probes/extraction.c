#include "probes/extraction.h"

#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "core/runtime/kernels.h"
#include "probes/logit_lens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *extraction_keys_name(enum extraction_keys keys)
{
    static const char *const names[] = {
#define X(id, name) name,
        EXTRACTION_KEYS(X)
#undef X
    };
    return names[keys];
}

const char *extraction_mode_name(enum extraction_mode mode)
{
    return mode == EXTRACTION_RENORMALISED ? "renormalised" : "resoftmax";
}

size_t extraction_events(const int32_t *top, int32_t answer, size_t n_layers, size_t *first)
{
    size_t n = 0, earliest = n_layers;
    for (size_t l = n_layers; l-- > 0;)
        if (top[l] == answer) {
            earliest = l;
            n++;
        }
    if (first)
        *first = earliest;
    return n;
}

/* The answer of a random fact whose answer is another token. Where such facts are rare, the next one in order. */
static int32_t draw_other(const int32_t *answers, size_t n, int32_t answer, struct random_source *random)
{
    enum { MOST_TRIES = 100 };
    size_t at = 0;
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        at = (size_t)random_below(random, n);
        if (answers[at] != answer)
            return answers[at];
    }
    while (answers[at] == answer)
        at = (at + 1) % n;
    return answers[at];
}

double extraction_chance(const int32_t *top, const int32_t *answers, size_t n_facts, size_t n_layers, size_t draws,
                         uint64_t seed)
{
    struct random_source random;
    size_t events = 0;
    bool differ = false;
    for (size_t i = 1; i < n_facts; i++)
        differ |= answers[i] != answers[0];
    if (!differ || !draws)
        return NAN;
    random_seed(&random, seed);
    for (size_t i = 0; i < n_facts; i++)
        for (size_t d = 0; d < draws; d++) {
            int32_t other = draw_other(answers, n_facts, answers[i], &random);
            events += extraction_events(top + i * n_layers, other, n_layers, NULL) > 0;
        }
    return (double)events / (double)(n_facts * draws);
}

static bool blocks(enum extraction_keys keys, const struct prompt *p, size_t token)
{
    bool last = token + 1 == p->n_tokens, subject_last = token + 1 == p->subject_end;
    bool subject = token >= p->subject_begin && token < p->subject_end;
    switch (keys) {
    case EXTRACTION_BLOCK_SUBJECT:
        return subject;
    case EXTRACTION_BLOCK_LAST:
        return last;
    case EXTRACTION_BLOCK_SUBJECT_LAST:
        return subject_last;
    case EXTRACTION_BLOCK_SUBJECT_LAST_AND_LAST:
        return subject_last || last;
    case EXTRACTION_BLOCK_NON_SUBJECT:
        return !subject;
    case EXTRACTION_BLOCK_NON_SUBJECT_BUT_LAST:
        return !subject && !last;
    case EXTRACTION_BLOCK_ALL_BUT_FIRST:
        return token > 0;
    case EXTRACTION_BLOCK_ALL_BUT_LAST:
        return !last;
    case EXTRACTION_BLOCK_ALL_BUT_SUBJECT_LAST:
        return !subject_last;
    case EXTRACTION_BLOCK_ALL_BUT_SUBJECT_LAST_AND_LAST:
        return !subject_last && !last;
    case EXTRACTION_BLOCK_ALL:
        return true;
    case EXTRACTION_BLOCK_NOTHING:
    case EXTRACTION_N_KEYS:
        break;
    }
    return false;
}

void extraction_blocked(enum extraction_keys keys, const struct prompt *prompt, unsigned char *mask)
{
    for (size_t t = 0; t < prompt->n_tokens; t++)
        mask[t] = blocks(keys, prompt, t);
}

/* --- attention of the last token, once more --- */

struct job {
    struct runtime *rt;
    const struct extraction_input *in;
    struct collector c;
    size_t n_layers, d, real, layer;
    size_t longest, scratch_bytes; /* of a worker */
    char *states;                  /* [n_facts, EXTRACTION_SUBLAYERS, n_layers, d] */
    char *again;                   /* [n_facts, n_restrictions, n_layers, d] */
    double *scratch;
};

/*
 * The weights of one head, in place, over the edges that the causal mask and the window leave: those are the ones
 * whose weight is not zero.
 */
static void restrict_weights(double *weight, const unsigned char *blocked, size_t n, enum extraction_mode mode)
{
    double sum = 0;
    bool any = false;
    for (size_t t = 0; t < n; t++)
        any |= blocked[t] && weight[t] > 0;
    if (!any)
        return;
    for (size_t t = 0; t < n; t++) {
        bool stays = !blocked[t] && weight[t] > 0;
        weight[t] = !stays ? 0 : mode == EXTRACTION_RESOFTMAX ? exp(weight[t]) : weight[t];
        sum += weight[t];
    }
    for (size_t t = 0; t < n && sum > 0; t++)
        weight[t] /= sum;
}

static double number(const void *data, enum precision precision, size_t i)
{
    return precision == PRECISION_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* z [n_heads * d_head] of the last token under one restriction. */
static void mix_values(const struct job *j, size_t fact, size_t layer, const struct extraction_restriction *r,
                       const unsigned char *blocked, double *weight, double *z)
{
    const struct model_config *c = &runtime_model(j->rt)->config;
    const struct prompt *p = &j->in->prompts[fact];
    size_t n = p->n_tokens, group = c->n_heads / c->n_kv_heads, width = c->n_kv_heads * c->d_head;
    const void *pattern = collector_edges(&j->c, SITE_PATTERN, layer, fact);
    const void *values = collector_rows(&j->c, SITE_V, layer);
    enum precision precision = runtime_precision(j->rt);
    memset(z, 0, c->n_heads * c->d_head * sizeof *z);
    for (size_t h = 0; h < c->n_heads; h++) {
        double *out = z + h * c->d_head;
        collector_widen(pattern, precision, (h * n + n - 1) * n, n, weight);
        restrict_weights(weight, blocked, n, r->mode);
        for (size_t t = 0; t < n; t++) {
            size_t row = (j->c.first_row[fact] + t) * width + h / group * c->d_head;
            for (size_t k = 0; weight[t] > 0 && k < c->d_head; k++)
                out[k] += weight[t] * number(values, precision, row + k);
        }
    }
}

/* Sums in eight lanes, so that the compiler may keep them in one register. */
static double dot(const float *w, const double *x, size_t n)
{
    enum { LANES = 8 };
    double lane[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += (double)w[i + k] * x[i + k];
    for (; i < n; i++)
        sum += (double)w[i] * x[i];
    for (size_t k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

static void put(const struct job *j, void *to, size_t i, double x)
{
    if (j->real == sizeof(double))
        ((double *)to)[i] = x;
    else
        ((float *)to)[i] = (float)x;
}

/* What attention adds to the stream for what it returns: x[d], in place. */
static void finish_output(const struct model_config *c, const struct norm_weights *post, double *x)
{
    double mean, scale;
    if (c->sublayer_norms) {
        kernels_f64()->norm_stats(x, c->d_model, c->norm, c->norm_eps, &mean, &scale);
        kernels_f64()->normalize(x, c->d_model, mean, scale, x);
        if (post->gain)
            kernels_f64()->gain_bias(x, post->gain, post->bias, c->d_model, x);
    }
    for (size_t i = 0; !c->sublayer_norms && i < c->d_model; i++)
        x[i] *= c->residual_scale;
}

/* out = W_O z + b_O for one z, as it is added to the stream; acc[d] is scratch. */
static void project(const struct job *j, size_t layer, const double *z, double *acc, void *out)
{
    const struct layer *w = &runtime_model(j->rt)->layers[layer];
    for (size_t o = 0; o < j->d; o++)
        acc[o] = w->o_bias ? (double)w->o_bias[o] : 0;
    for (size_t i = 0; w->o.in_major && i < w->o.n_in; i++)
        for (size_t o = 0; o < j->d; o++)
            acc[o] += z[i] * (double)w->o.data[i * w->o.stride + o];
    for (size_t o = 0; !w->o.in_major && o < j->d; o++)
        acc[o] += dot(w->o.data + o * w->o.stride, z, w->o.n_in);
    finish_output(&runtime_model(j->rt)->config, &w->ln1_post, acc);
    for (size_t o = 0; o < j->d; o++)
        put(j, out, o, acc[o]);
}

static int attend_task(void *arg, size_t index, int worker, struct err *err)
{
    (void)err;
    const struct job *j = arg;
    const struct model_config *c = &runtime_model(j->rt)->config;
    size_t fact = index, layer = j->layer, n_z = c->n_heads * c->d_head;
    double *weight = (double *)(void *)((char *)j->scratch + (size_t)worker * j->scratch_bytes);
    double *z = weight + j->longest, *acc = z + n_z;
    unsigned char *blocked = (unsigned char *)(acc + j->d);
    for (size_t r = 0; r < j->in->n_restrictions; r++) {
        char *out = j->again + ((fact * j->in->n_restrictions + r) * j->n_layers + layer) * j->d * j->real;
        extraction_blocked(j->in->restrictions[r].keys, &j->in->prompts[fact], blocked);
        mix_values(j, fact, layer, &j->in->restrictions[r], blocked, weight, z);
        project(j, layer, z, acc, out);
    }
    return 0;
}

static int attend_again(struct job *j, struct err *err)
{
    const struct model_config *c = &runtime_model(j->rt)->config;
    size_t threads = (size_t)pool_threads(runtime_pool(j->rt)), n;
    j->scratch_bytes = (j->longest + c->n_heads * c->d_head + j->d) * sizeof(double) + (j->longest + 63) / 64 * 64;
    if (!size_mul(j->in->n_facts * j->n_layers, j->in->n_restrictions, &n) || !size_mul(n, j->d, &n))
        return err_nomem(err, "restricted attention");
    j->again = mem_aligned(n, j->real);
    j->scratch = mem_aligned(threads, j->scratch_bytes);
    if (!j->again || !j->scratch)
        return err_nomem(err, "restricted attention");
    int rc = 0;
    for (j->layer = 0; !rc && j->layer < j->n_layers; j->layer++) {
        rc = model_use_layer(runtime_model(j->rt), j->layer, err);
        rc = rc ? rc : pool_try(runtime_pool(j->rt), j->in->n_facts, attend_task, j, err);
    }
    return rc;
}

/* --- the run --- */

static int collect(struct job *j, const struct site_set *reads, struct err *err)
{
    const struct extraction_input *in = j->in;
    struct forward f = { .prompts = in->prompts, .n_prompts = in->n_facts, .reads = reads, .sink = &j->c.sink };
    unsigned char *keep = NULL;
    size_t n_rows = 0;
    for (size_t i = 0; i < in->n_facts; i++)
        n_rows += in->prompts[i].n_tokens;
    /* Values are wanted of all tokens. */
    if (!in->n_restrictions) {
        keep = mem_zeroed(n_rows, 1);
        if (!keep)
            return err_nomem(err, "extraction");
        for (size_t i = 0, row = 0; i < in->n_facts; i++)
            keep[(row += in->prompts[i].n_tokens) - 1] = 1;
        f.read_rows = keep;
    }
    int rc = collector_begin(&j->c, in->prompts, in->n_facts, keep, err);
    rc = rc ? rc : runtime_forward(j->rt, &f, err);
    free(keep);
    return rc;
}

static int choose_reads(const struct job *j, struct site_set *reads, struct err *err)
{
    int rc = site_set_init(reads, &runtime_model(j->rt)->config, err);
    for (size_t l = 0; !rc && l < j->n_layers; l++) {
        site_set_add_one(reads, (struct site_ref){ SITE_ATTN_OUT, l });
        site_set_add_one(reads, (struct site_ref){ SITE_MLP_OUT, l });
        if (j->in->n_restrictions) {
            site_set_add_one(reads, (struct site_ref){ SITE_PATTERN, l });
            site_set_add_one(reads, (struct site_ref){ SITE_V, l });
        }
    }
    return rc;
}

static int gather(struct job *j, struct err *err)
{
    static const enum site sites[EXTRACTION_SUBLAYERS] = { SITE_ATTN_OUT, SITE_MLP_OUT };
    size_t bytes = j->d * j->real, n, row = 0;
    if (!size_mul(j->in->n_facts * EXTRACTION_SUBLAYERS, j->n_layers, &n) || !(j->states = mem_aligned(n, bytes)))
        return err_nomem(err, "the states of sublayers");
    for (size_t i = 0; i < j->in->n_facts; i++) {
        row += j->in->prompts[i].n_tokens;
        for (size_t s = 0; s < EXTRACTION_SUBLAYERS; s++)
            for (size_t l = 0; l < j->n_layers; l++) {
                const char *from = collector_rows(&j->c, sites[s], l);
                char *to = j->states + ((i * EXTRACTION_SUBLAYERS + s) * j->n_layers + l) * bytes;
                memcpy(to, from + j->c.kept[row - 1] * bytes, bytes);
            }
    }
    return 0;
}

/* Rank of each fact's answer in its states, and their top tokens; overwrites the states. */
static int rank_states(struct job *j, void *states, size_t n_states, int32_t **rank, int32_t **top, struct err *err)
{
    struct lens_result r;
    const struct lens_input in = { .states = states,
                                   .n_rows = j->in->n_facts,
                                   .n_states = n_states,
                                   .answers = j->in->answers,
                                   .top_k = 1,
                                   .normed = j->in->norm == EXTRACTION_GEVA };
    int rc = lens_result_create(&r, in.n_rows, in.n_states, in.top_k, err);
    if (rc)
        return rc;
    rc = logit_lens(j->rt, &in, &r, err);
    if (!rc) {
        *rank = r.rank;
        *top = r.top_token;
        r.rank = r.top_token = NULL;
    }
    lens_result_release(&r);
    return rc;
}

static int check(const struct extraction_input *in, struct job *j, struct err *err)
{
    for (size_t i = 0; i < in->n_facts; i++) {
        const struct prompt *p = &in->prompts[i];
        const char *name = p->name ? p->name : "?";
        if (in->answers[i] < 0)
            return err_set(err, ERR_ARG, "prompt %s: extraction needs the answer", name);
        if (in->n_restrictions && (p->subject_begin >= p->subject_end || p->subject_end > p->n_tokens))
            return err_set(err, ERR_ARG, "prompt %s: restricted extraction needs the prompt's subject", name);
        j->longest = p->n_tokens > j->longest ? p->n_tokens : j->longest;
    }
    return 0;
}

static int measure(struct job *j, struct extraction *x, const struct site_set *reads, struct err *err)
{
    int rc = collector_init(&j->c, reads, runtime_precision(j->rt), err);
    if (rc)
        return rc;
    rc = collect(j, reads, err);
    rc = rc ? rc : gather(j, err);
    rc = rc || !j->in->n_restrictions ? rc : attend_again(j, err);
    collector_release(&j->c);
    rc = rc ? rc : rank_states(j, j->states, EXTRACTION_SUBLAYERS * j->n_layers, &x->rank, &x->top, err);
    if (!rc && j->in->n_restrictions)
        rc =
            rank_states(j, j->again, j->in->n_restrictions * j->n_layers, &x->restricted_rank, &x->restricted_top, err);
    free(j->states);
    free(j->again);
    free(j->scratch);
    return rc;
}

int extraction_run(struct extraction *x, struct runtime *rt, const struct extraction_input *in, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct job j = { .rt = rt, .in = in, .n_layers = c->n_layers, .d = c->d_model };
    struct site_set reads;
    j.real = runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float);
    *x = (struct extraction){ .n_facts = in->n_facts, .n_layers = c->n_layers, .n_restrictions = in->n_restrictions };
    int rc = check(in, &j, err);
    if (rc || (rc = choose_reads(&j, &reads, err)))
        return rc;
    rc = measure(&j, x, &reads, err);
    site_set_release(&reads);
    if (rc)
        extraction_release(x);
    return rc;
}

void extraction_release(struct extraction *x)
{
    free(x->rank);
    free(x->top);
    free(x->restricted_rank);
    free(x->restricted_top);
    *x = (struct extraction){ 0 };
}
