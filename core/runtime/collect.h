/*
 * A sink that keeps what it sees, for a batch at a time: chosen rows of row
 * sites, whole squares of hook_attn_scores and hook_pattern.
 *
 *     struct collector c;
 *     collector_init(&c, &reads, PRECISION_F32, &err);
 *     collector_begin(&c, prompts, n_prompts, keep, &err);       // keep[n_rows]; NULL: all rows
 *     runtime_forward(rt, &(struct forward){ ..., .reads = &reads, .sink = &c.sink }, &err);
 *     const float *z = collector_rows(&c, SITE_Z, 3);            // [n_kept, n_heads * d_head]
 *     collector_release(&c);
 *
 * Memory is reused from batch to batch.
 */
#ifndef STRATA_RUNTIME_COLLECT_H
#define STRATA_RUNTIME_COLLECT_H

#include "core/runtime/runtime.h"

struct collector {
    struct sink sink; /* first, so that the runtime's pointer is the collector's */
    const struct site_set *reads;
    enum precision precision;
    void **data;         /* [N_SITES * n_layers] owned buffers, NULL where nothing is read */
    size_t *bytes;       /* their capacity */
    size_t *kept;        /* [n_rows] number of the row among those kept, SIZE_MAX: not kept */
    size_t *edge_offset; /* [n_prompts] first number of each prompt in an EDGES buffer */
    size_t *tokens;      /* [n_prompts] */
    size_t *first_row;   /* [n_prompts] first packed row of each prompt */
    size_t kept_capacity, prompts_capacity;
    size_t n_kept, n_prompts;
};

/* Borrows reads. */
int collector_init(struct collector *c, const struct site_set *reads, enum precision precision, struct err *err);
int collector_begin(struct collector *c, const struct prompt *prompts, size_t n_prompts, const unsigned char *keep,
                    struct err *err);
/* [n_kept, row size] in the runtime's precision; NULL when the site is not read. Borrowed. */
void *collector_rows(const struct collector *c, enum site site, size_t layer);
/* [n_heads, n_tokens, n_tokens] of one prompt. */
void *collector_edges(const struct collector *c, enum site site, size_t layer, size_t prompt);
void collector_release(struct collector *c);

/* Row r of a collected or viewed array as doubles: out[n] = data[r * n ...]. */
void collector_widen(const void *data, enum precision precision, size_t first, size_t n, double *out);

#endif
