/* What the *_real.c files of the runtime share; every function exists once per precision. */
#ifndef STRATA_RUNTIME_INTERNAL_REAL_H
#define STRATA_RUNTIME_INTERNAL_REAL_H

#include "core/runtime/internal.h"
#include "core/runtime/real.h"

#include <stdatomic.h>

#define matmul REAL_NAME(matmul)
#define matmuls REAL_NAME(matmuls)
#define matmul_part REAL_NAME(matmul_part)
#define attend REAL_NAME(attend)
#define for_rows REAL_NAME(for_rows)
#define norm_rows REAL_NAME(norm_rows)
#define hooked_norm REAL_NAME(hooked_norm)
#define hooked_mlp REAL_NAME(hooked_mlp)
#define row_job REAL_NAME(row_job)
#define attention_out REAL_NAME(attention_out)
#define mlp_output REAL_NAME(mlp_output)
#define sublayer_output REAL_NAME(sublayer_output)
#define project_distances REAL_NAME(project_distances)
#define add_distances REAL_NAME(add_distances)
#define finish_logits REAL_NAME(finish_logits)
#define visit_rows REAL_NAME(visit_rows)
#define visit_edges REAL_NAME(visit_edges)
#define edit_edges REAL_NAME(edit_edges)
#define activate_rows REAL_NAME(activate_rows)
#define keep_key_rows REAL_NAME(keep_key_rows)
#define narrow_rows REAL_NAME(narrow_rows)
#define check_finite REAL_NAME(check_finite)

static inline const struct REAL_NAME(kernels) * kernels_of(const struct runtime *rt)
{
#if REAL_BITS == 32
    return rt->k32;
#else
    return rt->k64;
#endif
}

/*
 * y[rows, w->n_out] (row stride y_stride) = x[rows, w->n_in] (x_stride) W^T + bias, on all threads.
 * bias may be NULL. y may not overlap x.
 */
void matmul(struct pass *p, const struct matrix *w, const float *bias, const real *x, size_t x_stride, size_t rows,
            real *y, size_t y_stride);
/* Up to three products of the same x at once: one start of the threads, larger parts. */
struct product {
    const struct matrix *w;
    const float *bias;
    real *y;
    size_t y_stride;
};
void matmuls(struct pass *p, const struct product *products, size_t n, const real *x, size_t x_stride, size_t rows);
/* Outputs [first, first + n) only, on the calling thread. scratch: f32 gemm's, f64 [WIDEN_ROWS * w->n_in]. */
void matmul_part(const struct matrix *w, const float *bias, const real *x, size_t x_stride, size_t rows, size_t first,
                 size_t n, real *y, size_t y_stride, void *scratch);

/* What a step over rows needs; each step says which of these it reads. */
struct row_job {
    struct pass *p;
    void (*step)(const struct row_job *job, size_t row);
    size_t n_rows, width, layer, rope;
    const struct norm_weights *norm;
    const real *in;
    real *out, factor;
    atomic_bool *odd; /* set when a row holds NaN or Inf */
};
/* step(job, row) for n_rows rows, shared out among the threads. */
void for_rows(struct row_job job, void (*step)(const struct row_job *job, size_t row));

/* out[n_rows, width] = norm(in); out may be in. Nobody can look. */
void norm_rows(struct pass *p, const struct norm_weights *w, const real *in, real *out, size_t width, size_t n_rows);
/* The same through the sites scale, normalized and out, which are consecutive in SITES. `rows` as visit_rows's index.
 */
int hooked_norm(struct pass *p, const struct norm_weights *w, enum site scale_site, size_t layer, const real *in,
                real *out, size_t width, size_t n_rows, const size_t *rows, struct err *err);

/* b.delta = the MLP of x[rows, d_model], through its sites to hook_mlp_out. x is not b.delta. */
int hooked_mlp(struct pass *p, const real *x, size_t layer, struct err *err);
/* From what a sublayer returns, in b.delta, to what is added to the stream: norm or factor, and their sites. */
struct sublayer {
    enum site raw, post_scale, out;
};
extern const struct sublayer attention_out, mlp_output;
int sublayer_output(struct pass *p, size_t layer, const struct sublayer *s, struct err *err);

/* relative_real.c: the layer's queries and keys of distances; what they add to a query's scores of keys k. */
void project_distances(struct pass *p, size_t l);
void add_distances(const struct pass *p, size_t l, size_t head, size_t query, const real *q, const real *k,
                   size_t k_stride, struct range keys, real *s);

/* Factor and soft-cap of logits (Gemma 2, Cohere, Granite), in place. */
void finish_logits(const struct model_config *c, real *logits, size_t n);
static inline bool has_finishing(const struct model_config *c)
{
    return c->logit_scale != 1 || c->logit_softcap > 0;
}

/* From b.q, b.k, b.v (rotated) to b.z, through the scores and pattern sites. */
int attend(struct pass *p, size_t layer, struct err *err);

/* Bits of enum touch for a site at a layer. */
static inline unsigned touched(const struct pass *p, enum site site, size_t layer)
{
    return p->b.touched[site * p->model->config.n_layers + layer];
}

/*
 * The hook of a row site: applies its edits to data[n_rows, row size], then shows it to the sink. The data's rows are
 * active rows first_row.., or index[0..n_rows) where index is not NULL. Costs one look-up when untouched. Here a pass
 * also learns that it is to stop (pool_stop_when): ERR_INTERRUPTED.
 */
int visit_rows(struct pass *p, enum site site, size_t layer, real *data, size_t first_row, size_t n_rows,
               const size_t *index, struct err *err);
/* The same for one prompt of an EDGES site in a plain pass: data[n_heads, n_tokens, n_tokens]. */
int visit_edges(struct pass *p, enum site site, size_t layer, real *data, size_t prompt, struct err *err);
/*
 * Applies the edits of an EDGES site to one head of one sequence: data[n, keys] of active rows first.., row stride
 * `stride`, column 0 is key first_key.
 */
void edit_edges(const struct pass *p, enum site site, size_t layer, const struct sequence *s, size_t head, size_t first,
                size_t n, size_t first_key, real *data, size_t stride);

/*
 * A number of x[n_rows, row_size] that is not finite is an error that names the site, the token and the prompt; such
 * numbers are never passed on. Rows as in visit_rows.
 */
int check_finite(const struct pass *p, enum site site, size_t layer, const real *x, size_t row_size, size_t first_row,
                 size_t n_rows, const size_t *index, struct err *err);

/* --- rows_real.c: which rows are active; nothing to do in a plain pass of all rows --- */

/* Replay: the rows of this layer; new ones enter with the base run's resid_pre. */
void activate_rows(struct pass *p, size_t layer);
/* The rows at hand are those whose keys and values the layer has computed. */
void keep_key_rows(struct pass *p);
/* Last layer: only rows that the reads want go on, now that every key and value is there. */
void narrow_rows(struct pass *p);

#endif
