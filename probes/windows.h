/*
 * Windows of layers around or above a layer, as the published programs count
 * them. `begin` is the first layer, `end` the one after the last; equal: empty.
 *
 *     struct layer_window w = window_around(20, 9, 48);   // 16 .. 24
 *
 * window_around: max(0, l - w/2) .. min(L, l + ceil(w/2)) - 1 with integer w/2, so an odd window is centred (9: l-4 ..
 * l+4) and an even one has its extra layer below (10: l-5 .. l+4), as in the programs of Geva et al. 2023 and Meng et
 * al. 2022 (whose text says l-4 .. l+5). Cut at both ends of the model.
 */
#ifndef STRATA_PROBES_WINDOWS_H
#define STRATA_PROBES_WINDOWS_H

#include <stddef.h>

struct layer_window {
    size_t begin, end;
};

static inline struct layer_window window_around(size_t layer, size_t size, size_t n_layers)
{
    size_t below = size / 2, end = layer + (size - below);
    return (struct layer_window){ layer > below ? layer - below : 0, end < n_layers ? end : n_layers };
}

/* `size` layers from `layer` on, none of them at or above `limit`. */
static inline struct layer_window window_above(size_t layer, size_t size, size_t limit)
{
    size_t end = size < limit ? layer + size : limit;
    return (struct layer_window){ layer < limit ? layer : limit, end < limit ? end : limit };
}

#endif
