#include "analyses/report/ablation_report.h"

#include "analyses/plot/figures.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct line {
    struct ablation_effect ranked, mean, sd; /* mean, sd: of the random draws */
};

static struct line line_of(const struct ablation_report *a, size_t count)
{
    struct line line = { .ranked = ablation_effect(a->run, count) };
    ablation_control(a->run, count, &line.mean, &line.sd);
    return line;
}

void ablation_report_text(const struct ablation_report *a, struct strbuf *out)
{
    struct ablation_effect base = ablation_base(a->run);
    strbuf_addf(out, "%-9s%9s%20s%12s%18s\n", a->what, "p(answer)", "random", "on rank 1", "random");
    strbuf_addf(out, "%-9d%9.3f%20s%11.1f%%\n", 0, base.probability, "", 100 * base.accuracy);
    for (size_t c = 0; c < a->n_counts; c++) {
        struct line l = line_of(a, c);
        strbuf_addf(out, "%-9zu%9.3f%11.3f +- %.3f%11.1f%%%9.1f%% +- %.1f\n", a->counts[c], l.ranked.probability,
                    l.mean.probability, l.sd.probability, 100 * l.ranked.accuracy, 100 * l.mean.accuracy,
                    100 * l.sd.accuracy);
    }
}

void ablation_report_csv(const struct ablation_report *a, struct strbuf *out)
{
    struct ablation_effect base = ablation_base(a->run);
    strbuf_addf(out, "%s,prob,rank1,random_prob,random_prob_sd,random_rank1,random_rank1_sd\n0,%.9g,%.9g,,,,\n",
                a->what, base.probability, base.accuracy);
    for (size_t c = 0; c < a->n_counts; c++) {
        struct line l = line_of(a, c);
        strbuf_addf(out, "%zu,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g\n", a->counts[c], l.ranked.probability, l.ranked.accuracy,
                    l.mean.probability, l.sd.probability, l.mean.accuracy, l.sd.accuracy);
    }
}

void ablation_report_json(const struct ablation_report *a, struct strbuf *out)
{
    struct ablation_effect base = ablation_base(a->run);
    strbuf_addf(out, "\"draws\":%zu,\"base_prob\":%.9g,\"base_rank1\":%.9g,\"counts\":[", a->run->n_draws,
                base.probability, base.accuracy);
    for (size_t c = 0; c < a->n_counts; c++) {
        struct line l = line_of(a, c);
        strbuf_addf(out,
                    "%s\n{\"%s\":%zu,\"prob\":%.9g,\"rank1\":%.9g,\"random_prob\":%.9g,\"random_prob_sd\":%.9g,"
                    "\"random_rank1\":%.9g,\"random_rank1_sd\":%.9g}",
                    c ? "," : "", a->what, a->counts[c], l.ranked.probability, l.ranked.accuracy, l.mean.probability,
                    l.sd.probability, l.mean.accuracy, l.sd.accuracy);
    }
    strbuf_addc(out, ']');
}

/* Rows of n numbers: the ranking, the random mean and its band. */
static void fill(const struct ablation_report *a, double *numbers, size_t n)
{
    struct ablation_effect base = ablation_base(a->run);
    numbers[0] = numbers[n] = numbers[2 * n] = numbers[3 * n] = base.probability;
    for (size_t c = 0; c < a->n_counts; c++) {
        struct line l = line_of(a, c);
        numbers[1 + c] = l.ranked.probability;
        numbers[n + 1 + c] = l.mean.probability;
        numbers[2 * n + 1 + c] = fmax(0, l.mean.probability - l.sd.probability);
        numbers[3 * n + 1 + c] = l.mean.probability + l.sd.probability;
    }
}

int ablation_report_figure(const struct ablation_report *a, const struct plot_target *to, struct err *err)
{
    size_t n = a->n_counts + 1;
    double *numbers = mem_array(4 * n, sizeof *numbers);
    char(*texts)[24] = mem_array(n, sizeof *texts), x_name[64], random_name[64];
    const char **labels = mem_array(n, sizeof *labels);
    int rc = numbers && texts && labels ? 0 : err_nomem(err, "a figure");
    for (size_t i = 0; !rc && i < n; i++) {
        snprintf(texts[i], sizeof *texts, "%zu", i ? a->counts[i - 1] : 0);
        labels[i] = texts[i];
    }
    if (!rc) {
        fill(a, numbers, n);
        snprintf(x_name, sizeof x_name, "%s taken out", a->what);
        snprintf(random_name, sizeof random_name, "random %s", a->what);
        const struct curve_line lines[] = {
            { .name = a->ranking, .middle = numbers },
            { .name = random_name, .middle = numbers + n, .low = numbers + 2 * n, .high = numbers + 3 * n }
        };
        const struct curve_figure figure = { .n_layers = n,
                                             .n_lines = 2,
                                             .labels = labels,
                                             .lines = lines,
                                             .x_name = x_name,
                                             .y_name = "mean p(answer)",
                                             .band_name = "standard deviation over random draws",
                                             .y_low = 0,
                                             .y_high = NAN };
        rc = plot_curves(to, &figure, err);
    }
    free(labels);
    free(texts);
    free(numbers);
    return rc;
}
