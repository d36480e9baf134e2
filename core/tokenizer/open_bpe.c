/* The BPE model of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* "a b" or ["a", "b"] to its two parts in `room` (value.n bytes); false when it is neither. */
static bool merge_parts(struct opening *o, struct json_slice value, char *room, size_t len[2], const char *part[2])
{
    struct json_walk walk;
    struct json_slice none, item;
    part[0] = room;
    if (value.text[0] == '"') {
        size_t n;
        char *space = model_string(value, room, &n) ? memchr(room, ' ', n) : NULL;
        if (!space)
            return false;
        len[0] = (size_t)(space - room);
        len[1] = n - len[0] - 1;
        part[1] = space + 1;
        return !memchr(part[1], ' ', len[1]);
    }
    if (json_walk_open(&walk, value.text, value.n, o->where, NULL) || walk.closing != ']' ||
        json_walk_next(&walk, &none, &item, NULL) != 1 || !model_string(item, room, &len[0]) ||
        json_walk_next(&walk, &none, &item, NULL) != 1)
        return false;
    part[1] = room + len[0];
    return model_string(item, room + len[0], &len[1]) && !json_walk_next(&walk, &none, &item, NULL);
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
    int got = bpe_init(&o->tok->bpe, &o->tok->vocab, count_merges(slice), o->tok->byte_level, err);
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
            got = model_bad_entry(o, "merges", rank, value, err);
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

static int read_unk(struct opening *o, const char *unk, struct err *err)
{
    struct bpe *bpe = &o->tok->bpe;
    if (!unk)
        return 0;
    bpe->unk = vocab_find(&o->tok->vocab, unk, strlen(unk));
    /* Never needed where every byte has a token; `tokenizers`, too, looks for it only then. */
    if (bpe->unk < 0 && (!bpe->byte_level || bpe_n_bytes(bpe) < 256))
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
    /* With some of the bytes, the library puts unk behind the bytes that follow it. */
    if (byte_fallback && bpe_n_bytes(bpe) > 0 && bpe_n_bytes(bpe) < 256)
        return refuse(o, "byte_fallback and tokens for some of the bytes only", err);
    bpe->byte_fallback = byte_fallback && bpe_n_bytes(bpe);
    return read_unk(o, unk, err);
}

int open_bpe(struct opening *o, const struct model_parts *parts, struct err *err)
{
    int rc = model_vocab(o, parts->vocab, err);
    if (rc || (rc = read_merges(o, parts->merges, err)))
        return rc;
    return read_settings(o, parts->settings, err);
}
