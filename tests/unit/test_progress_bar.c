/* Rate and time left on a terminal: what an earlier run did is no part of them. */
#define _GNU_SOURCE /* pseudo-terminals */
#include "analyses/cli/progress_bar.h"
#include "core/store/journal.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static int terminal, real_stderr;

/* The program's own asks for signals. */
bool cli_interrupted(void)
{
    return false;
}

/* Standard error becomes a terminal, whose other side is `terminal`. */
static int set_up(void **state)
{
    (void)state;
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal))
        return -1;
    int side = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    real_stderr = dup(STDERR_FILENO);
    int rc = side < 0 || dup2(side, STDERR_FILENO) < 0;
    close(side);
    return rc;
}

static int tear_down(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    return close(terminal);
}

/* Long enough for the next step to be drawn. */
static void wait_a_moment(void)
{
    const struct timespec moment = { .tv_nsec = 250000000 };
    nanosleep(&moment, NULL);
}

/* The last line drawn: its rate, and whether it tells the time left. */
static double rate_of(const char *what, bool *left)
{
    char text[4096], format[64], *line, *next;
    double rate = -1;
    ssize_t n;
    size_t len = 0;
    wait_a_moment(); /* the other side may not have seen it all yet */
    while (len < sizeof text - 1 && (n = read(terminal, text + len, sizeof text - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    line = strstr(text, what);
    assert_non_null(line);
    while ((next = strstr(line + 1, what)))
        line = next;
    snprintf(format, sizeof format, "%s: %%*u/%%*u pieces, %%lf/s", what);
    assert_int_equal(sscanf(line, format, &rate), 1);
    *left = strstr(line, "/s, left: ") != NULL;
    return rate;
}

static void test_rate(void **state)
{
    struct cli cli = { 0 };
    struct progress_bar bar;
    bool left;
    (void)state;
    struct progress *p = progress_bar_start(&bar, &cli, "plain", "pieces");
    wait_a_moment();
    assert_int_equal(progress_step(p, 1000, 5000), 0);
    double rate = rate_of("plain", &left);
    assert_true(left && rate > 100 && rate <= 4000);
    progress_bar_end(&bar);
}

static void test_skipped(void **state)
{
    struct cli cli = { 0 };
    struct progress_bar bar;
    bool left;
    (void)state;
    struct progress *p = progress_bar_start(&bar, &cli, "skipped", "pieces");
    progress_bar_skip(p, 1000);
    wait_a_moment();
    assert_int_equal(progress_step(p, 1001, 5000), 0);
    double rate = rate_of("skipped", &left);
    assert_true(left && rate > 0 && rate <= 4);
    progress_bar_end(&bar);
}

static struct journal *open_journal(const char *output)
{
    struct journal *j;
    struct err err;
    assert_int_equal(journal_open(&j, output, "key", true, &err), 0);
    return j;
}

static void test_loaded(void **state)
{
    char folder[] = "/tmp/strata-test-XXXXXX", output[64];
    struct progress_bar bar;
    struct err err;
    int number = 7;
    bool left;
    const struct journal_part part = { &number, sizeof number };
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(output, sizeof output, "%s/out", folder);
    struct journal *j = open_journal(output);
    for (int i = 0; i < 3; i++)
        assert_int_equal(journal_save(j, &part, 1, &err), 0);
    journal_close(j, true);
    struct cli cli = { .journal = open_journal(output) };
    struct progress *p = progress_bar_start(&bar, &cli, "loaded", "pieces");
    for (uint64_t i = 1; i <= 3; i++) {
        assert_true(journal_load(progress_journal(p), &part, 1));
        assert_int_equal(progress_step(p, 1000 * i, 5000), 0);
    }
    assert_false(journal_load(progress_journal(p), &part, 1));
    wait_a_moment();
    assert_int_equal(progress_step(p, 3001, 5000), 0);
    double rate = rate_of("loaded", &left);
    assert_true(left && rate > 0 && rate <= 4);
    progress_bar_end(&bar);
    journal_close(cli.journal, false);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_skipped),
        cmocka_unit_test(test_loaded),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
