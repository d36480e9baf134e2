#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tokens_release(struct tokens *t)
{
    free(t->id);
    free(t->begin);
    free(t->end);
    memset(t, 0, sizeof *t);
}

void tokens_clear(struct tokens *t)
{
    t->n = t->n_dropped = 0;
}

struct tokenizer *tokenizer_new(void)
{
    struct tokenizer *tok = calloc(1, sizeof *tok);
    if (tok)
        tok->bos = tok->eos = -1;
    return tok;
}

void tokenizer_free(struct tokenizer *tok)
{
    if (!tok)
        return;
    for (size_t i = 0; i < tok->n_pre_tokenizers; i++)
        regex_free(tok->pre_tokenizers[i].regex);
    for (size_t i = 0; i < tok->n_normalizers; i++)
        normalizer_release(&tok->normalizers[i]);
    added_release(&tok->raw_added);
    added_release(&tok->normalized_added);
    bpe_release(&tok->bpe);
    unigram_release(&tok->unigram);
    wordpiece_release(&tok->wordpiece);
    vocab_release(&tok->vocab);
    free(tok);
}

int tokenizer_finish(struct tokenizer *tok, const char *pre, struct err *err)
{
    static const char *const names[] = {
        [MODEL_BPE] = "BPE", [MODEL_UNIGRAM] = "Unigram", [MODEL_WORDPIECE] = "WordPiece"
    };
    bool bytes =
        tok->model == MODEL_BPE ? tok->bpe.byte_fallback : tok->model == MODEL_UNIGRAM && tok->unigram.byte_fallback;
    tok->spelling = tok->model == MODEL_WORDPIECE ? SPELT_PLAIN : tok->byte_level ? SPELT_BYTE_LEVEL : SPELT_METASPACE;
    snprintf(tok->description, sizeof tok->description, "%s%s%s, %zu tokens%s%s", tok->byte_level ? "byte-level " : "",
             names[tok->model], bytes && !tok->byte_level ? " with byte fallback" : "", tok->vocab.n_used,
             *pre ? ", pre-tokenizer " : "", pre);
    return vocab_spell(&tok->vocab, tok->spelling, err);
}

static int encode_piece(const struct tokenizer *tok, struct work *w, const struct piece *p, struct err *err)
{
    if (p->id >= 0)
        return tokens_add(w->out, p->id, work_origin(w, p->begin), work_origin_end(w, p->begin, p->end), err);
    switch (tok->model) {
    case MODEL_BPE:
        return bpe_encode(&tok->bpe, &tok->vocab, w, p, err);
    case MODEL_UNIGRAM:
        return unigram_encode(&tok->unigram, &tok->vocab, w, p, err);
    case MODEL_WORDPIECE:
        return wordpiece_encode(&tok->wordpiece, w, p, err);
    }
    return 0;
}

/* The text's own tokens, appended to w->out. */
static int encode_text(const struct tokenizer *tok, struct work *w, size_t len, struct err *err)
{
    int rc = work_start(w, len, err);
    if (rc || (rc = added_split(&tok->raw_added, w, err)) || (rc = normalize(tok, w, err)) ||
        (rc = added_split(&tok->normalized_added, w, err)) || (rc = pre_tokenize(tok, w, err)))
        return rc;
    for (size_t i = 0; !rc && i < w->now.n; i++)
        rc = encode_piece(tok, w, &w->now.item[i], err);
    return rc;
}

static int add_specials(struct tokens *out, const int32_t *ids, size_t n, size_t at, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = tokens_add(out, ids[i], (uint32_t)at, (uint32_t)at, err);
    return rc;
}

static int prepend_bos(const struct tokenizer *tok, struct tokens *out, struct err *err)
{
    if (out->n && out->id[0] == tok->bos)
        return 0;
    int rc = add_specials(out, &tok->bos, 1, 0, err);
    if (rc)
        return rc;
    size_t n = out->n - 1;
    memmove(out->id + 1, out->id, n * sizeof *out->id);
    memmove(out->begin + 1, out->begin, n * sizeof *out->begin);
    memmove(out->end + 1, out->end, n * sizeof *out->end);
    out->id[0] = tok->bos;
    out->begin[0] = out->end[0] = 0;
    return 0;
}

int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len, enum specials specials,
                     struct tokens *out, struct err *err)
{
    struct work w = { .bytes = text, .out = out };
    bool around = specials != SPECIALS_NONE;
    int rc = 0;
    tokens_clear(out);
    if (len > INT32_MAX / 2)
        return err_set(err, ERR_ARG, "a text of %zu bytes is too long to be encoded in one piece", len);
    size_t valid = utf8_valid_prefix(text, len);
    if (valid < len)
        return err_set(err, ERR_FORMAT, "the text is not valid UTF-8 at byte %zu (0x%02x)", valid,
                       (unsigned)(unsigned char)text[valid]);
    if (specials == SPECIALS_BOS && tok->bos < 0)
        return err_set(err, ERR_UNSUPPORTED, "the tokenizer has no BOS token that could be put first");
    if (around)
        rc = add_specials(out, tok->before, tok->n_before, 0, err);
    if (!rc)
        rc = encode_text(tok, &w, len, err);
    work_release(&w);
    if (!rc && around)
        rc = add_specials(out, tok->after, tok->n_after, len, err);
    if (!rc && specials == SPECIALS_BOS)
        rc = prepend_bos(tok, out, err);
    if (rc)
        tokens_clear(out);
    return rc;
}

size_t tokenizer_size(const struct tokenizer *tok)
{
    return tok->vocab.n;
}

static const struct token_text *token_at(const struct tokenizer *tok, int32_t id)
{
    return id >= 0 && (size_t)id < tok->vocab.n ? &tok->vocab.token[id] : NULL;
}

const char *tokenizer_bytes(const struct tokenizer *tok, int32_t id, size_t *len)
{
    const struct token_text *t = token_at(tok, id);
    *len = t ? t->n_bytes : 0;
    return t ? t->bytes : NULL;
}

int32_t tokenizer_find(const struct tokenizer *tok, const char *bytes, size_t len)
{
    uint32_t id;
    if (strmap_get(&tok->vocab.by_content, bytes, len, &id))
        return (int32_t)id;
    return vocab_find_bytes(&tok->vocab, tok->spelling, bytes, len);
}

bool tokenizer_is_special(const struct tokenizer *tok, int32_t id)
{
    const struct token_text *t = token_at(tok, id);
    return t && t->special;
}

int32_t tokenizer_bos(const struct tokenizer *tok)
{
    return tok->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tok)
{
    return tok->eos;
}

void tokenizer_set_bos_eos(struct tokenizer *tok, int32_t bos, int32_t eos)
{
    tok->bos = bos >= 0 ? bos : tok->bos;
    tok->eos = eos >= 0 ? eos : tok->eos;
}

const char *tokenizer_describe(const struct tokenizer *tok)
{
    return tok->description;
}
