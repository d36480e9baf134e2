#include "core/runtime/edit_runs.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

int edit_runs_init(struct edit_runs *r, const struct runtime *rt, const struct edit_list *edits,
                   const struct prompt *other, struct err *err)
{
    *r = (struct edit_runs){ .other = other };
    int rc = site_set_init(&r->sites, &runtime_model(rt)->config, err);
    if (rc)
        return rc;
    r->needed = edit_list_sources(edits, &r->sites);
    rc = r->needed ? collector_init(&r->collector, &r->sites, runtime_precision(rt), err) : 0;
    if (rc)
        edit_runs_release(r);
    return rc;
}

int edit_runs_make(struct edit_runs *r, struct runtime *rt, struct forward *f, struct err *err)
{
    size_t n_other = r->other != NULL, n = n_other + f->n_prompts;
    if (!r->needed)
        return 0;
    if (!mem_grow(&r->prompts, &r->capacity, n, sizeof *r->prompts))
        return err_nomem(err, "the runs of edits");
    if (r->other)
        r->prompts[0] = *r->other;
    memcpy(r->prompts + n_other, f->prompts, f->n_prompts * sizeof *f->prompts);
    const struct forward plain = {
        .prompts = r->prompts, .n_prompts = n, .reads = &r->sites, .sink = &r->collector.sink
    };
    int rc = collector_begin(&r->collector, r->prompts, n, NULL, err);
    rc = rc ? rc : runtime_forward(rt, &plain, err);
    f->source = &r->collector;
    f->source_prompts = r->prompts;
    f->first_run = n_other;
    return rc;
}

void edit_runs_release(struct edit_runs *r)
{
    if (r->collector.reads)
        collector_release(&r->collector);
    if (r->sites.config)
        site_set_release(&r->sites);
    free(r->prompts);
    *r = (struct edit_runs){ 0 };
}
