/*
 * Fact files: JSON Lines, a JSON array, LRE relation files, CSV/TSV with a
 * header, TXT with one prompt a line (design section 4). Read one by one, so
 * that a file of any length needs little memory (JSON arrays and LRE files,
 * which are one JSON value, are held whole).
 *
 *     struct facts *facts;
 *     if (facts_open(&facts, "facts.jsonl", &err)) ...    // "-" = standard input
 *     struct fact fact;
 *     int got;
 *     while ((got = facts_next(facts, &fact, &err)) > 0) {
 *         use(fact.prompt, fact.answer);
 *     }                                                    // got 0: end; negative: error
 *     facts_close(facts);
 *
 * JSON keys and CSV columns: prompt (or, in JSON, tokens), subject, answer,
 * answer_token, id, relation, aliases (in CSV separated by '|'),
 * subject_occurrence; also attribute (surrounding spaces stripped),
 * known_id, relation_id where answer, id, relation are absent. Others are
 * ignored, but one that is nearly ours ("answr") is an error. An LRE file
 * gives one fact a sample: the first zero-shot template (else the first
 * template) with the subject in place of {}, its strings stripped. TXT: blank
 * lines are skipped. A line, record or item is at most 16 MiB long.
 */
#ifndef STRATA_FORMATS_FACTS_H
#define STRATA_FORMATS_FACTS_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All pointers are borrowed from the reader until the next facts_next; NULL = absent (strings are UTF-8, NUL-free). */
struct fact {
    const char *id;     /* never NULL: the file's id, or the fact's number in the file, from 0, as text */
    const char *prompt; /* NULL only where tokens are given */
    const char *subject, *answer, *relation;
    const char *const *aliases;
    size_t n_aliases;
    const int32_t *tokens; /* ids >= 0; NULL where a prompt is given */
    size_t n_tokens;
    int32_t answer_token; /* -1 where none was given */
    bool subject_occurrence_last;
    size_t line; /* for messages: line, or item number in a JSON array, from 1 */
};

struct facts;

/* The format is told by the extension (.jsonl .ndjson .json .csv .tsv .txt), else (also for "-") by the first bytes. */
int facts_open(struct facts **out, const char *path, struct err *err);
/* 1: *fact filled; 0: end of file; negative: error "FILE: line N: what is wrong". */
int facts_next(struct facts *facts, struct fact *fact, struct err *err);
/* TXT: blank lines are prompts too, so that facts and lines go together. Before the first facts_next. */
void facts_keep_blank(struct facts *facts);
void facts_close(struct facts *facts); /* NULL is fine */
const char *facts_name(const struct facts *facts);

#endif
