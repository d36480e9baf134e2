#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *mem_array(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    return malloc(bytes ? bytes : 1);
}

void *mem_zeroed(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    return calloc(bytes ? bytes : 1, 1);
}

void *mem_aligned(size_t n, size_t size)
{
    size_t bytes;
    if (!size_mul(n, size, &bytes) || !size_add(bytes, 63, &bytes) || bytes > PTRDIFF_MAX)
        return NULL;
    bytes &= ~(size_t)63;
    return aligned_alloc(64, bytes ? bytes : 64);
}

bool mem_grow(void *items_pointer, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return true;
    size_t wanted = *capacity + *capacity / 2 + 16;
    if (wanted < need)
        wanted = need;
    size_t bytes;
    if (!size_mul(wanted, size, &bytes) || bytes > PTRDIFF_MAX)
        return false;
    void *old;
    memcpy(&old, items_pointer, sizeof old);
    void *grown = realloc(old, bytes);
    if (!grown)
        return false;
    memcpy(items_pointer, &grown, sizeof grown);
    *capacity = wanted;
    return true; /* cppcheck-suppress memleak; memcpy has handed it over */
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

char *mem_strndup(const char *text, size_t n)
{
    size_t bytes;
    if (!size_add(n, 1, &bytes))
        return NULL;
    char *copy = mem_array(bytes, 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

/* A number of bytes from a file like /proc/meminfo ("MemAvailable:  123 kB") or cgroup's memory.max; 0: not there. */
static double read_bytes(const char *path, const char *key, double unit)
{
    char line[256];
    double bytes = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (bytes == 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key)))
            bytes = strtod(line + strlen(key), NULL) * unit;
    fclose(file);
    return bytes;
}

double mem_available(void)
{
    double available = read_bytes("/proc/meminfo", "MemAvailable:", 1024);
    double limit = read_bytes("/sys/fs/cgroup/memory.max", "", 1);
    return limit > 0 && (available <= 0 || limit < available) ? limit : available;
}
