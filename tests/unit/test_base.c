/* Small helpers of core/base: errors, sizes, strings, maps, JSON, UTF-8, files. Ranges and globs: test_sites.c. */
#include "core/base/err.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/strmap.h"
#include "core/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void errors_carry_code_and_sentence(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_int_equal(err_set(&err, ERR_SHAPE, "%s: %d", "a", 3), ERR_SHAPE);
    assert_int_equal(err.code, ERR_SHAPE);
    assert_string_equal(err.msg, "a: 3");
    assert_int_equal(err_prefix(&err, "file %s: ", "x"), ERR_SHAPE);
    assert_string_equal(err.msg, "file x: a: 3");
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    assert_string_equal(err_code_text(ERR_CHECK), "a check ran and failed");
    assert_string_equal(err_code_text(-99), "unknown error");
    err_set(&err, ERR_IO, "%s", "two\nlines\x1b[31m\x7f\xc3\xa9");
    assert_string_equal(err.msg, "two?lines?[31m?\xc3\xa9");
    err_prefix(&err, "a\tb: ");
    assert_true(!strncmp(err.msg, "a?b: two?", 9));
    /* Longer than the buffer: cut, never beyond it. */
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err_set(&err, ERR_IO, "%s", text);
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    err_prefix(&err, "p: ");
    assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
    assert_memory_equal(err.msg, "p: xxx", 6);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    size_t x;
    assert_true(size_mul(SIZE_MAX / 2, 2, &x));
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &x));
    assert_true(size_add(SIZE_MAX - 1, 1, &x));
    assert_false(size_add(SIZE_MAX, 1, &x));
    assert_null(mem_array(SIZE_MAX / 2, 3));
    assert_null(mem_array(SIZE_MAX, 1));
    assert_null(mem_zeroed(SIZE_MAX / 2, 3));
    assert_null(mem_aligned(SIZE_MAX - 10, 1));
    void *nothing[] = { mem_array(0, 8), mem_zeroed(0, 8), mem_aligned(0, 8) };
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(nothing[i]);
        free(nothing[i]);
    }
    float *aligned = mem_aligned(3, sizeof *aligned);
    assert_int_equal((uintptr_t)aligned % 64, 0);
    free(aligned);
}

static void arrays_grow(void **state)
{
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(mem_grow(&items, &capacity, (size_t)i + 1, sizeof *items));
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    size_t was = capacity;
    assert_false(mem_grow(&items, &capacity, SIZE_MAX / 2, sizeof *items));
    assert_int_equal(capacity, was);
    assert_int_equal(items[999], 999);
    free(items);
}

static void strings_are_built(void **state)
{
    (void)state;
    struct strbuf s = STRBUF_INIT;
    assert_string_equal(strbuf_text(&s), "");
    strbuf_addf(&s, "%s %d", "layer", 3);
    strbuf_addc(&s, '!');
    strbuf_add(&s, "a\0b", 3);
    assert_int_equal(s.len, 11);
    assert_memory_equal(s.data, "layer 3!a\0b", 12);
    strbuf_reset(&s);
    assert_string_equal(strbuf_text(&s), "");
    for (int i = 0; i < 5000; i++)
        strbuf_addf(&s, "%d,", i);
    assert_int_equal(s.len, 10 * 2 + 90 * 3 + 900 * 4 + 4000 * 5);
    assert_int_equal(strlen(s.data), s.len);
    strbuf_release(&s);
}

static void text_is_quoted_for_json_and_csv(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *json;
    } json[] = {
        { "plain", 5, "\"plain\"" },
        { "a\"b\\c", 5, "\"a\\\"b\\\\c\"" },
        { "\n\t\r\x01\x7f", 5, NULL },
        { "\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
        { "x\xffy", 3, "\"x\xef\xbf\xbdy\"" },
        { "\xed\xa0\x80", 3, NULL }, /* a surrogate */
        { "a\0b", 3, NULL },
    };
    for (size_t i = 0; i < sizeof json / sizeof *json; i++) {
        struct strbuf s = STRBUF_INIT;
        strbuf_add_json(&s, json[i].text, json[i].n);
        if (json[i].json)
            assert_string_equal(strbuf_text(&s), json[i].json);
        json_t *back = NULL;
        struct err err = { 0 };
        if (json_parse(s.data, s.len, "quoted", &back, &err))
            fail_msg("%s: %s", s.data, err.msg);
        if (utf8_valid(json[i].text, json[i].n)) {
            assert_int_equal(json_string_length(back), json[i].n);
            assert_memory_equal(json_string_value(back), json[i].text, json[i].n);
        }
        json_decref(back);
        strbuf_release(&s);
    }
    static const char *const csv[][2] = {
        { "plain", "plain" },   { "a,b", "\"a,b\"" }, { "a\"b", "\"a\"\"b\"" }, { "two\nlines", "\"two\nlines\"" },
        { "cr\r", "\"cr\r\"" }, { "", "" },
    };
    for (size_t i = 0; i < sizeof csv / sizeof *csv; i++) {
        struct strbuf s = STRBUF_INIT;
        strbuf_add_csv(&s, csv[i][0], strlen(csv[i][0]));
        assert_string_equal(strbuf_text(&s), csv[i][1]);
        strbuf_release(&s);
    }
}

static void maps_find_what_was_put(void **state)
{
    (void)state;
    enum { N = 3000 };
    static char keys[N][12];
    struct strmap map;
    uint32_t value;
    assert_int_equal(strmap_init(&map, 4), 0); /* too small on purpose: it grows */
    for (uint32_t i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "key%u", i);
        assert_int_equal(strmap_put(&map, keys[i], strlen(keys[i]), i, NULL), 0);
    }
    assert_int_equal(map.n, N);
    for (uint32_t i = 0; i < N; i++) {
        assert_true(strmap_get(&map, keys[i], strlen(keys[i]), &value));
        assert_int_equal(value, i);
        assert_false(strmap_get(&map, keys[i], strlen(keys[i]) - 1, &value) && value == i);
    }
    /* The first value stays. */
    assert_int_equal(strmap_put(&map, "key7", 4, 99, &value), 0);
    assert_int_equal(value, 7);
    /* Bytes, not strings: NUL and the empty key are keys. */
    assert_int_equal(strmap_put(&map, "a\0b", 3, 1, NULL) | strmap_put(&map, "a\0c", 3, 2, NULL), 0);
    assert_int_equal(strmap_put(&map, "", 0, 3, NULL), 0);
    assert_true(strmap_get(&map, "a\0c", 3, &value) && value == 2);
    assert_true(strmap_get(&map, "", 0, &value) && value == 3);
    assert_false(strmap_get(&map, "a", 1, &value));
    strmap_release(&map);
}

static void utf8_is_what_rfc_3629_says(void **state)
{
    (void)state;
    /* Every code point there and back; what is none is refused. */
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        bool scalar = cp < 0xd800 || (cp > 0xdfff && cp <= 0x10ffff);
        char bytes[4];
        uint32_t back;
        if (!scalar)
            continue;
        size_t n = utf8_encode(cp, bytes);
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(utf8_decode(bytes, n - 1, &back), 0);
        assert_true(utf8_valid(bytes, n));
    }
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x80\x80\x80",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
        "\xc3",
        "\xe2\x82",
        "\xf0\x9f\x98",
        "\xc3(",
        "\xe2(\xa1",
        "\xe2\x82(",
        "\xf0(\x8c\xbc",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[16];
        snprintf(text, sizeof text, "ok%s", bad[i]);
        assert_false(utf8_valid(text, strlen(text)));
        assert_int_equal(utf8_valid_prefix(text, strlen(text)), 2);
    }
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0b", 3));
}

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct err err = { 0 };
    if (json_parse(text, strlen(text), "test.json", &value, &err))
        fail_msg("%s", err.msg);
    return value;
}

static void bad_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "{\"a\":1,\"a\":2}",
        "[1,]",
        "nul",
        "{\"a\" 1}",
        "1 2",
        "\"\\ud800\"",
        "\"\xff\"",
        "[1e999]",
        "{\"a\":NaN}",
        "'a'",
        "[01]",
        "\"a",
        "\x00",
        "[-]",
        "99999999999999999999",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *value = NULL;
        struct err err = { 0 };
        if (json_parse(bad[i], strlen(bad[i]), "test.json", &value, &err) != ERR_FORMAT)
            fail_msg("accepted: %s", bad[i]);
        assert_true(!strncmp(err.msg, "test.json: is no valid JSON: line ", 34));
    }
    static char deep[10000];
    memset(deep, '[', sizeof deep);
    json_t *value = NULL;
    assert_int_equal(json_parse(deep, sizeof deep, "deep", &value, NULL), ERR_FORMAT);
    memset(deep, '1', sizeof deep);
    assert_int_equal(json_parse(deep, sizeof deep, "long", &value, NULL), ERR_FORMAT);
}

static void json_values_are_checked_for_type_and_range(void **state)
{
    (void)state;
    json_t *j = parse("{\"n\": 7, \"x\": 1.5, \"yes\": true, \"s\": \"text\", \"null\": null, \"minus\": -1, "
                      "\"nul\": \"a\\u0000b\", \"o\": {}, \"a\": [], \"big\": 9223372036854775807}");
    struct err err = { 0 };
    size_t n;
    double x;
    bool flag;
    const char *s;
    json_t *value;
    assert_int_equal(json_get_size(j, "f", "n", 1, 7, &n, &err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(json_get_size(j, "f", "n", 1, 6, &n, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "f: key \"n\" must be a whole number from 1 to 6");
    assert_int_equal(json_get_size(j, "f", "n", 8, 9, &n, &err), ERR_FORMAT);
    assert_int_equal(json_get_size(j, "f", "minus", 0, SIZE_MAX, &n, &err), ERR_FORMAT);
    assert_int_equal(json_get_size(j, "f", "x", 0, 9, &n, &err), ERR_FORMAT);
    assert_int_equal(json_get_size(j, "f", "null", 0, 9, &n, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "f: key \"null\" is missing");
    assert_int_equal(json_get_size_or(j, "f", "null", 0, 9, 4, &n, &err), 0);
    assert_int_equal(n, 4);
    assert_int_equal(json_get_size_or(j, "f", "big", 0, SIZE_MAX, 4, &n, &err), 0);
    assert_true(n == (size_t)INT64_MAX);
    assert_int_equal(json_get_number_or(j, "f", "n", 0, &x, &err), 0);
    assert_true(x == 7);
    assert_int_equal(json_get_number_or(j, "f", "absent", 2.5, &x, &err), 0);
    assert_true(x == 2.5);
    assert_int_equal(json_get_number_or(j, "f", "s", 0, &x, &err), ERR_FORMAT);
    assert_int_equal(json_get_bool_or(j, "f", "yes", false, &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(json_get_bool_or(j, "f", "n", false, &flag, &err), ERR_FORMAT);
    assert_int_equal(json_get_string(j, "f", "s", &s, &err), 0);
    assert_string_equal(s, "text");
    assert_int_equal(json_get_string(j, "f", "null", &s, &err), 0);
    assert_null(s);
    assert_int_equal(json_get_string(j, "f", "nul", &s, &err), ERR_FORMAT);
    assert_int_equal(json_get_string(j, "f", "n", &s, &err), ERR_FORMAT);
    assert_int_equal(json_get_object(j, "f", "o", &value, &err), 0);
    assert_true(json_is_object(value));
    assert_int_equal(json_get_object(j, "f", "a", &value, &err), ERR_FORMAT);
    assert_int_equal(json_get_array(j, "f", "a", &value, &err), 0);
    assert_int_equal(json_get_array(j, "f", "o", &value, &err), ERR_FORMAT);
    json_decref(j);
}

/* --- files --- */

static char folder[] = "/tmp/strata-base-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void files_are_written_whole_and_mapped(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct file_map map;
    assert_int_equal(file_write(in_folder("a"), "hello", 5, &err), 0);
    assert_int_equal(file_write(in_folder("a"), "other!", 6, &err), 0);
    assert_int_equal(file_map_open(&map, in_folder("a"), &err), 0);
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "other!", 6);
    file_map_close(&map);
    file_map_close(&map);
    assert_int_equal(file_write(in_folder("empty"), "", 0, &err), 0);
    assert_int_equal(file_map_open(&map, in_folder("empty"), &err), 0);
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    file_map_close(&map);
    /* Nothing but the two files is left behind. */
    char command[300];
    snprintf(command, sizeof command, "test $(ls -A %s | wc -l) = 2", folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(file_write(in_folder("no/such/folder"), "x", 1, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "no/such/folder: cannot create: No such file"));
}

static void only_regular_files_are_opened(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct file_map map;
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(file_map_open(&map, in_folder("fifo"), &err), ERR_IO);
    assert_non_null(strstr(err.msg, "fifo: is not a regular file"));
    assert_int_equal(file_map_open(&map, folder, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "is not a regular file"));
    assert_int_equal(file_map_open(&map, "/dev/null", &err), ERR_IO);
    assert_int_equal(file_map_open(&map, in_folder("absent"), &err), ERR_IO);
    assert_non_null(strstr(err.msg, "absent: cannot open: No such file"));
    assert_int_equal(symlink("a", in_folder("link")), 0);
    assert_int_equal(file_map_open(&map, in_folder("link"), &err), 0);
    file_map_close(&map);
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    assert_int_equal(file_map_open(&map, in_folder("loop"), &err), ERR_IO);
}

static void folders_are_made_with_their_parents(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_int_equal(file_make_folder(in_folder("x/y/z"), &err), 0);
    assert_int_equal(file_make_folder(in_folder("x/y/z"), &err), 0);
    assert_true(file_is_folder(in_folder("x/y/z")));
    assert_int_equal(file_make_folder(in_folder("a"), &err), ERR_IO);
    assert_non_null(strstr(err.msg, "is there already and is no folder"));
    assert_true(file_exists(in_folder("a")) && !file_is_folder(in_folder("a")));
    assert_false(file_exists(in_folder("absent")));
}

static void paths_are_taken_apart(void **state)
{
    (void)state;
    static const char *const extensions[][2] = { { "a/b.h5", "h5" }, { "b", "" },          { ".hidden", "" },
                                                 { "a.b/c", "" },    { "x.tar.gz", "gz" }, { "x.", "" } };
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        assert_string_equal(file_extension(extensions[i][0]), extensions[i][1]);
    assert_string_equal(file_base_name("a/b/c.h5"), "c.h5");
    assert_string_equal(file_base_name("c.h5"), "c.h5");
    char *path = file_join("a//", "b");
    assert_string_equal(path, "a/b");
    free(path);
    path = file_join("/", "b");
    assert_non_null(strstr(path, "b"));
    free(path);
}

static void sha256_matches_the_standard(void **state)
{
    (void)state;
    char hex[65];
    struct err err = { 0 };
    assert_int_equal(file_sha256("abc", 3, hex, &err), 0); /* FIPS 180-2, B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(file_sha256("", 0, hex, &err), 0);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void files_are_hashed_in_pieces(void **state)
{
    (void)state;
    enum { N = (17 << 20) + 3 };
    char *bytes = malloc(N), whole[65], pieces[65];
    struct file_map map;
    struct err err = { 0 };
    assert_non_null(bytes);
    for (size_t i = 0; i < N; i++)
        bytes[i] = (char)(i * 2654435761u >> 13);
    assert_int_equal(file_sha256(bytes, N, whole, &err), 0);
    assert_int_equal(file_map_memory(&map, "memory", bytes, N, &err), 0);
    assert_int_equal(file_map_sha256(&map, NULL, pieces, &err), 0);
    assert_string_equal(pieces, whole);
    assert_int_equal(file_sha256(bytes, N, pieces, &err), 0); /* memory is not given back */
    assert_string_equal(pieces, whole);
    file_map_close(&map);
    assert_int_equal(file_write(in_folder("hashed"), bytes, N, &err), 0);
    assert_int_equal(file_map_open(&map, in_folder("hashed"), &err), 0);
    assert_int_equal(file_map_sha256(&map, NULL, pieces, &err), 0);
    assert_string_equal(pieces, whole);
    assert_memory_equal(map.data, bytes, N);
    file_map_close(&map);
    free(bytes);
    assert_int_equal(file_map_memory(&map, "empty", "", 0, &err), 0);
    assert_int_equal(file_map_sha256(&map, NULL, pieces, &err), 0);
    assert_true(!strncmp(pieces, "e3b0c442", 8));
    file_map_close(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_carry_code_and_sentence),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(arrays_grow),
        cmocka_unit_test(strings_are_built),
        cmocka_unit_test(text_is_quoted_for_json_and_csv),
        cmocka_unit_test(maps_find_what_was_put),
        cmocka_unit_test(utf8_is_what_rfc_3629_says),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(json_values_are_checked_for_type_and_range),
        cmocka_unit_test(files_are_written_whole_and_mapped),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(paths_are_taken_apart),
        cmocka_unit_test(sha256_matches_the_standard),
        cmocka_unit_test(files_are_hashed_in_pieces),
    };
    return cmocka_run_group_tests_name("base", tests, make_folder, remove_folder);
}
