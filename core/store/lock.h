/*
 * One writer per output: a lock that dies with its process.
 *
 *     struct lock lock;
 *     if (lock_take(&lock, "dump.h5", &err))      // "dump.h5.lock" beside it; ERR_IO when another process keeps it
 * (0.5 s) return err.code; lock_release(&lock);
 *
 * The file is removed on release; a killed process leaves an empty one, which the next run takes over.
 */
#ifndef STRATA_STORE_LOCK_H
#define STRATA_STORE_LOCK_H

#include "core/base/err.h"

struct lock {
    int fd;     /* -1: not held */
    char *path; /* owned */
};

int lock_take(struct lock *lock, const char *output, struct err *err);
void lock_release(struct lock *lock); /* safe when not held */

#endif
