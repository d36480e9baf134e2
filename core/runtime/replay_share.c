/*
 * Variants that begin alike: below the first layer in which their edits differ, a later one's rows are those of an
 * earlier one, and it leaves them there. Windows that begin at the same layer are such variants.
 */
#include "core/runtime/internal.h"

#include <string.h>

enum { SHARE_AMONG = 64 }; /* how far back an earlier variant is looked for */

/* Equal but for their last layers; values that come from elsewhere count as different. */
static bool alike(const struct row_edit *a, const struct row_edit *b, size_t n_tokens)
{
    const struct edit *e = a->edit, *f = b->edit;
    if (e->site != f->site || e->first_layer != f->first_layer || e->op != f->op || e->n_units != f->n_units)
        return false;
    if (e->source != EDIT_FROM_NUMBER || f->source != EDIT_FROM_NUMBER || e->value < f->value || e->value > f->value)
        return false;
    if (e->n_units && memcmp(e->units, f->units, e->n_units * sizeof *e->units))
        return false;
    return !memcmp(a->at, b->at, n_tokens) && (!a->keys || !memcmp(a->keys, b->keys, n_tokens));
}

/* The first layer that the edits of two variants of one run may change differently; SIZE_MAX: none. */
static size_t differ_from(const struct sequence *a, const struct sequence *b)
{
    size_t layer = SIZE_MAX;
    for (size_t i = a->n_base_edits; i < a->n_edits || i < b->n_edits; i++) {
        const struct row_edit *x = i < a->n_edits ? &a->resolved[i] : NULL;
        const struct row_edit *y = i < b->n_edits ? &b->resolved[i] : NULL;
        size_t from;
        if (x && y && alike(x, y, a->prompt->n_tokens)) {
            size_t p = x->edit->last_layer, q = y->edit->last_layer;
            from = p == q ? SIZE_MAX : (p < q ? p : q) + 1;
        } else {
            size_t p = x ? x->edit->first_layer : SIZE_MAX, q = y ? y->edit->first_layer : SIZE_MAX;
            from = p < q ? p : q;
        }
        layer = from < layer ? from : layer;
    }
    return layer;
}

void replay_find_parent(const struct sequence *sequences, size_t n, size_t most, struct sequence *s)
{
    s->parent = s->split = 0;
    for (size_t i = n; i-- > 0 && n - i <= SHARE_AMONG;) {
        const struct sequence *p = &sequences[i];
        size_t layer = p->run == s->run ? differ_from(p, s) : 0;
        layer = layer < most ? layer : most;
        /* Its rows must be there in the layer before. */
        if (layer > p->split && layer > s->split) {
            s->parent = i;
            s->split = layer;
        }
    }
}
