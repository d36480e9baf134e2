/*
 * Unigram: the most probable way to cut a piece into tokens (Viterbi). As in `tokenizers`: sums in double from left to
 * right, and of equal paths the one found first stays; a character without a token of its own costs what the least
 * probable token costs and 10 more.
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double UNK_PENALTY = 10;

/* The best path to a place in the piece. */
struct unigram_node {
    double score;
    int32_t id;
    uint32_t begin; /* of its last token; UINT32_MAX: none yet */
    uint32_t next;  /* once the best path is known: where the token from here ends */
};

int unigram_init(struct unigram *u, const struct vocab *v, double *scores, int32_t unk, struct err *err)
{
    double least = INFINITY;
    u->score = scores;
    u->unk = unk;
    for (size_t i = 0; i < v->n; i++)
        if (v->token[i].text)
            least = scores[i] < least ? scores[i] : least;
    u->unk_score = least - UNK_PENALTY;
    for (int byte = 0; byte < 256; byte++) {
        char text[BYTE_TOKEN_LEN + 1];
        byte_token((unsigned char)byte, text);
        u->byte_id[byte] = vocab_find(v, text, BYTE_TOKEN_LEN);
    }
    return trie_init(&u->trie, v, err);
}

void unigram_release(struct unigram *u)
{
    trie_release(&u->trie);
    free(u->score);
}

static void reach(struct unigram_node *node, double score, uint32_t begin, int32_t id)
{
    if (node->begin == UINT32_MAX || score > node->score)
        *node = (struct unigram_node){ .score = score, .id = id, .begin = begin };
}

/* The best path to every place of the text; false when a character has no token and there is no unk. */
static bool find_paths(const struct unigram *u, struct unigram_node *path, const char *text, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        path[i].begin = UINT32_MAX;
    path[0] = (struct unigram_node){ .begin = 0 };
    for (size_t at = 0, len; at < n; at += len) {
        double before = path[at].score;
        const struct trie_node *node = u->trie.node;
        bool alone = false; /* the character has a token of its own */
        uint32_t cp;
        len = utf8_decode(text + at, n - at, &cp);
        for (size_t end = at; end < n && (node = trie_child(&u->trie, node, (unsigned char)text[end]));) {
            end++;
            if (node->id < 0)
                continue;
            reach(&path[end], u->score[node->id] + before, (uint32_t)at, node->id);
            alone |= end == at + len;
        }
        if (alone)
            continue;
        double score = u->unk_score + before;
        if (u->unk < 0 && (path[at + len].begin == UINT32_MAX || score > path[at + len].score))
            return false;
        reach(&path[at + len], score, (uint32_t)at, u->unk);
    }
    return true;
}

/* Text without a token: its bytes, each standing for all of it, or unk. */
static int add_unknown(const struct unigram *u, const struct vocab *v, struct work *w, size_t begin, size_t end,
                       struct err *err)
{
    uint32_t from = work_origin(w, begin), to = work_origin_end(w, begin, end);
    int32_t id = vocab_find(v, w->bytes + begin, end - begin);
    int rc = 0;
    if (id < 0 && !u->byte_fallback)
        id = u->unk;
    if (id >= 0)
        return tokens_add(w->out, id, from, to, err);
    for (size_t i = begin; !rc && i < end; i++)
        rc = tokens_add(w->out, u->byte_id[(unsigned char)w->bytes[i]], from, to, err);
    return rc;
}

static int add_path(const struct unigram *u, const struct vocab *v, struct work *w, const struct piece *piece,
                    struct err *err)
{
    struct unigram_node *path = w->path;
    uint32_t n = piece->end - piece->begin;
    int rc = 0;
    for (uint32_t end = n; end; end = path[end].begin)
        path[path[end].begin].next = end;
    for (uint32_t at = 0, end; !rc && at < n; at = end) {
        size_t begin = piece->begin + at;
        end = path[at].next;
        if (u->unk >= 0 && path[end].id == u->unk) { /* neighbours are one */
            while (end < n && path[path[end].next].id == u->unk)
                end = path[end].next;
            rc = add_unknown(u, v, w, begin, piece->begin + end, err);
        } else
            rc = tokens_add(w->out, path[end].id, work_origin(w, begin), work_origin_end(w, begin, piece->begin + end),
                            err);
    }
    return rc;
}

int unigram_encode(const struct unigram *u, const struct vocab *v, struct work *w, const struct piece *piece,
                   struct err *err)
{
    size_t n = piece->end - piece->begin;
    if (!mem_grow(&w->path, &w->path_capacity, n + 1, sizeof *w->path))
        return err_nomem(err, "a word");
    if (!find_paths(u, w->path, w->bytes + piece->begin, n))
        return err_set(err, ERR_UNSUPPORTED,
                       "the text has a character that the vocabulary lacks, and the tokenizer has no unk token");
    return add_path(u, v, w, piece, err);
}
