/*
 * Files as read-only bytes, and files that appear whole and to stay.
 *
 *     struct file_map map;
 *     if (file_map_open(&map, path, &err)) ...
 *     parse(map.data, map.size);
 *     file_map_close(&map);
 *
 * Only regular files (or links to them) are opened: a FIFO, device or folder
 * is refused at once instead of hanging.
 */
#ifndef STRATA_BASE_FILE_H
#define STRATA_BASE_FILE_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct pool;

struct file_map {
    const unsigned char *data; /* never NULL after open, also for an empty file */
    size_t size;
    char *name; /* owned; for messages */
    bool mapped;
};

int file_map_open(struct file_map *map, const char *path, struct err *err);
/* Borrows bytes that outlive the map (the embedded model). */
int file_map_memory(struct file_map *map, const char *name, const void *data, size_t size, struct err *err);
void file_map_close(struct file_map *map); /* safe on a zeroed struct */

bool file_exists(const char *path);
/* 1: there; 0: not there; negative: that cannot be told, *err says why. */
int file_look(const char *path, struct err *err);
bool file_is_folder(const char *path);

/*
 * Every output of Strata comes under its name here and nowhere else: it is made
 * under another name of the same folder, the draft, and then published. At any
 * moment, of a kill or a power loss too, PATH is whole: the old file, the new
 * one or none; and it is the new one once this has returned.
 */
int file_publish(const char *draft, const char *path, struct err *err);
/* What is added to PATH for a draft that nobody reads; what a killed run left is written over by the next. */
#define FILE_DRAFT ".tmp"
/* Writes and publishes a whole small file. */
int file_write(const char *path, const void *data, size_t size, struct err *err);
/* mkdir, together with missing parents, to the disk; an existing folder is fine. */
int file_make_folder(const char *path, struct err *err);
/* fsync of a file (or folder) by path, and of the folder that holds path. */
int file_sync(const char *path, struct err *err);
int file_sync_parent(const char *path, struct err *err);
/* folder + "/" + name, path + suffix; caller frees; NULL when out of memory. */
char *file_join(const char *folder, const char *name);
char *file_with_suffix(const char *path, const char *suffix);
/* The folder that holds path, "." or "/" where it names none; caller frees; NULL when out of memory. */
char *file_parent(const char *path);
/*
 * OUTPUT.suffix, the name of what is kept while an output is made: beside a file or folder (a slash at the end is no
 * part of its name), or in a folder that stands where one may not write. Caller frees; NULL when out of memory.
 */
char *file_beside(const char *output, const char *suffix);
/* The part after the last '/', borrowed. */
const char *file_base_name(const char *path);
/* The extension without its dot ("h5"), "" where there is none; borrowed. */
const char *file_extension(const char *path);

/* All n bytes, whatever signals come. False: errno says why; 0 where a file that is read ends before. */
bool file_write_at(int fd, const void *data, size_t n, off_t at);
bool file_read_at(int fd, void *data, size_t n, off_t at);

/* SHA-256 of bytes, as 64 hexadecimal digits and a NUL. */
int file_sha256(const void *data, size_t size, char hex[65], struct err *err);
/*
 * Of a whole file; the system may take back the memory of what was read, so that large files do not count. pool, which
 * may be NULL, is asked on the way whether to stop (pool_stopped).
 */
int file_map_sha256(const struct file_map *map, const struct pool *pool, char hex[65], struct err *err);

#endif
