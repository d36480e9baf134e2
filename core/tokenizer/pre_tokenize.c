/* Pre-tokenizers: each cuts the text pieces further. ByteLevel may put a space before a piece that has none. */
#include "core/tokenizer/internal.h"

#include "core/base/utf8.h"

#include <string.h>

/* Cuts a piece at every match, which becomes a piece of its own (behavior Isolated). */
static int cut_by_regex(const struct regex *re, struct work *w, const struct piece *p, struct err *err)
{
    struct regex_at at = { 0, 0, false };
    size_t done = p->begin, begin, end;
    int got;
    while ((got = regex_next(re, w->match, w->bytes + p->begin, p->end - p->begin, &at, &begin, &end, err)) > 0) {
        int rc = work_add(w, done, p->begin + begin, -1, err);
        if (rc || (rc = work_add(w, p->begin + begin, p->begin + end, -1, err)))
            return rc;
        done = p->begin + end;
    }
    return got < 0 ? got : work_add(w, done, p->end, -1, err);
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

static int cut(const struct pre_tokenizer *pre, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        if (p->id >= 0)
            rc = work_add(w, p->begin, p->end, p->id, err);
        else
            rc = pre->kind == PRE_DIGITS ? cut_digits(pre->individual, w, p, err) : cut_by_regex(pre->regex, w, p, err);
    }
    work_swap(w);
    return rc;
}

int pre_tokenize(const struct tokenizer *tok, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->n_pre_tokenizers; i++) {
        const struct pre_tokenizer *pre = &tok->pre_tokenizers[i];
        if (pre->add_prefix_space)
            rc = prefix_spaces(w, err);
        if (!rc && (pre->kind == PRE_DIGITS || pre->regex))
            rc = cut(pre, w, err);
    }
    return rc;
}

static int add(struct tokenizer *tok, struct pre_tokenizer pre, const char *where, struct err *err)
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
    return rc ? rc : add(tok, pre, where, err);
}

int pre_add_digits(struct tokenizer *tok, bool individual, const char *where, struct err *err)
{
    return add(tok, (struct pre_tokenizer){ .kind = PRE_DIGITS, .individual = individual }, where, err);
}

int pre_add_byte_level(struct tokenizer *tok, bool add_prefix_space, bool use_regex, const char *where, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_BYTE_LEVEL, .add_prefix_space = add_prefix_space };
    int rc = use_regex ? regex_open(&pre.regex, REGEX_GPT2, where, err) : 0;
    return rc ? rc : add(tok, pre, where, err);
}
