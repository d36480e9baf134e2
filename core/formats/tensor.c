#include "core/formats/tensor.h"

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "core/formats/dequant_isa.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A set of more tensors is no model but a denial of service; GPT-NeoX-20B has under 700, the largest MoE about 100,000.
 */
enum { MAX_TENSORS = 1000000 };

static const struct {
    const char *name;
    size_t elements, bytes;
} dtypes[N_DTYPES] = {
#define X(name, gguf, elements, bytes) { #name, elements, bytes },
    DTYPES(X)
#undef X
};

const char *dtype_name(enum dtype type)
{
    return dtypes[type].name;
}

size_t dtype_block_elements(enum dtype type)
{
    return dtypes[type].elements;
}

size_t dtype_block_bytes(enum dtype type)
{
    return dtypes[type].bytes;
}

void tensor_set_init(struct tensor_set *set)
{
    memset(set, 0, sizeof *set);
}

void tensor_set_release(struct tensor_set *set)
{
    for (size_t i = 0; i < set->n_names; i++)
        free(set->names[i]);
    for (size_t i = 0; i < set->n_files; i++)
        file_map_close(&set->files[i]);
    free(set->names);
    free(set->files);
    free(set->tensors);
    strmap_release(&set->index);
    memset(set, 0, sizeof *set);
}

int tensor_set_add_file(struct tensor_set *set, struct file_map *file, struct err *err)
{
    if (!mem_grow(&set->files, &set->files_capacity, set->n_files + 1, sizeof *set->files)) {
        file_map_close(file);
        return err_nomem(err, "the list of model files");
    }
    set->files[set->n_files++] = *file;
    memset(file, 0, sizeof *file);
    return 0;
}

/* Names end up in messages on a terminal; control characters there could rewrite what the user sees. */
static bool printable(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    return utf8_valid(name, n);
}

int tensor_set_add(struct tensor_set *set, const char *name, size_t name_len, const struct tensor *t, const char *where,
                   struct err *err)
{
    if (set->n >= MAX_TENSORS)
        return err_set(err, ERR_FORMAT, "%s: more than %d tensors", where, MAX_TENSORS);
    if (!printable(name, name_len))
        return err_set(err, ERR_FORMAT, "%s: the name of tensor %zu holds control characters or is no UTF-8", where,
                       set->n);
    if (!mem_grow(&set->tensors, &set->capacity, set->n + 1, sizeof *set->tensors) ||
        !mem_grow(&set->names, &set->names_capacity, set->n_names + 1, sizeof *set->names) ||
        (!set->index.slots && strmap_init(&set->index, 1024)))
        return err_nomem(err, "the list of tensors");
    char *copy = mem_strndup(name, name_len);
    if (!copy)
        return err_nomem(err, "a tensor name");
    set->names[set->n_names++] = copy;
    uint32_t id = (uint32_t)set->n, there = id;
    if (strmap_put(&set->index, copy, name_len, id, &there))
        return err_nomem(err, "the index of tensors");
    if (there != id)
        return err_set(err, ERR_FORMAT, "%s: tensor \"%.200s\" is there twice", where, copy);
    set->tensors[set->n] = *t;
    set->tensors[set->n++].name = copy;
    return 0;
}

const struct tensor *tensor_set_find(const struct tensor_set *set, const char *name)
{
    uint32_t id;
    return strmap_get(&set->index, name, strlen(name), &id) ? &set->tensors[id] : NULL;
}

/* Whole numbers and doubles of native size, any alignment. */
#define WIDEN(ctype)                                                                                                   \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        ctype x;                                                                                                       \
        memcpy(&x, src + i * sizeof x, sizeof x);                                                                      \
        dst[i] = (float)x;                                                                                             \
    }                                                                                                                  \
    return

static void widen_plain(enum dtype type, const unsigned char *src, size_t n, float *dst)
{
    switch (type) {
    case DTYPE_F32:
        memcpy(dst, src, n * sizeof *dst);
        return;
    case DTYPE_F16:
        half_to_f32(dst, src, n);
        return;
    case DTYPE_BF16:
        bf16_to_f32(dst, src, n);
        return;
    case DTYPE_F64:
        WIDEN(double);
    case DTYPE_I64:
        WIDEN(int64_t);
    case DTYPE_I32:
        WIDEN(int32_t);
    case DTYPE_I16:
        WIDEN(int16_t);
    case DTYPE_I8:
        WIDEN(int8_t);
    default: /* U8, BOOL */
        WIDEN(uint8_t);
    }
}

/* NULL for the types that are no blocks. */
static dequant_blocks *dequantiser(enum dtype type)
{
#if defined(__x86_64__)
#define LEVELS(name)                                                                                                   \
    {                                                                                                                  \
        dequant_##name##_base, dequant_##name##_v3, dequant_##name##_v4                                                \
    }
#else
#define LEVELS(name)                                                                                                   \
    {                                                                                                                  \
        dequant_##name##_base, NULL, NULL                                                                              \
    }
#endif
    static dequant_blocks *const table[N_DTYPES][3] = {
        [DTYPE_Q4_0] = LEVELS(q4_0), [DTYPE_Q4_1] = LEVELS(q4_1), [DTYPE_Q5_0] = LEVELS(q5_0),
        [DTYPE_Q5_1] = LEVELS(q5_1), [DTYPE_Q8_0] = LEVELS(q8_0), [DTYPE_Q4_K] = LEVELS(q4_k),
        [DTYPE_Q5_K] = LEVELS(q5_k), [DTYPE_Q6_K] = LEVELS(q6_k), [DTYPE_IQ4_NL] = LEVELS(iq4_nl),
    };
#undef LEVELS
    return table[type][0] ? table[type][isa_level()] : NULL;
}

void tensor_widen(const struct tensor *t, size_t first, size_t n, float *dst)
{
    size_t block = dtypes[t->dtype].elements;
    const unsigned char *src = t->data + first / block * dtypes[t->dtype].bytes;
    dequant_blocks *dequant = dequantiser(t->dtype);
    if (dequant)
        dequant(dst, src, n / block);
    else
        widen_plain(t->dtype, src, n, dst);
}
