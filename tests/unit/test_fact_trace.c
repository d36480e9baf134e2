/*
 * A traced fact against the parts it is made of: parts of the logit against the logit and against each head's own
 * hook_result, the lens against its batch form, patterns against the collected ones. On golden models of every family.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/runtime/collect.h"
#include "probes/fact_trace.h"
#include "probes/lens_batch.h"

#include <math.h>

/* Of every kind of block, norm, scale, cap and MLP. */
static const char *const models[] = { "llama_a", "llama_b",   "mistral", "gpt2",     "gpt2_bare", "qwen2",
                                      "gemma2",  "olmo2",     "granite", "cohere",   "olmo",      "phi",
                                      "bloom",   "qwen2_moe", "falcon",  "gpt_neox", "mpt",       "gptj" };
enum { N_MODELS = sizeof models / sizeof *models, TOP = 5, RIVALS = 4 };

struct fixture {
    struct model *model;
    struct runtime *rt;
    struct references refs;
    const struct prompt *prompt; /* the longest */
    struct fact_trace trace;
};

static void open_fixture(struct fixture *f, const char *name, enum precision precision)
{
    char path[256];
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, precision, &err), &err);
    f->prompt = f->refs.prompts;
    for (size_t i = 1; i < f->refs.n_prompts; i++)
        if (f->refs.prompts[i].n_tokens > f->prompt->n_tokens)
            f->prompt = &f->refs.prompts[i];
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->model);
    references_close(&f->refs);
}

static void trace(struct fixture *f, int32_t answer, bool all_tokens)
{
    struct err err = { 0 };
    const struct fact_trace_options o = {
        .answer = answer, .top_k = TOP, .all_tokens = all_tokens, .n_rivals = RIVALS
    };
    must(fact_trace_run(&f->trace, f->rt, f->prompt, &o, &err), &err);
}

static double absolute_sum(const struct fixture *f)
{
    const struct attribution *a = &f->trace.attribution;
    double sum = fabs(a->embed) + fabs(a->pos_embed) + fabs(a->bias);
    for (size_t l = 0; l < f->model->config.n_layers; l++)
        sum += fabs(a->attention[l]) + fabs(a->mlp[l]);
    return sum;
}

/* Double: rounding only. Float: the contract's 1e-5 of what is summed. */
static void parts_sum_to_the_logit(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++)
        for (int wide = 0; wide < 2; wide++)
            for (int32_t answer = 0; answer < 50; answer += 7) {
                struct fixture f;
                open_fixture(&f, models[i], wide ? PRECISION_F64 : PRECISION_F32);
                trace(&f, answer, false);
                double bound = (wide ? 1e-12 : 1e-5) * absolute_sum(&f);
                if (!(fabs(f.trace.attribution.residue) <= bound))
                    fail_msg("%s, token %d: %g beside %g", models[i], (int)answer, f.trace.attribution.residue,
                             f.trace.logit);
                fact_trace_release(&f.trace);
                close_fixture(&f);
            }
}

/* What one vector in the stream adds to a logit while the final norm's mean and scale are those of `post`. */
static double naive_part(const struct model *m, const double *x, const double *post, size_t token)
{
    size_t d = m->config.d_model;
    bool centred = m->config.norm == NORM_LAYER;
    double post_mean = 0, mean = 0, squares = 0, sum = 0;
    for (size_t i = 0; i < d && centred; i++) {
        post_mean += post[i] / (double)d;
        mean += x[i] / (double)d;
    }
    for (size_t i = 0; i < d; i++)
        squares += (post[i] - post_mean) * (post[i] - post_mean) / (double)d;
    for (size_t i = 0; i < d; i++) {
        size_t at = m->unembed.in_major ? i * m->unembed.stride + token : token * m->unembed.stride + i;
        sum += (x[i] - mean) / sqrt(squares + m->config.norm_eps) *
               (m->ln_final.gain ? (double)m->ln_final.gain[i] : 1) * (double)m->unembed.data[at];
    }
    return sum * m->config.logit_scale;
}

/* What a head's result adds to the stream: through the norm after attention, its scale held, or times a factor. */
static void add_as_the_model_does(const struct model *m, const struct collector *c, size_t layer, size_t row, double *x)
{
    double scale = 1;
    if (m->config.sublayer_norms)
        collector_widen(collector_rows(c, SITE_LN1_POST_SCALE, layer), PRECISION_F64, row, 1, &scale);
    for (size_t i = 0; i < m->config.d_model; i++)
        x[i] *= m->config.sublayer_norms ? (double)m->layers[layer].ln1_post.gain[i] / scale : m->config.residual_scale;
}

static void collect(struct fixture *f, const char *sites, struct site_set *set, struct collector *c)
{
    struct err err = { 0 };
    must(site_set_init(set, &f->model->config, &err), &err);
    must(site_set_add(set, sites, &err), &err);
    must(collector_init(c, set, runtime_precision(f->rt), &err), &err);
    must(collector_begin(c, f->prompt, 1, NULL, &err), &err);
    const struct forward run = { .prompts = f->prompt, .n_prompts = 1, .reads = set, .sink = &c->sink };
    must(runtime_forward(f->rt, &run, &err), &err);
}

/* Largest difference between a head's share of token 3's logit and that of its hook_result. */
static double worst_head(struct fixture *f, const struct collector *c)
{
    const struct model_config *config = &f->model->config;
    size_t d = config->d_model, last = f->prompt->n_tokens - 1;
    double post[64], result[64], worst = 0;
    assert_true(d <= 64);
    collector_widen(collector_rows(c, SITE_RESID_POST, config->n_layers - 1), PRECISION_F64, last * d, d, post);
    for (size_t l = 0; l < config->n_layers; l++)
        for (size_t h = 0; h < config->n_heads; h++) {
            collector_widen(collector_rows(c, SITE_RESULT, l), PRECISION_F64, (last * config->n_heads + h) * d, d,
                            result);
            add_as_the_model_does(f->model, c, l, last, result);
            double want = naive_part(f->model, result, post, 3);
            worst = fmax(worst, fabs(f->trace.attribution.heads[l * config->n_heads + h] - want));
        }
    return worst;
}

static void each_head_adds_what_its_result_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct fixture f;
        struct site_set set;
        struct collector c;
        open_fixture(&f, models[i], PRECISION_F64);
        trace(&f, 3, false);
        collect(&f, f.model->config.sublayer_norms ? "result,resid_post,scale_ln1_post" : "result,resid_post", &set,
                &c);
        assert_true(worst_head(&f, &c) < 1e-12);
        /* Heads mixed up would be seen. */
        double first = f.trace.attribution.heads[0];
        f.trace.attribution.heads[0] = f.trace.attribution.heads[1];
        f.trace.attribution.heads[1] = first;
        assert_true(worst_head(&f, &c) > 1e-6);
        collector_release(&c);
        site_set_release(&set);
        fact_trace_release(&f.trace);
        close_fixture(&f);
    }
}

/* Blocks that normalise the stream: what is in it early is not in it late. */
static void logits_that_are_no_sum_have_a_lens_and_no_parts(void **state)
{
    static const char *const names[] = { "opt_post", "bert", "modernbert" };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture f;
        struct err err = { 0 };
        const struct fact_trace_options o = { .answer = -1 };
        open_fixture(&f, names[i], PRECISION_F32);
        must(fact_trace_run(&f.trace, f.rt, f.prompt, &o, &err), &err);
        assert_non_null(f.trace.not_attributed);
        assert_true(isnan(f.trace.attribution.heads[0]) && isnan(f.trace.attribution.sum));
        assert_int_equal(f.trace.lens.rank[f.trace.n_states - 1], 1);
        fact_trace_release(&f.trace);
        close_fixture(&f);
    }
}

/* A weight that the model did not run with must not sum to its logit. */
static void a_lost_bias_or_wrong_weight_shows_in_the_residue(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = { 0 };
    open_fixture(&f, "gpt2", PRECISION_F64);
    trace(&f, 3, false);
    size_t d = f.model->config.d_model, width = f.model->config.n_heads * f.model->config.d_head;
    struct site_set set;
    struct collector c;
    collect(&f, "embed,pos_embed,z,mlp_out,resid_post,logits", &set, &c);
    size_t n_layers = f.model->config.n_layers, last = f.prompt->n_tokens - 1;
    double *x = calloc(n_layers * (width + d) + 3 * d, sizeof *x), *z = x, *mlp = z + n_layers * width;
    double *embed = mlp + n_layers * d, *pos = embed + d, *post = pos + d, logit;
    assert_non_null(x);
    for (size_t l = 0; l < n_layers; l++) {
        collector_widen(collector_rows(&c, SITE_Z, l), PRECISION_F64, last * width, width, z + l * width);
        collector_widen(collector_rows(&c, SITE_MLP_OUT, l), PRECISION_F64, last * d, d, mlp + l * d);
    }
    collector_widen(collector_rows(&c, SITE_EMBED, 0), PRECISION_F64, last * d, d, embed);
    collector_widen(collector_rows(&c, SITE_POS_EMBED, 0), PRECISION_F64, last * d, d, pos);
    collector_widen(collector_rows(&c, SITE_RESID_POST, n_layers - 1), PRECISION_F64, last * d, d, post);
    collector_widen(collector_rows(&c, SITE_LOGITS, 0), PRECISION_F64, last * f.model->config.d_vocab + 3, 1, &logit);
    const struct attribution_input in = {
        .token = 3, .embed = embed, .pos_embed = pos, .z = z, .mlp_out = mlp, .resid_post = post, .logit = logit
    };
    struct attribution a;
    must(attribution_create(&a, f.model, &err), &err);
    must(direct_attribution(f.model, &in, &a, &err), &err);
    assert_true(fabs(a.residue) < 1e-12);
    assert_true(a.sum == f.trace.attribution.sum);

    const float *bias = f.model->layers[1].o_bias, *gain = f.model->ln_final.gain;
    f.model->layers[1].o_bias = NULL;
    must(direct_attribution(f.model, &in, &a, &err), &err);
    assert_true(fabs(a.residue) > 1e-6);
    f.model->layers[1].o_bias = bias;
    f.model->ln_final.gain = f.model->layers[0].ln1.gain;
    must(direct_attribution(f.model, &in, &a, &err), &err);
    assert_true(fabs(a.residue) > 1e-6);
    f.model->ln_final.gain = gain;
    mlp[0] += 1;
    must(direct_attribution(f.model, &in, &a, &err), &err);
    assert_true(fabs(a.residue) > 1e-6);
    free(x);
    attribution_release(&a);
    collector_release(&c);
    site_set_release(&set);
    fact_trace_release(&f.trace);
    close_fixture(&f);
}

static void the_lens_is_that_of_a_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct fixture f;
        struct lens_batch b;
        struct err err = { 0 };
        open_fixture(&f, models[i], PRECISION_F64);
        int32_t answers[256];
        for (size_t t = 0; t < 256; t++)
            answers[t] = 11;
        trace(&f, 11, true);
        size_t n = f.trace.n_rows * f.trace.n_states;
        assert_int_equal(f.trace.n_rows, f.prompt->n_tokens);
        must(lens_batch_init(&b, f.rt, LENS_RESID, TOP, &err), &err);
        must(lens_batch_run(&b, f.prompt, 1, NULL, answers, NULL, &err), &err);
        assert_int_equal(b.n_rows, f.trace.n_rows);
        assert_memory_equal(b.result.rank, f.trace.lens.rank, n * sizeof *b.result.rank);
        assert_memory_equal(b.result.top_token, f.trace.lens.top_token, n * TOP * sizeof *b.result.top_token);
        for (size_t s = 0; s < n; s++)
            assert_true(fabs((double)b.result.logprob[s] - (double)f.trace.lens.logprob[s]) < 1e-6);
        struct fact_trace all = f.trace;
        trace(&f, 11, false);
        assert_int_equal(f.trace.n_rows, 1);
        assert_memory_equal(f.trace.lens.rank, all.lens.rank + n - f.trace.n_states,
                            f.trace.n_states * sizeof *all.lens.rank);
        fact_trace_release(&all);
        fact_trace_release(&f.trace);
        lens_batch_release(&b);
        close_fixture(&f);
    }
}

static void rivals_are_ranked_by_the_same_lens(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct fixture f;
        open_fixture(&f, models[i], PRECISION_F64);
        trace(&f, -1, true);
        struct fact_trace t = f.trace;
        const struct lens_result *lens = &t.lens;
        size_t last = (t.n_rows - 1) * t.n_states;
        /* The model's own answer is on top in the end, and its rivals follow. */
        assert_int_equal(t.answer, lens->top_token[(last + t.n_states - 1) * TOP]);
        assert_int_equal(lens->rank[last + t.n_states - 1], 1);
        assert_true(t.n_rivals >= RIVALS / 2);
        assert_int_equal(t.rivals[0], lens->top_token[(last + t.n_states - 1) * TOP + 1]);
        for (size_t r = 0; r < t.n_rivals; r++) {
            assert_int_not_equal(t.rivals[r], t.answer);
            trace(&f, t.rivals[r], false);
            assert_memory_equal(f.trace.lens.rank, t.rival_lens.rank + r * t.n_states,
                                t.n_states * sizeof *f.trace.lens.rank);
            fact_trace_release(&f.trace);
        }
        f.trace = t;
        fact_trace_release(&f.trace);
        close_fixture(&f);
    }
}

static void the_pattern_is_the_last_query_of_each_head(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct fixture f;
        struct site_set set;
        struct collector c;
        open_fixture(&f, models[i], PRECISION_F64);
        trace(&f, 3, false);
        collect(&f, "pattern", &set, &c);
        size_t n = f.prompt->n_tokens, n_heads = f.model->config.n_heads;
        for (size_t l = 0; l < f.model->config.n_layers; l++) {
            const double *pattern = collector_edges(&c, SITE_PATTERN, l, 0);
            for (size_t h = 0; h < n_heads; h++)
                for (size_t key = 0; key < n; key++)
                    assert_true((double)f.trace.pattern[(l * n_heads + h) * n + key] ==
                                (double)(float)pattern[(h * n + n - 1) * n + key]);
        }
        collector_release(&c);
        site_set_release(&set);
        fact_trace_release(&f.trace);
        close_fixture(&f);
    }
}

/* With a head silenced, that head adds nothing and the parts still sum to the new logit. */
static void edits_are_traced_too(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = { 0 };
    struct edit_list edits = { 0 };
    open_fixture(&f, "gpt2", PRECISION_F64);
    must(edit_parse(&edits, "L1H0 zero", &f.model->config, &err), &err);
    const struct fact_trace_options o = { .answer = 3, .edits = &edits };
    trace(&f, 3, false);
    double before = f.trace.logit;
    fact_trace_release(&f.trace);
    must(fact_trace_run(&f.trace, f.rt, f.prompt, &o, &err), &err);
    assert_true(f.trace.attribution.heads[f.model->config.n_heads] == 0);
    assert_true(fabs(f.trace.attribution.residue) < 1e-12);
    assert_true(f.trace.logit != before);
    edit_list_release(&edits);
    fact_trace_release(&f.trace);
    close_fixture(&f);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = { 0 };
    open_fixture(&f, "gpt2", PRECISION_F32);
    struct fact_trace_options o = { .answer = 59 };
    assert_int_equal(fact_trace_run(&f.trace, f.rt, f.prompt, &o, &err), ERR_ARG);
    assert_string_equal(err.msg, "answer token 59 is outside the vocabulary of 59");
    o.answer = 1;
    assert_int_equal(fact_trace_run(&f.trace, f.rt, &(struct prompt){ 0 }, &o, &err), ERR_ARG);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_sum_to_the_logit),
        cmocka_unit_test(each_head_adds_what_its_result_does),
        cmocka_unit_test(logits_that_are_no_sum_have_a_lens_and_no_parts),
        cmocka_unit_test(a_lost_bias_or_wrong_weight_shows_in_the_residue),
        cmocka_unit_test(the_lens_is_that_of_a_batch),
        cmocka_unit_test(rivals_are_ranked_by_the_same_lens),
        cmocka_unit_test(the_pattern_is_the_last_query_of_each_head),
        cmocka_unit_test(edits_are_traced_too),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests_name("fact_trace", tests, open_pool, close_pool);
}
