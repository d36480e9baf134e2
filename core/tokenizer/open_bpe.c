/*
 * The BPE model of a tokenizer.json. Vocabulary and merges are walked as text, one entry at a time: as a tree, a file
 * of 17 MB would cost Jansson half a second and 300 MB.
 */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/utf8.h"
#include "core/formats/json_walk.h"

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

/* The string behind a slice to out, which has room for slice.n bytes; false when it is no valid JSON string. */
static bool unquote(struct json_slice slice, char *out, size_t *len)
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

static int bad_entry(const struct opening *o, const char *list, size_t i, struct json_slice slice, struct err *err)
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

static int read_vocab(struct opening *o, struct json_slice slice, struct err *err)
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
        if (!unquote(key, at, &len) || id < 0)
            got = bad_entry(o, "vocab", n, id < 0 ? value : key, err);
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

/* "a b" or ["a", "b"] to its two parts in `room` (value.n bytes); false when it is neither. */
static bool merge_parts(struct opening *o, struct json_slice value, char *room, size_t len[2], const char *part[2])
{
    struct json_walk walk;
    struct json_slice none, item;
    part[0] = room;
    if (value.text[0] == '"') {
        size_t n;
        char *space = unquote(value, room, &n) ? memchr(room, ' ', n) : NULL;
        if (!space)
            return false;
        len[0] = (size_t)(space - room);
        len[1] = n - len[0] - 1;
        part[1] = space + 1;
        return !memchr(part[1], ' ', len[1]);
    }
    if (json_walk_open(&walk, value.text, value.n, o->where, NULL) || walk.closing != ']' ||
        json_walk_next(&walk, &none, &item, NULL) != 1 || !unquote(item, room, &len[0]) ||
        json_walk_next(&walk, &none, &item, NULL) != 1)
        return false;
    part[1] = room + len[0];
    return unquote(item, room + len[0], &len[1]) && !json_walk_next(&walk, &none, &item, NULL);
}

static bool is_version_line(struct json_slice value)
{
    static const char version[] = "\"#version";
    return value.n > sizeof version - 1 && !memcmp(value.text, version, sizeof version - 1);
}

/* So that the table of merges is made in its final size. */
static size_t count_merges(struct json_slice slice)
{
    struct json_walk walk;
    struct json_slice key, value;
    size_t n = 0;
    if (json_walk_open(&walk, slice.text, slice.n, "", NULL))
        return 0;
    while (json_walk_next(&walk, &key, &value, NULL) > 0)
        n++;
    return n;
}

static int read_merges(struct opening *o, struct json_slice slice, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    char *room = NULL;
    size_t capacity = 0;
    uint32_t rank = 0;
    int got = bpe_init(&o->tok->bpe, &o->tok->vocab, count_merges(slice), err);
    if (!got)
        got = json_walk_open(&walk, slice.text, slice.n, o->where, err);
    if (!got && walk.closing != ']')
        got = err_set(err, ERR_FORMAT, "%s: the model's merges must be a list", o->where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0) {
        size_t len[2];
        const char *part[2];
        got = 0;
        if (is_version_line(value))
            continue;
        if (!mem_grow(&room, &capacity, value.n, 1))
            got = err_nomem(err, "the merges");
        else if (!merge_parts(o, value, room, len, part))
            got = bad_entry(o, "merges", rank, value, err);
        else
            got = bpe_add_merge(&o->tok->bpe, &o->tok->vocab, part[0], len[0], part[1], len[1], rank++, o->where, err);
    }
    free(room);
    return got;
}

static int refuse(const struct opening *o, const char *what, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "%s: BPE with %s is not supported", o->where, what);
}

static bool has_all_bytes(const struct bpe *bpe)
{
    for (int byte = 0; byte < 256; byte++)
        if (bpe->byte_id[byte] < 0)
            return false;
    return true;
}

static int read_unk(struct opening *o, const char *unk, struct err *err)
{
    struct bpe *bpe = &o->tok->bpe;
    if (!unk)
        return 0;
    bpe->unk = vocab_find(&o->tok->vocab, unk, strlen(unk));
    /* Never needed where every byte has a token; `tokenizers`, too, looks for it only then. */
    if (bpe->unk < 0 && !has_all_bytes(bpe))
        return err_set(err, ERR_FORMAT, "%s: the unk_token '%.64s' is not in the vocabulary", o->where, unk);
    return 0;
}

/* Everything but vocabulary and merges, which `settings` lacks. */
static int read_settings(struct opening *o, const json_t *settings, struct err *err)
{
    const char *prefix, *suffix, *unk;
    double dropout;
    bool byte_fallback;
    struct bpe *bpe = &o->tok->bpe;
    int rc = json_get_number_or(settings, o->where, "dropout", 0, &dropout, err);
    if (rc || (rc = json_get_string(settings, o->where, "unk_token", &unk, err)) ||
        (rc = json_get_string(settings, o->where, "continuing_subword_prefix", &prefix, err)) ||
        (rc = json_get_string(settings, o->where, "end_of_word_suffix", &suffix, err)) ||
        (rc = json_get_bool_or(settings, o->where, "fuse_unk", false, &bpe->fuse_unk, err)) ||
        (rc = json_get_bool_or(settings, o->where, "byte_fallback", false, &byte_fallback, err)) ||
        (rc = json_get_bool_or(settings, o->where, "ignore_merges", false, &bpe->ignore_merges, err)))
        return rc;
    if (dropout < 0 || dropout > 0)
        return refuse(o, "dropout", err);
    if (prefix && *prefix)
        return refuse(o, "a continuing_subword_prefix", err);
    if (suffix && *suffix)
        return refuse(o, "an end_of_word_suffix", err);
    if (byte_fallback && !has_all_bytes(bpe))
        return refuse(o, "byte_fallback", err);
    return read_unk(o, unk, err);
}

/* Takes one key of the model: vocab and merges as slices, the others into settings. */
static int take_key(struct opening *o, struct json_slice key, struct json_slice value, json_t *settings,
                    struct json_slice *vocab, struct json_slice *merges, struct err *err)
{
    static const char *const known[] = { "type",          "dropout",       "unk_token",
                                         "fuse_unk",      "byte_fallback", "continuing_subword_prefix",
                                         "ignore_merges", "vocab",         "end_of_word_suffix",
                                         "merges" };
    const char *name = NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (json_slice_is(key, known[i]))
            name = known[i];
    if (!name)
        return err_set(err, ERR_UNSUPPORTED, "%s: model BPE has the key %.*s, which is not known", o->where,
                       (int)(key.n < 64 ? key.n : 64), key.text);
    struct json_slice *slice = !strcmp(name, "vocab") ? vocab : !strcmp(name, "merges") ? merges : NULL;
    if (slice ? slice->text != NULL : json_object_get(settings, name) != NULL)
        return err_set(err, ERR_FORMAT, "%s: the model has the key \"%s\" twice", o->where, name);
    if (slice) {
        *slice = value;
        return 0;
    }
    json_t *parsed;
    int rc = json_slice_parse(value, 4096, o->where, name, &parsed, err);
    if (!rc && json_object_set_new(settings, name, parsed))
        rc = err_nomem(err, "the model's settings");
    return rc;
}

static int read_model(struct opening *o, const json_t *settings, struct json_slice vocab, struct json_slice merges,
                      struct err *err)
{
    const char *type;
    int rc = json_get_string(settings, o->where, "type", &type, err);
    if (rc)
        return rc;
    if (type && strcmp(type, "BPE"))
        return err_set(err, ERR_UNSUPPORTED, "%s: model \"%.64s\" is not supported; supported is BPE", o->where, type);
    if (!vocab.text || !merges.text)
        return err_set(err, ERR_FORMAT, "%s: the model has no \"%s\"", o->where, vocab.text ? "merges" : "vocab");
    if ((rc = read_vocab(o, vocab, err)) || (rc = read_merges(o, merges, err)))
        return rc;
    return read_settings(o, settings, err);
}

int open_bpe(struct opening *o, const char *text, size_t n, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value, vocab = { 0 }, merges = { 0 };
    json_t *settings = json_object();
    int got = settings ? json_walk_open(&walk, text, n, o->where, err) : err_nomem(err, "the model's settings");
    if (!got && walk.closing != '}')
        got = err_set(err, ERR_FORMAT, "%s: the model must be an object", o->where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0)
        got = take_key(o, key, value, settings, &vocab, &merges, err);
    if (!got)
        got = read_model(o, settings, vocab, merges, err);
    json_decref(settings);
    return got;
}
