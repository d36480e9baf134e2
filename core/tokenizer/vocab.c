/* The vocabulary: spelling to id, id to bytes; and GPT-2's letters for bytes. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

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

/* Enters one token; its bytes go to *at, which moves on. */
static int enter(struct vocab *v, const struct vocab_entry *entry, char **at, const char *where, struct err *err)
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
    size_t n = bytes_of_letters(entry->text, entry->len, *at);
    if (n == SIZE_MAX) { /* `tokenizers` decodes such a token as it is spelt, too */
        t->bytes = t->text, t->n_bytes = t->len;
        return 0;
    }
    t->bytes = *at, t->n_bytes = (uint32_t)n;
    *at += n;
    return 0;
}

int vocab_init(struct vocab *v, char *texts, size_t texts_len, const struct vocab_entry *entries, size_t n,
               const char *where, struct err *err)
{
    int32_t largest = -1;
    int rc = 0;
    memset(v, 0, sizeof *v);
    v->texts = texts;
    for (size_t i = 0; i < n; i++)
        if (entries[i].id > largest)
            largest = entries[i].id;
    if (n > INT32_MAX || (size_t)(largest + 1) > n + VOCAB_MOST_GAPS)
        return too_large(where, largest, n, err);
    v->n = (size_t)(largest + 1);
    v->n_used = n;
    v->capacity = v->n;
    v->token = mem_zeroed(v->n, sizeof *v->token);
    v->bytes = mem_array(texts_len + 1, 1);
    if (!v->token || !v->bytes || strmap_init(&v->by_text, n) || strmap_init(&v->by_content, 16))
        return err_nomem(err, "the vocabulary");
    char *at = v->bytes;
    for (size_t i = 0; !rc && i < n; i++)
        rc = enter(v, &entries[i], &at, where, err);
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

void vocab_release(struct vocab *v)
{
    strmap_release(&v->by_text);
    strmap_release(&v->by_content);
    free(v->token);
    free(v->texts);
    free(v->bytes);
}
