/*
 * Extraction: ranks against plain dot products with the unembedding; restricted attention against full runs in which
 * edges are blocked, or in which each head's pattern is set to what the published second softmax gives. In double, so
 * that ranks have no near ties.
 */
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/extraction.h"

#include <math.h>

static const char *const models[] = { "llama_a", "mistral", "gpt2",   "qwen2", "gemma2",
                                      "olmo2",   "granite", "cohere", "olmo",  "phi" };
enum { N_MODELS = sizeof models / sizeof *models, N_FACTS = 3, MOST_TOKENS = 20 };

struct fixture {
    struct model *m;
    struct runtime *rt;
    struct references refs;
    struct prompt prompts[N_FACTS];
    int32_t answers[N_FACTS];
    struct extraction_restriction restrictions[EXTRACTION_N_KEYS * EXTRACTION_MODES];
};

static void open_fixture(struct fixture *f, const char *name)
{
    /* The last prompt is longer than the windows of mistral and qwen2, so that old keys are hidden. */
    static const size_t spans[N_FACTS][3] = { { 7, 0, 2 }, { 9, 3, 5 }, { 20, 2, 18 } };
    char path[256];
    struct err err = { 0 };
    references_open(&f->refs, name);
    must(model_open(&f->m, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&f->rt, f->m, pool, PRECISION_F64, &err), &err);
    assert_true(f->refs.n_tokens >= 24);
    for (size_t i = 0; i < N_FACTS; i++) {
        f->prompts[i] = (struct prompt){ .tokens = f->refs.tokens + i,
                                         .n_tokens = spans[i][0],
                                         .subject_begin = spans[i][1],
                                         .subject_end = spans[i][2],
                                         .name = "x" };
        f->answers[i] = (int32_t)(11 * i + 3);
    }
    for (size_t k = 0; k < EXTRACTION_N_KEYS; k++)
        for (size_t mode = 0; mode < EXTRACTION_MODES; mode++)
            f->restrictions[k * EXTRACTION_MODES + mode] =
                (struct extraction_restriction){ (enum extraction_keys)k, (enum extraction_mode)mode };
}

static void close_fixture(struct fixture *f)
{
    runtime_free(f->rt);
    model_free(f->m);
    references_close(&f->refs);
}

/* One site of a full run, the caller's to release. */
static void collect(struct fixture *f, const struct prompt *p, enum site site, size_t layer,
                    const struct edit_list *edits, struct site_set *reads, struct collector *c)
{
    struct err err = { 0 };
    must(site_set_init(reads, &f->m->config, &err), &err);
    site_set_add_one(reads, (struct site_ref){ site, layer });
    must(collector_init(c, reads, PRECISION_F64, &err), &err);
    must(collector_begin(c, p, 1, NULL, &err), &err);
    const struct forward forward = { .prompts = p, .n_prompts = 1, .reads = reads, .edits = edits, .sink = &c->sink };
    must(runtime_forward(f->rt, &forward, &err), &err);
}

static int32_t rank_of(struct fixture *f, double *state, enum extraction_norm norm, int32_t answer)
{
    const struct model *m = f->m;
    double logit[128];
    int32_t rank = 1;
    assert_true(m->config.d_vocab <= 128);
    if (norm == EXTRACTION_LENS)
        runtime_head_input(f->rt, state, 1, state, 0);
    for (size_t v = 0; v < m->config.d_vocab; v++) {
        logit[v] = m->unembed_bias ? (double)m->unembed_bias[v] : 0;
        for (size_t i = 0; i < m->config.d_model; i++)
            logit[v] += state[i] * (double)(m->unembed.in_major ? m->unembed.data[i * m->unembed.stride + v]
                                                                : m->unembed.data[v * m->unembed.stride + i]);
    }
    for (size_t v = 0; v < m->config.d_vocab; v++)
        rank += logit[v] > logit[answer];
    return rank;
}

static int32_t full_run_rank(struct fixture *f, size_t fact, enum site site, size_t layer,
                             const struct edit_list *edits, enum extraction_norm norm)
{
    struct site_set reads;
    struct collector c;
    const struct prompt *p = &f->prompts[fact];
    collect(f, p, site, layer, edits, &reads, &c);
    double *rows = collector_rows(&c, site, layer);
    int32_t rank = rank_of(f, rows + (p->n_tokens - 1) * f->m->config.d_model, norm, f->answers[fact]);
    collector_release(&c);
    site_set_release(&reads);
    return rank;
}

static void run(struct fixture *f, enum extraction_norm norm, bool restricted, struct extraction *x)
{
    struct err err = { 0 };
    const struct extraction_input in = { .prompts = f->prompts,
                                         .answers = f->answers,
                                         .n_facts = N_FACTS,
                                         .norm = norm,
                                         .restrictions = restricted ? f->restrictions : NULL,
                                         .n_restrictions = restricted ? EXTRACTION_N_KEYS * EXTRACTION_MODES : 0 };
    must(extraction_run(x, f->rt, &in, &err), &err);
}

static void ranks_are_those_of_dot_products(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        struct extraction x[2];
        open_fixture(&f, models[m]);
        size_t n_differ = 0;
        for (int norm = 0; norm < 2; norm++) {
            run(&f, (enum extraction_norm)norm, false, &x[norm]);
            assert_null(x[norm].restricted_rank);
            for (size_t i = 0; i < N_FACTS; i++)
                for (size_t l = 0; l < f.m->config.n_layers; l++) {
                    const int32_t *attn = extraction_ranks(&x[norm], i, EXTRACTION_ATTN);
                    const int32_t *mlp = extraction_ranks(&x[norm], i, EXTRACTION_MLP);
                    assert_int_equal(attn[l], full_run_rank(&f, i, SITE_ATTN_OUT, l, NULL, (enum extraction_norm)norm));
                    assert_int_equal(mlp[l], full_run_rank(&f, i, SITE_MLP_OUT, l, NULL, (enum extraction_norm)norm));
                    n_differ += attn[l] != mlp[l];
                    for (int part = 0; part < EXTRACTION_SUBLAYERS; part++) {
                        /* The top token's own rank is 1. */
                        int32_t answer = f.answers[i];
                        f.answers[i] = extraction_tops(&x[norm], i, (enum extraction_sublayer)part)[l];
                        enum site site = part == EXTRACTION_ATTN ? SITE_ATTN_OUT : SITE_MLP_OUT;
                        assert_int_equal(full_run_rank(&f, i, site, l, NULL, (enum extraction_norm)norm), 1);
                        f.answers[i] = answer;
                    }
                }
        }
        assert_true(n_differ > 0);
        for (int norm = 0; norm < 2; norm++)
            extraction_release(&x[norm]);
        close_fixture(&f);
    }
}

/* The keys that a restriction blocks, as the edit language has them; "" for none. */
static const char *keys_text(const unsigned char *mask, size_t n, char text[128])
{
    *text = '\0';
    for (size_t t = 0; t < n; t++)
        if (mask[t])
            snprintf(text + strlen(text), 128 - strlen(text), "%s%zu", *text ? "," : "", t);
    return text;
}

/* What the published program makes of one head's weights: softmax of them, blocked ones -1e6. Hidden edges stay so. */
static void softmax_again(double *w, const unsigned char *mask, size_t n, size_t first_visible)
{
    double sum = 0;
    for (size_t t = first_visible; t < n; t++) {
        w[t] = exp(mask[t] ? -1e6 : w[t]);
        sum += w[t];
    }
    for (size_t t = first_visible; t < n; t++)
        w[t] /= sum;
}

static void resoftmax_edits(struct fixture *f, size_t fact, size_t layer, const unsigned char *mask,
                            struct edit_list *edits)
{
    struct err err = { 0 };
    struct site_set reads;
    struct collector c;
    char text[128];
    const struct prompt *p = &f->prompts[fact];
    size_t n = p->n_tokens, window = f->m->layers[layer].window, first = window && n > window ? n - window : 0;
    collect(f, p, SITE_PATTERN, layer, NULL, &reads, &c);
    const double *pattern = collector_edges(&c, SITE_PATTERN, layer, 0);
    for (size_t h = 0; h < f->m->config.n_heads; h++) {
        double w[MOST_TOKENS];
        memcpy(w, pattern + (h * n + n - 1) * n, n * sizeof *w);
        softmax_again(w, mask, n, first);
        for (size_t t = first; t < n; t++) {
            snprintf(text, sizeof text, "blocks.%zu.attn.hook_pattern@last<-%zu#%zu set %.17g", layer, t, h, w[t]);
            must(edit_parse(edits, text, &f->m->config, &err), &err);
        }
    }
    collector_release(&c);
    site_set_release(&reads);
}

static int32_t restricted_oracle(struct fixture *f, size_t fact, size_t layer, struct extraction_restriction r,
                                 enum extraction_norm norm)
{
    struct err err = { 0 };
    struct edit_list edits = { 0 };
    unsigned char mask[MOST_TOKENS];
    char keys[128], text[256];
    const struct prompt *p = &f->prompts[fact];
    size_t window = f->m->layers[layer].window, first = window && p->n_tokens > window ? p->n_tokens - window : 0;
    bool any = false, all = true;
    extraction_blocked(r.keys, p, mask);
    for (size_t t = first; t < p->n_tokens; t++) {
        any |= mask[t];
        all &= mask[t];
    }
    if (any && (r.mode == EXTRACTION_RENORMALISED || all)) {
        snprintf(text, sizeof text, "blocks.%zu.attn.hook_attn_scores@last<-%s block", layer,
                 keys_text(mask, p->n_tokens, keys));
        must(edit_parse(&edits, text, &f->m->config, &err), &err);
    } else if (any) {
        resoftmax_edits(f, fact, layer, mask, &edits);
    }
    int32_t rank = full_run_rank(f, fact, SITE_ATTN_OUT, layer, &edits, norm);
    edit_list_release(&edits);
    return rank;
}

static void restricted_attention_is_that_of_full_runs(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct fixture f;
        struct extraction x;
        size_t n_differ = 0, n_modes_differ = 0;
        enum extraction_norm norm = m % 2 ? EXTRACTION_LENS : EXTRACTION_GEVA;
        open_fixture(&f, models[m]);
        run(&f, norm, true, &x);
        for (size_t i = 0; i < N_FACTS; i++)
            for (size_t r = 0; r < x.n_restrictions; r++) {
                const int32_t *got = x.restricted_rank + (i * x.n_restrictions + r) * x.n_layers;
                for (size_t l = 0; l < x.n_layers; l++) {
                    int32_t want = restricted_oracle(&f, i, l, f.restrictions[r], norm);
                    if (got[l] != want)
                        fail_msg("%s fact %zu layer %zu, blocked %s, %s: rank %d, full run %d", models[m], i, l,
                                 extraction_keys_name(f.restrictions[r].keys),
                                 extraction_mode_name(f.restrictions[r].mode), (int)got[l], (int)want);
                    n_differ += got[l] != extraction_ranks(&x, i, EXTRACTION_ATTN)[l];
                    n_modes_differ += r % 2 && got[l] != got[l - x.n_layers];
                }
            }
        /* Faults would be seen: restrictions and modes make a difference. */
        assert_true(n_differ > 20 && n_modes_differ > 5);
        extraction_release(&x);
        close_fixture(&f);
    }
}

static void nothing_blocked_is_plain_attention(void **state)
{
    (void)state;
    struct fixture f;
    struct extraction x;
    open_fixture(&f, "gpt2");
    run(&f, EXTRACTION_GEVA, true, &x);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t mode = 0; mode < EXTRACTION_MODES; mode++)
            assert_memory_equal(extraction_restricted_tops(&x, i, EXTRACTION_BLOCK_NOTHING * EXTRACTION_MODES + mode),
                                extraction_tops(&x, i, EXTRACTION_ATTN), x.n_layers * sizeof(int32_t));
    extraction_release(&x);
    close_fixture(&f);
}

static void key_sets_are_what_their_names_say(void **state)
{
    (void)state;
    static const struct prompt p = { .n_tokens = 6, .subject_begin = 1, .subject_end = 3 };
    static const char *const want[EXTRACTION_N_KEYS] = { "000000", "011000", "000001", "001000", "001001", "100111",
                                                         "100110", "011111", "111110", "110111", "110110", "111111" };
    for (size_t k = 0; k < EXTRACTION_N_KEYS; k++) {
        unsigned char mask[6];
        extraction_blocked((enum extraction_keys)k, &p, mask);
        for (size_t t = 0; t < 6; t++)
            assert_int_equal(mask[t], want[k][t] == '1');
    }
}

static void events_are_layers_with_the_answer_on_top(void **state)
{
    (void)state;
    static const int32_t tops[] = { 7, 1, 2, 1, 1 };
    size_t first;
    assert_int_equal(extraction_events(tops, 1, 5, &first), 3);
    assert_int_equal(first, 1);
    assert_int_equal(extraction_events(tops, 3, 5, &first), 0);
    assert_int_equal(first, 5);
    assert_int_equal(extraction_events(tops, 7, 5, NULL), 1);
}

static void chance_is_the_share_under_other_answers(void **state)
{
    (void)state;
    /* Fact 0 always shows 5, fact 1 always 6, fact 2 both: with the two others' answers 0, 0 and 2 of 2. */
    static const int32_t tops[] = { 5, 5, 6, 6, 5, 6 }, answers[] = { 5, 6, 9 }, same[] = { 4, 4, 4 };
    double share = extraction_chance(tops, answers, 3, 2, 50, 1);
    assert_true(share == 1.0 / 3);
    assert_true(extraction_chance(tops, (const int32_t[]){ 6, 5, 6 }, 3, 2, 50, 1) == 1);
    assert_true(isnan(extraction_chance(tops, same, 3, 2, 50, 1)));
    /* Rare other answers are found. */
    static int32_t rare[5000], shown[5000];
    rare[4321] = 1;
    assert_true(extraction_chance(shown, rare, 5000, 1, 1, 1) == 1.0 / 5000);
    /* Where draws matter: one of three other answers, each as often. 80000 draws: a deviation of 0.0017. */
    static const int32_t mixed[] = { 6, 7, 8, 5 }, own[] = { 5, 6, 7, 8 };
    assert_true(extraction_chance(mixed, own, 4, 1, 9, 3) == extraction_chance(mixed, own, 4, 1, 9, 3));
    assert_true(fabs(extraction_chance(mixed, own, 4, 1, 20000, 3) - 1.0 / 3) < 0.01);
}

/* Zeros make every logit equal: no event, although nothing is above the answer. */
static void no_key_and_no_bias_is_no_event(void **state)
{
    (void)state;
    struct fixture f;
    struct extraction x;
    open_fixture(&f, "llama_b");
    assert_null(f.m->layers[0].o_bias);
    run(&f, EXTRACTION_GEVA, true, &x);
    for (size_t i = 0; i < N_FACTS; i++) {
        size_t r = EXTRACTION_BLOCK_ALL * EXTRACTION_MODES;
        assert_int_equal(x.restricted_rank[(i * x.n_restrictions + r) * x.n_layers], 1);
        assert_int_equal(extraction_events(extraction_restricted_tops(&x, i, r), f.answers[i], x.n_layers, NULL), 0);
    }
    extraction_release(&x);
    close_fixture(&f);
}

static void missing_answers_and_subjects_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct extraction x;
    struct err err = { 0 };
    open_fixture(&f, "llama_a");
    struct extraction_input in = { .prompts = f.prompts, .answers = f.answers, .n_facts = 2 };
    f.prompts[1].subject_end = f.prompts[1].subject_begin;
    must(extraction_run(&x, f.rt, &in, &err), &err); /* without restrictions no subject is needed */
    extraction_release(&x);
    in.restrictions = f.restrictions;
    in.n_restrictions = 1;
    assert_int_equal(extraction_run(&x, f.rt, &in, &err), ERR_ARG);
    assert_string_equal(err.msg, "prompt x: restricted extraction needs the prompt's subject");
    f.answers[0] = -1;
    assert_int_equal(extraction_run(&x, f.rt, &in, &err), ERR_ARG);
    assert_string_equal(err.msg, "prompt x: extraction needs the answer");
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_those_of_dot_products),
        cmocka_unit_test(restricted_attention_is_that_of_full_runs),
        cmocka_unit_test(nothing_blocked_is_plain_attention),
        cmocka_unit_test(key_sets_are_what_their_names_say),
        cmocka_unit_test(events_are_layers_with_the_answer_on_top),
        cmocka_unit_test(chance_is_the_share_under_other_answers),
        cmocka_unit_test(no_key_and_no_bias_is_no_event),
        cmocka_unit_test(missing_answers_and_subjects_are_refused),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
