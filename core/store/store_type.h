/*
 * Types of numbers and text in Strata's HDF5 files.
 *
 *     enum store_type type;
 *     if (store_type_parse("f16", &type)) ...     // ERR_NOTFOUND for a name that is none
 *     size_t bytes = store_type_size(type);       // 2
 */
#ifndef STRATA_STORE_STORE_TYPE_H
#define STRATA_STORE_STORE_TYPE_H

#include <stddef.h>

/* id, name, bytes of one item. TEXT: a pointer in memory, a variable-length UTF-8 string in the file. */
#define STORE_TYPES(X)                                                                                                 \
    X(F32, "f32", 4)                                                                                                   \
    X(F16, "f16", 2)                                                                                                   \
    X(BF16, "bf16", 2)                                                                                                 \
    X(F64, "f64", 8)                                                                                                   \
    X(I32, "i32", 4)                                                                                                   \
    X(I64, "i64", 8)                                                                                                   \
    X(TEXT, "text", sizeof(char *))
enum store_type {
#define X(id, name, bytes) STORE_##id,
    STORE_TYPES(X)
#undef X
};

const char *store_type_name(enum store_type type);
size_t store_type_size(enum store_type type);
/* One of the float types ("f32", "f16", "bf16", "f64"); 0 or ERR_NOTFOUND. */
int store_type_parse(const char *name, enum store_type *out);

#endif
