/*
 * Byte-pair encoding, of bytes or of characters. The pair of lowest rank merges first, the leftmost of equal ones;
 * candidates wait in a heap and symbols form a linked list, so that a word of n bytes takes O(n log n).
 */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct bpe_symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t previous, next;
    uint32_t begin, end;
};

/* A pair that could merge: its left symbol, what it would give. Stale ones are skipped when they come up. */
struct bpe_candidate {
    uint64_t order; /* rank, then position */
    int32_t id;
};

static size_t slot_of(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) ^ bpe->seed; /* the finaliser of MurmurHash3 */
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return (size_t)(x ^ x >> 33) & bpe->mask;
}

static struct merge *find(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    for (size_t i = slot_of(bpe, left, right);; i = (i + 1) & bpe->mask) {
        struct merge *m = &bpe->merge[i];
        if (m->id < 0 || (m->left == left && m->right == right))
            return m;
    }
}

int bpe_init(struct bpe *bpe, const struct vocab *v, size_t n_merges, bool byte_level, struct err *err)
{
    size_t slots = 16;
    while (slots / 2 < n_merges)
        slots *= 2;
    bpe->mask = slots - 1;
    bpe->seed = v->by_text.seed[0]; /* random, so that a hostile file cannot fill one chain */
    bpe->unk = -1;
    bpe->merge = mem_array(slots, sizeof *bpe->merge);
    if (!bpe->merge)
        return err_nomem(err, "the merges");
    for (size_t i = 0; i < slots; i++)
        bpe->merge[i].id = -1;
    bpe->byte_level = byte_level;
    for (int byte = 0; byte < 256; byte++) {
        char text[BYTE_TOKEN_LEN + 1];
        size_t n = BYTE_TOKEN_LEN;
        if (byte_level)
            n = byte_letter((unsigned char)byte, text);
        else
            byte_token((unsigned char)byte, text);
        bpe->byte_id[byte] = vocab_find(v, text, n);
        if (byte < 128)
            bpe->ascii_id[byte] = vocab_find(v, (char[1]){ (char)byte }, 1);
    }
    return 0;
}

int bpe_n_bytes(const struct bpe *bpe)
{
    int n = 0;
    for (int byte = 0; byte < 256; byte++)
        n += bpe->byte_id[byte] >= 0;
    return n;
}

void bpe_release(struct bpe *bpe)
{
    free(bpe->merge);
}

void bpe_put_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    *find(bpe, (uint32_t)left, (uint32_t)right) = (struct merge){ (uint32_t)left, (uint32_t)right, rank, id };
}

int bpe_add_merge(struct bpe *bpe, const struct vocab *v, const char *left, size_t left_len, const char *right,
                  size_t right_len, uint32_t rank, const char *where, struct err *err)
{
    char small[256], *joined = small;
    if (left_len + right_len > sizeof small && !(joined = mem_array(left_len + right_len, 1)))
        return err_nomem(err, "the merges");
    memcpy(joined, left, left_len);
    memcpy(joined + left_len, right, right_len);
    int32_t ids[3] = { vocab_find(v, left, left_len), vocab_find(v, right, right_len),
                       vocab_find(v, joined, left_len + right_len) };
    if (joined != small)
        free(joined);
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0)
        return err_set(err, ERR_FORMAT, "%s: merge %u, '%.*s' with '%.*s': %s is not in the vocabulary", where,
                       (unsigned)rank, (int)left_len, left, (int)right_len, right,
                       ids[0] < 0   ? "the first"
                       : ids[1] < 0 ? "the second"
                                    : "the result");
    bpe_put_merge(bpe, ids[0], ids[1], rank, ids[2]);
    return 0;
}

static int heap_push(struct work *w, struct bpe_candidate c)
{
    if (w->heap_n == w->heap_capacity && !mem_grow(&w->heap, &w->heap_capacity, w->heap_n + 1, sizeof *w->heap))
        return ERR_NOMEM;
    size_t i = w->heap_n++;
    for (; i && c.order < w->heap[(i - 1) / 2].order; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return 0;
}

static struct bpe_candidate heap_pop(struct work *w)
{
    struct bpe_candidate top = w->heap[0], last = w->heap[--w->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap_n; i = child) {
        child += child + 1 < w->heap_n && w->heap[child + 1].order < w->heap[child].order;
        if (last.order <= w->heap[child].order)
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

/* Queues the pair that starts at symbol i, if it merges. */
static int consider(const struct bpe *bpe, struct work *w, int32_t i)
{
    if (i < 0 || w->symbols[i].next < 0)
        return 0;
    const struct merge *m = find(bpe, (uint32_t)w->symbols[i].id, (uint32_t)w->symbols[w->symbols[i].next].id);
    return m->id < 0 ? 0 : heap_push(w, (struct bpe_candidate){ (uint64_t)m->rank << 32 | (uint32_t)i, m->id });
}

/* The symbol at a place: its token, or -1, and how many bytes it takes. */
static int32_t symbol_at(const struct bpe *bpe, const struct vocab *v, const char *text, size_t n, uint32_t *len)
{
    unsigned char first = (unsigned char)*text;
    uint32_t cp;
    *len = 1;
    if (bpe->byte_level)
        return bpe->byte_id[first];
    if (first < 128)
        return bpe->ascii_id[first];
    *len = (uint32_t)utf8_decode(text, n, &cp);
    return vocab_find(v, text, *len);
}

/*
 * One symbol a byte or character. What has no token becomes the tokens of its bytes, or unk; where there is neither it
 * is left out, as in `tokenizers`.
 */
static size_t first_symbols(const struct bpe *bpe, const struct vocab *v, struct work *w, const struct piece *piece)
{
    size_t n = 0;
    bool unk_before = false;
    for (uint32_t at = piece->begin, len; at < piece->end; at += len) {
        int32_t id = symbol_at(bpe, v, w->bytes + at, piece->end - at, &len);
        bool unk = id < 0 && !bpe->byte_fallback;
        if (unk && bpe->unk < 0) {
            w->out->n_dropped += len;
            continue;
        }
        if (unk && unk_before && bpe->fuse_unk)
            w->symbols[n - 1].end = at + len;
        else if (unk || id >= 0) {
            w->symbols[n] = (struct bpe_symbol){ unk ? bpe->unk : id, (int32_t)n - 1, (int32_t)n + 1, at, at + len };
            n++;
        } else
            for (uint32_t i = at; i < at + len; i++, n++)
                w->symbols[n] = (struct bpe_symbol){ bpe->byte_id[(unsigned char)w->bytes[i]], (int32_t)n - 1,
                                                     (int32_t)n + 1, i, i + 1 };
        unk_before = unk;
    }
    if (n)
        w->symbols[n - 1].next = -1;
    return n;
}

static int merge_all(const struct bpe *bpe, struct work *w, size_t n)
{
    int rc = 0;
    w->heap_n = 0;
    for (size_t i = 0; !rc && i + 1 < n; i++)
        rc = consider(bpe, w, (int32_t)i);
    while (!rc && w->heap_n) {
        struct bpe_candidate c = heap_pop(w);
        int32_t i = (int32_t)(uint32_t)c.order;
        struct bpe_symbol *left = &w->symbols[i];
        if (left->id < 0 || left->next < 0)
            continue;
        struct bpe_symbol *right = &w->symbols[left->next];
        if (find(bpe, (uint32_t)left->id, (uint32_t)right->id)->id != c.id)
            continue; /* stale */
        left->id = c.id;
        left->end = right->end;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            w->symbols[left->next].previous = i;
        if (!(rc = consider(bpe, w, left->previous)))
            rc = consider(bpe, w, i);
    }
    return rc;
}

/* The whole piece as one token, by its spelling, so that no token but one of the model can match; -1: none. */
static int whole(const struct bpe *bpe, const struct vocab *v, struct work *w, const struct piece *piece, int32_t *id)
{
    size_t n = piece->end - piece->begin, n_letters = 0;
    *id = -1;
    if (n > v->longest)
        return 0;
    if (!bpe->byte_level) {
        *id = vocab_find(v, w->bytes + piece->begin, n);
        return 0;
    }
    if (!mem_grow(&w->letters, &w->letters_capacity, 4 * n, 1))
        return ERR_NOMEM;
    for (uint32_t at = piece->begin; at < piece->end; at++)
        n_letters += byte_letter((unsigned char)w->bytes[at], w->letters + n_letters);
    *id = vocab_find(v, w->letters, n_letters);
    return 0;
}

int bpe_encode(const struct bpe *bpe, const struct vocab *v, struct work *w, const struct piece *piece, struct err *err)
{
    size_t n = piece->end - piece->begin;
    int32_t id = -1;
    if (bpe->ignore_merges && whole(bpe, v, w, piece, &id))
        return err_nomem(err, "a word");
    if (id >= 0)
        return tokens_add(w->out, id, work_origin(w, piece->begin), work_origin_end(w, piece->begin, piece->end), err);
    if (!mem_grow(&w->symbols, &w->symbols_capacity, n, sizeof *w->symbols))
        return err_nomem(err, "a word");
    n = first_symbols(bpe, v, w, piece);
    int rc = merge_all(bpe, w, n) ? err_nomem(err, "a word") : 0;
    for (int32_t i = n ? 0 : -1; !rc && i >= 0; i = w->symbols[i].next)
        rc = tokens_add(w->out, w->symbols[i].id, work_origin(w, w->symbols[i].begin),
                        work_origin_end(w, w->symbols[i].begin, w->symbols[i].end), err);
    return rc;
}
