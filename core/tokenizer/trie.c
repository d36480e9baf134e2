/* A trie of the vocabulary: the tokens that a text starts with are found in one walk over its bytes. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

struct sorted_token {
    const char *text;
    uint32_t len;
    int32_t id;
};

static int compare(const void *a, const void *b)
{
    const struct sorted_token *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The tokens below a node: a range of the sorted ones, which agree in their first depth bytes. */
struct trie_range {
    uint32_t begin, end, depth;
};

/* Nodes level by level, so that the children of one lie together. */
static int build(struct trie *t, const struct sorted_token *token, size_t n, size_t n_most, struct err *err)
{
    struct trie_range *range = mem_array(n_most, sizeof *range);
    t->node = mem_array(n_most, sizeof *t->node);
    if (!range || !t->node) {
        free(range);
        return err_nomem(err, "the vocabulary");
    }
    t->node[0] = (struct trie_node){ .id = -1 };
    range[0] = (struct trie_range){ 0, (uint32_t)n, 0 };
    size_t n_nodes = 1;
    for (size_t i = 0; i < n_nodes; i++) {
        struct trie_range r = range[i];
        t->node[i].children = (uint32_t)n_nodes;
        if (r.begin < r.end && token[r.begin].len == r.depth)
            t->node[i].id = token[r.begin++].id;
        while (r.begin < r.end) {
            unsigned char label = (unsigned char)token[r.begin].text[r.depth];
            uint32_t end = r.begin;
            while (end < r.end && (unsigned char)token[end].text[r.depth] == label)
                end++;
            t->node[n_nodes] = (struct trie_node){ .id = -1, .label = label };
            range[n_nodes++] = (struct trie_range){ r.begin, end, r.depth + 1 };
            t->node[i].n_children++;
            r.begin = end;
        }
    }
    free(range);
    return 0;
}

int trie_init(struct trie *t, const struct vocab *v, struct err *err)
{
    struct sorted_token *token = mem_array(v->n, sizeof *token);
    size_t n = 0, n_most = 1;
    if (!token)
        return err_nomem(err, "the vocabulary");
    for (size_t i = 0; i < v->n; i++)
        if (v->token[i].text) {
            token[n++] = (struct sorted_token){ v->token[i].text, v->token[i].len, (int32_t)i };
            n_most += v->token[i].len;
        }
    qsort(token, n, sizeof *token, compare);
    int rc = n_most <= UINT32_MAX ? build(t, token, n, n_most, err) : err_nomem(err, "the vocabulary");
    free(token);
    return rc;
}

void trie_release(struct trie *t)
{
    free(t->node);
}

const struct trie_node *trie_child(const struct trie *t, const struct trie_node *node, unsigned char label)
{
    const struct trie_node *low = t->node + node->children, *high = low + node->n_children;
    while (low < high) {
        const struct trie_node *middle = low + (high - low) / 2;
        if (middle->label < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->node + node->children + node->n_children && low->label == label ? low : NULL;
}
