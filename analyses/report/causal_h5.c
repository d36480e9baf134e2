/* Causal tracing as HDF5, format "strata-causal", version 1. */
#include "analyses/report/causal_report.h"
#include "analyses/report/token_text.h"
#include "core/base/mem.h"
#include "core/store/stream_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPTS, TOKENS, N_AXES };

/* Known before the run: id, name, type, axis. In the order in which their extents move. */
#define KNOWN(X)                                                                                                       \
    X(TOKEN_ID, "/tokens/id", I32, TOKENS)                                                                             \
    X(TOKEN_TEXT, "/tokens/text", TEXT, TOKENS)                                                                        \
    X(TOKEN_OFFSET, "/prompts/token_offset", I64, PROMPTS)                                                             \
    X(ANSWER_TOKEN, "/prompts/answer_token", I32, PROMPTS)                                                             \
    X(SUBJECT_BEGIN, "/prompts/subject_begin", I32, PROMPTS)                                                           \
    X(SUBJECT_END, "/prompts/subject_end", I32, PROMPTS)                                                               \
    X(RELATION, "/prompts/relation", TEXT, PROMPTS)                                                                    \
    X(ANSWER, "/prompts/answer", TEXT, PROMPTS)                                                                        \
    X(SUBJECT, "/prompts/subject", TEXT, PROMPTS)                                                                      \
    X(PROMPT_TEXT, "/prompts/text", TEXT, PROMPTS)                                                                     \
    X(ID, "/prompts/id", TEXT, PROMPTS)
enum {
#define X(id, ...) id,
    KNOWN(X) N_KNOWN
#undef X
};

struct causal_file {
    struct stream_file *stream;
    const struct causal_report *report;
    const struct provenance *provenance;
    size_t known[N_KNOWN], clean, rank, corrupted, samples, restored[N_CAUSAL_KINDS];
    uint64_t n_facts, n_tokens; /* appended */
};

static bool wants(const struct causal_report *r, enum causal_kind kind)
{
    return r->options->kinds >> kind & 1;
}

static int declare(struct causal_file *w, struct err *err)
{
    int rc = 0;
#define X(id, text, kind, count)                                                                                       \
    if (!rc)                                                                                                           \
        rc = stream_declare(                                                                                           \
            w->stream,                                                                                                 \
            &(struct stream_spec){                                                                                     \
                .name = text, .type = STORE_##kind, .axis = count, .fence = (id) == TOKEN_OFFSET, .known = true },     \
            &w->known[id], err);
    KNOWN(X)
#undef X
    size_t draws = w->report->options->n_samples, n_layers = w->report->model->config.n_layers;
    const struct {
        struct stream_spec spec;
        size_t *id;
    } numbers[] = {
        { { .name = "/clean/prob", .type = STORE_F64, .axis = PROMPTS }, &w->clean },
        { { .name = "/clean/rank", .type = STORE_I32, .axis = PROMPTS }, &w->rank },
        { { .name = "/corrupted/prob", .type = STORE_F64, .axis = PROMPTS }, &w->corrupted },
        { { .name = "/corrupted/samples", .type = STORE_F64, .axis = PROMPTS, .n_dims = 1, .dims = { draws } },
          &w->samples },
    };
    for (size_t i = 0; !rc && i < sizeof numbers / sizeof *numbers; i++)
        rc = stream_declare(w->stream, &numbers[i].spec, numbers[i].id, err);
    for (enum causal_kind k = 0; !rc && k < N_CAUSAL_KINDS; k++) {
        char name[64];
        snprintf(name, sizeof name, "/restored/%s", causal_kind_name(k));
        const struct stream_spec spec = { .name = name,
                                          .type = STORE_F64,
                                          .axis = causal_is_grid(k) ? TOKENS : PROMPTS,
                                          .n_dims = 1,
                                          .dims = { n_layers } };
        if (wants(w->report, k))
            rc = stream_declare(w->stream, &spec, &w->restored[k], err);
    }
    return rc;
}

static int put_tokens(struct causal_file *w, const struct causal_fact *f, struct err *err)
{
    int rc = stream_put(w->stream, w->known[TOKEN_ID], f->fact.tokens.n, f->fact.tokens.id, err);
    for (size_t t = 0; !rc && t < f->fact.tokens.n; t++) {
        char *text;
        rc = token_text_copy(w->report->model, f->fact.tokens.id[t], &text, err);
        if (!rc) {
            rc = stream_put(w->stream, w->known[TOKEN_TEXT], 1, &text, err);
            free(text);
        }
    }
    return rc;
}

static int put_facts(struct causal_file *w, uint64_t lengths[N_AXES], struct err *err)
{
    int64_t offset = 0;
    int rc = stream_put(w->stream, w->known[TOKEN_OFFSET], 1, &offset, err);
    for (size_t i = 0; !rc && i < w->report->n; i++) {
        const struct causal_fact *f = &w->report->facts[i];
        const struct {
            size_t column;
            const char *text;
        } texts[] = { { ID, f->fact.id },
                      { PROMPT_TEXT, f->fact.text },
                      { SUBJECT, f->fact.subject },
                      { ANSWER, f->fact.answer },
                      { RELATION, f->fact.relation } };
        const int32_t begin = (int32_t)f->fact.subject_begin, end = (int32_t)f->fact.subject_end;
        offset += (int64_t)f->fact.tokens.n;
        for (size_t c = 0; !rc && c < sizeof texts / sizeof *texts; c++)
            rc = stream_put(w->stream, w->known[texts[c].column], 1, &texts[c].text, err);
        rc = rc ? rc : stream_put(w->stream, w->known[ANSWER_TOKEN], 1, &f->answer, err);
        rc = rc ? rc : stream_put(w->stream, w->known[SUBJECT_BEGIN], 1, &begin, err);
        rc = rc ? rc : stream_put(w->stream, w->known[SUBJECT_END], 1, &end, err);
        rc = rc ? rc : stream_put(w->stream, w->known[TOKEN_OFFSET], 1, &offset, err);
        rc = rc ? rc : put_tokens(w, f, err);
    }
    lengths[PROMPTS] = w->report->n;
    lengths[TOKENS] = (uint64_t)offset;
    return rc;
}

/* --- settings --- */

enum { N_SETTINGS = 2 };
struct setting {
    const char *name;
    int64_t value;
};

static void settings_of(const struct causal_report *r, struct setting out[N_SETTINGS])
{
    out[0] = (struct setting){ "samples", (int64_t)r->options->n_samples };
    out[1] = (struct setting){ "window", (int64_t)r->options->window };
}

/* Every digit of the number. */
static const char *noise_text(const struct causal_report *r, char text[64])
{
    snprintf(text, 64, "%.17g", r->options->noise);
    return text;
}

static struct provenance full_provenance(const struct causal_file *w)
{
    struct provenance p = *w->provenance;
    p.format = causal_result.format;
    p.version = 1;
    return p;
}

static int describe(void *arg, const struct h5_file *f, struct err *err)
{
    const struct causal_file *w = arg;
    const struct causal_report *r = w->report;
    const struct provenance p = full_provenance(w);
    struct setting settings[N_SETTINGS];
    char noise[64];
    settings_of(r, settings);
    int rc = provenance_write(f, &p, false, err);
    for (size_t i = 0; !rc && i < N_SETTINGS; i++)
        rc = h5_put_int(f, f->id, settings[i].name, settings[i].value, err);
    rc = rc ? rc : h5_put_text(f, f->id, "noise", noise_text(r, noise), err);
    rc = rc ? rc : h5_put_text(f, f->id, "noise_rule", r->noise_rule, err);
    rc = rc ? rc : h5_put_text(f, f->id, "norm", causal_result.norm, err);
    rc = rc ? rc : h5_put_text(f, f->id, "selection", r->all ? "all" : "known", err);
    rc = rc ? rc : h5_put_int(f, f->id, "facts_read", (int64_t)r->n_read, err);
    return rc ? rc : h5_put_int(f, f->id, "facts_unknown", (int64_t)r->n_unknown, err);
}

static int check_noise(const struct causal_report *r, const struct h5_file *f, struct err *err)
{
    char *recorded = NULL, now[64];
    int rc = h5_get_text(f, f->id, "noise", &recorded, err);
    if (!rc && strcmp(recorded, noise_text(r, now)) != 0)
        rc = err_set(err, ERR_ARG, "%s: was begun with noise %.60s, now %s: repeat the same command, or remove it",
                     f->path, recorded, now);
    free(recorded);
    return rc;
}

static int check(void *arg, const struct h5_file *f, struct err *err)
{
    const struct causal_file *w = arg;
    const struct provenance p = full_provenance(w);
    struct setting settings[N_SETTINGS];
    settings_of(w->report, settings);
    int rc = provenance_check(f, &p, err);
    for (size_t i = 0; !rc && i < N_SETTINGS; i++) {
        int64_t recorded;
        rc = h5_get_int(f, f->id, settings[i].name, &recorded, err);
        if (!rc && recorded != settings[i].value)
            rc = err_set(err, ERR_ARG, "%s: was begun with %s %lld, now %lld: repeat the same command, or remove it",
                         f->path, settings[i].name, (long long)recorded, (long long)settings[i].value);
    }
    return rc ? rc : check_noise(w->report, f, err);
}

int causal_file_open(struct causal_file **out, const char *path, bool resume, const struct causal_report *r,
                     const struct provenance *p, struct err *err)
{
    struct causal_file *w = mem_zeroed(1, sizeof *w);
    uint64_t lengths[N_AXES];
    if (!w)
        return err_nomem(err, "a result file");
    w->report = r;
    w->provenance = p;
    const struct stream_hooks hooks = { describe, check, w };
    int rc = stream_open(&w->stream, path, resume, err);
    rc = rc ? rc : declare(w, err);
    rc = rc ? rc : put_facts(w, lengths, err);
    rc = rc ? rc : stream_start(w->stream, lengths, N_AXES, &hooks, 2, err);
    if (rc) {
        causal_file_close(w);
        return rc;
    }
    w->n_facts = stream_done(w->stream);
    for (size_t i = 0; i < w->n_facts; i++)
        w->n_tokens += r->facts[i].fact.tokens.n;
    *out = w;
    return 0;
}

size_t causal_file_done(const struct causal_file *w)
{
    return (size_t)stream_done(w->stream);
}

int causal_file_append(struct causal_file *w, const struct causal_fact *fact, struct err *err)
{
    const struct causal_trace *t = &fact->trace;
    struct stream_file *s = w->stream;
    int rc = stream_write(s, w->clean, w->n_facts, 1, &t->clean, err);
    rc = rc ? rc : stream_write(s, w->rank, w->n_facts, 1, &t->clean_rank, err);
    rc = rc ? rc : stream_write(s, w->corrupted, w->n_facts, 1, &t->corrupted, err);
    rc = rc ? rc : stream_write(s, w->samples, w->n_facts, 1, t->samples, err);
    for (enum causal_kind k = 0; !rc && k < N_CAUSAL_KINDS; k++)
        if (wants(w->report, k))
            rc = causal_is_grid(k) ? stream_write(s, w->restored[k], w->n_tokens, t->n_tokens, t->p[k], err)
                                   : stream_write(s, w->restored[k], w->n_facts, 1, t->p[k], err);
    if (rc)
        return rc;
    w->n_facts++;
    w->n_tokens += t->n_tokens;
    return stream_mark(s, (uint64_t[]){ w->n_facts, w->n_tokens }, err);
}

int causal_file_finish(struct causal_file *w, struct err *err)
{
    return stream_finish(w->stream, err);
}

void causal_file_close(struct causal_file *w)
{
    if (!w)
        return;
    stream_close(w->stream, NULL);
    free(w);
}

/* --- what an earlier run did --- */

static int read_rows(const struct h5_file *f, const char *name, uint64_t first, uint64_t n, enum store_type as,
                     size_t row_items, void *out, struct err *err)
{
    struct h5_dataset d = { 0 };
    int rc = h5_dataset_open(&d, f, name, err);
    if (rc)
        return rc;
    if (d.row_items != row_items || first + n > d.dims[0])
        rc = err_set(err, ERR_FORMAT, "%s: %s has an unexpected shape: remove the file and run again", f->path, name);
    else
        rc = h5_dataset_read(&d, first, n, as, out, err);
    h5_dataset_close(&d);
    return rc;
}

static int load_fact(const struct h5_file *f, const struct causal_report *r, size_t i, uint64_t first_token,
                     struct causal_trace *t, struct err *err)
{
    char name[64];
    int rc = read_rows(f, "/clean/prob", i, 1, STORE_F64, 1, &t->clean, err);
    rc = rc ? rc : read_rows(f, "/clean/rank", i, 1, STORE_I32, 1, &t->clean_rank, err);
    rc = rc ? rc : read_rows(f, "/corrupted/prob", i, 1, STORE_F64, 1, &t->corrupted, err);
    rc = rc ? rc : read_rows(f, "/corrupted/samples", i, 1, STORE_F64, r->options->n_samples, t->samples, err);
    for (enum causal_kind k = 0; !rc && k < N_CAUSAL_KINDS; k++) {
        bool grid = causal_is_grid(k);
        snprintf(name, sizeof name, "/restored/%s", causal_kind_name(k));
        if (wants(r, k))
            rc = read_rows(f, name, grid ? first_token : i, grid ? t->n_tokens : 1, STORE_F64, t->n_layers, t->p[k],
                           err);
    }
    return rc;
}

int causal_file_load(const char *path, const struct causal_report *r, size_t n, struct causal_fact *facts,
                     struct err *err)
{
    struct h5_file f;
    uint64_t first_token = 0;
    int rc = h5_open(&f, path, false, err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < n; i++) {
        size_t n_tokens = facts[i].fact.tokens.n;
        rc = causal_trace_make(&facts[i].trace, r->options, n_tokens, r->model->config.n_layers, err);
        rc = rc ? rc : load_fact(&f, r, i, first_token, &facts[i].trace, err);
        first_token += n_tokens;
    }
    return h5_close(&f, rc, err);
}
