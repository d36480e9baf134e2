#include "core/store/journal.h"

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DIGEST = 32, MAGIC = 8, HEAD = MAGIC + DIGEST, SYNC_SECONDS = 2 };

struct journal {
    char *path;
    int fd;
    unsigned char key[DIGEST];
    off_t end;       /* of the last whole piece that was read or written */
    uint64_t n_read; /* pieces before `end` */
    bool writing;    /* there is nothing behind `end` */
    time_t synced;
};

/* Of piece number j->n_read: its size and its bytes. */
static bool digest_piece(const struct journal *j, const unsigned char *piece, size_t size, unsigned char digest[DIGEST])
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) && EVP_DigestUpdate(c, j->key, DIGEST) &&
                EVP_DigestUpdate(c, &j->n_read, sizeof j->n_read) && EVP_DigestUpdate(c, piece, size) &&
                EVP_DigestFinal_ex(c, digest, NULL);
    EVP_MD_CTX_free(c);
    return good;
}

/* --- opening --- */

/* Published, so that the head is whole wherever there is a journal, after a power loss too. */
static int start_file(struct journal *j, struct err *err)
{
    unsigned char head[HEAD];
    memcpy(head, "STRATAJ1", MAGIC);
    memcpy(head + MAGIC, j->key, DIGEST);
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
    int rc = file_write(j->path, head, HEAD, err);
    if (rc)
        return rc;
    j->writing = true;
    j->fd = open(j->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return j->fd < 0 ? err_errno(err, "%s: cannot open", j->path) : 0;
}

static int check_head(struct journal *j, bool resume, struct err *err)
{
    unsigned char head[HEAD];
    struct stat st;
    if (fstat(j->fd, &st))
        return err_errno(err, "%s: cannot read", j->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_ARG, "%s: not a regular file: remove it", j->path);
    if (st.st_size < HEAD)
        return start_file(j, err);
    if (!file_read_at(j->fd, head, HEAD, 0) || memcmp(head, "STRATAJ1", MAGIC) != 0)
        return err_set(err, ERR_FORMAT, "%s: not a journal of Strata: remove it, or choose another output", j->path);
    if (st.st_size > HEAD && !resume)
        return err_set(err, ERR_ARG, "%s: an interrupted run left it: continue it with --resume, or remove it",
                       j->path);
    if (memcmp(head + MAGIC, j->key, DIGEST) == 0)
        return 0;
    /* Killed before there was a piece: nothing to lose. */
    if (st.st_size == HEAD)
        return start_file(j, err);
    return err_set(err, ERR_ARG,
                   "%s: of another command, model, input or machine: resume with the command that began it, or remove "
                   "it",
                   j->path);
}

static int open_file(struct journal *j, const char *output, bool resume, struct err *err)
{
    j->path = file_beside(output, ".journal");
    if (!j->path)
        return err_nomem(err, "a path");
    j->fd = open(j->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (j->fd < 0 && errno == ENOENT)
        return start_file(j, err);
    return j->fd < 0 ? err_errno(err, "%s: cannot open", j->path) : check_head(j, resume, err);
}

int journal_open(struct journal **out, const char *output, const char *key, bool resume, struct err *err)
{
    struct journal *j = mem_zeroed(1, sizeof *j);
    if (!j || !EVP_Digest(key, strlen(key), j->key, NULL, EVP_sha256(), NULL)) {
        free(j);
        return err_nomem(err, "a journal");
    }
    j->fd = -1;
    j->end = HEAD;
    j->synced = time(NULL);
    int rc = open_file(j, output, resume, err);
    if (rc) /* another run's file is left as it is */
        journal_close(j, true);
    else
        *out = j;
    return rc;
}

/* --- pieces --- */

/* Of a piece in the file. */
struct frame {
    uint64_t size;        /* of the parts */
    size_t digest, whole; /* where the digest is; bytes in all */
    unsigned char *bytes; /* [whole] */
};

static bool make_frame(struct frame *f, const struct journal_part *parts, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        if (!size_add(size, parts[i].bytes, &size))
            return false;
    f->size = size;
    if (!size_add(size, sizeof f->size, &f->digest) || !size_add(f->digest, DIGEST, &f->whole))
        return false;
    f->bytes = mem_array(f->whole, 1);
    return f->bytes != NULL;
}

static bool is_sound(const struct journal *j, const struct frame *f)
{
    unsigned char digest[DIGEST];
    return file_read_at(j->fd, f->bytes, f->whole, j->end) && !memcmp(f->bytes, &f->size, sizeof f->size) &&
           digest_piece(j, f->bytes, f->digest, digest) && !memcmp(f->bytes + f->digest, digest, DIGEST);
}

static void advance(struct journal *j, const struct frame *f)
{
    j->end += (off_t)f->whole;
    j->n_read++;
}

bool journal_load(struct journal *j, const struct journal_part *parts, size_t n)
{
    struct frame f = { 0 };
    if (!j || j->writing)
        return false;
    if (!make_frame(&f, parts, n) || !is_sound(j, &f)) {
        j->writing = true;
    } else {
        const unsigned char *from = f.bytes + sizeof f.size;
        for (size_t i = 0; i < n; from += parts[i++].bytes)
            if (parts[i].bytes)
                memcpy(parts[i].data, from, parts[i].bytes);
        advance(j, &f);
    }
    free(f.bytes);
    return !j->writing;
}

static int put(struct journal *j, const struct frame *f, struct err *err)
{
    /* What a kill or a fault left there is cut off first, lest its end be taken for a piece. */
    if (ftruncate(j->fd, j->end) || !file_write_at(j->fd, f->bytes, f->whole, j->end))
        return err_errno(err, "%s: cannot write: make room and go on with --resume", j->path);
    advance(j, f);
    if (time(NULL) - j->synced < SYNC_SECONDS)
        return 0;
    j->synced = time(NULL);
    return fdatasync(j->fd) ? err_errno(err, "%s: cannot write", j->path) : 0;
}

int journal_save(struct journal *j, const struct journal_part *parts, size_t n, struct err *err)
{
    struct frame f = { 0 };
    if (!j)
        return 0;
    if (!make_frame(&f, parts, n))
        return err_nomem(err, "a piece of the result");
    unsigned char *to = f.bytes + sizeof f.size;
    memcpy(f.bytes, &f.size, sizeof f.size);
    for (size_t i = 0; i < n; to += parts[i++].bytes)
        if (parts[i].bytes)
            memcpy(to, parts[i].data, parts[i].bytes);
    int rc = digest_piece(j, f.bytes, f.digest, to) ? put(j, &f, err) : err_nomem(err, "a digest");
    free(f.bytes);
    return rc;
}

bool journal_is_loading(const struct journal *j)
{
    return j && !j->writing && j->n_read;
}

size_t journal_pieces(const struct journal *j)
{
    return j ? (size_t)j->n_read : 0;
}

const char *journal_path(const struct journal *j)
{
    return j->path;
}

void journal_close(struct journal *j, bool keep)
{
    struct stat st;
    if (!j)
        return;
    if (j->fd >= 0 && (!keep || (!fstat(j->fd, &st) && st.st_size <= HEAD)))
        unlink(j->path);
    else if (j->fd >= 0)
        fsync(j->fd);
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    free(j);
}
