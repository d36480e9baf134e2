/*
 * Added tokens are cut out of the text before anything else, leftmost-longest: at each place the sorted contents are
 * narrowed byte by byte, which touches nothing where no content starts with that byte.
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

static int mark(struct tokenizer *tok, const struct added_token *token, const char *where, struct err *err)
{
    struct vocab *v = &tok->vocab;
    int32_t in_model = vocab_find(v, token->content, token->len);
    int rc = vocab_reserve(v, token->id, err);
    if (rc)
        return rc;
    struct token_text *t = &v->token[token->id];
    if (in_model >= 0 && in_model != token->id)
        return err_set(err, ERR_FORMAT, "%s: added token '%s' has id %d, but the vocabulary gives it %d", where,
                       token->content, (int)token->id, (int)in_model);
    if (t->added || (t->text && in_model < 0))
        return err_set(err, ERR_FORMAT, "%s: added token '%s' has the id %d of another token", where, token->content,
                       (int)token->id);
    uint32_t first;
    if (strmap_put(&v->by_content, token->content, token->len, (uint32_t)token->id, &first))
        return err_nomem(err, "added tokens");
    if (first != (uint32_t)token->id)
        return err_set(err, ERR_FORMAT, "%s: added token '%s' is given twice", where, token->content);
    v->n_used += !t->text;
    *t = (struct token_text){ token->content, token->content, token->len, token->len, true, token->special };
    return 0;
}

int added_put(struct tokenizer *tok, struct added_token *token, const char *where, struct err *err)
{
    struct added_set *set = token->normalized ? &tok->normalized_added : &tok->raw_added;
    if (!mem_grow(&set->token, &set->capacity, set->n + 1, sizeof *set->token)) {
        free(token->content);
        return err_nomem(err, "added tokens");
    }
    set->token[set->n++] = *token; /* the set owns the content from here on */
    if (!utf8_valid(token->content, token->len))
        return err_set(err, ERR_FORMAT, "%s: added token %d is not valid UTF-8", where, (int)token->id);
    if (!token->len || token->len > ADDED_LONGEST)
        return err_set(err, ERR_FORMAT, "%s: added token %d has %u bytes, from 1 to %d are accepted", where,
                       (int)token->id, (unsigned)token->len, (int)ADDED_LONGEST);
    return mark(tok, token, where, err);
}

static int compare(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    int order = memcmp(x->pattern, y->pattern, x->pattern_len < y->pattern_len ? x->pattern_len : y->pattern_len);
    return order ? order : (x->pattern_len > y->pattern_len) - (x->pattern_len < y->pattern_len);
}

static int sort(struct added_set *set, const char *where, struct err *err)
{
    if (set->n)
        qsort(set->token, set->n, sizeof *set->token, compare);
    for (size_t i = 0; i + 1 < set->n; i++)
        if (!compare(&set->token[i], &set->token[i + 1]))
            return err_set(err, ERR_FORMAT, "%s: added tokens '%s' and '%s' are the same when normalized", where,
                           set->token[i].content, set->token[i + 1].content);
    for (size_t i = 0, byte = 0; byte <= 256; byte++) {
        while (i < set->n && (unsigned char)set->token[i].pattern[0] < byte)
            i++;
        set->first[byte] = (uint32_t)i;
    }
    return 0;
}

/* Normalized tokens are looked for in their normalized form. */
static int normalize_patterns(struct tokenizer *tok, const char *where, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->normalized_added.n; i++) {
        struct added_token *t = &tok->normalized_added.token[i];
        struct work w = { .bytes = t->content };
        if (!(rc = work_start(&w, t->len, err)))
            rc = normalize(tok, &w, err);
        if (!rc && (!w.now.n || w.now.item[0].end - w.now.item[0].begin > ADDED_LONGEST))
            rc = err_set(err, ERR_UNSUPPORTED, "%s: the added token '%s' is %s when it is normalized", where,
                         t->content, w.now.n ? "too long" : "nothing");
        if (!rc && w.bytes != t->content) {
            t->pattern_len = w.now.item[0].end - w.now.item[0].begin;
            t->own_pattern = mem_strndup(w.bytes + w.now.item[0].begin, t->pattern_len);
            t->pattern = t->own_pattern;
            rc = t->pattern ? 0 : err_nomem(err, "added tokens");
        }
        work_release(&w);
    }
    return rc;
}

int added_finish(struct tokenizer *tok, const char *where, struct err *err)
{
    struct added_set *sets[2] = { &tok->raw_added, &tok->normalized_added };
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sets[k]->n; i++) {
            sets[k]->token[i].pattern = sets[k]->token[i].content;
            sets[k]->token[i].pattern_len = sets[k]->token[i].len;
        }
    int rc = normalize_patterns(tok, where, err);
    if (rc || (rc = sort(sets[0], where, err)))
        return rc;
    return sort(sets[1], where, err);
}

void added_release(struct added_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        free(set->token[i].content);
        free(set->token[i].own_pattern);
    }
    free(set->token);
}

/* The longest token that the text starts with, or NULL. */
static const struct added_token *longest(const struct added_set *set, const char *text, size_t n)
{
    size_t low = set->first[(unsigned char)text[0]], high = set->first[(unsigned char)text[0] + 1];
    const struct added_token *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        /* Those left agree with the text's first `depth` bytes; one of just that length sorts first. */
        if (set->token[low].pattern_len == depth)
            best = &set->token[low++];
        if (depth == n)
            break;
        unsigned char wanted = (unsigned char)text[depth];
        for (size_t end = high; low < end;) {
            size_t middle = low + (end - low) / 2;
            if ((unsigned char)set->token[middle].pattern[depth] < wanted)
                low = middle + 1;
            else
                end = middle;
        }
        for (size_t begin = low; begin < high;) {
            size_t middle = begin + (high - begin) / 2;
            if ((unsigned char)set->token[middle].pattern[depth] > wanted)
                high = middle;
            else
                begin = middle + 1;
        }
    }
    return best;
}

static bool word_before(const char *text, size_t at)
{
    size_t begin = at;
    uint32_t cp;
    while (begin && ((unsigned char)text[--begin] & 0xc0) == 0x80)
        ;
    return utf8_decode(text + begin, at - begin, &cp) && char_is_word(cp);
}

static bool word_after(const char *text, size_t n, size_t at)
{
    uint32_t cp;
    return utf8_decode(text + at, n - at, &cp) && char_is_word(cp);
}

static size_t spaces_before(const char *text, size_t at, size_t least)
{
    while (at > least) {
        size_t begin = at;
        uint32_t cp;
        while (begin && ((unsigned char)text[--begin] & 0xc0) == 0x80)
            ;
        if (!utf8_decode(text + begin, at - begin, &cp) || !char_is_space(cp))
            break;
        at = begin;
    }
    return at;
}

static size_t spaces_after(const char *text, size_t n, size_t at)
{
    uint32_t cp;
    for (size_t k; (k = utf8_decode(text + at, n - at, &cp)) && char_is_space(cp);)
        at += k;
    return at;
}

/*
 * Every place of one piece. As in `tokenizers`: a match that single_word refuses is used up all the same, and spaces
 * that rstrip swallowed can still be a token.
 */
static int split_piece(const struct added_set *set, struct work *w, const struct piece *piece, struct err *err)
{
    const char *text = w->bytes + piece->begin;
    size_t n = piece->end - piece->begin, done = 0, next;
    size_t run_begin = 1, run_end = 0; /* the spaces last looked at, so that each is looked at once */
    int rc = 0;
    for (size_t at = 0; !rc && at < n; at = next) {
        const struct added_token *t = longest(set, text + at, n - at);
        next = at + (t ? t->pattern_len : 1);
        if (!t || (t->single_word && (word_before(text, at) || word_after(text, n, next))))
            continue;
        size_t begin = at, end = next;
        if (t->rstrip && (next < run_begin || next > run_end))
            run_begin = next, run_end = spaces_after(text, n, next);
        if (t->rstrip)
            end = run_end;
        if (t->lstrip)
            begin = at < done ? done : spaces_before(text, at, done);
        if (done < begin)
            rc = work_add(w, piece->begin + done, piece->begin + begin, -1, err);
        if (!rc)
            rc = work_add(w, piece->begin + (begin < end ? begin : end), piece->begin + end, t->id, err);
        done = end;
    }
    return rc ? rc : work_add(w, piece->begin + done, piece->end, -1, err);
}

int added_split(const struct added_set *set, struct work *w, struct err *err)
{
    int rc = 0;
    if (!set->n)
        return 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        rc = p->id < 0 ? split_piece(set, w, p, err) : work_add(w, p->begin, p->end, p->id, err);
    }
    work_swap(w);
    return rc;
}
