/*
 * The model of a tokenizer.json. Vocabulary and merges are walked as text, one entry at a time: as a tree, a file of
 * 17 MB would cost Jansson half a second and 300 MB.
 */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

static bool hex4(const char *text, const char *end, uint32_t *out)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = text + i < end ? text[i] : 0;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return false;
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* \uXXXX, or two of them for a character beyond U+FFFF; *at is behind the 'u'. */
static bool unicode_escape(const char **at, const char *end, char **out)
{
    uint32_t cp, low;
    if (!hex4(*at, end, &cp))
        return false;
    *at += 4;
    if (cp >= 0xd800 && cp < 0xdc00) {
        if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u' || !hex4(*at + 2, end, &low) || low < 0xdc00 ||
            low > 0xdfff)
            return false;
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
        *at += 6;
    } else if (cp >= 0xdc00 && cp < 0xe000)
        return false;
    *out += utf8_encode(cp, *out);
    return true;
}

bool model_string(struct json_slice slice, char *out, size_t *len)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *at = slice.text + 1, *end = slice.text + slice.n - 1;
    char *start = out;
    if (slice.n < 2 || slice.text[0] != '"' || *end != '"')
        return false;
    while (at < end) {
        if ((unsigned char)*at < 0x20)
            return false;
        if (*at != '\\') {
            *out++ = *at++;
            continue;
        }
        const char *known = ++at < end && *at ? strchr(escapes, *at) : NULL;
        if (known) {
            *out++ = meant[known - escapes];
            at++;
        } else if (at == end || *at++ != 'u' || !unicode_escape(&at, end, &out))
            return false;
    }
    *len = (size_t)(out - start);
    return utf8_valid(start, *len);
}

int model_bad_entry(const struct opening *o, const char *list, size_t i, struct json_slice slice, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: entry %zu of the model's %s is not valid: %.*s", o->where, i, list,
                   (int)(slice.n < 64 ? slice.n : 64), slice.text);
}

/* A whole number below 2^31, or -1. */
static int32_t number(struct json_slice slice)
{
    int64_t value = 0;
    for (size_t i = 0; i < slice.n; i++) {
        if (slice.text[i] < '0' || slice.text[i] > '9' || value > INT32_MAX)
            return -1;
        value = value * 10 + (slice.text[i] - '0');
    }
    return slice.n && value < INT32_MAX ? (int32_t)value : -1;
}

int model_vocab(struct opening *o, struct json_slice slice, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    struct vocab_entry *entries = NULL;
    size_t n = 0, capacity = 0;
    char *texts = mem_array(slice.n + 1, 1), *at = texts;
    int got = texts ? json_walk_open(&walk, slice.text, slice.n, o->where, err) : err_nomem(err, "the vocabulary");
    if (!got && walk.closing != '}')
        got = err_set(err, ERR_FORMAT, "%s: the model's vocab must be an object", o->where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0) {
        size_t len;
        int32_t id = number(value);
        got = 0;
        if (!model_string(key, at, &len) || id < 0)
            got = model_bad_entry(o, "vocab", n, id < 0 ? value : key, err);
        else if (!mem_grow(&entries, &capacity, n + 1, sizeof *entries))
            got = err_nomem(err, "the vocabulary");
        else
            entries[n++] = (struct vocab_entry){ at, (uint32_t)len, id };
        if (!got)
            at += len;
    }
    if (got)
        free(texts);
    else
        got = vocab_init(&o->tok->vocab, texts, (size_t)(at - texts), entries, n, o->where, err);
    free(entries);
    return got;
}

/* The models that can be read; keys besides "type", separated by spaces. */
struct model_row {
    const char *type, *keys;
    int (*open)(struct opening *o, const struct model_parts *parts, struct err *err);
};

static const struct model_row rows[] = {
    { "BPE",
      "dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback ignore_merges vocab "
      "merges",
      open_bpe },
    { "Unigram", "unk_id vocab byte_fallback", open_unigram },
    { "WordPiece", "unk_token continuing_subword_prefix max_input_chars_per_word vocab", open_wordpiece },
};

/* One key of the model: vocab and merges as slices, the others parsed. */
static int take_key(struct opening *o, struct json_slice key, struct json_slice value, struct model_parts *parts,
                    struct err *err)
{
    char name[64];
    size_t len;
    json_t *parsed;
    if (key.n > sizeof name || !model_string(key, name, &len))
        return err_set(err, ERR_FORMAT, "%s: the model has the key %.*s, which is not known", o->where,
                       (int)(key.n < 64 ? key.n : 64), key.text);
    name[len] = 0;
    struct json_slice *slice = !strcmp(name, "vocab") ? &parts->vocab : !strcmp(name, "merges") ? &parts->merges : NULL;
    if (slice ? slice->text != NULL : json_object_get(parts->settings, name) != NULL)
        return err_set(err, ERR_FORMAT, "%s: the model has the key \"%s\" twice", o->where, name);
    if (slice) {
        *slice = value;
        return 0;
    }
    int rc = json_slice_parse(value, 4096, o->where, name, &parsed, err);
    if (!rc && json_object_set_new(parts->settings, name, parsed))
        rc = err_nomem(err, "the model's settings");
    return rc;
}

/* What a file without a type has, which versions of the library before 0.10 wrote. */
static const char *type_of(const struct model_parts *parts)
{
    if (parts->vocab.text && *parts->vocab.text == '[')
        return "Unigram";
    return json_object_get(parts->settings, "max_input_chars_per_word") ? "WordPiece" : "BPE";
}

static int find_row(struct opening *o, const struct model_parts *parts, const struct model_row **row, struct err *err)
{
    const char *type;
    struct strbuf known = STRBUF_INIT;
    int rc = json_get_string(parts->settings, o->where, "type", &type, err);
    if (rc)
        return rc;
    if (!type)
        type = type_of(parts);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        *row = &rows[i];
        if (!strcmp(type, rows[i].type)) {
            strbuf_release(&known);
            return 0;
        }
        strbuf_addf(&known, "%s%s", i ? ", " : "", rows[i].type);
    }
    rc = err_set(err, ERR_UNSUPPORTED, "%s: model \"%.64s\" is not supported; supported are %s", o->where, type,
                 strbuf_text(&known));
    strbuf_release(&known);
    return rc;
}

static int read_model(struct opening *o, const struct model_parts *parts, struct err *err)
{
    const struct model_row *row;
    int rc = find_row(o, parts, &row, err);
    if (rc)
        return rc;
    for (void *i = json_object_iter(parts->settings); i; i = json_object_iter_next(parts->settings, i)) {
        const char *key = json_object_iter_key(i);
        if (strcmp(key, "type") && !component_has_word(row->keys, key))
            return err_set(err, ERR_UNSUPPORTED, "%s: model %s has the key \"%.64s\", which is not known", o->where,
                           row->type, key);
    }
    if (!parts->vocab.text)
        return err_set(err, ERR_FORMAT, "%s: the model has no \"vocab\"", o->where);
    bool needs = component_has_word(row->keys, "merges");
    if (needs && !parts->merges.text)
        return err_set(err, ERR_FORMAT, "%s: the model has no \"merges\"", o->where);
    if (!needs && parts->merges.text)
        return err_set(err, ERR_UNSUPPORTED, "%s: model %s has the key \"merges\", which is not known", o->where,
                       row->type);
    return row->open(o, parts, err);
}

int open_model(struct opening *o, const char *text, size_t n, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    struct model_parts parts = { .settings = json_object() };
    int got = parts.settings ? json_walk_open(&walk, text, n, o->where, err) : err_nomem(err, "the model's settings");
    if (!got && walk.closing != '}')
        got = err_set(err, ERR_FORMAT, "%s: the model must be an object", o->where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0)
        got = take_key(o, key, value, &parts, err);
    if (!got)
        got = read_model(o, &parts, err);
    json_decref(parts.settings);
    return got;
}
