/*
 * Pairs in the weights of heads against a naive map in double: one head, one subject and one token at a time, with its
 * own norms and activation. Where an object's score is closer to the k-th than float can tell, either is right.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/base/mem.h"
#include "core/base/random.h"
#include "probes/head_map.h"

#include <math.h>

static const char *const models[] = { "llama_a", "llama_b", "mistral", "gpt2", "qwen2", "gemma2",
                                      "olmo2",   "granite", "cohere",  "olmo", "phi" };
enum { N_MODELS = sizeof models / sizeof *models, N_PAIRS = 40, N_RELATIONS = 2, MOST = 128 };

/* --- the naive map --- */

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

static double activate(enum activation a, double x)
{
    return a == ACTIVATION_SILU        ? x / (1 + exp(-x))
           : a == ACTIVATION_GELU_TANH ? 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
                                       : fmax(x, 0);
}

/* Without scale: it changes no rank. With bias and scale where `whole`. */
static void norm(const struct model_config *c, const struct norm_weights *w, bool whole, double *x)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < c->d_model; i++)
        mean += c->norm == NORM_LAYER ? x[i] / (double)c->d_model : 0;
    for (size_t i = 0; i < c->d_model; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)c->d_model;
    for (size_t i = 0; i < c->d_model; i++)
        x[i] = (x[i] - mean) / (whole ? sqrt(squares + c->norm_eps) : 1) * (w->gain ? (double)w->gain[i] : 1) +
               (whole && w->bias ? (double)w->bias[i] : 0);
}

static void apply(const struct matrix *w, const float *bias, const double *x, double *y)
{
    for (size_t o = 0; o < w->n_out; o++) {
        y[o] = bias ? (double)bias[o] : 0;
        for (size_t i = 0; i < w->n_in; i++)
            y[o] += weight(w, o, i) * x[i];
    }
}

/* MLP0(ln2(E_s)), or E_s. */
static void entity(const struct model *m, int32_t token, bool raw, double *e)
{
    const struct layer *w = m->layers;
    double pre[MOST], up[MOST], x[MOST];
    for (size_t i = 0; i < m->config.d_model; i++)
        e[i] = (double)m->embed[(size_t)token * m->config.d_model + i] * m->config.embed_scale;
    if (raw)
        return;
    memcpy(x, e, m->config.d_model * sizeof *x);
    if (m->config.ln2 || m->config.block == BLOCK_PARALLEL)
        norm(&m->config, m->config.ln2 ? &w->ln2 : &w->ln1, true, x);
    apply(m->config.gated_mlp ? &w->mlp.gate : &w->mlp.up, m->config.gated_mlp ? w->mlp.gate_bias : w->mlp.up_bias, x,
          pre);
    if (m->config.gated_mlp)
        apply(&w->mlp.up, w->mlp.up_bias, x, up);
    for (size_t n = 0; n < m->config.d_mlp; n++)
        pre[n] = activate(m->config.activation, pre[n]) * (m->config.gated_mlp ? up[n] : 1);
    apply(&w->mlp.down, w->mlp.down_bias, pre, e);
    if (m->config.sublayer_norms)
        norm(&m->config, &w->ln2_post, true, e);
}

/* Scores of the whole vocabulary that a head writes for a subject; group: of which key-value head. */
static void scores(const struct model *m, size_t layer, size_t head, size_t group, int32_t subject, bool gains,
                   double *out)
{
    const struct model_config *c = &m->config;
    const struct layer *w = &m->layers[layer];
    double x[MOST], y[MOST] = { 0 };
    entity(m, subject, layer == 0, x);
    if (gains && c->ln1)
        norm(c, &w->ln1, false, x);
    for (size_t d = 0; d < c->d_head; d++) {
        double v = 0;
        for (size_t i = 0; i < c->d_model; i++)
            v += weight(&w->v, group * c->d_head + d, i) * x[i];
        for (size_t i = 0; i < c->d_model; i++)
            y[i] += v * weight(&w->o, i, head * c->d_head + d);
    }
    if (gains && c->sublayer_norms)
        norm(c, &w->ln1_post, false, y);
    if (gains)
        norm(c, &m->ln_final, false, y);
    apply(&m->unembed, NULL, y, out);
}

/* How many tokens are surely, and how many perhaps, above the object's score (below it for sign -1). */
static void count_above(const double *score, size_t n, int32_t object, double sign, size_t *surely, size_t *perhaps)
{
    double size = 0;
    *surely = *perhaps = 0;
    for (size_t v = 0; v < n; v++)
        size = fmax(size, fabs(score[v]));
    for (size_t v = 0; v < n; v++)
        if ((int32_t)v != object) {
            *surely += sign * (score[v] - score[object]) > 1e-5 * size;
            *perhaps += sign * (score[v] - score[object]) > -1e-5 * size;
        }
}

enum fault { NO_FAULT, OTHER_GROUP, WRONG_SIGN, NO_GAINS };

/* Shares of the pairs that a head surely and perhaps promotes (or suppresses). */
static void naive(const struct model *m, const struct head_map_relation *r, size_t layer, size_t head, bool gains,
                  double sign, enum fault fault, double *least, double *most)
{
    const struct model_config *c = &m->config;
    size_t group = head / (c->n_heads / c->n_kv_heads);
    double score[MOST];
    *least = *most = 0;
    for (size_t i = 0; i < r->n_pairs; i++) {
        size_t surely, perhaps;
        scores(m, layer, head, fault == OTHER_GROUP ? (group + 1) % c->n_kv_heads : group, r->pairs[i].subject,
               gains != (fault == NO_GAINS), score);
        count_above(score, c->d_vocab, r->pairs[i].object, fault == WRONG_SIGN ? -sign : sign, &surely, &perhaps);
        *least += (double)(perhaps < r->k) / (double)r->n_pairs;
        *most += (double)(surely < r->k) / (double)r->n_pairs;
    }
}

/* Cells of the map that lie outside what the naive map allows. */
static size_t wrong_cells(const struct model *m, const struct head_map *map, const struct head_map_relation *relations,
                          bool gains, enum fault fault)
{
    size_t wrong = 0, per_layer = m->config.n_heads;
    for (size_t r = 0; r < map->n_relations; r++)
        for (size_t h = 0; h < map->n_heads; h++)
            for (int sign = 1; sign >= -1; sign -= 2) {
                double least, most, got = (sign > 0 ? map->promote : map->suppress)[r * map->n_heads + h];
                naive(m, &relations[r], h / per_layer, h % per_layer, gains, sign, fault, &least, &most);
                wrong += got < least - 1e-9 || got > most + 1e-9;
            }
    return wrong;
}

/* --- tests --- */

struct fixture {
    struct model *model;
    struct runtime *rt;
    struct token_pair pairs[N_RELATIONS][N_PAIRS];
    struct head_map_relation relations[N_RELATIONS];
};

static void open_fixture(struct fixture *f, const char *name, enum precision precision, uint64_t seed)
{
    char path[256];
    struct err err = { 0 };
    struct random_source random;
    must(model_open(&f->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->model, pool, precision, &err), &err);
    random_seed(&random, seed);
    for (size_t r = 0; r < N_RELATIONS; r++) {
        for (size_t i = 0; i < N_PAIRS; i++) {
            f->pairs[r][i].subject = (int32_t)random_below(&random, f->model->config.d_vocab);
            f->pairs[r][i].object = (int32_t)random_below(&random, f->model->config.d_vocab);
        }
        f->relations[r] = (struct head_map_relation){
            .name = r ? "b" : "a", .pairs = f->pairs[r], .n_pairs = r ? N_PAIRS : N_PAIRS / 2, .k = r ? 10 : 1
        };
    }
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->model);
}

static void the_map_is_the_naive_one(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++)
        for (int raw = 0; raw < 2; raw++) {
            struct fixture f;
            struct head_map map;
            struct err err = { 0 };
            open_fixture(&f, models[m], raw ? PRECISION_F64 : PRECISION_F32, 3);
            const struct head_map_options o = { .norms = raw ? HEAD_MAP_RAW : HEAD_MAP_GAINS, .seed = 1 };
            must(head_map_run(&map, f.rt, f.relations, N_RELATIONS, &o, NULL, &err), &err);
            size_t wrong = wrong_cells(f.model, &map, f.relations, !raw, NO_FAULT);
            if (wrong)
                fail_msg("%s (%s): %zu cells are wrong", models[m], raw ? "raw" : "gains", wrong);
            /* Faults that must be seen. */
            assert_true(wrong_cells(f.model, &map, f.relations, !raw, WRONG_SIGN) > 0);
            assert_true(wrong_cells(f.model, &map, f.relations, !raw, NO_GAINS) > 0);
            if (f.model->config.n_kv_heads > 1)
                assert_true(wrong_cells(f.model, &map, f.relations, !raw, OTHER_GROUP) > 0);
            for (size_t r = 0; r < N_RELATIONS; r++)
                for (size_t h = 0; h < map.n_heads; h++)
                    assert_true(fabs(map.promote[r * map.n_heads + h] -
                                     (double)map.hits[r * map.n_heads + h] / (double)f.relations[r].n_pairs) < 1e-12);
            head_map_release(&map);
            close_fixture(&f);
        }
}

/* A pair counts as held once, however many heads hold it. */
static void covered_is_at_least_the_best_head(void **state)
{
    struct fixture f;
    struct head_map map;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32, 5);
    must(head_map_run(&map, f.rt, f.relations, N_RELATIONS, NULL, NULL, &err), &err);
    for (size_t r = 0; r < N_RELATIONS; r++) {
        double best = 0, sum = 0;
        for (size_t h = 0; h < map.n_heads; h++) {
            best = fmax(best, map.promote[r * map.n_heads + h]);
            sum += map.promote[r * map.n_heads + h];
        }
        assert_true(map.covered[r] >= best - 1e-12 && map.covered[r] <= fmin(1, sum + 1e-12));
    }
    head_map_release(&map);
    close_fixture(&f);
}

/* Same seed, same control; another seed, another one; the map itself is of the weights alone. */
static void the_control_depends_on_the_seed(void **state)
{
    struct fixture f;
    struct head_map map[3];
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "qwen2", PRECISION_F32, 9);
    for (size_t i = 0; i < 3; i++) {
        const struct head_map_options o = { .seed = i == 2 ? 8 : 7 };
        must(head_map_run(&map[i], f.rt, f.relations, N_RELATIONS, &o, NULL, &err), &err);
    }
    size_t bytes = N_RELATIONS * map[0].n_heads * sizeof(double);
    assert_memory_equal(map[0].control, map[1].control, bytes);
    assert_memory_not_equal(map[0].control, map[2].control, bytes);
    assert_memory_equal(map[0].promote, map[2].promote, bytes);
    for (size_t i = 0; i < 3; i++)
        head_map_release(&map[i]);
    close_fixture(&f);
}

static void a_relation_of_one_object_has_no_control(void **state)
{
    struct fixture f;
    struct head_map map;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "llama_b", PRECISION_F32, 9);
    for (size_t i = 0; i < N_PAIRS; i++)
        f.pairs[0][i].object = 7;
    must(head_map_run(&map, f.rt, f.relations, N_RELATIONS, NULL, NULL, &err), &err);
    assert_true(isnan(map.control[0]) && isnan(map.covered_control[0]));
    assert_true(isfinite(map.control[map.n_heads]) && isfinite(map.promote[0]));
    head_map_release(&map);
    close_fixture(&f);
}

static void bad_pairs_are_told(void **state)
{
    struct fixture f;
    struct head_map map;
    struct err err = { 0 };
    (void)state;
    open_fixture(&f, "gpt2", PRECISION_F32, 1);
    f.pairs[1][3].object = 59;
    assert_int_equal(head_map_run(&map, f.rt, f.relations, N_RELATIONS, NULL, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "relation b: a token is outside the vocabulary of 59"));
    f.relations[1].n_pairs = 0;
    assert_int_equal(head_map_run(&map, f.rt, f.relations, N_RELATIONS, NULL, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "relation b has no pairs"));
    close_fixture(&f);
}

/* Single tokens with their leading space, as they stand in running text. */
static void pairs_are_single_tokens(void **state)
{
    struct model *m;
    struct token_pair pair;
    struct err err = { 0 };
    (void)state;
    must(model_open_header(&m, "data/tiny", &err), &err);
    assert_true(head_map_pair(m, "France", "Paris", &pair));
    assert_int_equal(pair.subject, tokenizer_find(m->tokenizer, " France", 7));
    assert_int_equal(pair.object, tokenizer_find(m->tokenizer, " Paris", 6));
    assert_false(head_map_pair(m, "the Arc de Triomphe", "Paris", &pair));
    assert_false(head_map_pair(m, "France", "", &pair));
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_is_the_naive_one),
        cmocka_unit_test(covered_is_at_least_the_best_head),
        cmocka_unit_test(the_control_depends_on_the_seed),
        cmocka_unit_test(a_relation_of_one_object_has_no_control),
        cmocka_unit_test(bad_pairs_are_told),
        cmocka_unit_test(pairs_are_single_tokens),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
