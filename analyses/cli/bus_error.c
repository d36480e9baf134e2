/*
 * A mapped file that was cut short, or whose disk fails, is a SIGBUS at the next touch of a lost page. The handler says
 * which file it was: it finds the address in /proc/self/maps, since libraries keep no list of their mappings.
 * Everything here is async-signal-safe.
 */
#define _GNU_SOURCE
#include "analyses/cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 + 128 };

/* The hexadecimal number at *text, which moves behind it. */
static uintptr_t take_hex(const char **text)
{
    uintptr_t x = 0;
    for (;; ++*text) {
        char c = **text;
        if (c >= '0' && c <= '9')
            x = x << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            x = x << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return x;
    }
}

/* "7f00-7f10 r--p 00000000 fe:01 1234   /the/path": the path where the range has the address, else NULL. */
static const char *path_of_line(const char *line, uintptr_t address)
{
    uintptr_t first = take_hex(&line), end;
    if (*line++ != '-')
        return NULL;
    end = take_hex(&line);
    return address >= first && address < end ? strchr(line, '/') : NULL;
}

/* *buffer gets the path of the file that is mapped at the address; false where none is. */
static bool find_mapped_file(uintptr_t address, char line[LINE_MAX_BYTES])
{
    size_t n = 0;
    char c;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    const char *path = NULL;
    while (fd >= 0 && !path && read(fd, &c, 1) == 1) {
        if (c != '\n' && n < LINE_MAX_BYTES - 1) {
            line[n++] = c;
            continue;
        }
        line[n] = '\0';
        n = 0;
        path = path_of_line(line, address);
    }
    if (fd >= 0)
        close(fd);
    if (path)
        memmove(line, path, strlen(path) + 1);
    return path != NULL;
}

static void say(const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(STDERR_FILENO, text, left);
        if (n <= 0)
            return;
        text += n;
        left -= (size_t)n;
    }
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    static char path[LINE_MAX_BYTES]; /* too large for a small stack */
    static const char gone[] = " (deleted)";
    (void)context;
    while (atomic_flag_test_and_set(&busy)) /* several workers at once: the first ends the program */
        pause();
    if (info->si_code <= 0 || !find_mapped_file((uintptr_t)info->si_addr, path)) {
        signal(sig, SIG_DFL); /* no file: a fault of the program, which is to be seen as such */
        raise(sig);
        return;
    }
    size_t n = strlen(path);
    if (n > sizeof gone - 1 && !strcmp(path + n - (sizeof gone - 1), gone))
        path[n - (sizeof gone - 1)] = '\0';
    for (char *c = path; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    say("strata: ");
    say(path);
    say(": was cut short, or its disk fails, while it was being read: leave it alone during a run, and start again\n");
    _exit(EXIT_FAILED);
}

void cli_catch_bus_errors(void)
{
    struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
