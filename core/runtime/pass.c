/* Setting up a pass: checks, memory, plan of reads, edits resolved for each sequence, rotary angles. */
#include "core/base/mem.h"
#include "core/runtime/gemm.h"
#include "core/runtime/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- memory: one block, measured and carved by the same function --- */

/* Hands out 64-byte aligned pieces; with base NULL it only measures. Sizes were bounded by pass_check_prompt. */
static void *carve(char *base, size_t *used, size_t n, size_t size)
{
    char *piece = base ? base + *used : NULL;
    *used += (n * size + 63) & ~(size_t)63;
    return piece;
}

size_t pass_lay_out(struct buffers *b, const struct model_config *c, enum precision precision, int n_threads,
                    const struct shape *s, char *base)
{
    size_t used = 0, real = real_bytes(precision);
    size_t query = c->n_heads * c->d_head, key = c->n_kv_heads * c->d_head;
    size_t stream = c->d_embed > c->d_model ? c->d_embed : c->d_model;
    size_t neurons = c->d_shared > c->d_mlp ? c->d_shared : c->d_mlp, expert_rows = c->n_experts ? s->rows : 0;
    size_t results = c->n_experts > c->n_heads ? c->n_experts : c->n_heads;
    b->resid = carve(base, &used, s->rows * stream, real);
    b->normed = carve(base, &used, s->rows * stream, real);
    b->delta = carve(base, &used, s->rows * stream, real);
    b->mean = carve(base, &used, s->rows, real);
    b->scale = carve(base, &used, s->rows, real);
    b->q = carve(base, &used, s->rows * query, real);
    b->z = carve(base, &used, s->rows * query, real);
    b->k = carve(base, &used, s->rows * key, real);
    b->v = carve(base, &used, s->rows * key, real);
    b->pre = carve(base, &used, s->rows * neurons, real);
    b->linear = carve(base, &used, c->gated_mlp ? s->rows * neurons : 0, real);
    b->experts = carve(base, &used, expert_rows * c->n_experts, real);
    b->gathered = carve(base, &used, expert_rows * c->d_model, real);
    b->gathered_out = carve(base, &used, expert_rows * c->d_model, real);
    size_t distances = c->position == POSITION_RELATIVE ? 2 * s->longest : 0;
    b->distances = carve(base, &used, distances * c->d_model, real);
    b->distance_q = carve(base, &used, distances * query, real);
    b->distance_k = carve(base, &used, distances * query, real);
    b->edges = carve(base, &used, s->edges ? c->n_heads * s->longest * s->longest : 0, real);
    b->result = carve(base, &used, s->result ? CHUNK_ROWS * results * c->d_model : 0, real);
    b->final = carve(base, &used, s->final_rows * c->d_model, real);
    b->head = carve(base, &used, c->unembedding ? s->final_rows * c->d_embed : 0, real);
    b->logits = carve(base, &used, s->logits ? CHUNK_ROWS * c->d_vocab : 0, real);

    size_t widest = query > neurons ? query : neurons;
    widest = widest > stream ? widest : stream;
    widest = widest > c->n_experts ? widest : c->n_experts;
    size_t value = s->result && results * c->d_model > widest ? results * c->d_model : widest;
    b->value = carve(base, &used, s->logits && c->d_vocab > value ? c->d_vocab : value, real);
    /* A replay also puts together the keys and values of one head there. */
    size_t scores = (QUERY_BLOCK + (s->replay ? 2 * c->d_head : 0)) * s->longest * real;
    size_t product = precision == PRECISION_F64
                         ? WIDEN_ROWS * widest * sizeof(double)
                         : gemm_scratch(s->rows > distances ? s->rows : distances, widest) * sizeof(float);
    b->scratch_bytes = ((scores > product ? scores : product) + 63) & ~(size_t)63;
    b->scratch = carve(base, &used, (size_t)n_threads, b->scratch_bytes);

    b->touched = carve(base, &used, N_SITES * c->n_layers, 1);
    b->sequence = carve(base, &used, s->rows, sizeof(size_t));
    b->token = carve(base, &used, s->rows, sizeof(size_t));
    b->key_token = carve(base, &used, s->rows, sizeof(size_t));
    b->view_rows = carve(base, &used, s->rows, sizeof(size_t));
    b->final_rows = carve(base, &used, s->final_rows, sizeof(size_t));
    b->gathered_rows = carve(base, &used, expert_rows, sizeof(size_t));
    return used;
}

static bool reads_any(const struct site_set *reads, enum site site, size_t n_layers)
{
    for (size_t l = 0; reads && l < n_layers; l++)
        if (site_set_has(reads, site, l))
            return true;
    return false;
}

static bool edits_any(const struct edit_list *edits, enum site site)
{
    for (size_t i = 0; edits && i < edits->n; i++)
        if (edits->edits[i].site == site)
            return true;
    return false;
}

void pass_shape_flags(struct shape *s, const struct model_config *c, const struct site_set *reads)
{
    s->edges = reads_any(reads, SITE_SCORES, c->n_layers) || reads_any(reads, SITE_PATTERN, c->n_layers);
    s->result =
        s->result || reads_any(reads, SITE_RESULT, c->n_layers) || reads_any(reads, SITE_EXPERT_RESULT, c->n_layers);
    s->logits = s->logits || reads_any(reads, SITE_LOGITS, c->n_layers);
}

void pass_shape_edits(struct shape *s, const struct edit_list *edits)
{
    s->result = s->result || edits_any(edits, SITE_RESULT) || edits_any(edits, SITE_EXPERT_RESULT);
    s->logits = s->logits || edits_any(edits, SITE_LOGITS);
}

bool pass_edits_edges(const struct edit_list *edits)
{
    return edits_any(edits, SITE_SCORES) || edits_any(edits, SITE_PATTERN);
}

size_t runtime_memory(const struct model *model, enum precision precision, int n_threads, size_t n_rows,
                      size_t n_tokens, const struct site_set *reads)
{
    struct buffers b;
    struct shape s = { .rows = n_rows, .final_rows = n_rows, .longest = n_tokens };
    pass_shape_flags(&s, &model->config, reads);
    size_t rope = 2 * model->n_ropes * model->config.n_ctx * model->config.rotary_dims / 2 * real_bytes(precision);
    return pass_lay_out(&b, &model->config, precision, n_threads, &s, NULL) + rope;
}

int pass_check_prompt(const struct model_config *c, const struct prompt *prompt, size_t past, struct err *err)
{
    const char *name = prompt->name ? prompt->name : "?";
    if (!prompt->n_tokens)
        return err_set(err, ERR_ARG, "prompt %s has no tokens", name);
    if (prompt->n_tokens + past > c->n_ctx)
        return err_set(err, ERR_ARG, "prompt %s has %zu tokens, the model's context is %zu", name,
                       prompt->n_tokens + past, c->n_ctx);
    for (size_t t = 0; t < prompt->n_tokens; t++)
        if (prompt->tokens[t] < 0 || (size_t)prompt->tokens[t] >= c->d_vocab)
            return err_set(err, ERR_ARG, "prompt %s: token id %d is outside the vocabulary of %zu", name,
                           (int)prompt->tokens[t], c->d_vocab);
    return 0;
}

/*
 * Cosines and sines for positions below n. The angle is rounded to float32
 * like the frequency: models were trained, and reference implementations run,
 * with float32 angles, which far into a context differ from exact ones by more
 * than 1e-5.
 */
static void fill_rope(struct runtime *rt, const struct rope *rope, size_t count, size_t half, size_t which)
{
    for (size_t i = 0; i < count; i++) {
        float angle = (float)(i / half) * (float)rope->frequency[i % half];
        double cosine = cos((double)angle) * rope->scale, sine = sin((double)angle) * rope->scale;
        if (rt->precision == PRECISION_F64) {
            ((double *)rt->cosine[which])[i] = cosine;
            ((double *)rt->sine[which])[i] = sine;
        } else {
            ((float *)rt->cosine[which])[i] = (float)cosine;
            ((float *)rt->sine[which])[i] = (float)sine;
        }
    }
}

static int make_ropes(struct runtime *rt, size_t n, struct err *err)
{
    size_t half = rt->model->config.rotary_dims / 2, count;
    if (!half || n <= rt->rope_positions)
        return 0;
    n = n < 256 ? 256 : n;
    if (!size_mul(n, half, &count))
        return err_nomem(err, "the rotary table");
    rt->rope_positions = 0;
    for (size_t i = 0; i < rt->model->n_ropes; i++) {
        free(rt->cosine[i]);
        free(rt->sine[i]);
        rt->cosine[i] = mem_aligned(count, real_bytes(rt->precision));
        rt->sine[i] = mem_aligned(count, real_bytes(rt->precision));
        if (!rt->cosine[i] || !rt->sine[i])
            return err_nomem(err, "the rotary table");
        fill_rope(rt, &rt->model->ropes[i], count, half, i);
    }
    rt->rope_positions = n;
    return 0;
}

int pass_make_room(struct pass *p, const struct shape *s, struct err *err)
{
    struct runtime *rt = p->rt;
    const struct model_config *c = &p->model->config;
    /* A bound on every product in pass_lay_out: 2^60 bytes cannot be had anyway. */
    double widest = (double)(c->n_heads * c->d_head + c->d_mlp + c->d_model);
    double edges = s->edges ? (double)c->n_heads * (double)s->longest * (double)s->longest : 0;
    if (16 * ((double)s->rows * widest + edges) > 0x1p60)
        return err_nomem(err, "the batch");
    int threads = pool_threads(rt->pool);
    size_t bytes = pass_lay_out(&p->b, c, rt->precision, threads, s, NULL);
    if (bytes > rt->memory_bytes) {
        free(rt->memory);
        rt->memory_bytes = 0;
        rt->memory = mem_aligned(bytes, 1);
        if (!rt->memory)
            return err_set(err, ERR_NOMEM, "out of memory: the batch needs %zu MiB of working memory", bytes >> 20);
        rt->memory_bytes = bytes;
    }
    int rc = make_ropes(rt, p->longest, err);
    if (rc)
        return rc;
    pass_lay_out(&p->b, c, rt->precision, threads, s, rt->memory);
    memset(p->b.touched, 0, N_SITES * c->n_layers);
    return 0;
}

/* --- plan --- */

void pass_plan_reads(struct pass *p)
{
    const struct model_config *c = &p->model->config;
    struct site_ref ref;
    p->stop = 0;
    for (size_t cursor = 0; p->reads && site_set_next(p->reads, &cursor, &ref);) {
        p->b.touched[ref.site * c->n_layers + ref.layer] |= TOUCH_READ;
        size_t order = site_order(ref.site, ref.layer, c->n_layers);
        p->stop = order > p->stop ? order : p->stop;
    }
    /* The cache must hold every layer, also those that nothing reads. */
    size_t last_block = site_order(SITE_RESID_POST, c->n_layers - 1, c->n_layers);
    if (p->cache && p->stop < last_block)
        p->stop = last_block;
    size_t stage = p->stop / N_SITES;
    p->last_layer = stage > c->n_layers ? c->n_layers - 1 : stage ? stage - 1 : 0;
}

/* Tokens of the source run, in order, one for each chosen token or one for all. */
static int resolve_source(const struct pass *p, const struct sequence *s, struct row_edit *row, struct err *err)
{
    const struct edit *e = row->edit;
    size_t run = e->run == EDIT_OWN_RUN ? s->run : e->run, n = s->prompt->n_tokens;
    if (!p->source || run >= p->source->n_prompts)
        return err_set(err, ERR_ARG, "there is no run %zu to take values from", run);
    size_t n_source = p->source->tokens[run];
    if (site_row(e->site)->axes == AXES_EDGES && n_source != n)
        return err_set(err, ERR_ARG, "attention of a prompt of %zu tokens cannot be taken from one of %zu", n,
                       n_source);
    if (e->from_same) {
        for (size_t t = 0; t < n; t++) {
            row->from[t] = t;
            if (row->at[t] && t >= n_source)
                return err_set(err, ERR_ARG, "position %zu is beyond the %zu tokens of the run it is taken from", t,
                               n_source);
        }
        return 0;
    }
    const struct prompt *prompt = &p->source_prompts[run];
    unsigned char *mask = mem_array(n_source, 1);
    size_t n_from, n_at = 0, source = 0;
    if (!mask)
        return err_nomem(err, "an edit");
    int rc = positions_resolve(&e->from_at, prompt, mask, &n_from, err);
    for (size_t t = 0; t < n; t++)
        n_at += row->at[t];
    if (!rc && n_from != 1 && n_from != n_at)
        rc = err_set(err, ERR_ARG, "%zu positions cannot take the values of %zu: take one, or as many", n_at, n_from);
    for (size_t t = 0; !rc && t < n; t++) {
        if (!row->at[t])
            continue;
        while (!mask[source])
            source++;
        row->from[t] = source;
        source += n_from > 1;
    }
    free(mask);
    return rc;
}

static int resolve_edit(const struct pass *p, const struct sequence *s, struct row_edit *row, struct err *err)
{
    const struct prompt *prompt = s->prompt;
    int rc = positions_resolve(&row->edit->at, prompt, row->at, NULL, err);
    if (!rc && row->keys)
        rc = positions_resolve(&row->edit->keys, prompt, row->keys, NULL, err);
    if (!rc && row->from)
        rc = resolve_source(p, s, row, err);
    if (!rc && row->edit->source == EDIT_FROM_MEAN)
        rc = err_set(err, ERR_ARG, "its mean is not known: give the data set with --mean-over");
    if (rc)
        return err_prefix(
            err, "edit '%s' on prompt %s: ", row->edit->text ? row->edit->text : site_row(row->edit->site)->name,
            prompt->name ? prompt->name : "?");
    return 0;
}

static const struct edit *edit_at(const struct sequence *s, size_t i)
{
    return i < s->n_base_edits ? &s->base_edits->edits[i] : &s->edits->edits[i - s->n_base_edits];
}

/* One block for a sequence: the row_edits, then their `from`, then their masks. */
int pass_resolve_sequence(const struct pass *p, struct sequence *s, struct err *err)
{
    size_t n = s->prompt->n_tokens, per_edit;
    s->resolved = NULL;
    s->n_base_edits = s->base_edits ? s->base_edits->n : 0;
    s->n_edits = s->n_base_edits + (s->edits ? s->edits->n : 0);
    if (!s->n_edits)
        return 0;
    if (!size_mul(n, sizeof(size_t) + 2, &per_edit) || !size_add(per_edit, sizeof *s->resolved, &per_edit))
        return err_nomem(err, "edits");
    s->resolved = mem_zeroed(s->n_edits, per_edit);
    if (!s->resolved)
        return err_nomem(err, "edits");
    size_t *from = (size_t *)(void *)(s->resolved + s->n_edits);
    unsigned char *masks = (unsigned char *)(from + s->n_edits * n);
    for (size_t i = 0; i < s->n_edits; i++) {
        const struct edit *e = edit_at(s, i);
        bool edges = site_row(e->site)->axes == AXES_EDGES;
        s->resolved[i] = (struct row_edit){ .edit = e, .at = masks + 2 * i * n };
        s->resolved[i].keys = edges ? s->resolved[i].at + n : NULL;
        s->resolved[i].from = e->source == EDIT_FROM_RUN ? from + i * n : NULL;
        int rc = resolve_edit(p, s, &s->resolved[i], err);
        if (rc)
            return rc;
    }
    return 0;
}

void pass_mark_edits(struct pass *p)
{
    for (size_t i = 0; i < p->n_sequences; i++)
        for (size_t e = 0; e < p->sequences[i].n_edits; e++) {
            const struct edit *edit = p->sequences[i].resolved[e].edit;
            for (size_t l = edit->first_layer; l <= edit->last_layer; l++)
                p->b.touched[edit->site * p->model->config.n_layers + l] |= TOUCH_EDIT;
        }
}
