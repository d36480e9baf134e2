/*
 * Figures as text first: NAME.dat (columns with a header line) and NAME.gp (a
 * gnuplot script that its reader may restyle), then NAME.svg and NAME.png from
 * them. `gnuplot NAME.gp` inside the folder redraws. They could be drawn again,
 * but a page that names them must not show half of one, so that they are
 * published like every output (file.h): 2.8 ms a file. The ready-made figures
 * are in analyses/plot/figures.h; this is what they are made of:
 *
 *     const struct plot_target to = { .folder = "out", .name = "rank", .title = "Rank", .subtitle = "n = 3" };
 *     struct plot p;
 *     plot_begin(&p, &to, "Median rank of the answer at every depth.");
 *     strbuf_adds(&p.data, "# layer rank\n0 17\n1 3\n");
 *     strbuf_adds(&p.script, "set logscale y\n");
 *     plot_draw(&p);                                  // what follows is drawn once per format
 *     strbuf_adds(&p.script, "plot data using 1:2 with linespoints\n");
 *     int rc = plot_finish(&p, &err);                 // also releases p
 *     if (rc < 0) return rc;
 *     if (rc == PLOT_NOT_DRAWN) warn(err.msg);        // the numbers are on disk, the pictures are not
 *
 * Text that users or models made (prompts, tokens, labels) goes through the
 * plot_add_ functions only. They quote it so that gnuplot neither runs
 * backquotes nor expands macros, percent formats or enhanced text, show control
 * characters, and shorten with an ellipsis where asked. Same input, same bytes.
 */
#ifndef STRATA_ANALYSES_PLOT_PLOT_H
#define STRATA_ANALYSES_PLOT_PLOT_H

#include "core/base/err.h"
#include "core/base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

/* Not an error code: every file is written but gnuplot is missing or failed; *err tells why and what to do. */
enum { PLOT_NOT_DRAWN = 1 };

/*
 * Figures that are drawn side by side: each gnuplot starts when its figure is finished, and plots_wait waits for all.
 *
 *     struct plots plots = { 0 };
 *     const struct plot_target to = { .folder = "out", .name = "rank", .plots = &plots, ... };
 *     ... plot_finish and the figures return 0 as soon as the text files are there ...
 *     int rc = plots_wait(&plots, &err);              // always call it
 */
struct plots {
    struct running_plot **running; /* owned */
    size_t n, capacity;
    bool failed; /* set by callers whose titles ran out of memory: no figure is finished any more */
};
/* 0; PLOT_NOT_DRAWN; or negative: gnuplot could not write its pictures whole, or a signal ended the waiting. */
int plots_wait(struct plots *plots, struct err *err);

/* All borrowed; must live until plot_finish, folder until plots_wait. */
struct plot_target {
    const char *folder;   /* must exist */
    const char *name;     /* [A-Za-z0-9][A-Za-z0-9._-]*, no extension */
    const char *title;    /* any UTF-8 text */
    const char *subtitle; /* the same, or NULL; say n, norm convention, model here */
    double seconds;       /* gnuplot is stopped after this long; 0: 120 */
    struct plots *plots;  /* draw beside others; NULL: at once */
};

struct plot {
    struct strbuf data, script;
    struct plot_target to;
    unsigned width, height; /* pixels; 1200 x 800 unless changed before plot_draw */
    bool drawing;
};

/* `about`: one sentence for the comment at the head of both files. */
void plot_begin(struct plot *p, const struct plot_target *to, const char *about);
/* Ends the settings: writes the terminal switch and opens the block that is repeated for svg and png. */
void plot_draw(struct plot *p);
/* Writes the files, runs gnuplot, releases p. 0, PLOT_NOT_DRAWN, or a negative code (nothing usable on disk). */
int plot_finish(struct plot *p, struct err *err);

/*
 * The text as it is shown: control characters as symbols or \xNN, invalid
 * UTF-8 and direction overrides as U+FFFD, at most max_width columns (0: any;
 * wide characters count 2) with an ellipsis for what was cut.
 */
void plot_show(struct strbuf *out, const char *text, size_t max_width);
/* The same for a token: spaces at its ends become U+2423, so that " a" and "a" differ. */
void plot_show_token(struct strbuf *out, const char *token, size_t max_width);
/* Shown text as a figure can draw it: U+25AF for what no installed font has (fonts.h). */
void plot_show_drawn(struct strbuf *out, const char *shown);
/* Columns that the shown text takes. */
size_t plot_width(const char *shown);

/*
 * Shown and quoted: as a string in the script and as a tick label (percent signs doubled), both as they can be drawn;
 * as a field of the data, with every character.
 */
void plot_add_string(struct plot *p, const char *text, size_t max_width);
void plot_add_tick(struct plot *p, const char *text, size_t max_width);
void plot_add_field(struct plot *p, const char *text, size_t max_width);
/* A blank and a number, nine digits, "NaN" where it is not finite. */
void plot_add_number(struct plot *p, double x);

/*
 * "set xtics" (axis 'x') or "set ytics" with one label per position 0..n-1,
 * thinned to what `pixels` has room for, rotated on x where they are long, with
 * a bottom margin that fits; the last one always stays. labels NULL: the numbers.
 * Returns the columns of the longest label, for margins.
 */
size_t plot_axis_labels(struct plot *p, char axis, const char *const *labels, size_t n, double pixels);

/* Okabe and Ito's colour-blind-safe line colours, "#rrggbb", by number modulo their count. */
const char *plot_colour(size_t i);
/* gnuplot's filled point types, so that lines also differ without colour. */
int plot_point(size_t i);
/* "set palette" lines: viridis (dark to bright), or blue - white - red for a range centred on 0. */
void plot_palette_sequential(struct plot *p, bool bright_is_low);
void plot_palette_diverging(struct plot *p);
/* ColorBrewer's Purples, Greens or Reds ('p', 'g', 'r'): pale to dark. */
void plot_palette_hue(struct plot *p, char hue);

#endif
