/*
 * Lens files (design section 6), format "strata-lens", version 1: written
 * prompt by prompt with the crash safety of stream_file.h, read whole.
 *
 *     struct lens_writer *w;
 *     int rc = lens_writer_open(&w, "OUT.h5", cli->resume, &err);      // locks it; refuses an existing file
 *     while (... every prompt of the input ...)                        // first pass: nothing runs yet
 *         rc = lens_writer_prompt(w, &(struct lens_prompt){ .id = p->id, ..., .positions = rows, .n_rows = n }, &err);
 *     rc = lens_writer_start(w, &plan, &err);
 *     batcher_skip(b, lens_writer_done(w), &err);                      // second pass: what a resumed file lacks
 *     while (... every batch ...)
 *         rc = lens_writer_append(w, batch->n, &rows, &err);           // whole prompts, in the same order
 *     rc = lens_writer_finish(w, &err);                                // complete, renamed to OUT.h5
 *     lens_writer_close(w);                                            // after a failure: OUT.h5.partial stays
 *
 * Batches must not depend on where a run was resumed: prompts are committed
 * only at the end of an append, so a resumed run meets the same boundaries.
 *
 * Beside the contract: /prompts/subject, /prompts/relation (strings),
 * /prompts/answer_logprob (float32, where given), root attributes site,
 * positions, norm = "lens" (the norm convention; lens = "lens" is the same), input_sha256.
 */
#ifndef STRATA_STORE_LENS_FILE_H
#define STRATA_STORE_LENS_FILE_H

#include "core/store/provenance.h"

/* All borrowed for the call. Strings: UTF-8, "" where absent. */
struct lens_prompt {
    const char *id, *text, *answer, *subject, *relation;
    int32_t answer_token;     /* -1: none */
    const int32_t *positions; /* [n_rows] token positions of its rows, rising; at least one */
    size_t n_rows;
};

struct lens_plan {
    const struct provenance *provenance; /* format and version are set by the writer */
    const char *site;                    /* lens_source_name: "resid" */
    const char *positions;               /* as the user gave them: "last" */
    const char *const *labels;           /* [n_states] */
    size_t n_states, top_k;              /* top_k 0: no /lens/top_* */
    bool has_answer_logprob;             /* appends bring the chain's logprob */
    double flush_seconds;                /* between commits; 0: after every append */
};

/* [n_rows, n_states] each, top_*: times top_k, as struct lens_result has them. */
struct lens_rows {
    size_t n_rows;
    const int32_t *rank, *ties;
    const float *logprob, *entropy, *kl_final;
    const int32_t *top_token;
    const float *top_logprob;
    const float *answer_logprob; /* [prompts of this append] log probability of all tokens of the answer; NaN: none */
};

struct lens_writer;
int lens_writer_open(struct lens_writer **out, const char *path, bool resume, struct err *err);
int lens_writer_prompt(struct lens_writer *w, const struct lens_prompt *prompt, struct err *err);
/* Creates the file, or checks that the one to resume has the same prompts and settings (ERR_ARG). */
int lens_writer_start(struct lens_writer *w, const struct lens_plan *plan, struct err *err);
/* Prompts that the resumed file holds already; 0 for a new one. After lens_writer_start. */
size_t lens_writer_done(const struct lens_writer *w);
/* The next n_prompts prompts with all their rows; copied. Writing happens on another thread; its errors come late. */
int lens_writer_append(struct lens_writer *w, size_t n_prompts, const struct lens_rows *rows, struct err *err);
int lens_writer_finish(struct lens_writer *w, struct err *err);
/* NULL is fine. Before finish: commits what was appended, and "OUT.h5.partial" stays for --resume. */
void lens_writer_close(struct lens_writer *w);

/* A lens file in memory. Owned (lens_data_release). */
struct lens_data {
    size_t n_prompts, n_rows, n_states, top_k;
    bool complete;                       /* false: a partial file, its whole prompts */
    char *site, *positions, *model_path; /* "" where the file does not say */
    char **id, **text, **answer;         /* [n_prompts] */
    char **subject, **relation;          /* [n_prompts], "" where absent; NULL where the file has none */
    int32_t *answer_token;               /* [n_prompts] */
    float *answer_logprob;               /* [n_prompts]; NULL where the file has none */
    int32_t *row_prompt, *row_position;  /* [n_rows]; row_prompt rises from 0 */
    char **labels;                       /* [n_states] */
    int32_t *rank, *ties;                /* [n_rows, n_states] */
    float *logprob, *entropy, *kl_final; /* same shape */
    int32_t *top_token;                  /* [n_rows, n_states, top_k]; NULL where top_k is 0 */
    float *top_logprob;
};

/* Untrusted: shapes, row numbers and types are checked; memory is bounded by the file's size. */
int lens_data_read(struct lens_data *out, const char *path, struct err *err);
void lens_data_release(struct lens_data *d); /* safe on a zeroed struct */

#endif
