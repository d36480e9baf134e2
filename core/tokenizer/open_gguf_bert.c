/*
 * GGUF model "bert" (WordPiece). llama.cpp's converter writes U+2581 before the tokens that begin a word and leaves out
 * the "##" of the others; what is in brackets, "[CLS]", stays as it is.
 */
#include "core/tokenizer/open_gguf.h"

#include <string.h>

enum { METASPACE_LEN = sizeof METASPACE - 1 };

size_t gguf_respell_bert(const char *text, size_t n, char *out)
{
    bool brackets = n && text[0] == '[' && text[n - 1] == ']',
         begins = n >= METASPACE_LEN && !memcmp(text, METASPACE, METASPACE_LEN);
    size_t skip = begins ? METASPACE_LEN : 0, prefix = brackets || begins ? 0 : 2;
    memcpy(out, "##", prefix);
    memcpy(out + prefix, text + skip, n - skip);
    return prefix + n - skip;
}

/* The names that the converter gives to tokenizers of this model; all have what BERT's tokenizer has. */
static int check_pre(const struct gguf_opening *o, struct err *err)
{
    static const char *const known[] = { "default", "jina-v2-en", "bert-bge" };
    const char *name;
    size_t len;
    int rc = gguf_get_string(o->g, "tokenizer.ggml.pre", &name, &len, err);
    if (rc || !name)
        return rc;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == len && !memcmp(known[i], name, len))
            return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: the pre-tokenizer '%.*s' (tokenizer.ggml.pre) is not known for the model bert; known are "
                   "default, jina-v2-en, bert-bge",
                   o->where, (int)(len < 64 ? len : 64), name);
}

/* A token beyond those in brackets with a capital letter, or NULL. */
static const struct token_text *cased_token(const struct vocab *v)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct token_text *t = &v->token[i];
        if (!t->text || !t->len || (t->text[0] == '[' && t->text[t->len - 1] == ']'))
            continue;
        for (uint32_t k = 0; k < t->len; k++)
            if (t->text[k] >= 'A' && t->text[k] <= 'Z')
                return t;
    }
    return NULL;
}

static int add_normalizer(struct gguf_opening *o, struct err *err)
{
    static const char key[] = "tokenizer.ggml.normalizer.lowercase";
    const struct token_text *cased = gguf_has(o->g, key) ? NULL : cased_token(&o->tok->vocab);
    bool lowercase, accents;
    if (cased)
        return err_set(err, ERR_FORMAT,
                       "%s: has the token '%.*s', but does not say whether text is put into lower case (%s): convert "
                       "the model again with a newer llama.cpp, or use its Hugging Face folder",
                       o->where, (int)(cased->len < 64 ? cased->len : 64), cased->text, key);
    int rc = gguf_get_bool_or(o->g, key, true, &lowercase, err);
    if (rc || (rc = gguf_get_bool_or(o->g, "tokenizer.ggml.normalizer.strip_accents", lowercase, &accents, err)))
        return rc;
    return normalizer_add_bert(o->tok, true, true, accents, lowercase, o->where, err);
}

/* By the key, else by BERT's own text. */
static int find_special(const struct gguf_opening *o, const char *key, const char *other, const char *text,
                        int32_t *out, struct err *err)
{
    *out = vocab_find(&o->tok->vocab, text, strlen(text));
    int rc = gguf_token_id(o, other, out, err);
    if (rc || (rc = gguf_token_id(o, key, out, err)))
        return rc;
    if (*out < 0)
        return err_set(err, ERR_FORMAT, "%s: has neither the key %s nor a token '%s'", o->where, key, text);
    return 0;
}

int gguf_open_bert(struct gguf_opening *o, struct err *err)
{
    enum { MOST_CHARACTERS = 100 };
    struct tokenizer *tok = o->tok;
    int32_t unk = -1;
    bool cls, sep;
    int rc = check_pre(o, err);
    if (rc || (rc = add_normalizer(o, err)) || (rc = pre_add_bert(tok, o->where, err)) ||
        (rc = find_special(o, "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.unknown_token_id", "[UNK]", &unk,
                           err)) ||
        (rc = gguf_get_bool_or(o->g, "tokenizer.ggml.add_bos_token", true, &cls, err)) ||
        (rc = gguf_get_bool_or(o->g, "tokenizer.ggml.add_sep_token", true, &sep, err)))
        return rc;
    if (cls && !(rc = find_special(o, "tokenizer.ggml.cls_token_id", "tokenizer.ggml.bos_token_id", "[CLS]",
                                   &tok->before[0], err)))
        tok->n_before = 1;
    if (!rc && sep &&
        !(rc = find_special(o, "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.separator_token_id", "[SEP]",
                            &tok->after[0], err)))
        tok->n_after = 1;
    if (rc)
        return rc;
    tok->model = MODEL_WORDPIECE;
    o->pre = "bert";
    return wordpiece_init(&tok->wordpiece, &tok->vocab, "##", unk, MOST_CHARACTERS, err);
}
