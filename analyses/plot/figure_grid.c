#include "analyses/plot/figures.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>

/* Pixels: a cell wants this much; the picture grows with the grid up to the limits, then texts are left out. */
enum { CELL_WIDTH = 88, CELL_HEIGHT = 24, MARGIN_X = 300, MARGIN_Y = 280, MOST_WIDTH = 3600, MOST_HEIGHT = 1800 };
#define COLUMN_PIXELS 8.3 /* of cell text at 14 px: wide letters are rare in a row */

static unsigned picture_size(size_t cells, unsigned cell, unsigned margin, unsigned least, unsigned most)
{
    if (cells > (most - margin) / cell)
        return most;
    unsigned size = (unsigned)cells * cell + margin;
    return size < least ? least : size;
}

static double highest_rank(const struct grid_figure *f)
{
    double most = 10; /* one decade at least, or the colour scale says nothing */
    for (size_t i = 0; i < f->n_layers * f->n_tokens; i++)
        if (isfinite(f->rank[i]))
            most = fmax(most, f->rank[i]);
    return most;
}

static void write_data(struct plot *p, const struct grid_figure *f, size_t columns)
{
    strbuf_adds(&p->data, "# token layer rank shown_text text\n");
    for (size_t s = 0; s < f->n_layers; s++)
        for (size_t t = 0; t < f->n_tokens; t++) {
            const char *text = f->text ? f->text[s * f->n_tokens + t] : NULL;
            struct strbuf shown = STRBUF_INIT, drawn = STRBUF_INIT;
            strbuf_addf(&p->data, "%zu %zu", t, s);
            plot_add_number(p, f->rank[s * f->n_tokens + t]);
            if (text && columns >= 2)
                plot_show_token(&shown, text, columns);
            plot_show_drawn(&drawn, strbuf_text(&shown));
            plot_add_field(p, strbuf_text(&drawn), 0);
            plot_add_field(p, text ? text : "", 0);
            strbuf_addc(&p->data, '\n');
            p->data.failed |= strbuf_failed(&shown) || strbuf_failed(&drawn);
            strbuf_release(&shown);
            strbuf_release(&drawn);
        }
}

/* Tokens with their edge spaces visible; NULL when memory is out. */
static char **shown_tokens(const struct grid_figure *f)
{
    char **shown = mem_zeroed(f->n_tokens, sizeof *shown);
    for (size_t t = 0; shown && t < f->n_tokens; t++) {
        struct strbuf text = STRBUF_INIT;
        plot_show_token(&text, f->tokens[t], 16);
        shown[t] = mem_strdup(strbuf_text(&text));
        if (!shown[t] || strbuf_failed(&text)) {
            for (size_t i = 0; i <= t; i++)
                free(shown[i]);
            free(shown);
            shown = NULL;
        }
        strbuf_release(&text);
    }
    return shown;
}

static void add_settings(struct plot *p, const struct grid_figure *f, const char *const *tokens, double width,
                         double height)
{
    double most = highest_rank(f);
    strbuf_addf(&p->script,
                "set xrange [-0.5:%zu.5]\nset yrange [-0.5:%zu.5]\nunset grid\nunset key\n"
                "set border 15\nset tics scale 0\n"
                "set lmargin at screen %.4f\nset rmargin at screen %.4f\n"
                "set tmargin at screen %.4f\nbottom = %.4f\nset bmargin at screen bottom\n"
                "set ylabel 'depth'\nset xlabel 'token of the prompt'\n",
                f->n_tokens - 1, f->n_layers - 1, 140.0 / p->width, 1 - 150.0 / p->width, 1 - 105.0 / p->height,
                130.0 / p->height);
    plot_axis_labels(p, 'x', tokens, f->n_tokens, width);
    plot_axis_labels(p, 'y', f->labels, f->n_layers, height);
    plot_palette_sequential(p, true);
    strbuf_addf(&p->script, "set logscale cb\nset cbrange [1:%.9g]\nset format cb '%%.0f'\nset cblabel ", most);
    plot_add_string(p, f->value_name, 60);
    strbuf_addf(&p->script,
                " offset 1\n"
                "# Bright cells (low ranks) get black text, dark ones white.\n"
                "bright = %.9g\n"
                "ink(rank) = rank < bright ? 0x000000 : 0xffffff\n",
                pow(most, 0.45));
    strbuf_addf(&p->script,
                "set colorbox user origin screen %.4f, screen bottom size screen %.4f, screen %.4f - bottom\n",
                1 - 125.0 / p->width, 30.0 / p->width, 1 - 105.0 / p->height);
}

int plot_grid(const struct plot_target *to, const struct grid_figure *f, struct err *err)
{
    if (!f->n_tokens || !f->n_layers)
        return err_set(err, ERR_ARG, "%s: the grid is empty: give at least one token and one layer", to->name);
    char **tokens = shown_tokens(f);
    if (!tokens)
        return err_nomem(err, "labels of a figure");

    struct plot p;
    plot_begin(&p, to, "Rank by token and depth (logit lens), with the token that the lens puts first.");
    p.width = picture_size(f->n_tokens, CELL_WIDTH, MARGIN_X, 1200, MOST_WIDTH);
    p.height = picture_size(f->n_layers, CELL_HEIGHT, MARGIN_Y, 800, MOST_HEIGHT);
    double width = p.width - 290.0, height = p.height - 235.0;
    double cell_width = width / (double)f->n_tokens, cell_height = height / (double)f->n_layers;
    size_t columns = cell_height < 17 ? 0 : (size_t)((cell_width - 4) / COLUMN_PIXELS);
    write_data(&p, f, columns > 16 ? 16 : columns);
    add_settings(&p, f, (const char *const *)tokens, width, height);
    plot_draw(&p);
    strbuf_adds(&p.script,
                "plot data using 1:2:($1-0.5):($1+0.5):($2-0.5):($2+0.5):3 with boxxyerror fs solid 1 border "
                "lc rgb 'white' fc palette notitle");
    if (f->text && columns >= 2)
        strbuf_adds(&p.script,
                    ", \\\n     data using 1:2:4:(ink($3)) with labels center font size(14) tc rgb variable notitle");
    strbuf_addc(&p.script, '\n');
    for (size_t t = 0; t < f->n_tokens; t++)
        free(tokens[t]);
    free(tokens);
    return plot_finish(&p, err);
}
