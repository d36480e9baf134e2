/* strata query: the rows of dumps and results for which an expression is true. */
#include "analyses/cli/cli.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "core/base/file.h"
#include "core/query/evaluate.h"
#include "core/query/functions.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *select_text;
static bool count_only, list_fields;
static size_t limit = SIZE_MAX;

static const struct option options[] = {
    { .name = "select",
      .kind = OPTION_TEXT,
      .value = &select_text,
      .argument = "EXPR,...",
      .help = "columns (id, position, the numbers and texts that EXPR names)" },
    { .name = "count", .kind = OPTION_FLAG, .value = &count_only, .help = "print only how many rows there are" },
    { .name = "fields", .kind = OPTION_FLAG, .value = &list_fields, .help = "list what expressions can name" },
    { .name = "limit",
      .kind = OPTION_SIZE,
      .value = &limit,
      .argument = "N",
      .least = 1,
      .help = "stop after N rows that satisfy EXPR (all)" },
    OPTIONS_END,
};

/* What `rows` of the first file are called. */
static const char *unit_name(const struct query_files *files)
{
    const struct query_file *first = &files->files[0];
    return first->has_rows ? "rows" : first->group;
}

static int choose_format(struct cli *cli, struct err *err)
{
    const char *extension = cli->output ? file_extension(cli->output) : "";
    bool csv = !strcmp(extension, "csv"), json = !strcmp(extension, "json") || !strcmp(extension, "jsonl");
    if (*extension && !csv && !json)
        return cli_usage(cli, err, "-o %.200s: this command writes .csv, .json or .jsonl", cli->output);
    if (csv && cli->json)
        return cli_usage(cli, err, "-o %.200s is CSV, --json is not: choose one", cli->output);
    cli->json |= json;
    return 0;
}

/* --- --fields --- */

static void add_shape(struct strbuf *out, const struct query_field *field, bool json)
{
    if (!field->n_axes && !json) {
        strbuf_adds(out, "-");
        return;
    }
    strbuf_addc(out, '[');
    for (int i = 0; i < field->n_axes; i++) {
        strbuf_adds(out, i ? ", " : "");
        if (field->axes[i])
            strbuf_addf(out, "%zu", field->axes[i]);
        else
            strbuf_adds(out, json ? "\"tokens\"" : "tokens");
    }
    strbuf_addc(out, ']');
}

static void add_field_text(struct strbuf *out, const struct query_file *file, const struct query_field *field)
{
    struct strbuf shape = STRBUF_INIT;
    add_shape(&shape, field, false);
    strbuf_addf(out, "%-40s %-5s %-14s %s\n", field->name, store_type_name(field->type), strbuf_text(&shape),
                file->path);
    strbuf_release(&shape);
}

static void add_field_json(struct strbuf *out, const struct query_file *file, const struct query_field *field)
{
    strbuf_addf(out, "{\"name\":\"%s\",\"type\":\"%s\",\"shape\":", field->name, store_type_name(field->type));
    add_shape(out, field, true);
    strbuf_adds(out, ",\"file\":");
    strbuf_add_json(out, file->path, strlen(file->path));
    strbuf_adds(out, "}\n");
}

static int print_fields(struct cli *cli, const struct query_files *files, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    if (!cli->json)
        strbuf_addf(&text, "%-40s %-5s %-14s %s\n", "field", "type", "shape", "file");
    for (size_t i = 0; i < files->n; i++)
        for (size_t f = 0; f < files->files[i].n_fields; f++) {
            const struct query_field *field = &files->files[i].fields[f];
            if (field->layout == QUERY_OTHER)
                continue;
            if (cli->json)
                add_field_json(&text, &files->files[i], field);
            else
                add_field_text(&text, &files->files[i], field);
        }
    return output_text(cli, &text, 0, err);
}

/* --- results --- */

/* Nine digits, which give a float32 back; whole numbers in full. */
static void add_number(struct strbuf *out, double x, const char *missing)
{
    if (!isfinite(x))
        strbuf_adds(out, missing);
    else
        strbuf_addf(out, fabs(x) < 0x1p53 && x == floor(x) ? "%.0f" : "%.9g", x + 0.0);
}

static void add_value(struct strbuf *out, const struct query_value *v, bool json)
{
    if (v->kind == QUERY_TEXT) {
        if (json)
            strbuf_add_json(out, v->text, strlen(v->text));
        else
            strbuf_add_csv(out, v->text, strlen(v->text));
    } else if (v->kind == QUERY_NUMBER)
        add_number(out, v->number, json ? "null" : "");
    else {
        strbuf_adds(out, json ? "[" : "");
        for (size_t i = 0; i < v->n; i++) {
            strbuf_adds(out, !i ? "" : json ? "," : ";");
            add_number(out, v->items[i], json ? "null" : "");
        }
        strbuf_adds(out, json ? "]" : "");
    }
}

struct search {
    struct cli *cli;
    struct expression condition, columns;
    struct query_files files;
    struct query_columns shared; /* so that a dataset is read once for both */
    struct query *where, *what;
    uint64_t looked_at, found, left_out;
    struct output output;
    struct strbuf text;
};

static const char *heading(const struct search *s, size_t column, size_t *n)
{
    const struct expression_node *node = &s->columns.nodes[s->columns.roots[column]];
    *n = node->end - node->begin;
    return s->columns.text + node->begin;
}

static void add_headings(struct search *s)
{
    for (size_t i = 0; i < s->columns.n_roots; i++) {
        size_t n;
        const char *name = heading(s, i, &n);
        strbuf_adds(&s->text, i ? "," : "");
        strbuf_add_csv(&s->text, name, n);
    }
    strbuf_addc(&s->text, '\n');
}

static void add_row(struct search *s)
{
    bool json = s->cli->json;
    for (size_t i = 0; i < s->columns.n_roots; i++) {
        const struct query_value value = query_value(s->what, i);
        size_t n;
        const char *name = heading(s, i, &n);
        strbuf_adds(&s->text, i ? "," : json ? "{" : "");
        if (json) {
            strbuf_add_json(&s->text, name, n);
            strbuf_addc(&s->text, ':');
        }
        add_value(&s->text, &value, json);
    }
    strbuf_adds(&s->text, json ? "}\n" : "\n");
}

/* --- the default columns: id, position, and each number and text that the condition names --- */

static bool is_listed(const char *const *begins, const size_t *lengths, size_t n, const char *text, size_t length)
{
    for (size_t i = 0; i < n; i++)
        if (lengths[i] == length && !memcmp(begins[i], text, length))
            return true;
    return false;
}

static void default_columns(const struct search *s, struct strbuf *out)
{
    const char *begins[EXPRESSION_ROOTS] = { "id", "position" };
    size_t lengths[EXPRESSION_ROOTS] = { 2, 8 }, n = 2;
    strbuf_adds(out, s->files.files[0].has_rows ? "id, position" : "id");
    for (size_t i = 0; i < s->condition.n_nodes && n < EXPRESSION_ROOTS; i++) {
        const struct expression_node *node = &s->condition.nodes[i];
        const char *text = s->condition.text + node->begin;
        size_t length = node->end - node->begin;
        if (node->op != EXPRESSION_FIELD || query_node_type(s->where, i).kind == QUERY_VECTOR ||
            is_listed(begins, lengths, n, text, length))
            continue;
        begins[n] = text;
        lengths[n++] = length;
        strbuf_adds(out, ", ");
        strbuf_add(out, text, length);
    }
}

static int bind_columns(struct search *s, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    int rc = 0;
    if (!select_text) {
        default_columns(s, &text);
        expression_release(&s->columns);
        rc = strbuf_failed(&text) ? err_nomem(err, "columns")
                                  : expression_parse(&s->columns, strbuf_text(&text), EXPRESSION_ROOTS, err);
        strbuf_release(&text);
    }
    rc = rc ? rc : query_bind(&s->what, &s->shared, &s->columns, err);
    return rc ? err_prefix(err, "query: %s", select_text ? "--select: " : "") : 0;
}

static int bind(struct search *s, struct err *err)
{
    query_columns_init(&s->shared, &s->files);
    int rc = query_bind(&s->where, &s->shared, &s->condition, err);
    rc = rc ? rc : query_check_condition(s->where, 0, err);
    return rc ? err_prefix(err, "query: ") : bind_columns(s, err);
}

/* --- the search --- */

enum { TEXT_BYTES = 1 << 16, STEP_UNITS = 64 };

static int look_at(struct search *s, uint64_t unit, struct query_place *places, struct err *err)
{
    s->looked_at++;
    if (!query_files_find(&s->files, unit, places)) {
        s->left_out++;
        return 0;
    }
    int rc = query_evaluate(s->where, places, err);
    if (rc || !query_is_true(query_value(s->where, 0).number))
        return rc;
    s->found++;
    if (count_only)
        return 0;
    rc = query_evaluate(s->what, places, err);
    if (!rc)
        add_row(s);
    return rc || s->text.len < TEXT_BYTES ? rc : output_add(&s->output, &s->text, err);
}

static int search_all(struct search *s, struct err *err)
{
    struct query_place places[QUERY_MOST_FILES];
    struct progress_bar bar;
    struct progress *progress = progress_bar_start(&bar, s->cli, "query", unit_name(&s->files));
    uint64_t n = query_files_units(&s->files);
    int rc = 0;
    for (uint64_t unit = 0; !rc && unit < n && s->found < limit; unit++) {
        rc = look_at(s, unit, places, err);
        if (!rc && unit % STEP_UNITS == 0 && progress_step(progress, unit, n))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted");
    }
    progress_bar_end(&bar);
    return rc;
}

static void note_counts(const struct search *s)
{
    const char *units = unit_name(&s->files);
    bool stopped = s->looked_at < query_files_units(&s->files);
    cli_note(s->cli, "%" PRIu64 " of %s%" PRIu64 " %s%s", s->found, stopped ? "the first " : "", s->looked_at, units,
             s->files.files[0].complete ? "" : " (partial file)");
    if (s->left_out)
        cli_note(s->cli, "%" PRIu64 " %s left out: another file has no such prompt or position", s->left_out, units);
}

static int write_all(struct search *s, struct err *err)
{
    int rc = output_open(&s->output, s->cli, err);
    if (!rc && !s->cli->json && !count_only)
        add_headings(s);
    rc = rc ? rc : search_all(s, err);
    if (!rc && count_only)
        strbuf_addf(&s->text, "%" PRIu64 "\n", s->found);
    rc = rc ? rc : output_add(&s->output, &s->text, err);
    rc = output_close(&s->output, rc, err);
    if (!rc)
        note_counts(s);
    return rc;
}

/* Syntax is checked before a file is opened. */
static int parse(struct search *s, struct err *err)
{
    int rc = expression_parse(&s->condition, s->cli->arguments[s->cli->n_arguments - 1], 1, err);
    rc = rc ? rc : expression_parse(&s->columns, select_text ? select_text : "id", EXPRESSION_ROOTS, err);
    s->cli->usage_error = rc == ERR_ARG;
    return rc && s->condition.n_nodes ? err_prefix(err, "--select: ") : rc;
}

static int run_query(struct cli *cli, struct err *err)
{
    struct search s = { .cli = cli, .text = STRBUF_INIT };
    int rc = parse(&s, err);
    const struct expression expressions[] = { s.condition, s.columns };
    rc = rc ? rc : output_claim(cli, false, err);
    rc =
        rc ? rc
           : query_files_open(&s.files, (const char *const *)cli->arguments, cli->n_arguments - 1, expressions, 2, err);
    rc = rc ? rc : bind(&s, err);
    rc = rc ? rc : write_all(&s, err);
    query_free(s.what);
    query_free(s.where);
    query_columns_release(&s.shared);
    query_files_close(&s.files);
    expression_release(&s.columns);
    expression_release(&s.condition);
    strbuf_release(&s.text);
    return rc;
}

static int run(struct cli *cli, struct err *err)
{
    int rc = choose_format(cli, err);
    if (rc)
        return rc;
    if (!list_fields) {
        if (cli->n_arguments < 2)
            return cli_usage(cli, err, "needs files and an expression after them (--fields lists what it can name)");
        return run_query(cli, err);
    }
    struct query_files files;
    rc = query_files_open(&files, (const char *const *)cli->arguments, cli->n_arguments, NULL, 0, err);
    rc = rc ? rc : print_fields(cli, &files, err);
    query_files_close(&files);
    return rc;
}

const struct command command_query = {
    .name = "query",
    .arguments = "FILE.h5... EXPR",
    .summary = "rows of dumps and results that satisfy an expression, without loading the files whole",
    .details =
        "Reads dumps, lens files and results of heads, neurons, knockout, causal and trace -i, complete or partial.\n"
        "\n"
        "  strata query capitals.h5 heads.h5 'first(rank <= 10) >= 20 and to_subject[L17H5] > 0.3'\n"
        "  strata query states.h5 'norm(resid_post[3]) > 100' --select 'id, position, argmax(resid_post[3])'\n"
        "  strata query states.h5 'sum(pattern[17,5,subject]) > 0.5' --json -o looks.jsonl\n"
        "  strata query heads.h5 'relation ~ \"country_*\" and answer in (\"Paris\", \"Rome\")' --count\n"
        "  strata query --fields states.h5\n"
        "\n"
        "Unit: a row of the first file, or where it has none a prompt or fact. Later files are joined by id and text,\n"
        "and by position where they have several rows a prompt; units that lack a partner are counted on stderr.\n"
        "\n"
        "Fields are datasets: lens.rank, or any end of the name that only one field has: rank. The first file that "
        "has\n"
        "such a field is asked; FILE:NAME asks another (heads:facts.rank; \"my-file\":rank). Sites of a dump take "
        "their\n"
        "layer first: resid_post[7], z[17,5], pattern[17,5] (of this position to every token). Indices: numbers from "
        "0,\n"
        "negative ones from the end, L17H5 for 17,5, a:b and : to keep (part of) an axis, \"final_post\" where an "
        "axis\n"
        "has labels, subject for the subject's tokens. One axis can be left: a vector.\n"
        "\n"
        "Loosest first: or ||, and &&, not !, then == != < <= > >= ~ in (a, b), + -, * /, - before a number. ~ "
        "matches\n"
        "a text with a glob. On vectors all work item by item. Functions of a vector: first, last (index of the "
        "first,\n"
        "last true item), any, all, count, sum, mean, min, max, argmin, argmax, norm; of two: dot, cosine; of "
        "numbers:\n"
        "abs, sqrt, log, exp; missing. True: not 0. Missing (the rank of no answer, the index of none): comparisons\n"
        "with it are false, functions from sum to norm leave it out, output is empty (null).\n"
        "\n"
        "CSV, or JSON Lines with --json; vectors are items between ; or JSON arrays. Exit status 0 also where nothing\n"
        "satisfies EXPR.\n",
    .common = COMMON_OUTPUT | COMMON_JSON,
    .options = options,
    .least_arguments = 1,
    .most_arguments = QUERY_MOST_FILES + 1,
    .run = run,
};
