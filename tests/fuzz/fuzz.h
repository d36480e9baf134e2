/*
 * What fuzz targets share. A target is one file tests/fuzz/fuzz_NAME.c with
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *     {
 *         struct err err = { 0 };
 *         struct thing *t = NULL;
 *         fuzz_result(thing_parse(&t, data, size, "input", &err), &err);
 *         thing_free(t);
 *         return 0;
 *     }
 *
 * and is linked with libFuzzer (`make fuzz`) or with replay.c (`make test`).
 * A check that fails aborts; both then keep the input.
 */
#ifndef STRATA_TESTS_FUZZ_FUZZ_H
#define STRATA_TESTS_FUZZ_FUZZ_H

#include "core/base/err.h"
#include "core/base/file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Printed before the crash, so that the log says which property failed. */
#define fuzz_check(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The contract of err.h: success leaves err untouched, failure gives its code and one line. Returns whether rc is 0. */
static inline bool fuzz_result(int rc, const struct err *err)
{
    fuzz_check(rc <= 0 && rc == err->code);
    fuzz_check(!rc == !*err->msg);
    for (const char *c = err->msg; *c; c++)
        fuzz_check((unsigned char)*c >= ' ' && *c != 0x7f);
    return !rc;
}

/* An exact copy on the heap, where a sanitizer sees a read past its end. The caller frees. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    fuzz_check(copy);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static char fuzz_folder_path[64];

static inline void fuzz_folder_remove(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_folder_path);
    if (*fuzz_folder_path && system(command))
        fprintf(stderr, "cannot remove %s\n", fuzz_folder_path);
}

/* A folder of this process in memory where the system has such, for parsers that take a path; removed at exit. */
static inline const char *fuzz_folder(void)
{
    if (!*fuzz_folder_path) {
        bool memory = !access("/dev/shm", W_OK);
        snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/strata-fuzz-XXXXXX", memory ? "/dev/shm" : "/tmp");
        fuzz_check(mkdtemp(fuzz_folder_path));
        atexit(fuzz_folder_remove);
    }
    return fuzz_folder_path;
}

/* Writes the bytes to a file of that name; path[128] gets where it is. */
static inline void fuzz_file(const char *name, const uint8_t *data, size_t size, char path[128])
{
    snprintf(path, 128, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    fuzz_check(f && fwrite(data, 1, size, f) == size);
    fuzz_check(!fclose(f));
}

#endif
