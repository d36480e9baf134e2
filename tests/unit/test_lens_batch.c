/*
 * The batch lens against one state at a time: the site collected by itself, the naive norm and softmax in double. And
 * the chain of an answer's tokens against one token at a time.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "probes/answer_chain.h"
#include "probes/lens_batch.h"

#include <math.h>

enum { TOP = 3 };

struct fixture {
    struct model *model;
    struct runtime *rt;
    struct references refs;
    size_t n_rows;
};

static void open_fixture(struct fixture *f, const char *name, enum precision precision)
{
    char path[256];
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, precision, &err), &err);
    f->n_rows = f->refs.n_tokens;
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->model);
    references_close(&f->refs);
}

/* Log probabilities of the whole vocabulary for one state, by the definition. */
static void naive_logprobs(const struct model *m, const double *x, double *out)
{
    size_t d = m->config.d_model, n = m->config.d_vocab;
    double mean = 0, squares = 0, sum = 0, most = -INFINITY;
    for (size_t i = 0; i < d && m->config.norm == NORM_LAYER; i++)
        mean += x[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)d;
    for (size_t v = 0; v < n; v++) {
        out[v] = m->unembed_bias ? (double)m->unembed_bias[v] : 0;
        for (size_t i = 0; i < d; i++) {
            size_t at = m->unembed.in_major ? i * m->unembed.stride + v : v * m->unembed.stride + i;
            double normed = (x[i] - mean) / sqrt(squares + m->config.norm_eps) * (double)m->ln_final.gain[i] +
                            (m->ln_final.bias ? (double)m->ln_final.bias[i] : 0);
            out[v] += normed * (double)m->unembed.data[at];
        }
        most = fmax(most, out[v]);
    }
    for (size_t v = 0; v < n; v++)
        sum += exp(out[v] - most);
    for (size_t v = 0; v < n; v++)
        out[v] -= most + log(sum);
}

/* Every row's copy of a site (of the last layer's residual: SITE_RESID_POST). */
static void collect(struct fixture *f, struct site_set *set, struct collector *c)
{
    struct err err = { 0 };
    must(site_set_init(set, &f->model->config, &err), &err);
    must(site_set_add(set, "resid_pre,resid_post,attn_out,mlp_out,result", &err), &err);
    must(collector_init(c, set, runtime_precision(f->rt), &err), &err);
    must(collector_begin(c, f->refs.prompts, f->refs.n_prompts, NULL, &err), &err);
    const struct forward run = {
        .prompts = f->refs.prompts, .n_prompts = f->refs.n_prompts, .reads = set, .sink = &c->sink
    };
    must(runtime_forward(f->rt, &run, &err), &err);
}

/* State s of a row, wherever the source takes it from. */
static void state_of(const struct fixture *f, const struct collector *c, enum lens_source source, size_t row, size_t s,
                     double *x)
{
    static const enum site sites[] = { SITE_RESID_PRE, SITE_ATTN_OUT, SITE_MLP_OUT, SITE_RESULT };
    const struct model_config *config = &f->model->config;
    size_t per_layer = source == LENS_HEADS ? config->n_heads : 1, layer = s / per_layer;
    bool final = s == config->n_layers * per_layer;
    const void *data = collector_rows(c, final ? SITE_RESID_POST : sites[source], final ? config->n_layers - 1 : layer);
    size_t at = final ? row : row * per_layer + s % per_layer;
    collector_widen(data, c->precision, at * config->d_model, config->d_model, x);
}

static void check_state(const struct lens_batch *b, size_t i, int32_t answer, const double *logprob,
                        const double *final, size_t n)
{
    double entropy = 0, kl = 0;
    int32_t rank = 1;
    size_t best = 0;
    for (size_t v = 0; v < n; v++) {
        entropy -= exp(logprob[v]) * logprob[v];
        kl += exp(final[v]) * (final[v] - logprob[v]);
        rank += answer >= 0 && logprob[v] > logprob[answer];
        best = logprob[v] > logprob[best] ? v : best;
    }
    assert_true(fabs((double)b->result.entropy[i] - entropy) < 2e-6);
    assert_true(fabs((double)b->result.kl_final[i] - kl) < 1e-5 + 1e-6 * kl);
    assert_int_equal(b->result.rank[i], answer >= 0 ? rank : 0);
    assert_int_equal(b->result.top_token[i * TOP], best);
    if (answer >= 0)
        assert_true(fabs((double)b->result.logprob[i] - logprob[answer]) < 1e-5);
}

static void every_source_is_the_lens_of_its_site(void **state)
{
    static const char *const models[] = { "llama_a", "gpt2", "qwen2" };
    (void)state;
    for (size_t which = 0; which < 3; which++) {
        struct fixture f;
        struct site_set set;
        struct collector c;
        struct err err = { 0 };
        open_fixture(&f, models[which], PRECISION_F64);
        collect(&f, &set, &c);
        size_t n = f.model->config.d_vocab;
        int32_t answers[512];
        unsigned char keep[512] = { 0 };
        size_t kept[512], n_kept = 0;
        assert_true(f.n_rows <= 512);
        for (size_t row = 0; row < f.n_rows; row++) {
            keep[row] = row % 5 == 1 || row + 1 == f.n_rows;
            if (keep[row]) {
                answers[n_kept] = n_kept % 4 == 2 ? -1 : (int32_t)(row % n);
                kept[n_kept++] = row;
            }
        }
        for (int source = LENS_RESID; source <= LENS_HEADS; source++) {
            struct lens_batch b;
            must(lens_batch_init(&b, f.rt, (enum lens_source)source, TOP, &err), &err);
            must(lens_batch_run(&b, f.refs.prompts, f.refs.n_prompts, keep, answers, NULL, &err), &err);
            assert_int_equal(b.n_rows, n_kept);
            assert_int_equal(b.n_states, lens_states((enum lens_source)source, &f.model->config));
            for (size_t k = 0; k < n_kept; k++) {
                double x[64], logprob[128], final[128];
                assert_true(n <= 128 && f.model->config.d_model <= 64);
                state_of(&f, &c, (enum lens_source)source, kept[k], b.n_states - 1, x);
                naive_logprobs(f.model, x, final);
                for (size_t s = 0; s < b.n_states; s++) {
                    state_of(&f, &c, (enum lens_source)source, kept[k], s, x);
                    naive_logprobs(f.model, x, logprob);
                    check_state(&b, k * b.n_states + s, answers[k], logprob, final, n);
                }
            }
            lens_batch_release(&b);
        }
        collector_release(&c);
        site_set_release(&set);
        close_fixture(&f);
    }
}

/* Batches of other sizes before must not show; float, within the contract's 1e-5 of logits up to 10. */
static void a_prompt_alone_and_in_any_batch_is_the_same(void **state)
{
    (void)state;
    struct fixture f;
    struct lens_batch b;
    struct err err = { 0 };
    open_fixture(&f, "llama_b", PRECISION_F32);
    int32_t answers[512];
    for (size_t i = 0; i < 512; i++)
        answers[i] = 5;
    must(lens_batch_init(&b, f.rt, LENS_RESID, TOP, &err), &err);
    for (size_t p = 0; p < f.refs.n_prompts; p++) {
        size_t n = f.refs.prompts[p].n_tokens * b.n_states;
        float alone[2048];
        assert_true(n <= 2048);
        must(lens_batch_run(&b, f.refs.prompts + p, 1, NULL, answers, NULL, &err), &err);
        memcpy(alone, b.result.logprob, n * sizeof *alone);
        must(lens_batch_run(&b, f.refs.prompts, f.refs.n_prompts, NULL, answers, NULL, &err), &err);
        const float *together = b.result.logprob + f.refs.token_offset[p] * b.n_states;
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double)alone[i] - (double)together[i]) < 1e-4);
    }
    lens_batch_release(&b);
    close_fixture(&f);
}

static void labels_are_those_of_transformer_lens(void **state)
{
    (void)state;
    const struct model_config c = { .n_layers = 3, .n_heads = 4, .d_model = 8 };
    char label[LENS_LABEL_MAX];
    assert_int_equal(lens_states(LENS_RESID, &c), 4);
    assert_int_equal(lens_states(LENS_HEADS, &c), 13);
    assert_string_equal(lens_label(LENS_RESID, &c, 0, label), "0_pre");
    assert_string_equal(lens_label(LENS_RESID, &c, 3, label), "final_post");
    assert_string_equal(lens_label(LENS_ATTN_OUT, &c, 2, label), "2_attn_out");
    assert_string_equal(lens_label(LENS_MLP_OUT, &c, 1, label), "1_mlp_out");
    assert_string_equal(lens_label(LENS_HEADS, &c, 7, label), "L1H3");
    assert_string_equal(lens_label(LENS_HEADS, &c, 12, label), "final_post");
    assert_int_equal(lens_batch_memory(LENS_RESID, &c, PRECISION_F64, 10), 2 * 10 * 4 * 8 * 8);
}

/* log p of token `next` after these tokens, from the logits themselves. */
static double naive_step(struct fixture *f, const int32_t *tokens, size_t n_tokens, int32_t next)
{
    struct site_set set;
    struct collector c;
    struct err err = { 0 };
    double x[64], logprob[128];
    const struct prompt prompt = { .tokens = tokens, .n_tokens = n_tokens };
    must(site_set_init(&set, &f->model->config, &err), &err);
    must(site_set_add(&set, "resid_post", &err), &err);
    must(collector_init(&c, &set, PRECISION_F64, &err), &err);
    must(collector_begin(&c, &prompt, 1, NULL, &err), &err);
    must(runtime_forward(f->rt, &(struct forward){ &prompt, 1, &set, .sink = &c.sink }, &err), &err);
    size_t d = f->model->config.d_model;
    collector_widen(collector_rows(&c, SITE_RESID_POST, f->model->config.n_layers - 1), PRECISION_F64,
                    (n_tokens - 1) * d, d, x);
    naive_logprobs(f->model, x, logprob);
    collector_release(&c);
    site_set_release(&set);
    return logprob[next];
}

static void a_chain_is_the_sum_over_its_tokens(void **state)
{
    static const int32_t one[] = { 7 }, three[] = { 9, 3, 20 };
    (void)state;
    struct fixture f;
    struct answer_chain chain;
    struct err err = { 0 };
    float got[3];
    open_fixture(&f, "mistral", PRECISION_F64);
    assert_true(f.refs.n_prompts >= 2);
    const struct prompt prompts[] = { f.refs.prompts[1], f.refs.prompts[0], f.refs.prompts[1] };
    const int32_t *answers[] = { three, NULL, one };
    const size_t lengths[] = { 3, 0, 1 };
    const struct answer_chain_input in = { .prompts = prompts, .answers = answers, .n_answer_tokens = lengths, .n = 3 };
    must(answer_chain_init(&chain, f.rt, &err), &err);
    for (int again = 0; again < 2; again++) {
        must(answer_chain_run(&chain, &in, got, &err), &err);
        int32_t tokens[256];
        size_t n = prompts[0].n_tokens;
        double want = 0;
        assert_true(n + 3 <= 256);
        memcpy(tokens, prompts[0].tokens, n * sizeof *tokens);
        for (size_t t = 0; t < 3; t++) {
            want += naive_step(&f, tokens, n + t, three[t]);
            tokens[n + t] = three[t];
        }
        assert_true(fabs((double)got[0] - want) < 1e-5);
        assert_true(isnan(got[1]));
        assert_true(fabs((double)got[2] - naive_step(&f, tokens, n, 7)) < 1e-5);
    }
    must(answer_chain_run(&chain, &(struct answer_chain_input){ prompts + 1, answers + 1, lengths + 1, 1 }, got, &err),
         &err);
    assert_true(isnan(got[0]));
    answer_chain_release(&chain);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_source_is_the_lens_of_its_site),
        cmocka_unit_test(a_prompt_alone_and_in_any_batch_is_the_same),
        cmocka_unit_test(labels_are_those_of_transformer_lens),
        cmocka_unit_test(a_chain_is_the_sum_over_its_tokens),
    };
    return cmocka_run_group_tests_name("lens_batch", tests, open_pool, close_pool);
}
