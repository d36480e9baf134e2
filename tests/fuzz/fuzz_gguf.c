/* GGUF files: metadata through every getter, tensors inside the file. */
#include "core/formats/gguf.h"
#include "tests/fuzz/fuzz.h"

static void read_array(const struct gguf *g, const char *key)
{
    struct gguf_array a;
    struct err err = { 0 };
    size_t bytes = 0, len;
    const char *text;
    double number;
    if (!fuzz_result(gguf_get_array(g, key, &a, &err), &err))
        return;
    for (size_t i = 0; i < a.n; i++) {
        struct err ignored = { 0 };
        if (!gguf_array_string(&a, i, &text, &len, &ignored))
            for (size_t k = 0; k < len; k++)
                bytes += text[k] != 0;
        if (gguf_array_number(&a, i, &number, &ignored) && a.type != 8)
            return; /* truth values are neither */
    }
    fuzz_check(bytes < SIZE_MAX);
}

static void read_key(const struct gguf *g, const char *key)
{
    struct err err[4] = { { 0 } };
    const char *text;
    size_t size, len, sum = 0;
    double number;
    bool truth;
    fuzz_check(gguf_has(g, key));
    if (fuzz_result(gguf_get_size(g, key, 1, 1 << 20, &size, &err[0]), &err[0]))
        fuzz_check(size >= 1 && size <= 1 << 20);
    fuzz_result(gguf_get_number_or(g, key, 0, &number, &err[1]), &err[1]);
    fuzz_result(gguf_get_bool_or(g, key, false, &truth, &err[2]), &err[2]);
    if (fuzz_result(gguf_get_string(g, key, &text, &len, &err[3]), &err[3]))
        for (size_t i = 0; i < len; i++)
            sum += text[i] != 0;
    fuzz_check(sum < SIZE_MAX);
    read_array(g, key);
}

static void read_tensor(const struct tensor *t, const uint8_t *file, size_t size)
{
    static float block[256];
    size_t n = dtype_block_elements(t->dtype);
    fuzz_check(t->data >= file && t->bytes <= size && (size_t)(t->data - file) <= size - t->bytes);
    fuzz_check(t->n && t->n % n == 0);
    tensor_widen(t, 0, n, block);
    tensor_widen(t, t->n - n, n, block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct file_map map;
    struct err err = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    fuzz_check(!file_map_memory(&map, "model.gguf", copy, size, &err));
    if (fuzz_result(gguf_open(&g, &map, &err), &err)) {
        for (size_t i = 0; gguf_key(g, i); i++)
            read_key(g, gguf_key(g, i));
        for (size_t i = 0; i < gguf_tensors(g)->n; i++)
            read_tensor(&gguf_tensors(g)->tensors[i], copy, size);
    }
    gguf_free(g);
    free(copy);
    return 0;
}
