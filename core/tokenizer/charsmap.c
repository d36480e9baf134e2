/*
 * SentencePiece's precompiled_charsmap: the number of bytes of a trie, the trie (a double array of 32-bit units, little
 * endian) and the texts that its values point to, each ending with a zero byte.
 *
 * As in `tokenizers`: a grapheme cluster of at most 5 bytes is looked up as a whole, then each character; what is found
 * is the shortest entry that the text starts with, and it replaces all of what was looked up.
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_CLUSTER = 5 };

struct charsmap {
    uint32_t *unit;
    size_t n_units, n_texts;
    char *texts;
};

int charsmap_open(struct charsmap **out, const char *data, size_t n, const char *where, struct err *err)
{
    const unsigned char *byte = (const unsigned char *)data;
    uint32_t size = n < 4 ? 0 : byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
    if (!size || size % 4 || size > n - 4)
        return err_set(err, ERR_FORMAT, "%s: the precompiled_charsmap of %zu bytes is cut off or damaged", where, n);
    if (!utf8_valid(data + 4 + size, n - 4 - size))
        return err_set(err, ERR_FORMAT, "%s: the precompiled_charsmap has texts that are not valid UTF-8", where);
    struct charsmap *map = calloc(1, sizeof *map);
    if (map) {
        map->n_units = size / 4;
        map->n_texts = n - 4 - size;
        map->unit = mem_array(map->n_units, sizeof *map->unit);
        map->texts = mem_strndup(data + 4 + size, map->n_texts);
    }
    if (!map || !map->unit || !map->texts) {
        charsmap_free(map);
        return err_nomem(err, "the precompiled_charsmap");
    }
    memcpy(map->texts, data + 4 + size, map->n_texts);
    byte += 4;
    for (size_t i = 0; i < map->n_units; i++, byte += 4)
        map->unit[i] = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
    *out = map;
    return 0;
}

void charsmap_free(struct charsmap *map)
{
    if (!map)
        return;
    free(map->unit);
    free(map->texts);
    free(map);
}

static int damaged(struct err *err)
{
    return err_set(err, ERR_FORMAT, "the tokenizer's precompiled_charsmap points outside of itself");
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* 1: the text that replaces `text`; 0: none; negative: error. */
static int look_up(const struct charsmap *map, const char *text, size_t n, const char **found, size_t *len,
                   struct err *err)
{
    uint32_t unit = map->unit[0], at = offset_of(unit);
    for (size_t i = 0; i < n && text[i]; i++) {
        at ^= (unsigned char)text[i];
        if (at >= map->n_units)
            return damaged(err);
        unit = map->unit[at];
        if ((unit & (1u << 31 | 0xff)) != (unsigned char)text[i])
            return 0;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (at >= map->n_units)
            return damaged(err);
        size_t begin = map->unit[at] & ~(1u << 31);
        if (begin > map->n_texts || (begin < map->n_texts && ((unsigned char)map->texts[begin] & 0xc0) == 0x80))
            return damaged(err);
        *found = map->texts + begin;
        *len = strnlen(*found, map->n_texts - begin);
        return 1;
    }
    return 0;
}

static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

/* new for old. The changes are what the library says they are, also where nothing is left to carry them. */
static int replace(struct rewriting *out, const char *old, size_t n_old, const char *new, size_t n_new, struct err *err)
{
    size_t before = count_characters(old, n_old), after = count_characters(new, n_new), k = 0;
    int rc = 0;
    for (size_t at = 0; !rc && at < n_new; k++) {
        uint32_t cp = 0;
        at += utf8_decode(new + at, n_new - at, &cp);
        rc = rewriting_add(out, cp, k >= before, err);
    }
    if (!rc && after < before && out->n)
        out->item[out->n - 1].change -= (int32_t)(before - after);
    return rc;
}

static int add_characters(const struct charsmap *map, const char *text, size_t n, struct rewriting *out,
                          struct err *err)
{
    const char *found = NULL;
    size_t len = 0;
    int rc = 0;
    for (size_t at = 0, k; rc >= 0 && at < n; at += k) {
        uint32_t cp = 0;
        k = utf8_decode(text + at, n - at, &cp);
        rc = look_up(map, text + at, k, &found, &len, err);
        if (rc > 0)
            rc = replace(out, text + at, k, found, len, err);
        else if (!rc)
            rc = rewriting_add(out, cp, 0, err);
    }
    return rc;
}

int charsmap_normalize(const struct charsmap *map, const char *text, size_t n, struct rewriting *out, struct err *err)
{
    const char *found = NULL;
    size_t len = 0;
    int rc = 0;
    for (size_t at = 0, end; rc >= 0 && at < n; at = end) {
        end = cluster_end(text, at, n);
        rc = end - at <= LONGEST_CLUSTER ? look_up(map, text + at, end - at, &found, &len, err) : 0;
        if (rc > 0)
            rc = replace(out, text + at, end - at, found, len, err);
        else if (!rc)
            rc = add_characters(map, text + at, end - at, out, err);
    }
    return rc;
}
