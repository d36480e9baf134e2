#include "analyses/plot/plot.h"
#include "analyses/plot/gnuplot.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Okabe and Ito 2008, without their yellow, which is too faint for a line on white. */
static const char *const line_colours[] = {
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
};

const char *plot_colour(size_t i)
{
    return line_colours[i % (sizeof line_colours / sizeof *line_colours)];
}

int plot_point(size_t i)
{
    static const int points[] = { 7, 5, 9, 11, 13 };
    return points[i % (sizeof points / sizeof *points)];
}

enum { TITLE_COLUMNS = 92, SUBTITLE_COLUMNS = 140 };

void plot_begin(struct plot *p, const struct plot_target *to, const char *about)
{
    *p = (struct plot){ .data = STRBUF_INIT, .script = STRBUF_INIT, .to = *to, .width = 1200, .height = 800 };
    strbuf_addf(&p->data, "# %s\n", about);
    strbuf_addf(&p->script,
                "# %s\n"
                "# Redraw with `gnuplot %s.gp` in this folder; the numbers are in %s.dat.\n"
                "name = '%s'\n"
                "data = name.'.dat'\n"
                "if (!exists('draft')) draft = ''\n"
                "font = 'DejaVu Sans'\n"
                "font_size = 14\n"
                "title = ",
                about, to->name, to->name, to->name);
    plot_add_string(p, to->title, TITLE_COLUMNS);
    strbuf_adds(&p->script, "\nsubtitle = ");
    plot_add_string(p, to->subtitle ? to->subtitle : "", SUBTITLE_COLUMNS);
    strbuf_adds(&p->script,
                "\n\n"
                "set encoding utf8\n"
                "set border 3 lc rgb '#444444'\n"
                "set grid lt 1 lc rgb '#e4e4e4' lw 1\n"
                "set tics nomirror out textcolor rgb '#222222'\n"
                "set key at screen 0.985, screen 0.895 right top horizontal noenhanced Left reverse samplen 2\n"
                "set lmargin at screen 0.09\n"
                "set rmargin at screen 0.975\n"
                "set tmargin at screen 0.84\n"
                "bottom = 0.14\n"
                "set bmargin at screen bottom\n");
}

void plot_draw(struct plot *p)
{
    strbuf_addf(&p->script,
                "\n"
                "width = %u\n"
                "height = %u\n"
                "do for [format in 'svg png'] {\n"
                "# Sizes are pixels; the png terminals count in points of 4/3 pixels.\n"
                "unit = format eq 'svg' ? 1 : 0.75\n"
                "size(pixels) = font.','.sprintf('%%.3g', pixels * unit)\n"
                "if (format eq 'svg') {\n"
                "    set terminal svg noenhanced size width, height font size(font_size) background rgb 'white'\n"
                "} else {\n"
                "    if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {\n"
                "        set terminal pngcairo noenhanced size width, height font size(font_size)\n"
                "    } else {\n"
                "        set terminal png truecolor noenhanced size width, height font size(font_size)\n"
                "    }\n"
                "}\n"
                "set output name.'.'.format.draft\n"
                "set label 1 title at screen 0.5, screen 1 - 28.0 / height center noenhanced font size(23)\n"
                "set label 2 subtitle at screen 0.5, screen 1 - 58.0 / height center noenhanced font size(15) "
                "textcolor rgb '#555555'\n\n",
                p->width, p->height);
    p->drawing = true;
}

static bool name_is_plain(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return name[0] && !strchr("._-", name[0]) && strspn(name, allowed) == strlen(name);
}

static char *file_path(const struct plot_target *to, const char *extension)
{
    struct strbuf file = STRBUF_INIT;
    strbuf_addf(&file, "%s.%s", to->name, extension);
    char *path = strbuf_failed(&file) ? NULL : file_join(to->folder, strbuf_text(&file));
    strbuf_release(&file);
    return path;
}

/* Pictures of other numbers must not stay beside new data, nor half a picture after a failure. */
static int remove_pictures(const struct plot_target *to, struct err *err)
{
    static const char *const names[] = { "svg", "png", "svg" FILE_DRAFT, "png" FILE_DRAFT };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = file_path(to, names[i]);
        if (!path)
            return err_nomem(err, "file name of a figure");
        int rc = unlink(path) && errno != ENOENT ? err_errno(err, "%s: cannot replace the old picture", path) : 0;
        free(path);
        if (rc)
            return rc;
    }
    return 0;
}

static int write_text(const struct plot_target *to, const char *extension, const struct strbuf *text, struct err *err)
{
    char *path = file_path(to, extension);
    if (!path)
        return err_nomem(err, "file name of a figure");
    int rc = file_write(path, strbuf_text(text), text->len, err);
    free(path);
    return rc;
}

/* --- drawing --- */

enum { NAME_MAX_BYTES = 200 };

struct running_plot {
    struct gnuplot_job job;
    const char *folder;
    char name[NAME_MAX_BYTES + 1], script[NAME_MAX_BYTES + sizeof ".gp"];
    double seconds;
    int rc; /* of the start */
    struct err err;
};

static int start_drawing(const struct plot_target *to, struct plots *plots, struct err *err)
{
    if (strlen(to->name) > NAME_MAX_BYTES)
        return err_set(err, ERR_ARG, "%.40s...: too long for the name of a figure: use a shorter one", to->name);
    /* One allocation each: the job keeps pointers to the names. */
    struct running_plot *r = mem_zeroed(1, sizeof *r);
    if (!r || !mem_grow(&plots->running, &plots->capacity, plots->n + 1, sizeof *plots->running)) {
        free(r);
        return err_nomem(err, "a figure");
    }
    plots->running[plots->n++] = r;
    r->folder = to->folder;
    r->seconds = to->seconds > 0 ? to->seconds : 120;
    snprintf(r->name, sizeof r->name, "%s", to->name);
    snprintf(r->script, sizeof r->script, "%s.gp", to->name);
    r->rc = gnuplot_start(&r->job, r->folder, r->script, &r->err);
    return 0;
}

/* Whether a file ends as `tail` does, but for line ends. */
static bool ends_with(const char *path, const char *tail, size_t n)
{
    char last[32] = "";
    FILE *file = fopen(path, "rb");
    size_t got = 0;
    if (file) {
        if (fseek(file, -(long)sizeof last, SEEK_END))
            rewind(file); /* it is shorter */
        got = fread(last, 1, sizeof last, file);
        fclose(file);
    }
    while (got && last[got - 1] == '\n')
        got--;
    return got >= n && !memcmp(last + got - n, tail, n);
}

/*
 * What gnuplot drew, under its name. It does not notice that it could not write all of a picture: on a full disk it
 * says nothing and exits with 0.
 */
static int publish_pictures(const struct plot_target *to, struct err *err)
{
    static const struct {
        const char *extension, *tail;
        size_t n;
    } ends[] = { { "svg", "</svg>", 6 }, { "png", "IEND\xae\x42\x60\x82", 8 } };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof ends / sizeof *ends; i++) {
        char *path = file_path(to, ends[i].extension), *draft = path ? file_with_suffix(path, FILE_DRAFT) : NULL;
        if (!draft)
            rc = err_nomem(err, "file name of a figure");
        else if (!ends_with(draft, ends[i].tail, ends[i].n))
            rc = err_set(err, ERR_IO,
                         "%s: gnuplot has not written it whole: make room on the disk, then run `gnuplot %s.gp` there",
                         path, to->name);
        else
            rc = file_publish(draft, path, err);
        free(draft);
        free(path);
    }
    return rc;
}

int plots_wait(struct plots *plots, struct err *err)
{
    int drawn = 0;
    for (size_t i = 0; i < plots->n; i++) {
        struct running_plot *r = plots->running[i];
        const struct plot_target to = { .folder = r->folder, .name = r->name };
        struct err ignored;
        bool ran = !r->rc && !(r->rc = gnuplot_wait(&r->job, r->seconds, &r->err));
        if (ran)
            r->rc = publish_pictures(&to, &r->err);
        if (drawn >= 0 && r->rc && (ran || r->rc == ERR_INTERRUPTED)) {
            drawn = r->rc;
            *err = r->err;
        }
        if (r->rc) {
            remove_pictures(&to, &ignored);
            /* The first one tells enough. */
            drawn = drawn ? drawn : (*err = r->err, PLOT_NOT_DRAWN);
        }
        free(r);
    }
    free(plots->running);
    *plots = (struct plots){ 0 };
    return drawn;
}

static int write_and_draw(struct plot *p, struct err *err)
{
    const struct plot_target *to = &p->to;
    if (!name_is_plain(to->name))
        return err_set(err, ERR_ARG, "%s: not usable as the name of a figure: use letters, digits, '.', '_', '-'",
                       to->name);
    strbuf_adds(&p->script, p->drawing ? "\nunset output\n}\n" : "");
    if (strbuf_failed(&p->data) || strbuf_failed(&p->script) || (to->plots && to->plots->failed))
        return err_nomem(err, "text of a figure");
    int rc = remove_pictures(to, err);
    if (rc || (rc = write_text(to, "dat", &p->data, err)) || (rc = write_text(to, "gp", &p->script, err)))
        return rc;

    struct plots alone = { 0 };
    rc = start_drawing(to, to->plots ? to->plots : &alone, err);
    return rc || to->plots ? rc : plots_wait(&alone, err);
}

int plot_finish(struct plot *p, struct err *err)
{
    int rc = write_and_draw(p, err);
    strbuf_release(&p->data);
    strbuf_release(&p->script);
    return rc;
}

static void add_tick(struct plot *p, bool first, const char *const *labels, size_t at)
{
    if (!first)
        strbuf_adds(&p->script, ", ");
    if (labels)
        plot_add_tick(p, labels[at], 24);
    else
        strbuf_addf(&p->script, "'%zu'", at);
    strbuf_addf(&p->script, " %zu", at);
}

size_t plot_axis_labels(struct plot *p, char axis, const char *const *labels, size_t n, double pixels)
{
    size_t longest = 0;
    for (size_t i = 0; i < n; i++) {
        struct strbuf shown = STRBUF_INIT;
        if (labels)
            plot_show(&shown, labels[i], 24);
        else
            strbuf_addf(&shown, "%zu", i);
        size_t width = plot_width(strbuf_text(&shown));
        longest = width > longest ? width : longest;
        strbuf_release(&shown);
    }
    /* Measured on DejaVu Sans at 14 px: 8.5 px a column on average, a line needs 20 px. */
    double along = axis == 'x' ? 8.5 * (double)longest + 12 : 20;
    bool turn = axis == 'x' && along * (double)n > pixels && longest > 3;
    if (turn)
        along = 22;
    size_t step = 1;
    while (along * (double)((n + step - 1) / step) > pixels)
        step++;

    strbuf_addf(&p->script, "set %ctics %s(", axis, turn ? "rotate by 45 right " : "norotate ");
    for (size_t i = 0; i < n; i += step)
        if (i == 0 || i + step <= n - 1 || i == n - 1)
            add_tick(p, i == 0, labels, i);
    if (n > 1 && (n - 1) % step)
        add_tick(p, false, labels, n - 1);
    strbuf_adds(&p->script, ")\n");
    if (turn) { /* gnuplot's svg puts the axis name 7 px a column below the axis, its png less */
        double margin = (7.0 * (double)longest + 56) / p->height;
        strbuf_addf(&p->script, "bottom = bottom < %.4f ? %.4f : bottom\nset bmargin at screen bottom\n", margin,
                    margin);
    }
    return longest;
}

void plot_palette_sequential(struct plot *p, bool bright_is_low)
{
    static const char *const viridis[] = { "#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c",
                                           "#28ae80", "#5ec962", "#addc30", "#fde725" };
    enum { N = sizeof viridis / sizeof *viridis };
    strbuf_adds(&p->script, "set palette defined (");
    for (size_t i = 0; i < N; i++)
        strbuf_addf(&p->script, "%s%zu '%s'", i ? ", " : "", i, viridis[bright_is_low ? N - 1 - i : i]);
    strbuf_adds(&p->script, ")\n");
}

void plot_palette_diverging(struct plot *p)
{
    strbuf_adds(&p->script, "set palette defined (-4 '#2166ac', -3 '#4393c3', -2 '#92c5de', -1 '#d1e5f0', 0 '#f7f7f7', "
                            "1 '#fddbc7', 2 '#f4a582', 3 '#d6604d', 4 '#b2182b')\n");
}

void plot_palette_hue(struct plot *p, char hue)
{
    strbuf_adds(&p->script,
                hue == 'p' ? "set palette defined (0 '#fcfbfd', 1 '#dadaeb', 2 '#9e9ac8', 3 '#6a51a3', 4 '#3f007d')\n"
                : hue == 'g'
                    ? "set palette defined (0 '#f7fcf5', 1 '#c7e9c0', 2 '#74c476', 3 '#238b45', 4 '#00441b')\n"
                    : "set palette defined (0 '#fff5f0', 1 '#fcbba1', 2 '#fb6a4a', 3 '#cb181d', 4 '#67000d')\n");
}
