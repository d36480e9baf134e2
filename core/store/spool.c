#define _GNU_SOURCE /* O_TMPFILE */
#include "core/store/spool.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef O_TMPFILE
#define O_TMPFILE O_DIRECTORY /* always refused for writing, so the named file is used */
#endif

/* Where the file system cannot make a file without a name, one whose name is gone at once. */
static int named_file(const char *path, struct err *err)
{
    struct strbuf name = STRBUF_INIT;
    strbuf_addf(&name, "%s.spool-XXXXXX", path);
    if (strbuf_failed(&name)) {
        strbuf_release(&name);
        err_nomem(err, "a path");
        return -1;
    }
    int fd = mkstemp(name.data);
    if (fd < 0)
        err_errno(err, "%s: cannot create", path);
    else
        unlink(name.data);
    strbuf_release(&name);
    return fd;
}

/* In the folder of path. A killed process leaves nothing behind. */
static FILE *nameless_file(const char *path, struct err *err)
{
    struct strbuf folder = STRBUF_INIT;
    const char *slash = strrchr(path, '/');
    strbuf_add(&folder, slash ? path : "./", slash ? (size_t)(slash - path) + 1 : 2);
    int fd = strbuf_failed(&folder) ? -1 : open(strbuf_text(&folder), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    strbuf_release(&folder);
    if (fd < 0)
        fd = named_file(path, err);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w+b");
    if (fd >= 0 && !file) {
        err_errno(err, "%s: cannot create", path);
        close(fd);
    }
    return file;
}

int spool_open(struct spool *s, enum store_type type, const char *path, struct err *err)
{
    *s = (struct spool){ .type = type, .path = path };
    s->digest = EVP_MD_CTX_new();
    if (!s->digest || !EVP_DigestInit_ex(s->digest, EVP_sha256(), NULL)) {
        spool_close(s);
        return err_nomem(err, "a digest");
    }
    s->file = nameless_file(path, err);
    if (s->file)
        return 0;
    spool_close(s);
    return ERR_IO;
}

static int add(struct spool *s, const void *data, size_t bytes, struct err *err)
{
    if (bytes && fwrite(data, 1, bytes, s->file) != bytes)
        return err_errno(err, "%s: cannot write", s->path);
    return EVP_DigestUpdate(s->digest, data, bytes) ? 0 : err_nomem(err, "a digest");
}

int spool_add(struct spool *s, uint64_t n, const void *data, struct err *err)
{
    int rc = 0;
    if (s->type != STORE_TEXT)
        rc = add(s, data, (size_t)n * store_type_size(s->type), err);
    for (uint64_t i = 0; s->type == STORE_TEXT && !rc && i < n; i++) {
        const char *text = ((const char *const *)data)[i];
        uint64_t length = strlen(text);
        rc = add(s, &length, sizeof length, err);
        if (!rc)
            rc = add(s, text, (size_t)length, err);
    }
    s->n += n;
    return rc;
}

int spool_rewind(struct spool *s, struct err *err)
{
    return fflush(s->file) || fseeko(s->file, 0, SEEK_SET) ? err_errno(err, "%s: cannot write", s->path) : 0;
}

static int take(struct spool *s, void *out, size_t bytes, struct err *err)
{
    if (!bytes || fread(out, 1, bytes, s->file) == bytes)
        return 0;
    if (ferror(s->file))
        return err_errno(err, "%s: cannot read back its temporary file", s->path);
    return err_set(err, ERR_IO, "%s: its temporary file is shorter than what was written", s->path);
}

static int take_text(struct spool *s, char **out, struct err *err)
{
    uint64_t length;
    int rc = take(s, &length, sizeof length, err);
    if (rc)
        return rc;
    char *text = mem_array((size_t)length + 1, 1);
    if (!text)
        return err_nomem(err, "a text");
    rc = take(s, text, (size_t)length, err);
    text[length] = '\0';
    if (rc)
        free(text);
    else
        *out = text;
    return rc;
}

int spool_next(struct spool *s, uint64_t n, void *out, struct err *err)
{
    if (s->type != STORE_TEXT)
        return take(s, out, (size_t)n * store_type_size(s->type), err);
    char **texts = out;
    for (uint64_t i = 0; i < n; i++) {
        int rc = take_text(s, &texts[i], err);
        if (!rc)
            continue;
        while (i)
            free(texts[--i]);
        return rc;
    }
    return 0;
}

bool spool_sha256(const struct spool *s, unsigned char digest[32])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    bool fine = copy && EVP_MD_CTX_copy_ex(copy, s->digest) && EVP_DigestFinal_ex(copy, digest, NULL);
    EVP_MD_CTX_free(copy);
    return fine;
}

void spool_close(struct spool *s)
{
    if (s->file)
        fclose(s->file);
    EVP_MD_CTX_free(s->digest);
    *s = (struct spool){ 0 };
}
