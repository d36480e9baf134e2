#define _GNU_SOURCE
#include "core/base/file.h"

#include "core/base/mem.h"
#include "core/base/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int file_map_open(struct file_map *map, const char *path, struct err *err)
{
    memset(map, 0, sizeof *map);
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, "%s: cannot open", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st))
        rc = err_errno(err, "%s: cannot read its size", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_IO, "%s: is not a regular file", path);
    else if (!(map->name = mem_strdup(path)))
        rc = err_nomem(err, "a file name");
    else if (!st.st_size)
        map->data = (const unsigned char *)"";
    else {
        map->size = (size_t)st.st_size;
        void *data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            rc = err_errno(err, "%s: cannot map", path);
        else {
            map->data = data;
            map->mapped = true;
        }
    }
    close(fd);
    if (rc) {
        free(map->name);
        memset(map, 0, sizeof *map);
    }
    return rc;
}

int file_map_memory(struct file_map *map, const char *name, const void *data, size_t size, struct err *err)
{
    *map = (struct file_map){ data, size, mem_strdup(name), false };
    return map->name ? 0 : err_nomem(err, "a file name");
}

void file_map_close(struct file_map *map)
{
    if (map->mapped)
        munmap((void *)(uintptr_t)map->data, map->size);
    free(map->name);
    memset(map, 0, sizeof *map);
}

bool file_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

int file_look(const char *path, struct err *err)
{
    if (file_exists(path))
        return 1;
    return errno == ENOENT || errno == ENOTDIR ? 0 : err_errno(err, "%s: cannot look at it", path);
}

bool file_is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool file_write_at(int fd, const void *data, size_t n, off_t at)
{
    const char *from = data;
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(fd, from + done, n - done, at + (off_t)done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return true;
}

bool file_read_at(int fd, void *data, size_t n, off_t at)
{
    char *to = data;
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, to + done, n - done, at + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (!got)
            errno = 0;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/*
 * The order makes it hold: without the first fsync the new name may reach the disk before the bytes, and without the
 * second it may be gone although the run has said that it is done, and removed what it could go on from.
 */
int file_publish(const char *draft, const char *path, struct err *err)
{
    int rc = file_sync(draft, err);
    if (rc)
        return rc;
    if (rename(draft, path))
        return err_errno(err, "%s: cannot rename %s to it", path, file_base_name(draft));
    return file_sync_parent(path, err);
}

int file_write(const char *path, const void *data, size_t size, struct err *err)
{
    char *draft = file_with_suffix(path, FILE_DRAFT);
    if (!draft)
        return err_nomem(err, "a path");
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = fd < 0 ? err_errno(err, "%s: cannot create", path) : 0;
    if (!rc && !file_write_at(fd, data, size, 0))
        rc = err_errno(err, "%s: cannot write", path);
    if (fd >= 0 && close(fd) && !rc)
        rc = err_errno(err, "%s: cannot close", path);
    rc = rc ? rc : file_publish(draft, path, err);
    if (rc && fd >= 0)
        unlink(draft);
    free(draft);
    return rc;
}

int file_make_folder(const char *path, struct err *err)
{
    char partial[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof partial)
        return err_set(err, ERR_IO, "%s: the path is too long", path);
    memcpy(partial, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        char kept = partial[i];
        partial[i] = '\0';
        bool made = !mkdir(partial, 0777);
        if (!made && errno != EEXIST)
            return err_errno(err, "%s: cannot make the folder", partial);
        if (made && file_sync_parent(partial, err))
            return ERR_IO;
        partial[i] = kept;
    }
    if (!file_is_folder(path))
        return err_set(err, ERR_IO, "%s: is there already and is no folder: choose another output", path);
    return 0;
}

int file_sync(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s: cannot open to flush it", path);
    /* EINVAL: some file systems cannot fsync a folder; nothing more can be done there. */
    int rc = fsync(fd) && errno != EINVAL ? err_errno(err, "%s: cannot flush to disk", path) : 0;
    close(fd);
    return rc;
}

int file_sync_parent(const char *path, struct err *err)
{
    char *parent = file_parent(path);
    if (!parent)
        return err_nomem(err, "a path");
    /* One may write into a folder that one may not read; that cannot be flushed. */
    int rc = access(parent, R_OK) ? 0 : file_sync(parent, err);
    if (rc && !strcmp(parent, ".")) /* which alone tells nothing */
        err_prefix(err, "%s: its folder ", path);
    free(parent);
    return rc;
}

char *file_parent(const char *path)
{
    char *parent = mem_strdup(path), *slash = parent ? strrchr(parent, '/') : NULL;
    if (slash)
        slash[slash == parent] = '\0';
    else if (parent) {
        free(parent);
        parent = mem_strdup(".");
    }
    return parent;
}

char *file_join(const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    while (a > 1 && folder[a - 1] == '/')
        a--;
    char *path = mem_array(a + b + 2, 1);
    if (path) {
        memcpy(path, folder, a);
        path[a] = '/';
        memcpy(path + a + 1, name, b + 1);
    }
    return path;
}

char *file_with_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix) + 1;
    char *out = mem_array(n + m, 1);
    if (out) {
        memcpy(out, path, n);
        memcpy(out + n, suffix, m);
    }
    return out;
}

/* A folder's own name where its path ends in a link, "." or ".."; NULL: as it is written. */
static char *resolve(const char *folder)
{
    struct stat st;
    const char *name = file_base_name(folder);
    bool plain = strcmp(name, ".") && strcmp(name, "..") && !lstat(folder, &st) && !S_ISLNK(st.st_mode);
    return plain ? NULL : realpath(folder, NULL);
}

/* Whether a file can be made in the folder that holds path. */
static bool can_be_beside(const char *path)
{
    char *parent = file_parent(path);
    bool can = parent && !access(parent, W_OK | X_OK);
    free(parent);
    return can;
}

char *file_beside(const char *output, const char *suffix)
{
    size_t n = strlen(output);
    char *path = mem_strdup(output), *own;
    while (path && n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    if (path && file_is_folder(path)) {
        if ((own = resolve(path))) {
            free(path);
            path = own;
        }
        if (!can_be_beside(path)) {
            own = file_join(path, suffix);
            free(path);
            return own;
        }
    }
    own = path ? file_with_suffix(path, suffix) : NULL;
    free(path);
    return own;
}

const char *file_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *file_extension(const char *path)
{
    const char *name = file_base_name(path);
    const char *dot = strrchr(name, '.');
    return dot && dot != name ? dot + 1 : "";
}

static int to_hex(bool fine, const unsigned char *digest, unsigned n, char hex[65], struct err *err)
{
    if (!fine || n != 32)
        return err_nomem(err, "a SHA-256");
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

int file_sha256(const void *data, size_t size, char hex[65], struct err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    bool fine = EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL);
    return to_hex(fine, digest, n, hex, err);
}

int file_map_sha256(const struct file_map *map, const struct pool *pool, char hex[65], struct err *err)
{
    enum { PIECE = 8 << 20 }; /* a multiple of every page size */
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int rc = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool fine = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    for (size_t at = 0; !rc && fine && at < map->size; at += PIECE) {
        size_t size = map->size - at < PIECE ? map->size - at : PIECE;
        fine = EVP_DigestUpdate(ctx, map->data + at, size);
        if (map->mapped)
            madvise((void *)(uintptr_t)(map->data + at), size, MADV_DONTNEED);
        rc = pool ? pool_stopped(pool, err) : 0;
    }
    fine = fine && EVP_DigestFinal_ex(ctx, digest, &n);
    EVP_MD_CTX_free(ctx);
    return rc ? rc : to_hex(fine, digest, n, hex, err);
}
