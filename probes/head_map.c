#include "probes/head_map.h"

#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/base/strbuf.h"
#include "core/runtime/collect.h"
#include "probes/logit_direction.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Vocabulary at a time: a block of W_U, its products with all heads and the logits of all subjects stay in cache. */
enum { BLOCK = 512, SUBJECTS_A_RUN = 512 };

/* Whether `object` is among the first k that a head writes for subject number `subject`. */
struct target {
    size_t subject, object; /* numbers of distinct tokens */
    size_t relation, k;
    bool control;
};

/* Distinct tokens, numbered in order of appearance. */
struct numbering {
    int32_t *tokens; /* [n] */
    size_t *number;  /* [d_vocab], SIZE_MAX: not there */
    size_t n;
};

struct job {
    struct runtime *rt;
    const struct model *model;
    enum head_map_norms norms;
    struct numbering subjects, objects;
    struct target *targets;
    size_t n_targets;
    unsigned char *covered;  /* [n_targets] by some head so far */
    float *embed, *enriched; /* [subjects, d_model] E_s, MLP0(ln2(E_s)) */
    float *object_rows;      /* [objects, d_model] rows of W_U */
    float *input;            /* [subjects, d_model] what the layer at hand reads */
    float *values;           /* [subjects, kv heads * d_head] */
    float *output;           /* [d_model, heads * d_head] W_O, under the final norm's gain */
    float *object_columns;   /* [objects, heads * d_head] W_U W_O */
    float *target_logits;    /* [targets, heads] */
    float *scratch;          /* a part for each worker */
    uint32_t *above, *below; /* [workers, targets, heads] */
    size_t scratch_size, n_workers;
    size_t layer;
};

/* --- tokens --- */

static int create_numbering(struct numbering *n, size_t d_vocab, size_t most, struct err *err)
{
    n->number = mem_array(d_vocab, sizeof *n->number);
    n->tokens = mem_array(most, sizeof *n->tokens);
    if (!n->number || !n->tokens)
        return err_nomem(err, "the tokens of relations");
    for (size_t v = 0; v < d_vocab; v++)
        n->number[v] = SIZE_MAX;
    return 0;
}

static size_t number_of(struct numbering *n, int32_t token)
{
    if (n->number[token] == SIZE_MAX) {
        n->number[token] = n->n;
        n->tokens[n->n++] = token;
    }
    return n->number[token];
}

static int check(const struct model *m, const struct head_map_relation *relations, size_t n, size_t *n_pairs,
                 struct err *err)
{
    *n_pairs = 0;
    for (size_t r = 0; r < n; r++) {
        if (!relations[r].n_pairs)
            return err_set(err, ERR_ARG, "relation %.200s has no pairs", relations[r].name);
        for (size_t i = 0; i < relations[r].n_pairs; i++) {
            const struct token_pair *p = &relations[r].pairs[i];
            if (p->subject < 0 || p->object < 0 || (size_t)p->subject >= m->config.d_vocab ||
                (size_t)p->object >= m->config.d_vocab)
                return err_set(err, ERR_ARG, "relation %.200s: a token is outside the vocabulary of %zu",
                               relations[r].name, m->config.d_vocab);
        }
        *n_pairs += relations[r].n_pairs;
    }
    return 0;
}

/* An object of the relation that is not this pair's; false where there is none. */
static bool other_object(const struct head_map_relation *r, size_t pair, struct random_source *random, int32_t *object)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_pairs; i++)
        n += r->pairs[i].object != r->pairs[pair].object;
    if (!n)
        return false;
    size_t chosen = (size_t)random_below(random, n);
    for (size_t i = 0; i < r->n_pairs; i++)
        if (r->pairs[i].object != r->pairs[pair].object && !chosen--)
            *object = r->pairs[i].object;
    return true;
}

static void add_target(struct job *j, int32_t subject, int32_t object, const struct target *as)
{
    struct target *t = &j->targets[j->n_targets++];
    *t = *as;
    t->subject = number_of(&j->subjects, subject);
    t->object = number_of(&j->objects, object);
}

static int choose_targets(struct job *j, const struct head_map_relation *relations, size_t n_relations, size_t n_pairs,
                          uint64_t seed, struct err *err)
{
    struct random_source random;
    int rc = create_numbering(&j->subjects, j->model->config.d_vocab, n_pairs, err);
    rc = rc ? rc : create_numbering(&j->objects, j->model->config.d_vocab, n_pairs, err);
    j->targets = mem_array(2 * n_pairs, sizeof *j->targets);
    j->covered = mem_zeroed(2 * n_pairs, 1);
    if (rc || !j->targets || !j->covered)
        return rc ? rc : err_nomem(err, "the pairs of relations");
    random_seed(&random, seed);
    for (size_t r = 0; r < n_relations; r++)
        for (size_t i = 0; i < relations[r].n_pairs; i++) {
            const struct token_pair *p = &relations[r].pairs[i];
            struct target t = { .relation = r, .k = relations[r].k ? relations[r].k : HEAD_MAP_K };
            int32_t other = -1;
            add_target(j, p->subject, p->object, &t);
            t.control = true;
            if (other_object(&relations[r], i, &random, &other))
                add_target(j, p->subject, other, &t);
        }
    return 0;
}

bool head_map_pair(const struct model *m, const char *subject, const char *object, struct token_pair *out)
{
    struct strbuf text = STRBUF_INIT;
    if (!m->tokenizer || !*subject || !*object)
        return false;
    strbuf_addf(&text, " %s", subject);
    out->subject = strbuf_failed(&text) ? -1 : tokenizer_find(m->tokenizer, text.data, text.len);
    strbuf_reset(&text);
    strbuf_addf(&text, " %s", object);
    out->object = strbuf_failed(&text) ? -1 : tokenizer_find(m->tokenizer, text.data, text.len);
    strbuf_release(&text);
    size_t n = m->config.d_vocab;
    return out->subject >= 0 && out->object >= 0 && (size_t)out->subject < n && (size_t)out->object < n;
}

/* --- what the subjects are --- */

static void narrow(const struct collector *c, enum site site, size_t n, float *out)
{
    const void *rows = collector_rows(c, site, 0);
    for (size_t i = 0; i < n; i++)
        out[i] = c->precision == PRECISION_F64 ? (float)((const double *)rows)[i] : ((const float *)rows)[i];
}

/* Every subject as a prompt of one token in which block 0's attention and the position add nothing. */
static int run_subjects(struct job *j, struct collector *c, const struct site_set *reads, const struct edit_list *edits,
                        struct err *err)
{
    size_t d = j->model->config.d_model;
    struct prompt prompts[SUBJECTS_A_RUN];
    int rc = 0;
    for (size_t first = 0, n; !rc && first < j->subjects.n; first += n) {
        n = j->subjects.n - first < SUBJECTS_A_RUN ? j->subjects.n - first : SUBJECTS_A_RUN;
        for (size_t i = 0; i < n; i++)
            prompts[i] = (struct prompt){ .tokens = &j->subjects.tokens[first + i], .n_tokens = 1 };
        const struct forward f = {
            .prompts = prompts, .n_prompts = n, .reads = reads, .edits = edits, .sink = &c->sink
        };
        rc = collector_begin(c, prompts, n, NULL, err);
        rc = rc ? rc : runtime_forward(j->rt, &f, err);
        if (!rc) {
            narrow(c, SITE_EMBED, n * d, j->embed + first * d);
            narrow(c, SITE_MLP_OUT, n * d, j->enriched + first * d);
        }
    }
    return rc;
}

static int enrich(struct job *j, struct err *err)
{
    const struct model_config *c = &j->model->config;
    struct site_set reads;
    struct collector collector = { 0 };
    struct edit_list edits = { 0 };
    int rc = site_set_init(&reads, c, err);
    rc = rc ? rc : site_set_add(&reads, "hook_embed,blocks.0.hook_mlp_out", err);
    rc = rc ? rc : edit_parse(&edits, "blocks.0.hook_attn_out zero", c, err);
    if (!rc && c->position == POSITION_LEARNED)
        rc = edit_parse(&edits, "hook_pos_embed zero", c, err);
    rc = rc ? rc : collector_init(&collector, &reads, runtime_precision(j->rt), err);
    if (!rc) {
        rc = run_subjects(j, &collector, &reads, &edits, err);
        collector_release(&collector);
    }
    edit_list_release(&edits);
    site_set_release(&reads);
    return rc;
}

/* --- one layer --- */

/* The norm of each row x[d] without bias and scale, into y; gain may be NULL. */
static void norm_rows(const struct model_config *c, const float *gain, const float *x, size_t n, float *y)
{
    for (size_t r = 0; r < n; r++, x += c->d_model, y += c->d_model) {
        double mean = 0;
        for (size_t i = 0; i < c->d_model && c->norm == NORM_LAYER; i++)
            mean += (double)x[i] / (double)c->d_model;
        for (size_t i = 0; i < c->d_model; i++)
            y[i] = (x[i] - (float)mean) * (gain ? gain[i] : 1.0F);
    }
}

/* y[n, w->n_out] = x[n, w->n_in] W^T for outputs [first, first + w's count in y). */
static void product(const struct matrix *w, size_t first, size_t n_out, const float *x, size_t n, float *y)
{
    const float *data = w->data + (w->in_major ? first : first * w->stride);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, w->in_major ? CblasNoTrans : CblasTrans, (int)n, (int)n_out, (int)w->n_in,
                1, x, (int)w->n_in, data, (int)w->stride, 0, y, (int)n_out);
}

/* One column of W_O through a norm, its scale and bias apart. */
static void fold_norm(const struct job *j, const struct norm_weights *norm, size_t column, size_t stride)
{
    const struct model_config *c = &j->model->config;
    float *w = j->output + column;
    double mean = 0;
    for (size_t i = 0; i < c->d_model && c->norm == NORM_LAYER; i++)
        mean += (double)w[i * stride] / (double)c->d_model;
    for (size_t i = 0; i < c->d_model; i++)
        w[i * stride] = (w[i * stride] - (float)mean) * (norm->gain ? norm->gain[i] : 1.0F);
}

/* W_O as rows of d_model, the norm after attention and the final norm taken into it. */
static void fold_output(struct job *j)
{
    const struct model_config *c = &j->model->config;
    const struct layer *w = &j->model->layers[j->layer];
    const struct matrix *o = &w->o;
    for (size_t k = 0; k < o->n_in; k++) {
        for (size_t i = 0; i < o->n_out; i++)
            j->output[i * o->n_in + k] = o->in_major ? o->data[k * o->stride + i] : o->data[i * o->stride + k];
        if (j->norms == HEAD_MAP_GAINS && c->sublayer_norms)
            fold_norm(j, &w->ln1_post, k, o->n_in);
        if (j->norms == HEAD_MAP_GAINS && c->final_norm)
            fold_norm(j, &j->model->ln_final, k, o->n_in);
    }
}

static void find_target_logits(struct job *j)
{
    const struct model_config *c = &j->model->config;
    size_t width = c->n_heads * c->d_head, group = c->n_heads / c->n_kv_heads, v_width = c->n_kv_heads * c->d_head;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)j->objects.n, (int)width, (int)c->d_model, 1,
                j->object_rows, (int)c->d_model, j->output, (int)width, 0, j->object_columns, (int)width);
    for (size_t t = 0; t < j->n_targets; t++)
        for (size_t h = 0; h < c->n_heads; h++) {
            const float *value = j->values + j->targets[t].subject * v_width + h / group * c->d_head;
            const float *column = j->object_columns + j->targets[t].object * width + h * c->d_head;
            double sum = 0;
            for (size_t i = 0; i < c->d_head; i++)
                sum += (double)value[i] * (double)column[i];
            j->target_logits[t * c->n_heads + h] = (float)sum;
        }
}

static int begin_layer(struct job *j, size_t layer, struct err *err)
{
    const struct model_config *c = &j->model->config;
    int rc = model_use_layer(j->model, layer, err);
    if (rc)
        return rc;
    const struct layer *w = &j->model->layers[layer];
    const float *subjects = layer ? j->enriched : j->embed;
    j->layer = layer;
    if (j->norms == HEAD_MAP_GAINS && c->ln1)
        norm_rows(c, w->ln1.gain, subjects, j->subjects.n, j->input);
    else
        memcpy(j->input, subjects, j->subjects.n * c->d_model * sizeof *j->input);
    product(&w->v, 0, w->v.n_out, j->input, j->subjects.n, j->values);
    fold_output(j);
    find_target_logits(j);
    memset(j->above, 0, j->n_workers * j->n_targets * c->n_heads * sizeof *j->above);
    memset(j->below, 0, j->n_workers * j->n_targets * c->n_heads * sizeof *j->below);
    return 0;
}

/* Adds how many of logits[n] are strictly above and below x, but for number `own`, which is rounded otherwise. */
static void count(const float *logits, size_t n, float x, size_t own, uint32_t *above, uint32_t *below)
{
    uint32_t greater = 0, less = 0;
    for (size_t i = 0; i < n; i++) {
        greater += logits[i] > x;
        less += logits[i] < x;
    }
    if (own < n) {
        greater -= logits[own] > x;
        less -= logits[own] < x;
    }
    *above += greater;
    *below += less;
}

/* One block of the vocabulary for all heads of the layer. */
static int block_task(void *arg, size_t block, int worker, struct err *err)
{
    (void)err;
    const struct job *j = arg;
    const struct model_config *c = &j->model->config;
    const struct matrix *u = &j->model->unembed;
    size_t first = block * BLOCK, n = c->d_vocab - first < BLOCK ? c->d_vocab - first : BLOCK;
    size_t width = c->n_heads * c->d_head, group = c->n_heads / c->n_kv_heads, v_width = c->n_kv_heads * c->d_head;
    size_t counts = (size_t)worker * j->n_targets * c->n_heads;
    float *columns = j->scratch + (size_t)worker * j->scratch_size, *logits = columns + BLOCK * width;
    const float *rows = u->data + (u->in_major ? first : first * u->stride);
    cblas_sgemm(CblasRowMajor, u->in_major ? CblasTrans : CblasNoTrans, CblasNoTrans, (int)n, (int)width,
                (int)c->d_model, 1, rows, (int)u->stride, j->output, (int)width, 0, columns, (int)width);
    for (size_t h = 0; h < c->n_heads; h++) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)j->subjects.n, (int)n, (int)c->d_head, 1,
                    j->values + h / group * c->d_head, (int)v_width, columns + h * c->d_head, (int)width, 0, logits,
                    BLOCK);
        for (size_t t = 0; t < j->n_targets; t++) {
            const struct target *target = &j->targets[t];
            size_t at = t * c->n_heads + h, own = (size_t)j->objects.tokens[target->object];
            count(logits + target->subject * BLOCK, n, j->target_logits[at], own >= first ? own - first : SIZE_MAX,
                  &j->above[counts + at], &j->below[counts + at]);
        }
    }
    return 0;
}

static size_t total(const uint32_t *counts, size_t n_workers, size_t stride)
{
    size_t sum = 0;
    for (size_t w = 0; w < n_workers; w++)
        sum += counts[w * stride];
    return sum;
}

static void end_layer(const struct job *j, struct head_map *map)
{
    size_t n_heads = j->model->config.n_heads, stride = j->n_targets * n_heads;
    for (size_t t = 0; t < j->n_targets; t++)
        for (size_t h = 0; h < n_heads; h++) {
            const struct target *target = &j->targets[t];
            size_t cell = target->relation * map->n_heads + j->layer * n_heads + h;
            bool first = total(j->above + t * n_heads + h, j->n_workers, stride) < target->k;
            bool last = total(j->below + t * n_heads + h, j->n_workers, stride) < target->k;
            j->covered[t] |= first;
            if (target->control) {
                map->control[cell] += first;
            } else {
                map->hits[cell] += first;
                map->suppress[cell] += last;
            }
        }
}

/* --- all of it --- */

static int make_room(struct job *j, struct err *err)
{
    const struct model_config *c = &j->model->config;
    size_t width = c->n_heads * c->d_head, d = c->d_model, n_counts;
    j->n_workers = (size_t)pool_threads(runtime_pool(j->rt));
    j->scratch_size = BLOCK * (width + j->subjects.n);
    j->embed = mem_aligned(j->subjects.n, d * sizeof(float));
    j->enriched = mem_aligned(j->subjects.n, d * sizeof(float));
    j->input = mem_aligned(j->subjects.n, d * sizeof(float));
    j->values = mem_aligned(j->subjects.n, c->n_kv_heads * c->d_head * sizeof(float));
    j->output = mem_aligned(d, width * sizeof(float));
    j->object_rows = mem_aligned(j->objects.n, d * sizeof(float));
    j->object_columns = mem_aligned(j->objects.n, width * sizeof(float));
    j->target_logits = mem_aligned(j->n_targets, c->n_heads * sizeof(float));
    j->scratch = mem_aligned(j->n_workers, j->scratch_size * sizeof(float));
    if (!size_mul(j->n_targets, c->n_heads * j->n_workers, &n_counts))
        return err_nomem(err, "the pairs of relations");
    j->above = mem_array(n_counts, sizeof *j->above);
    j->below = mem_array(n_counts, sizeof *j->below);
    if (!j->embed || !j->enriched || !j->input || !j->values || !j->output || !j->object_rows || !j->object_columns ||
        !j->target_logits || !j->scratch || !j->above || !j->below)
        return err_nomem(err, "the pairs of relations");
    for (size_t i = 0; i < j->objects.n; i++)
        for (size_t k = 0; k < d; k++) {
            const struct matrix *u = &j->model->unembed;
            size_t v = (size_t)j->objects.tokens[i];
            j->object_rows[i * d + k] = u->data[u->in_major ? k * u->stride + v : v * u->stride + k];
        }
    return 0;
}

static void release_job(struct job *j)
{
    free(j->subjects.tokens);
    free(j->subjects.number);
    free(j->objects.tokens);
    free(j->objects.number);
    free(j->targets);
    free(j->covered);
    free(j->embed);
    free(j->enriched);
    free(j->input);
    free(j->values);
    free(j->output);
    free(j->object_rows);
    free(j->object_columns);
    free(j->target_logits);
    free(j->scratch);
    free(j->above);
    free(j->below);
}

static int create(struct head_map *map, struct err *err)
{
    size_t n;
    if (!size_mul(map->n_relations, map->n_heads, &n))
        return err_nomem(err, "the map of heads");
    map->promote = mem_zeroed(n, sizeof *map->promote);
    map->suppress = mem_zeroed(n, sizeof *map->suppress);
    map->control = mem_zeroed(n, sizeof *map->control);
    map->hits = mem_zeroed(n, sizeof *map->hits);
    map->covered = mem_zeroed(map->n_relations, sizeof *map->covered);
    map->covered_control = mem_zeroed(map->n_relations, sizeof *map->covered_control);
    return map->promote && map->suppress && map->control && map->hits && map->covered && map->covered_control
               ? 0
               : err_nomem(err, "the map of heads");
}

/* Counts to shares. */
static int finish(const struct job *j, struct head_map *map, struct err *err)
{
    double *n = mem_zeroed(2 * map->n_relations, sizeof *n), *n_control = n ? n + map->n_relations : NULL;
    if (!n)
        return err_nomem(err, "the map of heads");
    for (size_t t = 0; t < j->n_targets; t++) {
        const struct target *target = &j->targets[t];
        (target->control ? n_control : n)[target->relation]++;
        (target->control ? map->covered_control : map->covered)[target->relation] += j->covered[t];
    }
    for (size_t r = 0; r < map->n_relations; r++) {
        map->covered[r] /= n[r];
        map->covered_control[r] /= n_control[r]; /* 0 / 0: NaN */
        for (size_t h = 0; h < map->n_heads; h++) {
            size_t at = r * map->n_heads + h;
            map->promote[at] = (double)map->hits[at] / n[r];
            map->suppress[at] /= n[r];
            map->control[at] /= n_control[r];
        }
    }
    free(n);
    return 0;
}

static int run_layers(struct job *j, struct head_map *map, struct progress *progress, struct err *err)
{
    const struct model_config *c = &j->model->config;
    for (size_t l = 0; l < c->n_layers; l++) {
        int rc = begin_layer(j, l, err);
        rc = rc ? rc : pool_try(runtime_pool(j->rt), (c->d_vocab + BLOCK - 1) / BLOCK, block_task, j, err);
        if (rc)
            return rc;
        end_layer(j, map);
        if (progress_step(progress, l + 1, c->n_layers))
            return err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu layers", l + 1, c->n_layers);
    }
    return finish(j, map, err);
}

int head_map_run(struct head_map *map, struct runtime *rt, const struct head_map_relation *relations,
                 size_t n_relations, const struct head_map_options *o, struct progress *progress, struct err *err)
{
    const struct model *m = runtime_model(rt);
    struct job j = { .rt = rt, .model = m, .norms = o ? o->norms : HEAD_MAP_GAINS };
    size_t n_pairs;
    *map = (struct head_map){ .n_relations = n_relations, .n_heads = m->config.n_layers * m->config.n_heads };
    int rc = logit_direction_check_width(m, err);
    rc = rc ? rc : check(m, relations, n_relations, &n_pairs, err);
    rc = rc ? rc : create(map, err);
    rc = rc ? rc : choose_targets(&j, relations, n_relations, n_pairs, o ? o->seed : 1, err);
    rc = rc ? rc : make_room(&j, err);
    rc = rc ? rc : enrich(&j, err);
    rc = rc ? rc : run_layers(&j, map, progress, err);
    release_job(&j);
    if (rc)
        head_map_release(map);
    return rc;
}

void head_map_release(struct head_map *map)
{
    free(map->promote);
    free(map->suppress);
    free(map->control);
    free(map->hits);
    free(map->covered);
    free(map->covered_control);
    *map = (struct head_map){ 0 };
}
