/*
 * A stop that is wanted at any moment ends what is running with ERR_INTERRUPTED: loading, a pass, the lens. What a pass
 * has shown until then is right, and the next one is as if nothing had been.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "probes/logit_lens.h"

#include <stdatomic.h>

enum { TOP = 3, STATES = 5 };

static atomic_int asked;
static int stop_at;

static bool stop_wanted(void)
{
    return atomic_fetch_add(&asked, 1) >= stop_at;
}

/* From the n-th question on. */
static void stop_after(int n)
{
    asked = 0;
    stop_at = n;
    pool_stop_when(pool, stop_wanted);
}

/* Keeps a checksum of every site that is read, in order. */
struct witness {
    struct sink sink;
    uint64_t sums[4096];
    size_t n;
};

static int look(struct sink *sink, const struct site_view *view, struct err *err)
{
    struct witness *w = (struct witness *)(void *)sink;
    uint64_t sum = 14695981039346656037u;
    (void)err;
    for (size_t r = 0; r < view->n_rows; r++) {
        const unsigned char *bytes = site_view_row(view, r);
        for (size_t i = 0; i < view->row_size * sizeof(float); i++)
            sum = (sum ^ bytes[i]) * 1099511628211u;
    }
    assert_true(w->n < sizeof w->sums / sizeof *w->sums);
    w->sums[w->n++] = sum;
    return 0;
}

struct fixture {
    struct references refs;
    struct model *model;
    struct runtime *rt;
    struct site_set reads;
};

static void open_fixture(struct fixture *f)
{
    struct err err = { 0 };
    char path[256];
    pool_stop_when(pool, NULL);
    references_open(&f->refs, "llama_a");
    must(model_open(&f->model, references_model_path("llama_a", path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, PRECISION_F32, &err), &err);
    must(site_set_init(&f->reads, &f->model->config, &err), &err);
    must(site_set_add(&f->reads, "z,resid_post,logits", &err), &err);
}

static void close_fixture(struct fixture *f)
{
    pool_stop_when(pool, NULL);
    site_set_release(&f->reads);
    runtime_free(f->rt);
    model_free(f->model);
    references_close(&f->refs);
}

static int pass(struct fixture *f, struct witness *w, struct err *err)
{
    *w = (struct witness){ .sink = { .take = look } };
    const struct forward run = {
        .prompts = f->refs.prompts, .n_prompts = f->refs.n_prompts, .reads = &f->reads, .sink = &w->sink
    };
    return runtime_forward(f->rt, &run, err);
}

static void a_pass_stops_at_any_site(void **state)
{
    (void)state;
    static struct witness whole, w;
    struct fixture f;
    struct err err = { 0 };
    int n = 0, rc;
    open_fixture(&f);
    must(pass(&f, &whole, &err), &err);
    do {
        stop_after(n);
        if ((rc = pass(&f, &w, &err))) {
            assert_int_equal(rc, ERR_INTERRUPTED);
            assert_string_equal(err.msg, "interrupted");
            assert_int_equal(asked, n + 1); /* it did nothing more */
            assert_true(w.n < whole.n || n < 1);
        }
        assert_memory_equal(w.sums, whole.sums, w.n * sizeof *w.sums);
        n++;
    } while (rc);
    assert_int_equal(w.n, whole.n);
    assert_true(n > 2 * (int)f.model->config.n_layers); /* more often than once a layer */
    close_fixture(&f);
}

static int lens(struct fixture *f, float *states, struct lens_result *r, struct err *err)
{
    const struct lens_input in = { .states = states, .n_rows = 200, .n_states = STATES, .top_k = TOP };
    uint64_t seed = 1;
    for (size_t i = 0; i < 200 * STATES * f->model->config.d_model; i++) { /* the lens overwrites them */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        states[i] = (float)(seed >> 40) * 0x1p-23F - 1;
    }
    return logit_lens(f->rt, &in, r, err);
}

static void the_lens_stops_between_tasks(void **state)
{
    (void)state;
    struct fixture f;
    struct lens_result whole, r;
    struct err err = { 0 };
    int n = 0, rc;
    open_fixture(&f);
    float *states = malloc(200 * STATES * f.model->config.d_model * sizeof *states);
    assert_non_null(states);
    must(lens_result_create(&whole, 200, STATES, TOP, &err), &err);
    must(lens_result_create(&r, 200, STATES, TOP, &err), &err);
    must(lens(&f, states, &whole, &err), &err);
    do {
        stop_after(n);
        if ((rc = lens(&f, states, &r, &err)))
            assert_int_equal(rc, ERR_INTERRUPTED);
        n++;
    } while (rc);
    assert_true(n > 2);
    assert_memory_equal(r.entropy, whole.entropy, 200 * STATES * sizeof *r.entropy);
    assert_memory_equal(r.top_token, whole.top_token, 200 * STATES * TOP * sizeof *r.top_token);
    lens_result_release(&r);
    lens_result_release(&whole);
    free(states);
    close_fixture(&f);
}

static void loading_stops_between_pieces(void **state)
{
    (void)state;
    struct model *m;
    char path[256];
    int n = 0, rc;
    do {
        struct err err = { 0 };
        stop_after(n);
        if ((rc = model_open(&m, references_model_path("llama_a", path), pool, &err))) {
            assert_int_equal(rc, ERR_INTERRUPTED);
            assert_string_equal(err.msg, "interrupted");
        } else
            model_free(m);
        n++;
    } while (rc);
    assert_true(n > 2);
    pool_stop_when(pool, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_stops_at_any_site),
        cmocka_unit_test(the_lens_stops_between_tasks),
        cmocka_unit_test(loading_stops_between_pieces),
    };
    return cmocka_run_group_tests_name("stop", tests, open_pool, close_pool);
}
