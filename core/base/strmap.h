/*
 * Hash map from byte strings to uint32. Keys are borrowed: their bytes must
 * outlive the map. Keyed SipHash-1-3, so that a hostile vocabulary cannot make
 * look-ups quadratic.
 *
 *     struct strmap map;
 *     if (strmap_init(&map, 50000))           // expected number of keys
 *         return err_nomem(err, "vocabulary");
 *     strmap_put(&map, "the", 3, 42, NULL);
 *     uint32_t id;
 *     if (strmap_get(&map, "the", 3, &id)) ...
 *     strmap_release(&map);
 *
 * Reading from several threads at once is safe.
 */
#ifndef STRATA_BASE_STRMAP_H
#define STRATA_BASE_STRMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strmap_slot {
    const char *key; /* NULL: free */
    uint32_t len, value;
    uint64_t hash;
};

struct strmap {
    struct strmap_slot *slots;
    size_t n, mask; /* mask + 1 slots, a power of two */
    uint64_t seed[2];
};

/* 0, or ERR_NOMEM. */
int strmap_init(struct strmap *map, size_t expected);
/*
 * Adds key -> value unless the key is there. Returns 0, or ERR_NOMEM.
 * *existing (may be NULL) receives the value that stands after the call.
 */
int strmap_put(struct strmap *map, const char *key, size_t len, uint32_t value, uint32_t *existing);
bool strmap_get(const struct strmap *map, const char *key, size_t len, uint32_t *value);
void strmap_release(struct strmap *map);

#endif
