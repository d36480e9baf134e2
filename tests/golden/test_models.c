/*
 * Every site of every golden model against fp64 (make_model_references.py): all families and file formats, float and
 * double, prompts alone and in one batch. Then the same against itself: batches, caches, repeated runs; and faults,
 * planted in the weights, that must be seen.
 */
#include "tests/golden/families.h"
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "core/runtime/collect.h"

#include <math.h>

/* Float: the contract; the worst row of all is at 2e-6. */
#define FLOAT_BOUND 1e-5
static const struct {
    const char *name;
    double bound[2];
} models[] = {
#define X(name, bound) { name, { FLOAT_BOUND, bound } },
    GOLDEN_ALL(X)
#undef X
};
enum { N_MODELS = sizeof models / sizeof *models };

/* What was measured, for the table of families (make families). */
static struct {
    char family[32], format[32];
    size_t n_sites;
    double worst[2];
} measured[N_MODELS];

struct run {
    struct model *model;
    struct runtime *rt;
    struct site_set reads;
    struct collector sites;
    struct references refs;
};

static void open_run(struct run *run, const char *name, enum precision precision, const char *filter)
{
    char path[256];
    struct err err = { 0 };
    references_open(&run->refs, name);
    must(model_open(&run->model, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&run->rt, run->model, pool, precision, &err), &err);
    must(site_set_init(&run->reads, &run->model->config, &err), &err);
    must(site_set_add(&run->reads, filter, &err), &err);
    must(collector_init(&run->sites, &run->reads, precision, &err), &err);
}

static void close_run(struct run *run)
{
    collector_release(&run->sites);
    site_set_release(&run->reads);
    runtime_free(run->rt);
    model_free(run->model);
    references_close(&run->refs);
}

static void forward(struct run *run, size_t first_prompt, size_t n_prompts, struct kv_cache *cache)
{
    struct err err = { 0 };
    const struct prompt *prompts = run->refs.prompts + first_prompt;
    must(collector_begin(&run->sites, prompts, n_prompts, NULL, &err), &err);
    struct forward f = {
        .prompts = prompts, .n_prompts = n_prompts, .reads = &run->reads, .sink = &run->sites.sink, .cache = cache
    };
    must(runtime_forward(run->rt, &f, &err), &err);
}

/* --- comparison with the references --- */

struct worst {
    double error;
    size_t row; /* of the packed prompts */
};

struct norms {
    double difference, reference; /* squared */
};

/* n numbers more; masked edges (-inf) must be the same ones. */
static void add_norms(struct norms *norms, const struct run *run, const void *data, size_t first,
                      const struct tensor *ref, size_t ref_first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double a, b = references_number(ref, ref_first + i);
        collector_widen(data, run->sites.precision, first + i, 1, &a);
        if (isinf(b) && a == b)
            continue;
        norms->difference += (a - b) * (a - b);
        norms->reference += b * b;
    }
}

/* ||a - b|| / ||b|| */
static double relative_error(struct norms norms)
{
    return norms.reference > 0 ? sqrt(norms.difference / norms.reference) : sqrt(norms.difference);
}

static void take_worst(struct worst *worst, double error, size_t row)
{
    if (!(error <= worst->error)) /* also NaN */
        *worst = (struct worst){ error, row };
}

static void compare_rows(const struct run *run, struct site_ref site, const char *name, size_t prompt, size_t first_row,
                         size_t end_row, struct worst *worst)
{
    const struct references *refs = &run->refs;
    const struct tensor *ref = references_find(refs, name);
    size_t size = site_row_size(site.site, &run->model->config), offset = refs->token_offset[prompt];
    const void *data = collector_rows(&run->sites, site.site, site.layer);
    assert_int_equal(ref->n, refs->n_rows * size);
    for (size_t r = 0; r < refs->n_rows; r++)
        if (refs->rows[r] >= first_row && refs->rows[r] < end_row) {
            struct norms norms = { 0 };
            add_norms(&norms, run, data, (refs->rows[r] - offset) * size, ref, r * size, size);
            take_worst(worst, relative_error(norms), refs->rows[r]);
        }
}

/* Prompt number `prompt`, which is number `at` of the run; the reference holds [heads, stored queries, keys]. */
static void compare_edges(const struct run *run, struct site_ref site, const char *name, size_t prompt, size_t at,
                          struct worst *worst)
{
    const struct references *refs = &run->refs;
    char numbered[SITE_NAME_MAX + 8];
    size_t first = refs->token_offset[prompt], n = refs->token_offset[prompt + 1] - first, stored = 0, r = 0;
    size_t n_heads = run->model->config.n_heads;
    const void *data = collector_edges(&run->sites, site.site, site.layer, at);
    while (r < refs->n_rows && refs->rows[r] < first)
        r++;
    while (r + stored < refs->n_rows && refs->rows[r + stored] < first + n)
        stored++;
    if (!stored)
        return;
    snprintf(numbered, sizeof numbered, "%s.%zu", name, prompt);
    const struct tensor *ref = references_find(refs, numbered);
    assert_int_equal(ref->n, n_heads * stored * n);
    for (size_t s = 0; s < stored; s++) {
        struct norms norms = { 0 };
        size_t query = refs->rows[r + s] - first;
        for (size_t h = 0; h < n_heads; h++)
            add_norms(&norms, run, data, (h * n + query) * n, ref, (h * stored + s) * n, n);
        take_worst(worst, relative_error(norms), refs->rows[r + s]);
    }
}

/* The worst row of all sites; prints every site beyond the bound. n_sites: how many were compared. */
static double compare(const struct run *run, const char *model, size_t first_prompt, size_t n_prompts, double bound,
                      size_t *n_sites)
{
    const struct references *refs = &run->refs;
    struct site_ref site;
    double worst_of_all = 0;
    *n_sites = 0;
    for (size_t cursor = 0; site_set_next(&run->reads, &cursor, &site); ++*n_sites) {
        char name[SITE_NAME_MAX];
        struct worst worst = { 0 };
        site_name(site, name);
        if (site_row(site.site)->axes == AXES_EDGES)
            for (size_t i = 0; i < n_prompts; i++)
                compare_edges(run, site, name, first_prompt + i, i, &worst);
        else
            compare_rows(run, site, name, first_prompt, refs->token_offset[first_prompt],
                         refs->token_offset[first_prompt + n_prompts], &worst);
        if (!(worst.error <= bound) && bound > 0)
            print_error("%s (%s): %s: relative error %.2e at row %zu\n", model, run->model->file_format, name,
                        worst.error, worst.row);
        if (!(worst.error <= worst_of_all))
            worst_of_all = worst.error;
    }
    return worst_of_all;
}

static void every_site_equals_fp64(enum precision precision)
{
    for (size_t m = 0; m < N_MODELS; m++) {
        struct run run;
        size_t n_sites;
        double bound = models[m].bound[precision];
        open_run(&run, models[m].name, precision, "*");
        forward(&run, 0, run.refs.n_prompts, NULL);
        double worst = compare(&run, models[m].name, 0, run.refs.n_prompts, bound, &n_sites);
        for (size_t i = 0; i < run.refs.n_prompts; i++) {
            forward(&run, i, 1, NULL);
            double alone = compare(&run, models[m].name, i, 1, bound, &n_sites);
            worst = alone <= worst ? worst : alone;
        }
        snprintf(measured[m].family, sizeof measured[m].family, "%s", run.model->architecture);
        snprintf(measured[m].format, sizeof measured[m].format, "%s", run.model->file_format);
        measured[m].n_sites = n_sites;
        measured[m].worst[precision] = worst;
        if (!(worst <= bound))
            fail_msg("%s: worst relative error %.2e, bound %.0e", models[m].name, worst, bound);
        close_run(&run);
    }
}

static void every_site_equals_fp64_in_float(void **state)
{
    (void)state;
    every_site_equals_fp64(PRECISION_F32);
}

static void every_site_equals_fp64_in_double(void **state)
{
    (void)state;
    every_site_equals_fp64(PRECISION_F64);
}

/* docs/families.md, where $FAMILIES_TABLE says so. */
static int write_table(void)
{
    const char *path = getenv("FAMILIES_TABLE");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f)
        return path != NULL;
    fputs(
        "# Families, as tested\n\n"
        "Each line is a tiny random model of `tests/golden/models`, every site of which is compared with the\n"
        "transformers library in double precision: the relative error ||a - b|| / ||b|| of the worst row of the worst\n"
        "site, over short and long prompts, alone and in one batch. Written by `make families`.\n\n"
        "| family | model | file | sites | worst, f32 | worst, f64 |\n|---|---|---|---:|---:|---:|\n",
        f);
    for (size_t m = 0; m < N_MODELS; m++)
        fprintf(f, "| %s | %s | %s | %zu | %.1e | %.1e |\n", measured[m].family, models[m].name, measured[m].format,
                measured[m].n_sites, measured[m].worst[PRECISION_F32], measured[m].worst[PRECISION_F64]);
    return fclose(f);
}

/* Nothing that the table of sites has is left out of the references, and nothing in them is left unread. */
static void references_cover_every_site(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct run run;
        size_t n_read = 0, n_stored = 0;
        open_run(&run, models[m].name, PRECISION_F32, "*");
        for (enum site site = 0; site < N_SITES; site++)
            if (!site_missing(site, &run.model->config))
                n_read += site_row(site)->per_layer ? run.model->config.n_layers : 1;
        assert_int_equal(site_set_count(&run.reads), n_read);
        for (size_t i = 0; i < run.refs.set.n; i++) {
            char name[128];
            struct site_ref site;
            struct err err = { 0 };
            snprintf(name, sizeof name, "%s", run.refs.set.tensors[i].name);
            if (!strncmp(name, "lens.", 5) || !strcmp(name, "tokens") || !strcmp(name, "token_offset") ||
                !strcmp(name, "rows"))
                continue;
            char *last = strrchr(name, '.');
            if (last && strspn(last + 1, "0123456789") == strlen(last + 1)) /* edges, one tensor a prompt */
                *last = '\0';
            must(site_parse(name, &run.model->config, &site, &err), &err);
            n_stored += last && !*last ? strtoul(last + 1, NULL, 10) == run.refs.n_prompts - 1 : 1;
        }
        assert_int_equal(n_stored, n_read);
        close_run(&run);
    }
}

/* --- faults --- */

struct fault {
    const char *what, *model;
    void (*plant)(struct model *m, float *spare);
};

static void swap_query_heads(struct model *m, float *spare)
{
    struct matrix *q = &m->layers[1].q;
    size_t n = m->config.d_head * q->n_in;
    memcpy(spare, q->data, q->n_out * q->n_in * sizeof *spare);
    memcpy(spare, q->data + n, n * sizeof *spare);
    memcpy(spare + n, q->data, n * sizeof *spare);
    q->data = spare;
}

static void change_one_weight(struct model *m, float *spare)
{
    struct matrix *down = &m->layers[0].mlp.down;
    memcpy(spare, down->data, down->n_out * down->n_in * sizeof *spare);
    spare[7] *= 1.001F;
    down->data = spare;
}

static void drop_a_bias(struct model *m, float *spare)
{
    (void)spare;
    m->layers[1].o_bias = NULL;
}

static void widen_the_window(struct model *m, float *spare)
{
    (void)spare;
    m->layers[0].window++;
}

static void change_epsilon(struct model *m, float *spare)
{
    (void)spare;
    m->config.norm_eps *= 1.01;
}

static void change_one_frequency(struct model *m, float *spare)
{
    (void)spare;
    m->ropes[0].frequency[1] *= 1 + 1e-5;
}

static void use_the_other_gelu(struct model *m, float *spare)
{
    (void)spare;
    m->config.activation = ACTIVATION_GELU_ERF;
}

static void steepen_a_slope(struct model *m, float *spare)
{
    (void)spare;
    m->alibi[2] *= 1.001;
}

static void swap_gate_and_up(struct model *m, float *spare)
{
    struct mlp_weights *w = &m->layers[1].mlp;
    struct matrix gate = w->gate;
    (void)spare;
    w->gate = w->up;
    w->up = gate;
}

static void do_not_scale_the_embedding(struct model *m, float *spare)
{
    (void)spare;
    m->config.embed_scale = 1;
}

static void lift_the_cap(struct model *m, float *spare)
{
    (void)spare;
    m->config.attn_softcap *= 1.001;
}

static void use_one_expert_less(struct model *m, float *spare)
{
    (void)spare;
    m->config.n_experts_used--;
}

static void rotate_everywhere(struct model *m, float *spare)
{
    (void)spare;
    m->layers[1].rope = 0;
}

static void rotate_halves(struct model *m, float *spare)
{
    (void)spare;
    m->config.rotary_pairs = false;
}

static void norm_heads_one_by_one(struct model *m, float *spare)
{
    (void)spare;
    m->config.qk_norm_whole = false;
}

static void clip_a_little_later(struct model *m, float *spare)
{
    (void)spare;
    m->config.qkv_clip *= 1.01;
}

static void add_sublayers_whole(struct model *m, float *spare)
{
    (void)spare;
    m->config.residual_scale *= 1.001;
}

static void planted_faults_are_seen(void **state)
{
    static const struct fault faults[] = {
        { "two heads of q swapped", "llama_a", swap_query_heads },
        { "one weight off by a thousandth", "llama_b", change_one_weight },
        { "no output bias", "llama_a", drop_a_bias },
        { "window one key wider", "mistral", widen_the_window },
        { "epsilon off by a hundredth", "llama_a", change_epsilon },
        { "one rotary frequency off by 1e-5", "qwen2", change_one_frequency },
        { "exact gelu for the tanh form", "gpt2", use_the_other_gelu },
        { "one slope off by a thousandth", "mpt", steepen_a_slope },
        { "gate and up swapped", "phi3", swap_gate_and_up },
        { "embedding not scaled", "gemma", do_not_scale_the_embedding },
        { "cap off by a thousandth", "gemma2", lift_the_cap },
        { "one expert less", "qwen2_moe", use_one_expert_less },
        { "rotary in a layer without", "smollm3", rotate_everywhere },
        { "halves for pairs", "gptj", rotate_halves },
        { "queries normalised by head", "olmo2", norm_heads_one_by_one },
        { "clip off by a hundredth", "olmo", clip_a_little_later },
        { "residual factor off by a thousandth", "granite", add_sublayers_whole },
    };
    static float spare[1 << 16];
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct run run;
        size_t n_sites;
        open_run(&run, faults[i].model, PRECISION_F32, "*");
        faults[i].plant(run.model, spare);
        forward(&run, 0, run.refs.n_prompts, NULL);
        double worst = compare(&run, faults[i].model, 0, run.refs.n_prompts, 0, &n_sites);
        if (worst <= FLOAT_BOUND)
            fail_msg("%s in %s: not seen, worst relative error %.2e", faults[i].what, faults[i].model, worst);
        close_run(&run);
    }
}

/* --- the runtime against itself --- */

/* ||a - b|| / ||b|| of two float arrays. */
static double difference(const float *a, const float *b, size_t n)
{
    double d = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (a[i] == b[i]) /* also -inf */
            continue;
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 ? sqrt(d / norm) : sqrt(d);
}

static void a_prompt_is_the_same_alone_and_in_a_batch(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct run batch, alone;
        open_run(&batch, models[m].name, PRECISION_F32, "*");
        open_run(&alone, models[m].name, PRECISION_F32, "*");
        forward(&batch, 0, batch.refs.n_prompts, NULL);
        for (size_t i = 0; i < batch.refs.n_prompts; i++) {
            struct site_ref site;
            size_t first = batch.refs.token_offset[i], n = batch.refs.token_offset[i + 1] - first;
            forward(&alone, i, 1, NULL);
            for (size_t cursor = 0; site_set_next(&batch.reads, &cursor, &site);) {
                size_t size = site_row_size(site.site, &batch.model->config);
                bool edges = site_row(site.site)->axes == AXES_EDGES;
                const float *a = collector_rows(&alone.sites, site.site, site.layer), *b;
                b = edges ? collector_edges(&batch.sites, site.site, site.layer, i)
                          : (const float *)collector_rows(&batch.sites, site.site, site.layer) + first * size;
                double d = difference(a, b, edges ? size * n * n : n * size);
                if (!(d < 1e-5))
                    fail_msg("%s: %s: alone and in a batch differ by %.2e", models[m].name, site_row(site.site)->name,
                             d);
            }
        }
        close_run(&batch);
        close_run(&alone);
    }
}

/* Logits and residuals of the longest prompt, fed as pieces of these sizes again and again. */
static void compare_cached(struct run *run, const struct run *whole, const char *name, size_t piece)
{
    struct err err = { 0 };
    struct kv_cache *cache;
    size_t prompt = run->refs.n_prompts - 1;
    struct prompt full = whole->refs.prompts[prompt];
    must(kv_cache_create(&cache, run->rt, full.n_tokens, &err), &err);
    for (size_t first = 0; first < full.n_tokens; first += piece) {
        struct prompt *part = &run->refs.prompts[prompt];
        part->tokens = full.tokens + first;
        part->n_tokens = full.n_tokens - first < piece ? full.n_tokens - first : piece;
        forward(run, prompt, 1, cache);
        assert_int_equal(kv_cache_tokens(cache), first + part->n_tokens);
        struct site_ref site;
        for (size_t cursor = 0; site_set_next(&run->reads, &cursor, &site);) {
            size_t size = site_row_size(site.site, &run->model->config);
            const float *b = collector_rows(&whole->sites, site.site, site.layer);
            double d =
                difference(collector_rows(&run->sites, site.site, site.layer), b + first * size, part->n_tokens * size);
            if (!(d < 1e-5))
                fail_msg("%s: %s of tokens %zu..: a cache of pieces of %zu differs by %.2e", name,
                         site_row(site.site)->name, first, piece, d);
        }
    }
    kv_cache_free(cache);
}

/* Encoders do. */
static bool refuses_a_cache(const char *name)
{
    struct run run;
    struct err err = { 0 };
    struct kv_cache *none;
    open_run(&run, name, PRECISION_F32, "resid_post");
    bool encoder = run.model->config.bidirectional;
    if (encoder)
        assert_int_equal(kv_cache_create(&none, run.rt, 8, &err), ERR_UNSUPPORTED);
    close_run(&run);
    return encoder;
}

static void a_cached_run_equals_the_whole_prompt(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct run whole, cached;
        if (refuses_a_cache(models[m].name))
            continue;
        open_run(&whole, models[m].name, PRECISION_F32, "resid_post,z,logits");
        if (whole.model->ropes[0].n_short < whole.refs.prompts[whole.refs.n_prompts - 1].n_tokens) {
            close_run(&whole);
            continue;
        }
        forward(&whole, whole.refs.n_prompts - 1, 1, NULL);
        for (size_t piece = 1; piece <= 33; piece += 16) {
            open_run(&cached, models[m].name, PRECISION_F32, "resid_post,z,logits");
            compare_cached(&cached, &whole, models[m].name, piece);
            close_run(&cached);
        }
        close_run(&whole);
    }
}

/* longrope: keys in the cache were rotated for short prompts. */
static void a_cache_is_not_continued_where_angles_change(void **state)
{
    struct run run;
    struct kv_cache *cache;
    struct err err = { 0 };
    (void)state;
    open_run(&run, "phi3_long", PRECISION_F32, "logits");
    struct prompt whole = run.refs.prompts[run.refs.n_prompts - 1], *part = &run.refs.prompts[run.refs.n_prompts - 1];
    must(kv_cache_create(&cache, run.rt, whole.n_tokens, &err), &err);
    part->n_tokens = 40;
    forward(&run, run.refs.n_prompts - 1, 1, cache);
    part->tokens += 40;
    part->n_tokens = 1;
    must(collector_begin(&run.sites, part, 1, NULL, &err), &err);
    struct forward f = {
        .prompts = part, .n_prompts = 1, .reads = &run.reads, .sink = &run.sites.sink, .cache = cache
    };
    assert_message(runtime_forward(run.rt, &f, &err), &err, "more than 40 tokens|40 in the cache");
    kv_cache_free(cache);
    close_run(&run);
}

static void the_same_run_gives_the_same_bytes(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct run run, again;
        struct site_ref site;
        open_run(&run, models[m].name, PRECISION_F32, "*");
        open_run(&again, models[m].name, PRECISION_F32, "*");
        forward(&run, 0, run.refs.n_prompts, NULL);
        forward(&again, 0, run.refs.n_prompts, NULL);
        forward(&again, 0, run.refs.n_prompts, NULL); /* the second run of a runtime, with its memory as it was left */
        for (size_t cursor = 0; site_set_next(&run.reads, &cursor, &site);) {
            size_t n = run.refs.n_tokens * site_row_size(site.site, &run.model->config);
            if (site_row(site.site)->axes == AXES_EDGES)
                n = run.sites.edge_offset[run.refs.n_prompts];
            if (memcmp(collector_rows(&run.sites, site.site, site.layer),
                       collector_rows(&again.sites, site.site, site.layer), n * sizeof(float)))
                fail_msg("%s: %s differs from run to run", models[m].name, site_row(site.site)->name);
        }
        close_run(&run);
        close_run(&again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_cover_every_site),
        cmocka_unit_test(every_site_equals_fp64_in_float),
        cmocka_unit_test(every_site_equals_fp64_in_double),
        cmocka_unit_test(planted_faults_are_seen),
        cmocka_unit_test(a_prompt_is_the_same_alone_and_in_a_batch),
        cmocka_unit_test(a_cached_run_equals_the_whole_prompt),
        cmocka_unit_test(a_cache_is_not_continued_where_angles_change),
        cmocka_unit_test(the_same_run_gives_the_same_bytes),
    };
    int failed = cmocka_run_group_tests_name("models", tests, open_pool, close_pool);
    return failed ? failed : write_table();
}
