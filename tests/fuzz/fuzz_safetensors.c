/* safetensors files: the header, and that every tensor it accepts lies inside the file. */
#include "core/formats/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensor_set set;
    struct file_map map;
    struct err err = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    tensor_set_init(&set);
    fuzz_check(!file_map_memory(&map, "model.safetensors", copy, size, &err));
    if (fuzz_result(safetensors_add(&set, &map, &err), &err))
        for (size_t i = 0; i < set.n; i++) {
            const struct tensor *t = &set.tensors[i];
            fuzz_check(t->data >= copy && t->bytes <= size && (size_t)(t->data - copy) <= size - t->bytes);
            fuzz_check(tensor_set_find(&set, t->name) == t || memchr(t->name, 0, 1) == NULL);
            float first, last;
            if (t->n) {
                tensor_widen(t, 0, 1, &first);
                tensor_widen(t, t->n - 1, 1, &last);
            }
        }
    tensor_set_release(&set);
    free(copy);
    return 0;
}
