/* One writer per output: who gets the lock, where it lies, what is left of it. */
#include "core/base/file.h"
#include "core/store/lock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/must.h"

static char folder[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return chdir("/") || rmdir(folder); /* fails when anything was left behind */
}

static void refused(const char *output)
{
    struct lock lock;
    struct err err = { 0 };
    int rc = lock_take(&lock, output, &err);
    assert_message(rc, &err, "another process is writing it");
}

/* A process that takes the lock, says so, and holds it until it is killed. */
static pid_t holder(const char *output)
{
    int ends[2];
    char said = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        struct lock lock;
        struct err err;
        said = lock_take(&lock, output, &err) ? 'n' : 'y';
        _exit(write(ends[1], &said, 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(ends[0], &said, 1), 1);
    assert_int_equal(said, 'y');
    close(ends[0]);
    close(ends[1]);
    return child;
}

static void a_second_process_is_refused_until_the_first_is_dead(void **state)
{
    (void)state;
    struct lock lock;
    struct err err;
    pid_t child = holder("out.h5");
    refused("out.h5");
    refused("./out.h5");
    must(lock_take(&lock, "other.h5", &err), &err);
    lock_release(&lock);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(file_exists("out.h5.lock"));
    must(lock_take(&lock, "out.h5", &err), &err);
    lock_release(&lock);
}

static void one_folder_by_several_names(void **state)
{
    (void)state;
    struct lock lock;
    struct err err;
    assert_int_equal(mkdir("out", 0777) || symlink("out", "link") || chdir("out"), 0);
    must(lock_take(&lock, ".", &err), &err);
    assert_int_equal(chdir(".."), 0);
    refused("out");
    refused("out//");
    refused("link/");
    refused("out/../out");
    assert_true(file_exists("out.lock"));
    lock_release(&lock);
    unlink("link");
    rmdir("out");
}

static void assert_beside(const char *output, const char *expected)
{
    char *path = file_beside(output, ".lock");
    assert_string_equal(path, expected);
    free(path);
}

static void its_place(void **state)
{
    (void)state;
    assert_beside("a.h5", "a.h5.lock");
    assert_beside("new/deep/", "new/deep.lock");
    assert_int_equal(mkdir("there", 0777), 0);
    assert_beside("there/", "there.lock");
    rmdir("there");
}

/* A folder of one's own in one that is not: as a container has it. */
static void in_a_folder_where_it_cannot_be_beside(void **state)
{
    (void)state;
    int status;
    assert_int_equal(mkdir("shut", 0777) || mkdir("shut/out", 0777) || chmod("shut", 0555) || chmod(folder, 0755), 0);
    pid_t child = fork();
    if (!child) {
        char *path =
            !geteuid() && setuid(65534) ? NULL : file_beside("shut/out/", ".lock"); /* root writes everywhere */
        _exit(!path || strcmp(path, "shut/out/.lock"));
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    chmod("shut", 0777);
    rmdir("shut/out");
    rmdir("shut");
}

static void a_link_in_its_place_is_not_followed(void **state)
{
    (void)state;
    struct lock lock;
    struct err err = { 0 };
    assert_int_equal(symlink("elsewhere", "out.lock"), 0);
    assert_int_equal(lock_take(&lock, "out", &err), ERR_IO);
    assert_false(file_exists("elsewhere"));
    unlink("out.lock");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = { TEST(a_second_process_is_refused_until_the_first_is_dead),
                                        TEST(one_folder_by_several_names), TEST(its_place),
                                        TEST(in_a_folder_where_it_cannot_be_beside),
                                        TEST(a_link_in_its_place_is_not_followed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
