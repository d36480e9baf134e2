/* model.safetensors.index.json: which shards it may open, and that its tensors are where it says. */
#include "core/formats/safetensors.h"
#include "tests/fuzz/fuzz.h"

#define TENSOR(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"

/* Two shards; tensor "a" is in one.safetensors, "b" in two.safetensors. Any other name does not exist. */
static int open_shard(void *ctx, const char *name, struct file_map *map, struct err *err)
{
    static const char one[] = "\x35\0\0\0\0\0\0\0" TENSOR("a") "xy", two[] = "\x35\0\0\0\0\0\0\0" TENSOR("b") "xy";
    (void)ctx;
    fuzz_check(*name && !strchr(name, '/') && !strstr(name, ".."));
    if (!strcmp(name, "one.safetensors"))
        return file_map_memory(map, name, one, sizeof one - 1, err);
    if (!strcmp(name, "two.safetensors"))
        return file_map_memory(map, name, two, sizeof two - 1, err);
    return err_set(err, ERR_IO, "%s: cannot open", name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensor_set set;
    struct file_map map;
    struct err err = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    tensor_set_init(&set);
    fuzz_check(!file_map_memory(&map, "model.safetensors.index.json", copy, size, &err));
    if (fuzz_result(safetensors_add_index(&set, &map, open_shard, NULL, &err), &err))
        for (size_t i = 0; i < set.n; i++)
            fuzz_check(tensor_set_find(&set, set.tensors[i].name) == &set.tensors[i]);
    tensor_set_release(&set);
    file_map_close(&map);
    free(copy);
    return 0;
}
