/*
 * Finished pieces of long work, kept beside the output until it is whole, so
 * that an interrupted run goes on where it stopped.
 *
 *     struct journal *j;
 *     journal_open(&j, "heads.h5", key, resume, &err);       // heads.h5.journal
 *     for each piece of the work, always in the same order {
 *         const struct journal_part parts[] = { { logprob, n * sizeof *logprob }, { rank, n * sizeof *rank } };
 *         if (journal_load(j, parts, 2))
 *             continue;                                      // an earlier run computed it
 *         compute(logprob, rank);
 *         journal_save(j, parts, 2, &err);
 *     }
 *     journal_close(j, rc == ERR_INTERRUPTED);               // kept, or removed
 *
 * The work must cut itself into the same pieces whatever was loaded: then the
 * result of a resumed run is that of an uninterrupted one, bit by bit.
 *
 * File: "STRATAJ1", SHA-256 of the key; then a piece each: its size (8 bytes),
 * its bytes, SHA-256 of key, number, size and bytes.
 *
 * Promise. A piece goes to the file in one write when it is finished: a killed
 * process loses the one at hand. It goes to the disk with the first piece that
 * is finished 2 s after the last flush, and when the journal is closed: a power
 * loss takes what was finished since. What a kill, a power loss, a full disk or
 * a fault left behind the last whole piece is cut off and computed again.
 *
 * key: whatever determines the numbers: command, model, input, options. A
 * journal of another key is refused (ERR_ARG), as is one without `resume`. The
 * caller holds the output's lock (lock.h) meanwhile, and closes the journal with
 * keep = false after the result is published. A NULL journal keeps nothing.
 * Numbers are as in memory: a journal is for the machine that wrote it.
 */
#ifndef STRATA_STORE_JOURNAL_H
#define STRATA_STORE_JOURNAL_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct journal_part {
    void *data;
    size_t bytes;
};

struct journal;

/* Also of a folder: a slash at the end is no part of its name. ERR_IO where no file can be made beside the output. */
int journal_open(struct journal **out, const char *output, const char *key, bool resume, struct err *err);
/* True: the parts hold the next piece. False: it is not there, nor is any later one; the parts are as they were. */
bool journal_load(struct journal *j, const struct journal_part *parts, size_t n);
/* The next piece, after a load that was false. */
int journal_save(struct journal *j, const struct journal_part *parts, size_t n, struct err *err);
/* Whether the last piece came from the file, and the next one may. */
bool journal_is_loading(const struct journal *j);
/* Pieces in the file, and its name. */
size_t journal_pieces(const struct journal *j);
const char *journal_path(const struct journal *j);
/* keep: for --resume, unless it is empty. NULL is fine. */
void journal_close(struct journal *j, bool keep);

#endif
