/* The vocabulary: spelling to id, id to bytes; and GPT-2's letters for bytes. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF stand for themselves, the other 68 bytes for U+0100 onwards. */
static bool is_own_letter(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static uint32_t letter_of(unsigned byte)
{
    if (is_own_letter(byte))
        return byte;
    if (byte <= ' ')
        return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7f);
}

size_t byte_letter(unsigned char byte, char out[4])
{
    return utf8_encode(letter_of(byte), out);
}

static int byte_of(uint32_t letter)
{
    if (letter < 0x100)
        return is_own_letter(letter) ? (int)letter : -1;
    if (letter <= 0x120)
        return (int)letter - 0x100;
    if (letter <= 0x142)
        return (int)letter - 0x121 + 0x7f;
    return letter == 0x143 ? 0xad : -1;
}

size_t bytes_of_letters(const char *text, size_t n, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(text + i, n - i, &cp);
        int byte = k ? byte_of(cp) : -1;
        if (byte < 0)
            return SIZE_MAX;
        out[n_out++] = (char)byte;
        i += k;
    }
    return n_out;
}

static int too_large(const char *where, int32_t id, size_t n, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: token id %d is too large for a vocabulary of %zu tokens", where, (int)id, n);
}

static int enter(struct vocab *v, const struct vocab_entry *entry, const char *where, struct err *err)
{
    struct token_text *t = &v->token[entry->id];
    uint32_t first;
    if (t->text)
        return err_set(err, ERR_FORMAT, "%s: tokens '%.*s' and '%.*s' have the same id %d", where, (int)t->len, t->text,
                       (int)entry->len, entry->text, (int)entry->id);
    if (strmap_put(&v->by_text, entry->text, entry->len, (uint32_t)entry->id, &first))
        return err_nomem(err, "the vocabulary");
    if (first != (uint32_t)entry->id)
        return err_set(err, ERR_FORMAT, "%s: token '%.*s' is given twice, as %u and as %d", where, (int)entry->len,
                       entry->text, (unsigned)first, (int)entry->id);
    v->longest = entry->len > v->longest ? entry->len : v->longest;
    *t = (struct token_text){ .text = entry->text, .len = entry->len };
    return 0;
}

int vocab_init(struct vocab *v, char *texts, size_t texts_len, const struct vocab_entry *entries, size_t n,
               const char *where, struct err *err)
{
    int32_t largest = -1;
    int rc = 0;
    memset(v, 0, sizeof *v);
    v->texts = texts;
    v->texts_len = texts_len;
    for (size_t i = 0; i < n; i++)
        if (entries[i].id > largest)
            largest = entries[i].id;
    if (n > INT32_MAX || (size_t)largest + 1 > n + VOCAB_MOST_GAPS)
        return too_large(where, largest, n, err);
    v->n = (size_t)largest + 1;
    v->n_used = n;
    v->capacity = v->n;
    v->token = mem_zeroed(v->n, sizeof *v->token);
    if (!v->token || strmap_init(&v->by_text, n) || strmap_init(&v->by_content, 16))
        return err_nomem(err, "the vocabulary");
    for (size_t i = 0; !rc && i < n; i++)
        rc = enter(v, &entries[i], where, err);
    return rc;
}

int vocab_reserve(struct vocab *v, int32_t id, struct err *err)
{
    size_t need = (size_t)id + 1;
    if (need <= v->n)
        return 0;
    if (!mem_grow(&v->token, &v->capacity, need, sizeof *v->token))
        return err_nomem(err, "the vocabulary");
    memset(v->token + v->n, 0, (need - v->n) * sizeof *v->token);
    v->n = need;
    return 0;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t len)
{
    uint32_t id;
    return strmap_get(&v->by_text, text, len, &id) ? (int32_t)id : -1;
}

void byte_token(unsigned char byte, char out[BYTE_TOKEN_LEN + 1])
{
    snprintf(out, BYTE_TOKEN_LEN + 1, "<0x%02X>", byte);
}

/* The byte that "<0x0A>" stands for, or -1. */
static int byte_of_token(const char *text, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    if (n != BYTE_TOKEN_LEN || memcmp(text, "<0x", 3) || text[5] != '>')
        return -1;
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high && low ? (int)((high - digits) << 4 | (low - digits)) : -1;
}

enum { METASPACE_LEN = sizeof METASPACE - 1 };

static size_t bytes_of_metaspace(const char *text, size_t n, char *out)
{
    int byte = byte_of_token(text, n);
    size_t n_out = 0;
    if (byte >= 0) {
        *out = (char)byte;
        return 1;
    }
    for (size_t i = 0; i < n; n_out++)
        if (n - i >= METASPACE_LEN && !memcmp(text + i, METASPACE, METASPACE_LEN)) {
            out[n_out] = ' ';
            i += METASPACE_LEN;
        } else
            out[n_out] = text[i++];
    return n_out;
}

int vocab_spell(struct vocab *v, enum spelling spelling, struct err *err)
{
    char *at = v->bytes = mem_array(v->texts_len + 1, 1);
    if (!at)
        return err_nomem(err, "the vocabulary");
    for (size_t i = 0; i < v->n; i++) {
        struct token_text *t = &v->token[i];
        if (!t->text || t->added)
            continue;
        size_t n = spelling == SPELT_BYTE_LEVEL  ? bytes_of_letters(t->text, t->len, at)
                   : spelling == SPELT_METASPACE ? bytes_of_metaspace(t->text, t->len, at)
                                                 : SIZE_MAX;
        if (n == SIZE_MAX) { /* plain, or no letters: as it is spelt */
            t->bytes = t->text, t->n_bytes = t->len;
            continue;
        }
        t->bytes = at, t->n_bytes = (uint32_t)n;
        at += n;
    }
    return 0;
}

static int32_t find_spelt(const struct vocab *v, enum spelling spelling, const char *bytes, size_t len, char *room)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        if (spelling == SPELT_BYTE_LEVEL)
            n += byte_letter((unsigned char)bytes[i], room + n);
        else if (bytes[i] == ' ') {
            memcpy(room + n, METASPACE, METASPACE_LEN);
            n += METASPACE_LEN;
        } else
            room[n++] = bytes[i];
    int32_t found = vocab_find(v, room, n);
    if (found < 0 && spelling == SPELT_METASPACE && len == 1) {
        char token[BYTE_TOKEN_LEN + 1];
        byte_token((unsigned char)*bytes, token);
        found = vocab_find(v, token, BYTE_TOKEN_LEN);
    }
    return found;
}

static bool stands_for(const struct vocab *v, int32_t id, const char *bytes, size_t len)
{
    return id >= 0 && !v->token[id].added && v->token[id].n_bytes == len && !memcmp(v->token[id].bytes, bytes, len);
}

int32_t vocab_find_bytes(const struct vocab *v, enum spelling spelling, const char *bytes, size_t len)
{
    char *room = len <= v->longest ? mem_array(len, 4) : NULL;
    if (!room)
        return -1;
    int32_t found = find_spelt(v, spelling, bytes, len, room);
    free(room);
    if (!stands_for(v, found, bytes, len))
        found = vocab_find(v, bytes, len); /* one that is spelt otherwise */
    return stands_for(v, found, bytes, len) ? found : -1;
}

void vocab_release(struct vocab *v)
{
    strmap_release(&v->by_text);
    strmap_release(&v->by_content);
    free(v->token);
    free(v->texts);
    free(v->bytes);
}
