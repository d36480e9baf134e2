/*
 * The regular expressions of tokenizer files, which are written for Oniguruma, on PCRE2 (UTF, UCP, JIT). Constructs
 * that the two read differently are translated (\s, \d, \u) or refused by name (\w, \b, \h, scripts, nested classes).
 *
 *     struct regex *re;
 *     if (regex_open(&re, "\\p{L}+|\\s+", "tokenizer.json", &err)) ...
 *     struct regex_room *room = regex_room();
 *     while ((got = regex_next(re, room, text, len, &at, &begin, &end, &err)) > 0)
 *         use(begin, end);
 *
 * Immutable after opening; each text brings its own room. A pattern comes from a file: its length, nesting, heap,
 * number of steps and time on one text are bounded.
 */
#ifndef STRATA_TOKENIZER_REGEX_H
#define STRATA_TOKENIZER_REGEX_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct regex;
struct regex_room;

#define REGEX_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define REGEX_LLAMA3                                                                                                   \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"           \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REGEX_QWEN2                                                                                                    \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

int regex_open(struct regex **out, const char *pattern, const char *where, struct err *err);
/* One that matches exactly this text. */
int regex_open_literal(struct regex **out, const char *text, const char *where, struct err *err);
void regex_free(struct regex *re); /* NULL is fine */

/* What matching on one text takes, with the time spent on it. NULL without memory. */
struct regex_room *regex_room(void);
void regex_room_free(struct regex_room *room); /* NULL is fine */

/* Where the search goes on; zero it before the first call. */
struct regex_at {
    size_t from, last_end;
    bool matched;
};
/* 1: the next match, [*begin, *end) of text; 0: none; negative: error. The text is valid UTF-8. */
int regex_next(const struct regex *re, struct regex_room *room, const char *text, size_t len, struct regex_at *at,
               size_t *begin, size_t *end, struct err *err);

#endif
