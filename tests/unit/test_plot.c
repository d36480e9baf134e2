/*
 * Figures: what strangers' text becomes, what ends up on disk, and what happens
 * without gnuplot. Tests that draw are skipped where gnuplot is not installed.
 */
#include "analyses/plot/figures.h"
#include "analyses/plot/gnuplot.h"
#include "core/base/file.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/strata-plot-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {
        "fact", "curves", "grid", "heat", "bars", "plain", "slow", "gnuplot", "fc-list"
    };
    static const char *const extensions[] = { "", ".dat", ".gp", ".svg", ".png", ".ran" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof extensions / sizeof *extensions; k++) {
            char path[200];
            snprintf(path, sizeof path, "%s/%s%s", folder, names[i], extensions[k]);
            unlink(path);
        }
    return rmdir(folder);
}

static char *path_in_folder(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* The file's text, for the caller to free. */
static char *read_text(const char *name)
{
    struct file_map map;
    struct err err;
    assert_int_equal(file_map_open(&map, path_in_folder(name), &err), 0);
    char *text = malloc(map.size + 1);
    assert_non_null(text);
    memcpy(text, map.data, map.size);
    text[map.size] = '\0';
    file_map_close(&map);
    return text;
}

static void assert_in_file(const char *name, const char *part)
{
    char *text = read_text(name);
    if (!strstr(text, part))
        print_error("%s lacks: %s\n", name, part);
    assert_non_null(strstr(text, part));
    free(text);
}

static bool has_gnuplot(void)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : ""; *at;) {
        size_t len = strcspn(at, ":");
        char file[500];
        snprintf(file, sizeof file, "%.*s/gnuplot", (int)len, at);
        if (access(file, X_OK) == 0)
            return true;
        at += len + (at[len] == ':');
    }
    return false;
}

static void assert_shown(const char *text, size_t max_width, const char *want)
{
    struct strbuf s = STRBUF_INIT;
    plot_show(&s, text, max_width);
    assert_string_equal(strbuf_text(&s), want);
    strbuf_release(&s);
}

static void shown_text_has_no_control_bytes(void **state)
{
    (void)state;
    assert_shown("a\nb\tc", 0, "a↵b⇥c");
    assert_shown("\x01\x7f\x1b[0m", 0, "\\x01\\x7f\\x1b[0m");
    assert_shown("\xff\xc3(", 0, "\xef\xbf\xbd\xef\xbf\xbd("); /* no UTF-8 */
    assert_shown("\xe2\x80\xae"
                 "x",
                 0, "\xef\xbf\xbdx");                             /* right-to-left override */
    assert_shown("\xef\xbf\xbf\xc2\x85", 0, "\xef\xbf\xbd\\x85"); /* U+FFFF may not stand in SVG; a C1 control */
    assert_shown("a]]>", 0, "a]]\xe2\x80\x8b>");                  /* would end the SVG */
    assert_shown("东京 é", 0, "东京 é");
}

static void long_text_is_shortened_to_its_columns(void **state)
{
    (void)state;
    assert_shown("abcdef", 6, "abcdef");
    assert_shown("abcdefg", 6, "abcde…");
    assert_shown("东京大学", 6, "东京…"); /* two columns each */
    assert_shown("\x01", 2, "…");
    for (size_t width = 1; width < 12; width++) {
        struct strbuf s = STRBUF_INIT;
        plot_show(&s,
                  "a东\n\x02"
                  "bcdefgh京",
                  width);
        assert_in_range(plot_width(strbuf_text(&s)), 1, width);
        strbuf_release(&s);
    }
    /* A letter with 10,000 combining accents is one column but may not be unbounded. */
    struct strbuf many = STRBUF_INIT, s = STRBUF_INIT;
    strbuf_adds(&many, "e");
    for (int i = 0; i < 10000; i++)
        strbuf_adds(&many, "\xcc\x81");
    plot_show(&s, strbuf_text(&many), 10);
    assert_true(s.len < 100);
    strbuf_release(&many);
    strbuf_release(&s);
}

static void tokens_show_their_edge_spaces(void **state)
{
    (void)state;
    static const char *const cases[][2] = { { " Paris", "␣Paris" }, { "a b ", "a b␣" }, { " ", "␣" }, { "", "" } };
    for (size_t i = 0; i < 4; i++) {
        struct strbuf s = STRBUF_INIT;
        plot_show_token(&s, cases[i][0], 0);
        assert_string_equal(strbuf_text(&s), cases[i][1]);
        strbuf_release(&s);
    }
}

/* A stand-in for gnuplot first in PATH; the caller restores PATH. */
static void with_program(const char *name, const char *script)
{
    FILE *fp = fopen(path_in_folder(name), "w");
    assert_non_null(fp);
    fputs(script, fp);
    fclose(fp);
    assert_int_equal(chmod(path_in_folder(name), 0755), 0);
    assert_int_equal(setenv("PATH", folder, 1), 0);
}

/* Of other scripts only what fontconfig lists; it is asked once, so this is the first test. */
static void what_no_font_has_is_drawn_as_a_box(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct strbuf out = STRBUF_INIT;
    with_program("fc-list", "#!/bin/sh\necho '20-7e 4eac'\necho '5d0-5d2 x'\n");
    plot_show_drawn(&out, "\xe6\x9d\xb1\xe4\xba\xac \xd7\x91\xd7\x93 \xc3\xb6\xce\xa9\xe2\x90\xa3\xe2\x80\xa6");
    setenv("PATH", path, 1);
    free(path);
    assert_string_equal(strbuf_text(&out), "\xe2\x96\xaf\xe4\xba\xac \xd7\x91\xe2\x96\xaf "
                                           "\xc3\xb6\xce\xa9\xe2\x90\xa3\xe2\x80\xa6");
    strbuf_release(&out);
}

static void strings_are_quoted_for_script_ticks_and_data(void **state)
{
    (void)state;
    struct plot p = { .data = STRBUF_INIT, .script = STRBUF_INIT };
    plot_add_string(&p, "it's `date` \\ \"q\" 5%\n", 0);
    strbuf_addc(&p.script, '|');
    plot_add_tick(&p, "it's 5%d", 0);
    plot_add_field(&p, "it's \"q\" \\n", 0);
    plot_add_number(&p, 0.1);
    plot_add_number(&p, NAN);
    plot_add_number(&p, -INFINITY);
    assert_string_equal(strbuf_text(&p.script), "'it''s `date` \\ \"q\" 5%↵'|'it''s 5%%d'");
    assert_string_equal(strbuf_text(&p.data), " \"it's \\\"q\\\" \\\\n\" 0.1 NaN NaN");
    strbuf_release(&p.script);
    strbuf_release(&p.data);
}

/* "set xtics" with at most as many labels as fit, always with the first and the last. */
static void axis_labels_are_thinned_but_keep_both_ends(void **state)
{
    (void)state;
    for (size_t n = 1; n < 200; n += 13) {
        struct plot p = { .data = STRBUF_INIT, .script = STRBUF_INIT };
        char last[50];
        plot_axis_labels(&p, 'x', NULL, n, 400);
        const char *text = strbuf_text(&p.script);
        size_t count = 0;
        for (const char *c = text; (c = strchr(c, '\'')); c++)
            count++;
        snprintf(last, sizeof last, "'%zu' %zu)\n", n - 1, n - 1);
        assert_non_null(strstr(text, "('0' 0"));
        assert_non_null(strstr(text, last));
        assert_in_range(count / 2, n < 10 ? n : 5, 20);
        strbuf_release(&p.script);
    }
}

static const char nasty[] = "it's \"x\" `touch plain.ran` {a}_b^c @name %s \\ $1 # \x1b<&>\n\xff";

/* A figure of every kind from the same small numbers, all texts nasty. */
static int draw_all(const char *title, struct err *err)
{
    enum { S = 4, T = 3 };
    static const char *const labels[S] = { "0_pre", "1_pre", nasty, "final_post" };
    static const char *const tokens[T] = { nasty, " b", "100%" };
    static const double rank[S * T] = { 9000, 100, 10, 1, 5, 7, NAN, 3, 50000, 1, 1, 1 };
    static const double value[S * T] = { -1, 0.5, 0.25, 0.125, NAN, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7 };
    static const char *const text[S * T] = { nasty, "a", NULL, " Paris", "\"", "'", "\\", "%", "#", "{", "@", "`ls`" };
    struct plot_target to = { .folder = folder, .title = title, .subtitle = nasty };
    const struct fact_line fact_lines[] = { { nasty, rank, value + 8 }, { "rival", rank + 4, value + 4 } };
    const struct curve_line lines[] = { { nasty, rank, rank + 1, rank + 2 }, { "b", rank + 4, NULL, NULL } };
    const struct bar_series bars[] = { { nasty, value }, { "FFN", value + 4 } };
    const struct fact_figure fact = { .n_layers = S, .n_lines = 2, .labels = labels, .lines = fact_lines };
    const struct curve_figure curves = { .n_layers = S,
                                         .n_lines = 2,
                                         .labels = labels,
                                         .lines = lines,
                                         .y_name = nasty,
                                         .band_name = nasty,
                                         .log = true,
                                         .reversed = true,
                                         .y_low = NAN,
                                         .y_high = NAN };
    const struct grid_figure grid = { .n_tokens = T,
                                      .n_layers = S,
                                      .tokens = tokens,
                                      .labels = labels,
                                      .rank = rank,
                                      .text = text,
                                      .value_name = nasty };
    const struct heat_figure heat = { .n_rows = S,
                                      .n_columns = T,
                                      .values = value,
                                      .row_labels = labels,
                                      .column_labels = tokens,
                                      .row_name = nasty,
                                      .column_name = nasty,
                                      .value_name = nasty,
                                      .row_prefix = "L",
                                      .column_prefix = "H",
                                      .n_marked = 2,
                                      .diverging = true };
    const struct bar_figure bar = {
        .n_groups = S, .n_series = 2, .labels = labels, .series = bars, .x_name = nasty, .y_name = nasty
    };
    int rc;
    to.name = "fact";
    if ((rc = plot_fact(&to, &fact, err)))
        return rc;
    to.name = "curves";
    if ((rc = plot_curves(&to, &curves, err)))
        return rc;
    to.name = "grid";
    if ((rc = plot_grid(&to, &grid, err)))
        return rc;
    to.name = "heat";
    if ((rc = plot_heat(&to, &heat, err)))
        return rc;
    to.name = "bars";
    return plot_bars(&to, &bar, err);
}

static const char *const kinds[] = { "fact", "curves", "grid", "heat", "bars" };

static void every_figure_is_drawn_whatever_the_text(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    struct err err = { 0, "" };
    int rc = draw_all(nasty, &err);
    if (rc)
        print_error("%s\n", err.msg);
    assert_int_equal(rc, 0);
    for (size_t i = 0; i < 5; i++) {
        static const char *const starts[] = { ".svg", "<?xml", ".png", "\x89PNG" };
        for (size_t k = 0; k < 4; k += 2) {
            char name[50];
            snprintf(name, sizeof name, "%s%s", kinds[i], starts[k]);
            char *text = read_text(name);
            assert_int_equal(strncmp(text, starts[k + 1], strlen(starts[k + 1])), 0);
            free(text);
        }
        char name[50];
        snprintf(name, sizeof name, "%s.svg", kinds[i]);
        assert_in_file(name, "`touch plain.ran` {a}_b^c @name %s \\ $1 # \\x1b&lt;&amp;>"); /* verbatim */
        assert_in_file(name, "</svg>");
    }
    assert_in_file("grid.svg", ">100%<");                   /* tick labels are formats too */
    assert_false(file_exists(path_in_folder("plain.ran"))); /* no backquote was run */
}

/* gnuplot gives its svg more room for slanted labels than its png, and cuts off what it puts below the edge. */
static void slanted_labels_leave_room_for_the_axis_name(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    enum { N = 40 };
    static const char *const each[] = { "final_post", "_twenty_four_columns_now" };
    struct err err = { 0, "" };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        const char *labels[N];
        double values[N];
        for (size_t k = 0; k < N; k++) {
            labels[k] = each[i];
            values[k] = (double)k;
        }
        const struct bar_series bars = { "x", values };
        const struct bar_figure f = {
            .n_groups = N, .n_series = 1, .labels = labels, .series = &bars, .x_name = "AXIS NAME", .y_name = "y"
        };
        assert_int_equal(plot_bars(&(struct plot_target){ .folder = folder, .name = "bars", .title = "t" }, &f, &err),
                         0);
        char *text = read_text("bars.svg"), *name = strstr(text, ">AXIS NAME<");
        double y = NAN;
        assert_non_null(name);
        for (char *at = text; (at = strstr(at, "translate(")) && at < name; at++)
            sscanf(at, "translate(%*f,%lf", &y);
        assert_true(y > 700 && y < 795);
        free(text);
    }
}

static void same_numbers_give_the_same_bytes(void **state)
{
    (void)state;
    if (!has_gnuplot())
        skip();
    struct err err;
    char *first[10];
    for (int round = 0; round < 2; round++) {
        assert_int_equal(draw_all("title", &err), 0);
        for (size_t i = 0; i < 10; i++) {
            char name[50];
            snprintf(name, sizeof name, "%s%s", kinds[i / 2], i % 2 ? ".svg" : ".gp");
            char *text = read_text(name);
            if (round) {
                assert_string_equal(text, first[i]);
                free(first[i]);
                free(text);
            } else {
                first[i] = text;
            }
        }
    }
}

static int plain_curve(const char *name, double seconds, struct err *err)
{
    static const char *const labels[] = { "0_pre", "final_post" };
    static const double y[] = { 10, 1 };
    const struct curve_line line = { "median", y, NULL, NULL };
    const struct curve_figure f = { .n_layers = 2,
                                    .n_lines = 1,
                                    .labels = labels,
                                    .lines = &line,
                                    .y_name = "rank",
                                    .log = true,
                                    .reversed = true,
                                    .y_low = NAN,
                                    .y_high = NAN };
    const struct plot_target to = { .folder = folder, .name = name, .title = "t", .seconds = seconds };
    return plot_curves(&to, &f, err);
}

static void without_gnuplot_the_numbers_stay(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct err err = { 0, "" };
    FILE *stale = fopen(path_in_folder("plain.png"), "w"); /* of an earlier run */
    assert_non_null(stale);
    fclose(stale);
    setenv("PATH", "/nonexistent", 1);
    int rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    assert_int_equal(err.code, ERR_NOTFOUND);
    assert_non_null(strstr(err.msg, "gnuplot is not installed"));
    assert_in_file("plain.dat", "0 \"0_pre\" 10 NaN NaN\n1 \"final_post\" 1 NaN NaN\n");
    assert_in_file("plain.gp", "data = name.'.dat'");
    assert_false(file_exists(path_in_folder("plain.png")));
    assert_false(file_exists(path_in_folder("plain.svg")));
}

static void gnuplots_complaint_reaches_the_caller(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct err err = { 0, "" };
    with_program("gnuplot", "#!/bin/sh\necho half > plain.svg\necho 'line 3:\n\n  bad   thing' >&2\nexit 1\n");
    int rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    assert_int_equal(err.code, ERR_CHECK);
    assert_non_null(strstr(err.msg, "gnuplot says: line 3: bad thing"));
    assert_false(file_exists(path_in_folder("plain.svg")));

    with_program("gnuplot", "#!/bin/sh\nprintf '\\377\\302\\233x \\303\\251' >&2\nexit 1\n");
    rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    assert_non_null(strstr(err.msg, "gnuplot says: ? x \xc3\xa9")); /* a control character of Latin 1, too */

    with_program("gnuplot", "#!/bin/sh\nkill -SEGV $$\n");
    rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    assert_non_null(strstr(err.msg, "signal 11"));
    free(path);
}

/* As on a full disk: it says nothing and exits with 0. */
static void half_a_picture_is_an_error(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct err err = { 0, "" };
    with_program("gnuplot",
                 "#!/bin/sh\necho '<svg></svg>' > plain.svg" FILE_DRAFT "\nprintf half > plain.png" FILE_DRAFT "\n");
    int rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    assert_int_equal(rc, ERR_IO);
    assert_non_null(strstr(err.msg, "plain.png: gnuplot has not written it whole"));
    assert_false(file_exists(path_in_folder("plain.svg")) || file_exists(path_in_folder("plain.png")));

    with_program("gnuplot", "#!/bin/sh\necho '<svg></svg>' > plain.svg" FILE_DRAFT "\n");
    rc = plain_curve("plain", 0, &err);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(rc, ERR_IO);
}

static void a_gnuplot_that_hangs_is_stopped(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    struct err err = { 0, "" };
    with_program("gnuplot", "#!/bin/sh\nwhile :; do :; done\n");
    time_t start = time(NULL);
    int rc = plain_curve("slow", 0.3, &err);
    setenv("PATH", path, 1);
    free(path);
    assert_int_equal(rc, PLOT_NOT_DRAWN);
    assert_non_null(strstr(err.msg, "took longer"));
    assert_true(time(NULL) - start < 10);
}

static void bad_names_and_folders_are_errors(void **state)
{
    (void)state;
    struct err err;
    static const char *const names[] = { "", "../x", "a/b", "-d", ".hidden", "a b", "it's" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(plain_curve(names[i], 0, &err), ERR_ARG);
    const struct plot_target to = { .folder = "/nonexistent/folder", .name = "x", .title = "t" };
    struct plot p;
    plot_begin(&p, &to, "about");
    plot_draw(&p);
    assert_int_equal(plot_finish(&p, &err), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_font_has_is_drawn_as_a_box),
        cmocka_unit_test(shown_text_has_no_control_bytes),
        cmocka_unit_test(long_text_is_shortened_to_its_columns),
        cmocka_unit_test(tokens_show_their_edge_spaces),
        cmocka_unit_test(strings_are_quoted_for_script_ticks_and_data),
        cmocka_unit_test(axis_labels_are_thinned_but_keep_both_ends),
        cmocka_unit_test(every_figure_is_drawn_whatever_the_text),
        cmocka_unit_test(slanted_labels_leave_room_for_the_axis_name),
        cmocka_unit_test(same_numbers_give_the_same_bytes),
        cmocka_unit_test(without_gnuplot_the_numbers_stay),
        cmocka_unit_test(gnuplots_complaint_reaches_the_caller),
        cmocka_unit_test(half_a_picture_is_an_error),
        cmocka_unit_test(a_gnuplot_that_hangs_is_stopped),
        cmocka_unit_test(bad_names_and_folders_are_errors),
    };
    return cmocka_run_group_tests_name("plot", tests, make_folder, remove_folder);
}
