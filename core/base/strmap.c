#include "core/base/strmap.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static inline uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

#define SIP_ROUND(v)                                                                                                   \
    do {                                                                                                               \
        v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);                                             \
        v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];                                                                    \
        v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];                                                                    \
        v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);                                             \
    } while (0)

/* SipHash-1-3 (Aumasson, Bernstein 2012), the variant that Rust's and Ruby's maps use. */
static uint64_t hash_bytes(const uint64_t seed[2], const char *key, size_t len)
{
    uint64_t v[4] = { seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du, seed[0] ^ 0x6c7967656e657261u,
                      seed[1] ^ 0x7465646279746573u };
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t m;
        memcpy(&m, key + i, 8);
        v[3] ^= m;
        SIP_ROUND(v);
        v[0] ^= m;
    }
    uint64_t last = (uint64_t)len << 56;
    for (int shift = 0; i < len; i++, shift += 8)
        last |= (uint64_t)(unsigned char)key[i] << shift;
    v[3] ^= last;
    SIP_ROUND(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    SIP_ROUND(v);
    SIP_ROUND(v);
    SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int strmap_init(struct strmap *map, size_t expected)
{
    size_t slots = 16;
    memset(map, 0, sizeof *map);
    if (expected > SIZE_MAX / 64)
        return ERR_NOMEM;
    while (slots < expected * 2)
        slots *= 2;
    map->slots = mem_zeroed(slots, sizeof *map->slots);
    if (!map->slots)
        return ERR_NOMEM;
    map->mask = slots - 1;
    if (getrandom(map->seed, sizeof map->seed, GRND_NONBLOCK) != (ssize_t)sizeof map->seed) {
        map->seed[0] = (uint64_t)time(NULL);
        map->seed[1] = (uint64_t)(uintptr_t)map->slots;
    }
    return 0;
}

static struct strmap_slot *find(const struct strmap *map, const char *key, size_t len, uint64_t hash)
{
    for (size_t i = hash & map->mask;; i = (i + 1) & map->mask) {
        struct strmap_slot *slot = &map->slots[i];
        if (!slot->key || (slot->hash == hash && slot->len == len && !memcmp(slot->key, key, len)))
            return slot;
    }
}

static int grow(struct strmap *map)
{
    struct strmap bigger = *map;
    bigger.mask = map->mask * 2 + 1;
    bigger.slots = mem_zeroed(bigger.mask + 1, sizeof *bigger.slots);
    if (!bigger.slots)
        return ERR_NOMEM;
    for (size_t i = 0; i <= map->mask; i++)
        if (map->slots[i].key)
            *find(&bigger, map->slots[i].key, map->slots[i].len, map->slots[i].hash) = map->slots[i];
    free(map->slots);
    *map = bigger;
    return 0;
}

int strmap_put(struct strmap *map, const char *key, size_t len, uint32_t value, uint32_t *existing)
{
    if (len > UINT32_MAX || ((map->n + 1) * 2 > map->mask + 1 && grow(map)))
        return ERR_NOMEM;
    uint64_t hash = hash_bytes(map->seed, key, len);
    struct strmap_slot *slot = find(map, key, len, hash);
    if (!slot->key) {
        *slot = (struct strmap_slot){ key, (uint32_t)len, value, hash };
        map->n++;
    }
    if (existing)
        *existing = slot->value;
    return 0;
}

bool strmap_get(const struct strmap *map, const char *key, size_t len, uint32_t *value)
{
    if (!map->slots)
        return false;
    const struct strmap_slot *slot = find(map, key, len, hash_bytes(map->seed, key, len));
    if (!slot->key)
        return false;
    *value = slot->value;
    return true;
}

void strmap_release(struct strmap *map)
{
    free(map->slots);
    memset(map, 0, sizeof *map);
}
