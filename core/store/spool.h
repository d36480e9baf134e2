/*
 * A list of numbers or texts of unknown length, kept on disk until its length
 * is known, together with its SHA-256.
 *
 *     struct spool spool;
 *     spool_open(&spool, STORE_TEXT, "dump.h5", &err);       // a nameless file in the folder of dump.h5
 *     spool_add(&spool, 2, (const char *[]){ "a", "b" }, &err);
 *     spool_rewind(&spool, &err);
 *     char *texts[2];
 *     spool_next(&spool, 2, texts, &err);                    // each the caller's (free)
 *     spool_close(&spool);
 */
#ifndef STRATA_STORE_SPOOL_H
#define STRATA_STORE_SPOOL_H

#include "core/base/err.h"
#include "core/store/store_type.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct spool {
    FILE *file;
    enum store_type type;
    uint64_t n;       /* items added */
    void *digest;     /* EVP_MD_CTX */
    const char *path; /* borrowed: for messages */
};

int spool_open(struct spool *s, enum store_type type, const char *path, struct err *err);
/* data: numbers of the type, or const char *const * of n texts. */
int spool_add(struct spool *s, uint64_t n, const void *data, struct err *err);
int spool_rewind(struct spool *s, struct err *err);
/* out: n numbers, or char *[n]; at most what was added. Nothing is left to free when it fails. */
int spool_next(struct spool *s, uint64_t n, void *out, struct err *err);
/* Of all that was added; texts count with their lengths. False: out of memory. */
bool spool_sha256(const struct spool *s, unsigned char digest[32]);
void spool_close(struct spool *s); /* safe on a zeroed struct */

#endif
