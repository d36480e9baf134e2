/*
 * Checked sizes and array allocation. Every product or sum that a file can
 * influence goes through here.
 *
 *     size_t bytes;
 *     if (!size_mul(rows, cols, &bytes) || !size_mul(bytes, sizeof(float), &bytes))
 *         return err_set(err, ERR_FORMAT, "tensor is larger than memory can address");
 *     float *x = mem_array(rows, sizeof *x);    // NULL when the product overflows
 */
#ifndef STRATA_BASE_MEM_H
#define STRATA_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* malloc(n * size), zero-filled for mem_zeroed; NULL on overflow or no memory; never NULL for n == 0. Caller frees. */
void *mem_array(size_t n, size_t size);
void *mem_zeroed(size_t n, size_t size);
/* Cache-line (64 byte) aligned array for numeric buffers; free() releases it. */
void *mem_aligned(size_t n, size_t size);
/*
 * Makes room for `need` items in the growing array *items of *capacity items.
 * Returns false (array untouched) when memory or the address space is out.
 */
bool mem_grow(void *items_pointer, size_t *capacity, size_t need, size_t size);
/* Bytes that programs can have without swapping, under the control group's limit; 0: cannot tell. */
double mem_available(void);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t n);

#endif
