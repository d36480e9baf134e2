/* Lens files: what is written is read back; partial files, resuming, files of other commands, bad files. */
#include "core/base/file.h"
#include "core/store/lens_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_PROMPTS = 5, N_STATES = 3, TOP_K = 2, ROWS_A_PROMPT = 2, N_ROWS = N_PROMPTS * ROWS_A_PROMPT };

static char folder[64], path[96], partial[112];

static const struct model model = {
    .path = "tiny", .architecture = "llama", .config_json = "{}", .sha256 = "00", .tokenizer_sha256 = "11"
};
static const struct provenance settings = { .command = "strata lens \xc3\xa9", .model = &model, .threads = 1 };
static const char *const labels[N_STATES] = { "0_pre", "1_pre", "final_post" };
static struct lens_plan plan = { .provenance = &settings,
                                 .site = "resid",
                                 .positions = "last",
                                 .labels = labels,
                                 .n_states = N_STATES,
                                 .top_k = TOP_K,
                                 .has_answer_logprob = true };

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/lens.h5", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(partial);
    return rmdir(folder); /* fails when anything was left behind */
}

static void put_prompts(struct lens_writer *w, const char *third_answer)
{
    struct err err;
    for (int i = 0; i < N_PROMPTS; i++) {
        char id[16], text[64];
        snprintf(id, sizeof id, "p%d", i);
        snprintf(text, sizeof text, "prompt %d of M\xc3\xbcnchen", i);
        const struct lens_prompt p = { .id = id,
                                       .text = text,
                                       .answer = i == 2 ? third_answer : "",
                                       .subject = "M\xc3\xbcnchen",
                                       .relation = "city",
                                       .answer_token = i == 2 ? 7 : -1,
                                       .positions = (int32_t[]){ 1, 3 + i },
                                       .n_rows = ROWS_A_PROMPT };
        assert_int_equal(lens_writer_prompt(w, &p, &err), 0);
    }
}

/* Numbers that tell their place. */
static void append(struct lens_writer *w, size_t first, size_t n)
{
    int32_t rank[N_ROWS * N_STATES], ties[N_ROWS * N_STATES], top[N_ROWS * N_STATES * TOP_K];
    float numbers[3][N_ROWS * N_STATES], top_logprob[N_ROWS * N_STATES * TOP_K], chain[N_PROMPTS];
    struct err err;
    size_t begin = first * ROWS_A_PROMPT * N_STATES;
    for (size_t i = 0; i < n * ROWS_A_PROMPT * N_STATES; i++) {
        rank[i] = (int32_t)(begin + i);
        ties[i] = (int32_t)(begin + i + 1000);
        for (int k = 0; k < 3; k++)
            numbers[k][i] = (float)(begin + i) + 0.25f * (float)k;
        for (size_t k = 0; k < TOP_K; k++) {
            top[i * TOP_K + k] = (int32_t)((begin + i) * TOP_K + k);
            top_logprob[i * TOP_K + k] = -(float)((begin + i) * TOP_K + k);
        }
    }
    for (size_t i = 0; i < n; i++)
        chain[i] = (float)(first + i) - 100;
    const struct lens_rows rows = { .n_rows = n * ROWS_A_PROMPT,
                                    .rank = rank,
                                    .ties = ties,
                                    .logprob = numbers[0],
                                    .entropy = numbers[1],
                                    .kl_final = numbers[2],
                                    .top_token = top,
                                    .top_logprob = top_logprob,
                                    .answer_logprob = chain };
    assert_int_equal(lens_writer_append(w, n, &rows, &err), 0);
}

static struct lens_writer *start(bool resume)
{
    struct lens_writer *w;
    struct err err = { 0 };
    if (lens_writer_open(&w, path, resume, &err))
        fail_msg("%s", err.msg);
    put_prompts(w, "Bayern");
    if (lens_writer_start(w, &plan, &err))
        fail_msg("%s", err.msg);
    return w;
}

static void finish(struct lens_writer *w)
{
    struct err err = { 0 };
    if (lens_writer_finish(w, &err))
        fail_msg("%s", err.msg);
    lens_writer_close(w);
}

static void check(const char *name, size_t n_prompts, bool complete)
{
    struct lens_data d;
    struct err err = { 0 };
    if (lens_data_read(&d, name, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(d.n_prompts, n_prompts);
    assert_int_equal(d.n_rows, n_prompts * ROWS_A_PROMPT);
    assert_int_equal(d.n_states, N_STATES);
    assert_int_equal(d.top_k, TOP_K);
    assert_int_equal(d.complete, complete);
    assert_string_equal(d.site, "resid");
    assert_string_equal(d.labels[2], "final_post");
    for (size_t i = 0; i < n_prompts; i++) {
        char text[64];
        snprintf(text, sizeof text, "prompt %zu of M\xc3\xbcnchen", i);
        assert_string_equal(d.text[i], text);
        assert_string_equal(d.answer[i], i == 2 ? "Bayern" : "");
        assert_string_equal(d.relation[i], "city");
        assert_int_equal(d.answer_token[i], i == 2 ? 7 : -1);
        assert_true(d.answer_logprob[i] == (float)i - 100);
        assert_int_equal(d.row_prompt[2 * i + 1], i);
        assert_int_equal(d.row_position[2 * i + 1], 3 + i);
    }
    for (size_t i = 0; i < d.n_rows * N_STATES; i++) {
        assert_int_equal(d.rank[i], i);
        assert_int_equal(d.ties[i], i + 1000);
        assert_true(d.kl_final[i] == (float)i + 0.5f);
        assert_int_equal(d.top_token[i * TOP_K + 1], i * TOP_K + 1);
        assert_true(d.top_logprob[i * TOP_K + 1] == -(float)(i * TOP_K + 1));
    }
    lens_data_release(&d);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct lens_writer *w = start(false);
    append(w, 0, 3);
    append(w, 3, 2);
    finish(w);
    assert_false(file_exists(partial));
    check(path, N_PROMPTS, true);
}

static void a_closed_run_leaves_a_readable_partial_that_resumes(void **state)
{
    (void)state;
    struct lens_writer *w = start(false);
    append(w, 0, 2);
    lens_writer_close(w);
    assert_false(file_exists(path));
    check(partial, 2, false);
    w = start(true);
    assert_int_equal(lens_writer_done(w), 2);
    append(w, 2, 1);
    lens_writer_close(w);
    check(partial, 3, false);
    w = start(true);
    append(w, 3, 2);
    finish(w);
    check(path, N_PROMPTS, true);
    /* Resuming what is complete changes nothing. */
    w = start(true);
    assert_int_equal(lens_writer_done(w), N_PROMPTS);
    finish(w);
    check(path, N_PROMPTS, true);
}

static void refused(int rc, const struct err *err, const char *says)
{
    assert_int_equal(rc, ERR_ARG);
    if (!strstr(err->msg, says))
        fail_msg("'%s' does not say '%s'", err->msg, says);
}

static void files_in_the_way_and_other_inputs_are_refused(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct lens_writer *w = start(false);
    append(w, 0, 2);
    lens_writer_close(w);

    refused(lens_writer_open(&w, path, false, &err), &err, "--resume");
    assert_int_equal(lens_writer_open(&w, path, true, &err), 0);
    put_prompts(w, "Hessen");
    refused(lens_writer_start(w, &plan, &err), &err, "input");
    lens_writer_close(w);

    struct provenance other = settings;
    other.threads = 2;
    struct lens_plan with_threads = plan;
    with_threads.provenance = &other;
    assert_int_equal(lens_writer_open(&w, path, true, &err), 0);
    put_prompts(w, "Bayern");
    refused(lens_writer_start(w, &with_threads, &err), &err, "threads '1', now '2'");
    lens_writer_close(w);

    struct lens_plan wider = plan;
    wider.top_k = TOP_K + 1;
    assert_int_equal(lens_writer_open(&w, path, true, &err), 0);
    put_prompts(w, "Bayern");
    refused(lens_writer_start(w, &wider, &err), &err, "/lens/top_token");
    lens_writer_close(w);

    w = start(true);
    append(w, 2, 3);
    finish(w);
    refused(lens_writer_open(&w, path, false, &err), &err, "exists");
}

static void rows_that_were_not_counted_are_an_error(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct lens_writer *w = start(false);
    const struct lens_rows none = { .n_rows = 1 };
    assert_int_equal(lens_writer_append(w, 1, &none, &err), ERR_CHECK);
    append(w, 0, 2);
    assert_int_equal(lens_writer_finish(w, &err), ERR_CHECK);
    lens_writer_close(w);
}

/* Bytes of a small file turned over, one at a time: the reader may refuse, not crash or hang. */
static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    struct lens_writer *w = start(false);
    append(w, 0, N_PROMPTS);
    finish(w);
    struct file_map map;
    struct err err = { 0 };
    assert_int_equal(file_map_open(&map, path, &err), 0);
    size_t n = map.size;
    unsigned char *bytes = malloc(n);
    memcpy(bytes, map.data, n);
    file_map_close(&map);
    int n_refused = 0;
    for (size_t i = 0; i < n; i += 61) {
        bytes[i] ^= 0xff;
        FILE *file = fopen(partial, "wb");
        assert_int_equal(fwrite(bytes, 1, n, file), n);
        fclose(file);
        bytes[i] ^= 0xff;
        struct lens_data d;
        if (lens_data_read(&d, partial, &err))
            n_refused++;
        lens_data_release(&d);
    }
    assert_in_range(n_refused, 10, n);
    FILE *file = fopen(partial, "wb");
    fwrite(bytes, 1, n / 2, file);
    fclose(file);
    struct lens_data d;
    assert_int_not_equal(lens_data_read(&d, partial, &err), 0);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_closed_run_leaves_a_readable_partial_that_resumes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_in_the_way_and_other_inputs_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_that_were_not_counted_are_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_files_are_refused_or_read, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_lens", tests, NULL, NULL);
}
