/* Pre-tokenizers: each cuts the text pieces further. ByteLevel may put a space before a piece that has none. */
#include "core/tokenizer/internal.h"

#include "core/base/utf8.h"

#include <string.h>

/* The piece that a match or what lies before it may still join. */
struct cutting {
    struct work *w;
    enum split_behavior behavior;
    size_t begin, end;
    bool pending, was_match; /* was_match: the last part, whether or not it joined */
};

static int end_cutting(struct cutting *c, struct err *err)
{
    bool pending = c->pending;
    c->pending = false;
    return pending ? work_add(c->w, c->begin, c->end, -1, err) : 0;
}

/* A match or what lies between two, joined to the piece before as the behavior says. */
static int cut_part(struct cutting *c, size_t begin, size_t end, bool match, struct err *err)
{
    bool joins = c->behavior == SPLIT_CONTIGUOUS             ? match == c->was_match
                 : c->behavior == SPLIT_MERGED_WITH_PREVIOUS ? match && !c->was_match
                 : c->behavior == SPLIT_MERGED_WITH_NEXT     ? !match && c->was_match
                                                             : false;
    c->was_match = match;
    if (joins && c->pending) {
        c->end = end;
        return 0;
    }
    int rc = end_cutting(c, err);
    c->pending = !match || c->behavior != SPLIT_REMOVED;
    c->begin = begin;
    c->end = end;
    return rc;
}

static int cut_by_regex(const struct pre_tokenizer *pre, struct work *w, const struct piece *p, struct err *err)
{
    struct regex_at at = { 0, 0, false };
    struct cutting c = { .w = w, .behavior = pre->behavior };
    size_t done = p->begin, begin, end;
    int got, rc = 0;
    while ((got = regex_next(pre->regex, w->match, w->bytes + p->begin, p->end - p->begin, &at, &begin, &end, err)) >
           0) {
        if (done < p->begin + begin)
            rc = cut_part(&c, done, p->begin + begin, pre->invert, err);
        if (rc || (rc = cut_part(&c, p->begin + begin, p->begin + end, !pre->invert, err)))
            return rc;
        done = p->begin + end;
    }
    if (!got && done < p->end)
        got = cut_part(&c, done, p->end, pre->invert, err);
    return got ? got : end_cutting(&c, err);
}

/* Cuts every number off the rest: each digit alone, or runs of them. */
static int cut_digits(bool individual, struct work *w, const struct piece *p, struct err *err)
{
    size_t done = p->begin, k;
    bool before = false;
    int rc = 0;
    for (size_t at = p->begin; !rc && at < p->end; at += k) {
        uint32_t cp = 0;
        k = utf8_decode(w->bytes + at, p->end - at, &cp);
        bool numeric = char_is_numeric(cp);
        if (numeric != before || (numeric && individual)) {
            rc = work_add(w, done, at, -1, err);
            done = at;
        }
        before = numeric;
    }
    return rc ? rc : work_add(w, done, p->end, -1, err);
}

static int cut_whitespace(struct work *w, const struct piece *p, struct err *err)
{
    size_t done = p->begin, k;
    int rc = 0;
    for (size_t at = p->begin; !rc && at < p->end; at += k) {
        uint32_t cp = 0;
        k = utf8_decode(w->bytes + at, p->end - at, &cp);
        if (!char_is_space(cp))
            continue;
        rc = work_add(w, done, at, -1, err);
        done = at + k;
    }
    return rc ? rc : work_add(w, done, p->end, -1, err);
}

enum { METASPACE_LEN = sizeof METASPACE - 1 };

static bool is_metaspace(const struct work *w, size_t at, size_t end)
{
    return end - at >= METASPACE_LEN && !memcmp(w->bytes + at, METASPACE, METASPACE_LEN);
}

/* Every U+2581 begins a piece. */
static int cut_metaspace(struct work *w, const struct piece *p, struct err *err)
{
    size_t done = p->begin;
    int rc = 0;
    for (size_t at = p->begin; !rc && at < p->end; at++)
        if (at > done && is_metaspace(w, at, p->end)) {
            rc = work_add(w, done, at, -1, err);
            done = at;
        }
    return rc ? rc : work_add(w, done, p->end, -1, err);
}

static int prefix_spaces(struct work *w, struct err *err)
{
    struct buffer *b = buffer_start(w);
    int rc = 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        size_t begin = b->n;
        if (p->id < 0 && w->bytes[p->begin] != ' ')
            rc = buffer_add(b, " ", 1, work_origin(w, p->begin), work_origin(w, p->begin), err);
        if (!rc && !(rc = buffer_copy(b, w, p->begin, p->end, err)))
            rc = buffer_close_piece(b, w, begin, work_origin_end(w, p->begin, p->end), p->id, err);
    }
    if (!rc)
        buffer_use(w);
    return rc;
}

/* A piece with U+2581 for every space, and one before it where the scheme wants it. */
static int add_with_metaspaces(struct buffer *b, const struct work *w, const struct piece *p,
                               enum prepend_scheme prepend, struct err *err)
{
    uint32_t origin = work_origin(w, p->begin);
    bool prefix = (prepend == PREPEND_ALWAYS || (prepend == PREPEND_FIRST && !origin)) && w->bytes[p->begin] != ' ' &&
                  !is_metaspace(w, p->begin, p->end);
    int rc = prefix ? buffer_add(b, METASPACE, METASPACE_LEN, origin, origin, err) : 0;
    for (size_t at = p->begin, next; !rc && at < p->end; at = next) {
        const char *space = memchr(w->bytes + at, ' ', p->end - at);
        next = space ? (size_t)(space - w->bytes) : p->end;
        rc = buffer_copy(b, w, at, next, err);
        if (!rc && space) {
            rc = buffer_add_whole(b, METASPACE, METASPACE_LEN, work_origin(w, next), work_origin_end(w, next, next + 1),
                                  err);
            next++;
        }
    }
    return rc;
}

static int put_metaspaces(enum prepend_scheme prepend, struct work *w, struct err *err)
{
    struct buffer *b = buffer_start(w);
    int rc = 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        size_t begin = b->n;
        rc = p->id < 0 ? add_with_metaspaces(b, w, p, prepend, err) : buffer_copy(b, w, p->begin, p->end, err);
        if (!rc)
            rc = buffer_close_piece(b, w, begin, work_origin_end(w, p->begin, p->end), p->id, err);
    }
    if (!rc)
        buffer_use(w);
    return rc;
}

static int cut_piece(const struct pre_tokenizer *pre, struct work *w, const struct piece *p, struct err *err)
{
    switch (pre->kind) {
    case PRE_DIGITS:
        return cut_digits(pre->individual, w, p, err);
    case PRE_METASPACE:
        return cut_metaspace(w, p, err);
    case PRE_WHITESPACE_SPLIT:
        return cut_whitespace(w, p, err);
    case PRE_BYTE_LEVEL:
    case PRE_SPLIT:
        break;
    }
    return cut_by_regex(pre, w, p, err);
}

static int cut(const struct pre_tokenizer *pre, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        rc = p->id < 0 ? cut_piece(pre, w, p, err) : work_add(w, p->begin, p->end, p->id, err);
    }
    work_swap(w);
    return rc;
}

/* Whether the pre-tokenizer cuts at all. */
static bool cuts(const struct pre_tokenizer *pre)
{
    return pre->kind == PRE_METASPACE ? pre->split : pre->kind != PRE_BYTE_LEVEL || pre->regex;
}

int pre_tokenize(const struct tokenizer *tok, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->n_pre_tokenizers; i++) {
        const struct pre_tokenizer *pre = &tok->pre_tokenizers[i];
        if (pre->add_prefix_space)
            rc = prefix_spaces(w, err);
        if (pre->kind == PRE_METASPACE)
            rc = put_metaspaces(pre->prepend, w, err);
        if (!rc && cuts(pre))
            rc = cut(pre, w, err);
    }
    return rc;
}

int pre_add(struct tokenizer *tok, struct pre_tokenizer pre, const char *where, struct err *err)
{
    if (tok->byte_level || tok->n_pre_tokenizers == PRE_TOKENIZERS_MOST) {
        regex_free(pre.regex);
        return err_set(err, ERR_UNSUPPORTED,
                       tok->byte_level
                           ? "%s: a pre-tokenizer after ByteLevel, which would see its letters, is not supported"
                           : "%s: has too many pre-tokenizers",
                       where);
    }
    tok->byte_level = pre.kind == PRE_BYTE_LEVEL;
    tok->pre_tokenizers[tok->n_pre_tokenizers++] = pre;
    return 0;
}

int pre_add_split(struct tokenizer *tok, const char *pattern, bool literal, const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_SPLIT };
    int rc = (literal ? regex_open_literal : regex_open)(&pre.regex, pattern, where, err);
    return rc ? rc : pre_add(tok, pre, where, err);
}

int pre_add_digits(struct tokenizer *tok, bool individual, const char *where, struct err *err)
{
    return pre_add(tok, (struct pre_tokenizer){ .kind = PRE_DIGITS, .individual = individual }, where, err);
}

int pre_add_byte_level(struct tokenizer *tok, bool add_prefix_space, bool use_regex, const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_BYTE_LEVEL, .add_prefix_space = add_prefix_space };
    int rc = use_regex ? regex_open(&pre.regex, REGEX_GPT2, where, err) : 0;
    return rc ? rc : pre_add(tok, pre, where, err);
}
