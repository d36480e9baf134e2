/* GGUF: every check of the reader has a file that it refuses, and honest files open. */
#include "core/base/mem.h"
#include "core/formats/gguf.h"
#include "tests/unit/make_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct gguf_maker maker(void)
{
    return (struct gguf_maker){ .version = 3, .alignment = 32 };
}

/* Opens a copy of exactly n bytes, which *copy keeps alive. */
static int open_bytes(struct gguf **g, const void *bytes, size_t n, void **copy, struct err *err)
{
    struct file_map map;
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    memcpy(*copy, bytes, n);
    assert_int_equal(file_map_memory(&map, "f.gguf", *copy, n, err), 0);
    return gguf_open(g, &map, err);
}

static struct gguf *open_made(struct gguf_maker *m, void **copy)
{
    struct strbuf file = gguf_made(m);
    struct gguf *g = NULL;
    struct err err = { 0 };
    if (open_bytes(&g, file.data, file.len, copy, &err))
        fail_msg("%s", err.msg);
    strbuf_release(&file);
    return g;
}

static void assert_bytes_refused(const void *bytes, size_t n, const char *message)
{
    struct gguf *g = NULL;
    struct err err = { 0 };
    void *copy;
    int rc = open_bytes(&g, bytes, n, &copy, &err);
    if (!rc)
        fail_msg("accepted, but should say: %s", message);
    assert_null(g);
    assert_int_equal(rc, err.code);
    assert_true(!strncmp(err.msg, "f.gguf: ", 8));
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    free(copy);
}

static void assert_refused(struct gguf_maker *m, const char *message)
{
    struct strbuf file = gguf_made(m);
    assert_bytes_refused(file.data, file.len, message);
    strbuf_release(&file);
}

static const float floats[64] = { 1, 2, 3, 4, 5, 6 };

static void put_everything(struct gguf_maker *m)
{
    static const char *const words[] = { "", "b", "a long one" };
    gguf_put_string(m, "general.architecture", "llama");
    gguf_put(m, "u8", 0, "\xff", 1);
    gguf_put(m, "i8", 1, "\xff", 1);
    gguf_put(m, "u16", 2, "\xff\xff", 2);
    gguf_put(m, "i16", 3, "\xff\xff", 2);
    gguf_put_u32(m, "u32", 0xffffffff);
    gguf_put(m, "i32", 5, "\xfe\xff\xff\xff", 4);
    gguf_put_f32(m, "f32", 1.5F);
    gguf_put_bool(m, "bool", 1);
    gguf_put(m, "u64", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    gguf_put(m, "i64", 11, "\0\0\0\0\0\0\0\x80", 8);
    double x = -2.25;
    gguf_put(m, "f64", 12, &x, 8);
    gguf_put_strings(m, "words", words, 3);
    gguf_put(m, "shorts", 9, "\2\0\0\0\2\0\0\0\0\0\0\0\1\0\2\1", 16);
    gguf_put(m, "none", 9, "\4\0\0\0\0\0\0\0\0\0\0\0", 12);
    gguf_put_f32(m, "nan", NAN);
    gguf_put_tensor(m, "matrix", 0, 2, (uint64_t[]){ 3, 2 }, floats, 24);
    gguf_put_tensor(m, "halves", 1, 1, (uint64_t[]){ 4 }, "\0\x3c\0\xc0\0\0\0\0", 8);
    gguf_put_tensor(m, "blocks", 2, 2, (uint64_t[]){ 32, 3 }, floats, 54);
}

static void sizes_of_every_width_are_read(void **state)
{
    (void)state;
    struct gguf_maker m = maker();
    put_everything(&m);
    void *copy;
    struct gguf *g = open_made(&m, &copy);
    static const struct {
        const char *key;
        bool readable;
        double value;
    } cases[] = {
        { "u8", true, 255 },           { "i8", false, -1 },     { "u16", true, 65535 },  { "i16", false, -1 },
        { "u32", true, 4294967295.0 }, { "i32", false, -2 },    { "u64", true, 0x1p64 }, { "i64", false, -0x1p63 },
        { "f32", false, 1.5 },         { "f64", false, -2.25 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = 0;
        double x;
        struct err err = { 0 };
        assert_true(gguf_has(g, cases[i].key));
        assert_int_equal(gguf_get_size(g, cases[i].key, 0, SIZE_MAX, &n, &err) == 0, cases[i].readable);
        if (cases[i].readable)
            assert_true((double)n == cases[i].value);
        assert_int_equal(gguf_get_number_or(g, cases[i].key, 0, &x, &err), 0);
        assert_true(x == cases[i].value);
    }
    size_t n;
    double x;
    struct err err = { 0 };
    assert_int_equal(gguf_get_size(g, "u8", 0, 254, &n, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "f.gguf: key u8 is 255, it must be from 0 to 254");
    assert_int_equal(gguf_get_size(g, "i32", 0, 9, &n, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "is -2"));
    assert_int_equal(gguf_get_size(g, "absent", 0, 9, &n, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "key absent is missing"));
    assert_int_equal(gguf_get_size_or(g, "absent", 0, 9, 4, &n, &err), 0);
    assert_int_equal(n, 4);
    assert_int_equal(gguf_get_size_or(g, "shorts", 0, 9, 4, &n, &err), ERR_FORMAT);
    assert_int_equal(gguf_get_number_or(g, "nan", 0, &x, &err), ERR_NUMERIC);
    assert_int_equal(gguf_get_number_or(g, "bool", 0, &x, &err), ERR_FORMAT);
    gguf_free(g);
    free(copy);
}

static void strings_bools_and_arrays_are_read(void **state)
{
    (void)state;
    struct gguf_maker m = maker();
    put_everything(&m);
    void *copy;
    struct gguf *g = open_made(&m, &copy);
    struct err err = { 0 };
    const char *text;
    size_t len;
    bool flag;
    struct gguf_array a;
    double x;
    assert_int_equal(gguf_get_string(g, "general.architecture", &text, &len, &err), 0);
    assert_int_equal(len, 5);
    assert_memory_equal(text, "llama", 5);
    assert_int_equal(gguf_get_string(g, "absent", &text, &len, &err), 0);
    assert_null(text);
    assert_int_equal(gguf_get_string(g, "u8", &text, &len, &err), ERR_FORMAT);
    assert_int_equal(gguf_get_bool_or(g, "bool", false, &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(gguf_get_bool_or(g, "u8", false, &flag, &err), ERR_FORMAT);
    assert_int_equal(gguf_get_array(g, "words", &a, &err), 0);
    assert_int_equal(a.n, 3);
    assert_int_equal(gguf_array_string(&a, 2, &text, &len, &err), 0);
    assert_int_equal(len, 10);
    assert_memory_equal(text, "a long one", 10);
    assert_int_equal(gguf_array_string(&a, 0, &text, &len, &err), 0);
    assert_int_equal(len, 0);
    assert_int_equal(gguf_array_number(&a, 0, &x, &err), ERR_FORMAT);
    assert_int_equal(gguf_get_array(g, "shorts", &a, &err), 0);
    assert_int_equal(gguf_array_number(&a, 1, &x, &err), 0);
    assert_true(x == 258);
    assert_int_equal(gguf_array_string(&a, 0, &text, &len, &err), ERR_FORMAT);
    assert_int_equal(gguf_get_array(g, "none", &a, &err), 0);
    assert_int_equal(a.n, 0);
    assert_int_equal(gguf_get_array(g, "absent", &a, &err), 0);
    assert_true(a.n == 0 && a.type == -1);
    assert_int_equal(gguf_get_array(g, "u8", &a, &err), ERR_FORMAT);
    assert_string_equal(gguf_key(g, 1), "u8");
    assert_null(gguf_key(g, 16));
    gguf_free(g);
    free(copy);
}

static void tensors_come_in_pytorch_order(void **state)
{
    (void)state;
    for (unsigned version = 2; version <= 3; version++)
        for (size_t alignment = 8; alignment <= 64; alignment *= 2) {
            struct gguf_maker m = { .version = version, .alignment = alignment };
            void *copy;
            gguf_put_u32(&m, "general.alignment", (uint32_t)alignment);
            put_everything(&m);
            struct gguf *g = open_made(&m, &copy);
            const struct tensor *t = tensor_set_find(gguf_tensors(g), "matrix");
            assert_int_equal(t->n_dims, 2);
            assert_int_equal(t->dims[0], 2);
            assert_int_equal(t->dims[1], 3);
            float x[96];
            tensor_widen(t, 0, 6, x);
            for (size_t i = 0; i < 6; i++)
                assert_true(x[i] == floats[i]);
            tensor_widen(tensor_set_find(gguf_tensors(g), "halves"), 0, 4, x);
            assert_true(x[0] == 1 && x[1] == -2 && x[2] == 0);
            t = tensor_set_find(gguf_tensors(g), "blocks");
            assert_int_equal(t->bytes, 54);
            tensor_widen(t, 0, 96, x);
            gguf_free(g);
            free(copy);
        }
}

static void a_vocabulary_needs_no_tensors(void **state)
{
    (void)state;
    struct gguf_maker m = maker();
    void *copy;
    gguf_put_string(&m, "general.architecture", "gpt2");
    struct gguf *g = open_made(&m, &copy);
    assert_int_equal(gguf_tensors(g)->n, 0);
    gguf_free(g);
    free(copy);
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    struct gguf_maker m = { .version = 1, .alignment = 32 };
    assert_bytes_refused("", 0, "ends inside the header");
    assert_bytes_refused("GGUX", 4, "is no GGUF file");
    assert_bytes_refused("GGUF\0\0\0\3", 8, "is big-endian");
    assert_refused(&m, "version 1");
    m.version = 4;
    assert_refused(&m, "version 4");
    m.version = 0;
    assert_refused(&m, "version 0");
    m = maker();
    m.n_kvs = UINT64_MAX;
    assert_refused(&m, "too short for the 18446744073709551615 keys");
    m = maker();
    m.n_tensors = (uint64_t)1 << 60;
    assert_refused(&m, "too short");
    m = maker();
    struct strbuf file = STRBUF_INIT; /* many keys, each as short as can be */
    strbuf_adds(&file, "GGUF");
    gguf_number(&file, 3, 4);
    gguf_number(&file, 0, 8);
    gguf_number(&file, 70000, 8);
    for (int i = 0; i < 70000; i++)
        strbuf_add(&file, "\1\0\0\0\0\0\0\0a\7\0\0\0\1", 14);
    assert_bytes_refused(file.data, file.len, "counts 70000 keys and 0 tensors, at most 65536");
    strbuf_release(&file);
    m = maker();
    gguf_put_u32(&m, "a", 1);
    m.n_kvs = 2;
    assert_refused(&m, "");
}

static void bad_metadata_is_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned type;
        const char *bytes;
        size_t n;
        const char *message;
    } values[] = {
        { 13, "", 0, "unknown value type 13" },
        { 0xffffffff, "", 0, "unknown value type 4294967295" },
        { 7, "\2", 1, "truth value 2" },
        { 9, "\7\0\0\0\2\0\0\0\0\0\0\0\1\3", 14, "truth value 3" },
        { 9, "\x0e\0\0\0\0\0\0\0\0\0\0\0", 12, "unknown value type 14" },
        { 9, "\x09\0\0\0\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0", 24, "array of arrays" },
        { 9, "\4\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 12, "ends inside an array" },
        { 9, "\4\0\0\0\0\0\0\0\0\0\0\x40", 12, "ends inside an array" },
        { 9, "\x0c\0\0\0\2\0\0\0\0\0\0\0", 12, "ends inside an array" },
        { 9, "\x08\0\0\0\xff\xff\0\0\0\0\0\0", 12, "ends inside an array" },
        { 9, "\x08\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 20, "an array of strings" },
        { 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "a string value" },
        { 10, "\0\0\0\0", 4, "ends inside" },
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct gguf_maker m = maker();
        gguf_put(&m, "key", values[i].type, values[i].bytes, values[i].n);
        assert_refused(&m, values[i].message);
    }
    struct gguf_maker m = maker();
    gguf_put_u32(&m, "twice", 1);
    gguf_put_bool(&m, "twice", 1);
    assert_refused(&m, "key twice is there twice");
    static const char *const keys[] = { "", "a\nb", "a\x7f", "\xff", "a\x1b[2J" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        m = maker();
        gguf_put_u32(&m, keys[i], 1);
        assert_refused(&m, "key 0 must have 1 to 65535 printable UTF-8 bytes");
    }
    static char longest[65537];
    memset(longest, 'k', 65536);
    m = maker();
    gguf_put_u32(&m, longest, 1);
    assert_refused(&m, "1 to 65535");
}

static void bad_alignments_are_refused(void **state)
{
    (void)state;
    static const uint32_t alignments[] = { 0, 1, 4, 12, 33, 24, 0x80000001 };
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        struct gguf_maker m = maker();
        gguf_put_u32(&m, "general.alignment", alignments[i]);
        assert_refused(&m, "a power of two and a multiple of 8");
    }
    struct gguf_maker m = maker();
    gguf_put(&m, "general.alignment", 10, "\x20\0\0\0\0\0\0\0", 8);
    assert_refused(&m, "must be a u32");
    m = maker();
    gguf_put(&m, "general.alignment", 9, "\4\0\0\0\1\0\0\0\0\0\0\0\x20\0\0\0", 16);
    assert_refused(&m, "must be a u32");
}

static void bad_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned type, n_dims;
        uint64_t dims[5], offset;
        const char *message;
    } tensors[] = {
        { "", 0, 1, { 4 }, 0, "the name of tensor 0" },
        { "a\n", 0, 1, { 4 }, 0, "the name of tensor 0" },
        { "0123456789012345678901234567890123456789012345678901234567890123x", 0, 1, { 4 }, 0, "must have 1 to 64" },
        { "w", 0, 0, { 0 }, 0, "has 0 dimensions" },
        { "w", 0, 5, { 1, 1, 1, 1, 1 }, 0, "has 5 dimensions" },
        { "w", 0, 4000000000, { 0 }, 0, "has 4000000000 dimensions" },
        { "w", 0, 2, { 0, 3 }, 0, "a dimension of 0" },
        { "w", 0, 2, { UINT64_MAX, 3 }, 0, "a dimension of 18446744073709551615" },
        { "w", 0, 2, { (uint64_t)1 << 40, (uint64_t)1 << 40 }, 0, "more elements than memory" },
        { "w", 0, 1, { (uint64_t)1 << 62 }, 0, "more bytes than memory" },
        { "w", 0, 1, { (uint64_t)1 << 61 }, 0, "ends inside tensor \"w\"" },
        { "w", 2, 2, { 16, 2 }, 0, "rows of 16 elements, type Q4_0 needs a multiple of 32" },
        { "w", 12, 2, { 128, 2 }, 0, "type Q4_K needs a multiple of 256" },
        { "w", 4, 1, { 32 }, 0, "Q4_2 (removed)" },
        { "w", 5, 1, { 32 }, 0, "Q4_3 (removed)" },
        { "w", 31, 1, { 32 }, 0, "Q4_0_4_4 (removed)" },
        { "w", 36, 1, { 32 }, 0, "(removed)" },
        { "w", 10, 1, { 256 }, 0, "Q2_K, which cannot be read" },
        { "w", 39, 1, { 32 }, 0, "MXFP4" },
        { "w", 99, 1, { 32 }, 0, "the unknown type 99" },
        { "w", 0xffffffff, 1, { 32 }, 0, "the unknown type" },
        { "w", 0, 1, { 4 }, 16, "no multiple of the alignment 32" },
        { "w", 0, 1, { 4 }, 32, "has offset 32, the tensors before it end at 0" },
        { "w", 0, 1, { 4 }, UINT64_MAX - 31, "the tensors before it end at 0" },
        { "w", 0, 1, { 17 }, 0, "ends inside tensor \"w\"" },
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        struct gguf_maker m = maker();
        unsigned n_dims = tensors[i].n_dims < 5 ? tensors[i].n_dims : 5;
        gguf_put_info(&m, tensors[i].name, tensors[i].type, n_dims, tensors[i].dims, tensors[i].offset);
        if (tensors[i].n_dims > 5) /* the number of dimensions as it stands in the file */
            memcpy(m.infos.data + 8 + strlen(tensors[i].name), &tensors[i].n_dims, 4);
        strbuf_add(&m.data, floats, 64);
        assert_refused(&m, tensors[i].message);
    }
    struct gguf_maker m = maker();
    gguf_put_tensor(&m, "w", 0, 1, (uint64_t[]){ 4 }, floats, 16);
    gguf_put_tensor(&m, "w", 0, 1, (uint64_t[]){ 4 }, floats, 16);
    assert_refused(&m, "\"w\" is there twice");
    m = maker();
    gguf_put_tensor(&m, "v", 0, 1, (uint64_t[]){ 4 }, floats, 16);
    gguf_put_info(&m, "w", 0, 1, (uint64_t[]){ 4 }, 0); /* overlap */
    assert_refused(&m, "\"w\" has offset 0, the tensors before it end at 32");
}

/* Cut anywhere, any bit flipped: an error or a file, never a crash. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct gguf_maker m = maker();
    put_everything(&m);
    struct strbuf file = gguf_made(&m);
    struct err err = { 0 };
    struct gguf *g;
    void *copy;
    size_t padding = 32 - 54 % 32; /* behind the last tensor; other writers leave it out */
    assert_int_equal(open_bytes(&g, file.data, file.len - padding, &copy, &err), 0);
    gguf_free(g);
    free(copy);
    for (size_t n = 0; n < file.len - padding; n++)
        assert_bytes_refused(file.data, n, "");
    for (size_t i = 0; i < file.len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            file.data[i] = (char)(file.data[i] ^ (1 << bit));
            if (!open_bytes(&g, file.data, file.len, &copy, &err))
                gguf_free(g);
            free(copy);
            file.data[i] = (char)(file.data[i] ^ (1 << bit));
        }
    strbuf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_every_width_are_read), cmocka_unit_test(strings_bools_and_arrays_are_read),
        cmocka_unit_test(tensors_come_in_pytorch_order), cmocka_unit_test(a_vocabulary_needs_no_tensors),
        cmocka_unit_test(bad_headers_are_refused),       cmocka_unit_test(bad_metadata_is_refused),
        cmocka_unit_test(bad_alignments_are_refused),    cmocka_unit_test(bad_tensors_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
