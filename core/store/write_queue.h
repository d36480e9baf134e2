/*
 * One thread that writes bytes at file offsets, in order, from a bounded ring,
 * so that writing overlaps with computing.
 *
 *     struct write_queue *q;
 *     write_queue_start(&q, fd, path, 5.0, commit, arg, &err);
 *     size_t room;
 *     float *out = write_queue_reserve(q, bytes, &room, &err);   // room <= bytes: come again for the rest
 *     fill(out, room);
 *     write_queue_send(q, offset, room);
 *     write_queue_mark(q, counts, &err);                    // everything sent so far belongs to these counts
 *     int rc = write_queue_stop(q, &err);                   // writes all, commits the last mark
 *
 * At a mark, when flush_seconds have passed since the last commit, the thread
 * calls commit(arg, counts): after everything before the mark was written. A
 * failed write ends writing: later calls return that error, and stop still
 * commits the last mark whose data was written whole.
 *
 * One producer thread at a time, of the process that started it: a child made by
 * fork gets ERR_ARG, and writes nothing.
 */
#ifndef STRATA_STORE_WRITE_QUEUE_H
#define STRATA_STORE_WRITE_QUEUE_H

#include "core/base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { WRITE_QUEUE_COUNTS = 4 };
#define WRITE_QUEUE_BYTES ((size_t)64 << 20)
#define WRITE_QUEUE_PIECE ((size_t)16 << 20) /* most bytes of one reservation */

struct write_queue;
typedef int write_queue_commit(void *arg, const uint64_t counts[WRITE_QUEUE_COUNTS], struct err *err);

int write_queue_start(struct write_queue **out, int fd, const char *path, double flush_seconds,
                      write_queue_commit *commit, void *arg, struct err *err);
/* Memory for up to `bytes` bytes, 64-byte aligned; waits for room. NULL after a failure. */
void *write_queue_reserve(struct write_queue *q, size_t bytes, size_t *room, struct err *err);
/* Hands over what was reserved last. */
void write_queue_send(struct write_queue *q, off_t at, size_t bytes);
int write_queue_mark(struct write_queue *q, const uint64_t counts[WRITE_QUEUE_COUNTS], struct err *err);
/* Frees q. Returns the first error of the thread. */
int write_queue_stop(struct write_queue *q, struct err *err);

#endif
