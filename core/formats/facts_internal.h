/* Shared by facts.c (opening, lines), facts_json.c and facts_text.c; nobody else includes this. */
#ifndef STRATA_FORMATS_FACTS_INTERNAL_H
#define STRATA_FORMATS_FACTS_INTERNAL_H

#include "core/base/strbuf.h"
#include "core/formats/facts.h"
#include "core/formats/json_walk.h"

#include <jansson.h>
#include <stdio.h>

enum {
    FACTS_BUFFER = 64 << 10,   /* read ahead; what the format is told by */
    FACTS_MAX_LINE = 16 << 20, /* also of a CSV record and of an item in a JSON array */
    FACTS_MAX_WHOLE = 1 << 30, /* a file that is one JSON value */
    FACTS_WHERE = 512
};

enum facts_format { FACTS_JSONL, FACTS_ARRAY, FACTS_OBJECT, FACTS_LRE, FACTS_CSV, FACTS_TXT };

enum csv_column {
    CSV_PROMPT,
    CSV_SUBJECT,
    CSV_ANSWER,
    CSV_ID,
    CSV_RELATION,
    CSV_ALIASES,
    CSV_ANSWER_TOKEN,
    CSV_SUBJECT_OCCURRENCE,
    CSV_ATTRIBUTE,
    CSV_KNOWN_ID,
    CSV_RELATION_ID,
    N_CSV_COLUMNS
};

struct facts {
    char *name;
    FILE *file;
    bool is_stdin; /* not ours to close */
    enum facts_format format;
    bool keep_blank;

    char *buffer; /* [FACTS_BUFFER], bytes at..end are not consumed yet */
    size_t at, end;
    struct strbuf line;
    bool line_was_crlf;
    size_t line_number; /* of `line`, from 1 */

    size_t n_facts; /* handed out */

    /* The current fact's strings, where they are not in `line`. */
    char number[24];
    struct strbuf prompt, subject, answer;
    json_t *item;
    const char **aliases;
    size_t aliases_capacity;
    int32_t *tokens;
    size_t tokens_capacity;

    /* JSON arrays and LRE files. */
    struct strbuf whole;
    struct json_walk walk; /* over the items */
    char *relation, *template;

    /* CSV and TSV. */
    char delimiter;
    size_t n_fields;                 /* of the header */
    size_t *fields, fields_capacity; /* begin of each field in `record` */
    struct strbuf record;            /* fields, each ended by a NUL */
    size_t record_line;
    size_t column[N_CSV_COLUMNS]; /* field of each known column, SIZE_MAX where there is none */
};

/* 1: `line` holds the next line without its end; 0: end of file; negative: error. */
int facts_read_line(struct facts *f, struct err *err);
/* Appends everything that is left to `whole`. */
int facts_read_whole(struct facts *f, struct err *err);
/* "FILE: line N" or "FILE: item N". */
void facts_where(const struct facts *f, const char *unit, size_t number, char where[FACTS_WHERE]);
/* Sets the id that a fact without its own gets. */
void facts_number(struct facts *f, struct fact *fact);
bool facts_is_blank(const char *text, size_t n);
/* Copies without surrounding spaces: those of published answers belong to the tokenisation. */
int facts_copy_stripped(struct strbuf *out, const char *text, struct err *err);
/* Our own key that this one is probably meant to be ("answr"), NULL for known keys and for those like none. */
const char *facts_meant_key(const char *key);

/* What the first bytes of a file that starts with '{' are: FACTS_JSONL, or FACTS_OBJECT for one large value. */
enum facts_format facts_json_sniff(const char *text, size_t n);
/* Reads the whole file; the format becomes FACTS_ARRAY, FACTS_OBJECT or FACTS_LRE. */
int facts_json_open(struct facts *f, struct err *err);
int facts_jsonl_next(struct facts *f, struct fact *fact, struct err *err);
int facts_array_next(struct facts *f, struct fact *fact, struct err *err);
int facts_lre_next(struct facts *f, struct fact *fact, struct err *err);

/* Reads the header line. An empty file is fine. */
int facts_csv_open(struct facts *f, struct err *err);
int facts_csv_next(struct facts *f, struct fact *fact, struct err *err);
int facts_txt_next(struct facts *f, struct fact *fact, struct err *err);

#endif
