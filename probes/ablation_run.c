#include "probes/ablation_run.h"

#include "core/base/mem.h"
#include "core/store/journal.h"
#include "probes/outcomes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Facts and tokens at a time: their base runs and the variants' last states stay below some tens of MiB. */
enum { CHUNK_FACTS = 32, CHUNK_TOKENS = 512, CHUNK_VARIANTS = 8192 };

static int create(struct ablation_run *r, size_t n_facts, size_t n_variants, struct err *err)
{
    size_t n;
    *r = (struct ablation_run){ .n_facts = n_facts, .n_variants = n_variants };
    if (!size_mul(n_facts, n_variants, &n))
        return err_nomem(err, "the outcomes of variants");
    r->logprob = mem_array(n, sizeof *r->logprob);
    r->rank = mem_array(n, sizeof *r->rank);
    r->base_logprob = mem_array(n_facts, sizeof *r->base_logprob);
    r->base_rank = mem_array(n_facts, sizeof *r->base_rank);
    return r->logprob && r->rank && r->base_logprob && r->base_rank ? 0 : err_nomem(err, "the outcomes of variants");
}

void ablation_run_release(struct ablation_run *r)
{
    free(r->logprob);
    free(r->rank);
    free(r->base_logprob);
    free(r->base_rank);
    *r = (struct ablation_run){ 0 };
}

static size_t chunk_size(const struct ablation_plan *p, size_t first, size_t n_facts)
{
    size_t n = 1, tokens = p->prompts[first].n_tokens;
    while (first + n < n_facts && n < CHUNK_FACTS && (n + 1) * p->n_variants <= CHUNK_VARIANTS) {
        tokens += p->prompts[first + n].n_tokens;
        if (tokens > CHUNK_TOKENS)
            break;
        n++;
    }
    return n;
}

/* Between slices of a chunk: only asks whether to stop. */
struct inner {
    struct progress progress; /* first */
    struct progress *outer;
    uint64_t done, total;
};

static int inner_step(struct progress *self, uint64_t done, uint64_t total)
{
    struct inner *inner = (struct inner *)(void *)self;
    (void)done, (void)total;
    return progress_step(inner->outer, inner->done, inner->total);
}

/* own: [n, n_variants] edits of these facts, NULL: the plan's for all. */
static int run_chunk(struct ablation_run *r, const struct ablation_plan *p, const struct edit_list *own, size_t first,
                     size_t n, struct progress *progress, struct err *err)
{
    struct outcomes o;
    struct lens_result result;
    struct inner inner = { .progress.step = inner_step, .outer = progress, .done = first, .total = r->n_facts };
    struct variant *variants = mem_array(n * p->n_variants, sizeof *variants);
    if (!variants)
        return err_nomem(err, "variants");
    for (size_t i = 0; i < n; i++)
        for (size_t v = 0; v < p->n_variants; v++)
            variants[i * p->n_variants + v] =
                (struct variant){ .run = i, .edits = own ? &own[i * p->n_variants + v] : &p->edits[v] };
    int rc = outcomes_create(&o, p->rt, p->prompts + first, n, p->answers + first, NULL, NULL, err);
    if (!rc) {
        rc = outcomes_run(&o, variants, n * p->n_variants, &result, &inner.progress, err);
        if (!rc) {
            memcpy(r->logprob + first * p->n_variants, result.logprob, n * p->n_variants * sizeof *r->logprob);
            memcpy(r->rank + first * p->n_variants, result.rank, n * p->n_variants * sizeof *r->rank);
            memcpy(r->base_logprob + first, o.base.logprob, n * sizeof *r->base_logprob);
            memcpy(r->base_rank + first, o.base.rank, n * sizeof *r->base_rank);
            r->row_layers += replay_row_layers(o.replay);
            lens_result_release(&result);
        }
        outcomes_release(&o);
    }
    free(variants);
    return rc;
}

/* From the journal, or measured. */
static int take_chunk(struct ablation_run *r, const struct ablation_plan *p, const struct edit_list *own, size_t first,
                      size_t n, struct progress *progress, struct err *err)
{
    size_t at = first * p->n_variants, size = n * p->n_variants;
    const struct journal_part parts[] = { { r->logprob + at, size * sizeof *r->logprob },
                                          { r->rank + at, size * sizeof *r->rank },
                                          { r->base_logprob + first, n * sizeof *r->base_logprob },
                                          { r->base_rank + first, n * sizeof *r->base_rank },
                                          { &r->row_layers, sizeof r->row_layers } };
    enum { N = sizeof parts / sizeof *parts };
    if (journal_load(progress_journal(progress), parts, N))
        return 0;
    int rc = run_chunk(r, p, own, first, n, progress, err);
    return rc ? rc : journal_save(progress_journal(progress), parts, N, err);
}

static int make_edits(const struct ablation_plan *p, size_t first, size_t n, struct edit_list *own, struct err *err)
{
    int rc = own ? 0 : err_nomem(err, "edits");
    for (size_t i = 0; !rc && i < n; i++)
        rc = p->make(p->arg, first + i, own + i * p->n_variants, err);
    return rc;
}

int ablation_run(struct ablation_run *r, const struct ablation_plan *p, size_t n_facts, struct progress *progress,
                 struct err *err)
{
    int rc = create(r, n_facts, p->n_variants, err);
    for (size_t first = 0, n; !rc && first < n_facts; first += n) {
        n = chunk_size(p, first, n_facts);
        struct edit_list *own = p->make ? mem_zeroed(n * p->n_variants, sizeof *own) : NULL;
        rc = p->make ? make_edits(p, first, n, own, err) : 0;
        rc = rc ? rc : take_chunk(r, p, own, first, n, progress, err);
        ablation_free_edits(own, n * p->n_variants);
        if (!rc && progress_step(progress, first + n, n_facts))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu facts", first + n, n_facts);
    }
    if (rc)
        ablation_run_release(r);
    return rc;
}

int ablation_add_units(struct edit_list *list, enum site site, size_t layer, const size_t *units, size_t n,
                       bool everywhere, struct err *err)
{
    struct edit e = { .site = site, .first_layer = layer, .last_layer = layer, .op = EDIT_ZERO };
    e.at.kind = everywhere ? POSITIONS_ALL : POSITIONS_LAST;
    e.units = mem_array(n, sizeof *e.units);
    if (!e.units || !mem_grow(&list->edits, &list->capacity, list->n + 1, sizeof *list->edits)) {
        free(e.units);
        return err_nomem(err, "edits");
    }
    for (size_t i = 0; i < n; i++)
        e.units[i] = (struct range){ units[i], units[i] };
    e.n_units = n;
    ranges_merge(e.units, &e.n_units);
    list->edits[list->n++] = e;
    return 0;
}

void ablation_free_edits(struct edit_list *lists, size_t n)
{
    for (size_t i = 0; lists && i < n; i++)
        edit_list_release(&lists[i]);
    free(lists);
}

/* --- what they say --- */

static struct ablation_effect effect_of(const float *logprob, const int32_t *rank, size_t n, size_t stride)
{
    struct ablation_effect e = { 0 };
    for (size_t i = 0; i < n; i++) {
        e.probability += exp((double)logprob[i * stride]) / (double)n;
        e.accuracy += (double)(rank[i * stride] == 1) / (double)n;
    }
    return e;
}

struct ablation_effect ablation_effect(const struct ablation_run *r, size_t variant)
{
    return effect_of(r->logprob + variant, r->rank + variant, r->n_facts, r->n_variants);
}

struct ablation_effect ablation_base(const struct ablation_run *r)
{
    return effect_of(r->base_logprob, r->base_rank, r->n_facts, 1);
}

void ablation_control(const struct ablation_run *r, size_t count, struct ablation_effect *mean,
                      struct ablation_effect *spread)
{
    double n = (double)r->n_draws;
    *mean = *spread = (struct ablation_effect){ 0 };
    for (size_t d = 0; d < r->n_draws; d++) {
        struct ablation_effect e = ablation_effect(r, (1 + d) * r->n_counts + count);
        mean->probability += e.probability / n;
        mean->accuracy += e.accuracy / n;
    }
    for (size_t d = 0; d < r->n_draws && r->n_draws > 1; d++) {
        struct ablation_effect e = ablation_effect(r, (1 + d) * r->n_counts + count);
        spread->probability += pow(e.probability - mean->probability, 2) / (n - 1);
        spread->accuracy += pow(e.accuracy - mean->accuracy, 2) / (n - 1);
    }
    spread->probability = sqrt(spread->probability);
    spread->accuracy = sqrt(spread->accuracy);
}
