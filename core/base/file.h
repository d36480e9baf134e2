/*
 * Files as read-only bytes, and small files written durably.
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
 * Writes a whole small file: temporary name in the same folder, fsync, rename,
 * fsync of the folder. The final name never holds half a file.
 */
int file_write(const char *path, const void *data, size_t size, struct err *err);
/* mkdir, together with missing parents; an existing folder is fine. */
int file_make_folder(const char *path, struct err *err);
/* fsync of a file (or folder) by path, and of the folder that holds path. */
int file_sync(const char *path, struct err *err);
int file_sync_parent(const char *path, struct err *err);
/* folder + "/" + name; caller frees; NULL when out of memory. */
char *file_join(const char *folder, const char *name);
/* The part after the last '/', borrowed. */
const char *file_base_name(const char *path);
/* The extension without its dot ("h5"), "" where there is none; borrowed. */
const char *file_extension(const char *path);

/* SHA-256 of bytes, as 64 hexadecimal digits and a NUL. False: out of memory. */
bool file_sha256(const void *data, size_t size, char hex[65]);
/* Of a whole file; the system may take back the memory of what was read, so that large files do not count. */
bool file_map_sha256(const struct file_map *map, char hex[65]);

#endif
