/* Tables of lens curves: every column there, blanks where nothing is known, strangers' labels harmless. */
#include "analyses/plot/plot.h"
#include "analyses/report/curves_report.h"
#include "core/base/file.h"

#include <jansson.h>
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

enum { S = 2 };

static const char *const labels[S] = { "0_pre", "a,\"b\"\n\x1b" };

struct fixture {
    double numbers[LENS_CURVE_COUNT * S];
    struct lens_curves curves;
    struct curves_report report;
};

/* Column k of state s holds 10 k + s + 1; the competitors are unknown. */
static void make_report(struct fixture *x)
{
    x->curves = (struct lens_curves){ .n_facts = 7, .n_subjects = 5, .n_states = S, .never_rank1 = 1 };
    for (size_t k = 0; k < LENS_CURVE_COUNT; k++) {
        x->curves.value[k] = x->numbers + k * S;
        for (size_t s = 0; s < S; s++)
            x->curves.value[k][s] =
                k >= CURVE_COMPETITORS_MEAN && k <= CURVE_COMPETITORS_HIGH ? NAN : (double)(10 * k + s + 1);
    }
    x->curves.first_rank1 = (struct depth_summary){ 6, 1, 0, 2 };
    x->curves.depth = (struct depth_summary){ 0, NAN, NAN, NAN };
    x->report = (struct curves_report){ .curves = &x->curves,
                                        .labels = labels,
                                        .source = "a\"b.h5",
                                        .model = "",
                                        .site = "resid",
                                        .top_k = 5,
                                        .n_without_answer = 3,
                                        .n_draws = 1000 };
}

static void csv_has_every_column_and_blanks(void **state)
{
    (void)state;
    struct fixture x;
    struct strbuf out = STRBUF_INIT;
    make_report(&x);
    curves_report_csv(&x.report, &out);
    const char *text = strbuf_text(&out), *line = strchr(text, '\n');
    size_t commas = 0;
    for (const char *c = text; c < line; c++)
        commas += *c == ',';
    assert_int_equal(commas, 2 + LENS_CURVE_COUNT);
    assert_non_null(strstr(text, "layer,label,n,rank_median,rank_q1,rank_q3,rank_mean,mrr,hit1,"));
    assert_non_null(strstr(text, "\n0,0_pre,7,1,11,21,31,41,51,"));
    assert_non_null(strstr(text, "\n1,\"a,\"\"b\"\"\n\x1b\",7,2,12,"));
    assert_non_null(strstr(text, ",,,,")); /* three unknown competitor columns */
    strbuf_release(&out);
}

static void json_parses_and_has_null_for_unknown(void **state)
{
    (void)state;
    struct fixture x;
    struct strbuf out = STRBUF_INIT;
    make_report(&x);
    curves_report_json(&x.report, &out);
    json_error_t error;
    json_t *root = json_loads(strbuf_text(&out), JSON_REJECT_DUPLICATES, &error);
    if (!root)
        print_error("%s\n", error.text);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "source")), "a\"b.h5");
    assert_string_equal(json_string_value(json_object_get(root, "norm")), "lens");
    assert_string_equal(json_string_value(json_object_get(root, "band_over")), "facts");
    assert_int_equal(json_integer_value(json_object_get(root, "never_rank1")), 1);
    assert_true(json_is_null(json_object_get(json_object_get(root, "prediction_depth"), "median")));
    const json_t *layers = json_object_get(root, "layers"), *last = json_array_get(layers, 1);
    assert_int_equal(json_array_size(layers), S);
    assert_int_equal(json_object_size(last), 2 + LENS_CURVE_COUNT);
    assert_string_equal(json_string_value(json_object_get(last, "label")), labels[1]);
    assert_true(json_number_value(json_object_get(last, "rank_q1")) == 12);
    assert_true(json_is_null(json_object_get(last, "competitors_mean")));
    json_decref(root);
    strbuf_release(&out);
}

static void terminal_table_counts_what_was_left_out(void **state)
{
    (void)state;
    struct fixture x;
    struct strbuf out = STRBUF_INIT;
    make_report(&x);
    curves_report_text(&x.report, &out);
    const char *text = strbuf_text(&out);
    assert_non_null(strstr(text, "n = 7 facts, 5 subjects"));
    assert_non_null(strstr(text, "3 prompts without an answer"));
    assert_null(strchr(text, '\x1b')); /* a label must not drive the terminal */
    assert_null(strstr(text, "rivals"));
    strbuf_release(&out);
}

static void figures_are_written_even_without_gnuplot(void **state)
{
    (void)state;
    static const char *const names[] = { "rank", "probability", "hits", "candidates", "depth", "competitors" };
    char folder[] = "/tmp/strata-curves-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = strdup(getenv("PATH"));
    struct fixture x;
    struct err err = { 0, "" };
    make_report(&x);
    setenv("PATH", "/nonexistent", 1);
    int rc = curves_report_figures(&x.report, folder, &err);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 2; k++) {
            char file[100];
            snprintf(file, sizeof file, "%s/%s.%s", folder, names[i], k ? "gp" : "dat");
            assert_int_equal(file_exists(file), i < 5); /* no relations, no competitors */
            unlink(file);
        }
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_has_every_column_and_blanks),
        cmocka_unit_test(json_parses_and_has_null_for_unknown),
        cmocka_unit_test(terminal_table_counts_what_was_left_out),
        cmocka_unit_test(figures_are_written_even_without_gnuplot),
    };
    return cmocka_run_group_tests_name("curves_report", tests, NULL, NULL);
}
