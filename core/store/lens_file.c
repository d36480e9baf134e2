/* Lens files: the writer. The reader is lens_data.c. */
#include "core/store/lens_file.h"

#include "core/base/mem.h"
#include "core/store/stream_file.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPTS, ROWS, N_AXES };

/* Known before the run: id, name, type, axis. In the order in which their extents move. */
#define KNOWN(X)                                                                                                       \
    X(ROW_PROMPT, "/rows/prompt", I32, ROWS)                                                                           \
    X(ROW_POSITION, "/rows/position", I32, ROWS)                                                                       \
    X(ANSWER_TOKEN, "/prompts/answer_token", I32, PROMPTS)                                                             \
    X(SUBJECT, "/prompts/subject", TEXT, PROMPTS)                                                                      \
    X(RELATION, "/prompts/relation", TEXT, PROMPTS)                                                                    \
    X(ANSWER, "/prompts/answer", TEXT, PROMPTS)                                                                        \
    X(PROMPT_TEXT, "/prompts/text", TEXT, PROMPTS)                                                                     \
    X(ID, "/prompts/id", TEXT, PROMPTS)

/* id, name, type, top (one number each of the top_k tokens); [rows, n_states(, top_k)] */
#define NUMBERS(X)                                                                                                     \
    X(RANK, "/lens/rank", I32, 0)                                                                                      \
    X(TIES, "/lens/ties", I32, 0)                                                                                      \
    X(LOGPROB, "/lens/logprob", F32, 0)                                                                                \
    X(ENTROPY, "/lens/entropy", F32, 0)                                                                                \
    X(KL_FINAL, "/lens/kl_final", F32, 0)                                                                              \
    X(TOP_TOKEN, "/lens/top_token", I32, 1)                                                                            \
    X(TOP_LOGPROB, "/lens/top_logprob", F32, 1)

enum {
#define X(id, ...) id,
    KNOWN(X) N_KNOWN,
#undef X
};
enum {
#define X(id, ...) id,
    NUMBERS(X) N_NUMBERS,
#undef X
};

struct lens_writer {
    struct stream_file *stream;
    size_t known[N_KNOWN], numbers[N_NUMBERS], answer_logprob; /* datasets */
    uint64_t *rows_before;                                     /* [n_prompts + 1] rows of all earlier prompts */
    size_t n_prompts, capacity, n_appended;
    size_t n_states, top_k;
    bool has_answer_logprob;
};

int lens_writer_open(struct lens_writer **out, const char *path, bool resume, struct err *err)
{
    struct lens_writer *w = mem_zeroed(1, sizeof *w);
    if (!w || !mem_grow(&w->rows_before, &w->capacity, 1, sizeof *w->rows_before)) {
        free(w);
        return err_nomem(err, "a lens file");
    }
    w->rows_before[0] = 0;
    int rc = stream_open(&w->stream, path, resume, err);
#define X(id, text, kind, count)                                                                                       \
    if (!rc)                                                                                                           \
        rc = stream_declare(w->stream,                                                                                 \
                            &(struct stream_spec){ .name = text, .type = STORE_##kind, .axis = count, .known = true }, \
                            &w->known[id], err);
    KNOWN(X)
#undef X
    if (rc)
        lens_writer_close(w);
    else
        *out = w;
    return rc;
}

static int put_rows(struct lens_writer *w, const struct lens_prompt *p, struct err *err)
{
    int32_t prompt = (int32_t)w->n_prompts;
    int rc = 0;
    for (size_t i = 0; !rc && i < p->n_rows; i++)
        rc = stream_put(w->stream, w->known[ROW_PROMPT], 1, &prompt, err);
    return rc ? rc : stream_put(w->stream, w->known[ROW_POSITION], p->n_rows, p->positions, err);
}

int lens_writer_prompt(struct lens_writer *w, const struct lens_prompt *p, struct err *err)
{
    const struct {
        size_t column;
        const char *text;
    } texts[] = { { ID, p->id },
                  { PROMPT_TEXT, p->text },
                  { ANSWER, p->answer },
                  { SUBJECT, p->subject },
                  { RELATION, p->relation } };
    if (w->n_prompts == INT32_MAX)
        return err_set(err, ERR_ARG, "more than %d prompts: use --limit", INT32_MAX);
    if (!mem_grow(&w->rows_before, &w->capacity, w->n_prompts + 2, sizeof *w->rows_before))
        return err_nomem(err, "rows of prompts");
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof texts / sizeof *texts; i++)
        rc = stream_put(w->stream, w->known[texts[i].column], 1, &texts[i].text, err);
    if (!rc)
        rc = stream_put(w->stream, w->known[ANSWER_TOKEN], 1, &p->answer_token, err);
    if (!rc)
        rc = put_rows(w, p, err);
    w->rows_before[w->n_prompts + 1] = w->rows_before[w->n_prompts] + p->n_rows;
    w->n_prompts++;
    return rc;
}

/* --- start --- */

static int describe(void *arg, const struct h5_file *f, struct err *err)
{
    const struct lens_plan *plan = arg;
    struct provenance p = *plan->provenance;
    hsize_t n_states = plan->n_states;
    p.format = "strata-lens";
    p.version = 1;
    int rc = provenance_write(f, &p, false, err);
    if (!rc)
        rc = h5_put_text(f, f->id, "site", plan->site, err);
    if (!rc)
        rc = h5_put_text(f, f->id, "positions", plan->positions, err);
    if (!rc)
        rc = h5_put_text(f, f->id, "lens", "lens", err);
    if (!rc)
        rc = h5_put_text(f, f->id, "norm", "lens", err);
    return rc ? rc : h5_put_array(f, "/layers/label", STORE_TEXT, 1, &n_states, plan->labels, err);
}

static int same_text(const struct h5_file *f, const char *name, const char *now, struct err *err)
{
    char *recorded = NULL;
    int rc = h5_get_text(f, f->id, name, &recorded, err);
    if (!rc && strcmp(recorded, now))
        rc =
            err_set(err, ERR_ARG, "%s: was begun with %s '%.100s', now '%.100s': repeat the same command, or remove it",
                    f->path, name, recorded, now);
    free(recorded);
    return rc;
}

static int check(void *arg, const struct h5_file *f, struct err *err)
{
    const struct lens_plan *plan = arg;
    struct provenance p = *plan->provenance;
    p.format = "strata-lens";
    p.version = 1;
    int rc = provenance_check(f, &p, err);
    if (!rc)
        rc = same_text(f, "site", plan->site, err);
    return rc ? rc : same_text(f, "positions", plan->positions, err);
}

static int declare_numbers(struct lens_writer *w, struct err *err)
{
    int rc = 0;
#define X(id, text, kind, top)                                                                                         \
    if (!rc && (!(top) || w->top_k))                                                                                   \
        rc = stream_declare(w->stream,                                                                                 \
                            &(struct stream_spec){ .name = text,                                                       \
                                                   .type = STORE_##kind,                                               \
                                                   .axis = ROWS,                                                       \
                                                   .n_dims = (top) ? 2 : 1,                                            \
                                                   .dims = { w->n_states, w->top_k } },                                \
                            &w->numbers[id], err);
    NUMBERS(X)
#undef X
    const struct stream_spec chain = { .name = "/prompts/answer_logprob", .type = STORE_F32, .axis = PROMPTS };
    if (!rc && w->has_answer_logprob)
        rc = stream_declare(w->stream, &chain, &w->answer_logprob, err);
    return rc;
}

int lens_writer_start(struct lens_writer *w, const struct lens_plan *plan, struct err *err)
{
    const struct stream_hooks hooks = { describe, check, (void *)(uintptr_t)plan };
    w->n_states = plan->n_states;
    w->top_k = plan->top_k;
    w->has_answer_logprob = plan->has_answer_logprob;
    uint64_t lengths[N_AXES] = { w->n_prompts, w->rows_before[w->n_prompts] };
    int rc = declare_numbers(w, err);
    if (!rc)
        rc = stream_start(w->stream, lengths, N_AXES, &hooks, plan->flush_seconds, err);
    w->n_appended = rc ? 0 : (size_t)stream_done(w->stream);
    return rc;
}

size_t lens_writer_done(const struct lens_writer *w)
{
    return (size_t)stream_done(w->stream);
}

/* --- numbers --- */

int lens_writer_append(struct lens_writer *w, size_t n_prompts, const struct lens_rows *r, struct err *err)
{
    if (n_prompts > w->n_prompts - w->n_appended ||
        w->rows_before[w->n_appended + n_prompts] - w->rows_before[w->n_appended] != r->n_rows)
        return err_set(err, ERR_CHECK, "the lens run has other rows than the first pass counted");
    const void *data[N_NUMBERS] = {
        r->rank, r->ties, r->logprob, r->entropy, r->kl_final, r->top_token, r->top_logprob
    };
    uint64_t first = w->rows_before[w->n_appended];
    int rc = 0;
    for (size_t i = 0; !rc && i < N_NUMBERS; i++)
        if ((i != TOP_TOKEN && i != TOP_LOGPROB) || w->top_k)
            rc = stream_write(w->stream, w->numbers[i], first, r->n_rows, data[i], err);
    if (!rc && w->has_answer_logprob)
        rc = stream_write(w->stream, w->answer_logprob, w->n_appended, n_prompts, r->answer_logprob, err);
    if (rc)
        return rc;
    w->n_appended += n_prompts;
    return stream_mark(w->stream, (uint64_t[]){ w->n_appended, w->rows_before[w->n_appended] }, err);
}

int lens_writer_finish(struct lens_writer *w, struct err *err)
{
    return stream_finish(w->stream, err);
}

void lens_writer_close(struct lens_writer *w)
{
    if (!w)
        return;
    stream_close(w->stream, NULL);
    free(w->rows_before);
    free(w);
}
