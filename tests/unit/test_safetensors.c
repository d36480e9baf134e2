/* safetensors: every check of the reader has a file that it refuses, and honest files open. */
#include "core/base/mem.h"
#include "core/formats/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A file in memory of its exact size, so that the address sanitizer sees a read beyond its end. */
struct bytes {
    unsigned char *data;
    size_t n;
};

static struct bytes make_sized(uint64_t header_length, const char *header, size_t header_n, size_t data_n)
{
    struct bytes b = { malloc(8 + header_n + data_n), 8 + header_n + data_n };
    assert_non_null(b.data);
    for (int i = 0; i < 8; i++)
        b.data[i] = (unsigned char)(header_length >> 8 * i);
    memcpy(b.data + 8, header, header_n);
    for (size_t i = 0; i < data_n; i++)
        b.data[8 + header_n + i] = (unsigned char)i;
    return b;
}

static struct bytes make(const char *header, size_t data_n)
{
    return make_sized(strlen(header), header, strlen(header), data_n);
}

static int add(struct tensor_set *set, const char *name, struct bytes b, struct err *err)
{
    struct file_map map;
    assert_int_equal(file_map_memory(&map, name, b.data, b.n, err), 0);
    return safetensors_add(set, &map, err);
}

static void assert_refused_bytes(struct bytes b, const char *message)
{
    struct tensor_set set;
    struct err err = { 0 };
    tensor_set_init(&set);
    int rc = add(&set, "f.safetensors", b, &err);
    if (!rc)
        fail_msg("accepted, but should say: %s", message);
    assert_int_equal(rc, err.code);
    assert_true(!strncmp(err.msg, "f.safetensors: ", 15));
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    for (const char *p = err.msg; *p; p++) /* one line, and nothing that a terminal would obey */
        assert_true((unsigned char)*p >= ' ' && *p != 0x7f);
    tensor_set_release(&set);
    free(b.data);
}

static void assert_refused(const char *header, size_t data_n, const char *message)
{
    assert_refused_bytes(make(header, data_n), message);
}

#define TENSOR(name, dtype, shape, begin, end)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void honest_files_open(void **state)
{
    (void)state;
    struct tensor_set set;
    struct err err = { 0 };
    struct bytes b =
        make("{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("b", "F32", "[2,3]", "8", "32") "," TENSOR(
                 "a", "BF16", "[4]", "0", "8") "," TENSOR("scalar", "U8", "[]", "32",
                                                          "33") "," TENSOR("empty", "F16", "[0,7]", "33", "33") "}   ",
             33);
    tensor_set_init(&set);
    if (add(&set, "f", b, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(set.n, 4);
    const struct tensor *t = tensor_set_find(&set, "b");
    assert_non_null(t);
    assert_int_equal(t->dtype, DTYPE_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->n, 6);
    assert_int_equal(t->bytes, 24);
    assert_int_equal(t->data[0], 8);
    t = tensor_set_find(&set, "scalar");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(tensor_set_find(&set, "empty")->n, 0);
    assert_null(tensor_set_find(&set, "c"));
    tensor_set_release(&set);
    free(b.data);

    b = make("{}", 0);
    tensor_set_init(&set);
    assert_int_equal(add(&set, "f", b, &err), 0);
    assert_int_equal(set.n, 0);
    tensor_set_release(&set);
    free(b.data);
}

/* Every integer and float type, at an odd address. */
static void types_widen_to_their_values(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        size_t bytes;
        uint64_t bits;
        double value;
    } cases[] = {
        { "F32", 4, 0xc0200000, -2.5 },
        { "F16", 2, 0xc100, -2.5 },
        { "BF16", 2, 0xc020, -2.5 },
        { "F64", 8, 0xc004000000000000, -2.5 },
        { "I64", 8, 0xffffffffffffffff, -1 },
        { "I32", 4, 0xfffffffe, -2 },
        { "I16", 2, 0xfffd, -3 },
        { "I8", 1, 0xfc, -4 },
        { "U8", 1, 0xff, 255 },
        { "BOOL", 1, 1, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[200];
        struct tensor_set set;
        struct err err = { 0 };
        float x[1];
        snprintf(header, sizeof header,
                 "{\"p\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                 "\"x\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[1,%zu]}}",
                 cases[i].type, 1 + cases[i].bytes);
        struct bytes b = make(header, 1 + cases[i].bytes);
        for (size_t k = 0; k < cases[i].bytes; k++)
            b.data[b.n - cases[i].bytes + k] = (unsigned char)(cases[i].bits >> 8 * k);
        tensor_set_init(&set);
        if (add(&set, "f", b, &err))
            fail_msg("%s", err.msg);
        tensor_widen(tensor_set_find(&set, "x"), 0, 1, x);
        if ((double)x[0] != cases[i].value)
            fail_msg("%s: %g", cases[i].type, (double)x[0]);
        tensor_set_release(&set);
        free(b.data);
    }
}

static void bad_lengths_are_refused(void **state)
{
    (void)state;
    assert_refused_bytes((struct bytes){ calloc(7, 1), 7 }, "has 7 bytes, too few");
    assert_refused_bytes((struct bytes){ calloc(1, 1), 0 }, "has 0 bytes");
    assert_refused_bytes(make_sized(100000001, "{}", 2, 0), "exceed 100000000");
    assert_refused_bytes(make_sized(UINT64_MAX, "{}", 2, 0), "exceed 100000000");
    assert_refused_bytes(make_sized(3, "{}", 2, 0), "ends inside its header");
    assert_refused_bytes(make_sized(0, "", 0, 0), "does not start with '{'");
    assert_refused_bytes(make_sized(4, "{}\0\0", 4, 0), "padded with NUL");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    struct bytes b = { malloc(sizeof lfs), sizeof lfs };
    memcpy(b.data, lfs, sizeof lfs);
    assert_refused_bytes(b, "git lfs pull");
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    assert_refused("[]", 0, "does not start with '{'");
    assert_refused(" {}", 0, "does not start with '{'");
    assert_refused("{\"a\xff\":{}}", 0, "no UTF-8");
    assert_refused("{", 0, "no valid JSON");
    assert_refused("{}x", 0, "no valid JSON");
    assert_refused("{\"a\":1}", 0, "must be an object of dtype");
    assert_refused("{\"a\":{}}", 0, "must be an object of dtype");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "must be an object of dtype");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "must be an object");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "JSON");
    assert_refused("{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"dtype\" must be a string");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "\"shape\" must be an array");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two data_offsets");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "two data_offsets");
    assert_refused("{" TENSOR("a", "F32", "[-1]", "0", "4") "}", 4, "whole numbers from 0");
    assert_refused("{" TENSOR("a", "F32", "[1.0]", "0", "4") "}", 4, "whole numbers from 0");
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4e0") "}", 4, "whole numbers from 0");
    assert_refused("{" TENSOR("a", "F32", "[1]", "-4", "0") "}", 4, "whole numbers from 0");
    assert_refused("{" TENSOR("a", "F32", "[1,1,1,1,1]", "0", "4") "}", 4, "has 5 dimensions");
    assert_refused("{\"__metadata__\":[]}", 0, "__metadata__ must be an object");
    assert_refused("{\"__metadata__\":{\"a\":1}}", 0, "must hold strings only");
    assert_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice");
}

static void bad_types_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("{" TENSOR("w", "F8_E4M3", "[4]", "0", "4") "}", 4, "tensor \"w\": has type F8_E4M3");
    assert_refused("{" TENSOR("w", "C64", "[1]", "0", "8") "}", 8, "has type C64");
    assert_refused("{" TENSOR("w", "F4", "[2]", "0", "1") "}", 1, "has type F4");
    assert_refused("{" TENSOR("w", "f32", "[1]", "0", "4") "}", 4, "the unknown type \"f32\"");
    assert_refused("{" TENSOR("w\\n\\u001b[31m", "X", "[1]", "0", "4") "}", 4, "the unknown type");
}

static void holes_overlaps_and_wrong_sizes_are_refused(void **state)
{
    (void)state;
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4") "}", 5, "1 bytes follow the last tensor");
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4") "}", 3, "not within the file's 3 bytes");
    assert_refused("{" TENSOR("a", "F32", "[1]", "4", "0") "}", 4, "not within");
    assert_refused("{" TENSOR("a", "F32", "[1]", "4", "8") "}", 8, "begins at byte 4");
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "8", "12") "}", 12,
                   "\"b\" begins at byte 8 of the data, the one before it ends at 4");
    assert_refused("{" TENSOR("a", "F32", "[2]", "0", "8") "," TENSOR("b", "F32", "[1]", "4", "8") "}", 8,
                   "no hole and no overlap");
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "0", "4") "}", 4,
                   "no hole and no overlap");
    assert_refused("{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("a", "F32", "[1]", "4", "8") "}", 8, "\"a\"");
    assert_refused("{" TENSOR("a", "F32", "[2]", "0", "4") "}", 4, "span 4 bytes");
    assert_refused("{" TENSOR("a", "F16", "[1]", "0", "4") "}", 4, "span 4 bytes");
    assert_refused("{" TENSOR("a", "F32", "[4611686018427387904]", "0", "0") "}", 0, "need another number");
    assert_refused("{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0, "more elements than memory");
    assert_refused("{" TENSOR("a", "F32", "[0,4294967296,4294967296,4294967296]", "0", "4") "}", 4, "span 4 bytes");
    assert_refused("{" TENSOR("a", "F32", "[1]", "18446744073709551612", "18446744073709551616") "}", 4, "JSON");
    assert_refused("{" TENSOR("a", "F32", "[1]", "9223372036854775804", "9223372036854775807") "}", 4, "not within");
}

/* Names are keys of maps and stand in messages. */
static void bad_names_are_refused(void **state)
{
    (void)state;
    assert_refused("{" TENSOR("a\\u0000b", "F32", "[1]", "0", "4") "}", 4, "");
    assert_refused("{" TENSOR("a\\nb", "F32", "[1]", "0", "4") "}", 4, "");
    assert_refused("{" TENSOR("\\ud800", "F32", "[1]", "0", "4") "}", 4, "");
}

/* Cut anywhere, any single byte flipped: an error or a file, never a crash. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct bytes whole = make("{\"__metadata__\":{\"a\":\"\\u00e9\\n\"}," TENSOR(
                                  "b", "F32", "[2,3]", "8", "32") "," TENSOR("a", "BF16", "[4]", "0", "8") "} ",
                              32);
    for (size_t n = 0; n < whole.n; n++) {
        struct bytes cut = { malloc(n ? n : 1), n };
        memcpy(cut.data, whole.data, n);
        assert_refused_bytes(cut, "");
    }
    for (size_t i = 0; i < whole.n; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct tensor_set set;
            struct err err = { 0 };
            struct bytes changed = { malloc(whole.n), whole.n };
            memcpy(changed.data, whole.data, whole.n);
            changed.data[i] ^= (unsigned char)(1u << bit);
            tensor_set_init(&set);
            add(&set, "f", changed, &err);
            tensor_set_release(&set);
            free(changed.data);
        }
    free(whole.data);
}

/* Headers that cost a naive reader gigabytes or forever: a million empty values, deep nesting, a huge entry. */
static void header_bombs_are_refused_quickly(void **state)
{
    (void)state;
    enum { N = 4 << 20 };
    static const struct {
        const char *start, *unit;
    } bombs[] = {
        { "{\"a\":[", "{}," },
        { "{\"a\":", "[" },
        { "{\"a\":{\"b\":[", "0," },
        { "{\"__metadata__\":{\"a\":\"", "x" },
        { "{\"", "a" },
        { "{", " " },
        { "{\"a\":{\"a\":", "{\"a\":" },
    };
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct bytes b = { malloc(N), N };
        size_t n = strlen(bombs[i].start);
        memset(b.data, 0, 8);
        for (int k = 0; k < 8; k++)
            b.data[k] = (unsigned char)((uint64_t)(N - 8) >> 8 * k);
        memcpy(b.data + 8, bombs[i].start, n);
        for (size_t at = 8 + n; at < N; at++)
            b.data[at] = (unsigned char)bombs[i].unit[(at - 8 - n) % strlen(bombs[i].unit)];
        assert_refused_bytes(b, "");
    }
}

/* --- shards --- */

struct shelf {
    struct {
        const char *name;
        struct bytes bytes;
    } files[2];
    size_t opened;
};

static int open_shelf(void *ctx, const char *name, struct file_map *map, struct err *err)
{
    struct shelf *shelf = ctx;
    shelf->opened++;
    for (size_t i = 0; i < 2; i++)
        if (!strcmp(shelf->files[i].name, name))
            return file_map_memory(map, name, shelf->files[i].bytes.data, shelf->files[i].bytes.n, err);
    return err_set(err, ERR_IO, "%s: cannot open", name);
}

static struct shelf make_shelf(void)
{
    return (struct shelf){
        { { "one", make("{" TENSOR("a", "F32", "[1]", "0", "4") "}", 4) },
          { "two", make("{" TENSOR("b", "F32", "[1]", "0", "4") "," TENSOR("extra", "U8", "[1]", "4", "5") "}", 5) } },
        0
    };
}

static int add_index(struct tensor_set *set, struct shelf *shelf, const char *index, struct err *err)
{
    struct file_map map;
    assert_int_equal(file_map_memory(&map, "index.json", index, strlen(index), err), 0);
    tensor_set_init(set);
    int rc = safetensors_add_index(set, &map, open_shelf, shelf, err);
    file_map_close(&map);
    return rc;
}

static void assert_index_refused(const char *index, const char *message)
{
    struct shelf shelf = make_shelf();
    struct tensor_set set;
    struct err err = { 0 };
    int rc = add_index(&set, &shelf, index, &err);
    if (!rc)
        fail_msg("accepted: %s", index);
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    tensor_set_release(&set);
    free(shelf.files[0].bytes.data);
    free(shelf.files[1].bytes.data);
}

static void shards_are_opened_once_each(void **state)
{
    (void)state;
    struct shelf shelf = make_shelf();
    struct tensor_set set;
    struct err err = { 0 };
    if (add_index(&set, &shelf, "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"b\":\"two\",\"a\":\"one\"}}", &err))
        fail_msg("%s", err.msg);
    assert_int_equal(shelf.opened, 2);
    assert_int_equal(set.n, 3);
    assert_int_equal(set.n_files, 2);
    assert_non_null(tensor_set_find(&set, "extra"));
    tensor_set_release(&set);
    free(shelf.files[0].bytes.data);
    free(shelf.files[1].bytes.data);
}

static void bad_indices_are_refused(void **state)
{
    (void)state;
    assert_index_refused("", "no valid JSON");
    assert_index_refused("{}", "has no weight_map");
    assert_index_refused("[]", "has no weight_map");
    assert_index_refused("{\"weight_map\":[]}", "weight_map must be an object");
    assert_index_refused("{\"weight_map\":{},\"weight_map\":{}}", "there twice");
    assert_index_refused("{\"weight_map\":{\"a\":1}}", "map names to file names");
    assert_index_refused("{\"weight_map\":{\"a\":\"../one\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\"..\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\".\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\"\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\"x\\\\y\"}}", "no plain file name");
    assert_index_refused("{\"weight_map\":{\"a\":\"one\\u0000\"}}", "map names to file names");
    assert_index_refused("{\"weight_map\":{\"a\":\"three\"}}", "three: cannot open");
    assert_index_refused("{\"weight_map\":{\"a\":\"x/\\n\\u001b\"}}", "shard \"x/??\" is no plain");
    assert_index_refused("{\"weight_map\":{\"a\":\"two\"}}", "\"a\" is not in two");
    assert_index_refused("{\"weight_map\":{\"c\":\"one\"}}", "\"c\" is not in one");
    assert_index_refused("{\"weight_map\":{\"a\":\"one\",\"b\":\"one\"}}", "\"b\" is not in one");
    assert_index_refused("{\"weight_map\":{\"a\":\"one\"", "no valid JSON");
    assert_index_refused("{\"weight_map\":{\"a\":\"one\"}}\xff", "no UTF-8");
}

static void tensors_in_two_shards_are_refused(void **state)
{
    (void)state;
    struct shelf shelf = make_shelf();
    struct tensor_set set;
    struct err err = { 0 };
    free(shelf.files[1].bytes.data);
    shelf.files[1].bytes = make("{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "U8", "[1]", "4", "5") "}", 5);
    assert_int_equal(add_index(&set, &shelf, "{\"weight_map\":{\"a\":\"one\",\"b\":\"two\"}}", &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "\"a\""));
    tensor_set_release(&set);
    free(shelf.files[0].bytes.data);
    free(shelf.files[1].bytes.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_files_open),
        cmocka_unit_test(types_widen_to_their_values),
        cmocka_unit_test(bad_lengths_are_refused),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(bad_types_are_refused_by_name),
        cmocka_unit_test(holes_overlaps_and_wrong_sizes_are_refused),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(header_bombs_are_refused_quickly),
        cmocka_unit_test(shards_are_opened_once_each),
        cmocka_unit_test(bad_indices_are_refused),
        cmocka_unit_test(tensors_in_two_shards_are_refused),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
