/*
 * Tensors inside files: element types, and a name -> tensor index over one or
 * several mapped files (safetensors shards, or one GGUF).
 *
 *     const struct tensor *w = tensor_set_find(&set, "model.norm.weight");
 *     float *x = mem_aligned(w->n, sizeof *x);
 *     tensor_widen(w, 0, w->n, x);                  // exact for F32 F16 BF16, dequantised otherwise
 */
#ifndef STRATA_FORMATS_TENSOR_H
#define STRATA_FORMATS_TENSOR_H

#include "core/base/err.h"
#include "core/base/file.h"
#include "core/base/strmap.h"

#include <stddef.h>
#include <stdint.h>

/* name, id in GGUF (-1: none), elements per block, bytes per block */
#define DTYPES(X)                                                                                                      \
    X(F32, 0, 1, 4)                                                                                                    \
    X(F16, 1, 1, 2)                                                                                                    \
    X(BF16, 30, 1, 2)                                                                                                  \
    X(F64, 28, 1, 8)                                                                                                   \
    X(I64, 27, 1, 8)                                                                                                   \
    X(I32, 26, 1, 4)                                                                                                   \
    X(I16, 25, 1, 2)                                                                                                   \
    X(I8, 24, 1, 1)                                                                                                    \
    X(U8, -1, 1, 1)                                                                                                    \
    X(BOOL, -1, 1, 1)                                                                                                  \
    X(Q4_0, 2, 32, 18)                                                                                                 \
    X(Q4_1, 3, 32, 20)                                                                                                 \
    X(Q5_0, 6, 32, 22)                                                                                                 \
    X(Q5_1, 7, 32, 24)                                                                                                 \
    X(Q8_0, 8, 32, 34)                                                                                                 \
    X(Q4_K, 12, 256, 144)                                                                                              \
    X(Q5_K, 13, 256, 176)                                                                                              \
    X(Q6_K, 14, 256, 210)                                                                                              \
    X(IQ4_NL, 20, 32, 18)

enum dtype {
#define X(name, gguf, elements, bytes) DTYPE_##name,
    DTYPES(X)
#undef X
        N_DTYPES
};

const char *dtype_name(enum dtype type);
size_t dtype_block_elements(enum dtype type);
size_t dtype_block_bytes(enum dtype type);

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    const char *name; /* borrowed from the file's index */
    enum dtype dtype;
    int n_dims;                   /* 0 for a scalar */
    size_t dims[TENSOR_MAX_DIMS]; /* PyTorch order: slowest first, [out, in] */
    size_t n;                     /* elements; checked product of dims */
    const unsigned char *data;    /* borrowed from the mapped file; may be unaligned */
    size_t bytes;
};

struct tensor_set {
    struct tensor *tensors;
    size_t n, capacity;
    struct strmap index;
    struct file_map *files; /* owned, kept mapped while the set lives */
    size_t n_files, files_capacity;
    char **names; /* owned copies of tensor names */
    size_t n_names, names_capacity;
};

void tensor_set_init(struct tensor_set *set);
void tensor_set_release(struct tensor_set *set);
/* Takes over *file (also when it fails). */
int tensor_set_add_file(struct tensor_set *set, struct file_map *file, struct err *err);
/* Copies the name; t->n, bytes must be consistent already. A name that is there is an ERR_FORMAT naming it. */
int tensor_set_add(struct tensor_set *set, const char *name, size_t name_len, const struct tensor *t, const char *where,
                   struct err *err);
/* NULL where there is none; borrowed. */
const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name);

/*
 * Elements [first, first + n) as float32. For block types, first and n must be
 * multiples of the block (rows of a matrix are). Integer types, BOOL and U8 too.
 * F64 rounds. Thread-safe: several threads may widen parts of one tensor.
 */
void tensor_widen(const struct tensor *t, size_t first, size_t n, float *dst);

#endif
