/*
 * Tokenizers of folders without tokenizer.json: vocab.txt, or vocab.json and merges.txt, with the settings beside them.
 * What transformers makes of these depends on the class that it reads them with: a row of the table below.
 */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum special { BOS, EOS, UNK, SEP, PAD, CLS, MASK, N_SPECIALS };
static const char *const special_keys[N_SPECIALS] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                                      "pad_token", "cls_token", "mask_token" };

/* What sorts of model are read with what class, and the special tokens that it has where the settings name no others.
 */
struct class_row {
    const char *classes, *model_types; /* separated by spaces; a class may have "Fast" at its end */
    bool word_piece, cls_and_sep, mask_strips;
    const char *specials[N_SPECIALS];
};
static const struct class_row rows[] = {
    { "BertTokenizer DistilBertTokenizer ElectraTokenizer",
      "bert distilbert electra",
      true,
      true,
      false,
      { [UNK] = "[UNK]", [SEP] = "[SEP]", [PAD] = "[PAD]", [CLS] = "[CLS]", [MASK] = "[MASK]" } },
    { "RobertaTokenizer", "roberta", false, true, true, { "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" } },
    { "GPT2Tokenizer CodeGenTokenizer",
      "gpt2 gpt_neo gptj opt codegen phi",
      false,
      false,
      false,
      { "<|endoftext|>", "<|endoftext|>", "<|endoftext|>" } },
};

struct files_opening {
    struct opening o;
    const struct tokenizer_files *files;
    const struct class_row *row;
    json_t *added;               /* as the added_tokens of a tokenizer.json */
    int32_t next_id;             /* of the next one that the vocabulary lacks */
    int32_t special[N_SPECIALS]; /* -1: none */
};

static int find_row(struct files_opening *f, struct err *err)
{
    const char *class, *type = f->files->model_type ? f->files->model_type : "";
    char name[64] = "";
    int rc = json_get_string(f->files->config, "tokenizer_config.json", "tokenizer_class", &class, err);
    if (rc)
        return rc;
    for (size_t i = 0; !f->row && i < sizeof rows / sizeof *rows; i++)
        if (component_has_word(rows[i].model_types, type))
            f->row = &rows[i];
    if (!f->row)
        return err_set(err, ERR_UNSUPPORTED, "%s: a model of type \"%.64s\" needs a tokenizer.json, and there is none",
                       f->o.where, type);
    size_t n = class ? strlen(class) : 0;
    n -= n > 4 && !strcmp(class + n - 4, "Fast") ? 4 : 0;
    if (n && n < sizeof name)
        memcpy(name, class, n);
    if (n && !component_has_word(f->row->classes, name))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: tokenizer_config.json has the tokenizer_class \"%.64s\", without a tokenizer.json only %s "
                       "can be read for a model of type \"%.64s\"",
                       f->o.where, class, f->row->classes, type);
    return 0;
}

/* vocab.txt: a token a line, the ids in order. An empty line has an id, but no text has its token. */
static int read_lines(struct files_opening *f, struct err *err)
{
    const struct tokenizer_file *file = &f->files->vocab;
    struct vocab_entry *entries = NULL;
    size_t n = 0, capacity = 0;
    int rc = 0;
    int32_t id = 0;
    char *texts = mem_strndup(file->data, file->size);
    if (!texts)
        return err_nomem(err, "the vocabulary");
    for (size_t at = 0; !rc && at < file->size; id++) {
        const char *end = memchr(texts + at, '\n', file->size - at);
        size_t next = end ? (size_t)(end - texts) : file->size, len = next - at;
        len -= len && texts[at + len - 1] == '\r';
        if (!utf8_valid(texts + at, len))
            rc = err_set(err, ERR_FORMAT, "%s: line %d is not valid UTF-8", f->o.where, (int)id + 1);
        else if (!mem_grow(&entries, &capacity, n + 1, sizeof *entries))
            rc = err_nomem(err, "the vocabulary");
        else if (len)
            entries[n++] = (struct vocab_entry){ texts + at, (uint32_t)len, id };
        at = next + 1;
    }
    if (rc)
        free(texts);
    else
        rc = vocab_init(&f->o.tok->vocab, texts, file->size, entries, n, f->o.where, err);
    free(entries);
    return rc;
}

static size_t count_lines(const struct tokenizer_file *file)
{
    size_t n = 1;
    for (size_t i = 0; i < file->size; i++)
        n += file->data[i] == '\n';
    return n;
}

/* merges.txt: two tokens a line, with a space between; the first line may tell a version. */
static int read_merges(struct files_opening *f, struct err *err)
{
    const struct tokenizer_file *file = &f->files->merges;
    struct tokenizer *tok = f->o.tok;
    size_t line = 0, next;
    uint32_t rank = 0;
    int rc = bpe_init(&tok->bpe, &tok->vocab, count_lines(file), true, err);
    for (size_t at = 0; !rc && at < file->size; at = next + 1) {
        const char *text = file->data + at, *end = memchr(text, '\n', file->size - at);
        next = end ? (size_t)(end - file->data) : file->size;
        size_t len = next - at;
        len -= len && text[len - 1] == '\r';
        line++;
        if (!len || (len >= 8 && !memcmp(text, "#version", 8)))
            continue;
        const char *space = memchr(text, ' ', len);
        size_t left = space ? (size_t)(space - text) : 0;
        if (!left || left + 1 == len || memchr(space + 1, ' ', len - left - 1) || !utf8_valid(text, len))
            rc = err_set(err, ERR_FORMAT, "%s: line %zu is not two tokens with a space between", file->name, line);
        else
            rc = bpe_add_merge(&tok->bpe, &tok->vocab, text, left, space + 1, len - left - 1, rank++, file->name, err);
    }
    return rc;
}

static int setting(const struct files_opening *f, const char *key, bool otherwise, bool *out, struct err *err)
{
    return json_get_bool_or(f->files->config, "tokenizer_config.json", key, otherwise, out, err);
}

/* Settings that change ids and cannot be followed. */
static int check_settings(const struct files_opening *f, struct err *err)
{
    static const struct {
        const char *key;
        bool usual;
    } switches[] = { { "do_basic_tokenize", true }, { "split_special_tokens", false } };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof switches / sizeof *switches; i++) {
        bool value;
        rc = setting(f, switches[i].key, switches[i].usual, &value, err);
        if (!rc && value != switches[i].usual)
            rc = err_set(err, ERR_UNSUPPORTED, "%s: \"%s\": %s in tokenizer_config.json is not supported", f->o.where,
                         switches[i].key, value ? "true" : "false");
    }
    if (!rc && json_array_size(json_object_get(f->files->config, "never_split")))
        rc = err_set(err, ERR_UNSUPPORTED, "%s: \"never_split\" in tokenizer_config.json is not supported", f->o.where);
    return rc;
}

/* special_tokens_map.json counts before tokenizer_config.json, unless that lists the added tokens. */
static const json_t *special_setting(const struct files_opening *f, const char *key)
{
    const json_t *value = json_object_get(f->files->specials, key);
    bool listed = json_is_object(json_object_get(f->files->config, "added_tokens_decoder"));
    return value && !listed ? value : json_object_get(f->files->config, key);
}

static int open_word_piece_model(struct files_opening *f, struct err *err)
{
    enum { MOST_CHARACTERS = 100 };
    struct tokenizer *tok = f->o.tok;
    const json_t *value = special_setting(f, special_keys[UNK]);
    value = json_is_object(value) ? json_object_get(value, "content") : value;
    const char *text = json_is_string(value) ? json_string_value(value) : f->row->specials[UNK];
    int32_t unk = vocab_find(&tok->vocab, text, strlen(text));
    if (unk < 0)
        return err_set(err, ERR_FORMAT, "%s: the unk_token '%.64s' is not in the vocabulary", f->o.where, text);
    tok->model = MODEL_WORDPIECE;
    return wordpiece_init(&tok->wordpiece, &tok->vocab, "##", unk, MOST_CHARACTERS, err);
}

static int open_word_piece(struct files_opening *f, struct err *err)
{
    bool lowercase, chinese, accents;
    int rc = setting(f, "do_lower_case", true, &lowercase, err);
    if (rc || (rc = setting(f, "tokenize_chinese_chars", true, &chinese, err)) ||
        (rc = setting(f, "strip_accents", lowercase, &accents, err)) || (rc = read_lines(f, err)) ||
        (rc = open_word_piece_model(f, err)) ||
        (rc = normalizer_add_bert(f->o.tok, true, chinese, accents, lowercase, f->o.where, err)))
        return rc;
    strbuf_adds(f->o.names, "BertPreTokenizer");
    return pre_add_bert(f->o.tok, f->o.where, err);
}

static int open_byte_level(struct files_opening *f, struct err *err)
{
    bool prefix;
    int rc = setting(f, "add_prefix_space", false, &prefix, err);
    if (rc || (rc = model_vocab(&f->o, (struct json_slice){ f->files->vocab.data, f->files->vocab.size }, err)) ||
        (rc = read_merges(f, err)))
        return rc;
    strbuf_adds(f->o.names, "ByteLevel");
    return pre_add_byte_level(f->o.tok, prefix, true, f->o.where, err);
}

/* Special and added tokens: the settings' texts, or objects with "content" and how they match. */

static int token_flag(json_t *token, const json_t *value, const char *key, bool otherwise)
{
    const json_t *flag = json_object_get(value, key);
    return json_object_set_new(token, key, json_boolean(flag ? json_is_true(flag) : otherwise));
}

static json_t *token_of(const char *content)
{
    json_t *token = json_object();
    if (token && json_object_set_new(token, "content", json_string(content))) {
        json_decref(token);
        return NULL;
    }
    return token;
}

/* The one with this content, made where there is none, with its id in the vocabulary or the next free one. */
static json_t *find_token(struct files_opening *f, const char *content, bool *is_new)
{
    for (size_t i = 0; i < json_array_size(f->added); i++) {
        json_t *token = json_array_get(f->added, i);
        *is_new = false;
        if (!strcmp(json_string_value(json_object_get(token, "content")), content))
            return token;
    }
    json_t *token = token_of(content);
    int32_t id = vocab_find(&f->o.tok->vocab, content, strlen(content));
    *is_new = true;
    if (token && json_object_set_new(token, "id", json_integer(id >= 0 ? id : f->next_id++))) {
        json_decref(token);
        return NULL;
    }
    return token && !json_array_append_new(f->added, token) ? token : NULL;
}

enum { ADDED_MOST = 4096 }; /* looked through for each of them */

/* id: where it is told, else -1. What is said last of a token counts. */
static int add_token(struct files_opening *f, const json_t *value, const char *key, bool special, bool strips,
                     int32_t id, int32_t *out, struct err *err)
{
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
    bool is_new;
    if (!json_is_string(text) || !json_string_length(text) || json_array_size(f->added) == ADDED_MOST)
        return err_set(err, ERR_FORMAT, "%s: \"%.64s\" in its settings is no token, or one too many", f->o.where, key);
    json_t *token = find_token(f, json_string_value(text), &is_new);
    if (!token || token_flag(token, value, "single_word", false) || token_flag(token, value, "lstrip", strips) ||
        token_flag(token, value, "rstrip", false) || token_flag(token, value, "normalized", !special) ||
        json_object_set_new(token, "special", json_boolean(special)))
        return err_nomem(err, "added tokens");
    json_int_t found = json_integer_value(json_object_get(token, "id"));
    if (id >= 0 && found != id)
        return err_set(err, ERR_FORMAT,
                       "%s: added token '%.64s' has id %d where %d is the next free one: libraries disagree on its id",
                       f->o.where, json_string_value(text), (int)id, (int)found);
    if (out)
        *out = (int32_t)found;
    return 0;
}

static int32_t id_of_key(const char *key)
{
    char *end;
    unsigned long id = strtoul(key, &end, 10);
    return *key >= '0' && *key <= '9' && !*end && id < INT32_MAX ? (int32_t)id : -1;
}

struct listed {
    const char *key;
    const json_t *value;
    int32_t id;
};

static int by_id(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/*
 * "added_tokens_decoder" of tokenizer_config.json, {"50256": {"content": ...}}, or where that has none
 * added_tokens.json, {"<x>": 50256}; in the order of their ids.
 */
static int add_listed(struct files_opening *f, struct err *err)
{
    const json_t *decoder = json_object_get(f->files->config, "added_tokens_decoder");
    const json_t *list = json_is_object(decoder) ? decoder : f->files->added;
    struct listed *item = mem_zeroed(json_object_size(list) + 1, sizeof *item);
    size_t n = 0;
    int rc = item ? 0 : err_nomem(err, "added tokens");
    for (void *i = json_object_iter((json_t *)list); !rc && i; i = json_object_iter_next((json_t *)list, i)) {
        const char *key = json_object_iter_key(i);
        const json_t *value = json_object_iter_value(i);
        json_int_t number = json_integer_value(value);
        int32_t id = list == decoder                                               ? id_of_key(key)
                     : json_is_integer(value) && number >= 0 && number < INT32_MAX ? (int32_t)number
                                                                                   : -1;
        if (id < 0)
            rc = err_set(err, ERR_FORMAT, "%s: the added token \"%.64s\" in its settings has no id", f->o.where, key);
        item[n++] = (struct listed){ key, value, id };
    }
    if (n)
        qsort(item, n, sizeof *item, by_id);
    for (size_t i = 0; !rc && i < n; i++) {
        json_t *text = list == decoder ? NULL : json_string(item[i].key);
        bool special = list == decoder && json_is_true(json_object_get(item[i].value, "special"));
        rc = add_token(f, text ? text : item[i].value, item[i].key, special, false, item[i].id, NULL, err);
        json_decref(text);
    }
    free(item);
    return rc;
}

static int add_specials(struct files_opening *f, struct err *err)
{
    static const char *const lists[] = { "additional_special_tokens", "extra_special_tokens" };
    int rc = 0;
    for (int i = 0; !rc && i < N_SPECIALS; i++) {
        const json_t *value = special_setting(f, special_keys[i]);
        json_t *usual = !value && f->row->specials[i] ? json_string(f->row->specials[i]) : NULL;
        f->special[i] = -1;
        if (usual || (value && !json_is_null(value)))
            rc = add_token(f, usual ? usual : value, special_keys[i], true, i == MASK && f->row->mask_strips, -1,
                           &f->special[i], err);
        json_decref(usual);
    }
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        const json_t *list = special_setting(f, lists[k]);
        for (size_t i = 0; !rc && i < json_array_size(list); i++)
            rc = add_token(f, json_array_get(list, i), lists[k], true, false, -1, NULL, err);
    }
    return rc;
}

static int put_around(struct files_opening *f, struct err *err)
{
    struct tokenizer *tok = f->o.tok;
    bool bos, eos;
    int rc = setting(f, "add_bos_token", false, &bos, err);
    if (rc || (rc = setting(f, "add_eos_token", false, &eos, err)))
        return rc;
    int32_t before = f->row->cls_and_sep ? f->special[CLS]
                     : bos               ? f->special[BOS]
                                         : -1,
            after = f->row->cls_and_sep ? f->special[SEP]
                    : eos               ? f->special[EOS]
                                        : -1;
    if (f->row->cls_and_sep && (bos || eos || before < 0 || after < 0))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: a tokenizer that puts no cls_token and sep_token around a text, or "
                       "BOS or EOS in addition, is not supported",
                       f->o.where);
    if (before >= 0)
        tok->before[tok->n_before++] = before;
    if (after >= 0)
        tok->after[tok->n_after++] = after;
    tok->bos = f->special[BOS];
    tok->eos = f->special[EOS];
    return 0;
}

static int open_all(struct files_opening *f, struct err *err)
{
    struct tokenizer *tok = f->o.tok;
    int rc = find_row(f, err);
    if (rc || (rc = check_settings(f, err)))
        return rc;
    if (f->row->word_piece == (f->files->merges.data != NULL))
        return err_set(err, ERR_FORMAT, "%s: a model of type \"%.64s\" has %s", f->o.where, f->files->model_type,
                       f->row->word_piece ? "a vocab.txt, not a vocab.json" : "a vocab.json and a merges.txt");
    if ((rc = f->row->word_piece ? open_word_piece(f, err) : open_byte_level(f, err)))
        return rc;
    f->next_id = (int32_t)tok->vocab.n_used;
    if ((rc = add_listed(f, err)) || (rc = add_specials(f, err)))
        return rc;
    if ((rc = open_added_tokens(&f->o, f->added, err)) || (rc = added_finish(tok, f->o.where, err)) ||
        (rc = put_around(f, err)))
        return rc;
    return opening_finish(&f->o, err);
}

int tokenizer_open_files(struct tokenizer **out, const struct tokenizer_files *files, struct err *err)
{
    struct strbuf names = STRBUF_INIT;
    struct files_opening f = { .files = files, .added = json_array() };
    f.o = (struct opening){ .tok = tokenizer_new(), .where = files->vocab.name, .names = &names };
    int rc = f.o.tok && f.added ? open_all(&f, err) : err_nomem(err, "a tokenizer");
    json_decref(f.added);
    strbuf_release(&names);
    if (rc)
        tokenizer_free(f.o.tok);
    else
        *out = f.o.tok;
    return rc;
}
