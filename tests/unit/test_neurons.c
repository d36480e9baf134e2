/*
 * FFN neurons of golden models against sums one by one, layers against what the FFN adds to the logit, tokens of value
 * vectors against the whole vocabulary sorted, ablation against full runs; and the tiny model, whose facts suffer from
 * the loss of their own neurons more than from that of others.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/base/mem.h"
#include "core/formats/facts.h"
#include "core/runtime/collect.h"
#include "core/runtime/prepare.h"
#include "probes/fact_trace.h"
#include "probes/neurons.h"
#include "probes/next_token.h"

#include <math.h>

static const char *const models[] = { "llama_a", "llama_b", "mistral", "gpt2", "qwen2", "gemma2",
                                      "olmo2",   "granite", "cohere",  "olmo", "phi" };
enum { N_MODELS = sizeof models / sizeof *models, N_FACTS = 3, TOP = 12 };

struct fixture {
    struct model *model;
    struct runtime *rt;
    struct references refs;
    struct prompt prompts[N_FACTS];
    int32_t answers[N_FACTS];
    struct logit_contrast contrasts[N_FACTS];
    struct neuron_activity activity;
};

static void open_fixture(struct fixture *f, const char *name, enum precision precision)
{
    char path[256];
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, precision, &err), &err);
    for (size_t i = 0; i < N_FACTS; i++) {
        f->prompts[i] = f->refs.prompts[i % f->refs.n_prompts];
        f->answers[i] = (int32_t)(9 * i + 4);
        f->contrasts[i] = (struct logit_contrast){ .answer = f->answers[i] };
    }
    must(neuron_activity_run(&f->activity, f->rt, f->prompts, f->contrasts, N_FACTS, TOP, NULL, &err), &err);
}

static void close_fixture(struct fixture *f)
{
    neuron_activity_release(&f->activity);
    runtime_free(f->rt);
    model_free(f->model);
    references_close(&f->refs);
}

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

static double gain_of(const struct norm_weights *norm, size_t i)
{
    return norm->gain ? (double)norm->gain[i] : 1;
}

/* --- coefficients and contributions --- */

/* The site and the final residual of the last token of one fact. */
struct naive {
    double *m, *direction; /* [n_layers, d_mlp], [n_layers, d_model]: what counts of a value vector */
};

static void open_naive(struct naive *n, struct fixture *f, size_t fact)
{
    struct site_set reads;
    struct collector c;
    struct err err = { 0 };
    const struct model_config *config = &f->model->config;
    size_t last = f->prompts[fact].n_tokens - 1, d = config->d_model;
    double resid[64], mean = 0, squares = 0, direction_mean = 0;
    n->m = mem_array(config->n_layers * config->d_mlp, sizeof *n->m);
    n->direction = mem_array(config->n_layers * d, sizeof *n->direction);
    must(site_set_init(&reads, config, &err), &err);
    must(site_set_add(&reads, config->sublayer_norms ? "post,resid_post,scale_ln2_post" : "post,resid_post", &err),
         &err);
    must(collector_init(&c, &reads, PRECISION_F64, &err), &err);
    must(collector_begin(&c, &f->prompts[fact], 1, NULL, &err), &err);
    const struct forward forward = { .prompts = &f->prompts[fact], .n_prompts = 1, .reads = &reads, .sink = &c.sink };
    must(runtime_forward(f->rt, &forward, &err), &err);
    for (size_t l = 0; l < config->n_layers; l++)
        collector_widen(collector_rows(&c, SITE_MLP_POST, l), PRECISION_F64, last * config->d_mlp, config->d_mlp,
                        n->m + l * config->d_mlp);
    collector_widen(collector_rows(&c, SITE_RESID_POST, config->n_layers - 1), PRECISION_F64, last * d, d, resid);
    for (size_t i = 0; i < d; i++)
        mean += config->norm == NORM_LAYER ? resid[i] / (double)d : 0;
    for (size_t i = 0; i < d; i++)
        squares += (resid[i] - mean) * (resid[i] - mean) / (double)d;
    for (size_t i = 0; i < d; i++) {
        n->direction[i] = config->logit_scale * weight(&f->model->unembed, (size_t)f->answers[fact], i) *
                          gain_of(&f->model->ln_final, i) / sqrt(squares + config->norm_eps);
        direction_mean += n->direction[i] / (double)d;
    }
    for (size_t i = 0; i < d && config->norm == NORM_LAYER; i++)
        n->direction[i] -= direction_mean;
    for (size_t l = config->n_layers; l-- > 0;) { /* layer 0 last: the others come from its place */
        double scale = 1;
        if (config->sublayer_norms)
            collector_widen(collector_rows(&c, SITE_LN2_POST_SCALE, l), PRECISION_F64, last, 1, &scale);
        for (size_t i = 0; i < d; i++)
            n->direction[l * d + i] =
                n->direction[i] *
                (config->sublayer_norms ? gain_of(&f->model->layers[l].ln2_post, i) / scale : config->residual_scale);
    }
    collector_release(&c);
    site_set_release(&reads);
}

static void close_naive(struct naive *n)
{
    free(n->m);
    free(n->direction);
}

static struct neuron naive_neuron(const struct fixture *f, const struct naive *n, size_t layer, size_t unit)
{
    const struct model_config *c = &f->model->config;
    struct neuron x = { .layer = layer, .unit = unit, .coefficient = n->m[layer * c->d_mlp + unit] };
    double norm = 0, along = 0;
    for (size_t i = 0; i < c->d_model; i++) {
        double v = weight(&f->model->layers[layer].mlp.down, i, unit);
        norm += v * v;
        along += v * n->direction[layer * c->d_model + i];
    }
    x.size = fabs(x.coefficient) * sqrt(norm);
    x.logit = x.coefficient * along;
    return x;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-11 * fmax(1, fabs(b));
}

/* Each listed neuron is right, the list falls, and exactly `i` neurons of the whole model lie above entry i. */
static void check_list(const struct fixture *f, const struct naive *n, const struct neuron *list, bool by_size)
{
    const struct model_config *c = &f->model->config;
    for (size_t i = 0; i < TOP; i++) {
        struct neuron want = naive_neuron(f, n, list[i].layer, list[i].unit);
        size_t above = 0;
        assert_true(near(list[i].coefficient, want.coefficient) && near(list[i].size, want.size) &&
                    near(list[i].logit, want.logit));
        for (size_t u = 0; u < c->n_layers * c->d_mlp; u++) {
            struct neuron x = naive_neuron(f, n, u / c->d_mlp, u % c->d_mlp);
            above += by_size ? x.size > want.size + 1e-12 : x.logit > want.logit + 1e-12;
        }
        assert_int_equal(above, i);
    }
}

static void lists_are_the_largest_of_all_neurons(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        open_fixture(&f, models[m], PRECISION_F64);
        for (size_t i = 0; i < N_FACTS; i++) {
            struct naive n;
            open_naive(&n, &f, i);
            check_list(&f, &n, f.activity.by_logit + i * TOP, false);
            check_list(&f, &n, f.activity.by_size + i * TOP, true);
            close_naive(&n);
        }
        close_fixture(&f);
    }
}

/* All neurons and W_out's bias are what the FFN adds to the logit. */
static void layers_sum_to_the_ffn(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        open_fixture(&f, models[m], PRECISION_F64);
        const struct model_config *c = &f.model->config;
        for (size_t i = 0; i < N_FACTS; i++) {
            struct fact_trace t;
            struct naive n;
            struct err err = { 0 };
            const struct fact_trace_options o = { .answer = f.answers[i] };
            must(fact_trace_run(&t, f.rt, &f.prompts[i], &o, &err), &err);
            open_naive(&n, &f, i);
            for (size_t l = 0; l < c->n_layers; l++) {
                double sum = f.activity.logit[i * c->n_layers + l];
                for (size_t d = 0; d < c->d_model && f.model->layers[l].mlp.down_bias; d++)
                    sum += n.direction[l * c->d_model + d] * (double)f.model->layers[l].mlp.down_bias[d];
                assert_true(near(sum, t.attribution.mlp[l]));
                /* A layer taken for another, or one neuron lost, is seen. */
                size_t other = (l + 1) % c->n_layers;
                assert_false(near(sum, t.attribution.mlp[other]));
                assert_false(near(sum - naive_neuron(&f, &n, l, 0).logit, t.attribution.mlp[l]));
            }
            close_naive(&n);
            fact_trace_release(&t);
        }
        close_fixture(&f);
    }
}

static void entropy_and_fired_are_those_of_the_coefficients(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, "llama_a", PRECISION_F64);
    const struct model_config *c = &f.model->config;
    for (size_t i = 0; i < N_FACTS; i++) {
        struct naive n;
        open_naive(&n, &f, i);
        for (size_t l = 0; l < c->n_layers; l++) {
            const int32_t *fired = f.activity.fired + (i * c->n_layers + l) * NEURON_FIRED;
            double sum = 0, entropy = 0;
            for (size_t u = 0; u < c->d_mlp; u++)
                sum += naive_neuron(&f, &n, l, u).size;
            for (size_t u = 0; u < c->d_mlp; u++) {
                double p = naive_neuron(&f, &n, l, u).size / sum;
                entropy -= p > 0 ? p * log(p) : 0;
            }
            assert_true(near(f.activity.entropy[i * c->n_layers + l], entropy));
            assert_true(entropy > 0 && entropy < log((double)c->d_mlp));
            for (size_t k = 0; k < NEURON_FIRED; k++) {
                size_t above = 0;
                for (size_t u = 0; u < c->d_mlp; u++)
                    above += fabs(n.m[l * c->d_mlp + u]) > fabs(n.m[l * c->d_mlp + (size_t)fired[k]]);
                assert_int_equal(above, k);
            }
        }
        close_naive(&n);
    }
    close_fixture(&f);
}

static void a_batch_is_its_facts_alone(void **state)
{
    struct fixture f;
    struct neuron_activity alone;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "mistral", PRECISION_F64);
    for (size_t i = 0; i < N_FACTS; i++) {
        must(neuron_activity_run(&alone, f.rt, &f.prompts[i], &f.contrasts[i], 1, TOP, NULL, &err), &err);
        for (size_t k = 0; k < TOP; k++)
            assert_true(near(alone.by_logit[k].logit, f.activity.by_logit[i * TOP + k].logit));
        neuron_activity_release(&alone);
    }
    close_fixture(&f);
}

/* --- paraphrases --- */

static void overlap_counts_pairs_of_a_group(void **state)
{
    enum { N = 4, LAYERS = 2 };
    int32_t fired[N * LAYERS * NEURON_FIRED];
    static const uint32_t group[N] = { 0, 1, 0, 1 }, each[N] = { 0, 1, 2, 3 };
    struct neuron_activity a = { .n_facts = N, .n_layers = LAYERS, .fired = fired };
    double same[LAYERS], other[LAYERS];
    size_t n_pairs;
    (void)state;
    /* Layer 0: facts 0 and 2 agree, 1 and 3 share half of theirs, nothing across. Layer 1: all the same. */
    for (int32_t i = 0; i < N; i++)
        for (int32_t k = 0; k < NEURON_FIRED; k++) {
            fired[(i * LAYERS + 0) * NEURON_FIRED + k] = i % 2 == 0 ? 9 - k : i == 1 ? 100 + k : 105 + k;
            fired[(i * LAYERS + 1) * NEURON_FIRED + k] = k;
        }
    neuron_overlap(&a, group, 1, same, other, &n_pairs);
    assert_int_equal(n_pairs, 2);
    assert_true(near(same[0], 0.75) && near(same[1], 1) && near(other[0], 0) && near(other[1], 1));
    neuron_overlap(&a, each, 1, same, other, &n_pairs);
    assert_true(n_pairs == 0 && isnan(same[0]) && isnan(other[0]));
}

/* --- tokens of value vectors --- */

static void tokens_are_the_sorted_vocabulary(void **state)
{
    enum { N = 40, K = 9 };
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++)
        for (enum neuron_tokens_norm norm = NEURON_TOKENS_GEVA; norm <= NEURON_TOKENS_GAIN; norm++) {
            struct fixture f;
            struct neuron_tokens t;
            struct neuron neurons[N] = { { 0 } };
            int32_t wanted[N];
            struct err err = { 0 };
            open_fixture(&f, models[m], PRECISION_F32);
            const struct model_config *c = &f.model->config;
            for (size_t i = 0; i < N; i++) {
                neurons[i].layer = i % c->n_layers;
                neurons[i].unit = i * 7 % c->d_mlp;
                wanted[i] = i % 5 ? (int32_t)(i % c->d_vocab) : -1;
            }
            must(neuron_tokens_run(&t, f.rt, neurons, N, K, norm, wanted, &err), &err);
            for (size_t i = 0; i < N; i++) {
                double score[128], mean = 0, v[64];
                for (size_t d = 0; d < c->d_model; d++)
                    mean +=
                        weight(&f.model->layers[neurons[i].layer].mlp.down, d, neurons[i].unit) / (double)c->d_model;
                for (size_t d = 0; d < c->d_model; d++) {
                    v[d] = weight(&f.model->layers[neurons[i].layer].mlp.down, d, neurons[i].unit);
                    if (norm == NEURON_TOKENS_GAIN)
                        v[d] = (v[d] - (c->norm == NORM_LAYER ? mean : 0)) * gain_of(&f.model->ln_final, d) *
                               (c->sublayer_norms ? gain_of(&f.model->layers[neurons[i].layer].ln2_post, d) : 1);
                }
                for (size_t w = 0; w < c->d_vocab; w++) {
                    score[w] = 0;
                    for (size_t d = 0; d < c->d_model; d++)
                        score[w] += weight(&f.model->unembed, w, d) * v[d];
                }
                for (size_t k = 0; k < K; k++) {
                    size_t above = 0, below = 0, up = (size_t)t.up[i * K + k], down = (size_t)t.down[i * K + k];
                    for (size_t w = 0; w < c->d_vocab; w++) {
                        above += score[w] > score[up];
                        below += score[w] < score[down];
                    }
                    assert_true(above == k && below == k);
                    assert_true(fabs((double)t.up_score[i * K + k] - score[up]) < 1e-5);
                }
                size_t above = 0;
                for (size_t w = 0; w < c->d_vocab && wanted[i] >= 0; w++)
                    above += score[w] > score[wanted[i]];
                assert_int_equal(t.rank[i], wanted[i] >= 0 ? (int32_t)above + 1 : 0);
            }
            neuron_tokens_release(&t);
            close_fixture(&f);
        }
}

static void a_neuron_that_does_not_exist_is_told(void **state)
{
    struct fixture f;
    struct neuron_tokens t;
    struct ablation_run r;
    struct neuron_activity a;
    const struct neuron none = { .layer = 2, .unit = 5 };
    const size_t many[] = { 13 }, falling[] = { 3, 2 };
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32);
    assert_int_equal(neuron_tokens_run(&t, f.rt, &none, 1, 3, NEURON_TOKENS_GEVA, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "neuron L2N5 does not exist: the model has 2 layers"));
    assert_int_equal(neuron_ablation_run(&r, f.rt, f.prompts, f.answers, &f.activity, many, 1, 0, 1, NULL, &err),
                     ERR_ARG);
    assert_non_null(strstr(err.msg, "13 neurons are too many"));
    assert_int_equal(neuron_ablation_run(&r, f.rt, f.prompts, f.answers, &f.activity, falling, 2, 0, 1, NULL, &err),
                     ERR_ARG);
    assert_int_equal(neuron_activity_run(&a, f.rt, f.prompts, f.contrasts, 1, 100000, NULL, &err), ERR_ARG);
    const struct logit_contrast outside = { .answer = 59 };
    assert_int_equal(neuron_activity_run(&a, f.rt, f.prompts, &outside, 1, TOP, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "outside the vocabulary of 59"));
    close_fixture(&f);
}

/* --- ablation --- */

static double full_run(struct fixture *f, size_t fact, size_t count)
{
    struct site_set reads;
    struct collector c;
    struct next_token next;
    struct edit_list edits = { 0 };
    struct err err = { 0 };
    size_t last = f->prompts[fact].n_tokens - 1, v = f->model->config.d_vocab;
    double logits[128];
    for (size_t i = 0; i < count; i++) {
        char text[64];
        const struct neuron *n = &f->activity.by_logit[fact * TOP + i];
        snprintf(text, sizeof text, "L%zuN%zu@last zero", n->layer, n->unit);
        must(edit_parse(&edits, text, &f->model->config, &err), &err);
    }
    must(site_set_init(&reads, &f->model->config, &err), &err);
    must(site_set_add(&reads, "logits", &err), &err);
    must(collector_init(&c, &reads, PRECISION_F32, &err), &err);
    must(collector_begin(&c, &f->prompts[fact], 1, NULL, &err), &err);
    const struct forward forward = {
        .prompts = &f->prompts[fact], .n_prompts = 1, .reads = &reads, .edits = &edits, .sink = &c.sink
    };
    must(runtime_forward(f->rt, &forward, &err), &err);
    collector_widen(collector_rows(&c, SITE_LOGITS, 0), PRECISION_F32, last * v, v, logits);
    must(next_token_init(&next, 1, &err), &err);
    next_token_measure(&next, logits, v, f->answers[fact]);
    double logprob = next.answer.logprob;
    next_token_release(&next);
    edit_list_release(&edits);
    collector_release(&c);
    site_set_release(&reads);
    return logprob;
}

static void ablation_is_a_full_run_and_repeats(void **state)
{
    static const size_t counts[] = { 1, 4, 12 };
    struct fixture f;
    struct ablation_run r[3];
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "llama_a", PRECISION_F32);
    for (size_t i = 0; i < 3; i++)
        must(neuron_ablation_run(&r[i], f.rt, f.prompts, f.answers, &f.activity, counts, 3, 2, i == 2 ? 6 : 5, NULL,
                                 &err),
             &err);
    assert_true(r[0].n_variants == 9 && r[0].n_draws == 2);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t c = 0; c < 3; c++) {
            double got = (double)r[0].logprob[i * 9 + c];
            assert_true(fabs(got - full_run(&f, i, counts[c])) < 1e-5);
            assert_true(fabs(got - (double)r[0].base_logprob[i]) > 1e-4);
        }
    assert_memory_equal(r[0].logprob, r[1].logprob, N_FACTS * 9 * sizeof(float));
    assert_memory_not_equal(r[0].logprob, r[2].logprob, N_FACTS * 9 * sizeof(float));
    for (size_t i = 0; i < 3; i++)
        ablation_run_release(&r[i]);
    close_fixture(&f);
}

enum { TINY_FACTS = 30 };

static void own_neurons_matter_more_than_random_ones(void **state)
{
    static const size_t counts[] = { 2, 10 };
    struct model *model;
    struct runtime *rt;
    struct facts *facts;
    struct fact fact;
    struct err err = { 0 };
    struct prepared items[TINY_FACTS];
    struct prompt prompts[TINY_FACTS];
    struct logit_contrast contrasts[TINY_FACTS];
    struct neuron_activity a;
    struct ablation_run r;
    int32_t answers[TINY_FACTS];
    size_t n = 0;
    (void)state;
    must(model_open(&model, "data/tiny", pool, &err), &err);
    must(runtime_create(&rt, model, pool, PRECISION_F32, &err), &err);
    must(facts_open(&facts, "data/facts/city_country.jsonl", &err), &err);
    for (; n < TINY_FACTS && facts_next(facts, &fact, &err) > 0; n++) {
        must(prepare_fact(model, &fact, SPECIALS_AUTO, "a fact", &items[n], &err), &err);
        prompts[n] = (struct prompt){ .tokens = items[n].tokens.id, .n_tokens = items[n].tokens.n };
        answers[n] = items[n].answer_token;
        contrasts[n] = (struct logit_contrast){ .answer = answers[n] };
    }
    assert_int_equal(n, TINY_FACTS);
    must(neuron_activity_run(&a, rt, prompts, contrasts, n, TOP, NULL, &err), &err);
    must(neuron_ablation_run(&r, rt, prompts, answers, &a, counts, 2, 0, 1, NULL, &err), &err);
    assert_int_equal(r.n_draws, ABLATION_DRAWS);
    for (size_t c = 0; c < 2; c++) {
        struct ablation_effect random, sd, own = ablation_effect(&r, c);
        ablation_control(&r, c, &random, &sd);
        if (!(own.probability < random.probability - 3 * sd.probability))
            fail_msg("without %zu neurons: p %.3f, without random ones %.3f +- %.3f", counts[c], own.probability,
                     random.probability, sd.probability);
    }
    neuron_activity_release(&a);
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
        cmocka_unit_test(lists_are_the_largest_of_all_neurons),
        cmocka_unit_test(layers_sum_to_the_ffn),
        cmocka_unit_test(entropy_and_fired_are_those_of_the_coefficients),
        cmocka_unit_test(a_batch_is_its_facts_alone),
        cmocka_unit_test(overlap_counts_pairs_of_a_group),
        cmocka_unit_test(tokens_are_the_sorted_vocabulary),
        cmocka_unit_test(a_neuron_that_does_not_exist_is_told),
        cmocka_unit_test(ablation_is_a_full_run_and_repeats),
        cmocka_unit_test(own_neurons_matter_more_than_random_ones),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
