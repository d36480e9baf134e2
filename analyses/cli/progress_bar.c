#include "analyses/cli/progress_bar.h"

#include "core/formats/facts.h"
#include "core/store/journal.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* "4 s", "2 min 05 s", "3 h 20 min" */
static void duration_text(double seconds, char *text, size_t size)
{
    unsigned long s = seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 1000000000;
    if (s < 60)
        snprintf(text, size, "%lu s", s);
    else if (s < 3600)
        snprintf(text, size, "%lu min %02lu s", s / 60, s % 60);
    else
        snprintf(text, size, "%lu h %02lu min", s / 3600, s % 3600 / 60);
}

static void draw(struct progress_bar *bar, uint64_t done, uint64_t total, double elapsed)
{
    double rate = elapsed > 0 && done > bar->from ? (double)(done - bar->from) / elapsed : 0;
    char count[64], left[64] = "";
    if (total)
        snprintf(count, sizeof count, "%llu/%llu", (unsigned long long)done, (unsigned long long)total);
    else
        snprintf(count, sizeof count, "%llu", (unsigned long long)done);
    if (total > done && rate > 0)
        duration_text((double)(total - done) / rate, left, sizeof left);
    fprintf(stderr, "\r\033[K%s: %s %s, %.3g/s%s%s", bar->what, count, bar->unit, rate, *left ? ", left: " : "", left);
    bar->drawn = true;
}

static bool is_drawn(const struct cli *cli)
{
    return !cli->quiet && isatty(STDERR_FILENO);
}

uint64_t progress_bar_facts(const struct cli *cli)
{
    struct stat st;
    struct facts *facts;
    struct fact fact;
    struct err ignored;
    uint64_t n = 0;
    int got = 0;
    if (!is_drawn(cli) || !cli->input || stat(cli->input, &st) || !S_ISREG(st.st_mode) ||
        facts_open(&facts, cli->input, &ignored))
        return 0;
    while (n < cli->limit && !cli_interrupted() && (got = facts_next(facts, &fact, &ignored)) > 0)
        n++;
    facts_close(facts);
    return got < 0 ? 0 : n;
}

void progress_bar_skip(struct progress *progress, uint64_t done)
{
    struct progress_bar *bar = (struct progress_bar *)progress;
    bar->start = now();
    bar->from = done;
}

static int step(struct progress *self, uint64_t done, uint64_t total)
{
    struct progress_bar *bar = (struct progress_bar *)self;
    double t = now();
    if (journal_is_loading(self->journal))
        progress_bar_skip(self, done);
    /* Five times a second: readable, and cheap whatever the step is. */
    if (bar->terminal && t - bar->shown >= 0.2) {
        bar->shown = t;
        draw(bar, done, total, t - bar->start);
    }
    return cli_interrupted();
}

struct progress *progress_bar_start(struct progress_bar *bar, const struct cli *cli, const char *what, const char *unit)
{
    *bar = (struct progress_bar){
        .progress = { .step = step, .journal = cli->journal },
        .what = what,
        .unit = unit,
        .terminal = is_drawn(cli),
    };
    bar->start = bar->shown = now();
    return &bar->progress;
}

void progress_bar_end(struct progress_bar *bar)
{
    if (bar->drawn)
        fputs("\r\033[K", stderr);
    bar->drawn = false;
}
