#include "core/store/h5_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

static void run_child(const char *path, int out, int (*rehearse)(void *arg, struct err *err), void *arg)
{
    struct err err = { 0 };
    struct stat st;
    rlim_t seconds = 2 + (stat(path, &st) ? 0 : (rlim_t)st.st_size >> 24);
    const struct rlimit no_core = { 0, 0 }, time = { seconds, seconds + 1 };
    /* A crash must end the child, whatever handlers the program has. */
    const int crashes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        signal(crashes[i], SIG_DFL);
#ifdef __linux__
    /* It has our files and locks open: it must not outlive a killed parent. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_CPU, &time);
    int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0)
        dup2(nowhere, STDERR_FILENO);
    err.code = rehearse(arg, &err);
    /* Smaller than PIPE_BUF: whole or not at all. */
    _exit(write(out, &err, sizeof err) == (ssize_t)sizeof err ? 0 : 1);
}

static bool receive(int in, struct err *result)
{
    char *to = (char *)result;
    size_t got = 0;
    while (got < sizeof *result) {
        ssize_t n = read(in, to + got, sizeof *result - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    result->msg[sizeof result->msg - 1] = '\0';
    return true;
}

int h5_guard(const char *path, int (*rehearse)(void *arg, struct err *err), void *arg, struct err *err)
{
    int ends[2], status = 0;
    struct err result = { 0 };
    if (pipe(ends))
        return err_errno(err, "%s: cannot start reading", path);
    pid_t child = fork();
    if (child < 0) {
        err_errno(err, "%s: cannot start reading", path);
        close(ends[0]);
        close(ends[1]);
        return ERR_IO;
    }
    if (!child) {
        close(ends[0]);
        run_child(path, ends[1], rehearse, arg);
    }
    close(ends[1]);
    bool whole = receive(ends[0], &result);
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!whole)
        return err_set(err, ERR_FORMAT, "%s: is damaged: the HDF5 library %s on it", path,
                       WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU ? "does not come to an end" : "crashes");
    return result.code ? err_set(err, (enum err_code)result.code, "%s", result.msg) : 0;
}
