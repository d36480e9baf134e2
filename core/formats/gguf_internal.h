/* What gguf.c parses and gguf_get.c hands out; nobody else includes this. */
#ifndef STRATA_FORMATS_GGUF_INTERNAL_H
#define STRATA_FORMATS_GGUF_INTERNAL_H

#include "core/formats/gguf.h"

/* name, bytes per value (0: variable) */
#define VALUE_TYPES(X)                                                                                                 \
    X(U8, 1)                                                                                                           \
    X(I8, 1)                                                                                                           \
    X(U16, 2)                                                                                                          \
    X(I16, 2)                                                                                                          \
    X(U32, 4)                                                                                                          \
    X(I32, 4)                                                                                                          \
    X(F32, 4)                                                                                                          \
    X(BOOL, 1)                                                                                                         \
    X(STRING, 0)                                                                                                       \
    X(ARRAY, 0)                                                                                                        \
    X(U64, 8)                                                                                                          \
    X(I64, 8)                                                                                                          \
    X(F64, 8)

enum value_type {
#define X(name, bytes) VALUE_##name,
    VALUE_TYPES(X)
#undef X
        N_VALUE_TYPES
};

extern const unsigned char gguf_value_bytes[N_VALUE_TYPES];

struct kv {
    char *key;            /* owned */
    const char *where;    /* file name, borrowed */
    enum value_type type; /* of the elements, for an array */
    bool is_array;
    size_t n;                  /* elements; 1 where it is no array */
    const unsigned char *data; /* the first value's bytes; of a string behind its length */
    size_t len;                /* of a single string */
    size_t *offsets;           /* array of strings: n + 1, from data to each string's length field; owned */
};

struct gguf {
    struct tensor_set set;
    struct kv *kvs;
    size_t n_kvs, capacity;
    struct strmap index;
    size_t alignment;
};

/* n <= 8 unsigned bytes, least first. */
static inline uint64_t gguf_little_endian(const unsigned char *bytes, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++)
        x |= (uint64_t)bytes[i] << 8 * i;
    return x;
}

#endif
