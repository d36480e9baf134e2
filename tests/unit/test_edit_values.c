/* What edits take: vectors from files and JSON, noise, means, other runs; and the files of vectors. */
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/formats/vector_file.h"
#include "core/runtime/edit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct model_config config = {
    .n_layers = 4,
    .n_heads = 3,
    .n_kv_heads = 1,
    .d_model = 6,
    .d_head = 2,
    .d_mlp = 5,
    .d_vocab = 7,
    .n_ctx = 16,
    .d_embed = 6,
    .ln1 = true,
    .ln2 = true,
    .final_norm = true,
    .unembedding = true,
    .norm = NORM_RMS,
    .position = POSITION_ROTARY,
    .gated_mlp = true,
};

static const char *const runs[] = { "clean", "b" };
static const struct edit_scope scope = { .seed = 9, .runs = runs, .n_runs = 2, .default_run = 1 };

static int enter(void **state)
{
    static char folder[] = "/tmp/strata-test-XXXXXX";
    *state = mkdtemp(folder);
    return *state && !chdir(folder) ? 0 : -1;
}

static int leave(void **state)
{
    static const char *const names[] = { "x.npy", "x.f32" };
    for (size_t i = 0; i < 2; i++)
        remove(names[i]);
    return chdir("/") || rmdir(*state);
}

static void assert_says(const struct err *err, const char *words)
{
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save))
        if (!strstr(err->msg, word))
            fail_msg("\"%s\" does not say \"%s\"", err->msg, word);
}

static struct edit_list parse(const char *text)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (edit_parse_in(&list, text, &config, &scope, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list.n, 1);
    return list;
}

static void refused(const char *text, const char *words)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (!edit_parse_in(&list, text, &config, &scope, &err))
        fail_msg("accepted: %s", text);
    assert_says(&err, words);
    assert_int_equal(list.n, 0);
    edit_list_release(&list);
}

static int parse_json(struct edit_list *list, const char *text, struct err *err)
{
    json_t *array;
    assert_int_equal(json_parse(text, strlen(text), "x.json", &array, err), 0);
    int rc = edit_parse_json_in(list, array, "x.json", &config, &scope, err);
    json_decref(array);
    return rc;
}

static void json_refused(const char *text, const char *words)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (!parse_json(&list, text, &err))
        fail_msg("accepted: %s", text);
    assert_says(&err, words);
    edit_list_release(&list);
}

/* --- files --- */

static void write_bytes(const char *name, const void *data, size_t n)
{
    struct err err = { 0 };
    if (file_write(name, data, n, &err))
        fail_msg("%s", err.msg);
}

/* As numpy.save writes it: the header padded to 64 bytes with blanks and a newline. */
static size_t make_npy(unsigned char *out, const char *dictionary, const void *data, size_t n_bytes)
{
    size_t len = strlen(dictionary), total = (10 + len + 1 + 63) / 64 * 64;
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (unsigned char)((total - 10) & 255);
    out[9] = (unsigned char)((total - 10) >> 8);
    memset(out + 10, ' ', total - 10);
    memcpy(out + 10, dictionary, len);
    out[total - 1] = '\n';
    memcpy(out + total, data, n_bytes);
    return total + n_bytes;
}

static void write_npy(const char *dictionary, const void *data, size_t n_bytes)
{
    unsigned char bytes[1024];
    write_bytes("x.npy", bytes, make_npy(bytes, dictionary, data, n_bytes));
}

static void vectors_are_read_from_npy_and_f32(void **state)
{
    (void)state;
    const float narrow[6] = { 1, -2, 0.5F, 4, 5, 6 };
    const double wide[6] = { 1, -2, 0.5, 4, 5, 6 };
    write_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", narrow, sizeof narrow);
    struct edit_list list = parse("resid_post:2@last add x.npy");
    const struct edit *e = list.edits;
    assert_int_equal(e->source, EDIT_FROM_VECTOR);
    assert_int_equal(e->n_vectors, 1);
    assert_memory_equal(e->vector, narrow, sizeof narrow);
    edit_list_release(&list);

    write_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }", wide, sizeof wide);
    list = parse("z:2 set x.npy");
    assert_memory_equal(list.edits->vector, narrow, sizeof narrow);
    edit_list_release(&list);

    write_bytes("x.f32", narrow, sizeof narrow);
    list = parse("resid_post:2 set x.f32");
    assert_memory_equal(list.edits->vector, narrow, sizeof narrow);
    edit_list_release(&list);
}

static void a_vector_for_each_layer_or_for_the_chosen_units(void **state)
{
    (void)state;
    float rows[12];
    for (size_t i = 0; i < 12; i++)
        rows[i] = (float)i + 1;
    write_bytes("x.f32", rows, sizeof rows);
    struct edit_list list = parse("resid_post:1-2 add x.f32");
    assert_int_equal(list.edits->n_vectors, 2);
    assert_memory_equal(list.edits->vector, rows, sizeof rows);
    edit_list_release(&list);

    write_bytes("x.f32", rows, 4 * sizeof *rows);
    list = parse("z:1#0,2 set x.f32");
    const float spread[6] = { 1, 2, 0, 0, 3, 4 };
    assert_int_equal(list.edits->n_vectors, 1);
    assert_memory_equal(list.edits->vector, spread, sizeof spread);
    edit_list_release(&list);
    list = parse("z:1-2#1 set x.f32");
    const float two[12] = { 0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 0, 0 };
    assert_int_equal(list.edits->n_vectors, 2);
    assert_memory_equal(list.edits->vector, two, sizeof two);
    edit_list_release(&list);
}

static void vectors_of_the_wrong_size_name_both_sizes(void **state)
{
    (void)state;
    const float x[12] = { 0 };
    write_bytes("x.f32", x, 5 * sizeof *x);
    refused("resid_post:1 add x.f32", "x.f32|5 numbers|hook_resid_post has 6");
    refused("resid_post:1-2 add x.f32", "5 numbers|has 6|12|2 layers");
    refused("z:1#1 add x.f32", "5 numbers|has 6|chosen units 2");
    write_bytes("x.f32", x, sizeof x);
    refused("resid_post:1 add x.f32", "x.f32|12 numbers|6");
    refused("resid_post:1 add y.npy", "y.npy|No such file");
    refused("attn_scores:1 add x.f32", "takes a number");
    refused("resid_post:1 scale x.f32", "'x.f32' is no finite float32 number");
    refused("resid_post:1 add x.txt", "'x.txt' is no finite float32 number|FILE.npy|noise:SIGMA");
}

static void wrong_npy_files_are_refused(void **state)
{
    (void)state;
    float x[6] = { 0 };
    static const struct {
        const char *dictionary, *words;
    } wrong[] = {
        { "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", "'<i8'|astype" },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (6,), }", "'>f4'|astype" },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", "Fortran" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }", "promises 7|24 bytes" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", "promises 5|24 bytes" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "dictionary" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "dictionary" },
        { "{'descr': '<f4', 'fortran_order': False, }", "dictionary" },
        { "{'fortran_order': False, 'shape': (6,), }", "dictionary" },
        { "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (6,), }", "dictionary" },
        { "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (6,), }", "dictionary" },
        { "{'descr': '<f4", "dictionary" },
        { "", "dictionary" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_npy(wrong[i].dictionary, x, sizeof x);
        refused("resid_post:1 set x.npy", "x.npy");
        refused("resid_post:1 set x.npy", wrong[i].words);
    }
    x[4] = NAN;
    write_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", x, sizeof x);
    refused("resid_post:1 set x.npy", "number 4|finite");
    const double large[6] = { 0, 1e300 };
    write_npy("{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }", large, sizeof large);
    refused("resid_post:1 set x.npy", "number 1|finite");
    write_bytes("x.npy", "\x93NUMPY\x01\x00\xff\xff", 10);
    refused("resid_post:1 set x.npy", "ends inside its header");
    write_bytes("x.npy", "hello", 5);
    refused("resid_post:1 set x.npy", "no .npy file");
    write_bytes("x.f32", "hello", 5);
    refused("resid_post:1 set x.f32", "5 bytes");
}

static void damaged_npy_files_never_crash(void **state)
{
    (void)state;
    const float x[6] = { 1, 2, 3, 4, 5, 6 };
    unsigned char bytes[512];
    struct random_source random;
    size_t n = make_npy(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", x, sizeof x), read = 0;
    random_seed(&random, 3);
    for (int round = 0; round < 300; round++) {
        unsigned char damaged[512];
        float *out = NULL;
        size_t n_out, len = round % 3 ? n : (size_t)random_below(&random, n);
        struct err err = { 0 };
        memcpy(damaged, bytes, n);
        for (uint64_t k = random_below(&random, 4); k; k--)
            damaged[random_below(&random, n)] = (unsigned char)random_below(&random, 256);
        write_bytes("x.npy", damaged, len);
        int rc = vector_file_read("x.npy", 6, &out, &n_out, &err);
        assert_true(rc ? *err.msg != 0 : n_out <= 6);
        read += !rc;
        if (!rc)
            free(out);
    }
    assert_in_range(read, 10, 290);
}

/* --- noise, means, runs --- */

static void noise_has_a_spread_and_a_seed(void **state)
{
    (void)state;
    struct edit_list list = parse("hook_embed@subject add noise:0.25");
    assert_int_equal(list.edits->source, EDIT_FROM_NOISE);
    assert_true(list.edits->value == 0.25);
    assert_int_equal(list.edits->seed, 9);
    edit_list_release(&list);
    list = parse("hook_embed@subject add noise:0.25:18446744073709551615");
    assert_true(list.edits->seed == UINT64_MAX);
    edit_list_release(&list);
    struct err err = { 0 };
    assert_int_equal(edit_parse(&list, "z:1 set noise:1", &config, &err), 0);
    assert_int_equal(list.edits->seed, 1);
    edit_list_release(&list);
    refused("z:1 add noise:", "noise:SIGMA");
    refused("z:1 add noise:x", "noise:SIGMA");
    refused("z:1 add noise:-1", "noise:SIGMA");
    refused("z:1 add noise:inf", "noise:SIGMA");
    refused("z:1 add noise:1:", "no seed");
    refused("z:1 add noise:1:x", "'x' is no seed");
    refused("z:1 add noise:1:18446744073709551616", "no seed");
    refused("z:1 scale noise:1", "no finite");
    refused("pattern:1 add noise:1", "takes a number");
}

static void means_wait_for_their_values(void **state)
{
    (void)state;
    struct edit_list list = parse("z:1@last#2 mean");
    assert_int_equal(list.edits->op, EDIT_SET);
    assert_int_equal(list.edits->source, EDIT_FROM_MEAN);
    edit_list_release(&list);
    refused("z:1 mean 3", "'mean' takes no value|'3'");
    refused("attn_scores:1 mean", "attention edges");
}

static void patches_name_site_positions_and_run(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t run;
        enum site site;
        size_t layer;
        bool same;
    } cases[] = {
        { "resid_post:2@last patch", 1, SITE_RESID_POST, EDIT_SAME_LAYER, true },
        { "resid_post:2@last patch from clean", 0, SITE_RESID_POST, EDIT_SAME_LAYER, true },
        { "resid_post:0-2@last patch :3 from base", EDIT_OWN_RUN, SITE_RESID_POST, 3, true },
        { "resid_post:2@last patch attn_out:1 from b", 1, SITE_ATTN_OUT, 1, true },
        { "resid_post:0-2@last patch attn_out from b", 1, SITE_ATTN_OUT, EDIT_SAME_LAYER, true },
        { "resid_post:2@last patch @0 from base", EDIT_OWN_RUN, SITE_RESID_POST, EDIT_SAME_LAYER, false },
        { "resid_post:2@last patch :1@subject-last from clean", 0, SITE_RESID_POST, 1, false },
        { "hook_embed@0 patch resid_post:1@3", 1, SITE_RESID_POST, 1, false },
        { "pattern:1@last#2 patch from clean", 0, SITE_PATTERN, EDIT_SAME_LAYER, true },
        { "L1H2@last patch from clean", 0, SITE_Z, EDIT_SAME_LAYER, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct edit_list list = parse(cases[i].text);
        const struct edit *e = list.edits;
        assert_int_equal(e->op, EDIT_SET);
        assert_int_equal(e->source, EDIT_FROM_RUN);
        assert_int_equal(e->run, cases[i].run);
        assert_int_equal(e->from_site, cases[i].site);
        assert_int_equal(e->from_layer, cases[i].layer);
        assert_int_equal(e->from_same, cases[i].same);
        edit_list_release(&list);
    }
    refused("z:1@last patch from zzz", "no run 'zzz'|base");
    refused("z:1@last patch from cleam", "did you mean clean?");
    refused("z:1@last patch from", "''");
    refused("z:1@last patch from base", "freeze");
    refused("z:1 patch attn_outt:1", "attn_out");
    refused("z:1 patch mlp_pre:1", "pre");
    refused("z:1 patch k:1", "hook_z has 6|hook_k 2");
    refused("z:1 patch :4", "no layer 4|0 to 3");
    refused("z:1 patch :x", "one layer");
    refused("z:1 patch z:1-2", "one layer");
    refused("z:1 patch L1H2", "one layer");
    refused("z:1 patch @lst", "did you mean last?");
    refused("z:1 patch z:2 b", "'b' is one word too many");
    refused("z:1 patch z:2 from b c", "'c' is one word too many");
    refused("attn_scores:1 patch pattern:1", "exchanged");
    refused("z:1 freeze 3", "takes no value");
    refused("z:1 zero from b", "one word too many");
}

static void freezing_takes_the_base_run_of_the_same_place(void **state)
{
    (void)state;
    struct edit_list list = parse("mlp_out:2-3@subject-last freeze");
    const struct edit *e = list.edits;
    assert_int_equal(e->op, EDIT_SET);
    assert_int_equal(e->source, EDIT_FROM_RUN);
    assert_int_equal(e->run, EDIT_OWN_RUN);
    assert_int_equal(e->from_layer, EDIT_SAME_LAYER);
    assert_true(e->from_same);
    struct site_set sites;
    struct err err = { 0 };
    assert_int_equal(site_set_init(&sites, &config, &err), 0);
    assert_true(edit_list_sources(&list, &sites));
    assert_int_equal(site_set_count(&sites), 2);
    assert_true(site_set_has(&sites, SITE_MLP_OUT, 2) && site_set_has(&sites, SITE_MLP_OUT, 3));
    edit_list_release(&list);
    list = parse("z:1 zero");
    assert_false(edit_list_sources(&list, &sites));
    edit_list_release(&list);
    site_set_release(&sites);
}

static void json_says_the_same(void **state)
{
    (void)state;
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (parse_json(
            &list,
            "[{\"site\": \"resid_post:2\", \"at\": \"last\", \"op\": \"patch\", \"from\": \"clean\"},"
            " {\"site\": \"resid_post:2\", \"op\": \"patch\", \"from\": {\"prompt\": \"b\", \"site\": \"attn_out\","
            "  \"layer\": 3, \"at\": [0, 1]}},"
            " {\"site\": \"resid_post:2\", \"op\": \"patch\", \"from\": {\"layer\": 0, \"at\": \"last\"}},"
            " {\"site\": \"resid_post:2\", \"op\": \"patch\", \"from\": {\"at\": 0}},"
            " {\"site\": \"z:1\", \"op\": \"set\", \"value\": [1, 2, 3, 4, 5, 6.5]},"
            " {\"site\": \"hook_embed\", \"op\": \"add\", \"value\": \"noise:0.5:3\"},"
            " {\"site\": \"z:1\", \"op\": \"mean\"}, \"z:2 freeze\"]",
            &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list.n, 8);
    static const char *const texts[] = { "resid_post:2@last patch from clean",
                                         "resid_post:2 patch attn_out:3@0,1 from b",
                                         "resid_post:2 patch :0@last",
                                         "resid_post:2 patch @0",
                                         "z:1 set [6 numbers]",
                                         "hook_embed add noise:0.5:3",
                                         "z:1 mean",
                                         "z:2 freeze" };
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(list.edits[i].text, texts[i]);
    assert_int_equal(list.edits[1].from_layer, 3);
    assert_int_equal(list.edits[1].from_site, SITE_ATTN_OUT);
    assert_int_equal(list.edits[1].from_at.ranges[1].first, 1);
    assert_true(list.edits[4].vector[5] == 6.5F);
    assert_int_equal(list.edits[5].seed, 3);
    edit_list_release(&list);

    json_refused("[{\"site\": \"z:1\", \"op\": \"patch\", \"from\": 3}]", "\"from\" must be");
    json_refused("[{\"site\": \"z:1\", \"op\": \"patch\", \"from\": {\"promt\": \"b\"}}]",
                 "\"promt\"|did you mean prompt?");
    json_refused("[{\"site\": \"z:1\", \"op\": \"patch\", \"from\": {\"layer\": -1}}]", "\"layer\"");
    json_refused("[{\"site\": \"z:1\", \"op\": \"zero\", \"from\": \"b\"}]", "only patch does");
    json_refused("[{\"site\": \"z:1\", \"op\": \"set\", \"value\": [1, 2]}]", "the array holds 2 numbers|6");
    json_refused("[{\"site\": \"z:1\", \"op\": \"set\", \"value\": [1, 2, 3, 4, 5, 1e300]}]", "item 5");
    json_refused("[{\"site\": \"z:1\", \"op\": \"set\", \"value\": [1, 2, 3, 4, 5, \"6\"]}]", "item 5");
    json_refused("[{\"site\": \"z:1\", \"op\": \"zero\", \"value\": [1]}]", "takes no value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_read_from_npy_and_f32),
        cmocka_unit_test(a_vector_for_each_layer_or_for_the_chosen_units),
        cmocka_unit_test(vectors_of_the_wrong_size_name_both_sizes),
        cmocka_unit_test(wrong_npy_files_are_refused),
        cmocka_unit_test(damaged_npy_files_never_crash),
        cmocka_unit_test(noise_has_a_spread_and_a_seed),
        cmocka_unit_test(means_wait_for_their_values),
        cmocka_unit_test(patches_name_site_positions_and_run),
        cmocka_unit_test(freezing_takes_the_base_run_of_the_same_place),
        cmocka_unit_test(json_says_the_same),
    };
    return cmocka_run_group_tests_name("values of edits", tests, enter, leave);
}
