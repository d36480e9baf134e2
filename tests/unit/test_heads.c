/*
 * Heads of golden models: attribution against direct_attribution, which knows nothing of source tokens, and against
 * patterns; ablation against full runs with the same edits; detectors against a model whose attention is uniform. Then
 * the tiny model, which knows its facts: its first heads matter more than random ones.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/base/mem.h"
#include "core/formats/facts.h"
#include "core/runtime/collect.h"
#include "core/runtime/prepare.h"
#include "probes/fact_trace.h"
#include "probes/head_ablation.h"
#include "probes/head_attribution.h"
#include "probes/head_patterns.h"
#include "probes/next_token.h"

#include <math.h>

static const char *const models[] = { "llama_a", "llama_b", "mistral", "gpt2", "qwen2", "gemma2",
                                      "olmo2",   "granite", "cohere",  "olmo", "phi" };
enum { N_MODELS = sizeof models / sizeof *models, N_FACTS = 4 };

struct fixture {
    struct model *model;
    struct runtime *rt;
    struct references refs;
    struct prompt prompts[N_FACTS]; /* of those of at least three tokens; the subject is token 1 .. n - 2 */
    int32_t answers[N_FACTS];
    size_t n_heads;
};

static void open_fixture(struct fixture *f, const char *name, enum precision precision)
{
    char path[256];
    size_t n = 0;
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, precision, &err), &err);
    for (size_t i = 0; i < f->refs.n_prompts && n < N_FACTS; i++)
        if (f->refs.prompts[i].n_tokens >= 3) {
            f->prompts[n] = f->refs.prompts[i];
            f->prompts[n].subject_begin = 1;
            f->prompts[n].subject_end = f->prompts[n].n_tokens - 1;
            f->answers[n] = (int32_t)(7 * n + 3);
            n++;
        }
    while (n < N_FACTS) {
        f->prompts[n] = f->prompts[0];
        f->answers[n] = (int32_t)(7 * n + 3);
        n++;
    }
    f->n_heads = f->model->config.n_layers * f->model->config.n_heads;
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->model);
    references_close(&f->refs);
}

static void attribute(struct fixture *f, const struct logit_contrast *contrasts, size_t first, size_t n,
                      struct head_attribution *a)
{
    struct err err = { 0 };
    const struct head_attribution_options o = { .by_source = true };
    must(head_attribution_run(a, f->rt, f->prompts + first, contrasts, n, &o, NULL, &err), &err);
}

static void answers_alone(const struct fixture *f, struct logit_contrast contrasts[N_FACTS])
{
    for (size_t i = 0; i < N_FACTS; i++)
        contrasts[i] = (struct logit_contrast){ .answer = f->answers[i] };
}

/* Largest |a - b| in the largest |b|. */
static double difference(const double *a, const double *b, size_t n)
{
    double worst = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs(a[i] - b[i]));
        size = fmax(size, fabs(b[i]));
    }
    return worst / size;
}

/* --- attribution --- */

/* Double: rounding only. Float: z itself differs by up to 1e-6 between a batch and a prompt alone. */
static void heads_are_those_of_direct_attribution(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++)
        for (int wide = 0; wide < 2; wide++) {
            struct fixture f;
            struct head_attribution a;
            struct logit_contrast contrasts[N_FACTS];
            open_fixture(&f, models[m], wide ? PRECISION_F64 : PRECISION_F32);
            answers_alone(&f, contrasts);
            attribute(&f, contrasts, 0, N_FACTS, &a);
            for (size_t i = 0; i < N_FACTS; i++) {
                struct fact_trace t;
                struct err err = { 0 };
                const struct fact_trace_options o = { .answer = f.answers[i] };
                must(fact_trace_run(&t, f.rt, &f.prompts[i], &o, &err), &err);
                double *heads = a.logit + i * f.n_heads, swap = heads[0];
                double d = difference(heads, t.attribution.heads, f.n_heads), bound = wide ? 1e-12 : 1e-5;
                if (!(d <= bound))
                    fail_msg("%s: fact %zu: heads differ by %.2e", models[m], i, d);
                /* Faults that must be seen: two heads swapped, a wrong sign. */
                heads[0] = heads[1];
                heads[1] = swap;
                assert_true(difference(heads, t.attribution.heads, f.n_heads) > bound);
                heads[1] = heads[0];
                heads[0] = -swap;
                assert_true(difference(heads, t.attribution.heads, f.n_heads) > bound);
                fact_trace_release(&t);
            }
            head_attribution_release(&a);
            close_fixture(&f);
        }
}

static void sources_sum_to_the_head(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        struct head_attribution a;
        struct logit_contrast contrasts[N_FACTS];
        open_fixture(&f, models[m], PRECISION_F64);
        answers_alone(&f, contrasts);
        attribute(&f, contrasts, 0, N_FACTS, &a);
        bool loss_is_seen = false;
        for (size_t i = 0; i < N_FACTS; i++)
            for (size_t h = 0; h < f.n_heads; h++) {
                size_t n = f.prompts[i].n_tokens, at = i * f.n_heads + h;
                const double *source = a.source + a.source_offset[i] + h * n;
                double sum = 0, subject = 0, size = 0;
                for (size_t k = 0; k < n; k++) {
                    sum += source[k];
                    size += fabs(source[k]);
                    subject += k >= f.prompts[i].subject_begin && k < f.prompts[i].subject_end ? source[k] : 0;
                }
                assert_true(fabs(sum - a.logit[at]) <= 1e-12 * size);
                assert_true(fabs(subject - a.from_subject[at]) <= 1e-12 * size);
                loss_is_seen = loss_is_seen || fabs(sum - source[0] - a.logit[at]) > 1e-6 * size;
            }
        assert_true(loss_is_seen);
        head_attribution_release(&a);
        close_fixture(&f);
    }
}

static void attention_to_the_subject_is_the_patterns(void **state)
{
    (void)state;
    struct fixture f;
    struct head_attribution a;
    struct logit_contrast contrasts[N_FACTS];
    open_fixture(&f, "llama_a", PRECISION_F32);
    f.prompts[1].subject_begin = f.prompts[1].subject_end = 0;
    answers_alone(&f, contrasts);
    attribute(&f, contrasts, 0, N_FACTS, &a);
    for (size_t i = 0; i < N_FACTS; i++) {
        struct fact_trace t;
        struct err err = { 0 };
        const struct fact_trace_options o = { .answer = f.answers[i] };
        must(fact_trace_run(&t, f.rt, &f.prompts[i], &o, &err), &err);
        for (size_t h = 0; h < f.n_heads; h++) {
            double sum = 0;
            for (size_t k = f.prompts[i].subject_begin; k < f.prompts[i].subject_end; k++)
                sum += (double)t.pattern[h * t.n_tokens + k];
            if (i == 1)
                assert_true(isnan(a.to_subject[i * f.n_heads + h]) && isnan(a.from_subject[i * f.n_heads + h]));
            else
                assert_true(fabs(sum - a.to_subject[i * f.n_heads + h]) < 1e-5);
        }
        fact_trace_release(&t);
    }
    /* Means leave facts without a subject out. */
    double *mean = mem_array(f.n_heads, sizeof *mean);
    head_means(a.to_subject, N_FACTS, f.n_heads, mean);
    const double *x = a.to_subject;
    assert_true(fabs(mean[0] - (x[0] + x[2 * f.n_heads] + x[3 * f.n_heads]) / 3) < 1e-12);
    free(mean);
    head_attribution_release(&a);
    close_fixture(&f);
}

/* Linear: answer less the mean of rivals is the difference of their attributions; the answer is no rival of itself. */
static void a_contrast_is_a_difference(void **state)
{
    (void)state;
    struct fixture f;
    struct head_attribution parts[4], whole;
    const int32_t rivals[] = { 11, 5, 29, 40 };
    open_fixture(&f, "gpt2", PRECISION_F64);
    for (size_t i = 0; i < 4; i++) {
        const struct logit_contrast alone = { .answer = rivals[i] };
        attribute(&f, &alone, 0, 1, &parts[i]);
    }
    const struct logit_contrast c = { .answer = 5, .rivals = rivals, .n_rivals = 4 };
    attribute(&f, &c, 0, 1, &whole);
    for (size_t h = 0; h < f.n_heads; h++) {
        double want = parts[1].logit[h] - (parts[0].logit[h] + parts[2].logit[h] + parts[3].logit[h]) / 3;
        assert_true(fabs(whole.logit[h] - want) < 1e-12);
        assert_true(fabs(whole.logit[h] - parts[1].logit[h]) > 1e-9);
    }
    for (size_t i = 0; i < 4; i++)
        head_attribution_release(&parts[i]);
    head_attribution_release(&whole);
    close_fixture(&f);
}

static void bad_input_is_told(void **state)
{
    (void)state;
    struct fixture f;
    struct head_attribution a;
    struct err err = { 0 };
    const int32_t rival = 61;
    open_fixture(&f, "llama_a", PRECISION_F32);
    const struct logit_contrast outside = { .answer = 61 }, without = { .answer = -1 },
                                bad_rival = { .answer = 3, .rivals = &rival, .n_rivals = 1 };
    assert_int_equal(head_attribution_run(&a, f.rt, f.prompts, &outside, 1, NULL, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "answer token 61 is outside the vocabulary of 61"));
    assert_int_equal(head_attribution_run(&a, f.rt, f.prompts, &without, 1, NULL, NULL, &err), ERR_ARG);
    assert_int_equal(head_attribution_run(&a, f.rt, f.prompts, &bad_rival, 1, NULL, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "rival token 61"));
    close_fixture(&f);
}

static void order_is_falling_and_nan_is_last(void **state)
{
    (void)state;
    const double score[] = { 1, NAN, 3, 1, -2 };
    size_t order[5];
    struct err err = { 0 };
    must(head_order(score, 5, order, &err), &err);
    assert_true(order[0] == 2 && order[1] == 0 && order[2] == 3 && order[3] == 4 && order[4] == 1);
}

/* --- detectors --- */

static double mean_share(size_t first, size_t n)
{
    double sum = 0;
    for (size_t q = first; q < n; q++)
        sum += 1 / (double)(q + 1);
    return sum / (double)(n - first);
}

/* Without queries every visible key has the same weight, which gives each score in closed form. */
static void uniform_attention_gives_known_scores(void **state)
{
    static float zeros[1 << 12];
    struct fixture f;
    struct head_patterns p;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "llama_a", PRECISION_F64);
    for (size_t l = 0; l < f.model->config.n_layers; l++) {
        assert_true(f.model->layers[l].q.n_out * f.model->layers[l].q.stride <= sizeof zeros / sizeof *zeros);
        f.model->layers[l].q.data = zeros;
        f.model->layers[l].q_bias = NULL;
    }
    const struct head_patterns_options o = { .n_tokens = 20, .n_prompts = 3, .seed = 5 };
    must(head_patterns_run(&p, f.rt, &o, &err), &err);
    assert_true(p.n_tokens == 20 && p.n_prompts == 3 && p.first_id == 0 && p.last_id == 60);
    for (size_t h = 0; h < f.n_heads; h++) {
        assert_true(fabs(p.score[PATTERN_PREVIOUS][h] - mean_share(1, 40)) < 1e-12);
        assert_true(fabs(p.score[PATTERN_DUPLICATE][h] - mean_share(20, 40)) < 1e-12);
        assert_true(fabs(p.score[PATTERN_INDUCTION][h] - mean_share(19, 40)) < 1e-12);
    }
    assert_true(fabs(mean_share(20, 40) - mean_share(19, 40)) > 1e-4); /* one query more or less is seen */
    head_patterns_release(&p);
    close_fixture(&f);
}

static void detectors_repeat_with_their_seed(void **state)
{
    struct fixture f;
    struct head_patterns p[3];
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32);
    for (size_t i = 0; i < 3; i++) {
        const struct head_patterns_options o = { .seed = i == 2 ? 8 : 7 };
        must(head_patterns_run(&p[i], f.rt, &o, &err), &err);
    }
    assert_int_equal(p[0].n_tokens, 34); /* half of the context of 68, less than the 100 that are usual */
    for (enum head_pattern k = 0; k < N_HEAD_PATTERNS; k++) {
        assert_memory_equal(p[0].score[k], p[1].score[k], f.n_heads * sizeof(double));
        assert_memory_not_equal(p[0].score[k], p[2].score[k], f.n_heads * sizeof(double));
    }
    for (size_t i = 0; i < 3; i++)
        head_patterns_release(&p[i]);
    close_fixture(&f);
}

/* --- ablation --- */

/* Log probability of the answer in a full run with these edits. */
static double full_run(struct fixture *f, size_t fact, const struct edit_list *edits)
{
    struct site_set reads;
    struct collector c;
    struct next_token next;
    struct err err = { 0 };
    size_t n = f->prompts[fact].n_tokens, v = f->model->config.d_vocab;
    double *logits = mem_array(v, sizeof *logits);
    must(site_set_init(&reads, &f->model->config, &err), &err);
    must(site_set_add(&reads, "logits", &err), &err);
    must(collector_init(&c, &reads, runtime_precision(f->rt), &err), &err);
    must(collector_begin(&c, &f->prompts[fact], 1, NULL, &err), &err);
    const struct forward forward = {
        .prompts = &f->prompts[fact], .n_prompts = 1, .reads = &reads, .edits = edits, .sink = &c.sink
    };
    must(runtime_forward(f->rt, &forward, &err), &err);
    collector_widen(collector_rows(&c, SITE_LOGITS, 0), runtime_precision(f->rt), (n - 1) * v, v, logits);
    must(next_token_init(&next, 1, &err), &err);
    next_token_measure(&next, logits, v, f->answers[fact]);
    double logprob = next.answer.logprob;
    next_token_release(&next);
    collector_release(&c);
    site_set_release(&reads);
    free(logits);
    return logprob;
}

static double full_run_text(struct fixture *f, size_t fact, const char *const *edits, size_t n)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    for (size_t i = 0; i < n; i++)
        must(edit_parse(&list, edits[i], &f->model->config, &err), &err);
    double logprob = full_run(f, fact, &list);
    edit_list_release(&list);
    return logprob;
}

static void every_single_head_is_a_full_run(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        struct ablation_run r;
        struct err err = { 0 };
        open_fixture(&f, models[m], PRECISION_F32);
        const struct model_config *c = &f.model->config;
        const struct head_ablation_options o = { .seed = 1 };
        must(head_ablation_singles(&r, f.rt, f.prompts, f.answers, N_FACTS, &o, NULL, &err), &err);
        assert_int_equal(r.n_variants, f.n_heads);
        /* One row a variant from its layer on: nothing is rerun. */
        assert_int_equal(r.row_layers, N_FACTS * c->n_heads * c->n_layers * (c->n_layers + 1) / 2);
        double moved = 0;
        for (size_t i = 0; i < N_FACTS; i++)
            for (size_t h = 0; h < f.n_heads; h++) {
                char text[64];
                const char *edit = text;
                snprintf(text, sizeof text, "L%zuH%zu@last zero", h / c->n_heads, h % c->n_heads);
                double want = full_run_text(&f, i, &edit, 1), got = (double)r.logprob[i * f.n_heads + h];
                if (!(fabs(want - got) < 1e-5))
                    fail_msg("%s: fact %zu, %s: %.9g, a full run gives %.9g", models[m], i, text, got, want);
                moved = fmax(moved, fabs(got - (double)r.base_logprob[i]));
            }
        assert_true(moved > 1e-3);
        ablation_run_release(&r);
        close_fixture(&f);
    }
}

/* Half of the heads are ranked, so that the random ones are exactly the other half, in every draw. */
static void ranked_and_random_heads_are_full_runs(void **state)
{
    static const size_t order[] = { 7, 2, 0, 5 }, counts[] = { 1, 3, 4 };
    static const char *const one[] = { "L1H3@all zero" }, *const four[] = { "z:1@all#1,3 zero", "z:0@all#0,2 zero" },
                             *const others[] = { "z:0@all#1,3 zero", "z:1@all#0,2 zero" };
    const struct head_ranking ranking = { .order = order, .n_heads = 4, .counts = counts, .n_counts = 3 };
    struct fixture f;
    struct ablation_run r, again;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32);
    const struct head_ablation_options o = { .everywhere = true, .n_draws = 3, .seed = 4 };
    must(head_ablation_ranked(&r, f.rt, f.prompts, f.answers, N_FACTS, &ranking, &o, NULL, &err), &err);
    must(head_ablation_ranked(&again, f.rt, f.prompts, f.answers, N_FACTS, &ranking, &o, NULL, &err), &err);
    assert_true(r.n_variants == 12 && r.n_draws == 3 && r.n_counts == 3);
    assert_memory_equal(r.logprob, again.logprob, N_FACTS * 12 * sizeof(float));
    for (size_t i = 0; i < N_FACTS; i++) {
        const float *got = r.logprob + i * 12;
        assert_true(fabs((double)got[0] - full_run_text(&f, i, one, 1)) < 1e-5);
        assert_true(fabs((double)got[2] - full_run_text(&f, i, four, 2)) < 1e-5);
        for (size_t d = 1; d <= 3; d++)
            assert_true(fabs((double)got[d * 3 + 2] - full_run_text(&f, i, others, 2)) < 1e-5);
        assert_true(fabs((double)got[2] - (double)got[5]) > 1e-4);
    }
    struct ablation_effect mean, sd;
    ablation_control(&r, 2, &mean, &sd);
    assert_true(sd.probability < 1e-6 && fabs(mean.probability - ablation_effect(&r, 5).probability) < 1e-6);
    ablation_control(&r, 0, &mean, &sd);
    assert_true(sd.probability > 0);
    ablation_run_release(&r);
    ablation_run_release(&again);
    close_fixture(&f);
}

/* The mean of one fact, given twice, is its own z: nothing changes. Of different facts it does, and not as zero does.
 */
static void mean_is_the_mean_over_the_facts(void **state)
{
    struct fixture f;
    struct ablation_run same, mean, zero;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "llama_b", PRECISION_F32);
    const struct prompt twice[] = { f.prompts[0], f.prompts[0] };
    struct head_ablation_options o = { .mode = ABLATION_MEAN };
    must(head_ablation_singles(&same, f.rt, twice, f.answers, 2, &o, NULL, &err), &err);
    must(head_ablation_singles(&mean, f.rt, f.prompts, f.answers, N_FACTS, &o, NULL, &err), &err);
    o.mode = ABLATION_ZERO;
    must(head_ablation_singles(&zero, f.rt, f.prompts, f.answers, N_FACTS, &o, NULL, &err), &err);
    double moved = 0, differs = 0;
    for (size_t h = 0; h < f.n_heads; h++) {
        assert_true(fabsf(same.logprob[h] - same.base_logprob[0]) < 1e-5F);
        moved = fmax(moved, fabs((double)mean.logprob[h] - (double)mean.base_logprob[0]));
        differs = fmax(differs, fabs((double)mean.logprob[h] - (double)zero.logprob[h]));
    }
    assert_true(moved > 1e-4 && differs > 1e-4);
    ablation_run_release(&same);
    ablation_run_release(&mean);
    ablation_run_release(&zero);
    close_fixture(&f);
}

static void bad_rankings_are_told(void **state)
{
    static const size_t order[] = { 0, 1, 2, 3, 4, 5, 6, 99 }, falling[] = { 2, 1 }, many[] = { 5 }, one[] = { 1 };
    struct fixture f;
    struct ablation_run r;
    struct err err = { 0 };
    const struct head_ablation_options o = { .seed = 1 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32);
    struct head_ranking ranking = { .order = order, .n_heads = 7, .counts = falling, .n_counts = 2 };
    assert_int_equal(head_ablation_ranked(&r, f.rt, f.prompts, f.answers, 1, &ranking, &o, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "must rise"));
    ranking.counts = many;
    ranking.n_counts = 1;
    assert_int_equal(head_ablation_ranked(&r, f.rt, f.prompts, f.answers, 1, &ranking, &o, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "at most half of the model's 8"));
    ranking.counts = one;
    ranking.n_heads = 8;
    assert_int_equal(head_ablation_ranked(&r, f.rt, f.prompts, f.answers, 1, &ranking, &o, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "head number 99 does not exist"));
    close_fixture(&f);
}

/* --- a model that knows its facts --- */

enum { TINY_FACTS = 40 };

/* The heads whose own loss costs most, ranked on half of the facts and taken out on the other half. */
static void first_heads_matter_more_than_random_ones(void **state)
{
    enum { HALF = TINY_FACTS / 2 };
    static const size_t counts[] = { 1, 2, 4 };
    struct model *model;
    struct runtime *rt;
    struct facts *facts;
    struct fact fact;
    struct err err = { 0 };
    struct prepared items[TINY_FACTS];
    struct prompt prompts[TINY_FACTS];
    int32_t answers[TINY_FACTS];
    size_t n = 0, order[64];
    double cost[64] = { 0 };
    (void)state;
    must(model_open(&model, "data/tiny", pool, &err), &err);
    must(runtime_create(&rt, model, pool, PRECISION_F32, &err), &err);
    must(facts_open(&facts, "data/facts/country_capital.jsonl", &err), &err);
    for (; n < TINY_FACTS && facts_next(facts, &fact, &err) > 0; n++) {
        must(prepare_fact(model, &fact, SPECIALS_AUTO, "a fact", &items[n], &err), &err);
        prompts[n] = (struct prompt){ .tokens = items[n].tokens.id, .n_tokens = items[n].tokens.n };
        answers[n] = items[n].answer_token;
    }
    assert_int_equal(n, TINY_FACTS);
    size_t n_heads = model->config.n_layers * model->config.n_heads;
    struct ablation_run singles, r;
    const struct head_ablation_options o = { .seed = 1 };
    must(head_ablation_singles(&singles, rt, prompts, answers, HALF, &o, NULL, &err), &err);
    for (size_t i = 0; i < HALF * n_heads; i++)
        cost[i % n_heads] -= (double)singles.logprob[i];
    must(head_order(cost, n_heads, order, &err), &err);
    const struct head_ranking ranking = { .order = order, .n_heads = n_heads, .counts = counts, .n_counts = 3 };
    must(head_ablation_ranked(&r, rt, prompts + HALF, answers + HALF, HALF, &ranking, &o, NULL, &err), &err);
    assert_true(ablation_base(&r).accuracy > 0.9);
    for (size_t c = 0; c < 3; c++) {
        struct ablation_effect random, sd, first = ablation_effect(&r, c);
        ablation_control(&r, c, &random, &sd);
        if (!(first.probability < 0.5 * random.probability &&
              first.probability < random.probability - 3 * sd.probability))
            fail_msg("without %zu heads: p %.3f, without random ones %.3f +- %.3f", counts[c], first.probability,
                     random.probability, sd.probability);
    }
    ablation_run_release(&singles);
    ablation_run_release(&r);
    for (size_t i = 0; i < n; i++)
        prepared_release(&items[i]);
    facts_close(facts);
    runtime_free(rt);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_those_of_direct_attribution),
        cmocka_unit_test(sources_sum_to_the_head),
        cmocka_unit_test(attention_to_the_subject_is_the_patterns),
        cmocka_unit_test(a_contrast_is_a_difference),
        cmocka_unit_test(bad_input_is_told),
        cmocka_unit_test(order_is_falling_and_nan_is_last),
        cmocka_unit_test(uniform_attention_gives_known_scores),
        cmocka_unit_test(detectors_repeat_with_their_seed),
        cmocka_unit_test(every_single_head_is_a_full_run),
        cmocka_unit_test(ranked_and_random_heads_are_full_runs),
        cmocka_unit_test(mean_is_the_mean_over_the_facts),
        cmocka_unit_test(bad_rankings_are_told),
        cmocka_unit_test(first_heads_matter_more_than_random_ones),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
