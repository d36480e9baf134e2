/* Streamed weights: the same numbers, two blocks at a time, NULL when they have gone. */
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "tests/golden/references.h"

#include "tests/must.h"
#include "tests/shared_pool.h"

static struct model *kept, *streamed;

static void open_both(const char *path)
{
    struct err err = { 0 };
    must(model_open_at(&kept, path, WEIGHTS_MEMORY, pool, &err), &err);
    must(model_open_at(&streamed, path, WEIGHTS_STREAM, pool, &err), &err);
}

static void close_both(void)
{
    model_free(kept);
    model_free(streamed);
}

static void assert_same(const struct matrix *a, const struct matrix *b)
{
    assert_int_equal(a->n_out, b->n_out);
    for (size_t o = 0; o < a->n_out; o++)
        for (size_t i = 0; i < a->n_in; i++) {
            size_t at = a->in_major ? i * a->stride + o : o * a->stride + i;
            assert_true(a->data[at] == b->data[at]);
        }
}

static void blocks_used_in_any_order_are_those_in_memory(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct random_source random;
    char path[256];
    references_model_path("llama_a_gguf", path);
    open_both(path);
    random_seed(&random, 3);
    for (int i = 0; i < 50; i++) {
        size_t l = random_below(&random, kept->config.n_layers);
        must(model_use_layer(streamed, l, &err), &err);
        const struct layer *a = &kept->layers[l], *b = &streamed->layers[l];
        assert_same(&a->q, &b->q); /* its rows are reordered as they are read */
        assert_same(&a->v, &b->v);
        assert_same(&a->mlp.down, &b->mlp.down);
        assert_memory_equal(a->ln1.gain, b->ln1.gain, kept->config.d_model * sizeof(float));
    }
    close_both();
}

static void a_block_that_has_gone_is_null(void **state)
{
    (void)state;
    struct err err = { 0 };
    open_both("data/tiny");
    assert_true(streamed->config.n_layers >= 3);
    assert_null(streamed->layers[0].q.data);
    for (size_t l = 0; l < 3; l++)
        must(model_use_layer(streamed, l, &err), &err);
    assert_null(streamed->layers[0].q.data);
    assert_non_null(streamed->layers[1].q.data);
    assert_non_null(streamed->layers[2].q.data);
    must(model_use_layer(streamed, 1, &err), &err); /* now 2 is the older one */
    must(model_use_layer(streamed, 0, &err), &err);
    assert_null(streamed->layers[2].q.data);
    assert_non_null(streamed->layers[1].q.data);
    close_both();
}

static void less_memory_is_taken_and_it_is_as_planned(void **state)
{
    (void)state;
    open_both("data/tiny");
    assert_true(model_streams(streamed) && !model_streams(kept));
    assert_int_equal(streamed->weight_bytes, model_streamed_bytes(kept));
    assert_true(streamed->weight_bytes < kept->weight_bytes);
    assert_string_equal(streamed->sha256, kept->sha256);
    close_both();
}

static void collect_logits(const struct model *m, enum precision precision, const struct references *refs,
                           struct collector *c, struct site_set *reads)
{
    struct err err = { 0 };
    struct runtime *rt;
    must(runtime_create(&rt, m, pool, precision, &err), &err);
    must(site_set_init(reads, &m->config, &err), &err);
    must(site_set_add(reads, "logits,resid_post,pattern", &err), &err);
    must(collector_init(c, reads, precision, &err), &err);
    must(collector_begin(c, refs->prompts, refs->n_prompts, NULL, &err), &err);
    const struct forward f = {
        .prompts = refs->prompts, .n_prompts = refs->n_prompts, .reads = reads, .sink = &c->sink
    };
    must(runtime_forward(rt, &f, &err), &err);
    runtime_free(rt);
}

static void a_pass_gives_the_same_bits(void **state)
{
    (void)state;
    static const char *const names[] = { "llama_a_gguf", "gpt2_gguf", "qwen2_gguf" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct references refs;
        struct collector a, b;
        struct site_set reads_a, reads_b;
        char path[256];
        references_open(&refs, names[i]);
        open_both(references_model_path(names[i], path));
        collect_logits(kept, PRECISION_F32, &refs, &a, &reads_a);
        collect_logits(streamed, PRECISION_F32, &refs, &b, &reads_b);
        size_t bytes = refs.n_tokens * kept->config.d_vocab * sizeof(float);
        assert_memory_equal(collector_rows(&a, SITE_LOGITS, 0), collector_rows(&b, SITE_LOGITS, 0), bytes);
        for (size_t l = 0; l < kept->config.n_layers; l++)
            assert_memory_equal(collector_rows(&a, SITE_RESID_POST, l), collector_rows(&b, SITE_RESID_POST, l),
                                refs.n_tokens * kept->config.d_model * sizeof(float));
        collector_release(&a);
        collector_release(&b);
        site_set_release(&reads_a);
        site_set_release(&reads_b);
        close_both();
        references_close(&refs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_used_in_any_order_are_those_in_memory),
        cmocka_unit_test(a_block_that_has_gone_is_null),
        cmocka_unit_test(less_memory_is_taken_and_it_is_as_planned),
        cmocka_unit_test(a_pass_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
