#include "analyses/cli/signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void stop_at(int signal, int flags)
{
    /* No SA_RESTART: a read that waits for a terminal or a pipe must end. */
    struct sigaction stop = { .sa_handler = on_signal, .sa_flags = flags };
    sigemptyset(&stop.sa_mask);
    sigaction(signal, &stop, NULL);
}

static bool is_ignored(int signal)
{
    struct sigaction now;
    return !sigaction(signal, NULL, &now) && now.sa_handler == SIG_IGN;
}

void cli_catch_signals(void)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigemptyset(&ignore.sa_mask);
    stop_at(SIGINT, (int)SA_RESETHAND);
    stop_at(SIGTERM, (int)SA_RESETHAND);
    /* Comes twice where a terminal is closed: from the kernel and from the shell. nohup ignores it. */
    if (!is_ignored(SIGHUP))
        stop_at(SIGHUP, 0);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file size limit is an error of write, too */
}

bool cli_interrupted(void)
{
    return interrupted;
}
