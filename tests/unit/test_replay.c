/*
 * Replay against a full run of every variant: random edits at all sites, in both precisions. Then how little is
 * computed. Errors are relative per row, ||a - b|| / ||b||: 1e-5 in float (design section 7), 1e-10 in double.
 */
#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/replay.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"

#define MODELS "tests/golden/models/"
/*
 * Grouped heads with biases; a window of 16; GPT-2's layout; one key head. Then post-norm blocks that see both ways,
 * with a projected embedding and a masked-LM head; both ways with windows; a parallel block; norms after sublayers and
 * soft-caps; post-norm blocks that look back; experts; ALiBi.
 */
static const char *const models[] = { MODELS "llama_a",  MODELS "mistral",    MODELS "gpt2",   MODELS "qwen2",
                                      MODELS "albert",   MODELS "modernbert", MODELS "cohere", MODELS "gemma2",
                                      MODELS "opt_post", MODELS "mixtral",    MODELS "bloom",  MODELS "deberta_v2" };
enum { N_MODELS = sizeof models / sizeof *models, N_PROMPTS = 4, MOST_TOKENS = 24, N_VARIANTS = 60 };

static struct pool *pool;

struct bench {
    struct model *m;
    struct runtime *rt;
    struct random_source random;
    int32_t tokens[N_PROMPTS][MOST_TOKENS];
    struct prompt prompts[N_PROMPTS];
    struct edit_list base_edits[N_PROMPTS];
    const struct edit_list *base_pointers[N_PROMPTS];
    struct site_set sources, reads;
    struct replay_plan plan;
    struct replay *replay;
};

static size_t below(struct bench *b, size_t n)
{
    return (size_t)random_below(&b->random, n);
}

/* --- random edits --- */

static bool is_edges(enum site site)
{
    return site_row(site)->axes == AXES_EDGES;
}

static enum site random_site(struct bench *b)
{
    for (;;) {
        enum site site = (enum site)below(b, N_SITES);
        if (site_row(site)->editable && !site_missing(site, &b->m->config))
            return site;
    }
}

static struct positions random_positions(struct bench *b, const struct prompt *p)
{
    static const enum position_kind_selector kinds[] = { POSITIONS_LAST,          POSITIONS_SUBJECT,
                                                         POSITIONS_SUBJECT_FIRST, POSITIONS_SUBJECT_LAST,
                                                         POSITIONS_ALL,           POSITIONS_NON_SUBJECT };
    if (below(b, 2))
        return (struct positions){ .kind = kinds[below(b, 6)] };
    struct positions at = { .kind = POSITIONS_NUMBERS, .ranges = mem_array(1, sizeof(struct range)), .n_ranges = 1 };
    assert_non_null(at.ranges);
    at.ranges[0].first = below(b, p->n_tokens);
    at.ranges[0].last = at.ranges[0].first + below(b, p->n_tokens - at.ranges[0].first);
    return at;
}

static void random_units(struct bench *b, struct edit *e)
{
    const char *what;
    size_t n = site_units(e->site, &b->m->config, &what);
    if (!n || below(b, 2))
        return;
    e->units = mem_array(1, sizeof *e->units);
    assert_non_null(e->units);
    e->units[0].first = below(b, n);
    e->units[0].last = e->units[0].first + below(b, n - e->units[0].first);
    e->n_units = 1;
}

/* Mostly its own site, else another one with rows of the same size. */
static void random_run(struct bench *b, struct edit *e, const struct prompt *p)
{
    const struct model_config *c = &b->m->config;
    e->source = EDIT_FROM_RUN;
    e->run = below(b, 2) ? EDIT_OWN_RUN : below(b, N_PROMPTS);
    e->from_site = e->site;
    e->from_layer = below(b, 2) ? EDIT_SAME_LAYER : site_row(e->site)->per_layer ? below(b, c->n_layers) : 0;
    const struct prompt *source = e->run == EDIT_OWN_RUN ? p : &b->prompts[e->run];
    if (is_edges(e->site)) {
        e->run = EDIT_OWN_RUN;
        e->from_same = true;
        return;
    }
    if (below(b, 4) == 0)
        for (int tries = 0; tries < 20; tries++) {
            enum site other = random_site(b);
            bool stays = site_row(other)->per_layer == site_row(e->site)->per_layer && !is_edges(other);
            if (stays && site_row_size(other, c) == site_row_size(e->site, c))
                e->from_site = other;
        }
    e->from_same = below(b, 2) && source->n_tokens >= p->n_tokens;
    if (!e->from_same)
        e->from_at = (struct positions){ .kind = below(b, 2) ? POSITIONS_LAST : POSITIONS_SUBJECT_FIRST };
}

static void random_value(struct bench *b, struct edit *e, const struct prompt *p)
{
    size_t n = site_row_size(e->site, &b->m->config), layers = e->last_layer - e->first_layer + 1;
    e->value = random_normal(&b->random);
    if (site_row(e->site)->axes == AXES_SCALE && e->op == EDIT_SET)
        e->value = 1 + fabs(e->value); /* a divisor */
    if (is_edges(e->site) && e->op == EDIT_SCALE)
        e->value = 0.5; /* a blocked edge is -inf, and stays so */
    bool values = e->op == EDIT_SET || e->op == EDIT_ADD;
    switch (values && site_row(e->site)->axes != AXES_SCALE ? below(b, 4) : 0) {
    case 1:
        random_run(b, e, p);
        break;
    case 2:
        if (is_edges(e->site))
            break;
        e->source = EDIT_FROM_NOISE;
        e->seed = below(b, 3);
        e->value = 0.3;
        break;
    case 3:
        if (is_edges(e->site))
            break;
        e->source = EDIT_FROM_VECTOR;
        e->n_vectors = below(b, 2) ? layers : 1;
        e->vector = mem_array(e->n_vectors * n, sizeof *e->vector);
        assert_non_null(e->vector);
        for (size_t i = 0; i < e->n_vectors * n; i++)
            e->vector[i] = (float)random_normal(&b->random);
        break;
    default:
        break;
    }
}

static void random_edit(struct bench *b, struct edit_list *list, const struct prompt *p)
{
    struct edit e = { .site = random_site(b) };
    static const enum edit_op ops[] = { EDIT_SET, EDIT_ADD, EDIT_SCALE, EDIT_ZERO };
    if (site_row(e.site)->per_layer) {
        e.first_layer = below(b, b->m->config.n_layers);
        e.last_layer = e.first_layer + below(b, b->m->config.n_layers - e.first_layer);
    }
    e.at = random_positions(b, p);
    if (is_edges(e.site))
        e.keys = random_positions(b, p);
    random_units(b, &e);
    e.op = ops[below(b, 4)];
    if (e.site == SITE_SCORES && below(b, 2))
        e.op = below(b, 4) ? EDIT_BLOCK : EDIT_UNIFORM;
    if (site_row(e.site)->axes == AXES_SCALE && e.op == EDIT_ZERO)
        e.op = EDIT_SCALE; /* nothing is divided by zero */
    random_value(b, &e, p);
    if (site_row(e.site)->axes == AXES_SCALE && e.op != EDIT_SET)
        e.value = 1.5;
    assert_true(mem_grow(&list->edits, &list->capacity, list->n + 1, sizeof e));
    list->edits[list->n++] = e;
}

/* Other last layers, where the values allow that; now and then other tokens, another value, or one edit more. */
static void end_otherwise(struct bench *b, struct edit_list *list, const struct prompt *p)
{
    for (size_t i = 0; i < list->n; i++) {
        struct edit *e = &list->edits[i];
        if (site_row(e->site)->per_layer && e->n_vectors <= 1)
            e->last_layer = e->first_layer + below(b, b->m->config.n_layers - e->first_layer);
        if (e->source == EDIT_FROM_NUMBER && below(b, 6) == 0)
            e->value = e->value > 1 ? 1.125 : 1.25;
        if (e->source == EDIT_FROM_NUMBER && below(b, 6) == 0) {
            struct positions *at = is_edges(e->site) && below(b, 2) ? &e->keys : &e->at;
            free(at->ranges);
            *at = random_positions(b, p);
        }
    }
    if (below(b, 3) == 0)
        random_edit(b, list, p);
}

/* --- a replay of random prompts with random reads --- */

static void choose_reads(struct bench *b)
{
    struct err err = { 0 };
    must(site_set_init(&b->reads, &b->m->config, &err), &err);
    size_t n = below(b, 2) ? 1 + below(b, 4) : 0;
    for (size_t i = 0; i < n; i++) {
        enum site site = random_site(b);
        if (is_edges(site))
            continue;
        size_t layer = site_row(site)->per_layer ? below(b, b->m->config.n_layers) : 0;
        site_set_add_one(&b->reads, (struct site_ref){ site, layer });
    }
    if (below(b, 2) || !site_set_count(&b->reads))
        site_set_add_one(&b->reads, (struct site_ref){ SITE_LOGITS, 0 });
}

static void open_bench(struct bench *b, struct model *m, enum precision precision, uint64_t seed)
{
    struct err err = { 0 };
    *b = (struct bench){ .m = m };
    random_seed(&b->random, seed);
    must(runtime_create(&b->rt, m, pool, precision, &err), &err);
    must(site_set_init(&b->sources, &m->config, &err), &err);
    must(site_set_add(&b->sources, "*", &err), &err);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        size_t n = 3 + below(b, MOST_TOKENS - 2);
        for (size_t t = 0; t < n; t++)
            b->tokens[i][t] = (int32_t)below(b, m->config.d_vocab);
        b->prompts[i] = (struct prompt){ .tokens = b->tokens[i], .n_tokens = n, .name = "random" };
        b->prompts[i].n_after = m->config.bidirectional ? below(b, n) : 0;
        b->prompts[i].subject_begin = below(b, n - 1);
        b->prompts[i].subject_end = b->prompts[i].subject_begin + 1 + below(b, n - 1 - b->prompts[i].subject_begin);
    }
    /* The last base run is itself edited: noise on its subject. */
    must(edit_parse(&b->base_edits[N_PROMPTS - 1], "hook_embed@subject add 0.4", &m->config, &err), &err);
    for (size_t i = 0; i < N_PROMPTS; i++)
        b->base_pointers[i] = &b->base_edits[i];
    choose_reads(b);
    static const enum position_kind_selector wanted[] = { POSITIONS_LAST, POSITIONS_ALL, POSITIONS_SUBJECT };
    b->plan = (struct replay_plan){
        .prompts = b->prompts,
        .n_prompts = N_PROMPTS,
        .edits = b->base_pointers,
        .sources = &b->sources,
        .reads = &b->reads,
        .wanted = { .kind = wanted[below(b, 3)] },
    };
    must(replay_create(&b->replay, b->rt, &b->plan, &err), &err);
}

static void close_bench(struct bench *b)
{
    replay_free(b->replay);
    for (size_t i = 0; i < N_PROMPTS; i++)
        edit_list_release(&b->base_edits[i]);
    site_set_release(&b->sources);
    site_set_release(&b->reads);
    runtime_free(b->rt);
}

/* --- comparison with the full run --- */

/* Edits of the base run, then the variant's own (but the last where a fault is planted). The edits are borrowed. */
static struct edit_list joined(const struct bench *b, const struct variant *v, bool fault)
{
    const struct edit_list *base = &b->base_edits[v->run];
    size_t n = v->edits->n - (fault && v->edits->n);
    struct edit_list all = { .edits = mem_array(base->n + n, sizeof(struct edit)), .n = base->n + n };
    assert_non_null(all.edits);
    if (base->n)
        memcpy(all.edits, base->edits, base->n * sizeof *base->edits);
    if (n)
        memcpy(all.edits + base->n, v->edits->edits, n * sizeof *base->edits);
    return all;
}

static double row_error(const void *a, const void *b, enum precision precision, size_t n)
{
    double *x = mem_array(2 * n, sizeof *x), difference = 0, size = 0;
    assert_non_null(x);
    collector_widen(a, precision, 0, n, x);
    collector_widen(b, precision, 0, n, x + n);
    for (size_t i = 0; i < n; i++) {
        difference += (x[i] - x[n + i]) * (x[i] - x[n + i]);
        size += x[n + i] * x[n + i];
    }
    free(x);
    return difference == 0 ? 0 : sqrt(difference / size);
}

static double worst_error(struct bench *b, const struct variant *v, const struct collector *replayed, size_t *row,
                          bool fault)
{
    struct err err = { 0 };
    struct collector full;
    const struct prompt *p = &b->prompts[v->run];
    struct edit_list edits = joined(b, v, fault);
    unsigned char wanted[MOST_TOKENS];
    size_t n_wanted;
    double worst = 0;
    must(positions_resolve(&b->plan.wanted, p, wanted, &n_wanted, &err), &err);
    must(collector_init(&full, &b->reads, runtime_precision(b->rt), &err), &err);
    must(collector_begin(&full, p, 1, wanted, &err), &err);
    struct forward f = {
        .prompts = p,
        .n_prompts = 1,
        .reads = &b->reads,
        .edits = &edits,
        .sink = &full.sink,
        .source = replay_base(b->replay),
        .source_prompts = b->prompts,
        .first_run = v->run,
    };
    must(runtime_forward(b->rt, &f, &err), &err);
    struct site_ref ref;
    for (size_t cursor = 0; site_set_next(&b->reads, &cursor, &ref);) {
        size_t n = site_row_size(ref.site, &b->m->config);
        size_t bytes = n * (runtime_precision(b->rt) == PRECISION_F64 ? sizeof(double) : sizeof(float));
        const char *x = collector_rows(replayed, ref.site, ref.layer), *y = collector_rows(&full, ref.site, ref.layer);
        for (size_t i = 0; i < n_wanted; i++) {
            double error = row_error(x + (*row + i) * bytes, y + i * bytes, runtime_precision(b->rt), n);
            worst = error > worst || isnan(error) ? error : worst;
        }
    }
    *row += n_wanted;
    collector_release(&full);
    free(edits.edits);
    return worst;
}

/* What a failure prints. */
static void describe(const struct bench *b, const struct variant *v)
{
    const struct prompt *p = &b->prompts[v->run];
    fprintf(stderr, "# run %zu of %zu tokens, subject %zu-%zu; wanted %d\n", v->run, p->n_tokens, p->subject_begin,
            p->subject_end, (int)b->plan.wanted.kind);
    for (size_t i = 0; i < v->edits->n; i++) {
        const struct edit *e = &v->edits->edits[i];
        fprintf(stderr, "# %s layers %zu-%zu at %d keys %d op %d %g source %d run %zd from %s layer %zd\n",
                site_row(e->site)->name, e->first_layer, e->last_layer, (int)e->at.kind, (int)e->keys.kind, (int)e->op,
                e->value, (int)e->source, (ptrdiff_t)e->run, site_row(e->from_site)->name, (ptrdiff_t)e->from_layer);
    }
    struct site_ref ref;
    char name[SITE_NAME_MAX];
    for (size_t cursor = 0; site_set_next(&b->reads, &cursor, &ref);)
        fprintf(stderr, "# reads %s\n", site_name(ref, name));
}

/* Variants whose replay is not the full run; without a fault there must be none. */
static size_t differing(struct model *m, enum precision precision, uint64_t seed, bool fault)
{
    struct bench b;
    struct err err = { 0 };
    struct edit_list lists[N_VARIANTS] = { { NULL, 0, 0 } };
    struct variant variants[N_VARIANTS];
    struct collector replayed;
    size_t row = 0;
    open_bench(&b, m, precision, seed);
    struct random_source before = b.random;
    for (size_t i = 0; i < N_VARIANTS; i++) {
        /* Three of four begin like the one before: the same draws again, then another end. */
        bool again = i % 4;
        struct random_source now = b.random;
        b.random = again ? before : now;
        before = b.random;
        variants[i] = (struct variant){ .run = below(&b, N_PROMPTS), .edits = &lists[i] };
        for (size_t n = below(&b, 4); n; n--)
            random_edit(&b, &lists[i], &b.prompts[variants[i].run]);
        if (again)
            end_otherwise(&b, &lists[i], &b.prompts[variants[i].run]);
        b.random = again ? now : b.random;
    }
    must(collector_init(&replayed, &b.reads, precision, &err), &err);
    must(replay_collect(b.replay, variants, N_VARIANTS, &replayed, NULL, &err), &err);
    size_t n_different = 0;
    for (size_t i = 0; i < N_VARIANTS; i++) {
        double error = worst_error(&b, &variants[i], &replayed, &row, fault);
        if (error <= (precision == PRECISION_F64 ? 1e-10 : 1e-5))
            continue;
        n_different++;
        if (!fault) {
            describe(&b, &variants[i]);
            fail_msg("seed %llu, variant %zu: replay and full run differ by %g", (unsigned long long)seed, i, error);
        }
    }
    collector_release(&replayed);
    for (size_t i = 0; i < N_VARIANTS; i++)
        edit_list_release(&lists[i]);
    close_bench(&b);
    return n_different;
}

static void compare_many(enum precision precision)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        struct err err = { 0 };
        struct model *m = NULL;
        must(model_open(&m, models[i], pool, &err), &err);
        for (uint64_t seed = 1; seed <= (i < 4 ? 12 : 6); seed++)
            assert_int_equal(differing(m, precision, 100 * i + seed, false), 0);
        model_free(m);
    }
}

static void replay_equals_a_full_run_in_float(void **state)
{
    (void)state;
    compare_many(PRECISION_F32);
}

static void replay_equals_a_full_run_in_double(void **state)
{
    (void)state;
    compare_many(PRECISION_F64);
}

/* The comparison can fail: where the full run leaves out each variant's last edit, most that have one differ. */
static void a_left_out_edit_is_seen(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct model *m = NULL;
    must(model_open(&m, MODELS "gpt2", pool, &err), &err);
    assert_in_range(differing(m, PRECISION_F64, 201, true), N_VARIANTS / 3, N_VARIANTS);
    model_free(m);
}

/* Rows that a plain pass is asked for are the same whether the last layer computes the others or not. */
static void read_rows_of_a_plain_pass_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct bench b;
        struct err err = { 0 };
        struct model *m = NULL;
        struct collector all, some;
        unsigned char keep[N_PROMPTS * MOST_TOKENS] = { 0 };
        struct site_ref last = { SITE_RESID_POST, 0 };
        must(model_open(&m, models[i], pool, &err), &err);
        open_bench(&b, m, PRECISION_F64, 7 + i);
        last.layer = m->config.n_layers - 1;
        site_set_add_one(&b.reads, last);
        for (size_t p = 0, row = 0; p < N_PROMPTS; row += b.prompts[p++].n_tokens) {
            keep[row] = 1;
            keep[row + b.prompts[p].n_tokens - 1] = 1;
        }
        for (int narrow = 0; narrow < 2; narrow++) {
            struct collector *c = narrow ? &some : &all;
            must(collector_init(c, &b.reads, PRECISION_F64, &err), &err);
            must(collector_begin(c, b.prompts, N_PROMPTS, keep, &err), &err);
            struct forward f = { .prompts = b.prompts, .n_prompts = N_PROMPTS, .reads = &b.reads, .sink = &c->sink };
            f.read_rows = narrow ? keep : NULL;
            must(runtime_forward(b.rt, &f, &err), &err);
        }
        assert_int_equal(all.n_kept, 2 * N_PROMPTS);
        struct site_ref ref;
        for (size_t cursor = 0; site_set_next(&b.reads, &cursor, &ref);) {
            size_t n = all.n_kept * site_row_size(ref.site, &m->config);
            const double *x = collector_rows(&all, ref.site, ref.layer),
                         *y = collector_rows(&some, ref.site, ref.layer);
            for (size_t k = 0; k < n; k++)
                assert_true(fabs(x[k] - y[k]) <= 1e-12 * (1 + fabs(x[k])));
        }
        collector_release(&all);
        collector_release(&some);
        close_bench(&b);
        model_free(m);
    }
}

/* --- how little is computed --- */

/* The golden llama_a with one prompt of ten tokens, subject 2-4, reading the last token's logits. */
static void open_small(struct bench *b, struct model **m)
{
    struct err err = { 0 };
    *b = (struct bench){ 0 };
    must(model_open(m, MODELS "llama_a", pool, &err), &err);
    b->m = *m;
    must(runtime_create(&b->rt, *m, pool, PRECISION_F32, &err), &err);
    must(site_set_init(&b->reads, &(*m)->config, &err), &err);
    must(site_set_init(&b->sources, &(*m)->config, &err), &err);
    must(site_set_add(&b->reads, "logits", &err), &err);
    must(site_set_add(&b->sources, "*", &err), &err);
    for (size_t i = 0; i < 2; i++) {
        for (size_t t = 0; t < 10; t++)
            b->tokens[i][t] = (int32_t)(3 + t * 5 + (t == 4 ? i : 0));
        b->prompts[i] = (struct prompt){ .tokens = b->tokens[i], .n_tokens = 10, .subject_begin = 2, .subject_end = 5 };
    }
    b->plan = (struct replay_plan){
        .prompts = b->prompts,
        .n_prompts = 2,
        .sources = &b->sources,
        .reads = &b->reads,
        .wanted = { .kind = POSITIONS_LAST },
    };
    must(replay_create(&b->replay, b->rt, &b->plan, &err), &err);
}

/* Row-layers that one variant with this edit costs. */
static size_t cost(struct bench *b, const char *text)
{
    struct err err = { 0 };
    struct edit_list edits = { NULL, 0, 0 };
    struct collector c;
    if (*text)
        must(edit_parse(&edits, text, &b->m->config, &err), &err);
    struct variant v = { .run = 0, .edits = &edits };
    must(collector_init(&c, &b->reads, PRECISION_F32, &err), &err);
    must(replay_collect(b->replay, &v, 1, &c, NULL, &err), &err);
    collector_release(&c);
    edit_list_release(&edits);
    return replay_row_layers(b->replay);
}

/* Row-layers of two variants in one replay. */
static size_t cost_of_two(struct bench *b, const char *first, const char *second)
{
    struct err err = { 0 };
    const char *texts[] = { first, second };
    struct edit_list edits[2] = { { NULL, 0, 0 }, { NULL, 0, 0 } };
    struct variant variants[2];
    struct collector c;
    for (size_t i = 0; i < 2; i++) {
        must(edit_parse(&edits[i], texts[i], &b->m->config, &err), &err);
        variants[i] = (struct variant){ .run = 0, .edits = &edits[i] };
    }
    must(collector_init(&c, &b->reads, PRECISION_F32, &err), &err);
    must(replay_collect(b->replay, variants, 2, &c, NULL, &err), &err);
    collector_release(&c);
    edit_list_release(&edits[0]);
    edit_list_release(&edits[1]);
    return replay_row_layers(b->replay);
}

static void variants_that_begin_alike_are_one_until_they_differ(void **state)
{
    (void)state;
    struct bench b;
    struct model *m;
    open_small(&b, &m);
    size_t layers = m->config.n_layers;
    assert_int_equal(cost_of_two(&b, "attn_scores:0@last<-subject block", "attn_scores:0-2@last<-subject block"),
                     layers + layers - 1);
    assert_int_equal(cost_of_two(&b, "z:0@last#1 zero", "z:0@last#1 zero"), layers + 1);
    /* Other heads, tokens, values or sites are others from the start. */
    assert_int_equal(cost_of_two(&b, "z:0@last#1 zero", "z:0@last#0 zero"), 2 * layers);
    assert_int_equal(cost_of_two(&b, "z:0@last#1 set 1", "z:0@last#1 set 2"), 2 * layers);
    assert_int_equal(cost_of_two(&b, "z:0@last zero", "attn_out:0@last zero"), 2 * layers);
    assert_int_equal(cost_of_two(&b, "attn_scores:0@last<-2 block", "attn_scores:0@last<-3 block"), 2 * layers);
    close_bench(&b);
    model_free(m);
}

static void only_what_can_change_is_computed(void **state)
{
    (void)state;
    struct bench b;
    struct model *m;
    open_small(&b, &m);
    size_t layers = m->config.n_layers;
    assert_true(layers >= 3);
    assert_int_equal(cost(&b, ""), 0);
    assert_int_equal(cost(&b, "mlp_out:0@subject scale 1") + cost(&b, "resid_pre:1 add 0"), 0);
    /* The last query alone. */
    assert_int_equal(cost(&b, "attn_scores:1@last<-subject block"), layers - 1);
    assert_int_equal(cost(&b, "z:0@last#1 zero"), layers);
    /* A key after the query is masked anyway. */
    assert_int_equal(cost(&b, "attn_scores:1@2<-7 block"), 0);
    /* One row where it is edited, every later one above. */
    assert_int_equal(cost(&b, "attn_out:0@4 zero"), 1 + (layers - 1) * 6);
    /* Keys and values reach later queries in the same layer. */
    assert_int_equal(cost(&b, "v:1@4 zero"), (layers - 1) * 6);
    assert_int_equal(cost(&b, "hook_embed@0 zero"), layers * 10);
    /* Nothing reads it any more. */
    char text[64];
    snprintf(text, sizeof text, "resid_post:%zu@4 zero", layers - 1);
    assert_int_equal(cost(&b, text), 0);
    snprintf(text, sizeof text, "k:%zu@4 zero", layers - 1);
    assert_int_equal(cost(&b, text), 6);
    close_bench(&b);
    model_free(m);
}

/*
 * Patches what enters a layer from run `run`, at token 2 (the same in both prompts) or 4 (not). Above layer 0 the same
 * token need not have the same bits in two prompts: some BLAS kernels sum a product's last rows in another order.
 */
static size_t patch_cost(struct bench *b, size_t run, size_t layer, size_t token)
{
    struct err err = { 0 };
    struct range at = { token, token };
    struct edit e = {
        .site = SITE_RESID_PRE,
        .first_layer = layer,
        .last_layer = layer,
        .at = { .kind = POSITIONS_NUMBERS, .ranges = &at, .n_ranges = 1 },
        .op = EDIT_SET,
        .source = EDIT_FROM_RUN,
        .run = run,
        .from_site = SITE_RESID_PRE,
        .from_layer = EDIT_SAME_LAYER,
        .from_same = true,
    };
    struct edit_list edits = { .edits = &e, .n = 1 };
    struct collector c;
    struct variant v = { .run = 0, .edits = &edits };
    must(collector_init(&c, &b->reads, PRECISION_F32, &err), &err);
    must(replay_collect(b->replay, &v, 1, &c, NULL, &err), &err);
    collector_release(&c);
    return replay_row_layers(b->replay);
}

static void patches_with_what_is_there_cost_nothing(void **state)
{
    (void)state;
    struct bench b;
    struct model *m;
    open_small(&b, &m);
    assert_int_equal(patch_cost(&b, EDIT_OWN_RUN, 1, 4), 0);
    assert_int_equal(patch_cost(&b, 1, 0, 2), 0);
    assert_int_equal(patch_cost(&b, 1, 0, 4), m->config.n_layers * 6);
    assert_int_equal(patch_cost(&b, 1, 1, 4), (m->config.n_layers - 1) * 6);
    close_bench(&b);
    model_free(m);
}

/* --- slices, interruption, refusals --- */

struct stopper {
    struct progress progress; /* first */
    uint64_t done, calls;
};

static int stop(struct progress *self, uint64_t done, uint64_t total)
{
    struct stopper *s = (struct stopper *)(void *)self;
    s->done = done;
    s->calls++;
    return done < total;
}

static int count_rows(struct sink *self, const struct site_view *v, struct err *err)
{
    (void)self, (void)err;
    assert_true(v->n_rows > 0);
    return 0;
}

static void large_experiments_run_in_slices_and_stop_between_them(void **state)
{
    (void)state;
    struct bench b;
    struct model *m;
    struct err err = { 0 };
    struct edit_list edits = { NULL, 0, 0 };
    enum { MANY = 500 };
    struct variant variants[MANY];
    struct stopper stopper = { .progress.step = stop };
    struct sink sink = { count_rows };
    open_small(&b, &m);
    must(edit_parse(&edits, "hook_embed@0 add 0.25", &m->config, &err), &err);
    for (size_t i = 0; i < MANY; i++)
        variants[i] = (struct variant){ .run = i % 2, .edits = &edits };
    assert_int_equal(replay_run(b.replay, variants, MANY, &sink, &stopper.progress, &err), ERR_INTERRUPTED);
    assert_int_equal(stopper.calls, 1);
    assert_in_range(stopper.done, 50, MANY - 1);
    edit_list_release(&edits);
    close_bench(&b);
    model_free(m);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct bench b;
    struct model *m;
    struct err err = { 0 };
    struct edit_list edits = { NULL, 0, 0 };
    struct sink sink = { count_rows };
    struct replay *r = NULL;
    open_small(&b, &m);
    struct variant v = { .run = 2, .edits = &edits };
    assert_int_equal(replay_run(b.replay, &v, 1, &sink, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "run 2"));
    must(edit_parse(&edits, "resid_post:0@12 zero", &m->config, &err), &err);
    v.run = 0;
    assert_int_equal(replay_run(b.replay, &v, 1, &sink, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "no position 12"));
    edit_list_release(&edits);
    struct site_set squares;
    must(site_set_init(&squares, &m->config, &err), &err);
    must(site_set_add(&squares, "pattern:0", &err), &err);
    struct replay_plan plan = b.plan;
    plan.reads = &squares;
    assert_int_equal(replay_create(&r, b.rt, &plan, &err), ERR_UNSUPPORTED);
    site_set_release(&squares);
    close_bench(&b);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_equals_a_full_run_in_float),
        cmocka_unit_test(replay_equals_a_full_run_in_double),
        cmocka_unit_test(a_left_out_edit_is_seen),
        cmocka_unit_test(read_rows_of_a_plain_pass_are_exact),
        cmocka_unit_test(only_what_can_change_is_computed),
        cmocka_unit_test(variants_that_begin_alike_are_one_until_they_differ),
        cmocka_unit_test(patches_with_what_is_there_cost_nothing),
        cmocka_unit_test(large_experiments_run_in_slices_and_stop_between_them),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    struct err err = { 0 };
    if (pool_create(&pool, 2, &err))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pool_free(pool);
    return failed;
}
