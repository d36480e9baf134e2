#include "analyses/plot/figures.h"

#include <math.h>

static double highest(const struct fact_figure *f, bool rank)
{
    double most = 0;
    for (size_t i = 0; i < f->n_lines; i++)
        for (size_t s = 0; s < f->n_layers; s++) {
            double x = rank ? f->lines[i].rank[s] : f->lines[i].prob[s];
            if (isfinite(x) && x > most)
                most = x;
        }
    return most;
}

static void write_data(struct plot *p, const struct fact_figure *f)
{
    strbuf_adds(&p->data, "# layer label");
    for (size_t i = 0; i < f->n_lines; i++)
        strbuf_addf(&p->data, " rank%zu prob%zu", i, i);
    for (size_t i = 0; i < f->n_lines; i++) {
        strbuf_addf(&p->data, "\n# rank%zu, prob%zu:", i, i);
        plot_add_field(p, f->lines[i].name, 0);
    }
    strbuf_addc(&p->data, '\n');
    for (size_t s = 0; s < f->n_layers; s++) {
        strbuf_addf(&p->data, "%zu", s);
        plot_add_field(p, f->labels[s], 0);
        for (size_t i = 0; i < f->n_lines; i++) {
            plot_add_number(p, f->lines[i].rank[s]);
            plot_add_number(p, f->lines[i].prob[s]);
        }
        strbuf_addc(&p->data, '\n');
    }
}

/* The answer thick and solid, rivals thin; column 3 is rank0, column 4 prob0. */
static void add_lines(struct plot *p, const struct fact_figure *f, size_t first_column, bool named)
{
    strbuf_adds(&p->script, "plot ");
    for (size_t i = 0; i < f->n_lines; i++) {
        strbuf_addf(&p->script, "%sdata using 1:%zu with linespoints lc rgb '%s' lw %d pt %d ps 0.7 ",
                    i ? ", \\\n     " : "", first_column + 2 * i, plot_colour(i), i ? 2 : 4, plot_point(i));
        if (named) {
            strbuf_adds(&p->script, "title ");
            plot_add_string(p, f->lines[i].name, 24);
        } else {
            strbuf_adds(&p->script, "notitle");
        }
    }
    strbuf_addc(&p->script, '\n');
}

int plot_fact(const struct plot_target *to, const struct fact_figure *f, struct err *err)
{
    struct plot p;
    plot_begin(&p, to, "Rank and probability of an answer at every depth (logit lens).");
    write_data(&p, f);
    strbuf_addf(&p.script, "set xrange [-0.5:%zu.5]\n", f->n_layers ? f->n_layers - 1 : 0);
    strbuf_addf(&p.script, "rank_most = %.9g\nprob_most = %.9g\n", fmax(highest(f, true) * 1.5, 10),
                fmax(fmin(highest(f, false) * 1.08, 1.02), 1e-6));
    strbuf_addf(&p.script, "grid_step = %zu\n", 1 + f->n_layers / 50);
    plot_draw(&p);
    strbuf_adds(&p.script, "set multiplot\n"
                           "set tmargin at screen 0.84\n"
                           "set bmargin at screen 0.515\n"
                           "set xtics norotate 0, grid_step format ''\n"
                           "set xlabel ''\n"
                           "set label 3 'rank (1 = top)' at screen 0.02, graph 0.5 center rotate\n"
                           "set logscale y\n"
                           "set format y '%.0f'\n"
                           "set yrange [rank_most:0.93]\n");
    add_lines(&p, f, 3, true);
    strbuf_adds(&p.script, "\n"
                           "unset label 1\n"
                           "unset label 2\n"
                           "set label 3 'probability' at screen 0.02, graph 0.5 center rotate\n"
                           "set tmargin at screen 0.475\n"
                           "set bmargin at screen bottom\n"
                           "set xlabel '" PLOT_DEPTH_NAME "'\n"
                           "unset logscale y\n"
                           "set format y '%g'\n"
                           "set yrange [0:prob_most]\n");
    plot_axis_labels(&p, 'x', f->labels, f->n_layers, 1030);
    add_lines(&p, f, 4, false);
    strbuf_adds(&p.script, "unset multiplot\n");
    return plot_finish(&p, err);
}
