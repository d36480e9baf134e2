#include "analyses/plot/figures.h"

#include <math.h>

static void widen(double x, bool log, double *least, double *most)
{
    if (!isfinite(x) || (log && x <= 0))
        return;
    *least = fmin(*least, x);
    *most = fmax(*most, x);
}

/* From every line and band, a little wider, so that nothing lies on the frame. */
static void axis_range(const struct curve_figure *f, double *low, double *high)
{
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < f->n_lines; i++) {
        const struct curve_line *line = &f->lines[i];
        for (size_t s = 0; s < f->n_layers; s++) {
            widen(line->middle[s], f->log, &least, &most);
            if (line->low) {
                widen(line->low[s], f->log, &least, &most);
                widen(line->high[s], f->log, &least, &most);
            }
        }
    }
    if (least > most)
        least = 1, most = 1;
    if (f->log) {
        /* Ranks and counts: no tics below 1, but room for the points on it. */
        least = least >= 1 ? fmax(least / 1.4, 0.93) : least / 1.4;
        most = fmax(most * 1.4, least * 20);
    } else {
        double pad = most > least ? 0.06 * (most - least) : fmax(fabs(most) * 0.1, 0.01);
        least -= pad;
        most += pad;
    }
    *low = isnan(f->y_low) ? least : f->y_low;
    *high = isnan(f->y_high) ? most : f->y_high;
    if (!(*high > *low)) /* all data on the edge that was asked for */
        *high = *low + 1;
}

static void write_data(struct plot *p, const struct curve_figure *f)
{
    strbuf_adds(&p->data, "# layer label");
    for (size_t i = 0; i < f->n_lines; i++)
        strbuf_addf(&p->data, " middle%zu low%zu high%zu", i, i, i);
    for (size_t i = 0; i < f->n_lines; i++) {
        strbuf_addf(&p->data, "\n# middle%zu:", i);
        plot_add_field(p, f->lines[i].name, 0);
    }
    strbuf_addc(&p->data, '\n');
    for (size_t s = 0; s < f->n_layers; s++) {
        strbuf_addf(&p->data, "%zu", s);
        if (f->labels)
            plot_add_field(p, f->labels[s], 0);
        else
            strbuf_addf(&p->data, " %zu", s);
        for (size_t i = 0; i < f->n_lines; i++) {
            const struct curve_line *line = &f->lines[i];
            plot_add_number(p, line->middle[s]);
            plot_add_number(p, line->low ? line->low[s] : NAN);
            plot_add_number(p, line->high ? line->high[s] : NAN);
        }
        strbuf_addc(&p->data, '\n');
    }
}

/* Bands first, so that no line is hidden under another one's band. */
static void add_plot(struct plot *p, const struct curve_figure *f)
{
    bool first = true;
    strbuf_adds(&p->script, "plot ");
    for (size_t i = 0; i < f->n_lines; i++) {
        if (!f->lines[i].low)
            continue;
        strbuf_addf(&p->script,
                    "%sdata using 1:%zu:%zu with filledcurves fillstyle transparent solid 0.2 noborder "
                    "fc rgb '%s' notitle",
                    first ? "" : ", \\\n     ", 4 + 3 * i, 5 + 3 * i, plot_colour(i));
        first = false;
    }
    for (size_t i = 0; i < f->n_lines; i++) {
        strbuf_addf(&p->script, "%sdata using 1:%zu with linespoints lc rgb '%s' lw 3 pt %d ps 0.8 title ",
                    first ? "" : ", \\\n     ", 3 + 3 * i, plot_colour(i), plot_point(i));
        first = false;
        plot_add_string(p, f->lines[i].name, 40);
    }
    strbuf_addc(&p->script, '\n');
}

int plot_curves(const struct plot_target *to, const struct curve_figure *f, struct err *err)
{
    struct plot p;
    double low, high;
    axis_range(f, &low, &high);
    plot_begin(&p, to, "Curves over depth; low and high are the edges of the band.");
    write_data(&p, f);
    strbuf_addf(&p.script, "set xrange [-0.5:%zu.5]\n", f->n_layers ? f->n_layers - 1 : 0);
    plot_axis_labels(&p, 'x', f->labels, f->n_layers, 1030);
    strbuf_adds(&p.script, "set xlabel ");
    plot_add_string(&p, f->x_name ? f->x_name : PLOT_DEPTH_NAME, 120);
    strbuf_adds(&p.script, "\nset ylabel ");
    plot_add_string(&p, f->y_name, 70);
    strbuf_adds(&p.script, "\nband = ");
    plot_add_string(&p, f->band_name ? f->band_name : "", 80);
    strbuf_addc(&p.script, '\n');
    if (f->log)
        strbuf_addf(&p.script, "set logscale y\n%s", low >= 0.5 ? "set format y '%.0f'\n" : "");
    strbuf_addf(&p.script, "set yrange [%.9g:%.9g]\n", f->reversed ? high : low, f->reversed ? low : high);
    plot_draw(&p);
    if (f->band_name)
        strbuf_adds(&p.script, "set label 3 'band: '.band at screen 0.09, screen 0.88 left noenhanced font size(14) "
                               "textcolor rgb '#555555'\n");
    add_plot(&p, f);
    return plot_finish(&p, err);
}
