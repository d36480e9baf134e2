/* Files that grow and survive being killed: values, extents, kills, failing writes, what is refused. */
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/store/extent.h"
#include "core/store/stream_file.h"
#include "core/store/write_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PROMPTS, ROWS, N_AXES };
enum { N_PROMPTS = 40, ROWS_A_PROMPT = 3, N_ROWS = N_PROMPTS * ROWS_A_PROMPT, WIDTH = 50 };

static char folder[64], path[96], partial[112], starting[112];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/stream.h5", folder);
    snprintf(partial, sizeof partial, "%s.partial", path);
    snprintf(starting, sizeof starting, "%s.starting", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(partial);
    unlink(starting);
    return rmdir(folder); /* fails when anything else was left behind */
}

/* --- a small file: rows of numbers that tell their place --- */

struct run {
    struct stream_file *s;
    size_t floats, halves, offset, id;
};

static float value(uint64_t row, size_t i)
{
    return (float)row + (float)i / 64;
}

static int start(struct run *r, bool resume, double flush_seconds, struct err *err)
{
    const uint64_t lengths[N_AXES] = { N_PROMPTS, N_ROWS };
    int rc = stream_open(&r->s, path, resume, err);
    if (rc)
        return rc;
    const struct stream_spec specs[] = {
        { .name = "/data/floats", .type = STORE_F32, .axis = ROWS, .n_dims = 2, .dims = { 2, WIDTH / 2 } },
        { .name = "/data/halves", .type = STORE_F16, .axis = ROWS, .n_dims = 1, .dims = { WIDTH } },
        { .name = "/prompts/offset", .type = STORE_I64, .axis = PROMPTS, .fence = true, .known = true },
        { .name = "/prompts/id", .type = STORE_TEXT, .axis = PROMPTS, .known = true },
    };
    size_t *const ids[] = { &r->floats, &r->halves, &r->offset, &r->id };
    for (size_t i = 0; !rc && i < 4; i++)
        rc = stream_declare(r->s, &specs[i], ids[i], err);
    for (int64_t p = 0; !rc && p <= N_PROMPTS; p++) {
        char text[32];
        const char *id = text;
        int64_t offset = p * ROWS_A_PROMPT;
        snprintf(text, sizeof text, "caf\xc3\xa9 %d", (int)p);
        rc = stream_put(r->s, r->offset, 1, &offset, err);
        if (!rc && p < N_PROMPTS)
            rc = stream_put(r->s, r->id, 1, &id, err);
    }
    rc = rc ? rc : stream_start(r->s, lengths, N_AXES, NULL, flush_seconds, err);
    if (rc)
        stream_close(r->s, NULL);
    return rc;
}

static int write_prompt(struct run *r, uint64_t p, struct err *err)
{
    float floats[ROWS_A_PROMPT * WIDTH];
    uint16_t halves[ROWS_A_PROMPT * WIDTH];
    uint64_t first = p * ROWS_A_PROMPT;
    for (size_t i = 0; i < ROWS_A_PROMPT * WIDTH; i++)
        floats[i] = value(first + i / WIDTH, i % WIDTH);
    half_from_f32(halves, floats, ROWS_A_PROMPT * WIDTH);
    int rc = stream_write(r->s, r->floats, first, ROWS_A_PROMPT, floats, err);
    rc = rc ? rc : stream_write(r->s, r->halves, first, ROWS_A_PROMPT, halves, err);
    return rc ? rc : stream_mark(r->s, (uint64_t[]){ p + 1, first + ROWS_A_PROMPT }, err);
}

static void check_extent(const struct h5_file *f, const char *name, uint64_t least)
{
    struct h5_dataset d;
    struct err err = { 0 };
    if (h5_dataset_open(&d, f, name, &err))
        fail_msg("%s", err.msg);
    assert_in_range(d.dims[0], least, N_ROWS + 1);
    h5_dataset_close(&d);
}

/* Reads a file with the plain library; every row that it claims must be right. Returns its prompts. */
static uint64_t check(const char *name, bool complete)
{
    struct h5_file f;
    struct h5_dataset d;
    struct err err = { 0 };
    int64_t is_complete;
    if (h5_open(&f, name, false, &err) || h5_dataset_open(&d, &f, "/prompts/id", &err))
        fail_msg("%s", err.msg);
    uint64_t n = d.dims[0];
    char *ids[N_PROMPTS];
    assert_in_range(n, 1, N_PROMPTS);
    assert_int_equal(h5_dataset_read_text(&d, 0, n, ids, &err), 0);
    for (uint64_t p = 0; p < n; p++) {
        char expected[32];
        snprintf(expected, sizeof expected, "caf\xc3\xa9 %d", (int)p);
        assert_string_equal(ids[p], expected);
        free(ids[p]);
    }
    h5_dataset_close(&d);
    check_extent(&f, "/prompts/offset", n + 1);
    const char *const names[] = { "/data/floats", "/data/halves" };
    for (int k = 0; k < 2; k++) {
        float row[WIDTH];
        check_extent(&f, names[k], n * ROWS_A_PROMPT);
        assert_int_equal(h5_dataset_open(&d, &f, names[k], &err), 0);
        for (uint64_t r = 0; r < n * ROWS_A_PROMPT; r++) {
            assert_int_equal(h5_dataset_read(&d, r, 1, STORE_F32, row, &err), 0);
            for (size_t i = 0; i < WIDTH; i++) {
                float expected = k ? half_to_f32_one(half_from_f32_one(value(r, i))) : value(r, i);
                if (row[i] != expected)
                    fail_msg("%s row %llu item %zu: %g, expected %g", names[k], (unsigned long long)r, i,
                             (double)row[i], (double)expected);
            }
        }
        h5_dataset_close(&d);
    }
    assert_int_equal(h5_get_int(&f, f.id, "complete", &is_complete, &err), 0);
    assert_int_equal(is_complete, complete);
    assert_int_equal(h5_close(&f, 0, &err), 0);
    return n;
}

static void run_from(bool resume, uint64_t expected_done)
{
    struct run r;
    struct err err = { 0 };
    if (start(&r, resume, 0, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(stream_done(r.s), expected_done);
    for (uint64_t p = stream_done(r.s); p < N_PROMPTS; p++)
        assert_int_equal(write_prompt(&r, p, &err), 0);
    if (stream_finish(r.s, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(stream_close(r.s, &err), 0);
}

static void read_bytes(const char *name, unsigned char **bytes, size_t *n)
{
    struct file_map map;
    struct err err;
    assert_int_equal(file_map_open(&map, name, &err), 0);
    *n = map.size;
    *bytes = malloc(map.size);
    memcpy(*bytes, map.data, map.size);
    file_map_close(&map);
}

/* --- tests --- */

static void an_uninterrupted_run_is_complete_and_right(void **state)
{
    (void)state;
    run_from(false, 0);
    assert_int_equal(check(path, true), N_PROMPTS);
    assert_false(file_exists(partial));
    assert_false(file_exists(starting));
}

static void a_closed_run_keeps_what_was_marked(void **state)
{
    (void)state;
    struct run r;
    struct err err = { 0 };
    assert_int_equal(start(&r, false, 1e9, &err), 0);
    for (uint64_t p = 0; p < 7; p++)
        assert_int_equal(write_prompt(&r, p, &err), 0);
    assert_false(file_exists(partial)); /* no commit yet, so nothing that a reader could meet */
    assert_int_equal(stream_close(r.s, &err), 0);
    assert_int_equal(check(partial, false), 7);
    run_from(true, 7);
    assert_int_equal(check(path, true), N_PROMPTS);
}

static void a_run_without_a_mark_leaves_nothing(void **state)
{
    (void)state;
    struct run r;
    struct err err = { 0 };
    assert_int_equal(start(&r, false, 0, &err), 0);
    assert_int_equal(stream_close(r.s, &err), 0);
    assert_false(file_exists(partial) || file_exists(starting) || file_exists(path));
}

static void a_resumed_file_has_the_bytes_of_an_uninterrupted_one(void **state)
{
    (void)state;
    unsigned char *whole, *resumed;
    size_t n, m;
    struct run r;
    struct err err = { 0 };
    run_from(false, 0);
    read_bytes(path, &whole, &n);
    unlink(path);
    assert_int_equal(start(&r, false, 0, &err), 0);
    for (uint64_t p = 0; p < 11; p++)
        assert_int_equal(write_prompt(&r, p, &err), 0);
    stream_close(r.s, NULL);
    run_from(true, 11);
    read_bytes(path, &resumed, &m);
    assert_int_equal(n, m);
    assert_memory_equal(whole, resumed, n);
    free(whole);
    free(resumed);
}

/* The child writes until it is killed. */
static void write_and_die(long nanoseconds)
{
    struct run r;
    struct err err = { 0 };
    pid_t child = fork();
    if (!child) {
        if (start(&r, file_exists(partial), 0, &err))
            _exit(1);
        for (uint64_t p = stream_done(r.s); p < N_PROMPTS; p++)
            if (write_prompt(&r, p, &err))
                _exit(2);
        for (;;)
            pause(); /* everything sent; the writer thread may still be at work */
    }
    nanosleep(&(struct timespec){ 0, nanoseconds }, NULL);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
}

static void killed_at_any_moment_what_was_flushed_is_right(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
    print_message("# seed %u\n", seed);
    int n_partial = 0;
    for (int kill_number = 0; kill_number < 40; kill_number++) {
        seed = seed * 1664525u + 1013904223u;
        write_and_die((long)(seed >> 8) % 20000000);
        uint64_t done = file_exists(partial) ? check(partial, false) : 0;
        n_partial += done > 0 && done < N_PROMPTS;
        if (done < N_PROMPTS && kill_number % 4)
            continue; /* the next child resumes */
        run_from(true, done);
        assert_int_equal(check(path, true), N_PROMPTS);
        unlink(path);
    }
    print_message("# %d of 40 kills left some of the rows\n", n_partial);
}

static void a_failing_write_is_reported_and_what_was_flushed_stays(void **state)
{
    (void)state;
    struct run r;
    struct err err = { 0 };
    struct rlimit old, small;
    assert_int_equal(start(&r, false, 0, &err), 0);
    for (uint64_t p = 0; p < 5; p++)
        assert_int_equal(write_prompt(&r, p, &err), 0);
    while (!file_exists(partial))
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096; /* every later row lies beyond */
    setrlimit(RLIMIT_FSIZE, &small);
    int rc = 0;
    for (uint64_t p = 5; !rc && p < N_PROMPTS; p++) {
        rc = write_prompt(&r, p, &err);
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    }
    int closed = stream_close(r.s, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, ERR_IO);
    assert_int_equal(closed, ERR_IO);
    if (!strstr(err.msg, strerror(EFBIG)))
        fail_msg("'%s' does not give the reason", err.msg);
    uint64_t done = check(partial, false);
    assert_in_range(done, 1, 5);
    run_from(true, done);
    assert_int_equal(check(path, true), N_PROMPTS);
}

static void wrong_counts_are_caught(void **state)
{
    (void)state;
    struct run r;
    struct err err = { 0 };
    assert_int_equal(start(&r, false, 0, &err), 0);
    assert_int_equal(write_prompt(&r, 0, &err), 0);
    assert_int_equal(stream_mark(r.s, (uint64_t[]){ 1, N_ROWS + 1 }, &err), ERR_CHECK);
    assert_int_equal(stream_mark(r.s, (uint64_t[]){ 1, 2 }, &err), ERR_CHECK);
    float row[WIDTH] = { 0 };
    assert_int_equal(stream_write(r.s, r.floats, N_ROWS, 1, row, &err), ERR_CHECK);
    assert_int_equal(stream_finish(r.s, &err), ERR_CHECK);
    stream_close(r.s, NULL);
}

static void a_folder_that_cannot_be_written_is_one_clear_error(void **state)
{
    (void)state;
    struct run r;
    struct err err = { 0 };
    char kept[96];
    strcpy(kept, path);
    strcpy(path, "/proc/strata.h5");
    assert_int_equal(start(&r, false, 0, &err), ERR_IO);
    strcpy(path, kept);
    assert_non_null(strstr(err.msg, "/proc/strata.h5: cannot create"));
}

static void an_extent_is_only_moved_where_it_is_recognised(void **state)
{
    (void)state;
    struct h5_file f;
    struct h5_dataset d;
    struct err err = { 0 };
    struct extent e;
    H5O_info_t info;
    run_from(false, 0);
    assert_int_equal(h5_open(&f, path, false, &err), 0);
    assert_int_equal(h5_dataset_open(&d, &f, "/data/floats", &err), 0);
    assert_true(H5Oget_info2(d.id, &info, H5O_INFO_BASIC) >= 0);
    h5_dataset_close(&d);
    h5_close(&f, 0, &err);
    int fd = open(path, O_RDWR);
    assert_int_equal(extent_find(fd, info.addr, N_ROWS, path, &e, &err), 0);
    assert_int_equal(e.at % 8, 0);
    /* Another number of rows, another place, a place beyond the file: no header that we know. */
    assert_int_equal(extent_find(fd, info.addr, N_ROWS + 1, path, &e, &err), ERR_CHECK);
    assert_int_equal(extent_find(fd, info.addr + 8, N_ROWS, path, &e, &err), ERR_CHECK);
    assert_int_equal(extent_find(fd, UINT64_MAX - 4, N_ROWS, path, &e, &err), ERR_CHECK);
    assert_int_equal(extent_find(fd, info.addr, N_ROWS, path, &e, &err), 0);
    assert_int_equal(extent_set(fd, &e, 2, path, &err), 0);
    close(fd);
    assert_int_equal(h5_open(&f, path, false, &err), 0);
    assert_int_equal(h5_dataset_open(&d, &f, "/data/floats", &err), 0);
    assert_int_equal(d.dims[0], 2);
    assert_int_equal(d.dims[2], WIDTH / 2);
    h5_dataset_close(&d);
    h5_close(&f, 0, &err);
}

/* --- fork --- */

static int commit_nothing(void *arg, const uint64_t counts[WRITE_QUEUE_COUNTS], struct err *err)
{
    (void)err;
    memcpy(arg, counts, sizeof(uint64_t[WRITE_QUEUE_COUNTS]));
    return 0;
}

static void a_forked_child_does_not_write(void **state)
{
    (void)state;
    static const char text[] = "the parent's";
    uint64_t counts[WRITE_QUEUE_COUNTS] = { 7 }, committed[WRITE_QUEUE_COUNTS] = { 0 };
    struct write_queue *q;
    struct err err = { 0 };
    char back[sizeof text + 8] = "";
    size_t room;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), status;
    assert_true(fd >= 0);
    assert_int_equal(write_queue_start(&q, fd, path, 60, commit_nothing, committed, &err), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        alarm(20);
        bool refused = !write_queue_reserve(q, 5, &room, &err) && err.code == ERR_ARG;
        refused = refused && strstr(err.msg, "stream.h5: is written by another process");
        refused = refused && write_queue_mark(q, counts, &err) == ERR_ARG;
        _exit(write_queue_stop(q, &err) == ERR_ARG && refused ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    void *out = write_queue_reserve(q, sizeof text, &room, &err);
    assert_non_null(out);
    assert_int_equal(room, sizeof text);
    memcpy(out, text, sizeof text);
    write_queue_send(q, 0, sizeof text);
    assert_int_equal(write_queue_mark(q, counts, &err), 0);
    assert_int_equal(write_queue_stop(q, &err), 0);
    assert_int_equal(committed[0], 7);
    assert_int_equal(pread(fd, back, sizeof back, 0), sizeof text);
    assert_string_equal(back, text);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_uninterrupted_run_is_complete_and_right, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_closed_run_keeps_what_was_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_without_a_mark_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_resumed_file_has_the_bytes_of_an_uninterrupted_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_at_any_moment_what_was_flushed_is_right, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failing_write_is_reported_and_what_was_flushed_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_counts_are_caught, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_written_is_one_clear_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_extent_is_only_moved_where_it_is_recognised, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_forked_child_does_not_write, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_stream", tests, NULL, NULL);
}
