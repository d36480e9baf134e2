/* Dump files from hand-made batches: types, chosen rows and heads, squares of attention, overflow, missing sites, diff.
 */
#include "core/base/half.h"
#include "core/store/dump_data.h"
#include "core/store/dump_file.h"
#include "probes/dump_diff.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Two batches: prompts of 3 and 5 tokens, then one of 4. */
enum { N_PROMPTS = 3, MOST_ROWS = 8, N_HEADS = 3, D_HEAD = 4, D_MODEL = 12, N_LAYERS = 2 };

static const struct model_config config = { .n_layers = N_LAYERS,
                                            .n_heads = N_HEADS,
                                            .n_kv_heads = 1,
                                            .d_model = D_MODEL,
                                            .d_head = D_HEAD,
                                            .d_mlp = 8,
                                            .d_vocab = 30,
                                            .d_embed = D_MODEL,
                                            .ln1 = true,
                                            .ln2 = true,
                                            .final_norm = true,
                                            .unembedding = true,
                                            .n_ctx = 16 };
static struct model model = {
    .path = "hand-made", .architecture = "llama", .config_json = "{}", .sha256 = "00", .tokenizer_sha256 = ""
};

static char folder[64], path[96], other[96], partial[112];
static int32_t ids[8] = { 5, 6, 7, 8, 9, 10, 11, 12 }, begins[8], ends[8];

static struct prepared prepared_of(const char *id, size_t n_tokens)
{
    return (struct prepared){ .id = (char *)(uintptr_t)id,
                              .text = (char *)(uintptr_t) "",
                              .answer = (char *)(uintptr_t) "",
                              .relation = (char *)(uintptr_t) "",
                              .subject = (char *)(uintptr_t) "",
                              .tokens = { .id = ids, .begin = begins, .end = ends, .n = n_tokens },
                              .answer_token = -1 };
}

static struct prepared items[N_PROMPTS];
static struct prompt prompts[N_PROMPTS];
static size_t offsets_1[] = { 0, 3, 8 }, offsets_2[] = { 0, 4 };
static struct batch batches[2];
static const unsigned char keep_1[] = { 0, 1, 1, 1, 0, 0, 1, 1 }, keep_2[] = { 0, 0, 0, 1 };

static int set_up(void **state)
{
    (void)state;
    items[0] = prepared_of("first", 3);
    items[1] = prepared_of("second", 5);
    items[2] = prepared_of("third", 4);
    for (int p = 0; p < N_PROMPTS; p++)
        prompts[p] = (struct prompt){ .tokens = ids, .n_tokens = items[p].tokens.n };
    batches[0] = (struct batch){ items, prompts, offsets_1, 2, 8, 0 };
    batches[1] = (struct batch){ items + 2, prompts + 2, offsets_2, 1, 4, 2 };
    model.config = config;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/dump.h5", folder);
    snprintf(other, sizeof other, "%s/other.h5", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    unlink(partial);
    return rmdir(folder); /* fails when anything was left behind */
}

/* --- what the sites hold --- */

static float planted; /* added to head 1, item 2 of row 1 of the second prompt, layer 1; NaN: that site stays away */

/* The value of one number, by token row over the whole input. */
static float value(enum site site, size_t layer, size_t row, size_t i)
{
    float x = (float)((int)site * 1000 + (int)layer * 300 + (int)row * 20) + (float)i + 0.1f;
    bool at = site == SITE_Z && layer == 1 && row == 4 && i == D_HEAD + 2;
    return x / 64 + (at && !isnan(planted) ? planted : 0);
}

static float edge(size_t layer, size_t prompt, size_t i)
{
    return (float)layer + (float)prompt / 8 + (float)i / 1024;
}

static const size_t first_row[] = { 0, 3, 8 };

static int show_rows(struct sink *sink, enum site site, size_t layer, const struct batch *batch, size_t first, size_t n,
                     const size_t *rows, enum precision precision, struct err *err)
{
    size_t width = site == SITE_Z ? N_HEADS * D_HEAD : D_MODEL, base = first_row[batch->first_prompt];
    float floats[MOST_ROWS * D_MODEL];
    double doubles[MOST_ROWS * D_MODEL];
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < width; i++) {
            floats[r * width + i] = value(site, layer, base + (rows ? rows[r] : first + r), i);
            doubles[r * width + i] = (double)floats[r * width + i];
        }
    const struct site_view v = { .site = site,
                                 .layer = layer,
                                 .precision = precision,
                                 .data = precision == PRECISION_F64 ? (void *)doubles : (void *)floats,
                                 .first_row = first,
                                 .n_rows = n,
                                 .row_size = width,
                                 .rows = rows };
    return sink->take(sink, &v, err);
}

static int show_squares(struct sink *sink, size_t layer, const struct batch *batch, struct err *err)
{
    int rc = 0;
    for (size_t p = 0; !rc && p < batch->n; p++) {
        size_t n = batch->prompts[p].n_tokens;
        float data[N_HEADS * 5 * 5];
        for (size_t i = 0; i < N_HEADS * n * n; i++)
            data[i] = edge(layer, batch->first_prompt + p, i);
        const struct site_view v = { .site = SITE_PATTERN,
                                     .layer = layer,
                                     .data = data,
                                     .first_row = batch->row_offset[p],
                                     .n_rows = n,
                                     .row_size = N_HEADS * n,
                                     .prompt = p };
        rc = sink->take(sink, &v, err);
    }
    return rc;
}

/* All that a forward pass would show: z in two calls, the final norm for kept rows only, attention squares. */
static int show(struct dump_writer *w, const struct site_set *sites, const struct batch *batch,
                const unsigned char *keep, enum precision precision, struct err *err)
{
    struct sink *sink = dump_writer_sink(w);
    size_t kept[MOST_ROWS], n_kept = 0;
    int rc = 0;
    for (size_t r = 0; r < batch->n_rows; r++)
        if (!keep || keep[r])
            kept[n_kept++] = r;
    for (size_t l = 0; !rc && l < N_LAYERS; l++) {
        if (site_set_has(sites, SITE_Z, l) && !(l == 1 && isnan(planted))) {
            rc = show_rows(sink, SITE_Z, l, batch, 0, 2, NULL, precision, err);
            rc = rc ? rc : show_rows(sink, SITE_Z, l, batch, 2, batch->n_rows - 2, NULL, precision, err);
        }
        if (!rc && site_set_has(sites, SITE_PATTERN, l))
            rc = show_squares(sink, l, batch, err);
    }
    if (!rc && site_set_has(sites, SITE_LN_FINAL_OUT, 0))
        rc = show_rows(sink, SITE_LN_FINAL_OUT, 0, batch, 0, n_kept, kept, precision, err);
    return rc;
}

/* --- writing --- */

struct job {
    const char *sites;
    enum store_type dtype;
    enum precision precision;
    bool all_rows, resume;
    size_t n_batches; /* how many are run */
};

static int write_dump(const char *to, const struct job *job, struct err *err)
{
    const struct provenance p = {
        .command = "strata dump", .model = &model, .precision = job->precision, .dtype = job->dtype, .threads = 1
    };
    struct site_set sites;
    struct dump_writer *w;
    assert_int_equal(site_set_init(&sites, &config, err), 0);
    if (site_set_add(&sites, job->sites, err))
        fail_msg("%s", err->msg);
    const struct dump_plan plan = {
        .provenance = &p, .sites = &sites, .positions = job->all_rows ? "all" : "some", .flush_seconds = 0
    };
    const unsigned char *const keeps[] = { job->all_rows ? NULL : keep_1, job->all_rows ? NULL : keep_2 };
    int rc = dump_writer_open(&w, to, &plan, job->resume, err);
    if (rc) {
        site_set_release(&sites);
        return rc;
    }
    for (size_t b = 0; !rc && b < 2; b++)
        rc = dump_writer_add(w, &batches[b], keeps[b], err);
    rc = rc ? rc : dump_writer_start(w, err);
    size_t done = rc ? 0 : dump_writer_done(w);
    for (size_t b = 0; !rc && b < job->n_batches; b++) {
        if (batches[b].first_prompt < done)
            continue;
        rc = dump_writer_begin(w, &batches[b], keeps[b], err);
        rc = rc ? rc : show(w, &sites, &batches[b], keeps[b], job->precision, err);
        rc = rc ? rc : dump_writer_end(w, err);
    }
    if (!rc && job->n_batches == 2)
        rc = dump_writer_finish(w, err);
    dump_writer_close(w);
    site_set_release(&sites);
    return rc;
}

static void must_write(const char *to, const struct job *job)
{
    struct err err = { 0 };
    if (write_dump(to, job, &err))
        fail_msg("%s", err.msg);
}

/* --- reading --- */

static float stored(float x, enum store_type type)
{
    return type == STORE_F16    ? half_to_f32_one(half_from_f32_one(x))
           : type == STORE_BF16 ? bf16_to_f32_one(bf16_from_f32_one(x))
                                : x;
}

/* Row r of the file is token row rows[r] of the whole input. */
static void check_rows(const struct dump_data *d, const char *name, enum site site, size_t layer, const size_t *heads,
                       size_t n_heads, enum store_type type)
{
    struct h5_dataset set;
    struct err err = { 0 };
    if (h5_dataset_open(&set, &d->file, name, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(set.type, type);
    assert_int_equal(set.dims[0], d->n_rows);
    size_t width = n_heads ? n_heads * D_HEAD : D_MODEL;
    assert_int_equal(set.row_items, width);
    assert_int_equal(set.rank, n_heads ? 3 : 2);
    for (size_t r = 0; r < d->n_rows; r++) {
        double row[D_MODEL];
        size_t at = first_row[d->row_prompt[r]] + (size_t)d->row_position[r];
        assert_int_equal(h5_dataset_read(&set, r, 1, STORE_F64, row, &err), 0);
        for (size_t i = 0; i < width; i++) {
            size_t item = heads ? heads[i / D_HEAD] * D_HEAD + i % D_HEAD : i;
            double expected = (double)stored(value(site, layer, at, item), type);
            if (row[i] != expected)
                fail_msg("%s row %zu item %zu: %g, expected %g", name, r, i, row[i], expected);
        }
    }
    h5_dataset_close(&set);
}

static void check_squares(const struct dump_data *d, size_t layer, enum store_type type)
{
    struct h5_dataset set;
    struct err err = { 0 };
    char name[64];
    snprintf(name, sizeof name, "/activations/blocks.%zu.attn.hook_pattern", layer);
    assert_int_equal(h5_dataset_open(&set, &d->file, name, &err), 0);
    assert_int_equal(set.rank, 1);
    for (size_t p = 0; p < d->n_prompts; p++) {
        size_t n = (size_t)(d->pattern_offset[p + 1] - d->pattern_offset[p]);
        assert_int_equal(n, N_HEADS * prompts[p].n_tokens * prompts[p].n_tokens);
        float data[N_HEADS * 5 * 5];
        assert_int_equal(h5_dataset_read(&set, (uint64_t)d->pattern_offset[p], n, STORE_F32, data, &err), 0);
        for (size_t i = 0; i < n; i++)
            assert_true(data[i] == stored(edge(layer, p, i), type));
    }
    h5_dataset_close(&set);
}

static struct dump_data opened(const char *name)
{
    struct dump_data d;
    struct err err = { 0 };
    if (dump_data_open(&d, name, &err))
        fail_msg("%s", err.msg);
    return d;
}

/* --- tests --- */

static void every_dtype_and_precision_stores_the_rounded_values(void **state)
{
    (void)state;
    const enum store_type types[] = { STORE_F32, STORE_F16, STORE_BF16, STORE_F64 };
    for (int t = 0; t < 4; t++)
        for (int precision = 0; precision < 2; precision++) {
            must_write(path,
                       &(struct job){ "z,ln_final.hook_out", types[t], (enum precision)precision, true, false, 2 });
            struct dump_data d = opened(path);
            assert_int_equal(d.n_rows, 12);
            assert_true(d.complete);
            check_rows(&d, "/activations/blocks.0.attn.hook_z", SITE_Z, 0, NULL, N_HEADS, types[t]);
            check_rows(&d, "/activations/blocks.1.attn.hook_z", SITE_Z, 1, NULL, N_HEADS, types[t]);
            check_rows(&d, "/activations/ln_final.hook_out", SITE_LN_FINAL_OUT, 0, NULL, 0, types[t]);
            dump_data_close(&d);
            unlink(path);
        }
}

static void chosen_rows_and_heads_are_stored_squares_stay_whole(void **state)
{
    (void)state;
    must_write(path,
               &(struct job){ "L0H2,L0H0,z:1,pattern,ln_final.hook_out", STORE_F16, PRECISION_F32, false, false, 2 });
    struct dump_data d = opened(path);
    const int32_t rows[][2] = { { 0, 1 }, { 0, 2 }, { 1, 0 }, { 1, 3 }, { 1, 4 }, { 2, 3 } };
    assert_int_equal(d.n_rows, 6);
    for (size_t r = 0; r < d.n_rows; r++) {
        assert_int_equal(d.row_prompt[r], rows[r][0]);
        assert_int_equal(d.row_position[r], rows[r][1]);
    }
    check_rows(&d, "/activations/blocks.0.attn.hook_z", SITE_Z, 0, (const size_t[]){ 0, 2 }, 2, STORE_F16);
    check_rows(&d, "/activations/blocks.1.attn.hook_z", SITE_Z, 1, NULL, N_HEADS, STORE_F16);
    check_rows(&d, "/activations/ln_final.hook_out", SITE_LN_FINAL_OUT, 0, NULL, 0, STORE_F16);
    check_squares(&d, 0, STORE_F16);
    check_squares(&d, 1, STORE_F16);
    int64_t heads[4];
    size_t n;
    struct err err = { 0 };
    hid_t z = H5Dopen2(d.file.id, "/activations/blocks.0.attn.hook_z", H5P_DEFAULT);
    assert_int_equal(h5_get_ints(&d.file, z, "heads", heads, 4, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(heads[0], 0);
    assert_int_equal(heads[1], 2);
    H5Dclose(z);
    dump_data_close(&d);
}

static void a_stopped_dump_holds_whole_prompts_and_resumes(void **state)
{
    (void)state;
    struct job job = { "z,pattern", STORE_F32, PRECISION_F32, false, false, 1 };
    must_write(path, &job);
    struct dump_data d = opened(partial);
    assert_false(d.complete);
    assert_int_equal(d.n_prompts, 2);
    assert_int_equal(d.n_rows, 5);
    check_rows(&d, "/activations/blocks.1.attn.hook_z", SITE_Z, 1, NULL, N_HEADS, STORE_F32);
    check_squares(&d, 1, STORE_F32);
    dump_data_close(&d);

    struct err err = { 0 };
    const struct job others[] = { { "z", STORE_F32, PRECISION_F32, false, true, 2 },
                                  { "z:0,pattern,L1H0", STORE_F32, PRECISION_F32, false, true, 2 },
                                  { "z,pattern", STORE_F16, PRECISION_F32, false, true, 2 },
                                  { "z,pattern", STORE_F32, PRECISION_F64, false, true, 2 },
                                  { "z,pattern", STORE_F32, PRECISION_F32, true, true, 2 } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(write_dump(path, &others[i], &err), ERR_ARG);

    job.n_batches = 2;
    assert_int_equal(write_dump(path, &job, &err), ERR_ARG); /* without --resume */
    job.resume = true;
    must_write(path, &job);
    d = opened(path);
    assert_true(d.complete);
    assert_int_equal(d.n_rows, 6);
    check_rows(&d, "/activations/blocks.1.attn.hook_z", SITE_Z, 1, NULL, N_HEADS, STORE_F32);
    check_squares(&d, 0, STORE_F32);
    dump_data_close(&d);
}

static void overflow_names_site_prompt_and_position(void **state)
{
    (void)state;
    struct err err = { 0 };
    planted = 70000;
    struct job job = { "z", STORE_F16, PRECISION_F32, true, false, 2 };
    assert_int_equal(write_dump(path, &job, &err), ERR_NUMERIC);
    assert_non_null(strstr(err.msg, "blocks.1.attn.hook_z of prompt 1 (second)"));
    assert_non_null(strstr(err.msg, "position 1, overflows f16"));
    planted = 0;
    planted = 65519.0f - value(SITE_Z, 1, 4, D_HEAD + 2); /* below 65520 a value rounds to the largest half */
    must_write(path, &job);
    unlink(path);
    planted = 3.4e38f;
    job.dtype = STORE_BF16;
    assert_int_equal(write_dump(path, &job, &err), ERR_NUMERIC);
    job.dtype = STORE_F32;
    must_write(path, &job);
    planted = 0;
}

static void a_site_that_does_not_come_is_an_error(void **state)
{
    (void)state;
    struct err err = { 0 };
    planted = NAN;
    assert_int_equal(write_dump(path, &(struct job){ "z", STORE_F32, PRECISION_F32, true, false, 2 }, &err), ERR_CHECK);
    assert_non_null(strstr(err.msg, "blocks.1.attn.hook_z"));
    planted = 0;
}

/* The same numbers as value(), against one that differs by `planted` in one place. */
static void diff_finds_the_planted_difference(void **state)
{
    (void)state;
    const struct job job = { "z,pattern", STORE_F32, PRECISION_F32, true, false, 2 };
    must_write(path, &job);
    planted = 0.5f;
    must_write(other, &job);
    struct dump_data a = opened(path), b = opened(other);
    struct dump_diff diff;
    struct err err = { 0 };
    assert_int_equal(dump_diff_compute(&a, &b, NULL, &diff, &err), 0);
    assert_int_equal(diff.n_prompts, 3);
    assert_int_equal(diff.n_rows, 12);
    assert_int_equal(diff.n_sites, 4);
    double dd = 0, aa = 0, bb = 0, ab = 0;
    for (size_t row = 0; row < 12; row++)
        for (size_t i = 0; i < N_HEADS * D_HEAD; i++) {
            planted = 0;
            double x = (double)value(SITE_Z, 1, row, i);
            planted = 0.5f;
            double y = (double)value(SITE_Z, 1, row, i);
            dd += (x - y) * (x - y);
            aa += x * x;
            bb += y * y;
            ab += x * y;
        }
    for (size_t s = 0; s < diff.n_sites; s++) {
        const struct site_diff *site = &diff.sites[s];
        if (strcmp(site->name, "blocks.1.attn.hook_z")) {
            assert_true(site_diff_is_within(site, 0) && site->max_abs == 0 && site->relative == 0);
            continue;
        }
        assert_false(site_diff_is_within(site, 0));
        assert_true(fabs(site->max_abs - 0.5) < 1e-6);
        assert_true(fabs(site->relative - sqrt(dd / bb)) < 1e-12);
        assert_true(fabs(site->cosine - ab / sqrt(aa * bb)) < 1e-12);
        assert_int_equal(site->prompt, 1);
        assert_int_equal(site->position, 1);
        assert_true(site_diff_is_within(site, site->relative * 1.001));
    }
    dump_diff_release(&diff);
    dump_data_close(&a);
    dump_data_close(&b);
    planted = 0;
}

static void diff_counts_what_only_one_file_has(void **state)
{
    (void)state;
    must_write(path, &(struct job){ "z,L0H1,pattern", STORE_F32, PRECISION_F32, true, false, 2 });
    items[0].id = (char *)(uintptr_t) "another";
    items[2].tokens.n = 3;
    prompts[2].n_tokens = 3;
    offsets_2[1] = 3;
    batches[1].n_rows = 3;
    must_write(other, &(struct job){ "z:1,ln_final.hook_out,pattern:0", STORE_F32, PRECISION_F32, true, false, 2 });
    offsets_2[1] = 4;
    struct dump_data a = opened(path), b = opened(other);
    struct dump_diff diff;
    struct err err = { 0 };
    assert_int_equal(dump_diff_compute(&a, &b, NULL, &diff, &err), 0);
    assert_int_equal(diff.n_prompts, 1);
    assert_int_equal(diff.n_rows, 5);
    assert_int_equal(diff.n_only_a, 1);
    assert_int_equal(diff.n_only_b, 1);
    assert_int_equal(diff.n_other, 1);
    assert_string_equal(diff.only_a, "first");
    assert_string_equal(diff.only_b, "another");
    assert_string_equal(diff.other, "third");
    const struct {
        const char *name;
        enum site_diff_kind kind;
    } expected[] = { { "blocks.0.attn.hook_pattern", SITE_DIFF_BOTH },
                     { "blocks.0.attn.hook_z", SITE_DIFF_ONLY_A },
                     { "blocks.1.attn.hook_pattern", SITE_DIFF_ONLY_A },
                     { "blocks.1.attn.hook_z", SITE_DIFF_BOTH },
                     { "ln_final.hook_out", SITE_DIFF_ONLY_B } };
    assert_int_equal(diff.n_sites, 5);
    for (size_t s = 0; s < 5; s++) {
        assert_string_equal(diff.sites[s].name, expected[s].name);
        assert_int_equal(diff.sites[s].kind, expected[s].kind);
        if (expected[s].kind == SITE_DIFF_BOTH)
            assert_true(diff.sites[s].n > 0 && diff.sites[s].max_abs == 0);
    }
    dump_diff_release(&diff);
    dump_data_close(&a);
    dump_data_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_dtype_and_precision_stores_the_rounded_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(chosen_rows_and_heads_are_stored_squares_stay_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stopped_dump_holds_whole_prompts_and_resumes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(overflow_names_site_prompt_and_position, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_site_that_does_not_come_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(diff_finds_the_planted_difference, set_up, tear_down),
        cmocka_unit_test_setup_teardown(diff_counts_what_only_one_file_has, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_dump", tests, NULL, NULL);
}
