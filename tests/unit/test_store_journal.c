/* The journal of finished pieces: every cut and every changed byte of a file, kills, what is refused. */
#include "core/base/file.h"
#include "core/store/journal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_PIECES = 5, HEAD = 40, FRAME = 8 + 32 };

static char folder[64], output[96], path[112];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(output, sizeof output, "%s/out.h5", folder);
    snprintf(path, sizeof path, "%s.journal", output);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when anything else was left behind */
}

/* --- work of N_PIECES pieces, each a number and `piece` more --- */

static size_t bytes_of(size_t piece)
{
    return sizeof(uint64_t) + piece * sizeof(double);
}

struct work {
    uint64_t number;
    double more[N_PIECES];
};

static void compute(size_t piece, struct work *w)
{
    w->number = 1000 + piece;
    for (size_t i = 0; i < piece; i++)
        w->more[i] = 0.1 * (double)(piece * 10 + i);
}

static void assert_right(size_t piece, const struct work *w)
{
    struct work right = { 0 };
    compute(piece, &right);
    assert_int_equal(w->number, right.number);
    assert_memory_equal(w->more, right.more, piece * sizeof(double));
}

/* Goes through pieces [0, n); returns how many were loaded. Each is right in the end. */
static size_t go(struct journal *j, size_t n)
{
    size_t loaded = 0;
    for (size_t piece = 0; piece < n; piece++) {
        struct work w = { .number = 7 };
        struct err err;
        const struct journal_part parts[] = { { &w.number, sizeof w.number }, { w.more, piece * sizeof(double) } };
        if (journal_load(j, parts, 2)) {
            assert_int_equal(loaded, piece); /* none after one that was not there */
            loaded++;
        } else {
            assert_int_equal(w.number, 7); /* untouched */
            compute(piece, &w);
            assert_int_equal(journal_save(j, parts, 2, &err), 0);
        }
        assert_right(piece, &w);
    }
    return loaded;
}

static struct journal *open_it(bool resume)
{
    struct journal *j = NULL;
    struct err err = { 0 };
    if (journal_open(&j, output, "key", resume, &err))
        fail_msg("%s", err.msg);
    return j;
}

/* Runs the whole work on what is there; the journal stays. */
static size_t resume_all(void)
{
    struct journal *j = open_it(true);
    size_t loaded = go(j, N_PIECES);
    assert_int_equal(journal_pieces(j), N_PIECES);
    journal_close(j, true);
    return loaded;
}

static void write_bytes(const unsigned char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The file of a run that was stopped at its very end; the caller frees it. */
static unsigned char *whole_file(size_t *n)
{
    struct file_map map;
    struct err err;
    unlink(path);
    resume_all();
    assert_int_equal(file_map_open(&map, path, &err), 0);
    unsigned char *bytes = malloc(map.size);
    assert_non_null(bytes);
    memcpy(bytes, map.data, map.size);
    *n = map.size;
    file_map_close(&map);
    return bytes;
}

static void assert_file_is(const unsigned char *bytes, size_t n)
{
    struct file_map map;
    struct err err;
    assert_int_equal(file_map_open(&map, path, &err), 0);
    assert_int_equal(map.size, n);
    assert_memory_equal(map.data, bytes, n);
    file_map_close(&map);
}

/* Pieces that end within the first n bytes. */
static size_t pieces_within(size_t n)
{
    size_t end = HEAD, piece = 0;
    while (piece < N_PIECES && end + FRAME + bytes_of(piece) <= n)
        end += FRAME + bytes_of(piece++);
    return piece;
}

static void every_truncation_keeps_the_whole_pieces_and_ends_in_the_same_file(void **state)
{
    (void)state;
    size_t n;
    unsigned char *bytes = whole_file(&n);
    assert_int_equal(pieces_within(n), N_PIECES);
    for (size_t cut = 0; cut <= n; cut++) {
        write_bytes(bytes, cut);
        assert_int_equal(resume_all(), pieces_within(cut));
        assert_file_is(bytes, n);
    }
    free(bytes);
}

static void every_changed_byte_is_noticed(void **state)
{
    (void)state;
    size_t n;
    unsigned char *bytes = whole_file(&n);
    for (size_t at = HEAD; at < n; at++) {
        bytes[at] ^= 0x10;
        write_bytes(bytes, n);
        bytes[at] ^= 0x10;
        assert_int_equal(resume_all(), pieces_within(at));
        assert_file_is(bytes, n);
    }
    for (size_t at = 0; at < HEAD; at++) {
        struct journal *j;
        struct err err = { 0 };
        bytes[at] ^= 0x10;
        write_bytes(bytes, n);
        assert_true(journal_open(&j, output, "key", true, &err) < 0);
        assert_file_is(bytes, n); /* left alone */
        bytes[at] ^= 0x10;
    }
    free(bytes);
}

/* Sound pieces in a wrong place are not taken. */
static void pieces_that_changed_places_are_noticed(void **state)
{
    (void)state;
    double first = 1, second = 2, x;
    struct err err;
    const struct journal_part one = { &first, sizeof first }, two = { &second, sizeof second }, out = { &x, sizeof x };
    size_t size = FRAME + sizeof(double);
    unsigned char bytes[HEAD + 2 * (FRAME + sizeof(double))], swapped[sizeof bytes];
    struct journal *j = open_it(false);
    assert_int_equal(journal_save(j, &one, 1, &err), 0);
    assert_int_equal(journal_save(j, &two, 1, &err), 0);
    journal_close(j, true);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
    fclose(f);
    memcpy(swapped, bytes, HEAD);
    memcpy(swapped + HEAD, bytes + HEAD + size, size);
    memcpy(swapped + HEAD + size, bytes + HEAD, size);
    write_bytes(bytes, sizeof bytes);
    j = open_it(true);
    assert_true(journal_load(j, &out, 1));
    assert_true(x == 1);
    journal_close(j, true);
    write_bytes(swapped, sizeof swapped);
    j = open_it(true);
    assert_false(journal_load(j, &out, 1));
    journal_close(j, false);
}

static void kills_lose_the_piece_at_hand_at_most(void **state)
{
    (void)state;
    size_t n, most = 0;
    unsigned char *bytes = whole_file(&n);
    unlink(path);
    for (size_t kill_after = 0; kill_after < N_PIECES; kill_after++) {
        pid_t child = fork();
        if (!child) {
            go(open_it(true), kill_after);
            raise(SIGKILL);
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        most = kill_after;
    }
    assert_int_equal(resume_all(), most);
    assert_file_is(bytes, n);
    free(bytes);
}

static void refused(const char *key, bool resume, int code, const char *text)
{
    struct journal *j;
    struct err err = { 0 };
    assert_int_equal(journal_open(&j, output, key, resume, &err), code);
    assert_non_null(strstr(err.msg, text));
}

static void another_key_and_a_run_without_resume_are_refused(void **state)
{
    (void)state;
    size_t n;
    unsigned char *bytes = whole_file(&n);
    refused("key", false, ERR_ARG, "an interrupted run left it: continue it with --resume, or remove it");
    refused("another", true, ERR_ARG, "of another command");
    assert_file_is(bytes, n);
    write_bytes((const unsigned char *)"this file is somebody's own, not ours to change", 47);
    refused("key", true, ERR_FORMAT, "not a journal");
    /* One without a piece is in nobody's way. */
    write_bytes(bytes, HEAD);
    struct journal *j;
    struct err err;
    assert_int_equal(journal_open(&j, output, "another", false, &err), 0);
    journal_close(j, true);
    assert_false(file_exists(path)); /* empty: nothing to keep */
    free(bytes);
}

static void names_and_folders(void **state)
{
    (void)state;
    struct journal *j;
    struct err err = { 0 };
    char slashed[112], nowhere[112];
    snprintf(slashed, sizeof slashed, "%s//", output);
    assert_int_equal(journal_open(&j, slashed, "key", false, &err), 0);
    assert_string_equal(journal_path(j), path);
    go(j, 2);
    journal_close(j, false);
    assert_false(file_exists(path));
    snprintf(nowhere, sizeof nowhere, "%s/nowhere/out.h5", folder);
    assert_int_equal(journal_open(&j, nowhere, "key", false, &err), ERR_IO);
    /* Not through a link, which may point at somebody's file. */
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(journal_open(&j, output, "key", true, &err), ERR_IO);
    journal_close(NULL, true);
    assert_int_equal(go(NULL, N_PIECES), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_truncation_keeps_the_whole_pieces_and_ends_in_the_same_file, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_changed_byte_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pieces_that_changed_places_are_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kills_lose_the_piece_at_hand_at_most, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_key_and_a_run_without_resume_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_and_folders, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
