/* Knockouts as HDF5, format "strata-knockout", version 1. */
#include "analyses/report/knockout_report.h"
#include "core/base/mem.h"

#include <stdlib.h>

static int put_attributes(const struct knockout_report *r, const struct h5_file *f, struct err *err)
{
    const struct h5_setting settings[] = {
        { "answer", r->own_answer ? "own" : "fact", 0 },
        { "blocked", "last<-keys, all heads, -inf before the softmax; no key left: a pattern of zeros", 0 },
        { "window_rule", "max(0, l - w/2) .. min(n_layers, l + ceil(w/2)) - 1", 0 },
        { "band", "95 % percentile bootstrap over subjects", 0 },
        { "window", NULL, (int64_t)r->window },
        { "known_only", NULL, r->known_only },
        { "spare_first", NULL, r->spare_first },
        { "subject_at_0", NULL, (int64_t)r->n_first },
        { "facts_given", NULL, (int64_t)r->n_given },
        { "facts_known", NULL, (int64_t)r->n_known },
        { "prompts_without_answer", NULL, (int64_t)r->n_without_answer },
        { "n_subjects", NULL, (int64_t)r->n_subjects },
    };
    return h5_put_settings(f, settings, sizeof settings / sizeof *settings, err);
}

static int put_fact_texts(const struct knockout_report *r, const struct h5_file *f, struct err *err)
{
    static const char *const names[] = { "/facts/id", "/facts/prompt", "/facts/subject", "/facts/relation",
                                         "/facts/answer" };
    const hsize_t dims[] = { r->n_facts };
    const char **texts = mem_array(r->n_facts, sizeof *texts);
    if (!texts)
        return err_nomem(err, "facts");
    int rc = 0;
    for (size_t k = 0; !rc && k < sizeof names / sizeof *names; k++) {
        for (size_t i = 0; i < r->n_facts; i++) {
            const struct knockout_fact *fact = &r->facts[i];
            const char *const of_fact[] = { fact->id, fact->prompt, fact->subject, fact->relation, fact->answer };
            texts[i] = of_fact[k];
        }
        rc = h5_put_array(f, names[k], STORE_TEXT, 1, dims, texts, err);
    }
    free(texts);
    return rc;
}

static int put_fact_numbers(const struct knockout_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t dims[] = { r->n_facts };
    int32_t *numbers = mem_array(r->n_facts, 2 * sizeof *numbers), *ranks = numbers ? numbers + r->n_facts : NULL;
    double *probs = mem_array(r->n_facts, sizeof *probs);
    int rc = numbers && probs ? 0 : err_nomem(err, "facts");
    for (size_t i = 0; !rc && i < r->n_facts; i++) {
        numbers[i] = r->facts[i].answer_token;
        ranks[i] = r->facts[i].base_rank;
        probs[i] = r->facts[i].base_prob;
    }
    rc = rc ? rc : h5_put_array(f, "/facts/answer_token", STORE_I32, 1, dims, numbers, err);
    rc = rc ? rc : h5_put_array(f, "/facts/base_rank", STORE_I32, 1, dims, ranks, err);
    rc = rc ? rc : h5_put_array(f, "/facts/base_prob", STORE_F64, 1, dims, probs, err);
    free(numbers);
    free(probs);
    return rc;
}

/* First and last blocked layer of each window; -1, -1 where nothing is blocked. */
static int put_windows(const struct knockout_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t dims[] = { r->n_layers, 2 };
    int32_t *layers = mem_array(r->n_layers, 2 * sizeof *layers);
    if (!layers)
        return err_nomem(err, "layers");
    for (size_t l = 0; l < r->n_layers; l++) {
        struct layer_window w = window_around(l, r->window, r->n_layers);
        layers[2 * l] = w.begin < w.end ? (int32_t)w.begin : -1;
        layers[2 * l + 1] = w.begin < w.end ? (int32_t)w.end - 1 : -1;
    }
    int rc = h5_put_array(f, "/layers/blocked", STORE_I32, 2, dims, layers, err);
    free(layers);
    return rc;
}

static int put_results(const struct knockout_report *r, const struct h5_file *f, struct err *err)
{
    const char *names[KNOCKOUT_SETS];
    const hsize_t sets[] = { KNOCKOUT_SETS }, all[] = { r->n_facts, KNOCKOUT_SETS, r->n_layers };
    const hsize_t thirds[] = { KNOCKOUT_SETS, KNOCKOUT_THIRDS }, tokens[] = { r->n_tokens, r->n_layers };
    for (size_t s = 0; s < KNOCKOUT_SETS; s++)
        names[s] = knockout_keys_name((enum knockout_keys)s);
    int rc = h5_put_array(f, "/knockout/keys", STORE_TEXT, 1, sets, names, err);
    rc = rc ? rc : h5_put_array(f, "/knockout/prob", STORE_F64, 3, all, r->prob, err);
    rc = rc ? rc : h5_put_array(f, "/knockout/change_percent", STORE_F64, 3, all, r->change, err);
    rc = rc ? rc : h5_put_array(f, "/mean/change_percent", STORE_F64, 2, all + 1, r->curves.mean, err);
    rc = rc ? rc : h5_put_array(f, "/mean/low", STORE_F64, 2, all + 1, r->curves.low, err);
    rc = rc ? rc : h5_put_array(f, "/mean/high", STORE_F64, 2, all + 1, r->curves.high, err);
    rc = rc ? rc : h5_put_array(f, "/thirds/change_percent", STORE_F64, 2, thirds, r->thirds.mean, err);
    rc = rc ? rc : h5_put_array(f, "/thirds/low", STORE_F64, 2, thirds, r->thirds.low, err);
    rc = rc ? rc : h5_put_array(f, "/thirds/high", STORE_F64, 2, thirds, r->thirds.high, err);
    if (rc || !r->token_prob)
        return rc;
    rc = h5_put_array(f, "/tokens/text", STORE_TEXT, 1, tokens, r->tokens, err);
    return rc ? rc : h5_put_array(f, "/tokens/prob", STORE_F64, 2, tokens, r->token_prob, err);
}

int knockout_report_put(const void *report, const struct h5_file *f, struct err *err)
{
    const struct knockout_report *r = report;
    int rc = put_attributes(r, f, err);
    rc = rc ? rc : put_fact_texts(r, f, err);
    rc = rc ? rc : put_fact_numbers(r, f, err);
    rc = rc ? rc : put_windows(r, f, err);
    return rc ? rc : put_results(r, f, err);
}
