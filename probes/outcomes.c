#include "probes/outcomes.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Final residuals, one a row, which it overwrites, to answers. */
static int measure(struct runtime *rt, void *states, size_t n, const int32_t *answers, size_t top_k,
                   struct lens_result *out, struct err *err)
{
    struct lens_input in = { .states = states, .n_rows = n, .n_states = 1, .answers = answers, .top_k = top_k };
    int rc = lens_result_create(out, n, 1, top_k, err);
    if (!rc && n && (rc = logit_lens(rt, &in, out, err)))
        lens_result_release(out);
    return rc;
}

static void *final_states(const struct outcomes *o, const struct collector *rows)
{
    const struct model_config *c = &runtime_model(o->rt)->config;
    return collector_rows(rows, site_leaving_block(c), c->n_layers - 1);
}

/* Where no answer is given, the model's own: the top token of the base run. */
static int find_answers(struct outcomes *o, void *states, struct err *err)
{
    struct lens_result top;
    int rc = measure(o->rt, states, o->plan.n_prompts, NULL, 1, &top, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < o->plan.n_prompts; i++)
        o->answers[i] = o->answers[i] < 0 ? top.top_token[i] : o->answers[i];
    lens_result_release(&top);
    return 0;
}

/* On a copy: variants that change nothing are shown the base run's own rows. */
static int measure_base(struct outcomes *o, struct err *err)
{
    size_t real = runtime_precision(o->rt) == PRECISION_F64 ? sizeof(double) : sizeof(float);
    size_t n = o->plan.n_prompts, bytes = runtime_model(o->rt)->config.d_model * real;
    const void *base = final_states(o, replay_base_reads(o->replay));
    bool own = false;
    int rc = 0;
    for (size_t i = 0; i < n; i++)
        own |= o->answers[i] < 0;
    void *states = mem_aligned(n, bytes);
    if (!states)
        return err_nomem(err, "the base runs");
    if (own) {
        memcpy(states, base, n * bytes);
        rc = find_answers(o, states, err);
    }
    memcpy(states, base, n * bytes);
    rc = rc ? rc : measure(o->rt, states, n, o->answers, 0, &o->base, err);
    free(states);
    return rc;
}

int outcomes_create(struct outcomes *o, struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                    const int32_t *answers, const struct edit_list *const *edits, const struct site_set *sources,
                    struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    *o = (struct outcomes){ .rt = rt, .answers = mem_array(n_prompts, sizeof *answers) };
    if (!o->answers)
        return err_nomem(err, "the answers of base runs");
    memcpy(o->answers, answers, n_prompts * sizeof *answers);
    int rc = site_set_init(&o->reads, c, err);
    if (rc) {
        outcomes_release(o);
        return rc;
    }
    site_set_add_one(&o->reads, (struct site_ref){ site_leaving_block(c), c->n_layers - 1 });
    o->plan = (struct replay_plan){
        .prompts = prompts,
        .n_prompts = n_prompts,
        .edits = edits,
        .sources = sources,
        .reads = &o->reads,
        .wanted = { .kind = POSITIONS_LAST },
    };
    rc = replay_create(&o->replay, rt, &o->plan, err);
    rc = rc ? rc : measure_base(o, err);
    if (rc)
        outcomes_release(o);
    return rc;
}

int outcomes_run(struct outcomes *o, const struct variant *variants, size_t n, struct lens_result *out,
                 struct progress *progress, struct err *err)
{
    struct collector rows;
    int32_t *answers = mem_array(n, sizeof *answers);
    int rc = answers ? 0 : err_nomem(err, "the answers of variants");
    for (size_t i = 0; !rc && i < n; i++)
        answers[i] = variants[i].run < o->plan.n_prompts ? o->answers[variants[i].run] : -1;
    rc = rc ? rc : collector_init(&rows, &o->reads, runtime_precision(o->rt), err);
    if (!rc) {
        rc = replay_collect(o->replay, variants, n, &rows, progress, err);
        rc = rc ? rc : measure(o->rt, final_states(o, &rows), n, answers, 0, out, err);
        collector_release(&rows);
    }
    free(answers);
    return rc;
}

void outcomes_release(struct outcomes *o)
{
    replay_free(o->replay);
    site_set_release(&o->reads);
    lens_result_release(&o->base);
    free(o->answers);
    *o = (struct outcomes){ 0 };
}
