#include "analyses/plot/figures.h"

#include <math.h>

static void value_range(const struct bar_figure *f, double *low, double *high)
{
    double least = 0, most = 0;
    for (size_t i = 0; i < f->n_series; i++)
        for (size_t g = 0; g < f->n_groups; g++)
            if (isfinite(f->series[i].values[g])) {
                least = fmin(least, f->series[i].values[g]);
                most = fmax(most, f->series[i].values[g]);
            }
    double pad = most > least ? 0.06 * (most - least) : 1;
    *low = least < 0 ? least - pad : 0;
    *high = most > 0 || least >= 0 ? most + pad : pad;
}

static void write_data(struct plot *p, const struct bar_figure *f)
{
    strbuf_adds(&p->data, "# group label");
    for (size_t i = 0; i < f->n_series; i++)
        plot_add_field(p, f->series[i].name, 0);
    strbuf_addc(&p->data, '\n');
    for (size_t g = 0; g < f->n_groups; g++) {
        strbuf_addf(&p->data, "%zu", g);
        if (f->labels) {
            plot_add_field(p, f->labels[g], 0);
        } else {
            strbuf_addf(&p->data, " \"%zu\"", g);
        }
        for (size_t i = 0; i < f->n_series; i++)
            plot_add_number(p, f->series[i].values[g]);
        strbuf_addc(&p->data, '\n');
    }
}

int plot_bars(const struct plot_target *to, const struct bar_figure *f, struct err *err)
{
    if (!f->n_groups || !f->n_series)
        return err_set(err, ERR_ARG, "%s: there are no bars: give at least one group and one series", to->name);
    struct plot p;
    double low, high, width = 0.8 / (double)f->n_series;
    value_range(f, &low, &high);
    plot_begin(&p, to, "Bars in groups; one column per series.");
    write_data(&p, f);
    strbuf_addf(&p.script, "set xrange [-0.6:%zu.6]\nset yrange [%.9g:%.9g]\n", f->n_groups - 1, low, high);
    plot_axis_labels(&p, 'x', f->labels, f->n_groups, 1030);
    strbuf_adds(&p.script, "set xlabel ");
    plot_add_string(&p, f->x_name, 100);
    strbuf_adds(&p.script, "\nset ylabel ");
    plot_add_string(&p, f->y_name, 70);
    strbuf_addf(&p.script,
                "\nset xzeroaxis lt 1 lc rgb '#444444' lw 1\nset grid noxtics\nset style fill solid 0.9 noborder\n"
                "bar = %.9g\nset boxwidth bar\n",
                width);
    plot_draw(&p);
    strbuf_adds(&p.script, "plot ");
    for (size_t i = 0; i < f->n_series; i++) {
        strbuf_addf(&p.script, "%sdata using ($1 + (%zu - %.9g) * bar):%zu with boxes lc rgb '%s' title ",
                    i ? ", \\\n     " : "", i, (double)(f->n_series - 1) / 2, 3 + i, plot_colour(i));
        plot_add_string(&p, f->series[i].name, 40);
    }
    strbuf_addc(&p.script, '\n');
    return plot_finish(&p, err);
}
