/* What runtime.c (set-up, plan, memory) and forward_real.c (the arithmetic) share. Nobody else includes this. */
#ifndef STRATA_RUNTIME_INTERNAL_H
#define STRATA_RUNTIME_INTERNAL_H

#include "core/runtime/kernels.h"
#include "core/runtime/runtime.h"

enum {
    QUERY_BLOCK = 64, /* queries per attention task: bounds the scratch to 64 x keys a worker */
    CHUNK_ROWS = 64,  /* rows of hook_result and logits held at a time */
    WIDEN_ROWS = 64,  /* f64: weight rows widened at a time */
};

enum touch { TOUCH_READ = 1, TOUCH_EDIT = 2 };

struct kv_cache {
    enum precision precision;
    size_t capacity, n_tokens, width; /* width: n_kv_heads * d_head */
    void *k, *v;                      /* [n_layers, capacity, width] */
};

/* One edit, its selectors resolved for every row of the batch. */
struct row_edit {
    const struct edit *edit;
    unsigned char *at, *keys; /* [n_rows]; keys only for EDGES sites */
};

/* Working memory, carved from one block; types are real[...] unless said. */
struct buffers {
    void *resid, *normed, *delta; /* [rows, d_model] */
    void *mean, *scale;           /* [rows] */
    void *q, *z;                  /* [rows, n_heads * d_head] */
    void *k, *v;                  /* [rows, n_kv_heads * d_head] */
    void *pre, *linear;           /* [rows, d_mlp]; linear only where gated */
    void *edges;          /* [n_heads, tokens, tokens] of the longest prompt, where scores or pattern are touched */
    void *result;         /* [CHUNK_ROWS, n_heads, d_model], where hook_result is touched */
    void *final, *logits; /* [final rows, d_model], [CHUNK_ROWS, d_vocab] */
    char *scratch;        /* scratch_bytes for each worker */
    size_t scratch_bytes;
    unsigned char *touched; /* [N_SITES * n_layers] enum touch */
    size_t *row_offset;     /* [n_prompts + 1] */
    size_t *position;       /* [rows] position in the prompt's sequence, cached tokens counted */
    size_t *final_rows;     /* [n_final] */
    struct row_edit *edits; /* [n_edits] */
    unsigned char *masks;   /* [2 * n_edits * rows] */
};

/* One call of runtime_forward. */
struct pass {
    struct runtime *rt;
    const struct model *model;
    const struct forward *f;
    struct buffers b;
    size_t n_rows, n_final, n_edits, past; /* past: tokens in the cache */
    size_t longest;                        /* tokens of the longest prompt, past included */
    size_t stop;                           /* order of the last site that is needed */
    bool finished;                         /* that site has been reached */
};

struct runtime {
    const struct model *model;
    struct pool *pool;
    enum precision precision;
    const struct kernels_f32 *k32;
    const struct kernels_f64 *k64;
    char *memory; /* block behind struct buffers, grown when a batch needs more */
    size_t memory_bytes;
    void *cosine, *sine; /* [rope_positions, rotary_dims / 2] */
    size_t rope_positions;
    char *unembed_scratch; /* f64: WIDEN_ROWS weight rows for each worker */
};

/* Position of a site in the forward order; a larger number comes later. */
static inline size_t site_order(enum site site, size_t layer, size_t n_layers)
{
    size_t stage = site_row(site)->per_layer ? layer + 1 : site < SITE_RESID_PRE ? 0 : n_layers + 1;
    return stage * N_SITES + site;
}

int forward_f32(struct pass *p, struct err *err);
int forward_f64(struct pass *p, struct err *err);
void final_norm_f32(struct runtime *rt, const float *states, size_t n, float *out);
void final_norm_f64(struct runtime *rt, const double *states, size_t n, double *out);
void unembed_f32(struct runtime *rt, const float *normed, size_t n, size_t first, size_t n_vocab, float *logits,
                 void *scratch);
void unembed_f64(struct runtime *rt, const double *normed, size_t n, size_t first, size_t n_vocab, double *logits,
                 void *scratch);

#endif
