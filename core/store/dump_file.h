/*
 * Dump files (design section 5), format "strata-dump", version 1: sites of
 * every prompt, written batch by batch with the crash safety of stream_file.h.
 *
 *     struct dump_writer *w;
 *     dump_writer_open(&w, "OUT.h5", &plan, resume, &err);
 *     while (... every batch ...)                          // first pass: sizes, tokens; nothing runs yet
 *         dump_writer_add(w, batch, keep, &err);
 *     dump_writer_start(w, &err);
 *     batcher_skip(batcher, dump_writer_done(w), &err);    // second pass: what a resumed file lacks
 *     while (... every batch ...) {
 *         dump_writer_begin(w, batch, keep, &err);
 *         runtime_forward(rt, &(struct forward){ ..., .reads = plan.sites, .sink = dump_writer_sink(w) }, &err);
 *         dump_writer_end(w, &err);
 *     }
 *     dump_writer_finish(w, &err);
 *     dump_writer_close(w);
 *
 * keep: 1 byte for each packed row of the batch, 1: stored; NULL: all. At least
 * one row of each prompt. hook_pattern and hook_attn_scores are stored whole,
 * whatever keep says. Where single heads of hook_z were chosen (L3H7), the
 * dataset is [R, chosen heads, d_head] and its attribute `heads` names them.
 *
 * Beside the contract: /prompts/answer, subject, relation (strings),
 * answer_token, subject_begin, subject_end (int32, token span; equal: none),
 * root attributes positions, edits, isa, seed, input_sha256; of a shard also
 * first_prompt (its first prompt's number in the whole input).
 */
#ifndef STRATA_STORE_DUMP_FILE_H
#define STRATA_STORE_DUMP_FILE_H

#include "core/runtime/prepare.h"
#include "core/store/provenance.h"
#include "core/store/stream_file.h"

/* All borrowed for the writer's life. */
struct dump_plan {
    const struct provenance *provenance; /* format and version are set by the writer; its dtype is the sites' */
    const struct site_set *sites;        /* at least one */
    const char *positions;               /* as the user gave them: "all" */
    struct pool *pool;                   /* converts large sites in parallel; not in use by others during take */
    double flush_seconds;                /* between commits; 0: after every batch */
    uint64_t first_prompt;
};

/* What a run stores. */
struct dump_counts {
    uint64_t prompts, tokens, rows, edges; /* edges: n_heads * T * T of every prompt, where plan.sites has such sites */
};
/* Adds what a batch stores. */
void dump_count(const struct dump_plan *plan, const struct batch *batch, const unsigned char *keep,
                struct dump_counts *counts);
/* Bytes of site data for so many rows and edges; UINT64_MAX when that is more than a file can hold. */
uint64_t dump_bytes(const struct dump_plan *plan, const struct dump_counts *counts);

struct dump_writer;
int dump_writer_open(struct dump_writer **out, const char *path, const struct dump_plan *plan, bool resume,
                     struct err *err);
int dump_writer_add(struct dump_writer *w, const struct batch *batch, const unsigned char *keep, struct err *err);
int dump_writer_start(struct dump_writer *w, struct err *err);
/* Prompts that the resumed file holds; all of them where it was complete. */
size_t dump_writer_done(const struct dump_writer *w);
int dump_writer_begin(struct dump_writer *w, const struct batch *batch, const unsigned char *keep, struct err *err);
/* ERR_NUMERIC names site, prompt and position of a value that overflows the dtype. */
struct sink *dump_writer_sink(struct dump_writer *w);
/* ERR_CHECK when a site did not come in full. */
int dump_writer_end(struct dump_writer *w, struct err *err);
int dump_writer_finish(struct dump_writer *w, struct err *err);
/* NULL is fine. Before finish: commits whole batches, and the partial file stays for --resume. */
void dump_writer_close(struct dump_writer *w);

/* One finished shard of a folder. */
struct dump_shard {
    char *name; /* file name in the folder; owned by whoever made it */
    struct dump_counts counts;
    uint64_t first_prompt, file_bytes;
};
/*
 * index.h5 of a folder: the prompts, tokens and rows of all shards, and virtual datasets over their sites. The writer
 * is opened first (it locks the folder), gets every batch by dump_writer_add, and is written by this call in the end.
 */
int dump_writer_index(struct dump_writer *w, const struct dump_shard *shards, size_t n_shards, struct err *err);

#endif
