/* For posix_spawn_file_actions_addchdir_np. */
#define _GNU_SOURCE
#include "analyses/plot/gnuplot.h"

#include "analyses/cli/signals.h"
#include "core/base/file.h"
#include "core/base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_SIZE = 700 }; /* leaves room for the path in struct err */

extern char **environ;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Reads until end of file, keeping the first MESSAGE_SIZE - 1 bytes. False when the time is over, or we are to stop. */
static bool read_messages(int fd, double deadline, char message[MESSAGE_SIZE])
{
    size_t len = 0;
    bool in_time = true;

    for (;;) {
        double left = deadline - seconds_now();
        if (left <= 0 || cli_interrupted()) {
            in_time = false;
            break;
        }
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        if (poll(&wait, 1, (int)ceil(fmin(left, 0.2) * 1000)) <= 0)
            continue;
        char bytes[512];
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        for (ssize_t i = 0; i < got && len < MESSAGE_SIZE - 1; i++)
            message[len++] = bytes[i];
    }
    message[len] = '\0';
    return in_time;
}

/* gnuplot's messages span lines and point with a caret; ours are one line of text. */
static void one_line(char *text)
{
    size_t out = 0;
    for (size_t i = 0, k, n = strlen(text); i < n; i += k) {
        uint32_t cp;
        k = utf8_decode(text + i, n - i, &cp);
        bool blank = k && (cp <= ' ' || (cp >= 0x7f && cp < 0xa0));
        if (!k)
            text[out++] = '?';
        else if (!blank) {
            memmove(text + out, text + i, k);
            out += k;
        } else if (out && text[out - 1] != ' ')
            text[out++] = ' ';
        k = k ? k : 1;
    }
    while (out && text[out - 1] == ' ')
        out--;
    text[out] = '\0';
}

static int judge(int status, const char *folder, const char *script, const char *message, struct err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        return err_set(err, ERR_CHECK, "%s/%s: not drawn, gnuplot was stopped by signal %d%s%s", folder, script,
                       WTERMSIG(status), *message ? ": " : "", message);
    if (!*message)
        return err_set(err, ERR_CHECK, "%s/%s: not drawn, gnuplot failed with status %d", folder, script,
                       WEXITSTATUS(status));
    return err_set(err, ERR_CHECK, "%s/%s: not drawn, gnuplot says: %s", folder, script, message);
}

/* Not fork: that would copy the page tables of all weights, which takes a tenth of a second each. */
static int spawn(pid_t *child, const char *folder, const char *script, int message_fd)
{
    char draft[] = "draft='" FILE_DRAFT "'";
    char *const argv[] = { "gnuplot", "-d", "-e", draft, (char *)script, NULL };
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc)
        return rc;
    rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_RDWR, 0);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, message_fd, STDERR_FILENO);
    rc = rc ? rc : posix_spawn_file_actions_addchdir_np(&actions, folder);
    rc = rc ? rc : posix_spawnp(child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int no_start(int cause, const char *folder, const char *script, struct err *err)
{
    bool no_program = cause == ENOENT || cause == EACCES || cause == ENOTDIR;
    if (no_program && !access(folder, X_OK))
        return err_set(err, ERR_NOTFOUND,
                       "%s/%s: not drawn, gnuplot is not installed: install gnuplot-nox, then run `gnuplot %s` there",
                       folder, script, script);
    return err_set(err, ERR_IO, "%s/%s: not drawn, gnuplot could not be started in this folder: %s", folder, script,
                   strerror(cause));
}

static int interrupted(const char *folder, struct err *err)
{
    return err_set(err, ERR_INTERRUPTED, "interrupted: %s has the numbers, but not all figures: run the command again",
                   folder);
}

int gnuplot_start(struct gnuplot_job *job, const char *folder, const char *script, struct err *err)
{
    int ends[2];
    pid_t child;
    if (cli_interrupted())
        return interrupted(folder, err);
    if (pipe(ends))
        return err_errno(err, "%s: cannot make a pipe to gnuplot", folder);
    /* Neither end may stay open in a gnuplot, but for its own standard error. */
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    int cause = spawn(&child, folder, script, ends[1]);
    close(ends[1]);
    if (cause) {
        close(ends[0]);
        return no_start(cause, folder, script, err);
    }
    *job = (struct gnuplot_job){ folder, script, child, ends[0] };
    return 0;
}

int gnuplot_wait(struct gnuplot_job *job, double seconds, struct err *err)
{
    char message[MESSAGE_SIZE];
    bool in_time = read_messages(job->messages, seconds_now() + seconds, message);
    close(job->messages);
    if (!in_time)
        kill(job->child, SIGKILL);
    int status = 0;
    while (waitpid(job->child, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, "%s: cannot wait for gnuplot", job->folder);
    one_line(message);
    /* Ctrl-C in a terminal ends gnuplot as well. */
    if (cli_interrupted() && (!in_time || !WIFEXITED(status) || WEXITSTATUS(status)))
        return interrupted(job->folder, err);
    if (!in_time)
        return err_set(err, ERR_CHECK, "%s/%s: not drawn, gnuplot took longer than %.0f s and was stopped", job->folder,
                       job->script, seconds);
    return judge(status, job->folder, job->script, message, err);
}

int gnuplot_run(const char *folder, const char *script, double seconds, struct err *err)
{
    struct gnuplot_job job;
    int rc = gnuplot_start(&job, folder, script, err);
    return rc ? rc : gnuplot_wait(&job, seconds, err);
}
