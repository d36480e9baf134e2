/* Normalizers. Each rewrites the text pieces into the next buffer and keeps the place in the input of every byte. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* One piece on its way into the next buffer. */
struct normalizing {
    const struct normalizer *normalizer;
    const struct work *w;
    const struct piece *piece;
    struct buffer *out;
    struct rewriting *rewriting; /* comes empty */
};

static int lowercase(const char *text, size_t n, struct rewriting *out, struct err *err)
{
    int rc = 0;
    for (size_t at = 0; !rc && at < n;) {
        uint32_t cp = 0;
        at += utf8_decode(text + at, n - at, &cp);
        rc = rewriting_add(out, char_lower(cp), 0, err);
        if (!rc && cp == 0x130)
            rc = rewriting_add(out, 0x307, 1, err);
    }
    return rc;
}

static int rewrite_piece(struct normalizing *x, struct err *err)
{
    const char *text = x->w->bytes + x->piece->begin;
    size_t n = x->piece->end - x->piece->begin;
    int rc = 0;
    switch (x->normalizer->kind) {
    case NORMALIZER_LOWERCASE:
        rc = lowercase(text, n, x->rewriting, err);
        break;
    case NORMALIZER_CHARSMAP:
        rc = charsmap_normalize(x->normalizer->charsmap, text, n, x->rewriting, err);
        break;
    default:
        rc = unicode_normalize((enum unicode_form)x->normalizer->kind, text, n, x->rewriting, err);
    }
    return rc ? rc : buffer_rewrite(x->out, x->w, x->piece->begin, x->piece->end, x->rewriting, err);
}

/* What a character becomes; UINT32_MAX: nothing. */
static uint32_t strip_accent(uint32_t cp)
{
    return char_is_old_mark(cp) ? UINT32_MAX : cp;
}

static uint32_t bert_accent(uint32_t cp)
{
    return char_is_nonspacing(cp) ? UINT32_MAX : cp;
}

static uint32_t bert_clean(uint32_t cp)
{
    if (cp == '\t' || cp == '\n' || cp == '\r')
        return ' ';
    if (cp == 0xfffd || char_is_control(cp))
        return UINT32_MAX;
    return char_is_space(cp) ? ' ' : cp;
}

static uint32_t nmt(uint32_t cp)
{
    if ((cp >= 1 && cp <= 8) || cp == 0xb || (cp >= 0xe && cp <= 0x1f) || cp == 0x7f || cp == 0x8f || cp == 0x9f)
        return UINT32_MAX;
    if (cp == '\t' || cp == '\n' || cp == '\f' || cp == '\r' || cp == 0x1680 || (cp >= 0x200b && cp <= 0x200f) ||
        cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xfeff || cp == 0xfffd)
        return ' ';
    return cp;
}

static int map_piece(struct normalizing *x, struct err *err)
{
    static uint32_t (*const maps[])(uint32_t) = { [NORMALIZER_STRIP_ACCENTS] = strip_accent,
                                                  [NORMALIZER_NMT] = nmt,
                                                  [NORMALIZER_BERT_CLEAN] = bert_clean,
                                                  [NORMALIZER_BERT_ACCENTS] = bert_accent };
    uint32_t (*map)(uint32_t) = maps[x->normalizer->kind];
    const struct work *w = x->w;
    int rc = 0;
    for (size_t at = x->piece->begin, next; !rc && at < x->piece->end; at = next) {
        uint32_t cp = 0;
        next = at + utf8_decode(w->bytes + at, x->piece->end - at, &cp);
        uint32_t mapped = map(cp);
        char bytes[4];
        if (mapped == cp)
            rc = buffer_copy(x->out, w, at, next, err);
        else if (mapped != UINT32_MAX)
            rc = buffer_add_whole(x->out, bytes, utf8_encode(mapped, bytes), work_origin(w, at),
                                  work_origin_end(w, at, next), err);
    }
    return rc;
}

/* All three characters stand for the one. */
static int space_chinese(struct normalizing *x, struct err *err)
{
    const struct work *w = x->w;
    int rc = 0;
    for (size_t at = x->piece->begin, next; !rc && at < x->piece->end; at = next) {
        uint32_t cp = 0, origin = work_origin(w, at);
        next = at + utf8_decode(w->bytes + at, x->piece->end - at, &cp);
        uint32_t end = work_origin_end(w, at, next);
        bool chinese = char_is_chinese(cp);
        if (chinese)
            rc = buffer_add_whole(x->out, " ", 1, origin, end, err);
        if (!rc)
            rc = buffer_copy(x->out, w, at, next, err);
        if (!rc && chinese)
            rc = buffer_add_whole(x->out, " ", 1, origin, end, err);
    }
    return rc;
}

static size_t character_before(const char *bytes, size_t begin, size_t at)
{
    while (at > begin && ((unsigned char)bytes[--at] & 0xc0) == 0x80)
        ;
    return at;
}

static int strip_piece(struct normalizing *x, struct err *err)
{
    const char *bytes = x->w->bytes;
    size_t begin = x->piece->begin, end = x->piece->end;
    uint32_t cp;
    for (size_t n; x->normalizer->left && (n = utf8_decode(bytes + begin, end - begin, &cp)) && char_is_space(cp);)
        begin += n;
    for (size_t last; x->normalizer->right && end > begin; end = last) {
        last = character_before(bytes, begin, end);
        if (!utf8_decode(bytes + last, end - last, &cp) || !char_is_space(cp))
            break;
    }
    return buffer_copy(x->out, x->w, begin, end, err);
}

/* What is put before a text stands for none of it. */
static int prepend_piece(struct normalizing *x, struct err *err)
{
    uint32_t origin = work_origin(x->w, x->piece->begin);
    int rc = buffer_add(x->out, x->normalizer->content, strlen(x->normalizer->content), origin, origin, err);
    return rc ? rc : buffer_copy(x->out, x->w, x->piece->begin, x->piece->end, err);
}

/* As in `tokenizers`, all that replaces a match stands for the last character of it. */
static int replace_piece(struct normalizing *x, struct err *err)
{
    const struct work *w = x->w;
    const char *content = x->normalizer->content;
    size_t n = strlen(content), at_begin = x->piece->begin, done = at_begin, begin, end;
    struct regex_at at = { 0, 0, false };
    int got;
    while ((got = regex_next(x->normalizer->regex, w->regex_room, w->bytes + at_begin, x->piece->end - at_begin, &at,
                             &begin, &end, err)) > 0) {
        size_t stop = at_begin + end, last = character_before(w->bytes, at_begin, stop);
        int rc = buffer_copy(x->out, w, done, at_begin + begin, err);
        if (rc ||
            (rc = buffer_add_whole(x->out, content, n, work_origin(w, last), work_origin_end(w, last, stop), err)))
            return rc;
        done = stop;
    }
    return got ? got : buffer_copy(x->out, w, done, x->piece->end, err);
}

static const struct {
    int (*piece)(struct normalizing *x, struct err *err);
    bool leaves_ascii; /* as it is */
} table[] = {
    [NORMALIZER_NFC] = { rewrite_piece, true },          [NORMALIZER_NFD] = { rewrite_piece, true },
    [NORMALIZER_NFKC] = { rewrite_piece, true },         [NORMALIZER_NFKD] = { rewrite_piece, true },
    [NORMALIZER_LOWERCASE] = { rewrite_piece, false },   [NORMALIZER_CHARSMAP] = { rewrite_piece, false },
    [NORMALIZER_STRIP_ACCENTS] = { map_piece, true },    [NORMALIZER_NMT] = { map_piece, false },
    [NORMALIZER_BERT_CLEAN] = { map_piece, false },      [NORMALIZER_BERT_ACCENTS] = { map_piece, true },
    [NORMALIZER_BERT_CHINESE] = { space_chinese, true }, [NORMALIZER_STRIP] = { strip_piece, false },
    [NORMALIZER_PREPEND] = { prepend_piece, false },     [NORMALIZER_REPLACE] = { replace_piece, false },
};

static bool is_ascii(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)text[i] < 0x80)
        i++;
    return i == n;
}

static bool all_ascii(const struct work *w)
{
    for (size_t i = 0; i < w->now.n; i++) {
        const struct piece *p = &w->now.item[i];
        if (p->id < 0 && !is_ascii(w->bytes + p->begin, p->end - p->begin))
            return false;
    }
    return true;
}

static int apply(const struct normalizer *normalizer, struct work *w, struct err *err)
{
    struct rewriting r = { 0 };
    struct normalizing x = { .normalizer = normalizer, .w = w, .out = buffer_start(w), .rewriting = &r };
    int rc = 0;
    if (table[normalizer->kind].leaves_ascii && all_ascii(w))
        return 0;
    for (size_t i = 0; !rc && i < w->now.n; i++) {
        const struct piece *p = x.piece = &w->now.item[i];
        size_t begin = x.out->n;
        r.n = 0;
        rc = p->id < 0 ? table[normalizer->kind].piece(&x, err) : buffer_copy(x.out, w, p->begin, p->end, err);
        if (!rc)
            rc = buffer_close_piece(x.out, w, begin, work_origin_end(w, p->begin, p->end), p->id, err);
    }
    free(r.item);
    if (!rc)
        buffer_use(w);
    return rc;
}

int normalize(const struct tokenizer *tok, struct work *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < tok->n_normalizers; i++)
        rc = apply(&tok->normalizers[i], w, err);
    return rc;
}

void normalizer_release(struct normalizer *normalizer)
{
    regex_free(normalizer->regex);
    free(normalizer->content);
    charsmap_free(normalizer->charsmap);
}

int normalizer_add(struct tokenizer *tok, const struct normalizer *normalizer, const char *where, struct err *err)
{
    if (tok->n_normalizers == NORMALIZERS_MOST) {
        struct normalizer refused = *normalizer;
        normalizer_release(&refused);
        return err_set(err, ERR_UNSUPPORTED, "%s: has too many normalizers", where);
    }
    tok->normalizers[tok->n_normalizers++] = *normalizer;
    return 0;
}

int normalizer_add_bert(struct tokenizer *tok, bool clean, bool chinese, bool accents, bool lowercase,
                        const char *where, struct err *err)
{
    const struct {
        bool wanted;
        enum normalizer_kind kind;
    } steps[] = { { clean, NORMALIZER_BERT_CLEAN },
                  { chinese, NORMALIZER_BERT_CHINESE },
                  { accents, NORMALIZER_NFD },
                  { accents, NORMALIZER_BERT_ACCENTS },
                  { lowercase, NORMALIZER_LOWERCASE } };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof steps / sizeof *steps; i++)
        if (steps[i].wanted)
            rc = normalizer_add(tok, &(struct normalizer){ .kind = steps[i].kind }, where, err);
    return rc;
}
