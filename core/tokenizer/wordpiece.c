/*
 * WordPiece: from the left, the longest token that the rest of the word starts with; behind the first, those whose text
 * has the prefix "##". A word that has a place without such a token, or too many characters, is one unk.
 */
#include "core/tokenizer/internal.h"

#include "core/base/utf8.h"

#include <string.h>

int wordpiece_init(struct wordpiece *wp, const struct vocab *v, const char *prefix, int32_t unk, size_t most_characters,
                   struct err *err)
{
    int rc = trie_init(&wp->trie, v, err);
    if (rc)
        return rc;
    wp->unk = unk;
    wp->most_characters = most_characters;
    wp->continuing = wp->trie.node;
    for (const char *at = prefix; wp->continuing && *at; at++)
        wp->continuing = trie_child(&wp->trie, wp->continuing, (unsigned char)*at);
    return 0;
}

void wordpiece_release(struct wordpiece *wp)
{
    trie_release(&wp->trie);
}

static size_t count_characters(const char *text, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

/* The longest token below a node that the text starts with, or -1. */
static int32_t longest(const struct wordpiece *wp, const struct trie_node *node, const char *text, size_t n,
                       size_t *len)
{
    int32_t id = -1;
    for (size_t i = 0; i < n && node && (node = trie_child(&wp->trie, node, (unsigned char)text[i]));)
        if (i++, node->id >= 0) {
            id = node->id;
            *len = i;
        }
    return id;
}

int wordpiece_encode(const struct wordpiece *wp, struct work *w, const struct piece *piece, struct err *err)
{
    const char *text = w->bytes + piece->begin;
    size_t n = piece->end - piece->begin, n_before = w->out->n, len = 0;
    bool known = count_characters(text, n) <= wp->most_characters;
    for (size_t at = 0; known && at < n; at += len) {
        int32_t id = longest(wp, at ? wp->continuing : wp->trie.node, text + at, n - at, &len);
        size_t begin = piece->begin + at;
        known = id >= 0;
        int rc =
            !known ? 0 : tokens_add(w->out, id, work_origin(w, begin), work_origin_end(w, begin, begin + len), err);
        if (rc)
            return rc;
    }
    if (known)
        return 0;
    w->out->n = n_before;
    return tokens_add(w->out, wp->unk, work_origin(w, piece->begin), work_origin_end(w, piece->begin, piece->end), err);
}
