#include "probes/fact_trace.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/logit_direction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Takes what the trace needs while it is hot: states of the lens's rows, and the last token's row of the rest. */
struct tracer {
    struct sink sink; /* first */
    const struct model *model;
    struct site_set reads;
    size_t n_tokens, first_row, n_rows, read_at, n_states, state_bytes;
    char *states; /* [rows from first_row on, n_states, d_model] in the runtime's precision */
    float *pattern;
    double *last; /* owns the rest */
    double *z, *mlp_out, *attn_scale, *embed, *pos_embed, *resid_post, *logits;
};

static size_t view_row(const struct site_view *v, size_t r)
{
    return v->rows ? v->rows[r] : v->first_row + r;
}

static void take_states(struct tracer *t, const struct site_view *v, size_t state)
{
    for (size_t r = 0; r < v->n_rows; r++) {
        size_t row = view_row(v, r);
        if (row >= t->first_row && row < t->first_row + t->n_rows)
            memcpy(t->states + ((row - t->first_row) * t->n_states + state) * t->state_bytes, site_view_row(v, r),
                   t->state_bytes);
    }
}

static void take_last(const struct tracer *t, const struct site_view *v, double *out)
{
    for (size_t r = 0; r < v->n_rows; r++)
        if (view_row(v, r) == t->read_at)
            collector_widen(v->data, v->precision, r * v->row_size, v->row_size, out);
}

static void take_pattern(const struct tracer *t, const struct site_view *v)
{
    size_t n = v->n_rows, n_heads = t->model->config.n_heads;
    for (size_t h = 0; h < n_heads; h++)
        for (size_t key = 0; key < n; key++)
            t->pattern[(v->layer * n_heads + h) * n + key] = (float)site_view_at(v, (h * n + t->read_at) * n + key);
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct tracer *t = (struct tracer *)(void *)self;
    const struct model_config *c = &t->model->config;
    (void)err;
    switch (v->site) {
    case SITE_RESID_PRE:
        take_states(t, v, v->layer);
        break;
    case SITE_RESID_POST:
    case SITE_NORMALIZED_RESID_POST:
        take_states(t, v, c->n_layers);
        take_last(t, v, t->resid_post);
        break;
    case SITE_Z:
        take_last(t, v, t->z + v->layer * c->n_heads * c->d_head);
        break;
    case SITE_MLP_OUT:
        take_last(t, v, t->mlp_out + v->layer * c->d_model);
        break;
    case SITE_LN1_POST_SCALE:
        take_last(t, v, t->attn_scale + v->layer);
        break;
    case SITE_EMBED:
        take_last(t, v, t->embed);
        break;
    case SITE_POS_EMBED:
        take_last(t, v, t->pos_embed);
        break;
    case SITE_LOGITS:
        take_last(t, v, t->logits);
        break;
    default:
        take_pattern(t, v);
        break;
    }
    return 0;
}

static int choose_sites(struct tracer *t, struct err *err)
{
    const struct model_config *config = &t->model->config;
    int rc = site_set_init(&t->reads, config, err);
    rc = rc ? rc
            : site_set_add(&t->reads,
                           "hook_embed,logits,blocks.*.hook_resid_pre,blocks.*.attn.hook_z,blocks.*.hook_mlp_out,"
                           "blocks.*.attn.hook_pattern",
                           err);
    if (rc)
        return rc;
    site_set_add_one(&t->reads, (struct site_ref){ site_leaving_block(config), config->n_layers - 1 });
    for (size_t l = 0; config->sublayer_norms && l < config->n_layers; l++)
        site_set_add_one(&t->reads, (struct site_ref){ SITE_LN1_POST_SCALE, l });
    if (!site_missing(SITE_POS_EMBED, config))
        site_set_add_one(&t->reads, (struct site_ref){ SITE_POS_EMBED, 0 });
    return 0;
}

static int make_room(struct tracer *t, struct err *err)
{
    const struct model_config *c = &t->model->config;
    size_t d = c->d_model, width = c->n_heads * c->d_head, n;
    /* Sizes of weights that fit in memory; only the number of tokens is new. */
    if (!size_mul(t->n_rows, t->n_states, &n))
        return err_nomem(err, "the states of the prompt");
    t->states = mem_aligned(n, t->state_bytes);
    t->last = mem_array(c->n_layers * (width + d + 1) + 3 * d + c->d_vocab, sizeof *t->last);
    if (!t->states || !t->last)
        return err_nomem(err, "the states of the prompt");
    t->z = t->last;
    t->mlp_out = t->z + c->n_layers * width;
    t->attn_scale = t->mlp_out + c->n_layers * d;
    t->embed = t->attn_scale + c->n_layers;
    t->pos_embed = t->embed + d;
    t->resid_post = t->pos_embed + d;
    t->logits = t->resid_post + d;
    return 0;
}

static int run_model(struct tracer *t, struct runtime *rt, const struct prompt *prompt, const struct edit_list *edits,
                     struct err *err)
{
    unsigned char *final_rows = mem_zeroed(t->n_tokens, 1);
    if (!final_rows)
        return err_nomem(err, "the trace");
    final_rows[t->read_at] = 1;
    struct forward f = {
        .prompts = prompt,
        .n_prompts = 1,
        .reads = &t->reads,
        .edits = edits,
        .sink = &t->sink,
        .final_rows = final_rows,
    };
    int rc = runtime_forward(rt, &f, err);
    free(final_rows);
    return rc;
}

static int32_t top_token(const double *logits, size_t n)
{
    size_t best = 0;
    for (size_t v = 1; v < n; v++)
        if (logits[v] > logits[best])
            best = v;
    return (int32_t)best;
}

static int run_lens(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err)
{
    int rc = lens_result_create(out, in->n_rows, in->n_states, in->top_k, err);
    return rc ? rc : logit_lens(rt, in, out, err);
}

static int lens_of_answer(struct fact_trace *t, struct runtime *rt, struct tracer *tracer, size_t top_k,
                          struct err *err)
{
    int32_t *answers = mem_array(t->n_rows, sizeof *answers);
    if (!answers)
        return err_nomem(err, "the answers");
    for (size_t row = 0; row < t->n_rows; row++)
        answers[row] = t->answer;
    const struct lens_input in = {
        .states = tracer->states, .n_rows = t->n_rows, .n_states = t->n_states, .answers = answers, .top_k = top_k
    };
    int rc = run_lens(rt, &in, &t->lens, err);
    free(answers);
    return rc;
}

/* --- rivals --- */

static bool is_followed(const struct fact_trace *t, int32_t token)
{
    for (size_t i = 0; i < t->n_rivals; i++)
        if (t->rivals[i] == token)
            return true;
    return token == t->answer;
}

/* Half of them lead in the end, half led latest before. */
static void choose_rivals(struct fact_trace *t, size_t most, size_t top_k)
{
    const int32_t *top = t->lens.top_token + t->read_row * t->n_states * top_k;
    const int32_t *final = top + (t->n_states - 1) * top_k;
    for (size_t i = 0; i < top_k && t->n_rivals < (most + 1) / 2; i++)
        if (!is_followed(t, final[i]))
            t->rivals[t->n_rivals++] = final[i];
    for (size_t s = t->n_states; top_k && s-- > 0 && t->n_rivals < most;)
        if (!is_followed(t, top[s * top_k]))
            t->rivals[t->n_rivals++] = top[s * top_k];
}

static int run_lenses(struct fact_trace *t, struct runtime *rt, struct tracer *tracer,
                      const struct fact_trace_options *o, struct err *err)
{
    size_t bytes = t->n_states * tracer->state_bytes;
    /* The lens overwrites its states by their norms. */
    char *copy = mem_array(o->n_rivals ? bytes : 0, 1);
    t->rivals = mem_array(o->n_rivals, sizeof *t->rivals);
    if (!copy || !t->rivals) {
        free(copy);
        return err_nomem(err, "the states of rivals");
    }
    if (o->n_rivals)
        memcpy(copy, tracer->states + t->read_row * bytes, bytes);
    int rc = lens_of_answer(t, rt, tracer, o->top_k, err);
    if (!rc && o->n_rivals) {
        choose_rivals(t, o->n_rivals, o->top_k);
        const struct lens_input in = {
            .states = copy, .same_states = true, .n_rows = t->n_rivals, .n_states = t->n_states, .answers = t->rivals
        };
        rc = t->n_rivals ? run_lens(rt, &in, &t->rival_lens, err) : 0;
    }
    free(copy);
    return rc;
}

static int run_attribution(struct fact_trace *t, const struct tracer *tracer, struct err *err)
{
    const struct attribution_input in = {
        .token = t->answer,
        .embed = tracer->embed,
        .pos_embed = tracer->model->pos_embed ? tracer->pos_embed : NULL,
        .z = tracer->z,
        .attn_scale = tracer->model->config.sublayer_norms ? tracer->attn_scale : NULL,
        .mlp_out = tracer->mlp_out,
        .resid_post = tracer->resid_post,
        .logit = t->logit,
    };
    int rc = attribution_create(&t->attribution, tracer->model, err);
    t->not_attributed = logit_not_linear(tracer->model);
    if (!rc && t->not_attributed)
        attribution_fill(&t->attribution, tracer->model, NAN);
    return rc || t->not_attributed ? rc : direct_attribution(tracer->model, &in, &t->attribution, err);
}

static int trace(struct fact_trace *t, struct runtime *rt, const struct prompt *prompt,
                 const struct fact_trace_options *o, struct tracer *tracer, struct err *err)
{
    const struct model_config *c = &tracer->model->config;
    t->pattern = mem_array(c->n_layers * c->n_heads * t->n_tokens, sizeof *t->pattern);
    tracer->pattern = t->pattern;
    int rc = t->pattern ? 0 : err_nomem(err, "the trace");
    rc = rc ? rc : make_room(tracer, err);
    rc = rc ? rc : choose_sites(tracer, err);
    rc = rc ? rc : run_model(tracer, rt, prompt, o->edits, err);
    if (rc)
        return rc;
    t->answer = o->answer >= 0 ? o->answer : top_token(tracer->logits, c->d_vocab);
    t->logit = tracer->logits[t->answer];
    rc = run_lenses(t, rt, tracer, o, err);
    return rc ? rc : run_attribution(t, tracer, err);
}

int fact_trace_run(struct fact_trace *t, struct runtime *rt, const struct prompt *prompt,
                   const struct fact_trace_options *o, struct err *err)
{
    const struct model *m = runtime_model(rt);
    size_t real = runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float);
    *t = (struct fact_trace){ .n_tokens = prompt->n_tokens,
                              .n_rows = o->all_tokens ? prompt->n_tokens : 1,
                              .read_row = o->all_tokens && prompt->n_tokens ? prompt_read_at(prompt) : 0,
                              .n_states = m->config.n_layers + 1 };
    if (o->answer >= 0 && (size_t)o->answer >= m->config.d_vocab)
        return err_set(err, ERR_ARG, "answer token %d is outside the vocabulary of %zu", (int)o->answer,
                       m->config.d_vocab);
    if (!prompt->n_tokens)
        return err_set(err, ERR_ARG, "the prompt has no tokens");
    struct tracer tracer = {
        .sink = { take },
        .model = m,
        .n_tokens = t->n_tokens,
        .read_at = prompt_read_at(prompt),
        .first_row = prompt_read_at(prompt) - t->read_row,
        .n_rows = t->n_rows,
        .n_states = t->n_states,
        .state_bytes = m->config.d_model * real,
    };
    int rc = trace(t, rt, prompt, o, &tracer, err);
    site_set_release(&tracer.reads);
    free(tracer.states);
    free(tracer.last);
    if (rc)
        fact_trace_release(t);
    return rc;
}

void fact_trace_release(struct fact_trace *t)
{
    lens_result_release(&t->lens);
    lens_result_release(&t->rival_lens);
    attribution_release(&t->attribution);
    free(t->pattern);
    free(t->rivals);
    *t = (struct fact_trace){ 0 };
}
