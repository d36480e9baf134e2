/*
 * Preloaded into a program: SIGKILL at its N-th call that changes a file. Which one, by environment variables:
 *
 *     KILL_CALL=rename KILL_NTH=2 KILL_WHEN=before|after|within LD_PRELOAD=./kill_at.so program
 *     KILL_COUNTS=FILE    no kill: FILE gets one letter a call
 *
 * KILL_CALL=any counts all of them. within: a write ends at a page in the middle, as a kill can leave it. Letters: s
 * for fsync, d fdatasync, t ftruncate, else the first one of the name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int seen;
static pid_t program;
static const char *call, *when;
static int nth, counts = -1;

/* Not for a gnuplot that the program starts, so nothing of it stays in the environment. */
__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = { "LD_PRELOAD", "KILL_CALL", "KILL_NTH", "KILL_WHEN", "KILL_COUNTS" };
    const char *log = getenv("KILL_COUNTS");
    program = getpid();
    call = getenv("KILL_CALL");
    when = getenv("KILL_WHEN");
    nth = call ? atoi(getenv("KILL_NTH")) : 0;
    if (log)
        counts = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Whether this call is the chosen one. */
static int is_chosen(const char *name)
{
    char letter = *name == 'f' ? name[1] == 's' ? 's' : name[1] == 'd' ? 'd' : 't' : *name;
    if (getpid() != program) /* a child that reads a file for the program, which may crash at it */
        return 0;
    if (counts >= 0)
        syscall(SYS_write, counts, &letter, 1);
    if (!call || (strcmp(call, "any") && strcmp(call, name)) || atomic_fetch_add(&seen, 1) + 1 != nth)
        return 0;
    if (!strcmp(when, "before"))
        die();
    return 1;
}

/* How much of a write at `at` is done. */
static size_t part(size_t n, off_t at, int chosen)
{
    size_t half = n / 2;
    if (!chosen || strcmp(when, "within"))
        return n;
    size_t over = (size_t)(at + (off_t)half) % 4096;
    return half > over ? half - over : 0;
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))
#define CALL(type, name, parameters, arguments)                                                                        \
    type name parameters                                                                                               \
    {                                                                                                                  \
        int chosen = is_chosen(#name);                                                                                 \
        type result = REAL(name) arguments;                                                                            \
        if (chosen)                                                                                                    \
            die();                                                                                                     \
        return result;                                                                                                 \
    }

CALL(int, fsync, (int fd), (fd))
CALL(int, fdatasync, (int fd), (fd))
CALL(int, ftruncate, (int fd, off_t n), (fd, n))
CALL(int, rename, (const char *a, const char *b), (a, b))
CALL(int, unlink, (const char *path), (path))

static ssize_t put(int fd, const void *data, size_t n, off_t at)
{
    int chosen = is_chosen("pwrite");
    ssize_t done = syscall(SYS_pwrite64, fd, data, part(n, at, chosen), at);
    if (chosen)
        die();
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return put(fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    return put(fd, data, n, at);
}

ssize_t write(int fd, const void *data, size_t n)
{
    int chosen = is_chosen("write");
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_write, fd, data, part(n, at < 0 ? 0 : at, chosen));
    if (chosen)
        die();
    return done;
}
