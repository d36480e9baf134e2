/*
 * The extent of a dataset, changed from outside the library.
 *
 * HDF5 has no crash-safe way to let a dataset grow: H5Dset_extent and H5Fflush
 * rewrite index nodes and headers one after another, and a kill in between
 * leaves a file that does not open. So Strata allocates every dataset in full
 * before the run and afterwards moves only the number of rows that readers see:
 * 8 bytes in the dataspace message of the dataset's object header, at a
 * multiple of 8, which one write changes as a whole or not at all.
 *
 *     struct extent e;
 *     extent_find(fd, header_address, 1000, "dump.h5", &e, &err);   // file closed by HDF5
 *     extent_set(fd, &e, 512, "dump.h5", &err);                     // readers now see 512 rows
 *
 * The layout is that of the HDF5 File Format Specification, "Data Object Header
 * Prefix" version 1 and "Dataspace Message" version 1, which the library writes
 * under H5F_LIBVER_EARLIEST. Files with a moved extent were read back with HDF5
 * 1.10.8, 1.12.2, 1.14.4 and 2.0.0. An extent of 0 is refused for contiguous
 * data by those libraries, so no reader may meet such a file.
 */
#ifndef STRATA_STORE_EXTENT_H
#define STRATA_STORE_EXTENT_H

#include "core/base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct extent {
    off_t at; /* of the 8 bytes */
};

/* The object header at `header` must say that the first dimension is `rows`; ERR_CHECK otherwise. */
int extent_find(int fd, uint64_t header, uint64_t rows, const char *path, struct extent *out, struct err *err);
int extent_set(int fd, const struct extent *extent, uint64_t rows, const char *path, struct err *err);

#endif
