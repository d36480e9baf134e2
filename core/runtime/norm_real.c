/* Steps over rows that threads share, and the norms, which stand before sublayers, after them, or both. */
#include "core/runtime/internal_real.h"

/* Rows are shared among threads in chunks of this size. */
enum { ROW_CHUNK = 16 };

static void row_task(void *arg, size_t index, int worker)
{
    const struct row_job *job = arg;
    (void)worker;
    size_t end = (index + 1) * ROW_CHUNK;
    for (size_t row = index * ROW_CHUNK; row < end && row < job->n_rows; row++)
        job->step(job, row);
}

void for_rows(struct row_job job, void (*step)(const struct row_job *job, size_t row))
{
    job.step = step;
    pool_run(job.p->rt->pool, (job.n_rows + ROW_CHUNK - 1) / ROW_CHUNK, row_task, &job);
}

static void stats_step(const struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    const struct model_config *c = &p->model->config;
    if (job->norm->identity) {
        ((real *)p->b.mean)[row] = 0;
        ((real *)p->b.scale)[row] = 1;
        return;
    }
    kernels_of(p->rt)->norm_stats(job->in + row * job->width, job->width, c->norm, c->norm_eps, (real *)p->b.mean + row,
                                  (real *)p->b.scale + row);
}

static void normalize_step(const struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    size_t d = job->width;
    kernels_of(p->rt)->normalize(job->in + row * d, d, ((real *)p->b.mean)[row], ((real *)p->b.scale)[row],
                                 job->out + row * d);
}

static void gain_step(const struct row_job *job, size_t row)
{
    real *x = job->out + row * job->width;
    if (job->norm->gain)
        kernels_of(job->p->rt)->gain_bias(x, job->norm->gain, job->norm->bias, job->width, x);
}

/* All three while the row is in cache. */
static void norm_step(const struct row_job *job, size_t row)
{
    stats_step(job, row);
    normalize_step(job, row);
    gain_step(job, row);
}

void norm_rows(struct pass *p, const struct norm_weights *w, const real *in, real *out, size_t width, size_t n_rows)
{
    for_rows((struct row_job){ .p = p, .n_rows = n_rows, .width = width, .norm = w, .in = in, .out = out }, norm_step);
}

int hooked_norm(struct pass *p, const struct norm_weights *w, enum site scale_site, size_t layer, const real *in,
                real *out, size_t width, size_t n_rows, const size_t *rows, struct err *err)
{
    struct row_job job = { .p = p, .n_rows = n_rows, .width = width, .norm = w, .in = in, .out = out };
    enum site normalized_site = scale_site + 1, out_site = scale_site + 2;
    if (!touched(p, scale_site, layer) && !touched(p, normalized_site, layer)) {
        for_rows(job, norm_step);
        return visit_rows(p, out_site, layer, out, 0, n_rows, rows, err);
    }
    for_rows(job, stats_step);
    int rc = visit_rows(p, scale_site, layer, p->b.scale, 0, n_rows, rows, err);
    if (rc)
        return rc;
    for_rows(job, normalize_step);
    if ((rc = visit_rows(p, normalized_site, layer, out, 0, n_rows, rows, err)))
        return rc;
    for_rows(job, gain_step);
    return visit_rows(p, out_site, layer, out, 0, n_rows, rows, err);
}
