/*
 * What the files of the runtime share. Nobody else includes this.
 *
 * A pass moves sequences through the model. In a plain pass each prompt is one
 * sequence and all of its tokens are active in every layer. In a replay each
 * variant is one, and at each layer only those of its tokens are active that
 * its edits can have changed and a read still needs; the rest of its keys and
 * values are the base run's. Everything else is the same: one forward pass.
 */
#ifndef STRATA_RUNTIME_INTERNAL_H
#define STRATA_RUNTIME_INTERNAL_H

#include "core/base/ranges.h"
#include "core/runtime/collect.h"
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

/* One edit, its selectors resolved for one sequence. */
struct row_edit {
    const struct edit *edit;
    unsigned char *at, *keys; /* [n_tokens]; keys only for EDGES sites */
    size_t *from;             /* [n_tokens] token of the source run, where the value comes from one */
};

struct sequence {
    const struct prompt *prompt;
    size_t first_row;                           /* number of its token 0 in the batch, as sinks count rows */
    size_t run;                                 /* replay: number of its base run */
    const struct edit_list *base_edits, *edits; /* replay: those of its base run, before its own; may be NULL */
    struct row_edit *resolved;                  /* of both, in this order */
    size_t n_base_edits, n_edits;               /* n_edits: of both */
    size_t parent, split;                       /* replay: below layer `split` its rows are this earlier sequence's */
    size_t begin, end;                          /* its active rows in the layer at hand */
    size_t key_begin, key_end;                  /* its rows whose keys and values were computed in the layer at hand */
};

/* Working memory, carved from one block; types are real[...] unless said. */
struct buffers {
    void *resid, *normed, *delta; /* [rows, d_model or d_embed] */
    void *mean, *scale;           /* [rows] */
    void *q, *z;                  /* [rows, n_heads * d_head] */
    void *k, *v;                  /* [rows, n_kv_heads * d_head] */
    void *pre, *linear;           /* [rows, d_mlp or d_shared]; linear only where gated */
    void *edges;   /* [n_heads, tokens, tokens] of the longest prompt, where scores or pattern are read */
    void *result;  /* [CHUNK_ROWS, n_heads or n_experts, d_model], where that result site is touched */
    void *experts; /* [rows, n_experts] weights of the experts */
    void *gathered, *gathered_out; /* [rows, d_model] of one expert */
    void *distances;               /* [2 longest - 1, d_model] table of relative positions, normalised */
    void *distance_q, *distance_k; /* [2 longest - 1, n_heads * d_head] through the layer's projections */
    size_t *gathered_rows;         /* [rows] */
    void *final, *logits;          /* [final rows, d_model], [CHUNK_ROWS, d_vocab] */
    void *head;                    /* [final rows, d_embed], where the head transforms */
    void *value;                   /* one row of any touched site: what an edit puts there */
    char *scratch;                 /* scratch_bytes for each worker */
    size_t scratch_bytes;
    unsigned char *touched; /* [N_SITES * n_layers] enum touch */
    /* Of each active row: its sequence, and its token's number in the prompt. */
    size_t *sequence, *token; /* [rows] */
    size_t *key_token;        /* [rows] `token` when the layer's keys were computed */
    size_t *view_rows;        /* [rows] what show() hands to sinks */
    size_t *final_rows;       /* [final rows] active rows that go through the final norm */
};

/* Sizes that decide how much memory a pass needs. */
struct shape {
    size_t rows, final_rows, longest;
    bool edges, result, logits, replay;
};

/* Which rows are active when; made by replay.c. Rows are the batch's. */
struct schedule {
    size_t n_rows;                /* of the batch: all tokens of all its variants */
    unsigned char *embed;         /* [n_rows] rows whose embedding is edited */
    unsigned char *active;        /* [n_layers, n_rows] rows that a layer computes keys and values for */
    const unsigned char *wanted;  /* [n_rows] rows that the reads want */
    const struct collector *base; /* resid_pre, rotated k, v of the base runs at every layer, and what patches take */
};

/* One call of runtime_forward, or one slice of a replay. */
struct pass {
    struct runtime *rt;
    const struct model *model;
    const struct site_set *reads;
    struct sink *sink;
    struct kv_cache *cache;
    const unsigned char *read_rows, *final_rows; /* see struct forward */
    const struct collector *source;              /* runs that edits take values from, or NULL */
    const struct prompt *source_prompts;         /* [source->n_prompts] */
    const struct schedule *schedule;             /* NULL in a plain pass */
    struct buffers b;
    struct sequence *sequences;
    size_t n_sequences, n_rows, n_final; /* n_rows: active ones */
    size_t first_view_row;               /* replay: number of the slice's first row, as sinks count */
    size_t past;                         /* tokens in the cache */
    size_t longest;                      /* tokens of the longest prompt, past included */
    size_t stop;                         /* order of the last site that is needed */
    size_t last_layer;                   /* of that site, or the last one */
    bool finished;                       /* that site has been reached */
    bool whole;                          /* every row of the batch is active: row numbers are the batch's */
};

struct runtime {
    const struct model *model;
    struct pool *pool;
    enum precision precision;
    const struct kernels_f32 *k32;
    const struct kernels_f64 *k64;
    char *memory; /* block behind struct buffers, grown when a batch needs more */
    size_t memory_bytes;
    void *cosine[MAX_ROPES], *sine[MAX_ROPES]; /* [rope_positions, rotary_dims / 2] of each of the model's ropes */
    size_t rope_positions;
    char *head_scratch; /* head_scratch_bytes for each worker: two states, or what a product needs */
    size_t head_scratch_bytes;
};

static inline size_t real_bytes(enum precision precision)
{
    return precision == PRECISION_F64 ? sizeof(double) : sizeof(float);
}

/* Position of a site in the forward order; a larger number comes later. */
static inline size_t site_order(enum site site, size_t layer, size_t n_layers)
{
    size_t stage = site_row(site)->per_layer ? layer + 1 : site < SITE_RESID_PRE ? 0 : n_layers + 1;
    return stage * N_SITES + site;
}

/* Keys that a query of a prompt of n_tokens can see, half open. */
static inline struct range visible_keys(const struct model *m, size_t layer, size_t query, size_t n_tokens)
{
    size_t window = m->layers[layer].window, last = query + 1;
    size_t first = window && query + 1 > window ? query + 1 - window : 0;
    if (m->config.bidirectional)
        last = window && query + window < n_tokens ? query + window : n_tokens;
    return (struct range){ first, last };
}

/* Row of a sequence's token among the batch's rows. */
static inline size_t batch_row(const struct pass *p, size_t active_row)
{
    return p->sequences[p->b.sequence[active_row]].first_row + p->b.token[active_row];
}

/* Whether the sites that keys and values depend on include this one: an edit of it reaches later tokens at once. */
static inline bool site_feeds_keys(enum site site)
{
    return site <= SITE_ROT_K && site != SITE_Q && site != SITE_ROT_Q;
}

/* --- pass.c: what plain passes and replays set up alike --- */

/* Bytes of working memory; with base not NULL the buffers point into it. */
size_t pass_lay_out(struct buffers *b, const struct model_config *c, enum precision precision, int n_threads,
                    const struct shape *s, char *base);
/* Memory and rotary table for a pass of this shape (p->longest is set); touched is cleared. */
int pass_make_room(struct pass *p, const struct shape *s, struct err *err);
/* Marks reads, sets stop and last_layer. */
void pass_plan_reads(struct pass *p);
/* Fills s->resolved and the counts; s->resolved is the caller's to free, also after a failure. */
int pass_resolve_sequence(const struct pass *p, struct sequence *s, struct err *err);
/* Marks the sites that the sequences' edits touch. */
void pass_mark_edits(struct pass *p);
int pass_check_prompt(const struct model_config *c, const struct prompt *prompt, size_t past, struct err *err);
void pass_shape_flags(struct shape *s, const struct model_config *c, const struct site_set *reads);
void pass_shape_edits(struct shape *s, const struct edit_list *edits);
bool pass_edits_edges(const struct edit_list *edits);

/*
 * replay_share.c: sets s->parent and split, at most `most`, from the n sequences before s, resolved as s is; split 0
 * where none begins like s.
 */
void replay_find_parent(const struct sequence *sequences, size_t n, size_t most, struct sequence *s);

int forward_f32(struct pass *p, struct err *err);
int forward_f64(struct pass *p, struct err *err);
void head_input_f32(struct runtime *rt, const float *states, size_t n, float *out, void *scratch);
void head_input_f64(struct runtime *rt, const double *states, size_t n, double *out, void *scratch);
void unembed_f32(struct runtime *rt, const float *normed, size_t n, size_t first, size_t n_vocab, float *logits,
                 void *scratch);
void unembed_f64(struct runtime *rt, const double *normed, size_t n, size_t first, size_t n_vocab, double *logits,
                 void *scratch);

#endif
