/* Pre-tokenizers: each cuts the text pieces further. ByteLevel may put a space before a piece that has none. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <string.h>

/* Cutting one piece: the stretches that match and those between come in turn; the last one waits, as the next may join.
 */
struct cutter {
    const struct pre_tokenizer *pre;
    struct work *w;
    const char *text; /* the piece, or its letters */
    size_t n;
    size_t begin, end;
    bool matched;
    size_t at, byte; /* a place in the text, and of the buffer's byte there */
};

/* Behind ByteLevel a pre-tokenizer sees letters. */
static int spell(struct cutter *c, const struct piece *p, struct err *err)
{
    struct work *w = c->w;
    c->n = p->end - p->begin;
    if (!c->pre->sees_letters) {
        c->text = w->bytes + p->begin;
        return 0;
    }
    if (!mem_grow(&w->letters, &w->letters_capacity, 4 * c->n, 1))
        return err_nomem(err, "a text's pieces");
    c->n = 0;
    for (size_t at = p->begin; at < p->end; at++)
        c->n += byte_letter((unsigned char)w->bytes[at], w->letters + c->n);
    c->text = w->letters;
    return 0;
}

/* The buffer's byte at a place of the text; places rise from call to call. */
static size_t byte_at(struct cutter *c, size_t at)
{
    if (!c->pre->sees_letters)
        c->byte += at - c->at;
    for (size_t i = c->at; c->pre->sees_letters && i < at; i++)
        c->byte += ((unsigned char)c->text[i] & 0xc0) != 0x80;
    c->at = at;
    return c->byte;
}

static int flush(struct cutter *c, struct err *err)
{
    if (c->begin == c->end || (c->matched && c->pre->behavior == SPLIT_REMOVED))
        return 0;
    size_t begin = byte_at(c, c->begin);
    return work_add(c->w, begin, byte_at(c, c->end), -1, err);
}

static bool joins(const struct cutter *c, bool matched)
{
    switch (c->pre->behavior) {
    case SPLIT_CONTIGUOUS:
        return matched == c->matched;
    case SPLIT_MERGED_WITH_PREVIOUS:
        return matched && !c->matched;
    case SPLIT_MERGED_WITH_NEXT:
        return !matched && c->matched;
    case SPLIT_REMOVED:
    case SPLIT_ISOLATED:
        break;
    }
    return false;
}

/* The text up to end is one stretch more. */
static int found(struct cutter *c, size_t end, bool matched, struct err *err)
{
    int rc = 0;
    matched ^= c->pre->invert;
    if (c->end && !joins(c, matched)) {
        rc = flush(c, err);
        c->begin = c->end;
    }
    c->end = end;
    c->matched = matched;
    return rc;
}

static int cut_by_regex(struct cutter *c, struct err *err)
{
    struct regex_at at = { 0, 0, false };
    size_t begin, end;
    int got;
    while ((got = regex_next(c->pre->regex, c->w->regex_room, c->text, c->n, &at, &begin, &end, err)) > 0) {
        int rc = begin > c->end ? found(c, begin, false, err) : 0;
        if (rc || (rc = found(c, end, true, err)))
            return rc;
    }
    return got;
}

static int cut_by_class(struct cutter *c, struct err *err)
{
    int rc = 0;
    for (size_t at = 0, k; !rc && at < c->n; at += k) {
        uint32_t cp = 0;
        k = utf8_decode(c->text + at, c->n - at, &cp);
        if (!c->pre->is_delimiter(cp))
            continue;
        rc = at > c->end ? found(c, at, false, err) : 0;
        if (!rc)
            rc = found(c, at + k, true, err);
    }
    return rc;
}

static int cut_by_behavior(const struct pre_tokenizer *pre, struct work *w, const struct piece *p, struct err *err)
{
    struct cutter c = { .pre = pre, .w = w, .byte = p->begin };
    int rc = spell(&c, p, err);
    if (rc || (rc = pre->regex ? cut_by_regex(&c, err) : cut_by_class(&c, err)))
        return rc;
    rc = c.n > c.end ? found(&c, c.n, false, err) : 0;
    return rc ? rc : flush(&c, err);
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

static int cut(const struct pre_tokenizer *pre, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        if (p->id >= 0)
            rc = work_add(w, p->begin, p->end, p->id, err);
        else
            rc = pre->kind == PRE_METASPACE ? cut_metaspace(w, p, err) : cut_by_behavior(pre, w, p, err);
    }
    work_swap(w);
    return rc;
}

/* Whether the pre-tokenizer cuts at all. */
static bool cuts(const struct pre_tokenizer *pre)
{
    return pre->kind == PRE_METASPACE ? pre->split : pre->regex || pre->is_delimiter;
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
    const char *problem = NULL;
    if (tok->n_pre_tokenizers == PRE_TOKENIZERS_MOST)
        problem = "has too many pre-tokenizers";
    else if (tok->byte_level && (pre.kind == PRE_BYTE_LEVEL || pre.kind == PRE_METASPACE))
        problem = "a pre-tokenizer ByteLevel or Metaspace after ByteLevel is not supported";
    if (problem) {
        regex_free(pre.regex);
        return err_set(err, ERR_UNSUPPORTED, "%s: %s", where, problem);
    }
    pre.sees_letters = tok->byte_level;
    tok->byte_level |= pre.kind == PRE_BYTE_LEVEL;
    tok->pre_tokenizers[tok->n_pre_tokenizers++] = pre;
    return 0;
}

int pre_add_split(struct tokenizer *tok, const char *pattern, bool literal, enum split_behavior behavior, bool invert,
                  const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_SPLIT, .behavior = behavior, .invert = invert };
    int rc = (literal ? regex_open_literal : regex_open)(&pre.regex, pattern, where, err);
    return rc ? rc : pre_add(tok, pre, where, err);
}

int pre_add_class(struct tokenizer *tok, bool (*is_delimiter)(uint32_t cp), enum split_behavior behavior,
                  const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_SPLIT, .is_delimiter = is_delimiter, .behavior = behavior };
    return pre_add(tok, pre, where, err);
}

int pre_add_bert(struct tokenizer *tok, const char *where, struct err *err)
{
    int rc = pre_add_class(tok, char_is_space, SPLIT_REMOVED, where, err);
    return rc ? rc : pre_add_class(tok, char_is_punctuation, SPLIT_ISOLATED, where, err);
}

int pre_add_byte_level(struct tokenizer *tok, bool add_prefix_space, bool use_regex, const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_BYTE_LEVEL, .add_prefix_space = add_prefix_space };
    int rc = use_regex ? regex_open(&pre.regex, REGEX_GPT2, where, err) : 0;
    return rc ? rc : pre_add(tok, pre, where, err);
}
