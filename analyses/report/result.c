#include "analyses/report/result.h"

#include "analyses/cli/output.h"
#include "analyses/plot/plot.h"
#include "core/base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- which form --- */

static bool is_one_of(const char *extension, const char *const *known)
{
    while (*known && strcmp(extension, *known))
        known++;
    return *known != NULL;
}

/* The format that a name asks for; negative where the command has none such. */
static int format_of(const struct result_kind *kind, const char *path, bool json)
{
    static const char *const other[] = { "jsonl", "png", "svg", "pdf", NULL }, *const h5[] = { "h5", "hdf5", NULL };
    const char *extension = file_extension(path);
    if (!strcmp(path, "-") || !strcmp(extension, "json"))
        return RESULT_TEXT;
    if (!strcmp(extension, "txt"))
        return kind->json_wins ? -1 : RESULT_TEXT;
    if (!strcmp(extension, "tsv"))
        return kind->tab_separated ? RESULT_TEXT : -1;
    if (is_one_of(extension, other))
        return -1;
    if (kind->json_wins && json)
        return RESULT_TEXT;
    if (!strcmp(extension, "csv"))
        return RESULT_CSV;
    if (is_one_of(extension, h5))
        return RESULT_H5;
    return kind->figures ? RESULT_FOLDER : *extension ? -1 : RESULT_TEXT;
}

static const char *names_of(const struct result_kind *kind)
{
    if (kind->json_wins)
        return "a folder (numbers and figures), or a .h5, .csv or .json file";
    return kind->figures ? ".h5, .csv, .json, .txt or a folder" : ".h5, .csv, .json or .txt";
}

int result_choose(struct result *out, const struct result_kind *kind, struct cli *cli, bool no_plots, struct err *err)
{
    int format = cli->output ? format_of(kind, cli->output, cli->json) : RESULT_TEXT;
    if (format < 0)
        return cli_usage(cli, err, "-o %.200s: give %s", cli->output, names_of(kind));
    if (cli->json && (format == RESULT_CSV || format == RESULT_H5))
        return cli_usage(cli, err, "--json and -o %.200s ask for two formats", cli->output);
    if (cli->resume && !kind->h5 && format != RESULT_H5 && format != RESULT_FOLDER)
        return cli_usage(cli, err, "--resume continues a file: give -o FILE.h5 or -o FOLDER");
    if (no_plots && format != RESULT_FOLDER)
        return cli_usage(cli, err, "--no-plots: there are no plots without -o FOLDER");
    if (cli->output && !strcmp(file_extension(cli->output), "json"))
        cli->json = true;
    *out = (struct result){ .kind = kind, .cli = cli, .format = (enum result_format)format, .no_plots = no_plots };
    return output_claim(cli, format == RESULT_FOLDER, err);
}

/* --- HDF5 --- */

struct provenance result_provenance(const struct cli *cli, const struct model *model)
{
    return (struct provenance){ .command = cli->command_line,
                                .model = model,
                                .specials = cli->specials,
                                .precision = cli->precision,
                                .dtype = STORE_F64,
                                .threads = cli->threads,
                                .seed = cli->seed };
}

int result_h5(const char *path, const struct provenance *p, result_put *put, const void *report, struct err *err)
{
    char *draft = file_with_suffix(path, FILE_DRAFT);
    struct h5_file f;
    if (!draft)
        return err_nomem(err, "a path");
    int rc = h5_create(&f, draft, err);
    if (!rc) {
        rc = provenance_write(&f, p, true, err);
        rc = rc ? rc : put(report, &f, err);
        rc = h5_close(&f, rc, err);
        rc = rc ? rc : file_publish(draft, path, err);
        if (rc)
            remove(draft);
    }
    free(draft);
    return rc;
}

/* The kind's own file. */
struct kind_file {
    const struct result_kind *kind;
    const void *report;
};

static int put_kind(const void *arg, const struct h5_file *f, struct err *err)
{
    const struct kind_file *k = arg;
    int rc = h5_put_text(f, f->id, "norm", k->kind->norm, err);
    return rc ? rc : k->kind->h5(k->report, f, err);
}

static int write_h5(const struct result *r, const char *path, const void *report, const struct provenance *p,
                    struct err *err)
{
    const struct kind_file file = { r->kind, report };
    if (!r->kind->h5)
        return 0;
    struct provenance full = *p;
    full.format = r->kind->format;
    full.version = 1;
    return result_h5(path, &full, put_kind, &file, err);
}

/* --- a folder --- */

/* Table i with its last column. Quotes may hold line ends. */
static void add_table(const struct result_kind *kind, size_t i, const void *report, struct strbuf *out)
{
    const char *norm = kind->csv_norms[i] ? kind->csv_norms[i] : kind->norm;
    struct strbuf text = STRBUF_INIT;
    bool quoted = false, first = true;
    kind->csv[i].add(report, &text);
    for (size_t at = 0; at < text.len; at++) {
        quoted ^= text.data[at] == '"';
        if (norm && !quoted && text.data[at] == '\n') {
            strbuf_addf(out, ",%s", first ? "norm" : norm);
            first = false;
        }
        strbuf_addc(out, text.data[at]);
    }
    out->failed |= strbuf_failed(&text);
    strbuf_release(&text);
}

/* FOLDER/NAME.csv; no file where the table is empty. */
static int write_table(const struct result_kind *kind, size_t i, const char *folder, const void *report,
                       struct err *err)
{
    struct strbuf name = STRBUF_INIT, text = STRBUF_INIT;
    strbuf_addf(&name, "%s.csv", kind->csv[i].name);
    char *path = strbuf_failed(&name) ? NULL : file_join(folder, strbuf_text(&name));
    int rc = 0;
    add_table(kind, i, report, &text);
    if (!path || strbuf_failed(&text))
        rc = err_nomem(err, kind->csv[i].name);
    else if (text.len)
        rc = file_write(path, text.data, text.len, err);
    free(path);
    strbuf_release(&name);
    strbuf_release(&text);
    return rc;
}

int result_drawn(const struct cli *cli, int rc, const struct err *err)
{
    if (rc == PLOT_NOT_DRAWN)
        cli_note(cli, "strata: %s", err->msg);
    return rc < 0 ? rc : 0;
}

static int write_folder(const struct result *r, const void *report, const struct provenance *p, struct err *err)
{
    const struct result_kind *kind = r->kind;
    const char *folder = r->cli->output;
    struct strbuf name = STRBUF_INIT;
    int rc = file_make_folder(folder, err);
    strbuf_addf(&name, "%s/%s.h5", folder, kind->name);
    rc = rc || !strbuf_failed(&name) ? rc : err_nomem(err, "a path");
    rc = rc ? rc : write_h5(r, strbuf_text(&name), report, p, err);
    for (size_t i = 0; !rc && i < RESULT_TABLES && kind->csv[i].add; i++)
        rc = write_table(kind, i, folder, report, err);
    strbuf_release(&name);
    return rc || r->no_plots ? rc : result_drawn(r->cli, kind->figures(report, folder, err), err);
}

/* --- all of it --- */

int result_write(const struct result *r, const void *report, const struct provenance *p, struct err *err)
{
    const struct result_kind *kind = r->kind;
    struct strbuf text = STRBUF_INIT;
    struct cli to = *r->cli;
    if (r->format == RESULT_H5)
        return write_h5(r, to.output, report, p, err);
    int rc = r->format == RESULT_FOLDER ? write_folder(r, report, p, err) : 0;
    if (rc)
        return rc;
    if (r->format == RESULT_FOLDER)
        to.output = NULL;
    if (r->format == RESULT_CSV)
        add_table(kind, 0, report, &text);
    else
        (to.json ? kind->json : kind->text)(report, &text);
    return output_text(&to, &text, 0, err);
}
