/*
 * What the `tokenizers` library made of texts (make_tokenizer_references.py says the format), and the comparison.
 *
 *     struct tokenizer *tok = open_json("gpt2");
 *     struct cases c = cases_open("gpt2");
 *     for (size_t i = 0; i < c.n; i++) {
 *         cases_next(&c);
 *         check_ids("gpt2", tok, &c.now, &got);
 *     }
 *     cases_close(&c);
 */
#ifndef STRATA_TESTS_GOLDEN_TOKENIZER_CASES_H
#define STRATA_TESTS_GOLDEN_TOKENIZER_CASES_H

#include "core/base/file.h"
#include "core/tokenizer/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/golden/tokenizers/"
enum { LONGEST_LIST = 8 };

static inline struct file_map map_file(const char *name, const char *ending)
{
    char path[128];
    struct file_map map;
    struct err err = { 0 };
    snprintf(path, sizeof path, FOLDER "%s%s", name, ending);
    if (file_map_open(&map, path, &err))
        fail_msg("%s", err.msg);
    return map;
}

/* What the library made of one text; the arrays belong to the struct cases. */
struct one_case {
    const char *text;
    size_t len;
    struct tokens want;
};
struct cases {
    struct file_map map;
    size_t at, n; /* next byte; texts */
    size_t n_before, n_after;
    int32_t before[LONGEST_LIST], after[LONGEST_LIST];
    struct one_case now;
};

static inline uint32_t number(struct cases *c)
{
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        assert_true(c->at < c->map.size);
        unsigned char byte = c->map.data[c->at++];
        value |= (uint32_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    fail_msg("a number is too long");
    return 0;
}

static inline size_t list(struct cases *c, int32_t ids[LONGEST_LIST])
{
    size_t n = number(c);
    assert_true(n <= LONGEST_LIST);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)number(c);
    return n;
}

static inline struct cases cases_open(const char *name)
{
    struct cases c = { .map = map_file(name, ".bin") };
    assert_memory_equal(c.map.data, "STRTOKEN", 8);
    c.at = 8;
    assert_int_equal(number(&c), 1);
    c.n_before = list(&c, c.before);
    c.n_after = list(&c, c.after);
    c.n = number(&c);
    assert_true(c.n >= 300);
    return c;
}

static inline void cases_next(struct cases *c)
{
    struct err err = { 0 };
    c->now.len = number(c);
    c->now.text = (const char *)c->map.data + c->at;
    c->at += c->now.len;
    assert_true(c->at <= c->map.size);
    size_t n = number(c);
    int64_t end = 0;
    tokens_clear(&c->now.want);
    for (size_t i = 0; i < n; i++) {
        int32_t id = (int32_t)number(c);
        uint32_t gap = number(c);
        int64_t begin = end + (gap & 1 ? -(int64_t)(gap / 2) : (int64_t)(gap / 2));
        end = begin + number(c);
        assert_true(begin >= 0 && end <= (int64_t)c->now.len);
        assert_int_equal(tokens_add(&c->now.want, id, (uint32_t)begin, (uint32_t)end, &err), 0);
    }
}

static inline void cases_close(struct cases *c)
{
    tokens_release(&c->now.want);
    file_map_close(&c->map);
}

static inline struct tokenizer *open_json(const char *name)
{
    struct file_map map = map_file(name, ".json");
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (tokenizer_open_json(&tok, map.data, map.size, map.name, &err))
        fail_msg("%s", err.msg);
    file_map_close(&map);
    return tok;
}

/* Index of the first token that differs, or SIZE_MAX. */
static inline size_t first_difference(const struct tokens *a, const struct tokens *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < n; i++)
        if (a->id[i] != b->id[i])
            return i;
    return a->n == b->n ? SIZE_MAX : n;
}

static inline void encode(const struct tokenizer *tok, const struct one_case *c, enum specials specials,
                          struct tokens *out)
{
    struct err err = { 0 };
    /* In a block of its own, so that the address sanitizer sees a read beyond the text. */
    char *copy = malloc(c->len + !c->len);
    assert_non_null(copy);
    memcpy(copy, c->text, c->len);
    if (tokenizer_encode(tok, copy, c->len, specials, out, &err))
        fail_msg("%.200s: %s", c->text, err.msg);
    free(copy);
}

static inline void check_ids(const char *name, const struct tokenizer *tok, const struct one_case *c,
                             struct tokens *got)
{
    encode(tok, c, SPECIALS_NONE, got);
    size_t i = first_difference(got, &c->want);
    if (i != SIZE_MAX)
        fail_msg("%s: token %zu of '%.*s' is %d, the library has %d", name, i, (int)(c->len < 300 ? c->len : 300),
                 c->text, i < got->n ? (int)got->id[i] : -1, i < c->want.n ? (int)c->want.id[i] : -1);
}

static inline bool contains(const char *text, size_t len, const char *part, size_t part_len)
{
    for (size_t at = 0; at + part_len <= len; at++)
        if (!memcmp(text + at, part, part_len))
            return true;
    return false;
}

#endif
