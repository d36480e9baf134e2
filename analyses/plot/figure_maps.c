#include "analyses/plot/figures.h"
#include "core/base/mem.h"

#include <math.h>

enum { GAP_COLUMNS = 2 };

/* Maps side by side: what makes their cells most nearly as wide as the picture allows. */
static size_t maps_across(const struct maps_figure *f)
{
    size_t across = (size_t)ceil(sqrt(1.45 * (double)f->n_maps * (double)f->n_rows / (double)(2 * f->n_columns)));
    across = across < 3 ? 3 : across > 12 ? 12 : across;
    return across < f->n_maps ? across : f->n_maps;
}

static size_t largest(const double *values, size_t n)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        if (isfinite(values[i]) && (best == SIZE_MAX || values[i] > values[best]))
            best = i;
    return best;
}

static void write_data(struct plot *p, const struct maps_figure *f)
{
    size_t cells = f->n_rows * f->n_columns;
    strbuf_adds(&p->data, "# map column row value\n");
    for (size_t i = 0; i < f->n_maps; i++) {
        strbuf_addf(&p->data, "# map %zu:", i);
        plot_add_field(p, f->names[i], 0);
        strbuf_addc(&p->data, '\n');
        for (size_t k = 0; k < cells; k++) {
            strbuf_addf(&p->data, "%zu %zu %zu", i, k % f->n_columns, k / f->n_columns);
            plot_add_number(p, f->values[i * cells + k]);
            strbuf_addc(&p->data, '\n');
        }
    }
}

/* The map's name and its largest cell above it. */
static void add_title(struct plot *p, const struct maps_figure *f, size_t map, size_t across, double gap_rows,
                      size_t width)
{
    const double *values = f->values + map * f->n_rows * f->n_columns;
    size_t best = largest(values, f->n_rows * f->n_columns);
    double x = (double)(map % across) * (double)(f->n_columns + GAP_COLUMNS) - 0.5;
    double y = -(double)(map / across) * ((double)f->n_rows + gap_rows) + (double)f->n_rows - 0.5;
    strbuf_addf(&p->script, "set label %zu ", 10 + 2 * map);
    plot_add_string(p, f->names[map], width);
    strbuf_addf(&p->script, " at %.9g, %.9g left front noenhanced font size(12)\n", x, y + 0.58 * gap_rows);
    if (best == SIZE_MAX || values[best] <= 0)
        return;
    strbuf_addf(&p->script, "set label %zu '%s%zu%s%zu  %.2f' at %.9g, %.9g left front noenhanced font size(11) ",
                11 + 2 * map, f->row_prefix, best / f->n_columns, f->column_prefix, best % f->n_columns, values[best],
                x, y + 0.22 * gap_rows);
    strbuf_adds(&p->script, "textcolor rgb '#555555'\n");
}

int plot_maps(const struct plot_target *to, const struct maps_figure *f, struct err *err)
{
    size_t n;
    if (!f->n_maps || !size_mul(f->n_rows, f->n_columns, &n) || !n)
        return err_set(err, ERR_ARG, "%s: the maps are empty: give at least one row and one column", to->name);
    struct plot p;
    double most = 0;
    size_t across = maps_across(f), down = (f->n_maps + across - 1) / across;
    for (size_t i = 0; i < f->n_maps * n; i++)
        most = isfinite(f->values[i]) ? fmax(most, f->values[i]) : most;
    plot_begin(&p, to, "One small map after another, all in the same colours.");
    p.width = 1300;
    p.height = 1000;
    /* Room for two lines of text of about 16 pixels each. */
    double pixels_a_map = 0.80 * p.height / (double)down;
    double gap_rows = (double)f->n_rows * 42 / fmax(pixels_a_map - 42, 20);
    size_t text = (size_t)(0.82 * p.width / (double)across / 7.4);
    write_data(&p, f);
    strbuf_addf(&p.script, "across = %zu\ncolumns = %zu\nrows = %zu\ngap_rows = %.9g\n", across, f->n_columns,
                f->n_rows, gap_rows);
    strbuf_addf(&p.script,
                "set xrange [-1:across * (columns + %d) - %d]\n"
                "set yrange [-0.6 - %zu * (rows + gap_rows):rows + gap_rows - 0.5]\n",
                GAP_COLUMNS, GAP_COLUMNS, down - 1);
    strbuf_adds(&p.script, "unset grid\nunset key\nunset border\nunset xtics\nunset ytics\n"
                           "set lmargin at screen 0.05\nset rmargin at screen 0.88\n"
                           "set bmargin at screen 0.07\nset tmargin at screen 0.89\nset xlabel ");
    struct strbuf axis = STRBUF_INIT;
    strbuf_addf(&axis, "in each map: %s 0 to %zu from left to right", f->column_name, f->n_columns - 1);
    plot_add_string(&p, strbuf_text(&axis), 100);
    strbuf_adds(&p.script, "\nset ylabel ");
    strbuf_reset(&axis);
    strbuf_addf(&axis, "in each map: %s 0 to %zu from bottom to top", f->row_name, f->n_rows - 1);
    plot_add_string(&p, strbuf_text(&axis), 100);
    strbuf_addc(&p.script, '\n');
    plot_palette_sequential(&p, false);
    strbuf_addf(&p.script, "set cbrange [0:%.9g]\nset cblabel ", most > 0 ? most : 1);
    plot_add_string(&p, f->value_name, 80);
    strbuf_adds(&p.script, " offset 1\n");
    plot_draw(&p);
    for (size_t i = 0; i < f->n_maps; i++)
        add_title(&p, f, i, across, gap_rows, text);
    strbuf_addf(&p.script,
                "left(map) = int(map) %% across * (columns + %d)\n"
                "low(map) = -(int(map) / across) * (rows + gap_rows)\n"
                "plot data using (left($1) + $2):(low($1) + $3):(left($1) + $2 - 0.5):(left($1) + $2 + 0.5)"
                ":(low($1) + $3 - 0.5):(low($1) + $3 + 0.5):4 with boxxyerror fs solid 1 noborder fc palette "
                "notitle\n",
                GAP_COLUMNS);
    if (strbuf_failed(&axis))
        p.script.failed = true;
    strbuf_release(&axis);
    return plot_finish(&p, err);
}
