/*
 * The figures that commands share, one file each. Each takes plain arrays,
 * writes NAME.dat, NAME.gp, NAME.svg, NAME.png into to->folder and returns what
 * plot_finish returns (analyses/plot/plot.h): 0, PLOT_NOT_DRAWN, or negative.
 *
 *     const struct curve_line line = { .name = "answer", .middle = median, .low = q1, .high = q3 };
 *     const struct curve_figure f = { .n_layers = 31, .labels = labels, .lines = &line, .n_lines = 1,
 *                                     .y_name = "rank (1 = top)", .band_name = "quartiles", .log = true,
 *                                     .reversed = true, .y_low = NAN, .y_high = NAN };
 *     int rc = plot_curves(&to, &f, &err);
 *
 * Everything is borrowed. Numbers that are not finite are left blank in the
 * picture and "NaN" in the data. `layers` are lens states: labels[0] is what
 * enters the first block, the last is the model's output.
 */
#ifndef STRATA_ANALYSES_PLOT_FIGURES_H
#define STRATA_ANALYSES_PLOT_FIGURES_H

#include "analyses/plot/plot.h"

/* Name of the x axis where it counts lens states. */
#define PLOT_DEPTH_NAME "depth (L_pre: what enters block L; final_post: after the last block)"

/* One fact: rank on a reversed log axis above, probability below. Line 0 is the answer, the others are rivals. */
struct fact_line {
    const char *name;   /* the token */
    const double *rank; /* [n_layers] 1 = top */
    const double *prob; /* [n_layers] */
};
struct fact_figure {
    size_t n_layers, n_lines;
    const char *const *labels;
    const struct fact_line *lines;
};
int plot_fact(const struct plot_target *to, const struct fact_figure *f, struct err *err);

/* Curves over depth, each with an optional band. */
struct curve_line {
    const char *name;
    const double *middle;     /* [n_layers] */
    const double *low, *high; /* [n_layers] or both NULL */
};
struct curve_figure {
    size_t n_layers, n_lines;
    const char *const *labels; /* NULL: numbers from 0 */
    const struct curve_line *lines;
    const char *x_name;    /* NULL: PLOT_DEPTH_NAME */
    const char *y_name;    /* with its unit */
    const char *band_name; /* what the bands are; NULL without bands */
    bool log, reversed;    /* reversed: 1 on top, as ranks want it */
    double y_low, y_high;  /* NAN: from the data */
};
int plot_curves(const struct plot_target *to, const struct curve_figure *f, struct err *err);

/* Token x layer grid: coloured by rank (log scale), each cell with a text where it fits. First layer at the bottom. */
struct grid_figure {
    size_t n_tokens, n_layers;
    const char *const *tokens; /* [n_tokens] columns, as the tokenizer writes them */
    const char *const *labels; /* [n_layers] rows */
    const double *rank;        /* [n_layers, n_tokens] */
    const char *const *text;   /* [n_layers, n_tokens] e.g. the top-1 token; NULL or NULL items: none */
    const char *value_name;    /* e.g. "rank of the answer (1 = top)" */
};
int plot_grid(const struct plot_target *to, const struct grid_figure *f, struct err *err);

/* Viridis (dark is low), or one hue where pale is low. */
enum heat_colours { HEAT_VIRIDIS, HEAT_PURPLES, HEAT_GREENS, HEAT_REDS };

/* A matrix of numbers. Row 0 at the bottom (layers) unless rows_down (tokens). */
struct heat_figure {
    size_t n_rows, n_columns;
    const double *values;                                 /* [n_rows, n_columns] */
    const char *const *row_labels, *const *column_labels; /* NULL: numbers from 0 */
    const char *row_name, *column_name, *value_name;      /* axes and colour bar, with units */
    const char *row_prefix, *column_prefix;               /* how a marked cell is called: "L", "H" gives L7H3 */
    size_t n_marked;                                      /* mark and name the n cells of largest |value| */
    bool diverging;                                       /* colours centred on 0; else from least to most */
    enum heat_colours colours;                            /* unless diverging */
    const double *least; /* where the colours begin, also for what is below; NULL: at the least value */
    bool rows_down;
};
int plot_heat(const struct plot_target *to, const struct heat_figure *f, struct err *err);

/* Many maps of the same shape, side by side in the same colours: one relation each over layers and heads. */
struct maps_figure {
    size_t n_maps, n_rows, n_columns;
    const double *values;                            /* [n_maps, n_rows, n_columns], from 0 on; row 0 at the bottom */
    const char *const *names;                        /* [n_maps] */
    const char *row_name, *column_name, *value_name; /* value_name with its unit */
    const char *row_prefix, *column_prefix;          /* how the largest cell of each is called: "L", "H" gives L7H3 */
};
int plot_maps(const struct plot_target *to, const struct maps_figure *f, struct err *err);

/* Groups of bars, e.g. what attention and FFN of each layer add to the answer's logit. */
struct bar_series {
    const char *name;
    const double *values; /* [n_groups] */
};
struct bar_figure {
    size_t n_groups, n_series;
    const char *const *labels; /* [n_groups] or NULL: numbers from 0 */
    const struct bar_series *series;
    const char *x_name, *y_name;
};
int plot_bars(const struct plot_target *to, const struct bar_figure *f, struct err *err);

#endif
