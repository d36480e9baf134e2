/* Fact files: opening, telling the format, lines. The formats are in facts_json.c and facts_text.c. */
#include "core/formats/facts.h"

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/base/utf8.h"
#include "core/formats/facts_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int fill(struct facts *f, struct err *err)
{
    f->at = 0;
    f->end = fread(f->buffer, 1, FACTS_BUFFER, f->file);
    return f->end < FACTS_BUFFER && ferror(f->file) ? err_errno(err, "%s: cannot read", f->name) : 0;
}

void facts_where(const struct facts *f, const char *unit, size_t number, char where[FACTS_WHERE])
{
    snprintf(where, FACTS_WHERE, "%.400s: %s %zu", f->name, unit, number);
}

void facts_number(struct facts *f, struct fact *fact)
{
    snprintf(f->number, sizeof f->number, "%zu", f->n_facts);
    fact->id = f->number;
}

int facts_copy_stripped(struct strbuf *out, const char *text, struct err *err)
{
    size_t n = strlen(text);
    while (n && memchr(" \t\r\n", text[n - 1], 4))
        n--;
    for (; n && memchr(" \t\r\n", *text, 4); n--)
        text++;
    strbuf_reset(out);
    strbuf_add(out, text, n);
    return strbuf_failed(out) ? err_nomem(err, "a fact") : 0;
}

const char *facts_meant_key(const char *key)
{
    static const char *const ours[] = { "prompt",       "subject",  "answer",    "id",
                                        "answer_token", "tokens",   "aliases",   "subject_occurrence",
                                        "relation",     "known_id", "attribute", "relation_id" };
    enum { N = sizeof ours / sizeof *ours, OTHERS = 3, SHORTEST = 5 };
    const char *meant = NULL;
    size_t len = strlen(key);
    for (size_t i = 0; i < N; i++) {
        if (!strcmp(key, ours[i]))
            return NULL;
        size_t wrong = suggest_distance(key, len, ours[i], strlen(ours[i]));
        if (i < N - OTHERS && len >= SHORTEST && wrong <= 2 && wrong * 4 <= len)
            meant = meant ? meant : ours[i];
    }
    return meant;
}

bool facts_is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!memchr(" \t\r\n", text[i], 4))
            return false;
    return true;
}

static int text_check(const struct facts *f, const char *text, size_t n, size_t line, struct err *err)
{
    if (memchr(text, '\0', n))
        return err_set(err, ERR_FORMAT, "%s: line %zu: holds a NUL byte: only text files can be read", f->name, line);
    if (!utf8_valid(text, n))
        return err_set(err, ERR_FORMAT, "%s: line %zu: is no UTF-8: save the file as UTF-8", f->name, line);
    return 0;
}

int facts_read_line(struct facts *f, struct err *err)
{
    bool any = false;
    strbuf_reset(&f->line);
    strbuf_adds(&f->line, ""); /* data must not be NULL, also for an empty line */
    for (;;) {
        if (f->at == f->end) {
            int rc = fill(f, err);
            if (rc)
                return rc;
            if (f->at == f->end)
                break;
        }
        any = true;
        const char *begin = f->buffer + f->at, *newline = memchr(begin, '\n', f->end - f->at);
        size_t n = newline ? (size_t)(newline - begin) : f->end - f->at;
        strbuf_add(&f->line, begin, n);
        f->at += newline ? n + 1 : n;
        if (f->line.len > FACTS_MAX_LINE)
            return err_set(err, ERR_FORMAT, "%s: line %zu: is longer than %d MiB", f->name, f->line_number + 1,
                           FACTS_MAX_LINE >> 20);
        if (newline)
            break;
    }
    if (strbuf_failed(&f->line))
        return err_nomem(err, "a line of facts");
    if (!any)
        return 0;
    f->line_number++;
    f->line_was_crlf = f->line.len && f->line.data[f->line.len - 1] == '\r';
    if (f->line_was_crlf)
        f->line.data[--f->line.len] = '\0';
    int rc = text_check(f, f->line.data, f->line.len, f->line_number, err);
    return rc ? rc : 1;
}

int facts_read_whole(struct facts *f, struct err *err)
{
    do {
        if (f->end - f->at > FACTS_MAX_WHOLE - f->whole.len)
            return err_set(err, ERR_FORMAT, "%s: is larger than %d MiB: use JSON Lines, which are read one by one",
                           f->name, FACTS_MAX_WHOLE >> 20);
        strbuf_add(&f->whole, f->buffer + f->at, f->end - f->at);
        if (strbuf_failed(&f->whole))
            return err_nomem(err, "a file of facts");
        int rc = fill(f, err);
        if (rc)
            return rc;
    } while (f->end);
    /* Line by line, so that a message can say where. */
    size_t line = 1;
    for (size_t i = 0; i < f->whole.len; line++) {
        const char *begin = f->whole.data + i, *newline = memchr(begin, '\n', f->whole.len - i);
        size_t n = newline ? (size_t)(newline - begin) + 1 : f->whole.len - i;
        int rc = text_check(f, begin, n, line, err);
        if (rc)
            return rc;
        i += n;
    }
    return 0;
}

/* True for a line that has a field `prompt`, as a CSV or TSV header does. */
static bool is_header(const char *line, size_t n, char delimiter)
{
    for (size_t i = 0; i <= n;) {
        const char *end = memchr(line + i, delimiter, n - i);
        size_t len = end ? (size_t)(end - line) - i : n - i;
        if ((len == 6 && !memcmp(line + i, "prompt", 6)) || (len == 8 && !memcmp(line + i, "\"prompt\"", 8)))
            return true;
        i += len + 1;
    }
    return false;
}

static enum facts_format text_sniff(struct facts *f)
{
    const char *line = f->buffer + f->at, *newline = memchr(line, '\n', f->end - f->at);
    size_t n = newline ? (size_t)(newline - line) : f->end - f->at;
    if (n && line[n - 1] == '\r')
        n--;
    f->delimiter = is_header(line, n, '\t') ? '\t' : ',';
    return is_header(line, n, f->delimiter) ? FACTS_CSV : FACTS_TXT;
}

/* By the extension, else by the first bytes, which are in the buffer. FACTS_ARRAY stands for any file that is one JSON
 * value. */
static int format_tell(struct facts *f, const char *extension, struct err *err)
{
    size_t first = f->at;
    while (first < f->end && facts_is_blank(f->buffer + first, 1))
        first++;
    const char *text = f->buffer + first;
    size_t n = f->end - first;
    bool is_json = !strcasecmp(extension, "json");
    f->delimiter = ',';
    if (!strcasecmp(extension, "jsonl") || !strcasecmp(extension, "ndjson"))
        f->format = FACTS_JSONL;
    else if (!strcasecmp(extension, "csv"))
        f->format = FACTS_CSV;
    else if (!strcasecmp(extension, "tsv")) {
        f->format = FACTS_CSV;
        f->delimiter = '\t';
    } else if (is_json && !n && f->end == FACTS_BUFFER)
        f->format = FACTS_ARRAY; /* blank as far as one can see */
    else if (!strcasecmp(extension, "txt") || !n)
        f->format = FACTS_TXT;
    else if (*text == '{')
        f->format = facts_json_sniff(text, n);
    else if (*text == '[' && is_json)
        f->format = FACTS_ARRAY;
    else if (*text == '[') {
        size_t i = 1;
        while (i < n && facts_is_blank(text + i, 1))
            i++;
        /* A prompt may start with "[CLS]". */
        f->format = i < n && (text[i] == '{' || text[i] == ']') ? FACTS_ARRAY : FACTS_TXT;
    } else if (is_json)
        return err_set(err, ERR_FORMAT, "%s: is no JSON array or object of facts", f->name);
    else
        f->format = text_sniff(f);
    return 0;
}

static int start(struct facts *f, const char *extension, struct err *err)
{
    int rc = fill(f, err);
    if (rc)
        return rc;
    if (f->end >= 2 && (!memcmp(f->buffer, "\xff\xfe", 2) || !memcmp(f->buffer, "\xfe\xff", 2)))
        return err_set(err, ERR_FORMAT, "%s: is UTF-16: save the file as UTF-8", f->name);
    if (f->end >= 3 && !memcmp(f->buffer, "\xef\xbb\xbf", 3))
        f->at = 3;
    if ((rc = format_tell(f, extension, err)))
        return rc;
    if (f->format == FACTS_CSV)
        return facts_csv_open(f, err);
    return f->format == FACTS_ARRAY || f->format == FACTS_OBJECT ? facts_json_open(f, err) : 0;
}

int facts_open(struct facts **out, const char *path, struct err *err)
{
    bool is_stdin = !strcmp(path, "-");
    if (!is_stdin && file_is_folder(path))
        return err_set(err, ERR_IO, "%s: is a folder: give a file of facts", path);
    struct facts *f = mem_zeroed(1, sizeof *f);
    if (!f)
        return err_nomem(err, "a reader of facts");
    int rc = 0;
    f->is_stdin = is_stdin;
    f->name = mem_strdup(is_stdin ? "standard input" : path);
    f->buffer = mem_array(FACTS_BUFFER, 1);
    if (!f->name || !f->buffer)
        rc = err_nomem(err, "a reader of facts");
    else if (!(f->file = is_stdin ? stdin : fopen(path, "rb")))
        rc = err_errno(err, "%s: cannot open", path);
    else
        rc = start(f, is_stdin ? "" : file_extension(path), err);
    if (rc)
        facts_close(f);
    else
        *out = f;
    return rc;
}

int facts_next(struct facts *f, struct fact *fact, struct err *err)
{
    int got = 0;
    *fact = (struct fact){ .answer_token = -1 };
    facts_number(f, fact);
    switch (f->format) {
    case FACTS_JSONL:
        got = facts_jsonl_next(f, fact, err);
        break;
    case FACTS_ARRAY:
    case FACTS_OBJECT:
        got = facts_array_next(f, fact, err);
        break;
    case FACTS_LRE:
        got = facts_lre_next(f, fact, err);
        break;
    case FACTS_CSV:
        got = facts_csv_next(f, fact, err);
        break;
    case FACTS_TXT:
        got = facts_txt_next(f, fact, err);
        break;
    }
    if (got > 0)
        f->n_facts++;
    return got;
}

void facts_close(struct facts *f)
{
    if (!f)
        return;
    if (f->file && !f->is_stdin)
        fclose(f->file);
    struct strbuf *strings[] = { &f->line, &f->prompt, &f->subject, &f->answer, &f->whole, &f->record };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        strbuf_release(strings[i]);
    json_decref(f->item);
    free(f->aliases);
    free(f->tokens);
    free(f->relation);
    free(f->template);
    free(f->fields);
    free(f->name);
    free(f->buffer);
    free(f);
}

void facts_keep_blank(struct facts *f)
{
    f->keep_blank = true;
}

const char *facts_name(const struct facts *f)
{
    return f->name;
}
