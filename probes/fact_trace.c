#include "probes/fact_trace.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"

#include <stdlib.h>
#include <string.h>

/* Keeps the last query's row of every pattern; everything else goes to the collector. */
struct tracer {
    struct sink sink; /* first */
    struct collector collector;
    struct site_set reads, collected;
    float *pattern;
};

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct tracer *t = (struct tracer *)(void *)self;
    if (v->site != SITE_PATTERN)
        return t->collector.sink.take(&t->collector.sink, v, err);
    size_t n = v->n_rows, n_heads = t->reads.config->n_heads;
    for (size_t h = 0; h < n_heads; h++)
        for (size_t key = 0; key < n; key++)
            t->pattern[(v->layer * n_heads + h) * n + key] = (float)site_view_at(v, (h * n + n - 1) * n + key);
    return 0;
}

static int choose_sites(struct tracer *t, const struct model_config *config, struct err *err)
{
    const char *always = "hook_embed,logits,blocks.*.hook_resid_pre,blocks.*.attn.hook_z,blocks.*.hook_mlp_out";
    int rc = site_set_init(&t->collected, config, err);
    rc = rc ? rc : site_set_init(&t->reads, config, err);
    rc = rc ? rc : site_set_add(&t->collected, always, err);
    rc = rc ? rc : site_set_add(&t->reads, always, err);
    rc = rc ? rc : site_set_add(&t->reads, "blocks.*.attn.hook_pattern", err);
    struct site_ref final = { SITE_RESID_POST, config->n_layers - 1 }, positions = { SITE_POS_EMBED, 0 };
    if (rc)
        return rc;
    site_set_add_one(&t->collected, final);
    site_set_add_one(&t->reads, final);
    if (!site_missing(SITE_POS_EMBED, config)) {
        site_set_add_one(&t->collected, positions);
        site_set_add_one(&t->reads, positions);
    }
    return 0;
}

static int run_lens(struct fact_trace *t, struct runtime *rt, const struct tracer *tracer, size_t top_k,
                    struct err *err)
{
    const struct model_config *config = &runtime_model(rt)->config;
    size_t real = runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float);
    size_t state = config->d_model * real, n;
    if (!size_mul(t->n_tokens, t->n_states, &n))
        return err_nomem(err, "the states of the prompt");
    char *states = mem_aligned(n, state);
    int32_t *answers = mem_array(t->n_tokens, sizeof *answers);
    int rc = states && answers ? 0 : err_nomem(err, "the states of the prompt");
    for (size_t row = 0; !rc && row < t->n_tokens; row++) {
        answers[row] = t->answer;
        for (size_t s = 0; s < t->n_states; s++) {
            bool final = s + 1 == t->n_states;
            const char *from = collector_rows(&tracer->collector, final ? SITE_RESID_POST : SITE_RESID_PRE,
                                              final ? config->n_layers - 1 : s);
            memcpy(states + (row * t->n_states + s) * state, from + row * state, state);
        }
    }
    struct lens_input in = {
        .states = states,
        .n_rows = t->n_tokens,
        .n_states = t->n_states,
        .answers = answers,
        .top_k = top_k,
    };
    rc = rc ? rc : lens_result_create(&t->lens, t->n_tokens, t->n_states, top_k, err);
    rc = rc ? rc : logit_lens(rt, &in, &t->lens, err);
    free(states);
    free(answers);
    return rc;
}

/* The last row of a site, as doubles. */
static void last_row(const struct tracer *t, const struct fact_trace *trace, enum site site, size_t layer, double *out)
{
    size_t n = site_row_size(site, t->reads.config);
    collector_widen(collector_rows(&t->collector, site, layer), t->collector.precision, (trace->n_tokens - 1) * n, n,
                    out);
}

static int run_attribution(struct fact_trace *t, const struct model *m, const struct tracer *tracer, struct err *err)
{
    const struct model_config *c = &m->config;
    size_t d = c->d_model, width = c->n_heads * c->d_head;
    double *x = mem_array(c->n_layers * (width + d) + 3 * d, sizeof *x);
    if (!x)
        return err_nomem(err, "the attribution");
    double *z = x, *mlp = z + c->n_layers * width, *embed = mlp + c->n_layers * d, *pos = embed + d, *final = pos + d;
    double logit;
    for (size_t l = 0; l < c->n_layers; l++) {
        last_row(tracer, t, SITE_Z, l, z + l * width);
        last_row(tracer, t, SITE_MLP_OUT, l, mlp + l * d);
    }
    last_row(tracer, t, SITE_EMBED, 0, embed);
    last_row(tracer, t, SITE_RESID_POST, c->n_layers - 1, final);
    if (m->pos_embed)
        last_row(tracer, t, SITE_POS_EMBED, 0, pos);
    /* Only the last row's logits were computed. */
    collector_widen(collector_rows(&tracer->collector, SITE_LOGITS, 0), tracer->collector.precision,
                    (t->n_tokens - 1) * c->d_vocab + (size_t)t->answer, 1, &logit);
    struct attribution_input in = {
        .token = t->answer,
        .embed = embed,
        .pos_embed = m->pos_embed ? pos : NULL,
        .z = z,
        .mlp_out = mlp,
        .resid_post = final,
        .logit = logit,
    };
    int rc = attribution_create(&t->attribution, m, err);
    rc = rc ? rc : direct_attribution(m, &in, &t->attribution, err);
    free(x);
    return rc;
}

int fact_trace_run(struct fact_trace *t, struct runtime *rt, const struct prompt *prompt, int32_t answer, size_t top_k,
                   const struct edit_list *edits, struct err *err)
{
    const struct model *m = runtime_model(rt);
    struct tracer tracer = { .sink = { take } };
    *t = (struct fact_trace){ .n_tokens = prompt->n_tokens, .n_states = m->config.n_layers + 1, .answer = answer };
    if (answer < 0 || (size_t)answer >= m->config.d_vocab)
        return err_set(err, ERR_ARG, "answer token %d is outside the vocabulary", (int)answer);
    t->pattern = mem_array(m->config.n_layers * m->config.n_heads * t->n_tokens, sizeof *t->pattern);
    unsigned char *final_rows = mem_zeroed(t->n_tokens, 1);
    tracer.pattern = t->pattern;
    int rc = t->pattern && final_rows && t->n_tokens ? 0 : err_nomem(err, "the trace");
    rc = rc ? rc : choose_sites(&tracer, &m->config, err);
    rc = rc ? rc : collector_init(&tracer.collector, &tracer.collected, runtime_precision(rt), err);
    rc = rc ? rc : collector_begin(&tracer.collector, prompt, 1, NULL, err);
    if (!rc) {
        final_rows[t->n_tokens - 1] = 1;
        struct forward f = {
            .prompts = prompt,
            .n_prompts = 1,
            .reads = &tracer.reads,
            .edits = edits,
            .sink = &tracer.sink,
            .final_rows = final_rows,
        };
        rc = runtime_forward(rt, &f, err);
    }
    rc = rc ? rc : run_lens(t, rt, &tracer, top_k, err);
    rc = rc ? rc : run_attribution(t, m, &tracer, err);
    if (tracer.collector.reads)
        collector_release(&tracer.collector);
    site_set_release(&tracer.reads);
    site_set_release(&tracer.collected);
    free(final_rows);
    if (rc)
        fact_trace_release(t);
    return rc;
}

void fact_trace_release(struct fact_trace *t)
{
    lens_result_release(&t->lens);
    attribution_release(&t->attribution);
    free(t->pattern);
    *t = (struct fact_trace){ 0 };
}
