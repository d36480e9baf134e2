/*
 * The runtime: one forward pass for every architecture, over prompts packed as
 * rows without padding, with every site readable and editable.
 *
 *     static int take(struct sink *self, const struct site_view *v, struct err *err)
 *     {
 *         for (size_t r = 0; r < v->n_rows; r++)
 *             use(v->site, v->layer, v->rows ? v->rows[r] : v->first_row + r, site_view_row(v, r));
 *         return 0;
 *     }
 *
 *     struct runtime *rt;
 *     runtime_create(&rt, model, pool, PRECISION_F32, &err);
 *     struct site_set reads;
 *     site_set_init(&reads, &model->config, &err);
 *     site_set_add(&reads, "resid_post,logits", &err);
 *     struct prompt prompts[2] = { { .tokens = a, .n_tokens = 5 }, { .tokens = b, .n_tokens = 9 } };
 *     struct sink sink = { take };
 *     struct forward f = { .prompts = prompts, .n_prompts = 2, .reads = &reads, .sink = &sink };
 *     runtime_forward(rt, &f, &err);
 *     runtime_free(rt);
 *
 * A site that is not read costs nothing, layers after the last one read are not
 * run. Edits of a site come before its read. Numbers: fp32 (or fp64 with
 * PRECISION_F64, everything widened), norm and softmax sums in double. NaN or
 * Inf in the stream is ERR_NUMERIC naming the site and the prompt.
 *
 * A runtime belongs to one thread at a time (the pool works inside); several
 * runtimes may share one model.
 */
#ifndef STRATA_RUNTIME_RUNTIME_H
#define STRATA_RUNTIME_RUNTIME_H

#include "core/base/pool.h"
#include "core/model/model.h"
#include "core/runtime/edit.h"
#include "core/runtime/sites.h"

struct collector;
struct runtime;

enum precision { PRECISION_F32, PRECISION_F64 };

struct prompt {
    const int32_t *tokens;             /* [n_tokens] */
    size_t n_tokens;                   /* 1 .. n_ctx */
    size_t subject_begin, subject_end; /* token span, equal when there is no subject */
    size_t n_after;   /* tokens behind the one that is read: 0, or in a masked prompt those after the mask */
    const char *name; /* the fact's id, for messages; may be NULL */
};

/* Where a prompt is answered: its last token, in a masked prompt the mask. Every probe reads there. */
static inline size_t prompt_read_at(const struct prompt *p)
{
    return p->n_tokens - 1 - p->n_after;
}

/*
 * What a sink receives; borrowed for the duration of the call, always in the runtime's precision.
 * Row sites: n_rows rows of row_size numbers; row r is token row first_row + r of the batch (rows are the
 * prompts' tokens one after another), or rows[r] where rows is not NULL (the final norm and logits, when
 * only some rows are wanted). Large sites (hook_result, logits) come in several calls of consecutive rows. EDGES sites
 * come prompt by prompt: data is [n_heads, n_tokens, n_tokens] of prompt number `prompt`, first_row its first token
 * row, n_rows its tokens.
 */
struct site_view {
    enum site site;
    size_t layer;
    enum precision precision;
    const void *data;
    size_t first_row, n_rows, row_size;
    const size_t *rows;
    size_t prompt;
};

/* Row r of the view: row_size floats, or doubles under PRECISION_F64. */
static inline const void *site_view_row(const struct site_view *v, size_t r)
{
    return (const char *)v->data + r * v->row_size * (v->precision == PRECISION_F64 ? sizeof(double) : sizeof(float));
}

/* Number i of the view's data, widened to double. */
static inline double site_view_at(const struct site_view *v, size_t i)
{
    return v->precision == PRECISION_F64 ? ((const double *)v->data)[i] : (double)((const float *)v->data)[i];
}

/* A negative return stops the run and is returned by runtime_forward. Called by the thread that runs forward. */
struct sink {
    int (*take)(struct sink *self, const struct site_view *view, struct err *err);
};

/* Rotated keys and values of the tokens so far, for generation; opaque, made for one runtime. Encoders have none. */
struct kv_cache;
int kv_cache_create(struct kv_cache **out, const struct runtime *rt, size_t capacity_tokens, struct err *err);
void kv_cache_free(struct kv_cache *cache); /* NULL is fine */
size_t kv_cache_tokens(const struct kv_cache *cache);

struct forward {
    const struct prompt *prompts;
    size_t n_prompts;
    const struct site_set *reads;                /* NULL: nothing is read */
    const struct edit_list *edits;               /* NULL: none; resolved for each prompt */
    const struct edit_list *const *prompt_edits; /* [n_prompts] in place of `edits`, each may be NULL; or NULL */
    struct sink *sink;                           /* NULL only where nothing is read */
    /* The final norm and logits are computed for these rows only: 1 byte a row; NULL = all rows. */
    const unsigned char *final_rows;
    /* Rows that the sink wants; others may be missing from what it sees and are not computed in vain. NULL = all rows.
     */
    const unsigned char *read_rows;
    /* Runs that edits take values from (`patch`, `freeze`): all rows of the sites they name. Prompt i is run first_run
     * + i. */
    const struct collector *source;
    const struct prompt *source_prompts; /* of those runs */
    size_t first_run;
    struct kv_cache *cache; /* one prompt only: its tokens continue the cached ones; NULL otherwise */
};

int runtime_create(struct runtime **out, const struct model *model, struct pool *pool, enum precision precision,
                   struct err *err);
void runtime_free(struct runtime *rt); /* NULL is fine */
int runtime_forward(struct runtime *rt, const struct forward *f, struct err *err);

const struct model *runtime_model(const struct runtime *rt);
struct pool *runtime_pool(const struct runtime *rt);
enum precision runtime_precision(const struct runtime *rt);
/* Bytes of working memory for batches of n_rows rows and prompts of at most n_tokens tokens. */
size_t runtime_memory(const struct model *model, enum precision precision, int n_threads, size_t n_rows,
                      size_t n_tokens, const struct site_set *reads);
/* Rows a batch should have for GEMMs near their peak (512); one longer prompt makes a batch of its own. */
size_t runtime_batch_rows(void);

/*
 * What the unembedding reads, out[n, d_embed], for n states of the stream [n, d_model], in the runtime's precision:
 * the final norm, its mean and scale recomputed on each state (the lens convention), then a masked-LM head's
 * transformation. out may be states. One thread's work, as runtime_unembed.
 */
void runtime_head_input(struct runtime *rt, const void *states, size_t n, void *out, int worker);
/*
 * Logits [n, n_vocab] (row stride n_vocab) of tokens [first, first + n_vocab) for inputs [n, d_embed], with the
 * unembedding's bias, the logits' factor and soft-cap. One thread's work, for use inside pool tasks; `worker` is the
 * task's worker number.
 */
void runtime_unembed(struct runtime *rt, const void *inputs, size_t n, size_t first, size_t n_vocab, void *logits,
                     int worker);

#endif
