/*
 * A command's result in the form that -o and --json ask for: text, JSON, CSV,
 * HDF5, or a folder with files and figures. A command describes what it can
 * write once and leaves the choice, the files and their safety to this:
 *
 *     const struct result_kind patch_result = { .name = "patch", .format = "strata-patch", .norm = "lens",
 *                                               .text = add_text, .json = add_json, .csv = { { "patch", add_csv } },
 *                                               .h5 = put_all, .figures = draw_all };
 *     ...
 *     struct result result;
 *     int rc = result_choose(&result, &patch_result, cli, no_plots, err);        // before anything runs
 *     ...
 *     const struct provenance p = result_provenance(cli, session.model);
 *     rc = rc ? rc : result_write(&result, &report, &p, err);
 *
 * Files appear under their names only when they are complete. A folder gets
 * NAME.h5, the CSV files and the figures, and text (or JSON) goes to stdout.
 */
#ifndef STRATA_ANALYSES_REPORT_RESULT_H
#define STRATA_ANALYSES_REPORT_RESULT_H

#include "analyses/cli/cli.h"
#include "core/base/strbuf.h"
#include "core/store/provenance.h"

/* TEXT is JSON where cli->json is set, by --json or by the name of the file. */
enum result_format { RESULT_TEXT, RESULT_CSV, RESULT_H5, RESULT_FOLDER };

enum { RESULT_TABLES = 4 };

/* Adds one form of the report; strbuf_failed says whether memory was out. */
typedef void result_add(const void *report, struct strbuf *out);
/* The root attributes and arrays beside those of the provenance. */
typedef int result_put(const void *report, const struct h5_file *f, struct err *err);

struct result_kind {
    const char *name;   /* in a folder: NAME.h5 */
    const char *format; /* "strata-patch"; version 1 */
    const char *norm;   /* the norm convention: "lens", "attribution" */
    result_add *text, *json;
    /*
     * Tables as CSV: the first is what -o FILE.csv gets; in a folder NAME.csv each, less those that add nothing. A last
     * column `norm` is added: csv_norms of the same place, or the kind's.
     */
    struct {
        const char *name;
        result_add *add;
    } csv[RESULT_TABLES];
    const char *csv_norms[RESULT_TABLES];
    result_put *h5; /* NULL: the command writes its HDF5 file itself, as it goes */
    /* 0, PLOT_NOT_DRAWN or negative; NULL: there is no folder to write. */
    int (*figures)(const void *report, const char *folder, struct err *err);
    bool tab_separated; /* the text: FILE.tsv is a name for it */
    bool json_wins;     /* --json makes JSON of any name, else it goes with a folder only; no text file */
};

struct result {
    const struct result_kind *kind;
    struct cli *cli;
    enum result_format format;
    bool no_plots;
};

/*
 * Usage errors: names that ask for something else, --json beside them, --no-plots and --resume without a file. ERR_IO
 * where the output could not be made.
 */
int result_choose(struct result *out, const struct result_kind *kind, struct cli *cli, bool no_plots, struct err *err);
/* p: not read where the kind has no h5. */
int result_write(const struct result *r, const void *report, const struct provenance *p, struct err *err);

/* --- its parts, for commands that write more or in another order --- */

/* Everything but format and version; numbers are stored as float64 with the seed of the command line. */
struct provenance result_provenance(const struct cli *cli, const struct model *model);
/* A whole HDF5 file: provenance, then what put adds. */
int result_h5(const char *path, const struct provenance *p, result_put *put, const void *report, struct err *err);
/* What drawing returned: says why figures are not drawn, which is no failure. */
int result_drawn(const struct cli *cli, int rc, const struct err *err);

#endif
