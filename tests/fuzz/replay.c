/*
 * Feeds a fuzz target without libFuzzer, on any compiler: every file of
 * $BUILD/fuzz/seeds/NAME and tests/fuzz/regressions/NAME, then damaged seeds
 * (cut short, bytes changed), always the same ones. Prints TAP. Arguments: files
 * to feed instead.
 *
 * An input may take 10 s of CPU time (60 s in all, on a busy machine) and 1 GiB
 * beyond its size (the limit of memory is not set under sanitizers, which
 * reserve address space).
 */
#define _GNU_SOURCE /* setitimer */
#include "tests/fuzz/fuzz.h"

#include "core/base/random.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

enum { MOST_SECONDS = 10, MOST_WAITING = 60, DAMAGED_PER_SEED = 24, MOST_INPUT = 16 << 20 };

static char current[4096]; /* which input is fed, for the handler */

static void on_signal(int sig)
{
    static const char slow[] = ": takes too long\n", crash[] = ": crashes\n";
    const char *what = sig == SIGALRM || sig == SIGPROF ? slow : crash;
    if (write(STDERR_FILENO, current, strlen(current)) < 0 || write(STDERR_FILENO, what, strlen(what)) < 0)
        _exit(2);
    signal(sig, SIG_DFL);
    raise(sig);
}

/* The address sanitizer calls this before it ends the program. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    static const char what[] = ": the input of what follows\n";
    if (write(STDERR_FILENO, current, strlen(current)) < 0 || write(STDERR_FILENO, what, strlen(what)) < 0)
        _exit(2);
}

static void feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, size);
    const struct itimerval most = { .it_value = { .tv_sec = MOST_SECONDS } }, none = { .it_value = { .tv_sec = 0 } };
    setitimer(ITIMER_PROF, &most, NULL);
    alarm(MOST_WAITING);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
    setitimer(ITIMER_PROF, &none, NULL);
    free(copy);
}

/* Seeded by the size and number, so that a failure repeats. */
static void feed_damaged(const char *path, const struct file_map *map)
{
    uint8_t *bytes = fuzz_copy(map->data, map->size);
    struct random_source r;
    random_seed(&r, map->size);
    for (int i = 0; map->size && i < DAMAGED_PER_SEED; i++) {
        snprintf(current, sizeof current, "%.3000s, damage %d", path, i);
        size_t size = i % 3 ? map->size : (size_t)random_below(&r, map->size);
        for (int k = 0; k < i % 4; k++)
            bytes[(size_t)random_below(&r, map->size)] = (uint8_t)random_below(&r, 256);
        feed(bytes, size);
        memcpy(bytes, map->data, map->size);
    }
    free(bytes);
}

static void feed_file(const char *path, bool damage)
{
    struct file_map map;
    struct err err = { 0 };
    if (file_map_open(&map, path, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    fuzz_check(map.size <= MOST_INPUT);
    snprintf(current, sizeof current, "%.4000s", path);
    feed(map.data, map.size);
    if (damage)
        feed_damaged(path, &map);
    file_map_close(&map);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int feed_folder(const char *folder, bool damage)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, not_hidden, by_name);
    for (int i = 0; i < n; i++) {
        char path[2048];
        snprintf(path, sizeof path, "%.1500s/%.500s", folder, entries[i]->d_name);
        feed_file(path, damage);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return n < 0 ? 0 : n;
}

static void limit_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__)
    /* What is mapped already, by libraries and their threads, is some hundred megabytes. */
    const struct rlimit most = { (rlim_t)2 << 30, (rlim_t)2 << 30 };
    setrlimit(RLIMIT_AS, &most);
#endif
}

int main(int argc, char **argv)
{
    const char *build = getenv("BUILD"), *name = strstr(file_base_name(argv[0]), "fuzz_");
    const int caught[] = { SIGALRM, SIGPROF, SIGABRT, SIGSEGV, SIGBUS, SIGFPE };
    char seeds[1024], regressions[1024];
    name = name ? name + 5 : "none";
    snprintf(seeds, sizeof seeds, "%.500s/fuzz/seeds/%.100s", build ? build : "build", name);
    snprintf(regressions, sizeof regressions, "tests/fuzz/regressions/%.100s", name);
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        signal(caught[i], on_signal);
    limit_memory();
    for (int i = 1; i < argc; i++)
        feed_file(argv[i], false);
    if (argc > 1)
        return 0;
    feed(NULL, 0);
    int n = feed_folder(seeds, true);
    printf("1..2\n%s 1 - %d seeds and %d damaged ones\n", n ? "ok" : "not ok", n, n * DAMAGED_PER_SEED);
    printf("ok 2 - %d regression files\n", feed_folder(regressions, false));
    return n ? 0 : 1;
}
