/*
 * A rehearsal in a child process. HDF5 reads addresses and sizes from the file
 * and crashes or loops on some damaged ones (1.10.8: a wild global heap index is
 * enough), which no check from outside can foresee. So whoever reads a file of
 * unknown origin lets a child read it first.
 *
 *     static int rehearse(void *arg, struct err *err) { return read_all(arg, err); }
 *
 *     int rc = h5_guard(path, rehearse, arg, &err);     // the child's error, or ERR_FORMAT when it died
 *     if (!rc)
 *         rc = read_all(arg, &err);
 *
 * The child may use 2 s of CPU time and 1 s more for each 16 MiB of the file;
 * nothing that it does reaches the caller. About 1 ms beside the reading itself.
 */
#ifndef STRATA_STORE_H5_GUARD_H
#define STRATA_STORE_H5_GUARD_H

#include "core/base/err.h"

int h5_guard(const char *path, int (*rehearse)(void *arg, struct err *err), void *arg, struct err *err);

#endif
