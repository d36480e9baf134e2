/* Shared by dump_file.c (life cycle), dump_sink.c (sites into the queue) and dump_index.c (virtual datasets). */
#ifndef STRATA_STORE_DUMP_INTERNAL_H
#define STRATA_STORE_DUMP_INTERNAL_H

#include "core/store/dump_file.h"

enum { DUMP_PROMPTS, DUMP_TOKENS, DUMP_ROWS, DUMP_EDGES, DUMP_AXES };

/* Known before the run: id, name, type, axis, fence. In the order in which their extents move. */
#define DUMP_KNOWN(X)                                                                                                  \
    X(ROW_PROMPT, "/rows/prompt", I32, ROWS, 0)                                                                        \
    X(ROW_POSITION, "/rows/position", I32, ROWS, 0)                                                                    \
    X(TOKEN_ID, "/tokens/id", I32, TOKENS, 0)                                                                          \
    X(TOKEN_TEXT, "/tokens/text", TEXT, TOKENS, 0)                                                                     \
    X(BYTE_BEGIN, "/tokens/byte_begin", I32, TOKENS, 0)                                                                \
    X(BYTE_END, "/tokens/byte_end", I32, TOKENS, 0)                                                                    \
    X(ANSWER, "/prompts/answer", TEXT, PROMPTS, 0)                                                                     \
    X(ANSWER_TOKEN, "/prompts/answer_token", I32, PROMPTS, 0)                                                          \
    X(SUBJECT, "/prompts/subject", TEXT, PROMPTS, 0)                                                                   \
    X(SUBJECT_BEGIN, "/prompts/subject_begin", I32, PROMPTS, 0)                                                        \
    X(SUBJECT_END, "/prompts/subject_end", I32, PROMPTS, 0)                                                            \
    X(RELATION, "/prompts/relation", TEXT, PROMPTS, 0)                                                                 \
    X(PATTERN_OFFSET, "/prompts/pattern_offset", I64, PROMPTS, 1)                                                      \
    X(TOKEN_OFFSET, "/prompts/token_offset", I64, PROMPTS, 1)                                                          \
    X(PROMPT_TEXT, "/prompts/text", TEXT, PROMPTS, 0)                                                                  \
    X(PROMPT_ID, "/prompts/id", TEXT, PROMPTS, 0)

enum {
#define X(id, ...) KNOWN_##id,
    DUMP_KNOWN(X) N_KNOWN
#undef X
};

/* One stored site. */
struct dump_site {
    struct site_ref ref;
    size_t dataset; /* in the stream */
    int n_dims;
    size_t dims[2];   /* of one stored row */
    size_t row_items; /* stored numbers of a row; 1 for EDGES sites */
    size_t *heads;    /* [dims[0]] where single heads of hook_z were chosen, else NULL; owned */
    uint64_t arrived; /* items of the batch at hand */
};

struct dump_writer {
    struct sink sink; /* first, so that the runtime's pointer is the writer's */
    struct stream_file *stream;
    struct dump_plan plan;
    size_t item; /* bytes of a stored number */
    size_t known[N_KNOWN];
    bool has_edges;
    struct dump_site *sites; /* [n_sites] */
    size_t n_sites;
    size_t *slots; /* [N_SITES * n_layers] number in sites + 1, 0: not stored */

    /* Counts after each batch of the first pass, to find those of a resumed file. */
    struct dump_counts counts, *steps;
    size_t n_steps, steps_capacity;

    /* The batch at hand; counts_done: everything before it. */
    struct dump_counts counts_done, counts_batch;
    const struct batch *batch;
    size_t *kept; /* [rows of the batch] its number among the stored ones, SIZE_MAX: not stored */
    size_t kept_capacity;
    uint64_t *edge_offset; /* [prompts of the batch] */
    size_t edge_capacity;

    const struct dump_shard *shards; /* during dump_writer_index */
    size_t n_shards;
};

int dump_sink_take(struct sink *self, const struct site_view *view, struct err *err);
/* Full name of a site's dataset. */
void dump_site_path(const struct dump_site *site, char path[SITE_NAME_MAX + 16]);
/* Virtual datasets of all sites over w->shards. */
int dump_index_create(const struct dump_writer *w, const struct h5_file *f, struct err *err);

#endif
