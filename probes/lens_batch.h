/*
 * The logit lens over a batch of prompts: runs the model, gathers the states of
 * chosen rows at every depth (or what sublayers or single heads write), and
 * measures them (logit_lens.h).
 *
 *     struct lens_batch lens;
 *     lens_batch_init(&lens, rt, LENS_RESID, 5, &err);
 *     lens_batch_run(&lens, prompts, n_prompts, keep, answers, NULL, &err);
 *     lens.result.rank[row * lens.n_states + s];             // row counts the kept rows, in order
 *     lens_label(LENS_RESID, &m->config, s, label);          // "0_pre" ... "final_post"
 *     lens_batch_release(&lens);
 *
 * The last state is always the final residual, whatever the source: it is the
 * reference of kl_final. Memory is bounded by the batch and reused.
 */
#ifndef STRATA_PROBES_LENS_BATCH_H
#define STRATA_PROBES_LENS_BATCH_H

#include "core/runtime/collect.h"
#include "probes/logit_lens.h"

/* name on the command line, states a layer: resid_pre of each layer, attn_out, mlp_out, each head's result */
#define LENS_SOURCES(X)                                                                                                \
    X(RESID, "resid")                                                                                                  \
    X(ATTN_OUT, "attn_out")                                                                                            \
    X(MLP_OUT, "mlp_out")                                                                                              \
    X(HEADS, "heads")
enum lens_source {
#define X(id, name) LENS_##id,
    LENS_SOURCES(X)
#undef X
};
const char *lens_source_name(enum lens_source source);

enum { LENS_LABEL_MAX = 32 };
/* Number of states of a row, the final residual included. */
size_t lens_states(enum lens_source source, const struct model_config *config);
/* TransformerLens labels: "3_pre", "3_attn_out", "3_mlp_out", "L3H7", and "final_post" for the last. Returns label. */
char *lens_label(enum lens_source source, const struct model_config *config, size_t state, char *label);

struct lens_batch {
    struct runtime *rt;
    enum lens_source source;
    size_t n_states, top_k;
    struct site_set reads;
    struct collector collector;
    void *states;            /* [n_rows, n_states, d_model] */
    size_t n_rows, capacity; /* rows of the last batch; rows that fit */
    struct lens_result result;
};

int lens_batch_init(struct lens_batch *b, struct runtime *rt, enum lens_source source, size_t top_k, struct err *err);
/*
 * keep: 1 byte a packed row (NULL: all); answers: one for each kept row (NULL: none); edits may be NULL.
 * Fills n_rows and result.
 */
int lens_batch_run(struct lens_batch *b, const struct prompt *prompts, size_t n_prompts, const unsigned char *keep,
                   const int32_t *answers, const struct edit_list *edits, struct err *err);
/* Bytes of working memory for batches of n_rows kept rows, beside the runtime's own. */
size_t lens_batch_memory(enum lens_source source, const struct model_config *config, enum precision precision,
                         size_t n_rows);
void lens_batch_release(struct lens_batch *b);

#endif
