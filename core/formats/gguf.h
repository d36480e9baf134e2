/*
 * GGUF v2 and v3, little endian (ggml-org/ggml docs/gguf.md): metadata and tensors.
 *
 *     struct gguf *g;
 *     if (gguf_open(&g, &map, &err)) ...             // takes over map
 *     size_t n_layers;
 *     gguf_get_size(g, "llama.block_count", 1, 1024, &n_layers, &err);
 *     const struct tensor *t = tensor_set_find(gguf_tensors(g), "token_embd.weight");
 *     gguf_free(g);
 *
 * Tensor dims are given in PyTorch order (the file stores them fastest first).
 */
#ifndef STRATA_FORMATS_GGUF_H
#define STRATA_FORMATS_GGUF_H

#include "core/formats/tensor.h"

#include <stdbool.h>

struct gguf;

/* Takes over *map also on failure. *out is the caller's (gguf_free). */
int gguf_open(struct gguf **out, struct file_map *map, struct err *err);
void gguf_free(struct gguf *g); /* NULL is fine */
/* True when the bytes start with the GGUF magic. */
bool gguf_is(const struct file_map *map);
const char *gguf_name(const struct gguf *g); /* file name, for messages */
const struct tensor_set *gguf_tensors(const struct gguf *g);

bool gguf_has(const struct gguf *g, const char *key);
/* Any integer width is accepted. The _or forms take a default for an absent key; wrong type or range always fails. */
int gguf_get_size(const struct gguf *g, const char *key, size_t least, size_t most, size_t *out, struct err *err);
int gguf_get_size_or(const struct gguf *g, const char *key, size_t least, size_t most, size_t otherwise, size_t *out,
                     struct err *err);
int gguf_get_number_or(const struct gguf *g, const char *key, double otherwise, double *out, struct err *err);
int gguf_get_bool_or(const struct gguf *g, const char *key, bool otherwise, bool *out, struct err *err);
/* Borrowed bytes (not NUL-terminated); *text = NULL for an absent key. */
int gguf_get_string(const struct gguf *g, const char *key, const char **text, size_t *len, struct err *err);

/* An array of strings or numbers; absent: *n = 0 and the array's pointer NULL. */
struct gguf_array {
    size_t n;
    int type; /* GGUF value type id, -1 when absent */
    const void *impl;
};
int gguf_get_array(const struct gguf *g, const char *key, struct gguf_array *out, struct err *err);
/* i < a->n. Strings are borrowed. Constant time. */
int gguf_array_string(const struct gguf_array *a, size_t i, const char **text, size_t *len, struct err *err);
int gguf_array_number(const struct gguf_array *a, size_t i, double *out, struct err *err);

/* The i-th metadata key, in file order, so that a loader can refuse keys that it does not know. NULL past the end. */
const char *gguf_key(const struct gguf *g, size_t i);

#endif
