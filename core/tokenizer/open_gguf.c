/* Tokenizers from GGUF metadata: the pre-tokenizer is only named there, the table below says what the names mean. */
#include "core/tokenizer/open_gguf.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"

#include <stdlib.h>
#include <string.h>

/* What is cut before ByteLevel does, where it is not that alone; FALCON: before and behind it. */
enum pre_shape { PLAIN, DIGITS, SPLIT, FALCON };

struct pre_row {
    const char *name;
    enum pre_shape shape;
    const char *split; /* SPLIT */
    bool nfc, ignore_merges, add_bos, add_eos, mask_strips;
};

#define CAPITALS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define WORDS(ending)                                                                                                  \
    "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALL "*" ending
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REGEX_TEKKEN WORDS("") "|\\p{N}" REST
#define REGEX_GPT4O WORDS("(?i:'s|'t|'re|'ve|'m|'ll|'d)?") "|\\p{N}{1,3}" REST
#define REGEX_BLOOM " ?[^(\\s|[.,!?…。，、।۔،])]+"

/*
 * What the tokenizer.json of the models has that llama.cpp's converter gives these names: NFC comes with GPT-NeoX's
 * tokenizer (olmo, mpt, modern-bert), Cohere's and Qwen2's, though llama.cpp itself does not normalize.
 */
static const struct pre_row pre_rows[] = {
    { .name = "gpt-2" },
    { .name = "phi-2" },
    { .name = "olmo", .nfc = true },
    { .name = "mpt", .nfc = true },
    { .name = "roberta-bpe", .add_bos = true, .add_eos = true, .mask_strips = true },
    { .name = "modern-bert", .nfc = true, .add_bos = true, .add_eos = true, .mask_strips = true },
    { .name = "smollm", .shape = DIGITS },
    { .name = "starcoder", .shape = DIGITS },
    { .name = "refact", .shape = DIGITS },
    { .name = "command-r", .shape = DIGITS, .nfc = true },
    { .name = "falcon", .shape = FALCON },
    { .name = "bloom", .shape = SPLIT, .split = REGEX_BLOOM },
    { .name = "llama-bpe", .shape = SPLIT, .split = REGEX_LLAMA3, .ignore_merges = true, .add_bos = true },
    { .name = "llama3", .shape = SPLIT, .split = REGEX_LLAMA3, .ignore_merges = true, .add_bos = true },
    { .name = "llama-v3", .shape = SPLIT, .split = REGEX_LLAMA3, .ignore_merges = true, .add_bos = true },
    { .name = "smaug-bpe", .shape = SPLIT, .split = REGEX_LLAMA3, .ignore_merges = true },
    { .name = "dbrx", .shape = SPLIT, .split = REGEX_LLAMA3 },
    { .name = "tekken", .shape = SPLIT, .split = REGEX_TEKKEN, .ignore_merges = true, .add_bos = true },
    { .name = "gpt-4o", .shape = SPLIT, .split = REGEX_GPT4O },
    { .name = "qwen2", .shape = SPLIT, .split = REGEX_QWEN2, .nfc = true },
    { .name = "stablelm2", .shape = SPLIT, .split = REGEX_QWEN2, .nfc = true },
    { .name = "deepseek-r1-qwen", .shape = SPLIT, .split = REGEX_QWEN2, .nfc = true },
};

static int find_pre(const struct gguf *g, const struct pre_row **row, struct err *err)
{
    const char *name;
    size_t len;
    int rc = gguf_get_string(g, "tokenizer.ggml.pre", &name, &len, err);
    if (rc)
        return rc;
    struct strbuf known = STRBUF_INIT;
    for (size_t i = 0; i < sizeof pre_rows / sizeof *pre_rows; i++) {
        *row = &pre_rows[i];
        if (name && strlen((*row)->name) == len && !memcmp((*row)->name, name, len)) {
            strbuf_release(&known);
            return 0;
        }
        strbuf_addf(&known, "%s%s", i ? ", " : "", (*row)->name);
    }
    if (!name)
        rc = err_set(err, ERR_FORMAT,
                     "%s: key tokenizer.ggml.pre is missing, so that the pre-tokenizer is unknown: convert the model "
                     "again with a newer llama.cpp",
                     gguf_name(g));
    else
        rc = err_set(err, ERR_UNSUPPORTED,
                     "%s: the pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known; known are %s", gguf_name(g),
                     (int)(len < 64 ? len : 64), name, strbuf_text(&known));
    strbuf_release(&known);
    return rc;
}

int gguf_token_type(const struct gguf_opening *o, size_t i, enum token_type *out, struct err *err)
{
    double type = TYPE_NORMAL;
    int rc = o->types.n ? gguf_array_number(&o->types, i, &type, err) : 0;
    if (!rc && !(type >= TYPE_NORMAL && type <= TYPE_BYTE))
        rc = err_set(err, ERR_FORMAT, "%s: tokenizer.ggml.token_type[%zu] is %g, which is no token type", o->where, i,
                     type);
    if (!rc)
        *out = (enum token_type)type;
    return rc;
}

/* All texts into one block; unused tokens stay out. respell: may be NULL. */
static int read_tokens(struct gguf_opening *o, size_t (*respell)(const char *, size_t, char *), struct err *err)
{
    size_t total = 0, n = 0;
    const char *text;
    size_t len;
    int rc = 0;
    for (size_t i = 0; !rc && i < o->tokens.n; i++)
        if (!(rc = gguf_array_string(&o->tokens, i, &text, &len, err)))
            total += len + RESPELT_LONGER; /* each lies in the file: no overflow */
    if (rc)
        return rc;
    char *texts = mem_array(total + 1, 1), *at = texts;
    struct vocab_entry *entries = mem_array(o->tokens.n, sizeof *entries);
    if (!texts || !entries)
        rc = err_nomem(err, "the vocabulary");
    for (size_t i = 0; !rc && i < o->tokens.n; i++) {
        enum token_type type;
        if ((rc = gguf_token_type(o, i, &type, err)) || (rc = gguf_array_string(&o->tokens, i, &text, &len, err)))
            break;
        if (type == TYPE_UNUSED)
            continue;
        if (respell)
            len = respell(text, len, at);
        else
            memcpy(at, text, len);
        entries[n++] = (struct vocab_entry){ at, (uint32_t)len, (int32_t)i };
        at += len;
    }
    if (rc)
        free(texts);
    else
        rc = vocab_init(&o->tok->vocab, texts, total, entries, n, o->where, err);
    free(entries);
    return rc;
}

static int read_added(struct gguf_opening *o, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < o->types.n; i++) {
        enum token_type type;
        if ((rc = gguf_token_type(o, i, &type, err)))
            break;
        if (type != TYPE_CONTROL && type != TYPE_USER_DEFINED && type != TYPE_UNKNOWN)
            continue;
        const struct token_text *t = &o->tok->vocab.token[i];
        struct added_token token = { .content = mem_strndup(t->text, t->len), .len = t->len, .id = (int32_t)i };
        token.special = type != TYPE_USER_DEFINED;
        token.lstrip = token.id == o->strips;
        rc = token.content ? added_put(o->tok, &token, o->where, err) : err_nomem(err, "added tokens");
    }
    return rc;
}

static int read_merges(struct gguf_opening *o, struct err *err)
{
    struct gguf_array merges;
    int rc = gguf_get_array(o->g, "tokenizer.ggml.merges", &merges, err);
    if (!rc && !merges.n)
        rc = err_set(err, ERR_FORMAT, "%s: key tokenizer.ggml.merges is missing or empty", o->where);
    if (!rc)
        rc = bpe_init(&o->tok->bpe, &o->tok->vocab, merges.n, true, err);
    for (size_t i = 0; !rc && i < merges.n; i++) {
        const char *text;
        size_t len;
        if ((rc = gguf_array_string(&merges, i, &text, &len, err)))
            break;
        const char *space = memchr(text, ' ', len);
        size_t left = space ? (size_t)(space - text) : 0;
        if (!left || left + 1 == len || memchr(space + 1, ' ', len - left - 1))
            rc = err_set(err, ERR_FORMAT, "%s: merge %zu, '%.*s', is not two tokens with a space between", o->where, i,
                         (int)(len < 64 ? len : 64), text);
        else
            rc = bpe_add_merge(&o->tok->bpe, &o->tok->vocab, text, left, space + 1, len - left - 1, (uint32_t)i,
                               o->where, err);
    }
    return rc;
}

int gguf_token_id(const struct gguf_opening *o, const char *key, int32_t *id, struct err *err)
{
    size_t value;
    if (!gguf_has(o->g, key))
        return 0;
    int rc = gguf_get_size(o->g, key, 0, o->tokens.n - 1, &value, err);
    if (rc)
        return rc;
    if (value >= o->tok->vocab.n || !o->tok->vocab.token[value].text)
        return err_set(err, ERR_FORMAT, "%s: key %s names token %zu, which is marked as unused", o->where, key, value);
    *id = (int32_t)value;
    return 0;
}

int gguf_open_around(struct gguf_opening *o, bool add_bos, bool add_eos, struct err *err)
{
    struct tokenizer *tok = o->tok;
    bool bos, eos;
    /* Encoders may have CLS and SEP in place of them. */
    int rc = gguf_token_id(o, "tokenizer.ggml.cls_token_id", &tok->bos, err);
    if (rc || (rc = gguf_token_id(o, "tokenizer.ggml.seperator_token_id", &tok->eos, err)) ||
        (rc = gguf_token_id(o, "tokenizer.ggml.bos_token_id", &tok->bos, err)) ||
        (rc = gguf_token_id(o, "tokenizer.ggml.eos_token_id", &tok->eos, err)) ||
        (rc = gguf_get_bool_or(o->g, "tokenizer.ggml.add_bos_token", add_bos, &bos, err)) ||
        (rc = gguf_get_bool_or(o->g, "tokenizer.ggml.add_eos_token", add_eos, &eos, err)))
        return rc;
    if ((bos && tok->bos < 0) || (eos && tok->eos < 0))
        return err_set(err, ERR_FORMAT, "%s: the tokenizer adds %s, but key tokenizer.ggml.%s_token_id is missing",
                       o->where, bos && tok->bos < 0 ? "BOS" : "EOS", bos && tok->bos < 0 ? "bos" : "eos");
    if (bos)
        tok->before[tok->n_before++] = tok->bos;
    if (eos)
        tok->after[tok->n_after++] = tok->eos;
    return 0;
}

static int add_pre(struct tokenizer *tok, const struct pre_row *row, const char *where, struct err *err)
{
    int rc = 0;
    if (row->nfc)
        rc = normalizer_add(tok, &(struct normalizer){ .kind = NORMALIZER_NFC }, where, err);
    tok->bpe.ignore_merges = row->ignore_merges;
    if (!rc && row->shape == DIGITS)
        rc = pre_add_class(tok, char_is_numeric, SPLIT_ISOLATED, where, err);
    if (!rc && row->shape == FALCON)
        rc = pre_add_class(tok, char_is_punctuation, SPLIT_CONTIGUOUS, where, err);
    if (!rc && row->shape == SPLIT)
        rc = pre_add_split(tok, row->split, false, SPLIT_ISOLATED, false, where, err);
    if (!rc)
        rc = pre_add_byte_level(tok, false, row->shape != SPLIT, where, err);
    if (rc || row->shape != FALCON || (rc = pre_add_class(tok, char_is_numeric, SPLIT_CONTIGUOUS, where, err)))
        return rc;
    return pre_add_split(tok, "[0-9][0-9][0-9]", false, SPLIT_ISOLATED, false, where, err);
}

static int open_gpt2(struct gguf_opening *o, struct err *err)
{
    const struct pre_row *row;
    int rc = find_pre(o->g, &row, err);
    if (rc || (rc = read_merges(o, err)) || (rc = add_pre(o->tok, row, o->where, err)) ||
        (rc = gguf_open_around(o, row->add_bos, row->add_eos, err)))
        return rc;
    o->pre = row->name;
    return row->mask_strips ? gguf_token_id(o, "tokenizer.ggml.mask_token_id", &o->strips, err) : 0;
}

static const struct model_row {
    const char *name;
    int (*open)(struct gguf_opening *o, struct err *err);
    size_t (*respell)(const char *text, size_t n, char *out); /* of the tokens; NULL: as they are */
} model_rows[] = { { "gpt2", open_gpt2, NULL },
                   { "llama", gguf_open_llama, NULL },
                   { "t5", gguf_open_t5, NULL },
                   { "bert", gguf_open_bert, gguf_respell_bert } };

static int find_model(const struct gguf *g, const struct model_row **row, struct err *err)
{
    const char *name;
    size_t len;
    struct strbuf known = STRBUF_INIT;
    int rc = gguf_get_string(g, "tokenizer.ggml.model", &name, &len, err);
    if (!rc && !name)
        rc = err_set(err, ERR_FORMAT, "%s: has no tokenizer: key tokenizer.ggml.model is missing", gguf_name(g));
    *row = NULL;
    for (size_t i = 0; !rc && i < sizeof model_rows / sizeof *model_rows; i++) {
        if (strlen(model_rows[i].name) == len && !memcmp(model_rows[i].name, name, len))
            *row = &model_rows[i];
        strbuf_addf(&known, "%s%s", i ? ", " : "", model_rows[i].name);
    }
    if (!rc && !*row)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: tokenizer.ggml.model is '%.*s'; supported in GGUF files are %s",
                     gguf_name(g), (int)(len < 64 ? len : 64), name, strbuf_text(&known));
    strbuf_release(&known);
    return rc;
}

static int open_all(struct gguf_opening *o, struct err *err)
{
    const struct model_row *row;
    int rc = find_model(o->g, &row, err);
    if (rc || (rc = gguf_get_array(o->g, "tokenizer.ggml.tokens", &o->tokens, err)) ||
        (rc = gguf_get_array(o->g, "tokenizer.ggml.token_type", &o->types, err)))
        return rc;
    if (!o->tokens.n)
        return err_set(err, ERR_FORMAT, "%s: key tokenizer.ggml.tokens is missing or empty", o->where);
    if (o->types.n && o->types.n != o->tokens.n)
        return err_set(err, ERR_FORMAT, "%s: has %zu tokens but %zu token types", o->where, o->tokens.n, o->types.n);
    if ((rc = read_tokens(o, row->respell, err)) || (rc = row->open(o, err)) || (rc = read_added(o, err)) ||
        (rc = added_finish(o->tok, o->where, err)))
        return rc;
    return tokenizer_finish(o->tok, o->pre, err);
}

int tokenizer_open_gguf(struct tokenizer **out, const struct gguf *g, struct err *err)
{
    struct gguf_opening o = { .tok = tokenizer_new(), .g = g, .where = gguf_name(g), .pre = "", .strips = -1 };
    int rc = o.tok ? open_all(&o, err) : err_nomem(err, "a tokenizer");
    if (rc)
        tokenizer_free(o.tok);
    else
        *out = o.tok;
    return rc;
}
