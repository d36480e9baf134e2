/* GGUF models "llama" (SentencePiece BPE) and "t5" (SentencePiece Unigram), which have scores instead of merges. */
#include "core/tokenizer/open_gguf.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longer tokens cannot be put together: every way to cut one is looked up. SentencePiece's own limit is 16 characters.
 */
enum { MERGED_LONGEST = 512 };

/* *out, one per token, is the caller's. */
static int read_scores(const struct gguf_opening *o, double **out, struct err *err)
{
    struct gguf_array scores;
    int rc = gguf_get_array(o->g, "tokenizer.ggml.scores", &scores, err);
    if (rc)
        return rc;
    if (scores.n != o->tokens.n)
        return err_set(err, ERR_FORMAT, "%s: has %zu tokens but %zu scores (tokenizer.ggml.scores)", o->where,
                       o->tokens.n, scores.n);
    double *score = mem_array(scores.n, sizeof *score);
    if (!score)
        return err_nomem(err, "the vocabulary");
    for (size_t i = 0; !rc && i < scores.n; i++)
        if (!(rc = gguf_array_number(&scores, i, &score[i], err)) && !isfinite(score[i]))
            rc = err_set(err, ERR_FORMAT, "%s: tokenizer.ggml.scores[%zu] is not a finite number", o->where, i);
    if (rc)
        free(score);
    else
        *out = score;
    return rc;
}

/* A pre-tokenizer would have to be known; SentencePiece has none. */
static int check_pre(const struct gguf_opening *o, struct err *err)
{
    const char *name;
    size_t len;
    int rc = gguf_get_string(o->g, "tokenizer.ggml.pre", &name, &len, err);
    if (rc || !name || (len == 7 && !memcmp(name, "default", 7)))
        return rc;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: the pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known for this model", o->where,
                   (int)(len < 64 ? len : 64), name);
}

/* A token and two that it can be put together from. */
struct way {
    double score;
    uint32_t n_left, n_right; /* characters */
    int32_t left, right, id;
};
struct ways {
    struct way *item;
    size_t n, capacity;
};

static uint32_t count_characters(const char *text, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

static int add_ways(struct ways *ways, const struct gguf_opening *o, int32_t id, double score, struct err *err)
{
    const struct vocab *v = &o->tok->vocab;
    const struct token_text *t = &v->token[id];
    if (t->len > MERGED_LONGEST)
        return err_set(err, ERR_UNSUPPORTED, "%s: token %d has %u bytes, at most %d are supported", o->where, (int)id,
                       (unsigned)t->len, (int)MERGED_LONGEST);
    for (uint32_t cut = 1; cut < t->len; cut++) {
        if (((unsigned char)t->text[cut] & 0xc0) == 0x80)
            continue;
        int32_t left = vocab_find(v, t->text, cut);
        int32_t right = left < 0 ? -1 : vocab_find(v, t->text + cut, t->len - cut);
        if (right < 0)
            continue;
        if (!mem_grow(&ways->item, &ways->capacity, ways->n + 1, sizeof *ways->item))
            return err_nomem(err, "the merges");
        ways->item[ways->n++] = (struct way){ .score = score,
                                              .n_left = count_characters(t->text, cut),
                                              .n_right = count_characters(t->text + cut, t->len - cut),
                                              .left = left,
                                              .right = right,
                                              .id = id };
    }
    return 0;
}

/* The order that transformers gives the merges which it makes of such a model: larger scores and longer parts first. */
static int compare(const void *a, const void *b)
{
    const struct way *x = a, *y = b;
    if (x->score < y->score || x->score > y->score)
        return x->score < y->score ? 1 : -1;
    if (x->n_left != y->n_left)
        return x->n_left < y->n_left ? 1 : -1;
    if (x->n_right != y->n_right)
        return x->n_right < y->n_right ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static int add_merges(struct gguf_opening *o, const double *scores, struct err *err)
{
    struct bpe *bpe = &o->tok->bpe;
    struct ways ways = { 0 };
    int rc = 0;
    for (size_t i = 0; !rc && i < o->tokens.n; i++) {
        enum token_type type;
        rc = gguf_token_type(o, i, &type, err);
        if (!rc && (type == TYPE_NORMAL || type == TYPE_USER_DEFINED) && o->tok->vocab.token[i].text)
            rc = add_ways(&ways, o, (int32_t)i, scores[i], err);
    }
    if (!rc && ways.n > UINT32_MAX)
        rc = err_nomem(err, "the merges");
    if (!rc)
        rc = bpe_init(bpe, &o->tok->vocab, ways.n, false, err);
    if (!rc && ways.n)
        qsort(ways.item, ways.n, sizeof *ways.item, compare);
    for (size_t i = 0; !rc && i < ways.n; i++)
        bpe_put_merge(bpe, ways.item[i].left, ways.item[i].right, (uint32_t)i, ways.item[i].id);
    free(ways.item);
    return rc;
}

static int read_flag(const struct gguf_opening *o, const char *key, bool otherwise, bool *out, struct err *err)
{
    return gguf_get_bool_or(o->g, key, otherwise, out, err);
}

/* replace has its regex, which is taken over. */
static int add_replace(struct gguf_opening *o, struct normalizer *replace, const char *content, struct err *err)
{
    if ((replace->content = mem_strdup(content)))
        return normalizer_add(o->tok, replace, o->where, err);
    normalizer_release(replace);
    return err_nomem(err, "a normalizer");
}

/* What transformers' LlamaConverter says: U+2581 for spaces, and one before every text. */
static int add_spaces(struct gguf_opening *o, struct err *err)
{
    struct normalizer prepend = { .kind = NORMALIZER_PREPEND }, replace = { .kind = NORMALIZER_REPLACE };
    bool prefix, removes;
    int rc = read_flag(o, "tokenizer.ggml.add_space_prefix", true, &prefix, err);
    if (rc || (rc = read_flag(o, "tokenizer.ggml.remove_extra_whitespaces", false, &removes, err)))
        return rc;
    if (removes || gguf_has(o->g, "tokenizer.ggml.precompiled_charsmap"))
        return err_set(err, ERR_UNSUPPORTED, "%s: tokenizer.ggml.%s is not supported for tokenizer.ggml.model llama",
                       o->where, removes ? "remove_extra_whitespaces" : "precompiled_charsmap");
    if (prefix) {
        prepend.content = mem_strdup(METASPACE);
        rc = prepend.content ? normalizer_add(o->tok, &prepend, o->where, err) : err_nomem(err, "a normalizer");
    }
    if (rc || (rc = regex_open_literal(&replace.regex, " ", o->where, err)))
        return rc;
    return add_replace(o, &replace, METASPACE, err);
}

int gguf_open_llama(struct gguf_opening *o, struct err *err)
{
    struct bpe *bpe = &o->tok->bpe;
    double *scores = NULL;
    int32_t unk = -1;
    int rc = check_pre(o, err);
    if (rc || (rc = read_scores(o, &scores, err)))
        return rc;
    rc = add_merges(o, scores, err);
    free(scores);
    if (rc || (rc = gguf_token_id(o, "tokenizer.ggml.unknown_token_id", &unk, err)) || (rc = add_spaces(o, err)))
        return rc;
    bpe->unk = unk;
    bpe->fuse_unk = true;
    bpe->byte_fallback = bpe_n_bytes(bpe) == 256;
    if (!bpe->byte_fallback && (bpe_n_bytes(bpe) > 0 || unk < 0))
        return err_set(err, ERR_UNSUPPORTED, "%s: the tokenizer has tokens for %d of the 256 bytes%s", o->where,
                       bpe_n_bytes(bpe), unk < 0 ? " and no tokenizer.ggml.unknown_token_id" : "");
    return gguf_open_around(o, true, false, err);
}

static int add_charsmap(struct gguf_opening *o, struct err *err)
{
    struct normalizer x = { .kind = NORMALIZER_CHARSMAP };
    struct gguf_array bytes;
    int rc = gguf_get_array(o->g, "tokenizer.ggml.precompiled_charsmap", &bytes, err);
    if (rc || !bytes.n)
        return rc;
    char *data = mem_array(bytes.n, 1);
    if (!data)
        return err_nomem(err, "the precompiled_charsmap");
    for (size_t i = 0; !rc && i < bytes.n; i++) {
        double value;
        if (!(rc = gguf_array_number(&bytes, i, &value, err)) && !(value >= -128 && value <= 255))
            rc = err_set(err, ERR_FORMAT, "%s: tokenizer.ggml.precompiled_charsmap[%zu] is no byte", o->where, i);
        if (!rc)
            data[i] = (char)(unsigned char)(int)value;
    }
    if (!rc)
        rc = charsmap_open(&x.charsmap, data, bytes.n, o->where, err);
    free(data);
    return rc ? rc : normalizer_add(o->tok, &x, o->where, err);
}

/* What transformers' SpmConverter says: none at the end, and one of a run. */
static int remove_spaces(struct gguf_opening *o, struct err *err)
{
    struct normalizer strip = { .kind = NORMALIZER_STRIP, .right = true }, replace = { .kind = NORMALIZER_REPLACE };
    int rc = normalizer_add(o->tok, &strip, o->where, err);
    if (rc || (rc = regex_open(&replace.regex, " {2,}", o->where, err)))
        return rc;
    return add_replace(o, &replace, " ", err);
}

int gguf_open_t5(struct gguf_opening *o, struct err *err)
{
    struct tokenizer *tok = o->tok;
    double *scores = NULL;
    int32_t unk = -1;
    bool prefix, removes, escapes;
    int rc = check_pre(o, err);
    if (rc || (rc = gguf_token_id(o, "tokenizer.ggml.unknown_token_id", &unk, err)) ||
        (rc = read_flag(o, "tokenizer.ggml.add_space_prefix", false, &prefix, err)) ||
        (rc = read_flag(o, "tokenizer.ggml.remove_extra_whitespaces", false, &removes, err)) ||
        (rc = read_flag(o, "tokenizer.ggml.escape_whitespaces", true, &escapes, err)))
        return rc;
    if (!escapes)
        return err_set(err, ERR_UNSUPPORTED, "%s: tokenizer.ggml.escape_whitespaces false is not supported", o->where);
    if ((rc = add_charsmap(o, err)) || (removes && (rc = remove_spaces(o, err))) || (rc = read_scores(o, &scores, err)))
        return rc;
    tok->model = MODEL_UNIGRAM;
    struct pre_tokenizer pre = { .kind = PRE_METASPACE,
                                 .split = true,
                                 .prepend = prefix ? PREPEND_ALWAYS : PREPEND_NEVER };
    if ((rc = unigram_init(&tok->unigram, &tok->vocab, scores, unk, err)) || (rc = pre_add(tok, pre, o->where, err)))
        return rc;
    return gguf_open_around(o, false, true, err);
}
