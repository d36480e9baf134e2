/*
 * The streamed lens against the whole thing: norm, every logit, full softmax, full sort. Vocabularies that end inside a
 * block, on a block and in one block; float and double; 1 to 3 threads, that is vocabularies in one part or several.
 */
#include "tests/golden/references.h"
#include "tests/must.h"

#include "probes/logit_lens.h"

#include <math.h>

enum { ROWS = 3, STATES = 4, TOP = 7 };

static const struct {
    size_t n_vocab;
    const char *model; /* LayerNorm with bias; RMS */
    bool in_major, bias;
} cases[] = {
    { 1613, "gpt2", false, true },   { 1024, "llama_a", true, false }, { 513, "gpt2_bare", true, true },
    { 40, "llama_b", false, false }, { 7, "mistral", false, true },
};

struct fixture {
    struct pool *pool;
    struct model *model;
    struct runtime *rt;
    float *unembed, *bias;
    double *states; /* [ROWS, STATES, d] */
    int32_t answers[ROWS];
    struct lens_result got;
};

static uint32_t seed;

/* In -1..1. */
static double noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)seed / 2147483648.0 - 1;
}

/* A golden model whose unembedding is replaced by a larger one. */
static void open_fixture(struct fixture *f, size_t which, enum precision precision, int threads)
{
    struct err err = { 0 };
    char path[256];
    size_t v = cases[which].n_vocab;
    seed = (uint32_t)(which + 1);
    must(pool_create(&f->pool, threads, &err), &err);
    must(model_open(&f->model, references_model_path(cases[which].model, path), f->pool, &err), &err);
    size_t d = f->model->config.d_model;
    f->unembed = calloc(v * d, sizeof *f->unembed);
    f->bias = calloc(v, sizeof *f->bias);
    f->states = calloc(ROWS * STATES * d, sizeof *f->states);
    assert_true(f->unembed && f->bias && f->states);
    for (size_t i = 0; i < v * d; i++)
        f->unembed[i] = (float)noise();
    for (size_t i = 0; i < v; i++)
        f->bias[i] = (float)noise();
    for (size_t i = 0; i < ROWS * STATES * d; i++)
        f->states[i] = (double)(float)(5 * noise() + 1);
    f->model->config.d_vocab = v;
    f->model->unembed = (struct matrix){ .data = f->unembed,
                                         .n_out = v,
                                         .n_in = d,
                                         .stride = cases[which].in_major ? v : d,
                                         .in_major = cases[which].in_major };
    f->model->unembed_bias = cases[which].bias ? f->bias : NULL;
    f->answers[0] = (int32_t)v - 1;
    f->answers[1] = -1;
    f->answers[2] = (int32_t)v / 3;
    must(runtime_create(&f->rt, f->model, f->pool, precision, &err), &err);
    must(lens_result_create(&f->got, ROWS, STATES, TOP, &err), &err);
}

static void close_fixture(struct fixture *f)
{
    lens_result_release(&f->got);
    runtime_free(f->rt);
    model_free(f->model);
    pool_free(f->pool);
    free(f->unembed);
    free(f->bias);
    free(f->states);
}

static int measure(struct fixture *f, struct err *err)
{
    size_t n = ROWS * STATES * f->model->config.d_model;
    bool wide = runtime_precision(f->rt) == PRECISION_F64;
    double *copy = calloc(n, sizeof *copy);
    assert_non_null(copy);
    for (size_t i = 0; i < n; i++)
        if (wide)
            copy[i] = f->states[i];
        else
            ((float *)(void *)copy)[i] = (float)f->states[i];
    const struct lens_input in = {
        .states = copy, .n_rows = ROWS, .n_states = STATES, .answers = f->answers, .top_k = TOP
    };
    int rc = logit_lens(f->rt, &in, &f->got, err);
    free(copy);
    return rc;
}

/* --- the oracle --- */

static void naive_logits(const struct fixture *f, size_t state, double *logits)
{
    const struct model *m = f->model;
    size_t d = m->config.d_model;
    const double *x = f->states + state * d;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < d && m->config.norm == NORM_LAYER; i++)
        mean += x[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)d;
    for (size_t v = 0; v < m->config.d_vocab; v++) {
        logits[v] = m->unembed_bias ? (double)m->unembed_bias[v] : 0;
        for (size_t i = 0; i < d; i++) {
            double normed = (x[i] - mean) / sqrt(squares + m->config.norm_eps) * (double)m->ln_final.gain[i] +
                            (m->ln_final.bias ? (double)m->ln_final.bias[i] : 0);
            size_t at = m->unembed.in_major ? i * m->unembed.stride + v : v * m->unembed.stride + i;
            logits[v] += normed * (double)m->unembed.data[at];
        }
    }
}

static double log_sum_exp(const double *z, size_t n)
{
    double m = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        m = fmax(m, z[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(z[i] - m);
    return m + log(sum);
}

static void near_number(double got, double want, double bound, const char *what, size_t state)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s of state %zu: %.9g, not %.9g", what, state, got, want);
}

/* z: the oracle's logits, final: those of the row's last state. bound: how far a logit may be off. */
static void compare_state(const struct fixture *f, size_t state, const double *z, const double *final, double bound)
{
    size_t n = f->model->config.d_vocab;
    const struct lens_result *got = &f->got;
    double lse = log_sum_exp(z, n), final_lse = log_sum_exp(final, n), entropy = 0, kl = 0;
    for (size_t v = 0; v < n; v++) {
        entropy -= exp(z[v] - lse) * (z[v] - lse);
        kl += exp(final[v] - final_lse) * (final[v] - final_lse - z[v] + lse);
    }
    near_number((double)got->entropy[state], entropy, bound, "entropy", state);
    near_number((double)got->kl_final[state], kl, bound, "kl_final", state);

    int32_t answer = f->answers[state / STATES];
    if (answer < 0) {
        assert_int_equal(got->rank[state], 0);
        assert_int_equal(got->ties[state], 0);
        assert_true(isnan(got->logprob[state]) && isnan(got->answer_logit[state]));
    } else {
        int32_t least = 1, most = 0;
        for (size_t v = 0; v < n; v++) {
            least += z[v] > z[answer] + bound;
            most += z[v] > z[answer] - bound; /* the answer itself makes the 1 */
        }
        assert_in_range(got->rank[state], least, most);
        assert_in_range(got->ties[state], 0, most - least);
        near_number((double)got->logprob[state], z[answer] - lse, bound, "logprob", state);
        near_number((double)got->answer_logit[state], z[answer], bound, "logit", state);
    }
    for (size_t t = 0; t < TOP; t++) {
        int32_t token = got->top_token[state * TOP + t];
        assert_in_range(token, 0, n - 1);
        near_number((double)got->top_logprob[state * TOP + t], z[token] - lse, bound, "top logprob", state);
        size_t above = 0;
        for (size_t v = 0; v < n; v++)
            above += z[v] > z[token] + bound;
        assert_true(above <= t);
        for (size_t other = 0; other < t; other++)
            assert_int_not_equal(token, got->top_token[state * TOP + other]);
    }
}

static void compare_all(const struct fixture *f, double bound)
{
    size_t n = f->model->config.d_vocab;
    double *z = calloc(2 * n, sizeof *z);
    assert_non_null(z);
    for (size_t state = 0; state < ROWS * STATES; state++) {
        naive_logits(f, state, z);
        naive_logits(f, state / STATES * STATES + STATES - 1, z + n);
        compare_state(f, state, z, z + n, bound);
    }
    free(z);
}

/* Logits reach 20: 2e-5 is 1e-6 of them in float; results are stored as float, so 2e-6 for double. */
static void every_number_equals_the_full_softmax(void **state)
{
    (void)state;
    for (size_t which = 0; which < sizeof cases / sizeof *cases; which++)
        for (int threads = 1; threads <= 3; threads++)
            for (int wide = 0; wide < 2; wide++) {
                struct fixture f;
                struct err err = { 0 };
                open_fixture(&f, which, wide ? PRECISION_F64 : PRECISION_F32, threads);
                must(measure(&f, &err), &err);
                compare_all(&f, wide ? 2e-6 : 2e-5);
                close_fixture(&f);
            }
}

/* Rows of W_U that are zero have logits of exactly 0, wherever they stand. */
static void equal_logits_count_as_ties_and_rank_by_rising_id(void **state)
{
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        struct fixture f;
        struct err err = { 0 };
        open_fixture(&f, 0, wide ? PRECISION_F64 : PRECISION_F32, 2);
        size_t d = f.model->config.d_model, n = f.model->config.d_vocab;
        memset(f.unembed, 0, n * d * sizeof *f.unembed);
        memset(f.bias, 0, n * sizeof *f.bias);
        f.bias[900] = f.bias[1612] = 2;
        f.bias[3] = 1;
        f.answers[0] = 700;
        f.answers[1] = 1612;
        f.answers[2] = 3;
        must(measure(&f, &err), &err);
        for (size_t s = 0; s < STATES; s++) {
            assert_int_equal(f.got.rank[0 * STATES + s], 4);
            assert_int_equal(f.got.ties[0 * STATES + s], n - 4);
            assert_int_equal(f.got.rank[1 * STATES + s], 1);
            assert_int_equal(f.got.ties[1 * STATES + s], 1);
            assert_int_equal(f.got.rank[2 * STATES + s], 3);
            assert_int_equal(f.got.ties[2 * STATES + s], 0);
            const int32_t top[TOP] = { 900, 1612, 3, 0, 1, 2, 4 };
            assert_memory_equal(f.got.top_token + s * TOP, top, sizeof top);
        }
        close_fixture(&f);
    }
}

static void each_thread_count_gives_the_same_ranks(void **state)
{
    (void)state;
    struct fixture one, three;
    struct err err = { 0 };
    open_fixture(&one, 0, PRECISION_F32, 1);
    open_fixture(&three, 0, PRECISION_F32, 3);
    must(measure(&one, &err), &err);
    must(measure(&three, &err), &err);
    assert_memory_equal(one.got.rank, three.got.rank, ROWS * STATES * sizeof *one.got.rank);
    assert_memory_equal(one.got.top_token, three.got.top_token, ROWS * STATES * TOP * sizeof *one.got.top_token);
    close_fixture(&one);
    close_fixture(&three);
}

static void rows_of_the_same_states_are_what_copies_of_them_are(void **state)
{
    (void)state;
    for (int precision = 0; precision < 2; precision++) {
        struct fixture f;
        struct err err = { 0 };
        open_fixture(&f, 0, precision ? PRECISION_F64 : PRECISION_F32, 2);
        size_t n = STATES * f.model->config.d_model;
        char *once = calloc(n, sizeof(double));
        assert_non_null(once);
        for (size_t i = 0; i < n; i++)
            if (precision)
                ((double *)(void *)once)[i] = f.states[i];
            else
                ((float *)(void *)once)[i] = (float)f.states[i];
        for (size_t r = 1; r < ROWS; r++)
            memcpy(f.states + r * n, f.states, n * sizeof *f.states);
        must(measure(&f, &err), &err);
        const struct lens_input in = {
            .states = once, .same_states = true, .n_rows = ROWS, .n_states = STATES, .answers = f.answers
        };
        struct lens_result r;
        must(lens_result_create(&r, ROWS, STATES, 0, &err), &err);
        must(logit_lens(f.rt, &in, &r, &err), &err);
        assert_memory_equal(r.rank, f.got.rank, ROWS * STATES * sizeof *r.rank);
        for (size_t i = 0; i < ROWS * STATES; i++) {
            assert_true(f.answers[i / STATES] < 0 || fabsf(r.logprob[i] - f.got.logprob[i]) < 1e-5f);
            assert_true(fabsf(r.entropy[i] - f.got.entropy[i]) < 1e-5f);
            assert_true(fabsf(r.kl_final[i] - f.got.kl_final[i]) < 1e-5f);
        }
        lens_result_release(&r);
        free(once);
        close_fixture(&f);
    }
}

/* Logits of -1e4 and 1e4 in one row: sums would overflow without the running maximum. */
static void far_apart_logits_stay_finite(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = { 0 };
    open_fixture(&f, 0, PRECISION_F32, 2);
    for (size_t v = 0; v < f.model->config.d_vocab; v++)
        f.bias[v] = v == 1000 ? 1e4F : v == 20 ? -1e4F : 0;
    f.answers[0] = 20;
    must(measure(&f, &err), &err);
    assert_int_equal(f.got.rank[0], f.model->config.d_vocab);
    near_number((double)f.got.logprob[0], -2e4, 50, "logprob", 0);
    near_number((double)f.got.entropy[0], 0, 1e-6, "entropy", 0);
    assert_int_equal(f.got.top_token[0], 1000);
    close_fixture(&f);
}

/* The oracle must see what it is there for. */
static void a_wrong_weight_bias_or_norm_is_seen(void **state)
{
    (void)state;
    for (int fault = 0; fault < 3; fault++) { /* 1612 is the first row's answer */
        struct fixture f;
        struct err err = { 0 };
        open_fixture(&f, 0, PRECISION_F64, 2);
        must(measure(&f, &err), &err);
        float *gain = calloc(f.model->config.d_model, sizeof *gain);
        assert_non_null(gain);
        for (size_t i = 0; i < f.model->config.d_model; i++)
            gain[i] = f.model->ln_final.gain[i] * 1.001F;
        if (fault == 0)
            f.unembed[1612 * f.model->config.d_model] += 0.01F;
        else if (fault == 1)
            f.bias[1612] += 0.01F;
        else
            f.model->ln_final.gain = gain;
        size_t n = f.model->config.d_vocab, changed = 0;
        double *z = calloc(n, sizeof *z);
        assert_non_null(z);
        for (size_t s = 0; s < STATES; s++) {
            naive_logits(&f, s, z);
            changed += fabs((double)f.got.logprob[s] - z[1612] + log_sum_exp(z, n)) > 2e-6;
        }
        assert_int_equal(changed, STATES);
        free(z);
        free(gain);
        close_fixture(&f);
    }
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct err err = { 0 };
    open_fixture(&f, 4, PRECISION_F32, 1);
    f.answers[0] = 7;
    assert_int_equal(measure(&f, &err), ERR_ARG);
    assert_string_equal(err.msg, "answer token 7 is outside the vocabulary of 7");
    f.answers[0] = 6;
    struct lens_input in = { .states = f.states, .n_rows = 1, .n_states = 1, .top_k = 8 };
    assert_int_equal(logit_lens(f.rt, &in, &f.got, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "not 8"));
    f.states[5] = NAN;
    assert_int_equal(measure(&f, &err), ERR_NUMERIC);
    assert_non_null(strstr(err.msg, "state 0 of row 0"));
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_equals_the_full_softmax),
        cmocka_unit_test(equal_logits_count_as_ties_and_rank_by_rising_id),
        cmocka_unit_test(each_thread_count_gives_the_same_ranks),
        cmocka_unit_test(rows_of_the_same_states_are_what_copies_of_them_are),
        cmocka_unit_test(far_apart_logits_stay_finite),
        cmocka_unit_test(a_wrong_weight_bias_or_norm_is_seen),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests_name("logit_lens", tests, NULL, NULL);
}
