#include "core/store/extent.h"

#include "core/base/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

enum { MESSAGE_DATASPACE = 0x0001, MESSAGE_CONTINUATION = 0x0010, MAX_BLOCKS = 16, MAX_MESSAGES = 256 };

static uint64_t little(const unsigned char *p, int n)
{
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

/* False with errno 0 at the end of the file. */
static bool read_at(int fd, void *data, size_t n, uint64_t at)
{
    errno = 0;
    return at <= INT64_MAX && file_read_at(fd, data, n, (off_t)at);
}

int extent_find(int fd, uint64_t header, uint64_t rows, const char *path, struct extent *out, struct err *err)
{
    unsigned char prefix[16], message[8], body[16];
    struct {
        uint64_t at, end;
    } blocks[MAX_BLOCKS];
    int n_blocks = 1, n_messages = 0;
    if (!read_at(fd, prefix, sizeof prefix, header))
        goto unread;
    if (prefix[0] != 1)
        goto unknown;
    blocks[0].at = header + 16;
    blocks[0].end = blocks[0].at + little(prefix + 8, 4);
    for (int b = 0; b < n_blocks; b++)
        for (uint64_t at = blocks[b].at; at + 8 <= blocks[b].end && n_messages < MAX_MESSAGES; n_messages++) {
            if (!read_at(fd, message, sizeof message, at) || !read_at(fd, body, sizeof body, at + 8))
                goto unread;
            uint64_t type = little(message, 2);
            if (type == MESSAGE_DATASPACE) {
                /* body: version, rank, flags, 5 reserved, then the dimensions of 8 bytes each */
                if (body[0] != 1 || !body[1] || little(body + 8, 8) != rows || (at + 16) % 8)
                    goto unknown;
                out->at = (off_t)(at + 16);
                return 0;
            }
            if (type == MESSAGE_CONTINUATION && n_blocks < MAX_BLOCKS) {
                blocks[n_blocks].at = little(body, 8);
                blocks[n_blocks].end = blocks[n_blocks].at + little(body + 8, 8);
                n_blocks++;
            }
            at += 8 + little(message + 2, 2);
        }
unread:
    if (errno)
        return err_errno(err, "%s: cannot read", path);
unknown:
    return err_set(err, ERR_CHECK, "%s: the HDF5 library wrote an object header of an unknown form", path);
}

int extent_set(int fd, const struct extent *extent, uint64_t rows, const char *path, struct err *err)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(rows >> 8 * i);
    if (!file_write_at(fd, bytes, sizeof bytes, extent->at))
        return err_errno(err, "%s: cannot write", path);
    return 0;
}
