/* Facts from CSV and TSV (RFC 4180, with a header) and from plain text, one prompt a line. */
#include "core/base/mem.h"
#include "core/formats/facts_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const column_names[N_CSV_COLUMNS] = {
    [CSV_PROMPT] = "prompt",
    [CSV_SUBJECT] = "subject",
    [CSV_ANSWER] = "answer",
    [CSV_ID] = "id",
    [CSV_RELATION] = "relation",
    [CSV_ALIASES] = "aliases",
    [CSV_ANSWER_TOKEN] = "answer_token",
    [CSV_SUBJECT_OCCURRENCE] = "subject_occurrence",
    [CSV_ATTRIBUTE] = "attribute",
    [CSV_KNOWN_ID] = "known_id",
    [CSV_RELATION_ID] = "relation_id",
};

static int record_error(const struct facts *f, const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: line %zu: %s", f->name, f->record_line, what);
}

/* Adds the content of a quoted field that starts behind its quote; reads on where it spans lines. *at moves behind it.
 */
static int quoted_field(struct facts *f, size_t *at, struct err *err)
{
    size_t i = *at;
    for (;;) {
        const char *begin = f->line.data + i, *quote = memchr(begin, '"', f->line.len - i);
        size_t n = quote ? (size_t)(quote - begin) : f->line.len - i;
        strbuf_add(&f->record, begin, n);
        i += n;
        if (quote && i + 1 < f->line.len && f->line.data[i + 1] == '"') {
            strbuf_addc(&f->record, '"');
            i += 2;
        } else if (quote) {
            *at = i + 1;
            return 0;
        } else {
            strbuf_adds(&f->record, f->line_was_crlf ? "\r\n" : "\n");
            if (f->record.len > FACTS_MAX_LINE)
                return record_error(f, "a record is longer than 16 MiB: is a closing quote missing?", err);
            int got = facts_read_line(f, err);
            if (got <= 0)
                return got ? got : record_error(f, "the file ends inside a quoted field", err);
            i = 0;
        }
    }
}

/* 1: fields[0..*n_fields) of the next record, each a NUL-ended string in `record`; 0: end. Empty lines are skipped. */
static int record_read(struct facts *f, size_t *n_fields, struct err *err)
{
    int got;
    do {
        got = facts_read_line(f, err);
        if (got <= 0)
            return got;
    } while (!f->line.len);
    f->record_line = f->line_number;
    strbuf_reset(&f->record);
    *n_fields = 0;
    for (size_t at = 0;; at++) {
        if (!mem_grow(&f->fields, &f->fields_capacity, *n_fields + 1, sizeof *f->fields))
            return err_nomem(err, "a record");
        f->fields[(*n_fields)++] = f->record.len;
        if (at < f->line.len && f->line.data[at] == '"') {
            at++;
            int rc = quoted_field(f, &at, err);
            if (rc)
                return rc;
            if (at < f->line.len && f->line.data[at] != f->delimiter)
                return record_error(f, "text follows a closing quote", err);
        } else {
            const char *begin = f->line.data + at, *end = memchr(begin, f->delimiter, f->line.len - at);
            size_t n = end ? (size_t)(end - begin) : f->line.len - at;
            strbuf_add(&f->record, begin, n);
            at += n;
        }
        strbuf_addc(&f->record, '\0');
        if (at >= f->line.len)
            break;
    }
    if (f->record.len > 2 * (size_t)FACTS_MAX_LINE)
        return record_error(f, "a record is longer than 16 MiB", err);
    return strbuf_failed(&f->record) ? err_nomem(err, "a record") : 1;
}

/* A misspelt column would be a loss in silence. */
static int columns_check(const struct facts *f, struct err *err)
{
    for (size_t i = 0; i < f->n_fields; i++) {
        const char *column = f->record.data + f->fields[i], *meant = facts_meant_key(column);
        for (int c = 0; meant && c < N_CSV_COLUMNS; c++)
            if (f->column[c] == SIZE_MAX && !strcmp(meant, column_names[c]))
                return err_set(err, ERR_FORMAT, "%s: line %zu: there is no column \"%s\": did you mean %s?", f->name,
                               f->record_line, column, meant);
    }
    return 0;
}

int facts_csv_open(struct facts *f, struct err *err)
{
    for (int c = 0; c < N_CSV_COLUMNS; c++)
        f->column[c] = SIZE_MAX;
    int got = record_read(f, &f->n_fields, err);
    if (got <= 0)
        return got;
    for (size_t i = 0; i < f->n_fields; i++)
        for (int c = 0; c < N_CSV_COLUMNS; c++) {
            if (strcmp(f->record.data + f->fields[i], column_names[c]))
                continue;
            if (f->column[c] != SIZE_MAX)
                return err_set(err, ERR_FORMAT, "%s: line %zu: column %s is there twice", f->name, f->record_line,
                               column_names[c]);
            f->column[c] = i;
        }
    int rc = columns_check(f, err);
    if (rc)
        return rc;
    if (f->column[CSV_PROMPT] == SIZE_MAX)
        return err_set(err, ERR_FORMAT, "%s: line %zu: the header has no column \"prompt\" (its first is \"%.100s\")",
                       f->name, f->record_line, f->record.data);
    return 0;
}

/* NULL for an absent column or an empty field. */
static char *field(const struct facts *f, enum csv_column column)
{
    if (f->column[column] == SIZE_MAX)
        return NULL;
    char *text = f->record.data + f->fields[f->column[column]];
    return *text ? text : NULL;
}

/* Under our own name, else under that of the Counterfact family. */
static const char *either(const struct facts *f, enum csv_column own, enum csv_column other)
{
    const char *text = field(f, own);
    return text ? text : field(f, other);
}

static int aliases_split(struct facts *f, struct fact *fact, struct err *err)
{
    char *at = field(f, CSV_ALIASES);
    while (at) {
        char *bar = strchr(at, '|');
        if (bar)
            *bar = '\0';
        if (!*at)
            return record_error(f, "an alias is empty", err);
        if (!mem_grow(&f->aliases, &f->aliases_capacity, fact->n_aliases + 1, sizeof *f->aliases))
            return err_nomem(err, "aliases");
        f->aliases[fact->n_aliases++] = at;
        at = bar ? bar + 1 : NULL;
    }
    fact->aliases = fact->n_aliases ? f->aliases : NULL;
    return 0;
}

static int details_read(struct facts *f, struct fact *fact, struct err *err)
{
    const char *token = field(f, CSV_ANSWER_TOKEN), *occurrence = field(f, CSV_SUBJECT_OCCURRENCE);
    if (token) {
        char *end;
        errno = 0;
        long long id = strtoll(token, &end, 10);
        if (*token < '0' || *token > '9' || *end || errno || id > INT32_MAX)
            return record_error(f, "answer_token must be a token id, a whole number from 0", err);
        fact->answer_token = (int32_t)id;
    }
    fact->subject_occurrence_last = occurrence && !strcmp(occurrence, "last");
    if (occurrence && !fact->subject_occurrence_last && strcmp(occurrence, "first"))
        return err_set(err, ERR_FORMAT,
                       "%s: line %zu: subject_occurrence is \"%.100s\", it must be \"first\" or \"last\"", f->name,
                       f->record_line, occurrence);
    return 0;
}

int facts_csv_next(struct facts *f, struct fact *fact, struct err *err)
{
    size_t n_fields;
    int got = record_read(f, &n_fields, err);
    if (got <= 0)
        return got;
    fact->line = f->record_line;
    if (n_fields != f->n_fields)
        return err_set(err, ERR_FORMAT, "%s: line %zu: has %zu fields, the header has %zu", f->name, f->record_line,
                       n_fields, f->n_fields);
    fact->prompt = field(f, CSV_PROMPT);
    if (!fact->prompt)
        return record_error(f, "the prompt is empty", err);
    fact->subject = field(f, CSV_SUBJECT);
    fact->answer = field(f, CSV_ANSWER);
    fact->relation = either(f, CSV_RELATION, CSV_RELATION_ID);
    const char *id = either(f, CSV_ID, CSV_KNOWN_ID);
    if (id)
        fact->id = id;
    int rc = aliases_split(f, fact, err);
    if (!rc && !fact->answer && field(f, CSV_ATTRIBUTE)) {
        rc = facts_copy_stripped(&f->answer, field(f, CSV_ATTRIBUTE), err);
        fact->answer = f->answer.len ? strbuf_text(&f->answer) : NULL;
    }
    if (!rc)
        rc = details_read(f, fact, err);
    return rc ? rc : 1;
}

int facts_txt_next(struct facts *f, struct fact *fact, struct err *err)
{
    int got;
    do {
        got = facts_read_line(f, err);
        if (got <= 0)
            return got;
    } while (!f->keep_blank && facts_is_blank(f->line.data, f->line.len));
    fact->prompt = f->line.data;
    fact->line = f->line_number;
    return 1;
}
