#include "analyses/plot/figures.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_MARKED = 12 };

static double cell(const struct heat_figure *f, size_t i)
{
    return isfinite(f->values[i]) ? fabs(f->values[i]) : -1;
}

/* The n cells of largest |value|, largest first, the earlier one on equal values. Returns how many there are. */
static size_t find_marked(const struct heat_figure *f, size_t marked[MOST_MARKED])
{
    size_t want = f->n_marked < MOST_MARKED ? f->n_marked : MOST_MARKED, n = 0;
    for (size_t i = 0; want && i < f->n_rows * f->n_columns; i++) {
        if (cell(f, i) < 0 || (n == want && cell(f, i) <= cell(f, marked[n - 1])))
            continue;
        size_t at = n < want ? n++ : n - 1;
        for (; at > 0 && cell(f, marked[at - 1]) < cell(f, i); at--)
            marked[at] = marked[at - 1];
        marked[at] = i;
    }
    return n;
}

static void value_range(const struct heat_figure *f, double *low, double *high)
{
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < f->n_rows * f->n_columns; i++)
        if (isfinite(f->values[i])) {
            least = fmin(least, f->values[i]);
            most = fmax(most, f->values[i]);
        }
    if (least > most)
        least = most = 0;
    if (f->diverging) {
        most = fmax(fabs(least), fabs(most));
        least = -most;
    }
    if (f->least && !f->diverging)
        least = *f->least;
    *low = least;
    *high = most > least ? most : least + 1;
    if (f->diverging && most <= 0)
        *low = -1, *high = 1;
}

static void write_data(struct plot *p, const struct heat_figure *f)
{
    strbuf_adds(&p->data, "# column row value\n");
    for (size_t r = 0; r < f->n_rows; r++)
        for (size_t c = 0; c < f->n_columns; c++) {
            strbuf_addf(&p->data, "%zu %zu", c, r);
            plot_add_number(p, f->values[r * f->n_columns + c]);
            strbuf_addc(&p->data, '\n');
        }
}

static void cell_name(const struct heat_figure *f, size_t i, struct strbuf *name)
{
    strbuf_addf(name, "%s%zu%s%zu", f->row_prefix ? f->row_prefix : "", i / f->n_columns,
                f->column_prefix ? f->column_prefix : ",", i % f->n_columns);
}

/* A frame round each marked cell, its name inside where it fits, and all of them in a line with their values. */
static void add_marks(struct plot *p, const struct heat_figure *f, double most, double cell_width, double cell_height)
{
    size_t marked[MOST_MARKED], n = find_marked(f, marked);
    struct strbuf list = STRBUF_INIT;
    strbuf_adds(&list, "largest: ");
    for (size_t i = 0; i < n; i++) {
        struct strbuf name = STRBUF_INIT;
        size_t r = marked[i] / f->n_columns, c = marked[i] % f->n_columns;
        cell_name(f, marked[i], &name);
        strbuf_addf(&list, f->diverging ? "%s%s %+.3g" : "%s%s %.3g", i ? ",  " : "", strbuf_text(&name),
                    f->values[marked[i]]);
        strbuf_addf(&p->script,
                    "set object %zu rectangle from %zu.0 - 0.5, %zu.0 - 0.5 to %zu.0 + 0.5, %zu.0 + 0.5 front "
                    "fillstyle empty border lc rgb 'black' lw 2\n",
                    i + 2, c, r, c, r);
        if (cell_width > 9.0 * (double)name.len && cell_height > 15) {
            strbuf_addf(&p->script, "set label %zu ", i + 10);
            plot_add_string(p, strbuf_text(&name), 0);
            /* Viridis alone is bright where values are large. */
            bool bright = !f->diverging && f->colours == HEAT_VIRIDIS;
            bool dark = (fabs(f->values[marked[i]]) > 0.55 * most) != bright;
            strbuf_addf(&p->script, " at %zu, %zu center front noenhanced font size(14) tc rgb '%s'\n", c, r,
                        dark ? "white" : "black");
        }
        if (strbuf_failed(&name))
            p->script.failed = true;
        strbuf_release(&name);
    }
    if (n) {
        strbuf_adds(&p->script, "set label 3 ");
        plot_add_string(p, strbuf_text(&list), 140);
        strbuf_adds(&p->script, " at screen 0.5, screen 0.885 center noenhanced font size(14)\n");
    }
    if (strbuf_failed(&list))
        p->script.failed = true;
    strbuf_release(&list);
}

int plot_heat(const struct plot_target *to, const struct heat_figure *f, struct err *err)
{
    size_t n;
    if (!size_mul(f->n_rows, f->n_columns, &n) || n == 0)
        return err_set(err, ERR_ARG, "%s: the heat map is empty: give at least one row and one column", to->name);
    struct plot p;
    double low, high, width = 1200 * 0.755, height = 800 * 0.70;
    value_range(f, &low, &high);
    plot_begin(&p, to, "One value per row and column.");
    write_data(&p, f);
    strbuf_addf(&p.script, "rows = %zu\nset xrange [-0.5:%zu.5]\nset yrange [%s]\n", f->n_rows, f->n_columns - 1,
                f->rows_down ? "rows - 0.5:-0.5" : "-0.5:rows - 0.5");
    size_t longest = plot_axis_labels(&p, 'y', f->row_labels, f->n_rows, height);
    strbuf_addf(&p.script,
                "unset grid\nunset key\nset border 15\nset tics scale 0\n"
                "set lmargin at screen %.4f\nset rmargin at screen 0.87\n"
                "# Grey shows through where there is no value.\n"
                "set object 1 rectangle from graph 0, graph 0 to graph 1, graph 1 behind fc rgb '#d0d0d0' "
                "fillstyle solid noborder\n",
                fmax(0.09, (8.5 * (double)longest + 65) / p.width));
    plot_axis_labels(&p, 'x', f->column_labels, f->n_columns, width);
    strbuf_adds(&p.script, "set xlabel ");
    plot_add_string(&p, f->column_name, 80);
    strbuf_adds(&p.script, "\nset ylabel ");
    plot_add_string(&p, f->row_name, 80);
    strbuf_addc(&p.script, '\n');
    if (f->diverging)
        plot_palette_diverging(&p);
    else if (f->colours == HEAT_VIRIDIS)
        plot_palette_sequential(&p, false);
    else
        plot_palette_hue(&p, f->colours == HEAT_PURPLES ? 'p' : f->colours == HEAT_GREENS ? 'g' : 'r');
    strbuf_addf(&p.script, "set cbrange [%.9g:%.9g]\nset format cb '%%g'\nset cblabel ", low, high);
    plot_add_string(&p, f->value_name, 80);
    strbuf_adds(&p.script, " offset 1\n");
    plot_draw(&p);
    add_marks(&p, f, high, width / (double)f->n_columns, height / (double)f->n_rows);
    strbuf_adds(&p.script, "plot data using 1:($3 == $3 ? $2 : NaN):($1-0.5):($1+0.5):($2-0.5):($2+0.5):3 with "
                           "boxxyerror fs solid 1 border "
                           "lc rgb 'white' fc palette notitle\n");
    return plot_finish(&p, err);
}
