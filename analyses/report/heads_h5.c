/* Heads as HDF5, format "strata-heads", version 1. */
#include "analyses/report/heads_report.h"
#include "analyses/report/known_facts_h5.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int put_attributes(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const struct h5_setting settings[] = { { "position", "last", 0 },
                                           { "against", r->against, 0 },
                                           { "ablation_mode", r->ablation.mode == ABLATION_MEAN ? "mean" : "zero", 0 },
                                           { "ablation_at", r->ablation.everywhere ? "all" : "last", 0 },
                                           { "ablation_ranked_by", heads_ranking_name(r->ranking), 0 },
                                           { "n_subjects", NULL, (int64_t)r->n_subjects },
                                           { "ablation_draws", NULL, (int64_t)r->ranked.n_draws } };
    int rc = h5_put_settings(f, settings, sizeof settings / sizeof *settings, err);
    return rc ? rc : known_facts_put_counts(r->facts, f, err);
}

static int put_attribution(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const struct model_config *c = &r->model->config;
    const struct head_attribution *a = &r->attribution;
    const hsize_t each[] = { a->n_facts, c->n_layers, c->n_heads }, *mean = each + 1;
    int rc = h5_put_array(f, "/attribution/logit", STORE_F64, 3, each, a->logit, err);
    rc = rc ? rc : h5_put_array(f, "/attribution/from_subject", STORE_F64, 3, each, a->from_subject, err);
    rc = rc ? rc : h5_put_array(f, "/attention/to_subject", STORE_F64, 3, each, a->to_subject, err);
    rc = rc ? rc : h5_put_array(f, "/mean/logit", STORE_F64, 2, mean, r->mean, err);
    rc = rc ? rc : h5_put_array(f, "/mean/logit_low", STORE_F64, 2, mean, r->low, err);
    rc = rc ? rc : h5_put_array(f, "/mean/logit_high", STORE_F64, 2, mean, r->high, err);
    rc = rc ? rc : h5_put_array(f, "/mean/from_subject", STORE_F64, 2, mean, r->from_subject, err);
    rc = rc ? rc : h5_put_array(f, "/mean/to_subject", STORE_F64, 2, mean, r->to_subject, err);
    if (rc || !a->source)
        return rc;
    /* One fact after another, each [n_layers, n_heads, n_tokens]. */
    const hsize_t offsets[] = { a->n_facts + 1 }, all[] = { a->source_offset[a->n_facts] };
    int64_t *offset = mem_array(a->n_facts + 1, sizeof *offset);
    for (size_t i = 0; offset && i <= a->n_facts; i++)
        offset[i] = (int64_t)a->source_offset[i];
    rc = offset ? h5_put_array(f, "/attribution/source_offset", STORE_I64, 1, offsets, offset, err)
                : err_nomem(err, "offsets");
    free(offset);
    return rc ? rc : h5_put_array(f, "/attribution/source", STORE_F64, 1, all, a->source, err);
}

static int put_patterns(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t dims[] = { r->model->config.n_layers, r->model->config.n_heads };
    int rc = 0;
    if (!r->patterns.n_heads)
        return 0;
    for (enum head_pattern p = 0; !rc && p < N_HEAD_PATTERNS; p++) {
        char name[64];
        snprintf(name, sizeof name, "/patterns/%s", head_pattern_name(p));
        rc = h5_put_array(f, name, STORE_F64, 2, dims, r->patterns.score[p], err);
    }
    rc = rc ? rc : h5_put_int(f, f->id, "pattern_tokens", (int64_t)r->patterns.n_tokens, err);
    rc = rc ? rc : h5_put_int(f, f->id, "pattern_prompts", (int64_t)r->patterns.n_prompts, err);
    rc = rc ? rc : h5_put_int(f, f->id, "pattern_first_id", r->patterns.first_id, err);
    return rc ? rc : h5_put_int(f, f->id, "pattern_last_id", r->patterns.last_id, err);
}

static int put_singles(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const struct ablation_run *s = &r->singles;
    const hsize_t dims[] = { s->n_facts, r->model->config.n_layers, r->model->config.n_heads };
    if (!s->n_variants)
        return 0;
    int rc = h5_put_array(f, "/singles/logprob", STORE_F32, 3, dims, s->logprob, err);
    rc = rc ? rc : h5_put_array(f, "/singles/rank", STORE_I32, 3, dims, s->rank, err);
    return rc ? rc : h5_put_array(f, "/singles/change_percent", STORE_F64, 2, dims + 1, r->single_drop, err);
}

/* Heads as their numbers, layer * n_heads + head. */
static int put_numbers(const struct h5_file *f, const char *name, const size_t *numbers, size_t n, struct err *err)
{
    const hsize_t dims[] = { n };
    int32_t *narrow = mem_array(n, sizeof *narrow);
    for (size_t i = 0; narrow && i < n; i++)
        narrow[i] = (int32_t)numbers[i];
    int rc = narrow ? h5_put_array(f, name, STORE_I32, 1, dims, narrow, err) : err_nomem(err, "numbers of heads");
    free(narrow);
    return rc;
}

static int put_ranked(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const struct ablation_run *a = &r->ranked;
    const hsize_t dims[] = { a->n_facts, a->n_variants }, facts[] = { a->n_facts };
    if (!a->n_variants)
        return 0;
    int rc = put_numbers(f, "/ablation/order", r->order, r->attribution.n_heads, err);
    rc = rc ? rc : put_numbers(f, "/ablation/counts", r->counts, r->n_counts, err);
    rc = rc ? rc : h5_put_array(f, "/ablation/base_logprob", STORE_F32, 1, facts, a->base_logprob, err);
    /* Columns: the ranking's counts, then those of every draw. */
    rc = rc ? rc : h5_put_array(f, "/ablation/logprob", STORE_F32, 2, dims, a->logprob, err);
    return rc ? rc : h5_put_array(f, "/ablation/rank", STORE_I32, 2, dims, a->rank, err);
}

static int put_relation_names(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    size_t n = r->map.n_relations;
    const hsize_t dims[] = { n };
    const char **names = mem_array(n, sizeof *names);
    size_t *pairs = mem_array(2 * n, sizeof *pairs);
    int rc = names && pairs ? 0 : err_nomem(err, "relations");
    for (size_t i = 0; !rc && i < n; i++) {
        names[i] = r->relations[i].name;
        pairs[i] = r->relations[i].n_pairs;
        pairs[n + i] = r->relations[i].n_skipped;
    }
    rc = rc ? rc : h5_put_array(f, "/map/relation", STORE_TEXT, 1, dims, names, err);
    rc = rc ? rc : put_numbers(f, "/map/pairs", pairs, n, err);
    rc = rc ? rc : put_numbers(f, "/map/skipped", pairs + n, n, err);
    free(names);
    free(pairs);
    return rc;
}

static int put_map(const struct heads_report *r, const struct h5_file *f, struct err *err)
{
    const struct head_map *m = &r->map;
    const hsize_t dims[] = { m->n_relations, r->model->config.n_layers, r->model->config.n_heads };
    if (!m->n_relations)
        return 0;
    int rc = put_relation_names(r, f, err);
    rc = rc ? rc : h5_put_array(f, "/map/promote", STORE_F64, 3, dims, m->promote, err);
    rc = rc ? rc : h5_put_array(f, "/map/suppress", STORE_F64, 3, dims, m->suppress, err);
    rc = rc ? rc : h5_put_array(f, "/map/control", STORE_F64, 3, dims, m->control, err);
    rc = rc ? rc : h5_put_array(f, "/map/any_head", STORE_F64, 1, dims, m->covered, err);
    rc = rc ? rc : h5_put_array(f, "/map/any_head_control", STORE_F64, 1, dims, m->covered_control, err);
    rc = rc ? rc : h5_put_array(f, "/map/hub", STORE_F64, 2, dims + 1, r->hub, err);
    rc = rc ? rc : h5_put_int(f, f->id, "map_k", HEAD_MAP_K, err);
    rc = rc ? rc : h5_put_int(f, f->id, "map_copying_k", HEAD_MAP_COPYING_K, err);
    return rc ? rc : h5_put_text(f, f->id, "map_norms", "gains", err);
}

int heads_report_put(const void *report, const struct h5_file *f, struct err *err)
{
    const struct heads_report *r = report;
    int rc = put_attributes(r, f, err);
    rc = rc ? rc : known_facts_put(r->facts, f, err);
    rc = rc ? rc : put_attribution(r, f, err);
    rc = rc ? rc : put_patterns(r, f, err);
    rc = rc ? rc : put_singles(r, f, err);
    rc = rc ? rc : put_ranked(r, f, err);
    return rc ? rc : put_map(r, f, err);
}
