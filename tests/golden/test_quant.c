/* Quantised blocks to float32 against gguf-py's own results, bit for bit, in every instruction set. */
#include "core/base/file.h"
#include "core/formats/dequant_isa.h"
#include "core/formats/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

static const char path[] = "tests/golden/quant/blocks.bin";

/* One record of the file (make_quant_references.py); pointers into the map, unaligned. */
struct record {
    char name[17];
    size_t n_bytes, n_values;
    const unsigned char *blocks, *values;
};

static uint32_t u32(const unsigned char *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Moves *at behind the record. */
static struct record next_record(const struct file_map *map, size_t *at)
{
    struct record r = { .name = "" };
    const unsigned char *p = map->data + *at;
    assert_true(*at + 24 <= map->size);
    memcpy(r.name, p, 16);
    r.n_bytes = u32(p + 16);
    r.n_values = u32(p + 20);
    r.blocks = p + 24;
    r.values = r.blocks + r.n_bytes;
    *at += 24 + r.n_bytes + 4 * r.n_values;
    assert_true(*at <= map->size);
    return r;
}

static struct file_map open_records(size_t *n)
{
    struct file_map map;
    struct err err = { 0 };
    if (file_map_open(&map, path, &err))
        fail_msg("%s", err.msg);
    assert_true(map.size > 16);
    assert_memory_equal(map.data, "STRQUANT", 8);
    assert_int_equal(u32(map.data + 8), 1);
    *n = u32(map.data + 12);
    return map;
}

static enum dtype dtype_of(const char *name)
{
    for (enum dtype t = 0; t < N_DTYPES; t++)
        if (!strcmp(dtype_name(t), name))
            return t;
    fail_msg("no type %s", name);
    return N_DTYPES;
}

/* Index of the first value whose bits differ, or n. */
static size_t first_difference(const float *a, const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + 4 * i, 4))
            return i;
    return n;
}

struct level {
    const char *isa, *type;
    dequant_blocks *run;
};

static const struct level levels[] = {
#define X(type) { "base", #type, dequant_##type##_base },
    DEQUANT_TYPES(X)
#undef X
#if defined(__x86_64__)
#define X(type) { "v3", #type, dequant_##type##_v3 },
        DEQUANT_TYPES(X)
#undef X
#define X(type) { "v4", #type, dequant_##type##_v4 },
            DEQUANT_TYPES(X)
#undef X
#endif
};

static bool runs_here(const char *isa)
{
    enum isa level = !strcmp(isa, "v4") ? ISA_LEVEL_V4 : !strcmp(isa, "v3") ? ISA_LEVEL_V3 : ISA_LEVEL_BASE;
    return level <= isa_level();
}

static void blocks_equal_gguf_py_in_every_instruction_set(void **state)
{
    (void)state;
    size_t n, at = 16, checked = 0;
    struct file_map map = open_records(&n);
    assert_int_equal(n, 9);
    for (size_t i = 0; i < n; i++) {
        struct record r = next_record(&map, &at);
        enum dtype type = dtype_of(r.name);
        size_t n_blocks = r.n_bytes / dtype_block_bytes(type);
        assert_int_equal(r.n_values, n_blocks * dtype_block_elements(type));
        float *x = calloc(r.n_values, sizeof *x);
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
            if (strcasecmp(levels[l].type, r.name) || !runs_here(levels[l].isa))
                continue;
            levels[l].run(x, r.blocks, n_blocks);
            size_t bad = first_difference(x, r.values, r.n_values);
            if (bad < r.n_values)
                fail_msg("%s (%s): value %zu is %.9g", r.name, levels[l].isa, bad, (double)x[bad]);
            checked++;
        }
        free(x);
    }
    assert_int_equal(at, map.size);
    assert_true(checked >= n);
    file_map_close(&map);
}

/* Any run of whole blocks, also at odd addresses, is the same as in one go. */
static void parts_of_a_tensor_widen_alike(void **state)
{
    (void)state;
    size_t n, at = 16;
    struct file_map map = open_records(&n);
    for (size_t i = 0; i < n; i++) {
        struct record r = next_record(&map, &at);
        enum dtype type = dtype_of(r.name);
        size_t block = dtype_block_elements(type);
        unsigned char *shifted = malloc(r.n_bytes + 1);
        float *x = calloc(r.n_values, sizeof *x);
        memcpy(shifted + 1, r.blocks, r.n_bytes);
        struct tensor t = { .name = "t", .dtype = type, .n = r.n_values, .data = shifted + 1, .bytes = r.n_bytes };
        for (size_t first = 0; first < r.n_values; first += block) {
            tensor_widen(&t, first, block, x);
            assert_int_equal(first_difference(x, r.values + 4 * first, block), block);
        }
        free(shifted);
        free(x);
    }
    file_map_close(&map);
}

/* Every byte of a block matters: one that is changed must be seen somewhere. */
static void every_byte_of_a_block_is_read(void **state)
{
    (void)state;
    size_t n, at = 16;
    struct file_map map = open_records(&n);
    for (size_t i = 0; i < n; i++) {
        struct record r = next_record(&map, &at);
        enum dtype type = dtype_of(r.name);
        size_t bytes = dtype_block_bytes(type), elements = dtype_block_elements(type);
        unsigned char block[256];
        float x[256];
        struct tensor t = { .name = "t", .dtype = type, .n = elements, .data = block, .bytes = bytes };
        for (size_t b = 0; b < bytes; b++) {
            /* The second random block: its scales are neither zero nor subnormal. */
            size_t which = r.n_bytes / bytes - 1;
            memcpy(block, r.blocks + which * bytes, bytes);
            block[b] ^= 0x11;
            tensor_widen(&t, 0, elements, x);
            if (first_difference(x, r.values + 4 * which * elements, elements) == elements)
                fail_msg("%s: byte %zu of the block is not read", r.name, b);
        }
    }
    file_map_close(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_equal_gguf_py_in_every_instruction_set),
        cmocka_unit_test(parts_of_a_tensor_widen_alike),
        cmocka_unit_test(every_byte_of_a_block_is_read),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
