/* Token positions as users choose them: last, subject, 0,3-5. */
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
#define X(id, text) text,
    POSITION_KINDS(X)
#undef X
};

static int shown(size_t len)
{
    return len < 60 ? (int)len : 60;
}

static int not_a_position(const char *text, size_t len, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    for (size_t kind = 0; kind < POSITIONS_NUMBERS; kind++) {
        const char *after = text + strlen(names[kind]);
        if (len > strlen(names[kind]) && !memcmp(text, names[kind], strlen(names[kind])) && *after == ',')
            return err_set(err, ERR_ARG, "position '%.*s': %s cannot be combined with others", shown(len), text,
                           names[kind]);
    }
    if (len > 1 && text[0] == '-' && text[1] >= '0' && text[1] <= '9')
        return err_set(err, ERR_ARG, "position '%.*s': positions count from 0: the last token is `last`", shown(len),
                       text);
    suggest_init(&s, text, len);
    for (size_t kind = 0; kind < POSITIONS_NUMBERS; kind++)
        suggest_consider(&s, names[kind]);
    suggest_text(&s, "", hint);
    return err_set(err, ERR_NOTFOUND, "position '%.*s' is unknown%s", shown(len), text,
                   *hint ? hint : ": write all, last, subject, subject-first, subject-last, non-subject or numbers");
}

int positions_parse(const char *text, size_t len, struct positions *out, struct err *err)
{
    *out = (struct positions){ .kind = POSITIONS_NUMBERS };
    for (size_t kind = 0; kind < POSITIONS_NUMBERS; kind++) {
        if (len == strlen(names[kind]) && !memcmp(text, names[kind], len)) {
            out->kind = (enum position_kind_selector)kind;
            return 0;
        }
    }
    if (!len || text[0] < '0' || text[0] > '9')
        return not_a_position(text, len, err);
    int rc = ranges_parse(text, len, &out->ranges, &out->n_ranges, err);
    if (rc)
        err_prefix(err, "position '%.*s': ", shown(len), text);
    return rc;
}

void positions_release(struct positions *p)
{
    free(p->ranges);
    *p = (struct positions){ POSITIONS_ALL, NULL, 0 };
}

static void mark(unsigned char *mask, size_t first, size_t end)
{
    if (first < end)
        memset(mask + first, 1, end - first);
}

static int resolve_numbers(const struct positions *p, size_t n_tokens, unsigned char *mask, struct err *err)
{
    for (size_t i = 0; i < p->n_ranges; i++) {
        if (p->ranges[i].last >= n_tokens)
            return err_set(err, ERR_ARG, "there is no position %zu: the prompt has %zu tokens", p->ranges[i].last,
                           n_tokens);
        mark(mask, p->ranges[i].first, p->ranges[i].last + 1);
    }
    return 0;
}

int positions_resolve(const struct positions *p, const struct prompt *prompt, unsigned char *mask, size_t *n_chosen,
                      struct err *err)
{
    size_t n_tokens = prompt->n_tokens, subject_begin = prompt->subject_begin, subject_end = prompt->subject_end;
    bool of_subject = p->kind != POSITIONS_ALL && p->kind != POSITIONS_LAST && p->kind != POSITIONS_NUMBERS;
    if (of_subject && (subject_begin >= subject_end || subject_end > n_tokens))
        return err_set(err, ERR_ARG, "position '%s': the prompt has no subject: give one", names[p->kind]);
    if (!n_tokens)
        return err_set(err, ERR_ARG, "the prompt has no tokens");
    memset(mask, 0, n_tokens);
    int rc = 0;
    switch (p->kind) {
    case POSITIONS_ALL:
        mark(mask, 0, n_tokens);
        break;
    case POSITIONS_LAST:
        mark(mask, prompt_read_at(prompt), prompt_read_at(prompt) + 1);
        break;
    case POSITIONS_SUBJECT:
        mark(mask, subject_begin, subject_end);
        break;
    case POSITIONS_SUBJECT_FIRST:
        mark(mask, subject_begin, subject_begin + 1);
        break;
    case POSITIONS_SUBJECT_LAST:
        mark(mask, subject_end - 1, subject_end);
        break;
    case POSITIONS_NON_SUBJECT:
        if (subject_end - subject_begin == n_tokens)
            return err_set(err, ERR_ARG, "position 'non-subject': the subject is the whole prompt");
        mark(mask, 0, subject_begin);
        mark(mask, subject_end, n_tokens);
        break;
    case POSITIONS_NUMBERS:
        rc = resolve_numbers(p, n_tokens, mask, err);
        break;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_tokens; i++)
        n += mask[i];
    if (n_chosen)
        *n_chosen = n;
    return rc;
}
