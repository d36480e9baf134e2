/* A traced fact as HDF5, format "strata-trace", version 1. */
#include "analyses/report/result.h"
#include "analyses/report/stages_report.h"
#include "analyses/report/token_text.h"
#include "analyses/report/trace_report.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Texts of n tokens; NULL when memory is out. */
static char **texts_of(const struct model *m, const int32_t *ids, size_t n)
{
    struct err ignored;
    char **texts = mem_zeroed(n, sizeof *texts);
    for (size_t i = 0; texts && i < n; i++)
        if (token_text_copy(m, ids[i], &texts[i], &ignored)) {
            h5_free_text(texts, n);
            return NULL;
        }
    return texts;
}

static int put_token_texts(const struct h5_file *f, const char *name, const struct model *m, const int32_t *ids,
                           size_t n, struct err *err)
{
    const hsize_t dims[] = { n };
    char **texts = texts_of(m, ids, n);
    if (!texts)
        return err_nomem(err, "texts of tokens");
    int rc = h5_put_array(f, name, STORE_TEXT, 1, dims, texts, err);
    h5_free_text(texts, n);
    return rc;
}

static int put_fact(const struct trace_report *r, const struct h5_file *f, struct err *err)
{
    const struct prepared *fact = r->fact;
    const hsize_t tokens[] = { fact->tokens.n };
    const struct h5_setting settings[] = {
        { "id", fact->id, 0 },
        { "prompt", fact->text, 0 },
        { "subject", fact->subject, 0 },
        { "answer", fact->answer, 0 },
        { "norm_lens", "lens: the final norm recomputed at each depth", 0 },
        { "norm_attribution", "attribution: the final norm's mean and scale held fixed", 0 },
        { "answer_token", NULL, r->trace->answer },
        { "own_answer", NULL, r->own_answer },
        { "subject_begin", NULL, (int64_t)fact->subject_begin },
        { "subject_end", NULL, (int64_t)fact->subject_end },
    };
    int rc = h5_put_settings(f, settings, sizeof settings / sizeof *settings, err);
    rc = rc ? rc : h5_put_array(f, "/tokens/id", STORE_I32, 1, tokens, fact->tokens.id, err);
    rc = rc ? rc : h5_put_array(f, "/tokens/byte_begin", STORE_I32, 1, tokens, fact->tokens.begin, err);
    rc = rc ? rc : h5_put_array(f, "/tokens/byte_end", STORE_I32, 1, tokens, fact->tokens.end, err);
    return rc ? rc : put_token_texts(f, "/tokens/text", r->model, fact->tokens.id, fact->tokens.n, err);
}

static int put_lens(const struct trace_report *r, const struct h5_file *f, struct err *err)
{
    const struct fact_trace *t = r->trace;
    const struct lens_result *lens = &t->lens;
    const hsize_t dims[] = { t->n_rows, t->n_states, r->top_k };
    int rc = h5_put_array(f, "/layers/label", STORE_TEXT, 1, &dims[1], r->labels, err);
    rc = rc ? rc : h5_put_array(f, "/lens/rank", STORE_I32, 2, dims, lens->rank, err);
    rc = rc ? rc : h5_put_array(f, "/lens/ties", STORE_I32, 2, dims, lens->ties, err);
    rc = rc ? rc : h5_put_array(f, "/lens/logprob", STORE_F32, 2, dims, lens->logprob, err);
    rc = rc ? rc : h5_put_array(f, "/lens/entropy", STORE_F32, 2, dims, lens->entropy, err);
    rc = rc ? rc : h5_put_array(f, "/lens/kl_final", STORE_F32, 2, dims, lens->kl_final, err);
    rc = rc ? rc : h5_put_array(f, "/lens/top_token", STORE_I32, 3, dims, lens->top_token, err);
    return rc ? rc : h5_put_array(f, "/lens/top_logprob", STORE_F32, 3, dims, lens->top_logprob, err);
}

static int put_rivals(const struct trace_report *r, const struct h5_file *f, struct err *err)
{
    const struct fact_trace *t = r->trace;
    const hsize_t dims[] = { t->n_rivals, t->n_states };
    if (!t->n_rivals)
        return 0;
    int rc = h5_put_array(f, "/rivals/token", STORE_I32, 1, dims, t->rivals, err);
    rc = rc ? rc : put_token_texts(f, "/rivals/text", r->model, t->rivals, t->n_rivals, err);
    rc = rc ? rc : h5_put_array(f, "/rivals/rank", STORE_I32, 2, dims, t->rival_lens.rank, err);
    return rc ? rc : h5_put_array(f, "/rivals/logprob", STORE_F32, 2, dims, t->rival_lens.logprob, err);
}

static int put_attribution(const struct trace_report *r, const struct h5_file *f, struct err *err)
{
    const struct model_config *c = &r->model->config;
    const struct fact_trace *t = r->trace;
    const struct attribution *a = &t->attribution;
    const hsize_t layers[] = { c->n_layers, c->n_heads }, one[] = { 1 };
    const hsize_t pattern[] = { c->n_layers, c->n_heads, t->n_tokens };
    const struct {
        const char *name;
        const double *value;
    } numbers[] = { { "/attribution/embed", &a->embed }, { "/attribution/pos_embed", &a->pos_embed },
                    { "/attribution/bias", &a->bias },   { "/attribution/sum", &a->sum },
                    { "/attribution/logit", &t->logit }, { "/attribution/residue", &a->residue } };
    int rc = h5_put_array(f, "/attribution/heads", STORE_F64, 2, layers, a->heads, err);
    rc = rc ? rc : h5_put_array(f, "/attribution/attention", STORE_F64, 1, layers, a->attention, err);
    rc = rc ? rc : h5_put_array(f, "/attribution/mlp", STORE_F64, 1, layers, a->mlp, err);
    for (size_t i = 0; !rc && i < sizeof numbers / sizeof *numbers; i++)
        rc = h5_put_array(f, numbers[i].name, STORE_F64, 1, one, numbers[i].value, err);
    return rc ? rc : h5_put_array(f, "/attention/pattern", STORE_F32, 3, pattern, t->pattern, err);
}

static int put_all(const void *report, const struct h5_file *f, struct err *err)
{
    const struct trace_report *r = report;
    int rc = put_fact(r, f, err);
    rc = rc ? rc : put_lens(r, f, err);
    rc = rc ? rc : put_rivals(r, f, err);
    rc = rc ? rc : put_attribution(r, f, err);
    return rc || !r->stages ? rc : stages_report_one_h5(r->stages, f, err);
}

int trace_report_h5(const struct trace_report *r, const struct provenance *p, const char *path, struct err *err)
{
    struct provenance full = *p;
    full.format = "strata-trace";
    full.version = 1;
    return result_h5(path, &full, put_all, r, err);
}
