#include "core/store/write_queue.h"

#include "core/base/file.h"
#include "core/base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_JOBS = 4096 };

struct job {
    const char *data; /* NULL: a mark */
    size_t bytes;
    off_t at;
    uint64_t end; /* ring position up to which memory is free again afterwards */
    uint64_t counts[WRITE_QUEUE_COUNTS];
};

struct write_queue {
    int fd;
    const char *path; /* borrowed */
    write_queue_commit *commit;
    void *arg;
    double flush_seconds, committed_at;

    pid_t owner; /* a child made by fork has no thread that writes */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t more, room;
    char *ring;
    uint64_t head, tail; /* ring positions: up to which reserved, up to which freed; modulo WRITE_QUEUE_BYTES */
    struct job *jobs;
    uint64_t jobs_in, jobs_out;
    char *reserved;
    uint64_t reserved_end;
    bool stopping;
    struct err failure; /* code 0: none */

    bool has_pending; /* thread only: a mark that was not committed */
    uint64_t pending[WRITE_QUEUE_COUNTS];
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int commit_pending(struct write_queue *q, struct err *err)
{
    if (!q->has_pending)
        return 0;
    q->has_pending = false;
    int rc = q->commit(q->arg, q->pending, err);
    q->committed_at = seconds();
    return rc;
}

static int do_job(struct write_queue *q, const struct job *job, struct err *err)
{
    if (job->data)
        return file_write_at(q->fd, job->data, job->bytes, job->at) ? 0 : err_errno(err, "%s: cannot write", q->path);
    memcpy(q->pending, job->counts, sizeof q->pending);
    q->has_pending = true;
    return seconds() - q->committed_at >= q->flush_seconds ? commit_pending(q, err) : 0;
}

static void *work(void *arg)
{
    struct write_queue *q = arg;
    struct err err = { 0 };
    pthread_mutex_lock(&q->mutex);
    for (;;) {
        while (q->jobs_in == q->jobs_out && !q->stopping)
            pthread_cond_wait(&q->more, &q->mutex);
        if (q->jobs_in == q->jobs_out)
            break;
        struct job job = q->jobs[q->jobs_out % N_JOBS];
        bool failed = q->failure.code;
        pthread_mutex_unlock(&q->mutex);
        int rc = failed ? 0 : do_job(q, &job, &err);
        pthread_mutex_lock(&q->mutex);
        if (rc)
            q->failure = err;
        q->jobs_out++;
        if (job.data)
            q->tail = job.end;
        pthread_cond_signal(&q->room);
    }
    pthread_mutex_unlock(&q->mutex);
    int rc = commit_pending(q, &err);
    if (rc && !q->failure.code)
        q->failure = err;
    return NULL;
}

int write_queue_start(struct write_queue **out, int fd, const char *path, double flush_seconds,
                      write_queue_commit *commit, void *arg, struct err *err)
{
    struct write_queue *q = mem_zeroed(1, sizeof *q);
    if (q) {
        *q = (struct write_queue){
            .fd = fd, .path = path, .commit = commit, .arg = arg, .flush_seconds = flush_seconds, .owner = getpid()
        };
        q->ring = mem_aligned(WRITE_QUEUE_BYTES, 1);
        q->jobs = mem_array(N_JOBS, sizeof *q->jobs);
    }
    if (!q || !q->ring || !q->jobs) {
        if (q) {
            free(q->ring);
            free(q->jobs);
        }
        free(q);
        return err_nomem(err, "the write queue");
    }
    q->committed_at = seconds();
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->more, NULL);
    pthread_cond_init(&q->room, NULL);
    int failed = pthread_create(&q->thread, NULL, work, q);
    if (failed) {
        free(q->ring);
        free(q->jobs);
        free(q);
        errno = failed;
        return err_errno(err, "%s: cannot start a thread", path);
    }
    *out = q;
    return 0;
}

static int failure(struct write_queue *q, struct err *err)
{
    return err_set(err, (enum err_code)q->failure.code, "%s", q->failure.msg);
}

static int check_owner(const struct write_queue *q, struct err *err)
{
    return getpid() == q->owner ? 0 : err_set(err, ERR_ARG, "%s: is written by another process", q->path);
}

void *write_queue_reserve(struct write_queue *q, size_t bytes, size_t *room, struct err *err)
{
    if (check_owner(q, err))
        return NULL;
    size_t piece = bytes < WRITE_QUEUE_PIECE ? bytes : WRITE_QUEUE_PIECE, rounded = (piece + 63) & ~(size_t)63;
    pthread_mutex_lock(&q->mutex);
    if (q->head == q->tail) /* all is written: the same memory again, so that most of the ring is never touched */
        q->head = q->tail = 0;
    size_t at = (size_t)(q->head % WRITE_QUEUE_BYTES);
    /* A piece is contiguous: where the end of the ring is too near, it is left out. */
    size_t skipped = WRITE_QUEUE_BYTES - at < rounded ? WRITE_QUEUE_BYTES - at : 0;
    while (!q->failure.code && q->head + skipped + rounded - q->tail > WRITE_QUEUE_BYTES)
        pthread_cond_wait(&q->room, &q->mutex);
    bool failed = q->failure.code;
    pthread_mutex_unlock(&q->mutex);
    if (failed) {
        failure(q, err);
        return NULL;
    }
    q->reserved = q->ring + (q->head + skipped) % WRITE_QUEUE_BYTES;
    q->reserved_end = q->head + skipped + rounded;
    *room = piece;
    return q->reserved;
}

/* With the lock held; waits until the list of jobs has room. */
static void push(struct write_queue *q, const struct job *job)
{
    while (q->jobs_in - q->jobs_out == N_JOBS)
        pthread_cond_wait(&q->room, &q->mutex);
    q->jobs[q->jobs_in++ % N_JOBS] = *job;
    pthread_cond_signal(&q->more);
}

void write_queue_send(struct write_queue *q, off_t at, size_t bytes)
{
    struct job job = { .data = q->reserved, .bytes = bytes, .at = at, .end = q->reserved_end };
    q->head = q->reserved_end;
    pthread_mutex_lock(&q->mutex);
    push(q, &job);
    pthread_mutex_unlock(&q->mutex);
}

int write_queue_mark(struct write_queue *q, const uint64_t counts[WRITE_QUEUE_COUNTS], struct err *err)
{
    struct job job = { .data = NULL };
    int rc = check_owner(q, err);
    if (rc)
        return rc;
    memcpy(job.counts, counts, sizeof job.counts);
    pthread_mutex_lock(&q->mutex);
    push(q, &job);
    bool failed = q->failure.code;
    pthread_mutex_unlock(&q->mutex);
    return failed ? failure(q, err) : 0;
}

static int end_thread(struct write_queue *q, struct err *err)
{
    pthread_mutex_lock(&q->mutex);
    q->stopping = true;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&q->mutex);
    pthread_join(q->thread, NULL);
    int rc = q->failure.code ? failure(q, err) : 0;
    pthread_mutex_destroy(&q->mutex);
    pthread_cond_destroy(&q->more);
    pthread_cond_destroy(&q->room);
    return rc;
}

int write_queue_stop(struct write_queue *q, struct err *err)
{
    int rc = check_owner(q, err);
    if (!rc)
        rc = end_thread(q, err);
    free(q->ring);
    free(q->jobs);
    free(q);
    return rc;
}
