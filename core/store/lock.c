#include "core/store/lock.h"

#include "core/base/file.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The holder before us may have removed the file between our open and our flock. */
static bool is_still_there(int fd, const char *path)
{
    struct stat mine, named;
    return !fstat(fd, &mine) && !stat(path, &named) && mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* A process that was killed a moment ago may still be going, or a child of its (h5_guard.h). */
static bool lock_soon(int fd)
{
    enum { TRIES = 50 };
    const struct timespec pause = { 0, 10000000 };
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
        if (errno != EWOULDBLOCK || i == TRIES)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

int lock_take(struct lock *lock, const char *output, struct err *err)
{
    *lock = (struct lock){ .fd = -1, .path = file_beside(output, ".lock") };
    if (!lock->path)
        return err_nomem(err, "a path");
    int rc = 0;
    bool taken = false;
    do {
        if (lock->fd >= 0)
            close(lock->fd);
        /* No O_CLOEXEC: a gnuplot that outlives a killed run still writes into its folder, so it keeps the lock. */
        lock->fd = open(lock->path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
        if (lock->fd < 0)
            rc = err_errno(err, "%s: cannot create", output);
        else if (!lock_soon(lock->fd)) {
            taken = errno == EWOULDBLOCK;
            rc = taken ? err_set(err, ERR_IO,
                                 "%s: another process is writing it: wait for it, or choose another output", output)
                       : err_errno(err, "%s: cannot lock", lock->path);
        }
    } while (!rc && !is_still_there(lock->fd, lock->path));
    if (rc) {
        if (lock->fd >= 0 && !taken) /* where locks fail nobody has one */
            unlink(lock->path);
        if (lock->fd >= 0)
            close(lock->fd);
        lock->fd = -1;
        lock_release(lock);
    }
    return rc;
}

void lock_release(struct lock *lock)
{
    if (lock->path && lock->fd >= 0) {
        unlink(lock->path);
        close(lock->fd);
    }
    free(lock->path);
    *lock = (struct lock){ .fd = -1 };
}
